"""`jupyter agentbay run NOTEBOOK`: execute a notebook in a sandbox, from the command line.

Several at a time are `run_many`'s.

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
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from agentbay_kernel.containment.text import one_line
from agentbay_kernel.errors import ConfigurationError, NotebookError, UnsupportedLanguageError
from agentbay_kernel.languages import Language, find_language
from agentbay_kernel.provisioner import kernel_manager, kernel_of

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST_SOURCE = 60
_LONGEST_ERROR = 400


def run(options: Namespace) -> int:
    """Execute a notebook; returns 0, or 1 if a cell failed. What was reached is written anyhow."""
    source = Path(options.notebooks[0])
    notebook = read(source)
    language = language_of(notebook, options.language)
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
        write(notebook, target)
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
    progress: Progress | None = None,
    runs: Callable[[Coroutine[Any, Any, Any]], Any] | None = None,
) -> str:
    """Execute a notebook in place; returns what failed, or nothing.

    Arguments:
        notebook: of nbformat 4; it names the same kernel afterwards.
        language: of its cells.
        folder: that it runs in.
        environment: of its kernel.
        timeout: seconds that one cell may take.
        allow_errors: go on after a cell that failed.
        progress: told of each cell; a line on stderr for each unless given.
        runs: runs the execution, which is a coroutine, to its end.

    Raises:
        ConfigurationError: nbclient is not installed.
        NotebookError: the kernel did not start, or ended.
    """
    try:
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, CellTimeoutError
    except ImportError as error:
        raise ConfigurationError(
            "nbclient, which executes notebooks, is not installed. Run: pip install nbclient"
        ) from error
    kernel = kernel_of(language)
    before = notebook.metadata.get("language_info")
    progress = progress or PrintedProgress(notebook, names_errors=allow_errors)
    client = NotebookClient(
        notebook,
        km=kernel_manager(kernel),
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
            # A kernel manager that is given is left with its kernel running, unless this is said.
            execution: dict[str, Any] = {"env": environment, "stderr": said, "cleanup_kc": True}
            if runs is None:
                client.execute(**execution)
            else:
                runs(client.async_execute(**execution))
        except RuntimeError as error:
            # nbclient's DeadKernelError, or its RuntimeError if the kernel did not even start.
            said.seek(0)
            last = said.read()[-1000:].decode(errors="replace").strip()
            raise NotebookError(
                f"The kernel stopped: {error}. Run `jupyter agentbay doctor`. Last output: {last}"
            ) from error
        except CellExecutionError as error:
            return f"A cell failed: {_in_one_line(error.ename, error.evalue)}"
        except CellTimeoutError:
            return f"A cell did not finish within {timeout:g} s."
        finally:
            # nbclient writes what it learns of the kernel into the notebook, which stays its own.
            notebook.metadata.pop("language_info", None)
            if before is not None:
                notebook.metadata["language_info"] = before
    return f"{progress.failed} cells failed." if progress.failed else ""


class Progress:
    """How far a notebook is: the hooks of nbclient."""

    def __init__(self, notebook: Any) -> None:
        self.total = sum(cell.cell_type == "code" for cell in notebook.cells)
        self.done = self.failed = 0
        #: Of the first cell that failed, or empty.
        self.first_error = ""

    def begin(self, cell: Any, cell_index: int) -> None:
        """A cell is sent."""

    def fail(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        """A cell ended with an error."""
        self.failed += 1

    def end(self, cell: Any, cell_index: int, execute_reply: Any) -> str:
        """A cell ended; returns what became of it."""
        self.done += 1
        content = execute_reply["content"]
        if content["status"] == "ok":
            return "ok"
        if content["status"] != "error":
            # nbclient takes it for a success.
            self.failed += 1
            return "not run: a cell before it failed"
        error = _in_one_line(content.get("ename"), content.get("evalue"))
        self.first_error = self.first_error or error
        return error


class PrintedProgress(Progress):
    """A line on stderr for each cell.

    Arguments:
        names_errors: say what failed; otherwise that is said once, at the end.
    """

    def __init__(self, notebook: Any, *, names_errors: bool) -> None:
        super().__init__(notebook)
        self._names_errors = names_errors
        self._codes = [at for at, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
        self._began_at = 0.0

    def begin(self, cell: Any, cell_index: int) -> None:
        """A cell is sent."""
        super().begin(cell, cell_index)
        self._began_at = time.monotonic()
        first = next((line for line in cell.source.splitlines() if line.strip()), "")
        number = self._codes.index(cell_index) + 1
        print(
            f"[{number}/{self.total}] {one_line(first[:_LONGEST_SOURCE])}",
            file=sys.stderr,
            flush=True,
        )

    def end(self, cell: Any, cell_index: int, execute_reply: Any) -> str:
        """A cell ended; returns what became of it."""
        state = super().end(cell, cell_index, execute_reply)
        if execute_reply["content"]["status"] == "error" and not self._names_errors:
            state = "failed"
        took = time.monotonic() - self._began_at
        print(f"      {state}, {took:.1f} s", file=sys.stderr, flush=True)
        return state


def _in_one_line(ename: object, evalue: object) -> str:
    """An error as one line of a terminal."""
    said = f"{ename}: {_ANSI.sub('', str(evalue))}"
    return one_line(said if len(said) <= _LONGEST_ERROR else f"{said[:_LONGEST_ERROR]} ...")


def read(path: Path) -> Any:
    """Read a notebook.

    Raises:
        NotebookError: it can't be read, or is none.
    """
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


def write(notebook: Any, path: Path) -> None:
    """Write a notebook, whole or not at all.

    Raises:
        NotebookError: it can't be written.
    """
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


def language_of(notebook: Any, asked: str | None) -> Language:
    """The language of a notebook's cells: the one that was asked for, or the one that it names.

    Raises:
        NotebookError: AgentBay does not run it.
    """
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
