"""What only bridged execution has: questions, timeouts, live streams, limits, and its failures."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from tests.kernel.conftest import LOCAL
from tests.kernels import ANSWER_S, RunningKernel, running_kernel
from tests.runtime import running_local_runtime

BRIDGED = {**LOCAL, "AGENTBAY_EXECUTION": "bridged"}
LINES = 20_000


@pytest.mark.parametrize(
    ("code", "password"),
    [("input('tell me: ')", False), ("import getpass; getpass.getpass('tell me: ')", True)],
)
def test_a_cell_asks_and_is_answered(
    bridged_kernel: RunningKernel, code: str, password: bool
) -> None:
    running = bridged_kernel.send(f"typed = {code.split('; ')[-1]}" if not password else code)
    question = bridged_kernel.client.get_stdin_msg(timeout=ANSWER_S)
    assert question["parent_header"]["msg_id"] == running
    assert question["content"] == {"prompt": "tell me: ", "password": password}
    bridged_kernel.client.input("an answer, Größe 中")
    ran = bridged_kernel.finish(running)
    assert ran.reply["status"] == "ok", ran
    told = bridged_kernel.run("_" if password else "typed").of_type("execute_result")
    assert told[0]["data"]["text/plain"] == "'an answer, Größe 中'"


def test_a_question_is_interrupted_and_the_next_one_gets_its_own_answer(
    bridged_kernel: RunningKernel,
) -> None:
    running = bridged_kernel.send("input('one ')")
    bridged_kernel.client.get_stdin_msg(timeout=ANSWER_S)
    bridged_kernel.manager.interrupt_kernel()
    assert bridged_kernel.finish(running).reply["ename"] == "KeyboardInterrupt"
    # Typed too late: belongs to no question.
    bridged_kernel.client.input("stale")
    running = bridged_kernel.send("print(input('two '))")
    bridged_kernel.client.get_stdin_msg(timeout=ANSWER_S)
    bridged_kernel.client.input("fresh")
    assert bridged_kernel.finish(running).text() == "fresh\n"


@pytest.mark.parametrize("call", ["input('x')", "__import__('getpass').getpass('x')"])
def test_where_nobody_can_be_asked_that_is_an_error_at_once(
    bridged_kernel: RunningKernel, call: str
) -> None:
    ran = bridged_kernel.run(call, allow_stdin=False)
    assert ran.reply["ename"] == "StdinNotImplementedError"


def test_streams_arrive_while_the_cell_runs(bridged_kernel: RunningKernel) -> None:
    running = bridged_kernel.send(
        "import sys, time\nprint('early')\ntime.sleep(.5)\nprint('later', file=sys.stderr)\n"
        "time.sleep(600)"
    )
    # The cell never ends by itself: what arrives, arrives before its end.
    assert bridged_kernel.wait_for_output(running, "stream")["text"] == "early\n"
    assert bridged_kernel.wait_for_output(running, "stream")["text"] == "later\n"
    bridged_kernel.manager.interrupt_kernel()
    assert bridged_kernel.finish(running).reply["ename"] == "KeyboardInterrupt"


def test_many_lines_all_arrive(bridged_kernel: RunningKernel) -> None:
    ran = bridged_kernel.run(f"for i in range({LINES}): print('line', i, flush=i % 100 == 0)")
    assert ran.text() == "".join(f"line {i}\n" for i in range(LINES))


def test_counts_are_the_notebooks(bridged_kernel: RunningKernel) -> None:
    before = bridged_kernel.run("1").reply["execution_count"]
    assert bridged_kernel.run("%agentbay status").reply["execution_count"] == before + 1
    assert bridged_kernel.run("%%agentbay js\n1").reply["execution_count"] == before + 2
    # Neither was run by this kernel, whose numbers go on from theirs all the same.
    ran = bridged_kernel.run(f"print(len(In), repr(In[{before + 2}]))\n'value'")
    assert ran.text() == f"{before + 4} ''\n"
    assert ran.of_type("execute_result")[0]["execution_count"] == before + 3
    assert bridged_kernel.run(f"Out[{before + 3}]", store_history=False).reply["status"] == "ok"
    ran = bridged_kernel.run("1 / 0")
    assert ran.reply["execution_count"] == before + 4
    assert f"In[{before + 4}]" in "\n".join(ran.of_type("error")[0]["traceback"])


def test_output_beyond_the_limit_is_told_once_and_a_timeout_stops_a_cell() -> None:
    settings = {"AGENTBAY_OUTPUT_LIMIT": "10000", "AGENTBAY_TIMEOUT": "1"}
    with running_kernel("agentbay-python", {**BRIDGED, **settings}) as kernel:
        ran = kernel.run("kept = 5\nimport time\ntime.sleep(600)")
        assert ran.reply["ename"] == "KeyboardInterrupt"
        assert "longer than 1 s" in ran.text("stderr")
        # What a busy machine takes for the cells below is no matter of theirs.
        kernel.run("%agentbay config timeout=60")
        assert kernel.run("print(kept)").text() == "5\n"
        ran = kernel.run("for i in range(2000): print('x' * 99, flush=True)\n'the value'")
        assert ran.reply["status"] == "ok"
        assert set(ran.text()) == {"x", "\n"}
        assert len(ran.text()) <= 10_000
        left_out = 200_000 - len(ran.text())
        assert ran.notices().count("more than the limit of 10,000 characters") == 1
        assert f"{left_out:,} characters (1,900 lines) are left out" in ran.notices()
        assert ran.of_type("execute_result")[0]["data"]["text/plain"] == "'the value'"
        # The sandbox has all of it, for the next cell.
        path = ran.notices().partition("The next cell finds it in '")[2].partition("'")[0]
        ran = kernel.run(f"text = open({path!r}).read(); len(text), set(text) == set('x\\n')")
        assert ran.of_type("execute_result")[0]["data"]["text/plain"] == "(200000, True)"
        ran = kernel.run(
            "%%agentbay js\nfor (let i = 0; i < 2000; i++) console.log('y'.repeat(99))"
        )
        assert f"The next cell finds it in '{path}'" in ran.notices()
        assert kernel.run(f"print(open({path!r}).read() == ('y' * 99 + '\\n') * 2000)").text() == (
            "True\n"
        )
        # The limit is a cell's, not the kernel's.
        assert kernel.run("print('next')").text() == "next\n"


def test_without_ipykernel_in_the_sandbox_cells_run_directly_and_status_says_why(
    tmp_path: Path,
) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"bridgeable": False}))
    with running_local_runtime("--profile", str(profile)) as runtime:
        service = {"AGENTBAY_ENDPOINT": runtime.endpoint, "AGENTBAY_API_KEY": runtime.api_key}
        with running_kernel("agentbay-python", service) as kernel:
            kernel.run("1")
            assert kernel.run("x = 6 * 7; print(x)").text() == "42\n"
            (shown,) = kernel.run("%agentbay status").of_type("display_data")
            assert "direct" in shown["data"]["text/plain"]
            assert "can't run a bridge" in shown["data"]["text/plain"]
        insisting = {**service, "AGENTBAY_EXECUTION": "bridged"}
        with running_kernel("agentbay-python", insisting) as kernel:
            for _ in range(2):
                ran = kernel.run("print('must not run')")
                assert ran.reply["ename"] == "BridgeError"
                assert ran.text() == ""


# The kernel in the sandbox, and the Python process that has forked it and
# holds the bridge: what uses too much memory may cost either.
@pytest.mark.parametrize("victim", ["os.getpid()", "os.getppid()"])
def test_a_kernel_that_is_killed_is_told_and_the_next_cell_gets_a_new_one(
    bridged_kernel: RunningKernel, victim: str
) -> None:
    bridged_kernel.run("gone = 1")
    ran = bridged_kernel.run(
        f"import os, signal, time\nos.kill({victim}, signal.SIGKILL)\ntime.sleep(60)"
    )
    assert ran.reply["ename"] == "KernelEndedError"
    assert "variables" in ran.reply["evalue"]
    count = ran.reply["execution_count"]
    ran = bridged_kernel.run("h = display('gone' in globals(), display_id='d')\nlen(In)")
    # What says that a new kernel is being started is gone when the cell shows something.
    shown, _ = (output["content"] for output in ran.kept())
    assert shown["data"] == {"text/plain": "False"}
    assert shown["transient"] == {"display_id": "d"}
    # The numbers go on.
    (result,) = ran.of_type("execute_result")
    assert result["execution_count"] == count + 1
    assert result["data"] == {"text/plain": str(count + 2)}


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "code",
    [
        "display({'text/plain': 'x' * 300_000_000}, raw=True)",
        "%%agentbay js\ndisplay({'text/plain': 'x'.repeat(300_000_000)}, {raw: true})",
    ],
)
def test_a_display_that_no_message_holds_is_left_out(code: str) -> None:
    with running_kernel("agentbay-python", BRIDGED) as kernel:
        kernel.run("kept = 1")
        ran = kernel.run(code, 300)
        assert ran.reply["status"] == "ok"
        assert "a message of 300 MB (display_data) is left out" in ran.notices()
        assert kernel.run("print(kept)").text() == "1\n"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_print_that_no_message_holds_arrives_in_pieces() -> None:
    with running_kernel("agentbay-python", BRIDGED) as kernel:
        ran = kernel.run("kept = 1\nprint('x' * 300_000_000)", 300)
        assert ran.reply["status"] == "ok"
        assert "output_limit" in ran.notices()
        assert kernel.run("print(kept)").text() == "1\n"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_hundred_megabytes_are_folded_and_memory_stays_bounded() -> None:
    with running_kernel("agentbay-python", BRIDGED) as kernel:
        kernel.run("1")
        before = psutil.Process(kernel.pid).memory_info().rss
        # At the pace that a notebook server passes on, the limit's 20 MB take half a minute.
        ran = kernel.run("for number in range(1_000_000): print(f'{number:07d}', 'x' * 91)", 300)
        assert ran.reply["status"] == "ok"
        text = ran.text()
        assert text.startswith("0000000 xxx") and "0999999 xxx" in text
        assert 19_000_000 < len(text) < 22_000_000
        assert "output_limit" in ran.notices()
        assert psutil.Process(kernel.pid).memory_info().rss - before < 200_000_000
        assert kernel.run("print('next')").text() == "next\n"
