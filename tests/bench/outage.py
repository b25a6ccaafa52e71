#!/usr/bin/env python3
"""What the death of each process costs: from the signal to the first frame served again.

    meson setup BUILD && ninja -C BUILD && BULKHEAD_BUILD=BUILD python3 tests/bench/outage.py [--kills N] [PART...]

Parts: launcher, systemd, peer. Everything is measured in one run: the floor (a bare program that starts, connects
and answers), our processes under the same keeper, and DPDK's vhost library behind QEMU's own reconnecting. What a
frontend's or memory's death does to frames stands beside what the same death in another guest does to them: that
can only be want of a processor. Needs root; with hugepages, about 5 GiB of free memory.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.qemu import NetDevice, Qemu
from bulkhead_test.report import Run, wait_until
from bulkhead_test.systemd import Systemd
from bulkhead_test.testpmd import Testpmd

GUESTS = ((256, False), (4096, False), (256, True), (4096, True))
HUGEPAGES = Path('/proc/sys/vm/nr_hugepages')
WATCH_MS = 30
PING = 'ping -c 1 -W 1 10.77.0.1'


def row(what, keeper, memory, nanoseconds, note=''):
    values = sorted(value / 1e6 for value in nanoseconds)
    p99 = values[min(len(values) - 1, int(len(values) * 0.99))]
    print(f'{what:38} {keeper:9} {memory:14} {statistics.median(values):9.2f} {p99:9.2f}  {len(values):5}  {note}', flush=True)


def head():
    print(f'{"what":38} {"keeper":9} {"guest memory":14} {"median ms":>9} {"p99 ms":>9}  {"kills":>5}')


def memory_name(mib, huge):
    size = f'{mib} MiB' if mib < 1024 else f'{mib // 1024} GiB'
    return f'{size}, {"2 MiB" if huge else "4 KiB"}'


class FrontEnd:
    """bench-outage, obeying."""

    def __init__(self, argv):
        self.child = subprocess.Popen([str(word) for word in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.expect('ready')

    def expect(self, word):
        line = self.child.stdout.readline().strip()
        assert line.startswith(word) and not line.startswith('error'), line
        return line

    def say(self, line, word=''):
        self.child.stdin.write(line + '\n')
        self.child.stdin.flush()
        return self.expect(word)

    def touch(self):
        self.say('touch', 'touched')

    def cut(self, pid, number=signal.SIGKILL):
        return [int(value) for value in self.say(f'cut {pid} {int(number)} {WATCH_MS}').split()]

    def close(self):
        self.child.stdin.close()
        self.child.wait()


class Launcher:
    """`bulkhead run` with an echo device."""

    name = 'launcher'
    guest = 'vm'

    def __init__(self, case, standby):
        self.socket = str(case.dir / 'net0.sock')
        self.product = Bulkhead(case, guests={
            self.guest: [Device(socket=self.socket, backend='echo', standby=standby)],
            'other': [Device(socket=str(case.dir / 'other.sock'), backend='echo')]})

    def front_end(self, *args):
        return FrontEnd([env.BUILD / 'tests/bench/bench-outage', self.socket, *args])

    def settled(self, roles, killed=(), name=None):
        """{(role, standby): pid} once there is one of each, and nobody takes one who was killed for alive."""
        def look():
            found = {(process['role'], process['standby']): process['pid'] for guest in self.product.status()['guests']
                     for process in guest['processes'] if process['pid'] and guest['name'] == (name or self.guest)}
            return found if set(roles) <= set(found) and not set(killed) & set(found.values()) else None
        return wait_until(look, f'there is a process for each of {roles}', 20, 0.01)

    def stop(self):
        self.product.stop()


class Units(Launcher):
    """The same under a systemd of its own."""

    name = 'systemd'
    guest = 'vm1'

    def __init__(self, case, standby):
        config = '[device net0]\ntype = net\nsocket = /run/{}/net0.sock\nbackend = echo\n'.format
        self.system = Systemd(case, config(self.guest) + ('standby = yes\n' if standby else ''))
        Path(self.system.path('/etc/bulkhead/other.conf')).write_text(config('other'))
        self.system.run('systemctl', 'daemon-reload')
        self.system.run('systemctl', 'start', 'bulkhead.target')
        for name in ('bench-outage', 'bench-floor'):
            shutil.copy(env.BUILD / 'tests/bench' / name, f'/proc/{self.system.init}/root/usr/bin/{name}')
        self.inside = ['nsenter', '-t', str(self.system.init), '-p', '-m', '-u', '-i', '-C', '-n', '-r', '-w']
        self.product = self

    def status(self):
        return json.loads(self.system.run('bulkheadctl', 'status', '--json'))

    def front_end(self, *args):
        return FrontEnd(self.inside + ['/usr/bin/bench-outage', '/run/vm1/net0.sock', *args])

    def stop(self):
        pass


def measure_workers(place, roles, what, args, n_kills, memory):
    line = place.front_end(*args)
    found, killed = [], []
    for _ in range(n_kills):
        pid = place.settled(roles, killed)[('net', False)]
        line.touch()
        found.append(line.cut(pid)[0])
        killed = [pid]
    row(what, place.name, memory, found)
    line.close()


def measure_others(place, n_kills, memory):
    """Nothing on the data path: the slowest frame beside that of an idle stretch; and when the socket answers."""
    line = place.front_end('256')
    line.touch()
    row('idle: slowest frame', place.name, memory, [line.cut(0)[1] for _ in range(n_kills)])
    for role in ('frontend', 'memory'):
        for guest, whose in ((place.guest, ''), ('other', 'other\'s ')):
            cuts, killed = [], []
            for _ in range(n_kills):
                killed = [place.settled([(role, False)], killed, guest)[(role, False)]]
                cuts.append(line.cut(killed[0]))
            row(f'{whose}{role} killed: slowest frame', place.name, memory, [cut[1] for cut in cuts])
            if not whose:
                row(f'{role} killed: control reply', place.name, memory, [cut[2] for cut in cuts])
    line.close()


def floor_rows(lines, keeper):
    row('floor: start, connect, answer', keeper, '-', [int(line) for line in lines.split()])


def launcher_floor(case, n_kills):
    argv = [env.BUILD / 'tests/bench/bench-floor', 'keep', case.dir / 'floor.sock', str(n_kills)]
    floor_rows(subprocess.run(argv, capture_output=True, text=True, check=True).stdout, 'launcher')


def systemd_floor(place, n_kills):
    """The worker's own unit, with the bare program in its place."""
    unit = place.system.run('cat', '/usr/lib/systemd/system/bulkhead-net@.service')
    lines = ['ExecStart=/usr/bin/bench-floor serve /run/floor.sock' if line.startswith('ExecStart=') else line
             for line in unit.splitlines()
             if not line.startswith(('Type=', 'NotifyAccess=', 'Watchdog', 'FileDescriptorStoreMax=', 'ExecReload='))]
    Path(f'/proc/{place.system.init}/root/run/systemd/system/floor.service').write_text('\n'.join(lines) + '\n')
    place.system.run('systemctl', 'daemon-reload')
    watch = subprocess.Popen(place.inside + ['/usr/bin/bench-floor', 'watch', '/run/floor.sock', str(n_kills)],
                             stdout=subprocess.PIPE, text=True)
    wait_until(lambda: os.path.exists(f'/proc/{place.system.init}/root/run/floor.sock'), 'the floor listens')
    place.system.run('systemctl', 'start', 'floor.service')
    floor_rows(watch.communicate()[0], 'systemd')
    place.system.run('systemctl', 'stop', 'floor.service')


def each_guest(place, standby, n_kills):
    roles = [('net', False), ('net', True)] if standby else [('net', False)]
    what = 'worker with a standby killed' if standby else 'worker killed'
    for mib, huge in GUESTS:
        args = [str(mib)] + (['huge'] if huge else [])
        # some more: those of the guest before are free once its last worker has been taken down
        pages = mib // 2 + 256 if huge else 0
        HUGEPAGES.write_text(str(pages))
        if int(HUGEPAGES.read_text()) < pages:
            print(f'{what}: {memory_name(mib, huge)} left out: there are not that many hugepages')
            continue
        measure_workers(place, roles, what, args, n_kills, memory_name(mib, huge))
    HUGEPAGES.write_text('0')


def part_keeper(kind, n_kills):
    for standby in (False, True):
        with Run(f'{kind.name}-{standby}') as case:
            place = kind(case, standby)
            if not standby:
                if kind is Units:
                    systemd_floor(place, n_kills)
                else:
                    launcher_floor(case, n_kills)
                measure_others(place, n_kills, memory_name(256, False))
            each_guest(place, standby, n_kills)
            place.stop()


def part_peer(n_kills):
    """testpmd's vhost answers pings; QEMU connects again each second. The guest counts what it misses."""
    with Run('peer') as case:
        sock = str(case.dir / 'vhost.sock')

        def start(number):
            pmd = Testpmd(case, f'vhost{number}', [f'net_vhost0,iface={sock},queues=1,client=0'], 'icmpecho', main_lcore=0)
            pmd.start()
            return pmd
        pmd = start(0)
        vm = Qemu(case, [NetDevice(sock, reconnect=1)])
        vm.wait_boot()
        vm.guest.net_up()
        found = []
        for number in range(1, n_kills + 1):
            vm.guest.run(PING, 30)
            begin = time.monotonic()
            pmd.kill()
            os.unlink(sock)
            pmd = start(number)
            wait_until(lambda: vm.guest.run(PING, 5, check=False)[0] == 0, 'frames flow again', 60, 0.01)
            found.append((time.monotonic() - begin) * 1e9)
        row('DPDK vhost, QEMU reconnect=1', 'by hand', '256 MiB, 4 KiB', found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kills', type=int, default=100)
    parser.add_argument('parts', nargs='*', default=['launcher', 'systemd', 'peer'])
    args = parser.parse_args()
    head()
    for part in args.parts:
        if part == 'peer':
            part_peer(min(args.kills, 10))
        else:
            part_keeper({'launcher': Launcher, 'systemd': Units}[part], args.kills)


if __name__ == '__main__':
    main()
