"""Fault injection: which calls fail, and the wrong responses that are sent for them."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from typing import Any

from tornado import web

from agentbay_kernel.local.profile import REQUEST_KINDS, STREAM_KINDS, FaultPlan, Profile

HTTP_ERRORS = {
    429: ("Throttling.User", "Request was denied due to user flow control."),
    500: ("InternalError", "java.lang.RuntimeException: AiEngine response timeout"),
    502: ("BadGateway", "bad gateway"),
    504: ("GatewayTimeout", "gateway timeout"),
}


class Faults:
    """Chooses faults for calls, which must come in order."""

    def __init__(self, profile: Profile) -> None:
        self._plans = [_Counted(plan, random.Random(plan.seed)) for plan in profile.faults]

    def draw(self, action: str, tool: str = "", streaming: bool = False) -> FaultPlan | None:
        """Return what goes wrong with this call; every plan that it matches counts it."""
        hits = [counted.plan for counted in self._plans if counted.hits(action, tool, streaming)]
        return hits[0] if hits else None


class _Counted:
    def __init__(self, plan: FaultPlan, chance: random.Random) -> None:
        self.plan = plan
        self._chance = chance
        self._calls = 0

    def hits(self, action: str, tool: str, streaming: bool) -> bool:
        plan = self.plan
        if plan.action != action or plan.tool not in (None, tool):
            return False
        if plan.kind in (REQUEST_KINDS if streaming else STREAM_KINDS):
            return False
        self._calls += 1
        if plan.at:
            return self._calls in plan.at
        return self._chance.random() < plan.probability


async def inject_fault(handler: web.RequestHandler, plan: FaultPlan, body: str = "") -> None:
    """Send a wrong response.

    Arguments:
        handler: the request's.
        plan: of a kind that is not about streams, refused keys or ended sessions.
        body: the right response's, for the kind `half`.
    """
    if plan.kind.startswith("http_"):
        status = int(plan.kind.removeprefix("http_"))
        code, message = HTTP_ERRORS[status]
        handler.set_status(status)
        handler.finish(json.dumps({"Code": code, "Message": message, "Success": False}))
        return
    # Tornado must write nothing more.
    handler._auto_finish = False
    stream: Any = getattr(handler.request.connection, "stream", None)
    if plan.kind == "half":
        data = body.encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
        await stream.write(head.encode() + b"\r\n\r\n" + data[: len(data) // 2])
        stream.close()
    elif plan.kind == "reset":
        reset(stream)
    elif plan.kind == "hang":
        gone = asyncio.Event()
        stream.set_close_callback(gone.set)
        await gone.wait()


def reset(stream: Any) -> None:
    """End a connection as a crash would: with a reset, not an orderly end."""
    if stream.socket is None:  # closed already, by the other side
        return
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()
