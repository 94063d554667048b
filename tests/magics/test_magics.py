"""`%%agentbay` in an ordinary Python notebook."""

from __future__ import annotations

import re

import pytest

from tests.kernel.test_interrupt import NEXT_SCRIPT, PYTHON_CELL, SCRIPT, next_cells_hit
from tests.kernels import RunningKernel


def test_the_first_cell_adds_nothing_to_the_notebook(notebook: RunningKernel) -> None:
    ran = notebook.run("%%agentbay python\nimport os\npid = os.getpid()\nprint(pid)")
    assert [output["msg_type"] for output in ran.kept()] == ["stream"]
    assert ran.text().strip() != notebook.run("import os; print(os.getpid())").text().strip()


def test_state_stays_and_is_not_the_notebooks(notebook: RunningKernel) -> None:
    notebook.run("here = 1")
    notebook.run("%%agentbay py\nthere = 2")
    assert notebook.run("%%agentbay python\nthere * 21").of_type("display_data")[0]["data"] == {
        "text/plain": "42"
    }
    assert notebook.run("%%agentbay python\nhere").reply["ename"] == "NameError"
    assert notebook.run("there").reply["ename"] == "NameError"


def test_rich_output_is_displayed(notebook: RunningKernel) -> None:
    ran = notebook.run(
        "%%agentbay python\nfrom IPython.display import HTML, display\n"
        "print('first')\ndisplay(HTML('<b>bold</b>'))"
    )
    assert ran.text() == "first\n"
    assert ran.kept()[-1]["content"]["data"]["text/html"] == "<b>bold</b>"


def test_a_traceback_names_the_cells_of_the_notebook(notebook: RunningKernel) -> None:
    notebook.run("1")
    defined = notebook.run("%%agentbay python\ndef boom():\n    1/0").reply["execution_count"]
    notebook.run("2")
    failed = notebook.run("%%agentbay python\nboom()")
    count = failed.reply["execution_count"]
    assert count > defined > 1
    shown = re.sub("\x1b\\[[0-9;]*m", "", "\n".join(failed.of_type("error")[0]["traceback"]))
    assert re.findall(r"Cell In\[(\d+)\], line (\d+)", shown) == [
        (str(count), "1"),
        (str(defined), "2"),
    ]
    # Two in one cell: the kernel in the sandbox has a number for each, and goes on without a word.
    run = "get_ipython().run_cell_magic('agentbay', 'python', 'print(len(In))')"
    twice = notebook.run(f"{run}\n{run}")
    assert twice.text() == f"{count + 2}\n{count + 3}\n"
    assert notebook.run("%%agentbay python\nprint('on')").outputs[0]["content"]["text"] == "on\n"


def test_a_remote_error_shows_only_remote_frames_and_stops_the_queue(
    notebook: RunningKernel,
) -> None:
    failing = notebook.send("%%agentbay python\ndef boom():\n    1/0\nboom()")
    queued = notebook.send("print('must not run')")
    ran = notebook.finish(failing)
    (error,) = ran.of_type("error")
    assert (error["ename"], error["evalue"]) == ("ZeroDivisionError", "division by zero")
    shown = "\n".join(error["traceback"])
    assert "boom" in shown
    assert "agentbay_kernel" not in shown
    assert notebook.finish(queued).reply["status"] == "aborted"
    # It is an exception like any other.
    ran = notebook.run(
        "from agentbay_kernel.errors import RemoteError\n"
        "try:\n    get_ipython().run_cell_magic('agentbay', 'python', '1/0')\n"
        "except RemoteError as error:\n    print(error.ename)"
    )
    assert ran.text() == "ZeroDivisionError\n"


def test_javascript_shares_the_sessions_files(notebook: RunningKernel) -> None:
    notebook.run("%%agentbay python\nopen('note.txt', 'w').write('hi')")
    ran = notebook.run("%%agentbay js\nrequire('fs').readFileSync('note.txt', 'utf8')")
    # What says that Node is being started is gone by then.
    (shown,) = ran.kept()
    assert shown["content"]["data"]["text/plain"] == "'hi'"


def test_braces_and_dollars_in_the_body_are_left_alone(notebook: RunningKernel) -> None:
    notebook.run("x = 'expanded'")
    assert notebook.run("%%agentbay python\nprint('{x} $x')").text() == "{x} $x\n"


def test_a_line_takes_values_of_the_notebook(notebook: RunningKernel) -> None:
    notebook.run("verb, name = 'create', 'status'")
    shown = notebook.run("%agentbay help $name").of_type("display_data")[0]["data"]["text/plain"]
    assert shown.startswith("usage: %agentbay status")
    shown = notebook.run("%agentbay help {verb}").of_type("display_data")[0]["data"]["text/plain"]
    assert shown.startswith("usage: %agentbay create")
    # What is no name of the notebook stays as it is written.
    assert "'$nothing'" in notebook.run("%agentbay help $nothing").reply["evalue"]


def test_status_and_help(notebook: RunningKernel) -> None:
    shown = notebook.run("%agentbay status").of_type("display_data")[0]["data"]
    assert "default" in shown["text/plain"]
    assert (
        "%%agentbay LANGUAGE"
        in notebook.run("%agentbay help").of_type("display_data")[0]["data"]["text/plain"]
    )
    assert "--background" in str(notebook.run("%%agentbay?").reply["payload"])


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("%%agentbay cobol\n1", "python"),
        ("%%agentbay python --frobnicate\n1", "--frobnicate"),
        ("%%agentbay\n1", "language"),
        ("%%agentbay python\n   \n", "no code below"),
    ],
)
def test_a_wrong_line_is_told(notebook: RunningKernel, cell: str, told: str) -> None:
    ran = notebook.run(cell)
    assert ran.reply["status"] == "error"
    assert told in ran.reply["evalue"] + ran.text("stderr")


def test_stop_stops_the_code_in_the_sandbox_and_keeps_its_state(notebook: RunningKernel) -> None:
    running = notebook.send(
        "%%agentbay python\nimport time\nreached = 0\nprint('go')\n"
        "while True:\n    reached += 1\n    time.sleep(.01)"
    )
    notebook.wait_for_output(running, "stream")
    notebook.manager.interrupt_kernel()
    ran = notebook.finish(running)
    (error,) = ran.of_type("error")
    assert error["ename"] == "KeyboardInterrupt"
    assert "reached" in "\n".join(error["traceback"])
    assert notebook.run("%%agentbay python\nprint(reached > 0)").text() == "True\n"


def magics_hit(notebook: RunningKernel, count: int, language: str) -> int:
    """Interrupt a magic cell about when it ends, so often; how many next cells do not succeed."""
    cell, after = (
        (PYTHON_CELL, "print('n')\nprint('m')") if language == "python" else (SCRIPT, NEXT_SCRIPT)
    )
    first_line = f"%%agentbay {language}\n"
    # The notebook's kernel, ipykernel, loses the reply of a cell that is interrupted between its
    # last line and that reply ("KeyboardInterrupt caught in kernel"). Of interrupts within 7 ms of
    # the end it lost 40 of 286 with plain cells, and 29 of 278 with cells of the magic.
    return next_cells_hit(notebook, count, first_line + cell, first_line + after, replied=False)


# JavaScript's are interrupted in tests/kernel, and below.
@pytest.mark.parametrize("language", ["python", pytest.param("js", marks=pytest.mark.slow)])
def test_an_interrupt_at_a_magic_cells_end_does_not_reach_the_next_one(
    notebook: RunningKernel, language: str
) -> None:
    assert notebook.run(f"%%agentbay {language}\nkept = 7").reply["status"] == "ok"
    assert magics_hit(notebook, 10, language) == 0
    ran = notebook.run(f"%%agentbay {language}\nkept")
    assert ran.of_type("display_data")[-1]["data"]["text/plain"] == "7"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("language", ["python", "js"])
def test_300_interrupts_at_a_magic_cells_end_do_not_reach_the_next_one(
    notebook: RunningKernel, language: str
) -> None:
    assert notebook.run(f"%%agentbay {language}\n1").reply["status"] == "ok"
    assert magics_hit(notebook, 300, language) == 0


def test_stop_while_output_is_displayed_stops_the_code_too(notebook: RunningKernel) -> None:
    running = notebook.send(
        "%%agentbay python\nprinted = 0\nwhile True:\n    printed += 1\n    print('x' * 500)"
    )
    notebook.wait_for_output(running, "stream")
    notebook.manager.interrupt_kernel()
    ran = notebook.finish(running)
    assert ran.of_type("error")[0]["ename"] == "KeyboardInterrupt"
    # Code that ran on would hold up this one.
    assert notebook.run("%%agentbay python\nprint(printed > 0)").text() == "True\n"


def test_input_updates_and_clearing(notebook: RunningKernel) -> None:
    running = notebook.send(
        "%%agentbay python\nfrom IPython.display import clear_output, display\n"
        "shown = display('before', display_id=True)\nname = input('name? ')\n"
        "shown.update(name)\nclear_output(wait=True)\nprint('end')"
    )
    question = notebook.client.get_stdin_msg(timeout=60)
    assert question["content"]["prompt"] == "name? "
    notebook.client.input("Ada")
    ran = notebook.finish(running)
    (first,) = ran.of_type("display_data")
    (update,) = ran.of_type("update_display_data")
    assert first["transient"]["display_id"] == update["transient"]["display_id"]
    assert update["data"]["text/plain"] == "'Ada'"
    assert ran.of_type("clear_output") == [{"wait": True}]
    assert ran.text() == "end\n"


def test_unload_closes_the_session_and_load_starts_anew(notebook: RunningKernel) -> None:
    notebook.run("%%agentbay python\nkept = 1")
    assert notebook.run("%unload_ext agentbay_kernel").reply["status"] == "ok"
    assert "not found" in str(notebook.run("%%agentbay python\n1").outputs)
    notebook.run("%load_ext agentbay_kernel")
    assert notebook.run("%%agentbay python\nkept").reply["ename"] == "NameError"
