#!/usr/bin/env python3
"""Which test covers which hostile input; prints TAP.

A test says so itself: the words "covers: M8 G2" in a comment before START_TEST, @case, def or main() tie that test, or
that whole program, to cases of tests/data/hostile-cases.txt. tests/HOSTILE.md is the table that follows from this:

    tests/static/cases.py --write BUILD     writes it
    tests/static/cases.py --table BUILD     prints it

BUILD is a build directory, which knows what `meson test` runs; as a test its name comes in BULKHEAD_BUILD.
"""
import sys

import tags
from tags import TESTS

TABLE = TESTS / "HOSTILE.md"


def cases():
    """{name: [what must hold, what is open or None]}, in the order of the file."""
    found = {}
    for line in (TESTS / "data/hostile-cases.txt").read_text().splitlines():
        if line.startswith("\topen: "):
            found[next(reversed(found))][1] = line[len("\topen: "):]
        elif line and not line.startswith("#"):
            name, text = line.split(" ", 1)
            found[name] = [text, None]
    return found


def table(known, found, runs):
    tests = {name: tags.tests_of(name, found, runs) for name in known}
    n_open = sum(1 for _, is_open in known.values() if is_open)
    yield "# Hostile inputs, and the tests that cover them"
    yield ""
    yield "Made by `tests/static/cases.py --write BUILD` from `tests/data/hostile-cases.txt` and the tags in the tests."
    yield f"{len(known)} cases; {sum(1 for name in known if tests[name])} have tests, something is open in {n_open}."
    yield ""
    yield "| case | what must hold | tests | open |"
    yield "|---|---|---|---|"
    for name, (text, is_open) in known.items():
        yield f"| {name} | {text} | {tests[name]} | {is_open or ''} |"


def check(known, found, runs):
    """Each check: its text, and what is wrong."""
    yield from tags.check(known, found, runs, "case")
    covered = {name for tag in found for name in tag.names}
    yield "every case has a test, or says why not", [
        f"{name} has no test, and no line says what is open" for name, (_, is_open) in known.items()
        if name not in covered and not is_open]


if __name__ == "__main__":
    all_tags = list(tags.tags("covers", r"[MGP]\d+"))
    tags.main(sys.argv[1:], "cases.py", TABLE, lambda runs: table(cases(), all_tags, runs),
              lambda runs: check(cases(), all_tags, runs))
