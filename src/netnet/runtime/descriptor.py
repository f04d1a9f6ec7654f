"""What the loop knows of one descriptor: what is ready, and who waits. The socket owns it, the loop's table names it.

``readable`` and ``writable`` say what the next call may expect: set by events, cleared by would-block (and by a short
read, see below), and down while somebody waits. They are hints: a stale one costs a failing call, never correctness.
A descriptor is registered with the poller once, when somebody first has to wait for it; what is ready already then
comes as the first event.

The short-read rule. A read from a TCP socket that returns less than was asked for has emptied it, so the next read may
wait at once, without a failing call. That holds while all of this does, and ``short_is_dry`` says whether it does:

1. it is TCP over IPv4 or IPv6 (a UNIX stream stops at a boundary of credentials, a datagram is always short);
2. the read had no flags (``MSG_PEEK`` leaves the data there);
3. no urgent data, error, hang-up or end of the peer was ever reported: then the short read may have stopped at the
   urgent mark or in front of the end, and no further event would come. A thing that happens after the last event the
   loop saw brings an event of its own, because the poller is edge-triggered; so what matters is only what was seen.
   (Where the poller does not tell of urgent data, the rule is off.)
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import MutableSet
from typing import TYPE_CHECKING, Protocol

from netnet.errors import BusyError, ClosedError
from netnet.poller.contract import ERROR, HANGUP, PEER_CLOSED, READABLE, WRITABLE
from netnet.runtime.worker import ELSEWHERE, Nowhere, Waiter, Worker, throw_later

if TYPE_CHECKING:
    from netnet.runtime.loop import Loop

#: what else an event means: an error or a hang-up ends both directions, the peer's end makes reading return at once
_ALSO = ((ERROR, READABLE | WRITABLE), (HANGUP, READABLE | WRITABLE), (PEER_CLOSED, READABLE))


class Line:
    """Several tasks waiting on the same side of a descriptor, first come first served.

    An event wakes the first; when its call is through it wakes the next (``Descriptor.pass_on``), until one finds
    nothing left and stands in front again. So no wake-up is lost, and none is wasted on a crowd.
    """

    __slots__ = ("descriptor", "passing", "side", "workers")

    def __init__(self, descriptor: Descriptor, side: int, first: Waiter) -> None:
        self.descriptor = descriptor
        self.side = side
        #: somebody in front is about to try, so an event need not wake the next
        self.passing = False
        self.workers: deque[Waiter] = deque([first])

    def switch(self) -> None:
        if self.passing:
            self.descriptor.put(self.side, self)
        else:
            self.pop().switch()

    def pop(self) -> Waiter:
        """Takes the first away; the others stay."""
        worker = self.workers.popleft()
        self.descriptor.put(self.side, self if self.workers else None)
        return worker

    def remove(self, worker: Waiter) -> bool:
        try:
            self.workers.remove(worker)
        except ValueError:
            return False
        if not self.workers:
            self.descriptor.put(self.side, None)
        return True


class Follower(Protocol):
    """Who is no waiter and yet has to know when a descriptor is closed."""

    def _descriptor_closed(self, descriptor: Descriptor) -> None:
        """*descriptor* is being closed. Until this returns its number, unless it was given away before, is its own."""


class Descriptor:
    """The state of one descriptor in the loop that waits for it."""

    __slots__ = (
        "fd",
        "exclusive",
        "followers",
        "home",
        "loop",
        "readable",
        "reader",
        "sender",
        "shared",
        "short_is_dry",
        "timed",
        "twins",
        "writable",
        "writer",
    )

    def __init__(self, fd: int, *, stream: bool, tcp: bool) -> None:
        self.fd = fd
        #: the loop whose poller has it; None before the first wait
        self.loop: Loop | None = None
        #: the loop, when the calls written out for speed may be used: see ``_set_home``
        self.home: Loop | Nowhere = ELSEWHERE
        self.readable = True
        self.writable = True
        self.reader: Waiter | None = None
        self.writer: Waiter | None = None
        self.short_is_dry = tcp
        #: several tasks may wait for one side of it: a listener, a datagram socket
        self.shared = not stream
        #: where several loops share it, an event need not wake them all: whoever is woken takes everything that is there
        self.exclusive = False
        self.timed = False
        #: other descriptors stand for the same open socket, and share its blocking mode
        self.twins = False
        #: the task that is in the middle of a message
        self.sender: Worker | None = None
        #: those to be told when it is closed; None as a rule
        self.followers: MutableSet[Follower] | None = None

    # -- events

    def note_unusual(self, bits: int) -> int:
        """An event with one of the unusual bits: from now on a short read proves nothing. Returns what is ready."""
        self.short_is_dry = False
        for bit, also in _ALSO:
            if bits & bit:
                bits |= also
        return bits

    # -- waiting

    def put(self, side: int, waiter: Waiter | None) -> None:
        """Has *waiter* (or nobody) wait on *side*. The flag of that side is down while somebody waits, then up again:
        whoever was first may have missed an event, and trying costs little."""
        if side == READABLE:
            self.reader = waiter
            self.readable = waiter is None
        else:
            self.writer = waiter
            self.writable = waiter is None

    def wait(self, worker: Worker, side: int, until: float | None = None, *, again: bool = False) -> None:
        """Parks *worker* until the descriptor is ready on *side* (``READABLE`` or ``WRITABLE``). May be woken in vain.

        *until* is an instant, after which ``TimeoutError`` is raised; *again* says that the worker was first in line
        before. Raises ``Cancelled``, ``ClosedError``, and ``BusyError`` where another task waits on a stream already.
        """
        loop = worker.loop
        if worker.home is not loop:
            loop.refuse(worker)
        self.enlist(loop, worker, side, again=again)
        if until is None:
            loop.rest(worker, self)
            return
        timer = loop.timers.add(until, functools.partial(loop.interrupt, worker, _timed_out))
        try:
            loop.rest(worker, self)
        finally:
            timer.cancel()

    def enlist(self, loop: Loop, waiter: Waiter, side: int, *, again: bool = False) -> None:
        """Has *waiter* woken once when the descriptor is ready on *side*, or closed. Raises as ``wait`` does."""
        self.attach(loop)
        present = self.reader if side == READABLE else self.writer
        if present is None:
            self.put(side, waiter)
        elif not self.shared:
            raise BusyError(self._busy(side))
        else:
            line = present
            if not isinstance(line, Line):
                line = Line(self, side, present)
                self.put(side, line)
            if again:
                line.passing = False
                line.workers.appendleft(waiter)
            else:
                line.workers.append(waiter)
        if not loop.poller.edge_triggered:
            loop.poller.rearm(self.fd, side)

    def watch(self, side: int, waiter: Waiter) -> None:
        """Has *waiter*, which is no task, woken when the descriptor is ready on *side*. It must be attached."""
        self.put(side, waiter)
        assert self.loop is not None
        if not self.loop.poller.edge_triggered:
            self.loop.poller.rearm(self.fd, side)

    def pass_on(self, side: int) -> None:
        """A call on *side* of a shared descriptor is through, not by would-block: whoever is next may try."""
        waiter = self.reader if side == READABLE else self.writer
        if waiter is None:
            return
        if isinstance(waiter, Line):
            waiter.passing = True
            waiter = waiter.pop()
        else:
            self.put(side, None)
        assert self.loop is not None
        self.loop.ready.append(waiter)

    def forget(self, worker: Waiter) -> bool:
        for side, waiter in ((READABLE, self.reader), (WRITABLE, self.writer)):
            if waiter is worker:
                self.put(side, None)
                return True
            if isinstance(waiter, Line) and waiter.remove(worker):
                return True
        return False

    def describe(self, worker: Worker) -> str:
        writing = self.writer is worker or (isinstance(self.writer, Line) and worker in self.writer.workers)
        return f"descriptor {self.fd} to become {'writable' if writing else 'readable'}"

    def _busy(self, side: int) -> str:
        what = "reads" if side == READABLE else "writes"
        return f"another task {what} this stream (descriptor {self.fd}) already; one may read while one writes"

    # -- the poller

    def attach(self, loop: Loop) -> None:
        """Registers the descriptor with the loop's poller, unless it is already."""
        if self.loop is loop:
            return
        if self.fd < 0:
            raise ClosedError
        if self.loop is not None:
            if self.reader is not None or self.writer is not None:
                raise BusyError(
                    f"descriptor {self.fd} is waited for in another thread's loop; it can be in one at a time"
                )
            self.detach()
        old = loop.descriptors.get(self.fd)
        if old is not None:
            if old.loop is None:  # tasks wait for the bare number: they look again, and wait with us
                old.wake_all()
            elif old.reader is not None or old.writer is not None:
                raise BusyError(f"descriptor {self.fd} is waited for through another socket object")
            else:
                old.detach()
        loop.poller.register(self.fd, self.exclusive)
        loop.descriptors[self.fd] = self
        self.loop = loop
        if not loop.poller.reports_urgent:
            self.short_is_dry = False
        self._set_home()

    def set_timed(self, timed: bool) -> None:
        """Says whether calls on it have a time-out."""
        self.timed = timed
        self._set_home()

    def set_sender(self, sender: Worker | None) -> None:
        """Says which task is in the middle of a message, so that no other one's bytes get into it."""
        self.sender = sender
        self._set_home()

    def check_sender(self, worker: Worker) -> None:
        """Raises ``BusyError`` where another task is in the middle of a message."""
        if self.sender is not None and self.sender is not worker:
            raise BusyError(self._busy(WRITABLE))

    def set_shared(self) -> None:
        """Says that several tasks may wait for one side of it."""
        if not self.shared:
            self.shared = True
            self._set_home()

    def set_exclusive(self, exclusive: bool) -> None:
        """Says whether whoever is woken for it takes everything that is there; heard at the next registration."""
        if self.exclusive != exclusive:
            self.exclusive = exclusive
            if self.reader is None and self.writer is None:
                self.detach()

    def _set_home(self) -> None:
        """The calls written out for speed know neither time-outs nor lines, messages half sent, level-triggered pollers."""
        loop = self.loop
        usual = not (self.timed or self.shared or self.sender)
        self.home = loop if loop is not None and loop.poller.edge_triggered and usual else ELSEWHERE

    def orphan(self) -> None:
        """Forgets the loop, which is gone or not ours to touch."""
        self.loop = None
        self.home = ELSEWHERE
        self.reader = self.writer = None
        self.readable = self.writable = True

    def detach(self) -> None:
        """Takes the descriptor out of its loop's poller and table, if it is (still) the one that is meant there."""
        loop = self.loop
        if loop is not None:
            if loop.descriptors.get(self.fd) is self:
                del loop.descriptors[self.fd]
                loop.poller.unregister(self.fd)
            self.orphan()

    def wake_all(self) -> None:
        """Wakes all who wait, without an event."""
        for waiter in (self.reader, self.writer):
            if waiter is not None:
                waiter.switch()

    def in_other_thread(self) -> bool:
        """Whether its loop runs in another OS thread, and so may hand it an event at any moment."""
        return self.loop is not None and self.loop.thread_ident != threading.get_ident()

    def close(self) -> None:
        """Unregisters the descriptor, then wakes all who wait for it with ``ClosedError``. Closing it comes after.

        To be called in the thread of its loop. Followers are told first, once.
        """
        if self.followers is not None:
            followers, self.followers = tuple(self.followers), None
            for follower in followers:
                follower._descriptor_closed(self)
        loop = self.loop
        if self.reader is None and self.writer is None:  # as usual
            self.detach()
            self.fd = -1
            return
        waiters = (self.reader, self.writer)
        self.detach()
        self.fd = -1
        if loop is None:
            return
        for waiter in waiters:
            for one in waiter.workers if isinstance(waiter, Line) else (waiter,):
                if isinstance(one, Worker):
                    throw_later(one, ClosedError(_CLOSED))
                elif one is not None:
                    loop.ready.append(one)


_CLOSED = "the socket was closed while this task waited for it"


def _timed_out() -> BaseException:
    return TimeoutError("timed out")
