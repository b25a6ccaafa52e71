#!/usr/bin/env python3
"""Every process is killed, in turn, at random and all at once, while a guest's data runs both ways.

24 kills under each keeper; with BULKHEAD_FULL=1 200.
"""

import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.keeper import Keeper
from bulkhead_test.netns import Netns
from bulkhead_test.qemu import NetDevice, Qemu
from bulkhead_test.report import case, main, wait_until
from bulkhead_test.systemd import Systemd
from bulkhead_test.tcp import MIB, Transfer

KILLS = 200 if env.FULL else 24
ROLES = env.ROLES
CHUNK = 128 * MIB
STEP = 8 * MIB
BURST = 4


class Streams:
    """A transfer in each direction at all times; each that ends is checked, and the next begins."""

    def __init__(self, netns, guest):
        self.netns = netns
        self.guest = guest
        self.longest = 0.0
        self.done = {'from-guest': 0, 'to-guest': 0}
        self.running = {direction: self._begin(direction) for direction in self.done}

    def _begin(self, direction):
        return Transfer(self.netns, self.guest, direction, CHUNK)

    def _next(self, direction):
        self.running[direction].wait(120)
        self.done[direction] += CHUNK
        self.running[direction] = self._begin(direction)

    def passed(self, direction):
        if self.running[direction].finished():
            self._next(direction)
        return self.done[direction] + self.running[direction].progress()

    def wait_both(self):
        """Until each direction has moved on."""
        start_time = time.monotonic()
        before = {direction: self.passed(direction) for direction in self.done}
        for direction, start in before.items():
            wait_until(lambda direction=direction, start=start: self.passed(direction) >= start + STEP,
                       f'data {direction} goes on', 60)
        self.longest = max(self.longest, time.monotonic() - start_time)

    def end(self):
        for direction, transfer in self.running.items():
            transfer.wait(180)
            self.done[direction] += CHUNK
        return ', '.join(f'{n // MIB} MiB {direction}' for direction, n in self.done.items())


def in_turn(keeper, streams, n):
    for i in range(n):
        wait_until(lambda i=i: keeper.kill([ROLES[i % len(ROLES)]]), 'there is one to kill', 30)
        streams.wait_both()
    return n


def at_random(keeper, streams, n):
    killed = 0
    while killed < n:
        for _ in range(min(BURST, n - killed)):
            killed += keeper.kill(random.sample(ROLES, random.randint(1, 2)))
            time.sleep(random.uniform(0, 0.1))
        streams.wait_both()
    return killed


def all_at_once(keeper, streams, n):
    killed = 0
    while killed < n:
        killed += keeper.kill(ROLES)
        streams.wait_both()
    return killed


def links_in_log(guest):
    return [line for line in guest.run('dmesg').splitlines() if 'eth0' in line or 'virtio' in line]


def settled_log(guest):
    """What the kernel has said of the link once it is up. It says so itself only where that came after the interface."""
    wait_until(lambda: guest.run('cat /sys/class/net/eth0/operstate').strip() == 'up', 'the guest\'s link is up', 30)
    time.sleep(1)
    return links_in_log(guest)


def storm(current, vm, netns, keeper):
    random.seed(env.SEED)
    current.note(f'BULKHEAD_SEED={env.SEED}')
    vm.wait_boot()
    vm.guest.net_up()
    vm.guest.ping()
    said = settled_log(vm.guest)
    sockets, carrier = vm.sockets(), vm.guest.carrier_changes()
    streams = Streams(netns, vm.guest)
    third = (KILLS + 2) // 3
    counts = [way(keeper, streams, third) for way in (in_turn, at_random, all_at_once)]
    moved = streams.end()
    keeper.all_there()
    vm.check_connection(sockets)
    assert vm.guest.carrier_changes() == carrier, 'the guest\'s link went down'
    assert links_in_log(vm.guest) == said, f'the guest\'s kernel says: {links_in_log(vm.guest)[len(said):]}'
    current.note(f'{counts[0]} killed in turn, {counts[1]} at random, {counts[2]} all at once; {moved}, every '
                 f'byte right, at most {streams.longest:.1f} s for the next {STEP // MIB} MiB each way; carrier changes {carrier} before and after; no disconnect')


def under_launcher(current, **properties):
    netns = Netns(current)
    netns.add_tap()
    device = Device(socket=str(current.dir / 'net0.sock'))
    product = Bulkhead(current, [device], netns)

    def all_there():
        wait_until(lambda: all(process['pid'] for guest in product.status()['guests'] for process in guest['processes']),
                   'every process serves', 30)
    storm(current, Qemu(current, [NetDevice(device.socket, **properties)]), netns, Keeper(product.pid, all_there))


@case('kills-launcher-split', 900)
def launcher_split(current):
    under_launcher(current)


@case('kills-launcher-packed', 900)
def launcher_packed(current):
    under_launcher(current, packed='on')


@case('kills-systemd', 900)
def systemd(current):
    system = Systemd(current, '[device net0]\ntype = net\nsocket = /run/vm1/net0.sock\nbackend = tap\ntap = vm1\n',
                     taps=['vm1'])
    system.all_there()
    stored = {role: system.stored(role) for role in ROLES}
    vm = Qemu(current, [NetDevice(system.path('/run/vm1/net0.sock'))])
    storm(current, vm, system.netns(), Keeper(system.process.pid, system.all_there))
    vm.quit()
    wait_until(lambda: {role: system.stored(role) for role in ROLES} == stored,
               f'the fd stores hold what they held before the VMM came: {stored}', 30)


if __name__ == '__main__':
    main()
