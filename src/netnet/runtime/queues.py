"""``Queue``, ``LifoQueue`` and ``PriorityQueue`` in the shape of the standard library's ``queue`` module.

The same calls, the same exceptions (``queue.Empty``, ``queue.Full``, ``ShutDown``), the same meaning. Unlike there, who
came first is served first, and a call that waits parks its task. They can be used from several OS threads, with or
without loops: between a loop and threads that know nothing of it, too.
"""

from __future__ import annotations

import heapq
import math
import queue
from collections import deque
from functools import partial
from typing import Any, Generic, TypeVar

from netnet.runtime.exchange import CLOSED, NOTHING, Exchange, Refused
from netnet.runtime.lot import ParkingLot, begin, mutex, stay
from netnet.runtime.sync import time_limit

T = TypeVar("T")


class _ShutDown(Exception):
    """Raised by ``put`` and ``get`` of a queue that was shut down."""


#: the standard library's, where it has one (since Python 3.13)
ShutDown: type[Exception] = getattr(queue, "ShutDown", _ShutDown)


class Queue(Exchange, Generic[T]):
    """First in, first out. *maxsize* of 0 or less: without limit."""

    __slots__ = ("_idle", "maxsize", "unfinished_tasks")

    def __init__(self, maxsize: int = 0) -> None:
        items: Any = self._new_items()
        super().__init__(maxsize if maxsize > 0 else math.inf, items, *self._calls(items))
        self.maxsize = maxsize
        self.unfinished_tasks = 0
        self._idle = ParkingLot("everything in a queue to be done")

    def _new_items(self) -> Any:
        return deque()

    def _calls(self, items: Any) -> tuple[Any, Any]:
        """How an item is put in, and how one is taken out."""
        return items.append, items.popleft

    def qsize(self) -> int:
        """How many items there are."""
        return len(self.items)

    def empty(self) -> bool:
        """Whether there are none."""
        return not self.items

    def full(self) -> bool:
        """Whether there is no room for another one."""
        return len(self.items) >= self.capacity

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Puts *item* in; waits for room. May switch tasks.

        Raises ``queue.Full`` when there was none for *timeout* seconds, or at once where *block* is false; ``ShutDown``;
        ``Cancelled``: then it was not put in.
        """
        limit = _limit(block, timeout)
        worker = begin()
        with mutex:
            if self.closed:
                raise ShutDown
            if self.offer(item):
                self.unfinished_tasks += 1
                return
            if limit is not None and limit <= 0:
                raise queue.Full
            waiter = self.line_up_to_give(worker, item)
        outcome = self.stay_to_give(waiter, limit)
        if outcome is CLOSED:
            raise ShutDown
        if outcome is NOTHING:
            raise queue.Full
        if isinstance(outcome, Refused):
            raise outcome.error

    def entered(self) -> None:
        self.unfinished_tasks += 1

    def put_nowait(self, item: T) -> None:
        """``put(item, block=False)``."""
        self.put(item, block=False)

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Takes an item out; waits for one. May switch tasks.

        Raises ``queue.Empty`` when there was none for *timeout* seconds, or at once where *block* is false; ``ShutDown``
        when there will be none; ``Cancelled``.
        """
        limit = _limit(block, timeout)
        worker = begin()
        with mutex:
            item = self.fetch()
            if item is not NOTHING:
                return item  # type: ignore[return-value]
            if self.closed:
                raise ShutDown
            if limit is not None and limit <= 0:
                raise queue.Empty
            waiter = self.line_up_to_take(worker)
        item = self.stay_to_take(waiter, limit)
        if item is CLOSED:
            raise ShutDown
        if item is NOTHING:
            raise queue.Empty
        return item  # type: ignore[return-value]

    def get_nowait(self) -> T:
        """``get(block=False)``."""
        return self.get(block=False)

    def task_done(self) -> None:
        """Says that one item that was taken out is done with. Raises ``ValueError`` when all were already."""
        with mutex:
            if self.unfinished_tasks <= 0:
                raise ValueError("task_done() called too many times")
            self._finish(1)

    def _finish(self, count: int) -> None:
        self.unfinished_tasks -= count
        if not self.unfinished_tasks:
            self._idle.wake_all()

    def join(self) -> None:
        """Waits until everything that was put in is done with. Switches tasks. Raises ``Cancelled``."""
        worker = begin()
        with mutex:
            if not self.unfinished_tasks:
                return
            waiter = self._idle.join(worker)
        stay(self._idle, waiter)

    def shutdown(self, immediate: bool = False) -> None:
        """Ends it: ``put`` raises ``ShutDown``, and so does ``get`` when it is empty. *immediate*: it is emptied now."""
        with mutex:
            self.shut()
            if immediate:
                dropped = len(self.items)
                self.items.clear()
                if dropped:
                    self._finish(min(dropped, self.unfinished_tasks))


class LifoQueue(Queue[T]):
    """Last in, first out."""

    __slots__ = ()

    def _new_items(self) -> Any:
        return []

    def _calls(self, items: Any) -> tuple[Any, Any]:
        return items.append, items.pop


class PriorityQueue(Queue[T]):
    """The least item first; ``(priority, item)`` as a rule."""

    __slots__ = ()

    def _new_items(self) -> Any:
        return []

    def _calls(self, items: Any) -> tuple[Any, Any]:
        return partial(heapq.heappush, items), partial(heapq.heappop, items)


def _limit(block: bool, timeout: float | None) -> float | None:
    """The arguments as the standard queues take them: a time-out only counts where blocking is allowed."""
    if block and timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return time_limit(block, timeout if block else None)
