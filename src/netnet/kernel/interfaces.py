"""The machine's network interfaces: names, indexes, flags, MTU, hardware and IP addresses.

Linux is asked by rtnetlink(7), which tells all in two dumps; the kernel has each dump ready when it is asked for, so
nothing here waits. Other kernels tell names and indexes only (``if_nameindex``).
"""

from __future__ import annotations

import enum
import errno
import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass


class InterfaceFlags(enum.IntFlag):
    """The state of an interface. See netdevice(7), ``SIOCGIFFLAGS``."""

    UP = 1 << 0
    BROADCAST = 1 << 1
    DEBUG = 1 << 2
    LOOPBACK = 1 << 3
    POINTOPOINT = 1 << 4
    NOTRAILERS = 1 << 5
    RUNNING = 1 << 6
    NOARP = 1 << 7
    PROMISC = 1 << 8
    ALLMULTI = 1 << 9
    MASTER = 1 << 10
    SLAVE = 1 << 11
    MULTICAST = 1 << 12
    PORTSEL = 1 << 13
    AUTOMEDIA = 1 << 14
    DYNAMIC = 1 << 15
    LOWER_UP = 1 << 16
    DORMANT = 1 << 17
    ECHO = 1 << 18


NO_FLAGS = InterfaceFlags(0)


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """An IP address of an interface, with its network, and its *broadcast* address if it has one.

    On a point-to-point link the network is that of the *peer*, and the own address stands alone (``/32``, ``/128``).
    """

    address: ipaddress.IPv4Interface | ipaddress.IPv6Interface
    broadcast: ipaddress.IPv4Address | None = None
    peer: ipaddress.IPv4Interface | ipaddress.IPv6Interface | None = None

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        """The address alone."""
        return self.address.ip

    @property
    def prefix_length(self) -> int:
        """How many bits tell the network."""
        return self.address.network.prefixlen

    @property
    def netmask(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        """The same as a mask."""
        return self.address.netmask

    def __str__(self) -> str:
        return str(self.address)


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface. *mtu* is in bytes, *hardware_address* as in ``"02:fc:00:00:00:01"``, ``""`` where it has none."""

    name: str
    index: int
    flags: InterfaceFlags = NO_FLAGS
    mtu: int = 0
    hardware_address: str = ""
    addresses: tuple[InterfaceAddress, ...] = ()

    def of_family(self, family: int) -> list[InterfaceAddress]:
        """Its addresses of one family, ``AF_INET`` or ``AF_INET6``."""
        version = {int(socket.AF_INET): 4, int(socket.AF_INET6): 6}.get(int(family))
        return [one for one in self.addresses if one.ip.version == version]


def interfaces() -> dict[str, Interface]:
    """The interfaces of this machine (of this network namespace), by name, in order of their indexes.

    Never waits. Raises ``OSError`` where the kernel does not tell. See rtnetlink(7), if_nameindex(3).
    """
    platform: str = sys.platform
    if platform != "linux":
        return {name: Interface(name, index) for index, name in socket.if_nameindex()}
    for _ in range(_TRIES):
        try:
            links, found = _dump(_GETLINK), _dump(_GETADDR)
            break
        except _ChangedMeanwhile:
            continue
    else:
        raise OSError(errno.EBUSY, "the interfaces changed each time they were asked for")
    addresses: dict[int, list[InterfaceAddress]] = {}
    for index, address in filter(None, map(_address, found)):
        addresses.setdefault(index, []).append(address)
    told = sorted(map(_link, links))
    return {
        name: Interface(name, index, flags, mtu, hardware, tuple(addresses.get(index, ())))
        for index, name, flags, mtu, hardware in told
    }


# -- rtnetlink(7)

_GETLINK, _GETADDR = 18, 22
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_INTERRUPTED = 0x10  # NLM_F_DUMP_INTR
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")

#: how often it is asked again when the interfaces changed while they were told
_TRIES = 8


class _ChangedMeanwhile(Exception):
    """The kernel says that a dump may be inconsistent."""


def _dump(kind: int) -> list[bytes]:
    """The bodies of the messages that answer a dump request."""
    bodies: list[bytes] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as sock:
        sock.setblocking(False)
        sock.bind((0, 0))
        sock.sendto(_HEADER.pack(_HEADER.size + 16, kind, _DUMP, 1, 0) + bytes(16), (0, 0))
        while True:
            data = sock.recv(1 << 16)
            for type, flags, body in _messages(data):
                if flags & _INTERRUPTED:
                    raise _ChangedMeanwhile
                if type == _DONE:
                    return bodies
                if type == _ERROR:
                    code = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else errno.EIO
                    raise OSError(code, f"the interfaces cannot be asked for: {os.strerror(code)}")
                bodies.append(body)


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    while len(data) >= _HEADER.size:
        size, type, flags, _, _ = _HEADER.unpack_from(data)
        if size < _HEADER.size:
            return
        yield type, flags, data[_HEADER.size : size]
        data = data[size + 3 & ~3 :]


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        size, type = struct.unpack_from("=HH", data)
        if size < 4:
            break
        found[type & 0x3FFF] = data[4:size]
        data = data[size + 3 & ~3 :]
    return found


def _link(body: bytes) -> tuple[int, str, InterfaceFlags, int, str]:
    """Index, name, flags, MTU and hardware address."""
    _, hardware_type, index, flags, _ = _LINK.unpack_from(body)
    has = _attributes(body[_LINK.size :])
    name = has.get(3, b"").rstrip(b"\0").decode(errors="surrogateescape")
    mtu = int.from_bytes(has.get(4, b""), sys.byteorder)
    ethernet_like = hardware_type not in (
        512,
        768,
        769,
        776,
        778,
        823,
        65534,
    )  # PPP, tunnels: what stands there is no MAC
    return index, name, InterfaceFlags(flags), mtu, has.get(1, b"").hex(":") if ethernet_like else ""


def _address(body: bytes) -> tuple[int, InterfaceAddress] | None:
    family, prefix, _, _, index = _ADDRESS.unpack_from(body)
    has = _attributes(body[_ADDRESS.size :])
    far, near, broadcast = has.get(1), has.get(2), has.get(4)
    own = near or far  # IFA_LOCAL; IPv6 tells IFA_ADDRESS alone
    if own is None or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    peer = ipaddress.ip_interface((far, prefix)) if far and far != own else None
    address = ipaddress.ip_interface((own, len(own) * 8 if peer else prefix))
    towards = ipaddress.IPv4Address(broadcast) if broadcast and family == socket.AF_INET else None
    return index, InterfaceAddress(address, towards, peer)
