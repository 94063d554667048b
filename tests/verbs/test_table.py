"""Lines with verbs: what is answered, what is refused and how."""

from __future__ import annotations

import argparse

import pytest

from agentbay_kernel.errors import NotAllowedError, VerbError
from agentbay_kernel.sessions import SessionManager
from agentbay_kernel.verbs import VERBS, Verb
from agentbay_kernel.verbs.cell_options import cell_parser
from agentbay_kernel.verbs.parser import LineParser, split_words, touching_machine
from agentbay_kernel.verbs.table import find_verb
from tests.verbs.conftest import RunVerb


def test_no_verb_and_help_list_all_verbs(verb: RunVerb) -> None:
    for line in ("", "help", "?"):
        shown = verb(line)
        for name in VERBS:
            assert f"agentbay {name}" in shown["text/plain"]
            assert f"agentbay {name}" in shown["text/html"]


@pytest.mark.parametrize("line", ["help status", "status --help", "status -h", "status?"])
def test_help_of_a_verb_is_made_from_its_arguments(verb: RunVerb, line: str) -> None:
    told = verb(line)["text/plain"]
    assert told.startswith("usage: %agentbay status")
    assert "--json" in told
    assert "\n  %agentbay status --json" in told
    cell = cell_parser().help_text()
    assert cell.startswith("usage: %%agentbay [-h]") and "\n  %%agentbay python\n" in cell


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("frobnicate", "There is no command 'frobnicate'. Use one of: attach, config, "),
        ("status --frobnicate", "has no flag --frobnicate. It has: -h, --help, --json"),
        ("status --js", "has no flag --js"),
        ("status everything", "`%agentbay status`: doesn't take 'everything'"),
        ("status 'open", "A quote is opened and not closed"),
        ("help frobnicate", "There is no command 'frobnicate'"),
        ("-h", "There is no command '-h'"),
    ],
)
def test_a_wrong_line_is_told(verb: RunVerb, line: str, told: str) -> None:
    with pytest.raises(VerbError) as caught:
        verb(line)
    assert told in str(caught.value)


def test_a_verb_of_one_line_is_no_cell(verb: RunVerb) -> None:
    with pytest.raises(VerbError, match="is a command of one line"):
        verb("status", "print(1)")


def test_words_keep_backslashes_and_quoted_spaces() -> None:
    assert split_words(r"""upload "my file.csv" C:\data\x 'it#s' """) == [
        "upload",
        "my file.csv",
        r"C:\data\x",
        "it#s",
    ]


@pytest.mark.parametrize("name", sorted(VERBS))
def test_every_verb_documents_itself(name: str) -> None:
    verb = find_verb(name)
    assert verb.summary and not verb.summary.endswith(".")
    assert all(line.startswith(verb.typed) for line in verb.examples)
    for action in verb.parser.actions:
        assert action.help, action.dest
    for line in verb.examples:
        _, *words = split_words(line.partition("agentbay ")[2].partition("\n")[0])
        verb.parser.read(words, untrusted=False)


def _with_flags(parser: LineParser) -> None:
    touching_machine(parser.add_argument("--save", metavar="FILE", help="write it there"))
    parser.add_argument("--count", type=int, help="how many")
    parser.add_argument("-n", type=int, help="how many more")


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has one row more."""
    show = Verb("show", "show", lambda options, *_: {"text/plain": str(options)}, _with_flags)
    save = Verb("save", "save", lambda *_: {"text/plain": "saved"}, touches_machine=True)
    body = Verb("body", "b", lambda options, *_: {"text/plain": options.body}, takes_body=True)
    for verb in (show, save, body):
        monkeypatch.setitem(VERBS, verb.name, verb)


def test_a_cell_verb_gets_its_lines(verb: RunVerb, row: None) -> None:
    assert verb("body", "a\nb")["text/plain"] == "a\nb"


def test_values_are_checked(verb: RunVerb, row: None) -> None:
    assert verb("show --count 3")["text/plain"] == str(
        argparse.Namespace(help=False, save=None, count=3, n=None, body=None)
    )
    assert "n=-5" in verb("show -n -5")["text/plain"]
    with pytest.raises(VerbError, match=r"invalid int value: 'many'.*\[--count COUNT\]"):
        verb("show --count many")


def test_untrusted_cells_touch_nothing_here(
    verb: RunVerb, row: None, manager: SessionManager
) -> None:
    assert verb("save")["text/plain"] == "saved"
    assert "x.txt" in verb("show --save x.txt")["text/plain"]
    manager.settings.untrusted = True
    for line in ("save", "show --save x.txt", "show --save=x.txt"):
        with pytest.raises(NotAllowedError, match="`untrusted` turns that off"):
            verb(line)
    assert "count=2" in verb("show --count 2")["text/plain"]
    assert "usage" in verb("save --help")["text/plain"]
