#!/usr/bin/env python3
"""The units under a real systemd: each process as its own user, and a restart of one is a restart of one."""

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.process import Process
from bulkhead_test.report import case, main, wait_until

GET_FEATURES = 1
UNITS = {'memory': 'bulkhead-memory@vm1', 'frontend': 'bulkhead-frontend@vm1', 'net': 'bulkhead-net@vm1:net0'}


class Systemd:
    """A systemd in namespaces of its own, with what `meson install` installs."""

    def __init__(self, case, config):
        env.need_root()
        env.need_tool('unshare', 'util-linux')
        if not os.path.exists('/lib/systemd/systemd'):
            raise env.Skip('systemd is not installed')
        self.case = case
        (case.dir / 'vm1.conf').write_text(config)
        install = case.dir / 'install'
        subprocess.run(['meson', 'install', '-C', env.BUILD, '--no-rebuild', '--quiet'], check=True, capture_output=True,
                       env={**os.environ, 'DESTDIR': str(install)})
        self.process = Process(case, 'systemd', [env.SOURCE / 'tests/system/systemd-boot', case.dir, install])
        self.init = wait_until(self._find_init, 'systemd runs', 20)
        case.defer(self._end)
        wait_until(lambda: self.run('systemctl', 'is-system-running', check=False) in ('running', 'degraded'),
                   'systemd has booted', 30)
        self.run('systemd-sysusers', '/usr/lib/sysusers.d/bulkhead.conf')
        self.run('systemd-tmpfiles', '--create', '/usr/lib/tmpfiles.d/bulkhead.conf')
        self.run('mkdir', '-p', '/run/vm1')
        self.run('chown', 'bulkhead-frontend', '/run/vm1')
        self.run('systemctl', 'daemon-reload')
        self.run('systemctl', 'start', 'bulkhead.target')

    def _find_init(self):
        """PID 1 of the namespaces: the only child of unshare, once it is systemd."""
        for pid in _below(self.process.pid):
            try:
                if os.readlink(f'/proc/{pid}/exe').endswith('/systemd'):
                    return pid
            except OSError:
                pass
        return None

    def _end(self):
        self.process.stop(signal.SIGKILL)
        shutil.rmtree(self.case.dir / 't', ignore_errors=True)

    def run(self, *argv, check=True):
        done = subprocess.run(['nsenter', '-t', str(self.init), '-p', '-m', '-u', '-i', '-C', '-n', '-r', '-w', *argv],
                              capture_output=True, text=True, timeout=60, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f'{" ".join(argv)}: {done.stdout}{done.stderr}')
        return done.stdout.strip()

    def pid(self, role):
        return int(self.run('systemctl', 'show', '-p', 'MainPID', '--value', UNITS[role]))


def _below(pid):
    children = subprocess.run(['pgrep', '-P', str(pid)], capture_output=True, text=True, check=False).stdout.split()
    for child in children:
        yield int(child)
        yield from _below(int(child))


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
