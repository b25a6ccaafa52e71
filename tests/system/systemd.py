#!/usr/bin/env python3
"""The units under a real systemd: each process as its own user, and a restart of one is a restart of one."""

import json
import os
import re
import socket
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.caller import Caller
from bulkhead_test.qemu import NetDevice, Qemu
from bulkhead_test.report import case, main, wait_until
from bulkhead_test.systemd import UNITS, Systemd
from bulkhead_test.tcp import MIB, Transfer
from bulkhead_test.transfers import Operator

GET_FEATURES = 1
STORM = 12
ECHO = '[device net0]\ntype = net\nsocket = /run/vm1/net0.sock\nbackend = echo\n'


def ask_features(line):
    line.sendall(struct.pack('III', GET_FEATURES, 1, 0))
    data = line.recv(64)
    assert len(data) == 20, f'answer of {len(data)} bytes'
    return struct.unpack('Q', data[12:])[0]


@case('systemd-units', 120)
def units(current):
    system = Systemd(current, ECHO)
    for role in UNITS:
        wait_until(lambda role=role: system.run('systemctl', 'is-active', UNITS[role], check=False) == 'active',
                   f'{role} is active', 20)
        user = system.run('ps', '-o', 'uid=', '-p', str(system.pid(role)))
        wanted = system.user(f'vm1:{"net0" if role == "net" else role}')
        assert user == wanted, f'{role} runs as {user}, not {wanted}'
        assert '/bulkhead.slice/bulkhead-vm1.slice/' in system.run('systemctl', 'show', '-p', 'ControlGroup', UNITS[role])
    path = f'/proc/{system.init}/root/run/vm1/net0.sock'
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(path)
        line.settimeout(20)
        features = ask_features(line)
        for role in UNITS:
            before = {other: system.pid(other) for other in UNITS}
            system.kill_and_wait(role)
            wait_until(lambda role=role: system.run('systemctl', 'is-active', UNITS[role], check=False) == 'active',
                       f'{role} is active again', 20)
            assert ask_features(line) == features, 'the VMM\'s connection goes on'
            for other in UNITS:
                assert other == role or system.pid(other) == before[other], f'{other} was restarted, too'
        for role in UNITS:
            for verb in ('restart', 'reload'):
                before = {other: system.pid(other) for other in UNITS}
                system.run('systemctl', verb, UNITS[role])
                system.all_there()
                assert ask_features(line) == features, f'after {verb} of {role}'
                for other in UNITS:
                    assert (system.pid(other) == before[other]) == (other != role), f'{verb} of {role}: {other}'
        said = system.run('bulkheadctl', 'upgrade')
        current.note('; '.join(said.splitlines()))
        assert [text.split(' ')[0] for text in said.splitlines()] == ['vm1:memory', 'vm1:frontend', 'vm1:snapshot', 'vm1:net0'], said
        assert ask_features(line) == features, 'after an upgrade'
    data, error = Operator(current, Path(system.path('/run/bulkhead/vm1'))).save('net0')
    assert error == '' and b'net0' in data, f'the unit lets it move a state: {error}, {data}'
    status = system.run('bulkheadctl', 'status')
    assert 'device net0: net, echo' in status, status


@case('systemd-socket', 120)
def listens(current):
    """systemd listens: nobody finds the socket gone, whatever is restarted; the end of the target ends it."""
    system = Systemd(current, ECHO)
    system.all_there()
    path = system.path('/run/vm1/net0.sock')
    caller = Caller(path)
    try:
        for _ in range(5):
            system.kill('frontend')
            system.all_there()
            system.run('systemctl', 'restart', UNITS['frontend'])
            system.run('systemctl', 'restart', 'bulkhead.target')
            system.all_there()
    finally:
        met = caller.end()
    assert list(met) == ['accepted'], f'{met}'
    current.note(f'{met["accepted"]} connections')
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(path)
        line.settimeout(20)
        ask_features(line)
        system.run('systemctl', 'stop', 'bulkhead.target')
        assert line.recv(1) == b'', 'the end of the service ends the connection'
    wait_until(lambda: not os.path.exists(path), 'the socket is gone')
    system.run('systemctl', 'start', 'bulkhead.target')
    system.all_there()
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(path)
        line.settimeout(20)
        ask_features(line)


@case('systemd-devices', 120)
def devices(current):
    """A device more in a guest's file, and one less: what the others have stays."""
    system = Systemd(current, ECHO)
    system.all_there()
    config = Path(system.path('/etc/bulkhead/vm1.conf'))

    def put_in_force(n_processes):
        system.run('bulkheadctl', 'apply')
        wait_until(lambda: system.run('bulkheadctl', 'status', check=False).count(' pid ') == n_processes,
                   f'{n_processes} processes are there', 30)
    with socket.socket(socket.AF_UNIX) as line, socket.socket(socket.AF_UNIX) as other:
        for each in (line, other):
            each.settimeout(20)
        line.connect(system.path('/run/vm1/net0.sock'))
        features = ask_features(line)
        stored = {role: system.stored(role) for role in UNITS}
        config.write_text(ECHO + ECHO.replace('net0', 'net1'))
        put_in_force(5)
        other.connect(system.path('/run/vm1/net1.sock'))
        ask_features(other)
        config.write_text(ECHO)
        put_in_force(4)
        assert ask_features(line) == features
        assert other.recv(1) == b'', 'its VMM is told'
        assert not os.path.exists(system.path('/run/vm1/net1.sock'))
        wait_until(lambda: {role: system.stored(role) for role in UNITS} == stored,
                   'the stores hold what they held', 20)


EXAMPLES = env.SOURCE / 'deploy/examples'


def example(name, **numbers):
    """An example of bulkhead-operations(7), with values that this machine has."""
    text = (EXAMPLES / name).read_text(encoding='utf-8')
    for key, value in numbers.items():
        text, n = re.subn(f'^{key}=.*$', f'{key}={value}', text, flags=re.M)
        assert n == 1, f'{name} does not set {key}'
    return text


@case('systemd-places', 120)
def places(current):
    """Who may connect; and the examples of bulkhead-operations(7): processors, memory, the network that systemd-networkd makes."""
    system = Systemd(current, ECHO + 'socket-user = nobody\nsocket-group = nogroup\nsocket-mode = 0660\n')
    system.all_there()
    assert system.run('stat', '-c', '%U:%G %a', '/run/vm1/net0.sock') == 'nobody:nogroup 660'
    cpu = max(os.sched_getaffinity(0))

    def put(path, text):
        path = Path(system.path(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')
    put('/etc/systemd/system/bulkhead-vm1.slice.d/50-place.conf',
        example('bulkhead-vm1.slice.conf', AllowedCPUs=cpu, AllowedMemoryNodes=0))
    put('/etc/systemd/system/bulkhead-net@vm1:net0.service.d/50-place.conf',
        example('bulkhead-net@vm1:net0.service.conf', CPUAffinity=cpu, NUMAMask=0))
    system.run('systemctl', 'daemon-reload')
    system.run('bulkheadctl', 'upgrade', 'vm1:net0')
    shown = system.run('systemctl', 'show', '-p', 'AllowedCPUs,AllowedMemoryNodes,CPUWeight', 'bulkhead-vm1.slice')
    assert sorted(shown.split()) == [f'AllowedCPUs={cpu}', 'AllowedMemoryNodes=0', 'CPUWeight=200'], shown
    worker = Path(f'/proc/{system.host_pid("net")}')
    assert f'Cpus_allowed_list:\t{cpu}\n' in (worker / 'status').read_text()
    assert ' bind' in (worker / 'numa_maps').read_text(), 'the worker\'s memory has its place'
    user = system.user('vm1:net0')
    for name in sorted(path.name for path in EXAMPLES.glob('*-*.net*')):
        put(f'/run/systemd/network/{name}', example(name, **({'User': user} if name == '10-vm1-net0.netdev' else {})))
    system.run('systemctl', 'start', 'systemd-networkd')

    def made():
        links = {link['ifname']: link for link in json.loads(system.run('ip', '-d', '-j', 'link'))}
        tap = links.get('vm1-net0')
        return tap and tap.get('master') == 'br0' and tap['linkinfo']['info_data']
    tap = wait_until(made, 'the TAP is a port of the bridge', 30)
    assert (tap['type'], tap['user'], tap['vnet_hdr'], tap['multi_queue'], tap['persist']) == ('tap', f'bh{user}', True, True, True), tap


def restarts(system, unit):
    return int(system.run('systemctl', 'show', '-p', 'NRestarts', '--value', unit))


@case('systemd-storm', 180)
def storm(current):
    """Neither kills as fast as they can be nor a time of failed starts leave a unit dead."""
    system = Systemd(current, ECHO)
    system.all_there()
    path = system.path('/run/vm1/net0.sock')
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(path)
        line.settimeout(60)
        features = ask_features(line)
        for role, unit in UNITS.items():
            for _ in range(STORM):
                system.run('systemctl', 'kill', '--signal=KILL', unit)
            system.all_there()
            assert ask_features(line) == features, f'after a storm on {role}'
        config = system.path('/run/bulkhead/.config/vm1.conf')
        with open(config, 'w', encoding='ascii') as file:
            file.write('nonsense\n')
        before = {unit: restarts(system, unit) for unit in UNITS.values()}
        system.run('systemctl', 'kill', '--signal=KILL', *before)
        wait_until(lambda: all(restarts(system, unit) > before[unit] + STORM for unit in before),
                   'every unit has tried again and again', 60)
        with open(config, 'w', encoding='ascii') as file:
            file.write(ECHO)
        system.all_there()
        assert ask_features(line) == features, 'after starts that failed'


@case('systemd-guest', 300)
def guest(current):
    """A guest's transfers through restarts of each unit, of all of them, reloads and kills, while its file is faulty."""
    system = Systemd(current, '[device net0]\ntype = net\nsocket = /run/vm1/net0.sock\nbackend = tap\ntap = vm1\n',
                     taps=['vm1'])
    netns = system.netns()
    system.all_there()
    vm = Qemu(current, [NetDevice(system.path('/run/vm1/net0.sock'))])
    vm.wait_boot()
    vm.guest.net_up()
    vm.guest.ping()
    before, carrier = vm.sockets(), vm.guest.carrier_changes()
    stored = {role: system.stored(role) for role in UNITS}
    with open(system.path('/etc/bulkhead/vm1.conf'), 'a', encoding='ascii') as file:
        file.write('typo\n')
    system.run('systemctl', 'daemon-reload')
    ways = [('systemctl', verb, unit) for verb in ('restart', 'reload') for unit in UNITS.values()] + [
        ('systemctl', 'restart', 'bulkhead.target'), ('bulkheadctl', 'upgrade')] + [
        ('systemctl', 'kill', '--signal=KILL', unit) for unit in UNITS.values()] + [
        ('systemctl', 'kill', '--signal=KILL', *UNITS.values())]
    for direction in ('from-guest', 'to-guest'):
        transfer = Transfer(netns, vm.guest, direction, 300 * MIB)
        for i, way in enumerate(ways):
            transfer.wait_progress((i + 1) * 16 * MIB)
            system.run(*way)
            system.all_there(faulty=True)
        current.note(f'{direction} {transfer.wait(180):.0f} Mbit/s')
    vm.qemu_events = vm.qmp.event_names()
    vm.check_connection(before)
    assert vm.guest.carrier_changes() == carrier, 'the guest\'s link went down'
    now = {role: system.stored(role) for role in UNITS}
    assert now == stored, f'the fd stores held {stored}, and hold {now}'


if __name__ == '__main__':
    main()
