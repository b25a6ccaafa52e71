"""A device that nobody uses: how often its processes wake up, and what they hold in memory; the first, and one more."""

import time
from contextlib import contextmanager
from pathlib import Path

from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.netns import Netns

from .cells import OURS, Cell, Figure, built_by

SETTLE_S = 3
MIB = 1 << 20


def wakes(pid):
    """How often the threads of a process have gone to sleep of their own will."""
    found = 0
    for task in Path(f'/proc/{pid}/task').iterdir():
        text = (task / 'status').read_text(encoding='utf-8', errors='replace')
        found += int(text.split('\nvoluntary_ctxt_switches:')[1].split()[0])
    return found


def pss_mib(pids):
    """Memory of processes, what several share being divided among them."""
    found = 0
    for pid in pids:
        text = Path(f'/proc/{pid}/smaps_rollup').read_text(encoding='ascii')
        found += int(text.split('\nPss:')[1].split()[0]) * 1024
    return found / MIB


def started(case, build, n_devices, folder, backend='tap'):
    """Bulkhead with so many devices, in a folder and a namespace of its own."""
    case.dir.joinpath(folder).mkdir(mode=0o755)
    netns = Netns(case)
    devices = []
    for number in range(n_devices):
        if backend == 'tap':
            netns.add_tap(f'tap{number}', addresses=())
        devices.append(Device(f'net{number}', str(case.dir / folder / f'net{number}.sock'), backend, f'tap{number}'))
    corner = Corner(case, folder)
    with built_by(build):
        return Bulkhead(corner, devices, netns)


class Corner:
    """A case with a folder below the case's own."""

    def __init__(self, case, folder):
        self.dir = case.dir / folder
        self.defer = case.defer

    def log_path(self, name):
        return self.dir / f'{name}.log'


def per_second(product, seconds):
    pids = product.pids()
    before, begun = {pid: wakes(pid) for pid in pids}, time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - begun
    return {pid: (wakes(pid) - before[pid]) / took for pid in pids}


@contextmanager
def idle(case, build):
    """One after the other: what two had in common would be divided among both."""
    def look(n_devices, seconds):
        product = started(case, build, n_devices, f'devices-{n_devices}')
        time.sleep(min(SETTLE_S, seconds))
        found = per_second(product, seconds).values(), pss_mib(product.pids())
        product.stop()
        return found

    def turn(seconds):
        first, first_mib = look(1, seconds)
        second, second_mib = look(2, seconds)
        return {'wake-ups': sum(first), 'of one process': max(first), 'memory': first_mib,
                'wake-ups of one more': sum(second) - sum(first), 'memory of one more': second_mib - first_mib}
    yield turn


def cells():
    figures = [Figure('wake-ups', 'a second', 'lower'), Figure('of one process', 'wake-ups a second', 'lower', limit=0.1),
               Figure('memory', 'MiB (PSS)', 'lower', limit=6), Figure('wake-ups of one more', 'a second', 'lower'),
               Figure('memory of one more', 'MiB (PSS)', 'lower', limit=3)]
    yield Cell('idle', 'without a VMM', figures, {OURS: idle}, seconds=20, generations=1, rounds=1, twice=False, quick=1)
