"""Local ends: the address that a client reached, a free port out of a range, and by which way sockets go out.

BIND and datagrams need sockets of their own beside the client's connection. Which address they have is decided here;
what is done with them is in ``bind`` and ``associate``. Addresses of IPv4 that stand in IPv6 form (``::ffff:192.0.2.1``,
as a listener for both has them) count as IPv4 (RFC 4291 section 2.5.5.2).
"""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from netnet.net.sockets import Socket
from netnet.net.waiting import UNIX, family_of, plain

if TYPE_CHECKING:
    from netnet.socks.rules import Route

T = TypeVar("T")

#: so many ports of a range are tried. One costs some 2 µs, in which nobody else runs
PORTS_TRIED_MAX: Final = 1024

_MAPPED: Final = "::ffff:"
_BIND_TO_DEVICE: Final = getattr(socket, "SO_BINDTODEVICE", None)
_MARK: Final = getattr(socket, "SO_MARK", None)


class End(NamedTuple):
    """One address without a port: the family, its text, and what stands behind the port in the family's tuples."""

    family: int
    host: str
    rest: tuple[int, ...] = ()

    def sockaddr(self, port: int) -> tuple[Any, ...]:
        """The address with *port*, as the family's sockets take it."""
        return (self.host, port, *self.rest)

    @property
    def told(self) -> str:
        """The address for others: a scope means nothing to them."""
        return self.host.partition("%")[0]


#: who came by a UNIX socket is on this machine
LOOPBACK: Final = End(socket.AF_INET, "127.0.0.1")


def end_of(family: int, sockaddr: Any) -> End:
    """The end that a socket of *family* tells as *sockaddr*."""
    if family == UNIX:
        return LOOPBACK
    host = sockaddr[0]
    if host.startswith(_MAPPED) and "." in host:
        return End(socket.AF_INET, host.removeprefix(_MAPPED))
    return End(family, host, tuple(sockaddr[2:]))


def own_end(sock: Socket) -> End:
    """The address of *sock* on this machine; of a UNIX socket the loopback's. Raises ``OSError``."""
    return end_of(family_of(sock), sock.getsockname())


def peer_end(sock: Socket) -> End:
    """The address of the peer of *sock*; of a UNIX socket the loopback's. Raises ``OSError``."""
    return end_of(family_of(sock), sock.getpeername())


def end_toward(packed: bytes, route: Route | None) -> End:
    """The address of this machine from which packets to *packed* go out, by *route*. Sends nothing.

    Raises ``OSError`` where there is no way there. See connect(2): of a datagram socket it only picks the way.
    """
    with open_toward(family_of_packed(packed), socket.SOCK_DGRAM, route) as probe:
        host = socket.inet_ntop(family_of_packed(packed), packed)
        plain.connect(probe, (host, _ANY_PORT))
        return own_end(probe)


#: a port for a question that needs one; discard (RFC 863)
_ANY_PORT: Final = 9


def family_of_packed(packed: bytes) -> int:
    """The family of an address of 4 or 16 bytes."""
    return socket.AF_INET if len(packed) == 4 else socket.AF_INET6


def open_by(family: int, kind: int, route: Route | None) -> Socket:
    """A socket whose packets go by the interface of *route*, with its mark; not bound to an address yet.

    Raises ``OSError``: ``EPERM`` where this process may not choose these (socket(7)), ``ENODEV`` for an interface that is
    not there. Does not switch tasks.
    """
    sock = Socket(family, kind)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if route is not None:
            go_by(sock, route)
    except BaseException:
        sock.close()
        raise
    return sock


def open_toward(family: int, kind: int, route: Route | None) -> Socket:
    """The same, to send or connect from the source address of *route*, if it has one.

    Raises ``OSError``; besides, ``EADDRNOTAVAIL`` for a source that this machine does not have, ``EAFNOSUPPORT`` for one
    of the other family.
    """
    sock = open_by(family, kind, route)
    try:
        if route is not None and route.source is not None:
            if (":" in route.source) != (family == socket.AF_INET6):
                raise OSError(errno.EAFNOSUPPORT, f"the source address {route.source} is of another family")
            plain.bind(sock, (route.source, 0))
    except BaseException:
        sock.close()
        raise
    return sock


def go_by(sock: Socket, route: Route) -> None:
    """Has what *sock* sends go by the interface of *route*, with its mark. Raises ``OSError`` as ``open_by`` does."""
    if route.interface is not None:
        _set(sock, _BIND_TO_DEVICE, f"the interface {route.interface}", route.interface.encode() + b"\0")
    if route.mark is not None:
        _set(sock, _MARK, f"the mark {route.mark}", route.mark)


def _set(sock: Socket, option: int | None, what: str, value: Any) -> None:
    if option is None:
        raise OSError(errno.ENOPROTOOPT, f"this system cannot send by {what}")
    sock.setsockopt(socket.SOL_SOCKET, option, value)


def at_a_port(end: End, ports: tuple[int, int] | None, attempt: Callable[[tuple[Any, ...]], T]) -> T:
    """``attempt(sockaddr)`` with the ports of the range *ports* (both ends included), until one is not in use.

    It begins anywhere in the range, so that ports are not told in advance. Without a range the kernel chooses. Raises
    ``OSError`` (``EADDRINUSE``) when all are taken, or as many as are tried; what *attempt* raises else.
    """
    if ports is None:
        return attempt(end.sockaddr(0))
    low, high = ports
    count = high - low + 1
    start = random.randrange(count)
    tried = min(count, PORTS_TRIED_MAX)
    for step in range(tried):
        try:
            return attempt(end.sockaddr(low + (start + step) % count))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, f"no port from {low} to {high} is free on {end.host}; {tried} were tried")
