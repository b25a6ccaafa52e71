"""Guest memory, as its VMM holds it."""

import mmap
import os

from .process import fds

PAGE_BYTES = 4096
CHUNK_BYTES = 1 << 20


def _memory_of(vm):
    """A mapping of the memfd that is the guest's memory."""
    for number, target in fds(vm.pid).items():
        if target.startswith('/memfd:memory-backend-memfd'):
            with open(f'/proc/{vm.pid}/fd/{number}', 'rb') as file:
                return mmap.mmap(file.fileno(), os.fstat(file.fileno()).st_size, prot=mmap.PROT_READ)
    raise AssertionError(f'{vm.name} has no memory of its own')


def differing_pages(one, other):
    """Numbers of the pages in which the memory of two guests that stand still differs."""
    ours, theirs = _memory_of(one), _memory_of(other)
    assert len(ours) == len(theirs)

    def differ(n_bytes, within):
        return [start for start in within if ours[start:start + n_bytes] != theirs[start:start + n_bytes]]
    chunks = differ(CHUNK_BYTES, range(0, len(ours), CHUNK_BYTES))
    return [start // PAGE_BYTES for chunk in chunks
            for start in differ(PAGE_BYTES, range(chunk, chunk + CHUNK_BYTES, PAGE_BYTES))]
