"""Two hosts and a peer, and a guest that moves from one host to the other.

    host 0: tap0 - bridge - cable0 .              the peer's bridge learns at which
                                    > peer: lan   cable the guest is; the peer's
    host 1: tap0 - bridge - cable1 '              TCP ends here
"""

import itertools
import socket
import subprocess

from .bulkhead import Bulkhead, Device
from .netns import Netns
from .qemu import NetDevice, Qemu
from .report import wait_until
from .tcp import MIB, Transfer

_numbers = itertools.count()

PORT = 4444
SOCKETS = ('unix', 'tcp')
MAC = '52:54:00:77:00:02'
PEER = '10.77.0.1'
GUEST = '10.77.0.2'
# little, so that how the last round happens to fall does not decide
DOWNTIME_LIMIT_MS = 20
ETH_P_ALL, ETH_P_ARP, ETH_P_RARP = 0x0003, 0x0806, 0x8035


class Corner:
    """A case as one host sees it: with a directory of its own, so that two Bulkheads have the same names in it."""

    def __init__(self, current, name):
        self.dir = current.dir / name
        self.dir.mkdir(mode=0o755)
        self.defer = current.defer
        self.note = current.note

    def log_path(self, name):
        return self.dir / f'{name}.log'


class TapDevice(NetDevice):
    """The same device, served by QEMU's own back-end."""

    def backend_args(self, idx):
        queues = f',queues={self.queue_pairs}' if self.queue_pairs > 1 else ''
        return ['-netdev', f'tap,id=net{idx},ifname=tap0,script=no,downscript=no,vhost=off{queues}']


class Vm(Qemu):
    """A QEMU on one of the hosts; one that waits for a guest starts with incoming=True."""

    def __init__(self, host, devices, version, incoming=False, extra=(), **options):
        self.netns = host.netns
        super().__init__(host.corner, devices, version, name=f'qemu{next(_numbers)}',
                         extra=['-incoming', 'defer', *extra] if incoming else extra, **options)

    def _argv(self, guest_dir):
        return self.netns.argv(*map(str, super()._argv(guest_dir)))

    def carry_on(self, source):
        """The guest that ran in source is here now, with the commands that it was given there."""
        for _ in range(3):
            source.guest.poll()
        line, self.guest = self.guest.line, source.guest
        source.guest.line.close()
        self.guest.line = line


class Host:
    def __init__(self, current, number, peer, queue_pairs=1):
        self.number = number
        self.queue_pairs = queue_pairs
        self.corner = Corner(current, f'host{number}')
        self.netns = Netns(current)
        self.netns.add_tap(addresses=(), queue_pairs=queue_pairs)
        self.netns.ip('link', 'add', 'bridge', 'type', 'bridge', 'mcast_snooping', '0')
        self.netns.ip('link', 'add', 'cable', 'type', 'veth', 'peer', 'name', f'cable{number}', 'netns', peer.name)
        for port in ('tap0', 'cable'):
            self.netns.ip('link', 'set', port, 'master', 'bridge')
            self.netns.ip('link', 'set', port, 'up')
        self.address = f'10.78.0.{number + 1}'
        self.netns.set_up('bridge', [f'{self.address}/24'])
        peer.ip('link', 'set', f'cable{number}', 'master', 'lan')
        peer.ip('link', 'set', f'cable{number}', 'up')
        self.socket = str(self.corner.dir / 'net0.sock')
        self.product = None

    def serve(self, programs=None, **options):
        """Bulkhead runs here from now on."""
        device = Device(socket=self.socket, queue_pairs=self.queue_pairs, **options)
        self.product = Bulkhead(self.corner, [device], self.netns, programs=programs)

    def device(self, **properties):
        """What a guest on this host has: ours if Bulkhead runs here, else QEMU's own."""
        kind = NetDevice if self.product else TapDevice
        return kind(self.socket, self.queue_pairs, mac=MAC, **properties)


class Migration:
    """One way of a guest from here to there: receive(), send() and finish(), or what makes it fail between them."""

    def __init__(self, source, destination):
        self.source, self.destination = source, destination

    def set(self, capabilities=(), **parameters):
        """On both sides: those that only the source needs are known to the destination, too."""
        for vm in (self.source, self.destination):
            vm.qmp.command('migrate-set-capabilities',
                           capabilities=[{'capability': name, 'state': True} for name in capabilities])
            vm.qmp.command('migrate-set-parameters', **parameters)

    def receive(self, uri):
        self.destination.qmp.command('migrate-incoming', uri=uri)

    def send(self, uri):
        self.source.qmp.command('migrate', uri=uri)

    def info(self):
        return self.source.qmp.command('query-migrate')

    def wait_status(self, wanted, limit=60):
        """Until the source says so of it; another end is not what was wanted."""
        def reached():
            status = self.info().get('status')
            if status in ('completed', 'failed', 'cancelled') and status != wanted:
                raise AssertionError(f'the migration is {status}, not {wanted}: {self.info().get("error-desc", "")}')
            return status == wanted
        wait_until(reached, f'the migration is {wanted}', limit)

    def finish(self):
        """Both sides agree that the guest is there now."""
        self.wait_status('completed')
        self.take_over()

    def take_over(self):
        wait_until(lambda: self.destination.qmp.command('query-status')['status'] in ('running', 'paused'),
                   'the destination has the guest', 30)
        self.destination.carry_on(self.source)


class Voyage:
    """A guest that runs on host 0, and what it takes to move it on."""

    def __init__(self, current, version, bulkhead=True, queue_pairs=1, programs=(None, None), serve=({}, {}), begin=True,
                 **properties):
        self.case = current
        self.version = version
        self.properties = properties
        self.peer = Netns(current)
        self.peer.ip('link', 'add', 'lan', 'type', 'bridge', 'mcast_snooping', '0')
        self.peer.set_up('lan')
        self.hosts = [Host(current, number, self.peer, queue_pairs) for number in range(2)]
        if bulkhead:
            for host, release, options in zip(self.hosts, programs, serve):
                host.serve(release, **options)
        self.here, self.there = self.hosts
        self.vm = self.start(self.here)
        if begin:
            self.begin()

    def begin(self):
        """The guest has booted, and reaches its peer."""
        self.vm.wait_boot()
        self.vm.guest.net_up()
        self.vm.guest.ping()

    @property
    def guest(self):
        return self.vm.guest

    def start(self, host, **options):
        return Vm(host, [host.device(**self.properties)], self.version, **options)

    def prepare(self, extra=(), bandwidth=1 << 30, capabilities=(), **parameters):
        """A destination that waits, and the migration to it."""
        migration = Migration(self.vm, self.start(self.there, incoming=True, extra=extra))
        migration.set(capabilities, **{'max-bandwidth': bandwidth, **parameters})
        return migration

    def uri(self, way):
        """Where the guest goes on its way: how the source calls it, and how the destination does."""
        if way == 'tcp':
            return (f'tcp:{self.there.address}:{PORT}',) * 2
        path = f'{self.case.dir}/guest.{"sock" if way == "unix" else "file"}'
        if way == 'exec':
            return f'exec:cat > {path}', f'exec:cat {path}'
        return f'{way}:{path}', f'{way}:{path}'

    def arrive(self, migration):
        """The source is not needed any more, and the way back is free."""
        self.vm = migration.destination
        migration.source.quit()
        self.here, self.there = self.there, self.here

    def set_out(self, migration, way='unix'):
        out, into = self.uri(way)
        if way in SOCKETS:
            migration.receive(into)
        migration.send(out)

    def move(self, way='unix', **options):
        """The whole of it. Returns what QEMU says of it; the guest runs on the other host then."""
        migration = self.prepare(**options)
        self.set_out(migration, way)
        migration.wait_status('completed')
        if way not in SOCKETS:
            migration.receive(self.uri(way)[1])
        info = migration.info()
        migration.take_over()
        self.arrive(migration)
        return info

    def transfers(self, directions):
        """Streams that go on until they are told to end; each has begun."""
        found = [Transfer(self.peer, self.guest, direction, 0, PEER) for direction in directions]
        for transfer in found:
            transfer.wait_progress(8 * MIB)
        return found

    def ping_guest(self):
        """From outside; the first one must be answered."""
        self.peer.run('busybox', 'ping', '-c', '1', '-W', '5', GUEST)

    def frames(self, port):
        """A socket that hears what comes out of a port of the peer's, and speaks there."""
        def listen():
            line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            line.bind((port, ETH_P_ALL))
            line.settimeout(0)
            return line
        line = self.peer.inside(listen)
        self.case.defer(line.close)
        return line

    def check_cable(self):
        """The bridge sends what is for the guest to where it is now."""
        wait_until(lambda: self.cable_of_guest() == f'cable{self.here.number}', 'the bridge follows the guest', 10, 0.005)

    def cable_of_guest(self):
        """The port at which the peer's bridge believes the guest to be."""
        done = subprocess.run(self.peer.argv('bridge', 'fdb', 'show', 'br', 'lan'), capture_output=True, text=True,
                              check=True)
        lines = [line.split() for line in done.stdout.splitlines() if line.startswith(MAC)]
        return lines[0][2] if lines else None


class Journey:
    """What one migration under one stream cost, in ms: QEMU's own figures, and what the stream's end on the peer saw."""

    def __init__(self, voyage, direction):
        stream = voyage.transfers([direction])
        info = voyage.move(**{'downtime-limit': DOWNTIME_LIMIT_MS})
        self.downtime, self.total = info['downtime'], info['total-time']
        self.direction, self.rate, self.gap = end_all(stream)[0]


def journeys(current, version, direction, **properties):
    """(Journey with QEMU's own TAP back-end, Journey with Bulkhead), again and again: both have the same machine."""
    both = [Voyage(Corner(current, name), version, bulkhead=name == 'bulkhead', begin=False, **properties)
            for name in ('tap', 'bulkhead')]
    for voyage in both:
        voyage.begin()
        # a frame that was lost is sent again after 200 ms, and whether one is lost is chance
        voyage.peer.ip('route', 'change', '10.77.0.0/24', 'dev', 'lan', 'src', PEER, 'rto_min', '20ms')
    while True:
        yield tuple(Journey(voyage, direction) for voyage in both)


def end_all(transfers):
    """(direction, Mbit/s, longest gap in ms) of each, which has gone on in the end."""
    done = []
    for transfer in transfers:
        seen = transfer.progress()
        transfer.wait_progress(seen + 8 * MIB)
        done.append((transfer.direction, transfer.end(), transfer.gap * 1000))
    return done
