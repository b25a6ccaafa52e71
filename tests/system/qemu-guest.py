#!/usr/bin/env python3
"""A real Linux guest in QEMU reaches the network through the back-end.

Each case is run on Debian's QEMU and on the one of backports; the latter uses MSI-X, the former cannot under TCG. An
ordinary run takes them in turn.
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import qemu
from bulkhead_test.backend import STANDIN, backend, net_device
from bulkhead_test.env import Skip
from bulkhead_test.netns import Netns
from bulkhead_test.qemu import NetDevice, Qemu
from bulkhead_test.report import case, main
from bulkhead_test.tcp import MIB, Transfer, both_ways

FULL = 200 * MIB
SHORT = 16 * MIB


class Scene:
    """Namespace, TAP, back-end and a booted guest with its interface up."""

    def __init__(self, current, version, queue_pairs=1, mode='server', cpus=None, **properties):
        self.case = current
        self.netns = Netns(current)
        self.netns.add_tap(queue_pairs=queue_pairs)
        self.device = net_device(current, queue_pairs=queue_pairs, mode=mode)
        nic = NetDevice(self.device.socket, queue_pairs, server=mode == 'client', **properties)
        if mode == 'client':
            # QEMU listens and waits for us, and comes back when we are there.
            self.qemu = Qemu(current, [nic], version, cpus=cpus or queue_pairs, boot=False)
            self.backend = None
            return
        self.backend = backend(current, [self.device], self.netns)
        self.qemu = Qemu(current, [nic], version, cpus=cpus or queue_pairs)
        self.boot()

    def boot(self):
        self.case.note(f'boot {self.qemu.wait_boot():.1f} s')
        self.guest = self.qemu.guest
        self.up()

    def up(self):
        self.guest = self.qemu.guest
        self.guest.net_up()

    def check_ping(self):
        """Small, of one frame, and of several fragments; both families."""
        for size in (56, 1400, 6000):
            self.guest.ping('10.77.0.1', size=size)
        rtt = self.guest.ping('fd77::1')
        self.case.note(f'ping {rtt:.1f} ms')

    def transfer(self, n_bytes=FULL, **options):
        both_ways(self.case, self.netns, self.guest, n_bytes, **options)

    def check_resize_is_refused(self):
        """A driver that would have rings of another size is told that it cannot: no QEMU passes the reset of a ring on to a
        back-end, which would go on with a ring that is no more."""
        status, output = self.guest.run('ethtool -G eth0 rx 128 tx 128 2>&1', check=False)
        assert STANDIN or status != 0, f'the guest has rings of another size: {output}'

    def check_short(self):
        """Is it all there again, after something was done to it?"""
        self.check_ping()
        self.transfer(SHORT)


# uses: net:CSUM net:GUEST_CSUM net:HOST_TSO4 net:HOST_TSO6 net:GUEST_TSO4 net:GUEST_TSO6 net:MAC net:VERSION_1 net:PROTOCOL_FEATURES net:EVENT_IDX net:INDIRECT_DESC net:MRG_RXBUF protocol:REPLY_ACK
def plain(current, version):
    scene = Scene(current, version)
    before = scene.qemu.sockets()
    scene.check_ping()
    scene.transfer()
    scene.transfer(SHORT, address='fd77::1')
    scene.qemu.check_connection(before)


def offloads_off(current, version):
    scene = Scene(current, version)
    scene.guest.set_offloads('eth0', False)
    left = scene.guest.run('ethtool -k eth0 | grep -E "^(tx-checksumming|tcp-segmentation-offload): on" || true')
    assert not left, f'the guest did not switch off {left!r}'
    scene.check_ping()
    scene.transfer()
    scene.guest.set_offloads('eth0', True)
    scene.transfer(SHORT)


def offloads_not_offered(current, version):
    """The VMM hides the offloads from the guest: the back-end must not use what was not accepted."""
    hidden = {name: 'off' for name in ('csum', 'guest_csum', 'guest_tso4', 'guest_tso6', 'guest_ecn', 'guest_ufo',
                                       'host_tso4', 'host_tso6', 'host_ecn', 'host_ufo', 'ctrl_guest_offloads')}
    scene = Scene(current, version, **hidden)
    scene.check_short()


def sent(guest):
    """Packets that the guest has sent, by queue pair."""
    return [int(number) for number in re.findall(r'tx_queue_\d+_packets: (\d+)', guest.run('ethtool -S eth0'))]


def check_each_pair_sends(guest):
    """A process that stays on one CPU sends through that CPU's pair; which one TCP takes is its own affair."""
    for pair in range(2):
        before = sent(guest)
        output = guest.run(f'taskset {1 << pair} ping -c 100 -i 0.002 10.77.0.1')
        assert '100 packets received' in output, output
        n_sent = sent(guest)[pair] - before[pair]
        assert n_sent >= 100, f'of 100 packets {n_sent} went through pair {pair}'


# uses: net:MQ net:CTRL_VQ protocol:MQ
def two_queue_pairs(current, version):
    scene = Scene(current, version, queue_pairs=2)
    if scene.guest.queue_pairs() != 2:
        scene.guest.run('ethtool -L eth0 combined 2')
    assert scene.guest.queue_pairs() == 2
    for direction in ('from-guest', 'to-guest'):
        both = [Transfer(scene.netns, scene.guest, direction, FULL // 2, prefix=f'taskset {mask}')
                for mask in (1, 2)]
        rate = sum(transfer.wait(180) for transfer in both)
        current.note(f'{direction} {rate:.0f} Mbit/s')
    check_each_pair_sends(scene.guest)
    scene.check_resize_is_refused()
    scene.guest.run('ethtool -L eth0 combined 1')
    scene.check_short()
    scene.guest.run('ethtool -L eth0 combined 2')
    scene.check_short()


def two_pairs_disturbed(current, version, **properties):
    """Whatever makes the threads of the pairs stand still, while both carry traffic."""
    scene = Scene(current, version, queue_pairs=2, **properties)
    before = scene.qemu.sockets()
    for _ in range(2):
        both = [Transfer(scene.netns, scene.guest, direction, 3 * SHORT) for direction in ('from-guest', 'to-guest')]
        for transfer in both:
            transfer.wait_progress(SHORT)
        if not STANDIN:
            scene.backend.kill('net')
            scene.backend.status()
        scene.guest.run('ethtool -L eth0 combined 1')
        scene.netns.ip('link', 'set', 'tap0', 'mtu', '1400')
        scene.guest.run('ethtool -L eth0 combined 2')
        scene.guest.run('ip link set eth0 promisc on')
        for transfer in both:
            transfer.wait(180)
        scene.netns.ip('link', 'set', 'tap0', 'mtu', '1500')
        scene.qemu.reboot()
        scene.up()
        scene.check_short()
    scene.qemu.check_connection(before)


# covers: G15
def rings_change_hands(current, version):
    """A driver that takes an XDP program, and gives it up again, rearranges its rings under traffic."""
    scene = Scene(current, version, queue_pairs=2, cpus=1, guest_tso4='off', guest_tso6='off', guest_ufo='off')
    before = scene.qemu.sockets()
    for direction in ('from-guest', 'to-guest'):
        transfer = Transfer(scene.netns, scene.guest, direction, SHORT)
        transfer.wait_progress(SHORT // 2)
        scene.guest.run('xdp attach eth0')
        if not STANDIN:
            scene.backend.kill('net')
        scene.check_ping()
        scene.guest.run('xdp detach eth0')
        transfer.wait(180)
    scene.check_resize_is_refused()
    scene.check_short()
    scene.qemu.check_connection(before)


def packed_two_pairs_disturbed(current, version):
    two_pairs_disturbed(current, version, packed='on')


def not_mergeable(current, version):
    scene = Scene(current, version, mrg_rxbuf='off')
    scene.check_ping()
    scene.transfer()


# uses: net:RING_PACKED
def packed(current, version):
    scene = Scene(current, version, packed='on')
    scene.check_ping()
    scene.transfer()
    scene.qemu.reboot()
    scene.up()
    scene.check_short()


def packed_not_mergeable_two_pairs(current, version):
    scene = Scene(current, version, queue_pairs=2, packed='on', mrg_rxbuf='off')
    scene.check_short()


def no_event_index(current, version):
    scene = Scene(current, version, event_idx='off', indirect_desc='off')
    scene.check_short()


# covers: G15
def guest_reboot(current, version):
    scene = Scene(current, version)
    scene.check_short()
    for _ in range(2):
        before = scene.qemu.sockets()
        scene.qemu.reboot()
        scene.up()
        scene.qemu.check_connection(before)
        scene.check_short()


def driver_unbind(current, version):
    scene = Scene(current, version)
    for _ in range(3):
        scene.guest.run('cd /sys/bus/virtio/drivers/virtio_net && for d in virtio*; do '
                        'echo $d > unbind && echo $d > bind; done')
        scene.up()
        scene.check_ping()
    scene.transfer(SHORT)


def link_cycle(current, version):
    """The interface goes down and up with traffic in flight."""
    scene = Scene(current, version)
    for _ in range(3):
        flood = scene.guest.start('ping -c 2000 -i 0.001 -s 1000 10.77.0.1 > /dev/null')
        scene.guest.run('ip link set eth0 down')
        scene.guest.run('ip link set eth0 up')
        flood.wait(60, check=False)
        scene.guest.net_up(addresses=('fd77::2/64',))
        scene.check_ping()
    scene.transfer(SHORT)


def vmm_restart(current, version):
    scene = Scene(current, version)
    scene.check_short()
    for end in (scene.qemu.kill, scene.qemu.quit, scene.qemu.kill):
        end()
        scene.qemu.start()
        scene.boot()
        scene.check_short()


def vmm_killed_in_transfer(current, version):
    scene = Scene(current, version)
    transfer = Transfer(scene.netns, scene.guest, 'from-guest', FULL)
    transfer.wait_progress(SHORT)
    scene.qemu.kill()
    transfer.abort()
    assert not scene.netns.run('ss', '-Htan', 'state', 'connected').stdout, 'the killed transfer is still sending'
    scene.qemu.start()
    scene.boot()
    scene.check_short()


def two_devices(current, version):
    if STANDIN:
        raise Skip('the stand-in serves one device')
    netns = Netns(current)
    netns.add_tap('tap0')
    netns.add_tap('tap1', ('10.78.0.1/24', 'fd78::1/64'))
    devices = [net_device(current, name=f'net{i}', socket=str(current.dir / f'net{i}.sock'), tap=f'tap{i}')
               for i in range(2)]
    backend(current, devices, netns)
    vm = Qemu(current, [NetDevice(device.socket) for device in devices], version)
    vm.wait_boot()
    vm.guest.net_up('eth0')
    vm.guest.net_up('eth1', ('10.78.0.2/24', 'fd78::2/64'))
    for address in ('10.77.0.1', '10.78.0.1'):
        vm.guest.ping(address)
        both_ways(current, netns, vm.guest, SHORT, address)


def qemu_listens(current, version):
    """mode=client: the socket is QEMU's, and we connect, also when the VMM comes back."""
    scene = Scene(current, version, mode='client')
    import threading
    starting = threading.Thread(target=scene.qemu.start)
    starting.start()
    scene.backend = backend(current, [scene.device], scene.netns)
    starting.join()
    scene.boot()
    scene.check_short()
    if STANDIN:
        return
    scene.qemu.kill()
    scene.qemu.start()
    scene.boot()
    scene.check_short()


CASES = (
    ('plain', plain, 120), ('offloads-off', offloads_off, 180), ('offloads-not-offered', offloads_not_offered, 90),
    ('two-queue-pairs', two_queue_pairs, 180), ('two-pairs-disturbed', two_pairs_disturbed, 180),
    ('packed-two-pairs-disturbed', packed_two_pairs_disturbed, 180), ('not-mergeable', not_mergeable, 150), ('packed', packed, 150),
    ('packed-not-mergeable-two-pairs', packed_not_mergeable_two_pairs, 90), ('no-event-index', no_event_index, 90),
    ('guest-reboot', guest_reboot, 120), ('driver-unbind', driver_unbind, 90), ('link-cycle', link_cycle, 90),
    ('vmm-restart', vmm_restart, 150), ('vmm-killed-in-transfer', vmm_killed_in_transfer, 90),
    ('two-devices', two_devices, 90), ('qemu-listens', qemu_listens, 120),
    ('rings-change-hands', rings_change_hands, 180),
)
LONG = ('rings-change-hands',)
# of those that are alike, an ordinary run has one
ALIKE = {'two-pairs-disturbed': 'disturbed', 'packed-two-pairs-disturbed': 'disturbed', 'offloads-off': 'rates',
         'two-queue-pairs': 'rates', 'packed': 'traffic', 'vmm-restart': 'traffic'}

for which, qemu_version in enumerate(qemu.VERSIONS):
    for turn, (case_name, function, limit) in enumerate(CASES):
        ordinary = turn % 2 == which and case_name not in LONG
        case(f'{qemu_version}-{case_name}', limit, ordinary, ALIKE.get(case_name) if ordinary else None)(
            lambda current, function=function, version=qemu_version: function(current, version))

if __name__ == '__main__':
    main()
