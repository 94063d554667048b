"""Real kernel processes, driven as a front end drives them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
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

    @property
    def pid(self) -> int:
        """The kernel's process."""
        process: int = self.manager.provisioner.process.pid  # type: ignore[union-attr]
        return process

    def send(self, code: str, **options: Any) -> str:
        """Send a cell without waiting for it; returns the request's id."""
        message_id: str = self.client.execute(code, **options)
        return message_id

    def finish(self, message_id: str, timeout: float = ANSWER_S) -> Ran:
        """Wait for a sent cell: its reply and everything up to its idle status."""
        deadline = time.monotonic() + timeout
        outputs = []
        while True:
            message = self.client.get_iopub_msg(timeout=max(0.1, deadline - time.monotonic()))
            if message["parent_header"].get("msg_id") != message_id:
                continue
            if message["msg_type"] == "status":
                if message["content"]["execution_state"] == "idle":
                    break
            elif message["msg_type"] != "execute_input":
                outputs.append(message)
        while True:
            reply = self.client.get_shell_msg(timeout=max(0.1, deadline - time.monotonic()))
            if reply["parent_header"].get("msg_id") == message_id:
                return Ran(reply["content"], outputs)

    def wait_for_output(self, message_id: str, kind: str, timeout: float = ANSWER_S) -> Any:
        """The next output of that type of a sent cell."""
        deadline = time.monotonic() + timeout
        while True:
            message = self.client.get_iopub_msg(timeout=max(0.1, deadline - time.monotonic()))
            of_cell = message["parent_header"].get("msg_id") == message_id
            if of_cell and message["msg_type"] == kind:
                return message["content"]

    def run(self, code: str, timeout: float = ANSWER_S, **options: Any) -> Ran:
        """Run a cell to its end."""
        return self.finish(self.send(code, **options), timeout)


@contextlib.contextmanager
def running_kernel(
    name: str, env: dict[str, str] | None = None, folder: Path | None = None
) -> Iterator[RunningKernel]:
    """A kernel of that kernelspec, started in a folder, shut down at the end."""
    # Not by TCP: the ports are chosen here and bound by the kernel, and what runs beside this test
    # may take one in between.
    sockets = tempfile.mkdtemp(prefix="agentbay-")
    manager = KernelManager(kernel_name=name, transport="ipc", ip=f"{sockets}/k")
    place = {} if folder is None else {"cwd": str(folder)}
    manager.start_kernel(env={**os.environ, **(env or {})}, **place)
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=ANSWER_S)
        yield RunningKernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=not manager.is_alive())
        shutil.rmtree(sockets, ignore_errors=True)
