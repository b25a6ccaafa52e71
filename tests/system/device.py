#!/usr/bin/env python3
"""`bulkhead device net`: a back-end program as management software starts it, with a real front-end on the other side."""

import itertools
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.netns import Netns
from bulkhead_test.process import descendants, kill_and_wait
from bulkhead_test.program import Program, child, children
from bulkhead_test.qemu import NetDevice, Qemu
from bulkhead_test.report import case, main, wait_until
from bulkhead_test.testpmd import virtio_user

FRAMES = 20_000


def listener(path):
    line = socket.socket(socket.AF_UNIX)
    line.bind(str(path))
    line.listen(1)
    return line


def exchange(front_end, n=FRAMES):
    """Frames go round; every one that is sent comes back."""
    front_end.ask('set fwd io')
    front_end.start(tx_first=4)
    front_end.wait_packets('RX-packets', n)
    front_end.stop_forwarding()
    front_end.ask('set fwd rxonly')
    front_end.start()
    wait_until(lambda: front_end.stats()['RX-packets'] == front_end.stats()['TX-packets'],
               'all that was sent has come back', 5)
    front_end.stop_forwarding()


def mac_at(path):
    """The address in the configuration space of the device behind this socket."""
    features, set_features, protocol, set_protocol, config = 1, 2, 15, 16, 24
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(path))
        line.settimeout(10 * env.TIME_FACTOR)

        def ask(number, payload=b'', answer=0):
            line.sendall(struct.pack('III', number, 1, len(payload)) + payload)
            return line.recv(12 + answer, socket.MSG_WAITALL)[12:] if answer else None
        ask(features, answer=8)
        ask(set_features, struct.pack('Q', 1 << 30))
        ask(protocol, answer=8)
        ask(set_protocol, struct.pack('Q', 1 << 9))
        return ask(config, struct.pack('III6x', 0, 6, 0), 18)[12:].hex(':')


@case('device-mac', 60)
def mac(current):
    """Without --mac each device has an address of its own, and the same one when it is served again."""
    numbers = itertools.count()

    def served(name, *options, given=False):
        path, name = current.dir / name, f'device{next(numbers)}'
        if given:
            with listener(path) as passed:
                program = Program(current, f'--fd={passed.fileno()}', '--backend=echo', *options,
                                  pass_fds=(passed.fileno(),), name=name)
        else:
            program = Program(current, f'--socket-path={path}', '--backend=echo', *options, name=name)
        found = mac_at(path)
        program.ends_well()
        path.unlink(missing_ok=True)
        return found
    one = served('one.sock')
    assert int(one[:2], 16) & 3 == 2, f'{one}: unicast, locally administered'
    assert served('one.sock') == one, 'the same again'
    assert served('one.sock', given=True) == one, 'whoever listens there'
    assert served('two.sock') != one, 'another one for another'
    assert served('two.sock', '--mac=52:54:00:00:00:09') == '52:54:00:00:00:09'


@case('device-socket-path', 60)
def socket_path(current):
    program = Program(current, f'--socket-path={current.dir}/net.sock', '--backend=echo')
    front_end = virtio_user(current, f'{current.dir}/net.sock')
    exchange(front_end)
    assert f'guest device-{program.process.pid}: ' in program.ctl('status')
    said = program.ctl('upgrade')
    assert [line.split(' ')[0].split(':')[1] for line in said.splitlines()] == ['launcher', 'memory', 'frontend', 'snapshot', 'dev'], said
    exchange(front_end)
    front_end.quit()
    virtio_user(current, f'{current.dir}/net.sock', 'again', packed=True).quit()
    program.ends_well()


@case('device-socket-path-relative', 60)
def relative(current):
    program = Program(current, '--socket-path', 'net.sock', '--backend', 'null', '--generate=60', cwd=current.dir)
    front_end = virtio_user(current, f'{current.dir}/net.sock', forward='rxonly')
    front_end.start()
    front_end.wait_packets('RX-packets', FRAMES)
    program.ends_well()


@case('device-null', 60)
def null(current):
    Program(current, f'--socket-path={current.dir}/net.sock', '--backend=null')
    front_end = virtio_user(current, f'{current.dir}/net.sock', forward='txonly')
    front_end.start()
    front_end.wait_packets('TX-packets', FRAMES)
    assert front_end.stats()['RX-packets'] == 0, 'nothing comes back'


@case('device-queue-pairs', 60)
def queue_pairs(current):
    Program(current, f'--socket-path={current.dir}/net.sock', '--backend=echo', '--queue-pairs=2',
            '--mac=52:54:00:00:00:07', '--mtu=9000')
    exchange(virtio_user(current, f'{current.dir}/net.sock', queues=2))


@case('device-fd-that-listens', 60)
def fd_that_listens(current):
    """The path is not even there any more: what counts is the socket."""
    path = current.dir / 'net.sock'
    with listener(path) as line:
        program = Program(current, f'--fd={line.fileno()}', '--backend=echo', pass_fds=(line.fileno(),))
    for name in ('first', 'second'):
        front_end = virtio_user(current, path, name)
        exchange(front_end)
        front_end.quit()
        kill_and_wait(child(program, 'frontend'))
    program.ends_well()
    assert path.exists(), 'the file is not ours to remove'


@case('device-fd-that-is-connected', 60)
def fd_that_is_connected(current):
    """It serves this one VMM, over kills of ours, and ends with it."""
    path = current.dir / 'net.sock'
    found = []
    with listener(path) as line:
        start = threading.Thread(target=lambda: found.append(virtio_user(current, path)))
        start.start()
        conn = line.accept()[0]
    with conn:
        program = Program(current, f'--fd={conn.fileno()}', '--backend=echo', pass_fds=(conn.fileno(),))
    start.join()
    exchange(found[0])
    for role in ('frontend', 'snapshot', 'net', 'memory'):
        kill_and_wait(child(program, role))
        wait_until(lambda role=role: children(program, role), f'{role} is there again')
    exchange(found[0], found[0].stats()['RX-packets'] + FRAMES)
    pids = descendants(program.process.pid)
    found[0].quit()
    assert program.process.wait() == 0, program.process.output()
    program.check_gone(pids)


def ping(current, sock, queues=1):
    vm = Qemu(current, [NetDevice(sock, queues)], '7.2', cpus=queues)
    vm.wait_boot()
    vm.guest.net_up()
    for size in (56, 6000):
        vm.guest.ping(size=size)
    return vm


@case('device-tap', 90)
def tap(current):
    netns = Netns(current)
    netns.add_tap('vm-tap')
    program = Program(current, f'--socket-path={current.dir}/net.sock', '--tap=vm-tap', netns=netns)
    ping(current, current.dir / 'net.sock')
    program.ends_well()


def tap_fds(current, queues, inside):
    netns = Netns(current)
    netns.add_tap('vm-tap', queue_pairs=queues)
    fds = netns.open_tap('vm-tap', queues)
    try:
        program = Program(current, f'--socket-path={current.dir}/net.sock', *[f'--tap-fd={fd}' for fd in fds],
                          pass_fds=fds, netns=netns if inside else None)
    finally:
        for fd in fds:
            os.close(fd)
    vm = ping(current, current.dir / 'net.sock', queues)
    kill_and_wait(child(program, 'net'))
    vm.guest.ping()
    program.ends_well()


@case('device-tap-fd', 90)
def tap_fd(current):
    tap_fds(current, 1, inside=True)


@case('device-tap-fd-of-another-network', 90)
def tap_fd_elsewhere(current):
    """Whoever opened the interface may live in another network namespace than we do."""
    tap_fds(current, 2, inside=False)


def capabilities(name, *argv):
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=20, check=False,
                          stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f'status {done.returncode}: {done.stderr}'
    assert not done.stderr, done.stderr
    answer = json.loads(done.stdout)
    assert set(answer) == {'type', 'features'}, answer
    assert answer['type'] == name and isinstance(answer['features'], list), answer


@case('device-capabilities', 30)
def print_capabilities(current):
    """Whatever else is said: no other option is looked at, and nothing is done."""
    program = env.product('bulkhead')
    wrapper = current.dir / 'vhost-user-net'
    wrapper.symlink_to(program)
    for argv in ([program, 'device', 'net'], [wrapper]):
        capabilities('net', *argv, '--print-capabilities')
        capabilities('net', *argv, '--fd=777', '--socket-path=/nowhere/s', '--nonsense', '--mtu=x', '--print-capabilities')
        capabilities('net', *argv, '--print-capabilities', '--fd=777', '--help')


@case('device-installed', 120)
def installed(current):
    """What management software finds in /usr/share/qemu/vhost-user is what it can start."""
    root = current.dir / 'root'
    subprocess.run(['meson', 'install', '-C', str(env.BUILD), '--no-rebuild', '--quiet', '--destdir', str(root)],
                   check=True, capture_output=True, timeout=60)
    for name, folder in (('net', 'qemu'), ('wl', 'bulkhead')):
        found = list((root / 'usr/share' / folder / 'vhost-user').glob('*.json'))
        assert len(found) == 1, found
        entry = json.loads(found[0].read_text(encoding='utf-8'))
        assert entry['type'] == name and entry['description'], entry
        binary = root / entry['binary'].lstrip('/')
        target = root / os.readlink(binary).lstrip('/')
        assert target.is_file(), f'{binary} leads to {target}'
        assert entry['binary'].startswith(f'{prefix_libexec()}/'), entry
        capabilities(name, target, 'device', name, '--print-capabilities')


def prefix_libexec():
    options = json.loads(subprocess.run(['meson', 'introspect', '--buildoptions', str(env.BUILD)], check=True,
                                        capture_output=True, text=True).stdout)
    value = {option['name']: option['value'] for option in options}
    return f'{value["prefix"]}/{value["libexecdir"]}/bulkhead'


if __name__ == '__main__':
    main()
