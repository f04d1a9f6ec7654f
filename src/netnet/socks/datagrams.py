"""The header in front of each datagram between a SOCKS5 client and its proxy (RFC 1928 section 7), as bytes and as
values. No I/O; what becomes of the datagrams is in ``associate``.

A header is ``RSV(2) FRAG(1) ATYP(1) ADDR PORT(2)``; all behind it is data, which may be empty. RSV is not looked at in
what comes, and 0 in what goes. Fragments are not put together; the RFC wants them dropped then, so they are told apart
from nonsense. These functions run for each datagram.
"""

from __future__ import annotations

from typing import Final

from netnet.errors import ProtocolError
from netnet.socks.requests import address_text
from netnet.socks.socks4 import HOST_BYTES_MAX, host_bytes, host_text

_IPV4: Final = 1
_NAME: Final = 3
_IPV6: Final = 4

_IPV4_BYTES: Final = 10
_IPV6_BYTES: Final = 22
_NAME_BYTES: Final = 7  # and the name's own

#: the longest header: that of the longest name
HEADER_BYTES_MAX: Final = _NAME_BYTES + HOST_BYTES_MAX

_HEAD_IPV4: Final = bytes((0, 0, 0, _IPV4))
_HEAD_IPV6: Final = bytes((0, 0, 0, _IPV6))
_HEAD_NAME: Final = bytes((0, 0, 0, _NAME))


class FragmentError(ProtocolError):
    """One part of a larger datagram."""


def unwrap(data: bytes | bytearray | memoryview) -> tuple[str, bytes, int, int]:
    """What a datagram's header says: the host, its bytes (``b""`` if it is a name), the port, and where the data begins.

    Raises ``FragmentError`` for a fragment, and ``ProtocolError`` for what has no header.
    """
    size = len(data)
    if size < 5:
        raise ProtocolError(f"the datagram has {size} bytes, which is no header")
    kind = data[3]
    if kind == _IPV4:
        end = _IPV4_BYTES
    elif kind == _NAME:
        end = _NAME_BYTES + data[4]
    elif kind == _IPV6:
        end = _IPV6_BYTES
    else:
        raise ProtocolError(f"{kind} is no kind of address of SOCKS5")
    if size < end:
        raise ProtocolError(f"the datagram has {size} bytes, and its header {end}")
    if data[2]:
        raise FragmentError(f"the datagram is fragment {data[2] & 0x7F}; fragments are not put together here")
    port = data[end - 2] << 8 | data[end - 1]
    if kind != _NAME:
        packed = bytes(data[4 : end - 2])
        return address_text(packed), packed, port, end
    if end == _NAME_BYTES:
        raise ProtocolError("the host name is empty")
    return host_text(bytes(data[5 : end - 2])), b"", port, end


def wrap(packed: bytes, port: int) -> bytes:
    """The header for an address of 4 or 16 bytes; the data goes behind it."""
    return (_HEAD_IPV4 if len(packed) == 4 else _HEAD_IPV6) + packed + port.to_bytes(2, "big")


def wrap_name(host: str, port: int) -> bytes:
    """The header for a name, which only clients send. Raises ``ProtocolError`` for a name that cannot be sent."""
    name = host_bytes(host)
    return _HEAD_NAME + bytes((len(name),)) + name + port.to_bytes(2, "big")
