"""The agent: one small process per session that starts and ends all its other processes.

- in: frames on an inherited socket (four bytes of length, then JSON), each
  `{"id", "op", "passes", "arguments"}`; `passes`: does a descriptor come with it?
- out: for each frame a response `{"id", "ok": value}` or
  `{"id", "error": {"errno", "message"}}`; and events `{"event": ...}` (a process's exit, a
  terminal's output). The text of a file operation comes before its response, in frames of a zero
  byte, the id in eight bytes, and a piece of the text: neither side has all of it in memory.

A worker, the process that runs cells, gets its own socket, which comes with the frame that starts
it: the output of cells never passes through the agent. When the agent's socket ends, the session
ends: every process is killed. Standard library only: the sandbox may have nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import warnings
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from agentbay_kernel.local.agent import files, metrics, operations
from agentbay_kernel.local.agent.identity import Identity
from agentbay_kernel.local.agent.process_tree import (
    adopt_orphans,
    kill_descendants,
    reap_orphans,
    watch_memory,
)
from agentbay_kernel.local.agent.terminals import Terminals
from agentbay_kernel.local.agent.workers import Worker

# Bytes at the start and at the end of each output of a command that are kept.
OUTPUT_LIMIT = 2 * 1024 * 1024
TAIL_LIMIT = 256 * 1024
# The local runtime takes no larger frame.
FRAME_LIMIT = 32 * 1024 * 1024
# How long to wait for the end of the output: a background process (`cmd &`) keeps the pipes open.
OUTPUT_GRACE_S = 0.1
CHUNK = 65536
# The first byte of a frame that is a piece of a text; JSON begins with another.
PART = b"\0"

Operation = Callable[..., Awaitable[Any]]
Waiting = tuple[dict[str, Any], deque[int]]


class Capture:
    """One output of a command: its start and its end are kept."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._left_out = 0

    async def read(self, fd: int) -> None:
        """Read the descriptor until it ends."""
        reader = asyncio.StreamReader(limit=CHUNK)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb")
        )
        while data := await reader.read(CHUNK):
            room = OUTPUT_LIMIT - len(self._head)
            self._head += data[:room]
            if len(data) > room:
                self._tail.append(data[room:])
                self._tail_size += len(data) - room
            while self._tail and self._tail_size - len(self._tail[0]) >= TAIL_LIMIT:
                dropped = len(self._tail.popleft())
                self._tail_size -= dropped
                self._left_out += dropped

    def text(self) -> str:
        """Return the output, with a note in place of what is left out."""
        parts: list[bytes | bytearray] = [self._head, *self._tail]
        if self._left_out:
            parts.insert(1, f"\n... {self._left_out:,} bytes are left out here ...\n".encode())
        return b"".join(parts).decode("utf-8", "replace")


class Agent:
    """Serves the calls of one session.

    Arguments:
        sock: the socket to the local runtime.
        run: directory for sockets and logs of the workers.
        workspace: the session's working directory.
        owner: whether the agent must end the session's processes, as no PID namespace does.
        identity: the users of agent and cells.
        weight: the open file for the nice value of the agent's group of processes.
    """

    def __init__(
        self,
        sock: socket.socket,
        run: str,
        workspace: str,
        owner: bool,
        identity: Identity,
        weight: int | None,
    ) -> None:
        self._weight = weight
        self._identity = identity
        self._socket = sock
        self._unread = bytearray()
        self._received_fds: deque[int] = deque()
        self._run = run
        self._workspace = workspace
        self._owner = owner
        self.killed_for_memory: set[int] = set()
        self._envs: dict[str, str] = {}
        self._workers: dict[str, Worker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._write_lock = asyncio.Lock()
        # Process groups to kill: not every system can list processes.
        self.leaders: set[int] = set()
        self._terminals = Terminals(self._emit, self.leaders, identity)
        self._files = files.FileOperations(workspace, functools.partial(operations.run, identity))
        self._operations: dict[str, Operation] = {
            "hello": self._hello,
            "start": self._start,
            "signal": self._signal,
            "shell": self._shell,
            "set_env": self._set_env,
            "get_env": self._get_env,
            "file": self._file,
            "metrics": self._metrics,
            "terminal": self._terminal,
            "kill_for_memory": self._kill_for_memory,
            "weigh": self._weigh,
        }

    async def serve(self, first: Worker, waiting: Waiting | None) -> None:
        """Serve until the socket ends, then leave nothing running.

        Arguments:
            first: the first worker.
            waiting: a frame that has been read, and the descriptors that came with it.
        """
        self._socket.setblocking(False)
        try:
            self._add_worker(first)
            if waiting is not None:
                frame, fds = waiting
                self._received_fds += fds
                self._dispatch(frame)
            while True:
                size = struct.unpack(">I", await self._read(4))[0]
                # A large frame's bytes are freed before its string, up to four times as large, is
                # parsed.
                frame = json.loads((await self._read(size)).decode("utf-8", "surrogatepass"))
                self._dispatch(frame)
                # Free it before the next one is read.
                del frame
        except (EOFError, ConnectionError):
            pass
        finally:
            if self._owner:
                for leader in self.leaders:
                    _kill_group(leader)
                kill_descendants()

    async def _read(self, size: int) -> bytearray:
        """Read that many bytes of the socket; store descriptors that come with them."""
        loop = asyncio.get_running_loop()
        while len(self._unread) < size:
            try:
                data, fds, _, _ = socket.recv_fds(self._socket, CHUNK, 4)
            except BlockingIOError:
                readable = asyncio.Event()
                loop.add_reader(self._socket, readable.set)
                try:
                    await readable.wait()
                finally:
                    loop.remove_reader(self._socket)
                continue
            if not data:
                raise EOFError
            self._received_fds += fds
            self._unread += data
        frame = self._unread
        # Copy the rest, which is short, and not the frame.
        self._unread = frame[size:]
        del frame[size:]
        return frame

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _dispatch(self, frame: dict[str, Any]) -> None:
        if frame["passes"]:
            frame["arguments"]["fd"] = self._received_fds.popleft()
        self._spawn(self._respond(frame["id"], self._call(frame)))

    async def _call(self, frame: dict[str, Any]) -> Any:
        operation, arguments = self._operations[frame["op"]], frame.pop("arguments")
        if operation == self._file:
            arguments["call"] = frame["id"]
        return await operation(**arguments)

    async def _respond(self, number: int, work: Awaitable[Any]) -> None:
        try:
            value = await work
        except OSError as failure:
            error = {"errno": failure.errno or errno.EIO, "message": str(failure)}
            await self._emit({"id": number, "error": error})
        except Exception as failure:
            message = f"{type(failure).__name__}: {failure}"
            await self._emit({"id": number, "error": {"errno": -1, "message": message}})
        else:
            await self._emit({"id": number, "ok": value})

    async def _emit(self, frame: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        async with self._write_lock:
            # With the lock, so that frames that wait are not in memory twice.
            data = json.dumps(frame, ensure_ascii=False).encode("utf-8", "surrogatepass")
            if len(data) > FRAME_LIMIT:
                message = f"the response is larger than {FRAME_LIMIT >> 20} MB"
                error = {"errno": errno.EFBIG, "message": message}
                data = json.dumps({"id": frame["id"], "error": error}).encode()
            with contextlib.suppress(ConnectionError):
                await loop.sock_sendall(self._socket, struct.pack(">I", len(data)))
                await loop.sock_sendall(self._socket, data)

    async def _send_piece(self, number: int, piece: bytes) -> None:
        """Send a piece of a call's text."""
        data = PART + struct.pack(">Q", number) + piece
        async with self._write_lock:
            with contextlib.suppress(ConnectionError):
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(self._socket, struct.pack(">I", len(data)) + data)

    async def _hello(self) -> dict[str, Any]:
        return {"pid": os.getpid()}

    async def _start(self, name: str, argv: list[str], fd: int) -> None:
        """Start a worker; `fd` is its socket."""
        worker = Worker(name, argv, fd, self._run, self._workspace, self._identity)
        self._add_worker(worker)
        await self._emit({"event": "started", "name": name, "pid": worker.pid})

    def _add_worker(self, worker: Worker) -> None:
        self.leaders.add(worker.pid)
        self._workers[worker.name] = worker
        self._spawn(self._watch(worker))

    async def _watch(self, worker: Worker) -> None:
        code = await _ended(worker)
        await self._emit(
            {
                "event": "exit",
                "name": worker.name,
                "code": code,
                "memory": worker.pid in self.killed_for_memory,
                "log": worker.log_tail(),
            }
        )

    async def _signal(self, name: str, signal: int) -> None:
        worker = self._workers.get(name)
        if worker is None or worker.code is not None:
            return
        # The whole group: a child that the worker waits for would keep it blocked.
        os.killpg(worker.pid, signal)

    async def _shell(
        self, name: str, command: str, timeout_s: float, cwd: str | None, envs: dict[str, str]
    ) -> dict[str, Any]:
        # With asyncio's own pipes, the wait for the process would be one for its children too.
        outputs = [os.pipe(), os.pipe()]
        captured = [Capture(), Capture()]
        try:
            process = await asyncio.create_subprocess_exec(
                "bash",
                "-c",
                command,
                env={**os.environ, **self._envs, **envs},
                cwd=cwd or self._workspace,
                stdin=subprocess.DEVNULL,
                stdout=outputs[0][1],
                stderr=outputs[1][1],
                start_new_session=True,
                **self._identity.popen_arguments,
            )
        except BaseException:
            for read_end, _ in outputs:
                os.close(read_end)
            raise
        finally:
            for _, write_end in outputs:
                os.close(write_end)
        self.leaders.add(process.pid)
        await self._emit({"event": "started", "name": name, "pid": process.pid})
        readers = [
            asyncio.create_task(capture.read(read_end))
            for (read_end, _), capture in zip(outputs, captured, strict=True)
        ]
        timed_out = False
        try:
            await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            timed_out = True
            _kill_group(process.pid)
            await process.wait()
        await asyncio.wait(readers, timeout=OUTPUT_GRACE_S)
        for reader in readers:
            self._tasks.add(reader)
            reader.add_done_callback(self._tasks.discard)
        return {
            "exit_code": process.returncode,
            "stdout": captured[0].text(),
            "stderr": captured[1].text(),
            "timed_out": timed_out,
        }

    async def _set_env(self, envs: dict[str, str]) -> None:
        self._envs.update(envs)

    async def _get_env(self, keys: list[str] | None) -> dict[str, str]:
        everything = {**os.environ, **self._envs}
        if keys is None:
            return everything
        return {key: everything[key] for key in keys if key in everything}

    async def _file(
        self, call: int, do: str, arguments: dict[str, Any], fd: int | None = None
    ) -> Any:
        loop = asyncio.get_running_loop()

        def take(piece: bytes) -> None:
            # Wait until it is sent, so that a slow reader slows down the operation.
            asyncio.run_coroutine_threadsafe(self._send_piece(call, piece), loop).result()

        try:
            return await self._files.do(do, arguments, take, fd)
        finally:
            if fd is not None:
                os.close(fd)

    async def _weigh(self, nice: int) -> None:
        if self._weight is None:
            raise OSError(errno.ENOSYS, "groups of processes have no weight on this system")
        os.write(self._weight, str(nice).encode())

    async def _kill_for_memory(self, pid: int) -> None:
        self.killed_for_memory.add(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    async def _metrics(self) -> dict[str, Any]:
        return metrics.measure(self._workspace)

    async def _terminal(self, do: str, arguments: dict[str, Any]) -> Any:
        if do == "create":
            arguments["cwd"] = arguments.get("cwd") or self._workspace
            arguments["envs"] = {**os.environ, **self._envs, **(arguments.get("envs") or {})}
        return await self._terminals.do(do, arguments)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


async def _ended(worker: Worker) -> int:
    """Wait until a worker has ended; return its exit code."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    try:
        fd = os.pidfd_open(worker.pid)
    except (AttributeError, OSError):
        # macOS. Only there, because a thread counts as a process.
        return await loop.run_in_executor(None, worker.wait)
    loop.add_reader(fd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
    return worker.wait()


def serve(
    sock: socket.socket,
    options: dict[str, str],
    identity: Identity,
    weight: int | None,
    first_worker: Worker,
    waiting: Waiting | None,
) -> None:
    """Serve the socket's calls until it ends, then end this process. See `idle.serve`."""
    # File operations fork while other threads run; the child uses nothing that needs their locks.
    warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
    if sys.platform == "linux" and sys.version_info < (3, 12):
        # Python 3.11 by default uses a thread for each child, and a thread counts as a process.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            asyncio.set_child_watcher(asyncio.PidfdChildWatcher())

    async def run() -> None:
        owner, first = bool(options["owner"]), os.getpid() == 1
        agent = Agent(sock, options["run"], options["workspace"], owner, identity, weight)
        tasks = []
        if owner:
            # Nothing outside can tell the session's processes from others.
            tasks.append(watch_memory(int(options["memory"]), agent.killed_for_memory))
        if first or (owner and adopt_orphans()):
            tasks.append(reap_orphans(agent.leaders))
        running = [asyncio.create_task(task) for task in tasks]
        try:
            await agent.serve(first_worker, waiting)
        finally:
            for task in running:
                task.cancel()

    asyncio.run(run())
    # Processes of a PID namespace end with its first one, which must not wait for its threads.
    os._exit(0)
