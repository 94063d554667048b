"""Charts in a bundle: the shown representation, its frame, and the limit for a notebook.

A library sends a chart as a specification, as HTML, as a picture, or as several of them. One live
form is kept: a specification that the page can draw, otherwise HTML that includes its scripts,
otherwise a specification in a frame with scripts of this machine. If there is none, the picture or
the text stays, and a note suggests what to type.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from dataclasses import dataclass, field
from typing import Any

from agentbay_kernel.containment import plotly, vega
from agentbay_kernel.containment.frame import framed
from agentbay_kernel.containment.policy import Policy
from agentbay_kernel.containment.text import as_text, excess, visible

_HTML, _PLAIN, _PNG = "text/html", "text/plain", "image/png"
_SCRIPTS = frozenset(("application/javascript", "text/javascript"))

# A browser still draws a chart of this size.
MOST_BYTES = 20_000_000
# The most that charts of one library may take up in a notebook.
MOST_STORED = 12_000_000
# A script of this size is a library.
_LIBRARY_CHARS = 100_000
_PREFIX_CHARS = 20_000

_INSTALL = (
    "the scripts that draw it are missing. In a terminal on the machine where this kernel runs, "
    "type `pip install vl-convert-python plotly`, then run the cell again"
)
_NO_FRAMES = "its scripts need a frame, and the setting html=sanitize shows none"
_BOKEH = (
    "its notebook mode runs scripts in the page. Type `from bokeh.embed import file_html; "
    "from bokeh.resources import INLINE; from IPython.display import HTML; "
    "HTML(file_html(plot, INLINE))` for your plot"
)
_HOLOVIEWS = (
    "its notebook mode runs scripts in the page. Type "
    '`import holoviews; holoviews.save(plot, "plot.html", resources="inline"); '
    'from IPython.display import HTML; HTML(filename="plot.html")` for your plot'
)


@dataclass
class Charts:
    """The charts of a bundle: what is shown, the types that this settles, and refusals.

    `source` is the HTML of the framed chart, `kept` and `metadata` are parts of the contained
    bundle, and `settled` are the types that need no further handling. `refused` has a type and the
    reason for it, without a full stop.
    """

    source: str = ""
    kept: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    settled: frozenset[str] = frozenset()
    refused: list[tuple[str, str]] = field(default_factory=list)


def is_chart(mime: str) -> bool:
    """Return whether a type is a chart that needs scripts."""
    return vega.is_vega(mime) or mime == plotly.MIME or _notebook_mode(mime) is not None


def contain_charts(data: dict[str, Any], metadata: dict[str, Any], policy: Policy) -> Charts:
    """Return the contained charts of a bundle."""
    mimes = [mime for mime in data if isinstance(mime, str) and is_chart(mime)]
    if not mimes:
        return Charts(source=as_text(data.get(_HTML)))
    if policy.html == "text":
        # The setting requests it, so there is no note.
        return Charts(settled=frozenset(mimes))
    charts = Charts(source=as_text(data.get(_HTML)))
    is_complete = policy.html == "contain" and bool(_library(charts.source))
    # HTML beside a chart is the same chart, or the empty box that its script would fill.
    settled = {*mimes, *_SCRIPTS} | (set() if is_complete else {_HTML})
    charts.settled = frozenset(settled & data.keys())
    for mime in mimes:
        if (notebook_mode := _notebook_mode(mime)) is not None:
            if not is_complete:
                charts.refused.append(notebook_mode)
            continue
        spec = _specification(data[mime])
        if isinstance(spec, str):
            if not is_complete:
                charts.refused.append((mime, spec))
        elif vega.can_be_data(mime, spec):
            charts.kept[mime] = spec
            charts.metadata[mime] = vega.embed_metadata(metadata.get(mime))
            charts.settled |= {_HTML} & data.keys()
            is_complete = True
        elif is_complete or _HTML in charts.kept:
            continue
        elif policy.html != "contain":
            charts.refused.append((mime, _NO_FRAMES))
        else:
            _add_frame(charts, mime, spec, data, policy)
    return charts


def _add_frame(
    charts: Charts, mime: str, spec: dict[str, Any], data: dict[str, Any], policy: Policy
) -> None:
    """Add a frame that draws a specification of a bundle, or the reason why there is none."""
    document, reason = None, _INSTALL
    try:
        document = _document(mime, spec)
    except vega.ScriptsError as error:
        reason = str(error)
    if document:
        charts.source = document
        plain = visible(as_text(data.get(_PLAIN)))
        charts.kept[_HTML] = framed(document, policy.hosts, plain, picture_of(data))
    elif _HTML in data and policy.hosts:
        # Its scripts may come from an allowed host.
        charts.settled -= {_HTML}
    else:
        charts.refused.append((mime, reason))


def picture_of(data: dict[str, Any]) -> str:
    """Return a bundle's picture as HTML; empty if it has none."""
    picture = as_text(data.get(_PNG))
    return f'<img src="data:{_PNG};base64,{picture}">' if _base64.fullmatch(picture) else ""


_base64 = re.compile(r"[A-Za-z0-9+/\s]++(?:={1,2}\s*+)?+", re.A)


def _document(mime: str, spec: dict[str, Any]) -> str | None:
    if mime == plotly.MIME:
        return plotly.document(_script_data(plotly.figure_of(spec)))
    return vega.document(mime, _script_data(spec))


def _notebook_mode(mime: str) -> tuple[str, str] | None:
    if mime.startswith("application/vnd.bokehjs"):
        return "Bokeh", _BOKEH
    if mime.startswith("application/vnd.holoviews"):
        return "HoloViews", _HOLOVIEWS
    return None


# --- Specifications ---------------------------------------------------------------------------


def _specification(value: Any) -> dict[str, Any] | str:
    """Return a specification without its embedding options, or why it is not shown."""
    if reason := excess(value, MOST_BYTES):
        return f"{reason}. {_SMALLER}"
    if isinstance(value, str):
        try:
            value = json.loads(value, object_pairs_hook=_once)
        except _TwiceError as twice:
            return f"the key {visible(ascii(str(twice)))[:60]} is in it twice"
        except RecursionError:
            return f"its data are nested too deeply. {_SMALLER}"
        except ValueError:
            return "it is not JSON"
        if reason := excess(value, MOST_BYTES):
            return f"{reason}. {_SMALLER}"
    if not isinstance(value, dict):
        return "it is not a JSON object"
    return {name: item for name, item in value.items() if name != "usermeta"}


_SMALLER = "Draw fewer points, or show it as a picture"


class _TwiceError(Exception):
    """A key that an object has more than once."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            # Which of them is used depends on the reader.
            raise _TwiceError(name)
        found[name] = value
    return found


def _script_data(value: Any) -> str:
    """Return a value as JSON that is safe in a script element: ASCII, without `<`."""
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(value), separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _finite(value: Any) -> Any:
    """Return a value of limited depth, in which numbers that JSON can't have are None."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, int | float) and not abs(value) < 1e308:
        return None
    return value


# --- The limit of charts ----------------------------------------------------------------------


@dataclass(eq=False)
class _Stored:
    """A live chart in the notebook, or any output that can be updated."""

    cell: Any
    display: str | None
    library: str
    size: int


class ChartBudget:
    """The size of each library's charts in the notebook of one kernel.

    A cell that runs again and a display that is updated replace what they had stored. The charts
    that an earlier kernel process left in the notebook are not known.
    """

    def __init__(self, most: int = MOST_STORED) -> None:
        self._most = most
        self._stored: list[_Stored] = []

    def for_cell(self, cell: str | None = None) -> CellCharts:
        """Return the charts of a cell that starts to run; those of its earlier run are gone.

        Arguments:
            cell: its id in the notebook, if the front end sends one.
        """
        key = cell if cell is not None else object()
        self.forget(key)
        return CellCharts(self, key)

    def forget(self, cell: Any) -> None:
        """Note that a cell's outputs are cleared."""
        self._stored = [it for it in self._stored if it.cell != cell]

    def admit(
        self, cell: Any, display: str | None, is_update: bool, library: str, size: int
    ) -> bool:
        """Return whether an output fits, and count it.

        Arguments:
            display: the display's id; an update replaces all outputs under it.
            library: the library of the stored chart of `size` characters; empty if it has none.
        """
        old = [it for it in self._stored if is_update and it.display == display]
        others = [it for it in self._stored if it not in old]
        taken = sum(it.size for it in others if it.library == library)
        places = max(1, len(old))
        is_alone = not taken and places == 1
        fits = not library or is_alone or taken + places * size <= self._most
        counted = (library, size) if fits else ("", 0)
        cells = [it.cell for it in old] or [cell]
        if display is not None or counted[1]:
            others += [_Stored(it, display, *counted) for it in cells]
        self._stored = others
        return fits


@dataclass
class CellCharts:
    """The charts of one run of a cell.

    Arguments:
        budget: the charts that its notebook stores.
        cell: identifies it; equal for the same cell of the notebook.
    """

    budget: ChartBudget
    cell: object

    def clear(self) -> None:
        """Note that a clear_output removed them."""
        self.budget.forget(self.cell)

    def fit(
        self,
        shown: dict[str, Any],
        source: str,
        display: str | None = None,
        is_update: bool = False,
    ) -> dict[str, Any]:
        """Return a contained bundle unchanged, or with a picture for a chart that does not fit.

        Arguments:
            shown: the contained bundle.
            source: the HTML that was framed for it.
            display: the display's id.
            is_update: whether it replaces the content of that display.
        """
        frame = as_text(shown.get(_HTML))
        library = _library(source) if "<iframe" in frame else ""
        if self.budget.admit(self.cell, display, is_update, library, len(frame) if library else 0):
            return shown
        static = picture_of(shown) or f"<pre>{html.escape(as_text(shown.get(_PLAIN)))}</pre>"
        return {**shown, _HTML: f"{static}<p><small>{_full(source)}</small></p>"}


# Strings that only charts of a library have in their HTML, and code that saves a chart to a file.
_SAVES = {
    "Plotly.newPlot(": 'fig.write_html("chart.html")',
    "vegaEmbed('#": 'chart.save("chart.html", inline=True)',
}


def _full(source: str) -> str:
    """Return the note on a chart that does not fit."""
    told = (
        f"The charts of this library already take up {MOST_STORED // 1_000_000} MB of this "
        "notebook, so this one is not live. To see it live, "
    )
    save = next((code for mark, code in _SAVES.items() if mark in source), None)
    if save is not None:
        told += (
            f"type <code>{html.escape(save)}</code> in a cell and <code>%agentbay download "
            "chart.html</code> in the next one, then open the file. Or "
        )
    return told + "take the chart out of an earlier cell, run that cell, then run this one again."


_script = re.compile(r"<script\b", re.I)


def _library(source: str) -> str:
    """Return an identifier of the library whose script is in the HTML; empty if there is none."""
    largest, end = "", 0
    while (found := _script.search(source, end)) is not None:
        start = source.find(">", found.end()) + 1
        if start == 0:
            break
        stop = source.find("</script", start)
        end = stop if stop >= 0 else len(source)
        is_code = "json" not in source[found.end() : min(start, found.end() + 200)]
        if is_code and end - start > max(len(largest), _LIBRARY_CHARS):
            largest = source[start:end]
    if not largest:
        return ""
    # If the data are in the same script, charts differ only after the library's code.
    return hashlib.sha256(largest[:_PREFIX_CHARS].encode("utf-8", "replace")).hexdigest()
