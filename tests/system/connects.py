#!/usr/bin/env python3
"""VMMs come and go; nothing of them stays behind: no descriptor, no memory."""

import os
import signal
import socket
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.env import SANITIZED
from bulkhead_test.process import fds
from bulkhead_test.report import case, main, wait_until
from bulkhead_test.vmm import Vmm

CONNECTS = 200
GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE = 1, 2, 3, 5
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL = 8, 9, 10, 12, 13
GET_VRING_BASE = 11
BASE = 0x7f0000000000


def send(line, request, payload=b'', fds=()):
    data = struct.pack('III', request, 1, len(payload)) + payload
    socket.send_fds(line, [data], list(fds))


def answer(line):
    data = line.recv(4096)
    assert len(data) >= 20, f'answer of {len(data)} bytes'
    return data[12:]


def session(path, memory, graceful):
    """A whole set-up of both rings, and an end of either kind."""
    kick, call = os.eventfd(0), os.eventfd(0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect(path)
        line.settimeout(10)
        send(line, GET_FEATURES)
        offered = struct.unpack('Q', answer(line))[0]
        assert offered >> 32 & 1, 'VERSION_1 is offered'
        send(line, SET_OWNER)
        send(line, SET_FEATURES, struct.pack('Q', 1 << 32))
        send(line, SET_MEM_TABLE, struct.pack('II4Q', 1, 0, 0, 1 << 20, BASE, 0), [memory])
        for ring in (0, 1):
            at = BASE + ring * 0x10000
            send(line, SET_VRING_NUM, struct.pack('II', ring, 256))
            send(line, SET_VRING_BASE, struct.pack('II', ring, 0))
            send(line, SET_VRING_ADDR, struct.pack('II4Q', ring, 0, at, at + 0x3000, at + 0x2000, 0))
            send(line, SET_VRING_CALL, struct.pack('Q', ring), [call])
            send(line, SET_VRING_KICK, struct.pack('Q', ring), [kick])
        for ring in (0, 1) if graceful else ():
            send(line, GET_VRING_BASE, struct.pack('II', ring, 0))
            assert struct.unpack('II', answer(line)) == (ring, 0)
        if not graceful:
            send(line, GET_FEATURES)
            answer(line)
    os.close(kick)
    os.close(call)


def held(pids):
    """Descriptors and resident KiB of each process."""
    found = {}
    for pid in pids:
        with open(f'/proc/{pid}/status', encoding='ascii') as status:
            rss = [int(line.split()[1]) for line in status if line.startswith('VmRSS')][0]
        found[pid] = (len(os.listdir(f'/proc/{pid}/fd')), rss)
    return found


@case('connects', 120)
def connects(current):
    device = Device(socket=str(current.dir / 'net0.sock'), backend='echo')
    product = Bulkhead(current, [device])
    memory = os.memfd_create('guest', os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, 1 << 20)

    def idle():
        found = product.device()
        return not found['vmm_connected'] and found['generation'] == found['applied']

    for i in range(20):
        session(device.socket, memory, i % 2)
    wait_until(idle, 'the last VMM is forgotten')
    before = held(product.pids())
    listed = {pid: sorted(fds(pid).items()) for pid in before}
    for i in range(CONNECTS):
        session(device.socket, memory, i % 2)
    wait_until(idle, 'the last VMM is forgotten')
    assert product.device()['vault_fds'] == 0, 'the vault holds descriptors of nobody'

    def more_than_before():
        after = held(product.pids())
        return {pid: sorted(fds(pid).items()) for pid, (n, _) in before.items() if after[pid][0] > n}

    # the connection of bulkheadctl is closed a moment after its end
    try:
        wait_until(lambda: not more_than_before(), 'no process holds more descriptors than before')
    except AssertionError as error:
        raise AssertionError(f'{error}: {more_than_before()}, before: {listed}') from error
    after = held(product.pids())
    for pid, (_, rss) in before.items():
        assert SANITIZED or after[pid][1] <= rss + 1024, f'process {pid}: {rss} KiB before, {after[pid][1]} after'
    current.note(f'{CONNECTS} connects')


@case('connects-for-nothing', 60)
def for_nothing(current):
    """Who came and went without a word while nobody was let in is no session, and keeps nobody waiting."""
    device = Device(socket=str(current.dir / 'net0.sock'), backend='echo')
    product = Bulkhead(current, [device])
    frontend = next(one['pid'] for one in product.status()['guests'][0]['processes'] if one['role'] == 'frontend')

    def generation():
        return product.device()['generation']
    before = generation()
    os.kill(frontend, signal.SIGSTOP)
    for _ in range(50):  # so many may wait
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(device.socket)
    os.kill(frontend, signal.SIGCONT)
    one = Vmm(current, device.socket)
    assert one.features >> 32 & 1, 'VERSION_1 is offered'
    assert generation() - before < 10, f'{generation() - before} changes of the record'


if __name__ == '__main__':
    main()
