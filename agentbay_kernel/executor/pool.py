"""SandboxExecutor: a `concurrent.futures.Executor` whose workers are sandboxes.

An item's way: `submit` packs the function and encodes the arguments -> the queue -> a worker
thread, which has one session, takes a chunk -> one call to the sandbox -> outcomes -> futures.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import itertools
import logging
import math
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from agentbay_kernel.config import AgentBaySettings, load_settings
from agentbay_kernel.containment.text import one_line
from agentbay_kernel.errors import (
    TRANSIENT_FAILURES,
    AgentBayError,
    ConfigurationError,
    NotAllowedError,
    QuotaError,
    RecipeError,
    SessionError,
    SessionLostError,
    SessionNotFoundError,
)
from agentbay_kernel.executor.channel import Arguments, Channel, Outcome, Sent, encode_arguments
from agentbay_kernel.executor.functions import Function, pack
from agentbay_kernel.executor.sessions import PoolSessions
from agentbay_kernel.service import find_credentials
from agentbay_kernel.service.endpoint import KEY_VARIABLE
from agentbay_kernel.sessions import LiveSession, Recipe, read_recipe
from agentbay_kernel.sessions.audit_log import AuditLog

T = TypeVar("T")

_log = logging.getLogger(__name__)

# What a chunk should take in the sandbox: a call costs some 10 ms, or 100 over a long distance.
_CHUNK_S = 0.4
# Near the end chunks get smaller, so that all workers end together, but not below this.
_SMALLEST_CHUNK_S = 0.1
_MOST_ITEMS = 2000
# Functions that are remembered though no item needs them.
_MOST_FUNCTIONS = 8
# Lines that are told of what sandboxes say.
_MOST_NOTES = 100
# How much an item counts in the estimate of the time that its function takes.
_NEWEST = 0.3
# Tries of an item whose session was lost, and tries to open a session.
_MOST_TRIES = 3
# An item that waits in one sandbox goes back so often, because others are free.
_MOST_RETURNS = 10
# How long the end waits for threads whose sessions are deleted already (seconds).
_END_S = 5.0

_pools: weakref.WeakSet[SandboxExecutor] = weakref.WeakSet()


@dataclass(eq=False)
class _Item:
    future: Future[Any]
    function: Function
    arguments: Arguments
    # It goes with so many of its kind; 0: as many as fit.
    chunksize: int = 0
    # It was in a chunk, so its future is running.
    running: bool = False
    tries: int = 0
    returns: int = 0

    def succeed(self, value: Any) -> None:
        """Set a result, unless there is an outcome already."""
        self._settle(lambda: self.future.set_result(value))

    def fail(self, error: BaseException) -> None:
        """Set an error, unless there is an outcome already."""
        self._settle(lambda: self.future.set_exception(error))

    def _settle(self, settle: Callable[[], None]) -> None:
        try:
            settle()
        except InvalidStateError:
            # It was cancelled or stopped meanwhile.
            return
        except BaseException:
            # Of a callback: it is not the worker that is to exit. The main thread may be.
            if threading.current_thread() is threading.main_thread():
                raise
            _log.exception("A callback of a future failed")


@dataclass(frozen=True)
class Plan:
    """What a pool would use; `print` shows it.

    Arguments:
        place: where the sessions would be created.
        sessions: how many at most.
        minutes: most minutes of all sessions together; each counts from its creation.
        expected_minutes: of all sessions together, if items and seconds were given.
        setup: the recipe that every session gets first.
    """

    place: str
    sessions: int
    minutes: float
    expected_minutes: float | None = None
    setup: str = ""

    def __str__(self) -> str:
        plural = "s" * (self.sessions != 1)
        lines = [
            f"At most {self.sessions} session{plural} at {self.place}.",
            f"At most {self.minutes:g} minutes of all sessions together.",
        ]
        if self.expected_minutes is not None:
            lines.append(f"About {self.expected_minutes:.1f} minutes for the items.")
        if self.setup:
            lines.append(f"Each session is set up by {self.setup}.")
        return "\n".join(lines)


class SandboxExecutor(Executor):
    """Runs functions in sandboxes: `submit`, `map`, `shutdown`, as every executor.

    Arguments:
        max_workers: most sessions at once; the setting `max_sessions` (3) if not given.
        setup: a recipe that every session gets first: the path of a TOML file, or a `Recipe`.
        timeout: seconds that one item may run; then it is stopped.
        retry: run an item again whose session was lost while it may have run. Otherwise its
            future raises `SessionLostError`.
        max_minutes: most minutes of all sessions together. When they are used up, running items
            are stopped and the others are not sent.
        prewarm: create the sessions now, not when the first items come.
        allow: names that a function may capture although they look like a key's.
        notify: called with each line that a person should see; prints to stderr if not given.

    Raises:
        TypeError, ValueError: a limit is no number, or not greater than 0, or infinite.
        ConfigurationError: a setting is invalid.
        RecipeError: the recipe is.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        setup: str | Path | Recipe | None = None,
        timeout: float | None = None,
        retry: bool = False,
        max_minutes: float | None = None,
        prewarm: bool = False,
        allow: Collection[str] = (),
        notify: Callable[[str], None] | None = None,
    ) -> None:
        settings = load_settings()
        if max_workers is None:
            max_workers = settings.max_sessions
        _check_limits(max_workers, timeout=timeout, max_minutes=max_minutes)
        # Items need no kernel in the sandbox.
        settings.execution = "direct"
        if "max_sessions" not in settings.sources:
            # Beside those of notebooks. A number that somebody configured is the ceiling.
            settings.max_sessions += max_workers
        if max_minutes is not None:
            # The service ends them then, whatever becomes of this process.
            settings.max_minutes = max(1, min(settings.max_minutes, math.ceil(max_minutes)))
        self._settings = settings
        self._audit = AuditLog(settings.audit_log) if settings.audit_log else None
        self._recipe = _recipe(setup, settings)
        self._max_workers, self._max_minutes = max_workers, max_minutes
        self._timeout, self._retry = timeout, retry
        self._allow = frozenset(allow)
        self._notify = notify or _print
        self._key = find_credentials().api_key or ""
        self._sessions = PoolSessions(settings, self._recipe, self._tell)

        # Guards all that follows.
        self._changed = threading.Condition()
        self._told: set[str] = set()
        self._notes = 0
        # A function that is sent again is the same as long as somebody knows it.
        self._functions: weakref.WeakValueDictionary[str, Function] = weakref.WeakValueDictionary()
        self._latest: deque[Function] = deque(maxlen=_MOST_FUNCTIONS)
        self._queue: deque[_Item] = deque()
        self._workers: set[_Worker] = set()
        # Lower than `max_workers` if the account allows fewer.
        self._ceiling = max_workers
        # Why sessions could not be created, until that is told.
        self._refusals: list[Exception] = []
        # Seconds that an item of a function takes.
        self._seconds: weakref.WeakKeyDictionary[Function, float] = weakref.WeakKeyDictionary()
        self._closing = False
        # Why everything was stopped; empty if it was not.
        self._stopped = ""
        self._ended = False
        _pools.add(self)
        if max_minutes is not None:
            threading.Thread(target=self._watch_minutes, daemon=True).start()
        if prewarm:
            with self._changed:
                self._start_workers(max_workers)

    @property
    def max_workers(self) -> int:
        """Most sessions at once."""
        return self._max_workers

    def plan(self, items: int | None = None, seconds: float | None = None) -> Plan:
        """Return what the pool would use. Nothing is created or sent.

        Arguments:
            items: how many there will be.
            seconds: that one of them takes.

        Returns:
            Sessions and minutes; `print` shows it.
        """
        sessions = self._max_workers if items is None else min(self._max_workers, items)
        minutes = float(sessions * self._settings.max_minutes)
        expected = items * seconds / 60 if items is not None and seconds is not None else None
        return Plan(
            _place(self._settings),
            sessions,
            minutes if self._max_minutes is None else min(minutes, self._max_minutes),
            expected,
            self._recipe.source if self._recipe else "",
        )

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run `fn(*args, **kwargs)` in a sandbox.

        The function and the arguments are taken as they are now.

        Arguments:
            fn: the function. cloudpickle sends it, with what it captures.
            args: its arguments, sent as data.
            kwargs: its named arguments, sent as data.

        Returns:
            A future. It raises the function's exception; a `RemoteError` if that is not one of
            Python's own; an `UnsupportedValueError` or a `NotAllowedError` if something can't be
            sent; a `SessionLostError` if the session was lost while it may have run; a
            `TimeoutError` after `timeout` seconds.

        Raises:
            RuntimeError: the pool was shut down.
        """
        item = self._item(self._packed(fn), args, kwargs)
        self._add([item])
        return item.future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        progress: bool | str = False,
        return_exceptions: bool = False,
    ) -> Iterator[T]:
        """Run `fn` on each item; yield the results in the order of the items.

        Arguments:
            fn: the function. cloudpickle sends it, with what it captures.
            iterables: the items; of several, the function gets one of each.
            timeout: seconds from now, after which `TimeoutError` is raised.
            chunksize: items that are sent together. Unless given, as many as take about half a
                second.
            buffersize: most items that are submitted and not yielded yet; all unless given.
            progress: show a progress bar; a string is its title.
            return_exceptions: yield the exception of an item in its place. Otherwise it is raised,
                and what was not sent is cancelled.

        Returns:
            An iterator of results.

        Raises:
            ValueError: a number is less than 1.
            TimeoutError: not all results are there in time.
        """
        for name, number in (("chunksize", chunksize), ("buffersize", buffersize)):
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1")
        ends_at = None if timeout is None else time.monotonic() + timeout
        function = self._packed(fn)
        rows = zip(*iterables, strict=False)

        def add(most: int | None) -> list[Future[T]]:
            few = itertools.islice(rows, most)
            items = [self._item(function, row, {}, chunksize or 0) for row in few]
            self._add(items)
            return [item.future for item in items]

        bar = _Bar(progress)
        futures = deque(add(buffersize))
        bar.count(futures, len(futures) if buffersize is None else None)

        def results() -> Iterator[T]:
            try:
                while futures:
                    left = None if ends_at is None else max(0.0, ends_at - time.monotonic())
                    future = futures[0]
                    error: BaseException | None
                    try:
                        error = future.exception(left)
                    except CancelledError as cancelled:
                        error = cancelled
                    if error is None:
                        outcome: Any = future.result()
                    elif return_exceptions:
                        outcome = error
                    else:
                        raise error
                    # Nothing here holds on to what was yielded.
                    del future, error
                    futures.popleft()
                    if buffersize is not None:
                        more = add(1)
                        bar.count(more)
                        futures.extend(more)
                    yield outcome
                    del outcome
                bar.complete()
            finally:
                for rest in futures:
                    rest.cancel()
                bar.close()

        return results()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the pool: no item is accepted any more, and the sessions are deleted.

        Arguments:
            wait: return when all items have ended and the sessions are deleted.
            cancel_futures: cancel what was not sent.
        """
        with self._changed:
            self._closing = True
            unsent = self._emptied() if cancel_futures else []
            self._changed.notify_all()
        self._cancel(unsent)
        if wait:
            with self._changed:
                # A callback of a future runs on a worker's thread, which can't wait for itself.
                while self._workers and not any(it.is_this_thread for it in self._workers):
                    self._changed.wait()
        self._end_if_idle()

    def stop(self) -> None:
        """End the pool at once: running items are stopped, others are cancelled. What is done is
        kept. `with` does it if its block is left by an exception, Ctrl-C included."""
        self._stop("the pool was stopped while it was in a sandbox")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.stop()
            return
        try:
            self.shutdown()
        except BaseException:
            self.stop()
            raise

    def _stop(self, why: str) -> None:
        with self._changed:
            self._closing = True
            self._stopped = self._stopped or why
            unsent = self._emptied()
            running = [item for worker in self._workers for item in worker.items]
            self._changed.notify_all()
        self._cancel(unsent)
        for item in running:
            item.fail(self._why_stopped(item))
        self._end()
        ends_at = time.monotonic() + _END_S
        with self._changed:
            while self._workers and (left := ends_at - time.monotonic()) > 0:
                self._changed.wait(left)

    def _end_if_idle(self) -> None:
        with self._changed:
            idle = self._closing and not self._workers
        if idle:
            self._end()

    def _end(self) -> None:
        with self._changed:
            ended, self._ended = self._ended, True
            self._changed.notify_all()
        if not ended:
            self._sessions.close()

    def _emptied(self) -> list[_Item]:
        """What was in the queue, which is empty now."""
        items, self._queue = list(self._queue), deque()
        return items

    def _cancel(self, items: Iterable[_Item]) -> None:
        for item in items:
            if item.running:
                # It was handed back by a sandbox. A future that runs can't be cancelled.
                item.fail(self._why_stopped(item))
            elif item.future.cancel():
                # Whoever waits for several futures is told by this alone.
                item.future.set_running_or_notify_cancel()

    def _why_stopped(self, item: _Item) -> SessionError:
        why = self._stopped or "the pool was shut down"
        return SessionError(f"{item.function.name} has no result: {why}.")

    def _packed(self, function: Callable[..., Any]) -> Function | AgentBayError:
        try:
            made = pack(function, self._allow, self._key)
        except AgentBayError as error:
            return error
        if made.captured:
            self._tell(f"{made.name} is sent with {', '.join(made.captured)}.")
        with self._changed:
            made = self._functions.setdefault(made.id, made)
            self._latest.append(made)
        return made

    def _item(
        self,
        function: Function | AgentBayError,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        chunksize: int = 0,
    ) -> _Item:
        """An item. One that can't be sent has its outcome already."""
        try:
            if not isinstance(function, Function):
                # Of its own: an error that is raised for many futures collects their tracebacks.
                raise copy.copy(function)
            try:
                arguments = encode_arguments(args, kwargs, self._settings.exchange_limit, self._key)
            except NotAllowedError:
                raise NotAllowedError(
                    f"The arguments of {function.name} hold {KEY_VARIABLE}, so they were not "
                    "sent: the key enters no sandbox."
                ) from None
        except AgentBayError as error:
            item = _Item(Future(), Function("", "", b"", ()), Arguments(""))
            item.future.set_running_or_notify_cancel()
            item.future.set_exception(error)
            return item
        for note in arguments.notes:
            self._tell(f"{function.name}: {note}.")
        return _Item(Future(), function, arguments, chunksize)

    def _add(self, items: list[_Item]) -> None:
        with self._changed:
            if self._closing:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._queue.extend(item for item in items if not item.future.done())
            self._start_workers(len(self._queue))
            self._changed.notify_all()

    def _start_workers(self, items: int) -> None:
        """Start what is needed for so many items, besides those that have none."""
        free = sum(not worker.items for worker in self._workers)
        for _ in range(min(items - free, self._ceiling - len(self._workers))):
            worker = _Worker(self)
            self._workers.add(worker)
            threading.Thread(target=worker.run, name="agentbay-pool", daemon=True).start()

    def _tell(self, line: str) -> None:
        """Say something once."""
        with self._changed:
            if line in self._told:
                return
            self._told.add(line)
        try:
            self._notify(f"AgentBay: {one_line(line)}")
        except Exception:
            # A worker has items to settle, whatever becomes of a line.
            _log.exception("notify failed")

    def _watch_minutes(self) -> None:
        assert self._max_minutes is not None
        why = f"the pool has used its {self._max_minutes:g} minutes of sessions (max_minutes)"
        while (left := self._max_minutes * 60 - self._sessions.used_s) > 0:
            with self._changed:
                if self._ended:
                    return
                # With one more session, the time comes earlier.
                self._changed.wait(min(1.0, left / max(1, len(self._workers))))
        with self._changed:
            unsent = self._emptied()
            self._stopped = self._stopped or why
        for item in unsent:
            if item.running or item.future.set_running_or_notify_cancel():
                item.fail(SessionError(f"{item.function.name} was not sent: {why}."))
        self._stop(why)

    # What workers call.

    def _wait_for_work(self) -> bool:
        """Wait until there is something to take; return False at the end of the pool."""
        with self._changed:
            while not self._queue and not self._closing:
                self._changed.wait()
            return bool(self._queue)

    def _take(self, worker: _Worker, room: int) -> list[_Item]:
        """The items of the next chunk, maybe none. They can't be cancelled any more.

        Arguments:
            room: characters of arguments that fit into a chunk.
        """
        taken: list[_Item] = []
        with self._changed:
            budget, most = _CHUNK_S, _MOST_ITEMS
            while self._queue and len(taken) < most:
                item = self._queue[0]
                seconds = self._seconds.get(item.function)
                room -= len(item.arguments.text)
                if taken and (
                    room < 0
                    or item.chunksize != taken[0].chunksize
                    or (not item.chunksize and (seconds is None or seconds > budget))
                ):
                    break
                self._queue.popleft()
                if not item.running and not item.future.set_running_or_notify_cancel():
                    continue
                item.running = True
                taken.append(item)
                if item.chunksize:
                    most = min(most, item.chunksize)
                elif seconds is None:
                    # Nothing is known of its time, so others don't wait behind it.
                    break
                else:
                    budget -= seconds
                    if len(taken) == 1 and (others := len(self._workers) - 1):
                        share = len(self._queue) // (2 * others) + 1
                        least = _SMALLEST_CHUNK_S / max(seconds, 1e-6)
                        most = min(most, max(share, math.ceil(least)))
            worker.items = dict.fromkeys(taken)
        return taken

    def _others_wait(self) -> bool:
        """Is there a worker without an item, and no item for it?"""
        with self._changed:
            return not self._queue and any(one.is_free for one in self._workers)

    def _put_back(self, worker: _Worker, items: list[_Item]) -> None:
        """These were not begun, or may run again: anybody may take them."""
        with self._changed:
            for item in items:
                worker.items.pop(item, None)
            unwanted = items if self._stopped else []
            if not self._stopped:
                self._queue.extendleft(reversed(items))
            self._changed.notify_all()
        for item in unwanted:
            item.fail(self._why_stopped(item))

    def _settle(self, worker: _Worker, item: _Item, outcome: Outcome) -> None:
        with self._changed:
            worker.items.pop(item, None)
            if outcome.seconds is not None:
                known = self._seconds.get(item.function, outcome.seconds)
                self._seconds[item.function] = known + _NEWEST * (outcome.seconds - known)
        for note in outcome.notes:
            line = f"{item.function.name}: {note}."
            with self._changed:
                self._notes += line not in self._told
                if self._notes > _MOST_NOTES:
                    # Sandboxes choose what they say.
                    break
            self._tell(line)
        if outcome.error is not None:
            item.fail(outcome.error)
        else:
            item.succeed(outcome.value)

    def _lose(self, worker: _Worker, error: Exception, *, sent: bool) -> None:
        """The session of these items is lost.

        Arguments:
            sent: they may have run, and nobody knows.
        """
        again = []
        for item in list(worker.items):
            item.tries += 1
            if (self._retry or not sent) and item.tries < _MOST_TRIES:
                again.append(item)
                continue
            name, why = item.function.name, one_line(str(error))
            if not sent:
                failure: AgentBayError = SessionError(
                    f"{name} was not sent, in {item.tries} tries: {why}"
                )
            else:
                advice = "" if self._retry else " With retry=True it would be run again."
                failure = SessionLostError(
                    f"{name} may have run, and its result is lost. {why}{advice}"
                )
            self._settle(worker, item, Outcome(error=failure))
        self._put_back(worker, again)

    def _leave(self, worker: _Worker, failure: Exception | None) -> None:
        """A worker ends; with a failure, because it can't have a session."""
        failed: list[_Item] = []
        with self._changed:
            self._workers.discard(worker)
            if failure is not None and not self._stopped:
                self._refusals.append(failure)
                if isinstance(failure, QuotaError):
                    self._ceiling = max(1, len(self._workers))
                if not self._workers:
                    failed = self._emptied()
                    self._ceiling, self._refusals = self._max_workers, []
            elif self._queue:
                # What was put back while this one was leaving.
                self._start_workers(len(self._queue))
            self._changed.notify_all()
        for item in failed:
            assert failure is not None
            if item.running or item.future.set_running_or_notify_cancel():
                item.fail(copy.copy(failure))
        self._tell_if_fewer()
        self._end_if_idle()

    def _tell_if_fewer(self) -> None:
        """Say how many sessions there are, when it is known, if they are fewer than wanted."""
        with self._changed:
            got = len(self._workers)
            if not self._refusals or not all(one.has_session for one in self._workers):
                return
            refusals, self._refusals = self._refusals, []
        self._tell(
            f"{len(refusals)} of {got + len(refusals)} sessions could not be created. The pool "
            f"continues with {got}. {str(refusals[0]).splitlines()[0]}"
        )


class _Worker:
    """A thread with one session."""

    def __init__(self, pool: SandboxExecutor) -> None:
        self._pool = pool
        # In order; changed under the pool's lock.
        self.items: dict[_Item, None] = {}
        self._live: LiveSession | None = None
        self._channel: Channel | None = None
        self._numbers = itertools.count(1)
        self._thread = 0

    @property
    def is_this_thread(self) -> bool:
        """Does it run on the calling thread?"""
        return self._thread == threading.get_ident()

    @property
    def has_session(self) -> bool:
        """Has it a session that is ready?"""
        return self._channel is not None

    @property
    def is_free(self) -> bool:
        """Could it run something at once?"""
        return self.has_session and not self.items

    def run(self) -> None:
        """Take chunks until the pool ends."""
        failure: Exception | None = None
        self._thread = threading.get_ident()
        try:
            self._open()
            while self._pool._wait_for_work():
                channel = self._channel or self._open()
                if self._pool._take(self, channel.room):
                    self._run_chunk(channel)
        except Exception as error:
            failure = error
            for item in list(self.items):
                self._pool._settle(self, item, Outcome(error=copy.copy(error)))
        finally:
            self._end_session()
            self._pool._leave(self, failure)

    def _run_chunk(self, channel: Channel) -> None:
        pool = self._pool
        items = {next(self._numbers): item for item in self.items}
        sent = [Sent(number, item.function, item.arguments) for number, item in items.items()]
        try:
            outcomes = channel.run(sent, lambda: bool(pool._stopped), pool._others_wait)
            for one, outcome in outcomes:
                item = items[one.number]
                if outcome is None:
                    item.returns += 1
                    if item.returns <= _MOST_RETURNS:
                        pool._put_back(self, [item])
                        continue
                    # Who says so may lie, and run it each time.
                    why = f"{item.function.name} was handed back {_MOST_RETURNS} times."
                    pool._settle(self, item, Outcome(error=SessionLostError(why)))
                else:
                    pool._settle(self, item, outcome)
        except SessionNotFoundError as error:
            self._end_session()
            pool._lose(self, error, sent=isinstance(error, SessionLostError))
        except AgentBayError as error:
            # The sandbox is not what it should be; others may be.
            self._end_session()
            for item in list(self.items):
                pool._settle(self, item, Outcome(error=copy.copy(error)))

    def _open(self) -> Channel:
        pool = self._pool
        for number in itertools.count(1):
            try:
                self._live = pool._sessions.open()
                settings = pool._settings
                self._channel = Channel(
                    self._live.session, settings.exchange_limit, pool._timeout, pool._audit
                )
                break
            except (*TRANSIENT_FAILURES, SessionNotFoundError):
                self._end_session()
                if number >= _MOST_TRIES or pool._stopped:
                    raise
        assert self._channel is not None
        pool._tell_if_fewer()
        return self._channel

    def _end_session(self) -> None:
        live, self._live, self._channel = self._live, None, None
        if live is not None:
            self._pool._sessions.end(live)


class _Bar:
    """A progress bar, or nothing.

    Arguments:
        wanted: whether; a string is the title.

    Raises:
        ConfigurationError: tqdm is not installed.
    """

    def __init__(self, wanted: bool | str) -> None:
        self._bar: Any = None
        if wanted is False:
            return
        try:
            from tqdm.auto import tqdm
        except ImportError:
            raise ConfigurationError(
                "progress needs tqdm, which is not installed: pip install tqdm"
            ) from None
        self._bar = tqdm(desc=wanted if isinstance(wanted, str) else None)
        self._counted = 0

    def count(self, futures: Iterable[Future[Any]], total: int | None = None) -> None:
        """Count these when they end.

        Arguments:
            total: how many there will be, if that is known.
        """
        if self._bar is not None:
            self._bar.total = total
            for future in futures:
                self._counted += 1
                future.add_done_callback(lambda _: self._bar.update())

    def complete(self) -> None:
        """All that are counted have ended. A future may say so later than it gives its result."""
        if self._bar is not None:
            self._bar.n = self._counted
            self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def _check_limits(max_workers: Any, **limits: Any) -> None:
    """Look at the numbers that a pool was given.

    Raises:
        TypeError, ValueError: one is no number, or not greater than 0, or infinite.
    """
    if not isinstance(max_workers, int) or isinstance(max_workers, bool):
        raise TypeError(f"max_workers must be a whole number, not {max_workers!r}")
    for name, limit in limits.items():
        if limit is not None and (not isinstance(limit, int | float) or isinstance(limit, bool)):
            raise TypeError(f"{name} must be a number, not {limit!r}")
    for name, limit in {"max_workers": max_workers, **limits}.items():
        if limit is not None and not 0 < limit < math.inf:
            raise ValueError(f"{name} must be greater than 0, and not infinite")


def _recipe(setup: str | Path | Recipe | None, settings: AgentBaySettings) -> Recipe | None:
    if isinstance(setup, str | Path):
        path = Path(setup)
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path} can't be read: {error}.") from error
        setup = read_recipe(text, path.absolute().parent, path.name, settings.setup_env)
    return setup.without_this_machine() if setup and settings.untrusted else setup or None


def _place(settings: AgentBaySettings) -> str:
    endpoint = find_credentials().endpoint
    if settings.backend == "local" and not endpoint.is_loopback:
        return "a local runtime on this machine"
    return endpoint.url


def _print(line: str) -> None:
    # A program without a terminal loses the line, and no item.
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


# The sessions are the parent's; a child that ends must not delete them.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)


@atexit.register
def _stop_all() -> None:
    for pool in list(_pools):
        pool.stop()
