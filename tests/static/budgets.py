#!/usr/bin/env python3
"""Holds the tree to its budgets of length; prints TAP.

Functions: median at most 20 lines, 95 % at most 60, none over 80. Files: .c at most 600 lines, headers 150.
Exceptions stand in budgets.txt beside this file, one "path" or "path:function" a line, with a reason
behind '#'. An exception that is no longer needed is an error, too.
"""
import json
import pathlib
import statistics
import subprocess
import sys

from tap import tell

ROOT = pathlib.Path(__file__).resolve().parents[2]
FUNCTION_MEDIAN, FUNCTION_95, FUNCTION_MAX = 20, 60, 80
FILE_MAX = {".c": 600, ".h": 150}


def sources():
    return sorted(p for d in ("common", "procs") for p in (ROOT / d).rglob("*.[ch]"))


def functions(files):
    out = subprocess.run(
        ["ctags", "--languages=C", "--kinds-C=f", "--fields=+ne", "--output-format=json", "-o", "-",
         *map(str, files)], check=True, capture_output=True, text=True).stdout
    for line in out.splitlines():
        tag = json.loads(line)
        if "end" in tag:
            path = pathlib.Path(tag["path"]).relative_to(ROOT)
            yield f"{path}:{tag['name']}", tag["end"] - tag["line"] + 1


def exceptions():
    lines = (pathlib.Path(__file__).parent / "budgets.txt").read_text().splitlines()
    return {line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()}


def main():
    allowed, used, results = exceptions(), set(), []

    def judge(name, value, limit):
        if value <= limit:
            return True
        if name in allowed:
            used.add(name)
            return True
        print(f"# {name}: {value} lines, {limit} allowed")
        return False

    files = sources()
    lengths = dict(functions(files))
    for suffix, limit in FILE_MAX.items():
        results.append((f"{suffix} files have at most {limit} lines", all([
            judge(str(p.relative_to(ROOT)), len(p.read_text().splitlines()), limit)
            for p in files if p.suffix == suffix])))
    results.append((f"functions have at most {FUNCTION_MAX} lines",
                    all([judge(n, v, FUNCTION_MAX) for n, v in lengths.items()])))
    ordered = sorted(lengths.values())
    median, p95 = statistics.median(ordered), ordered[int(len(ordered) * 0.95)]
    print(f"# {len(ordered)} functions: median {median} lines, 95 % within {p95}")
    results.append(("the median function is short", median <= FUNCTION_MEDIAN))
    results.append(("95 % of the functions fit a screen", p95 <= FUNCTION_95))
    results.append((f"no stale exceptions {sorted(allowed - used)}", allowed == used))
    tell((text, [] if ok else ["see above"]) for text, ok in results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
