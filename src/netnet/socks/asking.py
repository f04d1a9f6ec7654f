"""One proxy is asked for one thing, over a connection to it that stands: the I/O around ``ClientHandshake`` and
``HttpClient``, and the errors that all who ask proxies have in common. How one gets to the proxy is in ``client``.

Nothing behind the reply is read, so that the connection can be handed on as it is, a plain socket: of SOCKS it is known
how many bytes are still to come at least, and so many are received; HTTP's head has an end that must be looked for, so it
is looked at (``MSG_PEEK``, recv(2)) before it is taken out.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from netnet.errors import Error, ProtocolError
from netnet.net.sockets import Socket
from netnet.socks.handshake import ClientHandshake, LoginRefusedError
from netnet.socks.http import HttpClient
from netnet.socks.requests import Command, Outcome, Request
from netnet.socks.socks5 import Login, UnsupportedError
from netnet.socks.upstream import Proxy

#: so much of a head is looked at at once: those of proxies have some hundred bytes
PEEK_BYTES: Final = 4096

#: the status of HTTP that says so
_LOGIN_WANTED: Final = 407


class ProxyError(Error, OSError):
    """A proxy could not be reached, said no, or broke its protocol.

    ``errno`` is what the attempt would have had without a proxy, as far as that is known, and the class fits it, as with
    any ``OSError``: where a proxy says that the target refused, the error is a ``ConnectionRefusedError``, too; where it
    forbids, or does not take the login, a ``PermissionError``; where it says that time is up, a ``TimeoutError``. A
    failure that it says nothing else of is a ``ConnectionAbortedError``.

    ``proxy`` is the URL, without the password, of the one that it was about. ``outcome`` is what the last proxy said of
    the target; ``None`` where it did not come to that. ``failures`` are the addresses of the target that were tried, each
    with its outcome.
    """

    proxy: str = ""
    outcome: Outcome | None = None
    failures: Sequence[tuple[str, Outcome]] = ()


class ProxyRefusedError(ProxyError, ConnectionRefusedError):
    """A ``ProxyError`` that is a ``ConnectionRefusedError``: by the proxy, or by the target, as ``outcome`` tells."""


class ProxyResetError(ProxyError, ConnectionResetError):
    """A ``ProxyError`` that is a ``ConnectionResetError``: the proxy broke off."""


class ProxyAbortedError(ProxyError, ConnectionAbortedError):
    """A ``ProxyError`` that is a ``ConnectionAbortedError``: the proxy failed, and does not say at what."""


class ProxyTimeoutError(ProxyError, TimeoutError):
    """A ``ProxyError`` that is a ``TimeoutError``: the proxy says so, or the kernel, or a socket's own time-out."""


class ProxyPermissionError(ProxyError, PermissionError):
    """A ``ProxyError`` that is a ``PermissionError``: the proxy does not allow it, or does not take the login."""


#: the class that Python gives an ``OSError`` by its number → ours
_KINDS: Final[dict[type[OSError], type[ProxyError]]] = {kind.__bases__[1]: kind for kind in ProxyError.__subclasses__()}

#: what a proxy says → the number that the kernel would have said
ERRNO_OF_OUTCOME: Final = {
    Outcome.FAILED: errno.ECONNABORTED,
    Outcome.DENIED: errno.EACCES,
    Outcome.NETWORK_UNREACHABLE: errno.ENETUNREACH,
    Outcome.HOST_UNREACHABLE: errno.EHOSTUNREACH,
    Outcome.REFUSED: errno.ECONNREFUSED,
    Outcome.TIMED_OUT: errno.ETIMEDOUT,
    Outcome.COMMAND_UNSUPPORTED: errno.EOPNOTSUPP,
    Outcome.ADDRESS_UNSUPPORTED: errno.EAFNOSUPPORT,
}

WORDS_OF_OUTCOME: Final = {
    Outcome.GRANTED: "granted",
    Outcome.FAILED: "failed",
    Outcome.DENIED: "not allowed",
    Outcome.NETWORK_UNREACHABLE: "network unreachable",
    Outcome.HOST_UNREACHABLE: "host unreachable",
    Outcome.REFUSED: "refused",
    Outcome.TIMED_OUT: "timed out",
    Outcome.COMMAND_UNSUPPORTED: "it does not do that",
    Outcome.ADDRESS_UNSUPPORTED: "it does not know such addresses",
}


def proxy_error(number: int, message: str, proxy: Proxy, outcome: Outcome | None = None) -> ProxyError:
    """A ``ProxyError`` of the class that fits *number*, to be raised."""
    error = _KINDS.get(type(OSError(number, "")), ProxyError)(number, message)
    error.proxy = str(proxy)
    error.outcome = outcome
    return error


def explained(error: Exception) -> tuple[int, str]:
    """The number and the words for what ended a conversation with a proxy."""
    if isinstance(error, LoginRefusedError):
        return errno.EACCES, str(error)
    if isinstance(error, ProtocolError):
        return errno.EPROTO, f"the proxy does not keep to its protocol: {error}"
    if isinstance(error, TimeoutError):
        return errno.ETIMEDOUT, "the proxy did not answer in time"
    number = getattr(error, "errno", None) or errno.EIO
    return number, f"the connection to the proxy broke: {getattr(error, 'strerror', None) or error}"


class Answer(NamedTuple):
    """What a proxy says. *host* and *port* are told by SOCKS, of its end towards the target."""

    outcome: Outcome
    words: str
    host: str = ""
    port: int = 0


class Conversation(Protocol):
    """What is said on one connection to a proxy, up to its reply and not a byte further."""

    def hold(self, sock: Socket) -> Answer:
        """Asks, and waits for the reply; again, after a BIND that was granted, for the second one.

        Switches tasks. Raises ``ProtocolError``, ``OSError``, ``Cancelled``.
        """


def converse(proxy: Proxy, request: Request) -> Conversation:
    """What is to be said to *proxy*. Raises ``UnsupportedError`` for what cannot be said to it, at all or of this target."""
    try:
        return _SocksConversation(proxy, request) if proxy.version else _HttpConversation(proxy, request)
    except UnsupportedError:
        raise
    except ProtocolError as error:
        connect = request.command is Command.CONNECT
        outcome = Outcome.ADDRESS_UNSUPPORTED if connect else Outcome.COMMAND_UNSUPPORTED
        raise UnsupportedError(str(error), outcome) from None


class _SocksConversation:
    """SOCKS4, 4a, 5."""

    __slots__ = ("_answered", "_handshake")

    def __init__(self, proxy: Proxy, request: Request) -> None:
        login = None
        if proxy.user is not None and proxy.version == 5:
            login = Login(proxy.user, proxy.password or "")
        elif proxy.user is not None:
            request.user_id = proxy.user.encode("utf-8", "surrogateescape")
        self._handshake = ClientHandshake(proxy.version, request, login)
        self._answered = False

    def hold(self, sock: Socket) -> Answer:
        handshake = self._handshake
        if self._answered:
            handshake.expect_second()
        while True:
            output = handshake.take_output()
            if output:
                sock.sendall(output)
            reply = handshake.feed(_some(sock.recv(handshake.bytes_wanted)))
            if reply is not None:
                self._answered = True
                return Answer(reply.outcome, WORDS_OF_OUTCOME[reply.outcome], reply.host, reply.port)


def _some(data: bytes) -> bytes:
    """*data*, when there is any."""
    if not data:
        raise ConnectionResetError(errno.ECONNRESET, "it was closed before the proxy had answered")
    return data


class _HttpConversation:
    """HTTP's CONNECT."""

    __slots__ = ("_client", "_login")

    def __init__(self, proxy: Proxy, request: Request) -> None:
        if request.command is not Command.CONNECT:
            raise UnsupportedError(f"HTTP has no {request.command.name}", Outcome.COMMAND_UNSUPPORTED)
        self._login = None if proxy.user is None else Login(proxy.user, proxy.password or "")
        self._client = HttpClient(request.host, request.port, self._login)

    def hold(self, sock: Socket) -> Answer:
        client = self._client
        sock.sendall(client.request)
        granted = None
        while granted is None:
            ahead = _some(sock.recv(PEEK_BYTES, socket.MSG_PEEK))
            granted = client.feed(_some(sock.recv(client.head_bytes(ahead))))
        said = f"{client.status} {client.reason}".rstrip()
        if client.status == _LOGIN_WANTED:
            wants = "wants a login" if self._login is None else "does not take this user name and password"
            raise LoginRefusedError(f"the proxy {wants}: {said}")
        return Answer(client.outcome, f"{WORDS_OF_OUTCOME[client.outcome]} ({said})")
