"""A process of the suite that was taken over: it says what the test wants, from the place of a real one.

The test installs a folder of programs in which the program of one role is a stand-in. As long as the test plays one
of its instances, the stand-in is that process, with its user and its sockets, and carries out what it is told; else
it gives way to the real program. So the others are lied to by whom they must hear.

    programs = install(case, 'net')
    with Puppet(case, programs, 'net', 'vm:net0') as puppet:
        puppet.ask_link(ATTACH, field(1, 'net0') + field(2, 8192))
        puppet.ask_bus(REPORT_OBSERVED, ...)

This file is the stand-in, too: run as a program it is the puppet, and needs nothing but the standard library.
"""

import fcntl
import json
import os
import select
import shutil
import signal
import socket
import struct
import sys
import termios
import threading
import time
from pathlib import Path

from . import env
from .protobuf import field, fields

# The side link (Link in proto/bus.proto) and the bus (Envelope), by the numbers of their fields.
DEPOSIT, REDEEM, ATTACH, KEEP, UNKEEP, GREET = 2, 4, 6, 8, 10, 12
START_TRANSFER, TAKE_STREAM = 14, 16
FAILURE, COMMIT_DESIRED, WATCH_DESIRED, REPORT_OBSERVED, WATCH_OBSERVED = 3, 4, 6, 8, 10
GET_STATUS, RELEASE_DEVICE, WATCH_TRANSFERS, REPORT_TRANSFER = 12, 14, 16, 18

PYTHON = '/usr/bin/python3'
PROGRAMS = ('bulkhead', 'bulkhead-memory', 'bulkhead-frontend', 'bulkhead-snapshot', 'bulkhead-net')
PACKET_MAX = 2 << 20
SO_SNDBUFFORCE = 32  # which Python does not name
SP_REQUEST = b'\0SP\0\0\x30\0\0'
WATCHDOG_S = 0.5
PATIENCE_S = 10
FILE_BYTES = 1 << 20


class Refused(Exception):
    """The answer was a Failure."""

    def __init__(self, error):
        super().__init__(os.strerror(error))
        self.error = error


class Ended(Exception):
    """There was no answer: the connection was ended, or nothing came in time."""


# --- What the test holds ---

def install(case, role):
    """A folder of programs, in which that of one role may be a puppet."""
    programs = case.dir / 'programs'
    programs.mkdir()
    (programs / 'puppets').mkdir()
    (programs / 'real').mkdir()
    for name in PROGRAMS:
        # a copy, since the program beside the launcher is looked for where the launcher really is
        shutil.copy2(env.product(name), programs / name)
    # it may run as a user that cannot read our tree, nor run our interpreter
    package = programs / 'tree/tests/lib/bulkhead_test'
    package.mkdir(parents=True)
    (programs / 'tree/common/config').mkdir(parents=True)
    shutil.copy(env.SOURCE / 'common/config/roles.def', programs / 'tree/common/config')
    for name in ('__init__', 'env', 'protobuf', 'puppet'):
        shutil.copy(Path(__file__).parent / f'{name}.py', package)
    name = f'bulkhead-{role}'
    (programs / name).rename(programs / 'real' / name)
    (programs / name).write_text(
        f'#!{PYTHON if os.path.exists(PYTHON) else sys.executable}\nimport sys\n'
        f'sys.path.insert(0, {str(package.parent)!r})\n'
        'from bulkhead_test import puppet\npuppet.main(__file__)\n')
    (programs / name).chmod(0o755)
    return programs


class Puppet:
    """The strings of one. Enter it, then kill the real process: its successor is the puppet."""

    def __init__(self, case, programs, instance):
        self.path = programs / 'puppets' / instance
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.settimeout(PATIENCE_S)
        self.line = None
        case.defer(self.end)

    def __enter__(self):
        self.listener.bind(str(self.path))
        self.path.chmod(0o777)
        self.listener.listen()
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """The puppet ends, and the next process is a real one."""
        self.path.unlink(missing_ok=True)
        self.listener.close()
        if self.line:
            self.line.close()

    def wait(self):
        """Until it has been started, and listens on the bus."""
        self.line, _ = self.listener.accept()
        self.line.settimeout(4 * PATIENCE_S)
        self.line.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 2 * PACKET_MAX)
        self._tell('listen')

    def _tell(self, verb, **args):
        self.line.sendall(json.dumps({'verb': verb, **args}).encode())
        data, got, _, _ = socket.recv_fds(self.line, PACKET_MAX, 64)
        answer = json.loads(data)
        if 'ended' in answer:
            raise Ended(answer['ended'])
        return bytes.fromhex(answer.get('data', '')), got

    def link(self, data, n_fds=0, first=0):
        """These bytes on the side link, with descriptors of KINDS, from that one on; the answer's bytes and descriptors."""
        return self._tell('link', data=data.hex(), n_fds=n_fds, first=first)

    def ask_link(self, request, body=b'', n_fds=0, first=0):
        """A request on the side link. Returns the fields of the answer and its descriptors."""
        data, got = self.link(field(request, body), n_fds, first)
        number, answer = fields(data)[0]
        if number == 1:
            raise Refused(dict(fields(answer)).get(1, 0))
        return fields(answer), got

    def ask_and_leave(self, request, body, n):
        """That request n times over a link of its own, which stays open, and whose answers are not read."""
        self._tell('ask_and_leave', data=field(request, body).hex(), n=n)

    def bus(self, data):
        """These bytes as a question on the bus; the answer's bytes."""
        return self._tell('bus', data=data.hex())[0]

    def ask_bus(self, request, body, seq=1):
        """A question on the bus. Returns the fields of the answer."""
        data = self.bus(field(1, 77) + field(2, seq) + field(request, body))
        for number, answer in fields(data):
            if number == FAILURE:
                raise Refused(dict(fields(answer)).get(1, 0))
            if number > FAILURE:
                return fields(answer)
        raise Ended(f'an answer without a body: {data.hex()}')

    def raw(self, data):
        """These bytes on the bus, below its protocol; nothing is expected."""
        self._tell('raw', data=data.hex())

    def hang_up(self):
        """Ends its connection of the bus; with the next question there is another one, once it has greeted."""
        self._tell('hang_up')


# --- The puppet ---

class _Place:
    """Where the process that it stands in for has its sockets."""

    def __init__(self, argv):
        options = dict(arg[2:].split('=', 1) for arg in argv if arg.startswith('--') and '=' in arg)
        self.instance = options['instance']
        guest, _, device = self.instance.partition(':')
        name = device or os.path.basename(argv[0]).rpartition('-')[2]
        runtime = Path(options['runtime-dir']) / guest
        self.link, self.bus = runtime / 'link' / f'{name}.sock', runtime / name / 'bus.sock'

    def become(self):
        """The user whose folder it is: as a real process, which has been there before, it is no longer root."""
        owner = self.bus.parent.stat()
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
            os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)
        os.umask(0o007)


def _memory(n_bytes=FILE_BYTES, seals=0):
    fd = os.memfd_create('puppet', os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, n_bytes)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def _notifier():
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


# The first two are as good as a VMM's.
KINDS = (_memory, _notifier, lambda: _memory(0, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL),
         lambda: _memory(seals=fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK), lambda: _memory(1 << 40), lambda: os.pipe()[0])


def _n_unread(line):
    """Bytes of ours that the other end has not read; it is too late when it has hung up."""
    if select.select([line], [], [], 0)[0] and not line.recv(1, socket.MSG_PEEK):
        return 0
    return struct.unpack('i', fcntl.ioctl(line, termios.TIOCOUTQ, bytes(4)))[0]


class _Actor:
    def __init__(self, place):
        self.place = place
        self.link_socket = None
        self.bus_socket = None
        self.listener = None
        self.question = 0
        self.left = []

    def _connect_link(self):
        if not self.link_socket:
            self.link_socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.link_socket.settimeout(PATIENCE_S)
            self.link_socket.connect(str(self.place.link))

    def link(self, data, n_fds, first=0):
        self._connect_link()
        sent = [KINDS[first + i % 2]() for i in range(n_fds)]
        try:
            socket.send_fds(self.link_socket, [data], sent)
            answer, got, _, _ = socket.recv_fds(self.link_socket, PACKET_MAX, 64)
        finally:
            for fd in sent:
                os.close(fd)
        if not answer:
            self.link_socket = self.link_socket.close()
            raise ConnectionError('the link was ended')
        return answer, got

    def ask_and_leave(self, data, n):
        line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        line.settimeout(PATIENCE_S)
        self.left.append(line)
        try:
            line.connect(str(self.place.link))
            for _ in range(n):
                line.sendall(data)
            while _n_unread(line):
                time.sleep(0.01)
        except OSError:
            pass  # it was ended
        return b'', []

    def listen(self):
        """Memory dials who has greeted it."""
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.settimeout(PATIENCE_S)
        self.place.bus.unlink(missing_ok=True)
        self.listener.bind(str(self.place.bus))
        self.listener.listen()
        self.link(field(GREET, b''), 0)
        return b'', []

    def _connect_bus(self):
        if self.bus_socket:
            return
        self.bus_socket, _ = self.listener.accept()
        self.bus_socket.settimeout(PATIENCE_S)
        self.bus_socket.sendall(SP_REQUEST)
        self._read(len(SP_REQUEST))

    def _read(self, n_bytes):
        data = b''
        while len(data) < n_bytes:
            part = self.bus_socket.recv(n_bytes - len(data))
            if not part:
                raise ConnectionError('the connection of the bus was ended')
            data += part
        return data

    def _until_heard(self, say, data):
        """Memory may have dialled more than once, and have ended what is accepted first."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._connect_bus()
                return say(data), []
            except ConnectionError:
                self.hang_up()
                if time.monotonic() > end:
                    raise

    def bus(self, data):
        return self._until_heard(self._ask, data)

    def raw(self, data):
        return self._until_heard(self._say, data)

    def _say(self, data):
        self.bus_socket.sendall(data)
        return b''

    def _ask(self, data):
        self.question += 1
        head = struct.pack('>I', 0x80000000 | self.question)
        self.bus_socket.sendall(struct.pack('>BQ', 1, len(head) + len(data)) + head + data)
        while True:
            n_bytes, = struct.unpack('>Q', self._read(9)[1:])
            answer = self._read(n_bytes)
            if answer[:4] == head:
                return answer[4:]

    def hang_up(self):
        if self.bus_socket:
            self.bus_socket = self.bus_socket.close()
        return b'', []


def _say_to_manager(text):
    path = os.environ.get('NOTIFY_SOCKET')
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.sendto(text, '\0' + path[1:] if path[0] == '@' else path)


def _keep_alive():
    _say_to_manager(b'READY=1')
    while True:
        _say_to_manager(b'WATCHDOG=1')
        time.sleep(WATCHDOG_S)


def _obey(actor, line):
    while True:
        order = json.loads(line.recv(PACKET_MAX) or b'null')
        if not order:
            return
        verb, args = order.pop('verb'), order
        if 'data' in args:
            args['data'] = bytes.fromhex(args['data'])
        try:
            data, got = getattr(actor, verb)(**args)
            answer = {'data': data.hex()}
        except OSError as error:
            got, answer = [], {'ended': str(error)}
        socket.send_fds(line, [json.dumps(answer).encode()], got)
        for fd in got:
            os.close(fd)


def main(program):
    """The stand-in: a puppet where the test plays this instance, else the real program."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    folder, name = os.path.split(program)
    place = _Place([name] + sys.argv[1:])
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        line.connect(os.path.join(folder, 'puppets', place.instance))
    except OSError:
        os.execv(os.path.join(folder, 'real', name), [program] + sys.argv[1:])
    place.become()
    threading.Thread(target=_keep_alive, daemon=True).start()
    _obey(_Actor(place), line)
