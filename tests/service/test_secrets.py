"""The key and the tokens appear in no log, repr or error; and nothing of Jupyter is imported."""

from __future__ import annotations

import logging
import subprocess
import sys
import traceback
from functools import partial

import pytest

from agentbay_kernel.errors import CommandError
from agentbay_kernel.service import AgentBay, get_logger
from tests.service.malformed import FAULTS, MalformedServer

JUPYTER = ("ipykernel", "IPython", "jupyter_client", "jupyter_core", "traitlets", "zmq", "tornado")


def test_no_log_repr_or_error_shows_a_secret(
    server: MalformedServer, caplog: pytest.LogCaptureFixture
) -> None:
    shown = []
    # The token is secret where the session was told it.
    secrets = [server.api_key, server.token] if server.link else [server.api_key]
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="urllib3")
    with AgentBay(server.api_key, endpoint=server.endpoint) as bay:
        for fault in [*FAULTS, "echo"]:
            if fault in ("slow", "before_slow", "drip_head", "drip_body", "flood", "gzip_bomb"):
                continue
            result = bay.create()
            session = result.session
            assert session is not None
            shown += [repr(bay), repr(result), repr(session), repr(vars(session)), str(session)]
            if fault == "echo":
                # A service may repeat what it was sent in what it says.
                server.say_secrets = True
            else:
                server.break_next("run_code", fault)
                server.break_next("GetSessionDetail", *[fault] * 4)
            calls = (partial(session.code.run_code, "1", "python"), session.get_status)
            for call in calls:
                try:
                    shown.append(repr(call()))
                except CommandError as error:
                    shown += traceback.format_exception(error)
            server.say_secrets = False
            session.delete(wait=False)
    shown += [record.getMessage() for record in caplog.records]
    assert any("Action=CreateMcpSession" in text for text in shown)
    for secret in secrets:
        assert [text for text in shown if secret in text] == []


def test_loggers_hang_in_the_projects_tree_without_handlers() -> None:
    logger = get_logger("code")
    assert isinstance(logger, logging.Logger)
    assert logger.name == "agentbay_kernel.code"
    assert logger.handlers == [] and logging.getLogger("agentbay_kernel").handlers == []


def test_the_client_needs_nothing_of_jupyter() -> None:
    program = (
        "import sys, agentbay_kernel.service\n"
        f"print([name for name in {JUPYTER!r} if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
