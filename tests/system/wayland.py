#!/usr/bin/env python3
"""A guest's windows on the host's compositor: unmodified clients through a guest that is our front-end, and through QEMU.

A screenshot is compared, pixel by pixel, with that of the same client on the same compositor itself. What one boot of
QEMU's guest shows is tried with our front-end as well with BULKHEAD_FULL=1, and by name.
"""

import hashlib
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.bulkhead import Bulkhead, Device
from bulkhead_test.keeper import Keeper
from bulkhead_test.qemu import Qemu, WlDevice
from bulkhead_test.report import case, main, wait_until
from bulkhead_test.systemd import Systemd
from bulkhead_test.wayland import BACKGROUND, GuestProxy, Proxy, Sway, Weston, paint_program, settle

PICTURE = '/usr/share/weston/sidebyside.png'
TILES = 30  # libwayland sends the descriptors of 28 pools in one message
ROLES = (*env.ROLES_OF_GUEST, 'wl')
KILLS = 200 if env.FULL else 12


def serve(current, **compositors):
    """The product with a device whose compositors these are, by name; the one named wayland has no name."""
    members = {'wayland' if name == 'wayland' else f'wayland.{name}': compositor.socket for name, compositor in compositors.items()}
    device = Device('wl0', str(current.dir / 'wl0.sock'), None, kind='wl', members=members)
    return Bulkhead(current, [device]), device.socket


def direct(current, *client):
    """A screenshot of a client on a compositor of its own."""
    weston = Weston(current, f'direct-{time.monotonic_ns()}')
    process = weston.client('direct-client', *client)
    picture = shown(weston)
    process.stop()
    weston.process.stop()
    return picture


def shown(weston):
    """Once the window is there, a picture that does not change any more."""
    weston.wait_window()
    return settle(weston.shot)


def check_same(current, picture, *client):
    n = picture.differing(direct(current, *client))
    assert not n, f'{n} pixels differ from those of the client on the compositor itself'
    left, top, right, bottom = picture.box(BACKGROUND)
    current.note(f'{right - left + 1}x{bottom - top + 1} pixels are the same.')


def check_black(picture):
    """The window is there, and nothing is in it."""
    left, top, right, bottom = picture.box(BACKGROUND)
    assert {row[3 * left:3 * right + 3] for row in picture.rows[top:bottom + 1]} == {bytes(3 * (right - left + 1))}


# --- The front-end is ours ---

@case('wayland-info', 60)
def info(current):
    """The compositor says the same to both."""
    weston = Weston(current)
    _, socket = serve(current, wayland=weston)
    proxy = Proxy(current, socket)
    there = proxy.run('wayland-info')
    assert there == weston.run('wayland-info'), there.decode()
    current.note(f'{len(there)} bytes')


def same_picture(current, *client):
    weston = Weston(current)
    _, socket = serve(current, wayland=weston)
    process = Proxy(current, socket).client('client', *client)
    picture = shown(weston)
    process.stop()
    wait_until(weston.is_empty, 'the window goes with its client', 30)
    weston.process.stop()
    check_same(current, picture, *client)


@case('wayland-image', 90)
def image(current):
    env.need_tool('weston-image', 'weston')
    same_picture(current, 'weston-image', PICTURE)


@case('wayland-tiles', 90, ordinary=False)
def tiles(current):
    same_picture(current, paint_program(), '--still', '--tiles', TILES)


@case('wayland-simple-shm', 90, ordinary=False)
def simple_shm(current):
    """It is animated: it covers the same pixels, and others of them each time."""
    weston = Weston(current)
    _, socket = serve(current, wayland=weston)
    Proxy(current, socket).client('client', 'weston-simple-shm')
    weston.wait_window()
    first = weston.shot()
    check_animated(current, weston, first)


def check_animated(current, weston, first):
    wait_until(lambda: weston.shot().differing(first), 'it moves', 30)
    other = Weston(current, 'direct')
    other.client('direct-client', 'weston-simple-shm')
    other.wait_window()
    expected = other.shot().box(BACKGROUND)
    other.process.stop()
    assert first.box(BACKGROUND) == expected, f'at {first.box(BACKGROUND)}; on the compositor itself at {expected}'


@case('wayland-without-maps', 60)
def without_maps(current):
    """What the other cases rest on: nothing is shown of memory that the VMM has not mapped."""
    weston = Weston(current)
    _, socket = serve(current, wayland=weston)
    Proxy(current, socket, options=['--no-map']).client('client', paint_program(), '--still')
    check_black(shown(weston))


@case('wayland-compositor-killed', 60)
def compositor_killed(current):
    """The guest's client hears of it; the next one is shown by the next compositor."""
    weston = Weston(current)
    _, socket = serve(current, wayland=weston)
    proxy = Proxy(current, socket)
    paint, process = proxy.paint()
    paint.wait_frame(5)
    weston.process.stop(9)
    wait_until(lambda: 'the compositor is gone' in paint.said(), 'the client is told', 30)
    assert process.wait() == 3
    weston.socket.unlink()
    weston.start()
    paint, _ = proxy.paint(name='paint-again')
    paint.wait_frame(5)


# --- Keys and the clipboard ---

def typed(log):
    """What a client was told of the last text: its keymap and the keys."""
    lines = log().splitlines()
    keys_heard = [line for line in lines if line.startswith('key ')]
    return [line for line in lines if line.startswith('keymap')][-1:] + keys_heard


def keys_through(sway, log, text):
    wait_until(lambda: 'enter' in log(), 'the window has the keyboard', 30)
    sway.type(text)
    wait_until(lambda: len(typed(log)) == 1 + 2 * len(text), f'the keys arrive: {log()[-300:]}', 30)
    return typed(log)


@case('wayland-keys', 90, ordinary=False)
def keys(current):
    sway = Sway(current)
    _, socket = serve(current, wayland=sway)
    proxy = Proxy(current, socket)
    sway.hold_keyboard()
    heard = []
    for name, start in (('direct', sway.client), ('guest', proxy.client)):
        process = start(name, paint_program(), '--keys', '--still')
        heard.append(keys_through(sway, process.output, 'bulkhead'))
        process.stop()
    assert heard[0] == heard[1], f'{heard[0]} directly, {heard[1]} through the device'
    current.note(f'{len(heard[1])} lines are the same')


def offered(sway):
    """The types of what is in the clipboard, if anything is."""
    return sway.run('sh', '-c', 'wl-paste --list-types || true').decode()


@case('wayland-clipboard', 90, ordinary=False)
def clipboard(current):
    """Both ways, more than a pipe holds."""
    sway = Sway(current)
    _, socket = serve(current, wayland=sway)
    proxy = Proxy(current, socket)
    for name, copy, paste in (('host', sway, proxy), ('guest', proxy, sway)):
        data, kind = random.randbytes(3 << 20), f'application/from-{name}'
        path = current.dir / name
        path.write_bytes(data)
        copy.client(f'wl-copy-{name}', 'sh', '-c', f'exec wl-copy --foreground --type {kind} < {path}')
        wait_until(lambda kind=kind: kind in offered(sway), f'{kind} is in the clipboard', 30)
        assert paste.run('wl-paste', '--no-newline', '--type', kind, limit=60) == data, f'the clipboard of the {name}'


# --- Kills ---

def kill_storm(keeper, paint):
    """Each in turn, and all at once: the counter goes on each time."""
    killed, longest = 0, 0.0
    rounds = [[role] for role in ROLES] + [list(ROLES)]
    while killed < KILLS:
        for roles in rounds:
            start = time.monotonic()
            wait_until(lambda roles=roles: keeper.kill(roles), f'there is {roles} to kill', 30)
            killed += len(roles)
            paint.wait_frame(3, 60)
            longest = max(longest, time.monotonic() - start)
    return killed, longest


@case('wayland-kills-launcher', 900)
def kills_launcher(current):
    weston = Weston(current)
    product, socket = serve(current, wayland=weston)
    storm(current, weston, socket, Keeper(product.pid, None))


def storm(current, weston, socket, keeper):
    proxy = Proxy(current, socket)
    paint, process = proxy.paint('--tiles', TILES)
    paint.wait_frame(5)
    killed, longest = kill_storm(keeper, paint)
    assert process.running() and proxy.process.running(), paint.said()[-300:] + proxy.process.output()[-300:]
    check_counter(weston, paint)
    current.note(f'{killed} kills, frame {paint.frame()}, at most {longest:.1f} s for the next three')


@case('wayland-kills-systemd', 900)
def kills_systemd(current):
    system = Systemd(current, '[device wl0]\ntype = wl\nsocket = /run/vm1/wl0.sock\nwayland = /run/weston/wayland-0\n',
                     device=('wl', 'wl0'))
    system.all_there()
    storm(current, Weston(current, directory=Path(system.path('/run/weston'))), system.path('/run/vm1/wl0.sock'),
          Keeper(system.process.pid, system.all_there))


def check_counter(weston, paint):
    """The counter in the pixels is the one that the client speaks of."""
    before = paint.frame()
    picture = weston.shot()
    left, top, _, _ = picture.box(BACKGROUND)
    bits = [picture.pixel(left + 8 * i + 4, top + 4) for i in range(32)]
    assert set(bits) <= {b'\0\0\0', b'\xff\xff\xff'}, bits
    count = sum(1 << i for i, colour in enumerate(bits) if colour != b'\0\0\0')
    assert before <= count <= paint.frame() + 1, f'the picture shows {count}, the client painted {before} to {paint.frame()}'


# --- A guest in QEMU ---

def boot(current, **compositors):
    _, socket = serve(current, **compositors)
    vm = Qemu(current, [WlDevice(socket)], 'newest', guest='guest-wl')
    vm.wait_boot(120)
    return vm


# It has no more than 8 places for what it tells of its memory, and says so for each map beyond; and what is new to it.
QEMU_SAYS = ('vhost_set_mem_table failed', 'Failed preparing vhost-user memory table', 'is deprecated')


def check_qemu(vm):
    said = [line for line in vm.process.output().splitlines() if not any(text in line for text in QEMU_SAYS)]
    assert vm.process.running() and not said, said
    vm.quit()


def shows(weston, guest, *options):
    """A still picture of wl-paint in the guest."""
    guest.start('still', f'wl-paint --still {" ".join(map(str, options))}')
    return shown(weston)


def ends(weston, guest, program):
    guest.stop(program)
    wait_until(weston.is_empty, 'the window goes with its client', 60)


# uses: wl:VERSION_1 wl:PROTOCOL_FEATURES wl:USE_SHMEM protocol:SHMEM protocol:BACKEND_SEND_FD
@case('wayland-qemu', 600)
def qemu(current):
    """One boot for all, since it is what takes long."""
    weston, sway = Weston(current), Sway(current)
    vm = boot(current, wayland=weston, sway=sway)
    guest = GuestProxy(vm, ['sway'])
    guest_unmodified(current, weston, guest)
    guest_tiles(current, weston, guest)
    guest_keys(sway, guest)
    guest_clipboard(sway, guest)
    guest_compositor(weston, guest)
    guest_pauses(weston, guest, vm)
    guest = guest_reboots(current, weston, guest, vm)
    guest_without_maps(weston, guest)
    check_qemu(vm)


def guest_unmodified(current, weston, guest):
    there = guest.run('wayland-info')
    assert there == weston.run('wayland-info').decode(), there
    guest.start('simple-shm', 'weston-simple-shm')
    weston.wait_window()
    check_animated(current, weston, weston.shot())
    ends(weston, guest, 'weston-simple-shm')
    weston.restart()


def guest_compositor(weston, guest):
    """The guest's client hears that it was killed, and the next client is shown by the next compositor."""
    paint = guest.paint()
    paint.wait_frame(3, 60)
    weston.process.stop(9)
    wait_until(lambda: 'ended with 3' in paint.said(), 'the client is told', 60)
    weston.socket.unlink()
    weston.start()


def guest_tiles(current, weston, guest):
    picture = shows(weston, guest, '--tiles', TILES)
    check_same(current, picture, paint_program(), '--still', '--tiles', TILES)
    ends(weston, guest, 'wl-paint')


def guest_pauses(weston, guest, vm):
    """Few buffers: QEMU 11.1 does not start a device again that has mapped more than it can tell of in one message."""
    paint = guest.paint()
    for _ in range(10):
        paint.wait_frame(3, 60)
        vm.qmp.command('stop')
        vm.qmp.command('cont')
    paint.wait_frame(3, 60)
    check_counter(weston, paint)


def guest_reboots(current, weston, guest, vm):
    """With its windows open, and all their buffers mapped."""
    guest.paint('--tiles', TILES, name='tiles').wait_frame(3, 60)
    vm.reboot(120)
    guest = GuestProxy(vm)
    wait_until(weston.is_empty, 'the window goes when the driver of the next boot starts', 60)
    weston.restart()
    guest_tiles(current, weston, guest)
    return guest


def guest_without_maps(weston, guest):
    """Were the memory of the device's region not what the guest's clients paint in, all of this would fail."""
    guest.stop('wl-proxy')
    check_black(shows(weston, GuestProxy(guest.vm, options=['--no-map'])))


def guest_keys(sway, guest):
    sway.hold_keyboard()
    process = sway.client('direct', paint_program(), '--keys', '--still')
    expected = keys_through(sway, process.output, 'guest')
    process.stop()
    guest.paint('--keys', '--still', name='keys', compositor='sway')
    heard = keys_through(sway, lambda: guest.said('keys'), 'guest')
    assert heard == expected, f'{expected} directly, {heard} in the guest'
    guest.stop('wl-paint')


def guest_clipboard(sway, guest):
    sway.client('wl-copy-host', 'wl-copy', '--foreground', '--type', 'text/from-host', 'from the host')
    wait_until(lambda: 'text/from-host' in guest.run('wl-paste --list-types || true', 'sway'), 'the guest is offered it', 30)
    assert guest.run('wl-paste --no-newline --type text/from-host', 'sway') == 'from the host'
    guest.run('cat /proc/kallsyms > /tmp/symbols')
    guest.start('wl-copy', 'wl-copy --foreground --type text/from-guest < /tmp/symbols', 'sway')
    wait_until(lambda: 'text/from-guest' in offered(sway), 'the host is offered it', 30)
    there = guest.run('sha256sum < /tmp/symbols', limit=120).split()[0]
    pasted = sway.run('wl-paste', '--no-newline', '--type', 'text/from-guest', limit=120)
    assert hashlib.sha256(pasted).hexdigest() == there, f'{len(pasted)} bytes are not those of the guest'


if __name__ == '__main__':
    main()
