"""The code that installs the bridge in a sandbox, in one call.

Out: Python source for `run_code`, self-contained: the modules of `sandbox/` that the bridge is
made of travel packed in it. Run again where a bridge of the same source is at work, it leaves that
one alone; each time it prints where the bridge is and where its streams stand (`bridge.tell`).
"""

from __future__ import annotations

import ast
import base64
import functools
import hashlib
import zlib
from pathlib import Path

# How calls find the bridge in the sandbox's Python; a guest's has a name of its own.
MODULE = "_agentbay_bridge"
# The sandbox keeps this many bytes for a front end that does not collect.
_BOUND = 64 * 1024 * 1024
# The far end's modules by the names under which they find each other; its main one comes last.
_MODULES = {
    f"agentbay_kernel.sandbox.{name}": f"{name}.py"
    for name in (
        "whole_output",
        "outbox",
        "interrupts",
        "jupyter_kernel",
        "node_process",
        "node_kernel",
    )
}
_MAIN = "bridge.py"
_WORKER = "node_worker.js"
_HOOKS = "display_hooks.py"
# The kernel needs its source too.
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
module.tell()
"""


@functools.cache
def installing_code(module: str = MODULE) -> str:
    """The source text; it leaves no names behind but that of the bridge's module."""
    folder = Path(__file__).parents[1] / "sandbox"
    files = {**_MODULES, module: _MAIN}
    sources = {
        name: _without_words(folder.joinpath(file).read_text("utf-8"))
        for name, file in files.items()
    }
    worker, hooks = (folder.joinpath(file).read_text("utf-8") for file in (_WORKER, _HOOKS))
    digest = hashlib.sha256("\0".join([*sources.values(), worker, hooks]).encode()).hexdigest()
    return _packed(
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


@functools.cache
def display_hooks_code() -> str:
    """Source that prepares the Python that runs cells to show charts (`sandbox/display_hooks`).

    The bridge does so in the kernel that it starts; run again it does nothing.
    """
    return _packed(Path(__file__).parents[1].joinpath("sandbox", _HOOKS).read_text("utf-8"))


def _without_words(source: str) -> str:
    """Python source without comments and docstrings: the call has to be small."""
    tree = ast.parse(source)
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
            node.body[0] = ast.Pass()
    # An import from the future stands first.
    if tree.body and isinstance(tree.body[0], ast.Pass):
        del tree.body[0]
    return ast.unparse(tree)


def _packed(script: str) -> str:
    packed = base64.b64encode(zlib.compress(script.encode(), 9)).decode()
    unpacked = f"__import__('zlib').decompress(__import__('base64').b64decode({packed!r}))"
    return f"exec({unpacked}, {{'__name__': '_agentbay'}})"
