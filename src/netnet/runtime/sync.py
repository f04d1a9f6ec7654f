"""What tasks coordinate with, first part: events, semaphores, limiters. Each is one parking lot and a little state.

All are fair (first come, first served) and safe to be cancelled in: a cancelled waiter has taken nothing. All can be used
from several OS threads at once, by tasks of different loops and by threads without a loop, where waiting blocks the
thread. Locks, conditions and barriers: ``locks``; handing things over: ``channel`` and ``queues``.
"""

from __future__ import annotations

import math
from threading import get_ident
from types import TracebackType
from typing import Self

from greenlet import getcurrent

from netnet.errors import UsageError
from netnet.runtime.clock import checked_seconds
from netnet.runtime.lot import ParkingLot, begin, deferred, mutex, stay, wake, was_handed
from netnet.runtime.worker import Worker


def checkpoint() -> None:
    """Lets other tasks run if the calling one has had its share, and raises ``Cancelled`` where it is cancelled.

    For long computations, and at the beginning of calls that may turn out not to wait. May switch tasks. Outside a task
    nothing happens.
    """
    begin()


def time_limit(blocking: bool, timeout: float | None) -> float | None:
    """The arguments of the ``acquire`` calls of the ``threading`` module as seconds; ``None``: no limit.

    Raises ``ValueError`` where they contradict each other.
    """
    if timeout is None or timeout == -1:
        return None if blocking else 0.0
    if not blocking:
        raise ValueError("can't specify a timeout for a non-blocking call")
    if checked_seconds(timeout) < 0:
        raise ValueError("timeout value must be a non-negative number")
    return limit_of(timeout)


def limit_of(timeout: float | None) -> float | None:
    """A time-out in seconds; ``None``: no limit. Raises ``ValueError`` for NaN, ``TypeError`` for what is no number."""
    if timeout is None:
        return None
    seconds = checked_seconds(timeout)
    return None if seconds == math.inf else seconds


class Event:
    """Something that happens once (until it is cleared), for which any number of tasks can wait.

    Can be set and waited for from any OS thread; ``set`` also from a signal handler.
    """

    __slots__ = ("__weakref__", "_set", "lot")

    def __init__(self) -> None:
        self._set = False
        self.lot = ParkingLot("an event to be set")

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._set

    def set(self) -> None:
        """Makes it happen: all who wait go on. Does not switch tasks. Also for signal handlers and finalizers."""
        self._set = True
        if not deferred(self.lot.wake_all):
            self.lot.wake_all()

    def clear(self) -> None:
        """Makes it something that has yet to happen."""
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until it has happened; returns false when *timeout* seconds are over first.

        Switches tasks unless it has happened. Raises ``Cancelled``.
        """
        limit = limit_of(timeout)
        worker = begin()
        with mutex:
            if self._set:
                return True
            if limit is not None and limit <= 0:
                return False
            waiter = self.lot.join(worker)
        return stay(self.lot, waiter, limit)


class Semaphore:
    """A number of permits. ``with semaphore:`` takes one for the lines and gives it back."""

    __slots__ = ("__weakref__", "_free", "_lot")

    def __init__(self, permits: int = 1) -> None:
        if permits < 0:
            raise ValueError(f"a semaphore needs 0 or more permits, not {permits}")
        self._free = permits
        self._lot = ParkingLot("a permit of a semaphore")

    @property
    def value(self) -> int:
        """How many permits are free."""
        return self._free

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Takes a permit; waits for one if none is free, first come first served.

        Returns false when none came within *timeout* seconds, or at once where *blocking* is false. Switches tasks
        where it waits. Raises ``Cancelled``.
        """
        limit = time_limit(blocking, timeout)
        worker = begin()
        with mutex:
            if self._free:
                self._free -= 1
                return True
            if limit is not None and limit <= 0:
                return False
            waiter = self._lot.join(worker)
        try:
            return stay(self._lot, waiter, limit)  # who wakes us hands the permit over
        except BaseException as error:
            if was_handed(error):
                self.release()
            raise

    def release(self, n: int = 1) -> None:
        """Gives *n* permits back, to the first who wait. Does not switch tasks."""
        if n < 1:
            raise ValueError("n must be one or more")
        if deferred(lambda: self._give(n)):
            return
        with mutex:
            self._give(n)

    def _give(self, n: int) -> None:
        woken = self._lot.wake(n)
        self._free += n - woken

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class BoundedSemaphore(Semaphore):
    """A semaphore that notices when more permits come back than it had."""

    __slots__ = ("_most",)

    def __init__(self, permits: int = 1) -> None:
        super().__init__(permits)
        self._most = permits

    def release(self, n: int = 1) -> None:
        """As ``Semaphore.release``. Raises ``ValueError`` when more come back than were taken."""
        if n < 1:
            raise ValueError("n must be one or more")
        if deferred(lambda: self.release(n)):
            return
        with mutex:
            if self._free + n > self._most:
                raise ValueError(f"released {n} more than were taken: {self._free} of {self._most} permits are free")
            self._give(n)


def present() -> object:
    """Who is calling: its task (in the child of a fork, too), or the number of an OS thread without a loop."""
    worker = getcurrent()
    return worker.task if isinstance(worker, Worker) else get_ident()


class CapacityLimiter:
    """How many may do something at once: tokens that know who has them.

    ``with limiter:`` borrows one for the lines. Nobody can have two; ``acquire_on_behalf_of`` names somebody other than
    the calling task. *total_tokens* can be changed at any time, also to fewer than are borrowed; ``math.inf`` is no
    limit. Cf. ``trio.CapacityLimiter``.
    """

    __slots__ = ("__weakref__", "_borrowers", "_lot", "_total", "_wanting")

    def __init__(self, total_tokens: float) -> None:
        self._borrowers: set[object] = set()
        self._wanting: set[object] = set()  #: for whom one is waited for
        self._lot = ParkingLot("a token of a limiter")
        self.total_tokens = total_tokens

    @property
    def total_tokens(self) -> float:
        """How many there are."""
        return self._total

    @total_tokens.setter
    def total_tokens(self, total: float) -> None:
        if total != math.inf and not (isinstance(total, int) and total >= 1):
            raise ValueError(f"a limiter needs a whole number of tokens from 1 on, or math.inf, not {total!r}")
        with mutex:
            self._total = total
            self._hand_out()

    @property
    def borrowed_tokens(self) -> int:
        """How many are borrowed."""
        return len(self._borrowers)

    @property
    def available_tokens(self) -> float:
        """How many are free."""
        return max(0, self._total - len(self._borrowers))

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._lot.waiting)

    def acquire(self) -> None:
        """Borrows a token for the calling task. Switches tasks where it waits. Raises ``Cancelled``, ``UsageError``."""
        self.acquire_on_behalf_of(present())

    def acquire_on_behalf_of(self, borrower: object) -> None:
        """Borrows a token for *borrower*, any object that can be hashed. Raises ``UsageError`` if it has one."""
        worker = begin()
        with mutex:
            if borrower in self._borrowers or borrower in self._wanting:
                raise UsageError("this borrower has a token of the limiter already, or waits for one")
            if len(self._borrowers) < self._total and not self._lot.waiting:
                self._borrowers.add(borrower)
                return
            self._wanting.add(borrower)
            waiter = self._lot.join(worker, borrower)
        try:
            stay(self._lot, waiter)
        except BaseException as error:
            if was_handed(error):
                self.release_on_behalf_of(borrower)
            raise
        finally:
            waiter.gift = None
            self._wanting.discard(borrower)
            borrower = None  # which may be a task, whose error would keep this frame

    def release(self) -> None:
        """Gives the calling task's token back. Raises ``UsageError`` if it has none."""
        self.release_on_behalf_of(present())

    def release_on_behalf_of(self, borrower: object) -> None:
        """Gives the token of *borrower* back. Does not switch tasks."""
        if deferred(lambda: self.release_on_behalf_of(borrower)):
            return
        with mutex:
            if borrower not in self._borrowers:
                raise UsageError("this borrower has no token of the limiter")
            self._borrowers.remove(borrower)
            self._hand_out()

    def _hand_out(self) -> None:
        while len(self._borrowers) < self._total and (waiter := self._lot.next()) is not None:
            self._borrowers.add(waiter.gift)
            self._wanting.discard(waiter.gift)
            waiter.gift = None
            wake(waiter)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
