"""Markdown and TeX in a real JupyterLab: hostile ones do nothing, ordinary ones look right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.beacon import Beacon, listening_beacon
from tests.browser.escapes import (
    Traces,
    opened,
    run_all,
    write_notebook,
    write_untrusted,
)
from tests.browser.lab import SCREENSHOTS, LabServer, NotebookPage
from tests.browser.payloads import SETUP, mathematics_payloads

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

IMPORTS = f"{SETUP}\nfrom IPython.display import Latex, Math"
# What MathJax may not have made, in any output: links, loads, classes and ids of the page.
MADE = """() => [...document.querySelectorAll(".jp-OutputArea-output mjx-container, " +
  ".jp-OutputArea-output mjx-container *")].filter(e =>
    e.matches("a, img, [href], [data-commandlinker-command], [class*=jp-]") ||
    [...e.attributes].some(a => a.name.startsWith("on")) ||
    /url\\(|fixed|absolute/.test(e.getAttribute("style") || "") ||
    (e.id && !e.id.startsWith("mjx-eqn"))).map(e => e.outerHTML.slice(0, 300))"""
HANDLERS = """() => [...document.querySelectorAll(".jp-OutputArea-output *")].filter(e =>
  [...e.attributes].some(a => a.name.startsWith("on"))).map(e => e.outerHTML.slice(0, 300))"""
HOVER = """() => document.querySelectorAll(".jp-OutputArea-output *").forEach(e => {
  if (!e.attributes.length) return;
  for (const type of ["pointerover", "mouseover", "mouseenter", "mousemove", "focus"])
    e.dispatchEvent(new MouseEvent(type, {bubbles: true})); })"""


@pytest.fixture(scope="module")
def beacon() -> Iterator[Beacon]:
    """Where a beacon arrives."""
    with listening_beacon() as listening:
        yield listening


@pytest.fixture(scope="module")
def lab(server: LabServer) -> LabServer:
    """The server, whose pages draw every cell at once."""
    settings = server.notebooks.parent / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    return server


def found_in(notebook: NotebookPage, traces: Traces) -> list[str]:
    """What acted once everything was loaded, passed over and clicked."""
    page = notebook.page
    # MathJax sets formulas one output after the other; the last cell holds an ordinary one.
    expect(page.locator(".jp-OutputArea-output mjx-container").last).to_be_attached()
    page.wait_for_timeout(1500)
    page.evaluate(HOVER)
    traces.click_all()
    page.wait_for_timeout(1000)
    return [*traces.found(), *page.evaluate(MADE), *page.evaluate(HANDLERS)]


@pytest.mark.parametrize(
    ("uses", "kernel"),
    [
        (("placeholders", "html"), "agentbay-python"),
        (("tex",), "agentbay-python"),
        (("placeholders", "html"), "python3"),
        pytest.param(("tex",), "python3", marks=pytest.mark.slow),
    ],
    ids=lambda it: it if isinstance(it, str) else "-".join(it),
)
def test_no_markdown_and_no_tex_acts(
    browser: Browser,
    lab: LabServer,
    beacon: Beacon,
    listened_to: set[str],
    uses: tuple[str, ...],
    kernel: str,
) -> None:
    """Contained, then sanitised in the same notebook."""
    of_use = mathematics_payloads(beacon.address)
    codes = [payload.code for use in uses for payload in of_use[use]]
    cells = [IMPORTS, *codes, "Latex('$x^2$')"]
    if kernel == "python3":
        cells = [f"%%agentbay python\n{code}" for code in cells]
    cells = [*cells[:-1], "%agentbay config html=sanitize", *cells[1:]]
    if kernel == "python3":
        cells.insert(0, "%load_ext agentbay_kernel")
    folder = f"mathematics-{uses[0]}-{kernel}"
    write_notebook(lab.notebooks / folder / "cells.ipynb", kernel, cells)
    with opened(browser, lab, beacon, folder) as (notebook, traces):
        run_all(notebook, len(cells))
        assert found_in(notebook, traces) == []
        assert traces.listeners() <= listened_to
        # What was focused may be in a frame, where keys don't reach JupyterLab.
        notebook.cell(0).locator(".cm-content").click()
        stored = notebook.save()
    with opened(browser, lab, beacon, folder) as (notebook, traces):
        assert found_in(notebook, traces) == []
        assert traces.listeners() <= listened_to
    with opened(browser, lab, beacon, write_untrusted(lab, folder, stored)) as (notebook, traces):
        assert found_in(notebook, traces) == []
        assert traces.listeners() <= listened_to


# Ordinary outputs, and how many formulas the page of the stock kernel shows of each.
ORDINARY = (
    ("Markdown", "# Depths\n\n* **Nordkai**: 12 m\n* *Südkai*, `code`\n\n1. one\n2. two", 0),
    ("Markdown", "| a | b |\n|---|--:|\n| 1 | $x^2$ |\n\n> quoted [web](https://example.org)", 1),
    ("Markdown", "```python\nfor ship in ships:\n    pass\n```\n\n~~old~~ text", 0),
    ("Markdown", r"Inline $\frac{a_1}{b_1}$ and $$\sum_{i=1}^n x_i$$ displayed", 2),
    (
        "Markdown",
        "A $\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}$, *and*\n\n$$\na_1 = b_1 \\\\\n$$",
        2,
    ),
    ("Markdown", "## Lines\n\n\\begin{align}\na_1&=b\\\\\nc_1&=d\n\\end{align}\n\n**after**", 1),
    ("Markdown", "costs \\$5, `a < b` &amp; <b>bold</b>, $a_1$ *b* $c_1$ \\_", 2),
    ("Math", r"\int_0^1 x^2\,dx = \frac{1}{3}", 1),
    ("Latex", r"text $\alpha$ and \begin{equation}E = mc^2\end{equation}", 2),
    # As sympy writes.
    ("Latex", r"$\displaystyle \left[\begin{matrix}1 & \sqrt{2}\\x^{2} & 4\end{matrix}\right]$", 1),
    ("HTML", "<p>A formula $x_1 &lt; y$ and \\(z\\), <code>$x$</code></p>", 2),
    ("HTML", "<table><tr><td>$5<td>$6<td>$x^2$<tr><td>from $5 to <td>C:\\new</table>", 1),
)
# Without the anchors of headings, which only Markdown has and which come later.
LOOK = """e => [e.innerText.replace(/¶/g, "").replace(/\\s+/g, " ").trim(), ...[
  "mjx-container", "mjx-merror", "h1", "h2", "li", "td", "th", "strong", "em", "code",
  "a[href^=http]", "b", "blockquote"].map(tag => tag + " " + e.querySelectorAll(tag).length)]"""


def look_at_ordinary_outputs(
    browser: Browser, lab: LabServer, beacon: Beacon, kernel: str
) -> tuple[list[object], set[str]]:
    """What a kernel's outputs look like, and what the page listens to when it has drawn them."""
    cells = [IMPORTS, *(f"display({kind}({text!r}))" for kind, text, _ in ORDINARY)]
    # It is in a frame; the stock kernel would put it into the page.
    if kernel == "agentbay-python":
        cells.append("HTML('<script>1</script>')")
    pictures = SCREENSHOTS / "mathematics"
    pictures.mkdir(parents=True, exist_ok=True)
    folder = f"ordinary-{kernel}"
    code = [cell.replace("import ipywidgets as w", "") for cell in cells]
    write_notebook(lab.notebooks / folder / "cells.ipynb", kernel, code)
    looks = []
    with opened(browser, lab, beacon, folder) as (notebook, traces):
        run_all(notebook, len(cells))
        for number, (*_, formulas) in enumerate(ORDINARY, 1):
            output = notebook.cell(number).locator(".jp-OutputArea-output").first
            expect(output.locator("mjx-container")).to_have_count(formulas)
            looks.append(output.evaluate(LOOK))
            notebook.cell(number).screenshot(
                path=pictures / f"{number:02}-{kernel}.png", animations="disabled"
            )
        if kernel == "agentbay-python":
            notebook.cell(len(cells) - 1).locator("iframe").wait_for()
            traces.hover_and_type()
            traces.click_all()
            assert traces.found() == []
            # What was focused may be in a frame, where keys don't reach JupyterLab.
            notebook.cell(0).locator(".cm-content").click()
            notebook.save()
        return looks, traces.listeners()


@pytest.fixture(scope="module")
def ordinary(browser: Browser, lab: LabServer, beacon: Beacon) -> tuple[list[object], set[str]]:
    """What there is of ordinary outputs of "AgentBay Python"."""
    return look_at_ordinary_outputs(browser, lab, beacon, "agentbay-python")


@pytest.fixture(scope="module")
def listened_to(ordinary: tuple[list[object], set[str]]) -> set[str]:
    """What the page itself listens to when it typesets formulas, and has a frame."""
    return ordinary[1]


def test_ordinary_outputs_look_as_of_the_stock_kernel(
    browser: Browser, lab: LabServer, beacon: Beacon, ordinary: tuple[list[object], set[str]]
) -> None:
    stock, _ = look_at_ordinary_outputs(browser, lab, beacon, "python3")
    for (_, text, _), ours, theirs in zip(ORDINARY, ordinary[0], stock, strict=True):
        assert ours == theirs, text
