"""The messages of SOCKS4 and SOCKS4a, each as bytes and as values, for both sides. What follows on what is in
``handshake``. No I/O.

Sources: "SOCKS: A protocol for TCP proxy across firewalls" (SOCKS4) and "SOCKS 4A: A Simple Extension to SOCKS 4
Protocol", both memos by Ying-Da Lee. A request is ``VN=4 CD PORT(2) IP(4) USERID NUL``; an IP of ``0.0.0.x`` with x not
0 means SOCKS4a: the host name and another NUL follow. A reply is ``VN=0 CODE PORT(2) IP(4)``. Integers are big-endian.

A ``parse_`` function returns what it has read and where that ends, ``None`` while bytes are missing, and raises
``ProtocolError`` at the first byte that shows that it can never become one.
"""

from __future__ import annotations

from typing import Final

from netnet.errors import ProtocolError
from netnet.socks.requests import Command, Outcome, Request, known_address

VERSION: Final = 4

#: bytes of the user id. It is a login name, of which systems allow 32 to 256; OpenSSH takes 1023
USER_ID_BYTES_MAX: Final = 255

#: bytes of the host name: the longest that DNS allows (RFC 1035 section 2.3.4), and that SOCKS5 has room for
HOST_BYTES_MAX: Final = 255

_FIXED_BYTES: Final = 8

#: the longest request there is, the two NULs included
REQUEST_BYTES_MAX: Final = _FIXED_BYTES + USER_ID_BYTES_MAX + 1 + HOST_BYTES_MAX + 1

REPLY_BYTES: Final = 8

_GRANTED: Final = 90
_REJECTED: Final = 91

#: code of a reply → what it means. 92 and 93 are about identd, which nobody asks any more
_OUTCOMES: Final = {_GRANTED: Outcome.GRANTED, _REJECTED: Outcome.FAILED, 92: Outcome.DENIED, 93: Outcome.DENIED}

_COMMANDS: Final = {1: Command.CONNECT, 2: Command.BIND}

_NO_ADDRESS: Final = bytes(4)


def parse_request(buffer: bytes) -> tuple[Request, int] | None:
    """A client's request. Its first byte is known to be 4."""
    if len(buffer) > 1 and buffer[1] not in _COMMANDS:
        raise ProtocolError(f"byte 1 is {buffer[1]}: the commands of SOCKS4 are 1 (CONNECT) and 2 (BIND)")
    if len(buffer) <= _FIXED_BYTES:
        return None
    user_end = _end_of_string(buffer, _FIXED_BYTES, USER_ID_BYTES_MAX, "user id")
    if user_end is None:
        return None
    user_id = buffer[_FIXED_BYTES:user_end]
    packed = buffer[4:8]
    end = user_end + 1
    if _announces_name(packed):
        packed = b""
        host_end = _end_of_string(buffer, end, HOST_BYTES_MAX, "host name")
        host = host_text(buffer[end:host_end])
        if host_end is None:
            return None
        if not host:
            raise ProtocolError("the host name is empty")
        end = host_end + 1
    else:
        packed, host = known_address(packed)
    return Request(_COMMANDS[buffer[1]], host, buffer[2] << 8 | buffer[3], packed, user_id), end


def pack_request(request: Request) -> bytes:
    """The bytes of *request*. Raises ``ProtocolError`` for what SOCKS4 cannot say: IPv6, datagrams, 0.0.0.1."""
    if request.command not in _COMMANDS.values():
        raise ProtocolError(f"SOCKS4 has no {request.command.name}")
    if len(request.packed) > 4:
        raise ProtocolError("SOCKS4 has no IPv6 addresses")
    if _announces_name(request.packed):
        raise ProtocolError(f"SOCKS4 cannot say the address {request.host}: it would announce a name")
    if len(request.user_id) > USER_ID_BYTES_MAX or b"\0" in request.user_id:
        raise ProtocolError(f"a user id of SOCKS4 has no NUL, and {USER_ID_BYTES_MAX} bytes at most")
    head = bytes((VERSION, request.command)) + request.port.to_bytes(2, "big")
    if request.packed:
        return head + request.packed + request.user_id + b"\0"
    return head + b"\0\0\0\1" + request.user_id + b"\0" + host_bytes(request.host) + b"\0"


def parse_reply(buffer: bytes) -> tuple[Outcome, bytes, int] | None:
    """A proxy's reply: the outcome, the address' bytes (``b""`` for none), the port. It has 8 bytes."""
    if buffer[0] not in (0, VERSION):  # 4 is wrong, and usual
        raise ProtocolError(f"byte 0 is {buffer[0]}, not 0: this is no reply of SOCKS4")
    if len(buffer) > 1 and buffer[1] not in _OUTCOMES:
        raise ProtocolError(f"byte 1 is {buffer[1]}: the codes of SOCKS4 are 90 to 93")
    if len(buffer) < REPLY_BYTES:
        return None
    packed = buffer[4:8]
    return _OUTCOMES[buffer[1]], b"" if packed == _NO_ADDRESS else packed, buffer[2] << 8 | buffer[3]


def pack_reply(outcome: Outcome, packed: bytes = b"", port: int = 0) -> bytes:
    """The bytes of a reply. There is one code only for all failures, and an IPv6 address has no room in it."""
    code = _REJECTED if outcome else _GRANTED
    return bytes((0, code, port >> 8, port & 0xFF)) + (packed if len(packed) == 4 else _NO_ADDRESS)


def host_text(raw: bytes) -> str:
    """A name, or its beginning. What is not printable ASCII without spaces is refused, so that no log is forged."""
    if raw.isalnum() or not any(byte <= 0x20 or byte >= 0x7F for byte in raw):
        return raw.decode("ascii")
    raise ProtocolError(f"the host name {raw!r} has characters that names do not have")


def host_bytes(host: str) -> bytes:
    """The bytes of a name. Raises ``ProtocolError`` for one that cannot be sent: international names need their ASCII form."""
    try:
        raw = host.encode("idna") if not host.isascii() else host.encode()
    except UnicodeError as error:
        raise ProtocolError(f"{host!r} has no form that can be sent: {error}") from None
    if not 0 < len(raw) <= HOST_BYTES_MAX:
        raise ProtocolError(f"a host name has 1 to {HOST_BYTES_MAX} bytes, not {len(raw)}")
    host_text(raw)
    return raw


def _announces_name(packed: bytes) -> bool:
    """Whether it is 0.0.0.x with x not 0, by which SOCKS4a says that a name follows. 0.0.0.0 is an address, for BIND."""
    return packed[:3] == b"\0\0\0" and packed[3] != 0


def _end_of_string(buffer: bytes, start: int, size_max: int, what: str) -> int | None:
    """Where the NUL is that ends the string at *start*; ``None`` while it has not come."""
    end = buffer.find(0, start, start + size_max + 1)
    if end >= 0:
        return end
    if len(buffer) - start > size_max:
        raise ProtocolError(f"the {what} is longer than {size_max} bytes")
    return None
