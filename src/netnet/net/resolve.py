"""Names to addresses, and back. What is an IP address already is taken as it is; names are looked up in an OS thread."""

from __future__ import annotations

import functools
import ipaddress
import socket
from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any, NamedTuple, ParamSpec, TypeVar

from netnet.kernel.address import INET, InetAddress, IPv4Address, IPv6Address, SocketAddress, from_sockaddr, to_sockaddr
from netnet.kernel.flags import AI, NI
from netnet.runtime.threads import to_thread
from netnet.runtime.worker import worker_or_none

P = ParamSpec("P")
T = TypeVar("T")


class Resolved(NamedTuple):
    """One address that can be connected to: the family, and the address in the form that the family's sockets take."""

    family: int
    sockaddr: tuple[str, int] | tuple[str, int, int, int]


def elsewhere(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls what may block: in a loop in an OS thread, so that other tasks run on, else here."""
    call = functools.partial(function, *args, **kwargs)
    return call() if worker_or_none() is None else to_thread(call)


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
    found = elsewhere(socket.getaddrinfo, host or None, port, family, type, 0, flags)
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
    """All that getaddrinfo(3) tells of a host and a service: every result, for every family, type and protocol.

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
    look = socket.getaddrinfo(*arguments) if is_numeric(host, service) else elsewhere(socket.getaddrinfo, *arguments)
    return [
        AddressInfo(int(found), int(kind), number, name, from_sockaddr(found, sockaddr))
        for found, kind, number, name, sockaddr in look
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
    number = NI.of(flags)
    if number & _NUMERIC == _NUMERIC:
        return NameInfo(*socket.getnameinfo(sockaddr, number))
    return NameInfo(*elsewhere(socket.getnameinfo, sockaddr, number))


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
