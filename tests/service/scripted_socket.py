"""A WebSocket server that answers by a script, however wrong.

    with ScriptedSocket() as socket:
        socket.script = lambda answer: answer.event("stdout", chunk="a")

In: frames of a client. Out: what the script writes. It counts handshakes and keeps the frames.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Callable
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler


class Answer:
    """Writes what answers one frame; to be used by a script, on the server's loop."""

    def __init__(self, handler: _Handler, frame: dict[str, Any]) -> None:
        self.handler = handler
        self.frame = frame
        self.code: str = frame["data"]["params"]["code"]

    def raw(self, message: str | bytes, binary: bool = False) -> None:
        """Any message."""
        self.handler.write_message(message, binary)

    def data(self, data: object, **envelope: Any) -> None:
        """An answer with that `data`."""
        frame = {
            "invocationId": self.frame["invocationId"],
            "source": "wuying_codespace",
            "target": "SDK",
            "data": data,
        }
        self.raw(json.dumps({**frame, **envelope}))

    def event(self, kind: str, **fields: Any) -> None:
        """An event."""
        self.data({"phase": "event", "eventType": kind, **fields})

    def end(self, **fields: Any) -> None:
        """The end."""
        self.data({"phase": "end", "status": "finished", "executionCount": 1, **fields})

    def drop(self) -> None:
        """Break the connection without a word."""
        connection: Any = self.handler.ws_connection
        connection.stream.close()

    def close(self) -> None:
        """Close the connection in order."""
        self.handler.close(1001, "going away")

    def later(self, work: Callable[[], None]) -> None:
        """Do it once what was written has left."""
        asyncio.get_running_loop().call_later(0.01, work)


class _Handler(WebSocketHandler):
    owner: ScriptedSocket

    def initialize(self, owner: ScriptedSocket) -> None:
        self.owner = owner

    async def get(self, *args: Any, **kwargs: Any) -> None:
        owner = self.owner
        owner.tokens.append(self.request.headers.get("X-Access-Token", ""))
        if owner.refusals:
            status, headers = owner.refusals.pop(0)
            self.set_status(status)
            for name, value in headers.items():
                self.set_header(name, value)
            self.finish(f"refused: {owner.tokens[-1]}")
            return
        await super().get(*args, **kwargs)

    def on_message(self, message: str | bytes) -> None:
        frame = json.loads(message)
        self.owner.frames.append(frame)
        self.owner.script(Answer(self, frame))


class _Elsewhere(RequestHandler):
    def initialize(self, owner: ScriptedSocket) -> None:
        self.owner = owner

    def get(self) -> None:
        self.owner.strayed += 1


class ScriptedSocket:
    """The server, as a context manager.

    Arguments:
        tls: serve wss by this context.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.script: Callable[[Answer], None] = lambda answer: answer.end()
        self.frames: list[dict[str, Any]] = []
        self.tokens: list[str] = []
        # The next handshakes are refused with these statuses and headers.
        self.refusals: list[tuple[int, dict[str, str]]] = []
        self.strayed = 0
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._sockets = bind_sockets(0, "127.0.0.1")
        port = self._sockets[0].getsockname()[1]
        self.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{port}/ws/one?token=in-the-path"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> ScriptedSocket:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)

        async def start() -> None:
            mine = {"owner": self}
            routes = [(r"/ws/one", _Handler, mine), (r"/.*", _Elsewhere, mine)]
            server = HTTPServer(Application(routes), ssl_options=self._tls)
            server.add_sockets(self._sockets)

        self._loop.run_until_complete(start())
        self._loop.run_forever()
        for one in self._sockets:
            one.close()
