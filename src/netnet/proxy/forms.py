"""The forms that values of the configuration file have: how one is read, and how it is written in the reference.

A reader gets the value as ``tomllib`` gives it and the place where it stands, and returns what the proxy goes by; it
raises ``Wrong``, with what to write instead. Quantities with a unit are written with it, as texts: ``"30 s"``,
``"10 MB/s"``. There is one way to write each thing.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from netnet.errors import AddressError
from netnet.kernel.address import Address, InetAddress, parse_address
from netnet.net.dns_conf import server_address
from netnet.proxy.passwords import HashError, check_hash
from netnet.proxy.problems import Place, Wrong, kind, near_miss, quoted
from netnet.socks import ranges
from netnet.socks.upstream import parse_chain, parse_proxy

#: user names and passwords have a length of one byte in RFC 1929
NAME_BYTES_MAX: Final = 255

#: IFNAMSIZ, with the byte for the end
INTERFACE_BYTES_MAX: Final = 15

SECONDS: Final[dict[str, float]] = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}
BYTES: Final[dict[str, float]] = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "kbit": 10**3 / 8,
    "Mbit": 10**6 / 8,
    "Gbit": 10**9 / 8,
}
PERIODS: Final[dict[str, float]] = {"s": 1, "min": 60, "h": 3600}

_QUANTITY: Final = re.compile(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)")
_SPEED: Final = re.compile(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)/s")
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)/(s|min|h)")
_RANGE: Final = re.compile(r"(\d{1,5})-(\d{1,5})")

Reader = Callable[[Any, Place], Any]


@dataclass(frozen=True, slots=True)
class Form:
    """How a value is written: *text* tells people, *read* reads it, *show* writes one as it stands in a file."""

    text: str
    read: Reader
    show: Callable[[Any], str] = quoted


def expect(value: object, wanted: type | tuple[type, ...], text: str) -> None:
    """Raises ``Wrong`` for a value of another type; *text* says what it has to be."""
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise Wrong(f"has to be {text}, not {kind(value)}")


# -- words and numbers


def _boolean(value: Any, place: Place) -> bool:
    expect(value, bool, "true or false")
    return bool(value)


boolean = Form("`true` or `false`", _boolean)


def one_of(*words: str) -> Form:
    """One of these words."""
    told = " or ".join(map(quoted, words)) if len(words) < 3 else ", ".join(map(quoted, words))

    def read(value: Any, place: Place) -> str:
        expect(value, str, told)
        if value not in words:
            raise Wrong(f"{quoted(value)} is none of {told}{near_miss(value, words)}")
        return str(value)

    return Form(" or ".join(f"`{quoted(word)}`" for word in words), read)


def whole(low: int, high: int) -> Form:
    """A whole number in a range."""

    def read(value: Any, place: Place) -> int:
        expect(value, int, f"a whole number from {low} to {high}")
        if not low <= value <= high:
            raise Wrong(f"{quoted(value)} is out of range: from {low} to {high}")
        return int(value)

    return Form(f"a number from {low} to {high}", read)


def text(what: str, bytes_max: int = 255) -> Form:
    """Any text in one line."""

    def read(value: Any, place: Place) -> str:
        expect(value, str, f"{what}, a text in quotation marks")
        if not value or not value.isprintable():
            raise Wrong(f"has to be {what}: a text in one line, without control characters")
        if len(value.encode()) > bytes_max:
            raise Wrong(f"has {len(value.encode())} bytes; {bytes_max} are allowed")
        return str(value)

    return Form(what, read)


# -- quantities with a unit


def _quantity(value: Any, pattern: re.Pattern[str], units: Mapping[str, float], example: str, what: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise Wrong(f'{quoted(value)} has no unit; {what} is written like "{example}"')
    expect(value, str, f'{what}, like "{example}"')
    match = pattern.fullmatch(value)
    if match is None or match[2] not in units:
        raise Wrong(f'{quoted(value)} is not {what}; write it like "{example}", with one of {", ".join(units)}')
    return float(match[1]) * units[match[2]]


def _within(value: float, low: float, high: float, show: Callable[[float], str], told: object) -> float:
    if not low <= value <= high:
        raise Wrong(f"{quoted(told)} is out of range: from {show(low)} to {show(high)}")
    return value


def show_seconds(value: float) -> str:
    """Seconds as a file has them."""
    for unit, size in reversed(SECONDS.items()):
        if value >= size and value / size == int(value / size) and not (unit == "d" and value == size):
            return f'"{int(value / size)} {unit}"'
    return f'"{value:g} s"'


def seconds(low: float, high: float, *, never: bool = False) -> Form:
    """A time, with its unit, in seconds. *never*: may be ``"never"``, ``None``."""
    told = f"a time from {show_seconds(low)} to {show_seconds(high)}"

    def read(value: Any, place: Place) -> float | None:
        if never and value == "never":
            return None
        number = _quantity(value, _QUANTITY, SECONDS, "30 s", "a time")
        return _within(number, low, high, show_seconds, value)

    def show(value: float | None) -> str:
        return '"never"' if value is None else show_seconds(value)

    return Form(f'{told}, or `"never"`' if never else told, read, show)


#: of what a connection's bandwidth is at least, in bytes a second: below, nothing works
SPEED_MIN: Final = 1000
SPEED_MAX: Final = 10**12


def show_speed(value: float) -> str:
    """Bytes a second as a file has them."""
    unit = next(unit for unit in ("GB", "MB", "kB", "B") if value >= BYTES[unit])
    return f'"{value / BYTES[unit]:g} {unit}/s"'


def _speed(value: Any, place: Place) -> int:
    number = _quantity(value, _SPEED, BYTES, "10 MB/s", "a bandwidth")
    return int(_within(number, SPEED_MIN, SPEED_MAX, show_speed, value))


speed = Form('a bandwidth: `"10 MB/s"`, `"80 Mbit/s"`', _speed, show_speed)


def _rate(value: Any, place: Place) -> float:
    number = _quantity_rate(value)
    if not 0.001 <= number <= 1e6:
        raise Wrong(f'{quoted(value)} is out of range: from "4/h" to "1000000/s"')
    return number


def _quantity_rate(value: Any) -> float:
    expect(value, str, 'a rate, like "10/s"')
    match = _RATE.fullmatch(value)
    if match is None:
        raise Wrong(f'{quoted(value)} is not a rate; write it like "10/s", with one of /s, /min, /h')
    return float(match[1]) / PERIODS[match[2]]


rate = Form('a rate: `"10/s"`, `"300/min"`', _rate, lambda value: f'"{value:g}/s"')


# -- lists


def many(item: Form, text: str, *, least: int = 1) -> Form:
    """A list of values of one form. What is wrong with one of them is told with its own line."""

    def read(value: Any, place: Place) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Wrong(f"has to be a list in brackets, [ ], also of one item; not {kind(value)}")
        if len(value) < least:
            raise Wrong("is an empty list; leave the key out, or write what belongs there")
        wrong = object()
        found = [(place / index).read(item.read, one, wrong) for index, one in enumerate(value)]
        return tuple(one for one in found if one is not wrong)

    return Form(text, read, lambda value: f"[{', '.join(map(item.show, value))}]")


# -- addresses


def address(value: Any, place: Place) -> Address:
    """What can be listened on."""
    expect(value, str, 'an address, like "127.0.0.1:1080"')
    try:
        return parse_address(value)
    except AddressError as error:
        raise Wrong(str(error)) from None


@dataclass(frozen=True, slots=True)
class Systemd:
    """Sockets that systemd hands over: those of a name, or all (``""``)."""

    name: str

    def __str__(self) -> str:
        return f"systemd:{self.name}" if self.name else "systemd"


def _listen_address(value: Any, place: Place) -> Address | Systemd:
    if value == "systemd":
        return Systemd("")
    if isinstance(value, str) and value.startswith("systemd:"):
        if not re.fullmatch(r"[^:\s]{1,255}", value[8:]):
            raise Wrong('the name behind "systemd:" is that of FileDescriptorName=: no space, no colon')
        return Systemd(value[8:])
    return address(value, place)


listen_address = Form(
    '`"127.0.0.1:1080"`, `"[::1]:1080"`, `":1080"`, `"unix:/path"`, `"systemd"`, `"systemd:NAME"`', _listen_address
)


def _tcp_address(value: Any, place: Place) -> InetAddress:
    found = address(value, place)
    if not isinstance(found, InetAddress):
        raise Wrong(f"{quoted(value)} is a UNIX socket; write an IP address and a port")
    return found


tcp_address = Form('an address: `"127.0.0.1:9180"`', _tcp_address)


def _ip(value: Any, place: Place) -> str:
    expect(value, str, "an IP address in quotation marks")
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise Wrong(f"{quoted(value)} is no IP address") from None


ip = Form("an IP address", _ip)


def _network(value: Any, place: Place) -> str:
    expect(value, str, 'a network, like "10.0.0.0/8"')
    if value != "unix":
        try:
            ranges.network(value)
        except ValueError as error:
            raise Wrong(f"{quoted(value)} {error}") from None
    return str(value)


network = Form("a network", _network)


def _name_server(value: Any, place: Place) -> str:
    expect(value, str, "an IP address in quotation marks")
    try:
        server_address(value)
    except AddressError as error:
        raise Wrong(str(error)) from None
    return str(value)


name_server = Form("a name server", _name_server)


def _path(value: Any, place: Place) -> str:
    expect(value, str, "a path in quotation marks")
    if not value.startswith("/"):
        raise Wrong(f"{quoted(value)} has to be a whole path, from / on")
    return _unix_path(value)


def _unix_path(value: str) -> str:
    try:
        parse_address(f"unix:{value}")
    except AddressError as error:
        raise Wrong(str(error)) from None
    return value


socket_path = Form("a path", _path)


def _interface(value: Any, place: Place) -> str:
    expect(value, str, "the name of a network interface")
    if not 0 < len(value.encode()) <= INTERFACE_BYTES_MAX or re.search(r"[\s/\0]", value):
        raise Wrong(f"{quoted(value)} cannot be an interface: it has 1 to {INTERFACE_BYTES_MAX} bytes, no space, no /")
    return str(value)


interface = Form("an interface", _interface)


# -- ports


def _check_port(number: int) -> int:
    if not 1 <= number <= 65535:
        raise Wrong(f"{number} is no port; ports are from 1 to 65535")
    return number


def _port_range(value: Any, place: Place) -> tuple[int, int]:
    expect(value, str, 'a range of ports, like "40000-40999"')
    match = _RANGE.fullmatch(value)
    if match is None:
        raise Wrong(f'{quoted(value)} is not a range of ports; write it like "40000-40999"')
    low, high = _check_port(int(match[1])), _check_port(int(match[2]))
    if low > high:
        raise Wrong(f'{quoted(value)} ends before it begins; write "{high}-{low}"')
    return low, high


def show_range(value: Sequence[int]) -> str:
    """A range of ports as a file has it."""
    return f'"{value[0]}-{value[1]}"'


port_range = Form('a range: `"40000-40999"`', _port_range, show_range)


def _port_or_range(value: Any, place: Place) -> tuple[int, int]:
    expect(value, (int, str), 'a port, like 443, or a range, like "8000-8999"')
    if isinstance(value, str):
        if value.isdigit():
            raise Wrong(f"a single port is a number: write {value} without quotation marks")
        return _port_range(value, place)
    return _check_port(value), value


port_or_range = Form("a port or a range", _port_or_range)


# -- what is secret


def _password_hash(value: Any, place: Place) -> str:
    if not isinstance(value, str) or not value.startswith("$"):
        raise Wrong(
            "has to be the hash of a password, not the password itself; make one with: netnet proxy hash-password"
        )
    try:
        check_hash(value)
    except HashError as error:
        raise Wrong(str(error)) from None
    return str(value)


password_hash = Form("a hash", _password_hash)


def _upstream(value: Any, place: Place) -> str:
    expect(value, str, 'the URL of a proxy, like "socks5h://10.0.0.1:1080"')
    try:
        parse_proxy(value)
    except AddressError as error:  # it does not show the password
        raise Wrong(str(error)) from None
    return str(value)


_upstreams = many(Form("a proxy", _upstream), "a list of URLs")


def _chain(value: Any, place: Place) -> tuple[str, ...]:
    found: tuple[str, ...] = _upstreams.read(value, place)
    if len(found) == len(value):
        try:
            parse_chain(found)
        except AddressError as error:
            raise Wrong(str(error)) from None
    return found


chain = Form("a list of URLs", _chain)
