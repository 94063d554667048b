"""Interrupts that reach the cell that they name and nothing else.

Two parts. In the process that runs cells, `Interrupts` is the handler of SIGINT. It raises
KeyboardInterrupt only while a cell's own code is on the stack. Elsewhere (before that code begins,
in IPython, while an async cell waits) the interrupt waits for the code; it is dropped at the end of
its cell. So no SIGINT ends the process, and no cell loses its reply.

Between the processes, `CellRegister` is a file that names the running cell, and the cells to
interrupt when they begin. The bridge signals only while it holds the file's lock and the named cell
runs. A cell ends only under the same lock, so its signals have arrived by then. None of this needs
a message from the cell, which may hold the interpreter's lock.

Runs inside a sandbox, with Python 3.9 or newer, IPython 7 or newer, and ipykernel 6 or 7 if any.
"""

from __future__ import annotations

import contextlib
import dis
import hashlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

try:
    import fcntl
except ImportError:  # Windows has neither process groups nor these locks.
    fcntl = None  # type: ignore[assignment]

# Time between two attempts to raise an interrupt; after the second, also while IPython makes a
# traceback.
RETRY_S = 0.02
TRACEBACK_S = 3.0
# Runs in place of a cell's first statement if the cell was interrupted before it.
RAISE = compile("raise KeyboardInterrupt", "<interrupted>", "exec")
KEY_SIZE = 32
NO_CELL = bytes(KEY_SIZE)
MOST_KEPT = 1000
# Our own frames below a cell's code in ipykernel: they must not count in the recursion limit.
FRAMES = 3


class CellRegister:
    """The file: the key of the running cell, then those of cells to interrupt.

    Arguments:
        path: of the file; made when it is needed.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.file = -1

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the lock; yield the file's descriptor.

        Raises:
            OSError: the file can't be opened.
        """
        # A cell's code may have closed the descriptor, and its number may now be another file's.
        try:
            same = os.path.samestat(os.fstat(self.file), Path(self.path).stat())
        except OSError:
            same = False
        if not same:
            self.file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.file, fcntl.LOCK_EX)
        try:
            yield self.file
        finally:
            fcntl.flock(self.file, fcntl.LOCK_UN)

    def begin(self, cell: str) -> bool:
        """Note that a cell begins; return whether it must be interrupted."""
        key = key_of(cell)
        with contextlib.suppress(OSError), self.locked() as file:
            os.pwrite(file, key, 0)
            kept = os.pread(file, KEY_SIZE * MOST_KEPT, KEY_SIZE)
            keys = [kept[at : at + KEY_SIZE] for at in range(0, len(kept), KEY_SIZE)]
            if key in keys:
                left = b"".join(other for other in keys if other != key)
                os.pwrite(file, left, KEY_SIZE)
                os.ftruncate(file, KEY_SIZE + len(left))
                return True
        return False

    def end(self, next_cell: str) -> None:
        """Note that a cell has ended; `next_cell` is the one around it, or empty."""
        with contextlib.suppress(OSError), self.locked() as file:
            os.pwrite(file, key_of(next_cell), 0)

    def interrupt(self, cell: str | None, group: int) -> bool:
        """Signal the cell's process group if that cell runs; otherwise keep it for the cell.

        Arguments:
            cell: None for whichever runs.

        Returns:
            Whether it runs.

        Raises:
            OSError: it could be neither sent nor kept.
        """
        key = key_of(cell or "")
        with self.locked() as file:
            runs = os.pread(file, KEY_SIZE, 0)
            meant = (runs == key) if cell else (runs not in (NO_CELL, b""))
            if meant:
                # The whole group, as in a terminal: also child processes of the cell.
                os.killpg(group, signal.SIGINT)
            if cell is None or meant:
                return meant
            end = max(KEY_SIZE, os.fstat(file).st_size)
            if end < KEY_SIZE * MOST_KEPT:
                os.pwrite(file, key, end)
        return False

    def running(self) -> bytes:
        """Return the key of the cell that runs."""
        with contextlib.suppress(OSError), self.locked() as file:
            return os.pread(file, KEY_SIZE, 0)
        return NO_CELL


def raising(code: CodeType) -> CodeType:
    """Return code that raises KeyboardInterrupt at the first line of `code`."""
    line = next((line for _, line in dis.findlinestarts(code) if line), 1)
    return RAISE.replace(co_filename=code.co_filename, co_firstlineno=line)


def key_of(cell: str) -> bytes:
    """Return the key of a cell's id in the file."""
    return hashlib.sha256(cell.encode("utf-8", "replace")).digest() if cell else NO_CELL


class Interrupts:
    """The handler of SIGINT in a process that runs cells in IPython's shell.

    Arguments:
        shell: IPython's.
        register: shows other processes the running cell; None if nobody needs it.
        postponed: returns True if the interrupt must wait now. The caller then calls `settle`
            when it may be raised.
    """

    def __init__(
        self,
        shell: Any,
        register: CellRegister | None = None,
        postponed: Callable[[], bool] = lambda: False,
    ) -> None:
        from IPython.core.events import EventManager
        from IPython.core.interactiveshell import InteractiveShell

        self.register = register
        self.postponed = postponed
        self.process = os.getpid()
        # The id of the running cell; empty between cells.
        self.cell = ""
        # Code objects of the running cell, and of cells that it runs itself.
        self.codes: list[CodeType] = []
        # Of an async cell, to cancel it while it waits.
        self.future: Any = None
        self.cancelled = False
        self.handling = False
        # Since when an interrupt waits; None if there is none.
        self.since: float | None = None
        # ipykernel's debugger once it is in use (`pydevd.PyDB`); does it halt the main thread?
        self.debugger: Any = None
        self.halting = False
        # Stored, because each access to a method makes a new object.
        self.handler = self.handle
        self.trigger = EventManager.trigger.__code__
        self.traceback = InteractiveShell.showtraceback.__code__
        self.run_code = shell.run_code
        shell.run_code = self.guarded
        self.run_nodes = shell.run_ast_nodes
        shell.run_ast_nodes = self.run_statements
        self.get_exc_info = shell._get_exc_info
        shell._get_exc_info = self.without_handler
        # Simple, because it may be used in a signal's handler.
        self.retries: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self.retry, name="agentbay-interrupts", daemon=True).start()
        self.install()

    def install(self, *_: Any) -> None:
        """Install the handler, again if a cell's code has replaced it."""
        # Trio and asyncio handle an interrupt themselves only if Python's default handler is
        # installed, as in the stock kernel. Code that restores the default restores this one.
        signal.default_int_handler = self.handler  # type: ignore[assignment]
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self.handler)

    def begin(self, cell: str) -> str:
        """Note that a cell begins; return the one around it, for `end`."""
        around, self.cell = self.cell, cell
        self.cancelled = False
        self.follow_debugger()
        self.install()
        if self.register is not None and self.register.begin(cell):
            self.since = time.monotonic()
            self.retries.put(cell)
        return around

    def end(self, around: str = "") -> None:
        """Note that a cell has ended: an interrupt that waits is dropped."""
        self.install()
        if self.register is not None:
            self.register.end(around)
        self.cell, self.since = around, None
        if (debugger := find_debugger()) is not None:
            # Requests that came too late for the halted thread.
            debugger.process_internal_commands()

    async def run_statements(self, *arguments: Any, **options: Any) -> Any:
        """Run all statements of a cell: the shell's `run_ast_nodes`."""
        try:
            return await self.run_nodes(*arguments, **options)
        finally:
            # A handler that the cell has installed is only for its own code.
            if not self.codes:
                self.install()

    async def guarded(self, code: CodeType, result: Any = None, *, async_: bool = False) -> Any:
        """Run one statement of a cell: the shell's `run_code`."""
        if not self.cell or threading.current_thread() is not threading.main_thread():
            return await self.run_code(code, result, async_=async_)
        if self.since is not None:
            code, self.since = raising(code), None
        self.codes.append(code)
        try:
            return await self.run_code(code, result, async_=async_)
        finally:
            self.codes.pop()

    def without_handler(self, *arguments: Any) -> Any:
        """Return an exception to show, its traceback without our own frames."""
        kind, value, first = self.get_exc_info(*arguments)
        wrappers = (Interrupts.guarded.__code__, Interrupts.run_statements.__code__)
        while first is not None and first.tb_next and first.tb_frame.f_code in wrappers:
            first = first.tb_next
        last = first
        while last is not None and last.tb_next is not None:
            following = last.tb_next
            if following.tb_frame.f_code is Interrupts.handle.__code__:
                last.tb_next = None
            elif following.tb_frame.f_code in wrappers:
                last.tb_next = following.tb_next
                continue
            last = last.tb_next
        return kind, value, first

    @contextlib.contextmanager
    def cancelling(self, future: Any) -> Iterator[None]:
        """Cancel `future`, an async cell, if the interrupt comes while it waits."""
        self.future = future
        try:
            yield
        finally:
            self.future = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGINT."""
        # More signals may come while one is handled: nested handlers would overflow the stack.
        if self.handling:
            return
        self.handling = True
        try:
            if os.getpid() != self.process:
                # In a child that a cell has forked, all code is the cell's.
                raise KeyboardInterrupt
            if self.cell:
                if self.since is None:
                    self.since = time.monotonic()
                self.settle(frame)
        finally:
            self.handling = False

    def settle(self, frame: FrameType | None = None) -> None:
        """Raise the interrupt that waits, if it can be raised here."""
        if self.since is None or self.postponed():
            return
        if self.halting:
            self.settle_halted(frame or sys._getframe())
            return
        if self.in_code(frame or sys._getframe()):
            self.since = None
            raise KeyboardInterrupt
        if self.future is not None:
            self.future.get_loop().call_soon_threadsafe(self.cancel, self.cell)
        self.retries.put(self.cell)

    def follow_debugger(self) -> None:
        """Notice when ipykernel's debugger halts the main thread, if it is in use."""
        debugger = find_debugger()
        if debugger is None or debugger is self.debugger:
            return
        self.debugger = debugger
        ensure_answers()
        wait = debugger.do_wait_suspend

        def halt(*arguments: Any, **options: Any) -> None:
            """Wait as the debugger does. An interrupt is raised after that, before more of the code
            runs: inside the debugger it would break the debugger."""
            if threading.current_thread() is not threading.main_thread() or not self.codes:
                wait(*arguments, **options)
                return
            self.halting = True
            try:
                wait(*arguments, **options)
                # Late requests would wait for the next halt, and ipykernel with them.
                debugger.process_internal_commands()
            finally:
                self.halting = False
            if self.since is not None:
                self.since = None
                # Python stops tracing when a trace function raises.
                self.debugger = None
                debugger.do_wait_suspend = wait
                raise KeyboardInterrupt

        debugger.do_wait_suspend = halt
        debugger.enable_tracing()

    def settle_halted(self, frame: FrameType | None) -> None:
        """Make the debugger resume the code; interrupt what it evaluates there."""
        self.retries.put(self.cell)
        ours = Interrupts.settle_halted.__code__.co_filename
        while frame is not None:
            name, file = frame.f_code.co_name, frame.f_code.co_filename
            if name == "send_answer" and file == ours:
                return
            # The debugger catches what a request raises.
            if name == "do_it" and "pydevd" in file:
                raise KeyboardInterrupt
            frame = frame.f_back

    def in_code(self, frame: FrameType | None) -> bool:
        """Return whether a cell's code is on the stack, or a callback of an event, whose errors
        IPython catches too."""
        # Without a register, the worker is killed if a traceback takes too long.
        waited_s = time.monotonic() - self.since if self.since is not None else 0.0
        tracebacks = self.register is not None and waited_s > TRACEBACK_S
        child: CodeType | None = None
        while frame is not None:
            code = frame.f_code
            if any(code is one for one in self.codes):
                return True
            if code is self.trigger and child is not None:
                return child is getattr(frame.f_locals.get("func"), "__code__", None)
            if tracebacks and code is self.traceback and child is not None:
                return True
            child, frame = code, frame.f_back
        return False

    def cancel(self, cell: str) -> None:
        """Cancel an async cell that waits. Called by its loop, so the cell is not running."""
        if self.since is None or self.cell != cell or self.future is None:
            return
        # Not before its code begins: the cell would lose its reply.
        if self.codes and not self.future.done():
            self.since = None
            self.cancelled = True
            self.future.cancel()

    def retry(self) -> None:
        """Signal the main thread again while an interrupt waits. The thread's work."""
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        main = threading.main_thread().ident or 0
        while True:
            cell = self.retries.get()
            time.sleep(RETRY_S)
            if self.since is not None and self.cell == cell:
                if self.halting:
                    # In this thread, because it takes locks that the main thread may hold.
                    sys.modules["_pydevd_bundle.pydevd_thread_lifecycle"].resume_threads("*")
                signal.pthread_kill(main, signal.SIGINT)


def find_debugger() -> Any:
    """Return ipykernel's debugger (`pydevd.PyDB`), None if it is not in use."""
    constants: Any = sys.modules.get("_pydevd_bundle.pydevd_constants")
    return constants.get_global_debugger() if constants is not None else None


def ensure_answers() -> None:
    """Make debugpy answer each request that the halted main thread handles, even if an interrupt
    ends it: ipykernel would take the next answer for the one it waits for."""
    module: Any = sys.modules["_pydevd_bundle.pydevd_comm"]
    handle = module.InternalThreadCommand.do_it
    if handle.__module__ == __name__:
        return

    def do_it(command: Any, debugger: Any) -> None:
        """Handle a request, and answer it if nothing else did."""
        request = next((it for it in command.args or () if hasattr(it, "command")), None)
        if request is None or threading.current_thread() is not threading.main_thread():
            handle(command, debugger)
            return
        writer, is_answered = debugger.writer, False
        send = writer.add_command

        def send_answer(message: Any) -> None:
            """Send a message, which may be the answer. No interrupt is raised in this function."""
            nonlocal is_answered
            content = getattr(message, "as_dict", {})
            is_answered = is_answered or content.get("request_seq") == request.seq
            send(message)

        writer.add_command = send_answer
        try:
            handle(command, debugger)
        finally:
            writer.add_command = send
            if not is_answered:
                refused = refusal(request.seq, request.command, "It was interrupted.")
                send(module.NetCommand(module.CMD_RETURN, 0, refused, is_json=True))

    module.InternalThreadCommand.do_it = do_it


def refusal(number: int, command: str, message: str) -> dict[str, Any]:
    """Return an error response of the Debug Adapter Protocol."""
    answer = {"type": "response", "request_seq": number, "command": command}
    return {**answer, "success": False, "message": message, "body": {}}


def install(path: str) -> None:
    """Install both parts in ipykernel, from code that it runs.

    Arguments:
        path: of the register's file.
    """
    from IPython import get_ipython

    shell: Any = get_ipython()
    kernel = shell.kernel
    interrupts = Interrupts(shell, CellRegister(path))
    handler = kernel.shell_handlers["execute_request"]

    async def execute_request(stream: Any, ident: Any, parent: Any) -> None:
        """Run a cell; only those of the main thread, not of subshells, can be interrupted."""
        if threading.current_thread() is not threading.main_thread():
            await handler(stream, ident, parent)
            return
        around = interrupts.begin(parent["header"]["msg_id"])
        try:
            await handler(stream, ident, parent)
        finally:
            interrupts.end(around)

    kernel.shell_handlers["execute_request"] = execute_request
    sys.setrecursionlimit(sys.getrecursionlimit() + FRAMES)
    # The debugger must not show or step into our own frames.
    if hasattr(kernel, "debugger"):
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            kernel.debugger.kernel_modules.append(frame.f_code.co_filename)
            frame = frame.f_back
        process_request = kernel.debugger.process_request

        async def answer_request(request: dict[str, Any]) -> dict[str, Any]:
            """Reply with an error if ipykernel fails, for example because the code has continued;
            it would not reply."""
            try:
                reply: dict[str, Any] = await process_request(request)
            except Exception as failure:
                return refusal(request["seq"], request["command"], repr(failure))
            return reply

        kernel.debugger.process_request = answer_request
    kernel._cancel_on_sigint = interrupts.cancelling
    # Between two requests too: otherwise ipykernel restores a handler that ignores the signal, or
    # raises inside ipykernel.
    kernel.pre_handler_hook = kernel.post_handler_hook = interrupts.install
