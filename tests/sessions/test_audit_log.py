"""The audit log: a line for what is sent, and nothing sent without its line."""

from __future__ import annotations

import hashlib
import json
import stat
import threading
from pathlib import Path

import pytest

from agentbay_kernel.config import load_settings
from agentbay_kernel.errors import ConfigurationError, NotAllowedError
from agentbay_kernel.sessions.audit_log import AuditLog
from tests.kernel.conftest import LOCAL
from tests.kernels import running_kernel


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_tells_what_was_sent_and_not_its_content(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    log = AuditLog(str(path))
    log.code("session-1", "python", "secret = 'é\ud800'")
    log.data("session-1", "data/table.csv", 1234)
    code, data = lines_of(path)
    assert code["sent"] == "code" and code["bytes"] == 16 and code["language"] == "python"
    assert {"sent": "data", "name": "data/table.csv", "bytes": 1234}.items() <= data.items()
    assert "secret" not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_lines_of_many_writers_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "audit"

    def write(number: int) -> None:
        log = AuditLog(str(path))
        for _ in range(100):
            log.data(f"session-{number}", "x" * 1_000, number)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(5)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(lines_of(path)) == 500


def test_what_can_not_be_logged_is_not_sent(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nothing was sent"):
        AuditLog(str(tmp_path)).code("session-1", "python", "1")


@pytest.mark.parametrize("execution", ["bridged", pytest.param("direct", marks=pytest.mark.slow)])
def test_each_cell_of_a_notebook_has_its_line(tmp_path: Path, execution: str) -> None:
    path = tmp_path / "audit"
    env = {**LOCAL, "AGENTBAY_EXECUTION": execution, "AGENTBAY_AUDIT_LOG": str(path)}
    cells = ["x = 1", "x + 1", "1 / 0"]
    (tmp_path / "table.csv").write_text("a,b\n")
    with running_kernel("agentbay-python", env, tmp_path) as kernel:
        for cell in cells:
            kernel.run(cell)
        kernel.run("%agentbay status")
        hashes = [line["sha256"] for line in lines_of(path)]
        kernel.run("%agentbay upload table.csv")
        sent = [line for line in lines_of(path) if line["sent"] == "data"]
        path.unlink()
        path.mkdir()
        assert kernel.run("open('ran', 'w')").reply["ename"] == "ConfigurationError"
        path.rmdir()
        assert kernel.run("import os; print(os.path.exists('ran'))").text() == "False\n"
    assert [(Path(str(it["name"])).name, it["bytes"]) for it in sent] == [("table.csv", 4)]
    assert hashes == [hashlib.sha256(cell.encode()).hexdigest() for cell in cells]


def test_a_cell_can_not_change_where_the_log_is() -> None:
    with pytest.raises(NotAllowedError):
        load_settings().change_in_notebook([("audit_log", "")])
