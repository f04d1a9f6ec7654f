"""Which address to try first: destination address selection, RFC 6724, section 6.

The source address that the kernel would use, and whether there is a route at all, are learnt by connecting a UDP socket:
that sends nothing and never waits. Rules 1 (avoid unusable destinations), 2 (matching scope), 5 (matching label),
6 (precedence), 8 (smaller scope) and 9 (longest matching prefix, IPv6 only, up to 64 bits) are applied, with the default
policy table. Rules 3, 4 and 7 (deprecated, home and encapsulated addresses) are not: no portable call tells. What is
equal stays in the order in which it came (rule 10), so that a server's own rotation is kept.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import Final, NamedTuple

from netnet.net.hosts import sockaddr_of

#: RFC 6724, section 2.1: prefix, precedence, label
_POLICY: Final = [
    (ipaddress.IPv6Network(prefix), precedence, label)
    for prefix, precedence, label in (
        ("::1/128", 50, 0),
        ("::ffff:0:0/96", 35, 4),
        ("2002::/16", 30, 2),
        ("2001::/32", 5, 5),
        ("fc00::/7", 3, 13),
        ("::/96", 1, 3),
        ("fec0::/10", 1, 11),
        ("3ffe::/16", 1, 12),
        ("::/0", 40, 1),
    )
]
_MULTICAST: Final = ipaddress.IPv6Network("ff00::/8")
_LINK_LOCAL: Final = ipaddress.IPv6Network("fe80::/10")
_SITE_LOCAL: Final = ipaddress.IPv6Network("fec0::/10")
#: 127/8 and 169.254/16 as mapped addresses: link-local scope, section 3.2
_LINK_LOCAL_IPV4: Final = [ipaddress.IPv6Network(f"::ffff:{net}") for net in ("127.0.0.0/104", "169.254.0.0/112")]

_SCOPE_LINK_LOCAL: Final = 2
_SCOPE_SITE_LOCAL: Final = 5
_SCOPE_GLOBAL: Final = 14
_PREFIX_BITS_MAX: Final = 64
_SOME_PORT: Final = 53


class _Merit(NamedTuple):
    """What an address is compared by; the least comes first."""

    unusable: bool
    scope_differs: bool
    label_differs: bool
    minus_precedence: int
    scope: int
    minus_prefix_bits: int


def ordered(addresses: Sequence[str]) -> tuple[str, ...]:
    """IP addresses in the order in which they should be tried. Opens a socket for each; does not wait."""
    if len(addresses) < 2:
        return tuple(addresses)
    return tuple(sorted(addresses, key=lambda address: merit(address, source_of(address))))


def source_of(address: str) -> str | None:
    """The address of this machine that packets to *address* would carry; ``None`` where there is no way to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(sockaddr_of(address, _SOME_PORT))
            return str(sock.getsockname()[0])
    except OSError:
        return None


def merit(address: str, source: str | None) -> _Merit:
    """How *address* compares to others, if packets to it carry *source*."""
    target = _as_ipv6(address)
    precedence, label = _policy(target)
    scope = _scope(target)
    if source is None:
        return _Merit(True, True, True, -precedence, scope, 0)
    own = _as_ipv6(source)
    prefix = _common_bits(target, own) if ":" in address else 0
    return _Merit(False, scope != _scope(own), label != _policy(own)[1], -precedence, scope, -prefix)


def _as_ipv6(address: str) -> ipaddress.IPv6Address:
    bare = address.partition("%")[0]
    return ipaddress.IPv6Address(bare if ":" in bare else f"::ffff:{bare}")


def _policy(address: ipaddress.IPv6Address) -> tuple[int, int]:
    """Precedence and label: those of the longest prefix that fits."""
    _, precedence, label = max((row for row in _POLICY if address in row[0]), key=lambda row: row[0].prefixlen)
    return precedence, label


def _scope(address: ipaddress.IPv6Address) -> int:
    """Section 3.1: of multicast addresses it stands in the address."""
    if address in _MULTICAST:
        return address.packed[1] & 0x0F
    if address in _LINK_LOCAL or address.is_loopback or any(address in net for net in _LINK_LOCAL_IPV4):
        return _SCOPE_LINK_LOCAL
    return _SCOPE_SITE_LOCAL if address in _SITE_LOCAL else _SCOPE_GLOBAL


def _common_bits(one: ipaddress.IPv6Address, other: ipaddress.IPv6Address) -> int:
    return min(_PREFIX_BITS_MAX, 128 - (int(one) ^ int(other)).bit_length())
