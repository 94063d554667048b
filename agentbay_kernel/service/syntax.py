"""Does code parse? A hint before it is sent, never a refusal.

In: code and a language's name. Out: what is wrong with it as far as this side can tell, or None.
The sandbox has its own version of the language and, for Python, IPython's additions, so what is
doubtful is taken for good.
"""

from __future__ import annotations

import ast
import re

# IPython's own syntax: magics, shell commands, help. Cells with it are left to the sandbox.
_IPYTHON = re.compile(
    r"""^\s*(?:%|!|\?|/\w|,\s*\w|;\s*\w)    # %magic, !command, ?help, automatic calls
      |^[^'"#]*=\s*[%!]                    # name = %magic, name = !command
      |\?\s*$                              # help?
    """,
    re.MULTILINE | re.VERBOSE,
)


def syntax_problem(code: str, language: str) -> str | None:
    """What keeps the code from parsing, with its line; None if nothing is known to."""
    if language == "python":
        return _python_problem(code)
    if language == "javascript":
        return _javascript_problem(code)
    return None


def _python_problem(code: str) -> str | None:
    if _IPYTHON.search(code):
        return None
    try:
        # Only the tree: `await` outside of a function is fine in it, as it is in a cell.
        ast.parse(code)
    except SyntaxError as error:
        return f"{type(error).__name__}: {error.msg} (line {error.lineno})"
    except ValueError as error:
        return str(error)
    except (RecursionError, MemoryError):
        return None
    return None


def _javascript_problem(code: str) -> str | None:
    # Imported here: its parser takes longer to load than the whole client.
    from agentbay_kernel.javascript import completeness

    match completeness(code)["status"]:
        case "invalid":
            return "it does not parse as JavaScript"
        case "incomplete":
            return "it looks unfinished"
    return None
