"""`upload` and `download` in an AgentBay kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import LOCAL
from tests.kernels import RunningKernel, running_kernel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The notebook's folder; what is around it is the user's own."""
    around = tmp_path_factory.mktemp("home_of_user")
    (around / "secret.txt").write_text("outside")
    here = around / "notebooks"
    (here / "many" / ".hidden").mkdir(parents=True)
    (here / "data.csv").write_text("a,b\n1,2\n")
    (here / "many" / "one.txt").write_text("1")
    (here / "many" / ".hidden" / "two.txt").write_text("2")
    (here / ".env").write_text("AGENTBAY_API_KEY=akm-not-a-real-one")
    (here / "link").symlink_to(around / "secret.txt")
    return here


@pytest.fixture(scope="module")
def kernel(folder: Path) -> Iterator[RunningKernel]:
    """One "AgentBay Python" that has run a cell."""
    with running_kernel("agentbay-python", LOCAL, folder) as kernel:
        kernel.run("1")
        yield kernel


def told(kernel: RunningKernel, line: str) -> str:
    """What a verb says at its end."""
    ran = kernel.run(line)
    assert ran.reply["status"] == "ok", ran
    shown = [*ran.of_type("display_data"), *ran.of_type("update_display_data")][-1]
    text: str = shown["data"]["text/plain"]
    return text


def test_a_file_goes_in_and_out(kernel: RunningKernel, folder: Path) -> None:
    assert "Uploaded 1 file, 8 bytes" in told(kernel, "%agentbay upload data.csv")
    assert kernel.run("print(open('data.csv').read())").text() == "a,b\n1,2\n\n"
    kernel.run("open('made.bin', 'wb').write(bytes(range(256)))")
    assert "Downloaded 1 file, 256 bytes, to made.bin" in told(
        kernel, "%agentbay download made.bin"
    )
    assert (folder / "made.bin").read_bytes() == bytes(range(256))
    assert "with the same content" in told(kernel, "%agentbay download made.bin")


def test_what_is_not_data_is_below_our_own_folder(kernel: RunningKernel, folder: Path) -> None:
    kernel.run("open('random.py', 'w').write('raise SystemExit')")
    assert "to from-sandbox/random.py" in told(kernel, "%agentbay download random.py")
    kernel.run("print('all of it')")
    assert "written to from-sandbox/out.html" in told(kernel, "%agentbay last --save out.html")
    assert (folder / "from-sandbox/out.html").read_text() == "all of it\n"
    assert not (folder / "out.html").exists() and not (folder / "random.py").exists()
    assert (folder / "from-sandbox/conftest.py").exists()


def test_a_folder_goes_without_what_is_hidden(kernel: RunningKernel) -> None:
    told(kernel, "%agentbay upload many")
    ran = kernel.run("import os; print([files for _, _, files in os.walk('many')])")
    assert ran.text() == "[['one.txt']]\n"


def test_a_folder_that_is_fetched_again_goes_on(kernel: RunningKernel, folder: Path) -> None:
    kernel.run("import os; os.makedirs('results'); open('results/a.txt', 'w').write('a')")
    assert "to results" in told(kernel, "%agentbay download results")
    assert "to results" in told(kernel, "%agentbay download results .")
    told(kernel, "%agentbay download results fetched")
    kernel.run("open('results/b.txt', 'w').write('b')")
    assert "1 was there already" in told(kernel, "%agentbay download results fetched")
    assert (folder / "fetched/b.txt").read_text() == "b"
    assert "to fetched/a.txt" in told(kernel, "%agentbay download results/a.txt fetched")
    assert "to fetched/results" in told(kernel, "%agentbay download results fetched/")


def test_nothing_is_overwritten_unasked(kernel: RunningKernel, folder: Path) -> None:
    kernel.run("open('data.csv', 'w').write('other')")
    ran = kernel.run("%agentbay download data.csv")
    assert ran.reply["ename"] == "TargetExistsError"
    assert (folder / "data.csv").read_text() == "a,b\n1,2\n"
    ran = kernel.run("%agentbay upload data.csv")
    assert ran.reply["ename"] == "TargetExistsError"
    assert "Uploaded" in told(kernel, "%agentbay upload data.csv --force")


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# `make test` has what is refused in `test_hostile_verbs.py`.
@pytest.mark.slow
def test_untrusted_cells_bring_no_files(folder: Path) -> None:
    with running_kernel("agentbay-python", {**LOCAL, "AGENTBAY_UNTRUSTED": "1"}, folder) as kernel:
        before = _contents(folder)
        for line in ("upload data.csv", "download made.bin new.bin", "last --save x.txt"):
            ran = kernel.run(f"%agentbay {line}")
            assert ran.reply["ename"] == "NotAllowedError", line
        ran = kernel.run("%agentbay config untrusted=False")
        assert ran.reply["ename"] == "NotAllowedError"
        # No cure either that would lead to this machine.
        assert "upload" not in kernel.run("open('data.csv')").text("stderr")
        assert "untrusted yes" in told(kernel, "%agentbay status")
        assert _contents(folder) == before


def test_what_lies_in_the_folder_is_not_imported(tmp_path: Path) -> None:
    for module in ("requests", "queue", "websocket", "agentbay_kernel", "dotenv", "psutil"):
        (tmp_path / f"{module}.py").write_text(
            f"open({str(tmp_path / 'ran.txt')!r}, 'a').write(__name__)\nraise SystemExit"
        )
    with running_kernel("agentbay-python", LOCAL, tmp_path) as kernel:
        assert kernel.run("%agentbay status\nprint('runs')").text() == "runs\n"
    assert not (tmp_path / "ran.txt").exists()
