"""The ring engine beside DPDK's: virtio-user drives both on one CPU, each back-end serves on the other."""

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.report import wait_until
from bulkhead_test.testpmd import Testpmd, virtio_user

from .cells import DEVICE_CPU, DRIVER_CPU, OURS, Cell, Figure, bind, built_by, cpu_ns, need_cpus

RING_SIZE = 256
SIZES = (64, 1518)
SETTLE_S = 0.05

LAYOUTS = {
    'split': {'packed': False, 'mergeable': False},
    'split-mergeable': {'packed': False, 'mergeable': True},
    'packed': {'packed': True, 'mergeable': False},
    'packed-mergeable': {'packed': True, 'mergeable': True},
}


@dataclass
class Work:
    """What the driver does, what it counts, and which back-end of ours does what which mode of testpmd does."""

    forward: str
    counts: str
    peer: str
    backend: str
    members: dict = field(default_factory=dict)


WORKS = {
    'transmit': Work('txonly', 'TX-packets', 'rxonly', 'null', {'copy': 'yes'}),
    'receive': Work('rxonly', 'RX-packets', 'txonly', 'null', {'generate': None}),
    'both': Work('io', 'RX-packets', 'macswap', 'echo'),
}


class Driver:
    """virtio-user on a CPU of its own. It stands still between turns, and so does the device, for want of work."""

    def __init__(self, case, socket, forward, size, burst=None, queues=1, queue_size=RING_SIZE, **layout):
        # what is still under way then goes on in the next turn; one frame in flight must stay one
        self.first = None if forward != 'io' else 1 if burst == 1 else 8
        self.testpmd = virtio_user(case, socket, forward=forward, queue_size=queue_size, queues=queues,
                                   options=() if burst == 1 else ('--no-flush-rx',), **layout)
        bind(self.testpmd.pid, DRIVER_CPU)
        wait_until(self.testpmd.link_up, 'the link is up', 20)
        self.testpmd.ask(f'set txpkts {size}')
        if burst:
            self.testpmd.ask(f'set burst {burst}')

    def count(self, key):
        return self.testpmd.stats()[key]

    def turn(self, seconds, pid, count):
        """A second's frames by count(), and what each costs the device, process pid, in CPU time."""
        self.testpmd.start(self.first)
        try:
            time.sleep(SETTLE_S)
            frames, cpu, begun = count(), cpu_ns(pid), time.monotonic()
            time.sleep(seconds)
            frames, cpu, took = count() - frames, cpu_ns(pid) - cpu, time.monotonic() - begun
        finally:
            self.testpmd.stop_forwarding()
        if frames <= 0:
            raise AssertionError('no frame passed')
        return frames / took, cpu / frames


@contextmanager
def ours(case, build, work=None, size=64, queues=1):
    """A device of this build: its socket, the worker, and nothing to be done before and after a turn."""
    members = {key: size if value is None else value for key, value in work.members.items()}
    device = Device(socket=str(case.dir / 'net0.sock'), backend=work.backend, members=members, queue_pairs=queues)
    with built_by(build):
        product = Bulkhead(case, [device])
    pid = product.pid_of('net')
    bind(pid, DEVICE_CPU)
    yield device.socket, pid, None


@contextmanager
def theirs(case, _, work=None, size=64, queues=1):
    """A vhost port of testpmd, which polls in its turns only."""
    socket = str(case.dir / 'net0.sock')
    peer = Testpmd(case, 'peer', [f'net_vhost0,iface={socket},queues={queues}'], work.peer, queues, main_lcore=DRIVER_CPU)
    peer.ask(f'set txpkts {size}')
    bind(peer.pid, DEVICE_CPU)
    yield socket, peer.pid, peer


@contextmanager
def line(case, build, served=None, work=None, size=64, queues=1, **layout):
    need_cpus()
    with served(case, build, work=work, size=size, queues=queues) as (socket, pid, peer):
        driver = Driver(case, socket, work.forward, size, queues=queues, **layout)

        def turn(seconds):
            if peer:
                peer.start()
            try:
                rate, cpu = driver.turn(seconds, pid, lambda: driver.count(work.counts))
            finally:
                if peer:
                    peer.stop_forwarding()
            return {'rate': rate / 1e6, 'cpu': cpu}
        yield turn


def cells():
    for name, work in WORKS.items():
        for size in SIZES:
            for layout, options in LAYOUTS.items():
                goal = 1.0 if options['packed'] else 1.3
                figures = [Figure('rate', 'Mpps', 'higher', {'DPDK vhost': goal}),
                           Figure('cpu', 'ns a frame', 'lower', {'DPDK vhost': 1.0})]
                given = {'work': work, 'size': size, **options}
                yield Cell('ring', f'{name}-{size}-{layout}', figures,
                           {OURS: partial(line, served=ours, **given), 'DPDK vhost': partial(line, served=theirs, **given)})
