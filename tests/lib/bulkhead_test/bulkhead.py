"""The product: `bulkhead run FILE...`, `bulkhead device net ...` and `bulkheadctl status`."""

import json
import signal
import subprocess

from . import env
from .process import Process, alive, descendants, kill_and_wait
from .report import wait_until


class Device:
    """One [device NAME] section."""

    def __init__(self, name='net0', socket=None, backend='tap', tap='tap0', mac=None, mtu=None, queue_pairs=1,
                 mode='server', generate=None, standby=False, socket_group=None, kind='net', members=None):
        self.name = name
        self.kind = kind
        self.socket = socket
        self.backend = backend
        self.tap = tap
        self.mac = mac
        self.mtu = mtu
        self.queue_pairs = queue_pairs
        self.mode = mode
        self.generate = generate
        self.standby = standby
        self.socket_group = socket_group
        self.members = members or {}

    def section(self):
        pairs = [('type', self.kind), ('socket', self.socket), ('backend', self.backend),
                 ('tap', self.tap if self.backend == 'tap' else None), ('mac', self.mac), ('mtu', self.mtu),
                 ('queue-pairs', self.queue_pairs if self.queue_pairs > 1 else None),
                 ('mode', self.mode if self.mode != 'server' else None), ('generate', self.generate),
                 ('standby', 'yes' if self.standby else None), ('socket-group', self.socket_group), *self.members.items()]
        return '\n'.join([f'[device {self.name}]'] + [f'{key}={value}' for key, value in pairs if value is not None])


def libexec_env():
    """The programs of a build tree lie in a folder each; the launcher is told to look there."""
    return {'BULKHEAD_LIBEXEC': str(env.BUILD / 'procs')}


class Bulkhead:
    """`bulkhead run` with one guest per list of devices, ready when every socket is there."""

    def __init__(self, case, devices=None, netns=None, guests=None, name='bulkhead', options=(), programs=None,
                 shared=True, wrap=()):
        self.case = case
        self.netns = netns
        self.shared = shared
        self.runtime = case.dir / 'run'
        self.guests = guests or {'vm': devices}
        files = []
        for guest, entries in self.guests.items():
            path = case.dir / f'{guest}.conf'
            path.write_text('\n\n'.join(device.section() for device in entries) + '\n')
            files.append(path)
        program = programs / 'bulkhead' if programs else env.product('bulkhead')
        argv = [*wrap, program, 'run', f'--runtime-dir={self.runtime}', *options, *files]
        if netns:
            argv = netns.argv(*map(str, argv))
        self.process = Process(case, name, argv,
                               env={'BULKHEAD_LIBEXEC': str(programs)} if programs else libexec_env())
        self.pid = self.process.pid
        case.defer(self._check_end)
        self.wait_ready()

    def wait_ready(self, limit=15):
        def ready():
            if not self.process.running():
                raise AssertionError(f'bulkhead ended with status {self.process.child.returncode}: '
                                     f'{self.process.output()[-800:]}')
            return all(device.mode == 'client' or env.os.path.exists(device.socket)
                       for devices in self.guests.values() for device in devices)
        wait_until(ready, 'bulkhead listens on every socket', limit)

    def ctl(self, *args, check=True):
        argv = [env.product('bulkheadctl'), f'--runtime-dir={self.runtime}', *args]
        done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL, timeout=20 * env.TIME_FACTOR)
        if check and done.returncode != 0:
            raise AssertionError(f'bulkheadctl {" ".join(args)}: status {done.returncode}: '
                                 f'{done.stdout}{done.stderr}')
        return done.stdout

    def status(self):
        """Healthy or not."""
        return json.loads(self.ctl('status', '--json', check=False))

    def pids(self):
        """Launcher and everything below it."""
        return [self.pid] + descendants(self.pid)

    def processes(self):
        """{command name: [pid]} of all that run."""
        found = {}
        for pid in self.pids():
            try:
                with open(f'/proc/{pid}/comm', encoding='ascii', errors='replace') as comm:
                    found.setdefault(comm.read().strip(), []).append(pid)
            except (FileNotFoundError, ProcessLookupError):
                pass
        return found

    def keeper(self):
        """The process that holds what the guest's other processes store."""
        return self.processes()['(keeper)'][0]

    def pid_of(self, role):
        """The process of one role; a name longer than 15 characters is cut by the kernel.

        A worker's shadow bears its worker's name until it gives itself one.
        """
        def only():
            pids = self.processes().get(f'bulkhead-{role}'[:15], [])
            return pids[0] if len(pids) == 1 else None
        return wait_until(only, f'there is one process of {role}', 10, 0.005)

    def kill(self, role, number=signal.SIGKILL):
        """Kills a process and waits until another one has taken its place."""
        old = self.pid_of(role)
        kill_and_wait(old, number)
        wait_until(lambda: [pid for pid in self.processes().get(f'bulkhead-{role}'[:15], []) if pid != old],
                   f'{role} is started again', 10, 0.005)
        return old

    def workers(self):
        """(pid that serves, pid that stands by) of the first device, once there are both."""
        def both():
            found = [process for guest in self.status()['guests'] for process in guest.get('processes', [])
                     if process['role'] in env.DEVICE_TYPES and process['pid']]
            serving = [process['pid'] for process in found if not process['standby']]
            waiting = [process['pid'] for process in found if process['standby']]
            return (serving[0], waiting[0]) if len(serving) == 1 and len(waiting) == 1 else None
        return wait_until(both, 'one worker serves, one stands by', 10, 0.005)

    def device(self, name='net0', guest=None):
        """What status tells of a device. A guest's socket is there a moment before its frontend can be asked."""
        def told():
            return next((device for entry in self.status()['guests'] if guest in (None, entry['name'])
                         for device in entry['devices'] if device['name'] == name), None)
        return wait_until(told, f'status tells of {name}')

    def device_counters(self, name='net0'):
        return self.device(name)['counters']

    def stop(self):
        """Ends everything in good order: status 0, nobody left, no socket left."""
        pids = self.pids()
        status = self.process.stop(signal.SIGTERM, 10 * env.TIME_FACTOR)
        if status != 0:
            raise AssertionError(f'bulkhead ended with status {status}: {self.process.output()[-800:]}')
        # what unmaps a worker's memory goes a moment after the worker
        wait_until(lambda: not [pid for pid in pids if alive(pid)], f'no process outlives bulkhead: {pids}')

    def _check_end(self):
        """Every test ends by ending Bulkhead well."""
        if self.process.running():
            self.stop()
        if self.shared and 'memory shows nothing' in self.process.output():
            raise AssertionError(f'guest memory is shared: {self.process.output()[-800:]}')
