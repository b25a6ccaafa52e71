#!/usr/bin/env python3
"""Every type of device is served, killed, upgraded and listed; and a new one comes to that by the README's steps alone."""

import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.report import case, main
from bulkhead_test.vmm import connect

GET_FEATURES = 1
NAME = 'dummy'
NEEDS = {'wl': {'wayland': '/nowhere'}}  # keys without which there is no device of a type
# What a device of that name changes outside its own folder, and no other file: its row, its rights, its test's row.
CHANGED = {'common/config/roles.def', 'deploy/rights.md', 'tests/device/meson.build'}


def features(line):
    line.sendall(struct.pack('III', GET_FEATURES, 1, 0))
    return struct.unpack('=IIIQ', line.recv(64))[3]


def processes(product):
    return {entry['role']: entry for entry in product.status()['guests'][0]['processes']}


def served(kind):
    def run(current):
        path = str(current.dir / 'net0.sock')
        product = Bulkhead(current, [Device(socket=path, kind=kind, backend='echo' if kind == 'net' else None,
                                            members=NEEDS.get(kind))])
        line = connect(path)
        current.defer(line.close)
        offered = features(line)
        product.kill(kind)
        assert features(line) == offered, 'after its death'
        assert kind in processes(product), f'{kind} is listed: {processes(product)}'
        before = processes(product)[kind]['pid']
        said = product.ctl('upgrade', 'vm:net0')
        assert 'vm:net0 pid' in said, said
        assert processes(product)[kind]['pid'] != before, 'another process serves'
        assert features(line) == offered, 'after its upgrade'
    return run


for device_type in env.DEVICE_TYPES:
    case(f'type-{device_type}', 60)(served(device_type))


def rename(path):
    path.write_text(path.read_text().replace('null', NAME))


def add_column(path):
    """The rights of the new device are those of the one that was copied."""
    lines = path.read_text().splitlines()
    table = False
    for i, line in enumerate(lines):
        table = line.startswith('|') and (table or line.startswith('| right | directive |'))
        if table:
            last = line.strip('|').split('|')[-1].strip()
            lines[i] = f'{line} {NAME if last == "null" else last} |' if last != '---' else f'{line}---|'
    path.write_text('\n'.join(lines) + '\n')


def add_behind(path, line, pattern):
    text = path.read_text()
    found = re.search(pattern, text, re.M)
    assert found, f'{path} has {pattern}'
    path.write_text(text[:found.end()] + line + text[found.end():])


def follow_the_steps(tree):
    folder = tree / 'procs' / NAME
    shutil.copytree(tree / 'procs/null', folder)
    (folder / 'null.c').rename(folder / f'{NAME}.c')
    for path in folder.iterdir():
        rename(path)
    add_behind(tree / 'common/config/roles.def', f'DEVICE({NAME}, true)\n', r'^DEVICE\(null.*\n')
    add_column(tree / 'deploy/rights.md')
    test = tree / f'tests/device/test-{NAME}.c'
    shutil.copy(tree / 'tests/device/test-null.c', test)
    rename(test)
    add_behind(tree / 'tests/device/meson.build', f"    '{NAME}': ['test-{NAME}.c'],\n", r"^    'null': .*\n")


def changed_files(tree):
    """Of those that were there before."""
    return {str(path.relative_to(env.SOURCE)) for path in env.SOURCE.rglob('*')
            if path.is_file() and (tree / path.relative_to(env.SOURCE)).is_file() and
            path.read_bytes() != (tree / path.relative_to(env.SOURCE)).read_bytes()}


def do(current, what, *argv, **options):
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL, timeout=500 * env.TIME_FACTOR, **options)
    assert done.returncode == 0, f'{what}: status {done.returncode}: {(done.stdout + done.stderr)[-3000:]}'


@case('new-device', 600)
def new_device(current):
    env.need_tool('meson')
    place = Path(tempfile.mkdtemp(prefix='bh-tree-', dir='/tmp'))  # no log of the case's
    current.defer(shutil.rmtree, place)
    tree, build = place / 'tree', place / 'build'
    shutil.copytree(env.SOURCE, tree, ignore=shutil.ignore_patterns('.git', 'build*dir', '__pycache__'))
    follow_the_steps(tree)
    assert changed_files(tree) == CHANGED, changed_files(tree)
    environ = {**os.environ, 'BULKHEAD_BUILD': str(build), 'BULKHEAD_SOURCE': str(tree)}
    do(current, 'meson', 'meson', 'setup', build, tree, '--buildtype=debug')
    targets = [f'procs/{name}/bulkhead-{name}' for name in (*env.ROLES, NAME)]  # the witness of its test is a net
    do(current, 'ninja', 'ninja', '-C', build, *targets, 'procs/launcher/bulkhead', 'procs/ctl/bulkheadctl',
       f'tests/device/test-device-{NAME}')
    do(current, 'rights.md', 'python3', tree / 'tests/static/documents.py', env=environ)
    do(current, 'its rings', build / f'tests/device/test-device-{NAME}', env=environ)
    do(current, 'served', 'python3', tree / 'tests/system/new-device.py', f'type-{NAME}', env=environ)


if __name__ == '__main__':
    main()
