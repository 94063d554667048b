"""A local runtime in one object: listener, sessions, tools, sandboxes."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from agentbay_kernel.local.actions import Actions
from agentbay_kernel.local.behaviour import Behaviour
from agentbay_kernel.local.certificate import make_certificate
from agentbay_kernel.local.completion_cache import fill
from agentbay_kernel.local.contexts import Contexts
from agentbay_kernel.local.isolation import Isolation
from agentbay_kernel.local.listener import (
    KEYLESS_BODIES,
    LARGE_BODIES,
    BodyBudget,
    Runtime,
    serve_application,
)
from agentbay_kernel.local.routes import make_application
from agentbay_kernel.local.sandbox import Sandboxes
from agentbay_kernel.local.sessions import Session, Sessions
from agentbay_kernel.local.settings import Settings
from agentbay_kernel.local.tools import Tools


class LocalRuntime:
    """A local runtime on one listening socket."""

    def __init__(
        self,
        sock: socket.socket,
        api_key: str,
        settings: Settings,
        isolation: Isolation,
        behaviour: Behaviour,
        tls: bool = False,
    ) -> None:
        self._isolation = isolation
        self._socket = sock
        self._api_key = api_key
        self._behaviour = behaviour
        self._authority = "{}:{}".format(*sock.getsockname())
        self._sandboxes = Sandboxes(settings, isolation)
        self._certificate = make_certificate(self._sandboxes.folder) if tls else None
        contexts = Contexts(self._sandboxes.folder / "contexts")
        self._sessions = Sessions(
            self._sandboxes, settings.max_sessions, settings.idle_s, on_end=contexts.forget
        )
        tools = Tools(behaviour)
        actions = Actions(
            self._sessions,
            tools,
            contexts,
            behaviour,
            routes=self._routes,
            address=lambda path: self.endpoint + path,
            told=self._told,
        )
        bodies, keyless = BodyBudget(LARGE_BODIES), BodyBudget(KEYLESS_BODIES)
        application = make_application(
            Runtime(api_key, self._sessions, tools, actions, contexts, behaviour, bodies, keyless)
        )
        self._filling: asyncio.Task[None] | None = None
        context = self._certificate.context() if self._certificate else None
        self._server = serve_application(application, ssl_options=context)

    @property
    def endpoint(self) -> str:
        """The address for AGENTBAY_ENDPOINT."""
        return f"http{'s' if self._certificate else ''}://{self._authority}"

    def _routes(self, session: Session) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        if self._behaviour.profile.link_url or self._behaviour.profile.ws_url:
            fields["Token"] = session.token
        if self._behaviour.profile.link_url:
            fields["LinkUrl"] = f"{self.endpoint}/link/{session.id}"
        if self._behaviour.profile.ws_url:
            fields["WsUrl"] = f"{self.endpoint.replace('http', 'ws', 1)}/ws/{session.id}"
        return fields

    def announcement(self) -> dict[str, Any]:
        """Return the facts that its user needs."""
        line = {"endpoint": self.endpoint, "api_key": self._api_key, **self._told()}
        if self._certificate:
            line["ca_file"] = str(self._certificate.ca_file)
        return line

    def _told(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "isolation": self._isolation.report.as_data()}

    def start(self) -> None:
        """Accept requests."""
        self._server.add_socket(self._socket)
        self._reaper = asyncio.get_running_loop().create_task(self._sessions.reap())

    async def prepare(self) -> None:
        """Start what makes the first session fast."""
        self._sandboxes.prepare()
        interpreter = self._isolation.interpreter
        self._filling = asyncio.create_task(fill(interpreter.path, interpreter.prefix))

    async def end(self) -> None:
        """Stop, and leave no process and no file."""
        self._server.stop()
        self._reaper.cancel()
        if self._filling is not None:
            self._filling.cancel()
        try:
            await self._sessions.end()
        finally:
            await self._sandboxes.end()
