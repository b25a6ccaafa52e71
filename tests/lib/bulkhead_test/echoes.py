#!/usr/bin/env python3
"""Counts what a host answers: echoes.py ADDRESS, in the network namespace it is started in.

Sends an echo request every 10 ms until its standard input ends, then waits for what is still out, and prints the numbers
of requests, of those that were answered, and of answers that came twice. Unlike ping it knows whether the last ones were
lost or are late.
"""

import os
import select
import socket
import struct
import sys
import time

INTERVAL = 0.01
PATIENCE = 60


def checksum(data):
    total = sum(struct.unpack(f'!{len(data) // 2}H', data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff


def request(number):
    ident, sequence = os.getpid() & 0xffff, number & 0xffff
    body = struct.pack('!Q', number)
    return struct.pack('!BBHHH', 8, 0, checksum(struct.pack('!BBHHH', 8, 0, 0, ident, sequence) + body), ident, sequence) + body


class Count:
    def __init__(self, line):
        self.line = line
        self.answers = {}

    def take(self, limit):
        """What arrives within limit."""
        end = time.monotonic() + limit
        while select.select([self.line], [], [], max(0, end - time.monotonic()))[0]:
            packet = self.line.recv(2048)
            packet = packet[(packet[0] & 15) * 4:]
            if packet[0] == 0 and struct.unpack('!H', packet[4:6])[0] == os.getpid() & 0xffff:
                number = struct.unpack('!Q', packet[8:16])[0]
                self.answers[number] = self.answers.get(number, 0) + 1


def main():
    line = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    line.connect((sys.argv[1], 0))
    count, n = Count(line), 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        line.send(request(n))
        n += 1
        count.take(INTERVAL)
    end = time.monotonic() + PATIENCE
    while len(count.answers) < n and time.monotonic() < end:
        count.take(0.1)
    print(n, len(count.answers), sum(times - 1 for times in count.answers.values()))


if __name__ == '__main__':
    main()
