"""The turns: every contestant of a cell stands ready, and they take turns."""

import os
import sys
import time
from contextlib import ExitStack

from bulkhead_test import env
from bulkhead_test.report import Run

from .cells import ITSELF, OURS


class Measured:
    def __init__(self):
        self.turns = {}
        self.missing = {}
        self.failed = False
        self.load = 0.0
        self.opening = self.running = self.n_turns = 0


def _attempt(found, name, function):
    """What a contestant lacks, or fails at, costs its own figures alone."""
    try:
        return function()
    except env.Skip as reason:
        found.missing[name] = str(reason)
    except Exception as error:  # whatever a peer does: the table says it
        found.missing[name] = 'failed: ' + ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
        found.failed = True
        print(f'# {name}: {found.missing[name]}', file=sys.stderr, flush=True)
    return None


class Plan:
    def __init__(self, builds, quick):
        self.builds = builds
        self.quick = quick

    def build(self, name):
        return self.builds.get(name, self.builds[OURS])

    def generations(self, cell):
        return 1 if self.quick else cell.generations

    def rounds(self, cell):
        return min(2, cell.rounds) if self.quick else cell.rounds

    def seconds(self, cell):
        return cell.quick if self.quick else cell.seconds


def _generation(cell, plan, found):
    with ExitStack() as stack:
        begun = time.monotonic()
        ready = {}
        for name, opened in cell.contestants().items():
            def enter(name=name, opened=opened):
                current = stack.enter_context(Run('bench'))
                return stack.enter_context(opened(current, plan.build(name)))
            turn = _attempt(found, name, enter) if name not in found.missing else None
            if turn:
                ready[name] = turn
        found.opening += time.monotonic() - begun
        begun = time.monotonic()
        for _ in range(plan.rounds(cell)):
            for name, turn in ready.items():
                if name not in found.missing:
                    found.n_turns += 1
                    figures = _attempt(found, name, lambda turn=turn: turn(plan.seconds(cell)))
                    if figures:
                        found.turns.setdefault(name, []).append(figures)
        found.running += time.monotonic() - begun
        begun = time.monotonic()
    found.opening += time.monotonic() - begun


def measure(cell, plan):
    found = Measured()
    for _ in range(plan.generations(cell)):
        _attempt(found, '', lambda: _generation(cell, plan, found))
    found.load = os.getloadavg()[0]
    return found


def full_seconds(cell, found):
    """What the cell would take without --quick, from what it took with it. The opening of a contestant that is there once
    more is part of what was measured."""
    extra = found.n_turns and found.running / found.n_turns - cell.quick + cell.seconds
    names = [name for name in cell.contestants() if name not in found.missing or name == ITSELF]
    return found.opening * cell.generations + extra * len(names) * cell.rounds * cell.generations
