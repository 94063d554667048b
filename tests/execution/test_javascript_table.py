"""JavaScript against the table of what Node's REPL does, by all three ways of running a cell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.execution.javascript_table import (
    COMPLETENESS,
    COMPLETIONS,
    INSPECTIONS,
    ROWS,
    Completeness,
    Completion,
    Inspection,
    Row,
)
from tests.kernels import ANSWER_S, Ran, RunningKernel, running_kernel

LOCAL = {"AGENTBAY_BACKEND": "local"}
# What the rows import, written in the sandbox by a cell.
FILES = {
    "lib.mjs": "export default 'main'; export const one = 1;",
    "old.cjs": "exports.answer = 42;",
    "data.json": '{"n": 7}',
    "node_modules/small-package/package.json": '{"main": "index.js"}',
    "node_modules/small-package/index.js": "exports.size = 3;",
    "node_modules/fetch-package/package.json": '{"main": "index.js"}',
    "node_modules/fetch-package/index.js": (
        "module.exports = async () => (await fetch('data:text/plain,fetched')).text();"
    ),
    "wasm-package/index.mjs": (
        "const { instance } = await WebAssembly.instantiate(new Uint8Array([0,97,115,109,1,0,0,0,1,"
        "7,1,96,2,127,127,1,127,3,2,1,0,7,7,1,3,97,100,100,0,0,10,9,1,7,0,32,0,32,1,106,11]));"
        "export const add = instance.exports.add;"
    ),
}
WRITE = (
    "for (const [name, text] of Object.entries({files})) {{\n"
    "  require('fs').mkdirSync(require('path').dirname(name), {{ recursive: true }});\n"
    "  require('fs').writeFileSync(name, text);\n}}"
)


@dataclass
class Route:
    """One way of running a cell."""

    name: str
    kernel: RunningKernel

    @property
    def head(self) -> str:
        """What stands before a cell's code."""
        return "%%agentbay javascript\n" if self.name == "magic" else ""

    def run(self, code: str, typed: tuple[str, ...] = ()) -> tuple[Ran, tuple[str, ...]]:
        """Run a cell, answer what it asks; returns what it asked."""
        client = self.kernel.client
        sent = self.kernel.send(self.head + code, allow_stdin=bool(typed))
        asked = []
        for answer in typed:
            asked.append(client.get_stdin_msg(timeout=ANSWER_S)["content"]["prompt"])
            client.input(answer)
        return self.kernel.finish(sent), tuple(asked)

    def ask(self, message_id: str) -> Any:
        """The reply to a request."""
        while True:
            reply = self.kernel.client.get_shell_msg(timeout=ANSWER_S)
            if reply["parent_header"]["msg_id"] == message_id:
                return reply["content"]


@pytest.fixture(scope="module", params=["kernel", "magic", "direct"])
def route(request: pytest.FixtureRequest) -> Iterator[Route]:
    """One kernel for all rows."""
    name = "python3" if request.param == "magic" else "agentbay-javascript"
    env = {**LOCAL, "AGENTBAY_EXECUTION": "direct" if request.param == "direct" else "auto"}
    with running_kernel(name, env) as kernel:
        if request.param == "magic":
            assert kernel.run("%load_ext agentbay_kernel").reply["status"] == "ok"
        route = Route(request.param, kernel)
        write = "1" if request.param == "direct" else WRITE.format(files=FILES)
        assert route.run(write)[0].reply["status"] == "ok"
        yield route


def results(ran: Ran) -> list[dict[str, Any]]:
    """The displays and results, as MIME bundles; without what we say ourselves."""
    kinds = ("display_data", "execute_result")
    found = [one["content"]["data"] for one in ran.outputs if one["msg_type"] in kinds]
    return [one for one in found if not str(one.get("text/plain")).startswith("AgentBay: ")]


# The magic runs cells as the kernel does, and direct execution rewrites them as both do. Of what
# has no hint or question of its own there, `make test` has in them every third row that is an
# error, and every eighth of the others.
TOLD = [
    row
    for number, row in enumerate(ROWS)
    if not number % (3 if row.error else 8) or row.magic or row.err or row.typed or row.paged
]
PLAIN = [row for row in ROWS if row not in TOLD]


@pytest.mark.parametrize("row", TOLD, ids=lambda row: row.name)
def test_a_cell(route: Route, row: Row) -> None:
    if (route.name == "direct" and row.direct) or (route.name == "magic" and row.magic):
        # The row says why.
        return
    cells = (row.code,) if isinstance(row.code, str) else row.code
    for cell in cells[:-1]:
        route.run(cell)
    ran, asked = route.run(cells[-1], row.typed)
    # Where the error is a cell's own, its first line is what everybody sees.
    failed = ran.of_type("error")
    told = [f"{one['ename']}: {one['evalue']}".split("\n")[0] for one in failed]
    assert told == ([row.error] if row.error else []), ran
    assert ran.reply["status"] == ("error" if row.error else "ok")
    traceback = "\n".join(failed[0]["traceback"]) if failed else ""
    for part in row.trace:
        assert part.format(n=ran.reply["execution_count"]) in traceback, traceback
    for part in row.no_trace:
        assert part not in traceback, traceback
    assert traceback.count("Uncaught") <= 1
    shown = results(ran)
    expected = [dict(one) for one in row.shown]
    if row.value is not None:
        expected.append({"text/plain": row.value})
    assert shown == expected, ran
    assert re.sub(r"[\d.]+(ms|s)\b", "<time>", ran.text("stdout")) == row.out
    # The kernel's hints are on stderr, the magics' in the traceback.
    hinted = ran.text("stderr") + (traceback if row.error and route.name == "magic" else "")
    if row.err:
        assert row.err in hinted
        assert hinted.count("Uncaught") <= 1
    else:
        assert ran.text("stderr") == ""
        assert "TypeScript" not in traceback and "JSX" not in traceback
    assert len(asked) == len(row.asked)
    for question, wanted in zip(asked, row.asked, strict=True):
        assert wanted in question
    paged = "\n".join(str(one["data"]["text/plain"]) for one in ran.reply.get("payload", []))
    for part in row.paged:
        assert part in paged


@pytest.mark.parametrize("row", PLAIN, ids=lambda row: row.name)
@pytest.mark.parametrize(
    "route",
    ["kernel", *(pytest.param(it, marks=pytest.mark.slow) for it in ("magic", "direct"))],
    indirect=True,
)
def test_a_plain_cell(route: Route, row: Row) -> None:
    test_a_cell(route, row)


@pytest.mark.parametrize("row", COMPLETIONS, ids=lambda row: row.name)
def test_a_completion(route: Route, row: Completion) -> None:
    if route.name == "direct":
        # Nobody can be asked between two calls of run_code.
        return
    route.run(row.before)
    before, _, after = row.code.partition("|")
    cursor = len(route.head + before)
    reply = route.ask(route.kernel.client.complete(route.head + before + after, cursor))
    matches = reply["matches"]
    assert set(row.has) <= set(matches)
    assert not set(row.lacks) & set(matches)
    if row.only is not None:
        assert tuple(matches) == row.only
    if row.word is not None:
        assert (route.head + before)[reply["cursor_start"] : cursor] == row.word


@pytest.mark.parametrize("row", INSPECTIONS, ids=lambda row: row.name)
def test_an_inspection(route: Route, row: Inspection) -> None:
    if route.name != "kernel":
        # A stock kernel inspects its own names; in direct execution nobody can be asked.
        return
    route.run(row.before)
    before, _, after = row.code.partition("|")
    reply = route.ask(route.kernel.client.inspect(before + after, len(before)))
    assert reply["found"] == bool(row.has)
    for part in row.has:
        assert part in reply["data"]["text/plain"]


@pytest.mark.parametrize("row", COMPLETENESS, ids=lambda row: row.code)
def test_whether_a_cell_is_complete(route: Route, row: Completeness) -> None:
    if route.name == "magic":
        # A stock kernel answers itself.
        return
    reply = route.ask(route.kernel.client.is_complete(row.code))
    assert reply["status"] == row.status
    assert reply.get("indent") == row.indent
