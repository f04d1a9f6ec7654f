"""Proxies as people name them: a URL, or the value that it means, and chains of them. Talks to nobody.

    socks4://[user@]host[:port]             names are looked up here
    socks4a://[user@]host[:port]            names go to the proxy
    socks5://[user:password@]host[:port]    names are looked up here
    socks5h://[user:password@]host[:port]   names go to the proxy
    http://[user:password@]host[:port]      CONNECT; names go to the proxy

Who looks names up is told by the scheme, as curl(1) has it (``--socks5`` and ``--socks5-hostname``). In place of a host
and port there may be a UNIX socket: ``socks5h://unix:/run/proxy.sock``, ``socks5h://unix:@abstract``. Where no port is
told it is 1080 (RFC 1928 section 3), and 3128 of HTTP, which is what Squid and most of its kind listen on.

User names and passwords are percent-encoded UTF-8 (RFC 3986 section 2.1): ``%40`` is an ``@``. No message of an error
here shows a password, or what may be one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from netnet.errors import AddressError
from netnet.kernel.address import Address, InetAddress, UnixAddress, parse_address
from netnet.socks.socks4 import USER_ID_BYTES_MAX
from netnet.socks.socks5 import CREDENTIAL_BYTES_MAX

#: proxies in a chain. Each costs a round trip or more, to all that is behind it; Tor makes do with three
HOPS_MAX: Final = 8


class Scheme(NamedTuple):
    """What a URL's scheme says."""

    version: int  #: of SOCKS; 0 is HTTP
    names: bool  #: whether names are given to the proxy, to be looked up there
    port: int  #: where none is told


SCHEMES: Final = {
    "socks4": Scheme(4, False, 1080),
    "socks4a": Scheme(4, True, 1080),
    "socks5": Scheme(5, False, 1080),
    "socks5h": Scheme(5, True, 1080),
    "http": Scheme(0, True, 3128),
}

_KNOWN: Final = ", ".join(f"{name}://" for name in SCHEMES)


@dataclass(frozen=True, slots=True)
class Proxy:
    """One proxy: how it is spoken to, where it is, and who is there to log in.

    *scheme* is one of ``SCHEMES``; *address* is an address, or what ``parse_address`` makes one of. SOCKS4 has a user,
    and no password; of SOCKS5 both have 1 to 255 bytes. It prints as its URL, without the password. Raises
    ``AddressError``.
    """

    scheme: str
    address: Address
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise AddressError(f"{self.scheme!r} is no kind of proxy; known are {', '.join(SCHEMES)}")
        object.__setattr__(self, "address", parse_address(self.address))
        if isinstance(self.address, InetAddress) and not (self.address.host and self.address.port):
            raise AddressError(f"{self}: a proxy has a host, and a port from 1 to 65535")
        problem = _CREDENTIALS[SCHEMES[self.scheme].version](self.user, self.password)
        if problem:
            raise AddressError(f"{self}: {problem}")

    @property
    def version(self) -> int:
        """The version of SOCKS, 4 or 5; 0 is HTTP."""
        return SCHEMES[self.scheme].version

    @property
    def names(self) -> bool:
        """Whether the proxy is given names, and looks them up itself."""
        return SCHEMES[self.scheme].names

    def __str__(self) -> str:
        user = "" if self.user is None else f"{quote(self.user, safe='', errors='surrogateescape')}@"
        return f"{self.scheme}://{user}{self.address}"


def _problem_of_user_id(user: str | None, password: str | None) -> str:
    if password is not None:
        return "SOCKS4 has no passwords, only a user name that nobody checks"
    if user is not None and (len(_raw(user)) > USER_ID_BYTES_MAX or "\0" in user):
        return f"a user name of SOCKS4 has no NUL, and {USER_ID_BYTES_MAX} bytes at most"
    return ""


def _problem_of_login(user: str | None, password: str | None) -> str:
    if user is None and password is None:
        return ""
    if all(0 < len(_raw(part or "")) <= CREDENTIAL_BYTES_MAX for part in (user, password)):
        return ""
    return f"SOCKS5 wants a user name and a password, of 1 to {CREDENTIAL_BYTES_MAX} bytes each (RFC 1929)"


def _problem_of_basic(user: str | None, password: str | None) -> str:
    if user is None:
        return "a password needs a user name" if password is not None else ""
    if ":" in user or any(one < " " or one == "\x7f" for one in user + (password or "")):
        return "HTTP has user names without a colon, and neither they nor passwords have control characters (RFC 7617)"
    if len(_raw(user)) + len(_raw(password or "")) > 2 * CREDENTIAL_BYTES_MAX:
        return f"a user name and a password have {2 * CREDENTIAL_BYTES_MAX} bytes together at most"
    return ""


#: version → what is wrong with a user name and a password; "" for nothing
_CREDENTIALS: Final = {4: _problem_of_user_id, 5: _problem_of_login, 0: _problem_of_basic}


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


#: one proxy or several, the nearest first
Via = str | Proxy | Iterable[str | Proxy]


# -- URLs


def parse_proxy(url: str | Proxy) -> Proxy:
    """The proxy that a URL means; a ``Proxy`` as it is. Raises ``AddressError``, which does not show the password."""
    if isinstance(url, Proxy):
        return url
    if not isinstance(url, str):
        raise AddressError(f"a proxy is a URL or a Proxy, not {type(url).__name__}")
    scheme, mark, rest = url.partition("://")
    if not mark or scheme.lower() not in SCHEMES:
        hint = "; TLS to a proxy is not spoken here" if scheme.lower() == "https" else ""
        raise AddressError(f"{_shown(url)!r} begins with none of {_KNOWN}{hint}")
    login, at, place = ("", "", rest) if rest.startswith("unix:") else rest.rpartition("@")
    if "unix:" in login:  # the path or name behind it has the last @
        login, at, place = rest.partition("@")
    try:
        if "@" in login:
            raise AddressError("in a user name or a password an @ is written %40")
        user, colon, password = login.partition(":")
        return Proxy(
            scheme.lower(),
            _place(place, SCHEMES[scheme.lower()].port),
            _decoded(user) if at else None,
            _decoded(password) if colon else None,
        )
    except AddressError as error:
        problem = str(error)
    raise AddressError(problem if "://" in problem else f"{_shown(url)!r}: {problem}")


def parse_chain(via: Via) -> tuple[Proxy, ...]:
    """The proxies of *via*, one or several, the nearest first. Raises ``AddressError``."""
    if type(via) is tuple and all(type(one) is Proxy for one in via):
        chain: tuple[Proxy, ...] = via
    else:
        chain = tuple(parse_proxy(one) for one in ([via] if isinstance(via, (str, Proxy)) else via))
    if not 0 < len(chain) <= HOPS_MAX:
        raise AddressError(f"a connection goes through 1 to {HOPS_MAX} proxies, not {len(chain)}")
    for behind in chain[1:]:
        if isinstance(behind.address, UnixAddress):
            raise AddressError(
                f"{behind}: only the first proxy of a chain can have a UNIX socket, since others reach it"
            )
    return chain


def _place(place: str, port_default: int) -> Address:
    """The address that stands in a URL."""
    if place.startswith("unix:"):
        return parse_address(place)
    place = place.removesuffix("/")
    if any(one in place for one in "/?#"):
        raise AddressError("nothing stands behind the address of a proxy")
    if place.startswith("["):
        host, closed, rest = place[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        if not closed or ":" not in host or colon not in ("", ":"):
            raise AddressError("brackets are for an IPv6 address, as in [::1]:1080")
    else:
        host, colon, port = place.partition(":")
        if ":" in port:
            raise AddressError("an IPv6 address needs brackets, as in [::1]:1080")
    if not host or any(one <= " " or one == "@" for one in host):
        raise AddressError("a proxy has a host, without spaces and the like")
    if colon and not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65535):
        raise AddressError("the port of a proxy is a number from 1 to 65535")
    return InetAddress(host, int(port) if colon else port_default)


def _decoded(text: str) -> str:
    return unquote_to_bytes(text).decode("utf-8", "surrogateescape")


def _shown(url: str) -> str:
    """*url* for a message, without what is a password, and without what may be one that was put in the wrong place."""
    scheme, mark, rest = url.partition("://") if "://" in url else ("", "", url)
    login, at, place = rest.rpartition("@")
    host, colon, port = place.rpartition(":")
    if colon and host != "unix" and not port.removesuffix("/").isdecimal():
        place = f"{host}:..."
    return f"{scheme}{mark}{'...' if login else ''}{at}{place}"


__all__ = ["HOPS_MAX", "Proxy", "Via", "parse_chain", "parse_proxy"]
