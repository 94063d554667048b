"""Grader: one submission after the other through its own session, on any number of threads.

Each submission is created a session, its cells run, its checks are judged here, and its session is
deleted. What went wrong on its own account costs it points; a session that is lost does not: its
row says to grade it again.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agentbay_kernel import threads
from agentbay_kernel.errors import (
    TRANSIENT_FAILURES,
    AgentBayError,
    CommandError,
    ExchangeError,
    NotebookError,
    QuotaError,
)
from agentbay_kernel.grading.checks import Check
from agentbay_kernel.grading.sources import Source
from agentbay_kernel.grading.submission import CellOutput, Submission, SubmissionError
from agentbay_kernel.service import AgentBay, CreateSessionParams, Session

GRADED, CELL_ERRORS, CRASHED, TIMEOUT = "graded", "cell errors", "crashed", "timeout"
UNREADABLE, AGAIN, STOPPED = "unreadable", "grade again", "stopped"
# What has points; the others have none, not zero.
FINAL = (GRADED, CELL_ERRORS, CRASHED, TIMEOUT, UNREADABLE)

# How long a free session slot is waited for while no submission of ours has one.
_SLOT_S = 120.0
# Minutes after which the service releases a session that a killed grader left.
_IDLE_MIN, _MARGIN_MIN = 5, 5
# What a check that computes here may take beyond the submission's own time.
_GRACE_S = 5.0


@dataclass(frozen=True)
class Verdict:
    """What a check gave: its points, why not all of them, and what was asked and got."""

    check: str
    points: float
    out_of: float
    reason: str = ""
    asked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grade:
    """What became of one submission. `points` is None where it is to be graded again."""

    name: str
    status: str
    points: float | None
    out_of: float
    seconds: float
    note: str = ""
    verdicts: tuple[Verdict, ...] = ()
    cells: tuple[CellOutput, ...] = ()


@dataclass
class _Attempt:
    """What is known of a submission while it is graded."""

    submission: Submission | None = None
    verdicts: list[Verdict] = field(default_factory=list)


class Grader:
    """Grades submissions. Thread-safe.

    Arguments:
        client: creates the sessions.
        checks: that each submission gets.
        timeout_s: seconds that a cell or a call may take, at most 60.
        total_s: seconds that one submission may take in all, once its session is ready.
        seed: of the random inputs.
        files: copied into each session first, by the path there.
    """

    def __init__(
        self,
        client: AgentBay,
        checks: Sequence[Check],
        *,
        timeout_s: float = 30,
        total_s: float = 300,
        seed: str = "",
        files: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        self._client = client
        self._checks = checks
        self._timeout_s, self._total_s = timeout_s, total_s
        self._seed = seed
        self._files = files
        self._live: set[Session] = set()
        self._freed = threading.Condition()
        self._stopped = False
        self.most_sessions = 0

    @property
    def out_of(self) -> float:
        """The points of all checks."""
        return sum(check.points for check in self._checks)

    def stop(self) -> None:
        """Delete the sessions; what is being graded ends soon, as stopped."""
        with self._freed:
            self._stopped = True
            live = list(self._live)
            self._freed.notify_all()
        for session in live:
            threads.start(lambda session=session: session.delete(wait=False))  # type: ignore[misc]

    def grade(self, source: Source) -> Grade:
        """Grade one submission; never raises for what a submission or the service does."""
        started = time.monotonic()
        attempt = _Attempt()

        def result(status: str, note: str = "") -> Grade:
            # A thread that is left behind may still add to it.
            verdicts, submission = list(attempt.verdicts), attempt.submission
            judged = {verdict.check for verdict in verdicts}
            if status in FINAL:
                verdicts += [
                    Verdict(check.name, 0, check.points, note)
                    for check in self._checks
                    if check.name not in judged
                ]
            return Grade(
                source.name,
                status,
                sum(it.points for it in verdicts) if status in FINAL else None,
                self.out_of,
                time.monotonic() - started,
                note,
                tuple(verdicts),
                tuple(submission.cells) if submission is not None else (),
            )

        try:
            cells, files = source.cells(), source.files()
        except (NotebookError, OSError) as error:
            return result(UNREADABLE, str(error))
        expired = False
        try:
            with self._session() as session:
                # Before any code of the submission: the time of this is not its own.
                try:
                    attempt.submission = submission = self._prepared(source.name, files, session)
                except NotebookError as error:
                    return result(UNREADABLE, str(error))
                graded = threads.start(lambda: self._judge(submission, cells, attempt.verdicts))
                try:
                    graded.result(self._total_s)
                except TimeoutError:
                    # Without a session, all of its calls fail; a check that computes is left.
                    expired = True
                    with contextlib.suppress(CommandError):
                        session.delete(wait=False)
                    with contextlib.suppress(AgentBayError, TimeoutError):
                        graded.result(_GRACE_S)
        except Exception as error:
            # Not the submission's doing, as far as is known: it must not cost it points.
            if self._stopped:
                return result(STOPPED)
            if not expired:
                return result(AGAIN, f"{type(error).__name__}: {error}")
        if self._stopped:
            return result(STOPPED)
        if expired:
            return result(TIMEOUT, f"It did not end within {self._total_s:g} s.")
        note = next(iter(submission.errors), "")
        if submission.timeouts:
            return result(TIMEOUT, note)
        if submission.has_died:
            return result(CRASHED, note)
        return result(CELL_ERRORS if submission.errors else GRADED, note)

    def _prepared(
        self, name: str, files: Sequence[tuple[Path, str]], session: Session
    ) -> Submission:
        """A submission in its session, before any of its code.

        Raises:
            NotebookError: its files can't be there.
            AgentBayError: the session can't be used.
        """
        for local, below in files:
            with _copying(session, f"Its file {below}"):
                session.files.upload(local, below)
        # Last: these are ours, also where the submission brought some of the same name.
        for path, content in self._files:
            with _copying(session, f"Beside its files, {path}"):
                session.files.write(path, content)
        submission = Submission(name, session, self._timeout_s, f"{self._seed}\n{name}")
        submission.prepare()
        return submission

    def _judge(self, submission: Submission, cells: Sequence[str], verdicts: list[Verdict]) -> None:
        submission.run_cells(cells)
        for check in self._checks:
            verdicts.append(_judge(check, submission))

    @contextlib.contextmanager
    def _session(self) -> Iterator[Session]:
        session = self._create()
        try:
            yield session
        finally:
            with contextlib.suppress(CommandError):
                session.delete(wait=False)
            with self._freed:
                self._live.discard(session)
                self._freed.notify_all()

    def _create(self) -> Session:
        gives_up_at = time.monotonic() + _SLOT_S
        minutes = int(self._total_s / 60) + _MARGIN_MIN
        params = CreateSessionParams(
            idle_release_timeout_min=_IDLE_MIN + minutes, max_runtime_min=_IDLE_MIN + 2 * minutes
        )
        while True:
            if self._stopped:
                raise QuotaError("The grader was stopped.")
            made = self._client.create(params)
            if made.session is not None:
                with self._freed:
                    self._live.add(made.session)
                    self.most_sessions = max(self.most_sessions, len(self._live))
                return made.session
            failure = made.failure or CommandError(made.error_message)
            if self._live:
                gives_up_at = time.monotonic() + _SLOT_S
            left_s = gives_up_at - time.monotonic()
            if not isinstance(failure, QuotaError) or left_s <= 0:
                raise failure
            # The account has fewer slots than were asked for: one of ours gets free.
            with self._freed:
                self._freed.wait(min(2.0, left_s))


@contextlib.contextmanager
def _copying(session: Session, what: str) -> Iterator[None]:
    """A file is copied; it is the submission's doing if the session refuses it and works.

    Raises:
        NotebookError: it is.
    """
    try:
        yield
    except TRANSIENT_FAILURES:
        raise
    except (CommandError, ExchangeError) as error:
        if session.get_status().success:
            raise NotebookError(f"{what} can't be copied into the sandbox: {error}") from error
        raise


def _judge(check: Check, submission: Submission) -> Verdict:
    """The points that a check gives.

    Raises:
        CommandError: the session is lost.
    """
    submission.begin_check(check.name)
    share, reason = 0.0, ""
    try:
        share = check.share(submission)
    except SubmissionError as error:
        reason = str(error)
    except CommandError:
        raise
    except AssertionError as error:
        reason = str(error) or "It is not what was expected."
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        # A value of a kind that the check does not expect; or the check is wrong. What pytest's
        # helpers raise is no `Exception`, nor is `SystemExit`.
        reason = f"The check failed: {type(error).__name__}: {error}"
    if not reason and share < 1:
        reason = f"{share:.0%} of it is right."
    points = round(check.points * share, 6)
    return Verdict(check.name, points, check.points, reason, tuple(submission.asked))
