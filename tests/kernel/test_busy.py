"""What is answered while a cell runs."""

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
