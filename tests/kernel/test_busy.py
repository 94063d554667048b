"""What is answered while a cell runs, and what keeps its place behind it."""

from __future__ import annotations

from typing import Any

from tests.kernels import RunningKernel


def _reply(kernel: RunningKernel, message_id: str) -> Any:
    reply = kernel.client.get_shell_msg(timeout=30)
    # The cell's own reply would come first if the request had waited for it.
    assert reply["parent_header"]["msg_id"] == message_id
    return reply["content"]


def test_completion_and_inspection_pass_a_running_cell(bridged_kernel: RunningKernel) -> None:
    bridged_kernel.run("lighthouse = 'bay'")
    running = bridged_kernel.send("print('go')\nimport time\nwhile True: time.sleep(.01)")
    bridged_kernel.wait_for_output(running, "stream")
    client = bridged_kernel.client
    assert _reply(bridged_kernel, client.kernel_info())["status"] == "ok"
    assert _reply(bridged_kernel, client.is_complete("for x in y:"))["status"] == "incomplete"
    assert "lighthouse" in _reply(bridged_kernel, client.complete("lightho", 7))["matches"]
    assert "str" in _reply(bridged_kernel, client.inspect("lighthouse", 10))["data"]["text/plain"]
    bridged_kernel.manager.interrupt_kernel()
    # What was asked meanwhile did not take the cell's place.
    ran = bridged_kernel.finish(running)
    assert ran.reply["ename"] == "KeyboardInterrupt"
    assert bridged_kernel.run("lighthouse").of_type("execute_result")


def test_a_verb_passes_a_running_cell_and_takes_no_number(bridged_kernel: RunningKernel) -> None:
    running = bridged_kernel.send("print('go')\nimport time\nwhile True: time.sleep(.01)")
    bridged_kernel.wait_for_output(running, "stream")
    verb = bridged_kernel.send("%agentbay status")
    states: list[str] = []
    shown: str | None = None
    while states != ["busy", "idle"]:
        message = bridged_kernel.client.get_iopub_msg(timeout=30)
        if message["parent_header"].get("msg_id") == verb:
            if message["msg_type"] == "status":
                states.append(message["content"]["execution_state"])
            elif message["msg_type"] == "display_data":
                shown = message["content"]["data"]["text/plain"]
    assert shown is not None and "bridged" in shown
    assert _reply(bridged_kernel, verb)["status"] == "ok"
    # Code waits for its turn, behind verbs too.
    queued = bridged_kernel.send("%agentbay status\nprint('must not run')")
    bridged_kernel.manager.interrupt_kernel()
    ran = bridged_kernel.finish(running)
    assert ran.reply["ename"] == "KeyboardInterrupt"
    assert bridged_kernel.finish(queued).reply["status"] == "aborted"
    after = bridged_kernel.run("1").reply["execution_count"]
    assert after == ran.reply["execution_count"] + 1


def test_each_widget_message_has_its_end_also_beside_others(bridged_kernel: RunningKernel) -> None:
    ran = bridged_kernel.run(
        "import ipywidgets, time\nslow, quick = ipywidgets.IntSlider(), ipywidgets.IntSlider()\n"
        "slow.observe(lambda change: time.sleep(1), 'value')\nprint(slow.model_id, quick.model_id)"
    )
    sent = []
    for model, value in zip(ran.text().split(), (3, 4), strict=True):
        data = {"method": "update", "state": {"value": value}, "buffer_paths": []}
        client = bridged_kernel.client
        message = client.session.msg("comm_msg", {"comm_id": model, "data": data})
        client.shell_channel.send(message)
        sent.append(message["header"]["msg_id"])
    # A widget in the page sends its next state only when its last one has been dealt with.
    waiting = set(sent)
    while waiting:
        message = bridged_kernel.client.get_iopub_msg(timeout=30)
        if message["content"].get("execution_state") == "idle":
            waiting.discard(message["parent_header"].get("msg_id"))
    assert bridged_kernel.run("print(slow.value, quick.value)").text() == "3 4\n"


BESIDE = "print('go')\nimport time\nwhile True: time.sleep(.01)"


def test_queued_commands_keep_their_place_and_have_numbers(bridged_kernel: RunningKernel) -> None:
    begin = bridged_kernel.run("1").reply["execution_count"]
    cells = [
        "%agentbay help",
        "import time\na = 1; time.sleep(.3)",
        "%agentbay status",
        "%%agentbay javascript\n1+1",
        "%agentbay sessions",
        "a + 2",
        "%agentbay help",
    ]
    sent = [bridged_kernel.send(cell) for cell in cells]
    numbers: list[tuple[int, int]] = []
    ended: list[int] = []
    while len(ended) < len(cells):
        message = bridged_kernel.client.get_iopub_msg(timeout=60)
        request = message["parent_header"]["msg_id"]
        if message["msg_type"] == "execute_input":
            numbers.append((sent.index(request), message["content"]["execution_count"]))
        elif message["content"].get("execution_state") == "idle":
            ended.append(sent.index(request))
    assert ended == [*range(len(cells))]
    assert numbers == [(at, begin + 1 + at) for at in range(len(cells))]
    replied = [bridged_kernel.client.get_shell_msg(timeout=60) for _ in cells]
    assert [sent.index(one["parent_header"]["msg_id"]) for one in replied] == [*range(len(cells))]
    assert [one["content"]["execution_count"] for one in replied] == [
        begin + 1 + at for at in range(len(cells))
    ]


def test_a_command_behind_a_queued_cell_waits_and_is_aborted_with_it(
    bridged_kernel: RunningKernel,
) -> None:
    running = bridged_kernel.send(BESIDE)
    bridged_kernel.wait_for_output(running, "stream")
    queued = [bridged_kernel.send("a"), bridged_kernel.send("%agentbay status")]
    bridged_kernel.manager.interrupt_kernel()
    assert bridged_kernel.finish(running).reply["ename"] == "KeyboardInterrupt"
    assert [bridged_kernel.finish(one).reply["status"] for one in queued] == ["aborted"] * 2


def test_a_command_that_fails_beside_a_cell_aborts_nothing(bridged_kernel: RunningKernel) -> None:
    running = bridged_kernel.send("print('go')\nprint(input())", allow_stdin=True)
    bridged_kernel.wait_for_output(running, "stream")
    failed = bridged_kernel.send("%agentbay delete --session none")
    assert bridged_kernel.wait_for_output(failed, "error")["ename"]
    queued = bridged_kernel.send("print('queued')")
    assert bridged_kernel.client.get_stdin_msg(timeout=60)["msg_type"] == "input_request"
    bridged_kernel.client.input("typed")
    ran = bridged_kernel.finish(running)
    assert ran.text() == "typed\n"
    following = bridged_kernel.finish(queued)
    assert following.text() == "queued\n"
    # What passed took no number.
    assert following.reply["execution_count"] == ran.reply["execution_count"] + 1
