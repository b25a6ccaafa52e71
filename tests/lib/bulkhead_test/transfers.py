"""bulkheadctl's place at a guest's memory manager, for what bulkheadctl itself would never do with it.

    place = Operator(case, product.runtime / 'vm')
    number, refused = place.start('net0', load=True, stream=fd)
    error = place.wait_end(number)     # '' = completed, None = it is there no more
"""

import os
import socket
import struct
import time
import zlib

from . import env
from .protobuf import field, fields
from .puppet import SP_REQUEST, START_TRANSFER, WATCH_TRANSFERS

ENDED = 2
PATIENCE_S = 40
MAGIC = b'BHSTATE\n'
HEADER_BYTES = 28
STATE_MAX = 512 * 1024


class Operator:
    """A link and a connection of the bus, of which each may end."""

    def __init__(self, case, folder):
        self.folder = folder
        self.link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.bus = socket.socket(socket.AF_UNIX)
        for line in (self.link, self.bus):
            line.settimeout(PATIENCE_S * env.TIME_FACTOR)
        self.n_asked = 0
        case.defer(self.close)
        self.link.connect(str(folder / 'link/ctl+link.sock'))
        self.bus.connect(str(folder / 'link/ctl.sock'))
        self.bus.sendall(SP_REQUEST)
        self._read(len(SP_REQUEST))

    def close(self):
        self.link.close()
        self.bus.close()

    def _read(self, n_bytes):
        data = b''
        while len(data) < n_bytes:
            part = self.bus.recv(n_bytes - len(data))
            if not part:
                raise ConnectionError('the connection of the bus was ended')
            data += part
        return data

    def start(self, device, load, stream):
        """(id, why it was refused); the stream is closed here, whoever reads the pipe waits for that."""
        body = field(1, device) + field(2, int(load))
        socket.send_fds(self.link, [field(START_TRANSFER, body)], [stream])
        os.close(stream)
        number, answer = fields(self.link.recv(1 << 16))[0]
        assert number == START_TRANSFER + 1, f'link answer {number}'
        found = dict(fields(answer))
        return found.get(1, 0), found.get(2, b'').decode()

    def begin(self, device, load, stream):
        """The id of one that is not refused."""
        number, refused = self.start(device, load, stream)
        assert number and not refused, refused
        return number

    def watch(self, seq=0):
        """(seq, {id: {number of the field: value}}) when memory's seq is another one."""
        self.n_asked += 1
        head = struct.pack('>I', 0x80000000 | self.n_asked)
        data = head + field(1, 77) + field(2, self.n_asked) + field(WATCH_TRANSFERS, field(1, seq) + field(2, 1))
        self.bus.sendall(struct.pack('>BQ', 1, len(data)) + data)
        while True:
            answer = self._read(struct.unpack('>Q', self._read(9)[1:])[0])
            if answer[:4] == head:
                break
        body = dict(fields(answer[4:]))[WATCH_TRANSFERS + 1]
        found = fields(body)
        transfers = [dict(fields(value)) for number, value in found if number == 2]
        return dict(found)[1], {transfer[1]: transfer for transfer in transfers}

    def wait_end(self, number):
        """Its error: '' = completed; None: it is there no more."""
        end = time.monotonic() + PATIENCE_S * env.TIME_FACTOR
        seq = 0
        while True:
            seq, transfers = self.watch(seq)
            if number not in transfers:
                return None
            if transfers[number].get(6, 0) == ENDED:
                return transfers[number].get(8, b'').decode()
            assert time.monotonic() < end, f'transfer {number:x} does not end: {transfers[number]}'

    def save(self, device):
        """What comes out of a stream, and the error."""
        stream, theirs = pipe(load=False)
        with stream:
            number = self.begin(device, False, theirs)
            data = stream.read()
        return data, self.wait_end(number)

    def load(self, device, data):
        """The error of a load of these bytes."""
        stream, theirs = pipe(load=True)
        with stream:
            number = self.begin(device, True, theirs)
            feed(stream, data)
        return self.wait_end(number)


def pipe(load):
    """Our end of a pipe, as a file without a buffer, and the other end, for start()."""
    reads, writes = os.pipe()
    return (open(writes, 'wb', buffering=0), reads) if load else (open(reads, 'rb', buffering=0), writes)


def feed(stream, data):
    """Write all, or as much as somebody reads."""
    try:
        while data:
            data = data[stream.write(data):]
    except BrokenPipeError:
        pass


def holds(pid, stream):
    """Whether a process has this pipe open."""
    wanted = os.fstat(stream.fileno()).st_ino
    try:
        return any(os.stat(f'/proc/{pid}/fd/{fd}').st_ino == wanted for fd in os.listdir(f'/proc/{pid}/fd'))
    except FileNotFoundError:
        return False


def image(state):
    """A packed State behind a header."""
    head = MAGIC + struct.pack('<IIQ', 1, 0, len(state))
    return head + struct.pack('<I', zlib.crc32(head + state)) + state
