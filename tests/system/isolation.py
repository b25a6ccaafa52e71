#!/usr/bin/env python3
"""A process of ours that was taken over: it reaches no other guest, and of its own guest only its one peer.

For each process of two guests a program with just its user and groups tries every socket, folder and process of
both. What it may reach is written down here, cell by cell; all else must be refused.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.process import Process, descendants
from bulkhead_test.report import case, main, wait_until
from bulkhead_test.systemd import Systemd

# Runs as the process that was taken over. Each line of the answer is what it could do.
ATTACK = r'''
import ctypes, json, os, socket, sys
job = json.load(sys.stdin)
libc = ctypes.CDLL(None, use_errno=True)
done = []

class Part(ctypes.Structure):
    _fields_ = [('base', ctypes.c_void_p), ('n', ctypes.c_size_t)]

for path in job['sockets']:
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_UNIX, kind) as line:
            try:
                line.connect(path)
                done.append(f'connects to {path}')
            except OSError:
                pass
for path in job['folders']:
    for what, act in (('makes a file in', lambda: os.mkdir(path + '/x')), ('lists', lambda: os.listdir(path)),
                      ('renames', lambda: os.rename(path, path + '.stolen'))):
        try:
            act()
            done.append(f'{what} {path}')
        except OSError:
            pass
for name, pid in job['pids'].items():
    buf = ctypes.create_string_buffer(1)
    part = Part(job['address'], 1)
    here = Part(ctypes.addressof(buf), 1)
    got = libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(part), 1, 0)
    if got > 0 or ctypes.get_errno() != 1:
        done.append(f'reads the memory of {name}')
    for what in ('mem', 'environ', 'fd'):
        try:
            os.listdir(f'/proc/{pid}/fd') if what == 'fd' else open(f'/proc/{pid}/{what}', 'rb').close()
            done.append(f'opens {what} of {name}')
        except OSError:
            pass
    try:
        os.kill(pid, 0)
        done.append(f'may kill {name}')
    except OSError:
        pass
print(json.dumps(done))
'''

# What each may reach beside what is its own; the keeper holds what it was given, and needs nothing.
MAY = {
    'memory': ['connects to {guest}/frontend/bus.sock', 'connects to {guest}/net0/bus.sock', 'connects to {guest}/net1/bus.sock',
               'connects to {guest}/link/frontend.sock', 'connects to {guest}/link/net0.sock', 'connects to {guest}/link/net1.sock',
               'connects to {guest}/link/ctl.sock', 'connects to {guest}/link/ctl+link.sock',
               'connects to {guest}/snapshot/bus.sock', 'connects to {guest}/link/snapshot.sock'],
    'frontend': ['connects to {guest}/link/frontend.sock', 'connects to {guest}/frontend/bus.sock'],
    'snapshot': ['connects to {guest}/link/snapshot.sock', 'connects to {guest}/snapshot/bus.sock'],
    'net0': ['connects to {guest}/link/net0.sock', 'connects to {guest}/net0/bus.sock'],
    'net1': ['connects to {guest}/link/net1.sock', 'connects to {guest}/net1/bus.sock'],
}
OWN = {'memory': 'link', 'frontend': 'frontend', 'snapshot': 'snapshot', 'net0': 'net0', 'net1': 'net1'}


def devices(current, guest):
    return [Device(name=f'net{i}', socket=f'{current.dir}/{guest}{i}.sock', backend='echo') for i in range(2)]


def found(root, pids):
    """Every socket and folder below the runtime folder, as root sees them; and the processes by GUEST:PEER."""
    sockets, folders = [], [root]
    for directory, names, files in os.walk(root):
        folders += [f'{directory}/{name}' for name in names]
        sockets += [f'{directory}/{name}' for name in files if name.endswith(('.sock', '.nng'))]
    return {'sockets': sorted(sockets), 'folders': sorted(folders), 'pids': pids, 'address': 0x400000}


def ids(pid):
    lines = dict(line.split(':\t', 1) for line in Path(f'/proc/{pid}/status').read_text().splitlines())
    return lines['Uid'].split(), lines['Gid'].split(), lines['Groups'].split()


def peer_of(pid):
    """GUEST:PEER of a process, from its command line; None: it is no process of ours, or a worker's shadow."""
    argv = Path(f'/proc/{pid}/cmdline').read_bytes().decode().split('\0')
    name = Path(f'/proc/{pid}/comm').read_text().strip()
    instance = next((arg.split('=', 1)[1] for arg in argv if arg.startswith('--instance=')), None)
    if not instance or name.startswith('('):
        return None
    return instance if ':' in instance else f'{instance}:{os.path.basename(argv[0])[len("bulkhead-"):]}'


def check(current, root, pids, run, seen_root=None, seen_pids=None):
    """root: the runtime folder as the processes see it, and seen_root as we do; pids: as we see them, and seen_pids
    as they do; run(argv, text): runs a program where they run."""
    job = found(seen_root or root, seen_pids or pids)
    job = {**job, **{kind: [root + path[len(seen_root or root):] for path in job[kind]] for kind in ('sockets', 'folders')}}
    users = {}
    for name, pid in pids.items():
        uids, gids, groups = ids(pid)
        assert len(set(uids)) == len(set(gids)) == 1 and uids[0] != '0', f'{name}: users {uids}, groups {gids}'
        assert uids[0] not in users.values(), f'{name} and another process are user {uids[0]}'
        users[name] = uids[0]
        argv = ['setpriv', '--reuid', uids[0], '--regid', gids[0], *(['--groups', ','.join(groups)] if groups else
                ['--clear-groups']), '--no-new-privs', '--bounding-set=-all', '--inh-caps=-all', 'python3', '-c', ATTACK]
        others = {other: number for other, number in job['pids'].items() if other != name}
        done = json.loads(run(argv, json.dumps({**job, 'pids': others})))
        guest, peer = name.split(':')
        own = f'{root}/{guest}/{OWN[peer]}'
        may = {line.format(guest=f'{root}/{guest}') for line in MAY[peer]}
        may |= {f'{what} {own}' for what in ('makes a file in', 'lists')} | {f'lists {root}', *(f'lists {root}/{each.split(":")[0]}' for each in pids)}
        # what nng itself listens on is its owner's alone
        may |= {f'connects to {root}/{guest}/notify/{peer}.sock', f'connects to {own}/{"ctl" if peer == "memory" else "bus"}.nng'}
        wrong = sorted(set(done) - may)
        assert not wrong, f'{name}: {wrong}'
        if peer != 'memory':
            assert f'connects to {root}/{guest}/link/{peer}.sock' in done, f'{name} reaches its own peer: {done}'
    current.note(f'{len(pids)} processes, {len(job["sockets"])} sockets, {len(job["folders"])} folders')


# covers: P5
@case('isolation-launcher', 120)
def launcher(current):
    """Under a launcher that root started."""
    env.need_root()
    env.need_tool('setpriv', 'util-linux')
    product = Bulkhead(current, guests={guest: devices(current, guest) for guest in ('a', 'b')})
    product.process.wait_output('guest b is served')
    pids = {peer_of(pid): pid for pid in descendants(product.pid)}
    keepers = [pid for pid in descendants(product.pid) if Path(f'/proc/{pid}/comm').read_text().strip() == '(keeper)']
    assert len(keepers) == 2, keepers
    for pid in keepers:
        uids, gids, groups = ids(pid)
        assert len(set(uids)) == len(set(gids)) == 1 and uids[0] != '0' and not groups, f'keeper: {uids} {gids} {groups}'
    assert ids(keepers[0])[0] != ids(keepers[1])[0], 'each guest\'s keeper is a user of its own'
    pids.pop(None, None)
    assert len(pids) == 10, pids
    check(current, str(product.runtime), pids, lambda argv, text: subprocess.run(
        argv, input=text, capture_output=True, text=True, check=True, timeout=60).stdout)


# covers: P5
@case('isolation-systemd', 180)
def systemd(current):
    """Under systemd."""
    texts = {guest: '\n'.join(f'[device net{i}]\ntype = net\nsocket = /run/{guest}/{i}.sock\nbackend = echo\n' for i in range(2))
             for guest in ('vm1', 'vm2')}
    (current.dir / 'vm2.conf').write_text(texts['vm2'])
    system = Systemd(current, texts['vm1'])

    units = {f'{guest}:{peer or role}': f'bulkhead-{role}@{guest}{":" if peer else ""}{peer}' for guest in texts
             for role, peer in (('memory', ''), ('frontend', ''), ('snapshot', ''), ('net', 'net0'), ('net', 'net1'))}
    wait_until(lambda: system.run('bulkheadctl', 'status', check=False).count(' pid ') == 10, 'every process serves', 30)
    outside = {name: system.host_pid_of(unit) for name, unit in units.items()}
    inside = {name: int(system.run('systemctl', 'show', '-p', 'MainPID', '--value', unit)) for name, unit in units.items()}
    check(current, '/run/bulkhead', outside, lambda argv, text: system.run(*argv, text=text),
          system.path('/run/bulkhead'), inside)


@case('isolation-closed-folder', 60)
def closed(current):
    """Everything lies in a folder that only root may pass, as mktemp -d makes one: all works, restarts as well."""
    env.need_root()
    current.dir.chmod(0o700)
    product = Bulkhead(current, devices(current, 'a'))
    product.process.wait_output('is served')
    for role in env.ROLES_OF_GUEST:
        product.kill(role)
    wait_until(lambda: len([process for process in product.status()['guests'][0]['processes'] if process['pid']]) == 5,
               'all five processes are there')
    pid = product.pid_of('frontend')
    os.unlink(devices(current, 'a')[0].socket)
    wait_until(lambda: os.path.exists(devices(current, 'a')[0].socket), 'the socket file is made again')
    wait_until(lambda: product.pid_of('frontend') != pid, 'by a frontend with the rights that takes')


@case('isolation-ordinary-user', 60)
def ordinary(current):
    """Started by an ordinary user it says in one line what is not separated; started by root it need not."""
    env.need_root()
    product = Bulkhead(current, devices(current, 'a')[:1])
    product.process.wait_output('is served')
    assert 'not isolated' not in product.process.output()
    os.chown(current.dir, 65534, 65534)
    config = current.dir / 'own.conf'
    config.write_text(devices(current, 'own')[0].section() + '\n')
    argv = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', env.product('bulkhead'), 'run',
            f'--runtime-dir={current.dir}/own', config]
    process = Process(current, 'ordinary', argv, env={'BULKHEAD_LIBEXEC': str(env.BUILD / 'procs')})
    process.wait_output('is served')
    lines = [line for line in process.output().splitlines() if 'isolated' in line]
    assert len(lines) == 1 and 'user 65534' in lines[0] and 'start as root' in lines[0], process.output()


if __name__ == '__main__':
    main()
