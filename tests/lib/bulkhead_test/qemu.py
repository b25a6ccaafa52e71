"""QEMU as the VMM: Debian's own, the one of backports, or the newest; always without hardware virtualization."""

import json
import os
import re
import signal
import socket
import time

from . import env
from .guest import Guest
from .process import Process, fds
from .report import wait_until

VERSIONS = ('7.2', 'backports')


def binary(version):
    """Command line beginning of one QEMU, and the environment it needs."""
    if version == 'backports':
        root = env.prepare('qemu10')
        return [root / 'usr/bin/qemu-system-x86_64', '-L', root / 'usr/share/qemu', '-L', root / 'usr/share/seabios']
    if version == 'newest':
        root = env.prepare('qemu-newest')
        loader = [root / 'usr/lib64/ld-linux-x86-64.so.2', '--library-path', root / 'usr/lib/x86_64-linux-gnu']
        return loader + [root / 'usr/bin/qemu-system-x86_64', '-L', root / 'usr/share/qemu', '-L', root / 'usr/share/seabios']
    return [env.need_tool('qemu-system-x86_64', 'qemu-system-x86')]


class NetDevice:
    """A virtio-net device on a vhost-user socket; further properties go to -device as they are."""

    def __init__(self, sock, queue_pairs=1, mac=None, server=False, reconnect=None, **properties):
        self.sock = sock
        self.queue_pairs = queue_pairs
        self.mac = mac
        self.server = server
        self.reconnect = reconnect
        self.properties = properties

    def args(self, idx, version):
        device = f'virtio-net-pci,netdev=net{idx},id=dev{idx},romfile=,addr={4 + idx}'
        if version == '7.2' and 'vectors' not in self.properties:
            # This one, under TCG, ends with SIGSEGV when a driver enables MSI-X on any vhost-user net device.
            device += ',vectors=0'
        if self.mac:
            device += f',mac={self.mac}'
        if self.queue_pairs > 1:
            device += ',mq=on'
        for key, value in self.properties.items():
            device += f',{key}={value}'
        return self.backend_args(idx) + ['-device', device]

    def backend_args(self, idx):
        chardev = f'socket,id=vu{idx},path={self.sock}'
        if self.server:
            chardev += ',server=on'
        if self.reconnect:
            chardev += f',reconnect={self.reconnect}'
        return ['-chardev', chardev, '-netdev', f'vhost-user,id=net{idx},chardev=vu{idx},queues={self.queue_pairs}']


class WlDevice:
    """Any device on a vhost-user socket; QEMU knows virtio-wl by the ID that it had at first."""

    VIRTIO_ID = 30
    server = False

    def __init__(self, sock):
        self.sock = sock

    def args(self, idx, version):
        return ['-chardev', f'socket,id=vu{idx},path={self.sock}', '-device', f'vhost-user-test-device-pci,chardev=vu{idx},'
                f'id=dev{idx},virtio-id={self.VIRTIO_ID},num_vqs=2,vq_size=256,addr={4 + idx}']


class Qmp:
    """The machine protocol: one command at a time, events kept as they come."""

    def __init__(self, line):
        self.line = line
        self.buffer = b''
        self.events = []
        self._read(30)
        self.command('qmp_capabilities')

    def _read(self, limit):
        end = time.monotonic() + limit * env.TIME_FACTOR
        while b'\n' not in self.buffer:
            self.line.settimeout(max(0.001, end - time.monotonic()))
            data = self.line.recv(65536)
            if not data:
                raise AssertionError('QMP: QEMU closed the line')
            self.buffer += data
        line, self.buffer = self.buffer.split(b'\n', 1)
        return json.loads(line)

    def command(self, name, **arguments):
        self.line.sendall(json.dumps({'execute': name, 'arguments': arguments}).encode())
        while True:
            message = self._read(30)
            if 'event' in message:
                self.events.append(message)
            elif 'error' in message:
                raise AssertionError(f'QMP {name}: {message["error"]["desc"]}')
            elif 'return' in message:
                return message['return']

    def event_names(self):
        """Every event so far; asking a question first makes those that are under way arrive."""
        self.command('query-status')
        return [event['event'] for event in self.events]


class Qemu:
    """One VM. It boots when constructed; wait_boot() returns when the guest takes commands."""

    def __init__(self, case, devices, version='7.2', cpus=1, memory_mb=256, name='qemu', share=True,
                 memory_object=True, boot=True, extra=(), guest='guest'):
        self.case = case
        self.devices = devices
        self.version = version
        self.name = name
        self.dir = case.dir
        self.cpus = cpus
        self.memory_mb = memory_mb
        self.share = share
        self.memory_object = memory_object
        self.extra = list(extra)
        self.kind = guest
        self.guest = self.qmp = None
        self.console_path = case.dir / f'{name}-console.log'
        self.n_starts = 0
        if boot:
            self.start()

    def _argv(self, guest_dir):
        memory = f'memory-backend-memfd,id=mem,size={self.memory_mb}M,share={"on" if self.share else "off"}'
        argv = binary(self.version) + [
            '-name', self.name, '-nodefaults', '-no-user-config', '-display', 'none',
            '-M', 'q35' + (',memory-backend=mem' if self.memory_object else ''), '-accel', 'tcg', '-cpu', 'max', '-smp', self.cpus,
            '-m', f'{self.memory_mb}M', *(['-object', memory] if self.memory_object else []),
            '-kernel', guest_dir / 'vmlinuz', '-initrd', guest_dir / 'initrd',
            # neither are there clocks to be checked, which a busy host makes fail, nor ciphers
            '-append', 'console=ttyS0 quiet loglevel=4 mitigations=off nokaslr tsc=reliable no_timer_check cryptomgr.notests '
            'panic=-1',
            '-chardev', f'file,id=console,path={self.console_path},append=on', '-serial', 'chardev:console',
            '-chardev', f'socket,id=agent,path={self._path("agent")}', '-serial', 'chardev:agent',
            '-chardev', f'socket,id=qmp,path={self._path("qmp")}', '-mon', 'chardev=qmp,mode=control']
        for idx, device in enumerate(self.devices):
            argv += device.args(idx, self.version)
        return argv + self.extra

    def _path(self, what):
        return self.dir / f'{self.name}-{what}.sock'

    def _listen(self, what):
        """QEMU connects to us, so that nothing it says can be missed."""
        path = str(self._path(what))
        if os.path.exists(path):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(1)
        listener.settimeout(0.1)
        return listener

    def _accept(self, listener):
        """None if QEMU ended before it connected."""
        end = time.monotonic() + 20 * env.TIME_FACTOR
        while time.monotonic() < end:
            try:
                return listener.accept()[0]
            except TimeoutError:
                if not self.process.running():
                    return None
        raise AssertionError(f'{self.name}: QEMU started and did not connect to its serial line')

    def start(self):
        self.n_starts += 1
        listeners = [self._listen('agent'), self._listen('qmp')]
        try:
            suffix = '' if self.n_starts == 1 else f'-{self.n_starts}'
            argv = self._argv(env.prepare(self.kind))
            if any(device.server for device in self.devices):
                # our frontend is a user of its own, and must be let in
                argv = ['sh', '-c', 'umask 0; exec "$@"', 'sh', *argv]
            self.process = Process(self.case, self.name + suffix, argv)
            lines = [self._accept(listener) for listener in listeners]
        finally:
            for listener in listeners:
                listener.close()
        if None in lines:
            raise AssertionError(f'{self.name}: QEMU ended with status {self.process.wait()}: '
                                 f'{self.process.output()[-500:]}')
        self.pid = self.process.pid
        self.guest = Guest(lines[0])
        self.qmp = Qmp(lines[1])
        self.case.defer(self.check_console)
        self.case.defer(self.process.stop, signal.SIGKILL)

    def wait_boot(self, limit=60):
        start = time.monotonic()
        self.guest.wait_boot(self.guest.n_boots + 1 if self.guest.n_boots else 1, limit)
        return time.monotonic() - start

    def reboot(self, limit=60):
        """The guest starts again, the VMM stays."""
        boots = self.guest.n_boots
        self.guest.start('reboot -f')
        self.guest.wait_boot(boots + 1, limit)

    def kill(self):
        """The VMM is gone at once, as after a crash."""
        self.process.stop(signal.SIGKILL)
        self.guest.close()

    def quit(self, limit=10):
        """The VMM ends in good order."""
        try:
            self.qmp.command('quit')
        except (AssertionError, OSError):
            pass
        status = self.process.wait(limit)
        if status != 0:
            raise AssertionError(f'{self.name}: QEMU ended with status {status}')

    def check_console(self):
        """A kernel that complains about its devices has found a fault."""
        if not self.console_path.exists():
            return
        text = self.console_path.read_text(errors='replace')
        found = re.findall(r'.*(?:BUG:|Oops|WARNING:|Kernel panic|NETDEV WATCHDOG|not a head|out of range).*', text)
        if found:
            raise AssertionError(f'{self.name}: the guest\'s kernel says: {found[0].strip()}')

    def sockets(self):
        """Every socket that QEMU holds, by descriptor: one that was closed and opened again differs."""
        return {number: target for number, target in fds(self.pid).items() if target.startswith('socket:')}

    def check_connection(self, before):
        """No socket of the VMM was closed since before = sockets(), and it saw no disconnection."""
        after = self.sockets()
        if after != before:
            raise AssertionError(f'QEMU\'s sockets changed: {before} to {after}')
        events = self.qmp.event_names()
        if 'NETDEV_VHOST_USER_DISCONNECTED' in events:
            raise AssertionError('QEMU reports a vhost-user disconnection')
        for chardev in self.qmp.command('query-chardev'):
            if chardev['label'].startswith('vu') and chardev['filename'].startswith('disconnected'):
                raise AssertionError(f'QEMU reports {chardev["label"]} as disconnected')

    def wait_link(self, name, up, limit=10):
        want = '1' if up else '0'
        wait_until(lambda: self.guest.run(f'cat /sys/class/net/{name}/carrier').strip() == want,
                   f'carrier of {name} is {want}', limit)
