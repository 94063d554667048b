"""A session in use: its name in the notebook, its object at the service, its lifetime, its bridge.

It chooses the execution for a language, and keeps the cells that were run so far.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentbay_kernel.errors import BridgeError, KernelEndedError, SilentSessionError
from agentbay_kernel.execution.bridge.client import BridgeClient
from agentbay_kernel.execution.bridge.decoder import IdOwners
from agentbay_kernel.execution.bridge.execution import BridgedExecution
from agentbay_kernel.execution.bridge.installer import MODULE, end_bridge, request_status
from agentbay_kernel.execution.bridge.javascript import BridgedJavaScript
from agentbay_kernel.execution.bridge.python import BridgedPython, signal_by_shell
from agentbay_kernel.execution.bridge.requests import OUTPUTS, WireMessage, as_message
from agentbay_kernel.execution.bridge.wakeup import release_any
from agentbay_kernel.execution.cell import Cell, InterruptResult
from agentbay_kernel.execution.direct import DirectExecution
from agentbay_kernel.execution.messages import Message
from agentbay_kernel.languages import JAVASCRIPT, PYTHON
from agentbay_kernel.service import Session

Execution = DirectExecution | BridgedExecution

if TYPE_CHECKING:
    from agentbay_kernel.config import AgentBaySettings
    from agentbay_kernel.sessions.lifetime import Lifetime
    from agentbay_kernel.sessions.recipe import Recipe
    from agentbay_kernel.sessions.shown import ShownOutput


_FATES = {
    "unknown": "did not run: it never reached the sandbox.",
    "running": "still runs. This cell waits for it and shows its output; interrupt to stop it.",
    "ended": "ran to its end. What it printed and was not shown yet follows.",
}


@dataclass(frozen=True)
class PastCell:
    """A cell that was run in a session: its code and its language."""

    code: str
    language: str


class LiveSession:
    """A session in use.

    Arguments:
        name: its name in the notebook.
        session: the session at the service.
        settings: the settings in force; a notebook may change how its cells are run.
        create_label: identifies its record in the state file; empty if it has none.
        attached_for: direct or bridged, if it belongs to another owner: then nothing in it is
            changed. Empty if it is this notebook's own.
        lifetime: its lifetime; None if it is attached, or ends with this process's local runtime.
        created_at: seconds since the epoch; now by default.
        id_owners: which of the notebook's sessions owns which displays and comms.
        shown: record of how much of its output was shown; None if it can't be reclaimed.
    """

    def __init__(
        self,
        name: str,
        session: Session,
        settings: AgentBaySettings,
        *,
        create_label: str = "",
        attached_for: str = "",
        lifetime: Lifetime | None = None,
        created_at: float | None = None,
        id_owners: IdOwners | None = None,
        shown: ShownOutput | None = None,
    ) -> None:
        self._id_owners = id_owners
        self._shown = shown
        self.name = name
        self.session = session
        self.create_label = create_label
        self.attached = bool(attached_for)
        self.lifetime = lifetime
        self.created_at = time.time() if created_at is None else created_at
        #: Whether it was created when the notebook was opened, and nothing has used it since.
        self.unused = False
        # The cells that `rerun` runs again if the session is lost.
        self.past: list[PastCell] = []
        self.running: set[Cell] = set()
        # A cell whose result is not known yet.
        self.lost_cell: Cell | None = None
        # Why it is not used any more; empty as long as it is.
        self.ended = ""
        #: Whether its packages were listed, after the first error for a missing one.
        self.packages_named = False
        # The recipes still to be applied before its next cell.
        self.recipes: list[Recipe] = []
        self._settings, self._attached_for = settings, attached_for
        # The owner of an attached session may have a bridge of the same kind in it.
        self._module = f"{MODULE}_{uuid.uuid4().hex[:12]}" if attached_for else MODULE
        self._direct = DirectExecution(session)
        self._client: BridgeClient | None = None
        self._bridged: dict[str, BridgedExecution] = {}
        # Why a language has no bridge although one was wanted.
        self.unbridged: dict[str, str] = {}
        self._choosing = threading.Lock()

    @property
    def age_s(self) -> float:
        """Seconds since it was created; for an attached one, since it was attached."""
        return time.time() - self.created_at

    @property
    def is_bridged(self) -> bool:
        """Whether a bridge leads into it."""
        return self._client is not None

    @property
    def usage(self) -> dict[str, Any]:
        """The usage of the sandbox, as in a usage_reply; empty if it is not known."""
        client = self._client
        return client.usage if client is not None else {}

    @property
    def silent_s(self) -> float:
        """Seconds for which its bridge has not responded to a request."""
        client = self._client
        return client.silent_s if client is not None else 0.0

    def note_shown(self, at: int) -> None:
        """Note that its bridge's output before that offset has been shown."""
        client = self._client
        if self._shown is not None and client is not None and at:
            self._shown.note(client.name, at)

    def end_kernel(self) -> bool:
        """End the bridge's kernel at once; False if there is none, or it can't be reached."""
        client = self._client
        return client is not None and signal_by_shell(self.session, client.kernel_pid, "KILL")

    def renew(self) -> bool:
        """Give the next cell fresh interpreters; False if only a new session does.

        Raises:
            CommandError: the service failed.
        """
        with self._choosing:
            client, self._client = self._client, None
            if client is None:
                return False
            self._bridged = {}
            client.close(KernelEndedError("The session was restarted while this cell ran."))
            signal_by_shell(self.session, client.kernel_pid, "KILL")
            end_bridge(self.session, self._module)
        return True

    def resolve_lost_cell(self) -> str:
        """Return what happened to the cell whose connection was lost; empty if there is none.

        Raises:
            CommandError: it could not be determined yet.
        """
        cell = self.lost_cell
        if cell is None or self._client is None:
            return ""
        first = (cell.code.strip().splitlines() or [""])[0][:60]
        words = _FATES[request_status(self.session, cell.message_id, self._module)]
        self.lost_cell = None
        return f"AgentBay: the cell that was lost sight of (`{first}`) {words}\n"

    def note_start(self, cell: Cell) -> None:
        """Note that a cell is about to run."""
        self.running.add(cell)
        if cell.store_history and not cell.silent and cell.code.strip():
            self.past.append(PastCell(cell.code, cell.language))

    def note_not_run(self, cell: Cell) -> None:
        """Note that a cell did not run, so it is not one of those to run again."""
        if self.past and self.past[-1] == PastCell(cell.code, cell.language):
            self.past.pop()

    def note_end(self, cell: Cell) -> None:
        """Note that a cell has ended, however it did."""
        self.running.discard(cell)

    def _wanted(self) -> str:
        """Return which execution is wanted now: auto, direct or bridged."""
        return self._attached_for or self._settings.execution

    def execution_in_use(self, language: str) -> Execution | None:
        """Return the execution for cells of that language; None if it is not chosen yet."""
        wanted = self._wanted()
        if wanted == "direct" or (wanted == "auto" and language in self.unbridged):
            return self._direct
        return self._bridged.get(language)

    def bridge(self, language: str) -> BridgedExecution | None:
        """Return the bridge to that language, if its cells use one; create none."""
        execution = self.execution_in_use(language)
        return None if isinstance(execution, DirectExecution) else execution

    @property
    def python_bridge(self) -> BridgedPython | None:
        """The bridge to its Python, if it has one; none is created."""
        execution = self.execution_in_use(PYTHON.name)
        return execution if isinstance(execution, BridgedPython) else None

    def interrupt(self, cell: Cell) -> InterruptResult:
        """Stop one of its cells; return the result of the interrupt.

        Raises:
            CommandError: the service failed.
        """
        return self.execution_of(cell.language).interrupt(cell)

    def why(self, language: str) -> str:
        """Return why cells of that language run in their execution."""
        wanted = self._wanted()
        if self.attached:
            if wanted == "direct":
                return "the session is another's, whose variables cells see so"
            return "it was attached with --bridged"
        if wanted != "auto":
            return f"the setting execution is {wanted}"
        return self.unbridged.get(language) or "the sandbox can run a bridge"

    def execution_of(self, language: str) -> Execution:
        """Return the execution for cells of that language; the first time, try a bridge if wanted.

        Raises:
            CommandError: a bridge is required and not possible, or the service failed.
        """
        wanted = self._wanted()
        if wanted == "direct":
            return self._direct
        with self._choosing:
            known = language in self._bridged or (wanted == "auto" and language in self.unbridged)
            if not known:
                try:
                    self._bridged[language] = self._bridge(language)
                    self.unbridged.pop(language, None)
                except BridgeError as error:
                    if wanted == "bridged":
                        raise
                    self.unbridged[language] = str(error)
            return self._bridged.get(language, self._direct)

    def _bridge(self, language: str) -> BridgedExecution:
        if self._client is None:
            client = BridgeClient(self.session, self._id_owners, self._module)
            if self.lost_cell is not None:
                # The call whose connection was lost may still be waiting there.
                release_any(self.session)
            client.install(self._shown.of if self._shown is not None else None)
            self._client = client
        if language == PYTHON.name:
            return BridgedPython(self._client)
        if language != JAVASCRIPT.name:
            raise BridgeError(f"there is no bridge to {language}")
        javascript = BridgedJavaScript(self._client)
        javascript.start()
        return javascript

    def give_up_bridge(self, execution: Execution, error: BridgeError) -> None:
        """Stop using the bridge of this failed execution.

        The next cell gets a new one if the sandbox works or if a bridge is required; otherwise it
        runs directly.
        """
        with self._choosing:
            if execution not in self._bridged.values():
                # It has been replaced meanwhile.
                return
            lost, self._bridged = self._bridged, {}
            if self._client is not None:
                self._client.close(error)
                self._client = None
            if self._wanted() != "bridged" and not isinstance(
                error, KernelEndedError | SilentSessionError
            ):
                self.unbridged.update(dict.fromkeys(lost, str(error)))

    def close(self, why: str) -> None:
        """Stop using it; report the reason to requests that wait for it."""
        with self._choosing:
            self.ended = self.ended or why
            client, self._client = self._client, None
            self._bridged = {}
        if client is not None:
            client.close(BridgeError(f"The session is used no more: {why}."))

    def late(self) -> Iterator[tuple[str, Message]] | None:
        """Return messages of its code outside of cells, each with the id of the causing request.

        They end with the bridge. None if there is no bridge, and for all callers after the first.
        """
        carried = self._client.late() if self._client is not None else None
        return None if carried is None else _late_messages(carried)


def _late_messages(late: Iterator[WireMessage]) -> Iterator[tuple[str, Message]]:
    for carried in late:
        message = as_message(carried)
        if message.type in OUTPUTS and message.type != "input_request":
            yield str(carried["p"].get("msg_id", "")), message
