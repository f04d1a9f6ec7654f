"""The proxy: a task for each client until its connection stands, then a relay without one.

Each client has a task of its own for the handshake, so a slow or hostile one delays nobody. What is said to it is in
``reception``, where its request leads to in ``targets``, datagrams in ``associate``, the other direction in ``bind``;
limits that several processes share are in ``ledger``. The reply goes out when what it promises stands, or has failed.
Bad input gets the protocol's refusal and a close; the server goes on. One report for each connection, when it has ended.

To *drain* is to take no more connections and to let those that there are come to their end.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from netnet.errors import Cancelled, UsageError
from netnet.kernel.address import SocketAddress, UnixAddress, from_sockaddr
from netnet.net.hosts import is_loopback
from netnet.net.relay import RelayResult, start_relay
from netnet.net.resolve import Resolved
from netnet.net.serving import ServerStatistics, accept_all
from netnet.net.sockets import Socket
from netnet.net.systemd import notify
from netnet.net.throttle import Throttle, TokenBucket
from netnet.runtime.api import now, sleep
from netnet.runtime.clock import checked_seconds
from netnet.runtime.group import TaskGroup
from netnet.runtime.scope import CancelScope, timeout
from netnet.runtime.sync import Event
from netnet.runtime.timers import Timer
from netnet.runtime.worker import current_worker, running
from netnet.socks.admission import Admission, Visit, check_networks
from netnet.socks.associate import Association, AssociationResult
from netnet.socks.bind import Binding, ClientLeftError, WrongPeerError
from netnet.socks.ledger import Ledger
from netnet.socks.reception import Reception, RefusedError
from netnet.socks.requests import Command, Outcome, Request
from netnet.socks.rules import Route
from netnet.socks.session import ENDING_OF_RELAY, Ending, Session
from netnet.socks.settings import Authentication, Entrance, Settings
from netnet.socks.socks5 import Login
from netnet.socks.targets import Asker, Dial, Targets, UnreachedError, as_address, packed_of, unreached

log = logging.getLogger("netnet.socks")

#: how much of what a refused client sent is read away, so that the close is no reset, which could overtake the answer
FAREWELL_BYTES: Final = 65536

Verify = Callable[[str, str], bool]


class Server:
    """A proxy for SOCKS4, 4a, 5 and HTTP on any number of listeners.

    *settings*: limits, users, rules; they do not change while it runs. *entrances*: how the clients of each listener
    are treated, in the order of the listeners; needed for those that are not on loopback or UNIX. *verify* says
    whether a user's password is right; it may switch tasks. *report* gets each ``Session`` when it has ended; by
    default its line is logged to the logger ``netnet.socks``. It runs in the loop and must not wait. *ledger* holds
    the counts that are limited; several processes share one, and *places* is how many connections this one can have at
    most. *dial* connects to targets in place of ``connect``. *drain_seconds*: as of ``net.serving.Server``.
    """

    def __init__(
        self,
        settings: Settings = Settings(),
        *,
        entrances: Sequence[Entrance] = (),
        verify: Verify | None = None,
        report: Callable[[Session], object] | None = None,
        ledger: Ledger | None = None,
        dial: Dial | None = None,
        drain_seconds: float = 0.0,
        places: int | None = None,
    ) -> None:
        self.settings = settings
        self.entrances = entrances
        self.sessions: set[Session] = set()  #: those that have not ended
        self.statistics = ServerStatistics()
        self.drain_seconds = checked_seconds(drain_seconds)
        self.admission = Admission(settings, ledger, places, logins=verify is not None)
        self._limits = settings.limits
        self._verify = verify
        self._report = report or (lambda session: log.info(session.line(now())))
        self._targets = Targets(settings.rules, dial)
        self._accepting: set[CancelScope] = set()
        self._group: TaskGroup | None = None
        self._empty = Event()
        self._deadline: float | None = None
        self._timer: Timer | None = None
        self._idle_seconds = self._limits.idle_seconds

    @property
    def active(self) -> int:
        """How many connections have not ended."""
        return len(self.sessions)

    @property
    def draining(self) -> bool:
        """Whether it takes no more connections."""
        return self._deadline is not None

    # -- serving

    def serve(self, *listeners: Socket) -> None:
        """``serve_all`` for *listeners*."""
        self.serve_all(listeners)

    def serve_all(self, listeners: Sequence[Socket]) -> None:
        """Serves clients on *listeners* until cancelled, or drained: then the listeners are closed.

        Switches tasks. Relays under way end with the run. Raises ``UsageError`` for a public listener without an
        entrance, ``Cancelled``, and ``OSError`` of a listener.
        """
        entrances = [self._entrance(number, listener) for number, listener in enumerate(listeners)]
        loop = current_worker().loop
        if self.drain_seconds > 0:
            loop.drains[self] = self.begin_draining
        try:
            with TaskGroup() as self._group:
                accepting = CancelScope()
                self._accepting.add(accepting)
                if self.draining:  # it was told before it began
                    accepting.cancel()
                with accepting, TaskGroup() as acceptors:
                    for listener, entrance in zip(listeners, entrances, strict=True):
                        acceptors.spawn(self._accept, listener, entrance, name=f"proxy listener {entrance.name}")
                for listener in listeners:
                    listener.close()
                while self.sessions:
                    self._empty.clear()
                    self._empty.wait()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            loop.forget_drain(self)

    def _entrance(self, number: int, listener: Socket) -> Entrance:
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise UsageError("the proxy needs sockets that listen")
        if number < len(self.entrances):
            return self._checked(self.entrances[number])
        address = address_of(listener)
        if not is_private(address):
            raise UsageError(f"{address} can be reached from elsewhere: say by an Entrance who may come in there")
        return Entrance(str(address))

    def _checked(self, entrance: Entrance) -> Entrance:
        if entrance.authentication is Authentication.PASSWORD and self._verify is None:
            raise UsageError(f"entrance {entrance.name!r} takes passwords: say by verify= which of them are right")
        check_networks(entrance.proxy_protocol_from)
        return entrance

    def _accept(self, listener: Socket, entrance: Entrance) -> None:
        if listener.family != socket.AF_UNIX:  # what it accepts inherits it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        group = self._group
        assert group is not None

        def take(client: Socket, address: Any) -> None:
            group.spawn(self.handle, client, address, entrance)

        accept_all(listener, take, self.admission.permits, self.statistics)

    def begin_draining(self, seconds: float | None = None) -> None:
        """Takes no more connections; those that are left after *seconds* are ended. Does not switch tasks.

        *seconds*: by default those of the server. Of several deadlines the earliest counts.
        """
        loop = running.loop
        deadline = loop.clock.now() + (self.drain_seconds if seconds is None else seconds)
        if self._deadline is None:
            notify(stopping=True)
        elif deadline >= self._deadline:
            return
        self._deadline = deadline
        if self._timer is not None:
            self._timer.cancel()
        if deadline < math.inf:
            self._timer = loop.timers.add(deadline, self._cut_off)
        for scope in tuple(self._accepting):
            scope.cancel("the proxy is being drained")

    def _cut_off(self) -> None:
        """The time for draining is over."""
        for session in tuple(self.sessions):
            if session.relay is not None:
                session.relay.abort("the proxy stops")
        if self._group is not None:
            self._group.cancel("the time for draining was over")

    # -- one connection

    def handle(self, client: Socket, address: Any, entrance: Entrance) -> None:
        """Serves one client, which came from *address*: the handshake here; a relay outlives this call."""
        visit = Visit(Session(_client_text(address), now(), entrance.name), _packed(address))
        session = visit.session
        self.sessions.add(session)
        reception = Reception(client, entrance, lambda login: self._log_in(visit, login))
        handed_over = False
        try:
            client._descriptor.attach(running.loop)  # it has to be one day, and from then on its calls are quick
            with timeout(self._limits.handshake_seconds):
                request = self._receive(visit, reception, entrance)
            session.request = request
            session.user = reception.user
            self._admit_user(visit, reception)
            serve = _SERVE[request.command]
            handed_over = serve(self, client, visit, reception, request, entrance)
        except RefusedError as refused:
            _end(session, refused.ending, refused.detail)
            self._refuse(client, refused.answer)
        except UnreachedError as unreached:
            _end(session, unreached.ending, unreached.detail)
            self._refuse(client, reception.refused(unreached.outcome, unreached.ending))
        except TimeoutError:
            _end(session, Ending.HANDSHAKE_TIMEOUT)
            self._refuse(client, reception.refused(Outcome.FAILED, Ending.HANDSHAKE_TIMEOUT))
        except OSError as error:
            _end(session, Ending.CLIENT_LEFT, error.strerror or str(error))
        except Cancelled:
            _end(session, Ending.STOPPED)
            raise
        except Exception:  # a bug, or no memory: it costs this connection, not the others
            _end(session, Ending.ERROR)
            log.exception("the handshake with %s failed", session.client)
        finally:
            if not handed_over:
                session.protocol = reception.protocol
                client.close()
                self._ended(visit)

    def _receive(self, visit: Visit, reception: Reception, entrance: Entrance) -> Request:
        if entrance.proxy_protocol:
            self.admission.check_proxy(visit, entrance)
            source = reception.receive_source()
            if source.host:
                visit.session.client = _client_text((source.host, source.port))
                visit.packed = _packed((source.host, source.port))
                visit.source = source.host
        self.admission.admit_client(visit)
        request = as_address(reception.receive())
        visit.session.protocol = reception.protocol
        return request

    def _log_in(self, visit: Visit, login: Login) -> bool:
        """Whether the password is right. A wrong one is answered late, the later the more there were."""
        admission = self.admission
        admission.check_ban(visit)
        good = self._is_right(login)
        admission.check_ban(visit)  # others may have failed while this one was looked at
        delay = admission.logged_in(visit, good)
        if delay > 0:
            sleep(delay)
        return good

    def _is_right(self, login: Login) -> bool:
        if self._verify is None:  # a login is optional, and nobody has one
            return False
        try:
            return self._verify(login.user, login.password)
        except Exception:  # no matter which: it is not the client's
            log.exception("nobody could tell whether a password is right")
            raise RefusedError(Ending.ERROR, "the password could not be checked") from None

    def _admit_user(self, visit: Visit, reception: Reception) -> None:
        try:
            self.admission.admit_user(visit, reception.user)
        except RefusedError as refused:
            refused.answer = reception.refused(Outcome.FAILED, refused.ending)
            raise

    # -- commands. Each returns whether the client was handed over to a relay

    def _connect(
        self, client: Socket, visit: Visit, reception: Reception, request: Request, entrance: Entrance
    ) -> bool:
        target = self._reach(visit, request, entrance)
        visit.session.opened = now()
        try:
            bound = target.getsockname()
            answer = reception.granted(_packed(bound), bound[1] if isinstance(bound, tuple) else 0)
            if answer:
                client.sendall(answer)
            if reception.first_data:
                self._send_first(client, target, reception.first_data, visit.session)
            self._start_relay(client, target, visit)
        except BaseException:
            target.close()
            raise
        return True

    def _send_first(self, client: Socket, target: Socket, data: bytes, session: Session) -> None:
        """Sends what came with the request. The client has heard that it is connected, so where this fails it hears what
        any connection that breaks sounds like: a reset."""
        try:
            with timeout(self._limits.connect_seconds):
                target.sendall(data)
        except OSError as error:
            with contextlib.suppress(OSError):
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            raise RefusedError(Ending.RESET, error.strerror or str(error)) from None
        session.sent = len(data)

    def _reach(self, visit: Visit, request: Request, entrance: Entrance) -> Socket:
        asker = Asker(visit.packed, visit.session.user, entrance.deny_private)
        try:
            with timeout(self._limits.connect_seconds):
                return self._targets.reach(asker, request, visit.session)
        except TimeoutError as error:
            raise UnreachedError(Outcome.TIMED_OUT, Ending.CONNECT_TIMEOUT, str(error)) from None

    def _start_relay(self, client: Socket, target: Socket, visit: Visit) -> None:
        relay = start_relay(
            client,
            target,
            lambda result: self._relayed(visit, result),
            linger_seconds=self._limits.linger_seconds,
            idle_seconds=self._idle_seconds,
            throttles=self._throttles(visit),
        )
        if visit.session.ended is None:  # it may have been through at once
            visit.session.relay = relay

    def _throttles(self, visit: Visit) -> tuple[Sequence[Throttle], Sequence[Throttle]]:
        rate = self._limits.bandwidth_per_connection
        user = self.admission.user_throttles(visit.session.user)
        if rate is None:
            return user
        return (TokenBucket(rate), *user[0]), (TokenBucket(rate), *user[1])

    def _relayed(self, visit: Visit, result: RelayResult | AssociationResult) -> None:
        session = visit.session
        session.relay = None
        session.sent += result.sent
        session.received += result.received
        ending = ENDING_OF_RELAY.get(result.reason)
        _end(session, ending or Ending.RESET, "" if ending else result.reason)
        self._ended(visit)

    def _bind(self, client: Socket, visit: Visit, reception: Reception, request: Request, entrance: Entrance) -> bool:
        candidates, route = self._judge(visit, request, entrance)
        if route.upstream:
            raise UnreachedError(Outcome.COMMAND_UNSUPPORTED, Ending.UNSUPPORTED, "BIND goes through no upstream proxy")
        peers = [packed_of(one) for one in candidates] if request.named else ()
        with self._opening():
            binding = Binding(client, request, entrance=entrance, limits=self._limits, route=route, peers=peers)
        with binding:
            host, port = binding.bound
            client.sendall(reception.granted(_packed((host, port)), port))
            patient = reception.protocol == "socks5"
            peer, address = self._await_peer(binding, patient, lambda told: self._check_peer(visit, told, entrance))
            try:
                visit.session.address = address[0]
                client.sendall(reception.granted(_packed(address), address[1]))
                first_data = reception.first_data + binding.trailing
                if first_data:
                    self._send_first(client, peer, first_data, visit.session)
                self._start_relay(client, peer, visit)
            except BaseException:
                peer.close()
                raise
        return True

    def _check_peer(self, visit: Visit, address: tuple[str, int], entrance: Entrance) -> None:
        asker = Asker(visit.packed, visit.session.user, entrance.deny_private)
        verdict = self._targets.judge_peer(asker, address[0], _packed(address), address[1])
        if verdict is not None and not verdict.allow:
            raise PermissionError(errno.EACCES, f"{address[0]} connected: {verdict.why}")

    def _await_peer(
        self, binding: Binding, patient: bool, check: Callable[[tuple[str, int]], None]
    ) -> tuple[Socket, tuple[str, int]]:
        """Who connects. Somebody else than is expected ends it where the memo of SOCKS4 says so, but not in SOCKS5, so
        that a stranger cannot break up what others have arranged."""
        while True:
            try:
                peer, address = binding.accept()
                try:
                    check(address)
                except BaseException:
                    peer.close()
                    raise
                return peer, address
            except (WrongPeerError, PermissionError) as error:
                if not patient:
                    raise UnreachedError(Outcome.DENIED, Ending.DENIED, error.strerror or str(error)) from None
            except ClientLeftError as error:
                raise RefusedError(Ending.CLIENT_LEFT, error.strerror or "") from None
            except TimeoutError:
                raise UnreachedError(Outcome.TIMED_OUT, Ending.CONNECT_TIMEOUT, "nobody came") from None

    def _associate(
        self, client: Socket, visit: Visit, reception: Reception, request: Request, entrance: Entrance
    ) -> bool:
        session = visit.session
        asker = Asker(visit.packed, session.user, entrance.deny_private)
        association: Association | None = None
        try:
            with self._opening():
                association = Association(
                    client,
                    request,
                    judge=lambda host, packed, port: self._targets.judge_datagram(asker, host, packed, port),
                    limits=self._limits,
                    entrance=entrance,
                    throttles=self._throttles(visit),
                    peer=visit.source,
                )
            host, port = association.bound
            client.sendall(reception.granted(_packed((host, port)), port))
            session.relay = association
            association.start(lambda result: self._relayed(visit, result))
        except BaseException:
            if association is not None:
                association.abort()
            raise
        return True

    def _judge(self, visit: Visit, request: Request, entrance: Entrance) -> tuple[Sequence[Resolved], Route]:
        asker = Asker(visit.packed, visit.session.user, entrance.deny_private)
        with self._opening(), timeout(self._limits.connect_seconds):
            return self._targets.judge(asker, request, visit.session)

    @contextlib.contextmanager
    def _opening(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            raise unreached(error) from None

    # -- the end

    def _refuse(self, client: Socket, answer: bytes) -> None:
        """Sends the refusal, if the client takes it at once, and finishes."""
        if not answer:
            return
        with contextlib.suppress(OSError):
            client.settimeout(0)
            client.send(answer)
            client.shutdown(socket.SHUT_WR)
            client.recv(FAREWELL_BYTES)  # what it sent meanwhile: unread data would turn the close into a reset

    def _ended(self, visit: Visit) -> None:
        session = visit.session
        session.ended = now()
        self.sessions.discard(session)
        if not self.sessions:
            self._empty.set()
        self.admission.leave(visit)
        try:
            self._report(session)
        except Exception:
            log.exception("the report of a connection failed")


_SERVE: Final[dict[Command, Callable[..., bool]]] = {
    Command.CONNECT: Server._connect,
    Command.BIND: Server._bind,
    Command.ASSOCIATE: Server._associate,
}


def address_of(listener: Socket) -> SocketAddress:
    """Where it listens."""
    return from_sockaddr(listener.family, listener.getsockname())


def is_private(address: SocketAddress) -> bool:
    """Whether only this machine can connect to *address*: loopback, or a UNIX socket."""
    return isinstance(address, UnixAddress) or is_loopback(getattr(address, "host", ""))


def _end(session: Session, ending: Ending, detail: str = "") -> None:
    session.ending = ending
    session.detail = detail


def _client_text(address: Any) -> str:
    """A client's name for the log."""
    if not isinstance(address, tuple):
        return "unix"
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def _packed(address: Any) -> bytes:
    """The bytes of the address that the kernel tells; ``b""`` for a UNIX socket's. An IPv4-mapped one is IPv4."""
    if not isinstance(address, tuple):
        return b""
    host: str = address[0]
    if ":" not in host:
        return socket.inet_aton(host)
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return packed[12:] if packed.startswith(_MAPPED) else packed


_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

_MAPPED: Final = b"\0" * 10 + b"\xff\xff"


__all__ = ["Server", "address_of", "is_private"]
