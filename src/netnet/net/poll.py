"""Many sockets at once: ``Poll`` waits until at least one of its sources is ready and says which are, and why.

On Linux a ``Poll`` is an epoll instance of its own, level-triggered, whose descriptor the loop waits for. So a source's
own registration in the loop is not touched: other tasks may receive and send on it meanwhile.

Here is which sources there are, and what a report of the kernel means for them. The kernel's side is ``poll_kernel``,
what tasks park with is ``poll_waiting``. Not here: one descriptor (``wait_readable``), and the loop's own poller (the
``poller`` room).
"""

from __future__ import annotations

import enum
import math
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from netnet.errors import ClosedError, UsageError
from netnet.net.poll_kernel import look_at, new_watcher
from netnet.net.poll_waiting import EVENTS_MAX, HasFileno, Pauses
from netnet.poller.contract import ERROR, HANGUP, PEER_CLOSED, READABLE, URGENT, WRITABLE
from netnet.poller.level import NOT_OPEN
from netnet.runtime.api import now
from netnet.runtime.clock import checked_seconds
from netnet.runtime.descriptor import Descriptor
from netnet.runtime.foreign import refuse_to_block
from netnet.runtime.worker import worker_or_none

S = TypeVar("S", bound="int | HasFileno")

_ENDS: Final = ERROR | HANGUP


class Ready(enum.IntFlag):
    """What a source is ready for, or what of it is asked for. ``str`` gives the names: ``READABLE|PEER_CLOSED``."""

    READABLE = READABLE  #: receiving (accepting, reading) does not wait: there is data, or the end
    WRITABLE = WRITABLE  #: sending does not wait
    URGENT = URGENT  #: urgent data is there; of terminals and others: an unusual condition, see poll(2)
    PEER_CLOSED = PEER_CLOSED  #: the peer has sent its last byte; comes with READABLE, too. Linux only
    ERROR = ERROR  #: an error or a notice in the error queue waits; the next call tells. Need not be asked for
    HANGUP = HANGUP  #: both directions are over. Need not be asked for
    CLOSED = NOT_OPEN  #: you closed it while ``select`` waited for it; it is not in the ``Poll`` any more

    def __str__(self) -> str:
        return "|".join(flag.name or "" for flag in type(self) if flag in self) or "0"


_ASKABLE: Final = READABLE | WRITABLE | URGENT | PEER_CLOSED | _ENDS


class _Entry(Generic[S]):
    """A source in a ``Poll``."""

    __slots__ = ("descriptor", "interest", "key", "number", "source")

    def __init__(self, source: S, interest: Ready) -> None:
        self.source = source
        self.number = _number_of(source)
        self.interest = interest
        self.key = key = _key_of(source)
        #: that of a netnet socket, which tells when it is closed
        self.descriptor = key if isinstance(key, Descriptor) else None

    @property
    def mask(self) -> int:
        """What the kernel is asked for; errors and hang-ups it tells unasked."""
        mask = int(self.interest) & ~_ENDS
        return mask | PEER_CLOSED if mask & READABLE else mask

    def has_its_number(self) -> bool:
        """False for an object that was closed, or gave its descriptor away."""
        try:
            return _number_of(self.source) == self.number
        except (ValueError, OSError):
            return False

    def ready_for(self, bits: int) -> Ready:
        """What *bits* mean for this source. Where both directions are over no call waits, so all that was asked is."""
        ready = bits & (self.mask | _ENDS)
        if bits & HANGUP:
            ready |= self.mask & (READABLE | WRITABLE)
        return Ready(ready)


class _Call(Generic[S]):
    """One ``select`` under way."""

    __slots__ = ("closed", "pauses")

    def __init__(self) -> None:
        #: sources that were closed meanwhile, not returned yet
        self.closed: list[S] = []
        self.pauses = Pauses()


class Poll(Generic[S]):
    """Waits for many sources at once: sockets of any kind, files, pipes, bare descriptor numbers.

    ::

        with Poll([listener, control]) as poll:
            for source, why in poll.select(timeout=5):
                ...

    *sources* are added with *interest*. Levels: a source is told again by each ``select`` for as long as it is ready.
    It costs what is ready, not what is watched. Where there is no epoll it looks at all, at intervals of up to 50 ms.

    The ``Poll`` keeps its sources alive until they are removed or it is closed; it never closes one. A netnet socket
    that is closed leaves it at once, and each ``select`` that waits just then returns it with ``ERROR|CLOSED``; one
    that begins later is not told. Nothing tells when other sources are closed: they are never reported again, and leave
    silently when that is noticed, at the latest when their number is added again. Remove them before you close them.

    Any number of tasks and OS threads may use one ``Poll``; each that is in ``select`` is told what is ready. Not for
    the child of a fork, which shares the kernel's part with its parent.
    """

    def __init__(self, sources: Iterable[S] = (), interest: Ready = Ready.READABLE) -> None:
        self._closed = False
        self._lock = threading.RLock()
        self._by_number: dict[int, _Entry[S]] = {}
        self._by_key: dict[int | Descriptor, _Entry[S]] = {}
        #: numbers under which the kernel may report a file that was closed, and has a duplicate
        self._doubtful: set[int] = set()
        self._calls: list[_Call[S]] = []
        self._watcher = new_watcher()
        try:
            for source in sources:
                self.add(source, interest)
        except BaseException:
            self.close()
            raise

    # -- sources

    def add(self, source: S, interest: Ready = Ready.READABLE) -> None:
        """Watches *source* from now on, also for those who are in ``select`` already. Does not switch tasks.

        *source* is a number or has a ``fileno`` method. ``Ready(0)`` as *interest*: errors and hang-ups only.
        Raises ``UsageError`` where it is in here already, as itself or by another object of the same number;
        ``ClosedError`` where it, or the ``Poll``, is closed; ``OSError`` (``EBADF``, or ``ENOSPC``: see epoll_ctl(2);
        ``EMFILE`` for a regular file, which takes one descriptor more).
        """
        entry = _Entry(source, _checked(interest))
        with self._lock:
            self._check_open()
            self._make_room(self._by_key.get(entry.key))
            self._make_room(self._by_number.get(entry.number))
            self._watcher.register(entry.number, entry.mask)
            self._by_number[entry.number] = self._by_key[entry.key] = entry
            if entry.descriptor is not None:
                _follow(entry.descriptor, self, True)

    def _make_room(self, present: _Entry[S] | None) -> None:
        if present is not None:
            if self._stands(present):
                raise UsageError(f"descriptor {present.number} is in this Poll already, as {present.source!r}")
            self._drop(present)

    def modify(self, source: S, interest: Ready) -> None:
        """Watches *source* for something else. Raises ``UsageError`` where it is not in here; ``ClosedError``."""
        interest = _checked(interest)
        with self._lock:
            entry = self._find(source)
            entry.interest = interest
            if not (entry.has_its_number() and self._watcher.modify(entry.number, entry.mask)):
                self._drop(entry)
                raise ClosedError(f"{source!r} was closed while it was in this Poll, and is not any more")

    def remove(self, source: S) -> None:
        """Watches *source* no longer. Raises ``UsageError`` where it is not in here; ``ClosedError``."""
        with self._lock:
            self._drop(self._find(source))

    def discard(self, source: S) -> None:
        """Watches *source* no longer, if it is in here. Also on a closed ``Poll``."""
        with self._lock:
            entry = self._by_key.get(_key_of(source))
            if entry is not None:
                self._drop(entry)

    def __contains__(self, source: object) -> bool:
        return _key_of(source) in self._by_key

    def __len__(self) -> int:
        return len(self._by_key)

    def __bool__(self) -> bool:
        return True  # an empty one is one, too

    def __iter__(self) -> Iterator[S]:
        """The sources, in the order in which they were added; those of this moment, whatever is added meanwhile."""
        return iter([entry.source for entry in list(self._by_key.values())])

    def _find(self, source: S) -> _Entry[S]:
        self._check_open()
        try:
            return self._by_key[_key_of(source)]
        except KeyError:
            raise UsageError(f"{source!r} is not in this Poll; add() it first") from None

    def _stands(self, entry: _Entry[S]) -> bool:
        """Whether the entry's number is still that of the file that was added. A netnet socket would have told."""
        return entry.has_its_number() and (
            entry.descriptor is not None or self._watcher.modify(entry.number, entry.mask)
        )

    def _drop(self, entry: _Entry[S]) -> bool:
        """Takes an entry out; false where the kernel may go on reporting it."""
        del self._by_number[entry.number], self._by_key[entry.key]
        if entry.descriptor is not None:
            _follow(entry.descriptor, self, False)
        if self._watcher.unregister(entry.number):
            return True
        self._doubtful.add(entry.number)
        return False

    def _descriptor_closed(self, descriptor: Descriptor) -> None:
        """A netnet socket that is in here is being closed."""
        with self._lock:
            entry = self._by_key.get(descriptor)
            if entry is not None:
                self._drop(entry)
                for call in self._calls:
                    call.closed.append(entry.source)
                self._update_bell()

    def _rebuild(self) -> None:
        """Begins anew with the kernel, without the registrations that cannot be taken back. Who waits is woken."""
        fresh = new_watcher()
        try:
            for entry in list(self._by_key.values()):
                if self._stands(entry):
                    fresh.register(entry.number, entry.mask)
                else:
                    self._drop(entry)
        except BaseException:
            fresh.close()
            raise
        self._watcher.retire()
        self._watcher = fresh
        self._doubtful.clear()
        self._update_bell()

    # -- waiting

    def select(self, timeout: float | None = None, *, at_most: int | None = None) -> list[tuple[S, Ready]]:
        """Waits until at least one source is ready; returns all that are, with what they are ready for.

        *timeout* is in seconds: after it ``[]`` is returned; 0 or less only looks; ``None`` is no limit. *at_most*
        limits how many are returned; whoever was not, comes first the next time, so each gets its turn. What is
        returned was ready when it was looked at; another task may be quicker. Errors and hang-ups are returned unasked.

        Switches tasks; outside a loop it blocks the OS thread. An empty ``Poll`` waits too, since another task may add
        to it; outside a loop that is a ``UsageError`` where there is no time limit. Raises ``Cancelled``;
        ``ClosedError`` when the ``Poll`` is closed, before or meanwhile; ``ValueError``. See epoll_wait(2).
        """
        seconds = math.inf if timeout is None else checked_seconds(timeout)
        if at_most is not None and at_most < 1:
            raise ValueError(f"at_most must be 1 or more, not {at_most}")
        worker = worker_or_none()
        if worker is not None:
            worker.loop.checkpoint(worker)
        elif seconds > 0 and not self._by_key and not self._closed:
            refuse_to_block()
            if seconds == math.inf:
                raise UsageError("this Poll is empty, and outside a loop nothing will be added: it would wait for ever")
        until = None if seconds == math.inf else now() + seconds
        call: _Call[S] = _Call()
        self._calls.append(call)
        try:
            return self._select(call, until, sys.maxsize if at_most is None else at_most, over=seconds <= 0)
        finally:
            with self._lock:
                self._calls.remove(call)
                self._update_bell()

    def _select(self, call: _Call[S], until: float | None, at_most: int, over: bool) -> list[tuple[S, Ready]]:
        while True:
            with self._lock:
                self._check_open()
                found = self._look(call, at_most)
                if found or over:
                    return found
                watcher = self._watcher
                watcher.users += 1
            try:
                over = not watcher.wait(until, call.pauses)
            finally:
                with self._lock:
                    watcher.leave()

    def _look(self, call: _Call[S], at_most: int) -> list[tuple[S, Ready]]:
        """What is ready now, each source once."""
        found = [(source, Ready.ERROR | Ready.CLOSED) for source in call.closed[:at_most]]
        del call.closed[:at_most]
        seen: set[int] = set()
        while len(found) < at_most:
            watcher, before = self._watcher, len(seen)
            count = min(EVENTS_MAX, at_most - len(found))
            for number, bits in watcher.look(count):
                if number not in seen and number != watcher.bell:
                    found += self._judged(number, bits)
                seen.add(number)
                if watcher is not self._watcher:
                    break
            else:
                if len(seen) < before + count:  # that was all, or it has begun again
                    break
        return found

    def _judged(self, number: int, bits: int) -> list[tuple[S, Ready]]:
        """What a report of the kernel means; nothing where it is about what is not in here any more."""
        entry = self._by_number.get(number)
        if entry is not None and (bits & NOT_OPEN or not self._stands(entry)):
            if self._drop(entry):
                return []
            entry = None
        if entry is not None:
            if number in self._doubtful:
                bits = look_at({number: entry.mask}).get(number, 0)
            ready = entry.ready_for(bits)
            if ready:
                return [(entry.source, ready)]
        self._rebuild()  # or it would be reported for ever
        return []

    def _update_bell(self) -> None:
        if not self._closed:
            self._watcher.ring(any(call.closed for call in self._calls))

    # -- the end

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def close(self) -> None:
        """Forgets all sources, without closing them, and wakes all who are in ``select`` with ``ClosedError``.

        Twice is fine. Does not switch tasks.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for entry in self._by_key.values():
                if entry.descriptor is not None:
                    _follow(entry.descriptor, self, False)
            self._by_number.clear()
            self._by_key.clear()
            self._watcher.retire()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the Poll is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_watcher"):
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self)} source{'' if len(self) == 1 else 's'}"
        return f"<netnet.Poll, {state}>"


#: several OS threads may put one socket into their Polls; reentrant, since the collector may close a Poll at any place
_following = threading.RLock()


def _follow(descriptor: Descriptor, poll: Poll[S], follow: bool) -> None:
    """Has *poll* told, or not any more, when the socket is closed. The socket does not keep it alive."""
    with _following:
        followers = descriptor.followers or weakref.WeakSet()
        (followers.add if follow else followers.discard)(poll)
        descriptor.followers = followers if len(followers) else None


def _checked(interest: Ready) -> Ready:
    if not isinstance(interest, int):
        raise TypeError(f"an interest is made of Ready's flags, not {interest!r}")
    if int(interest) & ~_ASKABLE:
        raise ValueError(f"an interest may be {Ready(_ASKABLE)}, or 0, not {int(interest):#x}")
    return Ready(interest)


def _number_of(source: int | HasFileno) -> int:
    if isinstance(source, int):
        if source < 0:
            raise ValueError(f"a descriptor is 0 or more, not {source}")
        return source
    if not hasattr(source, "fileno"):
        raise TypeError(f"a source is a descriptor's number or has a fileno method; {source!r} is neither")
    try:
        number = source.fileno()
    except ValueError as error:
        raise ClosedError(f"{source!r} is closed") from error
    if not isinstance(number, int):
        raise TypeError(f"fileno() of {source!r} returned {number!r}, which is no number")
    if number < 0:
        raise ClosedError(f"{source!r} is closed")
    return number


def _key_of(source: object) -> int | Descriptor:
    """Finds a source in the table: a number is itself, one of our sockets is known by what it tells of its closing, any
    other object is this very one (below 0, so that it is no number)."""
    if isinstance(source, int):
        return source
    descriptor = getattr(source, "_descriptor", None)
    return descriptor if isinstance(descriptor, Descriptor) else -1 - id(source)
