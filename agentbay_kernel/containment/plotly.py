"""Plotly figures: documents that draw them in a frame.

A figure never reaches the page as data, because that would gain nothing. JupyterLab draws none
without plotly's own extension, and nbconvert requests the script from a server. It would also be
unsafe: plotly.js sets parts of a figure as HTML, styles and addresses, and its schema only marks
the strings, not their use. An allow list would have a thousand attributes to maintain with every
version.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

MIME = "application/vnd.plotly.v1+json"


def figure_of(value: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of a figure's data that plotly.js draws."""
    figure: dict[str, Any] = {
        name: value[name] for name in ("data", "layout", "frames") if name in value
    }
    # The other options lead to servers, or to files that a frame can't write.
    config = value.get("config")
    known = config if isinstance(config, dict) else {}
    figure["config"] = {name: known[name] for name in known if name in _OPTIONS}
    return figure


_OPTIONS = frozenset(("displayModeBar", "locale", "scrollZoom", "staticPlot"))


def document(data: str) -> str | None:
    """Return HTML that draws a figure, or nothing if the plotly package is missing.

    Arguments:
        data: the figure, as JSON that may stand in a script element.
    """
    script = _script()
    return script and _DOCUMENT.format(script=script, data=data)


_DOCUMENT = """<div id="chart" style="width:100%"></div><script>{script}</script>\
<script id="figure" type="application/json">{data}</script><script>(()=>{{\
const chart=document.getElementById("chart"),\
figure=JSON.parse(document.getElementById("figure").textContent);\
Plotly.newPlot(chart,figure.data||[],figure.layout||{{}},{{...figure.config,responsive:true,\
displaylogo:false}}).then(()=>figure.frames&&Plotly.addFrames(chart,figure.frames))\
.catch(error=>{{chart.textContent=String(error)}})}})()</script>"""


def _script() -> str | None:
    # Without an import, which is slow. The package may have been installed since the last chart.
    importlib.invalidate_caches()
    found = importlib.util.find_spec("plotly")
    for place in (found and found.submodule_search_locations) or ():
        path = Path(place) / "package_data" / "plotly.min.js"
        if path.is_file():
            return _read(path)
    return None


@cache
def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").replace("</script", "<\\/script")
