"""The backend of the BSDs and macOS: kqueue, edge-triggered (``EV_CLEAR``), one filter a direction.

The end of the peer's data comes as ``EV_EOF`` on the read filter. Urgent data is not told by these two filters, so
``reports_urgent`` is false and the short-read rule stays off: a read that stopped at the urgent mark looks like an
empty socket. Not used: ``EVFILT_USER`` (the waker's socket pair also serves ``signal.set_wakeup_fd``).
"""

from __future__ import annotations

import contextlib
import select as _select
from typing import Any

from netnet.poller.contract import HANGUP, PEER_CLOSED, READABLE, WRITABLE, Waker

EVENTS_MAX = 512

select: Any = _select  # the type checker knows these names on the BSDs only


class KqueuePoller:
    name = "kqueue"
    edge_triggered = True
    reports_urgent = False

    def __init__(self) -> None:
        self._kq = select.kqueue()
        self._filters = {READABLE: select.KQ_FILTER_READ, WRITABLE: select.KQ_FILTER_WRITE}
        self._waker = Waker()
        self._change(self._waker.fd, READABLE, select.KQ_EV_ADD | select.KQ_EV_CLEAR)
        self.wake = self._waker.wake
        self.wake_fd = self._waker.wake_fd

    def _change(self, fd: int, direction: int, flags: int) -> None:
        self._kq.control([select.kevent(fd, self._filters[direction], flags)], 0)

    def register(self, fd: int, exclusive: bool = False) -> None:
        for direction in self._filters:
            self._change(fd, direction, select.KQ_EV_ADD | select.KQ_EV_CLEAR)

    def unregister(self, fd: int) -> None:
        for direction in self._filters:
            self.unwatch(fd, direction)

    def rearm(self, fd: int, direction: int) -> None:
        pass

    def watch(self, fd: int, direction: int) -> None:
        self._change(fd, direction, select.KQ_EV_ADD | select.KQ_EV_ONESHOT)

    def unwatch(self, fd: int, direction: int) -> None:
        with contextlib.suppress(OSError):
            self._change(fd, direction, select.KQ_EV_DELETE)

    def wait(self, timeout_seconds: float | None) -> list[tuple[int, int]]:
        bits: dict[int, int] = {}
        for event in self._kq.control(None, EVENTS_MAX, timeout_seconds):
            ended = event.flags & select.KQ_EV_EOF
            if event.filter == select.KQ_FILTER_READ:
                bit = READABLE | PEER_CLOSED if ended else READABLE
            else:
                bit = WRITABLE | HANGUP if ended else WRITABLE
            bits[event.ident] = bits.get(event.ident, 0) | bit
        if self._waker.fd in bits:
            self._waker.drain()
        return list(bits.items())

    def close(self) -> None:
        self._kq.close()
        self._waker.close()
