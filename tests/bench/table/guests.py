"""Linux guests: ping, one byte there and back over TCP, and TCP streams both ways, beside the VMM's own TAP and passt.

User Mode Linux runs at native speed, so that back-ends can be told apart; QEMU is without hardware virtualization.
"""

import json
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.migration import TapDevice, Vm
from bulkhead_test.netns import Netns
from bulkhead_test.qemu import NetDevice
from bulkhead_test.report import wait_until
from bulkhead_test.uml import Passt, Uml, own_tap, vhost_user

from .cells import DEVICE_CPU, DRIVER_CPU, OURS, Cell, Figure, bind, built_by, cpu_ns, need_cpus, on_cpu

HOST = '10.77.0.1'
GUEST = '10.77.0.2'
PORT = 5300
QEMU = 'newest'
OWN_TAP = 'its own TAP'
PASST = 'passt'


class Load:
    """What a guest, and the namespace at the other end, are made to do."""

    def __init__(self, netns, guest, interface, pid=None, ping=True):
        self.guest = guest
        self.pid = pid
        self.ping = ping
        env.need_tool('iperf3')
        guest.net_up(interface, addresses=(f'{GUEST}/24',))
        tools = env.prepare('guest-bench')
        netns.spawn('iperf3', ['iperf3', '--server', '--forceflush']).wait_output('listening')
        netns.spawn('tcprr', [tools / 'tcprr', 'answer', '0.0.0.0', PORT]).wait_output('listening')
        wait_until(lambda: guest.run(f'ping -c 1 -W 1 {HOST}', check=False)[0] == 0, 'the guest reaches the host', 20)

    def stream(self, seconds, *options):
        """Gbit/s, and CPU time of the back-end for each Gbit in ms."""
        before = cpu_ns(self.pid) if self.pid else 0
        words = ' '.join(['iperf3 --json -c', HOST, '-t', str(max(1, round(seconds))), *options])
        status, output = self.guest.run(words, 60, check=False)
        if status != 0:
            raise AssertionError(f'iperf3: {output[-300:]}')
        told = json.loads(output)
        got = told['end'].get('sum_received')
        if not got:
            raise AssertionError(f'iperf3 has no sum: {told.get("error", output[-300:])}')
        bits = got['bytes'] * 8 / 1e9
        return got['bits_per_second'] / 1e9, (cpu_ns(self.pid) - before) / 1e6 / bits if self.pid else None

    def turn(self, seconds):
        found = {}
        if self.ping:
            found['ping'] = self.guest.ping(HOST, count=10, interval=0.05)
            found['request'] = float(self.guest.run(f'tcprr ask {HOST} {PORT} {int(seconds * 500)}'))
        found['out'], found['out cpu'] = self.stream(seconds)
        found['in'], found['in cpu'] = self.stream(seconds, '--reverse')
        return found


def our_device(case, build, netns):
    device = Device(socket=str(case.dir / 'net0.sock'))
    with built_by(build):
        product = Bulkhead(case, [device], netns)
    pid = product.pid_of('net')
    bind(pid, DEVICE_CPU)
    return device.socket, pid


def start_uml(case, netns, device):
    vm = Uml(case, netns, device, prefix=on_cpu(DRIVER_CPU))
    bind(vm.pid, DRIVER_CPU)
    vm.wait_boot()
    return vm.guest


@contextmanager
def uml_ours(case, build):
    need_cpus()
    netns = Netns(case)
    netns.add_tap()
    sock, pid = our_device(case, build, netns)
    yield Load(netns, start_uml(case, netns, vhost_user(sock)), 'eth0', pid).turn


@contextmanager
def uml_tap(case, _):
    need_cpus()
    netns = Netns(case)
    netns.add_tap()
    yield Load(netns, start_uml(case, netns, own_tap()), 'vec0').turn


@contextmanager
def uml_passt(case, _):
    need_cpus()
    netns = Netns(case)
    passt = Passt(case, netns, GUEST, HOST)
    bind(passt.pid, DEVICE_CPU)
    yield Load(netns, start_uml(case, netns, vhost_user(passt.socket)), 'eth0', passt.pid).turn


@contextmanager
def qemu(case, build, ours=True):
    need_cpus()
    netns = Netns(case)
    netns.add_tap()
    sock, pid = our_device(case, build, netns) if ours else (None, None)
    device = NetDevice(sock) if ours else TapDevice(None)
    vm = Vm(SimpleNamespace(netns=netns, corner=case), [device], QEMU, guest='guest-bench')
    bind(vm.pid, DRIVER_CPU)
    vm.wait_boot()
    yield Load(netns, vm.guest, 'eth0', pid, ping=False).turn


def streams(goals, cpu=None):
    return [Figure('out', 'Gbit/s', 'higher', goals), Figure('in', 'Gbit/s', 'higher', goals),
            Figure('out cpu', 'ms a Gbit', 'lower', cpu or {}), Figure('in cpu', 'ms a Gbit', 'lower', cpu or {})]


def cells():
    figures = [Figure('ping', 'ms', 'lower', {OWN_TAP: None, PASST: 1.0}),
               Figure('request', 'us there and back', 'lower', {OWN_TAP: None, PASST: 1.0})]
    yield Cell('guests', 'User Mode Linux', figures + streams({OWN_TAP: 1.0, PASST: 1.5}, {PASST: 1.0}),
               {OURS: uml_ours, OWN_TAP: uml_tap, PASST: uml_passt}, seconds=1, quick=1,
               notes=['DPDK net_tap is not measured: it hangs this guest\'s driver unless features are hidden from it'])
    yield Cell('guests', 'QEMU without KVM', streams({OWN_TAP: 1.0}), {OURS: qemu, OWN_TAP: partial(qemu, ours=False)},
               seconds=1, quick=1, notes=['passt and DPDK net_tap are not measured: the emulated guest\'s own TCP is the limit'])
