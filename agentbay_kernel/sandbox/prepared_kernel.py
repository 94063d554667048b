"""A process that has imported what a Jupyter kernel needs, and becomes one when it is asked.

Importing IPython and ipykernel is most of a kernel's start. The Python of a local session forks
this process when it has imported IPython itself, before it has threads or sockets; the process
goes on with ipykernel, and is the bridge's kernel once the bridge asks. The two share the memory
of what was imported before. Where there is no such process the bridge starts its kernel by a
command: in other sandboxes, for a second kernel, and if packages were installed meanwhile, of which
this process may have imported older ones.

In: on a socket between the two a line of JSON, {"argv", "env", "cwd"}. Out: on the same socket
{"starts": true}, or nothing at all.

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
# How long it is waited for; it may still be importing.
ANSWER_S = 10.0


def prepare() -> None:
    """Fork the process. The caller has neither threads nor sockets that a kernel must not have.

    Returns in the caller. The other process ends in here, as any Python does.
    """
    if sys.platform != "linux":
        return
    # Looking for garbage in what both have would copy it.
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
    """Import, then wait for the request; ends this process if none comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import ipykernel.ipkernel
    import ipykernel.kernelapp  # noqa: F401

    LateDebugger.take_its_place()
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
    """Close what a new process would not have, and let its standard streams lead nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number > 2 and number != kept:
            with contextlib.suppress(OSError):
                os.close(number)


def _changed_at() -> float:
    """When the folders that packages are imported from were changed last."""
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
    """The kernel that a process which was forked ahead has become, as far as `subprocess.Popen`
    is needed of it.

    Arguments:
        connection: path of its connection file.

    Raises:
        OSError: there is no such process here, or it has become none; it is gone then.
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
                # Another kernel takes its place, on the same sockets.
                self.kill()
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(self.pid, 0)
                raise

    def poll(self) -> int | None:
        """How it ended, as `subprocess.Popen.poll` says it; None while it runs."""
        with self._lock:
            if self.returncode is None:
                try:
                    pid, status = os.waitpid(self.pid, os.WNOHANG)
                    if pid:
                        self.returncode = os.waitstatus_to_exitcode(status)
                except ChildProcessError:
                    # Code of a cell in this process has waited for it.
                    self.returncode = -signal.SIGKILL
            return self.returncode

    def kill(self) -> None:
        """Kill it."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


class LateDebugger:
    """In place of ipykernel's debugger, which a kernel imports when it starts: 8 MB and a tenth of
    a second, and hardly a notebook is debugged. It is imported with the first request to it."""

    MODULE = "ipykernel.debugger"

    @classmethod
    def take_its_place(cls) -> None:
        """Before there is a kernel. Without debugpy, ipykernel says so itself."""
        if importlib.util.find_spec("debugpy") is not None:
            sys.modules[cls.MODULE] = _LateModule(cls.MODULE)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._arguments, self._named = arguments, named
        self._made: Any = None
        self._wanted: asyncio.Event | None = None
        # The files that it does not step into: the kernel's list.
        (self.kernel_modules,) = (it for it in arguments if isinstance(it, list))

    def _make(self) -> Any:
        if self._made is None:
            before = set(sys.modules)
            module = _import_debugger()
            self.kernel_modules += [
                file
                for name in set(sys.modules) - before
                if (file := getattr(sys.modules[name], "__file__", None))
            ]
            self._made = module.Debugger(*self._arguments, **self._named)
            if self._wanted is not None:
                self._wanted.set()
        return self._made

    async def process_request(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a request, in the thread of the control channel."""
        answer: dict[str, Any] = await self._make().process_request(request)
        return answer

    async def handle_stopped_event(self) -> None:
        """Wait for code that stops, and say so; asked again and again, in the same thread."""
        if self._made is None:
            self._wanted = asyncio.Event()
            await self._wanted.wait()
        await self._made.handle_stopped_event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or name in ("kernel_modules", "process_request"):
            super().__setattr__(name, value)
        else:
            setattr(self._make(), name, value)


class _LateModule(types.ModuleType):
    """What ipykernel asks its module of the debugger for when a kernel starts."""

    Debugger = LateDebugger
    _is_debugpy_available = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_import_debugger(), name)


def _import_debugger() -> types.ModuleType:
    """ipykernel's module, imported without its warning: this Python has frozen modules."""
    if isinstance(sys.modules.get(LateDebugger.MODULE), _LateModule):
        del sys.modules[LateDebugger.MODULE]
    quiet = "PYDEVD_DISABLE_FILE_VALIDATION"
    is_set = quiet in os.environ
    os.environ.setdefault(quiet, "1")
    try:
        return importlib.import_module(LateDebugger.MODULE)
    finally:
        if not is_set:
            del os.environ[quiet]
