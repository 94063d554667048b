"""Shell commands that run longer than a request may take: start, follow and stop them.

A job is a directory of the sandbox. The request that creates the directory starts the job, and only
one request can create it. So a start can be repeated if its response is lost, and the command still
runs once. Output and exit code are files there: every program that knows the id can read them as
long as the session exists.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
import secrets
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agentbay_kernel import threads
from agentbay_kernel.errors import ExchangeError, MalformedValueError, SessionError
from agentbay_kernel.service.code import CodeChunk
from agentbay_kernel.service.results import ShellResult
from agentbay_kernel.service.tools import Tools, patiently

_FOLDER = "/tmp/agentbay-jobs"
_ID = re.compile(r"job-[0-9a-f]{16}")
_LARGEST_PIECE = 999_999
# Between two status requests for a job without new output.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
# A job whose directory exists but that has no process after this time was lost.
_STARTING_S = 10.0
# Bytes of each stream that `wait` fetches unless another limit is given.
KEPT = 1_000_000
# The exit code of a job whose process was killed before it could write one.
KILLED = 137

# The script of the job's own process. SIGTERM reaches the command too; the script waits for its
# end.
_RUNNER = """\
trap : TERM
bash "$0.sh" >"$0/stdout" 2>"$0/stderr" </dev/null &
command=$!
wait $command; code=$?
while kill -0 $command 2>/dev/null; do wait $command; code=$?; done
echo $code >"$0/exit.new"
mv "$0/exit.new" "$0/exit"
"""
_STATE = """\
cd {place} 2>/dev/null || {{ echo none; exit 0; }}
alive() {{ kill -0 "$1" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }}
pid=$(cat pid 2>/dev/null)
if [ -f exit ]; then state=$(cat exit)
elif [ -z "$pid" ]; then state=starting
elif alive "$pid"; then state=running
elif [ -f exit ]; then state=$(cat exit)
else state=lost; fi
echo "$state" $(stat -c %s stdout 2>/dev/null || echo 0) $(stat -c %s stderr 2>/dev/null || echo 0)
"""
_STATE_WORD = re.compile(r"(starting|running|lost|\d{1,3}) (\d{1,18}) (\d{1,18})")


@dataclass(frozen=True)
class JobStatus:
    """The state of a job.

    Arguments:
        running: whether the job has not ended.
        exit_code: None while the job runs; 137 if its process was killed.
        stdout_bytes: bytes that it has printed to stdout.
        stderr_bytes: bytes that it has printed to stderr.
    """

    running: bool
    exit_code: int | None
    stdout_bytes: int
    stderr_bytes: int


class Job:
    """One command that runs in a session. Made by `Session.start` and `Session.job`, not by hand.

    All calls can be repeated, and repeat their requests while the network fails for a moment. If a
    call raises an error, the job continues: `session.job(job.id)` finds it again.
    """

    def __init__(self, tools: Tools, job_id: str) -> None:
        if not _ID.fullmatch(job_id):
            raise ValueError(f"{job_id!r} is not the id of a job.")
        self._tools = tools
        self._id = job_id

    def __repr__(self) -> str:
        return f"Job({self._id!r})"

    @property
    def id(self) -> str:
        """Return the job's name, for `Session.job`."""
        return self._id

    def status(self) -> JobStatus:
        """Request the job's state.

        Returns:
            Whether it runs, its exit code, and how much it printed.

        Raises:
            SessionError: the session has no such job.
            CommandError: the service failed.
        """
        state, stdout, stderr = self._look()
        started = time.monotonic()
        while state == "starting":
            if time.monotonic() - started > _STARTING_S:
                state = "lost"
                break
            time.sleep(_FIRST_PAUSE_S)
            state, stdout, stderr = self._look()
        if state == "running":
            return JobStatus(True, None, stdout, stderr)
        return JobStatus(False, KILLED if state == "lost" else int(state), stdout, stderr)

    def follow(self) -> Iterator[CodeChunk]:
        """Yield what the job prints, from its start to its end, while it runs.

        The two streams are read in turn, so the order of their pieces is only roughly the order in
        which they were printed.

        Yields:
            Pieces of stdout and stderr.

        Raises:
            SessionError: the session has no such job.
            CommandError: the service failed for a minute, or the session is gone.
        """
        decoders = {
            name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")
        }
        read = dict.fromkeys(decoders, 0)
        backoff = threads.Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while True:
            status = self.status()
            sizes = {"stdout": status.stdout_bytes, "stderr": status.stderr_bytes}
            news = False
            for name, size in sizes.items():
                while read[name] < size:
                    data = self._read(name, read[name], size - read[name])
                    if not data:
                        break
                    news = True
                    read[name] += len(data)
                    if text := decoders[name].decode(data):
                        yield CodeChunk(name, text)
            if not status.running:
                for name, decoder in decoders.items():
                    if text := decoder.decode(b"", final=True):
                        yield CodeChunk(name, text)
                return
            if news:
                backoff.reset()
            time.sleep(backoff.pause_s)
            backoff.grow()

    def wait(self, timeout_s: float | None = None, *, output_limit: int = KEPT) -> ShellResult:
        """Wait for the job's end.

        Arguments:
            timeout_s: seconds to wait; None waits without a limit. The job continues afterwards.
            output_limit: bytes to fetch of each stream, from its start and its end.

        Returns:
            What the job printed, and its exit code.

        Raises:
            TimeoutError: the job still runs.
            SessionError: the session has no such job.
            CommandError: the service failed for a minute, or the session is gone.
        """
        ends_at = None if timeout_s is None else time.monotonic() + timeout_s
        backoff = threads.Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while (status := self.status()).running:
            left_s = None if ends_at is None else ends_at - time.monotonic()
            if left_s is not None and left_s <= 0:
                raise TimeoutError(
                    f"{self._id} still runs after {timeout_s:g} s. Wait again, or stop it."
                )
            time.sleep(backoff.pause_s if left_s is None else min(backoff.pause_s, left_s))
            backoff.grow()
        assert status.exit_code is not None
        return ShellResult(
            self._ends("stdout", status.stdout_bytes, output_limit),
            self._ends("stderr", status.stderr_bytes, output_limit),
            status.exit_code,
        )

    def stop(self) -> None:
        """End the job and the processes that it started: by SIGTERM, after 3 seconds by SIGKILL.

        Raises:
            SessionError: the session has no such job.
            CommandError: the service failed.
        """
        if not self.status().running:
            return
        folder = shlex.quote(f"{_FOLDER}/{self._id}")
        patiently(
            lambda: self._tools.shell(
                f"cd {folder} && pid=$(cat pid) && kill -TERM -- -$pid; "
                "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do [ -f exit ] && break; "
                "sleep 0.2; done; kill -KILL -- -$pid 2>/dev/null; "
                f"[ -f exit ] || echo {KILLED} >exit",
                timeout_s=20,
            )
        )

    def _look(self) -> tuple[str, int, int]:
        folder = shlex.quote(f"{_FOLDER}/{self._id}")
        done = patiently(lambda: self._tools.shell(_STATE.format(place=folder)))
        if done.stdout.strip() == "none":
            raise SessionError(f"The session has no job {self._id}.")
        told = _STATE_WORD.fullmatch(done.stdout.strip())
        if told is None:
            raise MalformedValueError(
                f"The sandbox reported no state of {self._id}: "
                f"{done.stderr[:200] or done.stdout[:200]}"
            )
        return told[1], int(told[2]), int(told[3])

    def _ends(self, name: str, size: int, limit: int) -> str:
        if size <= limit:
            return self._range(name, 0, size).decode("utf-8", "replace")
        head, tail = limit - limit // 2, limit // 2
        return (
            self._range(name, 0, head).decode("utf-8", "ignore")
            + f"\n[... {size - limit:,} bytes left out ...]\n"
            + self._range(name, size - tail, tail).decode("utf-8", "ignore")
        )

    def _range(self, name: str, offset: int, length: int) -> bytes:
        held = bytearray()
        while len(held) < length:
            data = self._read(name, offset + len(held), length - len(held))
            if not data:
                break
            held += data
        return bytes(held)

    def _read(self, name: str, offset: int, length: int) -> bytes:
        most = min(_LARGEST_PIECE, self._tools.capacity("read_file").received * 3 // 4)
        asked = {
            "path": f"{_FOLDER}/{self._id}/{name}",
            "offset": offset,
            "length": min(length, most),
            "format": "binary",
        }
        done = patiently(lambda: self._tools.call_mcp_tool("read_file", asked))
        if not done.success:
            raise ExchangeError(f"The output of {self._id} can't be read: {done.error_message}")
        try:
            data = base64.b64decode(done.data, validate=True)
        except (binascii.Error, ValueError):
            raise MalformedValueError(f"The sandbox sent invalid base64 for {self._id}.") from None
        if len(data) > most:
            raise MalformedValueError(f"The sandbox sent more of {self._id} than was asked for.")
        return data


def start_job(
    tools: Tools, command: str, *, cwd: str | None = None, envs: Mapping[str, str] | None = None
) -> Job:
    """Start a command; see `Session.start`."""
    job = Job(tools, f"job-{secrets.token_hex(8)}")
    folder = f"{_FOLDER}/{job.id}"
    made = patiently(lambda: tools.call_mcp_tool("create_directory", {"path": _FOLDER}))
    if made.success:
        script = {"path": f"{folder}.sh", "content": command, "mode": "overwrite"}
        made = patiently(lambda: tools.call_mcp_tool("write_file", script))
    if not made.success:
        raise ExchangeError(f"The command could not be written: {made.error_message[:300]}")
    runner = shlex.quote(_RUNNER)
    # Of two requests, `mkdir` lets one create the directory; the other one does nothing.
    started = patiently(
        lambda: tools.shell(
            f"mkdir {folder} 2>/dev/null || {{ [ -d {folder} ]; exit; }}; "
            f"setsid nohup bash -c {runner} {folder} >/dev/null 2>&1 </dev/null & "
            f"echo $! >{folder}/pid.new && mv {folder}/pid.new {folder}/pid",
            cwd=cwd,
            envs=envs,
        )
    )
    if not started.success:
        raise ExchangeError(f"The command was not started: {started.stderr[:300]}")
    return job
