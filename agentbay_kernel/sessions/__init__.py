"""Sessions: the session manager, and the values about sessions that it returns.

The manager takes settings, cells and names of sessions. It returns Jupyter messages and frozen
values.
"""

from __future__ import annotations

from agentbay_kernel.sessions.ending import Pruned
from agentbay_kernel.sessions.lifetime import Lifetime, clock
from agentbay_kernel.sessions.manager import SessionManager
from agentbay_kernel.sessions.recipe import Recipe, read_recipe
from agentbay_kernel.sessions.registry import whose
from agentbay_kernel.sessions.session import LiveSession, PastCell
from agentbay_kernel.sessions.statefile import Record
from agentbay_kernel.sessions.store import DEFAULT_SESSION, Lost
from agentbay_kernel.sessions.top import TopReport
from agentbay_kernel.sessions.variables import Variable, Variables

__all__ = [
    "DEFAULT_SESSION",
    "Lifetime",
    "LiveSession",
    "Lost",
    "PastCell",
    "Pruned",
    "Recipe",
    "Record",
    "SessionManager",
    "TopReport",
    "Variable",
    "Variables",
    "clock",
    "read_recipe",
    "whose",
]
