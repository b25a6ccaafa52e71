"""Test cases, their limits and their report in the Test Anything Protocol.

A file of tests registers functions with @case and ends with main(). Each function is given a Case: it hands out a
directory for sockets and logs, and takes callables to run at the end, last in first out, whatever happens. The
directory is kept when the case fails, and its path is part of the report.
"""

import argparse
import faulthandler
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from . import env

_cases = []
_long = set()
_turns = {}

# What a process of ours says when it found a fault in itself, and its launcher when it died of one. Whoever is started
# again at once would hide it otherwise. SIGKILL is what the tests and the watchdog send; SIGTERM ends who is just starting.
_FAULT = re.compile(r'.*(ERROR: (Address|Leak)Sanitizer|: runtime error: |(WARNING|FATAL): ThreadSanitizer|impossible: !\(|'
                    r'was killed by signal (?!9\b|15\b)).*')


class Timeout(BaseException):
    """Not an Exception: nothing between the alarm and the report may take it for an answer."""


class Case:
    def __init__(self, name, function, limit):
        self.name = name
        self.function = function
        self.limit = limit * env.TIME_FACTOR
        self.cleanups = []
        self.notes = []
        self.dir = None

    def defer(self, function, *args):
        self.cleanups.append((function, args))

    def note(self, text):
        """A figure worth reading beside the verdict."""
        self.notes.append(text)

    def log_path(self, name):
        return self.dir / f'{name}.log'


class Run:
    """A directory and what is to be undone, as a test has it, for a program that measures."""

    def __init__(self, name):
        self.case = Case(name, None, 0)
        self.case.dir = Path(tempfile.mkdtemp(prefix='bh-', dir='/tmp'))
        os.chmod(self.case.dir, 0o755)

    def __enter__(self):
        return self.case

    def __exit__(self, *_):
        _run_cleanups(self.case)
        shutil.rmtree(self.case.dir, ignore_errors=True)


def case(name, limit=120, ordinary=True, turn=None):
    """Registers a test; limit is in seconds of an unsanitized build. One that is not ordinary runs when it is named, and
    with BULKHEAD_FULL=1. Of those with the same turn an ordinary run has one, each day the next."""
    def register(function):
        _cases.append((name, function, limit))
        if not ordinary:
            _long.add(name)
        if turn:
            _turns.setdefault(turn, []).append(name)
        return function
    return register


def _is_ordinary(name):
    day = int(time.time() // 86400)
    return name not in _long and all(name == names[day % len(names)] for names in _turns.values() if name in names)


def _chosen(names):
    """Those that were asked for by the beginnings of their names, else an ordinary run's."""
    if names:
        return [entry for entry in _cases if any(entry[0].startswith(name) for name in names)]
    return [entry for entry in _cases if env.FULL or _is_ordinary(entry[0])]


def wait_until(condition, what, limit=10.0, interval=0.02):
    """Returns the first true result of condition(); fails by saying what did not come."""
    end = time.monotonic() + limit * env.TIME_FACTOR
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f'not within {limit * env.TIME_FACTOR:g} s: {what}')
        time.sleep(interval)


def _on_alarm(signum, frame):
    raise Timeout()


def _run_cleanups(current):
    problems = []
    while current.cleanups:
        function, args = current.cleanups.pop()
        try:
            function(*args)
        except Exception as error:
            problems.append(f'cleanup: {type(error).__name__}: {error}')
    return problems


def _last_lines(directory, count=12):
    for path in sorted(directory.rglob('*.log')):
        lines = path.read_text(errors='replace').splitlines()
        if lines:
            yield f'--- {path} ({len(lines)} lines)'
            yield from lines[-count:]


def _faults(directory):
    """A look into every log of the case, when all its processes have ended."""
    for path in sorted(directory.rglob('*.log')):
        text = path.read_text(errors='replace')
        found = _FAULT.search(text)
        if found:
            yield f'a process found a fault in itself: {path}: {text[found.start():found.start() + 3000]}'


def _attempt(current):
    """Runs one case to its end: returns (verdict, text)."""
    signal.signal(signal.SIGALRM, _on_alarm)
    signal.setitimer(signal.ITIMER_REAL, current.limit)
    try:
        current.function(current)
        verdict, text = 'ok', ''
    except env.Skip as reason:
        verdict, text = 'skip', str(reason)
    except Timeout:
        verdict, text = 'fail', f'not finished within {current.limit:g} s\n' + traceback.format_exc()
    except AssertionError as error:
        verdict, text = 'fail', f'{error}\n' + traceback.format_exc()
    except Exception:
        verdict, text = 'fail', traceback.format_exc()
    except SystemExit:
        _run_cleanups(current)
        raise
    signal.setitimer(signal.ITIMER_REAL, 60)
    try:
        problems = _run_cleanups(current)
    except Timeout:
        problems = ['cleanup: not finished within 60 s\n' + traceback.format_exc()]
    signal.setitimer(signal.ITIMER_REAL, 0)
    problems += _faults(current.dir)
    if problems and verdict == 'ok':
        verdict, text = 'fail', '\n'.join(problems)
    return verdict, text


def _run_one(number, current, keep):
    current.dir = Path(tempfile.mkdtemp(prefix='bh-', dir='/tmp'))
    os.chmod(current.dir, 0o755)
    start = time.monotonic()
    verdict, text = _attempt(current)
    seconds = time.monotonic() - start
    notes = ' '.join(current.notes)
    line = f'{number} - {current.name} ({seconds:.1f} s)' + (f' {notes}' if notes else '')
    if verdict == 'skip':
        print(f'ok {line} # SKIP {text}')
        print(f'SKIPPED {current.name}: {text}', file=sys.stderr)
    else:
        print(('ok ' if verdict == 'ok' else 'not ok ') + line.replace('#', ' '))
    if verdict == 'fail':
        for text_line in text.splitlines() + list(_last_lines(current.dir)):
            print(f'# {text_line}')
        print(f'# logs are kept in {current.dir}')
    elif not keep:
        shutil.rmtree(current.dir, ignore_errors=True)
    sys.stdout.flush()
    return verdict != 'fail'


def main():
    faulthandler.enable()
    parser = argparse.ArgumentParser()
    parser.add_argument('--list', action='store_true')
    parser.add_argument('--keep', action='store_true', help='keep the logs of what passed as well')
    parser.add_argument('cases', nargs='*', help='names, or the beginnings of names')
    options = parser.parse_args()
    chosen = _chosen(options.cases)
    if options.list:
        print('\n'.join(entry[0] for entry in chosen))
        return
    # A test that is told to end cleans up like one that fails.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if not chosen:
        print(f'1..0 # SKIP all {len(_cases)} cases are long; BULKHEAD_FULL=1 runs them', flush=True)
        return
    print(f'1..{len(chosen)}', flush=True)
    if not options.cases and len(chosen) < len(_cases):
        print(f'# {len(chosen)} of {len(_cases)} cases; the others with BULKHEAD_FULL=1', flush=True)
    passed = [_run_one(i + 1, Case(*entry), options.keep) for i, entry in enumerate(chosen)]
    sys.exit(0 if all(passed) else 1)
