"""Which name servers to ask, and how: resolv.conf(5) and the two environment variables that change it."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from netnet.errors import AddressError
from netnet.kernel.address import HostAddress, InetAddress, IPv4Address, IPv6Address, parse_address

PORT: Final = 53

#: the limits of resolv.conf(5): more servers are left out, greater numbers are cut
SERVERS_MAX: Final = 3
NDOTS_MAX: Final = 15
TIMEOUT_SECONDS_MAX: Final = 30
ATTEMPTS_MAX: Final = 5
#: suffixes tried for one name; resolv.conf(5) once had 6, and each costs a time-out where no server answers
SEARCH_MAX: Final = 16

#: what a file that is missing, or has no server, means
HERE: Final = "127.0.0.1"

Server: TypeAlias = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Conf:
    """What resolv.conf(5) says. ``timeout_seconds`` is for one try at one server, ``attempts`` how often each has its turn."""

    servers: tuple[Server, ...] = ()
    search: tuple[str, ...] = ()
    ndots: int = 1
    timeout_seconds: float = 5.0
    attempts: int = 2
    rotate: bool = False
    use_tcp: bool = False
    single_request: bool = False


def server_address(told: str | InetAddress) -> Server:
    """A name server: ``"127.0.0.1"``, ``"127.0.0.1:5353"``, ``"::1"``, ``"[fe80::1%eth0]:5353"``, or a typed address.

    The port is 53 unless it is told. Raises ``AddressError`` for anything else, a name included.
    """
    address = told if isinstance(told, InetAddress) else _bare(told) or parse_address(told)
    if not isinstance(address, (IPv4Address, IPv6Address)):
        raise AddressError(f"{told!r}: a name server is told by its IP address, with or without a port")
    return address


def _bare(told: str) -> Server | None:
    """An IP address without a port; with or without brackets."""
    host = told[1:-1] if told[:1] == "[" and told[-1:] == "]" else told
    try:
        address = InetAddress(host, PORT)
    except AddressError:
        return None
    return None if isinstance(address, HostAddress) else address  # type: ignore[return-value]


def read_conf(text: str) -> Conf:
    """The text of a resolv.conf file. What is unknown or cannot be read is left out, as resolv.conf(5) readers do."""
    servers: list[Server] = []
    search: tuple[str, ...] | None = None
    conf = Conf()
    for line in text.splitlines():
        keyword, *values = line.split() if line[:1] not in "#;" else [""]
        if keyword == "nameserver" and values and len(servers) < SERVERS_MAX:
            server = _bare(values[0])
            servers += [] if server is None else [server]
        elif keyword in ("search", "domain"):  # the last one counts
            search = _suffixes(values if keyword == "search" else values[:1])
        elif keyword == "options":
            conf = with_options(conf, values)
    if "LOCALDOMAIN" in os.environ:
        search = _suffixes(os.environ["LOCALDOMAIN"].split())
    conf = with_options(conf, os.environ.get("RES_OPTIONS", "").split())
    return dataclasses.replace(
        conf,
        servers=tuple(servers) or (IPv4Address(HERE, PORT),),
        search=_own_domain() if search is None else search,
    )


def with_options(conf: Conf, options: Iterable[str]) -> Conf:
    """*conf* with the words of an ``options`` line."""
    for option in options:
        keyword, _, value = option.partition(":")
        if keyword in _SWITCHES:
            conf = dataclasses.replace(conf, **{_SWITCHES[keyword]: True})  # type: ignore[arg-type]
        elif keyword in _NUMBERS and value.isdecimal() and value.isascii():
            field, low, high = _NUMBERS[keyword]
            conf = dataclasses.replace(conf, **{field: min(max(low, int(value[:9])), high)})  # type: ignore[arg-type]
    return conf


#: EDNS is always in use, so ``edns0`` changes nothing
_SWITCHES: Final = {
    "rotate": "rotate",
    "use-vc": "use_tcp",
    "single-request": "single_request",
    "single-request-reopen": "single_request",
}
_NUMBERS: Final[dict[str, tuple[str, int, int]]] = {
    "ndots": ("ndots", 0, NDOTS_MAX),
    "timeout": ("timeout_seconds", 1, TIMEOUT_SECONDS_MAX),
    "attempts": ("attempts", 1, ATTEMPTS_MAX),
}


def _suffixes(words: Iterable[str]) -> tuple[str, ...]:
    """The suffixes of a search list, without dots around them; the root alone is none."""
    stripped = (word.strip(".").lower() for word in words)
    return tuple(word for word in stripped if word and word.isascii())[:SEARCH_MAX]


def _own_domain() -> tuple[str, ...]:
    """The search list where none is told: what comes after the first dot of this machine's name."""
    return _suffixes([socket.gethostname().partition(".")[2]])


def candidates(name: str, conf: Conf, fits: Callable[[str], bool]) -> list[str]:
    """The names to ask for in turn, for *name*: as it is, and with each suffix of the search list.

    An end dot means as it is and nothing else. Those that *fits* refuses (too long, with their suffix) are left out.
    """
    if name.endswith("."):
        return [name[:-1]]
    searched = [whole for suffix in conf.search if fits(whole := f"{name}.{suffix}")]
    return [name, *searched] if name.count(".") >= conf.ndots else [*searched, name]
