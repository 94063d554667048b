"""The result of a cell: its outputs, its streams, its error, its timing.

It is built from the cell's messages as they come, and can be read, kept and shown again. Outputs
are stored as in a notebook (nbformat 4): streams joined, displays updated in place.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from agentbay_kernel.execution.messages import Message
from agentbay_kernel.execution.output_limit import WHOLE, InSandbox, KeptHere

_OUTPUTS = ("display_data", "execute_result", "error")


class CellResult:
    """The result of a cell, also while it runs.

    Arguments:
        language: name of the cell's language.
        session: name of the session that it ran in.
        request_id: id of the request that ran it.
    """

    def __init__(self, language: str = "", session: str = "", request_id: str = "") -> None:
        self.language = language
        self.session = session
        #: The service's id if it is known, else our own.
        self.request_id = request_id
        #: `ename`, `evalue` and `traceback` of the error that ended it; None if it succeeded. Only
        #: the reply decides: code may display an error that it handles.
        self.error: dict[str, Any] | None = None
        #: Seconds since the epoch.
        self.started_at = time.time()
        #: Seconds that it took; None while it runs.
        self.seconds: float | None = None
        #: The full output, if some was left out.
        self.whole: InSandbox | KeptHere | None = None
        #: Whether its reply has arrived. Without a reply it did not succeed.
        self.replied = False
        self._began = time.monotonic()
        # A stream's text is a list of pieces here, which is joined only when it is read.
        self._kept: list[dict[str, Any]] = []
        self._displays: list[tuple[str, dict[str, Any]]] = []
        self._clear_due = False

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """The outputs in a notebook's format: dicts with `output_type` and its fields."""
        return [
            {**output, "text": "".join(output["text"])}
            if output["output_type"] == "stream"
            else dict(output)
            for output in list(self._kept)
        ]

    @property
    def done(self) -> bool:
        """Whether the cell has ended."""
        return self.seconds is not None

    @property
    def ok(self) -> bool:
        """Whether the cell has succeeded."""
        return self.done and self.replied and self.error is None

    @property
    def stdout(self) -> str:
        """The text that was printed to stdout."""
        return self._stream("stdout")

    @property
    def stderr(self) -> str:
        """The text that was printed to stderr."""
        return self._stream("stderr")

    @property
    def result(self) -> str | None:
        """The text of the last expression's value; None if there is no value."""
        for output in self._kept:
            if output["output_type"] == "execute_result":
                text: str = output["data"].get("text/plain", "")
                return text
        return None

    def messages(self) -> Iterator[Message]:
        """Yield the outputs as messages, to show them again."""
        for output in self.outputs:
            kind = output.pop("output_type")
            if kind == "execute_result":
                # A result would show the number of its own cell in another one.
                kind = "display_data"
                output.pop("execution_count", None)
            yield Message(kind, output)

    def add(self, message: Message) -> None:
        """Add a message of the cell."""
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
        """Note that the cell was not run or its response was lost, unless its reply is here."""
        if self.replied:
            return
        name, evalue = type(error).__name__, str(error)
        self.error = {"ename": name, "evalue": evalue, "traceback": [f"{name}: {evalue}"]}
        self.request_id = getattr(error, "request_id", "") or self.request_id

    def end(self) -> None:
        """Note that no more messages come."""
        if self.seconds is None:
            self.seconds = time.monotonic() - self._began

    def text(self) -> str:
        """Return all text in its order: streams, results, tracebacks."""
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
    """Return the error that a reply reports; None if the cell succeeded."""
    if reply.get("status") == "ok":
        return None
    if reply.get("status") != "error":
        words = "The cell was not run to its end, because a cell before it failed."
        return {"ename": "Aborted", "evalue": words, "traceback": [f"Aborted: {words}"]}
    ename, evalue = reply.get("ename") or "Error", reply.get("evalue") or ""
    # For an exception group, IPython prints the traceback, and its reply has no traceback.
    traceback = reply.get("traceback") or [f"{ename}: {evalue}"]
    return {"ename": ename, "evalue": evalue, "traceback": traceback}
