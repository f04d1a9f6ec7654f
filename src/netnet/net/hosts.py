"""Names to addresses from a table: hosts(5), and the standard shape (getaddrinfo(3), getnameinfo(3)) around any look-up.

``address_info`` and ``name_info`` do all about a look-up but the look itself: IP addresses, services, socket types and
the flags, most of it by asking the C library about an IP address, which it answers by itself. The look is a function
that they are handed. ``Table`` holds names and addresses, ``Watched`` reads a file again when it has changed. Nothing
here waits, and nothing asks a name server: that is in ``dns``.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

from netnet.kernel.address import IPv4Address, IPv6Address

T = TypeVar("T")

Host: TypeAlias = str | bytes | None
Service: TypeAlias = str | bytes | int | None
Sockaddr: TypeAlias = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
#: family, type, protocol, canonical name, address: one result of ``socket.getaddrinfo``
Entry: TypeAlias = tuple[int, int, int, str, Sockaddr]

#: octets that a name may have, written with dots and without the last one (RFC 1035, section 2.3.4)
NAME_OCTETS_MAX: Final = 253
LABEL_OCTETS_MAX: Final = 63
#: lines of a hosts file that are read; those who block advertisers by it have some hundred thousand
LINES_MAX: Final = 1_000_000
#: how often at most a file is looked at whether it has changed
LOOK_SECONDS: Final = 1.0

_FAMILIES: Final = (int(socket.AF_INET), int(socket.AF_INET6))
_LOOPBACK: Final = {int(socket.AF_INET): "127.0.0.1", int(socket.AF_INET6): "::1"}

EAI_NODATA: Final = int(getattr(socket, "EAI_NODATA", socket.EAI_NONAME))

_REASONS: Final = {
    EAI_NODATA: "the name has no such address",
    socket.EAI_NONAME: "the name or service is not known",
    socket.EAI_AGAIN: "no name server answered; try again later",
    socket.EAI_FAIL: "the name servers' answer is of no use",
    socket.EAI_FAMILY: "look-ups know IPv4 and IPv6 only",
    socket.EAI_BADFLAGS: "these flags are not known, or do not fit together",
}

_NUMERICHOST: Final = int(socket.AI_NUMERICHOST)
_V4MAPPED: Final = int(getattr(socket, "AI_V4MAPPED", 0))
_ALL: Final = int(getattr(socket, "AI_ALL", 0))
_ADDRCONFIG: Final = int(getattr(socket, "AI_ADDRCONFIG", 0))
_HONOURED: Final = (
    _NUMERICHOST
    | _V4MAPPED
    | _ALL
    | _ADDRCONFIG
    | int(socket.AI_PASSIVE | socket.AI_CANONNAME | getattr(socket, "AI_NUMERICSERV", 0))
)
_NI_NUMERIC: Final = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
_NI_HONOURED: Final = _NI_NUMERIC | socket.NI_NAMEREQD | socket.NI_DGRAM | socket.NI_NOFQDN

_HOST_NAME: Final = re.compile(r"[a-z0-9_][a-z0-9_-]*(?:\.[a-z0-9_][a-z0-9_-]*)*", re.IGNORECASE)


class Found(NamedTuple):
    """What a look at a name has found: its canonical name and its addresses, as text, in the order to try them."""

    canonical: str
    addresses: tuple[str, ...]


#: looks a name (lower case, an end dot if it had one) up in some families; raises ``gaierror`` when there is nothing
Find: TypeAlias = Callable[[str, tuple[int, ...]], Found]


def failure(code: int, what: str, reason: str = "") -> socket.gaierror:
    """The error of a look-up that failed: *what* was looked up, and why it failed."""
    return socket.gaierror(code, f"{what}: {reason or _REASONS[code]}")


# -- names and addresses as text


def is_address(host: str | bytes) -> bool:
    """Whether *host* is an IP address in a form that the C library reads, ``127.1`` and ``fe80::1%lo`` included."""
    try:
        socket.getaddrinfo(host, None, 0, socket.SOCK_STREAM, 0, _NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        return False
    return True


def family_of_text(address: str) -> int:
    """The family of an IP address in text."""
    return int(socket.AF_INET6 if ":" in address else socket.AF_INET)


def same_form(address: str) -> str:
    """An IP address in the one form that all are compared in. Raises ``ValueError`` for anything else."""
    bare, percent, scope = address.partition("%")
    family = family_of_text(bare)
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, bare)) + percent + scope
    except OSError:
        raise ValueError(f"{address!r} is no IP address") from None


def is_loopback(address: str) -> bool:
    """Whether an IP address in text is this machine's own."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def is_link_local(address: str) -> bool:
    """Whether an IP address in text is good on one link only."""
    return ipaddress.ip_address(address.partition("%")[0]).is_link_local


def as_name(host: str | bytes) -> str:
    """*host* as it is looked up: in ASCII (IDNA as the standard library does it) and lower case.

    An end dot stays. Raises ``gaierror`` (``EAI_NONAME``) for what no name can be.
    """
    try:
        name = (host.encode("idna") if isinstance(host, str) else bytes(host)).decode("ascii").lower()
    except UnicodeError as error:
        raise failure(socket.EAI_NONAME, repr(host), f"this cannot be a name: {error}") from None
    bare = name.removesuffix(".")
    if "\0" in name or len(bare) > NAME_OCTETS_MAX:
        reason = f"a name has no NUL, and {NAME_OCTETS_MAX} octets at most"
        raise failure(socket.EAI_NONAME, repr(host), reason)
    if not all(0 < len(label) <= LABEL_OCTETS_MAX for label in bare.split(".")):
        reason = f"between its dots a name has 1 to {LABEL_OCTETS_MAX} octets"
        raise failure(socket.EAI_NONAME, repr(host), reason)
    return name


def is_host_name(name: str) -> bool:
    """Whether *name* is one of a host: letters, digits, ``-`` and ``_`` (RFC 952, RFC 1123; ``_`` since it is in use)."""
    return _HOST_NAME.fullmatch(name.removesuffix(".")) is not None


# -- the standard shape


def address_info(
    find: Find, host: Host, service: Service, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
) -> list[Entry]:
    """getaddrinfo(3) around *find*, which is asked for names only.

    The C library answers what has an IP address or no host at all, and tells the types and the port of the service;
    both are local. Raises ``gaierror`` with its codes, ``EAI_BADFLAGS`` for flags that are not among the ones of RFC 3493.
    """
    if flags & ~_HONOURED:
        raise failure(socket.EAI_BADFLAGS, repr(host))
    if family not in (0, *_FAMILIES):
        raise failure(socket.EAI_FAMILY, repr(host))
    if host is None:
        return list(socket.getaddrinfo(None, service, family, type, proto, flags))
    if is_address(host):
        return list(socket.getaddrinfo(host, service, family, type, proto, flags | _NUMERICHOST))
    kinds = _kinds(service, type, proto, flags)
    if not host or flags & _NUMERICHOST:
        raise failure(socket.EAI_NONAME, repr(host), "this is no IP address")
    name = as_name(host)
    found = find(name, _to_ask(family, flags, name))
    addresses = _wanted(found.addresses, family, flags)
    if not addresses:
        raise failure(EAI_NODATA, name)
    entries = [
        (*kind[:3], "", sockaddr_of(address, kind[3])) for address in addresses for kind in _with_family(address, kinds)
    ]
    if flags & socket.AI_CANONNAME:
        entries[0] = (*entries[0][:3], found.canonical, entries[0][4])
    return entries


def _kinds(service: Service, type: int, proto: int, flags: int) -> list[tuple[int, int, int]]:
    """Type, protocol and port of each socket that *service* can be reached by."""
    flags = _NUMERICHOST | (flags & getattr(socket, "AI_NUMERICSERV", 0))
    found = socket.getaddrinfo("127.0.0.1", service, socket.AF_INET, type, proto, flags)
    return [(kind, number, int(sockaddr[1])) for _, kind, number, _, sockaddr in found]


def _with_family(address: str, kinds: list[tuple[int, int, int]]) -> list[tuple[int, int, int, int]]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return [(family, *kind) for kind in kinds]


def _to_ask(family: int, flags: int, name: str) -> tuple[int, ...]:
    """The families to look in."""
    wanted: tuple[int, ...] = (family,) if family else _FAMILIES
    if family == socket.AF_INET6 and flags & _V4MAPPED:
        wanted = _FAMILIES
    if not flags & _ADDRCONFIG:
        return wanted
    there = tuple(one for one in wanted if _is_configured(one))
    if there:
        return there
    if not family:
        return wanted  # a machine without any network asks for both, as the C library does
    raise failure(socket.EAI_NONAME, name, "this machine has no address of that family (AI_ADDRCONFIG)")


def _is_configured(family: int) -> bool:
    """Whether this machine has an address of *family*, by the C library's own notion."""
    try:
        socket.getaddrinfo(_LOOPBACK[family], None, family, socket.SOCK_STREAM, 0, _NUMERICHOST | _ADDRCONFIG)
    except socket.gaierror:
        return False
    return True


def _wanted(addresses: tuple[str, ...], family: int, flags: int) -> list[str]:
    """The addresses to hand out: in the family, those of IPv4 mapped into IPv6 where the flags say so."""
    fitting = [address for address in addresses if family in (0, family_of_text(address))]
    if family != socket.AF_INET6 or not flags & _V4MAPPED or (fitting and not flags & _ALL):
        return fitting
    return [address if ":" in address else f"::ffff:{address}" for address in addresses]


def sockaddr_of(address: str, port: int) -> Sockaddr:
    if ":" not in address:
        return (address, port)
    if "%" not in address:
        return (address, port, 0, 0)
    found = socket.getaddrinfo(address, port, socket.AF_INET6, socket.SOCK_STREAM, 0, _NUMERICHOST)
    return found[0][4]


def name_info(
    name_of: Callable[[str], str | None], sockaddr: Sockaddr, flags: int, domain: str = ""
) -> tuple[str, str]:
    """getnameinfo(3) around *name_of*, which is asked for the name of an IP address and may not know it.

    *domain* is what ``NI_NOFQDN`` takes off a name. Raises ``gaierror``: ``EAI_NONAME`` where a name is required and
    there is none, or where *sockaddr* holds no IP address; ``EAI_BADFLAGS``; what *name_of* raises.
    """
    if flags & ~_NI_HONOURED:
        raise failure(socket.EAI_BADFLAGS, repr(sockaddr))
    local = socket.NI_NUMERICHOST | (flags & (socket.NI_NUMERICSERV | socket.NI_DGRAM))
    address, service = socket.getnameinfo(sockaddr, local)
    required = flags & socket.NI_NAMEREQD
    name = None if flags & socket.NI_NUMERICHOST else name_of(address)
    if name is None:
        if required:
            raise failure(socket.EAI_NONAME, address, "the address has no name")
        return address, service
    if flags & socket.NI_NOFQDN and domain:
        name = name.removesuffix(f".{domain}")
    return name, service


# -- tables


class Table:
    """Names and their addresses, addresses and their first name. Upper and lower case and an end dot make no difference."""

    __slots__ = ("_names", "_official", "_of")

    def __init__(self) -> None:
        self._of: dict[str, list[str]] = {}
        self._official: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def add(self, address: str, names: Sequence[str]) -> None:
        """Takes an address in, with its names, the official one first. Raises ``ValueError`` for no IP address."""
        address = same_form(address)
        official = self.know(names)
        for name in names:
            addresses = self._of[_key(name)]
            if address not in addresses:
                addresses.append(address)
        if official:
            self._names.setdefault(address, official)

    def know(self, names: Sequence[str]) -> str:
        """Takes names in, the official one first, which it returns; they have no address yet."""
        official = ""
        for name in names:
            official = official or name.removesuffix(".")
            self._of.setdefault(_key(name), [])
            self._official.setdefault(_key(name), official)
        return official

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._of

    def find(self, name: str, families: tuple[int, ...]) -> Found | None:
        """The addresses of *name* in *families*; ``None`` where there are none."""
        key = _key(name)
        addresses = tuple(one for one in self._of.get(key, ()) if family_of_text(one) in families)
        return Found(self._official[key], addresses) if addresses else None

    def name_of(self, address: str) -> str | None:
        """The name that stands first beside *address*."""
        return self._names.get(same_form(address))


def _key(name: str) -> str:
    return name.removesuffix(".").lower()


def read_hosts(text: str) -> Table:
    """The table in the text of a hosts file. Lines that cannot be read are left out, as hosts(5) readers do."""
    table = Table()
    for line in text.split("\n", LINES_MAX)[:LINES_MAX]:
        address, *names = line.partition("#")[0].split() or [""]
        if names:
            try:
                table.add(address, names)
            except ValueError:
                continue
    return table


def table_of(addresses: Mapping[str, str | Iterable[str]]) -> Table:
    """The table of a mapping from names to addresses.

    Raises ``AddressError`` for what is no IP address, ``gaierror`` for what no name can be.
    """
    table = Table()
    for name, several in addresses.items():
        table.know([as_name(name)])
        for address in [several] if isinstance(several, str) else several:
            checked = (IPv6Address if ":" in address else IPv4Address)(address, 0)
            table.add(checked.host, [as_name(name)])
    return table


class Watched(Generic[T]):
    """What *read* makes of a file's text. The file is read again when it has changed, one that is missing is empty.

    It is looked at once in *look_seconds* at most. ``version`` counts how often it was read. Its size is bounded by
    *octets_max*; what comes after is cut off.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None, read: Callable[[str], T], *, look_seconds: float, octets_max: int
    ) -> None:
        self.version = 0
        self._path = path
        self._read = read
        self._look_seconds = look_seconds
        self._octets_max = octets_max
        self._looked: float | None = None
        self._stamp: tuple[int, ...] | None = None
        self._value: T

    def value(self) -> T:
        """What is in the file now."""
        present = time.monotonic()  # files change by the real time, whatever clock the loop has
        if self._looked is None or present - self._looked >= self._look_seconds:
            stamp = self._stamp_now()
            if self._looked is None or stamp != self._stamp:
                self._value = self._read(self._text())
                self._stamp = stamp
                self.version += 1
            self._looked = present
        return self._value

    def _stamp_now(self) -> tuple[int, ...] | None:
        if self._path is None:
            return None
        try:
            found = os.stat(self._path)
        except OSError:  # missing or not ours to see: as an empty one, resolv.conf(5)
            return None
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def _text(self) -> str:
        if self._path is None:
            return ""
        try:
            with open(self._path, "rb") as file:
                return file.read(self._octets_max).decode("utf-8", "replace")
        except OSError:
            return ""
