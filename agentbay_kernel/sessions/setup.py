"""Applies a recipe to a new session: files, variables and packages.

Files come first, because a package may be one of them. Variables come before any kernel starts in
the sandbox. An installation runs in the background and is polled, so it may take longer than one
request.
"""

from __future__ import annotations

import base64
import json
import os
import time

from agentbay_kernel.errors import CommandError, SetupError
from agentbay_kernel.service import Session, find_credentials
from agentbay_kernel.sessions.audit_log import AuditLog
from agentbay_kernel.sessions.files import FileList
from agentbay_kernel.sessions.recipe import Recipe

_INSTALL_WITHIN_S = 900.0
_LOOK_EVERY_S = 0.7
_CALL_S = 55

# Each is an expression, so that it leaves no name behind in the sandbox's Python.
_WRITE = """(lambda os, b64, parts: [(
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True),
    first and os.path.lexists(path) and os.remove(path),
    (lambda file: (file.write(b64.b64decode(data)), file.close()))(open(path, 'ab')),
    last and os.chmod(path, 0o444),
) for path, first, last, data in parts] and None)(
    __import__('os'), __import__('base64'), __import__('json').loads({facts!r}))"""
_ENVIRON = "__import__('os').environ.update(__import__('json').loads({facts!r}))"
_START = """(lambda sys, types, subprocess, tempfile, command: (
    sys.modules.__setitem__('_agentbay_setup', types.ModuleType('_agentbay_setup')),
    setattr(sys.modules['_agentbay_setup'], 'said', tempfile.TemporaryFile()),
    setattr(sys.modules['_agentbay_setup'], 'process', subprocess.Popen(
        [sys.executable if part is None else part for part in command],
        stdin=subprocess.DEVNULL, stdout=sys.modules['_agentbay_setup'].said,
        stderr=subprocess.STDOUT)),
) and None)(*map(__import__, ('sys', 'types', 'subprocess', 'tempfile')),
    __import__('json').loads({facts!r}))"""
_LOOK = """(lambda m, json: print(json.dumps({{'status': m.process.poll(),
    'said': (m.said.seek(0), m.said.read()[-3000:].decode('utf-8', 'replace'))[1]
    if m.process.poll() else ''}})))(
    __import__('sys').modules['_agentbay_setup'], __import__('json'))"""


def set_up(session: Session, recipe: Recipe, audit: AuditLog | None = None) -> str:
    """Apply a recipe.

    Arguments:
        audit: logs what is sent; None if there is no log.

    Returns:
        A line on the files that were sent, or an empty string.

    Raises:
        SetupError: a part of it failed; the message has the part and the reason.
        RecipeError: a file is no longer within reach, or holds a key.
        ConfigurationError: the audit log can't be written.
    """
    listed = recipe.local_files()
    _bring(session, recipe, listed, audit)
    _set_variables(session, recipe)
    if recipe.pip:
        command = [None, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
        _install(session, recipe, "pip", [*command, *recipe.pip])
    if recipe.npm:
        # npm's check for a newer npm would be a useless request to the network.
        flags = ["--no-audit", "--no-fund", "--no-update-notifier"]
        _install(session, recipe, "npm", ["npm", "install", *flags, *recipe.npm])
    return _described(recipe, listed)


def _bring(session: Session, recipe: Recipe, listed: FileList, audit: AuditLog | None) -> None:
    """Write read-only copies into the session's working directory; small files share a call."""
    # In base64, which adds a third; half of the capacity, because code is quoted on the way.
    most = session.capacity("run_code").sent * 3 // 8
    secrets = tuple(key for key in [find_credentials().api_key] if key)
    parts: list[tuple[str, bool, bool, str]] = []
    free = most

    def send() -> None:
        if parts:
            what = f"the file {parts[0][0]}"
            _run(session, recipe, what, _WRITE.format(facts=json.dumps(parts)))
            parts.clear()

    for file in listed.files:
        data = file.read(secrets)
        if audit is not None:
            audit.data(session.session_id, str(file.path), file.size)
        # Escaped twice, a character beyond ASCII takes seven characters.
        overhead = 7 * len(file.name) + 40
        start = 0
        while start < len(data) or start == 0:
            if free < overhead + 1000:
                send()
                free = most
            piece = data[start : start + max(1000, free - overhead)]
            end = start + len(piece)
            parts.append(
                (file.name, start == 0, end == len(data), base64.b64encode(piece).decode())
            )
            free -= overhead + len(piece)
            if not piece:
                break
            start = end
    send()


def _described(recipe: Recipe, listed: FileList) -> str:
    """Return a line on the files that were sent."""
    if not recipe.files:
        return ""
    files = "1 file" if len(listed.files) == 1 else f"{len(listed.files):,} files"
    line = f"AgentBay: copied {files}, {listed.size:,} bytes, into the session, read-only"
    if listed.left_out:
        line += f"; {listed.left_out:,} of other types left out"
    if listed.missing:
        names = ", ".join(name if name.isprintable() else ascii(name) for name in listed.missing)
        line += f"; not in the notebook's directory: {names}"
    return f"{line} ({recipe.source})"


def _set_variables(session: Session, recipe: Recipe) -> None:
    missing = [name for name in recipe.env if name not in os.environ]
    if missing:
        raise SetupError(
            f"{recipe.source} asks for {', '.join(missing)}, which is not set here. Set it before "
            "the kernel starts."
        )
    values = {name: os.environ[name] for name in recipe.env}
    if not values:
        return
    facts = json.dumps(values)
    _run(session, recipe, "the environment variables", _ENVIRON.format(facts=facts))
    if "set_env" in session.tools:
        # For processes that `shell` starts.
        pairs = [{"key": name, "value": value} for name, value in values.items()]
        try:
            session.call_mcp_tool("set_env", {"envs": pairs}, _CALL_S)
        except CommandError as error:
            raise _failed(recipe, "the environment variables", str(error)) from error


def _install(session: Session, recipe: Recipe, tool: str, command: list[str | None]) -> None:
    _run(session, recipe, tool, _START.format(facts=json.dumps(command)))
    give_up_at = time.monotonic() + _INSTALL_WITHIN_S
    while True:
        answer = json.loads(_run(session, recipe, tool, _LOOK.format()))
        if answer["status"] == 0:
            return
        if answer["status"] is not None:
            raise _failed(recipe, tool, _last_lines(answer["said"]))
        if time.monotonic() > give_up_at:
            raise _failed(recipe, tool, f"it had not ended after {_INSTALL_WITHIN_S / 60:.0f} min")
        time.sleep(_LOOK_EVERY_S)


def _run(session: Session, recipe: Recipe, what: str, code: str) -> str:
    result = session.code.run_code(code, "python", _CALL_S)
    if not result.success:
        raise _failed(recipe, what, result.error_message)
    return "".join(result.logs.stdout)


def _failed(recipe: Recipe, what: str, why: str) -> SetupError:
    return SetupError(
        f"The new session could not be set up by {recipe.source}: {what}: {why}\nThis cell "
        "did not run. Correct the recipe and run it again."
    )


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-8:]) or "it failed and printed nothing"
