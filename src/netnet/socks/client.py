"""Connections through proxies: ``connect``, ``bind``, and ``Dialer`` for what takes a function that connects.

What comes back is an ordinary ``Socket``: once the proxies have granted the connection they are not seen any more, and
nothing that the target sent was read. Proxies are named as ``upstream`` has it; what is said to one is in ``asking``;
datagrams are in ``client_datagrams``.

One rule tells who looks a name up, of targets and of the next proxy in a chain alike: the proxy that is asked to connect
there, where its scheme says so (``socks4a``, ``socks5h``, ``http``), else this machine. Of a name that is looked up here
each address is tried in turn, over a new connection through the chain, until one is granted. They are not raced as
``netnet.connect`` races them (RFC 8305): an address whose turn it is has the proxy's own patience, several connections at
once would count against its limits, and whether IPv6 works is decided there, once, and not by each connection.

A time limit around the call is for all of it; each address gets its share, as in ``dialing``.
"""

from __future__ import annotations

import contextlib
import socket
from types import TracebackType
from typing import Any, Final, Self

from netnet.errors import ClosedError
from netnet.kernel.address import INET, InetAddress, IPv4Address
from netnet.net.sockets import Socket
from netnet.runtime.scope import timeout as limited_to
from netnet.runtime.worker import worker_or_none
from netnet.socks.asking import ProxyError
from netnet.socks.chain import Call, Prepare, Talk, Target, destination
from netnet.socks.client_datagrams import Association, associate
from netnet.socks.requests import Command
from netnet.socks.upstream import Proxy, Via, parse_chain, parse_proxy

#: what the standard library's ``create_connection`` has where no time-out is told
_DEFAULT_TIMEOUT: Final[Any] = getattr(socket, "_GLOBAL_DEFAULT_TIMEOUT", object())

#: as the peer that is expected: anybody (the memo of SOCKS4: ``INADDR_ANY``)
_ANYBODY: Final = IPv4Address("0.0.0.0", 0)


def connect(target: Target, *, via: Via, source: str | None = None, prepare: Prepare | None = None) -> Socket:
    """Connects to *target* through the proxies *via*, and returns the socket, with ``TCP_NODELAY`` set. ::

        sock = connect("example.com:80", via="socks5h://127.0.0.1:1080")
        sock = connect("example.com:80", via=["socks5h://gate:1080", "http://user:password@inner:3128"])

    *target* is as for ``netnet.connect``, but has a host. *via* is one proxy or several, the nearest first: URLs
    (``parse_proxy``) or ``Proxy`` values. *source* is the local IP address to connect to the first one from; *prepare*
    is called with each new socket before it connects. Limit the time with ``netnet.timeout``.

    Switches tasks; outside a loop it blocks. Raises ``ProxyError``, an ``OSError`` whose class and ``errno`` tell what
    happened; ``socket.gaierror`` for an unknown target that is looked up here; ``AddressError``, ``Cancelled``. Then
    everything is closed.
    """
    goal = destination(target)
    call = Call(f"connect to {goal}", goal, parse_chain(via), source, prepare)
    return call.ask_last(Command.CONNECT).sock


def bind(
    expected: Target | None = None, *, via: Via, source: str | None = None, prepare: Prepare | None = None
) -> Binding:
    """Has a proxy listen for one connection from *expected* (``None``: from anybody), with SOCKS' BIND. ::

        with bind("ftp.example.com:20", via="socks5h://127.0.0.1:1080") as binding:
            tell_the_peer(binding.address)
            sock, address = binding.accept()

    Few proxies have it, and those that do differ in how they treat *expected*: many look at its IP address only. Of a
    name that is looked up here one address is expected: the first that the proxy grants. The other parameters, and what
    is raised, are those of ``connect``; HTTP has no BIND, which is a ``ProxyError`` (``EOPNOTSUPP``). Switches tasks;
    outside a loop it blocks. RFC 1928 section 4.
    """
    goal = _ANYBODY if expected is None else destination(expected)
    call = Call("bind" if expected is None else f"bind for {goal}", goal, parse_chain(via), source, prepare)
    return Binding(call, call.ask_last(Command.BIND))


class Binding:
    """A port of a proxy where one connection is awaited. Made by ``bind``; a context manager, which closes it.

    *address* is where the peer is to connect to.
    """

    __slots__ = ("_call", "_talk", "address")

    def __init__(self, call: Call, talk: Talk) -> None:
        self._call = call
        self._talk: Talk | None = talk
        try:
            self.address = call.told(talk)
        except BaseException:
            self.close()
            raise

    def accept(self) -> tuple[Socket, InetAddress]:
        """Waits for the connection; returns its socket, which was the one to the proxy, and the peer's address.

        It can be called once. When it fails, or its task is cancelled, the binding is closed. Limit the time with
        ``netnet.timeout``; proxies give up too, by the memo of SOCKS4 after two minutes. Switches tasks; outside a loop
        it blocks. Raises ``ProxyError``, ``ClosedError``, ``Cancelled``.
        """
        talk, self._talk = self._talk, None
        if talk is None:
            raise ClosedError("this binding is closed, or its connection was accepted already")
        answer = self._call.hear_more(talk)
        if answer.outcome:
            talk.sock.close()
            raise self._call.last_refusal(answer)
        return talk.sock, InetAddress(answer.host, answer.port)

    def close(self) -> None:
        """Gives the port up. Twice is fine, and after ``accept`` it does nothing."""
        if self._talk is not None:
            self._talk.sock.close()
            self._talk = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Dialer:
    """A function that connects through proxies, for what takes one: ``dialer("example.com:80")``.

    *via*, *source* and *prepare* are those of ``connect``; the URLs are read once. Of libraries that want a function in
    the shape of ``socket.create_connection`` it serves most, by its method of that name.
    """

    __slots__ = ("chain", "prepare", "source")

    def __init__(self, via: Via, *, source: str | None = None, prepare: Prepare | None = None) -> None:
        self.chain = parse_chain(via)
        self.source = source
        self.prepare = prepare

    def __repr__(self) -> str:
        return f"Dialer({' → '.join(map(str, self.chain))})"

    def __call__(self, address: Target, *, source: str | None = None) -> Socket:
        """As ``connect(address)``; *source* takes precedence over the dialer's. Switches tasks."""
        return connect(address, via=self.chain, source=source or self.source, prepare=self.prepare)

    def create_connection(
        self,
        address: tuple[str | None, int],
        timeout: float | None = _DEFAULT_TIMEOUT,
        source_address: tuple[str, int] | None = None,
        *,
        all_errors: bool = False,
    ) -> Socket:
        """As ``socket.create_connection``, through the proxies.

        *timeout* seconds are the time-out of each call of the new socket, as there; in a task they also limit the whole
        of connecting, which proxies make longer. *source_address* is what the connection to the first proxy is bound
        to. *all_errors* changes nothing: there is one error anyway, with ``failures``. Switches tasks; outside a loop it
        blocks. Raises what ``connect`` raises, ``TimeoutError``, and ``ValueError`` for a time-out of 0 or less.
        """
        del all_errors
        seconds = socket.getdefaulttimeout() if timeout is _DEFAULT_TIMEOUT else timeout
        if seconds is not None and not seconds > 0:
            raise ValueError(f"through a proxy, connecting waits: the time-out must be more than 0 s, not {seconds!r}")

        def prepare(sock: Socket) -> None:
            if self.prepare is not None:
                self.prepare(sock)
            sock.settimeout(seconds)
            if source_address is not None and sock.family in INET:
                sock.bind(source_address)

        source = self.source if source_address is None else None
        with contextlib.nullcontext() if worker_or_none() is None else limited_to(seconds):
            return connect(address, via=self.chain, source=source, prepare=prepare)


__all__ = [
    "Association",
    "Binding",
    "Dialer",
    "Proxy",
    "ProxyError",
    "associate",
    "bind",
    "connect",
    "parse_proxy",
]
