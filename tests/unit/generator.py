#!/usr/bin/env python3
"""The systemd generator, run as systemd runs it: which units the files of a folder make bulkhead.target want."""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.report import case, main

DEVICE = '[device {name}]\ntype = net\nsocket = /run/{guest}/{name}.sock\nbackend = echo\n'
GENERATOR = env.BUILD / 'deploy/bulkhead-generator'
CLASH = ('g00433', 'g14988') # their memory managers have the same user: found by trying names


def section(name, more='', guest='x'):
    return DEVICE.format(name=name, guest=guest) + more


def generate(current, files, place=None):
    """({link: unit} of the target, what was complained of in the kernel's log)."""
    place = place or current.dir
    conf, out, kmsg = (place / name for name in ('conf', 'out', 'kmsg'))
    for directory in (conf, out):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
    for name, text in files.items():
        (conf / name).write_text(text)
    kmsg.write_text('')
    argv = [str(GENERATOR), str(out), str(out), str(out)]
    if os.geteuid() == 0:
        env.need_namespaces('mount')
        # the kernel's log is no place for a test
        argv = ['unshare', '--mount', 'sh', '-ec', 'mount --bind "$0" /dev/kmsg; exec "$@"', str(kmsg), *argv]
    done = subprocess.run(argv, env={**os.environ, 'BULKHEAD_CONFDIR': str(conf),
                                     'BULKHEAD_RUNTIME': str(place / 'run'), 'BULKHEAD_USERDB': str(place / 'userdb')},
                          capture_output=True, text=True, check=False, timeout=20 * env.TIME_FACTOR)
    assert done.returncode == 0, done.stderr
    for directory in out.glob('*.wants'):
        assert directory.name == 'bulkhead.target.wants' or directory.name.startswith('bulkhead-frontend@'), directory
    links = {path.name: os.readlink(path) for path in out.glob('bulkhead.target.wants/*')}
    return links, kmsg.read_text() + done.stderr


def unit(role, instance, kind='service'):
    """Its name, as systemd itself would make it."""
    env.need_tool('systemd-escape', 'systemd')
    return subprocess.run(['systemd-escape', f'--template=bulkhead-{role}@.{kind}', instance], check=True,
                          capture_output=True, text=True).stdout.strip()


def of_guest(guest):
    """The processes that a guest has one of."""
    return [(role, guest) for role in env.ROLES_OF_GUEST]


def check_links(links, *wanted):
    names = {unit(role, instance): role for role, instance in wanted}
    assert set(links) == set(names), f'{sorted(links)} instead of {sorted(names)}'
    for name, role in names.items():
        assert links[name] == f'/usr/lib/systemd/system/bulkhead-{role}@.service', links[name]


def check_sockets(current, wanted):
    """wanted: {GUEST: {DEVICE: the lines that its socket must have}}."""
    out = current.dir / 'out'
    units = {unit('frontend', f'{guest}:{device}', 'socket'): (guest, lines)
             for guest, devices in wanted.items() for device, lines in devices.items()}
    assert {path.name for path in out.glob('*.socket')} == set(units), list(out.iterdir())
    for name, (guest, lines) in units.items():
        service = unit('frontend', guest)
        assert os.readlink(out / f'{service}.wants' / name) == str(out / name), f'{service} wants {name}'
        text = (out / name).read_text().splitlines()
        for line in [f'Service={service}', *lines]:
            assert line in text, f'{line} is not in {text}'


@case('sockets')
def sockets(current):
    _, said = generate(current, {
        'vm1.conf': section('net0', 'socket-group = kvm\nsocket-user = nobody\nsocket-mode = 0600\n') + section('net-1') + section('net2', 'mode = client\n')})
    check_sockets(current, {
        'vm1': {'net0': ['ListenStream=/run/x/net0.sock', 'FileDescriptorName=listen.net0', 'SocketGroup=kvm',
                         'SocketUser=nobody', 'SocketMode=0600'],
                'net-1': ['ListenStream=/run/x/net-1.sock', 'FileDescriptorName=listen.net-1', 'SocketGroup=bulkhead',
                          'SocketMode=0660']}})
    assert not said, said


@case('paths-are-not-specifiers')
def specifiers(current):
    generate(current, {'vm1.conf': '[device net0]\ntype = net\nsocket = /run/50%n/net0.sock\nbackend = echo\n'})
    check_sockets(current, {'vm1': {'net0': ['ListenStream=/run/50%%n/net0.sock']}})


@case('one-guest')
def one_guest(current):
    links, said = generate(current, {'vm1.conf': section('net0') + section('net1')})
    check_links(links, *of_guest('vm1'), ('net', 'vm1:net0'), ('net', 'vm1:net1'))
    assert not said, said


@case('standby')
def standby(current):
    links, said = generate(current, {'vm1.conf': section('net0', 'standby = yes\n') + section('net1', 'standby = no\n')})
    check_links(links, *of_guest('vm1'), ('net', 'vm1:net0'), ('net', 'vm1:net0:standby'), ('net', 'vm1:net1'))
    assert not said, said
    # the pair waits with its next start, so that the one who is left takes over first; one without a second does not
    parts = {path.parent.name for path in (current.dir / 'out').glob('*.service.d/*.conf')
             if 'RestartSec=20ms' in path.read_text().splitlines()}
    assert parts == {f'{unit("net", name)}.d' for name in ('vm1:net0', 'vm1:net0:standby')}, parts


def drop_in(current, role, instance):
    path = current.dir / 'out' / f'{unit(role, instance)}.d/50-guest.conf'
    return dict(line.split('=', 1) for line in path.read_text().splitlines() if '=' in line)


@case('users')
def users(current):
    """Each process is a user of its own with a folder of its own; only memory is in its peers' groups."""
    generate(current, {'vm1.conf': section('net0', 'standby = yes\n') + section('net1'), 'vm2.conf': section('net0', guest='y')})
    names = [('memory', 'vm1', 'link'), ('frontend', 'vm1', 'frontend'), ('snapshot', 'vm1', 'snapshot'),
             ('net', 'vm1:net0', 'net0'), ('net', 'vm1:net1', 'net1'),
             ('memory', 'vm2', 'link'), ('frontend', 'vm2', 'frontend'), ('snapshot', 'vm2', 'snapshot'),
             ('net', 'vm2:net0', 'net0')]
    parts = {name[:2]: drop_in(current, *name[:2]) for name in names}
    for name in names:
        part, guest = parts[name[:2]], name[1].split(':')[0]
        assert part['User'] == part['Group'] and 0x70000000 <= int(part['User']) < 0x80000000, part
        assert part['RuntimeDirectory'] == f'bulkhead/{guest}/{name[2]}', part
        peers = {other['Group'] for (_, instance), other in parts.items() if instance.split(':')[0] == guest}
        groups = set(part.get('SupplementaryGroups', '').split())
        assert peers <= groups if name[0] == 'memory' else not groups, f'{name}: {groups}'
    assert len({part['User'] for part in parts.values()}) == len(names), 'two processes are one user'
    for part in parts.values():
        record, group = (json.loads((current.dir / 'userdb' / f'{part["User"]}.{kind}').read_text()) for kind in ('user', 'group'))
        assert record['uid'] == record['gid'] == group['gid'] == int(part['User']) and record['locked'], record
        assert record['userName'] == group['groupName'], 'systemd wants a user behind each number'
    second = drop_in(current, 'net', 'vm1:net0:standby')
    assert second['User'] == parts['net', 'vm1:net0']['User'], 'both instances of a pair are one user'
    assert second['RuntimeDirectory'] == 'bulkhead/vm1/net0+standby', second


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def generate_timed(current, files, place):
    """As generate(), and the processor's time that it took."""
    before = cpu_seconds()
    links, said = generate(current, files, place)
    return links, said, cpu_seconds() - before


@case('a-thousand-guests')
def thousand(current):
    """Units, users and folders of them all, within the time that a reload of systemd may take; whatever is wrong with them."""
    # what it writes is in memory, as /run is
    place = Path(tempfile.mkdtemp(prefix='bh-', dir='/dev/shm' if os.path.isdir('/dev/shm') else None))
    current.defer(shutil.rmtree, place)
    files = {f'guest{i}.conf': section(f'a{i}') + section(f'b{i}') for i in range(1000)}
    links, said, good = generate_timed(current, files, place)
    current.note(f'{good:.2f} s of a processor')
    assert not said, said
    assert good < 2 * env.TIME_FACTOR, f'{good} s'
    assert len(links) == 5000, len(links)
    users = {line for path in (place / 'out').glob('*.service.d/50-guest.conf')
             for line in path.read_text().splitlines() if line.startswith('User=')}
    assert len(users) == 5000, f'{5000 - len(users)} processes share a user'
    for i in range(500, 1000):
        files[f'guest{i}.conf'] = section('same')
    for in_force in (True, False):
        if not in_force:
            shutil.rmtree(place / 'run')
        links, said, bad = generate_timed(current, files, place)
        current.note(f'{bad:.2f} s with 500 files that want the same socket')
        assert said.count('is that of guest500:same already') == 499, said[-2000:]
        assert len(links) == (4999 if in_force else 2504), len(links)
        assert bad < 4 * good + 1, f'{bad} s for faulty files, {good} s for good ones'


@case('two-guests-with-one-user')
def clash(current):
    """Names that were searched for: the second guest is refused, whichever of its processes it is."""
    links, said = generate(current, {f'{name}.conf': section('net0', guest=name) for name in (*CLASH, 'zz')})
    assert {link.split('@')[1].split('.service')[0].split(':')[0] for link in links} == {CLASH[0], 'zz'}, links
    assert said.count('\n') == 1 and f'/{CLASH[1]}.conf: user ' in said and f'is that of {CLASH[0]}:' in said, said


@case('names-are-escaped')
def escaped(current):
    links, _ = generate(current, {'web-1.example_A.conf': section('net-0.a_b')})
    check_links(links, *of_guest('web-1.example_A'), ('net', 'web-1.example_A:net-0.a_b'))
    # a slice lies below those that its name begins with, as far as its hyphens
    assert drop_in(current, 'memory', 'web-1.example_A')['Slice'] == 'bulkhead-web\\x2d1.example_A.slice'


@case('a-file-with-errors-is-nobody-elses-trouble')
def broken(current):
    links, said = generate(current, {'a.conf': section('net0'), 'b.conf': section('net0', 'mtu = 1\nqueue-pair = 2\n'),
                                     'c.conf': section('net0', guest='c')})
    check_links(links, *of_guest('a'), ('net', 'a:net0'), *of_guest('c'), ('net', 'c:net0'))
    lines = said.splitlines()
    assert len(lines) == 2 and all(line.startswith('<3>bulkhead-generator: ') for line in lines), said
    assert any('/b.conf:5: mtu = 1: must be' in line for line in lines), said
    assert any('/b.conf:6: unknown key' in line and 'queue-pairs' in line for line in lines), said


@case('what-is-no-guests-file-is-left-alone')
def others(current):
    links, said = generate(current, {'vm1.conf.bak': 'nonsense', 'README': 'nonsense', '.hidden.conf': 'nonsense'})
    check_links(links)
    assert not said, said


@case('no-folder')
def no_folder(current):
    done = subprocess.run([str(GENERATOR), str(current.dir)], env={**os.environ, 'BULKHEAD_CONFDIR': '/nowhere', 'BULKHEAD_RUNTIME': '/nowhere'},
                          capture_output=True, text=True, check=False, timeout=20 * env.TIME_FACTOR)
    assert done.returncode == 0 and not done.stderr, done
    assert not list(current.dir.iterdir())


def running(current, guest):
    """As systemd leaves it: a process of the guest has its runtime directory."""
    (current.dir / 'run' / guest / 'link').mkdir(parents=True)


@case('a-guest-that-runs-keeps-its-units')
def kept(current):
    """Whatever has become of its file; one that does not run gets its file."""
    first = section('net0') + section('net1')
    wanted = [*of_guest('vm1'), ('net', 'vm1:net0'), ('net', 'vm1:net1')]
    generate(current, {'vm1.conf': first})
    copy = current.dir / 'run/.config/vm1.conf'
    assert copy.read_text() == first and copy.stat().st_mode & 0o777 == 0o644
    running(current, 'vm1')
    for files, words in (({'vm1.conf': first + 'typo = 1\n'}, "unknown key 'typo'"),
                         ({'vm1.conf': ''}, 'no [device NAME] section'),
                         ({'vm1.conf': section('net0')}, 'has changed; guest vm1 keeps'),
                         ({}, 'was removed; guest vm1 keeps')):
        links, said = generate(current, files)
        check_links(links, *wanted)
        check_sockets(current, {'vm1': {'net0': [], 'net1': []}})
        assert words in said and "until 'bulkheadctl apply vm1'" in said, said
        assert copy.read_text() == first
    shutil.rmtree(current.dir / 'run/vm1')
    links, _ = generate(current, {'vm1.conf': 'typo\n'})
    check_links(links, *wanted)
    links, said = generate(current, {'vm1.conf': section('net0')})
    check_links(links, *of_guest('vm1'), ('net', 'vm1:net0'))
    assert not said and copy.read_text() == section('net0')
    links, said = generate(current, {})
    check_links(links)
    assert not said and not copy.exists()


@case('what-two-guests-want')
def claims(current):
    """The first by name has it; one that runs keeps it. A path is where it leads."""
    (current.dir / 'alias').symlink_to('real')
    (current.dir / 'real').mkdir()
    for mine, theirs in (('real/s', 'real//./s'), ('real/s', 'alias/s'), ('alias/s', 'real/s'), ('no/such/../s', 'no/s')):
        texts = {guest: f'[device net0]\ntype = net\nbackend = echo\nsocket = {current.dir}/{path}\n'
                 for guest, path in (('b', mine), ('a', theirs), ('c', theirs))}
        links, said = generate(current, {f'{guest}.conf': text for guest, text in texts.items()})
        check_links(links, *of_guest('a'), ('net', 'a:net0'))
        assert said.count('is that of a:net0 already') == 2 and '/b.conf:4: ' in said and '/c.conf:4: ' in said, said
        shutil.rmtree(current.dir / 'run')
    links, said = generate(current, {f'{guest}.conf': f'[device n]\ntype = net\nsocket = /run/{guest}.sock\ntap = t\n' for guest in 'ab'})
    check_links(links, *of_guest('a'), ('net', 'a:n'))
    assert 'has the tap t, which is that of a:n already' in said, said
    shutil.rmtree(current.dir / 'run')
    generate(current, {'b.conf': section('net0')})
    running(current, 'b')
    links, said = generate(current, {'a.conf': section('net0'), 'b.conf': section('net0')})
    check_links(links, *of_guest('b'), ('net', 'b:net0'))
    assert '/a.conf:3: ' in said and 'is that of b:net0' in said, said


if __name__ == '__main__':
    main()
