"""`run_code` through the official SDK: results, errors, state, timeouts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest


def failure_of(result: Any) -> dict[str, Any]:
    """The document that a failing run answers with (error shape A)."""
    assert not result.success
    document = json.loads(result.error_message)
    assert isinstance(document, dict)
    return document


def test_the_last_expression_is_the_result(session: Any) -> None:
    result = session.code.run_code("print('printed')\n6 * 7", "python")
    assert result.success
    assert result.result == "42"
    assert result.logs.stdout == ["printed\n"]
    assert [item.is_main_result for item in result.results] == [True]


def test_state_persists_and_runs_are_counted(session: Any) -> None:
    first = session.code.run_code("kept = 41", "python")
    second = session.code.run_code("kept + 1", "py")
    assert second.result == "42"
    assert second.execution_count == first.execution_count + 1
    assert second.execution_time > 0


def test_rich_results(session: Any) -> None:
    code = """
from IPython.display import HTML, Latex, Markdown, SVG, display
display(HTML("<b>h</b>"))
display(Markdown("*m*"), Latex("$l$"))
display({"application/vnd.vegalite.v5+json": {"mark": "bar"}, "text/plain": "c"}, raw=True)
HTML("<i>last</i>")
"""
    result = session.code.run_code(code, "python")
    html, markdown, latex, chart, last = result.results
    assert html.html == "<b>h</b>" and not html.is_main_result
    assert markdown.markdown == "*m*"
    assert latex.latex == "$l$"
    assert chart.chart == {"mark": "bar"}
    assert last.html == "<i>last</i>" and last.is_main_result


def test_a_plot_is_a_png(session: Any) -> None:
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
    result = session.code.run_code(code, "python")
    assert [bool(item.png) for item in result.results] == [True]
    assert not result.results[0].is_main_result


def test_a_runtime_error_carries_output_and_traceback(session: Any) -> None:
    result = session.code.run_code("print('before')\n1 / 0", "python")
    document = failure_of(result)
    assert document["executionError"] == "ZeroDivisionError: division by zero"
    assert document["stdout"] == ["before\n"]
    assert "Traceback" in "".join(document["stderr"])
    assert "\x1b" not in "".join(document["stderr"])
    assert document["traceId"]


def test_a_syntax_error(session: Any) -> None:
    result = session.code.run_code("print('a'", "python")
    assert "SyntaxError" in failure_of(result)["executionError"]


def test_an_updated_display_is_answered_as_it_ended(session: Any) -> None:
    code = """
from IPython.display import display
handle = display("first", display_id=True)
handle.update("second")
"""
    result = session.code.run_code(code, "python")
    assert [item.text for item in result.results] == ["'second'"]


def test_javascript_keeps_its_context_and_a_scripts_rules(make_session: Any) -> None:
    session = make_session()
    result = session.code.run_code("const a = 40; console.log('out'); a + 2", "javascript")
    assert result.result == "42"
    assert result.logs.stdout == ["out\n"]
    assert session.code.run_code("a + 1", "js").result == "41"
    redeclared = session.code.run_code("const a = 1", "js")
    assert failure_of(redeclared)["executionError"] == (
        "SyntaxError: Identifier 'a' has already been declared"
    )
    awaited = session.code.run_code("await 1", "js")
    assert "SyntaxError" in failure_of(awaited)["executionError"]
    assert session.code.run_code("undefined", "js").results == []


def test_javascript_errors_show_the_script_and_not_the_worker(session: Any) -> None:
    result = session.code.run_code("console.error('e');\nnull.x", "javascript")
    document = failure_of(result)
    assert document["executionError"].startswith("TypeError: Cannot read properties of null")
    assert document["stderr"][0] == "e\n"
    assert ":2:6" in document["stderr"][1]
    assert "node_worker" not in document["stderr"][1] and "node:" not in document["stderr"][1]


def test_javascript_timers_neither_delay_nor_print(session: Any) -> None:
    code = (
        "setTimeout(() => console.log('late'), 1_000_000);"
        "Promise.resolve().then(() => console.log('soon')); 1"
    )
    result = session.code.run_code(code, "javascript")
    assert result.success and result.logs.stdout == ["soon\n"]


def test_an_uncaught_error_in_a_timer_is_survived(session: Any) -> None:
    session.code.run_code(
        "globalThis.fired = false; setTimeout(() => { fired = true; throw 1 })", "js"
    )
    deadline = time.monotonic() + 10
    while session.code.run_code("fired", "js").result != "true":
        assert time.monotonic() < deadline


def test_languages_share_files(session: Any) -> None:
    session.code.run_code("open('shared.txt', 'w').write('from python')", "python")
    code = "require('fs').readFileSync('shared.txt', 'utf8')"
    assert session.code.run_code(code, "javascript").result == "'from python'"
    assert session.command.execute_command("cat shared.txt").stdout == "from python"


def in_both_languages(check: Callable[[str], None]) -> None:
    """Check both at the same time: each mostly waits."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(check, ("python", "javascript")))


def test_code_that_overruns_is_stopped_and_state_kept(make_session: Any) -> None:
    session = make_session()

    def check(language: str) -> None:
        if language == "python":
            kept, loop = "x = 7", "print('began')\nwhile True: pass"
        else:
            kept, loop = "var x = 7", "console.log('began'); while (true) {}"
        session.code.run_code(kept, language)
        document = failure_of(session.code.run_code(loop, language, timeout_s=1))
        assert document["executionError"].startswith("TimeoutError: "), language
        assert "variables are kept" in document["executionError"], language
        assert document["stdout"] == ["began\n"], language
        assert session.code.run_code("x", language).result == "7", language

    in_both_languages(check)


def test_code_that_ignores_the_interrupt_is_killed(make_session: Any) -> None:
    session = make_session()
    stubborn = {
        "python": (
            "import time\nwhile True:\n    try: time.sleep(9)\n    except KeyboardInterrupt: pass"
        ),
        # What follows a wait is not the script that an interrupt reaches.
        "javascript": "Promise.resolve().then(() => { while (true) {} }); 1",
    }

    def check(language: str) -> None:
        done = session.code.run_code(stubborn[language], language, timeout_s=1)
        assert "all variables are lost" in failure_of(done)["executionError"], language
        assert session.code.run_code("1 + 1", language).result == "2", language

    in_both_languages(check)


def test_a_timeout_at_a_scripts_end_does_not_hit_the_next_script(make_session: Any) -> None:
    session = make_session()
    session.code.run_code("var survived = 0", "javascript")
    busy = "for (const end = Date.now() + {}; Date.now() < end;);"
    for number in range(8):
        session.code.run_code(busy.format(95 + 2 * number), "javascript", timeout_s=0.1)
        result = session.code.run_code(f"{busy.format(30)} ++survived", "javascript")
        assert result.result == str(number + 1), result.error_message


def test_what_a_script_waits_for_is_ended_at_its_timeout(make_session: Any) -> None:
    session = make_session()
    session.code.run_code("var { execSync } = require('child_process'), kept = 7", "javascript")
    code = "execSync('sleep 60')"
    document = failure_of(session.code.run_code(code, "javascript", timeout_s=1))
    assert "variables are kept" in document["executionError"]
    assert session.code.run_code("kept", "javascript").result == "7"


def test_a_child_that_ends_by_an_interrupt_is_no_timeout(session: Any) -> None:
    code = "require('child_process').execSync('kill -INT $$')"
    document = failure_of(session.code.run_code(code, "javascript"))
    assert "Command failed" in document["executionError"]
    assert "TimeoutError" not in document["executionError"]


@pytest.mark.parametrize(
    ("language", "suicide"),
    [("python", "import os; os._exit(3)"), ("javascript", "process.exit(3)")],
)
def test_a_process_that_ends_is_told_and_started_again(
    make_session: Any, language: str, suicide: str
) -> None:
    session = make_session()
    document = failure_of(session.code.run_code(suicide, language))
    assert "exit status 3" in document["executionError"]
    again = session.code.run_code("1 + 1", language)
    assert again.result == "2" and again.execution_count == 1


def test_languages_run_side_by_side(session: Any) -> None:
    marker = "both"
    waiter = f"import os, time\nwhile not os.path.exists('{marker}'): time.sleep(0.01)\n'seen'"
    found: list[str] = []
    thread = threading.Thread(
        target=lambda: found.append(session.code.run_code(waiter, "python", timeout_s=30).result)
    )
    thread.start()
    session.code.run_code(f"require('fs').writeFileSync('{marker}', '')", "javascript")
    thread.join(30)
    assert found == ["'seen'"]


def test_one_language_runs_one_after_the_other(session: Any) -> None:
    session.code.run_code("import time\norder = []", "python")
    code = "order.append('in')\ntime.sleep(0.1)\norder.append('out')"
    threads = [
        threading.Thread(target=session.code.run_code, args=(code, "python")) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (
        session.code.run_code("','.join(order)", "python").result
        == "'" + ",".join(["in", "out"] * 3) + "'"
    )


def test_large_output(session: Any) -> None:
    result = session.code.run_code("print('x' * 5_000_000)\n'y' * 1_000_000", "python")
    assert len("".join(result.logs.stdout)) == 5_000_001
    assert len(result.result) == 1_000_002


def test_input_is_refused_not_waited_for(session: Any) -> None:
    document = failure_of(session.code.run_code("input('?')", "python"))
    assert "StdinNotImplementedError" in document["executionError"]


def test_what_a_script_prints_late_reaches_no_other(session: Any) -> None:
    session.code.run_code("timer = setInterval(() => console.log('late'), 1)", "js")
    code = "let end = Date.now() + 300; while (Date.now() < end); 'quiet'"
    result = session.code.run_code(code, "js")
    assert result.result == "'quiet'" and result.logs.stdout == []
    session.code.run_code("clearInterval(timer)", "js")
