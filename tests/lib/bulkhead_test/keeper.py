"""Kills processes of the product, whoever keeps them."""

import os
import signal
from pathlib import Path

from .process import descendants


class Keeper:
    """Finds the processes below one that keeps them, and waits for their successors."""

    def __init__(self, pid, all_there):
        self.pid = pid
        self.all_there = all_there

    def find(self, role):
        for pid in descendants(self.pid):
            try:
                if Path(f'/proc/{pid}/comm').read_text(errors='replace').strip() == f'bulkhead-{role}'[:15]:
                    return pid
            except OSError:
                pass
        return None

    def kill(self, roles):
        """The processes that are there, one right after the other; how many there were."""
        pids = [pid for pid in map(self.find, roles) if pid]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pids.remove(pid)
        return len(pids)
