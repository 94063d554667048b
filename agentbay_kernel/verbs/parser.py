"""The arguments of a line `%agentbay ...` or `%%agentbay ...`.

The parser returns the arguments' values, and help from their declarations. An invalid line raises
a `VerbError` that names what is valid; nothing here ever ends the process.
"""

from __future__ import annotations

import argparse
import re
import shlex
from argparse import Action, Namespace
from collections.abc import Iterable, Sequence
from typing import NoReturn

from agentbay_kernel.errors import NotAllowedError, VerbError
from agentbay_kernel.renamed import RENAMED, did_you_mean, use_instead

_HELP_FLAGS = ("-h", "--help")
_WIDTH = 88


def split_words(line: str) -> list[str]:
    """Return the words of a line; quotes keep spaces, a backslash is literal (Windows paths).

    Raises:
        VerbError: a quote is not closed.
    """
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.escape, lexer.commenters = True, "", ""
    try:
        return list(lexer)
    except ValueError:
        raise VerbError(f"A quote is opened and not closed in: {line}") from None


def completed_by(action: Action, kind: str) -> Action:
    """Set what completes an argument: `session`, `language`, `verb`, `file`, `setting`."""
    action.completes = kind  # type: ignore[attr-defined]
    return action


def touching_machine(action: Action) -> Action:
    """Mark an argument that reads or writes on this machine: off when cells are untrusted."""
    action.touches_machine = True  # type: ignore[attr-defined]
    return action


def session_name(text: str) -> str:
    """Return a valid name of a session, as users type it."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a name for a session: use up to 64 letters, digits, `_`, `-`, `.`"
        )
    return text


def add_session_argument(parser: LineParser) -> None:
    """Add `-s/--session`, the same in all lines about one session."""
    completed_by(
        parser.add_argument(
            "-s",
            "--session",
            metavar="NAME",
            type=session_name,
            help="Use the session of this name; default: the notebook's own",
        ),
        "session",
    )


class LineParser(argparse.ArgumentParser):
    """Declares the arguments of one command, or of the cell magic; then reads lines.

    Arguments:
        typed: how a user starts the line, for example `%agentbay status`.
        summary: its purpose, in one line.
        examples: lines as a user types them.
    """

    def __init__(self, typed: str, summary: str, examples: Sequence[str] = ()) -> None:
        super().__init__(
            prog=typed,
            description=f"{summary}.",
            epilog="examples:\n  " + "\n  ".join(examples) if examples else None,
            formatter_class=_Formatter,
            add_help=False,
            allow_abbrev=False,
        )
        self.typed = typed
        self.add_argument(*_HELP_FLAGS, action="store_true", dest="help", help="Show this help")

    @property
    def actions(self) -> tuple[Action, ...]:
        """The arguments, with and without flags."""
        return tuple(self._actions)

    @property
    def flags(self) -> tuple[str, ...]:
        """All flags, in the order of their declaration."""
        return tuple(flag for action in self.actions for flag in action.option_strings)

    def action_of(self, flag: str) -> Action | None:
        """Return the argument that a flag belongs to."""
        return self._option_string_actions.get(flag)

    def read(self, words: Iterable[str], *, untrusted: bool) -> Namespace:
        """Return the values of a line's arguments; with `help` set, no other value counts.

        Arguments:
            untrusted: refuse arguments that touch this machine.

        Raises:
            VerbError: a word is not an argument of this line, or an argument is missing.
            NotAllowedError: an argument touches this machine and cells are untrusted.
        """
        words = list(words)
        if any(word in _HELP_FLAGS for word in words):
            return Namespace(help=True)
        self._check_flags(words)
        options, extra = self.parse_known_args(words)
        if extra:
            self.error(f"doesn't take {extra[0]!r}")
        if untrusted:
            self._check_trust(options)
        return options

    def help_text(self) -> str:
        """Return the help as plain text."""
        return self.format_help().rstrip()

    def error(self, message: str) -> NoReturn:
        """Raise a VerbError for any error that argparse finds."""
        usage = " ".join(self.format_usage().split()).removeprefix("usage: ")
        raise VerbError(f"`{self.typed}`: {message}. Usage: {usage}")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Raise a VerbError instead of ending the process: a kernel's cell made the request."""
        self.error(message or f"ended with {status}")

    def _check_flags(self, words: list[str]) -> None:
        for word in words:
            if word == "--":
                return
            if not re.match(r"--?[A-Za-z]", word):
                continue
            flag = word.partition("=")[0]
            attached = not word.startswith("--") and word[:2] in self.flags
            if flag not in self.flags and not attached:
                if (old := f"{self.typed} {flag}") in RENAMED:
                    raise VerbError(use_instead(old))
                raise VerbError(
                    f"`{self.typed}` has no flag {flag}.{did_you_mean(flag, self.flags)} It has: "
                    f"{', '.join(self.flags)}."
                )

    def _check_trust(self, options: Namespace) -> None:
        for action in self.actions:
            touches = getattr(action, "touches_machine", False)
            if touches and getattr(options, action.dest) != action.default:
                name = "/".join(action.option_strings) or action.dest
                raise NotAllowedError(
                    f"`{self.typed}`: {name} touches this machine, and the setting `untrusted` "
                    "turns that off for this notebook. Nothing was done."
                )


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        # Not the width of a terminal, if there is one: it is not the notebook's.
        super().__init__(prog, width=_WIDTH, max_help_position=28)

    def _format_action_invocation(self, action: Action) -> str:
        # As Python 3.13 and later write it, with every Python: the value is there once.
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, action.dest.upper())
        return f"{', '.join(action.option_strings)} {value}"
