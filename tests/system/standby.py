#!/usr/bin/env python3
"""Two instances of a worker: whichever ends, by a kill or in good order, the other one serves on."""

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.netns import Netns
from bulkhead_test.process import kill_and_wait
from bulkhead_test.qemu import NetDevice, Qemu
from bulkhead_test.report import case, main, wait_until
from bulkhead_test.tcp import MIB, Transfer

ENDS = 10


def handed_over(current, number, queue_pairs=1, **properties):
    netns = Netns(current)
    netns.add_tap(queue_pairs=queue_pairs)
    device = Device(socket=str(current.dir / 'net0.sock'), standby=True, queue_pairs=queue_pairs)
    product = Bulkhead(current, [device], netns)
    product.workers()
    vm = Qemu(current, [NetDevice(device.socket, **properties)])
    vm.wait_boot()
    vm.guest.net_up()
    vm.guest.ping()
    before, carrier = vm.sockets(), vm.guest.carrier_changes()
    for direction in ('from-guest', 'to-guest'):
        transfer = Transfer(netns, vm.guest, direction, 300 * MIB)
        for i in range(ENDS):
            transfer.wait_progress((i + 1) * 16 * MIB)
            serving, waiting = product.workers()
            kill_and_wait(serving, number)
            wait_until(lambda: product.workers()[0] == waiting, 'the other instance serves', 10, 0.005)
        current.note(f'{direction} {transfer.wait(180):.0f} Mbit/s with {ENDS} changes')
    vm.qemu_events = vm.qmp.event_names()
    vm.check_connection(before)
    assert vm.guest.carrier_changes() == carrier, 'the guest\'s link went down'


@case('standby-killed-split', 180)
def killed_split(current):
    handed_over(current, signal.SIGKILL)


@case('standby-killed-packed', 180)
def killed_packed(current):
    handed_over(current, signal.SIGKILL, packed='on')


@case('standby-ended-split', 180)
def ended_split(current):
    handed_over(current, signal.SIGTERM)


if __name__ == '__main__':
    main()
