"""The proxy: a task for each client until its connection stands, then a relay without one.

Each client has a task of its own for the handshake, so a slow or hostile one delays nobody. What is said to it is in
``reception``, where its request leads to in ``targets``, datagrams in ``associate``, the other direction in ``bind``;
limits that several processes share are in ``ledger``. The reply goes out when what it promises stands, or has failed.
Bad input gets the protocol's refusal and a close; the server goes on. One report for each connection, when it has ended.

To *drain* is to take no more connections and to let those that there are come to their end.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from netnet.errors import Cancelled, UsageError
from netnet.kernel.address import SocketAddress, UnixAddress, from_sockaddr
from netnet.net.hosts import is_loopback
from netnet.net.relay import RelayResult
from netnet.net.serving import Draining, ServerStatistics, accept_all, accept_rest
from netnet.net.sockets import Socket
from netnet.runtime.api import now, sleep
from netnet.runtime.group import TaskGroup
from netnet.runtime.scope import CancelScope, timeout
from netnet.runtime.sync import Event
from netnet.runtime.worker import current_worker, running
from netnet.socks.admission import Admission, Visit, check_networks, client_text, packed_address
from netnet.socks.associate import AssociationResult
from netnet.socks.commands import Commands
from netnet.socks.ledger import Ledger, client_key
from netnet.socks.reception import Reception, RefusedError
from netnet.socks.requests import Outcome, Request
from netnet.socks.session import ENDING_OF_RELAY, Ending, Session
from netnet.socks.settings import Authentication, Entrance, Settings
from netnet.socks.shares import Shares
from netnet.socks.socks5 import Login
from netnet.socks.targets import Dial, Targets, UnreachedError, as_address

log = logging.getLogger("netnet.socks")

#: how much of what a refused client sends is read away, and for how long: the body of a request, as far as it is short
FAREWELL_BYTES: Final = 1 << 20
FAREWELL_SECONDS: Final = 1.0

#: passwords of one client that are looked at at once: each costs a processor some 0.2 s. A client with one user needs one
LOGINS_A_CLIENT: Final = 2

Verify = Callable[[str, str], bool]


class Server(Draining):
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
        super().__init__(drain_seconds)
        self.settings = settings
        self.entrances = entrances
        self.sessions: set[Session] = set()  #: those that have not ended
        self.statistics = ServerStatistics()
        self.admission = Admission(settings, ledger, places, logins=verify is not None)
        self._limits = settings.limits
        self._verify = verify
        self._logins = Shares(LOGINS_A_CLIENT)
        self._report = report or (lambda session: log.info(session.line(now())))
        self._commands = Commands(self._limits, Targets(settings.rules, dial), self.admission)
        self._group: TaskGroup | None = None
        self._empty = Event()

    @property
    def active(self) -> int:
        """How many connections have not ended."""
        return len(self.sessions)

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
        failed: list[OSError] = []
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
                        name = f"proxy listener {entrance.name}"
                        acceptors.spawn(self._accept, listener, entrance, accepting, failed, name=name)
                if failed:
                    self._group.cancel("a listener failed")
                else:
                    for listener, entrance in zip(listeners, entrances, strict=True):
                        self._accept_rest(listener, entrance)
                    self._close(listeners)
                    self._wait_empty()
        finally:
            if self.draining:  # where its time was over at once, it has not come to that yet
                self._close(listeners)
            if self._timer is not None:
                self._timer.cancel()
            loop.forget_drain(self)
        if failed:
            raise failed[0]

    def _close(self, listeners: Sequence[Socket]) -> None:
        for listener in listeners:
            listener.close()

    def _wait_empty(self) -> None:
        while self.sessions:
            self._empty.clear()
            self._empty.wait()

    def _entrance(self, number: int, listener: Socket) -> Entrance:
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise UsageError("the proxy needs sockets that listen")
        address = address_of(listener)
        private = is_private(address)
        if number < len(self.entrances):
            entrance = self._checked(self.entrances[number])
            return replace(entrance, deny_private=not private) if entrance.deny_private is None else entrance
        if not private:
            raise UsageError(f"{address} can be reached from elsewhere: say by an Entrance who may come in there")
        return Entrance(str(address), deny_private=False)

    def _checked(self, entrance: Entrance) -> Entrance:
        if entrance.authentication is Authentication.PASSWORD and self._verify is None:
            raise UsageError(f"entrance {entrance.name!r} takes passwords: say by verify= which of them are right")
        check_networks(entrance.proxy_protocol_from)
        return entrance

    def _accept(self, listener: Socket, entrance: Entrance, accepting: CancelScope, failed: list[OSError]) -> None:
        if listener.family != socket.AF_UNIX:  # what it accepts inherits it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            accept_all(listener, self._taker(entrance), self.admission.permits, self.statistics)
        except OSError as error:  # the others end as well, and its error is the server's
            failed.append(error)
            accepting.cancel("another listener failed")

    def _accept_rest(self, listener: Socket, entrance: Entrance) -> None:
        """Being drained: takes those whom the kernel has let in already, if there is time for them."""
        if self._deadline is not None and self._deadline > now():
            accept_rest(listener, self._taker(entrance), self.admission.permits, self.statistics)

    def _taker(self, entrance: Entrance) -> Callable[[Socket, Any], object]:
        group = self._group
        assert group is not None, "clients are taken by a server that runs"
        return lambda client, address: group.spawn(self.handle, client, address, entrance)

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
        visit = Visit(client_text(address), now(), entrance.name, keeper=self, packed=packed_address(address))
        self.sessions.add(visit)
        reception = Reception(client, entrance, lambda login: self._log_in(visit, login))
        handed_over = False
        try:
            client._descriptor.attach(running.loop)  # it has to be one day, and from then on its calls are quick
            with timeout(self._limits.handshake_seconds):
                request = self._receive(visit, reception, entrance)
            visit.request = request
            visit.user = reception.user
            self.admission.admit_user(visit, reception.user)
            self._commands.serve(client, visit, reception, request, entrance)
            handed_over = True
        except RefusedError as refused:
            _end(visit, refused.ending, refused.detail)
            answer = refused.answer
            if answer is None:
                answer = reception.refused(Outcome.FAILED, refused.ending)
            self._refuse(client, answer, patient=reception.protocol == "http")
        except UnreachedError as unreached:
            _end(visit, unreached.ending, unreached.detail)
            answer = reception.refused(unreached.outcome, unreached.ending)
            self._refuse(client, answer, patient=reception.protocol == "http")
        except TimeoutError:
            _end(visit, Ending.HANDSHAKE_TIMEOUT)
            self._refuse(client, reception.refused(Outcome.FAILED, Ending.HANDSHAKE_TIMEOUT))
        except OSError as error:
            _end(visit, Ending.CLIENT_LEFT, error.strerror or str(error))
        except Cancelled:
            _end(visit, Ending.STOPPED)
            raise
        except Exception:  # a bug, or no memory: it costs this connection, not the others
            _end(visit, Ending.ERROR)
            log.exception("the handshake with %s failed", visit.client)
        finally:
            if not handed_over:
                visit.protocol = reception.protocol
                client.close()
                self._ended(visit)

    def _receive(self, visit: Visit, reception: Reception, entrance: Entrance) -> Request:
        if entrance.proxy_protocol:
            self.admission.check_proxy(visit, entrance)
            source = reception.receive_source()
            if source.host:
                visit.client = client_text((source.host, source.port))
                visit.packed = packed_address((source.host, source.port))
                visit.source = source.host
        self.admission.admit_client(visit)
        request = as_address(reception.receive())
        visit.protocol = reception.protocol
        return request

    def _log_in(self, visit: Visit, login: Login) -> bool:
        """Whether the password is right. A wrong one is answered late, the later the more there were."""
        admission = self.admission
        with self._logins.of(client_key(visit.packed)):  # who waits here will have heard of a ban
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

    # -- the end

    def relayed(self, visit: Visit, result: RelayResult | AssociationResult) -> None:
        """The relay, or the association, of *visit* has ended. Runs in the loop."""
        visit.relay = None
        visit.sent += result.sent
        visit.received += result.received
        ending = ENDING_OF_RELAY.get(result.reason)
        _end(visit, ending or Ending.RESET, "" if ending else result.reason)
        self._ended(visit)

    def _refuse(self, client: Socket, answer: bytes, *, patient: bool = False) -> None:
        """Sends the refusal, if the client takes it at once, and finishes.

        What it has sent meanwhile is read, since unread data would turn the close into a reset, which overtakes the answer.
        *patient*: it may be in the middle of sending more, as with HTTP, and is waited for a moment.
        """
        if not answer:
            return
        with contextlib.suppress(OSError):
            client.settimeout(0)
            client.send(answer)
            client.shutdown(socket.SHUT_WR)
            if not patient:
                client.recv(FAREWELL_BYTES)
                return
            client.settimeout(None)
            left = FAREWELL_BYTES
            with timeout(FAREWELL_SECONDS):
                while left > 0 and (data := client.recv(left)):
                    left -= len(data)

    def _ended(self, visit: Visit) -> None:
        visit.ended = now()
        self.sessions.discard(visit)
        if self.draining and not self.sessions:
            self._empty.set()
        self.admission.leave(visit)
        try:
            self._report(visit)
        except Exception:
            log.exception("the report of a connection failed")


def address_of(listener: Socket) -> SocketAddress:
    """Where it listens."""
    return from_sockaddr(listener.family, listener.getsockname())


def is_private(address: SocketAddress) -> bool:
    """Whether only this machine can connect to *address*: loopback, or a UNIX socket."""
    return isinstance(address, UnixAddress) or is_loopback(getattr(address, "host", ""))


def _end(session: Session, ending: Ending, detail: str = "") -> None:
    session.ending = ending
    session.detail = detail


__all__ = ["Server", "address_of", "is_private"]
