"""Waiting for the first of several things: ``choose``. Channels, events, tasks, sockets and times can be mixed.

One of the cases happens, and only that one: an item is taken from one channel, and the others keep theirs. Where several
could happen at once each gets its turn: the look begins one case further at each call.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from operator import itemgetter
from typing import Any, Final, NamedTuple, Protocol

from netnet.errors import ChannelClosedError, UsageError
from netnet.poller.contract import READABLE, WRITABLE
from netnet.poller.single import wait_one
from netnet.runtime.channel import Channel
from netnet.runtime.clock import checked_seconds
from netnet.runtime.descriptor import Descriptor
from netnet.runtime.exchange import CLOSED, NOTHING, Exchange
from netnet.runtime.foreign import enlist, number_of
from netnet.runtime.lot import ParkingLot, ThreadWaiter, begin, mutex, stay, wake, was_handed
from netnet.runtime.sync import Event
from netnet.runtime.task import Task
from netnet.runtime.worker import Worker

#: where each look begins: spread evenly, and the same in each run of a program
_begin_at = random.Random(0).randrange

_GIVEN_UP: Final = object()


class Sending(NamedTuple):
    """A case of ``choose``: *item* goes into *channel*."""

    channel: Channel[Any]
    item: object


class Readable(NamedTuple):
    """A case of ``choose``: a socket, or a descriptor, can be read without waiting."""

    source: object


class Writable(NamedTuple):
    """A case of ``choose``: a socket, or a descriptor, can be written without waiting."""

    source: object


class Elapsed(NamedTuple):
    """A case of ``choose``: so many seconds have passed since the call. 0: if nothing else can happen now."""

    seconds: float


class Chosen(NamedTuple):
    """What ``choose`` returns: which case it was, counted from 0, and what it brought."""

    which: int
    value: Any


class _Choice:
    """One call of ``choose``, in the queues of all its cases at once."""

    __slots__ = ("cases", "waiter", "winner")

    def __init__(self, waiter: Worker | ThreadWaiter, cases: list[tuple[int, _Case]]) -> None:
        self.waiter = waiter
        self.winner: object = None
        self.cases = cases

    def leave(self, waiter: object) -> bool:
        with mutex:
            if self.winner is not None:
                return False
            self.winner = _GIVEN_UP
            return True

    forget = leave

    def describe(self, worker: Worker) -> str:
        return f"the first of {', '.join(case.says for _, case in sorted(self.cases, key=itemgetter(0)))}"


class _Branch:
    """One case of a choice in the queue of what it waits for."""

    __slots__ = ("choice", "gift")

    def __init__(self, choice: _Choice) -> None:
        self.choice = choice
        self.gift: object = None

    def claim(self) -> bool:
        waiter = self.choice.waiter
        there = not waiter.loop.closed if type(waiter) is Worker else waiter.claim()  # type: ignore[union-attr]
        if self.choice.winner is not None or not there:
            return False
        self.choice.winner = self
        return True

    def switch(self) -> None:
        wake(self.choice.waiter)


class _Ready:
    """Stands where the loop wakes without asking: wakes the branch if no other one was faster."""

    __slots__ = ("branch", "place", "side")

    def __init__(self, branch: _Branch, side: int) -> None:
        self.branch = branch
        self.side = side
        self.place: Any = None

    def switch(self) -> None:
        with mutex:
            if self.branch.claim():
                self.branch.switch()
                return
        self.pass_on()

    def pass_on(self) -> None:
        """It was woken and takes nothing: whoever stands behind it in line may try."""
        if isinstance(self.place, Descriptor) and self.place.shared:
            self.place.pass_on(self.side)

    def withdraw(self) -> None:
        if not self.place.forget(self):
            self.pass_on()


class _Case(Protocol):
    """How one kind of case is asked, waited for, and left."""

    #: what is waited for, in reports
    says: str

    def attempt(self) -> object:
        """What the case brings, if it can happen now; else ``NOTHING``. Never waits."""

    def line_up(self, branch: _Branch) -> None:
        """Has *branch* woken when the case may happen."""

    def withdraw(self, branch: _Branch) -> None:
        """Takes *branch* out of the queue, if it is still there."""

    def missed(self) -> bool:
        """Whether it could happen after all, although somebody stands in line for it."""

    def outcome(self, branch: _Branch) -> object:
        """What the case brought, after *branch* was woken; ``NOTHING``: it was woken in vain."""

    def give_back(self, branch: _Branch) -> None:
        """What the case brought cannot be told any more."""


class _Taking:
    """An item out of a channel or a queue."""

    def __init__(self, source: Exchange) -> None:
        self.source = source
        self.says = f"something in a {type(source).__name__.lower()}"

    def attempt(self) -> object:
        with mutex:
            item = self.source.fetch()
            if item is NOTHING and self.source.closed:
                raise ChannelClosedError("the channel is closed and empty", self.source)
            return item

    def line_up(self, branch: _Branch) -> None:
        self.source.takers.append(branch)

    def withdraw(self, branch: _Branch) -> None:
        self.source.leave(branch)

    def missed(self) -> bool:
        return bool(self.source.items)

    def give_back(self, branch: _Branch) -> None:
        if branch.gift is not CLOSED:
            self.source.give_back(branch.gift)

    def outcome(self, branch: _Branch) -> object:
        if branch.gift is CLOSED:
            raise ChannelClosedError("the channel was closed", self.source)
        return branch.gift


class _Giving:
    """An item into a channel."""

    def __init__(self, case: Sending) -> None:
        self.channel, self.item = case
        self.says = "room in a channel"

    def attempt(self) -> object:
        with mutex:
            if self.channel.closed:
                raise ChannelClosedError("the channel is closed; nothing can be sent any more", self.channel)
            return None if self.channel.offer(self.item) else NOTHING

    def line_up(self, branch: _Branch) -> None:
        branch.gift = self.item
        self.channel.givers.append(branch)

    def withdraw(self, branch: _Branch) -> None:
        self.channel.leave(branch)

    def missed(self) -> bool:
        return False

    def give_back(self, branch: _Branch) -> None:
        pass

    def outcome(self, branch: _Branch) -> object:
        if branch.gift is CLOSED:
            raise ChannelClosedError("the channel was closed before the item was taken", self.channel)
        return None


class _Waiting:
    """An event that is set, a task that has ended: whatever has a parking lot and a state."""

    def __init__(self, lot: ParkingLot, happened: Callable[[], object], value: object) -> None:
        self.lot = lot
        self.happened = happened
        self.value = value
        self.says = f"the end of task {value.name}" if isinstance(value, Task) else lot.what

    def attempt(self) -> object:
        return self.value if self.happened() else NOTHING

    def line_up(self, branch: _Branch) -> None:
        self.lot.waiting.append(branch)

    def withdraw(self, branch: _Branch) -> None:
        self.lot.leave(branch)

    def missed(self) -> bool:
        return bool(self.happened())

    def give_back(self, branch: _Branch) -> None:
        pass

    def outcome(self, branch: _Branch) -> object:
        return self.value


class _Descriptor:
    """A descriptor that is ready."""

    def __init__(self, source: object, side: int, worker: Worker | None) -> None:
        self.source = source
        self.side = side
        self.worker = worker
        self.ready: _Ready | None = None
        self.says = f"{source!r} to become {'readable' if side == READABLE else 'writable'}"

    def attempt(self) -> object:
        return self.source if wait_one(number_of(self.source), self.side, 0) else NOTHING

    def line_up(self, branch: _Branch) -> None:
        if self.worker is None:
            raise UsageError("a socket among the cases of choose() needs a running loop: call it in a task")
        ready = _Ready(branch, self.side)
        ready.place = enlist(self.worker.loop, self.source, self.side, ready)
        self.ready = ready

    def withdraw(self, branch: _Branch) -> None:
        if self.ready is not None:
            self.ready.withdraw()
            self.ready = None

    def missed(self) -> bool:
        return False

    def give_back(self, branch: _Branch) -> None:
        pass

    def outcome(self, branch: _Branch) -> object:
        return self.attempt()


def _case(case: object, worker: Worker | None) -> _Case:
    if isinstance(case, Exchange):
        return _Taking(case)
    if isinstance(case, Sending) and isinstance(case.channel, Channel):
        return _Giving(case)
    if isinstance(case, Event):
        return _Waiting(case.lot, case.is_set, case)
    if isinstance(case, Task):
        return _Waiting(case.joiners(), lambda: case.done, case)
    if isinstance(case, (Readable, Writable)):
        return _Descriptor(case.source, READABLE if isinstance(case, Readable) else WRITABLE, worker)
    if hasattr(case, "fileno"):
        return _Descriptor(case, READABLE, worker)
    raise TypeError(
        f"choose() knows channels, queues, events, tasks, sockets, Sending, Readable, Writable and Elapsed, not {case!r}"
    )


def choose(*cases: object) -> Chosen:
    """Waits for the first of *cases* and returns which it was and what it brought; of the others nothing happens.

    A case is a ``Channel`` or a ``Queue`` (an item is taken out), ``Sending(channel, item)``, an ``Event`` (it is set),
    a ``Task`` (it has ended), a socket or whatever has a ``fileno`` (it can be read), ``Readable(it)``, ``Writable(it)``,
    or ``Elapsed(seconds)``. ::

        match choose(numbers, stop, Elapsed(5)):
            case 0, number: ...
            case 1, _: return

    May switch tasks. Raises ``ChannelClosedError``, whose ``channel`` says which, when a channel among them has come to
    its end; ``BusyError`` where another task reads (writes) the same stream; ``ValueError`` without a case;
    ``Cancelled``. In an OS thread without a loop it blocks, and there can be no sockets among the cases. Cf. Go's
    ``select``.
    """
    worker = begin()
    limit, late = _soonest(cases)
    found = {index: _case(case, worker) for index, case in enumerate(cases) if not isinstance(case, Elapsed)}
    if not cases:
        raise ValueError("choose() needs a case to wait for")
    start = _begin_at(len(cases))
    order = [*range(start, len(cases)), *range(start)]
    usual = [(index, found[index]) for index in order if index in found]
    until = None if limit is None else _now(worker) + limit
    while True:
        left = None if until is None else until - _now(worker)
        chosen = _wait(worker, usual, left)
        if chosen is not None:
            return chosen
        if left is not None and left <= 0:
            return Chosen(late, None)


def _wait(worker: Worker | None, cases: list[tuple[int, _Case]], seconds: float | None) -> Chosen | None:
    """Stands in all queues until one case happens; ``None`` when the time is up, or it was woken in vain."""
    if worker is not None and worker.home is not worker.loop:
        worker.loop.refuse(worker)
    choice = _Choice(ThreadWaiter() if worker is None else worker, cases)
    branches: list[tuple[int, _Case, _Branch]] = []
    try:
        with mutex:
            for index, case in cases:  # before any stands in a queue, where it could meet its own like
                value = case.attempt()
                if value is not NOTHING:
                    return Chosen(index, value)
            if seconds is not None and seconds <= 0:
                return None
            for index, case in cases:
                branches.append((index, case, _Branch(choice)))
                case.line_up(branches[-1][2])
            if any(case.missed() for _, case in cases):  # a signal's handler has struck in these lines
                return None
        outside = any(isinstance(case, _Descriptor) for _, case in cases)
        if outside and worker is not None and seconds is None:
            worker.loop.rest(worker, choice)
        elif not stay(choice, choice.waiter, seconds):
            return None
    except BaseException as error:
        if was_handed(error):
            for _, case, branch in branches:
                if branch is choice.winner:
                    case.give_back(branch)
        raise
    finally:
        winner = choice.winner
        choice.winner = _GIVEN_UP  # so that nobody gives it anything any more, and no cycle is left
        for _, case, branch in branches:
            case.withdraw(branch)
            if branch is not winner:
                branch.gift = None
    for index, case, branch in branches:
        if branch is winner:
            value = case.outcome(branch)
            branch.gift = None
            return None if value is NOTHING else Chosen(index, value)
    return None


def _soonest(cases: tuple[object, ...]) -> tuple[float | None, int]:
    """The seconds of the ``Elapsed`` that is up first, and its index."""
    times = [(checked_seconds(case.seconds), index) for index, case in enumerate(cases) if isinstance(case, Elapsed)]
    if not times or min(times)[0] == math.inf:
        return None, -1
    return min(times)


def _now(worker: Worker | None) -> float:
    from netnet.runtime.api import now

    return now() if worker is None else worker.loop.clock.now()
