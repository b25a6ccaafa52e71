#!/usr/bin/env python3
"""A process of ours that was taken over: what it says is judged, and costs its own device at most."""

import errno
import fcntl
import os
import random
import shutil
import struct
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env, vmm
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.process import kill_and_wait
from bulkhead_test.protobuf import field, fields
from bulkhead_test.puppet import (ATTACH, COMMIT_DESIRED, DEPOSIT, GET_STATUS, GREET, KEEP, KINDS, REDEEM, RELEASE_DEVICE,
                                  REPORT_OBSERVED, REPORT_TRANSFER, START_TRANSFER, TAKE_STREAM, UNKEEP, WATCH_DESIRED, WATCH_OBSERVED,
                                  WATCH_TRANSFERS, Ended, Puppet, Refused, install)
from bulkhead_test.report import case, main, wait_until
from bulkhead_test.transfers import STATE_MAX, Operator, pipe
from bulkhead_test.vmm import Vmm

NAMES = ('net0', 'witness')
U32, U64 = (1 << 32) - 1, (1 << 64) - 1
NET_STATUS = 1 << 16
SOME_TEXT = 'a\n\x1b[2J\x07\0b' * 2000


class Scene:
    """One guest of two devices, each with a VMM; the program of one role may be a puppet."""

    def __init__(self, current, role, wrap=()):
        self.programs = install(current, role)
        devices = [Device(name, self.socket(name), backend='echo') for name in NAMES]
        self.product = Bulkhead(current, devices, programs=self.programs, wrap=wrap)
        self.vmms = {device.name: Vmm(current, device.socket) for device in devices}
        for one in self.vmms.values():
            one.start()
        self.puppet = None

    def pids(self):
        """{name: pid} of all processes, as memory knows them."""
        return {entry['name']: entry['pid'] for entry in self.product.status()['guests'][0]['processes'] if entry['connected']}

    def play(self, current, name, instance):
        """The process of that name is a puppet from now on; the others must stay who they are."""
        pid = wait_until(lambda: self.pids().get(name), f'{name} is there')
        self.puppet = Puppet(current, self.programs, instance)
        with self.puppet:
            kill_and_wait(pid)
            self.puppet.wait()
            self.others = {other: pid for other, pid in self.pids().items() if other != name}
            yield self.puppet

    def socket(self, name):
        return str(self.programs.parent / f'{name}.sock')

    def check_net0(self):
        """Its next worker is an honest one, and the VMM of before is served by it."""
        one = self.vmms['net0']
        wait_until(lambda: self.pids().get('net0'), 'an honest worker is there')
        wait_until(lambda: one.get_features() == one.features, 'the device offers what it offered')
        wait_until(lambda: one.acked(vmm.SET_FEATURES, struct.pack('Q', vmm.VERSION_1 | vmm.PROTOCOL_FEATURES)),
                   'what the VMM is promised comes true')
        assert one.stop() == [0, 0]

    def settle(self, name, generation, what):
        """The worker has looked at this generation, and is still who it was."""
        def applied():
            self.check(what)
            return self.product.device(name)['applied'] >= generation
        wait_until(applied, f'{what}: the worker has looked at it')

    def check(self, what):
        now = self.pids()
        assert all(now.get(name) == pid for name, pid in self.others.items()), f'{what}: {self.others} were there, now {now}'


def answer_to(puppet, *question):
    """What came of a question: 'answered', the error, or 'ended'."""
    try:
        puppet.ask_bus(*question)
        return 'answered'
    except Refused as refused:
        return refused.error
    except Ended:
        return 'ended'


def link_answer_to(puppet, *question):
    try:
        _, got = puppet.ask_link(*question)
        for fd in got:
            os.close(fd)
        return 'answered'
    except Refused as refused:
        return refused.error
    except Ended:
        return 'ended'


# --- The worker ---

def observed(applied, *fields_):
    """A report as an honest worker makes it, with these fields instead of its own."""
    honest = {2: applied, 4: vmm.VERSION_1, 5: U32, 6: 3, 7: 2, 8: 32768, 9: 509, 10: bytes(24), 14: bytes(24)}
    wrong = dict(fields_) if len({number for number, _ in fields_}) == len(fields_) else None
    if wrong is not None:
        honest.update(wrong)
        fields_ = ()
    return b''.join(field(number, value) for number, value in [*honest.items(), *fields_])


def ring(**values):
    numbers = {'index': 1, 'running': 2, 'position': 3, 'error': 4, 'error_start_id': 5, 'start_id': 6}
    return 12, b''.join(field(numbers[name], value) for name, value in values.items())


REPORTS = (
    ('no queues', [(6, 0), (7, 0), (8, 0), (9, 0)]),
    ('queues without end', [(6, U32), (7, U32), (8, U32), (9, U64)]),
    ('all features', [(4, U64), (5, U64)]),
    ('no configuration space', [(10, b''), (14, b'')]),
    ('a configuration space of 40,000 bytes', [(10, bytes(40000)), (14, b'\1' * 40000)]),
    ('a mask longer than the configuration space', [(14, b'\1' * 500)]),
    ('one ring a thousand times', [ring(index=0, running=1, position=i) for i in range(1000)]),
    ('rings that do not exist', [ring(index=U32, running=1, position=U32), ring(index=256), ring(index=3)]),
    ('a position that no ring has', [ring(index=0, position=U32, start_id=U64)]),
    ('texts that are none', [(3, SOME_TEXT), (13, SOME_TEXT), (40, SOME_TEXT), ring(index=0, error=SOME_TEXT)]),
    ('a text without end', [(40, 'x' * 200000)]),
    ('counters that have no room left', [(11, 1 << 63), (23, 1 << 63)]),
    ('bytes that are no text', [(3, b'\xff\xfe' * 500), (13, b'\xc0\x80' * 500)]),
    ('configuration that changes each time', [(11, U64)]),
)


def provoke(one):
    """A VMM that makes use of what the worker says of itself; it is answered all the same."""
    for size in (12, 24, 256):
        one.ask(vmm.GET_CONFIG, struct.pack('III', 0, size, 0) + bytes(size))
    for index in (0, 2, 255, 256, 100000, U32):
        one.say(vmm.SET_VRING_NUM, struct.pack('II', index, 128))
        one.say(vmm.SET_VRING_ENABLE, struct.pack('II', index, 1))
    one.say(vmm.SET_VRING_CALL, struct.pack('Q', 255), [one.event()])
    one.say(vmm.SET_VRING_KICK, struct.pack('Q', 254), [one.event()])
    one.ask(vmm.GET_VRING_BASE, struct.pack('II', U32, 0))
    one.get_features()


def applied_by(puppet):
    return dict(puppet.ask_bus(WATCH_DESIRED, field(1, 'net0')))[1]


# covers: P1
@case('liars-worker-reports', 120)
def worker_reports(current):
    """Whatever it says of itself; the device is what it was when its next worker is an honest one."""
    scene = Scene(current, 'net')
    for puppet in scene.play(current, 'net0', 'vm:net0'):
        for what, changed in REPORTS:
            report = field(1, 'net0') + field(2, observed(applied_by(puppet), *changed))
            answer_to(puppet, REPORT_OBSERVED, report)
            provoke(scene.vmms['net0'])
            scene.check(what)
            assert 'xxxxx' not in scene.product.ctl('status', check=False), what
            assert scene.vmms['witness'].acked(vmm.SET_FEATURES, struct.pack('Q', vmm.VERSION_1 | vmm.PROTOCOL_FEATURES)), what
    scene.check_net0()


# --- What a worker shares with its successor ---

def write_all(fd, byte, first=0):
    for at in range(first, os.fstat(fd).st_size, 1 << 20):
        os.pwrite(fd, byte * min(1 << 20, os.fstat(fd).st_size - at), at)


def open_for_appending(fd):
    """To where a file of a fixed size takes nothing."""
    os.pwrite(fd, b'no ledger', 0)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)


SPOILED = (
    ('a header that is none', lambda fd: os.pwrite(fd, b'no ledger', 0)),
    ('another one, and writes go to the end', open_for_appending),
    ('a shape of its own', lambda fd: os.pwrite(fd, b'\xff' * 8, 12)),
    ('ones behind its shape', lambda fd: write_all(fd, b'\xff', 64)),
    ('large numbers behind its shape', lambda fd: write_all(fd, b'\xc0', 64)),
    ('nothing but ones', lambda fd: write_all(fd, b'\xff')),
    ('noise', lambda fd: os.pwrite(fd, random.randbytes(1 << 16), 0)),
)


def check_served(scene, what):
    """The worker of net0 puts in force what its VMM changes; if it is in quarantine, once it was released."""
    one, asked = scene.vmms['net0'], [vmm.VERSION_1 | vmm.PROTOCOL_FEATURES, vmm.VERSION_1 | vmm.PROTOCOL_FEATURES | NET_STATUS]

    def serves():
        if 'quarantine' in scene.product.ctl('status', check=False):
            scene.product.ctl('release', 'vm', 'net0')
        # what is in force already would need no worker
        return all(one.acked(vmm.SET_FEATURES, struct.pack('Q', features)) for features in asked)
    wait_until(serves, f'{what}: the device is served again', 20)


# covers: P1
@case('liars-worker-ledger', 120)
def worker_spoils_ledger(current):
    """Whatever it leaves in its ledger and in the open file, its successor serves; at most the operator has to release it."""
    scene = Scene(current, 'net')
    for what, spoil in SPOILED:
        for puppet in scene.play(current, 'net0', 'vm:net0'):
            _, (record, ledger) = puppet.ask_link(ATTACH, field(1, 'net0') + field(2, 8192))
            spoil(ledger)
            os.close(record)
            os.close(ledger)
            scene.check(what)
        check_served(scene, what)
        scene.check(what)
    assert scene.vmms['witness'].stop() == [0, 0]


# covers: P1 P5
@case('liars-worker-that-reads-nothing', 120)
def worker_does_not_read(current):
    """Descriptors that it does not take are counted for who sent them: the others' must not be among those that suffer."""
    scene = Scene(current, 'net', wrap=('prlimit', '--nofile=1024:1024'))
    for puppet in scene.play(current, 'net0', 'vm:net0'):
        for i in range(60):
            puppet.ask_link(KEEP, field(1, 'net0') + field(2, f'k.{i}'), 1)
        for _ in range(20):
            puppet.ask_and_leave(ATTACH, field(1, 'net0') + field(2, 8192), 100)
        scene.check('answers that nobody reads')
        witness = scene.vmms['witness']
        assert witness.stop() == [0, 0]
        witness.start()
        assert witness.stop() == [0, 0]
        kill_and_wait(scene.others['witness'])
        scene.others['witness'] = wait_until(lambda: scene.pids().get('witness'), 'the other worker is started again')
        witness.start()
    assert witness.stop() == [0, 0]
    check_served(scene, 'after that')


GARBAGE = (b'\xff' * 4, b'\0', b'\x0a\xff\xff\xff\x0f', field(99, b'x'), field(5, b''), field(GET_STATUS, b''), b'\x10' * 3000,
           field(3, field(1, U64) + field(2, SOME_TEXT)))


def talk_garbage(scene, puppet, good):
    """Bytes that are no request, on both lines; a good question is answered after each."""
    for data in GARBAGE:
        for say in (puppet.link, puppet.bus):
            try:
                say(data)
            except Ended:
                pass
        scene.check(f'{data[:8]!r}...')
        good()
    # below the protocol of the bus: a length that nobody has, a hello in the middle, half a message
    for data in (b'\1' + b'\xff' * 8, b'\0SP\0\0\x30\0\0', b'\2' * 100, struct.pack('>BQ', 1, 100) + b'x'):
        puppet.raw(data)
        puppet.hang_up()
        puppet.ask_link(GREET)
        scene.check(f'{data[:9]!r} below the bus')
        good()


# covers: P1 P5
@case('liars-worker-asks', 120)
def worker_asks(current):
    """What it may not ask, and what is no request at all."""
    scene = Scene(current, 'net')
    for puppet in scene.play(current, 'net0', 'vm:net0'):
        for request, body in ((COMMIT_DESIRED, field(1, 'net0') + field(2, field(1, U64))), (GET_STATUS, b''),
                              (RELEASE_DEVICE, field(1, 'net0')), (WATCH_OBSERVED, b'')):
            assert answer_to(puppet, request, body) == errno.EPERM, f'request {request}'
        for device in ('witness', '', 'net00', SOME_TEXT):
            report = field(1, device) + field(2, observed(U64))
            assert answer_to(puppet, REPORT_OBSERVED, report) == errno.ENOENT, f'a report for {device[:9]!r}'
            assert answer_to(puppet, WATCH_DESIRED, field(1, device)) == errno.ENOENT, f'a watch for {device[:9]!r}'
        for device in ('witness', '', SOME_TEXT):
            assert link_answer_to(puppet, DEPOSIT, field(1, device) + field(2, 1), 1) == errno.ENOENT, f'for {device[:9]!r}'
        assert link_answer_to(puppet, DEPOSIT, field(1, 'net0') + field(2, 2), 1) == errno.EBADMSG, 'one of two came'
        deposited = [link_answer_to(puppet, DEPOSIT, field(1, 'net0') + field(2, 1), 1) for _ in range(1100)]
        assert set(deposited) == {'answered', errno.EDQUOT}, f'{set(deposited)} of 1100 descriptors to deposit'
        for token in (0, 1, 2, 1 << 32, U64):
            for device in NAMES:
                assert link_answer_to(puppet, REDEEM, field(1, device) + field(2, token)) == errno.ENOENT, f'token {token}'
        for n_bytes in (0, 1 << 31, 1 << 63, U64):
            assert link_answer_to(puppet, ATTACH, field(1, 'net0') + field(2, n_bytes)) == errno.EINVAL, f'{n_bytes} bytes'
        for name in ('', '../net0', 'a:b', SOME_TEXT):
            assert link_answer_to(puppet, KEEP, field(1, 'net0') + field(2, name), 1) == errno.EINVAL, f'{name[:9]!r}'
        kept = [link_answer_to(puppet, KEEP, field(1, 'net0') + field(2, f'k.{i}'), 1) for i in range(1100)]
        assert set(kept) == {'answered', errno.ENOSPC}, f'{set(kept)} of 1100 descriptors to keep'
        for i in range(1100):
            puppet.ask_link(UNKEEP, field(1, 'net0') + field(2, f'k.{i}'))
        talk_garbage(scene, puppet, lambda: applied_by(puppet))
        assert scene.vmms['witness'].ask(vmm.GET_FEATURES)
    scene.check_net0()


# covers: P1
@case('liars-worker-that-says-nothing', 60)
def worker_is_silent(current):
    """What its VMM was promised is refused in the end; nobody else waits for it."""
    scene = Scene(current, 'net')
    features = vmm.VERSION_1 | vmm.PROTOCOL_FEATURES
    for _ in scene.play(current, 'net0', 'vm:net0'):
        answers, n_asked = [], 0
        # what is in force already would need no worker
        asked = [struct.pack('Q', features | NET_STATUS), struct.pack('Q', features)]
        waiting = threading.Thread(target=lambda: answers.append(scene.vmms['net0'].acked(vmm.SET_FEATURES, asked[0])))
        waiting.start()
        while waiting.is_alive():
            assert scene.vmms['witness'].acked(vmm.SET_FEATURES, asked[n_asked % 2])
            n_asked += 1
        waiting.join()
        assert answers == [False] and n_asked > 1, f'{answers} after {n_asked} questions of the other VMM'
        scene.check('silence')
    scene.check_net0()


# --- The frontend ---

def region(**values):
    numbers = {'token': 1, 'gpa': 2, 'size': 3, 'uva': 4, 'offset': 5}
    return 10, b''.join(field(numbers[name], value) for name, value in values.items())


def queue(**values):
    numbers = {'index': 1, 'size': 2, 'has_addresses': 3, 'desc': 4, 'avail': 5, 'used': 6, 'position': 9, 'started': 10,
               'enabled': 11, 'start_id': 12, 'kick': 13, 'call': 14, 'err': 15, 'poll': 16}
    return 11, b''.join(field(numbers[name], value) for name, value in values.items())


REFUSED_RECORDS = (
    ('memory that was not deposited', [region(token=77, gpa=0, size=1 << 20, uva=1 << 40)]),
    ('memory of no size', [region(token=77)]),
    ('memory that wraps', [region(token=77, gpa=U64 - 4095, size=1 << 20, uva=1 << 40)]),
    ('more memory than there are slots', [region(token=77, gpa=i << 20, size=4096, uva=i << 20) for i in range(600)]),
    ('a kick that was not deposited', [queue(index=0, kick=77)]),
    ('a call that was not deposited', [queue(index=0, call=U64)]),
    ('more rings than there are', [queue(index=i) for i in range(1000)]),
    ('an in-flight region that was not deposited', [(17, field(1, 77) + field(2, 1 << 20) + field(4, 2) + field(5, 256))]),
)

NONSENSE_RECORDS = (
    ('all features', [(5, U64), (6, 1), (7, U64), (8, U32), (12, U32)]),
    ('rings without memory', [queue(index=i, size=U32, has_addresses=1, desc=U64, avail=U64, used=U64, started=1, enabled=1,
                                    poll=1, start_id=U64, position=U32) for i in range(4)]),
    ('one ring many times', [queue(index=0, size=256, has_addresses=1, desc=1 << 40, started=1, poll=1, start_id=i)
                             for i in range(256)]),
    ('rings that do not exist', [queue(index=U32, size=2, started=1, poll=1), queue(index=255, started=1, poll=1)]),
    ('writes outside configuration space', [(15, field(1, i + 1) + field(2, U32 - 3) + field(3, bytes(4000)) + field(4, i & 1))
                                            for i in range(8)]),
    ('an announcement without an address', [(13, 1), (14, b'x')]),
    ('an announcement with much of one', [(13, 2), (14, b'x' * 5000)]),
    ('a channel, a session and a reset of any number', [(2, U64), (9, U64), (16, U64)]),
    ('a reason that is none', [(18, '')]),
    ('nothing at all', []),
    ('counters that have no room left', [(2, 1 << 63), (9, 1 << 63), (13, 1 << 63), (23, 1 << 63)]),
)


def commit(puppet, device, *values):
    """(generation in force, why it was refused)"""
    desired = b''.join(field(number, value) for number, value in values)
    found = dict(puppet.ask_bus(COMMIT_DESIRED, field(1, device) + field(2, desired)))
    return found.get(1, 0), found.get(2, b'').decode(errors='replace')


# covers: P1 P5
@case('liars-frontend', 120)
def frontend(current):
    """Its records are judged like a VMM's messages; workers outlive those that are nonsense and right in form."""
    scene = Scene(current, 'frontend')
    for puppet in scene.play(current, 'frontend', 'vm'):
        for request, body in ((REPORT_OBSERVED, field(1, 'net0') + field(2, observed(1))), (WATCH_DESIRED, field(1, 'net0')),
                              (GET_STATUS, b''), (RELEASE_DEVICE, field(1, 'net0'))):
            assert answer_to(puppet, request, body) == errno.EPERM, f'request {request}'
        for request in (ATTACH, KEEP, UNKEEP):
            assert link_answer_to(puppet, request, field(1, 'net0'), int(request == KEEP)) == errno.EPERM, f'request {request}'
        assert link_answer_to(puppet, DEPOSIT, field(1, 'net7') + field(2, 1), 1) == errno.ENOENT
        assert link_answer_to(puppet, DEPOSIT, field(1, 'net0') + field(2, 2), 1) == errno.EBADMSG
        assert answer_to(puppet, COMMIT_DESIRED, field(1, 'net7') + field(2, field(1, 1))) == errno.ENOENT
        assert answer_to(puppet, COMMIT_DESIRED, field(1, 'net0')) == errno.ENOENT
        generation, _ = commit(puppet, 'net0', (1, 0))
        for what, values in REFUSED_RECORDS:
            in_force, why = commit(puppet, 'net0', (1, generation + 1), *values)
            assert why and in_force == generation, f'{what} was accepted'
            scene.check(what)
        for what, values in NONSENSE_RECORDS:
            in_force, why = commit(puppet, 'net0', (1, generation + 1), (3, 1), *values)
            assert in_force == generation + (not why), f'{what}: generation {in_force}, {why!r}'
            generation = in_force
            scene.settle('net0', generation, what)
        talk_garbage(scene, puppet, lambda: commit(puppet, 'net0', (1, 0)))
    wait_until(lambda: scene.pids().get('frontend'), 'an honest frontend is there')
    assert scene.vmms['witness'].stop() == [0, 0]
    scene.vmms['net0'].line.close()
    scene.vmms['net0'] = Vmm(current, scene.socket('net0'))
    scene.vmms['net0'].start()
    assert scene.vmms['net0'].stop() == [0, 0]


# --- The snapshot process ---

def packed_state(**stages):
    """A State whose form is right, with these stages (name: data) in version 1."""
    head = field(1, 'net') + field(2, 'net0') + field(3, 'vm')
    return head + b''.join(field(7, field(1, name) + field(2, 1) + field(3, data)) for name, data in stages.items())


STATES = (
    ('no message', b'\xff' * 100),
    ('no stages', packed_state()),
    ('stages of nothing', packed_state(features=b'', rings=b'')),
    ('all features', packed_state(features=field(1, U64) + field(2, U64), rings=b'')),
    ('rings that do not exist', packed_state(features=b'', rings=field(1, field(1, U32) + field(2, U32) + field(3, U32)))),
    ('another device', packed_state(features=b'', rings=b'', null=b'')),
    ('much of it', packed_state(features=b'', rings=b'', counters=bytes(500000))),
    ('too much of it', bytes(STATE_MAX + 1)),
)


def report(puppet, device, number, state=b'', error=''):
    return answer_to(puppet, REPORT_TRANSFER, field(1, device) + field(2, number) + field(3, error) + field(4, state))


# covers: P1 P5 M24
@case('liars-snapshot', 120)
def snapshot(current):
    """It has no business but with transfers whose turn is its own; what it says that a stream said is judged."""
    scene = Scene(current, 'snapshot')
    scene.vmms['net0'].stop()
    for puppet in scene.play(current, 'snapshot', 'vm'):
        operator = Operator(current, scene.product.runtime / 'vm')
        for request in (COMMIT_DESIRED, WATCH_DESIRED, REPORT_OBSERVED, WATCH_OBSERVED, GET_STATUS, RELEASE_DEVICE):
            assert answer_to(puppet, request, b'') == errno.EPERM, f'request {request}'
        for request in (DEPOSIT, REDEEM, ATTACH, KEEP, UNKEEP, START_TRANSFER):
            assert link_answer_to(puppet, request, field(1, 'net0'), int(request == KEEP)) == errno.EPERM, f'request {request}'
        assert link_answer_to(puppet, TAKE_STREAM, field(1, 'net0') + field(2, 77)) == errno.ENOENT
        assert report(puppet, 'net7', 77) == errno.ENOENT
        assert report(puppet, 'net0', 77) == 'answered', 'and has no effect'
        for what, state in STATES:
            stream, theirs = pipe(load=True)
            number = operator.begin('net0', True, theirs)
            assert link_answer_to(puppet, TAKE_STREAM, field(1, 'net0') + field(2, number)) == 'answered'
            assert report(puppet, 'net0', number, state) == 'answered'
            assert operator.wait_end(number), f'{what} was taken over'
            stream.close()
            scene.check(what)
        stream, theirs = pipe(load=True)
        number = operator.begin('net0', True, theirs)
        report(puppet, 'net0', number, b'what nobody has read')
        assert 'has not' in operator.wait_end(number), 'it has not even taken the stream'
        stream, theirs = pipe(load=True)
        number = operator.begin('net0', True, theirs)
        report(puppet, 'net0', number, error=SOME_TEXT)
        error = operator.wait_end(number)
        assert len(error) <= 256 and error.isprintable(), error
        talk_garbage(scene, puppet, lambda: report(puppet, 'net0', 77))
    wait_until(lambda: scene.pids().get('snapshot'), 'an honest snapshot process is there')
    data, error = operator.save('net0')
    assert error == '' and operator.load('net0', data) == '', error
    assert scene.vmms['witness'].stop() == [0, 0]


# covers: P1
@case('liars-worker-of-a-transfer', 60)
def worker_of_a_transfer(current):
    """It reports on its own device's transfer, in its turn, what a state can be; else it has no effect."""
    scene = Scene(current, 'net')
    scene.vmms['witness'].stop()
    operator = Operator(current, scene.product.runtime / 'vm')
    for puppet in scene.play(current, 'net0', 'vm:net0'):
        stream, theirs = pipe(load=True)
        number = operator.begin('witness', True, theirs)
        assert report(puppet, 'witness', number, b'a state') == errno.ENOENT
        assert answer_to(puppet, WATCH_TRANSFERS, b'') == errno.EPERM
        stream.close()
        assert operator.wait_end(number) == 'it is empty', 'this is what came of it'
        stream, theirs = pipe(load=True)
        number = operator.begin('net0', True, theirs)
        assert report(puppet, 'net0', number, b'a state') == 'answered', 'out of its turn'
        stream.close()
        assert operator.wait_end(number) == 'it is empty', 'it had no effect'
        for state in (b'', bytes(STATE_MAX + 1), b'a state that has no form'):
            stream, theirs = pipe(load=False)
            number = operator.begin('net0', False, theirs)
            assert report(puppet, 'net0', number, state) == 'answered'
            assert operator.wait_end(number), f'{len(state)} bytes were taken'
            assert stream.read() == b'', 'nothing was written'
        scene.check('states')
    data, error = operator.save('witness')
    assert error == '' and operator.load('witness', data) == '', error


# covers: P1
@case('liars-worker-state', 120)
def worker_state(current):
    """It keeps what is no state of a device under that name: its successor begins without it, and serves."""
    scene = Scene(current, 'net')
    real = scene.programs / 'real/bulkhead-net'
    real.unlink()  # it runs
    shutil.copy2(env.product('tests/system/later-net-5000'), real)
    for first in range(len(KINDS)):
        for puppet in scene.play(current, 'net0', 'vm:net0'):
            puppet.ask_link(KEEP, field(1, 'net0') + field(2, 'state'), 1, first)
        scene.check_net0()
        scene.check(f'kind {first}')


if __name__ == '__main__':
    main()
