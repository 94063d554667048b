"""The Python of one session: an ipykernel that the session's agent starts, spoken to over zmq.

In: code and a timeout in seconds. Out: events as they happen. One run at a time; a run that
overruns is interrupted, then killed. A kernel that died is started again for the next run, whose
first event says that the variables are gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import signal
import time
from collections.abc import AsyncGenerator
from typing import Any

from agentbay_kernel.local.agent_client import AgentError
from agentbay_kernel.local.confinement import Confinement
from agentbay_kernel.local.events import (
    EngineError,
    Event,
    Failure,
    Finished,
    Result,
    Stream,
    died,
    killed,
    timed_out,
)
from agentbay_kernel.local.hiding import hiding

START_TIMEOUT_S = 60.0
# How long an interrupted cell may take to end before its process is killed.
INTERRUPT_GRACE_S = 2.0
# A subscription that is in effect brings its message right after the reply.
SUBSCRIBE_S = 0.1
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
STATE_LOST = (
    "The Python process ended unexpectedly; a new one was started, all variables are lost.\n"
)


class PythonEngine:
    """One persistent Python."""

    def __init__(self, confinement: Confinement) -> None:
        self._confinement = confinement
        self._agent = confinement.agent
        self._lock = asyncio.Lock()
        self._starting: asyncio.Task[None] | None = None
        self._queues: dict[str, asyncio.Queue[tuple[str, dict[str, Any]]]] = {}
        self._client: Any = None
        self._pumps: list[asyncio.Task[None]] = []
        self._generation = 0
        self._name = ""
        self._ended: asyncio.Event = asyncio.Event()
        self._last_log = ""
        self._count = 0
        self._lost = False
        self.bridgeable = True
        self._blocked = 0
        self._agent.on("exit", self._on_exit)
        # Who waits for code of a sandbox that is gone must not wait for its timeout.
        self._agent.on("closed", lambda _: self._on_exit(killed(self._name)))

    def start(self) -> None:
        """Begin to start the kernel; `execute` waits for it."""
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
            # An engine nobody asks anything of must not warn about its failure.
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def ready(self) -> None:
        """Wait until the kernel answers.

        Raises:
            EngineError: it does not start.
        """
        self.start()
        assert self._starting is not None
        try:
            await asyncio.shield(self._starting)
        except EngineError:
            self._starting = None
            raise

    async def _start(self) -> None:
        self._generation += 1
        self._ended = asyncio.Event()
        self._name = f"python{self._generation}"
        folders = self._confinement.folders
        files = f"k{self._generation}"
        info = {
            "transport": "ipc",
            "ip": f"{folders.run}/{files}",
            **{
                f"{channel}_port": number
                for number, channel in enumerate(("shell", "iopub", "stdin", "control", "hb"), 1)
            },
            "key": secrets.token_hex(16),
            "signature_scheme": "hmac-sha256",
        }
        try:
            await self._agent.call(
                "start",
                name=self._name,
                argv=[
                    *self._confinement.python_argv(),
                    *("-m", "ipykernel_launcher", "-f", f"{folders.run}/{files}.json"),
                    "--HistoryManager.enabled=False",
                ],
                env={},
                files={f"{files}.json": json.dumps(info)},
                control=False,
            )
        except AgentError as failure:
            raise EngineError(f"Python could not be started: {failure}") from failure
        self._client = (await asyncio.get_running_loop().run_in_executor(None, _client_class))()
        self._client.load_connection_info(
            {**info, "ip": f"{folders.run_outside}/{files}", "key": str(info["key"]).encode()}
        )
        self._client.start_channels(stdin=False, hb=False)
        self._pumps = [
            asyncio.get_running_loop().create_task(self._pump("shell", self._client.shell_channel)),
            asyncio.get_running_loop().create_task(self._pump("iopub", self._client.iopub_channel)),
        ]
        await self._handshake()

    async def _handshake(self) -> None:
        """Ask until an answer comes on both channels: a subscription takes effect late."""
        seen: set[str] = set()
        while seen != {"shell", "iopub"}:
            seen.clear()
            message_id = self._client.kernel_info()
            queue = self._queues[message_id] = asyncio.Queue()
            if self._ended.is_set():
                queue.put_nowait(("exit", {}))
            with contextlib.suppress(TimeoutError):
                while len(seen) < 2:
                    async with asyncio.timeout(SUBSCRIBE_S if seen else START_TIMEOUT_S):
                        channel, _ = await queue.get()
                    if channel == "exit":
                        raise EngineError(
                            f"Python could not be started: {self._last_log.strip()[-2000:]}"
                        )
                    seen.add(channel)
            del self._queues[message_id]
            if not seen:
                await self._kill()
                raise EngineError(f"Python did not answer {START_TIMEOUT_S:.0f} s after its start.")

    async def _pump(self, channel: str, socket: Any) -> None:
        while True:
            message = await socket.get_msg()
            queue = self._queues.get(message["parent_header"].get("msg_id"))
            if queue is not None:
                queue.put_nowait((channel, message))

    def _on_exit(self, event: dict[str, Any]) -> None:
        if event["name"] != self._name:
            return
        self._last_log = event["log"]
        self._disconnect()
        self._ended.set()
        for queue in self._queues.values():
            queue.put_nowait(("exit", event))

    def _disconnect(self) -> None:
        for pump in self._pumps:
            pump.cancel()
        self._pumps = []
        if self._client is not None:
            self._client.stop_channels()
            self._client = None

    async def execute(self, code: str, timeout_s: float) -> AsyncGenerator[Event]:
        """Run code; the last event is `Finished`.

        Raises:
            EngineError: Python did not start, so nothing was run.
        """
        async with self._lock:
            await self._ensure_alive()
            if not self.bridgeable and self._blocked != self._generation:
                self._blocked = self._generation
                async for _ in self._run(
                    hiding(f"{self._confinement.folders.run}/hidden"), 10, silent=True
                ):
                    pass
            if self._lost:
                self._lost = False
                yield Stream("stderr", STATE_LOST)
            async for event in self._run(code, timeout_s):
                yield event

    async def _ensure_alive(self) -> None:
        if self._starting is not None and self._starting.done() and self._ended.is_set():
            self._starting = None
            self._lost = True
            self._count = 0
        await self.ready()

    async def _run(
        self, code: str, timeout_s: float, silent: bool = False
    ) -> AsyncGenerator[Event]:
        begun = time.monotonic()
        if self._client is None:
            raise EngineError("The Python process ended; the code was not run. Run it again.")
        message_id = self._client.execute(
            code, silent=silent, allow_stdin=False, stop_on_error=False
        )
        queue: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self._queues[message_id] = queue
        deadline = begun + timeout_s
        interrupted = False
        pending = {"reply", "idle"}
        failure: Failure | None = None
        try:
            while pending:
                try:
                    async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                        channel, message = await queue.get()
                except TimeoutError:
                    if interrupted:
                        await self._kill()
                        self._starting = None
                        self._count = 0
                        failure = timed_out(timeout_s, lost=True)
                        break
                    interrupted = True
                    deadline = time.monotonic() + INTERRUPT_GRACE_S
                    self._interrupt()
                    continue
                if channel == "exit":
                    failure = died("KernelDied", "Python", message["code"], message["memory"])
                    self._starting = None
                    self._count = 0
                    break
                kind = message["header"]["msg_type"]
                content = message["content"]
                if channel == "shell" and kind == "execute_reply":
                    pending.discard("reply")
                    self._count = content.get("execution_count") or self._count
                elif kind == "status" and content["execution_state"] == "idle":
                    pending.discard("idle")
                elif kind == "error":
                    failure = Failure(
                        content["ename"],
                        content["evalue"],
                        ANSI.sub("", "\n".join(content["traceback"])) + "\n",
                    )
                else:
                    event = _translate(kind, content)
                    if event is not None:
                        yield event
        finally:
            self._queues.pop(message_id, None)
        if interrupted and failure is not None and failure.name == "KeyboardInterrupt":
            failure = timed_out(timeout_s, lost=False)
        if failure is not None:
            yield failure
        yield Finished(self._count, time.monotonic() - begun)

    def _interrupt(self) -> None:
        client = self._client
        if client is not None:
            client.control_channel.send(client.session.msg("interrupt_request", content={}))

    async def _kill(self) -> None:
        with contextlib.suppress(AgentError):
            await self._agent.call("signal", name=self._name, signal=int(signal.SIGKILL))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), 5)

    def close(self) -> None:
        """Let go of the kernel's sockets; the confinement ends the process."""
        if self._starting is not None:
            self._starting.cancel()
        self._disconnect()


def _client_class() -> Any:
    # Heavy: imported in a thread, while the kernel starts and requests are answered.
    from jupyter_client.asynchronous.client import AsyncKernelClient

    return AsyncKernelClient


def _translate(kind: str, content: dict[str, Any]) -> Event | None:
    if kind == "stream":
        return Stream(content["name"], content["text"])
    if kind in ("display_data", "update_display_data", "execute_result"):
        return Result(
            data=content["data"],
            metadata=content.get("metadata") or {},
            main=kind == "execute_result",
            display_id=content.get("transient", {}).get("display_id"),
            update=kind == "update_display_data",
        )
    return None
