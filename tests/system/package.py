#!/usr/bin/env python3
"""The Debian package under a real systemd: installed, upgraded under a guest that counts its frames, removed."""

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.netns import Echoes
from bulkhead_test.package import build, next_version
from bulkhead_test.qemu import NetDevice, Qemu
from bulkhead_test.report import case, main, wait_until
from bulkhead_test.systemd import UNITS, Systemd

TAP = '[device net0]\ntype = net\nsocket = /run/vm1/net0.sock\nbackend = tap\ntap = vm1\n'
# A device that is not ours, and a host behind it that answers: QEMU's own.
OTHER = ['-netdev', 'user,id=other', '-device', 'virtio-net-pci,netdev=other,romfile=,addr=8']
OTHER_HOST = '10.0.2.2'


def installed(system):
    return system.run('dpkg-query', '-W', '-f', '${Status} ${Version}', 'bulkhead', check=False)


FILES = ('usr/bin/bulkheadctl', 'etc/bulkhead/', 'lib/systemd/system-generators/bulkhead-generator', 'lib/systemd/catalog/bulkhead.catalog',
         'usr/libexec/bulkhead/frontend-stopped', 'usr/share/bulkhead/status.schema.json', 'usr/share/bulkhead/bulkhead.rules.yml',
         'usr/share/bulkhead/bulkhead-dashboard.json', 'usr/share/bash-completion/completions/bulkheadctl',
         *(f'lib/systemd/system/{unit}' for unit in (
             'bulkhead.target', 'bulkhead.slice', 'bulkhead-check.path', 'bulkhead-check.service', 'bulkhead-metrics.service',
             'bulkhead-metrics.socket', 'bulkhead-metrics.timer', 'bulkhead-metrics@.service')),
         *(f'usr/share/man/man{path.suffix[1:]}/{path.name}.gz' for path in (env.SOURCE / 'deploy/man').iterdir()))


@case('package-files', 120)
def files(current):
    """Everything is in it, of this build; it depends on the libraries that its programs use."""
    package = build(current, 'package', BULKHEAD_BUILD=str(env.BUILD))
    names = subprocess.run(['dpkg-deb', '-c', package], capture_output=True, text=True, check=True).stdout
    missing = [path for path in FILES if f' ./{path}\n' not in names]
    assert not missing, f'{missing} are not in the package: {names}'
    depends = subprocess.run(['dpkg-deb', '-f', package, 'Depends'], capture_output=True, text=True, check=True).stdout
    assert all(name in depends for name in ('libpcap0.8', 'libnng1', 'libsystemd0', 'libnss-systemd')), depends


@case('package-upgrade', 600, ordinary=False)
def upgrade(current):
    """A new version replaces every process, and no frame to or from a guest is lost."""
    package = build(current, 'package', BULKHEAD_BUILD=str(env.BUILD))
    system = Systemd(current, TAP, taps=['vm1'], package=package)
    system.all_there()
    assert system.run('systemctl', 'is-enabled', 'bulkhead.target') == 'enabled'
    vm = Qemu(current, [NetDevice(system.path('/run/vm1/net0.sock'), reconnect=1)], extra=OTHER)
    vm.wait_boot()
    vm.guest.net_up()
    vm.guest.net_up('eth1', addresses=('10.0.2.15/24',))
    vm.guest.ping()
    vm.guest.ping(OTHER_HOST)
    sockets, carrier = vm.sockets(), vm.guest.carrier_changes()
    pids = {role: system.pid(role) for role in UNITS}
    echoes = Echoes(system.netns(), '10.77.0.2')
    said = system.install_package(next_version(current, package))
    system.all_there()
    current.note(f'{echoes.end()} frames')
    assert installed(system).endswith('+next'), installed(system)
    assert all(system.pid(role) not in (0, pids[role]) for role in UNITS), f'not all were replaced: {said}'
    vm.check_connection(sockets)
    assert vm.guest.carrier_changes() == carrier, 'the guest\'s link went down'
    remove_and_return(system, vm, package)


def remove_and_return(system, vm, package):
    """Its devices go, and nothing else; with the package they come back."""
    system.dpkg('--remove', 'bulkhead')
    wait_until(lambda: 'bulkhead-' not in system.run('ps', '-eo', 'comm=,args='), 'every process of ours has ended')
    left = system.run('systemctl', 'list-units', '--plain', '--no-legend', 'bulkhead*')
    assert left == '', f'units are left: {left}'
    assert not os.path.exists(system.path('/run/vm1/net0.sock')), 'the socket is left'
    assert system.run('sh', '-c', 'ls /run/userdb /run/bulkhead 2>/dev/null; true').replace('/run/userdb:', '') == ''
    assert Path(system.path('/etc/bulkhead/vm1.conf')).read_text() == TAP, 'a guest\'s file is the operator\'s'
    vm.guest.ping(OTHER_HOST)
    system.install_package(package)
    system.all_there()
    wait_until(lambda: vm.guest.run('cat /sys/class/net/eth0/carrier') == '1\n', 'the guest has its link again', 20)
    vm.guest.ping()


@case('package-lintian', 900, ordinary=False)
def lintian(current):
    """The documented command builds everything, and lintian finds no error."""
    build(current, 'package', BULKHEAD_BUILD='')


if __name__ == '__main__':
    main()
