"""The Linux backend: epoll, edge-triggered.

One ``epoll_ctl`` for the life of a socket, both directions. An event carries everything that is true at that moment, so
the arrival of data is reported as readable *and* writable; the loop treats both as facts. ``EPOLLRDHUP`` and
``EPOLLPRI`` are asked for because the short-read rule needs them; with ``EPOLLEXCLUSIVE`` epoll_ctl(2) allows neither,
nor a later change. Python rounds time-outs up to whole milliseconds. Not used: ``epoll_pwait2`` (Python does not offer it).
"""

from __future__ import annotations

import contextlib
import select
from typing import Final

from netnet.poller.contract import PEER_CLOSED, READABLE, URGENT, WRITABLE, Waker

#: how many descriptors one ``epoll_wait`` may report: enough to spread its cost, few enough to stay fair to timers
EVENTS_MAX = 512

_EDGES: Final = getattr(select, "EPOLLET", 0)
#: what is asked of a socket: changes in both directions, and what the short-read rule needs
SOCKET: Final = READABLE | WRITABLE | URGENT | PEER_CLOSED | _EDGES
#: what is asked of one that is registered with several pollers, of which one is enough
EXCLUSIVE: Final = READABLE | WRITABLE | getattr(select, "EPOLLEXCLUSIVE", 0) | _EDGES


class EpollPoller:
    name = "epoll"
    edge_triggered = True
    reports_urgent = True

    __slots__ = ("_epoll", "_poll", "_waker", "_watched", "wake", "wake_fd")

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._poll = self._epoll.poll
        self._watched: dict[int, int] = {}
        self._waker = Waker()
        self._epoll.register(self._waker.fd, READABLE | select.EPOLLET)
        self.wake = self._waker.wake
        self.wake_fd = self._waker.wake_fd

    def register(self, fd: int, exclusive: bool = False) -> None:
        self._epoll.register(fd, EXCLUSIVE if exclusive else SOCKET)

    def unregister(self, fd: int) -> None:
        try:
            self._epoll.unregister(fd)
        except OSError:
            pass

    def rearm(self, fd: int, direction: int) -> None:
        pass

    def watch(self, fd: int, direction: int) -> None:
        mask = self._watched.get(fd, 0) | direction
        try:
            self._epoll.register(fd, mask | select.EPOLLONESHOT)
        except FileExistsError:
            self._epoll.modify(fd, mask | select.EPOLLONESHOT)
        self._watched[fd] = mask

    def unwatch(self, fd: int, direction: int) -> None:
        mask = self._watched.get(fd, 0) & ~direction
        if mask:
            self._watched[fd] = mask
            with contextlib.suppress(OSError):
                self._epoll.modify(fd, mask | select.EPOLLONESHOT)
        elif self._watched.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

    def wait(self, timeout_seconds: float | None) -> list[tuple[int, int]]:
        events = self._poll(timeout_seconds, EVENTS_MAX)
        if self._waker.pending or (len(events) == 1 and events[0][0] == self._waker.fd):
            self._waker.drain()
        return events

    def close(self) -> None:
        self._epoll.close()
        self._waker.close()
