#!/usr/bin/env python3
"""What the table makes of turns."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / 'lib')]

from bulkhead_test.report import case, main
from table import output, plot
from table.cells import Cell, Figure
from table.figures import LEAST_NOISE, distance, margins, noise, rows, verdict

RATE = Figure('rate', 'Mpps', 'higher', {'peer': 1.0})
DELAY = Figure('delay', 'us', 'lower', {'peer': 1.0}, limit=5)


def table(ours, itself, peer, figure=RATE, missing=None):
    turns = {name: [{figure.name: value} for value in values]
             for name, values in (('ours', ours), ('itself', itself), ('peer', peer)) if values}
    cell = Cell('group', 'cell', [figure], {'ours': None, 'peer': None})
    return list(rows(cell, turns, missing or {}))


@case('median-and-spread')
def median_and_spread(_):
    (row,) = table([3, 1, 2, 10], [2], [1])
    ours = row.middles['ours']
    assert (ours.median, ours.low, ours.high, ours.n) == (2.5, 1, 10, 4), ours


@case('above-one-is-better-whatever-is-counted')
def better(_):
    assert table([4], [4], [2])[0].ratio('peer') == 2
    assert table([4], [4], [2], DELAY)[0].ratio('peer') == 0.5


@case('nothing-is-compared-with-nothing')
def nothing(_):
    (row,) = table([4], [4], [], missing={'peer': 'not here'})
    assert row.ratio('peer') is None
    assert RATE.ratio(1, 0) is None
    told = output.text([row], margins([row]), output.About(1, False, 0))
    assert 'group/cell: peer: not here' in told, told
    assert plot.ratios('group', [row], margins([row])) is None


@case('noise-is-the-largest-difference-from-itself')
def largest(_):
    assert abs(noise([1.1, 0.8, None]) - 0.25) < 1e-9
    assert noise([]) == noise([1.0]) == LEAST_NOISE
    assert abs(distance(0.5) - distance(2)) < 1e-9
    both = table([10], [8], [5]) + table([10], [10], [5])
    assert abs(margins(both)['group', 'rate'] - 0.25) < 1e-9


@case('less-than-the-noise-does-not-count')
def counts(_):
    assert verdict(1.2, 1.0, 0.25) == 'equal, goal 1 met'
    assert verdict(0.9, 1.0, 0.25) == 'equal, goal 1 within noise'
    assert verdict(0.7, 1.0, 0.25) == 'behind, goal 1 missed'
    assert verdict(1.3, 1.5, 0.25) == 'ahead, goal 1.5 within noise'
    assert verdict(1.3, None, 0.25) == 'ahead'


@case('limits-are-judged-and-plots-drawn')
def limits(_):
    (row,) = table([6, 7], [6], [7], DELAY)
    assert ('', None, 'limit 5 passed') in list(output.judged(row, 0.1))
    picture = plot.ratios('group', [row], margins([row]))
    assert picture.count('<rect') == 2 and '#b03030' in picture, picture


main()
