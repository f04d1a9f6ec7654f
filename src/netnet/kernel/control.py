"""Control messages, typed: what travels beside the data of sendmsg(2) and recvmsg(2). Each class goes both ways where the
kernel has both ways.

A row of the two tables at the end says how a class is written and how the kernel's bytes are read. What has no row is
``OtherControl``, as it came. Decoding never raises for what a kernel can send: bytes that make no sense stay bytes.

Received descriptors belong to the ``Rights`` or ``PidFd`` they came in: ``take`` them, or they are closed with it.
See cmsg(3), unix(7), ip(7), ipv6(7), udp(7), socket(7).
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from netnet.kernel.address import InetSocketAddress
from netnet.kernel.numbers import number
from netnet.kernel.values import Credentials, read_sockaddr

#: a control message as the ``socket`` module has it: level, type, data
Raw = tuple[int, int, bytes]

#: how many descriptors the kernel takes in one message (``SCM_MAX_FD``)
RIGHTS_MAX = 253


class _Owned:
    """Descriptors that a message carries. Those that were received are owned: closed at the latest with their holder."""

    __slots__ = ("__weakref__", "_fds", "_owned")

    def __init__(self, fds: Iterable[int], *, owned: bool) -> None:
        self._fds = tuple(fds)
        self._owned = owned

    def close(self) -> None:
        """Closes what was received and not taken. Twice is fine."""
        fds, self._fds = (self._fds, ()) if self._owned else ((), self._fds)
        _close_all(fds)

    def _take(self) -> tuple[int, ...]:
        fds, self._fds = self._fds, ()
        return fds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_owned", False) and self._fds:
            text = f"received descriptors were not taken: {self!r}"
            self.close()
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Owned) and type(other) is type(self) and self._fds == other._fds

    __hash__ = None  # type: ignore[assignment]


class Rights(_Owned):
    """Descriptors that are passed to another process, ``SCM_RIGHTS``. Received ones are close-on-exec.

    To send: ``Rights(fd, file, sock)``, numbers or what has a ``fileno``; they stay yours. See unix(7).
    """

    __slots__ = ()

    def __init__(self, *descriptors: Any) -> None:
        if len(descriptors) > RIGHTS_MAX:
            raise ValueError(f"a message carries at most {RIGHTS_MAX} descriptors, not {len(descriptors)}")
        super().__init__(map(_descriptor, descriptors), owned=False)

    @classmethod
    def received(cls, fds: Iterable[int]) -> Rights:
        """Those that came with a message: owned."""
        self = cls()
        self._fds, self._owned = tuple(fds), True
        return self

    @property
    def fds(self) -> tuple[int, ...]:
        """Their numbers; received ones are still owned by this object."""
        return self._fds

    def take(self) -> list[int]:
        """The received descriptors, which are yours from now on."""
        return list(self._take())

    def __repr__(self) -> str:
        return f"Rights({', '.join(map(str, self._fds))})"


class PidFd(_Owned):
    """A descriptor for the process that sent a message, ``SCM_PIDFD``: received where ``passpidfd`` is set."""

    __slots__ = ()

    @classmethod
    def received(cls, fd: int) -> PidFd:
        """The one that came with a message: owned."""
        return cls((fd,), owned=True)

    @property
    def fd(self) -> int:
        """Its number, -1 once it is taken or closed; it is still owned by this object."""
        return self._fds[0] if self._fds else -1

    def take(self) -> int:
        """The descriptor, which is yours from now on; -1 once it is taken or closed."""
        return (*self._take(), -1)[0]

    def __repr__(self) -> str:
        return f"PidFd({self.fd})"


def _close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):  # closed by its number already
            os.close(fd)


def _descriptor(of: Any) -> int:
    if not isinstance(of, int) and not hasattr(of, "fileno"):
        raise TypeError(f"a descriptor is a number or has a fileno method, not {of!r}")
    fd = of if isinstance(of, int) else of.fileno()
    if isinstance(of, bool) or not isinstance(fd, int) or not 0 <= fd < 1 << 31:
        raise ValueError(f"no open descriptor: {of!r}")
    return fd


@dataclass(frozen=True, slots=True)
class PacketInfo:
    """By which interface (its index), and at which *address* a datagram came in; for sending: those to send from.

    *local* is the address of this machine that an answer would come from (IPv4, received). A received ``PacketInfo``
    sent along with the answer has it come from where the question went to; if that was a group, from its interface.
    ``IP_PKTINFO``, ``IPV6_PKTINFO``.
    """

    interface: int
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    local: ipaddress.IPv4Address | None = None


@dataclass(frozen=True, slots=True)
class HopLimit:
    """The time to live (IPv4), the hop limit (IPv6). ``IP_TTL``, ``IPV6_HOPLIMIT``."""

    hops: int


@dataclass(frozen=True, slots=True)
class TrafficClass:
    """Type of service (IPv4), traffic class (IPv6): DSCP in six bits, ECN in two. ``IP_TOS``, ``IPV6_TCLASS``."""

    value: int

    @property
    def dscp(self) -> int:
        """The differentiated services code point, RFC 2474."""
        return self.value >> 2

    @property
    def ecn(self) -> int:
        """Explicit congestion notification, RFC 3168."""
        return self.value & 3


@dataclass(frozen=True, slots=True)
class Timestamp:
    """When a packet arrived: nanoseconds since 1970, by the clock of ``time.time_ns``. ``SO_TIMESTAMP(NS)``."""

    nanoseconds: int


@dataclass(frozen=True, slots=True)
class Timestamps:
    """When a packet arrived or left, in nanoseconds: *software* by the system's clock, *hardware* by the card's own.

    ``None`` where there is none. ``SO_TIMESTAMPING``.
    """

    software: int | None
    hardware: int | None


@dataclass(frozen=True, slots=True)
class OriginalDestination:
    """Where a datagram was sent to before it was redirected. ``IP_ORIGDSTADDR``."""

    address: InetSocketAddress


@dataclass(frozen=True, slots=True)
class SegmentSize:
    """Received: the size of the datagrams that stand together in the data (``UDP_GRO``). Sent: the size of those that
    the data is to be cut into (``UDP_SEGMENT``)."""

    bytes: int


@dataclass(frozen=True, slots=True)
class ExtendedError:
    """An entry of the error queue. *number* is an ``errno``; *origin* one of the ``ORIGIN_`` numbers below; *type* and
    *code* are those of ICMP; *info* is the MTU of ``EMSGSIZE``; *offender* is who reported it, the router or the peer.

    ``IP_RECVERR``, see ip(7).
    """

    number: int
    origin: int
    type: int
    code: int
    info: int
    data: int
    offender: InetSocketAddress | None

    ORIGIN_LOCAL = 1
    ORIGIN_ICMP = 2
    ORIGIN_ICMP6 = 3
    ORIGIN_TRANSMIT = 4
    ORIGIN_ZEROCOPY = 5

    def __str__(self) -> str:
        return f"{os.strerror(self.number)}{f', told by {self.offender}' if self.offender else ''}"


@dataclass(frozen=True, slots=True)
class Dropped:
    """How many packets this socket has lost so far for want of room. ``SO_RXQ_OVFL``."""

    packets: int


@dataclass(frozen=True, slots=True)
class TransmitAt:
    """For sending: when the datagram is to leave, in nanoseconds of the clock of ``txtime``. ``SCM_TXTIME``."""

    nanoseconds: int


@dataclass(frozen=True, slots=True)
class Mark:
    """The packet's mark. ``SO_MARK``."""

    value: int


@dataclass(frozen=True, slots=True)
class Priority:
    """The packet's priority. ``SO_PRIORITY``."""

    value: int


@dataclass(frozen=True, slots=True)
class Unread:
    """How many bytes are left to be received. ``TCP_INQ``."""

    bytes: int


@dataclass(frozen=True, slots=True)
class SecurityLabel:
    """The sender's security label. ``SCM_SECURITY``."""

    label: str


@dataclass(frozen=True, slots=True)
class OtherControl:
    """A control message that has no class of its own here, as the kernel has it."""

    level: int
    type: int
    data: bytes


Control = (
    Rights
    | Credentials
    | PidFd
    | PacketInfo
    | HopLimit
    | TrafficClass
    | Timestamp
    | Timestamps
    | OriginalDestination
    | SegmentSize
    | ExtendedError
    | Dropped
    | TransmitAt
    | Mark
    | Priority
    | Unread
    | SecurityLabel
    | OtherControl
)


# -- writing

_SOCKET = int(socket.SOL_SOCKET)
_IP, _IP6 = int(socket.IPPROTO_IP), int(socket.IPPROTO_IPV6)
_UDP, _TCP = int(socket.IPPROTO_UDP), int(socket.IPPROTO_TCP)


def encode(control: Iterable[Control], family: int) -> list[Raw]:
    """Control messages for a socket of *family*, in the form of the ``socket`` module.

    Raises ``TypeError`` for what is none or cannot be sent, ``ValueError`` for a value that does not fit.
    """
    return [_encode_one(one, family) for one in control]


def _encode_one(one: Control, family: int) -> Raw:
    if isinstance(one, OtherControl):
        if not isinstance(one.data, (bytes, bytearray, memoryview)):
            raise TypeError(f"{one!r} cannot be sent: its data must be bytes")
        _packed("@ii", one, one.level, one.type)
        return one.level, one.type, bytes(one.data)
    write = _WRITERS.get(type(one))
    if write is None:
        raise TypeError(f"{one!r} is no control message that can be sent; known: {_sendable()}")
    (level, name), data = write(one, family == socket.AF_INET6)
    type_number = number(name)
    if type_number is None:
        raise ValueError(f"{one!r}: {name} does not exist on {sys.platform}")
    return level, type_number, data


def _sendable() -> str:
    return ", ".join(kind.__name__ for kind in (*_WRITERS, OtherControl))


def _packed(layout: str, one: object, *values: object) -> bytes:
    if not all(isinstance(value, (int, bytes)) for value in values):
        raise TypeError(f"{one!r} cannot be sent: its numbers must be whole numbers")
    try:
        return struct.pack(layout, *values)
    except struct.error as error:
        raise ValueError(f"{one!r} cannot be sent: {error}") from None


#: the level and the constant's name, and the bytes
_Written = tuple[tuple[int, str], bytes]


def _write_packet_info(one: PacketInfo, v6: bool) -> _Written:
    address = one.local or one.address
    if v6 and isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        if (mapped or address).is_multicast:  # a group cannot be sent from: the kernel picks the interface's address
            address = ipaddress.IPv6Address("::ffff:0.0.0.0" if mapped else "::")
        return (_IP6, "IPV6_PKTINFO"), _packed("@16sI", one, address.packed, one.interface)
    if not isinstance(address, ipaddress.IPv4Address):
        raise ValueError(f"{one!r}: an address of the socket's family is needed")
    return (_IP, "IP_PKTINFO"), _packed("@i4s4x", one, one.interface, address.packed)


_WRITERS: Mapping[type, Callable[[Any, bool], _Written]] = {
    Rights: lambda one, v6: ((_SOCKET, "SCM_RIGHTS"), struct.pack(f"@{len(one.fds)}i", *one.fds)),
    Credentials: lambda one, v6: ((_SOCKET, "SCM_CREDENTIALS"), _packed("@iII", one, *one)),
    PacketInfo: _write_packet_info,
    HopLimit: lambda one, v6: (
        ((_IP6, "IPV6_HOPLIMIT") if v6 else (_IP, "IP_TTL")),
        _packed("@i", one, one.hops),
    ),
    TrafficClass: lambda one, v6: (
        ((_IP6, "IPV6_TCLASS") if v6 else (_IP, "IP_TOS")),
        _packed("@i", one, one.value),
    ),
    SegmentSize: lambda one, v6: ((_UDP, "UDP_SEGMENT"), _packed("@H", one, one.bytes)),
    TransmitAt: lambda one, v6: ((_SOCKET, "SO_TXTIME"), _packed("@Q", one, one.nanoseconds)),
    Mark: lambda one, v6: ((_SOCKET, "SO_MARK"), _packed("@I", one, one.value)),
    Priority: lambda one, v6: ((_SOCKET, "SO_PRIORITY"), _packed("@I", one, one.value)),
}


# -- reading


def decode(raw: Iterable[Raw]) -> tuple[Control, ...]:
    """Control messages as the ``socket`` module received them. Takes over the descriptors in them, whatever happens."""
    found: list[Control] = []
    rest = list(raw)
    try:
        while rest:
            found.append(_decode_one(*rest[0]))
            del rest[0]
    except BaseException:
        close_descriptors(rest)
        for one in found:
            if isinstance(one, _Owned):
                one.close()
        raise
    return tuple(found)


def close_descriptors(raw: Iterable[Raw]) -> None:
    """Closes all descriptors that received control messages carry."""
    for level, type, data in raw:
        if level == _SOCKET and type in _CARRIERS:
            _close_all(fd for fd in _descriptors(data) if fd >= 0)


def _decode_one(level: int, type: int, data: bytes) -> Control:
    read = _READERS.get((level, type))
    if read is not None:
        try:
            return read(data)
        except (struct.error, ValueError):  # shorter than it must be: cut off for want of room
            if type in _CARRIERS and level == _SOCKET:
                raise
    return OtherControl(level, type, data)


def _descriptors(data: bytes) -> tuple[int, ...]:
    """The whole descriptors in *data*; the kernel makes none that does not fit."""
    return struct.unpack_from(f"@{len(data) // 4}i", data)


def _read_pidfd(data: bytes) -> Control:
    fds = _descriptors(data)
    return PidFd.received(fds[0]) if fds and fds[0] >= 0 else OtherControl(_SOCKET, number("SCM_PIDFD") or 0, data)


def _integer(data: bytes) -> int:
    """A number of one or of four bytes, as the kernel likes."""
    if len(data) not in (1, 2, 4, 8):
        raise ValueError
    return int.from_bytes(data, sys.byteorder)


def _read_packet_info(data: bytes) -> PacketInfo:
    interface, local, address = struct.unpack_from("@i4s4s", data)
    return PacketInfo(interface, ipaddress.IPv4Address(address), ipaddress.IPv4Address(local))


def _read_packet_info6(data: bytes) -> PacketInfo:
    address, interface = struct.unpack_from("@16sI", data)
    return PacketInfo(interface, ipaddress.IPv6Address(address))


def _time_reader(layout: str, per_second: int) -> Callable[[bytes], Timestamp]:
    def read(data: bytes) -> Timestamp:
        seconds, parts = struct.unpack(layout, data)
        return Timestamp(seconds * 1_000_000_000 + parts * (1_000_000_000 // per_second))

    return read


def _times_reader(layout: str) -> Callable[[bytes], Timestamps]:
    def read(data: bytes) -> Timestamps:
        numbers = struct.unpack(layout, data)
        software, hardware = (numbers[i] * 1_000_000_000 + numbers[i + 1] for i in (0, 4))
        return Timestamps(software or None, hardware or None)

    return read


_EXTENDED = struct.Struct("@I4B2I")


def _read_error(data: bytes) -> ExtendedError:
    code, origin, type, subcode, _, info, extra = _EXTENDED.unpack_from(data)
    return ExtendedError(code, origin, type, subcode, info, extra, read_sockaddr(data[_EXTENDED.size :]))


def _read_destination(data: bytes) -> OriginalDestination:
    address = read_sockaddr(data)
    if address is None:
        raise ValueError
    return OriginalDestination(address)


_NAMES: Iterable[tuple[int, str, Callable[[bytes], Control]]] = (
    (_SOCKET, "SCM_RIGHTS", lambda data: Rights.received(_descriptors(data))),
    (_SOCKET, "SCM_CREDENTIALS", lambda data: Credentials(*struct.unpack("@iII", data))),
    (_SOCKET, "SCM_PIDFD", _read_pidfd),
    (_SOCKET, "SCM_SECURITY", lambda data: SecurityLabel(data.rstrip(b"\0").decode(errors="surrogateescape"))),
    (_SOCKET, "SO_TIMESTAMP", _time_reader("@ll", 1_000_000)),
    (_SOCKET, "SO_TIMESTAMPNS", _time_reader("@ll", 1_000_000_000)),
    (_SOCKET, "SO_TIMESTAMPING", _times_reader("@6l")),
    (_SOCKET, "SO_TIMESTAMP_NEW", _time_reader("@qq", 1_000_000)),
    (_SOCKET, "SO_TIMESTAMPNS_NEW", _time_reader("@qq", 1_000_000_000)),
    (_SOCKET, "SO_TIMESTAMPING_NEW", _times_reader("@6q")),
    (_SOCKET, "SO_RXQ_OVFL", lambda data: Dropped(_integer(data))),
    (_SOCKET, "SO_MARK", lambda data: Mark(_integer(data))),
    (_SOCKET, "SO_PRIORITY", lambda data: Priority(_integer(data))),
    (_IP, "IP_PKTINFO", _read_packet_info),
    (_IP6, "IPV6_PKTINFO", _read_packet_info6),
    (_IP, "IP_TTL", lambda data: HopLimit(_integer(data))),
    (_IP6, "IPV6_HOPLIMIT", lambda data: HopLimit(_integer(data))),
    (_IP, "IP_TOS", lambda data: TrafficClass(_integer(data))),
    (_IP6, "IPV6_TCLASS", lambda data: TrafficClass(_integer(data))),
    (_IP, "IP_ORIGDSTADDR", _read_destination),
    (_IP6, "IPV6_ORIGDSTADDR", _read_destination),
    (_IP, "IP_RECVERR", _read_error),
    (_IP6, "IPV6_RECVERR", _read_error),
    (_UDP, "UDP_GRO", lambda data: SegmentSize(_integer(data))),
    (_TCP, "TCP_INQ", lambda data: Unread(_integer(data))),
)

#: (level, type) → how its bytes are read
_READERS: Mapping[tuple[int, int], Callable[[bytes], Control]] = {
    (level, found): read for level, name, read in _NAMES if (found := number(name)) is not None
}

#: the types that carry descriptors
_CARRIERS = {found for name in ("SCM_RIGHTS", "SCM_PIDFD") if (found := number(name)) is not None}
