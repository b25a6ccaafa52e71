"""A VMM's connection, for tests that look at something else: a session with memory and two rings, and questions."""

import os
import socket
import struct

from . import env
from .report import wait_until

GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE = 1, 2, 3, 5
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE = 8, 9, 10, 11
SET_VRING_KICK, SET_VRING_CALL = 12, 13
SET_PROTOCOL_FEATURES, SET_VRING_ENABLE, GET_CONFIG = 16, 18, 24

VERSION_1, PROTOCOL_FEATURES = 1 << 32, 1 << 30
MQ, REPLY_ACK, CONFIG = 1 << 0, 1 << 3, 1 << 9
NEED_REPLY = 8
MEMORY_BYTES = 1 << 20
UVA = 0x7f0000000000
RING_BYTES = 0x10000


def connect(path):
    """The file is there a moment before somebody listens."""
    def connected():
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(20 * env.TIME_FACTOR)
        if line.connect_ex(str(path)) == 0:
            return line
        line.close()
        return None
    return wait_until(connected, f'somebody listens at {path}')


class Vmm:
    def __init__(self, case, path):
        self.line = connect(path)
        case.defer(self.line.close)
        self.fds = []
        case.defer(self._close_fds)
        self.features = self.get_features()

    def _close_fds(self):
        while self.fds:
            os.close(self.fds.pop())

    def _read(self, n_bytes):
        data = b''
        while len(data) < n_bytes:
            part = self.line.recv(n_bytes - len(data))
            assert part, 'the connection was ended'
            data += part
        return data

    def say(self, request, payload=b'', fds=(), flags=1):
        socket.send_fds(self.line, [struct.pack('III', request, flags, len(payload)) + payload], list(fds))

    def ask(self, request, payload=b''):
        """The payload of the answer."""
        self.say(request, payload)
        return self._answer(request)

    def _answer(self, request):
        got, flags, n_bytes = struct.unpack('III', self._read(12))
        assert (got, flags) == (request, 5), f'answer to {got} with flags {flags:#x}, asked was {request}'
        return self._read(n_bytes)

    def acked(self, request, payload=b'', fds=()):
        """Whether it was accepted; needs REPLY_ACK."""
        self.say(request, payload, fds, 1 | NEED_REPLY)
        return self._answer(request) == bytes(8)

    def get_features(self):
        return struct.unpack('Q', self.ask(GET_FEATURES))[0]

    def event(self):
        self.fds.append(os.eventfd(0))
        return self.fds[-1]

    def start(self):
        """Memory, and two rings that run."""
        self.say(SET_OWNER)
        self.say(SET_PROTOCOL_FEATURES, struct.pack('Q', MQ | REPLY_ACK | CONFIG))
        assert self.acked(SET_FEATURES, struct.pack('Q', VERSION_1 | PROTOCOL_FEATURES))
        self.fds.append(os.memfd_create('guest'))
        os.ftruncate(self.fds[-1], MEMORY_BYTES)
        table = struct.pack('II4Q', 1, 0, 0, MEMORY_BYTES, UVA, 0)
        assert self.acked(SET_MEM_TABLE, table, [self.fds[-1]])
        for ring in range(2):
            at = UVA + ring * RING_BYTES
            assert self.acked(SET_VRING_NUM, struct.pack('II', ring, 256))
            assert self.acked(SET_VRING_BASE, struct.pack('II', ring, 0))
            assert self.acked(SET_VRING_ADDR, struct.pack('II4Q', ring, 0, at, at + 0x3000, at + 0x2000, 0))
            assert self.acked(SET_VRING_CALL, struct.pack('Q', ring), [self.event()])
            assert self.acked(SET_VRING_KICK, struct.pack('Q', ring), [self.event()])
            assert self.acked(SET_VRING_ENABLE, struct.pack('II', ring, 1))

    def stop(self):
        """Where each ring stands."""
        return [struct.unpack('II', self.ask(GET_VRING_BASE, struct.pack('II', ring, 0)))[1] for ring in range(2)]
