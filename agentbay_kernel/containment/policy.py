"""The policy: how much remote output may do in a page, as configured.

Every function of the containment takes it as a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentbay_kernel.config import AgentBaySettings

# The page has their views already, and these write no text as HTML that is not contained here.
CORE_WIDGETS = frozenset(
    ("@jupyter-widgets/base", "@jupyter-widgets/controls", "@jupyter-widgets/output")
)


@dataclass(frozen=True)
class Policy:
    """What remote output may do. The defaults are the default settings.

    Arguments:
        html: `contain`, `sanitize`, `trust` or `text`.
        hosts: hosts that framed output may load from.
        widget_packages: npm packages, beside the core ones, whose widgets may be shown.
    """

    html: str = "contain"
    hosts: tuple[str, ...] = ()
    widget_packages: frozenset[str] = CORE_WIDGETS

    @classmethod
    def of(cls, settings: AgentBaySettings) -> Policy:
        """Return the policy of the settings."""
        return cls(
            settings.html,
            tuple(settings.html_hosts),
            CORE_WIDGETS | set(settings.widget_packages),
        )

    @property
    def trusts(self) -> bool:
        """Whether everything passes unchanged."""
        return self.html == "trust"
