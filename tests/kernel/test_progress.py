"""A slow start: shown after a moment, gone from the stored notebook."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.kernels import running_kernel
from tests.runtime import LocalRuntimeProcess, running_local_runtime


def _environment(runtime: LocalRuntimeProcess) -> dict[str, str]:
    return {
        "AGENTBAY_ENDPOINT": runtime.endpoint,
        "AGENTBAY_API_KEY": runtime.api_key,
        "AGENTBAY_EXECUTION": "direct",
    }


@pytest.fixture
def slow_profile(tmp_path: Path) -> Path:
    """Every answer of the service takes 1.5 s."""
    profile = tmp_path / "slow.json"
    profile.write_text(json.dumps({"latency_ms": 1500}))
    return profile


def test_a_slow_start_is_shown_and_taken_back(slow_profile: Path) -> None:
    with (
        running_local_runtime("--profile", str(slow_profile)) as runtime,
        running_kernel("agentbay-python", _environment(runtime)) as kernel,
    ):
        ran = kernel.run("print('done')")
        kinds = [output["msg_type"] for output in ran.outputs]
        assert kinds[:2] == ["display_data", "clear_output"]
        assert "Starting" in ran.outputs[0]["content"]["data"]["text/plain"]
        assert ran.text() == "done\n"
        assert {output["msg_type"] for output in ran.kept()} == {"stream"}
        assert kernel.run("1").notices() == ""


# `make test` has what is left of the outputs above.
@pytest.mark.slow
def test_the_stored_notebook_does_not_show_it(
    slow_profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print('done')")])
    with running_local_runtime("--profile", str(slow_profile)) as runtime:
        for name, value in _environment(runtime).items():
            monkeypatch.setenv(name, value)
        NotebookClient(notebook, kernel_name="agentbay-python", timeout=60).execute()
    texts = [output["text"] for output in notebook.cells[0].outputs if output.name == "stdout"]
    assert texts == ["done\n"]
    assert "Starting" not in str(notebook)
