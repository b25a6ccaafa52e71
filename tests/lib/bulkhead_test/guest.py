"""The agent inside a guest (tests/system/guest/guestd.c), spoken to over a serial line."""

import shlex
import time

from . import env


class GuestLost(AssertionError):
    """The line was closed: the VMM is gone."""


class Job:
    """A shell command that was started in the guest."""

    def __init__(self, guest, number, command):
        self.guest = guest
        self.number = number
        self.command = command

    def done(self):
        self.guest.poll()
        return self.number in self.guest.frames

    def wait(self, limit=30, check=True):
        """Output of the command; its exit status must be 0 unless check is off (then: status, output)."""
        status, output = self.guest.wait_frame(self.number, limit, self.command)
        if not check:
            return status, output
        if status != 0:
            raise AssertionError(f'guest: {self.command}: status {status}: {output}')
        return output


class Guest:
    """Commands go out as numbered frames and come back in any order; frame 0 says that the guest has booted."""

    def __init__(self, line):
        self.line = line
        self.buffer = b''
        self.frames = {}
        self.number = 0
        self.n_boots = 0

    def close(self):
        self.line.close()

    def poll(self, limit=0.0):
        """Takes in what has arrived; waits up to limit for something to arrive."""
        self.line.settimeout(max(limit, 0.001))
        try:
            data = self.line.recv(65536)
        except TimeoutError:
            return
        if not data:
            raise GuestLost('the serial line of the guest was closed')
        self.buffer += data
        while self._take_frame():
            pass

    def _take_frame(self):
        start = self.buffer.find(b'\x01')
        end = self.buffer.find(b'\n', start)
        if start < 0 or end < 0:
            return False
        number, status, length = map(int, self.buffer[start + 1:end].split())
        after = end + 1 + length
        if len(self.buffer) <= after:
            return False
        if self.buffer[after:after + 1] != b'\x02':
            raise AssertionError(f'guest: frame {number} is damaged')
        output = self.buffer[end + 1:after].decode(errors='replace')
        self.buffer = self.buffer[after + 1:]
        if number == 0:
            self.n_boots += 1
        else:
            self.frames[number] = (status, output)
        return True

    def wait_boot(self, n_boots=1, limit=60):
        """Until the guest has booted n_boots times since the VMM started."""
        end = time.monotonic() + limit * env.TIME_FACTOR
        while self.n_boots < n_boots:
            if time.monotonic() > end:
                raise AssertionError(f'guest: did not boot within {limit * env.TIME_FACTOR:g} s')
            self.poll(0.2)

    def wait_frame(self, number, limit, command):
        end = time.monotonic() + limit * env.TIME_FACTOR
        boots = self.n_boots
        while number not in self.frames:
            if time.monotonic() > end:
                raise AssertionError(f'guest: not finished within {limit * env.TIME_FACTOR:g} s: {command}')
            self.poll(0.2)
            if self.n_boots != boots:
                raise AssertionError(f'guest: booted again during: {command}')
        return self.frames.pop(number)

    def start(self, command):
        data = command.encode()
        self.number += 1
        self.line.settimeout(10 * env.TIME_FACTOR)
        self.line.sendall(b'%d %d\n' % (self.number, len(data)) + data)
        return Job(self, self.number, command)

    def run(self, command, limit=30, check=True):
        return self.start(command).wait(limit, check)

    # What most tests want of a guest.

    def interfaces(self):
        """Names of the virtio network devices, in PCI order."""
        return self.run('cd /sys/class/net; for i in eth*; do [ -e $i ] && echo $i; done; true').split()

    def net_up(self, name='eth0', addresses=('10.77.0.2/24', 'fd77::2/64'), mtu=None):
        """Addresses and link; the sed-free way to say nodad is a sysctl."""
        commands = [f'echo 0 > /proc/sys/net/ipv6/conf/{name}/accept_dad']
        if mtu:
            commands.append(f'ip link set {name} mtu {mtu}')
        commands += [f'ip addr add {address} dev {name}' for address in addresses]
        commands.append(f'ip link set {name} up')
        self.run(' && '.join(commands))

    def ping(self, address='10.77.0.1', count=3, size=56, interval=0.2):
        """Average round trip in ms; every answer must come."""
        output = self.run(f'ping -c {count} -i {interval} -s {size} -W 5 {shlex.quote(address)}', 60)
        if f'{count} packets received' not in output:
            raise AssertionError(f'ping {address}: {output}')
        return float(output.rsplit('=', 1)[1].split('/')[1])

    def carrier_changes(self, name='eth0'):
        return int(self.run(f'cat /sys/class/net/{name}/carrier_changes'))

    def queue_pairs(self, name='eth0'):
        """Queue pairs in use, as ethtool tells."""
        for line in reversed(self.run(f'ethtool -l {name}').splitlines()):
            if line.startswith('Combined:'):
                return int(line.split()[1])
        raise AssertionError('ethtool -l tells no number of queues')

    def set_offloads(self, name, on):
        word = 'on' if on else 'off'
        for feature in ('tx', 'sg', 'tso', 'gso', 'gro'):
            self.run(f'ethtool -K {name} {feature} {word} 2>&1', check=False)
