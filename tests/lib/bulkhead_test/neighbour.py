"""A second, innocent guest (tests/system/neighbour.c), whose frames go on whatever the first one does."""

from . import env
from .process import Process
from .report import wait_until

# a burst of 32 frames that takes as long waits for somebody, and not for a processor
LONGEST_MS = 2000


class Neighbour:
    """Moves frames from the start on; undisturbed() ends it, and fails if one was lost or late."""

    def __init__(self, case, path, *options):
        self.process = Process(case, 'neighbour', [env.BUILD / 'tests/system/neighbour', path, *options], stdin=True)
        self.process.wait_output('moves')
        self.told = ''

    def undisturbed(self):
        self.process.child.stdin.close()
        status = self.process.wait()
        said = self.process.output()
        assert status == 0, said
        frames, ms, longest = map(int, said.split()[1:4])
        assert longest < LONGEST_MS * env.TIME_FACTOR, f'a burst of the neighbour took {longest} ms'
        self.told = f'{frames} frames, none lost, {1000 * frames // max(ms, 1)} a second, a burst took {longest} ms at most'
        wait_until(lambda: not self.process.running(), 'the neighbour has ended')
