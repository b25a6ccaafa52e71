#!/usr/bin/env python3
"""Which test uses which feature that is offered; prints TAP.

The words "uses: net:MQ protocol:STATUS" in a comment before a test tie it to lines of tests/data/offered-bits.txt, as
tags.py describes. tests/OFFERED.md is the table that follows from this; it is written and printed as that of cases.py is.
"""
import sys

import tags
from tags import TESTS

TABLE = TESTS / "OFFERED.md"


def bits():
    """{kind:name: (number, what it is for)}, in the order of the file."""
    found = {}
    for line in (TESTS / "data/offered-bits.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            kind, number, name, text = line.split(None, 3)
            found[f"{kind}:{name}"] = (int(number), text)
    return found


def table(known, found, runs):
    yield "# What is offered, and the tests that use it"
    yield ""
    yield "Made by `tests/static/offered.py --write BUILD` from `tests/data/offered-bits.txt` and the tags in the tests;"
    yield f"`system-offered` compares the list with what the processes offer. {len(known)} bits: those of each type of device,"
    yield "and vhost-user's protocol features."
    yield ""
    yield "| bit | | what it is for | tests |"
    yield "|---|---|---|---|"
    for name, (number, text) in known.items():
        yield f"| {name} | {number} | {text} | {tags.tests_of(name, found, runs)} |"


def check(known, found, runs):
    yield from tags.check(known, found, runs, "bit")
    yield "every bit that is offered has a test that uses it", [
        f"{name} has no test" for name in known if not tags.tests_of(name, found, runs)]


if __name__ == "__main__":
    all_tags = list(tags.tags("uses", r"\w+:\w+"))
    tags.main(sys.argv[1:], "offered.py", TABLE, lambda runs: table(bits(), all_tags, runs),
              lambda runs: check(bits(), all_tags, runs))
