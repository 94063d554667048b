"""What a program needs of a session: files, shell, long jobs, and all of it as coroutines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentbay_kernel.errors import (
    ExchangeError,
    InvalidTimeoutError,
    NotAllowedError,
    ResponseLostError,
    ServiceUnreachableError,
    SessionError,
    TargetExistsError,
    TooLargeError,
)
from agentbay_kernel.service import (
    AgentBay,
    AsyncAgentBay,
    CodeChunk,
    CodeExecutionResult,
    FileEntry,
    Session,
)
from tests.runtime import LocalRuntimeProcess, running_local_runtime


@pytest.fixture(scope="module")
def runtime() -> Iterator[LocalRuntimeProcess]:
    with running_local_runtime() as runtime:
        yield runtime


@pytest.fixture(scope="module")
def agent_bay(runtime: LocalRuntimeProcess) -> Iterator[AgentBay]:
    with AgentBay(runtime.api_key, endpoint=runtime.endpoint) as client:
        yield client


@pytest.fixture(scope="module")
def session(agent_bay: AgentBay) -> Iterator[Session]:
    with agent_bay.session() as session:
        yield session


def exists(agent_bay: AgentBay, session_id: str) -> bool:
    return any(it["sessionId"] == session_id for it in agent_bay.list_all())


def test_a_session_ends_with_its_block_however_that_ends(agent_bay: AgentBay) -> None:
    with pytest.raises(ZeroDivisionError), agent_bay.session() as session:
        assert exists(agent_bay, session.session_id)
        raise ZeroDivisionError
    assert not exists(agent_bay, session.session_id)
    # Deleted inside: no error hides anything.
    with agent_bay.session() as session:
        session.delete()


def test_no_session_is_an_exception() -> None:
    with (
        AgentBay("akm-1", endpoint="http://127.0.0.1:9") as nowhere,
        pytest.raises(ServiceUnreachableError),
        nowhere.session(),
    ):
        raise AssertionError("there is no session")


def test_a_refused_session_is_an_exception(runtime: LocalRuntimeProcess) -> None:
    with (
        AgentBay("akm-wrong", endpoint=runtime.endpoint) as stranger,
        pytest.raises(Exception, match="key"),
        stranger.session(),
    ):
        raise AssertionError("there is no session")


def test_a_command_has_its_streams_and_its_exit_code(session: Session) -> None:
    done = session.shell("echo out; echo err >&2; exit 3")
    assert (done.stdout, done.stderr, done.exit_code, done.success) == ("out\n", "err\n", 3, False)
    done = session.shell("pwd; echo $A", cwd="/tmp", envs={"A": "x 'y'"})
    assert done.stdout == "/tmp\nx 'y'\n" and done.success
    assert session.shell("sleep 5", timeout_s=0.3).exit_code == 124
    with pytest.raises(InvalidTimeoutError, match=r"session\.start"):
        session.shell("sleep 100", timeout_s=100)


def test_files_are_written_read_and_listed(session: Session) -> None:
    data = bytes(range(256)) * 9000
    for content in (data, b"", "Grüße\n"):
        session.files.write("new/of my/x.bin", content)
        expected = content.encode() if isinstance(content, str) else content
        assert session.files.read("new/of my/x.bin") == expected
    assert session.files.read_text("/workspace/new/of my/x.bin") == "Grüße\n"
    assert session.files.list("new") == [FileEntry("of my", True)]
    # Nothing is left beside it.
    assert session.files.list("new/of my") == [FileEntry("x.bin", False)]
    with pytest.raises(TooLargeError):
        session.files.read("new/of my/x.bin", limit=3)
    with pytest.raises(ExchangeError, match="not-there"):
        session.files.read("not-there")
    with pytest.raises(ExchangeError):
        session.files.write("new/of my", "a directory is there")


def test_directories_go_up_and_come_down_by_the_rule(session: Session, tmp_path: Path) -> None:
    (tmp_path / "up" / "deep").mkdir(parents=True)
    (tmp_path / "up" / "data.csv").write_text("a,b\n")
    (tmp_path / "up" / "deep" / "run.py").write_text("1")
    (tmp_path / "up" / ".secret").write_text("1")
    (tmp_path / "up" / "link").symlink_to("/etc/passwd")
    assert session.files.upload(tmp_path / "up", "up") == ["up/data.csv", "up/deep/run.py"]
    session.files.write("up/.bashrc", "x")
    session.files.write("up/conftest.py", "x")
    session.shell("ln -s .. up/loop")
    session.shell("rm up/loop")
    here = tmp_path / "here"
    written = session.files.download("up", here / "up")
    assert sorted(path.relative_to(here).as_posix() for path in written) == [
        "from-sandbox/up/conftest.py",
        "from-sandbox/up/deep/run.py",
        "up/data.csv",
    ]
    assert (here / "up" / "data.csv").read_text() == "a,b\n"
    with pytest.raises(TargetExistsError, match="force=True"):
        session.files.download("up", here / "up")
    session.files.write("up/data.csv", "new")
    session.files.download("up", here / "up", force=True)
    assert (here / "up" / "data.csv").read_text() == "new"
    with pytest.raises(TooLargeError):
        session.files.download("up", tmp_path / "small", limit=2)


@pytest.mark.parametrize("name", [".ssh/config", "__pycache__/a.csv", "CON.csv", "HEAD"])
def test_a_download_never_writes_under_such_a_name(
    session: Session, tmp_path: Path, name: str
) -> None:
    session.files.write("plain.csv", "1")
    session.files.write(f"bad/{name}", "1")
    if not name.startswith((".", "__")):
        with pytest.raises(NotAllowedError):
            session.files.download("bad", tmp_path / "bad")
    with pytest.raises(NotAllowedError):
        session.files.download("plain.csv", tmp_path / ".x.csv")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    session.shell("rm -rf bad")


def test_a_download_passes_no_link(session: Session, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "out").symlink_to(outside)
    session.files.write("out/a.csv", "1")
    with pytest.raises(NotAllowedError):
        session.files.download("out", tmp_path / "here" / "out")
    assert list(outside.iterdir()) == []


def test_a_limited_output_keeps_its_beginning_and_its_end(session: Session) -> None:
    code = "print('begin', 'x' * 5000, 'end'); 'y' * 5000"
    ran = session.code.run_code(code, "python", output_limit=100)
    (stdout,) = ran.logs.stdout
    assert stdout.startswith("begin") and stdout.endswith("end\n") and len(stdout) < 200
    assert "4,911 characters left out" in stdout
    assert len(ran.result) < 200 and ran.result.startswith("'yyy") and ran.result.endswith("yyy'")
    ran = session.code.run_code("raise ValueError('z' * 5000)", "python", output_limit=100)
    assert ran.error is not None and len(ran.error.value) < 200 and len(ran.error.traceback) < 200
    assert session.code.run_code("'short'", "python", output_limit=100).result == "'short'"


def test_a_job_is_followed_to_its_end_and_found_again(
    session: Session, agent_bay: AgentBay
) -> None:
    job = session.start(
        "echo one; echo $B; while [ ! -f go ]; do sleep 0.05; done; echo 'last é' >&2; exit 7",
        envs={"B": "two"},
    )
    followed: list[CodeChunk] = []
    seen = threading.Event()

    def follow() -> None:
        for chunk in job.follow():
            followed.append(chunk)
            seen.set()

    follower = threading.Thread(target=follow)
    follower.start()
    assert seen.wait(60) and job.status().running
    with pytest.raises(TimeoutError, match="still runs"):
        job.wait(0.1)
    # Another program, which knows the ids only.
    other = agent_bay.get(session.session_id).session
    assert other is not None
    other.shell("touch go")
    done = other.job(job.id).wait(60)
    assert (done.stdout, done.stderr, done.exit_code) == ("one\ntwo\n", "last é\n", 7)
    follower.join(60)
    text = "".join(chunk.text for chunk in followed if chunk.name == "stdout")
    assert text == "one\ntwo\n" and followed[-1] == CodeChunk("stderr", "last é\n")


def test_a_jobs_output_is_limited_and_a_stopped_or_killed_one_has_ended(session: Session) -> None:
    job = session.start("printf begin; head -c 3000000 /dev/zero | tr '\\0' a; printf end")
    done = job.wait(60, output_limit=1000)
    assert done.stdout.startswith("begin") and done.stdout.endswith("end")
    assert "2,999,008 bytes left out" in done.stdout
    assert sum(len(chunk.text) for chunk in job.follow()) == 3_000_008
    job = session.start("sleep 1000")
    job.stop()
    assert job.status().exit_code == 143 and not job.status().running
    # By force, with what it started.
    job = session.start("trap '' TERM; echo ready; sleep 1000; sleep 1000")
    assert next(job.follow()) == CodeChunk("stdout", "ready\n")
    job.stop()
    assert job.status().exit_code == 137
    job = session.start("kill -KILL $PPID")
    assert job.wait(60).exit_code == 137
    with pytest.raises(SessionError, match="no job"):
        session.job("job-0123456789abcdef").status()
    with pytest.raises(ValueError, match="not the id"):
        session.job("job-../../etc")


class LosesResponses:
    """A session whose answers are lost after the work was done, as often as it is told."""

    def __init__(self, session: Session, name: str, times: int) -> None:
        self._session, self._name, self._left = session, name, times
        self.lost = 0

    def __getattr__(self, name: str) -> object:
        found = getattr(self._session, name)
        if name != self._name:
            return found

        def call(*arguments: object, **named: object) -> object:
            done = found(*arguments, **named)
            if self._left:
                self._left -= 1
                self.lost += 1
                raise ResponseLostError("lost")
            return done

        return call


def test_a_job_whose_start_is_not_answered_is_started_once(session: Session) -> None:
    from agentbay_kernel.service.jobs import start_job

    lossy = LosesResponses(session, "shell", 3)
    job = start_job(lossy, "echo ran >> /tmp/times; sleep 0.2")  # type: ignore[arg-type]
    assert session.job(job.id).wait(60).exit_code == 0
    assert lossy.lost == 3
    assert session.files.read_text("/tmp/times") == "ran\n"


def test_a_file_whose_end_is_not_answered_is_written(session: Session) -> None:
    from agentbay_kernel.service.files import Files

    lossy = LosesResponses(session, "shell", 2)
    Files(lossy).write("/tmp/lossy.txt", "once")  # type: ignore[arg-type]
    assert session.files.read_text("/tmp/lossy.txt") == "once" and lossy.lost == 2


def test_the_same_as_coroutines(runtime: LocalRuntimeProcess, tmp_path: Path) -> None:
    async def work() -> list[str]:
        ids = []

        async def one(client: AsyncAgentBay, number: int) -> str:
            async with client.session() as session:
                ids.append(session.session_id)
                await session.files.write("n.txt", str(number))
                assert await session.files.read_text("n.txt") == str(number)
                assert [it.name for it in await session.files.list()] == ["n.txt"]
                assert (await session.shell("cat n.txt")).stdout == str(number)
                (path,) = await session.files.download("n.txt", tmp_path / f"{number}.txt")
                assert path.read_text() == str(number)
                events = [it async for it in session.code.stream_code("print(5)", "python")]
                assert events[0] == CodeChunk("stdout", "5\n")
                assert isinstance(events[-1], CodeExecutionResult)
                job = await session.start("echo job")
                assert [it.text async for it in job.follow()] == ["job\n"]
                assert (await job.wait()).exit_code == 0
                ran = await session.code.run_code(f"{number} ** 2", "python", output_limit=9)
                return ran.result

        async with AsyncAgentBay(runtime.api_key, endpoint=runtime.endpoint) as client:
            results = await asyncio.gather(*(one(client, number) for number in range(3)))
            left = [it["sessionId"] async for it in client.list_all()]
            assert not set(ids) & set(left)
            with pytest.raises(SessionError):
                async with client.session() as session:
                    await session.job("job-0123456789abcdef").status()
        return results

    assert asyncio.run(work()) == ["0", "1", "4"]


def test_a_cancelled_block_deletes_its_session(
    runtime: LocalRuntimeProcess, agent_bay: AgentBay
) -> None:
    before = {it["sessionId"] for it in agent_bay.list_all()}

    async def work() -> None:
        async with AsyncAgentBay(runtime.api_key, endpoint=runtime.endpoint) as client:

            async def block(entered: asyncio.Event) -> None:
                async with client.session():
                    entered.set()
                    await asyncio.Event().wait()

            for wait_for_it in (True, False):
                entered = asyncio.Event()
                task = asyncio.create_task(block(entered))
                await (entered.wait() if wait_for_it else asyncio.sleep(0))
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    asyncio.run(work())
    assert {it["sessionId"] for it in agent_bay.list_all()} == before
