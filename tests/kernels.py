"""Real kernel processes, driven as a front end drives them."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

ANSWER_S = 60


@dataclass
class Ran:
    """What became of a cell: the reply's content and the outputs, in order."""

    reply: dict[str, Any]
    outputs: list[dict[str, Any]] = field(default_factory=list)

    def text(self, name: str = "stdout") -> str:
        """The text of one stream."""
        return "".join(
            output["content"]["text"]
            for output in self.outputs
            if output["msg_type"] == "stream" and output["content"]["name"] == name
        )

    def kept(self) -> list[dict[str, Any]]:
        """The outputs that are left at the end, as a notebook stores them."""
        left: list[dict[str, Any]] = []
        for output in self.outputs:
            if output["msg_type"] == "clear_output":
                left.clear()
            elif output["msg_type"] in ("stream", "display_data", "execute_result", "error"):
                left.append(output)
        return left

    def notices(self) -> str:
        """What we say that is no error, one a line: outputs of plain text that name us."""
        texts = [
            str(content["data"].get("text/plain", "")) for content in self.of_type("display_data")
        ]
        ours = ("AgentBay: ", "[AgentBay: ", "Starting an AgentBay", "Connecting to the AgentBay")
        return "\n".join(text for text in texts if text.startswith(ours))

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """The contents of all outputs of that message type."""
        return [output["content"] for output in self.outputs if output["msg_type"] == kind]


class RunningKernel:
    """A kernel process and a client of it."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self.client = client
        # What was waited for in vain: nothing is sent behind it, so that the tests that share
        # this kernel fail at once and say why.
        self._stuck = ""

    @property
    def pid(self) -> int:
        """The kernel's process."""
        process: int = self.manager.provisioner.process.pid  # type: ignore[union-attr]
        return process

    def send(self, code: str, **options: Any) -> str:
        """Send a cell without waiting for it; returns the request's id."""
        assert not self._stuck, f"an earlier test left this kernel so: {self._stuck}"
        message_id: str = self.client.execute(code, **options)
        return message_id

    def finish(self, message_id: str, timeout: float = ANSWER_S) -> Ran:
        """Wait for a sent cell: its reply and everything up to its idle status."""
        deadline = time.monotonic() + timeout
        outputs: list[dict[str, Any]] = []
        while True:
            message = self._next(self.client.get_iopub_msg, message_id, deadline, "idle", outputs)
            if message["msg_type"] == "status":
                if message["content"]["execution_state"] == "idle":
                    break
            elif message["msg_type"] != "execute_input":
                outputs.append(message)
        reply = self._next(self.client.get_shell_msg, message_id, deadline, "reply", outputs)
        return Ran(reply["content"], outputs)

    def _next(
        self,
        get: Callable[..., dict[str, Any]],
        message_id: str,
        deadline: float,
        what: str,
        outputs: list[dict[str, Any]],
    ) -> dict[str, Any]:
        """The next message of a request, whatever others say meanwhile."""
        while (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                message = get(timeout=left)
                if message["parent_header"].get("msg_id") == message_id:
                    return message
        self._stuck = f"no {what} of request {message_id}; there came {str(outputs)[-1000:]}"
        raise TimeoutError(self._stuck)

    def wait_for_output(self, message_id: str, kind: str, timeout: float = ANSWER_S) -> Any:
        """The next output of that type of a sent cell."""
        deadline = time.monotonic() + timeout
        before: list[dict[str, Any]] = []
        while True:
            message = self._next(self.client.get_iopub_msg, message_id, deadline, kind, before)
            if message["msg_type"] == kind:
                return message["content"]
            before.append(message)

    def run(self, code: str, timeout: float = ANSWER_S, **options: Any) -> Ran:
        """Run a cell to its end."""
        return self.finish(self.send(code, **options), timeout)


def wait_until_ready(manager: KernelManager, client: BlockingKernelClient) -> None:
    """Wait for the answer to a question, and read what is published up to its end.

    The client's own function reads on until nothing has come for a while, with each kernel.
    """
    deadline = time.monotonic() + ANSWER_S
    while True:
        asked = client.kernel_info()
        message: dict[str, Any] = {"parent_header": {}}
        while message["parent_header"].get("msg_id") != asked:
            assert manager.is_alive(), "the kernel died before it answered"
            assert time.monotonic() < deadline, "the kernel does not answer"
            with contextlib.suppress(queue.Empty):
                message = client.get_shell_msg(timeout=1)
        # What was published before this client was connected is lost: asked again.
        with contextlib.suppress(queue.Empty):
            while True:
                message = client.get_iopub_msg(timeout=0.2)
                ended = message["content"].get("execution_state") == "idle"
                if ended and message["parent_header"].get("msg_id") == asked:
                    return


@contextlib.contextmanager
def running_kernel(
    name: str, env: dict[str, str] | None = None, folder: Path | None = None
) -> Iterator[RunningKernel]:
    """A kernel of that kernelspec, started in a folder, shut down at the end.

    It shares its local runtime's process with those alone that have the same `OF_ONE_TEST`.
    """
    # Not by TCP: the ports are chosen here and bound by the kernel, and what runs beside this test
    # may take one in between.
    sockets = tempfile.mkdtemp(prefix="agentbay-")
    manager = KernelManager(kernel_name=name, transport="ipc", ip=f"{sockets}/k")
    place = {} if folder is None else {"cwd": str(folder)}
    manager.start_kernel(env={**os.environ, "OF_ONE_TEST": sockets, **(env or {})}, **place)
    client = manager.blocking_client()
    client.start_channels()
    try:
        wait_until_ready(manager, client)
        yield RunningKernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=not manager.is_alive())
        shutil.rmtree(sockets, ignore_errors=True)
