#!/usr/bin/env python3
"""The worker ends in the middle of transfers, alone or as one of a pair; the guest notices a pause, and the VMM nothing."""

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
STEP = 8 * MIB  # as a transfer tells its progress


def disturbed(current, end, standby=False, **properties):
    """end(product) while data flows; returns the product."""
    netns = Netns(current)
    netns.add_tap()
    device = Device(socket=str(current.dir / 'net0.sock'), standby=standby)
    product = Bulkhead(current, [device], netns)
    vm = Qemu(current, [NetDevice(device.socket, **properties)])
    vm.wait_boot()
    vm.guest.net_up()
    vm.guest.ping()
    before, carrier = vm.sockets(), vm.guest.carrier_changes()
    for direction in ('from-guest', 'to-guest'):
        transfer = Transfer(netns, vm.guest, direction, (ENDS + 1) * STEP)
        for i in range(ENDS):
            transfer.wait_progress((i + 1) * STEP)
            end(product)
        current.note(f'{direction} {transfer.wait(180):.0f} Mbit/s with {ENDS} ends')
    vm.qemu_events = vm.qmp.event_names()
    vm.check_connection(before)
    assert vm.guest.carrier_changes() == carrier, 'the guest\'s link went down'
    return product


def killed(current, **properties):
    product = disturbed(current, lambda product: product.kill('net'), **properties)
    worker = [process for process in product.status()['guests'][0]['processes'] if process['role'] == 'net']
    assert worker[0]['restarts'] == 2 * ENDS, f'restarts: {worker}'


def handed_over(current, number, **properties):
    def end(product):
        serving, waiting = product.workers()
        kill_and_wait(serving, number)
        wait_until(lambda: product.workers()[0] == waiting, 'the other instance serves', 10, 0.005)
    disturbed(current, end, standby=True, **properties)


@case('worker-kill-split', 180)
def split(current):
    killed(current)


@case('worker-kill-packed', 180)
def packed(current):
    killed(current, packed='on')


@case('standby-killed-split', 180, ordinary=False)
def standby_split(current):
    handed_over(current, signal.SIGKILL)


@case('standby-killed-packed', 180)
def standby_packed(current):
    handed_over(current, signal.SIGKILL, packed='on')


@case('standby-ended-split', 180)
def standby_ended(current):
    handed_over(current, signal.SIGTERM)


if __name__ == '__main__':
    main()
