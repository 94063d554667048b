"""The debugger in a real JupyterLab: a breakpoint, a stop, variables, a step, a change, an end."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Browser, Locator, TimeoutError, expect

from tests.browser.beacon import listening_beacon
from tests.browser.escapes import opened, write_notebook
from tests.browser.lab import LabServer, NotebookPage
from tests.browser.payloads import with_beacon
from tests.browser.pictures import pictured_window, take_debugger

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

PYTHON = "agentbay-python"
CODE = """\
def load(ships):
    heaviest = max(ships)
    return 1.05 * heaviest


limit = load([420, 515, 260])
print("limit", limit)"""
# In what a debugger shows: names, values, paths, types, what `_repr_html_` returns.
HOSTILE = """\
EVIL = "<img src=x onerror=\\"HIT\\"><script>HIT</script><a href='BEACON/a'>x</a>"
class Shown:
    def __repr__(self): return EVIL
    def _repr_html_(self): return EVIL
    def _repr_javascript_(self): return "HIT"
    def _repr_markdown_(self): return EVIL
    def _repr_svg_(self): return "<svg onload=\\"HIT\\">" + EVIL + "</svg>"
Shown.__name__ = Shown.__qualname__ = EVIL
shown, text = Shown(), EVIL
globals()[EVIL] = EVIL
def stops(shown, text):
    here = 1
    return here
exec(compile("def inner(f, *them):\\n    f(*them)\\n", EVIL + ".py", "exec"))
inner(stops, shown, text)"""


class Panel:
    """The debugger's sidebar, and the gutter of the notebook's cells."""

    def __init__(self, notebook: NotebookPage) -> None:
        self.notebook = notebook
        self.page = notebook.page

    @property
    def bug(self) -> Locator:
        """The button in the notebook's toolbar."""
        return self.page.locator(".jp-NotebookPanel-toolbar .jp-DebuggerBugButton")

    def turn_on(self) -> None:
        """Click the bug, and wait until it is on."""
        # JupyterLab enables it when it has asked the kernel what it can.
        expect(self.bug).not_to_have_attribute("aria-disabled", "true")
        self.bug.click()
        self.page.locator(".jp-NotebookPanel[data-jp-debugger=true]").wait_for()

    def set_breakpoint(self, number: int, line: int) -> None:
        """Click beside a line of a cell."""
        cell = self.notebook.cell(number)
        gutter = cell.locator(".cm-breakpoint-gutter .cm-gutterElement")
        # The first element gives the gutter its width.
        gutter.nth(line).click()
        expect(self.page.locator(".jp-DebuggerBreakpoint")).to_have_count(1)

    @property
    def frames(self) -> Locator:
        """The call stack."""
        return self.page.locator(".jp-DebuggerCallstackFrame")

    @property
    def variables(self) -> Locator:
        """The tree of variables."""
        return self.page.locator(".jp-DebuggerVariables-body").first

    def variable(self, name: str) -> Locator:
        """A row of the tree of variables."""
        named = self.page.locator(".jp-DebuggerVariables-name", has_text=re.compile(f"^{name}$"))
        return self.variables.locator("jp-tree-item", has=named).first

    def render(self, name: str) -> None:
        """Click what shows a variable's rich output.

        The page draws it while the mouse is over the row, and forgets that when it draws the tree
        anew: then the mouse is moved again.
        """
        row = self.variable(name)
        button = row.locator(".jp-DebuggerVariables-renderVariable")
        deadline = time.monotonic() + 60
        while True:
            self.page.mouse.move(2, 2)
            row.hover()
            try:
                # Not by the pointer: the tree may move below it.
                button.dispatch_event("click", timeout=1000)
                return
            except TimeoutError:
                if time.monotonic() > deadline:
                    raise

    def press(self, command: str) -> None:
        """Click a button of the call stack's toolbar."""
        self.page.locator(f'.jp-DebuggerSidebar [data-command="debugger:{command}"]').click()

    @property
    def evaluated(self) -> Locator:
        """The latest output of the debug console."""
        return self.page.locator(".jp-DebugConsole .jp-OutputArea-output").last

    def stop_at(self, number: int, frame: str) -> None:
        """Run a cell, and wait until it stops in a function."""
        self.notebook.cell(number).locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")
        expect(self.frames.first).to_contain_text(frame)

    def evaluate(self, code: str) -> None:
        """Type into the debug console."""
        self.page.locator(".jp-DebugConsole .jp-CodeConsole-promptCell .cm-content").click()
        self.page.keyboard.insert_text(code)
        self.page.keyboard.press("Shift+Enter")


# The other test stops at a breakpoint too, looks at variables, evaluates and goes on. What the
# kernel answers to a step, to a change and to an interrupt is in tests/kernel/test_debugger.py.
@pytest.mark.slow
def test_stop_step_change_continue_and_stop_for_good(browser: Browser, server: LabServer) -> None:
    with pictured_window(browser, server, "debugger") as notebook:
        notebook.open_notebook("AgentBay Python")
        panel = Panel(notebook)
        panel.turn_on()
        notebook.run(0, CODE)
        panel.set_breakpoint(0, 2)
        panel.stop_at(0, "load")
        expect(panel.variables).to_contain_text("ships")
        panel.press("next")
        expect(panel.variables).to_contain_text("heaviest515")
        expect(panel.frames.first).to_contain_text("Cell [*]")
        take_debugger(notebook, "debugger")
        panel.press("evaluate")
        panel.evaluate("heaviest = 600")
        panel.evaluate("heaviest")
        expect(panel.evaluated).to_contain_text("600")
        panel.press("evaluate")
        panel.press("continue")
        expect(notebook.outputs(0)).to_contain_text("limit 630.0")
        expect(panel.frames).to_have_count(0)

        panel.stop_at(0, "load")
        notebook.press_stop()
        expect(notebook.outputs(0).last).to_contain_text("KeyboardInterrupt")
        expect(panel.frames).to_have_count(0)
        panel.stop_at(0, "load")
        panel.press("continue")
        expect(notebook.outputs(0)).to_contain_text("limit 540.75")


def test_what_hostile_code_shows_does_not_act(browser: Browser, server: LabServer) -> None:
    with listening_beacon() as beacon:
        (payload,) = with_beacon([("shown", HOSTILE)], beacon.address, "debugger")
        code = payload.code
        write_notebook(server.notebooks / "hostile-debugger" / "hostile.ipynb", PYTHON, [code])
        with opened(browser, server, beacon, "hostile-debugger", "hostile.ipynb") as (lab, traces):
            lab.wait_until_ready()
            panel = Panel(lab)
            panel.turn_on()
            panel.set_breakpoint(0, 1 + code.splitlines().index("    here = 1"))
            panel.stop_at(0, "stops")
            expect(panel.variables).to_contain_text("shown")
            rendered = lab.page.locator(".jp-VariableRendererPanel-renderer")
            for number, name in enumerate(("shown", "text"), 1):
                panel.render(name)
                expect(rendered).to_have_count(number)
            # Each frame's source is shown.
            for number in range(panel.frames.count()):
                panel.frames.nth(number).click()
            panel.press("evaluate")
            for code in ("text", "shown"):
                panel.evaluate(code)
                expect(panel.evaluated).to_contain_text("onerror")
            lab.page.wait_for_timeout(1500)
            assert traces.found() == []
            panel.press("continue")
            expect(panel.frames).to_have_count(0)
            expect(panel.variables).to_contain_text("shown")
            assert traces.found() == []
