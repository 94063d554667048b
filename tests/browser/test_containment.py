"""Hostile and benign outputs in a real JupyterLab: what gets out, and what still looks right."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.attacks import ONCE_ACTED, attack_payloads
from tests.browser.beacon import Beacon, listening_beacon
from tests.browser.benign import ALTAIR_ONLINE, BENIGN, FOLIUM, altair_inline
from tests.browser.escapes import (
    FRAMED_CELLS,
    Traces,
    opened,
    run_all,
    write_notebook,
    write_untrusted,
)
from tests.browser.lab import SCREENSHOTS, LabServer, NotebookPage
from tests.browser.payloads import SETUP, escape_payloads

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

TRUSTING, SANITIZING = "agentbay-trusting", "agentbay-sanitizing"
FRAMES = ".jp-OutputArea iframe"
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


@pytest.fixture(scope="module")
def beacon() -> Iterator[Beacon]:
    """Where a beacon arrives."""
    with listening_beacon() as listening:
        yield listening


@pytest.fixture(scope="module")
def lab(server: LabServer) -> LabServer:
    """The server, with kernels that trust and sanitize, and pages that draw all cells at once."""
    home = server.notebooks.parent
    settings = home / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
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


def settle(notebook: NotebookPage, traces: Traces, *, are_contained: bool = True) -> list[str]:
    """What was found once everything has loaded, the pointer was over it, and it was clicked.

    Arguments:
        are_contained: every frame, and almost every frame in it, still has a document of its own.
    """
    notebook.page.wait_for_timeout(2000)
    traces.hover_and_type()
    traces.click_all()
    notebook.page.wait_for_timeout(1500)
    if are_contained:
        assert len(traces.missed()) <= traces.frames // 20, traces.missed()
    return traces.found()


def magic(code: str) -> str:
    return f"%%agentbay python\n{code}"


@pytest.fixture(scope="module")
def listened_to(browser: Browser, lab: LabServer, beacon: Beacon) -> set[str]:
    """What JupyterLab itself listens to in the whole page, with ordinary outputs."""
    cells = [SETUP, "1 + 1", "HTML('<b>x</b>')", "HTML('<script>1</script>')", "w.Text('x')"]
    write_notebook(lab.notebooks / "ordinary" / "cells.ipynb", "agentbay-python", cells)
    with opened(browser, lab, beacon, "ordinary") as (notebook, traces):
        run_all(notebook, len(cells))
        assert settle(notebook, traces) == []
        notebook.save()
        return traces.listeners()


@pytest.mark.parametrize(
    ("kernel", "first", "step"),
    [
        # A page with twice as many frames takes more than twice the time.
        *(("agentbay-python", first, 3) for first in range(3)),
        # The magics take the same way from the containment on: every fourth payload.
        ("python3", 0, 4),
        *(pytest.param("python3", first, 4, marks=pytest.mark.slow) for first in range(1, 4)),
    ],
)
def test_no_attack_gets_out(
    browser: Browser,
    lab: LabServer,
    beacon: Beacon,
    listened_to: set[str],
    kernel: str,
    first: int,
    step: int,
) -> None:
    """Every attack, and every SVG: contained, then sanitised in the same notebook.

    What once acted is in each first part.
    """
    svg = [it for it in escape_payloads(beacon.address) if it.name.startswith("svg")]
    attacks = attack_payloads(beacon.address)
    payloads = [*attacks[ONCE_ACTED:], *svg][first::step]
    assert len(payloads) >= 100 // step
    if first == 0:
        payloads = [*attacks[:ONCE_ACTED], *payloads]
    cells = [SETUP, *(payload.code for payload in payloads)]
    if kernel == "python3":
        cells = [magic(code) for code in cells]
    begin = "%load_ext agentbay_kernel" if kernel == "python3" else "1"
    sanitized_from = 1 + len(cells)
    cells = [begin, *cells, "%agentbay config html=sanitize", *cells[1:]]
    folder = f"attacks-{kernel}-{first}-of-{step}"
    write_notebook(lab.notebooks / folder / "cells.ipynb", kernel, cells)
    with opened(browser, lab, beacon, folder) as (notebook, traces):
        run_all(notebook, len(cells))
        assert settle(notebook, traces) == []
        assert traces.listeners() <= listened_to
        framed = notebook.page.evaluate(FRAMED_CELLS)
        assert len(framed) > len(payloads) / 4 and max(framed) < sanitized_from
        commands = traces.commands()
        assert commands and not any(it.startswith("-") or " -" in it for it in commands)
        # What was focused may be in a frame, where keys don't reach JupyterLab.
        notebook.cell(0).locator(".cm-content").click()
        stored = notebook.save()
    # Stored and signed by this server, its outputs are trusted.
    with opened(browser, lab, beacon, folder) as (notebook, traces):
        notebook.page.locator(FRAMES).first.wait_for(state="attached")
        assert settle(notebook, traces) == []
        assert traces.listeners() <= listened_to
    with opened(browser, lab, beacon, write_untrusted(lab, folder, stored)) as (notebook, traces):
        expect(notebook.page.locator(".jp-OutputArea-output:visible").first).to_be_visible()
        assert settle(notebook, traces) == []
        assert traces.listeners() <= listened_to
        assert notebook.page.locator(FRAMES).count() == 0


@pytest.mark.parametrize(
    ("kernel", "first", "step"),
    [
        # A page with twice as many frames takes more than twice the time.
        *(("agentbay-python", first, 3) for first in range(3)),
        ("python3", 0, 4),
        (SANITIZING, 0, 3),
        *(
            pytest.param(kernel, first, step, marks=pytest.mark.slow)
            for kernel, step in (("python3", 4), (SANITIZING, 3))
            for first in range(1, step)
        ),
    ],
)
def test_nothing_gets_out(
    browser: Browser, lab: LabServer, beacon: Beacon, kernel: str, first: int, step: int
) -> None:
    payloads = escape_payloads(beacon.address)[first::step]
    assert len(payloads) >= 200 // step
    folder = f"escapes-{kernel}-{first}-of-{step}"
    cells = [SETUP, *(payload.code for payload in payloads)]
    if kernel == "python3":
        cells = ["%load_ext agentbay_kernel", *map(magic, cells)]
    write_notebook(lab.notebooks / folder / "cells.ipynb", kernel, cells)
    with opened(browser, lab, beacon, folder) as (notebook, traces):
        run_all(notebook, len(cells))
        assert settle(notebook, traces) == []
        # The outputs are there: it is not for want of them that nothing got out.
        framed = notebook.page.locator(FRAMES).count()
        assert framed == 0 if kernel == SANITIZING else framed > len(payloads) / 3
        stored = notebook.save()
    with opened(browser, lab, beacon, write_untrusted(lab, folder, stored)) as (notebook, traces):
        expect(notebook.page.locator(".jp-OutputArea-output:visible").first).to_be_visible()
        assert settle(notebook, traces) == []
        assert notebook.page.locator(FRAMES).count() == 0
        told = notebook.page.get_by_text("Run the cell again to see it").count()
        assert told == 0 if kernel == SANITIZING else told > len(payloads) / 3


@pytest.mark.slow
@pytest.mark.parametrize("first", range(3))
def test_nothing_gets_out_of_a_stored_notebook(
    browser: Browser, lab: LabServer, beacon: Beacon, first: int
) -> None:
    payloads = escape_payloads(beacon.address)[first::3]
    cells = [SETUP, *(payload.code for payload in payloads)]
    folder = f"stored-{first}"
    write_notebook(lab.notebooks / folder / "cells.ipynb", "agentbay-python", cells)
    with opened(browser, lab, beacon, folder) as (notebook, _):
        run_all(notebook, len(cells))
        notebook.save()
    # Stored and signed by this server, its outputs are trusted.
    with opened(browser, lab, beacon, folder) as (notebook, traces):
        notebook.page.locator(FRAMES).first.wait_for()
        assert settle(notebook, traces) == []
        assert traces.frames > len(payloads) / 3


def test_the_payloads_work_where_output_is_trusted(
    browser: Browser, lab: LabServer, beacon: Beacon, listened_to: set[str]
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
    write_notebook(lab.notebooks / "escapes-trusted" / "cells.ipynb", TRUSTING, cells)
    with opened(browser, lab, beacon, "escapes-trusted") as (notebook, traces):
        run_all(notebook, len(cells))
        found = settle(notebook, traces, are_contained=False)
        listeners = traces.listeners() - listened_to
    for file in lab.notebooks.rglob("*pwned*"):
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


def test_ordinary_outputs_look_right(browser: Browser, lab: LabServer, beacon: Beacon) -> None:
    codes = [*(benign.code for benign in BENIGN), FOLIUM, ALTAIR_ONLINE]
    packed = altair_inline()
    cells = [code.replace("ALTAIR_INLINE", packed) for code in codes]
    write_notebook(lab.notebooks / "benign" / "cells.ipynb", "agentbay-python", cells)
    pictures = SCREENSHOTS / "contained"
    pictures.mkdir(parents=True, exist_ok=True)
    with opened(browser, lab, beacon, "benign") as (notebook, _):
        run_all(notebook, len(cells))
        for number, benign in enumerate(BENIGN):
            cell = notebook.cell(number)
            cell.scroll_into_view_if_needed()
            place = (
                cell.locator(".jp-OutputArea-output")
                .frame_locator("iframe")
                .frame_locator("iframe")
                if benign.place == "frame"
                else cell.locator(".jp-OutputArea")
            )
            seen = place.locator(benign.selector).first
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
        stored = notebook.save()
    # The first output says where the session runs.
    table = stored["cells"][0]["outputs"][-1]["data"]["text/html"]
    assert "".join(table).startswith(
        "<div>\n<style scoped>\n    .dataframe tbody tr th:only-of-type"
    )
