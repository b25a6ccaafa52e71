"""The smallest front-end and driver: memory of 2 MiB, split rings of 64, one buffer of a page for each descriptor."""

import mmap
import os
import socket
import struct
import time

from . import env
from .vmm import connect

GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE, SET_VRING_NUM, SET_VRING_ADDR = 1, 2, 3, 5, 8, 9
SET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL, SET_PROTOCOL_FEATURES, SET_VRING_ENABLE = 10, 12, 13, 16, 18
GET_PROTOCOL_FEATURES, GET_CONFIG = 15, 24
NEED_REPLY = 8
MEMORY, SIZE, USER = 2 << 20, 64, 0x7f0000000000
PAGE = 4096
HEADER = 12
LINK_UP = 1


class FrontEnd:
    """Connected and started when constructed. Ring 2i receives, ring 2i+1 sends."""

    def __init__(self, case, path, pairs=1):
        self.line = connect(path)
        case.defer(self.line.close)
        self.memory_fd = os.memfd_create('guest')
        os.ftruncate(self.memory_fd, MEMORY)
        self.memory = mmap.mmap(self.memory_fd, MEMORY)
        n = 2 * pairs
        self.avail, self.used = [0] * n, [0] * n
        self.kicks = [os.eventfd(0) for _ in range(n)]
        self.calls = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(n)]
        self._say(SET_OWNER)
        self._ask(GET_FEATURES)
        self._ask(GET_PROTOCOL_FEATURES)
        self._say(SET_PROTOCOL_FEATURES, struct.pack('Q', 1 << 0 | 1 << 3 | 1 << 9))
        self._say(SET_FEATURES, struct.pack('Q', 1 << 32 | 1 << 30 | 1 << 16))
        self._acked(SET_MEM_TABLE, struct.pack('IIQQQQ', 1, 0, 0, MEMORY, USER, 0), [self.memory_fd])
        for ring in range(n):
            self._start(ring)
        for _ in range(SIZE // 2):
            for pair in range(pairs):
                self._put(2 * pair, None)

    def close(self):
        """As a VMM that ends."""
        self.line.close()

    def _say(self, request, payload=b'', fds=(), flags=1):
        socket.send_fds(self.line, [struct.pack('III', request, flags, len(payload)) + payload], list(fds))

    def _ask(self, request, payload=b'', fds=(), flags=1):
        self._say(request, payload, fds, flags)
        _, _, size = struct.unpack('III', self.line.recv(12, socket.MSG_WAITALL))
        return self.line.recv(size, socket.MSG_WAITALL)

    def _acked(self, request, payload=b'', fds=()):
        answer, = struct.unpack('Q', self._ask(request, payload, fds, 1 | NEED_REPLY))
        assert answer == 0, f'request {request} is refused'

    def _start(self, ring):
        at = USER + ring * 4 * PAGE
        self._say(SET_VRING_NUM, struct.pack('II', ring, SIZE))
        self._say(SET_VRING_BASE, struct.pack('II', ring, 0))
        self._say(SET_VRING_ADDR, struct.pack('IIQQQQ', ring, 0, at, at + 2 * PAGE, at + PAGE, 0))
        self._say(SET_VRING_CALL, struct.pack('Q', ring), [self.calls[ring]])
        self._say(SET_VRING_KICK, struct.pack('Q', ring), [self.kicks[ring]])
        self._acked(SET_VRING_ENABLE, struct.pack('II', ring, 1))

    def _put(self, ring, data):
        """A chain of one descriptor: these bytes, or a page to be written."""
        i = self.avail[ring] % SIZE
        at, buffer = ring * 4 * PAGE, (1 << 19) + (ring * SIZE + i) * PAGE
        if data is not None:
            self.memory[buffer:buffer + len(data)] = data
        struct.pack_into('QIHH', self.memory, at + 16 * i, buffer, PAGE if data is None else len(data),
                         2 if data is None else 0, 0)
        struct.pack_into('H', self.memory, at + PAGE + 4 + 2 * i, i)
        self.avail[ring] += 1
        struct.pack_into('H', self.memory, at + PAGE + 2, self.avail[ring] & 0xffff)
        os.eventfd_write(self.kicks[ring], 1)

    def _got(self, ring, limit):
        """The next buffer that came back; None if none does."""
        at, end = ring * 4 * PAGE + 2 * PAGE, time.monotonic() + limit * env.TIME_FACTOR
        while struct.unpack_from('H', self.memory, at + 2)[0] == self.used[ring] & 0xffff:
            if time.monotonic() > end:
                return None
            time.sleep(0.002)
        head, n = struct.unpack_from('II', self.memory, at + 4 + 8 * (self.used[ring] % SIZE))
        self.used[ring] += 1
        buffer = (1 << 19) + (ring * SIZE + head) * PAGE
        return bytes(self.memory[buffer:buffer + (n or PAGE)])

    def send(self, frame, pair=0):
        """It was taken; whether it went anywhere is the interface's to tell."""
        self._put(2 * pair + 1, bytes(HEADER) + frame)
        assert self._got(2 * pair + 1, 20) is not None, 'a frame is not taken'

    def receive(self, limit=20, pair=0):
        """The next frame, or None."""
        data = self._got(2 * pair, limit)
        if data is None:
            return None
        self._put(2 * pair, None)
        return data[HEADER:]

    def link_is_up(self):
        """As it stands in configuration space."""
        answer = self._ask(GET_CONFIG, struct.pack('III8x', 0, 8, 0))
        return bool(answer[12 + 6] & LINK_UP)
