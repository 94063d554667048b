"""How a sandbox's kernel is prepared to show charts: over the bridge and directly."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.execution.direct import DirectExecution
from agentbay_kernel.execution.messages import Message
from tests.execution.bench import Bench, text_of

# What a page would load: `<script src=https://...>`, `<link href=//...>`, `url(https://...)`.
_loads = re.compile(
    r"""<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=["']?(?!data:|\#)([^"'\s>]+)""", re.I
)
_script = re.compile(r"(<script\b[^>]*>).*?</script>", re.I | re.S)

ALTAIR = """\
import altair as alt
chart = alt.Chart(alt.Data(values=[{"ship": "Aurora", "n": 420}, {"ship": "</script>", "n": 1}]))
chart = chart.mark_bar().encode(x="n:Q", y="ship:N")
chart"""
BOKEH = """\
from bokeh.plotting import figure, show
plot = figure(width=300, height=200)
plot.line([1, 2], [3, 4])
show(plot)"""
PLOTLY = "import plotly.graph_objects as go\nfigure = go.Figure(go.Bar(y=[1, 3]))\nfigure"


@pytest.fixture(scope="module")
def charts(open_bench: Callable[..., Bench]) -> Bench:
    """A session that these tests share."""
    return open_bench()


@pytest.fixture
def kernel(open_bench: Callable[..., Bench]) -> Iterator[Bench]:
    """A session of its own: what was imported is imported."""
    bench = open_bench()
    yield bench
    bench.session.delete(wait=False)


@pytest.fixture(scope="module")
def imported(open_bench: Callable[..., Bench]) -> Bench:
    """A session for the tests that import one library after the other, in their order."""
    return open_bench()


def bundles(messages: list[Message]) -> list[dict[str, Any]]:
    """What was shown."""
    failed = [message.content for message in messages if message.type == "error"]
    assert not failed, failed
    shown = ("display_data", "execute_result")
    return [message.content["data"] for message in messages if message.type in shown]


def loaded(html: str) -> list[str]:
    """The addresses that a document loads by its own tags."""
    return _loads.findall(_script.sub(r"\1", html))


@pytest.mark.parametrize("code", [ALTAIR, BOKEH, PLOTLY, f"{PLOTLY}.show()"])
def test_a_chart_brings_its_scripts(charts: Bench, code: str) -> None:
    (bundle,) = bundles(charts.run(code))
    assert len(bundle["text/html"]) > 500_000
    assert loaded(bundle["text/html"]) == []
    assert bundle["text/plain"]


def test_altair_has_a_picture_and_what_it_draws_ends_no_script(charts: Bench) -> None:
    (bundle,) = bundles(charts.run(ALTAIR))
    assert bundle["image/png"].startswith("iVBORw0KGgo")
    assert bundle["text/html"].count("</script>") == 2
    # Its process ended, as V8 does when it fails: the next chart has another.
    charts.run("import subprocess\nsubprocess.run(['pkill', '-f', 'vl_convert'])")
    charts.run("chart")
    (bundle,) = bundles(charts.run("chart"))
    assert bundle["image/png"].startswith("iVBORw0KGgo")


def test_altair_without_scripts_is_data(kernel: Bench) -> None:
    hidden = """\
import sys
class Hidden:
    def find_spec(name, path=None, target=None):
        if name == "vl_convert":
            raise ImportError(name)
sys.meta_path.insert(0, Hidden)
"""
    (bundle,) = bundles(kernel.run(hidden + ALTAIR))
    assert set(bundle) == {"text/plain", "application/vnd.vegalite.v6+json"}


def test_what_the_user_sets_wins(kernel: Bench) -> None:
    first = f"import os\nos.environ['PLOTLY_RENDERER'] = 'json'\n{PLOTLY}"
    later = "import plotly.io\nplotly.io.renderers.default = 'plotly_mimetype'\nfigure"
    lite = f"{ALTAIR}\nalt.renderers.enable('mimetype')\nchart"
    plotly, lite_mime = "application/vnd.plotly.v1+json", "application/vnd.vegalite.v6.json"
    for code, mime in ((first, "application/json"), (later, plotly), (lite, lite_mime)):
        (bundle,) = bundles(kernel.run(code))
        assert mime in bundle and "text/html" not in bundle


def test_bokeh_loads_nothing_and_needs_no_output_notebook(charts: Bench) -> None:
    charts.run(BOKEH)
    assert charts.run("from bokeh.io import output_notebook\noutput_notebook()")[:-1] == []
    shown = charts.run("show(plot, notebook_handle=True)")
    assert len(bundles(shown)) == 1 and "push_notebook() has no effect" in text_of(shown)
    assert "not shown" in text_of(charts.run("show(lambda document: None)"))


def test_files_that_are_shown_by_address_are_brought_along(charts: Bench, tmp_path: Path) -> None:
    code = """\
from pathlib import Path
from IPython.display import IFrame, Video
Path("lib").mkdir()
Path("lib/a.js").write_text("let a = '</script>'")
Path("lib/a.css").write_text("body { color: red }")
Path("page.html").write_text('<link rel="stylesheet" href="lib/a.css"><script src="lib/a.js">'
    '</script><script src="https://example.com/b.js"></script>')
Path("film.mp4").write_bytes(b"film")
display(IFrame("page.html", 100, 100), IFrame("https://example.com/", 100, 100),
        IFrame("missing.html", 1, 1), Video("film.mp4", width=90), Video("https://example.com/a.mp4"))
import sys, types
sys.modules["pyvis"] = types.ModuleType("pyvis")
display(IFrame("page.html", 1, 1))
"""
    page, web, missing, film, far, odd = (one["text/html"] for one in bundles(charts.run(code)))
    assert "let a = '<\\/script>'" in page and "color: red" in page
    assert loaded(page) == ["https://example.com/b.js"]
    assert loaded(web) == ["https://example.com/"] and loaded(missing) == ["missing.html"]
    assert 'width="90"' in film and "data:video/mp4;base64,ZmlsbQ==" in film
    assert "https://example.com/a.mp4" in far
    # What goes wrong here is shown as ever.
    assert loaded(odd) == ["page.html"]


def test_nothing_of_it_is_seen(imported: Bench) -> None:
    kernel = imported
    # The first cell is the first, and its namespace is empty.
    count = [message.content.get("execution_count") for message in kernel.run("%who_ls")]
    (bundle,) = bundles(kernel.run("[name for name in dir() if not name.startswith('_')]"))
    assert bundle["text/plain"] == "['In', 'Out', 'exit', 'get_ipython', 'open', 'quit']"
    assert count[-1] == 1
    # No library is imported for it.
    names = "'altair', 'bokeh', 'plotly', 'panel', 'vl_convert'"
    (bundle,) = bundles(kernel.run(f"import sys\n[it for it in ({names}) if it in sys.modules]"))
    assert bundle["text/plain"] == "[]"


def test_an_import_is_what_it_was(imported: Bench) -> None:
    code = """\
import importlib.util, inspect, plotly.io, sys
spec = plotly.io.__spec__
print(type(spec).__name__, type(spec.loader).__name__, spec._initializing)
print(importlib.reload(plotly.io).__name__, inspect.getsource(plotly.io) != "")
print(importlib.util.find_spec("altair").name, "altair" in sys.modules, repr(sys.meta_path) != "")
"""
    lines = text_of(imported.run(code)).splitlines()
    assert lines == ["ModuleSpec SourceFileLoader False", "plotly.io True", "altair False True"]


def test_an_import_that_fails_fails_as_ever(imported: Bench) -> None:
    kernel = imported
    # In front of the installed one, as a file of that name in the notebook's folder is.
    kernel.run(
        "from pathlib import Path\nimport sys\nsys.path.insert(0, '')\n"
        "Path('altair.py').write_text('import nothing_of_that_name')"
    )
    *_, failed, _ = kernel.run("import altair")
    assert failed.content["ename"] == "ModuleNotFoundError"
    trace = "\n".join(failed.content["traceback"])
    assert "altair.py" in trace and "agentbay" not in trace and "hidden" not in trace
    # One that succeeds, but is not what it seems, is left alone.
    kernel.run("Path('altair.py').write_text('renderers = 3')\nimport altair")
    (bundle,) = bundles(kernel.run("altair.renderers"))
    assert bundle["text/plain"] == "3"


def test_a_library_imported_unseen_is_prepared_before_the_next_cell(kernel: Bench) -> None:
    kernel.run(
        "import sys\nfinders = list(sys.meta_path)\nsys.meta_path[:] = finders[1:]\n"
        "import plotly.io\nsys.meta_path[:] = finders"
    )
    (bundle,) = bundles(kernel.run("plotly.io.renderers.default"))
    assert bundle["text/plain"] == "'agentbay'"


@pytest.mark.parametrize(
    "streams",
    [
        pytest.param(True, id="streaming"),
        pytest.param(False, id="answered", marks=pytest.mark.slow),
    ],
)
def test_charts_of_direct_cells_bring_their_scripts_too(
    streams: bool, open_bench: Callable[..., Bench]
) -> None:
    bench = open_bench(ws_url=streams)
    direct = DirectExecution(bench.session)

    def calls_of(code: str) -> tuple[int, list[Message]]:
        shown: list[Message] = []
        return bench.calls_of(lambda: shown.extend(direct.execute(Cell(code, "python")))), shown

    # A cell without charts costs one call, and so does every chart after the first. What streams
    # is as large as a frame of the WebSocket at most, so charts do not.
    assert calls_of("1 + 1")[0] == 1
    calls, shown = calls_of(BOKEH)
    (bundle,) = bundles(shown)
    assert calls == 2 and loaded(bundle["text/html"]) == [] and len(bundle["text/html"]) > 500_000
    assert calls_of("show(plot)  # bokeh")[0] == 1
    bench.session.delete(wait=False)
