"""Notebooks and pages of others, unchanged: a `python3` notebook in JupyterLab, nbgrader's
feedback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbconvert.exporters import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Browser, expect

from tests.browser.lab import lab_server, opened_window
from tests.headless.test_nbgrader import feedback, hostile_notebook

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]


@pytest.mark.slow
def test_a_python3_notebook_runs_in_the_sandbox_under_the_policy(
    browser: Browser, home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "home"
    command = [sys.executable, "-m", "agentbay_kernel", "policy", "on"]
    environment = {**os.environ, "JUPYTER_CONFIG_DIR": str(folder / "config")}
    subprocess.run(command, env=environment, check=True, timeout=60)
    cells = ("import socket\nsocket.gethostname()", "len(open('mark', 'w').name)")
    stored = new_notebook(cells=[new_code_cell(code) for code in cells])
    named = {"name": "python3", "display_name": "Python 3", "language": "python"}
    stored.metadata["kernelspec"] = named
    with lab_server(folder, AGENTBAY_BACKEND="local") as server:
        path = server.notebooks / "mine" / "n.ipynb"
        path.parent.mkdir()
        nbformat.write(stored, path)
        with opened_window(browser, server, "mine") as notebook:
            notebook.open_file("n.ipynb")
            notebook.run_again(0)
            expect(notebook.outputs(0).last).to_contain_text("'")
            assert socket.gethostname() not in (notebook.outputs(0).last.text_content() or "")
            notebook.run_again(1)
            expect(notebook.outputs(1).last).to_have_text("4")
            assert [it["name"] for it in server.get("kernels")] == ["python3"]
            assert nbformat.read(path, as_version=4).metadata.kernelspec == named
        assert not list(tmp_path.rglob("mark"))


def test_nothing_of_a_submission_acts_in_the_page_of_the_feedback(
    browser: Browser, tmp_path: Path
) -> None:
    notebook = hostile_notebook()
    pages = {"ours": feedback(notebook), "usual": HTMLExporter().from_notebook_node(notebook)[0]}
    hits = {}
    for name, page in pages.items():
        (tmp_path / f"{name}.html").write_text(
            f"<script>hits = 0; hit = () => hits++</script>{page}"
        )
        window = browser.new_page()
        window.goto((tmp_path / f"{name}.html").as_uri(), wait_until="load")
        for link in window.locator("a:has-text('link')").all():
            link.dispatch_event("click")
        for details in window.locator("details").all():
            details.evaluate("it => it.open = !it.open")
        # Whatever was started by then has run.
        window.evaluate("() => new Promise(done => setTimeout(done))")
        hits[name] = window.evaluate("hits")
        expect(window.locator("body")).to_contain_text("heading")
        window.close()
    assert hits["ours"] == 0 and hits["usual"] > 3
