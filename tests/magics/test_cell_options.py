"""The flags of `%%agentbay LANGUAGE`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernels import Ran, RunningKernel


def value(notebook: RunningKernel, expression: str) -> str:
    """What an expression of the notebook's own Python is."""
    ran = notebook.run(f"print({expression})")
    assert ran.reply["status"] == "ok", ran
    return ran.text().rstrip("\n")


def status(notebook: RunningKernel) -> str:
    shown = notebook.run("%agentbay status --json").of_type("display_data")[0]["data"]
    text: str = shown["text/plain"]
    return text


def failed(ran: Ran, told: str) -> None:
    assert ran.reply["status"] == "error"
    assert told in ran.reply["evalue"], ran.reply["evalue"]


def test_to_keeps_the_outcome(notebook: RunningKernel) -> None:
    notebook.run("%%agentbay python\n1")  # the first cell also says where it runs
    ran = notebook.run(
        "%%agentbay python --capture kept\nimport sys\nprint('one')\n"
        "print('two', file=sys.stderr)\n6 * 7"
    )
    assert ran.outputs == []
    assert value(notebook, "(kept.stdout, kept.result, kept.ok)") == "('one\\n', '42', True)"
    assert "two" in value(notebook, "kept.stderr")
    assert value(notebook, "[o['output_type'] for o in kept.outputs][-1]") == "execute_result"
    assert float(value(notebook, "kept.seconds")) > 0
    assert len(value(notebook, "kept.request_id")) > 10
    assert notebook.run("kept.show()").of_type("display_data")[0]["data"]["text/plain"] == "42"


def test_to_keeps_an_error_and_says_so(notebook: RunningKernel) -> None:
    ran = notebook.run("%%agentbay python --capture kept\nprint('before')\n1/0")
    assert ran.reply["status"] == "ok"
    assert "failed with ZeroDivisionError: see kept.error" in ran.text("stderr")
    assert value(notebook, "kept.error['ename'], kept.ok") == "ZeroDivisionError False"
    assert value(notebook, "kept.stdout") == "before"


def test_silent_shows_only_errors(notebook: RunningKernel) -> None:
    ran = notebook.run("%%agentbay python --silent\nprint('quiet')\n1")
    assert ran.outputs == []
    ran = notebook.run("%%agentbay python --silent\nprint('quiet')\n1/0")
    assert [output["msg_type"] for output in ran.outputs] == ["error"]


def test_timeout(notebook: RunningKernel) -> None:
    ran = notebook.run("%%agentbay python -t 0.5\nimport time\ntime.sleep(600)")
    assert ran.reply["ename"] == "KeyboardInterrupt"
    assert "longer than 0.5 s" in ran.text("stderr")


def test_a_session_of_another_name_has_its_own_variables(notebook: RunningKernel) -> None:
    notebook.run("%%agentbay python\nwho = 'default'")
    notebook.run("%%agentbay python -s second\nwho = 'second'")
    assert notebook.run("%%agentbay python\nprint(who)").text() == "default\n"
    assert notebook.run("%%agentbay python --session=second\nprint(who)").text() == "second\n"
    assert '"second"' in status(notebook)


def test_ephemeral_leaves_nothing(notebook: RunningKernel) -> None:
    notebook.run("%%agentbay python\nleft = 1")
    ran = notebook.run("%%agentbay python --ephemeral\nprint('left' in globals())")
    assert ran.text() == "False\n"
    for _ in range(100):
        if "once-" not in status(notebook):
            break
    assert "once-" not in status(notebook)


# How code shows an error that does not end it, and how it ends with one that it does not show.
DISPLAYED = (
    "try:\n    1/0\nexcept ZeroDivisionError:\n    get_ipython().showtraceback()\n"
    "print('goes on')\nhere = 5"
)
GROUP = "raise ExceptionGroup('several', [ValueError('one')])"
UNSHOWN = (
    "get_ipython().set_custom_exc((KeyError,), lambda *_, **__: None)\n"
    "try:\n    1/0\nexcept ZeroDivisionError:\n    get_ipython().showtraceback()\n"
    "raise KeyError('k')"
)


@pytest.mark.parametrize(("code", "ename"), [(GROUP, "ExceptionGroup"), (UNSHOWN, "KeyError")])
def test_an_error_that_is_not_displayed_fails_the_cell(
    notebook: RunningKernel, code: str, ename: str
) -> None:
    assert notebook.run(f"%%agentbay python\n{code}").reply["ename"] == ename
    notebook.run(f"%%agentbay python --capture kept\n{code}")
    assert value(notebook, "kept.ok, kept.error['ename']") == f"False {ename}"
    assert notebook.run(f"%%agentbay python --out nowhere\n{code}").reply["ename"] == ename
    notebook.run(f"%%agentbay python --background --capture job\n{code}")
    assert value(notebook, "job.wait().ok, job.wait().error['ename']") == f"False {ename}"
    shown = notebook.run("%agentbay last").of_type("display_data")[0]["data"]["text/plain"]
    assert ename in shown


def test_an_error_that_is_only_displayed_fails_nothing(notebook: RunningKernel) -> None:
    ran = notebook.run(f"%%agentbay python --out here\n{DISPLAYED}")
    assert (ran.reply["status"], ran.text()) == ("ok", "goes on\n")
    assert "ZeroDivisionError" in ran.text("stderr")
    assert value(notebook, "here") == "5"
    notebook.run(f"%%agentbay python --capture kept\n{DISPLAYED}")
    assert value(notebook, "kept.ok, kept.error") == "True None"
    assert "ZeroDivisionError" in value(notebook, "kept.text()")
    notebook.run(f"%%agentbay python --background --capture job\n{DISPLAYED}")
    assert value(notebook, "job.result().ok") == "True"


def test_the_error_that_ends_a_cell_is_shown_once(notebook: RunningKernel) -> None:
    flush = "get_ipython().events.register('post_execute', shown := lambda: display('figure'))"
    ran = notebook.run(f"%%agentbay python\n{flush}\ntry:\n    1/0\nfinally:\n    print('last')")
    notebook.run("%%agentbay python\nget_ipython().events.unregister('post_execute', shown)")
    assert [it["ename"] for it in ran.of_type("error")] == ["ZeroDivisionError"]
    assert "ZeroDivisionError" not in ran.text("stderr")
    assert "'figure'" in str(ran.of_type("display_data"))


def test_background(notebook: RunningKernel) -> None:
    ran = notebook.run(
        "%%agentbay python -s second --background\nimport time\nprint('begun', flush=True)\n"
        "while True: time.sleep(.1)"
    )
    (shown,) = ran.of_type("execute_result")
    assert "BackgroundCell" in shown["data"]["text/plain"]
    # The other session works meanwhile.
    assert notebook.run("%%agentbay python\nprint('beside')").text() == "beside\n"
    notebook.run("job = _\nimport time\nwhile not job.outputs: time.sleep(.05)")
    assert value(notebook, "job.done, job.outputs[0]['text']") == "False begun\n".rstrip()
    failed(notebook.run("job.wait(.1)"), "It still runs")
    assert value(notebook, "job.cancel(), job.wait().error['ename']") == "True KeyboardInterrupt"
    assert value(notebook, "job.done, job.cancel()") == "True False"
    assert notebook.run("job.result()").reply["ename"] == "KeyboardInterrupt"
    assert notebook.run("%%agentbay python -s second\nprint('usable')").text() == "usable\n"


def test_background_into_a_variable(notebook: RunningKernel) -> None:
    assert notebook.run("%%agentbay js --background --capture job\n6 * 7").outputs == []
    assert value(notebook, "job.wait().result, job.outcome.ok") == "42 True"


def test_a_name_that_is_here_is_the_hint(notebook: RunningKernel) -> None:
    notebook.run("frame = [1, 2]")
    (error,) = notebook.run("%%agentbay python\nframe").of_type("error")
    assert error["traceback"][-1].startswith("frame exists in this notebook: add `-i frame`")
    (error,) = notebook.run("%%agentbay python\nnowhere").of_type("error")
    assert "nowhere" in error["traceback"][-1]
    assert "-i" not in error["traceback"][-1]


def test_a_file_that_is_here_is_the_hint(notebook: RunningKernel, folder: Path) -> None:
    (folder / "my data.csv").write_text("a,b\n")
    (error,) = notebook.run("%%agentbay python\nopen('my data.csv')").of_type("error")
    assert "`%agentbay upload 'my data.csv'`" in error["traceback"][-1]
    ran = notebook.run("%%agentbay js\nrequire('fs').readFileSync('my data.csv')")
    assert "`%agentbay upload 'my data.csv'`" in ran.of_type("error")[0]["traceback"][-1]


def test_last(notebook: RunningKernel, folder: Path) -> None:
    notebook.run("%%agentbay python\n1")  # the first cell's output also says where it runs
    notebook.run("%%agentbay python\nprint('a line')\n'a value'")
    shown = notebook.run("%agentbay last").of_type("display_data")[0]["data"]["text/plain"]
    assert "python in session default" in shown
    assert "7 characters" in shown
    notebook.run("%agentbay last --save said.txt")
    assert (folder / "said.txt").read_text() == "a line\n'a value'\n"
    failed(notebook.run("%agentbay last --save said.txt"), "is there already")
    assert notebook.run("%agentbay last --save said.txt --force").reply["status"] == "ok"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("python -t 0", "not a number of seconds above 0"),
        ("python -t soon", "not a number of seconds above 0"),
        ("python -s ''", "not a name for a session"),
        ("python -s ../x", "not a name for a session"),
        ("python --capture 1x", "not the name of a variable"),
        ("python -i a,b-c", "not the name of a variable"),
        ("python --ephemeral -s x", "can't be used with --session"),
        ("python --background -o x", "doesn't wait for"),
        ("python --frobnicate", "has no flag --frobnicate. It has: -h, --help, -s, --session"),
        ("python javascript", "doesn't take 'javascript'"),
        ("-s x", "the following arguments are required: LANGUAGE"),
        ("cobol", "Unsupported language"),
    ],
)
def test_a_wrong_line_is_told_and_nothing_is_sent(
    notebook: RunningKernel, line: str, told: str
) -> None:
    ran = notebook.run(f"%%agentbay {line}\nprint('must not run')")
    failed(ran, told)
    assert ran.text() == ""
    # Where in this project it was found helps nobody.
    assert len(ran.of_type("error")[0]["traceback"]) == 1


def test_help_of_the_cell_magic(notebook: RunningKernel) -> None:
    shown = notebook.run("%%agentbay --help\n1").of_type("display_data")[0]["data"]["text/plain"]
    assert shown.startswith("usage: %%agentbay")
    for flag in ("--session", "--timeout", "--in", "--out", "--capture", "--silent", "--ephemeral"):
        assert flag in shown


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("%agentbay stat|", ["status"]),
        ("%%agentbay java|", ["javascript"]),
        ("%%agentbay python --in fram|", ["frame"]),
        ("%%agentbay python\nremote_na|", ["remote_name"]),
        ("%%agentbay python\nx = 1\nremote_na|", ["remote_name"]),
    ],
)
def test_completion(notebook: RunningKernel, code: str, expected: list[str]) -> None:
    notebook.run("frame = local_frame = 1")
    notebook.run("%%agentbay python\nremote_name = 1")
    assert completions(notebook, code) == expected


def test_local_names_are_not_offered_beside_remote_ones(notebook: RunningKernel) -> None:
    notebook.run("shared_here = 1")
    notebook.run("%%agentbay python\nshared_there = 1")
    assert completions(notebook, "shared_|") == ["shared_here"]
    assert completions(notebook, "%%agentbay python\nshared_|") == ["shared_there"]
    # Nor where the sandbox has none of that name.
    notebook.run("only_here = 1")
    assert completions(notebook, "only_h|") == ["only_here"]
    assert completions(notebook, "%%agentbay python\nonly_h|") == []
    assert completions(notebook, "%agentbay status only_h|") == []


def completions(notebook: RunningKernel, code: str) -> list[str]:
    """The matches where `|` stands."""
    notebook.client.complete(code.replace("|", ""), code.index("|"))
    matches: list[str] = notebook.client.get_shell_msg(timeout=60)["content"]["matches"]
    return matches


def test_values_go_in_and_come_out(notebook: RunningKernel) -> None:
    notebook.run("numbers = [1, 2.5, None]; label = 'Größe'")
    ran = notebook.run(
        "%%agentbay python -i numbers,label --out total -o words\n"
        "total = sum(n or 0 for n in numbers)\nwords = {label: numbers}"
    )
    assert ran.reply["status"] == "ok", ran
    assert value(notebook, "total, words") == "3.5 {'Größe': [1, 2.5, None]}"
    notebook.run("%%agentbay js -i numbers -o twice\nconst twice = numbers.map(n => n * 2)")
    assert value(notebook, "twice") == "[2, 5, 0]"


@pytest.mark.slow
def test_a_table_goes_in_and_comes_out(notebook: RunningKernel) -> None:
    notebook.run("import pandas as pd\ndf = pd.DataFrame({'a': [1, 2], 'b': ['x', None]})")
    ran = notebook.run("%%agentbay python -i df -o back\nback = df.assign(c=df.a * 2)")
    assert ran.reply["status"] == "ok", ran
    assert value(notebook, "back.equals(df.assign(c=df.a * 2))") == "True"


def test_a_name_that_is_nowhere_is_told(notebook: RunningKernel) -> None:
    ran = notebook.run("%%agentbay python -i not_here\nprint('must not run')")
    failed(ran, "no variable not_here")
    assert ran.text() == ""
    ran = notebook.run("%%agentbay python -o not_there\nprint('runs')")
    assert ran.text() == "runs\n"
    assert "not_there" in ran.reply["evalue"]


def test_background_gets_the_value_of_now(notebook: RunningKernel) -> None:
    notebook.run("changing = 1")
    notebook.run("%%agentbay python -i changing --background --capture job\nchanging")
    notebook.run("changing = 2")
    assert value(notebook, "job.wait().result") == "1"


@pytest.mark.parametrize("sessions", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_sessions_work_in_parallel(notebook: RunningKernel, sessions: int) -> None:
    names = [f"parallel{number}" for number in range(sessions)]
    notebook.run("jobs = {}")
    for name in names:
        notebook.run(
            f"%%agentbay python -s {name} --background --capture job\nimport time\n"
            "print('begun', flush=True)\nwhile True: time.sleep(.05)"
        )
        notebook.run(f"jobs['{name}'] = job")
    begun = notebook.run(
        "import time\ndeadline = time.monotonic() + 50\n"
        "while not all(job.outputs for job in jobs.values()):\n"
        "    assert time.monotonic() < deadline; time.sleep(.05)"
    )
    assert begun.reply["status"] == "ok", begun
    # All have begun and none has ended.
    assert value(notebook, "any(job.done for job in jobs.values())") == "False"
    assert value(notebook, "{job.cancel() for job in jobs.values()}") == "{True}"
    ends = value(notebook, "{job.wait().error['ename'] for job in jobs.values()}")
    assert ends == "{'KeyboardInterrupt'}"
