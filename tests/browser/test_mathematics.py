"""Markdown and TeX in a real JupyterLab: hostile ones do nothing, ordinary ones look right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.beacon import Beacon, listening_beacon
from tests.browser.escapes import HostileLab
from tests.browser.lab import SCREENSHOTS, LabServer
from tests.browser.payloads import SETUP, Payload, dealt, mathematics_payloads

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

PYTHON, MAGICS = "agentbay-python", "python3"
# So many notebooks have all payloads.
PARTS = 6
IMPORTS = f"{SETUP}\nfrom IPython.display import Latex, Math"


@pytest.fixture(scope="module")
def beacon() -> Iterator[Beacon]:
    """Where a beacon arrives."""
    with listening_beacon() as listening:
        yield listening


@pytest.fixture(scope="module")
def lab(browser: Browser, server: LabServer, beacon: Beacon) -> Iterator[HostileLab]:
    """The page that these tests share; it draws every cell at once."""
    server.draw_all_cells()
    made = HostileLab(browser, server, beacon, "mathematics", PYTHON, MAGICS)
    yield made
    made.end()


def found_in(lab: HostileLab) -> list[str]:
    """What acted once everything was loaded, passed over and clicked."""
    page = lab.notebook.page
    # MathJax sets formulas one output after the other; the last cell holds an ordinary one.
    expect(page.locator(".jp-OutputArea-output mjx-container").last).to_be_attached()
    page.wait_for_timeout(1500)
    lab.traces.tell_all()
    lab.traces.click_all()
    page.wait_for_timeout(1000)
    return [*lab.traces.found(), *lab.traces.made()]


@pytest.mark.parametrize(
    ("kernel", "part"),
    [
        # `make test` has some of every kind in test_containment.py, with other outputs.
        pytest.param(kernel, part, marks=pytest.mark.slow)
        for kernel in (PYTHON, MAGICS)
        for part in range(PARTS)
    ],
)
def test_no_markdown_and_no_tex_acts(
    lab: HostileLab, listened_to: set[str], beacon: Beacon, kernel: str, part: int
) -> None:
    """Payloads, in an AgentBay notebook and in the same one changed by a stranger.

    Every way and every kind of payload meet in `make test`: some of every kind, by each of the
    outputs that can hold it, are tried in `test_containment.py`. What is sent to the page of every
    single one is judged in `tests/kernel/test_payloads.py`. With all payloads each way is taken by
    `make test-all`: as they are and sanitised below, in the same notebook; reopened and trusted;
    changed by a stranger.
    """
    of_use = mathematics_payloads(beacon.address)
    payloads: list[Payload] = []
    for use in of_use.values():
        payloads += dealt(use, PARTS)[part]
    assert len(payloads) >= 200 // PARTS
    codes = [payload.code for payload in payloads]
    cells = [IMPORTS, *codes, "Latex('$x^2$')"]
    if kernel == MAGICS:
        cells = [f"%%agentbay python\n{code}" for code in cells]
    cells = [*cells[:-1], "%agentbay config html=sanitize", *cells[1:]]
    if kernel == MAGICS:
        cells.insert(0, "%load_ext agentbay_kernel")
    with lab.running(kernel, cells):
        assert found_in(lab) == []
        assert lab.traces.listeners() <= listened_to
        lab.save()
        lab.reopen()
        assert found_in(lab) == []
        assert lab.traces.listeners() <= listened_to
        lab.reopen_changed()
        assert found_in(lab) == []
        assert lab.traces.listeners() <= listened_to


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


def look_at_ordinary_outputs(lab: HostileLab, kernel: str) -> list[object]:
    """What a kernel's outputs look like."""
    cells = [IMPORTS, *(f"display({kind}({text!r}))" for kind, text, _ in ORDINARY)]
    # It is in a frame; the stock kernel would put it into the page.
    if kernel == PYTHON:
        cells.append("HTML('<script>1</script>')")
    pictures = SCREENSHOTS / "mathematics"
    pictures.mkdir(parents=True, exist_ok=True)
    code = [cell.replace("import ipywidgets as w", "") for cell in cells]
    looks = []
    with lab.running(kernel, code):
        notebook = lab.notebook
        for number, (*_, formulas) in enumerate(ORDINARY, 1):
            output = notebook.cell(number).locator(".jp-OutputArea-output").first
            expect(output.locator("mjx-container")).to_have_count(formulas)
            looks.append(output.evaluate(LOOK))
            notebook.cell(number).screenshot(
                path=pictures / f"{number:02}-{kernel}.png", animations="disabled"
            )
        if kernel == PYTHON:
            notebook.cell(len(cells) - 1).locator("iframe").wait_for()
            lab.traces.hover_and_type()
            lab.traces.click_all()
            assert lab.traces.found() == []
            lab.save()
            lab.reopen()
            notebook.cell(len(cells) - 1).locator("iframe").wait_for()
    return looks


@pytest.fixture(scope="module")
def ordinary(lab: HostileLab) -> tuple[list[object], set[str]]:
    """What there is of ordinary outputs of "AgentBay Python", and what the page listens to then."""
    looks = look_at_ordinary_outputs(lab, PYTHON)
    return looks, lab.traces.listeners()


@pytest.fixture(scope="module")
def listened_to(ordinary: tuple[list[object], set[str]]) -> set[str]:
    """What the page itself listens to when it typesets formulas, and has a frame."""
    return ordinary[1]


def test_ordinary_outputs_look_as_of_the_stock_kernel(
    lab: HostileLab, ordinary: tuple[list[object], set[str]]
) -> None:
    stock = look_at_ordinary_outputs(lab, MAGICS)
    for (_, text, _), ours, theirs in zip(ORDINARY, ordinary[0], stock, strict=True):
        assert ours == theirs, text
