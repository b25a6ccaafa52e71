"""Compositors without a screen, and Wayland clients: Debian's own, and one that paints what can be recognized."""

import os
import re
import subprocess
import time

from . import env
from .png import Image
from .process import Process
from .report import wait_until

BACKGROUND = bytes((0x20, 0x40, 0x60))
SIZE = (640, 480)

WESTON_INI = """[core]
shell=desktop-shell.so
idle-time=0
[shell]
panel-position=none
background-color=0xff204060
background-type=tile
animation=none
startup-animation=none
close-animation=none
locking=false
"""

SWAY_CONFIG = """output HEADLESS-1 resolution 640x480
xwayland disable
"""


class Compositor:
    """One that listens in a directory of its own, which stands for a user's XDG_RUNTIME_DIR."""

    def __init__(self, case, name, directory=None):
        self.case = case
        self.name = name
        self.dir = directory or case.dir / name
        self.dir.mkdir(mode=0o755)
        self.n_starts = 0
        self.n_shots = 0

    def _serve(self, argv, socket, environment=None):
        self.n_starts += 1
        self.process = Process(self.case, f'{self.name}-{self.n_starts}', argv,
                               env={'XDG_RUNTIME_DIR': str(self.dir), **(environment or {})})
        self.socket = self.dir / socket
        wait_until(lambda: self.socket.exists() or not self.process.running(), f'{self.name} listens', 30)
        assert self.process.running(), self.process.output()[-500:]
        # whoever carries a guest's connections is another user
        os.chmod(self.socket, 0o777)

    def client(self, name, *argv, **options):
        """A client that runs on it directly."""
        return client(self.case, name, self.socket, *argv, **options)

    def run(self, *argv, **options):
        return run(self.socket, *argv, **options)


class Weston(Compositor):
    def __init__(self, case, name='weston', directory=None, size=SIZE):
        super().__init__(case, name, directory)
        self.size = size
        env.need_tool('weston')
        (self.dir / 'weston.ini').write_text(WESTON_INI)
        self.start()

    def start(self):
        width, height = self.size
        self._serve(['weston', '--backend=headless-backend.so', '--use-pixman', f'--width={width}', f'--height={height}',
                     '--socket=wayland-0', '--debug', f'--config={self.dir}/weston.ini'], 'wayland-0')
        wait_until(lambda: self.shot().box(BACKGROUND) is None, 'weston has a background', 30)
        self.empty = self.shot()

    def wait_window(self):
        """Until a client has one. A weston puts its first windows always at the same places."""
        wait_until(lambda: not self.is_empty(), 'a window appears on the host', 60)

    def is_empty(self):
        return self.shot().same(self.empty)

    def restart(self):
        self.process.stop()
        self.start()

    def shot(self, keep=None):
        """A screenshot; keep: where its file goes."""
        self.n_shots += 1
        place = self.dir / f'shot{self.n_shots}'
        place.mkdir()
        self.run('weston-screenshooter', cwd=place)
        path = next(place.glob('*.png'))
        image = Image(path)
        if keep:
            path.rename(keep)
        return image


class Sway(Compositor):
    """Refuses root; has a keyboard while wtype runs, and a clipboard."""

    USER = 1000

    def __init__(self, case, name='sway'):
        super().__init__(case, name)
        for tool in ('sway', 'wtype', 'wl-copy'):
            env.need_tool(tool, {'wl-copy': 'wl-clipboard'}.get(tool))
        (self.dir / 'config').write_text(SWAY_CONFIG)
        os.chown(self.dir, self.USER, self.USER)
        self._serve(['setpriv', f'--reuid={self.USER}', f'--regid={self.USER}', '--clear-groups',
                     'sway', '-c', self.dir / 'config'],
                    'wayland-1', {'WLR_BACKENDS': 'headless', 'WLR_RENDERER': 'pixman', 'WLR_LIBINPUT_NO_DEVICES': '1',
                                  'HOME': str(self.dir)})
        self.keyboard = None

    def hold_keyboard(self):
        """The seat has one from now on: who waits for it has it before the first key."""
        self.keyboard = self.client('wtype', 'wtype', '-s', '10000000', 'x')

    def type(self, text):
        self.run('wtype', '-d', '20', text)


def environment(socket):
    """A socket anywhere is reached by its path."""
    return dict(os.environ, XDG_RUNTIME_DIR=str(socket.parent), WAYLAND_DISPLAY=str(socket))


def run(socket, *argv, limit=30, data=None, **options):
    done = subprocess.run([str(arg) for arg in argv], env=environment(socket), input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=limit * env.TIME_FACTOR, check=False, **options)
    if done.returncode != 0:
        raise AssertionError(f'{" ".join(map(str, argv))}: status {done.returncode}: {done.stdout + done.stderr}')
    return done.stdout


def client(case, name, socket, *argv):
    return Process(case, name, argv, env={'XDG_RUNTIME_DIR': str(socket.parent), 'WAYLAND_DISPLAY': str(socket)})


def paint_program():
    path = env.BUILD / 'tests/system/wl-paint'
    if not path.is_file():
        raise env.Skip('wl-paint is not built: libwayland-dev and wayland-protocols are missing')
    return path


def frames(text):
    """The counter of a wl-paint by what it said."""
    found = re.findall(r'^frame (\d+)$', text, re.M)
    return int(found[-1]) if found else -1


class Paint:
    """wl-paint, on a compositor or through a guest; said: what it has said so far."""

    def __init__(self, said):
        self.said = said

    def frame(self):
        return frames(self.said())

    def wait_frame(self, more=1, limit=30):
        """Until it has painted so many more."""
        start = self.frame()
        wait_until(lambda: self.frame() >= start + more, f'the counter goes on from {start}: {self.said()[-300:]}', limit)


class Proxy:
    """Clients of a guest that is our front-end."""

    def __init__(self, case, device, name='proxy', options=()):
        self.case = case
        self.dir = case.dir / name
        self.dir.mkdir(mode=0o755)
        self.socket = self.dir / 'wayland-0'
        self.process = Process(case, name, [env.BUILD / 'tests/system/wl-proxy', *options, device, self.socket])
        self.process.wait_output('serves')

    def client(self, name, *argv):
        return client(self.case, name, self.socket, *argv)

    def run(self, *argv, **options):
        return run(self.socket, *argv, **options)

    def paint(self, *options, name='paint'):
        process = self.client(name, paint_program(), *options)
        return Paint(process.output), process


class GuestProxy:
    """Clients of a real guest, booted from `prepare guest-wl`. Names: of the compositors; there is a socket for each."""

    DIR = '/run/wayland'

    def __init__(self, vm, names=(), options=()):
        self.vm = vm
        self.guest = vm.guest
        sockets = [f'{self.DIR}/wayland-0', *(f'{self.DIR}/{name}={name}' for name in names)]
        self.guest.run(f'mkdir -p {self.DIR}')
        self.start('wl-proxy', f'wl-proxy {" ".join(options)} {vm.devices[0].VIRTIO_ID} {" ".join(sockets)}')
        wait_until(lambda: 'serves' in self.said('wl-proxy'), 'the guest has a Wayland socket', 30)

    def start(self, name, command, compositor='wayland-0'):
        """Beside what else runs; its output goes to a file."""
        self.guest.run(f'(export XDG_RUNTIME_DIR={self.DIR} WAYLAND_DISPLAY={compositor}; echo > /tmp/{name}.log; '
                       f'{{ {command}; }} >> /tmp/{name}.log 2>&1 </dev/null; echo "ended with $?" >> /tmp/{name}.log) >/dev/null 2>&1 &')

    def said(self, name):
        return self.guest.run(f'tail -c 4096 /tmp/{name}.log', 60)

    def run(self, command, compositor='wayland-0', limit=60):
        return self.guest.run(f'export XDG_RUNTIME_DIR={self.DIR} WAYLAND_DISPLAY={compositor}; {command}', limit)

    def stop(self, program):
        """Each of that name, whoever started it."""
        self.guest.run(f'killall {program}; while pidof {program}; do sleep 0.1; done', 60)

    def paint(self, *options, name='wl-paint', compositor='wayland-0'):
        self.start(name, f'wl-paint {" ".join(map(str, options))}', compositor)
        return Paint(lambda: self.said(name))


def settle(shot, same=2, limit=30):
    """A screenshot of what has come to rest."""
    end = time.monotonic() + limit * env.TIME_FACTOR
    last, n_same = shot(), 1
    while n_same < same:
        assert time.monotonic() < end, 'the picture does not come to rest'
        now = shot()
        n_same = n_same + 1 if now.same(last) else 1
        last = now
    return last
