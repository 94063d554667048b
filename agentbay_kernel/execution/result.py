"""The result of a cell: its outputs, its streams, its error, its timing.

It is built from the cell's messages as they come, and can be looked at, kept and shown again.
Outputs are kept as a notebook keeps them (nbformat 4): streams joined, displays updated in place.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from agentbay_kernel.execution.messages import Message
from agentbay_kernel.execution.output_limit import WHOLE, InSandbox, KeptHere

_OUTPUTS = ("display_data", "execute_result", "error")


class CellResult:
    """What became of a cell.

    Arguments:
        language: it was written in.
        session: name of the session that it ran in.
        request_id: of the request that ran it.
    """

    def __init__(self, language: str = "", session: str = "", request_id: str = "") -> None:
        self.language = language
        self.session = session
        #: The service's where one is known, else our own.
        self.request_id = request_id
        #: `ename`, `evalue` and `traceback` of the error that ended it; None if it ended well. The
        #: reply alone decides: code may display an error that it handles.
        self.error: dict[str, Any] | None = None
        #: Seconds since the epoch.
        self.started_at = time.time()
        #: How long it took; None as long as it runs.
        self.seconds: float | None = None
        #: Where all of its text is, if some was left out.
        self.whole: InSandbox | KeptHere | None = None
        #: Has its reply arrived? Without one it did not end well.
        self.replied = False
        self._began = time.monotonic()
        # A stream's text is a list of pieces here: joined once, when it is asked for.
        self._kept: list[dict[str, Any]] = []
        self._displays: list[tuple[str, dict[str, Any]]] = []
        self._clear_due = False

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """The outputs in a notebook's format: dicts with `output_type` and what belongs to it."""
        return [
            {**output, "text": "".join(output["text"])}
            if output["output_type"] == "stream"
            else dict(output)
            for output in list(self._kept)
        ]

    @property
    def done(self) -> bool:
        """Has it ended?"""
        return self.seconds is not None

    @property
    def ok(self) -> bool:
        """Has it ended well?"""
        return self.done and self.replied and self.error is None

    @property
    def stdout(self) -> str:
        """What was printed."""
        return self._stream("stdout")

    @property
    def stderr(self) -> str:
        """What was printed to stderr."""
        return self._stream("stderr")

    @property
    def result(self) -> str | None:
        """Text of the last expression's value; None if there is none."""
        for output in self._kept:
            if output["output_type"] == "execute_result":
                text: str = output["data"].get("text/plain", "")
                return text
        return None

    def messages(self) -> Iterator[Message]:
        """The outputs as messages, to be shown again."""
        for output in self.outputs:
            kind = output.pop("output_type")
            if kind == "execute_result":
                # A result has the number of its own cell.
                kind = "display_data"
                output.pop("execution_count", None)
            yield Message(kind, output)

    def add(self, message: Message) -> None:
        """Take a message of the cell."""
        content = message.content
        if message.type == "clear_output":
            self._clear_due = True
            if not content.get("wait"):
                self._clear_if_due()
        elif message.type == "stream":
            self._clear_if_due()
            self._add_text(content["name"], content["text"])
        elif message.type == "update_display_data":
            for shown, output in self._displays:
                if shown == content.get("transient", {}).get("display_id"):
                    output.update(data=content["data"], metadata=content["metadata"])
        elif message.type in _OUTPUTS:
            self._clear_if_due()
            kept = {name: value for name, value in content.items() if name != "transient"}
            self._kept.append({"output_type": message.type, **kept})
            if display_id := (content.get("transient") or {}).get("display_id"):
                self._displays.append((display_id, self._kept[-1]))
        if message.type == "execute_reply":
            self.replied = True
            self.error = _error_of(content)
            self.request_id = message.metadata.get("request_id") or self.request_id
            self.whole = message.metadata.get(WHOLE)

    def fail(self, error: BaseException) -> None:
        """It could not be run, or its answer was lost. A reply that has arrived stays true."""
        if self.replied:
            return
        name, evalue = type(error).__name__, str(error)
        self.error = {"ename": name, "evalue": evalue, "traceback": [f"{name}: {evalue}"]}
        self.request_id = getattr(error, "request_id", "") or self.request_id

    def end(self) -> None:
        """No more messages come."""
        if self.seconds is None:
            self.seconds = time.monotonic() - self._began

    def text(self) -> str:
        """All that is text: streams, results, tracebacks, in their order."""
        parts = []
        for output in self.outputs:
            if output["output_type"] == "stream":
                parts.append(output["text"])
            elif output["output_type"] == "error":
                parts.append("\n".join(output["traceback"]) + "\n")
            else:
                parts.append(output["data"].get("text/plain", "") + "\n")
        return "".join(parts)

    def __repr__(self) -> str:
        if not self.done:
            state = "running"
        elif self.error is not None:
            state = f"{self.error['ename']}: {self.error['evalue']}"
        else:
            state = "ok" if self.ok else "no reply"
        took = f", {self.seconds:.1f} s" if self.seconds is not None else ""
        where = f"{self.language} in session {self.session!r}"
        return f"<CellResult of {where}: {state}{took}, {len(self._kept)} outputs>"

    def show(self) -> None:
        """Show the outputs in the notebook's current cell."""
        from agentbay_kernel.execution.display import display_message

        for message in self.messages():
            display_message(message)

    def _stream(self, name: str) -> str:
        return "".join(
            "".join(output["text"])
            for output in list(self._kept)
            if output["output_type"] == "stream" and output["name"] == name
        )

    def _clear_if_due(self) -> None:
        if self._clear_due:
            self._clear_due = False
            self._kept.clear()
            self._displays.clear()

    def _add_text(self, name: str, text: str) -> None:
        last = self._kept[-1] if self._kept else {}
        if last.get("output_type") == "stream" and last["name"] == name:
            last["text"].append(text)
        else:
            self._kept.append({"output_type": "stream", "name": name, "text": [text]})


def _error_of(reply: dict[str, Any]) -> dict[str, Any] | None:
    """The error that a reply reports; None if the cell ended well."""
    if reply.get("status") == "ok":
        return None
    if reply.get("status") != "error":
        words = "The cell was not run to its end, because a cell before it failed."
        return {"ename": "Aborted", "evalue": words, "traceback": [f"Aborted: {words}"]}
    ename, evalue = reply.get("ename") or "Error", reply.get("evalue") or ""
    # IPython prints the traceback of an exception group, and replies without one.
    traceback = reply.get("traceback") or [f"{ename}: {evalue}"]
    return {"ename": ename, "evalue": evalue, "traceback": traceback}
