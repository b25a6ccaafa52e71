#!/usr/bin/env python3
"""Each process of this build beside the others of the previous release, changed while traffic flows."""

import fcntl
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
from bulkhead_test.qemu import NetDevice, Qemu
from bulkhead_test.report import case, main
from bulkhead_test.tcp import MIB, Transfer

PROGRAMS = {'launcher': 'bulkhead', 'memory': 'bulkhead-memory', 'frontend': 'bulkhead-frontend', 'net': 'bulkhead-net'}
CHANGES = 4


def previous_commit():
    lines = (env.SOURCE / 'tests/system/previous').read_text().splitlines()
    return next(line for line in lines if line and not line.startswith('#'))


def build(directory, commit):
    """From the repository's own history, beside its work tree."""
    env.need_tool('git', 'git')
    source = directory / 'source'
    source.mkdir()
    archive = subprocess.run(['git', '-C', env.SOURCE, 'archive', commit], capture_output=True, check=False)
    if archive.returncode != 0:
        raise env.Skip(f'commit {commit[:12]} is not in this repository: {archive.stderr.decode().strip()}')
    subprocess.run(['tar', '-x', '-C', source], input=archive.stdout, check=True)
    targets = [f'procs/{folder}/{name}' for folder, name in PROGRAMS.items()]
    for command in (['meson', 'setup', directory / 'build', source, '--buildtype=release'],
                    ['ninja', '-C', directory / 'build', *targets]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f'the previous release cannot be built: {done.stdout[-2000:]}{done.stderr[-500:]}'
    for target in targets:
        shutil.copy2(directory / 'build' / target, directory / Path(target).name)
    shutil.rmtree(directory / 'build')


def previous():
    """The directory of its programs; made once."""
    commit = previous_commit()
    env.CACHE.mkdir(parents=True, exist_ok=True)
    made = env.CACHE / f'previous-{commit}'
    with open(env.CACHE / 'previous.lock', 'w', encoding='ascii') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=env.CACHE) as directory:
                build(Path(directory), commit)
                shutil.copytree(directory, made, ignore=shutil.ignore_patterns('source'))
    return made


def put(programs, role, directory):
    """As a package manager does it: beside, then renamed."""
    name = PROGRAMS[role]
    source = directory / name if directory else env.product(name)
    shutil.copy2(source, programs / f'{name}.new')
    os.rename(programs / f'{name}.new', programs / name)


def changed(current, roles, new=(), back=False, **properties):
    """The previous release, but for the roles in new, serves a guest; then the processes of these roles are of this
    build, one by one. Or the other way round."""
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
    for role in roles:
        put(programs, role, then)
        for direction in ('from-guest', 'to-guest'):
            transfer = Transfer(netns, vm.guest, direction, 96 * MIB)
            for i in range(CHANGES):
                transfer.wait_progress((i + 1) * 16 * MIB)
                product.kill(role, signal.SIGTERM if i % 2 else signal.SIGKILL)
            current.note(f'{role} {direction} {transfer.wait(180):.0f} Mbit/s')
        assert PROGRAMS[role] in os.readlink(f'/proc/{product.pid_of(role)}/exe')
    for role in ('memory', 'frontend', 'net'):
        product.kill(role)
        vm.guest.ping()
    vm.qemu_events = vm.qmp.event_names()
    vm.check_connection(before)
    assert vm.guest.carrier_changes() == carrier, 'the guest\'s link went down'


@case('versions-memory', 300)
def memory(current):
    changed(current, ['memory'])


@case('versions-frontend', 300)
def frontend(current):
    changed(current, ['frontend'])


@case('versions-net', 300)
def net(current):
    changed(current, ['net'])


@case('versions-net-packed', 300)
def net_packed(current):
    changed(current, ['net'], packed='on')


@case('versions-all', 300)
def one_by_one(current):
    changed(current, ['net', 'frontend', 'memory'], new=['launcher'])


@case('versions-back', 300)
def back(current):
    """An upgrade that is taken back while the VM runs."""
    changed(current, ['memory', 'frontend', 'net'], back=True)


if __name__ == '__main__':
    main()
