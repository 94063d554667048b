"""What is asked of a session's bridge beside its tunnel: what became of a cell, and its end.

In: a session. Out: a cell's fate; or nothing runs of its bridge any more, so that the next cell
begins with fresh interpreters. Files stay.
"""

from __future__ import annotations

from agentbay_kernel.errors import BridgeError
from agentbay_kernel.execution.bridge.installer import MODULE
from agentbay_kernel.execution.bridge.wakeup import release_any
from agentbay_kernel.service import Session
from agentbay_kernel.service.envelope import decode_json

_CALL_TIMEOUT_S = 30
_ENDING_CODE = """(lambda bridge: bridge and bridge.close())(
    getattr(__import__('sys').modules.pop({module!r}, None), 'bridge', None))
"""

_FATES = ("unknown", "running", "ended")


def fate_of(session: Session, message_id: str, module: str = MODULE) -> str:
    """What became of a cell: `unknown` (it never reached the bridge), `running` or `ended`.

    Arguments:
        message_id: of its execute_request.
        module: name of the bridge.

    Raises:
        BridgeError: there is no bridge any more.
        CommandError: the service failed.
    """
    code = f"__import__('sys').modules[{module!r}].fate({message_id!r})"
    result = session.code.run_code(code, "python", _CALL_TIMEOUT_S)
    if not result.success:
        raise BridgeError(f"The bridge could not be asked: {result.error_message}")
    try:
        fate = decode_json("".join(result.logs.stdout))
    except ValueError:
        fate = None
    if fate not in _FATES:
        raise BridgeError("The bridge did not say what became of the cell.")
    return str(fate)


def end_bridge(session: Session, module: str = MODULE) -> None:
    """End a session's bridge, if it has one.

    Raises:
        BridgeError: the sandbox could not do it.
        CommandError: the service failed.
    """
    release_any(session)
    result = session.code.run_code(_ENDING_CODE.format(module=module), "python", _CALL_TIMEOUT_S)
    if not result.success:
        raise BridgeError(f"the session's bridge could not be ended: {result.error_message}")
