"""What tasks coordinate with, second part: locks, conditions, barriers, in the shape of the ``threading`` module.

A lock belongs to a task (or to an OS thread without a loop), not to the OS thread that its loop runs in. Everything is
fair, safe to be cancelled in, and can be used from several OS threads; see ``sync``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import repeat
from threading import BrokenBarrierError
from types import TracebackType
from typing import Final, Self, cast

from greenlet import GreenletExit

from netnet.errors import UsageError
from netnet.runtime.lot import Parked, ParkingLot, begin, mutex, stay, wake, was_handed
from netnet.runtime.scope import Shield
from netnet.runtime.sync import limit_of, present, time_limit
from netnet.runtime.worker import Worker, worker_or_none

#: what those get who wait at a barrier that breaks
_BROKEN: Final = object()


class Lock:
    """One task at a time. ``with lock:`` holds it for the lines. The task that took it has to release it."""

    __slots__ = ("__weakref__", "_lot", "_owner")

    def __init__(self) -> None:
        self._lot = ParkingLot("a lock")
        self._owner: object = None

    def locked(self) -> bool:
        """Whether somebody has it."""
        return self._owner is not None

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Takes the lock; waits while another has it, first come first served.

        Returns false when it was not free within *timeout* seconds, or at once where *blocking* is false. Switches
        tasks where it waits. Raises ``Cancelled``, ``UsageError`` where the caller has it already.
        """
        limit = time_limit(blocking, timeout)
        worker = begin()
        me = present()
        with mutex:
            if self._owner is None:
                self._owner = me
                return True
            if limit is not None and limit <= 0:
                return False
            if self._owner == me:
                raise UsageError(
                    "this task holds the lock already and would wait for itself; an RLock can be taken twice"
                )
            waiter = self._lot.join(worker, me)
        try:
            return stay(self._lot, waiter, limit)  # who releases it makes us its owner
        except BaseException as error:
            if was_handed(error):
                Lock.release(self)
            raise
        finally:
            waiter.gift = me = None  # a task, whose error would keep this frame

    def release(self) -> None:
        """Gives the lock to the first who waits, or leaves it free. Does not switch tasks.

        Raises ``UsageError``, a ``RuntimeError``, where the caller does not have it.
        """
        with mutex:
            if self._owner is None or self._owner != present():
                raise UsageError("the lock is not held by this task; who takes a lock has to release it")
            self._pass_on()

    def _pass_on(self) -> None:
        first = self._lot.next()
        if first is None:
            self._owner = None
        else:
            self._owner = first.gift
            wake(first)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    # -- for Condition

    def _is_owned(self) -> bool:
        return self._owner is not None and self._owner == present()

    def _release_save(self) -> int:
        self.release()
        return 1

    def _acquire_restore(self, state: int) -> None:
        self.acquire()


class RLock(Lock):
    """A lock that its holder can take again; it has to be released as often."""

    __slots__ = ("_count",)

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """As ``Lock.acquire``; returns true at once where the caller has it already."""
        if self._is_owned():
            begin()
            self._count += 1
            return True
        if super().acquire(blocking, timeout):
            self._count = 1
            return True
        return False

    def release(self) -> None:
        """As ``Lock.release``, when it was released as often as it was taken."""
        with mutex:
            if self._is_owned() and self._count > 1:
                self._count -= 1
            else:
                super().release()

    def _release_save(self) -> int:
        with mutex:
            count, self._count = self._count, 1
            self.release()
        return count

    def _acquire_restore(self, state: int) -> None:
        super().acquire()
        self._count = state


class Condition:
    """A lock, and a place to wait in for what the lock guards to change. ``with condition: condition.wait_for(...)``.

    Without *lock* it makes an ``RLock`` of its own, as the one of ``threading`` does.
    """

    __slots__ = ("__weakref__", "_lot", "acquire", "lock", "release")

    def __init__(self, lock: Lock | None = None) -> None:
        self.lock = RLock() if lock is None else lock
        self._lot = ParkingLot("a condition to be notified")
        self.acquire = self.lock.acquire
        self.release = self.lock.release

    def wait(self, timeout: float | None = None) -> bool:
        """Releases the lock, waits to be notified, and takes the lock again, also when it is cancelled.

        Returns false when *timeout* seconds are over first. Switches tasks. Raises ``Cancelled``, and ``UsageError``
        where the caller does not have the lock.
        """
        limit = limit_of(timeout)
        worker = begin()
        self._check()
        with mutex:
            waiter = self._lot.join(worker)
            state = self.lock._release_save()
        try:
            return stay(self._lot, waiter, limit)
        finally:
            self._take_again(state)

    def _take_again(self, state: int) -> None:
        """Takes the lock, whatever comes in between; an interrupt (Ctrl-C) is raised when it is taken."""
        interrupted: BaseException | None = None
        while True:
            try:
                if worker_or_none() is None:
                    self.lock._acquire_restore(state)
                else:
                    with Shield():
                        self.lock._acquire_restore(state)
                break
            except GreenletExit:  # the run ends by force
                raise
            except BaseException as error:
                interrupted = error
                if self.lock._is_owned():
                    break
        if interrupted is not None:
            try:
                raise interrupted
            finally:
                del interrupted

    def wait_for(self, predicate: Callable[[], object], timeout: float | None = None) -> object:
        """Waits until *predicate* is true, which is asked before and after each wait; returns its last answer.

        That is false when *timeout* seconds are over first. Otherwise as ``wait``.
        """
        limit = limit_of(timeout)
        until = None if limit is None else _now() + limit
        while not (answer := predicate()):
            left = None if until is None else until - _now()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return answer

    def notify(self, n: int = 1) -> None:
        """Wakes the first *n* who wait; they go on when they get the lock. Does not switch tasks."""
        self._check()
        self._lot.wake(n)

    def notify_all(self) -> None:
        """Wakes all who wait."""
        self._check()
        self._lot.wake_all()

    def _check(self) -> None:
        if not self.lock._is_owned():
            raise UsageError("a condition is waited for and notified by who holds its lock")

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _now() -> float:
    from netnet.runtime.api import now

    return now()


class Barrier:
    """Where tasks wait for each other: when *parties* of them have come, all go on. Then it can be used again.

    *action* is called by the last to come, before anybody goes on. A waiter that is cancelled leaves, and one more has
    to come for it. A time-out, a failing action and ``abort`` break the barrier: who waits there, or comes, gets
    ``threading.BrokenBarrierError`` until it is ``reset``.
    """

    __slots__ = ("__weakref__", "_action", "_broken", "_lot", "_parties", "_timeout")

    def __init__(self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None) -> None:
        if parties < 1:
            raise ValueError(f"a barrier needs 1 or more parties, not {parties}")
        self._parties = parties
        self._action = action
        self._timeout = limit_of(timeout)
        self._broken = False
        self._lot = ParkingLot("the others at a barrier")

    @property
    def parties(self) -> int:
        """How many have to come."""
        return self._parties

    @property
    def n_waiting(self) -> int:
        """How many wait."""
        return len(self._lot.waiting)

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        return self._broken

    def wait(self, timeout: float | None = None) -> int:
        """Waits until all parties have come; returns a number from 0 on that only the caller has.

        *timeout* in seconds, or that of the barrier. Switches tasks. Raises ``Cancelled``, ``BrokenBarrierError``.
        """
        limit = self._timeout if timeout is None else limit_of(timeout)
        worker = begin()
        with mutex:
            if self._broken:
                raise BrokenBarrierError
            index = len(self._lot.waiting)
            if index < self._parties - 1:
                waiter = self._lot.join(worker)
            else:
                waiter = None
                others = self._take_all()
        if waiter is None:
            self._open(others)
            return index
        return self._stay(waiter, limit)

    def _take_all(self) -> list[Worker | Parked]:
        """Takes out all who wait. Called under the mutex."""
        others = []
        while (waiter := self._lot.next()) is not None:
            others.append(waiter)
        return others

    def _open(self, others: list[Worker | Parked]) -> None:
        """The last one has come."""
        numbers: Iterable[object] = range(len(others))
        try:
            if self._action is not None:
                self._action()
        except BaseException:
            numbers = repeat(_BROKEN)
            self.abort()
            raise
        finally:
            self._send_on(others, numbers)

    def _stay(self, waiter: Worker | Parked, limit: float | None) -> int:
        """Waits, and returns the number that it was given. Raises where the barrier broke, or the time was up."""
        if not stay(self._lot, waiter, limit):
            self.abort()
            raise BrokenBarrierError
        number, waiter.gift = waiter.gift, None
        if number is _BROKEN:
            raise BrokenBarrierError
        return cast(int, number)

    def _send_on(self, others: list[Worker | Parked], gifts: Iterable[object]) -> None:
        for waiter, gift in zip(others, gifts, strict=False):
            waiter.gift = gift
            wake(waiter)

    def abort(self) -> None:
        """Breaks the barrier."""
        with mutex:
            self._broken = True
            self._send_on(self._take_all(), repeat(_BROKEN))

    def reset(self) -> None:
        """Makes it as new. Who waits there gets ``BrokenBarrierError``."""
        with mutex:
            self._send_on(self._take_all(), repeat(_BROKEN))
            self._broken = False
