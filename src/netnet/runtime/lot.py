"""The parking lot: the one wait queue under joins, events, semaphores and whatever waits for another task.

First come, first served. A cancelled waiter leaves the queue without having taken anything, so nothing is lost. Who
waits is a worker (a task), a plain OS thread, or one branch of a choice among several things (``choose``).

What is built on it can be used from several OS threads, each with a loop of its own or without one: all state of all
such objects is changed under one mutex of the process. It is held for a few lines at a time, never across a switch, so a
finer lock would buy nothing; one lock makes a choice among several objects a single step. It can be taken again by its
holder, so that a finalizer or a signal handler that strikes in those lines does not lock the thread up.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Protocol, cast

from greenlet import GreenletExit, getcurrent

from netnet.errors import UsageError
from netnet.runtime.company import YOUNG_SECONDS, others_alive
from netnet.runtime.foreign import refuse_to_block
from netnet.runtime.worker import Worker, running, worker_or_none

if TYPE_CHECKING:
    from netnet.runtime.clock import Clock

#: guards the state of every object that tasks and threads coordinate with
mutex = threading.RLock()


#: counts forks: who waited before one waits in the parent only
_generation = 0


def _after_fork() -> None:
    """The child has only the thread that forked, which was in none of those lines."""
    global _generation
    _generation += 1
    mutex._at_fork_reinit()  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class ThreadWaiter:
    """An OS thread without a loop that waits."""

    __slots__ = ("_door", "_generation", "gift")

    def __init__(self) -> None:
        self._door = threading.Lock()
        self._door.acquire()
        self._generation = _generation
        self.gift: object = None

    def claim(self) -> bool:
        return self._generation == _generation

    def switch(self) -> None:
        """Wakes the thread."""
        self._door.release()

    def sleep(self, seconds: float | None) -> bool:
        """Blocks the thread until it is woken; false when the time is up first."""
        if seconds is None:
            return self._door.acquire()
        return self._door.acquire(timeout=min(max(0.0, seconds), threading.TIMEOUT_MAX))


class Parked(Protocol):
    """What stands in a queue besides workers."""

    gift: object

    def claim(self) -> bool:
        """Takes it for the one that wakes it; false when another one was faster."""

    def switch(self) -> None:
        """Wakes it."""


class Queue(Protocol):
    """A place that knows who stands in it."""

    def forget(self, worker: Worker) -> bool: ...

    def describe(self, worker: Worker) -> str: ...

    def leave(self, waiter: Worker | Parked) -> bool:
        """Takes *waiter* out; false when it was woken already."""


def deferred(act: Callable[[], object]) -> bool:
    """Where the caller, a signal's handler or a finalizer, has struck in the middle of lines that hold the mutex: has the
    loop call *act* when they are through, and returns true. What they were about to decide is decided, then."""
    loop = getattr(running, "loop", None)
    if loop is None or not mutex._is_owned():  # type: ignore[attr-defined]
        return False
    from netnet.runtime.loop import Call

    return bool(loop.call_from_thread(Call(act)))


def begin() -> Worker | None:
    """The beginning of a call that may turn out not to wait: the calling worker, ``None`` in an OS thread without a loop.

    Raises ``Cancelled`` where it has to, lets others run now and then; ``UsageError`` in a callback of the loop.
    """
    worker = worker_or_none()
    if worker is None:
        return None
    loop = worker.loop
    if loop.credit and worker.home is loop:
        loop.credit -= 1
    else:
        loop.checkpoint(worker)
    return worker


def wake(waiter: Worker | Parked) -> None:
    """Continues *waiter*, which was just taken out of its queue; from any OS thread."""
    if type(waiter) is Worker:
        waiter.waiting = None
        loop = waiter.loop
        if loop.thread_ident == get_ident() and type(getcurrent()) is Worker:
            loop.ready.append(waiter)
        else:  # also in the hub: a signal's handler or a finalizer may have struck right before it waits
            loop.call_from_thread(waiter)
    else:
        waiter.switch()


def stay(place: Queue, waiter: Worker | Parked, timeout: float | None = None) -> bool:
    """Waits at *place*, in whose queue *waiter* stands; false when *timeout* seconds are over first.

    Raises ``Cancelled``, ``UsageError`` in a callback of the loop.
    """
    if type(waiter) is Worker:
        try:
            if timeout is None:
                waiter.loop.park(waiter, place)
                return True
            return _stay_in_time(place, waiter, timeout)
        except GreenletExit as error:  # the run ends by force, and nobody has taken it out
            if not place.leave(waiter):
                error._handed = True  # type: ignore[attr-defined]
            raise
    thread = cast(ThreadWaiter, waiter)
    try:
        refuse_to_block()
        if timeout is None and not others_alive():  # one that was just started is not seen yet
            if thread.sleep(YOUNG_SECONDS):
                return True
            if not others_alive():
                raise UsageError(
                    "this needs a running loop: outside a task, with no other OS thread, nobody could end the wait"
                )
        if thread.sleep(timeout):
            return True
        if place.leave(thread):
            return False
        return thread.sleep(None)  # somebody is just waking it
    except BaseException as error:
        if not place.leave(thread):
            error._handed = True  # type: ignore[attr-defined]
        raise


def was_handed(error: BaseException) -> bool:
    """Whether the wait that *error* ended had been given what it waited for, which then is to be given back."""
    return getattr(error, "_handed", False)


def _stay_in_time(place: Queue, worker: Worker, timeout: float) -> bool:
    loop = worker.loop
    late = False

    def give_up() -> None:
        nonlocal late
        if place.leave(worker):
            late = True
            worker.waiting = None
            loop.ready.append(worker)

    clock: Clock = loop.clock
    timer = loop.timers.add(clock.now() + max(0.0, timeout), give_up)
    try:
        loop.park(worker, place)
    finally:
        timer.cancel()
    return not late


class ParkingLot:
    """Where tasks and threads wait until another one wakes them. *what* says in reports what they wait for."""

    __slots__ = ("waiting", "what")

    def __init__(self, what: str) -> None:
        self.what = what
        self.waiting: deque[Worker | Parked] = deque()

    def join(self, worker: Worker | None, gift: object = None) -> Worker | Parked:
        """Stands in the queue: *worker*, or the calling OS thread where it is ``None``. ``stay`` is to follow.

        Called under the mutex, in the same lines that found that it has to wait, and after ``begin``. *gift* is what the
        one who wakes it is to know.
        """
        waiter: Worker | Parked = ThreadWaiter() if worker is None else worker
        waiter.gift = gift
        self.waiting.append(waiter)
        return waiter

    def park(self, timeout: float | None = None) -> bool:
        """Waits until woken; false when *timeout* seconds are over first. Switches tasks. Raises ``Cancelled``."""
        worker = worker_or_none()
        if worker is not None and worker.home is not worker.loop:
            worker.loop.refuse(worker)
        return stay(self, self.join(worker), timeout)

    def next(self) -> Worker | Parked | None:
        """Takes out the first who waits and can be woken. Called under the mutex; ``wake`` is to follow."""
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.loop.closed if type(waiter) is Worker else waiter.claim():  # type: ignore[union-attr]
                return waiter
        return None

    def wake(self, count: int = 1) -> int:
        """Wakes the first *count* waiters, in order; returns how many there were. Does not switch tasks."""
        woken = 0
        with mutex:
            while woken < count and (waiter := self.next()) is not None:
                wake(waiter)
                woken += 1
        return woken

    def wake_all(self) -> int:
        with mutex:
            return self.wake(len(self.waiting))

    def leave(self, waiter: Worker | Parked) -> bool:
        """Takes *waiter* out of the queue; false when it was woken already."""
        with mutex:
            try:
                self.waiting.remove(waiter)
            except ValueError:
                return False
            return True

    def forget(self, worker: Worker) -> bool:
        return self.leave(worker)

    def describe(self, worker: Worker) -> str:
        return self.what
