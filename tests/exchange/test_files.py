"""Files and folders into a real session and out of it: whole, resumed, and past a hostile one."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentbay_kernel.errors import (
    ChecksumError,
    ExchangeStoppedError,
    MalformedValueError,
    MissingNameError,
    TargetExistsError,
    TooLargeError,
    UnsafePathError,
)
from agentbay_kernel.exchange import Exchange, Progress
from tests.exchange.conftest import Bench

CONTENT = {
    "a.txt": b"A",
    "empty.csv": b"",
    "sub/large.bin": bytes(range(256)) * 8_000,
    "sub/deep/é ü.txt": "é\n".encode(),
    "twin.txt": b"A",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of this machine with files, an empty folder, a link, a dotfile."""
    top = tmp_path / "source"
    for name, data in CONTENT.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(data)
    (top / "nothing/below").mkdir(parents=True)
    (top / ".secret").write_text("no")
    (top / "link").symlink_to("/etc/passwd")
    return top


@pytest.fixture
def there(bench: Bench, request: pytest.FixtureRequest) -> Iterator[str]:
    """A folder of the test's own in the session, where its Python works meanwhile."""
    name = request.node.name.replace("[", "-").replace("]", "").replace(" ", "-")
    bench.run(f"import os, shutil; os.makedirs({name!r}); os.chdir({name!r})")
    yield bench.run("print(os.getcwd())").strip()
    bench.run("os.chdir('..')")


def contents(top: Path) -> dict[str, bytes]:
    return {
        path.relative_to(top).as_posix(): path.read_bytes()
        for path in top.rglob("*")
        if path.is_file()
    }


def test_a_file_arrives_where_the_cells_work(bench: Bench, there: str, source: Path) -> None:
    done = bench.exchange.upload(source / "a.txt")
    assert (done.files, done.size, done.path, done.notes) == (1, 1, f"{there}/a.txt", [])
    assert bench.run("print(open('a.txt').read())") == "A\n"
    assert bench.exchange.upload(source / "a.txt", "other/name.txt").path.endswith("other/name.txt")
    assert bench.exchange.upload(source / "a.txt", "new/").path == f"{there}/new/a.txt"
    assert bench.exchange.upload(source / "a.txt", f"{there}/other").path.endswith("/other/a.txt")


def test_a_folder_there_and_back(bench: Bench, there: str, source: Path, tmp_path: Path) -> None:
    done = bench.exchange.upload(source)
    assert done.files == len(CONTENT) and done.path == f"{there}/source"
    assert "2 links, special files and names" in str(done.notes[0])
    bench.run("os.symlink('/etc/passwd', 'source/out'); open('source/.hidden', 'w').close()")
    back = bench.exchange.download("source", tmp_path / "back")
    assert contents(tmp_path / "back") == CONTENT
    assert (tmp_path / "back/nothing/below").is_dir()
    assert "2 links, special files and names" in str(back.notes[0])
    into = bench.exchange.download("source/", tmp_path / "into", into=True)
    assert into.path == str(tmp_path / "into/source")
    assert contents(tmp_path / "into/source") == CONTENT


def test_what_is_there_with_the_same_content_is_left_alone(
    bench: Bench, there: str, source: Path, tmp_path: Path
) -> None:
    bench.exchange.upload(source)
    (source / "new.txt").write_text("new")
    assert bench.exchange.upload(source, f"{there}/source").unchanged == len(CONTENT)
    assert bench.run("print(open('source/new.txt').read())") == "new\n"
    bench.exchange.download("source/sub", tmp_path / "back")
    (tmp_path / "back/deep/é ü.txt").unlink()
    assert bench.exchange.download("source/sub", tmp_path / "back").unchanged == 1
    assert (tmp_path / "back/deep/é ü.txt").exists()


def test_nothing_is_overwritten_unless_asked(
    bench: Bench, there: str, source: Path, tmp_path: Path
) -> None:
    bench.exchange.upload(source)
    (source / "a.txt").write_text("B")
    (source / "new.txt").write_text("new")
    with pytest.raises(TargetExistsError, match=r"a\.txt, with another content"):
        bench.exchange.upload(source)
    assert bench.run("print(open('source/a.txt').read(), os.listdir('source'))").startswith("A ")
    assert "new.txt" not in bench.run("print(os.listdir('source'))")
    with pytest.raises(TargetExistsError, match=r"a\.txt is here already"):
        bench.exchange.download("source", source)
    with pytest.raises(TargetExistsError, match=r"a\.txt is here already"):
        bench.exchange.download("source/a.txt", source)
    assert (source / "a.txt").read_text() == "B"
    bench.exchange.upload(source, force=True)
    assert bench.run("print(open('source/a.txt').read())") == "B\n"
    (source / "a.txt").write_text("C")
    bench.exchange.download("source/a.txt", source, force=True)
    assert (source / "a.txt").read_text() == "B"


def test_a_file_is_not_put_where_a_folder_is(
    bench: Bench, there: str, source: Path, tmp_path: Path
) -> None:
    bench.run("os.makedirs('taken/a.txt')")
    with pytest.raises(TargetExistsError, match="folder"):
        bench.exchange.upload(source / "a.txt", "taken/")
    bench.exchange.upload(source / "a.txt")
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(TargetExistsError, match="no plain file"):
        bench.exchange.download("a.txt", tmp_path)


def test_missing_ones_are_named(bench: Bench, there: str, tmp_path: Path) -> None:
    with pytest.raises(MissingNameError, match=r"There is no .*nothing"):
        bench.exchange.download("nothing", tmp_path)
    with pytest.raises(MissingNameError, match=r"There is no .*nothing"):
        bench.exchange.upload(tmp_path / "nothing")
    bench.run("os.mkfifo('pipe')")
    with pytest.raises(MissingNameError, match="neither a file nor a directory"):
        bench.exchange.download("pipe", tmp_path)


def test_where_nothing_can_be_written_nothing_is_sent(
    bench: Bench, there: str, source: Path
) -> None:
    ticks: list[Progress] = []
    with pytest.raises(UnsafePathError, match="Nothing can be written in /usr"):
        bench.exchange.upload(source, "/usr/new/", progress=ticks.append)
    assert ticks == []


def test_a_link_of_this_machine_is_not_followed(bench: Bench, there: str, source: Path) -> None:
    with pytest.raises(UnsafePathError, match="is a link"):
        bench.exchange.upload(source / "link")


class StopAfter:
    """Stops an exchange when so many bytes have arrived."""

    def __init__(self, size: int) -> None:
        self.stopped = threading.Event()
        self.ticks: list[Progress] = []
        self._size = size

    def __call__(self, tick: Progress) -> None:
        self.ticks.append(tick)
        if tick.done >= self._size:
            self.stopped.set()


def test_an_upload_goes_on_where_it_was(bench: Bench, there: str, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(12_345_678))
    first = StopAfter(3_000_000)
    with pytest.raises(ExchangeStoppedError):
        bench.exchange.upload(large, progress=first, stopped=first.stopped)
    assert bench.run("print(os.listdir())") == "[]\n"
    again = StopAfter(10**9)
    # Another notebook, say: nothing is remembered on this side.
    exchange = Exchange(bench.session, bench.execution_of)
    exchange.upload(large, progress=again)
    assert again.ticks[0].done >= first.ticks[-1].done
    assert again.ticks[-1].done == again.ticks[-1].total == 12_345_678
    digest = bench.run(
        "import hashlib\nprint(hashlib.sha256(open('large.bin','rb').read()).hexdigest())"
    )
    assert digest.strip() == hashlib.sha256(large.read_bytes()).hexdigest()
    assert "ab-upload" not in bench.run("print(os.listdir('/tmp'))")


def test_a_download_goes_on_where_it_was(bench: Bench, there: str, tmp_path: Path) -> None:
    bench.run("open('large.bin', 'wb').write(data := os.urandom(12_345_678))")
    first = StopAfter(3_000_000)
    target = tmp_path / "large.bin"
    with pytest.raises(ExchangeStoppedError):
        bench.exchange.download("large.bin", target, progress=first, stopped=first.stopped)
    assert not target.exists()
    (part,) = tmp_path.iterdir()
    held = part.stat().st_size
    assert held >= 3_000_000 and part.name.startswith(".large.bin.")
    again = StopAfter(10**9)
    bench.exchange.download("large.bin", target, progress=again)
    assert again.ticks[0].done == held and again.ticks[-1].done == 12_345_678
    digest = bench.run("import hashlib\nprint(hashlib.sha256(data).hexdigest())").strip()
    assert hashlib.sha256(target.read_bytes()).hexdigest() == digest
    assert list(tmp_path.iterdir()) == [target]


def test_a_resumed_part_that_is_wrong_is_not_used(bench: Bench, there: str, tmp_path: Path) -> None:
    bench.run("open('f.bin', 'wb').write(b'x' * 3_000_000)")
    sha256 = hashlib.sha256(b"x" * 3_000_000).hexdigest()
    part = tmp_path / f".f.bin.{sha256[:12]}.ab-part"
    part.write_bytes(b"y" * 1000)
    with pytest.raises(ChecksumError, match="run it again"):
        bench.exchange.download("f.bin", tmp_path)
    assert list(tmp_path.iterdir()) == []
    bench.exchange.download("f.bin", tmp_path)
    assert (tmp_path / "f.bin").stat().st_size == 3_000_000


def test_pieces_that_changed_in_the_sandbox_are_not_used(
    bench: Bench, there: str, tmp_path: Path
) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(12_000_000))
    stop = StopAfter(2_000_000)
    with pytest.raises(ExchangeStoppedError):
        bench.exchange.upload(large, progress=stop, stopped=stop.stopped)
    bench.run(
        "import glob\n"
        "piece = sorted(glob.glob('/tmp/ab-upload-*/s.p-*'))[0]\n"
        "with open(piece, 'r+') as f: f.write('AAAAAAAA')"
    )
    with pytest.raises(ChecksumError, match="run it again"):
        bench.exchange.upload(large)
    assert bench.run("print(os.listdir())") == "[]\n"
    bench.exchange.upload(large)
    assert bench.run("print(os.path.getsize('large.bin'))") == "12000000\n"


def test_more_than_the_limit_is_refused(bench: Bench, there: str, tmp_path: Path) -> None:
    small = Exchange(bench.session, bench.execution_of, limit=1000)
    (tmp_path / "f").write_bytes(b"x" * 1001)
    with pytest.raises(TooLargeError, match="Nothing was sent"):
        small.upload(tmp_path / "f")
    bench.run("open('f', 'wb').write(b'x' * 1001)")
    with pytest.raises(TooLargeError, match="1,000 bytes"):
        small.download("f", tmp_path / "g")


# What a hostile session lists. Its honest part does not answer at all.
LISTS = """
import sys, json
jobs = sys.modules["agentbay_kernel.sandbox.exchange.jobs"]
jobs.honest = getattr(jobs, "honest", jobs.serve)
def serve(namespace, base):
    open(base + ".pack", "wb").write(b"EVIL" * 10)
    open(base + ".report", "w").write(json.dumps(ANSWER))
jobs.serve = serve
ANSWER = {"path": "/tmp", "folder": True, "folders": [], "left_out": 0, "files": []}
SHA = __import__("hashlib").sha256(b"EVIL").hexdigest()
"""
HONEST = """
jobs = sys.modules["agentbay_kernel.sandbox.exchange.jobs"]
jobs.serve = jobs.honest
"""
PATHS = (
    "../evil", "../../evil", "a/../../evil", "/tmp/evil", "/etc/cron.d/evil", "..", ".", "",
    "a//b", "a/", "./a", ".bashrc", "sub/.ssh/authorized_keys", "a\\..\\evil", "C:evil", "a\0b",
    "a\nb", "a\x1b[2Jb", "con.txt", "x" * 300, "ends.", "ends ", "\u202egpj.exe",
)  # fmt: skip
LISTINGS: dict[str, tuple[str, type[Exception]]] = {
    **{
        f"a file {path[:20]!r}": (f"ANSWER['files'] = [[{path!r}, 4, SHA, 0]]", UnsafePathError)
        for path in PATHS
    },
    **{
        f"a folder {path[:20]!r}": (f"ANSWER['folders'] = [{path!r}]", UnsafePathError)
        for path in PATHS[:5]
    },
    "a number as a path": ("ANSWER['files'] = [[5, 4, SHA, 0]]", UnsafePathError),
    "a file twice": (
        "ANSWER['files'] = [['a.csv', 4, SHA, 0], ['a.csv', 4, SHA, 4]]",
        UnsafePathError,
    ),
    "a file in two spellings": (
        "ANSWER['files'] = [['a.csv', 4, SHA, 0], ['A.csv', 4, SHA, 4]]",
        UnsafePathError,
    ),
    "a file below a file": (
        "ANSWER['files'] = [['a.csv', 4, SHA, 0], ['a.csv/b.csv', 4, SHA, 4]]",
        TargetExistsError,
    ),
    "a huge claim": ("ANSWER['files'] = [['a.csv', 10**15, SHA, None]]", TooLargeError),
    "a negative size": ("ANSWER['files'] = [['a.csv', -1, SHA, None]]", MalformedValueError),
    "a size of text": ("ANSWER['files'] = [['a.csv', '4', SHA, None]]", MalformedValueError),
    "no checksum": ("ANSWER['files'] = [['a.csv', 4, '', 0]]", MalformedValueError),
    "another content": ("ANSWER['files'] = [['a.csv', 4, '0' * 64, 0]]", ChecksumError),
    "more than there is": ("ANSWER['files'] = [['a.csv', 400, SHA, 0]]", MalformedValueError),
    "an offset of its own": ("ANSWER['files'] = [['a.csv', 4, SHA, 8]]", MalformedValueError),
    "too many files": (
        "ANSWER['files'] = [['f%d.csv' % n, 0, SHA, 0] for n in range(100_001)]",
        MalformedValueError,
    ),
    "two files for one": (
        "ANSWER.update(folder=False, files=[['', 4, SHA, 0], ['', 4, SHA, 4]])",
        MalformedValueError,
    ),
    "no list": ("ANSWER['files'] = 'a'", MalformedValueError),
}


# `make test` has one that is like each of these: `../evil`, `/tmp/evil`, `a//b` and so on.
ALIKE = (
    *("../../evil", "a/../../evil", "/etc/cron.d/evil", ".", "a/", "./a", ".bashrc"),
    *("a\x1b[2Jb", "ends."),
)
SLOW = {f"a file {path[:20]!r}" for path in ALIKE} | {
    f"a folder {path[:20]!r}" for path in PATHS[1:5]
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind in SLOW)) for kind in LISTINGS]
)
def test_a_hostile_list_writes_nothing(bench: Bench, kind: str, tmp_path: Path) -> None:
    answer, error = LISTINGS[kind]
    bench.exchange.send({"x": 1})
    outside = tmp_path / "outside"
    outside.mkdir()
    target = outside / "target"
    bench.run(LISTS + answer)
    try:
        with pytest.raises(error):
            bench.exchange.download("anything", target)
    finally:
        bench.run(HONEST)
    assert list(tmp_path.iterdir()) == [outside]
    # At most what it may write: the folder that was asked for, and a file that was whole.
    assert {path.name for path in outside.rglob("*")} <= {"target", "a.csv"}
    if target.exists():
        assert all(path.read_bytes() == b"EVIL" for path in target.rglob("*") if path.is_file())


def test_a_link_below_the_target_leads_nowhere(
    bench: Bench, there: str, source: Path, tmp_path: Path
) -> None:
    bench.exchange.upload(source)
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.mkdir()
    target.mkdir()
    (target / "sub").symlink_to(outside)
    for force in (False, True):
        with pytest.raises(UnsafePathError, match="is a link"):
            bench.exchange.download("source", target, force=force)
    with pytest.raises(UnsafePathError, match="is a link"):
        bench.exchange.download("source/sub", target, into=True)
    assert list(outside.iterdir()) == []


def test_a_link_in_place_of_a_file_is_not_written_through(
    bench: Bench, there: str, source: Path, tmp_path: Path
) -> None:
    bench.exchange.upload(source / "a.txt")
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    (tmp_path / "a.txt").symlink_to(outside)
    with pytest.raises(TargetExistsError, match="no plain file"):
        bench.exchange.download("a.txt", tmp_path, force=True)
    assert outside.read_text() == "mine"
