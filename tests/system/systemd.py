#!/usr/bin/env python3
"""The units under a real systemd: each process as its own user, and a restart of one is a restart of one."""

import socket
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test.report import case, main, wait_until
from bulkhead_test.systemd import UNITS, Systemd

GET_FEATURES = 1


def ask_features(line):
    line.sendall(struct.pack('III', GET_FEATURES, 1, 0))
    data = line.recv(64)
    assert len(data) == 20, f'answer of {len(data)} bytes'
    return struct.unpack('Q', data[12:])[0]


@case('systemd-units', 120)
def units(current):
    system = Systemd(current, '[device net0]\ntype = net\nsocket = /run/vm1/net0.sock\nbackend = echo\n')
    for role in UNITS:
        wait_until(lambda role=role: system.run('systemctl', 'is-active', UNITS[role], check=False) == 'active',
                   f'{role} is active', 20)
        user = system.run('ps', '-o', 'user:32=', '-p', str(system.pid(role)))
        assert user == f'bulkhead-{role}', f'{role} runs as {user}'
    path = f'/proc/{system.init}/root/run/vm1/net0.sock'
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(20)
        line.connect(path)
        features = ask_features(line)
        for role in UNITS:
            before = {other: system.pid(other) for other in UNITS}
            system.run('kill', '-9', str(before[role]))
            wait_until(lambda role=role, before=before: system.pid(role) not in (0, before[role]) and
                       system.run('systemctl', 'is-active', UNITS[role], check=False) == 'active',
                       f'{role} is started again', 20)
            assert ask_features(line) == features, 'the VMM\'s connection goes on'
            for other in UNITS:
                assert other == role or system.pid(other) == before[other], f'{other} was restarted, too'
        system.run('systemctl', 'restart', UNITS['net'])
        assert ask_features(line) == features, 'after systemctl restart'
    status = system.run('bulkheadctl', 'status')
    assert 'device net0: net, echo' in status, status


if __name__ == '__main__':
    main()
