"""The figures of the `get_metrics` tool (AgentBay wire protocol, tool get_metrics).

What needs Linux's /proc is zero elsewhere.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any


def measure(folder: str) -> dict[str, Any]:
    """Return the present figures of processor, memory, disk and network.

    Arguments:
        folder: a directory on the disk to measure.
    """
    total, available = _memory()
    disk = shutil.disk_usage(folder)
    received, sent = _network()
    processors = os.cpu_count() or 1
    return {
        "cpu_count": processors,
        "cpu_used_pct": round(min(100.0, 100.0 * os.getloadavg()[0] / processors), 2),
        "mem_total": total,
        "mem_used": total - available,
        "disk_total": disk.total,
        "disk_used": disk.used,
        "rx_rate_kbyte_per_s": 0.0,
        "tx_rate_kbyte_per_s": 0.0,
        "rx_used_kbyte": received / 1024,
        "tx_used_kbyte": sent / 1024,
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _memory() -> tuple[int, int]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return total, total
    values = {
        key: int(rest.split()[0]) * 1024 for key, _, rest in (x.partition(":") for x in lines)
    }
    return values["MemTotal"], values.get("MemAvailable", values["MemFree"])


def _network() -> tuple[int, int]:
    try:
        lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    except OSError:
        return 0, 0
    counters = [line.partition(":")[2].split() for line in lines]
    return sum(int(c[0]) for c in counters), sum(int(c[8]) for c in counters)
