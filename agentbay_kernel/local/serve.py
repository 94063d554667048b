"""`serve`: the local runtime as a program.

It prints one line of JSON, `{"endpoint", "api_key", "pid", ...}`, then serves until a signal comes
or, with --die-with-parent, stdin ends. It leaves no process and no file.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import threading
from pathlib import Path

from agentbay_kernel.errors import ConfigurationError, LocalRuntimeError
from agentbay_kernel.local.process import listen, new_key, open_runtime, stop_by_signal
from agentbay_kernel.local.settings import MEGABYTE, Limits, Settings


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of `serve`'s flags."""
    parser = argparse.ArgumentParser(
        prog="agentbay_kernel serve",
        description="Serve AgentBay's wire protocol on a loopback address and run code HERE.",
    )
    add = parser.add_argument
    add("--port", metavar="N", type=int, default=0, help="port on 127.0.0.1 (default: a free one)")
    add(
        "--api-key-file",
        metavar="FILE",
        type=Path,
        help="holds the API key (default: a random key)",
    )
    add("--die-with-parent", action="store_true", help="end when standard input ends")
    add(
        "--python",
        metavar="PATH",
        default=sys.executable,
        help="interpreter that runs Python cells; it needs ipython, and ipykernel for bridged "
        "execution (default: this one)",
    )
    add(
        "--prewarm",
        type=int,
        choices=(0, 1),
        default=1,
        help="sessions kept ready, so that a new one's first cell is fast (default: 1)",
    )
    add(
        "--no-kernels",
        dest="kernels",
        action="store_false",
        help="prepare no Jupyter kernels: for sessions that run cells directly",
    )
    add(
        "--isolation",
        choices=("auto", "required", "none"),
        default="auto",
        help="bubblewrap where it works, only with it, or never (default: auto)",
    )
    add("--network", action="store_true", help="give isolated sessions this machine's network")
    add(
        "--cgroup",
        metavar="DIR",
        default="auto",
        help="make sessions' cgroups in this one; none: never; auto: in one that systemd delegated "
        "(default: auto)",
    )
    add("--tls", action="store_true", help="serve https by a certificate made at the start")
    add("--max-sessions", metavar="N", type=int, help="most sessions at once (default: no limit)")
    add(
        "--idle-seconds",
        metavar="S",
        type=float,
        default=300,
        help="release sessions that are not used for so long, unless their request sets another "
        "time; 0 for never (default: 300)",
    )
    for flag, value, default, what in (
        ("--memory", "MB", 4096, "resident memory of all processes of a session"),
        ("--processes", "N", 512, "processes and threads of a session"),
        ("--disk", "MB", 2048, "in each of /workspace, /tmp, /dev/shm"),
        ("--file-size", "MB", 2048, "one file"),
        ("--cpu-seconds", "S", 3600, "processor time of one process"),
    ):
        add(flag, metavar=value, type=int, default=default, help=f"{what} (default: {default})")
    add("--profile", metavar="FILE", type=Path, help="how to behave, for tests; JSON")
    add("--log", metavar="FILE", type=Path, help="gets a line of JSON for each tool call")
    return parser


def read_settings(flags: argparse.Namespace) -> Settings:
    """Return the settings of the flags."""
    return Settings(
        python=flags.python,
        isolation=flags.isolation,
        network=flags.network,
        cgroup=flags.cgroup,
        prewarm=flags.prewarm,
        kernels=flags.kernels,
        max_sessions=flags.max_sessions,
        idle_s=flags.idle_seconds or None,
        limits=Limits(
            memory=flags.memory * MEGABYTE,
            processes=flags.processes,
            file_size=flags.file_size * MEGABYTE,
            disk=flags.disk * MEGABYTE,
            cpu_s=flags.cpu_seconds,
        ),
    )


def main(argv: list[str] | None = None) -> int:
    """Serve until a signal or the end of stdin; return the exit status."""
    flags = make_parser().parse_args(argv)
    if os.name != "posix":
        print("The local runtime needs Linux or macOS; on Windows, run it in WSL.", file=sys.stderr)
        return 2
    try:
        asyncio.run(_serve(flags))
    except (ConfigurationError, LocalRuntimeError) as failure:
        print(failure, file=sys.stderr)
        return 2
    return 0


async def _serve(flags: argparse.Namespace) -> None:
    sock = listen(flags.port)
    stop = stop_by_signal()
    if flags.die_with_parent:
        _watch_stdin(asyncio.get_running_loop(), stop)
    key = _read_key(flags.api_key_file)
    runtime = await open_runtime(
        sock, key, read_settings(flags), flags.profile, flags.log, tls=flags.tls
    )
    print(json.dumps(runtime.announcement()), flush=True)
    try:
        await runtime.prepare()
        await stop.wait()
    finally:
        await runtime.end()


def _read_key(path: Path | None) -> str:
    if path is None:
        return new_key()
    try:
        key = path.read_text().strip()
    except OSError as failure:
        raise ConfigurationError(
            f"--api-key-file {path} can't be read: {failure.strerror}."
        ) from failure
    if not key:
        raise ConfigurationError(f"--api-key-file {path} is empty: write the key into it.")
    return key


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait, daemon=True).start()
