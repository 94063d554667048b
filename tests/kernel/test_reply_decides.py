"""How a cell ended is what its reply says, whatever it displayed."""

from __future__ import annotations

from tests.kernels import Ran, RunningKernel

DISPLAYED = (
    "try:\n    open('nowhere.csv')\nexcept OSError:\n    get_ipython().showtraceback()\n"
    "print('goes on')"
)
GROUP = "raise ExceptionGroup('several', [ValueError('one')])"


def ended(kernel: RunningKernel) -> str:
    shown = kernel.run("%agentbay last").of_type("display_data")[0]["data"]["text/plain"]
    (line,) = (line for line in shown.splitlines() if "Ended" in line)
    return str(line)


def kinds(ran: Ran) -> list[str]:
    return [output["msg_type"] for output in ran.kept()]


def test_last_reports_the_reply(bridged_kernel: RunningKernel) -> None:
    assert bridged_kernel.run(DISPLAYED).reply["status"] == "ok"
    assert ended(bridged_kernel).split()[-1] == "ok"
    assert bridged_kernel.run(GROUP).reply["ename"] == "ExceptionGroup"
    assert "ExceptionGroup: several" in ended(bridged_kernel)


def test_silent_hides_what_is_displayed_and_no_failure(bridged_kernel: RunningKernel) -> None:
    ran = bridged_kernel.run(f"%%agentbay python --silent\n{DISPLAYED}")
    assert (ran.reply["status"], ran.kept()) == ("ok", [])
    ran = bridged_kernel.run(f"%%agentbay python --silent\n{GROUP}")
    assert ran.reply["status"] == "error"
    assert [it["ename"] for it in ran.of_type("error")] == ["ExceptionGroup"]
