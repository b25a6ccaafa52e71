"""tests/bench/run"""

import argparse
import re
import signal
import sys
import time
from pathlib import Path

from bulkhead_test import env

from . import control, guests, idle, output, ring, scale, tap
from .cells import ITSELF, OURS, need_packages
from .figures import margins, rows
from .measure import Plan, full_seconds, measure

GROUPS = (ring, tap, guests, idle, scale, control)


def arguments():
    parser = argparse.ArgumentParser(description='Our figures beside the peers\': medians of turns, and their spread.')
    parser.add_argument('--quick', action='store_true', help='two short turns each: does every row work?')
    parser.add_argument('--only', metavar='REGEX', default='', help='the cells whose GROUP/NAME has it')
    parser.add_argument('--output', metavar='DIR', type=Path, help='table.txt, table.json and a plot of each group, in there')
    parser.add_argument('--other', metavar='BUILD', type=Path, help='another build in the place of the second name of ours')
    parser.add_argument('--list', action='store_true', help='the names of the cells')
    return parser.parse_args()


def measure_all(cells, plan):
    """What each cell gave, told as soon as it is there."""
    results, full = [], 0
    for cell in cells:
        begun = time.monotonic()
        found = measure(cell, plan)
        full += full_seconds(cell, found) if plan.quick else time.monotonic() - begun
        results.append((cell, found))
        for row in rows(cell, found.turns, found.missing):
            print(output.line(row), flush=True)
        for name, why in found.missing.items():
            print(f'{cell.group}/{cell.name}: {name or "the cell"} is missing: {why}', flush=True)
        print(f'# {cell.group}/{cell.name}: {time.monotonic() - begun:.1f} s, load {found.load:.1f}', file=sys.stderr, flush=True)
    return results, full


def main():
    args = arguments()
    # whoever is told to end cleans up
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    cells = [cell for group in GROUPS for cell in group.cells() if re.search(args.only, f'{cell.group}/{cell.name}')]
    if args.list:
        print('\n'.join(f'{cell.group}/{cell.name}' for cell in cells))
        return 0
    lacks = need_packages()
    plan = Plan({OURS: env.BUILD, ITSELF: args.other or env.BUILD}, args.quick)
    begun = time.monotonic()
    results, full = measure_all(cells, plan)
    table = [row for cell, found in results for row in rows(cell, found.turns, found.missing)]
    about = output.About(time.monotonic() - begun, args.quick, full, lacks, args.other)
    print()
    print(output.text(table, margins(table), about))
    if args.output:
        output.write(args.output, table, margins(table), about)
    return int(any(found.failed for _, found in results))
