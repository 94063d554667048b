"""Ending the interpreters of a session's bridge, so that the next cell begins with fresh ones.

In: a session. Out: nothing runs of its bridge any more; files stay.
"""

from __future__ import annotations

from agentbay_kernel.errors import BridgeError
from agentbay_kernel.execution.installing import MODULE
from agentbay_kernel.execution.waking import release_any
from agentbay_kernel.service import Session

_CALL_TIMEOUT_S = 30
_ENDING_CODE = f"""(lambda bridge: bridge and bridge.close())(
    getattr(__import__('sys').modules.pop({MODULE!r}, None), 'bridge', None))
"""


def end_bridge(session: Session) -> None:
    """End a session's bridge, if it has one.

    Raises:
        BridgeError: the sandbox could not do it.
        CommandError: the service failed.
    """
    release_any(session)
    result = session.code.run_code(_ENDING_CODE, "python", _CALL_TIMEOUT_S)
    if not result.success:
        raise BridgeError(f"the session's bridge could not be ended: {result.error_message}")
