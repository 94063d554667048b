"""The code that installs the bridge in a sandbox with one call, and code to query and end it.

It is Python source for `run_code` that contains the bridge's modules of `sandbox/`, packed. If a
bridge of the same source already runs, the code keeps it. It always prints the bridge's pipe and
the offsets of its streams (`bridge.attach`).
"""

from __future__ import annotations

import ast
import functools
import hashlib
import re

from agentbay_kernel.errors import BridgeError
from agentbay_kernel.execution.bridge.wakeup import release_any
from agentbay_kernel.execution.sources import DISPLAY_HOOKS, packed, read_source
from agentbay_kernel.service import Session
from agentbay_kernel.service.envelope import decode_json

# The bridge's name in the sandbox's Python. The bridge of an attached session has another name.
MODULE = "_agentbay_bridge"
# Most bytes of output that the sandbox keeps for a front end that does not collect them.
_BOUND = 64 * 1024 * 1024
# The files of the bridge's modules in the sandbox, by the names of their imports; the main module
# comes last.
_MODULES = {
    f"agentbay_kernel.sandbox.{name}": f"{name}.py"
    for name in (
        "full_output",
        "outbox",
        "interrupts",
        "completion_cache",
        "prepared_kernel",
        "jupyter_kernel",
        "node_process",
        "node_kernel",
        "usage",
    )
}
_MAIN = "bridge.py"
_WORKER = "node_worker.js"
# The module whose source the kernel needs too.
_INTERRUPTS = "agentbay_kernel.sandbox.interrupts"

_INSTALL = """\
import sys, types
sources = {sources!r}
module = sys.modules.get({module!r})
if module is None or module.digest != {digest!r} or not module.bridge.alive:
    if module is not None:
        module.bridge.close()
    for name, source in sources.items():
        module = sys.modules[name] = types.ModuleType(name)
        exec(source, module.__dict__)
    module.digest = {digest!r}
    module.start({bound!r}, {worker!r}, {hooks!r}, sources[{interrupts!r}])
module.attach()
"""


@functools.cache
def installing_code(module: str = MODULE) -> str:
    """Return the installing code, which defines no names; modules are in `sys.modules` only."""
    files = {**_MODULES, module: _MAIN}
    sources = {name: _without_words(read_source(file)) for name, file in files.items()}
    worker = _without_comments(read_source(_WORKER), "//")
    hooks = _without_words(read_source(DISPLAY_HOOKS))
    digest = hashlib.sha256("\0".join([*sources.values(), worker, hooks]).encode()).hexdigest()
    return packed(
        _INSTALL.format(
            module=module,
            digest=digest,
            sources=sources,
            bound=_BOUND,
            worker=worker,
            hooks=hooks,
            interrupts=_INTERRUPTS,
        )
    )


def _without_words(source: str) -> str:
    """Return Python source without comments and docstrings: the call must be small.

    Whole lines are blanked, and no code is rewritten: the sandbox may have an older Python.
    """
    lines = source.splitlines()
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    # Only statements: expressions are most of the tree, and have no docstrings.
    nodes: list[ast.stmt | ast.Module] = [ast.parse(source)]
    for node in nodes:
        nodes += getattr(node, "body", [])
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
            words = node.body[0]
            last = words.end_lineno or words.lineno
            lines[words.lineno - 1 : last] = [""] * (last - words.lineno + 1)
            if not isinstance(node, ast.Module):
                lines[words.lineno - 1] = " " * words.col_offset + "pass"
    return _without_comments("\n".join(lines), "#")


def _without_comments(source: str, mark: str) -> str:
    """Return source with all lines blanked that start with a comment's mark."""
    return re.sub(rf"(?m)^[ \t]*{mark}.*$", "", source)


_CALL_TIMEOUT_S = 30
_ENDING_CODE = """(lambda bridge: bridge and bridge.close())(
    getattr(__import__('sys').modules.pop({module!r}, None), 'bridge', None))
"""

_STATUSES = ("unknown", "running", "ended")


def request_status(session: Session, message_id: str, module: str = MODULE) -> str:
    """Return a cell's status: `unknown` (it never reached the bridge), `running` or `ended`.

    Arguments:
        message_id: id of the cell's execute_request.
        module: the bridge's name.

    Raises:
        BridgeError: the bridge no longer exists, or returned no valid status.
        CommandError: the service failed.
    """
    code = f"__import__('sys').modules[{module!r}].request_status({message_id!r})"
    result = session.code.run_code(code, "python", _CALL_TIMEOUT_S)
    if not result.success:
        raise BridgeError(f"The bridge did not respond: {result.error_message}")
    try:
        status = decode_json("".join(result.logs.stdout))
    except ValueError:
        status = None
    if status not in _STATUSES:
        raise BridgeError("The bridge did not report what became of the cell.")
    return str(status)


def end_bridge(session: Session, module: str = MODULE) -> None:
    """End a session's bridge, if it has one.

    Raises:
        BridgeError: the sandbox could not end it.
        CommandError: the service failed.
    """
    release_any(session)
    result = session.code.run_code(_ENDING_CODE.format(module=module), "python", _CALL_TIMEOUT_S)
    if not result.success:
        raise BridgeError(f"the session's bridge could not be ended: {result.error_message}")
