"""The end of a socket: closing wakes every kind of waiter and frees no number under one; detaching, duplicating, files,
dropping, pickling; and descriptors closed behind our back, whose numbers come again as something else."""

from __future__ import annotations

import copy
import errno
import gc
import os
import pickle
import socket

import pytest

import netnet
from netnet.testing import wait_all_parked
from tests.net.test_sockets_kinds import KINDS, STREAMS, fill, pair, parked, peer_thread, read_exactly

TIMEOUTS = [None, 1e6]

READS = {
    "recv": lambda sock: sock.recv(9),
    "recv large": lambda sock: sock.recv(1 << 20),
    "recv waitall": lambda sock: sock.recv(9, socket.MSG_WAITALL),
    "recv_into": lambda sock: sock.recv_into(bytearray(9)),
    "recvfrom": lambda sock: sock.recvfrom(9),
    "recvfrom_into": lambda sock: sock.recvfrom_into(bytearray(9)),
    "recvmsg": lambda sock: sock.recvmsg(9),
    "recvmsg_into": lambda sock: sock.recvmsg_into([bytearray(9)]),
    "iteration": lambda sock: next(iter(sock)),
}
WRITES = {
    "send": lambda sock: sock.send(b"x"),
    "sendall": lambda sock: sock.sendall(b"x"),
    "sendall large": lambda sock: sock.sendall(bytes(1 << 22)),
    "sendmsg": lambda sock: sock.sendmsg([b"x"]),
}


def send_this_file(sock):
    with open(__file__, "rb") as file:
        return sock.sendfile(file)


OTHERS = {
    "sendto": lambda sock: sock.sendto(b"x", ("127.0.0.1", 9)),
    "accept": lambda sock: sock.accept(),
    "connect": lambda sock: sock.connect(("127.0.0.1", 9)),
    "sendfile": send_this_file,
}


def expect_closed(call, *args):
    with pytest.raises(netnet.ClosedError) as caught:
        call(*args)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == errno.EBADF
    return "closed"


def closer_in_thread(sock):
    netnet.to_thread(sock.close)


CLOSERS = {"close": lambda sock: sock.close(), "from another thread": closer_in_thread}


@pytest.mark.parametrize("how", CLOSERS)
@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_closing_wakes_the_readers(backend, run, kind, timeout, how):
    def main(call):
        with pair(kind, timeout) as (ours, _):
            tasks = [parked(expect_closed, call, ours) for _ in range(1 if kind in STREAMS else 3)]
            CLOSERS[how](ours)
            assert ours.fileno() == -1
            assert [task.result() for task in tasks] == ["closed"] * len(tasks)

    for call in READS.values():
        if kind in STREAMS or call is not READS["recv waitall"]:
            run(main, call)


@pytest.mark.parametrize("how", CLOSERS)
@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("kind", [*STREAMS, "unix-datagram"])
def test_closing_wakes_the_writers(backend, run, kind, timeout, how):
    def main(call):
        with pair(kind, timeout) as (ours, _):
            fill(ours)
            tasks = [parked(expect_closed, call, ours) for _ in range(1 if kind in STREAMS else 3)]
            if kind in STREAMS:
                tasks.append(parked(expect_closed, ours.recv, 9))
            CLOSERS[how](ours)
            assert [task.result() for task in tasks] == ["closed"] * len(tasks)

    for name, call in WRITES.items():
        if kind in STREAMS or "large" not in name:
            run(main, call)


@pytest.mark.parametrize("how", CLOSERS)
@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_closing_wakes_acceptors_and_file_readers(backend, run, timeout, how):
    def main():
        with netnet.listen("127.0.0.1:0") as listener:
            listener.settimeout(timeout)
            tasks = [parked(expect_closed, listener.accept) for _ in range(3)]
            CLOSERS[how](listener)
            assert [task.result() for task in tasks] == ["closed"] * 3

    run(main)


@pytest.mark.parametrize("how", CLOSERS)
def test_closing_wakes_who_waits_for_a_connection_to_stand(backend, run, how):
    from tests.net.test_sockets_connect import deaf_address

    def main():
        with deaf_address() as address, netnet.Socket() as sock:
            task = parked(expect_closed, sock.connect, address)
            CLOSERS[how](sock)
            assert task.result() == "closed"

    run(main)


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_a_number_is_not_reused_under_a_waiter(backend, run, timeout):
    """The number is taken by another connection, with data waiting, before the old waiter runs."""

    def main():
        with pair("tcp4", timeout) as (ours, theirs), pair("tcp4") as (second, second_peer):
            task = parked(expect_closed, ours.recv, 9)
            fd = ours.fileno()
            ours.close()
            os.dup2(second.fileno(), fd, inheritable=False)
            with netnet.Socket(fileno=fd) as reused:
                second_peer.send(b"not for you")
                assert task.result() == "closed"
                assert reused.recv(99) == b"not for you"
            assert theirs.recv(1) == b""

    run(main)


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("registered", [False, True])
@pytest.mark.parametrize("name", [*READS, *WRITES, *OTHERS])
def test_calls_after_close(backend, run, name, registered, loop):
    call = (READS | WRITES | OTHERS)[name]

    def main():
        with pair("tcp4") as (ours, theirs):
            if registered and loop:
                parked(ours.recv, 9).cancel()
                wait_all_parked()
            ours.close()
            for _ in range(2):
                if loop:
                    expect_closed(call, ours)
                else:
                    with pytest.raises(OSError) as caught:
                        call(ours)
                    assert caught.value.errno == errno.EBADF
            assert theirs.recv(1) == b""

    run(main) if loop else main()


def test_closing_twice_is_nothing(run):
    def main():
        with pair("tcp4") as (ours, _):
            ours.close()
            ours.close()
            assert ours.fileno() == -1
            assert "closed" in repr(ours)

    run(main)


def test_closing_in_another_task_between_two_calls(backend, run):
    """One that only waits its turn (fairness) when the socket is closed gets the same error."""

    def main():
        with pair("tcp4") as (ours, theirs):
            theirs.send(bytes(1000))
            wait_all_parked()

            def reader():
                while True:
                    ours.recv(1)

            task = netnet.spawn(expect_closed, reader)
            netnet.sleep(0)
            ours.close()
            assert task.result() == "closed"

    run(main)


# -- shutdown is no close


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("kind", STREAMS)
def test_shutdown_wakes_ones_own_reader_with_the_end(backend, run, kind, timeout):
    def main():
        with pair(kind, timeout) as (ours, theirs):
            task = parked(ours.recv, 9)
            ours.shutdown(socket.SHUT_RD)
            assert task.result() == b""
            ours.sendall(b"x")
            assert theirs.recv(9) == b"x"

    run(main)


# -- detach


@pytest.mark.parametrize("registered", [False, True])
@pytest.mark.parametrize(("timeout", "blocks"), [(None, True), (5, False), (0, False)])
def test_detach_gives_the_descriptor_up(backend, run, registered, timeout, blocks):
    def main():
        with pair("tcp4", timeout) as (ours, theirs):
            if registered and timeout != 0:
                parked(ours.recv, 9).cancel()
                wait_all_parked()
            number = ours.fileno()
            fd = ours.detach()
            assert fd == number
            assert ours.fileno() == -1
            assert os.get_blocking(fd) is blocks
            with socket.socket(fileno=fd) as plain:
                theirs.send(b"x")
                assert plain.recv(9) == b"x"
            assert ours.detach() == -1
            expect_closed(ours.recv, 9)

    run(main)


def test_detach_outside_a_loop_makes_it_block_again():
    with pair("unix") as (ours, theirs):
        with socket.socket(fileno=ours.detach()) as plain, peer_thread(theirs.send, b"x"):
            assert plain.recv(9) == b"x"


@pytest.mark.parametrize("side", ["reader", "writer"])
def test_detach_is_refused_while_a_task_waits(backend, run, side):
    def main():
        with pair("tcp4") as (ours, theirs):
            filled = fill(ours)
            task = parked(*((ours.recv, 9) if side == "reader" else (ours.sendall, b"x")))
            with pytest.raises(netnet.BusyError, match="cannot be detached"):
                ours.detach()
            theirs.send(b"y")
            read_exactly(theirs, filled + (side == "writer"))
            assert task.result() == (b"y" if side == "reader" else None)
            os.close(ours.detach())

    run(main)


def test_a_detached_descriptor_can_become_a_socket_again(backend, run):
    def main():
        with pair("tcp4") as (ours, theirs):
            parked(ours.recv, 9).cancel()
            wait_all_parked()
            with netnet.Socket(fileno=ours.detach()) as again:
                task = parked(again.recv, 9)
                theirs.send(b"x")
                assert task.result() == b"x"

    run(main)


# -- dup


@pytest.mark.parametrize("timeout", [None, 5.0, 0.0])
def test_dup_is_another_socket_for_the_same_connection(backend, run, timeout):
    def main():
        with pair("tcp4", timeout) as (ours, theirs), ours.dup() as twin:
            assert type(twin) is netnet.Socket
            assert twin.fileno() != ours.fileno()
            assert (twin.family, twin.type, twin.proto) == (ours.family, ours.type, ours.proto)
            assert twin.gettimeout() == timeout
            assert not os.get_inheritable(twin.fileno())
            ours.close()
            theirs.send(b"x")
            assert twin.recv(9) == b"x"
            twin.close()
            assert theirs.recv(9) == b""

    run(main)


def test_closing_one_twin_does_not_disturb_who_waits_on_the_other(backend, run):
    def main():
        with pair("tcp4") as (ours, theirs), ours.dup() as twin:
            first, second = parked(expect_closed, ours.recv, 9), parked(twin.recv, 9)
            ours.close()
            assert first.result() == "closed"
            wait_all_parked()
            assert not second.done
            theirs.send(b"x")
            assert second.result() == b"x"

    run(main)


def test_a_duplicate_elsewhere_does_not_keep_firing(backend, run):
    """Another descriptor keeps the connection open after we closed ours; its events must not reach the loop."""
    from netnet.runtime.loop import running

    def main():
        with pair("tcp4") as (ours, theirs):
            parked(ours.recv, 9).cancel()
            wait_all_parked()
            elsewhere = os.dup(ours.fileno())
            ours.close()
            poller = running.loop.poller
            assert poller.wait(0) == []
            theirs.sendall(b"x")
            assert poller.wait(0) == []
            os.close(elsewhere)

    run(main)


# -- pickling, dropping


@pytest.mark.parametrize("function", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_socket_cannot_be_pickled_or_copied(function):
    with pair("unix") as (ours, _):
        with pytest.raises(TypeError, match=r"cannot pickle 'Socket' object"):
            function(ours)


@pytest.mark.parametrize("registered", [False, True])
def test_a_dropped_socket_warns_and_is_closed(backend, run, registered):
    def main():
        with pair("tcp4") as (ours, theirs):
            twin = ours.dup()
            ours.close()
            if registered:
                parked(twin.recv, 9).cancel()
                wait_all_parked()
            netnet.sleep(0)  # the pooled green thread lets go of what its last task held
            with pytest.warns(ResourceWarning, match="unclosed <netnet.net.sockets.Socket"):
                del twin
                gc.collect()
            assert theirs.recv(9) == b""

    run(main)


def test_the_loop_keeps_no_socket_alive(backend, run):
    import weakref

    def main():
        with pair("tcp4") as (ours, theirs):
            twin = ours.dup()
            parked(twin.recv, 9).cancel()
            wait_all_parked()
            gone = weakref.ref(twin)
            with pytest.warns(ResourceWarning):
                del twin
                gc.collect()
            assert gone() is None
            theirs.send(b"x")
            assert ours.recv(9) == b"x"

    run(main)


def take_number(number, sock):
    """Gives the number to another socket, which netnet then takes over."""
    os.dup2(sock.fileno(), number, inheritable=False)
    return netnet.Socket(fileno=number)


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("keep", [False, True])
def test_a_number_closed_behind_our_back_and_reused(backend, run, timeout, keep):
    """*keep*: the old connection lives on under another number, so its events may still be told under the old one."""

    def main():
        with pair("tcp4", timeout) as (ours, theirs), pair("tcp4", timeout) as (second, second_peer):
            parked(ours.recv, 9).cancel()
            wait_all_parked()
            copy = os.dup(ours.fileno()) if keep else None
            number = ours.fileno()
            with take_number(number, second) as reused:
                reused.settimeout(timeout)
                task = parked(reused.recv, 9)
                if keep:
                    theirs.send(b"old")
                wait_all_parked()
                assert not task.done
                second_peer.send(b"new")
                assert task.result() == b"new"
                for _ in range(3):
                    task = parked(reused.recv, 9)
                    second_peer.send(b"again")
                    assert task.result() == b"again"
                ours.detach()
                task = parked(reused.recv, 9)
                second_peer.send(b"more")
                assert task.result() == b"more"
            if keep:
                os.close(copy)

    run(main)


@pytest.mark.parametrize("end", ["closed behind our back", "dropped"])
def test_a_number_reused_by_a_foreign_descriptor_can_be_waited_for(backend, run, end):
    """The old socket's state still stands in the loop's table; it must not be taken for the pipe that has its number."""

    def main():
        with pair("tcp4") as (ours, _):
            twin = ours.dup()
            parked(twin.recv, 9).cancel()
            wait_all_parked()
            number = twin.fileno()
            reading, writing = os.pipe()
            if end == "dropped":
                with pytest.warns(ResourceWarning):
                    del twin
                    gc.collect()
            os.dup2(reading, number)
            with netnet.timeout(2):
                task = parked(netnet.wait_readable, number)
                os.write(writing, b"x")
                task.result()
            if end == "dropped":
                os.close(number)
            else:
                twin.close()
            os.close(reading)
            os.close(writing)

    run(main)


def test_a_number_reused_while_the_old_socket_is_waited_for_is_refused(backend, run):
    def main():
        with pair("tcp4") as (ours, theirs), pair("tcp4") as (second, _):
            task = parked(ours.recv, 9)
            keep = os.dup(ours.fileno())
            with take_number(ours.fileno(), second) as reused:
                with pytest.raises(netnet.BusyError, match="through another socket object"):
                    reused.recv(9)
                task.cancel()
                wait_all_parked()
                ours.detach()
            os.close(keep)

    run(main)


# -- files


@pytest.mark.parametrize("loop", [False, True])
def test_a_file_keeps_the_descriptor_until_the_last_one_is_closed(backend, run, loop):
    def main():
        with pair("tcp4") as (ours, theirs):
            reading, writing = ours.makefile("rb"), ours.makefile("wb")
            ours.close()
            fd = reading.fileno()
            assert fd >= 0
            theirs.sendall(b"question\n")
            assert reading.readline() == b"question\n"
            reading.close()
            writing.write(b"answer\n")
            writing.flush()
            assert os.fstat(fd)
            writing.close()
            assert theirs.recv(99) == b"answer\n"
            assert theirs.recv(99) == b""
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)

    run(main) if loop else main()


def test_closing_the_file_leaves_the_socket_open(backend, run):
    def main():
        with pair("tcp4") as (ours, theirs):
            ours.makefile("rwb").close()
            theirs.send(b"x")
            assert ours.recv(9) == b"x"

    run(main)


def test_a_file_goes_on_waiting_when_its_socket_is_closed(backend, run):
    def main():
        with pair("tcp4") as (ours, theirs), ours.makefile("r", encoding="utf-8") as file:
            task = parked(file.readline)
            ours.close()
            wait_all_parked()
            assert not task.done
            theirs.sendall("grüß\n".encode())
            assert task.result() == "grüß\n"

    run(main)


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_lines_in_both_directions_through_files(backend, run, timeout):
    def server(sock):
        with sock.makefile("rw", newline="\n") as file:
            for line in file:
                file.write(line.upper())
                file.flush()

    def main():
        with pair("tcp4", timeout) as (ours, theirs), theirs.makefile("rw", newline="\n") as file:
            task = netnet.spawn(server, ours)
            for number in range(100):
                file.write(f"line {number}\n")
                file.flush()
                assert file.readline() == f"LINE {number}\n"
            theirs.shutdown(socket.SHUT_WR)
            task.result()

    run(main)
