#!/usr/bin/env python3
"""Every C file is as clang-format writes it, and no line is longer than 100 columns; prints TAP.

The style stands in .clang-format. A line may be longer only for a text in quotes, which is not broken. Folders that are
not formatted yet stand in format.txt beside this file, one a line, with a reason behind '#'; a folder there in which
nothing is left to do is an error.

    tests/static/format.py           checks
    tests/static/format.py FOLDER    formats the files of a folder, or of all with '.', in place

Debian's clang-format is the package of that name (`deploy/install-packages tests`).
"""
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
COLUMNS = 100


def sources(folder="."):
    patterns = [f"{folder}/**/*.[ch]"] if folder != "." else [f"{top}/**/*.[ch]" for top in ("common", "procs", "deploy", "tests")]
    return sorted({path for pattern in patterns for path in ROOT.glob(pattern)})


def long_lines(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if len(line.expandtabs(8)) > COLUMNS and not re.search(r'".{20}', line):
            yield number


def unformatted(paths):
    run = subprocess.run(["clang-format", "--dry-run", *map(str, paths)], cwd=ROOT, capture_output=True, text=True)
    found = {}
    for line in re.findall(r"^(\S+):(\d+):\d+: warning: code should be clang-formatted", run.stderr, re.M):
        found.setdefault(pathlib.Path(line[0]), int(line[1]))
    return found


def judge():
    """{file: what is wrong with it}"""
    paths = sources()
    found = {path.relative_to(ROOT): f"line {line} is not as clang-format writes it" for path, line in unformatted(paths).items()}
    for path in paths:
        for number in long_lines(path):
            found.setdefault(path.relative_to(ROOT), f"line {number} is longer than {COLUMNS} columns")
    return found


def exceptions():
    lines = (pathlib.Path(__file__).parent / "format.txt").read_text().splitlines()
    return {pathlib.Path(line.split("#")[0].strip()) for line in lines if line.split("#")[0].strip()}


def main(options):
    if not shutil.which("clang-format"):
        print("1..0 # SKIP clang-format is missing")
        return 0
    if options:
        return subprocess.run(["clang-format", "-i", *map(str, sources(options[0]))], cwd=ROOT).returncode
    wrong, allowed = judge(), exceptions()
    results = (("every file is formatted", [f"{path}: {text}" for path, text in sorted(wrong.items()) if path.parent not in allowed]),
               ("format.txt has no stale exceptions",
                [f"{folder} has nothing left to do" for folder in sorted(allowed - {path.parent for path in wrong})]))
    print(f"1..{len(results)}")
    for number, (text, lines) in enumerate(results, 1):
        print(f"{'not ok' if lines else 'ok'} {number} - {text}")
        for line in lines:
            print(f"# {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
