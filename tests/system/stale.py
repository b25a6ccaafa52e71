#!/usr/bin/env python3
"""Under systemd, too, nothing that a VMM handed over stays in a store when the VMM has gone."""

import array
import os
import random
import socket
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test.report import case, main, wait_until
from bulkhead_test.systemd import UNITS, Systemd

CONFIG = '[device net0]\ntype = net\nsocket = /run/vm1/net0.sock\nbackend = echo\n'
SESSIONS = 60
STEPS = 11
MIB = 1 << 20
UVA = 0x7f0000000000


class Vmm:
    """A session that hands over descriptors of every kind, a step at a time."""

    def __init__(self, path):
        self.line = socket.socket(socket.AF_UNIX)
        self.line.connect(path)
        self.line.settimeout(20)
        self.memory = os.memfd_create('guest')
        os.ftruncate(self.memory, 8 * MIB)
        self.fds = [self.memory]
        self.steps = [self.hello, self.channel, self.table, self.inflight, self.add, self.ring, self.add, self.remove,
                      self.again, self.table, self.stop]
        assert len(self.steps) == STEPS

    def say(self, request, payload=b'', fd=None, reply=None):
        message = struct.pack('III', request, 1, len(payload)) + payload
        ancillary = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [fd]))]
        self.line.sendmsg([message], ancillary)
        if reply is None:
            return b''
        data, got, _, _ = socket.recv_fds(self.line, 12 + reply, 4)
        self.fds += got
        assert len(data) == 12 + reply, f'answer of {len(data)} bytes to {request}'
        return data[12:]

    def event(self):
        self.fds.append(os.eventfd(0))
        return self.fds[-1]

    def hello(self):
        self.say(3)
        features, = struct.unpack('Q', self.say(1, reply=8))
        protocol, = struct.unpack('Q', self.say(15, reply=8))
        # no acknowledgements, and no notifications in band, which need them
        self.say(16, struct.pack('Q', protocol & ~(1 << 3 | 1 << 14)))
        self.say(2, struct.pack('Q', features & (1 << 32 | 1 << 30)))

    def channel(self):
        ours, theirs = socket.socketpair()
        self.fds.append(ours.detach())
        self.say(21, fd=theirs.fileno())
        theirs.close()

    def table(self):
        self.say(5, struct.pack('IIQQQQ', 1, 0, 0, 8 * MIB, UVA, 0), self.memory)

    def inflight(self):
        area = self.say(31, struct.pack('QQHHI', 0, 0, 2, 256, 0), reply=24)
        self.say(32, area, self.fds[-1])

    def region(self):
        return struct.pack('QQQQQ', 0, 64 * MIB, MIB, UVA + 64 * MIB, 0)

    def add(self):
        self.say(37, self.region(), self.memory)

    def remove(self):
        self.say(38, self.region())

    def ring(self):
        for i in range(2):
            at = UVA + i * MIB
            self.say(8, struct.pack('II', i, 256))
            self.say(10, struct.pack('II', i, 0))
            self.say(9, struct.pack('IIQQQQ', i, 0, at, at + 65536, at + 32768, 0))
            for request in (14, 13, 12):
                self.say(request, struct.pack('Q', i), self.event())

    def again(self):
        for request in (13, 14, 12):
            self.say(request, struct.pack('Q', 1), self.event())

    def stop(self):
        for i in range(2):
            self.say(11, struct.pack('II', i, 0), reply=8)

    def end(self):
        self.line.close()
        for fd in self.fds:
            os.close(fd)


@case('systemd-stale', 300)
def stale(current):
    system = Systemd(current, CONFIG)
    system.all_there()
    for role in UNITS:
        system.kill(role)
        system.all_there()
    path = system.path('/run/vm1/net0.sock')
    before = {role: system.stored(role) for role in UNITS}

    def settled(what):
        wait_until(lambda: {role: system.stored(role) for role in UNITS} == before,
                   f'{what}, the stores hold {before} again', 20)

    dice = random.Random(7)
    for _ in range(SESSIONS):
        vmm = Vmm(path)
        for step in vmm.steps[:dice.randint(1, len(vmm.steps))]:
            step()
        vmm.end()
    settled(f'after {SESSIONS} sessions')
    kills = 0
    for role in UNITS:
        for at in range(STEPS):
            vmm = Vmm(path)
            for i, step in enumerate(vmm.steps):
                if i == at:
                    system.kill(role)
                    kills += 1
                step()
            vmm.end()
        settled(f'after kills of {role}')
    current.note(f'{SESSIONS} sessions and {kills} kills; stored: {before}')


if __name__ == '__main__':
    main()
