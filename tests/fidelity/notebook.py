"""A front end that runs the corpus in one kernel and keeps what a notebook would store.

In: a running kernel and cells. Out: for each cell its reply and its published messages in order,
with the front end's part played: questions are answered, the page's messages are sent.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import zmq
from jupyter_client.blocking.client import BlockingKernelClient

from tests.fidelity.corpus import CorpusCell

CELL_S = 60


@dataclass
class Stored:
    """What became of a cell: what was published for it, what it asked, its reply."""

    published: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    reply: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Answers:
    """What is typed, and what must have been printed before that."""

    texts: list[str]
    after: str = ""
    due: int = 0


def run_cell(client: BlockingKernelClient, cell: CorpusCell) -> Stored:
    """Run one cell to its idle status, and what is sent after it to theirs.

    Raises:
        TimeoutError: the kernel did not end the cell.
    """
    options = dict(cell.options)
    answers = _Answers(list(options.pop("answers", ())), options.pop("answer_after", ""))
    sends = options.pop("send", ())
    metadata = options.pop("metadata", {})
    content = {
        "code": cell.code,
        "silent": False,
        "store_history": not options.get("silent", False),
        "user_expressions": {},
        "allow_stdin": True,
        "stop_on_error": False,
    } | options
    stored = Stored()
    _exchange(client, "execute_request", content, metadata, answers, stored)
    for kind, sent in sends:
        _exchange(client, kind, sent, {}, _Answers([]), stored)
    return stored


def _exchange(
    client: BlockingKernelClient,
    kind: str,
    content: dict[str, Any],
    metadata: dict[str, Any],
    answers: _Answers,
    stored: Stored,
) -> None:
    message = client.session.msg(kind, content, metadata=metadata)
    identity = message["header"]["msg_id"]
    client.shell_channel.send(message)
    awaiting = {"idle", "reply"} if kind.endswith("_request") else {"idle"}
    poller = zmq.Poller()
    channels = (client.iopub_channel, client.stdin_channel, client.shell_channel)
    for channel in channels:
        poller.register(channel.socket, zmq.POLLIN)
    deadline = time.monotonic() + CELL_S
    while awaiting:
        ready = dict(poller.poll(1000))
        if time.monotonic() > deadline:
            raise TimeoutError(f"{kind}: still no {' and no '.join(sorted(awaiting))}: {content}")
        for channel in channels:
            if channel.socket not in ready:
                continue
            arrived = channel.get_msg(timeout=1)
            if arrived["parent_header"].get("msg_id") != identity:
                continue
            if channel is client.iopub_channel:
                if arrived["content"].get("execution_state") == "idle":
                    awaiting.discard("idle")
                elif arrived["msg_type"] != "status":
                    _store(stored, arrived)
            elif channel is client.shell_channel:
                awaiting.discard("reply")
                stored.reply = arrived["content"]
            else:
                stored.asked.append(arrived["content"])
                answers.due += 1
        if answers.due and answers.after in _printed(stored):
            answers.due -= 1
            client.input(answers.texts.pop(0))


def _printed(stored: Stored) -> str:
    streams = [kept["content"]["text"] for kept in stored.published if kept["type"] == "stream"]
    return "".join(streams)


def _store(stored: Stored, arrived: dict[str, Any]) -> None:
    """Keep a message; a piece of a stream joins the piece of the same stream before it."""
    kept = {
        "type": arrived["msg_type"],
        "content": arrived["content"],
        "metadata": arrived["metadata"],
        "buffers": [bytes(part) for part in arrived.get("buffers", ())],
    }
    last = stored.published[-1] if stored.published else None
    if (
        last is not None
        and kept["type"] == last["type"] == "stream"
        and kept["content"]["name"] == last["content"]["name"]
    ):
        last["content"]["text"] += kept["content"]["text"]
    else:
        stored.published.append(kept)
