"""The process around an AgentBay kernel: its sockets, its signals, its end.

However the process ends, it leaves no session behind.

ipykernel's own application would start the same sockets and threads. But it imports what a kernel
needs that runs cells itself, IPython's shell most of all, and each notebook would wait for that.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType

import zmq
from ipykernel.control import ControlThread
from ipykernel.heartbeat import Heartbeat
from ipykernel.iostream import IOPubThread
from ipykernel.shellchannel import ShellChannelThread
from jupyter_client.connect import ConnectionFileMixin
from jupyter_client.session import Session, session_aliases, session_flags
from jupyter_core.paths import jupyter_runtime_dir, secure_write
from tornado.ioloop import IOLoop
from traitlets import Integer
from traitlets.config import Application, catch_config_error
from traitlets.utils import filefind
from zmq.eventloop.zmqstream import ZMQStream

from agentbay_kernel import threads
from agentbay_kernel.kernel.kernel import SHUTDOWN_WITHIN_S, AgentBayKernel
from agentbay_kernel.kernel.publisher import QuietStream, replacing_surrogates

# How long a closed socket may take to send the rest of its messages.
_LINGER_MS = 1000


class AgentBayKernelApp(Application, ConnectionFileMixin):
    """The process around the kernel."""

    name = "agentbay-kernel"
    description = "The process of an AgentBay kernel. Jupyter starts it."
    classes = [AgentBayKernel, Session]
    aliases = {
        "f": "AgentBayKernelApp.connection_file",
        "ip": "AgentBayKernelApp.ip",
        "log-level": "AgentBayKernelApp.log_level",
        **session_aliases,
    }
    flags = {
        "debug": ({"AgentBayKernelApp": {"log_level": logging.DEBUG}}, "Log everything."),
        **session_flags,
    }
    parent_handle = Integer(
        int(os.environ.get("JPY_PARENT_PID") or 0),
        help="The process with which the kernel ends (Windows: its handle); 0 if there is none.",
    ).tag(config=True)

    @catch_config_error
    def initialize(self, argv: list[str] | None = None) -> None:
        """Make the kernel, from the arguments and the connection file that they name."""
        super().initialize(argv)
        sys.excepthook = _print_to_terminal
        self._read_connection_file()
        self._open_sockets()
        self._redirect_prints()
        self._handle_signals()
        self._make_kernel()

    def parse_command_line(self, argv: list[str] | None = None) -> None:
        """Read the arguments, but those that programs give every kernel for IPython's shell."""
        known, kept = {*self.aliases, *self.flags, "h", "help", "help-all"}, []
        for argument in sys.argv[1:] if argv is None else argv:
            name = argument.lstrip("-").partition("=")[0]
            if argument.startswith("-") and name not in known and "." not in name:
                self.log.warning("%s is no option of this kernel: it has no effect.", argument)
            else:
                kept.append(argument)
        super().parse_command_line(kept)

    def start(self) -> None:
        """Handle requests until the kernel is shut down."""
        self._watch_parent()
        self.kernel.start()
        with contextlib.suppress(KeyboardInterrupt):
            IOLoop.current().start()

    def _read_connection_file(self) -> None:
        """Read addresses and keys; a file that does not exist is written, with new ones."""
        name = self.connection_file or f"kernel-{os.getpid()}.json"
        try:
            self.connection_file = filefind(name, [".", jupyter_runtime_dir()])
        except OSError:
            self.connection_file = str(Path(jupyter_runtime_dir(), name))
            return
        try:
            self.load_connection_file()
        except Exception as error:
            self.log.critical("%s is no connection file: %r", self.connection_file, error)
            self.exit(1)

    def _open_sockets(self) -> None:
        self.context = zmq.Context()
        # By default a socket drops messages silently, even the idle status, if their reader is slow
        # for a moment.
        self.context.sndhwm = 0
        incomplete = 0 in self.ports
        self._shell = self._bind(zmq.ROUTER, "shell_port")
        self._control = self._bind(zmq.ROUTER, "control_port")
        self._stdin = self._bind(zmq.ROUTER, "stdin_port")
        iopub = self._bind(zmq.XPUB, "iopub_port")
        self._control_thread = ControlThread(daemon=True)
        self._shell_thread = ShellChannelThread(self.context, daemon=True)
        self._iopub_thread = IOPubThread(iopub, pipe=True, session=self.session)
        self._iopub_thread.start()
        keys = {"curve_publickey": self.curve_publickey, "curve_secretkey": self.curve_secretkey}
        # A context of its own, so that it answers whatever the other sockets do.
        self._heartbeat = Heartbeat(zmq.Context(), (self.transport, self.ip, self.hb_port), **keys)
        self.hb_port = self._heartbeat.port
        self._heartbeat.start()
        atexit.register(self._close)
        if incomplete:
            self._complete_connection_file()

    def _bind(self, kind: int, name: str) -> zmq.Socket[bytes]:
        """Return a socket at the port of that name, or at a free one if that is 0."""
        socket: zmq.Socket[bytes] = self.context.socket(kind)
        socket.linger = _LINGER_MS
        if kind == zmq.ROUTER:
            # A front end that connects again takes its own place.
            socket.router_handover = 1
        if self.curve_secretkey is not None:
            socket.curve_secretkey = self.curve_secretkey
            socket.curve_publickey = self.curve_publickey
            socket.curve_server = True
        port = getattr(self, name)
        try:
            if self.transport == "ipc":
                free = (n for n in itertools.count(1) if not Path(f"{self.ip}-{n}").exists())
                port = port or next(free)
                socket.bind(f"ipc://{self.ip}-{port}")
            elif port:
                socket.bind(f"tcp://{self.ip}:{port}")
            else:
                port = socket.bind_to_random_port(f"tcp://{self.ip}")
        except zmq.ZMQError as error:
            self.log.critical("The kernel's %s %s can't be used: %s", name, port, error)
            # Not `exit`, which would wait for the sockets.
            os._exit(1)
        setattr(self, name, port)
        return socket

    def _complete_connection_file(self) -> None:
        """Write the ports that were chosen here, for front ends that connect by the file."""
        path = Path(self.connection_file)
        if path.exists():
            known = json.loads(path.read_text(encoding="utf-8"))
            info = {**known, **self.get_connection_info(), "key": self.session.key.decode()}
            with secure_write(str(path)) as file:
                json.dump(info, file, indent=2)
        else:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # `cleanup_connection_file` removes what this has written.
            self.write_connection_file()
        if not self.parent_handle:
            print(f"To connect: jupyter console --existing {path}", file=sys.__stderr__)

    def _redirect_prints(self) -> None:
        """Show what this process prints, for example a warning, in the notebook."""
        for name in ("stdout", "stderr"):
            getattr(sys, name).flush()
            setattr(sys, name, QuietStream(self.session, self._iopub_thread, name, watchfd=False))

    def _handle_signals(self) -> None:
        """Handle the signals that end the process, so that no session is left behind."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            # A process that nohup started keeps ignoring the signal.
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, self._on_end)

    def _on_end(self, signum: int, frame: FrameType | None) -> None:
        # Not in this handler: the interrupted code may hold a lock that closing needs.
        threads.start(lambda: self._end(128 + signum))

    def _end(self, status: int) -> None:
        ending = threads.start(self.kernel.end_without_notice)
        with contextlib.suppress(Exception):
            ending.result(SHUTDOWN_WITHIN_S)
        self.cleanup_connection_file()
        os._exit(status)

    def _make_kernel(self) -> None:
        # Messages with half surrogate pairs become encodable, so that none is lost.
        self.session.pack = replacing_surrogates(self.session.pack)
        shell = ZMQStream(self._shell, self._shell_thread.io_loop)
        self._shell_thread.shell_stream = shell
        control = ZMQStream(self._control, self._control_thread.io_loop)
        self._control_thread.start()
        self._shell_thread.start()
        self.kernel = AgentBayKernel.instance(
            parent=self,
            session=self.session,
            control_stream=control,
            shell_stream=shell,
            control_thread=self._control_thread,
            shell_channel_thread=self._shell_thread,
            iopub_thread=self._iopub_thread,
            iopub_socket=self._iopub_thread.background_socket,
            stdin_socket=self._stdin,
            log=self.log,
        )
        ports = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
        self.kernel.record_ports({name: getattr(self, name) for name in ports})

    def _watch_parent(self) -> None:
        if sys.platform == "win32":
            from ipykernel.parentpoller import ParentPollerWindows

            interrupt = int(os.environ.get("JPY_INTERRUPT_EVENT") or 0)
            if interrupt or self.parent_handle:
                ParentPollerWindows(interrupt, self.parent_handle).start()
        # The first process never ends.
        elif self.parent_handle > 1:
            _ParentWatch(self.parent_handle, lambda: self._end(1)).start()

    def _close(self) -> None:
        """Send what is still to be sent, and end the threads that use the sockets."""
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        self._heartbeat.context.term()
        self._iopub_thread.stop()
        self._iopub_thread.close()
        for thread in (self._control_thread, self._shell_thread):
            if thread.is_alive():
                thread.stop()
                thread.join()
        for socket in (self._shell, self._control, self._stdin):
            socket.close()
        self.context.term()
        self.cleanup_ipc_files()
        self.cleanup_connection_file()


def _print_to_terminal(
    kind: type[BaseException], value: BaseException, where: TracebackType | None
) -> None:
    """Print an uncaught error where the process was started, not in the notebook."""
    traceback.print_exception(kind, value, where, file=sys.__stderr__)


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
