"""The Python engine: what a notebook's shell does, beyond results and errors."""

from __future__ import annotations

import contextlib
import json
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.local.test_run_code import failure_of


def run(session: Any, code: str, **arguments: Any) -> Any:
    """Run Python that succeeds."""
    result = session.code.run_code(code, "python", **arguments)
    assert result.success, result.error_message
    return result


def call(session: Any, code: str) -> Any:
    """The only result of Python, as the service's document has it."""
    arguments = {"code": code, "language": "python", "timeout_s": 60}
    (item,) = json.loads(session.call_mcp_tool("run_code", arguments).data)["result"]
    return json.loads(item)


def printed(session: Any, code: str) -> str:
    """What Python prints to stdout."""
    return "".join(run(session, code).logs.stdout)


def test_neither_jupyter_nor_zmq_is_loaded(session: Any) -> None:
    code = "import sys; sorted({n.partition('.')[0] for n in sys.modules} & {names})"
    names = {"ipykernel", "jupyter_client", "zmq", "tornado"}
    assert run(session, code.replace("{names}", repr(names))).result == "[]"


def test_a_session_has_no_path_of_the_engine(session: Any) -> None:
    code = """
import os
[entry.name for entry in os.scandir(os.path.dirname(os.environ['IPYTHONDIR'])) if entry.is_file()]
"""
    assert run(session, code).result == "[]"


def test_a_cell_imports_modules_of_its_directory(session: Any) -> None:
    """As in any notebook: those beside it, also after `%cd`."""
    code = (
        "import os\nos.makedirs('below', exist_ok=True)\n"
        "with open('beside.py', 'w') as f: f.write('x = 3')\n"
        "with open('below/lower.py', 'w') as f: f.write('y = 4')\n"
        "import beside\n%cd -q below\nimport lower\n%cd -q ..\nbeside.x + lower.y"
    )
    assert run(session, code).result == "7"


@pytest.mark.parametrize(
    "code",
    [
        "import os\nprint('a'); os.system('echo b'); print('c')",
        "import subprocess\nprint('a'); _ = subprocess.run(['echo', 'b']); print('c')",
        "import os\nprint('a', flush=True); _ = os.write(1, b'b\\n'); print('c', flush=True)",
        "print('a')\n!echo b\nprint('c')",
        "print('a')\nprint('b', end=''); print()\nprint('c')",
        "import multiprocessing\ndef work(): print('b')\nprint('a', flush=True)\n"
        "p = multiprocessing.get_context('fork').Process(target=work)\n"
        "p.start(); p.join()\nprint('c')",
    ],
)
def test_output_comes_in_the_order_in_which_it_was_written(session: Any, code: str) -> None:
    assert printed(session, code).replace("\r", "") == "a\nb\nc\n"


def test_a_child_has_its_place_however_quick_it_is(session: Any) -> None:
    code = (
        "import os, subprocess\nfor _ in range(300):\n"
        "    print('a'); os.system('echo b'); print('c')\n"
        "    print('d'); _ = subprocess.run(['/bin/echo', 'e'], close_fds=False); print('f')"
    )
    assert printed(session, code) == "a\nb\nc\nd\ne\nf\n" * 300


def test_streams_and_displays_keep_their_order_when_streamed(session: Any) -> None:
    seen: list[str] = []
    session.code.run_code(
        "import sys\nfrom IPython.display import display\n"
        "print('1'); print('2', file=sys.stderr); display('3'); print('4')",
        "python",
        stream_beta=True,
        on_stdout=seen.append,
        on_stderr=seen.append,
    )
    assert seen == ["1\n", "2\n", "4\n"]


def test_a_cell_that_forks_is_answered_once(session: Any) -> None:
    assert printed(session, "import os\nif (pid := os.fork()): os.waitpid(pid, 0)\nprint('x')") in (
        "x\nx\n",
        "x\n",
    )
    assert run(session, "6 * 7").result == "42"


def test_tasks_go_on_in_later_cells(session: Any) -> None:
    run(
        session,
        "import asyncio\nticks = []\nasync def tick():\n"
        "    while True:\n        ticks.append(1)\n        await asyncio.sleep(0.001)\n"
        "task = asyncio.create_task(tick())",
    )
    code = (
        "before = len(ticks)\n"
        "while len(ticks) < before + 3: await asyncio.sleep(0.001)\ntask.cancel()"
    )
    assert run(session, code).result == "True"


@pytest.mark.parametrize(
    "code",
    [
        "import time\ntime.sleep(60)",
        "import asyncio\nawait asyncio.sleep(60)",
        "import asyncio\nawait asyncio.sleep(0)\nwhile True: pass",
        "import subprocess\nsubprocess.run(['sleep', '60'])",
        "import re\nre.match('(a+)+$', 'a' * 60 + 'b')",
        "import threading\nthreading.Event().wait()",
        "while True: print('x' * 10000)",
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\nwhile True: pass",
    ],
)
def test_a_timeout_interrupts_and_keeps_the_variables(session: Any, code: str) -> None:
    run(session, "kept = 7")
    document = failure_of(session.code.run_code(code, "python", timeout_s=0.3))
    assert "variables are kept" in document["executionError"]
    assert run(session, "kept").result == "7"


@contextlib.contextmanager
def interrupts_without_end(session: Any, pid: str) -> Iterator[None]:
    """Send SIGINT to a process of the session, again and again, from its shell."""
    # Three in quick succession, then a pause of a fork.
    burst = f"kill -INT {pid} && kill -INT {pid} && kill -INT {pid}"
    storm = f"touch storm; while [ -e storm ] && {burst}; do touch raging; : $(:); done"
    thread = threading.Thread(target=session.command.execute_command, args=(storm, 60_000))
    thread.start()
    try:
        while not session.command.execute_command("rm raging").success:
            assert thread.is_alive()
        yield
    finally:
        session.command.execute_command("rm storm")
        thread.join()


@pytest.mark.parametrize(
    "code",
    [
        "1 + 1",
        "print('x' * 100_000)",
        "1 / 0",
        "import asyncio\nawait asyncio.sleep(0)",
        "import signal\n_ = signal.signal(signal.SIGINT, signal.default_int_handler)",
        "import signal\n_ = signal.signal(signal.SIGINT, signal.SIG_IGN)",
        "def stubborn():\n    try:\n        1 + 1\n"
        "    except KeyboardInterrupt:\n        stubborn()\nstubborn()",
        "%nothing",
        "1 +",
    ],
)
def test_interrupts_at_any_instant_do_no_harm(session: Any, code: str) -> None:
    pid = run(session, "import os; os.getpid()").result
    with interrupts_without_end(session, pid):
        for _ in range(10):
            # Code can be hit while it runs; the engine answers all the same, and once.
            session.code.run_code(code, "python")
    assert run(session, "os.getpid()").result == pid
    assert printed(session, "print('well')") == "well\n"


# `make test` has some of them.
@pytest.mark.parametrize("times", [5, pytest.param(15, marks=pytest.mark.slow)])
def test_a_timeout_at_a_cells_end_does_not_hit_the_next_cell(make_session: Any, times: int) -> None:
    session = make_session()
    run(session, "import time; survived = 0")
    for _ in range(times):
        session.code.run_code("time.sleep(0.1)", "python", timeout_s=0.1)
        run(session, "survived += 1")
    assert run(session, "survived").result == str(times)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import sys\nsys.exit(3)", "SystemExit"),
        ("import getpass\ngetpass.getpass()", "StdinNotImplementedError"),
        ("def f(): f()\nf()", "RecursionError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("class E(Exception):\n    def __str__(self): raise ValueError\nraise E", "ValueError"),
        ("raise ValueError('\\ud800')", "ValueError"),
        ("raise ValueError('x' * 50_000_000)", "ValueError"),
        ("await nothing", "NameError"),
        ("%nothing", "UsageError"),
    ],
)
def test_errors_have_their_names_and_the_session_lives(session: Any, code: str, name: str) -> None:
    result = session.code.run_code(code, "python")
    if name == "UsageError":
        assert "nothing" in "".join(result.logs.stderr)
    else:
        assert failure_of(result)["executionError"].startswith(name)
    assert run(session, "6 * 7").result == "42"


def test_exit_ends_the_process_after_its_cell(make_session: Any) -> None:
    session = make_session()
    assert printed(session, "print('before')\nexit()") == "before\n"
    # It is seen as ended at once or with the next cell.
    session.code.run_code("1", "python")
    assert run(session, "'new'").execution_count <= 2


def test_a_crash_is_told(make_session: Any) -> None:
    session = make_session()
    code = "print('before', flush=True)\nimport ctypes; ctypes.string_at(0)"
    document = failure_of(session.code.run_code(code, "python"))
    assert "signal SIGSEGV" in document["executionError"]
    assert document["stdout"] == ["before\n"]
    again = run(session, "1 + 1")
    assert again.result == "2" and again.execution_count == 1


def test_what_a_thread_prints_late_goes_to_nobody(session: Any) -> None:
    run(
        session,
        "import threading, time\nticking = True\ndef tick():\n"
        "    while ticking: print('late ' * 1000)\n"
        "thread = threading.Thread(target=tick); thread.start()",
    )
    # Nobody reads between cells, and the thread is not held up by that.
    assert run(session, "ticking = False; thread.join(); 6 * 7").result == "42"
    assert printed(session, "print('quiet')") == "quiet\n"


@pytest.mark.parametrize(
    ("shown", "data"),
    [
        ("{'a/b': float('nan')}", {"a/b": "nan"}),
        ("{'a/b': {1: (2, 3)}}", {"a/b": {"1": [2, 3]}}),
        ("{'image/png': b'\\x89PNG'}", {"image/png": "iVBORw=="}),
        ("{'text/plain': '\\ud800'}", {"text/plain": "\ufffd"}),
        ("{'a/b': object}", None),
        ("{'a/b': __import__('numpy').float64(1.5)}", {"a/b": 1.5}),
        ("{'a/b': __import__('numpy').arange(3)}", {"a/b": [0, 1, 2]}),
    ],
)
def test_data_that_json_has_no_word_for(session: Any, shown: str, data: Any) -> None:
    code = f"from IPython.display import display\ndisplay({shown}, raw=True)"
    result = session.code.run_code(code, "python")
    assert result.success, result.error_message
    assert run(session, "6 * 7").result == "42"
    if data is not None:
        answer = call(session, code)
        assert {key: answer[key] for key in data} == data


@pytest.mark.parametrize(
    "code",
    [
        "import ipywidgets\nipywidgets.IntSlider()",
        "import ipywidgets\nfrom IPython.display import display\n"
        "out = ipywidgets.Output()\nwith out: print('x')\ndisplay(out)",
        "from tqdm.auto import tqdm\nfor _ in tqdm(range(3)): pass",
        "import comm\ncomm.create_comm(target_name='x').send({})",
        "get_ipython().kernel.comm_manager.register_target('x', print)",
        "from IPython.display import clear_output\nprint(1); clear_output(wait=True); print(2)",
        "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1]); plt.show()",
        "%%bash\necho hi",
        "%%capture held\nprint('x')",
        "%time sum(range(10))",
        "%store",
        "len?",
        "import pandas as pd\npd.DataFrame({'a': [1]})",
    ],
)
def test_what_notebooks_do_works(session: Any, code: str) -> None:
    run(session, code)


def test_the_shell_is_known_as_a_notebooks(session: Any) -> None:
    assert run(session, "get_ipython().__class__.__name__").result == "'ZMQInteractiveShell'"
    assert run(session, "Out[max(Out)], In[-2][:8]").result == "('ZMQInteractiveShell', 'get_ipyt')"


def test_nothing_that_cells_register_is_called_between_them(
    make_session: Callable[..., Any],
) -> None:
    made = make_session()
    register = """
        called = []
        note = lambda it, *_: (called.append(it), it)[1]
        get_ipython().input_transformers_post.append(note)
        get_ipython().display_formatter.formatters["text/html"].for_type(int, note)
        """
    run(made, textwrap.dedent(register))
    # What the engine does ahead comes soon after its start.
    time.sleep(1)
    run(made, "others = [it for it in called if 'others' not in str(it)]")
    assert run(made, "others, len(called) > 0").result == "([], True)"


@pytest.mark.parametrize(
    "code",
    [
        "%config IPCompleter.use_jedi = False\nassert get_ipython().Completer.use_jedi is False\n"
        "value_of_mine = 1\nassert get_ipython().complete('value_of_m')[1] == ['value_of_mine']",
        "assert hasattr(get_ipython(), 'Completer') and not hasattr(get_ipython(), 'nothing')\n"
        "names = [type(it).__name__ for it in get_ipython().configurables]\n"
        "assert names.count('IPCompleter') == 1",
    ],
)
def test_the_completer_is_there_for_who_asks(make_session: Callable[..., Any], code: str) -> None:
    made = make_session()
    loaded = "import sys; assert ('IPython.core.completer' in sys.modules) is "
    # A session's shell makes it when it is asked for.
    for cell in (f"{loaded}False", code, f"{loaded}True"):
        assert made.code.run_code(cell, "python").success, cell


def test_the_workspace_can_not_break_the_start(make_session: Callable[..., Any]) -> None:
    session = make_session()
    names = "('IPython', 'json', 'asyncio', 'files')"
    run(session, f"for name in {names}: open(name + '.py', 'w').write('1/0')")
    session.code.run_code("import os; os._exit(0)", "python")
    assert run(session, "6 * 7").result == "42"
