"""The way through a chain of proxies: each is asked for the next one, and the last for the target. What ``client`` and
``client_datagrams`` stand on; what is said to one proxy is in ``asking``.

Here is decided what is tried again. A target whose name is looked up on this machine may have several addresses: where
the proxy says no to one, the next is asked for, over a new connection, since a proxy that has said no hangs up. Anything
else ends the call at once: a proxy that cannot be reached, or that does not keep to its protocol, will be no better with
the next address.
"""

from __future__ import annotations

import errno
import math
import socket
from collections.abc import Callable
from typing import Final, NamedTuple

from netnet.errors import AddressError, ProtocolError
from netnet.kernel.address import InetAddress, IPv4Address, IPv6Address, UnixAddress, parse_address
from netnet.net.dialing import ATTEMPT_SECONDS_MIN
from netnet.net.resolve import resolve
from netnet.net.sockets import Socket
from netnet.net.stream import connect
from netnet.runtime.api import now
from netnet.runtime.scope import current_deadline, timeout
from netnet.socks.asking import ERRNO_OF_OUTCOME, Answer, Conversation, ProxyError, converse, explained, proxy_error
from netnet.socks.requests import Command, Outcome, Request
from netnet.socks.socks5 import UnsupportedError
from netnet.socks.upstream import Proxy

Target = str | tuple[object, ...] | InetAddress
Prepare = Callable[[Socket], object]

#: hosts by which a proxy says "the address at which you reach me"
_UNSPECIFIED: Final = ("", "0.0.0.0", "::")

#: who is reached by a UNIX socket is on this machine
_LOOPBACK: Final = "127.0.0.1"


class Talk(NamedTuple):
    """A connection to a proxy that has granted what it was asked for."""

    sock: Socket
    conversation: Conversation
    answer: Answer


def destination(target: Target) -> InetAddress:
    """*target* as an address that a proxy can be asked for. Raises ``AddressError``."""
    parsed = parse_address(target)
    if isinstance(parsed, UnixAddress):
        raise AddressError(f"{target!r}: a proxy cannot be asked for a UNIX socket of this machine")
    if not parsed.host:
        raise AddressError(f"{target!r}: a proxy has to be told a host")
    if "%" in parsed.host:
        raise AddressError(f"{target!r}: a scope ('%...') means an interface of this machine, and nothing to a proxy")
    return parsed


def requests_to(proxy: Proxy, command: Command, target: InetAddress) -> list[Request]:
    """What to ask *proxy* for, one after the other: the name, or each of its addresses.

    Switches tasks for a name that is looked up here. Raises ``socket.gaierror``.
    """
    if isinstance(target, (IPv4Address, IPv6Address)):
        return [Request(command, target.host, target.port, target.packed)]
    if proxy.names:
        return [Request(command, target.host, target.port)]
    found = resolve(target.host, target.port, family=socket.AF_INET if proxy.version == 4 else 0)
    packed = {socket.inet_pton(family, sockaddr[0].partition("%")[0]): sockaddr[0] for family, sockaddr in found}
    return [Request(command, host, target.port, raw) for raw, host in packed.items()]


class Call:
    """One call of the user's: *goal* is to be asked for through *chain*. *what* that is, errors tell in front."""

    __slots__ = ("_prepare", "_source", "_what", "chain", "goal")

    def __init__(
        self, what: str, goal: InetAddress, chain: tuple[Proxy, ...], source: str | None, prepare: Prepare | None
    ) -> None:
        self.goal = goal
        self.chain = chain
        self._what = what
        self._source = source
        self._prepare = prepare

    def ask_last(self, command: Command) -> Talk:
        """Asks the last proxy for the goal, over a new connection through all others."""
        return self._ask(len(self.chain) - 1, command, self.goal)

    def _ask(self, place: int, command: Command, target: InetAddress) -> Talk:
        """Asks the proxy in *place*, counted from 0, for *target*. Switches tasks."""
        failures = []
        requests = self._requests(place, command, target)
        for turn, request in enumerate(requests):
            result = self._in_its_time(place, request, len(requests) - turn)
            if isinstance(result, Talk):
                return result
            failures.append((str(request), result))
        raise self.refusal(place, failures)

    def _requests(self, place: int, command: Command, target: InetAddress) -> list[Request]:
        try:
            return requests_to(self.chain[place], command, target)
        except socket.gaierror as error:
            message = f"{self._title()}: {target.host!r} is looked up here: {error.strerror}"
            raise socket.gaierror(error.errno, message) from None

    def _in_its_time(self, place: int, request: Request, waiting: int) -> Talk | Answer:
        """One attempt, with its share of the time limit while others wait (this one included: *waiting*)."""
        left = current_deadline() - now()
        share = max(left / waiting, ATTEMPT_SECONDS_MIN)
        if not math.inf > left > share:
            return self._attempt(place, request)
        limit = timeout(share)
        try:
            with limit:
                return self._attempt(place, request)
        except TimeoutError as error:
            if isinstance(error, ProxyError) or not limit.expired():
                raise
        return Answer(Outcome.TIMED_OUT, f"nothing within {share:.3g} s, its share of the time limit")

    def _attempt(self, place: int, request: Request) -> Talk | Answer:
        """Connects to the proxy in *place* and asks it; returns its answer where that is no."""
        try:
            conversation = converse(self.chain[place], request)
        except UnsupportedError as error:
            raise self._error(place, ERRNO_OF_OUTCOME[error.outcome], str(error), error.outcome) from None
        sock = self._reach(place)
        answer = self._hear(place, sock, conversation)
        if not answer.outcome:
            return Talk(sock, conversation, answer)
        sock.close()
        return answer

    def _reach(self, place: int) -> Socket:
        """A connection to the proxy in *place*, to which nothing has been said."""
        target = self.chain[place].address
        if place:
            assert isinstance(target, InetAddress)
            return self._ask(place - 1, Command.CONNECT, target).sock
        try:
            return connect(target, source=self._source, prepare=self._prepare)
        except OSError as error:
            number = errno.EHOSTUNREACH if isinstance(error, socket.gaierror) else error.errno or errno.ETIMEDOUT
            why = (error.strerror or str(error)).removeprefix(f"connect to {target}: ")
            raise self._error(place, number, f"the proxy cannot be reached: {why}") from error

    def hear_more(self, talk: Talk) -> Answer:
        """What the last proxy says after it has granted; the connection is closed if that is not an answer."""
        return self._hear(len(self.chain) - 1, talk.sock, talk.conversation)

    def _hear(self, place: int, sock: Socket, conversation: Conversation) -> Answer:
        try:
            return conversation.hold(sock)
        except (ProtocolError, OSError) as error:
            sock.close()
            raise self._error(place, *explained(error)) from error
        except BaseException:
            sock.close()
            raise

    # -- what a proxy tells of its ends

    def told(self, talk: Talk) -> InetAddress:
        """The address that a reply tells; where it leaves the host open, that of the proxy as it is reached from here."""
        host, port = talk.answer.host, talk.answer.port
        return InetAddress(self._own_host(talk.sock) if host in _UNSPECIFIED else host, port)

    def _own_host(self, sock: Socket) -> str:
        address = self.chain[-1].address
        if len(self.chain) > 1:
            assert isinstance(address, InetAddress)
            return address.host
        if isinstance(address, UnixAddress):
            return _LOOPBACK
        try:
            return str(sock.getpeername()[0])
        except OSError as error:  # reset meanwhile
            raise self._error(0, *explained(error)) from error

    # -- errors

    def refusal(self, place: int, failures: list[tuple[str, Answer]]) -> ProxyError:
        """The error, to be raised, for a proxy that said no: to each address that it was asked for."""
        last = place == len(self.chain) - 1
        asked = str(self.goal if last else self.chain[place + 1].address)
        words = "; ".join(said.words if text == asked else f"{text}: {said.words}" for text, said in failures)
        outcome = failures[0][1].outcome
        about = "" if last else f" of {asked}"
        error = self._error(place, ERRNO_OF_OUTCOME[outcome], f"the proxy says{about}: {words}", outcome)
        error.failures = [(text, said.outcome) for text, said in failures]
        return error

    def last_refusal(self, answer: Answer) -> ProxyError:
        """The error, to be raised, for the last proxy's saying no to the goal."""
        return self.refusal(len(self.chain) - 1, [(str(self.goal), answer)])

    def _title(self) -> str:
        return f"{self._what} through {' → '.join(map(str, self.chain))}"

    def _error(self, place: int, number: int, words: str, outcome: Outcome | None = None) -> ProxyError:
        proxy = self.chain[place]
        whose = f"{proxy}: " if len(self.chain) > 1 else ""
        of_goal = outcome if place == len(self.chain) - 1 else None
        return proxy_error(number, f"{self._title()}: {whose}{words}", proxy, of_goal)


__all__ = ["Call", "Talk", "destination", "requests_to"]
