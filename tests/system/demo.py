#!/usr/bin/env python3
"""What deploy/demo shows, after it has installed and built."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.env import Skip
from bulkhead_test.netns import Netns
from bulkhead_test.qemu import NetDevice, Qemu
from bulkhead_test.report import Case
from bulkhead_test.tcp import MIB, Transfer


def say(text):
    print(f'\n\033[1m== {text}\033[0m', flush=True)


def status_fields(pid):
    with open(f'/proc/{pid}/status', encoding='ascii', errors='replace') as status:
        return dict(line.rstrip('\n').split(':\t', 1) for line in status if ':\t' in line)


def show_rights(product):
    """Who runs, and what each may do: from the kernel, not from us."""
    may = {'memory': 'keeps descriptors and records; maps no guest memory',
           'frontend': 'parses vhost-user; maps no guest memory',
           'snapshot': 'moves saved state; opens no file, maps no guest memory',
           'net': 'maps guest memory, moves frames; speaks to no VMM'}
    print(f'{"process":20} {"pid":>7} {"capabilities":18} {"new privileges":15} what it does')
    for process in product.status()['guests'][0]['processes']:
        fields = status_fields(process['pid'])
        caps = 'none' if int(fields['CapEff'], 16) == 0 else '0x' + fields['CapEff'].lstrip('0')
        gain = 'never' if fields['NoNewPrivs'] == '1' else 'possible'
        print(f'bulkhead-{process["role"]:11} {process["pid"]:7} {caps:18} {gain:15} {may[process["role"]]}')


def show(case):
    say('A TAP in a network namespace of its own, and Bulkhead on it')
    netns = Netns(case)
    netns.add_tap()
    device = Device(socket=str(case.dir / 'net0.sock'))
    product = Bulkhead(case, [device], netns)
    print((case.dir / 'vm.conf').read_text().strip())
    print(f'\n$ bulkhead run vm.conf\n{product.process.output().strip()}')

    say('A Debian kernel boots in QEMU (emulated) with its network card on our socket')
    vm = Qemu(case, [NetDevice(device.socket)])
    print(f'booted in {vm.wait_boot():.1f} s')
    vm.guest.net_up()
    print(vm.guest.run('ping -c 3 -i 0.2 10.77.0.1'))

    say('TCP both ways, every byte checked at the other end')
    for direction in ('from-guest', 'to-guest'):
        rate = Transfer(netns, vm.guest, direction, 200 * MIB).wait()
        print(f'{direction:11} 200 MiB at {rate:.0f} Mbit/s: correct')

    say('The worker is killed (kill -9) in the middle of a transfer')
    before, carrier = vm.sockets(), vm.guest.carrier_changes()
    transfer = Transfer(netns, vm.guest, 'from-guest', 300 * MIB)
    for i in range(3):
        transfer.wait_progress((i + 1) * 48 * MIB)
        old = product.kill('net')
        print(f'killed pid {old} after {transfer.progress() >> 20} MiB; pid {product.pid_of("net")} goes on')
    print(f'300 MiB at {transfer.wait():.0f} Mbit/s: correct')
    vm.check_connection(before)
    assert vm.guest.carrier_changes() == carrier
    print('QEMU saw no disconnection; the guest\'s link never went down')

    say('Who runs, and what each may do')
    show_rights(product)

    say('bulkheadctl status')
    print(product.ctl('status'))
    vm.quit()


def run_demo(name, show_it):
    """Runs it as a test runs a case, and tells where its logs are if it fails; the exit status."""
    case = Case(name, show_it, 120)
    case.dir = Path(tempfile.mkdtemp(prefix='bh-demo-', dir='/tmp'))
    os.chmod(case.dir, 0o755)  # the processes become users of their own
    try:
        show_it(case)
        code = 0
    except (AssertionError, Skip) as error:
        print(f'\nThe demo failed: {error}\nLogs: {case.dir}')
        code = 1
    while case.cleanups:
        function, args = case.cleanups.pop()
        function(*args)
    if code == 0:
        shutil.rmtree(case.dir)
        say('Cleaned up. Next: README.md, "What it is for".')
    return code


if __name__ == '__main__':
    sys.exit(run_demo('demo', show))
