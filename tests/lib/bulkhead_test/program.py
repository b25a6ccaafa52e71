"""The product as management software starts it: `bulkhead device net`."""

import os
import signal
import subprocess
from pathlib import Path

from . import env
from .bulkhead import libexec_env
from .process import Process, descendants
from .report import wait_until


class Program:
    """One `bulkhead device net`, up when the constructor returns."""

    def __init__(self, current, *options, netns=None, pass_fds=(), cwd=None, name='device'):
        self.case = current
        self.runtime = current.dir / 'run'
        argv = [str(env.product('bulkhead')), 'device', 'net', f'--runtime-dir={self.runtime}', *options]
        self.process = Process(current, name, netns.argv(*argv) if netns else argv, env=libexec_env(),
                               pass_fds=pass_fds, cwd=cwd)
        self.process.wait_output('is served')

    def ctl(self, *args):
        done = subprocess.run([env.product("bulkheadctl"), f"--runtime-dir={self.runtime}", *args], check=False,
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ends_well(self):
        """Status 0, with nobody and nothing left."""
        pids = descendants(self.process.pid)
        assert self.process.stop(signal.SIGTERM) == 0, self.process.output()
        self.check_gone(pids)

    def check_gone(self, pids):
        # what unmaps a worker's memory goes a moment after the worker
        wait_until(lambda: not [pid for pid in pids if os.path.exists(f'/proc/{pid}')], 'no process is left')
        assert not list(self.runtime.iterdir()), f'left in its directory: {list(self.runtime.iterdir())}'


def children(program, role):
    return [pid for pid in descendants(program.process.pid) if comm(pid) == f'bulkhead-{role}'[:15]]


def comm(pid):
    try:
        return Path(f'/proc/{pid}/comm').read_text(encoding='ascii').strip()
    except (FileNotFoundError, ProcessLookupError):
        return None


def child(program, role):
    pids = children(program, role)
    assert len(pids) == 1, f'{role}: {pids}'
    return pids[0]
