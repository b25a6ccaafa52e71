#!/usr/bin/env python3
"""Operators' mistakes: one line that says what is wrong and what to do, and a status that is not 0."""

import socket
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device, libexec_env
from bulkhead_test.netns import Netns
from bulkhead_test.report import case, main, wait_until


def run(current, text, netns=None, name='vm.conf'):
    """Status and output of `bulkhead run` on a file that cannot be served."""
    path = current.dir / name
    path.write_text(text)
    argv = [str(env.product('bulkhead')), 'run', f'--runtime-dir={current.dir}/r', str(path)]
    if netns:
        argv = netns.argv(*argv)
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=30, check=False,
                          env={**env.os.environ, **libexec_env()})
    return done.returncode, done.stderr


def refused(current, text, *words, netns=None):
    status, output = run(current, text, netns)
    assert status != 0, f'status 0: {output}'
    lines = [line for line in output.splitlines() if all(word in line for word in words)]
    assert len(lines) == 1, f'not one line with {words}: {output}'


def section(**keys):
    return '[device net0]\n' + ''.join(f'{key.replace("_", "-")} = {value}\n' for key, value in keys.items())


@case('mistakes-config', 60)
def config(current):
    good = {'type': 'net', 'socket': f'{current.dir}/s', 'backend': 'echo'}
    refused(current, section(**good, taap='x'), 'vm.conf:5:', "'taap'", "did you mean 'tap'")
    refused(current, section(**{**good, 'backend': 'taps'}), 'vm.conf:4:', "did you mean 'tap'")
    refused(current, section(**{**good, 'type': 'nett'}), "did you mean 'net'")
    refused(current, section(**good, mac='ff:00:00:00:00:00'), 'vm.conf:5:', 'unicast')
    refused(current, section(**good, mtu='12'), 'vm.conf:5:', '68')
    refused(current, section(**good, queue_pairs='65'), 'vm.conf:5:', '64')
    refused(current, section(**{**good, 'socket': 'relative'}), 'absolute')
    refused(current, section(**{**good, 'socket': '/' + 'x' * 120}), '107')
    refused(current, section(**good) + section(**good), 'given twice')
    refused(current, section(**{**good, 'backend': 'tap'}), 'tap = INTERFACE')
    refused(current, '', 'at least one device')
    refused(current, section(**good) + 'nonsense\n', 'vm.conf:5:', 'key = value')
    status, output = run(current, section(**good, a='1', b='2'))
    assert status and 'vm.conf:5:' in output and 'vm.conf:6:' in output, f'both errors are told: {output}'


@case('mistakes-tap', 60)
def tap(current):
    netns = Netns(current)
    netns.add_tap('tap0')
    keys = {'type': 'net', 'socket': f'{current.dir}/s'}
    refused(current, section(**keys, tap='nosuch'), "tap 'nosuch' does not exist", 'ip tuntap add', netns=netns)
    refused(current, section(**keys, tap='lo'), "'lo' is not a tap", netns=netns)
    refused(current, section(**keys, tap='tap0', queue_pairs=2), 'multi_queue', netns=netns)
    Bulkhead(current, [Device(socket=f'{current.dir}/first')], netns)
    refused(current, section(**keys, tap='tap0'), "tap 'tap0' is in use", netns=netns)


@case('mistakes-socket', 60)
def socket_(current):
    keys = {'type': 'net', 'backend': 'echo'}
    path = f'{current.dir}/held'
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(path)
        held.listen(1)
        refused(current, section(**keys, socket=path), path, 'live process')
    refused(current, section(**keys, socket=f'{current.dir}/no/such'), 'directory')


@case('mistakes-second-vmm', 60)
def second(current):
    device = Device(socket=f'{current.dir}/net0.sock', backend='echo')
    product = Bulkhead(current, [device])
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two:
        one.connect(device.socket)
        wait_until(lambda: product.status()['guests'][0]['devices'][0]['vmm_connected'], 'the first is there')
        two.settimeout(5)
        two.connect(device.socket)
        assert two.recv(1) == b'', 'the second is sent away'
        assert product.status()['guests'][0]['devices'][0]['vmm_connected'], 'the first is still there'
    wait_until(lambda: 'second' in product.process.output(), 'a line about it')


@case('mistakes-one-guest-of-two', 60)
def two_guests(current):
    good, bad = current.dir / 'good.conf', current.dir / 'bad.conf'
    good.write_text(section(type='net', backend='echo', socket=f'{current.dir}/good.sock'))
    bad.write_text(section(type='net', backend='echo', socket=f'{current.dir}/no/such.sock'))
    child = subprocess.Popen([str(env.product('bulkhead')), 'run', f'--runtime-dir={current.dir}/r', str(bad), str(good)],
                             stderr=subprocess.PIPE, text=True, env={**env.os.environ, **libexec_env()})
    try:
        wait_until(lambda: (current.dir / 'good.sock').exists(), 'the good guest is served')
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(current.dir / 'good.sock'))
    finally:
        child.terminate()
        output = child.communicate(timeout=10)[1]
    assert child.returncode != 0 and 'guest bad is not served' in output, output


if __name__ == '__main__':
    main()
