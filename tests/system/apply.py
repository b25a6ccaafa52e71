#!/usr/bin/env python3
"""Changes of the configuration under a real systemd, faulty ones among them: what runs stays, and apply touches what changed."""

import os
import shutil
import socket
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.report import case, main, wait_until
from bulkhead_test.systemd import UNITS, Systemd

GET_FEATURES = 1
USO = 1 << 54 # VIRTIO_NET_F_GUEST_USO4
DEVICE = '[device {device}]\ntype = net\nsocket = /run/{guest}/{device}.sock\nbackend = echo\n'
TAP = '[device {device}]\ntype = net\nsocket = /run/{guest}/{device}.sock\ntap = {tap}\n'


def device(guest='vm1', name='net0', more=''):
    return DEVICE.format(guest=guest, device=name) + more


def file(system, guest):
    return Path(system.path(f'/etc/bulkhead/{guest}.conf'))


def ask_features(line):
    line.sendall(struct.pack('III', GET_FEATURES, 1, 0))
    data = line.recv(64)
    assert len(data) == 20, f'answer of {len(data)} bytes'
    return struct.unpack('Q', data[12:])[0]


def connect(system, path):
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(30)
    line.connect(system.path(path))
    ask_features(line)
    return line


def state(system, unit):
    return system.run('systemctl', 'is-active', unit, check=False)


def cpu_ticks(system, role):
    with open(f'/proc/{system.host_pid(role)}/stat', encoding='ascii') as stat:
        return sum(int(word) for word in stat.read().rpartition(')')[2].split()[11:13])


def main_pid(system, unit):
    return int(system.run('systemctl', 'show', '-p', 'MainPID', '--value', unit))


def said_by(system, unit):
    return system.run('journalctl', '--no-pager', '-o', 'cat', '-u', unit)


def break_by_folder(path):
    path.unlink()
    path.mkdir()


def break_by_link(path):
    path.unlink()
    path.symlink_to('nowhere')


# how a file becomes faulty, and what is said of it
FAULTS = {
    'typo': (lambda path: path.write_text(device().replace('backend', 'bakend')), "did you mean 'backend'"),
    'half': (lambda path: path.write_text(device()[:24]), "has no 'socket'"),
    'empty': (lambda path: path.write_text(''), 'no [device NAME] section'),
    'wide': (lambda path: path.write_text(device(), encoding='utf-16'), 'is in UTF-16; save it as UTF-8'),
    'folder': (break_by_folder, 'no text file'),
    'link': (break_by_link, 'cannot be read'),
    'gone': (lambda path: path.unlink(), 'was removed'),
}


SAMPLE = ('typo', 'folder', 'gone') # of an ordinary run


def mend(path):
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_text(device())


@case('apply-faults', 240, turn='long')
def faults(current):
    """A file that is faulty now: units, processes and VMs do not notice, and the operator does."""
    system = Systemd(current, device())
    system.all_there()
    path = file(system, 'vm1')
    with connect(system, '/run/vm1/net0.sock') as line:
        for name, (spoil, words) in FAULTS.items():
            if name not in SAMPLE and not env.FULL:
                continue
            spoil(path)
            wait_until(lambda words=words: words in said_by(system, 'bulkhead-check.service'), f'{name}: it is said', 20)
            wait_until(lambda: state(system, 'bulkhead-check.service') == 'failed', f'{name}: the check has failed', 20)
            assert words in system.run('systemctl', 'status', 'bulkhead-check.service', check=False), name
            system.run('systemctl', 'daemon-reload')
            system.run('systemctl', 'kill', '--signal=KILL', *UNITS.values())
            system.all_there_of({'vm1': 1})
            assert ask_features(line), name
            system.run('systemctl', 'restart', 'bulkhead.target')
            system.all_there_of({'vm1': 1})
            said = system.run('bulkheadctl', 'upgrade', 'vm1')
            assert 'vm1:net0 pid' in said, said
            assert ask_features(line), name
            assert system.run('bulkheadctl', 'check', check=False) == '', name
            if name != 'gone':
                before = {unit: main_pid(system, unit) for unit in UNITS.values()}
                system.run('bulkheadctl', 'apply', check=False)
                assert {unit: main_pid(system, unit) for unit in before} == before, f'{name}: apply touched what runs'
            with socket.socket(socket.AF_UNIX) as other:
                other.connect(system.path('/run/vm1/net0.sock'))
            mend(path)
            system.run('systemctl', 'daemon-reload')
            wait_until(lambda: state(system, 'bulkhead-check.service') == 'inactive', f'{name}: the check is content', 20)
    assert system.run('bulkheadctl', 'check') == '1 file is good'


@case('apply-tap', 120, turn='short')
def tap(current):
    """A TAP that is not there holds up nothing, is waited for in silence, and is served once it comes."""
    system = Systemd(current, TAP.format(guest='vm1', device='net0', tap='late0'))
    system.all_there_of({'vm1': 1})
    started = time.monotonic()
    system.run('systemctl', 'restart', 'bulkhead.target')
    current.note(f'restarted within {time.monotonic() - started:.1f} s')
    assert 'tap late0 (gone)' in system.run('bulkheadctl', 'status', check=False)
    with connect(system, '/run/vm1/net0.sock') as line:
        said = said_by(system, UNITS['net'])
        assert "tap 'late0' does not exist in our network namespace; create it" in said, said
        pid, ticks = system.pid('net'), cpu_ticks(system, 'net')
        time.sleep(5)
        assert said_by(system, UNITS['net']) == said, 'it says nothing more'
        assert cpu_ticks(system, 'net') == ticks, 'it does nothing'
        system.run('ip', 'tuntap', 'add', 'dev', 'late0', 'mode', 'tap', 'vnet_hdr', 'user', system.user('vm1:net0'))
        wait_until(lambda: 'tap late0 (down)' in system.run('bulkheadctl', 'status', check=False), 'it has the TAP', 20)
        system.netns().set_up('late0')
        wait_until(lambda: 'tap late0 (up)' in system.run('bulkheadctl', 'status'), 'the TAP is up', 20)
        assert system.pid('net') == pid, 'without a restart'
        system.run('systemctl', 'restart', UNITS['net'])
        system.all_there()
        assert ask_features(line) & USO, 'a restart offers what the TAP can do'


@case('apply-bounded', 120, turn='long')
def bounded(current):
    """What cannot start is tried again for ever, and whoever starts it waits for a limited time only."""
    system = Systemd(current, device())
    system.all_there()
    net = Path(system.path('/etc/systemd/system/bulkhead-net@.service.d'))
    target = Path(system.path('/etc/systemd/system/bulkhead.target.d'))
    program = system.run('systemctl', 'show', '-p', 'ExecStart', '--value', UNITS['net']).split('path=')[1].split()[0]
    assert system.run('systemctl', 'show', '-p', 'JobTimeoutUSec', '--value', 'bulkhead.target') == '5min'
    target.mkdir()
    for broken, limit in ((f'{program} --instance=%I --config=/nowhere.conf', ''), ('/bin/false', 'JobTimeoutSec=3')):
        system.run('systemctl', 'stop', 'bulkhead.target')
        net.mkdir()
        (net / 'broken.conf').write_text(f'[Service]\nExecStart=\nExecStart={broken}\n')
        (target / 'limit.conf').write_text(f'[Unit]\n{limit}\n')
        system.run('systemctl', 'daemon-reload')
        system.run('systemctl', 'start', 'bulkhead.target', check=not limit)
        assert state(system, UNITS['frontend']) == 'active', broken
        shutil.rmtree(net)
        system.run('systemctl', 'daemon-reload')
        system.all_there()


@case('apply-clash', 120, turn='short')
def clash(current):
    """Two guests that want the same: the one that runs keeps it, or else the first by name."""
    system = Systemd(current, device())
    system.all_there()
    Path(system.path('/run/alias')).symlink_to('vm1')
    with connect(system, '/run/vm1/net0.sock') as line:
        for spelling in ('/run/vm1/net0.sock', '/run//vm1/./net0.sock', '/run/alias/net0.sock', '/run/nowhere/../vm1/net0.sock'):
            for guest in ('vm0', 'vm2'):
                file(system, guest).write_text(device().replace('/run/vm1/net0.sock', spelling))
                words = f'/etc/bulkhead/{guest}.conf:3: [device net0] has the socket /run/vm1/net0.sock, which is that of vm1:net0'
                system.run('systemctl', 'daemon-reload')
                assert system.run('systemctl', 'list-units', '--all', '--no-legend', f'bulkhead-*@{guest}*') == '', spelling
                refused(system, words, 'check')
                refused(system, words, 'apply', guest)
                refused(system, words, 'check', f'/etc/bulkhead/{guest}.conf')
                file(system, guest).unlink()
        for key, command in (('group', 'groupadd'), ('user', 'useradd')):
            file(system, 'vm1').write_text(device(more=f'socket-{key} = nosuch\n'))
            words = f'vm1.conf:1: [device net0] socket-{key} = nosuch: there is no such {key}; create it ({command} --system nosuch)'
            refused(system, words, 'check')
            refused(system, words, 'apply', 'vm1')
        assert ask_features(line)
    assert os.path.exists(system.path('/run/vm1/net0.sock'))


def refused(system, words, *argv):
    done = system.run('sh', '-c', 'if bulkheadctl "$@" 2>&1; then echo IT WAS DONE; fi', 'sh', *argv)
    assert words in done and 'IT WAS DONE' not in done, f'{argv}: {done}'


def unit_names(guest, *devices):
    return [f'bulkhead-{role}@{guest}.service' for role in env.ROLES_OF_GUEST] + [
        f'bulkhead-net@{guest}:{name}.service' for name in devices]


def pids(system, names):
    return {name: main_pid(system, name) for name in names}


def changed(system, before):
    """The units whose process is another one, shortened."""
    return {name.removeprefix('bulkhead-').removesuffix('.service') for name, pid in before.items() if main_pid(system, name) != pid}


SHARED = {'memory@vm1', 'frontend@vm1', 'snapshot@vm1'} # they know all devices of the guest


@case('apply-changes', 240)
def changes(current):
    """Each change touches what it is about, and nothing else."""
    system = Systemd(current, device())
    file(system, 'vm2').write_text(device('vm2'))
    said = system.run('bulkheadctl', 'apply')
    assert 'vm1: nothing to do' in said and 'vm2:net0: start' in said, said
    system.all_there_of({'vm1': 1, 'vm2': 1})
    others, own = unit_names('vm2', 'net0'), unit_names('vm1', 'net0')
    neighbours, before = pids(system, others), pids(system, own)

    def apply(text, *words, touched):
        """Put a text into force; the dry run has said the same, and done nothing."""
        nonlocal before
        file(system, 'vm1').write_text(text)
        planned = system.run('bulkheadctl', 'apply', 'vm1', '--dry-run')
        assert changed(system, before) == set(), 'a dry run'
        said = system.run('bulkheadctl', 'apply', 'vm1')
        assert said == planned, f'{planned} and then {said}'
        for word in words:
            assert word in said, said
        assert changed(system, before) == touched, f'{changed(system, before)} changed; it said {said}'
        assert changed(system, neighbours) == set(), 'another guest was touched'
        assert system.run('bulkheadctl', 'apply', 'vm1') == 'vm1: nothing to do'
        before = pids(system, own)

    with connect(system, '/run/vm1/net0.sock') as line, connect(system, '/run/vm2/net0.sock') as other:
        apply('# a comment\n' + device(), 'nothing to do', touched=set())
        apply(device() + device(name='net1'), 'vm1:net1: start', 'vm1:net1: listen on /run/vm1/net1.sock', touched=SHARED)
        system.all_there_of({'vm1': 2, 'vm2': 1})
        connect(system, '/run/vm1/net1.sock').close()
        apply(device(more='mtu = 9000\n') + device(name='net1'), 'vm1:net0: restart', touched={'net@vm1:net0'})
        system.all_there_of({'vm1': 2, 'vm2': 1})
        apply(device(more='mtu = 9000\n') + device(name='net1').replace('net1.sock', 'other.sock'),
              'vm1:net1: listen on /run/vm1/other.sock', touched=SHARED)
        system.all_there_of({'vm1': 2, 'vm2': 1})
        connect(system, '/run/vm1/other.sock').close()
        assert not os.path.exists(system.path('/run/vm1/net1.sock')), 'the former socket is gone'
        apply(device(more='mtu = 9000\n') + device(name='net1', more='socket-group = daemon\n').replace('net1.sock', 'other.sock'),
              touched=SHARED)
        assert os.stat(system.path('/run/vm1/other.sock')).st_gid == 1, 'the new group has the socket'
        with connect(system, '/run/vm1/other.sock') as ended:
            apply(device(), 'vm1:net1: stop; a VMM is connected, and loses the device', 'vm1:net1: no longer listen',
                  touched=SHARED | {'net@vm1:net0'})
            assert ended.recv(1) == b'', 'its VMM is told'
        assert not os.path.exists(system.path('/run/vm1/other.sock'))
        system.all_there_of({'vm1': 1, 'vm2': 1})
        assert ask_features(line) and ask_features(other)
        file(system, 'vm1').unlink()
        assert 'vm1:net0: no longer listen' in system.run('bulkheadctl', 'apply')
        assert line.recv(1) == b''
        assert not os.path.exists(system.path('/run/vm1/net0.sock')), 'nobody listens for a guest that is gone'
        assert all(state(system, unit) == 'inactive' for unit in own)
        assert ask_features(other) and changed(system, neighbours) == set()


@case('apply-heals', 120, turn='long')
def heals(current):
    """Whatever should run and does not is started."""
    system = Systemd(current, device())
    system.all_there()
    for unit in ('bulkhead-frontend@vm1:net0.socket', *UNITS.values()):
        with connect(system, '/run/vm1/net0.sock'):
            system.run('systemctl', 'stop', unit)
            assert 'nothing to do' not in system.run('bulkheadctl', 'apply', 'vm1'), unit
            system.all_there()
    connect(system, '/run/vm1/net0.sock').close()


@case('apply-boot', 120, turn='short')
def boot(current):
    """The order at boot and power-off, and a warning where a stop takes a device from a VMM."""
    system = Systemd(current, device())
    system.all_there()
    before = system.run('systemctl', 'show', '-p', 'Before', '--value', 'bulkhead.target').split()
    for unit in ('libvirtd.service', 'virtqemud.service', 'libvirt-guests.service', 'machine.slice'):
        assert unit in before, f'{unit} is not after bulkhead.target'
    for unit in UNITS.values():
        after = system.run('systemctl', 'show', '-p', 'After', '--value', unit).split()
        assert 'network.target' in after, f'{unit} is not after the network'
        assert 'bulkhead.target' in system.run('systemctl', 'show', '-p', 'Before', '--value', unit).split(), unit
    system.run('systemctl', 'enable', 'bulkhead.target')
    assert 'bulkhead.target' in system.run('systemctl', 'show', '-p', 'Wants', '--value', 'multi-user.target').split()
    with connect(system, '/run/vm1/net0.sock'):
        system.run('systemctl', 'restart', UNITS['frontend'])
        system.all_there()
        system.run('bulkheadctl', 'upgrade', 'vm1:frontend')
        assert 'has lost the device' not in said_by(system, UNITS['frontend']), 'a restart takes nothing away'
        system.run('systemctl', 'stop', 'bulkhead.target')
        wait_until(lambda: 'guest vm1 was stopped while a VMM was connected to net0: the VMM has lost the device' in
                   said_by(system, UNITS['frontend']), 'the journal warns', 20)
    system.run('systemctl', 'start', 'bulkhead.target')
    system.all_there()
    count = said_by(system, UNITS['frontend']).count('has lost the device')
    system.run('systemctl', 'stop', 'bulkhead.target')
    assert said_by(system, UNITS['frontend']).count('has lost the device') == count == 1, 'nobody was connected'


WITNESS = """[Unit]
{order}
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/sh -c 'sleep 1; systemctl is-active {units} >/etc/{name}.seen'
"""


@case('apply-power-off', 120, turn='short')
def power_off(current):
    """VMs end first, then their devices, then the network: what stand-ins for libvirt's and the network's units see as they stop."""
    system = Systemd(current, device())
    system.all_there()
    units = {'libvirt-guests': [*UNITS.values(), 'bulkhead-frontend@vm1:net0.socket'], 'networking': UNITS.values()}
    for name, order in (('libvirt-guests', ''), ('networking', 'Before=network.target\nWants=network.target')):
        Path(system.path(f'/etc/systemd/system/{name}.service')).write_text(
            WITNESS.format(order=order, name=name, units=' '.join(units[name])))
    # all of a power-off but its last step
    Path(system.path('/etc/systemd/system/down.target')).write_text('[Unit]\nDefaultDependencies=no\nRequires=shutdown.target\n')
    system.run('systemctl', 'daemon-reload')
    system.run('systemctl', 'start', 'networking', 'libvirt-guests')
    system.run('systemctl', 'start', '--no-block', '--job-mode=replace-irreversibly', 'down.target')

    def seen(name):
        path = Path(system.path(f'/etc/{name}.seen'))
        return path.exists() and len(path.read_text().split()) == len(units[name])
    wait_until(lambda: seen('libvirt-guests') and seen('networking'), 'both have been stopped', 60)
    states = {name: set(Path(system.path(f'/etc/{name}.seen')).read_text().split()) for name in ('libvirt-guests', 'networking')}
    assert states['libvirt-guests'] == {'active'}, f'while VMs end, devices are {states["libvirt-guests"]}'
    assert 'active' not in states['networking'], f'when the network goes down, devices are {states["networking"]}'


if __name__ == '__main__':
    main()
