"""When a session is created and deleted, and what a kernel without one still answers."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest

from agentbay_kernel.service import AgentBay
from tests.kernels import running_kernel
from tests.runtime import running_local_runtime

OWN_LABELS = {"tool": "agentbay-kernel"}


def _sessions(client: AgentBay) -> list[str]:
    answer = client.list(OWN_LABELS)
    assert answer.success, answer.error_message
    return [row["sessionId"] for row in answer.session_ids]


def test_without_a_key_nothing_runs_and_the_error_names_both_ways(tmp_path: Path) -> None:
    with running_kernel("agentbay-python") as kernel:
        ran = kernel.run(f"open({str(tmp_path / 'ran')!r}, 'w')")
        assert ran.reply["ename"] == "NoBackendError"
        assert "AGENTBAY_API_KEY" in ran.reply["evalue"]
        assert "AGENTBAY_BACKEND=local" in ran.reply["evalue"]
        assert not (tmp_path / "ran").exists()
        # It goes on answering.
        assert kernel.run("1").reply["ename"] == "NoBackendError"
        assert kernel.run("%agentbay status").reply["status"] == "ok"
        # A console is left without a session being created for that.
        reply = kernel.run("exit()").reply
        assert reply["status"] == "ok"
        assert [it["source"] for it in reply["payload"]] == ["ask_exit"]


def test_banner_and_status_say_where_isolated_cells_run_and_the_notebook_does_not() -> None:
    with running_kernel("agentbay-python", {"AGENTBAY_BACKEND": "local"}) as kernel:
        kernel.client.kernel_info()
        banner = kernel.client.get_shell_msg(timeout=30)["content"]["banner"]
        assert "runs on THIS machine" in banner
        assert "%agentbay status shows what it isolates" in banner
        ran = kernel.run("1 + 1")
        (output,) = ran.kept()
        assert output["content"]["data"] == {"text/plain": "2"}
        status = kernel.run("%agentbay status").of_type("display_data")[0]["data"]["text/plain"]
        assert "local runtime on this machine" in status
        assert "isolated by bubblewrap" in status
        assert "  not confined" in status


def test_the_local_runtime_is_started_as_the_settings_say() -> None:
    env = {"AGENTBAY_BACKEND": "local", "AGENTBAY_LOCAL_ISOLATION": "none"}
    env["AGENTBAY_LOCAL_MEMORY"] = "700"
    with running_kernel("agentbay-python", env) as kernel:
        kernel.client.kernel_info()
        assert "NOT isolated" in kernel.client.get_shell_msg(timeout=30)["content"]["banner"]
        # A warning, once.
        assert "NOT isolated" in kernel.run("1").text("stderr")
        assert kernel.run("2").text("stderr") == ""
        # Bridged execution works there too.
        assert kernel.run("print(1); 2").text() == "1\n"
        status = str(kernel.run("%agentbay status").outputs)
        assert "bridged" in status and "memory: 700 MB" in status


def test_only_a_cell_creates_a_session_and_shutdown_deletes_it() -> None:
    with running_local_runtime() as runtime:
        # Not AGENTBAY_BACKEND=local: to the kernel this is the service, where sessions cost.
        env = {"AGENTBAY_ENDPOINT": runtime.endpoint, "AGENTBAY_API_KEY": runtime.api_key}
        client = AgentBay(runtime.api_key, endpoint=runtime.endpoint)
        with running_kernel("agentbay-python", env) as kernel:
            kernel.client.complete("pri", 3)
            kernel.client.inspect("print", 3)
            kernel.client.is_complete("for i in range(3):")
            kernel.client.history(n=3)
            kernel.client.comm_info()
            for _ in range(5):
                assert kernel.client.get_shell_msg(timeout=30)["content"]["status"] in (
                    "ok",
                    "incomplete",
                )
            assert _sessions(client) == []
            assert kernel.run("1").reply["status"] == "ok"
            assert len(_sessions(client)) == 1
            kernel.run("%%agentbay js\n2")
            assert len(_sessions(client)) == 1
        assert _sessions(client) == []


def test_a_session_is_created_when_the_notebook_opens_if_asked() -> None:
    with running_local_runtime() as runtime:
        env = {
            "AGENTBAY_ENDPOINT": runtime.endpoint,
            "AGENTBAY_API_KEY": runtime.api_key,
            "AGENTBAY_START": "open",
        }
        client = AgentBay(runtime.api_key, endpoint=runtime.endpoint)
        with running_kernel("agentbay-python", env):
            deadline = time.monotonic() + 30
            while not _sessions(client):
                assert time.monotonic() < deadline, "no session was created"
                time.sleep(0.05)


# `make test` has this in `tests/sessions/test_losses.py`.
@pytest.mark.slow
def test_a_released_session_is_told_and_the_next_cell_gets_a_new_one() -> None:
    with running_local_runtime() as runtime:
        env = {
            "AGENTBAY_BACKEND": "local",
            "AGENTBAY_ENDPOINT": runtime.endpoint,
            "AGENTBAY_API_KEY": runtime.api_key,
        }
        client = AgentBay(runtime.api_key, endpoint=runtime.endpoint)
        with running_kernel("agentbay-python", env) as kernel:
            kernel.run("x = 1")
            (session_id,) = _sessions(client)
            session = client.get(session_id).session
            assert session is not None and session.delete().success
            ran = kernel.run("x")
            assert ran.reply["ename"] == "SessionNotFoundError"
            assert "variables" in ran.reply["evalue"]
            ran = kernel.run("x")
            assert ran.reply["ename"] == "NameError"


def test_the_runtime_of_a_kernel_ends_with_it() -> None:
    with running_kernel("agentbay-python", {"AGENTBAY_BACKEND": "local"}) as kernel:
        kernel.run("1")
        process = psutil.Process(kernel.pid)
        children = process.children(recursive=True)
        assert any("agentbay_kernel.local.daemon" in child.cmdline() for child in children)
        process.kill()
        _, alive = psutil.wait_procs(children, timeout=15)
        assert not alive


def test_an_environment_variable_that_is_not_valid_is_named() -> None:
    with running_kernel("agentbay-python", {"AGENTBAY_START": "sometimes"}) as kernel:
        ran = kernel.run("1")
        assert ran.reply["ename"] == "ConfigurationError"
        assert "AGENTBAY_START" in ran.reply["evalue"]


def test_settings_come_from_jupyters_folders_never_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "jupyter_agentbay_config.py").write_text("c.AgentBaySettings.backend = 'local'\n")
    here = tmp_path / "here"
    here.mkdir()
    (here / "jupyter_agentbay_config.py").write_text("c.AgentBaySettings.backend = 'cloud'\n")
    monkeypatch.chdir(here)
    with running_kernel("agentbay-python", {"JUPYTER_CONFIG_DIR": str(folder)}) as kernel:
        ran = kernel.run("6 * 7")
        assert "42" in str(ran.of_type("execute_result")), ran
        status = str(kernel.run("%agentbay status").of_type("display_data"))
        assert "local runtime on this machine" in status
        assert os.environ.get("AGENTBAY_BACKEND") is None
