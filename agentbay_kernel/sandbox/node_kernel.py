"""The JavaScript kernel at the far end of the bridge: a Node worker in the sandbox.

It gets requests of the channel "node" (start, execute, complete, inspect, interrupt) from the
bridge. It adds Jupyter messages to the bridge's outbox: for each request a reply and an idle
status, as a kernel does. The worker (node_worker.js) is started with the first request, and again
when it has ended. Output of a cell's timers after its end still belongs to that cell: the cell's
reply shows whether anything continues ("alive"), and a line of the channel "bridge" when nothing
does ("quiet").

Runs inside a sandbox, with Python 3.9 or newer on a POSIX system.
"""

from __future__ import annotations

import collections
import json
import os
import re
import selectors
import signal
import threading
import time
import uuid
from typing import Any, Callable, Iterable

from agentbay_kernel.sandbox.node_process import CHUNK, Worker, find_node
from agentbay_kernel.sandbox.outbox import MOST_MESSAGE, Outbox

OLDEST = 18
# After an interrupt, a worker whose cell has not ended by then is killed.
GRACE_S = 2.0
# Until then, it is sent at this interval to child processes that have started meanwhile.
AGAIN_S = 0.1
# A signal to the worker's group has reached the worker by then.
SIGNALLED_S = 1.0
# If the worker is busy for longer, a completion or inspection is answered without it.
ANSWER_WITHIN_S = 0.5
ALWAYS_KEPT = ("status", "error", "execute_input", "input_request")
# Fields of a cell's request that are sent to the worker.
RUN_FIELDS = (
    "code",
    "source",
    "define",
    "await",
    "name",
    "offset",
    "shifts",
    "expressions",
    "asks",
)


class NodeKernel:
    """The notebook's JavaScript kernel. One thread does the work; others send it messages."""

    def __init__(self, outbox: Outbox, folder: str, source: str) -> None:
        self.outbox = outbox
        self.path = os.path.join(folder, "node_worker.js")
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(source)
        self.inbox: collections.deque[Any] = collections.deque()
        self.selector = selectors.DefaultSelector()
        self.wake_read, self.wake_write = os.pipe()
        self.selector.register(
            self.wake_read, selectors.EVENT_READ, lambda: os.read(self.wake_read, CHUNK)
        )
        self.worker: Worker | None = None
        self.starts: list[dict[str, Any]] = []
        self.waiting: collections.deque[dict[str, Any]] = collections.deque()
        self.current: dict[str, Any] | None = None
        self.latest = ""
        self.failure: dict[str, Any] | None = None
        # Completions and inspections that were sent to the worker: the request, and its deadline.
        self.asked: dict[str, tuple[dict[str, Any], float]] = {}
        self.names: list[str] = []
        # Has the current cell's code begun, does it only wait, and must it be interrupted?
        self.begun = self.waits = False
        self.stopping = False
        # The number of the question that the current cell waits with.
        self.question: int | None = None
        # Until then, or until the worker has got the signal to its group, no cell begins.
        self.signalled_at: float | None = None
        self.again_at: float | None = None
        self.kill_at: float | None = None
        self.killed = False
        self.lost = False
        threading.Thread(target=self.serve, name="agentbay-node", daemon=True).start()

    def post(self, message: Any) -> None:
        """Send the thread a request, or a worker that has ended."""
        self.inbox.append(message)
        os.write(self.wake_write, b"\0")

    def close(self) -> None:
        """End the worker. No request may come after this."""
        if self.worker is not None:
            self.worker.signal(signal.SIGKILL)

    def serve(self) -> None:
        """Handle requests, the worker's output and deadlines. The thread's work."""
        while True:
            try:
                for key, _ in self.selector.select(self.pause_s()):
                    key.data()
                while self.inbox:
                    self.take(self.inbox.popleft())
                self.check_deadlines()
            except Exception as error:
                # No cell may wait for ever.
                self.fail_current("NodeError", f"{type(error).__name__}: {error}")
                if self.worker is not None:
                    self.worker.signal(signal.SIGKILL)

    def pause_s(self) -> float | None:
        """Return the time to the next deadline, None if there is none."""
        due = [at for _, at in self.asked.values()]
        due += [at for at in (self.signalled_at, self.again_at, self.kill_at) if at is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def check_deadlines(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if self.signalled_at is not None and now >= self.signalled_at:
            self.signalled_at = None
            self.next()
        if self.again_at is not None and now >= self.again_at and self.worker is not None:
            self.again_at = now + AGAIN_S
            self.worker.interrupt_new_children()
        if self.kill_at is not None and now >= self.kill_at and self.worker is not None:
            self.kill_at, self.killed = None, True
            self.worker.signal(signal.SIGKILL)
        for identity in [one for one, (_, at) in self.asked.items() if now >= at]:
            self.answer_without_worker(self.asked.pop(identity)[0])

    # Requests

    def take(self, message: Any) -> None:
        """Handle a request, or a worker that has ended."""
        if isinstance(message, Worker):
            self.worker_ended(message)
            return
        kind = message["h"]["msg_type"]
        if kind == "execute_request":
            self.waiting.append(message)
            self.next()
        elif kind == "start_request":
            self.starts.append(message)
            self.launch()
        elif kind == "interrupt_request":
            self.interrupt(message["b"]["cell"])
            self.end(message, {"status": "ok"})
        elif kind == "input_reply":
            self.answer_question({"text": str(message["b"]["value"])})
        elif self.worker is not None and self.worker.version:
            identity, content = message["h"]["msg_id"], message["b"]
            self.asked[identity] = message, time.monotonic() + ANSWER_WITHIN_S
            self.send({"id": identity, "op": kind.replace("_request", ""), **content})
        else:
            self.answer_without_worker(message)

    def launch(self) -> None:
        """Start the worker, unless it runs."""
        if self.worker is not None:
            self.answer_starts()
            return
        node = find_node()
        try:
            if not node:
                raise OSError("there is no `node` in the sandbox")
            worker = Worker(node, self.path)
        except (OSError, ValueError) as error:
            self.start_failed(str(error))
            return
        self.worker = worker
        self.selector.register(
            worker.frames, selectors.EVENT_READ, lambda: self.read_frames(worker)
        )
        for fd in worker.outputs:
            # Bound now: the loop changes the variable.
            read: Callable[[], object] = lambda fd=fd: self.read_both(worker, fd)  # type: ignore[misc] # noqa: E731
            self.selector.register(fd, selectors.EVENT_READ, read)
        threading.Thread(
            target=self.await_end, args=(worker,), name="agentbay-node-end", daemon=True
        ).start()

    def await_end(self, worker: Worker) -> None:
        """Notify the thread when a worker ends."""
        worker.process.wait()
        self.post(worker)

    def answer_starts(self, why_not: str = "") -> None:
        """Reply to start requests when the worker has started or failed."""
        assert self.worker is not None or why_not
        if not why_not and self.worker is not None and not self.worker.version:
            return
        status = "error" if why_not else "ok"
        version = self.worker.version if self.worker is not None else ""
        for message in self.starts:
            self.end(message, {"status": status, "evalue": why_not, "version": version})
        self.starts.clear()

    def start_failed(self, why: str) -> None:
        """Fail all requests that wait for a worker."""
        self.answer_starts(why)
        while self.waiting:
            self.current = self.waiting.popleft()
            self.fail_current("NodeError", f"Node could not be started: {why}")

    def next(self) -> None:
        """Send the next cell to the worker, if that is free."""
        if self.current is not None or not self.waiting or self.signalled_at is not None:
            return
        if self.worker is None:
            self.launch()
        if self.worker is None or not self.worker.version:
            return
        self.current = self.waiting.popleft()
        self.latest = self.current["h"]["msg_id"]
        if self.lost:
            self.lost = False
            note = "The JavaScript process had ended; in the new one all variables are lost.\n"
            self.stream(self.latest, "stderr", note)
        content = self.current["b"]
        run = {name: content[name] for name in RUN_FIELDS if name in content}
        self.send({"id": self.latest, "op": "run", **run})

    def send(self, request: dict[str, Any]) -> None:
        """Send the worker a request."""
        worker = self.worker
        assert worker is not None
        worker.unsent += json.dumps(request).encode() + b"\n"
        self.write(worker)

    def write(self, worker: Worker) -> None:
        """Send as much as possible now, the rest when the pipe has room."""
        worker.write()
        registered = worker.input in self.selector.get_map()
        if worker.unsent and not registered:
            self.selector.register(worker.input, selectors.EVENT_WRITE, lambda: self.write(worker))
        elif registered and not worker.unsent:
            self.selector.unregister(worker.input)

    def interrupt(self, cell: str) -> None:
        """Interrupt a cell: a running one by a signal, one in the queue at once."""
        for message in self.waiting:
            if message["h"]["msg_id"] == cell:
                self.waiting.remove(message)
                error = {"ename": "KeyboardInterrupt", "evalue": "", "traceback": []}
                self.publish(cell, "error", error)
                self.end(message, {"status": "error", **error, "alive": False})
                return
        if self.current is not None and self.current["h"]["msg_id"] == cell:
            self.stopping = True
            self.kill_at = time.monotonic() + GRACE_S
            self.signal_worker()

    def signal_worker(self) -> None:
        """Interrupt the current cell, if its code has begun or only waits."""
        if not self.stopping or self.worker is None:
            return
        if self.waits:
            self.signalled_at = time.monotonic() + SIGNALLED_S
            self.worker.signal(signal.SIGINT)
            self.send({"op": "interrupt", "id": self.latest})
        elif self.begun and self.again_at is None:
            self.worker.interrupt()
            self.again_at = time.monotonic() + AGAIN_S
        elif self.begun:
            # The user has pressed Stop again.
            self.worker.interrupted.clear()
        self.answer_question({})

    def answer_question(self, answer: dict[str, Any]) -> None:
        """Answer code that waits for the user's input; without text, the answer interrupts it."""
        if self.question is not None and self.worker is not None:
            self.worker.answer({"number": self.question, **answer})
            self.question = None

    def answer_without_worker(self, message: dict[str, Any]) -> None:
        """Answer a completion or inspection without the worker, which is busy or missing."""
        if message["h"]["msg_type"] != "complete_request":
            self.end(message, {"found": False})
            return
        found = re.search(r"(\.\s*)?([\w$]*)$", message["b"]["before"])
        assert found is not None
        word = found[2]
        names = [] if found[1] else [name for name in self.names if name.startswith(word)]
        self.end(message, {"word": word, "matches": names, "types": ["instance"] * len(names)})

    # The worker's output

    def read_frames(self, worker: Worker) -> bool:
        """Handle frames that have arrived; return whether there was data."""
        data = worker.read(worker.frames)
        if not data:
            self.note_end(worker.frames, data)
            return False
        worker.line += data
        if b"\n" in data:
            *lines, rest = bytes(worker.line).split(b"\n")
            worker.line[:] = rest
            for line in lines:
                self.handle(worker, json.loads(line))
        return True

    def read_both(self, worker: Worker, fd: int) -> None:
        """Read this output of a child process; handle the worker's frames, which may be older,
        before it is published."""
        data = worker.read(fd)
        if data:
            worker.unpublished.append((fd, data))
            self.read_frames(worker)
            self.publish_output(worker)
        else:
            self.note_end(fd, data)

    def read_outputs(self, worker: Worker) -> None:
        """Read and publish all output of child processes that has arrived."""
        self.publish_output(worker)
        for fd in worker.outputs:
            while data := worker.read(fd):
                worker.unpublished.append((fd, data))
                self.publish_output(worker)
            self.note_end(fd, data)

    def publish_output(self, worker: Worker) -> None:
        """Publish output of child processes or of Node itself that was read."""
        while worker.unpublished:
            fd, data = worker.unpublished.pop(0)
            text = worker.decoders[fd].decode(data)
            if not worker.version:
                worker.startup_output += text
            elif text:
                self.stream(self.latest, worker.outputs[fd], text)

    def note_end(self, fd: int, data: bytes | None) -> None:
        """Stop reading a pipe that has ended."""
        if data is not None and fd in self.selector.get_map():
            self.selector.unregister(fd)

    def handle(self, worker: Worker, frame: dict[str, Any]) -> None:
        """Handle a frame of the worker."""
        kind, cell = frame["event"], frame.get("id") or self.latest
        if kind in ("stdout", "stderr"):
            self.stream(cell, kind, frame["text"])
        elif kind == "begin":
            self.begun = True
            self.signal_worker()
            self.publish(cell, "execute_input", {"code": "", "pid": worker.process.pid})
        elif kind == "waits":
            self.waits = True
            self.signal_worker()
        elif kind == "result":
            facts = {"data": frame["data"], "metadata": frame["metadata"], "execution_count": None}
            self.publish(cell, "execute_result", facts)
        elif kind == "display":
            facts = {name: frame[name] for name in ("data", "metadata", "transient")}
            self.publish(cell, "update_display_data" if frame["update"] else "display_data", facts)
        elif kind == "clear":
            self.publish(cell, "clear_output", {"wait": frame["wait"]})
        elif kind == "input":
            self.question = frame["number"]
            self.publish(
                cell, kind + "_request", {name: frame[name] for name in ("prompt", "password")}
            )
            # It was interrupted just before.
            if self.stopping:
                self.answer_question({})
        elif kind == "ran":
            self.read_outputs(worker)
            worker.answer({"number": frame["number"]})
        elif kind == "error":
            self.fail(frame["name"], frame["value"], frame["stack"].split("\n"))
        elif kind == "done":
            self.names = frame["names"]
            # Output of the cell's child processes has arrived: they ended before the cell.
            self.read_outputs(worker)
            self.finish(frame["alive"], frame["expressions"] or {}, frame["pages"])
        elif kind == "quiet":
            self.report_quiet()
        elif kind == "signalled":
            self.signalled_at = None
            self.next()
        elif kind == "reply" and frame["id"] in self.asked:
            message, _ = self.asked.pop(frame["id"])
            self.end(message, frame["content"])
        elif kind == "ready":
            major = int(frame["version"].lstrip("v").split(".")[0])
            if major < OLDEST:
                worker.startup_output = f"Node {frame['version']} is older than {OLDEST}"
                worker.signal(signal.SIGKILL)
                return
            worker.version = frame["version"]
            self.answer_starts()
            self.next()

    def worker_ended(self, worker: Worker) -> None:
        """Handle the end of a worker: report what is lost, continue with the next cell."""
        while self.read_frames(worker):
            pass
        self.read_outputs(worker)
        for fd in (worker.input, worker.frames, *worker.outputs):
            if fd in self.selector.get_map():
                self.selector.unregister(fd)
        worker.close()
        self.worker, self.names, self.signalled_at = None, [], None
        self.report_quiet()
        for message, _ in list(self.asked.values()):
            self.answer_without_worker(message)
        self.asked.clear()
        if not worker.version:
            self.start_failed(worker.startup_output.strip()[-2000:] or "it ended at once")
            return
        self.lost = self.current is None
        if self.killed:
            name, reason = (
                "KeyboardInterrupt",
                (
                    "the cell could not be interrupted, so its JavaScript process was killed: all "
                    "variables are lost"
                ),
            )
        else:
            code = worker.process.returncode
            how = f"was killed (signal {-code})" if code < 0 else f"ended (exit status {code})"
            name, reason = "NodeError", f"the JavaScript process {how}: all variables are lost"
        self.killed = False
        self.fail_current(name, reason)
        self.next()

    # Messages

    def fail_current(self, name: str, reason: str) -> None:
        """End the running cell, if there is one, with an error of our own."""
        if self.current is not None:
            self.fail(name, reason, [f"{name}: {reason}"])
            self.finish(False, {})

    def fail(self, name: str, value: str, traceback: list[str]) -> None:
        """Publish the running cell's error."""
        if self.current is not None:
            self.failure = {"ename": name, "evalue": value, "traceback": traceback}
            self.publish(self.current["h"]["msg_id"], "error", self.failure)

    def finish(self, alive: bool, expressions: dict[str, Any], pages: Iterable[str] = ()) -> None:
        """End the running cell; the pages are for the front end's pager."""
        message, failure = self.current, self.failure
        self.current, self.failure = None, None
        self.begun, self.waits, self.stopping = False, False, False
        self.again_at = self.kill_at = None
        self.question = None
        if message is None:
            return
        if failure is None:
            payload = [
                {"source": "page", "data": {"text/plain": page}, "start": 0} for page in pages
            ]
            facts = {"status": "ok", "payload": payload, "user_expressions": expressions}
        else:
            facts = {"status": "error", **failure}
        self.end(message, {**facts, "alive": alive})
        self.next()

    def report_quiet(self) -> None:
        """Report that nothing continues that could print."""
        self.outbox.add(json.dumps({"c": "bridge", "quiet": "node"}).encode())

    def stream(self, cell: str, name: str, text: str) -> None:
        """Add a piece of a cell's output."""
        self.outbox.add_stream(envelope("iopub", "stream", cell, {"name": name, "text": text}))

    def publish(self, cell: str, kind: str, content: dict[str, Any]) -> None:
        """Add a message of a cell."""
        channel = "stdin" if kind == "input_request" else "iopub"
        message = envelope(channel, kind, cell, content)
        line = json.dumps(message).encode()
        if len(line) > MOST_MESSAGE:
            most = f"only {MOST_MESSAGE / 1e6:,.0f} MB are carried at once"
            self.outbox.leave_out(message, most, f" of {len(line) / 1e6:,.0f} MB")
        else:
            self.outbox.add(line, kind not in ALWAYS_KEPT)

    def end(self, message: dict[str, Any], content: dict[str, Any]) -> None:
        """End a request: add its reply and its idle status."""
        identity = message["h"]["msg_id"]
        reply = message["h"]["msg_type"].replace("_request", "_reply")
        idle = {"execution_state": "idle"}
        self.outbox.add(json.dumps(envelope("node", reply, identity, content)).encode())
        self.outbox.add(json.dumps(envelope("iopub", "status", identity, idle)).encode())
        self.outbox.note(identity, "reply")
        self.outbox.note(identity, "idle")


def envelope(channel: str, kind: str, parent: str, content: dict[str, Any]) -> dict[str, Any]:
    """Return a message in the bridge's form."""
    header = {"msg_id": uuid.uuid4().hex, "msg_type": kind}
    return {"c": channel, "h": header, "p": {"msg_id": parent}, "m": {}, "b": content}
