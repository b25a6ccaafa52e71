#!/usr/bin/env python3
"""Operators' mistakes: one line that says what is wrong and what to do, and a status that is not 0."""

import resource
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device, libexec_env
from bulkhead_test.netns import Netns
from bulkhead_test.process import Process
from bulkhead_test.qemu import NetDevice, Qemu
from bulkhead_test.report import case, main, wait_until
from bulkhead_test.testpmd import virtio_user


def run(current, text, netns=None, name='vm.conf'):
    """Status and output of `bulkhead run` on a file that cannot be served."""
    path = current.dir / name
    path.write_text(text)
    argv = [str(env.product('bulkhead')), 'run', f'--runtime-dir={current.dir}/r', str(path)]
    if netns:
        argv = netns.argv(*argv)
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=30, check=False,
                          env={**env.os.environ, **libexec_env()})
    return done.returncode, done.stderr


def refused(current, text, *words, netns=None):
    status, output = run(current, text, netns)
    assert status != 0, f'status 0: {output}'
    lines = [line for line in output.splitlines() if 'is not served' not in line]
    assert len(lines) == 1 and all(word in lines[0] for word in words), f'not one line, with {words}: {output}'


def section(**keys):
    return '[device net0]\n' + ''.join(f'{key.replace("_", "-")} = {value}\n' for key, value in keys.items())


@case('mistakes-config', 60)
def config(current):
    good = {'type': 'net', 'socket': f'{current.dir}/s', 'backend': 'echo'}
    refused(current, section(**good, taap='x'), 'vm.conf:5:', "'taap'", "did you mean 'tap'")
    refused(current, section(**{**good, 'backend': 'taps'}), 'vm.conf:4:', "did you mean 'tap'")
    refused(current, section(**{**good, 'type': 'nett'}), "did you mean 'net'")
    refused(current, section(**good, mac='ff:00:00:00:00:00'), 'vm.conf:5:', 'unicast')
    refused(current, section(**good, mtu='12'), 'vm.conf:5:', '68')
    refused(current, section(**good, queue_pairs='65'), 'vm.conf:5:', '64')
    refused(current, section(**{**good, 'socket': 'relative'}), 'absolute')
    refused(current, section(**{**good, 'socket': '/' + 'x' * 120}), '107')
    refused(current, section(**good) + section(**good), 'given twice')
    refused(current, section(**{**good, 'backend': 'tap'}), 'tap = INTERFACE')
    refused(current, '', 'at least one device')
    refused(current, section(**good) + 'nonsense\n', 'vm.conf:5:', 'key = value')
    refused(current, section(**good) + 'mtu = 1500\nmtu = 9000\n', 'vm.conf:6:', 'mtu is given twice', 'remove one')
    refused(current, section(**good) + f'socket = {current.dir}/t\n', 'vm.conf:5:', 'given twice')
    refused(current, section(**good) + section(**good).replace('net0', 'net1'), 'vm.conf:5:', 'same socket')
    refused(current, section(**good) + '[network]\n', 'vm.conf:5:', '[network]: unknown section', '[device NAME]')
    refused(current, section(**good).replace(']', ''), 'vm.conf:1:', '[device net0:', 'not closed')
    refused(current, '[device net0]\ntype = net\nbackend = echo\n', 'vm.conf:1:', "no 'socket'", 'add socket')
    refused(current, f'[device net0]\nsocket = {current.dir}/s\nbackend = echo\n', 'vm.conf:1:', 'add type = net')
    refused(current, section(**good).replace('type', 'typ'), 'vm.conf:2:', "'typ'", "did you mean 'type'")
    refused(current, section(**good).replace('socket', 'sockt'), 'vm.conf:3:', "'sockt'", "did you mean 'socket'")
    refused(current, section(**{**good, 'socket': ''}), 'vm.conf:3:', 'absolute')
    refused(current, section(**good, mac='52:54:00:zz:00:01'), 'vm.conf:5:', '52:54:00:zz:00:01', 'MAC')
    for value in ('0', '65536', '1500x'):
        refused(current, section(**good, mtu=value), 'vm.conf:5:', f'mtu = {value}', '68 to 65535')
    for value in ('0', '-1', 'two'):
        refused(current, section(**good, queue_pairs=value), 'vm.conf:5:', f'queue-pairs = {value}', '1 to 64')
    for key, meant in (('queues', 'queue-pairs'), ('pairs', 'queue-pairs'), ('group', 'socket-group'), ('Mtu', 'mtu')):
        refused(current, section(**good) + f'{key} = 2\n', 'vm.conf:5:', f"'{key}'", f"did you mean '{meant}'")
    refused(current, section(**good, colour='red'), 'vm.conf:5:', "'colour'", 'it can be one of type, socket, mode')
    refused(current, section(**{**good, 'type': 'virtio-blk'}), "'virtio-blk'", 'it can be one of net, wl, null')
    for quote in '"', "'":
        refused(current, section(**{**good, 'socket': f'{quote}{current.dir}/s{quote}'}), 'vm.conf:3:',
                f'a value stands without quotes; write socket = {current.dir}/s')
    refused(current, section(**good, standby='true'), 'vm.conf:5:', "'yes' or 'no'")
    refused(current, section(**good, mode='both'), 'vm.conf:5:', "'server'", "'client'")
    refused(current, section(**good, generate='64'), 'vm.conf:1:', 'backend = null')
    refused(current, section(**good, tap='a/b'), 'vm.conf:5:', 'interface name')
    refused(current, section(**good).replace('net0', 'net 0'), 'vm.conf:1:', 'letters, digits')
    refused(current, section(**good).replace('net0', 'memory'), 'vm.conf:1:', 'taken')
    path = current.dir / 'utf16.conf'
    path.write_text(section(**good), encoding='utf-16')
    assert 'utf16.conf:1: the file is in UTF-16; save it as UTF-8' in started(current, 'run', path)
    status, output = run(current, section(**good, a='1', b='2'))
    assert status and 'vm.conf:5:' in output and 'vm.conf:6:' in output, f'both errors are told: {output}'


def started(current, *argv, wrap=(), **options):
    """Status and output of `bulkhead` with these arguments; it must end by itself."""
    done = subprocess.run([*wrap, str(env.product('bulkhead')), *map(str, argv)], capture_output=True, text=True,
                          timeout=30 * env.TIME_FACTOR, check=False, stdin=subprocess.DEVNULL,
                          env={**env.os.environ, **libexec_env()}, **options)
    lines = [line for line in done.stderr.splitlines() if 'is not served' not in line]
    assert done.returncode != 0, f'status 0: {done.stderr}'
    assert len(lines) == 1, f'not one line: {done.stderr}'
    return lines[0]


@case('mistakes-file', 60)
def file(current):
    runtime = f'--runtime-dir={current.dir}/r'
    assert 'nosuch.conf: cannot be read: No such file' in started(current, 'run', runtime, current.dir / 'nosuch.conf')
    assert 'cannot be read' in started(current, 'run', runtime, current.dir)
    path = current.dir / 'vm.conf'
    path.write_text(section(type='net', backend='echo', socket=f'{current.dir}/s'))
    path.chmod(0)
    if env.os.geteuid() == 0:
        own = current.dir / 'own'
        own.mkdir()
        env.os.chown(own, 65534, 65534)
        current.dir.chmod(0o755)
        line = started(current, 'run', f'--runtime-dir={own}', path, wrap=('setpriv', '--reuid=65534', '--clear-groups'))
        assert 'vm.conf: cannot be read: Permission denied; let user 65534 read it' in line, line
    path.chmod(0o644)
    assert '--runtime-dir=DIR' in started(current, 'run', f'--runtime-dir={current.dir}/no/where', path)
    assert '--runtime-dir=DIR' in started(current, 'run', f'--runtime-dir={current.dir}/' + 'x' * 100, path)
    assert 'at least one FILE' in started(current, 'run')


@case('mistakes-options', 60)
def options_(current):
    def device(*options):
        return started(current, 'device', 'net', f'--runtime-dir={current.dir}/r', *options)
    path = f'--socket-path={current.dir}/s'
    assert '--socket-path=PATH or --fd=N' in device('--backend=echo')
    assert '--tap=NAME' in device(path)
    assert '--fd=0: must be a UNIX stream socket' in device('--fd=0', '--backend=echo')
    assert '--fd=77: not an open descriptor' in device('--fd=77', '--backend=echo')
    assert '--tap-fd=0: must be a TAP' in device(path, '--tap-fd=0')
    assert "bulkhead-launcher: backend = ech: not a backend; did you mean 'echo'?" == device(path, '--backend=ech')
    assert 'unicast MAC' in device(path, '--backend=echo', '--mac=ff:ff:ff:ff:ff:ff')
    assert '107' in device('--socket-path=/' + 'x' * 120, '--backend=echo')
    assert '--mac: its value may not' in device(path, '--backend=echo', '--mac=52:54:00:00:00:01\nmtu = 68')
    assert not list((current.dir / 'r').iterdir()), 'nothing is left'


@case('mistakes-tap', 60)
def tap(current):
    netns = Netns(current)
    netns.add_tap('tap0')
    keys = {'type': 'net', 'socket': f'{current.dir}/s'}
    refused(current, section(**keys, tap='nosuch'), "tap 'nosuch' does not exist in our network namespace", 'ip tuntap add',
            netns=netns)
    refused(current, section(**keys, tap='lo'), "'lo' is not a tap", netns=netns)
    netns.run('ip', 'link', 'add', 'br0', 'type', 'bridge')
    refused(current, section(**keys, tap='br0'), "'br0' is not a tap", netns=netns)
    refused(current, section(**keys, tap='tap0', queue_pairs=2), 'multi_queue', netns=netns)
    product = Bulkhead(current, [Device(socket=f'{current.dir}/first')], netns)
    product.process.wait_output('is served')
    path = current.dir / 'second.conf'
    path.write_text(section(**keys, tap='tap0'))
    line = started(current, 'run', f'--runtime-dir={current.dir}/r', path, wrap=netns.argv())
    assert f"tap 'tap0' is in use by bulkhead-net of vm:net0 (pid {product.pid_of('net')})" in line, line


@case('mistakes-tap-elsewhere', 60)
def tap_elsewhere(current):
    """The TAP is in a namespace that has a name; in a mount namespace of our own, which ends with the shell."""
    env.need_netns()
    path = current.dir / 'vm.conf'
    path.write_text(section(type='net', socket=f'{current.dir}/s', tap='tap9'))
    shell = ('mount --make-rprivate / && mount -t tmpfs tmpfs /run && ip netns add other && '
             'ip netns exec other ip tuntap add dev tap9 mode tap vnet_hdr && exec "$@"')
    line = started(current, 'run', f'--runtime-dir={current.dir}/r', path,
                   wrap=('unshare', '--mount', '--net', 'sh', '-c', shell, 'sh'))
    assert "tap 'tap9' is in another network namespace, /run/netns/other" in line and 'ip link set tap9 netns' in line, line


@case('mistakes-socket', 60)
def socket_(current):
    keys = {'type': 'net', 'backend': 'echo'}
    path = f'{current.dir}/held'
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(path)
        held.listen(1)
        refused(current, section(**keys, socket=path), path, 'another process')
    refused(current, section(**keys, socket=f'{current.dir}/no/such'), 'directory')
    refused(current, section(**keys, socket=f'{current.dir}/s', socket_group='nosuch'), 'socket-group = nosuch',
            'groupadd --system nosuch')
    refused(current, section(**keys, socket=f'{current.dir}/s', socket_user='nosuch'), 'socket-user = nosuch', 'useradd --system nosuch')
    if env.os.geteuid() != 0:
        return
    own = current.dir / 'own'
    own.mkdir()
    env.os.chown(own, 65534, 65534)
    current.dir.chmod(0o755)
    (own / 'vm.conf').write_text(section(**keys, socket=f'{current.dir}/s'))
    status, output = as_user(current, 65534, 'run', f'--runtime-dir={own}', own / 'vm.conf')
    assert status and 'user 65534 may not write to its directory' in output, output
    (own / 'vm.conf').write_text(section(**keys, socket=f'{own}/s', socket_group='root'))
    status, output = as_user(current, 65534, 'run', f'--runtime-dir={own}', own / 'vm.conf')
    assert status and "'root' (socket-group)" in output and 'make user 65534 a member' in output, output


def as_user(current, user, *argv):
    done = subprocess.run(['setpriv', f'--reuid={user}', f'--regid={user}', '--clear-groups', str(env.product('bulkhead')), *map(str, argv)],
                          capture_output=True, text=True, timeout=30 * env.TIME_FACTOR, check=False,
                          env={**env.os.environ, **libexec_env()})
    return done.returncode, done.stderr


@case('mistakes-command', 60)
def command(current):
    """One line with a hint."""
    hint = "see 'bulkhead --help'"
    for argv, words in (((), 'needs a command'), (('runn',), "did you mean 'run'?"), (('device',), 'needs a TYPE'),
                        (('device', 'nett'), "did you mean 'net'?"), (('device', 'scsi'), 'it can be one of net, wl, null'),
                        (('run', '--nonsense'), '--nonsense: there is no such option'), (('run', '--watchdog'), 'needs a value')):
        line = started(current, *argv)
        assert words in line and hint in line, line
    for argv, words in (((), 'needs a command'), (('stauts',), "did you mean 'status'?"), (('frobnicate',), 'one of status, '),
                        (('status', '--jsn=1'), '--jsn=1: there is no such option'),
                        (('upgrade', '--dry-run'), 'upgrade does not take --dry-run'),
                        (('trace', 'vm', '-w', 'x'), 'trace does not take --output')):
        done = subprocess.run([str(env.product('bulkheadctl')), *argv], capture_output=True, text=True, check=False)
        lines = done.stderr.splitlines()
        assert done.returncode == 2 and len(lines) == 1 and words in lines[0] and '--help' in lines[0], done


@case('mistakes-nobody-answers', 60)
def nobody_answers(current):
    """A guest that nobody serves, and a user who may not ask: at once, with a hint; and standard input that is no connection."""
    product = Bulkhead(current, [Device(socket=f'{current.dir}/s', backend='echo')])
    product.process.wait_output('is served')

    def said(*argv, wrap=()):
        done = subprocess.run([*wrap, str(env.product('bulkheadctl')), f'--runtime-dir={product.runtime}', *argv], capture_output=True,
                              text=True, check=False, stdin=subprocess.DEVNULL, timeout=30 * env.TIME_FACTOR)
        lines = done.stderr.splitlines()
        assert done.returncode == 1 and len(lines) == 1, done
        return lines[0]
    for argv in (('upgrade', 'vn'), ('log-level', 'vn', 'debug'), ('release', 'vn', 'net0'), ('snapshot', 'vn', f'{current.dir}/x'),
                 ('trace', 'vn'), ('capture', 'vn:net0')):
        line = said(*argv)
        assert 'vn' in line and "nobody serves it; 'bulkheadctl status' shows which guests there are" in line, line
    assert '--http: standard input must be a connection' in said('metrics', '--http')
    if env.os.geteuid() == 0:
        current.dir.chmod(0o755)
        for argv in (('release', 'vm', 'net0'), ('log-level', 'vm', 'debug'), ('trace', 'vm')):
            line = said(*argv, wrap=('setpriv', '--reuid=65534', '--clear-groups'))
            assert 'this user may not ask its memory manager; root may' in line, line


def limited(kind, limit):
    return lambda: resource.setrlimit(kind, (limit, limit))


@case('mistakes-limits', 60)
def limits(current):
    """Limits that a shell sets are named, and the least that is allowed is enough to serve and to end."""
    path = current.dir / 'vm.conf'
    path.write_text(section(type='net', backend='echo', socket=f'{current.dir}/s'))
    runtime = f'--runtime-dir={current.dir}/r'
    assert '100 open files (ulimit -Hn)' in started(current, 'run', runtime, path,
                                                    preexec_fn=limited(resource.RLIMIT_NOFILE, 100))
    assert '200000 KiB of address space (ulimit -v)' in started(current, 'run', runtime, path,
                                                                preexec_fn=limited(resource.RLIMIT_AS, 200000 << 10))
    argv = ['prlimit', '--nofile=256:256', str(env.product('bulkhead')), 'run', runtime, str(path)]
    served = Process(current, 'few', argv, env=libexec_env())
    served.wait_output('guest vm is served')
    virtio_user(current, f'{current.dir}/s').quit()
    assert served.stop() == 0, served.output()


@case('mistakes-full', 60)
def full(current):
    """No room, or none to write to, for what is made at the start; in mount namespaces that end with the shell."""
    env.need_namespaces('mount')
    path, room = current.dir / 'vm.conf', current.dir / 'room'
    path.write_text(section(type='net', backend='echo', socket=f'{current.dir}/s'))
    room.mkdir()

    def within(mount):
        return started(current, 'run', f'--runtime-dir={room}/r', path, wrap=(
            'unshare', '--mount', 'sh', '-c', f'{mount} && exec "$@"', 'sh'))
    line = within(f'mount -t tmpfs -o size=16k none {room} && ! dd if=/dev/zero of={room}/x bs=1k 2>/dev/null')
    assert 'No space left on device; make room there' in line, line
    line = within(f'mount -t tmpfs -o ro none {room}')
    assert 'Read-only file system; choose another with --runtime-dir=DIR' in line, line
    path.write_text(section(type='net', backend='echo', socket=f'{room}/s'))
    line = started(current, 'run', f'--runtime-dir={current.dir}/r', path, wrap=(
        'unshare', '--mount', 'sh', '-c', f'mount -t tmpfs -o ro none {room} && exec "$@"', 'sh'))
    assert f'{room}/s' in line and 'mounted read-only' in line, line


@case('mistakes-stale-socket', 60)
def stale(current):
    """The file of a socket whose server is gone is replaced; what is no socket is left alone."""
    path = f'{current.dir}/net0.sock'
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(path)
    product = Bulkhead(current, [Device(socket=path, backend='echo')])
    virtio_user(current, path).quit()
    product.stop()
    plain = current.dir / 'plain'
    plain.write_text('precious')
    refused(current, section(type='net', backend='echo', socket=plain), str(plain), 'the path exists and is not a socket')
    assert plain.read_text() == 'precious'


@case('mistakes-nothing-is-harmed', 90)
def nothing_harmed(current):
    """Others want the socket, the guest's name, a place on the device: the VMM that is served notices nothing."""
    path = f'{current.dir}/net0.sock'
    product = Bulkhead(current, [Device(socket=path, backend='echo')])
    front_end = virtio_user(current, path)
    front_end.start(tx_first=4)
    front_end.wait_packets('RX-packets', 1000)
    keys = {'type': 'net', 'backend': 'echo', 'socket': path}
    refused(current, section(**keys), path, 'another process (pid', 'choose another path')
    line = started(current, 'run', f'--runtime-dir={product.runtime}', current.dir / 'vm.conf')
    assert 'guest vm is already being served' in line, line
    try:
        virtio_user(current, path, 'second')
        raise AssertionError('the second testpmd was let in')
    except AssertionError as error:
        assert 'second ended' in str(error) or 'probe' in str(error), error
    wait_until(lambda: 'a second VMM' in product.process.output(), 'a line about it')
    seen = front_end.stats()['RX-packets']
    front_end.wait_packets('RX-packets', seen + 1000)
    assert product.device()['vmm_connected']
    assert all(entry['restarts'] == 0 for entry in product.status()['guests'][0]['processes'])


@case('mistakes-memory-not-shared', 90)
def not_shared(current):
    """QEMU says nothing of it; its guest sees a device that moves no frame."""
    device = Device(socket=f'{current.dir}/net0.sock', backend='echo')
    product = Bulkhead(current, [device])
    Qemu(current, [NetDevice(device.socket)], memory_object=False).wait_boot()
    wait_until(lambda: 'share=on' in product.process.output(), 'a line that says what to do')
    lines = [line for line in product.process.output().splitlines() if 'not shared' in line]
    assert len(lines) == 1 and 'bulkhead-frontend[vm:net0]' in lines[0], lines


@case('mistakes-memory-private', 90)
def private(current):
    """The file is in order and stays empty. Guests whose memory is shared never hear of it (see Bulkhead)."""
    device = Device(socket=f'{current.dir}/net0.sock', backend='echo')
    product = Bulkhead(current, [device], shared=False)
    for n, packed in ((1, 'off'), (2, 'on')):
        vm = Qemu(current, [NetDevice(device.socket, packed=packed)], name=f'packed-{packed}', share=False)
        vm.wait_boot()
        vm.guest.start('ip link set eth0 up')
        wait_until(lambda n=n: product.process.output().count('its memory is blank') == n, 'a line that says what to do', 30)
        vm.kill()
        lines = [line for line in product.process.output().splitlines() if 'its memory is blank' in line]
        assert len(lines) == n, lines
        assert all('share=on' in line and 'bulkhead-net[vm:net0]' in line for line in lines), lines


@case('mistakes-second-vmm', 60)
def second(current):
    device = Device(socket=f'{current.dir}/net0.sock', backend='echo')
    product = Bulkhead(current, [device])
    product.process.wait_output('is served')
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two:
        one.connect(device.socket)
        one.sendall(struct.pack('III', 1, 1, 0))  # GET_FEATURES: one that says nothing would have to make room
        assert len(one.recv(64)) == 20
        wait_until(lambda: product.device()['vmm_connected'], 'the first is there')
        two.connect(device.socket)
        two.settimeout(5)
        assert two.recv(1) == b'', 'the second is sent away'
        assert product.device()['vmm_connected'], 'the first is still there'
    wait_until(lambda: 'second' in product.process.output(), 'a line about it')


@case('mistakes-one-guest-of-two', 60)
def two_guests(current):
    good, bad = current.dir / 'good.conf', current.dir / 'bad.conf'
    good.write_text(section(type='net', backend='echo', socket=f'{current.dir}/good.sock'))
    bad.write_text(section(type='net', backend='echo', socket=f'{current.dir}/no/such.sock'))
    both = Process(current, 'bulkhead', [env.product('bulkhead'), 'run', f'--runtime-dir={current.dir}/r', bad, good],
                   env=libexec_env())
    both.wait_output('guest bad is not served')
    with socket.socket(socket.AF_UNIX) as line:
        wait_until(lambda: line.connect_ex(str(current.dir / 'good.sock')) == 0, 'the good guest is served')
    assert both.stop() == 1, both.output()


@case('mistakes-what-two-guests-want', 60)
def two_want_one(current):
    """The launcher refuses the second file, at its start and when the file is changed; the first guest does not notice."""
    (current.dir / 'alias').symlink_to('.')
    texts = {'a': section(type='net', backend='echo', socket=f'{current.dir}/net0.sock'),
             'b': section(type='net', backend='echo', socket=f'{current.dir}/alias//net0.sock'),
             'c': section(type='net', backend='echo', socket=f'{current.dir}/c.sock')}
    for guest, text in texts.items():
        (current.dir / f'{guest}.conf').write_text(text)
    clash = 'has the socket {}/net0.sock, which is that of a:net0 already'.format(current.dir.resolve())
    both = Process(current, 'bulkhead', [env.product('bulkhead'), 'run', f'--runtime-dir={current.dir}/r',
                                         *(current.dir / f'{guest}.conf' for guest in texts)], env=libexec_env())
    both.wait_output('guest a is served')
    assert f'{current.dir}/b.conf:4: [device net0] {clash}' in both.output(), both.output()
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(f'{current.dir}/net0.sock')
        (current.dir / 'c.conf').write_text(texts['b'])
        both.send_signal(signal.SIGHUP)
        wait_until(lambda: f'/c.conf:4: [device net0] {clash}' in both.output(), 'the changed file is refused')
        assert 'guest c keeps the configuration in force' in both.output()
    for path in ('net0.sock', 'c.sock'):
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(f'{current.dir}/{path}')


if __name__ == '__main__':
    main()
