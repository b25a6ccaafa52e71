#!/usr/bin/env python3
"""DPDK's virtio-user, a driver that polls and knows every ring layout: what one side counts, the other counts too."""

import operator
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.process import kill_and_wait
from bulkhead_test.report import case, main, wait_until
from bulkhead_test.testpmd import virtio_user

PACKETS = 50_000
FRAME_BYTES = 64
RING_SIZE = 256
BATCH = 64  # what a worker has in hand of one ring: a kill may lose or repeat as much
KILLS = 3


class Way:
    """A way through the driver: the options that lead to it, and the names by which it says that it took it."""

    def __init__(self, rx, tx, packed=False, need=None, **options):
        self.rx = rx
        self.tx = tx
        self.need = need
        self.options = {'packed': packed, 'mergeable': False, 'in_order': False, **options}


WAYS = {
    'split': Way('standard Rx', 'standard Tx'),
    'split-mergeable': Way('mergeable buffer Rx', 'standard Tx', mergeable=True),
    'split-in-order': Way('inorder Rx', 'inorder Tx', in_order=True),
    'split-in-order-mergeable': Way('inorder Rx', 'inorder Tx', in_order=True, mergeable=True),
    'split-vectorized': Way('vectorized Rx', 'standard Tx', vectorized=True),
    'packed': Way('packed ring standard Rx', 'packed ring standard Tx', packed=True),
    'packed-mergeable': Way('packed ring mergeable buffer Rx', 'packed ring standard Tx', packed=True,
                              mergeable=True),
    'packed-in-order': Way('packed ring standard Rx', 'packed ring standard Tx', packed=True, in_order=True),
    'packed-in-order-mergeable': Way('packed ring mergeable buffer Rx', 'packed ring standard Tx', packed=True,
                                       in_order=True, mergeable=True),
    'packed-vectorized': Way('packed ring vectorized Rx', 'packed ring vectorized Tx', packed=True, in_order=True,
                               vectorized=True, need='avx512f'),
}


# The others only change how the driver polls.
BASIC = ('split', 'split-mergeable', 'packed', 'packed-mergeable')


class Scene:
    """Bulkhead with one device, and testpmd on its socket; server: testpmd listens, Bulkhead connects."""

    def __init__(self, current, path, queues, server, backend, generate=None, **options):
        way = WAYS[path]
        if way.need and way.need not in Path('/proc/cpuinfo').read_text(encoding='ascii'):
            raise env.Skip(f'this processor has no {way.need}, which this path of the driver needs')
        self.case = current
        self.queues = queues
        self.device = Device(socket=str(current.dir / 'net0.sock'), backend=backend, queue_pairs=queues,
                             mode='client' if server else 'server', generate=generate)
        self.product = Bulkhead(current, [self.device])
        self.base = {0: {}, 1: {}}
        self.testpmd = virtio_user(current, self.device.socket, queues=queues, server=server,
                                   **{**way.options, **options})
        for name in (way.rx, way.tx):
            assert f'using {name} path' in self.testpmd.process.output(), f'testpmd does not take its {name} path'
        # testpmd does not wait for it, and what it sends through a ring that is not enabled yet is dropped, as it is to be
        wait_until(self.all_run, 'every ring runs, and is enabled')

    def all_run(self):
        device = self.product.device()
        rings = device['rings'][:2 * self.queues]
        return device['applied'] == device['generation'] and len(rings) == 2 * self.queues and all(
            ring['running'] and ring['enabled'] for ring in rings)

    def rings(self, odd):
        """Counters of all receive (0) or transmit (1) rings together, as Bulkhead has them; each has had its part."""
        device = self.product.device()
        assert not device['error'], device['error']
        total = dict.fromkeys(('chains', 'bytes', 'dropped', 'errors'), 0)
        for ring in device['rings']:
            if ring['index'] % 2 != odd or ring['index'] >= 2 * self.queues:
                continue
            assert not ring['error'], f'ring {ring["index"]}: {ring["error"]}'
            assert ring['counters']['chains'], f'ring {ring["index"]} was not used'
            for key in total:
                total[key] += ring['counters'][key]
        return total

    def forward(self, mode, tx_first=None):
        self.testpmd.ask(f'set fwd {mode}')
        self.testpmd.start(tx_first)

    def stop(self):
        self.testpmd.stop_forwarding()

    def check(self, odd, chains_of_frame=1, new_base=False):
        """Both sides come to count the same frames and bytes, and none was lost. Returns the frames."""
        key = 'TX' if odd else 'RX'
        base = {} if new_base else self.base[odd]

        def pair():
            theirs = self.testpmd.stats()
            ours = self.rings(odd)
            return ({key: ours[key] - base.get(key, 0) for key in ours},
                    {'chains': theirs[f'{key}-packets'] * chains_of_frame,
                     'bytes': theirs[f'{key}-bytes'], 'dropped': 0, 'errors': 0})
        if new_base:
            ours, theirs = pair()
            self.base[odd] = {key: ours[key] - theirs[key] for key in ours}
            return 0
        try:
            wait_until(lambda: operator.eq(*pair()), 'equal counts', 5)
        except AssertionError:
            ours, theirs = pair()
            raise AssertionError(f'{key}: we count {ours}, testpmd {theirs}') from None
        return pair()[1]['chains'] // chains_of_frame

    def end_generator(self):
        """Nothing is generated any more, and all that was arrives."""
        self.product.process.send_signal(signal.SIGSTOP)  # nobody starts the worker again
        kill_and_wait(self.product.pid_of('net'), signal.SIGTERM)
        settled(lambda: self.testpmd.stats()['RX-packets'])

    def begin_generator(self):
        self.product.process.send_signal(signal.SIGCONT)


def settled(value):
    """A count that no longer grows, with nobody left to make it grow."""
    last = [None, 0]

    def still():
        now = value()
        last[:] = (now, last[1] + 1 if now == last[0] else 0)
        return last[1] >= 5
    wait_until(still, 'the count stands still', 10, 0.02)
    return last[0]


# uses: net:RING_PACKED net:IN_ORDER net:MRG_RXBUF protocol:STATUS
def null(scene):
    """The generator fills the ring as fast as testpmd empties it; what testpmd sends is dropped.

    A starting port throws away what it finds in its rings, and counts nothing of it: the frames are compared
    from a first standstill on.
    """
    scene.case.defer(scene.begin_generator)
    scene.forward('rxonly')
    scene.end_generator()
    scene.check(0, new_base=True)
    scene.begin_generator()
    scene.stop()
    for mode, key in (('txonly', 'TX-packets'), ('rxonly', 'RX-packets'), ('io', 'TX-packets')):
        scene.forward(mode)
        scene.testpmd.wait_packets(key, scene.testpmd.stats()[key] + PACKETS)
        scene.stop()
        sent = scene.check(1)
    scene.forward('rxonly')
    scene.end_generator()
    return sent + scene.check(0)


def drain(scene, **check):
    """Nothing is sent any more, and all that is under way comes back."""
    scene.stop()
    scene.forward('rxonly')
    sent, received = scene.check(1), scene.check(0, **check)
    scene.stop()
    assert sent == received, f'{sent} frames were sent, {received} came back'
    return sent


def echo(scene):
    """First nobody takes what comes back: the transmit ring must wait, lose nothing, and go on when there is room."""
    for i in range(2):
        scene.forward('txonly')
        scene.testpmd.wait_packets('TX-packets', (i + 1) * RING_SIZE * 3 // 2 * scene.queues)
        n = drain(scene)
    scene.forward('io', tx_first=4)
    scene.testpmd.wait_packets('RX-packets', n + PACKETS)
    return drain(scene)


def long_frames(scene):
    """Frames of three pieces each way out, and of two receive buffers each way back."""
    scene.testpmd.ask('set txpkts 1000,1000,1000')
    for _ in range(8):
        scene.forward('txonly')
        scene.testpmd.wait_packets('TX-packets', RING_SIZE // 4)
        n = drain(scene, chains_of_frame=2)
    assert scene.testpmd.stats()['RX-bytes'] == 3000 * n
    return n


def worker_kill(scene):
    """Frames circulate; of what the worker has in hand, a turn may be lost and a turn may be repeated."""
    scene.testpmd.start(tx_first=4)
    for _ in range(KILLS):
        seen = scene.testpmd.stats()['RX-packets']
        scene.testpmd.wait_packets('RX-packets', seen + PACKETS)
        scene.product.kill('net')
    seen = scene.testpmd.stats()['RX-packets']
    scene.testpmd.wait_packets('RX-packets', seen + PACKETS)
    scene.stop()
    scene.forward('rxonly')
    received = settled(lambda: scene.testpmd.stats()['RX-packets'])
    sent = scene.testpmd.stats()['TX-packets']
    assert abs(sent - received) <= KILLS * BATCH * scene.queues, f'{sent} frames were sent, {received} came back'
    # And nothing is stuck: from here on, no frame is lost.
    scene.stop()
    ours, before = scene.rings(1)['chains'], scene.testpmd.stats()
    scene.forward('io', tx_first=4)
    scene.testpmd.wait_packets('RX-packets', received + PACKETS)
    scene.stop()
    scene.forward('rxonly')
    settled(lambda: scene.testpmd.stats()['RX-packets'])
    after = scene.testpmd.stats()
    grown = {key: after[f'{key}-packets'] - before[f'{key}-packets'] for key in ('TX', 'RX')}
    ours = scene.rings(1)['chains'] - ours
    assert grown['TX'] == grown['RX'] == ours, f'{grown}, we count {ours}'
    processes = scene.product.status()['guests'][0]['processes']
    restarts = {entry['role']: entry['restarts'] for entry in processes}
    assert restarts == {**dict.fromkeys(restarts, 0), 'net': KILLS}, f'restarts: {restarts}'
    return sent


def row(function, path, queues=1, server=False, ordinary=True, **options):
    """One testpmd, one Bulkhead. Where nothing else is said, frames of the smallest size come back."""
    name = '-'.join(['testpmd', path, function.__name__.replace('_', '-')] +
                    ([f'{queues}-pairs'] if queues > 1 else []) + (['server'] if server else []))
    kind = {'backend': 'null', 'generate': FRAME_BYTES} if function is null else {'backend': 'echo'}

    @case(name, 60, ordinary)
    def run(current):
        scene = Scene(current, path, queues, server, **kind, **options)
        current.note(f'{function(scene)} frames')


for way_name in WAYS:
    if way_name not in BASIC:
        row(null, way_name, 2)
        row(echo, way_name, server=True)
        continue
    for n_queues in (1, 2):
        for is_server in (False, True):
            row(null, way_name, n_queues, is_server, (n_queues == 1) == is_server)
            row(echo, way_name, n_queues, is_server, (n_queues == 2) == is_server)
for way_name in ('split-mergeable', 'packed-mergeable'):
    row(long_frames, way_name, options=('--max-pkt-len=4000', '--enable-scatter'))
    row(worker_kill, way_name, 2)


if __name__ == '__main__':
    main()
