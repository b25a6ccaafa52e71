"""Stock QEMU whose guest is the test: no code runs in it, and registers and memory are what the test writes.

The processor is halted by a BIOS of one instruction. Registers are reached by QEMU's qtest protocol, memory through the
memfd that QEMU shares with the back-end.
"""

import mmap
import os
import socket
import struct

from . import env
from .process import Process, fds
from .qemu import binary
from .report import wait_until

MEMORY_MB = 64
BAR = 0xe0000000
COMMON, NOTIFY = 1, 2  # cfg_type of virtio's capabilities
ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK = 1, 2, 4, 8
SIZE = 64
AREA, DRIVER_AREA, DEVICE_AREA, BUFFERS = 0x100000, 0x4000, 0x8000, 0x400000  # a ring: 64 KiB
NEXT, WRITE, INDIRECT, AVAIL, USED = 1, 2, 4, 1 << 7, 1 << 15
VERSION_1, PACKED = 1 << 32, 1 << 34


def _halting_bios(path):
    """cli, hlt, and jump back to the hlt at the reset vector."""
    path.write_bytes(b'\xf4' * 0xfff0 + b'\xfa\xf4\xeb\xfd' + b'\xf4' * 12)
    return path


class Vm:
    """A VM with one network device on a vhost-user socket; its memory is self.memory."""

    def __init__(self, case, path, version='7.2', name='hostile', **properties):
        options = ''.join(f',{key}={value}' for key, value in properties.items())
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(case.dir / f'{name}-qtest.sock'))
        listener.listen(1)
        self.process = Process(case, name, binary(version) + [
            '-accel', 'tcg', '-nodefaults', '-no-user-config', '-display', 'none', '-M', 'q35,memory-backend=mem',
            '-m', f'{MEMORY_MB}M', '-object', f'memory-backend-memfd,id=mem,size={MEMORY_MB}M,share=on',
            '-bios', _halting_bios(case.dir / 'halt.bin'), '-chardev', f'socket,id=c0,path={path}',
            '-netdev', 'vhost-user,id=n0,chardev=c0',
            '-device', f'virtio-net-pci,netdev=n0,addr=4,disable-legacy=on,romfile=,vectors=0{options}',
            '-qtest', f'unix:{listener.getsockname()}', '-qtest-log', '/dev/null'])
        listener.settimeout(20 * env.TIME_FACTOR)
        self.line = listener.accept()[0].makefile('rwb')
        listener.close()
        case.defer(self.line.close)
        self.at = self._find_capabilities()  # an answer: all of QEMU is there
        self.memory = self._map()

    def _map(self):
        number = next(number for number, target in fds(self.process.pid).items() if 'memory-backend-memfd' in target)
        with open(f'/proc/{self.process.pid}/fd/{number}', 'r+b', buffering=0) as file:
            return mmap.mmap(file.fileno(), os.fstat(file.fileno()).st_size)

    def ask(self, *words):
        """One command of the protocol, and its answer."""
        self.line.write(' '.join(word if isinstance(word, str) else hex(word) for word in words).encode() + b'\n')
        self.line.flush()
        while True:
            answer = self.line.readline().split()
            assert answer, f'QEMU has ended: {self.process.output()[-400:]}'
            if answer[0] == b'OK':
                return int(answer[1], 0) if len(answer) > 1 else None

    def config(self, offset, value=None):
        self.ask('outl', 0xcf8, 0x80000000 | 4 << 11 | offset)
        return self.ask('inl', 0xcfc) if value is None else self.ask('outl', 0xcfc, value)

    def _find_capabilities(self):
        """{kind: (address, multiplier)}, with memory and bus mastering on."""
        self.config(0x20, BAR)
        self.config(0x24, 0)
        self.config(0x04, 6)
        found, at = {}, self.config(0x34) & 0xff
        while at:
            word = self.config(at)
            if word & 0xff == 9 and self.config(at + 4) & 0xff == 4:
                found.setdefault(word >> 24, (BAR + self.config(at + 8), self.config(at + 16)))
            at = word >> 8 & 0xff
        return found

    def read(self, width, offset):
        return self.ask(f'read{width}', self.at[COMMON][0] + offset)

    def write(self, width, offset, value):
        self.ask(f'write{width}', self.at[COMMON][0] + offset, value)


class Driver:
    """A driver of the device that says what it is told to; made anew, it resets the device first."""

    def __init__(self, vm, features=0, n_rings=2):
        self.vm, self.memory = vm, vm.memory
        self.packed = bool(features & PACKED)
        self.position = [0] * n_rings  # available, in the ring's own way of counting
        vm.write('b', 0x14, 0)
        wait_until(lambda: vm.read('b', 0x14) == 0, 'the device is reset', interval=0.002)
        self.memory[AREA:AREA + 0x10000 * n_rings] = bytes(0x10000 * n_rings)
        vm.write('b', 0x14, ACKNOWLEDGE | DRIVER)
        for i in range(2):
            vm.write('l', 0x08, i)
            vm.write('l', 0x0c, (features | VERSION_1) >> 32 * i & 0xffffffff)
        vm.write('b', 0x14, ACKNOWLEDGE | DRIVER | FEATURES_OK)
        assert vm.read('b', 0x14) & FEATURES_OK, f'features {features:#x} are not accepted'
        self.notify_at = [self._start(ring) for ring in range(n_rings)]
        vm.write('b', 0x14, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)

    def _start(self, ring):
        self.vm.write('w', 0x16, ring)
        self.vm.write('w', 0x18, SIZE)
        area = AREA + 0x10000 * ring
        for i, place in enumerate((area, area + DRIVER_AREA, area + DEVICE_AREA)):
            self.vm.write('l', 0x20 + 8 * i, place & 0xffffffff)
            self.vm.write('l', 0x24 + 8 * i, place >> 32)
        address, multiplier = self.vm.at[NOTIFY]
        address += multiplier * self.vm.read('w', 0x1e)
        self.vm.write('w', 0x1c, 1)
        return address

    def notify(self, ring):
        self.vm.ask('writew', self.notify_at[ring], ring)

    def u16(self, address, value=None):
        if value is None:
            return struct.unpack_from('H', self.memory, address)[0]
        return struct.pack_into('H', self.memory, address, value & 0xffff)

    def table(self, at, descs):
        """Descriptors (address, length, flags, next or id) as they are, at an address."""
        for i, (address, length, flags, last) in enumerate(descs):
            order = (last, flags) if self.packed else (flags, last)
            struct.pack_into('QIHH', self.memory, at + 16 * i, address, length, *order)

    # --- Split ---

    def avail_index(self, ring, value):
        self.position[ring] = value & 0xffff
        self.u16(AREA + 0x10000 * ring + DRIVER_AREA + 2, value)

    def offer(self, ring, *heads):
        for head in heads:
            self.u16(AREA + 0x10000 * ring + DRIVER_AREA + 4 + 2 * (self.position[ring] % SIZE), head)
            self.avail_index(ring, self.position[ring] + 1)

    def used_index(self, ring):
        return self.u16(AREA + 0x10000 * ring + DEVICE_AREA + 2)

    # --- Packed ---

    def here(self, ring):
        """Address of the next descriptor, and the flags that make it available."""
        slot, wrap = self.position[ring] % SIZE, not self.position[ring] // SIZE % 2
        return AREA + 0x10000 * ring + 16 * slot, AVAIL if wrap else USED

    def offer_packed(self, ring, descs):
        """A chain of (address, length, flags, id); the first descriptor's flags come last."""
        first, first_flags = self.here(ring)[0], None
        for address, length, flags, ident in descs:
            at, available = self.here(ring)
            struct.pack_into('QIH', self.memory, at, address, length, ident & 0xffff)
            if first_flags is None:
                first_flags = flags ^ available
            else:
                self.u16(at + 14, flags ^ available)
            self.position[ring] += 1
        self.u16(first + 14, first_flags)
        return first

    # --- Either ---

    def post(self, ring, *descs):
        """A chain that is as it should be: (address, length, flags), at the next free place."""
        n = len(descs)
        chain = [(address, length, flags | (NEXT if i + 1 < n else 0)) for i, (address, length, flags) in enumerate(descs)]
        if self.packed:
            ident = self.position[ring] % SIZE
            return self.offer_packed(ring, [(*desc, ident) for desc in chain])
        head = self.position[ring] % SIZE
        self.table(AREA + 0x10000 * ring + 16 * head, [(*desc, head + i + 1) for i, desc in enumerate(chain)])
        return self.offer(ring, head)

    def is_back(self, ring, first=None):
        """Whether everything that was offered has come back; packed: what lies at first."""
        if not self.packed:
            return self.used_index(ring) == self.position[ring]
        flags = self.u16((first or AREA + 0x10000 * ring) + 14)
        return bool(flags & AVAIL) == bool(flags & USED)
