"""What a console shows when the kernel starts: above all, where its cells will run.

In: the language and the settings. Out: one line. Nothing is started or asked for it.
"""

from __future__ import annotations

import os

from agentbay_kernel.config import AgentBaySettings
from agentbay_kernel.errors import AgentBayError
from agentbay_kernel.languages import Language


def make_banner(language: Language, settings: AgentBaySettings) -> str:
    """The kernel's banner."""
    text = f"AgentBay {language.display_name}: cells run in a sandbox"
    if settings.backend != "local":
        return f"{text} of the AgentBay service"
    return f"{text}, which runs on THIS machine, in the local runtime: {_isolation(settings)}"


def _isolation(settings: AgentBaySettings) -> str:
    if os.environ.get("AGENTBAY_ENDPOINT"):
        return "%agentbay status says what it isolates"
    if os.name != "posix":
        return "there is none for this system"
    # The runtime itself starts later; this tries out what it will use, within 40 ms.
    from agentbay_kernel.local.isolation import Choice
    from agentbay_kernel.local.settings import Settings

    flags = Settings(
        python=settings.local_python,
        isolation=settings.local_isolation,
        network=settings.local_network,
    )
    try:
        return Choice(flags).result().report.summary
    except AgentBayError as failure:
        return str(failure)
