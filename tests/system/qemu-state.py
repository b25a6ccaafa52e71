#!/usr/bin/env python3
"""QEMU moves the state of a device of ours with its own migration: a front-end of ours is not the only one that does.

QEMU asks for it of a vhost-user-fs device. Its process is of the type null here, which shows that any type of device
can be moved; no file system is served, and the guest does not look for one.
"""

import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.process import Process
from bulkhead_test.qemu import Qmp, binary
from bulkhead_test.report import case, main, wait_until


class Machine:
    """A VM that runs its firmware, with one device; its Bulkhead is another guest of the same product."""

    def __init__(self, current, name, *extra):
        line = str(current.dir / f'{name}.qmp')
        self.process = Process(current, f'qemu-{name}', binary('backports') + [
            '-nodefaults', '-no-user-config', '-display', 'none', '-accel', 'tcg', '-m', '64M',
            '-M', 'q35,memory-backend=mem', '-object', 'memory-backend-memfd,id=mem,size=64M,share=on',
            '-chardev', f'socket,id=vu,path={current.dir}/{name}.sock', '-device', 'vhost-user-fs-pci,chardev=vu,tag=x',
            '-qmp', f'unix:{line},server=on,wait=off', *extra])
        self.line = line
        self.qmp = None

    def speak(self):
        self.qmp = Qmp(self.connect(self.line))

    def connect(self, path):
        found = []

        def tried():
            assert self.process.running(), self.process.output()[-800:]
            line = socket.socket(socket.AF_UNIX)
            try:
                line.connect(path)
            except OSError:
                line.close()
                return False
            found.append(line)
            return True
        wait_until(tried, 'QEMU speaks QMP', 20)
        return found[0]

    def migrated(self):
        """How a migration to or from here ended."""
        def ended():
            info = self.qmp.command('query-migrate')
            return info if info.get('status') in ('completed', 'failed', 'cancelled') else None
        return wait_until(ended, 'the migration ends', 30)

    def runs(self):
        return self.qmp.command('query-status')['status'] == 'running'


def product(current):
    return Bulkhead(current, guests={name: [Device(socket=str(current.dir / f'{name}.sock'), kind='null', backend=None)]
                                     for name in ('a', 'b')})


def save(current, machine):
    start = time.monotonic()
    machine.qmp.command('migrate', uri=f'file:{current.dir}/image')
    info = machine.migrated()
    assert info['status'] == 'completed', f'{info}: {machine.process.output()[-400:]}'
    current.note(f'QEMU\'s downtime {info.get("downtime")} ms, {1e3 * (time.monotonic() - start):.0f} ms in all')
    image = Path(f'{current.dir}/image').read_bytes()
    assert b'BHSTATE\n' in image, 'the state of the device is not in QEMU\'s image'
    return image


# uses: null:PROTOCOL_FEATURES null:LOG_ALL protocol:DEVICE_STATE
@case('state-saved-and-loaded', 60)
def both(current):
    bulkhead = product(current)
    first = Machine(current, 'a')
    first.speak()
    save(current, first)
    second = Machine(current, 'b', '-incoming', f'file:{current.dir}/image')
    second.speak()
    assert second.migrated()['status'] == 'completed', second.process.output()[-400:]
    wait_until(second.runs, 'the VM runs where it came to', 20)
    said = bulkhead.process.output()
    assert 'refused' not in said, said[-800:]


@case('state-damaged-is-refused', 60)
def damaged(current):
    """QEMU says that its migration failed, and the VM that saved goes on."""
    bulkhead = product(current)
    first = Machine(current, 'a')
    first.speak()
    image = bytearray(save(current, first))
    image[image.index(b'BHSTATE\n') + 30] ^= 1
    Path(f'{current.dir}/image').write_bytes(image)
    second = Machine(current, 'b', '-incoming', f'file:{current.dir}/image')
    assert second.process.wait(30) != 0, 'QEMU gives up'
    said = bulkhead.process.output()
    assert 'CHECK_DEVICE_STATE' in said and 'checksum' in said, said[-800:]
    first.qmp.command('cont')
    assert first.runs()


if __name__ == '__main__':
    main()
