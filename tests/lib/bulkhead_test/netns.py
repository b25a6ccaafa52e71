"""Network namespaces with TAP devices; the machine's own network stays untouched."""

import ctypes
import fcntl
import itertools
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

from . import env
from .process import Process

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454ca
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE = 0x0002, 0x1000, 0x4000, 0x0100

_numbers = itertools.count()


class Netns:
    def __init__(self, case):
        env.need_netns()
        self.case = case
        self.name = f'bh-{os.getpid()}-{next(_numbers)}'
        self._host('netns', 'add', self.name)
        case.defer(self.remove)
        self.ip('link', 'set', 'lo', 'up')

    @staticmethod
    def _host(*args):
        subprocess.run(['ip', *args], check=True, capture_output=True, text=True)

    def remove(self):
        subprocess.run(['ip', 'netns', 'del', self.name], check=False, capture_output=True)

    def argv(self, *args):
        return ['ip', 'netns', 'exec', self.name, *args]

    def place(self):
        """The file that stands for it."""
        return f'/run/netns/{self.name}'

    def run(self, *args, check=True, limit=60):
        done = subprocess.run(self.argv(*map(str, args)), capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL, timeout=limit * env.TIME_FACTOR)
        if check and done.returncode != 0:
            raise AssertionError(f'{" ".join(map(str, args))}: status {done.returncode}: '
                                 f'{done.stdout}{done.stderr}')
        return done

    def spawn(self, name, argv, **options):
        return Process(self.case, name, self.argv(*map(str, argv)), **options)

    def inside(self, function):
        """What function returns in here. A thread has a network namespace of its own, if it wants."""
        found = []

        def enter():
            with open(self.place(), 'rb') as there:
                if ctypes.CDLL(None, use_errno=True).setns(there.fileno(), CLONE_NEWNET) == 0:
                    found.append(function())
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if not found:
            raise AssertionError(f'not done in {self.place()}')
        return found[0]

    def open_tap(self, name, queues=1):
        """Descriptors of its queues; the caller's."""
        def open_all():
            fds = [os.open('/dev/net/tun', os.O_RDWR) for _ in range(queues)]
            for fd in fds:
                flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (IFF_MULTI_QUEUE if queues > 1 else 0)
                fcntl.ioctl(fd, TUNSETIFF, struct.pack('16sH22x', name.encode(), flags))
            return fds
        return self.inside(open_all)

    def ip(self, *args, check=True):
        return self.run('ip', *args, check=check)

    def add_tap(self, name='tap0', addresses=('10.77.0.1/24', 'fd77::1/64'), queue_pairs=1, mtu=None,
                user=None):
        options = ['mode', 'tap', 'vnet_hdr'] + (['multi_queue'] if queue_pairs > 1 else [])
        if user is not None:
            options += ['user', user]
        self.ip('tuntap', 'add', 'dev', name, *options)
        self.set_up(name, addresses, mtu)
        return name

    def set_up(self, name, addresses=('10.77.0.1/24', 'fd77::1/64'), mtu=None):
        """Addresses without duplicate address detection, which would hold IPv6 up for seconds."""
        for address in addresses:
            self.ip('address', 'add', address, 'dev', name, *(['nodad'] if ':' in address else []))
        if mtu:
            self.ip('link', 'set', name, 'mtu', mtu)
        self.ip('link', 'set', name, 'up')

    def counters(self, name):
        """The TAP's own count: rx is what the guest sent, tx is what the guest was given."""
        base = f'/sys/class/net/{name}/statistics/'
        names = ['rx_packets', 'rx_bytes', 'rx_dropped', 'rx_errors',
                 'tx_packets', 'tx_bytes', 'tx_dropped', 'tx_errors']
        values = self.run('cat', *[base + entry for entry in names]).stdout.split()
        return dict(zip(names, map(int, values)))


class Echoes:
    """Echo requests from a network namespace to a guest, every 10 ms until end(); see echoes.py."""

    def __init__(self, netns, address):
        program = Path(__file__).with_name('echoes.py')
        # pylint: disable-next=consider-using-with
        self.process = subprocess.Popen(netns.argv(sys.executable, program, address), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        netns.case.defer(self.process.kill)

    def end(self):
        """How many there were; all of them were answered, each once."""
        out, _ = self.process.communicate(timeout=90)
        sent, answered, twice = map(int, out.split())
        assert sent == answered and twice == 0, f'of {sent} frames {sent - answered} were lost, and {twice} came twice'
        return sent
