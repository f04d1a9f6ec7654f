"""Channels: a line through which tasks hand things to each other, in order, with any number of senders and receivers.

Fair, safe to be cancelled in (a cancelled ``send`` has sent nothing, a cancelled ``receive`` has taken nothing), and
usable from several OS threads, each with a loop or without one. To wait for one of several channels: ``choose``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from greenlet import getcurrent

from netnet.errors import ChannelClosedError
from netnet.runtime.exchange import CLOSED, NOTHING, Exchange, checked_capacity
from netnet.runtime.lot import begin, mutex
from netnet.runtime.worker import Worker

T = TypeVar("T")

_CLOSED_FOR_SENDING = "the channel is closed; nothing can be sent any more"
_AT_ITS_END = "the channel is closed and everything that was sent has been received"


class Channel(Exchange, Generic[T]):
    """``send`` on one side, ``receive`` or ``for item in channel`` on the other.

    *capacity* items are held while nobody receives; with 0 a ``send`` waits until its item was received, with
    ``math.inf`` it never waits. Either side may ``close`` it. ``with channel:`` closes it in the end.
    """

    __slots__ = ()

    items: deque[T]

    def __init__(self, capacity: float = 0) -> None:
        items: deque[T] = deque()
        super().__init__(checked_capacity(capacity), items, items.append, items.popleft)

    def __len__(self) -> int:
        return len(self.items)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{len(self.givers)} send, {len(self.takers)} receive"
        return f"<netnet.Channel {len(self.items)}/{self.capacity}, {state}>"

    def send(self, item: T) -> None:
        """Hands *item* over; waits while there is no room and nobody to receive it. May switch tasks.

        Raises ``ChannelClosedError``, also where the channel is closed while it waits: then *item* was not taken.
        Raises ``Cancelled``.
        """
        worker: Any = getcurrent()
        if type(worker) is Worker and (loop := worker.loop).credit and worker.home is loop:
            loop.credit -= 1  # ``begin``, written out
        else:
            worker = begin()
        with mutex:
            if self.closed:
                raise ChannelClosedError(_CLOSED_FOR_SENDING, self)
            items = self.items
            room = self.capacity - len(items)
            if room > 0 and not self.takers:
                items.append(item)
                if room > 1 or len(items) <= self.capacity:
                    return
                items.pop()  # a signal's handler was quicker
            if self.offer(item):
                return
            waiter = self.line_up_to_give(worker, item)
        if self.stay_to_give(waiter) is CLOSED:
            raise ChannelClosedError("the channel was closed before the item was taken", self)

    def send_now(self, item: T) -> bool:
        """Hands *item* over if that needs no waiting; whether it did. Does not switch tasks.

        Also for callbacks and signal handlers. Raises ``ChannelClosedError``.
        """
        with mutex:
            if self.closed:
                raise ChannelClosedError(_CLOSED_FOR_SENDING, self)
            return self.offer(item)

    def receive(self) -> T:
        """The next item; waits for one. May switch tasks.

        Raises ``ChannelClosedError`` when the channel is closed and empty, ``Cancelled``.
        """
        worker: Any = getcurrent()
        if type(worker) is Worker and (loop := worker.loop).credit and worker.home is loop:
            loop.credit -= 1  # ``begin``, written out
        else:
            worker = begin()
        with mutex:
            items = self.items
            if items and not self.givers:
                return items.popleft()
            item = self.fetch()
            if item is not NOTHING:
                return item  # type: ignore[return-value]
            if self.closed:
                raise ChannelClosedError(_AT_ITS_END, self)
            waiter = self.line_up_to_take(worker)
        item = self.stay_to_take(waiter)
        if item is CLOSED:
            raise ChannelClosedError(_AT_ITS_END, self)
        return item  # type: ignore[return-value]

    def close(self, *, discard: bool = False) -> None:
        """Nothing more can be sent: who waits to send gets ``ChannelClosedError``. Twice is fine.

        What the channel holds can still be received, after that ``receive`` raises and iterating ends. A receiver that
        wants nothing more says *discard*: what is held is dropped. Does not switch tasks.
        """
        with mutex:
            self.shut()
            if discard:
                self.items.clear()

    def __iter__(self) -> Iterator[T]:
        """The items as they come, until the channel is closed and empty. Switches tasks."""
        while True:
            try:
                item = self.receive()
            except ChannelClosedError:
                return
            yield item

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
