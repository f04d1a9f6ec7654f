"""Where instants come from: the real monotonic clock, or a virtual one for tests.

An instant is a float of seconds since some start that only the clock knows; deadlines are instants. The virtual clock
stands still while any task can run and jumps to the next deadline when all are parked, so a program that sleeps for
hours ends at once and always in the same order.
"""

from __future__ import annotations

import math
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time, and says whether the loop may jump it."""

    #: true when nobody has to wait for the real time to pass
    jumps: bool

    def now(self) -> float:
        """The present instant, in seconds."""

    def jump_to(self, instant: float) -> None:
        """Moves the present forward. Only called where ``jumps`` is true."""


class MonotonicClock:
    """The real time: ``time.monotonic``, which no change of the wall clock disturbs."""

    __slots__ = ("now",)
    jumps = False

    def __init__(self) -> None:
        self.now = time.monotonic

    def jump_to(self, instant: float) -> None:
        raise NotImplementedError("the real time cannot be moved")


class VirtualClock:
    """A clock that stands still while a task can run and jumps to the next deadline when all are parked.

    Pass it to ``netnet.run(main, clock=VirtualClock())``. *start* is the first instant, in seconds. Real sockets still
    work: what one task sends, another receives, before the clock jumps.
    """

    __slots__ = ("_now",)
    jumps = True

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def jump_to(self, instant: float) -> None:
        self._now = max(self._now, instant)

    def advance(self, seconds: float) -> None:
        """Moves the present forward by hand; what became due runs in the loop's next turn."""
        self._now += checked_seconds(seconds)


def checked_seconds(seconds: float | str | bytes) -> float:
    """*seconds* as a float; raises ``ValueError`` for NaN, and ``TypeError`` for what is no number."""
    if isinstance(seconds, (str, bytes)):
        raise TypeError(f"a time must be a number of seconds, not {seconds!r}")
    value = float(seconds)
    if math.isnan(value):
        raise ValueError("a time must be a number of seconds, not NaN")
    return value
