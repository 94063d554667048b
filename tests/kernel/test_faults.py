"""A broken service: a named error in the cell, in time; the next cell works; nothing runs twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernels import RunningKernel, running_kernel
from tests.runtime import running_local_runtime
from tests.service.malformed import MalformedServer

# What the kernel's cells say of each fault of the service's answer to run_code.
FAULTS = {
    "truncated_json": "InvalidResponseError",
    "truncated_body": "ResponseLostError",
    "wrong_types": "InvalidResponseError",
    "html": "InvalidResponseError",
    "500": "ServiceFaultError",
    "before_429": "ThrottledError",
    "before_closed": "ResponseLostError",
    "closed": "ResponseLostError",
    "before_redirect": "InvalidResponseError",
    "deep_text": "InvalidResponseError",
    "not_utf8": "InvalidResponseError",
    "bad_gzip": "InvalidResponseError",
}
CREATION_FAULTS = ("html", "wrong_types", "not_http", "deep", "500")


@pytest.fixture(scope="module")
def server() -> Iterator[MalformedServer]:
    with MalformedServer() as server:
        yield server


@pytest.fixture(scope="module")
def kernel(server: MalformedServer) -> Iterator[RunningKernel]:
    env = {
        "AGENTBAY_ENDPOINT": server.endpoint,
        "AGENTBAY_API_KEY": server.api_key,
        # One request a cell, so that they can be counted.
        "AGENTBAY_EXECUTION": "direct",
        # Long enough for a busy machine, short enough to wait for a silent server.
        "AGENTBAY_TIMEOUT": "2",
    }
    with running_kernel("agentbay-python", env) as kernel:
        yield kernel


@pytest.mark.parametrize("fault", CREATION_FAULTS)
def test_a_session_that_could_not_be_created_is_tried_again_by_the_next_cell(
    server: MalformedServer, kernel: RunningKernel, fault: str
) -> None:
    # That of the test before.
    kernel.run("%agentbay delete")
    sent_before = list(server.codes)
    # More often than the client tries by itself.
    server.break_next("CreateMcpSession", *[fault] * 8)
    server.break_next("ListSession", *[fault] * 20)
    ran = kernel.run("'unsent'")
    assert ran.reply["status"] == "error"
    assert ran.of_type("error")[0]["ename"].endswith("Error")
    assert server.codes == sent_before
    server.heal()
    assert kernel.run("'sent'").reply["status"] == "ok"
    assert server.codes == [*sent_before, "'sent'"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_a_named_error_in_the_cell(
    server: MalformedServer, kernel: RunningKernel, fault: str
) -> None:
    before = server.counts["run_code"]
    server.break_next("run_code", fault)
    ran = kernel.run(f"'broken by {fault}'")
    assert ran.reply["status"] == "error"
    assert ran.reply["ename"] == FAULTS[fault], ran.reply
    assert [error["ename"] for error in ran.of_type("error")] == [FAULTS[fault]]
    assert server.api_key not in str(ran)
    ran = kernel.run(f"'after {fault}'")
    assert ran.of_type("execute_result")[0]["data"]["text/plain"] == f"'after {fault}'"
    assert server.counts["run_code"] == before + 2


# Slow: a timeout and its margin. `make test` has an answer that is lost otherwise (`closed`), and
# one that is too slow in `tests/service`.
@pytest.mark.slow
def test_a_silent_server_ends_the_cell_at_its_timeout(
    server: MalformedServer, kernel: RunningKernel
) -> None:
    server.break_next("run_code", "slow")
    ran = kernel.run("'never answered'")
    assert ran.reply["ename"] == "ResponseLostError"
    assert "unknown" in ran.reply["evalue"]
    assert kernel.run("'alive'").reply["status"] == "ok"
    assert server.codes.count("'never answered'") == 1


# `make test` has bridged cells in `tests/sessions/test_losses.py`.
@pytest.mark.parametrize("execution", ["direct", pytest.param("bridged", marks=pytest.mark.slow)])
def test_a_service_that_went_away_is_named(execution: str) -> None:
    with running_local_runtime() as runtime:
        env = {
            "AGENTBAY_ENDPOINT": runtime.endpoint,
            "AGENTBAY_API_KEY": runtime.api_key,
            "AGENTBAY_EXECUTION": execution,
        }
        with running_kernel("agentbay-python", env) as kernel:
            assert kernel.run("'there'").reply["status"] == "ok"
            runtime.process.kill()
            runtime.process.wait()
            ran = kernel.run("'gone'", timeout=100)
            # Which of them depends on how much of the cell was on its way when the other side
            # went; each says whether the cell may have run.
            assert ran.reply["ename"] in (
                "ServiceUnreachableError",
                "ResponseLostError",
                "SilentSessionError",
            )
            assert kernel.run("%agentbay status").reply["status"] == "ok"


def test_a_refused_key_is_named_and_not_shown() -> None:
    with MalformedServer() as server:
        env = {"AGENTBAY_ENDPOINT": server.endpoint, "AGENTBAY_API_KEY": "akm-wrong-key"}
        with running_kernel("agentbay-python", env) as kernel:
            ran = kernel.run("'unsent'")
            assert ran.reply["ename"] == "AuthenticationError"
            assert "AGENTBAY_API_KEY" in ran.reply["evalue"]
            assert "akm-wrong-key" not in str(ran)
            assert server.codes == []
