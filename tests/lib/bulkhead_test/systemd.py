"""A real systemd as PID 1, in namespaces of its own, with the units as they are installed."""

import os
import shutil
import signal
import subprocess

from . import env
from .netns import Netns
from .process import Process
from .report import wait_until


def units(kind, name):
    """Of a guest with that one device."""
    return {**{role: f'bulkhead-{role}@vm1' for role in env.ROLES_OF_GUEST}, kind: f'bulkhead-{kind}@vm1:{name}'}


UNITS = units('net', 'net0')


class Inside(Netns):
    """The network namespace of that systemd."""

    def __init__(self, case, init):
        env.need_netns()
        self.case = case
        self.init = init

    def argv(self, *args):
        return ['nsenter', '-t', str(self.init), '-n', *args]

    def place(self):
        return f'/proc/{self.init}/ns/net'


class Systemd:
    """A systemd in namespaces of its own, with what `meson install` installs."""

    def __init__(self, case, config, taps=(), install=None, tap_user=None, device=('net', 'net0'),
                 package=None, tree='/'):
        """install: what another release has installed; its TAPs belong to tap_user. package: a file for dpkg instead.
        tree: a file system other than this machine's."""
        env.need_namespaces('pid', 'fork', 'mount', 'uts', 'ipc', 'cgroup', 'net')
        if not os.access('/sys/fs/cgroup', os.W_OK):
            raise env.Skip('/sys/fs/cgroup cannot be written: systemd could not make a group for each unit')
        if not os.path.exists('/lib/systemd/systemd'):
            raise env.Skip('systemd is not installed')
        self.case = case
        self.units = units(*device)
        (case.dir / 'vm1.conf').write_text(config)
        if install is None:
            install = case.dir / 'install'
            install.mkdir(exist_ok=True)
            if package is None:
                self._install(install)
        self.process = Process(case, 'systemd', [env.SOURCE / 'tests/system/systemd-boot', case.dir, install, tree])
        self.init = wait_until(self._find_init, 'systemd runs', 20)
        case.defer(self._end)
        wait_until(lambda: self.run('systemctl', 'is-system-running', check=False) in ('running', 'degraded'),
                   'systemd has booted', 30)
        if package is None:
            self.run('systemd-sysusers', '/usr/lib/sysusers.d/bulkhead.conf')
            self.run('systemd-tmpfiles', '--create', '/usr/lib/tmpfiles.d/bulkhead.conf')
        for tap in taps:
            self.run('ip', 'tuntap', 'add', 'dev', tap, 'mode', 'tap', 'vnet_hdr', 'user', tap_user or self.user('vm1:net0'))
            self.netns().set_up(tap)
        if package is None:
            self.run('systemctl', 'daemon-reload')
            self.run('systemctl', 'start', 'bulkhead.target')
        else:
            self.run('rm', '-f', '/usr/sbin/policy-rc.d')  # with which a container forbids packages to start anything
            self.install_package(package)

    def install_package(self, package):
        shutil.copy(package, self.path('/run/package.deb'))
        return self.dpkg('--install', '/run/package.deb')

    def dpkg(self, *argv):
        """Without what other packages would do about it, such as an index of all manual pages."""
        return self.run('dpkg', '--force-unsafe-io', '--no-triggers', *argv)

    def _install(self, directory):
        subprocess.run(['meson', 'install', '-C', env.BUILD, '--no-rebuild', '--quiet'], check=True, capture_output=True,
                       env={**os.environ, 'DESTDIR': str(directory)})

    def install(self):
        """This build in the place of what was installed, each file beside and renamed, as a package manager does."""
        beside = self.case.dir / 'beside'
        self._install(beside)
        subprocess.run(['cp', '-a', '--remove-destination', f'{beside}/.', self.path('/')], check=True)

    def host_pid(self, role):
        """The same process as pid() names, by its number out here."""
        return self.host_pid_of(self.units[role])

    def host_pid_of(self, unit):
        inside = int(self.run('systemctl', 'show', '-p', 'MainPID', '--value', unit))
        for pid in below(self.process.pid):
            try:
                with open(f'/proc/{pid}/status', encoding='ascii', errors='replace') as status:
                    numbers = [line.split()[1:] for line in status if line.startswith('NSpid:')]
            except FileNotFoundError:
                continue
            if numbers and int(numbers[0][-1]) == inside:
                return pid
        raise AssertionError(f'{unit}, pid {inside} in there, is not below {self.process.pid}')

    def user(self, name):
        """The number of the user that GUEST:DEVICE, or GUEST:memory and GUEST:frontend, runs as."""
        guest, _, peer = name.partition(':')
        ctl = env.product('bulkheadctl')
        if peer not in env.ROLES_OF_GUEST:
            return subprocess.check_output([ctl, 'user', name], text=True).strip()
        return dict(line.split() for line in subprocess.check_output([ctl, 'user', guest], text=True).splitlines())[peer]

    def _find_init(self):
        """PID 1 of the namespaces: the only child of unshare, once it is systemd."""
        for pid in below(self.process.pid):
            try:
                if os.readlink(f'/proc/{pid}/exe').endswith('/systemd'):
                    return pid
            except OSError:
                pass
        return None

    def _end(self):
        self.process.stop(signal.SIGKILL)
        shutil.rmtree(self.case.dir / 't', ignore_errors=True)

    def run(self, *argv, check=True, text=None):
        done = subprocess.run(['nsenter', '-t', str(self.init), '-p', '-m', '-u', '-i', '-C', '-n', '-r', '-w', *argv],
                              capture_output=True, text=True, timeout=60 * env.TIME_FACTOR, check=False, input=text)
        if check and done.returncode != 0:
            raise AssertionError(f'{" ".join(argv)}: {done.stdout}{done.stderr}')
        return done.stdout.strip()

    def path(self, path):
        """A path of its file system, as it is seen from here."""
        return f'/proc/{self.init}/root{path}'

    def netns(self):
        return Inside(self.case, self.init)

    def stored(self, role):
        return int(self.run('systemctl', 'show', '-p', 'NFileDescriptorStore', '--value', self.units[role]))

    def all_there(self, but=(), faulty=False):
        """Every process serves, and memory knows all of them; but: what an earlier release does not have; faulty: the
        guest's file is, which makes it unhealthy."""
        units = [unit for role, unit in self.units.items() if role not in but]

        def there():
            status = self.run('bulkheadctl', 'status', check=False)
            return status.count(' pid ') == len(units) and 'not there' not in status and ('NOT HEALTHY' in status) == faulty and all(
                self.run('systemctl', 'is-active', unit, check=False) == 'active' for unit in units)
        wait_until(there, 'every process serves', 30)

    def all_there_of(self, guests):
        """Every process of each guest serves; guests: {GUEST: how many devices}."""
        for guest, n_devices in guests.items():
            def there(guest=guest, n=n_devices + len(env.ROLES_OF_GUEST)):
                status = self.run('bulkheadctl', 'status', guest, check=False)
                return status.count(' pid ') == n and 'not there' not in status
            wait_until(there, f'every process of {guest} serves', 30)

    def pid(self, role):
        return int(self.run('systemctl', 'show', '-p', 'MainPID', '--value', self.units[role]))

    def kill(self, role):
        """SIGKILL to the process of that role, once there is one: systemd may not have seen yet that the last one ended.
        Returns its number."""
        def killed():
            pid = self.pid(role)
            return pid if pid and 'killed' in self.run('sh', '-c', f'kill -9 {pid} && echo killed', check=False) else None
        return wait_until(killed, f'a process of {role} is there', 30)

    def kill_and_wait(self, role):
        """kill(), until systemd has started another one."""
        pid = self.kill(role)
        wait_until(lambda: self.pid(role) not in (0, pid), f'{role} is started again', 20)


def below(pid):
    children = subprocess.run(['pgrep', '-P', str(pid)], capture_output=True, text=True, check=False).stdout.split()
    for child in children:
        yield int(child)
        yield from below(int(child))
