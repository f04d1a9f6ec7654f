"""Names to addresses, and back. What is an IP address already is taken as it is; names go to the current resolver.

Which that is, the system's, a table or a DNS client of our own, is in ``resolvers``. Here is what netnet's own calls ask
it, and what they make of the answers.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any, NamedTuple, ParamSpec, TypeVar

from netnet.kernel.address import INET, InetAddress, IPv4Address, IPv6Address, SocketAddress, from_sockaddr, to_sockaddr
from netnet.kernel.flags import AI, NI
from netnet.net.hosts import Entry, Host, Service, Sockaddr
from netnet.net.resolvers import Resolver, SystemResolver, current_resolver, without_threads
from netnet.runtime.worker import worker_or_none

P = ParamSpec("P")
T = TypeVar("T")


class Resolved(NamedTuple):
    """One address that can be connected to: the family, and the address in the form that the family's sockets take."""

    family: int
    sockaddr: tuple[str, int] | tuple[str, int, int, int]

    @property
    def packed(self) -> bytes:
        """The bytes of the address, 4 or 16, without its scope."""
        return socket.inet_pton(self.family, self.sockaddr[0].partition("%")[0])


def elsewhere(look: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Makes a look-up, which may switch tasks and may turn out to know the answer already: so it asks first.

    Raises ``Cancelled``, what *look* raises.
    """
    worker = worker_or_none()
    if worker is not None:
        worker.loop.checkpoint(worker)
    return look(*args, **kwargs)


def numeric(host: str, port: int) -> Resolved | None:
    """*host* when it is an IP address; ``None`` for a name, and for what needs a look (a scoped IPv6 address)."""
    try:
        socket.inet_pton(socket.AF_INET, host)
    except OSError:
        pass
    else:
        return Resolved(socket.AF_INET, (host, port))
    if ":" in host and "%" not in host:
        try:
            socket.inet_pton(socket.AF_INET6, host)
        except OSError:
            return None
        return Resolved(socket.AF_INET6, (host, port, 0, 0))
    return None


def is_numeric(host: Any, service: Any) -> bool:
    """Whether looking these up is no more than reading them: an IP address or nothing, and a number or nothing."""
    if not (service is None or isinstance(service, int) or (isinstance(service, str) and service.isdecimal())):
        return False
    return host is None or (isinstance(host, str) and "\0" not in host and numeric(host, 0) is not None)


def resolve(
    host: str, port: int, *, family: int = 0, type: int = socket.SOCK_STREAM, passive: bool = False
) -> list[Resolved]:
    """Every address of *host*, in the order in which the system would have them tried (RFC 6724).

    *family* restricts it to one (``AF_INET``, ``AF_INET6``). *passive*: for listening; an empty host is every
    interface. Switches tasks for a name; outside a loop it blocks. Raises ``socket.gaierror`` when there is none,
    ``UnicodeError`` for what cannot be a name, ``Cancelled``. See getaddrinfo(3).
    """
    known = numeric(host, port)
    if known is not None and family in (0, known.family):
        return [known]
    flags = socket.AI_PASSIVE if passive else 0
    found = elsewhere(current_resolver().getaddrinfo, host or None, port, family, type, 0, flags)
    return [Resolved(entry[0], entry[4]) for entry in found]  # type: ignore[arg-type]


def located(address: Any, family: int) -> Any:
    """*address*, typed or as the ``socket`` module has it, as that takes it, with an IP address in place of a name.

    The C class would look a name up without letting others run. Switches tasks for a name.
    """
    if type(address) is not tuple:
        address = to_sockaddr(address)
    if family not in INET or not isinstance(address, tuple) or len(address) < 2:
        return address
    host, port = address[:2]
    if not isinstance(host, str) or not host or not isinstance(port, int) or ":" in host:
        return address
    if (host[0].isdecimal() and host[-1].isdecimal()) or host == "<broadcast>":
        return address
    return (resolve(host, 0, family=family)[0].sockaddr[0], *address[1:])


class AddressInfo(NamedTuple):
    """One result of ``lookup``: the arguments for a socket, where to connect or bind it to, and the canonical name.

    The canonical name stands in the first result, if it was asked for by the flag ``canonname``.
    """

    family: int
    type: int
    protocol: int
    canonical_name: str
    address: SocketAddress


def lookup(
    host: str | None,
    service: str | int | None = None,
    *,
    family: int = 0,
    type: int = 0,
    protocol: int = 0,
    flags: int | str | Iterable[str] = 0,
) -> list[AddressInfo]:
    """All that the resolver tells of a host and a service: every result, for every family, type and protocol.

    *host* is a name, an IP address, or ``None``: this machine (every interface with flag ``passive``). *service* is a
    port number or a name, as in ``"https"``. *family*, *type*, *protocol* restrict the results. *flags* are numbers or
    names of the ``AI_`` flags: ``"canonname"``, ``("passive", "numerichost")``. Switches tasks; outside a loop it
    blocks. Raises ``socket.gaierror``, ``OptionError`` for an unknown flag, ``TypeError`` or ``ValueError`` for what
    can be no service, ``UnicodeError``, ``Cancelled``.
    """
    if isinstance(service, bool) or not isinstance(service, (str, int, NoneType)):
        raise TypeError(f"a service is a name, a port number or None, not {service!r}")
    if isinstance(service, int) and not 0 <= service <= 65535:
        raise ValueError(f"a port must be from 0 to 65535, not {service}")
    arguments = (host, service, family, type, protocol, AI.of(flags))
    return [
        AddressInfo(int(found), int(kind), number, name, from_sockaddr(found, sockaddr))
        for found, kind, number, name, sockaddr in getaddrinfo(*arguments)
    ]


class NameInfo(NamedTuple):
    """A host and a service by name, or by number where there is no name."""

    host: str
    service: str


def reverse(
    address: InetAddress | tuple[Any, ...] | ipaddress.IPv4Address | ipaddress.IPv6Address | str,
    flags: int | str | Iterable[str] = 0,
) -> NameInfo:
    """The names of a host and a service, by address: typed, a tuple, or an IP address alone.

    *flags* are numbers or names of the ``NI_`` flags: ``"namereqd"`` (no name is an error), ``"numerichost"``,
    ``"numericserv"``, ``"nofqdn"``, ``"dgram"``. Switches tasks; outside a loop it blocks. Raises ``socket.gaierror``,
    ``OptionError`` for an unknown flag, ``AddressError``, ``Cancelled``. See getnameinfo(3).
    """
    if isinstance(address, (str, ipaddress.IPv4Address, ipaddress.IPv6Address)):
        address = (IPv6Address if ":" in str(address) else IPv4Address)(str(address), 0)
    sockaddr = to_sockaddr(address)
    if not isinstance(sockaddr, tuple):
        raise TypeError(
            f"{address!r} has no host and service to be named: a typed address, a tuple or an IP address has"
        )
    return NameInfo(*getnameinfo(sockaddr, NI.of(flags)))


def service_port(name: str, protocol: str = "tcp") -> int:
    """The port of a service, ``"https"``, of ``"tcp"`` or ``"udp"``. Switches tasks.

    Raises ``socket.gaierror`` for an unknown one, ``ValueError`` for another protocol. See services(5).
    """
    found = lookup(None, name or "?", type=_type(protocol))
    return int(found[0].address.sockaddr[1])


def service_name(port: int, protocol: str = "tcp") -> str:
    """The name of a port's service; the number where it has none. Switches tasks.

    Raises ``ValueError`` for a protocol that is neither ``"tcp"`` nor ``"udp"``, ``AddressError`` for no port number.
    See services(5).
    """
    flags = ("numerichost", "dgram") if _type(protocol) == socket.SOCK_DGRAM else ("numerichost",)
    return reverse(IPv4Address(0, port), flags).service


def _type(protocol: str) -> socket.SocketKind:
    try:
        return _TYPES[protocol.lower()]
    except KeyError:
        raise ValueError(f"services are known of tcp and udp, not of {protocol!r}") from None


_TYPES = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


# -- in the shape of the standard library


def getaddrinfo(
    host: Host, port: Service, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
) -> list[Entry]:
    """``socket.getaddrinfo`` with the current resolver. Switches tasks, but not for an IP address and a number."""
    if is_numeric(host, port):
        return list(socket.getaddrinfo(host, port, family, type, proto, flags))
    return elsewhere(current_resolver().getaddrinfo, host, port, family, type, proto, flags)


def getnameinfo(sockaddr: Sockaddr, flags: int, /) -> tuple[str, str]:
    """``socket.getnameinfo`` with the current resolver. Switches tasks, but not where both shall be numbers."""
    if flags & _NUMERIC == _NUMERIC:
        return socket.getnameinfo(sockaddr, flags)
    return elsewhere(current_resolver().getnameinfo, sockaddr, flags)


def gethostbyname(hostname: str | bytes, /) -> str:
    """``socket.gethostbyname`` with the current resolver: one IPv4 address. Switches tasks for a name."""
    if _needs_no_look(hostname):
        return socket.gethostbyname(hostname)  # type: ignore[arg-type]
    return _legacy(socket.gethostbyname, hostname, lambda by: _hosts(by, hostname)[2][0])


def gethostbyname_ex(hostname: str | bytes, /) -> tuple[str, list[str], list[str]]:
    """``socket.gethostbyname_ex`` with the current resolver: the official name, others, and every IPv4 address.

    Other names are told by the system alone. Switches tasks.
    """
    return _legacy(socket.gethostbyname_ex, hostname, lambda by: _hosts(by, hostname))


def gethostbyaddr(ip_address: str | bytes, /) -> tuple[str, list[str], list[str]]:
    """``socket.gethostbyaddr`` with the current resolver: the official name of an address, others, and the address.

    Other names are told by the system alone. Switches tasks. Raises ``socket.herror`` for an address without a name,
    ``socket.gaierror`` for a name without an address.
    """
    return _legacy(socket.gethostbyaddr, ip_address, lambda by: _named(by, ip_address))


def _needs_no_look(host: Any) -> bool:
    """What ``gethostbyname`` reads by itself: an IPv4 address, and its two words for every interface and every host."""
    return host in ("", "<broadcast>") or (isinstance(host, str) and ":" not in host and is_numeric(host, None))


def _legacy(look: Callable[[str], T], host: str | bytes, generic: Callable[[Resolver], T]) -> T:
    """The system's own *look* where the system is the resolver, else what *generic* makes of the resolver's answers."""
    resolver = current_resolver()
    if isinstance(resolver, SystemResolver):
        return elsewhere(resolver.call, look, (host,), lambda: generic(without_threads()))
    return elsewhere(generic, resolver)


def _hosts(resolver: Resolver, host: str | bytes) -> tuple[str, list[str], list[str]]:
    found = resolver.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM, 0, socket.AI_CANONNAME)
    return found[0][3], [], list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _named(resolver: Resolver, host: str | bytes) -> tuple[str, list[str], list[str]]:
    sockaddr = resolver.getaddrinfo(host, None, 0, socket.SOCK_STREAM)[0][4]
    try:
        name, _ = resolver.getnameinfo(sockaddr, socket.NI_NAMEREQD | socket.NI_NUMERICSERV)
    except socket.gaierror as error:
        # the numbers of h_errno, netdb.h
        code, why = (2, "no name server answered") if error.errno == socket.EAI_AGAIN else (1, "it has no name")
        raise socket.herror(code, f"{sockaddr[0]!r}: {why}") from None
    return name, [], [str(sockaddr[0])]
