"""A run's events in the service's form: documents for requests, frames for streams.

It knows the text of `run_code` in its current and legacy shapes, the error shapes A, B and C, and
the `data` of streaming frames (AgentBay wire protocol, run_code).
"""

from __future__ import annotations

import itertools
import json
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from agentbay_kernel.local.events import Event, Failure, Finished, Result, Stream
from agentbay_kernel.local.turns import give_way

# The official client closes the connection on a frame of 1 MiB; JSON may double a chunk's size.
CHUNK = 128 * 1024
FRAME_LIMIT = 1000 * 1024
# Bytes of a response in memory; a larger one is in a file that has no name.
IN_MEMORY = 32 * 1024
PIECE = 64 * 1024
# A larger piece takes longer than all of a short cell's.
MUCH = 32 * 1024


class Spool:
    """A buffer of bytes, on disk if they are many.

    Responses wait for other calls, and for clients that read slowly. However many wait, and however
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

    def parts(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes between two offsets."""
        end = self.size if end is None else end
        while start < end:
            self._file.seek(start)
            piece = self._file.read(min(PIECE, end - start))
            start += len(piece)
            yield piece

    def close(self) -> None:
        """Delete the bytes."""
        self._file.close()


def text_pieces(text: str, levels: int = 0) -> Iterator[bytes]:
    """Yield a string in UTF-8, escaped as in that many nested strings of JSON."""
    for at in range(0, len(text), PIECE):
        yield _escaped(text[at : at + PIECE].encode("utf-8", "replace"), levels)


def json_pieces(value: Any, levels: int = 0) -> Iterator[bytes]:
    """Yield a value as JSON, escaped as above; an object's long strings are never copied whole."""
    if isinstance(value, dict):
        before = "{"
        for key, item in value.items():
            yield from text_pieces(f"{before}{_dumped(str(key))}: ", levels)
            yield from json_pieces(item, levels)
            before = ", "
        yield from text_pieces("}" if value else "{}", levels)
    elif isinstance(value, str):
        yield from text_pieces('"', levels)
        yield from text_pieces(value, levels + 1)
        yield from text_pieces('"', levels)
    else:
        yield from text_pieces(_dumped(value), levels)


_CONTROL = bytes(range(0x20))


def _escaped(data: bytes, levels: int, control: bool = True) -> bytes:
    """Return a part of a text in UTF-8, escaped as in that many nested strings of JSON.

    `control` is False if it has no control characters, as JSON has none.
    """
    if control and levels and len(data.translate(None, _CONTROL)) < len(data):
        # Any byte is a character here, and stays one byte.
        data = _dumped(data.decode("latin-1"))[1:-1].encode("latin-1")
        levels -= 1
    for _ in range(levels):
        data = data.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return data


# Start and end in a spool.
Span = tuple[int, int]


class RunResult:
    """The events of one run, collected as the parts of a document.

    Arguments:
        shape: of the document: current, legacy or plain.
    """

    def __init__(self, shape: str = "current") -> None:
        self.shape = shape
        self.trace = uuid.uuid4().hex
        self._spool = Spool()
        self._streams: dict[str, list[Span]] = {"stdout": [], "stderr": []}
        # For each: its span, whether it is the value of the cell, its display id.
        self._results: list[tuple[Span, bool, str | None]] = []
        self.failure: Failure | None = None
        self.count: int | None = None
        self.seconds = 0.0

    async def add(self, event: Event) -> None:
        """Add an event, piece by piece."""
        match event:
            case Stream(name, text):
                pieces = text_pieces(text) if self.shape == "plain" else json_pieces(text)
                self._streams[name].append(await self._store(pieces))
            case Result():
                await self._add_result(event)
            case Failure():
                self.failure = event
            case Finished(count, seconds):
                self.count, self.seconds = count, seconds

    async def _store(self, pieces: Iterable[bytes]) -> Span:
        start = self._spool.size
        for piece in pieces:
            self._spool.add(piece)
            if len(piece) > MUCH:
                await give_way()
        return start, self._spool.size

    async def _add_result(self, result: Result) -> None:
        """Add a result; one that updates a display replaces it, as a document has no updates."""
        replaced = None
        main, name = result.main, result.display_id
        if result.update:
            for index, (_, other_main, other_name) in enumerate(self._results):
                if other_name == name:
                    replaced, main = index, other_main
                    break
        pieces: Iterable[bytes]
        if self.shape == "plain":
            pieces = text_pieces(str(result.data.get("text/plain", "")))
        elif self.shape == "legacy":
            pieces = json_pieces(_legacy_item(result, main))
        else:
            # JSON in a string.
            pieces = itertools.chain([b'"'], json_pieces(_item(result, main), levels=1), [b'"'])
        entry = await self._store(pieces), main, name
        if replaced is None:
            self._results.append(entry)
        else:
            self._results[replaced] = entry

    def stream(self, name: str) -> Iterator[Iterator[bytes]]:
        """Return the pieces of a stream, each in parts."""
        return (self._spool.parts(*span) for span in self._streams[name])

    def results(self) -> Iterator[Iterator[bytes]]:
        """Return the results, each in parts."""
        return (self._spool.parts(*span) for span, _, _ in self._results)

    def close(self) -> None:
        """Delete what was collected."""
        self._spool.close()


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


class ToolResult:
    """The text that a tool returns, and whether it is an error.

    Arguments:
        text: a string, a spool of UTF-8, or the run whose document it is. A spool or a run is
            closed with the result.
        is_error: whether it is an error.
    """

    def __init__(self, text: str | Spool | RunResult, is_error: bool = False) -> None:
        self.is_error = is_error
        self._run = text if isinstance(text, RunResult) else None
        self._spool = text if isinstance(text, Spool) else Spool()
        if isinstance(text, str):
            for piece in text_pieces(text):
                self._spool.add(piece)

    def parts(self) -> Iterator[bytes]:
        """Yield the text in UTF-8."""
        if self._run is None:
            yield from self._spool.parts()
            return
        for part in SHAPES[self._run.shape](self._run):
            yield part.encode("utf-8", "replace") if isinstance(part, str) else part

    @property
    def size(self) -> int:
        """The text's length in bytes."""
        return sum(map(len, self.parts()))

    def escaped(self, levels: int) -> Iterator[bytes]:
        """Yield the text, escaped as in that many nested strings of JSON."""
        control = self._run is None or self._run.shape == "plain"
        return (_escaped(part, levels, control) for part in self.parts())

    def close(self) -> None:
        """Delete the text."""
        self._spool.close()
        if self._run is not None:
            self._run.close()


def tool_result(run: RunResult, error_shape: str = "A") -> ToolResult:
    """Return the result of a blocking `run_code`.

    Arguments:
        run: the run.
        error_shape: A (an error, whose text is the document), B (the document, not an error), C (an
            error, whose text is a message).
    """
    failure = run.failure
    if failure is not None and error_shape == "C":
        run.close()
        return ToolResult(_message(failure), is_error=True)
    is_error = failure is not None and (error_shape == "A" or run.shape == "plain")
    return ToolResult(run, is_error)


def _message(failure: Failure) -> str:
    return f"{failure.name}: {failure.value}" if failure.value else failure.name


Parts = Iterator[str | bytes]


def _current(run: RunResult) -> Parts:
    """Yield the document in parts."""
    failure = run.failure
    yield from ('{"executionError": ', _dumped("" if failure is None else _message(failure)))
    yield ', "result": '
    yield from _listed(run.results())
    yield ", "
    yield from _streams(run, None if failure is None else failure.traceback)
    yield from _ending(run, {"traceId": run.trace})


def _streams(run: RunResult, traceback: str | None) -> Parts:
    yield '"stdout": '
    yield from _listed(run.stream("stdout"))
    yield ', "stderr": '
    last = [] if traceback is None else [[_dumped(traceback)]]
    yield from _listed(itertools.chain(run.stream("stderr"), last))


def _ending(run: RunResult, more: dict[str, Any]) -> Parts:
    fields = {"execution_count": run.count, "execution_time": round(run.seconds, 6), **more}
    yield f", {_dumped(fields)[1:]}"


def _listed(items: Iterable[Iterable[str | bytes]]) -> Parts:
    """Yield a JSON list of items that are JSON."""
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


def _legacy(run: RunResult) -> Parts:
    failure = run.failure
    yield '{"logs": {'
    yield from _streams(run, None)
    yield '}, "results": '
    yield from _listed(run.results())
    error = (
        None
        if failure is None
        else {"name": failure.name, "value": failure.value, "traceback": failure.traceback}
    )
    yield from (', "error": ', _dumped(error))
    yield from _ending(run, {"isError": failure is not None})


def _legacy_item(result: Result, main: bool) -> dict[str, Any]:
    named = {SHORT_NAMES.get(mime, mime): value for mime, value in result.data.items()}
    return {**named, "is_main_result": main}


def _plain(run: RunResult) -> Parts:
    for parts in itertools.chain(run.stream("stdout"), run.stream("stderr")):
        yield from parts
    if run.failure is not None:
        yield run.failure.traceback
    for parts in run.results():
        yield from parts


# The shapes of document that versions of the service return.
SHAPES: dict[str, Callable[[RunResult], Parts]] = {
    "current": _current,
    "legacy": _legacy,
    "plain": _plain,
}


def stream_frames(event: Event, failure: Failure | None) -> Iterator[dict[str, Any]]:
    """Yield the streaming frames of one event; `failure` is the run's failure so far.

    A failure's traceback is a stderr chunk, as in the result of a blocking call.
    """
    match event:
        case Stream(name, text):
            yield from _chunks(name, text)
        case Result(data, metadata, main):
            result: dict[str, Any] = {"isMainResult": main, "mime": data}
            if metadata:
                result["metadata"] = metadata
            sizes = {mime: _json_size(mime, value) for mime, value in data.items()}
            if sum(sizes.values()) + _json_size("metadata", metadata) > FRAME_LIMIT:
                yield from _chunks("stderr", _too_large(data))
                result = {"isMainResult": main, "mime": _small_part(data, sizes)}
            yield {"phase": "event", "eventType": "result", "result": result}
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


def _json_size(key: str, value: Any) -> int:
    """Return the length of an object's item as JSON; of a text beyond the limit, at least that."""
    if isinstance(value, str) and len(value) > FRAME_LIMIT:
        return len(value)
    return len(json.dumps({key: value}))


def _small_part(data: dict[str, Any], sizes: dict[str, int]) -> dict[str, Any]:
    """Return the parts of a bundle that fit into a frame, the smallest first."""
    small: dict[str, Any] = {}
    room = FRAME_LIMIT - CHUNK
    for mime in sorted(sizes, key=lambda mime: sizes[mime]):
        room -= sizes[mime]
        if sizes[mime] < CHUNK and room > 0:
            small[mime] = data[mime]
    return small or {"text/plain": "<a result too large to be streamed>"}
