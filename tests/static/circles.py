#!/usr/bin/env python3
"""Calls in a folder go one way: finds circles of files, and of folders; prints TAP.

A module is a .c file with its header. Module A uses module B when an object file of A refers to a symbol, function or
data, that an object file of B defines: what the linker sees, whichever headers are included. A call through a pointer
that the upper module handed down is no such reference.

Circles that are known and not cut yet stand in circles.txt beside this file, one "folder: module module ..." a line, with
a reason behind '#'. A circle may only be as large as its line says; a module there that is in no circle any more is an
error, too. The objects are those of a build directory:

    tests/static/circles.py BUILD

As a test its name comes in BULKHEAD_BUILD.
"""
import collections
import json
import os
import pathlib
import subprocess
import sys

from tap import tell

ROOT = pathlib.Path(__file__).resolve().parents[2]
PARTS = {"keys": "common/config", "form": "common/snapshot"}
KNOWN = pathlib.Path(__file__).parent / "circles.txt"


def objects(build):
    """{module: its object files}, of common/ and procs/; a module is a path without its suffix. The keys of a type of device
    and its stage in a snapshot lie in its folder, and are a part of libraries."""
    found = collections.defaultdict(set)
    for entry in json.loads((build / "compile_commands.json").read_text()):
        source = (build / entry["file"]).resolve()
        if source.is_relative_to(ROOT) and source.relative_to(ROOT).parts[0] in ("common", "procs"):
            module = source.relative_to(ROOT).with_suffix("")
            if module.name in PARTS and module.parent.parent.name == "procs":
                module = pathlib.Path(PARTS[module.name]) / f"{module.name}-{module.parent.name}"
            found[module].add(build / entry["output"])
    return found


def symbols(modules):
    """{module: (defined, undefined) names of its object files}"""
    home = {str(path): module for module, paths in modules.items() for path in paths}
    out = subprocess.run(["nm", "-A", "--extern-only", "--format=posix", *home], check=True, capture_output=True, text=True).stdout
    found = {module: (set(), set()) for module in modules}
    for line in out.splitlines():
        path, _, rest = line.partition(": ")
        name, kind = rest.split()[:2]
        found[home[path]][kind in "Uwv"].add(name)
    return {module: (defined, undefined - defined) for module, (defined, undefined) in found.items()}


def references(build):
    """{module: {module that it uses: the symbols}}"""
    tables = symbols(objects(build))
    home = collections.defaultdict(set)
    for module, (defined, _) in tables.items():
        for symbol in defined:
            home[symbol].add(module)
    found = {module: collections.defaultdict(set) for module in tables}
    for module, (_, undefined) in tables.items():
        for symbol in undefined:
            if len(home[symbol]) == 1:  # main() and the like are nobody's
                found[module][next(iter(home[symbol]))].add(symbol)
    return found


def reachable(edges, start):
    seen, todo = set(), list(edges[start])
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo += edges[node]
    return seen


def circles(edges):
    """The sets of nodes that all reach each other."""
    reach = {node: reachable(edges, node) for node in edges}
    found = {frozenset(other for other in reach[node] if node in reach[other]) for node in edges if node in reach[node]}
    return sorted(found, key=sorted)


def within(refs, folder):
    return {module: {other: names for other, names in used.items() if other.parent == folder and other != module}
            for module, used in refs.items() if module.parent == folder}


def between(refs):
    edges = collections.defaultdict(lambda: collections.defaultdict(set))
    for module, used in refs.items():
        edges[module.parent]  # a folder that uses none is a node, too
        for other, names in used.items():
            if other.parent != module.parent:
                edges[module.parent][other.parent] |= names
    return edges


def known():
    """{folder: the modules of all its lines}"""
    found = collections.defaultdict(list)
    for line in KNOWN.read_text().splitlines():
        folder, colon, modules = line.split("#")[0].partition(":")
        if colon:
            found[pathlib.Path(folder.strip())].append({pathlib.Path(folder.strip()) / name for name in modules.split()})
    return found


def describe(circle, edges):
    for node in sorted(circle):
        for other in sorted(circle & set(edges[node])):
            names = sorted(edges[node][other])
            yield f"  {node.name} -> {other.name}: {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}"


def judge(folder, edges, allowed):
    """What is wrong with the circles of a folder, line by line."""
    found = circles(edges)
    for circle in found:
        if not any(circle <= line for line in allowed):
            yield f"a circle in {folder}: {' '.join(sorted(node.name for node in circle))}"
            yield from describe(circle, edges)
    for line in allowed:
        for node in sorted(line - {node for circle in found if circle <= line for node in circle}):
            yield f"{folder}: {node.name} is in no circle any more, but in circles.txt"


def main(options):
    build = pathlib.Path(options[0] if options else os.environ["BULKHEAD_BUILD"]).resolve()
    missing = sorted(str(path) for paths in objects(build).values() for path in paths if not path.exists())
    if missing:
        print(f"Bail out! {missing[0]} is not built, nor are {len(missing) - 1} others")
        return 1
    refs, allowed = references(build), known()
    folders = sorted({module.parent for module in refs})
    results = [(f"{folder} has no circle of files", list(judge(folder, within(refs, folder), allowed.pop(folder, []))))
               for folder in folders]
    results.append(("there is no circle of folders", list(judge("the tree", between(refs), []))))
    results.append(("circles.txt names folders that are there", [f"{folder} is not there" for folder in allowed]))
    tell(results)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
