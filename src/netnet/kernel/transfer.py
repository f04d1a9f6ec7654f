"""Moving bytes between descriptors inside the kernel: pooled pipes for splice(2).

A pipe is taken while bytes are in it and given back empty; one that is not empty is closed. What is pooled counts
against the user's pipe pages (``/proc/sys/fs/pipe-user-pages-soft``, 64 MiB by default): beyond that the kernel hands
out pipes of one page, which are worse than copying, so they are refused here and the caller copies.
Nothing here waits. SPLICE_F_MORE is not used: it holds data back like TCP_CORK.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading

#: asked of the kernel for each pipe; what it grants may be less
PIPE_BYTES = 1 << 20

#: a pipe smaller than this is not worth splicing through
PIPE_BYTES_MIN = 1 << 16

#: pipes kept for the next user, and pipes in all
POOL_MAX = 32
PIPES_MAX = 256

SPLICE = sys.platform == "linux" and hasattr(os, "splice")
SPLICE_FLAGS = (os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE) if SPLICE else 0  # type: ignore[attr-defined,unused-ignore]


class Pipe:
    """A pipe, its size in bytes and how many are in it."""

    __slots__ = ("held", "read_end", "size", "write_end")

    def __init__(self, read_end: int, write_end: int, size: int) -> None:
        self.read_end = read_end
        self.write_end = write_end
        self.size = size
        self.held = 0

    def close(self) -> None:
        os.close(self.read_end)
        os.close(self.write_end)


class PipePool:
    """The process's pipes for splicing."""

    def __init__(self) -> None:
        self._free: list[Pipe] = []
        self._owner = os.getpid()
        self._door = threading.Lock()
        self.taken = 0

    def take(self) -> Pipe | None:
        """An empty pipe; ``None`` where none is to be had: then copy."""
        if self._owner != os.getpid():  # a forked child shares the parent's pipes: it must not use them
            self.clear()
            self._door = threading.Lock()
            self._owner = os.getpid()
            self.taken = 0
        with self._door:
            if not self._free and not self._make():
                return None
            self.taken += 1
            return self._free.pop()

    def _make(self) -> bool:
        if not SPLICE or self.taken >= PIPES_MAX:
            return False
        try:
            ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # out of descriptors
            return False
        try:
            fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            pass  # beyond the user's share: what it has is looked at next
        pipe = Pipe(*ends, fcntl.fcntl(ends[1], fcntl.F_GETPIPE_SZ))
        if pipe.size < PIPE_BYTES_MIN:
            pipe.close()
            return False
        self._free.append(pipe)
        return True

    def give_back(self, pipe: Pipe) -> None:
        """Takes a pipe back; one with bytes in it is closed."""
        with self._door:
            self.taken -= 1
            if pipe.held or len(self._free) >= POOL_MAX:
                pipe.close()
            else:
                self._free.append(pipe)

    def clear(self) -> None:
        """Closes the pipes that nobody uses."""
        while self._free:
            self._free.pop().close()


pipes = PipePool()
