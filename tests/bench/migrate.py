#!/usr/bin/env python3
"""What a migration costs a guest's TCP: with Bulkhead on both hosts, and with QEMU's own TAP back-end, in turns.

    meson setup BUILD && ninja -C BUILD && BULKHEAD_BUILD=BUILD python3 tests/bench/migrate.py [--times N]

The gap is the longest time in which nothing passed at the TCP's end outside the guest, from the beginning of the
stream to its end; downtime and total time are QEMU's own. Needs root; downloads QEMU's versions once.
"""

import argparse
import itertools
import signal
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test.migration import journeys
from bulkhead_test.report import Run

CELLS = [(version, packed, direction) for version in ('backports', 'newest') for packed in ('off', 'on')
         for direction in ('to-guest', 'from-guest')]


def figures(values):
    values = sorted(values)
    return f'{statistics.median(values):8.0f} {values[-1]:8.0f}'


def row(version, packed, direction, name, found):
    ring = 'packed' if packed == 'on' else 'split'
    print(f'{version:10} {ring:7} {direction:11} {name:9}{figures([each.gap for each in found])}'
          f'{figures([each.downtime for each in found])}{figures([each.total for each in found])}'
          f'{statistics.median(each.rate for each in found):9.0f}{len(found):5}', flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--times', type=int, default=20)
    args = parser.parse_args()
    # whoever is told to end cleans up
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    columns = [f'{name} ms' if name else '' for name in ('gap', 'downtime', 'total')]
    print(f'{"":40}{columns[0]:>16}{columns[1]:>17}{columns[2]:>17}')
    print(f'{"QEMU":10} {"ring":7} {"stream":11} {"back-end":9}' + f'{"median":>8} {"worst":>8}' * 3 + f'{"Mbit/s":>9}{"n":>5}')
    for version, packed, direction in CELLS:
        with Run('migrate') as current:
            theirs, ours = zip(*itertools.islice(journeys(current, version, direction, packed=packed), args.times))
            row(version, packed, direction, 'TAP', theirs)
            row(version, packed, direction, 'Bulkhead', ours)


if __name__ == '__main__':
    main()
