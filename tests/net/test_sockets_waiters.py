"""Who may wait beside whom: one reader and one writer on a stream, any number on a listener or a datagram socket, first
come first served, and nothing that arrives is lost when one of them is cancelled, times out or comes back in vain."""

from __future__ import annotations

import socket

import pytest

import netnet
from netnet.net import sockets
from netnet.testing import VirtualClock, wait_all_parked
from tests.net.test_sockets_kinds import STREAMS, fill, pair, parked, peer_thread, read_exactly

TIMEOUTS = [None, 1e6]

READERS = {
    "recv": lambda sock: sock.recv(9),
    "recv large": lambda sock: sock.recv(1 << 20),
    "recv_into": lambda sock: sock.recv_into(bytearray(9)),
    "recvfrom": lambda sock: sock.recvfrom(9)[0],
    "recvmsg": lambda sock: sock.recvmsg(9)[0],
    "recv peek": lambda sock: sock.recv(9, socket.MSG_PEEK),
    "iteration": lambda sock: next(iter(sock)),
    "wait_readable": netnet.wait_readable,
}
WRITERS = {
    "send": lambda sock: sock.send(b"x"),
    "sendall": lambda sock: sock.sendall(b"x"),
    "sendall large": lambda sock: sock.sendall(bytes(1 << 20)),
    "sendmsg": lambda sock: sock.sendmsg([b"x"]),
}


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("first", [name for name in READERS if name != "wait_readable"])
def test_a_second_reader_is_busy_at_once_and_the_first_is_not_disturbed(backend, run, kind, timeout, first):
    def main():
        with pair(kind, timeout) as (ours, theirs):
            task = parked(READERS[first], ours)
            for name, call in READERS.items():
                with pytest.raises(netnet.BusyError, match="another task reads this stream"), netnet.timeout(1):
                    call(ours)
                    pytest.fail(name)
            theirs.send(b"x")
            assert task.result()

    run(main)


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("first", WRITERS)
def test_a_second_writer_is_busy_at_once_and_the_first_is_not_disturbed(backend, run, kind, timeout, first):
    def main():
        with pair(kind, timeout) as (ours, theirs):
            filled = fill(ours)
            task = parked(WRITERS[first], ours)
            for call in WRITERS.values():
                with pytest.raises(netnet.BusyError, match="another task writes this stream"):
                    call(ours)
            read_exactly(theirs, filled + (1 << 20 if first == "sendall large" else 1))
            task.result()

    run(main)


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("kind", STREAMS)
def test_full_duplex(backend, run, kind, timeout):
    """One reads while another writes, on both ends, much more than the kernel keeps."""
    size = 3 << 20

    def main():
        with pair(kind, timeout) as (ours, theirs):
            tasks = [netnet.spawn(sock.sendall, bytes(size)) for sock in (ours, theirs)]
            tasks += [netnet.spawn(read_exactly, sock, size) for sock in (ours, theirs)]
            for task in tasks:
                task.result()

    run(main)


def test_a_waiting_reader_is_not_woken_by_room_to_write_nor_the_reverse(backend, run):
    def main():
        with pair("unix") as (ours, theirs):
            filled = fill(ours)
            writer, reader = parked(ours.sendall, b"x"), parked(ours.recv, 9)
            theirs.send(b"y")
            assert reader.result() == b"y"
            assert not writer.done
            reader = parked(ours.recv, 9)
            read_exactly(theirs, filled + 1)
            writer.result()
            wait_all_parked()
            assert not reader.done
            reader.cancel()

    run(main)


# -- several in line


def line(count, call, *args):
    """Tasks that wait for the same thing, in order, and the order in which they got something."""
    order = []

    def wait(number):
        got = call(*args)
        order.append(number)
        return got

    return [parked(wait, number) for number in range(count)], order


DATAGRAM_CALLS = {
    "recv": lambda sock: sock.recv(9),
    "recv_into": lambda sock: bytes(int(sock.recv_into(bytearray(9)))),
    "recvfrom": lambda sock: sock.recvfrom(9)[0],
    "recvmsg": lambda sock: sock.recvmsg(9)[0],
}


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("kind", ["udp4", "udp6", "unix-datagram"])
@pytest.mark.parametrize("name", DATAGRAM_CALLS)
@pytest.mark.parametrize("at_once", [False, True])
def test_datagram_receivers_are_served_in_order(backend, run, kind, timeout, name, at_once):
    def main():
        with pair(kind, timeout) as (ours, theirs):
            tasks, order = line(5, DATAGRAM_CALLS[name], ours)
            for _ in range(5):
                theirs.send(b"x")
                if not at_once:
                    wait_all_parked()
            for task in tasks:
                task.result()
            assert order == [0, 1, 2, 3, 4]

    run(main)


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("cancelled", [{0}, {2}, {4}, {0, 1}, {1, 3}, {0, 1, 2, 3}])
@pytest.mark.parametrize("late", [False, True])
def test_a_cancelled_receiver_takes_nothing(backend, run, timeout, cancelled, late):
    """*late*: the datagrams are there already when the cancellation comes, in the same turn of the loop."""

    def main():
        with pair("unix-datagram", timeout) as (ours, theirs):
            tasks, order = line(5, ours.recv, 9)
            rest = [number for number in range(5) if number not in cancelled]

            def send():
                for number in rest:
                    theirs.send(b"%d" % number)

            if late:
                send()
            for number in cancelled:
                tasks[number].cancel()
            if not late:
                send()
            assert [tasks[number].result() for number in rest] == [b"%d" % number for number in rest]
            assert order == rest

    run(main)


def test_one_that_is_cancelled_after_it_was_called_up_passes_the_turn_on(backend, run):
    """The first one's datagram calls the second up, who is cancelled before it runs; nobody misses the next datagram."""

    def main():
        with pair("unix-datagram") as (ours, theirs), netnet.timeout(3):
            tasks = []

            def first():
                data = ours.recv(9)
                tasks[1].cancel()
                return data

            tasks += [parked(first), parked(ours.recv, 9), parked(ours.recv, 9)]
            theirs.send(b"one")
            theirs.send(b"two")
            assert tasks[0].result() == b"one"
            wait_all_parked()
            assert [task.value for task in tasks[1:] if task.done and task.error is None] == [b"two"]
            for task in tasks[1:]:
                task.cancel()

    run(main)


def test_one_that_times_out_takes_nothing(backend):
    def main():
        with pair("unix-datagram") as (ours, theirs):

            def receive(seconds):
                with netnet.timeout(seconds):
                    return ours.recv(9)

            tasks = [netnet.spawn(receive, seconds) for seconds in (9, 3, 9)]
            netnet.sleep(5)
            with pytest.raises(TimeoutError):
                tasks[1].result()
            theirs.send(b"a")
            theirs.send(b"b")
            assert (tasks[0].result(), tasks[2].result()) == (b"a", b"b")

    netnet.run(main, clock=VirtualClock())


@pytest.mark.parametrize("call", ["written out", "general"])
@pytest.mark.parametrize("more", [1, 2, 5])
def test_fewer_datagrams_than_receivers(backend, run, call, more):
    """Who is called up in vain stands in front again: what comes later goes to them, in the same order."""
    flags = () if call == "written out" else (socket.MSG_TRUNC,)

    def main():
        with pair("udp4") as (ours, theirs):
            tasks, order = line(4, ours.recv, 9, *flags)
            for number in range(4):
                theirs.send(b"%d" % number)
                if number == 0 or number >= more:
                    wait_all_parked()
                    assert order == list(range(number + 1))
            assert [task.result() for task in tasks] == [b"0", b"1", b"2", b"3"]

    run(main)


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_many_senders_to_a_full_unix_datagram_socket(backend, run, timeout):
    def main():
        with pair("unix-datagram", timeout) as (ours, theirs):
            filled = fill(ours)
            tasks, order = line(5, ours.send, b"y")
            tasks[2].cancel()
            assert [theirs.recv(9) for _ in range(filled + 4)] == [b"x"] * filled + [b"y"] * 4
            wait_all_parked()
            assert [task.done for task in tasks] == [True] * 5
            assert order == [0, 1, 3, 4]

    run(main)


# -- listeners


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "unix"])
@pytest.mark.parametrize("cancelled", [None, 0, 2, 4])
def test_several_acceptors_are_served_in_order(backend, run, tmp_path, timeout, address, cancelled):
    where = f"unix:{tmp_path}/socket" if address == "unix" else address

    def main():
        with netnet.listen(where) as listener:
            listener.settimeout(timeout)
            tasks, order = line(5, listener.accept)
            if cancelled is not None:
                tasks[cancelled].cancel()
            rest = [number for number in range(5) if number != cancelled]
            target = where if address == "unix" else listener.getsockname()
            conns = [netnet.connect(target) for _ in rest]
            for conn, number in zip(conns, rest, strict=True):
                conn.sendall(b"%d" % number)
            for conn, number in zip(conns, rest, strict=True):
                with conn, tasks[number].result()[0] as accepted:
                    assert accepted.recv(9) == b"%d" % number
            assert order == rest

    run(main)


@pytest.mark.parametrize("acceptors", [1, 3])
def test_a_full_backlog_loses_no_connection(backend, run, acceptors):
    """One edge for a hundred connections: each is accepted, and each gets its own answer."""
    count = 100

    def main():
        with netnet.listen("127.0.0.1:0") as listener:

            def accept():
                while True:
                    conn, _ = listener.accept()
                    with conn:
                        conn.sendall(conn.recv(9))

            if acceptors > 1:
                tasks = [parked(accept) for _ in range(acceptors)]
            conns = [socket.create_connection(listener.getsockname()) for _ in range(count)]
            for number, conn in enumerate(conns):
                conn.sendall(b"%d" % number)
            if acceptors == 1:
                tasks = [netnet.spawn(accept)]
            for number, conn in enumerate(conns):
                netnet.wait_readable(conn)
                with conn:
                    assert conn.recv(9) == b"%d" % number
            for task in tasks:
                task.cancel()

    run(main)


def test_a_backlog_that_fills_again_and_again_loses_no_connection(backend, run):
    def main():
        with netnet.listen("127.0.0.1:0", backlog=3) as listener, netnet.TaskGroup() as group:

            def client(number):
                with netnet.connect(listener.getsockname()) as conn:
                    conn.sendall(b"%d" % number)
                    return conn.recv(9)

            tasks = [group.spawn(client, number) for number in range(4)]
            wait_all_parked()
            tasks += [group.spawn(client, number) for number in range(4, 8)]
            for _ in tasks:
                with listener.accept()[0] as conn:
                    conn.sendall(conn.recv(9))
            assert [task.result() for task in tasks] == [b"%d" % number for number in range(8)]

    run(main)


@pytest.mark.parametrize("number", [24, 103, 12, 105])
@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_an_error_of_accept_leaves_the_rest_of_the_backlog_reachable(backend, run, monkeypatch, number, timeout):
    """EMFILE, ECONNABORTED and the like concern one attempt; no new edge comes for what is in the backlog."""
    accept, answers = sockets._accept, iter([None, OSError(number, "forced")])

    def failing(sock):
        if answer := next(answers, None):
            raise answer
        return accept(sock)

    def main():
        with netnet.listen("127.0.0.1:0") as listener, netnet.timeout(2):
            listener.settimeout(timeout)
            monkeypatch.setattr(sockets, "_accept", failing)
            task = parked(listener.accept)
            with netnet.connect(listener.getsockname()):
                with pytest.raises(OSError, match="forced"):
                    task.result()
                listener.accept()[0].close()

    run(main)


# -- from elsewhere


def test_waiting_in_a_second_loop_while_the_first_waits_is_busy(backend, run):
    def main():
        with pair("tcp4") as (ours, theirs):
            task = parked(ours.recv, 9)

            def second():
                with pytest.raises(netnet.BusyError, match="another thread's loop"):
                    netnet.run(ours.recv, 9)
                with pytest.raises(netnet.BusyError, match="another thread's loop"):
                    netnet.run(ours.recvmsg, 9)

            netnet.to_thread(second)
            assert not task.done
            theirs.send(b"x")
            assert task.result() == b"x"

    run(main)


def test_a_socket_can_move_to_another_loop_while_nobody_waits(backend, run):
    def main():
        with pair("tcp4") as (ours, theirs):
            task = parked(ours.recv, 9)
            theirs.send(b"one")
            assert task.result() == b"one"

            def second():
                task = parked(ours.recv, 9)
                theirs.sendall(b"two")
                return task.result()

            assert netnet.to_thread(netnet.run, second) == b"two"
            task = parked(ours.recv, 9)
            theirs.sendall(b"three")
            assert task.result() == b"three"

    run(main)


@pytest.mark.parametrize("kind", [*STREAMS, "udp4"])
@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_a_socket_goes_on_in_a_new_loop_and_outside(backend, run, monkeypatch, kind, timeout):
    with pair(kind, timeout) as (ours, theirs):

        def main():
            for _ in range(2):
                task = parked(ours.recv, 9)
                theirs.send(b"x")
                assert task.result() == b"x"

        for _ in range(3):
            run(main)
            theirs.send(b"y")
            assert ours.recv(9) == b"y"
            with peer_thread(theirs.send, b"z"):
                assert ours.recv(9) == b"z"


def test_a_reader_cancelled_at_the_end_of_one_loop_does_not_stand_in_the_way_in_the_next(backend, run):
    with pair("tcp4") as (ours, theirs):

        def main():
            parked(ours.recv, 9).cancel()

        run(main)
        theirs.send(b"x")
        assert run(ours.recv, 9) == b"x"


def test_two_loops_in_two_threads_talk_to_each_other(backend, run):
    def main():
        with netnet.listen("127.0.0.1:0") as listener:

            def client():
                with netnet.connect(listener.getsockname()) as conn:
                    for number in range(200):
                        conn.sendall(b"%03d" % number)
                        assert conn.recv(3) == b"%03d" % number

            task = netnet.spawn(netnet.to_thread, netnet.run, client)
            with listener.accept()[0] as conn:
                for chunk in conn:
                    conn.sendall(chunk)
            task.result()

    run(main)
