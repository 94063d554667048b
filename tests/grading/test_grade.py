"""`jupyter agentbay grade`: the points of a class with hostile students, and what is written."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pexpect
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from agentbay_kernel import grading
from agentbay_kernel.cli import main
from agentbay_kernel.errors import ConfigurationError, NotebookError
from agentbay_kernel.grading import (
    Check,
    Grade,
    Grader,
    Report,
    Source,
    Submission,
    SubmissionError,
    find_submissions,
    load_checks,
    points,
    same,
)
from agentbay_kernel.service import AgentBay
from tests.cli.test_main import call
from tests.grading.class_of_students import CHECKS, HOSTILE, OTHERS, Student, write_class
from tests.runtime import LocalRuntimeProcess, running_local_runtime


@pytest.fixture(scope="module")
def runtime() -> Iterator[LocalRuntimeProcess]:
    # As the command starts it.
    with running_local_runtime("--memory", "1024", "--no-kernels") as runtime:
        yield runtime


@pytest.fixture(scope="module")
def client(runtime: LocalRuntimeProcess) -> Iterator[AgentBay]:
    with AgentBay(runtime.api_key, endpoint=runtime.endpoint) as client:
        yield client


def environment(runtime: LocalRuntimeProcess) -> dict[str, str]:
    return {
        "AGENTBAY_BACKEND": "local",
        "AGENTBAY_ENDPOINT": runtime.endpoint,
        "AGENTBAY_API_KEY": runtime.api_key,
    }


def grade(
    runtime: LocalRuntimeProcess, folder: Path, *arguments: str
) -> tuple[int, dict[str, dict[str, str]], str]:
    """Run the command; its exit code, the table by submission, and what it said."""
    (folder / "checks.py").write_text(CHECKS)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "agentbay_kernel", "grade", str(folder / "class")),
            *("--checks", str(folder / "checks.py"), "--output-dir", str(folder / "grades")),
            *arguments,
        ],
        env={**os.environ, **environment(runtime)},
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, table(folder / "grades"), done.stdout + done.stderr


def table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "grades.csv").open(newline="") as file:
        return {row["submission"]: row for row in csv.DictReader(file)}


def wrong(students: list[Student], rows: dict[str, dict[str, str]]) -> list[object]:
    """The students whose points are not those that they have earned."""
    return [
        (student.kind, student.points, rows[student.name])
        for student in students
        if rows[student.name]["points"] != f"{student.points:g}"
    ]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "without",
    [
        # `make test` has the others of these pairs.
        tuple(OTHERS),
        pytest.param((), marks=pytest.mark.slow),
    ],
    ids=["some", "all"],
)
def test_no_hostile_submission_gets_more_than_it_has_earned(
    runtime: LocalRuntimeProcess, client: AgentBay, tmp_path: Path, without: tuple[str, ...]
) -> None:
    assert not set(OTHERS) & set(OTHERS.values()) and set(OTHERS.values()) < set(HOSTILE)
    hostile = len(HOSTILE) - len(without)
    students = write_class(tmp_path / "class", hostile + 6, hostile, without)
    code, rows, told = grade(runtime, tmp_path, "-j", "8", "--timeout", "4", "--seed", "5")
    assert wrong(students, rows) == []
    assert code == 0 and set(rows) == {student.name for student in students}, told
    assert "\x1b" not in told
    by_kind = {student.kind: rows[student.name] for student in students}
    assert by_kind["hangs"]["status"] == "timeout"
    assert by_kind["exits"]["status"] == "crashed"
    assert by_kind["all"]["status"] == "graded"
    assert by_kind["an error in a cell"]["status"] == "cell errors"
    assert list(client.list_all()) == []
    for row in rows.values():
        assert_is_inert((tmp_path / "grades" / row["evidence"]).read_text())
    evil = (tmp_path / "grades" / by_kind["active names"]["evidence"]).read_text()
    assert "&lt;img src=x" in evil and "\x1b" not in evil and "Seed: 5" in evil


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_two_hundred_have_the_same_points_side_by_side_as_one_by_one(
    runtime: LocalRuntimeProcess, tmp_path: Path
) -> None:
    students = write_class(tmp_path / "class", 200, 20)
    at_once = grade(runtime, tmp_path, "-j", "8", "--timeout", "4", "--seed", "5")[1]
    assert wrong(students, at_once) == []
    (tmp_path / "grades").rename(tmp_path / "at once")
    one_by_one = grade(runtime, tmp_path, "-j", "1", "--timeout", "4", "--seed", "5")[1]
    columns = ("points", "median", "total", "best")
    assert [{it: row[it] for it in columns} for row in one_by_one.values()] == [
        {it: row[it] for it in columns} for row in at_once.values()
    ]


_TAGS = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "pre"),
    *("table", "tr", "th", "td"),
}


def assert_is_inert(page: str) -> None:
    """Nothing of a page runs, loads or leads anywhere."""
    tags: set[str] = set()
    policies: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.add(tag)
            values = dict(attrs)
            assert set(values) <= {"charset", "http-equiv", "content", "class", "lang"}, values
            if "http-equiv" in values:
                policies.append(str(values["content"]))

    Reader().feed(page)
    assert tags <= _TAGS
    (policy,) = policies
    assert policy.startswith("default-src 'none'; style-src 'sha256-")


def submission(folder: Path, code: str, name: str = "s.py") -> Source:
    (folder / name).write_text(code)
    return Source(name, folder / name)


def grader(client: AgentBay, *checks: Callable[[Submission], Any], **options: Any) -> Grader:
    made = [Check(it.__name__, getattr(it, "agentbay_points", 1), it) for it in checks]
    return Grader(client, made, **{"seed": "1", "timeout_s": 20, **options})


def test_what_a_check_gets_and_what_it_gives(client: AgentBay, tmp_path: Path) -> None:
    @points(4)
    def half(it: Submission) -> float:
        return 0.5

    def asserts(it: Submission) -> None:
        assert it.call("add", 1, other=2) == 4, "1 + 2"

    def fails_there(it: Submission) -> None:
        it.call("fails")

    def is_missing(it: Submission) -> None:
        it.value("missing")

    def is_expected(it: Submission) -> None:
        with pytest.raises(SubmissionError, match="ValueError: no"):
            it.call("fails")
        assert it.map("sign", [2, 0, -3])[::2] == [1, -1]
        assert isinstance(it.map("sign", [0])[0], SubmissionError)
        # The first transfer takes longest, and none of the submission's time.
        assert it.value("was_ready")
        assert it.value("word") == "w" and it.stdout == "printed\n" and "def sign" in it.source

    def is_no_share(it: Submission) -> float:
        return float("nan")

    def is_more(it: Submission) -> float:
        return 2.0

    def has_an_error(it: Submission) -> None:
        assert it.value("word") + 1

    def inputs(it: Submission) -> None:
        it.call("add", object(), 1)

    source = submission(
        tmp_path,
        "import sys\nwas_ready = 'agentbay_kernel.sandbox.exchange.jobs' in sys.modules\n"
        "def add(one, other): return one + other\ndef fails(): raise ValueError('no')\n"
        "def sign(number): return number // abs(number)\nword = 'w'\nprint('printed')",
    )
    all_checks = (half, asserts, fails_there, is_missing, is_expected, is_no_share, is_more)
    got = grader(client, *all_checks, has_an_error, inputs).grade(source)
    assert got.status == "graded" and (got.points, got.out_of) == (3, 12)
    by_name = {it.check: it for it in got.verdicts}
    assert (by_name["half"].points, by_name["half"].reason) == (2, "50% of it is right.")
    assert by_name["is_expected"].points == 1
    for name, reason in (
        ("asserts", "1 + 2"),
        ("fails_there", "ValueError: no"),
        ("is_missing", "missing"),
        ("is_no_share", "not a number from 0 to 1"),
        ("is_more", "not a number from 0 to 1"),
        ("has_an_error", "TypeError"),
        ("inputs", "can't be transferred"),
    ):
        assert by_name[name].points == 0 and reason in by_name[name].reason, by_name[name]
    assert by_name["asserts"].asked == ("add(1, other=2)", "    gave 3")


def test_inputs_are_others_for_each_run_and_the_same_for_a_seed(
    client: AgentBay, tmp_path: Path
) -> None:
    drawn: list[list[float]] = []

    def draws(it: Submission) -> None:
        drawn.append([it.random.random() for _ in range(3)])

    def draws_too(it: Submission) -> None:
        drawn.append([it.random.random() for _ in range(3)])

    source = submission(tmp_path, "import random; random.seed(1)")
    grader(client, draws, draws_too, seed="1").grade(source)
    grader(client, draws, seed="1").grade(source)
    grader(client, draws, seed="2").grade(source)
    first, other_check, again, other_seed = drawn
    assert first == again and len({it[0] for it in (first, other_check, other_seed)}) == 3


def test_a_lost_session_is_graded_again_and_has_no_points(client: AgentBay, tmp_path: Path) -> None:
    def passes(it: Submission) -> None:
        pass

    def loses(it: Submission) -> None:
        it._session.delete()
        it.value("x")

    got = grader(client, passes, loses).grade(submission(tmp_path, "x = 1"))
    assert (got.status, got.points) == ("grade again", None)
    report = Report(tmp_path, [Check("passes", 1, passes), Check("loses", 1, loses)], "1")
    report.add(got)
    row = table(tmp_path)["s.py"]
    assert row["points"] == row["passes"] == row["loses"] == "" and "NotFound" in row["note"]
    # No service: nobody's fault either.
    with AgentBay("akm-1", endpoint="http://127.0.0.1:9") as nowhere:
        assert grader(nowhere, passes).grade(submission(tmp_path, "1")).status == "grade again"


def test_a_check_that_does_not_end_ends_with_the_submissions_time(
    client: AgentBay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a check may still take when its session is gone: this one waits for nothing of it.
    monkeypatch.setattr(grading.grader, "_GRACE_S", 0.5)
    for_ever = threading.Event()

    def passes(it: Submission) -> None:
        pass

    def computes(it: Submission) -> None:
        for_ever.wait()

    # Nothing is sent: the first check passes at once.
    got = grader(client, passes, computes, total_s=1).grade(submission(tmp_path, ""))
    for_ever.set()
    assert (got.status, got.points) == ("timeout", 1)
    assert "within 1 s" in got.note


def test_fewer_slots_than_asked_for_are_waited_for(tmp_path: Path) -> None:
    def passes(it: Submission) -> None:
        assert it.value("x") == 1

    with (
        running_local_runtime("--max-sessions", "2") as small,
        AgentBay(small.api_key, endpoint=small.endpoint) as client,
    ):
        grading = grader(client, passes)
        graded: list[Grade] = []

        def work(number: int) -> None:
            graded.append(grading.grade(submission(tmp_path, "x = 1", f"s{number}.py")))

        workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert [(it.status, it.points) for it in graded] == [("graded", 1)] * 4
    assert grading.most_sessions <= 2


@pytest.mark.parametrize(
    "value",
    [
        "Decimal('1e9999999')",
        "Decimal('1e-9999999')",
        "Decimal('1.' + '1' * 10**6)",
        "range(10**18)",
        "range(-2**80, 2**80)",
    ],
)
def test_a_value_that_grows_here_is_refused(client: AgentBay, tmp_path: Path, value: str) -> None:
    def grows(it: Submission) -> float:
        found = it.value("x")
        return sum(found) if isinstance(found, range) else int(found)

    got = grader(client, grows).grade(
        submission(tmp_path, f"from decimal import Decimal\nx = {value}")
    )
    assert (got.status, got.points) == ("graded", 0)
    assert "of more than" in got.verdicts[0].reason


def test_a_submission_that_cant_be_copied_is_unreadable(client: AgentBay, tmp_path: Path) -> None:
    def passes(it: Submission) -> None:
        pass

    clash, long, bytes_, named = (tmp_path / "class" / it for it in ("a", "b", "c", "d\udce9"))
    (clash / "data.csv").mkdir(parents=True)
    (clash / "data.csv" / "x.txt").write_text("1")
    for folder in (long, bytes_, named):
        folder.mkdir()
    (long / ("x" * 251)).write_text("1")
    (bytes_ / "\udce9.txt").write_text("1")
    for folder in (clash, long, bytes_, named):
        (folder / "main.py").write_text("x = 1")
    grading = Grader(client, [Check("passes", 1, passes)], files=[("data.csv", b"ours")])
    got = {it.name: grading.grade(it) for it in find_submissions([tmp_path / "class"])}
    assert {name: it.status for name, it in got.items()} == {
        "a": "unreadable",
        "b": "graded",
        "c": "graded",
        "d\\udce9": "graded",
    }
    assert "data.csv" in got["a"].note


def test_outputs_of_a_notebook_are_not_looked_at(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("traitlets").propagate = True
    output = {"output_type": "stream", "name": "stdout", "text": "x"}
    notebook = new_notebook(cells=[new_code_cell("x = 1"), new_markdown_cell("y")])
    content = {**notebook}
    content["cells"][0]["outputs"] = [output] * 1000
    content["cells"][0]["outputs"].append({"output_type": "nonsense"})
    (tmp_path / "a.ipynb").write_text(json.dumps(content))
    assert Source("a.ipynb", tmp_path / "a.ipynb").cells() == ["x = 1"]
    # Who looks at the last one says that it is invalid.
    assert caplog.records == []


def test_what_the_teacher_has_beside_is_no_submission(
    runtime: LocalRuntimeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checks.py").write_text("def check_x(it): assert it.value('x') == 1\n")
    (tmp_path / "helper.py").write_text("x = 2")
    (tmp_path / "ada.py").write_text("from helper import x; x = 1")
    for _ in range(2):
        arguments = ("grade", ".", "--checks", "checks.py", "--files", "helper.py")
        assert call(*arguments, **environment(runtime)).returncode == 0
        assert set(table(tmp_path / "grades")) == {"ada.py"}


def test_what_students_hand_in_is_found_and_no_link_is_followed(tmp_path: Path) -> None:
    write_class(tmp_path / "class", 3, 0)
    secret = tmp_path / "secret.py"
    secret.write_text("answer = 42")
    for name in ("two", "none", "linked", "main"):
        (tmp_path / "class" / name).mkdir()
    (tmp_path / "class" / "link.py").symlink_to(secret)
    (tmp_path / "class" / "linked" / "work.py").symlink_to(secret)
    (tmp_path / "class" / "bad.ipynb").write_text("{")
    (tmp_path / "class" / ".hidden.py").write_text("1")
    (tmp_path / "class" / "notes.txt").write_text("1")
    for name in ("two/a.py", "two/b.py", "main/a.py", "main/submission.py"):
        (tmp_path / "class" / name).write_text(f"'{name}'")
    os.mkfifo(tmp_path / "class" / "pipe.py")
    found = {it.name: it for it in find_submissions([tmp_path / "class"])}
    assert ".hidden.py" not in found
    assert found["main"].cells() == ["'main/submission.py'"]
    assert [below for _, below in found["main"].files()] == ["a.py", "submission.py"]
    for name in ("two", "none", "link.py", "linked", "bad.ipynb", "pipe.py", "notes.txt"):
        with pytest.raises(NotebookError):
            found[name].cells()
    assert found["linked"].files() == []


def test_a_file_of_another_kind_has_its_row(client: AgentBay, tmp_path: Path) -> None:
    # One file for each student, as Canvas gives them: who handed in a PDF must not vanish.
    handed_in = ["ada_1_hw.ipynb.pdf", "bob_2_hw.zip", "cem_3_hw.docx", "dan_4_hw"]
    beside = ["Thumbs.db", "desktop.ini", ".DS_Store", "__MACOSX", "data.csv", "eve_5_hw.py"]
    for name in (*handed_in, *beside):
        (tmp_path / name).write_text("x = 1")
    sources = find_submissions([tmp_path], [tmp_path / "data.csv"])
    got = {it.name: grader(client).grade(it) for it in sources}
    assert {name: it.status for name, it in got.items()} == {
        **dict.fromkeys(handed_in, "unreadable"),
        "eve_5_hw.py": "graded",
    }
    for name in handed_in:
        assert got[name].points == 0 and got[name].note.startswith(name), got[name]


def test_a_failure_gives_no_points_and_ends_no_class(client: AgentBay, tmp_path: Path) -> None:
    def wants_an_error(it: Submission) -> None:
        with pytest.raises(SubmissionError):
            it.call("f", 1)

    def leaves(it: Submission) -> None:
        sys.exit(3)

    def takes_all(it: Submission) -> None:
        assert all(it.map("g", [1, 2]))

    code = "def f(x): return x\ndef g(x): raise ValueError(x)"
    got = grader(client, wants_an_error, leaves, takes_all).grade(submission(tmp_path, code))
    assert [verdict.points for verdict in got.verdicts] == [0, 0, 0]
    assert all(verdict.reason for verdict in got.verdicts)


def test_files_of_the_grader_win_and_a_mark_at_the_begin_is_allowed(
    client: AgentBay, tmp_path: Path
) -> None:
    folder = tmp_path / "class" / "ada"
    folder.mkdir(parents=True)
    (folder / "data.csv").write_text("theirs")
    (folder / "main.py").write_text("\ufefftext = open('data.csv').read()", encoding="utf-8")

    def is_ours(it: Submission) -> bool:
        return bool(it.value("text") == "ours")

    checks = [Check("is_ours", 1, is_ours)]
    (source,) = find_submissions([tmp_path / "class"])
    got = Grader(client, checks, files=[("data.csv", b"ours")]).grade(source)
    assert (got.status, got.points) == ("graded", 1)


def test_the_table_of_an_earlier_run_is_kept(tmp_path: Path) -> None:
    for name in ("a.py", "b.py", "c.py"):
        Report(tmp_path, [], "1").add(Grade(name, "graded", 1, 1, 0.1))
        Report(tmp_path / "same", [], "1").add(Grade("a.py", "graded", 1, 1, 0.1, note=name))
    found = {path.name: path.read_text() for path in tmp_path.glob("*.csv")}
    assert set(found) == {"grades.csv", "grades-1.csv", "grades-2.csv"}
    assert "a.py" in found["grades-1.csv"] and "c.py" in found["grades.csv"]
    # Each table has its own pages.
    for table_name, note in (("grades-1", "a.py"), ("grades-2", "b.py"), ("grades", "c.py")):
        with (tmp_path / "same" / f"{table_name}.csv").open(newline="") as file:
            (row,) = csv.DictReader(file)
        assert f"<pre>{note}</pre>" in (tmp_path / "same" / row["evidence"]).read_text()


def test_the_table_has_no_formulas_and_each_page_its_own_name(tmp_path: Path) -> None:
    report = Report(tmp_path, [], "1")
    names = [
        "=cmd|' /C calc'!A0.py",
        "../../x.py",
        "a b.py",
        "a-b.py",
        "\n-1.py",
        "\uff1d1.py",
        "  =1",
    ]
    for name in names:
        report.add(Grade(name, "graded", 1, 1, 0.1, note='@SUM(1);=1+2; "+1; a=b'))
    with (tmp_path / "grades.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert re.match(r"\s*[\w'./]", row["submission"])
        assert row["note"] == "'@SUM(1);'=1+2; '\"+1; a=b"
        assert (tmp_path / row["evidence"]).parent == tmp_path / "evidence"
    assert len({row["evidence"] for row in rows}) == len(names)
    assert len(list((tmp_path / "evidence").iterdir())) == len(names)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("x = 1", "no checks"),
        ("1 / 0", "ZeroDivisionError"),
        ("from agentbay_kernel.grading import points\n@points(-1)\ndef check_a(s): pass", "-1"),
    ],
)
def test_checks_that_are_none_are_refused(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "c.py").write_text(content)
    with pytest.raises(ConfigurationError, match=told):
        load_checks(tmp_path / "c.py")


def test_a_check_with_the_name_of_another_column_is_refused(tmp_path: Path) -> None:
    for name in ("points", "note", "seconds"):
        with pytest.raises(ConfigurationError, match=f"Rename check_{name}"):
            Report(tmp_path, [Check(name, 1, lambda it: None)], "1")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a.py", "--checks", "missing.py"], "not a Python file"),
        (["a.py", "b.py", "--checks", "missing.py"], "There is no b.py"),
        ([".", "--checks", "missing.py"], "no submissions"),
        (["a.py", "--checks", "missing.py", "-j", "0"], "-j 0"),
        (["a.py", "--checks", "missing.py", "--timeout", "61"], "--timeout"),
        (["a.py"], "--checks"),
    ],
)
def test_invalid_arguments_exit_with_2(
    tmp_path: Path,
    arguments: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "a.py":
        (tmp_path / "a.py").touch()
    assert main(["grade", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_what_is_kept_of_a_submission_is_bounded(client: AgentBay, tmp_path: Path) -> None:
    def passes(it: Submission) -> None:
        pass

    prints = "print('x' * 10**5); 'y' * 10**5"
    notebook = new_notebook(cells=[new_code_cell(prints) for _ in range(40)])
    nbformat.write(notebook, tmp_path / "prints.ipynb")
    got = grader(client, passes).grade(Source("prints.ipynb", tmp_path / "prints.ipynb"))
    assert got.points == 1 and len(got.cells) == 40
    assert sum(len(it.stdout) + len(it.value) for it in got.cells) < 1_100_000
    notebook = new_notebook(cells=[new_code_cell("1") for _ in range(1001)])
    nbformat.write(notebook, tmp_path / "cells.ipynb")
    got = grader(client, passes).grade(Source("cells.ipynb", tmp_path / "cells.ipynb"))
    assert (got.status, got.points) == ("unreadable", 0) and "cells" in got.note


def test_on_a_terminal_what_runs_is_shown(runtime: LocalRuntimeProcess, tmp_path: Path) -> None:
    submission(tmp_path, "x = 1", "one.py")
    (tmp_path / "checks.py").write_text("def check_x(it): assert it.value('x') == 1\n")
    arguments = ["-m", "agentbay_kernel", "grade", "one.py", "--checks", "checks.py"]
    child = pexpect.spawn(
        sys.executable,
        arguments,
        cwd=str(tmp_path),
        env={**os.environ, **environment(runtime)},
        encoding="utf-8",
        timeout=100,
    )
    child.expect_exact("0 of 1 done; running: one.py")
    child.expect(r"\r\x1b\[Kone\.py +graded +1/1")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_ctrl_c_keeps_what_is_graded_and_leaves_no_session(
    runtime: LocalRuntimeProcess, client: AgentBay, tmp_path: Path
) -> None:
    (tmp_path / "class").mkdir()
    submission(tmp_path / "class", "def f(): return 1", "1.py")
    submission(tmp_path / "class", "def f():\n    while True: pass", "2.py")
    submission(tmp_path / "class", "def f(): return 1", "3.py")
    (tmp_path / "checks.py").write_text(
        "def check_f(it):\n    print('asks', it.name, flush=True)\n    assert it.call('f') == 1\n"
    )
    command = [sys.executable, "-m", "agentbay_kernel", "grade", "class"]
    process = subprocess.Popen(
        [*command, "--checks", "checks.py", "-j", "1", "--timeout", "60"],
        cwd=tmp_path,
        env={**os.environ, **environment(runtime)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    next(line for line in process.stdout if "asks 2.py" in line)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=100)
    assert process.returncode == 130, told
    rows = table(tmp_path / "grades")
    assert rows["1.py"]["points"] == "1"
    assert (rows["2.py"]["status"], rows["2.py"]["points"]) == ("stopped", "")
    assert "3.py" not in rows
    assert list(client.list_all()) == []


def test_same_is_what_a_grader_means() -> None:
    import numpy
    import pandas

    nan = float("nan")
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    times = pandas.to_datetime(["2026-01-01", None, "2026-01-02"])
    table = pandas.DataFrame({"a": [1, 2, 3], "b": ["x", None, "y"], "t": times})
    for given, expected in (
        (2, 2.0),
        (0.1 + 0.2, 0.3),
        (10**400, 10**400),
        ((1, 2), [1, 2.0]),
        (numpy.int64(10**10), 10**10),
        (Fraction(1, 3), 1 / 3),
        (Decimal("0.1"), 0.1),
        (Decimal("Infinity"), float("inf")),
        (complex(nan, 1), complex(nan, 1)),
        ({True, 2}, {2, True}),
        ({(1, True): 3}, {(1, True): 3.0}),
        (numpy.array([True]), numpy.array([True])),
        (numpy.array([nan, 1]), numpy.array([nan, 1 + 1e-15])),
        (numpy.array([1, "a", None], dtype=object), numpy.array([1, "a", None], dtype=object)),
        (table.astype({"a": "Int64"}), table),
        (table.set_index("b"), table.set_index("b")),
        (table["t"], table["t"].copy()),
        (pandas.NaT, pandas.NaT),
        (times.to_numpy(), times.to_numpy()),
        ({"a": nan}, {"a": nan}),
        ({1, 2}, {2, 1}),
        (numpy.array([1, 2]), numpy.array([1.0, 2.0])),
        (numpy.float64(2), 2),
        (numpy.bool_(True), True),
        (frame, frame.copy()),
        (frame["a"], frame["a"].astype(float)),
        (None, None),
    ):
        assert same(given, expected), (given, expected)
    for given, expected in (
        (nan, 1),
        (1, nan),
        (True, 1),
        (1, True),
        ("1", 1),
        (10**10 + 1, 10**10),
        (numpy.int64(10**10 + 1), 10**10),
        (numpy.array([10**10 + 1]), numpy.array([10**10])),
        (numpy.array([2**64 - 1], "u8"), numpy.array([-1], "i8")),
        (Fraction(10**12 + 1, 10**12), 1),
        (Decimal("1.0000000000001"), 1),
        (Decimal("Infinity"), 1.0),
        (Decimal("1e400"), float("inf")),
        (complex(nan, 1), complex(nan, 2)),
        ({1, 2}, {True, 2}),
        ({True: "a"}, {1: "a"}),
        ({(1, 2): "a"}, {(True, 2): "a"}),
        (table.assign(a=table["a"] == 1), table.assign(a=[1, 0, 0])),
        (table.assign(a=[10**10 + 1, 0, 0]), table.assign(a=[10**10, 0, 0])),
        (table.set_index("a"), table.set_index("b")),
        (table["a"], table["a"].rename("c")),
        (pandas.Index([1, 2]), pandas.Index([True, 2], dtype=object)),
        (numpy.array([True, False]), numpy.array([1, 0])),
        (float("inf"), 1e308),
        (10**400, 1.5),
        ([1, 2], [1]),
        ([1], {1}),
        ({"a": 1}, {"b": 1}),
        (deep, deep),
        (None, 0),
        (numpy.array([1, 2]), [1, 2, 3]),
        ([1, 2], numpy.array([1, 2])),
        (numpy.array([[1]]), numpy.array([1])),
        (frame, frame.rename(columns={"a": "c"})),
        (frame["a"], frame),
        (SubmissionError("x"), "x"),
    ):
        assert not same(given, expected), (given, expected)
