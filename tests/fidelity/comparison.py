"""What two kernels stored for the same cell, made comparable.

In: `Stored` values of one kernel. Out: plain data in which what differs from run to run, on one
kernel as well, has a name instead. Each rule is named and applies to every cell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tests.fidelity.notebook import Stored

# A rule's name is what stands in the place of what it found.
RULES = (
    # Where objects are in memory.
    ("address", r"\b0x[0-9a-f]{6,16}"),
    # The file that IPython makes of a cell: ipykernel_PID/HASH.py.
    ("cell file", r"/[\w/.-]*?ipykernel_\d+/\d+\.py"),
    # Request ids: SESSION_PID_NUMBER.
    ("message id", r"[0-9a-f]{8}-[0-9a-f]{24}_\d+_\d+"),
    # Ids of widgets, comms and of the kernel itself.
    ("id", r"(?<![0-9a-f])[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}(?![0-9a-f])"),
    ("display id", r"(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])"),
)


@dataclass(frozen=True)
class Place:
    """Where a kernel runs: the folders that its output may name."""

    folder: str
    home: str

    def named(self, text: str) -> str:
        """The text with the folder's name in the place of the folder."""
        text = re.sub(r"(?<!/)~(?=/)", lambda _: self.home, text)
        return text.replace(self.folder, "<folder>")


def comparable(stored: Stored, place: Place) -> dict[str, Any]:
    """What a cell left, with names for what is never the same."""
    data = {"published": stored.published, "asked": stored.asked, "reply": stored.reply}
    return {key: normalized(value, place) for key, value in data.items()}


def _shown(line: str) -> str:
    """What a page shows of a line: each part behind a carriage return is written over those before.

    Lines with terminal sequences stay as they are; these are never shortened.
    """
    if "\x1b" in line or "\b" in line:
        return line
    shown = ""
    for part in line.split("\r"):
        shown = part + shown[len(part) :]
    return shown


def normalized(value: Any, place: Place) -> Any:
    """Plain data with names for what is never the same."""
    if isinstance(value, str):
        # Which parts of a progress bar are carried along depends on how its pieces come.
        text = "\n".join(map(_shown, place.named(value).split("\n")))
        for name, pattern in RULES:
            text = re.sub(pattern, f"<{name}>", text)
        return text
    if isinstance(value, dict):
        return {normalized(key, place): normalized(item, place) for key, item in value.items()}
    if isinstance(value, list):
        return [normalized(item, place) for item in value]
    return value
