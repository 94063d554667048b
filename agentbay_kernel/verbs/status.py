"""`%agentbay status`: where cells run, how, for how long, and what they may do.

It shows a small table, or the same as data. It starts no session and no runtime: it tries
bubblewrap to show what a local runtime will isolate. It sends a request only to an address of this
machine that was not opened as a local runtime, to find out whether it is one.
"""

from __future__ import annotations

import platform
import time
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from agentbay_kernel._version import __version__
from agentbay_kernel.containment.hosts import allowed_hosts
from agentbay_kernel.errors import ConfigurationError
from agentbay_kernel.languages import LANGUAGES
from agentbay_kernel.sessions.backend import expected_isolation
from agentbay_kernel.verbs.bundles import data, shown_value, table
from agentbay_kernel.verbs.parser import LineParser
from agentbay_kernel.verbs.verb import MimeBundle, Verb, VerbContext

if TYPE_CHECKING:
    from agentbay_kernel.sessions import LiveSession, SessionManager

_POLICY = ("html", "untrusted", "timeout", "output_limit")


def report(manager: SessionManager) -> dict[str, Any]:
    """Return the known facts of a notebook's sessions, as data."""
    from importlib.metadata import version

    backend, settings = manager.store.backend, manager.settings
    sessions = [_session(live, manager) for live in manager.sessions()]
    expected = expected_isolation(settings) if backend is None else None
    document: dict[str, Any] = {
        "backend": settings.backend,
        "location": backend.place if backend is not None else None,
        "notice": backend.notice if backend is not None else "",
        "region": backend.client.endpoint.region_id
        if backend is not None and not backend.is_local
        else None,
        "sessions": sessions,
        "minutes_used": round(manager.store.used_s / 60, 1),
        "released": _released(manager, ends_with_us=expected is not None),
        "policy": {name: getattr(settings, name) for name in _POLICY if hasattr(settings, name)},
        "frame_hosts": _frame_hosts(settings.html_hosts),
        "versions": {
            "agentbay-kernel": __version__,
            "ipykernel": version("ipykernel"),
            "python": platform.python_version(),
        },
    }
    if backend is not None and (backend.is_local or not backend.client.endpoint.is_known):
        expected = backend.reported_isolation()
    if expected is not None:
        document["confinement"] = {
            key: expected.get(key) for key in ("summary", "confined", "not_confined")
        }
    return document


def _frame_hosts(configured: list[str]) -> list[str]:
    try:
        return [*configured, *allowed_hosts()]
    except ConfigurationError as error:
        return [*configured, f"({error})"]


def _session(live: LiveSession, manager: SessionManager) -> dict[str, Any]:
    age, life = live.age_s / 60, live.lifetime
    backend = manager.store.backend
    ends_itself = backend is not None and backend.releases_sessions and life is not None
    now = time.time()
    return {
        "name": live.name,
        "id": live.session.session_id,
        "attached": live.attached,
        "execution": {name: _execution(live, name) for name in LANGUAGES},
        "age_minutes": round(age, 1),
        # Until the service releases it: without further use, and in any case.
        "idle_minutes_left": _minutes(life.released_at - now) if life and ends_itself else None,
        "minutes_left": _minutes(life.ends_at - now) if life and ends_itself else None,
    }


def _minutes(seconds: float) -> float:
    return round(max(0.0, seconds) / 60, 1)


def _execution(live: LiveSession, language: str) -> dict[str, Any]:
    execution = live.execution_in_use(language)
    if execution is None:
        return {"kind": None, "why": "no cell has run yet"}
    return {"kind": execution.kind, "why": live.why(language)}


def _released(manager: SessionManager, ends_with_us: bool) -> str:
    settings, backend = manager.settings, manager.store.backend
    if ends_with_us or (backend is not None and not backend.releases_sessions):
        return "when this notebook's kernel ends"
    return (
        f"after {settings.idle_minutes} min without use, or {settings.max_minutes} min in any case"
    )


def _status(options: Namespace, manager: SessionManager, context: VerbContext) -> MimeBundle:
    document = report(manager)
    return data(document) if options.json else table(_rows(document))


def _rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    location = document["location"]
    if location is None:
        local = document["backend"] == "local"
        location = "local runtime on this machine" if local else "AgentBay"
        location += " (not contacted yet: no session was needed so far)"
    rows = [("Backend", location)]
    if document["region"]:
        rows.append(("Region", document["region"]))
    if document["backend"] != "local" and document["notice"]:
        rows.append(("Notice", document["notice"]))
    for it in document["sessions"]:
        shown = f"{it['id']}, {it['age_minutes']:.0f} min old"
        if it["attached"]:
            shown += ", attached: it is not this notebook's, and its owner decides when it ends"
        if it["minutes_left"] is not None:
            shown += (
                f"\nreleased in {it['idle_minutes_left']:.0f} min if it is not used, in "
                f"{it['minutes_left']:.0f} min in any case"
            )
        rows.append((f"Session {it['name']}", shown))
        for language, how in it["execution"].items():
            kind = "" if how["kind"] is None else f"{how['kind']} execution: "
            rows.append((f"  {LANGUAGES[language].display_name}", kind + how["why"]))
    if not document["sessions"]:
        rows.append(("Sessions", "none: the next cell creates one"))
    if not document["sessions"] or not all(it["attached"] for it in document["sessions"]):
        rows.append(("Released", document["released"]))
    rows.append(("Minutes used", f"{document['minutes_used']:.1f}"))
    if confinement := document.get("confinement"):
        unknown = "not known: this address does not report it"
        rows.append(("Isolation", str(confinement["summary"] or unknown)))
        for title, key in (("  confined", "confined"), ("  not confined", "not_confined")):
            if confinement[key]:
                rows.append((title, "\n".join(map(str, confinement[key]))))
    policy = [f"{name} {shown_value(value)}" for name, value in document["policy"].items()]
    if hosts := document["frame_hosts"]:
        policy.append(f"frames load from {' '.join(hosts)}")
    rows.append(("Policy", ", ".join(policy)))
    versions = [f"{name} {value}" for name, value in document["versions"].items()]
    rows.append(("Versions", ", ".join(versions)))
    return rows


def _status_arguments(parser: LineParser) -> None:
    parser.add_argument("--json", action="store_true", help="Show JSON")


STATUS = Verb(
    "status",
    "Show where cells run, how, for how long, and what they may do",
    _status,
    _status_arguments,
    passes_cells=True,
    examples=("%agentbay status", "%agentbay status --json"),
)
