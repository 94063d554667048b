"""The settings of a local runtime, and where it keeps its files."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

MEGABYTE = 1024 * 1024
DATA = 2048 * MEGABYTE
# Of a directory: the path of a socket in it must be shorter than 104 bytes.
LONGEST_PATH = 60


def temporary_directory() -> Path:
    """Return the directory for temporary files, if it is not too deep for a socket's path."""
    directory = Path(tempfile.gettempdir())
    return directory if len(str(directory)) <= LONGEST_PATH else Path("/tmp")


@dataclass(frozen=True)
class Limits:
    """What one session may use.

    `memory` is bytes of resident memory of all its processes; `processes` a count that includes
    threads; `file_size` and `disk` bytes of one file and of each of /workspace and /tmp; `cpu_s`
    seconds of processor time of one process.
    """

    memory: int = 4096 * MEGABYTE
    processes: int = 512
    file_size: int = 2048 * MEGABYTE
    disk: int = 2048 * MEGABYTE
    cpu_s: int = 3600

    @property
    def data(self) -> int:
        """Bytes of private writable memory of one process; a larger allocation fails at once.

        More than `memory`, because programs ask for more than they use.
        """
        return max(self.memory, DATA) + DATA


@dataclass(frozen=True)
class Settings:
    """How sessions are made.

    `python` is the interpreter that cells run in; `isolation` is auto, required or none; `network`
    gives isolated sessions the machine's network; `cgroup` is auto, none, or the directory of a
    cgroup in which sessions get theirs; `prewarm` is the number of pre-warmed sessions;
    `first_ahead` makes the first session at the start; `kernels` makes each session prepare a
    Jupyter kernel for bridged execution (`sandbox/prepared_kernel.py`); `idle_s` is the longest
    idle time if a request does not set it (None: no limit).
    """

    python: str = sys.executable
    isolation: str = "auto"
    network: bool = False
    cgroup: str = "auto"
    prewarm: int = 1
    first_ahead: bool = False
    kernels: bool = True
    max_sessions: int | None = None
    idle_s: float | None = 300.0
    limits: Limits = field(default_factory=Limits)
