"""Widgets: what the comms of a sandbox may bring into a page.

In: comm messages from a sandbox. Out: the same messages with contained state, or a refusal. Only
ipywidgets' own comms and the widget packages of the policy are let in: any other package's code
would be run with state that it never expected to come from a stranger.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from agentbay_kernel.containment import tex
from agentbay_kernel.containment.bundle import Refusal, contain_bundle, contain_html
from agentbay_kernel.containment.css import is_safe_value
from agentbay_kernel.containment.markup import sanitized
from agentbay_kernel.containment.policy import CORE_WIDGETS, Policy
from agentbay_kernel.containment.text import UNSAFE_NAMES, all_visible, as_text, visible
from agentbay_kernel.execution.messages import Message

TARGET = "jupyter.widget"
# Opened by a page that was loaded again, to ask for the state of all widgets.
CONTROL = "jupyter.widget.control"

_class_name = re.compile(r"[A-Z]\w{0,60}(?:Model|View)\Z", re.A)
_icon = re.compile(r"[\w-]{0,60}\Z", re.A)
# The page's own classes: a widget that has them looks like a part of the page.
_page_class = re.compile(
    r"(?:jp|lm|p|cm|fa|bp\d*|jupyter|modal|navbar)-|CodeMirror|modal|navbar", re.I
)
_reference = re.compile(r"IPY_MODEL_([\w-]{1,100})\Z", re.A)
# These write their value into the page as HTML (ipywidgets 8, `widget_string.ts`).
_HTML_CLASSES = frozenset(("HTMLModel", "HTMLMathModel", "HTMLView", "HTMLMathView"))
_LABEL_CLASSES = frozenset(("LabelModel", "LabelView"))
# What a link made in the page may carry from widget to widget.
_LINKED = frozenset(
    ("value", "index", "disabled", "min", "max", "step", "selected_index", "indent", "readout")
)
_PACKAGE_KEYS = ("_model_module", "_view_module")
_NAME_KEYS = ("_model_name", "_view_name")
_REFUSED_PACKAGE = (
    "its code would run in the notebook's page. The setting widget_packages allows packages"
)


@dataclass(frozen=True)
class _Model:
    """What is known of an open widget."""

    names: frozenset[str]
    is_core: bool
    html_description: bool

    @property
    def shows_html(self) -> bool:
        return bool(self.names & _HTML_CLASSES)

    @property
    def is_style(self) -> bool:
        return any(name.endswith(("StyleModel", "LayoutModel")) for name in self.names)


class Widgets:
    """The widgets that a sandbox has open in a page."""

    def __init__(self, policy: Callable[[], Policy]) -> None:
        self._policy = policy
        self._models: dict[str, _Model] = {}
        self._control: set[str] = set()
        # All that the page opened itself, of whatever target: those may be closed.
        self._of_page: set[str] = set()

    def note_from_page(self, kind: str, content: dict[str, Any]) -> None:
        """Take notice of a comm message that the page sends."""
        comm_id = content.get("comm_id")
        if not isinstance(comm_id, str):
            return
        if kind == "comm_open":
            self._of_page.add(comm_id)
            if content.get("target_name") == CONTROL:
                self._control.add(comm_id)
        elif kind == "comm_close":
            self._forget(comm_id)

    def _forget(self, comm_id: str) -> None:
        self._models.pop(comm_id, None)
        self._control.discard(comm_id)
        self._of_page.discard(comm_id)

    def contain(self, message: Message) -> Message | Refusal | None:
        """A comm message as the page may have it; None for what nobody opened."""
        content = message.content
        comm_id, data = content.get("comm_id"), content.get("data")
        data = data if isinstance(data, dict) else {}
        if not isinstance(comm_id, str):
            return None
        if message.type == "comm_open":
            return self._opened(message, comm_id, data)
        if message.type == "comm_close":
            known = comm_id in self._models or comm_id in self._of_page
            self._forget(comm_id)
            return replace(message, content={"comm_id": comm_id, "data": {}}) if known else None
        if comm_id in self._control:
            return self._all_states(message, comm_id, data)
        model = self._models.get(comm_id)
        if model is None:
            return None
        return self._changed(message, comm_id, data, model)

    def _opened(
        self, message: Message, comm_id: str, data: dict[str, Any]
    ) -> Message | Refusal | None:
        target = message.content.get("target_name")
        if target != TARGET:
            return Refusal(f"comm to {str(target)[:80]!r}", "only widgets may open a comm")
        state = data.get("state")
        if not isinstance(state, dict):
            return None
        model = self._admit(comm_id, state)
        if isinstance(model, Refusal):
            return model
        paths, buffers = _safe_buffers(data.get("buffer_paths"), message.buffers)
        content = {
            "comm_id": comm_id,
            "target_name": TARGET,
            "target_module": None,
            "data": {"state": self._state(state, model), "buffer_paths": paths},
        }
        version = message.metadata.get("version")
        metadata = {"version": version} if isinstance(version, str) else {}
        return Message("comm_open", content, metadata, buffers)

    def _changed(
        self, message: Message, comm_id: str, data: dict[str, Any], model: _Model
    ) -> Message | None:
        method = data.get("method")
        if method in ("update", "echo_update"):
            state = data.get("state")
            paths, buffers = _safe_buffers(data.get("buffer_paths"), message.buffers)
            kept = self._state(state if isinstance(state, dict) else {}, model, opening=False)
            contained = {"method": method, "state": kept, "buffer_paths": paths}
        elif method == "custom":
            custom = data.get("content")
            # All that core widgets are told in this way (ipywidgets 8, `DOMWidget.focus`).
            if model.is_core and custom not in ({"do": "focus"}, {"do": "blur"}):
                return None
            contained, buffers = {"method": method, "content": all_visible(custom)}, message.buffers
        else:
            return None
        return Message("comm_msg", {"comm_id": comm_id, "data": contained}, {}, buffers)

    def _all_states(self, message: Message, comm_id: str, data: dict[str, Any]) -> Message | None:
        states = data.get("states")
        if data.get("method") != "update_states" or not isinstance(states, dict):
            return None
        kept: dict[str, Any] = {}
        for widget_id, told in states.items():
            state = told.get("state") if isinstance(told, dict) else None
            if not isinstance(state, dict) or widget_id in UNSAFE_NAMES:
                continue
            # The names stand both in the state and beside it.
            whole = {
                **state,
                **{f"_{key}": told.get(key) for key in ("model_name", "model_module")},
            }
            model = self._admit(str(widget_id), whole)
            if isinstance(model, _Model):
                names = {key: told[key] for key in ("model_name", "model_module") if key in told}
                version = as_text(told.get("model_module_version"))
                kept[str(widget_id)] = {
                    **names,
                    "model_module_version": version,
                    "state": self._state(state, model),
                }
        paths, buffers = _safe_buffers(data.get("buffer_paths"), message.buffers, kept)
        contained = {"method": "update_states", "states": kept, "buffer_paths": paths}
        return Message("comm_msg", {"comm_id": comm_id, "data": contained}, {}, buffers)

    def _admit(self, comm_id: str, state: dict[str, Any]) -> _Model | Refusal:
        """May a widget with this state be opened? Remembers it if so."""
        packages = {state[key] for key in _PACKAGE_KEYS if state.get(key) is not None}
        names = {state[key] for key in _NAME_KEYS if state.get(key) is not None}
        allowed = self._policy().widget_packages
        if not packages or not all(isinstance(it, str) for it in packages | names):
            return Refusal("widget", "it does not say what it is")
        strangers = sorted(package for package in packages if package not in allowed)
        if strangers:
            return Refusal(f"widget of {strangers[0][:80]}", _REFUSED_PACKAGE)
        if self._policy().html == "text":
            return Refusal("widget", 'the setting html is "text"')
        is_core = packages <= CORE_WIDGETS
        if is_core and not (names and all(_class_name.match(name) for name in names)):
            return Refusal("widget", "it does not say what it is")
        model = _Model(frozenset(names), is_core, state.get("description_allow_html") is True)
        self._models[comm_id] = model
        return model

    def _state(self, state: dict[str, Any], model: _Model, opening: bool = True) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for key, value in state.items():
            if key in UNSAFE_NAMES:
                continue
            if key in _PACKAGE_KEYS + _NAME_KEYS:
                # A widget stays what it was: its state was contained for that.
                if opening:
                    kept[key] = value
                continue
            if key == "description_allow_html":
                if opening or value is not True:
                    kept[key] = value is True
                continue
            if (shown := self._value(key, value, model)) is not _LEFT_OUT:
                kept[key] = shown
        return kept

    def _value(self, key: str, value: Any, model: _Model) -> Any:
        """One entry of a widget's state."""
        if key == "value" and model.shows_html:
            return contain_html(as_text(value), self._policy())
        if key == "description" and model.html_description:
            return sanitized(as_text(value))
        is_typeset = key == "description" or (key == "value" and model.names & _LABEL_CLASSES)
        if is_typeset and isinstance(value, str):
            return tex.as_text(visible(value))
        if key == "outputs":
            return [self._output(item) for item in value] if isinstance(value, list | tuple) else []
        if key == "format" and value == "url":
            # Its value would be an address that the page loads from.
            return _LEFT_OUT
        if key == "_dom_classes":
            classes = value if isinstance(value, list) else []
            return [it for it in classes if isinstance(it, str) and not _page_class.match(it)]
        if key == "icon":
            words = as_text(value).split()
            return value if all(_icon.match(word) for word in words) else ""
        if key == "icons":
            icons = value if isinstance(value, list) else []
            return [it if isinstance(it, str) and _icon.match(it) else "" for it in icons]
        if key in ("source", "target") and isinstance(value, list):
            return value if self._may_link(value) else _LEFT_OUT
        if model.is_style and isinstance(value, str) and not is_safe_value(value):
            # Names of modules and versions hold characters that no style has.
            return value if key.startswith("_") else None
        return all_visible(value)

    def _may_link(self, end: list[Any]) -> bool:
        """May a link in the page read or write this? It passes by the containment."""
        reference = _reference.match(str(end[0])) if len(end) == 2 else None
        model = self._models.get(reference[1]) if reference is not None else None
        return (
            model is not None
            and model.is_core
            and not model.shows_html
            and not model.is_style
            and end[1] in _LINKED
        )

    def _output(self, output: Any) -> dict[str, Any]:
        """An output that an Output widget shows (nbformat 4)."""
        output = output if isinstance(output, dict) else {}
        kind = output.get("output_type")
        if kind == "stream":
            name = "stderr" if output.get("name") == "stderr" else "stdout"
            return {"output_type": kind, "name": name, "text": visible(as_text(output.get("text")))}
        if kind == "error":
            frames = output.get("traceback")
            return {
                "output_type": kind,
                "ename": visible(as_text(output.get("ename"))),
                "evalue": visible(as_text(output.get("evalue"))),
                "traceback": [visible(as_text(line)) for line in frames or ()]
                if isinstance(frames, list)
                else [],
            }
        shown = contain_bundle(output.get("data"), output.get("metadata"), self._policy())
        result: dict[str, Any] = {"output_type": "display_data", "data": shown.data}
        if kind == "execute_result":
            count = output.get("execution_count")
            shown_count = count if isinstance(count, int) else None
            result = {"output_type": kind, "data": shown.data, "execution_count": shown_count}
        result["metadata"] = shown.metadata
        return result


_LEFT_OUT = object()


def _safe_buffers(
    paths: Any, buffers: tuple[bytes, ...], widgets: dict[str, Any] | None = None
) -> tuple[list[list[Any]], tuple[bytes, ...]]:
    """The buffers that belong into a state, with the paths of where they belong.

    Arguments:
        widgets: whose ids the paths begin with, where they do.
    """
    pairs = [
        (list(path), buffer)
        for path, buffer in zip(paths if isinstance(paths, list) else [], buffers, strict=False)
        if isinstance(path, list | tuple)
        and path
        and all(isinstance(step, int) or _is_safe_step(step) for step in path)
        and (widgets is None or path[0] in widgets)
    ]
    return [path for path, _ in pairs], tuple(buffer for _, buffer in pairs)


def _is_safe_step(step: Any) -> bool:
    return isinstance(step, str) and step not in UNSAFE_NAMES and not step.startswith("_")
