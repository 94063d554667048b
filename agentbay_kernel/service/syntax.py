"""A syntax check before code is sent: a hint, never a refusal.

The sandbox has its own version of the language and, for Python, IPython's additions. So code that
can't be judged here counts as valid.
"""

from __future__ import annotations

import ast
import re

# IPython's own syntax: magics, shell commands, help. Only the sandbox checks cells that have it.
_IPYTHON = re.compile(
    r"""^\s*(?:%|!|\?|/\w|,\s*\w|;\s*\w)    # %magic, !command, ?help, automatic calls
      |^[^'"#]*=\s*[%!]                    # name = %magic, name = !command
      |\?\s*$                              # help?
    """,
    re.MULTILINE | re.VERBOSE,
)


def syntax_problem(code: str, language: str) -> str | None:
    """Return the syntax error of the code, for Python with its line, or None if none is known."""
    if language == "python":
        return _python_problem(code)
    if language == "javascript":
        return _javascript_problem(code)
    return None


def _python_problem(code: str) -> str | None:
    if _IPYTHON.search(code):
        return None
    try:
        # Only parsed: the parser accepts `await` outside of a function, as a cell does.
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
