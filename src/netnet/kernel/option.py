"""One socket option: what stands in a row of the table, and how it is read and set. The rows are in ``options``.

An option is a descriptor of Python's: in a class of sockets it is a typed property. Static refusals (no such option on
this system, can only be read, can only be set) are ``OptionError``, an ``AttributeError``, so that ``hasattr`` tells
the truth. What the kernel refuses for this socket is the ``OSError`` of its number, with what was being done and why.
"""

from __future__ import annotations

import enum
import errno
import os
import socket
import sys
from collections.abc import Mapping
from typing import Generic, Self, TypeVar, overload

from netnet.errors import ClosedError, OptionError
from netnet.kernel.numbers import number
from netnet.kernel.values import Value

T = TypeVar("T")


class Kind(enum.Enum):
    """The sockets that an option is for."""

    ANY = "any socket"
    INET = "TCP, UDP"
    TCP = "TCP"
    TCP_CONNECTED = "TCP, connected"
    UDP = "UDP"
    IPV4 = "IPv4"
    IPV4_CONNECTED = "IPv4, connected"
    IPV4_DATAGRAM = "IPv4, UDP or raw"
    IPV4_RAW = "IPv4, raw"
    IPV6 = "IPv6"
    IPV6_CONNECTED = "IPv6, connected"
    IPV6_DATAGRAM = "IPv6, UDP or raw"
    IPV6_RAW = "IPv6, raw"
    UNIX = "UNIX"
    UNIX_CONNECTED = "UNIX, connected"
    PACKET = "packet"
    NETLINK = "netlink"


class Access(enum.Enum):
    """What can be done with an option."""

    BOTH = "read, set"
    READ = "read"
    SET = "set"


#: what the kernel's numbers mean here, as far as that is more than their usual text
_WHY: Mapping[int, str] = {
    errno.ENOPROTOOPT: "the kernel does not have it for this kind of socket",
    errno.EOPNOTSUPP: "the kernel does not have it for this kind of socket",
    errno.EPERM: "it needs a privilege (CAP_NET_ADMIN, CAP_NET_RAW)",
    errno.EACCES: "it needs a privilege (CAP_NET_ADMIN)",
    errno.EINVAL: "the kernel takes no such value, or not in this state of the socket",
    errno.EDOM: "the kernel takes no such value: out of range",
    errno.ENODEV: "there is no such interface",
    errno.ENOTCONN: "the socket is not connected",
    errno.EISCONN: "the socket is connected already",
    errno.EBUSY: "the socket or another one is using it already",
    errno.ERANGE: "there is more of it than Python's getsockopt can take",
    errno.ENOENT: "there is nothing of that name (perhaps a kernel module is missing), or nothing to tell",
}


class Option(Generic[T]):
    """A row of the table."""

    def __init__(
        self,
        constant: str,
        value: Value[T],
        meaning: str,
        source: str,
        *,
        on: Kind,
        level: str = "",
        access: Access = Access.BOTH,
        kernels: str = "all",
    ) -> None:
        self.name = ""
        #: the constant's name in the C headers
        self.constant = constant
        self.level = level or _LEVELS[constant.split("_")[0]]
        self.level_number = number(self.level)
        #: the constant's number; None where this platform has no such option
        self.number = number(constant)
        self.value = value
        self.meaning = meaning
        #: the manual page or the document of the kernel's that describes it
        self.source = source
        self.on = on
        self.access = access
        #: since which kernels it is there
        self.kernels = kernels
        self.__doc__ = f"{meaning} ``{constant}``: {value.says}; {access.value}; {on.value}. See {source}."

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<option {self}>"

    def __str__(self) -> str:
        return f"{self.name} ({self.constant})"

    @property
    def group(self) -> str:
        """What its level is about: SOCKET, TCP, IP, IPV6, UDP, PACKET, NETLINK."""
        return self.level.split("_")[-1]

    @property
    def readable(self) -> bool:
        """Whether it can be asked for."""
        return self.access is not Access.SET

    @property
    def settable(self) -> bool:
        """Whether it can be set."""
        return self.access is not Access.READ

    # -- reading and setting

    @overload
    def __get__(self, sock: None, owner: type) -> Self: ...
    @overload
    def __get__(self, sock: socket.socket, owner: type) -> T: ...

    def __get__(self, sock: socket.socket | None, owner: type) -> Self | T:
        return self if sock is None else self.get(sock)

    def __set__(self, sock: socket.socket, value: T) -> None:
        self.set(sock, value)

    def __delete__(self, sock: socket.socket) -> None:
        raise OptionError(f"the option {self} cannot be deleted; set it to another value")

    def get(self, sock: socket.socket) -> T:
        """Asks the kernel. Never waits. Raises ``OptionError``, ``OSError``, ``ClosedError``. See getsockopt(2)."""
        if not self.readable:
            raise OptionError(f"the option {self} can be set, but not read")
        level, this = self._numbers()
        try:
            return self.value.decode(sock.getsockopt(level, this, self.value.size))
        except OSError as error:
            raise self._explained(error, sock, "read") from error

    def set(self, sock: socket.socket, value: T) -> None:
        """Has the kernel set it. Never waits. Raises also ``TypeError`` and ``ValueError``. See setsockopt(2)."""
        if not self.settable:
            raise OptionError(f"the option {self} can be read, but not set")
        level, this = self._numbers()
        try:
            data = self.value.encode(value)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"the option {self} {error}") from None
        try:
            sock.setsockopt(level, this, data)
        except OSError as error:
            raise self._explained(error, sock, f"set to {value!r}") from error

    def _numbers(self) -> tuple[int, int]:
        if self.number is None or self.level_number is None:
            raise OptionError(f"the option {self} does not exist on {sys.platform} (it is there on: {self.kernels})")
        return self.level_number, self.number

    def _explained(self, error: OSError, sock: socket.socket, what: str) -> OSError:
        if sock.fileno() < 0:
            return ClosedError()
        code = error.errno or 0
        return OSError(code, f"the option {self} cannot be {what}: {why(code)}")


def why(code: int) -> str:
    """What an error number of getsockopt(2) and setsockopt(2) means."""
    return _WHY.get(code, os.strerror(code))


#: the first part of a constant's name → the level that it is of
_LEVELS: Mapping[str, str] = {
    "SO": "SOL_SOCKET",
    "TCP": "SOL_TCP" if sys.platform == "linux" else "IPPROTO_TCP",
    "UDP": "SOL_UDP" if sys.platform == "linux" else "IPPROTO_UDP",
    "IP": "SOL_IP" if sys.platform == "linux" else "IPPROTO_IP",
    "IPV6": "SOL_IPV6" if sys.platform == "linux" else "IPPROTO_IPV6",
    "PACKET": "SOL_PACKET",
    "NETLINK": "SOL_NETLINK",
}
