"""The kernelspecs, as files and as `jupyter agentbay install` places them."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from agentbay_kernel import kernelspec
from agentbay_kernel.errors import KernelspecError
from agentbay_kernel.languages import LANGUAGES

NAMES = ["agentbay-python", "agentbay-javascript"]
FILES = ["kernel.json", "logo-32x32.png", "logo-64x64.png", "logo-svg.svg"]


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=lambda language: language.name)
def test_every_language_has_its_kernelspec(language) -> None:  # type: ignore[no-untyped-def]
    folder = kernelspec.templates() / f"agentbay-{language.name}"
    spec = json.loads((folder / "kernel.json").read_text())
    assert spec["display_name"] == f"AgentBay {language.display_name}"
    assert spec["language"] == language.name
    assert spec["argv"] == [
        "python",
        # What lies in a notebook's folder is not imported.
        "-P",
        "-m",
        "agentbay_kernel",
        "-f",
        "{connection_file}",
        f"--AgentBayKernel.language={language.name}",
    ]
    assert spec["interrupt_mode"] == "message"
    debugs = language.name == "python"
    assert spec["metadata"] == {"debugger": debugs, "supported_encryption": ["curve"]}
    assert sorted(path.name for path in folder.iterdir()) == FILES
    for size in (32, 64):
        picture = (folder / f"logo-{size}x{size}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert struct.unpack(">II", picture[16:24]) == (size, size)
    assert ElementTree.parse(folder / "logo-svg.svg").getroot().tag.endswith("svg")


def test_install_names_this_python_by_its_full_path(tmp_path: Path) -> None:
    placed = kernelspec.install(str(tmp_path))
    assert [folder.name for folder in placed] == NAMES
    for folder in placed:
        assert folder.parent == tmp_path / "share" / "jupyter" / "kernels"
        assert sorted(path.name for path in folder.iterdir()) == FILES
        spec = json.loads((folder / "kernel.json").read_text())
        assert spec["argv"][:4] == [sys.executable, "-P", "-m", "agentbay_kernel"]
        assert "env" not in spec


def test_local_twins_always_use_the_local_runtime(tmp_path: Path) -> None:
    placed = kernelspec.install(str(tmp_path), with_local=True)
    assert [folder.name for folder in placed] == NAMES + [f"{name}-local" for name in NAMES]
    specs = [json.loads((folder / "kernel.json").read_text()) for folder in placed]
    assert [spec["display_name"] for spec in specs] == [
        "AgentBay Python",
        "AgentBay JavaScript",
        "AgentBay Python (local)",
        "AgentBay JavaScript (local)",
    ]
    assert [spec.get("env") for spec in specs] == [
        None,
        None,
        {"AGENTBAY_BACKEND": "local"},
        {"AGENTBAY_BACKEND": "local"},
    ]


def test_install_replaces_what_was_there(tmp_path: Path) -> None:
    first, _ = kernelspec.install(str(tmp_path))
    (first / "left-over.txt").write_text("from an earlier version")
    kernelspec.install(str(tmp_path))
    assert sorted(path.name for path in first.iterdir()) == FILES


def test_uninstall_removes_only_ours(tmp_path: Path) -> None:
    placed = kernelspec.install(str(tmp_path), with_local=True)
    stranger = placed[0].parent / "python3"
    stranger.mkdir()
    (stranger / "kernel.json").write_text('{"argv": ["python", "-m", "ipykernel_launcher"]}')
    namesake = placed[1]
    (namesake / "kernel.json").write_text('{"argv": ["something", "else"]}')

    removed, foreign = kernelspec.uninstall(str(tmp_path))

    assert removed == [placed[0], placed[2], placed[3]]
    assert foreign == [namesake]
    assert sorted(path.name for path in placed[0].parent.iterdir()) == [namesake.name, "python3"]


def test_a_linked_kernelspec_is_unlinked_and_its_target_kept(tmp_path: Path) -> None:
    target, _ = kernelspec.install(str(tmp_path / "elsewhere"))
    kernels = kernelspec.kernels_folder(str(tmp_path))
    kernels.mkdir(parents=True)
    (kernels / "agentbay-python").symlink_to(target)
    removed, _ = kernelspec.uninstall(str(tmp_path))
    assert removed == [kernels / "agentbay-python"]
    assert not (kernels / "agentbay-python").exists()
    assert (target / "kernel.json").is_file()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    # A file where a folder is needed: refused for root too.
    (tmp_path / "share").write_text("")
    with pytest.raises(KernelspecError, match=r"could not be placed in .*--user"):
        kernelspec.install(str(tmp_path))
