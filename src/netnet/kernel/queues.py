"""What stands in a socket's queues, and other small things that ``ioctl`` and ``fcntl`` tell of a descriptor."""

from __future__ import annotations

import fcntl
import struct
import sys
import termios

from netnet.kernel.numbers import number

_OUTQ_UNSENT = number("SIOCOUTQNSD")
_ATMARK = number("SIOCATMARK") or 0x40047307  # BSD and macOS: _IOR('s', 7, int)


def _ask(fd: int, request: int) -> int:
    (count,) = struct.unpack("@i", fcntl.ioctl(fd, request, bytes(4)))
    return int(count)


def pending_bytes(fd: int) -> int:
    """How many bytes can be received now; of a datagram socket: those of the next datagram,
    but of UNIX sequenced-packet sockets those of all packets. See tcp(7), ``FIONREAD``.
    """
    return _ask(fd, termios.FIONREAD)


def unsent_bytes(fd: int) -> int:
    """How many bytes were sent but not acknowledged (TCP), or not received (UNIX, as memory). See tcp(7), ``SIOCOUTQ``."""
    return _ask(fd, termios.TIOCOUTQ)


def unwritten_bytes(fd: int) -> int:
    """Of those, how many have not left yet. TCP on Linux; raises ``OSError`` elsewhere. See ``SIOCOUTQNSD``."""
    if _OUTQ_UNSENT is None:
        raise OSError(f"{sys.platform} does not tell how many bytes have not left yet")
    return _ask(fd, _OUTQ_UNSENT)


def at_mark(fd: int) -> bool:
    """Whether the next byte to be received is the one after the urgent mark. See sockatmark(3)."""
    return bool(_ask(fd, _ATMARK))
