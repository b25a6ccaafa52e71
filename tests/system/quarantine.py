#!/usr/bin/env python3
"""Quarantine under a real systemd: what kills a process three times running stops its device, no unit, and can be released.

Needs a build with -Dfault-points=true.
"""

import json
import os
import socket
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test.report import case, main, wait_until
from bulkhead_test.systemd import UNITS, Systemd

GET_FEATURES, SET_FEATURES, RESET_OWNER, SET_PROTOCOL_FEATURES, SET_STATUS = 1, 2, 4, 16, 39
F_PROTOCOL_FEATURES, PF_STATUS = 1 << 30, 1 << 16
DEADLY_STATUS = 77
SIGSEGV = 11
DEVICE = '[device {0}]\ntype = net\nsocket = /run/vm1/{0}.sock\nbackend = echo\n'
FAULTS = '/run/faults'


def connect(system, device):
    line = socket.socket(socket.AF_UNIX)
    line.connect(system.path(f'/run/vm1/{device}.sock'))
    line.settimeout(20)
    return line


def say(line, request, payload=b''):
    line.sendall(struct.pack('III', request, 1, len(payload)) + payload)


def say_status(line, status):
    say(line, SET_FEATURES, struct.pack('Q', F_PROTOCOL_FEATURES))
    say(line, SET_PROTOCOL_FEATURES, struct.pack('Q', PF_STATUS))
    say(line, SET_STATUS, struct.pack('Q', status))


def answers(line):
    say(line, GET_FEATURES)
    return len(line.recv(64)) == 20


def quarantine(system, device='net0'):
    status = json.loads(system.run('bulkheadctl', 'status', '--json', check=False))
    return next((entry['quarantine'] for entry in status['guests'][0]['devices'] if entry['name'] == device), None)


def faulty(current):
    """A system whose processes die where the file says, with a device beside the one under test."""
    system = Systemd(current, DEVICE.format('net0') + DEVICE.format('witness'))
    order(system, '')
    for role in UNITS:
        parts = Path(system.path(f'/run/systemd/system/bulkhead-{role}@.service.d'))
        parts.mkdir(parents=True)
        (parts / 'faults.conf').write_text(f'[Service]\nEnvironment=BULKHEAD_FAULTS={FAULTS}\nReadWritePaths=/run\n')
    system.run('systemctl', 'daemon-reload')
    system.run('systemctl', 'restart', 'bulkhead.target')
    there(system)
    return system


def there(system):
    wait_until(lambda: all(system.run('systemctl', 'is-active', unit, check=False) == 'active'
                           for unit in (*UNITS.values(), 'bulkhead-net@vm1:witness')), 'every unit is active', 30)


def order(system, line, times=10):
    path = Path(system.path(FAULTS))
    path.write_text(f'{line}\n' * times)
    os.chmod(path, 0o666)


def left(system):
    return sum(1 for line in Path(system.path(FAULTS)).read_text().splitlines() if line and not line.startswith('#'))


def check(current, fault, kill, told):
    system = faulty(current)
    witness, line = connect(system, 'witness'), connect(system, 'net0')
    assert answers(witness) and answers(line)
    order(system, fault)
    kill(line)
    said = wait_until(lambda: quarantine(system), 'the device is in quarantine', 30)
    assert told in said and 'SIGSEGV' in said and '3 times running' in said, said
    assert left(system) == 7, f'{10 - left(system)} deaths'
    there(system)
    assert answers(witness), 'the other device is served on'
    assert quarantine(system, 'witness') == ''
    order(system, '')
    system.run('bulkheadctl', 'release', 'vm1', 'net0')
    wait_until(lambda: quarantine(system) == '', 'it is released')
    line.close()
    assert answers(connect(system, 'net0')), 'and serves the next VMM'
    assert answers(witness)
    current.note(said)


@case('quarantine-frontend', 120)
def frontend(current):
    check(current, f'frontend {RESET_OWNER} {SIGSEGV}', lambda line: say(line, RESET_OWNER), 'frontend: message RESET_OWNER')


@case('quarantine-memory', 120)
def memory(current):
    check(current, f'memory {DEADLY_STATUS} {SIGSEGV}', lambda line: say_status(line, DEADLY_STATUS), 'memory manager: a record')


@case('quarantine-worker', 120)
def worker(current):
    check(current, f'apply {DEADLY_STATUS} {SIGSEGV}', lambda line: say_status(line, DEADLY_STATUS), 'worker: generation')


if __name__ == '__main__':
    main()
