"""The written-out calls and the general one behave alike: one scenario, one record of what came out, taken with no
time-out and with a huge one, on every poller. Then what is special: flags, large and empty calls, the end, errors."""

from __future__ import annotations

import concurrent.futures
import contextlib
import socket

import pytest

import netnet
from netnet.errors import Cancelled
from netnet.net import sockets, waiting
from netnet.testing import wait_all_parked
from tests.net.test_sockets_kinds import KINDS, STREAMS, fill, pair, parked, peer_thread, read_exactly, reset

HUGE = 1e6
TIMEOUTS = [None, HUGE]


def outcome(task):
    try:
        return task.result()
    except Exception as error:
        return type(error).__name__


def receive_both(sock, name, size):
    if name == "recv":
        return sock.recv(size)
    buffer = bytearray(size)
    return bytes(buffer[: sock.recv_into(buffer)])


def attempt(record, function, *args):
    """Runs a call as a task; notes whether it had to wait, and returns the task."""
    task = netnet.spawn(function, *args)
    wait_all_parked()
    record.append("waits" if not task.done else outcome(task))
    return task


def story(name, kind, timeout):
    """One of everything that can happen to a reader; returns what it saw."""
    record = []
    with pair(kind, timeout) as (ours, theirs):

        def begin(size=10):
            return attempt(record, receive_both, ours, name, size)

        def end(task):
            wait_all_parked()
            record.append(outcome(task))

        task = begin()
        theirs.send(b"a" * 10)  # exactly what was asked for
        end(task)
        task = begin()
        theirs.send(b"b" * 15)  # more
        end(task)
        begin()  # the rest, short
        task = begin()
        second = attempt(record, receive_both, ours, name, 1)
        assert second.done
        task.cancel()
        wait_all_parked()
        record.append(outcome(task))
        theirs.send(b"c")
        begin()
        task = begin()
        theirs.shutdown(socket.SHUT_WR)
        end(task)
        for _ in range(3):
            begin()
        ours.close()
        begin()
    return record


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("name", ["recv", "recv_into"])
@pytest.mark.parametrize("kind", STREAMS)
def test_receiving_the_same_story_on_both_paths(backend, run, kind, name, timeout):
    assert run(story, name, kind, timeout) == [
        *("waits", b"a" * 10, "waits", b"b" * 10, b"b" * 5),
        *("waits", "BusyError", "TaskCancelledError", b"c"),
        *("waits", b"", b"", b"", b"", "ClosedError"),
    ]


def sending_story(name, kind, timeout):
    record = []
    with pair(kind, timeout) as (ours, theirs):
        call = getattr(ours, name)

        def note(value):
            record.append(len(b"x" * 10) if value is None else value)

        note(call(b"x" * 10))
        assert read_exactly(theirs, 10) == b"x" * 10
        filled = fill(ours)
        task = attempt(record, call, b"y" * 10)
        second = attempt(record, call, b"z")
        assert second.done
        assert read_exactly(theirs, filled + 10).endswith(b"y" * 10)
        note(task.result())
        filled = fill(ours)
        task = attempt(record, call, b"w" * 10)
        task.cancel()
        wait_all_parked()
        record.append(outcome(task))
        read_exactly(theirs, filled)
        note(call(b"v"))
        task = None
        theirs.close()
        for _ in range(3):
            try:
                call(b"gone")
            except BrokenPipeError:
                record.append("BrokenPipeError")
                break
            except ConnectionResetError:
                continue
        ours.close()
        attempt(record, call, b"x")
    return record


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("name", ["send", "sendall"])
@pytest.mark.parametrize("kind", STREAMS)
def test_sending_the_same_story_on_both_paths(backend, run, kind, name, timeout):
    assert run(sending_story, name, kind, timeout) == [
        *(10, "waits", "BusyError", 10, "waits", "TaskCancelledError"),
        *(1 if name == "send" else 10, "BrokenPipeError", "ClosedError"),
    ]


# -- large, empty, odd


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("name", ["recv", "recv_into"])
@pytest.mark.parametrize("kind", STREAMS)
def test_much_data_arrives_whole_whatever_is_asked_for(backend, run, kind, name, timeout):
    content = bytes(range(251)) * 4200

    def main(size):
        with pair(kind, timeout) as (ours, theirs):
            task = netnet.spawn(theirs.sendall, content)
            got = bytearray()
            while len(got) < len(content):
                got += receive_both(ours, name, size)
            assert bytes(got) == content
            task.join()

    for size in (4096, 65536, sockets._ALLOCATE_MAX, sockets._ALLOCATE_MAX + 1, 1 << 20, 1 << 28):
        if name == "recv" or size <= 1 << 20:
            run(main, size)


@pytest.mark.parametrize("loop", [False, True])
def test_large_receives_in_two_threads_do_not_mix(monkeypatch, run, loop):
    """Forces the interleaving: one thread is between the kernel's answer and copying out while the other receives."""
    receive = sockets._recv_into

    def main():
        with pair("unix") as (ours, theirs), pair("unix") as (second, second_peer):
            theirs.send(b"mine")
            second_peer.send(b"your")

            def interrupted(*args):
                count = receive(*args)
                monkeypatch.setattr(sockets, "_recv_into", receive)
                with concurrent.futures.ThreadPoolExecutor(1) as pool:
                    assert pool.submit(second.recv, 1 << 20).result() == b"your"
                return count

            monkeypatch.setattr(sockets, "_recv_into", interrupted)
            assert ours.recv(1 << 20) == b"mine"

    run(main) if loop else main()


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("name", ["recv", "recv_into"])
def test_asking_a_stream_for_nothing_returns_at_once(backend, run, kind, name, timeout):
    """As in the standard class, which asks the kernel nothing then; also where nothing has come and where all is read."""

    def main():
        with pair(kind, timeout) as (ours, theirs), netnet.timeout(1):
            assert receive_both(ours, name, 0) == b""
            theirs.send(b"x")
            assert ours.recv(9) == b"x"
            assert receive_both(ours, name, 0) == b""
            task = parked(ours.recv, 9)
            theirs.send(b"y")
            assert task.result() == b"y"
            assert receive_both(ours, name, 0) == b""
            theirs.send(b"z")
            assert receive_both(ours, name, 0) == b""
            assert ours.recv(9) == b"z"

    run(main)


@pytest.mark.parametrize("timeout", [*TIMEOUTS, 0])
@pytest.mark.parametrize("kind", KINDS)
def test_sending_nothing(backend, run, kind, timeout):
    def main():
        with pair(kind, timeout) as (ours, theirs):
            assert ours.send(b"") == 0
            assert ours.sendall(b"") is None
            assert ours.sendmsg([]) == 0
            assert ours.send(b"x") == 1
            if kind in STREAMS:
                assert theirs.recv(9) == b"x"
            elif kind != "raw":
                assert [theirs.recv(9) for _ in range(4)] == [b"", b"", b"", b"x"]

    run(main)


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_bad_arguments_are_refused_without_waiting(backend, run, timeout):
    def main():
        with pair("tcp4", timeout) as (ours, theirs), netnet.timeout(1):
            theirs.send(b"x")
            assert ours.recv(9) == b"x"  # from here on there is nothing to receive
            for error, call, *args in [
                (ValueError, ours.recv, -1),
                (TypeError, ours.recv, "9"),
                (TypeError, ours.recv, 9.0),
                (TypeError, ours.recv),
                (ValueError, ours.recv_into, bytearray(3), -1),
                (ValueError, ours.recv_into, bytearray(3), 4),
                (TypeError, ours.recv_into, b"immutable"),
                (TypeError, ours.send, "text"),
                (TypeError, ours.sendall, "text"),
                (TypeError, ours.sendall, None),
                (TypeError, ours.sendmsg, b"bytes"),
                (TypeError, ours.sendto, b"x"),
            ]:
                with pytest.raises(error):
                    call(*args)

    run(main)


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_sendall_takes_whatever_has_octets(backend, run, timeout):
    import array

    things = [
        bytearray(b"ab"),
        memoryview(b"abcd")[1:3],
        array.array("I", [1, 2]),
        memoryview(bytes(6)).cast("B", (2, 3)),
    ]

    def main():
        with pair("tcp4", timeout) as (ours, theirs):
            for thing in things:
                ours.sendall(thing)
                data = memoryview(thing).tobytes()
                assert read_exactly(theirs, len(data)) == data

    run(main)


# -- flags


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_peek_leaves_the_data_there(backend, run, kind, timeout):
    def main():
        with pair(kind, timeout) as (ours, theirs):
            for size in (100, 1 << 20):
                task = parked(ours.recv, size, socket.MSG_PEEK)
                theirs.send(b"abc")
                seen = task.result()
                assert seen.endswith(b"abc")
                assert ours.recv(size, socket.MSG_PEEK) == seen
                assert ours.recvfrom(100, socket.MSG_PEEK)[0] == seen
                assert ours.recv_into(bytearray(100), 0, socket.MSG_PEEK) == len(seen)
                assert ours.recv(100) == seen

    run(main)


@pytest.mark.parametrize("timeout", [*TIMEOUTS, 5])
@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_dontwait_never_waits(run, kind, loop, timeout):
    flag = socket.MSG_DONTWAIT
    calls = [
        lambda sock: sock.recv(9, flag),
        lambda sock: sock.recv(1 << 20, flag),
        lambda sock: sock.recv_into(bytearray(9), 0, flag),
        lambda sock: sock.recvfrom(9, flag),
        lambda sock: sock.recvfrom_into(bytearray(9), 0, flag),
        lambda sock: sock.recvmsg(9, 0, flag),
        lambda sock: sock.recvmsg_into([bytearray(9)], 0, flag),
        lambda sock: sock.recv(9, flag | socket.MSG_WAITALL),
    ]
    full = [
        lambda sock: sock.send(b"x", flag),
        lambda sock: sock.sendall(b"x", flag),
        lambda sock: sock.sendmsg([b"x"], [], flag),
    ]

    def main():
        with pair(kind, timeout) as (ours, theirs):
            for call in calls:
                with pytest.raises(BlockingIOError):
                    call(ours)
                theirs.send(b"x")
                assert call(ours)
            if kind in (*STREAMS, "unix-datagram"):
                fill(ours)
                for call in full:
                    with pytest.raises(BlockingIOError):
                        call(ours)

    run(main) if loop else main()


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("ended", [False, True])
def test_waitall_waits_for_all_or_the_end(backend, run, kind, timeout, ended):
    def main():
        with pair(kind, timeout) as (ours, theirs):
            buffer = bytearray(10)
            for call in (
                lambda: ours.recv(10, socket.MSG_WAITALL),
                lambda: bytes(buffer[: ours.recv_into(buffer, 0, socket.MSG_WAITALL)]),
                lambda: bytes(buffer[: ours.recv_into(buffer, 9, socket.MSG_WAITALL)]),
            ):
                task = parked(call)
                for piece in (b"abc", b"def"):
                    theirs.send(piece)
                    wait_all_parked()
                    assert not task.done
                if ended:
                    theirs.shutdown(socket.SHUT_WR)
                    assert task.result() == b"abcdef"
                    return
                theirs.send(b"ghijkl")
                data = task.result()
                assert data + ours.recv(9) == b"abcdefghijkl"
                assert len(data) in (9, 10)

    run(main)


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_waitall_outside_a_loop(timeout):
    with pair("tcp4", timeout) as (ours, theirs):
        with peer_thread(lambda: [theirs.sendall(bytes([number])) for number in range(10)]):
            assert ours.recv(10, socket.MSG_WAITALL) == bytes(range(10))


def test_waitall_gives_what_came_before_a_reset(backend, run):
    """As the kernel does: the count first, the error with the next call. What was received is not thrown away."""

    def main():
        with pair("tcp4") as (ours, theirs):
            task = parked(ours.recv, 10, socket.MSG_WAITALL)
            theirs.send(b"abc")
            wait_all_parked()
            reset(theirs)
            assert task.result() == b"abc"

    run(main)


@pytest.mark.parametrize("kind", ["tcp4", "tcp6"])
@pytest.mark.parametrize("waiting", [False, True])
def test_urgent_data_goes_beside_the_stream(backend, run, kind, waiting):
    """The kernel stops a read at the urgent mark, and answers ``MSG_OOB`` at once, whatever else is readable."""

    def main():
        with pair(kind) as (ours, theirs), netnet.timeout(2):
            theirs.send(b"abc")
            assert ours.recv(9) == b"abc"  # from here on nothing is known to be readable
            with pytest.raises(OSError, match="Invalid argument"):
                ours.recv(1, socket.MSG_OOB)
            task = parked(ours.recv, 9) if waiting else None
            theirs.send(b"!", socket.MSG_OOB)
            wait_all_parked()
            for flags in (socket.MSG_OOB | socket.MSG_PEEK, socket.MSG_OOB):
                if not waiting:
                    assert ours.recv(1, flags) == b"!"
            theirs.send(b"de?", socket.MSG_OOB)
            theirs.send(b"fg")
            data = task.result() if task else b""
            data += read_exactly(ours, 2 - len(data))
            assert data == b"de"
            if not waiting:
                assert ours.recv(1, socket.MSG_OOB) == b"?"
            assert read_exactly(ours, 2) == b"fg"

    run(main)


@pytest.mark.parametrize("loop", [False, True])
def test_the_error_queue_is_never_waited_for(run, monkeypatch, loop):
    """As in the standard class: an empty error queue is would-block, also on a socket that may wait."""

    def main():
        with pair("udp4") as (ours, theirs):
            theirs.send(b"x")
            assert ours.recv(9) == b"x"
            with netnet.timeout(1) if loop else contextlib.nullcontext(), pytest.raises(BlockingIOError):
                ours.recvmsg(9, 100, socket.MSG_ERRQUEUE)

    monkeypatch.setattr(waiting, "wait_one", lambda *args: pytest.fail("it blocked"))
    run(main) if loop else main()


def test_the_urgent_byte_inline(backend, run):
    def main():
        with pair("tcp4") as (ours, theirs):
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
            task = parked(ours.recv, 100)
            theirs.send(b"abc!", socket.MSG_OOB)
            data = task.result()
            while len(data) < 4:
                data += ours.recv(100)
            assert data == b"abc!"

    run(main)


# -- the end and errors


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("waiting", [False, True])
def test_the_end_comes_again_at_each_call(backend, run, kind, timeout, waiting):
    def main():
        with pair(kind) as (ours, theirs), netnet.timeout(2):
            task = parked(ours.recv, 9) if waiting else None
            theirs.close()
            if task:
                assert task.result() == b""
            for _ in range(100):
                assert ours.recv(9) == ours.recv(1 << 20) == ours.recv(9, socket.MSG_PEEK) == b""
                assert ours.recv_into(bytearray(9)) == 0
                assert ours.recvfrom(9)[0] == ours.recvmsg(9)[0] == b""
            assert list(ours) == []

    run(main)


RECEIVERS = {
    "recv": lambda sock: sock.recv(9),
    "recv large": lambda sock: sock.recv(1 << 20),
    "recv_into": lambda sock: sock.recv_into(bytearray(9)),
    "recvmsg": lambda sock: sock.recvmsg(9)[0],
}


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("name", RECEIVERS)
@pytest.mark.parametrize("waiting", [False, True])
def test_after_a_reset_comes_the_end(backend, run, name, timeout, waiting):
    """As in the kernel: the error once, then the end of the stream, without waiting."""

    def main():
        with pair("tcp4", timeout) as (ours, theirs), netnet.timeout(2):
            if waiting:
                task = parked(RECEIVERS[name], ours)
                reset(theirs)
                with pytest.raises(ConnectionResetError):
                    task.result()
            else:
                reset(theirs)
                with pytest.raises(ConnectionResetError):
                    RECEIVERS[name](ours)
            for _ in range(3):
                assert not RECEIVERS[name](ours)
            with pytest.raises(BrokenPipeError):
                ours.send(b"x")

    run(main)


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("name", ["send", "sendall"])
def test_a_reset_wakes_the_sender_and_the_next_send_fails_at_once(backend, run, name, timeout):
    def main():
        with pair("tcp4", timeout) as (ours, theirs), netnet.timeout(2):
            fill(ours)
            task = parked(getattr(ours, name), b"x")
            reset(theirs)
            with pytest.raises(ConnectionResetError):
                task.result()
            for _ in range(2):
                with pytest.raises(BrokenPipeError):
                    getattr(ours, name)(b"x")

    run(main)


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("data", [bytes(64 << 20), bytearray(64 << 20)])
@pytest.mark.parametrize("end", ["reset", "cancel", "close"])
def test_sendall_half_way_tells_how_much_was_sent(backend, run, timeout, data, end):
    def main():
        with pair("tcp4", timeout) as (ours, theirs):

            def sender():
                with pytest.raises((OSError, Cancelled)) as caught:
                    ours.sendall(data)
                return caught.type, caught.value.bytes_sent

            task = parked(sender)
            got = len(theirs.recv(1000))
            {"reset": lambda: reset(theirs), "cancel": task.cancel, "close": ours.close}[end]()
            kind, sent = task.result()
            assert kind is {"reset": ConnectionResetError, "cancel": Cancelled, "close": netnet.ClosedError}[end]
            assert got < sent < len(data)
            if end != "reset":
                ours.close()
                assert got + sum(len(chunk) for chunk in theirs) == sent

    run(main)


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("kind", ["udp4", "udp6"])
def test_what_comes_after_an_error_is_received(backend, run, kind, timeout):
    """A connected datagram socket gets the refusal of what it sent and, at the same moment, a datagram: one edge."""

    def main():
        with pair(kind, timeout) as (ours, theirs), netnet.timeout(2):
            address, home = theirs.getsockname(), ours.getsockname()
            task = parked(ours.recv, 9)
            theirs.close()
            ours.send(b"to nobody")
            with netnet.Socket(ours.family, socket.SOCK_DGRAM) as again:
                again.bind(address)
                again.sendto(b"hello", home)
                with pytest.raises(ConnectionRefusedError):
                    task.result()
                assert ours.recv(9) == b"hello"

    run(main)


# -- cancellation and fairness


CANCELLED = {
    "recv": lambda ours, theirs: ours.recv(9),
    "recv large": lambda ours, theirs: ours.recv(1 << 20),
    "recv_into": lambda ours, theirs: ours.recv_into(bytearray(9)),
    "recvfrom": lambda ours, theirs: ours.recvfrom(9),
    "recvfrom_into": lambda ours, theirs: ours.recvfrom_into(bytearray(9)),
    "recvmsg": lambda ours, theirs: ours.recvmsg(9),
    "recvmsg_into": lambda ours, theirs: ours.recvmsg_into([bytearray(9)]),
    "send": lambda ours, theirs: ours.send(b"x"),
    "sendall": lambda ours, theirs: ours.sendall(b"x"),
    "sendmsg": lambda ours, theirs: ours.sendmsg([b"x"]),
}


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("name", CANCELLED)
@pytest.mark.parametrize("how", ["itself", "waiting its turn", "not started"])
def test_a_cancelled_task_is_refused_although_the_call_need_not_wait(backend, run, name, timeout, how):
    def main():
        with pair("tcp4", timeout) as (ours, theirs):
            task = parked(ours.recv, 9)  # registered, so that the written-out paths are taken
            theirs.send(b"first")
            assert task.result() == b"first"
            theirs.send(b"second")
            wait_all_parked()

            def call():
                if how == "itself":
                    netnet.current_task().cancel()
                elif how == "waiting its turn":
                    netnet.sleep(0)
                for _ in range(2):
                    with pytest.raises(Cancelled):
                        CANCELLED[name](ours, theirs)
                return "refused"

            task = netnet.spawn(call)
            if how == "waiting its turn":
                netnet.sleep(0)
            if how != "itself":
                task.cancel()
            assert task.result() == "refused"
            assert ours.recv(9) == b"second"

    run(main)


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("name", ["recv", "recv_into", "recvmsg", "recvfrom", "send", "sendall", "sendmsg"])
def test_a_task_that_never_waits_lets_the_others_run(backend, run, name, timeout):
    def main():
        with pair("unix", timeout) as (ours, theirs):
            turns = []
            theirs.send(bytes(1000))
            wait_all_parked()
            other = netnet.spawn(turns.append, 1)
            calls = 0
            while not turns:
                CALLS_OF_ONE_BYTE[name](ours)
                calls += 1
                assert calls < 200
            other.join()

    run(main)


CALLS_OF_ONE_BYTE = {
    "recv": lambda sock: sock.recv(1),
    "recv_into": lambda sock: sock.recv_into(bytearray(1)),
    "recvfrom": lambda sock: sock.recvfrom(1),
    "recvmsg": lambda sock: sock.recvmsg(1),
    "send": lambda sock: sock.send(b"x"),
    "sendall": lambda sock: sock.sendall(b"x"),
    "sendmsg": lambda sock: sock.sendmsg([b"x"]),
}
