"""The process around an AgentBay kernel: its sockets, its signals, its end.

In: a connection file. Out: a kernel that serves it, and that leaves no session behind however the
process is told to end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import zmq
from ipykernel.kernelapp import IPKernelApp
from ipykernel.parentpoller import ParentPollerUnix
from traitlets import default

from agentbay_kernel import threads
from agentbay_kernel.kernel.kernel import SHUTDOWN_WITHIN_S, AgentBayKernel
from agentbay_kernel.kernel.publisher import QuietStream, replacing_surrogates


class AgentBayKernelApp(IPKernelApp):
    """The process around the kernel."""

    kernel_class = AgentBayKernel

    @default("outstream_class")
    def _default_outstream_class(self) -> str:
        return f"{QuietStream.__module__}.{QuietStream.__name__}"

    def init_kernel(self) -> None:
        """Let no message be lost for a text that can't be encoded."""
        self.session.pack = replacing_surrogates(self.session.pack)
        super().init_kernel()

    def init_signal(self) -> None:
        """Being told to end is no reason to leave sessions behind."""
        super().init_signal()
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            # What was started by nohup goes on ignoring.
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, self._on_end)

    def _on_end(self, signum: int, frame: FrameType | None) -> None:
        # Not here: the code that was interrupted may hold a lock that closing needs.
        threads.start(lambda: self._end(128 + signum))

    def init_poller(self) -> None:
        """The base class would end this process at once when its parent is gone."""
        super().init_poller()
        if isinstance(self.poller, ParentPollerUnix):
            self.poller = _ParentWatch(self.parent_handle, lambda: self._end(1))

    def _end(self, status: int) -> None:
        ending = threads.start(self.kernel.end_without_notice)
        with contextlib.suppress(Exception):
            ending.result(SHUTDOWN_WITHIN_S)
        os._exit(status)

    def init_iopub(self, context: zmq.Context[Any]) -> None:
        """By default the socket drops messages in silence, the idle status too, when its reader
        is slow for a moment."""
        context.sndhwm = 0
        super().init_iopub(context)


class _ParentWatch(threading.Thread):
    """Calls `gone` when the parent process is no longer the parent."""

    def __init__(self, parent_pid: int, gone: Callable[[], None]) -> None:
        super().__init__(name="agentbay-parent", daemon=True)
        self._parent_pid = parent_pid
        self._gone = gone

    def run(self) -> None:
        """Look once a second."""
        # Where the named process is not the parent, only being nobody's child can be told.
        known = os.getppid() == self._parent_pid
        while os.getppid() == self._parent_pid if known else os.getppid() != 1:
            time.sleep(1.0)
        self._gone()


def main(argv: list[str] | None = None) -> None:
    """Run the kernel: `python -m agentbay_kernel -f CONNECTION_FILE`."""
    AgentBayKernelApp.launch_instance(argv=argv)
