"""A class of generated submissions, some honest, some wrong, some hostile, and their checks.

The task: `median(values)`, `total(table)` (the sum of a table's column `price`) and a variable
`best`, the largest of [3, 9, 4]. The points that each kind is worth are known.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

CHECKS = """
import statistics

from agentbay_kernel.grading import points, same


@points(4)
def check_median(submission):
    rows = [
        [submission.random.randint(-999, 999) for _ in range(length)] for length in (1, 3, 4, 9)
    ]
    given = submission.map("median", rows)
    right = [same(one, statistics.median(row)) for one, row in zip(given, rows, strict=True)]
    return sum(right) / len(right)


@points(2)
def check_total(submission):
    prices = [submission.random.randint(1, 99) for _ in range(5)]
    assert same(submission.call("total", {"price": prices}), sum(prices))


def check_best(submission):
    assert same(submission.value("best"), 9)
"""
OUT_OF = 7

MEDIAN = """
def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2
"""
TOTAL = "def total(table):\n    return sum(table['price'])"
BEST = "best = max([3, 9, 4])"
HONEST = {
    "all": (MEDIAN, TOTAL, BEST),
    "odd lengths only": (
        "def median(values): return sorted(values)[len(values) // 2]",
        TOTAL,
        BEST,
    ),
    "no total": (MEDIAN, BEST),
    "wrong best": (MEDIAN, TOTAL, "best = '9'"),
    "nothing": ("print('I did not have the time')",),
    "an error in a cell": (MEDIAN, "1 / 0", TOTAL, BEST),
}
# In the second, `median` is right for three of the four lengths.
HONEST_POINTS = {
    "all": 7,
    "odd lengths only": 6,
    "no total": 5,
    "wrong best": 6,
    "nothing": 0,
    "an error in a cell": 7,
}

ALWAYS = """
class Always:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __float__(self): return 1.0
    def __bool__(self): return True
    def __len__(self): return 4
    def __reduce__(self): return (__import__("os").system, ("touch /tmp/owned",))
"""
# A kind of attack, and its cells. None earns a point unless HOSTILE_POINTS says so.
HOSTILE = {
    "prints a result": ("print('{\"points\": 7}')\nprint('All checks passed: 7 of 7')",),
    "replaces json": (
        "import json\njson.dumps = lambda *a, **k: '[true, true, true, true]'\n"
        "json.loads = lambda *a, **k: {}\njson.JSONEncoder.encode = lambda *a: '9'",
    ),
    "replaces builtins": (
        "import builtins\nbuiltins.isinstance = lambda *a: True\nbuiltins.len = lambda *a: 4\n"
        "builtins.type = lambda *a: int\nbuiltins.repr = lambda *a: '9'",
    ),
    "input transformers": (
        "get_ipython().input_transformers_post.append(lambda lines: ['pass\\n'])",
    ),
    "hangs": ("while True: pass", BEST),
    "hangs for good": (
        "import time\nwhile True:\n    try: time.sleep(1)\n    except BaseException: pass",
        BEST,
    ),
    "hangs when asked": ("def median(values):\n    while True: pass\ntotal = median", BEST),
    "forks": ("import os\nfor _ in range(3): os.fork()", "def median(values): return 0"),
    "prints without end": ("while True: print('x' * 10**6)", BEST),
    "exits": ("import os\nos._exit(0)", BEST),
    "exits when asked": ("import os\ndef median(values): os._exit(0)\ntotal = median", BEST),
    "raises SystemExit": ("def median(values): raise SystemExit('7')\nraise SystemExit(0)",),
    "always equal": (
        ALWAYS,
        "def median(values): return Always()\ntotal = median\nbest = Always()",
    ),
    "equal by inheritance": (
        "class Nine(int):\n    def __eq__(self, other): return True\n"
        "    def __hash__(self): return 9\nbest = Nine(8)\n"
        "def median(values): return Nine(0)\ntotal = median",
    ),
    "deep nesting": (
        "best = []\nfor _ in range(100_000): best = [best]\n"
        "def median(values): return best\ntotal = median",
    ),
    "not a number": (
        "best = float('nan')\ndef median(values): return float('nan')\n"
        "def total(table): return float('inf')",
    ),
    "endless value": (
        "class Endless(list):\n    def __iter__(self):\n        while True: yield 1\n"
        "    def __len__(self): return 10**9\nbest = Endless()\n"
        "def median(values): return Endless()\ntotal = median",
    ),
    "replaces the transfer": (
        "import runpy\nrunpy.run_path = lambda *a, **k: {'serve': lambda *a: None}",
        BEST,
    ),
    "forges the transfer": (
        "import runpy, json, glob\n"
        "def forge(space, base):\n"
        "    open(base + '.report', 'w').write(json.dumps({'text': json.dumps({'best': 9})}))\n"
        "runpy.run_path = lambda *a, **k: {'serve': forge}",
        BEST,
    ),
    "takes the memory": ("hoard = []\nwhile True: hoard.append(bytearray(10**8))", BEST),
    "active names": (
        "class Evil(Exception):\n    def __str__(self): return '<script>alert(1)</script>'\n"
        "print('<img src=x onerror=alert(1)>\\x1b]0;owned\\x07')\n"
        "raise Evil()",
    ),
    "looks for answers": (
        "import gc, sys\n"
        "def median(values):\n"
        "    return [it for it in gc.get_objects() if isinstance(it, float)][:1] or 0\n"
        "def total(table):\n    return sys._getframe(1).f_locals.get('expected', 0)",
    ),
    "remembers": ("seen = {}\ndef median(values): return seen.get(tuple(values), 10_000)",),
}
# Of each of these `make test` has the other one, which does the same in another way.
OTHERS = {
    "replaces builtins": "replaces json",
    "equal by inheritance": "always equal",
    "exits when asked": "exits",
    "replaces the transfer": "forges the transfer",
    "looks for answers": "remembers",
}
# What these have earned: the variable `best` is right, whatever else they do. A forged transfer
# that brings the right value is no more than the variable.
HOSTILE_POINTS = dict.fromkeys(
    [
        "hangs",
        "hangs for good",
        "hangs when asked",
        "prints without end",
        "exits",
        "takes the memory",
        "forges the transfer",
    ],
    1,
)


@dataclass(frozen=True)
class Student:
    """A submission and what it is worth."""

    name: str
    kind: str
    points: float


def write_class(
    folder: Path, number: int, hostile: int = len(HOSTILE), without: Collection[str] = ()
) -> list[Student]:
    """Write submissions into a folder: notebooks, Python files and directories.

    Arguments:
        number: of submissions in all.
        hostile: of them, each kind in turn.
        without: kinds that are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(7)
    attacks = [kind for kind in HOSTILE if kind not in without]
    bad = [attacks[at % len(attacks)] for at in range(hostile)]
    good = [list(HONEST)[at % len(HONEST)] for at in range(number - hostile)]
    kinds = [*bad, *good]
    draw.shuffle(kinds)
    students = []
    for at, kind in enumerate(kinds):
        cells = HOSTILE.get(kind) or HONEST[kind]
        worth = HOSTILE_POINTS.get(kind, 0) if kind in HOSTILE else HONEST_POINTS[kind]
        name = _write(folder, f"s{at:03}", cells, at % 3)
        students.append(Student(name, kind, worth))
    return students


def _write(folder: Path, name: str, cells: tuple[str, ...], form: int) -> str:
    notebook = new_notebook(
        cells=[new_markdown_cell("<script>alert(1)</script>"), *map(new_code_cell, cells)]
    )
    if form == 0:
        nbformat.write(notebook, folder / f"{name}.ipynb")
        return f"{name}.ipynb"
    if form == 1 and len(cells) == 1:
        (folder / f"{name}.py").write_text(cells[0])
        return f"{name}.py"
    (folder / name).mkdir()
    nbformat.write(notebook, folder / name / "work.ipynb")
    return name
