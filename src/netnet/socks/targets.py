"""From a request to a connected socket: the rules are asked, names are looked up, and what may be reached is dialed,
directly or through an upstream chain. Only addresses that were judged are connected to: a name is not looked up again
after the rules have seen its addresses.
"""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from netnet.errors import ProtocolError
from netnet.net.resolve import Resolved, resolve
from netnet.net.sockets import Socket
from netnet.net.stream import connect_any
from netnet.socks import client as clients
from netnet.socks.ledger import client_key
from netnet.socks.local import go_by
from netnet.socks.requests import OUTCOME_OF_ERRNO, Command, Outcome, Request, address_text
from netnet.socks.rules import Route, Rules, Verdict, literal
from netnet.socks.session import ENDING_OF_OUTCOME, Ending, Session
from netnet.socks.shares import Shares
from netnet.socks.upstream import Proxy, parse_chain

DIRECT: Final = Route()

#: look-ups of one client at once: a browser opens about six connections to a name, and names that nobody answers for
#: hold their threads for many seconds, of which there are 40
LOOKUPS_A_CLIENT: Final = 8

#: where there are no rules
_ALLOWED: Final = Verdict(True, "", "there are no rules", DIRECT)

Dial = Callable[[tuple[str, int]], Socket]


class UnreachedError(Exception):
    """There is no connection: what the client is told, and what the log says."""

    def __init__(self, outcome: Outcome, ending: Ending, detail: str) -> None:
        super().__init__(outcome, detail)
        self.outcome = outcome
        self.ending = ending
        self.detail = detail


@dataclass(slots=True)
class Asker:
    """Who asks, as far as rules care."""

    packed: bytes  #: the client's address; ``b""`` for a UNIX socket's peer
    user: str | None
    deny_private: bool


class Targets:
    """Where requests lead to, by *rules*. *dial*, if given, connects instead, to ``(host, port)``."""

    def __init__(self, rules: Rules | None, dial: Dial | None = None) -> None:
        self._rules = rules
        self._all_private = Rules(())
        self._dial = dial
        self._lookups = Shares(LOOKUPS_A_CLIENT)

    def reach(self, asker: Asker, request: Request, session: Session) -> tuple[Socket, Any]:
        """Connects to what *request* names, ``as_address``; notes in *session* which rule, route and address it was.

        Returns the socket and its own address, as ``getsockname`` tells it. Switches tasks. Raises ``UnreachedError``,
        and ``Cancelled``.
        """
        try:
            candidates, route = self.judge(asker, request, session)
            if route.upstream:
                return _with_own(_through(request, candidates, route, session))
            if self._dial is not None:
                host = candidates[0].sockaddr[0] if candidates else request.host  # one that was judged, if any was
                return _with_own(self._dial((host, request.port)))
            sock, own = connect_any(candidates, target=request, source=route.source, prepare=_preparing(route))
            if not request.packed:
                with contextlib.suppress(OSError):  # it has left already; that will be seen
                    session.address = sock.getpeername()[0]
            return sock, own
        except (OSError, ValueError) as error:  # ValueError: it can be no name, or no address
            raise unreached(error) from None

    def judge(self, asker: Asker, request: Request, session: Session) -> tuple[Sequence[Resolved], Route]:
        """The addresses that may be connected to, and the way. Switches tasks where a name is looked up.

        Without addresses, the name is for the upstream proxy to look up. Raises ``UnreachedError`` when a rule denies it,
        ``OSError`` when a name has no address.
        """
        packed = request.packed
        rules = self._rules
        if rules is None:
            if not asker.deny_private:
                return ([_resolved(request)] if packed else self._look_up(asker, request)), DIRECT
            rules = self._all_private
        verdict = self._ask(rules, asker, request, packed)
        if verdict is not None:
            session.rule = verdict.rule
            _check(verdict)
            if packed:
                return [_resolved(request)], verdict.route
            return ([] if verdict.route.upstream else self._look_up(asker, request)), verdict.route
        return self._judge_each(rules, asker, request, session)

    def judge_peer(self, asker: Asker, host: str, packed: bytes, port: int) -> Verdict | None:
        """Whether *asker* may have a connection from this peer, where any peer was asked for. ``None``: it may."""
        rules = self._rules
        if rules is None:
            if not asker.deny_private:
                return None
            rules = self._all_private
        return self._ask(rules, asker, Request(Command.BIND, host, port, packed), packed)

    def judge_datagram(self, asker: Asker, host: str, packed: bytes, port: int) -> Verdict | None:
        """The same for a target of datagrams. ``None``: it depends on the addresses; ask again for each. Never waits."""
        rules = self._rules or self._all_private
        if self._rules is None and not asker.deny_private:
            return _ALLOWED
        return rules.judge(
            asker.packed, asker.user, Command.ASSOCIATE, host, packed, port, deny_private=asker.deny_private
        )

    def _judge_each(
        self, rules: Rules, asker: Asker, request: Request, session: Session
    ) -> tuple[Sequence[Resolved], Route]:
        """Of a name: each of its addresses is judged. The route of the first that is allowed is taken by all."""
        denied: Verdict | None = None
        allowed: list[Resolved] = []
        route: Route | None = None
        for candidate in self._resolve(asker, request):
            verdict = self._ask(rules, asker, request, candidate.packed)
            assert verdict is not None, "with an address there is a verdict"
            if not verdict.allow:
                denied = denied or verdict
            elif route is None or verdict.route == route:
                if route is None:
                    session.rule = verdict.rule
                route = verdict.route
                allowed.append(candidate)
        if route is None:
            assert denied is not None, "a name that was found has an address"
            session.rule = denied.rule
            _check(denied)
        assert route is not None
        return allowed, route

    def _ask(self, rules: Rules, asker: Asker, request: Request, packed: bytes) -> Verdict | None:
        return rules.judge(
            asker.packed,
            asker.user,
            request.command,
            request.host,
            packed,
            request.port,
            deny_private=asker.deny_private,
        )

    def _look_up(self, asker: Asker, request: Request) -> Sequence[Resolved]:
        return [] if self._dial is not None else self._resolve(asker, request)

    def _resolve(self, asker: Asker, request: Request) -> Sequence[Resolved]:
        with self._lookups.of(client_key(asker.packed)):
            return resolve(request.host, request.port)


def _with_own(sock: Socket) -> tuple[Socket, Any]:
    try:
        return sock, sock.getsockname()
    except BaseException:
        sock.close()
        raise


def as_address(request: Request) -> Request:
    """*request*, with an address where its name is one: resolvers take "127.1" and its kind for addresses, so do we."""
    packed = request.packed or literal(request.host)
    if packed == request.packed:
        return request
    return Request(request.command, address_text(packed), request.port, packed, request.user_id)


def _through(request: Request, candidates: Sequence[Resolved], route: Route, session: Session) -> Socket:
    """By upstream proxies. Addresses that were judged are what they are asked for, in turn, not the name they belong to."""
    chain = _chain(route.upstream)
    session.route = route.upstream_name or ",".join(map(str, chain))
    prepare = _preparing(route)
    failed: OSError | None = None
    for host in [candidate.sockaddr[0] for candidate in candidates] or [request.host]:
        try:
            sock = clients.connect((host, request.port), via=chain, source=route.source, prepare=prepare)
        except clients.ProxyError as error:
            failed = error
            if error.outcome is None:  # it is not about the target
                break
        else:
            session.address = host if candidates and request.named else ""
            return sock
    assert failed is not None, "there is one host at least"
    raise failed


@functools.cache  # there are as many as the rules have
def _chain(upstream: tuple[str, ...]) -> tuple[Proxy, ...]:
    return parse_chain(upstream)


def _check(verdict: Verdict) -> None:
    if not verdict.allow:
        raise UnreachedError(Outcome.DENIED, Ending.DENIED, verdict.why)


def _resolved(request: Request) -> Resolved:
    if len(request.packed) == 4:
        return Resolved(socket.AF_INET, (request.host, request.port))
    return Resolved(socket.AF_INET6, (request.host, request.port, 0, 0))


def _preparing(route: Route) -> Callable[[Socket], object] | None:
    """Sets what the route says on a new socket; nothing to be done is ``None``."""
    if route.interface is None and route.mark is None:
        return None
    return lambda sock: go_by(sock, route)


def unreached(error: OSError | ValueError) -> UnreachedError:
    """What an error of the network, or of a name, means."""
    text = getattr(error, "strerror", None) or str(error)
    if isinstance(error, clients.ProxyError):
        return UnreachedError(error.outcome or Outcome.FAILED, Ending.UPSTREAM, text)
    if isinstance(error, socket.gaierror):
        return UnreachedError(Outcome.HOST_UNREACHABLE, Ending.UNRESOLVED, text)
    if isinstance(error, (ValueError, ProtocolError)):
        return UnreachedError(Outcome.HOST_UNREACHABLE, Ending.UNRESOLVED, text)
    if isinstance(error, TimeoutError) and error.errno is None:
        return UnreachedError(Outcome.TIMED_OUT, Ending.CONNECT_TIMEOUT, text or "timed out")
    outcome = OUTCOME_OF_ERRNO.get(error.errno or 0, Outcome.FAILED)
    return UnreachedError(outcome, ENDING_OF_OUTCOME[outcome], text)
