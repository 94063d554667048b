"""The text that a console shows when the kernel starts: most of all, where its cells will run.

It is made from the language and the settings alone: nothing is started or requested for it.
"""

from __future__ import annotations

import os

from agentbay_kernel.config import AgentBaySettings
from agentbay_kernel.languages import Language


def make_banner(language: Language, settings: AgentBaySettings) -> str:
    """Return the kernel's banner."""
    text = f"AgentBay {language.display_name}: cells run in a sandbox"
    if settings.backend != "local":
        return f"{text} of the AgentBay service"
    return f"{text}, which runs on THIS machine, in the local runtime: {_isolation(settings)}"


def _isolation(settings: AgentBaySettings) -> str:
    # A check whether bubblewrap works takes 40 ms, and each front end would wait for it. The first
    # cell warns if it doesn't.
    if settings.local_isolation == "none" and not os.environ.get("AGENTBAY_ENDPOINT"):
        return "NOT isolated, because of local_isolation=none"
    return "%agentbay status shows what it isolates"
