"""Messages: every type of a sandbox's message, contained; whatever it holds, an answer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentbay_kernel.config import AgentBaySettings
from agentbay_kernel.containment.messages import Containment
from agentbay_kernel.containment.text import UNSAFE_NAMES
from agentbay_kernel.execution.messages import Message, stream
from tests.containment.outputs import JSON, MARKUP, harm_in

CORE = "@jupyter-widgets/controls"
TYPES = (
    *("stream", "display_data", "update_display_data", "execute_result", "error", "clear_output"),
    *("comm_open", "comm_msg", "comm_close", "input_request", "execute_reply", "status", "x"),
)


def make(**values: Any) -> Containment:
    """A containment with these settings."""
    chosen = AgentBaySettings(**values)
    return Containment(lambda: chosen)


def contain(message: Message, containment: Containment | None = None) -> list[Message]:
    """What is published for one message."""
    return (containment or make()).for_cell()(message)


def opened(comm_id: str, name: str, state: dict[str, Any], module: str = CORE) -> Message:
    """A widget's comm_open."""
    core = {
        "_model_module": module,
        "_model_name": f"{name}Model",
        "_view_module": module,
        "_view_name": f"{name}View",
    }
    data = {"state": {**core, **state}, "buffer_paths": []}
    content = {"comm_id": comm_id, "target_name": "jupyter.widget", "data": data}
    return Message("comm_open", content, {"version": "2.1.0"})


def changed(comm_id: str, state: dict[str, Any], **data: Any) -> Message:
    """A widget's update."""
    whole = {"method": "update", "state": state, "buffer_paths": [], **data}
    return Message("comm_msg", {"comm_id": comm_id, "data": whole})


def state_of(messages: list[Message]) -> dict[str, Any]:
    """The state that reaches the page."""
    (message,) = messages
    state: dict[str, Any] = message.content["data"]["state"]
    return state


def test_javascript_is_told_once() -> None:
    containment = make()
    shown = Message("display_data", {"data": {"application/javascript": "1", "text/plain": "p"}})
    first, note = contain(shown, containment)
    assert first.content["data"] == {"text/plain": "p"}
    assert "JavaScript output is not shown" in note.content["data"]["text/plain"]
    (second,) = contain(shown, containment)
    assert second.content["data"] == {"text/plain": "p"}


def test_trust_changes_nothing() -> None:
    message = Message(
        "display_data", {"data": {"application/javascript": "\x00"}, "x": 1}, {"y": 2}
    )
    assert contain(message, make(html="trust")) == [message]


def test_a_policy_that_a_cell_made_stricter_holds_at_once() -> None:
    chosen = AgentBaySettings()
    containment = Containment(lambda: chosen)
    shown = Message("display_data", {"data": {"text/html": "<b>x</b>", "text/plain": "p"}})
    assert "text/html" in contain(shown, containment)[0].content["data"]
    chosen.change_in_notebook([("html", "text")])
    assert contain(shown, containment)[0].content["data"] == {"text/plain": "p"}


def test_a_reply_asks_the_front_end_for_little() -> None:
    payload = [
        {"source": "page", "data": {"text/plain": "t", "text/html": "<script>1</script>"}},
        {"source": "set_next_input", "text": "x = 1", "replace": True, "execute": True},
        {"source": "edit_magic", "filename": "/etc/passwd"},
        {"source": "ask_exit"},
        "junk",
    ]
    values = {"a": {"status": "ok", "data": {"text/javascript": "1", "text/plain": "p"}}}
    content = {"status": "ok", "payload": payload, "user_expressions": values, "execution_count": 3}
    *notes, reply = contain(Message("execute_reply", content))
    assert reply.content["payload"] == [
        {"source": "page", "data": {"text/plain": "t"}, "start": 0},
        {"source": "set_next_input", "text": "x = 1", "replace": True},
    ]
    assert reply.content["user_expressions"]["a"]["data"] == {"text/plain": "p"}
    assert reply.content["execution_count"] == 3
    assert len(notes) == 2


class Unreadable(dict[str, Any]):
    """A value at which whoever reads it fails."""

    def __len__(self) -> int:
        raise ValueError

    items = keys = values = get = __iter__ = __len__  # type: ignore[assignment]


@pytest.mark.parametrize("status", ["ok", "error"])
def test_a_reply_comes_also_where_it_could_not_be_contained(status: str) -> None:
    """A cell waits for its reply; a note in its place would be taken for one."""
    broken = Unreadable(x=1)
    content = {"status": status, "user_expressions": broken, "payload": broken, "traceback": broken}
    note, reply = contain(Message("execute_reply", content))
    assert note.type == "stream" and "could not be shown" in note.content["text"]
    assert reply.type == "execute_reply" and reply.content["status"] == status


def test_a_question_that_could_not_be_contained_is_asked_without_words() -> None:
    note, asked = contain(Message("input_request", Unreadable(prompt="Name?")))
    assert note.type == "stream"
    assert (asked.type, asked.content) == ("input_request", {"prompt": "", "password": True})


def test_a_reply_keeps_the_id_of_its_request_and_nothing_else() -> None:
    known = {"request_id": "0f3\u202e", "more": {}}
    (reply,) = contain(Message("execute_reply", {"status": "ok"}, known))
    assert list(reply.metadata) == ["request_id"] and "\u202e" not in reply.metadata["request_id"]
    (reply,) = contain(Message("execute_reply", {"status": "ok"}, {"request_id": ["0f3"]}))
    assert reply.metadata == {}


def test_answers_to_questions_of_the_page() -> None:
    containment = make()
    found = {"status": "ok", "found": True, "data": {"text/html": "<b>", "text/plain": "\u202ex"}}
    assert containment.inspection(found)["data"] == {"text/plain": "[U+202E]x"}
    completed = containment.completions(
        {
            "status": "ok",
            "matches": ["open", "o\u202ep", 3],
            "cursor_start": 0,
            "cursor_end": 1,
            "metadata": {
                "_jupyter_types_experimental": [{"start": 0, "end": 1, "text": "open", "x": "y"}],
                "z": 1,
            },
        }
    )
    assert completed["matches"] == ["open"]
    assert completed["metadata"] == {
        "_jupyter_types_experimental": [{"start": 0, "end": 1, "text": "open"}]
    }


def test_only_known_widgets_are_opened() -> None:
    containment = make()
    other = Message("comm_open", {"comm_id": "1", "target_name": "jupyterlab", "data": {}})
    (note,) = contain(other, containment)
    assert "only widgets may open a comm" in note.content["data"]["text/plain"]
    (note,) = contain(opened("2", "Map", {}, "jupyter-leaflet"), containment)
    assert "widget_packages" in note.content["data"]["text/plain"]
    # Nothing is said to a widget that is not there.
    assert contain(changed("2", {"value": 1}), containment) == []
    assert contain(opened("3", "constructor", {"_model_name": "constructor"}), containment) != []
    assert contain(changed("3", {"value": 1}), containment) == []
    allowing = make(widget_packages=["jupyter-leaflet"])
    assert contain(opened("2", "Map", {}, "jupyter-leaflet"), allowing)[0].type == "comm_open"


def test_widgets_that_bear_html() -> None:
    containment = make()
    handler = "<img src=x onerror=y>"
    state = state_of(contain(opened("h", "HTML", {"value": f"<b>x</b>{handler}"}), containment))
    assert not harm_in(state["value"])
    kept = "<b>bold</b>"
    assert state_of(contain(changed("h", {"value": kept}), containment)) == {"value": kept}
    shown = state_of(contain(changed("h", {"value": handler}), containment))
    assert not harm_in(shown["value"])
    # A text keeps its text, but never becomes HTML.
    state = state_of(contain(opened("t", "Text", {"value": handler}), containment))
    assert state["value"] == handler
    assert state_of(contain(changed("t", {"_view_name": "HTMLView"}), containment)) == {}
    described = {"description": handler, "description_allow_html": True}
    state = state_of(contain(opened("d", "Text", described), containment))
    assert "onerror" not in state["description"]
    assert state_of(contain(changed("t", {"description_allow_html": True}), containment)) == {}
    link = {"source": ["IPY_MODEL_t", "value"], "target": ["IPY_MODEL_h", "value"]}
    state = state_of(contain(opened("l", "DirectionalLink", link), containment))
    assert "target" not in state
    assert "source" in state


def test_other_ways_of_a_widget_into_the_page() -> None:
    containment = make()
    state = state_of(
        contain(
            opened(
                "o",
                "Output",
                {
                    "outputs": [
                        {"output_type": "display_data", "data": {"text/html": "<script>"}},
                        {"output_type": "stream", "name": "stdout", "text": "\x1b]0;\x07"},
                        "junk",
                    ],
                    "_dom_classes": ["widget-interact", "jp-Dialog", "mine", 3],
                    "format": "url",
                    "icon": "check",
                    "icons": ["check", "x jp-Dialog"],
                    "__proto__": {"x": 1},
                },
            ),
            containment,
        )
    )
    assert not harm_in(state["outputs"][0]["data"]["text/html"])
    assert state["outputs"][1]["text"] == "␛]0;␇"
    assert state["_dom_classes"] == ["widget-interact"]
    assert state["icons"] == ["check", ""]
    assert state["format"] == ""
    assert "__proto__" not in state
    style = {"background": "url(https://x)", "text_color": "red", "_model_module_version": "2.0.0"}
    state = state_of(contain(opened("s", "HTMLStyle", style), containment))
    assert state["background"] is None
    assert state["text_color"] == "red"
    assert state["_model_module_version"] == "2.0.0"


def test_buffers_go_only_where_state_is() -> None:
    containment = make()
    contain(opened("i", "Image", {}), containment)
    (message,) = contain(
        Message(
            "comm_msg",
            {
                "comm_id": "i",
                "data": {
                    "method": "update",
                    "state": {},
                    "buffer_paths": [["value"], ["__proto__", "x"], ["_view_name"], []],
                },
            },
            buffers=(b"1", b"2", b"3", b"4"),
        ),
        containment,
    )
    assert message.content["data"]["buffer_paths"] == [["value"]]
    assert message.buffers == (b"1",)


def test_a_page_that_was_loaded_again_asks_for_all_states() -> None:
    containment = make()
    containment.note_from_page(
        "comm_open", {"comm_id": "c", "target_name": "jupyter.widget.control", "data": {}}
    )
    html = opened("h", "HTML", {"value": "<b onclick=x>y</b>"}).content["data"]["state"]
    evil = {"model_name": "EvilModel", "model_module": "evil", "state": {"_model_module": "evil"}}
    known = {"model_name": "HTMLModel", "model_module": CORE, "model_module_version": "2.0.0"}
    data = {"method": "update_states", "states": {"h": {**known, "state": html}, "e": evil}}
    (message,) = contain(Message("comm_msg", {"comm_id": "c", "data": data}), containment)
    states = message.content["data"]["states"]
    assert list(states) == ["h"]
    assert not harm_in(states["h"]["state"]["value"])
    assert "model_name" in states["h"]


def names_in(value: Any) -> set[str]:
    """All names of objects in JSON."""
    if isinstance(value, dict):
        return set(value).union(*map(names_in, value.values()))
    return set().union(*map(names_in, value)) if isinstance(value, list) else set()


def check_message(kind: str, content: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Every message has an answer of known types, that can be sent."""
    containment = make()
    containment.note_from_page(
        "comm_open", {"comm_id": "x", "target_name": "jupyter.widget.control"}
    )
    contain(opened("w", "HTML", {}), containment)
    for message in contain(Message(kind, content, metadata), containment):
        assert message.type in TYPES[:11]
        if message.type == "execute_reply":
            assert message.content["status"] in ("ok", "error", "aborted")
        if message.type in ("display_data", "execute_result", "update_display_data"):
            assert "text/html" not in message.content["data"] or not harm_in(
                message.content["data"]["text/html"]
            )
        if message.type.startswith("comm_") and "state" in message.content.get("data", {}):
            assert not names_in(message.content) & UNSAFE_NAMES


CONTENT = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("data", "metadata", "transient", "text", "name", "payload"), JSON),
        **dict.fromkeys(("ename", "evalue", "traceback", "user_expressions", "status"), JSON),
        **dict.fromkeys(("execution_count", "prompt", "wait"), JSON),
        "comm_id": st.sampled_from(["x", "w", "new"]) | JSON,
        "target_name": st.just("jupyter.widget") | JSON,
    },
)
STATES = st.dictionaries(
    st.sampled_from(["value", "outputs", "description", "_dom_classes", "source", "__proto__"]),
    MARKUP | JSON,
    max_size=3,
)


@settings(max_examples=80)
@given(st.sampled_from(TYPES), CONTENT, JSON.filter(lambda it: isinstance(it, dict)) | st.just({}))
def test_any_message(kind: str, content: dict[str, Any], metadata: dict[str, Any]) -> None:
    check_message(kind, content, metadata)


@settings(max_examples=100)
@given(st.sampled_from(["HTML", "Text", "Output", "Link"]), STATES, STATES)
def test_any_widget(name: str, state: dict[str, Any], later: dict[str, Any]) -> None:
    containment = make()
    for message in (opened("w", name, state), changed("w", later)):
        for shown in contain(message, containment):
            kept = shown.content.get("data", {}).get("state", {})
            if name == "HTML" and "value" in kept:
                assert not harm_in(kept["value"])
            assert not names_in(kept) & UNSAFE_NAMES


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=3_000)
@given(st.sampled_from(TYPES), CONTENT, JSON.filter(lambda it: isinstance(it, dict)) | st.just({}))
def test_many_messages(kind: str, content: dict[str, Any], metadata: dict[str, Any]) -> None:
    check_message(kind, content, metadata)


def test_a_stream_has_one_of_two_names() -> None:
    (message,) = contain(Message("stream", {"name": "x", "text": ["a", "b"]}))
    assert message == stream("stdout", "ab")
