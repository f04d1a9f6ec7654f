"""Streams by address: ``connect`` and ``listen``. What a socket is, is in ``sockets``; who races for it, in ``dialing``."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Sequence
from typing import Any, Final

from netnet.errors import UsageError
from netnet.kernel.address import Address, InetAddress, IPv4Address, IPv6Address, UnixAddress, parse_address
from netnet.net.dialing import dial, failed, interleaved
from netnet.net.resolve import Resolved, resolve
from netnet.net.sockets import Socket
from netnet.net.waiting import plain

#: connections that the kernel may hold for us until ``accept``; it takes less where ``net.core.somaxconn`` is lower
BACKLOG: Final = 4096

_TCP: Final = int(socket.IPPROTO_TCP)
_NODELAY: Final = int(socket.TCP_NODELAY)


def connect(
    address: str | tuple[object, ...] | Address,
    *,
    source: str | None = None,
    prepare: Callable[[Socket], object] | None = None,
    dialer: Callable[[Any], Socket] | None = None,
) -> Socket:
    """Connects to *address* and returns the socket, with ``TCP_NODELAY`` set where it is TCP.

    *address* is ``"host:port"``, ``"[ipv6]:port"``, ``"unix:/path"``, or a tuple. The addresses of a name are raced as
    RFC 8305 has it: the next attempt starts when one has failed, or after a quarter of a second; the first that
    succeeds wins. *source* is the local IP address to connect from; *prepare* is called with each new socket before it
    connects, to set options. *dialer*, such as ``netnet.socks.Dialer``, connects instead, to the address as it is.

    Limit the time with ``netnet.timeout``; each attempt gets its share. Switches tasks; outside a loop it blocks. Raises
    ``OSError`` (of the class of the first failure; all are told in the message, and are in its attribute ``failures``),
    ``socket.gaierror`` for an unknown name, ``AddressError``, ``Cancelled``.
    """
    target = parse_address(address)
    if dialer is not None:
        if source is not None or prepare is not None:
            raise UsageError("source and prepare are for connections made here: tell them to the dialer")
        return dialer(target)
    if isinstance(target, UnixAddress):
        return _connect_unix(target, prepare)
    try:
        candidates = _exact(target) or resolve(target.host or "localhost", target.port)
    except socket.gaierror as error:
        raise _named(error, f"connect to {target}") from None
    return connect_any(candidates, target=target, source=source, prepare=prepare)[0]


def connect_any(
    candidates: Sequence[Resolved],
    *,
    target: object = None,
    source: str | None = None,
    prepare: Callable[[Socket], object] | None = None,
) -> tuple[Socket, Any]:
    """As ``connect``, to a target whose addresses are known already; *target* is what errors call it.

    Returns the socket, and its own address as ``getsockname`` tells it, which had to be asked anyway.
    """
    if len(candidates) == 1:  # nobody to race with
        try:
            return _connect_one(candidates[0], source, prepare)
        except OSError as error:
            raise failed(target, [(candidates[0], error)]) from None
    candidates = interleaved(candidates)
    sock = dial(candidates, lambda candidate: _connect_one(candidate, source, prepare)[0], target=target)
    return sock, sock.getsockname()


def _exact(target: InetAddress) -> list[Resolved]:
    """What needs no look: an IP address, with its flow and scope. Nothing for a name."""
    return [Resolved(target.family, target.sockaddr)] if isinstance(target, (IPv4Address, IPv6Address)) else []


class _SettingUp:
    """Closes a new socket when the lines that set it up fail."""

    __slots__ = ("sock",)

    def __init__(self, family: int) -> None:
        self.sock = Socket(family, socket.SOCK_STREAM)

    def __enter__(self) -> Socket:
        return self.sock

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.sock.close()


def _connect_one(
    candidate: Resolved, source: str | None, prepare: Callable[[Socket], object] | None
) -> tuple[Socket, Any]:
    sock = Socket(candidate.family, socket.SOCK_STREAM)
    try:
        if prepare is not None:
            prepare(sock)
        if source is not None:
            sock.bind((source, 0))
        sock.connect(candidate.sockaddr)
        own = sock.getsockname()
        if own[1] == candidate.sockaddr[1] and own == sock.getpeername():
            raise ConnectionRefusedError(errno.ECONNREFUSED, "the connection met itself: nobody listens there")
        plain.setsockopt(sock, _TCP, _NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock, own


def _connect_unix(target: UnixAddress, prepare: Callable[[Socket], object] | None) -> Socket:
    try:
        with _SettingUp(socket.AF_UNIX) as sock:
            if prepare is not None:
                prepare(sock)
            sock.connect(target)
    except OSError as error:
        raise failed(target, [(None, error)]) from None
    return sock


def _named(error: OSError, what: str) -> OSError:
    """The same error, with what was being done to which address in front of its message."""
    kind = socket.gaierror if isinstance(error, socket.gaierror) else OSError  # of OSError, the number picks the class
    return kind(error.errno, f"{what}: {error.strerror or error}")


def listen(address: str | tuple[object, ...] | Address, *, backlog: int = BACKLOG, reuse_port: bool = False) -> Socket:
    """Listens on *address* and returns the socket, with ``SO_REUSEADDR`` set, and ``TCP_NODELAY`` for what it accepts.

    ``":80"`` is every interface, IPv6 and IPv4 on one socket where the system can; port 0 is one of the kernel's
    choice (``getsockname`` tells). A UNIX socket's file that nobody listens on any more is replaced. *backlog* is how
    many connections may wait for ``accept``. *reuse_port* sets ``SO_REUSEPORT``. Does not switch tasks, except for a
    name. Raises ``OSError`` with the address in its message, ``AddressError``.
    """
    target = parse_address(address)
    try:
        if isinstance(target, UnixAddress):
            return _listen_unix(target, backlog)
        if not target.host and socket.has_dualstack_ipv6():
            return _listen_one(Resolved(socket.AF_INET6, ("::", target.port, 0, 0)), backlog, reuse_port, dual=True)
        candidate = (_exact(target) or resolve(target.host, target.port, passive=True))[0]
        return _listen_one(candidate, backlog, reuse_port, dual=False)
    except OSError as error:
        raise _named(error, f"listen on {target}") from None


def _listen_one(candidate: Resolved, backlog: int, reuse_port: bool, *, dual: bool) -> Socket:
    with _SettingUp(candidate.family) as sock:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if candidate.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the connections that it accepts inherit it
        sock.bind(candidate.sockaddr)
        sock.listen(backlog)
    return sock


def _listen_unix(target: UnixAddress, backlog: int) -> Socket:
    with _SettingUp(socket.AF_UNIX) as sock:
        try:
            sock.bind(target)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_stale(target.path):
                raise
            os.unlink(target.path)
            sock.bind(target)
        sock.listen(backlog)
    return sock


def _is_stale(path: str) -> bool:
    """Whether *path* is a socket that nobody listens on."""
    if path.startswith("\0") or not stat.S_ISSOCK(os.stat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == errno.ECONNREFUSED and not _is_bound(path)


def _is_bound(path: str) -> bool:
    """Whether a socket that does not listen (yet) has the path; Linux tells, see proc(5), ``/proc/net/unix``."""
    try:
        with open("/proc/net/unix", "rb") as table:
            return any(line.rstrip(b"\n").split(None, 7)[7:] == [os.fsencode(path)] for line in table)
    except OSError:
        return False


__all__ = ["BACKLOG", "connect", "connect_any", "listen"]
