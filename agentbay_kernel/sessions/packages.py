"""Packages that notebooks use: the package of each module, and which ones a sandbox has."""

from __future__ import annotations

import ast
import json
import re
from concurrent.futures import TimeoutError as NotYet

from agentbay_kernel import threads
from agentbay_kernel.errors import CommandError
from agentbay_kernel.execution.bridge.python import BridgedPython
from agentbay_kernel.languages import PYTHON
from agentbay_kernel.sessions.session import LiveSession

# Modules whose package has a different name.
_OTHER_NAMES = {
    "Bio": "biopython",
    "Crypto": "pycryptodome",
    "IPython": "ipython",
    "OpenSSL": "pyOpenSSL",
    "PIL": "pillow",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    # This package needs no screen libraries, which a sandbox does not have.
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "distutils": "setuptools",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "git": "GitPython",
    "igraph": "python-igraph",
    "jwt": "PyJWT",
    "mpl_toolkits": "matplotlib",
    "osgeo": "gdal",
    "pkg_resources": "setuptools",
    "pptx": "python-pptx",
    "pylab": "matplotlib",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "skopt": "scikit-optimize",
    "yaml": "PyYAML",
}
# Modules whose package has the same name, the most used first.
_SAME_NAMES = (
    "numpy",
    "pandas",
    "matplotlib",
    "scipy",
    "seaborn",
    "plotly",
    "altair",
    "bokeh",
    "polars",
    "pyarrow",
    "statsmodels",
    "sympy",
    "networkx",
    "torch",
    "tensorflow",
    "keras",
    "jax",
    "transformers",
    "xgboost",
    "lightgbm",
    "nltk",
    "spacy",
    "requests",
    "sqlalchemy",
    "openpyxl",
    "geopandas",
    "folium",
    "ipywidgets",
    "tqdm",
    "rich",
    "nose",
    "pytest",
)
#: The package of each well-known module.
PACKAGES = {**{name: name for name in _SAME_NAMES}, **_OTHER_NAMES}
# The packages that a list of a sandbox's packages may show, in this order.
_SHOWN = (*_SAME_NAMES[:3], "sklearn", *_SAME_NAMES[3:-1], "PIL", "cv2")
_MOST_SHOWN = 10
_ANSWER_S = 3.0
# It finds files only: nothing is imported.
_INSTALLED = """__import__('json').dumps([name for name in {names!r}
    if __import__('importlib.machinery', fromlist=['it']).PathFinder.find_spec(name)])"""
_CODE = re.sub(r"\s+", " ", _INSTALLED).format(names=_SHOWN)


def installed_packages(live: LiveSession) -> tuple[str, ...]:
    """Return the best-known packages that a session's Python has; empty if it does not respond.

    An attached session is not asked.
    """
    if live.attached:
        return ()
    asking = threads.start(lambda: _ask(live))
    try:
        modules = asking.result(_ANSWER_S)
    except (CommandError, NotYet, ValueError, SyntaxError, TypeError):
        return ()
    # Its code may respond with anything.
    return tuple(PACKAGES[name] for name in _SHOWN if name in modules)[:_MOST_SHOWN]


def _ask(live: LiveSession) -> list[object]:
    execution = live.execution_in_use(PYTHON.name)
    if isinstance(execution, BridgedPython):
        found = json.loads(ast.literal_eval(execution.evaluate(_CODE)))
    else:
        result = live.session.code.run_code(f"print({_CODE})", PYTHON.name, 10)
        found = json.loads("".join(result.logs.stdout))
    return found if isinstance(found, list) else []
