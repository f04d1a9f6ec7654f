"""The ground of the in-memory sockets for tests: what is open or closed, time-outs, and who waits.

Nothing here touches the kernel, so what happens depends on nothing but the order in which tasks run: tests on the virtual
clock always take the same course. What goes through is in ``memory`` and ``lockstep``.
"""

from __future__ import annotations

import errno
import math
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from netnet.errors import BusyError, ClosedError, UsageError
from netnet.runtime.api import now
from netnet.runtime.clock import checked_seconds
from netnet.runtime.lot import ParkingLot, begin
from netnet.runtime.worker import current_worker

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from netnet.runtime.loop import Loop

PEEK: Final = int(socket.MSG_PEEK)
WAITALL: Final = int(socket.MSG_WAITALL)
DONTWAIT: Final = int(getattr(socket, "MSG_DONTWAIT", 0))
NOSIGNAL: Final = int(getattr(socket, "MSG_NOSIGNAL", 0))

#: so much a chunk of ``for chunk in end`` has at most, as with ``Socket``
CHUNK_BYTES: Final = 65536


def system_error(number: int) -> OSError:
    """The error that the system would raise, of the class that belongs to the number."""
    return OSError(number, os.strerror(number))


def checked_flags(flags: int, known: int) -> int:
    """*flags*; raises ``OSError`` (``EOPNOTSUPP``) for one that is not among the *known* ones."""
    if flags & ~known:
        raise OSError(
            errno.EOPNOTSUPP, f"in-memory sockets do not know the flags {flags & ~known:#x}; use a socket pair"
        )
    return flags


def checked_limit(what: str, value: int | None) -> int | None:
    """*value*; raises ``ValueError`` where a limit of less than 1 would stop everything."""
    if value is not None and value < 1:
        raise ValueError(f"{what} must be 1 or more, not {value}")
    return value


def checked_size(bufsize: int) -> int:
    """How much to receive at most; raises ``ValueError`` for a negative number."""
    if bufsize < 0:
        raise ValueError(f"cannot receive a negative number of bytes ({bufsize})")
    return bufsize


@contextmanager
def octets(data: ReadableBuffer) -> Generator[memoryview]:
    """*data* as bytes, whatever its items are. Raises ``TypeError`` for what is no buffer."""
    with memoryview(data) as view, view.cast("B") as flat:
        yield flat


@contextmanager
def room_in(buffer: WriteableBuffer, nbytes: int) -> Generator[memoryview]:
    """The first *nbytes* of *buffer* (0: all of it), to be written to.

    Raises ``TypeError`` for a buffer that is read-only, ``ValueError`` for one that is too small.
    """
    with memoryview(buffer) as view:
        if view.readonly:
            raise TypeError(f"recv_into() needs a buffer that can be written to, not {type(buffer).__name__}")
        if not 0 <= nbytes <= view.nbytes:
            raise ValueError(f"recv_into() cannot receive {nbytes} bytes into a buffer of {view.nbytes}")
        with view.cast("B") as flat, flat[: nbytes or view.nbytes] as room:
            yield room


class Side:
    """One side of a stream, reading or writing: at most one task at a time, and the place where it waits."""

    __slots__ = ("_busy", "_doing", "lot")

    def __init__(self, doing: str, what: str) -> None:
        self._doing = doing
        self._busy = False
        self.lot = ParkingLot(what)

    def __enter__(self) -> None:
        if self._busy:
            raise BusyError(f"another task {self._doing} this in-memory stream already; one may read while one writes")
        self._busy = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._busy = False


class End:
    """One of two connected ends in memory. Calls that move data work only in a task; the others anywhere."""

    def __init__(self) -> None:
        self._closed = False
        self._timeout: float | None = None
        self._loop: Loop | None = None

    # -- as with every socket

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called. (``fileno`` does not tell.)"""
        return self._closed

    def fileno(self) -> int:
        """-1, always: there is no descriptor. Code that asks the kernel for something needs ``netnet.socketpair``."""
        return -1

    def settimeout(self, value: float | None, /) -> None:
        """Limits each call that waits to *value* seconds; 0: calls never wait (``BlockingIOError``); ``None``: no limit.

        Raises ``ValueError`` for a negative number or NaN, ``OverflowError`` for infinity, ``ClosedError``.
        """
        if value is not None:
            value = checked_seconds(value)
            if value < 0:
                raise ValueError("Timeout value out of range")
            if value == math.inf:
                raise OverflowError("a time-out cannot be infinite; None is no limit")
        self._check_open()
        self._timeout = value

    def gettimeout(self) -> float | None:
        """The limit in seconds that ``settimeout`` set."""
        return self._timeout

    @property
    def timeout(self) -> float | None:
        """The limit in seconds that ``settimeout`` set."""
        return self._timeout

    def setblocking(self, flag: bool, /) -> None:
        """``settimeout(None)`` if *flag* is true, else ``settimeout(0)``."""
        self.settimeout(None if flag else 0.0)

    def getblocking(self) -> bool:
        """Whether calls may wait: the time-out is not 0."""
        return self._timeout != 0

    def close(self) -> None:
        """Closes this end. Twice is fine. Does not switch tasks."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- for the calls

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("this in-memory socket is closed")

    def _begin(self) -> None:
        """The beginning of each call that moves data: in a task of one loop, not cancelled, open."""
        loop = current_worker().loop
        if self._loop is not loop:
            if self._loop is not None and not self._loop.closed:
                raise UsageError("this in-memory socket is used in another thread's loop; make a pair in each loop")
            self._loop = loop
        begin()
        self._check_open()

    def _until(self) -> float | None:
        """The instant at which a call that begins now has used up its time."""
        return None if self._timeout is None else now() + self._timeout

    def _wait(self, lot: ParkingLot, until: float | None, flags: int) -> None:
        """Waits at *lot* until woken, not after the instant *until*.

        Raises ``BlockingIOError`` where the call must not wait, ``TimeoutError``, ``Cancelled``, and ``ClosedError``
        when this end was closed meanwhile.
        """
        if self._timeout == 0 or flags & DONTWAIT:
            raise system_error(errno.EAGAIN)
        left = None if until is None else until - now()
        if (left is not None and left <= 0) or not lot.park(left):
            raise TimeoutError("timed out")
        if self._closed:
            raise ClosedError("this in-memory socket was closed while this task waited for it")
