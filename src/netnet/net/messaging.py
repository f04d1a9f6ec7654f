"""Messages of a socket: whole calls of sendmsg(2) and recvmsg(2), plain as in the standard class, and typed.

The typed ones (``send_message``, ``receive_message`` and what is made of them) take and give control messages as
objects, close-on-exec descriptors that are never lost, typed addresses and flags by name. See ``netnet.kernel.messages``.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from netnet.kernel.address import INET, SocketAddress, from_sockaddr
from netnet.kernel.control import RIGHTS_MAX, Control, Rights
from netnet.kernel.flags import MSG
from netnet.kernel.messages import CONTROL_BYTES, Message, checked_fds, prepared, receive, receive_into
from netnet.net.resolve import located
from netnet.net.waiting import DONTWAIT, NOSIGNAL, UNIX, WaitingSocket, family_of, plain, type_of
from netnet.poller.contract import READABLE, WRITABLE
from netnet.runtime.worker import worker_or_none

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

#: flags as a caller may tell them: a number, a name, or several names
WhichFlags = int | str | Iterable[str]

TRUNC = int(getattr(socket, "MSG_TRUNC", 0))
WAITALL = int(getattr(socket, "MSG_WAITALL", 0))

#: the others ignore ``MSG_ERRQUEUE``, and would receive instead
_WITH_ERROR_QUEUE = (*INET, int(getattr(socket, "AF_PACKET", -1)), int(getattr(socket, "AF_CAN", -1)))


class MessagingSocket(WaitingSocket):
    """The part of ``Socket`` that sends and receives messages and datagrams."""

    __slots__ = ()

    # -- as in the standard class

    def _recv_all(self, view: memoryview, flags: int) -> int:
        """``MSG_WAITALL``: the descriptor does not block, so the waiting for the rest is ours."""
        if not self._may_wait_for_all(flags):
            return self._cooperate(READABLE, plain.recv_into, view, len(view), flags, flags=flags)
        rest = flags & ~WAITALL
        done = 0
        until = self._until()
        while done < len(view):
            try:
                count = self._cooperate(READABLE, plain.recv_into, view[done:], 0, rest, flags=rest, until=until)
            except OSError:
                if not done:
                    raise
                break  # as the kernel does: what there is, and the error the next time
            except BaseException as error:
                error.bytes_received = done  # type: ignore[attr-defined]
                raise
            done += count
            if not count or rest & socket.MSG_PEEK:
                break
        return done

    def _insists(self, flags: int) -> bool:
        """Whether ``MSG_WAITALL`` is asked for, and means something: on TCP, in a call that may wait.

        (A UNIX stream stops at a boundary of control messages, and to go on might lose descriptors.)
        """
        return bool(flags & WAITALL) and family_of(self) in INET and self._may_wait_for_all(flags)

    def _may_wait_for_all(self, flags: int) -> bool:
        """Whether waiting until a buffer is full makes sense: on a stream, in a call that may wait."""
        return type_of(self) == socket.SOCK_STREAM and self._timeout != 0 and not flags & DONTWAIT

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """Receives a datagram (or bytes) and its sender's address. See recvfrom(2)."""
        if flags & TRUNC:
            buffer = bytearray(bufsize)
            count, address = self._cooperate(READABLE, plain.recvfrom_into, buffer, 0, flags, flags=flags)
            return whole(buffer, count), address
        if self._insists(flags):
            buffer = bytearray(bufsize)
            return bytes(memoryview(buffer)[: self._recv_all(memoryview(buffer), flags)]), None
        return self._cooperate(READABLE, plain.recvfrom, bufsize, flags, flags=flags)

    def recvfrom_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """As ``recvfrom``, into *buffer*; returns the number of bytes and the sender's address."""
        return self._cooperate(READABLE, plain.recvfrom_into, buffer, nbytes, flags, flags=flags)

    if hasattr(plain, "recvmsg"):

        def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> tuple[bytes, list[Any], int, Any]:
            """Receives bytes and control messages: ``(data, ancdata, msg_flags, address)``. See recvmsg(2)."""
            if flags & TRUNC or self._insists(flags):
                buffer = bytearray(bufsize)
                count, *rest = self.recvmsg_into([buffer], ancbufsize, flags)
                return whole(buffer, count), *rest
            return self._cooperate(READABLE, plain.recvmsg, bufsize, ancbufsize, flags, flags=flags)

        def recvmsg_into(self, buffers: Any, ancbufsize: int = 0, flags: int = 0, /) -> tuple[int, list[Any], int, Any]:
            """As ``recvmsg``, scattered into several buffers."""
            views = list(buffers)
            if not self._insists(flags):
                return self._cooperate(READABLE, plain.recvmsg_into, views, ancbufsize, flags, flags=flags)
            once = flags & ~WAITALL
            count, *rest = self._cooperate(READABLE, plain.recvmsg_into, views, ancbufsize, once, flags=once)
            if count and not rest[0]:  # what comes with control messages is a message of its own
                count += self._recv_rest(views, count, flags)
            return count, *rest

        def _recv_rest(self, buffers: list[Any], count: int, flags: int) -> int:
            """Fills the buffers behind the first *count* bytes; returns how many came."""
            came = 0
            for buffer in buffers:
                view = memoryview(buffer).cast("B")
                skipped = min(count, len(view))
                count -= skipped
                if skipped < len(view):
                    try:
                        got = self._recv_all(view[skipped:], flags)
                    except OSError:  # as the kernel does: what there is
                        break
                    came += got
                    if skipped + got < len(view):
                        break
            return came

    def sendto(self, data: ReadableBuffer, *args: Any) -> int:
        """``sendto(data, address)`` or ``sendto(data, flags, address)``: sends one datagram. See sendto(2)."""
        if len(args) not in (1, 2):
            return plain.sendto(self, data, *args)  # fails, and says how many there must be
        flags = args[0] | NOSIGNAL if len(args) == 2 else NOSIGNAL
        address = located(args[-1], family_of(self))
        return self._send_datagram(plain.sendto, data, flags, address, flags=flags, aimed=True)

    if hasattr(plain, "sendmsg"):

        def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None, /) -> int:
            """Sends several buffers and control messages as one; returns how many bytes. See sendmsg(2)."""
            buffers, ancdata = list(buffers), list(ancdata)
            flags |= NOSIGNAL
            rest = (flags,) if address is None else (flags, located(address, family_of(self)))
            return self._send_datagram(plain.sendmsg, buffers, ancdata, *rest, flags=flags, aimed=address is not None)

    def _send_datagram(self, call: Callable[..., int], *args: Any, flags: int, aimed: bool) -> int:
        """Sends; *aimed*: to an address in the arguments.

        A UNIX datagram that is aimed at a peer whose queue is full would block, while the sender's own descriptor stays
        writable: no event tells when there is room (unix(7) queues no waiting for unconnected senders).
        """
        if not aimed or family_of(self) != UNIX or self._timeout == 0 or flags & DONTWAIT:
            return self._cooperate(WRITABLE, call, *args, flags=flags)
        worker = worker_or_none()
        if worker is not None:
            worker.loop.checkpoint(worker)
        try:
            return self._insist(lambda: call(self, *args))
        except OSError as error:
            self._raise_if_closed(error)
            raise

    # -- typed

    def send_message(
        self,
        data: ReadableBuffer | Iterable[ReadableBuffer],
        control: Iterable[Control] = (),
        flags: WhichFlags = 0,
        address: Any = None,
    ) -> int:
        """Sends *data*, one buffer or several as one, with control messages, to *address* (if not connected).

        *flags* are numbers or names (``"more"``, ``("dontwait", "more")``). Returns how many bytes were taken: on a
        stream perhaps not all, but with them all control messages. Switches tasks when there is no room. Raises
        ``OSError``; ``TypeError`` and ``ValueError`` for control messages that cannot be sent. See sendmsg(2), cmsg(3).
        """
        buffers, raw = prepared(self, data, control)
        number = MSG.of(flags) | NOSIGNAL
        rest = (number,) if address is None else (number, located(address, family_of(self)))
        return self._send_datagram(plain.sendmsg, buffers, raw, *rest, flags=number, aimed=address is not None)

    def receive_message(
        self, size: int = 65536, *, control_size: int = CONTROL_BYTES, flags: WhichFlags = 0
    ) -> Message:
        """Receives at most *size* bytes and, with them, at most *control_size* bytes of control messages.

        The ``Message`` tells whether either was truncated. Descriptors that came are close-on-exec and belong to it.
        Switches tasks while there is nothing. Raises ``OSError``, ``ValueError`` for negative sizes. See recvmsg(2).
        """
        number = MSG.of(flags)
        message = self._cooperate(READABLE, receive, size, control_size, number, flags=number)
        if message.size < size and message.data and not message.control and self._insists(number):
            rest = bytearray(size - message.size)
            with contextlib.suppress(OSError):  # as the kernel does: what there is
                message.data += memoryview(rest)[: self._recv_all(memoryview(rest), number)]
            message.size = len(message.data)
        return message

    def receive_message_into(
        self, buffers: Iterable[WriteableBuffer], *, control_size: int = CONTROL_BYTES, flags: WhichFlags = 0
    ) -> Message:
        """As ``receive_message``, scattered into several buffers; the message's ``size`` tells how many bytes came."""
        number = MSG.of(flags)
        return self._cooperate(READABLE, receive_into, list(buffers), control_size, number, flags=number)

    def receive_error(self, size: int = 1024) -> Message | None:
        """Takes an entry off the error queue: ``message.error`` says what went wrong, ``message.data`` holds at most
        *size* bytes of what was sent then, ``message.address`` where to. ``None`` when the queue is empty.

        Never waits. Sockets that have no such queue (UNIX, netlink) have nothing in it.
        Entries come where ``recverr``, ``timestamping`` or ``zerocopy`` is set. See ip(7), ``IP_RECVERR``.
        """
        self._open()
        if family_of(self) not in _WITH_ERROR_QUEUE:
            return None
        try:
            return receive(self, size, CONTROL_BYTES, MSG("errqueue", "dontwait"))
        except BlockingIOError:
            return None
        except OSError as error:
            self._raise_if_closed(error)
            raise

    def send_fds(self, descriptors: Iterable[Any], data: ReadableBuffer = b"\0", flags: WhichFlags = 0) -> int:
        """Passes open descriptors (numbers, or what has a ``fileno``) to the peer of a UNIX socket, with *data*.

        They stay open here. Returns how many bytes of *data* were sent. Switches tasks when there is no room. Raises
        ``ValueError`` for more than 253 or none that is open; ``OSError``. See unix(7), ``SCM_RIGHTS``.
        """
        return self.send_message(data, [Rights(*descriptors)], flags)

    def recv_fds(self, max_fds: int = RIGHTS_MAX, size: int = 65536, flags: WhichFlags = 0) -> tuple[bytes, list[int]]:
        """Receives data and the descriptors that came with it, which are close-on-exec, and yours to close.

        Raises ``OSError`` (``EMSGSIZE``) where data or descriptors were truncated, or more came than *max_fds*: then all
        that came are closed. ``(b"", [])`` when the peer has finished. Switches tasks while there is nothing.
        """
        if max_fds < 0:
            raise ValueError(f"a number of descriptors cannot be negative: {max_fds}")
        with self.receive_message(size, flags=flags) as message:
            fds = checked_fds(message)
            if len(fds) > max_fds:
                for fd in fds:
                    socket.close(fd)
                raise OSError(errno.EMSGSIZE, f"{len(fds)} descriptors came, at most {max_fds} were wanted; all closed")
            return message.data, fds

    def _typed(self, ask: Callable[[], Any]) -> SocketAddress:
        self._open()
        return from_sockaddr(family_of(self), ask())

    @property
    def local_address(self) -> SocketAddress:
        """The socket's own address, typed. Raises ``OSError``. See getsockname(2)."""
        return self._typed(self.getsockname)

    @property
    def peer_address(self) -> SocketAddress:
        """The peer's address, typed. Raises ``OSError`` (``ENOTCONN``). See getpeername(2)."""
        return self._typed(self.getpeername)


def whole(buffer: bytearray, count: int) -> bytes:
    """The bytes of a receive with ``MSG_TRUNC``, which tells how long the datagram was: as long as that, with zeros for
    what there was no room for. (The standard class hands out whatever the memory held.)"""
    return bytes(memoryview(buffer)[:count]).ljust(count, b"\0")
