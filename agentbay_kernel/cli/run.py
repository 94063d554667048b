"""`jupyter agentbay run NOTEBOOK`: execute a notebook in a sandbox, from the command line.

In: a notebook, whatever kernel it names. Out: the executed notebook in another file, progress on
stderr. The kernel is always AgentBay's, started by this Python: what a notebook names never runs
on this machine.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from agentbay_kernel.containment.text import one_line
from agentbay_kernel.errors import ConfigurationError, NotebookError, UnsupportedLanguageError
from agentbay_kernel.kernelspec import CLOUD_KERNELS, Kernelspec
from agentbay_kernel.languages import Language, find_language

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST_SOURCE = 60


def run(options: Namespace) -> int:
    """Execute a notebook; returns 0, or 1 if a cell failed. What was reached is written anyhow."""
    source = Path(options.notebook)
    notebook = _read(source)
    language = _language_of(notebook, options.language)
    target = _target(source, options)
    folder = source.resolve().parent
    environment = {**os.environ, **({"AGENTBAY_UNTRUSTED": "1"} if options.untrusted else {})}
    try:
        failure = execute(
            notebook,
            language,
            folder,
            environment,
            timeout=options.timeout,
            allow_errors=options.allow_errors,
        )
    finally:
        _write(notebook, target)
    print(f"Written: {target}")
    if failure:
        print(f"jupyter agentbay run: {failure}", file=sys.stderr)
    return 1 if failure else 0


def execute(
    notebook: Any,
    language: Language,
    folder: Path,
    environment: dict[str, str],
    *,
    timeout: float | None = None,
    allow_errors: bool = False,
) -> str:
    """Execute a notebook in place; returns what failed, or nothing.

    Arguments:
        notebook: of nbformat 4; its kernelspec is AgentBay's afterwards.
        language: of its cells.
        folder: that it runs in.
        environment: of its kernel.
        timeout: seconds that one cell may take.
        allow_errors: go on after a cell that failed.

    Raises:
        ConfigurationError: nbclient is not installed.
        NotebookError: the kernel did not start, or ended.
    """
    try:
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    except ImportError as error:
        raise ConfigurationError(
            "nbclient, which executes notebooks, is not installed. Run: pip install nbclient"
        ) from error
    kernel = next(it for it in CLOUD_KERNELS if it.name == f"agentbay-{language.name}")
    spec = kernel.read()
    notebook.metadata["kernelspec"] = {
        "name": kernel.name,
        "display_name": spec["display_name"],
        "language": language.name,
    }
    progress = _Progress(notebook)
    client = NotebookClient(
        notebook,
        km=_manager(kernel),
        timeout=timeout,
        allow_errors=allow_errors,
        resources={"metadata": {"path": str(folder)}},
        on_cell_execute=progress.begin,
        on_cell_executed=progress.end,
        on_cell_error=progress.fail,
    )
    # What a kernel says on its own is for when it ends too early.
    with tempfile.TemporaryFile() as said:
        try:
            client.execute(env=environment, stderr=said)
        except DeadKernelError as error:
            said.seek(0)
            last = said.read()[-1000:].decode(errors="replace").strip()
            raise NotebookError(
                f"The kernel stopped: {error}. Run `jupyter agentbay doctor`. Last output: {last}"
            ) from error
        except CellExecutionError as error:
            return f"A cell failed: {_in_one_line(error.ename, error.evalue)}"
        except CellTimeoutError:
            return f"A cell did not finish within {timeout:g} s."
    return f"{progress.failed} cells failed." if progress.failed else ""


def _manager(kernel: Kernelspec) -> Any:
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    class OursOnly(KernelSpecManager):
        """Whatever a notebook names, and whatever is installed under our name."""

        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            """Ours, with the Python that runs this."""
            return KernelSpec(resource_dir="", **kernel.read())

    return AsyncKernelManager(kernel_name=kernel.name, kernel_spec_manager=OursOnly())


class _Progress:
    """A line on stderr for each cell."""

    def __init__(self, notebook: Any) -> None:
        self._total = sum(cell.cell_type == "code" for cell in notebook.cells)
        self._codes = [at for at, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
        self._began_at = 0.0
        self._failed_now = False
        self.failed = 0

    def begin(self, cell: Any, cell_index: int) -> None:
        """A cell is sent."""
        self._began_at = time.monotonic()
        self._failed_now = False
        first = next((line for line in cell.source.splitlines() if line.strip()), "")
        number = self._codes.index(cell_index) + 1
        print(
            f"[{number}/{self._total}] {one_line(first[:_LONGEST_SOURCE])}",
            file=sys.stderr,
            flush=True,
        )

    def fail(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        """A cell ended with an error."""
        self.failed += 1
        self._failed_now = True

    def end(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        """A cell ended."""
        content = execute_reply["content"]
        state = "ok"
        if content["status"] not in ("ok", "error"):
            # nbclient takes it for a success.
            self.failed += 1
            state = "not run: a cell before it failed"
        elif content["status"] == "error":
            state = _in_one_line(content.get("ename"), content.get("evalue"))
        took = time.monotonic() - self._began_at
        print(f"      {state}, {took:.1f} s", file=sys.stderr, flush=True)


def _in_one_line(ename: object, evalue: object) -> str:
    """An error as one line of a terminal."""
    return one_line(f"{ename}: {_ANSI.sub('', str(evalue))}"[:200])


def _read(path: Path) -> Any:
    try:
        import nbformat
    except ImportError as error:
        raise ConfigurationError(
            "nbformat, which reads notebooks, is not installed. Run: pip install nbclient"
        ) from error
    try:
        return nbformat.read(path, as_version=4)
    except OSError as error:
        raise NotebookError(f"{path} can't be read: {error.strerror or error}.") from error
    except Exception as error:
        raise NotebookError(f"{path} is not a notebook: {type(error).__name__}: {error}") from error


def _write(notebook: Any, path: Path) -> None:
    import nbformat

    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        nbformat.write(notebook, beside)
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise NotebookError(f"{path} can't be written: {error.strerror or error}.") from error


def _target(source: Path, options: Namespace) -> Path:
    if options.inplace:
        return source
    if options.output:
        return Path(options.output)
    return source.with_name(f"{source.stem}.executed.ipynb")


def _language_of(notebook: Any, asked: str | None) -> Language:
    if asked:
        return find_language(asked)
    metadata = notebook.metadata
    named = metadata.get("kernelspec", {}).get("language") or metadata.get("language_info", {}).get(
        "name"
    )
    if not named:
        named = "javascript" if "javascript" in str(metadata.get("kernelspec", {})) else "python"
    try:
        return find_language(str(named))
    except UnsupportedLanguageError:
        raise NotebookError(
            f"The notebook is written in {named!r}, which AgentBay doesn't run. If its cells are "
            "Python or JavaScript, add --language python or --language javascript."
        ) from None
