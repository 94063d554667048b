"""`%agentbay ...`: what the verbs answer, the same for the kernel and the magics.

In: the words behind `%agentbay`, and the session manager. Out: a MIME bundle to display.
Verbs are answered here; nothing of theirs is sent to a sandbox.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass

from agentbay_kernel import __version__
from agentbay_kernel.errors import ConfigurationError
from agentbay_kernel.languages import LANGUAGES
from agentbay_kernel.sessions import SessionManager

MAGIC = "%agentbay"
CELL_MAGIC = "%%agentbay"

MimeBundle = dict[str, str]


@dataclass(frozen=True)
class VerbCell:
    """A cell that begins with `%agentbay` lines: the verbs, then the code that is left."""

    verbs: tuple[str, ...]
    rest: str


@dataclass(frozen=True)
class LanguageCell:
    """A cell whose first line is `%%agentbay LANGUAGE`; `code` is what stands below it.

    Tracebacks count lines from there, as they do below any of IPython's cell magics.
    """

    language: str
    code: str


def parse_cell(code: str) -> VerbCell | LanguageCell | None:
    """What a cell of an AgentBay kernel asks of us; None for plain code."""
    lines = code.splitlines(keepends=True)
    first = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    if first == len(lines):
        return None
    if _is(CELL_MAGIC, lines[first]):
        language = lines[first].strip().removeprefix(CELL_MAGIC).strip()
        return LanguageCell(language, "".join(lines[first + 1 :]))
    verbs: list[str] = []
    after = first
    for line in lines[first:]:
        if line.strip() and not _is(MAGIC, line):
            break
        if line.strip():
            verbs.append(line.strip().removeprefix(MAGIC).strip())
        after += 1
    if not verbs:
        return None
    return VerbCell(tuple(verbs), "".join(lines[after:]))


def _is(magic: str, line: str) -> bool:
    word, *_ = line.split(maxsplit=1) or [""]
    return word == magic


def run_verb(line: str, manager: SessionManager) -> MimeBundle:
    """Answer one verb.

    Arguments:
        line: the words behind `%agentbay`; none means `help`.

    Raises:
        ConfigurationError: there is no such verb.
    """
    verb, *rest = line.split() or ["help"]
    if verb not in VERBS:
        raise ConfigurationError(
            f"There is no verb {verb!r}. Use one of: {', '.join(sorted(VERBS))}."
        )
    if rest:
        raise ConfigurationError(f"`{MAGIC} {verb}` takes no arguments, but got: {' '.join(rest)}")
    return VERBS[verb](manager)


def _status(manager: SessionManager) -> MimeBundle:
    backend, settings = manager.backend, manager.settings
    rows = [("agentbay-kernel", __version__)]
    if backend is None:
        place = "local runtime on this machine" if settings.backend == "local" else "AgentBay"
        rows.append(("Place", f"{place} (not asked yet: no session was needed so far)"))
    else:
        rows.append(("Place", backend.place))
        if backend.is_local:
            rows.append(("Isolation", str(backend.isolation.get("summary", "unknown"))))
            rows += [("  confined", str(line)) for line in backend.isolation.get("confined", ())]
            lines = backend.isolation.get("not_confined", ())
            rows += [("  not confined", str(line)) for line in lines]
        elif backend.notice:
            rows.append(("Notice", backend.notice))
    sessions = manager.sessions()
    for live in sessions:
        age = f"{live.age_s / 60:.0f} min old"
        rows.append((f"Session {live.name!r}", f"{live.session.session_id}, {age}"))
        for language in LANGUAGES.values():
            execution = live.execution_in_use(language.name)
            how = "not used yet" if execution is None else f"{execution.kind} execution"
            if why_not := live.unbridged.get(language.name):
                how += f" ({why_not})"
            rows.append((f"  {language.display_name}", how))
    if not sessions:
        rows.append(("Sessions", "none: the next cell creates one"))
    limits = f"after {settings.idle_minutes} min without use, at most {settings.max_minutes} min"
    if backend is not None and not backend.releases_sessions:
        limits = "when this notebook's kernel ends"
    rows.append(("Released", limits))
    return _table(rows)


def _help(manager: SessionManager) -> MimeBundle:
    names = ", ".join(LANGUAGES)
    return _table(
        [
            (f"{MAGIC} status", "the sessions in use, where they live, how long they last"),
            (f"{MAGIC} help", "this table"),
            (f"{CELL_MAGIC} LANGUAGE", f"run the cell in that language of the session: {names}"),
        ]
    )


VERBS: dict[str, Callable[[SessionManager], MimeBundle]] = {"status": _status, "help": _help}


def _table(rows: list[tuple[str, str]]) -> MimeBundle:
    width = max(len(name) for name, _ in rows)
    text = "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
    cells = "".join(
        f'<tr><th style="text-align:left">{html.escape(name)}</th>'
        f'<td style="text-align:left">{html.escape(value)}</td></tr>'
        for name, value in rows
    )
    return {"text/plain": text, "text/html": f"<table>{cells}</table>"}
