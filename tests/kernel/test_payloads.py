"""Each attempt to get out that the browser's tests make, by a kernel: what is sent to the page.

The judges are those of `tests/containment`, written apart from the containment. What a browser
makes of it is shown by `tests/browser`, with some of every kind in `make test`.
"""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Iterator
from typing import Any

import pytest
from markdown_it import MarkdownIt

from tests.browser.attacks import attack_payloads
from tests.browser.payloads import (
    SETUP,
    Payload,
    chart_payloads,
    dealt,
    escape_payloads,
    mathematics_payloads,
)
from tests.containment.outputs import harm_in, is_allowed
from tests.containment.test_charts import harm_in_chart
from tests.containment.test_mathematics import Reader
from tests.kernel.conftest import LOCAL
from tests.kernels import Ran, RunningKernel, running_kernel

BEACON = "http://127.0.0.1:9"
PAYLOADS = [
    *attack_payloads(BEACON),
    *escape_payloads(BEACON),
    *chart_payloads(BEACON),
    *(payload for of_use in mathematics_payloads(BEACON).values() for payload in of_use),
]
OUTPUTS = ("display_data", "update_display_data", "execute_result")
# Those whose traits may name another widget, a picture or a text, and no code.
PACKAGES = {"@jupyter-widgets/base", "@jupyter-widgets/controls", "@jupyter-widgets/output"}
# MathJax makes links, loads, styles and names of the page by these.
TEX = {
    *("href", "url", "class", "cssId", "style", "data", "require", "unicode", "def", "let", "ref"),
    *("newcommand", "renewcommand", "newenvironment", "csname", "mmlToken", "bbox", "eqref"),
    *("includegraphics", "verb", "raise", "lower", "llap", "rlap", "smash"),
}
# Styles that lay an element over others, or load.
MOVES = re.compile(r"position|url\(|image-set|calc\(|/\*|:[^;]*\d-\d|margin[^;]*-\d|[\\@]")
# What outputs' metadata may say of a type, and how charts are embedded.
HARMLESS = {"width", "height", "unconfined", "expanded", "root", "embed_options"}
EMBEDDED = {"actions": {"export": True, "source": False, "compiled": False, "editor": False}}


class EveryLink(MarkdownIt):
    """Markdown that makes a link of everything."""

    def validateLink(self, url: str) -> bool:
        """Refuse nothing."""
        return True


MARKDOWN = EveryLink("commonmark", {"html": True}).enable("table")
FORMULA = re.compile(r"\$.*\$|\\\(|\\\[|\\begin", re.S)


def harm_in_html(markup: str) -> str:
    """What is wrong with HTML that stands in the page; empty if nothing is."""
    if harm := harm_in(markup):
        return harm
    if "<iframe" in markup:
        return ""
    for style in re.findall(r"<[^>]*\sstyle\s*=\s*(\"[^\"]*|'[^']*)", markup):
        if found := MOVES.search(html.unescape(style)):
            return f"a style: {found[0]}"
    return next((harm for text in Reader(markup).runs if (harm := harm_in_tex(text))), "")


def harm_in_markdown(source: str) -> str:
    """What is wrong with Markdown that the page renders; empty if nothing is."""
    if found := re.search(r"javascript:|\son\w+\s*=", source, re.I):
        return found[0]
    # Two readers: with formulas and without.
    for text in (source, re.sub(r"\$[^$]+\$", "", source)):
        if harm := harm_in_html(str(MARKDOWN.render(text))):
            return harm
    return harm_in_tex(source)


def harm_in_tex(source: str) -> str:
    """The command in a text that MathJax sets and that does more than to set mathematics."""
    if FORMULA.search(source) is None:
        return ""
    return ", ".join(TEX.intersection(re.findall(r"\\([a-zA-Z]+|.)", source, re.S)))


def harm_in_bundle(data: dict[str, Any], metadata: dict[str, Any]) -> str:
    """What is wrong with data that the page shows; empty if nothing is."""
    for mime, shown in data.items():
        if not is_allowed(mime):
            return f"the type {mime}"
        if mime == "text/html" and (harm := harm_in_html(shown)):
            return harm
        if "vegalite" in mime and (harm := harm_in_chart(shown)):
            return harm
        if mime == "text/markdown" and (harm := harm_in_markdown(shown)):
            return harm
        if mime == "text/latex" and (harm := harm_in_tex(shown)):
            return harm
        if mime == "image/svg+xml" and re.search(r"<\s*script|\son\w+\s*=|javascript:", shown):
            return f"a picture: {shown}"
        # Beside the type that it is for, or for all of them.
        told = metadata.get(mime)
        if "isolated" in metadata or (isinstance(told, dict) and not told.keys() <= HARMLESS):
            return f"metadata {metadata}"
        if isinstance(told, dict) and told.get("embed_options", EMBEDDED) != EMBEDDED:
            return f"metadata {metadata}"
    return ""


def harm_in_state(state: dict[str, Any], names: dict[str, Any]) -> str:
    """What is wrong with a widget's state; empty if nothing is.

    Arguments:
        names: the state that it was opened with.
    """
    for kind in ("_model_module", "_view_module"):
        if state.get(kind) not in (None, *PACKAGES):
            return f"{kind} {state[kind]}"
    if any(name.startswith("jp-") for name in state.get("_dom_classes") or ()):
        return f"classes {state['_dom_classes']}"
    if state.get("outputs"):
        for output in state["outputs"]:
            if harm := harm_in_bundle(output.get("data", {}), output.get("metadata", {})):
                return harm
    if names.get("description_allow_html") and (
        harm := harm_in_html(str(state.get("description", "")))
    ):
        return harm
    if "HTML" in str(names.get("_view_name")):
        return harm_in_html(str(state.get("value", "")))
    return ""


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, Any]]:
    """The states of the widgets that the page has opened, by their comms."""
    return {}


def harm_in_cell(ran: Ran, states: dict[str, dict[str, Any]]) -> list[str]:
    """What is wrong with what a cell sent."""
    found = []
    for output in ran.outputs:
        content = output["content"]
        if output["msg_type"] in OUTPUTS:
            found.append(harm_in_bundle(content["data"], content["metadata"]))
        elif output["msg_type"] == "comm_open":
            if content["target_name"] != "jupyter.widget":
                found.append(f"a comm of {content['target_name']}")
            states[content["comm_id"]] = content["data"].get("state", {})
        elif output["msg_type"] == "comm_msg" and content["comm_id"] not in states:
            found.append("a message to no widget")
        if output["msg_type"] in ("comm_open", "comm_msg"):
            state = content["data"].get("state", {})
            found.append(harm_in_state(state, states.get(content["comm_id"], {})))
    # A page of text, or code that is put into a cell and not run.
    for payload in ran.reply.get("payload", []):
        if payload["source"] not in ("page", "set_next_input"):
            found.append(f"payload {payload}")
        found.append(harm_in_bundle(payload.get("data", {}), {}))
    return [harm for harm in found if harm]


@contextlib.contextmanager
def running_with(html_setting: str) -> Iterator[RunningKernel]:
    """An "AgentBay Python" that has run what the payloads begin with."""
    settings = {**LOCAL, "AGENTBAY_HTML": html_setting}
    with running_kernel("agentbay-python", settings) as running:
        running.run(f"{SETUP}\nfrom IPython.display import Latex, Math")
        yield running


@pytest.fixture(
    scope="module", params=["contain", pytest.param("sanitize", marks=pytest.mark.slow)]
)
def kernel(request: pytest.FixtureRequest) -> Iterator[RunningKernel]:
    """One kernel for all payloads."""
    with running_with(request.param) as running:
        yield running


# `make test` has some of every kind.
QUICK = {payload.name for payload in dealt(PAYLOADS, 8)[0]}


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(it, id=it.name, marks=[pytest.mark.slow] * (it.name not in QUICK))
        for it in PAYLOADS
    ],
)
def test_nothing_that_acts_is_sent(
    kernel: RunningKernel, states: dict[str, dict[str, Any]], payload: Payload
) -> None:
    assert harm_in_cell(kernel.run(payload.code), states) == []


@pytest.mark.parametrize(
    ("parts", "found"), [(24, 15), pytest.param(1, 380, marks=pytest.mark.slow)]
)
def test_the_judges_find_what_is_not_contained(parts: int, found: int) -> None:
    """With `trust`, they find most; what merely can't be drawn, or is too much, they don't look at.

    Arguments:
        parts: the first of so many parts of all payloads is tried.
        found: at least so many are found.
    """
    payloads = dealt(PAYLOADS, parts)[0]
    opened: dict[str, dict[str, Any]] = {}
    with running_with("trust") as running:
        missed = [it.name for it in payloads if not harm_in_cell(running.run(it.code), opened)]
    print(len(payloads), len(missed))
    assert len(payloads) - len(missed) >= found, missed
