"""How it grows: devices, queue pairs, regions of guest memory, sizes of rings; each beside the smallest of its kind."""

import time
from contextlib import contextmanager
from functools import partial

from .cells import DEVICE_CPU, OURS, Cell, Figure, bind, own_program
from .idle import per_second, pss_mib, started
from .ring import LAYOUTS, WORKS, Driver, line, ours

DEVICES = (1, 4, 16, 64)
PAIRS = (1, 2, 4, 8)
RINGS = (64, 256, 1024, 4096)
REGIONS = (2, 9, 65, 509)


def serving(product, name):
    """The worker of one device."""
    (pid,) = (process['pid'] for guest in product.status()['guests'] for process in guest['processes']
              if process['role'] == 'net' and process['name'] == name)
    return pid


@contextmanager
def devices(case, build, n=1):
    """One of them is at work, the others are idle."""
    begun = time.monotonic()
    product = started(case, build, n, 'devices', 'echo')
    took = time.monotonic() - begun
    pid = serving(product, 'net0')
    bind(pid, DEVICE_CPU)
    driver = Driver(product.case, product.guests['vm'][0].socket, 'io', 64, **LAYOUTS['split'])

    def turn(seconds):
        rate, _ = driver.turn(seconds, pid, lambda: driver.count('RX-packets'))
        return {'rate': rate / 1e6, 'memory': pss_mib(product.pids()) / n, 'start': took * 1e3 / n,
                'wake-ups': sum(per_second(product, seconds).values()) / n}
    yield turn


@contextmanager
def regions(case, build, n=2):
    del case

    def turn(seconds):
        added, rate = own_program(build, 'bench-regions', n - 1, seconds * 1000).split()
        return {'added': float(added), 'rate': float(rate) / 1e6}
    yield turn


def beside(name, opened, values, figures, first=None, **options):
    """A cell for each number, beside the one with the first."""
    least = first or values[0]
    base = f'{least} {name}'.removesuffix('s' if least == 1 else '')
    for value in values:
        if value != least:
            yield Cell('scale', f'{value} {name}', [Figure(*each, {base: 1.0}) for each in figures],
                       {OURS: partial(opened, value), base: partial(opened, least)}, seconds=0.3, **options)


def opened_devices(n, case, build):
    return devices(case, build, n)


def opened_regions(n, case, build):
    return regions(case, build, n)


def opened_pairs(n, case, build):
    return line(case, build, served=ours, work=WORKS['both'], queues=n, **LAYOUTS['split'])


def opened_rings(n, case, build):
    return line(case, build, served=ours, work=WORKS['both'], queue_size=n, **LAYOUTS['split'])


def cells():
    rate = ('rate', 'Mpps', 'higher')
    yield from beside('devices', opened_devices, DEVICES, [
        rate, ('memory', 'MiB (PSS) a device', 'lower'), ('start', 'ms a device', 'lower'), ('wake-ups', 'a second and device', 'lower')],
        twice=False)
    yield from beside('queue pairs', opened_pairs, PAIRS, [rate, ('cpu', 'ns a frame', 'lower')], twice=False)
    yield from beside('entries in a ring', opened_rings, RINGS, [rate, ('cpu', 'ns a frame', 'lower')], first=256, twice=False)
    yield from beside('regions', opened_regions, REGIONS, [rate, ('added', 'ms a region', 'lower')], twice=False)
