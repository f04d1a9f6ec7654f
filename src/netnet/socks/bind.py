"""BIND: one connection from a target to the client, by way of the proxy. It listens, says where, and waits for one peer.

RFC 1928 section 4 and the memo of SOCKS4; FTP's active mode is what it was made for. Not here: what is said to the
client (the server), and how the two connections are joined (``relay``).

- *Where.* Toward the expected peer: at the address from which this machine would send to it. If nobody in particular is
  expected, at the address that the client has reached.
- *Who.* A peer must have one of the addresses that are expected; ports do not matter, since FTP servers call from port 20
  after they were talked to on port 21. Somebody else is turned away by a reset. What then, the protocols see differently: the
  memo of SOCKS4 has the whole request fail, the RFC says nothing, and there to wait on is the better choice, or else
  anybody who scans ports ends the waiting. So ``accept`` raises ``WrongPeerError``, and may be called again.
- *How long.* ``Limits.bind_seconds`` in all, and no longer than the client's connection lasts. What the client sends
  meanwhile is kept for the peer (``trailing``), or else its end could not be seen behind it.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from netnet.net.relay import reset_on_close
from netnet.net.sockets import Socket
from netnet.net.waiting import family_of, plain
from netnet.runtime.api import now
from netnet.runtime.choose import Elapsed, Readable, choose
from netnet.socks import ranges
from netnet.socks.local import End, at_a_port, end_of, end_toward, open_by, own_end
from netnet.socks.requests import Request, target_text
from netnet.socks.settings import Entrance, Limits

if TYPE_CHECKING:
    from types import TracebackType

    from netnet.socks.rules import Route

#: connections that the kernel holds until they are looked at: the right one and some that came by mistake
BACKLOG: Final = 8

#: kept of what the client sends before there is anybody to send it to; more stays with the kernel
TRAILING_BYTES_MAX: Final = 65536


class WrongPeerError(ConnectionRefusedError):
    """Somebody connected who was not expected: *host* and *port*. That connection is closed; waiting may go on."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(errno.ECONNREFUSED, f"{target_text(host, port)} connected, and is not whom the client expects")
        self.host = host
        self.port = port


class ClientLeftError(ConnectionResetError):
    """The client's connection ended while it waited for its peer."""

    def __init__(self, detail: str) -> None:
        super().__init__(errno.ECONNRESET, detail)


class Binding:
    """A listener for one peer of *client*, whose *request* says which; all zeros: anybody.

    *peers*: the addresses that may connect, 4 or 16 bytes each, instead of the request's: for a name, which the caller
    has looked up. (Where they are of both families it listens for IPv4; the reply has room for one address.) *route*:
    the address and the interface that the peer is to be reached by. ``bound`` is what the client is told. The client's
    connection stays the caller's. To be used in a ``with`` statement, or ``close``.

    Creating it raises ``OSError`` where there is no way to the peer or no free port, ``ValueError`` for a name without
    *peers*. Does not switch tasks.
    """

    __slots__ = ("_client", "_deadline", "_listener", "_peers", "bound", "trailing")

    def __init__(
        self,
        client: Socket,
        request: Request,
        *,
        entrance: Entrance = Entrance(),
        limits: Limits = Limits(),
        route: Route | None = None,
        peers: Sequence[bytes] = (),
    ) -> None:
        self._peers = _expected(request, peers)
        self._client = client
        self._deadline = now() + limits.bind_seconds
        #: what the client has sent already, for the peer
        self.trailing = b""
        here = _here(client, self._peers, route)
        self._listener = _listen(here, entrance.ports, route)
        #: address and port to connect to, for the first reply
        self.bound: tuple[str, int] = (entrance.advertise or here.told, self._listener.getsockname()[1])

    def accept(self) -> tuple[Socket, tuple[str, int]]:
        """Waits for the peer; returns its connection, and its address and port for the second reply.

        Switches tasks. Raises ``WrongPeerError`` for somebody else, after which it may be called again; ``ClientLeftError``
        as soon as the client's connection has ended; ``TimeoutError`` when the time of the binding is over; ``OSError``.
        """
        while True:
            self._wait()
            try:
                peer, address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):  # who came has gone again
                continue
            try:
                return peer, self._checked(peer, address)
            except BaseException:
                peer.close()
                raise

    def _checked(self, peer: Socket, address: Any) -> tuple[str, int]:
        """The peer's address and port, if it is one that may connect."""
        end = end_of(family_of(peer), address)
        if self._peers and socket.inet_pton(end.family, end.told) not in self._peers:
            reset_on_close(peer)
            raise WrongPeerError(end.told, address[1])
        return end.told, address[1]

    def _wait(self) -> None:
        """Waits until somebody is there."""
        listener = Readable(self._listener)
        while True:
            full = len(self.trailing) >= TRAILING_BYTES_MAX
            limit = Elapsed(max(0.0, self._deadline - now()))
            which = choose(limit, listener) if full else choose(limit, listener, Readable(self._client))
            if which.which == 0:
                raise TimeoutError(errno.ETIMEDOUT, "nobody has connected in time")
            if which.which == 1:
                return
            self._read_client()

    def _read_client(self) -> None:
        """Takes what the client has sent, or sees that it has left."""
        try:
            data = plain.recv(self._client, TRAILING_BYTES_MAX - len(self.trailing))
        except BlockingIOError:
            return
        except OSError as error:
            raise ClientLeftError(f"the client left while it waited for its peer: {error.strerror}") from None
        if not data:
            raise ClientLeftError("the client left while it waited for its peer")
        self.trailing += data

    def close(self) -> None:
        """Listens no more. Twice is fine."""
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _expected(request: Request, peers: Sequence[bytes]) -> frozenset[bytes]:
    """The addresses that may connect; none: all."""
    if not peers:
        if request.named:
            raise ValueError(f"look {request.host} up, and say by peers= which addresses may connect")
        peers = (request.packed,)
    return frozenset(ranges.plain(packed) for packed in peers if any(packed))


def _here(client: Socket, peers: frozenset[bytes], route: Route | None) -> End:
    """The address to listen on."""
    if not peers:
        if route is not None and route.source is not None:
            return End(socket.AF_INET6 if ":" in route.source else socket.AF_INET, route.source)
        return own_end(client)
    return end_toward(sorted(peers, key=len)[0], route)


def _listen(here: End, ports: tuple[int, int] | None, route: Route | None) -> Socket:
    """A listener on *here*, at one of *ports*."""

    def attempt(sockaddr: tuple[Any, ...]) -> Socket:
        sock = open_by(here.family, socket.SOCK_STREAM, route)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what it accepts inherits it
            plain.bind(sock, sockaddr)
            sock.listen(BACKLOG)
            sock.settimeout(0)  # ``choose`` does the waiting
        except BaseException:
            sock.close()
            raise
        return sock

    return at_a_port(here, ports, attempt)


__all__ = ["BACKLOG", "TRAILING_BYTES_MAX", "Binding", "ClientLeftError", "WrongPeerError"]
