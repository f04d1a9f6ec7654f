"""A stand-in for ``select.kqueue`` where there is none, so that the kqueue backend runs through the same tests.

It is made of epoll and keeps kqueue's contract for the two filters and the flags that the backend uses: read and write
filters, ``EV_CLEAR``, ``EV_ONESHOT``, ``EV_DELETE`` (an error for what is not there) and ``EV_EOF``. It proves the
backend's logic, not a BSD kernel. (Debian's last release of libkqueue, which implements the real calls on Linux, is two
releases old, so it cannot be had.)
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
from typing import Any, NamedTuple

KQ_FILTER_READ = -1
KQ_FILTER_WRITE = -2
KQ_EV_ADD = 0x1
KQ_EV_DELETE = 0x2
KQ_EV_ONESHOT = 0x10
KQ_EV_CLEAR = 0x20
KQ_EV_EOF = 0x8000


class kevent(NamedTuple):
    ident: int
    filter: int
    flags: int


_SIDES = {KQ_FILTER_READ: select.EPOLLIN | select.EPOLLRDHUP, KQ_FILTER_WRITE: select.EPOLLOUT}
_ENDS = select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP


class kqueue:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wanted: dict[int, dict[int, int]] = {}

    def close(self) -> None:
        self._epoll.close()

    def control(self, changes: list[kevent] | None, events_max: int, timeout: float | None = None) -> list[kevent]:
        for change in changes or ():
            self._change(change)
        found: list[kevent] = []
        if not events_max:
            return found
        for fd, bits in self._epoll.poll(timeout, events_max):
            for side, flags in list(self._wanted.get(fd, {}).items()):
                ends = bits & (_ENDS if side == KQ_FILTER_READ else select.EPOLLHUP | select.EPOLLERR)
                if bits & _SIDES[side] or ends:
                    found.append(kevent(fd, side, KQ_EV_EOF if ends else 0))
                    if flags & KQ_EV_ONESHOT:
                        self._change(kevent(fd, side, KQ_EV_DELETE))
        return found

    def _change(self, change: kevent) -> None:
        fd, side, flags = change
        sides = self._wanted.setdefault(fd, {})
        if flags & KQ_EV_DELETE:
            if side not in sides:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            del sides[side]
        else:
            sides[side] = flags
        mask = 0
        for side, flags in sides.items():
            mask |= _SIDES[side] | (select.EPOLLET if flags & KQ_EV_CLEAR else 0)
        if not sides:
            del self._wanted[fd]
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)
            return
        try:
            self._epoll.register(fd, mask)
        except FileExistsError:
            self._epoll.modify(fd, mask)


def install(monkeypatch: Any) -> None:
    """Puts the stand-in into the ``select`` module until the test has ended."""
    for name, value in globals().items():
        if name.startswith("KQ_") or name in ("kqueue", "kevent"):
            monkeypatch.setattr(select, name, value, raising=False)
