"""Both sides of a SOCKS handshake, without I/O: bytes in, events out, and bytes to send. SOCKS4, 4a and 5.

Server and client are one machine: what has come is kept until the message that is awaited is whole, that message is
read by a function of ``socks4`` or ``socks5``, and its reader says what is awaited next. Bytes may come in any pieces;
what is behind the last message is ``trailing``, the peer's first data. Whatever a peer sends, ``feed`` waits for more,
returns an event, or raises ``ProtocolError``, then again each time; it keeps no more than was fed to it and one message.

    server: first byte ─ 4 ─ request ─────────────────────────► Request
                       └ 5 ─ greeting ┬ (2) login ► Login ─┬─ request ► Request
                                      └ (0) ───────────────┘
    client: request4 ► reply ► Reply        (BIND: and a second one)
            greeting ► choice ┬ (2) login ► status ─┬─ request ► reply ► Reply
                              └ (0) ────────────────┘
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from netnet.errors import ProtocolError
from netnet.socks import socks4, socks5
from netnet.socks.requests import Command, Outcome, Request, address_text
from netnet.socks.socks5 import Login, UnsupportedError


class Reply(NamedTuple):
    """A proxy's answer to a request, as the client reads it. *host* is an address or, against the RFC, a name."""

    outcome: Outcome
    host: str
    port: int


class _Machine:
    """What both sides have in common."""

    __slots__ = ("_await", "_buffer", "_error", "_output")

    def __init__(self) -> None:
        self._buffer = b""
        self._error: ProtocolError | None = None
        self._output = b""
        #: reads the message that is awaited: returns how many bytes it had (0: not whole yet) and an event, if any.
        #: ``None``: the handshake is over
        self._await: Callable[[bytes], tuple[int, object]] | None = None

    def take_output(self) -> bytes:
        """What is to be sent now; ``b""`` for nothing."""
        output, self._output = self._output, b""
        return output

    @property
    def trailing(self) -> bytes:
        """What came behind the last message: the peer's first data, once the handshake is over."""
        return self._buffer

    def _feed(self, data: bytes) -> object:
        if self._error is not None:
            raise self._error.with_traceback(None)  # or each time would keep its frames, and what was fed
        buffer = self._buffer + data if self._buffer else data
        event: object = None
        try:
            while event is None and buffer and self._await is not None:
                used, event = self._await(buffer)
                if not used:
                    break
                buffer = buffer[used:]
        except ProtocolError as error:
            self._error = error
            self._buffer = b""
            raise
        self._buffer = buffer
        return event


class ServerHandshake(_Machine):
    """The server's side.

    ``feed`` what comes, send ``take_output()`` after each time, and go on by what ``feed`` returns: a ``Login`` is
    answered with ``answer_login``, a ``Request`` with ``reply``; ``None`` means that more is needed. After a ``Login``,
    ``feed(b"")`` goes on with what has come already. *versions* are those that are spoken; *password_wanted* and
    *password_taken*: whether a client has to log in, and whether one that offers to is asked to.
    """

    __slots__ = ("_refusing", "_versions", "_wanted", "protocol", "request")

    def __init__(
        self, versions: tuple[int, ...] = (4, 5), *, password_wanted: bool = False, password_taken: bool = False
    ) -> None:
        super().__init__()
        self._await = self._read_first
        self._versions = versions
        #: methods in the order of preference
        self._wanted: tuple[int, ...]
        if password_wanted:
            self._wanted = (socks5.PASSWORD,)
        elif password_taken:
            self._wanted = (socks5.PASSWORD, socks5.NO_AUTHENTICATION)
        else:
            self._wanted = (socks5.NO_AUTHENTICATION, socks5.PASSWORD)
        self._refusing = b""
        #: "socks4", "socks4a" or "socks5"; "" while nobody knows
        self.protocol = ""
        self.request: Request | None = None

    def feed(self, data: bytes) -> Login | Request | None:
        """Takes what the client sent; returns what is to be answered. Raises ``ProtocolError``; then see ``refusal``."""
        return self._feed(data)  # type: ignore[return-value]  # its readers have no other events

    def answer_login(self, accepted: bool) -> None:
        """Tells the client. When the login was not accepted, the handshake is over and the connection to be closed."""
        self._output += socks5.pack_login_status(accepted)
        if accepted:
            self._await_request()

    def reply(self, outcome: Outcome, packed: bytes = b"", port: int = 0) -> bytes:
        """The reply's bytes. *packed* and *port* are the address that the proxy uses towards the target."""
        if self.protocol == "socks5":
            return socks5.pack_reply(outcome, packed, port)
        return socks4.pack_reply(outcome, packed, port)

    def refusal(self, outcome: Outcome = Outcome.FAILED) -> bytes:
        """What a client hears that is refused where the handshake stands; ``b""`` before it has said what it speaks.

        What was still to be sent before comes first: a client that has said much at once waits for those answers, too.
        """
        return self.take_output() + self._refusal(outcome)

    def _refusal(self, outcome: Outcome) -> bytes:
        if self.request is not None:
            return self.reply(outcome)
        if isinstance(self._error, UnsupportedError):
            return socks5.pack_reply(self._error.outcome)
        if self._refusing and self._refusing[0] == socks5.VERSION and len(self._refusing) > 2:
            return socks5.pack_reply(outcome)
        return self._refusing

    # -- what is awaited

    def _read_first(self, buffer: bytes) -> tuple[int, object]:
        version = buffer[0]
        if version not in self._versions or version not in (4, 5):
            spoken = ", not " + " or ".join(map(str, self._versions)) if self._versions else ""
            raise ProtocolError(f"byte 0 is {version}{spoken}: this is no SOCKS that is spoken here")
        if version == 4:
            self._refusing = socks4.pack_reply(Outcome.FAILED)
            self.protocol = "socks4"
            self._await = self._read_request4
        else:
            self._refusing = socks5.pack_choice(socks5.NONE_ACCEPTABLE)
            self.protocol = "socks5"
            self._await = self._read_greeting
        return self._await(buffer)

    def _read_request4(self, buffer: bytes) -> tuple[int, object]:
        found = socks4.parse_request(buffer)
        return (0, None) if found is None else self._requested(*found)

    def _read_greeting(self, buffer: bytes) -> tuple[int, object]:
        found = socks5.parse_greeting(buffer)
        if found is None:
            return 0, None
        offered, used = found
        for method in self._wanted:
            if method in offered:
                self._output += socks5.pack_choice(method)
                if method == socks5.PASSWORD:
                    self._refusing = socks5.pack_login_status(False)
                    self._await = self._read_login
                else:
                    self._await_request()
                return used, None
        if self._wanted == (socks5.PASSWORD,):
            raise LoginMissingError("the client does not offer to log in, which is needed here")
        raise ProtocolError(f"of the methods that the client offers, {list(offered)}, none is known")

    def _read_login(self, buffer: bytes) -> tuple[int, object]:
        found = socks5.parse_login(buffer)
        if found is None:
            return 0, None
        self._await = None  # until it is answered
        return found[1], found[0]

    def _await_request(self) -> None:
        self._refusing = socks5.pack_reply(Outcome.FAILED)
        self._await = self._read_request5

    def _read_request5(self, buffer: bytes) -> tuple[int, object]:
        found = socks5.parse_request(buffer)
        return (0, None) if found is None else self._requested(*found)

    def _requested(self, request: Request, used: int) -> tuple[int, object]:
        self.request = request
        self._await = None
        if self.protocol == "socks4" and not request.packed:
            self.protocol = "socks4a"
        return used, request


class ClientHandshake(_Machine):
    """The client's side: asks a proxy for *request*.

    Send ``take_output()``, first before anything has come, and after each ``feed``, which returns the ``Reply`` when it
    is there. Do not read more than ``bytes_wanted`` at once: what is behind the reply is the target's; then it is 0.
    *version* is 4 or 5. Raises ``ProtocolError`` for a request that the version cannot say.
    """

    __slots__ = ("_login", "_message", "_request", "bytes_wanted")

    def __init__(self, version: int, request: Request, login: Login | None = None) -> None:
        super().__init__()
        self._request = request
        self._login = login
        if version == 4:
            self._output = socks4.pack_request(request)
            self.bytes_wanted = socks4.REPLY_BYTES
            self._await = self._read_reply4
        else:
            methods = (socks5.NO_AUTHENTICATION,) if login is None else (socks5.NO_AUTHENTICATION, socks5.PASSWORD)
            self._output = socks5.pack_greeting(bytes(methods))
            self._message = socks5.pack_request(request)  # what cannot be said is said at once
            if login is not None:
                socks5.pack_login(login)
            self.bytes_wanted = 2
            self._await = self._read_choice

    def feed(self, data: bytes) -> Reply | None:
        """Takes what the proxy sent; returns its reply. Raises ``ProtocolError``, ``LoginRefusedError`` among them."""
        event = self._feed(data)
        if self._await is None:
            self.bytes_wanted = 0
        else:
            self._count(self._buffer)
        return event  # type: ignore[return-value]  # its readers have no other events

    def expect_second(self) -> None:
        """After a granted BIND: a second reply will tell of the connection."""
        if self._request.command is not Command.BIND:
            raise ValueError("only BIND has a second reply")
        self._await = self._read_reply4 if not hasattr(self, "_message") else self._read_reply5
        self._count(self._buffer)

    def _count(self, buffer: bytes) -> None:
        """How many bytes may be read now."""
        if self._await == self._read_reply5:
            self.bytes_wanted = socks5.address_bytes_left(buffer) or 1
        else:
            whole = socks4.REPLY_BYTES if self._await == self._read_reply4 else 2
            self.bytes_wanted = max(1, whole - len(buffer))

    def _read_reply4(self, buffer: bytes) -> tuple[int, object]:
        found = socks4.parse_reply(buffer)
        if found is None:
            return 0, None
        outcome, packed, port = found
        self._await = None
        return socks4.REPLY_BYTES, Reply(outcome, address_text(packed or bytes(4)), port)

    def _read_choice(self, buffer: bytes) -> tuple[int, object]:
        method = socks5.parse_choice(buffer)
        if method is None:
            return 0, None
        if method == socks5.PASSWORD and self._login is not None:
            self._output += socks5.pack_login(self._login)
            self._await = self._read_status
        elif method == socks5.NO_AUTHENTICATION:
            self._ask()
        elif method == socks5.NONE_ACCEPTABLE:
            needed = "a login" if self._login is None else "another way to log in"
            raise LoginRefusedError(f"the proxy takes none of the methods that were offered: it wants {needed}")
        else:
            raise ProtocolError(f"the proxy chose method {method}, which was not offered")
        return 2, None

    def _read_status(self, buffer: bytes) -> tuple[int, object]:
        accepted = socks5.parse_login_status(buffer)
        if accepted is None:
            return 0, None
        if not accepted:
            raise LoginRefusedError("the proxy does not take this user name and password")
        self._ask()
        return 2, None

    def _ask(self) -> None:
        self._output += self._message
        self._await = self._read_reply5

    def _read_reply5(self, buffer: bytes) -> tuple[int, object]:
        found = socks5.parse_reply(buffer)
        if found is None:
            return 0, None
        outcome, host, port, used = found
        self._await = None
        return used, Reply(outcome, host, port)


class LoginMissingError(ProtocolError):
    """The client would have to log in, and does not offer to."""


class LoginRefusedError(ProtocolError):
    """The proxy does not let us in."""
