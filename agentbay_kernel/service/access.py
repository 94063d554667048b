"""The routes to a session's tools, as CreateMcpSession and GetSession report them.

An address is accepted only if it is encrypted, or if both it and the service are on this machine.
By the AgentBay wire protocol, LinkUrl needs a token and the name of the server that has the tool.
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

# The characters of an address; others could end the header line that contains it.
_WRITTEN = re.compile(r"[!-~]{1,4000}")

_log = get_logger("session")


@dataclass(frozen=True)
class Access:
    """A session's token, its addresses (empty if it has none), and the server of each tool."""

    token: str = field(default="", repr=False)
    link_url: str = field(default="", repr=False)
    ws_url: str = field(default="", repr=False)
    tools: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def link_server(self, tool: str) -> str:
        """Return the tool's server for the LinkUrl route, or "" if it needs the action route."""
        return self.tools.get(tool, "") if self.token and self.link_url else ""


def read_access(data: Mapping[str, Any], endpoint: Endpoint) -> Access:
    """Return the routes in a session's data, without invalid values."""
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
    # The token is sent there, so the connection must be encrypted. A remote service must not
    # make this client connect to servers on this machine.
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
