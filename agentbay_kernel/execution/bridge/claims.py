"""Which sandbox has which displays and comms of a notebook.

In: ids that a sandbox names. Out: whether it may. An id belongs to whoever named it first, until
that sandbox is gone, so that code in one can't change what another one shows.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

# Ids that one sandbox may hold; then the one that it named longest ago is free again.
MOST_IDS = 100_000


class Claims:
    """The ids of one notebook's displays and comms. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: dict[str, object] = {}
        self._held: dict[object, OrderedDict[str, None]] = {}

    def claim(self, name: str, owner: object) -> bool:
        """May this owner use that id? It is its own from then on; False if it is another's."""
        with self._lock:
            if self._owners.setdefault(name, owner) is not owner:
                return False
            held = self._held.setdefault(owner, OrderedDict())
            held[name] = None
            held.move_to_end(name)
            if len(held) > MOST_IDS:
                oldest, _ = held.popitem(last=False)
                del self._owners[oldest]
            return True

    def release(self, owner: object) -> None:
        """This owner is gone: its ids are free."""
        with self._lock:
            for name in self._held.pop(owner, ()):
                del self._owners[name]
