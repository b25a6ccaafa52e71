#!/usr/bin/env python3
"""The operator's snapshots: saved, shown, restored into other processes; mistakes, full disks, and kills at every step."""

import importlib.util
import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.front_end import FrontEnd
from bulkhead_test.report import case, main, wait_until
from bulkhead_test.vmm import (GET_VRING_BASE, PROTOCOL_FEATURES, REPLY_ACK, SET_FEATURES, SET_OWNER, SET_PROTOCOL_FEATURES,
                               VERSION_1, Vmm)

GOLDEN = env.SOURCE / 'tests/data/snapshots'
FRAMES = 5


def load_maker():
    """The program that makes the golden files knows the format without Bulkhead's code."""
    spec = importlib.util.spec_from_file_location('make', GOLDEN / 'make.py')
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode = True
    spec.loader.exec_module(module)
    return module


make = load_maker()


class Scene:
    """A guest of a network device and one of another type, in a folder of its own."""

    def __init__(self, current, folder='.', names=('net0', 'null0'), queue_pairs=1):
        self.dir = current.dir / folder
        self.dir.mkdir(exist_ok=True)
        self.case = current
        devices = [Device(name, self.socket(name), kind=name[:-1], backend='echo' if name[:-1] == 'net' else None,
                          queue_pairs=queue_pairs if name[:-1] == 'net' else 1) for name in names]
        self.product = Bulkhead(Sub(current, self.dir), devices)

    def socket(self, name):
        return str(self.dir / f'{name}.sock')

    def argv(self, *args):
        return [str(env.product('bulkheadctl')), f'--runtime-dir={self.product.runtime}', *map(str, args)]

    def ctl(self, *args, wrap=(), **options):
        """(status, output, errors)"""
        done = subprocess.run([*wrap, *self.argv(*args)], capture_output=True, check=False,
                              timeout=30 * env.TIME_FACTOR, **{'stdin': subprocess.DEVNULL, **options})
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def good(self, *args, **options):
        status, output, errors = self.ctl(*args, **options)
        assert status == 0 and not errors, f'{args}: status {status}: {output}{errors}'
        return output

    def bad(self, *args, says, expected=1, **options):
        """One line that says it, and the status that is expected."""
        status, output, errors = self.ctl(*args, **options)
        lines = errors.splitlines()
        assert status == expected and len(lines) == 1, f'{args}: status {status}, not one line: {output}{errors}'
        assert says in lines[0], f"{args}: '{lines[0]}' does not say '{says}'"
        assert lines[0].isprintable(), f'a terminal obeys {lines[0]!r}'

    def shown(self, path, **options):
        return json.loads(self.good('inspect', path, '--json', **options))['images']

    def connect(self, name='net0', features=VERSION_1 | PROTOCOL_FEATURES):
        """A VMM whose rings never ran: the device is suspended, and can be restored."""
        vmm = Vmm(self.case, self.socket(name))
        vmm.say(SET_OWNER)
        vmm.say(SET_PROTOCOL_FEATURES, struct.pack('Q', REPLY_ACK))
        assert vmm.acked(SET_FEATURES, struct.pack('Q', features))
        return vmm


class Sub:
    """A case whose files are in another folder."""

    def __init__(self, current, folder):
        self.dir = folder
        self.case = current

    def __getattr__(self, name):
        return getattr(self.case, name)

    def log_path(self, name):
        return self.dir / f'{name}.log'


def stages(image):
    return {stage['name']: stage.get('data') for stage in image['stages']}


def only_device(image):
    """What does not depend on when and where it was saved."""
    return {'type': image['type'], 'suspended': image['suspended'], **stages(image)}


def talk(line):
    """The back-end swaps the addresses."""
    here, there = bytes([2, 0, 0, 0, 0, 1]), bytes([2, 0, 0, 0, 0, 2])
    for i in range(FRAMES):
        rest = bytes([8, 0, i]) + bytes(60)
        line.send(here + there + rest)
        assert line.receive() == there + here + rest, 'a frame comes back'


def stop(line):
    return [struct.unpack('II', line._ask(GET_VRING_BASE, struct.pack('II', ring, 0)))[1] for ring in range(2)]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- Saved, shown, restored ---

@case('snapshot-restore', 60)
def restore(current):
    first, second = Scene(current, 'first'), Scene(current, 'second')
    file = current.dir / 'vm.state'
    line = FrontEnd(current, first.socket('net0'))
    talk(line)
    # while it runs
    assert first.good('snapshot', 'vm:net0', file) == 'vm:net0 saved\n'
    image, = first.shown(file)
    assert not image['suspended'] and [ring['running'] for ring in stages(image)['rings']['rings']] == [True, True], image
    talk(line)
    # suspended, and with the other device
    positions = stop(line)
    assert positions == [2 * FRAMES, 2 * FRAMES], positions
    assert first.good('snapshot', 'vm', file) == 'vm:net0 saved\nvm:null0 saved\n'
    assert file.stat().st_mode & 0o7777 == 0o600, 'it is for nobody else'
    saved = first.shown(file)
    check_saved(saved, positions)
    check_text(first.good('inspect', file))
    assert first.shown('-', stdin=file.open()) == saved, 'standard input is as good'
    # into other processes
    lines = [second.connect(), second.connect('null0')]
    assert second.good('restore', 'vm', file) == 'vm:net0 restored\nvm:null0 restored\n'
    second.good('snapshot', 'vm', current.dir / 'again.state')
    again = second.shown(current.dir / 'again.state')
    assert stages(again[0])['counters'] == stages(saved[0])['counters'], again
    assert stages(again[0])['net'] == stages(saved[0])['net'], again
    assert lines[0].get_features() == lines[0].features, 'the VMM is still served'
    # counters, if they are wanted
    second.good('snapshot', 'vm:net0', current.dir / 'none.state', '--no-counters')
    without, = second.shown(current.dir / 'none.state')
    assert stages(without) == {name: data for name, data in stages(again[0]).items() if name != 'counters'}, without
    count_again(second, current.dir / 'made.state')
    # the first device goes on
    talk_again(current, first, line)


def count_again(scene, path):
    """A device keeps its counters where the file has none, or they are not wanted."""
    body = make.state('net', 'net0', '', True, *plain(make.stage('counters', 1, make.data(1, make.numbers(0, 77)))))
    path.write_bytes(make.image(body))
    scene.good('restore', 'vm:net0', path, '--no-counters')
    scene.good('snapshot', 'vm:net0', path.with_name('kept.state'))
    kept, = scene.shown(path.with_name('kept.state'))
    assert [ring['chains'] for ring in stages(kept)['counters']['rings']] == [2 * FRAMES] * 2, kept
    scene.good('restore', 'vm:net0', path)
    scene.good('snapshot', 'vm:net0', path.with_name('taken.state'))
    taken, = scene.shown(path.with_name('taken.state'))
    assert [ring['chains'] for ring in stages(taken)['counters']['rings']] == [77, 2 * FRAMES], taken


def check_saved(saved, positions):
    assert [(image['device'], image['type'], image['suspended']) for image in saved] == \
        [('net0', 'net', True), ('null0', 'null', True)], saved
    own = stages(saved[0])
    assert own['features'] == {'features': 1 << 32 | 1 << 30 | 1 << 16, 'protocol_features': 1 << 0 | 1 << 3 | 1 << 9}, own
    assert [(ring['index'], ring['size'], ring['position'], ring['running'], ring['in_flight'])
            for ring in own['rings']['rings']] == [(i, 64, positions[i], False, []) for i in range(2)], own
    assert [ring['chains'] for ring in own['counters']['rings']] == positions, own
    assert own['net']['queue_pairs'] == 1, own


def check_text(text):
    for words in ('image 1: device net0 of guest vm, type net', 'stage rings, version 1', 'position 10', 'queue_pairs 1'):
        assert words in text, f'{words} is not in {text}'


def talk_again(current, scene, line):
    line.close()
    talk(FrontEnd(current, scene.socket('net0')))


@case('snapshot-restore-other-name', 30)
def other_name(current):
    scene = Scene(current, names=('net0', 'net1'))
    file = current.dir / 'net0.state'
    scene.good('snapshot', 'vm:net0', file)
    scene.connect('net1')
    assert scene.good('restore', 'vm:net1', file) == 'vm:net1 restored\n'
    # but a whole guest is restored by its names
    scene.good('snapshot', 'vm', file)
    scene.bad('restore', 'vm:net2', file, says='guest vm has no device net2')
    scene.connect('net0')
    assert scene.good('restore', 'vm:net0', file) == 'vm:net0 restored\n'


@case('snapshot-golden', 30)
def golden(current):
    """A state of each release is taken over by this one, and what the driver had set is in force."""
    scene = Scene(current, queue_pairs=2)
    scene.connect('null0')
    now = current.dir / 'now.state'
    releases = [path for path in GOLDEN.iterdir() if path.is_dir()]
    assert releases
    for release in releases:
        was, = scene.shown(release / 'net-suspended.state')
        line = scene.connect('net0', stages(was)['features']['features'])
        scene.good('restore', 'vm:net0', release / 'net-suspended.state')
        scene.good('restore', 'vm:null0', release / 'null.state')
        scene.good('snapshot', 'vm:net0', now)
        found, = scene.shown(now)
        for stage in 'net', 'counters':
            assert stages(found)[stage] == stages(was)[stage], f'{release.name}: {stage}: {found}'
        for ring, before in zip(stages(found)['rings']['rings'], stages(was)['rings']['rings'], strict=True):
            assert (ring['index'], ring['position']) == (before['index'], before['position']), f'{release.name}: {found}'
        scene.bad('restore', 'vm:net0', release / 'net-packed.state', says='vm:net0: not restored: ')
        scene.good('snapshot', 'vm:net0', now)
        assert stages(scene.shown(now)[0]) == stages(found), 'a state that is refused changes nothing'
        line.line.close()


# --- What is refused ---

def spoiled(data, change):
    data = bytearray(data)
    change(data)
    return bytes(data)


def made(*parts, type_='net', device='net0'):
    return make.image(make.state(type_, device, '9.9.9', True, *parts))


def plain(*more, features=VERSION_1, net=b''):
    mac = make.data(1, bytes([2, 0, 0, 0, 0, 9]))
    return (make.stage('features', 1, make.number(1, features)), make.stage('rings', 1, b''),
            make.stage('net', 1, mac + make.number(8, 1) + net), *more)


@case('snapshot-refused', 60)
def refused(current):
    scene = Scene(current)
    file, path = current.dir / 'vm.state', current.dir / 'made.state'
    scene.connect('null0')
    vmm = Vmm(current, scene.socket('net0'))
    vmm.start()
    scene.good('snapshot', 'vm:net0', file)
    scene.bad('restore', 'vm:net0', file, says='vm:net0: not restored: ring 0 runs: the device is not suspended')
    vmm.stop()
    scene.good('restore', 'vm:net0', file)
    good, before = file.read_bytes(), only_device(scene_state(scene, current))
    for other, says in (
            (spoiled(good, lambda body: body.__setitem__(8, 2)), 'its format has version 2, which is newer'),
            (spoiled(good, lambda body: body.__setitem__(-1, body[-1] ^ 1)), 'its checksum is 0x'),
            (spoiled(good, lambda body: body.__delitem__(slice(-5, None))), "it is truncated by 5 of its body's"),
            (made(*plain(), type_='null'), 'device net0 is of type null there, and vm:net0 is of type net'),
            (made(*plain(make.stage('later', 3, b'xyz'))), 'stage later is unknown to this device'),
            (made(*plain(make.stage('later', 3, bytes(500000)))), 'stage later is unknown to this device'),
            (made(*plain(make.stage('later', 3, bytes(530000)))), 'its body has 530'),
            (made(*plain()[:2], make.stage('net', 2, b'')), 'stage net has version 2; this release knows up to 1'),
            (made(*plain()[:2]), 'stage net is missing'),
            (made(*plain(features=VERSION_1 | 1 << 63)), 'features has bit 63, which is not offered here'),
            (made(*plain(features=VERSION_1 | 1 << 34)), "the state's rings are packed (bit 34)"),
            (made(*plain(net=make.number(2, 64))), 'stage net: modes is 0x40; there are 6 bits'),
            (made(plain()[0], make.stage('rings', 1, make.ring(7, 256, 0)), plain()[2]),
             'stage rings: ring 7; the device has'),
            (made(plain()[0], make.stage('rings', 1, make.ring(0, 512, 0)), plain()[2]),
             'ring 0 has size 512; the VMM has set it up with 256'),
            (made(*plain(), device='net7\x1b[2J'), 'device is "net7?[2J"')):
        path.write_bytes(other)
        scene.bad('restore', 'vm:net0', path, says=says)
        assert only_device(scene_state(scene, current)) == before, f'{says}: something has changed'
    path.write_bytes(made(*plain()))
    scene.good('restore', 'vm:net0', path)
    assert only_device(scene_state(scene, current)) != before, 'a good one changes something'


@case('snapshot-restore-half', 20)
def half(current):
    """One of several devices refuses: what was restored before is told."""
    scene = Scene(current)
    scene.connect('net0')
    scene.connect('null0')
    empty = make.stage('features', 1, b'')
    file = current.dir / 'vm.state'
    file.write_bytes(made(*plain()) + made(empty, make.stage('rings', 1, make.ring(99, 256, 0)), make.stage('null', 1, b''),
                                           type_='null', device='null0'))
    status, output, errors = scene.ctl('restore', 'vm', file)
    assert (status, output) == (1, 'vm:net0 restored\n'), output
    assert errors.startswith('vm:null0: not restored: stage rings: ring 99; the device has '), errors
    file.write_bytes(made(*plain(features=1 << 63)) + made(empty, make.stage('rings', 1, b''), make.stage('null', 1, b''),
                                                           type_='null', device='null0'))
    status, output, errors = scene.ctl('restore', 'vm', file)
    assert (status, output) == (1, ''), output
    assert errors.splitlines()[1] == 'vm:null0: not restored: an earlier device has failed', errors
    file.write_bytes(made(*plain()))
    assert scene.good('restore', 'vm', file) == 'vm:net0 restored\nvm:null0 is not in the file, and stays as it is\n'


def scene_state(scene, current):
    path = current.dir / 'now.state'
    scene.good('snapshot', 'vm:net0', path)
    return scene.shown(path)[0]


@case('snapshot-inspect-newer', 20)
def inspect_newer(current):
    """What this release does not know is named, with version and size, and no terminal obeys it."""
    path = current.dir / 'made.state'
    path.write_bytes(made(*plain(make.stage('later', 3, b'\x1b[2J')), make.stage('counters', 7, b'\x07')))
    argv = [str(env.product('bulkheadctl')), 'inspect', str(path)]
    text = subprocess.run(argv, capture_output=True, check=True, timeout=30 * env.TIME_FACTOR).stdout.decode()
    assert 'stage later, version 3, 4 bytes: this release does not know it' in text, text
    assert 'stage counters, version 7, 1 bytes: newer than version 1, which this release knows' in text, text
    assert all(line.isprintable() for line in text.splitlines()), f'{text!r}'
    for release in sorted(GOLDEN.iterdir()):
        for golden in sorted(release.glob('*.state')) if release.is_dir() else ():
            argv = [str(env.product('bulkheadctl')), 'inspect', '--json', str(golden)]
            done = subprocess.run(argv, capture_output=True, check=True, timeout=30 * env.TIME_FACTOR)
            assert json.loads(done.stdout)['error'] == '', golden


# --- Mistakes ---

@case('snapshot-mistakes', 60)
def mistakes(current):
    scene = Scene(current)
    folder = current.dir / 'files'
    folder.mkdir()
    file = folder / 'vm.state'
    scene.good('snapshot', 'vm', file)
    old = file.read_bytes()
    (folder / 'link').symlink_to(file)
    os.mkfifo(folder / 'pipe')
    (folder / 'empty').touch()
    (folder / 'text').write_text('[device net0]\n')
    (folder / 'twice').write_bytes(old + old)
    (folder / 'more').write_bytes(old + b'\0')
    before = names(folder)
    for path, says in ((folder, 'is a directory; only a regular file is replaced'), (f'{folder}/', 'names a directory'),
                       (folder / 'link', 'is a symbolic link; only'), (folder / 'pipe', 'is a pipe; only'),
                       ('/dev/null', 'is a device; only'), (folder / 'no/where', 'its directory cannot be opened: No such'),
                       (file / 'x', 'its directory cannot be opened: Not a directory'),
                       (folder / ('x' * 300), 'cannot be written: File name too long')):
        scene.bad('snapshot', 'vm', path, says=says)
    for path, says in ((folder, 'is a directory'), (folder / 'pipe', 'is no regular file'), ('/dev/zero', 'is no regular file'),
                       (folder / 'nosuch', 'No such file'), (folder / 'empty', 'it is empty'),
                       (folder / 'text', 'its magic is another one'), (folder / 'twice', 'device net0 is there twice'),
                       (folder / 'more', 'image 3: its magic is another one')):
        scene.bad('restore', 'vm', path, says=says)
        if path != folder / 'twice':
            scene.bad('inspect', path, says=says)
    scene.bad('restore', 'vm:net0', single(scene, folder), says='no VMM is connected')
    with open('/dev/full', 'w', encoding='ascii') as full:
        done = subprocess.run(scene.argv('inspect', file), stdout=full, stderr=subprocess.PIPE, text=True, check=False,
                              timeout=30 * env.TIME_FACTOR)
    assert done.returncode == 1 and 'standard output: No space left on device' in done.stderr, done.stderr
    for which, says in (('vm:net9', 'guest vm has no device net9'), ('nosuch', 'guest nosuch: '), ('../vm', 'names have 1 to 32'),
                        ('vm:', 'names have 1 to 32'), ('vm:' + 'x' * 33, 'names have 1 to 32')):
        scene.bad('snapshot', which, folder / 'new', says=says)
        if which != 'nosuch':  # which takes 3 s
            scene.bad('restore', which, file, says=says)
    for args, says in ((('snapshot', 'vm'), 'and the file to write'), (('restore', 'vm'), 'that snapshot has written'),
                       (('inspect',), "or '-' for standard input"), (('snapshot', 'vm', 'a', 'b'), 'and the file')):
        scene.bad(*args, says=says, expected=2)
    scene.bad('restore', 'vm:null0', single(scene, folder), says='device net0 is of type net there, and vm:null0')
    (folder / 'single').unlink()
    assert names(folder) == before and file.read_bytes() == old, f'nothing is left: {names(folder)}'
    scene.good('snapshot', 'vm', file)
    assert file.read_bytes() != old and names(folder) == before, 'a file is replaced'


def single(scene, folder):
    scene.good('snapshot', 'vm:net0', folder / 'single')
    return folder / 'single'


@case('snapshot-permissions', 60)
def permissions(current):
    """Of the directory: read-only, not ours, full. What was there stays."""
    env.need_namespaces('mount')
    scene = Scene(current)
    disk = current.dir / 'disk'
    disk.mkdir()

    def on_disk(options, script, *args):
        """bulkheadctl on a file system of its own that the script has prepared; it prints what is there afterwards."""
        text = f'mount -t tmpfs -o {options} none {disk} && cd {disk} && {script} && {{ "$@"; status=$?; }} && ' \
               f'ls -A {disk} >&3 && cat {disk}/vm.state >&3; exit $status'
        read, write = os.pipe()
        argv = ['unshare', '--mount', 'sh', '-c', text.replace('>&3', f'>&{write}'), 'sh', *scene.argv(*args)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, pass_fds=[write], stdin=subprocess.DEVNULL,
                              timeout=30 * env.TIME_FACTOR)
        os.close(write)
        with os.fdopen(read) as left:
            return done.returncode, done.stderr, left.read()

    for options, script, says in (
            ('size=1m', 'echo old > vm.state; mount -o remount,ro .', 'its directory cannot be written to: Read-only file system'),
            ('size=16k', 'echo old > vm.state; cat /dev/zero > fill 2> /dev/null; rm -f none; true',
             'cannot be written: No space left on device'),
            ('size=1m,nr_inodes=2', 'echo old > vm.state', 'cannot be written: No space left on device')):
        status, errors, left = on_disk(options, f'{{ {script}; }}', 'snapshot', 'vm', disk / 'vm.state')
        assert status == 1 and len(errors.splitlines()) == 1 and says in errors, f'{options}: status {status}: {errors}'
        assert left.endswith('old\n') and set(left.split()) <= {'vm.state', 'fill', 'old'}, f'{options}: {left}'
    if os.geteuid() == 0:
        closed = current.dir / 'closed'
        closed.mkdir(mode=0o700)
        status, _, errors = scene.ctl('snapshot', 'vm', closed / 'x', wrap=('setpriv', '--reuid=65534', '--clear-groups'))
        assert status == 1 and 'Permission denied' in errors and len(errors.splitlines()) == 1, errors


# --- Ends ---

def pipes_of(pid):
    """How many ends of pipes a process has."""
    try:
        return sum(os.readlink(entry).startswith('pipe:') for entry in Path(f'/proc/{pid}/fd').iterdir())
    except FileNotFoundError:
        return None


@case('snapshot-cancel', 60)
def cancel(current):
    """Ctrl-C ends a transfer that waits; the device goes on, and the next transfer is served."""
    scene = Scene(current)
    file = current.dir / 'vm.state'
    file.write_text('old')
    worker = scene.product.pid_of('net')
    os.kill(worker, signal.SIGSTOP)
    try:
        with subprocess.Popen(scene.argv('snapshot', 'vm:net0', file), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as child:
            wait_until(lambda: pipes_of(child.pid) == 1, 'one end of the pipe is away, and the transfer waits')
            scene.bad('snapshot', 'vm:net0', current.dir / 'x', says='another transfer of its state is under way')
            child.send_signal(signal.SIGINT)
            assert child.wait(20 * env.TIME_FACTOR) == -signal.SIGINT
    finally:
        os.kill(worker, signal.SIGCONT)
    assert file.read_text() == 'old', 'the file is as it was'
    wait_until(lambda: scene.ctl('snapshot', 'vm:net0', file)[0] == 0, 'the next transfer is served')
    talk(FrontEnd(current, scene.socket('net0')))
    assert not (current.dir / 'x').exists() and names(current.dir).count('vm.state') == 1


CALL = re.compile(r'^(?:\d+ +)?(\w+)\(')


def calls_of(scene, path, trace, *inject):
    """[(system call, its number of that name)] of bulkheadctl's main thread, and where the file's own begin."""
    environment = {**os.environ, 'ASAN_OPTIONS': os.environ.get('ASAN_OPTIONS', '') + ':detect_leaks=0'}
    scene.good('snapshot', 'vm', path, wrap=('strace', '-o', trace, *inject), env=environment)
    found, seen, begin = [], {}, None
    for line in trace.read_text(errors='replace').splitlines():
        call = CALL.match(line)
        if call:
            seen[call[1]] = seen.get(call[1], 0) + 1
            found.append((call[1], seen[call[1]]))
            if begin is None and 'O_TMPFILE' in line:
                begin = len(found) - 1
    assert begin is not None, 'the file is made without a name'
    return found, begin


def without_files_without_names(scene, path, trace):
    """What makes the file system one of those, as strace has it."""
    calls, begin = calls_of(scene, path, trace)
    name, number = calls[begin]
    return ('-e', f'inject={name}:error=EOPNOTSUPP:when={number}')


def kill_at_each(scene, file, former, inject, draw):
    """Returns how often it was killed."""
    file.write_bytes(b'old') if former else file.unlink(missing_ok=True)
    calls, begin = calls_of(scene, file, scene.dir / 'trace', *inject)
    chosen = set(range(len(calls)) if env.FULL else draw.sample(range(begin), 4)) | set(range(begin, len(calls)))
    n = 0
    for i in sorted(chosen):
        name, number = calls[i]
        if inject and name == 'openat':
            continue
        file.write_bytes(b'old') if former else file.unlink(missing_ok=True)
        status, _, _ = scene.ctl('snapshot', 'vm', file, wrap=(
            'strace', '-o', '/dev/null', *inject, '-e', f'inject={name}:signal=KILL:when={number}'))
        # how often some are called differs from run to run
        assert status in (-signal.SIGKILL, 0), f'{name} {number}: status {status}'
        assert name not in ('fsync', 'linkat', 'renameat') or status == -signal.SIGKILL, f'{name} {number} was not reached'
        check_left(scene, file.parent, former, f'{name} {number}')
        n += status == -signal.SIGKILL
    return n


@case('snapshot-kills', 240)
def kills(current):
    """Killed at each system call, bulkheadctl leaves the former file or the new one."""
    env.need_tool('strace')
    draw = random.Random(env.SEED)
    scene = Scene(current)
    folder = current.dir / 'files'
    folder.mkdir()
    file = folder / 'vm.state'
    n = 0
    for inject in (), without_files_without_names(scene, file, current.dir / 'trace'):
        for former in False, True:
            n += kill_at_each(scene, file, former, inject, draw)
    current.note(f'BULKHEAD_SEED={env.SEED} {n} kills')
    file.unlink(missing_ok=True)
    wait_until(lambda: scene.ctl('snapshot', 'vm', file)[0] == 0, 'the next transfer is served')


def check_left(scene, folder, former, where):
    for name in names(folder):
        path = folder / name
        if name == 'vm.state' and former and path.read_bytes() == b'old':
            continue
        assert name == 'vm.state' or re.fullmatch(r'\.vm\.state\.[0-9a-f]{16}', name), f'{where}: {name}'
        if name == 'vm.state':
            assert [image['device'] for image in scene.shown(path)] == ['net0', 'null0'], f'{where}: torn'
        else:
            path.unlink()
    assert not former or (folder / 'vm.state').exists(), f'{where}: the former file is gone'


if __name__ == '__main__':
    main()
