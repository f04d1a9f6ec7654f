"""Moving bytes between descriptors inside the kernel: sendfile(2), and splice(2) through pooled pipes.

Each way answers with a ``Moved``: how many bytes have reached the sink, and why it stopped, one reason being that the
kernel cannot do it between these two: then nothing of the rest was touched, and the caller copies.

A pipe is taken while bytes are in it and given back empty; one that is not empty is closed. What is pooled counts
against the user's pipe pages (``/proc/sys/fs/pipe-user-pages-soft``, 64 MiB by default): beyond that the kernel hands
out pipes of one page, which are worse than copying, so they are refused here and the caller copies.
Nothing here waits. SPLICE_F_MORE is not used: it holds data back like TCP_CORK.
"""

from __future__ import annotations

import enum
import errno
import fcntl
import os
import sys
import threading
from collections.abc import Callable
from typing import NamedTuple

#: asked of the kernel for each pipe; what it grants may be less
PIPE_BYTES = 1 << 20

#: a pipe smaller than this is not worth splicing through
PIPE_BYTES_MIN = 1 << 16

#: pipes kept for the next user, and pipes in all
POOL_MAX = 32
PIPES_MAX = 256

SPLICE = sys.platform == "linux" and hasattr(os, "splice")
SPLICE_FLAGS = (os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE) if SPLICE else 0  # type: ignore[attr-defined,unused-ignore]


_splice: Callable[[int, int, int, None, None, int], int] = getattr(os, "splice", None)  # type: ignore[assignment]

#: what one call asks the kernel to move at most; above, some kernels take it for a negative number
CALL_BYTES_MAX = 1 << 30


class Stop(enum.Enum):
    """Why a transfer went no further."""

    COUNT = "all that was asked for has been moved"
    END = "the source has ended"
    SOURCE = "the source has nothing now"
    SINK = "the sink has no room now"
    UNABLE = "the kernel cannot do this between these two"


class Moved(NamedTuple):
    """How many bytes have reached the sink, and why no more did."""

    bytes: int
    stop: Stop

    @property
    def able(self) -> bool:
        """Whether the kernel can do it at all; if not, copy the rest."""
        return self.stop is not Stop.UNABLE


def cannot(error: OSError) -> bool:
    """Whether an error says that this way is not to be had between these two descriptors."""
    return error.errno in (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSOCK, errno.ESPIPE)


def send_file(sink: int, source: int, offset: int, count: int | None = None) -> Moved:
    """Sends bytes of the file *source*, from *offset* on, into *sink*: *count* of them, or (``None``) all to its end.

    Goes on until that, the file's end, or would-block. Never waits for the sink (which must not block). Raises
    ``ValueError`` for negative numbers; ``OSError``, with ``bytes_sent``, for what breaks. See sendfile(2).
    """
    if offset < 0 or (count is not None and count < 0):
        raise ValueError(f"neither offset nor count can be negative: {offset}, {count}")
    moved = 0
    try:
        while count is None or moved < count:
            size = CALL_BYTES_MAX if count is None else min(CALL_BYTES_MAX, count - moved)
            try:
                sent = os.sendfile(sink, source, offset + moved, size)
            except BlockingIOError:
                return Moved(moved, Stop.SINK)
            if not sent:
                return Moved(moved, Stop.END)
            moved += sent
    except OSError as error:
        if not moved and cannot(error):
            return Moved(0, Stop.UNABLE)
        error.bytes_sent = moved  # type: ignore[attr-defined]
        raise
    return Moved(moved, Stop.COUNT)


class Pipe:
    """A pipe, its size in bytes and how many are in it."""

    __slots__ = ("held", "owner", "read_end", "size", "write_end")

    def __init__(self, read_end: int, write_end: int, size: int) -> None:
        self.read_end = read_end
        self.write_end = write_end
        self.size = size
        self.held = 0
        #: the process that made it: a forked child has the same pipe, and must not touch what is in it
        self.owner = os.getpid()

    def fill(self, source: int, size: int) -> int:
        """Moves at most *size* bytes of *source* into the pipe: how many, 0 at its end. One splice(2)."""
        count = _splice(source, self.write_end, size, None, None, SPLICE_FLAGS)
        self.held += count
        return count

    def empty(self, sink: int) -> int:
        """Moves what is in the pipe into *sink*: how many bytes. One splice(2)."""
        count = _splice(self.read_end, sink, self.held, None, None, SPLICE_FLAGS)
        self.held -= count
        return count

    def read_all(self) -> bytes:
        """Takes out what is in the pipe, for a sink that cannot be spliced into."""
        parts: list[bytes] = []
        while self.held and self.owner == os.getpid():
            parts.append(os.read(self.read_end, self.held))
            self.held -= len(parts[-1])
        return b"".join(parts)

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
        if pipe.owner != os.getpid():
            pipe.close()
            return
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


def splice(source: int, sink: int, pipe: Pipe, count: int) -> Moved:
    """Moves bytes from *source* through *pipe* into *sink*, until *count* of them have passed. Never waits.

    What *pipe* held before goes first, and counts. When the sink has no room, or cannot be spliced into, bytes are left
    in the pipe: call again with the same pipe, or ``read_all`` them. One of the two ends must be a socket, or both.
    TCP's urgent data stops it as if the source had nothing (``SOURCE``), though there may be something to receive.
    Raises ``ValueError`` for a negative count; ``OSError``, with ``bytes_sent``, for what breaks. See splice(2).
    """
    if count < 0:
        raise ValueError(f"the count cannot be negative: {count}")
    moved, taken = 0, pipe.held
    try:
        while True:
            while pipe.held:
                try:
                    moved += pipe.empty(sink)
                except BlockingIOError:
                    return Moved(moved, Stop.SINK)
            if taken >= count:
                return Moved(moved, Stop.COUNT)
            try:
                filled = pipe.fill(source, min(CALL_BYTES_MAX, count - taken))
            except BlockingIOError:
                return Moved(moved, Stop.SOURCE)
            if not filled:
                return Moved(moved, Stop.END)
            taken += filled
    except OSError as error:
        if cannot(error):
            return Moved(moved, Stop.UNABLE)
        error.bytes_sent = moved  # type: ignore[attr-defined]
        raise
