"""A socket toward the targets of an association, and what both kinds of its sockets have in common: being woken, and what
is dropped.

Not here: who the client is and which targets there are (``udp_front``), and when it all ends (``associate``).
Of an unconnected socket the kernel reports no ICMP errors, so a target that cannot be reached harms no other (ip(7)).
"""

from __future__ import annotations

import errno
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from netnet.net.sockets import Socket, landing_buffer
from netnet.net.waiting import plain
from netnet.poller.contract import READABLE
from netnet.runtime.task import log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netnet.net.throttle import Throttle
    from netnet.socks.associate import Association

#: datagrams that one socket may bring before the others have their turn: some 5 µs each
TURN_DATAGRAMS: Final = 64

#: room in front of what comes from a target, for the header of the longest address (RFC 1928 section 7)
_HEADER_ROOM: Final = 22

_recvfrom_into = plain.recvfrom_into
_sendto = plain.sendto


class Drop(StrEnum):
    """Why a datagram was dropped. These words stand in the metrics."""

    FOREIGN = "not the client"  #: from another address, or port, than the client's
    MALFORMED = "malformed"
    FRAGMENT = "fragment"
    DENIED = "denied"  #: by a rule
    UPSTREAM = "upstream"  #: the rules have it go through an upstream, which takes no datagrams
    UNRESOLVED = "unresolved"  #: the name has no address, or nobody could tell
    LOOKUPS = "look-ups"  #: too many names at once, or too many datagrams for one of them
    UNREACHABLE = "unreachable"
    TOO_BIG = "too big"  #: for UDP, with the header that is put in front
    NO_ROOM = "no room"  #: in the kernel's buffers
    UNASKED = "unasked"  #: from where the client has not sent to lately
    THROTTLED = "throttled"


_DROP_OF_ERRNO: Final = {
    errno.EMSGSIZE: Drop.TOO_BIG,
    errno.EAGAIN: Drop.NO_ROOM,
    errno.ENOBUFS: Drop.NO_ROOM,
    errno.ENOMEM: Drop.NO_ROOM,
}

#: errors of receiving that say something about a datagram sent before, or of the moment; the socket is all right
_PASSING: Final = {
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.EHOSTDOWN,
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.EMSGSIZE,
    errno.ENOPROTOOPT,
    errno.EPROTO,
    errno.EACCES,
    errno.EPERM,
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.ETIMEDOUT,
    errno.EINTR,
}


def drop_of(error: OSError) -> Drop:
    """What an error of sending means."""
    return _DROP_OF_ERRNO.get(error.errno or 0, Drop.UNREACHABLE)


def check_passing(error: OSError) -> None:
    """Raises *error* again, unless receiving may go on after it."""
    if error.errno not in _PASSING:
        raise error


def granted(throttles: Sequence[Throttle], size: int, now: float) -> bool:
    """Whether a datagram of *size* bytes may go: each of *throttles* grants all of it, or none of it is taken.

    So one that is larger than what a bucket holds never goes. Buckets hold 16 KiB or more (``throttle``), and a network
    carries datagrams of more than 1.5 kB in pieces only.
    """
    for index, throttle in enumerate(throttles):
        if not _granted_whole(throttle, size, now):
            for earlier in throttles[:index]:
                earlier.give_back(size)
            return False
    return True


def _granted_whole(throttle: Throttle, size: int, now: float) -> bool:
    taken = 0
    while taken < size:
        grant = throttle.grant(size - taken, now)
        if not grant:
            if taken:
                throttle.give_back(taken)
            return False
        taken += grant
    return True


class Target:
    """Where the client sends to, as it says it. Of a name: with the address that was found for it."""

    __slots__ = ("address", "header", "key", "last", "outlet", "refusal", "waiting", "waiting_bytes")

    def __init__(self, key: bytes, now: float) -> None:
        self.key = key  #: the header that the client puts in front of what it sends there
        self.last = now  #: when it was sent to last
        self.outlet: Outlet | None = None
        self.address: tuple[Any, ...] | None = None
        self.header = b""  #: what is put in front of what comes from there
        self.refusal: Drop | None = None
        self.waiting: list[bytes] | None = None  #: while its name is looked up: what is to be sent then
        self.waiting_bytes = 0


class Receiver:
    """Waits for one socket's datagrams."""

    __slots__ = ("association", "open", "sock")

    def __init__(self, association: Association, sock: Socket) -> None:
        self.association = association
        self.sock = sock
        self.open = True

    def start(self) -> None:
        self.sock._descriptor.attach(self.association.loop)
        self.sock._descriptor.watch(READABLE, self)

    def switch(self) -> None:
        """Woken by the loop: takes what there is."""
        if not self.open:
            return
        association = self.association
        try:
            dry = self._take_some()
        except OSError as error:
            association.fail(error)
        except Exception:  # a bug of ours, or no memory: this association ends, the loop does not
            log.exception("an association failed")
            association.abort("internal error")
        else:
            if association.ended:
                return
            if dry:
                self.sock._descriptor.watch(READABLE, self)
            else:
                association.loop.ready.append(self)

    def _take_some(self) -> bool:
        """Takes a turn's worth of datagrams; whether there was none left."""
        raise NotImplementedError

    def close(self) -> None:
        if self.open:
            self.open = False
            self.sock._descriptor.reader = None
            self.sock.close()


class Outlet(Receiver):
    """A socket toward the targets: of one family, by one route."""

    __slots__ = ("remotes",)

    def __init__(self, association: Association, sock: Socket) -> None:
        super().__init__(association, sock)
        #: by address: the target that was sent to last there. (A name and an address may mean the same.)
        self.remotes: dict[tuple[Any, ...], Target] = {}

    def send(self, target: Target, data: bytes | memoryview) -> Drop | None:
        """Sends *data* to *target*; what went wrong, if anything."""
        assert target.address is not None
        try:
            _sendto(self.sock, data, target.address)
        except OSError as error:
            return drop_of(error)
        return None

    def _take_some(self) -> bool:
        association = self.association
        now = association.loop.turned
        horizon = now - association.limits.udp_idle_seconds
        view = memoryview(landing_buffer())
        room = view[_HEADER_ROOM:]
        sock, remotes = self.sock, self.remotes
        for _ in range(TURN_DATAGRAMS):
            try:
                size, source = _recvfrom_into(sock, room)
            except BlockingIOError:
                return True
            except OSError as error:
                check_passing(error)
                continue
            target = remotes.get(source)
            if target is None or target.last < horizon:
                association.drop(Drop.UNASKED)
                continue
            start = _HEADER_ROOM - len(target.header)
            view[start:_HEADER_ROOM] = target.header
            association.answer(view[start : _HEADER_ROOM + size], size, now)
        return False
