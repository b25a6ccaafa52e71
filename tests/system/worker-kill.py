#!/usr/bin/env python3
"""The worker is killed in the middle of transfers; the guest notices a pause, and the VMM nothing."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.netns import Netns
from bulkhead_test.qemu import NetDevice, Qemu
from bulkhead_test.report import case, main
from bulkhead_test.tcp import MIB, Transfer

KILLS = 10


def killed(current, **properties):
    netns = Netns(current)
    netns.add_tap()
    device = Device(socket=str(current.dir / 'net0.sock'))
    product = Bulkhead(current, [device], netns)
    vm = Qemu(current, [NetDevice(device.socket, **properties)])
    vm.wait_boot()
    vm.guest.net_up()
    vm.guest.ping()
    before, carrier = vm.sockets(), vm.guest.carrier_changes()
    for direction in ('from-guest', 'to-guest'):
        transfer = Transfer(netns, vm.guest, direction, 300 * MIB)
        for i in range(KILLS):
            transfer.wait_progress((i + 1) * 16 * MIB)
            product.kill('net')
        current.note(f'{direction} {transfer.wait(180):.0f} Mbit/s with {KILLS} kills')
    vm.qemu_events = vm.qmp.event_names()
    vm.check_connection(before)
    assert vm.guest.carrier_changes() == carrier, 'the guest\'s link went down'
    worker = [process for process in product.status()['guests'][0]['processes'] if process['role'] == 'net']
    assert worker[0]['restarts'] == 2 * KILLS, f'restarts: {worker}'


@case('worker-kill-split', 180)
def split(current):
    killed(current)


@case('worker-kill-packed', 180)
def packed(current):
    killed(current, packed='on')


if __name__ == '__main__':
    main()
