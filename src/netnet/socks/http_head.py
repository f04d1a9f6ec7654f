"""What both sides of HTTP/1.1 have in common: reading the lines of a head, a host with its port, and Basic credentials.
No I/O. What the lines say is in ``http``.

Sources: RFC 9110, RFC 9112; RFC 3986 section 3.2 for hosts and ports; RFC 7617 for Basic.
"""

from __future__ import annotations

from typing import Final

from netnet.errors import ProtocolError
from netnet.socks.ranges import literal
from netnet.socks.requests import Command, Request, address_text
from netnet.socks.socks4 import HOST_BYTES_MAX
from netnet.socks.socks5 import CREDENTIAL_BYTES_MAX, Login

#: bytes of a head, its blank line included: room for big cookies
HEAD_BYTES_MAX: Final = 65_536

#: bytes of the first line, its end included (RFC 9112 section 3 recommends 8000 at least)
FIRST_LINE_BYTES_MAX: Final = 8192

#: header lines. Browsers send about 20; Apache takes 100 as well
HEADER_LINES_MAX: Final = 100

#: digits of a number in a header: as many as fit the 64 bits of whoever reads it next
NUMBER_DIGITS_MAX: Final = 18

_PORT_DIGITS_MAX: Final = 5

#: bytes of what a peer sent that a message shows
_SHOWN_BYTES_MAX: Final = 60

LETTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DIGITS: Final = b"0123456789"
TOKEN: Final = LETTERS + _DIGITS + b"!#$%&'*+-.^_`|~"  # RFC 9110 section 5.6.2
_NAME: Final = LETTERS + _DIGITS + b"-._~!$&'()*+,;="  # RFC 3986 section 3.2.2, without the percent sign
VISIBLE: Final = bytes(range(0x21, 0x7F))
_TEXT: Final = b"\t " + VISIBLE + bytes(range(0x80, 0x100))  # RFC 9110 section 5.5

_BASE64: Final = LETTERS + _DIGITS + b"+/"
_BASE64_BITS: Final = {digit: f"{value:06b}" for value, digit in enumerate(_BASE64)}

_CREDENTIALS_BYTES_MAX: Final = CREDENTIAL_BYTES_MAX + 1 + CREDENTIAL_BYTES_MAX

#: the versions that are understood → what the next one is told (RFC 9112 section 2.3). A client of 1.0 would not
#: understand the answer to a request of 1.1, so 1.0 stays
VERSIONS: Final = {b"HTTP/1.0": b"HTTP/1.0"} | {b"HTTP/1.%d" % minor: b"HTTP/1.1" for minor in range(1, 10)}


class HttpError(ProtocolError):
    """A request that is answered with *status*."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Reader:
    """Cuts a head into lines as it comes, and has each one taken, without its end. The taker of the blank one calls
    ``_end_head`` or ``_restart``.

    Checks go by place: a fault is found at the same byte however the bytes were cut.
    """

    __slots__ = ("_buffer", "_checked", "_error", "_line_limit", "_lines", "_start", "_whole")

    #: bytes that a head may begin with
    _FIRST_BYTES = LETTERS

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._error: ProtocolError | None = None
        self._start = 0  # of the line that is awaited
        self._checked = 0  # up to here there is text
        self._line_limit = FIRST_LINE_BYTES_MAX  # here the line must have ended
        self._lines = 0  # so many are taken
        self._whole = False

    @property
    def trailing(self) -> bytes:
        """What came behind the head; ``b""`` while that is not whole."""
        return bytes(self._buffer) if self._whole else b""

    def _feed(self, data: bytes) -> bool:
        """Takes what came; returns whether the head is whole."""
        if self._error is not None:
            raise self._error.with_traceback(None)  # or each time would keep its frames, and what was fed
        self._buffer += data
        try:
            while not self._whole:
                line = self._next_line()
                if line is None:
                    break
                self._take_line(line)
        except ProtocolError as error:
            self._error = error
            self._buffer.clear()
            raise
        return self._whole

    def _take_line(self, line: bytes) -> None:
        raise NotImplementedError

    def _next_line(self) -> bytes | None:
        buffer, limit = self._buffer, self._line_limit
        if buffer and buffer[0] not in self._FIRST_BYTES:
            raise HttpError(400, f"byte 0 is {buffer[0]:#04x}: this is no HTTP")
        newline = buffer.find(b"\n", self._checked, limit)
        end = newline if newline >= 0 else min(len(buffer), limit)
        if end > self._checked and buffer[end - 1] == 0x0D:
            end -= 1
        wrong = buffer[self._checked : end].translate(None, _TEXT)
        if wrong:
            raise HttpError(400, f"line {self._lines + 1} has the byte {wrong[0]:#04x}, which is not allowed in a head")
        self._checked = end
        if newline < 0:
            if len(buffer) >= limit:
                raise self._too_long()
            return None
        if newline == end:
            raise HttpError(400, f"line {self._lines + 1} ends with LF alone; it must be CR LF")
        line = bytes(buffer[self._start : end])
        if line and self._lines > HEADER_LINES_MAX:
            raise HttpError(431, f"there are more than {HEADER_LINES_MAX} header lines")
        self._lines += 1
        self._start = self._checked = newline + 1
        self._line_limit = HEAD_BYTES_MAX
        return line

    def _too_long(self) -> HttpError:
        if self._line_limit < HEAD_BYTES_MAX:
            return HttpError(414, f"the first line is longer than {FIRST_LINE_BYTES_MAX} bytes")
        return HttpError(431, f"the head is longer than {HEAD_BYTES_MAX} bytes")

    def _end_head(self) -> None:
        del self._buffer[: self._start]
        self._whole = True

    def _restart(self) -> None:
        """Another head follows. The lines of all of them count together."""
        del self._buffer[: self._start]
        self._start = self._checked = 0
        self._line_limit = FIRST_LINE_BYTES_MAX


# -- hosts and ports


def connect_request(authority: bytes, default_port: int | None) -> Request:
    """The request for a connection to ``host:port``; CONNECT has no default port (RFC 9110 section 9.3.6)."""
    if authority.startswith(b"["):
        host, bracket, rest = authority[1:].partition(b"]")
        packed = b"" if b"%" in host else literal(host.decode("ascii"))
        if not bracket or len(packed) != 16 or rest[:1] not in (b"", b":"):
            raise HttpError(400, f"the target {shown(authority)} has no IPv6 address in its brackets")
        port = rest[1:]
    else:
        host, _, port = authority.partition(b":")
        if not host or len(host) > HOST_BYTES_MAX or host.translate(None, _NAME):
            raise HttpError(400, f"the target {shown(authority)} has no valid host name")
        packed = literal(host.decode("ascii"))
    text = address_text(packed) if packed else host.decode("ascii")
    return Request(Command.CONNECT, text, _port(port, default_port), packed)


def _port(text: bytes, default: int | None) -> int:
    if not text and default is not None:
        return default
    if not text.isdigit() or len(text) > _PORT_DIGITS_MAX or not 0 < int(text) <= 0xFFFF:
        raise HttpError(400, f"{shown(text)} is no port; ports are 1 to 65535, and CONNECT needs one")
    return int(text)


def shown(raw: bytes) -> str:
    """The beginning of what a peer sent, so that no log is forged or filled."""
    return repr(raw if len(raw) <= _SHOWN_BYTES_MAX else raw[:_SHOWN_BYTES_MAX] + b"...")[1:]


# -- credentials


def parse_credentials(value: bytes) -> Login | None:
    """What ``Basic`` says (RFC 7617 section 2). What is no such thing counts as nothing: the client will be asked."""
    scheme, _, encoded = value.partition(b" ")
    raw = _from_base64(encoded.strip(b" ")) if scheme.lower() == b"basic" else b""
    user, colon, password = raw.partition(b":")
    if not colon or len(user) > CREDENTIAL_BYTES_MAX or len(password) > CREDENTIAL_BYTES_MAX:
        return None
    if raw.translate(None, _TEXT) or b"\t" in raw:
        return None
    return Login(user.decode("utf-8", "surrogateescape"), password.decode("utf-8", "surrogateescape"))


def pack_credentials(login: Login) -> bytes:
    """What ``Proxy-Authorization`` says for *login*. Raises ``ProtocolError`` for what cannot be said."""
    try:
        user, password = (part.encode("utf-8", "surrogateescape") for part in login)
    except UnicodeEncodeError:  # its text would show the password
        raise ProtocolError("a user name and a password are text that UTF-8 can say") from None
    raw = user + b":" + password
    if b":" in user or raw.translate(None, _TEXT) or b"\t" in raw:
        raise ProtocolError("HTTP cannot say a user name with a colon, or control characters")
    return b"Basic " + _to_base64(raw)


def _from_base64(text: bytes) -> bytes:
    """The bytes of *text* (RFC 4648); ``b""`` if it is none, or longer than credentials are."""
    digits = text.rstrip(b"=")
    size = len(digits) * 6 // 8
    if not 0 < size <= _CREDENTIALS_BYTES_MAX or len(digits) % 4 == 1 or digits.translate(None, _BASE64):
        return b""
    bits = "".join([_BASE64_BITS[digit] for digit in digits])
    return int(bits[: size * 8], 2).to_bytes(size, "big")


def _to_base64(raw: bytes) -> bytes:
    bits = "".join([f"{byte:08b}" for byte in raw])
    bits += "0" * (-len(bits) % 6)
    digits = bytes(_BASE64[int(bits[place : place + 6], 2)] for place in range(0, len(bits), 6))
    return digits + b"=" * (-len(digits) % 4)
