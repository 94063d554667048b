"""`python -m tests.suites NAME FOLDER`: what passes with the stock kernel passes with ours.

NAME is a package (its tests are run) or `notebooks` (those of the packages and of this
environment are executed). FOLDER holds the sources, outside the repository; what is missing there
is fetched. The table shows what differs. Differences that are known stand in `known.toml` with
the reason; any other one makes the command fail.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

from tests.suites.notebooks import compare_notebooks
from tests.suites.pytest_runs import SUITES, compare_suite

KNOWN = Path(__file__).with_name("known.toml")


def known(name: str) -> dict[str, str]:
    """The tests or notebooks of a suite that differ, each with the reason."""
    reasons: dict[str, str] = {}
    for entry in tomllib.loads(KNOWN.read_text(encoding="utf-8")).get(name, []):
        reasons |= dict.fromkeys(entry["differ"], f"{entry['kind']}: {entry['reason']}")
    return reasons


def main() -> int:
    """Run both and print the table; 1 if a difference has no reason."""
    parser = argparse.ArgumentParser(prog="python -m tests.suites", description=__doc__)
    parser.add_argument("name", choices=[*SUITES, "notebooks"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("-k", dest="only", default="", help="Only those whose name contains this.")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    compare = compare_notebooks if arguments.name == "notebooks" else compare_suite
    rows = compare(arguments.name, folder, arguments.only)
    reasons = known(arguments.name)
    unexplained = 0
    for row in rows:
        if row.same:
            continue
        reason = reasons.get(row.name, "UNEXPLAINED")
        unexplained += reason == "UNEXPLAINED"
        print(f"{row.name}\n    stock {row.stock}, ours {row.ours}: {reason}")
        if reason == "UNEXPLAINED" and row.detail:
            print("    | " + row.detail.replace("\n", "\n    | "))
    named = {row.name for row in rows}
    passed = {row.name for row in rows if row.same}
    for name in sorted(set(reasons) & passed):
        print(f"{name}\n    no difference in this run: {reasons[name]}")
    for name in sorted(set(reasons) - named) if not arguments.only else ():
        print(f"{name}\n    was not run: {reasons[name]}")
    stock = sum(row.stock == "passed" for row in rows)
    ours = sum(row.stock == row.ours == "passed" for row in rows)
    print(
        f"{arguments.name}: {len(rows)} run, {stock} passed with stock, {ours} of these with ours"
    )
    print(f"{unexplained} unexplained")
    return min(unexplained, 1) if stock else 1


if __name__ == "__main__":
    sys.exit(main())
