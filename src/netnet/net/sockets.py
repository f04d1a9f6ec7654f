"""The socket that looks blocking. It *is* a ``socket.socket``: what takes one takes ours, and nothing is patched.

The descriptor is always non-blocking. Each call that can wait is tried first; on would-block the calling task parks
until the descriptor is ready. In a loop that parks a green thread; outside one it blocks the OS thread, as the standard
class does. Time-outs (``settimeout``) mean what they mean in the standard library.

"Try, park on would-block, try again" exists once, in ``_cooperate``. ``recv``, ``recv_into``, ``send`` and ``sendall``
have it written out for the usual case (in a loop, no time-out, no flags, nobody else in the way) and go to
``_cooperate`` for all others; a test holds both to the same behaviour. What is ready and who waits: see
``netnet.runtime.descriptor``, with the short-read rule. A send that took only a part has filled the buffer in the same
sense: TCP sets its no-space mark then, and an event follows when space comes.

``recv(n)`` for large n does not ask the allocator for n bytes, which above 128 KiB is a memory mapping for each call:
it receives into one buffer of the thread and copies out what came.
"""

from __future__ import annotations

import operator
import os
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from netnet.kernel import queues
from netnet.kernel.options import SocketOptions, find_option
from netnet.net.connecting import ConnectingSocket
from netnet.net.messaging import TRUNC, WAITALL, MessagingSocket, whole
from netnet.net.transfer import TransferringSocket
from netnet.net.waiting import NOSIGNAL, family_of, plain, proto_of, type_of
from netnet.poller.contract import READABLE, WRITABLE
from netnet.runtime.worker import worker_or_none

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from netnet.kernel.multicast import Multicast

_recv = plain.recv
_recv_into = plain.recv_into
_send = plain.send

#: so much a chunk of ``for chunk in sock`` has at most, and one ``recv`` takes from the allocator
CHUNK_BYTES = 65536
_ALLOCATE_MAX = 128 * 1024 - 64

#: where large receives land first; one a thread, since no task switch comes between receiving and copying out
_landing = threading.local()


def landing_buffer() -> bytearray:
    """The thread's receive buffer, 256 KiB. Its contents are good until the next call that may use it."""
    try:
        return _landing.buffer  # type: ignore[no-any-return]
    except AttributeError:
        _landing.buffer = bytearray(262144)
        return _landing.buffer  # type: ignore[no-any-return]


class Socket(ConnectingSocket, MessagingSocket, TransferringSocket, SocketOptions):  # type: ignore[misc]  # ``type``: the standard one
    """A cooperative ``socket.socket``. Same calls, same errors, same time-outs.

    Two tasks may use one stream at once if one reads and the other writes; a second reader or writer gets
    ``BusyError``. On listeners and datagram sockets any number may wait, first come first served. ``close`` wakes all
    who wait, with ``ClosedError``. Every call that can wait raises ``Cancelled`` when its task is cancelled.
    Beyond the standard class it has every socket option as a property (``sock.nodelay = True``).
    """

    __slots__ = ()

    # -- receiving

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receives at most *bufsize* bytes; ``b""`` when the peer has finished. See recv(2)."""
        descriptor = self._descriptor
        home: Any = descriptor.home
        if flags or not 0 < bufsize <= _ALLOCATE_MAX:
            return self._recv_any(bufsize, flags)
        if descriptor.readable:
            credit = home.credit
            if not credit:
                return self._recv_any(bufsize, flags)
            home.credit = credit - 1
            try:
                data = _recv(self, bufsize)
            except BlockingIOError:
                descriptor.readable = False
            else:
                if len(data) < bufsize and descriptor.short_is_dry:
                    descriptor.readable = False
                return data
        current: Any = getcurrent()
        try:
            usual = current.home is home
        except AttributeError:  # not a task
            usual = False
        if not usual or descriptor.reader is not None or type(bufsize) is not int:
            return self._recv_any(bufsize, flags)
        descriptor.reader = current
        current.waiting = descriptor
        home.hand_over(current)
        try:
            data = _recv(self, bufsize)
        except BlockingIOError:  # woken in vain
            return self._recv_any(bufsize, flags)
        if len(data) < bufsize and descriptor.short_is_dry:
            descriptor.readable = False
        return data

    def _recv_any(self, bufsize: int, flags: int) -> bytes:
        bufsize = operator.index(bufsize)
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        if flags & (WAITALL | TRUNC):
            buffer = bytearray(bufsize)
            if flags & TRUNC:
                return whole(buffer, self._cooperate(READABLE, _recv_into, buffer, 0, flags, flags=flags))
            return bytes(memoryview(buffer)[: self._recv_all(memoryview(buffer), flags)])
        if bufsize == 0:
            self._expect_nothing()
        if bufsize <= _ALLOCATE_MAX:
            data = self._cooperate(READABLE, _recv, bufsize, flags, flags=flags)
            self._note_read(len(data), bufsize, flags)
            return data
        buffer = landing_buffer()
        size = min(bufsize, len(buffer))
        count = self._cooperate(READABLE, _recv_into, buffer, size, flags, flags=flags)
        data = bytes(memoryview(buffer)[:count])
        self._note_read(count, size, flags)
        return data

    def _expect_nothing(self) -> None:
        """To ask a stream for no bytes at all is no reason to wait."""
        descriptor = self._descriptor
        if not descriptor.shared and descriptor.reader is None:
            descriptor.readable = True

    def _note_read(self, count: int, asked: int, flags: int) -> None:
        """The short-read rule, for the calls that are not written out."""
        descriptor = self._descriptor
        if count < asked and descriptor.short_is_dry and not flags and self._timeout != 0:
            descriptor.readable = False

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """Receives into *buffer*, at most *nbytes* (0: its size); returns how many bytes. See recv(2)."""
        descriptor = self._descriptor
        home: Any = descriptor.home
        if flags:
            return self._recv_into_any(buffer, nbytes, flags)
        asked = _asked(buffer, nbytes)
        if descriptor.readable:
            credit = home.credit
            if not credit:
                return self._recv_into_any(buffer, nbytes, flags)
            home.credit = credit - 1
            try:
                count = _recv_into(self, buffer, nbytes)
            except BlockingIOError:
                descriptor.readable = False
            else:
                if descriptor.short_is_dry and count < asked:
                    descriptor.readable = False
                return count
        current: Any = getcurrent()
        try:
            usual = current.home is home
        except AttributeError:  # not a task
            usual = False
        if not usual or descriptor.reader is not None or not asked:
            return self._recv_into_any(buffer, nbytes, flags)
        descriptor.reader = current
        current.waiting = descriptor
        home.hand_over(current)
        try:
            count = _recv_into(self, buffer, nbytes)
        except BlockingIOError:  # woken in vain
            return self._recv_into_any(buffer, nbytes, flags)
        if descriptor.short_is_dry and count < asked:
            descriptor.readable = False
        return count

    def _recv_into_any(self, buffer: WriteableBuffer, nbytes: int, flags: int) -> int:
        if flags & WAITALL:
            view = memoryview(buffer).cast("B")
            return self._recv_all(view[:nbytes] if nbytes else view, flags)
        asked = _asked(buffer, nbytes)
        if not asked:
            self._expect_nothing()
        count = self._cooperate(READABLE, _recv_into, buffer, nbytes, flags, flags=flags)
        self._note_read(count, asked, flags)
        return count

    def __iter__(self) -> Iterator[bytes]:
        """The chunks that come in, as they come, at most 64 KiB each, until the peer has finished.

        Of a datagram socket, the datagrams, for ever: an empty one is no end.
        """
        endless = type_of(self) == socket.SOCK_DGRAM
        while (chunk := self.recv(CHUNK_BYTES)) or endless:
            yield chunk

    # -- sending

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        """Sends what there is room for now, waiting if there is none; returns how many bytes. See send(2)."""
        descriptor = self._descriptor
        home = descriptor.home
        credit = home.credit
        if not credit or flags or not descriptor.writable:
            return self._cooperate(WRITABLE, _send, data, flags | NOSIGNAL, flags=flags)
        home.credit = credit - 1
        try:
            return _send(self, data, NOSIGNAL)
        except BlockingIOError:
            descriptor.writable = False
            return self._cooperate(WRITABLE, _send, data, NOSIGNAL)

    def sendall(self, data: ReadableBuffer, flags: int = 0, /) -> None:
        """Sends all of *data*, waiting as often as needed.

        An error half way has the attribute ``bytes_sent``: how many bytes the kernel took before. See send(2).
        """
        descriptor = self._descriptor
        home = descriptor.home
        credit = home.credit
        if not credit or flags or not descriptor.writable or type(data) is not bytes:
            with memoryview(data) as view, view.cast("B") as octets:
                self._send_rest(octets, 0, flags)
            return
        home.credit = credit - 1
        try:
            sent = _send(self, data, NOSIGNAL)
        except BlockingIOError:
            sent = 0
            descriptor.writable = False
        if sent != len(data):
            self._send_rest(memoryview(data), sent, 0)

    def _send_rest(self, view: memoryview, sent: int, flags: int) -> None:
        """Sends ``view[sent:]``. The time-out is for all of it, as in the standard class."""
        until = self._until()
        descriptor = self._descriptor
        worker = worker_or_none()
        try:
            while True:
                if sent and descriptor.short_is_dry:
                    descriptor.writable = False
                sent += self._cooperate(WRITABLE, _send, view[sent:], flags | NOSIGNAL, flags=flags, until=until)
                if sent >= len(view):
                    return
                if worker is not None and descriptor.sender is None and not descriptor.shared:
                    descriptor.set_sender(worker)
        except BaseException as error:
            error.bytes_sent = sent  # type: ignore[attr-defined]
            raise
        finally:
            if worker is not None and descriptor.sender is worker:
                descriptor.set_sender(None)

    # -- connecting

    def accept(self) -> tuple[Socket, Any]:
        """Waits for a connection; returns its socket and the peer's address. See accept(2)."""
        self._descriptor.set_shared()  # it is a listener, then
        fd, address = self._cooperate(READABLE, _accept)
        try:
            return Socket(family_of(self), type_of(self), proto_of(self), fd), address
        except BaseException:
            os.close(fd)
            raise

    # -- options and state

    def get_option(self, name: str) -> Any:
        """The value of an option by its name, ``"nodelay"`` or ``"TCP_NODELAY"``; as the property.

        Never waits. Raises ``OptionError`` for an unknown one or one that can only be set, ``OSError``.
        """
        return find_option(name).get(self)

    def set_option(self, name: str, value: Any) -> None:
        """Sets an option by its name, as the property. Raises ``OptionError``, ``TypeError``, ``ValueError``, ``OSError``."""
        find_option(name).set(self, value)

    @property
    def multicast(self) -> Multicast:
        """Groups, interface, hops and loop of multicast, for IPv4 and IPv6 alike."""
        from netnet.kernel.multicast import Multicast  # here, since few programs ask, and it brings much along

        return Multicast(self)

    @property
    def pending_bytes(self) -> int:
        """How many bytes can be received now; of a datagram socket: those of the next datagram. ``FIONREAD``, tcp(7)."""
        return queues.pending_bytes(self._open())

    @property
    def unsent_bytes(self) -> int:
        """How many bytes were sent, but not acknowledged by the peer yet. ``SIOCOUTQ``, tcp(7)."""
        return queues.unsent_bytes(self._open())

    @property
    def unwritten_bytes(self) -> int:
        """Of those, how many have not left this machine yet. ``SIOCOUTQNSD``, TCP on Linux."""
        return queues.unwritten_bytes(self._open())

    @property
    def at_mark(self) -> bool:
        """Whether what is received next comes after the urgent mark. See sockatmark(3)."""
        return queues.at_mark(self._open())

    @property
    def cloexec(self) -> bool:
        """Whether the descriptor is closed when another program is executed, as it is unless it is told otherwise."""
        return not os.get_inheritable(self._open())

    @cloexec.setter
    def cloexec(self, on: bool) -> None:
        os.set_inheritable(self._open(), not on)


def _accept(sock: Socket) -> tuple[int, Any]:
    return sock._accept()  # type: ignore[attr-defined,no-any-return]


def _asked(buffer: WriteableBuffer, nbytes: int) -> int:
    """How many bytes to receive into *buffer*. What the C class would refuse is refused here, before any waiting."""
    if type(buffer) is bytearray:
        size = len(buffer)
    else:
        with memoryview(buffer) as view:
            if view.readonly:
                raise TypeError(f"recv_into() needs a buffer that can be written to, not {type(buffer).__name__}")
            size = view.nbytes
    if not 0 <= nbytes <= size:
        raise ValueError("negative buffersize in recv_into" if nbytes < 0 else "buffer too small for requested bytes")
    return nbytes or size


def socketpair(family: int | None = None, type: int = socket.SOCK_STREAM, proto: int = 0) -> tuple[Socket, Socket]:
    """Two connected sockets. The family is ``AF_UNIX`` where there is one, else TCP over loopback. See socketpair(2)."""
    one, other = socket.socketpair(*(() if family is None else (family, type, proto)))
    return Socket(one.family, one.type, one.proto, one.detach()), Socket(
        other.family, other.type, other.proto, other.detach()
    )
