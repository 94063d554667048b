"""The process around an AgentBay kernel: its sockets, its signals, its end.

However the process ends, it leaves no session behind.
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
        """Make messages encodable that contain half surrogate pairs, so that none is lost."""
        self.session.pack = replacing_surrogates(self.session.pack)
        super().init_kernel()

    def init_signal(self) -> None:
        """Handle the signals that end the process, so that no session is left behind."""
        super().init_signal()
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            # A process that nohup started keeps ignoring the signal.
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, self._on_end)

    def _on_end(self, signum: int, frame: FrameType | None) -> None:
        # Not in this handler: the interrupted code may hold a lock that closing needs.
        threads.start(lambda: self._end(128 + signum))

    def init_poller(self) -> None:
        """Watch the parent process; the base class would end this process at once without it."""
        super().init_poller()
        if isinstance(self.poller, ParentPollerUnix):
            self.poller = _ParentWatch(self.parent_handle, lambda: self._end(1))

    def _end(self, status: int) -> None:
        ending = threads.start(self.kernel.end_without_notice)
        with contextlib.suppress(Exception):
            ending.result(SHUTDOWN_WITHIN_S)
        os._exit(status)

    def init_iopub(self, context: zmq.Context[Any]) -> None:
        """Make the iopub socket keep messages for a slow reader.

        By default it drops them silently, even the idle status, if its reader is slow for a moment.
        """
        context.sndhwm = 0
        super().init_iopub(context)


class _ParentWatch(threading.Thread):
    """Calls `gone` when the parent process is no longer the parent."""

    def __init__(self, parent_pid: int, gone: Callable[[], None]) -> None:
        super().__init__(name="agentbay-parent", daemon=True)
        self._parent_pid = parent_pid
        self._gone = gone

    def run(self) -> None:
        """Check the parent once a second."""
        # If the given process is not the parent, only becoming an orphan can be detected.
        known = os.getppid() == self._parent_pid
        while os.getppid() == self._parent_pid if known else os.getppid() != 1:
            time.sleep(1.0)
        self._gone()


def main(argv: list[str] | None = None) -> None:
    """Run the kernel: `python -m agentbay_kernel -f CONNECTION_FILE`."""
    AgentBayKernelApp.launch_instance(argv=argv)
