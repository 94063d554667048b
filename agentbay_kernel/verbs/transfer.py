"""`%agentbay upload` and `download`, and the exchange behind `--in` and `--out`.

Messages show the progress, then the result of the transfer. `local_files.py` defines which files of
this machine may be reached.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
import weakref
from argparse import Namespace
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import wait
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from agentbay_kernel import threads
from agentbay_kernel.execution.messages import Message
from agentbay_kernel.local_files import FROM_SANDBOX, path_asked_for, path_to_read
from agentbay_kernel.sessions.audit_log import AuditLog
from agentbay_kernel.verbs.bundles import MimeBundle, text
from agentbay_kernel.verbs.parser import LineParser, add_session_argument, completed_by
from agentbay_kernel.verbs.verb import Verb, VerbContext

if TYPE_CHECKING:
    from agentbay_kernel.exchange import Exchange, Progress, Reporter, Transferred
    from agentbay_kernel.sessions import LiveSession, SessionManager

T = TypeVar("T")

# A transfer that ends sooner shows no progress; later, progress is shown at this interval.
_PATIENCE_S = 1.0
_TOLD_EACH_S = 0.3

_exchanges: weakref.WeakKeyDictionary[LiveSession, Exchange] = weakref.WeakKeyDictionary()
_exchanges_lock = threading.Lock()


def exchange_of(live: LiveSession, limit: int, audit: AuditLog | None) -> Exchange:
    """Return the exchange of a session: only one each, since its transfers take turns.

    Arguments:
        limit: bytes that one transfer may have.
        audit: logs what is sent; None if there is no log.
    """
    # Most notebooks need none, and the modules take 2 MB of a kernel's memory.
    from agentbay_kernel.exchange import Exchange

    with _exchanges_lock:
        if live not in _exchanges:
            _exchanges[live] = Exchange(live.session, live.execution_of, limit, audit)
        return _exchanges[live]


class ProgressDisplay:
    """One display that is updated in place."""

    def __init__(self) -> None:
        self._id = uuid.uuid4().hex
        self.is_shown = False

    def say(self, bundle: MimeBundle) -> Message:
        """Return a message that shows the bundle in the display, in place of the previous one."""
        kind = "update_display_data" if self.is_shown else "display_data"
        self.is_shown = True
        content = {"data": bundle, "metadata": {}, "transient": {"display_id": self._id}}
        return Message(kind, content)


def watched(
    work: Callable[[Reporter], T], display: ProgressDisplay, stopped: threading.Event
) -> Generator[Message, None, T]:
    """Do the work on another thread; yield its progress if it takes a while.

    Arguments:
        work: gets the function to which it reports its progress.
        display: shows the progress.
        stopped: set if the reader has left; the work checks it.

    Returns:
        The result of the work.
    """
    told: queue.SimpleQueue[Progress] = queue.SimpleQueue()
    doing = threads.start(lambda: work(told.put))
    began_at = time.monotonic()
    try:
        wait([doing], _PATIENCE_S)
        while not doing.done():
            latest = None
            while not told.empty():
                latest = told.get()
            # After all bytes are sent, the other side still works: there is no more progress.
            if latest is not None and latest.done < latest.total:
                yield display.say(text(_progress_line(latest, time.monotonic() - began_at)))
            wait([doing], _TOLD_EACH_S)
    except BaseException:
        # An interrupt, or a reader that has left.
        stopped.set()
        raise
    return doing.result()


def _progress_line(progress: Progress, seconds: float) -> str:
    done, total = progress.done / 1e6, progress.total / 1e6
    rate = done / seconds if seconds else 0.0
    return f"{progress.what}: {done:.1f} of {total:.1f} MB ({rate:.1f} MB/s)"


def _upload(options: Namespace, manager: SessionManager, context: VerbContext) -> Iterator[Message]:
    path = path_to_read(context.folder, options.file)
    exchange = _open(options, manager, context)
    display = ProgressDisplay()
    brought = yield from watched(
        lambda report: exchange.upload(
            path,
            options.remote or "",
            force=options.force,
            progress=report,
            stopped=context.stopped,
        ),
        display,
        context.stopped,
    )
    yield display.say(text(_told(brought, "Uploaded", f"to {brought.path} in the sandbox")))


def _download(
    options: Namespace, manager: SessionManager, context: VerbContext
) -> Iterator[Message]:
    name = PurePosixPath(options.remote).name
    local = path_asked_for(context.folder, options.local or ".")
    if local == context.folder.resolve() or (options.local or "").endswith("/"):
        # The file or directory goes into it, so the path includes the name. A file also goes into
        # any other existing directory. A directory becomes that directory, so that a download can
        # continue.
        local = path_asked_for(context.folder, f"{options.local or '.'}/{name}")
    exchange = _open(options, manager, context)
    display = ProgressDisplay()
    brought = yield from watched(
        lambda report: exchange.download(
            options.remote,
            local,
            force=options.force,
            folder=context.folder.resolve(),
            endings=context.settings.download_endings,
            progress=report,
            stopped=context.stopped,
        ),
        display,
        context.stopped,
    )
    here = Path(brought.path).relative_to(context.folder.resolve())
    yield display.say(text(_told(brought, "Downloaded", f"to {here}")))


def _open(options: Namespace, manager: SessionManager, context: VerbContext) -> Exchange:
    from agentbay_kernel.sessions import DEFAULT_SESSION

    live = manager.open(options.session or DEFAULT_SESSION, context.language)
    return exchange_of(live, context.settings.exchange_limit, manager.store.audit)


def _told(brought: Transferred, done: str, where: str) -> str:
    files = "1 file" if brought.files == 1 else f"{brought.files:,} files"
    line = f"{done} {files}, {brought.size:,} bytes, {where}"
    if brought.unchanged and not brought.files:
        same = "1 file is" if brought.unchanged == 1 else f"{brought.unchanged:,} files are"
        line = f"{done} nothing {where}: {same} there already, with the same content"
    elif brought.unchanged:
        were = "1 was" if brought.unchanged == 1 else f"{brought.unchanged:,} were"
        line += f"; {were} there already, with the same content"
    return "\n".join([line, *map(str, brought.notes)])


def _transfer_arguments(parser: LineParser) -> None:
    add_session_argument(parser)
    parser.add_argument(
        "--force", action="store_true", help="Overwrite files that have other content"
    )


def _upload_arguments(parser: LineParser) -> None:
    completed_by(
        parser.add_argument(
            "file", metavar="FILE", help="File or directory below the notebook's directory"
        ),
        "file",
    )
    parser.add_argument(
        "remote",
        metavar="REMOTE",
        nargs="?",
        help="Path in the sandbox (default: its working directory)",
    )
    _transfer_arguments(parser)


def _download_arguments(parser: LineParser) -> None:
    parser.add_argument("remote", metavar="REMOTE", help="File or directory of the sandbox")
    completed_by(
        parser.add_argument(
            "local",
            metavar="LOCAL",
            nargs="?",
            help="Path below the notebook's directory (default: the directory itself). "
            f"Files that are not data, such as code and configuration, go below {FROM_SANDBOX}/",
        ),
        "file",
    )
    _transfer_arguments(parser)


UPLOAD = Verb(
    "upload",
    "Copy a file or directory from the notebook's directory into the sandbox",
    _upload,
    _upload_arguments,
    touches_machine=True,
    examples=(
        "%agentbay upload data.csv",
        "%agentbay upload images /tmp/images",
        "%agentbay upload data.csv --force -s second",
    ),
)
DOWNLOAD = Verb(
    "download",
    "Copy a file or directory from the sandbox into the notebook's directory",
    _download,
    _download_arguments,
    touches_machine=True,
    examples=("%agentbay download plot.png", "%agentbay download results/ new_results"),
)
