"""The last resort, for systems without ``poll``: ``select(2)``. Descriptors must be below 1024 (Unix) or be at most 512
sockets (Windows); beyond that ``select`` raises ``ValueError``, which is said in words."""

from __future__ import annotations

import errno
import os
import select

from netnet.errors import UsageError
from netnet.poller.contract import ERROR, READABLE, WRITABLE
from netnet.poller.level import NOT_OPEN, LevelPoller


class SelectPoller(LevelPoller):
    name = "select"

    def __init__(self) -> None:
        super().__init__()
        self._readers = {self._waker.fd}
        self._writers: set[int] = set()

    def _changed(self, fd: int, mask: int) -> None:
        for direction, group in ((READABLE, self._readers), (WRITABLE, self._writers)):
            if mask & direction:
                group.add(fd)
            else:
                group.discard(fd)

    def _ask(self, timeout_seconds: float | None) -> list[tuple[int, int]]:
        both = self._writers  # Windows reports a failed connect in the third set only
        try:
            readable, writable, broken = select.select(self._readers, self._writers, both, timeout_seconds)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            return [(fd, NOT_OPEN) for fd in (*self._readers, *self._writers) if not _is_open(fd)]
        except ValueError as error:
            raise UsageError(
                "the select backend cannot wait for this many descriptors, or for one above 1023; "
                "use NETNET_POLLER=poll or epoll"
            ) from error
        bits = dict.fromkeys(readable, READABLE)
        for group, bit in ((writable, WRITABLE), (broken, ERROR)):
            for fd in group:
                bits[fd] = bits.get(fd, 0) | bit
        return list(bits.items())


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
