"""The key and the tokens appear in no log, repr or error; and nothing of Jupyter is imported."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import traceback
from functools import partial

import pytest

from agentbay_kernel.errors import CommandError
from agentbay_kernel.service import AgentBay, actions, get_logger
from agentbay_kernel.service.envelope import Quote
from tests.service.malformed import AUTH_CODE, FAULTS, RESOURCE_URL, MalformedServer

JUPYTER = ("ipykernel", "IPython", "jupyter_client", "jupyter_core", "traitlets", "zmq", "tornado")


def test_no_log_repr_or_error_shows_a_secret(
    server: MalformedServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "_FIRST_WAIT_S", 0.02)
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


def test_an_answer_that_tells_tokens_shows_none_when_it_breaks() -> None:
    """The answer to a create holds what opens the session, before anybody here knows it."""
    with MalformedServer(link=True) as server, AgentBay(server.api_key, endpoint=server.endpoint):
        _, answer = server.act("CreateMcpSession", {"Authorization": f"Bearer {server.api_key}"})
    told = json.dumps(answer)
    secrets = (server.token, AUTH_CODE)
    assert RESOURCE_URL in told and all(secret in told for secret in secrets)
    quote = Quote(server.api_key)
    # Messages repeat the beginning of what can't be read, wherever it was cut off; and the whole
    # of what is of a wrong type, as Python writes it.
    in_quotes = json.dumps(json.dumps({"AuthCode": json.dumps(AUTH_CODE), "T": told}))
    wholes = [answer, [told], {"Token": [server.token]}, in_quotes, json.dumps(in_quotes)]
    for shown in [*(quote(told[:at]) for at in range(len(told))), *map(quote, wholes)]:
        assert [secret for secret in secrets if secret[:9] in shown] == []


def test_an_address_is_shown_without_what_opens_it(
    server: MalformedServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="urllib3")
    server.link_url = f"{server.endpoint}/link/x-{AUTH_CODE}"
    with AgentBay(server.api_key, endpoint=server.endpoint) as bay:
        session = bay.create().session
        assert session is not None
        server.break_next("run_code", "not_utf8")
        with pytest.raises(CommandError) as raised:
            session.code.run_code("1", "python")
        shown = [*traceback.format_exception(raised.value), repr(vars(session))]
    shown += [record.getMessage() for record in caplog.records]
    assert any("POST /..." in text for text in shown)
    assert [text for text in shown if AUTH_CODE in text] == []


def test_an_answer_that_repeats_key_and_token_is_cleaned(server: MalformedServer) -> None:
    server.answer = lambda code: f"{code} {server.api_key} {server.token}"
    with AgentBay(server.api_key, endpoint=server.endpoint) as bay:
        session = bay.create().session
        assert session is not None
        result = session.code.run_code("said:", "python").result
    assert result == f"said: *** {'***' if server.link else server.token}"


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
