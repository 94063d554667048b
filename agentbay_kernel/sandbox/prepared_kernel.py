"""A process that has imported what a Jupyter kernel needs, and becomes one on request.

Importing IPython and ipykernel takes most of a kernel's start. The Python of a local session forks
this process when it has imported IPython, before it has threads or sockets. The process imports
ipykernel, and becomes the bridge's kernel when the bridge requests it. The two share the memory of
what was imported before the fork. Without such a process the bridge starts its kernel by a command:
in other sandboxes, for a second kernel, and if packages have been installed since, because this
process may have imported older ones.

The request is a line of JSON on a socket, {"argv", "env", "cwd"}; the response is {"starts": true},
or the socket ends.

Runs inside a sandbox, on Linux, with Python 3.9 or newer.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import json
import os
import signal
import site
import socket
import sys
import threading
import types
from typing import Any

# Names the process that has forked one: its own id, the kernel's, and the descriptor of the socket.
VARIABLE = "AGENTBAY_PREPARED_KERNEL"
# The argument of the session's Python that prepares none.
NO_KERNEL = "--no-kernel"
# How long to wait for the response: the process may still be importing.
ANSWER_S = 10.0


def prepare() -> None:
    """Fork the process. The caller must have no threads and no sockets that a kernel must not have.

    Only the caller returns: the other process ends in this function.
    """
    if sys.platform != "linux":
        return
    # A garbage collection would copy the memory that both share.
    gc.freeze()
    near, far = socket.socketpair()
    pid = os.fork()
    if pid:
        far.close()
        os.environ[VARIABLE] = f"{os.getpid()}:{pid}:{near.detach()}"
        return
    near.close()
    try:
        _close_all_but(far.fileno())
        request = _wait(far)
    except BaseException:
        os._exit(1)
    far.close()
    _be_kernel(request)
    sys.exit()


def _wait(far: socket.socket) -> dict[str, Any]:
    """Import what a kernel needs, then wait for the request; end this process if none comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import ipykernel.ipkernel
    import ipykernel.kernelapp  # noqa: F401

    LazyDebugger.install()
    gc.freeze()
    gc.enable()
    imported_at = _changed_at()
    request = _receive(far)
    if _changed_at() != imported_at:
        os._exit(0)
    _send(far, {"starts": True})
    return request


def _be_kernel(request: dict[str, Any]) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    # It ends with the process that forked it.
    sys.argv = [*request["argv"], f"--IPKernelApp.parent_handle={os.getppid()}"]
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()


def _close_all_but(kept: int) -> None:
    """Close the descriptors that a new process would not have; connect the standard ones to
    /dev/null."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number > 2 and number != kept:
            with contextlib.suppress(OSError):
                os.close(number)


def _changed_at() -> float:
    """Return when the directories that packages are imported from were last changed."""
    folders = [*sys.path, site.getusersitepackages()]
    times = [0.0]
    for folder in folders:
        with contextlib.suppress(OSError):
            times.append(os.stat(folder).st_mtime)
    return max(times)


def _send(to: socket.socket, line: dict[str, Any]) -> None:
    to.sendall(json.dumps(line).encode() + b"\n")


def _receive(of: socket.socket) -> dict[str, Any]:
    received = b""
    while not received.endswith(b"\n"):
        data = of.recv(65536)
        if not data:
            raise ConnectionError("the other side has ended")
        received += data
    line: dict[str, Any] = json.loads(received)
    return line


class PreparedKernel:
    """The kernel that the prepared process becomes, with the methods of `subprocess.Popen` that are
    needed.

    Arguments:
        connection: path of its connection file.

    Raises:
        OSError: there is no such process, or it did not become a kernel and was killed.
    """

    def __init__(self, connection: str) -> None:
        forked_by, pid, descriptor = (os.environ.pop(VARIABLE, "") + "::").split(":")[:3]
        if forked_by != str(os.getpid()):
            raise OSError("this process has not prepared a kernel")
        self.pid = int(pid)
        self.returncode: int | None = None
        self._lock = threading.Lock()
        request = {
            "argv": ["ipykernel_launcher", "-f", connection],
            "env": dict(os.environ),
            "cwd": os.getcwd(),
        }
        with socket.socket(fileno=int(descriptor)) as near:
            near.settimeout(ANSWER_S)
            try:
                _send(near, request)
                _receive(near)
            except BaseException:
                # Another kernel will use the same sockets.
                self.kill()
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(self.pid, 0)
                raise

    def poll(self) -> int | None:
        """Return its exit status as `subprocess.Popen.poll` does; None while it runs."""
        with self._lock:
            if self.returncode is None:
                try:
                    pid, status = os.waitpid(self.pid, os.WNOHANG)
                    if pid:
                        self.returncode = os.waitstatus_to_exitcode(status)
                except ChildProcessError:
                    # A cell's code in this process has waited for it.
                    self.returncode = -signal.SIGKILL
            return self.returncode

    def kill(self) -> None:
        """Kill it."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


class LazyDebugger:
    """Replaces ipykernel's debugger until its first request: its import takes 8 MB and a tenth of a
    second at a kernel's start, and few notebooks are debugged."""

    MODULE = "ipykernel.debugger"

    @classmethod
    def install(cls) -> None:
        """Install it; call this before a kernel starts. Without debugpy, ipykernel reports that."""
        if importlib.util.find_spec("debugpy") is not None:
            sys.modules[cls.MODULE] = _LazyModule(cls.MODULE)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._arguments, self._named = arguments, named
        self._debugger: Any = None
        self._waiting: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        # The kernel's list of files that the debugger does not step into.
        (self.kernel_modules,) = (it for it in arguments if isinstance(it, list))

    def _load(self) -> Any:
        if self._debugger is None:
            before = set(sys.modules)
            module = _import_debugger()
            self.kernel_modules += [
                file
                for name in set(sys.modules) - before
                if (file := getattr(sys.modules[name], "__file__", None))
            ]
            self._debugger = module.Debugger(*self._arguments, **self._named)
            if self._waiting is not None:
                # A cell's code may be what asks first, in another thread.
                loop, loaded = self._waiting
                loop.call_soon_threadsafe(loaded.set)
        return self._debugger

    async def process_request(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a request, in the thread of the control channel."""
        answer: dict[str, Any] = await self._load().process_request(request)
        return answer

    async def handle_stopped_event(self) -> None:
        """Wait for code that stops, and report it; called again and again, in the same thread."""
        if self._debugger is None:
            loaded = asyncio.Event()
            self._waiting = asyncio.get_running_loop(), loaded
            await loaded.wait()
        await self._debugger.handle_stopped_event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._load(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or name in ("kernel_modules", "process_request"):
            super().__setattr__(name, value)
        else:
            setattr(self._load(), name, value)


class _LazyModule(types.ModuleType):
    """Replaces ipykernel's module of the debugger: what a kernel reads of it when it starts."""

    Debugger = LazyDebugger
    _is_debugpy_available = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_import_debugger(), name)


def _import_debugger() -> types.ModuleType:
    """Import ipykernel's module without its warning about frozen modules."""
    if isinstance(sys.modules.get(LazyDebugger.MODULE), _LazyModule):
        del sys.modules[LazyDebugger.MODULE]
    quiet = "PYDEVD_DISABLE_FILE_VALIDATION"
    is_set = quiet in os.environ
    os.environ.setdefault(quiet, "1")
    try:
        return importlib.import_module(LazyDebugger.MODULE)
    finally:
        if not is_set:
            del os.environ[quiet]
