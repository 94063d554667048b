"""How Sphinx builds the documentation: `make docs`.

In: the Markdown pages of this folder, which read well on GitHub too. Out: a site that loads
nothing from elsewhere.
"""

from __future__ import annotations

import re

from sphinx.application import Sphinx

from agentbay_kernel import __version__

project = "agentbay-kernel"
author = "the agentbay-kernel contributors"
copyright = f"2026, {author}"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.graphviz", "sphinx_copybutton"]
exclude_patterns: list[str] = []
# Links lead to headings by the names that GitHub gives them.
myst_heading_anchors = 4

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

# A picture with a light and a dark version, as GitHub reads it.
_PICTURE = re.compile(
    r"<picture>\s*<source\s[^>]*srcset=\"(?P<dark>[^\"]+)\"[^>]*>\s*"
    r"<img\s(?P<attributes>[^>]*)>\s*</picture>"
)


def _picture(found: re.Match[str]) -> str:
    attributes = dict(re.findall(r'(\w+)="([^"]*)"', found["attributes"]))
    versions = {"only-light": attributes["src"], "only-dark": found["dark"]}
    return "\n\n".join(
        f"```{{image}} {file}\n:class: {shown}\n:alt: {attributes.get('alt', '')}\n```"
        for shown, file in versions.items()
    )


def _two_pictures(app: Sphinx, page: str, source: list[str]) -> None:
    # The theme's own switch chooses the version, which a <picture> would not follow.
    source[0] = _PICTURE.sub(_picture, source[0])


def setup(app: Sphinx) -> None:
    """Read <picture> in the pages."""
    app.connect("source-read", _two_pictures)
