"""MIME bundles: what is shown of an output, type by type.

`TYPES` is the table: each row has types, how they are shown, and why. A type without a row is not
passed on. The types that a page gets unchanged are text, raster images, HTML that was sanitised or
framed here, and data that were rebuilt from an allow list.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agentbay_kernel.containment import markdown
from agentbay_kernel.containment.chart_frames import CellCharts, contain_charts, picture_of
from agentbay_kernel.containment.frame import framed
from agentbay_kernel.containment.markup import (
    Fate,
    as_safe_html,
    can_be_sanitized,
    judge,
    sanitized,
)
from agentbay_kernel.containment.policy import CORE_WIDGETS, Policy
from agentbay_kernel.containment.svg import judge_svg
from agentbay_kernel.containment.tex import is_inert_tex, is_safe_tex
from agentbay_kernel.containment.text import (
    UNSAFE_NAMES,
    all_visible,
    as_text,
    excess,
    one_line,
    shortened,
    visible,
)

MimeBundle = dict[str, Any]

PLAIN, HTML, MARKDOWN, LATEX = "text/plain", "text/html", "text/markdown", "text/latex"
SVG, JSON = "image/svg+xml", "application/json"
PICTURES = frozenset(f"image/{kind}" for kind in ("png", "jpeg", "gif", "webp", "bmp"))
WIDGET = "application/vnd.jupyter.widget-view+json"
TABLE = "application/vnd.dataresource+json"

_base64 = re.compile(r"[A-Za-z0-9+/\s]*+(?:={1,2}\s*+)?+\Z", re.A)
_identifier = re.compile(r"[\w-]{1,100}\Z", re.A)
# `isolated` puts an output into a frame that has the page's own rights.
_RENDERING = UNSAFE_NAMES | {"isolated", "embed_options"}
# The metadata that JupyterLab's renderers read, and their types.
_RENDERED: dict[str, Any] = {
    "width": (int, float),
    "height": (int, float),
    "unconfined": bool,
    "needs_background": bool,
    "expanded": bool,
    "root": str,
    "alt": str,
}


_MB = 1_000_000
# Data with more values than this keep a page busy.
_MOST_VALUES = 1_000_000
# JupyterLab may show a tree of data unfolded up to this number of values.
_MOST_UNFOLDED = 2_000
# Metadata only need a few words about the output.
_MOST_METADATA_BYTES, _MOST_METADATA_VALUES = _MB, 10_000
# A bundle has few types, with names that RFC 6838 keeps short.
_MOST_TYPES, _LONGEST_TYPE = 100, 255

_NAMED = {
    "javascript": "JavaScript output",
    "widget": "A widget",
    "metadata": "The metadata of an output",
    "types": "A part of an output",
    "code": "Code for the next cell",
}


@dataclass(frozen=True)
class Refusal:
    """A type or a widget that is not shown; each `kind` of refusal is reported once.

    `reason` is part of the note, without a full stop. `instead` is the text to show if the output
    has no other.
    """

    kind: str
    reason: str
    instead: str = ""

    @property
    def text(self) -> str:
        """The text of the note."""
        what = _NAMED.get(self.kind) or f"Output of type {self.kind}"
        return f"{one_line(what)[:120]} is not shown: {self.reason}."


@dataclass(frozen=True)
class Contained:
    """A contained bundle."""

    data: MimeBundle
    metadata: dict[str, Any]
    refused: tuple[Refusal, ...] = ()


@dataclass(frozen=True)
class _Output:
    """One type of an output, and the rest of the output."""

    mime: str
    value: Any
    # The output's plain text, visible; empty if it has none.
    plain: str
    data: MimeBundle
    policy: Policy

    @property
    def text(self) -> str:
        return as_text(self.value)


@dataclass(frozen=True)
class TypeRow:
    """A row of the table of types.

    Arguments:
        types: the types as the documentation writes them.
        shown: how they are shown.
        why: the reason.
        pattern: matches a whole type.
        contain: returns the contained output, or a refusal.
        in_text: whether the row also applies if `html` is `text`.
        most: bytes that a value may have; None if a longer text is shortened.
        most_values: number of values that its data may have.
    """

    types: str
    shown: str
    why: str
    pattern: re.Pattern[str] = field(repr=False)
    contain: Callable[[_Output], MimeBundle | Refusal] = field(repr=False)
    in_text: bool = False
    most: int | None = 20 * _MB
    most_values: int = _MOST_VALUES


def contain_bundle(
    data: Any,
    metadata: Any,
    policy: Policy,
    cell_charts: CellCharts | None = None,
    display: str | None = None,
    is_update: bool = False,
) -> Contained:
    """Return the bundle as a page may get it; it shows something if the output had anything.

    Arguments:
        cell_charts: counts the stored size of the cell's charts, and replaces charts that don't fit
            by pictures.
        display: the display's id, if it has one.
        is_update: whether it replaces the content of that display.
    """
    if policy.trusts:
        return Contained(data, metadata)
    data = data if isinstance(data, dict) else {}
    metadata = metadata if isinstance(metadata, dict) else {}
    data, metadata, refused = _bounded(data, metadata)
    if HTML in data and WIDGET in data and policy.widget_packages <= CORE_WIDGETS:
        # No core widget comes with HTML: that is for pages that don't open this widget.
        data = {mime: value for mime, value in data.items() if mime != WIDGET}
    charts = contain_charts(data, metadata, policy)
    kept: MimeBundle = dict(charts.kept)
    refused += [Refusal(kind, reason) for kind, reason in charts.refused]
    plain = _bounded_text(as_text(data.get(PLAIN)))
    for mime, value in data.items():
        if mime in charts.settled:
            continue
        outcome = _contain_one(_Output(str(mime), value, plain, data, policy))
        if isinstance(outcome, Refusal):
            refused.append(outcome)
        elif not (charts.kept and HTML in outcome):
            # HTML of another type does not replace a shown chart.
            kept.update(outcome)
    if data and not kept:
        told = "".join(refusal.instead for refusal in refused)
        names = ", ".join(one_line(str(mime))[:60] for mime in list(data)[:8])
        kept[PLAIN] = _bounded_text(told) if told else f"[{names}: not shown]"
    if cell_charts is not None:
        kept = cell_charts.fit(kept, charts.source, display, is_update)
    return Contained(kept, {**_contain_metadata(metadata, kept), **charts.metadata}, tuple(refused))


def contain_html(source: str, policy: Policy, plain: str = "", static: str = "") -> str:
    """Return HTML as a page may get it: unchanged, sanitised, or in a frame.

    `static` is inert HTML that is shown if the frame is taken out.
    """
    source = _without_surrogates(source)
    if policy.html == "text":
        return as_safe_html(plain or source)
    if policy.html == "sanitize":
        judged = judge(source)
        return judged.html or sanitized(source)
    judged = judge(source)
    if judged.fate is Fate.FOREIGN or (source and not judged.html):
        # If a frame is taken out, MathJax reads the text in it.
        return framed(source, policy.hosts, plain if is_safe_tex(plain) else "", static)
    return judged.html


def row_of(mime: str) -> TypeRow | None:
    """Return the row of a type; None if it has no row."""
    if len(mime) > _LONGEST_TYPE:
        return None
    return next((row for row in TYPES if row.pattern.fullmatch(mime)), None)


def _bounded(
    data: MimeBundle, metadata: dict[str, Any]
) -> tuple[MimeBundle, dict[str, Any], list[Refusal]]:
    """Return at most as many types as allowed, plain text among them, and limited metadata."""
    refused = []
    if len(data) > _MOST_TYPES:
        refused.append(Refusal("types", f"it has more than {_MOST_TYPES} types"))
        kept = [PLAIN, HTML, *itertools.islice(data, _MOST_TYPES)]
        data = {mime: data[mime] for mime in kept if mime in data}
    if reason := excess(metadata, _MOST_METADATA_BYTES, _MOST_METADATA_VALUES):
        refused.append(Refusal("metadata", reason))
        metadata = {}
    return data, metadata, refused


def _contain_one(output: _Output) -> MimeBundle | Refusal:
    row = row_of(output.mime)
    if output.policy.html == "text" and not (row is not None and row.in_text):
        # The setting requests it, so there is no note.
        return {}
    if row is None:
        return Refusal(output.mime, f"what its renderer does in the page is not known. {_DATA}")
    # Checked before anything reads it.
    if row.most is not None and (reason := excess(output.value, row.most, row.most_values)):
        return Refusal(output.mime, f"{reason}. {_DATA}")
    return row.contain(output)


_DATA = "Save it to a file and run `%agentbay download FILE`"


def _contain_plain(output: _Output) -> MimeBundle:
    return {PLAIN: output.plain}


def _bounded_text(text: str) -> str:
    # A character that is made visible takes up to nine characters.
    bounded = shortened(text)
    shown = visible(bounded)
    return shown if len(shown) == len(bounded) else shortened(shown)


def _contain_as_text(output: _Output) -> MimeBundle:
    """Return the text of a type that no front end draws harmlessly."""
    return {} if PLAIN in output.data else {PLAIN: _bounded_text(output.text)}


def _contain_picture(output: _Output) -> MimeBundle | Refusal:
    ok = _base64.match(output.text) is not None
    return {output.mime: output.text} if ok else Refusal(output.mime, "its data are not base64")


def _contain_media(output: _Output) -> MimeBundle | Refusal:
    if HTML in output.data:
        return {}
    text = "".join(output.text.split())
    if _base64.match(text) is None:
        return Refusal(output.mime, "its data are not base64")
    element = output.mime.partition("/")[0]
    return {HTML: f'<{element} controls src="data:{output.mime};base64,{text}"></{element}>'}


def _refuse_javascript(output: _Output) -> Refusal:
    framed_script = ". In a frame it runs: IPython.display.HTML('<script> … </script>')"
    hint = framed_script if output.policy.html == "contain" else ""
    return Refusal("javascript", f"it would run in the notebook's page{hint}")


def _refuse(reason: str, *, shows_source: bool = False) -> Callable[[_Output], Refusal]:
    def refuse(output: _Output) -> Refusal:
        return Refusal(output.mime, reason, output.text if shows_source else "")

    return refuse


def _contain_html(output: _Output) -> MimeBundle | Refusal:
    return _shown_as_html(output, output.text, picture_of(output.data))


def _shown_as_html(output: _Output, source: str, static: str = "") -> MimeBundle | Refusal:
    if output.policy.html == "sanitize" and not can_be_sanitized(source):
        reason = "it is too long, or nested too deeply, to be sanitised"
        return Refusal(output.mime, f"{reason}. {_DATA}", instead=output.text)
    return {HTML: contain_html(source, output.policy, output.plain, static)}


def _contain_latex(output: _Output) -> MimeBundle:
    source = visible(_without_surrogates(output.text))
    if is_inert_tex(source):
        return {LATEX: source}
    # A picture or a table beside it shows the same.
    others = set(output.data) - {PLAIN, LATEX}
    return {} if others else {HTML: as_safe_html(source)}


def _contain_json(output: _Output) -> MimeBundle:
    return {JSON: all_visible(output.value)}


_DRAWN = frozenset((TABLE, WIDGET))


def _contain_markdown(output: _Output) -> MimeBundle | Refusal:
    source = output.text
    if markdown.is_inert(source):
        return {MARKDOWN: source}
    # HTML beside it shows the same.
    if HTML in output.data:
        return {}
    return _shown_as_html(output, markdown.as_html(source))


def _contain_svg(output: _Output) -> MimeBundle | Refusal:
    judged = judge_svg(output.text)
    if judged.fate == "kept":
        return {SVG: judged.source}
    # HTML beside it shows the same.
    if HTML in output.data:
        return {}
    if judged.fate == "picture":
        return {HTML: judged.as_html}
    return Refusal(SVG, f"{judged.why}. {_DATA}, or show it as PNG")


# Fields of pandas' `table_schema` (Table Schema, `Field descriptors`).
_FIELD = frozenset(("name", "type", "title", "extDtype", "tz", "freq", "constraints", "format"))
_SCHEMA = frozenset(("primaryKey", "pandas_version", "missingValues"))


def _contain_table(output: _Output) -> MimeBundle | Refusal:
    """Return columns and rows of plain values, and nothing else."""
    value = output.value
    schema = value.get("schema") if isinstance(value, dict) else None
    rows = value.get("data") if isinstance(value, dict) else None
    fields = schema.get("fields") if isinstance(schema, dict) else None
    if not isinstance(schema, dict) or not isinstance(rows, list) or not isinstance(fields, list):
        return Refusal(TABLE, "it is no table")
    kept = {name: schema[name] for name in schema if name in _SCHEMA}
    kept["fields"] = [
        {name: one[name] for name in one if name in _FIELD}
        for one in fields
        if isinstance(one, dict)
    ]
    table = {
        "schema": {name: kept[name] for name in schema if name in kept},
        "data": [row for row in rows if isinstance(row, dict)],
    }
    return {TABLE: all_visible(table)}


def _contain_widget_view(output: _Output) -> MimeBundle | Refusal:
    """Return only the id of the widget: its content is contained when it is opened."""
    value = output.value
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
    """Return the metadata without entries that change how a type is rendered."""
    contained: dict[str, Any] = {}
    for name, value in metadata.items():
        if not isinstance(name, str) or name in _RENDERING:
            continue
        if "/" not in name:
            contained[one_line(name)] = all_visible(value)
        elif name in kept and name not in _DRAWN and isinstance(value, dict):
            contained[name] = _entries(value)
    if JSON in contained and excess(kept[JSON], _MB, _MOST_UNFOLDED):
        contained[JSON].pop("expanded", None)
    return contained


def _entries(metadata: dict[str, Any]) -> dict[str, Any]:
    return {
        visible(str(name)): all_visible(value)
        for name, value in metadata.items()
        if name not in _RENDERING and isinstance(value, _RENDERED.get(name, object))
    }


def _without_surrogates(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _types(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.A)


_MERMAID = "its drawing could act in the page. Draw it in the sandbox, as PNG or SVG"
_MAP = (
    "its map shows parts of the data as HTML, and loads tiles. IPython.display.JSON(data) shows "
    "the data"
)

# `chart_frames` handles charts before this table; any chart that is left is refused.
_CHART = _refuse("it is no chart that can be drawn")

# The first matching row applies.
TYPES: tuple[TypeRow, ...] = (
    TypeRow(
        "`text/plain`",
        "the text, controls and bidirectional overrides made visible",
        "A page shows it as text",
        _types(r"text/plain"),
        _contain_plain,
        in_text=True,
        most=None,
    ),
    TypeRow(
        "`image/png`, `image/jpeg`, `image/gif`, `image/webp`, `image/bmp`",
        "the picture, if its data are base64",
        "A raster image runs nothing and loads nothing",
        _types(*map(re.escape, sorted(PICTURES))),
        _contain_picture,
        in_text=True,
        most=60 * _MB,
    ),
    TypeRow(
        "`application/javascript`, `text/javascript`, `application/ecmascript` and their like",
        "a note",
        "It would run in the page",
        _types(r"(?:application|text)/(?:x-)?(?:javascript[\d.]*|ecmascript|jscript|livescript)"),
        _refuse_javascript,
        in_text=True,
    ),
    TypeRow(
        "`application/vnd.bokehjs_*`, `application/vnd.holoviews_*`",
        "the HTML beside it in a frame if it has its scripts with it, else a note",
        "They run scripts in the page",
        _types(r"application/vnd\.(?:bokehjs|holoviews)_[\w.+-]*"),
        _CHART,
    ),
    TypeRow(
        "`text/html`",
        "as it is, sanitised, or in a frame",
        "What acts, loads or styles the page has no place in it",
        _types(r"text/html"),
        _contain_html,
        # It may contain videos and pictures.
        most=30 * _MB,
    ),
    TypeRow(
        "`text/markdown`",
        "as it is if all readers show it alike, else as the HTML that it means",
        "Markdown holds HTML",
        _types(r"text/markdown"),
        _contain_markdown,
    ),
    TypeRow(
        "`text/latex`",
        "the formula; with commands that do more than set mathematics, its source",
        "MathJax has commands that link and style",
        _types(r"text/latex"),
        _contain_latex,
        most=_MB,
    ),
    TypeRow(
        "`image/svg+xml`",
        "as it is if it only draws, else as an `<img>`; a note if no browser should draw it",
        "Some front ends put SVG into their page as markup",
        _types(r"image/svg\+xml"),
        _contain_svg,
    ),
    TypeRow(
        "`application/json`",
        "the data; a note if they are nested deeper than 100 levels or hold over 1,000,000 values",
        "JupyterLab draws a tree of text",
        _types(r"application/json"),
        _contain_json,
    ),
    TypeRow(
        "`application/vnd.dataresource+json`",
        "the columns and rows, without what else it holds",
        "Its renderers draw a table of text",
        _types(re.escape(TABLE)),
        _contain_table,
    ),
    TypeRow(
        "`application/vnd.jupyter.widget-view+json`",
        "the widget, if it was opened",
        "What it holds is contained where it is opened",
        _types(re.escape(WIDGET)),
        _contain_widget_view,
    ),
    TypeRow(
        "`application/vnd.plotly.v1+json`",
        "the figure in a frame, with the scripts of the sandbox or of `[charts]`; else a note",
        "plotly makes HTML of labels and loads addresses",
        _types(r"application/vnd\.plotly\.v1\+json"),
        _CHART,
    ),
    TypeRow(
        "`application/vnd.vega.v*+json`, `application/vnd.vegalite.v*+json`",
        "the chart as data if every key and value is on a list, else in a frame, or a note",
        "Vega runs expressions and loads addresses",
        _types(r"application/vnd\.vega(?:lite)?\.v\d+(?:\+|\.)json"),
        _CHART,
    ),
    TypeRow(
        "`audio/wav`, `audio/mpeg`, `audio/ogg`, `audio/flac`, `video/mp4`, `video/webm`, "
        "`video/ogg`",
        "a player with the data in it",
        "A player runs nothing and loads nothing",
        _types(
            r"audio/(?:wav|x-wav|mpeg|mp4|aac|ogg|opus|flac|webm)", r"video/(?:mp4|webm|ogg|mpeg)"
        ),
        _contain_media,
        most=60 * _MB,
    ),
    TypeRow(
        "`application/geo+json`",
        "a note",
        "JupyterLab's map shows text of the data as HTML, and loads tiles",
        _types(r"application/geo\+json"),
        _refuse(_MAP),
    ),
    TypeRow(
        "`text/vnd.mermaid`",
        "its source and a note",
        "A diagram can hold links, scripts and addresses",
        _types(r"text/vnd\.mermaid"),
        _refuse(_MERMAID, shows_source=True),
    ),
    TypeRow(
        "`application/vnd.fasta.fasta`",
        "its source and a note",
        "Its viewer draws in the page, from data that it does not check",
        _types(r"application/vnd\.fasta\.fasta"),
        _refuse(f"what its viewer does in the page is not known. {_DATA}", shows_source=True),
    ),
    TypeRow(
        "`application/pdf`",
        "a note",
        "The browser's viewer runs what is in it",
        _types(r"application/pdf"),
        _refuse(f"the browser's viewer runs what is in it. {_DATA}"),
    ),
    TypeRow(
        "`application/vnd.jupyter.widget-state+json`",
        "a note",
        "It belongs to a notebook, not to an output",
        _types(r"application/vnd\.jupyter\.widget-state\+json"),
        _refuse("it is the state of widgets, which the page has from the widgets themselves"),
    ),
    TypeRow(
        "`application/vdom.v1+json`",
        "a note",
        "It holds elements and handlers",
        _types(r"application/vdom\.v1\+json"),
        _refuse("it makes elements of the page. IPython.display.HTML(…) shows them in a frame"),
    ),
    TypeRow(
        "other `text/*`, `application/x-latex`, `application/x-python-code`, `application/sql`, "
        "`application/xml`, `application/yaml`, `application/jsonl`, "
        "`application/vnd.jupyter.stdout`, `application/vnd.jupyter.stderr`, "
        "`application/vnd.jupyter.error`",
        "the text, if the output has no plain text",
        "Text is never more than text",
        _types(
            r"text/[a-z0-9][a-z0-9.+-]*",
            r"application/(?:x-latex|x-tex|x-python-code|x-sh|sql|xml|yaml|x-yaml|toml|jsonl)",
            r"application/(?:json-lines|vnd\.jupyter\.(?:stdout|stderr|error))",
        ),
        _contain_as_text,
        in_text=True,
        most=None,
    ),
)
# The description of types without a row.
OTHER_TYPES = (
    "every other type",
    "the plain text, and a note the first time",
    "What a renderer does with it is not known",
)
