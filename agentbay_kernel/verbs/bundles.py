"""The output of commands: MIME bundles, each also as plain text.

They are made for display_data messages. Every text is escaped, and has only visible characters:
much of it comes from a sandbox or from the service.
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
    """Return names and their values as a table of two columns.

    Arguments:
        columns: names of the rows whose text has its own columns, made of spaces.
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
    """Return a table with a header and any number of columns."""
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
    """Return the value of a setting as users write it, numbers with commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "none"
    if isinstance(value, int | float):
        return f"{value:,g}" if isinstance(value, float) else f"{value:,}"
    return "none" if value in (None, "") else str(value)


def text(said: str) -> MimeBundle:
    """Return plain text, for example one line on what was done."""
    return {"text/plain": lines(said)}


def data(document: Mapping[str, Any]) -> MimeBundle:
    """Return data for a program to read, and their text."""
    return {
        "application/json": dict(document),
        "text/plain": json.dumps(document, indent=2, ensure_ascii=False),
    }
