"""What a sandbox may say: each message type as the protocol has it, and nothing else."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest
from hypothesis import strategies as st
from jupyter_client.session import json_packer

from agentbay_kernel.errors import BridgeError, InvalidResponseError
from agentbay_kernel.execution.bridge import decoder as incoming
from agentbay_kernel.execution.bridge.decoder import (
    Answer,
    Decoder,
    IdOwners,
    Lines,
    Refused,
    WireMessage,
    read_answer,
    read_message,
)
from agentbay_kernel.execution.bridge.requests import Request, as_message
from tests.fuzzing import FEW, MANY, broken, deep, fuzz, mutated, texts, values

DISPLAY = {"data": {"text/plain": "x", "application/json": {"a": [1]}}, "metadata": {}}
ERROR = {"ename": "ValueError", "evalue": "v", "traceback": ["a", "b"]}
CONTENTS: dict[tuple[str, str], dict[str, Any]] = {
    ("iopub", "stream"): {"name": "stdout", "text": "x"},
    ("iopub", "display_data"): {**DISPLAY, "transient": {"display_id": "d"}},
    ("iopub", "update_display_data"): {**DISPLAY, "transient": {"display_id": "d"}},
    ("iopub", "execute_result"): {**DISPLAY, "execution_count": 3},
    ("iopub", "error"): ERROR,
    ("iopub", "clear_output"): {"wait": True},
    ("iopub", "comm_open"): {"comm_id": "c", "target_name": "jupyter.widget", "data": {}},
    ("iopub", "comm_msg"): {"comm_id": "c", "data": {"method": "update"}},
    ("iopub", "comm_close"): {"comm_id": "c", "data": {}},
    ("iopub", "status"): {"execution_state": "idle"},
    ("iopub", "execute_input"): {"code": "1", "execution_count": 3},
    ("stdin", "input_request"): {"prompt": "? ", "password": False},
    ("shell", "execute_reply"): {
        "status": "ok",
        "execution_count": 3,
        "user_expressions": {"a": {"status": "ok", "data": {}, "metadata": {}}},
        "payload": [{"source": "set_next_input", "text": "1", "replace": False}],
    },
    ("shell", "complete_reply"): {
        "status": "ok",
        "matches": ["a"],
        "cursor_start": 0,
        "cursor_end": 1,
        "metadata": {},
    },
    ("shell", "inspect_reply"): {"status": "ok", "found": True, "data": {}, "metadata": {}},
    ("shell", "history_reply"): {"status": "ok", "history": [[1, 1, "a"], [1, 2, ["a", "b"]]]},
    ("control", "interrupt_reply"): {"status": "ok"},
    ("node", "complete_reply"): {"word": "a", "matches": ["ab"], "types": ["class"]},
}


def carried(channel: str, kind: str, content: Any, **parts: Any) -> WireMessage:
    header, parent = {"msg_type": kind, "msg_id": "m"}, {"msg_id": "request"}
    return {"c": channel, "h": header, "p": parent, "m": {}, "b": content, "x": [], **parts}


def lines_of(*messages: Any) -> bytes:
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


def read(message: Any) -> WireMessage | Refused:
    return read_message(json.dumps(message).encode())


def answer(data: bytes, **changes: Any) -> str:
    out = base64.b64encode(zlib.compress(data)).decode()
    return json.dumps({"known": 0, "from": 0, "heard": True, "out": out, **changes})


@pytest.mark.parametrize(("channel", "kind"), CONTENTS)
def test_what_a_kernel_says_is_taken_as_it_is(channel: str, kind: str) -> None:
    content = CONTENTS[channel, kind]
    message = read(carried(channel, kind, content, x=["YWI="]))
    assert isinstance(message, dict), message
    for name, value in content.items():
        assert message["b"][name] == value
    assert as_message(message).buffers == (b"ab",)


@pytest.mark.parametrize(
    ("channel", "kind", "changes"),
    [
        ("iopub", "stream", {"name": "stdlog"}),
        ("iopub", "stream", {"text": ["a"]}),
        ("iopub", "display_data", {"data": "<b>"}),
        ("iopub", "display_data", {"metadata": []}),
        ("iopub", "display_data", {"transient": {"display_id": 5}}),
        ("iopub", "update_display_data", {"transient": {}}),
        ("iopub", "execute_result", {"execution_count": "3"}),
        ("iopub", "execute_result", {"execution_count": 10**30}),
        ("iopub", "error", {"traceback": "a"}),
        ("iopub", "error", {"ename": None}),
        ("iopub", "clear_output", {"wait": "yes"}),
        ("iopub", "comm_open", {"comm_id": ""}),
        ("iopub", "comm_msg", {"data": [1]}),
        ("iopub", "display_data", {"data": {"application/json": deep(200)}}),
        ("stdin", "input_request", {"prompt": 5}),
        ("shell", "execute_reply", {"status": "perhaps"}),
        ("shell", "execute_reply", {"execution_count": "many"}),
        ("shell", "execute_reply", {"status": "error", "ename": 5}),
        ("shell", "complete_reply", {"matches": [1]}),
        ("shell", "history_reply", {"history": ["a"]}),
    ],
)
def test_what_the_protocol_does_not_say_is_refused(
    channel: str, kind: str, changes: dict[str, Any]
) -> None:
    message = read(carried(channel, kind, {**CONTENTS[channel, kind], **changes}))
    assert isinstance(message, Refused)
    # Whoever waits for a reply must hear that it won't come.
    assert message.reply_to == ("request" if kind.endswith("_reply") else "")


@pytest.mark.parametrize(
    ("channel", "kind"),
    [
        ("iopub", "shutdown_reply"),
        ("shell", "debug_event"),
        ("iopub", "debug_reply"),
        ("iopub", "execute_request"),
        ("iopub", "input_request"),
        ("shell", "stream"),
        ("stdin", "execute_request"),
        ("control", "execute_reply"),
        ("page", "stream"),
        ("hb", "status"),
    ],
)
def test_types_that_have_no_place_there_are_refused(channel: str, kind: str) -> None:
    assert isinstance(read(carried(channel, kind, {"name": "stdout", "text": ""})), Refused)


def test_no_payload_acts_on_the_front_end() -> None:
    sources = ["edit_magic", "ask_exit", "page", "set_next_input", "unheard_of"]
    payload = [{"source": it, "text": "", "data": {}, "start": 0} for it in sources]
    message = read(
        carried("shell", "execute_reply", {"status": "ok", "payload": [*payload, "page", None]})
    )
    assert isinstance(message, dict)
    assert [part["source"] for part in message["b"]["payload"]] == ["page", "set_next_input"]


def test_text_of_a_display_is_text() -> None:
    data = {"text/html": ["<b>", "</b>"], "text/plain": 5, "application/vnd.x+json": {"a": 1}}
    message = read(carried("iopub", "display_data", {"data": data, "metadata": {}}))
    assert isinstance(message, dict)
    assert message["b"]["data"] == {**data, "text/html": "<b></b>", "text/plain": "5"}


def test_what_no_encoder_takes_is_replaced() -> None:
    text = '{"c":"iopub","h":{"msg_type":"display_data"},"p":{},"m":{},"b":{"data":'
    text += '{"text/plain":"\\ud800","application/json":[NaN,-Infinity]}}}'
    message = read_message(text.encode())
    assert isinstance(message, dict)
    plain = "\N{REPLACEMENT CHARACTER}"
    assert message["b"]["data"] == {"text/plain": plain, "application/json": [None, None]}


def test_a_sandbox_has_no_hold_on_what_another_one_shows() -> None:
    claims = IdOwners()
    first, second = Decoder(claims), Decoder(claims)
    shown = carried("iopub", "display_data", CONTENTS["iopub", "display_data"])
    update = carried("iopub", "update_display_data", CONTENTS["iopub", "update_display_data"])
    opened = carried("iopub", "comm_open", CONTENTS["iopub", "comm_open"])
    moved = carried("iopub", "comm_msg", CONTENTS["iopub", "comm_msg"])
    assert all(isinstance(it, dict) for it in first.feed(lines_of(shown, opened, update, moved)))
    # Not even by naming the display its own first.
    refused = list(second.feed(lines_of(update, moved, shown, opened, update, moved)))
    assert len(refused) == 6 and all(isinstance(it, Refused) for it in refused)
    second.note_opened("of the page")
    of_the_page = carried("iopub", "comm_msg", {"comm_id": "of the page", "data": {}})
    assert all(isinstance(it, Refused) for it in first.feed(lines_of(of_the_page)))
    # What is gone holds nothing.
    first.close()
    assert all(isinstance(it, dict) for it in second.feed(lines_of(update, moved)))


def test_ids_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentbay_kernel.execution.bridge.decoder.MOST_IDS", 10)
    claims, owner = IdOwners(), object()
    assert all(claims.claim(str(number), owner) for number in range(100))
    assert claims.claim("5", object())
    assert not claims.claim("95", object())


def test_messages_are_put_together_from_pieces() -> None:
    data = lines_of(*(carried(c, k, content) for (c, k), content in CONTENTS.items()))
    one = list(Decoder(IdOwners()).feed(data))
    reader = Decoder(IdOwners())
    pieces = [it for at in range(len(data)) for it in reader.feed(data[at : at + 1])]
    assert pieces == one and len(one) == len(CONTENTS)
    assert reader.begun == 0


def test_a_message_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "LARGEST_MESSAGE", 1_000)
    reader = Decoder(IdOwners())
    with pytest.raises(BridgeError, match="Show less at once"):
        for _ in range(20):
            list(reader.feed(b"x" * 100))
    assert reader.begun == 0


def test_a_line_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "LARGEST_LINE", 1_000)
    lines = Lines()
    assert list(lines.feed("a\nb\nc")) == ["a", "b"]
    assert list(lines.feed("d\n")) == ["cd"]
    with pytest.raises(InvalidResponseError):
        for _ in range(20):
            list(lines.feed("x" * 100))


def test_an_answer_that_unpacks_to_too_much_is_refused() -> None:
    assert read_answer(answer(b"abc", known=4)) == Answer(4, 0, b"abc", True)
    with pytest.raises(InvalidResponseError):
        read_answer(answer(b"\0" * (incoming.LARGEST_PIECE + 1)))


@pytest.mark.parametrize(
    "changes",
    [
        {"known": -1},
        {"known": True},
        {"known": 1e400},
        {"from": "0"},
        {"from": None},
        {"out": "%%%"},
        {"out": "eJw="},
        {"out": base64.b64encode(zlib.compress(b"abc")[:-2]).decode()},
        {"out": 5},
    ],
)
def test_an_answer_with_other_values_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidResponseError):
        read_answer(answer(b"abc", **changes))


def check_answer(text: str) -> None:
    """Every line is an answer, or the one error."""
    try:
        read = read_answer(text)
    except InvalidResponseError:
        return
    assert read.known >= 0 and read.start >= 0 and isinstance(read.data, bytes)


def check_message(message: Any) -> None:
    """Every message is refused, or one that Jupyter's own encoder takes, and a request too."""
    text = json.dumps(message)
    check_line(text.encode(errors="surrogatepass"))


def check_line(line: bytes) -> None:
    reader = Decoder(IdOwners())
    for message in reader.feed(line + b"\n"):
        if isinstance(message, Refused):
            assert isinstance(message.reply_to, str)
            continue
        if message["c"] == "bridge":
            continue
        json_packer(message["b"])
        json_packer(message["m"])
        assert not message["h"]["msg_type"].endswith("_request") or message["c"] == "stdin"
        for channel, kind in (("shell", "execute_request"), ("iopub", "comm_msg")):
            request = Request(channel, kind, None, "request")
            request.deliver(message)
    assert reader.begun == 0


messages = st.one_of(
    [mutated(carried(channel, kind, content)) for (channel, kind), content in CONTENTS.items()]
)
message_lines = (
    st.binary(max_size=200).map(lambda data: data.replace(b"\n", b""))
    | texts.map(lambda text: text.encode(errors="surrogatepass").replace(b"\n", b""))
    | st.sampled_from(sorted(CONTENTS))
    .flatmap(lambda key: broken(json.dumps(carried(*key, CONTENTS[key]))))
    .map(lambda text: text.encode(errors="surrogatepass").replace(b"\n", b""))
)
answers = st.one_of(
    mutated(json.loads(answer(b"abc"))).map(json.dumps),
    broken(answer(b"abc" * 30)),
    values().map(json.dumps),
    texts,
)


@pytest.mark.parametrize(
    "examples", [FEW, pytest.param(MANY, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_no_message_does_harm(examples: int) -> None:
    fuzz(check_message, examples, messages)
    fuzz(check_line, examples, message_lines)
    fuzz(check_answer, examples, answers)
