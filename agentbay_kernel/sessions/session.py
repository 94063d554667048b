"""A session in use: its name here, its place at the service, its life, how its cells are run.

In: what the session manager opened. Out: the execution for a language, and what was run so far.
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
        session: its place at the service.
        settings: the settings in force; a notebook may change how its cells are run.
        create_label: names its record in the state file; empty when it has none.
        attached_for: for direct or bridged execution, where it is another's: nothing of it is
            changed. Empty where it is this notebook's own.
        lifetime: how long it lives; None when that is not ours to know.
        created_at: seconds since the epoch; now unless given.
        claims: of the notebook's sessions on its displays and comms.
        shown: how much of its output was shown; None if nobody takes it back.
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
        claims: IdOwners | None = None,
        shown: ShownOutput | None = None,
    ) -> None:
        self._claims = claims
        self._shown = shown
        self.name = name
        self.session = session
        self.create_label = create_label
        self.attached = bool(attached_for)
        self.lifetime = lifetime
        self.created_at = time.time() if created_at is None else created_at
        #: Was it created when the notebook was opened, and has nothing asked for it since?
        self.unused = False
        # What `rerun` runs again when the session is lost.
        self.past: list[PastCell] = []
        self.running: set[Cell] = set()
        # A cell of which it is not known yet what became of it.
        self.unsettled: Cell | None = None
        # Why it is used no more; empty as long as it is.
        self.ended = ""
        #: Were its packages named, behind the first error for one that is missing?
        self.packages_named = False
        # What is still to be done to it before its next cell.
        self.recipes: list[Recipe] = []
        self._settings, self._attached_for = settings, attached_for
        # The owner of an attached session may have a bridge of the same kind in it.
        self._module = f"{MODULE}_{uuid.uuid4().hex[:12]}" if attached_for else MODULE
        self._direct = DirectExecution(session)
        self._client: BridgeClient | None = None
        self._bridged: dict[str, BridgedExecution] = {}
        # Why a language has no bridge, where one was wanted.
        self.unbridged: dict[str, str] = {}
        self._choosing = threading.Lock()

    @property
    def age_s(self) -> float:
        """Seconds since it was created; for an attached one, since then."""
        return time.time() - self.created_at

    @property
    def is_bridged(self) -> bool:
        """Does a bridge lead into it?"""
        return self._client is not None

    @property
    def usage(self) -> dict[str, Any]:
        """What the sandbox uses, as a usage_reply; empty where that is not known."""
        client = self._client
        return client.usage if client is not None else {}

    @property
    def silent_s(self) -> float:
        """For how many seconds its bridge has not answered, though it was asked."""
        client = self._client
        return client.silent_s if client is not None else 0.0

    def note_shown(self, at: int) -> None:
        """Note that its bridge's output before that offset has been shown."""
        client = self._client
        if self._shown is not None and client is not None and at:
            self._shown.note(client.name, at)

    def end_kernel(self) -> bool:
        """End the bridge's kernel at once; False where there is none, or it can't be reached."""
        client = self._client
        return client is not None and signal_by_shell(self.session, client.kernel_pid, "KILL")

    def renew(self) -> bool:
        """Let the next cell begin with fresh interpreters; False if only a new session does.

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

    def settle(self) -> str:
        """What became of the cell whose connection was lost; empty if there is none such.

        Raises:
            CommandError: it could not be found out yet.
        """
        cell = self.unsettled
        if cell is None or self._client is None:
            return ""
        first = (cell.code.strip().splitlines() or [""])[0][:60]
        words = _FATES[request_status(self.session, cell.message_id, self._module)]
        self.unsettled = None
        return f"AgentBay: the cell that was lost sight of (`{first}`) {words}\n"

    def note_begin(self, cell: Cell) -> None:
        """A cell is about to run."""
        self.running.add(cell)
        if cell.store_history and not cell.silent and cell.code.strip():
            self.past.append(PastCell(cell.code, cell.language))

    def note_unrun(self, cell: Cell) -> None:
        """A cell did not run after all: it is not one of those to run again."""
        if self.past and self.past[-1] == PastCell(cell.code, cell.language):
            self.past.pop()

    def note_end(self, cell: Cell) -> None:
        """A cell has ended, however it did."""
        self.running.discard(cell)

    def _wanted(self) -> str:
        """Which execution is wanted now: auto, direct or bridged."""
        return self._attached_for or self._settings.execution

    def execution_in_use(self, language: str) -> Execution | None:
        """How cells of that language are run; None as long as that is not known."""
        wanted = self._wanted()
        if wanted == "direct" or (wanted == "auto" and language in self.unbridged):
            return self._direct
        return self._bridged.get(language)

    def bridge(self, language: str) -> BridgedExecution | None:
        """The bridge to that language, if cells of it go by one; none is created."""
        execution = self.execution_in_use(language)
        return None if isinstance(execution, DirectExecution) else execution

    @property
    def python_bridge(self) -> BridgedPython | None:
        """The bridge to its Python, if it has one; none is created."""
        execution = self.execution_in_use(PYTHON.name)
        return execution if isinstance(execution, BridgedPython) else None

    def interrupt(self, cell: Cell) -> InterruptResult:
        """Stop a cell of it; says what became of that.

        Raises:
            CommandError: the service failed.
        """
        return self.execution_of(cell.language).interrupt(cell)

    def why(self, language: str) -> str:
        """Why cells of that language are run as they are."""
        wanted = self._wanted()
        if self.attached:
            if wanted == "direct":
                return "the session is another's, whose variables cells see so"
            return "it was attached with --bridged"
        if wanted != "auto":
            return f"the setting execution is {wanted}"
        return self.unbridged.get(language) or "the sandbox can run a bridge"

    def execution_of(self, language: str) -> Execution:
        """How cells of that language are run. The first time, a bridge is tried if wanted.

        Raises:
            CommandError: a bridge was insisted on and can't be had, or the service failed.
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
            client = BridgeClient(self.session, self._claims, self._module)
            if self.unsettled is not None:
                # The call that was lost sight of may be waiting there still.
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
        """Use the bridge no more that this execution failed with. The next cell gets a new one if
        the sandbox is well or if a bridge is insisted on, else it runs directly."""
        with self._choosing:
            if execution not in self._bridged.values():
                # It was replaced meanwhile.
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
        """It is used no more: what waits for it here is told why it waits in vain."""
        with self._choosing:
            self.ended = self.ended or why
            client, self._client = self._client, None
            self._bridged = {}
        if client is not None:
            client.close(BridgeError(f"The session is used no more: {why}."))

    def late(self) -> Iterator[tuple[str, Message]] | None:
        """What its code publishes when no cell of it runs, as it comes, and the id of the request
        that caused it; ends with the bridge. None where there is no bridge, and for all who ask
        but the first."""
        carried = self._client.late() if self._client is not None else None
        return None if carried is None else _late_messages(carried)


def _late_messages(late: Iterator[WireMessage]) -> Iterator[tuple[str, Message]]:
    for carried in late:
        message = as_message(carried)
        if message.type in OUTPUTS and message.type != "input_request":
            yield str(carried["p"].get("msg_id", "")), message
