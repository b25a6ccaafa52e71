#!/usr/bin/env python3
"""The ring engine beside DPDK's: virtio-user drives both on one CPU, each back-end serves on the other.

    BULKHEAD_BUILD=BUILD python3 tests/bench/dpdk.py [--other BUILD] [--rounds N] [--seconds S] [CELL ...]

Ours, another build of ours, and DPDK's vhost take turns; a cell's rate is the median of its turns, as the driver counts
it. Without --other the other build is the same one, so that its ratio says how large a difference must be to count.
"""

import argparse
import os
import statistics
import time
from contextlib import contextmanager
from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.report import Run, wait_until
from bulkhead_test.testpmd import Testpmd, virtio_user

DRIVER_CPU = 0  # of virtio_user(); a stand-in forwards on the other one
DEVICE_CPU = 1
NICE = -20
RING_SIZE = 256

LAYOUTS = {
    'split': {'packed': False, 'mergeable': False},
    'split-mergeable': {'packed': False, 'mergeable': True},
    'packed': {'packed': True, 'mergeable': False},
    'packed-mergeable': {'packed': True, 'mergeable': True},
}


class Work:
    """What the driver does, what it counts, and which back-end of ours does what which mode of testpmd does."""

    def __init__(self, forward, counts, peer, backend, **members):
        self.forward = forward
        self.counts = counts
        self.peer = peer
        self.backend = backend
        self.members = members


WORKS = {
    'send': Work('txonly', 'TX-packets', 'rxonly', 'null'),
    'copied': Work('txonly', 'TX-packets', 'rxonly', 'null', copy='yes'),
    'receive': Work('rxonly', 'RX-packets', 'txonly', 'null', generate=True),
    'turn': Work('io', 'RX-packets', 'macswap', 'echo'),
}

SIZES = (64, 1518)


def bind(pid, cpu):
    """All threads of a process on one CPU, before others. The kernel shares a CPU among sessions first."""
    group = Path(f'/proc/{pid}/autogroup')
    if group.exists():
        group.write_text(str(NICE), encoding='ascii')
    for task in Path(f'/proc/{pid}/task').iterdir():
        os.sched_setaffinity(int(task.name), {cpu})
        os.setpriority(os.PRIO_PROCESS, int(task.name), NICE)


@contextmanager
def ours(case, work, size, build):
    """A device of this build; the path of its socket."""
    members = dict(work.members)
    if members.pop('generate', None):
        members['generate'] = size
    device = Device(socket=str(case.dir / 'net0.sock'), backend=work.backend, members=members)
    env.BUILD = build
    product = Bulkhead(case, [device])
    bind(product.pid_of('net'), DEVICE_CPU)
    yield device.socket
    product.stop()


@contextmanager
def theirs(case, work, size, _):
    """A vhost port of testpmd; the path of its socket."""
    socket = case.dir / 'net0.sock'
    peer = Testpmd(case, 'peer', [f'net_vhost0,iface={socket},queues=1'], work.peer, main_lcore=DRIVER_CPU)
    peer.ask(f'set txpkts {size}')
    peer.start()
    bind(peer.pid, DEVICE_CPU)
    yield socket
    peer.kill()


def rate(case, work, size, layout, seconds, served):
    """Frames a second, in millions."""
    with served(case) as socket:
        driver = virtio_user(case, socket, forward=work.forward, queue_size=RING_SIZE, **LAYOUTS[layout])
        bind(driver.pid, DRIVER_CPU)
        wait_until(driver.link_up, 'the link is up', 20)
        driver.ask(f'set txpkts {size}')
        driver.start(8 if work.forward == 'io' else None)
        time.sleep(0.3)
        before, since = driver.stats()[work.counts], time.monotonic()
        time.sleep(seconds)
        after, until = driver.stats()[work.counts], time.monotonic()
        driver.kill()
    return (after - before) / (until - since) / 1e6


def turn(name, work, size, layout, seconds, build):
    with Run('dpdk') as case:
        served = theirs if name == 'dpdk' else ours
        return rate(case, work, size, layout, seconds, lambda case: served(case, work, size, build))


def measure(cell, builds, rounds, seconds):
    work, size, layout = cell
    rates = {name: [] for name in builds}
    for _ in range(rounds):
        for name, build in builds.items():
            rates[name].append(turn(name, WORKS[work], size, layout, seconds, build))
    return rates


def show(cell, rates):
    middle = {name: statistics.median(values) for name, values in rates.items()}
    spread = '; '.join(f'{name} {middle[name]:.2f} [{min(values):.2f}..{max(values):.2f}]'
                       for name, values in rates.items())
    ratios = ', '.join(f'{middle["ours"] / middle[name]:.2f} of {name}' for name in rates if name != 'ours')
    work, size, layout = cell
    load = os.getloadavg()[0]
    print(f'{work:8} {size:4} {layout:16} {ratios:28} Mpps: {spread} (load {load:.1f})', flush=True)


def cells(wanted):
    """Those that begin with a wanted name, as in turn-64-split."""
    for work in WORKS:
        for size in SIZES:
            for layout in LAYOUTS:
                name = f'{work}-{size}-{layout}'
                if not wanted or any(name.startswith(prefix) for prefix in wanted):
                    yield work, size, layout


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--other', type=Path, help='another build tree')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=float, default=1)
    parser.add_argument('cells', nargs='*', help='beginnings of WORK-SIZE-LAYOUT')
    args = parser.parse_args()
    builds = {'ours': env.BUILD, 'other' if args.other else 'itself': args.other or env.BUILD, 'dpdk': None}
    for cell in cells(args.cells):
        show(cell, measure(cell, builds, args.rounds, args.seconds))


if __name__ == '__main__':
    main()
