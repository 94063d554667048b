"""What verbs show: MIME bundles, each with a plain-text twin.

In: rows, data, text. Out: a bundle for a display_data message. Every text is escaped, and holds
only what is seen: much of it comes from a sandbox or from the service.
"""

from __future__ import annotations

import html
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from agentbay_kernel.containment.text import lines, one_line

MimeBundle = dict[str, Any]

_CELL = 'style="text-align:left;vertical-align:top;white-space:pre-wrap"'
_NAME = 'style="text-align:left;vertical-align:top;white-space:pre"'
_COLUMNS = 'style="text-align:left;vertical-align:top;white-space:pre-wrap;font-family:monospace"'


def table(rows: Iterable[tuple[str, str]], columns: Container[str] = ()) -> MimeBundle:
    """Names and what is to be said of each, as two columns.

    Arguments:
        columns: names of the rows whose text stands in columns of its own, made of spaces.
    """
    pairs = [(one_line(name), lines(value)) for name, value in rows]
    width = max((len(name) for name, _ in pairs), default=0)
    shown = []
    for name, value in pairs:
        first, *others = value.split("\n")
        shown += [f"{name:<{width}}  {first}".rstrip()]
        shown += [f"{'':<{width}}  {other}" for other in others]
    cells = "".join(
        f"<tr><th {_NAME}>{html.escape(name)}</th>"
        f"<td {_COLUMNS if name in columns else _CELL}>{html.escape(value)}</td></tr>"
        for name, value in pairs
    )
    return {"text/plain": "\n".join(shown), "text/html": f"<table>{cells}</table>"}


def grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> MimeBundle:
    """A table with a header and any number of columns."""
    header = [one_line(text) for text in header]
    body = [[one_line(text) for text in row] for row in rows]
    widths = [max(len(row[column]) for row in [header, *body]) for column in range(len(header))]
    shown = [
        "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *body]
    ]
    head = "".join(f"<th {_CELL}>{html.escape(text)}</th>" for text in header)
    cells = "".join(
        "<tr>" + "".join(f"<td {_CELL}>{html.escape(text)}</td>" for text in row) + "</tr>"
        for row in body
    )
    return {
        "text/plain": "\n".join(shown),
        "text/html": f"<table><tr>{head}</tr>{cells}</table>",
    }


def shown_value(value: object) -> str:
    """The value of a setting as users write it, numbers with commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "none"
    if isinstance(value, int | float):
        return f"{value:,g}" if isinstance(value, float) else f"{value:,}"
    return "none" if value in (None, "") else str(value)


def text(said: str) -> MimeBundle:
    """Plain text, for example one line that says what was done."""
    return {"text/plain": lines(said)}


def data(document: Mapping[str, Any]) -> MimeBundle:
    """Data for a program to read, and its text."""
    return {
        "application/json": dict(document),
        "text/plain": json.dumps(document, indent=2, ensure_ascii=False),
    }
