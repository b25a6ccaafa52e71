#!/usr/bin/env python3
"""What `bulkheadctl status` says is so, and its exit status says whether all is well: under the launcher and under systemd."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.netns import Netns
from bulkhead_test.process import Process, kill_and_wait
from bulkhead_test.report import case, main, wait_until
from bulkhead_test.schema import mistakes_in
from bulkhead_test.systemd import Systemd

HEALTHY, UNHEALTHY, UNCLEAR, USAGE = 0, 1, 2, 2
ECHO = '[device net0]\ntype = net\nsocket = /run/vm1/net0.sock\nbackend = echo\n'
TAP = '[device net0]\ntype = net\nsocket = /run/vm1/net0.sock\ntap = tap7\n'


class Look:
    """`bulkheadctl status` once: both forms, and the exit status of each."""

    def __init__(self, run):
        self.status, self.text = run('status')
        _, data = run('status', '--json')
        self.data = json.loads(data)
        self.quiet, nothing = run('status', '--quiet')
        assert not nothing, nothing
        wrong = mistakes_in(self.data, json.loads((env.SOURCE / 'deploy/status.schema.json').read_text()))
        assert not wrong, wrong
        self.guests = {guest['name']: guest for guest in self.data['guests']}

    def process(self, name, guest):
        return {process['name']: process for process in self.guests[guest]['processes']}[name]

    def faults(self, guest):
        return '\n'.join(self.guests[guest]['faults'])


def settled(run, wanted, *words, guest=None):
    """The first look with that exit status and, about that guest, a fault that has these words."""
    last = []

    def there():
        look = Look(run)
        last[:] = [look.status, look.text]
        # between two of its questions something may have changed
        right = look.status == look.quiet == wanted and all(word in look.text for word in words)
        return look if right and (not guest or all(word in look.faults(guest) for word in words)) else None
    try:
        return wait_until(there, f'status {wanted} with {words}', 20)
    except AssertionError as error:
        raise AssertionError(f'{error}: {last}') from error


# --- Under the launcher ---

def asker(product, *options, wrap=()):
    def run(*args):
        argv = [*wrap, str(env.product('bulkheadctl')), f'--runtime-dir={product.runtime}', *options, *args]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30 * env.TIME_FACTOR)
        return done.returncode, done.stdout
    return run


@case('status-launcher', 120)
def launcher(current):
    """Each process, whoever is dead; restarts as they are."""
    product = Bulkhead(current, [Device(socket=f'{current.dir}/s', backend='echo')])
    run = asker(product)
    look = settled(run, HEALTHY, 'guest vm: healthy', 'all settings of the VMM in force')
    assert look.guests['vm']['file'] == str(current.dir / 'vm.conf') and look.guests['vm']['manager'] == 'launcher'
    for n, role in enumerate(['memory', 'net', 'frontend', 'memory', 'net']):
        product.kill(role)
        look = settled(run, HEALTHY)
        counts = {entry['role']: entry['restarts'] for entry in look.guests['vm']['processes']}
        killed = ['memory', 'net', 'frontend', 'memory', 'net'][:n + 1]
        assert counts == {name: killed.count(name) for name in counts}, f'{killed}: {counts}'
    frontend, net = look.process('frontend', 'vm'), look.process('net0', 'vm')
    assert frontend['pid'] == product.pid_of('frontend') and net['pid'] == product.pid_of('net')
    assert frontend['up_ms'] >= net['up_ms'], f'the frontend was started first: {frontend} {net}'
    # nobody starts anything again while the launcher stands
    os.kill(product.pid, signal.SIGSTOP)
    try:
        kill_and_wait(net['pid'], signal.SIGKILL)
        look = settled(run, UNHEALTHY, 'process net0', guest='vm')
        assert 'its worker does not run' in look.text and ', echo' not in look.text, look.text
        kill_and_wait(look.process('memory', 'vm')['pid'], signal.SIGKILL)
        look = settled(run, UNHEALTHY, 'process memory', guest='vm')
        assert look.process('frontend', 'vm')['state'] == 'running'
    finally:
        os.kill(product.pid, signal.SIGCONT)
    look = settled(run, HEALTHY)
    product.kill('memory', signal.SIGTERM)
    wait_until(lambda: Look(run).process('memory', 'vm')['restarts'] == 4, 'a planned restart is one, too')


@case('status-nobody', 60)
def nobody(current):
    """A launcher that was killed, a guest that nobody knows, no guest at all, a wrong command line."""
    product = Bulkhead(current, [Device(socket=f'{current.dir}/s', backend='echo')])
    run = asker(product)
    settled(run, HEALTHY)
    assert run('status', 'other')[0] == UNHEALTHY
    assert 'there is no such guest' in run('status', 'other')[1]
    assert run('status', 'vm')[0] == HEALTHY
    kill_and_wait(product.pid, signal.SIGKILL)
    settled(run, UNHEALTHY, 'its launcher was killed', guest='vm')
    shutil.rmtree(product.runtime)
    assert run('status') == (HEALTHY, '')
    assert run('status', '--nonsense')[0] == USAGE and run('nonsense')[0] == USAGE
    (current.dir / 'files').mkdir()
    (current.dir / 'files/bad.conf').write_text(ECHO.replace('type', 'typ'))
    (current.dir / 'files/idle.conf').write_text(ECHO)
    look = settled(asker(product, f'--config-dir={current.dir}/files'), UNHEALTHY)
    assert "bad.conf:2: unknown key 'typ'" in look.faults('bad'), look.text
    assert 'process net0 is not running' in look.faults('idle'), look.text


@case('status-no-rights', 60)
def no_rights(current):
    if os.geteuid() != 0:
        raise env.Skip('only root can ask as another user')
    product = Bulkhead(current, [Device(socket=f'{current.dir}/s', backend='echo')])
    settled(asker(product), HEALTHY)
    current.dir.chmod(0o755)
    run = asker(product, wrap=('setpriv', '--reuid=65534', '--clear-groups'))
    settled(run, UNCLEAR, 'user 65534 may not ask', guest='vm')


@case('status-tap', 60)
def tap(current):
    """The TAP is shown up only while it is."""
    netns = Netns(current)
    netns.add_tap('tap0')
    product = Bulkhead(current, [Device(socket=f'{current.dir}/s')], netns)
    run = asker(product)
    settled(run, HEALTHY, 'tap tap0 (up)')
    netns.run('ip', 'link', 'set', 'tap0', 'down')
    settled(run, HEALTHY, 'tap tap0 (down)')
    netns.run('ip', 'link', 'delete', 'tap0')
    settled(run, UNHEALTHY, "tap 'tap0' is gone", guest='vm')
    netns.add_tap('tap0')
    settled(run, HEALTHY, 'tap tap0 (up)')


@case('status-one-of-two', 60)
def one_of_two(current):
    """A guest that the launcher has given up, and one that it serves; then a file that is wrong by now."""
    good = [Device(socket=f'{current.dir}/good.sock', backend='echo')]
    bad = [Device(socket=f'{current.dir}/no/such.sock', backend='echo', mode='client')]
    product = Bulkhead(current, guests={'bad': bad, 'good': good})
    run = asker(product)
    settled(run, HEALTHY)
    (current.dir / 'bad.conf').write_text('[device net0]\ntype = net\n')
    look = settled(run, UNHEALTHY, "bad.conf:1: [device net0] has no 'socket'", guest='bad')
    assert look.guests['good']['health'] == 'healthy'
    assert asker(product)('status', 'good')[0] == HEALTHY


# --- Under systemd ---

def inside(system, *wrap):
    def run(*args):
        done = subprocess.run(['nsenter', '-t', str(system.init), '-p', '-m', '-u', '-i', '-C', '-n', '-r', '-w', *wrap,
                               'bulkheadctl', *args], capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout
    return run


@case('status-systemd', 240)
def systemd(current):
    """What its units are is said, with the reason; restarts are systemd's."""
    system = Systemd(current, ECHO)
    system.all_there()
    run = inside(system)
    look = settled(run, HEALTHY)
    assert look.guests['vm1']['manager'] == 'systemd'
    for role in ('memory', 'net', 'memory'):
        system.kill_and_wait(role)
    look = settled(run, HEALTHY)
    counts = {entry['role']: entry['restarts'] for entry in look.guests['vm1']['processes']}
    assert counts == {'memory': 2, 'frontend': 0, 'snapshot': 0, 'net': 1}, counts
    for role, name in (('net', 'net0'), ('memory', 'memory')):
        system.run('systemctl', 'stop', system.units[role])
        look = settled(run, UNHEALTHY, f"process {name} is not running: it was stopped, or never started; 'bulkheadctl apply' starts it",
                       guest='vm1')
        assert look.process('frontend', 'vm1')['state'] == 'running', look.text
        system.run('systemctl', 'start', system.units[role])
        settled(run, HEALTHY)
    system.run('systemctl', 'stop', 'bulkhead-frontend@vm1:net0.socket')
    settled(run, UNHEALTHY, 'nobody listens for the VMM of device net0', guest='vm1')
    system.run('systemctl', 'restart', 'bulkhead.target')
    settled(run, HEALTHY)
    settled(inside(system, 'setpriv', '--reuid=65534', '--clear-groups'), UNCLEAR, 'user 65534 may not ask', guest='vm1')


@case('status-systemd-files', 240)
def systemd_files(current):
    """Files with faults, a file without a service, a service without a file, a process that cannot start."""
    system = Systemd(current, ECHO)
    system.all_there()
    run = inside(system)
    etc = Path(system.path('/etc/bulkhead'))
    (etc / 'vm2.conf').write_text(ECHO.replace('type', 'typ').replace('vm1', 'vm2'))
    look = settled(run, UNHEALTHY, "/etc/bulkhead/vm2.conf:2: unknown key 'typ'", guest='vm2')
    assert look.guests['vm1']['health'] == 'healthy', look.text
    (etc / 'vm2.conf').write_text(TAP.replace('vm1', 'vm2'))
    settled(run, UNHEALTHY, 'process net0 is not running', guest='vm2')
    system.run('systemctl', 'daemon-reload')
    system.run('systemctl', 'start', '--no-block', 'bulkhead.target')
    settled(run, UNHEALTHY, 'device net0', "tap 'tap7' does not exist", guest='vm2')
    (etc / 'vm2.conf').unlink()
    settled(run, UNHEALTHY, 'its file is gone', guest='vm2')
    (etc / 'vm1.conf').write_text(ECHO + 'nonsense = 1\n')
    look = settled(run, UNHEALTHY, "unknown key 'nonsense'", guest='vm1')
    assert look.process('net0', 'vm1')['state'] == 'running', look.text


if __name__ == '__main__':
    main()
