"""What tests say of themselves in a comment before START_TEST, @case, def or main(): "covers: M8 G2", "uses: net:MQ".

A tag ties that test, or that whole program, to lines of a list in tests/data; a table in tests/ follows from both.
"""
import collections
import json
import os
import pathlib
import re

from tap import tell

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
TEST = re.compile(r"START_TEST\((\w+)\)|@case\('([^']+)'|^def (\w+)\(|^int (main)\(", re.M)
USED = r"tcase_add_(?:loop_)?test\(\s*\w+,\s*{0}\b|@case\('{0}'|, {0}, \d+\)|\brow\({0},"

Tag = collections.namedtuple("Tag", "path test names")


def tags(word, name):
    """Every tag of this word, whose names match this expression."""
    pattern = re.compile(r"(?:/\*|#).*?\b" + word + r":((?:\s+" + name + r")+)")
    for path in sorted(p for suffix in ("c", "py") for p in TESTS.glob(f"*/*.{suffix}")):
        if path.parent.name in ("lib", "static"):
            continue
        text = path.read_text()
        for tag in pattern.finditer(text):
            test = TEST.search(text, tag.end())
            found = next(filter(None, test.groups())) if test else None
            yield Tag(path.relative_to(ROOT), found, tag[1].split())


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


def tests_of(name, found, runs):
    """The tests of one name, as a table shows them."""
    return "<br>".join(f"`{title(tag, runs)}`" for tag in found if name in tag.names and is_run(tag, runs))


def check(known, found, runs, kind):
    """The checks that every list has: its text, and what is wrong."""
    yield f"every tag names a {kind}", [
        f"{tag.path}: {tag.test}: {name} is no {kind}" for tag in found for name in tag.names if name not in known]
    yield "every tag stands before a test that is run", [
        f"{tag.path}: {tag.test} is not run" for tag in found if not is_run(tag, runs)]


def main(options, program, path, table, check):
    """A program of this folder: table(runs) yields the lines of the file at path, check(runs) the checks of the rest."""
    build = pathlib.Path(options[-1] if len(options) == 2 else os.environ["BULKHEAD_BUILD"])
    runs = programs(build)
    text = "\n".join(table(runs)) + "\n"
    if options[:1] == ["--write"]:
        path.write_text(text)
    elif options[:1] == ["--table"]:
        print(text, end="")
    elif not any(source.suffix == ".c" for source in runs):
        print("1..0 # SKIP this build has no tests in C: libcheck is missing")
    else:
        up_to_date = path.exists() and path.read_text() == text
        tell([*check(runs), (f"tests/{path.name} is up to date",
                             [] if up_to_date else [f"run: tests/static/{program} --write BUILD"])])
