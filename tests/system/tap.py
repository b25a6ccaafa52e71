#!/usr/bin/env python3
"""What becomes of a TAP while it is served: moved, renamed, deleted, called like another, and nobody told us."""

import contextlib
import itertools
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.front_end import FrontEnd
from bulkhead_test.netns import Netns
from bulkhead_test.process import kill_and_wait
from bulkhead_test.program import Program, child, children
from bulkhead_test.report import case, main, wait_until

_frames = itertools.count(1)


class Interface:
    """What the host sees of a TAP, in whatever namespace it is now; a socket stays bound to it by index."""

    def __init__(self, netns, name='tap0'):
        def listen():
            line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5))
            line.bind((name, 0x88b5))
            line.settimeout(0.05)
            return line
        self.line = netns.inside(listen)

    def hears(self, frame, limit=100):
        for _ in range(limit):
            try:
                if self.line.recv(2048) == frame:
                    return True
            except TimeoutError:
                return False
            except OSError:
                continue
        return False


def new_frame():
    return b'\xff' * 6 + b'\x02\0\0\0\0\x99' + b'\x88\xb5' + struct.pack('I', next(_frames)) + bytes(46)


def delivers(front_end, netns, name='tap0', pair=0):
    """Both ways: what the guest sends comes out of this interface, and what is sent there comes to the guest.

    The kernel drops what is sent to an interface until it has noticed its carrier, so no frame is waited for for long.
    """
    interface, frame = Interface(netns, name), new_frame()
    front_end.send(frame, pair)
    if not interface.hears(frame):
        return False
    frame = new_frame()
    interface.line.send(frame)
    while True:
        got = front_end.receive(0.5)
        if got is None or got == frame:
            return got == frame


def serves(front_end, netns, name='tap0'):
    wait_until(lambda: front_end.link_is_up(), 'the link is up')
    wait_until(lambda: delivers(front_end, netns, name), f'the guest is connected to {name} of {netns.name}')


def check_link(front_end, up):
    wait_until(lambda: front_end.link_is_up() == up, f'the link is {"up" if up else "down"}')


def is_served(netns, name):
    """Whether somebody has a queue of this interface open: it has a carrier then."""
    return netns.run('cat', f'/sys/class/net/{name}/carrier', check=False).stdout.strip() == '1'


def backend_of(product, words):
    """Until `status` says so of the back-end."""
    def told():
        return product.device()['backend'] == words
    wait_until(told, f'status says: {words}')


class HandedOver:
    """Two networks with an interface of one name each. That of `pod` was handed over to a device that lives in `host`."""

    def __init__(self, current, queues=1):
        self.host, self.pod = Netns(current), Netns(current)
        self.host.add_tap('tap0', queue_pairs=queues)
        self.pod.add_tap('tap0', queue_pairs=queues)
        fds = self.pod.open_tap('tap0', queues)
        try:
            self.program = Program(current, f'--socket-path={current.dir}/net.sock', *[f'--tap-fd={fd}' for fd in fds],
                                   pass_fds=fds, netns=self.host)
        finally:
            for fd in fds:
                os.close(fd)
        self.front_end = FrontEnd(current, current.dir / 'net.sock')

    def kill_worker(self):
        kill_and_wait(child(self.program, 'net'))
        wait_until(lambda: children(self.program, 'net'), 'the worker is there again')

    def check(self, name='tap0'):
        serves(self.front_end, self.pod, name)
        assert not is_served(self.host, 'tap0'), 'nobody opened the stranger'


def flap(netns, name='tap0', queues=1):
    netns.ip('link', 'del', name)
    netns.add_tap(name, queue_pairs=queues)


def namesake(current, queues):
    there = HandedOver(current, queues)
    there.check()
    for change in (lambda: there.host.ip('link', 'set', 'tap0', 'down'), lambda: flap(there.host, queues=queues),
                   there.kill_worker, lambda: there.host.ip('link', 'del', 'tap0'), there.kill_worker):
        change()
        serves(there.front_end, there.pod)
    there.host.add_tap('tap0', queue_pairs=queues)
    there.check()
    # its own state is followed, where nobody but itself tells of it
    there.pod.ip('link', 'set', 'tap0', 'down')
    there.front_end.send(new_frame())
    check_link(there.front_end, False)
    there.pod.ip('link', 'set', 'tap0', 'up')
    there.check()
    there.pod.ip('link', 'set', 'tap0', 'name', 'tap7')
    there.pod.ip('link', 'set', 'tap7', 'up')
    there.kill_worker()
    there.check('tap7')
    there.program.ends_well()


@case('tap-handed-over-is-not-its-namesake', 60)
def namesake_single(current):
    namesake(current, 1)


@case('tap-handed-over-is-not-its-namesake-pairs', 60)
def namesake_pairs(current):
    namesake(current, 2)


@case('tap-handed-over-that-is-gone', 60)
def handed_over_gone(current):
    """There is nothing that could take its place: the device is served on, with its link down."""
    there = HandedOver(current)
    there.check()
    there.pod.ip('link', 'del', 'tap0')
    check_link(there.front_end, False)
    there.pod.add_tap('tap0')
    flap(there.host)
    there.front_end.send(new_frame())
    there.kill_worker()
    there.front_end.send(new_frame())
    check_link(there.front_end, False)
    assert not is_served(there.host, 'tap0') and not is_served(there.pod, 'tap0'), 'nothing is opened by name'
    said = there.program.process.output()
    assert said.count('passed in') == 2, said
    there.program.ends_well()


class Served:
    """A device whose TAP was configured by name, and another network to move it to."""

    def __init__(self, current, queue_pairs=1):
        self.home, self.away = Netns(current), Netns(current)
        self.home.add_tap('tap0', queue_pairs=queue_pairs)
        device = Device(socket=f'{current.dir}/net0.sock', queue_pairs=queue_pairs)
        self.product = Bulkhead(current, [device], self.home)
        self.front_end = FrontEnd(current, device.socket)

    def move(self, there, back):
        there.ip('link', 'set', 'tap0', 'netns', back.name)
        back.ip('link', 'set', 'tap0', 'up')


def moved(current, queue_pairs):
    """Wherever it is and however it is called, and whoever serves it: the guest stays connected to it."""
    one = Served(current, queue_pairs)
    serves(one.front_end, one.home)
    one.move(one.home, one.away)
    serves(one.front_end, one.away)
    one.product.kill('net')
    serves(one.front_end, one.away)
    # another one takes its name meanwhile
    one.home.add_tap('tap0', queue_pairs=queue_pairs)
    one.product.kill('net')
    serves(one.front_end, one.away)
    assert not is_served(one.home, 'tap0')
    one.home.ip('link', 'del', 'tap0')
    one.move(one.away, one.home)
    serves(one.front_end, one.home)
    one.home.ip('link', 'set', 'tap0', 'down')
    check_link(one.front_end, False)
    one.home.ip('link', 'set', 'tap0', 'name', 'tap7')
    one.home.ip('link', 'set', 'tap7', 'up')
    serves(one.front_end, one.home, 'tap7')
    backend_of(one.product, 'tap tap7 (up)')
    one.product.kill('net')
    serves(one.front_end, one.home, 'tap7')
    assert ' is gone' not in one.product.process.output(), one.product.process.output()
    # deleted, it ends; and the configured name, which another has now, is what is waited for
    one.home.ip('link', 'del', 'tap7')
    check_link(one.front_end, False)
    backend_of(one.product, 'tap tap7 (gone)')
    one.home.add_tap('tap0', queue_pairs=queue_pairs)
    serves(one.front_end, one.home)
    backend_of(one.product, 'tap tap0 (up)')
    said = one.product.process.output()
    assert said.count(' is gone') == 1 and said.count('there again') == 1, said
    one.product.stop()


@case('tap-moved-and-renamed', 60)
def moved_single(current):
    moved(current, 1)


@case('tap-moved-and-renamed-pairs', 60)
def moved_pairs(current):
    """The second queue is detached all the time: the front-end starts one pair."""
    moved(current, 2)


@case('tap-waited-for-over-a-restart', 60)
def waited_for(current):
    """Deleted while nobody looks: who comes then serves the device, waits, and says so once."""
    one = Served(current)
    serves(one.front_end, one.home)
    os.kill(one.product.pid_of('net'), signal.SIGSTOP)
    one.home.ip('link', 'del', 'tap0')
    one.product.kill('net')
    check_link(one.front_end, False)
    one.front_end.send(new_frame())
    one.home.add_tap('tap0')
    serves(one.front_end, one.home)
    said = [line for line in one.product.process.output().splitlines() if "tap 'tap0'" in line]
    # a test beside this one may have a namespace with a tap0, and then the first line says where
    assert len(said) == 2 and ('does not exist' in said[0] or 'another network namespace' in said[0]), said
    assert 'there again' in said[1], said


@case('tap-whose-messages-were-lost', 90)
def messages_lost(current):
    """More interfaces come and go than netlink holds messages of, while the worker gets no processor."""
    one = Served(current)
    serves(one.front_end, one.home)
    for again in (True, False):
        pid = one.product.pid_of('net')
        os.kill(pid, signal.SIGSTOP)
        storm(one.home)
        one.home.ip('link', 'del', 'tap0')
        if again:
            one.home.add_tap('tap0')
        os.kill(pid, signal.SIGCONT)
        if not again:
            check_link(one.front_end, False)
            backend_of(one.product, 'tap tap0 (gone)')
            one.home.add_tap('tap0')
        serves(one.front_end, one.home)
        backend_of(one.product, 'tap tap0 (up)')


def storm(netns, n=1000):
    """As many messages as hundreds of interfaces cause."""
    lines = ''.join(f'link set dev lo alias storm-{i}\n' for i in range(n))
    subprocess.run(netns.argv('ip', '-batch', '-'), input=lines, text=True, check=True, capture_output=True)


# uses: net:STATUS protocol:CONFIG
@case('tap-that-comes-and-goes', 60)
def comes_and_goes(current):
    """However often: the guest is connected in the end, and the log is not filled."""
    one = Served(current)
    for _ in range(20):
        flap(one.home)
    serves(one.front_end, one.home)
    # each of the two lines ten times, and then they are counted
    assert one.product.process.output().count("tap 'tap0'") <= 22, one.product.process.output()


@case('tap-configured-anew', 60)
def configured_anew(current):
    """Another interface, and fewer queues: what was kept of the former is given back."""
    one = Served(current, queue_pairs=2)
    serves(one.front_end, one.home)
    one.home.add_tap('tap1')
    config = current.dir / 'vm.conf'
    config.write_text(config.read_text().replace('tap=tap0', 'tap=tap1').replace('queue-pairs=2', 'queue-pairs=1'))
    one.product.ctl('apply', 'vm')
    serves(one.front_end, one.home, 'tap1')
    wait_until(lambda: not is_served(one.home, 'tap0'), 'nobody holds the former one')
    one.product.kill('net')
    serves(one.front_end, one.home, 'tap1')


@case('tap-with-a-limit', 60)
def limited(current):
    """tc's limit on what the TAP sends holds for the guest, and goes as it came; the device does not notice."""
    one = Served(current)
    serves(one.front_end, one.home)
    one.home.run('tc', 'qdisc', 'add', 'dev', 'tap0', 'root', 'tbf', 'rate', '8kbit', 'burst', '2kb', 'latency', '10ms')
    interface = Interface(one.home)
    for _ in range(300):
        with contextlib.suppress(OSError):  # a packet socket is told what the limit drops
            interface.line.send(new_frame())
    n = 0
    while one.front_end.receive(0.5):
        n += 1
    assert 0 < n < 150, f'{n} of 300 frames of 64 bytes came through a burst of 2 KiB'
    one.home.run('tc', 'qdisc', 'del', 'dev', 'tap0', 'root')
    serves(one.front_end, one.home)


if __name__ == '__main__':
    main()
