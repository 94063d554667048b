"""A sandbox without Jupyter's packages: code that hides them from the Python that runs it.

In: a folder of the session. Out: source to be run silently before the first cell; after it neither
that Python nor one that it starts can import what a bridge would need.
"""

from __future__ import annotations

HIDDEN = ("ipykernel", "ipykernel_launcher", "jupyter_client", "zmq")

FINDER = f"""
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HIDDEN}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
"""


def hiding(folder: str) -> str:
    """The source; `folder` is where a start-up file for further Pythons is written."""
    return f"""
def _hide():
    import os
    os.makedirs({folder!r}, exist_ok=True)
    with open({folder!r} + "/sitecustomize.py", "w") as file:
        file.write({FINDER!r})
    os.environ["PYTHONPATH"] = {folder!r}
    exec({FINDER!r}, {{}})

_hide()
del _hide
"""
