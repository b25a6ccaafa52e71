"""Verified TCP transfers between the namespace and the guest (tests/system/guest/tcpsum.c)."""

import itertools
import signal

from . import env
from .report import wait_until

_ports = itertools.count(5001)

MIB = 1 << 20


class Transfer:
    """One stream, every byte of it checked by the receiver and the digest by the sender.

    The namespace's end listens; direction is 'from-guest' or 'to-guest'. One of 0 bytes goes on until end().
    """

    def __init__(self, netns, guest, direction, n_bytes, address='10.77.0.1', idle=30, prefix=''):
        self.n_bytes = n_bytes
        self.guest = guest
        self.direction = direction
        self.gap = None
        port = next(_ports)
        tool = env.prepare('guest') / 'tcpsum'
        ours, theirs = ('recv', 'send') if direction == 'from-guest' else ('send', 'recv')
        tail = [str(n_bytes), f'seed={port}', f'idle={int(idle * env.TIME_FACTOR)}']
        self.host = netns.spawn(f'tcpsum-{port}', [tool, ours, 'listen', address, str(port), *tail, 'progress'])
        self.host.wait_output('listening')
        self.pid_file = f'/tmp/tcpsum-{port}'
        self.job = guest.start(f'echo $$ > {self.pid_file}; exec {prefix} tcpsum {theirs} connect {address} {port} '
                               f'{" ".join(tail)}')

    def progress(self):
        """Bytes that have passed, in steps of 8 MiB."""
        lines = [line for line in self.host.output().splitlines() if line.startswith('progress')]
        return int(lines[-1].split()[1]) if lines else 0

    def finished(self):
        return not self.host.running()

    def wait_progress(self, n_bytes, limit=60):
        wait_until(lambda: self.progress() >= n_bytes or self.finished(),
                   f'{n_bytes} bytes have passed {self.direction}', limit)
        if self.finished() and self.progress() < n_bytes:
            raise AssertionError(f'the transfer {self.direction} ended early: {self.host.output()[-300:]}')

    def abort(self):
        """The guest's end is gone, with its guest: ends ours, and leaves nothing that would be sent again and again."""
        self.host.stop(signal.SIGKILL)

    def end(self, limit=60):
        """Tells the sender to come to an end; then as wait()."""
        if self.direction == 'to-guest':
            self.host.send_signal(signal.SIGTERM)
        else:
            self.guest.run(f'kill $(cat {self.pid_file})')
        return self.wait(limit)

    def wait(self, limit=120):
        """Mbit/s as the receiver measured it. Both ends must agree on every byte. Sets gap, the longest time in s in
        which nothing passed at the namespace's end: the guest's clock stands while the guest does."""
        status, output = self.job.wait(limit, check=False)
        host_status = self.host.wait(limit)
        host_output = self.host.output()
        if status != 0 or host_status != 0:
            raise AssertionError(f'transfer {self.direction}: guest {status}: {output.strip()}; '
                                 f'host {host_status}: {host_output.strip()[-300:]}')
        ours, theirs = _parse(host_output), _parse(output)
        n_bytes = self.n_bytes // 8 * 8 or int(theirs['bytes'])
        if ours['digest'] != theirs['digest'] or int(ours['bytes']) != n_bytes:
            raise AssertionError(f'transfer {self.direction}: {ours} and {theirs} do not agree')
        self.gap = float(ours['gap'])
        return float((ours if self.direction == 'from-guest' else theirs)['mbit'])


def _parse(output):
    line = [line for line in output.splitlines() if line.startswith('tcpsum ')][-1]
    return dict(word.split('=', 1) for word in line.split()[2:])


def both_ways(case, netns, guest, n_bytes=200 * MIB, address='10.77.0.1', limit=120):
    for direction in ('from-guest', 'to-guest'):
        rate = Transfer(netns, guest, direction, n_bytes, address).wait(limit)
        case.note(f'{direction} {rate:.0f} Mbit/s')
