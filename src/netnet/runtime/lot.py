"""The parking lot: the one wait queue under joins, events, semaphores and whatever waits for another task.

First come, first served. A cancelled waiter leaves the queue without having taken anything, so nothing is lost.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from netnet.runtime.worker import current_worker

if TYPE_CHECKING:
    from netnet.runtime.worker import Worker


class ParkingLot:
    """Where tasks wait until another one wakes them. *what* says in reports what they wait for."""

    __slots__ = ("waiting", "what")

    def __init__(self, what: str) -> None:
        self.what = what
        self.waiting: deque[Worker] = deque()

    def park(self) -> None:
        """Waits until woken. Switches tasks. Raises ``Cancelled``."""
        worker = current_worker()
        loop = worker.loop
        if worker.home is not loop:
            loop.refuse(worker)
        self.waiting.append(worker)
        loop.park(worker, self)

    def wake(self, count: int = 1) -> int:
        """Wakes the first *count* waiters, in order; returns how many there were. Does not switch tasks."""
        woken = 0
        while self.waiting and woken < count:
            worker = self.waiting.popleft()
            worker.waiting = None
            worker.loop.ready.append(worker)
            woken += 1
        return woken

    def wake_all(self) -> int:
        return self.wake(len(self.waiting))

    def forget(self, worker: Worker) -> bool:
        """Takes *worker* out of the queue; false when it was woken already."""
        try:
            self.waiting.remove(worker)
        except ValueError:
            return False
        return True

    def describe(self, worker: Worker) -> str:
        return self.what
