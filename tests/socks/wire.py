"""What SOCKS4 and SOCKS5 look like on the wire, written down a second time, from the memos and RFC 1928 and 1929 and not
from the code under test.

For the senders: each message as bytes. For the server there is a ``Reference`` beside: a slow parser that is given all
that a client has sent so far, and says what must have come of it by now.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

GRANTED = 0x5A
REJECTED = 0x5B

#: the whole refusal: no address is told
REFUSAL = bytes([0, REJECTED, 0, 0, 0, 0, 0, 0])

#: "If the selected METHOD is X'FF', none of the methods listed by the client are acceptable"
REFUSAL_OF_METHODS = b"\x05\xff"

#: "A STATUS field of X'00' indicates success", any other value failure
REFUSAL_OF_LOGIN = b"\x01\x01"


def request(host, port, *, command=1, user=b"", name=None):
    """A SOCKS4 request; with *name*, the SOCKS4a form of it."""
    text = name if name is None or isinstance(name, bytes) else name.encode()
    address = b"\0\0\0\1" if name is not None else ipaddress.IPv4Address(host).packed
    return struct.pack(">BBH", 4, command, port) + address + user + b"\0" + (b"" if text is None else text + b"\0")


def reply(code, host="0.0.0.0", port=0):
    """A SOCKS4 reply."""
    return struct.pack(">BBH", 0, code, port) + ipaddress.IPv4Address(host).packed


def greeting(*methods):
    """VER NMETHODS METHODS, RFC 1928 section 3."""
    return struct.pack(">BB", 5, len(methods)) + bytes(methods)


def choice(method):
    """VER METHOD."""
    return struct.pack(">BB", 5, method)


def login(user, password):
    """VER ULEN UNAME PLEN PASSWD, RFC 1929 section 2."""
    user, password = (part if isinstance(part, bytes) else part.encode() for part in (user, password))
    return struct.pack(f">BB{len(user)}sB{len(password)}s", 1, len(user), user, len(password), password)


def login_status(status, version=1):
    """VER STATUS."""
    return struct.pack(">BB", version, status)


def address(host, port):
    """ATYP ADDR PORT, RFC 1928 sections 4 and 5: an IP address where *host* is one, or else, and for bytes, a name."""
    try:
        found = ipaddress.ip_address(host if isinstance(host, str) else "")
    except ValueError:
        name = host if isinstance(host, bytes) else host.encode()
        return struct.pack(f">BB{len(name)}sH", 3, len(name), name, port)
    return struct.pack(">B", 1 if found.version == 4 else 4) + found.packed + struct.pack(">H", port)


def request5(host, port, *, command=1, reserved=0):
    """VER CMD RSV, and the address, RFC 1928 section 4."""
    return struct.pack(">BBB", 5, command, reserved) + address(host, port)


def reply5(code, host="0.0.0.0", port=0, *, reserved=0):
    """VER REP RSV, and the address, RFC 1928 section 6."""
    return struct.pack(">BBB", 5, code, reserved) + address(host, port)


# -- the server, once more and slowly


class Wanted(NamedTuple):
    """What a request says: *host* as text, the address' bytes or none for a name, the user id of SOCKS4."""

    command: int
    host: str
    port: int
    packed: bytes
    user_id: bytes


class _NotYet(Exception):
    """The next byte has not come."""


class _Wrong(Exception):
    """A byte stands where it cannot."""

    def __init__(self, refusal=None):
        self.refusal = refusal


@dataclass
class Reference:
    """What must have come of *data*, all that a client has sent, with *answers* to its logins given so far.

    The fields up to *answers* are given, the others found. Waiting for an answer, the parser stops: ``asking``.
    """

    data: bytes
    versions: tuple[int, ...] = (4, 5)
    preferred: tuple[int, ...] = (0, 2)  #: methods of SOCKS5, the best one first
    answers: tuple[bool, ...] = ()
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    output: bytes = b""
    wanted: Wanted | None = None
    trailing: bytes = b""
    wrong: bool = False
    asking: bool = False
    over: bool = False  #: whether all further bytes are trailing
    refusal: bytes = b""
    protocol: str = ""

    def __post_init__(self):
        self._place = 0
        try:
            self._converse()
            self.trailing = self.data[self._place :]
            self.over = not self.asking
        except _NotYet:
            pass
        except _Wrong as error:
            self.wrong = True
            self.refusal = error.refusal or self.refusal

    def _byte(self):
        if self._place == len(self.data):
            raise _NotYet
        self._place += 1
        return self.data[self._place - 1]

    def _bytes(self, count):
        return bytes([self._byte() for _ in range(count)])

    def _number(self):
        return int.from_bytes(self._bytes(2), "big")

    def _one_of(self, allowed):
        byte = self._byte()
        if byte not in allowed:
            raise _Wrong
        return byte

    def _converse(self):
        if self._one_of(set(self.versions)) == 4:
            self.protocol = "socks4"
            self.refusal = REFUSAL
            self.wanted = self._request4()
        else:
            self.protocol = "socks5"
            self.refusal = REFUSAL_OF_METHODS
            self._negotiate()

    # SOCKS4 and 4a: both memos

    def _request4(self):
        command = self._one_of({1, 2})
        port = self._number()
        packed = self._bytes(4)
        user_id = self._string(lambda byte: True)
        if packed[:3] != b"\0\0\0" or packed[3] == 0:
            return Wanted(command, str(ipaddress.IPv4Address(packed)), port, packed, user_id)
        name = self._string(lambda byte: 0x21 <= byte <= 0x7E)
        if not name:
            raise _Wrong
        self.protocol = "socks4a"
        return Wanted(command, name.decode("ascii"), port, b"", user_id)

    def _string(self, allowed):
        """Up to 255 bytes, and a NUL."""
        found = b""
        while byte := self._byte():
            if not allowed(byte) or len(found) == 255:
                raise _Wrong
            found += bytes([byte])
        return found

    # SOCKS5: RFC 1928 sections 3 and 4, RFC 1929

    def _negotiate(self):
        offered = self._bytes(self._byte())
        method = next((one for one in self.preferred if one in offered), None)
        if method is None:
            raise _Wrong
        self.output += choice(method)
        if method == 2 and not self._log_in():
            return
        self.refusal = reply5(1)
        self.wanted = self._request5()

    def _log_in(self):
        self.refusal = REFUSAL_OF_LOGIN
        self._one_of({1})
        user = self._bytes(self._byte())
        password = self._bytes(self._byte())
        self.logins.append((user, password))
        self.asking = not self.answers
        if self.asking:
            return False
        self.output += login_status(0 if self.answers[0] else 1)
        return self.answers[0]

    def _request5(self):
        self._one_of({5})
        command, _, kind = self._bytes(3)
        if command not in (1, 2, 3):
            raise _Wrong(reply5(7))
        if kind not in (1, 3, 4):
            raise _Wrong(reply5(8))
        if kind == 3:
            size = self._byte()
            if not size:
                raise _Wrong
            name = self._bytes(size)
            port = self._number()
            if not all(0x21 <= byte <= 0x7E for byte in name):
                raise _Wrong
            return Wanted(command, name.decode("ascii"), port, b"", b"")
        packed = self._bytes(4 if kind == 1 else 16)
        return Wanted(command, str(ipaddress.ip_address(packed)), self._number(), packed, b"")
