"""Waiting for one descriptor with the whole OS thread: what a socket does outside a loop, and a look without waiting."""

from __future__ import annotations

import errno
import math
import os
import select

from netnet.poller.contract import READABLE

_NVAL = getattr(select, "POLLNVAL", 0)

#: the longest single wait; kernels count milliseconds in 31 bits, some 24 days
WAIT_SECONDS_MAX = 86400.0


def wait_one(fd: int, side: int, timeout_seconds: float | None) -> bool:
    """Blocks the OS thread until *fd* is ready on *side*; false when *timeout_seconds* (``None``: no limit) are up.

    It waits for a day at most, so the caller looks at the clock itself. An error or a hang-up counts as ready. Raises
    ``OSError`` with ``EBADF`` for a descriptor that is not open.
    """
    if timeout_seconds is not None:
        timeout_seconds = min(max(0.0, timeout_seconds), WAIT_SECONDS_MAX)
    if not hasattr(select, "poll"):
        sets = ([fd], [], []) if side == READABLE else ([], [fd], [fd])
        return any(select.select(*sets, timeout_seconds))
    poll = select.poll()
    poll.register(fd, side)
    ready = poll.poll(None if timeout_seconds is None else math.ceil(timeout_seconds * 1000))
    if ready and ready[0][1] & _NVAL:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return bool(ready)
