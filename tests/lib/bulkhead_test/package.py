"""The Debian package, as deploy/debian/build makes it."""

import os
import subprocess

from . import env


def build(case, name, **environment):
    """Into a folder of the case; BULKHEAD_BUILD packs that build as it is."""
    for tool, package in (('dpkg-buildpackage', 'dpkg-dev'), ('dh', 'debhelper'), ('lintian', 'lintian')):
        if tool != 'lintian' or not environment.get('BULKHEAD_BUILD'):
            env.need_tool(tool, package)
    out = case.dir / name
    out.mkdir()
    done = subprocess.run([env.SOURCE / 'deploy/debian/build', out], capture_output=True, text=True, check=False,
                          env={**os.environ, **environment})
    (case.dir / f'{name}.log').write_text(done.stdout + done.stderr)
    assert done.returncode == 0, f'deploy/debian/build: {done.stdout[-2000:]}{done.stderr[-2000:]}'
    (package,) = out.glob('bulkhead_*.deb')
    return package


def next_version(case, package):
    """The same under a later number."""
    tree, later = case.dir / 'later', case.dir / 'later.deb'
    subprocess.run(['dpkg-deb', '-R', package, tree], check=True)
    control = tree / 'DEBIAN/control'
    lines = control.read_text().splitlines()
    control.write_text('\n'.join(line + '+next' if line.startswith('Version: ') else line for line in lines) + '\n')
    subprocess.run(['dpkg-deb', '--root-owner-group', '-Zgzip', '-z1', '-b', tree, later], check=True, capture_output=True)
    return later
