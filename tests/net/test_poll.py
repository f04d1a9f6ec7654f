"""``Poll``: many sources at once, in a task and outside a loop, with epoll and without."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import weakref

import pytest

import netnet
from netnet import Cancelled, ClosedError, UsageError
from netnet.net.poll import EVENTS_MAX, Poll, Ready
from netnet.poller import ENVIRONMENT
from netnet.testing import VirtualClock, wait_all_parked

#: what is tested may block the OS thread, where no limit but one from another thread helps: it ends the test program
pytestmark = pytest.mark.timeout(30, method="thread")

READABLE, WRITABLE = Ready.READABLE, Ready.WRITABLE


@pytest.fixture(params=["epoll", "poll", "select"])
def facility(request, monkeypatch):
    """What a ``Poll`` asks the kernel with: the best, or what is left where the better ones do not exist."""
    if request.param != "epoll":
        monkeypatch.delenv(ENVIRONMENT, raising=False)  # the loop cannot have what is not there, either
        monkeypatch.delattr(select, "epoll", raising=False)
    if request.param == "select":
        monkeypatch.delattr(select, "poll")
    return request.param


@pytest.fixture
def pairs():
    """Makes pairs of connected sockets of ours."""
    made = []

    def make(count=1):
        pairs = [netnet.socketpair() for _ in range(count)]
        made.extend(one for pair in pairs for one in pair)
        return pairs

    yield make
    for one in made:
        one.close()


@pytest.fixture
def pipe():
    ends = list(os.pipe())
    yield ends
    for fd in ends:
        if fd is not None:
            os.close(fd)


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = netnet.connect(listener.getsockname())
        server, _ = listener.accept()
    return client, server


def pair_under(number):
    """Two connected sockets, of which the first has this number."""
    one, other = socket.socketpair()
    if other.fileno() == number:
        return other, one
    if one.fileno() != number:
        os.dup2(one.fileno(), number)
        one.close()
        one = socket.socket(fileno=number)
    return one, other


def fill(sock):
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(65536))


def inside_and_outside(run, main):
    run(main)
    main()


# -- what is ready


def test_what_is_ready_and_why(run, facility, pairs):
    def main():
        (a, x), (b, y), (c, z) = pairs(3)
        with Poll([a, b]) as poll:
            poll.add(c, READABLE | WRITABLE)
            x.sendall(b"1")
            assert poll.select() == [(a, READABLE), (c, WRITABLE)] or poll.select(0) == [(c, WRITABLE), (a, READABLE)]
            y.sendall(b"2")
            z.sendall(b"3")
            assert dict(poll.select()) == {a: READABLE, b: READABLE, c: READABLE | WRITABLE}
            a.recv(1)
            assert dict(poll.select()) == {b: READABLE, c: READABLE | WRITABLE}

    inside_and_outside(run, main)


@pytest.mark.parametrize("timeout", [0, -1, 0.001])
def test_nothing_is_ready(run, facility, pairs, timeout):
    def main():
        with Poll([pairs()[0][0]]) as poll:
            assert poll.select(timeout) == []

    inside_and_outside(run, main)


def test_a_level_until_it_is_read(run, facility, pairs):
    def main():
        ((a, x),) = pairs()
        x.sendall(b"ab")
        with Poll([a]) as poll:
            for _ in range(3):
                assert poll.select() == [(a, READABLE)]
            a.recv(1)
            assert poll.select() == [(a, READABLE)]
            a.recv(1)
            assert poll.select(0) == []

    inside_and_outside(run, main)


def test_it_waits(run, backend, pairs):
    def main():
        (a, x), (b, y) = pairs(2)
        with Poll([a, b]) as poll:
            for writer, reader in ((y, b), (x, a), (y, b)):
                task = netnet.spawn(poll.select)
                wait_all_parked()
                assert not task.done
                writer.sendall(b"1")
                assert task.result() == [(reader, READABLE)]
                reader.recv(1)

    run(main)


def test_it_waits_without_epoll(run, facility, pairs):
    def main():
        ((a, x),) = pairs()
        with Poll([a]) as poll:
            task = netnet.spawn(poll.select)
            netnet.sleep(0.01)
            x.sendall(b"1")
            assert task.result() == [(a, READABLE)]

    run(main)


def test_it_waits_outside_a_loop(facility, pairs):
    ((a, x),) = pairs()
    with Poll([a]) as poll:
        thread = threading.Timer(0.01, x.sendall, (b"1",))
        thread.start()
        assert poll.select() == [(a, READABLE)]
        thread.join()


def test_the_other_tasks_run_meanwhile(run, pairs):
    """Others receive and send on the very socket that is watched, without disturbance on either side."""

    def main():
        ((a, x),) = pairs()
        with Poll([a], READABLE | WRITABLE) as poll, netnet.TaskGroup() as group:
            poll.modify(a, READABLE)

            def watch():
                for _ in range(50):
                    assert set(dict(poll.select())) == {a}
                    netnet.sleep(0)

            def receive():
                left = 1_000_000
                while left:
                    left -= len(a.recv(65536))
                return a.recv(1)

            watcher = group.spawn(watch)
            receiver = group.spawn(receive)
            x.sendall(bytes(1_000_000))
            wait_all_parked()
            assert not receiver.done
            for _ in range(2000):
                if watcher.done:
                    break
                x.sendall(b"!")
                netnet.sleep(0)
            x.close()

    run(main)


# -- time


def test_the_time_out_is_of_the_loop_s_clock(run, pairs):
    def main():
        ((a, _),) = pairs()
        with Poll([a]) as poll:
            start = netnet.now()
            assert poll.select(3600) == []
            assert netnet.now() - start == 3600
            assert poll.select(100_000) == []
            assert netnet.now() - start == 103_600

    run(main, clock=VirtualClock())


def test_in_time_on_a_virtual_clock(run, pairs):
    def main():
        ((a, x),) = pairs()
        with Poll([a]) as poll:
            netnet.spawn(lambda: (netnet.sleep(5), x.sendall(b"1")))
            assert poll.select(10) == [(a, READABLE)]
            assert netnet.now() == 5

    run(main, clock=VirtualClock())


def test_the_fallback_on_a_virtual_clock(run, monkeypatch, pairs):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.delattr(select, "epoll")

    def main():
        ((a, x),) = pairs()
        with Poll([a]) as poll:
            netnet.spawn(lambda: (netnet.sleep(5), x.sendall(b"1")))
            assert poll.select(10) == [(a, READABLE)]
            assert 5 <= netnet.now() <= 5.05
            a.recv(1)
            start = netnet.now()
            assert poll.select(1) == []
            assert netnet.now() - start == pytest.approx(1)

    run(main, clock=VirtualClock())


@pytest.mark.parametrize("wrong", [float("nan"), "1"])
def test_a_wrong_time_out(wrong):
    with Poll() as poll, pytest.raises((ValueError, TypeError), match="a time must be"):
        poll.select(wrong)


@pytest.mark.parametrize("wrong", [0, -1])
def test_a_wrong_number(wrong):
    with Poll() as poll, pytest.raises(ValueError, match="at_most"):
        poll.select(0, at_most=wrong)


def test_a_time_limit_around_it(run, pairs):
    def main():
        ((a, _),) = pairs()
        with Poll([a]) as poll:
            with pytest.raises(TimeoutError, match="time limit of 5"), netnet.timeout(5):
                poll.select(10)
            with netnet.timeout(10):
                assert poll.select(5) == []

    run(main, clock=VirtualClock())


# -- turns


@pytest.mark.parametrize("at_most", [1, 2, 3])
def test_each_gets_its_turn(run, facility, pairs, tmp_path, at_most):
    """All are always ready; sockets and files alike."""

    def main():
        sources = []
        for a, x in pairs(5):
            x.sendall(b"1")
            sources.append(a)
        with contextlib.ExitStack() as stack:
            sources += [stack.enter_context(open(tmp_path / str(number), "w+b")) for number in range(3)]
            poll = stack.enter_context(Poll(sources))
            counts = dict.fromkeys(sources, 0)
            for _ in range(80):
                found = poll.select(at_most=at_most)
                assert 1 <= len(found) <= at_most
                assert len({id(source) for source, _ in found}) == len(found)
                for source, why in found:
                    assert why == READABLE
                    counts[source] += 1
            assert max(counts.values()) - min(counts.values()) <= 2

    inside_and_outside(run, main)


def test_who_was_late_comes_before_who_was_told(run, facility, pairs):
    def main():
        made = pairs(4)
        with Poll([a for a, _ in made]) as poll:
            made[0][1].sendall(b"1")
            assert poll.select(at_most=1) == [(made[0][0], READABLE)]
            made[3][1].sendall(b"1")
            seen = [poll.select(at_most=1)[0][0] for _ in range(2)]
            assert set(seen) == {made[0][0], made[3][0]}

    inside_and_outside(run, main)


def test_more_than_one_call_of_the_kernel_brings(run, facility, limited_descriptors, monkeypatch):
    """All that are ready, each once; and ten thousand that are not cost nothing."""
    monkeypatch.delenv(ENVIRONMENT, raising=False)  # more than select(2) can take
    count = min(1500 if facility != "select" else 200, limited_descriptors // 3)
    made = [socket.socketpair() for _ in range(count)]
    if facility == "select" and made[-1][1].fileno() > 1000:
        count = 0
    try:

        def main():
            with Poll([a for a, _ in made[:count]]) as poll:
                assert poll.select(0) == []
                for _, x in made[:count]:
                    x.send(b"1")
                assert {source for source, _ in poll.select(0)} == {a for a, _ in made[:count]}
                assert len(poll.select(0)) == count
                if count:
                    assert len(poll.select(0, at_most=count - 1)) == count - 1
                for a, _ in made[:count]:
                    a.recv(1)

        inside_and_outside(run, main)
        for one in (one for pair in made for one in pair):
            one.setblocking(False)
    finally:
        for one in (one for pair in made for one in pair):
            one.close()


def test_it_asks_for_what_is_ready_only(run, limited_descriptors, monkeypatch):
    """With thousands of sources, a look asks none of them anything in Python."""
    asked = []

    class Source:
        def __init__(self, sock):
            self.sock = sock

        def fileno(self):
            asked.append(self)
            return self.sock.fileno()

    made = [socket.socketpair() for _ in range(min(2000, limited_descriptors // 3))]
    try:
        with Poll([Source(a) for a, _ in made]) as poll:
            made[7][1].send(b"1")
            asked.clear()
            assert [source.sock for source, _ in poll.select()] == [made[7][0]]
            assert len(asked) <= 2
    finally:
        for one in (one for pair in made for one in pair):
            one.close()


# -- kinds of sources, and why they are ready


def test_the_peer_has_finished(run, pairs):
    def main():
        client, server = tcp_pair()
        with client, server, Poll([client]) as poll:
            server.shutdown(socket.SHUT_WR)
            assert poll.select() == [(client, READABLE | Ready.PEER_CLOSED)]
            client.shutdown(socket.SHUT_WR)
            assert poll.select() == [(client, READABLE | Ready.PEER_CLOSED | Ready.HANGUP)]
            poll.modify(client, READABLE | WRITABLE)
            assert poll.select() == [(client, READABLE | WRITABLE | Ready.PEER_CLOSED | Ready.HANGUP)]

    inside_and_outside(run, main)


def test_a_reset(run):
    def main():
        client, server = tcp_pair()
        with client, Poll([client], Ready(0)) as poll:
            assert poll.select(0) == []
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            server.close()
            ((source, why),) = poll.select()
            assert source is client
            assert why & Ready.ERROR
            assert why & Ready.HANGUP
            poll.modify(client, READABLE)
            assert poll.select()[0][1] & READABLE
            with pytest.raises(ConnectionResetError):
                client.recv(1)

    inside_and_outside(run, main)


def test_a_failed_connection(run):
    def main():
        with socket.socket() as taken, socket.socket() as sock:
            taken.bind(("127.0.0.1", 0))  # and does not listen
            sock.setblocking(False)
            with pytest.raises(OSError):
                sock.connect(taken.getsockname())
                raise OSError
            with Poll([sock], WRITABLE) as poll:
                ((_, why),) = poll.select()
                assert why & WRITABLE
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in (0, errno.ECONNREFUSED)

    inside_and_outside(run, main)


def test_a_full_socket_becomes_writable(run, facility):
    def main():
        client, server = tcp_pair()
        with client, server, Poll([client], WRITABLE) as poll:
            assert poll.select() == [(client, WRITABLE)]
            fill(client)
            server.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:  # what was on its way
                    fill(client)
                    server.recv(1 << 20, socket.MSG_PEEK)
                    assert poll.select(0.02) == []
                    break
            for _ in range(1000):
                with contextlib.suppress(BlockingIOError):
                    server.recv(1 << 20)
                if poll.select(0.001):
                    break
            assert poll.select() == [(client, WRITABLE)]

    inside_and_outside(run, main)


def test_urgent_data(run, facility):
    def main():
        client, server = tcp_pair()
        with client, server, Poll([client], Ready.URGENT) as poll:
            server.send(b"a")
            assert poll.select(0) == []
            server.send(b"!", socket.MSG_OOB)
            assert poll.select() == [(client, Ready.URGENT)]

    inside_and_outside(run, main)


def test_datagrams_and_their_errors(run):
    def main():
        with netnet.Socket(socket.AF_INET, socket.SOCK_DGRAM) as a, socket.socket(type=socket.SOCK_DGRAM) as b:
            a.bind(("127.0.0.1", 0))
            with Poll([a]) as poll:
                assert poll.select(0) == []
                b.sendto(b"", a.getsockname())
                assert poll.select() == [(a, READABLE)]
                assert a.recvfrom(10)[0] == b""
                with socket.socket(type=socket.SOCK_DGRAM) as gone:
                    gone.bind(("127.0.0.1", 0))
                    a.connect(gone.getsockname())
                a.send(b"nobody is there")
                assert poll.select()[0][1] & Ready.ERROR
                with pytest.raises(ConnectionRefusedError):
                    a.recv(1)
                assert poll.select(0) == []

    inside_and_outside(run, main)


def test_listeners(run, tmp_path):
    def main():
        path = str(tmp_path / f"listener{threading.get_ident()}{netnet.now()}")
        with netnet.listen("127.0.0.1:0") as tcp, netnet.Socket(socket.AF_UNIX) as unix:
            unix.bind(path)
            unix.listen()
            with Poll([tcp, unix]) as poll:
                assert poll.select(0) == []
                with socket.create_connection(tcp.getsockname()):
                    assert poll.select() == [(tcp, READABLE)]
                    tcp.accept()[0].close()
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(path)
                    assert poll.select() == [(unix, READABLE)]
                    unix.accept()[0].close()

    inside_and_outside(run, main)


def test_pipes(run, facility):
    def main():
        reader, writer = os.pipe()
        with Poll([reader]) as poll:
            poll.add(writer, WRITABLE)
            assert poll.select() == [(writer, WRITABLE)]
            os.write(writer, b"x")
            assert dict(poll.select()) == {reader: READABLE, writer: WRITABLE}
            os.read(reader, 1)
            poll.remove(writer)
            os.close(writer)
            ((source, why),) = poll.select()
            assert source == reader
            assert why & READABLE, "reading tells the end, so it does not wait"
            poll.remove(reader)
        os.close(reader)

    inside_and_outside(run, main)


def test_the_reader_of_a_pipe_is_gone(run):
    def main():
        reader, writer = os.pipe()
        os.close(reader)
        with Poll([writer], WRITABLE) as poll:
            assert poll.select() == [(writer, WRITABLE | Ready.ERROR)]
        os.close(writer)

    inside_and_outside(run, main)


def test_an_eventfd(run, facility):
    def main():
        fd = os.eventfd(0, os.EFD_NONBLOCK)
        with Poll([fd]) as poll:
            assert poll.select(0) == []
            os.eventfd_write(fd, 1)
            assert poll.select() == [(fd, READABLE)]
            poll.remove(fd)
        os.close(fd)

    inside_and_outside(run, main)


def test_terminals(run, facility):
    def main():
        master, slave = pty.openpty()
        with Poll([master, slave]) as poll:
            assert poll.select(0) == []
            os.write(master, b"line\n")
            assert (slave, READABLE) in poll.select()
            os.read(slave, 100)
            os.read(master, 100)
            poll.remove(slave)
            os.close(slave)
            ((source, why),) = poll.select()
            assert source == master
            assert why & READABLE
            with pytest.raises(OSError, match="Input/output"):
                os.read(master, 100)
        os.close(master)

    inside_and_outside(run, main)


def test_files_are_always_ready(run, facility, tmp_path, pairs):
    def main():
        ((a, x),) = pairs()
        with open(tmp_path / "file", "w+b") as file, Poll([a]) as poll:
            poll.add(file, READABLE | WRITABLE)
            assert poll.select() == [(file, READABLE | WRITABLE)]
            x.sendall(b"1")
            assert dict(poll.select()) == {a: READABLE, file: READABLE | WRITABLE}
            poll.modify(file, WRITABLE)
            assert dict(poll.select()) == {a: READABLE, file: WRITABLE}
            poll.modify(file, Ready.URGENT)
            assert poll.select() == [(a, READABLE)]
            a.recv(1)
            assert poll.select(0) == []
            poll.modify(file, READABLE)
            poll.remove(file)
            assert poll.select(0) == []

    inside_and_outside(run, main)


def test_no_descriptor_is_left_for_what_stands_in_for_a_file(tmp_path, monkeypatch):
    def eventfd(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    with Poll() as poll, open(tmp_path / "file", "w+b") as file:
        with monkeypatch.context() as patches:
            patches.setattr(os, "eventfd", eventfd)
            with pytest.raises(OSError, match="Too many open files"):
                poll.add(file)
        assert len(poll) == 0
        poll.add(file)
        assert poll.select(0) == [(file, READABLE)]


def test_an_epoll_of_your_own(run, pipe):
    def main():
        with select.epoll() as inner, Poll([inner]) as poll:
            inner.register(pipe[0], select.EPOLLIN)
            assert poll.select(0) == []
            os.write(pipe[1], b"x")
            assert poll.select() == [(inner, READABLE)]
            os.read(pipe[0], 1)
            assert poll.select(0) == []

    inside_and_outside(run, main)


# -- the set


def test_in_len_and_iteration(run, facility, pairs, pipe):
    def main():
        (a, x), (b, _) = pairs(2)
        poll = Poll([a, pipe[0]])
        assert (a in poll, b in poll, x in poll, pipe[0] in poll, "nonsense" in poll) == (
            True,
            False,
            False,
            True,
            False,
        )
        assert a.fileno() not in poll
        assert len(poll) == 2
        assert list(poll) == [a, pipe[0]]
        poll.remove(a)
        assert list(poll) == [pipe[0]]
        poll.add(b)
        for source in poll:
            poll.remove(source)
        assert len(poll) == 0
        assert poll
        assert repr(poll) == "<netnet.Poll, 0 sources>"
        poll.close()
        assert repr(poll) == "<netnet.Poll, closed>"

    inside_and_outside(run, main)


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("text", TypeError, "neither"),
        (None, TypeError, "neither"),
        (-1, ValueError, "0 or more"),
        (999_999, OSError, "Bad file descriptor"),
    ],
)
def test_what_is_no_source(facility, source, error, words):
    with Poll() as poll:
        with pytest.raises(error, match=words):
            poll.add(source)
        assert len(poll) == 0


def test_a_fileno_that_is_no_number():
    class Odd:
        def fileno(self):
            return "3"

    with Poll() as poll, pytest.raises(TypeError, match="no number"):
        poll.add(Odd())


def test_closed_before(tmp_path):
    one, other = netnet.socketpair()
    one.close()
    other.close()
    with open(tmp_path / "file", "w") as file:
        pass
    with Poll() as poll:
        for source in (one, file):
            with pytest.raises(ClosedError, match="is closed"):
                poll.add(source)
    with pytest.raises(ClosedError):
        Poll([one])


@pytest.mark.parametrize("interest", [Ready.CLOSED, 0x100, READABLE | 0x4000])
def test_a_wrong_interest(pipe, interest):
    with Poll([pipe[0]]) as poll:
        with pytest.raises(ValueError, match="READABLE|WRITABLE"):
            poll.modify(pipe[0], interest)
        with pytest.raises(ValueError, match="READABLE|WRITABLE"):
            poll.add(pipe[1], interest)
    with pytest.raises(TypeError, match="flags"):
        Poll([pipe[0]], "readable")


def test_twice_or_not_at_all(facility, pairs):
    ((a, b),) = pairs()
    with Poll([a]) as poll:
        with pytest.raises(UsageError, match="in this Poll already"):
            poll.add(a)
        with pytest.raises(UsageError, match="in this Poll already"):
            poll.add(a.fileno())
        with pytest.raises(UsageError, match="not in this Poll"):
            poll.remove(b)
        with pytest.raises(UsageError, match="not in this Poll"):
            poll.modify(b, READABLE)
        poll.discard(b)
        poll.discard(a)
        poll.discard(a)
        poll.add(a.fileno())
        with pytest.raises(UsageError, match="in this Poll already"):
            poll.add(a)
        assert len(poll) == 1


def test_names():
    assert str(READABLE | Ready.PEER_CLOSED) == "READABLE|PEER_CLOSED"
    assert f"{Ready.ERROR | Ready.CLOSED}" == "ERROR|CLOSED"
    assert str(Ready(0)) == "0"
    assert Ready.READABLE == 1


def test_it_keeps_its_sources_alive(pairs):
    one, other = socket.socketpair()
    with one:
        kept = weakref.ref(other)
        with Poll([other]) as poll:
            del other
            gc.collect()
            assert kept() is not None
            one.send(b"1")
            ((source, _),) = poll.select()
            assert source is kept()
            source.close()
            poll.discard(source)
            del source
            gc.collect()
            assert kept() is None


def test_nothing_stays_of_one_that_was_dropped(pairs, facility):
    ((a, _),) = pairs()
    poll = Poll([a])
    ref = weakref.ref(poll)
    del poll
    gc.collect()
    assert ref() is None
    assert a._descriptor.followers is None


# -- changes while somebody waits


def test_added_while_it_waits(run, pairs, tmp_path):
    def main():
        (a, _), (b, y) = pairs(2)
        y.sendall(b"1")
        with Poll([a]) as poll, open(tmp_path / "file", "w") as file:
            task = netnet.spawn(poll.select)
            wait_all_parked()
            poll.add(b)
            assert task.result() == [(b, READABLE)]
            poll.remove(b)
            task = netnet.spawn(poll.select)
            wait_all_parked()
            poll.add(file, WRITABLE)
            assert task.result() == [(file, WRITABLE)]

    run(main)


def test_modified_while_it_waits(run, pairs):
    def main():
        ((a, _),) = pairs()
        with Poll([a]) as poll:
            task = netnet.spawn(poll.select)
            wait_all_parked()
            poll.modify(a, READABLE | WRITABLE)
            assert task.result() == [(a, WRITABLE)]

    run(main)


def test_removed_while_it_waits(run, pairs):
    def main():
        ((a, x),) = pairs()
        with Poll([a]) as poll:
            task = netnet.spawn(poll.select, 5)
            wait_all_parked()
            poll.remove(a)
            x.sendall(b"1")
            assert task.result() == []
            assert netnet.now() == 5

    run(main, clock=VirtualClock())


def test_removed_between_the_event_and_the_look(run, pairs):
    """The task was woken, and before it runs the source is gone: it waits on."""

    def main():
        (a, x), (b, y) = pairs(2)
        with Poll([a, b]) as poll:
            task = netnet.spawn(poll.select)
            wait_all_parked()
            x.sendall(b"1")
            netnet.sleep(0)
            assert not task.done
            poll.remove(a)
            wait_all_parked()
            assert not task.done
            y.sendall(b"1")
            assert task.result() == [(b, READABLE)]

    run(main)


def test_read_by_another_before_the_look(run, pairs):
    """Never in vain: who finds nothing left waits on."""

    def main():
        ((a, x),) = pairs()
        with Poll([a]) as poll:
            reader = netnet.spawn(a.recv, 1)
            wait_all_parked()
            task = netnet.spawn(poll.select)
            wait_all_parked()
            for _ in range(20):
                x.sendall(b"1")
                assert reader.result() == b"1"
                wait_all_parked()
                if task.done:
                    assert task.result() == [(a, READABLE)]
                    task = netnet.spawn(poll.select)
                reader = netnet.spawn(a.recv, 1)
                wait_all_parked()
            x.close()
            assert reader.result() == b""
            task.result()

    run(main)


def test_an_empty_one_waits_in_a_task(run, pairs):
    def main():
        ((a, x),) = pairs()
        x.sendall(b"1")
        with Poll() as poll:
            task = netnet.spawn(poll.select)
            wait_all_parked()
            assert not task.done
            poll.add(a)
            assert task.result() == [(a, READABLE)]

    run(main)


def test_an_empty_one_outside_a_loop(facility):
    with Poll() as poll:
        assert poll.select(0) == []
        assert poll.select(0.001) == []
        with pytest.raises(UsageError, match="empty"):
            poll.select()


def test_two_tasks_are_both_told(run, backend, pairs):
    def main():
        ((a, x),) = pairs()
        with Poll([a]) as poll:
            tasks = [netnet.spawn(poll.select) for _ in range(3)]
            wait_all_parked()
            x.sendall(b"1")
            assert [task.result() for task in tasks] == [[(a, READABLE)]] * 3

    run(main)


def test_cancelled(run, backend, pairs):
    def main():
        ((a, x),) = pairs()
        with Poll([a]) as poll:
            tasks = [netnet.spawn(poll.select) for _ in range(2)]
            wait_all_parked()
            tasks[0].cancel()
            tasks[0].join()
            assert isinstance(tasks[0].error, Cancelled)
            assert not tasks[1].done
            x.sendall(b"1")
            assert tasks[1].result() == [(a, READABLE)]
            assert poll._calls == []
            with netnet.CancelScope() as scope:
                scope.cancel()
                poll.select(0)
                raise AssertionError

    run(main)


def test_others_get_their_turn_although_it_never_waits(run, pairs):
    def main():
        ((a, x),) = pairs()
        x.sendall(b"1")
        ran = []
        with Poll([a]) as poll:
            netnet.spawn(ran.append, 1)
            for _ in range(1000):
                poll.select()
                if ran:
                    return
        raise AssertionError

    run(main)


def test_a_callback_of_the_loop_must_not_wait(run, pairs):
    def main():
        seen = []
        with Poll([pairs()[0][0]]) as poll:

            def callback():
                assert poll.select(0) == []
                with pytest.raises(UsageError, match="callback"):
                    poll.select()
                seen.append(True)

            netnet.current_task().loop.call_soon(callback)
            netnet.sleep(0)
        return seen

    assert run(main) == [True]


# -- closing the Poll


def test_closing_wakes_all(run, backend, pairs):
    def main():
        ((a, _),) = pairs()
        poll = Poll([a])
        tasks = [netnet.spawn(poll.select) for _ in range(2)]
        wait_all_parked()
        poll.close()
        poll.close()
        for task in tasks:
            with pytest.raises(ClosedError, match="Poll is closed"):
                task.result()
        assert a._descriptor.followers is None

    run(main)


def test_closing_wakes_other_threads(facility, pairs):
    ((a, _),) = pairs()
    poll = Poll([a])
    told = []

    def wait():
        try:
            poll.select()
        except ClosedError as error:
            told.append(error)

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    while len(poll._calls) < 2:
        threading.Event().wait(0.001)
    poll.close()
    for thread in threads:
        thread.join()
    assert len(told) == 2


def test_closing_from_another_thread_wakes_a_task(run, pairs):
    def main():
        poll = Poll([pairs()[0][0]])
        task = netnet.spawn(poll.select)
        wait_all_parked()
        thread = threading.Thread(target=poll.close)
        thread.start()
        with pytest.raises(ClosedError):
            task.result()
        thread.join()

    run(main)


def test_closed(facility, pairs):
    ((a, _),) = pairs()
    poll = Poll([a])
    with poll:
        pass
    assert poll.closed
    assert len(poll) == 0
    poll.discard(a)
    for call in (poll.select, lambda: poll.add(a), lambda: poll.remove(a), lambda: poll.modify(a, READABLE)):
        with pytest.raises(ClosedError, match="Poll is closed"):
            call()


# -- closing a source


def test_a_source_of_ours_is_closed_while_it_waits(run, backend, pairs):
    def main():
        (a, _), (b, _) = pairs(2)
        with Poll([a, b]) as poll:
            tasks = [netnet.spawn(poll.select) for _ in range(2)]
            wait_all_parked()
            a.close()
            assert [task.result() for task in tasks] == [[(a, Ready.ERROR | Ready.CLOSED)]] * 2
            assert a not in poll
            assert list(poll) == [b]
            assert poll.select(0) == []
            assert a._descriptor.followers is None
            assert list(b._descriptor.followers) == [poll]

    run(main)


def test_a_source_of_ours_is_closed_outside_a_loop(pairs):
    ((a, _),) = pairs()
    with Poll([a]) as poll:
        closer = threading.Timer(0.01, a.close)
        closer.start()
        assert poll.select() == [(a, Ready.ERROR | Ready.CLOSED)]
        closer.join()


def test_a_source_of_ours_is_closed_while_nobody_waits(run, facility, pairs):
    """The natural loop, which closes what has ended and does not remove it."""

    def main():
        made = pairs(3)
        left = [a for a, _ in made]
        with Poll(left) as poll:
            for _, x in made:
                x.sendall(b"1")
                x.close()
            while left:
                for source, why in poll.select():
                    assert not why & Ready.CLOSED
                    if not source.recv(1):
                        source.close()
                        left.remove(source)
            assert len(poll) == 0

    inside_and_outside(run, main)


def test_who_waits_for_a_closed_one_elsewhere_is_told_too(run, pairs):
    def main():
        ((a, _),) = pairs()
        with Poll([a]) as poll:
            reader = netnet.spawn(a.recv, 1)
            task = netnet.spawn(poll.select)
            wait_all_parked()
            a.close()
            with pytest.raises(ClosedError):
                reader.result()
            assert task.result() == [(a, Ready.ERROR | Ready.CLOSED)]

    run(main)


def test_in_two_of_them(run, pairs):
    def main():
        ((a, _),) = pairs()
        with Poll([a]) as poll, Poll([a]) as other:
            other.remove(a)
            assert list(a._descriptor.followers) == [poll]
            other.add(a)
            tasks = [netnet.spawn(one.select) for one in (poll, other)]
            wait_all_parked()
            a.close()
            assert [task.result() for task in tasks] == [[(a, Ready.ERROR | Ready.CLOSED)]] * 2

    run(main)


def test_closed_twice_and_put_in_by_two_names(run, pairs):
    """A socket is known by what tells of its closing; another object of its number is refused while it stands."""

    def main():
        ((a, _),) = pairs()
        with Poll([a]) as poll:
            with pytest.raises(UsageError, match="already"):
                poll.add(a)
            with pytest.raises(UsageError, match="already"):
                poll.add(a.fileno())
            a.close()
            a.close()
            assert a not in poll
            assert a._descriptor.followers is None
            with pytest.raises(ClosedError):
                poll.add(a)

    inside_and_outside(run, main)


def test_detached_while_it_waits_and_then_closed(run, pairs):
    def main():
        ((a, _),) = pairs()
        with Poll([a]) as poll:
            task = netnet.spawn(poll.select)
            wait_all_parked()
            number = a.detach()
            wait_all_parked()
            assert not task.done
            a.close()
            assert task.result() == [(a, Ready.ERROR | Ready.CLOSED)]
        os.close(number)

    run(main)


def test_a_poll_that_is_dropped_while_a_socket_lives_is_not_told(run, pairs):
    def main():
        ((a, _),) = pairs()
        poll, other = Poll([a]), Poll([a])
        del poll
        gc.collect()
        assert list(a._descriptor.followers) == [other]
        a.close()
        assert len(other) == 0
        other.close()

    inside_and_outside(run, main)


def test_more_closed_than_asked_for(run, pairs):
    def main():
        made = [a for a, _ in pairs(3)]
        with Poll(made) as poll:
            task = netnet.spawn(lambda: poll.select(at_most=2))
            wait_all_parked()
            for one in made:
                one.close()
            assert task.result() == [(one, Ready.ERROR | Ready.CLOSED) for one in made[:2]]
            assert poll.select(0) == []

    run(main)


@pytest.mark.parametrize("kind", ["ours", "standard", "number"])
def test_a_number_that_is_used_again(run, facility, kind):
    """The old source is never reported for what happens to the new file of its number."""

    def main():
        old, peer = socket.socketpair() if kind != "ours" else netnet.socketpair()
        number = old.fileno()
        source = number if kind == "number" else old
        with peer, Poll([source]) as poll:
            old.close()
            new, other = pair_under(number)
            with new, other:
                other.send(b"1")
                assert poll.select(0) == []
                poll.add(new)
                assert poll.select(0) == [(new, READABLE)]
                assert list(poll) == [new]

    inside_and_outside(run, main)


@pytest.mark.parametrize("again", ["not", "added", "removed", "two"])
@pytest.mark.parametrize("kind", ["ours", "standard", "number"])
def test_closed_but_a_duplicate_lives_on(run, kind, again):
    """The kernel goes on reporting it under its old number; nobody is told, and no processor time is burnt."""

    def main():
        old, peer = netnet.socketpair() if kind == "ours" else socket.socketpair()
        copy = os.dup(old.fileno())
        number = old.fileno()
        source = number if kind == "number" else old
        poll = Poll([source])
        news = []
        peer.send(b"1")
        old.close()
        if again == "removed":
            poll.discard(source)
        if again in ("added", "two"):
            new, other = pair_under(number)
            news += [new, other]
            poll.add(new)
        assert poll.select(0) == []
        assert poll.select(0.01) == []
        assert list(poll) == news[:1]
        assert poll._watcher.look(EVENTS_MAX) == [], "what cannot be taken back is gone"
        if news:
            news[1].send(b"1")
            assert poll.select() == [(news[0], READABLE)]
        if again == "two":
            news[0].recv(1)
            assert poll.select(0) == []
        poll.close()
        for one in (peer, *news):
            one.close()
        os.close(copy)

    inside_and_outside(run, main)


def test_two_that_are_closed_with_duplicates_and_one_number_used_again(run):
    """Both are reported by the same look: the first has the kernel's part made anew, the second is not believed then."""

    def main():
        made = [socket.socketpair() for _ in range(2)]
        copies = [one.dup() for one, _ in made]
        numbers = [one.fileno() for one, _ in made]
        with Poll([one for one, _ in made]) as poll:
            for _, peer in made:
                peer.send(b"1")
            for one, _ in made:
                one.close()
            poll.discard(made[0][0])
            poll.discard(made[1][0])
            new, other = pair_under(numbers[1])
            poll.add(new)
            assert poll.select(0) == []
            other.send(b"1")
            assert poll.select(0) == [(new, READABLE)]
        for one in (new, other, *copies, *(peer for _, peer in made)):
            one.close()

    inside_and_outside(run, main)


def test_a_file_beside_a_source_that_was_closed_and_stayed(run, facility, tmp_path):
    """What stands in for the file gets the number of the closed source; taking that out leaves the file in."""

    def main():
        for kind in ("object", "number"):
            one, other = socket.socketpair()
            source = one if kind == "object" else one.fileno()
            with other, open(tmp_path / "file", "w+b") as file, Poll([source]) as poll:
                number = one.fileno()
                one.close()
                poll.add(file, WRITABLE)
                assert poll.select(0) == [(file, WRITABLE)]
                poll.discard(source)
                assert number not in poll
                assert poll.select(0) == poll.select() == [(file, WRITABLE)]
                poll.remove(file)
                assert poll.select(0) == []

    inside_and_outside(run, main)


def test_who_waits_stays_woken_when_the_kernel_s_part_is_made_anew(run):
    def main():
        old, peer = socket.socketpair()
        copy = old.dup()
        one, other = socket.socketpair()
        with peer, copy, one, other, Poll([old, one]) as poll:
            task = netnet.spawn(poll.select)
            wait_all_parked()
            old.close()
            peer.send(b"1")
            wait_all_parked()
            assert not task.done
            assert list(poll) == [one]
            other.send(b"1")
            assert task.result() == [(one, READABLE)]

    run(main)


def test_a_socket_that_was_detached(run, facility, pairs):
    def main():
        ((a, x),) = pairs()
        with Poll([a]) as poll:
            x.sendall(b"1")
            with socket.socket(fileno=a.detach()) as other:
                assert poll.select(0) == []
                poll.add(other)
                assert poll.select() == [(other, READABLE)]
                assert list(poll) == [other]

    inside_and_outside(run, main)


def test_modify_and_remove_after_closing(facility):
    one, other = socket.socketpair()
    with other, Poll([one]) as poll:
        one.close()
        with pytest.raises(ClosedError, match="was closed"):
            poll.modify(one, WRITABLE)
        assert one not in poll
    one, other = socket.socketpair()
    with other, Poll([one]) as poll:
        one.close()
        poll.remove(one)
        assert len(poll) == 0


def test_a_file_s_number_is_used_again(run, facility, tmp_path):
    def main():
        fd = os.open(tmp_path / "one", os.O_RDWR | os.O_CREAT)
        with Poll([fd]) as poll:
            assert poll.select() == [(fd, READABLE)]
            other = os.open(tmp_path / "two", os.O_RDWR | os.O_CREAT)
            os.dup2(other, fd)
            os.close(other)
            assert poll.select(0) == []
            assert len(poll) == 0
        os.close(fd)

    inside_and_outside(run, main)


# -- signals, threads


def test_a_signal_does_not_end_it(pairs):
    ((a, x),) = pairs()
    seen = []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(True))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        sender = threading.Timer(0.05, x.sendall, (b"1",))
        sender.start()
        with Poll([a]) as poll:
            assert poll.select() == [(a, READABLE)]
        sender.join()
        assert seen == [True]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_error_of_a_signal_s_handler_ends_it(pairs):
    ((a, _),) = pairs()

    def handler(*_):
        raise ZeroDivisionError

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with Poll([a]) as poll:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            with pytest.raises(ZeroDivisionError):
                poll.select()
            assert poll._calls == []
            assert poll._watcher.users == 0
    finally:
        signal.signal(signal.SIGALRM, before)


def test_loops_in_two_threads(run, pairs):
    """One Poll, a task of one loop and a task of another."""
    ((a, x),) = pairs()
    with Poll([a]) as poll:
        told = []
        thread = threading.Thread(target=lambda: told.append(netnet.run(poll.select)))
        thread.start()

        def main():
            task = netnet.spawn(poll.select)
            while len(poll._calls) < 2:
                netnet.sleep(0.001)
            x.sendall(b"1")
            return task.result()

        assert run(main) == [(a, READABLE)]
        thread.join()
        assert told == [[(a, READABLE)]]


def test_a_real_program(run):
    """Both outputs of a child program, by one task, while another task waits for a time."""

    def main():
        program = "import sys; print('out'); print('err', file=sys.stderr)"
        with subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            parts = {process.stdout: b"", process.stderr: b""}
            with Poll(list(parts)) as poll:
                while len(poll):
                    for source, _ in poll.select(20):
                        data = os.read(source.fileno(), 100)
                        parts[source] += data
                        if not data:
                            poll.remove(source)
        assert [text.strip() for text in parts.values()] == [b"out", b"err"]

    inside_and_outside(run, main)
