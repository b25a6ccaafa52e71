"""Stands between a VMM and a back-end, and changes what passes."""

import mmap
import os
import socket
import struct
import threading

HEADER_BYTES = 12
PAGE_BYTES = 4096
DESC_BYTES = 16
SET_MEM_TABLE, SET_LOG_BASE, SET_VRING_NUM, SET_VRING_ADDR, ADD_MEM_REG = 5, 6, 8, 9, 37


class Proxy:
    """Passes each message on, with its descriptors. change has two methods: to_back_end(request, payload, fds) returns
    the descriptors that are sent in the place of fds; to_vmm() is called before each reply."""

    def __init__(self, case, path, target, change):
        self.target, self.change = target, change
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(4)
        case.defer(self.listener.close)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                vmm = self.listener.accept()[0]
            except OSError:
                return
            back_end = socket.socket(socket.AF_UNIX)
            back_end.connect(self.target)
            for source, sink, change in ((vmm, back_end, self.change.to_back_end), (back_end, vmm, self._to_vmm)):
                threading.Thread(target=self._pass_on, args=(source, sink, change), daemon=True).start()

    def _to_vmm(self, request, payload, fds):
        del request, payload
        self.change.to_vmm()
        return fds

    @staticmethod
    def _pass_on(source, sink, change):
        try:
            while _message(source, sink, change):
                pass
        except OSError:
            pass
        for line in (source, sink):
            try:
                line.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def _message(source, sink, change):
    """False at the end of the stream."""
    data, fds, want = b'', [], HEADER_BYTES
    while len(data) < want:
        part, came, _, _ = socket.recv_fds(source, want - len(data), 32)
        fds += came
        if not part:
            return False
        data += part
        if len(data) == HEADER_BYTES:
            want += struct.unpack_from('I', data, 8)[0]
    socket.send_fds(sink, [data], change(struct.unpack_from('I', data)[0], data[HEADER_BYTES:], fds))
    for fd in fds:
        os.close(fd)
    return True


class Unmarked:
    """For Proxy: the back-end is given a dirty log of ours, and the VMM hears of all its marks but those of one packed
    ring. A mark is never taken back in ours, so that some pages go over more than once."""

    def __init__(self, ring):
        self.ring = ring
        self.regions, self.sizes, self.pages = [], {}, set()
        self.theirs = self.ours = None
        self.lock = threading.Lock()

    def to_back_end(self, request, payload, fds):
        if request == SET_MEM_TABLE:
            self.regions = [struct.unpack_from('4Q', payload, 8 + 32 * i) for i in range(struct.unpack_from('I', payload)[0])]
        elif request == ADD_MEM_REG:
            self.regions.append(struct.unpack_from('4Q', payload, 8))
        elif request == SET_VRING_NUM:
            self.sizes.update([struct.unpack('II', payload)])
        elif request == SET_VRING_ADDR and struct.unpack_from('I', payload)[0] == self.ring:
            self._note_ring(struct.unpack_from('Q', payload, 8)[0])
        elif request == SET_LOG_BASE:
            return [self._log(*struct.unpack('QQ', payload), fds[0])]
        return fds

    def _note_ring(self, uva):
        start = next(gpa + uva - base for gpa, size, base, _ in self.regions if base <= uva < base + size)
        last = start + DESC_BYTES * self.sizes[self.ring] - 1
        self.pages = set(range(start // PAGE_BYTES, last // PAGE_BYTES + 1))

    def _log(self, n_bytes, offset, theirs):
        ours = os.memfd_create('log')
        os.ftruncate(ours, offset + n_bytes)
        with self.lock:
            self.theirs, self.ours = (mmap.mmap(fd, n_bytes, offset=offset) for fd in (theirs, ours))
        self.log_fd = ours
        return ours

    def to_vmm(self):
        """What is marked so far becomes known: before the VMM hears anything, hence before the last time that it looks."""
        with self.lock:
            if not self.ours:
                return
            marks = bytearray(self.ours[:])
            for page in self.pages:
                marks[page // 8] &= ~(1 << page % 8)
            for at in (at for at, mark in enumerate(marks) if mark):
                self.theirs[at] |= marks[at]
