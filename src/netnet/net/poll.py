"""Many sockets at once: ``Poll`` waits until at least one of its sources is ready and says which are, and why.

On Linux a ``Poll`` is an epoll instance of its own, level-triggered, whose descriptor the loop waits for. So a source's
own registration in the loop is not touched: other tasks may receive and send on it meanwhile. Facts relied on, see
epoll(7):

- An epoll instance asks each ready file again when it reports it, so what it reports is true at that moment. It reports
  in turn: what was reported goes to the end of its list.
- A file that is closed leaves the instance by itself, silently, unless a duplicate of it lives on (``dup``, a child
  process): then its registration stays, cannot be taken back by its number, and goes on reporting under that number,
  which may be another file's by now. A new instance without it is made then (``Poll._rebuild``).
- Regular files are refused (``EPERM``), since they are always ready. They are kept apart.

A *bell*, an eventfd in the same instance, is up while there is something to report that the kernel does not know of.

Where there is no epoll, all sources are looked at, at growing intervals.

Here is also what ``netnet.select`` waits with: ``readable_until`` and ``Changes``. Not here: one descriptor
(``wait_readable``), and the loop's own poller (the ``poller`` room).
"""

from __future__ import annotations

import enum
import errno
import itertools
import math
import os
import select as _select
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeVar

from netnet.errors import ClosedError, UsageError
from netnet.poller.contract import ERROR, HANGUP, PEER_CLOSED, READABLE, URGENT, WRITABLE
from netnet.poller.single import WAIT_SECONDS_MAX, wait_one
from netnet.runtime.api import now, sleep
from netnet.runtime.clock import checked_seconds
from netnet.runtime.descriptor import Descriptor
from netnet.runtime.foreign import refuse_to_block, wait_readable
from netnet.runtime.scope import timeout_at
from netnet.runtime.worker import worker_or_none

#: how many events one call of the kernel brings
EVENTS_MAX: Final = 512

#: where the kernel cannot wake us: how long to pause between two looks at first, and at most
PAUSE_SECONDS_MIN: Final = 0.001
PAUSE_SECONDS_MAX: Final = 0.05

#: the bit by which poll(2) says that a descriptor is not open (``POLLNVAL``)
NOT_OPEN: Final = 0x020

_ENDS = ERROR | HANGUP


class HasFileno(Protocol):
    """Anything that has a descriptor: a socket, a file, a pipe's end."""

    def fileno(self) -> int: ...


S = TypeVar("S", bound="int | HasFileno")


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


_MAY_BE_ASKED = Ready.READABLE | Ready.WRITABLE | Ready.URGENT | Ready.PEER_CLOSED | Ready.ERROR | Ready.HANGUP
#: what the kernel is asked for of these; errors and hang-ups it tells unasked
_ASKED_OF_KERNEL = READABLE | WRITABLE | URGENT | PEER_CLOSED


# -- waiting


def readable_until(number: int, until: float | None) -> bool:
    """Waits until the descriptor *number* can be read; false when the instant *until* (``None``: no limit) came first.

    In a task it parks; outside one it blocks the OS thread. Raises ``Cancelled``, ``OSError``.
    """
    if worker_or_none() is None:
        refuse_to_block()
        while True:
            left = None if until is None else until - now()
            if wait_one(number, READABLE, left):
                return True
            if left is not None and left <= WAIT_SECONDS_MAX:
                return False
    if until is None:
        wait_readable(number)
        return True
    limit = timeout_at(until)
    try:
        with limit:
            wait_readable(number)
    except TimeoutError:
        if not limit.expired():
            raise
        return False
    return True


class Pauses:
    """Growing intervals between two looks, for where the kernel cannot wake us. One for each wait."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds = PAUSE_SECONDS_MIN

    def wait(self, until: float | None) -> bool:
        """Waits for the next interval to pass; false when the instant *until* has come. Raises ``Cancelled``."""
        left = math.inf if until is None else until - now()
        pause = min(self._seconds, max(0.0, left))
        self._seconds = min(PAUSE_SECONDS_MAX, self._seconds * 2)
        if worker_or_none() is None:
            refuse_to_block()
            time.sleep(pause)
        else:
            sleep(pause)
        return left > pause


def has_epoll() -> bool:
    """Whether this system can wait for a set of descriptors by one descriptor."""
    return hasattr(_select, "epoll") and hasattr(os, "eventfd")


class Changes:
    """Waits until the readiness of one of some descriptors may have changed; who was woken looks.

    What the standard calls look at is not quite what epoll reports (a hang-up that nobody asked for), so a level that
    nobody wants would wake again and again: the registration is edge-triggered. What is ready when it is made counts as
    a change, so nothing is missed between the look before and the wait.
    """

    def __init__(self) -> None:
        self._epoll = _select.epoll() if has_epoll() else None
        self._pauses = Pauses()
        self._masks: dict[int, int] = {}
        self._missing: set[int] = set()

    def watch(self, number: int, mask: int) -> None:
        """Has changes of *number* in the bits of *mask* wake the waiter. What is not open is left to the look."""
        if self._epoll is None:
            return
        self._masks[number] = mask
        flags = mask | _select.EPOLLET
        try:
            try:
                self._epoll.register(number, flags)
            except FileExistsError:
                self._epoll.modify(number, flags)
        except PermissionError:  # a file: the look says that it is ready, or never will be
            pass
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.ENOENT):
                raise
            self._missing.add(number)

    def wait(self, until: float | None) -> bool:
        """False when the instant *until* came first. Raises ``Cancelled``."""
        if self._epoll is None:
            return self._pauses.wait(until)
        if self._missing:  # closed since the last look, which told nothing of it: the next one will
            again, self._missing = self._missing, set()
            for number in again:
                self.watch(number, self._masks[number])
            if self._missing:
                return self._pauses.wait(until)
            return True
        in_time = readable_until(self._epoll.fileno(), until)
        while len(self._epoll.poll(0, EVENTS_MAX)) == EVENTS_MAX:
            pass
        return in_time

    def close(self) -> None:
        if self._epoll is not None:
            self._epoll.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# -- what a Poll asks the kernel with


class _Watcher(Protocol):
    """The kernel's side of a ``Poll``. ``users`` counts who is waiting; a retired one is closed by the last of them."""

    bell: int
    users: int
    retired: bool

    def register(self, number: int, mask: int) -> bool:
        """Watches a descriptor; false for one that is always ready and cannot be watched."""

    def modify(self, number: int, mask: int) -> None: ...

    def unregister(self, number: int) -> bool:
        """False where the descriptor is not (or no longer) watched under this number."""

    def stands(self, number: int, mask: int) -> bool:
        """Whether the file that is open under *number* is the one that is watched."""

    def look(self, count: int | None) -> list[tuple[int, int]]:
        """What is ready now, at most *count*, in turn; each number once. The bell's number among them."""

    def ring(self, on: bool) -> None: ...

    def wait(self, until: float | None, pauses: Pauses) -> bool: ...

    def close(self) -> None: ...


class _EpollWatcher:
    """An epoll instance, level-triggered, with a bell in it."""

    def __init__(self) -> None:
        self.users = 0
        self.retired = False
        self._on = False
        self._epoll = _select.epoll()
        try:
            self.bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except BaseException:
            self._epoll.close()
            raise
        self._epoll.register(self.bell, READABLE)

    def register(self, number: int, mask: int) -> bool:
        try:
            self._epoll.register(number, mask)
        except FileExistsError:
            self._epoll.modify(number, mask)
        except PermissionError:
            return False
        return True

    def modify(self, number: int, mask: int) -> None:
        self._epoll.modify(number, mask)

    def unregister(self, number: int) -> bool:
        try:
            self._epoll.unregister(number)
        except OSError:
            return False
        return True

    def stands(self, number: int, mask: int) -> bool:
        try:
            self._epoll.modify(number, mask)
        except OSError:
            return False
        return True

    def look(self, count: int | None) -> list[tuple[int, int]]:
        found: dict[int, int] = {}
        while True:
            asked = EVENTS_MAX if count is None else min(EVENTS_MAX, count - len(found))
            if asked == 0:
                break
            events = self._epoll.poll(0, asked)
            before = len(found)
            found.update(events)
            if len(events) < asked or len(found) < before + asked:  # that was all, or it has begun again
                break
        return list(found.items())

    def ring(self, on: bool) -> None:
        if on != self._on:
            self._on = on
            if on:
                os.eventfd_write(self.bell, 1)
            else:
                os.eventfd_read(self.bell)

    def wait(self, until: float | None, pauses: Pauses) -> bool:
        return readable_until(self._epoll.fileno(), until)

    def close(self) -> None:
        if not self._epoll.closed:
            self._epoll.close()
            os.close(self.bell)


class _LookingWatcher:
    """The same where nothing can be waited for: asks about all with poll(2), or select(2), at growing intervals.

    Those that were not reported for the longest time come first.
    """

    bell = -1

    def __init__(self) -> None:
        self.users = 0
        self.retired = False
        self._masks: dict[int, int] = {}
        self._files: dict[int, tuple[int, int]] = {}
        self._turns: dict[int, int] = {}
        self._turn = itertools.count(1)

    def register(self, number: int, mask: int) -> bool:
        self._files[number] = _file_under(number)
        self._masks[number] = mask
        return True

    def modify(self, number: int, mask: int) -> None:
        if not self.stands(number, mask):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._masks[number] = mask

    def unregister(self, number: int) -> bool:
        for table in (self._masks, self._files, self._turns):
            table.pop(number, None)
        return True

    def stands(self, number: int, mask: int) -> bool:
        try:
            return self._files.get(number) == _file_under(number)
        except OSError:
            return False

    def look(self, count: int | None) -> list[tuple[int, int]]:
        events = _look_at(dict(self._masks))
        events.sort(key=lambda event: self._turns.get(event[0], 0))
        del events[count if count is not None else len(events) :]
        for number, _ in events:
            self._turns[number] = next(self._turn)
        return events

    def ring(self, on: bool) -> None:
        pass  # who waits looks soon

    def wait(self, until: float | None, pauses: Pauses) -> bool:
        return pauses.wait(until)

    def close(self) -> None:
        pass


def _file_under(number: int) -> tuple[int, int]:
    """What tells a file from the next one that is opened under its number."""
    status = os.fstat(number)
    return status.st_dev, status.st_ino


def _look_at(masks: dict[int, int]) -> list[tuple[int, int]]:
    """What is ready of *masks* now, as the bits of poll(2)."""
    if not hasattr(_select, "poll"):
        return _look_by_select(masks)
    poll = _select.poll()
    known = READABLE | WRITABLE | URGENT | getattr(_select, "POLLRDHUP", 0)
    for number, mask in masks.items():
        poll.register(number, mask & known)
    return poll.poll(0)


def _look_by_select(masks: dict[int, int]) -> list[tuple[int, int]]:
    broken = [number for number in masks if not _is_open(number)]
    bits = dict.fromkeys(broken, NOT_OPEN)
    sides = (READABLE, WRITABLE, URGENT)
    reading, writing, urgent = (
        [number for number, mask in masks.items() if mask & side and number not in bits] for side in sides
    )
    if reading or writing or urgent:  # Windows refuses three empty ones
        for side, ready in zip(sides, _select.select(reading, writing, urgent, 0), strict=True):
            for number in ready:
                bits[number] = bits.get(number, 0) | side
    return list(bits.items())


def _is_open(number: int) -> bool:
    try:
        _file_under(number)
    except OSError:
        return False
    return True


# -- sources that are closed


_watched_by: dict[Descriptor, weakref.WeakSet[Poll[int]]] = {}


class _WatchedDescriptor(Descriptor):
    """What the descriptor of a netnet socket becomes while it is in a ``Poll``: closing it tells the ``Poll``.

    Told before the number is given back, so that nothing of it is left in the kernel.
    """

    __slots__ = ()

    def close(self) -> None:
        number = self.fd
        for poll in _watchers_of(self):
            poll._source_closed(self, number)
        Descriptor.close(self)


def _watchers_of(descriptor: Descriptor) -> list[Poll[int]]:
    """Those that have it, for the last time: it becomes what it was."""
    descriptor.__class__ = Descriptor
    return list(_watched_by.pop(descriptor, ()))


def _follow(descriptor: Descriptor, poll: Poll[S]) -> None:
    descriptor.__class__ = _WatchedDescriptor
    _watched_by.setdefault(descriptor, weakref.WeakSet()).add(poll)  # type: ignore[arg-type]


def _unfollow(descriptor: Descriptor, poll: Poll[S]) -> None:
    polls = _watched_by.get(descriptor)
    if polls is not None:
        polls.discard(poll)  # type: ignore[arg-type]
        if not polls:
            del _watched_by[descriptor]
            descriptor.__class__ = Descriptor


# -- the Poll


class _Entry(Generic[S]):
    """A source in a ``Poll``."""

    __slots__ = ("descriptor", "file", "interest", "number", "source")

    def __init__(self, source: S, number: int, interest: Ready) -> None:
        self.source = source
        self.number = number
        self.interest = interest
        #: that of a netnet socket, which tells when it is closed
        descriptor = getattr(source, "_descriptor", None)
        self.descriptor: Descriptor | None = descriptor if isinstance(descriptor, Descriptor) else None
        #: of one that is always ready: which file it was, since the kernel does not watch it for us
        self.file: tuple[int, int] | None = None

    @property
    def mask(self) -> int:
        mask = int(self.interest) & _ASKED_OF_KERNEL
        return mask | PEER_CLOSED if mask & READABLE else mask

    @property
    def steady(self) -> Ready:
        """What an always ready file is ready for."""
        return self.interest & (Ready.READABLE | Ready.WRITABLE)

    def has_its_number(self) -> bool:
        """False for an object that was closed, or gave its descriptor away."""
        if isinstance(self.source, int):
            return True
        try:
            return self.source.fileno() == self.number
        except (ValueError, OSError):
            return False

    def reason(self, bits: int) -> Ready:
        """What *bits* mean for this source. Where both directions are over no call waits, so all that was asked is."""
        ready = bits & (self.mask | _ENDS)
        if bits & HANGUP:
            ready |= self.mask & (READABLE | WRITABLE)
        return Ready(ready)


class _Call(Generic[S]):
    """One ``select`` under way."""

    __slots__ = ("gone", "pauses")

    def __init__(self) -> None:
        #: sources that were closed meanwhile
        self.gone: list[S] = []
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
        self._by_key: dict[int, _Entry[S]] = {}
        #: sources that are always ready, the one whose turn it is first; and how many of them are still to come in this round
        self._steady: deque[_Entry[S]] = deque()
        self._steady_left = 0
        #: numbers under which the kernel may report a file that was closed, and has a duplicate
        self._doubtful: set[int] = set()
        self._calls: list[_Call[S]] = []
        self._watcher: _Watcher = _new_watcher()
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
        ``ClosedError`` where it, or the ``Poll``, is closed; ``OSError`` (``EBADF``, or ``ENOSPC``: see epoll_ctl(2)).
        """
        interest = _checked(interest)
        number = _number_of(source)
        entry = _Entry(source, number, interest)
        with self._lock:
            self._check_open()
            for present in (self._by_key.get(_key_of(source)), self._by_number.get(number)):
                if present is None or present.number not in self._by_number:
                    continue
                if self._stands(present):
                    raise UsageError(f"descriptor {present.number} is in this Poll already, as {present.source!r}")
                self._drop(present)
            if not self._watcher.register(number, entry.mask):
                entry.file = _file_under(number)
                self._steady.append(entry)
            self._by_number[number] = self._by_key[_key_of(source)] = entry
            if entry.descriptor is not None:
                _follow(entry.descriptor, self)
            self._update_bell()

    def modify(self, source: S, interest: Ready) -> None:
        """Watches *source* for something else. Raises ``UsageError`` where it is not in here; ``ClosedError``."""
        interest = _checked(interest)
        with self._lock:
            entry = self._find(source)
            if not self._stands(entry):
                self._drop(entry)
                raise ClosedError(f"{source!r} was closed while it was in this Poll, and is not any more")
            entry.interest = interest
            if entry.file is None:
                self._watcher.modify(entry.number, entry.mask)
            self._update_bell()

    def remove(self, source: S) -> None:
        """Watches *source* no longer. Raises ``UsageError`` where it is not in here; ``ClosedError``."""
        with self._lock:
            self._drop(self._find(source))
            self._update_bell()

    def discard(self, source: S) -> None:
        """Watches *source* no longer, if it is in here. Also on a closed ``Poll``."""
        with self._lock:
            entry = self._by_key.get(_key_of(source))
            if entry is not None:
                self._drop(entry)
                self._update_bell()

    def __contains__(self, source: object) -> bool:
        return _key_of(source) in self._by_key

    def __len__(self) -> int:
        return len(self._by_number)

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
        """Whether the entry's number is still that of the file that was added."""
        if not entry.has_its_number():
            return False
        if entry.descriptor is not None:
            return True  # it would have told
        if entry.file is None:
            return self._watcher.stands(entry.number, entry.mask)
        try:
            return _file_under(entry.number) == entry.file
        except OSError:
            return False

    def _drop(self, entry: _Entry[S]) -> None:
        """Takes an entry out, as far as the kernel lets us."""
        self._by_number.pop(entry.number, None)
        self._by_key.pop(_key_of(entry.source), None)
        if entry.file is not None:
            self._steady.remove(entry)
            self._steady_left = min(self._steady_left, len(self._steady))
        elif not self._watcher.unregister(entry.number):
            self._doubtful.add(entry.number)
        if entry.descriptor is not None:
            _unfollow(entry.descriptor, self)

    def _source_closed(self, descriptor: Descriptor, number: int) -> None:
        """A netnet socket that is in here is being closed."""
        with self._lock:
            entry = self._by_number.get(number)
            if entry is None or entry.descriptor is not descriptor:  # it had given its number away before
                entry = next((one for one in self._by_key.values() if one.descriptor is descriptor), None)
                if entry is None:
                    return
            self._drop(entry)
            for call in self._calls:
                call.gone.append(entry.source)
            self._update_bell()

    def _rebuild(self) -> None:
        """Begins anew with the kernel, without the registrations that cannot be taken back. Who waits is woken."""
        with self._lock:
            for entry in list(self._by_number.values()):
                if not self._stands(entry):
                    self._drop(entry)
            old, self._watcher = self._watcher, _new_watcher()
            self._retire(old)
            for entry in self._by_number.values():
                if entry.file is None:
                    self._watcher.register(entry.number, entry.mask)
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
        elif seconds > 0 and not self._by_number and not self._closed:
            refuse_to_block()
            if seconds == math.inf:
                raise UsageError("this Poll is empty, and outside a loop nothing will be added: it would wait for ever")
        until = None if seconds == math.inf else now() + seconds
        call: _Call[S] = _Call()
        self._calls.append(call)
        try:
            return self._select(call, until, at_most, over=seconds <= 0)
        finally:
            with self._lock:
                self._calls.remove(call)
                self._update_bell()

    def _select(self, call: _Call[S], until: float | None, at_most: int | None, over: bool) -> list[tuple[S, Ready]]:
        while True:
            watcher = self._enter()
            try:
                found = self._collect(call, watcher, at_most)
                if found:
                    return found
                if watcher is not self._watcher:
                    continue
                if over:
                    return []
                over = not watcher.wait(until, call.pauses)
            finally:
                self._leave(watcher)

    def _collect(self, call: _Call[S], watcher: _Watcher, at_most: int | None) -> list[tuple[S, Ready]]:
        """What is ready now."""
        found: list[tuple[S, Ready]] = []
        while call.gone and len(found) != at_most:
            found.append((call.gone.pop(0), Ready.ERROR | Ready.CLOSED))
        self._take_steady(found, at_most)
        seen: set[int] = set()
        while watcher is self._watcher and len(found) != at_most:
            left = None if at_most is None else at_most - len(found)
            events = watcher.look(left)
            fresh = [event for event in events if event[0] not in seen]
            rung = False
            for number, bits in fresh:
                seen.add(number)
                if number == watcher.bell:
                    rung = True
                elif (told := self._judged(number, bits)) is not None:
                    found.append(told)
            if rung:  # after the others, whose turn is over for the kernel
                self._steady_left = len(self._steady)
                self._take_steady(found, at_most)
            if not fresh or left is None or len(events) < left:
                break
        return found

    def _take_steady(self, found: list[tuple[S, Ready]], at_most: int | None) -> None:
        """Those that are always ready, for as long as it is their turn."""
        while self._steady_left > 0 and len(found) != at_most:
            with self._lock:
                self._steady_left -= 1
                self._steady.rotate(-1)
                entry = self._steady[-1]
                if not self._stands(entry):
                    self._drop(entry)
                    self._update_bell()
                    continue
            if entry.steady:
                found.append((entry.source, entry.steady))

    def _judged(self, number: int, bits: int) -> tuple[S, Ready] | None:
        """What a report of the kernel means; ``None`` where it is about what is not in here any more."""
        with self._lock:
            entry = self._by_number.get(number)
            if entry is None or bits & NOT_OPEN or not self._stands(entry):
                if entry is not None:
                    self._drop(entry)
                elif self._watcher.unregister(number):
                    return None
                if number in self._doubtful:
                    self._rebuild()
                return None
            if number in self._doubtful:
                bits = next((found for _, found in _look_at({number: entry.mask})), 0)
            reason = entry.reason(bits)
            if reason:
                return entry.source, reason
            if number in self._doubtful:
                self._rebuild()
            return None

    def _enter(self) -> _Watcher:
        with self._lock:
            self._check_open()
            self._watcher.users += 1
            return self._watcher

    def _leave(self, watcher: _Watcher) -> None:
        with self._lock:
            watcher.users -= 1
            if watcher.retired and watcher.users == 0:
                watcher.close()

    def _retire(self, watcher: _Watcher) -> None:
        """Wakes all who wait with *watcher*; the last one closes it."""
        watcher.retired = True
        if watcher.users == 0:
            watcher.close()
        else:
            watcher.ring(True)

    def _update_bell(self) -> None:
        if not self._closed:
            self._watcher.ring(any(entry.steady for entry in self._steady) or any(call.gone for call in self._calls))

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
                    _unfollow(entry.descriptor, self)
            self._by_number.clear()
            self._by_key.clear()
            self._steady.clear()
            self._steady_left = 0
            self._retire(self._watcher)

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
        if getattr(self, "_watcher", None) is not None:
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self)} source{'' if len(self) == 1 else 's'}"
        return f"<netnet.Poll, {state}>"


def _new_watcher() -> _Watcher:
    return _EpollWatcher() if has_epoll() else _LookingWatcher()


def _checked(interest: Ready) -> Ready:
    if not isinstance(interest, int):
        raise TypeError(f"an interest is made of Ready's flags, not {interest!r}")
    if int(interest) & ~int(_MAY_BE_ASKED):
        raise ValueError(f"an interest may be {_MAY_BE_ASKED}, or 0, not {int(interest):#x}")
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


def _key_of(source: object) -> int:
    """Finds a source in the tables: a number is itself, an object is this very one (below 0, so that they differ)."""
    return source if isinstance(source, int) else -1 - id(source)
