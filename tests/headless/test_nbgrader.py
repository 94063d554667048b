"""nbgrader with this package: its submissions run in a sandbox, its feedback is inert."""

from __future__ import annotations

import copy
import socket
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbconvert.exporters import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell
from nbgrader.converters import GenerateFeedback

from agentbay_kernel.containment.frame import framed
from agentbay_kernel.nbgrader import FeedbackExporter
from tests.headless.conftest import MARK, Run, texts

HOSTILE = (
    "<script>hit()</script>",
    "<img src=x onerror=hit()>",
    "[link](javascript:hit())",
    "<a href='javascript:hit()'>link</a>",
    "<svg><script>hit()</script></svg>",
    "<iframe srcdoc='<script>parent.hit()</script>'></iframe>",
    "<style>body{display:none}</style><form action=//evil><button formaction=//evil>",
    "<math><mtext><table><mglyph><style><img src=x onerror=hit()></style></mglyph></table>",
    "text <details ontoggle=hit() open>",
    "`<script>hit()</script>` and\n\n```\n</pre><script>hit()</script>\n```",
    "$\\href{javascript:hit()}{x}$",
)


class Parsed(HTMLParser):
    """What a page has that acts or loads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.others: list[tuple[str, str]] = []
        self.frames: list[str] = []
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self._in_script = tag == "script"
        if tag == "script":
            self.scripts.append(str(named.get("src", "")))
        if tag == "iframe":
            self.frames.append(str(named.get("srcdoc")))
        for name, value in attrs:
            if name.startswith("on") or (value or "").strip().lower().startswith("javascript:"):
                self.others.append((tag, name))
        if tag in ("iframe", "object", "embed", "form", "base", "link", "meta", "button", "svg"):
            self.others.append((tag, str(named.get("sandbox", ""))))

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False


def hostile_notebook() -> Any:
    """A notebook in which everything that a student controls is hostile."""
    script = HOSTILE[0]
    cells = [new_markdown_cell(source) for source in HOSTILE]
    cells += [new_markdown_cell("# A *heading*\n\n| a | b |\n|---|---|\n| 1 | $x^2$ |")]
    cells += [new_raw_cell(script, metadata={"raw_mimetype": "text/html"}), new_raw_cell(script)]
    data = {"text/html": script, "text/markdown": script, "image/svg+xml": f"<svg>{script}</svg>"}
    for kind, value in data.items():
        output = new_output("display_data", {kind: value, "text/plain": "x"})
        output.metadata = {kind: {"isolated": True}}
        cells.append(new_code_cell("1", outputs=[output]))
    javascript = new_output("display_data", {"application/javascript": "hit()"})
    cells.append(new_code_cell(script, outputs=[javascript, new_output("stream", text=script)]))
    for cell in cells:
        cell.metadata["tags"] = [f'">{script}']
        about = {"grade": True, "grade_id": f'">{script}', "points": script, "score": script}
        cell.metadata["nbgrader"] = about
    notebook = new_notebook(cells=cells)
    notebook.metadata["title"] = f"</title>{script}"
    notebook.metadata["language_info"] = {"name": f'">{script}', "pygments_lexer": f'">{script}'}
    state = {"state": {"x": {"model_name": f"</script>{script}"}}}
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": state}
    return notebook


def feedback(notebook: Any) -> str:
    """The page that nbgrader makes of a graded notebook."""
    resources = {"nbgrader": {"notebook": "p1", "score": 1, "max_score": 2, "late_penalty": 0}}
    # Its own template, which it names to its exporter.
    maker = GenerateFeedback()
    exporter = FeedbackExporter(config=maker.config)
    page, _ = exporter.from_notebook_node(notebook, resources)
    return str(page)


def test_nothing_of_a_submission_acts_in_the_feedback() -> None:
    notebook = hostile_notebook()
    before = copy.deepcopy(notebook)
    page = feedback(notebook)
    assert notebook == before
    usual = Parsed(feedback(new_notebook()))
    parsed = Parsed(page)
    assert parsed.scripts == usual.scripts
    # Framed outputs: of HTML, and of Markdown.
    more = [it for it in parsed.others if it not in usual.others]
    assert more == [("iframe", "allow-scripts")] * 2
    # The page of nbconvert's own exporter has all of that.
    own = Parsed(HTMLExporter().from_notebook_node(notebook, {})[0])
    assert own.scripts.count("hit()") > 2 and "hit()" not in parsed.scripts
    # What is harmless is shown.
    assert "<em>heading</em>" in page and "<td>1</td>" in page and "$x^2$" in page
    assert "hit()" in page


def test_a_frame_of_a_graded_output_stays_as_it_is() -> None:
    frame = framed("<canvas></canvas><script>draw()</script>", plain="a chart")
    cells = []
    for source in (frame, frame + "<p>", frame.replace("default-src", "img-src")):
        output = new_output("display_data", {"text/html": source})
        cells.append(new_code_cell("1", outputs=[output]))
    frames = Parsed(feedback(new_notebook(cells=cells))).frames
    (inside,) = Parsed(frame).frames
    # The other two are contained as any HTML is.
    assert len(frames) == 3 and frames.count(inside) == 1


# All of nbgrader in one process: starting it takes seconds.
GRADE = """
import sys
from nbgrader.apps import NbGraderAPI
from traitlets.config import Config
from agentbay_kernel.nbgrader import configure
c = Config()
c.CourseDirectory.course_id = "course"
configure(c)
exec(sys.argv[1])
api = NbGraderAPI(config=c)
for done in (
    api.generate_assignment("ps1"),
    api.autograde("ps1", "alice"),
    api.generate_feedback("ps1", "alice"),
):
    assert done["success"], done["log"] + str(done.get("error"))
with api.gradebook as gradebook:
    print(gradebook.find_submission("ps1", "alice").score)
"""


def course(folder: Path) -> Path:
    """A course with one assignment, which has data, and a submission; returns the latter."""
    source = folder / "source" / "ps1"
    (source / "data").mkdir(parents=True)
    (source / "data" / "prices.csv").write_text("the teacher's")
    (source / "own.py").write_text("word = 'the teacher wrote it'\n")
    ask = "import os, socket\nprint(socket.gethostname())\n"
    ask += "print(sorted(f'{at}/{f}' for at, _, fs in os.walk('.') for f in fs))\n"
    ask += "import own\nprint(own.word, open('data/prices.csv').read())"
    notebook = new_notebook(cells=[new_code_cell(ask), new_code_cell("assert 6 * 7 == 42")])
    about = {"grade": True, "grade_id": "test", "locked": True, "points": 5, "solution": False}
    about |= {"task": False, "schema_version": 3, "cell_type": "code"}
    notebook.cells[1].metadata["nbgrader"] = about
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    nbformat.write(notebook, source / "p1.ipynb")
    submitted = folder / "submitted" / "alice" / "ps1"
    submitted.mkdir(parents=True)
    notebook.cells.append(new_code_cell(f"open({str(folder / MARK)!r}, 'w')"))
    notebook.cells.append(new_markdown_cell(HOSTILE[0]))
    nbformat.write(notebook, submitted / "p1.ipynb")
    # A student's files have no say, and bring nothing of this machine.
    (folder / "secret.csv").write_text("secret")
    (submitted / "linked.csv").symlink_to(folder / "secret.csv")
    (submitted / "mine.txt").write_text("mine")
    (submitted / "own.py").write_text("word = 'the student wrote it'\n")
    (submitted / ".env").write_text("AGENTBAY_API_KEY=akm-of-the-student\n")
    (submitted / "agentbay.toml").write_text('pip = ["evil"]\nenv = ["HOME"]\n')
    return submitted


def test_a_submission_is_graded_beside_the_assignments_files(
    run: Run, tmp_path: Path, service: dict[str, str]
) -> None:
    course(tmp_path)
    # The key comes from the course's own file.
    (tmp_path / ".env").write_text(f"AGENTBAY_API_KEY={service['AGENTBAY_API_KEY']}\n")
    done = run("-c", GRADE, "", AGENTBAY_API_KEY="")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["5.0"]
    graded = nbformat.read(tmp_path / "autograded" / "alice" / "ps1" / "p1.ipynb", as_version=4)
    host, files, told = texts(graded)[0].strip().splitlines()[-3:]
    assert host not in ("", socket.gethostname())
    assert files == str(["./data/prices.csv", "./own.py"])
    assert told == "the teacher wrote it the teacher's"
    assert not list(tmp_path.rglob(MARK)) and not list(tmp_path.glob(".agentbay-*"))
    page = (tmp_path / "feedback" / "alice" / "ps1" / "p1.html").read_text()
    assert Parsed(page).scripts == Parsed(feedback(new_notebook())).scripts
    assert "Score: 5.0 / 5.0" in page and "the teacher wrote it" in page


@pytest.mark.slow
def test_a_students_own_files_are_brought_if_the_course_says_so(run: Run, tmp_path: Path) -> None:
    course(tmp_path)
    done = run("-c", GRADE, "c.SandboxedExecute.submitted_files = True")
    assert done.returncode == 0, done.stderr
    graded = nbformat.read(tmp_path / "autograded" / "alice" / "ps1" / "p1.ipynb", as_version=4)
    assert "./mine.txt" in texts(graded)[0]


@pytest.mark.slow
def test_the_variable_alone_leads_nbgrader_into_the_sandbox(run: Run, tmp_path: Path) -> None:
    submitted = course(tmp_path)
    # Without an Execute of ours, a submission's own recipe would have a say.
    (submitted / "agentbay.toml").unlink()
    done = run(
        "-c",
        GRADE,
        "del c.Autograde, c.GenerateFeedback",
        JUPYTER_DEFAULT_PROVISIONER_NAME="agentbay-provisioner",
        AGENTBAY_SESSION_FILES="own.py,data",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["5.0"]
    graded = nbformat.read(tmp_path / "autograded" / "alice" / "ps1" / "p1.ipynb", as_version=4)
    host, _, told = texts(graded)[0].strip().splitlines()[-3:]
    assert host not in ("", socket.gethostname())
    assert told == "the teacher wrote it the teacher's"
    assert not list(tmp_path.rglob(MARK))
