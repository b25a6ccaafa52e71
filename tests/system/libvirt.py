#!/usr/bin/env python3
"""Debian's libvirt with a domain on Bulkhead's socket, both from packages in a bare Debian under a real systemd: what
bulkhead-libvirt(7) says works, works."""

import re
import shutil
import socket
import sys
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env, package
from bulkhead_test.guest import Guest
from bulkhead_test.netns import Echoes
from bulkhead_test.report import case, main, wait_until
from bulkhead_test.systemd import Systemd

DEVICE = '[device {name}]\ntype = net\nsocket = /run/vm1/{name}.sock\nbackend = tap\ntap = vm1-{name}\nqueue-pairs = {pairs}\n'
CONFIG = DEVICE.format(name='net0', pairs=2) + DEVICE.format(name='net1', pairs=1)
PAGE = env.SOURCE / 'deploy/man/bulkhead-libvirt.7'
MAC = '52:54:00:12:34:56'
IMAGES = '/var/lib/libvirt/images'
QEMU = '{http://libvirt.org/schemas/domain/qemu/1.0}'
# Software emulation, and no other guard than users and groups: neither a kernel's guard nor a namespace within ours.
QEMU_CONF = 'security_driver = "none"\nnamespaces = []\n'


def of_page(name):
    """An example of the manual page: the lines between .nf and .fi that begin with this element."""
    for block in PAGE.read_text(encoding='utf-8').split('.nf\n')[1:]:
        text = block.split('.fi\n')[0].replace('\\-', '-').replace('\\e', '\\')
        if text.lstrip().startswith(f'<{name}'):
            return text
    raise AssertionError(f'bulkhead-libvirt(7) has no example of <{name}>')


def of_page_config(line):
    """The section of a guest's file in the page that has this line."""
    for block in PAGE.read_text(encoding='utf-8').split('.nf\n')[1:]:
        if block.startswith('[device') and line in block:
            return block.split('.fi\n')[0]
    raise AssertionError(f'bulkhead-libvirt(7) has no device with {line}')


def domain_xml():
    """The page's domain, with a kernel to boot, software emulation, and a line to the guest's agent."""
    ElementTree.register_namespace('qemu', QEMU.strip('{}'))
    domain = ElementTree.fromstring(of_page('domain'))
    domain.set('type', 'qemu')
    domain.find('memory').text = '256'
    domain.find('cpu').set('mode', 'maximum')
    system = domain.find('os')
    for tag, text in (('kernel', f'{IMAGES}/vmlinuz'), ('initrd', f'{IMAGES}/initrd'),
                      ('cmdline', 'console=ttyS0 quiet mitigations=off nokaslr tsc=reliable no_timer_check panic=-1')):
        ElementTree.SubElement(system, tag).text = text
    devices = domain.find('devices')
    for disk in devices.findall('disk'):
        devices.remove(disk)
    console = ElementTree.SubElement(devices, 'serial', type='file')
    ElementTree.SubElement(console, 'source', path='/var/log/libvirt/qemu/console.log')
    agent = ElementTree.SubElement(devices, 'serial', type='unix')
    ElementTree.SubElement(agent, 'source', mode='bind', path='/var/lib/libvirt/qemu/agent.sock')
    # this QEMU crashes under TCG when a driver enables MSI-X
    command = ElementTree.SubElement(domain, f'{QEMU}commandline')
    for value in ('-global', 'virtio-net-pci.vectors=0'):
        ElementTree.SubElement(command, f'{QEMU}arg', value=value)
    device = ElementTree.SubElement(ElementTree.SubElement(domain, f'{QEMU}override'), f'{QEMU}device', alias='ua-net0')
    ElementTree.SubElement(ElementTree.SubElement(device, f'{QEMU}frontend'), f'{QEMU}property', name='vectors',
                           type='unsigned', value='0')
    return ElementTree.tostring(domain, encoding='unicode')


class Host:
    """A bare Debian with libvirt and Bulkhead, and a domain vm1."""

    def __init__(self, current, server=False):
        """server: QEMU listens, in a folder of its own, and Bulkhead connects."""
        self.case = current
        tree = env.prepare('debian-libvirt', 1800)
        self.package = package.build(current, 'package', BULKHEAD_BUILD=str(env.BUILD))
        self.system = Systemd(current, CONFIG, package=self.package, tree=tree)
        for name, queues in (('net0', ['multi_queue']), ('net1', [])):
            self.system.run('ip', 'tuntap', 'add', 'dev', f'vm1-{name}', 'mode', 'tap', 'vnet_hdr', *queues, 'user',
                            self.system.user(f'vm1:{name}'))
        self.netns = self.system.netns()
        self.netns.set_up('vm1-net0')
        self.netns.set_up('vm1-net1', addresses=('10.78.0.1/24',))
        wait_until(lambda: self.system.run('bulkheadctl', 'status', check=False).count(' pid ') == 5, 'all serve', 30)
        guest = env.prepare('guest')
        for file in ('vmlinuz', 'initrd'):
            shutil.copy(guest / file, self.system.path(IMAGES))
        self.write('/etc/libvirt/qemu.conf', QEMU_CONF)
        xml = domain_xml()
        if server:
            config = of_page_config('mode = client')
            path = config.split('socket = ')[1].split('\n')[0]
            self.system.run('install', '-d', '-o', 'libvirt-qemu', '-g', 'libvirt-qemu', '-m', '0750', str(Path(path).parent))
            self.write('/etc/bulkhead/vm1.conf', config + 'queue-pairs = 2\n')
            for verb in ('stop', 'daemon-reload', 'start'):
                self.system.run('systemctl', verb, *([] if verb == 'daemon-reload' else ['bulkhead.target']))
            xml = xml.replace('/run/vm1/net0.sock', path).replace('mode="client"', 'mode="server"')
            xml = re.sub('<reconnect [^>]*>', '', xml)
        self.write('/root/vm1.xml', xml)
        # the step of bulkhead-libvirt(7)
        self.system.run('adduser', 'libvirt-qemu', 'bulkhead')
        self.virsh('define', '/root/vm1.xml')

    def write(self, path, text):
        Path(self.system.path(path)).write_text(text, encoding='utf-8')

    def virsh(self, *argv):
        return self.system.run('timeout', str(int(50 * env.TIME_FACTOR)), 'virsh', *argv)

    def refused(self, *argv):
        return self.system.run('sh', '-c', '"$@" >/dev/null 2>&1 || echo refused', 'sh', 'virsh', *argv) == 'refused'

    def start(self, check_boot=True):
        """Started paused, so that nothing that the guest says is missed."""
        self.virsh('start', 'vm1', '--paused')
        line = socket.socket(socket.AF_UNIX)
        line.connect(self.system.path('/var/lib/libvirt/qemu/agent.sock'))
        guest = Guest(line)
        self.virsh('resume', 'vm1')
        if check_boot:
            guest.wait_boot()
            guest.net_up()
            guest.ping()
        return guest

    def state(self):
        return self.virsh('domstate', 'vm1')


@case('libvirt-life', 900, ordinary=False)
def life(current):
    """Define, start, several queues, suspend and resume, reboot, destroy, start again."""
    host = Host(current)
    guest = host.start()
    guest.run('ethtool -L eth0 combined 2')
    assert guest.queue_pairs() == 2, guest.run('ethtool -l eth0')
    guest.ping()
    host.virsh('suspend', 'vm1')
    assert host.state() == 'paused'
    host.virsh('resume', 'vm1')
    guest.ping()
    for command in (('domif-setlink', 'vm1', MAC, 'down'), ('domifstat', 'vm1', MAC)):
        assert host.refused(*command), f'{command} works; bulkhead-libvirt(7) says that it does not'
    host.virsh('qemu-monitor-command', 'vm1', '--hmp', 'set_link ua-net0 off')
    wait_until(lambda: guest.run('cat /sys/class/net/eth0/carrier') == '0\n', 'the guest sees its link go')
    host.virsh('qemu-monitor-command', 'vm1', '--hmp', 'set_link ua-net0 on')
    wait_until(lambda: guest.run('cat /sys/class/net/eth0/carrier') == '1\n', 'the guest sees its link come')
    guest.ping()
    boots = guest.n_boots
    host.virsh('reset', 'vm1')
    guest.wait_boot(boots + 1)
    guest.net_up()
    guest.ping()
    guest.start('reboot -f')
    guest.wait_boot(boots + 2)
    guest.net_up()
    guest.ping()
    host.virsh('destroy', 'vm1')
    assert host.state() == 'shut off'
    host.start()


@case('libvirt-server', 900, ordinary=False)
def server_mode(current):
    """QEMU listens, and Bulkhead connects."""
    host = Host(current, server=True)
    guest = host.start()
    guest.ping()
    host.virsh('destroy', 'vm1')
    host.start()


@case('libvirt-hotplug', 900, ordinary=False)
def hotplug(current):
    """A second device is attached to the running domain, serves, and is detached."""
    host = Host(current)
    guest = host.start()
    host.write('/root/net1.xml', of_page('interface'))
    for _ in range(2):
        host.virsh('attach-device', 'vm1', '/root/net1.xml', '--live')
        wait_until(lambda: len(guest.interfaces()) == 2, 'the guest has a second interface', 20)
        name = guest.interfaces()[1]
        guest.net_up(name, addresses=('10.78.0.2/24',))
        guest.ping('10.78.0.1')
        host.virsh('detach-device', 'vm1', '/root/net1.xml', '--live')
        wait_until(lambda: len(guest.interfaces()) == 1, 'the guest has lost it', 20)
    guest.ping()


@case('libvirt-upgrade', 900, ordinary=False)
def upgrade(current):
    """A new version of the package while the domain runs: no frame is lost, and libvirt notices nothing."""
    host = Host(current)
    guest = host.start()
    carrier = guest.carrier_changes()
    echoes = Echoes(host.netns, '10.77.0.2')
    host.system.install_package(package.next_version(current, host.package))
    current.note(f'{echoes.end()} frames')
    assert guest.carrier_changes() == carrier, 'the guest\'s link went down'
    assert host.state() == 'running'
    guest.ping()


@case('libvirt-save', 900, ordinary=False)
def save(current):
    """managedsave and start, save and restore: the guest goes on where it was."""
    host = Host(current)
    guest = host.start()
    guest.run('echo here >/tmp/mark')
    host.virsh('managedsave', 'vm1')
    assert host.state() == 'shut off'
    guest = host.start(check_boot=False)
    assert guest.run('cat /tmp/mark') == 'here\n'
    guest.ping()
    host.virsh('save', 'vm1', '/var/lib/libvirt/qemu/save/vm1.state')
    host.virsh('restore', '/var/lib/libvirt/qemu/save/vm1.state')
    assert host.state() == 'running'
    line = socket.socket(socket.AF_UNIX)
    line.connect(host.system.path('/var/lib/libvirt/qemu/agent.sock'))
    Guest(line).ping()


if __name__ == '__main__':
    main()
