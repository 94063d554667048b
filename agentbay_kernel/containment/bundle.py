"""MIME bundles: what is shown of an output, type by type.

In: a bundle and its metadata, from a sandbox. Out: a bundle in which every type is on the list
below and its data inert, the metadata that such types have, and what was refused.
"""

from __future__ import annotations

import base64
import html
import re
from dataclasses import dataclass
from typing import Any

from agentbay_kernel.containment import markdown
from agentbay_kernel.containment.chart_frames import CellCharts, contain_charts, picture_of
from agentbay_kernel.containment.charts import is_still_svg
from agentbay_kernel.containment.frame import framed
from agentbay_kernel.containment.markup import Fate, judge, sanitized
from agentbay_kernel.containment.policy import CORE_WIDGETS, Policy
from agentbay_kernel.containment.tex import is_safe_tex
from agentbay_kernel.containment.text import UNSAFE_NAMES, all_visible, as_text, is_plain, visible

MimeBundle = dict[str, Any]

PLAIN, HTML, MARKDOWN, LATEX = "text/plain", "text/html", "text/markdown", "text/latex"
SVG, JSON = "image/svg+xml", "application/json"
PICTURES = frozenset(f"image/{kind}" for kind in ("png", "jpeg", "gif", "webp", "bmp"))
JAVASCRIPT = frozenset(
    f"{kind}/{name}"
    for kind in ("application", "text")
    for name in ("javascript", "x-javascript", "ecmascript")
)
WIDGET = "application/vnd.jupyter.widget-view+json"
TABLE = "application/vnd.dataresource+json"

_base64 = re.compile(r"[A-Za-z0-9+/\s]*={0,2}\s*\Z", re.A)
_identifier = re.compile(r"[\w-]{1,100}\Z", re.A)
# `isolated` puts an output into a frame that has the page's own rights.
_RENDERING = UNSAFE_NAMES | {"isolated", "embed_options"}
# What JupyterLab's renderers read, and what it must be.
_RENDERED: dict[str, Any] = {
    "width": (int, float),
    "height": (int, float),
    "unconfined": bool,
    "needs_background": bool,
    "expanded": bool,
    "root": str,
    "alt": str,
}


_NAMED = {"javascript": "JavaScript output", "widget": "A widget"}


@dataclass(frozen=True)
class Refusal:
    """What is not shown: a type, a widget. `kind` tells refusals apart, each is told once."""

    kind: str
    reason: str

    @property
    def text(self) -> str:
        """What is told of it."""
        what = _NAMED.get(self.kind) or f"Output of type {self.kind}"
        return f"{visible(what)[:120]} is not shown: {self.reason}."


@dataclass(frozen=True)
class Contained:
    """A contained bundle."""

    data: MimeBundle
    metadata: dict[str, Any]
    refused: tuple[Refusal, ...] = ()


def contain_bundle(
    data: Any,
    metadata: Any,
    policy: Policy,
    cell_charts: CellCharts | None = None,
    display: str | None = None,
    is_update: bool = False,
) -> Contained:
    """The bundle as a page may have it; always with something to show if it had anything.

    Arguments:
        cell_charts: counts what the cell's charts store, and makes pictures of too many.
        display: the display's id, if it has one.
        is_update: it replaces what that display shows.
    """
    if policy.trusts:
        return Contained(data, metadata)
    data = data if isinstance(data, dict) else {}
    metadata = metadata if isinstance(metadata, dict) else {}
    if HTML in data and WIDGET in data and policy.widget_packages <= CORE_WIDGETS:
        # No core widget has HTML beside it: it is for pages that don't open this one.
        data = {mime: value for mime, value in data.items() if mime != WIDGET}
    charts = contain_charts(data, metadata, policy)
    kept: MimeBundle = dict(charts.kept)
    refused = [Refusal(kind, reason) for kind, reason in charts.refused]
    plain = visible(as_text(data.get(PLAIN)))
    for mime, value in data.items():
        if mime in charts.settled:
            continue
        outcome = _contain_one(str(mime), value, plain, data, policy)
        if isinstance(outcome, Refusal):
            refused.append(outcome)
        else:
            kept.update(outcome)
    if data and not kept:
        names = ", ".join(visible(str(mime))[:60] for mime in list(data)[:8])
        kept[PLAIN] = f"[{names}: not shown]"
    if cell_charts is not None:
        kept = cell_charts.fit(kept, charts.source, display, is_update)
    told = {**_contain_metadata(metadata, kept), **charts.metadata}
    return Contained(kept, told, tuple(refused))


def contain_html(source: str, policy: Policy, plain: str = "", static: str = "") -> str:
    """HTML as a page may have it: as it is, sanitised, or in a frame."""
    source = _without_surrogates(source)
    if policy.html == "text":
        return html.escape(plain or visible(source))
    if policy.html == "sanitize":
        judged = judge(source)
        return judged.html or sanitized(source)
    judged = judge(source)
    if judged.fate is Fate.FOREIGN or (source and not judged.html):
        return framed(source, policy.hosts, plain, static)
    return judged.html


def _contain_one(
    mime: str, value: Any, plain: str, data: MimeBundle, policy: Policy
) -> MimeBundle | Refusal:
    if mime == PLAIN:
        return {PLAIN: plain}
    if mime in PICTURES:
        text = as_text(value)
        ok = _base64.match(text) is not None
        return {mime: text} if ok else Refusal(mime, "its data are not base64")
    if mime in JAVASCRIPT:
        return Refusal("javascript", "it would run in the notebook's page")
    if policy.html == "text":
        # It was asked for, so nothing is told of it.
        return {}
    if mime == HTML:
        return {HTML: contain_html(as_text(value), policy, plain, picture_of(data))}
    if mime == MARKDOWN:
        return _contain_markdown(as_text(value), plain, HTML in data, policy)
    if mime == LATEX:
        text = as_text(value)
        if is_safe_tex(text):
            return {LATEX: visible(text)}
        return Refusal(mime, "it holds commands that do more than set mathematics")
    if mime == SVG:
        return _contain_svg(as_text(value), HTML in data)
    if mime == JSON:
        return {JSON: all_visible(value)}
    if mime == TABLE:
        return {TABLE: all_visible(value)} if isinstance(value, dict) else Refusal(mime, _UNKNOWN)
    if mime == WIDGET:
        return _contain_widget_view(value)
    return Refusal(mime, _UNKNOWN)


_DRAWN = frozenset((TABLE, WIDGET))
_UNKNOWN = "what its renderer does in the page is not known"


def _contain_markdown(source: str, plain: str, has_html: bool, policy: Policy) -> MimeBundle:
    if markdown.is_inert(source):
        return {MARKDOWN: source}
    # Where there is HTML too, it says the same.
    if has_html:
        return {}
    return {HTML: contain_html(markdown.as_html(source), policy, plain)}


def _contain_svg(source: str, has_html: bool) -> MimeBundle:
    if is_plain(source) and is_still_svg(source):
        return {SVG: source}
    if has_html:
        return {}
    # As an image's source, SVG runs nothing and loads nothing, in any front end.
    packed = base64.b64encode(source.encode("utf-8", "replace")).decode("ascii")
    return {HTML: f'<img src="data:image/svg+xml;base64,{packed}">'}


def _contain_widget_view(value: Any) -> MimeBundle | Refusal:
    """Only which widget it is: what the widget holds is contained where it is opened."""
    model_id = value.get("model_id") if isinstance(value, dict) else None
    if not isinstance(model_id, str) or not _identifier.match(model_id):
        return Refusal(WIDGET, "it names no widget")
    versions = {
        name: value[name]
        for name in ("version_major", "version_minor")
        if isinstance(value.get(name), int)
    }
    return {WIDGET: {**versions, "model_id": model_id}}


def _contain_metadata(metadata: dict[str, Any], kept: MimeBundle) -> dict[str, Any]:
    """The metadata without what changes how a type is rendered."""
    contained: dict[str, Any] = {}
    for name, value in metadata.items():
        if not isinstance(name, str) or name in _RENDERING:
            continue
        if "/" not in name:
            contained[visible(name)] = all_visible(value)
        elif name in kept and name not in _DRAWN and isinstance(value, dict):
            contained[name] = _entries(value)
    return contained


def _entries(metadata: dict[str, Any]) -> dict[str, Any]:
    return {
        visible(str(name)): all_visible(value)
        for name, value in metadata.items()
        if name not in _RENDERING and isinstance(value, _RENDERED.get(name, object))
    }


def _without_surrogates(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
