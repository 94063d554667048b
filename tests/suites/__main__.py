"""`python -m tests.suites NAME FOLDER`: what passes with the stock kernel passes with ours.

NAME is a package (its tests are run) or `notebooks` (those of the packages and of this
environment are executed). FOLDER holds the sources, outside the repository; what is missing there
is fetched. With `--provisioner`, `python3` stays the stock kernelspec, started by our provisioner.
The table shows what differs. Differences that are known stand in `known.toml` with
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
    parser.add_argument(
        "--provisioner",
        action="store_true",
        help="Leave the stock kernelspecs, and have our provisioner start them.",
    )
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    reasons = known(arguments.name)
    if arguments.name == "notebooks":
        if arguments.provisioner:
            parser.error("Notebooks name their kernel to nbclient: --provisioner is for suites.")
        rows = compare_notebooks(arguments.name, folder, arguments.only)
    else:
        which = "provisioner" if arguments.provisioner else "ours"
        rows = compare_suite(arguments.name, folder, arguments.only, which)
        if arguments.provisioner:
            reasons |= known(f"{arguments.name}-provisioner")
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
