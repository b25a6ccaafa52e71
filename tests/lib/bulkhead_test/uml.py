"""User Mode Linux as the VMM: a guest at native speed, on a vhost-user socket or on its own TAP driver; and passt."""

import os
import signal
import socket

from . import env
from .guest import Guest
from .process import Process
from .report import wait_until

# Its loader and libraries are those of its own root folder; it keeps its memory and a socket in folders of this machine.
_ENTER = '''root=$1 cache=$2; shift 2
for folder in dev proc tmp; do mount --rbind /$folder $root/$folder || exit; done
mount -t tmpfs run $root/run && mkdir $root/run/guest && mount --bind $cache $root/run/guest && exec chroot $root "$@"'''


def vhost_user(sock):
    """The argument for a network device on a socket; the guest has it as eth0."""
    return f'virtio_uml.device={sock}:1'


def own_tap(name='tap0'):
    """The argument for the guest's own driver on a TAP; the guest has it as vec0."""
    return f'vec0:transport=tap,ifname={name},depth=128,gro=1'


class Uml:
    """One guest. It boots when constructed; wait_boot() returns when it takes commands."""

    def __init__(self, case, netns, *devices, memory_mb=256, prefix=(), name='uml'):
        root, guest = env.prepare('uml'), env.prepare('guest-uml')
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        argv = [*prefix, env.need_tool('unshare', 'util-linux'), '--mount', 'sh', '-c', _ENTER, 'sh', root, guest,
                '/usr/bin/linux.uml', f'mem={memory_mb}M', 'initrd=/run/guest/initrd', 'rdinit=/init', 'uml_dir=/run', 'panic=-1',
                'con=null', 'con0=null,fd:1', 'ssl=null', f'ssl1=fd:{theirs.fileno()}', *devices]
        os.set_inheritable(theirs.fileno(), True)
        self.process = Process(case, name, netns.argv(*map(str, argv)), pass_fds=[theirs.fileno()])
        theirs.close()
        self.pid = self.process.pid
        self.guest = Guest(ours)
        case.defer(self.process.stop, signal.SIGKILL)

    def wait_boot(self, limit=60):
        self.guest.wait_boot(1, limit)


class Passt:
    """The newest passt of Debian on a vhost-user socket. The namespace's own addresses are the guest's as well; what the
    guest sends to the gateway reaches the namespace's loopback."""

    def __init__(self, case, netns, address='10.77.0.2', gateway='10.77.0.1', name='passt'):
        root = env.prepare('uml')
        folder = case.dir / 'passt'
        folder.mkdir()
        os.chmod(folder, 0o777)  # it is nobody there
        self.socket = str(folder / 'passt.sock')
        netns.ip('link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'up1')
        for command in (('address', 'add', f'{address}/24', 'dev', 'up0'), ('link', 'set', 'up0', 'up'), ('link', 'set', 'up1', 'up'),
                        ('route', 'add', 'default', 'via', gateway)):
            netns.ip(*command)
        netns.run('sh', '-c', 'echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range')
        self.process = netns.spawn(name, [
            root / 'usr/lib64/ld-linux-x86-64.so.2', '--library-path', root / 'usr/lib/x86_64-linux-gnu', root / 'usr/bin/passt',
            '--vhost-user', '--foreground', '-4', '-s', self.socket, '-i', 'up0', '-a', address, '-n', '24', '-g', gateway])
        self.pid = self.process.pid
        wait_until(lambda: os.path.exists(self.socket) or not self.process.running(), 'passt listens', 20)
        if not self.process.running():
            raise AssertionError(f'passt ended: {self.process.output()[-500:]}')
