"""``MSG_ZEROCOPY``: sending without copying, and the notices by which the kernel gives the memory back.

With that flag the pages that are sent belong to the kernel until it says so, in the socket's error queue: sends count
from 0, and a notice names a range of them that is through, and whether they were copied after all (as over loopback).
The ledger holds what was sent until then; nothing may change in it meanwhile. Pays above some 10 kB a send.
See the kernel's ``networking/msg_zerocopy.rst``.
"""

from __future__ import annotations

import errno
import socket
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from netnet.kernel.control import ExtendedError
from netnet.kernel.flags import MSG
from netnet.kernel.messages import receive
from netnet.kernel.options import find_option

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_COPIED = 1  # SO_EE_CODE_ZEROCOPY_COPIED
_NUMBERS = 1 << 32


class Notice(NamedTuple):
    """The sends from *first* to *last* are through; *copied*: the kernel copied them after all."""

    first: int
    last: int
    copied: bool


class ZeroCopyLedger:
    """The sends of one socket that the kernel has not given back yet. Nothing here waits."""

    def __init__(self, sock: socket.socket) -> None:
        """Raises ``OSError`` or ``OptionError`` where the socket cannot do it: TCP and UDP can, on Linux."""
        self._sock = sock
        self._flag = MSG("zerocopy", "nosignal")
        find_option("zerocopy").set(sock, True)
        self._next = 0
        self._held: OrderedDict[int, memoryview] = OrderedDict()
        #: how many sends are through, and of these, how many were copied after all
        self.through = 0
        self.copied = 0

    @property
    def pending(self) -> int:
        """How many sends are still the kernel's."""
        return len(self._held)

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """One send(2): how many bytes the kernel took, by reference. What it took is held until ``notices`` tells.

        Raises ``BlockingIOError`` where there is no room, ``OSError`` with ``ENOBUFS`` where too much is pending
        (``net.core.optmem_max``): read the notices, or send by copying.
        """
        view = memoryview(data)
        if not view.nbytes:
            return 0
        count = socket.socket.send(self._sock, view, flags | self._flag)
        self._held[self._next] = view
        self._next = (self._next + 1) % _NUMBERS
        return count

    def notices(self) -> list[Notice]:
        """The notices that have come; what they name is let go of. Raises the error that stands in the queue instead."""
        found = []
        while (notice := self._read()) is not None:
            found.append(notice)
            count = (notice.last - notice.first) % _NUMBERS + 1
            for number in range(notice.first, notice.first + count):
                if self._held.pop(number % _NUMBERS, None) is not None:
                    self.through += 1
                    self.copied += notice.copied
        return found

    def _read(self) -> Notice | None:
        try:
            with receive(self._sock, 0, 512, MSG("errqueue", "dontwait")) as message:
                error = message.error
        except BlockingIOError:
            return None
        if error is None or error.origin != ExtendedError.ORIGIN_ZEROCOPY:
            code = error.number if error is not None else errno.EIO
            raise OSError(code, f"the socket's error queue has: {error or message!r}")
        return Notice(error.info, error.data, error.code == _COPIED)
