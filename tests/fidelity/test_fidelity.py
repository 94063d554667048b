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

pytestmark = pytest.mark.timeout(300)

CORPUS = read_corpus()
BRIDGED = {
    "AGENTBAY_BACKEND": "local",
    "AGENTBAY_EXECUTION": "bridged",
    "AGENTBAY_HTML": "trust",
}
# Cells whose outcome is not the stock kernel's, and why. Described in docs/fidelity.md.
KNOWN = {
    "history: a silent cell changes state and nothing else": "silent requests publish nothing",
    "history: a silent error": "silent requests publish nothing",
    "magics: a payload by hand, with an error after it": "payloads that no front end knows",
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
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Outcome]:
    """What the stock kernel left, and what AgentBay's did; they run side by side."""
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        # The stock kernel writes the corpus's files into its working folder.
        patch.chdir(tmp_path_factory.mktemp("stock"))
        # It leaves file descriptors alone where it sees this.
        patch.delenv("PYTEST_CURRENT_TEST")
        stock = pool.submit(run_corpus, "python3", {})
        bridged = pool.submit(run_corpus, "agentbay-python", BRIDGED)
        return stock.result(), bridged.result()


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
    assert set(KNOWN) <= {cell.name for cell in CORPUS}


def test_what_differs_is_in_the_docs() -> None:
    docs = Path(__file__).parents[2].joinpath("docs", "fidelity.md").read_text()
    for name, reason in KNOWN.items():
        assert name in docs
        assert reason in docs
