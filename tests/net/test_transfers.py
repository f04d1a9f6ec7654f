"""``sendfile``, ``splice`` and ``zerocopy_sender`` of sockets, as tasks of a loop and, outside one, against a peer in an
OS thread. Contents are compared by hash; of what is cut off half way every byte is accounted for."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import os
import random
import socket
import sys

import pytest

import netnet
from netnet.kernel import transfer
from netnet.kernel.transfer import SPLICE, Moved, Stop
from netnet.kernel.zerocopy import Notice
from netnet.testing import wait_all_parked
from tests.kernel.test_multicast import own_network
from tests.net.test_sockets_kinds import STREAMS, fill, pair, peer_thread, read_exactly, reset

SIZE = 2_000_003
DATA = random.Random(2).randbytes(SIZE)
SMALL_BUFFER = 1 << 16
PEER_SECONDS = 10

needs_splice = pytest.mark.skipif(not SPLICE, reason="splice(2) is Linux'")
needs_zerocopy = pytest.mark.skipif(sys.platform != "linux", reason="MSG_ZEROCOPY is Linux'")


def digest(data):
    return hashlib.sha256(data).hexdigest()


def same(data, expected):
    """Whether these are equal, told without printing megabytes."""
    return (len(data), digest(data)) == (len(expected), digest(expected))


def as_tasks(run, *functions):
    def main():
        with netnet.TaskGroup() as group:
            tasks = [group.spawn(function) for function in functions]
        return [task.result() for task in tasks]

    return run(main)


def as_threads(function, *others):
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(peer_thread(other)) for other in others]
        result = function()
        return [result, *(done.result(20) for done in running)]


@pytest.fixture(params=["tasks", "threads"])
def together(request, run):
    """Runs functions at once: as tasks of a loop, or the first here and the others in OS threads. Returns the results."""
    return functools.partial(as_tasks, run) if request.param == "tasks" else as_threads


def read_to_end(sock):
    return b"".join(sock)


def feed(sock, data=DATA):
    """Sends, and ends the direction."""
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def shrink(*socks):
    """Gives sockets small buffers, so that what is sent soon has no room."""
    for sock in socks:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)


@contextlib.contextmanager
def linked(kind, timeout=None):
    """A pair of which the peer gives up at last, so that what goes wrong in an OS thread comes out."""
    with pair(kind, timeout) as (ours, theirs):
        theirs.settimeout(PEER_SECONDS)
        yield ours, theirs


@contextlib.contextmanager
def chain(source="tcp4", sink="unix", timeout=None):
    """A source and the one who writes to it, a sink and the one who reads from it."""
    with linked(source, timeout) as (ours, writer), linked(sink) as (theirs, reader):
        yield ours, writer, theirs, reader


@contextlib.contextmanager
def noted(seen):
    """Lets an error pass, and keeps it."""
    try:
        yield
    except BaseException as error:
        seen.append(error)
        raise


def cut_off(run, main, cancelled, feeding=None, afterwards=lambda: None):
    """Runs ``main`` as a task, and cancels it once it waits (``cancelled``) or lets its time run out.

    Beside it and ``afterwards``, somebody feeds the socket ``feeding``. Returns the error and what ``afterwards`` does.
    """
    seen = []

    def outer():
        def inner():
            with noted(seen):
                main()

        if feeding is not None:
            netnet.spawn(feed, feeding)
        task = netnet.spawn(inner)
        wait_all_parked()
        if cancelled:
            assert not task.done
            task.cancel()
            task.join()
        else:
            with pytest.raises(TimeoutError):
                task.result()
        return afterwards()

    result = run(outer)
    (error,) = seen
    assert isinstance(error, netnet.Cancelled if cancelled else TimeoutError)
    return error, result


# -- sendfile


@pytest.fixture(params=["file", "buffered file", "BytesIO"])
def opened(request, tmp_path):
    """Opens a file of such a kind with some content."""
    with contextlib.ExitStack() as stack:

        def open_file(data=DATA):
            if request.param == "BytesIO":
                return io.BytesIO(data)
            (tmp_path / "file").write_bytes(data)
            return stack.enter_context(open(tmp_path / "file", "rb", buffering=0 if request.param == "file" else -1))

        yield open_file


@pytest.fixture
def file(tmp_path):
    (tmp_path / "source").write_bytes(DATA)
    with open(tmp_path / "source", "rb") as file:
        yield file


@pytest.mark.parametrize(
    ("offset", "count", "expected"),
    [
        (0, None, SIZE),
        (0, SIZE, SIZE),
        (0, SIZE + 1, SIZE),
        (0, 1, 1),
        (1_000_001, None, SIZE - 1_000_001),
        (1_000_001, 500_000, 500_000),
        (SIZE - 10, 100, 10),
    ],
)
@pytest.mark.parametrize("kind", ["tcp4", "unix"])
def test_sendfile(together, opened, kind, offset, count, expected):
    file = opened()
    with linked(kind) as (ours, theirs):

        def send():
            sent = ours.sendfile(file, offset, count)
            ours.shutdown(socket.SHUT_WR)
            return sent

        sent, data = together(send, lambda: read_to_end(theirs))
    assert sent == expected
    assert file.tell() == offset + expected
    assert same(data, DATA[offset : offset + expected])


@pytest.mark.parametrize(("data", "offset"), [(b"", 0), (b"", 5), (b"abc", 3), (b"abc", 1000)])
@pytest.mark.parametrize("count", [None, 1])
def test_sendfile_of_nothing(together, opened, data, offset, count):
    with linked("tcp4") as (ours, theirs):
        (sent,) = together(lambda: ours.sendfile(opened(data), offset, count))
        ours.close()
        assert sent == 0
        assert theirs.recv(1) == b""


def test_sendfile_of_a_file_without_a_size_that_can_be_known():
    with linked("tcp4") as (ours, theirs), open("/proc/self/status", "rb") as file:
        sent = ours.sendfile(file)
        assert sent > 0
        assert read_exactly(theirs, sent).startswith(b"Name:")


def test_sendfile_on_every_backend(run, backend, file):
    with linked("tcp4") as (ours, theirs):

        def main():
            reader = netnet.spawn(read_exactly, theirs, SIZE)
            assert ours.sendfile(file) == SIZE
            assert same(reader.result(), DATA)

        run(main)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((0, 0), ValueError), ((0, -1), ValueError), ((-1,), (ValueError, OSError)), ((0, 1.5), TypeError)],
)
def test_sendfile_of_bad_numbers_sends_nothing(opened, arguments, error):
    with linked("tcp4") as (ours, theirs):
        with pytest.raises(error):
            ours.sendfile(opened(), *arguments)
        ours.close()
        assert theirs.recv(1) == b""


def test_sendfile_where_it_cannot_be(file, tmp_path):
    with linked("udp4") as (ours, _), pytest.raises(ValueError):
        ours.sendfile(file)
    with linked("tcp4", timeout=0) as (ours, _), pytest.raises(ValueError, match="non-blocking"):
        ours.sendfile(file)
    with linked("tcp4") as (ours, _), open(tmp_path / "source", encoding="latin-1") as text:
        with pytest.raises(ValueError):
            ours.sendfile(text)
        ours.close()
        with pytest.raises(netnet.ClosedError):
            ours.sendfile(file)
    assert file.tell() == 0


@pytest.mark.parametrize("cancelled", [True, False], ids=["cancelled", "timed out"])
@pytest.mark.parametrize("kind", STREAMS)
def test_sendfile_cut_off_half_way_leaves_the_position_behind_what_was_sent(run, file, kind, cancelled):
    with linked(kind, None if cancelled else 0.05) as (ours, theirs):
        shrink(ours, theirs)
        cut_off(run, lambda: ours.sendfile(file, 1000), cancelled)
        ours.close()
        data = read_to_end(theirs)
    assert 0 < len(data) < SIZE
    assert file.tell() == 1000 + len(data)
    assert same(data, DATA[1000 : 1000 + len(data)])


def test_sendfile_to_a_peer_that_resets(together, file):
    with linked("tcp4") as (ours, theirs):
        shrink(ours, theirs)

        def read_and_reset():
            read_exactly(theirs, 100_000)
            reset(theirs)

        def send():
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                ours.sendfile(file)

        together(send, read_and_reset)
    assert 100_000 <= file.tell() < SIZE


def test_sendfile_to_a_peer_that_is_gone(together, file):
    with linked("unix") as (ours, theirs):
        theirs.close()

        def send():
            with pytest.raises(BrokenPipeError):
                ours.sendfile(file)

        together(send)
    assert file.tell() == 0


# -- splice


def splice_all(chained, together):
    ours, writer, theirs, reader = chained

    def move():
        moved = ours.splice(theirs)
        theirs.shutdown(socket.SHUT_WR)
        return moved

    moved, data, _ = together(move, lambda: read_to_end(reader), lambda: feed(writer))
    assert moved == Moved(SIZE, Stop.END)
    assert moved.able
    assert same(data, DATA)


@needs_splice
@pytest.mark.parametrize("sink", ["tcp4", "unix"])
@pytest.mark.parametrize("source", ["tcp4", "tcp6"])
def test_splice_until_the_end(together, source, sink):
    with chain(source, sink) as chained:
        splice_all(chained, together)


@needs_splice
@pytest.mark.parametrize("sink", ["tcp4", "unix"])
def test_splice_between_tasks_from_a_unix_socket(run, sink):
    with chain("unix", sink) as chained:
        splice_all(chained, lambda *functions: as_tasks(run, *functions))


@needs_splice
def test_splice_on_every_backend(run, backend):
    with chain() as (ours, writer, theirs, reader):
        shrink(ours, writer, theirs, reader)

        def main():
            netnet.spawn(feed, writer)
            reading = netnet.spawn(read_exactly, reader, SIZE)
            assert ours.splice(theirs) == (SIZE, Stop.END)
            assert same(reading.result(), DATA)

        run(main)


@needs_splice
@pytest.mark.parametrize(
    ("count", "expected", "stop"),
    [
        (0, 0, Stop.COUNT),
        (1, 1, Stop.COUNT),
        (SIZE - 5, SIZE - 5, Stop.COUNT),
        (SIZE, SIZE, Stop.COUNT),
        (SIZE + 1, SIZE, Stop.END),
    ],
)
def test_splice_takes_no_more_than_asked_for(together, count, expected, stop):
    with chain() as (ours, writer, theirs, reader):

        def move():
            return ours.splice(theirs, count), read_to_end(ours)

        (moved, rest), data, _ = together(move, lambda: read_exactly(reader, expected), lambda: feed(writer))
    assert moved == (expected, stop)
    assert same(data, DATA[:expected])
    assert same(rest, DATA[expected:])


@needs_splice
@pytest.mark.parametrize("count", [None, 1])
def test_splice_of_a_stream_that_has_ended(together, count):
    with chain() as (ours, writer, theirs, reader):
        writer.close()
        assert together(lambda: ours.splice(theirs, count)) == [(0, Stop.END)]


@needs_splice
@pytest.mark.parametrize("number", [False, True], ids=["object", "descriptor"])
def test_splice_into_a_file(together, tmp_path, number):
    with linked("tcp4") as (ours, writer), open(tmp_path / "sink", "wb", buffering=0) as sink:
        moved, _ = together(lambda: ours.splice(sink.fileno() if number else sink), lambda: feed(writer))
        assert sink.tell() == SIZE
    assert moved == (SIZE, Stop.END)
    assert same((tmp_path / "sink").read_bytes(), DATA)


@needs_splice
@pytest.mark.parametrize("blocking", [False, True])
def test_splice_into_a_pipe(together, blocking):
    with linked("tcp4") as (ours, writer):
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, blocking)

        def move():
            try:
                return ours.splice(write_end)
            finally:
                os.close(write_end)

        def read():
            data = bytearray()
            os.set_blocking(read_end, False)
            while True:
                netnet.wait_readable(read_end)
                chunk = os.read(read_end, 1 << 16)
                if not chunk:
                    os.close(read_end)
                    return data
                data += chunk

        moved, data, _ = together(move, read, lambda: feed(writer))
    assert moved == (SIZE, Stop.END)
    assert same(data, DATA)


@needs_splice
@pytest.mark.parametrize("count", [None, SIZE])
def test_splice_into_a_file_for_appending_is_not_able_and_loses_nothing(together, tmp_path, count):
    (tmp_path / "log").write_bytes(b"before ")
    with linked("tcp4") as (ours, writer), open(tmp_path / "log", "ab", buffering=0) as sink:

        def move():
            moved = ours.splice(sink, count)
            return moved, read_to_end(ours)

        (moved, rest), _ = together(move, lambda: feed(writer))
    assert moved.stop is Stop.UNABLE
    assert not moved.able
    assert moved.bytes > 0
    assert same((tmp_path / "log").read_bytes(), b"before " + DATA[: moved.bytes])
    assert same(rest, DATA[moved.bytes :])


@needs_splice
def test_splice_without_a_pipe_to_be_had_touches_nothing(together, monkeypatch):
    transfer.pipes.clear()
    monkeypatch.setattr(transfer, "PIPES_MAX", 0)
    with chain() as (ours, writer, theirs, _):
        writer.sendall(b"stays")
        assert together(lambda: ours.splice(theirs)) == [(0, Stop.UNABLE)]
        assert ours.recv(10) == b"stays"


@needs_splice
def test_splice_stops_at_urgent_data_and_loses_nothing(together):
    with chain("tcp4") as (ours, writer, theirs, reader):
        writer.sendall(b"before")
        writer.send(b"!", socket.MSG_OOB)
        writer.sendall(b"behind")
        writer.shutdown(socket.SHUT_WR)
        assert together(lambda: ours.splice(theirs)) == [(6, Stop.UNABLE)]
        assert reader.recv(100) == b"before"
        assert ours.recv(1, socket.MSG_OOB) == b"!"
        assert read_to_end(ours) == b"behind"


@needs_splice
def test_splice_of_bad_arguments_takes_nothing():
    with chain() as (ours, writer, theirs, _):
        writer.sendall(b"stays")
        with pytest.raises(ValueError, match="negative"):
            ours.splice(theirs, -1)
        assert ours.recv(10) == b"stays"


def refused_as_closed(call):
    """Makes a call on what was closed: its error."""
    with pytest.raises(netnet.ClosedError) as caught:
        call()
    return caught.value


@needs_splice
def test_splice_of_a_closed_socket(together):
    with chain() as (ours, _, theirs, _):
        ours.close()
        (error,) = together(lambda: refused_as_closed(lambda: ours.splice(theirs)))
    assert (error.bytes_sent, error.undelivered) == (0, b"")


@needs_splice
def test_splice_into_a_closed_socket_hands_back_what_it_took(together):
    with chain() as (ours, writer, theirs, _):
        writer.sendall(b"taken")
        theirs.close()
        (error,) = together(lambda: refused_as_closed(lambda: ours.splice(theirs)))
    assert (error.bytes_sent, error.undelivered) == (0, b"taken")


@needs_splice
def test_splice_of_a_socket_that_never_waits(together):
    with chain(timeout=0) as (ours, writer, theirs, reader):

        def move():
            with pytest.raises(BlockingIOError) as caught:
                ours.splice(theirs)
            return caught.value

        (error,) = together(move)
        assert (error.bytes_sent, error.undelivered) == (0, b"")
        writer.sendall(b"moved")
        (error,) = together(move)
        assert (error.bytes_sent, error.undelivered) == (5, b"")
        assert reader.recv(10) == b"moved"


@needs_splice
@pytest.mark.parametrize("cancelled", [True, False], ids=["cancelled", "timed out"])
@pytest.mark.parametrize("sink", ["tcp4", "unix"])
@pytest.mark.parametrize("source", ["tcp4", "unix"])
def test_splice_cut_off_half_way_accounts_for_every_byte(run, source, sink, cancelled):
    with chain(source, sink) as (ours, writer, theirs, reader):
        shrink(theirs, reader)
        if not cancelled:
            theirs.settimeout(0.05)

        def afterwards():
            theirs.close()
            return read_to_end(reader), read_to_end(ours)

        error, (data, rest) = cut_off(run, lambda: ours.splice(theirs), cancelled, writer, afterwards)
    assert len(data) == error.bytes_sent > 0
    assert error.undelivered, "the sink had room for all"
    assert same(data + error.undelivered + rest, DATA)


@needs_splice
def test_splice_cancelled_while_nothing_comes(run):
    with chain() as (ours, writer, theirs, reader):
        writer.sendall(b"moved")
        error, _ = cut_off(run, lambda: ours.splice(theirs), True)
        assert (error.bytes_sent, error.undelivered) == (5, b"")
        assert reader.recv(10) == b"moved"


@needs_splice
def test_splice_into_a_pipe_cancelled_while_it_is_full(run):
    with linked("tcp4") as (ours, writer):
        read_end, write_end = os.pipe2(os.O_NONBLOCK)

        def afterwards():
            os.close(write_end)
            with open(read_end, "rb") as reader:
                return reader.read(), read_to_end(ours)

        error, (data, rest) = cut_off(run, lambda: ours.splice(write_end), True, writer, afterwards)
    assert len(data) == error.bytes_sent > 0
    assert error.undelivered
    assert same(data + error.undelivered + rest, DATA)


@needs_splice
def test_splice_into_a_file_for_appending_that_breaks_hands_back_what_it_took(together):
    with linked("tcp4") as (ours, writer), open("/dev/full", "ab", buffering=0) as sink:
        writer.sendall(b"taken")

        def move():
            with pytest.raises(OSError) as caught:
                ours.splice(sink)
            return caught.value

        (error,) = together(move)
    assert error.errno == errno.ENOSPC
    assert (error.bytes_sent, error.undelivered) == (0, b"taken")


@needs_splice
def test_splice_of_a_peer_that_resets(together):
    with chain("tcp4") as (ours, writer, theirs, reader):

        def move():
            with pytest.raises(ConnectionResetError) as caught:
                ours.splice(theirs)
            return caught.value

        def read_and_reset_the_writer():
            data = read_exactly(reader, 5)
            reset(writer)
            return data

        writer.sendall(b"first")
        error, data = together(move, read_and_reset_the_writer)
    assert data == b"first"
    assert (error.bytes_sent, error.undelivered) == (5, b"")


@needs_splice
def test_splice_into_a_peer_that_resets(together):
    with chain("tcp4", "tcp4") as (ours, writer, theirs, reader):
        shrink(theirs, reader)

        def move():
            with pytest.raises((ConnectionResetError, BrokenPipeError)) as caught:
                ours.splice(theirs)
            return caught.value, read_to_end(ours)

        def read_and_reset():
            data = read_exactly(reader, 10_000)
            reset(reader)
            return data

        (error, rest), data, _ = together(move, read_and_reset, lambda: feed(writer))
    assert 10_000 <= len(data) <= error.bytes_sent
    assert same(data, DATA[: len(data)])
    assert same(DATA[: error.bytes_sent] + error.undelivered + rest, DATA)


# -- zerocopy_sender


def hold_back(ours, theirs):
    """Fills the way to a peer that does not read, up to some bytes less: what is sent next stays with the sender."""
    shrink(theirs)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 21)
    ours.sendall(bytes(1 << 20))
    return 1 << 20


@needs_zerocopy
@pytest.mark.parametrize("kind", ["tcp4", "tcp6"])
def test_zerocopy_over_a_stream(together, kind):
    with linked(kind) as (ours, theirs):

        def send():
            with ours.zerocopy_sender() as sender:
                sender.sendall(DATA)
                sender.sendall(bytearray(DATA))
                sender.sendall(memoryview(DATA).cast("H" if SIZE % 2 == 0 else "B"))
                sender.sendall(b"")
            ours.shutdown(socket.SHUT_WR)
            return sender

        sender, data = together(send, lambda: read_to_end(theirs))
    assert same(data, DATA * 3)
    assert sender.pending == 0
    assert sender.through >= 3
    assert sender.copied == sender.through  # loopback copies


@needs_zerocopy
@pytest.mark.parametrize("kind", ["udp4", "udp6"])
def test_zerocopy_of_datagrams(together, kind):
    datagrams = [DATA[:size] for size in (1, 1000, 30_000, 60_000)]
    with linked(kind) as (ours, theirs):

        def send():
            with ours.zerocopy_sender() as sender:
                for datagram in datagrams:
                    sender.sendall(datagram)
            return sender

        (sender,) = together(send)
        assert [theirs.recv(1 << 16) for _ in datagrams] == datagrams
    assert (sender.pending, sender.through, sender.copied) == (0, len(datagrams), len(datagrams))


@needs_zerocopy
def test_zerocopy_on_every_backend(run, backend):
    with linked("tcp4") as (ours, theirs):

        def main():
            reader = netnet.spawn(read_exactly, theirs, SIZE)
            with ours.zerocopy_sender() as sender:
                sender.sendall(DATA)
            assert sender.pending == 0
            assert same(reader.result(), DATA)

        run(main)


@needs_zerocopy
def test_notices_count_the_sends():
    with linked("udp4") as (ours, theirs):
        sender = ours.zerocopy_sender()
        assert sender.notices() == []
        for number in range(5):
            assert sender.send(b"x" * 1000) == 1000
            assert sender.pending == number + 1
        assert sender.send(b"") == 0
        assert sender.pending == 5
        notices = []
        while sender.pending:
            notices += sender.notices()
        assert [number for notice in notices for number in range(notice.first, notice.last + 1)] == [0, 1, 2, 3, 4]
        assert all(type(notice) is Notice and notice.copied for notice in notices)
        assert (sender.through, sender.copied) == (5, 5)
        assert sender.notices() == []


@needs_zerocopy
def test_what_is_pending_is_held_and_let_go_of_when_it_is_through(together):
    with linked("tcp4") as (ours, theirs):
        before = hold_back(ours, theirs)
        data = bytearray(b"x" * 50_000)
        sender = ours.zerocopy_sender()

        def send():
            sender.sendall(data)

        together(send)
        assert sender.pending > 0
        assert sender.notices() == []
        with pytest.raises(BufferError):
            data.append(0)
        together(sender.wait, lambda: read_exactly(theirs, before + len(data)))
        assert sender.pending == 0
        data.append(0)
        sender.wait()


@needs_zerocopy
def test_leaving_the_block_waits_until_all_is_through(run):
    with linked("tcp4") as (ours, theirs):

        def main():
            before, sent = hold_back(ours, theirs), netnet.Event()
            sender = ours.zerocopy_sender()

            def send():
                with sender:
                    sender.sendall(bytes(50_000))
                    sent.set()

            task = netnet.spawn(send)
            sent.wait()
            wait_all_parked()
            assert sender.pending > 0
            assert not task.done
            read_exactly(theirs, before + 50_000)
            task.result()
            assert sender.pending == 0

        run(main)


@needs_zerocopy
def test_leaving_the_block_by_an_exception_does_not_wait(together):
    with linked("tcp4") as (ours, theirs):
        hold_back(ours, theirs)

        def send():
            with pytest.raises(KeyError):
                with ours.zerocopy_sender() as sender:
                    sender.sendall(bytes(50_000))
                    raise KeyError
            return sender

        (sender,) = together(send)
        assert sender.pending > 0


@needs_zerocopy
def test_waiting_has_the_time_limit_of_the_socket_and_can_be_tried_again(together):
    with linked("tcp4") as (ours, theirs):
        before = hold_back(ours, theirs)
        sender = ours.zerocopy_sender()

        def send():
            sender.sendall(bytes(50_000))
            ours.settimeout(0.02)
            with pytest.raises(TimeoutError):
                sender.wait()
            ours.settimeout(None)

        together(send)
        assert sender.pending > 0
        together(sender.wait, lambda: read_exactly(theirs, before + 50_000))
        assert sender.pending == 0


@needs_zerocopy
@pytest.mark.parametrize("cancelled", [True, False], ids=["cancelled", "timed out"])
def test_a_zerocopy_send_cut_off_half_way_tells_how_much_was_sent(run, cancelled):
    with linked("tcp4", None if cancelled else 0.05) as (ours, theirs):
        shrink(ours, theirs)
        sender = ours.zerocopy_sender()
        error, _ = cut_off(run, lambda: sender.sendall(DATA), cancelled)
        ours.close()
        data = read_to_end(theirs)
    assert 0 < len(data) == error.bytes_sent < SIZE
    assert same(data, DATA[: len(data)])


@needs_zerocopy
def test_a_zerocopy_send_without_waiting_where_there_is_no_room():
    with linked("tcp4", timeout=0) as (ours, theirs):
        fill(ours)
        sender = ours.zerocopy_sender()
        with pytest.raises(BlockingIOError):
            sender.send(b"x")
        with pytest.raises(BlockingIOError) as caught:
            sender.sendall(b"x")
        assert caught.value.bytes_sent == 0
        assert sender.pending == 0


@needs_zerocopy
def test_where_too_much_is_pending_it_sends_by_copying(together):
    """A limit so low that the kernel takes nothing by reference."""
    with own_network():
        try:
            with open("/proc/sys/net/core/optmem_max", "w") as limit:
                limit.write("1")
        except OSError as error:
            pytest.skip(f"the limit cannot be set for one network: {error}")
        with linked("tcp4") as (ours, theirs):
            with ours.zerocopy_sender() as sender:
                with pytest.raises(OSError) as caught:
                    sender.send(b"x")
                assert caught.value.errno == errno.ENOBUFS
                _, data = together(lambda: sender.sendall(DATA), lambda: read_exactly(theirs, SIZE))
            assert (sender.pending, sender.through) == (0, 0)
        assert same(data, DATA)


@needs_zerocopy
@pytest.mark.parametrize("kind", ["unix", "unix-datagram"])
def test_zerocopy_is_not_possible_on_unix_sockets(kind):
    with linked(kind) as (ours, theirs):
        with pytest.raises(OSError, match="SO_ZEROCOPY") as caught:
            ours.zerocopy_sender()
        assert caught.value.errno == errno.EOPNOTSUPP
        ours.send(b"still works")
        assert theirs.recv(100) == b"still works"


@needs_zerocopy
def test_zerocopy_on_a_closed_socket(together):
    with linked("tcp4") as (ours, theirs):
        sender = ours.zerocopy_sender()
        ours.close()
        together(lambda: refused_as_closed(lambda: sender.sendall(b"x")))
        together(lambda: refused_as_closed(ours.zerocopy_sender))


@needs_zerocopy
def test_zerocopy_to_a_peer_that_resets(together):
    with linked("tcp4") as (ours, theirs):
        shrink(ours, theirs)
        sender = ours.zerocopy_sender()

        def send():
            with pytest.raises((ConnectionResetError, BrokenPipeError)) as caught:
                sender.sendall(DATA)
            return caught.value

        def read_and_reset():
            read_exactly(theirs, 10_000)
            reset(theirs)

        error, _ = together(send, read_and_reset)
        assert 10_000 <= error.bytes_sent < SIZE
        sender.wait()
        assert sender.pending == 0


@needs_splice
def test_splice_from_a_unix_stream_that_is_written_to_meanwhile(together):
    """Between the splice that finds nothing and the next look something may come: that is no urgent data."""
    with linked("unix") as (ours, writer), linked("tcp4") as (theirs, reader):

        def write_little_by_little():
            for start in range(0, 200_000, 1000):
                writer.sendall(DATA[start : start + 1000])
            writer.shutdown(socket.SHUT_WR)

        def move():
            moved = ours.splice(theirs)
            theirs.shutdown(socket.SHUT_WR)
            return moved

        moved, _, data = together(move, write_little_by_little, lambda: read_to_end(reader))
    assert moved == (200_000, Stop.END)
    assert same(data, DATA[:200_000])


def test_splice_refuses_a_socket_that_would_block_the_thread(run):
    def main():
        one, other = netnet.socketpair()
        sink, reader = socket.socketpair()
        with one, other, sink, reader:
            other.send(b"x")
            with pytest.raises(ValueError, match="blocks"):
                one.splice(sink)
            with pytest.raises(AttributeError):
                one.splice(object())
            assert one.recv(9) == b"x"

    run(main)


def test_a_second_zero_copy_sender_goes_on_where_the_first_ended(run):
    def main():
        with linked("tcp4") as (ours, peer):
            for rounds in (1, 2, 3):
                with ours.zerocopy_sender() as sender:
                    sender.sendall(DATA[:20_000])
                    assert same(read_exactly(peer, 20_000), DATA[:20_000])
                assert (sender.pending, sender.through) == (0, rounds)

    run(main)


def test_zero_copy_that_is_left_by_an_exception_keeps_its_memory_and_resets_what_is_closed(run):
    def main():
        with linked("tcp4") as (ours, peer):
            peer.rcvbuf = 4096
            with pytest.raises(TimeoutError), netnet.timeout(0.05), ours.zerocopy_sender() as sender:
                for _ in range(1000):
                    sender.sendall(bytearray(b"A" * 60_000))
            if not sender.pending:
                pytest.skip("this kernel copied at once: nothing is pending")
            assert ours.linger == 0
            del sender
            junk = [bytearray(b"Z" * 60_000) for _ in range(100)]
            assert set(peer.recv(100_000)) == {ord("A")}
            ours.close()
            with pytest.raises(ConnectionResetError):
                while set(peer.recv(100_000)) == {ord("A")}:
                    pass
            assert junk

    run(main)
