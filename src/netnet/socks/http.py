"""HTTP/1.1 as a protocol of proxies, both sides, without I/O: ``CONNECT host:port``, and requests for ``http://``.

Sources: RFC 9110 (semantics), RFC 9112 (the form of messages), RFC 7617 (Basic), RFC 9209 (Proxy-Status). A machine
reads one head; what is behind it is ``trailing``. Bytes may come in any pieces. Whatever a peer sends, ``feed`` waits
for more, has a head, or raises ``ProtocolError`` and then does so each time: at once for a byte that no head has and
for what is too long, otherwise at the end of the line that shows it.

A request for ``http://`` becomes a connection to its origin. ``forward`` is its head as the origin shall see it; all
behind it is relayed as it is, and nobody looks at it. So one connection carries one request: ``Connection: close`` is
added, and content keeps its framing. A client that sends a second request nevertheless sends it to the first origin.

Decided, where the RFCs leave it open, or otherwise:

- A line ends with CR LF. A bare LF is refused (RFC 9112 section 2.2: a recipient MAY take it), and so is an empty line
  in front: whoever reads lines differently could see another request here than the origin does.
- ``Host`` may be missing. The target tells the host, and small clients leave it out; what is there is replaced.
- ``Upgrade`` goes on for WebSocket only, with ``Connection: close``, which counts if the origin does not upgrade.
- ``Via`` is not added, though RFC 9110 section 7.6.3 wants it: it would tell each origin of the proxy. What it is there
  for, versions and loops, is no matter here: the client's version is kept, and rules know the proxy's own addresses.
- ``Date`` is not sent: there is no clock here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from netnet.errors import ProtocolError
from netnet.socks.http_head import (
    LETTERS,
    NUMBER_DIGITS_MAX,
    TOKEN,
    VERSIONS,
    VISIBLE,
    HttpError,
    Reader,
    connect_request,
    pack_credentials,
    parse_credentials,
    shown,
)
from netnet.socks.requests import Outcome, Request, target_text
from netnet.socks.socks4 import host_bytes
from netnet.socks.socks5 import Login

__all__ = ["HttpClient", "HttpError", "HttpRequest", "HttpServer", "end_of_head", "looks_like_http"]

_HTTP_PORT: Final = 80

#: may stand there once: of two, each reader may believe another one
_SINGLE: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"proxy-authorization", b"max-forwards"})

#: lists that may be spread over lines
_LISTS: Final = frozenset({b"connection", b"te", b"upgrade"})

_NOTED: Final = _SINGLE | _LISTS

#: not handed on as they are: they concern this connection only (RFC 9110 section 7.6.1), or are written anew
_DROPPED: Final = frozenset(
    _LISTS | {b"host", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"max-forwards"}
)

#: what ``Connection`` must not remove
_NEEDED: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})

_REASONS: Final = {
    400: "Bad Request",
    403: "Forbidden",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    414: "URI Too Long",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}


class _Failure(NamedTuple):
    status: int
    error: str  #: RFC 9209 section 2.3; "" where it has none
    text: str


_NO_WAY: Final = _Failure(502, "destination_ip_unroutable", "there is no way to the target")

#: how a client is told that its request failed: by outcome, and by ending where that says more
_FAILURES: Final[dict[Outcome | str, _Failure]] = {
    Outcome.FAILED: _Failure(502, "destination_unavailable", "the target could not be reached"),
    Outcome.DENIED: _Failure(403, "http_request_denied", "the rules of this proxy do not allow this"),
    Outcome.NETWORK_UNREACHABLE: _NO_WAY,
    Outcome.HOST_UNREACHABLE: _NO_WAY,
    Outcome.REFUSED: _Failure(502, "connection_refused", "the target refused the connection"),
    Outcome.TIMED_OUT: _Failure(504, "connection_timeout", "the target did not answer in time"),
    Outcome.COMMAND_UNSUPPORTED: _Failure(501, "http_request_denied", "this proxy does not do that"),
    Outcome.ADDRESS_UNSUPPORTED: _NO_WAY,
    "unresolved": _Failure(502, "dns_error", "the target's name has no address"),
    "prohibited": _Failure(403, "destination_ip_prohibited", "this proxy does not connect to that address"),
    "limit": _Failure(503, "connection_limit_reached", "there are too many connections; try again later"),
    "banned": _Failure(403, "http_request_denied", "there were too many failed logins; try again later"),
    "upstream": _Failure(502, "destination_unavailable", "the next proxy could not reach the target"),
    "handshake timeout": _Failure(408, "", "the request did not come in time"),
    "internal error": _Failure(502, "proxy_internal_error", "the proxy failed"),
}

_OUTCOME_OF_ERROR: Final = {
    b"connection_refused": Outcome.REFUSED,
    b"connection_timeout": Outcome.TIMED_OUT,
    b"dns_timeout": Outcome.TIMED_OUT,
    b"dns_error": Outcome.HOST_UNREACHABLE,
    b"destination_not_found": Outcome.HOST_UNREACHABLE,
    b"destination_ip_unroutable": Outcome.HOST_UNREACHABLE,
    b"destination_ip_prohibited": Outcome.DENIED,
    b"http_request_denied": Outcome.DENIED,
}

#: where the proxy does not say more
_OUTCOME_OF_STATUS: Final = {
    403: Outcome.DENIED,
    405: Outcome.COMMAND_UNSUPPORTED,
    407: Outcome.DENIED,
    501: Outcome.COMMAND_UNSUPPORTED,
    504: Outcome.TIMED_OUT,
}

_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"

_USAGE: Final = "this is a proxy; ask it for 'CONNECT host:port', or for 'GET http://host/...'"


@dataclass(slots=True)
class HttpRequest:
    """A client's request. *forward* is what the origin is to be sent first; ``b""`` for CONNECT.

    *credentials* are those of ``Proxy-Authorization: Basic``; ``None`` if there are none that can be read.
    """

    request: Request
    method: str
    credentials: Login | None = None
    forward: bytes = field(default=b"", repr=False)

    @property
    def connect(self) -> bool:
        """Whether the client wants a connection, and not an answer."""
        return self.method == "CONNECT"


def looks_like_http(first_byte: int) -> bool:
    """Whether a client that begins so speaks HTTP: methods begin with a letter, SOCKS with 4 or 5, TLS with 22."""
    return first_byte in LETTERS


def end_of_head(data: bytes) -> int:
    """Where the head ends that *data* begins with: behind its blank line; -1 if that is not there."""
    return data.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in data else -1


# -- the server's side


class HttpServer(Reader):
    """The server's side: ``feed`` until there is a request, then answer with one of the other methods.

    After a granted ``CONNECT`` the connection is the client's; otherwise it is the origin's, which is sent ``forward``
    and ``trailing``. After any other answer the connection is to be closed.
    """

    __slots__ = ("_authority", "_kept", "_method", "_noted", "_path", "_target", "_version", "request")

    def __init__(self) -> None:
        super().__init__()
        self._method = b""
        self._path = b""
        self._version = b""
        self._authority = b""
        self._target: Request | None = None
        #: header lines to hand on, each with its name in lower case
        self._kept: list[tuple[bytes, bytes]] = []
        #: name → value of the header lines that matter here
        self._noted: dict[bytes, bytes] = {}
        self.request: HttpRequest | None = None

    def feed(self, data: bytes) -> HttpRequest | None:
        """Takes what the client sent; returns the request as soon as it is whole.

        Raises ``ProtocolError`` for what can never become one that is served here; answer ``bad_request`` then.
        """
        self._feed(data)
        return self.request

    # -- what the client is told

    def granted(self) -> bytes:
        """That its connection stands. ``b""`` for a plain request, which the origin answers."""
        return _ESTABLISHED if self._method == b"CONNECT" else b""

    def failed(self, outcome: Outcome, ending: str = "") -> bytes:
        """That its request failed. *ending*, one of ``session.Ending``, says more than *outcome* for some of them."""
        failure = _FAILURES.get(ending) or _FAILURES[outcome]
        return self._answer(failure.status, failure.text, _proxy_status(failure.error))

    def login_wanted(self) -> bytes:
        """That it has to log in, or that its login was wrong (RFC 7617)."""
        header = 'Proxy-Authenticate: Basic realm="proxy", charset="UTF-8"\r\n'
        return self._answer(407, "this proxy wants a user name and a password", header)

    def bad_request(self, error: ProtocolError) -> bytes:
        """That ``feed`` raised *error*."""
        status = error.status if isinstance(error, HttpError) else 400
        return self._answer(status, str(error), _proxy_status("http_request_error" if status < 500 else ""))

    def _answer(self, status: int, text: str, headers: str) -> bytes:
        """A response with one line of text; HEAD has the same head and no content (RFC 9110 section 9.3.2)."""
        content = f"{text}\n".encode("utf-8", "backslashreplace")
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(content)}\r\nConnection: close\r\n{headers}\r\n"
        )
        return head.encode() if self._method == b"HEAD" else head.encode() + content

    # -- the lines of the head

    def _take_line(self, line: bytes) -> None:
        if self._target is None:
            self._target = self._take_request_line(line)
        elif line:
            self._take_header(line)
        else:
            self.request = self._made(self._target)
            self._end_head()

    def _take_request_line(self, line: bytes) -> Request:
        parts = line.split(b" ")
        if len(parts) != 3:
            raise HttpError(400, f"the first line is {shown(line)}, not 'METHOD target HTTP/1.1'")
        method, target, version = parts
        if version not in VERSIONS:
            other = version.startswith(b"HTTP/") and version[5:].replace(b".", b"").isdigit()
            raise HttpError(505 if other else 400, f"this proxy speaks HTTP/1.1, not {shown(version)}")
        if method.translate(None, TOKEN):
            raise HttpError(400, f"{shown(method)} is no method")
        if target.translate(None, VISIBLE):
            raise HttpError(400, f"the target {shown(target)} has characters beyond ASCII; write them as %XX")
        self._method, self._version = method, VERSIONS[version]
        return connect_request(target, None) if method == b"CONNECT" else self._plain_target(target)

    def _plain_target(self, target: bytes) -> Request:
        scheme, mark, rest = target.partition(b"://")
        if target[:1] in (b"/", b"*") or not mark:
            raise HttpError(400, _USAGE)
        if scheme.lower() != b"http":
            raise HttpError(501, f"this proxy knows http:// only, not {shown(scheme)}; use CONNECT for all others")
        if b"#" in rest:
            raise HttpError(400, "the target has a fragment ('#'), which is not for servers")
        authority, slash, path = rest.partition(b"/")
        if b"?" in authority:
            authority, slash, path = rest.partition(b"?")
        request = connect_request(authority, _HTTP_PORT)
        host = authority[: authority.find(b"]") + 1] or authority.partition(b":")[0]
        self._authority = host if request.port == _HTTP_PORT else b"%s:%d" % (host, request.port)
        # RFC 9112 section 3.2.1 and 3.2.4
        self._path = (b"/" if slash != b"?" else b"/?") + path
        if not slash and self._method == b"OPTIONS":
            self._path = b"*"
        return request

    def _take_header(self, line: bytes) -> None:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.translate(None, TOKEN):
            raise HttpError(400, _header_fault(line, self._lines))
        name = name.lower()
        if name in _NOTED:
            self._note(name, value.strip(b" \t"))
        if name not in _DROPPED:
            self._kept.append((name, line))

    def _note(self, name: bytes, value: bytes) -> None:
        noted = self._noted
        if name in noted:
            if name in _SINGLE:
                raise HttpError(400, f"{name.decode()} stands there twice")
            value = noted[name] + b"," + value
        noted[name] = value
        if name == b"content-length":
            self._check_length(value)
        elif name == b"transfer-encoding":
            self._check_coding(value)
        elif name == b"max-forwards":
            self._check_forwards(value)

    def _check_length(self, value: bytes) -> None:
        """RFC 9112 section 6.2 and 6.3; of CONNECT: RFC 9110 section 9.3.6."""
        if not value.isdigit() or len(value) > NUMBER_DIGITS_MAX:
            raise HttpError(400, f"content-length is {shown(value)}, not a number of bytes")
        if b"transfer-encoding" in self._noted:
            raise HttpError(400, "there are both transfer-encoding and content-length")
        if self._method == b"CONNECT" and int(value):
            raise HttpError(400, "CONNECT has no content, but content-length is not 0")

    def _check_coding(self, value: bytes) -> None:
        """RFC 9112 section 6.1."""
        if b"content-length" in self._noted:
            raise HttpError(400, "there are both content-length and transfer-encoding")
        if self._method == b"CONNECT" or self._version == b"HTTP/1.0":
            raise HttpError(400, "neither CONNECT nor HTTP/1.0 have a transfer-encoding")
        if value.lower() != b"chunked":
            raise HttpError(501, f"transfer-encoding is {shown(value)}; only 'chunked' is known here")

    def _check_forwards(self, value: bytes) -> None:
        """RFC 9110 section 7.6.2. At 0 it is the proxy that should answer, which it does not."""
        if not value.isdigit() or len(value) > NUMBER_DIGITS_MAX:
            raise HttpError(400, f"max-forwards is {shown(value)}, not a number")
        if self._method in (b"OPTIONS", b"TRACE") and not int(value):
            raise HttpError(501, "max-forwards is 0, and this proxy does not answer in the origin's place")

    # -- the request

    def _made(self, target: Request) -> HttpRequest:
        credentials = parse_credentials(self._noted.get(b"proxy-authorization", b""))
        forward = b"" if self._method == b"CONNECT" else self._forward()
        return HttpRequest(target, self._method.decode("ascii"), credentials, forward)

    def _forward(self) -> bytes:
        """The head for the origin (RFC 9112 section 3.2, RFC 9110 section 7.6)."""
        noted = self._noted
        options = _members(noted.get(b"connection", b""))
        if options & _NEEDED:
            raise HttpError(400, "connection names a header that is not for this connection only")
        lines = [b"%s %s %s" % (self._method, self._path, self._version), b"Host: " + self._authority]
        lines += [line for name, line in self._kept if name not in options]
        if b"max-forwards" in noted:
            mine = self._method in (b"OPTIONS", b"TRACE")
            lines.append(b"Max-Forwards: %d" % (int(noted[b"max-forwards"]) - mine))
        connection = b"Connection: close"
        if b"trailers" in _members(noted.get(b"te", b"")):
            lines.append(b"TE: trailers")
            connection += b", TE"
        if self._upgrades(options):
            lines.append(b"Upgrade: websocket")
            connection += b", Upgrade"
        lines += [connection, b"", b""]
        return b"\r\n".join(lines)

    def _upgrades(self, options: set[bytes]) -> bool:
        """Whether it is the opening of a WebSocket (RFC 6455 section 4.1); 1.0 has no upgrades."""
        websocket = self._noted.get(b"upgrade", b"").lower() == b"websocket" and b"upgrade" in options
        return websocket and self._method == b"GET" and self._version == b"HTTP/1.1"


def _members(value: bytes) -> set[bytes]:
    """The members of a list in a header, in lower case."""
    return {member.strip(b" \t") for member in value.lower().split(b",")} if value else set()


def _header_fault(line: bytes, number: int) -> str:
    if line[:1] in (b" ", b"\t"):
        return f"line {number} begins with a space: lines that go on in the next one are not taken"
    if b":" not in line:
        return f"line {number} has no colon: {shown(line)}"
    return f"line {number} has no valid name before the colon: {shown(line)}"


def _proxy_status(error: str) -> str:
    return f"Proxy-Status: netnet; error={error}\r\n" if error else ""


# -- the client's side


class HttpClient(Reader):
    """The client's side: asks a proxy for a connection to *host* and *port*.

    Send ``request``, then ``feed`` what comes until it says ``True`` or ``False``. What is behind the head is the
    target's: to read no more than the head, peek, and read ``head_bytes`` of that. Raises ``ProtocolError`` for a name
    or a login that HTTP cannot say.
    """

    __slots__ = ("_awaited", "outcome", "reason", "request", "status")

    _FIRST_BYTES = b"H"

    def __init__(self, host: str, port: int, credentials: Login | None = None) -> None:
        super().__init__()
        name = host.encode("ascii") if host.isascii() else host_bytes(host)
        target = target_text(name.decode("ascii"), port).encode()
        connect_request(target, None)  # what cannot be said is said at once
        login = b"" if credentials is None else b"Proxy-Authorization: %s\r\n" % pack_credentials(credentials)
        #: what is to be sent
        self.request = b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (target, target, login)
        #: of the response; 0 while it has not come
        self.status = 0
        #: what the proxy says beside the status, for people
        self.reason = ""
        self.outcome = Outcome.FAILED
        self._awaited = True  # the status line

    def feed(self, data: bytes) -> bool | None:
        """Takes what the proxy sent; returns whether the connection stands, ``None`` while nobody knows.

        If not, ``status``, ``reason`` and ``outcome`` say why; status 407: the proxy wants another login. Raises
        ``ProtocolError`` for what is no response.
        """
        return self.outcome is Outcome.GRANTED if self._feed(data) else None

    def head_bytes(self, peeked: bytes) -> int:
        """How many of the bytes that were peeked belong to the head."""
        tail = bytes(self._buffer[-3:])
        end = end_of_head(tail + peeked)
        return len(peeked) if end < 0 else end - len(tail)

    def _take_line(self, line: bytes) -> None:
        if self._awaited:
            self._take_status_line(line)
        elif line:
            self._take_header(line)
        elif self.status < 200:
            self._restart()
            self._awaited = True
        else:
            self._end_head()

    def _take_status_line(self, line: bytes) -> None:
        version, _, rest = line.partition(b" ")
        code, _, reason = rest.partition(b" ")
        if version not in VERSIONS or len(code) != 3 or not code.isdigit() or not 100 <= int(code) < 600:
            raise ProtocolError(f"the response begins with {shown(line)}, not with 'HTTP/1.1 200 ...'")
        if code == b"101":
            raise ProtocolError("the response is 101, a change of protocol that was not asked for")
        self._awaited = False
        self.status = int(code)
        self.reason = reason.decode("ascii", "backslashreplace").strip()
        granted = 200 <= self.status < 300
        self.outcome = Outcome.GRANTED if granted else _OUTCOME_OF_STATUS.get(self.status, Outcome.FAILED)

    def _take_header(self, line: bytes) -> None:
        """Headers mean nothing here (RFC 9110 section 9.3.6), but that one may tell more of a failure."""
        name, _, value = line.partition(b":")
        if self.outcome is not Outcome.GRANTED and name.lower() == b"proxy-status":
            self.outcome = _reported(value, self.outcome)


def _reported(value: bytes, otherwise: Outcome) -> Outcome:
    """What ``Proxy-Status`` says of a failure (RFC 9209 section 2.1.1): the first proxy that had one counts."""
    for part in value.replace(b",", b";").split(b";"):
        key, _, error = part.partition(b"=")
        if key.strip(b" \t") == b"error":
            return _OUTCOME_OF_ERROR.get(error.strip(b" \t"), otherwise)
    return otherwise
