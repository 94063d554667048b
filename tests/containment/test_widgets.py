"""Widgets: every trait of every widget that ipywidgets has, ordinary and hostile."""

from __future__ import annotations

import datetime
import json
from typing import Any

import ipywidgets  # type: ignore[import-untyped]
import pytest
from ipywidgets.widgets import widget_link  # type: ignore[import-untyped]
from ipywidgets.widgets.widget import _registry, _remove_buffers  # type: ignore[import-untyped]

from agentbay_kernel.config import AgentBaySettings
from agentbay_kernel.containment.messages import Containment
from agentbay_kernel.containment.widgets import kind_of
from agentbay_kernel.execution.messages import Message
from tests.containment.outputs import harm_in

# What the front ends make of state of widgets that are made for others only.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "Link": {"source": (ipywidgets.IntText(), "value"), "target": (ipywidgets.IntText(), "value")},
    "SelectionSlider": {"options": ["a", "b"]},
    "SelectionRangeSlider": {"options": ["a", "b"], "index": (0, 1)},
    "Dropdown": {"options": [("größer", 1), ("<b>", 2)], "description": "one\nof $a_1$"},
    "Tab": {"children": [ipywidgets.Text()], "titles": ["first"]},
    "HTML": {"value": "<b>x</b> 1 < 2"},
    "HTMLMath": {"value": "<i>x</i> $a_1$"},
    "Label": {"value": "$\\frac{1}{2}$"},
    "ToggleButtons": {"options": ["a", "b"], "icons": ["check", "fa-ship"], "button_style": "info"},
    "Button": {"icon": "check", "tooltip": "<b>", "button_style": "danger"},
    "ColorPicker": {"value": "#ff8800"},
    "ColorsInput": {"value": ["red", "#00f"]},
    "DatePicker": {"value": datetime.date(2026, 1, 2), "max": datetime.date(2026, 2, 3)},
    "Image": {"value": b"x", "format": "png", "width": 9},
    "Layout": {"grid_template_columns": "repeat(2, 1fr)", "border": "1px solid red"},
    "Text": {"value": "<b>\\href{javascript:x}{y}</b>", "placeholder": "…"},
    "HBox": {"children": [ipywidgets.Text()], "box_style": "warning"},
}
ARGUMENTS["DirectionalLink"] = ARGUMENTS["Link"]
HOSTILE = (
    '<img src=x onerror="y">',
    "url(https://example.org/)",
    "javascript:x",
    "jp-Dialog",
    "$\\href{javascript:x}{y}$ \\class{jp-Dialog}{z}",
    "position:fixed",
    "/**/-500px",
    "0-500px",
    "999999999d",
    "a;position:fixed",
    "\\75rl(x)",
    "IPY_MODEL_x y",
    "url",
    "svg+xml;x",
    "a\u202eb",
)


def classes() -> list[Any]:
    """All widgets that ipywidgets has registered, thus all that a page can be asked to open."""
    found = {it for _, it in _registry.items()}
    assert len(found) > 60
    return sorted(found, key=lambda it: str(it.__name__))


ALL = classes()


def made(kind: Any) -> Any:
    """A widget with traits that are not only the default."""
    return kind(**ARGUMENTS.get(kind.__name__, {}))


def stems(kind: Any) -> frozenset[str]:
    """The names that it has in the page."""
    names = (kind._model_name.default_value, kind._view_name.default_value or "")
    return frozenset(name.removesuffix("Model").removesuffix("View") for name in names if name)


def shown(containment: Containment, comm_id: str, state: Any, **more: Any) -> list[Message]:
    """What reaches the page when a widget is opened."""
    content = {
        "comm_id": comm_id,
        "target_name": "jupyter.widget",
        "data": {"state": state, "buffer_paths": more.get("paths", [])},
    }
    opening = Message("comm_open", content, {"version": "2.1.0"}, more.get("buffers", ()))
    return containment.for_cell()(opening)


SETTINGS = AgentBaySettings()


def new() -> Containment:
    return Containment(lambda: SETTINGS)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_what_ipywidgets_makes_passes_as_it_is(kind: Any) -> None:
    widget = made(kind)
    containment = new()
    for end in ("source", "target"):
        if hasattr(widget, end):
            linked = getattr(widget, end)[0]
            assert shown(containment, linked.model_id, linked.get_state())
    state, paths, buffers = _remove_buffers(widget.get_state())
    state = json.loads(json.dumps(state))
    (message,) = shown(containment, "w", state, paths=paths, buffers=tuple(map(bytes, buffers)))
    assert message.content["data"]["state"] == state
    assert message.content["data"]["buffer_paths"] == paths
    assert message.metadata == {"version": "2.1.0"}


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_each_trait_is_let_in_by_what_the_page_makes_of_it(kind: Any) -> None:
    names = {"_model_name", "_model_module", "_view_name", "_view_module", "description_allow_html"}
    traits = set(kind.class_traits(sync=True)) - names
    assert traits
    state, _, _ = _remove_buffers(made(kind).get_state())
    for trait in traits:
        told = kind_of(stems(kind), trait)
        assert told is not None, trait
        for hostile in HOSTILE:
            for value in (hostile, [hostile, hostile], {"0": hostile}):
                for message in shown(new(), "w", {**state, trait: value}):
                    kept = message.content["data"]["state"].get(trait)
                    check(told, json.dumps(kept, ensure_ascii=False), kept)


def check(kind: str, text: str, kept: Any) -> None:
    """What holds of a trait in a page."""
    assert "\u202e" not in text
    if kind == "html":
        assert not harm_in(kept)
    elif kind == "label":
        assert "\\\\href" not in text and "\\\\class" not in text
    elif kind != "data":
        # Icons get a prefix in the page, and a word of CSS names nothing of the page's.
        css = ("url(", "-5")
        digits = ("999", "url")
        parts = {"look": css, "size": css, "digits": digits, "icon": ("(",), "icons": (" ",)}.get(
            kind, ("url", " ", "jp-")
        )
        for part in ("<", "javascript:", "\\\\", ":fixed", *parts):
            assert part not in text.replace(", ", ",").replace(": ", ":"), (kind, kept)


@pytest.mark.parametrize(
    "names",
    [
        {"_model_name": "EvilModel"},
        {"_view_name": "EvilView"},
        {"_view_name": "constructor"},
        {"_model_name": "TextModelModel"},
        {"_model_module": "https://example.org/evil.js"},
        {"_view_module": "@jupyter-widgets/base/../../evil"},
        {"_model_name": None, "_view_name": None},
        {"_model_name": ["TextModel"]},
    ],
)
def test_only_widgets_of_the_list_are_opened(names: dict[str, Any]) -> None:
    (message,) = shown(new(), "w", {**ipywidgets.Text().get_state(), **names})
    assert message.type == "display_data"


def test_traits_that_no_widget_has_are_left_out() -> None:
    state = ipywidgets.Text().get_state()
    (message,) = shown(new(), "w", {**state, "innerHTML": "<script>", "onclick": "x", "src": "y"})
    assert set(message.content["data"]["state"]) == set(state)


def test_a_link_leads_to_data_only() -> None:
    containment = new()
    for name in ("Label", "HTML", "ColorPicker", "Image", "Text"):
        shown(containment, name, made(getattr(ipywidgets, name)).get_state())
    link = made(widget_link.Link).get_state()
    for name, leads in (("Label", 0), ("HTML", 0), ("ColorPicker", 0), ("Image", 0), ("Text", 1)):
        ends = {"source": ["IPY_MODEL_Text", "value"], "target": [f"IPY_MODEL_{name}", "value"]}
        (message,) = shown(containment, f"to {name}", {**link, **ends})
        assert ("target" in message.content["data"]["state"]) is bool(leads)


def test_only_values_are_binary() -> None:
    state = ipywidgets.Image(value=b"x").get_state(drop_defaults=False)
    state.pop("value")
    paths: list[list[Any]] = [["value"], ["format"], ["layout"], ["__proto__"], ["_dom_classes", 0]]
    (message,) = shown(new(), "w", state, paths=paths, buffers=(b"1", b"2", b"3", b"4", b"5"))
    assert message.content["data"]["buffer_paths"] == [["value"]]
    assert message.buffers == (b"1",)


def opened_as(name: str) -> dict[str, Any]:
    """The state in which a widget of ipywidgets is opened."""
    state: dict[str, Any] = made(getattr(ipywidgets, name)).get_state()
    # Bytes go beside the state, as buffers.
    return {key: value for key, value in state.items() if not isinstance(value, bytes | memoryview)}


@pytest.mark.parametrize("closed", [False, True])
def test_a_widget_stays_of_its_class(closed: bool) -> None:
    """A page keeps the old widget of an id where it refuses the new one."""
    containment = new()
    shown(containment, "w", opened_as("HTML"))
    shown(containment, "source", opened_as("Text"))
    if closed:
        containment.for_cell()(Message("comm_close", {"comm_id": "w", "data": {}}))
    for state in (opened_as("Text"), {**opened_as("HTML"), "_view_name": "LabelView"}):
        assert not any(it.type == "comm_open" for it in shown(containment, "w", state))
    # What is sent to it is still HTML.
    assert closed or not harm_in(updated(containment, "w", HOSTILE[0]))
    ends = {"source": ["IPY_MODEL_source", "value"], "target": ["IPY_MODEL_w", "value"]}
    (link,) = shown(containment, "link", {**made(widget_link.Link).get_state(), **ends})
    assert "target" not in link.content["data"]["state"]
    # What it was it may be again.
    assert shown(containment, "w", opened_as("HTML"))[0].type == "comm_open"


def updated(containment: Containment, comm_id: str, value: str) -> str:
    """What reaches the page of a new value of a widget."""
    data = {"method": "update", "state": {"value": value}, "buffer_paths": []}
    (message,) = containment.for_cell()(Message("comm_msg", {"comm_id": comm_id, "data": data}))
    return str(message.content["data"]["state"].get("value", ""))


@pytest.mark.parametrize(
    ("was", "told"),
    [
        ("HTML", "Text"),
        ("HTMLMath", "Textarea"),
        ("Label", "Combobox"),
        ("ColorPicker", "Text"),
        ("Image", "Text"),
        ("Text", "HTML"),
    ],
)
def test_all_states_change_no_class(was: str, told: str) -> None:
    """A page that asks for the states of all widgets has some of them already."""
    containment = new()
    shown(containment, "w", opened_as(was))
    containment.note_from_page(
        "comm_open", {"comm_id": "c", "target_name": "jupyter.widget.control", "data": {}}
    )
    state = opened_as(told)
    names = {key: state[f"_{key}"] for key in ("model_name", "model_module")}
    for also in ({}, {"_model_name": opened_as(was)["_model_name"]}):
        states = {"w": {**names, "model_module_version": "2.0.0", "state": {**state, **also}}}
        data = {"method": "update_states", "states": states, "buffer_paths": []}
        (message,) = containment.for_cell()(Message("comm_msg", {"comm_id": "c", "data": data}))
        assert message.content["data"]["states"] == {}
    # A change is judged as of the class that it has.
    assert was in ("Text", "Label") or updated(containment, "w", HOSTILE[0]) != HOSTILE[0]


def new_with(name: str) -> Containment:
    """A containment that has a widget open."""
    containment = new()
    shown(containment, "w", opened_as(name))
    return containment


def test_a_description_stays_what_it_was() -> None:
    """It is HTML in the page for as long as it was opened so."""
    containment = new()
    shown(containment, "w", {**opened_as("Text"), "description_allow_html": True})
    containment.note_from_page(
        "comm_open", {"comm_id": "c", "target_name": "jupyter.widget.control", "data": {}}
    )
    state = {**opened_as("Text"), "description": HOSTILE[0]}
    state.pop("description_allow_html", None)
    names = {key: state[f"_{key}"] for key in ("model_name", "model_module")}
    data = {"method": "update_states", "states": {"w": {**names, "state": state}}}
    (message,) = containment.for_cell()(Message("comm_msg", {"comm_id": "c", "data": data}))
    assert "onerror" not in json.dumps(message.content)


@pytest.mark.parametrize("version", ["1.0.0", "3.0.0", "", "2.x", "2.1.0\n", None, 2])
def test_only_widgets_of_the_pages_protocol_are_opened(version: Any) -> None:
    data = {"state": opened_as("Text"), "buffer_paths": []}
    content = {"comm_id": "w", "target_name": "jupyter.widget", "data": data}
    (note,) = new().for_cell()(Message("comm_open", content, {"version": version}))
    assert note.type == "display_data"


def test_a_sandbox_does_not_take_the_keyboard() -> None:
    """What is typed into a widget goes to the sandbox."""
    containment = new_with("Text")
    for do in ("focus", "blur"):
        data = {"method": "custom", "content": {"do": do}}
        messages = containment.for_cell()(Message("comm_msg", {"comm_id": "w", "data": data}))
        assert len(messages) == (do == "blur")
