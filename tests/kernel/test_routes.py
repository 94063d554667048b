"""Cells on the routes without a WebSocket, in both executions: what works does so everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from agentbay_kernel.service import AgentBay
from tests.execution.bench import ROUTES
from tests.kernels import ANSWER_S, RunningKernel, running_kernel
from tests.runtime import running_local_runtime

# Where the local runtime offers a WebSocket, the other tests of this folder use it.
# `make test` has each route and each execution. What carries a bridge on the action route is in
# `tests/execution/test_tunnel.py`, and cells that are run directly differ least on the link route.
_QUICK = (("link", "bridged"), ("action", "direct"))
_WAYS = [
    pytest.param((route, how), marks=[pytest.mark.slow] * ((route, how) not in _QUICK))
    for route in ("link", "action")
    for how in ("bridged", "direct")
]


@dataclass
class Way:
    """A kernel on one route, its execution, and a client of the service."""

    kernel: RunningKernel
    execution: str
    client: AgentBay

    def touch(self, name: str) -> None:
        """Make a file in the kernel's session."""
        (row,) = self.client.list_all()
        session = self.client.get(row["sessionId"]).session
        assert session is not None
        assert session.call_mcp_tool("shell", {"command": f"touch {name}"}).success


@pytest.fixture(scope="module", params=_WAYS, ids=lambda way: "-".join(way))
def way(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    route, execution = request.param
    profile = tmp_path_factory.mktemp("profile") / "profile.json"
    profile.write_text(json.dumps(ROUTES[route]))
    with running_local_runtime("--profile", str(profile)) as runtime:
        environment = {
            "AGENTBAY_ENDPOINT": runtime.endpoint,
            "AGENTBAY_API_KEY": runtime.api_key,
            "AGENTBAY_EXECUTION": execution,
        }
        client = AgentBay(runtime.api_key, endpoint=runtime.endpoint)
        with client, running_kernel("agentbay-python", environment) as kernel:
            kernel.run("1")
            yield Way(kernel, execution, client)


def test_output_results_and_state(way: Way) -> None:
    kernel, execution = way.kernel, way.execution
    ran = kernel.run("import sys\nkept = 6\nprint('out'); print('err', file=sys.stderr)\nkept * 7")
    assert (ran.text(), ran.text("stderr")) == ("out\n", "err\n")
    assert ran.of_type("execute_result")[0]["data"]["text/plain"] == "42"
    ran = kernel.run("from IPython.display import HTML\nHTML('<b>kept</b>')")
    assert ran.of_type("execute_result")[0]["data"]["text/html"] == "<b>kept</b>"
    # In direct execution the action route carries 63 KB, and no more.
    size = 30_000 if execution == "bridged" else 5_000
    assert kernel.run(f"print('ä中' * {size})").text() == "ä中" * size + "\n"


def test_an_error_aborts_what_is_queued(way: Way) -> None:
    kernel = way.kernel
    failing, queued = kernel.send("1 / 0"), kernel.send("print('must not run')")
    ran = kernel.finish(failing)
    (error,) = ran.of_type("error")
    assert error["ename"] == ran.reply["ename"] == "ZeroDivisionError"
    assert kernel.finish(queued).reply["status"] == "aborted"


def test_javascript(way: Way) -> None:
    kernel = way.kernel
    for _ in range(2):
        ran = kernel.run("%%agentbay js\nconst boats = 3; console.log('hi'); boats * 2")
        assert ran.text() == "hi\n"
        assert ran.of_type("execute_result")[0]["data"]["text/plain"] == "6"
    ran = kernel.run("%%agentbay js\nthrow new RangeError('far')")
    assert (ran.reply["ename"], ran.reply["evalue"]) == ("RangeError", "far")


def test_stop(way: Way) -> None:
    kernel = way.kernel
    kernel.run("kept = 5")
    running = kernel.send("import os, time\nwhile not os.path.exists('go'): time.sleep(.02)")
    kernel.wait_for_output(running, "execute_input")
    kernel.manager.interrupt_kernel()
    assert kernel.finish(running).reply["ename"] == "KeyboardInterrupt"
    following = kernel.send("print(kept)")
    if way.execution == "direct":
        # The sandbox runs it to its end; the next cell waits for that.
        way.touch("go")
    assert kernel.finish(following).text() == "5\n"


def test_output_comes_live_and_input_is_asked_where_cells_are_bridged(
    way: Way,
) -> None:
    kernel, execution = way.kernel, way.execution
    if execution == "direct":
        ran = kernel.run("input('? ')")
        # Said at once, not by a cell that never ends.
        assert ran.reply["status"] == "error"
        return
    running = kernel.send("print('before', flush=True)\ntyped = input('? ')\nprint('got', typed)")
    assert kernel.client.get_stdin_msg(timeout=ANSWER_S)["content"]["prompt"] == "? "
    assert kernel.wait_for_output(running, "stream")["text"] == "before\n"
    kernel.client.input("a word")
    assert kernel.finish(running).text() == "got a word\n"
