#!/usr/bin/env python3
"""Every C file is as clang-format writes it, and no line is longer than 100 columns; prints TAP.

The style stands in .clang-format. A line may be longer only for a text in quotes, which is not broken, and in a table
that clang-format is told to leave alone. Files and folders
that are not formatted yet stand in format.txt beside this file, one a line, with a reason behind '#'; one in which
nothing is left to do is an error.

    tests/static/format.py           checks
    tests/static/format.py FOLDER    formats a file, a folder or, with '.', everything in place; wraps comments
                                     that are too long, but for those behind code

Debian's clang-format is the package of that name (`deploy/install-packages tests`).
"""
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap

from tap import tell

ROOT = pathlib.Path(__file__).resolve().parents[2]
COLUMNS = 100


def sources(folder="."):
    if (ROOT / folder).is_file():
        return [ROOT / folder]
    patterns = [f"{folder}/**/*.[ch]"] if folder != "." else [f"{top}/**/*.[ch]" for top in ("common", "procs", "deploy", "tests")]
    return sorted({path for pattern in patterns for path in ROOT.glob(pattern)})


def long_lines(path):
    table = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if "clang-format o" in line:
            table = "clang-format off" in line
        if not table and len(line.expandtabs(8)) > COLUMNS and not re.search(r'".{20}', line):
            yield number


# --- Comments that are too long: clang-format would join the keys of a contract ---

BLOCK = re.compile(r"^(\t*)/\*(\*?)(?!.*\\\\$)(.*?)\*/$", re.M | re.S)
ITEM = re.compile(r"\s*(?:@\w+:\s+(?:\[\w+\]\s+)?|[A-Z]\w+:\s+|[-*] |\d+\. )")


def indent(line):
    return len(line) - len(line.lstrip())


def paragraphs(lines):
    """Lists of lines that belong together."""
    found = []
    for line in lines:
        last = found[-1] if found else [""]
        ends = len(last) > 1 and indent(line) < indent(last[-1])  # behind an item
        if line.strip() and last[0].strip() and not ITEM.match(line) and not ends:
            found[-1].append(line)
        else:
            found.append([line])
    return found


def wrap_paragraph(lines, width):
    if all(len(line) <= width for line in lines):
        return lines
    item = ITEM.match(lines[0])
    first = item[0] if item else re.match(r"\s*", lines[0])[0]
    later = re.match(r"\s*", lines[1])[0] if len(lines) > 1 else " " * len(first) if item else first
    words = " ".join([lines[0][len(first):], *lines[1:]]).split()
    return textwrap.wrap(" ".join(words), width, initial_indent=first, subsequent_indent=later,
                         break_long_words=False, break_on_hyphens=False)


def wrap_comment(match):
    tabs, star, body = match.groups()
    if all(len(line.expandtabs(8)) <= COLUMNS for line in match[0].splitlines()):
        return match[0]
    alone = body.startswith("\n")  # the marks stand on lines of their own
    lines = [re.sub(r"^\t* \* ?", "", line) for line in body.strip("\n").rstrip().splitlines()]
    width = COLUMNS - 8 * len(tabs) - 3
    if not alone:
        lines[0] = star + lines[0].lstrip()
    lines = [line for part in paragraphs(lines) for line in wrap_paragraph(part, width)]
    if alone:
        return "\n".join([f"{tabs}/*{star}", *(f"{tabs} * {line}".rstrip() for line in lines), f"{tabs} */"])
    lines[0] = lines[0][len(star):]
    text = "\n".join([f"{tabs}/*{star} {lines[0]}", *(f"{tabs} * {line}".rstrip() for line in lines[1:])])
    last = text.rsplit("\n", 1)[-1]
    if len(last.expandtabs(8)) + 3 <= COLUMNS:
        return text + " */"
    head, word = text.rsplit(" ", 1)
    return f"{head}\n{tabs} * {word} */"


def wrap_comments(path):
    text = path.read_text()
    new = BLOCK.sub(wrap_comment, text)
    if new != text:
        path.write_text(new)


# --- The check ---

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
        for path in sources(options[0]):
            wrap_comments(path)
        return subprocess.run(["clang-format", "-i", *map(str, sources(options[0]))], cwd=ROOT).returncode
    wrong, allowed = judge(), exceptions()
    results = (("every file is formatted", [f"{path}: {text}" for path, text in sorted(wrong.items())
                                           if not {path, path.parent} & allowed]),
               ("format.txt has no stale exceptions",
                [f"{name} has nothing left to do"
                 for name in sorted(allowed - set(wrong) - {path.parent for path in wrong})]))
    tell(results)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
