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

import _socket
import errno
import math
import operator
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self, TypeVar

from greenlet import getcurrent

from netnet.errors import BusyError, ClosedError
from netnet.net.resolve import numeric, resolve
from netnet.poller.contract import READABLE, WRITABLE
from netnet.poller.single import wait_one
from netnet.runtime.api import sleep
from netnet.runtime.clock import checked_seconds
from netnet.runtime.descriptor import Descriptor
from netnet.runtime.foreign import refuse_to_block
from netnet.runtime.loop import Call
from netnet.runtime.worker import worker_or_none

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

T = TypeVar("T")

_plain = socket.socket
_recv = _plain.recv
_recv_into = _plain.recv_into
_send = _plain.send
_set_plain_timeout = _plain.settimeout

#: so much a chunk of ``for chunk in sock`` has at most, and one ``recv`` takes from the allocator
CHUNK_BYTES = 65536
_ALLOCATE_MAX = 128 * 1024 - 64

_NONBLOCK = getattr(socket, "SOCK_NONBLOCK", 0)
_DONTWAIT = getattr(socket, "MSG_DONTWAIT", 0)
_WAITALL = getattr(socket, "MSG_WAITALL", 0)
#: urgent data and the error queue: readiness is not about them, and the kernel never waits for them
_AT_ONCE = getattr(socket, "MSG_OOB", 0) | getattr(socket, "MSG_ERRQUEUE", 0)
_INET = (int(socket.AF_INET), int(socket.AF_INET6))
_UNIX = int(getattr(socket, "AF_UNIX", -1))
_STREAM = int(socket.SOCK_STREAM)
_TCP = (0, int(socket.IPPROTO_TCP))

# the C class's own attributes: the Python class wraps them into enumerations, which costs a microsecond each
_family_of = _socket.socket.family.__get__
_type_of = _socket.socket.type.__get__
_proto_of = _socket.socket.proto.__get__

_IN_PROGRESS = (errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK)

#: where large receives land first; one a thread, since no task switch comes between receiving and copying out
_landing = threading.local()


def landing_buffer() -> bytearray:
    """The thread's receive buffer, 256 KiB. Its contents are good until the next call that may use it."""
    try:
        return _landing.buffer  # type: ignore[no-any-return]
    except AttributeError:
        _landing.buffer = bytearray(262144)
        return _landing.buffer  # type: ignore[no-any-return]


class Socket(socket.socket):
    """A cooperative ``socket.socket``. Same calls, same errors, same time-outs.

    Two tasks may use one stream at once if one reads and the other writes; a second reader or writer gets
    ``BusyError``. On listeners and datagram sockets any number may wait, first come first served. ``close`` wakes all
    who wait, with ``ClosedError``. Every call that can wait raises ``Cancelled`` when its task is cancelled.
    """

    __slots__ = ("_descriptor", "_timeout")

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        if fileno is None:
            super().__init__(family, (socket.SOCK_STREAM if type == -1 else type) | _NONBLOCK, proto)
        else:
            super().__init__(family, type, proto, fileno)
        default = socket.getdefaulttimeout()
        if fileno is not None or default is not None or not _NONBLOCK:
            _set_plain_timeout(self, 0.0)
        stream = _type_of(self) == _STREAM
        tcp = stream and _family_of(self) in _INET and _proto_of(self) in _TCP
        self._descriptor = Descriptor(self.fileno(), stream=stream, tcp=tcp)
        self._timeout: float | None = None
        if default is not None:
            self.settimeout(default)

    # -- time-outs

    def settimeout(self, value: float | None, /) -> None:
        """Limits each call that waits to *value* seconds; 0: calls never wait (``BlockingIOError``); ``None``: no limit.

        Raises ``ValueError`` for a negative number or NaN. See ``socket.socket.settimeout``.
        """
        if value is not None:
            value = checked_seconds(value)
            if value < 0:
                raise ValueError("Timeout value out of range")
            if value == math.inf:
                raise OverflowError("a time-out cannot be infinite; None is no limit")
        self._timeout = value
        self._descriptor.set_timed(value is not None)

    def gettimeout(self) -> float | None:
        """The limit in seconds that ``settimeout`` set."""
        return self._timeout

    def setblocking(self, flag: bool, /) -> None:
        """``settimeout(None)`` if *flag* is true, else ``settimeout(0)``."""
        self.settimeout(None if flag else 0.0)

    def getblocking(self) -> bool:
        """Whether calls may wait: the time-out is not 0."""
        return self._timeout != 0

    @property
    def timeout(self) -> float | None:
        """The limit in seconds that ``settimeout`` set."""
        return self._timeout

    # -- the one wait loop

    def _until(self) -> float | None:
        """The instant at which a call that begins now has used up its time."""
        return None if self._timeout is None else _now() + self._timeout

    def _cooperate(
        self, side: int, call: Callable[..., T], *args: Any, flags: int = 0, until: float | None = None
    ) -> T:
        """``call(self, *args)``, tried again each time the descriptor becomes ready on *side*, until it does not block.

        *flags* are looked at for ``MSG_DONTWAIT``. *until* is the instant when the time is up, where that was decided
        before this call.
        """
        descriptor = self._descriptor
        timeout = self._timeout
        worker = worker_or_none()
        if timeout == 0 or flags & _DONTWAIT or (side == READABLE and flags & _AT_ONCE):
            if worker is not None:
                worker.loop.checkpoint(worker)
            try:
                return call(self, *args)
            except OSError as error:
                self._raise_if_closed(error)
                raise
        if until is None:
            until = self._until()
        if worker is None:
            return self._block(side, until, call, args)
        worker.loop.checkpoint(worker)
        if side == WRITABLE:
            descriptor.check_sender(worker)
        waited = False
        try:
            if not (descriptor.readable if side == READABLE else descriptor.writable):
                descriptor.wait(worker, side, until)
                waited = True
            while True:
                try:
                    result = call(self, *args)
                except BlockingIOError:
                    descriptor.wait(worker, side, until, again=waited)
                    waited = True
                else:
                    if side == READABLE:
                        descriptor.readable = descriptor.reader is None
                    else:
                        descriptor.writable = descriptor.writer is None
                    return result
        except OSError as error:
            self._raise_if_closed(error)
            raise
        finally:
            if descriptor.shared:
                descriptor.pass_on(side)

    def _raise_if_closed(self, error: OSError) -> None:
        """Raises ``ClosedError`` where *error* is the bad descriptor of a closed socket."""
        if error.errno == errno.EBADF and self.fileno() < 0 and not isinstance(error, ClosedError):
            raise ClosedError from error

    def _block(self, side: int, until: float | None, call: Callable[..., T], args: tuple[Any, ...]) -> T:
        """The same, outside a loop: the OS thread waits."""
        while True:
            try:
                return call(self, *args)
            except BlockingIOError:
                refuse_to_block()
                left = None if until is None else until - _now()
                if left is not None and left <= 0:
                    raise TimeoutError("timed out") from None
                wait_one(self.fileno(), side, left)

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
        if flags & _WAITALL:
            buffer = bytearray(bufsize)
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

    def _recv_all(self, view: memoryview, flags: int) -> int:
        """``MSG_WAITALL``: the descriptor does not block, so the waiting for the rest is ours."""
        if self.type != socket.SOCK_STREAM or self._timeout == 0 or flags & _DONTWAIT:
            return self._cooperate(READABLE, _recv_into, view, len(view), flags, flags=flags)
        rest = flags & ~_WAITALL
        done = 0
        until = self._until()
        while done < len(view):
            try:
                count = self._cooperate(READABLE, _recv_into, view[done:], 0, rest, flags=rest, until=until)
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
        if flags & _WAITALL:
            view = memoryview(buffer).cast("B")
            return self._recv_all(view[:nbytes] if nbytes else view, flags)
        asked = _asked(buffer, nbytes)
        if not asked:
            self._expect_nothing()
        count = self._cooperate(READABLE, _recv_into, buffer, nbytes, flags, flags=flags)
        self._note_read(count, asked, flags)
        return count

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """Receives a datagram (or bytes) and its sender's address. See recvfrom(2)."""
        return self._cooperate(READABLE, _plain.recvfrom, bufsize, flags, flags=flags)

    def recvfrom_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """As ``recvfrom``, into *buffer*; returns the number of bytes and the sender's address."""
        return self._cooperate(READABLE, _plain.recvfrom_into, buffer, nbytes, flags, flags=flags)

    if hasattr(_plain, "recvmsg"):

        def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> tuple[bytes, list[Any], int, Any]:
            """Receives bytes and control messages: ``(data, ancdata, msg_flags, address)``. See recvmsg(2)."""
            return self._cooperate(READABLE, _plain.recvmsg, bufsize, ancbufsize, flags, flags=flags)

        def recvmsg_into(self, buffers: Any, ancbufsize: int = 0, flags: int = 0, /) -> tuple[int, list[Any], int, Any]:
            """As ``recvmsg``, scattered into several buffers."""
            return self._cooperate(READABLE, _plain.recvmsg_into, list(buffers), ancbufsize, flags, flags=flags)

    def __iter__(self) -> Iterator[bytes]:
        """The chunks that come in, as they come, at most 64 KiB each, until the peer has finished."""
        while chunk := self.recv(CHUNK_BYTES):
            yield chunk

    # -- sending

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        """Sends what there is room for now, waiting if there is none; returns how many bytes. See send(2)."""
        descriptor = self._descriptor
        home = descriptor.home
        credit = home.credit
        if not credit or flags or not descriptor.writable:
            return self._cooperate(WRITABLE, _send, data, flags, flags=flags)
        home.credit = credit - 1
        try:
            return _send(self, data)
        except BlockingIOError:
            descriptor.writable = False
            return self._cooperate(WRITABLE, _send, data)

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
            sent = _send(self, data)
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
                sent += self._cooperate(WRITABLE, _send, view[sent:], flags, flags=flags, until=until)
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

    def sendto(self, data: ReadableBuffer, *args: Any) -> int:
        """``sendto(data, address)`` or ``sendto(data, flags, address)``: sends one datagram. See sendto(2)."""
        return self._send_datagram(_plain.sendto, data, *args, flags=args[0] if len(args) == 2 else 0, aimed=True)

    if hasattr(_plain, "sendmsg"):

        def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None, /) -> int:
            """Sends several buffers and control messages as one; returns how many bytes. See sendmsg(2)."""
            buffers, ancdata = list(buffers), list(ancdata)
            rest = (flags,) if address is None else (flags, address)
            return self._send_datagram(_plain.sendmsg, buffers, ancdata, *rest, flags=flags, aimed=address is not None)

    def _send_datagram(self, call: Callable[..., int], *args: Any, flags: int, aimed: bool) -> int:
        """Sends; *aimed*: to an address in the arguments.

        A UNIX datagram that is aimed at a peer whose queue is full would block, while the sender's own descriptor stays
        writable: no event tells when there is room (unix(7) queues no waiting for unconnected senders).
        """
        if not aimed or _family_of(self) != _UNIX or self._timeout == 0 or flags & _DONTWAIT:
            return self._cooperate(WRITABLE, call, *args, flags=flags)
        worker = worker_or_none()
        if worker is not None:
            worker.loop.checkpoint(worker)
        try:
            return self._insist(lambda: call(self, *args))
        except OSError as error:
            self._raise_if_closed(error)
            raise

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Sends a file from *offset* on: *count* bytes, or all until its end. Returns how many bytes were sent.

        By sendfile(2) where *file* is a regular file, else by reading and sending. The file's position is set behind
        the last byte sent, also after an error. Raises ``ValueError`` on a non-blocking or non-stream socket.
        """
        self._check_sendfile_params(file, offset, count)  # type: ignore[attr-defined]
        if self.fileno() < 0:
            raise ClosedError
        if self._timeout == 0:
            raise ValueError("non-blocking sockets are not supported")
        try:
            source = file.fileno()
            regular = hasattr(os, "sendfile") and os.path.isfile(source) and os.fstat(source).st_size > 0
        except (AttributeError, OSError):
            regular = False
        if not regular:
            return self._sendfile_use_send(file, offset, count)  # type: ignore[attr-defined,no-any-return]
        sent = 0
        try:
            while count is None or sent < count:
                size = min(2**30, sys.maxsize if count is None else count - sent)
                moved = self._cooperate(WRITABLE, _sendfile, source, offset + sent, size)
                if not moved:
                    break
                sent += moved
            return sent
        finally:
            if sent:
                file.seek(offset + sent)

    # -- connecting

    def accept(self) -> tuple[Socket, Any]:
        """Waits for a connection; returns its socket and the peer's address. See accept(2)."""
        self._descriptor.set_shared()  # it is a listener, then
        fd, address = self._cooperate(READABLE, _accept)
        try:
            return Socket(_family_of(self), _type_of(self), _proto_of(self), fd), address
        except BaseException:
            os.close(fd)
            raise

    def connect(self, address: Any, /) -> None:
        """Connects to *address*, in the form of the socket's family, and waits until it stands. See connect(2)."""
        try:
            code = self.connect_ex(address)
        except (TypeError, OverflowError):
            _plain.connect(self, address)  # fails in the same way, and calls it by the right name
            raise
        if code:
            if code == errno.EWOULDBLOCK and self._timeout:
                raise TimeoutError("timed out")
            if self.fileno() < 0:
                raise ClosedError
            raise OSError(code, os.strerror(code))

    def connect_ex(self, address: Any, /) -> int:
        """As ``connect``, but returns the error number, 0 for success. ``EWOULDBLOCK`` when the time was up."""
        worker = worker_or_none()
        if worker is not None:
            worker.loop.checkpoint(worker)
        if _family_of(self) in _INET:
            address = _resolved(address, _family_of(self))
        code = _plain.connect_ex(self, address)
        if code == errno.EINTR:
            code = errno.EINPROGRESS
        if code not in _IN_PROGRESS or self._timeout == 0:
            if code == 0:
                self._descriptor.readable = self._descriptor.writable = True
            return code
        if code == errno.EAGAIN and _family_of(self) == _UNIX:
            # the listener's backlog is full and the kernel offers no way to wait for it: nothing was begun
            return self._connect_unix(address)
        # not before it stands can it be either, and from then on the poller tells
        self._descriptor.readable = self._descriptor.writable = False
        try:
            return self._cooperate(WRITABLE, _connected, address)
        except TimeoutError:
            return errno.EWOULDBLOCK

    def _connect_unix(self, address: Any) -> int:
        """Connects to a listener whose backlog is full."""

        def attempt() -> int:
            code = _plain.connect_ex(self, address)
            if code == errno.EAGAIN:
                raise BlockingIOError
            return code

        try:
            return self._insist(attempt)
        except TimeoutError:
            return errno.EAGAIN

    def _insist(self, attempt: Callable[[], T]) -> T:
        """Tries again, at growing intervals, what would block and of which the kernel tells no end."""
        until = self._until()
        pause = 0.001
        while True:
            try:
                return attempt()
            except BlockingIOError:
                left = math.inf if until is None else until - _now()
                if left <= 0:
                    raise TimeoutError("timed out") from None
            if worker_or_none() is not None:
                sleep(min(pause, left))
            else:
                refuse_to_block()
                time.sleep(min(pause, left))
            pause = min(0.05, pause * 2)

    # -- the end

    def dup(self) -> Self:
        """Another socket for the same connection, with a descriptor of its own, not inherited by child programs."""
        copy = super().dup()
        copy.settimeout(self._timeout)
        return copy

    def detach(self) -> int:
        """Gives up the descriptor and returns it; the socket counts as closed. It blocks again, if the socket did.

        Raises ``BusyError`` while a task waits for the socket.
        """
        descriptor = self._descriptor
        if descriptor.reader is not None or descriptor.writer is not None:
            raise BusyError("a task waits for this socket; it cannot be detached")
        descriptor.detach()
        fd = super().detach()
        descriptor.fd = -1
        worker = worker_or_none()
        if fd >= 0 and (worker is None or fd not in worker.loop.descriptors):  # else another socket object has it, too
            os.set_blocking(fd, self._timeout is None)
        return fd

    def _real_close(self, _ss: Any = socket.socket) -> None:
        descriptor = self._descriptor
        if descriptor.in_other_thread():
            _close_from_outside(descriptor, _plain.detach(self))
        else:
            descriptor.close()
            super()._real_close()  # type: ignore[misc]

    def __del__(self) -> None:
        """Dropped without ``close``: the loop forgets the descriptor before the base class closes it, with a warning."""
        descriptor = getattr(self, "_descriptor", None)
        if descriptor is not None:
            descriptor.detach()
        super().__del__()  # type: ignore[misc]


def _resolved(address: Any, family: int) -> Any:
    """*address* with an IP address in place of a name, which the C class would look up without letting others run."""
    if isinstance(address, tuple) and len(address) >= 2 and isinstance(address[0], str) and address[0]:
        host, port = address[:2]
        if isinstance(port, int) and numeric(host, port) is None and "%" not in host:
            return (resolve(host, port, family=family)[0].sockaddr[0], *address[1:])
    return address


def _close_from_outside(descriptor: Descriptor, fd: int) -> None:
    """Closes a descriptor that a loop in another thread may be waiting for: that loop has to do it."""

    def close_in_loop() -> None:
        descriptor.close()
        os.close(fd)

    loop = descriptor.loop
    if loop is None or not loop.call_from_thread(Call(close_in_loop)):
        os.close(fd)


def _accept(sock: Socket) -> tuple[int, Any]:
    return sock._accept()  # type: ignore[attr-defined,no-any-return]


def _sendfile(sock: Socket, source: int, offset: int, count: int) -> int:
    return os.sendfile(sock.fileno(), source, offset, count)


def _connected(sock: Socket, address: Any) -> int:
    """How a connection attempt ended: 0, or the error number. Would-block while it is under way.

    Asked by connecting again, which tells more than ``SO_ERROR``, and leaves the kernel's state as a blocking connect.
    """
    code = _plain.connect_ex(sock, address)
    if code in _IN_PROGRESS:
        raise BlockingIOError
    return 0 if code == errno.EISCONN else code


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


def _now() -> float:
    worker = worker_or_none()
    return time.monotonic() if worker is None else worker.loop.clock.now()


def socketpair(family: int | None = None, type: int = socket.SOCK_STREAM, proto: int = 0) -> tuple[Socket, Socket]:
    """Two connected sockets. The family is ``AF_UNIX`` where there is one, else TCP over loopback. See socketpair(2)."""
    one, other = socket.socketpair(*(() if family is None else (family, type, proto)))
    return Socket(one.family, one.type, one.proto, one.detach()), Socket(
        other.family, other.type, other.proto, other.detach()
    )
