"""What SOCKS4 looks like on the wire, written down a second time, from the memos and not from the code under test."""

from __future__ import annotations

import ipaddress
import struct

GRANTED = 0x5A
REJECTED = 0x5B

#: the whole refusal: no address is told
REFUSAL = bytes([0, REJECTED, 0, 0, 0, 0, 0, 0])


def request(host, port, *, command=1, user=b"", name=None):
    """A SOCKS4 request; with *name*, the SOCKS4a form of it."""
    text = name if name is None or isinstance(name, bytes) else name.encode()
    address = b"\0\0\0\1" if name is not None else ipaddress.IPv4Address(host).packed
    return struct.pack(">BBH", 4, command, port) + address + user + b"\0" + (b"" if text is None else text + b"\0")
