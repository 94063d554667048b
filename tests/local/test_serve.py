"""`serve` as a program: its flags, its first line, its documentation."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import venv
from pathlib import Path

from agentbay_kernel.execution.bridge.client import BridgeClient
from agentbay_kernel.execution.bridge.python import BridgedPython
from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.local.profile import FAULT_KINDS, FaultPlan, Profile
from agentbay_kernel.local.serve import make_parser
from agentbay_kernel.service import AgentBay
from tests.local.test_sessions import post
from tests.runtime import running_local_runtime

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "local-runtime.md"


def refused(*flags: str) -> str:
    """What a runtime that does not start says."""
    command = [sys.executable, "-m", "agentbay_kernel", "serve", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and done.stdout == "" and "Traceback" not in done.stderr
    return done.stderr


def test_every_flag_and_every_profile_key_is_documented() -> None:
    text = DOCUMENT.read_text()
    flags = [name for action in make_parser()._actions for name in action.option_strings]
    keys = [field.name for kind in (Profile, FaultPlan) for field in dataclasses.fields(kind)]
    missing = [name for name in (*keys, *FAULT_KINDS) if f"`{name}`" not in text]
    missing += [name for name in flags if name not in ("-h", "--help") and f"`{name}" not in text]
    assert missing == []


def test_the_key_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("akm-chosen\n")
    with running_local_runtime(
        "--api-key-file", str(tmp_path / "key"), "--prewarm", "0"
    ) as runtime:
        assert runtime.api_key == "akm-chosen"
        assert post(runtime, "ListSession").ok
    assert "can't be read" in refused("--api-key-file", str(tmp_path / "missing"))


def test_a_port_that_is_taken_is_told() -> None:
    with running_local_runtime("--prewarm", "0") as runtime:
        port = runtime.endpoint.rpartition(":")[2]
        assert "Choose another with --port" in refused("--port", port)


def test_sessions_over_the_limit_are_refused() -> None:
    with running_local_runtime("--max-sessions", "1", "--prewarm", "0") as runtime:
        assert post(runtime, "CreateMcpSession").ok
        over = post(runtime, "CreateMcpSession")
        assert over.status_code == 400 and "exceed limit" in over.json()["Message"]


def test_another_interpreter(tmp_path: Path) -> None:
    venv.create(tmp_path / "env", symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    with running_local_runtime("--python", str(python), "--isolation", "none") as runtime:
        session = post(runtime, "CreateMcpSession").json()["Data"]["SessionId"]
        call = {"SessionId": session, "Name": "run_code", "Args": '{"code": "1"}'}
        # It has no IPython, which is told, and the next call tries again.
        for _ in range(2):
            told = post(runtime, "CallMcpTool", **call).json()["Data"]["content"][0]["text"]
            assert "This Python has no usable IPython" in told and "Install ipython" in told
        # This environment's packages, by the other one's interpreter.
        (link,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
        (link / "packages.pth").write_text(
            "\n".join(path for path in sys.path if "site-packages" in path)
        )
        call["Args"] = '{"code": "import sys; print(sys.prefix)"}'
        told = post(runtime, "CallMcpTool", **call).json()["Data"]["content"][0]["text"]
        assert str(tmp_path / "env") in told
        # It is gone for a while.
        python.rename(tmp_path / "away")
        call["SessionId"] = post(runtime, "CreateMcpSession").json()["Data"]["SessionId"]
        told = post(runtime, "CallMcpTool", **call).json()["Data"]["content"][0]["text"]
        assert "could not be started" in told and "No such file" in told
        (tmp_path / "away").rename(python)
        told = post(runtime, "CallMcpTool", **call).json()["Data"]["content"][0]["text"]
        assert str(tmp_path / "env") in told
    assert "does not run" in refused("--python", str(tmp_path / "missing"))


def test_kernels_are_prepared_unless_told_otherwise() -> None:
    looks = "import os, sys\nprint(sys.argv[1:], 'AGENTBAY_PREPARED_KERNEL' in os.environ)"
    for flags, prepared in (((), True), (("--no-kernels",), False)):
        with (
            running_local_runtime(*flags) as runtime,
            AgentBay(runtime.api_key, endpoint=runtime.endpoint) as client,
            client.session() as session,
        ):
            assert session.code.run_code(looks, "python").logs.stdout == [f"[] {prepared}\n"]
            # A bridge starts its kernel by a command then.
            tunnel = BridgeClient(session)
            tunnel.install()
            cell = Cell("print(6 * 7)", "python")
            printed = [it.content.get("text") for it in BridgedPython(tunnel).execute(cell)]
            assert "42\n" in printed
