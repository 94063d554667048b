"""Widgets: limits on what the comms of a sandbox may bring into a page.

Only ipywidgets' own comms and the widget packages of the policy are allowed. The code of any other
package would run with state that it never expected from an untrusted sender. For ipywidgets' own
widgets, `_TRAITS` lists how the page uses each trait; a trait that is not listed is left out. HTML,
styles, classes, addresses and names pass allow lists of their own.
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
from agentbay_kernel.containment.text import (
    MOST_TEXT,
    UNSAFE_NAMES,
    all_visible,
    as_text,
    excess,
    one_line,
    shortened,
    shortened_lines,
    visible,
)
from agentbay_kernel.execution.messages import Message

TARGET = "jupyter.widget"
# A page that is loaded again opens it, to request the state of all widgets.
CONTROL = "jupyter.widget.control"

# The widgets of ipywidgets 8, without the final `Model` and `View`. Those that are not shown
# themselves are parts of others: styles, layouts.
_CLASSES = frozenset(
    """
    Accordion Audio BoundedFloatText BoundedIntText Box Button ButtonStyle Checkbox CheckboxStyle
    ColorPicker ColorsInput Combobox Controller ControllerAxis ControllerButton DOMWidget
    DatePicker Datetime DescriptionStyle DirectionalLink Dropdown FileUpload FloatLogSlider
    FloatProgress FloatRangeSlider FloatSlider FloatText FloatsInput GridBox HBox HTML HTMLMath
    HTMLMathStyle HTMLStyle Image IntProgress IntRangeSlider IntSlider IntText IntsInput Label
    LabelStyle Layout Link NaiveDatetime Output Password Play Progress ProgressStyle RadioButtons
    Select SelectMultiple SelectionRangeSlider SelectionSlider SliderStyle Stack Style Tab TagsInput
    Text TextStyle Textarea Time ToggleButton ToggleButtonStyle ToggleButtons ToggleButtonsStyle
    VBox Valid Video
    """.split()
)
# How the page uses a trait. `data` stays data or becomes the text of a field; a `label` is text for
# MathJax; a `look` is a value of CSS, a `size` may be calculated, `digits` are a format of
# numbers; `mark` ends the name of a class; `widgets` refer to other widgets; `bytes` only come
# beside the state, `nothing` does not come at all.
_TRAITS = {
    name: kind
    for kind, names in {
        "data": """
            _counter _playing _repeat _view_count accept allow_duplicates
            allowed_tags autoplay base behavior concise connected continuous_update controls
            description_tooltip disabled ensure_option error indent index interval loop mapping max
            min msg_id multiple name options orientation placeholder playing pressed readout
            repeat rows selected_index show_repeat step tabbable timestamp tooltip
            tooltips value
            """,
        "label": "_options_labels _titles description titles",
        "look": """
            align_content align_items align_self background bar_color border border_bottom
            border_left border_right border_top button_color button_width description_width
            display flex flex_flow font_family font_size font_style font_variant font_weight
            grid_area grid_auto_columns grid_auto_flow grid_auto_rows grid_column grid_gap grid_row
            grid_template_areas grid_template_columns grid_template_rows handle_color
            justify_content justify_items margin object_fit object_position order overflow
            overflow_x overflow_y text_color text_decoration visibility
            """,
        "digits": "readout_format",
        "size": "height max_height max_width min_height min_width padding width",
        # They would move a widget out of its place.
        "nothing": "bottom left right top",
        "mark": "bar_style box_style button_style tag_style",
        "widgets": "axes buttons children layout style",
        "classes": "_dom_classes",
        "icon": "icon",
        "icons": "icons",
        "format": "format",
        "outputs": "outputs",
        "link": "source target",
        "version": "_model_module_version _view_module_version",
    }.items()
    for name in names.split()
}
# The strictest kind that any of a widget's classes has for a trait comes first.
_OF_CLASSES = {
    ("HTML", "value"): "html",
    ("HTMLMath", "value"): "html",
    ("Label", "value"): "label",
    ("ColorPicker", "value"): "look",
    ("ColorsInput", "value"): "look",
    ("Image", "value"): "bytes",
    ("Audio", "value"): "bytes",
    ("Video", "value"): "bytes",
    ("FloatsInput", "format"): "data",
    ("IntsInput", "format"): "data",
}
_MARKS = frozenset(("", "success", "info", "warning", "danger", "primary"))
_icon = re.compile(r"[\w-]{0,60}\Z", re.A)
# Of a picture, a sound or a video. `url` would make its value an address to load from.
_format = re.compile(r"(?!url\Z)[a-z0-9][a-z0-9.+-]{0,30}\Z", re.A)
_digits = re.compile(r"(?!.*\d{3})[ +(-]?[$#]?\d{0,2},?(?:\.\d{1,2})?~?[a-zA-Z%]?\Z", re.A)
_version = re.compile(r"[\^~<>=*]{0,3}(?:\d[\w.+-]{0,40})?\Z", re.A)
# A page fails to open a widget of another version, and loses the message after it.
_protocol = re.compile(r"2\.\d{1,3}\.\d{1,3}\Z", re.A)
# Any other class only has a meaning in a style sheet, and the page has its own: `jp-Dialog`
# covers all of it. `interact` sets this one.
_DOM_CLASSES = frozenset(("widget-interact",))
_reference = re.compile(r"IPY_MODEL_([\w-]{1,100})\Z", re.A)
# The traits that a link made in the page may copy from widget to widget.
_LINKED = frozenset(
    ("value", "index", "disabled", "min", "max", "step", "selected_index", "indent", "readout")
)
_PACKAGE_KEYS = ("_model_module", "_view_module")
_NAME_KEYS = ("_model_name", "_view_name")
_REFUSED_PACKAGE = (
    "its code would run in the notebook's page. The setting widget_packages allows packages"
)
_UNNAMED = "it does not name its type"
_OTHER_PROTOCOL = "it is not of version 2 of the widgets' protocol"
_OTHER_CLASS = "a widget of its id has another class"
# Values in the state of one widget, or of all widgets together.
_MOST_VALUES = 1_000_000


def kind_of(classes: frozenset[str], trait: str) -> str | None:
    """Return how the page uses a trait of ipywidgets' own widgets; None if they lack it."""
    for (name, special), kind in _OF_CLASSES.items():
        if special == trait and name in classes:
            return kind
    return _TRAITS.get(trait)


@dataclass(frozen=True)
class _Model:
    """The known facts of an open widget."""

    # Without `Model` and `View`.
    classes: frozenset[str]
    is_core: bool
    html_description: bool

    def kind_of(self, trait: str) -> str | None:
        """Return how the page uses a trait; None if it is left out."""
        if trait == "description" and self.html_description:
            return "html description"
        kind = kind_of(self.classes, trait)
        if self.is_core or kind in _EVERYWHERE:
            return kind
        # Another package is trusted: its traits have meanings of their own.
        return "data"


# The page interprets these, and not the package.
_EVERYWHERE = frozenset(("classes", "outputs", "link", "version"))


class Widgets:
    """The widgets of a sandbox that are open in a page."""

    def __init__(self, policy: Callable[[], Policy]) -> None:
        self._policy = policy
        self._models: dict[str, _Model] = {}
        # Closed ids: a page may still have the old widget of such an id, if it could not open the
        # new one, or if another page closed it.
        self._closed: dict[str, _Model] = {}
        self._control: set[str] = set()
        # All comms that the page opened itself, of any target: those may be closed.
        self._of_page: set[str] = set()

    def note_from_page(self, kind: str, content: dict[str, Any]) -> None:
        """Note a comm message that the page sends."""
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
        if (model := self._models.pop(comm_id, None)) is not None:
            self._closed[comm_id] = model
        self._control.discard(comm_id)
        self._of_page.discard(comm_id)

    def contain(self, message: Message) -> Message | Refusal | None:
        """Return a comm message as the page may get it; None for a comm that is not open."""
        content = message.content
        comm_id, data = content.get("comm_id"), content.get("data")
        data = data if isinstance(data, dict) else {}
        if not isinstance(comm_id, str):
            return None
        # Checked before anything reads it. The limit of a cell's displays counts the buffers.
        if reason := excess(data, MOST_TEXT, _MOST_VALUES):
            return Refusal("widget", f"{reason}. Give it fewer data")
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
        version = message.metadata.get("version")
        if not isinstance(version, str) or not _protocol.match(version):
            return Refusal("widget", _OTHER_PROTOCOL)
        state = data.get("state")
        if not isinstance(state, dict):
            return None
        model = self._admit(comm_id, state)
        if isinstance(model, Refusal):
            return model
        paths, buffers = _safe_buffers(data.get("buffer_paths"), message.buffers, model)
        content = {
            "comm_id": comm_id,
            "target_name": TARGET,
            "target_module": None,
            "data": {"state": self._state(state, model), "buffer_paths": paths},
        }
        return Message("comm_open", content, {"version": version}, buffers)

    def _changed(
        self, message: Message, comm_id: str, data: dict[str, Any], model: _Model
    ) -> Message | None:
        method = data.get("method")
        if method in ("update", "echo_update"):
            state = data.get("state")
            paths, buffers = _safe_buffers(data.get("buffer_paths"), message.buffers, model)
            kept = self._state(state if isinstance(state, dict) else {}, model, opening=False)
            contained = {"method": method, "state": kept, "buffer_paths": paths}
        elif method == "custom":
            custom = data.get("content")
            # Core widgets also accept `focus` (ipywidgets 8). The user's next input, whatever it
            # was meant for, would go to the sandbox.
            if model.is_core and custom != {"do": "blur"}:
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
            # The names are both in the state and beside it; a page may read either.
            beside = {f"_{key}": told.get(key) for key in ("model_name", "model_module")}
            if any(state.get(name, value) != value for name, value in beside.items()):
                continue
            model = self._admit(str(widget_id), {**state, **beside})
            if isinstance(model, _Model):
                names = {key: told[key] for key in ("model_name", "model_module") if key in told}
                version = _SCALARS["version"](told.get("model_module_version"))
                kept[str(widget_id)] = {
                    **names,
                    "model_module_version": version,
                    "state": self._state(state, model),
                }
        known = {name: self._models[name] for name in kept}
        paths, buffers = _safe_buffers(data.get("buffer_paths"), message.buffers, known.get)
        contained = {"method": "update_states", "states": kept, "buffer_paths": paths}
        return Message("comm_msg", {"comm_id": comm_id, "data": contained}, {}, buffers)

    def _admit(self, comm_id: str, state: dict[str, Any]) -> _Model | Refusal:
        """Return and store the model of a widget with this state; a refusal if it may not open."""
        told = [state[key] for key in _PACKAGE_KEYS + _NAME_KEYS if state.get(key) is not None]
        if not all(isinstance(it, str) for it in told):
            return Refusal("widget", _UNNAMED)
        packages = {state[key] for key in _PACKAGE_KEYS if state.get(key) is not None}
        names = {state[key] for key in _NAME_KEYS if state.get(key) is not None}
        allowed = self._policy().widget_packages
        if not packages:
            return Refusal("widget", _UNNAMED)
        strangers = sorted(package for package in packages if package not in allowed)
        if strangers:
            return Refusal(f"widget of {strangers[0][:80]}", _REFUSED_PACKAGE)
        if self._policy().html == "text":
            return Refusal("widget", 'the setting html is "text"')
        is_core = packages <= CORE_WIDGETS
        classes = frozenset(name.removesuffix("Model").removesuffix("View") for name in names)
        if is_core and not (classes and classes <= _CLASSES):
            return Refusal("widget", _UNNAMED)
        model = _Model(classes, is_core, state.get("description_allow_html") is True)
        known = self._models.get(comm_id) or self._closed.get(comm_id)
        if known is not None:
            # A widget's classes don't change: links and updates are checked by them.
            if known.is_core != is_core or not classes <= known.classes:
                return Refusal("widget", _OTHER_CLASS)
            model = known
            self._closed.pop(comm_id, None)
        self._models[comm_id] = model
        return model

    def _state(self, state: dict[str, Any], model: _Model, opening: bool = True) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for key, value in state.items():
            if key in UNSAFE_NAMES:
                continue
            if key in _PACKAGE_KEYS + _NAME_KEYS:
                # A widget's classes don't change: its state was contained for them.
                if opening:
                    kept[key] = value
                continue
            if key == "description_allow_html":
                # Set once: it determines the check of the description.
                if value is not True or (opening and model.html_description):
                    kept[key] = value is True
                continue
            kind = model.kind_of(key)
            if kind is not None and (shown := self._value(kind, value)) is not _LEFT_OUT:
                kept[key] = shown
        return kept

    def _value(self, kind: str, value: Any) -> Any:
        """Return a contained entry of a widget's state, for the use that the page makes of it."""
        match kind:
            case "data":
                return all_visible(value)
            case "html":
                return contain_html(as_text(value), self._policy())
            case "html description":
                return sanitized(as_text(value))
            case "outputs":
                return [self._output(it) for it in value] if isinstance(value, list | tuple) else []
            case "link":
                return value if isinstance(value, list) and self._may_link(value) else _LEFT_OUT
        return _each(value, _SCALARS[kind])

    def _may_link(self, end: list[Any]) -> bool:
        """Return whether a link in the page may use this: it bypasses the containment."""
        reference = _reference.match(str(end[0])) if len(end) == 2 else None
        model = self._models.get(reference[1]) if reference is not None else None
        return (
            model is not None
            and model.is_core
            and end[1] in _LINKED
            and model.kind_of(end[1]) == "data"
        )

    def _output(self, output: Any) -> dict[str, Any]:
        """Return a contained output of an Output widget (nbformat 4)."""
        output = output if isinstance(output, dict) else {}
        kind = output.get("output_type")
        if kind == "stream":
            name = "stderr" if output.get("name") == "stderr" else "stdout"
            text = visible(shortened(as_text(output.get("text"))))
            return {"output_type": kind, "name": name, "text": text}
        if kind == "error":
            return {
                "output_type": kind,
                "ename": one_line(as_text(output.get("ename"))),
                "evalue": visible(shortened(as_text(output.get("evalue")))),
                "traceback": [visible(line) for line in shortened_lines(output.get("traceback"))],
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


def _each(value: Any, scalar: Callable[[Any], Any]) -> Any:
    """Apply a check to a value, to each of a list, or (ipywidgets 7) to one for each number."""
    if isinstance(value, list | tuple):
        # Positions in a list matter, but an entry without a widget or a class is dropped.
        return [it for it in map(scalar, value) if it is not None]
    if isinstance(value, dict):
        return {name: scalar(it) for name, it in value.items() if str(name).isdecimal()}
    return scalar(value)


def _label(value: Any) -> Any:
    return tex.as_text(visible(as_text(value)))


def _look(value: Any, name: str = "") -> Any:
    if isinstance(value, str):
        return value if is_safe_value(value, name) else None
    return value if isinstance(value, int | float) else None


def _word(allowed: Callable[[str], bool], otherwise: str | None = "") -> Callable[[Any], Any]:
    return lambda value: value if isinstance(value, str) and allowed(value) else otherwise


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "label": _label,
    "look": _look,
    "size": lambda value: _look(value, "width"),
    # A width in it can take all memory of a page.
    "digits": _word(lambda text: _digits.match(text) is not None, ".0f"),
    "mark": _word(_MARKS.__contains__),
    "widgets": _word(lambda text: _reference.match(text) is not None, None),
    "classes": _word(_DOM_CLASSES.__contains__, None),
    "icon": _word(lambda text: all(_icon.match(word) for word in text.split())),
    # In these, only the first word gets a prefix in the page.
    "icons": _word(lambda text: _icon.match(text) is not None),
    "format": _word(lambda text: _format.match(text) is not None),
    "version": _word(lambda text: _version.match(text) is not None),
    **dict.fromkeys(("bytes", "nothing"), lambda value: None),
}


def _safe_buffers(
    paths: Any, buffers: tuple[bytes, ...], find_model: Callable[[str], _Model | None] | _Model
) -> tuple[list[list[Any]], tuple[bytes, ...]]:
    """Return the buffers that belong to a state, with their paths.

    Arguments:
        find_model: the widget; or a function that finds it by the id at the start of a path, before
            `state`.
    """
    kept: list[tuple[list[Any], bytes]] = []
    for path, buffer in zip(paths if isinstance(paths, list) else [], buffers, strict=False):
        if not isinstance(path, list | tuple) or not path:
            continue
        if isinstance(find_model, _Model):
            model: _Model | None = find_model
            below = list(path)
        else:
            model = find_model(path[0]) if isinstance(path[0], str) else None
            below = list(path[2:] if path[1:2] == ["state"] else path[1:])
        safe = all(isinstance(step, int) or _is_safe_step(step) for step in path)
        # In ipywidgets' own widgets, only values are binary.
        if model is not None and safe and below and (not model.is_core or below[0] == "value"):
            kept.append((list(path), buffer))
    return [path for path, _ in kept], tuple(buffer for _, buffer in kept)


def _is_safe_step(step: Any) -> bool:
    return isinstance(step, str) and step not in UNSAFE_NAMES and not step.startswith("_")
