"""What is to happen at which instant: a binary heap of timers. Knows no clock and no task; the loop asks.

Equal instants fire in the order in which they were set. Cancelling marks the timer and lets go of what it would have
called, so it costs nothing later; when more than half of the heap is marked the heap is built anew without them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

#: below this many dead timers the heap is not worth rebuilding
DEAD_MIN = 64


def _nothing() -> None:
    pass


class Timer:
    """One appointment. ``when`` is its instant; ``action`` is called once, in the loop, and must not block."""

    __slots__ = ("action", "live", "timers", "when")

    def __init__(self, timers: Timers, when: float, action: Callable[[], object]) -> None:
        self.timers = timers
        self.when = when
        self.action = action
        self.live = True

    def cancel(self) -> bool:
        """Takes the appointment back; false when it was kept or taken back already."""
        if not self.live:
            return False
        self.live = False
        self.action = _nothing
        self.timers.note_dead()
        return True


class Timers:
    """All appointments of one loop."""

    __slots__ = ("_dead", "_order", "heap", "lag")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._dead = 0
        #: how late the first of those was that were kept last, in seconds
        self.lag = 0.0

    def add(self, when: float, action: Callable[[], object]) -> Timer:
        """Sets an appointment for the instant *when*."""
        timer = Timer(self, when, action)
        heapq.heappush(self.heap, (when, next(self._order), timer))
        return timer

    def note_dead(self) -> None:
        self._dead += 1
        if self._dead > DEAD_MIN and self._dead * 2 > len(self.heap):
            self.heap[:] = [entry for entry in self.heap if entry[2].live]
            heapq.heapify(self.heap)
            self._dead = 0

    def next_instant(self) -> float | None:
        """When the next living timer is due; dead ones before it are dropped."""
        heap = self.heap
        while heap:
            if heap[0][2].live:
                return heap[0][0]
            heapq.heappop(heap)
            self._dead -= 1
        return None

    def fire(self, now: float) -> int:
        """Keeps every appointment that is due at *now*, however late; returns how many there were.

        One that is made meanwhile waits for the next time.
        """
        heap = self.heap
        if not heap or heap[0][0] > now:
            return 0
        end = next(self._order)
        kept = 0
        while heap and heap[0][0] <= now and heap[0][1] < end:
            timer = heapq.heappop(heap)[2]
            if timer.live:
                timer.live = False
                if not kept:
                    self.lag = now - timer.when
                kept += 1
                action, timer.action = timer.action, _nothing  # which holds nothing any more
                action()
            else:
                self._dead -= 1
        return kept
