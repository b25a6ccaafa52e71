#!/usr/bin/env python3
"""The hostile inputs of tests/HOSTILE.md again and again, beside an innocent guest: nothing stays behind, nobody else notices.

Each program of tests of a VMM's and a guest's inputs runs on one product until it has done so 10,000 times or its time
is over (tests/lib/often.h), while the witness moves frames. An ordinary run has one of the programs. What is cheap enough
for 10,000 times is in tests/wire/test-often.c besides. often-table prints which case was in what.
"""

import collections
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'lib'))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'static'))

import tags
from bulkhead_test import env
from bulkhead_test.process import Process
from bulkhead_test.report import case, main

ROUNDS = 10_000
SECONDS = 40 if env.FULL else 1
# a test that lets processes die has nothing to count
DEADLY = re.compile(r'suite_(kill|start_again|pid|go_on)|deadly|suite_remember')

TAGS = list(tags.tags('covers', r'[MGP]\d+'))
results = collections.defaultdict(list)  # {case: ["wire-form 12 times"]}


def programs():
    """{name of the test: (executable, cases that it covers)}"""
    found = {}
    runs = tags.programs(env.BUILD)
    tests = {test['name']: test['cmd'] for test in json.loads((env.BUILD / 'meson-info/intro-tests.json').read_text())}
    for path in sorted({tag.path for tag in TAGS if tag.path.parent.name in ('wire', 'device')}):
        for name in runs[path]:
            sources = [source for source in runs if name in runs[source]]
            if not any(DEADLY.search((env.SOURCE / source).read_text()) for source in sources):
                cases = {case_name for tag in TAGS if tag.path in sources for case_name in tag.names}
                found[name] = tests[name], cases
    return found


def run(current, name, argv, cases):
    process = Process(current, name, argv, env={
        'BULKHEAD_ROUNDS': str(ROUNDS), 'BULKHEAD_ROUNDS_S': str(SECONDS), 'CK_VERBOSITY': 'silent',
        'BULKHEAD_BUILD': str(env.BUILD)})
    status = process.wait(240)
    said = process.output()
    rounds = re.search(r'^rounds: (\d+), (.*)', said, re.M)
    neighbour = re.search(r'^neighbour: (.*)', said, re.M)
    assert status == 0 and rounds and neighbour, said[-1500:]
    current.note(f'{rounds[1]} times, {rounds[2]}; the innocent guest: {neighbour[1]}')
    for case_name in cases:
        results[case_name].append(f'{name} {rounds[1]} times')


for test_name, (command, covered) in sorted(programs().items()):
    case(f'often-{test_name}', 300, ordinary=test_name == 'wire-vring')(
        lambda current, name=test_name, argv=command, cases=covered: run(current, name, argv, cases))


@case('often-table', 30, ordinary=False)
def table(_):
    """The others are repeated by no more than what they do themselves."""
    runs = tags.programs(env.BUILD)
    for line in (env.SOURCE / 'tests/data/hostile-cases.txt').read_text().splitlines():
        if re.match(r'[MGP]\d', line):
            name = line.split(' ', 1)[0]
            also = sorted({tags.title(tag, runs) for tag in TAGS if name in tag.names and tags.is_run(tag, runs)})
            print(f'# {name}: {", ".join(results[name]) or "no program again and again"}; {len(also)} tests in all', flush=True)


if __name__ == '__main__':
    main()
