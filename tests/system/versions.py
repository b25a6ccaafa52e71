#!/usr/bin/env python3
"""Each process of this build beside the others of the previous release, changed while traffic flows."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.netns import Netns
from bulkhead_test.process import kill_and_wait
from bulkhead_test.qemu import NetDevice, Qemu
from bulkhead_test.report import case, main, wait_until
from bulkhead_test.systemd import UNITS, Systemd
from bulkhead_test.tcp import MIB, Transfer
from bulkhead_test.vmm import VERSION_1, Vmm

PROGRAMS = {'launcher': 'bulkhead', 'memory': 'bulkhead-memory', 'frontend': 'bulkhead-frontend', 'snapshot': 'bulkhead-snapshot',
            'net': 'bulkhead-net'}
CHANGES = 4
DIRECTIONS = ('from-guest', 'to-guest')
# bytes that a later release keeps more of: in the same page of the ledger, and beyond it
GROWTHS = (1, 5000)


def commits():
    """The previous release, the last one whose guests shared their users, and the last one without snapshots."""
    lines = (env.SOURCE / 'tests/system/previous').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def run_or_say(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f'the previous release cannot be built: {done.stdout[-2000:]}{done.stderr[-500:]}'
    return done.stdout


def build(directory, commit):
    """From the repository's own history, beside its work tree."""
    env.need_tool('git', 'git')
    source = directory / 'source'
    source.mkdir()
    archive = subprocess.run(['git', '-C', env.SOURCE, 'archive', commit], capture_output=True, check=False)
    if archive.returncode != 0:
        raise env.Skip(f'commit {commit[:12]} is not in this repository: {archive.stderr.decode().strip()}')
    subprocess.run(['tar', '-x', '-C', source], input=archive.stdout, check=True)
    made = directory / 'build'
    run_or_say(['meson', 'setup', made, source, '--buildtype=release'])
    installed = json.loads(run_or_say(['meson', 'introspect', '--installed', made]))
    # configured files are there already; a link has no path in the build
    targets = [Path(file).relative_to(made) for file in installed
               if Path(file).is_relative_to(made) and not Path(file).exists()]
    run_or_say(['ninja', '-C', made, *targets])
    for target in targets:
        shutil.copy2(made / target, directory / target.name)
    subprocess.run(['meson', 'install', '-C', made, '--no-rebuild', '--quiet'], check=True,
                   capture_output=True, env={**os.environ, 'DESTDIR': str(directory / 'install')})
    shutil.rmtree(made)


def previous(commit=None):
    """The directory of a release's programs, and of what it installs; made once."""
    commit = commit or commits()[0]
    env.CACHE.mkdir(parents=True, exist_ok=True)
    made = env.CACHE / f'release-{commit}'
    with open(env.CACHE / 'previous.lock', 'w', encoding='ascii') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=env.CACHE) as directory:
                build(Path(directory), commit)
                shutil.copytree(directory, made, symlinks=True, ignore=shutil.ignore_patterns('source'))
    return made


def later(directory, growth):
    """A directory in which the worker of a later release is, which keeps that many bytes more (later-net.c)."""
    directory.mkdir()
    shutil.copy2(env.product(f'tests/system/later-net-{growth}'), directory / PROGRAMS['net'])
    return directory


def put(programs, role, directory):
    """As a package manager does it: beside, then renamed. What a release does not have is left as it is."""
    name = PROGRAMS[role]
    source = directory / name if directory else env.product(name)
    if not source.exists():
        return
    shutil.copy2(source, programs / f'{name}.new')
    os.rename(programs / f'{name}.new', programs / name)


def running(product):
    """The roles of env.ROLES that this launcher starts: an earlier one has no process 'snapshot'."""
    programs = product.processes()
    return [role for role in env.ROLES if f'bulkhead-{role}'[:15] in programs]


def disturbed(current, vm, product, role, direction):
    """The process of that role is replaced again and again, by what lies in its place now."""
    transfer = Transfer(product.netns, vm.guest, direction, (CHANGES + 1) * 16 * MIB)
    for i in range(CHANGES):
        transfer.wait_progress((i + 1) * 16 * MIB)
        product.kill(role, signal.SIGTERM if i % 2 else signal.SIGKILL)
    current.note(f'{role} {direction} {transfer.wait(180):.0f} Mbit/s')
    assert PROGRAMS[role] in os.readlink(f'/proc/{product.pid_of(role)}/exe')


def changed(current, roles, new=(), back=False, alone=False, **properties):
    """The previous release, but for the roles in new, serves a guest; then the processes of these roles are of this
    build, one by one, or one at a time (alone). Or the other way round."""
    first, then = (None, previous()) if back else (previous(), None)
    programs = current.dir / 'programs'
    programs.mkdir()
    for role in PROGRAMS:
        put(programs, role, then if role in new else first)
    netns = Netns(current)
    netns.add_tap()
    device = Device(socket=str(current.dir / 'net0.sock'))
    product = Bulkhead(current, [device], netns, programs=programs)
    vm = Qemu(current, [NetDevice(device.socket, **properties)])
    vm.wait_boot()
    vm.guest.net_up()
    vm.guest.ping()
    before, carrier = vm.sockets(), vm.guest.carrier_changes()
    for i, role in enumerate(roles):
        put(programs, role, then)
        for direction in DIRECTIONS if alone else (DIRECTIONS[i % 2],):
            disturbed(current, vm, product, role, direction)
        if alone:
            put(programs, role, first)
            product.kill(role)
    for role in running(product):
        product.kill(role)
        vm.guest.ping()
    vm.qemu_events = vm.qmp.event_names()
    vm.check_connection(before)
    assert vm.guest.carrier_changes() == carrier, 'the guest\'s link went down'


def replace_worker(product, number, standby):
    """Each instance, of which the first to go is the one that serves."""
    if not standby:
        product.kill('net', number)
        return
    for pid in product.workers():
        kill_and_wait(pid, number)
        # who serves then is the other one only if that stood in line already
        wait_until(lambda pid=pid: pid not in product.workers(), 'another instance is there', 10, 0.005)


def grown(current, first, standby=False, **properties):
    """A worker that keeps more than the one before it, and one that keeps less again, and so on, while traffic flows."""
    programs = current.dir / 'programs'
    programs.mkdir()
    grown_ones = {growth: later(current.dir / f'grown-{growth}', growth) for growth in GROWTHS}
    for role in PROGRAMS:
        put(programs, role, first)
    netns = Netns(current)
    netns.add_tap()
    device = Device(socket=str(current.dir / 'net0.sock'), standby=standby)
    product = Bulkhead(current, [device], netns, programs=programs)
    vm = Qemu(current, [NetDevice(device.socket, **properties)])
    vm.wait_boot()
    vm.guest.net_up()
    vm.guest.ping()
    before, carrier = vm.sockets(), vm.guest.carrier_changes()
    for growth in GROWTHS:
        for release in (grown_ones[growth], first, grown_ones[growth]):
            put(programs, 'net', release)
            transfer = Transfer(netns, vm.guest, 'from-guest', 64 * MIB)
            for i, number in enumerate((signal.SIGTERM, signal.SIGKILL)):
                transfer.wait_progress((i + 1) * 16 * MIB)
                replace_worker(product, number, standby)
            transfer.wait(180)
    output = product.process.output()
    assert output.count('grown state has been opened 0 times before') == len(GROWTHS), 'what was added was not kept'
    assert 'begun anew' not in output and 'stopped: ' not in output, output[-800:]
    vm.qemu_events = vm.qmp.event_names()
    vm.check_connection(before)
    assert vm.guest.carrier_changes() == carrier, 'the guest\'s link went down'


@case('versions-one-of-this', 300)
def one_of_this(current):
    changed(current, ['memory', 'frontend', 'net'], alone=True)


@case('versions-net-packed', 300, ordinary=False)
def net_packed(current):
    changed(current, ['net'], alone=True, packed='on')


@case('versions-all', 300)
def one_by_one(current):
    changed(current, ['net', 'frontend', 'snapshot', 'memory'], new=['launcher', 'snapshot'])


@case('versions-back', 300)
def back(current):
    """An upgrade that is taken back while the VM runs."""
    changed(current, ['memory', 'frontend', 'net'], back=True)


def check_upgraded(current, vm, netns, before, carrier, upgrade):
    """A transfer each way goes through it, and neither VMM nor guest is told of anything."""
    upgraded = False
    for direction in DIRECTIONS:
        transfer = Transfer(netns, vm.guest, direction, 48 * MIB)
        transfer.wait_progress(12 * MIB)
        if not upgraded:
            current.note(upgrade().strip().replace('\n', '; '))
        upgraded = True
        current.note(f'{direction} {transfer.wait(180):.0f} Mbit/s')
    vm.qemu_events = vm.qmp.event_names()
    vm.check_connection(before)
    assert vm.guest.carrier_changes() == carrier, 'the guest\'s link went down'


@case('versions-old-units', 300, ordinary=False)
def old_units(current):
    """The programs are of this build, the units those of a release that knows no process 'snapshot'."""
    system = Systemd(current, '[device net0]\ntype = net\nsocket = /run/vm1/net0.sock\nbackend = echo\n',
                     install=previous(commits()[2]) / 'install')
    system.all_there(but=['snapshot'])
    front_end = Vmm(current, system.path('/run/vm1/net0.sock'))
    front_end.start()
    system.install()
    for role in ('memory', 'frontend', 'net'):
        system.kill_and_wait(role)
        assert front_end.get_features() & VERSION_1, f'served after the death of {role}'
    wait_until(lambda: system.run('bulkheadctl', 'status', check=False).count(' pid ') == 3, 'the three have found each other', 20)
    assert front_end.stop() == [0, 0]
    system.run('systemctl', 'daemon-reload')
    current.note(system.run('bulkheadctl', 'upgrade').replace('\n', '; '))
    system.all_there()
    assert front_end.get_features() & VERSION_1


@case('versions-shared-users', 600)
def shared_users(current):
    """From the last release whose guests shared their users: all processes at once, and nothing is lost."""
    programs = current.dir / 'programs'
    programs.mkdir()
    for role in PROGRAMS:
        put(programs, role, previous(commits()[1]))
    netns = Netns(current)
    netns.add_tap()
    device = Device(socket=str(current.dir / 'net0.sock'))
    product = Bulkhead(current, [device], netns, programs=programs)
    vm = Qemu(current, [NetDevice(device.socket)])
    vm.wait_boot()
    vm.guest.net_up()
    vm.guest.ping()
    for role in PROGRAMS:
        put(programs, role, None)
    check_upgraded(current, vm, netns, vm.sockets(), vm.guest.carrier_changes(), lambda: product.ctl('upgrade'))
    for role in env.ROLES:
        assert os.stat(f'/proc/{product.pid_of(role)}').st_uid >= 0x70000000, f'{role} is a user of its own'
        product.kill(role)
        vm.guest.ping()


@case('versions-shared-users-systemd', 600)
def shared_users_systemd(current):
    """The same under systemd, with the steps that the operations page names."""
    system = Systemd(current, '[device net0]\ntype = net\nsocket = /run/vm1/net0.sock\nbackend = tap\ntap = vm1\n',
                     taps=['vm1'], install=previous(commits()[1]) / 'install', tap_user='bulkhead-net')
    system.all_there(but=['snapshot'])
    netns = system.netns()
    vm = Qemu(current, [NetDevice(system.path('/run/vm1/net0.sock'))])
    vm.wait_boot()
    vm.guest.net_up()
    vm.guest.ping()

    def upgrade():
        system.install()
        system.run('systemd-sysusers', '/usr/lib/sysusers.d/bulkhead.conf')
        system.run('systemd-tmpfiles', '--create', '/usr/lib/tmpfiles.d/bulkhead.conf')
        system.run('systemctl', 'daemon-reload')
        return system.run('bulkheadctl', 'upgrade')
    check_upgraded(current, vm, netns, vm.sockets(), vm.guest.carrier_changes(), upgrade)
    system.all_there()
    for role in UNITS:
        assert os.stat(f'/proc/{system.host_pid(role)}').st_uid >= 0x70000000, f'{role} is a user of its own'
    system.run('systemctl', 'kill', '--signal=KILL', *UNITS.values())
    system.all_there()
    vm.guest.ping()


@case('versions-grown', 300, ordinary=False)
def state_grows(current):
    grown(current, previous())


@case('versions-grown-standby', 300)
def state_grows_with_standby(current):
    grown(current, None, standby=True, packed='on')


if __name__ == '__main__':
    main()
