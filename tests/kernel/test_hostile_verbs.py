"""A hostile notebook that uses our verbs, all of them and with every flag: it reads and writes
nothing outside its folder, changes no policy, and does nothing to sessions of others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentbay_kernel.config import AgentBaySettings
from agentbay_kernel.execution.cell import Cell
from agentbay_kernel.service import AgentBay, CreateSessionParams, Session
from agentbay_kernel.sessions import SessionManager
from agentbay_kernel.verbs.cell_options import cell_parser
from agentbay_kernel.verbs.table import VERBS
from tests.kernels import RunningKernel, running_kernel
from tests.runtime import running_local_runtime

# NEIGHBOUR is the id of another notebook's session, AGENT that of an agent's.
REFUSED = [
    # Sessions of others: by id, by a name that is not this notebook's, and once attached.
    "delete NEIGHBOUR",
    "delete AGENT --force",
    "delete neighbour",
    "delete --force",
    "restart NEIGHBOUR --force",
    "restart neighbour",
    "interrupt NEIGHBOUR",
    "interrupt neighbour",
    "extend 8h NEIGHBOUR",
    "top NEIGHBOUR --json",
    "vars -s NEIGHBOUR --json",
    "vars js -s neighbour",
    "detach NEIGHBOUR",
    "detach",
    "rerun neighbour",
    "attach session-none",
    "attach ../../etc/passwd",
    "attach NEIGHBOUR -s default",
    "delete as_agent",
    "delete as_agent --force",
    "restart as_agent",
    "restart as_agent --force",
    "interrupt as_agent",
    "extend 8h as_agent",
    "delete as_neighbour --force",
    "extend 8h as_neighbour",
    # More sessions than are allowed.
    "create one_more",
    # Read what is not the notebook's.
    "upload ../secret.txt",
    "upload /etc/passwd",
    "upload link --force",
    "upload .env -s default",
    "upload many/../.env",
    "upload many/.hidden/two.txt",
    "upload ..",
    "upload ~/.bashrc",
    # Write elsewhere, or what runs here later.
    "download evil.txt ../evil.txt",
    "download evil.txt /tmp/evil.txt",
    "download evil.txt .bashrc",
    "download evil.txt .ipython/profile_default/startup/evil.py",
    "download evil.txt __pycache__/evil.pyc",
    "download evil.txt __PYCACHE__/evil.csv",
    "download evil.txt conftest.py",
    "download evil.txt from-sandbox/conftest.py",
    "download evil.txt from-sandbox/conftest/__init__.py",
    "download evil.txt sub/HEAD",
    "download evil.txt link --force",
    "download evil.txt agentbay.toml/../../evil -s default",
    "last --save ../evil.txt",
    "last --save .env --force",
    "last --save link --force",
    "last --save __pycache__/zmq.pyc",
    "last --save conftest.py --force",
    # Loosen a policy.
    *(
        f"config {change}"
        for change in (
            "html=trust",
            "html_hosts=*",
            "widget_packages=evil",
            "audit_log=",
            "backend=local",
            "local_isolation=none",
            "local_network=True",
            "local_python=/bin/sh",
            "local_prewarm=1",
            "max_minutes=100000",
            "idle_minutes=100000",
            "max_sessions=1000",
            "exchange_limit=2000000001",
            "download_endings=py",
            "output_limit=20000001",
            "response_limit=9999999999",
            "state_dir=/tmp",
            "session_id=AGENT",
            "delete_attached=True",
            "setup_env=PATH",
            "keep_alive_minutes=100000",
            "grace_minutes=0",
            "on_restart=session",
            "image=other",
            "start=open",
            "timeout=5 html=trust",
            "endpoint=http://127.0.0.1:1",
            "html=trust --json",
        )
    ),
    "help ../../etc/passwd",
    "status --evil",
]
REFUSED_CELLS = [
    *(
        f"%%agentbay setup\n{recipe}"
        for recipe in (
            'files = ["../secret.txt"]',
            'files = ["/etc/passwd"]',
            'files = ["link"]',
            'files = [".env"]',
            'files = ["many/../../secret.txt"]',
            'env = ["PATH"]',
            'env = ["AGENTBAY_API_KEY"]',
            'pip = ["--index-url=http://127.0.0.1:1"]',
            'pip = ["-r", "../secret.txt"]',
            'npm = ["--prefix=/"]',
            'shell = ["id"]',
        )
    ),
    "%%agentbay python -i os\n1",
    "%%agentbay python -o os\n1",
    "%%agentbay python --capture kept\n1",
    "%%agentbay python --background\n1",
    "%%agentbay python -s one_more\n1",
    "%%agentbay python --ephemeral\n1",
    "%%agentbay python -t -5\n1",
]
# What is allowed, and must do no harm either.
ALLOWED = [
    "status --json",
    "sessions --all --json",
    "create",
    "top --json",
    "last",
    "help",
    "setup",
    "config --json",
    "extend 100000h",
    "attach AGENT --session as_agent",
    "attach NEIGHBOUR --session as_neighbour --bridged",
    "top as_agent",
    "vars --json",
    "vars js --session as_agent",
    "%%agentbay python --session as_neighbour --silent --timeout 60\nprecious = 'overwritten'",
    "interrupt as_neighbour",
    "restart as_neighbour --force",
    "restart",
]


@dataclass(frozen=True)
class World:
    """What a hostile notebook must not touch."""

    user: Path
    client: AgentBay
    neighbour: SessionManager
    agent: Session
    kernel: RunningKernel

    def run(self, line: str) -> dict[str, object]:
        """Let the notebook run a verb, or a cell; gives the reply."""
        ids = {"NEIGHBOUR": self.neighbour.sessions()[0].session.session_id}
        ids["AGENT"] = self.agent.session_id
        for word, session_id in ids.items():
            line = line.replace(word, session_id)
        code = line if line.startswith("%%") else f"%agentbay {line}"
        return self.kernel.run(code).reply

    def state(self) -> tuple[object, ...]:
        """All that is not the notebook's: files, settings, sessions."""
        files = {
            str(path): path.read_bytes()
            for path in sorted(self.user.rglob("*"))
            if path.is_file() and "state" not in path.parts
        }
        told = self.kernel.run("%agentbay config --json").of_type("display_data")
        others = {self.neighbour.sessions()[0].session.session_id, self.agent.session_id}
        listed = {row["sessionId"] for row in self.client.list_all()}
        return files, told[0]["data"]["text/plain"], others & listed, len(listed)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    user = tmp_path_factory.mktemp("home_of_user")
    folder = user / "notebooks"
    (folder / "many" / ".hidden").mkdir(parents=True)
    (user / "secret.txt").write_text("outside")
    (folder / "data.csv").write_text("a,b\n1,2\n")
    (folder / "many" / ".hidden" / "two.txt").write_text("2")
    (folder / ".env").write_text("TOKEN=secret")
    (folder / "link").symlink_to(user / "secret.txt")
    with (
        running_local_runtime("--idle-seconds", "0") as runtime,
        pytest.MonkeyPatch.context() as patch,
    ):
        env = {
            "AGENTBAY_ENDPOINT": runtime.endpoint,
            "AGENTBAY_API_KEY": runtime.api_key,
            "AGENTBAY_STATE_DIR": str(user / "state"),
            "AGENTBAY_MAX_SESSIONS": "2",
        }
        for name, value in env.items():
            patch.setenv(name, value)
        client = AgentBay(runtime.api_key, endpoint=runtime.endpoint)
        agent = client.create(CreateSessionParams(labels={"owner": "an agent"})).session
        assert agent is not None
        agent.code.run_code("precious = 41", "python")
        neighbour = SessionManager(AgentBaySettings(state_dir=str(user / "state")))
        list(neighbour.execute(Cell("precious = 41", "python"), "neighbour"))
        with running_kernel("agentbay-python", env, folder) as kernel:
            kernel.run("open('evil.txt', 'w').write('evil')")
            yield World(user, client, neighbour, agent, kernel)
        neighbour.close()
        agent.delete(wait=False)


def test_whatever_it_tries_nothing_of_others_is_changed(world: World) -> None:
    before = world.state()
    for line in ALLOWED:
        assert world.run(line)["status"] == "ok", line
    assert world.state() == before
    for line in [*REFUSED, *REFUSED_CELLS]:
        reply = world.run(line)
        assert reply["status"] == "error", line
        assert reply["ename"] in (
            "AttachedSessionError",
            "NotAllowedError",
            "RecipeError",
            "SessionError",
            "SessionLimitError",
            "SessionNotFoundError",
            "VerbError",
        ), (line, reply)
        assert world.state() == before, line
    # And none of it was done unseen.
    assert world.run("detach as_neighbour")["status"] == "ok"
    assert world.run("detach as_agent")["status"] == "ok"
    value = Cell("print(precious)", "python")
    said = [m.content.get("text") for m in world.neighbour.execute(value, "neighbour")]
    assert "41\n" in said
    assert world.agent.code.run_code("print(precious)", "python").logs.stdout == ["41\n"]
    assert world.agent.get_labels().labels["owner"] == "an agent"
    modules = "import sys; [name for name in sys.modules if name.startswith('_agentbay_bridge')]"
    session = world.neighbour.sessions()[0].session
    assert session.code.run_code(modules, "python").result == "['_agentbay_bridge']"


def test_no_verb_and_no_flag_is_left_out() -> None:
    lines = [f"%agentbay {line}" for line in [*REFUSED, *ALLOWED] if not line.startswith("%%")]
    cells = [line for line in [*REFUSED_CELLS, *ALLOWED] if line.startswith("%%")]
    for verb in VERBS.values():
        mine = [line.split() for line in [*lines, *cells] if line.split()[:2] == verb.typed.split()]
        assert mine, verb.typed
        for action in verb.parser.actions:
            names = set(action.option_strings) - {"-h", "--help"}
            assert not names or any(names & set(words) for words in mine), (verb.name, names)
    heads = [set(cell.splitlines()[0].split()) for cell in cells]
    for action in cell_parser().actions:
        names = set(action.option_strings) - {"-h", "--help"}
        assert not names or any(names & words for words in heads), names


def test_untrusted_it_reaches_not_even_its_folder(world: World) -> None:
    folder = world.user / "notebooks"
    with running_kernel("agentbay-python", {"AGENTBAY_UNTRUSTED": "1"}, folder) as kernel:
        before = world.state()
        for line in (
            "%agentbay upload data.csv",
            "%agentbay download made.bin new.bin",
            "%agentbay last --save x.txt",
            f"%agentbay attach {world.agent.session_id} -s agent",
            "%agentbay config untrusted=False",
            '%%agentbay setup\nfiles = ["data.csv"]',
            "%%agentbay python -i os\n1",
            "%%agentbay python -o os\n1",
            "%%agentbay python --capture kept\n1",
        ):
            assert kernel.run(line).reply["ename"] == "NotAllowedError", line
        assert json.loads(
            kernel.run("%agentbay status --json").of_type("display_data")[0]["data"]["text/plain"]
        )["policy"]["untrusted"]
        assert world.state() == before
