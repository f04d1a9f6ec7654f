"""The header by which a load balancer says for whom it connects: PROXY protocol, versions 1 and 2, the reading side.
No I/O. Who may send one is not decided here: whoever may can say any address.

Source: "The PROXY protocol", doc/proxy-protocol.txt of HAProxy, sections 2.1 and 2.2. Version 1 is a line of text,
``PROXY TCP4 192.0.2.1 192.0.2.2 56324 1080`` and CR LF; version 2 is binary: ``signature(12) version+command family
length(2)``, then so many bytes of addresses and TLVs. The TLVs are skipped, a checksum among them too.

Bytes may come in any pieces. Whatever a peer sends, ``feed`` waits for more, returns a ``Source``, or raises
``ProtocolError`` and then does so each time: at the first byte that cannot stand where it stands; at the end of the
line for an address or a port that is none, since they must not be read before (section 2.1).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from netnet.errors import ProtocolError
from netnet.socks.ranges import literal, plain
from netnet.socks.requests import address_text

#: the longest line of version 1, its end included (section 2.1)
LINE_BYTES_MAX: Final = 107

#: the longest header of version 2. Addresses have 216 bytes at most; TLVs carry names and ids of a few hundred, and a
#: TLS certificate's name. The protocol allows 65551
HEADER_BYTES_MAX: Final = 4096

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED_BYTES: Final = 16

#: version and command
_LOCAL: Final = 0x20
_PROXY: Final = 0x21

#: family and kind of socket → bytes of one address. Others that are valid have no address that counts here: UNIX
#: sockets, datagrams, unspecified (section 2.2: a receiver falls back to the connection's own)
_ADDRESS_BYTES: Final = {0x11: 4, 0x21: 16}

_FAMILIES_MAX: Final = 3
_KINDS_MAX: Final = 2

_DIGITS: Final = b"0123456789"

#: what a line begins with → the characters that follow, and the bytes of an address; ``None``: nothing follows that counts
_LINES: Final[dict[bytes, tuple[bytes, int] | None]] = {
    b"PROXY TCP4 ": (_DIGITS + b". ", 4),
    b"PROXY TCP6 ": (_DIGITS + b"abcdefABCDEF:. ", 16),
    b"PROXY UNKNOWN": None,
}


class Source(NamedTuple):
    """For whom a connection is made: an address, its bytes (4 or 16), and a port.

    An empty *host* says that it counts as the peer's own: a health check, or a client that has no IP address.
    """

    host: str
    port: int
    packed: bytes = b""


_OWN: Final = Source("", 0)


class ProxyHeader:
    """Reads one header: ``feed`` until there is a ``Source``; what is behind it is ``trailing``."""

    __slots__ = ("_buffer", "_error", "source", "trailing")

    def __init__(self) -> None:
        self._buffer = b""
        self._error: ProtocolError | None = None
        self.source: Source | None = None
        #: the bytes behind the header: the client's first data
        self.trailing = b""

    def feed(self, data: bytes) -> Source | None:
        """Takes what the peer sent; returns the source as soon as the header is whole. Raises ``ProtocolError``."""
        if self.source is not None:
            self.trailing += data
            return self.source
        if self._error is not None:
            raise self._error.with_traceback(None)  # or each time would keep its frames, and what was fed
        buffer = self._buffer + data
        try:
            found = _parse(buffer)
        except ProtocolError as error:
            self._error = error
            self._buffer = b""
            raise
        if found is None:
            self._buffer = buffer
            return None
        self.source, end = found
        self._buffer = b""
        self.trailing = buffer[end:]
        return self.source


def _parse(buffer: bytes) -> tuple[Source, int] | None:
    """The source, and where the header ends; ``None`` while bytes are missing."""
    if not buffer:
        return None
    if buffer[0] == _SIGNATURE[0]:
        return _parse_binary(buffer)
    for start, rest in _LINES.items():
        if buffer.startswith(start[: len(buffer)]):
            return None if len(buffer) < len(start) else _parse_line(buffer, start, rest)
    raise ProtocolError("it begins neither with 'PROXY TCP4', 'PROXY TCP6' or 'PROXY UNKNOWN' nor with the signature")


# -- version 1


def _parse_line(buffer: bytes, start: bytes, rest: tuple[bytes, int] | None) -> tuple[Source, int] | None:
    end = buffer.find(b"\r\n", 0, LINE_BYTES_MAX)
    if rest is not None:
        _check_line(buffer[len(start) : LINE_BYTES_MAX] if end < 0 else buffer[len(start) : end], rest[0], end >= 0)
    elif buffer[len(start) : len(start) + 1] not in (b"", b" ", b"\r"):
        raise ProtocolError("'PROXY UNKNOWN' is followed by something other than a space")
    if end < 0:
        if len(buffer) >= LINE_BYTES_MAX:
            raise ProtocolError(f"the line is longer than {LINE_BYTES_MAX} bytes")
        return None
    if rest is None:
        return _OWN, end + 2
    return _source_of_line(buffer[len(start) : end], rest[1]), end + 2


def _check_line(text: bytes, allowed: bytes, ended: bool) -> None:
    """Refuses what no address and no port has in it. A CR may be the end of the line, if that has not come."""
    if not ended and text.endswith(b"\r"):
        text = text[:-1]
    wrong = text.translate(None, allowed)
    if wrong:
        raise ProtocolError(f"the line has the byte {wrong[0]:#04x} where addresses and ports stand")


def _source_of_line(text: bytes, size: int) -> Source:
    fields = text.decode("ascii").split(" ")
    if len(fields) != 4:
        raise ProtocolError(f"the line has {len(fields)} fields behind the family, not two addresses and two ports")
    packed, _ = [_address(field, size) for field in fields[:2]]
    port, _ = [_port(field) for field in fields[2:]]
    return _source(packed, port)


def _address(text: str, size: int) -> bytes:
    """The bytes of an address; of IPv4 there is one form only, of IPv6 any will do."""
    packed = literal(text)
    if len(packed) != size or (size == 4 and address_text(packed) != text):
        raise ProtocolError(f"{text!r} is no IPv{4 if size == 4 else 6} address")
    return packed


def _port(text: str) -> int:
    if not text.isdigit() or len(text) > 5 or int(text) > 0xFFFF or str(int(text)) != text:
        raise ProtocolError(f"{text!r} is no port")
    return int(text)


# -- version 2


def _parse_binary(buffer: bytes) -> tuple[Source, int] | None:
    if not buffer.startswith(_SIGNATURE[: len(buffer)]):
        raise ProtocolError("it begins like the signature of PROXY protocol version 2, and goes on otherwise")
    if len(buffer) > 12 and buffer[12] not in (_LOCAL, _PROXY):
        raise ProtocolError(f"byte 12 is {buffer[12]:#04x}: version 2 has 0x20 (LOCAL) and 0x21 (PROXY)")
    if len(buffer) > 13 and buffer[12] == _PROXY:
        family, kind = buffer[13] >> 4, buffer[13] & 0x0F
        if family > _FAMILIES_MAX or kind > _KINDS_MAX:
            raise ProtocolError(f"byte 13 is {buffer[13]:#04x}, which is no family and kind of socket")
    if len(buffer) < _FIXED_BYTES:
        return None
    length = buffer[14] << 8 | buffer[15]
    end = _FIXED_BYTES + length
    size = _ADDRESS_BYTES.get(buffer[13], 0) if buffer[12] == _PROXY else 0
    if end > HEADER_BYTES_MAX:
        raise ProtocolError(f"the header has {end} bytes, more than {HEADER_BYTES_MAX}")
    if size and length < 2 * size + 4:
        raise ProtocolError(f"the header has {length} bytes behind its length, and its addresses {2 * size + 4}")
    if len(buffer) < end:
        return None
    if not size:
        return _OWN, end
    port_at = _FIXED_BYTES + 2 * size
    return _source(buffer[_FIXED_BYTES : _FIXED_BYTES + size], buffer[port_at] << 8 | buffer[port_at + 1]), end


def _source(packed: bytes, port: int) -> Source:
    """An IPv4 address in IPv6 form is an IPv4 address, so that rules have one form to go by."""
    packed = plain(packed)
    return Source(address_text(packed), port, packed)
