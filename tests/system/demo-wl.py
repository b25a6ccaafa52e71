#!/usr/bin/env python3
"""What `deploy/demo wl` shows, after it has installed and built: a guest's windows on the host's compositor."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.qemu import Qemu, WlDevice
from bulkhead_test.wayland import GuestProxy, Weston
from demo import run_demo, say

PICTURE = Path(os.environ.get('BULKHEAD_DEMO_PICTURE', 'bulkhead-wl.png')).resolve()
SHELL = """#!/bin/sh
echo '$ uname -srm; grep -m1 name /proc/cpuinfo'
uname -srm
grep -m1 name /proc/cpuinfo
echo '$ cat /sys/bus/pci/devices/0000:00:04.0/{vendor,device}'
cat /sys/bus/pci/devices/0000:00:04.0/vendor /sys/bus/pci/devices/0000:00:04.0/device
echo
echo This terminal runs in the guest.
exec sleep 100000
"""


def start_guest(case, device):
    vm = Qemu(case, [WlDevice(device.socket)], 'newest', guest='guest-wl-demo')
    print(f'booted in {vm.wait_boot(120):.1f} s')
    guest = GuestProxy(vm)
    guest.guest.run(f"mount -t devpts devpts /dev/pts; cat > /tmp/shell <<'E'\n{SHELL}E\nchmod 755 /tmp/shell")
    return vm, guest


def show_windows(weston, guest):
    guest.start('terminal', 'weston-terminal --shell=/tmp/shell')
    weston.wait_window()
    guest.start('simple-shm', 'weston-simple-shm')
    paint = guest.paint()
    paint.wait_frame(5, 60)
    return paint


def show(case):
    say('Weston, a Wayland compositor without a screen, and Bulkhead beside it')
    weston = Weston(case, size=(1024, 640))
    device = Device('wl0', str(case.dir / 'wl0.sock'), None, kind='wl', members={'wayland': weston.socket})
    product = Bulkhead(case, [device])
    print((case.dir / 'vm.conf').read_text().strip())
    print(f'\n$ bulkhead run vm.conf\n{product.process.output().strip()}')

    say('A Debian kernel boots in QEMU (emulated) with a virtio-wl device on our socket')
    vm, guest = start_guest(case, device)

    say('Clients start in the guest: a terminal, and two that paint')
    paint = show_windows(weston, guest)
    print(product.ctl('status'))

    say('Each process is killed (kill -9) while a client paints')
    for role in ('wl', *env.ROLES_OF_GUEST):
        before = paint.frame()
        old = product.kill(role)
        paint.wait_frame(5, 60)
        print(f'{role}: killed pid {old} after frame {before}; the client has painted frame {paint.frame()}')

    say('A screenshot of the host')
    guest.stop('wl-paint')
    weston.shot(PICTURE)
    print(PICTURE)
    vm.quit()


if __name__ == '__main__':
    sys.exit(run_demo('demo-wl', show))
