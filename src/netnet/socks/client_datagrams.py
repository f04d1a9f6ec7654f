"""Datagrams through a proxy: ``associate``, the client's side of UDP ASSOCIATE (RFC 1928 sections 4, 6 and 7).

The proxy is asked over TCP, and tells where it takes datagrams. To there they go directly, each with a header in front that
says where it shall go on to (``datagrams``). The association lasts as long as that TCP connection, which says nothing
more; so whoever waits for a datagram watches both.

The proxy is asked with an address of zeros: where the datagrams will come from is not known behind an address
translation, and a proxy that is told the wrong address drops them all. There are no fragments, in either direction: the
RFC leaves them out to those who want to, and next to nobody puts them together.
"""

from __future__ import annotations

import errno
import socket
from types import TracebackType
from typing import Final, Self

from netnet.errors import AddressError, ClosedError, ProtocolError
from netnet.kernel.address import InetAddress, IPv4Address, IPv6Address
from netnet.net.poll import Poll
from netnet.net.resolve import Resolved, resolve
from netnet.net.sockets import Socket
from netnet.socks.asking import ProxyError, proxy_error
from netnet.socks.chain import Call, Prepare, Target, destination, requests_to
from netnet.socks.datagrams import unwrap, wrap, wrap_name
from netnet.socks.requests import Command
from netnet.socks.upstream import Proxy, Via, parse_chain

#: the longest datagram that IP can carry
_DATAGRAM_BYTES_MAX: Final = 65535

#: so much is read, and dropped, of what a proxy should not say on the TCP connection
_CHATTER_BYTES: Final = 4096

_UNKNOWN: Final = IPv4Address("0.0.0.0", 0)


def associate(*, via: Via, source: str | None = None, prepare: Prepare | None = None) -> Association:
    """Has a SOCKS5 proxy relay datagrams, to and from any number of targets. ::

        with associate(via="socks5h://127.0.0.1:1080") as datagrams:
            datagrams.send_to(question, ("ns.example.com", 53))
            answer, (host, port) = datagrams.receive()

    *via* is one proxy, since datagrams go to it directly. *source* is the local IP address to send from; *prepare* is
    called with each new socket, of either kind, before it connects. Limit the time with ``netnet.timeout``. Switches
    tasks; outside a loop it blocks. Raises what ``connect`` raises: ``ProxyError`` (``EOPNOTSUPP`` where the proxy does
    not do it), ``AddressError``, ``Cancelled``.
    """
    chain = parse_chain(via)
    if len(chain) > 1:
        raise AddressError(f"datagrams go to their proxy directly: they go through one, not through {len(chain)}")
    call = Call("associate", _UNKNOWN, chain, source, prepare)
    talk = call.ask_last(Command.ASSOCIATE)
    try:
        address = call.told(talk)
        return Association(chain[0], talk.sock, _open_towards(address, source, prepare), address)
    except BaseException:
        talk.sock.close()
        raise


def _open_towards(address: InetAddress, source: str | None, prepare: Prepare | None) -> Socket:
    """A datagram socket whose one peer is *address*, so that no other's datagrams come in."""
    if isinstance(address, (IPv4Address, IPv6Address)):
        family, sockaddr = Resolved(address.family, address.sockaddr)
    else:
        family, sockaddr = resolve(address.host, address.port, type=socket.SOCK_DGRAM)[0]
    sock = Socket(family, socket.SOCK_DGRAM)
    try:
        if prepare is not None:
            prepare(sock)
        if source is not None:
            sock.bind((source, 0))
        sock.connect(sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


class Association:
    """Datagrams by way of a proxy, made by ``associate``. A context manager, which closes it.

    *address* is where the proxy takes them. Any number of tasks may send, and receive: each datagram goes to one.
    """

    __slots__ = ("_control", "_datagrams", "_ended", "_poll", "_proxy", "address")

    def __init__(self, proxy: Proxy, control: Socket, datagrams: Socket, address: InetAddress) -> None:
        self.address = address
        self._proxy = proxy
        self._control = control
        self._datagrams = datagrams
        self._ended = False
        self._poll = Poll([control, datagrams])

    def send_to(self, data: bytes, address: Target) -> None:
        """Sends one datagram to *address*, in the forms that ``connect`` takes.

        A name goes to the proxy or is looked up here, as the proxy's scheme says; looked up here, the first address
        counts. That it arrives nobody tells. Switches tasks when there is no room, and for a name that is looked up
        here. Raises ``ProxyError`` when the proxy has ended the association, ``OSError`` (``EMSGSIZE``: too long),
        ``ClosedError``, ``AddressError``, ``socket.gaierror``, ``Cancelled``.
        """
        message = self._header(destination(address)) + data
        self._look_at_control()
        if self._ended:
            raise self._end()
        try:
            self._datagrams.send(message)
        except ConnectionRefusedError:
            raise self._nobody() from None

    def _header(self, target: InetAddress) -> bytes:
        request = requests_to(self._proxy, Command.ASSOCIATE, target)[0]
        if request.packed:
            return wrap(request.packed, request.port)
        try:
            return wrap_name(request.host, request.port)
        except ProtocolError as error:
            raise AddressError(f"{target}: {error}") from None

    def receive(self) -> tuple[bytes, tuple[str, int]]:
        """Waits for a datagram; returns its data, and who sent it, as the proxy tells: a host and a port.

        Fragments, and what has no header, are dropped. Switches tasks; outside a loop it blocks. Raises ``ProxyError``
        when the proxy has ended the association and all that had come was received, ``ClosedError``, ``Cancelled``.
        """
        while True:
            try:
                data = self._datagrams.recv(_DATAGRAM_BYTES_MAX, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._wait()
                continue
            except ConnectionRefusedError:
                raise self._nobody() from None
            try:
                host, _, port, start = unwrap(data)
            except ProtocolError:
                continue
            return data[start:], (host, port)

    def _wait(self) -> None:
        """Until there may be a datagram. Raises when there will be none."""
        if self._ended:
            raise self._end()
        for source, _ in self._poll.select():
            if source is self._control:
                self._look_at_control()

    def _look_at_control(self) -> None:
        """Notes the end of the TCP connection; anything else that comes there means nothing."""
        try:
            self._ended = self._ended or not self._control.recv(_CHATTER_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        except ClosedError:
            raise
        except OSError:
            self._ended = True

    def _end(self) -> ProxyError:
        return proxy_error(errno.ECONNRESET, f"datagrams through {self._proxy}: the proxy has ended it", self._proxy)

    def _nobody(self) -> ProxyError:
        message = f"datagrams through {self._proxy}: nobody takes them at {self.address}"
        return proxy_error(errno.ECONNREFUSED, message, self._proxy)

    def fileno(self) -> int:
        """The number of the datagram socket, for waiting until a datagram can be received; -1 when closed."""
        return self._datagrams.fileno()

    def close(self) -> None:
        """Ends the association. Twice is fine; who waits in ``receive`` gets ``ClosedError``."""
        self._control.close()
        self._datagrams.close()
        self._poll.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


__all__ = ["Association", "associate"]
