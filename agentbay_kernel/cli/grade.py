"""`jupyter agentbay grade SUBMISSIONS --checks FILE`: grade submissions side by side.

A line for each submission as it ends; the table and the pages of evidence are written as it goes.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import warnings
from argparse import Namespace
from pathlib import Path

from agentbay_kernel.cli.parallel import Stopper, Table, in_parallel, sessions_at_once
from agentbay_kernel.config import load_settings
from agentbay_kernel.errors import ConfigurationError
from agentbay_kernel.grading import Grader, Report, find_submissions, load_checks
from agentbay_kernel.grading.report import TABLE, number
from agentbay_kernel.sessions.backend import open_backend

_LONGEST_TIMEOUT_S = 60
_LONGEST_NOTE = 200


def grade(options: Namespace) -> int:
    """Grade submissions; returns 0 if all have points, 1 if some must be graded again, 2 for
    invalid arguments."""
    if options.jobs < 1:
        return _usage(f"-j {options.jobs} is not a number of submissions. Use 1 or more.")
    if not 0 < options.timeout <= _LONGEST_TIMEOUT_S or not options.total_timeout > 0:
        return _usage("--timeout takes seconds from 0 to 60, --total-timeout more than 0.")
    output = Path(options.output_dir)
    files = [Path(it) for it in options.files]
    besides = [Path(options.checks), *files, output]
    sources = find_submissions([Path(it) for it in options.submissions], besides)
    if missing := [it.name for it in sources if not os.path.lexists(it.path)]:
        return _usage(f"There is no {', '.join(missing)}.")
    if not sources:
        return _usage("There are no submissions in " + ", ".join(options.submissions) + ".")
    try:
        checks = load_checks(Path(options.checks))
        contents = _read_files(files)
        seed = options.seed if options.seed is not None else secrets.token_hex(4)
        report = Report(output, checks, seed)
    except ConfigurationError as error:
        return _usage(str(error))
    # What is odd about a submission's file is for its row.
    warnings.filterwarnings("ignore", module="nbformat")
    logging.getLogger("traitlets").setLevel(logging.CRITICAL)
    settings = load_settings()
    # Nobody has read what was handed in. No cell needs a kernel in the sandbox.
    settings.untrusted, settings.execution = True, "direct"
    jobs, _ = sessions_at_once(settings, options.jobs)
    table = Table(
        ["submission", "status", "points", "seconds", "note"], [it.name for it in sources]
    )
    stopper = Stopper()
    again = 0
    with open_backend(settings) as place, stopper:
        if place.notice:
            print(place.notice, file=sys.stderr)
        grader = Grader(
            place.client,
            checks,
            timeout_s=options.timeout,
            total_s=options.total_timeout,
            seed=seed,
            files=contents,
        )
        with table, stopper.by(grader.stop):
            for result in in_parallel(grader.grade, sources, jobs, stopper, table.started):
                report.add(result)
                again += result.points is None
                points = number(result.points) or "-"
                table.add(
                    [
                        result.name,
                        result.status,
                        f"{points}/{number(result.out_of)}",
                        f"{result.seconds:.1f}",
                        result.note[:_LONGEST_NOTE],
                    ]
                )
    print(f"Written: {output / TABLE}. Seed: {seed}.")
    if stopper.interrupted:
        raise KeyboardInterrupt
    if again:
        print(
            f"jupyter agentbay grade: {again} must be graded again, because their sessions were "
            "lost. They have no points yet. Put them into a directory of their own, and grade that "
            "with another --output-dir.",
            file=sys.stderr,
        )
    return 1 if again else 0


def _read_files(paths: list[Path]) -> list[tuple[str, bytes]]:
    try:
        return [(path.name, path.read_bytes()) for path in paths]
    except OSError as error:
        raise ConfigurationError(f"--files: {error}.") from error


def _usage(problem: str) -> int:
    print(f"jupyter agentbay grade: {problem}", file=sys.stderr)
    return 2
