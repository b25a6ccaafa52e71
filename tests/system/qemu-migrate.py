#!/usr/bin/env python3
"""A running guest goes from one host to another, with its TCP, and whatever happens on the way.

QEMU 7.2 takes no part: under TCG it loses guest memory on the way, with a TAP of its own as well. Half of the cases run
on the QEMU of backports, half on the newest; with BULKHEAD_FULL=1, what belongs to the matrix runs on both.
"""

import itertools
import signal
import statistics
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.memory import differing_pages
from bulkhead_test.migration import ETH_P_ARP, ETH_P_RARP, GUEST, MAC, MIB, Voyage, end_all, journeys
from bulkhead_test.report import case, main, wait_until
from versions import PROGRAMS, commits, later, previous, put

BOTH = ('to-guest', 'from-guest')
SLOW = 24 * MIB
TIMES = 2 if env.FULL else 1


def told(current, what, info, done):
    gaps = ', '.join(f'{direction} {rate:.0f} Mbit/s, gap {gap:.0f} ms' for direction, rate, gap in done)
    current.note(f'{what}: downtime {info.get("downtime", 0)} of {info["total-time"]} ms; {gaps}.')


def carry(current, voyage, ways=('unix', 'unix'), directions=BOTH):
    """Streams go through the journeys; in between, the guest answers from where it is."""
    streams = voyage.transfers(directions)
    for way in ways:
        info = voyage.move(way)
        voyage.check_cable()
        voyage.ping_guest()
    told(current, way, info, end_all(streams))


def there_and_back(current, times=1, ways=('unix', 'unix'), directions=BOTH, **options):
    voyage = Voyage(current, **options)
    for _ in range(times):
        carry(current, voyage, ways, directions)
    check_quiet(voyage)


def check_quiet(voyage):
    """Neither Bulkhead took anything for a fault."""
    for host in voyage.hosts:
        said = host.product.process.output()
        assert 'stopped: ' not in said and 'ended by signal' not in said, said[-800:]


@case('migrate-packed-by-file', 90, ordinary=False)
def packed_file(current):
    there_and_back(current, version='newest', ways=('exec', 'file'), packed='on')


@case('migrate-twenty-times', 600, ordinary=False)
def twenty(current):
    there_and_back(current, 20, version='newest', ways=('tcp', 'file'))


@case('migrate-twenty-times-packed', 600, ordinary=False)
def twenty_packed(current):
    there_and_back(current, 20, version='backports', packed='on')


@case('migrate-two-pairs', 90, ordinary=False)
def two_pairs(current):
    there_and_back(current, version='backports', queue_pairs=2)


def matrix():
    """Every way, layout and direction, on either QEMU."""
    for version, layout, way, directions in itertools.product(
            ('backports', 'newest'), ('off', 'on'), ('unix', 'tcp', 'file', 'exec'), (BOTH[:1], BOTH[1:], BOTH)):
        name = '-'.join([version, 'packed' if layout == 'on' else 'split', way, *(directions if directions != BOTH else ['both'])])
        case(f'migrate-matrix-{name}', 90, ordinary=False)(
            lambda current, options=(version, layout, way, directions): there_and_back(
                current, ways=(options[2],) * 2, directions=options[3], version=options[0], packed=options[1]))


matrix()


# --- The pause, beside that of QEMU's own back-end ---

TIMES_LONGER = 2
PAIRS = 20 if env.FULL else 12


def paused(current, version, direction, **properties):
    """The medians are compared. An ordinary run ends with the first pair of journeys that suffices, which is most often the
    first one; a pause that is a multiple of theirs comes to the end. What is due to the machine alone, which makes a gap
    twice as long as another, does not go on for twelve pairs."""
    theirs, ours = [], []
    for pair in itertools.islice(journeys(current, version, direction, **properties), PAIRS):
        theirs.append(pair[0])
        ours.append(pair[1])
        ratio = statistics.median(each.gap for each in ours) / statistics.median(each.gap for each in theirs)
        if not env.FULL and ratio <= TIMES_LONGER:
            break
    for name, found in (('QEMU\'s TAP', theirs), ('Bulkhead', ours)):
        current.note(f'{name}: gaps {", ".join(f"{each.gap:.0f}" for each in found)} ms, '
                     f'downtimes {", ".join(str(each.downtime) for each in found)} ms.')
    current.note(f'medians of gaps: {ratio:.1f} of QEMU\'s TAP.')
    assert ratio <= TIMES_LONGER, f'{ratio:.1f} times as long as with QEMU\'s own back-end'


@case('migrate-pause-to-guest', 600)
def pause_to_guest(current):
    paused(current, 'newest', 'to-guest')


@case('migrate-pause-from-guest', 600, ordinary=False)
def pause_from_guest(current):
    paused(current, 'backports', 'from-guest', packed='on')


# --- What may go wrong ---

def under_way(voyage, **options):
    """A migration that is in the midst of guest memory, and slow."""
    migration = voyage.prepare(bandwidth=SLOW, **options)
    voyage.set_out(migration)
    wait_until(lambda: migration.info().get('ram', {}).get('transferred', 0) > 16 * MIB, 'some memory is over there')
    return migration


def goes_on_at_source(voyage, streams):
    for stream in streams:
        stream.wait_progress(stream.progress() + 16 * MIB)
    assert voyage.vm.qmp.command('query-status')['status'] == 'running'
    voyage.check_cable()


def fails_and_repeats(current, disturb, status, **options):
    """disturb(migration) ends it in the midst; the guest stays, and goes when it is asked again. Returns the voyage."""
    voyage = Voyage(current, **options)
    before = voyage.vm.sockets()
    streams = voyage.transfers(BOTH)
    for _ in range(TIMES):
        migration = under_way(voyage)
        disturb(migration)
        migration.wait_status(status)
        goes_on_at_source(voyage, streams)
        migration.destination.process.stop(signal.SIGKILL)
    assert before.items() <= voyage.vm.sockets().items(), 'QEMU kept its connections'
    told(current, 'repeated', voyage.move(), end_all(streams))
    check_quiet(voyage)
    return voyage


@case('migrate-cancelled-then-by-tcp-and-by-file', 120)
def cancelled(current):
    voyage = fails_and_repeats(current, lambda migration: migration.source.qmp.command('migrate_cancel'), 'cancelled',
                               version='backports')
    carry(current, voyage, ways=('tcp', 'file'))
    check_quiet(voyage)


@case('migrate-destination-killed', 90, ordinary=False)
def destination_killed(current):
    fails_and_repeats(current, lambda migration: migration.destination.kill(), 'failed', version='newest', packed='on')


def refused_at_the_end(voyage):
    """The destination cannot take the device over, which shows when the guest stands already: it goes on here. Returns
    what the last destination's QEMU said."""
    streams = voyage.transfers(BOTH)
    for _ in range(TIMES):
        # without it, the source never hears how it ends
        migration = voyage.prepare(capabilities=['return-path'])
        voyage.set_out(migration)
        migration.wait_status('failed')
        goes_on_at_source(voyage, streams)
        migration.destination.process.wait()
    end_all(streams)
    check_quiet(voyage)
    return migration.destination.process.output()


# uses: net:MTU protocol:MTU
@case('migrate-destination-refuses', 90, ordinary=False)
def destination_refuses(current):
    """The other Bulkhead does not offer what the guest uses."""
    voyage = Voyage(current, 'backports', serve=({'mtu': 1400}, {}), host_mtu=1400, **{'x-mtu-bypass-backend': 'off'})
    refused_at_the_end(voyage)
    said = voyage.there.product.process.output()
    assert 'features has bit 3, which is not offered here' in said, said[-800:]


# --- Who hears of it ---

def announced(current, by_guest, **options):
    """Nothing but the announcement tells the bridge; the peer knows the address, and asks nobody. The device's own comes
    before the guest runs; then QEMU tells the guest, or the device once more."""
    voyage = Voyage(current, guest_announce='on' if by_guest else 'off', **options)
    voyage.peer.ip('neigh', 'replace', GUEST, 'lladdr', MAC, 'dev', 'lan', 'nud', 'permanent')
    voyage.guest.run('ip -6 addr flush dev eth0')
    line, heard = voyage.frames('cable1'), []

    def announcements():
        try:
            while True:
                frame = line.recv(2048)
                if frame[6:12] == bytes.fromhex(MAC.replace(':', '')):
                    heard.append(struct.unpack_from('!H', frame, 12)[0])
        except BlockingIOError:
            return heard.count(ETH_P_ARP if by_guest else ETH_P_RARP)
    voyage.move()
    start = time.monotonic()
    voyage.check_cable()
    current.note(f'known after {(time.monotonic() - start) * 1000:.0f} ms')
    wait_until(announcements, 'there is an announcement')
    assert ETH_P_RARP in heard, f'the device has announced the address: {heard}'
    voyage.ping_guest()
    n_before = announcements()
    voyage.vm.qmp.command('announce-self', initial=50, max=50, rounds=1, step=10)
    wait_until(lambda: announcements() > n_before, 'QEMU announces the guest when it is told to')


# uses: protocol:RARP
@case('migrate-announced-by-rarp', 60)
def announced_by_rarp(current):
    announced(current, False, version='newest')


# uses: net:GUEST_ANNOUNCE
@case('migrate-announced-by-guest', 60, ordinary=False)
def announced_by_guest(current):
    announced(current, True, version='backports')


# --- The dirty log is complete ---

def arrives_the_same(current, voyage, migration, streams):
    """No page differs between the guest that stands here and the one that stands over there, where it was told to. QEMU
    changes none itself: the source stands from before the last round on, and nothing runs over there."""
    migration.wait_status('completed')
    wait_until(lambda: migration.destination.qmp.command('query-status')['status'] == 'paused', 'it is over there')
    pages = differing_pages(migration.source, migration.destination)
    assert not pages, f'pages differ: {pages[:20]}'
    migration.take_over()
    migration.destination.qmp.command('cont')
    told(current, 'all pages are the same', migration.info(), end_all(streams))
    voyage.arrive(migration)


def compared(current, version, **properties):
    voyage = Voyage(current, version, **properties)
    streams = voyage.transfers(BOTH)
    migration = voyage.prepare(extra=['-S'], **{'downtime-limit': 20})
    voyage.set_out(migration)
    arrives_the_same(current, voyage, migration, streams)


# Big rings: in one of 256, the driver writes to each page that the device writes to. With split rings, QEMU takes the
# whole used ring for written when it stops the device, so that only packed ones show what was not marked there.
BIG = {'rx_queue_size': 1024, 'tx_queue_size': 1024}


@case('migrate-memory-is-the-same-split', 60, ordinary=False)
def memory_same(current):
    compared(current, 'backports', **BIG)


@case('migrate-memory-is-the-same-packed', 60, ordinary=False)
def memory_same_packed(current):
    compared(current, 'newest', packed='on', **BIG)


# uses: net:LOG_ALL protocol:LOG_SHMFD
@case('migrate-our-processes-killed', 120)
def processes_killed(current):
    """Each one on either side, while memory is copied; then the guest goes on over there, and they once more."""
    voyage = Voyage(current, 'newest', packed='on', **BIG)
    before = voyage.vm.sockets()
    streams = voyage.transfers(BOTH)
    migration = under_way(voyage, extra=['-S'], **{'downtime-limit': 20})
    arriving = migration.destination.sockets()
    for host in voyage.hosts:
        for role in env.ROLES:
            host.product.kill(role)
    for vm, sockets in ((migration.source, before), (migration.destination, arriving)):
        assert sockets.items() <= vm.sockets().items(), 'QEMU kept its connections'
    migration.source.qmp.command('migrate-set-parameters', **{'max-bandwidth': 1 << 30})
    arrives_the_same(current, voyage, migration, streams)
    for role in env.ROLES:
        voyage.here.product.kill(role)
        voyage.guest.ping()
    for host in voyage.hosts:
        assert 'stopped: ' not in host.product.process.output()


# --- Releases ---

@case('migrate-between-releases', 120)
def between_releases(current):
    """A later one that has added a field to a device's state exchanges it both ways. One that has raised the version of a
    part takes ours, and has its own refused here before anything is changed: the guest goes on over there."""
    programs = current.dir / 'programs'
    programs.mkdir()
    for role in PROGRAMS:
        put(programs, role, None)
    put(programs, 'net', later(current.dir / 'added', 1))
    voyage = Voyage(current, 'backports', programs=(None, programs))
    ours, theirs = (host.product for host in voyage.hosts)
    carry(current, voyage)
    put(programs, 'net', later(current.dir / 'raised', 5000))
    theirs.kill('net')
    carry(current, voyage, ways=('unix',))
    assert theirs.process.output().count('a stage of version 1 is loaded') == 2, 'neither one has loaded what came from here'
    refused_at_the_end(voyage)
    said = ours.process.output()
    assert 'the device\'s state was not loaded: stage net has version 2; this release knows up to 1' in said, said[-800:]


@case('migrate-from-the-previous-release', 300, ordinary=False)
def from_previous_release(current):
    """Not back to it: the VMM uses protocol features here that it does not offer."""
    there_and_back(current, version='backports', programs=(previous(), None), ways=('unix',))


@case('migrate-to-a-release-without-snapshots', 300, ordinary=False)
def to_one_without_snapshots(current):
    """It takes no device state: QEMU gives it none, and says so."""
    said = refused_at_the_end(Voyage(current, 'backports', programs=(None, previous(commits()[2]))))
    assert 'Back-end does not support migration state transfer' in said, said[-800:]


@case('migrate-from-a-release-without-snapshots', 300, ordinary=False)
def from_one_without_snapshots(current):
    """It logs no writes to guest memory: QEMU does not even begin."""
    voyage = Voyage(current, 'backports', programs=(previous(commits()[2]), None))
    streams = voyage.transfers(BOTH)
    try:
        voyage.set_out(voyage.prepare())
    except AssertionError as error:
        assert 'lacks VHOST_USER_PROTOCOL_F_LOG_SHMFD' in str(error), error
    else:
        raise AssertionError('a guest whose device logs nothing set out')
    goes_on_at_source(voyage, streams)
    end_all(streams)
    check_quiet(voyage)


if __name__ == '__main__':
    main()
