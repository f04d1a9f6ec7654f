"""Connected pairs of sockets in memory, for tests without a kernel: ``memory_stream_pair``, ``memory_datagram_pair``.

A stream behaves as a UNIX stream socket of Linux does, unix(7):

- What was sent before the sender closed, or shut down its sending side, is read; then comes ``b""``, again and again.
- Sending raises ``BrokenPipeError`` when the peer has closed, or reads no more.
- An end that is closed with bytes in it that nobody read resets the connection: the peer reads what is there for it,
  then gets ``ConnectionResetError`` once, and after that ``b""``.

(TCP differs in the error of sending: there a peer that is gone can also be a ``ConnectionResetError``.)

Datagrams behave as those of a connected UNIX datagram socket, or with ``drop=True`` as UDP's, which get lost where there
is no room. Not here: addresses, options, messages with control data, descriptors.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from netnet.runtime.lot import ParkingLot
from netnet.testing.ends import (
    CHUNK_BYTES,
    DONTWAIT,
    NOSIGNAL,
    PEEK,
    WAITALL,
    End,
    Side,
    checked_flags,
    checked_limit,
    checked_size,
    octets,
    room_in,
    system_error,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

#: what a stream holds for a reader that does not read; the size of a pipe's buffer on Linux, pipe(7)
CAPACITY_BYTES: Final = 65536

#: how many datagrams wait for a receiver that does not receive
QUEUE_MAX: Final = 64

#: the most that a datagram carries: what is left for the data of a UDP datagram over IPv4, RFC 768 and RFC 791
DATAGRAM_BYTES_MAX: Final = 65507

_RECEIVE_FLAGS: Final = PEEK | WAITALL | DONTWAIT | NOSIGNAL
SEND_FLAGS: Final = DONTWAIT | NOSIGNAL


class Lane:
    """One direction of a stream: the bytes on their way, and both sides of it."""

    __slots__ = ("capacity", "data", "ended", "reader", "refused", "writer")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.data = bytearray()
        self.ended = False  #: no more will be sent
        self.refused = False  #: no more will be received
        self.reader = Side("reads", "bytes from an in-memory stream")
        self.writer = Side("writes", "room in an in-memory stream")

    def put(self, view: memoryview) -> int:
        """Takes as much of *view* as there is room for."""
        count = min(len(view), self.capacity - len(self.data))
        self.data += view[:count]
        self.reader.lot.wake_all()
        return count

    def take(self, room: memoryview, limit: int, *, keep: bool) -> int:
        """Copies at most *limit* bytes into *room*, and lets go of them unless *keep*."""
        count = min(len(room), limit, len(self.data))
        room[:count] = memoryview(self.data)[:count]
        if count and not keep:
            del self.data[:count]
            self.writer.lot.wake_all()
        return count

    def wake(self) -> None:
        """Something has ended: who waits looks again."""
        self.reader.lot.wake_all()
        self.writer.lot.wake_all()


class MemoryStream(End):
    """One end of ``memory_stream_pair``: the calls of a connected stream socket, in memory.

    Two tasks may use it at once if one reads and the other writes; a second reader or writer gets ``BusyError``.
    ``close`` wakes all who wait for this end, with ``ClosedError``. Calls that move data raise ``UsageError`` outside
    a task, and ``Cancelled`` when their task is cancelled, even if they need not wait; nothing is lost by it.
    """

    def __init__(self, incoming: Lane, outgoing: Lane, max_chunk: int | None = None) -> None:
        super().__init__()
        self._incoming = incoming
        self._outgoing = outgoing
        self._max_chunk = CHUNK_BYTES if max_chunk is None else max_chunk
        self._was_reset = False
        self._peer: MemoryStream | None = None

    def _join(self, peer: MemoryStream) -> None:
        self._peer, peer._peer = peer, self

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._incoming.data)} bytes to read"
        return f"<{type(self).__name__}: {state}>"

    # -- receiving

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Receives at most *bufsize* bytes; ``b""`` when the peer has finished, and at once where *bufsize* is 0.

        *flags*: ``MSG_PEEK``, ``MSG_WAITALL`` (a call that fails half way has taken nothing), ``MSG_DONTWAIT``.
        Switches tasks where it has to wait. Raises ``ConnectionResetError``, ``ClosedError``, ``BusyError``,
        ``TimeoutError`` (``settimeout``), ``BlockingIOError``, ``Cancelled``; ``ValueError`` for a negative size. See
        recv(2).
        """
        size = checked_size(bufsize)
        if flags & WAITALL:
            whole = bytearray(size)
            return bytes(whole[: self.recv_into(whole, 0, flags)])
        buffer = bytearray(min(size, self._max_chunk))
        with memoryview(buffer) as room:
            count = self._receive(room, flags)
        del buffer[count:]
        return bytes(buffer)

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """Receives into *buffer*, at most *nbytes* (0: its size); returns how many bytes. Everything else as ``recv``.

        Raises ``TypeError`` for a read-only buffer, ``ValueError`` for one that is smaller than *nbytes*.
        """
        with room_in(buffer, nbytes) as room:
            return self._receive(room, flags)

    def _receive(self, room: memoryview, flags: int) -> int:
        checked_flags(flags, _RECEIVE_FLAGS)
        self._begin()
        if not room:
            return 0
        lane = self._incoming
        with lane.reader:
            until = self._until()
            if flags & WAITALL and not flags & PEEK:
                return self._receive_all(lane, room, until, flags)
            self._await_bytes(lane, until, flags)
            return lane.take(room, self._max_chunk, keep=bool(flags & PEEK))

    def _await_bytes(self, lane: Lane, until: float | None, flags: int) -> None:
        """Waits until there is something to read, or nothing will come any more."""
        while not lane.data:
            if self._was_reset:
                self._was_reset = False
                raise system_error(errno.ECONNRESET)
            if lane.ended or lane.refused:
                return
            self._wait(lane.reader.lot, until, flags)

    def _receive_all(self, lane: Lane, room: memoryview, until: float | None, flags: int) -> int:
        count = 0
        try:
            while count < len(room):
                if count and flags & DONTWAIT and not lane.data:
                    break
                self._await_bytes(lane, until, flags)
                with room[count:] as rest:
                    taken = lane.take(rest, self._max_chunk, keep=False)
                if not taken:
                    break
                count += taken
        except BaseException:
            lane.data[:0] = room[:count]
            raise
        return count

    def __iter__(self) -> Iterator[bytes]:
        """The chunks that come in, as they come, until the peer has finished."""
        while chunk := self.recv(CHUNK_BYTES):
            yield chunk

    # -- sending

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """Sends what there is room for now, waiting if there is none; returns how many bytes.

        Switches tasks where it has to wait. Raises ``BrokenPipeError``, ``ClosedError``, ``BusyError``, ``TimeoutError``
        (``settimeout``), ``BlockingIOError``, ``Cancelled``. See send(2).
        """
        checked_flags(flags, SEND_FLAGS)
        with octets(data) as view:
            self._begin()
            with self._outgoing.writer:
                return self._put(view, self._until(), flags)

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        """Sends all of *data*, waiting as often as needed. Time-out and errors as of ``send``.

        An error half way has the attribute ``bytes_sent``: how many bytes the stream took before.
        """
        checked_flags(flags, SEND_FLAGS)
        with octets(data) as view:
            sent = 0
            try:
                self._begin()
                until = self._until()
                with self._outgoing.writer:
                    while True:
                        with view[sent:] as rest:
                            sent += self._put(rest, until, flags)
                        if sent >= len(view):
                            return
            except BaseException as error:
                error.bytes_sent = sent  # type: ignore[attr-defined]
                raise

    def _put(self, view: memoryview, until: float | None, flags: int) -> int:
        """Waits for room, and sends as much of *view* as fits."""
        lane = self._outgoing
        while True:
            self._raise_broken(lane)
            if not view:
                return 0
            if len(lane.data) < lane.capacity:
                return lane.put(view)
            self._wait(lane.writer.lot, until, flags)

    # -- the end

    def _raise_broken(self, lane: Lane) -> None:
        if lane.ended or lane.refused:
            raise system_error(errno.EPIPE)

    def shutdown(self, how: int) -> None:
        """Ends one direction or both: ``SHUT_WR``, what was sent is followed by the end; ``SHUT_RD``; ``SHUT_RDWR``.

        After ``SHUT_RD`` what is there can still be read, and the peer can send no more. Does not switch tasks. Raises
        ``ClosedError``, ``OSError`` (``EINVAL``) for another number. See shutdown(2).
        """
        if how not in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            raise system_error(errno.EINVAL)
        self._check_open()
        if how != socket.SHUT_WR:
            self._incoming.refused = True
            self._incoming.wake()
        if how != socket.SHUT_RD:
            self._outgoing.ended = True
            self._outgoing.wake()

    def close(self) -> None:
        """Closes this end; tasks that wait for it get ``ClosedError``. Twice is fine. Does not switch tasks.

        The peer reads what was sent, and then ``b""``; or ``ConnectionResetError``, if there was something to read here.
        """
        if self._closed:
            return
        self._closed = True
        incoming, outgoing = self._incoming, self._outgoing
        if incoming.data and self._peer is not None:
            self._peer._was_reset = True
        incoming.refused = incoming.ended = True
        outgoing.ended = True
        incoming.wake()
        outgoing.wake()
        self._peer = None


def memory_stream_pair(
    *, capacity_bytes: int = CAPACITY_BYTES, max_chunk: int | None = None
) -> tuple[MemoryStream, MemoryStream]:
    """Two connected streams in memory.

    *capacity_bytes*: how much each direction holds; a sender waits when it is full. *max_chunk*: how many bytes one
    ``recv`` returns at most, whatever was asked for; 1 delivers byte by byte. Can be made anywhere and works inside
    ``netnet.run``. Raises ``ValueError`` for a limit below 1.
    """
    checked_limit("capacity_bytes", capacity_bytes)
    checked_limit("max_chunk", max_chunk)
    there, back = Lane(capacity_bytes), Lane(capacity_bytes)
    one, other = MemoryStream(back, there, max_chunk), MemoryStream(there, back, max_chunk)
    one._join(other)
    return one, other


class _Line:
    """Who waits on one side of a mailbox, first come first served: what frees for somebody is kept until he has run."""

    __slots__ = ("kept", "lot")

    def __init__(self, what: str) -> None:
        self.lot = ParkingLot(what)
        self.kept = 0

    def wake_one(self) -> None:
        self.kept += self.lot.wake(1)


class _Mailbox:
    """One direction of a datagram pair. Several tasks may wait on each side."""

    __slots__ = ("closed", "full", "letters", "receivers", "senders")

    def __init__(self, queue_max: int) -> None:
        self.full = queue_max
        self.letters: deque[bytes] = deque()
        self.closed = False  #: nobody will receive any more
        self.receivers = _Line("a datagram")
        self.senders = _Line("room for a datagram")


class MemoryDatagrams(End):
    """One end of ``memory_datagram_pair``: the calls of a connected datagram socket, in memory.

    Any number of tasks may send and receive. ``close`` wakes all who wait for this end, with ``ClosedError``. Nobody is
    told that the peer has closed, except who sends: ``ConnectionRefusedError``. Calls that move data raise
    ``UsageError`` outside a task, and ``Cancelled`` when their task is cancelled; nothing is lost by it.
    """

    def __init__(self, incoming: _Mailbox, outgoing: _Mailbox, *, drop: bool, bytes_max: int) -> None:
        super().__init__()
        self._incoming = incoming
        self._outgoing = outgoing
        self._drop = drop
        self._bytes_max = bytes_max

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._incoming.letters)} datagrams to receive"
        return f"<{type(self).__name__}: {state}>"

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Receives a datagram, of which *bufsize* bytes are returned at most; what is longer is cut off and lost.

        *flags*: ``MSG_PEEK``, ``MSG_DONTWAIT``. Switches tasks where it has to wait. Raises ``ClosedError``,
        ``TimeoutError`` (``settimeout``), ``BlockingIOError``, ``Cancelled``; ``ValueError`` for a negative size.
        """
        size = checked_size(bufsize)
        return self._next(flags)[:size]

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """Receives a datagram into *buffer*, at most *nbytes* (0: its size); returns how many. Otherwise as ``recv``.

        Raises ``TypeError`` for a read-only buffer, ``ValueError`` for one that is smaller than *nbytes*.
        """
        with room_in(buffer, nbytes) as room:
            letter = self._next(flags)
            count = min(len(letter), len(room))
            room[:count] = letter[:count]
            return count

    def _next(self, flags: int) -> bytes:
        checked_flags(flags, PEEK | DONTWAIT | NOSIGNAL)
        self._begin()
        box = self._incoming
        if len(box.letters) <= box.receivers.kept:
            self._stand_in(box.receivers, self._until(), flags)
        if flags & PEEK:
            letter = box.letters[0]
            box.receivers.wake_one()
            return letter
        letter = box.letters.popleft()
        box.senders.wake_one()
        return letter

    def _stand_in(self, line: _Line, until: float | None, flags: int) -> None:
        """Waits until something is kept for this task, and no longer."""
        self._wait(line.lot, until, flags)
        line.kept -= 1

    def __iter__(self) -> Iterator[bytes]:
        """The datagrams that come in, for ever: an empty one is no end."""
        while True:
            yield self.recv(self._bytes_max)

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """Sends a datagram; returns its length. Waits while the peer's queue is full, unless the pair drops.

        Switches tasks where it has to wait. Raises ``ConnectionRefusedError`` when the peer has closed, ``OSError``
        (``EMSGSIZE``) for one that is too long, ``ClosedError``, ``TimeoutError`` (``settimeout``),
        ``BlockingIOError``, ``Cancelled``.
        """
        checked_flags(flags, SEND_FLAGS)
        with octets(data) as view:
            letter = bytes(view)
        self._begin()
        if len(letter) > self._bytes_max:
            raise system_error(errno.EMSGSIZE)
        box = self._outgoing
        if not box.closed and len(box.letters) + box.senders.kept >= box.full:
            if self._drop:
                return len(letter)
            self._stand_in(box.senders, self._until(), flags)
        if box.closed:
            raise system_error(errno.ECONNREFUSED)
        box.letters.append(letter)
        box.receivers.wake_one()
        return len(letter)

    def close(self) -> None:
        """Closes this end; tasks that wait for it get ``ClosedError``. Twice is fine. Does not switch tasks.

        What was sent can still be received by the peer; what was not received here is lost.
        """
        if self._closed:
            return
        self._closed = True
        self._incoming.closed = True
        self._incoming.letters.clear()
        for line in (self._incoming.receivers, self._incoming.senders, self._outgoing.senders):
            line.lot.wake_all()


def memory_datagram_pair(
    *, queue_max: int = QUEUE_MAX, drop: bool = False, bytes_max: int = DATAGRAM_BYTES_MAX
) -> tuple[MemoryDatagrams, MemoryDatagrams]:
    """Two connected datagram sockets in memory. Boundaries are kept, an empty datagram is one.

    *queue_max*: how many datagrams wait at each end; a sender waits when there are so many, or, with *drop*, loses its
    datagram without being told, as with UDP. *bytes_max*: the longest one. Can be made anywhere and works inside
    ``netnet.run``. Raises ``ValueError`` for a limit below 1.
    """
    checked_limit("queue_max", queue_max)
    checked_limit("bytes_max", bytes_max)
    there, back = _Mailbox(queue_max), _Mailbox(queue_max)
    one = MemoryDatagrams(back, there, drop=drop, bytes_max=bytes_max)
    return one, MemoryDatagrams(there, back, drop=drop, bytes_max=bytes_max)
