"""Where things are, and what this machine can do."""

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[3]
BUILD = Path(os.environ.get('BULKHEAD_BUILD', SOURCE / 'builddir'))
CACHE = Path(os.environ.get('BULKHEAD_CACHE', '/var/cache/bulkhead-tests'))
SANITIZED = bool(int(os.environ.get('BULKHEAD_SANITIZED', '0')))

# An ordinary run samples what takes long.
FULL = bool(os.environ.get('BULKHEAD_FULL'))

# Sanitizers and a shared machine make everything slower, a guest in software emulation most of all; a limit that is
# hit is then still a hang.
TIME_FACTOR = float(os.environ.get('BULKHEAD_TIME_FACTOR', '6' if SANITIZED else '3'))

# What a test draws from; it says which, so that its run can be repeated. As test_seed() in tests/lib/patience.h.
SEED = int(os.environ.get('BULKHEAD_SEED') or int.from_bytes(os.urandom(4), 'little'))

# As in tests/meson.build, which says why.
os.environ.setdefault('BULKHEAD_SYSCALLS', 'kill')
os.environ.setdefault('TSAN_OPTIONS', 'detect_deadlocks=0')


# The table of processes: (what there is one of for each, name).
_ROWS = re.findall(r'^(PROCESS|DEVICE)\((\w+)', (SOURCE / 'common/config/roles.def').read_text(encoding='utf-8'), re.M)
ROLES_OF_GUEST = [name for kind, name in _ROWS if kind == 'PROCESS']
DEVICE_TYPES = [name for kind, name in _ROWS if kind == 'DEVICE']

# Of a guest with one network device, as most tests have it.
ROLES = (*ROLES_OF_GUEST, 'net')


class Skip(Exception):
    """The machine cannot do what the test needs; the text says what is missing."""


def need_root():
    if os.geteuid() != 0:
        raise Skip('not root: network namespaces and TAP devices cannot be made')


def need_tool(name, package=None):
    path = shutil.which(name) or shutil.which(name, path='/usr/sbin:/sbin')
    if not path:
        raise Skip(f'{name} is missing: apt-get install {package or name}')
    return path


def need_namespaces(*kinds):
    """Root in a container may be refused what root is not."""
    need_root()
    done = subprocess.run([need_tool('unshare', 'util-linux'), *(f'--{kind}' for kind in kinds), 'true'],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Skip(f'namespaces ({", ".join(kinds)}) cannot be made here: {done.stderr.strip()}')


def need_netns():
    need_namespaces('net', 'mount')
    need_tool('ip', 'iproute2')
    if not os.path.exists('/dev/net/tun'):
        raise Skip('/dev/net/tun is missing: this kernel has no TAP devices')


@functools.cache
def prepare(what, limit=600):
    """A directory that tests/system/guest/prepare makes once and keeps. It asks apt what is newest: once is enough."""
    script = SOURCE / 'tests/system/guest/prepare'
    done = subprocess.run([script, what], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=limit)
    if done.returncode != 0:
        raise Skip(f'prepare {what}: ' + ' '.join(done.stderr.split('\n')[-2:]).strip())
    return Path(done.stdout.strip().splitlines()[-1])


def product(name):
    """Path of one of our own programs in the build tree."""
    for place in (*(f'procs/{folder}' for folder in ('launcher', 'ctl', *ROLES_OF_GUEST, *DEVICE_TYPES)), ''):
        path = BUILD / place / name
        if path.is_file():
            return path
    raise Skip(f'{name} is not built in {BUILD} (BULKHEAD_BUILD names the build directory)')
