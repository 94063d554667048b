"""Ways to open a session: create one, reclaim that of an earlier kernel, or attach another's.

A session is recorded before the request to create it is sent. Its labels reveal nothing about the
user or the notebook.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentbay_kernel._version import __version__
from agentbay_kernel.errors import (
    AgentBayError,
    AuthenticationError,
    QuotaError,
    ResponseLostError,
    ServiceUnreachableError,
    SessionError,
    SessionLimitError,
    SessionNotFoundError,
    ThrottledError,
)
from agentbay_kernel.execution.bridge.decoder import IdOwners
from agentbay_kernel.execution.bridge.installer import end_bridge
from agentbay_kernel.execution.bridge.wakeup import release_any
from agentbay_kernel.service import CREATE_LABEL, AgentBay, CreateSessionParams, Session
from agentbay_kernel.sessions.backend import Backend
from agentbay_kernel.sessions.lifetime import Lifetime, clock
from agentbay_kernel.sessions.registry import HOW_TO_FREE, Registry, described
from agentbay_kernel.sessions.session import LiveSession
from agentbay_kernel.sessions.statefile import HANDED, Record

if TYPE_CHECKING:
    from agentbay_kernel.config import AgentBaySettings

TOOL = "agentbay-kernel"
_NONE_CREATED = "No session was created; this cell did not run."
_NONE_KNOWN = (
    "{} did not respond to the request for a session. As far as is known, no session was created; "
    "this cell did not run. If the service creates one later, it is deleted."
)
# Errors after which there certainly is no session.
_NOT_CREATED = (AuthenticationError, QuotaError, ServiceUnreachableError, ThrottledError)


@dataclass(frozen=True)
class Opened:
    """A session that was opened, and a note for the user."""

    live: LiveSession
    note: str = ""


class Opener:
    """Opens sessions for one session manager.

    Arguments:
        settings: the settings in force.
        registry: the state file, as this process uses it.
    """

    def __init__(self, settings: AgentBaySettings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry
        # Shared by a notebook's sessions: one session can't change the displays of another.
        self._id_owners = IdOwners()

    def create(self, backend: Backend, name: str) -> LiveSession:
        """Create a session.

        Raises:
            SessionLimitError: the user has as many sessions as are allowed.
            QuotaError: the account has as many as are allowed; the message lists the user's own.
            SessionError, CommandError: it could not be created.
            StateFileError: it can't be recorded, so it was not created.
        """
        labels = {"tool": TOOL, "version": __version__, "session": name}
        if not backend.releases_sessions:
            # A runtime that this program started ends with it, and its sessions too.
            session = self._send_create(backend.client, CreateSessionParams(labels=labels))
            return LiveSession(name, session, self._settings, id_owners=self._id_owners)
        settings, registry = self._settings, self._registry
        record = self._reserve(backend.client, name)
        params = CreateSessionParams(
            image_id=settings.image,
            labels={**labels, "owner": registry.owner.id, CREATE_LABEL: record.create_label},
            idle_release_timeout_min=settings.idle_minutes,
            max_runtime_min=settings.max_minutes,
        )
        try:
            session = self._send_create(backend.client, params)
        except BaseException as error:
            if isinstance(error, _NOT_CREATED):
                registry.forget([record.create_label])
            else:
                # It may exist, or still be created: it is searched for until that is certain.
                registry.give_up([record.create_label])
            if isinstance(error, QuotaError):
                raise self._with_own_sessions(error, backend.client.endpoint.url) from error
            raise
        registry.confirm(record.create_label, session.session_id)
        return self._live(name, session, record)

    def reclaim(self, backend: Backend, record: Record) -> Opened | None:
        """Return the session of this notebook's earlier kernel; None if it is gone.

        Raises:
            CommandError: the service was not reached; the session may still exist.
        """
        session = self._find(backend.client, record)
        if session is None:
            if record.session_id:
                self._registry.forget([record.create_label])
            else:
                # A create that was on its way when the kernel died may still be executed.
                self._registry.give_up([record.create_label])
            return None
        self._registry.confirm(record.create_label, session.session_id)
        live = self._live(record.name, session, record)
        if record.stage == HANDED:
            # A restarted kernel gets fresh interpreters in the same session, with its files.
            end_bridge(session)
            return Opened(live)
        # A call that the dead kernel left waiting would block for a minute.
        release_any(session)
        return Opened(
            live,
            f"AgentBay: this notebook's kernel had ended without notice (it was last active at "
            f"{clock(record.used_at)}). Its session {session.session_id} was taken back, with its "
            "variables and files.\n",
        )

    def attach(self, backend: Backend, session_id: str, name: str, execution: str) -> LiveSession:
        """Return another owner's session, to be used and left as it is.

        Arguments:
            execution: how its cells are run, direct or bridged.

        Raises:
            SessionNotFoundError: there is none with that id.
            CommandError: the service refused, or was not reached.
        """
        answer = backend.client.get(session_id)
        if isinstance(answer.failure, SessionNotFoundError):
            raise SessionNotFoundError(
                f"There is no session {session_id} at {backend.place} for this key: it has ended, "
                "or it is another account's or another region's. Nothing was created.",
                request_id=answer.request_id,
            )
        session = _session_of(answer.session, answer.failure, answer.error_message)
        return LiveSession(
            name, session, self._settings, attached_for=execution, id_owners=self._id_owners
        )

    def _reserve(self, client: AgentBay, name: str) -> Record:
        place, lives_s = client.endpoint.url, self._settings.max_minutes * 60.0
        try:
            return self._registry.reserve(name, place, lives_s)
        except SessionLimitError:
            # The service may have released some meanwhile.
            listed = {row["sessionId"] for row in client.list_all({"tool": TOOL})}
            known = {one.session_id for one in self._registry.records() if one.session_id}
            return self._registry.reserve(name, place, lives_s, ended=known - listed)

    def _send_create(self, client: AgentBay, params: CreateSessionParams) -> Session:
        try:
            answer = client.create(params)
            return _session_of(answer.session, answer.failure, answer.error_message)
        except ServiceUnreachableError as error:
            raise ServiceUnreachableError(f"{error} {_NONE_CREATED}") from error
        except ResponseLostError as error:
            # The lost response is that to a create: the error's own message is about code.
            raise ResponseLostError(_NONE_KNOWN.format(client.endpoint.host)) from error

    def _find(self, client: AgentBay, record: Record) -> Session | None:
        session_id = record.session_id
        if not session_id:
            # The kernel died during the create.
            rows = list(client.list_all({CREATE_LABEL: record.create_label}))
            if not rows:
                return None
            session_id = rows[0]["sessionId"]
        answer = client.get(session_id)
        if isinstance(answer.failure, SessionNotFoundError):
            return None
        return _session_of(answer.session, answer.failure, answer.error_message)

    def _live(self, name: str, session: Session, record: Record) -> LiveSession:
        settings = self._settings
        lifetime = Lifetime(
            session,
            settings.idle_minutes * 60.0,
            record.expires_at - record.created_at,
            settings.keep_alive_minutes * 60.0,
            record.created_at,
        )
        return LiveSession(
            name,
            session,
            settings,
            create_label=record.create_label,
            lifetime=lifetime,
            created_at=record.created_at,
            id_owners=self._id_owners,
            shown=self._registry.shown(record.create_label),
        )

    def _with_own_sessions(self, error: QuotaError, place: str) -> QuotaError:
        own = [one for one in self._registry.records() if one.place == place and one.session_id]
        if own:
            listed = f"These are yours:\n{described(own, self._registry.owner)}\n{HOW_TO_FREE}"
        else:
            listed = "None of them is yours by this machine's state file."
        return QuotaError(f"{error} {listed}")


def _session_of(session: Session | None, failure: AgentBayError | None, words: str) -> Session:
    if session is None:
        raise failure or SessionError(words)
    return session
