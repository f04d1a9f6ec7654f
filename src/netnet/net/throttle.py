"""How many bytes may move, and when: throttles for relays, which several of them may share.

A throttle is asked before bytes move, grants some of them or none, and takes back what did not move after all. Nothing
here waits or moves anything: who is granted nothing asks again at the instant that the throttle tells. ``TokenBucket`` is
the throttle of one process. An ``Allowance`` is all the throttles of one direction of a relay taken together.

A bucket needs no refilling. It is one number, the instant at which it will be full again: granting moves it ahead,
giving back moves it back, time does the rest. (That is the generic cell rate algorithm, ITU-T I.371, Annex A.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from netnet.runtime.loop import Loop
    from netnet.runtime.timers import Timer
    from netnet.runtime.worker import Waiter

#: what a bucket holds at most, unless it is told otherwise: what flows in so many seconds, so that a loop that comes late
#: loses nothing; but so many bytes at least, so that a short answer is not held up at all
BURST_SECONDS: Final = 0.1
BURST_BYTES_MIN: Final = 16384

#: who has to wait, waits for what flows in so many seconds: a throttled relay moves twenty times a second, often enough
#: not to be felt, seldom enough to cost nothing. Half a burst at most: the other half is there for coming late
SHARE_SECONDS: Final = 0.05
#: but not less than a TCP segment on Ethernet holds, unless that takes longer than so
SEGMENT_BYTES: Final = 1460
SHARE_SECONDS_MAX: Final = 1.0

#: the largest rate and burst: more than anybody moves, and a float still holds it
BYTES_MAX: Final = 1 << 62

#: the shortest wait for a grant: the kernel's timers are no finer, and a throttle that always says "now" keeps no loop busy
WAIT_SECONDS_MIN: Final = 0.001


class Throttle(Protocol):
    """What says how fast bytes may move. Instants are those of the loop's clock, in seconds. No call may wait."""

    def grant(self, wanted: int, now: float) -> int:
        """How many bytes may move now, 0 to *wanted*. They count as moved, until they are given back."""

    def give_back(self, unused: int) -> None:
        """Of the bytes that were granted last, so many have not moved."""

    def ready_at(self, now: float) -> float:
        """When to ask again, after a grant of 0."""


#: the throttles of a relay: those of *a* → *b*, and those of *b* → *a*
Throttles = tuple[Sequence[Throttle], Sequence[Throttle]]


class TokenBucket:
    """A throttle: so many bytes a second in the long run, and no more than so many at once.

    *rate_bytes_per_second* is 1 or more. *burst_bytes* is what may pass at once after silence; by default what flows in
    100 ms, but 16 KiB at least. With a burst of less than some 10 ms the rate is not quite reached, since nobody comes
    often enough to fetch it.

    Any number of relays of one loop may draw from it, in both directions. A grant never empties it as long as it holds
    more than a share, 50 ms of the rate; and where several wait for the next share, they divide it among themselves.
    Raises ``ValueError`` and ``TypeError`` for numbers that make no sense.

    >>> bucket = TokenBucket(1_000_000)
    >>> bucket.grant(200_000, now=0.0), bucket.grant(200_000, now=0.0), bucket.grant(200_000, now=0.0)
    (50000, 50000, 0)
    >>> bucket.ready_at(now=0.0)
    0.05
    """

    __slots__ = (
        "_full_at",
        "_least",
        "_portion",
        "_share_ahead",
        "_told",
        "_waiting",
        "burst_bytes",
        "rate",
        "share_bytes",
    )

    def __init__(self, rate_bytes_per_second: float, burst_bytes: int | None = None) -> None:
        self.rate = _checked_rate(rate_bytes_per_second)  #: bytes a second
        if burst_bytes is None:
            burst_bytes = max(BURST_BYTES_MIN, int(self.rate * BURST_SECONDS))
        self.burst_bytes = _checked_burst(burst_bytes)
        #: what there has to be in it for those who wait
        self.share_bytes = _share(self.rate, self.burst_bytes)
        #: the smallest portion of a share that is worth a wake
        self._least = min(self.share_bytes, SEGMENT_BYTES)
        self._full_at = -math.inf
        #: so long before it is full there is a share in it
        self._share_ahead = (self.burst_bytes - self.share_bytes) / self.rate
        self._portion = self.share_bytes  #: what one may have at present
        self._waiting = 0  #: so many have been told to come again
        self._told = 0.0  #: and when, the first of them

    def grant(self, wanted: int, now: float) -> int:
        """How many bytes may move now: *wanted*, but no more than a share, or half of what is there beyond one, if that is
        more. 0 while there is less in it than that.

        *now* is an instant, in seconds, of the same clock each time. Does not switch tasks.
        """
        if self._waiting and now >= self._told:  # all who were told to come now are to have something
            self._portion = max(self._least, self.share_bytes // self._waiting)
            self._waiting = 0
        least = min(wanted, self._portion)
        ahead = (self.burst_bytes - least + 0.5) / self.rate  # with half a byte, since instants are rounded
        if now < self._full_at - ahead:
            return 0
        held = self.burst_bytes - max(0.0, self._full_at - now) * self.rate
        granted = min(wanted, max(least, int((held - self.share_bytes) / 2)))
        self._full_at = max(now, self._full_at) + granted / self.rate
        return granted

    def give_back(self, unused: int) -> None:
        """Puts back what was granted and not used. Does not switch tasks."""
        self._full_at -= unused / self.rate

    def ready_at(self, now: float) -> float:
        """The instant at which there is a whole share in it. To be asked once by each who is granted nothing, since the
        bucket counts them."""
        instant = self._full_at - self._share_ahead
        if not self._waiting:
            self._told = instant
        self._waiting += 1
        return instant

    def __repr__(self) -> str:
        return f"TokenBucket({self.rate:g}, {self.burst_bytes})"


def _share(rate: float, burst_bytes: int) -> int:
    """What there has to be in a bucket for those who wait, in bytes."""
    share = max(rate * SHARE_SECONDS, min(SEGMENT_BYTES, rate * SHARE_SECONDS_MAX))
    return max(1, int(min(share, burst_bytes // 2)))


def _checked_rate(rate: float) -> float:
    if isinstance(rate, bool) or not isinstance(rate, (int, float)):
        raise TypeError(f"a rate must be a number of bytes a second, not {rate!r}")
    if not 1 <= rate <= BYTES_MAX:
        raise ValueError(f"a rate is 1 to {BYTES_MAX} bytes a second, not {rate!r}; for no limit, pass no throttle")
    return float(rate)


def _checked_burst(burst_bytes: int) -> int:
    if isinstance(burst_bytes, bool) or not isinstance(burst_bytes, int):
        raise TypeError(f"a burst must be a whole number of bytes, not {burst_bytes!r}")
    if not 1 <= burst_bytes <= BYTES_MAX:
        raise ValueError(f"a burst is 1 to {BYTES_MAX} bytes, not {burst_bytes}")
    return burst_bytes


class Allowance:
    """What one direction of a relay may move: the least of what its throttles grant. And its wait for them."""

    __slots__ = ("_loop", "_throttles", "_timer", "_waiter", "until")

    def __init__(self, loop: Loop, throttles: Sequence[Throttle]) -> None:
        self._loop = loop
        self._throttles = throttles
        self._timer: Timer | None = None
        self._waiter: Waiter | None = None
        #: when the present wait ends; in the past when there is none
        self.until = -math.inf

    def grant(self, wanted: int) -> int:
        """How many bytes may move now; each of the throttles has granted so many. At 0, ``wait``."""
        now = self._loop.clock.now()
        least, grants = wanted, []
        for throttle in self._throttles:
            granted = throttle.grant(least, now)
            grants.append(granted)
            if granted:
                least = granted
        kept = least if all(grants) else 0
        until = now + WAIT_SECONDS_MIN
        for throttle, granted in zip(self._throttles, grants, strict=True):
            if not granted:
                until = max(until, throttle.ready_at(now))
            elif granted > kept:
                throttle.give_back(granted - kept)
        if not kept:
            self.until = until
        return kept

    def give_back(self, unused: int) -> None:
        """Of the bytes granted last, so many have not moved."""
        if unused:
            for throttle in self._throttles:
                throttle.give_back(unused)

    def wait(self, waiter: Waiter) -> None:
        """Has *waiter* woken when it is worth asking again, after a grant of 0."""
        if self._timer is not None:
            self._timer.cancel()
        self._waiter = waiter
        self._timer = self._loop.timers.add(self.until, self._over)

    def _over(self) -> None:
        waiter, self._waiter, self._timer = self._waiter, None, None
        if waiter is not None:
            waiter.switch()

    def cancel(self) -> None:
        """Nobody waits any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._waiter = self._timer = None


def allowances(loop: Loop, throttles: Throttles) -> tuple[Allowance | None, Allowance | None]:
    """One for each direction; ``None`` where there is no throttle. Raises ``TypeError`` for what are no throttles."""
    if throttles == ((), ()):
        return None, None
    try:
        up, down = map(tuple, throttles)
    except (TypeError, ValueError):
        raise TypeError(
            f"throttles are a pair of sequences, those of a → b and those of b → a, as in ([bucket], []); not {throttles!r}"
        ) from None
    for throttle in up + down:
        if not hasattr(throttle, "grant"):
            raise TypeError(f"a throttle has grant, give_back and ready_at, as TokenBucket has; not {throttle!r}")
    return (Allowance(loop, up) if up else None, Allowance(loop, down) if down else None)


__all__ = ["Allowance", "Throttle", "Throttles", "TokenBucket", "allowances"]
