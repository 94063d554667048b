"""Hostile and benign outputs in a real JupyterLab: what gets out, and what still looks right."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, FrameLocator, Locator, expect

from tests.browser.attacks import ONCE_ACTED, attack_payloads
from tests.browser.beacon import Beacon, listening_beacon
from tests.browser.benign import ALTAIR_ONLINE, BENIGN, FOLIUM, Benign, altair_inline
from tests.browser.escapes import FRAMED_CELLS, HostileLab
from tests.browser.lab import SCREENSHOTS, LabServer, NotebookPage
from tests.browser.payloads import SETUP, Payload, dealt, escape_payloads, mathematics_payloads

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

PYTHON, MAGICS = "agentbay-python", "python3"
TRUSTING, SANITIZING = "agentbay-trusting", "agentbay-sanitizing"
# So many notebooks have all attacks; a page with twice as many frames takes more than twice the
# time.
PARTS = 8
# Of so many parts, each of which has some of every kind, `make test` tries one for each way into
# the page: by the kernel, by magic, sanitised.
FEW = 16
TRIED = {PYTHON: 0, MAGICS: 1, SANITIZING: 2}
FRAMES = ".jp-OutputArea iframe"
FORMULAS = ".jp-OutputArea-output mjx-container"
CHART = re.compile(r"\.vega|plotly")
# What the containment makes something else of, and does not merely let through or refuse.
CHANGED = {
    *("HTML", "Markdown", "Javascript", "text/html", "text/markdown", "text/latex"),
    *("image/svg+xml", "application/javascript", "widget", "code"),
}
# Markdown and TeX: one of each use by each output that can hold it.
ONE_OF_EACH = 1000
IMPORTS = f"{SETUP}\nfrom IPython.display import Latex, Math"
FORMULA = "Latex('$x^2$')"
# One in a frame; the scripts of Vega take a kernel seconds, once.
CHART_BY_MAGIC = "application/vnd.plotly.v1+json"
# Where nothing contains them, these end the page that is to be looked at afterwards.
ENDS_THE_PAGE = (
    "navigation",
    "refresh",
    "history",
    "top document",
    "logs out",
    "form",
    "link",
    "frame of the page",
    "breaking out of the fallback",
)


def magic(code: str) -> str:
    return f"%%agentbay python\n{code}"


@pytest.fixture(scope="module")
def beacon() -> Iterator[Beacon]:
    """Where a beacon arrives."""
    with listening_beacon() as listening:
        yield listening


@pytest.fixture(scope="module")
def server_of_kernels(server: LabServer) -> LabServer:
    """The server, with kernels that trust and sanitize, and pages that draw all cells at once."""
    server.draw_all_cells()
    home = server.notebooks.parent
    for name, html in ((TRUSTING, "trust"), (SANITIZING, "sanitize")):
        spec = home / "data" / "kernels" / name
        spec.mkdir(parents=True, exist_ok=True)
        (spec / "kernel.json").write_text(
            json.dumps(
                {
                    "argv": ["python", "-m", "agentbay_kernel", "-f", "{connection_file}"],
                    "display_name": name,
                    "language": "python",
                    "interrupt_mode": "message",
                    "env": {"AGENTBAY_HTML": html},
                }
            )
        )
    return server


def settle(lab: HostileLab, *, are_contained: bool = True) -> list[str]:
    """What was found once everything has loaded, the pointer was over it, and it was clicked.

    Arguments:
        are_contained: every frame, and almost every frame in it, still has a document of its own.
    """
    traces = lab.traces
    lab.notebook.page.wait_for_timeout(2000)
    traces.hover_and_type()
    traces.tell_all()
    traces.click_all()
    lab.notebook.page.wait_for_timeout(1500)
    if are_contained:
        assert len(traces.missed()) <= traces.frames // 20, traces.missed()
        # MathJax sets formulas one output after the other; the last cell holds an ordinary one.
        expect(lab.notebook.page.locator(FORMULAS).last).to_be_attached()
        return [*traces.found(), *traces.made()]
    return traces.found()


@pytest.fixture(scope="module")
def lab(browser: Browser, server_of_kernels: LabServer, beacon: Beacon) -> Iterator[HostileLab]:
    """The page that these tests share, except where output is trusted."""
    made = HostileLab(browser, server_of_kernels, beacon, "escapes", PYTHON, MAGICS, SANITIZING)
    yield made
    made.end()


@pytest.fixture(scope="module")
def listened_to(lab: HostileLab) -> set[str]:
    """What JupyterLab itself listens to in the whole page, with ordinary outputs."""
    cells = [IMPORTS, "1 + 1", "HTML('<b>x</b>')", "HTML('<script>1</script>')", "w.Text('x')"]
    cells.append(FORMULA)
    with lab.running(PYTHON, cells, kernel_stays=True):
        lab.save()
        lab.reopen()
        assert settle(lab) == []
    # The dialog of a notebook that is closed listens too.
    return lab.traces.listeners()


def part_of(notebook: NotebookPage, number: int, benign: Benign) -> Locator | FrameLocator:
    """Where an ordinary output is shown: in its cell, or in the frame there."""
    area = notebook.cell(number).locator(".jp-OutputArea").first
    if benign.place == "frame":
        return area.frame_locator("iframe").frame_locator("iframe")
    return area


# That containment leaves them as they are, the corpus of cells shows in each run (tests/fidelity).
@pytest.mark.slow
def test_ordinary_outputs_look_right(lab: HostileLab) -> None:
    codes = [*(benign.code for benign in BENIGN), FOLIUM, ALTAIR_ONLINE]
    packed = altair_inline()
    cells = [code.replace("ALTAIR_INLINE", packed) for code in codes]
    pictures = SCREENSHOTS / "contained"
    pictures.mkdir(parents=True, exist_ok=True)
    with lab.running(PYTHON, cells):
        notebook = lab.notebook
        for number, benign in enumerate(BENIGN):
            cell = notebook.cell(number)
            cell.scroll_into_view_if_needed()
            seen = part_of(notebook, number, benign).locator(benign.selector).first
            expect(seen).to_be_visible()
            expect(seen).to_contain_text(benign.text)
            box = seen.bounding_box()
            assert box is not None and box["height"] >= benign.lowest_px, (benign.name, box)
            notebook.page.wait_for_timeout(150)
            cell.screenshot(path=pictures / f"{benign.name}.png", animations="disabled")
        for number, name, hosts in (
            (len(BENIGN), "folium", ("cdn.jsdelivr.net", "code.jquery.com", "openstreetmap.org")),
            (len(BENIGN) + 1, "altair-online", ("cdn.jsdelivr.net", "to_html(inline=True)")),
        ):
            cell = notebook.cell(number)
            cell.scroll_into_view_if_needed()
            note = cell.frame_locator("iframe").locator("#note")
            expect(note).to_be_visible()
            for told in (*hosts, "jupyter agentbay allow"):
                expect(note).to_contain_text(told)
            expect(note).not_to_contain_text("Not loaded")
            cell.screenshot(path=pictures / f"{name}.png", animations="disabled")
        # A frame is made higher by dragging its corner.
        framed = notebook.cell(3).locator(".jp-OutputArea-output div:has(> iframe)")
        before = framed.bounding_box()
        assert before is not None
        framed.evaluate("frame => frame.scrollIntoView({block: 'center'})")
        corner = framed.bounding_box()
        assert corner is not None
        mouse = notebook.page.mouse
        mouse.move(corner["x"] + corner["width"] - 4, corner["y"] + corner["height"] - 4)
        mouse.down()
        mouse.move(corner["x"] + corner["width"] - 4, corner["y"] + corner["height"] + 60, steps=5)
        mouse.up()
        after = framed.bounding_box()
        assert after is not None and after["height"] > before["height"] + 30
        stored = lab.save()
        # Trusted by the one whose it is, who sees the same again.
        lab.reopen()
        for number, benign in enumerate(BENIGN):
            notebook.bring_up(number)
            expect(part_of(notebook, number, benign).locator(benign.selector).first).to_be_visible()
        frames = notebook.page.locator(FRAMES).count()
        # Nobody's: pictures and text, and what to do to see the frames.
        lab.reopen_changed()
        (figure,) = [number for number, benign in enumerate(BENIGN) if benign.name == "figure"]
        expect(notebook.cell(figure).locator("img").first).to_be_visible()
        assert notebook.page.locator(FRAMES).count() == 0
        told = notebook.page.get_by_text("Run the cell again to see it")
        assert told.count() >= frames > 5
    # The first output says where the session runs.
    table = stored["cells"][0]["outputs"][-1]["data"]["text/html"]
    assert "".join(table).startswith(
        "<div>\n<style scoped>\n    .dataframe tbody tr th:only-of-type"
    )


def payloads_of(beacon: Beacon, kernel: str, part: int | None) -> list[Payload]:
    """A part of all attacks; or else what `make test` tries of some of every kind, and all that
    once acted."""
    attacks = attack_payloads(beacon.address)
    once_acted, others = attacks[:ONCE_ACTED], attacks[ONCE_ACTED:]
    others += escape_payloads(beacon.address)
    if part is not None:
        return [*once_acted, *others][part::PARTS]
    few = dealt(others, FEW)[TRIED[kernel]]
    if kernel == MAGICS:
        chart = next(it for it in few if it.kind == CHART_BY_MAGIC)
        return [*(it for it in few if it.kind in CHANGED), chart]
    # All kinds of charts are tried in `test_charts.py`, with those that once acted.
    few = [it for it in (*once_acted, *few) if not CHART.search(it.kind)]
    few = [it for it in few if kernel == PYTHON or it.kind in CHANGED]
    for use in mathematics_payloads(beacon.address).values():
        few += dealt(use, ONE_OF_EACH)[TRIED[kernel]]
    return few


@pytest.mark.parametrize(
    ("kernel", "part", "ways"),
    [
        (PYTHON, None, "sanitized, reopened, changed"),
        # The magics take the same way from the containment on.
        (MAGICS, None, ""),
        *(
            pytest.param(kernel, part, ways, marks=pytest.mark.slow)
            for kernel, ways in (
                (PYTHON, "sanitized, reopened, changed"),
                (MAGICS, "sanitized, reopened, changed"),
                (SANITIZING, "reopened, changed"),
            )
            for part in range(PARTS)
        ),
    ],
)
def test_nothing_gets_out(
    lab: HostileLab, listened_to: set[str], beacon: Beacon, kernel: str, part: int | None, ways: str
) -> None:
    """Attacks, in an AgentBay notebook and in the same one changed by a stranger.

    Every way and every kind of attack meet in `make test`: some of what each kind displays is tried
    by the kernel, in a notebook that is opened again and trusted, by magic, and sanitised.
    What is sent to the page of every single one is judged in `tests/kernel/test_payloads.py`. With
    all attacks each way is taken by `make test-all`.

    Arguments:
        ways: what else is tried: sanitised below in the same notebook, reopened as it was stored,
            reopened when a stranger has changed it.
    """
    payloads = payloads_of(beacon, kernel, part)
    assert len(payloads) >= (20 if part is None else 300 // PARTS)
    # Of what else is shown, some is in a frame and some is not.
    least = sum(payload.kind == "HTML" for payload in payloads) / 2
    assert least > 4
    cells = [IMPORTS, *(payload.code for payload in payloads), FORMULA]
    if kernel == MAGICS:
        cells = [magic(code) for code in cells]
    sanitized_from = 1 + len(cells)
    cells.insert(0, "%load_ext agentbay_kernel" if kernel == MAGICS else "1")
    if "sanitized" in ways:
        others = [it.code for it in payloads_of(beacon, SANITIZING, None)]
        again = [*others, FORMULA] if part is None else cells[2:]
        cells += ["%agentbay config html=sanitize", *again]
    with lab.running(kernel, cells):
        assert settle(lab) == []
        assert lab.traces.listeners() <= listened_to
        # The outputs are there: it is not for want of them that nothing got out.
        framed = lab.notebook.page.evaluate(FRAMED_CELLS)
        if kernel == SANITIZING:
            assert framed == []
        else:
            assert len(framed) > least and max(framed) < sanitized_from
            commands = lab.traces.commands()
            assert commands and not any(it.startswith("-") or " -" in it for it in commands)
        if ways:
            lab.save()
        if "reopened" in ways:
            lab.reopen()
            if kernel != SANITIZING:
                lab.notebook.page.locator(FRAMES).first.wait_for(state="attached")
            assert settle(lab) == []
            assert lab.traces.listeners() <= listened_to
        if "changed" in ways:
            lab.reopen_changed()
            expect(lab.notebook.page.locator(".jp-OutputArea-output:visible").first).to_be_visible()
            assert settle(lab) == []
            assert lab.traces.listeners() <= listened_to
            assert lab.notebook.page.locator(FRAMES).count() == 0
            told = lab.notebook.page.get_by_text("Run the cell again to see it").count()
            assert told == 0 if kernel == SANITIZING else told > least


# Of the payloads, not of the product: to be run when one is added.
@pytest.mark.slow
def test_the_payloads_work_where_output_is_trusted(
    browser: Browser,
    server_of_kernels: LabServer,
    beacon: Beacon,
    listened_to: set[str],
) -> None:
    """What looks for traces finds them: of scripts, requests, datagrams, listeners."""
    payloads = [
        payload
        for payload in escape_payloads(beacon.address)
        if not any(part in payload.name for part in ENDS_THE_PAGE)
    ]
    payloads += [
        payload
        for payload in attack_payloads(beacon.address)
        if payload.name in ("a datagram", "listening in the page")
    ]
    cells = [SETUP, *(payload.code for payload in payloads)]
    lab = HostileLab(browser, server_of_kernels, beacon, "trusted", TRUSTING)
    try:
        lab.run(TRUSTING, cells)
        found = settle(lab, are_contained=False)
        listeners = lab.traces.listeners() - listened_to
    finally:
        lab.end()
    for file in server_of_kernels.notebooks.rglob("*pwned*"):
        file.unlink()
    assert "beacon: datagrams" in found
    assert {"window paste", "document beforeinput", "body keypress"} <= listeners
    for kind in ("page", "file", "server", "beacon"):
        assert any(trace.startswith(f"{kind}: ") for trace in found), (kind, found)
    hit = {
        part
        for trace in found
        for part in trace.replace("/", " ").replace(".", " ").replace("-", " ").split()
        if part[:1] == "p" and part[1:].isdigit()
    }
    assert len(hit) > 60, sorted(hit)
