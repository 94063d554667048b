"""The agent: one small process per session that starts and ends every other process of it.

In: frames on an inherited socket (four bytes of length, then JSON), each `{"id", "op", ...}`.
Out: one answer `{"id", "ok": value}` or `{"id", "error": {"errno", "message"}}` per frame, and
events `{"event": ...}` (a worker's line, a process's exit, a terminal's output). The end of the
socket is the end of the session: every process is killed. Standard library only, because inside
the sandbox there may be nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agentbay_kernel.sandbox import files, limits, metrics
from agentbay_kernel.sandbox.process_tree import adopt_orphans, kill_descendants, reap_orphans
from agentbay_kernel.sandbox.terminals import Terminals

OUTPUT_LIMIT = 16 * 1024 * 1024
# A background process keeps the pipes of `cmd &` open: its output is waited for this long.
OUTPUT_GRACE_S = 0.1
LOG_TAIL = 4096
LINE_LIMIT = 256 * 1024 * 1024

Operation = Callable[..., Awaitable[Any]]


class Worker:
    """A long-lived child: the Python kernel or the Node worker."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log
        self.control: asyncio.StreamWriter | None = None

    def log_tail(self) -> str:
        try:
            return self.log.read_bytes()[-LOG_TAIL:].decode("utf-8", "replace")
        except OSError:
            return ""


class Agent:
    """Answers the frames of one session.

    Arguments:
        sock: the socket to the local runtime.
        run: folder for sockets and logs of the workers.
        workspace: the session's working folder.
        owner: True when no PID namespace ends the session's processes, so that the agent must.
    """

    def __init__(self, sock: socket.socket, run: str, workspace: str, owner: bool) -> None:
        self._socket = sock
        self._run = Path(run)
        self._workspace = workspace
        self._owner = owner
        self.killed_for_memory: set[int] = set()
        self._envs: dict[str, str] = {}
        self._workers: dict[str, Worker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._write_lock = asyncio.Lock()
        # Where processes can't be listed, their groups are all that is known of them.
        self._leaders: set[int] = set()
        self._terminals = Terminals(self._emit, self._leaders)
        self._files = files.FileOperations(workspace)
        self._operations: dict[str, Operation] = {
            "hello": self._hello,
            "start": self._start,
            "line": self._line,
            "signal": self._signal,
            "shell": self._shell,
            "set_env": self._set_env,
            "get_env": self._get_env,
            "file": self._file,
            "metrics": self._metrics,
            "terminal": self._terminal,
        }

    async def serve(self) -> None:
        """Answer until the socket ends, then leave nothing running."""
        reader, self._writer = await asyncio.open_connection(sock=self._socket)
        try:
            while True:
                size = struct.unpack(">I", await reader.readexactly(4))[0]
                self._spawn(self._answer(json.loads(await reader.readexactly(size))))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            if self._owner:
                for leader in self._leaders:
                    _kill_group(leader)
                kill_descendants()

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, frame: dict[str, Any]) -> None:
        number = frame.pop("id")
        try:
            value = await self._operations[frame.pop("op")](**frame)
        except OSError as failure:
            error = {"errno": failure.errno or errno.EIO, "message": str(failure)}
            await self._emit({"id": number, "error": error})
        except Exception as failure:
            message = f"{type(failure).__name__}: {failure}"
            await self._emit({"id": number, "error": {"errno": -1, "message": message}})
        else:
            await self._emit({"id": number, "ok": value})

    async def _emit(self, frame: dict[str, Any]) -> None:
        async with self._write_lock:
            # Here, so that frames that wait are not in memory twice.
            data = json.dumps(frame).encode()
            self._writer.write(struct.pack(">I", len(data)) + data)
            await self._writer.drain()

    async def _hello(self) -> dict[str, Any]:
        return {"pid": os.getpid()}

    async def _start(
        self, name: str, argv: list[str], env: dict[str, str], files: dict[str, str], control: bool
    ) -> None:
        for file_name, text in files.items():
            path = self._run / file_name
            path.touch(mode=0o600)
            path.write_text(text)
        log = self._run / f"{name}.log"
        environment = {**os.environ, **env}
        fds: tuple[int, ...] = ()
        if control:
            their_in, our_out = os.pipe()
            our_in, their_out = os.pipe()
            fds = (their_in, their_out)
            environment["AGENTBAY_WORKER_FDS"] = f"{their_in},{their_out}"
        try:
            with log.open("wb") as sink:
                process = await asyncio.create_subprocess_exec(
                    *argv,
                    env=environment,
                    cwd=self._workspace,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    pass_fds=fds,
                    start_new_session=True,
                )
        finally:
            for fd in fds:
                os.close(fd)
        self._leaders.add(process.pid)
        worker = self._workers[name] = Worker(process, log)
        if control:
            await self._connect(name, worker, our_in, our_out)
        self._spawn(self._watch(name, worker))

    async def _connect(self, name: str, worker: Worker, read_fd: int, write_fd: int) -> None:
        loop = asyncio.get_running_loop()
        reader = await _reader(read_fd, limit=LINE_LIMIT)
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.streams.FlowControlMixin(), os.fdopen(write_fd, "wb")
        )
        worker.control = asyncio.StreamWriter(transport, protocol, None, loop)

        async def relay() -> None:
            while line := await reader.readline():
                await self._emit(
                    {
                        "event": "line",
                        "name": name,
                        "line": line.decode("utf-8", "replace"),
                    }
                )

        self._spawn(relay())

    async def _watch(self, name: str, worker: Worker) -> None:
        code = await worker.process.wait()
        if worker.control is not None:
            worker.control.close()
        await self._emit(
            {
                "event": "exit",
                "name": name,
                "code": code,
                "memory": worker.process.pid in self.killed_for_memory,
                "log": worker.log_tail(),
            }
        )

    async def _line(self, name: str, line: str) -> None:
        worker = self._workers.get(name)
        if worker is None or worker.control is None or worker.process.returncode is not None:
            raise ProcessLookupError(errno.ESRCH, f"no {name} worker")
        worker.control.write(line.encode() + b"\n")
        await worker.control.drain()

    async def _signal(self, name: str, signal: int) -> None:
        worker = self._workers.get(name)
        if worker is None or worker.process.returncode is not None:
            return
        # The group, or a child that the worker waits for would keep it blocked.
        os.killpg(worker.process.pid, signal)

    async def _shell(
        self, command: str, timeout_s: float, cwd: str | None, envs: dict[str, str]
    ) -> dict[str, Any]:
        # Pipes of our own: asyncio's would make the wait for the process one for its children.
        outputs = [os.pipe(), os.pipe()]
        captured = [bytearray(), bytearray()]
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
            )
        except BaseException:
            for read_end, _ in outputs:
                os.close(read_end)
            raise
        finally:
            for _, write_end in outputs:
                os.close(write_end)
        self._leaders.add(process.pid)
        readers = [
            asyncio.create_task(_capture(read_end, into))
            for (read_end, _), into in zip(outputs, captured, strict=True)
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
            "stdout": captured[0].decode("utf-8", "replace"),
            "stderr": captured[1].decode("utf-8", "replace"),
            "timed_out": timed_out,
        }

    async def _set_env(self, envs: dict[str, str]) -> None:
        self._envs.update(envs)

    async def _get_env(self, keys: list[str] | None) -> dict[str, str]:
        everything = {**os.environ, **self._envs}
        if keys is None:
            return everything
        return {key: everything[key] for key in keys if key in everything}

    async def _file(self, do: str, **arguments: Any) -> Any:
        return await self._files.do(do, arguments)

    async def _metrics(self) -> dict[str, Any]:
        return metrics.measure(self._workspace)

    async def _terminal(self, do: str, **arguments: Any) -> Any:
        if do == "create":
            arguments["cwd"] = arguments.get("cwd") or self._workspace
            arguments["envs"] = {**os.environ, **self._envs, **(arguments.get("envs") or {})}
        return await self._terminals.do(do, arguments)


async def _reader(fd: int, limit: int = 65536) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=limit)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb")
    )
    return reader


async def _capture(fd: int, into: bytearray) -> None:
    stream = await _reader(fd)
    while data := await stream.read(65536):
        into += data[: max(0, OUTPUT_LIMIT - len(into))]


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def main() -> None:
    """Serve the socket that the first argument names as a file descriptor.

    The second argument is JSON: {"run", "workspace", "owner", "uid", "limits"}.
    """
    options = json.loads(sys.argv[2])
    if options["uid"] is not None:
        # Only as root inside the namespaces: a uid of the session's own makes the limit on
        # processes hold, which root is exempt from.
        for folder in (options["workspace"], options["run"]):
            os.chown(folder, options["uid"], options["uid"])
        os.setgroups([])
        os.setresgid(*[options["uid"]] * 3)
        os.setresuid(*[options["uid"]] * 3)
    sock = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(sock.fileno(), False)
    os.chdir(options["workspace"])
    limits.apply(options["limits"])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A handler, because children would inherit that a signal is ignored.
        signal.signal(number, lambda *_: None)
    if sys.platform == "linux" and sys.version_info < (3, 12):
        # The default of 3.11 is a thread for each child, and threads count as processes.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            asyncio.set_child_watcher(asyncio.PidfdChildWatcher())

    async def serve() -> None:
        agent = Agent(sock, options["run"], options["workspace"], options["owner"])
        memory = options["limits"]["memory"]
        watch = asyncio.create_task(limits.watch_memory(memory, agent.killed_for_memory))
        orphans = None
        if options["owner"] and adopt_orphans():
            orphans = asyncio.create_task(reap_orphans())
        try:
            await agent.serve()
        finally:
            watch.cancel()
            if orphans is not None:
                orphans.cancel()

    asyncio.run(serve())
    # Children of a PID namespace end with its first process; no thread must hold up this one.
    os._exit(0)


if __name__ == "__main__":
    main()
