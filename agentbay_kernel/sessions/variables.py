"""The variables of a session, in either language, in bridged and direct execution.

The code that lists them runs in the sandbox (`sandbox/variables.py`, `variables.js`). Its output is
not trusted.
"""

from __future__ import annotations

import ast
import functools
import json
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from typing import Any

from agentbay_kernel import threads
from agentbay_kernel.errors import InvalidResponseError, SessionError
from agentbay_kernel.execution.bridge.javascript import BridgedJavaScript
from agentbay_kernel.execution.bridge.python import BridgedPython
from agentbay_kernel.execution.sources import packed, read_source
from agentbay_kernel.languages import LANGUAGES, PYTHON
from agentbay_kernel.sessions.session import LiveSession

_DIRECT_S = 50
# Limits that the sandbox keeps; they are enforced here too.
_MOST_ROWS, _LONGEST = 1_000, 200
# Without a bridge, the names in a fresh context and Node's globals are Node's own.
_DIRECT_JAVASCRIPT = """\
console.log(JSON.stringify(({source})((() => {{
  const util = require('node:util'), vm = require('node:vm');
  const nodes = new Set(vm.runInNewContext('Object.getOwnPropertyNames(globalThis)'));
  const own = (name) => Object.getOwnPropertyDescriptor(globalThis, name);
  const names = `{names}`.split(' ');
  return {{
    world: globalThis,
    isNodes: (name) => nodes.has(name) || names.includes(name),
    isProxy: util.types.isProxy,
    read: (name) => {{
      const {{ get, value }} = own(name);
      if (!get) return value;
      // A constant's, as cells are rewritten.
      if (!Function.prototype.toString.call(get).startsWith('()=>s?x:early(')) throw 0;
      return Reflect.apply(get, globalThis, []);
    }},
  }};
}})())))"""
_NODES_NAMES = (
    "global process require module exports clearImmediate setImmediate clearInterval clearTimeout "
    "setInterval setTimeout queueMicrotask structuredClone atob btoa performance fetch navigator "
    "crypto localStorage sessionStorage"
)


@dataclass(frozen=True)
class Variable:
    """A variable: its name, type, shape or length, size in bytes if it is known, short value."""

    name: str
    type: str
    shape: str
    bytes: int | None
    value: str


@dataclass(frozen=True)
class Variables:
    """The variables of one language; `total` includes those that are left out."""

    language: str
    variables: tuple[Variable, ...]
    total: int


def read_variables(live: LiveSession, language: str, within_s: float = 10.0) -> Variables:
    """List the variables of a session, without running any of the user's code.

    Arguments:
        within_s: seconds that the language's interpreter has to reply.

    Raises:
        SessionError: the language's interpreter does not reply, because it runs code.
        InvalidResponseError: the reply is not a list.
        CommandError: the service failed.
    """
    asking = threads.start(lambda: _ask(live, language))
    try:
        return _read(asking.result(within_s), language)
    except NotYet:
        raise SessionError(
            f"{LANGUAGES[language].display_name} in {live.name!r} is busy, so its variables could "
            "not be listed. Wait for its cell to end, or interrupt it."
        ) from None
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError) as error:
        raise InvalidResponseError(
            f"The sandbox did not list its variables ({type(error).__name__})."
        ) from None


def _ask(live: LiveSession, language: str) -> Any:
    bridge = live.bridge(language)
    if isinstance(bridge, BridgedPython):
        return json.loads(ast.literal_eval(bridge.evaluate(_python_expression())))
    if isinstance(bridge, BridgedJavaScript):
        return bridge.variables(read_source("variables.js"))
    if language == PYTHON.name:
        code = f"print({_python_expression()})"
    else:
        code = _DIRECT_JAVASCRIPT.format(source=_javascript_source(), names=_NODES_NAMES)
    result = live.session.code.run_code(code, language, _DIRECT_S)
    return json.loads("".join(result.logs.stdout))


@functools.cache
def _python_expression() -> str:
    source = packed(read_source("variables.py") + "\n__import__('sys')._agentbay_listing = listing")
    return f"({source}, __import__('sys').__dict__.pop('_agentbay_listing')(globals()))[1]"


@functools.cache
def _javascript_source() -> str:
    return read_source("variables.js").strip()


def _read(told: Any, language: str) -> Variables:
    rows = [_variable(*row) for row in told["rows"][:_MOST_ROWS]]
    return Variables(language, tuple(rows), max(int(told["total"]), len(rows)))


def _variable(name: object, kind: object, shape: object, size: object, value: object) -> Variable:
    texts = [str(text)[:_LONGEST] for text in (name, kind, shape, value)]
    known = size if type(size) is int and 0 <= size < 2**63 else None
    return Variable(texts[0], texts[1], texts[2], known, texts[3])
