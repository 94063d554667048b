"""Giving a new session what its recipe says.

In: a session and a `Recipe`. Out: a session with these files, variables and packages. Files go
first (a package may be one of them), variables before any kernel is started in the sandbox. An
installation runs beside the calls that look after it, so it may take longer than one request.
"""

from __future__ import annotations

import base64
import json
import os
import time

from agentbay_kernel.errors import CommandError, SetupError
from agentbay_kernel.service import Session
from agentbay_kernel.sessions.recipe import Recipe

_LARGEST_FILE = 100 * 1024 * 1024
_INSTALL_WITHIN_S = 900.0
_LOOK_EVERY_S = 0.7
_CALL_S = 55

# Each is an expression, so that no name is left behind in the sandbox's Python.
_WRITE = """(lambda os, b64, facts: (
    os.makedirs(os.path.dirname(os.path.abspath(facts['path'])), exist_ok=True),
    (lambda file: (file.write(b64.b64decode(facts['data'])), file.close()))(
        open(facts['path'], facts['mode'])),
) and None)(__import__('os'), __import__('base64'), __import__('json').loads({facts!r}))"""
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


def set_up(session: Session, recipe: Recipe) -> None:
    """Apply a recipe.

    Raises:
        SetupError: a part of it failed; says which and why.
        RecipeError: a file is no longer within reach.
    """
    for name, path in recipe.local_files():
        if path.stat().st_size > _LARGEST_FILE:
            raise SetupError(
                f"{recipe.source}: {name} is larger than 100 MB. Use `%agentbay upload {name}`."
            )
        _bring(session, recipe, name, path.read_bytes())
    _set_variables(session, recipe)
    if recipe.pip:
        command = [None, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
        _install(session, recipe, "pip", [*command, *recipe.pip])
    if recipe.npm:
        # npm's check for a newer npm would ask the network for what nobody wants to know.
        flags = ["--no-audit", "--no-fund", "--no-update-notifier"]
        _install(session, recipe, "npm", ["npm", "install", *flags, *recipe.npm])


def _bring(session: Session, recipe: Recipe, name: str, data: bytes) -> None:
    # In base64, which adds a third; half of what fits, because code is quoted on its way.
    size = session.capacity("run_code").sent * 3 // 8
    for start in range(0, max(1, len(data)), size):
        facts = {
            "path": name,
            "mode": "ab" if start else "wb",
            "data": base64.b64encode(data[start : start + size]).decode(),
        }
        _run(session, recipe, f"the file {name}", _WRITE.format(facts=json.dumps(facts)))


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
        # For what `shell` starts.
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
        f"The new session could not be set up as {recipe.source} says: {what}: {why}\nThis cell "
        "did not run. Correct the recipe and run it again."
    )


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-8:]) or "it failed and said nothing"
