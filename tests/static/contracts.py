#!/usr/bin/env python3
"""Every function that a header declares has its contract there; prints TAP.

A contract is a comment that begins with two stars and stands directly above the prototype. One comment may serve several
prototypes that follow each other without an empty line: then it names each, or what their names begin with:
"record_write_...()". Prototypes are found by ctags.

Exceptions stand in contracts.txt beside this file, one "path:function" a line, with a reason behind '#'. An exception
that is no longer needed is an error, too. `contracts.py --list` prints what has none.
"""
import json
import pathlib
import re
import subprocess
import sys

from tap import tell

ROOT = pathlib.Path(__file__).resolve().parents[2]


def headers():
    return sorted(path for folder in ("common", "procs") for path in (ROOT / folder).rglob("*.h"))


def prototypes(paths):
    """{header: {line: function}}"""
    out = subprocess.run(
        ["ctags", "--languages=C", "--langmap=C:.h.c", "--kinds-C=p", "--fields=+n", "--output-format=json", "-o", "-",
         *map(str, paths)], check=True, capture_output=True, text=True).stdout
    found = {path: {} for path in paths}
    for tag in map(json.loads, out.splitlines()):
        if not tag["name"].isupper() and tag["name"] != "offsetof":  # macros are none
            found[pathlib.Path(tag["path"])][tag["line"]] = tag["name"]
    return found


def comment_above(lines, number):
    """The comment over a paragraph of prototypes, and whether it stands directly over this one."""
    at, direct = number - 2, True
    while at >= 0 and lines[at].strip() and not lines[at].rstrip().endswith("*/"):
        direct = direct and not lines[at].rstrip().endswith((";", "}"))
        at -= 1
    end = at
    while at >= 0 and "/*" not in lines[at]:
        at -= 1
    text = "\n".join(lines[at:end + 1]) if end >= 0 and lines[end].strip() else ""
    return (text if text.lstrip().startswith("/**") else ""), direct


def names(comment, function):
    if re.search(rf"\b{function}\b", comment):
        return True
    return any(function.startswith(prefix) for prefix in re.findall(r"\b(\w+_)\.\.\.", comment))


def missing():
    for path, found in prototypes(headers()).items():
        lines = path.read_text().splitlines()
        for number, function in found.items():
            comment, direct = comment_above(lines, number)
            if not comment or not (direct or names(comment, function)):
                yield f"{path.relative_to(ROOT)}:{function}"


def exceptions():
    lines = (pathlib.Path(__file__).parent / "contracts.txt").read_text().splitlines()
    return {line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()}


def main(options):
    found, allowed = set(missing()), exceptions()
    if options == ["--list"]:
        print("\n".join(sorted(found)))
        return 0
    results = (("every function in a header has its contract", [f"{name} has none" for name in sorted(found - allowed)]),
               ("contracts.txt has no stale exceptions", sorted(allowed - found)))
    tell(results)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
