#!/usr/bin/env python3
"""Makes the golden snapshots of a release; run by hand, once for each release:

    tests/data/snapshots/make.py tests/data/snapshots/RELEASE

The files are kept for good: every later release must read them. tests/unit/test-golden.c says, by hand, what is in
them. This program shares no code with Bulkhead: it writes the format from its description in
common/snapshot/snapshot.h and proto/state.proto. A release that adds a stage or a field adds a file, or extends one in
its own folder; the files of former releases stay as they are.
"""
import pathlib
import struct
import sys
import zlib


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def number(field, value):
    return varint(field << 3) + varint(value) if value else b""


def data(field, value):
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value


def packed(field, values):
    return data(field, b"".join(map(varint, values))) if values else b""


def numbers(*values):
    """The fields 1, 2, 3 ..."""
    return b"".join(number(i, value) for i, value in enumerate(values, 1))


def stage(name, version, body):
    return data(7, data(1, name) + number(2, version) + data(3, body))


def ring(index, size, position, running=False, in_flight=()):
    return data(1, numbers(index, size, position, running) + packed(5, in_flight))


def state(type_, device, release, suspended, *stages):
    return (data(1, type_) + data(2, device) + data(3, "vm1") + data(4, release) + number(5, 1700000000123456) +
            number(6, suspended) + b"".join(stages))


def image(body):
    head = b"BHSTATE\n" + struct.pack("<IIQ", 1, 0, len(body))
    return head + struct.pack("<I", zlib.crc32(head + body)) + body


# VERSION_1, PROTOCOL_FEATURES, EVENT_IDX, INDIRECT_DESC, and of net: CSUM, GUEST_CSUM, CTRL_GUEST_OFFLOADS, MTU, MAC,
# GUEST_TSO4, GUEST_TSO6, MRG_RXBUF, STATUS, CTRL_VQ, CTRL_RX, CTRL_VLAN, GUEST_ANNOUNCE, MQ, CTRL_MAC_ADDR
SPLIT = sum(1 << bit for bit in (32, 30, 29, 28, 0, 1, 2, 3, 5, 7, 8, 15, 16, 17, 18, 19, 21, 22, 23))
PACKED = SPLIT | 1 << 34
# and VQ_NOTF_COAL, NOTF_COAL
COALESCE = SPLIT | 1 << 52 | 1 << 53
PROTOCOL = sum(1 << bit for bit in (0, 1, 2, 3, 4, 5, 9, 10, 12, 13, 15, 16, 19))


def net_split(release):
    """Everything that can be set, is; suspended."""
    rings = (ring(0, 256, 65535, False, [3, 255, 0]) + ring(1, 1024, 7) + ring(2, 256, 0) + ring(3, 32768, 32769) +
             ring(4, 64, 12))
    counters = (data(1, numbers(0, 2**63, 2**64 - 1, 3, 4, 5, 6)) + data(1, numbers(1, 11, 12, 13, 14, 15, 16)))
    net = (data(1, bytes.fromhex("525400123456")) + number(2, 0b101010) + number(3, 1) + number(4, 1) +
           data(5, bytes.fromhex("020000000001")) + data(5, bytes.fromhex("020000000002")) +
           data(6, bytes.fromhex("01005e0000fb")) + packed(7, [0, 5, 4095]) + number(8, 2) + number(9, 1) +
           number(10, 1 << 1 | 1 << 7) + number(11, 1))
    return state("net", "net0", release, True, stage("features", 1, numbers(SPLIT, PROTOCOL)), stage("rings", 1, rings),
                 stage("counters", 1, counters), stage("net", 1, net))


def net_suspended(release):
    """What a device can take over: nothing in flight, and what two queue pairs without a TAP offer."""
    rings = b"".join(ring(i, 256, 1000 + i) for i in range(4)) + ring(4, 64, 12)
    counters = b"".join(data(1, numbers(i, 10 * i + 1, 10 * i + 2, 3, 4, 5, 6)) for i in range(5))
    net = (data(1, bytes.fromhex("525400123456")) + number(2, 0b000110) + data(5, bytes.fromhex("020000000001")) +
           data(6, bytes.fromhex("01005e0000fb")) + packed(7, [1, 4094]) + number(8, 2) + number(9, 1) + number(10, 1 << 7))
    return state("net", "net0", release, True, stage("features", 1, numbers(SPLIT & ~(1 << 3), PROTOCOL & ~(1 << 13))),
                 stage("rings", 1, rings), stage("counters", 1, counters), stage("net", 1, net))


def net_packed(release):
    """Saved while it ran: no counters, in flight out of order, positions on two laps."""
    rings = (ring(0, 100, 0x00638004, True, [99, 0, 42, 1, 7]) + ring(1, 256, 0x80FF80FF, True) + ring(2, 0, 0))
    net = data(1, bytes.fromhex("525400abcdef")) + number(2, 1) + number(8, 1)
    return state("net", "net1", release, False, stage("features", 1, numbers(PACKED, PROTOCOL)), stage("rings", 1, rings),
                 stage("net", 1, net))


def net_coalesce(release):
    """What came after net_split: where the driver sent from, and when it has notifications held back."""
    net = (data(1, bytes.fromhex("525400123456")) + number(2, 1) + number(8, 2) + data(12, bytes.fromhex("525400123457")) +
           b"".join(data(13, numbers(*ring)) for ring in ((0, 16, 50), (3, 2**32 - 1, 2**32 - 1), (255, 0, 1))))
    return state("net", "net0", release, True, stage("features", 1, numbers(COALESCE, PROTOCOL)), stage("rings", 1, b""),
                 stage("net", 1, net))


def net_hash(release):
    """What came after that: the hash that is reported."""
    net = (data(1, bytes.fromhex("525400123456")) + number(2, 1) + number(8, 1) + number(14, 0x1FF) +
           data(15, bytes(range(40))))
    return state("net", "net0", release, True, stage("features", 1, numbers(SPLIT | 1 << 57, PROTOCOL)),
                 stage("rings", 1, b""), stage("net", 1, net))


def null(release):
    """Before any driver: nothing acked, no ring set up, which leaves empty messages."""
    return state("null", "null0", release, True, stage("features", 1, b""), stage("rings", 1, b""),
                 stage("null", 1, b""))


def main():
    folder = pathlib.Path(sys.argv[1])
    release = folder.name
    folder.mkdir(exist_ok=True)
    for name, bodies in (("net-split", [net_split]), ("net-packed", [net_packed]), ("net-suspended", [net_suspended]),
                         ("net-coalesce", [net_coalesce]), ("net-hash", [net_hash]), ("null", [null]), ("guest", [net_split, net_packed, null])):
        (folder / f"{name}.state").write_bytes(b"".join(image(body(release)) for body in bodies))


if __name__ == "__main__":
    main()
