#!/usr/bin/env python3
"""The completion for bash: what it offers, asked as readline asks it."""

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))

from bulkhead_test import env
from bulkhead_test.report import case, main

COMPLETE = 'source "$1"; COMP_LINE=$2 COMP_POINT=${#2} COMPREPLY=(); _bulkhead; printf "%s\\n" "${COMPREPLY[@]}"'


def offered(current, line):
    folders = [str(env.product(name).parent) for name in ('bulkheadctl', 'bulkhead')]
    done = subprocess.run(['bash', '-c', COMPLETE, 'bash', env.SOURCE / 'deploy/completion/bulkheadctl', line],
                          capture_output=True, text=True, check=True, cwd=current.dir,
                          env={**os.environ, 'BULKHEAD_CONFDIR': str(current.dir), 'PATH': ':'.join([*folders, os.environ['PATH']])})
    assert done.stderr == '', done.stderr
    return set(done.stdout.split())


@case('completion')
def completion(current):
    """Commands and options are those of --help; guests and devices those of the files."""
    (current.dir / 'vm1.conf').write_text('[device net0]\ntype = net\n[device wl0]\ntype = wl\n')
    (current.dir / 'web.conf').write_text('[device net0]\ntype = net\n')
    commands = offered(current, 'bulkheadctl ')
    said = subprocess.run([env.product('bulkheadctl'), '--help'], capture_output=True, text=True, check=True).stdout
    wanted = {line.split('bulkheadctl ')[1].split()[0] for line in said.splitlines() if 'bulkheadctl ' in line[:20]}
    assert len(wanted) > 5 and commands == wanted | {'--help', '--version'}, f'{commands} for {wanted}'
    for line, words in (('bulkheadctl upg', {'upgrade'}), ('bulkheadctl status ', {'vm1', 'web'}), ('bulkheadctl status vm1 w', {'web'}),
                        ('bulkheadctl upgrade vm1:', {'net0', 'wl0', 'memory', 'frontend', 'snapshot', 'launcher'}),
                        ('bulkheadctl upgrade vm1:w', {'wl0'}), ('bulkheadctl release web ', {'net0'}),
                        ('bulkheadctl snapshot vm1 w', {'web.conf'}), ('bulkheadctl status --j', {'--json'}),
                        ('bulkheadctl inspect v', {'vm1.conf'}), ('bulkheadctl inspect --j', {'--json'}), ('bulkheadctl nonsense ', set()), ('bulkheadctl user --j', set()),
                        ('bulkhead ru', {'run'}), ('bulkhead run w', {'web.conf'}), ('bulkhead device n', {'net'}),
                        ('bulkhead device net --queue', {'--queue-pairs='}), ('bulkhead run x --watch', {'--watchdog='})):
        assert offered(current, line) == words, f'{line}: {offered(current, line)}, not {words}'


if __name__ == '__main__':
    main()
