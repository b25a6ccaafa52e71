#!/usr/bin/env python3
"""The launcher keeps what systemd keeps: stores, watchdog, restarts; and it can be replaced while it does so."""

import ctypes
import json
import contextlib
import grp
import os
import pwd
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.caller import Caller
from bulkhead_test.netns import Netns
from bulkhead_test.process import Process, alive, descendants, kill_and_wait
from bulkhead_test.qemu import NetDevice, Qemu
from bulkhead_test.report import case, main, wait_until
from bulkhead_test.tcp import MIB, Transfer

GET_FEATURES = 1
ROLES = env.ROLES
STORM = 100
STORE_MAX = 4096
GUESTS = 32
# of ptrace(2), waitpid(2) and futex(2); the last one is what pthread_cond_wait() asks for
PTRACE_CONT, PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 7, 0x4206, 0x4207, 0x40000000
SYS_FUTEX, IDLE_FUTEX = 202, 0x189


class Line:
    """A VMM's connection that must never end."""

    def __init__(self, case, path):
        self.socket = path if isinstance(path, socket.socket) else socket.socket(socket.AF_UNIX)
        if self.socket is not path:
            self._connect(path)
        self.socket.settimeout(20 * env.TIME_FACTOR)
        case.defer(self.socket.close)
        self.features = self.ask()

    def _connect(self, path):
        """Waits where others stand in line; and where its file is there, and nobody listens yet."""
        def connected():
            try:
                self.socket.connect(path)
            except ConnectionRefusedError:
                return False
            return True
        wait_until(connected, f'{path} is listened on')

    def ask(self):
        self.socket.sendall(struct.pack('III', GET_FEATURES, 1, 0))
        data = self.socket.recv(64)
        assert len(data) == 20, f'answer of {len(data)} bytes'
        return struct.unpack('Q', data[12:])[0]

    def check(self):
        assert self.ask() == self.features, 'the connection answers as before'


def echo(current):
    return Device(socket=str(current.dir / 'net0.sock'), backend='echo')


def install(current):
    """The programs in a directory of their own, where they can be replaced."""
    programs = current.dir / 'programs'
    programs.mkdir()
    for name in ('bulkhead', 'bulkhead-memory', 'bulkhead-frontend', 'bulkhead-snapshot', 'bulkhead-net'):
        shutil.copy2(env.product(name), programs / name)
    return programs


def replace(path, text):
    """As a package manager does it: written beside, then renamed."""
    beside = path.with_suffix('.new')
    beside.write_text(text)
    beside.chmod(0o755)
    beside.rename(path)


def hand_over(product):
    """The launcher takes its own place; returns when it has."""
    lock = product.runtime / 'vm' / 'lock'
    before = int(lock.read_text().split()[1])
    os.kill(product.pid, signal.SIGHUP)
    wait_until(lambda: int(lock.read_text().split()[1]) == before + 1, 'the launcher has taken its own place')


def all_there(product):
    seen = []

    # a memory manager whose nng stands still starts anew after 5.5 s; bulkheadctl gives up earlier
    def there():
        guests = json.loads(product.ctl('status', '--json', check=False))['guests']
        seen[:] = [process for guest in guests for process in guest.get('processes', [])]
        return len(seen) == len(ROLES) and all(process['pid'] for process in seen)
    try:
        wait_until(there, 'all processes have found each other')
    except AssertionError as error:
        raise AssertionError(f'{error}: {seen}') from error


@case('launcher-watchdog', 60)
def watchdog(current):
    product = Bulkhead(current, [echo(current)], options=['--watchdog=3'])
    line = Line(current, product.guests['vm'][0].socket)
    for role in ROLES:
        before = {other: product.pid_of(other) for other in ROLES}
        os.kill(before[role], signal.SIGSTOP)
        wait_until(lambda pid=before[role]: not alive(pid), f'the {role} process that hangs is killed', 20)
        line.check()
        wait_until(lambda role=role, pid=before[role]: product.pid_of(role) != pid, f'{role} is started again', 20)
        after = {other: product.pid_of(other) for other in ROLES}
        assert all((before[other] == after[other]) == (other != role) for other in ROLES), f'{before} {after}'
    assert product.process.output().count('gives no sign of life') == len(ROLES), product.process.output()


@case('launcher-storm', 120)
def storm(current):
    """However often and however early a process is killed or told to end, it does so at once, and comes back."""
    product = Bulkhead(current, [echo(current)])
    line = Line(current, product.guests['vm'][0].socket)
    for role in ROLES:
        for i in range(STORM):
            product.kill(role, signal.SIGTERM if i % 2 else signal.SIGKILL)
        line.check()
    all_there(product)


def is_idle(pid, tid):
    """It waits for work on a condition, and holds no lock."""
    call = Path(f'/proc/{pid}/task/{tid}/syscall').read_text(encoding='ascii').split()
    return call[0] == str(SYS_FUTEX) and int(call[2], 16) == IDLE_FUTEX


def stop_thread(pid, tid):
    """It stands still where it is idle, until the process ends or we do."""
    libc = ctypes.CDLL(None, use_errno=True)

    def ask(request):
        assert libc.ptrace(request, tid, None, None) == 0, os.strerror(ctypes.get_errno())

    def stopped():
        ask(PTRACE_INTERRUPT)
        os.waitpid(tid, WALL)
        if not is_idle(pid, tid):
            ask(PTRACE_CONT)
            return False
        return True
    ask(PTRACE_SEIZE)
    wait_until(stopped, 'the thread is idle', 10, 0.001)


@case('launcher-nng-stands-still', 60)
def nng_stands_still(current):
    """nng 1.5.2 may wait for a thread of its own for good when it is taken down. Of the processes, this one is at rest:
    the others may be in nng when its threads are stopped."""
    product = Bulkhead(current, [echo(current)])
    line = Line(current, product.guests['vm'][0].socket)
    all_there(product)
    pid = product.pid_of('snapshot')
    tids = [int(tid) for tid in os.listdir(f'/proc/{pid}/task')
            if Path(f'/proc/{pid}/task/{tid}/comm').read_text(encoding='ascii').strip() == 'nng:task']
    assert tids, 'there is no thread of nng'
    for tid in tids:
        stop_thread(pid, tid)
    kill_and_wait(pid, signal.SIGTERM, 5 * env.TIME_FACTOR)
    for tid in tids:
        os.waitpid(tid, WALL)
    line.check()
    all_there(product)


@case('launcher-not-ready', 60)
def not_ready(current):
    """A process that cannot become ready is tried until it can, and nothing else ends meanwhile."""
    product = Bulkhead(current, [echo(current)])
    line = Line(current, product.guests['vm'][0].socket)
    product.process.wait_output('guest vm is served')
    file = Path(product.runtime) / '.config/vm.conf'
    good = file.read_text()
    replace(file, 'nonsense\n')
    os.kill(product.pid_of('net'), signal.SIGKILL)
    product.process.wait_output('net vm:net0 ended with status 1; starting it again')
    line.check()
    replace(file, good)
    all_there(product)


@case('launcher-hand-over', 120)
def hands_over(current):
    programs = install(current)
    product = Bulkhead(current, [echo(current)], programs=programs)
    line = Line(current, product.guests['vm'][0].socket)
    for _ in range(5):
        before = {role: product.pid_of(role) for role in ROLES}
        hand_over(product)
        line.check()
        assert before == {role: product.pid_of(role) for role in ROLES}, 'a process ended'
        for role in ROLES:
            product.kill(role)
            line.check()
    for text in ('#!/bin/sh\nexit 1\n', 'not a program\n'):
        replace(programs / 'bulkhead', text)
        count = product.process.output().count('nothing has changed')
        os.kill(product.pid, signal.SIGHUP)
        wait_until(lambda: product.process.output().count('nothing has changed') > count, 'the bad program is refused')
        for role in ROLES:
            product.kill(role)
        line.check()
    shutil.copy2(env.product('bulkhead'), programs / 'good')
    (programs / 'good').rename(programs / 'bulkhead')
    hand_over(product)
    product.kill('frontend')
    line.check()


def with_passed(current, passed, make_line):
    """`bulkhead device` with a socket that was passed; yields lines to it before and after what may happen."""
    with passed:
        product = Process(current, 'device', [env.product('bulkhead'), 'device', 'net', f'--runtime-dir={current.dir}/run',
                                              f'--fd={passed.fileno()}', '--backend=echo'],
                          env={'BULKHEAD_LIBEXEC': str(env.BUILD / 'procs')}, pass_fds=(passed.fileno(),))
    product.wait_output('is served')
    line = make_line()
    lock = current.dir / 'run' / f'device-{product.pid}' / 'lock'
    os.kill(product.pid, signal.SIGHUP)
    wait_until(lambda: lock.read_text().split()[1] == '1', 'the launcher has taken its own place')
    line.check()
    kill_and_wait(int(lock.read_text().split()[3]))
    line.check()
    yield line
    assert product.stop() == 0, product.output()
    assert not lock.exists(), 'its directory is removed'


@case('launcher-passed-listener', 60)
def passed_listener(current):
    path = str(current.dir / 'passed.sock')
    passed = socket.socket(socket.AF_UNIX)
    passed.bind(path)
    passed.listen()
    for line in with_passed(current, passed, lambda: Line(current, path)):
        line.socket.close()
        Line(current, path).check()


@case('launcher-passed-connection', 60)
def passed_connection(current):
    ours, passed = socket.socketpair(socket.AF_UNIX)
    for line in with_passed(current, passed, lambda: Line(current, ours)):
        line.check()


@case('launcher-socket', 60)
def listens(current):
    """Nobody finds the socket gone, whatever is killed or replaced."""
    product = Bulkhead(current, [echo(current)])
    caller = Caller(product.guests['vm'][0].socket)
    try:
        for _ in range(10):
            product.kill('frontend')
            hand_over(product)
            product.kill('frontend', signal.SIGTERM)
    finally:
        met = caller.end()
    assert list(met) == ['accepted'], f'{met}'
    current.note(f'{met["accepted"]} connections')
    Line(current, product.guests['vm'][0].socket).check()


@case('launcher-killed', 60)
def killed(current):
    """Its processes end with it; the next launcher says so, and serves."""
    product = Bulkhead(current, [echo(current)])
    line = Line(current, product.guests['vm'][0].socket)
    pids = product.pids()
    os.kill(product.pid, signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in pids), 'nobody outlives the launcher')
    assert line.socket.recv(1) == b'', 'the connection ended'
    again = Bulkhead(current, [echo(current)], name='again')
    again.process.wait_output('is served')
    assert f'the previous launcher (pid {product.pid}) was killed' in again.process.output(), again.process.output()
    Line(current, again.guests['vm'][0].socket).check()
    again.stop()
    third = Bulkhead(current, [echo(current)], name='third')
    third.process.wait_output('is served')
    assert 'was killed' not in third.process.output(), third.process.output()


@case('launcher-upgrade', 120)
def upgrade(current):
    """Every process is another one afterwards; one whose program cannot be run stays."""
    programs = install(current)
    devices = [echo(current), Device(name='net1', socket=str(current.dir / 'net1.sock'), backend='null', standby=True)]
    product = Bulkhead(current, devices, programs=programs)
    product.process.wait_output('is served')
    line = Line(current, devices[0].socket)
    before = set(product.pids())
    said = product.ctl('upgrade')
    assert set(product.pids()) & before == {product.pid, product.keeper()}, f'{before} {product.pids()}'
    line.check()
    words = ['vm:launcher pid', 'vm:memory pid', 'vm:frontend pid', 'vm:snapshot pid', 'vm:net0 pid', 'vm:net1 pid', 'vm:net1+standby pid']
    assert len(said.splitlines()) == len(words) and all(word in said for word in words), said
    assert said.count('rings not served for') == 2 and said.count('stood by') == 1, said
    served = {match[0]: float(match[1]) for match in re.findall(r'^vm:(\S+) .*rings not served for ([0-9.]+) ms$', said, re.M)}
    assert all(0 < pause < 30000 for pause in served.values()), said
    current.note(f'rings not served: {served}')
    replace(programs / 'bulkhead-net', 'not a program\n')
    before = set(product.pids())
    assert 'vm:frontend pid' in product.ctl('upgrade', 'vm:frontend')
    assert product.ctl('upgrade', 'vm:net0', check=False) == '', 'a bad program is not tried'
    assert len(set(product.pids()) - before) == 1, 'the frontend alone is another one'
    line.check()


def rights(pid):
    """{thread: its effective and permitted capabilities} of a process."""
    found = {}
    for task in Path(f'/proc/{pid}/task').iterdir():
        lines = dict(line.split(':\t', 1) for line in (task / 'status').read_text().splitlines())
        found[f'{lines["Name"]} {task.name}'] = int(lines['CapEff'], 16) | int(lines['CapPrm'], 16)
    return found


@case('launcher-rights', 90)
def no_rights(current):
    """Started by root, no thread of any process keeps what opening the TAP and giving the socket away took."""
    netns = Netns(current)
    netns.add_tap(user=65534)
    group = grp.getgrgid(65534)
    devices = [Device(socket=str(current.dir / 'net0.sock'), socket_group=group.gr_name),
               Device(name='net1', socket=str(current.dir / 'net1.sock'), backend='null', standby=True,
                      members={'socket-user': 'nobody', 'socket-mode': '0600'})]
    product = Bulkhead(current, devices, netns)

    def check_all():
        product.process.wait_output('is served')
        wait_until(lambda: len([entry for entry in product.status()['guests'][0]['processes'] if entry['pid']]) == 6,
                   'all six processes are there')
        found = {}

        def dropped():
            """One that has just been started is there before its rights have fallen."""
            found.clear()
            for pid in descendants(product.pid):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                    found.update(rights(pid))
            return len(found) > 15 and not any(found.values())
        try:
            wait_until(dropped, 'no thread has capabilities')
        except AssertionError:
            raise AssertionError(f'threads with capabilities, of {len(found)}: '
                                 f'{ {name: hex(caps) for name, caps in found.items() if caps} }') from None
    check_all()
    assert os.stat(devices[0].socket).st_gid == group.gr_gid
    given = os.stat(devices[1].socket)
    assert (given.st_uid, oct(given.st_mode & 0o777)) == (pwd.getpwnam('nobody').pw_uid, '0o600'), given
    for role in env.ROLES_OF_GUEST:
        product.kill(role)
        check_all()
    for pid in product.processes()['bulkhead-net']:
        kill_and_wait(pid)
    check_all()


STORING = f'''#!/usr/bin/env python3
import array, os, signal, socket
line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
line.connect(os.environ['NOTIFY_SOCKET'])
names = os.environ.get('LISTEN_FDNAMES', '').split(':')
if len(names) < 2:
    for i in range({STORE_MAX} + 10):
        fd = os.memfd_create('x')
        line.sendmsg([b'FDSTORE=1\\nFDNAME=n%d' % i],
                     [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [fd]))])
        os.close(fd)
line.send(b'READY=1')
print('HAS', os.environ.get('LISTEN_FDS', '0'), names[0], names[-1], flush=True)
signal.pause()
'''


@case('launcher-devices', 60)
def devices_change(current):
    """A device more in a guest's file, and one less: what the others have stays."""
    first, second = (Device(name=name, socket=str(current.dir / f'{name}.sock'), backend='echo') for name in ('net0', 'net1'))
    config = current.dir / 'vm.conf'
    product = Bulkhead(current, [first])

    def workers():
        return {process['name']: process['pid'] for process in product.status()['guests'][0]['processes']
                if process['role'] == 'net' and process['pid']}
    line = Line(current, first.socket)
    config.write_text(f'{first.section()}\n\n{second.section()}\n')
    product.ctl('upgrade')
    wait_until(lambda: set(workers()) == {'net0', 'net1'}, 'both devices have a worker')
    line.check()
    Line(current, second.socket)
    # with a file that has errors all stays as it is
    config.write_text(f'{first.section()}\ntypo = 1\n')
    before = workers()
    hand_over(product)
    assert 'unknown key' in product.process.output()
    assert workers() == before
    # one that cannot start is nobody else's trouble
    third = Device(name='net2', socket=str(current.dir / 'net2.sock'), tap='nowhere')
    config.write_text(f'{first.section()}\n\n{second.section()}\n\n{third.section()}\n')
    hand_over(product)
    product.ctl('upgrade', 'vm:memory')
    wait_until(lambda: 'tap \'nowhere\' does not exist' in product.process.output(), 'its worker says why')
    line.check()
    now = workers()
    assert {name: now.get(name) for name in before} == before, f'{before} {now}'
    config.write_text(f'{first.section()}\n')
    product.ctl('upgrade')
    wait_until(lambda: set(workers()) == {'net0'}, 'one worker is left')
    line.check()
    assert not os.path.exists(second.socket), 'the socket of the device that is gone'
    # another name at the same path: the former device's VMM is told, the next one finds the new device
    config.write_text(first.section().replace('net0', 'net3', 1) + '\n')
    product.ctl('upgrade')
    wait_until(lambda: set(workers()) == {'net3'}, 'the device has another name')
    assert line.socket.recv(1) == b''
    Line(current, first.socket)
    wait_until(lambda: len(descendants(product.pid)) <= 2 * len(ROLES), 'its worker has ended')


@case('launcher-apply', 60)
def applies(current):
    """A file that is faulty now harms nobody; put into force, a change restarts what it is about."""
    first = Device(name='net0', socket=str(current.dir / 'net0.sock'), backend='echo')
    config = current.dir / 'vm.conf'
    product = Bulkhead(current, [first])

    def pids():
        return {process['name']: process['pid'] for process in product.status()['guests'][0]['processes']}

    def replaced(before):
        return {name for name, pid in pids().items() if before.get(name) != pid}
    line = Line(current, first.socket)
    good = config.read_text()
    for text in (good + 'typo = 1\n', '', None):
        config.unlink() if text is None else config.write_text(text)
        for role in ROLES:
            product.kill(role)
        product.ctl('upgrade')
        line.check()
        before = pids()
        said = product.ctl('apply', check=False)
        assert pids() == before, f'{text!r}: {said}'
        line.check()
    config.write_text(good + 'mtu = 9000\n')
    before = pids()
    assert product.ctl('apply', '--dry-run').strip() == 'vm:net0: restart; its rings pause'
    assert pids() == before, 'a dry run'
    assert 'vm:net0: restart' in product.ctl('apply', 'vm')
    assert replaced(before) == {'net0'}, replaced(before)
    assert product.ctl('apply').strip() == 'vm: nothing to do'
    config.write_text(good.replace('net0.sock', 'other.sock'))
    product.ctl('apply')
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(str(current.dir / 'other.sock'))
    line.check()


def processor_ticks(pids):
    return sum(int(ticks) for pid in pids for ticks in Path(f'/proc/{pid}/stat').read_text().rpartition(') ')[2].split()[11:13])


def processor_share(product):
    """Of what somebody who spins is given meanwhile: a process of the suite that spins has as much, however busy the machine is."""
    with subprocess.Popen([sys.executable, '-c', 'while True: pass']) as spinner:
        try:
            watched = (product.pids(), [spinner.pid])
            before = [processor_ticks(pids) for pids in watched]
            time.sleep(1)
            spent, possible = (processor_ticks(pids) - ticks for pids, ticks in zip(watched, before))
        finally:
            spinner.kill()
    return spent / max(possible, 1)


@case('launcher-idle', 60)
def idle(current):
    """Devices that nobody uses use no processor: before a VMM was there, and after it has gone."""
    netns = Netns(current)
    netns.add_tap(queue_pairs=2)
    devices = [Device(name=name, socket=str(current.dir / f'{name}.sock'), queue_pairs=2, standby=name != 'one', backend=backend)
               for name, backend in (('one', 'tap'), ('two', 'echo'))]
    product = Bulkhead(current, devices, netns)
    for _ in range(2):
        time.sleep(1)
        shares = [processor_share(product) for _ in range(3)]
        assert min(shares) < 0.3, f'{min(shares):.0%} of what a spinning process has, at the least'
        Line(current, devices[0].socket).socket.close()


# covers: P4
@case('launcher-store-limit', 120)
def store_limit(current):
    """One line says that the store is full; what it holds it keeps."""
    programs = install(current)
    replace(programs / 'bulkhead-net', STORING)
    product = Bulkhead(current, [echo(current)], programs=programs)
    product.process.wait_output('is served', 60)
    output = product.process.output()
    assert output.count('the fd store is full') == 1, output
    worker = [pid for pid in product.pids() if pid not in (product.pid, product.keeper(), *map(product.pid_of, env.ROLES_OF_GUEST))]
    os.kill(worker[0], signal.SIGKILL)
    product.process.wait_output(f'HAS {STORE_MAX} n0 n{STORE_MAX - 1}')


@case('launcher-many-guests', 120)
def many(current):
    """As many guests as a small host has, each with its own users and keeper; what happens to one is no other's."""
    guests = {f'g{i}': [Device(socket=str(current.dir / f'{i}.sock'), backend='echo')] for i in range(GUESTS)}
    product = Bulkhead(current, guests=guests)
    wait_until(lambda: product.process.output().count('is served') == GUESTS, 'every guest is served', 60)
    lines = [Line(current, devices[0].socket) for devices in guests.values()]
    processes = {process['pid'] for guest in product.status()['guests'] for process in guest['processes']}
    assert len(processes) == 4 * GUESTS and 0 not in processes, f'{len(processes)} processes'
    users = {os.stat(f'/proc/{pid}').st_uid for pid in descendants(product.pid) if alive(pid)}
    assert os.geteuid() or len(users) == 5 * GUESTS, f'{len(users)} users'
    first = {process['pid'] for process in product.status()['guests'][0]['processes']}
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    for line in lines:
        line.check()
    now = {process['pid'] for guest in product.status()['guests'][1:] for process in guest['processes']}
    assert now == processes - first, 'another guest\'s process was started again'


@case('launcher-hand-over-guest', 240)
def guest(current):
    netns = Netns(current)
    netns.add_tap()
    device = Device(socket=str(current.dir / 'net0.sock'))
    product = Bulkhead(current, [device], netns)
    vm = Qemu(current, [NetDevice(device.socket)])
    vm.wait_boot()
    vm.guest.net_up()
    vm.guest.ping()
    before, carrier = vm.sockets(), vm.guest.carrier_changes()
    for direction in ('from-guest', 'to-guest'):
        transfer = Transfer(netns, vm.guest, direction, 300 * MIB)
        for i in range(9):
            transfer.wait_progress((i + 1) * 16 * MIB)
            hand_over(product)
            product.kill(ROLES[i % len(ROLES)])
            all_there(product)
            product.ctl('upgrade')
        current.note(f'{direction} {transfer.wait(180):.0f} Mbit/s')
    vm.qemu_events = vm.qmp.event_names()
    vm.check_connection(before)
    assert vm.guest.carrier_changes() == carrier, 'the guest\'s link went down'


if __name__ == '__main__':
    main()
