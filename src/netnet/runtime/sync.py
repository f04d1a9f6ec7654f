"""What tasks coordinate with: event and semaphore. Both are one parking lot and a little state, fair and
cancellation-safe: a cancelled waiter has taken nothing. For tasks of one loop, not for OS threads."""

from __future__ import annotations

from types import TracebackType

from netnet.runtime.lot import ParkingLot
from netnet.runtime.worker import current_worker


def checkpoint() -> None:
    """The beginning of a call that need not wait: raises ``Cancelled`` where it has to, lets others run now and then."""
    worker = current_worker()
    worker.loop.checkpoint(worker)


class Event:
    """Something that happens once (until it is cleared), for which any number of tasks can wait."""

    __slots__ = ("_lot", "_set")

    def __init__(self) -> None:
        self._set = False
        self._lot = ParkingLot("an event to be set")

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._set

    def set(self) -> None:
        """Makes it happen: all who wait go on. Does not switch tasks."""
        self._set = True
        self._lot.wake_all()

    def clear(self) -> None:
        """Makes it something that has yet to happen."""
        self._set = False

    def wait(self) -> None:
        """Waits until it has happened. Switches tasks unless it has. Raises ``Cancelled``."""
        if not self._set:
            self._lot.park()
        else:
            checkpoint()


class Semaphore:
    """A number of permits. ``with semaphore:`` takes one for the lines and gives it back."""

    __slots__ = ("_free", "_lot")

    def __init__(self, permits: int) -> None:
        if permits < 0:
            raise ValueError(f"a semaphore needs 0 or more permits, not {permits}")
        self._free = permits
        self._lot = ParkingLot("a permit of a semaphore")

    @property
    def value(self) -> int:
        """How many permits are free."""
        return self._free

    def acquire(self) -> None:
        """Takes a permit; waits for one if none is free, first come first served. Raises ``Cancelled``."""
        if self._free and not self._lot.waiting:
            checkpoint()
            if self._free:
                self._free -= 1
                return
        self._lot.park()  # who wakes us hands the permit over

    def release(self) -> None:
        """Gives a permit back, to the first who waits. Does not switch tasks."""
        if not self._lot.wake(1):
            self._free += 1

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
