"""How Sphinx builds the documentation: `make docs`.

The Markdown pages of this directory read well on GitHub too. Pages that stand beside what makes
them (the course's notebooks, the tables of tests and benchmarks) are copied into `course/` and
`measurements/`, which git ignores. The site loads nothing from elsewhere.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

from agentbay_kernel import __version__

project = "agentbay-kernel"
author = "the agentbay-kernel contributors"
copyright = f"2026, {author}"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.graphviz",
    "sphinx_copybutton",
]
exclude_patterns: list[str] = []
# Links lead to headings by the names that GitHub gives them.
myst_heading_anchors = 4
# The stored outputs are shown. Nothing is run.
nb_execution_mode = "off"
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
# A widget is its text: a page has no kernel. Its scripts would come from another host.
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
nb_mime_priority_overrides = [
    ("html", "application/vnd.jupyter.widget-view+json", None),
    ("html", "application/javascript", None),
]

# In docstrings, `name` is code.
default_role = "code"
# Types stand in the description of each argument.
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
# Names of others, and those of ours that are not public: their documentation is not here.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!agentbay_kernel\.(service|exchange|executor)\.[A-Z]).*"),
]

html_theme = "furo"
html_title = "agentbay-kernel"
html_logo = html_favicon = "../kernelspec/agentbay-python/logo-svg.svg"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
# A block that names no language is no Python.
highlight_language = "text"
pygments_style = "tango"
pygments_dark_style = "github-dark"
graphviz_output_format = "svg"

_PAGES = Path(__file__).resolve().parent
_ROOT = _PAGES.parent
# Pages of the site that stand elsewhere in the repository, with their place in the site.
_ELSEWHERE = {
    _ROOT / "benchmarks" / "README.md": _PAGES / "measurements" / "benchmarks.md",
    _ROOT / "tests" / "fidelity" / "README.md": _PAGES / "measurements" / "fidelity.md",
    _ROOT / "tests" / "gallery" / "README.md": _PAGES / "measurements" / "gallery.md",
    **{path: _PAGES / "course" / path.name for path in _ROOT.glob("notebooks/*.ipynb")},
}
# Pages that include a file, for links that lead to the file on GitHub.
_INCLUDED = {
    _ROOT / "SECURITY.md": _PAGES / "reference" / "promises.md",
    _ROOT / "CHANGELOG.md": _PAGES / "project" / "changelog.md",
}
# A picture with a light and a dark version, as GitHub reads it.
_PICTURE = re.compile(
    r"<picture>\s*<source\s[^>]*srcset=\"(?P<dark>[^\"]+)\"[^>]*>\s*"
    r"<img\s(?P<attributes>[^>]*)>\s*</picture>"
)
_LINK = re.compile(r"(?<=\]\()(?P<path>[\w./-]+\.(?:md|ipynb|png))(?=[)#])")


def _picture(found: re.Match[str]) -> str:
    attributes = dict(re.findall(r'(\w+)="([^"]*)"', found["attributes"]))
    versions = {"only-light": attributes["src"], "only-dark": found["dark"]}
    return "\n\n".join(
        f"```{{image}} {file}\n:class: {shown}\n:alt: {attributes.get('alt', '')}\n```"
        for shown, file in versions.items()
    )


def _with_links_of_the_site(text: str, file: Path, shown: Path) -> str:
    """The text of a file with its links as they are where the site shows it."""

    def link(found: re.Match[str]) -> str:
        target = (file.parent / found["path"]).resolve()
        page = (_ELSEWHERE | _INCLUDED).get(target, target)
        return Path(os.path.relpath(page, shown.parent)).as_posix()

    return _LINK.sub(link, text)


def _copy_pages(app: Sphinx, config: Config) -> None:
    for folder in {shown.parent for shown in _ELSEWHERE.values()}:
        folder.mkdir(exist_ok=True)
        for left in set(folder.iterdir()) - set(_ELSEWHERE.values()):
            left.unlink()
    for file, shown in _ELSEWHERE.items():
        text = file.read_text("utf-8")
        if file.suffix == ".ipynb":
            notebook = json.loads(text)
            # Also a cell of JavaScript has a first line that Python's own lexer does not know.
            notebook["metadata"].setdefault("language_info", {})["pygments_lexer"] = "ipython3"
            for cell in notebook["cells"]:
                if cell["metadata"].get("jupyter", {}).get("source_hidden"):
                    # Folded here as in JupyterLab.
                    cell["metadata"].setdefault("tags", []).append("hide-input")
                if cell["cell_type"] == "markdown":
                    source = "".join(cell["source"])
                    cell["source"] = _with_links_of_the_site(source, file, shown)
            text = json.dumps(notebook)
        else:
            text = _with_links_of_the_site(text, file, shown)
        if not shown.exists() or shown.read_text("utf-8") != text:
            shown.write_text(text, "utf-8")


def _as_the_site_reads_it(app: Sphinx, page: str, source: list[str]) -> None:
    file = Path(app.env.doc2path(page))
    if file.suffix == ".md":
        source[0] = _with_links_of_the_site(source[0], file, file)
        # The theme's own switch chooses the version, which a <picture> would not follow.
        source[0] = _PICTURE.sub(_picture, source[0])


def setup(app: Sphinx) -> None:
    """Read <picture> and links in the pages, and bring the pages that stand elsewhere."""
    app.connect("config-inited", _copy_pages)
    app.connect("source-read", _as_the_site_reads_it)
