"""Messages: sendmsg(2) and recvmsg(2) with several buffers and typed control messages. The calls are tried once; to wait
is the caller's. What a control message is, is in ``control``.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

from netnet.kernel.address import SocketAddress, from_sockaddr
from netnet.kernel.control import Control, ExtendedError, PidFd, Rights, decode, encode
from netnet.kernel.flags import MSG
from netnet.kernel.numbers import number

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

C = TypeVar("C")

#: room for control messages where the caller says nothing: 253 descriptors (the kernel's limit) and a dozen others
CONTROL_BYTES = 2048

_INT_MAX = 2**31 - 1
_RIGHTS = number("SCM_RIGHTS")

_TRUNC = MSG.numbers.get("trunc", 0)
_CTRUNC = MSG.numbers.get("ctrunc", 0)
_EOR = MSG.numbers.get("eor", 0)
_OOB = MSG.numbers.get("oob", 0)
_ERRQUEUE = MSG.numbers.get("errqueue", 0)
_CLOEXEC = MSG.numbers.get("cmsg_cloexec", 0)


class Message:
    """What a receive gave.

    ``data`` are the bytes (``b""`` where they went into the caller's buffers), ``size`` how many came, ``control`` the
    control messages in order, ``flags`` the kernel's word on it (``flag_names`` reads them), ``address`` the sender
    where the kernel tells one. Descriptors that came along belong to the message: ``take_fds``, or ``close``.
    """

    __slots__ = ("address", "control", "data", "flags", "size")

    def __init__(
        self, data: bytes, size: int, control: tuple[Control, ...], flags: int, address: SocketAddress | None
    ) -> None:
        self.data = data
        self.size = size
        self.control = control
        self.flags = flags
        self.address = address

    @property
    def truncated(self) -> bool:
        """Whether the datagram was longer than there was room for; the rest is lost."""
        return bool(self.flags & _TRUNC)

    @property
    def control_truncated(self) -> bool:
        """Whether control messages are missing or cut short, descriptors among them, for want of room."""
        return bool(self.flags & _CTRUNC)

    @property
    def end_of_record(self) -> bool:
        """Whether a record ends here (sequenced-packet sockets)."""
        return bool(self.flags & _EOR)

    @property
    def urgent(self) -> bool:
        """Whether it is urgent data."""
        return bool(self.flags & _OOB)

    @property
    def from_error_queue(self) -> bool:
        """Whether it came from the error queue."""
        return bool(self.flags & _ERRQUEUE)

    @property
    def flag_names(self) -> tuple[str, ...]:
        """The names of its flags, without ``MSG_``, in lower case."""
        return MSG.names(self.flags)

    def get(self, kind: type[C]) -> C | None:
        """The first control message of that class, if there is one: ``message.get(PacketInfo)``."""
        return next((one for one in self.control if isinstance(one, kind)), None)

    @property
    def error(self) -> ExtendedError | None:
        """What stands in the error queue's entry."""
        return self.get(ExtendedError)

    def take_fds(self) -> list[int]:
        """The descriptors that came along (``SCM_RIGHTS``); they are yours from now on. All are close-on-exec."""
        return [fd for one in self.control if isinstance(one, Rights) for fd in one.take()]

    def close(self) -> None:
        """Closes the descriptors that came along and were not taken."""
        for one in self.control:
            if isinstance(one, (Rights, PidFd)):
                one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        flags = f" {'|'.join(self.flag_names)}" if self.flags else ""
        return f"<message of {self.size} bytes from {self.address}{flags} {list(self.control)}>"


def receive(sock: socket.socket, size: int, control_bytes: int, flags: int) -> Message:
    """One recvmsg(2) of at most *size* bytes. With flag ``trunc`` the message's ``size`` is the datagram's own; a stream
    throws so many bytes away, and there is no data."""
    if not 0 <= size <= sys.maxsize or not 0 <= control_bytes <= _INT_MAX:
        raise ValueError(f"sizes must be from 0 to what there is memory for, not {size} and {control_bytes}")
    if flags & _TRUNC:  # then the kernel tells a size beyond the buffer, which must not be taken for bytes in it
        buffer = bytearray(size)
        message = receive_into(sock, [buffer], control_bytes, flags)
        if sock.type != socket.SOCK_STREAM:  # of a stream, it throws the bytes away
            message.data = bytes(memoryview(buffer)[: message.size])
        return message
    data, control, told, address = socket.socket.recvmsg(sock, size, control_bytes, flags | _CLOEXEC)
    return _message(sock, data, len(data), control, told, address)


def receive_into(sock: socket.socket, buffers: Iterable[WriteableBuffer], control_bytes: int, flags: int) -> Message:
    """The same, scattered into *buffers*."""
    if not 0 <= control_bytes <= _INT_MAX:
        raise ValueError(f"the size of control messages must be from 0 to {_INT_MAX}, not {control_bytes}")
    size, control, told, address = socket.socket.recvmsg_into(sock, buffers, control_bytes, flags | _CLOEXEC)
    return _message(sock, b"", size, control, told, address)


def _message(
    sock: socket.socket, data: bytes, size: int, control: list[tuple[int, int, bytes]], flags: int, address: Any
) -> Message:
    typed = decode(control) if control else ()
    try:
        sender = from_sockaddr(sock.family, address) if address else None
        return Message(data, size, typed, flags & ~_CLOEXEC, sender)
    except BaseException:
        for one in typed:
            if isinstance(one, (Rights, PidFd)):
                one.close()
        raise


def prepared(
    sock: socket.socket, data: ReadableBuffer | Iterable[ReadableBuffer], control: Iterable[Control]
) -> tuple[Sequence[ReadableBuffer], list[tuple[int, int, bytes]]]:
    """Buffers and control messages as sendmsg(2) takes them.

    Raises ``ValueError`` where a stream would be sent descriptors without a byte: the kernel would drop them silently.
    """
    buffers = [data] if isinstance(data, (bytes, bytearray, memoryview)) else _buffers(data)
    control = tuple(control)
    rights = any(isinstance(one, Rights) or getattr(one, "type", 0) == _RIGHTS for one in control)
    if rights and sock.type == socket.SOCK_STREAM and not any(memoryview(one).nbytes for one in buffers):
        raise ValueError("on a stream, descriptors need at least one byte to travel with")
    return buffers, encode(control, sock.family)


def _buffers(data: Any) -> list[Any]:
    """Several buffers, or one that is no ``bytes``, such as an array."""
    try:
        memoryview(data).release()
    except TypeError:
        return list(data)
    return [data]


def checked_fds(message: Message) -> list[int]:
    """The descriptors of a message that must be whole. Raises ``OSError`` (``EMSGSIZE``), all of them closed, if not."""
    if message.control_truncated or message.truncated:
        what = "control data" if message.control_truncated else "data"
        lost = [one for one in message.control if isinstance(one, Rights)]
        count = sum(len(one.fds) for one in lost)
        message.close()
        raise OSError(
            errno.EMSGSIZE, f"more {what} came than there was room for; {count} received descriptors were closed"
        )
    return message.take_fds()
