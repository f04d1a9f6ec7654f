"""The SOCKS4 and 4a protocol, server side, without I/O: bytes in, a request out; an outcome in, bytes out.

Sources: "SOCKS: A protocol for TCP proxy across firewalls" (SOCKS4) and "SOCKS 4A: A Simple Extension to SOCKS 4
Protocol", both memos by Ying-Da Lee. A request is ``VN=4 CD PORT(2) IP(4) USERID NUL``; an IP of ``0.0.0.x`` with x not
0 means SOCKS4a: the host name and another NUL follow. A reply is ``VN=0 CODE PORT(2) IP(4)``. Integers are big-endian.

Bytes may come in any pieces, with the client's first data glued to the request; what is behind the request is
``trailing``. Whatever a peer sends, the machine waits for more, has a request, or raises ``ProtocolError``; it keeps no
more than a request may have.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from netnet.errors import ProtocolError

#: bytes of the user id. It is a login name, of which systems allow 32 to 256; OpenSSH takes 1023
USER_ID_BYTES_MAX: Final = 255

#: bytes of the host name: the longest that DNS allows (RFC 1035 section 2.3.4)
HOST_BYTES_MAX: Final = 255

_FIXED_BYTES: Final = 8

#: the longest request there is, the two NULs included
REQUEST_BYTES_MAX: Final = _FIXED_BYTES + USER_ID_BYTES_MAX + 1 + HOST_BYTES_MAX + 1

_NO_ADDRESS: Final = b"\0\0\0\0"


class Command(IntEnum):
    """What the client wants (CD)."""

    CONNECT = 1
    BIND = 2


class Reply(IntEnum):
    """What the client is told (CODE)."""

    GRANTED = 90
    REJECTED = 91  #: rejected or failed
    NO_IDENTD = 92
    IDENT_MISMATCH = 93


@dataclass(frozen=True, slots=True)
class Request:
    """A client's request. *host* is an IPv4 address, or the name that a SOCKS4a client gave."""

    command: Command
    host: str
    port: int
    user_id: bytes
    named: bool


class Socks4Server:
    """The server's side of one handshake: ``feed`` until there is a request, then ``reply``."""

    __slots__ = ("_buffer", "_error", "request", "trailing")

    def __init__(self) -> None:
        self._buffer = b""
        self._error: ProtocolError | None = None
        self.request: Request | None = None
        #: the bytes behind the request: the client's first data
        self.trailing = b""

    def feed(self, data: bytes) -> Request | None:
        """Takes what the client sent; returns the request as soon as it is complete.

        Raises ``ProtocolError`` for what can never become one, at the first byte that shows it.
        """
        if self.request is not None:
            self.trailing += data
            return self.request
        if self._error is not None:
            raise self._error
        buffer = self._buffer + data if self._buffer else data
        try:
            self.request = self._parse(buffer)
        except ProtocolError as error:
            self._error = error
            self._buffer = b""
            raise
        self._buffer = buffer if self.request is None else b""
        return self.request

    def _parse(self, buffer: bytes) -> Request | None:
        if not buffer:
            return None
        if buffer[0] != 4:
            raise ProtocolError(f"byte 0 is {buffer[0]}, not 4: this is no SOCKS4 request")
        if len(buffer) > 1 and buffer[1] not in (Command.CONNECT, Command.BIND):
            raise ProtocolError(f"byte 1 is {buffer[1]}: the commands are 1 (CONNECT) and 2 (BIND)")
        if len(buffer) < _FIXED_BYTES:
            return None
        user_end = _end_of_string(buffer, _FIXED_BYTES, USER_ID_BYTES_MAX, "user id")
        if user_end is None:
            return None
        user_id = buffer[_FIXED_BYTES:user_end]
        address = buffer[4:8]
        named = address[:3] == b"\0\0\0" and address[3] != 0
        end = user_end
        if named:
            host_end = _end_of_string(buffer, user_end + 1, HOST_BYTES_MAX, "host name")
            host = _host(buffer[user_end + 1 : host_end])
            if host_end is None:
                return None
            if not host:
                raise ProtocolError("the host name is empty")
            end = host_end
        else:
            host = ".".join(map(str, address))
        self.trailing = buffer[end + 1 :]
        return Request(Command(buffer[1]), host, buffer[2] << 8 | buffer[3], user_id, named)

    def reply(self, code: Reply, host: str = "", port: int = 0) -> bytes:
        """The reply's bytes. *host* and *port* are the address that the proxy uses towards the target, if IPv4."""
        try:
            address = ipaddress.IPv4Address(host).packed if host else _NO_ADDRESS
        except ValueError:  # an IPv6 address has no room in a SOCKS4 reply; for CONNECT clients ignore the field
            address = _NO_ADDRESS
        return b"\0" + bytes((code,)) + port.to_bytes(2, "big") + address


def _end_of_string(buffer: bytes, start: int, size_max: int, what: str) -> int | None:
    """Where the NUL is that ends the string at *start*; ``None`` while it has not come."""
    end = buffer.find(0, start, start + size_max + 1)
    if end >= 0:
        return end
    if len(buffer) - start > size_max:
        raise ProtocolError(f"the {what} is longer than {size_max} bytes")
    return None


def _host(raw: bytes) -> str:
    """A name, or its beginning. What is not printable ASCII without spaces is refused, so that no log is forged."""
    if any(byte <= 0x20 or byte >= 0x7F for byte in raw):
        raise ProtocolError(f"the host name {raw!r} has characters that names do not have")
    return raw.decode("ascii")
