"""Child processes with a log file, and what /proc says of them."""

import os
import signal
import subprocess
import time

from .report import wait_until


class Process:
    """One program, its output in a file; stop() always ends it, and everything it started in its session."""

    def __init__(self, case, name, argv, stdin=False, env=None, cwd=None, pass_fds=()):
        self.name = name
        self.argv = [str(arg) for arg in argv]
        self.log_path = case.log_path(name)
        self.log = open(self.log_path, 'ab')
        environment = dict(os.environ, **(env or {}))
        self.child = subprocess.Popen(
            self.argv, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL, stdout=self.log,
            stderr=subprocess.STDOUT, env=environment, cwd=cwd, pass_fds=pass_fds, start_new_session=True)
        self.pid = self.child.pid
        case.defer(self.stop)

    def output(self):
        return self.log_path.read_text(errors='replace')

    def running(self):
        return self.child.poll() is None

    def wait_output(self, text, limit=15):
        def seen():
            if text in self.output():
                return True
            if not self.running():
                raise AssertionError(f'{self.name} ended with status {self.child.returncode} '
                                     f'before saying {text!r}: {self.output()[-600:]}')
            return False
        wait_until(seen, f'{self.name} says {text!r}', limit)

    def wait(self, limit=20):
        """Exit status, negative for a signal."""
        wait_until(lambda: not self.running(), f'{self.name} ends', limit)
        return self.child.returncode

    def send_signal(self, number):
        if self.running():
            self.child.send_signal(number)

    def stop(self, number=signal.SIGTERM, limit=10):
        """Asks, waits, then kills. Returns the exit status."""
        if self.running():
            self.child.send_signal(number)
            try:
                self.child.wait(limit)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.child.wait()
        self.log.close()
        return self.child.returncode


def alive(pid):
    try:
        with open(f'/proc/{pid}/stat', encoding='ascii', errors='replace') as stat:
            return stat.read().rsplit(')', 1)[1].split()[0] not in 'ZX'
    except (FileNotFoundError, ProcessLookupError):
        return False


def fds(pid):
    """Open descriptors of a process: {number: target}."""
    result = {}
    for name in os.listdir(f'/proc/{pid}/fd'):
        try:
            result[int(name)] = os.readlink(f'/proc/{pid}/fd/{name}')
        except FileNotFoundError:
            pass
    return result


def rss_bytes(pid):
    """Private memory: what a leak in this process adds to. Shared guest memory is not counted."""
    with open(f'/proc/{pid}/status', encoding='ascii', errors='replace') as status:
        for line in status:
            if line.startswith('RssAnon:'):
                return int(line.split()[1]) * 1024
    return 0


def descendants(pid):
    """Every living process below pid, pid left out."""
    children = {}
    for name in os.listdir('/proc'):
        if name.isdigit():
            try:
                with open(f'/proc/{name}/stat', encoding='ascii', errors='replace') as stat:
                    parent = int(stat.read().rsplit(')', 1)[1].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(name))
    found, todo = [], [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            found.append(child)
            todo.append(child)
    return found


def doing(pid):
    """What program a process runs, and where each of its threads waits in the kernel."""
    try:
        found = [os.readlink(f'/proc/{pid}/exe')]
        for thread in sorted(os.listdir(f'/proc/{pid}/task')):
            for name in ('wchan', 'syscall'):
                with open(f'/proc/{pid}/task/{thread}/{name}', encoding='ascii') as file:
                    found.append(file.read().strip())
        return ', '.join(found)
    except OSError as error:
        return str(error)


def kill_and_wait(pid, number=signal.SIGKILL, limit=20.0):
    os.kill(pid, number)
    end = time.monotonic() + limit
    while alive(pid):
        if time.monotonic() > end:
            raise AssertionError(f'process {pid} outlived signal {number} by {limit} s: {doing(pid)}')
        time.sleep(0.002)
