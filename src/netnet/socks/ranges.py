"""Addresses as packed bytes: which of them are special, what a text says of them, and a table from numbers to bits.

Special is what IANA's two special-purpose registries (RFC 6890 and successors, read as of October 2025) do not call
globally reachable, and beside it multicast, deprecated ranges, and of IPv6 all outside 2000::/3, since nothing else is
global unicast (RFC 4291, section 2.4). An address that carries an IPv4 address is judged by that one. Nothing is asked
of the network here, so a public address that leads back inside by a route or a port forwarding counts as public.

An address is 4 or 16 bytes. A look-up is one binary search; ``ipaddress`` serves for reading text only.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable
from typing import Final, NamedTuple

__all__ = ["Intervals", "Network", "literal", "loopback", "network", "plain", "private", "text_of"]

_MAPPED: Final = bytes(10) + b"\xff\xff"
_LOOPBACK6: Final = bytes(15) + b"\x01"
_IPV4_BITS: Final = 0xFFFFFFFF
_DECIMAL: Final = {str(number): number for number in range(256)}


class Network(NamedTuple):
    """The addresses *first* to *last*, as numbers, of the family with addresses of so many *bits*."""

    bits: int
    first: int
    last: int

    @property
    def whole(self) -> bool:
        """Whether it is all of its family: 0.0.0.0/0 or ::/0."""
        return self.last - self.first == (1 << self.bits) - 1


class _Carrier(NamedTuple):
    """Addresses that carry IPv4 addresses, each at a *place*: how far from the right, and what it is XORed with."""

    name: str
    places: tuple[tuple[int, int], ...] = ((0, 0),)


_SPECIAL4: Final[dict[str, str | _Carrier | None]] = {
    "0.0.0.0/0": None,
    "0.0.0.0/8": "this network (RFC 791)",
    "0.0.0.0/32": "unspecified",
    "10.0.0.0/8": "private (RFC 1918)",
    "100.64.0.0/10": "carrier-grade NAT (RFC 6598)",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local",
    "172.16.0.0/12": "private (RFC 1918)",
    "192.0.0.0/24": "IETF protocol assignments (RFC 6890)",
    "192.0.0.9/32": None,  # port control anycast, RFC 7723
    "192.0.0.10/32": None,  # TURN anycast, RFC 8155
    "192.0.2.0/24": "documentation (RFC 5737)",
    "192.88.99.0/24": "6to4 relays, deprecated (RFC 7526)",
    "192.168.0.0/16": "private (RFC 1918)",
    "198.18.0.0/15": "benchmarking (RFC 2544)",
    "198.51.100.0/24": "documentation (RFC 5737)",
    "203.0.113.0/24": "documentation (RFC 5737)",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved (RFC 1112)",
    "255.255.255.255/32": "broadcast",
}

_SPECIAL6: Final[dict[str, str | _Carrier | None]] = {
    "::/0": "reserved (RFC 4291)",
    "::/96": _Carrier("IPv4-compatible"),
    "::/128": "unspecified",
    "::1/128": "loopback",
    "::ffff:0:0/96": _Carrier("IPv4-mapped"),
    "::ffff:0:0:0/96": _Carrier("IPv4-translated"),
    "64:ff9b::/96": _Carrier("NAT64"),
    # which of six places the IPv4 address stands at (RFC 6052, section 2.2), only the local operator knows
    "64:ff9b:1::/48": "NAT64 for local use (RFC 8215)",
    "100::/64": "discard-only (RFC 6666)",
    "100:0:0:1::/64": "dummy (RFC 9780)",
    "2000::/3": None,
    "2001::/23": "IETF protocol assignments (RFC 2928)",
    "2001::/32": _Carrier("Teredo", ((64, 0), (0, _IPV4_BITS))),  # the server, and the client inverted: RFC 4380
    "2001:1::1/128": None,  # port control anycast, RFC 7723
    "2001:1::2/128": None,  # TURN anycast, RFC 8155
    "2001:1::3/128": None,  # service registration anycast, RFC 9665
    "2001:2::/48": "benchmarking (RFC 5180)",
    "2001:3::/32": None,  # multicast tunnels, RFC 7450
    "2001:4:112::/48": None,  # name servers of AS112, RFC 7535
    "2001:10::/28": "ORCHID, deprecated (RFC 4843)",
    "2001:20::/28": None,  # ORCHIDv2, RFC 7343
    "2001:30::/28": None,  # drones, RFC 9374
    "2001:db8::/32": "documentation (RFC 3849)",
    "2002::/16": _Carrier("6to4", ((80, 0),)),
    "3fff::/20": "documentation (RFC 9637)",
    "5f00::/16": "segment routing (RFC 9602)",
    "fc00::/7": "unique local (RFC 4193)",
    "fe80::/10": "link-local",
    "fec0::/10": "site-local, deprecated (RFC 3879)",
    "ff00::/8": "multicast",
}


class Intervals:
    """A number → the bits of all the spans that it lies in, by one binary search however many spans there are.

    *spans* are ``(first, last, bit)``, both ends inside, *bit* a bit's number; *free* are bits that are always set.
    """

    __slots__ = ("_masks", "_starts")

    def __init__(self, spans: Iterable[tuple[int, int, int]], free: int = 0) -> None:
        self._starts, self._masks = [0], [free]
        mask, depth = free, dict[int, int]()
        for position, bit, step in sorted(_steps(spans)):
            before = depth.get(bit, 0)
            depth[bit] = before + step
            if not before or not depth[bit]:
                mask ^= 1 << bit
            self._set(position, mask)

    def _set(self, position: int, mask: int) -> None:
        """From *position* on it is *mask*."""
        if self._starts[-1] == position:
            self._masks[-1] = mask
        elif self._masks[-1] != mask:
            self._starts.append(position)
            self._masks.append(mask)

    def at(self, number: int) -> int:
        """The bits at *number*, which is not negative."""
        return self._masks[bisect_right(self._starts, number) - 1]


def _steps(spans: Iterable[tuple[int, int, int]]) -> Iterable[tuple[int, int, int]]:
    """Where each span begins, and where it has ended. Ends last, so that a span's touching parts stay one."""
    for first, last, bit in spans:
        yield first, bit, 1
        yield last + 1, bit, -1


def private(packed: bytes) -> str | None:
    """The name of the special range that an address is in; ``None``: it is public.

    *packed*: 4 or 16 bytes. "Private" is meant widely: every address that is not for everybody, loopback, link-local
    and multicast included.
    """
    number = int.from_bytes(packed, "big")
    if len(packed) == 4:
        return _NAMES4[bisect_right(_STARTS4, number) - 1]
    found = _NAMES6[bisect_right(_STARTS6, number) - 1]
    return _carried(found, number) if isinstance(found, _Carrier) else found


def _carried(carrier: _Carrier, number: int) -> str | None:
    """The name of the special range that one of the IPv4 addresses in an address is in."""
    for right, inverted in carrier.places:
        inner = (number >> right & _IPV4_BITS) ^ inverted
        name = _NAMES4[bisect_right(_STARTS4, inner) - 1]
        if name is not None:
            return f"{carrier.name}: {name}"
    return None


def loopback(packed: bytes) -> bool:
    """Whether it is one of 127.0.0.0/8, as such or IPv4-mapped, or ::1. The unspecified address is not one."""
    packed = plain(packed)
    return packed == _LOOPBACK6 or (len(packed) == 4 and packed[0] == 127)


def plain(packed: bytes) -> bytes:
    """An IPv4-mapped IPv6 address as the four bytes that it stands for; any other as it is."""
    return packed[12:] if packed.startswith(_MAPPED) else packed


def text_of(packed: bytes) -> str:
    """An address as text, for people. Not for the path of a connection."""
    return str(ipaddress.ip_address(packed))


def literal(host: str) -> bytes:
    """The packed address that *host* is, in any form that a resolver takes for one; ``b""`` if it is a name.

    Beside the canonical text these are the forms of inet_aton(3) ("127.1", "0x7f.1", "017700000001", "2130706433"),
    IPv6 in brackets or with a scope (which is lost), and a dot at the end. A request with such a host is one for an
    address: rules about names are not asked.
    """
    if ":" in host:
        return _literal6(host)
    return _literal4(host.removesuffix(".")) if host[:1].isdigit() else b""


def _literal6(host: str) -> bytes:
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        return ipaddress.IPv6Address(host).packed
    except ValueError:
        return b""


def _literal4(host: str) -> bytes:
    """One to four numbers; the last one fills all the bytes that are left (inet_aton(3))."""
    parts = host.split(".")
    if len(parts) > 4:
        return b""
    try:
        if len(parts) == 4:
            return bytes(map(_DECIMAL.__getitem__, parts))
    except KeyError:  # not the usual form, which is a fifth of the work
        pass
    try:
        *heads, tail = map(_number, parts)
        return bytes(heads) + tail.to_bytes(4 - len(heads), "big")
    except (ValueError, OverflowError):
        return b""


def _number(text: str) -> int:
    """A number as C writes it: decimal, octal after 0, hexadecimal after 0x. Raises ``ValueError``."""
    if not (text.isascii() and text.isalnum()):
        raise ValueError(text)
    if text[:2] in ("0x", "0X"):
        return int(text[2:], 16)
    return int(text, 8 if text[0] == "0" else 10)


def network(text: str) -> Network:
    """The network or the single address that *text* is. An IPv4-mapped one is the IPv4 network that it stands for.

    Raises ``ValueError`` with a message that goes on after the text: "has bits right of the mask; write 10.0.0.0/8".
    """
    address, slash, length = text.partition("/")
    if "%" in address:
        raise ValueError(f"has a scope, which does not count here; write {address.partition('%')[0]}{slash}{length}")
    try:
        packed = ipaddress.ip_address(address).packed
    except ValueError:
        raise ValueError(_no_network(text)) from None
    bits = 8 * len(packed)
    if slash and not (length.isascii() and length.isdecimal() and int(length) <= bits):
        raise ValueError(f"needs the number of bits of its mask after the slash, 0 to {bits}, as in {address}/{bits}")
    right = bits - int(length) if slash else 0
    first = int.from_bytes(packed, "big")
    if first & (1 << right) - 1:
        base = (first >> right << right).to_bytes(bits // 8, "big")
        raise ValueError(
            f"has bits right of the mask; write {text_of(base)}/{length}, or {address} for the one address"
        )
    found = Network(bits, first, first | (1 << right) - 1)
    return _ipv4_of(found) if first >> 32 == 0xFFFF and right <= 32 and bits == 128 else found


def _no_network(text: str) -> str:
    """What to tell of a text that is not the canonical one of an address."""
    packed = literal(text)
    hint = f"; write {text_of(packed)}" if packed else " (as 10.0.0.0/8, 192.0.2.1, 2001:db8::/32)"
    return f"is no address and no network{hint}"


def _ipv4_of(mapped: Network) -> Network:
    return Network(32, mapped.first & _IPV4_BITS, mapped.last & _IPV4_BITS)


def _painted(
    rows: dict[str, str | _Carrier | None],
) -> tuple[list[int], list[str | _Carrier | None]]:
    """Where each stretch of numbers begins, and what it is called: the narrowest range wins."""
    nets = [ipaddress.ip_network(text) for text in rows]
    ranges = [(int(net[0]), int(net[-1]), name) for net, name in zip(nets, rows.values(), strict=True)]
    ranges.sort(key=lambda one: one[0] - one[1])
    starts = sorted({first for first, _, _ in ranges} | {last + 1 for _, last, _ in ranges})[:-1]
    names = [next(name for first, last, name in reversed(ranges) if first <= start <= last) for start in starts]
    return starts, names


_STARTS6, _NAMES6 = _painted(_SPECIAL6)
_STARTS4, _found4 = _painted(_SPECIAL4)
#: nothing carries anything in IPv4
_NAMES4: Final = [name if isinstance(name, str) else None for name in _found4]
