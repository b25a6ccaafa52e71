"""The control plane: from connecting to the first frame, changes of a running device, and what a worker's death costs."""

import re
import subprocess
from contextlib import contextmanager
from functools import partial

import outage
from bulkhead_test import env

from .cells import OURS, Cell, Figure, built_by, own_program

FRONT_ENDS = ('qemu72-tp-tap22', 'qemu11-tp-tap22', 'uml-passt', 'virtio_user22', 'virtio_user25')
CHANGES = ('call', 'stop', 'start')
FLOOR = 'a bare program'


@contextmanager
def handshake(case, build):
    """The medians that bench-handshake prints stand behind the best; of one time they are one."""
    del case

    def turn(_):
        output = own_program(build, 'bench-handshake', 1)
        found = {}
        for name in FRONT_ENDS:
            words = re.search(rf'^{re.escape(name)} +(.*)$', output, re.M).group(1).split()
            found[name] = float(words[2])
        return found
    yield turn


@contextmanager
def changes(case, build):
    del case

    def turn(seconds):
        output = own_program(build, 'bench-change', max(5, int(seconds * 100)))
        return {name: float(re.search(rf'^{name} +\S+ +(\S+)', output, re.M).group(1)) for name in CHANGES}
    yield turn


@contextmanager
def killed(case, build, standby=False):
    with built_by(build):
        place = outage.Launcher(case, standby)
        line = place.front_end('256')
    roles = [('net', False), ('net', True)] if standby else [('net', False)]
    dead = []

    def turn(_):
        pid = place.settled(roles, dead)[('net', False)]
        line.touch()
        took = line.cut(pid)[0]
        dead[:] = [pid]
        return {'outage': took / 1e6}
    yield turn
    line.close()


@contextmanager
def floor(case, _):
    def turn(_):
        argv = [env.BUILD / 'tests/bench/bench-floor', 'keep', case.dir / 'floor.sock', '1']
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30 * env.TIME_FACTOR)
        return {'outage': int(done.stdout) / 1e6}
    yield turn


def cells():
    yield Cell('control', 'connect to first frame, as', [Figure(name, 'ms', 'lower') for name in FRONT_ENDS], {OURS: handshake},
               generations=1, rounds=8, twice=False)
    yield Cell('control', 'change of a running ring', [Figure(name, 'ms', 'lower') for name in CHANGES], {OURS: changes},
               generations=1, rounds=8, twice=False)
    for standby in (False, True):
        yield Cell('control', 'worker with a standby killed' if standby else 'worker killed',
                   [Figure('outage', 'ms', 'lower', {FLOOR: None})],
                   {OURS: partial(killed, standby=standby), FLOOR: floor}, generations=1, rounds=8)
