"""How a session's tools are reached: what CreateMcpSession and GetSession say of its routes.

In: the `Data` of either answer. Out: a frozen `Access`. An address is taken only if it is
encrypted, or on this machine when the service itself is. Facts of the AgentBay wire protocol:
LinkUrl needs a token and the name of the server that has the tool.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from agentbay_kernel.service.endpoint import Endpoint, is_loopback_host
from agentbay_kernel.service.envelope import decode_json
from agentbay_kernel.service.log import get_logger

# What an address is written with; others could end the line that it is sent in.
_WRITTEN = re.compile(r"[!-~]{1,4000}")

_log = get_logger("session")


@dataclass(frozen=True)
class Access:
    """The session's token, its addresses (empty when it has none), its tools and their servers."""

    token: str = field(default="", repr=False)
    link_url: str = field(default="", repr=False)
    ws_url: str = field(default="", repr=False)
    tools: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def link_server(self, tool: str) -> str:
        """The server to name for a tool on the LinkUrl route; empty if it must go the other."""
        return self.tools.get(tool, "") if self.token and self.link_url else ""


def read_access(data: Mapping[str, Any], endpoint: Endpoint) -> Access:
    """What a session's data says of its routes. What makes no sense is left out."""
    token = data.get("Token")
    return Access(
        token=token if isinstance(token, str) and token.isascii() and token.isprintable() else "",
        link_url=_trusted(data.get("LinkUrl"), ("https", "http"), endpoint).rstrip("/"),
        ws_url=_trusted(data.get("WsUrl") or data.get("wsUrl"), ("wss", "ws"), endpoint),
        tools=MappingProxyType(_tools(data.get("ToolList"))),
    )


def _trusted(address: object, schemes: tuple[str, str], endpoint: Endpoint) -> str:
    if not isinstance(address, str) or not _WRITTEN.fullmatch(address):
        return ""
    try:
        parts = urlsplit(address)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    encrypted, plain = schemes
    here = is_loopback_host(host)
    # The token goes there, so never in the clear; and a service elsewhere has no business with
    # what listens on this machine.
    safe = parts.scheme == encrypted and (endpoint.is_loopback or not here)
    local = parts.scheme == plain and here and endpoint.is_loopback
    if host and parts.username is None and (safe or local):
        return address
    _log.warning("An address of the session at %r is not trusted and not used", host)
    return ""


def _tools(listed: object) -> dict[str, str]:
    if isinstance(listed, str) and listed:
        try:
            listed = decode_json(listed)
        except ValueError:
            return {}
    if not isinstance(listed, list):
        return {}
    tools = {}
    for entry in listed:
        if not isinstance(entry, dict):
            continue
        name = entry.get("name") or entry.get("Name")
        server = entry.get("server") or entry.get("serverName") or entry.get("Server")
        if isinstance(name, str) and isinstance(server, str):
            tools[name] = server
    return tools
