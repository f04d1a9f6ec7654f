"""Addresses as people write them and as the kernel takes them. Parses and prints; looks nothing up.

Forms: ``"host:port"`` (a name, an IPv4 address, or nothing for every interface), ``"[IPv6]:port"``,
``"[IPv6%interface]:port"``, ``"unix:/path"``, ``"unix:@abstract"``, and the tuples of the standard library,
``(host, port)`` and ``(host, port, flow, scope)``. See ip(7), ipv6(7), unix(7).
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass

from netnet.errors import AddressError

#: bytes that a UNIX path may have; the kernel keeps one more for the end
UNIX_PATH_MAX = 107

_FORMS = 'known forms: "host:port", "[ipv6]:port", ":port", "unix:/path", "unix:@name", (host, port)'


@dataclass(frozen=True, slots=True)
class InetAddress:
    """A host (name or IP address, ``""``: every interface) and a TCP or UDP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A UNIX socket: a path, or a name in the abstract namespace, which begins with a NUL character here."""

    path: str

    def __str__(self) -> str:
        return f"unix:{'@' + self.path[1:] if self.path.startswith(chr(0)) else self.path}"


Address = InetAddress | UnixAddress


def parse_port(text: str, whole: object) -> int:
    """A port number from 0 to 65535. Raises ``AddressError`` that shows *whole*."""
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or int(text) > 65535:
        raise AddressError(f"{whole!r}: the port must be a number from 0 to 65535, not {text!r}")
    return int(text)


def parse_address(value: str | tuple[object, ...] | InetAddress | UnixAddress) -> Address:
    """Reads an address in any of the known forms. Raises ``AddressError``, which shows it and the forms."""
    if isinstance(value, (InetAddress, UnixAddress)):
        return value
    if isinstance(value, tuple):
        return _from_tuple(value)
    if not isinstance(value, str):
        raise AddressError(f"{value!r} is no address; {_FORMS}")
    if value.startswith("unix:"):
        return _unix(value[5:], value)
    host, colon, port = value.rpartition(":")
    if not colon:
        raise AddressError(f"{value!r} has no port; {_FORMS}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError as error:
            raise AddressError(f"{value!r}: what stands in brackets must be an IPv6 address ({error})") from None
    elif ":" in host or "[" in host or "]" in host:
        raise AddressError(f"{value!r}: an IPv6 address needs brackets, as in '[::1]:80'")
    if "\0" in host:
        raise AddressError(f"{value!r}: a host name cannot contain a NUL character")
    return InetAddress(host, parse_port(port, value))


def _unix(path: str, whole: object) -> UnixAddress:
    if path.startswith("@"):
        path = "\0" + path[1:]
    elif "\0" in path:
        raise AddressError(f"{whole!r}: a path cannot contain a NUL character")
    if len(path) < 1:
        raise AddressError(f"{whole!r} has no path; {_FORMS}")
    try:
        size = len(os.fsencode(path))
    except UnicodeEncodeError:
        raise AddressError(f"{whole!r}: the path has characters that file names cannot have") from None
    if size > UNIX_PATH_MAX:
        raise AddressError(f"{whole!r}: a UNIX path may have {UNIX_PATH_MAX} bytes, not more")
    return UnixAddress(path)


def _from_tuple(value: tuple[object, ...]) -> InetAddress:
    if len(value) not in (2, 4) or not isinstance(value[0], str) or isinstance(value[1], bool):
        raise AddressError(f"{value!r} is no address; {_FORMS}")
    host, port = value[0], value[1]
    if not isinstance(port, int) or not 0 <= port <= 65535:
        raise AddressError(f"{value!r}: the port must be a number from 0 to 65535")
    if "\0" in host:
        raise AddressError(f"{value!r}: a host name cannot contain a NUL character")
    if len(value) == 4:
        flow, scope = value[2], value[3]
        if not isinstance(flow, int) or not isinstance(scope, int):
            raise AddressError(f"{value!r}: the flow and the scope of an IPv6 address must be numbers")
        if scope and "%" not in host:
            host = f"{host}%{scope}"
    return InetAddress(host, port)
