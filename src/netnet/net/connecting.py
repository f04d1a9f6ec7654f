"""Connecting: ``connect`` and ``connect_ex`` of a socket, which wait until it is decided. What listens, is in ``sockets``."""

from __future__ import annotations

import errno
import os
from typing import Any

from netnet.kernel.address import to_sockaddr
from netnet.net.resolve import located
from netnet.net.waiting import UNIX, WaitingSocket, family_of, plain
from netnet.poller.contract import WRITABLE
from netnet.runtime.worker import worker_or_none

_IN_PROGRESS = (errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK)


class ConnectingSocket(WaitingSocket):
    """The part of ``Socket`` that connects and binds."""

    __slots__ = ()

    def bind(self, address: Any, /) -> None:
        """Gives the socket an address of this machine: a typed one, or in the form of the socket's family. See bind(2).

        Switches tasks for a name.
        """
        self._open()
        plain.bind(self, located(address, family_of(self)))

    def connect(self, address: Any, /) -> None:
        """Connects to *address*, typed or in the form of the socket's family, and waits until it stands. See connect(2)."""
        try:
            code = self.connect_ex(address)
        except (TypeError, OverflowError):
            plain.connect(self, to_sockaddr(address))  # fails in the same way, and calls it by the right name
            raise
        if code:
            if code == errno.EWOULDBLOCK and self._timeout:
                raise TimeoutError("timed out")
            self._open()
            raise OSError(code, os.strerror(code))

    def connect_ex(self, address: Any, /) -> int:
        """As ``connect``, but returns the error number, 0 for success. ``EWOULDBLOCK`` when the time was up."""
        worker = worker_or_none()
        if worker is not None:
            worker.loop.checkpoint(worker)
        address = located(address, family_of(self))
        code = plain.connect_ex(self, address)
        if code == errno.EINTR:
            code = errno.EINPROGRESS
        if code not in _IN_PROGRESS or self._timeout == 0:
            if code == 0:
                self._descriptor.readable = self._descriptor.writable = True
            return code
        if code == errno.EAGAIN and family_of(self) == UNIX:
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
            code = plain.connect_ex(self, address)
            if code == errno.EAGAIN:
                raise BlockingIOError
            return code

        try:
            return self._insist(attempt)
        except TimeoutError:
            return errno.EAGAIN


def _connected(sock: ConnectingSocket, address: Any) -> int:
    """How a connection attempt ended: 0, or the error number. Would-block while it is under way.

    Asked by connecting again, which tells more than ``SO_ERROR``, and leaves the kernel's state as a blocking connect.
    """
    code = plain.connect_ex(sock, address)
    if code in _IN_PROGRESS:
        raise BlockingIOError
    return 0 if code == errno.EISCONN else code
