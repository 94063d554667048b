"""Code whose output arrives while it runs: the events of a streaming `run_code`.

In: the frames of a WebSocket call. Out: events in the order in which they happened - chunks of
output, results - and at the end the `CodeExecutionResult`. Facts of the AgentBay wire protocol:
streaming run_code; names are taken in camelCase and in snake_case.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from agentbay_kernel.errors import InvalidResponseError, ServiceFaultError, ToolNotFoundError
from agentbay_kernel.service.answers import StreamedAnswer, is_traced
from agentbay_kernel.service.envelope import Quote
from agentbay_kernel.service.results import CodeExecutionResult, CodeOutput
from agentbay_kernel.service.websocket import WebSocketCall

# A traceback on stderr is told apart from output by the failure that follows it at once.
_HOLD_S = 0.3


@dataclass(frozen=True)
class CodeChunk:
    """What code printed. Newlines are inside the text.

    Arguments:
        name: `stdout` or `stderr`.
        text: a piece of it.
    """

    name: str
    text: str


CodeEvent = CodeChunk | CodeOutput | CodeExecutionResult


class CodeStream:
    """The events of one run, an iterator; the last one is the `CodeExecutionResult`.

    Made by `Code.stream_code`, not by hand. It may be closed early, also by leaving a `with`: the
    code continues in the sandbox.

    Raises:
        ResponseLostError: the connection broke, or the end never came.
        ServiceFaultError, InvalidResponseError: the service failed, or its response is invalid.
    """

    def __init__(self, call: WebSocketCall, quote: Quote, largest_answer: int) -> None:
        self._call = call
        self._quote = quote
        self._answer = StreamedAnswer(call.id)
        self._largest_answer = largest_answer
        self._size = 0
        self._look_after_s: float | None = None
        self._events = self._read()

    def __enter__(self) -> CodeStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[CodeEvent]:
        return self

    def __next__(self) -> CodeEvent:
        event = self.next_within(None)
        assert event is not None
        return event

    def next_within(self, seconds: float | None) -> CodeEvent | None:
        """Wait for the next event.

        Arguments:
            seconds: how long to wait; None waits as long as the run may take.

        Returns:
            The event, or None if none came in that time.

        Raises:
            StopIteration: there are no more events.
        """
        self._look_after_s = seconds
        try:
            return next(self._events)
        except BaseException:
            self._call.close()
            raise

    def close(self) -> None:
        """Stop reading events."""
        self._events.close()
        self._call.close()

    def _read(self) -> Generator[CodeEvent | None]:
        held: list[CodeChunk] = []
        while True:
            data = self._call.receive(_HOLD_S if held else self._look_after_s)
            if data is None:
                if not held:
                    yield None
                yield from held
                held = []
                continue
            phase = data["phase"]
            if phase == "end":
                if not self._answer.failed(data):
                    yield from held
                yield self._answer.finish(data)
                return
            if phase == "error":
                raise self._fault(data.get("error"))
            if phase != "event":
                raise self._answer.nonsense(f"a frame with the phase {self._quote(phase)!r}")
            event = self._event(data)
            if isinstance(event, CodeChunk) and event.name == "stderr":
                # The failure is told by the result; whoever shows that needs it once.
                if held or is_traced(event.text):
                    held.append(event)
                    continue
            elif not self._answer.failed({}):
                yield from held
                held = []
            if event is not None:
                yield event

    def _event(self, data: dict[str, Any]) -> CodeChunk | CodeOutput | None:
        kind = data.get("eventType", data.get("event_type"))
        if kind in ("stdout", "stderr"):
            text = data.get("chunk")
            if not isinstance(text, str):
                raise self._answer.nonsense(f"its {kind} is not text")
            self._weigh(len(text))
            self._answer.add_chunk(kind, text)
            return CodeChunk(kind, text)
        if kind == "result":
            output = self._answer.add_result(data.get("result"))
            self._weigh(sum(len(str(value)) for value in output.data.values()))
            return output
        if kind == "error":
            self._answer.add_error(data.get("error"))
        # Kinds that are new are left out.
        return None

    def _weigh(self, size: int) -> None:
        self._size += size
        if self._size > self._largest_answer:
            raise InvalidResponseError(
                f"{self._call.place} sent more than {self._largest_answer // 2**20} MB, which is "
                "not taken. The code may be running on: print less, or write to a file. The "
                "setting response_limit changes that.",
                request_id=self._call.id,
            )

    def _fault(self, error: object) -> ServiceFaultError | ToolNotFoundError:
        code, message = "", str(error or "no reason given")
        if isinstance(error, dict):
            code, message = str(error.get("code") or ""), str(error.get("message") or "")
        said = self._quote(f"[{code}] {message}" if code else message)
        if "run_code not found" in message:
            return ToolNotFoundError(
                f"The session's image has no tool 'run_code' ({said}). "
                'Create the session with image_id="code_latest".',
                request_id=self._call.id,
            )
        return ServiceFaultError(
            f"{self._call.place} could not run the code: {said}. Whether it ran is unknown.",
            request_id=self._call.id,
            code=code,
        )
