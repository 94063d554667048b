"""A session that is lost in the middle of a notebook: the right message, no second run, and the
next cell works. Each cell appends its number to a file outside of every session."""

from __future__ import annotations

import contextlib
import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.kernels import Ran, RunningKernel, running_kernel
from tests.runtime import LocalRuntimeProcess, running_local_runtime
from tests.sessions.conftest import Service, wait_until


class Notebook:
    """Cells that say in a file that they ran."""

    def __init__(self, kernel: RunningKernel, numbers: Path) -> None:
        self.kernel = kernel
        self._numbers = numbers
        self._count = itertools.count(1)

    def send(self, code: str = "") -> str:
        """Send the next cell without waiting for it."""
        mark = f"open({str(self._numbers)!r}, 'a').write('{next(self._count)}\\n')"
        return self.kernel.send(f"_ = {mark}\n{code}")

    def run(self, code: str = "") -> Ran:
        """Run the next cell."""
        return self.kernel.finish(self.send(code), timeout=150)

    def ran(self) -> list[int]:
        """Numbers of the cells that ran, as often as they did."""
        return [int(line) for line in self._numbers.read_text().split()]


@pytest.fixture(scope="module")
def runtime() -> Iterator[LocalRuntimeProcess]:
    """Without isolation: cells share a file with the test."""
    with running_local_runtime("--isolation", "none", "--idle-seconds", "0") as runtime:
        yield runtime


def _deleted(service: Service) -> None:
    (session_id,) = service.ids()
    session = service.client.get(session_id).session
    assert session is not None
    service.clear()
    # What is sent to one that is just ending may have run.
    wait_until(lambda: session.get_status().status != "DELETING", "it has ended")


def _expired(service: Service) -> None:
    service.behave(faults=[{"kind": "expired", "at": [1]}])


@pytest.mark.parametrize("execution", ["bridged", pytest.param("direct", marks=pytest.mark.slow)])
def test_a_lost_session_is_told_in_one_line_and_the_next_cell_gets_a_new_one(
    service: Service, tmp_path: Path, execution: str
) -> None:
    with running_kernel("agentbay-python", service.env(execution=execution)) as kernel:
        notebook = Notebook(kernel, tmp_path / "numbers")
        for lose in (_deleted, _expired):
            notebook.run("kept = 1")
            notebook.run("kept += 1")
            (before,) = service.ids()
            lose(service)
            ran = notebook.run("kept += 1")
            assert ran.reply["ename"] == "SessionNotFoundError", ran
            said = ran.reply["evalue"]
            assert "\n" not in said and before in said and "variables" in said
            assert "%agentbay rerun" in said
            ran = notebook.run("kept")
            assert ran.reply["ename"] == "NameError"
            assert before not in service.ids() and len(service.ids()) == 1
        # The third and the seventh were lost with the session.
        assert notebook.ran() == [1, 2, 4, 5, 6, 8]


@pytest.mark.parametrize("execution", ["bridged", pytest.param("direct", marks=pytest.mark.slow)])
def test_a_restarted_service_is_told_and_the_next_cell_works(
    tmp_path: Path, execution: str
) -> None:
    key = tmp_path / "key"
    key.write_text("akm-restarted")
    flags = ("--isolation", "none", "--api-key-file", str(key))
    with running_local_runtime(*flags) as first:
        port = first.endpoint.rpartition(":")[2]
        env = {
            "AGENTBAY_ENDPOINT": first.endpoint,
            "AGENTBAY_API_KEY": first.api_key,
            "AGENTBAY_STATE_DIR": str(tmp_path / "state"),
            "AGENTBAY_EXECUTION": execution,
        }
        with running_kernel("agentbay-python", env) as kernel:
            notebook = Notebook(kernel, tmp_path / "numbers")
            notebook.run("kept = 1")
            first.process.kill()
            first.process.wait()
            with running_local_runtime(*flags, "--port", port):
                ran = notebook.run("kept")
                assert ran.reply["ename"] == "SessionNotFoundError", ran
                assert "is gone" in ran.reply["evalue"]
                assert notebook.run("kept").reply["ename"] == "NameError"
                assert notebook.run("1").reply["status"] == "ok"
                assert notebook.ran() == [1, 3, 4]


def test_a_session_that_is_lost_while_its_cell_runs_is_told(
    service: Service, tmp_path: Path
) -> None:
    with running_kernel("agentbay-python", service.env()) as kernel:
        kernel.run("1")
        go = tmp_path / "go"
        code = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(.1)"
        sent = kernel.send(f"print('begun', flush=True)\n{code}")
        kernel.wait_for_output(sent, "stream")
        service.clear()
        ran = kernel.finish(sent, timeout=150)
        assert ran.reply["ename"] == "SessionNotFoundError", ran
        # It did run, in part; so it is one of the cells that could run again.
        assert "did not run" not in ran.reply["evalue"], ran
        assert "this cell ended with it" in ran.reply["evalue"], ran
        assert kernel.run("1").reply["status"] == "ok"
        go.touch()
        ran = kernel.run("%agentbay rerun")
        assert "[2/2] print" in str(ran.of_type("display_data")) and ran.text() == "begun\n"


def test_a_rerun_stops_at_the_cell_whose_reply_is_an_error(service: Service) -> None:
    displayed = "try:\n    1/0\nexcept ZeroDivisionError:\n    get_ipython().showtraceback()"
    group = "raise ExceptionGroup('several', [ValueError('one')])"
    with running_kernel("agentbay-python", service.env()) as kernel:
        for code in (displayed, group, "print('behind')"):
            kernel.run(code)
        _deleted(service)
        assert kernel.run("1").reply["ename"] == "SessionNotFoundError"
        ran = kernel.run("%agentbay rerun")
        assert "[2/3]" in str(ran.of_type("display_data"))
        assert "[3/3]" not in str(ran.of_type("display_data")) and "behind" not in ran.text()
        assert ran.reply["status"] == "error" and "ExceptionGroup" in ran.reply["evalue"]


@pytest.mark.parametrize("execution", ["bridged", pytest.param("direct", marks=pytest.mark.slow)])
def test_a_local_runtime_that_ends_while_a_cell_runs_is_told(execution: str) -> None:
    env = {"AGENTBAY_BACKEND": "local", "AGENTBAY_EXECUTION": execution}
    with running_kernel("agentbay-python", env) as kernel:
        kernel.run("kept = 1")
        sent = kernel.send("print('begun', flush=True); import time; time.sleep(600)")
        kernel.wait_for_output(sent, "stream")
        for process in psutil.Process(kernel.pid).children():
            if "agentbay_kernel.local.daemon" in process.cmdline():
                process.kill()
        ran = kernel.finish(sent)
        assert ran.reply["ename"] == "SessionError", ran
        assert "this cell ended with them" in ran.reply["evalue"]
        assert kernel.run("kept").reply["ename"] == "NameError"


@pytest.mark.timeout(400)
@pytest.mark.slow
@pytest.mark.parametrize("fate", ["ran to its end", "still runs", "did not run"])
def test_after_a_long_outage_the_next_cell_tells_what_became_of_the_lost_one(
    service: Service, tmp_path: Path, fate: str
) -> None:
    with running_kernel("agentbay-python", service.env()) as kernel:
        notebook = Notebook(kernel, tmp_path / "numbers")
        # Says, after all was printed, that the cell is over.
        over = tmp_path / "over"
        notebook.run(
            "import os; kept = 5\nget_ipython().events.register('post_run_cell',"
            f" lambda result: os.path.exists({str(tmp_path / 'go')!r})"
            f" and open({str(over)!r}, 'w').close())"
        )
        begun, go = tmp_path / "begun", tmp_path / "go"
        code = (
            f"open({str(begun)!r}, 'w').close(); import os, time\n"
            f"while not os.path.exists({str(go)!r}): time.sleep(.1)\n"
            "print('late output')"
        )
        if fate == "did not run":
            # Each request is lost on its way.
            service.behave(faults=[{"kind": "reset", "probability": 1.0}])
            ran = kernel.finish(notebook.send(code), timeout=200)
            service.behave()
        else:
            sent = notebook.send(code)
            wait_until(begun.exists, "the cell has begun")
            with _silent(service):
                ran = kernel.finish(sent, timeout=200)
                if fate == "ran to its end":
                    go.touch()
                    wait_until(over.exists, "the cell is over")
        assert ran.reply["ename"] == "SilentSessionError", ran
        assert "never sent again" in ran.reply["evalue"]
        assert "has not responded" in ran.text("stderr")
        sent = notebook.send("print(kept)")
        told = kernel.wait_for_output(sent, "stream")["text"]
        while "lost sight of" not in told:
            told = kernel.wait_for_output(sent, "stream")["text"]
        assert fate in told
        go.touch()
        ran = kernel.finish(sent)
        assert ran.reply["status"] == "ok", ran
        if fate == "did not run":
            assert ran.text() == "5\n"
            assert notebook.ran() == [1, 3]
        else:
            assert ran.text() == "late output\n5\n"
            assert notebook.ran() == [1, 2, 3]


@contextlib.contextmanager
def _silent(service: Service) -> Iterator[None]:
    """The service answers nothing; what runs in its sandboxes runs on."""
    process = service.runtime.process
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def test_a_lost_answer_in_direct_execution_is_an_honest_unknown(
    service: Service, tmp_path: Path
) -> None:
    service.behave(ws_url=False)
    with running_kernel("agentbay-python", service.env(execution="direct")) as kernel:
        notebook = Notebook(kernel, tmp_path / "numbers")
        notebook.run()
        service.behave(ws_url=False, faults=[{"kind": "reset", "at": [1], "effect": True}])
        ran = notebook.run()
        assert ran.reply["ename"] == "ResponseLostError", ran
        assert "unknown" in ran.reply["evalue"]
        assert notebook.run().reply["status"] == "ok"
        assert notebook.ran() == [1, 2, 3]
