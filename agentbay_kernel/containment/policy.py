"""The policy: how much a page may be trusted with, as configured.

In: the settings. Out: a value that every function of the containment takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentbay_kernel.config import AgentBaySettings

# Their views are in the page already, and write no text as HTML but what is contained here.
CORE_WIDGETS = frozenset(
    ("@jupyter-widgets/base", "@jupyter-widgets/controls", "@jupyter-widgets/output")
)


@dataclass(frozen=True)
class Policy:
    """What remote output may do. The defaults are the default settings.

    Arguments:
        html: `contain`, `sanitize`, `trust` or `text`.
        hosts: what framed output may load from.
        widget_packages: npm packages, beside the core ones, whose widgets may be shown.
    """

    html: str = "contain"
    hosts: tuple[str, ...] = ()
    widget_packages: frozenset[str] = CORE_WIDGETS

    @classmethod
    def of(cls, settings: AgentBaySettings) -> Policy:
        """The policy that the settings ask for."""
        return cls(
            settings.html,
            tuple(settings.html_hosts),
            CORE_WIDGETS | set(settings.widget_packages),
        )

    @property
    def trusts(self) -> bool:
        """Does everything pass unchanged?"""
        return self.html == "trust"
