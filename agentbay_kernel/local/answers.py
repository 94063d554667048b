"""A run's events as the service's answers: documents for requests, frames for streams.

In: events. Out: the tool text of `run_code` in its current and its legacy shapes, the error
shapes A, B and C, and the `data` of streaming frames (AgentBay wire protocol, run_code).
"""

from __future__ import annotations

import codecs
import itertools
import json
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from agentbay_kernel.local.events import Event, Failure, Finished, Result, Stream

# The official client closes the connection on a frame of 1 MiB; JSON may double a chunk's size.
CHUNK = 128 * 1024
FRAME_LIMIT = 1000 * 1024


# What an answer holds in memory; the rest of it is in a file that has no name.
IN_MEMORY = 32 * 1024
PIECE = 64 * 1024


class Spool:
    """Bytes in the order in which they came, on disk if they are many.

    Answers wait for other calls, and for clients that read slowly. However many wait, and however
    large they are, they take next to no memory.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
        self.size = 0

    def add(self, data: bytes) -> None:
        """Append bytes."""
        self._file.seek(self.size)
        self._file.write(data)
        self.size += len(data)

    def add_text(self, text: str, levels: int = 0) -> None:
        """Append a text, as it stands in so many strings of JSON, one in the other."""
        for at in range(0, len(text), PIECE):
            self.add(escaped(text[at : at + PIECE], levels))

    def add_json(self, value: Any, levels: int = 0) -> None:
        """Append a value as JSON; the long strings of an object are never copied as a whole."""
        if isinstance(value, dict):
            before = "{"
            for key, item in value.items():
                self.add_text(f"{before}{_dumped(str(key))}: ", levels)
                self.add_json(item, levels)
                before = ", "
            self.add_text("}" if value else "{}", levels)
        elif isinstance(value, str):
            self.add_text('"', levels)
            self.add_text(value, levels + 1)
            self.add_text('"', levels)
        else:
            self.add_text(_dumped(value), levels)

    def parts(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes between two places."""
        end = self.size if end is None else end
        while start < end:
            self._file.seek(start)
            piece = self._file.read(min(PIECE, end - start))
            start += len(piece)
            yield piece

    def close(self) -> None:
        """Forget them."""
        self._file.close()


def escaped(text: str, levels: int) -> bytes:
    """A text in UTF-8 as it stands in so many strings of JSON, one in the other."""
    if not levels:
        return text.encode("utf-8", "replace")
    data = _dumped(text)[1:-1].encode("utf-8", "replace")
    for _ in range(levels - 1):
        data = data.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return data


Place = tuple[int, int]


class Outcome:
    """Everything one run told, collected, as the parts of a document.

    Arguments:
        shape: of the document: current, legacy or plain.
    """

    def __init__(self, shape: str = "current") -> None:
        self.shape = shape
        self.trace = uuid.uuid4().hex
        self._spool = Spool()
        self._streams: dict[str, list[Place]] = {"stdout": [], "stderr": []}
        # Where each is, whether it is the value of the cell, and its display id.
        self._results: list[tuple[Place, bool, str | None]] = []
        self.failure: Failure | None = None
        self.count: int | None = None
        self.seconds = 0.0

    def add(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case Stream(name, text):
                start = self._spool.size
                if self.shape == "plain":
                    self._spool.add_text(text)
                else:
                    self._spool.add_json(text)
                self._streams[name].append((start, self._spool.size))
            case Result():
                self._add_result(event)
            case Failure():
                self.failure = event
            case Finished(count, seconds):
                self.count, self.seconds = count, seconds

    def _add_result(self, result: Result) -> None:
        """An answer has no updates: a display that is updated is shown as it ended."""
        replaced = None
        main, name = result.main, result.display_id
        if result.update:
            for index, (_, other_main, other_name) in enumerate(self._results):
                if other_name == name:
                    replaced, main = index, other_main
                    break
        start = self._spool.size
        if self.shape == "plain":
            self._spool.add_text(str(result.data.get("text/plain", "")))
        elif self.shape == "legacy":
            self._spool.add_json(_legacy_item(result, main))
        else:
            # JSON in a string.
            self._spool.add(b'"')
            self._spool.add_json(_item(result, main), levels=1)
            self._spool.add(b'"')
        entry = (start, self._spool.size), main, name
        if replaced is None:
            self._results.append(entry)
        else:
            self._results[replaced] = entry

    def stream(self, name: str) -> Iterator[Iterator[bytes]]:
        """The pieces of a stream, each in parts."""
        return (self._spool.parts(*place) for place in self._streams[name])

    def results(self) -> Iterator[Iterator[bytes]]:
        """The results, each in parts."""
        return (self._spool.parts(*place) for place, _, _ in self._results)

    def close(self) -> None:
        """Forget it."""
        self._spool.close()


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


class ToolAnswer:
    """The text of a tool and whether it is an error.

    Arguments:
        text: it, as a string or as a spool of UTF-8, or the run whose document it is. A spool or a
            run is closed with the answer.
        is_error: whether it is one.
    """

    def __init__(self, text: str | Spool | Outcome, is_error: bool = False) -> None:
        self.is_error = is_error
        self._run = text if isinstance(text, Outcome) else None
        self._spool = text if isinstance(text, Spool) else Spool()
        if isinstance(text, str):
            self._spool.add_text(text)

    def parts(self) -> Iterator[bytes]:
        """The text in UTF-8."""
        if self._run is None:
            yield from self._spool.parts()
            return
        for part in SHAPES[self._run.shape](self._run):
            yield part.encode("utf-8", "replace") if isinstance(part, str) else part

    @property
    def size(self) -> int:
        """Bytes of the text."""
        return sum(map(len, self.parts()))

    def escaped(self, levels: int) -> Iterator[bytes]:
        """The text as it stands in a JSON string, or in JSON in a JSON string, in parts."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        for part in self.parts():
            yield escaped(decoder.decode(part), levels)

    def close(self) -> None:
        """Forget it."""
        self._spool.close()
        if self._run is not None:
            self._run.close()


def tool_answer(outcome: Outcome, error_shape: str = "A") -> ToolAnswer:
    """The answer to a blocking `run_code`.

    Arguments:
        outcome: what the run told.
        error_shape: A (an error whose text is the document), B (the document is no error), C (an
            error whose text is a message).
    """
    failure = outcome.failure
    if failure is not None and error_shape == "C":
        outcome.close()
        return ToolAnswer(_message(failure), is_error=True)
    is_error = failure is not None and (error_shape == "A" or outcome.shape == "plain")
    return ToolAnswer(outcome, is_error)


def _message(failure: Failure) -> str:
    return f"{failure.name}: {failure.value}" if failure.value else failure.name


Parts = Iterator[str | bytes]


def _current(outcome: Outcome) -> Parts:
    """The document, in parts."""
    failure = outcome.failure
    yield from ('{"executionError": ', _dumped("" if failure is None else _message(failure)))
    yield ', "result": '
    yield from _listed(outcome.results())
    yield ", "
    yield from _streams(outcome, None if failure is None else failure.traceback)
    yield from _ending(outcome, {"traceId": outcome.trace})


def _streams(outcome: Outcome, traceback: str | None) -> Parts:
    yield '"stdout": '
    yield from _listed(outcome.stream("stdout"))
    yield ', "stderr": '
    last = [] if traceback is None else [[_dumped(traceback)]]
    yield from _listed(itertools.chain(outcome.stream("stderr"), last))


def _ending(outcome: Outcome, more: dict[str, Any]) -> Parts:
    told = {"execution_count": outcome.count, "execution_time": round(outcome.seconds, 6)}
    yield f", {_dumped({**told, **more})[1:]}"


def _listed(items: Iterable[Iterable[str | bytes]]) -> Parts:
    """A JSON list of items that are JSON."""
    before = "["
    for item in items:
        yield before
        yield from item
        before = ", "
    yield "]" if before != "[" else "[]"


def _item(result: Result, main: bool) -> dict[str, Any]:
    item = {"isMainResult": main, **result.data}
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


def _legacy(outcome: Outcome) -> Parts:
    failure = outcome.failure
    yield '{"logs": {'
    yield from _streams(outcome, None)
    yield '}, "results": '
    yield from _listed(outcome.results())
    error = (
        None
        if failure is None
        else {"name": failure.name, "value": failure.value, "traceback": failure.traceback}
    )
    yield from (', "error": ', _dumped(error))
    yield from _ending(outcome, {"isError": failure is not None})


def _legacy_item(result: Result, main: bool) -> dict[str, Any]:
    named = {SHORT_NAMES.get(mime, mime): value for mime, value in result.data.items()}
    return {**named, "is_main_result": main}


def _plain(outcome: Outcome) -> Parts:
    for parts in itertools.chain(outcome.stream("stdout"), outcome.stream("stderr")):
        yield from parts
    if outcome.failure is not None:
        yield outcome.failure.traceback
    for parts in outcome.results():
        yield from parts


# The documents that the service has had.
SHAPES: dict[str, Callable[[Outcome], Parts]] = {
    "current": _current,
    "legacy": _legacy,
    "plain": _plain,
}


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
