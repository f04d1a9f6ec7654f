"""``MSG_ZEROCOPY``: sending without copying, and the notices by which the kernel gives the memory back.

With that flag the pages that are sent belong to the kernel until it says so, in the socket's error queue: sends count
from 0, and a notice names a range of them that is through, and whether they were copied after all (as over loopback).
The ledger holds what was sent until then; nothing may change in it meanwhile. Pays above some 10 kB a send.
See the kernel's ``networking/msg_zerocopy.rst``.
"""

from __future__ import annotations

import errno
import socket
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from netnet.kernel.control import ExtendedError
from netnet.kernel.flags import MSG
from netnet.kernel.messages import receive
from netnet.kernel.options import SocketOptions

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_COPIED = 1  # SO_EE_CODE_ZEROCOPY_COPIED
_NUMBERS = 1 << 32


class Notice(NamedTuple):
    """The sends from *first* to *last* are through; *copied*: the kernel copied them after all."""

    first: int
    last: int
    copied: bool


class _Sends:
    """The sends of one socket: the kernel counts them as long as it is open, whoever sends."""

    __slots__ = ("__weakref__", "copied", "held", "linger", "next", "through")

    def __init__(self) -> None:
        self.next = 0
        self.held: OrderedDict[int, memoryview] = OrderedDict()
        self.through = 0
        self.copied = 0
        #: the socket's own option, while another stands in for it; see ``let_go``
        self.linger: tuple[int | None] | None = None


_sends: weakref.WeakKeyDictionary[socket.socket, _Sends] = weakref.WeakKeyDictionary()


class ZeroCopyLedger:
    """The sends of one socket that the kernel has not given back yet. Nothing here waits.

    All ledgers of a socket are one. Not for duplicated sockets: the kernel counts their sends together.
    """

    def __init__(self, sock: socket.socket) -> None:
        """Raises ``OSError`` or ``OptionError`` where the socket cannot do it: TCP and UDP can, on Linux."""
        self._sock = sock
        self._flag = MSG("zerocopy", "nosignal")
        SocketOptions.zerocopy.set(sock, True)
        self._sends = _sends.setdefault(sock, _Sends())

    @property
    def through(self) -> int:
        """How many sends are through."""
        return self._sends.through

    @property
    def copied(self) -> int:
        """Of these, how many were copied after all."""
        return self._sends.copied

    @property
    def pending(self) -> int:
        """How many sends are still the kernel's."""
        return len(self._sends.held)

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """One send(2): how many bytes the kernel took, by reference. What it took is held until ``notices`` tells.

        Raises ``BlockingIOError`` where there is no room, ``OSError`` with ``ENOBUFS`` where too much is pending
        (``net.core.optmem_max``): read the notices, or send by copying.
        """
        view = memoryview(data)
        if not view.nbytes:
            return 0
        count = socket.socket.send(self._sock, view, flags | self._flag)
        sends = self._sends
        sends.held[sends.next] = view
        sends.next = (sends.next + 1) % _NUMBERS
        return count

    def notices(self) -> list[Notice]:
        """The notices that have come; what they name is let go of. Raises the error that stands in the queue instead.

        Time stamps that stand in the queue between them are dropped.
        """
        found = []
        while (notice := self._read()) is not None:
            found.append(notice)
            count = (notice.last - notice.first) % _NUMBERS + 1
            for number in range(notice.first, notice.first + count):
                if self._sends.held.pop(number % _NUMBERS, None) is not None:
                    self._sends.through += 1
                    self._sends.copied += notice.copied
        sends = self._sends
        if sends.linger is not None and not sends.held:
            (linger,), sends.linger = sends.linger, None
            SocketOptions.linger.set(self._sock, linger)
        return found

    def let_go(self) -> None:
        """Nobody will wait for what is pending: should the socket be closed before, it is reset.

        Else the kernel would go on sending from memory that belongs to somebody else by then.
        """
        self.notices()
        sends = self._sends
        if sends.held and sends.linger is None:
            sends.linger = (SocketOptions.linger.get(self._sock),)
            SocketOptions.linger.set(self._sock, 0)

    def _read(self) -> Notice | None:
        error: ExtendedError | None
        while True:
            try:
                with receive(self._sock, 0, 512, MSG("errqueue", "dontwait")) as message:
                    error = message.error
            except BlockingIOError:
                return None
            if error is None or error.origin != ExtendedError.ORIGIN_TRANSMIT:
                break
        if error is None or error.origin != ExtendedError.ORIGIN_ZEROCOPY:
            code = error.number if error is not None else errno.EIO
            raise OSError(code, f"the socket's error queue has: {error or message!r}")
        return Notice(error.info, error.data, error.code == _COPIED)
