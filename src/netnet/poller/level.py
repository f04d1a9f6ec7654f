"""What the two level-triggered backends, ``poll`` and ``select``, share: the bookkeeping that makes levels look like
changes. Each descriptor has a mask of the directions that somebody waits for. A direction leaves the mask when it was
reported and comes back with ``rearm``; so a descriptor that stays writable is reported once and not in every turn.
A descriptor whose mask is empty is not asked about at all, since a hang-up cannot be masked out.
"""

from __future__ import annotations

from netnet.poller.contract import ERROR, HANGUP, PEER_CLOSED, READABLE, WRITABLE, Waker

_READ_SIDE = READABLE | ERROR | HANGUP | PEER_CLOSED
_WRITE_SIDE = WRITABLE | ERROR | HANGUP

#: the descriptor is not open: it was closed behind our back (``POLLNVAL``)
NOT_OPEN = 0x020


class LevelPoller:
    edge_triggered = False
    reports_urgent = True  # a level is asked anew in each turn, so nothing can be missed

    def __init__(self) -> None:
        self._masks: dict[int, int] = {}
        self._waker = Waker()
        self.wake = self._waker.wake
        self.wake_fd = self._waker.wake_fd

    def register(self, fd: int, exclusive: bool = False) -> None:
        self._masks[fd] = 0

    def unregister(self, fd: int) -> None:
        if self._masks.pop(fd, 0):
            self._changed(fd, 0)

    def rearm(self, fd: int, direction: int) -> None:
        mask = self._masks.get(fd, 0)
        if not mask & direction:
            self._masks[fd] = mask | direction
            self._changed(fd, mask | direction)

    watch = rearm

    def unwatch(self, fd: int, direction: int) -> None:
        mask = self._masks.get(fd, 0) & ~direction
        if mask:
            self._masks[fd] = mask
            self._changed(fd, mask)
        else:
            self.unregister(fd)

    def wait(self, timeout_seconds: float | None) -> list[tuple[int, int]]:
        events = self._ask(timeout_seconds)
        for fd, bits in events:
            if fd == self._waker.fd:
                self._waker.drain()
                continue
            if bits & NOT_OPEN:
                self.unregister(fd)
                continue
            mask = self._masks.get(fd, 0)
            if bits & _READ_SIDE:
                mask &= ~READABLE
            if bits & _WRITE_SIDE:
                mask &= ~WRITABLE
            self._masks[fd] = mask
            self._changed(fd, mask)
        return events

    def close(self) -> None:
        self._masks.clear()
        self._waker.close()

    def _changed(self, fd: int, mask: int) -> None:
        """Tells the kernel facility, where it keeps a set of its own, what is asked of ``fd`` now; 0 is nothing."""

    def _ask(self, timeout_seconds: float | None) -> list[tuple[int, int]]:
        """One call of the kernel; the waker's descriptor is always part of it."""
        raise NotImplementedError
