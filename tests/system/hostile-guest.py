#!/usr/bin/env python3
"""A guest that says anything at all in its rings, through stock QEMU, beside one that is innocent.

Each row is said to a device that was reset. (The control ring is not among them: QEMU serves that itself.) Whatever becomes of its ring, no process ends, and the driver that comes
after it is served. A second guest of the same launcher moves frames all the while, and misses none.
"""

import struct
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.neighbour import Neighbour
from bulkhead_test.qtest import (AREA, AVAIL, BUFFERS, DEVICE_AREA, INDIRECT, MEMORY_MB, NEXT, PACKED, SIZE, USED, WRITE,
                                 Driver, Vm)
from bulkhead_test.report import case, main, wait_until

RX, TX = 0, 1
TABLE = AREA + 0x10000 * TX
HEADER = 12
FRAME = bytes.fromhex('525400000002 525400000001 88b5') + bytes(range(86))
OUTSIDE = 0x8000000000
END = MEMORY_MB << 20
MRG_RXBUF, INDIRECT_DESC, EVENT_IDX, CSUM, HOST_TSO4 = 1 << 15, 1 << 28, 1 << 29, 1, 1 << 11

BACK = 'the chain comes back'        # it fails alone
STOPS = 'the ring stops'             # and says so
EITHER = 'either'                    # but one of them
SURVIVED = 'it is survived'          # and a driver may do it

rows = []


def row(name, outcome, features=0, packed=False):
    """Registers what a hostile guest says: a function of a driver that has just started."""
    def register(function):
        rows.append((name, outcome, features | (PACKED if packed else 0), function))
        return function
    return register


def buffer(driver, content=bytes(HEADER) + FRAME, at=BUFFERS):
    driver.memory[at:at + len(content)] = content
    return at, len(content)


def receive(driver):
    """What is sent well comes back, and waits until it can."""
    for i in range(4):
        driver.post(RX, (BUFFERS + (i + 1) * 0x20000, 0x12000, WRITE))
    driver.notify(RX)


def chains(name, outcome, features=0):
    """Rows of descriptors (address, length, flags, next) at the head of the table, in a split ring that sends."""
    def register(function):
        for what, descs in function():
            @row(f'{name} {what}', outcome, features)
            def say(driver, descs=descs):
                receive(driver)
                buffer(driver)
                driver.table(TABLE, descs)
                driver.offer(TX, 0)
        return function
    return register


# --- Split rings: the ring itself ---

for jump in (SIZE + 1, 0x8000, -1):
    @row(f'G1 the index jumps by {jump}', STOPS)
    def index_jumps(driver, jump=jump):
        driver.avail_index(TX, jump)


for bad_head in (SIZE, 0x7fff, 0xffff):
    @row(f'G2 head {bad_head}', EITHER)
    def head_outside(driver, bad_head=bad_head):
        driver.offer(TX, bad_head)


@row('G2 a head twice in flight', EITHER)
def head_twice(driver):
    driver.table(AREA, [(BUFFERS, 2048, WRITE, 0)])
    driver.offer(RX, 0, 0)
    driver.notify(RX)
    at, length = buffer(driver, at=BUFFERS + 0x10000)
    for _ in range(2):
        driver.post(TX, (at, length, 0))
    driver.notify(TX)
    return RX


@chains('G2', EITHER)
def bad_next():
    ok = (BUFFERS, 64, NEXT)
    yield 'next is the descriptor itself', [(*ok, 0)]
    yield 'next leads back', [(*ok, 1), (*ok, 0)]
    yield 'next is outside', [(*ok, SIZE)]
    yield 'next is far outside', [(*ok, 0xffff)]
    yield 'a chain through the whole ring and round', [(*ok, (i + 1) % SIZE) for i in range(SIZE)]


@chains('G4', BACK)
def bad_address():
    yield 'outside memory', [(OUTSIDE, 100, 0, 0)]
    yield 'no bytes of nowhere', [(OUTSIDE, 0, 0, 0)]
    yield 'over the end of memory', [(END - 50, 100, 0, 0)]
    yield 'address and length wrap', [(0xffffffffffffff00, 0x1000, 0, 0)]
    yield 'a length of all ones', [(BUFFERS, 0xffffffff, 0, 0)]
    yield 'all ones and all ones', [(0xffffffffffffffff, 0xffffffff, NEXT, 1), (0xffffffffffffffff, 0xffffffff, 0, 0)]


@chains('G4', SURVIVED)
def at_the_ring():
    yield 'the table is the frame', [(TABLE, 1024, 0, 0)]
    yield 'the used ring is the frame', [(TABLE + DEVICE_AREA, 300, 0, 0)]


@chains('G5', BACK)
def wrong_direction():
    yield 'writable to be sent', [(BUFFERS, 112, WRITE, 0)]
    yield 'readable after writable', [(BUFFERS, 12, WRITE | NEXT, 1), (BUFFERS, 100, 0, 0)]


@chains('G6', BACK)
def short_chains():
    for n in (1, HEADER - 1, HEADER, HEADER + 1):
        yield f'{n} bytes', [(BUFFERS, n, 0, 0)]
    yield 'the header in pieces', [(BUFFERS + i, 1, NEXT, i + 1) for i in range(HEADER)] + [(BUFFERS + HEADER, 100, 0, 0)]


@chains('G13', BACK)
def odd_frames():
    yield 'no byte', [(BUFFERS, 0, 0, 0)]
    yield '13 bytes', [(BUFFERS, HEADER + 13, 0, 0)]
    yield '64 KiB and a byte', [(BUFFERS, 0x10001, 0, 0)]
    yield '4 MiB', [(BUFFERS, 4 << 20, 0, 0)]


# --- Indirect tables ---

@row('G3 nested, circular and endless tables', BACK, INDIRECT_DESC)
def tables(driver):
    receive(driver)
    at, inner = BUFFERS + 0x100000, BUFFERS
    buffer(driver)
    ok = (inner, 112, 0, 0)
    kinds = ([(inner, 64, NEXT, 0)], [(inner, 64, NEXT, 1), (inner, 64, NEXT, 0)], [(inner, 64, NEXT, 0xffff)],
             [(at, 32, INDIRECT, 0)], [(at, 32, INDIRECT | NEXT, 1), ok])
    for head, kind in enumerate(kinds):
        driver.table(at + head * 0x1000, kind)
        driver.table(TABLE + 16 * head, [(at + head * 0x1000, 16 * len(kind), INDIRECT, 0)])
    driver.offer(TX, *range(len(kinds)))


@chains('G3', BACK, INDIRECT_DESC)
def bad_table():
    for n in (0, 1, 15, 17, 16 * 65537, 0xffffffff):
        yield f'a table of {n} bytes', [(BUFFERS, n, INDIRECT, 0)]
    yield 'a table outside memory', [(OUTSIDE, 64, INDIRECT, 0)]
    yield 'a table over the end of memory', [(END - 16, 64, INDIRECT, 0)]
    yield 'a table and more', [(BUFFERS, 32, INDIRECT | NEXT, 1), (BUFFERS, 100, 0, 0)]


@row('G3 a table that was not agreed on', EITHER)
def table_unasked(driver):
    driver.table(TABLE, [(BUFFERS, 32, INDIRECT, 0)])
    driver.offer(TX, 0)


# --- What is received ---

@row('G5 what is received may only be read', BACK)
def readable_to_receive(driver):
    driver.post(RX, (BUFFERS + 0x10000, 2048, 0))
    driver.notify(RX)
    driver.post(TX, (*buffer(driver), 0))
    driver.notify(TX)
    return RX


@row('G11 buffers that are too small come back or wait', SURVIVED)
def small_buffers(driver):
    for n in (1, HEADER, HEADER + 1, 100):
        driver.post(RX, (BUFFERS + 0x10000, n, WRITE))
    driver.notify(RX)
    for _ in range(8):
        driver.post(TX, (*buffer(driver), 0))
    driver.notify(TX)
    return RX


@row('G11 small buffers that may be merged', SURVIVED, MRG_RXBUF)
def small_merged(driver):
    for _ in range(SIZE):
        driver.post(RX, (BUFFERS + 0x10000, 2, WRITE))
    driver.notify(RX)
    for _ in range(8):
        driver.post(TX, (*buffer(driver), 0))


@row('G14 what cannot be written', BACK)
def read_only(driver):
    """The BIOS is no memory that the device may write."""
    driver.post(RX, (0xffff0000, 2048, WRITE))
    driver.notify(RX)
    driver.post(TX, (*buffer(driver), 0))
    driver.notify(TX)
    return RX


# --- Headers ---

@row('G10 headers that ask for nonsense', BACK, CSUM | HOST_TSO4)
def headers(driver):
    receive(driver)
    fields = ((1, 0, 0, 0, 0xffff, 0xffff), (1, 0, 0, 0, 99, 0), (1, 1, 54, 0, 34, 16), (0, 1, 54, 100, 34, 16),
              (1, 0x7f, 0, 1, 34, 16), (1, 0x81, 0xffff, 0xffff, 34, 16), (0xff, 5, 9, 9, 34, 6), (1, 3, 0, 1, 34, 6))
    for i, header in enumerate(fields):
        driver.post(TX, (*buffer(driver, struct.pack('BBHHHHH', *header, 0xffff) + FRAME, BUFFERS + i * 0x1000), 0))


# --- Packed rings ---

for bad_id in (SIZE, 0x7fff, 0xffff):
    @row(f'G8 id {bad_id}', SURVIVED, packed=True)
    def bad_ident(driver, bad_id=bad_id):
        driver.offer_packed(TX, [(*buffer(driver), 0, bad_id)])


@row('G8 an id twice in flight', SURVIVED, packed=True)
def ident_twice(driver):
    for _ in range(4):
        driver.offer_packed(RX, [(BUFFERS + 0x10000, 2048, WRITE, 7)])
    driver.notify(RX)
    for i in range(4):
        driver.offer_packed(TX, [(*buffer(driver), 0, i)])
    driver.notify(TX)
    return RX


@row('G8 a chain round the whole ring', SURVIVED, packed=True)
def packed_circle(driver):
    driver.offer_packed(TX, [(BUFFERS, 64, NEXT, i) for i in range(2 * SIZE)])


@row('G8 all flags, all the time', SURVIVED, packed=True)
def packed_flags(driver):
    for flags in (0, 0xffff, AVAIL | USED, NEXT | AVAIL, INDIRECT | AVAIL, WRITE | NEXT | INDIRECT | AVAIL, 0x7f7f, 0x8080):
        for slot in range(SIZE):
            struct.pack_into('QIHH', driver.memory, TABLE + 16 * slot, BUFFERS, 64, slot, flags)
        driver.notify(TX)
        time.sleep(0.01)


@row('G8 the flags change afterwards', SURVIVED, packed=True)
def packed_afterwards(driver):
    for _ in range(200):
        at = driver.offer_packed(TX, [(*buffer(driver), 0, 1)])
        driver.notify(TX)
        driver.u16(at + 14, AVAIL | NEXT)
        driver.u16(at + 14, 0)
        driver.position[TX] = driver.position[TX] % (2 * SIZE)


# --- At any time ---

def scribble(driver, seconds, rounds):
    """The whole of both rings changes while the device reads them."""
    stop = threading.Event()
    dice = env.SEED

    def change():
        nonlocal dice
        while not stop.is_set():
            for _ in range(256):
                dice = (dice * 6364136223846793005 + 1442695040888963407) & (1 << 64) - 1
                at = AREA + 0x10000 * (dice >> 40 & 1) + (dice >> 33 & 0x3fff if dice >> 50 & 3 else 0x4000 + (dice >> 33 & 0xff))
                driver.u16(at & ~1, dice >> 16 if dice >> 45 & 1 else dice >> 16 & 0x3f)
            time.sleep(0.0005)
    thread = threading.Thread(target=change)
    thread.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end and rounds:
        driver.notify(TX)
        driver.notify(RX)
        rounds -= 1
    stop.set()
    thread.join()


for is_packed in (False, True):
    @row(f'G7 all of it changes, {"packed" if is_packed else "split"}', SURVIVED, INDIRECT_DESC | EVENT_IDX | MRG_RXBUF, is_packed)
    def changes(driver):
        driver.post(RX, (BUFFERS + 0x10000, 2048, WRITE))
        driver.post(TX, (*buffer(driver), 0))
        scribble(driver, 0.5, -1)

    @row(f'G9 kicks without end, {"packed" if is_packed else "split"}', SURVIVED, EVENT_IDX, is_packed)
    def kicks(driver):
        for value in (0, 0x7fff, 0x8000, 0xffff):
            for ring in (RX, TX):
                driver.u16(AREA + 0x10000 * ring + 0x4000 + (0 if driver.packed else 4 + 2 * SIZE), value)
                driver.u16(AREA + 0x10000 * ring + 0x4002 if driver.packed else AREA + 0x10000 * ring + 0x4000, value)
        for _ in range(300):
            driver.notify(RX)
            driver.notify(TX)

    @row(f'G15 drivers one after the other with frames in flight, {"packed" if is_packed else "split"}', SURVIVED, 0, is_packed)
    def drivers(driver):
        for turn in range(6):
            driver = Driver(driver.vm, [0, MRG_RXBUF, INDIRECT_DESC, EVENT_IDX, CSUM, MRG_RXBUF | EVENT_IDX][turn] |
                            (PACKED if driver.packed != bool(turn % 2) else 0))
            for _ in range(SIZE // 2):
                driver.post(RX, (BUFFERS + 0x10000, 2048, WRITE))
                driver.post(TX, (*buffer(driver), 0))
            driver.notify(TX)


class Scene:
    def __init__(self, current):
        self.devices = {name: Device('net0', str(current.dir / f'{name}.sock'), 'echo') for name in ('hostile', 'innocent')}
        self.product = Bulkhead(current, guests={name: [device] for name, device in self.devices.items()})
        self.neighbour = Neighbour(current, self.devices['innocent'].socket)

    def ring(self, index):
        rings = [ring for ring in self.product.device(guest='hostile')['rings'] if ring['index'] == index]
        return rings[0] if rings else {'error': ''}

    def check(self, name, outcome, driver, ring):
        """It ends as it is to end."""
        driver.notify(ring)
        if outcome == SURVIVED:
            return
        first = AREA + 0x10000 * ring

        def ended():
            if outcome != STOPS and driver.is_back(ring, first):
                return 'back'
            return outcome != BACK and self.ring(ring)['error']
        wait_until(ended, f'{name}: {outcome}')

    def check_served(self, vm):
        """The next driver: a frame goes there and back."""
        driver = Driver(vm)
        driver.post(RX, (BUFFERS + 0x10000, 2048, WRITE))
        driver.notify(RX)
        driver.post(TX, (*buffer(driver), 0))
        driver.notify(TX)
        wait_until(lambda: driver.is_back(TX) and driver.is_back(RX), 'the next driver is served', interval=0.002)
        came = driver.memory[BUFFERS + 0x10000 + HEADER:BUFFERS + 0x10000 + HEADER + len(FRAME)]
        assert came == FRAME[6:12] + FRAME[:6] + FRAME[12:], came[:20]


def hostile(current, version, chosen):
    scene = Scene(current)
    pids = scene.product.pids()
    vm = Vm(current, scene.devices['hostile'].socket, version, packed='on')
    for name, outcome, features, say in chosen:
        driver = Driver(vm, features)
        ring = say(driver)
        scene.check(name, outcome, driver, TX if ring is None else ring)
        scene.check_served(vm)
    assert set(pids) <= set(scene.product.pids()), 'a process has ended'
    scene.neighbour.undisturbed()
    current.note(f'{len(chosen)} rows; the neighbour: {scene.neighbour.told}')


# covers: G1 G2 G3 G4 G5 G6 G7 G8 G9 G10 G11 G13 G14 G15
@case('hostile-guest', 120)
def each_once(current):
    hostile(current, '7.2', rows)


@case('hostile-guest-backports', 120, ordinary=False)
def other_version(current):
    hostile(current, 'backports', rows)


if __name__ == '__main__':
    main()
