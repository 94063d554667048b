"""The same notebook run by the stock Python kernel and by "AgentBay Python", cell by cell."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.fidelity.comparison import Place, comparable
from tests.fidelity.corpus import CorpusCell, read_corpus
from tests.fidelity.notebook import run_cell
from tests.kernels import running_kernel

pytestmark = pytest.mark.timeout(400)

CORPUS = read_corpus()
BRIDGED = {
    "AGENTBAY_BACKEND": "local",
    "AGENTBAY_EXECUTION": "bridged",
    "AGENTBAY_HTML": "trust",
}
# Cells whose outcome is not the stock kernel's, and why. Described in README.md, beside this file.
_MISSING = "a line after the error names the missing package"
KNOWN = {
    "errors: a missing module": _MISSING,
    "magics: load_ext of something missing": _MISSING,
    "history: a silent cell changes state and nothing else": "silent requests publish nothing",
    "history: a silent error": "silent requests publish nothing",
    "magics: a payload by hand, with an error after it": "payloads that no front end knows",
}
# Cells that the default containment changes, and why. Described in README.md, beside this file.
_CONTROLS = "controls and bidirectional characters are visible"
_JAVASCRIPT = "JavaScript is not shown"
_UNKNOWN = "types whose renderer is not known are not shown"
_ADDRESS = "what would be loaded from outside is in a frame that does not load it"
_COMM = "only widgets have comms"
CONTAINED = {
    "streams: other control characters": _CONTROLS,
    "streams: unicode": _CONTROLS,
    "streams: unicode line separators": _CONTROLS,
    "values: repr_javascript": _JAVASCRIPT,
    "values: repr_jpeg and repr_pdf": _UNKNOWN,
    "values: repr_mimebundle": _UNKNOWN,
    "values: repr_mimebundle with metadata": "`isolated` is dropped",
    "displays: HTML with a script": "HTML with scripts or styles is in a frame",
    "displays: GeoJSON": _UNKNOWN,
    "displays: Javascript": _JAVASCRIPT,
    "displays: Image by its address": _ADDRESS,
    "displays: Video by its address": _ADDRESS,
    "displays: IFrame and YouTubeVideo": _ADDRESS,
    "displays: FileLink": "links to files of the Jupyter server are text",
    "displays: Code": "HTML with scripts or styles is in a frame",
    "displays: vendor MIME types": "a Vega chart's menu only saves pictures",
    "displays: a MIME type nobody knows": _UNKNOWN,
    "displays: publish_display_data": "`transient` holds a display_id and nothing else",
    "magics: javascript cell": _JAVASCRIPT,
    "magics: page a mime bundle": "the pager shows plain text",
    "requests: a comm is opened": _COMM,
    "requests: a comm message": _COMM,
    "requests: a comm message with buffers": _COMM,
    "requests: a message to the comm": _COMM,
    "requests: a comm is closed": _COMM,
    "requests: a comm opened by the page": _COMM,
}
COVERED = {
    "stream",
    "execute_input",
    "execute_result",
    "display_data",
    "update_display_data",
    "clear_output",
    "error",
    "comm_open",
    "comm_msg",
    "comm_close",
}

Outcome = dict[str, dict[str, Any]]


def run_corpus(kernel_name: str, env: dict[str, str]) -> Outcome:
    """Run all cells in one kernel; what each left, by the cell's name."""
    with running_kernel(kernel_name, env) as kernel:
        # The first cell in a sandbox also says where it runs.
        kernel.run("import os")
        told = kernel.run("print(os.getcwd()); print(os.path.expanduser('~'), end='')").text()
        folder, home = told.split("\n")
        place = Place(folder, home)
        return {cell.name: comparable(run_cell(kernel.client, cell), place) for cell in CORPUS}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Outcome, Outcome]:
    """What the stock kernel left, what AgentBay's did when trusted, and contained; the kernels run
    side by side."""
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(3) as pool:
        # The stock kernel writes the corpus's files into its working folder.
        patch.chdir(tmp_path_factory.mktemp("stock"))
        # It leaves file descriptors alone where it sees this.
        patch.delenv("PYTEST_CURRENT_TEST")
        stock = pool.submit(run_corpus, "python3", {})
        bridged = pool.submit(run_corpus, "agentbay-python", BRIDGED)
        default = {name: value for name, value in BRIDGED.items() if name != "AGENTBAY_HTML"}
        contained = pool.submit(run_corpus, "agentbay-python", default)
        return stock.result(), bridged.result(), contained.result()


@pytest.fixture(scope="module")
def outcomes(runs: tuple[Outcome, Outcome, Outcome]) -> tuple[Outcome, Outcome]:
    """What the stock kernel left, and what AgentBay's did when trusted."""
    return runs[:2]


@pytest.mark.parametrize("cell", CORPUS, ids=lambda cell: cell.name)
def test_containment_changes_what_the_docs_say_and_nothing_else(
    cell: CorpusCell, runs: tuple[Outcome, Outcome, Outcome]
) -> None:
    stock, trusted, contained = (outcome[cell.name] for outcome in runs)
    if cell.name in CONTAINED:
        assert contained != trusted, "Not changed any more: remove it from CONTAINED and the docs."
    else:
        assert contained in (trusted, stock)


@pytest.mark.parametrize("cell", CORPUS, ids=lambda cell: cell.name)
def test_a_cell_leaves_what_it_leaves_in_the_stock_kernel(
    cell: CorpusCell, outcomes: tuple[Outcome, Outcome]
) -> None:
    stock, bridged = (outcome[cell.name] for outcome in outcomes)
    if cell.name in KNOWN:
        assert bridged != stock, "No difference any more: remove it from KNOWN and from the docs."
    else:
        assert bridged == stock


def test_the_corpus_covers_every_kind_of_message(outcomes: tuple[Outcome, Outcome]) -> None:
    for outcome in outcomes:
        published = {kept["type"] for left in outcome.values() for kept in left["published"]}
        assert published == COVERED
        assert any(left["asked"] for left in outcome.values())
        assert any(left["reply"]["payload"] for left in outcome.values())
        assert any(left["reply"]["user_expressions"] for left in outcome.values())


def test_the_corpus_is_large_and_its_names_are_distinct() -> None:
    assert len(CORPUS) >= 150
    assert len({cell.name for cell in CORPUS}) == len(CORPUS)
    assert set(KNOWN) | set(CONTAINED) <= {cell.name for cell in CORPUS}


def test_what_differs_is_in_the_docs() -> None:
    docs = Path(__file__).with_name("README.md").read_text()
    for name, reason in (KNOWN | CONTAINED).items():
        assert name in docs
        assert reason in docs
    page = Path(__file__).parents[2] / "docs" / "explanation" / "how-it-works.md"
    counts = f"{len(CORPUS)} cells, {len(KNOWN)} differ, and containment changes {len(CONTAINED)}"
    assert counts in page.read_text()
