"""HTTP proxying, both sides: requests and responses at each limit and one beyond, whole, byte by byte and glued to data;
what is forwarded, judged by h11; then any bytes at all. The invariant: a machine waits for more, has a head, or raises
``ProtocolError``, and how the bytes were cut never matters.
"""

from __future__ import annotations

import base64
import ipaddress
import itertools

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netnet import ProtocolError
from netnet.socks.http import HttpClient, HttpServer, end_of_head, looks_like_http
from netnet.socks.http_head import FIRST_LINE_BYTES_MAX, HEAD_BYTES_MAX, HEADER_LINES_MAX
from netnet.socks.requests import Command, Outcome, Request
from netnet.socks.session import ENDING_OF_OUTCOME, Ending
from netnet.socks.socks5 import Login


def head(*lines):
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


def to(host, port, packed=b""):
    return Request(Command.CONNECT, host, port, packed)


LOOPBACK6 = ipaddress.IPv6Address("::1").packed
BASIC = base64.b64encode(b"fred:secret").decode()
WEB = to("a.b", 80)


def bytewise(data):
    return [data[place : place + 1] for place in range(len(data))]


def fed(pieces, make=HttpServer):
    """What becomes of *pieces*: what ``feed`` said, what is behind the head, and the error's status and text."""
    machine = make()
    found = None
    for piece in pieces:
        try:
            found = machine.feed(piece)
        except ProtocolError as error:
            return None, b"", getattr(error, "status", 400), str(error)
        assert found is not None or machine.trailing == b""
    return found, machine.trailing, 0, ""


def whole(data, make=HttpServer):
    """The same for *data*, in one piece and in single bytes, which must be the same."""
    result = fed([data], make)
    assert fed(bytewise(data), make) == result
    return result


# -- CONNECT

CONNECTS = {
    "a name": (head("CONNECT example.com:443 HTTP/1.1", "Host: example.com:443"), to("example.com", 443)),
    "HTTP/1.0 without Host": (head("CONNECT example.com:443 HTTP/1.0"), to("example.com", 443)),
    "HTTP/1.1 without Host": (head("CONNECT example.com:443 HTTP/1.1"), to("example.com", 443)),
    "HTTP/1.9": (head("CONNECT a.b:1 HTTP/1.9"), to("a.b", 1)),
    "another Host": (head("CONNECT a.b:443 HTTP/1.1", "Host: c.d"), to("a.b", 443)),
    "IPv4": (head("CONNECT 10.1.2.3:80 HTTP/1.1"), to("10.1.2.3", 80, bytes((10, 1, 2, 3)))),
    "IPv4 as inet_aton(3) has it": (head("CONNECT 127.1:80 HTTP/1.1"), to("127.0.0.1", 80, bytes((127, 0, 0, 1)))),
    "IPv6": (head("CONNECT [::1]:443 HTTP/1.1"), to("::1", 443, LOOPBACK6)),
    "IPv6, written out": (head("CONNECT [0:0:0:0:0:0:0:1]:443 HTTP/1.1"), to("::1", 443, LOOPBACK6)),
    "port 1": (head("CONNECT a.b:1 HTTP/1.1"), to("a.b", 1)),
    "port 65535": (head("CONNECT a.b:65535 HTTP/1.1"), to("a.b", 65535)),
    "port with zeros in front": (head("CONNECT a.b:00080 HTTP/1.1"), to("a.b", 80)),
    "the longest name": (head(f"CONNECT {'h' * 255}:1 HTTP/1.1"), to("h" * 255, 1)),
    "an underscore": (head("CONNECT _a_.b:1 HTTP/1.1"), to("_a_.b", 1)),
    "a dot at the end": (head("CONNECT a.b.:1 HTTP/1.1"), to("a.b.", 1)),
    "usual headers": (
        head("CONNECT a.b:1 HTTP/1.1", "Host: a.b:1", "User-Agent: x/1", "Proxy-Connection: Keep-Alive", "Accept:*/*"),
        to("a.b", 1),
    ),
    "no content": (head("CONNECT a.b:1 HTTP/1.1", "Content-Length: 0"), to("a.b", 1)),
    "a value of Latin-1": (head("CONNECT a.b:1 HTTP/1.1", "X-Name: Jürgen", "X-Tab: a\tb", "X-Empty:"), to("a.b", 1)),
    "as many headers as may be": (head("CONNECT a.b:1 HTTP/1.1", *["X: y"] * HEADER_LINES_MAX), to("a.b", 1)),
}


@pytest.mark.parametrize("name", CONNECTS)
def test_connect(name):
    data, expected = CONNECTS[name]
    for trailing in (b"", b"\x16\x03\x01\0\xff", b"\r\n\r\n", data):
        found, behind, status, _ = whole(data + trailing)
        assert (found.request, behind, status) == (expected, trailing, 0)
        assert (found.method, found.connect, found.credentials, found.forward) == ("CONNECT", True, None, b"")


@pytest.mark.parametrize("name", CONNECTS)
def test_connect_is_whole_with_its_last_byte_and_not_before(name):
    data, expected = CONNECTS[name]
    machine = HttpServer()
    for piece in bytewise(data[:-1]):
        assert machine.feed(piece) is None
    assert machine.feed(data[-1:]).request == expected


# -- what is forwarded

#: request line, headers → target, request line for the origin, its headers
PLAIN = {
    "the root": ("GET http://a.b/ HTTP/1.1", [], WEB, "GET / HTTP/1.1", ["Host: a.b", "Connection: close"]),
    "no path": ("GET http://a.b HTTP/1.1", [], WEB, "GET / HTTP/1.1", ["Host: a.b", "Connection: close"]),
    "a query without path": ("GET http://a.b?q=/x HTTP/1.1", [], WEB, "GET /?q=/x HTTP/1.1", None),
    "path and query": ("GET http://a.b/p/q?r=http://s/?t HTTP/1.1", [], WEB, "GET /p/q?r=http://s/?t HTTP/1.1", None),
    "an empty segment": ("GET http://a.b//c HTTP/1.1", [], WEB, "GET //c HTTP/1.1", None),
    "escapes stay": ("GET http://a.b/%2e%2E/%00 HTTP/1.1", [], WEB, "GET /%2e%2E/%00 HTTP/1.1", None),
    "an at sign in the path": ("GET http://a.b/c@d:80 HTTP/1.1", [], WEB, "GET /c@d:80 HTTP/1.1", None),
    "the scheme in capitals": ("GET HTTP://a.b/ HTTP/1.1", [], WEB, "GET / HTTP/1.1", None),
    "HTTP/1.0 stays": ("GET http://a.b/ HTTP/1.0", [], WEB, "GET / HTTP/1.0", ["Host: a.b", "Connection: close"]),
    "HTTP/1.2 does not": ("GET http://a.b/ HTTP/1.2", [], WEB, "GET / HTTP/1.1", None),
    "any method": ("FROB-x http://a.b/ HTTP/1.1", [], WEB, "FROB-x / HTTP/1.1", None),
    "OPTIONS of the server": ("OPTIONS http://a.b HTTP/1.1", [], WEB, "OPTIONS * HTTP/1.1", None),
    "OPTIONS of the root": ("OPTIONS http://a.b/ HTTP/1.1", [], WEB, "OPTIONS / HTTP/1.1", None),
    "OPTIONS of a query": ("OPTIONS http://a.b?q HTTP/1.1", [], WEB, "OPTIONS /?q HTTP/1.1", None),
    "a port": (
        "GET http://a.b:8080/ HTTP/1.1",
        [],
        to("a.b", 8080),
        "GET / HTTP/1.1",
        ["Host: a.b:8080", "Connection: close"],
    ),
    "the usual port": ("GET http://a.b:80/ HTTP/1.1", [], WEB, "GET / HTTP/1.1", ["Host: a.b", "Connection: close"]),
    "an empty port": ("GET http://a.b:/ HTTP/1.1", [], WEB, "GET / HTTP/1.1", ["Host: a.b", "Connection: close"]),
    "IPv6": (
        "GET http://[::1]/ HTTP/1.1",
        [],
        to("::1", 80, LOOPBACK6),
        "GET / HTTP/1.1",
        ["Host: [::1]", "Connection: close"],
    ),
    "IPv6 with a port": (
        "GET http://[::1]:81 HTTP/1.1",
        [],
        to("::1", 81, LOOPBACK6),
        "GET / HTTP/1.1",
        ["Host: [::1]:81", "Connection: close"],
    ),
    "IPv4": ("GET http://10.1.2.3/ HTTP/1.1", [], to("10.1.2.3", 80, bytes((10, 1, 2, 3))), "GET / HTTP/1.1", None),
    "Host is replaced": (
        "GET http://a.b/ HTTP/1.1",
        ["Host: evil.example"],
        WEB,
        "GET / HTTP/1.1",
        ["Host: a.b", "Connection: close"],
    ),
    "headers go on as they are, in order": (
        "POST http://a.b/ HTTP/1.1",
        ["host:a.b", "aCCept:  */* ", "Cookie: a=b; c", "X:", "Content-Length: 3", "Cookie: d", "Trailer: e"],
        WEB,
        "POST / HTTP/1.1",
        [
            "Host: a.b",
            "aCCept:  */* ",
            "Cookie: a=b; c",
            "X:",
            "Content-Length: 3",
            "Cookie: d",
            "Trailer: e",
            "Connection: close",
        ],
    ),
    "chunked stays": (
        "POST http://a.b/ HTTP/1.1",
        ["Transfer-Encoding: Chunked", "Expect: 100-continue"],
        WEB,
        "POST / HTTP/1.1",
        ["Host: a.b", "Transfer-Encoding: Chunked", "Expect: 100-continue", "Connection: close"],
    ),
    "what concerns this connection is removed": (
        "GET http://a.b/ HTTP/1.1",
        [
            "Connection: keep-alive, X-Hop",
            "PROXY-connection: keep-alive",
            "Keep-Alive: timeout=5",
            "x-hop: 1",
            f"Proxy-Authorization: Basic {BASIC}",
            "X-Hop2: 2",
            "connection:\tx-hop2 ,,",
            "Upgrade: h2c",
            "X-Hop3: 3",
        ],
        WEB,
        "GET / HTTP/1.1",
        ["Host: a.b", "X-Hop3: 3", "Connection: close"],
    ),
    "TE with trailers": (
        "GET http://a.b/ HTTP/1.1",
        ["TE: gzip;q=0.5, Trailers", "Connection: TE"],
        WEB,
        "GET / HTTP/1.1",
        ["Host: a.b", "TE: trailers", "Connection: close, TE"],
    ),
    "TE without": (
        "GET http://a.b/ HTTP/1.1",
        ["TE: gzip", "Connection: TE"],
        WEB,
        "GET / HTTP/1.1",
        ["Host: a.b", "Connection: close"],
    ),
    "a WebSocket": (
        "GET http://a.b/ HTTP/1.1",
        ["Connection: keep-alive, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Key: x"],
        WEB,
        "GET / HTTP/1.1",
        ["Host: a.b", "Sec-WebSocket-Key: x", "Upgrade: websocket", "Connection: close, Upgrade"],
    ),
    **{
        f"no upgrade: {why}": (line, headers, WEB, line.replace("http://a.b", ""), ["Host: a.b", "Connection: close"])
        for why, line, headers in [
            ("h2c", "GET http://a.b/ HTTP/1.1", ["Connection: Upgrade", "Upgrade: h2c"]),
            ("h2c beside it", "GET http://a.b/ HTTP/1.1", ["Connection: Upgrade", "Upgrade: websocket, h2c"]),
            (
                "h2c in another line",
                "GET http://a.b/ HTTP/1.1",
                ["Connection: Upgrade", "Upgrade: websocket", "Upgrade: h2c"],
            ),
            ("no word of it in Connection", "GET http://a.b/ HTTP/1.1", ["Upgrade: websocket"]),
            ("HTTP/1.0", "GET http://a.b/ HTTP/1.0", ["Connection: Upgrade", "Upgrade: websocket"]),
            ("POST", "POST http://a.b/ HTTP/1.1", ["Connection: Upgrade", "Upgrade: websocket"]),
        ]
    },
    "Max-Forwards counts for OPTIONS": (
        "OPTIONS http://a.b/ HTTP/1.1",
        ["Max-Forwards: 10"],
        WEB,
        "OPTIONS / HTTP/1.1",
        ["Host: a.b", "Max-Forwards: 9", "Connection: close"],
    ),
    "Max-Forwards does not for GET": (
        "GET http://a.b/ HTTP/1.1",
        ["Max-Forwards: 0"],
        WEB,
        "GET / HTTP/1.1",
        ["Host: a.b", "Max-Forwards: 0", "Connection: close"],
    ),
    "a long length": ("POST http://a.b/ HTTP/1.1", [f"Content-Length: {'9' * 18}"], WEB, "POST / HTTP/1.1", None),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain(name):
    line, headers, target, forwarded, left = PLAIN[name]
    for trailing in (b"", b"content \0\xff\n"):
        found, behind, status, _ = whole(head(line, *headers) + trailing)
        assert (found.request, behind, status, found.connect) == (target, trailing, 0, False)
        assert found.method == line.split()[0]
        if left is None:
            assert found.forward.startswith(f"{forwarded}\r\n".encode())
        else:
            assert found.forward == head(forwarded, *left)


def judged(data, content=b""):
    """What h11 as the origin makes of *data*: the request, its headers, and its content."""
    origin = h11.Connection(h11.SERVER)
    origin.receive_data(data + content)
    request = origin.next_event()
    assert type(request) is h11.Request
    body = b""
    while type(event := origin.next_event()) is h11.Data:
        body += bytes(event.data)
    return request, [(bytes(name), bytes(value)) for name, value in request.headers], body, type(event), origin


@pytest.mark.parametrize("name", PLAIN)
def test_h11_reads_what_is_forwarded_and_reads_the_same(name):
    line, headers, _, forwarded, _ = PLAIN[name]
    found, _, _, _ = fed([head(line, *headers)])
    request, fields, body, last, _ = judged(found.forward)
    method, target, version = forwarded.encode().split(b" ")
    assert (bytes(request.method), bytes(request.target), b"HTTP/" + bytes(request.http_version)) == (
        method,
        target,
        version,
    )
    authority = (
        line.split()[1].partition("://")[2].partition("/")[0].partition("?")[0].removesuffix(":").removesuffix(":80")
    )
    assert [value for name, value in fields if name == b"host"] == [authority.encode()]
    assert any(value.split(b",")[0] == b"close" for name, value in fields if name == b"connection")
    names = {name for name, _ in fields}
    assert not names & {b"proxy-authorization", b"proxy-connection", b"keep-alive"}
    framed = names & {b"content-length", b"transfer-encoding"}
    assert last is (h11.NEED_DATA if framed else h11.EndOfMessage if b"upgrade" not in names else last)
    assert body == b""


CONTENTS = [
    (["Content-Length: 5"], b"hello", b"hello"),
    (["Transfer-Encoding: chunked"], b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    (["Transfer-Encoding: chunked", "Trailer: X"], b"5\r\nhello\r\n0\r\nX: y\r\n\r\n", b"hello"),
    ([], b"", b""),
]


@pytest.mark.parametrize(("headers", "content", "expected"), CONTENTS)
def test_content_keeps_its_framing_and_the_connection_ends_with_it(headers, content, expected):
    found, behind, _, _ = whole(head("POST http://a.b/ HTTP/1.1", *headers, "Connection: keep-alive") + content)
    _, _, body, last, origin = judged(found.forward, behind)
    assert (body, last) == (expected, h11.EndOfMessage)
    assert origin.their_state is h11.MUST_CLOSE


# -- what is refused

TARGETS = {
    "origin-form": ("GET / HTTP/1.1", 400, "this is a proxy"),
    "origin-form with a URL in it": ("GET /?q=http://a.b/ HTTP/1.1", 400, "this is a proxy"),
    "asterisk": ("OPTIONS * HTTP/1.1", 400, "this is a proxy"),
    "authority of GET": ("GET a.b:80 HTTP/1.1", 400, "this is a proxy"),
    "https": ("GET https://a.b/ HTTP/1.1", 501, "use CONNECT"),
    "ftp": ("GET ftp://a.b/ HTTP/1.1", 501, "use CONNECT"),
    "ws": ("GET ws://a.b/ HTTP/1.1", 501, "use CONNECT"),
    "no scheme": ("GET ://a.b/ HTTP/1.1", 501, "use CONNECT"),
    "no host": ("GET http:///x HTTP/1.1", 400, "host name"),
    "no host but a port": ("GET http://:80/ HTTP/1.1", 400, "host name"),
    "no host but a query": ("GET http://?x HTTP/1.1", 400, "host name"),
    "a fragment": ("GET http://a.b/#c HTTP/1.1", 400, "fragment"),
    "a user": ("GET http://fred@a.b/ HTTP/1.1", 400, "host name"),
    "a user and a password": ("GET http://fred:secret@a.b/ HTTP/1.1", 400, "port"),
    "an escape in the host": ("GET http://a%2eb/ HTTP/1.1", 400, "host name"),
    "a backslash": ("GET http://a.b\\@c.d/ HTTP/1.1", 400, "host name"),
    "a host of Latin-1": ("GET http://bücher/ HTTP/1.1", 400, "beyond ASCII"),
    "a path of Latin-1": ("GET http://a.b/bücher HTTP/1.1", 400, "beyond ASCII"),
    "a name too long": (f"GET http://{'h' * 256}/ HTTP/1.1", 400, "host name"),
    "http port 0": ("GET http://a.b:0/ HTTP/1.1", 400, "no port"),
    "http port 65536": ("GET http://a.b:65536/ HTTP/1.1", 400, "no port"),
    "http two ports": ("GET http://a.b:80:80/ HTTP/1.1", 400, "no port"),
    "CONNECT without port": ("CONNECT a.b HTTP/1.1", 400, "no port"),
    "CONNECT with an empty port": ("CONNECT a.b: HTTP/1.1", 400, "no port"),
    "CONNECT port 0": ("CONNECT a.b:0 HTTP/1.1", 400, "no port"),
    "CONNECT port 65536": ("CONNECT a.b:65536 HTTP/1.1", 400, "no port"),
    "CONNECT port of six digits": ("CONNECT a.b:000080 HTTP/1.1", 400, "no port"),
    "CONNECT port by name": ("CONNECT a.b:https HTTP/1.1", 400, "no port"),
    "CONNECT port with a sign": ("CONNECT a.b:+80 HTTP/1.1", 400, "no port"),
    "CONNECT port of other digits": ("CONNECT a.b:8² HTTP/1.1", 400, "beyond ASCII"),
    "CONNECT a URL": ("CONNECT http://a.b/ HTTP/1.1", 400, "no port"),
    "CONNECT a path": ("CONNECT /x:80 HTTP/1.1", 400, "host name"),
    "CONNECT no host": ("CONNECT :80 HTTP/1.1", 400, "host name"),
    "CONNECT a user": ("CONNECT fred@a.b:80 HTTP/1.1", 400, "host name"),
    "CONNECT IPv6 without brackets": ("CONNECT ::1:80 HTTP/1.1", 400, "host name"),
    "CONNECT IPv6 without a port": ("CONNECT [::1] HTTP/1.1", 400, "no port"),
    "CONNECT an open bracket": ("CONNECT [::1:80 HTTP/1.1", 400, "brackets"),
    "CONNECT something behind the bracket": ("CONNECT [::1]x:80 HTTP/1.1", 400, "brackets"),
    "CONNECT a name in brackets": ("CONNECT [a.b]:80 HTTP/1.1", 400, "brackets"),
    "CONNECT IPv4 in brackets": ("CONNECT [127.0.0.1]:80 HTTP/1.1", 400, "brackets"),
    "CONNECT a scope": ("CONNECT [fe80::1%eth0]:80 HTTP/1.1", 400, "brackets"),
    "CONNECT a future kind of address": ("CONNECT [v1.a]:80 HTTP/1.1", 400, "brackets"),
    "two words": ("GET http://a.b/", 400, "first line"),
    "one word": ("GET", 400, "first line"),
    "SSH": ("SSH-2.0-OpenSSH_9.6", 400, "first line"),
    "two spaces": ("GET  http://a.b/ HTTP/1.1", 400, "first line"),
    "a space in the target": ("GET http://a.b/c d HTTP/1.1", 400, "first line"),
    "a space at the end": ("GET http://a.b/ HTTP/1.1 ", 400, "first line"),
    "a tab between": ("GET\thttp://a.b/ HTTP/1.1", 400, "first line"),
    "a tab in the target": ("GET http://a.b/\t HTTP/1.1", 400, "beyond"),
    "no method": ("G(T http://a.b/ HTTP/1.1", 400, "no method"),
    "no version": ("GET http://a.b/ FOO", 400, "speaks HTTP/1.1"),
    "half a version": ("GET http://a.b/ HTTP/", 400, "speaks HTTP/1.1"),
    "a version in lower case": ("GET http://a.b/ http/1.1", 400, "speaks HTTP/1.1"),
    "HTTP/2": ("PRI * HTTP/2.0", 505, "speaks HTTP/1.1"),
    "HTTP/0.9": ("GET http://a.b/ HTTP/0.9", 505, "speaks HTTP/1.1"),
    "HTTP/3": ("GET http://a.b/ HTTP/3", 505, "speaks HTTP/1.1"),
    "HTTP/1.10": ("GET http://a.b/ HTTP/1.10", 505, "speaks HTTP/1.1"),
    "PROXY protocol where it is not expected": ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2", 400, "first line"),
}

GET = "GET http://a.b/ HTTP/1.1"
OLD = "GET http://a.b/ HTTP/1.0"
TUNNEL = "CONNECT a.b:1 HTTP/1.1"

HEADERS = {
    "both framings": ([GET, "Content-Length: 3", "Transfer-Encoding: chunked"], 400, "both"),
    "both framings, turned": ([GET, "Transfer-Encoding: chunked", "Content-Length: 3"], 400, "both"),
    "two lengths": ([GET, "Content-Length: 3", "Content-Length: 4"], 400, "twice"),
    "the same length twice": ([GET, "Content-Length: 3", "content-length: 3"], 400, "twice"),
    "a list of lengths": ([GET, "Content-Length: 3, 3"], 400, "number"),
    "an empty length": ([GET, "Content-Length:"], 400, "number"),
    "a negative length": ([GET, "Content-Length: -1"], 400, "number"),
    "a length with a sign": ([GET, "Content-Length: +1"], 400, "number"),
    "a hexadecimal length": ([GET, "Content-Length: 0x1"], 400, "number"),
    "a length with an underscore": ([GET, "Content-Length: 1_0"], 400, "number"),
    "a length of other digits": ([GET, "Content-Length: ²"], 400, "number"),
    "too long a length": ([GET, f"Content-Length: {'1' * 19}"], 400, "number"),
    "two codings": ([GET, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], 400, "twice"),
    "another coding": ([GET, "Transfer-Encoding: gzip"], 501, "chunked"),
    "a list of codings": ([GET, "Transfer-Encoding: gzip, chunked"], 501, "chunked"),
    "chunked twice": ([GET, "Transfer-Encoding: chunked, chunked"], 501, "chunked"),
    "chunked and not": ([GET, "Transfer-Encoding: chunked, identity"], 501, "chunked"),
    "a coding with a vertical tab": ([GET, "Transfer-Encoding: \x0bchunked"], 400, "0x0b"),
    "a quoted coding": ([GET, 'Transfer-Encoding: "chunked"'], 501, "chunked"),
    "a coding in HTTP/1.0": ([OLD, "Transfer-Encoding: chunked"], 400, "HTTP/1.0"),
    "CONNECT with content": ([TUNNEL, "Content-Length: 1"], 400, "no content"),
    "CONNECT chunked": ([TUNNEL, "Transfer-Encoding: chunked"], 400, "CONNECT"),
    "two hosts": ([GET, "Host: a.b", "Host: a.b"], 400, "host stands there twice"),
    "two hosts of CONNECT": ([TUNNEL, "Host: a.b", "HOST: c.d"], 400, "host stands there twice"),
    "two logins": ([GET, *[f"Proxy-Authorization: Basic {BASIC}"] * 2], 400, "twice"),
    "Connection names Host": ([GET, "Connection: close, Host"], 400, "connection names"),
    "Connection names the length": ([GET, "Connection: content-length", "Content-Length: 3"], 400, "connection names"),
    "Connection names the coding": ([GET, "Connection: x", "Connection: Transfer-Encoding"], 400, "connection names"),
    "a folded line": ([GET, "X: y", " z"], 400, "line 3 begins with a space"),
    "a line folded by a tab": ([GET, "X: y", "\tz: w"], 400, "line 3 begins with a space"),
    "a folded first line": ([GET, " X: y"], 400, "line 2 begins with a space"),
    "a space before the colon": ([GET, "Host : a.b"], 400, "name before the colon"),
    "a tab before the colon": ([GET, "Content-Length\t: 3"], 400, "name before the colon"),
    "a space in the name": ([GET, "X Y: z"], 400, "name before the colon"),
    "no name": ([GET, ": z"], 400, "name before the colon"),
    "no colon": ([GET, "X"], 400, "line 2 has no colon"),
    "a name of Latin-1": ([GET, "Xü: y"], 400, "name before the colon"),
    "NUL in a value": ([GET, "X: a\0b"], 400, "line 2 has the byte 0x00"),
    "NUL in a name": ([GET, "X\0: b"], 400, "0x00"),
    "CR in a value": ([GET, "X: a\rY: b"], 400, "line 2 has the byte 0x0d"),
    "two CRs": ([GET, "X: a\r"], 400, "0x0d"),
    "a control character": ([GET, "X: \x1b[2J"], 400, "0x1b"),
    "DEL": ([GET, "X: \x7f"], 400, "0x7f"),
    "LF alone": ([f"{GET}\nX: y"], 400, "line 1 ends with LF alone"),
    "LF alone behind a header": ([GET, "X: y\nZ: w"], 400, "line 2 ends with LF alone"),
    "an empty line of LF alone": ([GET, "\nZ: w"], 400, "line 2 ends with LF alone"),
    "TRACE for the proxy itself": (["TRACE http://a.b/ HTTP/1.1", "Max-Forwards: 0"], 501, "max-forwards"),
    "OPTIONS for the proxy itself": (["OPTIONS http://a.b/ HTTP/1.1", "Max-Forwards: 00"], 501, "max-forwards"),
    "Max-Forwards is no number": ([GET, "Max-Forwards: x"], 400, "max-forwards"),
    "too many headers": ([GET, *["X: y"] * (HEADER_LINES_MAX + 1)], 431, "more than 100"),
}


def refused(data):
    """Status and text of the error that *data* is, whole and byte by byte; and that of what the client is told."""
    found, _, status, text = whole(data)
    assert found is None
    assert text.isprintable()
    machine = HttpServer()
    with pytest.raises(ProtocolError) as caught:
        machine.feed(data)
    response, content = answered(machine.bad_request(caught.value))
    assert (response.status_code, content.decode()) == (status, f"{text}\n")
    return status, text


@pytest.mark.parametrize("name", TARGETS)
def test_request_lines_that_are_refused(name):
    line, status, word = TARGETS[name]
    assert refused(head(line))[0] == status
    assert word in refused(f"{line}\r\n".encode("latin-1"))[1]


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_are_refused(name):
    lines, status, word = HEADERS[name]
    found = refused(head(*lines) + b"trailing")
    assert found[0] == status
    assert word in found[1]


@pytest.mark.parametrize("byte", [0, 4, 5, 0x0A, 0x0D, 0x16, 0x20, 0x2F, 0x30, 0x40, 0x5B, 0x60, 0x7B, 0x80, 0xFF])
def test_the_first_byte_tells(byte):
    assert not looks_like_http(byte)
    assert refused(bytes([byte]))[0] == 400


def test_methods_look_like_http():
    for line in ("CONNECT", "GET", "get", "PRI", "x", "Z"):
        assert looks_like_http(line.encode()[0])


@pytest.mark.parametrize("lines", [[GET, "X: y"], [TUNNEL]])
def test_what_is_not_finished(lines):
    data = head(*lines)[:-2]
    assert whole(data) == (None, b"", 0, "")
    assert whole(data + b"\r") == (None, b"", 0, "")


# -- limits


def test_the_longest_first_line():
    room = FIRST_LINE_BYTES_MAX - len(head(GET)) + len(b"\r\n")
    longest = GET.replace("b/", "b/" + "p" * room)
    assert len(f"{longest}\r\n") == FIRST_LINE_BYTES_MAX
    assert whole(head(longest))[0].request == WEB
    longer = longest.replace("pp", "ppp", 1)
    assert refused(head(longer)) == (414, f"the first line is longer than {FIRST_LINE_BYTES_MAX} bytes")
    machine = HttpServer()
    assert machine.feed(head(longer)[: FIRST_LINE_BYTES_MAX - 1]) is None
    with pytest.raises(ProtocolError, match="longer"):
        machine.feed(head(longer)[FIRST_LINE_BYTES_MAX - 1 :][:1])


def test_the_longest_head():
    base = len(head(GET, "X: "))
    longest = head(GET, "X: " + "y" * (HEAD_BYTES_MAX - base))
    assert len(longest) == HEAD_BYTES_MAX
    assert fed([longest + b"more"])[:2] == (fed([longest])[0], b"more")
    longer = head(GET, "X: " + "y" * (HEAD_BYTES_MAX - base + 1))
    assert refused(longer) == (431, f"the head is longer than {HEAD_BYTES_MAX} bytes")
    assert fed([longer[: HEAD_BYTES_MAX - 1]]) == (None, b"", 0, "")
    assert fed([longer[:HEAD_BYTES_MAX]])[2] == 431


def test_what_comes_first_counts():
    """Of two faults the one that stands first is told, however the bytes come."""
    assert refused(b"G\0" + b"x" * FIRST_LINE_BYTES_MAX)[0] == 400
    assert refused(b"G" + b"x" * FIRST_LINE_BYTES_MAX + b"\0")[0] == 414
    assert refused(b"PRI * HTTP/2.0\r\n\r\n\0")[0] == 505
    assert refused(b"Gx\r" + b"x" * FIRST_LINE_BYTES_MAX)[0] == 400
    assert refused(head(GET, *["X: y"] * HEADER_LINES_MAX, "X: \0"))[1].endswith("0x00, which is not allowed in a head")


def test_what_was_bad_stays_bad_and_fills_no_memory():
    machine = HttpServer()
    for piece in (b"GET / HTTP/1.1\r\n", b"x" * 100_000, head(GET)):
        with pytest.raises(ProtocolError, match="this is a proxy"):
            machine.feed(piece)
    assert machine.request is None
    assert len(machine._buffer) == 0
    assert machine.trailing == b""


@given(pieces=st.lists(st.binary(max_size=5000), max_size=40))
@settings(deadline=None, max_examples=50)
def test_memory_is_bounded(pieces):
    machine = HttpServer()
    for piece in (f"{GET}\r\nX: ".encode(), *pieces):
        try:
            machine.feed(piece.translate(None, b"\r\n\0"))
        except ProtocolError:
            break
        kept = len(machine._buffer)
        assert kept < HEAD_BYTES_MAX


# -- credentials


def basic(raw):
    return "Basic " + base64.b64encode(raw).decode()


CREDENTIALS = {
    "usual": (basic(b"fred:secret"), Login("fred", "secret")),
    "scheme in capitals": (basic(b"fred:secret").replace("Basic", "BASIC"), Login("fred", "secret")),
    "two spaces": (basic(b"fred:secret").replace(" ", "  "), Login("fred", "secret")),
    "without padding": (basic(b"fred:secret!").rstrip("="), Login("fred", "secret!")),
    "a colon in the password": (basic(b"fred:se:cret:"), Login("fred", "se:cret:")),
    "an empty password": (basic(b"fred:"), Login("fred", "")),
    "an empty user": (basic(b":secret"), Login("", "secret")),
    "UTF-8": (basic("jürgen:grün€".encode()), Login("jürgen", "grün€")),
    "Latin-1": (basic(b"j\xfcrgen:x"), Login("j\udcfcrgen", "x")),
    "all of base64": (basic(b"a:\xfb\xff\xbf\xfe"), Login("a", b"\xfb\xff\xbf\xfe".decode("utf-8", "surrogateescape"))),
    "the longest": (basic(b"u" * 255 + b":" + b"p" * 255), Login("u" * 255, "p" * 255)),
    "user too long": (basic(b"u" * 256 + b":"), None),
    "password too long": (basic(b":" + b"p" * 256), None),
    "much too long": (basic(b"u:" + b"p" * 5000), None),
    "no colon": (basic(b"fred"), None),
    "nothing": ("Basic", None),
    "nothing but a space": ("Basic ", None),
    "only padding": ("Basic ====", None),
    "no base64": ("Basic fred:secret", None),
    "base64 for URLs": ("Basic YTr7_7_-", None),
    "base64 of an impossible length": ("Basic YTphY", None),
    "padding inside": ("Basic YTo=YTo=", None),
    "a line end": (basic(b"fr\r\ned:x"), None),
    "a tab": (basic(b"fr\ted:x"), None),
    "NUL": (basic(b"fred:\0"), None),
    "DEL": (basic(b"fred:\x7f"), None),
    "another scheme": ("Bearer " + BASIC, None),
    "a longer scheme": ("Basics " + BASIC, None),
    "empty": ("", None),
}


@pytest.mark.parametrize("name", CREDENTIALS)
@pytest.mark.parametrize("line", [GET, TUNNEL])
def test_credentials(name, line):
    value, expected = CREDENTIALS[name]
    found = whole(head(line, f"Proxy-Authorization: {value}"))[0]
    assert found.credentials == expected
    assert b"roxy" not in found.forward


def test_credentials_are_not_shown():
    found = whole(
        head(GET, f"Proxy-Authorization: {BASIC}", f"Proxy-AuthorizatioN2: {basic(b'fred:secret')}", "Cookie: c")
    )[0]
    assert "Cookie" not in repr(found)
    assert "secret" not in repr(whole(head(GET, f"Proxy-Authorization: Basic {BASIC}"))[0])


@given(st.binary(max_size=40))
def test_base64_is_that_of_everybody(raw):
    printable = raw.isascii() and raw.decode().isprintable()
    user, colon, password = raw.partition(b":")
    expected = Login(user.decode(), password.decode()) if colon and printable else None
    found = fed([head(TUNNEL, f"Proxy-Authorization: {basic(raw)}")])[0]
    if printable:
        assert found.credentials == expected
        if expected is not None:
            assert f"\r\nProxy-Authorization: {basic(raw)}\r\n".encode() in HttpClient("a.b", 1, expected).request


# -- what clients are told


def answered(data, method="GET"):
    """What h11 as the client makes of a response: the response, and its content."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a.b")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    response = client.next_event()
    assert type(response) is h11.Response
    content = b""
    while type(event := client.next_event()) is h11.Data:
        content += bytes(event.data)
    assert type(event) is h11.EndOfMessage
    assert client.their_state is h11.MUST_CLOSE
    assert client.trailing_data == (b"", False)
    return response, content


def asked(line=GET):
    machine = HttpServer()
    machine.feed(head(line))
    return machine


def test_granted():
    assert asked(TUNNEL).granted() == b"HTTP/1.1 200 Connection established\r\n\r\n"
    assert asked(GET).granted() == b""


FAILURES = [
    (Outcome.FAILED, "", 502, "destination_unavailable"),
    (Outcome.DENIED, "", 403, "http_request_denied"),
    (Outcome.NETWORK_UNREACHABLE, "", 502, "destination_ip_unroutable"),
    (Outcome.HOST_UNREACHABLE, "", 502, "destination_ip_unroutable"),
    (Outcome.REFUSED, "", 502, "connection_refused"),
    (Outcome.TIMED_OUT, "", 504, "connection_timeout"),
    (Outcome.COMMAND_UNSUPPORTED, "", 501, "http_request_denied"),
    (Outcome.ADDRESS_UNSUPPORTED, "", 502, "destination_ip_unroutable"),
    (Outcome.HOST_UNREACHABLE, Ending.UNRESOLVED, 502, "dns_error"),
    (Outcome.FAILED, Ending.LIMIT, 503, "connection_limit_reached"),
    (Outcome.FAILED, Ending.HANDSHAKE_TIMEOUT, 408, None),
    (Outcome.FAILED, Ending.BANNED, 403, "http_request_denied"),
    (Outcome.FAILED, Ending.UPSTREAM, 502, "destination_unavailable"),
    (Outcome.FAILED, Ending.ERROR, 502, "proxy_internal_error"),
    (Outcome.DENIED, "prohibited", 403, "destination_ip_prohibited"),
    (Outcome.REFUSED, Ending.REFUSED, 502, "connection_refused"),
]


@pytest.mark.parametrize(("outcome", "ending", "status", "error"), FAILURES)
@pytest.mark.parametrize("line", [GET, TUNNEL])
def test_failed(outcome, ending, status, error, line):
    response, content = answered(asked(line).failed(outcome, ending))
    fields = dict(response.headers)
    assert response.status_code == status
    assert fields.get(b"proxy-status") == (f"netnet; error={error}".encode() if error else None)
    assert content.count(b"\n") == 1
    assert content.endswith(b"\n")
    assert int(fields[b"content-length"]) == len(content)


def test_every_outcome_has_its_answer():
    for outcome in set(Outcome) - {Outcome.GRANTED}:
        for ending in ("", ENDING_OF_OUTCOME[outcome], *Ending):
            assert answered(asked(TUNNEL).failed(outcome, ending))[0].status_code >= 400


def test_a_client_that_has_said_nothing_can_be_told_as_well():
    assert answered(HttpServer().failed(Outcome.FAILED, Ending.HANDSHAKE_TIMEOUT))[0].status_code == 408


def test_login_wanted():
    response, _ = answered(asked(TUNNEL).login_wanted())
    assert response.status_code == 407
    assert dict(response.headers)[b"proxy-authenticate"] == b'Basic realm="proxy", charset="UTF-8"'


def test_an_answer_to_head_has_no_content():
    machine = asked("HEAD http://a.b/ HTTP/1.1")
    for data in (machine.failed(Outcome.REFUSED), machine.login_wanted(), machine.bad_request(ProtocolError("x"))):
        assert data.endswith(b"\r\n\r\n")
        assert b"Content-Length: " in data
        assert answered(data, "HEAD")[1] == b""


def test_any_error_can_be_told():
    response, content = answered(HttpServer().bad_request(ProtocolError("a \udcff b")))
    assert (response.status_code, content) == (400, b"a \\udcff b\n")


# -- the client's side

REQUESTS = {
    "a name": (("example.com", 443), head("CONNECT example.com:443 HTTP/1.1", "Host: example.com:443")),
    "IPv4": (("10.1.2.3", 80), head("CONNECT 10.1.2.3:80 HTTP/1.1", "Host: 10.1.2.3:80")),
    "IPv6": (("::1", 80), head("CONNECT [::1]:80 HTTP/1.1", "Host: [::1]:80")),
    "an international name": (
        ("bücher.example", 1),
        head("CONNECT xn--bcher-kva.example:1 HTTP/1.1", "Host: xn--bcher-kva.example:1"),
    ),
    "a login": (
        ("a.b", 1, Login("jürgen", "a:b")),
        head("CONNECT a.b:1 HTTP/1.1", "Host: a.b:1", f"Proxy-Authorization: {basic('jürgen:a:b'.encode())}"),
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_request_of_a_client(name):
    arguments, expected = REQUESTS[name]
    data = HttpClient(*arguments).request
    assert data == expected
    found = whole(data)[0]
    assert found.request.port == arguments[1]
    assert found.credentials == (arguments[2] if len(arguments) > 2 else None)


UNSAID = [
    ("", 80),
    ("h" * 256, 80),
    ("a b", 80),
    ("a/b", 80),
    ("a\r\nX: y", 80),
    ("a@b", 80),
    ("a:b", 80),
    ("fe80::1%eth0", 80),
    ("é..x", 80),
    ("[::1]", 80),
    ("a.b", 0),
    ("a.b", 65536),
    ("a.b", -1),
    ("a.b", 80, Login("fr:ed", "secret")),
    ("a.b", 80, Login("fr\ned", "secret")),
    ("a.b", 80, Login("fred", "sec\0ret")),
]


@pytest.mark.parametrize("arguments", UNSAID)
def test_what_a_client_cannot_say(arguments):
    with pytest.raises(ProtocolError) as caught:
        HttpClient(*arguments)
    assert "secret" not in str(caught.value)


def client():
    return HttpClient("a.b", 1)


def answer_of(data):
    """Whether the client is granted its connection, and its status and outcome; cut in any way."""
    granted, trailing, _, error = whole(data, client)
    assert not error
    machine = client()
    assert machine.feed(data) is granted
    return granted, machine.status, machine.outcome, trailing


RESPONSES = {
    "established": (head("HTTP/1.1 200 Connection established"), True, 200, Outcome.GRANTED),
    "of 1.0": (head("HTTP/1.0 200 OK"), True, 200, Outcome.GRANTED),
    "without a reason": (head("HTTP/1.1 200 "), True, 200, Outcome.GRANTED),
    "without the space even": (head("HTTP/1.1 200"), True, 200, Outcome.GRANTED),
    "another 2xx": (head("HTTP/1.1 204 Nothing", "X: y"), True, 204, Outcome.GRANTED),
    "framing means nothing": (
        head("HTTP/1.1 200 OK", "Content-Length: 7", "Transfer-Encoding: chunked", "Proxy-Status: x; error=dns_error"),
        True,
        200,
        Outcome.GRANTED,
    ),
    "headers that are none": (head("HTTP/1.1 200 OK", "X", " y", ": z"), True, 200, Outcome.GRANTED),
    "after an interim response": (
        head("HTTP/1.1 100 Continue", "X: y") + head("HTTP/1.1 103 Hints") + head("HTTP/1.1 200 OK"),
        True,
        200,
        Outcome.GRANTED,
    ),
    "refused after an interim response": (
        head("HTTP/1.1 100 Continue", "Proxy-Status: x; error=dns_error") + head("HTTP/1.1 500 No"),
        False,
        500,
        Outcome.FAILED,
    ),
    "302": (head("HTTP/1.1 302 Found", "Location: /"), False, 302, Outcome.FAILED),
    "400": (head("HTTP/1.1 400 Bad Request"), False, 400, Outcome.FAILED),
    "403": (head("HTTP/1.1 403 Forbidden"), False, 403, Outcome.DENIED),
    "405": (head("HTTP/1.1 405 Method Not Allowed"), False, 405, Outcome.COMMAND_UNSUPPORTED),
    "407": (head("HTTP/1.1 407 Login", "Proxy-Authenticate: Basic"), False, 407, Outcome.DENIED),
    "501": (head("HTTP/1.1 501 Not Implemented"), False, 501, Outcome.COMMAND_UNSUPPORTED),
    "502": (head("HTTP/1.1 502 Bad Gateway"), False, 502, Outcome.FAILED),
    "503": (head("HTTP/1.1 503 Unavailable"), False, 503, Outcome.FAILED),
    "504": (head("HTTP/1.1 504 Timeout"), False, 504, Outcome.TIMED_OUT),
    "599": (head("HTTP/1.1 599 x"), False, 599, Outcome.FAILED),
    **{
        f"Proxy-Status: {value}": (head("HTTP/1.1 502 Bad Gateway", f"proxy-status: {value}"), False, 502, outcome)
        for value, outcome in [
            ("netnet; error=connection_refused", Outcome.REFUSED),
            ('p;details="x";error=dns_error', Outcome.HOST_UNREACHABLE),
            ("p; error = connection_timeout", Outcome.TIMED_OUT),
            ("one, two; error=destination_ip_prohibited", Outcome.DENIED),
            ("one; error=connection_timeout, two; error=http_protocol_error", Outcome.TIMED_OUT),
            ("p; error=something_new", Outcome.FAILED),
            ("p", Outcome.FAILED),
            ("", Outcome.FAILED),
        ]
    },
}


@pytest.mark.parametrize("name", RESPONSES)
def test_response(name):
    data, granted, status, outcome = RESPONSES[name]
    for trailing in (b"", b"\0\xff", b"\r\n", b"HTTP/1.1 200 OK\r\n\r\n"):
        assert answer_of(data + trailing) == (granted, status, outcome, trailing)


@pytest.mark.parametrize("name", RESPONSES)
def test_a_client_that_peeks_reads_the_head_and_no_more(name):
    data, granted, _, _ = RESPONSES[name]
    for step in (1, 2, 3, 5, 1000):
        machine, stream, answer = client(), data + b"the target's\r\n\r\n", None
        while answer is None:
            size = machine.head_bytes(stream[:step])
            assert size > 0
            answer = machine.feed(stream[:size])
            stream = stream[size:]
        assert (answer, stream) == (granted, b"the target's\r\n\r\n")
        assert machine.trailing == b""


#: what is wrong → the bytes up to the one that shows it, and a word of the message
BAD_RESPONSES = {
    "SOCKS5": (b"\x05", "no HTTP"),
    "SSH": (b"S", "no HTTP"),
    "not HTTP after all": (b"HELO there\r\n", "begins"),
    "HTTP/2": (b"HTTP/2 200 OK\r\n", "begins"),
    "no code": (b"HTTP/1.1\r\n", "begins"),
    "a code of two digits": (b"HTTP/1.1 20 OK\r\n", "begins"),
    "a code of four digits": (b"HTTP/1.1 2000 OK\r\n", "begins"),
    "code 099": (b"HTTP/1.1 099 OK\r\n", "begins"),
    "code 600": (b"HTTP/1.1 600 OK\r\n", "begins"),
    "a code of letters": (b"HTTP/1.1 abc OK\r\n", "begins"),
    "two spaces": (b"HTTP/1.1  200 OK\r\n", "begins"),
    "101": (b"HTTP/1.1 101 Switching Protocols\r\n", "101"),
    "LF alone": (b"HTTP/1.1 200 OK\n", "LF alone"),
    "NUL": (b"HTTP/1.1 200 OK\r\nX: \0", "0x00"),
    "CR alone": (b"HTTP/1.1 200 OK\r\nX: \ry", "0x0d"),
    "an empty line after an interim response": (b"HTTP/1.1 100 Continue\r\n\r\n\r", "no HTTP"),
    "a first line too long": (b"HTTP/1.1 200 " + b"x" * (FIRST_LINE_BYTES_MAX - 13), "first line"),
    "a first line too long after an interim response": (
        head("HTTP/1.1 100 Continue") + b"HTTP/1.1 200 " + b"x" * (FIRST_LINE_BYTES_MAX - 13),
        "first line",
    ),
    "interim responses without end": (head("HTTP/1.1 100 Continue") * 52, "more than 100"),
}


@pytest.mark.parametrize("name", BAD_RESPONSES)
def test_bad_response(name):
    data, word = BAD_RESPONSES[name]
    answer, trailing, _, text = whole(data, client)
    assert (answer, trailing) == (None, b"")
    assert word in text
    assert text.isprintable()
    machine = client()
    with pytest.raises(ProtocolError):
        machine.feed(data)
    with pytest.raises(ProtocolError):
        machine.feed(head("HTTP/1.1 200 OK"))


def test_the_reason_is_for_people():
    machine = client()
    machine.feed(head("HTTP/1.1 503 k\xfcmmert mich nicht"))
    assert machine.reason == "k\\xfcmmert mich nicht"


ENDS = [(b"", -1), (b"\r\n\r", -1), (b"\r\n\r\n", 4), (b"a\r\n\r\nb\r\n\r\n", 5), (b"a\n\n", -1)]


@pytest.mark.parametrize(("data", "expected"), ENDS)
def test_end_of_head(data, expected):
    assert end_of_head(data) == expected


@pytest.mark.parametrize("name", FAILURES)
def test_a_client_understands_the_server(name):
    outcome, ending, status, _ = name
    granted, told, understood, _ = answer_of(asked(TUNNEL).failed(outcome, ending))
    assert (granted, told) == (False, status)
    if ending == "" and outcome is not Outcome.COMMAND_UNSUPPORTED:
        assert understood == {
            Outcome.NETWORK_UNREACHABLE: Outcome.HOST_UNREACHABLE,
            Outcome.ADDRESS_UNSUPPORTED: Outcome.HOST_UNREACHABLE,
        }.get(outcome, outcome)
    assert answer_of(asked(TUNNEL).granted())[2] is Outcome.GRANTED


# -- anything at all

FRAGMENTS = st.sampled_from(
    [data for data, _ in CONNECTS.values()]
    + [head(line, *headers) for line, headers, *_ in PLAIN.values()]
    + [f"{line}\r\n".encode("latin-1") for line, *_ in TARGETS.values()]
    + [head(*lines) for lines, *_ in HEADERS.values()]
    + [data for data, *_ in RESPONSES.values()]
    + [data for data, _ in BAD_RESPONSES.values()]
    + [b"GET ", b"CONNECT ", b"http://", b"a.b", b":80", b"[::1]", b"/", b"?", b" HTTP/1.1", b"\r\n", b"\r", b"\n"]
    + [b"HTTP/1.1 ", b"200 ", b"Host: ", b"Connection: ", b"Content-Length: ", b"Transfer-Encoding: ", b"chunked"]
)


@pytest.mark.parametrize("make", [HttpServer, client])
@given(parts=st.lists(st.one_of(FRAGMENTS, st.binary(max_size=10)), max_size=8), places=st.lists(st.integers(0, 900)))
@settings(max_examples=300, deadline=None)
def test_any_bytes_in_any_pieces(make, parts, places):
    data = b"".join(parts)
    borders = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    result = whole(data, make)
    assert fed([data[begin:end] for begin, end in itertools.pairwise(borders)], make) == result
    if make is HttpServer and result[0] is not None and result[0].forward:
        judged(result[0].forward)


NAMES = st.text("abzAZ09-_!", min_size=1, max_size=12).map(lambda name: f"x-{name}")
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=30)


@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "DELETE", "M-SEARCH"]),
    path=st.text("ab/?&=%.;:@", max_size=20),
    port=st.integers(1, 65535),
    fields=st.lists(st.tuples(NAMES, VALUES), max_size=10),
    content=st.one_of(st.none(), st.binary(max_size=40)),
)
def test_what_a_client_writes_the_origin_reads(method, path, port, fields, content):
    headers = [f"{name}: {value}" for name, value in fields]
    if content is not None:
        headers.append(f"Content-Length: {len(content)}")
    found, behind, status, text = fed(
        [head(f"{method} http://a.b:{port}/{path} HTTP/1.1", *headers) + (content or b"")]
    )
    assert (status, text) == (0, "")
    request, seen, body, last, _ = judged(found.forward, behind)
    assert (bytes(request.method).decode(), bytes(request.target).decode()) == (method, f"/{path}")
    ours = [(name.lower().encode(), value.encode("latin-1").strip(b" \t")) for name, value in fields]
    assert [field for field in seen if field[0].startswith(b"x-")] == ours
    assert (body, last) == (content or b"", h11.EndOfMessage)
