"""Buffered reading for protocols made of lines and lengths: ``Buffered``, around any stream.

One rule for all reading calls: **a call that raises has consumed nothing.** Whether the stream ended early, the limit
was passed, the time was up, the task was cancelled or the connection broke: what had arrived is held, and the next call
sees it. So the results do not depend on how the bytes were cut into pieces on their way.

Costs. One receive for each piece that comes, of 64 KiB at most. A piece that comes while nothing is held is kept as it
is, without a copy; else it is joined to what is held, in such a way that each byte is moved a constant number of times
on average. Where a separator was not, it is not looked for again. ``recv_exactly`` receives what is missing straight
into its result where that is much. A stream from which nothing is held costs no buffer.

Not here: writing (it is passed on as it is), text, and what the bytes mean.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, cast

from netnet.errors import BusyError, IncompleteError, LimitError
from netnet.net.sockets import CHUNK_BYTES
from netnet.runtime.lot import begin

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

S = TypeVar("S")

#: how far a line may go by default; asyncio's streams have the same limit
LIMIT_BYTES: Final = 65536

#: what a result that is received straight into begins with; then it doubles, so it never has more than twice what came
_FIRST_ROOM_BYTES: Final = 4 * CHUNK_BYTES


class _Turn:
    """One reader at a time: ``with turn:`` around each reading call. The second is told at once."""

    __slots__ = ("give", "_try")

    def __init__(self) -> None:
        lock = threading.Lock()
        self._try = lock.acquire
        self.give = lock.release

    def take(self) -> None:
        if not self._try(False):
            raise BusyError("another task reads this buffered stream already; one may read while one writes")

    def __enter__(self) -> None:
        begin()
        self.take()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give()


class Buffered(Generic[S]):
    """Reads lines, and exact numbers of bytes, from *stream*.

    *stream* is anything with ``recv`` or ``recv_into`` (or both) as a socket has them: a ``Socket``, an
    ``ssl.SSLSocket``, another ``Buffered``, one made for a test. *limit_bytes* is how many bytes may come before the
    separator in ``recv_until``, ``readline`` and iteration; no more than that and one piece of 64 KiB is held by them.

    Iterating gives the lines, as ``readline`` does. It is a stream itself: ``recv``, ``recv_into``, ``send``, ``sendall``
    ... are there; what is written goes to the stream as it is. As a context manager it closes the stream.

    A call that raises has consumed nothing. Every reading call may switch tasks (outside a loop it blocks), and raises
    ``Cancelled``, what the stream raises (``TimeoutError`` of its ``settimeout``, ``OSError``), and ``BusyError`` where
    another task is in the middle of reading; one may read while one writes. Readiness of the descriptor
    (``wait_readable``) does not tell of what is held here.
    """

    __slots__ = (
        "_data",
        "_gathered",
        "_limit_bytes",
        "_receive",
        "_receive_into",
        "_sought",
        "_start",
        "_stream",
        "_turn",
        "_without",
        "__weakref__",
    )

    def __init__(self, stream: S, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._stream = stream
        self._limit_bytes = _checked_limit(limit_bytes)
        self._receive_into: Callable[[memoryview], int] | None = getattr(stream, "recv_into", None)
        self._receive: Callable[[int], bytes] = _receiver(stream, self._receive_into)
        self._turn = _Turn()
        #: what is held is ``_data[_start:]``
        self._data: bytes | bytearray = b""
        self._start = 0
        #: how much of what is held is in a result that is being received
        self._gathered = 0
        #: the separator looked for last, and how many of the bytes held are known not to begin one
        self._sought = b""
        self._without = 0

    def __repr__(self) -> str:
        return f"<netnet.Buffered of {self._stream!r}, {self.buffered} bytes held>"

    @property
    def stream(self) -> S:
        """The stream that this one reads. Bytes that are held here will not come from it again."""
        return self._stream

    @property
    def limit_bytes(self) -> int:
        """How many bytes may come before a separator, unless the call says otherwise."""
        return self._limit_bytes

    @property
    def buffered(self) -> int:
        """How many bytes are held: they came from the stream and no call has consumed them."""
        return len(self._data) - self._start + self._gathered

    # -- what is held

    def _held(self) -> bytes:
        """A copy of all that is held (or the very object)."""
        return bytes(memoryview(self._data)[self._start :]) if self._start else bytes(self._data)

    def _keep(self, data: bytes) -> None:
        """*data* is what is held from now on."""
        self._data = data
        self._start = 0

    def _fill(self) -> bool:
        """Receives one piece more, behind what is held; false at the end of the stream."""
        chunk = self._receive(CHUNK_BYTES)
        if type(chunk) is not bytes:
            chunk = bytes(chunk)
        held = len(self._data) - self._start
        if not held:
            self._keep(chunk)
        elif held <= len(chunk):  # moves no more than what came
            self._keep(self._held() + chunk)
        else:
            data = self._data
            if type(data) is not bytearray:
                self._data = data = bytearray(memoryview(data)[self._start :])
                self._start = 0
            elif self._start > held:  # moves no more than what was consumed
                del data[: self._start]
                self._start = 0
            data += chunk
        return bool(chunk)

    def _consume(self, count: int) -> None:
        self._without = 0
        self._start += count
        if self._start >= len(self._data):
            self._keep(b"")

    def _look(self, count: int) -> bytes:
        """The first *count* bytes held."""
        data, start = self._data, self._start
        if type(data) is bytes:
            return data[start : start + count]
        return bytes(memoryview(data)[start : start + count])

    def _take(self, count: int) -> bytes:
        taken = self._look(count)
        self._consume(count)
        return taken

    def _ended_early(self, expected: int | None, wanted: str) -> IncompleteError:
        partial = self._held()
        return IncompleteError(partial, expected, f"the stream ended after {len(partial)} bytes, before {wanted}")

    # -- reading

    def recv_exactly(self, n: int, *, limit_bytes: int | None = None) -> bytes:
        """Receives exactly *n* bytes and returns them.

        *n* may be larger than what the stream is limited to: memory grows with what arrives (to twice as much), not
        with what was announced. *limit_bytes* is for lengths that the peer has told: a larger *n* raises ``LimitError``
        at once. Raises ``IncompleteError`` where the stream ends first; ``partial`` is what came, and it is still held.
        """
        n = _count(n, 0)
        with self._turn:
            if limit_bytes is not None and n > limit_bytes:
                raise LimitError(f"{n} bytes are announced, more than the limit of {limit_bytes} bytes")
            while (missing := n - len(self._data) + self._start) > 0:
                if missing >= CHUNK_BYTES and self._receive_into is not None:
                    return self._receive_straight(n, self._receive_into)
                if not self._fill():
                    raise self._ended_early(n, f"the {n} bytes asked for")
            return self._take(n)

    def _receive_straight(self, n: int, receive_into: Callable[[memoryview], int]) -> bytes:
        """Receives *n* bytes, more than are held, into one object that becomes the result, without a further copy."""
        result = BytesIO()
        result.write(memoryview(self._data)[self._start :])
        filled = room = self._gathered = result.tell()
        self._keep(b"")
        try:
            while filled < n:
                if filled == room:
                    room = min(n, max(2 * filled, _FIRST_ROOM_BYTES))
                    result.seek(room - 1)
                    result.write(b"\0")
                with result.getbuffer() as whole, whole[filled:room] as rest:
                    count = receive_into(rest)
                if not count:
                    break
                filled += count
                self._gathered = filled
        except BaseException:
            self._keep_gathered(result, filled)
            raise
        if filled < n:
            self._keep_gathered(result, filled)
            raise self._ended_early(n, f"the {n} bytes asked for")
        self._gathered = self._without = 0
        return result.getvalue()

    def _keep_gathered(self, result: BytesIO, filled: int) -> None:
        """What was received into a result that will not be whole is held, unless the stream was closed meanwhile."""
        result.truncate(filled)
        self._keep(result.getvalue() if self._gathered else b"")
        self._gathered = 0

    def recv_until(self, separator: ReadableBuffer, *, limit_bytes: int | None = None, keep: bool = True) -> bytes:
        """Receives up to the next *separator* and returns what came, with the separator if *keep* is true.

        Raises ``LimitError`` when more than *limit_bytes* (by default the stream's) come before the separator: all of
        it is still held. Raises ``IncompleteError`` where the stream ends before a separator, also at once (``partial``
        is ``b""`` then), so that an empty result never means the end; ``ValueError`` for an empty separator.
        """
        mark = bytes(memoryview(separator))
        if not mark:
            raise ValueError("the separator is empty: it would be everywhere")
        limit = self._limit_bytes if limit_bytes is None else _checked_limit(limit_bytes)
        with self._turn:
            while (at := self._seek(mark, limit)) < 0:
                if not self._fill():
                    raise self._ended_early(None, f"the separator {mark!r}")
            return self._take_item(at, len(mark), keep)

    def readline(self, *, limit_bytes: int | None = None) -> bytes:
        r"""Receives a line and returns it with its ``\n``; ``b""`` at the end of the stream, as ``file.readline`` does.

        A ``\r`` before it is left as it is. An empty line is ``b"\n"``, so it never looks like the end. Raises
        ``LimitError`` as ``recv_until`` does, and ``IncompleteError`` where the stream ends within a line.
        """
        limit = self._limit_bytes if limit_bytes is None else _checked_limit(limit_bytes)
        with self._turn:
            while (at := self._seek(b"\n", limit)) < 0:
                if not self._fill():
                    if self._start == len(self._data):
                        return b""
                    raise self._ended_early(None, "the end of the line")
            return self._take_item(at, 1, True)

    def __iter__(self) -> Iterator[bytes]:
        """The lines, each with its end, until the stream ends. Raises as ``readline`` does."""
        while line := self.readline():
            yield line

    def _seek(self, mark: bytes, limit: int) -> int:
        """How many of the bytes held come before *mark*; -1 if it may yet come. Raises ``LimitError``."""
        if mark != self._sought:
            self._sought = mark
            self._without = 0
        start = self._start
        end = min(len(self._data), start + limit + len(mark))
        at = _find(self._data, mark, start + self._without, end)
        if at >= 0:
            return at - start
        self._without = max(self._without, end - start - len(mark) + 1)
        if end - start == limit + len(mark):
            raise LimitError(f"more than {limit} bytes came before the separator {mark!r}; they are still held")
        return -1

    def _take_item(self, before: int, mark_bytes: int, keep: bool) -> bytes:
        if keep:
            return self._take(before + mark_bytes)
        item = self._look(before)
        self._consume(before + mark_bytes)
        return item

    def peek(self, n: int) -> bytes:
        """At least 1 and at most *n* of the bytes that come next, without consuming them; ``b""`` at the end.

        Waits where none are held. Raises ``ValueError`` for *n* below 1.
        """
        n = _count(n, 1)
        with self._turn:
            if self._start == len(self._data):
                self._fill()
            return self._look(n)

    def peek_exactly(self, n: int) -> bytes:
        """The next *n* bytes, without consuming them. Waits until they are here, and holds them, however many.

        Raises ``IncompleteError`` where the stream ends first.
        """
        n = _count(n, 0)
        with self._turn:
            while len(self._data) - self._start < n:
                if not self._fill():
                    raise self._ended_early(n, f"the {n} bytes asked for")
            return self._look(n)

    def recv(self, n: int) -> bytes:
        """At most *n* bytes: of those held if there are any, else of what comes next; ``b""`` at the end."""
        n = _count(n, 0)
        with self._turn:
            if self._start == len(self._data) and n:
                if n >= CHUNK_BYTES:
                    return bytes(self._receive(n))
                self._fill()
            return self._take(n)

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0) -> int:
        """As ``recv``, into *buffer*, at most *nbytes* (0: its size); returns how many bytes, 0 at the end.

        Raises ``ValueError`` where *nbytes* is negative or the buffer is smaller.
        """
        with self._turn, memoryview(buffer) as view, view.cast("B") as octets:
            if not 0 <= nbytes <= len(octets):
                raise ValueError(f"nbytes must be from 0 to the buffer's {len(octets)} bytes, not {nbytes}")
            if view.readonly:
                raise TypeError(f"recv_into() needs a buffer that can be written to, not {type(buffer).__name__}")
            size = nbytes or len(octets)
            if self._start == len(self._data) and size:
                if size >= CHUNK_BYTES and self._receive_into is not None:
                    with octets[:size] as part:
                        return self._receive_into(part)
                self._fill()
            count = min(size, len(self._data) - self._start)
            octets[:count] = memoryview(self._data)[self._start : self._start + count]
            self._consume(count)
            return count

    def take_buffered(self) -> bytes:
        """Hands over all that is held, so that somebody else can go on with the ``stream``. Does not wait.

        For protocols that change in mid-stream: send it to the other side before a relay begins. Where TLS is to begin
        (STARTTLS) it must be empty; what came before the handshake, in the clear, is nobody's to trust. Raises
        ``BusyError`` while another task reads.
        """
        self._turn.take()
        try:
            return self._take(len(self._data) - self._start)
        finally:
            self._turn.give()

    # -- the stream's own

    def send(self, data: ReadableBuffer) -> int:
        """``stream.send``."""
        return cast(int, self._plain.send(data))

    def sendall(self, data: ReadableBuffer) -> None:
        """``stream.sendall``."""
        self._plain.sendall(data)

    def shutdown(self, how: int) -> None:
        """``stream.shutdown``."""
        self._plain.shutdown(how)

    def close(self) -> None:
        """Closes the stream, and drops what is held; what further calls raise is the stream's to say."""
        self._consume(len(self._data) - self._start)
        self._gathered = 0
        self._plain.close()

    def fileno(self) -> int:
        """``stream.fileno``: the descriptor's number."""
        return cast(int, self._plain.fileno())

    @property
    def _plain(self) -> Any:
        return self._stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _receiver(stream: object, receive_into: Callable[[memoryview], int] | None) -> Callable[[int], bytes]:
    """``stream.recv``, or what stands in for it. Raises ``TypeError`` for what is no stream."""
    receive: Callable[[int], bytes] | None = getattr(stream, "recv", None)
    if receive is not None:
        return receive
    if receive_into is None:
        raise TypeError(f"a stream has recv or recv_into; {type(stream).__name__} has neither")
    into = receive_into

    def receive_by_copy(size: int) -> bytes:
        landing = bytearray(size)
        with memoryview(landing) as view:
            count = into(view)
            return bytes(view[:count])

    return receive_by_copy


def _find(data: bytes | bytearray, mark: bytes, start: int, end: int) -> int:
    return data.find(mark, start, end)


def _count(n: int, least: int) -> int:
    n = operator.index(n)
    if n < least:
        raise ValueError(f"the number of bytes must be {least} or more, not {n}")
    return n


def _checked_limit(limit_bytes: int) -> int:
    return _count(limit_bytes, 0)


__all__ = ["LIMIT_BYTES", "Buffered"]
