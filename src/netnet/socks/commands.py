"""What becomes of a request that was received: CONNECT, BIND, ASSOCIATE. The client is told when what it is promised
stands; from then on a relay, or an association, has its connection.

All of it runs in the client's task. A request that comes to nothing leaves by ``UnreachedError`` (the client is to hear
why) or ``RefusedError`` (it has heard enough, or is gone).
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from netnet.net.relay import reset_on_close, start_relay
from netnet.net.resolve import Resolved
from netnet.net.sockets import Socket
from netnet.net.throttle import Throttle, TokenBucket
from netnet.runtime.api import now
from netnet.runtime.scope import timeout
from netnet.socks.admission import Admission, Visit, packed_address
from netnet.socks.associate import Association
from netnet.socks.bind import Binding, ClientLeftError, WrongPeerError
from netnet.socks.reception import Reception, RefusedError
from netnet.socks.requests import Command, Outcome, Request
from netnet.socks.rules import Route
from netnet.socks.session import Ending
from netnet.socks.settings import Entrance, Limits
from netnet.socks.targets import Asker, Targets, UnreachedError, unreached


class Commands:
    """What clients can ask for, by *limits*, to where *targets* lets them. When what was begun ends, the visit is called."""

    def __init__(self, limits: Limits, targets: Targets, admission: Admission) -> None:
        self._limits = limits
        self._targets = targets
        self._admission = admission

    def serve(self, client: Socket, visit: Visit, reception: Reception, request: Request, entrance: Entrance) -> None:
        """Does what *request* says; *client* belongs to a relay or an association when it returns. Switches tasks.

        Raises ``UnreachedError``, ``RefusedError``, ``OSError`` of the client's connection, ``Cancelled``.
        """
        _COMMANDS[request.command](self, client, visit, reception, request, entrance)

    def connect(self, client: Socket, visit: Visit, reception: Reception, request: Request, entrance: Entrance) -> None:
        """A connection to the target."""
        target, bound = self._reach(visit, request, entrance)
        visit.opened = now()
        try:
            answer = reception.granted(packed_address(bound), bound[1] if isinstance(bound, tuple) else 0)
            if answer:
                client.sendall(answer)
            if reception.first_data:
                self._send_first(client, target, reception.first_data, visit)
            self._start_relay(client, target, visit)
        except BaseException:
            target.close()
            raise

    def _send_first(self, client: Socket, target: Socket, data: bytes, visit: Visit) -> None:
        """Sends what came with the request. The client has heard that it is connected, so where this fails it hears what
        any connection that breaks sounds like: a reset."""
        try:
            with timeout(self._limits.connect_seconds):
                target.sendall(data)
        except OSError as error:
            reset_on_close(client)
            raise RefusedError(Ending.RESET, error.strerror or str(error), b"") from None
        visit.sent = len(data)

    def _reach(self, visit: Visit, request: Request, entrance: Entrance) -> tuple[Socket, Any]:
        asker = _asker(visit, entrance)
        try:
            with timeout(self._limits.connect_seconds):
                return self._targets.reach(asker, request, visit)
        except TimeoutError as error:
            raise UnreachedError(Outcome.TIMED_OUT, Ending.CONNECT_TIMEOUT, str(error)) from None

    def _start_relay(self, client: Socket, target: Socket, visit: Visit) -> None:
        relay = start_relay(
            client,
            target,
            visit,
            linger_seconds=self._limits.linger_seconds,
            idle_seconds=self._limits.idle_seconds,
            throttles=self._throttles(visit),
        )
        if visit.ended is None:  # it may have been through at once
            visit.relay = relay

    def _throttles(self, visit: Visit) -> tuple[Sequence[Throttle], Sequence[Throttle]]:
        rate = self._limits.bandwidth_per_connection
        user = self._admission.user_throttles(visit.user)
        if rate is None:
            return user
        return (TokenBucket(rate), *user[0]), (TokenBucket(rate), *user[1])

    def bind(self, client: Socket, visit: Visit, reception: Reception, request: Request, entrance: Entrance) -> None:
        """One connection from a peer."""
        candidates, route = self._judge(visit, request, entrance)
        if route.upstream:
            raise UnreachedError(Outcome.COMMAND_UNSUPPORTED, Ending.UNSUPPORTED, "BIND goes through no upstream proxy")
        peers = [one.packed for one in candidates] if request.named else ()
        self._admission.widen(visit)
        with self._opening():
            binding = Binding(client, request, entrance=entrance, limits=self._limits, route=route, peers=peers)
        with binding:
            host, port = binding.bound
            client.sendall(reception.granted(packed_address((host, port)), port))
            patient = reception.protocol == "socks5"
            peer, address = self._await_peer(binding, patient, lambda told: self._check_peer(visit, told, entrance))
            try:
                visit.address = address[0]
                client.sendall(reception.granted(packed_address(address), address[1]))
                first_data = reception.first_data + binding.trailing
                if first_data:
                    self._send_first(client, peer, first_data, visit)
                self._start_relay(client, peer, visit)
            except BaseException:
                peer.close()
                raise

    def _check_peer(self, visit: Visit, address: tuple[str, int], entrance: Entrance) -> None:
        asker = _asker(visit, entrance)
        verdict = self._targets.judge_peer(asker, address[0], packed_address(address), address[1])
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

    def associate(
        self, client: Socket, visit: Visit, reception: Reception, request: Request, entrance: Entrance
    ) -> None:
        """Datagrams, for as long as the client's connection lasts."""
        asker = _asker(visit, entrance)
        self._admission.widen(visit)
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
            client.sendall(reception.granted(packed_address((host, port)), port))
            visit.relay = association
            association.start(visit)
        except BaseException:
            if association is not None:
                association.abort()
            raise

    def _judge(self, visit: Visit, request: Request, entrance: Entrance) -> tuple[Sequence[Resolved], Route]:
        asker = _asker(visit, entrance)
        with self._opening(), timeout(self._limits.connect_seconds):
            return self._targets.judge(asker, request, visit)

    @contextlib.contextmanager
    def _opening(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            raise unreached(error) from None


def _asker(visit: Visit, entrance: Entrance) -> Asker:
    """Who asks. Where nobody has said whether private addresses are denied, they are."""
    return Asker(visit.packed, visit.user, entrance.deny_private is not False)


_COMMANDS: Final[dict[Command, Callable[..., None]]] = {
    Command.CONNECT: Commands.connect,
    Command.BIND: Commands.bind,
    Command.ASSOCIATE: Commands.associate,
}
