#!/usr/bin/env python3
"""A guest at rest costs next to nothing: its processes, all threads and the launcher together, sleep."""

import copy
import os
import socket
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.report import case, main, wait_until

GET_FEATURES, SET_FEATURES, SET_MEM_TABLE = 1, 2, 5
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL = 8, 9, 10, 12, 13
BASE = 0x7f0000000000
SECONDS = 20
SETTLED = 4  # the last question at the start has had its time by then
WAKEUPS_A_SECOND = 1
NNG_THREADS = 10  # of one process with the oldest nng, however many processors there are


def threads(pid):
    """{thread: (its name, how often it went to sleep)}"""
    found = {}
    for thread in os.listdir(f'/proc/{pid}/task'):
        with open(f'/proc/{pid}/task/{thread}/status', encoding='ascii', errors='replace') as status:
            fields = dict(line.split(':\t', 1) for line in status.read().splitlines() if ':\t' in line)
        found[int(thread)] = (fields['Name'], int(fields['voluntary_ctxt_switches']))
    return found


def instances(pid):
    """How many inotify instances a process has open."""
    names = [os.readlink(f'/proc/{pid}/fd/{fd}') for fd in os.listdir(f'/proc/{pid}/fd')]
    return names.count('anon_inode:inotify')


class Vmm:
    """One with two rings that run, and a guest that uses neither."""

    def __init__(self, current, path):
        self.line = socket.socket(socket.AF_UNIX)
        self.line.connect(path)
        self.line.settimeout(20 * env.TIME_FACTOR)
        current.defer(self.line.close)
        self.memory = os.memfd_create('guest', os.MFD_ALLOW_SEALING)
        os.ftruncate(self.memory, 1 << 20)
        current.defer(os.close, self.memory)
        self.say(SET_FEATURES, 'Q', 1 << 32)
        self.say(SET_MEM_TABLE, 'II4Q', 1, 0, 0, 1 << 20, BASE, 0, fds=[self.memory])
        for ring in (0, 1):
            self.start(ring)
        self.features = self.ask()

    def say(self, request, layout='', *values, fds=()):
        payload = struct.pack(layout, *values)
        socket.send_fds(self.line, [struct.pack('III', request, 1, len(payload)) + payload], list(fds))

    def start(self, ring):
        at = BASE + ring * 0x10000
        self.say(SET_VRING_NUM, 'II', ring, 256)
        self.say(SET_VRING_BASE, 'II', ring, 0)
        self.say(SET_VRING_ADDR, 'II4Q', ring, 0, at, at + 0x3000, at + 0x2000, 0)
        for request in (SET_VRING_CALL, SET_VRING_KICK):
            fd = os.eventfd(0)
            self.say(request, 'Q', ring, fds=[fd])
            os.close(fd)

    def ask(self):
        self.say(GET_FEATURES)
        data = self.line.recv(64)
        assert len(data) == 20, f'answer of {len(data)} bytes'
        return data[12:]


class Guest:
    """One launcher with one guest, with a VMM or without."""

    def __init__(self, current, name, standby=False):
        self.name = name
        self.device = Device(socket=str(current.dir / f'{name}.sock'), backend='echo', standby=standby)
        beside = copy.copy(current)
        beside.dir = current.dir / name
        beside.dir.mkdir()
        self.product = Bulkhead(beside, [self.device], name=name)

    def attached(self):
        processes = self.product.status()['guests'][0]['processes']
        return all(process['pid'] for process in processes)

    def count(self):
        return {thread: found for pid in self.product.pids() for thread, found in threads(pid).items()}

    def check_ends(self):
        """Who holds an inotify instance alone dies 5 to 15 ms late: the kernel destroys it before it tells anybody."""
        pids = self.product.pids()
        keepers = {pid for pid in pids if any(name == '(keeper)' for name, _ in threads(pid).values())}
        held, kept = (sum(instances(pid) for pid in some) for some in (set(pids) - keepers, keepers))
        assert held and held == kept, f'{self.name}: {held} inotify instances, {kept} of them in the fd stores'

    def check(self, before, current):
        after = self.count()
        assert after.keys() == before.keys(), f'{self.name}: other threads than before: {before} {after}'
        woken = {(thread, name): n - before[thread][1] for thread, (name, n) in after.items() if n > before[thread][1]}
        total = sum(woken.values())
        current.note(f'{self.name} {total / SECONDS:.2f}/s')
        assert total <= WAKEUPS_A_SECOND * SECONDS, f'{self.name}: {total} wake-ups in {SECONDS} s: {woken}'
        for pid in self.product.pids():
            nng = [name for name, _ in threads(pid).values() if name.startswith('nng:')]
            assert len(nng) <= NNG_THREADS, f'{self.name}: {nng}'


@case('idle', 120)
def idle(current):
    alone, served, stood_by = Guest(current, 'alone'), Guest(current, 'served'), Guest(current, 'stood-by', standby=True)
    vmms = [Vmm(current, guest.device.socket) for guest in (served, stood_by)]
    guests = (alone, served, stood_by)
    for guest in guests:
        wait_until(guest.attached, f'{guest.name}: all processes have found each other')
    time.sleep(SETTLED)
    before = [guest.count() for guest in guests]
    time.sleep(SECONDS)
    for guest, counted in zip(guests, before):
        guest.check(counted, current)
        guest.check_ends()
    for vmm in vmms:
        assert vmm.ask() == vmm.features, 'the VMM is served as before'


if __name__ == '__main__':
    main()
