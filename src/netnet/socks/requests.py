"""What a client can ask of a proxy, and what it can be told: the words that all the protocols have in common. No I/O.

The numbers are those of SOCKS5 (RFC 1928, sections 4 and 6). What SOCKS4 and HTTP say instead stands in the tables of
``socks4`` and ``http``.
"""

from __future__ import annotations

import errno
import functools
import ipaddress
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

#: addresses whose text is kept: most connections go to a few
ADDRESSES_KEPT: Final = 1024


class Command(IntEnum):
    """What the client wants."""

    CONNECT = 1  #: a connection to a target
    BIND = 2  #: one connection from a target
    ASSOCIATE = 3  #: datagrams to and from any number of targets


class Outcome(IntEnum):
    """How that went."""

    GRANTED = 0
    FAILED = 1  #: none of those below
    DENIED = 2  #: the rules do not allow it
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4  #: also: the name has no address
    REFUSED = 5
    TIMED_OUT = 6  #: RFC 1928 calls it "TTL expired"; nobody sees that of TCP, and Tor uses it for time-outs as well
    COMMAND_UNSUPPORTED = 7
    ADDRESS_UNSUPPORTED = 8


#: what the error of a connection attempt means to the client
OUTCOME_OF_ERRNO: Final[dict[int, Outcome]] = {
    errno.ECONNREFUSED: Outcome.REFUSED,
    errno.ECONNRESET: Outcome.REFUSED,
    errno.ENETUNREACH: Outcome.NETWORK_UNREACHABLE,
    errno.ENETDOWN: Outcome.NETWORK_UNREACHABLE,
    errno.EADDRNOTAVAIL: Outcome.NETWORK_UNREACHABLE,
    errno.EAFNOSUPPORT: Outcome.ADDRESS_UNSUPPORTED,
    errno.EHOSTUNREACH: Outcome.HOST_UNREACHABLE,
    errno.EHOSTDOWN: Outcome.HOST_UNREACHABLE,
    errno.ETIMEDOUT: Outcome.TIMED_OUT,
    errno.EACCES: Outcome.DENIED,
    errno.EPERM: Outcome.DENIED,
}


@dataclass(slots=True)
class Request:
    """A client's request, in whatever protocol it came.

    *host* is an IP address in its canonical text, or a name; *packed* are the bytes of the address, empty for a name.
    With BIND it is the peer that is expected, with ASSOCIATE where the client will send from, as far as it says.
    """

    command: Command
    host: str
    port: int
    packed: bytes = b""
    user_id: bytes = b""  #: what a SOCKS4 client calls itself; nobody vouches for it

    @property
    def named(self) -> bool:
        """Whether *host* is a name."""
        return not self.packed

    def __str__(self) -> str:
        return target_text(self.host, self.port)


def target_text(host: str, port: int) -> str:
    """A host and a port as one writes them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@functools.lru_cache(maxsize=ADDRESSES_KEPT)
def known_address(packed: bytes) -> tuple[bytes, str]:
    """The bytes of an address, 4 or 16, and its usual text: the same objects each time, which connections share."""
    if len(packed) == 4:
        return packed, "%d.%d.%d.%d" % tuple(packed)  # noqa: UP031  # half the time of the other forms
    return packed, str(ipaddress.IPv6Address(packed))


def address_text(packed: bytes) -> str:
    """The usual text of an address of 4 or 16 bytes."""
    return known_address(packed)[1]
