"""A table in memory that several processes share: rows that are found by name, counts that are kept per process, a lock.

It does not know what its rows mean; ``ledger`` does. It is made before the fork, in anonymous memory of a fixed size,
of which the kernel hands out what is touched. Each process has a *seat*: a column of counts that only it writes. So a
count can be taken away with the process that had it, and one's own count can be lowered without the lock.

*Names* are keyed hashes of 16 bytes with a random key for each table: who chooses keys cannot make them collide. A name
stands in one set of ``WAYS`` rows, or nowhere. A row is *free* when its counts are 0 and its times are over; the name
stays until the row is needed. Where none is free, the row is taken that remembers nothing but failed logins and would
forget them first. Where all have a count, a ban or a rate in force, there is no row, and the caller must refuse.

The *lock* is a POSIX record lock (fcntl(2), F_SETLKW). It belongs to the process, not to the open file, unlike flock(2)
and the OFD locks, which processes forked after ``open`` would hold together; so the file may be opened before the fork.
The kernel frees it when its holder dies, however. The price: it does not keep threads of one process apart, so one
thread of each process uses the table; and it is gone when the process closes any descriptor of that file, so nobody
else knows the file. Holding it, a process computes for microseconds and never switches tasks. A process that is stopped
(SIGSTOP) at such a moment stops the others.

A holder may die between any two stores. Each row is right then: a row is in use by its counts and times, not by its
name, and what belongs together is written in an order that errs on the safe side.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Final

#: rows in which a name may stand. With half of the rows in use, one set in 4000 is full (Poisson, mean 16)
WAYS: Final = 32

NAME_BYTES: Final = 16
#: names that are kept, not to be computed again: some 0.2 MB
NAMES_KEPT: Final = 1024
ADDRESS_BYTES: Final = 16
_SET_BYTES: Final = WAYS * NAME_BYTES

#: what the tallies count: names for which there was no row, and rows taken from those with failed logins only
TURNED_AWAY: Final = 0
FORGOTTEN: Final = 1

#: a page's worth of instants: what ``rows_banned_after`` looks at in one go
_STRETCH: Final = 512

#: the lock file's bytes: the first is the lock, the others are the seats, held by who sits there
_LOCK_AT: Final = 0
_SEATS_AT: Final = 1


def _nothing() -> None:
    """The lock of a table that only one process has."""


def _lock_file() -> int:
    """A descriptor of a file that nobody else can open."""
    try:
        return os.memfd_create("netnet ledger")
    except (AttributeError, OSError):
        number, path = tempfile.mkstemp(prefix="netnet-ledger-")
        os.unlink(path)
        return number


class Rows:
    """The table. *rows* is rounded up to whole sets.

    Call ``lock`` before ``claim`` and before writing to a row, and ``unlock`` after it, in this way::

        try:
            table.lock()
            ...
        finally:
            table.unlock()

    With the lock inside, an exception of a signal handler cannot leave it held; to unlock what is not locked is allowed.
    """

    __slots__ = (
        "__weakref__",
        "_in_use",
        "_key",
        "_lock_file",
        "_memory",
        "_names",
        "_raw_bans",
        "_sat_in",
        "_sets",
        "_sitter",
        "addresses",
        "bans",
        "base",
        "close",
        "counts",
        "failures",
        "forget_at",
        "instants",
        "latest",
        "lock",
        "rows",
        "seat",
        "seats",
        "tallies",
        "unlock",
    )

    def __init__(self, seats: int, rows: int, *, locked: bool) -> None:
        if seats < 1 or rows < 1:
            raise ValueError(f"a ledger needs a seat and a row at least, not {seats} and {rows}")
        self._sets = -(-rows // WAYS)
        self.rows = self._sets * WAYS
        self.seats = seats
        self.seat: int | None = None
        self.base = -1  #: where the own counts begin: ``counts[base + row]``; -1 without a seat
        self._sitter = 0
        self._key = os.urandom(16)
        self._names: dict[bytes, bytes] = {}
        self._carve()
        self._lock_file = _lock_file() if locked else -1
        self.lock: Callable[[], object] = _nothing
        self.unlock: Callable[[], object] = _nothing
        self.close: Callable[[], object] = _nothing
        if locked:
            self.lock = partial(fcntl.lockf, self._lock_file, fcntl.LOCK_EX, 1, _LOCK_AT)
            self.unlock = partial(fcntl.lockf, self._lock_file, fcntl.LOCK_UN, 1, _LOCK_AT)
            self.close = weakref.finalize(self, os.close, self._lock_file)

    def _carve(self) -> None:
        """Makes the memory, and a view of each of its parts. Fresh memory is zero: all rows are free."""
        rows, seats = self.rows, self.seats
        layout = (
            ("names", NAME_BYTES * rows),
            ("addresses", ADDRESS_BYTES * rows),
            ("instants", 8 * rows),
            ("forget_at", 8 * rows),
            ("bans", 8 * rows),
            ("latest", 8),
            ("tallies", 8 * 2),
            ("in_use", 8),
            ("failures", 4 * rows),
            ("counts", 4 * rows * seats),
            ("sat_in", seats),
        )
        self._memory = mmap.mmap(-1, sum(size for _, size in layout))
        whole, start = memoryview(self._memory), 0
        raw: dict[str, memoryview] = {}
        for part, size in layout:
            raw[part] = whole[start : start + size]
            start += size
        self.addresses = raw["addresses"]
        self.instants = raw["instants"].cast("d")
        self.forget_at = raw["forget_at"].cast("d")
        self.bans = raw["bans"].cast("d")
        self.latest = raw["latest"].cast("d")
        self.tallies = raw["tallies"].cast("Q")
        self._in_use = raw["in_use"].cast("Q")
        self.failures = raw["failures"].cast("I")
        self.counts = raw["counts"].cast("I")
        self._raw_bans = raw["bans"]
        self._sat_in = raw["sat_in"]

    # -- rows

    def name(self, key: bytes) -> bytes:
        """The name that belongs to *key*. The last ones are kept: clients come again and again."""
        name = self._names.get(key)
        if name is None:
            if len(self._names) >= NAMES_KEPT:
                self._names.clear()
            name = self._names[key] = blake2b(key, digest_size=NAME_BYTES, key=self._key).digest()
        return name

    def find(self, name: bytes) -> int:
        """The row of *name*, -1 for none. Without the lock, the row may be another's a moment later."""
        first = int.from_bytes(name[:4], "big") % self._sets * _SET_BYTES
        at = self._memory.find(name, first, first + _SET_BYTES)
        while at > 0 and at % NAME_BYTES:  # the end of one name and the start of the next
            at = self._memory.find(name, at + 1, first + _SET_BYTES)
        return at // NAME_BYTES

    def is_named(self, row: int, name: bytes) -> bool:
        """Whether *row* is (still) that of *name*."""
        return self._memory[row * NAME_BYTES : (row + 1) * NAME_BYTES] == name

    def claim(self, name: bytes, now: float) -> int:
        """The row of *name*, a fresh one if it had none; -1 if its set is full. The lock is held."""
        row = self.find(name)
        return row if row >= 0 else self._claim_another(name, now)

    def _claim_another(self, name: bytes, now: float) -> int:
        first = int.from_bytes(name[:4], "big") % self._sets * WAYS
        turn = name[-1]
        forgetful = -1
        for step in range(WAYS):
            row = first + (turn + step) % WAYS
            if self._is_in_force(row, now):
                continue
            if self.forget_at[row] <= now:
                return self._rename(row, name)
            if forgetful < 0 or self.forget_at[row] < self.forget_at[forgetful]:
                forgetful = row
        if forgetful < 0:
            self.tallies[TURNED_AWAY] += 1
            return -1
        self.tallies[FORGOTTEN] += 1
        return self._rename(forgetful, name)

    def _is_in_force(self, row: int, now: float) -> bool:
        """Whether it has a count, a rate or a ban that must not be lost."""
        return self.instants[row] > now or self.bans[row] > now or any(self._counts_of(row))

    def _rename(self, row: int, name: bytes) -> int:
        """Gives a row to *name*. It is empty before it has the name; failures that are forgotten count as none."""
        self.forget_at[row] = self.instants[row] = self.bans[row] = 0.0
        self._memory[row * NAME_BYTES : (row + 1) * NAME_BYTES] = name
        return row

    def total(self, row: int) -> int:
        """The count of a row, all seats together."""
        return sum(self._counts_of(row))

    def _counts_of(self, row: int) -> memoryview:
        """The counts of a row. Those of seats behind the last in use are left out: to read is to touch, and memory that
        is touched is there."""
        return self.counts[row : self._in_use[0] * self.rows : self.rows]

    def rows_banned_after(self, now: float) -> Sequence[int]:
        """The rows with a ban that ends after *now*. Looks at a page at a time, as most have never had one."""
        found: list[int] = []
        zeros = bytes(8 * _STRETCH)
        for start in range(0, self.rows, _STRETCH):
            page = self._raw_bans[8 * start : 8 * (start + _STRETCH)].tobytes()
            if page != zeros[: len(page)]:
                ends = self.bans[start : start + _STRETCH]
                found += [start + place for place, end in enumerate(ends) if end > now]
        return found

    # -- seats

    def sit(self, seat: int | None) -> int:
        """Takes a seat for this process until it ends; ``None``: the first free one. Returns its number."""
        if self.seat is not None and self._sitter == os.getpid():  # else it was the parent that sat there
            if seat in (None, self.seat):
                return self.seat
            raise RuntimeError(f"this process sits in seat {self.seat} already")
        try:
            self.lock()
            chosen = next((one for one in self._asked(seat) if self._occupy(one)), None)
            if chosen is None:
                which = "each seat" if seat is None else f"seat {seat}"
                raise RuntimeError(f"{which} is taken by a living process: make the ledger with more than {self.seats}")
            self._clear(chosen)
            self._sat_in[chosen] = 1
            self._note_last()
        finally:
            self.unlock()
        self.seat, self.base, self._sitter = chosen, chosen * self.rows, os.getpid()
        return chosen

    def vacate(self, seat: int | None) -> list[int]:
        """Clears the counts of *seat*, ``None``: of each seat whose process has died. Returns those cleared."""
        cleared = []
        try:
            self.lock()
            for one in self._asked(seat):
                if not self._sat_in[one] or (seat is None and one == self.seat):
                    continue
                if self._occupy(one):
                    self._clear(one)
                    self._note_last()
                    self._leave(one)
                    cleared.append(one)
                elif seat is not None:
                    raise RuntimeError(f"seat {seat} is taken by a living process: its counts are still true")
        finally:
            self.unlock()
        return cleared

    def _asked(self, seat: int | None) -> Sequence[int]:
        if seat is None:
            return range(self.seats)
        if not 0 <= seat < self.seats:
            raise ValueError(f"there are seats from 0 to {self.seats - 1}, not {seat}")
        return (seat,)

    def _occupy(self, seat: int) -> bool:
        """Takes the lock of a seat, if no other living process has it."""
        if self._lock_file < 0:
            return True
        try:
            fcntl.lockf(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _SEATS_AT + seat)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _leave(self, seat: int) -> None:
        if seat == self.seat:
            self.seat, self.base = None, -1
        if self._lock_file >= 0:
            fcntl.lockf(self._lock_file, fcntl.LOCK_UN, 1, _SEATS_AT + seat)

    def _clear(self, seat: int) -> None:
        """Takes a seat's counts away. One in which nobody has sat is left alone: its memory is not there yet."""
        if self._sat_in[seat]:
            self.counts[seat * self.rows : (seat + 1) * self.rows] = memoryview(bytes(4 * self.rows)).cast("I")
            self._sat_in[seat] = 0

    def _note_last(self) -> None:
        """Notes which seats are worth reading: those up to the last in which somebody has sat."""
        self._in_use[0] = len(self._sat_in.tobytes().rstrip(b"\0"))
