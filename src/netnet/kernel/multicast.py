"""Multicast, the same way for IPv4 and IPv6: groups by address, interfaces by name, index or address.

Joining and leaving go by the protocol-independent calls of RFC 3678 (``MCAST_JOIN_GROUP`` ...). ip(7), ipv6(7).
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Mapping
from typing import Final

from netnet.errors import AddressError, ClosedError, OptionError
from netnet.kernel.address import INET, InetAddress, InetSocketAddress, IPv4Address, IPv6Address
from netnet.kernel.interfaces import Interface, interfaces
from netnet.kernel.numbers import number
from netnet.kernel.options import SocketOptions
from netnet.kernel.values import interface_index, write_sockaddr

#: an interface as a caller may tell it: name, index, one of its addresses, or as ``interfaces`` tells it
WhichInterface = str | int | Interface | None

#: family → the options for the hops, loop and all of what is sent
_HOPS: Final = {IPv4Address.family: SocketOptions.multicast_ttl, IPv6Address.family: SocketOptions.ipv6_multicast_hops}
_LOOP: Final = {IPv4Address.family: SocketOptions.multicast_loop, IPv6Address.family: SocketOptions.ipv6_multicast_loop}
_ALL: Final = {IPv4Address.family: SocketOptions.multicast_all, IPv6Address.family: SocketOptions.ipv6_multicast_all}

_WHY: Final[Mapping[int, str]] = {
    errno.EADDRINUSE: "the socket is a member already",
    errno.EADDRNOTAVAIL: "the socket is no member of it, or the source is not among its sources, or is there already",
    errno.ENODEV: "there is no such interface, or no route tells one: name the interface",
    errno.ENOBUFS: "the socket has as many memberships or sources as the system allows (net.ipv4.igmp_max_...)",
    errno.EINVAL: "the socket is a member in the other way (with or without sources), or the group does not fit",
}


class Multicast:
    """The multicast side of a datagram or raw socket: ``sock.multicast``. Nothing here waits.

    *group* and *source* are IP addresses as text or of ``ipaddress``. *interface* is a name, an index, one of its
    addresses, or ``None``: the one that the kernel's routes tell. A wrong family or type of socket is an ``OSError``
    (``EAFNOSUPPORT``, ``ESOCKTNOSUPPORT``), a group that is none an ``AddressError``.
    """

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    # -- groups

    def join(self, group: object, interface: WhichInterface = None, *, source: object = None) -> None:
        """Receives what is sent to *group*; with *source*, only what that host sends (again for each further source)."""
        self._change("join", "MCAST_JOIN_GROUP", "MCAST_JOIN_SOURCE_GROUP", group, interface, source)

    def leave(self, group: object, interface: WhichInterface = None, *, source: object = None) -> None:
        """Ends a membership; with *source*, only that source of it."""
        self._change("leave", "MCAST_LEAVE_GROUP", "MCAST_LEAVE_SOURCE_GROUP", group, interface, source)

    def block(self, group: object, source: object, interface: WhichInterface = None) -> None:
        """Of a group that was joined, no longer receives what *source* sends."""
        self._change("block a source of", "", "MCAST_BLOCK_SOURCE", group, interface, source)

    def unblock(self, group: object, source: object, interface: WhichInterface = None) -> None:
        """Takes ``block`` back."""
        self._change("unblock a source of", "", "MCAST_UNBLOCK_SOURCE", group, interface, source)

    def _change(
        self, what: str, plain: str, with_source: str, group: object, interface: WhichInterface, source: object
    ) -> None:
        family = self._family()
        where = self._address(group, what)
        if not where.ip.is_multicast:
            raise AddressError(f"cannot {what} {where.host}: it is no multicast group")
        name = with_source if source is not None or not plain else plain
        level = socket.IPPROTO_IP if family == socket.AF_INET else socket.IPPROTO_IPV6
        this = number(name)
        if this is None:
            raise OptionError(f"cannot {what} {where.host}: {name} does not exist on this system")
        request = struct.pack("@I0l", self._index(interface) or _scope(where)) + _storage(where)
        text = f"group {where.host}"
        if name is with_source:
            sender = self._address(source, what)
            if sender.ip.is_multicast:
                raise AddressError(f"cannot {what} {where.host}: the source {sender.host} is a group")
            request += _storage(sender)
            text += f" with source {sender.host}"
        try:
            self._sock.setsockopt(level, this, request)
        except OSError as error:
            code = error.errno or 0
            raise OSError(code, f"cannot {what} {text}: {_WHY.get(code, os.strerror(code))}") from error

    # -- sending

    @property
    def interface(self) -> str | int | None:
        """The interface that what is sent leaves by, as its name; ``None``: as the routes tell.

        Set it by name, index or address. IPv4 tells it by address only: where several interfaces share the address,
        the first is named; one that has no IPv4 address cannot be told and reads as ``None``.
        """
        if self._family() == socket.AF_INET6:
            return SocketOptions.ipv6_multicast_if.get(self._sock)
        ip = ipaddress.IPv4Address(SocketOptions.multicast_if.get(self._sock))
        found = None if ip.is_unspecified else _with_address(ip)
        return None if found is None else found.name

    @interface.setter
    def interface(self, which: WhichInterface) -> None:
        family, index = self._family(), self._index(which)
        if family == socket.AF_INET6:
            SocketOptions.ipv6_multicast_if.set(self._sock, index)
            return
        if isinstance(which, str) and isinstance(told := InetAddress(which, 0), IPv4Address):
            address = told.host
        else:
            address = _first_address(index) if index else "0.0.0.0"
        request = struct.pack("@4s4si", bytes(4), socket.inet_aton(address), index)
        try:
            self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            raise OSError(errno.ENODEV, f"the interface for multicast cannot be set: there is no {which!r}") from error

    @property
    def hops(self) -> int:
        """How many hops what is sent may take: 0 stays on this machine, 1 on this network (the default)."""
        return _HOPS[self._family()].get(self._sock)

    @hops.setter
    def hops(self, count: int) -> None:
        _HOPS[self._family()].set(self._sock, count)

    @property
    def loop(self) -> bool:
        """Whether what is sent also reaches this machine."""
        return _LOOP[self._family()].get(self._sock)

    @loop.setter
    def loop(self, on: bool) -> None:
        _LOOP[self._family()].set(self._sock, on)

    @property
    def all(self) -> bool:
        """Whether the socket gets what goes to any group that someone on this machine has joined (Linux's default)."""
        return _ALL[self._family()].get(self._sock)

    @all.setter
    def all(self, on: bool) -> None:
        _ALL[self._family()].set(self._sock, on)

    # -- what stands behind

    def _family(self) -> int:
        """The socket's family, if it can do multicast."""
        if self._sock.fileno() < 0:
            raise ClosedError
        family = int(self._sock.family)
        if family not in INET:
            raise OSError(errno.EAFNOSUPPORT, "multicast needs an IPv4 or IPv6 socket")
        if self._sock.type not in (socket.SOCK_DGRAM, socket.SOCK_RAW):
            raise OSError(errno.ESOCKTNOSUPPORT, "multicast needs a datagram or raw socket, and this is a stream")
        return family

    def _address(self, value: object, what: str) -> InetSocketAddress:
        """*value* as an address of the socket's family."""
        ipv6 = self._family() == socket.AF_INET6
        try:
            text = str(value) if isinstance(value, (ipaddress.IPv4Address, ipaddress.IPv6Address)) else value
            if not isinstance(text, str):
                raise TypeError(f"cannot {what} {value!r}: a group or a source is an IP address as text")
            ip = ipaddress.ip_address(text)
        except ValueError:
            raise AddressError(f"cannot {what} {value!r}: it is no IP address") from None
        if (ip.version == 6) is not ipv6:
            kind = "IPv6" if ipv6 else "IPv4"
            raise OSError(errno.EAFNOSUPPORT, f"cannot {what} {value}: the socket is {kind}, the address is not")
        return IPv6Address(text, 0) if ipv6 else IPv4Address(text, 0)

    def _index(self, which: WhichInterface) -> int:
        """The index of an interface that is told in any way; 0 for none."""
        if isinstance(which, Interface):
            return which.index
        if isinstance(which, str):
            try:
                ip = ipaddress.ip_address(which)
            except ValueError:
                return interface_index(which)
            if isinstance(ip, ipaddress.IPv6Address) and ip.scope_id is not None:
                zone = ip.scope_id
                return interface_index(int(zone) if zone.isascii() and zone.isdigit() else zone)
            found = _with_address(ip)
            if found is not None:
                return found.index
            raise ValueError(f"no interface has the address {which}")
        return interface_index(which)


def _scope(address: InetSocketAddress) -> int:
    """The interface that a group names itself: ``ff02::1%eth0``."""
    return address.scope if isinstance(address, IPv6Address) else 0


def _storage(address: InetSocketAddress) -> bytes:
    """A ``struct sockaddr_storage``."""
    return write_sockaddr(address).ljust(128, b"\0")


def _first_address(index: int) -> str:
    for interface in interfaces().values():
        if interface.index == index:
            return next((str(one.ip) for one in interface.of_family(socket.AF_INET)), "0.0.0.0")
    return "0.0.0.0"


def _with_address(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Interface | None:
    """The first interface that has the address."""
    return next((each for each in interfaces().values() if any(one.ip == ip for one in each.addresses)), None)
