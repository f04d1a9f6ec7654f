"""A small client for each protocol that the proxy speaks, so that a test can go through all of them: what the client says,
and what it must hear. Written down from the RFCs and memos, by way of ``wire``, and not made by the code under test.

A ``Dialect`` says all it has to say at once (``opening``). What it hears is read by ``granted`` and ``refused``.
"""

from __future__ import annotations

import base64
import hashlib
import random
import socket
import struct
from dataclasses import dataclass

from netnet.socks.requests import Outcome
from tests.socks.wire import REFUSAL, choice, greeting, login, login_status, reply5, request, request5

RESET = struct.pack("ii", 1, 0)

LIMIT, UNRESOLVED = "limit", "unresolved"

#: what a client is told, as code of SOCKS5 and as status of HTTP. SOCKS4 has one code for all
CODES = {
    Outcome.FAILED: (1, 502),
    Outcome.DENIED: (2, 403),
    Outcome.NETWORK_UNREACHABLE: (3, 502),
    Outcome.HOST_UNREACHABLE: (4, 502),
    Outcome.REFUSED: (5, 502),
    Outcome.TIMED_OUT: (6, 504),
    Outcome.COMMAND_UNSUPPORTED: (7, 501),
    LIMIT: (1, 503),
    UNRESOLVED: (4, 502),
}


def exactly(sock, count):
    data = bytearray()
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        assert chunk, f"the stream ended after {bytes(data)!r}"
        data += chunk
    return bytes(data)


def everything(sock):
    return b"".join(sock)


def head_of(sock):
    """An HTTP head, and nothing behind it."""
    data = bytearray()
    while not data.endswith(b"\r\n\r\n"):
        data += exactly(sock, 1)
    return bytes(data)


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def data_of(size, seed=0):
    return random.Random(seed).randbytes(size)


def digest(data):
    return hashlib.sha256(data).hexdigest()


def told(host):
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


@dataclass(frozen=True)
class Dialect:
    """One way to ask the proxy."""

    name: str
    protocol: str  #: what the session says

    def __str__(self):
        return self.name

    @property
    def http(self):
        return self.protocol == "http"

    @property
    def plain(self):
        """Whether the proxy answers nothing when all is well, since the origin does."""
        return self.name == "http"

    @property
    def takes_logins(self):
        return not self.name.startswith("socks4")

    def opening(self, host, port, user=None, password=""):
        """All that a client says to be connected to *host* and *port*."""
        if self.name == "socks4":
            return request(host, port, user=b"" if user is None else user.encode())
        if self.name == "socks4a":
            return request("", port, name=host, user=b"" if user is None else user.encode())
        if self.name == "socks5":
            hello = greeting(0) if user is None else greeting(2) + login(user, password)
            return hello + request5(host, port)
        who = b"" if user is None else base64.b64encode(f"{user}:{password}".encode())
        header = b"Proxy-Authorization: Basic " + who + b"\r\n" if who else b""
        where = f"{told(host)}:{port}".encode()
        if self.plain:
            return b"GET http://%s/a?b HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (where, where, header)
        return b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (where, where, header)

    def open(self, p, address, user=None, password="", *, then=b"", source=None):
        """A client of the proxy *p* that has asked for *address*, and sent *then* with it."""
        return p.client(self.opening(*address[:2], user, password) + then, source)

    def before(self, user=None):
        """What a client of SOCKS5 hears before the reply to its request."""
        if self.name != "socks5":
            return b""
        return choice(0) if user is None else choice(2) + login_status(0)

    def granted(self, client, user=None):
        """Reads that it is granted, and no more; returns the address that the client is told, if any."""
        before = self.before(user)
        assert exactly(client, len(before)) == before
        if self.protocol.startswith("socks4"):
            answer = exactly(client, 8)
            assert answer[:2] == b"\0\x5a"
            return socket.inet_ntoa(answer[4:]), int.from_bytes(answer[2:4], "big")
        if self.name == "socks5":
            return reply_of_socks5(client, 0)
        if not self.plain:
            assert head_of(client) == b"HTTP/1.1 200 Connection established\r\n\r\n"
        return None

    def arrived(self, seen, address):
        """Reads at the target what comes before the client's data, which is the head of a plain request."""
        if self.plain:
            head = head_of(seen)
            where = f"{told(address[0])}:{address[1]}"
            assert head == f"GET /a?b HTTP/1.1\r\nHost: {where}\r\nConnection: close\r\n\r\n".encode()
            return len(head)
        return 0

    def refused(self, client, why, user=None):
        """Reads that it is refused, whole, and the end; no reset."""
        assert_refusal(self, everything(client), why, self.before(user))


def assert_refusal(dialect, heard, why, before=b""):
    """*heard* is all that a client hears that is refused for *why*."""
    code, status = CODES[why]
    if dialect.protocol.startswith("socks4"):
        assert heard == REFUSAL
    elif dialect.name == "socks5":
        assert heard == before + reply5(code)
    else:
        assert_http_refusal(heard, status)


def assert_http_refusal(heard, status):
    head, _, content = heard.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0].startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close" in lines
    assert b"Content-Length: %d" % len(content) in lines
    assert content.endswith(b"\n")
    return head


def reply_of_socks5(client, code):
    """Reads a reply of SOCKS5 with an IP address, which it returns."""
    answer = exactly(client, 4)
    assert answer[:3] == bytes([5, code, 0])
    family, size = {1: (socket.AF_INET, 4), 4: (socket.AF_INET6, 16)}[answer[3]]
    packed = exactly(client, size)
    return socket.inet_ntop(family, packed), int.from_bytes(exactly(client, 2), "big")


SOCKS4 = Dialect("socks4", "socks4")
SOCKS4A = Dialect("socks4a", "socks4a")
SOCKS5 = Dialect("socks5", "socks5")
CONNECT = Dialect("connect", "http")
PLAIN = Dialect("http", "http")

ALL = (SOCKS4, SOCKS4A, SOCKS5, CONNECT, PLAIN)

#: those that can say a host's name
NAMING = (SOCKS4A, SOCKS5, CONNECT, PLAIN)

#: those that open a stream of the client's own
STREAMS = (SOCKS4, SOCKS4A, SOCKS5, CONNECT)
