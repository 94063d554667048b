"""A run's events as the service's answers: documents for requests, frames for streams.

In: events. Out: the tool text of `run_code` in its current and its legacy shapes, the error
shapes A, B and C, and the `data` of streaming frames (AgentBay wire protocol, run_code).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from agentbay_kernel.local.events import Event, Failure, Finished, Result, Stream

# The official client closes the connection on a frame of 1 MiB; JSON may double a chunk's size.
CHUNK = 128 * 1024
FRAME_LIMIT = 1000 * 1024


@dataclass
class Outcome:
    """Everything one run told, collected."""

    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    failure: Failure | None = None
    count: int | None = None
    seconds: float = 0.0

    def add(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case Stream(name, text):
                chunks = self.stdout if name == "stdout" else self.stderr
                chunks.append(text)
            case Result():
                self._add_result(event)
            case Failure():
                self.failure = event
            case Finished(count, seconds):
                self.count, self.seconds = count, seconds

    def _add_result(self, result: Result) -> None:
        """An answer has no updates: a display that is updated is shown as it ended."""
        if result.update:
            for index, shown in enumerate(self.results):
                if shown.display_id == result.display_id:
                    self.results[index] = Result(
                        result.data, result.metadata, shown.main, shown.display_id
                    )
                    return
        self.results.append(result)


@dataclass(frozen=True)
class ToolAnswer:
    """The text of a tool and whether it is an error."""

    text: str
    is_error: bool = False


def tool_answer(outcome: Outcome, shape: str = "current", error_shape: str = "A") -> ToolAnswer:
    """The answer to a blocking `run_code`.

    Arguments:
        outcome: what the run told.
        shape: current, legacy or plain, the documents that the service has had.
        error_shape: A (an error whose text is the document), B (the document is no error), C (an
            error whose text is a message).
    """
    failure = outcome.failure
    if failure is not None and error_shape == "C":
        return ToolAnswer(_message(failure), is_error=True)
    is_error = failure is not None and error_shape == "A"
    if shape == "plain":
        return ToolAnswer(_plain(outcome), is_error=failure is not None)
    document = _legacy(outcome) if shape == "legacy" else _current(outcome)
    return ToolAnswer(json.dumps(document, ensure_ascii=False), is_error=is_error)


def _message(failure: Failure) -> str:
    return f"{failure.name}: {failure.value}" if failure.value else failure.name


def _current(outcome: Outcome) -> dict[str, Any]:
    failure = outcome.failure
    return {
        "executionError": "" if failure is None else _message(failure),
        "result": [json.dumps(_item(result), ensure_ascii=False) for result in outcome.results],
        "stdout": outcome.stdout,
        "stderr": outcome.stderr if failure is None else [*outcome.stderr, failure.traceback],
        "execution_count": outcome.count,
        "execution_time": round(outcome.seconds, 6),
        "traceId": uuid.uuid4().hex,
    }


def _item(result: Result) -> dict[str, Any]:
    item = {"isMainResult": result.main, **result.data}
    if result.metadata:
        item["metadata"] = result.metadata
    return item


SHORT_NAMES = {
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/svg+xml": "svg",
    "application/json": "json",
    "text/latex": "latex",
    "application/vnd.vegalite.v4+json": "chart",
    "application/vnd.vegalite.v5+json": "chart",
}


def _legacy(outcome: Outcome) -> dict[str, Any]:
    failure = outcome.failure
    return {
        "logs": {"stdout": outcome.stdout, "stderr": outcome.stderr},
        "results": [
            {
                **{SHORT_NAMES.get(mime, mime): value for mime, value in result.data.items()},
                "is_main_result": result.main,
            }
            for result in outcome.results
        ],
        "error": None
        if failure is None
        else {"name": failure.name, "value": failure.value, "traceback": failure.traceback},
        "isError": failure is not None,
        "execution_count": outcome.count,
        "execution_time": round(outcome.seconds, 6),
    }


def _plain(outcome: Outcome) -> str:
    shown = [str(r.data["text/plain"]) for r in outcome.results if "text/plain" in r.data]
    failed = [] if outcome.failure is None else [outcome.failure.traceback]
    return "".join([*outcome.stdout, *outcome.stderr, *failed, *shown])


def stream_frames(event: Event, failure: Failure | None) -> Iterator[dict[str, Any]]:
    """The streaming frames of one event; `failure` is what the run has failed with so far.

    A failure's traceback is a stderr chunk, as in a blocking answer.
    """
    match event:
        case Stream(name, text):
            yield from _chunks(name, text)
        case Result(data, metadata, main):
            result: dict[str, Any] = {"isMainResult": main, "mime": data}
            if metadata:
                result["metadata"] = metadata
            frame = {"phase": "event", "eventType": "result", "result": result}
            if len(json.dumps(frame)) > FRAME_LIMIT:
                yield from _chunks("stderr", _too_large(data))
                frame["result"] = {**result, "mime": _small_part(data)}
            yield frame
        case Failure():
            yield from _chunks("stderr", event.traceback)
            error = {"code": event.name, "message": event.value, "traceId": uuid.uuid4().hex}
            yield {"phase": "event", "eventType": "error", "error": error}
        case Finished(count, seconds):
            yield {
                "phase": "end",
                "status": "finished" if failure is None else "failed",
                "executionError": None if failure is None else _message(failure),
                "executionCount": count,
                "executionTime": round(seconds, 6),
            }


def _chunks(name: str, text: str) -> Iterable[dict[str, Any]]:
    for start in range(0, len(text), CHUNK):
        chunk = text[start : start + CHUNK]
        yield {"phase": "event", "eventType": name, "chunk": chunk}


def _too_large(data: dict[str, Any]) -> str:
    kinds = ", ".join(data)
    return (
        f"A result ({kinds}) is larger than a streaming frame may be and was left out; "
        "write it to a file instead, or run the cell without streaming.\n"
    )


def _small_part(data: dict[str, Any]) -> dict[str, Any]:
    small = {mime: value for mime, value in data.items() if len(json.dumps(value)) < CHUNK}
    return small or {"text/plain": "<a result too large to be streamed>"}
