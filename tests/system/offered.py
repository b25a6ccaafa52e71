#!/usr/bin/env python3
"""What a VMM is offered is what tests/data/offered-bits.txt lists, so that tests/OFFERED.md misses nothing."""

import socket
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.netns import Netns
from bulkhead_test.report import case, main
from bulkhead_test.vmm import connect

GET_FEATURES, SET_FEATURES, GET_PROTOCOL_FEATURES = 1, 2, 15
PROTOCOL_FEATURES = 1 << 30


def listed():
    """{where: {number: name}}"""
    found = {}
    for line in (env.SOURCE / 'tests/data/offered-bits.txt').read_text(encoding='ascii').splitlines():
        if line and not line.startswith('#'):
            kind, number, name, _ = line.split(None, 3)
            found.setdefault(kind, {})[int(number)] = name
    return found


def numbers(word):
    return {bit for bit in range(64) if word >> bit & 1}


def offered(device):
    """Numbers of the features and of the protocol features."""
    with connect(device.socket) as line:
        def ask(request):
            line.sendall(struct.pack('III', request, 1, 0))
            return struct.unpack('Q', line.recv(20, socket.MSG_WAITALL)[12:])[0]
        features = ask(GET_FEATURES)
        line.sendall(struct.pack('=IIIQ', SET_FEATURES, 1, 8, PROTOCOL_FEATURES))
        return numbers(features), numbers(ask(GET_PROTOCOL_FEATURES))


def device(current, name, kind, **options):
    return Device(name, str(current.dir / f'{name}.sock'), kind=kind, **options)


def compare(what, found, wanted):
    assert found == wanted, (f'{what}: offered, and not in tests/data/offered-bits.txt: {sorted(found - wanted)}; '
                             f'there, and not offered: {sorted(wanted - found)}')


@case('offered-is-listed', 60)
def is_listed(current):
    devices = [device(current, 'net0', 'net', backend='echo', queue_pairs=2, mtu=1500),
               device(current, 'wl0', 'wl', backend=None, members={'wayland': '/nowhere/wayland-0'}),
               device(current, 'null0', 'null', backend=None)]
    Bulkhead(current, devices)
    found = {entry.kind: offered(entry) for entry in devices}
    assert set(found) == set(env.DEVICE_TYPES), 'a type of device has no entry here'
    for kind, (features, _) in found.items():
        compare(kind, features, set(listed()[kind]))
    compare('protocol', set.union(*(protocol for _, protocol in found.values())), set(listed()['protocol']))


@case('offered-by-tap-is-listed', 60)
def tap_is_listed(current):
    """Some of it depends on the kernel."""
    netns = Netns(current)
    netns.add_tap('tap0', queue_pairs=2)
    entry = device(current, 'net0', 'net', queue_pairs=2, mtu=1500)
    Bulkhead(current, [entry], netns)
    features, protocol = offered(entry)
    more = (features - set(listed()['net'])) | (protocol - set(listed()['protocol']))
    assert not more, f'offered, and not in tests/data/offered-bits.txt: {sorted(more)}'


if __name__ == '__main__':
    main()
