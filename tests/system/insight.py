#!/usr/bin/env python3
"""What an operator sees of a device while it runs: metrics, frames, messages and rates."""

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.front_end import FrontEnd, GET_FEATURES, GET_PROTOCOL_FEATURES, SET_VRING_NUM
from bulkhead_test.netns import Netns
from bulkhead_test.prometheus import check_with_promtool, parse
from bulkhead_test.report import case, main, wait_until
from bulkhead_test.systemd import Systemd

FRAME = b'\xff' * 6 + b'\x02\0\0\0\0\x99' + b'\x88\xb5' + bytes(46)
PAGE = env.SOURCE / 'deploy/man/bulkhead-metrics.7'


def run_vm(current, **options):
    """A device on a TAP with a front-end whose rings run."""
    netns = Netns(current)
    netns.add_tap('tap0')
    product = Bulkhead(current, [Device(socket=current.dir / 'net.sock', **options)], netns=netns)
    return netns, product, FrontEnd(current, current.dir / 'net.sock')


def documented():
    """{series: (type, labels)}, by the manual page."""
    text = PAGE.read_text(encoding='utf-8')
    return {name: (kind, set(labels.split(', ')))
            for name, kind, labels in re.findall(r'^\.B (bulkhead_\w+)\n\((\w+); ([\w, ]+)\)', text, re.M)}


def ring(**labels):
    return {'guest': 'vm', 'device': 'net0', **labels}


TX = ring(queue='1', direction='transmit')
RX = ring(queue='0', direction='receive')


@case('metrics-page', 120)
def metrics_page(current):
    """Prometheus can read it, the manual page has each series with its type and labels, and the figures are true."""
    _, product, front_end = run_vm(current)
    for _ in range(7):
        front_end.send(FRAME)
    text = product.ctl('metrics')
    page = parse(text)
    check_with_promtool(text, env.SOURCE / 'deploy/metrics/bulkhead.rules.yml')
    shown = {name: (metric.type, metric.labels()) for name, metric in page.items()}
    pages = documented()
    assert set(shown) == set(pages), f'on one side only: {set(shown) ^ set(pages)}'
    for name, (kind, labels) in shown.items():
        assert kind == pages[name][0], f'{name} is a {kind}, documented as {pages[name][0]}'
        assert not labels or labels == pages[name][1], f'{name} has {labels}, documented {pages[name][1]}'
    assert page['bulkhead_up'].value(guest='vm') == 1
    assert page['bulkhead_device_up'].value(**ring()) == 1
    assert page['bulkhead_queue_frames_total'].value(**TX) == 7
    assert page['bulkhead_queue_bytes_total'].value(**TX) == 7 * len(FRAME)
    info = page['bulkhead_device_info'].only(guest='vm', device='net0')
    assert info['interface'] == 'tap0' and info['type'] == 'net', info
    for role in env.ROLES:
        found = page['bulkhead_process_resident_memory_bytes'].only(guest='vm', role=role)
        wait_until(lambda role=role, found=found: counts_descriptors(product, role, found), f'descriptors of {role} are counted')
        rss = page['bulkhead_process_resident_memory_bytes'].value(**found)
        pss = page['bulkhead_process_proportional_memory_bytes'].value(**found)
        assert 0 < pss <= rss, f'{role}: PSS {pss}, RSS {rss}'


def counts_descriptors(product, role, found):
    shown = parse(product.ctl('metrics'))['bulkhead_process_open_fds'].value(**found)
    now = len(os.listdir(f'/proc/{product.pid_of(role)}/fd'))
    # the connection of the one who asks is one of memory's own
    return shown == now or (role == 'memory' and now < shown < now + 8)


@case('metrics-drops', 60)
def metrics_drops(current):
    """What is dropped is counted with its reason."""
    netns, product, front_end = run_vm(current)

    def drops(reason):
        page = parse(product.ctl('metrics'))
        return page['bulkhead_queue_drops_total'].value(reason=reason, **TX)
    front_end.send(b'short')
    assert drops('malformed') == 1 and drops('host') == 0
    netns.ip('link', 'set', 'tap0', 'down')
    front_end.send(FRAME)
    assert drops('host') == 1 and drops('malformed') == 1 and drops('other') == 0


def pauses(product, cause):
    """(how many, seconds in all)"""
    metric = parse(product.ctl('metrics'))['bulkhead_device_pause_seconds']
    return (metric.value('_count', cause=cause, **ring()), metric.value('_sum', cause=cause, **ring()))


@case('metrics-pauses', 120)
def metrics_pauses(current):
    """A kill and a planned restart are one pause each, with its cause; a stop by the VMM is none."""
    _, product, front_end = run_vm(current)
    assert pauses(product, 'death') == (0, 0) and pauses(product, 'planned') == (0, 0)
    product.kill('net')
    wait_until(lambda: pauses(product, 'death')[0] == 1, 'the death is counted')
    front_end.send(FRAME)
    product.kill('net', signal.SIGTERM)
    wait_until(lambda: pauses(product, 'planned')[0] == 1, 'the restart is counted')
    for cause in ('death', 'planned'):
        count, seconds = pauses(product, cause)
        assert count == 1 and 0 < seconds < 60 * env.TIME_FACTOR, f'{cause}: {count} pauses, {seconds} s'
        current.note(f'{cause} {seconds * 1000:.1f} ms')
    front_end.close()
    wait_until(lambda: parse(product.ctl('metrics'))['bulkhead_device_vmm_connected'].value(**ring()) == 0, 'the VMM is gone')
    product.kill('net')
    FrontEnd(current, current.dir / 'net.sock')
    assert pauses(product, 'death')[0] == 1, 'nobody was held up'


@case('metrics-standby', 120)
def metrics_standby(current):
    """Of a device with a hot standby as well: each end of the instance that serves counts once."""
    _, product, _ = run_vm(current, standby=True)
    for deaths, restarts, number in ((1, 0, signal.SIGKILL), (1, 1, signal.SIGTERM), (2, 1, signal.SIGKILL)):
        os.kill(product.workers()[0], number)
        wait_until(lambda: (pauses(product, 'death')[0], pauses(product, 'planned')[0]) == (deaths, restarts),
                   f'{deaths} deaths and {restarts} restarts are counted')


@case('metrics-of-the-dead', 60)
def metrics_of_the_dead(current):
    """A guest whose memory manager hangs is down, and takes nothing from the others' figures; a file is written whole."""
    guests = {name: [Device(socket=current.dir / f'{name}.sock', backend='echo')] for name in ('vm1', 'vm2')}
    product = Bulkhead(current, guests=guests)
    for name in guests:
        product.process.wait_output(f'{name} is served')
    file = current.dir / 'bulkhead.prom'
    product.ctl('metrics', f'--output={file}')
    assert oct(file.stat().st_mode & 0o777) == '0o644', 'another user may read it'
    page = parse(file.read_text(encoding='utf-8'))
    assert page['bulkhead_up'].values(('guest',)) == {('vm1',): 1, ('vm2',): 1}
    memory = page['bulkhead_process_up'].only(guest='vm1', role='memory')
    pid = next(entry['pid'] for guest in product.status()['guests'] if guest['name'] == 'vm1'
               for entry in guest['processes'] if entry['name'] == memory['process'])
    os.kill(pid, signal.SIGSTOP)
    try:
        page = parse(product.ctl('metrics'))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert page['bulkhead_up'].values(('guest',)) == {('vm1',): 0, ('vm2',): 1}
    for command in ('metrics', 'top'):
        done = subprocess.run([env.product('bulkheadctl'), f'--runtime-dir={product.runtime}', command, 'vm1', 'nosuch'],
                              capture_output=True, text=True, check=False, timeout=20 * env.TIME_FACTOR)
        assert done.returncode == 1 and 'nosuch: there is no such guest' in done.stderr and not done.stdout, done
    assert page['bulkhead_process_up'].only(guest='vm2', role='memory')
    # one that has a file, and nobody serves it
    folder = current.dir / 'files'
    folder.mkdir()
    (folder / 'vm3.conf').write_text(f'[device net0]\ntype = net\nbackend = echo\nsocket = {current.dir}/vm3.sock\n')
    page = parse(product.ctl('metrics', f'--config-dir={folder}'))
    assert page['bulkhead_up'].values(('guest',)) == {('vm1',): 1, ('vm2',): 1, ('vm3',): 0}
    before = file.read_bytes()
    done = subprocess.run([env.product('bulkheadctl'), f'--runtime-dir={product.runtime}', 'metrics', '--output=/nowhere/x'],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr == '/nowhere/x: cannot be written: No such file or directory\n', done
    assert file.read_bytes() == before and os.listdir(current.dir).count('bulkhead.prom') == 1


# --- Over HTTP, and under systemd ---

def over_http(product, request, end=True):
    """(status line, headers, body) of the answer to these bytes."""
    ours, theirs = socket.socketpair()
    with ours:
        argv = [env.product('bulkheadctl'), f'--runtime-dir={product.runtime}', 'metrics', '--http']
        child = subprocess.Popen(argv, stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        theirs.close()
        ours.settimeout(20 * env.TIME_FACTOR)
        ours.sendall(request)
        if end:
            ours.shutdown(socket.SHUT_WR)
        answer = b''
        while part := ours.recv(65536):
            answer += part
        with open(f'/proc/{child.pid}/status', encoding='ascii') as status:
            now = dict(line.split(':\t', 1) for line in status.read().splitlines())
    assert child.wait(20 * env.TIME_FACTOR) == 0
    head, body = answer.split(b'\r\n\r\n', 1)
    first, *headers = head.decode().split('\r\n')
    return first, dict(header.split(': ', 1) for header in headers), body.decode(), now


@case('metrics-http', 60)
def metrics_http(current):
    """A request is answered as HTTP wants it, by a process that has no rights left."""
    product = Bulkhead(current, [Device(socket=current.dir / 'net.sock', backend='echo')])
    product.process.wait_output('vm is served')
    first, headers, body, now = over_http(product, b'GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n', end=False)
    assert first == 'HTTP/1.1 200 OK' and int(headers['Content-Length']) == len(body), headers
    assert headers['Content-Type'] == 'text/plain; version=0.0.4; charset=utf-8' and headers['Connection'] == 'close'
    assert parse(body)['bulkhead_up'].value(guest='vm') == 1
    if os.geteuid() == 0:
        assert now['Uid'].split() == ['65534'] * 4 and now['Gid'].split() == ['65534'] * 4 and not now['Groups'].strip(), now
    assert now['CapEff'] == now['CapPrm'] == '0' * 16 and now['NoNewPrivs'] == '1', now
    first, headers, body, _ = over_http(product, b'HEAD /metrics HTTP/1.0\n\n')
    assert first == 'HTTP/1.1 200 OK' and body == '' and int(headers['Content-Length']) > 1000
    for request, answer in ((b'GET / HTTP/1.1\r\n\r\n', '404 Not Found'), (b'GET /metricsx HTTP/1.1\r\n\r\n', '404 Not Found'),
                            (b'POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc', '405 Method Not Allowed'),
                            (b'GET /metrics\r\n\r\n', '400 Bad Request'), (b'\0\xff\n\n\n\n', '400 Bad Request'),
                            (b'GET /metrics HTTP/1.1\r\n' + b'x' * 9000, '431 Request Header Fields Too Large')):
        first, _, body, _ = over_http(product, request)
        assert (first, body) == (f'HTTP/1.1 {answer}', answer), (request[:40], first, body)
    assert over_http(product, b'GET /metrics?x=1 HTTP/1.1\r\n\r\n')[0] == 'HTTP/1.1 200 OK'


@case('metrics-units', 180)
def metrics_units(current):
    """Off by default; the timer fills a file, and the socket answers, within the limits of their units and after a flood."""
    system = Systemd(current, '[device net0]\ntype = net\nsocket = /run/vm1/net0.sock\nbackend = echo\n')
    system.all_there()
    states = {unit: system.run('systemctl', 'is-active', f'bulkhead-metrics.{unit}', check=False) for unit in ('timer', 'socket')}
    assert states == {'timer': 'inactive', 'socket': 'inactive'}, states
    for _ in range(2):
        system.kill_and_wait('memory')
    system.all_there()
    file = Path(system.path('/var/lib/prometheus/node-exporter/bulkhead.prom'))
    file.parent.mkdir(parents=True, exist_ok=True)
    system.run('systemctl', 'start', 'bulkhead-metrics.timer', 'bulkhead-metrics.socket')
    wait_until(file.exists, 'the timer has written the file', 40)

    def fetch():
        with socket.create_connection(('127.0.0.1', 9478), 20 * env.TIME_FACTOR) as line:
            line.sendall(b'GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n')
            answer = b''
            while part := line.recv(65536):
                answer += part
        return answer.decode()

    def answer_or_nothing():
        try:
            return fetch()
        except ConnectionError:
            return ''

    def flood():
        held = [socket.create_connection(('127.0.0.1', 9478), 60 * env.TIME_FACTOR) for _ in range(400)]
        return len(held)
    assert system.netns().inside(flood) == 400
    # those that are too many are closed without an answer
    wait_until(lambda: 'HTTP/1.1 200 OK' in system.netns().inside(answer_or_nothing), 'it answers again', 60)
    for text in (file.read_text(encoding='utf-8'), system.netns().inside(fetch).split('\r\n\r\n', 1)[1]):
        page = parse(text)
        assert page['bulkhead_up'].value(guest='vm1') == 1
        restarts = page['bulkhead_process_restarts_total']
        assert (restarts.value(guest='vm1', role='memory'), restarts.value(guest='vm1', role='frontend')) == (2, 0), 'as systemd knows'
        for role in env.ROLES:
            found = page['bulkhead_process_up'].only(guest='vm1', role=role)
            assert page['bulkhead_process_proportional_memory_bytes'].value(**found) > 0, f'{role}: its memory is seen'
            assert page['bulkhead_process_open_fds'].value(**found) > 3, role
    failed = system.run('systemctl', '--failed', '--plain', '--no-legend', check=False)
    assert 'bulkhead' not in failed, failed


# --- Frames ---

def spawn_ctl(current, product, *args, **options):
    argv = [env.product('bulkheadctl'), f'--runtime-dir={product.runtime}', *args]
    child = subprocess.Popen(list(map(str, argv)), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options)
    current.defer(child.kill)
    return child


def start_capture(current, product, file, *args):
    """Once it says what it captures, no frame is missed."""
    child = spawn_ctl(current, product, 'capture', 'vm:net0', '-w', file, *args)
    wait_until(lambda: child.poll() is not None or (file.exists() and file.stat().st_size > 0), 'the capture has begun')
    return child


def end_capture(child, number=None):
    if number:
        child.send_signal(number)
    _, said = child.communicate(timeout=20 * env.TIME_FACTOR)
    return child.returncode, said


def tcpdump(file, *args):
    """The frames of a file, as tcpdump reads them: their bytes."""
    done = subprocess.run([env.need_tool('tcpdump'), '-r', file, '-t', '-xx', '-n', *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    frames = []
    for line in done.stdout.splitlines():
        if re.match(r'\t0x', line):
            frames[-1] += bytes.fromhex(''.join(line.split(':', 1)[1].split()))
        else:
            frames.append(b'')
    return frames


def blocks(file):
    """(type, body) of each block of a pcapng file."""
    data, at = file.read_bytes(), 0
    while at < len(data):
        kind, size = struct.unpack_from('II', data, at)
        assert size % 4 == 0 and struct.unpack_from('I', data, at + size - 4)[0] == size, f'block at {at}'
        yield kind, data[at + 8:at + size - 4]
        at += size


def directions(file):
    """Of each frame: 1 = into the host, 2 = out of it."""
    for kind, body in blocks(file):
        if kind == 6:
            n = struct.unpack_from('I', body, 12)[0]
            option, size, flags = struct.unpack_from('HHI', body, 20 + (n + 3) // 4 * 4)
            assert (option, size) == (2, 4)
            yield flags


def frame(number, kind=b'\x88\xb5', n=60):
    return b'\xff' * 6 + b'\x02\0\0\0\0' + bytes([number]) + kind + bytes(i & 255 for i in range(n - 14))


def send_to_guest(netns, data):
    def send():
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as line:
            line.bind(('tap0', 0))
            line.send(data)
        return True
    netns.inside(send)


@case('capture-both-ways', 60)
def capture_both_ways(current):
    """tcpdump reads each frame as it is, a VLAN's tag included, and the file says which way it went."""
    netns, product, front_end = run_vm(current)
    file = current.dir / 'a.pcapng'
    netns.ip('link', 'set', 'tap0', 'arp', 'off')
    child = start_capture(current, product, file, '--count=5', '--filter=ether[6:2] == 0x0200 and ether[8:2] == 0')
    tagged = frame(4)[:12] + b'\x81\0\0\x07' + frame(4)[12:]
    sent = [frame(1), frame(2, n=1514), frame(3), tagged, frame(5)]
    for number, data in enumerate(sent):
        if number % 2:
            send_to_guest(netns, data)
        else:
            front_end.send(data)
        wait_until(lambda number=number: file.stat().st_size and len(tcpdump(file)) > number, 'it is in the file, too')
    status, said = end_capture(child)
    assert (status, said) == (0, '5 frames captured, 0 lost\n'), (status, said)
    assert tcpdump(file) == sent
    assert list(directions(file)) == [1, 2, 1, 2, 1]
    assert [kind for kind, _ in blocks(file)] == [0x0a0d0d0a, 1, 6, 6, 6, 6, 6, 5]
    assert oct(file.stat().st_mode & 0o777) == '0o600', 'what a guest says is nobody else\'s business'


@case('capture-filter', 60)
def capture_filter(current):
    """Only what matches, cut to what was asked for, until it is told to end; and into a pipe."""
    netns, product, front_end = run_vm(current)
    file = current.dir / 'a.pcapng'
    child = start_capture(current, product, file, '--filter=ether src 02:00:00:00:00:02', '--snaplen=20')
    pipe = spawn_ctl(current, product, 'capture', 'vm:net0', '--count=2', '--filter=ether proto 0x88b5', stdout=subprocess.PIPE)
    reader = subprocess.Popen([env.need_tool('tcpdump'), '-r', '-', '-n', '-e', '-t'], stdin=pipe.stdout, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True)
    current.defer(reader.kill)
    wait_until(lambda: netns.run('cat', '/proc/net/packet').stdout.count('\n') >= 5, 'four sockets listen')
    for number in (1, 2, 3):
        front_end.send(frame(number))
    wait_until(lambda: len(tcpdump(file)) == 1, 'the frame is there')
    assert end_capture(child, signal.SIGINT) == (0, '1 frames captured, 0 lost\n')
    assert tcpdump(file) == [frame(2)[:20]]
    lines = [line for line in reader.communicate(timeout=20 * env.TIME_FACTOR)[0].splitlines() if not line.startswith('\t')]
    assert [line.split(' ')[0] for line in lines] == ['02:00:00:00:00:01', '02:00:00:00:00:02'], lines
    assert netns.run('cat', '/proc/net/packet').stdout.count('\n') == 1, 'nothing is left behind'
    assert 'promiscuous' not in netns.ip('-d', 'link', 'show', 'tap0').stdout.replace('promiscuity 0', '')


@case('capture-mistakes', 60)
def capture_mistakes(current):
    """One line each, which names what is wrong; no file is made."""
    netns = Netns(current)
    netns.add_tap('tap0')
    product = Bulkhead(current, [Device(socket=current.dir / 'net.sock'),
                                 Device(name='net1', socket=current.dir / 'net1.sock', backend='echo')], netns=netns)
    wait_until(lambda: product.ctl('status', check=False).count(' pid ') == 5, 'all are there')
    file = current.dir / 'a.pcapng'
    for args, wanted, words in (
            (['vm:net0', '--filter=tcp prot 80'], 1, "--filter 'tcp prot 80': "),
            (['vm:net2'], 1, "device net2 of guest vm: there is no such device; 'bulkheadctl status' shows which there are"),
            (['vm:net1'], 1, "device net1 of guest vm: it has no network interface of the host (key 'tap')"),
            (['vm'], 2, "capture needs GUEST:DEVICE, as 'bulkheadctl status' shows them"),
            (['v/m:net0'], 1, "v/m: names have 1 to "),
            (['vm:net0', '--snaplen=3'], 2, '--snaplen=3: expected a number from 14 to 262144'),
            (['vm:net0', '--count=-1'], 2, '--count=-1: expected a number from 1 to ')):
        child = spawn_ctl(current, product, 'capture', *args, '-w', file)
        status, said = end_capture(child)
        assert status == wanted and said.startswith(words) and said.count('\n') == 1, (args, status, said)
        assert not file.exists(), args
    netns.ip('link', 'del', 'tap0')
    status, said = end_capture(spawn_ctl(current, product, 'capture', 'vm:net0', '-w', file))
    assert status == 1 and said == ('device net0 of guest vm: tap0: there is no such interface in the network namespace of '
                                    'the worker\n'), said


@case('capture-after-a-change', 60)
def capture_after_a_change(current):
    """A device that was put on another TAP is captured there, and metrics name that one: its worker alone was restarted."""
    netns, product, front_end = run_vm(current)
    netns.add_tap('tap1')
    config = current.dir / 'vm.conf'
    config.write_text(config.read_text().replace('tap0', 'tap1'))
    page = parse(product.ctl('metrics'))
    assert page['bulkhead_device_info'].only(guest='vm')['interface'] == 'tap0', 'it is not in force yet'
    said = product.ctl('apply')
    assert said.startswith('vm:net0: restart; its rings pause\n') and 'vm:memory' not in said, said
    page = parse(product.ctl('metrics'))
    assert page['bulkhead_device_info'].only(guest='vm')['interface'] == 'tap1'
    netns.ip('link', 'del', 'tap0')
    file = current.dir / 'a.pcapng'
    child = start_capture(current, product, file, '--count=1', '--filter=ether proto 0x88b5')
    front_end.send(FRAME)
    status, said = end_capture(child)
    assert (status, said) == (0, '1 frames captured, 0 lost\n'), said
    assert tcpdump(file) == [FRAME]


# --- Messages ---

class Trace:
    """bulkheadctl trace, and what it has said so far."""

    def __init__(self, current, product, target):
        self.out = current.dir / 'trace.out'
        self.log = open(self.out, 'wb')
        self.child = spawn_ctl(current, product, 'trace', target, stdout=self.log)
        current.defer(self.log.close)
        assert self.child.stderr.readline() == 'tracing; Ctrl-C ends\n'

    def lines(self):
        """Without the time."""
        lines = self.out.read_text(encoding='utf-8').splitlines()
        assert all(re.match(r'\d\d:\d\d:\d\d\.\d{6} |\.\.\. ', line) for line in lines), lines
        return [line.split(' ', 1)[1] for line in lines]

    def wait(self, text):
        wait_until(lambda: any(text in line for line in self.lines()), f'the trace says: {text}')


@case('trace-messages', 60)
def trace_messages(current):
    """Each message and reply by its name in the specification, with what it says; and who is refused, and why."""
    devices = [Device(name=name, socket=current.dir / f'{name}.sock', backend='echo') for name in ('net0', 'net1')]
    product = Bulkhead(current, devices)
    product.process.wait_output('vm is served')
    trace = Trace(current, product, 'vm:net0')
    FrontEnd(current, current.dir / 'net1.sock')
    front_end = FrontEnd(current, current.dir / 'net0.sock')
    front_end._say(77)
    front_end._say(SET_VRING_NUM, struct.pack('II', 0, 3))
    front_end.link_is_up()
    front_end.close()
    trace.wait('net0 - the VMM has disconnected')
    lines = trace.lines()
    features = re.search(r'< GET_FEATURES: 0x([0-9a-f]+)$', '\n'.join(lines), re.M)
    assert features and int(features[1], 16) >> 32 & 1, 'VERSION_1 is offered'
    wanted = ['net0 - a VMM has connected', 'net0 > SET_OWNER', 'net0 > GET_FEATURES', f'net0 < GET_FEATURES: 0x{features[1]}',
              'net0 > SET_PROTOCOL_FEATURES: 0x209', 'net0 > SET_FEATURES: 0x140010000',
              'net0 > SET_MEM_TABLE: 1 regions; guest 0x0, size 0x200000, user 0x7f0000000000, offset 0x0 [1 descriptor] '
              '[wants an acknowledgement]', 'net0 < SET_MEM_TABLE: done', 'net0 > SET_VRING_NUM: ring 0: 64',
              'net0 > SET_VRING_ADDR: ring 1: descriptors 0x7f0000004000, available 0x7f0000005000, used 0x7f0000006000',
              'net0 > SET_VRING_KICK: ring 1 [1 descriptor]',
              'net0 > SET_VRING_ENABLE: ring 1: 1 [wants an acknowledgement]', 'net0 < SET_VRING_ENABLE: done',
              'net0 > 77', 'net0 ! 77: there is no such message', 'net0 > SET_VRING_NUM: ring 0: 3',
              'net0 > GET_CONFIG: offset 0, 8 bytes: 00 00 00 00 00 00 00 00', 'net0 - the VMM has disconnected']
    at = -1
    for line in wanted:
        assert line in lines[at + 1:], f'{line!r} is not behind line {at} of {lines}'
        at = lines.index(line, at + 1)
    assert any(line.startswith('net0 ! SET_VRING_NUM: ') for line in lines), lines
    assert not any(line.startswith('net1') for line in lines), 'only the device that was asked for'
    status, said = end_capture(trace.child, signal.SIGINT)
    assert status == -signal.SIGINT and said == ''
    status, said = end_capture(spawn_ctl(current, product, 'trace', 'vm:net7'))
    assert status == 1 and said.endswith("guest vm has no device net7; 'bulkheadctl status vm' shows which it has\n"), said


@case('trace-slow-reader', 90)
def trace_slow_reader(current):
    """One who does not read holds nobody up, misses something, and is told how much."""
    product = Bulkhead(current, [Device(socket=current.dir / 'net.sock', backend='echo')])
    product.process.wait_output('vm is served')
    trace = Trace(current, product, 'vm')
    front_end = FrontEnd(current, current.dir / 'net.sock')
    wait_until(lambda: '\n'.join(trace.lines()).count('SET_VRING_ENABLE: done') == 2, 'the device is set up')
    before, asked = len(trace.lines()), 1500
    trace.child.send_signal(signal.SIGSTOP)
    for _ in range(asked):
        front_end._ask(GET_FEATURES)
    trace.child.send_signal(signal.SIGCONT)
    # what comes last may be among what is lost
    while not any('< GET_PROTOCOL_FEATURES' in line for line in trace.lines()[before:]):
        front_end._ask(GET_PROTOCOL_FEATURES)
        asked += 1
        time.sleep(0.05)

    def told():
        """Entries, and those that were lost."""
        lines = trace.lines()[before:]
        lost = [int(line.split(' ')[0]) for line in lines if re.fullmatch(r'\d+ entries were lost', line)]
        return sum(lost) > 0 and sum(lost) + len(lines) - len(lost)
    # each asks, and is answered
    wait_until(lambda: told() == 2 * asked, f'of {2 * asked} entries each is shown, or counted')


@case('trace-kills', 90)
def trace_kills(current):
    """Whoever dies, the trace goes on."""
    product = Bulkhead(current, [Device(socket=current.dir / 'net.sock', backend='echo')])
    product.process.wait_output('vm is served')
    trace = Trace(current, product, 'vm')
    front_end = FrontEnd(current, current.dir / 'net.sock')
    for role in ('frontend', 'memory', 'net'):
        product.kill(role)
        before = len(trace.lines())

        def again():
            front_end._ask(GET_FEATURES)
            return 'net0 < GET_FEATURES' in ' '.join(trace.lines()[before:])
        wait_until(again, f'the trace goes on without the former {role}', interval=0.1)


# --- Rates ---

@case('top-lines', 60)
def top_lines(current):
    """Into a pipe goes a line for each device and interval, with true rates; a terminal is redrawn."""
    _, product, front_end = run_vm(current)
    child = spawn_ctl(current, product, 'top', '--count=2', '--interval=2', stdout=subprocess.PIPE)
    head, first = child.stdout.readline().split(), child.stdout.readline().split()
    for _ in range(40):
        front_end.send(frame(1, n=100))
    second = child.stdout.readline().split()
    assert child.wait(20 * env.TIME_FACTOR) == 0 and child.stdout.read() == ''
    for line in (first, second):
        assert len(line) == len(head) and line[1:3] == ['vm:net0', 'running'], (head, line)
        assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ', line[0]), line
    assert head[0] == 'TIME'
    # two seconds or more, of which none has more than what was sent in it
    assert [first[head.index('TX/S')], first[head.index('TX-MBIT/S')]] == ['0', '0.00'], first
    assert 0 < float(second[head.index('TX/S')]) <= 20 and second[head.index('DROPS/S')] == '0', second
    done = subprocess.run([env.need_tool('script', 'bsdutils'), '-q', '-e', '-c', f'{env.product("bulkheadctl")} --runtime-dir={product.runtime} top '
                           '--interval=1 --count=1', '/dev/null'], capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL, timeout=20 * env.TIME_FACTOR)
    assert '\x1b[H' in done.stdout and 'TIME' not in done.stdout and 'vm:net0' in done.stdout, repr(done.stdout)


if __name__ == '__main__':
    main()
