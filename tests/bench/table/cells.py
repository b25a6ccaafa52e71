"""A cell of the table: contestants that do the same work by turns, and what is read off each turn."""

import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bulkhead_test import env

DRIVER_CPU = 0  # of virtio_user(); a stand-in forwards on the other one
DEVICE_CPU = 1
NICE = -20

OURS = 'ours'
ITSELF = 'itself'  # the same program once more: what it differs by is noise


@dataclass
class Figure:
    """One thing that a turn gives, under this name."""

    name: str
    unit: str
    better: str  # 'higher' or 'lower'
    goals: dict = field(default_factory=dict)  # {peer: the ratio to reach, above 1 = we are better}
    limit: float = None  # what our own figure may not pass

    def ratio(self, ours, theirs):
        """Above 1, ours is better."""
        over, under = (ours, theirs) if self.better == 'higher' else (theirs, ours)
        return over / under if under else None


@dataclass
class Cell:
    """open: {contestant: a context manager of (case, build) that gives a function of seconds, a turn}."""

    group: str
    name: str
    figures: list
    open: dict
    seconds: float = 0.5
    generations: int = 2  # each contestant is started anew for each
    rounds: int = 4       # turns in each generation
    twice: bool = True    # ours runs under two names
    quick: float = 0.1    # seconds of a turn with --quick
    notes: list = field(default_factory=list)  # what stands in the table and was not measured

    def contestants(self):
        found = dict(self.open)
        if self.twice:
            found = {OURS: found[OURS], ITSELF: found[OURS], **found}
        return found


def need_cpus(count=2):
    if (os.cpu_count() or 1) < count:
        raise env.Skip(f'{count} CPUs are needed: one for the driver, one for the device')


def bind(pid, cpu):
    """All threads of a process on one CPU, before others. The kernel shares a CPU among sessions first."""
    group = Path(f'/proc/{pid}/autogroup')
    if group.exists():
        group.write_text(str(NICE), encoding='ascii')
    for task in Path(f'/proc/{pid}/task').iterdir():
        os.sched_setaffinity(int(task.name), {cpu})
        os.setpriority(os.PRIO_PROCESS, int(task.name), NICE)


def cpu_ns(pid):
    """CPU time of all threads, in the kernel and outside."""
    return sum(int((task / 'schedstat').read_text(encoding='ascii').split()[0])
               for task in Path(f'/proc/{pid}/task').iterdir())


@contextmanager
def built_by(build):
    """Programs that are started meanwhile come from this build."""
    before, env.BUILD = env.BUILD, build
    try:
        yield
    finally:
        env.BUILD = before


def on_cpu(cpu, *argv):
    """The command line for a program of our own that is to have a CPU before others."""
    return [env.need_tool('taskset', 'util-linux'), '-c', str(cpu), 'nice', '-n', str(NICE), *map(str, argv)]


def bench_program(build, name):
    """A program of tests/bench."""
    program = Path(build) / 'tests/bench' / name
    if not program.is_file():
        raise env.Skip(f'{name} is not built in {build}')
    return program


def own_program(build, name, *args, limit=120):
    """Output of a program of tests/bench that starts the product itself."""
    program = bench_program(build, name)
    environment = {**os.environ, 'BULKHEAD_BUILD': str(build), 'BULKHEAD_SOURCE': str(env.SOURCE)}
    done = subprocess.run([program, *map(str, args)], capture_output=True, text=True, check=False, env=environment,
                          timeout=limit * env.TIME_FACTOR)
    if done.returncode != 0:
        raise AssertionError(f'{name}: status {done.returncode}: {(done.stdout + done.stderr)[-500:]}')
    return done.stdout


def need_packages():
    """Installs what deploy/packages lists for the bench; a machine that cannot says so, and rows name what they lack."""
    if os.geteuid() != 0 or not shutil.which('apt-get'):
        return 'not root on Debian: nothing was installed'
    done = subprocess.run([env.SOURCE / 'deploy/install-packages', 'bench'], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f'deploy/install-packages bench: {done.stderr.strip()[-200:]}'
