"""Addresses as people write them and as the kernel takes them. Parses and prints; looks no name up.

Forms: ``"host:port"`` (a name, an IPv4 address, or nothing for every interface), ``"[IPv6]:port"``,
``"[IPv6%interface]:port"``, ``"unix:/path"``, ``"unix:@abstract"``, and the tuples of the standard library,
``(host, port)`` and ``(host, port, flow, scope)``; an IPv4 address may be an integer there. Every class is frozen,
hashable, prints as it is parsed, and has ``family`` and ``sockaddr``, what the ``socket`` module takes.
See ip(7), ipv6(7), unix(7), packet(7), netlink(7).
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from dataclasses import dataclass
from typing import Any, ClassVar

from netnet.errors import AddressError

#: bytes that a UNIX path may have; the kernel keeps one more for the end
UNIX_PATH_MAX = 107 if sys.platform == "linux" else 103

_FORMS = 'known forms: "host:port", "[ipv6]:port", ":port", "unix:/path", "unix:@name", (host, port)'


#: a host as it may be told
_Host = str | int | ipaddress.IPv4Address | ipaddress.IPv6Address


class InetAddress:
    """A host and a TCP or UDP port.

    Making one gives an ``IPv4Address``, an ``IPv6Address`` or, of a name, a ``HostAddress``, whichever *host* is.
    """

    __slots__ = ()
    host: str
    port: int

    def __new__(cls, host: _Host, port: int, *rest: object, **more: object) -> InetAddress:
        if cls is not InetAddress:
            return super().__new__(cls)
        return super().__new__(_kind_of(host))

    def __init__(self, host: _Host, port: int) -> None:
        """Of the kind that *host* is."""

    def __getnewargs__(self) -> tuple[str, int]:
        return (self.host, self.port)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def _set(self, host: str, port: int) -> None:
        """Fills a new one in. Raises ``AddressError`` for a number that is no port."""
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
            raise AddressError(f"{(host, port)!r}: the port must be a number from 0 to 65535")
        object.__setattr__(self, "host", host)
        object.__setattr__(self, "port", port)


@dataclass(frozen=True, slots=True, init=False)
class HostAddress(InetAddress):
    """A host by name (``""``: every interface) and a port. It has to be looked up before it can be connected to."""

    host: str
    port: int

    def __init__(self, host: str, port: int) -> None:
        if not isinstance(host, str) or "\0" in host:
            raise AddressError(f"{(host, port)!r}: a host name is a string without NUL characters")
        if _kind_of(host) is not HostAddress:
            raise AddressError(f"{host!r} is an IP address and no name; InetAddress makes one of the right kind")
        self._set(host, port)


@dataclass(frozen=True, slots=True, init=False)
class IPv4Address(InetAddress):
    """An IPv4 address and a port. *host* may be given as text, as an integer (host order), or as of ``ipaddress``."""

    host: str
    port: int
    family: ClassVar[int] = int(socket.AF_INET)

    def __init__(self, host: _Host, port: int) -> None:
        try:
            packed = socket.inet_pton(socket.AF_INET, host) if isinstance(host, str) else _packed(host, 4)
        except (OSError, ValueError):
            raise AddressError(f"{host!r} is no IPv4 address") from None
        # as text it has one form only, so it stands as it was told
        self._set(host if isinstance(host, str) else socket.inet_ntop(socket.AF_INET, packed), port)

    @property
    def ip(self) -> ipaddress.IPv4Address:
        """The address alone, with all that ``ipaddress`` knows of it; ``int`` of it is the integer."""
        return ipaddress.IPv4Address(self.packed)

    @property
    def packed(self) -> bytes:
        """The four bytes of the address, in network order."""
        return socket.inet_pton(socket.AF_INET, self.host)

    @property
    def sockaddr(self) -> tuple[str, int]:
        """What the ``socket`` module takes."""
        return (self.host, self.port)


@dataclass(frozen=True, slots=True, init=False)
class IPv6Address(InetAddress):
    """An IPv6 address and a port, with a flow label and a scope, which tells the interface of a link-local address.

    *host* may end in ``%scope``; else *scope* says the same, as an interface's name or index. The flow is not printed.
    """

    host: str
    port: int
    flow: int
    family: ClassVar[int] = int(socket.AF_INET6)

    def __init__(self, host: _Host, port: int, flow: int = 0, scope: str | int = 0) -> None:
        zone = _zone(host, scope)
        try:
            if isinstance(host, (str, ipaddress.IPv6Address)):
                bare, _, said = str(host).partition("%")
                zone = _zone(host, said) or zone
                packed = socket.inet_pton(socket.AF_INET6, bare)
            else:
                packed = _packed(host, 16)
        except AddressError:
            raise
        except (OSError, ValueError):
            raise AddressError(f"{host!r} is no IPv6 address") from None
        if isinstance(flow, bool) or not isinstance(flow, int) or not 0 <= flow <= 0xFFFFF:
            raise AddressError(f"{host!r}: the flow must be a number from 0 to {0xFFFFF}, not {flow!r}")
        text = socket.inet_ntop(socket.AF_INET6, packed)
        self._set(f"{text}%{zone}" if zone else text, port)
        object.__setattr__(self, "flow", flow)

    @property
    def ip(self) -> ipaddress.IPv6Address:
        """The address alone, with its scope and all that ``ipaddress`` knows of it."""
        return ipaddress.IPv6Address(self.host)

    @property
    def packed(self) -> bytes:
        """The 16 bytes of the address, in network order."""
        return socket.inet_pton(socket.AF_INET6, self.host.partition("%")[0])

    @property
    def scope(self) -> int:
        """The index of the interface that the scope names; 0: none. Raises ``AddressError`` where there is no such."""
        zone = self.host.partition("%")[2]
        if not zone or (zone.isascii() and zone.isdigit()):
            return int(zone or 0)
        try:
            return socket.if_nametoindex(zone)
        except (OSError, UnicodeError):
            raise AddressError(f"{self}: there is no interface {zone!r}") from None

    @property
    def sockaddr(self) -> tuple[str, int, int, int]:
        """What the ``socket`` module takes."""
        return (self.host.partition("%")[0], self.port, self.flow, self.scope)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}"


def _zone(host: object, scope: object) -> str:
    """A scope as it is printed: an interface's name, or its index; ``""`` for none (0)."""
    if isinstance(scope, int) and not isinstance(scope, bool) and 0 <= scope < 1 << 32:
        return str(scope) if scope else ""
    if isinstance(scope, str) and scope.isascii() and scope.isdigit() and len(scope) <= 10:
        return _zone(host, int(scope))
    if isinstance(scope, str) and not any(one.isspace() or not one.isprintable() or one in "%/]" for one in scope):
        return scope
    raise AddressError(f"{host!r}: the scope must be an interface's name or index, not {scope!r}")


InetSocketAddress = IPv4Address | IPv6Address

#: the two families of IP
INET = (IPv4Address.family, IPv6Address.family)


def _packed(host: object, size: int) -> bytes:
    """The bytes of an address that was given as an integer, or as of ``ipaddress``."""
    if isinstance(host, ipaddress.IPv4Address) and size == 4:
        return host.packed
    if isinstance(host, bool) or not isinstance(host, int) or not 0 <= host < 1 << size * 8:
        raise ValueError
    return host.to_bytes(size, "big")


def _kind_of(host: object) -> type[InetAddress]:
    """Which kind of address *host* makes."""
    if not isinstance(host, str):
        return IPv6Address if isinstance(host, ipaddress.IPv6Address) else IPv4Address
    try:
        if ":" in host:
            ipaddress.IPv6Address(host)
            return IPv6Address
        socket.inet_pton(socket.AF_INET, host)
    except (OSError, ValueError):
        return HostAddress
    return IPv4Address


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A UNIX socket: a path; a name in the abstract namespace, which begins with a NUL character here; or ``""``, a
    socket without a name. To bind to ``""`` has the kernel choose an abstract name. See unix(7)."""

    path: str
    family: ClassVar[int] = int(getattr(socket, "AF_UNIX", -1))

    def __post_init__(self) -> None:
        if not isinstance(self.path, str):
            raise AddressError(f"{self.path!r}: a UNIX path is a string")
        if "\0" in self.path and not self.abstract:
            raise AddressError(f"{self.path!r}: a path cannot contain a NUL character")
        _check_length(self.path, self.path, UNIX_PATH_MAX + 1)  # others may have used the byte that is for the end

    @property
    def abstract(self) -> bool:
        """Whether it is in the abstract namespace."""
        return self.path.startswith("\0")

    @property
    def unnamed(self) -> bool:
        """Whether it has no name."""
        return not self.path

    @property
    def sockaddr(self) -> str | bytes:
        """What the ``socket`` module takes."""
        return os.fsencode(self.path) if self.abstract else self.path

    def __str__(self) -> str:
        if self.abstract:
            return f"unix:@{self.path[1:]}"
        return f"unix:{'./' if self.path.startswith('@') else ''}{self.path}"


@dataclass(frozen=True, slots=True)
class PacketAddress:
    """Where a link-layer packet goes to or comes from. See packet(7).

    *protocol* is the Ethernet type; *packet_type* one of ``PACKET_HOST`` ...; *hardware_type* an ``ARPHRD_`` number.
    """

    interface: str
    protocol: int
    packet_type: int = 0
    hardware_type: int = 0
    hardware: bytes = b""
    family: ClassVar[int] = int(getattr(socket, "AF_PACKET", -1))

    @property
    def sockaddr(self) -> tuple[str, int, int, int, bytes]:
        """What the ``socket`` module takes."""
        return (self.interface, self.protocol, self.packet_type, self.hardware_type, self.hardware)

    def __str__(self) -> str:
        hardware = f" {self.hardware.hex(':')}" if self.hardware else ""
        return f"packet:{self.interface}{hardware} 0x{self.protocol:04x}"


@dataclass(frozen=True, slots=True)
class NetlinkAddress:
    """A netlink socket: its port id (0: the kernel) and a mask of multicast groups. See netlink(7)."""

    pid: int
    groups: int = 0
    family: ClassVar[int] = int(getattr(socket, "AF_NETLINK", -1))

    @property
    def sockaddr(self) -> tuple[int, int]:
        """What the ``socket`` module takes."""
        return (self.pid, self.groups)

    def __str__(self) -> str:
        return f"netlink:{self.pid}/0x{self.groups:x}"


@dataclass(frozen=True, slots=True)
class OtherAddress:
    """An address of a family that has no class of its own here, as the ``socket`` module tells it."""

    family: int
    sockaddr: Any

    def __str__(self) -> str:
        return f"{self.family}:{self.sockaddr!r}"


#: what a stream can be connected to or listen on
Address = InetAddress | UnixAddress

#: what the kernel tells a socket's address as
SocketAddress = IPv4Address | IPv6Address | UnixAddress | PacketAddress | NetlinkAddress | OtherAddress

_SOCKET_ADDRESSES = (IPv4Address, IPv6Address, UnixAddress, PacketAddress, NetlinkAddress, OtherAddress)


def from_sockaddr(family: int, sockaddr: Any) -> SocketAddress:
    """The typed form of an address as the ``socket`` module tells it."""
    if family == IPv4Address.family or (family == IPv6Address.family and len(sockaddr) == 2):  # of IPV6_ADDRFORM
        return IPv4Address(*sockaddr)
    if family == IPv6Address.family:
        host, port, flow, scope = sockaddr
        return IPv6Address(host, port, flow & 0xFFFFF, scope)
    if family == UnixAddress.family:
        return UnixAddress(os.fsdecode(sockaddr or ""))
    if family == PacketAddress.family:
        return PacketAddress(*sockaddr)
    if family == NetlinkAddress.family:
        return NetlinkAddress(*sockaddr)
    return OtherAddress(family, sockaddr)


def to_sockaddr(address: Any) -> Any:
    """What the ``socket`` module takes: of a typed address its ``sockaddr``, anything else as it is."""
    if isinstance(address, _SOCKET_ADDRESSES):
        return address.sockaddr
    return (address.host, address.port) if isinstance(address, HostAddress) else address


def parse_port(text: str, whole: object) -> int:
    """A port number from 0 to 65535. Raises ``AddressError`` that shows *whole*."""
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or int(text) > 65535:
        raise AddressError(f"{whole!r}: the port must be a number from 0 to 65535, not {text!r}")
    return int(text)


def parse_address(value: str | tuple[object, ...] | Address) -> Address:
    """Reads an address in any of the known forms. Raises ``AddressError``, which shows it and the forms."""
    if isinstance(value, (InetAddress, UnixAddress)):
        return value
    if isinstance(value, tuple):
        return _from_tuple(value)
    if not isinstance(value, str):
        raise AddressError(f"{value!r} is no address; {_FORMS}")
    if value.startswith("unix:"):
        return _unix(value[5:], value)
    host, colon, port = value.rpartition(":")
    if not colon:
        raise AddressError(f"{value!r} has no port; {_FORMS}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError as error:
            raise AddressError(f"{value!r}: what stands in brackets must be an IPv6 address ({error})") from None
    elif ":" in host or "[" in host or "]" in host:
        raise AddressError(f"{value!r}: an IPv6 address needs brackets, as in '[::1]:80'")
    if "\0" in host:
        raise AddressError(f"{value!r}: a host name cannot contain a NUL character")
    return InetAddress(host, parse_port(port, value))


def _unix(path: str, whole: object) -> UnixAddress:
    if path.startswith("@"):
        path = "\0" + path[1:]
    elif "\0" in path:
        raise AddressError(f"{whole!r}: a path cannot contain a NUL character")
    if len(path) < 1:
        raise AddressError(f"{whole!r} has no path; {_FORMS}")
    _check_length(path, whole, UNIX_PATH_MAX)
    return UnixAddress(path)


def _check_length(path: str, whole: object, bytes_max: int) -> None:
    """Raises ``AddressError``, which shows *whole*, for a UNIX path that is too long or cannot be encoded."""
    try:
        size = len(os.fsencode(path))
    except UnicodeEncodeError:
        raise AddressError(f"{whole!r}: the path has characters that file names cannot have") from None
    if size > bytes_max:
        raise AddressError(f"{whole!r}: a UNIX path may have {UNIX_PATH_MAX} bytes, not {size}")


def _from_tuple(value: tuple[object, ...]) -> InetAddress:
    host, port = value[:2] if len(value) in (2, 4) else (None, None)
    if isinstance(host, bool) or not isinstance(host, (str, int, ipaddress.IPv4Address, ipaddress.IPv6Address)):
        raise AddressError(f"{value!r} is no address; {_FORMS}")
    if isinstance(port, bool) or not isinstance(port, int):
        raise AddressError(f"{value!r}: the port must be a number from 0 to 65535")
    try:
        if len(value) == 4:
            flow, scope = value[2], value[3]
            if not isinstance(flow, int) or not isinstance(scope, int):
                raise AddressError("the flow and the scope of an IPv6 address must be numbers")
            if not flow and not scope and _kind_of(host) is HostAddress:
                return HostAddress(str(host), port)
            return IPv6Address(host, port, flow, scope)
        return InetAddress(host, port)
    except AddressError as error:
        raise AddressError(f"{value!r}: {error}") from None
