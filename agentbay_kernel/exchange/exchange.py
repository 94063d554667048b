"""Exchange: transfers values and files for one session.

Values go by name, files by path. The bytes are files in a private directory of the sandbox
(transfers). The sandbox's part runs where the user's variables are (jobs). So it works the same
with every execution, and nothing passes through a cell's output.
"""

from __future__ import annotations

import keyword
import re
import tempfile
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agentbay_kernel.errors import (
    MalformedValueError,
    TooLargeError,
    UnsupportedValueError,
)
from agentbay_kernel.exchange import download, upload
from agentbay_kernel.exchange.javascript import JavaScriptEncoder
from agentbay_kernel.exchange.jobs import Execution, JobRunner
from agentbay_kernel.exchange.reports import Count, Fetched, Note, Reporter, Transferred, raised
from agentbay_kernel.exchange.transfers import ByteTransfer, Source
from agentbay_kernel.execution.direct import DirectExecution
from agentbay_kernel.sandbox.exchange.arrow import has_pyarrow
from agentbay_kernel.sandbox.exchange.decoding import Decoder
from agentbay_kernel.sandbox.exchange.encoding import Encoder
from agentbay_kernel.sandbox.exchange.named import DECODERS, ENCODERS, decode_named, encode_named
from agentbay_kernel.sandbox.exchange.pieces import unpack
from agentbay_kernel.sandbox.exchange.values import ARROW_LACKS_HERE, ARROW_LACKS_THERE, Refused
from agentbay_kernel.service import Session
from agentbay_kernel.sessions.audit_log import AuditLog

LIMIT = 2_000_000_000
# Longer values go in files, and not in the job itself.
_MOST_WITH_JOB = 24_000
# JSON text takes several times its size in memory.
_MOST_TEXT = 256 * 1024 * 1024
_MOST_BLOBS = 1_000_000
_JAVASCRIPT_NAME = re.compile(r"[^\W\d][\w$]*|\$[\w$]*")


class Exchange:
    """Transfers values and files into one session's sandbox and out of it. Make one per session.

    Calls from several threads take turns. All methods block: call them off the event loop. If
    code runs in the session, they wait for it, as a cell does.

    Arguments:
        session: the session.
        execution_of: returns the execution of a language, as `LiveSession.execution_of` does;
            by default `run_code` runs the sandbox's part.
        limit: most bytes of one exchange (the setting `exchange_limit`).
        audit: gets a line for everything that is sent, before it is sent.
    """

    def __init__(
        self,
        session: Session,
        execution_of: Callable[[str], Execution] | None = None,
        limit: int = LIMIT,
        audit: AuditLog | None = None,
    ) -> None:
        self._transfer = ByteTransfer(session)
        self._session_id = session.session_id
        self._audit = audit
        if execution_of is None:
            direct = DirectExecution(session)
            execution_of = lambda language: direct  # noqa: E731
        self._jobs = JobRunner(self._transfer, execution_of)
        self._limit = limit
        self._turn = threading.Lock()
        self._remote_arrow = False

    def send(
        self,
        values: Mapping[str, Any],
        language: str = "python",
        *,
        progress: Reporter | None = None,
        stopped: threading.Event | None = None,
    ) -> list[Note]:
        """Set variables of the sandbox to these values.

        Arguments:
            values: the values, by their names in the sandbox.
            language: whose variables: `python` or `javascript`.
            progress: called as bytes arrive.
            stopped: set it to end the exchange early; no variable is set then.

        Returns:
            The differences in the sandbox, a line each.

        Raises:
            ExchangeError: a value can't be transferred. No variable was set.
            CommandError: the service failed.
        """
        _check_names(values, language)
        with self._turn, tempfile.TemporaryDirectory(prefix="agentbay-") as folder:
            kind = Encoder if language == "python" else JavaScriptEncoder
            encoder = kind(folder, self._limit, self._lacking_arrow, ENCODERS)
            try:
                text, told = encode_named(values.items(), encoder)
            except Refused as refusal:
                raise raised(refusal) from None
            self._check_text(len(text), ", ".join(values))
            job: dict[str, Any] = {"do": "load", "limit": self._limit}
            base = self._transfer.new_base()
            if encoder.blobs or len(text) > _MOST_WITH_JOB:
                source = Source([text, *map(Path, encoder.blobs)])
                if source.size > self._limit:
                    raise raised(
                        Refused("too large", f"has {source.size:,} bytes", ", ".join(values))
                    )
                self._note_sent(", ".join(values), source.size)
                done = Count(", ".join(values), source.size, progress)
                self._transfer.write_stream(
                    base, [(0, source.size)], source.read, done.add, stopped
                )
                job |= {"text": None, "sizes": source.sizes, "sha256": source.sha256()}
            else:
                self._note_sent(", ".join(values), len(text))
                job |= {"text": text.decode("ascii")}
            report = self._jobs.do(job, base, language, stopped)
        return [Note(*note) for note in told] + _notes(report)

    def _note_sent(self, name: str, size: int) -> None:
        """Log data of this machine that is about to be sent."""
        if self._audit is not None:
            self._audit.data(self._session_id, name, size)

    def fetch(
        self,
        names: Sequence[str],
        language: str = "python",
        *,
        progress: Reporter | None = None,
        stopped: threading.Event | None = None,
    ) -> Fetched:
        """Fetch variables of the sandbox.

        Arguments:
            names: the variables. Names, not expressions.
            language: whose variables: `python` or `javascript`.
            progress: called as bytes arrive.
            stopped: set it to end the exchange early.

        Returns:
            The values by name, and the differences from the values in the sandbox.

        Raises:
            MissingNameError: there is no such variable.
            MalformedValueError: the sandbox sent invalid data.
            ExchangeError: a value can't be transferred, or is too large.
            CommandError: the service failed.
        """
        _check_names(names, language)
        wanted = list(dict.fromkeys(names))
        job = {
            "do": "store",
            "names": wanted,
            "limit": self._limit,
            "arrow": has_pyarrow(),
            "numpy": find_spec("numpy") is not None,
        }
        with self._turn, tempfile.TemporaryDirectory(prefix="agentbay-") as folder:
            base = self._transfer.new_base()
            report = self._jobs.do(job, base, language, stopped)
            text, blobs = report.get("text"), 0
            try:
                if text is None:
                    sizes, sha256 = _told_sizes(report, self._limit), str(report.get("sha256"))
                    self._check_text(sizes[0], ", ".join(wanted))
                    done = Count(", ".join(wanted), sum(sizes), progress)
                    pieces = self._transfer.read_stream(f"{base}.pack", 0, sum(sizes), stopped)
                    text = unpack(done.through(pieces), folder, sizes, sha256)
                    blobs = len(sizes) - 1
                    self._transfer.remove(base)
                if not isinstance(text, str | bytes):
                    raise MalformedValueError("The sandbox sent no values; nothing is used.")
                decoder = Decoder(folder, blobs, self._limit, DECODERS)
                values, told = decode_named(text, decoder)
            except Refused as refusal:
                raise raised(refusal) from None
        if list(values) != wanted:
            raise MalformedValueError(
                f"The sandbox was asked for {', '.join(wanted)} and sent other names. Nothing is "
                "used."
            )
        return Fetched(values, _notes(report) + [Note(*note) for note in told])

    def upload(
        self,
        local: Path,
        remote: str = "",
        *,
        force: bool = False,
        progress: Reporter | None = None,
        stopped: threading.Event | None = None,
    ) -> Transferred:
        """Copy a file or a directory into the sandbox. After an interruption, it continues.

        Links and names that start with a dot are left out, with a note.

        Arguments:
            local: a path that the caller allows.
            remote: the path in the sandbox, relative to the working directory of its Python; by
                default the same name there. If it ends with `/`, the file or directory is put
                into it; a file is also put into a directory that exists. Otherwise it is the path
                of the file or directory itself, so a repeated call continues and does not nest.
            force: overwrite files that exist with another content.
            progress: called as bytes arrive.
            stopped: set it to end the transfer early; it can be continued.

        Returns:
            How many files and bytes were transferred, and where they are.

        Raises:
            TargetExistsError: files exist with another content. Nothing was changed.
            ExchangeError: it can't be done; the message names the reason.
            CommandError: the service failed.
        """
        with self._turn:
            return upload.upload(
                self._transfer,
                self._jobs,
                local,
                remote,
                force,
                self._limit,
                progress,
                stopped,
                self._note_sent,
            )

    def download(
        self,
        remote: str,
        local: Path,
        *,
        into: bool = False,
        force: bool = False,
        folder: Path | None = None,
        endings: Collection[str] = (),
        progress: Reporter | None = None,
        stopped: threading.Event | None = None,
    ) -> Transferred:
        """Copy a file or a directory out of the sandbox. After an interruption, it continues.

        Data is written at `local`, and nothing outside of it, whatever the sandbox sends. Every
        other file is written below `from-sandbox`, under the same path, with a note. Links, names
        that start with a dot and `__pycache__` are left out.

        Arguments:
            remote: the path in the sandbox, relative to the working directory of its Python.
            local: a path that the caller allows: that of the file or directory itself, so a
                repeated call continues and does not nest. A file is also put into a directory that
                exists.
            into: whether `local` is a directory that gets the file or directory under its own name.
            force: overwrite files that exist here with another content.
            folder: the directory that holds `local` and `from-sandbox`, resolved; by default that
                of `local`.
            endings: endings of names that are data too, for example `svg`.
            progress: called as bytes arrive.
            stopped: set it to end the transfer early; it can be continued.

        Returns:
            How many files and bytes were transferred, and where they are.

        Raises:
            TargetExistsError: files exist here with another content. Nothing was changed.
            NotAllowedError: one of the names is not allowed here.
            ExchangeError: it can't be done; the message names the reason.
            CommandError: the service failed.
        """
        with self._turn:
            return download.download(
                self._transfer,
                self._jobs,
                remote,
                download.Target(local, into, force, folder, endings),
                self._limit,
                progress,
                stopped,
            )

    def _lacking_arrow(self) -> str:
        if not has_pyarrow():
            return ARROW_LACKS_HERE
        # An installed pyarrow stays; a missing one may have been installed meanwhile.
        if not self._remote_arrow:
            report = self._jobs.do({"do": "probe"}, self._transfer.new_base())
            self._remote_arrow = report.get("pyarrow") is True
        return "" if self._remote_arrow else ARROW_LACKS_THERE

    def _check_text(self, size: int, names: str) -> None:
        most = min(self._limit, _MOST_TEXT)
        if size > most:
            raise TooLargeError(
                f"{names}: {size:,} bytes of JSON are more than {most:,}. Send numbers in "
                "an array, tables in a DataFrame."
            )


def _check_names(names: Iterable[str], language: str) -> None:
    for name in names:
        if language == "python":
            fits = isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)
        else:
            fits = isinstance(name, str) and bool(_JAVASCRIPT_NAME.fullmatch(name))
        if not fits:
            raise UnsupportedValueError(
                f"{name!r} is no name of a {language} variable. Nothing was brought: give names, "
                "not expressions."
            )


def _told_sizes(report: dict[str, Any], limit: int) -> list[int]:
    sizes = report.get("sizes")
    if (
        type(sizes) is not list
        or not 1 <= len(sizes) <= _MOST_BLOBS
        or any(type(size) is not int or size < 0 for size in sizes)
    ):
        raise MalformedValueError("The sandbox did not report how much it sends; nothing is used.")
    if sum(sizes) > limit:
        raise TooLargeError(
            f"The sandbox claims to send {sum(sizes):,} bytes, more than {limit:,}. Nothing was "
            "fetched; the setting exchange_limit sets the limit of one exchange."
        )
    return sizes


def _notes(report: dict[str, Any]) -> list[Note]:
    told = report.get("notes")
    pairs = told if isinstance(told, list) else []
    return [
        Note(str(pair[0])[:200], str(pair[1])[:500])
        for pair in pairs[:100]
        if isinstance(pair, list) and len(pair) == 2
    ]
