"""What one call of ``send_file`` and ``splice`` moves between descriptors that do not block, and why it stops there.
Contents are compared byte for byte, by hash, wherever a transfer stops half way and is taken up again."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import socket
import struct

import pytest

from netnet.kernel.transfer import SPLICE, Moved, Stop, pipes, send_file, splice

pytestmark = pytest.mark.skipif(not SPLICE, reason="splice(2) is Linux'")

SIZE = 3_000_001
DATA = random.Random(1).randbytes(SIZE)
BUFFER_BYTES = 1 << 17
RESET = struct.pack("ii", 1, 0)


def digest(data):
    return hashlib.sha256(data).hexdigest()


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        return one, listener.accept()[0]


@contextlib.contextmanager
def ends(kind):
    """Two connected sockets whose calls never wait."""
    one, other = tcp_pair() if kind == "tcp" else socket.socketpair()
    with one, other:
        for sock in (one, other):
            sock.setblocking(False)
            if kind == "tcp":  # so that DATA finds no room
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        yield one, other


@pytest.fixture(params=["tcp", "unix"])
def pair(request):
    with ends(request.param) as pair:
        yield pair


@pytest.fixture
def file(tmp_path):
    """A file with DATA, open for reading: its descriptor."""
    (tmp_path / "source").write_bytes(DATA)
    with open(tmp_path / "source", "rb", buffering=0) as source:
        yield source.fileno()


@pytest.fixture
def pipe():
    pipe = pipes.take()
    if pipe is None:
        pytest.skip("no pipe is to be had")
    yield pipe
    pipes.give_back(pipe)


def take(sock, data):
    """Receives what there is; returns whether the peer goes on."""
    with contextlib.suppress(BlockingIOError):
        while chunk := sock.recv(1 << 18):
            data += chunk
        return False
    return True


def receive(sock, count):
    """Exactly so many bytes, and nothing behind them."""
    data = bytearray()
    sock.setblocking(True)
    sock.settimeout(10)
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        assert chunk, f"ended after {len(data)} of {count} bytes"
        data += chunk
    sock.setblocking(False)
    return bytes(data)


def nothing_more(sock):
    with pytest.raises(BlockingIOError):
        sock.recv(1)


# -- send_file


@pytest.mark.parametrize(
    ("offset", "count", "expected", "stop"),
    [
        (0, 1, 1, Stop.COUNT),
        (0, 5000, 5000, Stop.COUNT),
        (1234, 5000, 5000, Stop.COUNT),
        (SIZE - 5000, 5000, 5000, Stop.COUNT),
        (SIZE - 5000, 5001, 5000, Stop.END),
        (SIZE - 5000, None, 5000, Stop.END),
        (SIZE - 1, 1 << 40, 1, Stop.END),
        (SIZE, 1, 0, Stop.END),
        (SIZE, None, 0, Stop.END),
        (SIZE + 1000, 10, 0, Stop.END),
        (0, 0, 0, Stop.COUNT),
        (SIZE + 1000, 0, 0, Stop.COUNT),
    ],
)
def test_offset_count_and_the_end_of_the_file(pair, file, offset, count, expected, stop):
    sink, reader = pair
    moved = send_file(sink.fileno(), file, offset, count)
    assert moved == Moved(expected, stop)
    assert moved.able
    assert receive(reader, expected) == DATA[offset : offset + expected]
    nothing_more(reader)


def test_the_position_of_the_file_does_not_matter_and_stays(pair, file):
    sink, reader = pair
    os.lseek(file, 77, os.SEEK_SET)
    assert send_file(sink.fileno(), file, 10, 100) == (100, Stop.COUNT)
    assert os.lseek(file, 0, os.SEEK_CUR) == 77
    assert receive(reader, 100) == DATA[10:110]


@pytest.mark.parametrize(("offset", "count"), [(-1, 1), (0, -1), (-1, None), (-1, -1)])
def test_negative_numbers(pair, file, offset, count):
    with pytest.raises(ValueError, match="negative"):
        send_file(pair[0].fileno(), file, offset, count)
    nothing_more(pair[1])


@pytest.mark.parametrize("count", [None, SIZE, SIZE + 1])
def test_after_would_block_it_goes_on_where_it_stopped(pair, file, count):
    sink, reader = pair
    data, sent, stops = bytearray(), 0, []
    while not stops or stops[-1] is Stop.SINK:
        moved = send_file(sink.fileno(), file, sent, None if count is None else count - sent)
        sent += moved.bytes
        stops.append(moved.stop)
        take(reader, data)
    assert stops[0] is Stop.SINK, "there was room for all"
    assert stops[-1] is (Stop.COUNT if count == SIZE else Stop.END)
    assert sent == SIZE
    sink.close()
    while take(reader, data):
        pass
    assert digest(data) == digest(DATA)


def test_no_room_at_all(pair, file):
    sink, _ = pair
    with contextlib.suppress(BlockingIOError):
        while True:
            sink.send(bytes(65536))
    with contextlib.suppress(BlockingIOError):
        while True:
            sink.send(b"\0")
    assert send_file(sink.fileno(), file, 0) == (0, Stop.SINK)


def test_a_file_that_shrinks_meanwhile_has_ended(pair, tmp_path):
    sink, reader = pair
    with open(tmp_path / "file", "w+b", buffering=0) as file:
        file.write(DATA)
        first = send_file(sink.fileno(), file.fileno(), 0)
        assert first.stop is Stop.SINK
        file.truncate(first.bytes + 10)
        data = bytearray()
        sent, stop = first
        while stop is Stop.SINK:
            take(reader, data)
            moved = send_file(sink.fileno(), file.fileno(), sent, SIZE - sent)
            sent, stop = sent + moved.bytes, moved.stop
        assert (sent, stop) == (first.bytes + 10, Stop.END)
        file.truncate(5)
        assert send_file(sink.fileno(), file.fileno(), sent) == (0, Stop.END)
    sink.close()
    while take(reader, data):
        pass
    # pages that were sent by reference and cut off before they were read are zero
    assert len(data) == first.bytes + 10


def test_a_file_that_grows_meanwhile_is_sent_to_its_new_end(pair, tmp_path):
    sink, reader = pair
    with open(tmp_path / "file", "w+b", buffering=0) as file:
        file.write(b"one ")
        assert send_file(sink.fileno(), file.fileno(), 0) == (4, Stop.END)
        file.write(b"two")
        assert send_file(sink.fileno(), file.fileno(), 4) == (3, Stop.END)
    assert receive(reader, 7) == b"one two"


def test_a_sink_that_is_a_file(file, tmp_path):
    with open(tmp_path / "copy", "w+b", buffering=0) as copy:
        assert send_file(copy.fileno(), file, 5) == (SIZE - 5, Stop.END)
        assert digest((tmp_path / "copy").read_bytes()) == digest(DATA[5:])


def test_a_sink_that_is_a_pipe(file, pipe):
    moved = send_file(pipe.write_end, file, 0)
    assert moved.stop is Stop.SINK
    assert 0 < moved.bytes <= pipe.size
    pipe.held = moved.bytes
    assert digest(pipe.read_all()) == digest(DATA[: moved.bytes])


def test_a_sink_that_is_opened_for_appending_is_not_able_and_untouched(file, tmp_path):
    with open(tmp_path / "copy", "ab", buffering=0) as copy:
        moved = send_file(copy.fileno(), file, 0)
    assert moved == (0, Stop.UNABLE)
    assert not moved.able
    assert (tmp_path / "copy").read_bytes() == b""


@pytest.mark.parametrize("which", ["sink", "source"])
def test_a_descriptor_that_is_none(pair, file, which):
    with pytest.raises(OSError) as caught:
        send_file(*((-1, file) if which == "sink" else (pair[0].fileno(), -1)), 0, 10)
    assert caught.value.errno == errno.EBADF
    assert caught.value.bytes_sent == 0


def test_a_peer_that_reset(file):
    with ends("tcp") as (sink, reader):
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        assert send_file(sink.fileno(), file, 0, 10) == (10, Stop.COUNT)
        reader.close()
        with pytest.raises(ConnectionResetError) as caught:
            send_file(sink.fileno(), file, 10, 10)
        assert caught.value.bytes_sent == 0


def test_a_peer_that_is_gone(file):
    with ends("unix") as (sink, reader):
        reader.close()
        with pytest.raises(BrokenPipeError) as caught:
            send_file(sink.fileno(), file, 0)
        assert caught.value.bytes_sent == 0


# -- splice


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_splice_moves_so_many_bytes(pair, pipe, kind):
    source, writer = pair
    with ends(kind) as (sink, reader):
        writer.send(DATA[:5000])
        assert splice(source.fileno(), sink.fileno(), pipe, 0) == (0, Stop.COUNT)
        assert splice(source.fileno(), sink.fileno(), pipe, 2000) == (2000, Stop.COUNT)
        assert splice(source.fileno(), sink.fileno(), pipe, 4000) == (3000, Stop.SOURCE)
        assert splice(source.fileno(), sink.fileno(), pipe, 1) == (0, Stop.SOURCE)
        assert splice(source.fileno(), sink.fileno(), pipe, 0) == (0, Stop.COUNT)
        assert receive(reader, 5000) == DATA[:5000]
        nothing_more(reader)
        writer.send(b"last")
        writer.close()
        assert splice(source.fileno(), sink.fileno(), pipe, 100) == (4, Stop.END)
        assert splice(source.fileno(), sink.fileno(), pipe, 100) == (0, Stop.END)
        assert receive(reader, 4) == b"last"
        assert pipe.held == 0


def test_splice_of_a_negative_count(pair, pipe):
    source, writer = pair
    writer.send(b"stays")
    with ends("unix") as (sink, reader):
        with pytest.raises(ValueError, match="negative"):
            splice(source.fileno(), sink.fileno(), pipe, -1)
    assert receive(source, 5) == b"stays"


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_what_the_sink_had_no_room_for_waits_in_the_pipe(pair, pipe, kind):
    source, writer = pair
    with ends(kind) as (sink, reader):
        written, moved, data, sinks = 0, 0, bytearray(), 0
        while moved < SIZE:
            with contextlib.suppress(BlockingIOError):
                while written < SIZE:
                    written += writer.send(memoryview(DATA)[written : written + 65536])
            step = splice(source.fileno(), sink.fileno(), pipe, SIZE - moved)
            moved += step.bytes
            if step.stop is Stop.SINK:
                assert pipe.held > 0
                sinks += 1
                take(reader, data)
            else:
                assert pipe.held == 0
        assert moved == SIZE
        assert sinks, "there was room for all"
        data += receive(reader, SIZE - len(data))
        assert digest(data) == digest(DATA)
        nothing_more(reader)


def test_what_the_pipe_held_goes_first_and_counts(pair, pipe):
    source, writer = pair
    pipe.held = os.write(pipe.write_end, b"held ")
    writer.send(b"and the rest")
    with ends("unix") as (sink, reader):
        assert splice(source.fileno(), sink.fileno(), pipe, 8) == (8, Stop.COUNT)
        assert receive(reader, 8) == b"held and"
        pipe.held = os.write(pipe.write_end, b"more than asked for")
        assert splice(source.fileno(), sink.fileno(), pipe, 4) == (19, Stop.COUNT)
        assert receive(reader, 19) == b"more than asked for"
        assert splice(source.fileno(), sink.fileno(), pipe, 9) == (9, Stop.COUNT)
        assert receive(reader, 9) == b" the rest"


def test_the_end_is_told_after_what_the_pipe_held(pair, pipe):
    source, writer = pair
    pipe.held = os.write(pipe.write_end, b"held")
    writer.close()
    with ends("unix") as (sink, reader):
        assert splice(source.fileno(), sink.fileno(), pipe, 10) == (4, Stop.END)
        assert receive(reader, 4) == b"held"


def test_a_sink_that_cannot_be_spliced_into_loses_nothing(pair, pipe, tmp_path):
    source, writer = pair
    writer.send(DATA[:50_000])
    with open(tmp_path / "log", "ab", buffering=0) as sink:
        moved = splice(source.fileno(), sink.fileno(), pipe, SIZE)
        assert moved == (0, Stop.UNABLE)
        assert not moved.able
        assert pipe.held > 0
        rest = pipe.read_all()
        assert pipe.held == 0
        data = bytearray(rest)
        assert take(source, data)
        assert bytes(data) == DATA[:50_000]
    assert (tmp_path / "log").read_bytes() == b""


@pytest.mark.parametrize("mode", ["wb", "r+b"])
def test_a_sink_that_is_a_file_is_written_from_its_position_on(pair, pipe, tmp_path, mode):
    (tmp_path / "copy").write_bytes(b"before")
    source, writer = pair
    writer.send(b"spliced")
    with open(tmp_path / "copy", mode, buffering=0) as sink:
        sink.seek(3)
        assert splice(source.fileno(), sink.fileno(), pipe, 7) == (7, Stop.COUNT)
        assert sink.tell() == 10
    assert (tmp_path / "copy").read_bytes() == (b"bef" if mode == "r+b" else bytes(3)) + b"spliced"


def test_a_source_that_is_a_file(file, pipe):
    with ends("tcp") as (sink, reader):
        os.lseek(file, 100, os.SEEK_SET)
        assert splice(file, sink.fileno(), pipe, 5000) == (5000, Stop.COUNT)
        assert receive(reader, 5000) == DATA[100:5100]
        os.lseek(file, SIZE - 10, os.SEEK_SET)
        assert splice(file, sink.fileno(), pipe, 5000) == (10, Stop.END)
        assert receive(reader, 10) == DATA[-10:]


def test_a_source_that_has_been_reset(pipe):
    with ends("tcp") as (source, writer), ends("tcp") as (sink, reader):
        writer.send(b"first")
        assert splice(source.fileno(), sink.fileno(), pipe, 5) == (5, Stop.COUNT)
        writer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.close()
        with pytest.raises(ConnectionResetError) as caught:
            splice(source.fileno(), sink.fileno(), pipe, 5)
        assert caught.value.bytes_sent == 0
        assert pipe.held == 0
        assert receive(reader, 5) == b"first"


def test_a_sink_that_has_been_reset_leaves_the_bytes_in_the_pipe(pair, pipe):
    source, writer = pair
    with ends("tcp") as (sink, reader):
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        reader.close()
        writer.send(b"taken")
        with pytest.raises((ConnectionResetError, BrokenPipeError)) as caught:
            splice(source.fileno(), sink.fileno(), pipe, 100)
    assert caught.value.bytes_sent == 0
    assert pipe.held == 5
    assert pipe.read_all() == b"taken"


def test_an_error_tells_what_had_reached_the_sink(pair, pipe):
    source, writer = pair
    pipe.held = os.write(pipe.write_end, b"held")
    writer.close()
    source.close()
    with ends("unix") as (sink, reader):
        with pytest.raises(OSError) as caught:
            splice(source.fileno(), sink.fileno(), pipe, 10)
        assert caught.value.errno == errno.EBADF
        assert caught.value.bytes_sent == 4
        assert receive(reader, 4) == b"held"
