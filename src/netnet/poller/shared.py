"""One epoll for the loops of several OS threads: a ``SharedPoller``, and for each loop a *member* of it.

All sockets of all members are in one kernel epoll, E. Each member has besides an epoll of its own, P, with its waker,
the foreign descriptors that it watches, and E itself, level-triggered; so it waits in one place for everything. When P
tells of E, the member takes what E has to tell, keeps its own events and puts the others into their owners' inboxes; an
owner that may be asleep is woken. So an event for a socket of one thread may come by way of any other.

Why no event is lost. Events are facts about a registration, and who owns a number changes only under the lock, together
with the registration. Events are sorted under that lock, after E was asked: what was told of a registration finds its
owner, or one that came after it, whose own registration starts with what is ready by then. An inbox may hold
what belongs to an earlier owner; it is looked at again when it is emptied. An owner says that it may be asleep before it
looks into its inbox, and an event is put there before that is asked. A member that was interrupted by a signal handler's
exception between asking E and handing out has E tell of everything anew. A member that closes takes its sockets out;
what others hold for it then concerns nobody. An inbox keeps one entry a descriptor, so it is no longer than its
owner has sockets.

What it costs: two system calls a turn in place of one, a wake-up for the owner when another thread was faster, and all
members that sleep are woken by an event (epoll_ctl(2) allows no ``EPOLLEXCLUSIVE`` for an epoll inside another; those
that find E empty by then fall asleep again inside the kernel). It gains nothing over one poller a thread, and costs more
where a turn has few events.

Not here: moving sockets between loops, which is for those who own them. Linux only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import threading
import weakref
from types import TracebackType
from typing import Self

from netnet.errors import BusyError, ClosedError, UsageError
from netnet.poller.contract import READABLE, Poller
from netnet.poller.epoll import EVENTS_MAX, EXCLUSIVE, SOCKET, EpollPoller


class _Common:
    """What the members share: the kernel's epoll, and who owns which descriptor. Open until the last holder has left."""

    __slots__ = ("__weakref__", "epoll", "exclusive", "fd", "holders", "lock", "owners", "pid")

    def __init__(self, epoll: select.epoll) -> None:
        self.epoll = epoll
        self.fd = epoll.fileno()
        self.pid = os.getpid()
        #: reentrant, since a signal handler or the collector may close a socket in any line
        self.lock = threading.RLock()
        #: descriptor number → the member whose events it has; changed under the lock, together with the registration
        self.owners: dict[int, Member] = {}
        #: of these, those that were registered as exclusive
        self.exclusive: set[int] = set()
        #: how many handles (``SharedPoller``) and members use it
        self.holders = 0

    def forked(self) -> bool:
        """Whether this is the child of a fork: the lock may be held for ever, and the epoll is the parent's to change."""
        return self.pid != os.getpid()

    def enter(self) -> bool:
        """One more holder; false where the last one has just left."""
        with self.lock:
            if self.epoll.closed:
                return False
            self.holders += 1
            return True

    def leave(self, holder: object) -> None:
        """Takes away what *holder* has registered, and closes the epoll after the last."""
        if self.forked():
            self.epoll.close()
            return
        with self.lock:
            for fd in [fd for fd, owner in self.owners.items() if owner is holder]:
                self.remove(fd)
            self.holders -= 1
            if not self.holders:
                self.epoll.close()

    def add(self, fd: int, owner: Member, exclusive: bool) -> None:
        with self.lock:
            try:
                self.epoll.register(fd, EXCLUSIVE if exclusive else SOCKET)
            except FileExistsError:
                present = self.owners.get(fd)
                if present is None or present is owner:
                    raise
                raise BusyError(
                    f"descriptor {fd} is in another loop of this shared poller already; it can be in one at a time"
                ) from None
            self.owners[fd] = owner
            if exclusive:
                self.exclusive.add(fd)
            else:
                self.exclusive.discard(fd)

    def remove(self, fd: int) -> None:
        """Under the lock: forgets *fd*, also where the kernel has forgotten it before."""
        self.owners.pop(fd, None)
        self.exclusive.discard(fd)
        with contextlib.suppress(OSError):
            self.epoll.unregister(fd)

    def report_again(self) -> None:
        """Has the epoll tell anew of all that is ready: somebody has taken events, and did not hand them out."""
        with self.lock:
            for fd in tuple(self.owners):
                with contextlib.suppress(OSError):  # closed behind our back
                    if fd in self.exclusive:  # cannot be changed
                        self.epoll.unregister(fd)
                        self.epoll.register(fd, EXCLUSIVE)
                    else:
                        self.epoll.modify(fd, SOCKET)


class Member(EpollPoller):
    """One loop's part in a ``SharedPoller``. To its loop it is an edge-triggered poller like any other."""

    name = "shared"

    __slots__ = ("_asleep", "_common", "_inbox", "_inbox_lock", "_taking")

    def __init__(self, common: _Common) -> None:
        super().__init__()
        self._common = common
        #: what other members have taken for this one: descriptor number → bits
        self._inbox: dict[int, int] = {}
        self._inbox_lock = threading.Lock()
        #: it waits, or is about to: who puts something into the inbox has to wake it
        self._asleep = False
        #: it has asked for events and not handed them out yet
        self._taking = False
        if not common.enter():
            super().close()
            raise ClosedError(_CLOSED)
        self._epoll.register(common.fd, READABLE)

    def register(self, fd: int, exclusive: bool = False) -> None:
        self._common.add(fd, self, exclusive)

    def unregister(self, fd: int) -> None:
        common = self._common
        with common.lock:
            if common.owners.get(fd) is self:
                common.remove(fd)

    def wait(self, timeout_seconds: float | None) -> list[tuple[int, int]]:
        if self._taking:
            self._common.report_again()
            self._taking = False
        self._asleep = True
        if self._inbox:
            timeout_seconds = 0.0
        events = super().wait(timeout_seconds)
        self._asleep = False
        found: list[tuple[int, int]] = []
        for event in events:
            if event[0] == self._common.fd:
                self._take(found)
            else:
                found.append(event)
        if self._inbox:
            self._empty_inbox(found)
        return found

    def _take(self, found: list[tuple[int, int]]) -> None:
        """Takes what the common epoll has to tell: own events into *found*, others' to their owners."""
        common = self._common
        others: dict[Member, list[tuple[int, int]]] = {}
        self._taking = True
        events = common.epoll.poll(0, EVENTS_MAX)
        with common.lock:
            owners = common.owners
            for event in events:
                owner = owners.get(event[0])
                if owner is self:
                    found.append(event)
                elif owner is not None:
                    others.setdefault(owner, []).append(event)
                else:  # unregistered since; or not by us, in an epoll that was adopted: it would tell for ever
                    common.remove(event[0])
        for owner, theirs in others.items():
            owner.hand(theirs)
        self._taking = False

    def hand(self, events: list[tuple[int, int]]) -> None:
        """Takes events from another member's thread, and wakes this one if it may be asleep."""
        with self._inbox_lock:
            inbox = self._inbox
            for fd, bits in events:
                inbox[fd] = inbox.get(fd, 0) | bits
        if self._asleep:
            self.wake()

    def _empty_inbox(self, found: list[tuple[int, int]]) -> None:
        with self._inbox_lock:
            inbox, self._inbox = self._inbox, {}
        owners = self._common.owners
        found += [event for event in inbox.items() if owners.get(event[0]) is self]

    def close(self) -> None:
        common = self._common
        if self._epoll.closed:
            return
        if self._taking and not common.forked():
            common.report_again()
            self._taking = False
        common.leave(self)
        super().close()


_CLOSED = "the shared poller is closed"

#: the number of a common epoll → what belongs to it, for those who know the number only
_by_number: weakref.WeakValueDictionary[int, _Common] = weakref.WeakValueDictionary()
_by_number_lock = threading.Lock()


def _common_of(fileno: int | None) -> _Common:
    """What belongs to the epoll with that number, or to a new one, with one more holder."""
    with _by_number_lock:
        common = None if fileno is None else _by_number.get(fileno)
        if common is None or not common.enter():
            common = _Common(select.epoll() if fileno is None else _adopted(fileno))
            common.enter()
            _by_number[common.fd] = common
        return common


def _after_fork() -> None:
    """In the child: the epolls are the parent's, and the lock may have been held."""
    global _by_number, _by_number_lock
    _by_number = weakref.WeakValueDictionary()
    _by_number_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class SharedPoller:
    """One epoll descriptor for the loops of several OS threads: ``netnet.run(main, poller=shared)`` in each of them.

    An event for a socket of one loop may be taken by another loop's thread, and reaches its owner all the same. A socket
    is in one loop at a time; a second one gets ``BusyError``. *fileno* names the descriptor of an existing epoll: that
    of another ``SharedPoller`` of this process is then used by both; any other is taken over, is closed in the end,
    and must not be used by anybody else (what others have registered there is taken out when it is reported). The
    number means nothing in another process, and in the child of a fork a shared poller cannot be used.

    Close it (or use ``with``) when no loop is to begin with it any more: the descriptor is closed with the last loop.
    It is no faster than a poller for each thread, which is what ``run`` makes by itself, and slower where little is going
    on. It is for programs that need one descriptor which tells that something is to be done.
    Every method may be called in any thread; none waits.

    Raises ``UsageError`` on systems without epoll(7), or where *fileno* is no epoll; ``OSError`` (``EBADF``) where it is
    not open.
    """

    _closed = True  #: until it is made

    def __init__(self, *, fileno: int | None = None) -> None:
        if not hasattr(select, "epoll"):
            raise UsageError(
                "a shared poller needs epoll(7), which this system does not have; use a poller for each loop"
            )
        self._common = _common_of(fileno)
        self._closed = False

    def fileno(self) -> int:
        """The number of the common epoll: readable when a socket of any loop has an event. Raises ``ClosedError``."""
        self._check()
        return self._common.fd

    def member(self) -> Poller:
        """A poller for one more loop, which closes it. Raises ``ClosedError``; ``UsageError`` in the child of a fork."""
        self._check()
        if self._common.forked():
            raise UsageError(
                f"this shared poller belongs to process {self._common.pid}, from which this one was forked; "
                "make one in each process"
            )
        return Member(self._common)

    def close(self) -> None:
        """Lets no further loop begin. The descriptor is closed at once, or when the last loop has ended. Idempotent."""
        if not self._closed:
            self._closed = True
            self._common.leave(self)

    def _check(self) -> None:
        if self._closed:
            raise ClosedError(_CLOSED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def _adopted(fileno: int) -> select.epoll:
    """The epoll with that number, to be closed by us. Nothing has changed where it is none."""
    with select.epoll.fromfd(os.dup(fileno)) as copy, select.epoll() as stranger:
        try:
            copy.unregister(stranger.fileno())
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise UsageError(f"descriptor {fileno} is not an epoll; give the fileno() of one") from None
    os.set_inheritable(fileno, False)
    return select.epoll.fromfd(fileno)


__all__ = ["SharedPoller"]
