"""`--in` and `--out` over a slow connection: what they show of their progress."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.kernels import Ran, RunningKernel, running_kernel
from tests.runtime import running_local_runtime

# A second passes before progress is shown.
SLOW = {"latency_ms": 300, "bandwidth": 2_000_000}


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningKernel]:
    """A notebook with the magics, far away from its local runtime."""
    profile = tmp_path_factory.mktemp("profile") / "profile.json"
    profile.write_text(json.dumps(SLOW))
    with running_local_runtime("--profile", str(profile)) as runtime:
        env = {
            "AGENTBAY_BACKEND": "local",
            "AGENTBAY_ENDPOINT": runtime.endpoint,
            "AGENTBAY_API_KEY": runtime.api_key,
        }
        with running_kernel("python3", env, profile.parent) as kernel:
            kernel.run("%load_ext agentbay_kernel")
            assert kernel.run("%%agentbay python\n1").reply["status"] == "ok"
            yield kernel


def shown(ran: Ran) -> list[str]:
    """The texts of all displays, updates included, in their order."""
    assert ran.reply["status"] == "ok", ran
    kinds = ("display_data", "update_display_data")
    return [out["content"]["data"]["text/plain"] for out in ran.outputs if out["msg_type"] in kinds]


def test_a_small_value_shows_no_progress(slow: RunningKernel) -> None:
    slow.run("import numpy as np\nsmall = np.arange(5000)")
    assert shown(slow.run("%%agentbay python -i small -o small\nsmall = small[::-1]")) == []
    assert slow.run("print(small[0])").text() == "4999\n"


@pytest.mark.slow
def test_what_takes_a_while_ends_with_what_was_brought(slow: RunningKernel) -> None:
    ran = slow.run("%%agentbay python -o large,small\nimport os\nlarge = os.urandom(6_000_000)")
    *progress, last = shown(ran)
    assert progress and all("of 6.0 MB" in line for line in progress)
    assert last == "Fetched: large, small"
    # The first display stays under the cell; all others are updates of it.
    assert len(ran.of_type("display_data")) == 1
    assert slow.run("print(len(large))").text() == "6000000\n"
