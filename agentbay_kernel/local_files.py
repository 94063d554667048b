"""The rules for which local files cells can reach, and where files of a sandbox are written.

A cell may be hostile, and so may be all code in its sandbox. Only this module decides what they can
do with files of this machine:

- They reach only paths below the notebook's directory, with all links resolved.
- No part of a path starts with a dot: such files hold settings and keys.
- A file whose name has an ending of `DATA_ENDINGS` is written at the requested path, unless a tool
  obeys files with exactly that name. Every other file is written below `FROM_SANDBOX`, under the
  same path. No tool looks there by itself: Python can't import a directory with a hyphen, and a
  `conftest.py` keeps pytest out.
- Nothing is overwritten unless this was requested.

Names are compared as in the most lenient file system: without case, Unicode's compatibility forms
and characters that are not visible.

A path is checked and then opened, and something else could replace the file between the two. The
commands can't do that, because none makes a link. Still, `open_to_write` follows no link, in any
part of the path.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import re
import stat
import sys
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from agentbay_kernel.errors import NotAllowedError, VerbError

# Files that no program runs or obeys because of their location. Left out: formats with scripts
# (html, svg, ipynb, Office's older formats and those with macros), formats that are mostly
# configuration (yaml, toml, ini, cfg, xml), and what Python, a shell or a browser runs.
_DATA = """
    csv tsv psv json jsonl ndjson geojson topojson txt text log md rst bib
    parquet arrow feather ipc orc avro xlsx docx pptx pdf
    npy npz mat h5 hdf5 hdf nc nc4 zarr fits root dta sav sas7bdat xpt
    db sqlite sqlite3 duckdb gpkg shp shx dbf prj kml gpx las laz
    fasta fa fastq fq bam sam vcf bed gff gtf pdb cif sdf mol xyz wkt
    pkl pickle joblib dill pt ckpt keras onnx safetensors gguf tflite pb bin dat raw
    png jpg jpeg gif webp bmp tif tiff ico heic avif eps exr hdr dcm nii
    wav mp3 flac ogg oga opus m4a aac mid mp4 m4v webm mov avi mkv mpg mpeg srt vtt
    zip gz tgz bz2 tbz2 xz txz zst lz4 br tar 7z rar
"""
DATA_ENDINGS = frozenset(_DATA.split())
# Code, pages, configuration and documents, which a sandbox may get. Left out: keys, certificates,
# password stores, notebooks, programs.
_TEXT = """
    py pyi js mjs cjs ts r rmd jl m c h cc cpp hpp java sql sh css html htm xml svg tex whl
    yaml yml toml ini cfg properties doc xls xlsm ppt odt ods
"""
#: Endings of the files that a session gets if a whole directory is copied.
SESSION_ENDINGS = DATA_ENDINGS | frozenset(_TEXT.split())
FROM_SANDBOX = "from-sandbox"
# Libraries may run code in such a file when they load it.
_RUN_WHEN_LOADED = ("pkl", "pickle", "joblib", "dill", "pt", "ckpt", "keras", "h5", "hdf5", "hdf")
_PACKED = ("gz", "bz2", "xz", "zst", "lz4", "zip")
# Names with a data ending that a tool reads because of the name. `DATA_ENDINGS` is the main
# protection; this covers other uses of the same formats.
_OBEYED = re.compile(
    r"""
    test.*\.(txt|rst)                       # pytest runs the examples in it
    | .*(requirement|constraint).*\.(txt|json)
    | .*(config|settings|presets).*\.json
    | (.*[-_.])?(manifest|package|compose|workspace|tasks|launch|plugins?|lock|shrinkwrap|hooks?
       |overrides|mcp)([-_.].*)?\.json
    | (cmakelists|meson_options|conanfile|apt|runtime|packages|install|robots|entry_points
       |top_level|namespace_packages|sources|dependencies|environment|buildspec)\.txt
    | .*\.(tf|tfvars|csproj|code-workspace|runtimeconfig|deps)\.json
    | (composer|deno|lerna|nx|project|angular|turbo|vercel|now|netlify|firebase|renovate|biome
       |nodemon|nest-cli|bower|kernel|install|devcontainer|devbox|cdk|global|rush|components
       |compile_commands|vcpkg|cloudbuild|packer|tslint|app|bun|jsr|flake|appveyor|labextension
       |ecosystem|expo|eas|extensions|host|function|serverless|sfdx-.*|tsdoc|typedoc|cypress)\.json
    | (agents?|claude|gemini|skill|copilot|cursor|conventions|memory|.*instructions|.*\.prompt
       |.*\.agent|.*\.chatmode|.*rules)\.(md|txt|json)
    """,
    re.VERBOSE | re.DOTALL,
)
# Modules that Python or pytest imports by itself, in any directory.
_IMPORTED_UNASKED = ("sitecustomize", "usercustomize", "conftest")
_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", *(f"{name}{n}" for name in ("com", "lpt") for n in range(1, 10))]
)
_LONGEST = 200
# Characters that file systems ignore in comparisons (those of Unicode's
# Default_Ignorable_Code_Point that count as printable).
_NOT_DRAWN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0]")
# The short second name that Windows gives to a file with a long name.
_SHORT_NAME = re.compile(r"~\d")
# pytest must not import the files beside its conftest.py either, so the directory is removed from
# `sys.path`.
_KEEP_OUT = """\
# Files in this directory were written by a sandbox. pytest collects none of them.
import os
import sys

collect_ignore_glob = ["*"]
sys.path[:] = [entry for entry in sys.path if entry != os.path.dirname(__file__)]
"""


def path_to_read(folder: Path, name: str) -> Path:
    """Return the path of an existing file or directory below the notebook's directory.

    Arguments:
        folder: the notebook's directory.
        name: a path relative to it, or a full path below it.

    Raises:
        NotAllowedError: it is outside of the directory, or a part of it starts with a dot.
        VerbError: there is no such file or directory.
    """
    path = _below(folder, name)
    if not path.exists():
        raise VerbError(f"There is no file {name!r} in the notebook's directory, {folder}.")
    return path


def path_asked_for(folder: Path, name: str) -> Path:
    """Return the path at which a cell wants to write, below the notebook's directory.

    `placed` decides where a file that is wanted there is really written.

    Raises:
        NotAllowedError: it is outside of the directory, or has a name that is not allowed.
    """
    path = _below(folder, name)
    parts = path.relative_to(folder.resolve()).parts
    for part in parts:
        if fault := fault_of(part):
            raise NotAllowedError(f"{part!r} of {name!r} {fault}. Nothing was written.")
    return path


def path_to_write(
    folder: Path, name: str, *, endings: Collection[str] = (), force: bool = False
) -> Path:
    """Return the path at which a file is really written, below the notebook's directory.

    Arguments:
        folder: the notebook's directory.
        name: the path that the cell requests.
        endings: endings that are data too, besides `DATA_ENDINGS`.
        force: whether the file may exist already.

    Raises:
        NotAllowedError: it is outside of the directory, has a name that is not allowed, or leads
            through a link.
        VerbError: the file exists already, and `force` was not given.
    """
    here = folder.resolve()
    parts = placed(path_asked_for(folder, name).relative_to(here).parts, endings)
    path = here.joinpath(*parts)
    if path.resolve() != path:
        raise NotAllowedError(f"A link is on the way to {path}. Nothing was written.")
    if path.is_file() and not force:
        shown = name if parts[:1] != (FROM_SANDBOX,) else "/".join(parts)
        raise VerbError(f"The file {shown!r} is there already. `--force` overwrites it.")
    return path


@contextmanager
def open_to_write(
    folder: Path, name: str, *, endings: Collection[str] = (), force: bool = False
) -> Iterator[BinaryIO]:
    """Open a file at `path_to_write` for writing bytes, and create its directories.

    Raises:
        NotAllowedError, VerbError: as for `path_to_write`.
        OSError: it can't be written.
    """
    here = folder.resolve()
    relative = path_to_write(folder, name, endings=endings, force=force).relative_to(here)
    parts = relative.parts
    if parts[:1] == (FROM_SANDBOX,):
        keep_tools_out(here)
    path = here / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    if os.open in os.supports_dir_fd:
        file = _open_part_by_part(here, relative, flags)
    else:
        file = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)
    with os.fdopen(file, "wb") as stream:
        yield stream


def placed(parts: Sequence[str], endings: Collection[str] = ()) -> tuple[str, ...]:
    """Return the path at which a sandbox's file is written, for the requested path.

    Arguments:
        parts: the parts of the requested path, below the notebook's directory.
        endings: endings that are data too, besides `DATA_ENDINGS`.

    Returns:
        The same parts for data; else the parts below `FROM_SANDBOX`.

    Raises:
        NotAllowedError: the name is not allowed, or not valid on every system.
    """
    for part in parts:
        if fault := fault_of(part):
            raise NotAllowedError(
                f"{part[:80]!r} of {'/'.join(parts)[:200]!r} {fault}. Nothing was written; give "
                "it another name."
            )
    if not parts:
        raise NotAllowedError("The notebook's directory is not a file. Nothing was written.")
    if _folded(parts[-1]) == "head":
        raise NotAllowedError(
            f"{'/'.join(parts)[:200]!r} could make its directory a repository of git, whose "
            "settings "
            "name programs to run. Nothing was written; give it another name."
        )
    below = tuple(parts[1:] if parts[0] == FROM_SANDBOX else parts)
    place = tuple(parts) if is_data(parts, endings) else (FROM_SANDBOX, *below)
    if place[0] == FROM_SANDBOX and (
        not below or (_folded(below[0]).partition(".")[0] == "conftest" and not is_data(below))
    ):
        # pytest imports `from-sandbox/conftest...`, which is a file of this package.
        raise NotAllowedError(
            f"{'/'.join(parts)[:200]!r} is a name of this package's own. Nothing was written; give "
            "it another name."
        )
    return place


def is_data(parts: Sequence[str], endings: Collection[str] = ()) -> bool:
    """Return whether no program runs or obeys a file because of this path.

    Its ending must be in the table. If the name of a directory has an ending, such as `.parquet`,
    this must be in the table too.
    """
    *folders, name = parts
    known = DATA_ENDINGS | {ending.lower() for ending in endings}
    for part in folders:
        ending = _ending(part)
        if ending and not ending[0].isdigit() and ending not in known:
            return False
    if _ending(name) not in known or _OBEYED.fullmatch(_folded(name)):
        return False
    # A setting may add Python's ending, but not for files that Python would import by itself.
    return _ending(name) in DATA_ENDINGS or not _is_imported(parts)


def runs_when_loaded(name: str) -> bool:
    """Return whether libraries may run code in a file of that name when they load it."""
    if _ending(name) in _PACKED:
        name = name.rpartition(".")[0]
    return _ending(name) in _RUN_WHEN_LOADED


def fault_of(part: str) -> str:
    """Return why a part of a path is not allowed, as the end of a sentence; "" if it is allowed."""
    name = _folded(part)
    if name == "__pycache__":
        return "holds code that Python runs"
    if name.startswith(".") or part.startswith("."):
        return "starts with a dot"
    if (
        not name
        or len(part.encode("utf-8", "replace")) > _LONGEST
        or part.rstrip(" .") != part
        or part.lstrip() != part
        or any(char in '/\\:<>"|?*' or not char.isprintable() for char in part)
        or any(char in '/\\:<>"|?*' for char in name)
        or _SHORT_NAME.search(name)
        or name.partition(".")[0].rstrip() in _RESERVED
    ):
        return "is no name on every system"
    return ""


def keep_tools_out(folder: Path) -> None:
    """Create `FROM_SANDBOX` below the notebook's directory, with the file that keeps pytest out.

    Raises:
        NotAllowedError: the directory or the file exists as something else.
    """
    top = folder / FROM_SANDBOX
    with contextlib.suppress(FileExistsError):
        top.mkdir(parents=True)
    if top.is_symlink() or not top.is_dir():
        raise NotAllowedError(f"{top} is not a directory. Move it away. Nothing was written.")
    path = top / "conftest.py"
    if not path.exists() and not path.is_symlink():
        with path.open("x", encoding="utf-8") as file:
            file.write(_KEEP_OUT)
    elif path.is_symlink() or path.read_bytes() != _KEEP_OUT.encode():
        raise NotAllowedError(
            f"{path} is not the file that keeps pytest out of what a sandbox wrote. Move it away. "
            "Nothing was written."
        )


def _folded(part: str) -> str:
    """Return a name in the form in which the most lenient file system compares it."""
    return unicodedata.normalize("NFKC", _NOT_DRAWN.sub("", part)).casefold().strip(" ")


def _ending(name: str) -> str:
    """Return the ending after the last dot in lower case, "" without a dot, "?" if invalid.

    An ending is invalid if it is not ASCII, or if nothing is before the dot.
    """
    stem, dot, ending = name.rpartition(".")
    return ending.lower() if stem and dot and ending.isascii() else "" if not dot else "?"


def _below(folder: Path, name: str) -> Path:
    """Return a path below a directory with all links resolved, as far as it exists.

    Raises:
        NotAllowedError: it is outside of the directory, or a part of it starts with a dot.
        VerbError: the name is empty or invalid.
    """
    if not name or "\0" in name:
        raise VerbError(f"{name!r} is not the name of a file.")
    here = folder.resolve()
    try:
        path = Path(here, name).resolve()
    except (OSError, RuntimeError) as error:  # a link that leads to itself
        raise NotAllowedError(f"The path {name!r} points nowhere: {error}.") from error
    if not path.is_relative_to(here):
        raise NotAllowedError(
            f"{name!r} is outside of the notebook's directory, {folder}. Cells reach only files "
            "below it. Nothing was read or written."
        )
    for part in (*Path(name).parts, *path.relative_to(here).parts):
        if part.startswith(".") and part not in (".", ".."):
            raise NotAllowedError(
                f"{name!r} leads to {part!r}: cells reach no file or directory whose name "
                "starts with a dot. Nothing was read or written."
            )
    return path


def _is_imported(parts: Sequence[str]) -> bool:
    first, last = (_folded(part).partition(".")[0] for part in (parts[0], parts[-1]))
    if first in _IMPORTED_UNASKED or last in _IMPORTED_UNASKED:
        return True
    return first in sys.stdlib_module_names or _is_installed(first)


def _is_installed(module: str) -> bool:
    elsewhere = [entry for entry in sys.path if entry and Path(entry) != Path.cwd()]
    try:
        found = importlib.machinery.PathFinder.find_spec(module, elsewhere)
    except (ImportError, ValueError):
        return False
    # A directory without `__init__.py` is not an installed module.
    return found is not None and found.origin is not None


def _open_part_by_part(folder: Path, relative: Path, flags: int) -> int:
    *parents, last = relative.parts
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parents:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
        file = os.open(last, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666, dir_fd=at)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise NotAllowedError(f"{str(relative)!r} is not a file that can be written.")
    return file
