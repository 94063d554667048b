"""What commands say is true, also if nothing runs or changes, or the session is another's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import LOCAL
from tests.kernels import RunningKernel, running_kernel
from tests.runtime import running_local_runtime


def said(kernel: RunningKernel, command: str) -> str:
    """What a command shows, or its error."""
    ran = kernel.run(command)
    shown = [content["data"]["text/plain"] for content in ran.of_type("display_data")]
    return "\n".join([*shown, *(content["evalue"] for content in ran.of_type("error"))])


@pytest.fixture(scope="module")
def address() -> Iterator[dict[str, str]]:
    """Variables that name a local runtime by its address, as if it were the service."""
    with running_local_runtime() as runtime:
        yield {"AGENTBAY_ENDPOINT": runtime.endpoint, "AGENTBAY_API_KEY": runtime.api_key}


def test_nothing_runs(bridged_kernel: RunningKernel) -> None:
    assert said(bridged_kernel, "%agentbay interrupt") == "Nothing runs in 'default'."
    running = bridged_kernel.send("print('go')\nimport time\nwhile True: time.sleep(.01)")
    bridged_kernel.wait_for_output(running, "stream")
    assert "was interrupted" in said(bridged_kernel, "%agentbay interrupt")
    assert bridged_kernel.finish(running).reply["ename"] == "KeyboardInterrupt"
    assert said(bridged_kernel, "%agentbay interrupt") == "Nothing runs in 'default'."


def test_a_command_below_code(bridged_kernel: RunningKernel) -> None:
    assert "Move it to the top" in said(bridged_kernel, "moved = 1\n%agentbay status")
    assert bridged_kernel.run("moved").reply["ename"] == "NameError"


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("%agentbay statsu", "`status`"),
        ("%agentbay status --jsn", "`--json`"),
        ("%agentbay config executon=direct", "`execution`"),
        ("%agentbay config execution=brigded", "`bridged`"),
        ("%%agentbay pyton\n1", "`python`"),
    ],
)
def test_the_nearest_name_is_suggested(
    bridged_kernel: RunningKernel, command: str, meant: str
) -> None:
    assert f"Did you mean {meant}?" in said(bridged_kernel, command)


def test_only_what_was_sent_is_counted(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("1")
    with running_kernel("agentbay-python", LOCAL, tmp_path) as kernel:
        kernel.run("1")
        assert "Uploaded 1 file, 1 bytes" in said(kernel, "%agentbay upload one.csv")
        again = said(kernel, "%agentbay upload one.csv")
        assert again.startswith("Uploaded nothing to ") and "1 file is there already" in again
        # Booleans have one form.
        assert "untrusted no" in said(kernel, "%agentbay status")
        assert "no (from: default)" in said(kernel, "%agentbay config untrusted")


def test_setup_says_what_untrusted_cells_do_not_get(tmp_path: Path) -> None:
    (tmp_path / "agentbay.toml").write_text('pip = ["x"]\nfiles = ["one.csv"]\n')
    (tmp_path / "one.csv").write_text("1")
    # Neither needs a session.
    settings = {**LOCAL, "AGENTBAY_START": "first-cell"}
    untrusted = {**settings, "AGENTBAY_UNTRUSTED": "1"}
    with running_kernel("agentbay-python", untrusted, tmp_path) as kernel:
        assert "left out (`untrusted` is on)  one.csv" in said(kernel, "%agentbay setup")
    with running_kernel("agentbay-python", settings, tmp_path) as kernel:
        assert "left out" not in said(kernel, "%agentbay setup")


def test_the_hint_for_a_missing_package_knows_the_sandbox(bridged_kernel: RunningKernel) -> None:
    # Installed here. Both use the same interpreter, so the sandbox would find it.
    missing = "raise ModuleNotFoundError(\"No module named 'papermill'\", name='papermill')"
    hint = bridged_kernel.run(missing).text("stderr")
    assert "has no network" in hint
    assert f"{sys.executable} -m pip install papermill" in hint
    with running_kernel("agentbay-python", {**LOCAL, "AGENTBAY_LOCAL_NETWORK": "1"}) as kernel:
        hint = kernel.run(missing).text("stderr")
        assert "`%pip install papermill`" in hint and "no network" not in hint
        # What there is, once: these tests need these themselves.
        assert "It has numpy, pandas, matplotlib" in hint
        assert hint.count("\n") == 2
        assert "It has" not in kernel.run(missing).text("stderr")


# What a sandbox has is found out by the same call as above.
@pytest.mark.slow
def test_the_hint_for_a_missing_package_in_direct_execution(direct_kernel: RunningKernel) -> None:
    missing = "raise ModuleNotFoundError(\"No module named 'papermill'\", name='papermill')"
    assert "It has numpy, pandas, matplotlib" in direct_kernel.run(missing).text("stderr")


# The first cell of a notebook, also with the local backend.
@pytest.mark.parametrize(
    "backend", [{"AGENTBAY_BACKEND": "local"}, pytest.param({}, marks=pytest.mark.slow)]
)
def test_an_attached_session_by_an_address_of_this_machine(
    address: dict[str, str], backend: dict[str, str]
) -> None:
    with running_kernel("agentbay-python", address) as owner:
        owner.run("1")
        status = said(owner, "%agentbay status")
        assert "Isolation" in status and "isolated" in status
        assert "Released" in status
        # The id of its session, as data.
        document = owner.run("%agentbay sessions --json").of_type("display_data")[0]["data"]
        sessions = document["application/json"]["sessions"]
        # The list is the user's: other notebooks of these tests may be ending beside this one.
        (session,) = [row for row in sessions if row["whose"] == "of this notebook"]
        settings = {**address, **backend, "AGENTBAY_START": "first-cell"}
        with running_kernel("agentbay-python", settings) as guest:
            assert "Attached" in said(guest, f"%agentbay attach {session['id']}")
            status = said(guest, "%agentbay status")
            assert "its owner decides when it ends" in status and "Released" not in status
            refused = said(guest, "%agentbay delete")
            assert f"jupyter agentbay sessions delete {session['id']}" in refused
            assert "--force" not in refused
