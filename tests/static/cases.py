#!/usr/bin/env python3
"""Which test covers which hostile input; prints TAP.

A test says so itself: the words "covers: M8 G2" in a comment before START_TEST, @case, def or main() tie that test, or
that whole program, to cases of tests/data/hostile-cases.txt. tests/HOSTILE.md is the table that follows from this:

    tests/static/cases.py --write BUILD     writes it
    tests/static/cases.py --table BUILD     prints it

BUILD is a build directory, which knows what `meson test` runs; as a test its name comes in BULKHEAD_BUILD.
"""
import collections
import json
import os
import pathlib
import re
import sys

from tap import tell

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
TABLE = TESTS / "HOSTILE.md"
TAG = re.compile(r"(?:/\*|#).*?\bcovers:((?:\s+[MGP]\d+)+)")
TEST = re.compile(r"START_TEST\((\w+)\)|@case\('([^']+)'|^def (\w+)\(|^int (main)\(", re.M)
USED = r"tcase_add_(?:loop_)?test\(\s*\w+,\s*{0}\b|@case\('{0}'|, {0}, \d+\)"

Tag = collections.namedtuple("Tag", "path test cases")


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


def tags():
    for path in sorted(p for suffix in ("c", "py") for p in TESTS.glob(f"*/*.{suffix}")):
        if path.parent.name in ("lib", "static"):
            continue
        text = path.read_text()
        for tag in TAG.finditer(text):
            test = TEST.search(text, tag.end())
            name = next(filter(None, test.groups())) if test else None
            yield Tag(path.relative_to(ROOT), name, tag[1].split())


def programs(build):
    """{source file: names of the tests that meson runs with it}"""
    def load(name):
        return json.loads((build / "meson-info" / name).read_text())
    sources = {target["filename"][0]: [s for group in target["target_sources"] for s in group.get("sources", [])]
               for target in load("intro-targets.json") if target["type"] == "executable"}
    found = collections.defaultdict(list)
    for test in load("intro-tests.json"):
        for source in sources.get(test["cmd"][0], test["cmd"][1:]):
            path = (build / source).resolve()
            if path.is_relative_to(ROOT):
                found[path.relative_to(ROOT)].append(test["name"])
    return found


def title(tag, runs):
    names = sorted(runs[tag.path])
    program = names[0] if len(names) == 1 else os.path.commonprefix(names).rstrip("-") + "-*"
    return program if tag.test == "main" else f"{program}: {tag.test}"


def is_run(tag, runs):
    if tag.test == "main":
        return bool(runs[tag.path])
    return bool(tag.test and runs[tag.path] and re.search(USED.format(tag.test), (ROOT / tag.path).read_text()))


def table(known, found, runs):
    tests = {name: [f"`{title(tag, runs)}`" for tag in found if name in tag.cases and is_run(tag, runs)] for name in known}
    n_open = sum(1 for _, is_open in known.values() if is_open)
    yield "# Hostile inputs, and the tests that cover them"
    yield ""
    yield "Made by `tests/static/cases.py --write BUILD` from `tests/data/hostile-cases.txt` and the tags in the tests."
    yield f"{len(known)} cases; {sum(1 for name in known if tests[name])} have tests, something is open in {n_open}."
    yield ""
    yield "| case | what must hold | tests | open |"
    yield "|---|---|---|---|"
    for name, (text, is_open) in known.items():
        yield f"| {name} | {text} | {'<br>'.join(tests[name])} | {is_open or ''} |"


def check(known, found, runs):
    """Each check: its text, and what is wrong."""
    yield "every tag names a case", [
        f"{tag.path}: {tag.test} covers {name}, which is no case" for tag in found for name in tag.cases if name not in known]
    yield "every tag stands before a test that is run", [
        f"{tag.path}: {tag.test} is not run" for tag in found if not is_run(tag, runs)]
    covered = {name for tag in found for name in tag.cases}
    yield "every case has a test, or says why not", [
        f"{name} has no test, and no line says what is open" for name, (_, is_open) in known.items()
        if name not in covered and not is_open]
    written = TABLE.read_text() if TABLE.exists() else ""
    yield "tests/HOSTILE.md is up to date", [] if written == "\n".join(table(known, found, runs)) + "\n" else [
        "run: tests/static/cases.py --write BUILD"]


def main(options):
    build = pathlib.Path(options[-1] if len(options) == 2 else os.environ["BULKHEAD_BUILD"])
    known, found, runs = cases(), list(tags()), programs(build)
    if options[:1] in (["--table"], ["--write"]):
        text = "\n".join(table(known, found, runs)) + "\n"
        if options[0] == "--write":
            TABLE.write_text(text)
        else:
            print(text, end="")
        return 0
    if not any(path.suffix == ".c" for path in runs):
        print("1..0 # SKIP this build has no tests in C: libcheck is missing")
        return 0
    results = list(check(known, found, runs))
    tell(results)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
