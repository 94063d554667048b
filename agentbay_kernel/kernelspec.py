"""The kernelspecs: their content, how they are installed and how they are removed.

The directories `kernelspec/agentbay-python` and `kernelspec/agentbay-javascript` are the only
source of kernel.json and logos.

pip installs both directories for the Python that it installs into. `jupyter agentbay install` is
for every other location. There, kernel.json has the full path of this Python, because the Jupyter
that starts the kernel may be in another environment.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentbay_kernel.errors import KernelspecError

_PACKAGE = Path(__file__).resolve().parent
# The module that our kernelspecs run: `python -m agentbay_kernel`.
_MODULE = "agentbay_kernel"


@dataclass(frozen=True)
class Kernelspec:
    """One kernel for Jupyter: its name and its template, a directory of `templates()`.

    With `is_local`, the kernel always uses the local runtime, whatever the environment.
    """

    name: str
    template: str
    is_local: bool = False

    def read(self) -> dict[str, Any]:
        """Return kernel.json for this Python: `argv[0]` is the full path of its executable."""
        spec: dict[str, Any] = json.loads(
            (templates() / self.template / "kernel.json").read_text(encoding="utf-8")
        )
        spec["argv"][0] = sys.executable
        if self.is_local:
            spec["display_name"] += " (local)"
            spec["env"] = {"AGENTBAY_BACKEND": "local"}
        return spec


CLOUD_KERNELS = tuple(
    Kernelspec(name, template=name) for name in ("agentbay-python", "agentbay-javascript")
)
LOCAL_KERNELS = tuple(
    Kernelspec(f"{spec.name}-local", spec.template, is_local=True) for spec in CLOUD_KERNELS
)


def templates() -> Path:
    """Return the templates' directory: in an installed package, or beside it in a checkout."""
    installed = _PACKAGE / "kernelspec_files"
    return installed if installed.is_dir() else _PACKAGE.parent / "kernelspec"


def kernels_folder(prefix: str | None) -> Path:
    """Return the directory in which Jupyter looks for kernels.

    Arguments:
        prefix: an installation prefix, for example `sys.prefix`; None for the user's directory.
    """
    if prefix is None:
        from jupyter_core.paths import jupyter_data_dir

        return Path(jupyter_data_dir(), "kernels")
    return Path(prefix, "share", "jupyter", "kernels").absolute()


def install(prefix: str | None, *, with_local: bool = False) -> list[Path]:
    """Install the kernelspecs; replace those of an earlier version.

    Arguments:
        prefix: an installation prefix; None for the user's directory.
        with_local: also install the kernels that always use the local runtime.

    Returns:
        The directories of the installed kernelspecs.

    Raises:
        KernelspecError: a directory can't be written.
    """
    from jupyter_client.kernelspec import KernelSpecManager

    manager = KernelSpecManager()
    # The command line shows its own messages about directories and search paths.
    manager.log.setLevel("ERROR")
    placed = []
    for kernel in CLOUD_KERNELS + (LOCAL_KERNELS if with_local else ()):
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch, kernel.name)
            shutil.copytree(templates() / kernel.template, source)
            text = json.dumps(kernel.read(), indent=2, ensure_ascii=False)
            Path(source, "kernel.json").write_text(text + "\n", encoding="utf-8")
            try:
                folder = manager.install_kernel_spec(
                    str(source), kernel.name, user=prefix is None, prefix=prefix
                )
            except OSError as error:
                raise KernelspecError(
                    f"The kernel {kernel.name} could not be placed in {kernels_folder(prefix)}: "
                    f"{error.strerror or error}. Choose a directory that you may write to: --user "
                    "is your own, --prefix PATH any other."
                ) from error
        placed.append(Path(folder))
    return placed


def uninstall(prefix: str | None) -> tuple[list[Path], list[Path]]:
    """Remove our kernelspecs, including those of the local runtime.

    Arguments:
        prefix: an installation prefix; None for the user's directory.

    Returns:
        The removed directories, and the kept ones, which have our names but start something else.

    Raises:
        KernelspecError: a directory can't be removed.
    """
    removed, foreign = [], []
    for kernel in CLOUD_KERNELS + LOCAL_KERNELS:
        folder = kernels_folder(prefix) / kernel.name
        if not folder.is_dir():
            continue
        if not _is_ours(folder):
            foreign.append(folder)
            continue
        try:
            if folder.is_symlink():
                folder.unlink()
            else:
                shutil.rmtree(folder)
        except OSError as error:
            raise KernelspecError(
                f"{folder} could not be removed: {error.strerror or error}. "
                "Remove it by hand, or run this as the user that placed it."
            ) from error
        removed.append(folder)
    return removed, foreign


def _is_ours(folder: Path) -> bool:
    try:
        spec = json.loads((folder / "kernel.json").read_text(encoding="utf-8"))
        return _MODULE in spec["argv"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
