"""The extensions for nbgrader: submissions run in a sandbox, and feedback pages are inert.

One line of `nbgrader_config.py` turns both on: `configure(c)`. This module needs nbgrader.
"""

from __future__ import annotations

import copy
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import pass_context
from nbconvert.exporters import HTMLExporter
from nbgrader.converters.autograde import Autograde
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import Execute
from nbgrader.utils import find_all_files
from traitlets import Bool

from agentbay_kernel.config import load_settings
from agentbay_kernel.containment.bundle import HTML, contain_bundle
from agentbay_kernel.containment.frame import bare_frame
from agentbay_kernel.containment.markup import as_safe_html, sanitized
from agentbay_kernel.containment.policy import Policy
from agentbay_kernel.languages import PYTHON, find_language
from agentbay_kernel.provisioner import kernel_manager, kernel_of
from agentbay_kernel.sessions.recipe import FILE as RECIPE

_name = re.compile(r"[\w.-]{1,100}\Z", re.A)


def configure(c: Any) -> None:
    """Configure nbgrader to run submissions in the sandbox and to make feedback inert."""
    usual = Autograde.autograde_preprocessors.default()
    c.Autograde.autograde_preprocessors = [
        SandboxedExecute if one is Execute else one for one in usual
    ]
    c.GenerateFeedback.exporter_class = FeedbackExporter


class SandboxedExecute(Execute):  # type: ignore[misc]
    """Execute a submission in a sandbox, which has copies of the assignment's files.

    The kernel starts in a directory that has these files, and files of the student only with
    `submitted_files`. So no `.env`, `agentbay.toml` or link of a submission has an effect.
    """

    submitted_files = Bool(
        False,
        help="Copy the files that the student submitted beside the notebook, too. nbgrader may "
        "have followed links when it collected them, so they can be files of this machine.",
    ).tag(config=True)

    def create_kernel_manager(self) -> Any:
        """Return the manager of the AgentBay kernel for the notebook's language.

        Raises:
            UnsupportedLanguageError: the sandbox does not run it.
        """
        named = self.nb.metadata.get("kernelspec", {}).get("language") or PYTHON.name
        self.km = kernel_manager(kernel_of(find_language(str(named))))
        return self.km

    @contextmanager
    def setup_kernel(self, **options: Any) -> Iterator[None]:
        """Start the kernel in a directory with the assignment's files; end it with the context."""
        course = _course_of(self)
        with tempfile.TemporaryDirectory(prefix=".agentbay-", dir=course.root) as folder:
            self._copy_files(course, Path(folder))
            settings = {"AGENTBAY_SESSION_FILES": ".", "AGENTBAY_UNTRUSTED": "1"}
            environment = {**os.environ, **settings}
            with super().setup_kernel(env=environment, cwd=folder, **options):
                yield

    def _copy_files(self, course: CourseDirectory, folder: Path) -> None:
        """Copy the files that a submission may read from nbgrader's graded directory."""
        about = self.resources.get("nbgrader", {})
        if not {"assignment", "student"} <= about.keys():
            return
        assignment, student = about["assignment"], about["student"]
        graded = Path(course.format_path(course.autograded_directory, student, assignment))
        source = Path(course.format_path(course.source_directory, ".", assignment))
        ignored = [*course.ignore, "*.ipynb", ".*"]
        names = {Path(it).relative_to(source) for it in find_all_files(str(source), ignored)}
        if self.submitted_files:
            more = {Path(it).relative_to(graded) for it in find_all_files(str(graded), ignored)}
            # Only the teacher may provide a recipe.
            names |= more - {Path(RECIPE)}
        for name in names:
            file = graded / name
            if file.is_file() and not file.is_symlink():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, folder / name)


class FeedbackExporter(HTMLExporter):
    """nbgrader's feedback page, in which nothing of a submission acts."""

    def from_notebook_node(  # type: ignore[override]
        self, nb: Any, resources: dict[str, Any] | None = None, **options: Any
    ) -> tuple[str, dict[str, Any]]:
        """Return the page, and the resources. The notebook is left as it is."""
        return super().from_notebook_node(_inert(nb), resources, **options)

    def default_filters(self) -> Iterator[tuple[str, Any]]:
        """Yield the filters of the page's templates."""
        yield from super().default_filters()
        # The filter for raw cells.
        yield "clean_html", _cleaned

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        """Return Markdown as HTML that is inert."""
        return _cleaned(super().markdown2html(context, source)) or as_safe_html(source)


def _course_of(part: Any) -> CourseDirectory:
    """Return nbgrader's course directory, from the converter of a preprocessor."""
    above = part.parent
    while above is not None:
        if getattr(above, "coursedir", None) is not None:
            return above.coursedir
        above = above.parent
    return CourseDirectory(config=part.config)


def _cleaned(source: str) -> str:
    return sanitized(source)


def _inert(notebook: Any) -> Any:
    """Return a copy of a notebook that has only inert values where templates don't escape."""
    made = copy.deepcopy(notebook)
    named = made.metadata.get("language_info", {}).get("name", "")
    language = named if isinstance(named, str) and _name.match(named) else "text"
    made.metadata = type(made.metadata)(language_info=type(made.metadata)(name=language))
    for cell in made.cells:
        if not _name.match(str(cell.get("id", ""))):
            cell.pop("id", None)
        known = cell.metadata.get("nbgrader")
        cell.metadata = type(made.metadata)()
        if isinstance(known, dict):
            cell.metadata["nbgrader"] = {key: _plain(key, known[key]) for key in known}
        if "execution_count" in cell:
            cell.execution_count = _number(cell.execution_count)
        for output in cell.get("outputs", ()):
            _contain(output)
    return made


def _plain(key: str, value: Any) -> Any:
    """Return a value of a cell if nbgrader's template, which does not escape it, may write it."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str) and (key == "comment" or _name.match(value)):
        # The grader writes the comment, in Markdown.
        return value
    return 0


def _number(value: Any) -> int | None:
    return value if type(value) is int else None


def _contain(output: Any) -> None:
    """Contain an output in place, unless our kernel has done so."""
    if "execution_count" in output:
        output.execution_count = _number(output.execution_count)
    if "data" not in output:
        return
    source = output.data.get(HTML)
    text = "".join(source) if isinstance(source, list) else source
    policy = Policy.of(load_settings())
    # Feedback is a page for somebody else, so it never uses the policy `trust`.
    policy = replace(policy, html="contain") if policy.trusts else policy
    frame = bare_frame(text, policy.hosts) if isinstance(text, str) else ""
    kept = {HTML: frame} if frame else {}
    rest = {name: value for name, value in output.data.items() if name not in kept}
    contained = contain_bundle(rest, {}, policy)
    output.data = type(output.data)({**contained.data, **kept})
    output.metadata = type(output.metadata)(contained.metadata)
