"""The reference of all verbs and flags, as Markdown: `python -m agentbay_kernel.verbs.reference`.

In: the table of verbs. Out: the part of docs/verbs.md that is generated; a test holds them
together.
"""

from __future__ import annotations

from agentbay_kernel.verbs.cell_options import cell_parser
from agentbay_kernel.verbs.table import VERBS


def reference() -> str:
    """Help of the cell magic and of each verb, under a heading each."""
    parts = [("%%agentbay LANGUAGE", cell_parser().help_text())]
    parts += [(verb.typed, verb.parser.help_text()) for verb in VERBS.values()]
    return "\n\n".join(f"### `{title}`\n\n```text\n{help_text}\n```" for title, help_text in parts)


if __name__ == "__main__":
    print(reference())
