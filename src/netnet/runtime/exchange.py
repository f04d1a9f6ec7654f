"""Handing things over: the one mechanism under ``Channel`` and the queues.

An exchange has room for a number of items, and two lines: of those who wait to give, and of those who wait to take. At
most one of the lines is not empty, and while somebody waits to take there is no item in it. So whoever is first gets the
first item, directly, and nobody who comes later can take it away from him.

A waiter's ``gift`` is what it gives, or what it was given. Everything that touches the lines runs under ``lot.mutex``.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from netnet.runtime.lot import Parked, ThreadWaiter, mutex, stay, wake, was_handed
from netnet.runtime.worker import Worker

#: instead of a gift: the exchange was closed meanwhile
CLOSED: Final = object()
#: instead of an item: there is none now, or no room
NOTHING: Final = object()


class Refused:
    """Instead of a gift: why an item could not be kept."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


class Exchange:
    """What channels and queues are. *capacity*: so many items are held while nobody waits for them."""

    __slots__ = ("__weakref__", "_pop", "_push", "capacity", "closed", "givers", "items", "takers")

    def __init__(
        self,
        capacity: float,
        items: Any,
        push: Callable[[Any], object],
        pop: Callable[[], Any],
    ) -> None:
        self.capacity = capacity
        self.items = items
        self._push = push
        self._pop = pop
        self.givers: deque[Worker | Parked] = deque()
        self.takers: deque[Worker | Parked] = deque()
        self.closed = False

    # -- one step, under the mutex, without waiting

    def offer(self, item: object) -> bool:
        """Hands *item* to the first who waits for one, or keeps it where there is room; false otherwise."""
        takers = self.takers
        while takers:
            taker = takers.popleft()
            if not taker.loop.closed if type(taker) is Worker else taker.claim():  # type: ignore[union-attr]
                taker.gift = item
                wake(taker)
                return True
        if len(self.items) < self.capacity:
            self._push(item)
            if len(self.items) <= self.capacity or type(self.items) is not deque:
                return True
            self.items.pop()  # a signal's handler was quicker
        return False

    def fetch(self) -> object:
        """The next item, or ``NOTHING``. Room that becomes free goes to the first who waits for it."""
        givers = self.givers
        if self.items:
            item = self._pop()
            while givers:
                giver = givers.popleft()
                if not giver.loop.closed if type(giver) is Worker else giver.claim():  # type: ignore[union-attr]
                    self._take_in(giver)
                    wake(giver)
                    break
            return item
        while givers:
            giver = givers.popleft()
            if not giver.loop.closed if type(giver) is Worker else giver.claim():  # type: ignore[union-attr]
                item, giver.gift = giver.gift, None
                self.entered()
                wake(giver)
                return item
        return NOTHING

    def _take_in(self, giver: Worker | Parked) -> None:
        """Keeps what *giver* gives; where that cannot be kept, he gets the error."""
        item, giver.gift = giver.gift, None
        try:
            self._push(item)
        except Exception as error:  # a queue's order, for instance, cannot compare it
            giver.gift = Refused(error)
        else:
            self.entered()

    def entered(self) -> None:
        """An item that had to wait has come in."""

    # -- waiting

    def line_up_to_give(self, worker: Worker | None, item: object) -> Worker | Parked:
        """Stands in the line of those who give; ``stay_to_give`` is to follow."""
        waiter: Worker | Parked = ThreadWaiter() if worker is None else worker
        waiter.gift = item
        self.givers.append(waiter)
        if self.takers and self.leave(waiter):  # a signal's handler has struck right before
            self.offer(item)
            waiter.gift = None
            wake(waiter)
        return waiter

    def stay_to_give(self, waiter: Worker | Parked, timeout: float | None = None) -> object:
        """Waits until the item was taken; returns ``None``, ``CLOSED``, or ``NOTHING`` when the time was up."""
        try:
            if not stay(self, waiter, timeout):
                return NOTHING
            return waiter.gift
        finally:
            waiter.gift = None

    def line_up_to_take(self, worker: Worker | None) -> Worker | Parked:
        """Stands in the line of those who take; ``stay_to_take`` is to follow."""
        waiter: Worker | Parked = ThreadWaiter() if worker is None else worker
        self.takers.append(waiter)
        if (self.items or self.givers) and self.leave(waiter):  # a signal's handler has struck right before
            waiter.gift = self.fetch()
            wake(waiter)
        return waiter

    def stay_to_take(self, waiter: Worker | Parked, timeout: float | None = None) -> object:
        """Waits for an item; returns it, ``CLOSED``, or ``NOTHING`` when the time was up."""
        try:
            if not stay(self, waiter, timeout):
                return NOTHING
            return waiter.gift
        except BaseException as error:
            if was_handed(error) and waiter.gift is not CLOSED:
                self.give_back(waiter.gift)
            raise
        finally:
            waiter.gift = None

    def give_back(self, item: object) -> None:
        """An item that was taken, by somebody who could not use it, comes next."""
        with mutex:
            if self.takers or not isinstance(self.items, deque):
                if not self.offer(item):
                    self._push(item)
            else:
                self.items.appendleft(item)

    # -- the end

    def shut(self) -> None:
        """Sends all who wait away with ``CLOSED``; what is held stays. Under the mutex."""
        self.closed = True
        for line in (self.givers, self.takers):
            while line:
                waiter = line.popleft()
                if not waiter.loop.closed if type(waiter) is Worker else waiter.claim():  # type: ignore[union-attr]
                    waiter.gift = CLOSED
                    wake(waiter)

    # -- as a place

    def leave(self, waiter: Worker | Parked) -> bool:
        """Takes *waiter* out of its line; false when it was woken already."""
        with mutex:
            for line in (self.takers, self.givers):
                try:
                    line.remove(waiter)
                except ValueError:
                    continue
                return True
            return False

    def forget(self, worker: Worker) -> bool:
        return self.leave(worker)

    def describe(self, worker: Worker) -> str:
        kind = type(self).__name__.lower()
        return f"room in a {kind}" if worker in self.givers else f"something in a {kind}"


def checked_capacity(capacity: float) -> float:
    """*capacity* if it can be one: a whole number from 0 on, or ``math.inf``."""
    if capacity != math.inf and (isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 0):
        raise ValueError(f"a capacity is a whole number from 0 on, or math.inf, not {capacity!r}")
    return capacity
