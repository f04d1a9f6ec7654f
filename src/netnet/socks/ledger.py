"""What all worker processes of the proxy must agree upon: connections at once, new connections a second, failed logins,
bans, and the bandwidth of users. One ``Ledger`` is made before the fork; each worker takes a seat in it.

Here is what is counted, and by which rule; the memory and the lock are in ``ledger_rows``. No call switches tasks, and
only those that change what others rely on take the lock: a microsecond or two. Who has a limit of ``None`` does not ask.

Who a *client* is: an IPv4 address; of an IPv6 address the first 64 bits, as one customer has a /64 at least and may
change the rest at will (RFC 6177, RFC 8981); all peers of UNIX sockets together (``b""``). An IPv4 address in IPv6 clothes
(``::ffff:a.b.c.d``) is the IPv4 address.

Two rates are kept as one instant each. New connections follow the generic cell rate algorithm (ITU-T I.371, annex A):
the instant at which the next would come if all came evenly. A bucket of bandwidth is the instant at which it will be
full. Either is over when the instant has passed, and then the row is free again.

Memory is bounded, so a set of rows can be full of counts, bans and rates in force. Then nothing of these is lost and no
limit is overrun: whoever is not in it yet is refused (``take``, ``may_come``), waits (a bucket), or gets the longest
delay (``login_failed``). ``turned_away`` counts these cases, and ``forgotten`` those in which failed logins of a client,
not yet a ban, made room for another.
"""

from __future__ import annotations

import math
import random
import socket
import time
from collections.abc import Callable
from typing import Final

from netnet.net.throttle import (
    BURST_BYTES_MIN,
    BURST_SECONDS,
    SEGMENT_BYTES,
    SHARE_SECONDS,
    SHARE_SECONDS_MAX,
    WAIT_SECONDS_MIN,
)
from netnet.socks.ledger_rows import ADDRESS_BYTES, FORGOTTEN, TURNED_AWAY, Rows

#: 128 Ki rows are 7.5 MiB and 0.5 MiB a seat, if all are touched. With 40,000 in use a set of 32 has ten on average,
#: and the chance that any of the 4096 sets would need more than it has is 1 in 30,000
ROWS: Final = 1 << 17

#: the first delay of an answer to a failed login; it doubles from there. Nobody feels it, and it slows down 100 tries
DELAY_SECONDS_MIN: Final = 0.1

#: a grant is a share, but so many bytes at least if they are there: fewer are not worth the lock
GRANT_BYTES_MIN: Final = 4096

#: relays that wait for one bucket come back at slightly different times: else the same one would be first each time
SPREAD_SECONDS: Final = 0.005

#: rounding of instants, in intervals, must not cost a connection that is just in time
_SLACK: Final = 0.001

_IPV4_IN_IPV6: Final = bytes(10) + b"\xff\xff"

_CLIENT: Final = "client"
_CLIENT_PREFIX: Final = b"client\0"


#: what ``Ledger.admit`` returns instead of a row
TOO_OFTEN: Final = -1
TOO_MANY: Final = -2
UNCOUNTED: Final = -3


class Ledger:
    """Counts, rates and bans that hold over all the processes that share them.

    *seats*: how many processes can count connections at the same time, those that drain included; many cost nothing while
    the low numbers are used first. *rows*: how many
    clients, users and buckets can be known at once; what happens then is told above. *clock* returns the present
    instant in seconds, never below 0, and the same in all processes; it is the clock of the loop.

    A worker calls ``sit`` before it takes anything; one thread of it uses the ledger. The rest (rates, logins, totals)
    needs no seat. With several seats it has a descriptor, which ``close`` closes, as does the ledger's end. With one
    seat it has neither descriptor nor lock, and is ``private``: whoever makes it sits there.
    """

    __slots__ = ("_clock", "_rows")

    def __init__(self, *, seats: int = 1, rows: int = ROWS, clock: Callable[[], float] = time.monotonic) -> None:
        self._rows = Rows(seats, rows, locked=seats > 1)
        self._clock = clock
        if seats == 1:
            self._rows.sit(0)

    @classmethod
    def private(cls, *, rows: int = ROWS, clock: Callable[[], float] = time.monotonic) -> Ledger:
        """A ledger for one process, which sits already: no lock, no descriptor. Two processes must not both use it."""
        return cls(rows=rows, clock=clock)

    def close(self) -> None:
        """Closes the lock's descriptor in this process, which gives up its seat. Nothing may be called after it."""
        self._rows.close()

    # -- seats

    @property
    def seats(self) -> int:
        """How many seats there are."""
        return self._rows.seats

    @property
    def seat(self) -> int | None:
        """Where this process sits."""
        return self._rows.seat

    def sit(self, seat: int | None = None) -> int:
        """Takes *seat* for this process until it ends; ``None``: the first that is free. Returns its number.

        Counts that a dead process left there are taken away. Raises ``RuntimeError`` if a living process sits there, or
        everywhere, or this one sits elsewhere; ``ValueError`` if there is no such seat.
        """
        return self._rows.sit(seat)

    def vacate(self, seat: int) -> None:
        """Takes away the counts of a process that has died. Of one's own seat: leaves it.

        Raises ``RuntimeError`` while a process lives there: its connections are still open. ``ValueError`` as ``sit``.
        """
        self._rows.vacate(seat)

    def vacate_dead(self) -> list[int]:
        """The same for all seats of processes that have died. Returns which."""
        return self._rows.vacate(None)

    # -- connections at once

    def take(self, kind: str, key: str | bytes, maximum: int) -> bool:
        """Counts one more connection, unless there are *maximum* already, in all processes together.

        *kind* says what is counted: "client" (the *key* is its packed address), "user" (its name), "all" (``b""``), or
        any other word. Returns whether it is counted; if not there is nothing to give back. False as well when there is
        no row for a key that is new. Raises ``RuntimeError`` without a seat.
        """
        table = self._rows
        if table.base < 0:
            raise RuntimeError("this process has no seat in the ledger: call sit() first")
        name = table.name(_key(kind, key))
        try:
            table.lock()
            row = table.claim(name, self._clock())
            if row < 0 or table.total(row) >= maximum:
                return False
            table.counts[table.base + row] += 1
            return True
        finally:
            table.unlock()

    def give(self, kind: str, key: str | bytes) -> None:
        """Counts one connection less: one that this process has taken. Raises ``RuntimeError`` if there is none.

        Needs no lock: only this process writes its counts, and the row stays while one of them is above 0.
        """
        table = self._rows
        row = table.find(table.name(_key(kind, key)))
        if row < 0 or table.base < 0 or not table.counts[table.base + row]:
            raise RuntimeError(f"this process has taken no connection of {kind} {key!r} that it could give back")
        table.counts[table.base + row] -= 1

    def total(self, kind: str, key: str | bytes = b"") -> int:
        """How many connections there are now, in all processes together. Only ``take`` counts them."""
        table = self._rows
        name = table.name(_key(kind, key))
        row = table.find(name)
        if row < 0:
            return 0
        count = table.total(row)
        return count if table.is_named(row, name) else 0

    # -- new connections a second

    def may_come(self, client: bytes, per_second: float, burst: int) -> bool:
        """Whether a new connection of *client* is within its rate, and if so, counts it.

        Up to *burst* may come at once, and *per_second* in the long run. What is refused does not count. False as well
        when there is no row for a client that is new. Raises ``ValueError`` for numbers that are no rate.
        """
        if not per_second > 0 or burst < 1:
            raise ValueError(f"a rate is above 0 a second, and 1 at least at once, not {per_second} and {burst}")
        table = self._rows
        name = table.name(_CLIENT_PREFIX + client_key(client))
        try:
            table.lock()
            now = self._clock()
            row = table.claim(name, now)
            return row >= 0 and self._is_within_rate(row, now, 1 / per_second, burst)
        finally:
            table.unlock()

    def _is_within_rate(self, row: int, now: float, interval: float, burst: int) -> bool:
        """Whether one more is within the rate of *row*; if so, it is counted. The lock is held."""
        table = self._rows
        instant = max(table.instants[row], now)
        if instant - now > (burst + 1) * interval:  # it was set by a lower rate, before a reload
            instant = table.instants[row] = now + burst * interval
        if instant - now > (burst - 1 + _SLACK) * interval:
            return False
        table.instants[row] = instant + interval
        return True

    def admit(self, client: bytes, per_second: float | None, burst: int, maximum: int | None) -> int:
        """``may_come`` and ``take("client", client, maximum)`` in one, for half the price; ``None``: no such limit.

        Returns the row to be given back by ``give_row``, or ``TOO_OFTEN``, or ``TOO_MANY``; without a *maximum*
        ``UNCOUNTED``, which is not given back. What has come too often is not counted; what is too many has come.
        """
        table = self._rows
        if table.base < 0:
            raise RuntimeError("this process has no seat in the ledger: call sit() first")
        name = table.name(_CLIENT_PREFIX + client_key(client))
        try:
            table.lock()
            now = self._clock()
            row = table.claim(name, now)
            if per_second is not None and (row < 0 or not self._is_within_rate(row, now, 1 / per_second, burst)):
                return TOO_OFTEN
            if maximum is None:
                return UNCOUNTED
            if row < 0 or table.total(row) >= maximum:
                return TOO_MANY
            table.counts[table.base + row] += 1
            return row
        finally:
            table.unlock()

    def give_row(self, row: int) -> None:
        """``give`` for what ``admit`` has counted. Raises ``RuntimeError`` if this process has nothing there."""
        counts, own = self._rows.counts, self._rows.base + row
        if row < 0 or not counts[own]:
            raise RuntimeError(f"this process has taken no connection in row {row} that it could give back")
        counts[own] -= 1

    # -- failed logins

    def login_failed(
        self, client: bytes, free: int, delay_seconds: float, failures_max: int | None, ban_seconds: float
    ) -> float:
        """Notes a failed login of *client*. Returns for how many seconds to delay the answer.

        The first *free* in a row are not delayed; then the delay doubles from ``DELAY_SECONDS_MIN`` up to
        *delay_seconds*. From *failures_max* in a row on (``None``: never) the client is banned for *ban_seconds*, anew
        each time. Failures are forgotten *ban_seconds* after the last. Where there is no row for a client that is new,
        nothing is noted and the delay is the longest.
        """
        table = self._rows
        name = table.name(_CLIENT_PREFIX + client_key(client))
        try:
            table.lock()
            now = self._clock()
            row = table.claim(name, now)
            if row < 0:
                return delay_seconds
            failures = 1 + (table.failures[row] if table.forget_at[row] > now else 0)
            table.failures[row] = failures
            table.forget_at[row] = now + ban_seconds
            if failures_max is not None and failures >= failures_max:
                self._ban(row, client, now + ban_seconds)
        finally:
            table.unlock()
        return _delay(failures - free, delay_seconds)

    def _ban(self, row: int, client: bytes, until: float) -> None:
        """Notes a ban: who, and that there is one at all, before it is in force."""
        table = self._rows
        key = client_key(client)
        table.addresses[row * ADDRESS_BYTES : (row + 1) * ADDRESS_BYTES] = (bytes([len(key)]) + key).ljust(
            ADDRESS_BYTES, b"\0"
        )
        table.latest[0] = max(table.latest[0], until)
        table.bans[row] = until

    def login_succeeded(self, client: bytes) -> None:
        """Forgets the failed logins of *client*. A ban that is in force stays."""
        table = self._rows
        name = table.name(_CLIENT_PREFIX + client_key(client))
        if table.find(name) < 0:
            return
        try:
            table.lock()
            row = table.find(name)
            if row >= 0:
                table.forget_at[row] = 0.0
        finally:
            table.unlock()

    def ban_left(self, client: bytes) -> float:
        """For how many seconds *client* is still banned; 0.0: it is not. Next to nothing while nobody is."""
        table = self._rows
        now = self._clock()
        if table.latest[0] <= now:
            return 0.0
        name = table.name(_CLIENT_PREFIX + client_key(client))
        row = table.find(name)
        left = table.bans[row] - now if row >= 0 else 0.0
        return left if left > 0 and table.is_named(row, name) else 0.0

    def bans(self) -> list[tuple[str, float]]:
        """Who is banned: the client ("192.0.2.1", "2001:db8::/64", "unix") and the seconds left, the longest first."""
        table = self._rows
        now = self._clock()
        if table.latest[0] <= now:
            return []
        found = [(self._banned(row), table.bans[row] - now) for row in table.rows_banned_after(now)]
        return sorted(found, key=lambda entry: (-entry[1], entry[0]))

    def _banned(self, row: int) -> str:
        size, *rest = self._rows.addresses[row * ADDRESS_BYTES : (row + 1) * ADDRESS_BYTES]
        return client_text(bytes(rest[:size]))

    # -- bandwidth

    def bucket(self, key: tuple[str, ...], rate_bytes_per_second: float, burst_bytes: float | None = None) -> Bucket:
        """A bucket of bandwidth that all relays of all processes with the same *key* draw from.

        A user who has a rate each way has two keys, such as ``("sent", name)``. *burst_bytes* may move at once after a
        silence; by default what flows in 100 ms, but 16 KiB at least. The sizes are those of ``TokenBucket``. It is cheap:
        make one for each relay, or keep it. Raises ``ValueError`` for numbers that are no rate.
        """
        return Bucket(self._rows, self._rows.name(_key("bucket", "\0".join(key))), rate_bytes_per_second, burst_bytes)

    # -- what did not fit

    @property
    def turned_away(self) -> int:
        """How often a full set of rows made the ledger refuse what might have been within its limit."""
        return int(self._rows.tallies[TURNED_AWAY])

    @property
    def forgotten(self) -> int:
        """How often a client's failed logins were forgotten early to make room."""
        return int(self._rows.tallies[FORGOTTEN])


class Bucket:
    """A ``Throttle`` in shared memory: see ``Ledger.bucket``. Instants are those of the ledger's clock, in seconds."""

    __slots__ = ("_burst", "_grant_max", "_name", "_rate", "_rows", "_share")

    def __init__(self, rows: Rows, name: bytes, rate: float, burst: float | None) -> None:
        if not 0 < rate < math.inf:
            raise ValueError(f"a rate is above 0 bytes a second, and finite, not {rate}")
        if burst is not None and not 0 < burst < math.inf:
            raise ValueError(f"a burst is above 0 bytes, and finite, not {burst}")
        self._rows = rows
        self._name = name
        self._rate = rate
        self._burst = max(BURST_BYTES_MIN, rate * BURST_SECONDS) if burst is None else max(1.0, burst)
        share = max(rate * SHARE_SECONDS, min(SEGMENT_BYTES, rate * SHARE_SECONDS_MAX))
        #: while there is less nobody gets anything: else who wants little would never let it come to much for another,
        #: and who wants much would wake for every byte
        self._share = max(1.0, min(share, self._burst / 2))
        self._grant_max = max(GRANT_BYTES_MIN, int(self._share))

    def grant(self, wanted: int, now: float) -> int:
        """How many of *wanted* bytes may move now, a share at most; they are taken out. 0: ask again at ``ready_at``."""
        table = self._rows
        try:
            table.lock()
            row = table.claim(self._name, now)
            if row < 0:
                return 0
            full_at, latest = max(table.instants[row], now), now + self._burst / self._rate
            if full_at > latest:  # it was set for a lower rate, before a reload
                full_at = table.instants[row] = latest
            there = self._burst - (full_at - now) * self._rate
            if there < self._share:
                return 0
            granted = min(wanted, self._grant_max, int(there))
            table.instants[row] = full_at + granted / self._rate
            return granted
        finally:
            table.unlock()

    def give_back(self, unused: int) -> None:
        """Puts back what was granted and not moved."""
        if unused <= 0:
            return
        table = self._rows
        try:
            table.lock()
            row = table.find(self._name)
            if row >= 0:  # else it has filled up since
                table.instants[row] -= unused / self._rate
        finally:
            table.unlock()

    def ready_at(self, now: float) -> float:
        """When to ask again after a grant of 0. Who waits with others for one bucket comes before them now and then."""
        row = self._rows.find(self._name)
        if row < 0:  # there was no room for it
            return now + SHARE_SECONDS
        wait = self._rows.instants[row] - now - (self._burst - self._share) / self._rate
        return now + max(WAIT_SECONDS_MIN, wait) + random.random() * SPREAD_SECONDS


def client_key(packed: bytes) -> bytes:
    """What a client is known by: 4 bytes for IPv4, the first 8 for IPv6, ``b""`` for UNIX sockets."""
    if len(packed) != 16:
        return packed
    return packed[12:] if packed.startswith(_IPV4_IN_IPV6) else packed[:8]


def client_text(key: bytes) -> str:
    """A ``client_key`` as one writes it."""
    if not key:
        return "unix"
    if len(key) == 4:
        return socket.inet_ntop(socket.AF_INET, key)
    return socket.inet_ntop(socket.AF_INET6, key.ljust(16, b"\0")) + "/64"


def _key(kind: str, key: str | bytes) -> bytes:
    if isinstance(key, str):
        key = key.encode("utf-8", "surrogatepass")
    elif kind == _CLIENT:
        key = client_key(key)
    return b"%b\0%b" % (kind.encode(), key)


def _delay(beyond: int, longest_seconds: float) -> float:
    """How long to delay the answer to a failed login that is the *beyond*-th after those that are free."""
    return 0.0 if beyond < 1 else min(longest_seconds, DELAY_SECONDS_MIN * 2.0 ** min(beyond - 1, 60))
