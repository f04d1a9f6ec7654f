"""What the workers have done: counters in shared memory, which outlive the process that counted.

Each worker has a *seat*: a row of counters that it alone writes, so nobody locks. The supervisor adds the rows up. One
more row is for those that are gone: when a worker has ended, even by SIGKILL, ``vacate`` moves its counts there. The
memory is an anonymous mapping that stands before the fork; a counter is an aligned word of eight bytes, which the
processors that Linux runs on write and read whole.

What is counted, and under which names, is fixed when a tally is made, by the configured users and rules. A
configuration that was read again gets a new tally; ``Tallies`` keeps the sums of all, since a counter must not go back.

**The bytes of connections that are still open count as well**: ``settle`` adds what a connection has moved since it was
last settled, and ``count``, at its end, only the rest. So each byte counts once, whatever dies in between.

Not here: what the rows are called in Prometheus (``metrics``), the open connections themselves (``status``).
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from netnet.socks.session import Ending, Session

#: bounds of the histograms, in seconds; one more bucket has what is longer. A handshake waits for the target: a tenth
#: of a second is usual, thirty is the limit. A connection lasts from a request to a day.
HANDSHAKE_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SESSION_SECONDS: Final = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)

#: for what has a name that was not known when the tally was made
OTHER: Final = "other"

PROTOCOLS: Final = ("socks4", "socks4a", "socks5", "http", OTHER)
COMMANDS: Final = ("connect", "bind", "associate", OTHER)

#: the connections that came to nothing, by us, by the client or by the target; the rest had a relay
FAILURES: Final = frozenset(
    {
        Ending.BAD_REQUEST,
        Ending.HANDSHAKE_TIMEOUT,
        Ending.LOGIN_FAILED,
        Ending.BANNED,
        Ending.LIMIT,
        Ending.DENIED,
        Ending.UNRESOLVED,
        Ending.REFUSED,
        Ending.UNREACHABLE,
        Ending.CONNECT_TIMEOUT,
        Ending.UPSTREAM,
        Ending.UNSUPPORTED,
        Ending.FAILED,
        Ending.ERROR,
    }
)

_WORD_BYTES: Final = 8


class Cell(NamedTuple):
    """The name of one counter: what is counted, and for whom or what."""

    what: str
    labels: tuple[str, ...] = ()


SENT: Final = Cell("bytes", ("sent",))
RECEIVED: Final = Cell("bytes", ("received",))
LOGINS_GOOD: Final = Cell("logins", ("good",))
LOGINS_FAILED: Final = Cell("logins", ("failed",))
ACCEPT_ERRORS: Final = Cell("accept_errors")
CONNECTIONS: Final = Cell("connections")  #: a gauge: open now

#: those that say how things are, not what has happened: nothing is left of them when a worker has ended
GAUGES: Final = frozenset({CONNECTIONS})

#: sums of counters of the same name
Totals = Counter[Cell]


def _histogram(what: str, bounds: Sequence[float]) -> list[Cell]:
    """The cells of a histogram: a count for each bound, one for the rest, and the sum in microseconds."""
    return [Cell(what, (f"{bound:g}",)) for bound in bounds] + [Cell(what, ("+Inf",)), Cell(f"{what}_us")]


class Tally:
    """The counters of one generation of workers. To be made before they are forked.

    *seats*: how many workers there can be; the numbers from 0 on are theirs. *users* and *rules* are the configured
    names; others count as ``OTHER``. A worker calls ``sit`` before it counts. Close it when all is done.
    """

    def __init__(self, seats: int, *, users: Iterable[str] = (), rules: Iterable[str] = ()) -> None:
        if seats < 1:
            raise ValueError(f"a tally needs 1 seat at least, not {seats}")
        self.seats = seats
        users, rules = dict.fromkeys([*users, OTHER]), dict.fromkeys([*rules, OTHER])
        sessions = [Cell("sessions", (p, c, str(e))) for p in PROTOCOLS for c in COMMANDS for e in Ending]
        #: the order of the counters in a row
        self.cells: tuple[Cell, ...] = (
            *(SENT, RECEIVED, LOGINS_GOOD, LOGINS_FAILED, ACCEPT_ERRORS, CONNECTIONS),
            *sessions,
            *_histogram("handshake_seconds", HANDSHAKE_SECONDS),
            *_histogram("session_seconds", SESSION_SECONDS),
            *(Cell(what, (user,)) for user in users for what in ("user_sessions", "user_sent", "user_received")),
            *(Cell("rule_sessions", (rule,)) for rule in rules),
        )
        index = {cell: number for number, cell in enumerate(self.cells)}
        self._index = index
        self._sent, self._received = index[SENT], index[RECEIVED]
        self._good, self._failed = index[LOGINS_GOOD], index[LOGINS_FAILED]
        self._of_kind = {cell.labels: index[cell] for cell in sessions}
        self._of_user = {user: index[Cell("user_sessions", (user,))] for user in users}
        self._of_rule = {rule: index[Cell("rule_sessions", (rule,))] for rule in rules}
        self._handshake = index[Cell("handshake_seconds", (f"{HANDSHAKE_SECONDS[0]:g}",))]
        self._session = index[Cell("session_seconds", (f"{SESSION_SECONDS[0]:g}",))]
        rows, width = seats + 1, len(self.cells)
        self._memory = mmap.mmap(-1, rows * (1 + width) * _WORD_BYTES)
        self._words = memoryview(self._memory).cast("q")
        self._used = self._words[:rows]  # which rows have something in them: memory that is not read costs nothing
        self._rows = [self._words[rows + n * width : rows + (n + 1) * width] for n in range(rows)]
        self._row = self._rows[0]
        self._used[0] = 1
        self._settled: dict[Session, tuple[int, int]] = {}

    # -- in a worker

    def sit(self, seat: int) -> None:
        """In a worker: its counts go to this row from now on. Nobody else may have the seat."""
        self._row = self._rows[self._checked(seat)]
        self._used[seat] = 1
        self._settled.clear()

    def count(self, session: Session) -> None:
        """Counts a connection that has ended. Never raises for what a session has in it."""
        row = self._row
        ending = session.ending or Ending.ERROR
        kind = self._of_kind.get((session.protocol, session.command, ending))
        if kind is None:  # as long as it has not said, or a word that is new here
            kind = self._other_kind(session, ending)
        row[kind] += 1
        user = session.user
        if user is not None:
            row[self._good] += 1
            row[self._of_user.get(user) or self._of_user[OTHER]] += 1
        elif ending is Ending.LOGIN_FAILED:
            row[self._failed] += 1
        if session.rule:
            row[self._of_rule.get(session.rule) or self._of_rule[OTHER]] += 1
        self._move(session, self._settled.pop(session, (0, 0)))
        if session.ended is not None:
            self._observe(self._session, SESSION_SECONDS, session.ended - session.began)

    def settle(self, session: Session) -> int:
        """Counts the bytes that an open connection has moved since the last time; returns how many.

        One that has ended was counted by ``count``, and is passed over.
        """
        if session.ended is not None:
            return 0
        before = self._settled.get(session, (0, 0))
        after = self._move(session, before)
        if after == before:
            return 0
        self._settled[session] = after
        return after[0] + after[1] - before[0] - before[1]

    def handshake(self, seconds: float) -> None:
        """Counts how long a client waited from its connection until the target's stood."""
        self._observe(self._handshake, HANDSHAKE_SECONDS, seconds)

    def put(self, cell: Cell, value: int) -> None:
        """Sets a counter of this worker that is kept elsewhere: a gauge, or what another part counts already."""
        self._row[self._index[cell]] = value

    def _other_kind(self, session: Session, ending: Ending) -> int:
        protocol = session.protocol if session.protocol in PROTOCOLS else OTHER
        command = session.command if session.command in COMMANDS else OTHER
        return self._of_kind[protocol, command, ending]

    def _move(self, session: Session, before: tuple[int, int]) -> tuple[int, int]:
        after = max(before[0], session.bytes_sent), max(before[1], session.bytes_received)  # a counter never goes back
        sent, received = after[0] - before[0], after[1] - before[1]
        if sent or received:
            row = self._row
            row[self._sent] += sent
            row[self._received] += received
            if session.user is not None:
                user = self._of_user.get(session.user) or self._of_user[OTHER]
                row[user + 1] += sent
                row[user + 2] += received
        return after

    def _observe(self, first: int, bounds: Sequence[float], seconds: float) -> None:
        self._row[first + bisect_left(bounds, seconds)] += 1
        self._row[first + len(bounds) + 1] += int(seconds * 1e6)

    # -- in the supervisor

    def vacate(self, seat: int) -> None:
        """The worker of this seat has ended: what it counted goes to the row of the gone, and the seat is free again."""
        row, gone = self._rows[self._checked(seat)], self._rows[-1]
        if not self._used[seat]:
            return
        self._used[self.seats] = 1
        for number, value in enumerate(row):
            if value:
                if self.cells[number] not in GAUGES:
                    gone[number] += value
                row[number] = 0
        self._used[seat] = 0

    def totals(self) -> Totals:
        """The sums over all workers, those that are gone included; counters that are 0 are left out."""
        totals: Totals = Counter()
        for used, row in zip(self._used, self._rows, strict=True):
            for number, value in enumerate(row) if used else ():
                if value:
                    totals[self.cells[number]] += value
        return totals

    def close(self) -> None:
        """Gives the memory back."""
        for row in (self._used, *self._rows):
            row.release()
        self._words.release()
        self._memory.close()

    def _checked(self, seat: int) -> int:
        if not 0 <= seat < self.seats:
            raise ValueError(f"there is no seat {seat}: there are {self.seats}, from 0 on")
        return seat


class Tallies:
    """The tallies of a service over all its configurations, as one."""

    def __init__(self) -> None:
        self._open: list[Tally] = []
        self._past: Totals = Counter()

    def add(self, tally: Tally) -> None:
        """A new generation of workers counts here."""
        self._open.append(tally)

    def retire(self, tally: Tally) -> None:
        """The last worker of its generation has ended, and was vacated: its sums are kept, its memory is given back."""
        self._open.remove(tally)
        self._past.update(tally.totals())
        tally.close()

    def totals(self) -> Totals:
        """The sums over all generations."""
        totals = self._past.copy()
        for tally in self._open:
            totals.update(tally.totals())
        return totals

    def close(self) -> None:
        """Gives back the memory of all."""
        while self._open:
            self.retire(self._open[0])


__all__ = ["FAILURES", "Cell", "Tallies", "Tally", "Totals"]
