"""Imitates a sandbox without Jupyter's packages: code that hides them from the Python that runs it.

It is run silently before the first cell. Neither that Python nor one that it starts can then import
what a bridge needs.
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
    """Return the source; it writes a start-up file for other Pythons into `folder`."""
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
