"""DPDK's testpmd: a second, independent front-end (virtio-user), and a back-end to try the harness on."""

import itertools
import re
import signal

from . import env
from .process import Process
from .report import wait_until

_prefixes = itertools.count()

MBUFS = 16384
MEMORY_MB = 128  # for the buffers and DPDK itself; each page of it is touched at the start
ANSWER_S = 0.002  # of a prompt; most of a test's time goes into asking


class Testpmd:
    """One testpmd, driven by its prompt. Its main lcore only waits for us; the other one forwards.

    stdbuf because the output is block buffered into a file; stdin stays open because testpmd ends with it.
    """

    def __init__(self, case, name, vdevs, forward='io', queues=1, main_lcore=1, netns=None, ring_size=256,
                 ports_options=()):
        argv = ['stdbuf', '-oL', env.need_tool('dpdk-testpmd', 'dpdk-dev'), '-l', '0-1',
                f'--main-lcore={main_lcore}', '--no-huge', '-m', str(MEMORY_MB), '--no-pci', '--no-telemetry',
                f'--file-prefix=bh{env.os.getpid()}-{next(_prefixes)}', '--log-level=lib.eal:error',
                '--log-level=pmd.net.virtio.init:info', '--force-max-simd-bitwidth=512']
        for vdev in vdevs:
            argv += ['--vdev', vdev]
        argv += ['--', '-i', '--no-numa', f'--total-num-mbufs={MBUFS}', '--nb-cores=1',
                 f'--rxq={queues}', f'--txq={queues}', f'--rxd={ring_size}', f'--txd={ring_size}',
                 f'--forward-mode={forward}', *ports_options]
        self.name = name
        # a socket that it makes must let our frontend in, which is a user of its own
        argv = ['sh', '-c', 'umask 0; exec "$@"', 'sh', *argv]
        self.process = Process(case, name, (netns.argv(*argv) if netns else argv), stdin=True)
        self.pid = self.process.pid
        self.process.wait_output('testpmd>', 30)

    def say(self, text):
        self.process.child.stdin.write(text.encode() + b'\n')
        self.process.child.stdin.flush()

    def ask(self, text, limit=10):
        """What testpmd prints between this command and the one after it."""
        before = len(self.process.output())
        self.say(text)
        # An unknown word is answered at once, and that answer ends the one before it.
        self.say('bulkhead-marker')
        wait_until(lambda: 'bulkhead-marker' in self.process.output()[before:].replace('testpmd> bulkhead-marker', '', 1)
                   or 'Command not found' in self.process.output()[before:] or not self.process.running(),
                   f'{self.name} answers {text!r}', limit, ANSWER_S)
        return self.process.output()[before:]

    def start(self, tx_first=None):
        self.ask('start' if tx_first is None else f'start tx_first {tx_first}')

    def stop_forwarding(self):
        return self.ask('stop')

    def stats(self, port=0):
        """Counters of one port since start."""
        output = self.ask(f'show port stats {port}')
        found = dict(re.findall(r'((?:RX|TX)-(?:packets|bytes|errors|missed|nombuf)):\s+(\d+)', output))
        if 'RX-packets' not in found:
            raise AssertionError(f'{self.name}: no stats of port {port} in {output!r}')
        return {key: int(value) for key, value in found.items()}

    def link_up(self, port=0):
        return 'Link status: up' in self.ask(f'show port info {port}')

    def wait_packets(self, key, count, port=0, limit=20):
        wait_until(lambda: self.stats(port)[key] >= count, f'{self.name}: {key} reaches {count}', limit)

    def quit(self, limit=20):
        if self.process.running():
            try:
                self.say('quit')
            except BrokenPipeError:
                pass
        status = self.process.wait(limit)
        if status != 0:
            raise AssertionError(f'{self.name}: testpmd ended with status {status}')

    def kill(self):
        self.process.stop(signal.SIGKILL)


def virtio_user(case, sock, name='testpmd', forward='io', queues=1, packed=False, mergeable=True, in_order=False,
                vectorized=False, server=False, queue_size=256, mac='52:54:00:00:00:01', options=()):
    """A front-end on a vhost-user socket; with server it listens and the back-end connects."""
    vdev = (f'net_virtio_user0,path={sock},queues={queues},queue_size={queue_size},mac={mac},'
            f'packed_vq={int(packed)},mrg_rxbuf={int(mergeable)},in_order={int(in_order)},'
            f'vectorized={int(vectorized)},server={int(server)}')
    return Testpmd(case, name, [vdev], forward, queues, ring_size=queue_size, ports_options=options)
