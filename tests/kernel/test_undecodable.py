"""No message is lost for what it holds: half surrogate pairs, bytes that don't decode, no JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.session import json_packer

from agentbay_kernel.kernel.publisher import replacing_surrogates
from tests.kernel.test_hostile import SEND
from tests.kernels import RunningKernel, running_kernel

# As Python reads an undecodable byte of a file name, and a half that no byte stands for.
HALVES = pytest.mark.parametrize("half", [r"\udcff", r"\ud800", r"\udc00\ud800"])
REPLACED = ("n\ufffdm", "n\ufffd\ufffdm")
PLAIN = "type('Plain', (), {'__repr__': lambda self: TEXT})()"


def is_replaced(text: str) -> bool:
    return text.strip() in REPLACED


@HALVES
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_streams(python_kernel: RunningKernel, half: str, stream: str) -> None:
    text = rf"import sys; print('one'); print('n{half}m', file=sys.{stream}); print('two')"
    ran = python_kernel.run(text)
    assert ran.reply["status"] == "ok"
    assert ran.text().startswith("one\n") and ran.text().endswith("two\n")
    assert any(map(is_replaced, ran.text(stream).splitlines())), ran


@HALVES
def test_results_and_displays(python_kernel: RunningKernel, half: str) -> None:
    ran = python_kernel.run(rf"TEXT = 'n{half}m'; display({PLAIN}); {PLAIN}")
    (shown,), (result,) = ran.of_type("display_data"), ran.of_type("execute_result")
    assert is_replaced(shown["data"]["text/plain"]) and is_replaced(result["data"]["text/plain"])


@HALVES
def test_errors(python_kernel: RunningKernel, half: str) -> None:
    ran = python_kernel.run(rf"raise ValueError('n{half}m')")
    assert (ran.reply["status"], ran.reply["ename"]) == ("error", "ValueError")
    assert is_replaced(ran.reply["evalue"])
    (error,) = ran.of_type("error")
    assert is_replaced(error["evalue"])
    assert python_kernel.run("print('next')").text() == "next\n"


@HALVES
def test_questions_payloads_and_expressions(bridged_kernel: RunningKernel, half: str) -> None:
    sent = bridged_kernel.send(rf"print(input('n{half}m'))", allow_stdin=True)
    asked = bridged_kernel.client.get_stdin_msg(timeout=30)
    assert is_replaced(asked["content"]["prompt"])
    bridged_kernel.client.input("here")
    assert bridged_kernel.finish(sent).text() == "here\n"
    ran = bridged_kernel.run(
        rf"TEXT = 'n{half}m'; get_ipython().set_next_input(TEXT)",
        user_expressions={"it": PLAIN},
    )
    assert is_replaced(ran.reply["payload"][0]["text"])
    assert is_replaced(ran.reply["user_expressions"]["it"]["data"]["text/plain"])


@HALVES
def test_completions(bridged_kernel: RunningKernel, half: str) -> None:
    bridged_kernel.run(rf"table = {{'n{half}m': 1, 'nothing': 2}}")
    client = bridged_kernel.client
    client.complete("table['n", 8)
    reply: dict[str, Any] = client.get_shell_msg(timeout=30)["content"]
    assert reply["status"] == "ok" and any("nothing" in match for match in reply["matches"])


@pytest.mark.parametrize("half", [r"\udcff", r"\ud800"])
def test_javascript(javascript_kernel: RunningKernel, half: str) -> None:
    ran = javascript_kernel.run(f"console.log('one'); console.log('n{half}m'); console.log('two')")
    assert ran.text() == "one\nn\ufffdm\ntwo\n"
    ran = javascript_kernel.run(f"throw new TypeError('n{half}m')")
    assert is_replaced(ran.reply["evalue"]) and is_replaced(ran.of_type("error")[0]["evalue"])
    ran = javascript_kernel.run(f"'n{half}m'")
    assert ran.reply["status"] == "ok" and len(ran.of_type("execute_result")) == 1
    javascript_kernel.run(f"globalThis['w{half}'] = 1; globalThis.whole = 2; 0")
    javascript_kernel.client.complete("globalThis.w", 12)
    reply = javascript_kernel.client.get_shell_msg(timeout=30)["content"]
    assert reply["status"] == "ok" and any("whole" in match for match in reply["matches"])


def test_what_the_kernel_itself_says(tmp_path: Path) -> None:
    """A file's name in the notebook's folder need not decode either."""
    (tmp_path / "data\udcff.csv").write_text("a\n")
    settings = {"AGENTBAY_BACKEND": "local", "AGENTBAY_START": "first-cell"}
    with running_kernel("agentbay-python", settings, tmp_path) as kernel:
        # A front end's decoder need not be as lenient as Jupyter's.
        kernel.client.session.unpack = json.loads
        # Replies to questions that the client asked again at the start may come first.
        asked = kernel.client.complete("%agentbay upload da", 19, reply=True, timeout=60)
        reply = asked["content"]
        assert any("data\ufffd.csv" in match for match in reply["matches"])


@pytest.mark.parametrize("text", ["n\udcffm", "n\ud800m", "n\udc00\ud800m", "\U0001f600 n\udcffm"])
def test_the_kernels_encoder_replaces_halves_alone(text: str) -> None:
    packed = replacing_surrogates(json_packer)({text: [text], "n": 1})
    whole = text.replace("n", "").replace("m", "")[:2] if text[0] == "\U0001f600" else ""
    (key,) = (key for key in json.loads(packed) if key != "n")
    assert json.loads(packed) == {key: [key], "n": 1}
    assert key.startswith(whole) and is_replaced(key.removeprefix(whole))


BROKEN = [
    # Bytes that are not UTF-8 are replaced, also in the request's reply.
    ("frames(b'x', b'<IDS|MSG>', b'', kind('stream'), parent, b'{}', TEXT)", "n\ufffdm"),
    # A content that is no JSON, or not what the protocol says: a note in its place.
    ("frames(b'x', b'<IDS|MSG>', b'', kind('display_data'), parent, b'{}', b'{')", "display_data"),
    ("frames(b'x', b'<IDS|MSG>', b'', kind('stream'), parent, b'{}', b'[]')", "stream"),
    ("send('execute_result', {'data': 5, 'metadata': {}})", "execute_result"),
    ("send('error', {'ename': 5})", "error"),
]
PARTS = r"""
import json
parent = json.dumps(kernel.get_parent("shell")["header"], default=str).encode()
kind = lambda name: json.dumps({"msg_type": name, "msg_id": "m"}).encode()
TEXT = b'{"name": "stdout", "text": "n\xffm\\n"}'
"""


@pytest.mark.parametrize(("code", "shown"), BROKEN)
def test_what_can_not_be_read_is_noted_in_its_cell(
    bridged_kernel: RunningKernel, code: str, shown: str
) -> None:
    bridged_kernel.run(SEND)
    ran = bridged_kernel.run(f"print('one')\n{PARTS}{code}\nprint('two')")
    assert ran.reply["status"] == "ok"
    assert "one\n" in ran.text() and "two\n" in ran.text()
    assert shown in ran.text() + ran.notices()


# The encoder of the sandbox's kernel makes something else of the first message of a type.
SPOILED = """
session, spoiled = get_ipython().kernel.session, []
def send(socket, kind, content=None, *args, whole=session.send, **more):
    if kind == {kind!r} and not spoiled:
        spoiled.append(kind)
        content = {content}
    return whole(socket, kind, content, *args, **more)
session.send = send
"""
RESTORE = "\ndel session.send"


# What is too large is in `make test` as outputs and as a value, in `test_hostile.py`.
@pytest.mark.parametrize(
    "content",
    [
        "{'prompt': [1]}",
        "{}",
        pytest.param("{'prompt': 'x' * 140_000_000, 'password': False}", marks=pytest.mark.slow),
    ],
)
def test_a_question_that_can_not_be_read_ends_its_cell(
    bridged_kernel: RunningKernel, content: str
) -> None:
    spoil = SPOILED.format(kind="input_request", content=content)
    ran = bridged_kernel.run(
        f"{spoil}\ntry:\n    input('?')\nfinally:\n    del session.send", allow_stdin=True
    )
    assert (ran.reply["status"], ran.reply["ename"]) == ("error", "KeyboardInterrupt")
    assert "input_request" in ran.notices()
    assert bridged_kernel.run("print('next')").text() == "next\n"


@pytest.mark.parametrize(
    "content",
    [
        "{'status': 'perhaps'}",
        "'[1]'",
        pytest.param("'x' * 140_000_000", marks=pytest.mark.slow),
    ],
)
def test_a_reply_that_can_not_be_read_ends_its_cell(
    bridged_kernel: RunningKernel, content: str
) -> None:
    ran = bridged_kernel.run(SPOILED.format(kind="execute_reply", content=content))
    assert ran.reply["status"] == "error"
    assert bridged_kernel.run("del session.send\nprint('next')").text() == "next\n"
