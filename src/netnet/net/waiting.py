"""The ground that ``Socket`` stands on: a ``socket.socket`` whose descriptor never blocks, and the one way of waiting for it.

"Try, park on would-block, try again" exists once, in ``_cooperate``. In a loop that parks a green thread; outside one it
blocks the OS thread, as the standard class does. Time-outs (``settimeout``) mean what they mean in the standard library.
What is ready and who waits: see ``netnet.runtime.descriptor``. The calls are in the classes that build on this one.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import math
import os
import socket
import time
from collections.abc import Callable
from typing import Any, Self, TypeVar

from netnet.errors import BusyError, ClosedError
from netnet.kernel.address import INET
from netnet.kernel.numbers import number
from netnet.poller.contract import READABLE, WRITABLE
from netnet.poller.single import wait_one
from netnet.runtime.api import sleep
from netnet.runtime.clock import checked_seconds
from netnet.runtime.descriptor import Descriptor
from netnet.runtime.foreign import refuse_to_block
from netnet.runtime.loop import Call
from netnet.runtime.worker import worker_or_none

T = TypeVar("T")

#: the standard class, whose calls are made on our sockets
plain = socket.socket

_set_plain_timeout = plain.settimeout
_plain_close = _socket.socket.close
_plain_finalize = _socket.socket.__del__  # type: ignore[attr-defined]

# as plain numbers: of the enumerations' members, each "&" and "|" is a call of Python code, and costs a microsecond
_NONBLOCK = int(getattr(socket, "SOCK_NONBLOCK", 0))
#: a broken connection is an error, whatever the program does about SIGPIPE
NOSIGNAL = int(getattr(socket, "MSG_NOSIGNAL", 0))
DONTWAIT = int(getattr(socket, "MSG_DONTWAIT", 0))
#: urgent data and the error queue: readiness is not about them, and the kernel never waits for them
_AT_ONCE = int(getattr(socket, "MSG_OOB", 0) | getattr(socket, "MSG_ERRQUEUE", 0))
UNIX = int(getattr(socket, "AF_UNIX", -1))
_STREAM = int(socket.SOCK_STREAM)
_TCP = (0, int(socket.IPPROTO_TCP))
_ULP = number("TCP_ULP")

# the C class's own attributes: the Python class wraps them into enumerations, which costs a microsecond each
family_of = _socket.socket.family.__get__
type_of = _socket.socket.type.__get__
proto_of = _socket.socket.proto.__get__


class WaitingSocket(socket.socket):
    """A ``socket.socket`` that waits by parking its task."""

    __slots__ = ("_descriptor", "_timeout")

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        if fileno is None:
            super().__init__(family, (_STREAM if type == -1 else type) | _NONBLOCK, proto)
        else:
            super().__init__(family, type, proto, fileno)
        default = socket.getdefaulttimeout()
        if fileno is not None or default is not None or not _NONBLOCK:
            _set_plain_timeout(self, 0.0)
        stream = type_of(self) == _STREAM
        tcp = stream and family_of(self) in INET and proto_of(self) in _TCP
        self._descriptor = Descriptor(self.fileno(), stream=stream, tcp=tcp)
        self._timeout: float | None = None
        if default is not None:
            self.settimeout(default)

    # -- time-outs

    def settimeout(self, value: float | None, /) -> None:
        """Limits each call that waits to *value* seconds; 0: calls never wait (``BlockingIOError``); ``None``: no limit.

        Raises ``ValueError`` for a negative number or NaN, ``ClosedError``. See ``socket.socket.settimeout``.
        """
        if value is not None:
            value = checked_seconds(value)
            if value < 0:
                raise ValueError("Timeout value out of range")
            if value == math.inf:
                raise OverflowError("a time-out cannot be infinite; None is no limit")
        self._open()
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

    # -- options

    def setsockopt(self, level: int, optname: int, *value: Any) -> None:
        """Sets an option by number, as in the standard class. By name: ``sock.nodelay = True``. See setsockopt(2)."""
        plain.setsockopt(self, level, optname, *value)
        if optname == _ULP and level == _TCP[1]:
            self._descriptor.short_is_dry = False  # a read stops at the end of a record, then

    # -- the one wait loop

    def _until(self) -> float | None:
        """The instant at which a call that begins now has used up its time."""
        return None if self._timeout is None else now() + self._timeout

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
        if timeout == 0 or flags & DONTWAIT or (side == READABLE and flags & _AT_ONCE):
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
            try:
                return self._block(side, until, call, args)
            except OSError as error:
                self._raise_if_closed(error)
                raise
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
                left = None if until is None else until - now()
                if left is not None and left <= 0:
                    raise TimeoutError("timed out") from None
                wait_one(self.fileno(), side, left)

    def _insist(self, attempt: Callable[[], T]) -> T:
        """Tries again, at growing intervals, what would block and of which the kernel tells no end."""
        until = self._until()
        pause = 0.001
        while True:
            try:
                return attempt()
            except BlockingIOError:
                left = math.inf if until is None else until - now()
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
        self._descriptor.twins = copy._descriptor.twins = True
        copy._descriptor.short_is_dry &= self._descriptor.short_is_dry
        return copy

    def detach(self) -> int:
        """Gives up the descriptor and returns it; the socket counts as closed. It blocks again, if the socket did.

        Where the socket was duplicated (``dup``) it stays non-blocking, since the duplicate would block with it.
        Raises ``BusyError`` while a task waits for the socket.
        """
        descriptor = self._descriptor
        if descriptor.reader is not None or descriptor.writer is not None:
            raise BusyError("a task waits for this socket; it cannot be detached")
        descriptor.detach()
        fd = super().detach()
        descriptor.fd = -1
        worker = worker_or_none()
        shared = descriptor.twins or (
            worker is not None and fd in worker.loop.descriptors
        )  # with another socket object
        if fd >= 0 and not shared:
            with contextlib.suppress(OSError):  # closed behind our back
                os.set_blocking(fd, self._timeout is None)
        return fd

    def _open(self) -> int:
        """The descriptor. Raises ``ClosedError`` where the socket is closed."""
        fd = self.fileno()
        if fd < 0:
            raise ClosedError
        return fd

    def close_down(self, how: int = socket.SHUT_RDWR) -> None:
        """Shuts the connection down and closes the socket, also where the peer was faster. Twice is fine.

        The peer sees the end at once, even if the connection is shared with another process or a duplicate. See
        shutdown(2). Raises ``OSError`` for what closing itself finds.
        """
        try:
            if self.fileno() >= 0:
                self.shutdown(how)
        except OSError as error:
            if error.errno not in (errno.ENOTCONN, errno.EINVAL, errno.EPIPE, errno.ECONNRESET):
                raise
        finally:
            self.close()

    def _real_close(self, _ss: Any = socket.socket) -> None:
        descriptor = self._descriptor
        if descriptor.in_other_thread():
            _close_from_outside(descriptor, plain.detach(self))
        else:
            descriptor.close()
            _plain_close(self)

    def __del__(self) -> None:
        """Dropped without ``close``: the loop forgets the descriptor before the base class closes it, with a warning."""
        try:
            descriptor = self._descriptor
        except AttributeError:  # its making failed
            _plain_finalize(self)
            return
        if descriptor.fd >= 0:  # as a rule it was closed
            if descriptor.loop is not None:
                descriptor.detach()
            _plain_finalize(self)


def _close_from_outside(descriptor: Descriptor, fd: int) -> None:
    """Closes a descriptor that a loop in another thread may be waiting for: that loop has to do it."""

    def close_in_loop() -> None:
        descriptor.close()
        os.close(fd)

    loop = descriptor.loop
    if loop is None or not loop.call_from_thread(Call(close_in_loop)):
        os.close(fd)


def now() -> float:
    worker = worker_or_none()
    return time.monotonic() if worker is None else worker.loop.clock.now()
