"""`jupyter agentbay run DIR... -j N`: many notebooks, each in its own kernel and session.

A line for each notebook as it ends. Ctrl-C ends all kernels, and what they have done is written.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agentbay_kernel.cli.parallel import Stopper, Table, in_parallel, sessions_at_once
from agentbay_kernel.cli.run import Progress, execute, language_of, read, write
from agentbay_kernel.containment.text import one_line
from agentbay_kernel.errors import AgentBayError, QuotaError

PASSED, FAILED, UNREADABLE, STOPPED = "passed", "failed", "unreadable", "stopped"
_EXECUTED = ".executed"
_LONGEST_ERROR = 200


@dataclass(frozen=True)
class Row:
    """What became of one notebook."""

    name: str
    status: str
    cells: str
    seconds: float
    error: str = ""


def run_many(options: Namespace) -> int:
    """Execute notebooks; returns 0 if all passed, 1 if any failed, 2 for invalid arguments."""
    if options.jobs < 1:
        return _usage(f"-j {options.jobs} is not a number of notebooks. Use 1 or more.")
    if options.output:
        return _usage("--output is for one notebook. Use --output-dir DIR.")
    output = Path(options.output_dir).resolve() if options.output_dir else None
    sources = find_notebooks([Path(it) for it in options.notebooks], output)
    if not sources:
        return _usage("There are no notebooks in " + ", ".join(options.notebooks) + ".")
    root = Path(os.path.commonpath([path.parent for path in sources]))
    names = [path.relative_to(root).as_posix() for path in sources]
    table = Table(["notebook", "status", "cells", "seconds", "first error"], names)

    from agentbay_kernel.config import load_settings
    from agentbay_kernel.sessions.backend import open_backend

    settings = load_settings()
    jobs, most_sessions = sessions_at_once(settings, options.jobs)
    stopper = Stopper()
    with open_backend(settings) as place, stopper:
        environment = {**os.environ, **place.environment, "AGENTBAY_MAX_SESSIONS": most_sessions}
        if options.untrusted:
            environment["AGENTBAY_UNTRUSTED"] = "1"

        def work(item: tuple[Path, str]) -> Row:
            source, name = item
            if output is not None:
                target = output / name
            elif options.inplace:
                target = source
            else:
                target = source.with_name(f"{source.stem}{_EXECUTED}.ipynb")
            return _run_one(source, name, target, environment, options, stopper)

        rows = []
        with table:
            pairs = list(zip(sources, names, strict=True))
            for row in in_parallel(work, pairs, jobs, stopper, table.started):
                rows.append(row)
                seconds = f"{row.seconds:.1f}"
                table.add([row.name, row.status, row.cells, seconds, row.error])
    failed = sum(row.status != PASSED for row in rows)
    print(f"{len(rows) - failed} of {len(sources)} passed.")
    if lacking := sum(row.error.startswith(QuotaError.__name__) for row in rows):
        print(
            f"jupyter agentbay run: {lacking} notebook{'s' * (lacking != 1)} had no session: the "
            f"account allows fewer than {jobs}. Run them again with a smaller -j.",
            file=sys.stderr,
        )
    if stopper.interrupted:
        raise KeyboardInterrupt
    return 1 if failed else 0


def _run_one(
    source: Path,
    name: str,
    target: Path,
    environment: dict[str, str],
    options: Namespace,
    stopper: Stopper,
) -> Row:
    started = time.monotonic()

    def row(status: str, progress: Progress | None = None, error: str = "") -> Row:
        cells = f"{progress.done}/{progress.total}" if progress is not None else "-"
        seconds = time.monotonic() - started
        return Row(name, status, cells, seconds, one_line(error)[:_LONGEST_ERROR])

    try:
        notebook = read(source)
        language = language_of(notebook, options.language)
    except AgentBayError as error:
        return row(UNREADABLE, error=str(error))
    progress = Progress(notebook)
    try:
        try:
            failure = execute(
                notebook,
                language,
                source.parent,
                environment,
                timeout=options.timeout,
                allow_errors=options.allow_errors,
                progress=progress,
                runs=stopper.run,
            )
        finally:
            target.parent.mkdir(parents=True, exist_ok=True)
            write(notebook, target)
    except asyncio.CancelledError:
        return row(STOPPED, progress)
    except (AgentBayError, OSError) as error:
        if stopper.stopped:
            # nbclient takes the end of its waiting for the kernel's.
            return row(STOPPED, progress)
        return row(FAILED, progress, str(error))
    if failure:
        return row(FAILED, progress, progress.first_error or failure)
    return row(PASSED, progress)


def find_notebooks(given: Sequence[Path], output: Path | None) -> list[Path]:
    """The notebooks that are named, and all in the directories that are, by full path.

    Executed ones, those in directories whose names start with a dot and those in the output's
    directory are left out of directories.
    """
    found: dict[Path, None] = {}
    for path in given:
        full = path.resolve()
        if not full.is_dir():
            found[full] = None
            continue
        for below in sorted(full.rglob("*.ipynb")):
            hidden = any(part.startswith(".") for part in below.relative_to(full).parts)
            is_output = output is not None and below.is_relative_to(output) and output != full
            if not hidden and not is_output and not below.stem.endswith(_EXECUTED):
                found[below] = None
    return list(found)


def _usage(problem: str) -> int:
    print(f"jupyter agentbay run: {problem}", file=sys.stderr)
    return 2
