"""Frames to a TAP and back: ours, DPDK's net_vhost beside net_tap, and what one core can do there with plain calls.

Out: the kernel drops what comes. Turn: tc sends each frame back out of the interface. Latency: the same with one frame
in flight. Frames that come from the kernel alone are not measured: who makes them would need a third CPU.
"""

import subprocess
from contextlib import contextmanager
from functools import partial

from bulkhead_test import env
from bulkhead_test.backend import StandIn
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.netns import Netns

from .cells import DEVICE_CPU, OURS, Cell, Figure, bench_program, bind, built_by, need_cpus, on_cpu
from .ring import SIZES, Driver

MTU = 2000
NET_TAP = 'DPDK net_tap'
RAW = 'write() and read()'


def quieten(netns):
    """Nothing but the frames of the test is to be there."""
    netns.run('sh', '-c', 'for i in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 >$i; done')
    netns.ip('address', 'flush', 'dev', 'tap0')


def send_back(netns, name='tap0'):
    netns.run('tc', 'qdisc', 'add', 'dev', name, 'handle', 'ffff:', 'ingress')
    netns.run('tc', 'filter', 'add', 'dev', name, 'parent', 'ffff:', 'protocol', 'all', 'u32', 'match', 'u32', '0', '0',
              'action', 'mirred', 'egress', 'redirect', 'dev', name)


@contextmanager
def ours(case, build, netns=None):
    netns.add_tap(addresses=(), mtu=MTU)
    device = Device(socket=str(case.dir / 'net0.sock'))
    with built_by(build):
        product = Bulkhead(case, [device], netns)
    pid = product.pid_of('net')
    bind(pid, DEVICE_CPU)
    yield device.socket, pid, None


@contextmanager
def theirs(case, _, netns=None):
    netns.add_tap(addresses=())
    device = Device(socket=str(case.dir / 'net0.sock'))
    peer = StandIn(case, [device], netns).testpmd
    netns.ip('link', 'set', 'tap0', 'mtu', MTU)
    peer.stop_forwarding()
    bind(peer.pid, DEVICE_CPU)
    yield device.socket, peer.pid, peer


@contextmanager
def line(case, build, served=None, size=64, turned=False, burst=None):
    need_cpus()
    netns = Netns(case)
    with served(case, build, netns=netns) as (socket, pid, peer):
        quieten(netns)
        if turned:
            send_back(netns)
        driver = Driver(case, socket, 'io' if turned else 'txonly', size, burst)

        def count():
            return driver.count('RX-packets') if turned else netns.counters('tap0')['rx_packets']

        def turn(seconds):
            if peer:
                peer.start()
            try:
                rate, cpu = driver.turn(seconds, pid, count)
            finally:
                if peer:
                    peer.stop_forwarding()
            return {'rate': rate / 1e6, 'cpu': cpu, 'latency': 1e6 / rate}
        yield turn


@contextmanager
def raw(case, build, size=64, turned=False):
    need_cpus()
    netns = Netns(case)
    netns.add_tap(addresses=(), mtu=MTU)
    quieten(netns)
    if turned:
        send_back(netns)
    program = bench_program(build, 'bench-tap')

    def turn(seconds):
        argv = on_cpu(DEVICE_CPU, program, 'tap0', 'turn' if turned else 'out', size, seconds)
        done = subprocess.run(netns.argv(*argv), capture_output=True, text=True, check=True, timeout=60 * env.TIME_FACTOR)
        rate, cpu = map(float, done.stdout.split())
        return {'rate': rate / 1e6, 'cpu': cpu}
    yield turn


def cells():
    for name in ('out', 'turn'):
        for size in SIZES:
            given = {'size': size, 'turned': name == 'turn'}
            figures = [Figure('rate', 'Mpps', 'higher', {NET_TAP: 1.0, RAW: 0.85}),
                       Figure('cpu', 'ns a frame', 'lower', {NET_TAP: 1.0})]
            yield Cell('tap', f'{name}-{size}', figures, {
                OURS: partial(line, served=ours, **given), NET_TAP: partial(line, served=theirs, **given),
                RAW: partial(raw, **given)},
                notes=['frames from the kernel alone are not measured: who makes them would need a third CPU'])
    given = {'turned': True, 'burst': 1}
    figures = [Figure('latency', 'us there and back', 'lower', {NET_TAP: 1.0}), Figure('cpu', 'ns a frame', 'lower')]
    yield Cell('latency', 'one frame in flight', figures,
               {OURS: partial(line, served=ours, **given), NET_TAP: partial(line, served=theirs, **given)})
