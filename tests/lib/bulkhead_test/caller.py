"""Whether a socket can always be connected to."""

import collections
import socket
import threading
import time


class Caller:
    """Connects again and again, and remembers what it met."""

    def __init__(self, path):
        self.path = path
        self.met = collections.Counter()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while not self.ended.is_set():
            with socket.socket(socket.AF_UNIX) as line:
                try:
                    line.connect(self.path)
                    self.met['accepted'] += 1
                except OSError as error:
                    self.met[str(error)] += 1
            time.sleep(0.0005)

    def end(self):
        """What was met, and how often."""
        self.ended.set()
        self.thread.join()
        return self.met
