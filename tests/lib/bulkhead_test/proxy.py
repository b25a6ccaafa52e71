"""Stands between a VMM and a back-end, and changes what the VMM says."""

import array
import os
import socket
import struct
import threading

HEADER_BYTES = 12


class Proxy:
    """Passes each message on, with its descriptors; alter(request, payload) returns what is sent in its place."""

    def __init__(self, case, path, target, alter):
        self.target, self.alter = target, alter
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
            for source, sink, alter in ((vmm, back_end, self.alter), (back_end, vmm, lambda request, payload: payload)):
                threading.Thread(target=self._pass_on, args=(source, sink, alter), daemon=True).start()

    def _pass_on(self, source, sink, alter):
        try:
            while self._message(source, sink, alter):
                pass
        except OSError:
            pass
        for line in (source, sink):
            try:
                line.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    @staticmethod
    def _message(source, sink, alter):
        fds = array.array('i')
        data = b''
        while len(data) < HEADER_BYTES or len(data) < HEADER_BYTES + struct.unpack_from('I', data, 8)[0]:
            want = HEADER_BYTES if len(data) < HEADER_BYTES else HEADER_BYTES + struct.unpack_from('I', data, 8)[0]
            part, came, _, _ = socket.recv_fds(source, want - len(data), 32)
            fds.extend(came)
            if not part:
                return False
            data += part
        payload = alter(struct.unpack_from('I', data)[0], data[HEADER_BYTES:])
        socket.send_fds(sink, [data[:HEADER_BYTES] + payload], fds)
        for fd in fds:
            os.close(fd)
        return True


SET_VRING_ADDR = 9


def without_log_flag(ring):
    """For Proxy: the VMM does not ask for the writes to this ring's used ring to be marked."""
    def alter(request, payload):
        if request != SET_VRING_ADDR or struct.unpack_from('I', payload)[0] != ring:
            return payload
        return payload[:4] + struct.pack('I', struct.unpack_from('I', payload, 4)[0] & ~1) + payload[8:]
    return alter
