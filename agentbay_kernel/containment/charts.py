"""Charts that the page draws from data: Vega, Vega-Lite, plotly.

In: the data of one MIME type. Out: why it can't be shown, or nothing. What these libraries load by
an address would be asked for with the rights of the page, so a chart may name none.
"""

from __future__ import annotations

import json
import re
from typing import Any

_outside = re.compile(
    r"(?:[a-z][a-z0-9+.-]*:)?//|^\s*(?:https?|ftp|file|javascript|vbscript):", re.I
)
_embedded_picture = re.compile(r"data:image/(?:png|jpe?g|gif|webp|bmp|svg\+xml)[;,]", re.I)

# Vega compiles expressions to JavaScript. These words have no use in a chart and were ways out of
# its language (CVE-2023-26486, CVE-2025-25304, CVE-2025-26619, CVE-2025-59840).
_escaping = re.compile(
    r"__proto__|constructor|prototype|toString|valueOf|VEGA_DEBUG|\bwindow\b|\bdocument\b|"
    r"event\s*\.\s*(?:view|target|dataflow|source|composedPath)|lassoAppend|\bdataflow\b"
)
# The parts of vega-embed's options that only look like something (vega-embed, `EmbedOptions`).
VEGA_OPTIONS = frozenset(("height", "hover", "padding", "renderer", "theme", "width"))
# Its menu saves pictures. "View Source" would write the specification as HTML into a window that
# has the page's rights, "Open in Vega Editor" would send it away (vega-embed 6.21).
VEGA_ACTIONS = {"export": True, "source": False, "compiled": False, "editor": False}
_picture_field = re.compile(r"\bimage\b(?!/)")
_DEEPEST = 60


def refuse_vega(spec: Any) -> str:
    """Why a Vega or Vega-Lite specification can't be shown; empty if it can."""
    if not isinstance(spec, dict):
        return "it is no specification"
    if "pivot" in (text := json.dumps(spec)) and '"image"' in text:
        return _PICTURE_FIELD
    return _refuse_vega_part(spec, "", 0)


# A tooltip shows a field of that name as a picture, whatever address it holds (vega-tooltip).
_PICTURE_FIELD = "a field named `image` would be loaded as a picture"


def _refuse_vega_part(part: Any, name: str, depth: int) -> str:
    if depth > _DEEPEST:
        return "it is nested too deeply"
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "image":
                return _PICTURE_FIELD
            if _are_rows(key, value, depth):
                if '"image":' in json.dumps(value):
                    return _PICTURE_FIELD
                continue
            if key == "url" and not (isinstance(value, str) and _embedded_picture.match(value)):
                return f"it loads {_shown(value)}"
            if reason := _refuse_vega_part(value, key, depth + 1):
                return reason
    elif isinstance(part, list):
        for value in part:
            if reason := _refuse_vega_part(value, name, depth + 1):
                return reason
    elif isinstance(part, str) and name not in ("$schema", "description"):
        if _escaping.search(part):
            return "an expression in it reaches beyond the chart"
        if _picture_field.search(part) and not (name in ("mark", "type") and part == "image"):
            return _PICTURE_FIELD
    return ""


def _are_rows(key: str, value: Any, depth: int) -> bool:
    """Rows of data are drawn as they are; what stands in them is no address and no expression."""
    if key == "datasets":
        return depth == 0 and isinstance(value, dict)
    return (
        key == "values"
        and isinstance(value, list)
        and not any(isinstance(row, dict) and {"signal", "expr"} & row.keys() for row in value)
    )


# Their maps come from outside: tiles, and the outlines of countries.
_MAPS = re.compile(r"geo|choropleth|map")
_LABEL_LINK = re.compile(r"<a\b[^>]*>", re.I)
_WEB_LINK = re.compile(r"""<a\s+href\s*=\s*(["'])https?://[^"'<>]*\1\s*>""", re.I)
PLOTLY_OPTIONS = frozenset(("displayModeBar", "responsive", "scrollZoom", "staticPlot", "locale"))


def refuse_plotly(figure: Any) -> str:
    """Why a plotly figure can't be shown; empty if it can.

    Its labels may hold a few tags that plotly draws itself; links in them lead to the web only.
    """
    if not isinstance(figure, dict):
        return "it is no figure"
    traces = figure.get("data")
    for trace in traces if isinstance(traces, list) else []:
        kind = str(trace.get("type", "scatter")) if isinstance(trace, dict) else ""
        if kind not in ("heatmap", "treemap") and _MAPS.search(kind):
            return f"{kind} loads its map from outside"
    return _refuse_plotly_part(figure, "", 0)


def _refuse_plotly_part(part: Any, name: str, depth: int) -> str:
    if depth > _DEEPEST:
        return "it is nested too deeply"
    items = list(part.items()) if isinstance(part, dict) else []
    if isinstance(part, list):
        items = [(name, item) for item in part]
    for key, value in items:
        if isinstance(value, str):
            if key in ("source", "geojson", "style", "plotlyServerURL", "topojsonURL", "url") and (
                (_outside.search(value) or "/" in value) and not _embedded_picture.match(value)
            ):
                return f"it loads {_shown(value)}"
            if any(not _WEB_LINK.fullmatch(link) for link in _LABEL_LINK.findall(value)):
                return "a label holds a link that does not lead to the web"
        elif reason := _refuse_plotly_part(value, key, depth + 1):
            return reason
    return ""


def _shown(address: Any) -> str:
    text = address if isinstance(address, str) else "an address that it computes"
    return text if len(text) <= 100 else f"{text[:99]}…"
