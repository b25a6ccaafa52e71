#!/usr/bin/env python3
"""Transfers of a device's state under hostile streams, with a snapshot process that hangs, and one that is killed.

What a state says is not looked at here: a device that was not touched takes back what it gave.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.process import kill_and_wait
from bulkhead_test.report import case, main, wait_until
from bulkhead_test.transfers import HEADER_BYTES, STATE_MAX, Operator, feed, holds, image, pipe
from bulkhead_test.vmm import Vmm

KILLS = 200 if env.FULL else 20
STEP_S = 30


class Scene:
    """A guest of two devices, each with a VMM that is connected and has stopped its rings; and an operator."""

    def __init__(self, current, *options):
        devices = [Device(name, str(current.dir / f'{name}.sock'), backend='echo') for name in ('net0', 'net1')]
        self.product = Bulkhead(current, devices, options=options)
        self.product.process.wait_output('is served')
        self.vmms = [Vmm(current, device.socket) for device in devices]
        for one in self.vmms:
            one.start()
            one.stop()
        self.operator = Operator(current, self.product.runtime / 'vm')
        self.before = {role: self.product.pid_of(role) for role in env.ROLES_OF_GUEST}

    def check(self, but=()):
        """The VMMs are served, and no process is another one."""
        for one in self.vmms:
            assert one.get_features() == one.features
        for role, pid in self.before.items():
            assert role in but or self.product.pid_of(role) == pid, f'{role} was restarted'

    def attached(self, role, but):
        """Its process, once memory knows it; 0 = there is none now. but: is dead, which memory may not know yet."""
        entry = next(entry for entry in self.product.status()['guests'][0]['processes'] if entry['name'] == role)
        return entry['pid'] if entry['connected'] and entry['pid'] != but else 0

    def check_both_ways(self, device='net1'):
        """A whole transfer each way."""
        data, error = self.operator.save(device)
        assert error == '', error
        error = self.operator.load(device, data)
        assert error == '', error
        return data


def hostile_streams(good):
    """(what it is, its bytes, what is said of it)"""
    yield 'nothing', b'', 'empty'
    yield 'a byte', b'B', 'truncated'
    yield 'a header', good[:HEADER_BYTES], 'truncated'
    yield 'all but a byte', good[:-1], 'truncated'
    yield 'a byte more', good + b'\0', None
    yield 'twice', 2 * good, None
    yield 'no state', image(b''), None
    yield 'no message', image(b'\xff' * 100), None
    yield 'noise', random.Random(env.SEED).randbytes(len(good)), 'magic'
    yield 'too much', image(bytes(STATE_MAX + 1)), None
    yield 'much too much', good + bytes(4 * STATE_MAX), 'longer than any state'
    for at in random.Random(env.SEED).sample(range(len(good)), min(len(good), 24)):
        yield f'byte {at} flipped', good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1:], None


# covers: M24
@case('transfers-streams', 60)
def streams(current):
    """Each is refused with a sentence; a stream that says nothing meanwhile, and one that is not read, hold up nobody."""
    scene = Scene(current)
    silent, theirs = pipe(load=True)
    waiting = scene.operator.begin('net1', True, theirs)
    good, error = scene.operator.save('net0')
    assert error == '' and len(good) > HEADER_BYTES, error
    for what, data, said in hostile_streams(good):
        error = scene.operator.load('net0', data)
        assert error and (not said or said in error), f'{what}: {error!r}'
        scene.check()
    assert scene.operator.load('net0', good) == ''
    assert scene.operator.watch()[1][waiting].get(6, 0) == 0, 'the silent one still waits'
    feed(silent, good)
    silent.close()
    assert scene.operator.wait_end(waiting) == '', 'and goes on when it speaks'
    scene.check()


@case('transfers-other-end', 60)
def other_end(current):
    """A stream whose reader goes away fails; that of an operator who goes away is cancelled, at any step."""
    scene = Scene(current)
    stream, theirs = pipe(load=False)
    stream.close()
    number = scene.operator.begin('net0', False, theirs)
    assert 'closed before all of it was read' in scene.operator.wait_end(number)
    other = Operator(current, scene.operator.folder)
    stream, theirs = pipe(load=True)
    number = other.begin('net0', True, theirs)
    wait_until(lambda: holds(scene.before['snapshot'], stream), 'the stream was taken')
    refusal = scene.operator.start('net0', False, pipe(load=False)[1])
    assert refusal[0] == 0 and 'another transfer' in refusal[1], refusal
    other.close()
    assert scene.operator.wait_end(number) is None, 'it is cancelled'
    wait_until(lambda: not holds(scene.before['snapshot'], stream), 'its stream is closed')
    scene.check_both_ways('net0')
    scene.check()


# covers: P7
@case('transfers-hang', 60)
def hang(current):
    """The snapshot process hangs: everything else goes on, and the one in its place does what was not begun."""
    scene = Scene(current, '--watchdog=3')
    good = scene.check_both_ways('net0')
    pid = scene.before['snapshot']
    taken, theirs = pipe(load=True)
    first = scene.operator.begin('net0', True, theirs)
    wait_until(lambda: holds(pid, taken), 'the stream was taken')
    os.kill(pid, signal.SIGSTOP)
    late, theirs = pipe(load=True)
    second = scene.operator.begin('net1', True, theirs)
    feed(late, good)
    late.close()
    scene.check()
    assert 'ended in the middle' in scene.operator.wait_end(first)
    assert scene.operator.wait_end(second) == ''
    scene.check(but=['snapshot'])
    scene.check_both_ways()


# covers: P7
@case('transfers-deadline', 120, ordinary=False)
def deadline(current):
    """A stream that never ends, and one that nobody reads, end with the time that a step has."""
    scene = Scene(current)
    silent, theirs = pipe(load=True)
    number = scene.operator.begin('net0', True, theirs)
    start = time.monotonic()
    error = scene.operator.wait_end(number)
    took = time.monotonic() - start
    assert 'has not ended within 30 s' in error, error
    assert STEP_S - 1 < took, f'{took:.1f} s'
    current.note(f'{took:.1f} s')
    wait_until(lambda: not holds(scene.before['snapshot'], silent), 'its stream is closed')
    scene.check_both_ways('net0')
    scene.check()


def one_transfer(scene, pid, wait_s, good):
    """A save or a load during which the snapshot process is killed: all of it is there, or a sentence."""
    load = random.random() < 0.5
    stream, theirs = pipe(load)
    with stream:
        number = scene.operator.begin('net0', load, theirs)
        time.sleep(wait_s)
        kill_and_wait(pid)
        if load:
            feed(stream, good)
            stream.close()
            data = good
        else:
            data = stream.read()
    error = scene.operator.wait_end(number)
    assert error is not None and (error or len(data) == len(good)), f'load {load}: {error!r}, {len(data)} bytes'
    return error


@case('transfers-kills', 120)
def kills(current):
    """Killed at any moment of a transfer: it is whole or has failed, and the device goes on."""
    random.seed(env.SEED)
    scene = Scene(current)
    good = scene.check_both_ways('net0')
    outcomes, pid = {}, 0
    for _ in range(KILLS):
        pid = wait_until(lambda last=pid: scene.attached('snapshot', last), 'there is one to kill')
        error = one_transfer(scene, pid, random.uniform(0, 0.01), good)
        outcomes[error or 'completed'] = outcomes.get(error or 'completed', 0) + 1
    current.note('; '.join(f'{n} {what}' for what, n in outcomes.items()))
    scene.check(but=['snapshot'])
    scene.check_both_ways('net0')


@case('transfers-memory-dies', 60)
def memory_dies(current):
    """It forgets its transfers: whoever waits at a stream is let go, and the next transfer is as good as any."""
    scene = Scene(current)
    stream, theirs = pipe(load=True)
    scene.operator.begin('net0', True, theirs)
    wait_until(lambda: holds(scene.before['snapshot'], stream), 'the stream was taken')
    scene.product.kill('memory')
    wait_until(lambda: not holds(scene.before['snapshot'], stream), 'its stream is closed')
    wait_until(lambda: (scene.operator.folder / 'link/ctl+link.sock').exists(), 'memory listens again')
    scene.operator.close()
    scene.operator = Operator(current, scene.operator.folder)
    scene.check_both_ways('net0')
    scene.check(but=['memory'])


if __name__ == '__main__':
    main()
