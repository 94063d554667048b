"""`%agentbay top`: processes, files, metrics and variables of a session.

It does not wait for the code that runs in the session.
"""

from __future__ import annotations

import dataclasses
import re
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from agentbay_kernel.sessions import DEFAULT_SESSION
from agentbay_kernel.verbs.bundles import data, table
from agentbay_kernel.verbs.parser import LineParser, completed_by
from agentbay_kernel.verbs.verb import MimeBundle, Verb, VerbContext

if TYPE_CHECKING:
    from agentbay_kernel.sessions import SessionManager

_GIB = 1024**3
# The columns that `ps` prints before the command, and the directory of its program.
_PROCESS = re.compile(r"(\s*(?:\S+\s+){5})(?:/\S*/)?(.*)")
_WIDEST_LINE = 110


def _top(options: Namespace, manager: SessionManager, context: VerbContext) -> MimeBundle:
    seen = manager.top(options.name)
    if options.json:
        return data(dataclasses.asdict(seen))
    variables = "\n".join(
        f"{one.name}: {one.type}" + (f" ({one.shape.strip('()')})" if one.shape else "")
        for one in seen.variables
    )
    problems = seen.problems
    return table(
        [
            ("Session", seen.session_id),
            ("Metrics", problems.get("metrics") or _metrics(seen.metrics)),
            ("Variables", problems.get("variables") or variables or "none"),
            ("Files", problems.get("files") or seen.files.strip()),
            ("Processes", problems.get("processes") or _processes(seen.processes)),
        ],
        columns=("Files", "Processes"),
    )


def _processes(told: str) -> str:
    # A sandbox is a process too, whose arguments would fill a page.
    return "\n".join(_process(line) for line in told.strip("\n").splitlines())


def _process(line: str) -> str:
    shown = _PROCESS.sub(r"\1\2", line, count=1).rstrip()
    return shown if len(shown) <= _WIDEST_LINE else f"{shown[: _WIDEST_LINE - 2]} …"


def _metrics(told: dict[str, Any]) -> str:
    parts = []
    if isinstance(cpu := told.get("cpu_used_pct"), int | float):
        parts.append(f"CPU {cpu:.0f} % of {told.get('cpu_count', '?')}")
    for name, title in (("mem", "memory"), ("disk", "disk")):
        used, total = told.get(f"{name}_used"), told.get(f"{name}_total")
        if isinstance(used, int | float) and isinstance(total, int | float):
            parts.append(f"{title} {used / _GIB:.1f} of {total / _GIB:.1f} GiB")
    return ", ".join(parts) or "none reported by the service"


def _top_arguments(parser: LineParser) -> None:
    argument = parser.add_argument(
        "name", nargs="?", default=DEFAULT_SESSION, help="Name of the session (default: default)"
    )
    completed_by(argument, "session")
    parser.add_argument("--json", action="store_true", help="Show JSON")


TOP = Verb(
    "top",
    "Show processes, files, metrics and variables of a session, without waiting for running code",
    _top,
    _top_arguments,
    passes_cells=True,
    examples=("%agentbay top", "%agentbay top agent"),
)
