"""Cells that do what no honest cell does: the kernel goes on, and says what happened."""

from __future__ import annotations

import pytest

from tests.kernels import RunningKernel, running_kernel

# Code in the sandbox's kernel has that kernel's sockets and the key of its messages.
SEND = """\
kernel = get_ipython().kernel
def send(kind, content, parent=None, **more):
    socket = kernel.iopub_socket
    kernel.session.send(socket, kind, content, parent or kernel.get_parent("shell"), **more)
def frames(*parts):
    kernel.iopub_socket.send_multipart(list(parts))
"""
HOSTILE = [
    "send('execute_request', {'code': '1'})",
    "send('shutdown_reply', {'restart': False})",
    "send('stream', {'name': 'stdlog', 'text': 'forged'})",
    "send('stream', {'name': 'stdout', 'text': ['forged']})",
    "send('stream', {})",
    "send('display_data', {'data': 'forged', 'metadata': {}})",
    "send('display_data', {'data': {}, 'metadata': 5})",
    "send('update_display_data', {'data': {}, 'metadata': {}, 'transient': {}})",
    "send('execute_result', {'data': {}, 'metadata': {}, 'execution_count': 'many'})",
    "send('error', {'ename': 5, 'evalue': None, 'traceback': 'forged'})",
    "send('clear_output', {'wait': 'forged'})",
    "send('comm_open', {'comm_id': 5, 'target_name': 'jupyter.widget'})",
    "send('comm_msg', {'data': {}})",
    "send('comm_close', {'comm_id': None})",
    "send('status', {'execution_state': 5})",
    "send('input_request', {'prompt': 'forged', 'password': True})",
    "send('stream', {'name': 'stdout', 'text': 'forged'}, parent={'msg_id': 5})",
    "send('stream', {'name': 'stdout', 'text': 'forged'}, parent={'header': {'msg_id': [1]}})",
    "send('display_data', {'data': {'application/json': eval('[' * 90 + ']' * 90)},"
    " 'metadata': eval('{1:' * 90 + '1' + '}' * 90)})",
    "frames(b'no message')",
    "frames()",
    "frames(b'<IDS|MSG>')",
    "frames(b'stream', b'<IDS|MSG>', b'', b'{}', b'{}', b'{}', b'{}')",
    "frames(b'stream', b'<IDS|MSG>', b'', b'[' * 5000, b'{}', b'{}', b'{}')",
    "frames(b'stream', b'<IDS|MSG>', b'', b'\\xff', b'{}', b'{}', b'{}')",
    # Line ends and keys that would make another message of it.
    "frames(b'x', b'<IDS|MSG>', b'', b'{\"msg_type\":\\n\"clear_output\"}', b'{}', b'{}',"
    ' b\'{}}\\n{"c":"bridge","died":1}\')',
    "frames(b'x', b'<IDS|MSG>', b'', b'{\"msg_type\": \"clear_output\"}', b'{}', b'{}',"
    ' b\'{},"c":"bridge","died":1\')',
]


def test_rubbish_on_the_sandbox_kernels_sockets_does_no_harm(bridged_kernel: RunningKernel) -> None:
    assert bridged_kernel.run(SEND).reply["status"] == "ok"
    for number, attack in enumerate(HOSTILE):
        ran = bridged_kernel.run(f"{attack}\nprint({number})")
        assert ran.reply["status"] == "ok", (attack, ran)
        assert ran.text() == f"{number}\n", attack
        assert "forged" not in str(ran.outputs), attack
        assert ran.of_type("error") == []
    assert bridged_kernel.run("6 * 7").of_type("execute_result")[0]["data"] == {"text/plain": "42"}


def test_what_is_forged_is_the_cells_own_output_and_no_more(bridged_kernel: RunningKernel) -> None:
    bridged_kernel.run(SEND)
    ran = bridged_kernel.run("send('stream', {'name': 'stdout', 'text': 'said so'})\n1")
    assert ran.text() == "said so"
    # An idle status is not yet the end: the reply decides.
    ran = bridged_kernel.run(
        "send('status', {'execution_state': 'idle'})\nimport time; time.sleep(.3)\n"
        # What comes in the same moment as the reply would follow the end that the cell has forged.
        "print('after', flush=True); time.sleep(.3)"
    )
    assert ran.reply["status"] == "ok" and ran.text() == "after\n"


@pytest.mark.parametrize(
    "payload",
    [
        "{'source': 'ask_exit', 'keepkernel': False}",
        "{'source': 'edit_magic', 'filename': 'x'}",
        "5",
    ],
)
def test_no_payload_acts_on_the_front_end(bridged_kernel: RunningKernel, payload: str) -> None:
    ran = bridged_kernel.run(
        f"get_ipython().payload_manager.write_payload({payload}, single=False)"
    )
    assert ran.reply.get("payload", []) == []


def test_a_message_too_large_to_carry_is_told(bridged_kernel: RunningKernel) -> None:
    large = "display({'text/plain': 'a', 'text/html': 'x' * 140_000_000}, raw=True)"
    ran = bridged_kernel.run(f"{large}\n'on'")
    assert "MB (display_data) is left out" in ran.notices()
    assert ran.of_type("execute_result")[0]["data"] == {"text/plain": "'on'"}
    ran = bridged_kernel.run("1", user_expressions={"large": "'x' * 140_000_000"})
    assert ran.reply["status"] == "error" and "left out" in ran.reply["evalue"]
    assert bridged_kernel.run("print('next')").text() == "next\n"


@pytest.mark.parametrize("depth", [150, 50_000])
def test_data_nested_too_deeply_are_told_and_lose_no_text(
    bridged_kernel: RunningKernel, depth: int
) -> None:
    # What json itself would not write.
    deep = f"""
session = get_ipython().kernel.session
whole, deep = session.pack, b'[' * {depth} + b']' * {depth}
session.pack = lambda it: whole(it).replace(b'"DEEP"', deep)
print('before')
display({{'application/json': 'DEEP', 'text/plain': 'x'}}, raw=True)
print('after')
"""
    ran = bridged_kernel.run(f"{deep}\nsession.pack = whole")
    assert (ran.reply["status"], ran.text()) == ("ok", "before\nafter\n")
    assert "nested too deeply" in ran.notices()
    expression = "type('D', (), {'_repr_json_': lambda self: ['DEEP']})()"
    ran = bridged_kernel.run(deep, user_expressions={"x": expression})
    assert ran.text() == "before\nafter\n"
    assert ran.reply["status"] == "error" and "nested too deeply" in ran.reply["evalue"]
    assert bridged_kernel.run("session.pack = whole\nprint('next')").text() == "next\n"


def test_a_kernel_that_keeps_a_test_waiting_fails_the_next_ones_at_once() -> None:
    with running_kernel("python3") as kernel:
        running = kernel.send("import itertools\nfor n in itertools.count(): print(n, flush=True)")
        # Though what another request prints comes all the time.
        with pytest.raises(TimeoutError, match="no idle of request unknown"):
            kernel.finish("unknown", timeout=1)
        with pytest.raises(AssertionError, match="an earlier test left this kernel so: no idle"):
            kernel.send("1")
        kernel.manager.interrupt_kernel()
        assert kernel.finish(running).reply["ename"] == "KeyboardInterrupt"


# `make test` has it once.
@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_reply_that_overtakes_outputs_and_is_refused_leaves_them_in_their_order(
    bridged_kernel: RunningKernel, times: int
) -> None:
    # The bridge stands still for a moment, then it reads replies before outputs.
    code = """
import os, signal, subprocess
session = get_ipython().kernel.session
whole = session.pack
session.pack = lambda it: whole(it).replace(b'"DEEP"', b'[' * 150 + b']' * 150)
bridge = os.getppid()
subprocess.Popen(['sh', '-c', f'sleep 1; kill -CONT {bridge}'], start_new_session=True)
print('before')
display('shown')
os.kill(bridge, signal.SIGSTOP)
print('after')
"""
    expression = "type('D', (), {'_repr_json_': lambda self: ['DEEP']})()"
    for _ in range(times):
        ran = bridged_kernel.run(code, user_expressions={"x": expression})
        assert "nested too deeply" in ran.reply["evalue"]
        assert ran.text() == "before\nafter\n"
        assert bridged_kernel.run("session.pack = whole").reply["status"] == "ok"


def test_one_session_can_not_change_what_another_one_shows(bridged_kernel: RunningKernel) -> None:
    bridged_kernel.run(SEND)
    shown = bridged_kernel.run("handle = display('of the first', display_id='shared')")
    assert shown.of_type("display_data")[0]["transient"] == {"display_id": "shared"}
    other = "%%agentbay python --session other\n"
    bridged_kernel.run(other + SEND)
    claim = (
        "{'data': {'text/plain': 'forged'}, 'metadata': {}, 'transient': {'display_id': 'shared'}}"
    )
    for kind in ("update_display_data", "display_data", "update_display_data"):
        ran = bridged_kernel.run(f"{other}send({kind!r}, {claim})\nprint('sent')")
        assert ran.text() == "sent\n" and "forged" not in str(ran.outputs)
    ran = bridged_kernel.run("handle.update('of the first still')")
    assert len(ran.of_type("update_display_data")) == 1
    # With the session go its claims.
    bridged_kernel.run("%agentbay delete --session other")
