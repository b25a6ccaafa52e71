#!/usr/bin/env python3
"""Holds processes to deploy/rights.md: what it denies is tried from inside, and the kernel is asked about those that run."""

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.process import descendants
from bulkhead_test.report import case, main, wait_until
from bulkhead_test.systemd import Systemd

LANDLOCK = ('write_file', 'open_tap')  # what it alone denies

EXPOSURE_MAX = 1.5


def tables():
    """Every table of deploy/rights.md: (cells of its head, rows of cells)."""
    found = []
    for line in (env.SOURCE / 'deploy/rights.md').read_text(encoding='utf-8').splitlines():
        if not line.startswith('|'):
            found.append(None)
        elif not line.startswith('|---'):
            cells = [cell.strip().strip('`') for cell in line.strip('|').split('|')]
            if found and found[-1]:
                found[-1][1].append(cells)
            else:
                found.append((cells, []))
    return [table for table in found if table]


def table(column):
    """The one whose second column is called so: {(row, role): cell}."""
    head, rows = next(each for each in tables() if each[0][1] == column)
    return {(cells[1], role): cell for cells in rows for role, cell in zip(head[2:], cells[2:], strict=True)}


# what root is refused in a chroot, whatever its rights are
UNPROVEN = ('user_namespace',)


def probe(*args, action='refuse'):
    done = subprocess.run([env.product('tests/system/sandbox-probe'), *args], capture_output=True, text=True, check=True,
                          timeout=60 * env.TIME_FACTOR, env={**os.environ, 'BULKHEAD_SYSCALLS': action})
    return {line.split(' ', 1)[0]: line.split(' ', 1)[1] for line in done.stdout.splitlines()}


def no_landlock():
    """landlock_create_ruleset() tells its version."""
    return ctypes.CDLL(None).syscall(444, None, 0, 1) < 0


def need_sandbox():
    if env.SANITIZED:
        raise env.Skip('builds with a sanitizer are exempt from the list of system calls')
    env.need_root()


@case('rights-probes', 60)
def probes(current):
    """Each right of the matrix is tried in the sandbox of each role: what is denied fails, what is left works."""
    need_sandbox()
    matrix = table('probe')
    roles = sorted({role for _, role in matrix})
    assert set(roles) == {*env.ROLES_OF_GUEST, *env.DEVICE_TYPES, '(keeper)'}, roles
    refused = sorted(name for name, answer in probe('none').items() if answer != 'yes')
    assert not {*refused} - {*UNPROVEN}, f'without a sandbox root is refused {refused}: these probes prove nothing here'
    wrong, without = [], LANDLOCK if no_landlock() else ()
    for role in roles:
        answers = probe(role)
        assert set(answers) == {name for name, _ in matrix}, set(answers) ^ {name for name, _ in matrix}
        wrong += [f'{role}: {name}: {answer}, not {matrix[name, role]}' for name, answer in answers.items()
                  if name not in without and answer != {'yes': 'yes', '-': 'no'}[matrix[name, role]]]
    assert not wrong, '; '.join(wrong)
    current.note(f'{len(matrix)} rights of {len(roles)} roles{", but this kernel has no landlock" if without else ""}'
                 f'{f", and {refused} is refused here in any case" if refused else ""}')


@case('rights-actions', 30)
def actions(current):
    """kill ends the process by SIGSYS, log lets the call pass, and another word is refused."""
    need_sandbox()
    assert probe('net', 'socket_inet', action='kill') == {'socket_inet': 'killed'}
    assert probe('net', 'socket_inet', action='log') == {'socket_inet': 'yes'}
    assert probe('net', 'socket_inet', action='sometimes') == {'socket_inet': 'no sandbox'}
    done = subprocess.run([env.product('bulkhead-null'), '--instance=vm1:null0', f'--config={current.dir}/none.conf'],
                          capture_output=True, text=True, check=False, env={**os.environ, 'BULKHEAD_SYSCALLS': 'kill'})
    assert done.returncode == 1, done


def status(pid):
    return dict(line.split(':\t', 1) for line in Path(f'/proc/{pid}/status').read_text(encoding='ascii', errors='replace').splitlines()
                if ':\t' in line)


def judge(name, pid):
    """What the kernel says of each thread of a process that runs."""
    wrong = []
    for thread in os.listdir(f'/proc/{pid}/task'):
        is_ = status(f'{pid}/task/{thread}')
        wrong += [f'{name}: thread {is_["Name"]}: {key} is {is_[key]}' for key, wanted in
                  (('Seccomp', '2'), ('NoNewPrivs', '1'), ('CapEff', '0' * 16), ('CapPrm', '0' * 16), ('CapInh', '0' * 16),
                   ('CapAmb', '0' * 16)) if is_[key] != wanted]
        if '0' in is_['Uid'].split():
            wrong.append(f'{name} is root: {is_["Uid"]}')
    return wrong


def with_shadow(pids):
    """pids, {name: pid}, and the processes below and beside them."""
    return {**pids, **{f'{Path(f"/proc/{pid}/comm").read_text().strip()} of {name}': pid
                       for name, parent in pids.items() for pid in descendants(parent)}}


@case('rights-launcher', 60)
def launcher(current):
    """Under a launcher of root each process, the keeper and what unmaps a worker's memory have the list and nothing else."""
    need_sandbox()
    devices = [Device(name=kind, kind=kind, socket=f'{current.dir}/{kind}.sock', backend='echo' if kind == 'net' else None,
                      members={'wayland': '/nowhere'} if kind == 'wl' else None) for kind in env.DEVICE_TYPES]
    product = Bulkhead(current, devices)
    product.process.wait_output('is served')
    n = len(env.ROLES_OF_GUEST) + 1 + 2 * len(devices)

    def all_there():
        pids = descendants(product.pid)
        names = [Path(f'/proc/{pid}/comm').read_text(encoding='ascii').strip() for pid in pids]
        return dict(enumerate(zip(names, pids))) if len(pids) == n and names.count('(late-unmap)') == len(devices) else None
    pids = {f'{name} {pid}': pid for name, pid in wait_until(all_there, f'{n} processes run', 20).values()}
    wrong = [line for name, pid in pids.items() for line in judge(name, pid)]
    assert not wrong, '; '.join(wrong)
    current.note(f'{len(pids)} processes')


# Rights that the kernel shows of a process: (directive, what a value of it means, by a look into /proc).
NAMESPACES = (('PrivateNetwork', 'net'), ('PrivateTmp', 'mnt'))


@case('rights-systemd', 120)
def systemd(current):
    """Under systemd: the same; namespaces and limits are as the matrix says."""
    need_sandbox()
    system = Systemd(current, '[device net0]\ntype = net\nsocket = /run/vm1.sock\nbackend = echo\n')
    system.all_there()
    matrix = table('directive')
    wrong = []
    for role in (*env.ROLES_OF_GUEST, 'net'):
        pid = system.host_pid(role)
        for name, each in with_shadow({role: pid}).items():
            wrong += judge(name, each)
            wrong += [f'{name}: CapBnd is {status(each)["CapBnd"]}'] if status(each)['CapBnd'] != '0' * 16 else []
        for directive, kind in NAMESPACES:
            own = os.readlink(f'/proc/{pid}/ns/{kind}') != os.readlink(f'/proc/{system.init}/ns/{kind}')
            if own != (matrix[directive, role] == 'yes'):
                wrong.append(f'{role}: {directive} is {matrix[directive, role]}, and its {kind} namespace is {"" if own else "not "}its own')
        limits = dict(re.findall(r'^(Max \w+ \w+)\s+(\S+)', Path(f'/proc/{pid}/limits').read_text(encoding='ascii'), re.M))
        data = {'-': 'unlimited', '2G': str(2 << 30)}[matrix['LimitDATA', role]]
        if limits['Max data size'] != data:
            wrong.append(f'{role}: its data may have {limits["Max data size"]} bytes, not {data}')
    assert not wrong, '; '.join(wrong)


def exposure(unit):
    done = subprocess.run(['systemd-analyze', 'security', '--offline=yes', '--no-pager', unit], capture_output=True, text=True,
                          check=False, timeout=60 * env.TIME_FACTOR)
    found = re.search(r'exposure level for \S+: ([\d.]+)', done.stdout)
    if not found:
        raise AssertionError(f'systemd-analyze security {unit}: {done.stdout[-400:]}{done.stderr[-400:]}')
    return float(found[1])


@case('rights-exposure', 60)
def exposures(current):
    """What systemd-analyze security makes of each unit of a service."""
    env.need_tool('systemd-analyze', 'systemd')
    units = sorted((env.BUILD / 'deploy').glob('*.service'))
    assert len(units) >= len(env.ROLES_OF_GUEST) + len(env.DEVICE_TYPES) + 3, units
    found = {unit.name: exposure(unit) for unit in units}
    wrong = {name: level for name, level in found.items() if level > EXPOSURE_MAX}
    assert not wrong, f'more than {EXPOSURE_MAX}: {wrong}'
    current.note(', '.join(f'{name} {level}' for name, level in found.items()))


if __name__ == '__main__':
    main()
