"""What this machine has of the socket options: asks each on a fresh socket of the kind that it is for.

Connections are made to a listener on loopback, whose backlog takes them at once: nothing here waits.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from netnet.kernel.control import PidFd
from netnet.kernel.option import Kind, Option, why

_STREAM, _DATAGRAM, _RAW = socket.SOCK_STREAM, socket.SOCK_DGRAM, getattr(socket, "SOCK_RAW", 3)
_UNIX = getattr(socket, "AF_UNIX", -1)
_ICMP6 = getattr(socket, "IPPROTO_ICMPV6", 58)

#: the groups of options, in the order in which they are told
GROUPS = ("SOCKET", "TCP", "IP", "IPV6", "UDP", "PACKET", "NETLINK")

#: kind → the arguments of the socket that is asked
_PLAIN: Mapping[Kind, tuple[int, int, int]] = {
    Kind.ANY: (socket.AF_INET, _STREAM, 0),
    Kind.INET: (socket.AF_INET, _STREAM, 0),
    Kind.TCP: (socket.AF_INET, _STREAM, 0),
    Kind.UDP: (socket.AF_INET, _DATAGRAM, 0),
    Kind.IPV4: (socket.AF_INET, _STREAM, 0),
    Kind.IPV4_DATAGRAM: (socket.AF_INET, _DATAGRAM, 0),
    Kind.IPV4_RAW: (socket.AF_INET, _RAW, socket.IPPROTO_ICMP),
    Kind.IPV6: (socket.AF_INET6, _STREAM, 0),
    Kind.IPV6_DATAGRAM: (socket.AF_INET6, _DATAGRAM, 0),
    Kind.IPV6_RAW: (socket.AF_INET6, _RAW, _ICMP6),
    Kind.UNIX: (_UNIX, _STREAM, 0),
    Kind.PACKET: (getattr(socket, "AF_PACKET", -1), _RAW, 0),
    Kind.NETLINK: (getattr(socket, "AF_NETLINK", -1), _RAW, 0),
}

#: kind → the family and the host of a connection over loopback
_CONNECTED: Mapping[Kind, tuple[int, str]] = {
    Kind.TCP_CONNECTED: (socket.AF_INET, "127.0.0.1"),
    Kind.IPV4_CONNECTED: (socket.AF_INET, "127.0.0.1"),
    Kind.IPV6_CONNECTED: (socket.AF_INET6, "::1"),
}

#: the kinds that few may make, and what it takes
_PRIVILEGED = {Kind.IPV4_RAW, Kind.IPV6_RAW, Kind.PACKET}


@contextlib.contextmanager
def sample(kind: Kind) -> Iterator[socket.socket]:
    """A socket of that kind, of the standard class, closed at the end. Raises ``OSError`` where there can be none."""
    with contextlib.ExitStack() as stack:
        if kind is Kind.UNIX_CONNECTED:
            one, other = socket.socketpair(_UNIX)
            stack.enter_context(other)
        elif kind in _CONNECTED:
            family, host = _CONNECTED[kind]
            listener = stack.enter_context(socket.socket(family, _STREAM))
            listener.bind((host, 0))
            listener.listen(1)
            one = stack.enter_context(socket.socket(family, _STREAM))
            one.connect(listener.getsockname())
            one = listener.accept()[0]
        else:
            one = socket.socket(*_PLAIN[kind])
        yield stack.enter_context(one)


@dataclass(frozen=True, slots=True)
class Probe:
    """What asking for an option gave: its default on this machine, or the reason why there is none."""

    option: Option[Any]
    supported: bool
    default: Any = None
    reason: str = ""


def probe(option: Option[Any]) -> Probe:
    """Asks for one option. Of an option that can only be set, there is no default to tell."""
    if option.number is None or option.level_number is None:
        return Probe(option, False, reason=f"not on this system; it is there on: {option.kernels}")
    try:
        with sample(option.on) as sock:
            if not option.readable:
                return _probe_set_only(option, sock)
            value = option.get(sock)
            if isinstance(value, PidFd):
                value.close()
            return Probe(option, True, value)
    except OSError as error:
        if option.on in _PRIVILEGED and error.errno == errno.EPERM:
            return Probe(option, False, reason="a socket of this kind needs a privilege (CAP_NET_RAW)")
        return Probe(option, False, reason=why(error.errno or 0))


def _probe_set_only(option: Option[Any], sock: socket.socket) -> Probe:
    """Tells an option that the kernel does not know from one that it knows: by setting -1, on a socket that is thrown
    away."""
    try:
        sock.setsockopt(option.level_number or 0, option.number or 0, b"\xff\xff\xff\xff")
    except OSError as error:
        if error.errno == errno.ENOPROTOOPT:
            return Probe(option, False, reason=why(errno.ENOPROTOOPT))
    return Probe(option, True, reason="can only be set")


def probe_all(table: Mapping[str, Option[Any]], wanted: Callable[[Option[Any]], bool]) -> list[Probe]:
    """Asks for every option of *table* that is *wanted*, in order of level and name."""
    rows = sorted(table.values(), key=lambda option: (GROUPS.index(option.group), option.name))
    return [probe(option) for option in rows if wanted(option)]
