"""However much cells and commands put out, the runtime and the agents stay small."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.local.conftest import drop, official_client
from tests.local.test_streaming import ask, connect
from tests.runtime import LocalRuntimeProcess, running_local_runtime

MOST_RESIDENT = 200 * 10**6

# Each, with what a runtime has anyway, is more than may be resident.
FLOODS: dict[str, tuple[str, str]] = {
    "printed": (
        "python",
        "for n in (0, *range(431, 600)): print(f'piece {n:3}', 'x' * 10**6)",
    ),
    "written by a child": (
        "python",
        "import subprocess\n"
        "command = 'echo \"piece   0\"; yes | head -c 150000000; echo piece 599'\n"
        "_ = subprocess.run(['sh', '-c', command])",
    ),
    "written to the descriptor": (
        "python",
        "import os\nfor n in range(450, 600):\n"
        "    data = f'piece {n - 450 if n == 450 else n:3}'.encode() + b'x' * 10**6\n"
        "    while data: data = data[os.write(1, data):]",
    ),
    "quotes to be escaped": ("python", "for n in range(100): print(f'piece {n:3}', '\"' * 10**6)"),
    "of threads": (
        "python",
        "import threading\nprint('piece   0')\n"
        "def work():\n    for _ in range(45): print('x' * 10**6)\n"
        "all = [threading.Thread(target=work) for _ in range(4)]\n"
        "for one in all: one.start()\nfor one in all: one.join()\nprint('piece 599')",
    ),
    "of JavaScript": (
        "javascript",
        "for (let n = 0; n < 600; n += n ? 1 : 431)\n"
        "  console.log(`piece ${String(n).padStart(3)} ` + 'x'.repeat(1e6))",
    ),
}
DISPLAYS = (
    "from IPython.display import HTML, display\n"
    "for n in range(90): display(HTML(f'<!--{n}-->' + 'x' * 2 * 10**6))"
)


def peaks(runtime: LocalRuntimeProcess) -> dict[int, int]:
    """The most memory that the runtime and its agents have had resident, by process, in bytes."""
    processes = [psutil.Process(runtime.process.pid)]
    for process in processes[0].children(recursive=True):
        if "agentbay_kernel.local.agent.main" in " ".join(process.cmdline()):
            processes.append(process)
    found = {}
    for process in processes:
        status = Path(f"/proc/{process.pid}/status").read_text()
        match = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert match is not None
        found[process.pid] = int(match[1]) * 1024
    assert len(found) >= 2
    return found


def assert_small(runtime: LocalRuntimeProcess) -> None:
    """Fail if one of them was ever larger than it may be."""
    found = peaks(runtime)
    assert max(found.values()) < MOST_RESIDENT, found


# The peaks are those of one runtime, and mostly of one session, over all that happens here.


@pytest.fixture(scope="module")
def runtime() -> Iterator[LocalRuntimeProcess]:
    """A runtime of this module's own."""
    with running_local_runtime("--no-kernels") as process:
        yield process


@pytest.fixture(scope="module")
def five(client: Any, runtime: LocalRuntimeProcess) -> Iterator[list[Any]]:
    """Sessions with a file of zeros each."""
    from agentbay import CreateSessionParams

    wanted = CreateSessionParams(image_id="code_latest")
    sessions = [client.create(wanted).session for _ in range(5)]
    for session in sessions:
        made = session.command.execute_command("head -c 10000000 /dev/zero > /dev/shm/zeros")
        assert made.success
    yield sessions
    for session in sessions:
        drop(runtime, session)


# `make test` has what takes another way; a process's own descriptor is a child's too.
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind,
            marks=[pytest.mark.slow]
            * (kind in ("written to the descriptor", "quotes to be escaped", "of threads")),
        )
        for kind in FLOODS
    ],
)
def test_what_is_printed_keeps_its_beginning_and_end(
    kind: str, runtime: LocalRuntimeProcess, session: Any
) -> None:
    language, code = FLOODS[kind]
    result = session.code.run_code(code, language, timeout_s=60)
    assert result.success, result.error_message[:500]
    text = "".join(result.logs.stdout)
    last = "99" if kind == "quotes to be escaped" else "599"
    assert text.startswith("piece   0")
    assert last in text[-1_100_000:]
    assert len(text) < 40 * 10**6
    (said,) = re.findall(r"([\d,]+) characters of stdout are left out", "".join(result.logs.stderr))
    assert int(said.replace(",", "")) > 50 * 10**6
    assert_small(runtime)
    assert session.code.run_code("6 * 7", "python").result == "42"


def test_many_displays_keep_the_first_and_the_last(
    runtime: LocalRuntimeProcess, session: Any
) -> None:
    result = session.code.run_code(DISPLAYS, "python", timeout_s=60)
    assert result.success
    assert result.results[0].html.startswith("<!--0-->")
    assert result.results[-1].html.startswith("<!--89-->")
    (number,) = re.findall(r"(\d+) displays \(", "".join(result.logs.stderr))
    assert int(number) + len(result.results) == 90
    assert_small(runtime)


@pytest.mark.parametrize(
    "shown",
    [
        "HTML('x' * 200_000_000)",
        "{'application/json': [[]] * 3_000_000}",
        "{'image/png': bytes(30_000_000)}",
        "{'text/html': '<b>', 'text/plain': 'x' * 20_000_000}",
    ],
)
def test_a_display_that_is_too_large_is_named_and_left_out(
    shown: str, runtime: LocalRuntimeProcess, session: Any
) -> None:
    code = (
        "from IPython.display import HTML, display\nprint('before')\n"
        f"one = {shown}\ndisplay(one, raw=isinstance(one, dict))\ndel one\nprint('after')"
    )
    result = session.code.run_code(code, "python", timeout_s=60)
    assert result.success, result.error_message[:500]
    assert "".join(result.logs.stdout) == "before\nafter\n"
    assert re.search(r"A display \(.*MB is left out", "".join(result.logs.stderr))
    assert result.results == []
    assert_small(runtime)


@pytest.mark.parametrize(
    "line",
    [
        "b'x' * 200_000_000",
        "b'[' * 16_000_000",
        'b\'{"event": "display", "data": {"a": [\' + b\'[],\' * 5_000_000 + b\'[]]}}\'',
        'b\'{"event": "stdout", "text": 7}\'',
        "b'[]'",
        "b'\\xff\\xfe'",
    ],
)
def test_what_code_writes_to_the_engines_socket_harms_itself_alone(
    line: str, runtime: LocalRuntimeProcess, session: Any
) -> None:
    code = (
        "print('before', flush=True)\nchannel = get_ipython().output._channel\n"
        f"channel.sendall({line} + b'\\n')\nprint('after')"
    )
    result = session.code.run_code(code, "python", timeout_s=60)
    assert result.success, result.error_message[:500]
    assert "".join(result.logs.stdout) == "before\nafter\n"
    assert session.code.run_code("6 * 7", "python").result == "42"
    assert_small(runtime)


@pytest.mark.parametrize(
    "command",
    [
        "echo first; yes | head -c 200000000; echo last",
        pytest.param(
            "echo first; head -c 200000000 /dev/urandom; echo last", marks=pytest.mark.slow
        ),
        pytest.param(
            "echo first; yes '\"' | head -c 300000000 | tee /dev/stderr; echo last",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_a_command_prints_keeps_its_beginning_and_end(
    command: str, runtime: LocalRuntimeProcess, session: Any
) -> None:
    done = session.command.execute_command(command, timeout_ms=50_000)
    assert done.success, done.error_message
    assert done.stdout.startswith("first\n") and done.stdout.endswith("last\n")
    assert re.search(r"[\d,]+ bytes are left out here", done.stdout)
    assert_small(runtime)


def test_a_client_that_does_not_read_holds_back_the_writer_and_nothing_else(
    runtime: LocalRuntimeProcess, session: Any
) -> None:
    socket = connect(session)
    code = "open('begun', 'w')\nkept = 7\nwhile True: print('x' * 10**6)"
    ask(socket, "run_code", "wuying_codespace", code=code, language="python", timeoutS=1)
    # The agent answers meanwhile.
    while not session.command.execute_command("test -e begun").success:
        pass
    assert session.code.run_code("6 * 7", "javascript").result == "42"
    # The cell is interrupted in time, although nobody reads.
    assert_small(runtime)
    while (data := json.loads(socket.recv())["data"])["phase"] != "end":
        pass
    assert "variables are kept" in data["executionError"]
    socket.close()
    assert session.code.run_code("kept", "python").result == "7"
    assert_small(runtime)


# What many sessions have ready at the same time, as calls of the action route.
ANSWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "quotes": ("run_code", {"code": "print('\"' * 4 * 10**6)"}),
    "control characters": ("shell", {"command": "head -c 2000000 /dev/zero"}),
    "a file of zeros": ("read_file", {"path": "/dev/shm/zeros"}),
    "one wide character": ("run_code", {"code": "print('\U0001f600' + 'x' * 10**7)"}),
    "a display with one": (
        "run_code",
        {"code": "from IPython.display import HTML\nHTML('\U0001f600' + 'x' * 11 * 10**6)"},
    ),
}


# `make test` has a command's answer: none is larger when it is quoted.
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind,
            marks=[pytest.mark.slow] * (kind != "control characters"),
        )
        for kind in ANSWERS
    ],
)
def test_answers_at_the_same_time_take_no_memory_each(
    kind: str, runtime: LocalRuntimeProcess, five: list[Any]
) -> None:
    """Five sessions, each with two clients that do not read before all answers are ready."""
    name, arguments = ANSWERS[kind]
    with ExitStack() as stack, ThreadPoolExecutor(10) as pool:
        own = stack.enter_context(requests.Session())
        own.trust_env = False
        answers = list(
            pool.map(
                lambda session: own.post(
                    f"{runtime.endpoint}/?Action=CallMcpTool",
                    data={
                        "Authorization": runtime.api_key,
                        "SessionId": session.session_id,
                        "Name": name,
                        "Args": json.dumps(arguments),
                    },
                    stream=True,
                    timeout=60,
                ),
                2 * five,
            )
        )
        assert_small(runtime)
        for answer in answers:
            content = answer.json()["Data"]["content"][0]["text"]
            assert len(content) >= 2 * 10**6
    assert_small(runtime)


def test_the_end_of_a_flood_is_lost_with_its_process(session: Any) -> None:
    code = "import os\nfor n in range(50): print('x' * 10**6)\nos.kill(os.getpid(), 9)"
    result = session.code.run_code(code, "python", timeout_s=60)
    document = json.loads(result.error_message)
    assert len("".join(document["stdout"])) > 10**7
    assert "is lost" in "".join(document["stderr"])


def test_an_error_comes_behind_the_end_of_a_flood(session: Any) -> None:
    code = "for n in range(50): print(n, 'x' * 10**6)\nraise ValueError('last')"
    result = session.code.run_code(code, "python", timeout_s=60)
    document = json.loads(result.error_message)
    assert "\n49 x" in "".join(document["stdout"])
    said = "".join(document["stderr"])
    assert said.index("are left out here") < said.index("ValueError: last")
    # The next run begins anew.
    result = session.code.run_code("print('again')", "python")
    assert result.logs.stdout == ["again\n"] and result.logs.stderr == []


def test_what_code_floods_the_engines_socket_with_is_counted_and_left_out(
    runtime: LocalRuntimeProcess, session: Any
) -> None:
    """Code that has taken over its worker is cut by the runtime, and others have their turn."""
    code = (
        "output = get_ipython().output\nimport json\n"
        "one = {'id': output.run, 'event': 'stdout', 'text': 'x' * 900_000}\n"
        "line = json.dumps(one).encode() + b'\\n'\n"
        "for _ in range(100): output._channel.sendall(line)"
    )
    result = session.code.run_code(code, "python", timeout_s=60)
    assert result.success, result.error_message[:500]
    assert re.search(r"[\d,]+ characters of stdout are left out", "".join(result.logs.stderr))
    assert len("".join(result.logs.stdout)) < 40 * 10**6
    assert_small(runtime)


# The program that a runtime is, where half a frame holds up the others for less than usual.
IMPATIENT = """
import runpy, sys
from agentbay_kernel.local import agent_client
agent_client.TURN_S = 2.0
# What stands behind is a Python, "-m" and the module.
sys.argv[:] = sys.argv[3:]
runpy.run_module("agentbay_kernel", run_name="__main__", alter_sys=True)
"""


def test_half_a_large_frame_does_not_hold_up_the_others() -> None:
    from agentbay import CreateSessionParams

    with running_local_runtime("--no-kernels", prefix=(sys.executable, "-c", IMPATIENT)) as runtime:
        create = official_client(runtime).create
        sender, other = (
            create(CreateSessionParams(image_id="code_latest")).session for _ in range(2)
        )
        code = "get_ipython().output._channel.sendall(b'\"' + b'x' * 2 * 10**6)\nopen('sent', 'w')"
        with ThreadPoolExecutor(1) as pool:
            code += (
                "\nimport os, time\nwhile not os.path.exists('seen'): time.sleep(.02)\nos._exit(1)"
            )
            half = pool.submit(sender.code.run_code, code, "python", 60)
            deadline = time.monotonic() + 60
            while not sender.command.execute_command("test -e sent").success:
                assert time.monotonic() < deadline, "nothing was sent"
            shown = "from IPython.display import HTML\nHTML('x' * 2 * 10**6)"
            result = other.code.run_code(shown, "python", timeout_s=60)
            assert result.success and len(result.results[0].html) == 2 * 10**6
            assert not half.done()
            assert sender.command.execute_command("touch seen").success
            assert not half.result().success
