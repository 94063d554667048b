"""Verbs and options as a person sees them in JupyterLab."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.lab import NotebookPage

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]


# What the verbs answer is in tests/verbs; it is shown as any table and text is.
@pytest.mark.slow
def test_verbs_in_an_agentbay_notebook(notebook: NotebookPage) -> None:
    notebook.open_notebook("AgentBay Python")
    notebook.run(0, "print('warm')")
    notebook.run(1, "%agentbay status")
    expect(notebook.cell(1).locator("table")).to_contain_text("bridged execution")
    notebook.run(2, "%agentbay config timeout=60 output_limit=100000")
    expect(notebook.cell(2).locator("table")).to_contain_text("this notebook")
    notebook.run(3, "%agentbay config output_limit=999999999")
    expect(notebook.outputs(3)).to_contain_text("can only make the setting output_limit stricter")
    notebook.run(4, "import json\nopen('made.json', 'w').write(json.dumps([1, 2]))")
    notebook.run(5, "%agentbay download made.json")
    expect(notebook.outputs(5)).to_contain_text("Downloaded 1 file, 6 bytes, to made.json")


# That the first cell stores one output is in tests/headless, and the options are in tests/magics.
@pytest.mark.slow
def test_options_in_a_notebook_of_another_kernel(notebook: NotebookPage) -> None:
    notebook.open_notebook("Python 3 (ipykernel)")
    notebook.run(0, "%load_ext agentbay_kernel\nnumbers = [1, 2, 3]")
    notebook.run(1, "%%agentbay python\n1 + 1")
    # The first sandboxed cell stores exactly one output.
    expect(notebook.outputs(1)).to_have_text("2")
    first, second, *_ = notebook.save()["cells"]
    assert first["outputs"] == []
    (output,) = second["outputs"]
    assert output["data"] == {"text/plain": ["2"]}
    notebook.run(2, "%%agentbay python -i numbers -o total\ntotal = sum(numbers)")
    notebook.run(3, "total")
    expect(notebook.outputs(3)).to_contain_text("6")
    notebook.run(4, "%%agentbay python\nnumbers_of_mine")
    expect(notebook.outputs(4)).to_contain_text("NameError")
    notebook.run(5, "numbers_of_mine = 1")
    notebook.run(6, "%%agentbay python\nnumbers_of_mine")
    expect(notebook.outputs(6)).to_contain_text("`-i numbers_of_mine`")
