"""The arguments of `jupyter agentbay`, also `python -m agentbay_kernel`, and who answers them.

In: arguments. Out: an exit code. Nothing heavy is imported before a command is chosen, so `--help`
answers at once.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentbay_kernel._version import __version__
from agentbay_kernel.containment.text import lines
from agentbay_kernel.errors import AgentBayError
from agentbay_kernel.renamed import RENAMED, use_instead

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_DONE, _FAILED, _USAGE, _INTERRUPTED = 0, 1, 2, 130

_HELP = """\
examples:
  jupyter agentbay install --user           make the kernels visible to all your Jupyters
  jupyter agentbay install --user --local   add kernels that run code on this machine
  jupyter agentbay uninstall --user         remove them
  jupyter agentbay doctor                   check that everything is in place
  jupyter agentbay run analysis.ipynb       execute a notebook in a sandbox
  jupyter agentbay run notebooks/ -j 8      execute all notebooks of a directory
  jupyter agentbay grade DIR --checks F     grade submissions in sandboxes
  jupyter agentbay sessions list            list your sessions
  jupyter agentbay allow tile.example.org   allow framed output to load from a host
  jupyter agentbay policy on                run all notebooks of your Jupyter in a sandbox
  jupyter agentbay demo --local             run a few cells on this machine
  jupyter agentbay serve                    run the local runtime by hand

exit codes:
  0    done
  1    failed; the message on stderr shows why and what to do
  2    invalid arguments
  130  interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `jupyter agentbay`.

    Arguments:
        argv: the arguments; None takes the process's own.

    Returns:
        The exit code: 0 done, 1 failed, 2 invalid arguments, 130 interrupted.
    """
    arguments, rest = _split(list(sys.argv[1:] if argv is None else argv))
    parser = make_parser()
    # Only commands and flags without a value stand before a command's own name.
    command = [word for word in arguments if not word.startswith("-")][:2]
    try:
        if (old := " ".join([parser.prog, *command])) in RENAMED:
            parser.error(use_instead(old))
        options = parser.parse_args(arguments)
    except SystemExit as end:
        return _USAGE if end.code else _DONE
    try:
        return _run(options, rest)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:
        if options.debug:
            traceback.print_exc()
            return _FAILED
        _complain(error)
        return _FAILED


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    # What follows `serve` belongs to the local runtime, its --help included.
    for at, argument in enumerate(arguments):
        if argument == "serve":
            return arguments[: at + 1], arguments[at + 1 :]
        if not argument.startswith("-"):
            break
    return arguments, []


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    if options.command == "serve":
        from agentbay_kernel.local import serve

        return serve.main(rest) or _DONE
    if options.command == "install":
        return _install(options)
    if options.command == "uninstall":
        return _uninstall(options)
    if options.command == "doctor":
        from agentbay_kernel.cli.doctor import doctor

        return doctor(options)
    if options.command == "run":
        first, *others = options.notebooks
        if others or options.output_dir or Path(first).is_dir():
            from agentbay_kernel.cli.run_many import run_many

            return run_many(options)
        from agentbay_kernel.cli.run import run

        return run(options)
    if options.command == "grade":
        from agentbay_kernel.cli.grade import grade

        return grade(options)
    if options.command == "demo":
        from agentbay_kernel.cli.demo import demo

        return demo(options)
    if options.command == "allow":
        from agentbay_kernel.cli.allow import allow

        return allow(options)
    if options.command == "policy":
        from agentbay_kernel.cli.policy import policy

        return policy(options)
    if options.command == "sessions":
        from agentbay_kernel.cli import sessions

        answers = {
            "list": sessions.list_sessions,
            "delete": sessions.delete_sessions,
            "prune": sessions.prune_sessions,
        }
        return answers[options.what](options)
    make_parser().print_help()
    return _DONE


def _install(options: argparse.Namespace) -> int:
    from agentbay_kernel import kernelspec

    for folder in kernelspec.install(_prefix(options), with_local=options.local):
        print(f"Installed {folder.name} in {folder}")
    if options.local:
        print("The kernels named (local) run code on THIS machine, in the local runtime.")
    return _DONE


def _uninstall(options: argparse.Namespace) -> int:
    from agentbay_kernel import kernelspec

    prefix = _prefix(options)
    removed, foreign = kernelspec.uninstall(prefix)
    for folder in removed:
        print(f"Removed {folder}")
    for folder in foreign:
        print(f"Kept {folder}: it has the same name, but starts another program")
    if not removed:
        print(f"There is no AgentBay kernel in {kernelspec.kernels_folder(prefix)}")
    return _DONE


def _prefix(options: argparse.Namespace) -> str | None:
    if options.sys_prefix:
        return sys.prefix
    return options.prefix or None


def _complain(error: Exception) -> None:
    if isinstance(error, AgentBayError):
        print(f"jupyter agentbay: {lines(str(error))}", file=sys.stderr)
    else:
        print(
            f"jupyter agentbay: {type(error).__name__}: {error}\n"
            "This is unexpected. To see where it happened, run the command again with --debug "
            "before its name.",
            file=sys.stderr,
        )


def make_parser() -> argparse.ArgumentParser:
    """The commands and their arguments."""
    parser = argparse.ArgumentParser(
        prog="jupyter agentbay",
        description="Notebook cells in AgentBay sandboxes: kernels and the local runtime.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"agentbay-kernel {__version__}")
    parser.add_argument(
        "--debug", action="store_true", help="Show a traceback if the command fails"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    install = commands.add_parser(
        "install",
        help="Install the kernels for a Jupyter",
        description="Install the kernels for a Jupyter. pip has already installed them for the "
        "Jupyter of its own environment; use this for a Jupyter in another environment.",
    )
    _add_places(install, "Install into")
    install.add_argument(
        "--local",
        action="store_true",
        help="Add kernels that always run code on this machine, in the local runtime",
    )
    uninstall = commands.add_parser(
        "uninstall",
        help="Remove the kernels",
        description="Remove the kernels that `install` added, including the local ones.",
    )
    _add_places(uninstall, "Remove from")
    _add_doctor(commands)
    _add_sessions(commands)
    _add_run(commands)
    _add_grade(commands)
    _add_allow(commands)
    _add_policy(commands)
    commands.add_parser(
        "demo",
        help="Run a few cells and show their output",
        description="Run a few cells in a sandbox and show them with their output.",
        **_examples("jupyter agentbay demo", "jupyter agentbay demo --local"),
    ).add_argument("--local", action="store_true", help="Use the local runtime, on THIS machine")
    commands.add_parser(
        "serve", help="Run the local runtime until Ctrl-C (see serve --help)", add_help=False
    )
    return parser


def _add_doctor(commands: _Commands) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="Check that everything is in place, and show how to fix what is not",
        description="Check versions, settings, key, service, kernels, policy, Node, isolation and "
        "sessions. No session is created.",
        **_examples(
            "jupyter agentbay doctor",
            "jupyter agentbay doctor --json",
            "jupyter agentbay doctor --probe --report probe.json",
        ),
    )
    doctor.add_argument("--json", action="store_true", help="Show JSON")
    doctor.add_argument(
        "--probe",
        action="store_true",
        help="Create one session, test what the service does, delete it; this costs money",
    )
    doctor.add_argument(
        "--long",
        action="store_true",
        help="With --probe: also test requests of more than 60 seconds; takes a minute more",
    )
    doctor.add_argument(
        "--report",
        metavar="FILE",
        default="agentbay-probe.json",
        help="File for the results of --probe, without secrets (default: %(default)s)",
    )


def _add_sessions(commands: _Commands) -> None:
    sessions = commands.add_parser(
        "sessions",
        help="List, delete or prune sessions",
        description="List, delete or prune sessions, outside of any notebook.",
        **_examples(
            "jupyter agentbay sessions list --all",
            "jupyter agentbay sessions delete s-0123456789",
            "jupyter agentbay sessions prune",
        ),
    )
    whats = sessions.add_subparsers(dest="what", metavar="list|delete|prune", required=True)
    listing = whats.add_parser("list", help="List the sessions that this machine knows as yours")
    listing.add_argument(
        "--all",
        action="store_true",
        help="List every session of the key, as the service reports them",
    )
    listing.add_argument("--json", action="store_true", help="Show JSON")
    deleting = whats.add_parser("delete", help="Delete sessions by their ids")
    deleting.add_argument("ids", nargs="*", metavar="SESSION_ID")
    deleting.add_argument(
        "--mine",
        action="store_true",
        help="Delete all that this machine knows as yours, in use or not",
    )
    whats.add_parser("prune", help="Delete the sessions of kernels that have certainly ended")


def _add_run(commands: _Commands) -> None:
    run = commands.add_parser(
        "run",
        help="Execute notebooks in sandboxes, whatever kernels they name",
        description="Execute notebooks with the AgentBay kernel, whatever kernels they name. Of "
        "several notebooks, or of all in a directory, each gets its own session.",
        **_examples(
            "jupyter agentbay run analysis.ipynb",
            "jupyter agentbay run submission.ipynb --untrusted --output graded.ipynb",
            "jupyter agentbay run notebooks/ -j 8 --output-dir executed",
        ),
    )
    run.add_argument("notebooks", metavar="NOTEBOOK|DIR", nargs="+")
    run.add_argument(
        "-j",
        "--jobs",
        metavar="N",
        type=int,
        default=4,
        help="Number of notebooks that run at the same time (default: %(default)s)",
    )
    run.add_argument(
        "--untrusted",
        action="store_true",
        help="Refuse every command that reaches a file of this machine",
    )
    output = run.add_mutually_exclusive_group()
    output.add_argument("--output", metavar="FILE", help="File for the executed notebook")
    output.add_argument("--inplace", action="store_true", help="Overwrite the notebooks")
    output.add_argument(
        "--output-dir", metavar="DIR", help="Directory for the executed notebooks, with their paths"
    )
    run.add_argument(
        "--language", metavar="NAME", help="python or javascript, if the notebook names neither"
    )
    run.add_argument(
        "--timeout", metavar="S", type=float, help="Stop a cell after this number of seconds"
    )
    run.add_argument(
        "--allow-errors", action="store_true", help="Continue after a cell that failed"
    )


def _add_grade(commands: _Commands) -> None:
    grade = commands.add_parser(
        "grade",
        help="Grade submissions in sandboxes, by checks that run here",
        description="Run each submission in a session of its own, call its functions with inputs "
        "and judge on this machine what they return. Write grades.csv and a page of evidence for "
        "each submission.",
        **_examples(
            "jupyter agentbay grade submissions/ --checks checks.py -j 8",
            "jupyter agentbay grade ada.ipynb bob.py --checks checks.py --seed 7",
        ),
    )
    grade.add_argument(
        "submissions",
        metavar="SUBMISSION|DIR",
        nargs="+",
        help="Notebooks, Python files, or directories of them or of one directory each",
    )
    grade.add_argument(
        "--checks", metavar="FILE", required=True, help="Python file with the checks"
    )
    grade.add_argument(
        "-j",
        "--jobs",
        metavar="N",
        type=int,
        default=4,
        help="Number of submissions at the same time (default: %(default)s)",
    )
    grade.add_argument(
        "--output-dir",
        metavar="DIR",
        default="grades",
        help="Directory for the results (default: %(default)s)",
    )
    grade.add_argument(
        "--files", metavar="PATH", nargs="+", default=[], help="Files that every session gets"
    )
    grade.add_argument(
        "--timeout",
        metavar="S",
        type=float,
        default=30,
        help="Seconds for one cell or one call, at most 60 (default: %(default)s)",
    )
    grade.add_argument(
        "--total-timeout",
        metavar="S",
        type=float,
        default=300,
        help="Seconds for one submission (default: %(default)s)",
    )
    grade.add_argument(
        "--seed", metavar="TEXT", help="Draw the same inputs as the run that shows this seed"
    )


def _add_allow(commands: _Commands) -> None:
    allow = commands.add_parser(
        "allow",
        help="Allow framed output to load from hosts",
        description="Allow framed output to load from hosts, by https. This applies to new frames, "
        "in running kernels too. Without arguments: show the hosts.",
        **_examples(
            "jupyter agentbay allow cdn.jsdelivr.net '*.tile.openstreetmap.org'",
            "jupyter agentbay allow --list",
            "jupyter agentbay allow --remove cdn.jsdelivr.net",
        ),
    )
    allow.add_argument("hosts", nargs="*", metavar="HOST")
    allow.add_argument("--list", action="store_true", help="Show the hosts")
    allow.add_argument("--remove", nargs="+", metavar="HOST", help="Remove hosts from the list")


def _add_policy(commands: _Commands) -> None:
    policy = commands.add_parser(
        "policy",
        help="Run all notebooks of a Jupyter server in a sandbox",
        description="Let Jupyter Server start AgentBay kernels for notebooks of any kernel, and "
        "offer no other kernels. It is a rule for those who use the server, not a wall "
        "against the server's own user.",
        **_examples(
            "jupyter agentbay policy on",
            "jupyter agentbay policy on --sys-prefix --trust python3",
            "jupyter agentbay policy show",
        ),
    )
    policy.add_argument("what", choices=("on", "off", "show"), metavar="on|off|show")
    policy.add_argument(
        "--trust",
        nargs="+",
        default=[],
        metavar="KERNEL",
        help="With on: kernels that run on this machine as usual",
    )
    places = policy.add_mutually_exclusive_group()
    places.add_argument("--user", action="store_true", help="For your own servers (default)")
    places.add_argument(
        "--sys-prefix", action="store_true", help="For the servers of this environment"
    )
    places.add_argument("--system", action="store_true", help="For all servers of this machine")


def _examples(*lines: str) -> dict[str, Any]:
    return {
        "epilog": "examples:\n" + "\n".join(f"  {line}" for line in lines),
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def _add_places(parser: argparse.ArgumentParser, verb: str) -> None:
    places = parser.add_mutually_exclusive_group()
    places.add_argument(
        "--user", action="store_true", help=f"{verb} your own Jupyter directory (default)"
    )
    places.add_argument(
        "--sys-prefix",
        action="store_true",
        # argparse formats help texts with %.
        help=f"{verb} this Python's environment: {sys.prefix.replace('%', '%%')}",
    )
    places.add_argument("--prefix", metavar="PATH", help=f"{verb} PATH/share/jupyter/kernels")
