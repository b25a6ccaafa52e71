#!/usr/bin/env python3
"""What an operator reads in the journal and in `systemctl status`, and the level of the log at run time."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.report import case, main, wait_until
from bulkhead_test.systemd import Systemd
from bulkhead_test.testpmd import virtio_user

ECHO = '[device net0]\ntype = net\nsocket = /run/vm1/net0.sock\nbackend = echo\n'
EVENTS = dict(re.findall(r'^EVENT\((\w+),\s*"([0-9a-f]{32})"\)', (env.SOURCE / 'common/base/events.def').read_text(), re.M))
RELEASE = re.search(r"version: '([^']+)'", (env.SOURCE / 'meson.build').read_text()).group(1)


def entries(system, role, event):
    """The lines of that role about that event."""
    system.run('journalctl', '--sync', check=False)
    lines = system.run('journalctl', '-o', 'json', f'BULKHEAD_ROLE={role}', f'MESSAGE_ID={EVENTS[event]}', check=False)
    return [json.loads(line)['MESSAGE'] for line in lines.splitlines() if line.startswith('{')]


def said(system, role, event, *words):
    def there():
        return [line for line in entries(system, role, event) if all(re.search(word, line) for word in words)]
    return wait_until(there, f'{role} says {words} of {event}', 20)


@case('journal-starts', 240)
def starts(current):
    """Release, features and pause at each start; events have an entry in the catalogue; the status line says what is served."""
    system = Systemd(current, ECHO)
    system.all_there()
    for role in system.units:
        said(system, role, 'SERVES', rf'version {re.escape(RELEASE)} ')
    said(system, 'net', 'SERVES', 'serves echo, no ring runs')
    front_end = virtio_user(current, system.path('/run/vm1/net0.sock'))
    front_end.start(tx_first=4)
    front_end.wait_packets('RX-packets', 100)
    said(system, 'net', 'NEGOTIATED', r'\bVERSION_1\b', r'\bMRG_RXBUF\b')
    wait_until(lambda: 'echo, 2 of' in system.run('systemctl', 'show', '-p', 'StatusText', system.units['net']),
               'systemctl status says what runs', 20)
    assert 'Status: "echo, 2 of' in system.run('systemctl', 'status', system.units['net'])
    system.run('systemctl', 'reload', system.units['net'])
    said(system, 'net', 'SERVES', r'resumed after \d+\.\d ms', r'\bVERSION_1\b')
    system.all_there()
    system.kill('net')
    said(system, 'net', 'SERVES', r'resumed \d+\.\d ms after its start', r'\bVERSION_1\b')
    front_end.quit()
    system.all_there()
    # a planned stop is no error
    system.run('systemctl', 'stop', system.units['memory'])
    system.run('systemctl', 'start', system.units['memory'])
    said(system, 'net', 'ANEW', 'memory manager was stopped')
    system.all_there()
    errors = system.run('journalctl', '-o', 'cat', '-p', 'err', 'BULKHEAD_GUEST=vm1', check=False)
    assert not [line for line in errors.splitlines() if 'record' in line or 'Stale' in line], errors
    system.run('journalctl', '--update-catalog')
    for event in EVENTS.values():
        text = system.run('journalctl', '--dump-catalog', event)
        assert 'Defined-By: bulkhead' in text and len(text.splitlines()) > 5, text


@case('journal-level', 60)
def level(current):
    """Lines for debugging come and go while a process runs; it is not restarted, and others say nothing."""
    product = Bulkhead(current, [Device(socket=f'{current.dir}/s', backend='echo')])
    product.process.wait_output('is served')
    pid = product.pid_of('net')

    def n_lines():
        return product.process.output().count('bulkhead-net[vm:net0]: generation ')

    def connect():
        front_end = virtio_user(current, f'{current.dir}/s', f'front-end-{os.urandom(2).hex()}')
        front_end.start(tx_first=4)
        front_end.wait_packets('RX-packets', 100)
        front_end.quit()
    connect()
    assert n_lines() == 0, product.process.output()
    product.ctl('log-level', 'vm:net0', 'debug')
    product.process.wait_output('bulkhead-net[vm:net0]: lines for debugging are shown')
    connect()
    wait_until(n_lines, 'it says more')
    product.ctl('log-level', 'vm', 'info')
    product.process.wait_output('bulkhead-net[vm:net0]: lines for debugging are not shown')
    before = n_lines()
    connect()
    assert n_lines() == before, product.process.output()
    assert product.pid_of('net') == pid and 'bulkhead-memory[vm]: lines for debugging are shown' not in product.process.output()
    for argv, wanted, words in ((('vm', 'loud'), 1, 'debug or info'), (('vm:nosuch', 'debug'), 1, 'no process nosuch'), (('vm',), 2, 'needs')):
        done = subprocess.run([str(env.product('bulkheadctl')), f'--runtime-dir={product.runtime}', 'log-level', *argv],
                              capture_output=True, text=True, check=False)
        assert done.returncode == wanted and words in done.stderr, done


if __name__ == '__main__':
    main()
