"""``Buffered``: whatever the pieces, the results are those of the whole; a call that raises has consumed nothing; and what
it costs is counted: receives, bytes searched, bytes moved."""

from __future__ import annotations

import errno
import socket
import ssl
import subprocess
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import netnet
from netnet.errors import BusyError, Cancelled, ClosedError, IncompleteError, LimitError
from netnet.net import buffered as module
from netnet.net.buffered import LIMIT_BYTES, Buffered
from netnet.net.sockets import CHUNK_BYTES, Socket, socketpair
from netnet.testing import VirtualClock, wait_all_parked


class Pieces:
    """A stream that gives these pieces, then the end. A piece that is an exception is raised, once."""

    def __init__(self, *pieces):
        self.pieces = [piece for piece in pieces if piece != b""]
        self.calls = 0
        self.written = b""
        self.closed = False

    def recv(self, n):
        assert n > 0
        self.calls += 1
        if not self.pieces:
            return b""
        first = self.pieces.pop(0)
        if isinstance(first, BaseException):
            raise first
        if len(first) > n:
            self.pieces.insert(0, first[n:])
        return first[:n]

    def send(self, data):
        self.written += bytes(data[:1])
        return 1

    def sendall(self, data):
        self.written += bytes(data)

    def close(self):
        self.closed = True


class PiecesInto(Pieces):
    """The same, with ``recv_into`` besides."""

    def recv_into(self, buffer):
        chunk = self.recv(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)


class OnlyInto:
    """A stream without ``recv``."""

    def __init__(self, *pieces):
        self.recv_into = PiecesInto(*pieces).recv_into


STREAMS = [Pieces, PiecesInto, OnlyInto]


def singly(data):
    return [data[at : at + 1] for at in range(len(data))]


def feed(buffered, sock, data):
    """Has all of *data* be held by *buffered*, whose peer is *sock*."""
    sock.sendall(data)
    assert buffered.peek_exactly(len(data)) == data


@pytest.fixture
def pair():
    ours, theirs = socketpair()
    with ours, theirs:
        yield ours, theirs


# -- what each call gives


@pytest.mark.parametrize("stream", STREAMS)
def test_lines_lengths_and_the_end(stream):
    reader = Buffered(stream(b"GET / HT", b"TP/1.1\r", b"\nHost: a\r\n\r\n", b"bo", b"dy!rest\n", b"\n", b"end\n"))
    assert reader.readline() == b"GET / HTTP/1.1\r\n"
    assert reader.recv_until(b"\r\n", keep=False) == b"Host: a"
    assert reader.recv_until(b"\r\n", keep=False) == b""
    assert reader.recv_exactly(5) == b"body!"
    assert list(reader) == [b"rest\n", b"\n", b"end\n"]
    assert [reader.readline(), reader.recv(10), reader.peek(10), reader.recv_exactly(0)] == [b""] * 4


def test_an_empty_line_is_no_end():
    reader = Buffered(Pieces(b"\n", b"\n", b"a\n\n"))
    assert list(reader) == [b"\n", b"\n", b"a\n", b"\n"]
    assert reader.readline() == b""


@pytest.mark.parametrize(
    ("separator", "pieces", "expected"),
    [
        (b"\r\n", [b"a\r", b"\nb"], b"a\r\n"),
        (b"\r\n", [b"a\r", b"b\r", b"\n"], b"a\rb\r\n"),
        (b"aab", [b"aa", b"aab"], b"aaaab"),
        (b"--end--", [b"x--en", b"--end", b"--", b"more"], b"x--en--end--"),
        (b"\0", [b"\0"], b"\0"),
        (bytearray(b"||"), [b"a|", b"|"], b"a||"),
        (memoryview(b"||"), [b"a", b"||"], b"a||"),
    ],
)
def test_a_separator_in_pieces(separator, pieces, expected):
    for cut in (pieces, singly(b"".join(pieces))):
        assert Buffered(Pieces(*cut)).recv_until(separator) == expected
        assert Buffered(Pieces(*cut)).recv_until(separator, keep=False) == expected[: -len(separator)]


def test_another_separator_is_looked_for_from_the_beginning():
    reader = Buffered(Pieces(b"a,b", TimeoutError(), b";c"))
    with pytest.raises(TimeoutError):
        reader.recv_until(b";")
    assert reader.recv_until(b",") == b"a,"
    assert reader.recv_until(b";") == b"b;"


@pytest.mark.parametrize(
    ("take", "more"),
    [
        (lambda r: r.recv_exactly(6), b""),
        (lambda r: r.recv_exactly(6 + 3 * CHUNK_BYTES), b"x" * 3 * CHUNK_BYTES),
        (lambda r: r.recv(6), b""),
        (lambda r: r.recv_into(bytearray(6)), b""),
        (lambda r: r.take_buffered(), b""),
        (lambda r: r.close(), b""),
    ],
)
def test_what_was_searched_is_forgotten_when_it_is_consumed(take, more):
    """A separator at the beginning of what follows is found, whichever way that before it went."""
    reader = Buffered(PiecesInto(b"abcdef", TimeoutError(), more, b"\n."))
    with pytest.raises(TimeoutError):
        reader.readline()
    take(reader)
    assert reader.readline() == b"\n"


def test_peek_consumes_nothing():
    reader = Buffered(Pieces(b"ab", b"cdef"))
    assert reader.peek(1) == b"a"
    assert reader.peek(100) == b"ab"
    assert reader.peek_exactly(3) == b"abc"
    assert reader.peek(100) == b"abcdef"
    assert reader.peek_exactly(0) == b""
    assert (reader.buffered, reader.recv(3), reader.buffered) == (6, b"abc", 3)
    with pytest.raises(IncompleteError) as caught:
        reader.peek_exactly(4)
    assert (caught.value.partial, caught.value.expected) == (b"def", 4)
    assert reader.recv(100) == b"def"


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("size", [3, CHUNK_BYTES, 3 * CHUNK_BYTES])
def test_receiving_as_a_stream(stream, size):
    """From what is held first, and no more than that; then from the stream."""
    whole = bytes(range(256)) * 1024
    one, two = Buffered(stream(b"line\nheld", whole)), Buffered(stream(b"line\nheld", whole))
    landing = bytearray(size)
    assert one.readline() == two.readline() == b"line\n"
    assert one.recv(size) == b"held"[:size]
    assert two.recv_into(landing) == len(b"held"[:size])
    seen, other = bytearray(b"held"[:size]), bytearray(b"held"[:size])
    while data := one.recv(size):
        seen += data
    while count := two.recv_into(landing):
        other += landing[:count]
    assert seen == other == b"held" + whole


def test_receiving_into_a_part():
    reader = Buffered(Pieces(b"abcdef"))
    landing = bytearray(b"......")
    assert reader.recv_into(landing, 2) == 2
    assert reader.recv_into(memoryview(landing)[3:5]) == 2
    assert landing == b"ab.cd."
    assert reader.recv_into(bytearray()) == 0
    assert reader.recv_into(landing) == 2


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda r: r.recv_until(b""), ValueError),
        (lambda r: r.recv_until("\n"), TypeError),
        (lambda r: r.recv_until(b"\n", limit_bytes=-1), ValueError),
        (lambda r: r.readline(limit_bytes=-1), ValueError),
        (lambda r: r.recv_exactly(-1), ValueError),
        (lambda r: r.recv_exactly(1.5), TypeError),
        (lambda r: r.peek(0), ValueError),
        (lambda r: r.peek_exactly(-1), ValueError),
        (lambda r: r.recv(-1), ValueError),
        (lambda r: r.recv_into(bytearray(3), 4), ValueError),
        (lambda r: r.recv_into(bytearray(3), -1), ValueError),
        (lambda r: r.recv_into(b"read only"), TypeError),
        (lambda r: Buffered(object()), TypeError),
        (lambda r: Buffered(Pieces(), limit_bytes=-1), ValueError),
        (lambda r: Buffered(Pieces(), limit_bytes=None), TypeError),
    ],
)
def test_arguments_that_mean_nothing(call, error):
    reader = Buffered(Pieces(b"data\n"))
    with pytest.raises(error):
        call(reader)
    assert (reader.stream.calls, reader.readline()) == (0, b"data\n")


def test_pieces_that_are_no_bytes_are_copied():
    shared = bytearray(b"ab")
    reader = Buffered(Pieces(shared, b"\n"))
    assert reader.peek(2) == b"ab"
    shared[:] = b"xx"
    assert type(reader.peek(1)) is bytes
    assert reader.readline() == b"ab\n"


# -- the end that comes too early


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda r: r.recv_exactly(5), 5),
        (lambda r: r.recv_exactly(10**12), 10**12),
        (lambda r: r.peek_exactly(5), 5),
        (lambda r: r.recv_until(b"\r\n"), None),
        (lambda r: r.readline(), None),
        (lambda r: list(r), None),
    ],
)
def test_what_is_cut_off_is_told_and_still_held(stream, call, expected):
    reader = Buffered(stream(b"a", b"bc"))
    for _ in range(2):
        with pytest.raises(IncompleteError) as caught:
            call(reader)
        assert (caught.value.partial, caught.value.expected) == (b"abc", expected)
        assert "3 bytes" in str(caught.value)
        assert isinstance(caught.value, EOFError)
        assert reader.buffered == 3
    assert reader.take_buffered() == b"abc"
    assert reader.readline() == b""


def test_the_end_at_once():
    """No separator and no bytes is cut off, too; only a line may end before it began."""
    for call in (lambda r: r.recv_until(b"\n", keep=False), lambda r: r.recv_exactly(1), lambda r: r.peek_exactly(1)):
        with pytest.raises(IncompleteError) as caught:
            call(Buffered(Pieces()))
        assert caught.value.partial == b""


def test_a_length_that_is_only_announced_costs_nothing(run, pair):
    """10**12 bytes are asked for; memory grows with the 300 kB that come."""
    ours, theirs = pair

    def main():
        def peer():
            theirs.sendall(bytes(300_000))
            theirs.close()

        netnet.spawn(peer)
        reader = Buffered(ours)
        tracemalloc.start()
        try:
            with pytest.raises(IncompleteError) as caught:
                reader.recv_exactly(10**12)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (len(caught.value.partial), reader.buffered, caught.value.expected) == (300_000, 300_000, 10**12)
        assert peak < 4 * 300_000 + 8 * CHUNK_BYTES
        assert reader.recv_exactly(300_000) == bytes(300_000)

    run(main)


def test_a_limit_for_announced_lengths():
    reader = Buffered(Pieces(b"abc"))
    with pytest.raises(LimitError, match="4 bytes"):
        reader.recv_exactly(4, limit_bytes=3)
    assert reader.stream.calls == 0
    assert reader.recv_exactly(3, limit_bytes=3) == b"abc"


# -- limits


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\r\n\r\n"])
@pytest.mark.parametrize("cut", [singly, lambda data: [data], lambda data: [data[:3], data[3:]]])
def test_the_limit_counts_what_comes_before_the_separator(cut, separator, keep):
    data = b"12345" + separator + b"more"
    for limit in range(8):
        reader = Buffered(Pieces(*cut(data)))
        if limit < 5:
            for _ in range(2):
                with pytest.raises(LimitError, match=f"more than {limit} bytes"):
                    reader.recv_until(separator, limit_bytes=limit, keep=keep)
        assert reader.recv_until(separator, limit_bytes=5) == b"12345" + separator
        assert reader.recv(4)[:1] == b"m"


def test_limits_of_lines():
    reader = Buffered(Pieces(b"short\n", b"a long line\n", b"\nlast\n"), limit_bytes=5)
    lines = iter(reader)
    assert next(lines) == b"short\n"
    with pytest.raises(LimitError):
        next(lines)
    with pytest.raises(LimitError):
        reader.readline(limit_bytes=10)
    assert reader.readline(limit_bytes=11) == b"a long line\n"
    assert reader.readline(limit_bytes=0) == b"\n"
    with pytest.raises(LimitError):
        reader.readline(limit_bytes=0)
    assert list(reader) == [b"last\n"]
    assert (reader.limit_bytes, Buffered(Pieces()).limit_bytes) == (5, LIMIT_BYTES)


def test_a_peer_without_an_end_is_stopped_at_the_limit():
    reader = Buffered(Pieces(*[b"x" * 1000] * 1000))
    with pytest.raises(LimitError):
        reader.readline()
    assert LIMIT_BYTES < reader.buffered <= LIMIT_BYTES + CHUNK_BYTES
    assert reader.stream.calls == LIMIT_BYTES // 1000 + 1


# -- what it costs


@pytest.fixture
def searched(monkeypatch):
    """How many bytes each search looked at."""
    sizes = []
    find = module._find

    def counting(data, mark, start, end):
        sizes.append(max(0, end - start))
        return find(data, mark, start, end)

    monkeypatch.setattr(module, "_find", counting)
    return sizes


@pytest.mark.parametrize("interrupted", [False, True])
@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"12345678"])
def test_a_byte_at_a_time_is_searched_once(searched, separator, interrupted):
    """Also where the caller tries again after each byte, because of a time-out."""
    data = b"x" * 20_000 + separator
    pieces = [one for byte in singly(data) for one in (byte, TimeoutError())] if interrupted else singly(data)
    reader = Buffered(Pieces(*pieces))
    while True:
        try:
            assert reader.recv_until(separator) == data
            break
        except TimeoutError:
            continue
    assert sum(searched) <= 2 * len(data) * (len(separator) + 1)


def test_the_limit_is_not_searched_again(searched):
    reader = Buffered(Pieces(*[b"x" * 50_000] * 2))
    for _ in range(100):
        with pytest.raises(LimitError):
            reader.readline()
    assert sum(searched) <= 2 * LIMIT_BYTES


def test_no_search_goes_beyond_the_limit(searched):
    reader = Buffered(Pieces(b"\n" * 1000))
    for _ in range(1000):
        reader.readline(limit_bytes=10)
    assert sum(searched) <= 1000 * 11


@pytest.fixture
def moved(monkeypatch):
    """How many bytes were moved: into new objects made of what is held, and by taking away what is in front of it."""
    counts = []
    held, fill = Buffered._held, Buffered._fill

    def counting_held(self):
        data = held(self)
        counts.append(len(data))
        return data

    def counting_fill(self):
        before, start = self._data, self._start
        more = fill(self)
        if type(self._data) is bytearray and (self._data is not before or self._start != start):
            counts.append(self.buffered)
        return more

    monkeypatch.setattr(Buffered, "_held", counting_held)
    monkeypatch.setattr(Buffered, "_fill", counting_fill)
    return counts


@pytest.mark.parametrize("sizes", [[1] * 5000, [1000, 1] * 1000, [1, 1000] * 1000, [3, 5, 7] * 1000])
@pytest.mark.parametrize("line", [1, 10, 2999])
def test_each_byte_is_moved_a_constant_number_of_times(moved, sizes, line):
    total = sum(sizes) // line * line
    reader = Buffered(Pieces(*[b"x" * size for size in sizes]))
    for _ in range(total // line):
        reader.recv_exactly(line)
    assert sum(moved) <= 4 * sum(sizes)


def test_a_window_that_slides_moves_little(moved):
    """Much is held all the time, little is consumed and little comes."""
    reader = Buffered(Pieces(b"x" * 10_000, *singly(b"y" * 20_000)))
    for _ in range(20_000):
        reader.peek_exactly(10_001)
        reader.recv(1)
    assert sum(moved) <= 4 * 30_000


def test_one_receive_for_each_piece(run, pair):
    ours, theirs = pair
    calls = []

    class Counted:
        def recv(self, n):
            calls.append(n)
            return ours.recv(n)

    def main():
        reader = Buffered(Counted())
        theirs.sendall(b"a\nb\nc\n" * 100 + b"12345")
        assert [reader.readline() for _ in range(300)] == [b"a\n", b"b\n", b"c\n"] * 100
        assert reader.recv_exactly(5) == b"12345"
        assert calls == [CHUNK_BYTES]

    run(main)


def test_a_piece_is_not_copied():
    piece = b"a whole line\n"
    reader = Buffered(Pieces(piece))
    assert reader.readline() is piece


def test_what_is_large_is_received_straight_into_the_result():
    """The stream sees the very memory: no receive takes more than is missing, and growth follows what came."""
    asked = []

    class Stream(PiecesInto):
        def recv(self, n):
            raise AssertionError("not by way of the buffer")

        def recv_into(self, buffer):
            asked.append(len(buffer))
            buffer[:] = b"y" * len(buffer)
            return len(buffer)

    reader = Buffered(Stream())
    n = 1_000_000
    assert reader.recv_exactly(n) == b"y" * n
    assert sum(asked) == n
    assert len(asked) <= 4
    assert reader.buffered == 0


def test_an_idle_reader_holds_no_buffer(run, pair):
    ours, theirs = pair

    def main():
        reader = Buffered(ours)
        theirs.sendall(b"x" * 200_000 + b"\n")
        reader.readline(limit_bytes=200_000)
        assert reader._data == b""

    run(main)


# -- time-outs, cancellation, broken streams


INTERRUPTIONS = [
    TimeoutError("timed out"),
    BlockingIOError(errno.EAGAIN, "again"),
    Cancelled("enough"),
    OSError("reset"),
]


@pytest.mark.parametrize("stream", [Pieces, PiecesInto])
@pytest.mark.parametrize("error", INTERRUPTIONS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda r: r.recv_exactly(6), b"abcde\n"),
        (lambda r: r.recv_until(b"e\n"), b"abcde\n"),
        (lambda r: r.readline(), b"abcde\n"),
        (lambda r: r.peek_exactly(6), b"abcde\n"),
    ],
)
def test_an_error_in_the_middle_loses_nothing(stream, error, call, expected):
    reader = Buffered(stream(b"ab", error, b"cd", error, b"e\nf"))
    for held in (2, 4):
        with pytest.raises(type(error)):
            call(reader)
        assert reader.buffered == held
    assert call(reader) == expected


def test_an_error_in_a_large_receive_loses_nothing():
    size = 3 * CHUNK_BYTES
    parts = [bytes([value]) * CHUNK_BYTES for value in b"abc"]
    for at in range(3):
        pieces = [*parts[:at], TimeoutError(), *parts[at:], b"rest"]
        reader = Buffered(PiecesInto(b"xy", *pieces))
        assert reader.peek(2) == b"xy"
        with pytest.raises(TimeoutError):
            reader.recv_exactly(size + 2)
        assert reader.buffered == 2 + at * CHUNK_BYTES
        assert reader.peek(3)[:2] == b"xy"
        assert reader.recv_exactly(size + 2) == b"xy" + b"".join(parts)
        assert reader.recv(10) == b"rest"


@pytest.mark.parametrize("limit", ["settimeout", "scope", "cancel"])
@pytest.mark.parametrize("size", [10, 5 * CHUNK_BYTES])
def test_time_limits_and_cancellation_on_sockets(run, backend, pair, limit, size):
    ours, theirs = pair
    data = bytes(index % 251 for index in range(size))

    def main():
        reader = Buffered(ours)

        def hurried():
            if limit == "settimeout":
                ours.settimeout(5)
                try:
                    reader.recv_exactly(size)
                finally:
                    ours.settimeout(None)
            with netnet.timeout(5):
                reader.recv_exactly(size)

        half = size // 2
        theirs_done = netnet.spawn(theirs.sendall, data[:half])
        if limit == "cancel":
            task = netnet.spawn(reader.recv_exactly, size)
            theirs_done.join()
            wait_all_parked()
            assert reader.buffered == half
            task.cancel()
            task.join()
        else:
            with pytest.raises(TimeoutError):
                hurried()
        assert reader.buffered == half
        netnet.spawn(theirs.sendall, data[half:])
        assert reader.recv_exactly(size) == data

    run(main, clock=VirtualClock())


def test_a_cancelled_task_is_refused_even_what_is_held(run, pair):
    def main():
        reader = Buffered(pair[0])
        feed(reader, pair[1], b"a\nb\n")
        with netnet.CancelScope() as scope:
            scope.cancel()
            reader.readline()
            pytest.fail("it was cancelled")
        assert reader.readline() == b"a\n"

    run(main)


def test_reading_what_is_held_lets_the_others_run(run, pair):
    def main():
        reader = Buffered(pair[0])
        feed(reader, pair[1], b"\n" * 1000)
        ran = []
        netnet.spawn(ran.append, True)
        for _ in range(1000):
            assert reader.readline() == b"\n"
        assert ran

    run(main)


def test_closing_ends_the_one_who_reads(run, pair):
    ours, theirs = pair

    def main():
        for size in (10, 10 * CHUNK_BYTES):
            one, other = socketpair()
            with other:
                reader = Buffered(one)
                feed(reader, other, b"abc")
                task = netnet.spawn(reader.recv_exactly, size)
                wait_all_parked()
                reader.close()
                with pytest.raises(ClosedError):
                    task.result()
                assert reader.buffered == 0
                with pytest.raises(ClosedError):
                    reader.readline()

    run(main)


def test_closing_drops_what_is_held(pair):
    reader = Buffered(pair[0])
    feed(reader, pair[1], b"a\nb\n")
    reader.close()
    assert (reader.buffered, pair[0].fileno()) == (0, -1)
    with pytest.raises(ClosedError):
        reader.readline()


# -- two at once


READING = [
    lambda r: r.recv(1),
    lambda r: r.recv_into(bytearray(1)),
    lambda r: r.recv_exactly(1),
    lambda r: r.recv_until(b"\n"),
    lambda r: r.readline(),
    lambda r: r.peek(1),
    lambda r: r.peek_exactly(1),
    lambda r: r.take_buffered(),
    lambda r: next(iter(r)),
]


@pytest.mark.parametrize("call", READING)
def test_a_second_reader_is_told_at_once(run, pair, call):
    ours, theirs = pair

    def main():
        reader = Buffered(ours)
        feed(reader, theirs, b"abc")
        task = netnet.spawn(reader.readline)
        wait_all_parked()
        with pytest.raises(BusyError):
            call(reader)
        theirs.sendall(b"\n")
        assert task.result() == b"abc\n"
        theirs.sendall(b"\n")
        call(reader)

    run(main)


def test_one_reads_while_one_writes(run, pair):
    ours, theirs = pair

    def main():
        reader = Buffered(ours)
        task = netnet.spawn(reader.readline)
        wait_all_parked()
        reader.sendall(b"hello")
        assert theirs.recv(10) == b"hello"
        theirs.sendall(b"you\n")
        assert task.result() == b"you\n"

    run(main)


# -- as a stream


def test_it_is_a_stream_itself(pair):
    """Outside a loop, too; and one may stand on another."""
    ours, theirs = pair
    with Buffered(Buffered(ours), limit_bytes=3) as outer:
        assert outer.stream.stream is ours
        assert outer.fileno() == ours.fileno()
        theirs.sendall(b"ab\n" + b"x" * 200_000)
        assert outer.readline() == b"ab\n"
        assert outer.recv_exactly(200_000) == b"x" * 200_000
        assert outer.send(b"out") == 3
        outer.sendall(b"put")
        outer.shutdown(socket.SHUT_WR)
        assert b"".join(theirs) == b"output"
        theirs.shutdown(socket.SHUT_WR)
        assert outer.recv(1) == b""
        assert "0 bytes held" in repr(outer)
    assert ours.fileno() == -1


def test_handing_over(run, pair):
    """A relay, or another protocol, goes on with what is held and with the stream."""
    ours, theirs = pair

    def main():
        reader = Buffered(ours)
        theirs.sendall(b"CONNECT\r\nbytes of the next protocol")
        assert reader.readline() == b"CONNECT\r\n"
        assert reader.take_buffered() == b"bytes of the next protocol"
        assert (reader.take_buffered(), reader.buffered) == (b"", 0)
        theirs.sendall(b"more")
        assert ours.recv(10) == b"more"

    run(main)


def test_the_stream_of_the_standard_library(pair):
    """A plain socket that blocks, and TLS of the ssl module without a loop."""
    one, other = socket.socketpair()
    with one, other:
        other.sendall(b"a\nbcd")
        reader = Buffered(one)
        assert (reader.readline(), reader.recv_exactly(3)) == (b"a\n", b"bcd")
        one.setblocking(False)
        with pytest.raises(BlockingIOError):
            reader.readline()


@pytest.mark.client("openssl")
def test_tls(tmp_path):
    """An ``ssl.SSLSocket``: its time-outs lose nothing, and pieces of any size come in records of 16 KiB."""
    certificate = make_certificate(tmp_path)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate)
    client_side = ssl.create_default_context(cafile=certificate)
    data = bytes(range(256)) * 2000

    def serve(conn):
        with server_side.wrap_socket(conn, server_side=True) as secure:
            with Buffered(secure) as reader:
                while line := reader.readline():
                    secure.sendall(b"%d\n" % len(line) + data)

    def main():
        one, other = socketpair()
        task = netnet.spawn(netnet.to_thread, serve_plain, other.detach(), serve)
        plain = socket.socket(fileno=one.detach())
        plain.settimeout(20)

        def client():
            with client_side.wrap_socket(plain, server_hostname="localhost") as secure:
                reader = Buffered(secure)
                for size in (1, 1000, 50_000):
                    reader.sendall(b"x" * size + b"\n")
                    assert reader.readline() == b"%d\n" % (size + 1)
                    assert reader.recv_exactly(len(data)) == data
                secure.settimeout(0.001)
                with pytest.raises(TimeoutError):
                    reader.readline()

        netnet.to_thread(client)
        task.result()

    netnet.run(main)


def serve_plain(number, serve):
    sock = socket.socket(fileno=number)
    sock.settimeout(20)
    with sock:
        serve(sock)


def make_certificate(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    options = ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    subprocess.run([*command.split(), *options], check=True, capture_output=True, timeout=30)
    with certificate.open("ab") as file:
        file.write(key.read_bytes())
    return certificate


# -- any pieces, against a model


class Model:
    """What the whole byte string gives. Small enough to be seen to be right."""

    def __init__(self, data):
        self.rest = data

    def consume(self, count):
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def recv_exactly(self, n):
        return self.consume(n) if n <= len(self.rest) else IncompleteError

    def peek_exactly(self, n):
        return self.rest[:n] if n <= len(self.rest) else IncompleteError

    def recv_until(self, separator, limit):
        at = self.rest.find(separator)
        if at < 0:
            return LimitError if len(self.rest) >= limit + len(separator) else IncompleteError
        return self.consume(at + len(separator)) if at <= limit else LimitError

    def readline(self, limit):
        return self.recv_until(b"\n", limit) if self.rest else b""


def result_of(call, *args, **options):
    """What a call gives, or the class of the error that it raises; time-outs are tried again."""
    while True:
        try:
            return call(*args, **options)
        except TimeoutError:
            continue
        except (IncompleteError, LimitError) as error:
            return type(error)


ALPHABET = st.sampled_from(b"ab\r\n").map(lambda value: bytes([value]))
PIECES = st.lists(st.one_of(st.lists(ALPHABET, max_size=12).map(b"".join), st.builds(TimeoutError)), max_size=12)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["recv", "recv_into", "peek"]), st.integers(1, 9)),
        st.tuples(st.sampled_from(["recv_exactly", "peek_exactly"]), st.integers(0, 30)),
        st.tuples(st.just("readline"), st.integers(0, 20)),
        st.tuples(st.just("recv_until"), st.sampled_from([b"\n", b"\r\n", b"aab", b"abab"]), st.integers(0, 20)),
        st.tuples(st.just("take_buffered")),
    ),
    max_size=20,
)


@settings(deadline=None, max_examples=400)
@given(
    pieces=PIECES,
    operations=OPERATIONS,
    stream=st.sampled_from([Pieces, PiecesInto]),
    chunk=st.sampled_from([4, 65536]),
)
@example(pieces=[b"ab", b"a", b"ab"], operations=[("recv_until", b"abab", 0)], stream=Pieces, chunk=65536)
@example(pieces=[b"a" * 9, TimeoutError(), b"bb"], operations=[("recv_exactly", 10)] * 2, stream=PiecesInto, chunk=4)
def test_pieces_make_no_difference(pieces, operations, stream, chunk):
    """With small chunks, so that the way straight into the result is taken too."""
    model = Model(b"".join(piece for piece in pieces if isinstance(piece, bytes)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_BYTES", chunk)
        patch.setattr(module, "_FIRST_ROOM_BYTES", chunk)
        reader = Buffered(stream(*pieces))
        for name, *args in operations:
            before = reader.buffered
            if name in ("recv", "peek", "recv_into"):
                got = received(reader, name, args[0])
                assert got == model.rest[: len(got)]
                assert len(got) <= args[0]
                assert bool(got) == bool(model.rest)
                if name != "peek":
                    model.consume(len(got))
            elif name == "take_buffered":
                assert reader.take_buffered() == model.consume(before)
            elif name in ("readline", "recv_until"):
                *mark, limit = args
                assert result_of(getattr(reader, name), *mark, limit_bytes=limit) == getattr(model, name)(*args)
            else:
                assert result_of(getattr(reader, name), *args) == getattr(model, name)(*args)
        assert result_of(reader.recv_exactly, len(model.rest)) == model.rest
        assert result_of(reader.readline) == b""


def received(reader, name, size):
    if name != "recv_into":
        return result_of(getattr(reader, name), size)
    landing = bytearray(size)
    count = result_of(reader.recv_into, landing)
    return bytes(landing[:count])


@settings(deadline=None, max_examples=50)
@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=20), size=st.integers(1, 40))
def test_sockets_and_pieces(data, cuts, size):
    """On a real connection, with a writer that pauses between the pieces."""
    ours, theirs = socketpair()

    def write():
        with theirs:
            last = 0
            for cut in [*sorted(cuts), len(data)]:
                theirs.sendall(data[last:cut])
                last = max(last, min(cut, len(data)))
                netnet.sleep(0)

    def main():
        netnet.spawn(write)
        with Buffered(ours) as reader:
            whole, rest = divmod(len(data), size)
            assert b"".join(reader.recv_exactly(size) for _ in range(whole)) == data[: whole * size]
            with pytest.raises(IncompleteError) as caught:
                reader.recv_exactly(size)
            assert caught.value.partial == data[len(data) - rest :]

    netnet.run(main)


def test_it_knows_what_it_wraps():
    """For type checkers and readers: the wrapped one comes back as it is."""
    ours, theirs = socketpair()
    with ours, theirs:
        reader: Buffered[Socket] = Buffered(ours)
        assert reader.stream is ours
