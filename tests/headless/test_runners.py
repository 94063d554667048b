"""Every way in which notebooks are run without a front end: none runs them on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from tests.headless.conftest import Run, texts, untrusted_notebook


@pytest.mark.slow
def test_nbclient(
    service: dict[str, str], tmp_path: Path, submission: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in service.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(submission, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(notebook, kernel_name="agentbay-python", resources=resources)
    client.execute()
    assert texts(notebook)[1] == "42"


INTERACT = """\
from IPython.display import HTML, display
from ipywidgets import interact
@interact(number=(0, 10), name=["a", "b"])
def show(number=3, name="a"):
    for at in range({}): display(HTML(f"<b>{{at}}</b>"))
    print(number, name)
    return number
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nbclient_sees_the_reply_to_a_cell_whose_output_a_widget_captures(
    service: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in service.items():
        monkeypatch.setenv(name, value)
    cells = [new_code_cell(INTERACT.format(count)) for count in (1, 2, 3, 5, 8, 13)]
    resources = {"metadata": {"path": str(tmp_path)}}
    for _ in range(3):
        # nbclient fails at the timeout of a cell whose reply it does not see.
        client = NotebookClient(
            new_notebook(cells=cells), kernel_name="agentbay-python", resources=resources
        )
        client.timeout = 60
        client.execute()


@pytest.mark.slow
def test_nbconvert(run: Run, submission: Path, tmp_path: Path) -> None:
    done = run(
        *("-m", "jupyter", "nbconvert", "--execute", "--to", "notebook", "--output", "done.ipynb"),
        *("--ExecutePreprocessor.kernel_name=agentbay-python", submission.name),
    )
    assert done.returncode == 0, done.stderr
    assert texts(nbformat.read(tmp_path / "done.ipynb", as_version=4))[1] == "42"


@pytest.mark.slow
def test_jupyter_execute(run: Run, submission: Path) -> None:
    done = run(
        *("-m", "jupyter", "execute", "--inplace", "--kernel_name=agentbay-python"),
        submission.name,
    )
    assert done.returncode == 0, done.stderr
    assert texts(nbformat.read(submission, as_version=4))[1] == "42"


@pytest.mark.slow
def test_nbval(run: Run, submission: Path) -> None:
    done = run(
        *("-m", "pytest", "--nbval-lax", "--nbval-kernel-name=agentbay-python", "-p"),
        *("no:cacheprovider", "-q", submission.name),
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


@pytest.mark.slow
def test_nbval_sees_a_wrong_output(run: Run, submission: Path) -> None:
    notebook = nbformat.read(submission, as_version=4)
    notebook.cells[1].outputs[0].data["text/plain"] = "43"
    notebook.cells[0].metadata["tags"] = ["nbval-ignore-output"]
    nbformat.write(notebook, submission)
    done = run(
        *("-m", "pytest", "--nbval", "--nbval-kernel-name=agentbay-python", "-p"),
        *("no:cacheprovider", "-q", submission.name),
    )
    assert done.returncode == 1, done.stdout
    assert "1 failed, 1 passed" in done.stdout


@pytest.mark.slow
def test_nbmake(run: Run, submission: Path) -> None:
    done = run(
        *("-m", "pytest", "--nbmake", "--nbmake-kernel=agentbay-python", "-p"),
        *("no:cacheprovider", "-q", submission.name),
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def parametrized(folder: Path, language: str, sources: list[str]) -> None:
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    notebook.cells[0].metadata["tags"] = ["parameters"]
    notebook.metadata["kernelspec"] = {
        "name": f"agentbay-{language}",
        "display_name": "x",
        "language": language,
    }
    nbformat.write(notebook, folder / "in.ipynb")


PARAMETERS = """\
count: 3
ratio: 0.5
name: "it's \\"quoted\\" `${x}` \\\\n 中"
flag: true
nothing: null
big: 9007199254740993
items: [1, two, {"__proto__": 4}]
"""


@pytest.mark.parametrize(
    ("language", "sources", "expected"),
    [
        pytest.param(
            "python",
            ["count = 1\nname = ''", "import json\nprint(json.dumps([count, ratio, name, flag]))"],
            r"""[3, 0.5, "it's \"quoted\" `${x}` \\n \u4e2d", true]""",
            marks=pytest.mark.slow,
        ),
        (
            "javascript",
            [
                "const count = 1;  // how many\nlet name = ''",
                "console.log(JSON.stringify([count, ratio, name, flag, nothing, big.toString(), "
                "items, Object.keys(items[2])]))",
            ],
            '[3,0.5,"it\'s \\"quoted\\" `${x}` \\\\n 中",true,null,"9007199254740993",'
            '[1,"two",{"__proto__":4}],["__proto__"]]',
        ),
    ],
)
def test_papermill(
    run: Run, tmp_path: Path, language: str, sources: list[str], expected: str
) -> None:
    parametrized(tmp_path, language, sources)
    (tmp_path / "parameters.yaml").write_text(PARAMETERS)
    done = run("-m", "papermill", "in.ipynb", "out.ipynb", "-f", "parameters.yaml")
    assert done.returncode == 0, done.stderr
    assert texts(nbformat.read(tmp_path / "out.ipynb", as_version=4))[-1].strip() == expected


@pytest.mark.slow
def test_papermill_tells_the_parameters_of_a_javascript_notebook(run: Run, tmp_path: Path) -> None:
    parametrized(tmp_path, "javascript", ["const count = 1;  // how many"])
    done = run("-m", "papermill", "--help-notebook", "in.ipynb")
    assert "count" in done.stdout and "how many" in done.stdout, done


@pytest.mark.slow
def test_papermills_engine_forces_the_kernel(run: Run, submission: Path, tmp_path: Path) -> None:
    for kernel in ((), ("-k", "python3")):
        done = run("-m", "papermill", "--engine", "agentbay", *kernel, submission.name, "out.ipynb")
        assert done.returncode == 0, done.stderr
        assert texts(nbformat.read(tmp_path / "out.ipynb", as_version=4))[1] == "42"


def test_agentbay_run(run: Run, submission: Path, tmp_path: Path) -> None:
    done = run("-m", "agentbay_kernel", "run", submission.name, "--untrusted")
    assert done.returncode == 0, done.stderr
    assert "[2/2] x * 7" in done.stderr
    executed = nbformat.read(tmp_path / "submission.executed.ipynb", as_version=4)
    assert texts(executed)[1] == "42"
    # Which kernel the notebook names is its own affair, before and after.
    assert executed.metadata == nbformat.read(submission, as_version=4).metadata


@pytest.mark.slow
def test_agentbay_run_is_not_led_astray_by_a_kernel_of_our_name(
    run: Run, submission: Path, tmp_path: Path
) -> None:
    false = tmp_path / "jupyter" / "kernels" / "agentbay-python"
    false.mkdir(parents=True)
    (false / "kernel.json").write_text(
        '{"argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"], '
        '"display_name": "AgentBay Python", "language": "python"}'
    )
    path = str(tmp_path / "jupyter")
    done = run("-m", "agentbay_kernel", "run", submission.name, JUPYTER_PATH=path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_nbgrader_autogrades_in_the_sandbox(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "source" / "ps1"
    source.mkdir(parents=True)
    notebook = untrusted_notebook()
    notebook.cells[0].source += "\nimport os\nprint(os.getcwd())"
    notebook.cells[1] = new_code_cell("assert x * 7 == 42")
    notebook.cells[1].metadata["nbgrader"] = {
        "grade": True,
        "grade_id": "test",
        "locked": True,
        "points": 5,
        "schema_version": 3,
        "solution": False,
        "task": False,
        "cell_type": "code",
    }
    nbformat.write(notebook, source / "p1.ipynb")
    (tmp_path / "nbgrader_config.py").write_text(
        "c = get_config()\n"
        "c.CourseDirectory.course_id = 'course'\n"
        "c.ExecutePreprocessor.kernel_name = 'agentbay-python'\n"
        "c.Execute.kernel_name = 'agentbay-python'\n"
    )
    done = run("-m", "nbgrader", "generate_assignment", "ps1", "--create")
    assert done.returncode == 0, done.stderr
    submitted = tmp_path / "submitted" / "alice" / "ps1"
    submitted.mkdir(parents=True)
    release = tmp_path / "release" / "ps1" / "p1.ipynb"
    os.link(release, submitted / "p1.ipynb")
    done = run("-m", "nbgrader", "autograde", "ps1", "--create")
    assert done.returncode == 0, done.stderr
    graded = nbformat.read(tmp_path / "autograded" / "alice" / "ps1" / "p1.ipynb", as_version=4)
    assert [output.output_type for output in graded.cells[1].outputs] == []
    assert graded.cells[1].execution_count == 2
    assert texts(graded)[0] and str(tmp_path) not in texts(graded)[0]
    assert not list(tmp_path.rglob("ran_here.txt"))
    done = run("-m", "nbgrader", "export")
    assert "alice" in (tmp_path / "grades.csv").read_text()
    assert ",5.0,5.0" in (tmp_path / "grades.csv").read_text()
