"""What a grading leaves: a table (CSV) and a page of evidence for each submission.

Everything on a page is text, escaped, and the page allows no script, no picture and no request: a
submission chose what stands there. In the table, no cell is a formula.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import html
import io
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agentbay_kernel.containment.text import lines, one_line
from agentbay_kernel.errors import ConfigurationError, NotebookError
from agentbay_kernel.grading.checks import Check
from agentbay_kernel.grading.grader import Grade, Verdict

TABLE, EVIDENCE = "grades.csv", "evidence"
# Those of the checks stand after the fourth.
_COLUMNS = ("submission", "status", "points", "out of", "seconds", "note", "evidence")
_LONGEST = 20_000
# A cell of the table that starts otherwise could be a formula. In many languages spreadsheets begin
# another cell behind each semicolon.
_FORMULA_START = re.compile(r"(^\s*|;\s*)(?=[^\w(./\s;])")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; } td, th { border: 1px solid #bbb; padding: .3em .6em;
text-align: left; vertical-align: top; } pre { background: #f4f4f4; padding: .6em; margin: .3em 0;
white-space: pre-wrap; overflow-wrap: anywhere; } .error { background: #fdecea; }
"""
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'"


class Report:
    """Writes grades into a directory, again after each one.

    What an earlier run has left there stays: its table gets another name, and new pages are written
    beside its own.

    Arguments:
        folder: the directory; it is made.
        checks: the columns of the table.
        seed: of the random inputs.

    Raises:
        ConfigurationError: a check has the name of another column.
    """

    def __init__(self, folder: Path, checks: Sequence[Check], seed: str) -> None:
        for check in checks:
            if check.name in _COLUMNS:
                raise ConfigurationError(
                    f"The table has another column {check.name!r}. Rename check_{check.name}."
                )
        self._folder = folder
        self._evidence = EVIDENCE
        self._checks = checks
        self._seed = seed
        self._grades: dict[str, Grade] = {}

    def _keep_earlier(self) -> None:
        """The table of an earlier run stays, under another name, and so do its pages: it may have
        other submissions."""
        number = 1
        while (self._folder / self._evidence).exists():
            number += 1
            self._evidence = f"{EVIDENCE}-{number}"
        table = self._folder / TABLE
        if not table.is_file():
            return
        number = 1
        while (kept := table.with_stem(f"{table.stem}-{number}")).exists():
            number += 1
        table.rename(kept)

    def add(self, grade: Grade) -> None:
        """Write a grade.

        Raises:
            NotebookError: it can't be written.
        """
        is_first = not self._grades
        # Its page has the rest, which is not kept in memory.
        self._grades[grade.name] = replace(grade, cells=())
        try:
            if is_first:
                self._keep_earlier()
            _write(self._folder / self._evidence / page_name(grade.name), page(grade, self._seed))
            _write(self._folder / TABLE, self._table())
        except OSError as error:
            raise NotebookError(
                f"{self._folder} can't be written: {error.strerror or error}."
            ) from error

    def _table(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text)
        names = [check.name for check in self._checks]
        writer.writerow([*_COLUMNS[:4], *names, *_COLUMNS[4:]])
        for name in sorted(self._grades):
            grade = self._grades[name]
            by_check = {it.check: it for it in grade.verdicts}
            is_final = grade.points is not None
            writer.writerow(
                [
                    _cell(name),
                    grade.status,
                    number(grade.points),
                    number(grade.out_of),
                    *(number(by_check[it].points if is_final else None) for it in names),
                    f"{grade.seconds:.1f}",
                    _cell(grade.note[:300]),
                    f"{self._evidence}/{page_name(name)}",
                ]
            )
        return text.getvalue()


def number(value: float | None) -> str:
    """Points in words; nothing where there are none."""
    return "" if value is None else f"{value:g}"


def page_name(name: str) -> str:
    """The file name of a submission's page: of its own, whatever it is called."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:60]
    return f"{plain}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}.html"


def page(grade: Grade, seed: str) -> str:
    """The evidence of one submission, as a page without anything active."""
    points = "none: grade it again" if grade.points is None else number(grade.points)
    rows = "".join(_verdict(it) for it in grade.verdicts)
    cells = "".join(
        f"<h3>Cell {at}</h3>{_block(cell.source)}"
        + _block(cell.stdout, "Printed")
        + _block(cell.stderr, "On stderr")
        + _block(cell.value, "Value")
        + _block(cell.error, "Error", "error")
        for at, cell in enumerate(grade.cells, 1)
    )
    name = _escaped(one_line(grade.name))
    return (
        "<!DOCTYPE html>\n"
        f'<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{name}</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>{name}</h1>\n"
        f"<p>{_escaped(grade.status)}. Points: {points} of {number(grade.out_of)}. "
        f"{grade.seconds:.1f} s. Seed: {_escaped(seed)}.</p>\n"
        f"{_block(grade.note)}"
        "<h2>Checks</h2>\n<table><tr><th>check</th><th>points</th><th>why not all</th>"
        f"<th>what was asked</th></tr>\n{rows}</table>\n"
        "<h2>The submission</h2>\n<p>What it printed is its own claim.</p>\n"
        f"{cells}</body></html>\n"
    )


def _verdict(verdict: Verdict) -> str:
    return (
        f"<tr><td>{_escaped(verdict.check)}</td>"
        f"<td>{number(verdict.points)} of {number(verdict.out_of)}</td>"
        f"<td>{_block(verdict.reason)}</td>"
        f"<td>{_block(chr(10).join(verdict.asked))}</td></tr>\n"
    )


def _block(text: str, title: str = "", kind: str = "") -> str:
    if not text:
        return ""
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\n[... {len(text):,} characters]"
    heading = f"<p>{title}:</p>" if title else ""
    mark = f' class="{kind}"' if kind else ""
    return f"{heading}<pre{mark}>{_escaped(lines(shown.expandtabs(4)))}</pre>"


def _escaped(text: str) -> str:
    return html.escape(text, quote=True)


def _cell(text: str) -> str:
    return _FORMULA_START.sub(r"\1'", one_line(text))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8", errors="replace")
    beside.replace(path)
