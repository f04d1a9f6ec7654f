"""A pool of client connections: so many at most, used again while they are fresh, never by two at once.

Permits decide who may have a connection: one for each that is in use or being made, first come first served. The idle
ones lie on a pile: what came back last is used first, so that a surplus grows old and is closed. Never more than *size*
are open: a connection is made only by who has a permit and finds the pile empty.

Age is looked at whenever the pile is touched; a timer of the loop only makes sure that it is touched in time. The timer
keeps neither the run nor the pool alive. What a connection is, the pool does not know: it calls ``close``, and
``is_fresh`` asks for a descriptor.
"""

from __future__ import annotations

import logging
import math
import operator
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from netnet.errors import ClosedError, UsageError
from netnet.net.buffered import Buffered
from netnet.poller.contract import READABLE
from netnet.poller.single import wait_one
from netnet.runtime.api import now
from netnet.runtime.clock import checked_seconds
from netnet.runtime.loop import Loop
from netnet.runtime.sync import Semaphore
from netnet.runtime.task import Task
from netnet.runtime.timers import Timer
from netnet.runtime.worker import worker_or_none

log = logging.getLogger("netnet")


class Closable(Protocol):
    """What a pool can hold."""

    def close(self) -> object: ...


S = TypeVar("S", bound=Closable)


def is_fresh(conn: object) -> bool:
    """Whether an idle connection looks as it should: open, and with nothing to be read. Does not wait.

    One that is readable was ended by the peer, or has failed, or there are bytes that nobody asked for (with TLS 1.3
    that may be no more than a session ticket). Bytes that a ``Buffered`` or an ``ssl.SSLSocket`` holds are of the same
    kind. What has no descriptor at all cannot be looked at, and is fresh. See poll(2).
    """
    while isinstance(conn, Buffered):
        if conn.buffered:
            return False
        conn = conn.stream
    if not hasattr(conn, "fileno"):
        return True
    stream: Any = conn
    try:
        if hasattr(stream, "pending") and stream.pending():
            return False
        number = stream.fileno()
    except (OSError, ValueError):  # closed
        return False
    try:
        return number >= 0 and not wait_one(number, READABLE, 0)
    except OSError:  # closed behind our back
        return False


class Pool(Generic[S]):
    """At most *size* connections, made by *connect* when they are needed and used again.

    ``with pool.connection() as conn:`` has one for the lines. It goes back when they end well and is closed when they
    raise, whatever they raise. Where all are in use, tasks wait, first come first served; limit that with
    ``netnet.timeout``.

    *connect* returns a new connection: a ``Socket``, a ``Buffered``, anything with ``close``. *check(conn)* says whether
    an idle one is still good, before it is used again; by default ``is_fresh``. It may wait (ask the peer something); an
    ``OSError`` or ``EOFError`` from it means no. Those that have been idle for *idle_seconds* are closed (``math.inf``:
    never), except *reserve* of them.

    ``close`` the pool, or use it as a context manager: one that is dropped with idle connections in it gives a
    ``ResourceWarning``. It is for the tasks of one loop. Between runs, and outside a loop, it works for one thread; what
    is idle then ages without a timer, and is closed when the pool is next used.
    """

    __slots__ = (
        "__weakref__",
        "_check",
        "_closed",
        "_connect",
        "_dropped",
        "_filling",
        "_idle",
        "_idle_seconds",
        "_lent",
        "_loop",
        "_opened",
        "_permits",
        "_reserve",
        "_reused",
        "_size",
        "_timer",
    )

    def __init__(
        self,
        connect: Callable[[], S],
        *,
        size: int = 10,
        idle_seconds: float = 60.0,
        reserve: int = 0,
        check: Callable[[S], bool] | None = None,
    ) -> None:
        self._closed = True  # until it is made
        self._size = operator.index(size)
        self._reserve = operator.index(reserve)
        self._idle_seconds = checked_seconds(idle_seconds)
        if self._size < 1:
            raise ValueError(f"a pool needs a size of 1 or more, not {size}")
        if not 0 <= self._reserve <= self._size:
            raise ValueError(f"the reserve must be from 0 to the pool's size, {size}, not {reserve}")
        if self._idle_seconds < 0:
            raise ValueError(f"idle_seconds must not be negative, but is {idle_seconds}")
        self._connect = connect
        self._check: Callable[[S], bool] = check or is_fresh
        self._permits = Semaphore(self._size)
        #: the pile: each with the instant when it came back, the latest on the right
        self._idle: deque[tuple[S, float]] = deque()
        #: who is in use, by identity: connections need not be hashable
        self._lent: dict[int, S] = {}
        self._opened = self._reused = self._dropped = 0
        self._filling = 0
        #: the loop that it was used in last
        self._loop: Loop | None = None
        self._timer: Timer | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self.idle} idle"
        return f"<netnet.Pool of {self._size}: {self.in_use} in use, {state}>"

    # -- what there is

    @property
    def size(self) -> int:
        """How many connections there may be."""
        return self._size

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    @property
    def idle(self) -> int:
        """How many are open and not in use."""
        return len(self._idle)

    @property
    def in_use(self) -> int:
        """How many are in use."""
        return len(self._lent)

    @property
    def opened(self) -> int:
        """How many were made, ever."""
        return self._opened

    @property
    def reused(self) -> int:
        """How often one that was there already was handed out."""
        return self._reused

    @property
    def dropped(self) -> int:
        """How many the pool has closed, for whatever reason."""
        return self._dropped

    # -- taking and giving back

    def connection(self) -> Lending[S]:
        """A connection for the lines of a ``with`` statement; entering it is ``acquire``, leaving it ``release``."""
        return Lending(self)

    def acquire(self) -> S:
        """Takes a connection: an idle one that passes the check, else a new one; waits where all are in use.

        ``release`` is to follow. Switches tasks where it waits, connects or the check does. Raises what *connect* and
        the check raise, ``Cancelled``, ``ClosedError`` where the pool is closed, also while it waits; ``UsageError`` in
        another loop than the one that the pool is used in.
        """
        self._enter()
        self._permits.acquire()
        try:
            conn = self._reuse()
            if conn is None:
                conn = self._open()
            self._lent[id(conn)] = conn
        except BaseException:
            self._permits.release()
            raise
        return conn

    def release(self, conn: S, reusable: bool = True) -> None:
        """Gives a connection back. One that is not *reusable* (its conversation did not come to an end) is closed.

        Does not switch tasks, unless closing does. Raises ``UsageError`` for what is not in use, so also the second
        time.
        """
        if self._lent.pop(id(conn), None) is None:
            raise UsageError(f"this is no connection of the pool that is in use: {conn!r}")
        try:
            if reusable and not self._closed:
                self._put(conn)
            else:
                self._drop([conn])
        finally:
            self._permits.release()

    def fill(self) -> int:
        """Opens connections ahead of time, until *reserve* are idle or *size* are open; returns how many it opened.

        Connects one after the other. Raises what *connect* raises (what was opened before stays), ``Cancelled``,
        ``ClosedError``, ``UsageError`` as ``acquire``.
        """
        self._enter()
        count = 0
        while len(self._idle) + self._filling < self._reserve and self._permits.acquire(blocking=False):
            self._filling += 1
            try:
                if len(self._idle) > self._permits.value:  # with those in use, all that there may be
                    break
                self._put(self._open())
                count += 1
            finally:
                self._filling -= 1
                self._permits.release()
        return count

    def close(self) -> None:
        """Closes the idle connections now, and those in use when they come back. Twice is fine.

        Tasks that wait for a connection get ``ClosedError``, and so does who asks for one later.
        """
        if not self._closed:
            self._closed = True
            self._permits.release()  # one for all who wait: each finds the pool closed, and passes it on
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drop(_emptied(self._idle))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and self._idle:
            warnings.warn(f"{self!r} was dropped without close()", ResourceWarning, stacklevel=2, source=self)

    # -- one connection

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise ClosedError("the pool is closed")

    def _reuse(self) -> S | None:
        """An idle connection that passes the check; those that do not are closed."""
        self._refuse_if_closed()
        self._expire()
        while self._idle:
            conn = self._idle.pop()[0]
            good = False
            try:
                good = self._is_good(conn) and not self._closed
            finally:
                if not good:
                    self._drop([conn])
            self._refuse_if_closed()
            if good:
                self._reused += 1
                return conn
        return None

    def _is_good(self, conn: S) -> bool:
        try:
            return self._check(conn)
        except (OSError, EOFError) as error:
            log.debug("a pooled connection did not pass its check: %r", error)
            return False

    def _open(self) -> S:
        self._refuse_if_closed()
        conn = self._connect()
        if id(conn) in self._lent:
            raise UsageError(f"the pool's connect function returned a connection that is in use: {conn!r}")
        self._opened += 1
        if self._closed:
            self._drop([conn])
            self._refuse_if_closed()
        return conn

    def _put(self, conn: S) -> None:
        """Lays it on the pile."""
        self._idle.append((conn, now()))
        self._expire()
        self._set_timer()

    def _drop(self, conns: Iterable[S]) -> None:
        """Closes them, all, whatever happens. An ``Exception`` in closing is logged: it is nobody's any more."""
        failed: BaseException | None = None
        for conn in conns:
            self._dropped += 1
            try:
                conn.close()
            except Exception as error:
                log.warning("closing a connection of a pool failed", exc_info=error)
            except BaseException as error:
                failed = error if failed is None else failed
        if failed is not None:
            try:
                raise failed
            finally:
                del failed

    # -- age

    def _expire(self) -> None:
        """Closes those that have been idle for too long, the oldest first, but leaves the reserve."""
        oldest = now() - self._idle_seconds
        old: list[S] = []
        while len(self._idle) > self._reserve and self._idle[0][1] <= oldest:
            old.append(self._idle.popleft()[0])
        self._drop(old)

    def _set_timer(self) -> None:
        """Sets the timer for the oldest that may go, unless one is set."""
        loop = self._loop
        if self._timer is not None or loop is None or len(self._idle) <= self._reserve:
            return
        if loop.closed or loop.thread_ident != threading.get_ident() or self._idle_seconds == math.inf:
            return
        pool = weakref.ref(self)

        def ring() -> None:
            present = pool()
            if present is not None:
                present._ring()

        self._timer = loop.timers.add(self._idle[0][1] + self._idle_seconds, ring)

    def _ring(self) -> None:
        """The timer's time has come. Closing may wait, so a task does it, unless the run is over."""
        loop = self._loop
        if loop is not None and (loop.alive or loop.relays):
            Task(loop, loop.root, self._close_old, (), "a pool closes what was idle for too long")

    def _close_old(self) -> None:
        self._timer = None
        try:
            self._expire()
        finally:
            self._set_timer()

    # -- which loop

    def _enter(self) -> None:
        self._refuse_if_closed()
        worker = worker_or_none()
        loop = None if worker is None else worker.loop
        if loop is not self._loop:
            self._move(loop)

    def _move(self, loop: Loop | None) -> None:
        """The pool is used in *loop* from now on, if the one before has ended. Its clock may be another one."""
        if self._loop is not None and not self._loop.closed:
            raise UsageError("this pool is in use in another loop, or outside this one's tasks; make one for each loop")
        self._loop = loop
        self._timer = None
        present = now()
        self._idle = deque((conn, min(since, present)) for conn, since in self._idle)
        self._set_timer()


def _emptied(pile: deque[tuple[S, float]]) -> list[S]:
    conns = [conn for conn, _ in pile]
    pile.clear()
    return conns


class Lending(Generic[S]):
    """What ``Pool.connection`` returns: a connection for some lines. Can be entered again once it was left."""

    __slots__ = ("_conn", "_pool")

    def __init__(self, pool: Pool[S]) -> None:
        self._pool = pool
        self._conn: S | None = None

    def __enter__(self) -> S:
        if self._conn is not None:
            raise UsageError("these lines have a connection already; call pool.connection() for each with statement")
        self._conn = conn = self._pool.acquire()
        return conn

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        conn, self._conn = self._conn, None
        assert conn is not None
        self._pool.release(conn, kind is None)


__all__ = ["Lending", "Pool", "is_fresh"]
