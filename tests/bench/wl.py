#!/usr/bin/env python3
"""What a Wayland context carries, and what it adds to a client's way to its compositor.

    BULKHEAD_BUILD=BUILD python3 tests/bench/wl.py [MIB]

First bench-wl, which is a guest and a compositor itself, beside a socket between the same two threads; then round
trips of the same client (wl-paint) on weston directly, and through the device and a proxy for Wayland clients.
"""

import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.report import Run, wait_until
from bulkhead_test.wayland import Proxy, Weston, paint_program

TRIPS = 500


def streams(case, mib):
    socket = case.dir / 'compositor'
    device = Device('wl0', str(case.dir / 'streams.sock'), None, kind='wl', members={'wayland': socket})
    product = Bulkhead(case, [device])
    subprocess.run([env.BUILD / 'tests/bench/bench-wl', device.socket, socket, mib], check=True)
    product.stop()


def trips(process):
    wait_until(lambda: 'us each' in process.output(), 'the round trips are done', 120)
    process.stop()
    return float(re.search(r'([0-9.]+) us each', process.output()).group(1))


def round_trips(case):
    weston = Weston(case)
    device = Device('wl0', str(case.dir / 'wl0.sock'), None, kind='wl', members={'wayland': weston.socket})
    Bulkhead(case, [device])
    proxy = Proxy(case, device.socket)
    options = [paint_program(), '--still', '--trips', TRIPS]
    directly = trips(weston.client('directly', *options))
    through = trips(proxy.client('through', *options))
    print(f'round trip of a client to weston: {directly:.0f} us directly, {through:.0f} us through the device and a proxy')


def main():
    mib = sys.argv[1] if len(sys.argv) > 1 else '64'
    with Run('wl') as case:
        streams(case, mib)
    with Run('wl') as case:
        round_trips(case)


if __name__ == '__main__':
    main()
