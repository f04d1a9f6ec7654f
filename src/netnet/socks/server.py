"""The SOCKS proxy: handshake in a task, then a relay without one.

Each client has a task of its own for the handshake, so a slow or hostile one delays nobody. The reply goes out when the
connection to the target stands, or has failed. Bad input gets the protocol's refusal and a close; the server goes on.
One line in the log for each connection, when it has ended. What the protocol is, is in ``protocol``.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

from netnet.errors import Cancelled, ProtocolError
from netnet.net.relay import RelayResult, start_relay
from netnet.net.serving import accept_all
from netnet.net.sockets import Socket
from netnet.net.stream import connect
from netnet.runtime.api import now
from netnet.runtime.group import TaskGroup
from netnet.runtime.scope import timeout
from netnet.runtime.sync import Semaphore
from netnet.socks.limits import Limits
from netnet.socks.protocol import REQUEST_BYTES_MAX, Command, Reply, Request, Socks4Server

log = logging.getLogger("netnet.socks")


@dataclass(slots=True)
class Session:
    """What there is to tell of one connection when it has ended."""

    client: str
    began: float
    request: Request | None = None
    outcome: str = ""
    sent: int = 0
    received: int = 0

    def line(self, ended: float) -> str:
        """The log line: who, where, bytes to the target and from it, seconds, how it ended."""
        request = self.request
        target = "-" if request is None else _told(request.host, request.port)
        return f"{self.client} -> {target} {self.sent}/{self.received} bytes {ended - self.began:.3f} s {self.outcome}"


class Server:
    """A SOCKS4/4a proxy on any number of listeners.

    *limits*: see ``Limits``. *report* gets each ``Session`` when it has ended; by default its line is logged to the
    logger ``netnet.socks``. It runs in the loop and must not wait. *dial* connects to a target; by default
    ``netnet.connect``.
    """

    def __init__(
        self,
        *,
        limits: Limits = Limits(),
        report: Callable[[Session], object] | None = None,
        dial: Callable[[tuple[object, ...]], Socket] = connect,
    ) -> None:
        self.limits = limits
        self.active = 0  #: connections that have not ended
        self._report = report or (lambda session: log.info(session.line(now())))
        self._dial = dial
        self._permits = Semaphore(limits.connections) if limits.connections is not None else None

    def serve(self, *listeners: Socket) -> None:
        """Serves clients on *listeners* until cancelled. Switches tasks. Relays under way end with the run."""
        with TaskGroup() as group:
            for listener in listeners:
                group.spawn(accept_all, listener, lambda conn: group.spawn(self.handle, conn), self._permits)

    # -- one connection

    def handle(self, client: Socket) -> None:
        """Serves one client: the handshake here, what follows in a relay that outlives this call."""
        self.active += 1
        session = Session("?", now())
        handed_over = False
        target: Socket | None = None
        try:
            session.client = _prepare(client)
            machine = Socks4Server()
            session.request = self._receive_request(client, machine)
            target = self._connect(client, machine, session.request)
            if machine.trailing:
                with timeout(self.limits.connect_seconds):
                    target.sendall(machine.trailing)
                session.sent = len(machine.trailing)
            start_relay(
                client,
                target,
                lambda result: self._relayed(session, result),
                linger_seconds=self.limits.linger_seconds,
                idle_seconds=self.limits.idle_seconds,
            )
            handed_over = True
        except _Refused as refused:
            session.outcome = str(refused)
        except OSError as error:
            session.outcome = error.strerror or str(error)
        except Cancelled:
            session.outcome = "the proxy stops"
            raise
        except Exception:  # a bug, or no memory: it costs this connection, not the others
            session.outcome = "internal error"
            log.exception("the handshake with %s failed", session.client)
        finally:
            if not handed_over:
                if target is not None:
                    target.close()
                client.close()
                self._ended(session)

    def _receive_request(self, client: Socket, machine: Socks4Server) -> Request:
        try:
            with timeout(self.limits.handshake_seconds):
                while True:
                    data = client.recv(REQUEST_BYTES_MAX)
                    if not data:
                        raise _Refused("the client left before its request")
                    request = machine.feed(data)
                    if request is not None:
                        return request
        except ProtocolError as error:
            self._refuse(client, machine)
            raise _Refused(f"bad request: {error}") from None
        except TimeoutError:
            self._refuse(client, machine)
            raise _Refused("the request took too long") from None

    def _connect(self, client: Socket, machine: Socks4Server, request: Request) -> Socket:
        """Connects to the target and says so; or says that it failed."""
        if request.command is not Command.CONNECT:
            self._refuse(client, machine)
            raise _Refused("BIND is not supported")
        try:
            with timeout(self.limits.connect_seconds):
                target = self._dial((request.host, request.port))
        except (OSError, ValueError) as error:  # ValueError: it can be no name, or no address
            self._refuse(client, machine)
            raise _Refused(f"{getattr(error, 'strerror', None) or error}") from None
        try:
            bound = target.getsockname()
            client.sendall(machine.reply(Reply.GRANTED, *(bound[:2] if isinstance(bound, tuple) else ())))
        except BaseException:
            target.close()
            raise
        return target

    def _refuse(self, client: Socket, machine: Socks4Server) -> None:
        """Sends the refusal, if the client takes it at once, and finishes."""
        with contextlib.suppress(OSError):
            client.settimeout(0)
            client.send(machine.reply(Reply.REJECTED))
            client.shutdown(socket.SHUT_WR)
            client.recv(65536)  # what it sent meanwhile: unread data would turn the close into a reset

    def _relayed(self, session: Session, result: RelayResult) -> None:
        session.sent += result.sent
        session.received = result.received
        session.outcome = result.reason
        self._ended(session)

    def _ended(self, session: Session) -> None:
        self.active -= 1
        if self._permits is not None:
            self._permits.release()
        try:
            self._report(session)
        except Exception:
            log.exception("the report of a connection failed")


class _Refused(Exception):
    """The connection ends here; the text is for the log."""


def _told(host: str, port: int) -> str:
    """A host and a port for the log, whatever the client has said."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _prepare(client: Socket) -> str:
    """Sets a client's options; returns its name for the log."""
    peer = client.getpeername()
    if not isinstance(peer, tuple):
        return "unix"
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return _told(peer[0], peer[1])
