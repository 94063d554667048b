"""JavaScript with a notebook's manners, in both kernels that can run it."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.conftest import LOCAL
from tests.kernels import ANSWER_S, Ran, RunningKernel, running_kernel

SVG = '<svg xmlns="http://www.w3.org/2000/svg"/>'


@pytest.fixture(scope="module", params=["bridged", "direct"])
def either(request: pytest.FixtureRequest) -> RunningKernel:
    """One "AgentBay JavaScript" in either execution, which other tests have too."""
    name = {"bridged": "javascript_kernel", "direct": "direct_js"}[request.param]
    kernel: RunningKernel = request.getfixturevalue(name)
    return kernel


@pytest.fixture(scope="module")
def direct_js() -> Iterator[RunningKernel]:
    """One in direct execution."""
    with running_kernel("agentbay-javascript", {**LOCAL, "AGENTBAY_EXECUTION": "direct"}) as kernel:
        yield kernel


@pytest.fixture(scope="module")
def changed() -> Iterator[RunningKernel]:
    """One with other settings."""
    settings = {"AGENTBAY_TIMEOUT": "2", "AGENTBAY_STRICT_CONST": "1"}
    with running_kernel("agentbay-javascript", {**LOCAL, **settings}) as kernel:
        yield kernel


def value(ran: Ran) -> str:
    assert ran.reply["status"] == "ok", ran
    return str(ran.of_type("execute_result")[0]["data"]["text/plain"])


def asked(kernel: RunningKernel, message_id: str) -> Any:
    while True:
        reply = kernel.client.get_shell_msg(timeout=ANSWER_S)
        if reply["parent_header"]["msg_id"] == message_id:
            return reply["content"]


def complete(kernel: RunningKernel, code: str) -> Any:
    return asked(kernel, kernel.client.complete(code, len(code)))


def test_cells_can_be_run_again(either: RunningKernel) -> None:
    cell = (
        "const base = 20; let step = 1; class Boat { size() { return base + step; } }\n"
        "import { basename } from 'node:path';\nnew Boat().size() + basename('a/b').length"
    )
    for _ in range(3):
        assert value(either.run(cell)) == "22"
    assert value(either.run("step = 5; base + step")) == "25"


def test_errors_name_the_cells_own_lines(javascript_kernel: RunningKernel) -> None:
    ran = javascript_kernel.run(
        "class HarbourError extends Error {}\nfunction moor() {\n"
        "  throw new HarbourError('full');\n}\nmoor();"
    )
    (error,) = ran.of_type("error")
    assert (error["ename"], error["evalue"]) == ("HarbourError", "full")
    count = ran.reply["execution_count"]
    assert error["traceback"][1:3] == [
        f"    at moor (In[{count}]:3:9)",
        f"    at In[{count}]:5:1",
    ]
    assert ran.reply["ename"] == "HarbourError"
    ran = javascript_kernel.run("const x = ;")
    (error,) = ran.of_type("error")
    assert error["ename"] == "SyntaxError"
    # V8's own words, and where.
    assert error["traceback"][:3] == [
        f"In[{ran.reply['execution_count']}]:1",
        "const x = ;",
        "          ^",
    ]


def test_output_arrives_while_the_cell_runs_and_in_its_order(
    javascript_kernel: RunningKernel,
) -> None:
    running = javascript_kernel.send(
        "console.log('first'); console.error('problem');\n"
        "await new Promise((go) => { globalThis.go = go; setTimeout(go, 60_000); });"
    )
    assert javascript_kernel.wait_for_output(running, "stream")["text"] == "first\n"
    assert javascript_kernel.wait_for_output(running, "stream")["text"] == "problem\n"
    javascript_kernel.manager.interrupt_kernel()
    assert javascript_kernel.finish(running).reply["ename"] == "KeyboardInterrupt"


@pytest.mark.parametrize(
    "code",
    [
        "while (true) reached++",
        "await new Promise(() => {})",
        "require('node:child_process').execSync('sleep 600')",
        # A process that is started after the interrupt.
        "require('node:child_process').execSync('trap \"sleep 600\" INT; sleep 600')",
    ],
)
def test_stop_keeps_the_state(javascript_kernel: RunningKernel, code: str) -> None:
    javascript_kernel.run("let reached = 1")
    running = javascript_kernel.send(f"console.log('go'); {code}")
    queued = javascript_kernel.send("console.log('must not run')")
    javascript_kernel.wait_for_output(running, "stream")
    javascript_kernel.manager.interrupt_kernel()
    assert javascript_kernel.finish(running).reply["ename"] == "KeyboardInterrupt"
    assert javascript_kernel.finish(queued).reply["status"] == "aborted"
    assert value(javascript_kernel.run("reached > 0")) == "true"


def test_an_interrupt_that_reaches_a_child_first_is_an_interrupt(
    javascript_kernel: RunningKernel,
) -> None:
    ran = javascript_kernel.run("require('node:child_process').execSync('kill -INT $$')")
    assert ran.reply["ename"] == "KeyboardInterrupt"
    ran = javascript_kernel.run("require('node:child_process').execSync('kill -TERM $$')")
    assert ran.reply["ename"] == "Error"


# `make test` has some of them.
@pytest.mark.parametrize("times", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_an_interrupt_while_a_process_is_started_keeps_the_state(
    javascript_kernel: RunningKernel, times: int
) -> None:
    javascript_kernel.run("let kept = 0")
    for _ in range(times):
        running = javascript_kernel.send("kept = 1; require('child_process').execSync('sleep 9')")
        javascript_kernel.wait_for_output(running, "execute_input")
        javascript_kernel.manager.interrupt_kernel()
        assert javascript_kernel.finish(running).reply["ename"] == "KeyboardInterrupt"
        # In a new process it would not be defined.
        assert javascript_kernel.run("kept").reply["status"] == "ok"


def test_stop_again_interrupts_a_process_again(javascript_kernel: RunningKernel) -> None:
    javascript_kernel.run("let kept = 1")
    # It ends with its second interrupt.
    script = "trap 'trap - INT; echo once' INT; echo started; while :; do sleep 0.1; done"
    options = "{shell: true, stdio: 'inherit'}"
    running = javascript_kernel.send(
        f"require('child_process').spawnSync({json.dumps(script)}, {options})"
    )
    for text in ("started\n", "once\n"):
        assert javascript_kernel.wait_for_output(running, "stream")["text"] == text
        javascript_kernel.manager.interrupt_kernel()
    ran = javascript_kernel.finish(running)
    assert ran.reply["ename"] == "KeyboardInterrupt"
    assert "killed" not in ran.reply["evalue"]
    assert value(javascript_kernel.run("kept")) == "1"


# `make test` has some of them.
@pytest.mark.parametrize("times", [15, pytest.param(60, marks=pytest.mark.slow)])
def test_an_interrupt_right_after_execute_is_not_lost(
    javascript_kernel: RunningKernel, times: int
) -> None:
    # A cell's input is published a moment before the kernel has its run.
    for _ in range(times):
        running = javascript_kernel.send("while (true);")
        javascript_kernel.wait_for_output(running, "execute_input")
        javascript_kernel.manager.interrupt_kernel()
        assert javascript_kernel.finish(running).reply["ename"] == "KeyboardInterrupt"


def test_what_cannot_be_stopped_gently_is_killed_and_that_is_said(
    javascript_kernel: RunningKernel,
) -> None:
    javascript_kernel.run("let gone = 1")
    running = javascript_kernel.send("console.log('go'); await null; while (true);")
    javascript_kernel.wait_for_output(running, "stream")
    javascript_kernel.manager.interrupt_kernel()
    ran = javascript_kernel.finish(running)
    assert ran.reply["ename"] == "KeyboardInterrupt"
    assert "killed" in ran.reply["evalue"] and "variables are lost" in ran.reply["evalue"]
    assert value(javascript_kernel.run("typeof gone")) == "'undefined'"


def test_a_process_that_ends_is_told_and_the_next_cell_gets_a_new_one(
    javascript_kernel: RunningKernel,
) -> None:
    ran = javascript_kernel.run("let gone = 1; process.exit(3)")
    assert ran.reply["ename"] == "NodeError"
    assert "exit status 3" in ran.reply["evalue"]
    ran = javascript_kernel.run("process.kill(process.pid, 'SIGKILL')")
    assert f"signal {int(signal.SIGKILL)}" in ran.reply["evalue"]
    assert value(javascript_kernel.run("typeof gone")) == "'undefined'"


def test_rich_values_and_displays(javascript_kernel: RunningKernel) -> None:
    ran = javascript_kernel.run(
        "const shown = {[Symbol.for('Jupyter.display')]() {"
        " return {'text/html': '<b>boat</b>', 'application/json': {size: 3}}; }};\nshown"
    )
    (result,) = ran.of_type("execute_result")
    assert result["data"]["text/html"] == "<b>boat</b>"
    assert result["data"]["application/json"] == {"size": 3}
    assert "text/plain" in result["data"]
    ran = javascript_kernel.run(
        f"display.svg({SVG!r});\nconst moving = display.html('<i>1</i>', {{display_id: 'd1'}});\n"
        "moving.update({'text/html': '<i>2</i>'}, {raw: true});\n"
        "display({a: 1}, {metadata: {note: 'kept'}}); display.clear({wait: true});"
    )
    first, second, third = ran.of_type("display_data")
    assert first["data"] == {"image/svg+xml": SVG}
    assert second["data"] == {"text/html": "<i>1</i>"}
    assert second["transient"] == {"display_id": "d1"}
    assert third["data"] == {"text/plain": "{ a: 1 }"}
    assert third["metadata"] == {"note": "kept"}
    (updated,) = ran.of_type("update_display_data")
    assert updated["data"] == {"text/html": "<i>2</i>"}
    assert updated["transient"] == {"display_id": "d1"}
    assert ran.of_type("clear_output") == [{"wait": True}]


def test_completion_and_inspection(javascript_kernel: RunningKernel) -> None:
    javascript_kernel.run(
        "const lighthouse = {beam: 7, turn(degrees) { return degrees; }};\n"
        "/** Moors. */ function moor(boat, berth = 1) { return [boat, berth]; }"
    )
    reply = complete(javascript_kernel, "1 + lightho")
    assert reply["matches"] == ["lighthouse"]
    assert (reply["cursor_start"], reply["cursor_end"]) == (4, 11)
    assert {"beam", "turn"} <= set(complete(javascript_kernel, "lighthouse.")["matches"])
    javascript_kernel.run("const files = require('node:fs')")
    assert complete(javascript_kernel, "files.readFileS")["matches"] == ["readFileSync"]
    kinds = complete(javascript_kernel, "moo")["metadata"]["_jupyter_types_experimental"]
    assert kinds == [{"text": "moor", "type": "function", "start": 0, "end": 3}]
    reply = asked(javascript_kernel, javascript_kernel.client.inspect("moor(", 5))
    assert reply["found"]
    assert "moor(boat, berth = 1)" in reply["data"]["text/plain"]
    assert "return [boat, berth]" in reply["data"]["text/plain"]
    assert not asked(javascript_kernel, javascript_kernel.client.inspect("nowhere", 7))["found"]


def test_names_are_completed_while_a_cell_runs(javascript_kernel: RunningKernel) -> None:
    javascript_kernel.run("const lighthouse = 1")
    running = javascript_kernel.send("console.log('go'); while (true);")
    javascript_kernel.wait_for_output(running, "stream")
    try:
        wanted = javascript_kernel.client.complete("lightho", 7)
        answer = javascript_kernel.client.get_shell_msg(timeout=ANSWER_S)
    finally:
        javascript_kernel.manager.interrupt_kernel()
    # The cell's own reply would come first if the request had waited for it.
    assert answer["parent_header"]["msg_id"] == wanted
    assert answer["content"]["matches"] == ["lighthouse"]
    assert javascript_kernel.finish(running).reply["ename"] == "KeyboardInterrupt"


def test_user_expressions_and_silence(javascript_kernel: RunningKernel) -> None:
    ran = javascript_kernel.run(
        "let side = 3", user_expressions={"area": "side * side", "none": "nowhere"}
    )
    told = ran.reply["user_expressions"]
    assert told["area"]["data"] == {"text/plain": "9"}
    assert (told["none"]["status"], told["none"]["ename"]) == ("error", "ReferenceError")
    count = ran.reply["execution_count"]
    ran = javascript_kernel.run("side = 4; console.log(side); side", silent=True)
    assert ran.outputs == []
    ran = javascript_kernel.run("side")
    assert value(ran) == "4"
    assert ran.reply["execution_count"] == count + 1


def test_history_is_the_notebooks(javascript_kernel: RunningKernel) -> None:
    count = javascript_kernel.run("'a memorable cell'").reply["execution_count"]
    client = javascript_kernel.client
    tail = asked(javascript_kernel, client.history(hist_access_type="tail", n=1))["history"]
    assert [entry[1:] for entry in tail] == [[count, "'a memorable cell'"]]
    found = asked(
        javascript_kernel, client.history(hist_access_type="search", pattern="*memorable*")
    )
    assert [entry[2] for entry in found["history"]] == ["'a memorable cell'"]
    ranged = asked(
        javascript_kernel,
        client.history(hist_access_type="range", session=0, start=count, stop=count + 1),
    )
    assert [entry[1] for entry in ranged["history"]] == [count]


def test_a_cell_is_stopped_at_its_timeout_and_says_so(changed: RunningKernel) -> None:
    ran = changed.run("let kept = 5; await new Promise(() => {})")
    assert ran.reply["ename"] == "KeyboardInterrupt"
    assert "longer than 2 s" in ran.text("stderr")
    assert value(changed.run("kept")) == "5"


def test_constants_can_be_meant_strictly(changed: RunningKernel) -> None:
    changed.run("const fixed = 1")
    ran = changed.run("fixed = 2")
    assert ran.reply["ename"] == "TypeError"
    assert value(changed.run("const fixed = 3; fixed")) == "3"


@pytest.mark.parametrize(
    ("throw", "told"),
    [
        ("Promise.reject(7)", "Uncaught (in promise) 7"),
        ("Promise.reject('s')", "Uncaught (in promise) 's'"),
        ("Promise.reject()", "Uncaught (in promise) undefined"),
        ("setTimeout(() => { throw { a: 1 }; })", "Uncaught { a: 1 }"),
        (
            "Promise.reject({ [Symbol.for('nodejs.util.inspect.custom')]() { throw 1; } })",
            "Uncaught",
        ),
        ("Promise.reject(new Error('late'))", "Uncaught (in promise) Error: late"),
    ],
)
def test_what_nobody_catches_is_announced_once(
    javascript_kernel: RunningKernel, throw: str, told: str
) -> None:
    ran = javascript_kernel.run(f"{throw}; await new Promise((go) => setTimeout(go, 50))")
    assert ran.reply["status"] == "ok"
    assert ran.text("stderr").startswith(told) and ran.text("stderr").count("Uncaught") == 1


@pytest.mark.parametrize(
    "code",
    [
        "import {nowhere} from 'fs'",
        "import fs, {nowhere as here} from 'node:fs'\nlet a = 1",
        "let a = 1\nimport {nowhere} from 'fs'",
        "import a from './no-such-file.mjs'",
    ],
)
def test_an_import_that_fails_is_placed_at_no_column_outside_the_cell(
    javascript_kernel: RunningKernel, code: str
) -> None:
    (error,) = javascript_kernel.run(code).of_type("error")
    shown = "\n".join(error["traceback"])
    assert error["ename"] in shown
    assert not re.search(r":(-\d|0\b)", shown), shown


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("await 1; break", ["1", "await 1; break", "         ^^^^^"]),
        ("const a = 1; break", ["1", "const a = 1; break", "             ^^^^^"]),
        (
            "await 1; let q;\nlet r; let é; break",
            ["2", "let r; let é; break", "              ^^^^^"],
        ),
        ("import 'os'; let s; continue", ["1", "import 'os'; let s; continue", " " * 20 + "^" * 8]),
        ("({ a: 1 }); break", ["1", "({ a: 1 }); break", "            ^^^^^"]),
    ],
)
def test_a_syntax_error_shows_what_was_written(
    javascript_kernel: RunningKernel, cell: str, shown: list[str]
) -> None:
    ran = javascript_kernel.run(cell)
    (error,) = ran.of_type("error")
    line, *rest = shown
    assert error["traceback"][:3] == [f"In[{ran.reply['execution_count']}]:{line}", *rest]


@pytest.mark.parametrize(
    ("cell", "frames"),
    [
        ("await Promise.reject(new Error('e'))", ["1:22"]),
        ("function f() { throw new Error('e') }\nf(); await 0", ["f 1:22", "2:1"]),
        ("await 0; class A {} null.x", [":1:26"]),
        ("class A { m() { null.x } } class B extends A {} new B().m()", ["m 1:22", "1:57"]),
    ],
)
def test_a_stack_has_the_frames_that_were_written(
    javascript_kernel: RunningKernel, cell: str, frames: list[str]
) -> None:
    ran = javascript_kernel.run(cell)
    name = f"In[{ran.reply['execution_count']}]"
    (error,) = ran.of_type("error")
    own = [line for line in error["traceback"] if name in line]
    assert len(own) == len(frames), own
    for line, frame in zip(own, frames, strict=True):
        *function, place = frame.split()
        assert all(part in line for part in function)
        assert f"{name}:{place.removeprefix(':')}" in line


def test_what_cells_are_made_of_is_not_seen(javascript_kernel: RunningKernel) -> None:
    javascript_kernel.run("const listed1 = 1; let listed2; await 0; function listed3() {}; listed2")
    ran = javascript_kernel.run("Object.keys(globalThis).filter((name) => /^listed/.test(name))")
    assert value(ran) == "[ 'listed3' ]"
    assert "agentbay" not in value(javascript_kernel.run("globalThis"))


def question(kernel: RunningKernel) -> str:
    return str(kernel.client.get_stdin_msg(timeout=ANSWER_S)["content"]["prompt"])


@pytest.mark.parametrize("before", ["", "await 0; "])
def test_stop_ends_a_question_and_its_answer_is_nobody_elses(
    javascript_kernel: RunningKernel, before: str
) -> None:
    javascript_kernel.run("let asked = 1")
    running = javascript_kernel.send(f"{before}try {{ prompt('one') }} finally {{ asked++ }}")
    assert question(javascript_kernel) == "one "
    javascript_kernel.manager.interrupt_kernel()
    assert javascript_kernel.finish(running).reply["ename"] == "KeyboardInterrupt"
    javascript_kernel.client.input("stale")
    running = javascript_kernel.send("prompt('two', 'usual') + asked")
    assert question(javascript_kernel) == "two [usual] "
    javascript_kernel.client.input("fresh")
    assert value(javascript_kernel.finish(running)) in ("'fresh1'", "'fresh2'")


def test_a_question_with_a_long_answer(javascript_kernel: RunningKernel) -> None:
    running = javascript_kernel.send("const typed = prompt('?'); [typed.length, typed.at(-1)]")
    question(javascript_kernel)
    javascript_kernel.client.input("é😀" * 100_000 + "!")
    assert value(javascript_kernel.finish(running)) == "[ 300001, '!' ]"


def test_a_password_is_asked_for_as_one(javascript_kernel: RunningKernel) -> None:
    running = javascript_kernel.send("prompt('Key', null, { password: true })")
    content = javascript_kernel.client.get_stdin_msg(timeout=ANSWER_S)["content"]
    assert content == {"prompt": "Key ", "password": True}
    javascript_kernel.client.input("secret")
    assert value(javascript_kernel.finish(running)) == "'secret'"


@pytest.mark.parametrize("name", ["prompt", "confirm", "alert"])
def test_nobody_can_be_asked(javascript_kernel: RunningKernel, name: str) -> None:
    ran = javascript_kernel.run(f"{name}('x')", allow_stdin=False)
    told = f"{name}() can't ask here: the front end takes no input"
    assert (ran.reply["ename"], ran.reply["evalue"]) == ("Error", told)
    # What a cell started asks nobody in the name of the next one.
    bound = "require('async_hooks').AsyncResource.bind"
    javascript_kernel.run(f"globalThis.later = {bound}(() => {name}('late'))", allow_stdin=True)
    ran = javascript_kernel.run("later()", allow_stdin=True)
    assert ran.reply["evalue"] == f"{name}() can't ask any more: its cell has ended"


def test_a_command_keeps_its_place_among_the_prints(javascript_kernel: RunningKernel) -> None:
    cell = (
        "for (const n of [1, 2]) {\n  console.log('a' + n)\n  !echo b\n  console.log('c')\n}\n"
        "!echo d \\\n  e; exit 3\nconsole.log('f'); 5"
    )
    ran = javascript_kernel.run(cell)
    assert ran.text() == "a1\nb\nc\na2\nb\nc\nd e\nf\n"
    assert value(ran) == "5"
    # Also where a print and the output of the next command arrive at the same moment.
    many = "for (let n = 0; n < 300; n++) {\n  console.log('a' + n)\n  !echo b\n}"
    assert javascript_kernel.run(many).text() == "".join(f"a{n}\nb\n" for n in range(300))


def test_a_command_or_a_negation(javascript_kernel: RunningKernel) -> None:
    assert javascript_kernel.run("!pwd").text().startswith("/")
    assert ".\n" in javascript_kernel.run("!ls -a").text()
    assert value(javascript_kernel.run("let pwd = 1\n!pwd")) == "false"
    assert value(javascript_kernel.run("!pwd")) == "false"


@pytest.mark.parametrize("before", ["", "await 0\n"])
def test_stop_ends_a_command(javascript_kernel: RunningKernel, before: str) -> None:
    javascript_kernel.run("let kept = 1")
    running = javascript_kernel.send(f"{before}!echo go; sleep 600\nkept = 2")
    javascript_kernel.wait_for_output(running, "stream")
    javascript_kernel.manager.interrupt_kernel()
    assert javascript_kernel.finish(running).reply["ename"] == "KeyboardInterrupt"
    assert value(javascript_kernel.run("kept")) == "1"


@pytest.mark.parametrize("code", ["prompt('x')", "!echo x", "moor?"])
def test_what_direct_execution_can_not_do_is_said(code: str, direct_js: RunningKernel) -> None:
    ran = direct_js.run(code)
    assert ran.reply["status"] == "error"
    assert "bridged execution" in ran.text("stderr")
