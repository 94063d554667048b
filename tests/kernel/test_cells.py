"""What a cell looks like in the notebook: streams, values, displays, errors, verbs."""

from __future__ import annotations

import re

from tests.kernels import RunningKernel


def test_streams_values_and_state(python_kernel: RunningKernel) -> None:
    ran = python_kernel.run(
        "import sys\nx = 20\nprint('out')\nprint('err', file=sys.stderr)\nx + 1"
    )
    assert ran.reply["status"] == "ok"
    assert ran.text() == "out\n"
    assert "err\n" in ran.text("stderr")
    (result,) = ran.of_type("execute_result")
    assert result["data"] == {"text/plain": "21"}
    assert result["execution_count"] == ran.reply["execution_count"]
    assert python_kernel.run("print(x)").text() == "20\n"


def test_displays_keep_their_whole_bundle(python_kernel: RunningKernel) -> None:
    ran = python_kernel.run(
        "from IPython.display import display\n"
        "table = {'schema': {'fields': [{'name': 'a'}]}, 'data': [{'a': 1}]}\n"
        "display({'text/plain': 'p', 'application/vnd.dataresource+json': table}, raw=True,\n"
        "        metadata={'text/plain': {'width': 5}})\n"
        "display({'text/html': '<b>h</b>'}, raw=True)"
    )
    first, second = ran.of_type("display_data")
    table = {"schema": {"fields": [{"name": "a"}]}, "data": [{"a": 1}]}
    assert first["data"] == {"text/plain": "p", "application/vnd.dataresource+json": table}
    assert first["metadata"] == {"text/plain": {"width": 5}}
    assert second["data"] == {"text/html": "<b>h</b>"}


def test_a_plot_is_a_picture(python_kernel: RunningKernel) -> None:
    ran = python_kernel.run("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()")
    pictures = [shown["data"].get("image/png") for shown in ran.of_type("display_data")]
    assert any(pictures)


def test_an_error_is_a_real_error_and_stops_what_is_queued(python_kernel: RunningKernel) -> None:
    failing = python_kernel.send("print('before')\n1/0")
    queued = python_kernel.send("print('must not run')")
    ran = python_kernel.finish(failing)
    assert ran.text() == "before\n"
    assert "Traceback" not in ran.text("stderr")
    (error,) = ran.of_type("error")
    assert (error["ename"], error["evalue"]) == ("ZeroDivisionError", "division by zero")
    assert "----> 2 1/0" in re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error["traceback"]))
    assert ran.reply["status"] == "error"
    assert ran.reply["ename"] == "ZeroDivisionError"
    assert python_kernel.finish(queued).reply["status"] == "aborted"


def test_run_on_after_an_error_when_the_front_end_says_so(python_kernel: RunningKernel) -> None:
    failing = python_kernel.send("1/0", stop_on_error=False)
    queued = python_kernel.send("print('runs')")
    assert python_kernel.finish(failing).reply["status"] == "error"
    assert python_kernel.finish(queued).text() == "runs\n"


def test_a_syntax_error_is_the_sandboxs(python_kernel: RunningKernel) -> None:
    ran = python_kernel.run("def f(:\n  pass")
    (error,) = ran.of_type("error")
    assert error["ename"] == "SyntaxError"


def test_a_large_text_arrives_whole(python_kernel: RunningKernel) -> None:
    ran = python_kernel.run("print('x' * 300_000)")
    assert ran.text() == "x" * 300_000 + "\n"
    assert max(len(part["text"]) for part in ran.of_type("stream")) <= 64 * 1024


def test_an_empty_cell_is_fine(python_kernel: RunningKernel) -> None:
    ran = python_kernel.run("  \n")
    assert (ran.reply["status"], ran.outputs) == ("ok", [])


def test_silent_publishes_nothing(python_kernel: RunningKernel) -> None:
    ran = python_kernel.run("print('quiet'); y = 3; y", silent=True)
    assert (ran.reply["status"], ran.outputs) == ("ok", [])
    assert python_kernel.run("y").of_type("execute_result")[0]["data"]["text/plain"] == "3"


def test_javascript_in_the_same_session(python_kernel: RunningKernel) -> None:
    python_kernel.run("open('shared.txt', 'w').write('from Python')")
    ran = python_kernel.run(
        "%%agentbay js\n"
        "const text = require('fs').readFileSync('shared.txt', 'utf8');\n"
        "console.log(text);\n"
        "text.length"
    )
    assert ran.reply["status"] == "ok", ran
    assert ran.text() == "from Python\n"
    assert ran.of_type("execute_result")[0]["data"]["text/plain"] == "11"
    # Each language keeps its own names.
    ran = python_kernel.run("'text' in globals()")
    assert ran.of_type("execute_result")[0]["data"]["text/plain"] == "False"
    ran = python_kernel.run("%%agentbay js\ntext.length")
    assert ran.of_type("execute_result")[0]["data"]["text/plain"] == "11"


def test_an_unknown_language_is_an_error_in_the_cell(python_kernel: RunningKernel) -> None:
    ran = python_kernel.run("%%agentbay cobol\nDISPLAY 'HI'.")
    assert ran.reply["ename"] == "UnsupportedLanguageError"
    assert "python" in ran.reply["evalue"]


def test_status_names_the_session_and_sends_nothing(python_kernel: RunningKernel) -> None:
    ran = python_kernel.run("%agentbay status")
    (shown,) = ran.of_type("display_data")
    assert "local runtime on this machine" in shown["data"]["text/plain"]
    assert "default" in shown["data"]["text/plain"]
    assert shown["data"]["text/html"].startswith("<table>")


def test_an_unknown_verb_is_an_error_that_names_the_known(python_kernel: RunningKernel) -> None:
    ran = python_kernel.run("%agentbay frobnicate")
    assert ran.reply["status"] == "error"
    assert "status" in ran.reply["evalue"]


def test_code_below_a_verb_runs(python_kernel: RunningKernel) -> None:
    ran = python_kernel.run("%agentbay status\n\nprint(7 * 6)")
    assert len(ran.of_type("display_data")) == 1
    assert ran.text() == "42\n"


def test_javascript_cells(javascript_kernel: RunningKernel) -> None:
    ran = javascript_kernel.run("let counter = 1; console.log('hello'); ({a: [1, 2]})")
    assert ran.text() == "hello\n"
    assert ran.of_type("execute_result")[0]["data"]["text/plain"] == "{ a: [ 1, 2 ] }"
    assert javascript_kernel.run("++counter").of_type("execute_result")[0]["data"] == {
        "text/plain": "2"
    }
    ran = javascript_kernel.run("null.x")
    assert ran.reply["ename"] == "TypeError"
    assert ran.of_type("error")[0]["ename"] == "TypeError"


def test_javascript_cells_can_be_run_again(javascript_kernel: RunningKernel) -> None:
    cell = "const again = 7; class Twice {}; import fs from 'fs'; typeof fs.readFileSync + again"
    for _ in range(2):
        ran = javascript_kernel.run(cell)
        assert ran.of_type("execute_result")[0]["data"] == {"text/plain": "'function7'"}, ran


def test_python_from_the_javascript_kernel(javascript_kernel: RunningKernel) -> None:
    assert javascript_kernel.run("%%agentbay python\nprint(1 + 1)").text() == "2\n"
