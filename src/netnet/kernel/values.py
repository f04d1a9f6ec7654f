"""How the value of a socket option stands in the kernel's bytes: one class a type of value, with its Python type.

Each checks what it is given before the kernel sees it: ``TypeError`` for a wrong type, ``ValueError`` for what does not
fit. What the kernel thinks of a value that fits is the kernel's to say.
"""

from __future__ import annotations

import enum
import socket
import struct
import sys
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from netnet.errors import AddressError
from netnet.kernel.address import InetSocketAddress, IPv4Address, IPv6Address

if TYPE_CHECKING:
    from netnet.kernel.tcp_info import TcpInfo

T = TypeVar("T")
N = TypeVar("N", bound=enum.IntEnum)
F = TypeVar("F", bound=enum.IntFlag)

#: bytes of an interface's name, with the NUL at its end. See netdevice(7)
INTERFACE_NAME_BYTES = 16


class Value(Generic[T]):
    """A type of value. ``says`` names it in documents; ``size`` is how many bytes the kernel is asked for."""

    says = ""
    size = 4

    def decode(self, data: bytes) -> T:
        """What the kernel's bytes mean."""
        raise NotImplementedError

    def encode(self, value: T) -> bytes:
        """The bytes that the kernel takes. Raises ``TypeError`` or ``ValueError``."""
        raise NotImplementedError


class Integer(Value[int]):
    """A whole number of 4 or 8 bytes, from *low* to *high*."""

    def __init__(self, unit: str = "", low: int | None = None, high: int | None = None, size: int = 4) -> None:
        self.size = size
        bits = size * 8
        self.low = -(1 << bits - 1) if low is None else low
        #: an unsigned number is allowed its highest bit
        self.high = ((1 << bits) if self.low >= 0 else (1 << bits - 1)) - 1 if high is None else high
        self.says = f"integer, {unit}" if unit else "integer"

    def decode(self, data: bytes) -> int:
        return int.from_bytes(data, sys.byteorder, signed=self.low < 0)

    def encode(self, value: int) -> bytes:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"must be a whole number, not {value!r}")
        if not self.low <= value <= self.high:
            raise ValueError(f"must be from {self.low} to {self.high}, not {value}")
        return value.to_bytes(self.size, sys.byteorder, signed=self.low < 0)


class Flag(Value[bool]):
    """On or off."""

    says = "bool"

    def decode(self, data: bytes) -> bool:
        return any(data)

    def encode(self, value: bool) -> bytes:
        if value not in (False, True) or not isinstance(value, int):
            raise TypeError(f"must be True or False, not {value!r}")
        return int(value).to_bytes(4, sys.byteorder)


class Choice(Value[N]):
    """One of a few numbers that have names; a number that is none of them is handed on as it is."""

    def __init__(self, names: type[N], unit: str = "") -> None:
        self.names = names
        self.says = f"{names.__name__}{', ' + unit if unit else ''}"

    def decode(self, data: bytes) -> N:
        number = int.from_bytes(data, sys.byteorder, signed=True)
        try:
            return self.names(number)
        except ValueError:
            return number  # type: ignore[return-value]

    def encode(self, value: N) -> bytes:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"must be a {self.names.__name__}, not {value!r}")
        if not -(1 << 31) <= value < 1 << 31:
            raise ValueError(f"must be a {self.names.__name__}, not {value}")
        return int(value).to_bytes(4, sys.byteorder, signed=True)


class Bits(Value[F]):
    """Several flags in one number."""

    def __init__(self, names: type[F]) -> None:
        self.names = names
        self.says = names.__name__

    def decode(self, data: bytes) -> F:
        return self.names(int.from_bytes(data[:4], sys.byteorder))

    def encode(self, value: F) -> bytes:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"must be {self.names.__name__} flags, not {value!r}")
        if not 0 <= value < 1 << 32:
            raise ValueError(f"must be {self.names.__name__} flags, not {value}")
        return int(value).to_bytes(4, sys.byteorder)


class Seconds(Value[float]):
    """Seconds in a ``struct timeval``; 0: no limit."""

    says = "float, seconds"
    _timeval = struct.Struct("@ll")
    size = _timeval.size

    def decode(self, data: bytes) -> float:
        seconds, microseconds = self._timeval.unpack(data)
        return float(seconds + microseconds / 1e6)

    def encode(self, value: float) -> bytes:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"must be a number of seconds, not {value!r}")
        if not 0 <= value <= 2**31 - 1:  # nor NaN
            raise ValueError(f"must be a number of seconds from 0 (no limit) to {2**31 - 1}, not {value}")
        # rounded, but never to 0 what is more than none: that is no limit
        microseconds = max(round(value * 1e6), 1) if value else 0
        return self._timeval.pack(*divmod(microseconds, 1_000_000))


class Linger(Value[int | None]):
    """How many seconds ``close`` waits; ``None``: it does not wait, and the kernel goes on sending."""

    says = "int, seconds, or None"
    _linger = struct.Struct("@ii")
    size = _linger.size

    def decode(self, data: bytes) -> int | None:
        on, seconds = self._linger.unpack(data)
        return int(seconds) if on else None

    def encode(self, value: int | None) -> bytes:
        if value is None:
            return self._linger.pack(0, 0)
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"must be a whole number of seconds, or None, not {value!r}")
        if not 0 <= value < 1 << 31:
            raise ValueError(f"must be from 0 to {2**31 - 1} seconds, or None, not {value}")
        return self._linger.pack(1, value)


class String(Value[str]):
    """A name, of at most *size* bytes with the NUL at its end."""

    says = "str"

    def __init__(self, size: int) -> None:
        self.size = size

    def decode(self, data: bytes) -> str:
        return data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")

    def encode(self, value: str) -> bytes:
        if not isinstance(value, str):
            raise TypeError(f"must be a string, not {value!r}")
        try:
            data = value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise ValueError(f"must be text that UTF-8 can hold, not {value!r}") from None
        if b"\0" in data or len(data) >= self.size:
            raise ValueError(f"must be at most {self.size - 1} bytes without NUL, not {value!r}")
        return data + b"\0"


class Octets(Value[bytes]):
    """Bytes as they are, at most *size*."""

    says = "bytes"

    def __init__(self, size: int) -> None:
        self.size = size

    def decode(self, data: bytes) -> bytes:
        return data

    def encode(self, value: bytes) -> bytes:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise TypeError(f"must be bytes, not {value!r}")
        if len(value) > self.size:
            raise ValueError(f"must be at most {self.size} bytes, not {len(value)}")
        return bytes(value)


class InterfaceIndex(Value[str | int | None]):
    """A network interface: its name, or its index; ``None``: none in particular. Reads as the name.

    *network_order* is how IP-level options want the index.
    """

    says = "interface: name or index, or None"

    def __init__(self, *, network_order: bool = False) -> None:
        self.order: str = "!I" if network_order else "@I"

    def decode(self, data: bytes) -> str | int | None:
        (index,) = struct.unpack(self.order, data)
        if not index:
            return None
        try:
            return socket.if_indextoname(index)
        except OSError:
            return int(index)  # gone meanwhile

    def encode(self, value: str | int | None) -> bytes:
        return struct.pack(self.order, interface_index(value))


def interface_index(value: str | int | None) -> int:
    """The index of an interface that is named, or told by its index; 0 for ``None``.

    Raises ``ValueError`` that tells the interfaces there are.
    """
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise TypeError(f"an interface is told by its name or its index, not {value!r}")
    if isinstance(value, int):
        if not 0 <= value < 1 << 31:
            raise ValueError(f"an interface's index must be from 0 (any) to {2**31 - 1}, not {value}")
        return value
    try:
        return socket.if_nametoindex(value)
    except (OSError, ValueError, UnicodeError):
        known = ", ".join(name for _, name in socket.if_nameindex())
        raise ValueError(f"there is no interface {value!r}; there are: {known}") from None


class IPv4(Value[str]):
    """An IPv4 address in dotted form."""

    says = "str, IPv4 address"

    def decode(self, data: bytes) -> str:
        return socket.inet_ntoa(data[:4])

    def encode(self, value: str) -> bytes:
        if not isinstance(value, str):
            raise TypeError(f"must be an IPv4 address as a string, not {value!r}")
        try:
            return socket.inet_pton(socket.AF_INET, value)
        except (OSError, ValueError):
            raise ValueError(f"must be an IPv4 address, as in '192.0.2.1', not {value!r}") from None


class InetSockaddr(Value[InetSocketAddress]):
    """An IP address and a port, as the kernel's ``struct sockaddr``."""

    says = "IPv4Address or IPv6Address"
    size = 28

    def decode(self, data: bytes) -> InetSocketAddress:
        address = read_sockaddr(data)
        if not isinstance(address, (IPv4Address, IPv6Address)):
            raise AddressError(f"the kernel told an address that is no IP address: {data!r}")
        return address


def read_sockaddr(data: bytes) -> InetSocketAddress | None:
    """Reads a ``struct sockaddr_in`` or ``sockaddr_in6``. ``None`` for anything else, and for too few bytes."""
    if len(data) < 16:
        return None
    family = int.from_bytes(data[:2], sys.byteorder)
    if sys.platform != "linux":
        family = data[1]  # a byte of length stands in front of it
    if family == socket.AF_INET:
        return IPv4Address(socket.inet_ntoa(data[4:8]), int.from_bytes(data[2:4], "big"))
    if family == socket.AF_INET6 and len(data) >= 28:
        port, flow = struct.unpack("!HI", data[2:8])
        host = socket.inet_ntop(socket.AF_INET6, data[8:24])
        return IPv6Address(host, port, flow & 0xFFFFF, int.from_bytes(data[24:28], sys.byteorder))
    return None


def write_sockaddr(address: InetSocketAddress) -> bytes:
    """The same the other way: a ``struct sockaddr_in`` or ``sockaddr_in6``."""
    size, family = (16, socket.AF_INET) if isinstance(address, IPv4Address) else (28, socket.AF_INET6)
    head = struct.pack("@H", family) if sys.platform == "linux" else bytes((size, family))
    if isinstance(address, IPv4Address):
        return head + struct.pack("!H4s8x", address.port, address.packed)
    return head + struct.pack("!HI16s", address.port, address.flow, address.packed) + struct.pack("@I", address.scope)


class Credentials(NamedTuple):
    """Who a UNIX socket's peer is: process, user, group. See unix(7), ``SCM_CREDENTIALS``."""

    pid: int
    uid: int
    gid: int


class PortRange(NamedTuple):
    """The ports that the kernel may pick from; 0: the system's own limit. See ip(7), ``IP_LOCAL_PORT_RANGE``."""

    low: int
    high: int


class TransmitTime(NamedTuple):
    """For ``SO_TXTIME``: the clock that times of sending are told in (``time.CLOCK_TAI``), and flags."""

    clock: int
    flags: int


class MemoryUse(NamedTuple):
    """Memory of a socket, in bytes: ``SO_MEMINFO``, see sock_diag(7), ``INET_DIAG_SKMEMINFO``."""

    receive_allocated: int
    receive_max: int
    send_allocated: int
    send_max: int
    forward_allocated: int
    send_queued: int
    options: int
    backlog: int
    drops: int


class PacketStatistics(NamedTuple):
    """Packets since the last time of asking: all that came, and those dropped for want of room. See packet(7)."""

    packets: int
    drops: int


R = TypeVar("R", bound=tuple[int, ...])


class Record(Value[R]):
    """Several numbers, in a ``struct`` of the kernel's: *layout* as in the ``struct`` module."""

    def __init__(self, record: type[R], layout: str) -> None:
        self.record = record
        self.layout = struct.Struct(layout)
        self.size = self.layout.size
        self.says = f"{record.__name__}({', '.join(_fields(record))})"

    def decode(self, data: bytes) -> R:
        values = self.layout.unpack(data.ljust(self.size, b"\0")[: self.size])
        return self.record._make(values)  # type: ignore[attr-defined,no-any-return]

    def encode(self, value: R) -> bytes:
        fits = isinstance(value, tuple) and len(value) == len(_fields(self.record))
        if not fits or not all(isinstance(one, int) for one in value):
            raise TypeError(f"must be {self.says}, not {value!r}")
        try:
            return self.layout.pack(*value)
        except struct.error as error:
            raise ValueError(f"must be {self.says}, not {value!r} ({error})") from None


def _fields(record: type[tuple[int, ...]]) -> tuple[str, ...]:
    return record._fields  # type: ignore[attr-defined,no-any-return]


class Groups(Value[tuple[int, ...]]):
    """Numbers of groups."""

    says = "tuple of int"
    size = 1024  # the most that Python's getsockopt takes: 256 groups

    def decode(self, data: bytes) -> tuple[int, ...]:
        return struct.unpack(f"@{len(data) // 4}I", data)


class TcpInfoValue(Value["TcpInfo"]):
    """The record of ``TCP_INFO``, whatever length the kernel gives it."""

    says = "TcpInfo"
    size = 512

    def decode(self, data: bytes) -> TcpInfo:
        from netnet.kernel import tcp_info  # here, since few programs ask, and making its class takes its time

        return tcp_info.decode(data)
