"""From turns to a table: medians, spreads, ratios, and how large a difference must be to count."""

import statistics
from dataclasses import dataclass

from .cells import ITSELF, OURS

LEAST_NOISE = 0.02  # that two runs agreed by chance makes nothing certain


@dataclass
class Middle:
    median: float
    low: float
    high: float
    n: int


def middle(values):
    return Middle(statistics.median(values), min(values), max(values), len(values)) if values else None


def distance(ratio):
    """How far from 1, the same for twice and half: 0.5 for 1.5 and for 1 / 1.5."""
    return max(ratio, 1 / ratio) - 1


def noise(ratios):
    """How large a difference must be to count: the largest that one program had to itself, of all that were run twice."""
    return max([LEAST_NOISE, *(distance(ratio) for ratio in ratios if ratio)])


def verdict(ratio, goal, margin):
    """What a ratio says. A goal is missed only by more than the noise."""
    if ratio is None:
        return 'not comparable'
    words = 'equal' if distance(ratio) <= margin else 'ahead' if ratio > 1 else 'behind'
    if goal is None:
        return words
    return f'{words}, goal {goal:g} ' + ('met' if ratio >= goal else 'within noise' if ratio * (1 + margin) >= goal else 'missed')


@dataclass
class Row:
    """One figure of one cell."""

    cell: object
    figure: object
    middles: dict  # {contestant: Middle}
    missing: dict  # {contestant: why}

    def ratio(self, peer):
        if not self.middles.get(OURS) or not self.middles.get(peer):
            return None
        return self.figure.ratio(self.middles[OURS].median, self.middles[peer].median)

    def peers(self):
        return [name for name in self.cell.contestants() if name not in (OURS, ITSELF)]


def rows(cell, turns, missing):
    """turns: {contestant: [{figure: value}]}."""
    for figure in cell.figures:
        values = {name: [turn[figure.name] for turn in found if turn.get(figure.name) is not None]
                  for name, found in turns.items()}
        yield Row(cell, figure, {name: middle(found) for name, found in values.items()}, missing)


def margins(table):
    """{(group, figure): how large a difference must be to count}."""
    found = {}
    for row in table:
        found.setdefault((row.cell.group, row.figure.name), []).append(row.ratio(ITSELF))
    return {key: noise(ratios) for key, ratios in found.items()}
