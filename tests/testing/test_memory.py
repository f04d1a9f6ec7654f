"""Sockets in memory: what only they have, and that they do as UNIX sockets do. The rest is in ``test_conformance``."""

from __future__ import annotations

import errno
import math
import socket
import sys
import threading

import pytest

import netnet
from netnet.testing import VirtualClock, memory_datagram_pair, memory_stream_pair, wait_all_parked

PEEK, WAITALL, DONTWAIT = socket.MSG_PEEK, socket.MSG_WAITALL, socket.MSG_DONTWAIT


@pytest.fixture
def stream(run):
    """Runs a function of a pair of streams, on the virtual clock."""

    def of(function, **options):
        def main():
            one, other = memory_stream_pair(**options)
            with one, other:
                return function(one, other)

        return run(main, clock=VirtualClock())

    return of


@pytest.fixture
def datagrams(run):
    """Runs a function of a pair of datagram sockets, on the virtual clock."""

    def of(function, **options):
        def main():
            one, other = memory_datagram_pair(**options)
            with one, other:
                return function(one, other)

        return run(main, clock=VirtualClock())

    return of


# -- as the kernel does

STORIES = {
    "rest then end": ["one.sendall(b'abc')", "one.close()", "other.recv(2)", "other.recv(9)", "other.recv(9)"],
    "send to a closed peer": ["other.close()", "one.send(b'x')", "one.send(b'x')", "one.recv(1)", "one.recv(1)"],
    "closed with data unread": [
        "one.sendall(b'abc')",
        "other.sendall(b'def')",
        "one.close()",
        "other.recv(9)",
        "other.recv(9)",
        "other.recv(9)",
        "other.send(b'x')",
    ],
    "reset is told once, to a reader": [
        "one.sendall(b'abc')",
        "other.close()",
        "one.send(b'x')",
        "one.send(b'x')",
        "one.recv(1)",
        "one.recv(1)",
    ],
    "half-close": [
        "one.shutdown(socket.SHUT_WR)",
        "other.recv(1)",
        "one.send(b'x')",
        "one.send(b'')",
        "other.send(b'back')",
        "one.recv(9)",
        "one.shutdown(socket.SHUT_WR)",
    ],
    "no more reading": [
        "other.send(b'abc')",
        "one.shutdown(socket.SHUT_RD)",
        "other.send(b'x')",
        "one.recv(1)",
        "one.recv(9)",
        "one.recv(9)",
        "one.send(b'still')",
        "other.recv(9)",
    ],
    "both ways down": [
        "one.send(b'abc')",
        "one.shutdown(socket.SHUT_RDWR)",
        "one.recv(1)",
        "one.send(b'x')",
        "other.recv(9)",
        "other.recv(9)",
        "other.send(b'x')",
    ],
    "wrong shutdown": ["one.shutdown(7)", "one.shutdown(-1)"],
    "shutdown after the peer": ["other.close()", "one.shutdown(socket.SHUT_WR)", "one.recv(1)"],
    "peek": ["one.send(b'abc')", "other.recv(2, PEEK)", "other.recv(1)", "other.recv(9, PEEK)", "other.recv(9)"],
    "all or the end": ["one.send(b'abc')", "other.recv(2, WAITALL)", "one.close()", "other.recv(9, WAITALL)"],
    "must not wait": [
        "other.recv(1, DONTWAIT)",
        "other.settimeout(0)",
        "other.recv(1)",
        "other.getblocking()",
        "other.setblocking(True)",
        "other.gettimeout()",
        "other.timeout",
    ],
    "times": ["one.settimeout(0.01)", "one.recv(1)", "one.gettimeout()", "one.settimeout(-1)", "one.settimeout(None)"],
    "odd times": ["one.settimeout(math.inf)", "one.settimeout(math.nan)", "one.settimeout('1')", "one.timeout"],
    "closed": [
        "one.close()",
        "one.close()",
        "one.shutdown(socket.SHUT_WR)",
        "one.settimeout(1)",
        "one.fileno()",
        "one.recv(1)",
        "one.sendall(b'x')",
    ],
    "wrong arguments": ["one.recv(-1)", "one.recv('1')", "one.send('x')", "one.sendall(7)", "one.recv_into(b'x')"],
}


def told(pair, lines):
    """What becomes of the calls, one after the other."""
    names = {"one": pair[0], "other": pair[1], "socket": socket, "math": math}
    names |= {"PEEK": PEEK, "WAITALL": WAITALL, "DONTWAIT": DONTWAIT}
    found = []
    for line in lines:
        try:
            found.append((line, eval(line, names)))
        except Exception as error:
            kind = OSError if isinstance(error, netnet.ClosedError) else type(error)  # the C class has no ClosedError
            found.append((line, kind, getattr(error, "errno", None)))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="the model is Linux's UNIX socket")
@pytest.mark.parametrize("lines", STORIES.values(), ids=STORIES)
def test_streams_do_as_unix_sockets_do(run, lines):
    def main(make_pair):
        one, other = make_pair()
        with one, other:
            return told((one, other), lines)

    real = run(main, netnet.socketpair, clock=VirtualClock())
    assert run(main, memory_stream_pair, clock=VirtualClock()) == real


# -- streams


def test_there_is_no_descriptor_and_closed_tells(stream):
    def main(one, other):
        assert one.fileno() == -1
        assert not one.closed
        one.close()
        assert one.fileno() == -1
        assert one.closed
        assert repr(one) == "<MemoryStream: closed>"
        assert repr(other) == "<MemoryStream: 0 bytes to read>"

    stream(main)


@pytest.mark.parametrize("capacity", [1, 2, 10, 65536])
def test_the_capacity_is_exact(stream, capacity):
    def main(one, other):
        assert one.send(bytes(capacity + 5)) == capacity
        task = netnet.spawn(one.send, b"abc")
        wait_all_parked()
        assert not task.done
        other.recv(1)
        assert task.result() == 1
        one.settimeout(0)
        with pytest.raises(BlockingIOError) as caught:
            one.sendall(b"x")
        assert caught.value.bytes_sent == 0

    stream(main, capacity_bytes=capacity)


def test_the_two_directions_have_room_of_their_own(stream):
    def main(one, other):
        one.sendall(b"x" * 10)
        other.sendall(b"y" * 10)

    stream(main, capacity_bytes=10)


@pytest.mark.parametrize("flags", [0, PEEK, WAITALL])
def test_max_chunk_limits_what_one_recv_returns(stream, flags):
    def main(one, other):
        one.sendall(b"abcdef")
        assert other.recv(6, flags) == (b"abcdef" if flags == WAITALL else b"ab")
        assert other.recv_into(bytearray(9), 0, DONTWAIT) == 2 if flags != WAITALL else True

    stream(main, max_chunk=2)


def test_a_time_limit_is_for_all_of_sendall(stream):
    def main(one, other):
        def read_slowly():
            while True:
                netnet.sleep(3)
                other.recv(1)

        reader = netnet.spawn(read_slowly)
        one.settimeout(10)
        start = netnet.now()
        with pytest.raises(TimeoutError) as caught:
            one.sendall(bytes(100))
        assert netnet.now() - start == 10
        assert caught.value.bytes_sent == 8  # 5 that fit, 3 that were read
        reader.cancel()

    stream(main, capacity_bytes=5)


def test_a_cancelled_recv_of_all_puts_back_what_it_had(stream):
    def main(one, other):
        with pytest.raises(TimeoutError), netnet.timeout(1):
            other.recv(9, WAITALL)
        task = netnet.spawn(other.recv, 9, WAITALL)
        wait_all_parked()
        one.sendall(b"abc")
        wait_all_parked()
        one.sendall(b"de")
        wait_all_parked()
        task.cancel()
        task.join()
        assert other.recv(9) == b"abcde"

    stream(main, capacity_bytes=3)


def test_unknown_flags_are_refused(stream):
    def main(one, other):
        for call, argument in ((one.recv, 1), (one.send, b"x"), (one.sendall, b"x")):
            with pytest.raises(OSError, match="do not know the flags 0x1") as caught:
                call(argument, socket.MSG_OOB)
            assert caught.value.errno == errno.EOPNOTSUPP

    stream(main)


def test_busy_readers_and_writers_are_told(stream):
    def main(one, other):
        reader, writer = netnet.spawn(one.recv, 1), netnet.spawn(one.sendall, bytes(99))
        wait_all_parked()
        with pytest.raises(netnet.BusyError, match="another task reads this in-memory stream already"):
            one.recv(1)
        with pytest.raises(netnet.BusyError, match="another task writes this in-memory stream already"):
            one.send(b"x")
        other.sendall(b"x")
        assert reader.result() == b"x"
        other.recv(99)
        wait_all_parked()
        other.close()
        with pytest.raises(BrokenPipeError) as caught:
            writer.result()
        assert caught.value.bytes_sent == 20

    stream(main, capacity_bytes=10)


def test_deadlocks_name_the_stream(stream):
    with pytest.raises(netnet.DeadlockError, match="bytes from an in-memory stream"):
        stream(lambda one, other: one.recv(1))


@pytest.mark.parametrize("make_pair", [memory_stream_pair, memory_datagram_pair])
def test_it_works_in_a_run_only(make_pair):
    one, other = make_pair()
    for call, argument in ((one.recv, 1), (one.recv_into, bytearray(1)), (one.send, b"x")):
        with pytest.raises(netnet.UsageError, match=r"netnet\.run"):
            call(argument)
    for text in ("hello", "and in the next run"):
        data = text.encode()
        assert netnet.run(lambda data=data: (one.send(data), other.recv(99))[1]) == data
    one.close()
    other.close()


def test_it_works_in_one_loop_only(run):
    def main():
        one, other = memory_stream_pair()
        one.send(b"x")
        errors = []

        def elsewhere():
            try:
                netnet.run(one.send, b"y")
            except netnet.UsageError as error:
                errors.append(str(error))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        netnet.to_thread(thread.join)
        return errors

    assert run(main) == ["this in-memory socket is used in another thread's loop; make a pair in each loop"]


def test_the_same_thing_happens_each_time(run):
    def main():
        one, other = memory_stream_pair(capacity_bytes=7, max_chunk=3)
        seen = []

        def read():
            for chunk in other:
                seen.append((netnet.now(), chunk))
                netnet.sleep(0.5)

        task = netnet.spawn(read)
        for number in range(10):
            one.sendall(b"%d" % number * 4)
            netnet.sleep(0.3)
        one.close()
        task.result()
        return seen

    first = run(main, clock=VirtualClock())
    assert b"".join(chunk for _, chunk in first) == b"".join(b"%d" % number * 4 for number in range(10))
    assert [run(main, clock=VirtualClock()) for _ in range(3)] == [first] * 3


def test_http_runs_on_it(run):
    """A client of the standard library's shape: a request line, headers, a body of a known length."""

    def main():
        client, server = memory_stream_pair(max_chunk=1)

        def serve():
            with server:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += server.recv(100)
                server.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + head.split()[1])

        netnet.spawn(serve)
        with client:
            client.sendall(b"GET /path HTTP/1.0\r\n\r\n")
            return b"".join(client)

    assert run(main, clock=VirtualClock()) == b"HTTP/1.0 200 OK\r\n\r\n/path"


# -- datagrams


def test_a_full_queue_makes_the_sender_wait_in_order(datagrams):
    def main(one, other):
        one.send(b"0")
        one.send(b"1")
        tasks = [netnet.spawn(one.send, b"%d" % number) for number in (2, 3, 4)]
        wait_all_parked()
        assert not any(task.done for task in tasks)
        assert [other.recv(9) for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
        assert [task.result() for task in tasks] == [1, 1, 1]

    datagrams(main, queue_max=2)


def test_dropping_loses_what_has_no_room(datagrams):
    def main(one, other):
        for number in range(5):
            assert one.send(b"%d" % number) == 1
        assert [other.recv(9), other.recv(9)] == [b"0", b"1"]
        one.send(b"next")
        assert other.recv(9) == b"next"

    datagrams(main, queue_max=2, drop=True)


def test_a_newcomer_does_not_overtake(datagrams):
    def main(one, other):
        first = netnet.spawn(other.recv, 9)
        wait_all_parked()
        one.send(b"a")  # first is woken, and has not run yet
        netnet.spawn(one.send, b"b")
        assert other.recv(9) == b"b"
        assert first.result() == b"a"

    datagrams(main)


def test_peeking_leaves_the_datagram_for_the_next(datagrams):
    def main(one, other):
        tasks = [netnet.spawn(other.recv, 9, PEEK), netnet.spawn(other.recv, 9)]
        wait_all_parked()
        one.send(b"x")
        assert [task.result() for task in tasks] == [b"x", b"x"]
        with pytest.raises(BlockingIOError):
            other.recv(9, DONTWAIT)

    datagrams(main)


def test_a_peer_that_is_gone_is_told_to_senders_only(datagrams):
    def main(one, other):
        one.send(b"kept")
        waiting = netnet.spawn(one.send, b"waits")
        wait_all_parked()
        other.send(b"kept, too")
        other.close()
        wait_all_parked()
        for send in (waiting.result, lambda: one.send(b"x")):
            with pytest.raises(ConnectionRefusedError):
                send()
        assert one.recv(99) == b"kept, too"
        one.settimeout(1)
        with pytest.raises(TimeoutError):
            one.recv(9)

    datagrams(main, queue_max=1)


def test_time_limits_and_cancelled_senders_leave_nothing(datagrams):
    def main(one, other):
        one.send(b"0")
        one.settimeout(5)
        cancelled = netnet.spawn(one.send, b"cancelled")
        late = netnet.spawn(one.send, b"late")
        wait_all_parked()
        cancelled.cancel()
        with pytest.raises(TimeoutError):
            late.result()
        one.settimeout(None)
        last = netnet.spawn(one.send, b"last")
        assert [other.recv(99), other.recv(99)] == [b"0", b"last"]
        last.result()

    datagrams(main, queue_max=1)


def test_what_is_too_long_is_refused(datagrams):
    def main(one, other):
        one.send(b"12345")
        with pytest.raises(OSError) as caught:
            one.send(b"123456")
        assert caught.value.errno == errno.EMSGSIZE
        assert next(iter(other)) == b"12345"
        assert repr(other) == "<MemoryDatagrams: 0 datagrams to receive>"

    datagrams(main, bytes_max=5)


@pytest.mark.parametrize(
    ("make_pair", "name"),
    [
        (memory_stream_pair, "capacity_bytes"),
        (memory_stream_pair, "max_chunk"),
        (memory_datagram_pair, "queue_max"),
        (memory_datagram_pair, "bytes_max"),
    ],
)
def test_limits_are_checked(make_pair, name):
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"{name} must be 1 or more, not {wrong}"):
            make_pair(**{name: wrong})
