"""The back-end under test, by one interface: Bulkhead, or DPDK's, on which the harness itself is tried.

BULKHEAD_BACKEND=standin chooses the latter. A test asks backend(...) for a device and does not see the difference,
but for what only ours promises: those tests call need_bulkhead().
"""

import os

from . import env
from .bulkhead import Bulkhead, Device
from .testpmd import Testpmd

STANDIN = os.environ.get('BULKHEAD_BACKEND', 'bulkhead') == 'standin'


class StandIn:
    """testpmd's net_vhost, beside net_tap for a TAP."""

    FORWARD = {'tap': 'io', 'echo': 'macswap', 'null': 'rxonly'}

    def __init__(self, case, devices, netns=None):
        self.case = case
        self.netns = netns
        self.devices = devices
        self.testpmd = None
        device = devices[0]
        client = int(device.mode == 'client')
        vdevs = [f'net_vhost0,iface={device.socket},queues={device.queue_pairs},client={client}']
        forward = self.FORWARD[device.backend]
        if device.backend == 'null' and device.generate:
            forward = 'txonly'
        if device.backend == 'tap':
            # net_tap makes a device of its own, in the place of the one that the test has made.
            netns.ip('link', 'del', device.tap, check=False)
            vdevs.append(f'net_tap0,iface={device.tap}')
        self.testpmd = Testpmd(case, 'standin', vdevs, forward, device.queue_pairs, main_lcore=0, netns=netns)
        if device.backend == 'tap':
            netns.set_up(device.tap)
        self.testpmd.start()

    def device_counters(self, name='net0'):
        del name
        stats = self.testpmd.stats(0)
        return {'from_guest_packets': stats['RX-packets'], 'to_guest_packets': stats['TX-packets']}

    def pids(self):
        return [self.testpmd.pid]

    def stop(self):
        self.testpmd.quit()


def backend(case, devices, netns=None):
    if STANDIN:
        return StandIn(case, devices, netns)
    return Bulkhead(case, devices, netns)


def need_bulkhead():
    if STANDIN:
        raise env.Skip('only Bulkhead promises this; the stand-in was chosen')


def net_device(case, **options):
    options.setdefault('socket', str(case.dir / 'net0.sock'))
    return Device(**options)
