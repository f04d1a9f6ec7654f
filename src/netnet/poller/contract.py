"""What every poller does: the contract between the loop and one kernel facility. Knows no task and no socket class.

A descriptor is *registered* once, for both directions, and from then on each change to readable or writable is
reported once (edge-triggered). A kernel facility that only knows levels (``poll``, ``select``) sets
``edge_triggered = False`` and reports a direction once after each ``rearm``; the loop calls ``rearm`` before it waits.
Foreign descriptors, of which nobody here knows when they would block, are *watched*: one level-triggered report.

Reports are the bits below, which are those of Linux' ``epoll`` and ``poll``, so these two hand them through unchanged.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Final, Protocol

READABLE: Final = 0x001
URGENT: Final = 0x002  #: out-of-band data is there
WRITABLE: Final = 0x004
ERROR: Final = 0x008
HANGUP: Final = 0x010
PEER_CLOSED: Final = 0x2000  #: the peer has sent its last byte

#: Bits after which a short read no longer proves that a TCP socket is empty.
UNUSUAL: Final = URGENT | ERROR | HANGUP | PEER_CLOSED


class Poller(Protocol):
    """One kernel facility that tells which descriptors are ready."""

    name: str
    #: reports changes, and needs no ``rearm``
    edge_triggered: bool
    #: tells of urgent data and of the peer's end, on which the short-read rule rests
    reports_urgent: bool
    #: bytes written here wake ``wait``; non-blocking, for ``signal.set_wakeup_fd``
    wake_fd: int

    def register(self, fd: int, exclusive: bool = False) -> None:
        """Reports changes of ``fd`` in both directions from now on; what is ready already counts as a change.

        *exclusive*: where duplicates of ``fd`` are registered so with other pollers (of other OS threads or processes),
        a change need wake only one of those that wait; whoever is woken has to deal with it. A hint: where the
        kernel cannot, all are woken. Urgent data and the peer's end are not told then, so it is for listeners.
        """

    def unregister(self, fd: int) -> None:
        """Forgets ``fd``, also where the kernel has forgotten it before."""

    def rearm(self, fd: int, direction: int) -> None:
        """Reports the next readiness of ``fd`` in ``direction`` (``READABLE`` or ``WRITABLE``)."""

    def watch(self, fd: int, direction: int) -> None:
        """Reports once when the foreign ``fd`` is ready. Raises ``PermissionError`` where it always is (a file)."""

    def unwatch(self, fd: int, direction: int) -> None:
        """Takes ``watch`` back."""

    def wait(self, timeout_seconds: float | None) -> list[tuple[int, int]]:
        """Waits at most so long (``None``: without end; 0: not at all); returns ``(fd, bits)`` pairs."""

    def wake(self) -> None:
        """Ends a ``wait``, the running one or the next. The only call that other threads may make."""

    def close(self) -> None:
        """Gives the kernel's resources back."""


class Sharing(Protocol):
    """What several loops poll together: each has a member of it."""

    def member(self) -> Poller:
        """A poller for one more loop, which closes it."""


class Waker:
    """A socket pair whose reading end is in the poller, so that a byte from any thread or signal ends the wait."""

    __slots__ = ("_reader", "_writer", "fd", "pending", "wake_fd")

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self.fd = self._reader.fileno()
        self.wake_fd = self._writer.fileno()
        self.pending = False

    def wake(self) -> None:
        if not self.pending:
            self.pending = True
            with contextlib.suppress(OSError):  # full: then it will wake anyway; closed: then there is nobody to wake
                self._writer.send(b"\0")

    def drain(self) -> None:
        """Empties the pair, and only then lets the next wake write a byte.

        A wake that comes in between writes none, and needs none: the loop is awake, and looks at what it was woken for
        after this.
        """
        with contextlib.suppress(BlockingIOError):
            while len(self._reader.recv(4096)) == 4096:
                pass
        self.pending = False

    def close(self) -> None:
        self._reader.close()
        self._writer.close()
