"""`%agentbay vars`, and what a page's variable inspector sends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.conftest import LOCAL
from tests.kernel.test_debugger import INITIALIZE, Page
from tests.kernels import RunningKernel, running_kernel

PLAIN = """
import numpy, pandas
array = numpy.arange(12).reshape(3, 4)
frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
nested = {"a": [1, {2: (3, 4)}]}
text = "x" * 10_000_000
big = 10 ** 5000
html = "<img src=x onerror=alert(1)>\\u202e"
class Point:
    def __init__(self):
        self.x, self.y = 1, "two"
point = Point()
def function(): pass
"""
# Whatever of these is called raises, prints, or never ends.
HOSTILE = """
def acts(self, *_):
    seen.append(1)
    while True: pass
seen = []
class Hangs:
    __len__ = __sizeof__ = __repr__ = __str__ = __getattribute__ = __hash__ = __eq__ = acts
    shape = property(acts)
class Meta(type):
    __name__ = __mro__ = property(acts)
    __instancecheck__ = __subclasscheck__ = __getattribute__ = __eq__ = __hash__ = acts
class Named(metaclass=Meta): pass
class Text(str):
    __repr__ = __len__ = __getitem__ = acts
class Mapped(dict):
    __iter__ = items = __len__ = __repr__ = acts
class Raises:
    def __repr__(self): raise SystemExit
class Large:
    def __repr__(self): return "L" * 100_000_000
class Prints:
    def __repr__(self):
        print("printed")
        return ""
hangs, named, words, mapped = Hangs(), Named(), Text("x"), Mapped(a=1)
raises, large, prints = Raises(), Large(), Prints()
inside = [Hangs(), Raises(), Large(), {"k": Named()}]
globals()[5] = globals()[Text("name")] = 1
"""
JAVASCRIPT = """%%agentbay js
const loop = () => { for (;;); };
const list = [1, 2, 3, 4, 5, 6, 7], map = new Map([[1, 2]]), typed = new Float64Array(10);
let nested = {a: [1, {b: 2}]}, big = 10n ** 5000n, text = 'x'.repeat(1e6);
const handler = {get: loop, ownKeys: loop, getPrototypeOf: loop, getOwnPropertyDescriptor: loop};
const proxy = new Proxy({}, handler), within = [proxy, {get x() { return loop(); }}];
const getters = {get [Symbol.toStringTag]() { return loop(); }, toString: loop};
getters[Symbol.toPrimitive] = getters.toJSON = loop;
Object.setPrototypeOf(getters, {get constructor() { return loop(); }});
Object.defineProperty(globalThis, 'trap', {get: loop, configurable: true});
class Point { constructor() { this.x = 1; this.y = 'two'; } }
var point = new Point();
"""


def listed(kernel: RunningKernel, words: str = "") -> dict[str, dict[str, Any]]:
    """What `%agentbay vars --json` says of each variable."""
    ran = kernel.run(f"%agentbay vars {words} --json")
    assert ran.reply["status"] == "ok", ran.reply
    (shown,) = ran.of_type("display_data")
    assert json.loads(shown["data"]["text/plain"]) == shown["data"]["application/json"]
    return {one["name"]: one for one in shown["data"]["application/json"]["variables"]}


def test_python_variables(python_kernel: RunningKernel) -> None:
    python_kernel.run(PLAIN)
    found = listed(python_kernel)
    rows = {name: (one["type"], one["shape"], one["value"]) for name, one in found.items()}
    assert rows["array"] == ("ndarray", "(3, 4)", "int64 [0, 1, 2, 3, 4, \u2026]")
    assert rows["frame"] == ("DataFrame", "(2, 2)", "columns 'a', 'b'")
    assert rows["nested"] == ("dict", "1", "{'a': [1, {2: (\u2026)}]}")
    assert rows["point"] == ("Point", "", "Point(x=1, y='two')")
    assert rows["big"][2] == "a number of 16610 bits"
    assert found["array"]["bytes"] == 96 and found["text"]["bytes"] > 10_000_000
    assert len(found["text"]["value"]) < 200
    assert not {"function", "numpy", "Point", "In"} & set(found)
    (shown,) = python_kernel.run("%agentbay vars").of_type("display_data")
    # A table of text.
    assert (
        "&lt;img src=x" in shown["data"]["text/html"] and "<img" not in shown["data"]["text/html"]
    )
    assert "\u202e" not in shown["data"]["text/plain"]


def test_no_code_of_a_value_runs(python_kernel: RunningKernel) -> None:
    assert python_kernel.run(HOSTILE).reply["status"] == "ok"
    found = listed(python_kernel)
    assert {"hangs", "named", "words", "mapped", "raises", "large", "prints"} <= set(found)
    assert found["hangs"]["type"] == "Hangs" and found["named"]["type"] == "Named"
    assert all(len(one["value"]) < 200 for one in found.values())
    assert python_kernel.run("print(len(seen))").text() == "0\n"
    python_kernel.run("%reset -f")
    assert python_kernel.run("%agentbay vars").reply["status"] == "ok"


def test_javascript_variables_without_running_their_code(python_kernel: RunningKernel) -> None:
    assert python_kernel.run(JAVASCRIPT).reply["status"] == "ok"
    found = listed(python_kernel, "js")
    rows = {name: (one["type"], one["shape"], one["value"]) for name, one in found.items()}
    assert rows["list"] == ("Array", "7", "[1, 2, 3, 4, 5, \u2026]")
    assert rows["map"][:2] == ("Map", "1") and rows["typed"][:2] == ("Float64Array", "10")
    assert rows["nested"] == ("Object", "", "{a: [1, Object {\u2026}]}")
    assert rows["point"] == ("Point", "", 'Point {x: 1, y: "two"}')
    assert rows["proxy"] == ("Proxy", "", "Proxy") and rows["within"][2].startswith("[Proxy, ")
    assert "getters" in rows and "trap" not in rows and "loop" not in rows
    assert rows["big"][2] == "a long bigint" and found["text"]["bytes"] == 2_000_000
    (shown,) = python_kernel.run("%agentbay vars js").of_type("display_data")
    assert "Float64Array" in shown["data"]["text/plain"]


def test_variables_while_a_cell_runs(bridged_kernel: RunningKernel) -> None:
    bridged_kernel.run("kept = [1, 2]")
    running = bridged_kernel.send("print('go')\nwhile True: pass")
    bridged_kernel.wait_for_output(running, "stream")
    assert listed(bridged_kernel)["kept"]["value"] == "[1, 2]"
    bridged_kernel.manager.interrupt_kernel()
    bridged_kernel.finish(running)


# What jupyterlab-variableinspector sends, shortened: code that defines its functions, unseen, then
# calls of them that are seen and not kept in the history.
INSPECTOR = """
import json
_inspector_items = 10
def _inspector_change(items):
    global _inspector_items
    _inspector_items = items
def _inspector_list():
    shown = {k: str(v) for k, v in globals().items() if k in ('seen', 'html')}
    return json.dumps(dict(shown, items=_inspector_items))
"""


@pytest.fixture(scope="module")
def inspected() -> Iterator[RunningKernel]:
    """A kernel that has no session yet, and whose page has an inspector."""
    env = {**LOCAL, "AGENTBAY_EXECUTION": "bridged", "AGENTBAY_START": "first-cell"}
    with running_kernel("agentbay-python", env) as kernel:
        kernel.run(INSPECTOR, silent=True)
        yield kernel


def query(kernel: RunningKernel, code: str) -> Any:
    """What a query of the inspector returns, read as it reads it."""
    ran = kernel.run(code, store_history=False, stop_on_error=False)
    assert ran.reply["status"] == "ok"
    for result in ran.of_type("execute_result"):
        return json.loads(result["data"]["text/plain"][1:-1].replace('\\"', '"'))
    return None


def test_an_inspector_creates_no_session_and_works_with_one(inspected: RunningKernel) -> None:
    for _ in range(3):
        assert query(inspected, "_inspector_change(items=5)") is None
        assert query(inspected, "_inspector_list()") is None
        assert inspected.run("%agentbay vars").reply["ename"] == "SessionError"
    (shown,) = inspected.run("%agentbay status").of_type("display_data")
    assert "none" in shown["data"]["text/plain"]
    # Other code that is not kept in the history is somebody's.
    assert inspected.run("print('run')", store_history=False).text() == "run\n"
    inspected.run("seen = 1")
    assert query(inspected, "_inspector_list()") == {"seen": "1", "items": 5}


def test_direct_execution_has_no_debugger(direct_kernel: RunningKernel) -> None:
    page = Page(direct_kernel)
    assert page.body("inspectVariables") == {"variables": []}
    reply = page.ask("initialize", **INITIALIZE)
    assert not reply["success"] and "needs bridged execution" in reply["message"]
    assert "needs bridged execution" in direct_kernel.run("1").text("stderr")
