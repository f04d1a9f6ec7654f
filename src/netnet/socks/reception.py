"""What a server says to one client, up to its request: who it is (PROXY protocol), what it speaks (told by the first
byte), who logs in, what it wants. The bytes are read by the machines of ``proxy_protocol``, ``handshake`` and ``http``;
here are the socket and the order. What becomes of the request is the server's business.

All of it runs in the client's task, under the server's time limit. A client that is refused leaves by ``RefusedError``,
which says what is still to be sent to it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from netnet.errors import ProtocolError
from netnet.net.sockets import Socket
from netnet.socks import http
from netnet.socks.handshake import LoginMissingError, ServerHandshake
from netnet.socks.proxy_protocol import ProxyHeader
from netnet.socks.requests import Outcome, Request
from netnet.socks.session import Ending
from netnet.socks.settings import Authentication, Entrance
from netnet.socks.socks5 import Login, UnsupportedError

if TYPE_CHECKING:
    from netnet.socks.proxy_protocol import Source

#: bytes taken at once; no message is longer, and what follows the request waits in the socket, or in one such piece
READ_BYTES: Final = 4096

_VERSIONS: Final = {"socks4": 4, "socks5": 5}


@functools.cache  # there are few combinations, and it is asked for each connection
def _versions_of(protocols: frozenset[str]) -> tuple[int, ...]:
    """The versions of SOCKS among *protocols*."""
    return tuple(_VERSIONS[name] for name in sorted(protocols & _VERSIONS.keys()))


class RefusedError(Exception):
    """The connection ends here: *ending* and *detail* are for the log, *answer* is what the client is told; ``None``:
    what a client is told that is refused where it stands."""

    def __init__(self, ending: Ending, detail: str = "", answer: bytes | None = None) -> None:
        super().__init__(ending, detail)
        self.ending = ending
        self.detail = detail
        self.answer = answer


class Reception:
    """One client, from its first byte to its request. *login* says whether a user's password is right; it may wait."""

    __slots__ = ("_client", "_data", "_entrance", "_http", "_login", "_socks", "first_data", "protocol", "user")

    def __init__(self, client: Socket, entrance: Entrance, login: Callable[[Login], bool]) -> None:
        self._client = client
        self._entrance = entrance
        self._login = login
        self._data = b""
        self._socks: ServerHandshake | None = None
        self._http: http.HttpServer | None = None
        #: "socks4", "socks4a", "socks5", "http"; "" while nobody knows
        self.protocol = ""
        self.user: str | None = None
        #: what is to be sent to the target first, once it stands
        self.first_data = b""

    def receive_source(self) -> Source:
        """The header of PROXY protocol: for whom the peer connects. Switches tasks. Raises ``RefusedError``."""
        header = ProxyHeader()
        data = self._more()
        while True:
            try:
                source = header.feed(data)
            except ProtocolError as error:
                raise RefusedError(Ending.BAD_REQUEST, f"PROXY protocol: {error}") from None
            if source is not None:
                self._data = header.trailing
                return source
            data = self._more()

    def receive(self) -> Request:
        """The client's request. Switches tasks. Raises ``RefusedError``, ``OSError``."""
        data = self._data or self._more()
        self._data = b""
        if http.looks_like_http(data[0]):
            if "http" not in self._entrance.protocols:
                raise RefusedError(Ending.BAD_REQUEST, "HTTP is not spoken at this listener")
            return self._receive_http(data)
        return self._receive_socks(data)

    def granted(self, packed: bytes, port: int) -> bytes:
        """What the client is told when its request was granted; *packed* and *port*: the address towards the target."""
        if self._socks is not None:
            return self._socks.reply(Outcome.GRANTED, packed, port)
        assert self._http is not None
        return self._http.granted()

    def refused(self, outcome: Outcome = Outcome.FAILED, ending: str = "") -> bytes:
        """What the client is told when it is refused, wherever it stands. *ending* is the session's: HTTP has words for
        more of them than there are outcomes."""
        if self._socks is not None:
            return self._socks.refusal(outcome)
        return b"" if self._http is None else self._http.failed(outcome, ending)

    def _more(self) -> bytes:
        data = self._client.recv(READ_BYTES)
        if not data:
            raise RefusedError(Ending.CLIENT_LEFT, "before its request")
        return data

    # -- SOCKS

    def _receive_socks(self, data: bytes) -> Request:
        entrance = self._entrance
        machine = self._socks = ServerHandshake(
            _versions_of(entrance.protocols),
            password_wanted=entrance.authentication is Authentication.PASSWORD,
            password_taken=entrance.authentication is Authentication.OPTIONAL,
        )
        client = self._client
        while True:
            try:
                event = machine.feed(data)
            except ProtocolError as error:
                raise RefusedError(_ending_of(error), str(error), machine.refusal()) from None
            finally:
                self.protocol = machine.protocol
            output = machine.take_output()
            if output:
                client.sendall(output)
            if event is None:
                data = self._more()
            elif type(event) is Request:
                return self._requested(event, machine)
            else:
                assert isinstance(event, Login)
                data = b""
                self._log_in(event, machine)

    def _log_in(self, login: Login, machine: ServerHandshake) -> None:
        accepted = self._is_good(login)
        machine.answer_login(accepted)
        answer = machine.take_output()
        if not accepted:
            raise RefusedError(Ending.LOGIN_FAILED, _who(login), answer)
        self._client.sendall(answer)

    def _is_good(self, login: Login) -> bool:
        if self._entrance.authentication is Authentication.NONE:
            return True
        if not self._login(login):
            return False
        self.user = login.user
        return True

    def _requested(self, request: Request, machine: ServerHandshake) -> Request:
        self.first_data = machine.trailing
        if self._entrance.authentication is Authentication.PASSWORD and self.user is None:
            raise RefusedError(Ending.LOGIN_FAILED, "SOCKS4 has no passwords", self.refused())
        return request

    # -- HTTP

    def _receive_http(self, data: bytes) -> Request:
        machine = self._http = http.HttpServer()
        self.protocol = "http"
        while True:
            try:
                found = machine.feed(data)
            except ProtocolError as error:
                raise RefusedError(Ending.BAD_REQUEST, str(error), machine.bad_request(error)) from None
            if found is not None:
                break
            data = self._more()
        self._log_in_http(found, machine)
        self.first_data = found.forward + machine.trailing
        return found.request

    def _log_in_http(self, found: http.HttpRequest, machine: http.HttpServer) -> None:
        if self._entrance.authentication is Authentication.NONE:
            return
        if found.credentials is None:
            if self._entrance.authentication is Authentication.PASSWORD:
                raise RefusedError(Ending.LOGIN_FAILED, "no login", machine.login_wanted())
            return
        login = Login(*found.credentials)
        if not self._is_good(login):
            raise RefusedError(Ending.LOGIN_FAILED, _who(login), machine.login_wanted())


def _who(login: Login) -> str:
    """Who tried, for the log: never with what password."""
    return f"user {login.user!r}"


def _ending_of(error: ProtocolError) -> Ending:
    if isinstance(error, LoginMissingError):
        return Ending.LOGIN_FAILED
    return Ending.UNSUPPORTED if isinstance(error, UnsupportedError) else Ending.BAD_REQUEST
