"""``Server`` and ``serve`` in one process: the limit on connections, errors of ``accept``, errors of handlers, draining,
SIGTERM, statistics, several listeners, ten thousand connections.

Where time matters it is virtual. What needs a limit on descriptors, a signal or many connections runs in a program of
its own, whose lines tell what it has come to. Several processes: ``test_workers``; listeners that are shared by several
loops: ``test_shared_listener``; what ``serve`` does in the usual case: ``test_stream``.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import re
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading

import pytest

import netnet
from netnet.net.serving import Server, ServerStatistics, accept_all, serve
from netnet.testing import VirtualClock, wait_all_parked

PAUSED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

#: concern the one connection that was to be accepted, see accept(2)
PASSED_OVER = (
    errno.ECONNABORTED,
    errno.EPROTO,
    errno.EPERM,
    errno.ENETDOWN,
    errno.ENOPROTOOPT,
    errno.EHOSTDOWN,
    errno.ENONET,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
)


@pytest.fixture
def virtual():
    """``netnet.run`` with a virtual clock, whose time is up when nothing happens any more."""

    def run(main):
        def limited():
            with netnet.timeout(1e9):
                return main()

        return netnet.run(limited, clock=VirtualClock())

    return run


@pytest.fixture
def listener():
    with netnet.listen("127.0.0.1:0") as one:
        yield one


def echo(conn):
    for chunk in conn:
        conn.sendall(chunk)


def asked(conn, data=b"hello"):
    conn.sendall(data)
    return conn.recv(100)


def dial(listener):
    return netnet.connect(listener.getsockname())


def stop(task):
    task.cancel()
    task.join()


def refused(address):
    with socket.socket() as probe:
        return probe.connect_ex(address) == errno.ECONNREFUSED


# -- the limit


def test_at_the_limit_it_accepts_no_more_and_refuses_nobody(backend, run, listener):
    def main():
        server = Server(echo, max_connections=2)
        task = netnet.spawn(server.serve, listener)
        conns = [dial(listener) for _ in range(6)]
        for conn in conns:
            conn.sendall(b"x")
        wait_all_parked()
        assert (server.statistics.accepted, server.statistics.active) == (2, 2)
        for served in range(1, 7):
            with conns.pop(0) as conn:
                assert conn.recv(9) == b"x"
            wait_all_parked()
            assert server.statistics.accepted == min(6, served + 2)
        stop(task)
        assert server.statistics == ServerStatistics(accepted=6, active=0, active_max=2, full=server.statistics.full)
        assert server.statistics.full == 5

    run(main)


def test_a_limit_of_one_serves_one_after_the_other(run, listener):
    order = []

    def handler(conn):
        order.append(conn.recv(9))
        netnet.sleep(0)
        conn.sendall(order[-1])

    def main():
        task = netnet.spawn(lambda: serve(listener, handler, max_connections=1))
        conns = [dial(listener) for _ in range(10)]
        for number, conn in enumerate(conns):
            conn.sendall(b"%d" % number)
        for number, conn in enumerate(conns):
            assert conn.recv(9) == b"%d" % number
            conn.close()
        stop(task)

    run(main)
    assert order == [b"%d" % number for number in range(10)]


@pytest.mark.parametrize("error", [None, ValueError("mine"), "cancelled"])
def test_a_permit_comes_back_however_a_handler_ends(run, listener, error, caplog):
    def handler(conn):
        if isinstance(error, Exception):
            raise error
        if error == "cancelled":
            netnet.current_task().cancel()
            netnet.sleep(1)

    def main():
        server = Server(handler, max_connections=1)
        task = netnet.spawn(server.serve, listener)
        for _ in range(5):
            with dial(listener) as conn:
                assert conn.recv(1) == b""
        stop(task)
        assert server.statistics.accepted == 5
        assert server.statistics.active == 0
        assert server._permits.value == 1

    with caplog.at_level(logging.CRITICAL, "netnet"):
        run(main)


def test_one_limit_over_several_listeners(backend, run):
    """Each of them may have accepted one more, which waits for its turn; never are more than the limit served."""

    def main():
        with netnet.listen("127.0.0.1:0") as one, netnet.listen("127.0.0.1:0") as other:
            server = Server(echo, max_connections=3)
            task = netnet.spawn(server.serve_all, [one, other])
            conns = [dial(where) for _ in range(6) for where in (one, other)]
            for conn in conns:
                conn.sendall(b"x")
            answered = 0
            while conns:
                wait_all_parked()
                assert server.statistics.active == min(3, len(conns))
                ready = next(conn for conn in conns if select.select([conn], [], [], 0)[0])
                conns.remove(ready)
                assert ready.recv(9) == b"x"
                ready.close()
                answered += 1
            wait_all_parked()
            assert answered == 12
            assert server.statistics.active_max == 3
            stop(task)
            assert server._permits.value == 3

    run(main)


@pytest.mark.parametrize("count", [0, -1])
def test_a_limit_that_makes_no_sense(run, listener, count):
    with pytest.raises(ValueError, match="1 connection at least"):
        Server(echo, max_connections=count)
    with pytest.raises(ValueError, match="1 connection at least"):
        run(lambda: serve(listener, echo, max_connections=count))


@pytest.mark.parametrize("seconds", [math.nan, "5", None])
def test_seconds_for_draining_that_make_no_sense(seconds):
    with pytest.raises((ValueError, TypeError)):
        Server(echo, drain_seconds=seconds)


# -- errors of accept


class Failing(netnet.Socket):
    """A listener whose ``accept`` fails with *errors*, one after the other, each in front of a connection it accepts."""

    errors: list[int]
    calls = 0

    def accept(self):
        self.calls += 1
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


@pytest.fixture
def failing():
    with Failing(socket.AF_INET) as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        yield one


@pytest.mark.parametrize("number", PAUSED + PASSED_OVER, ids=errno.errorcode.get)
def test_errors_of_accept_pass_and_nobody_is_lost(virtual, failing, number, caplog):
    """A pause is made where descriptors or memory have to come free first, and only there."""
    failing.errors = [number] * 5

    def main():
        server = Server(echo)
        task = netnet.spawn(server.serve, failing)
        with contextlib.ExitStack() as stack:
            conns = [stack.enter_context(dial(failing)) for _ in range(5)]
            for conn in conns:
                assert asked(conn, b"x") == b"x"
        wait_all_parked()
        stop(task)
        assert failing.calls <= 5 + 5 + 1
        told = server.statistics
        assert (told.accepted, told.accept_errors, told.last_accept_error.errno) == (5, 5, number)
        return netnet.now()

    with caplog.at_level(logging.CRITICAL, "netnet"):
        begun = VirtualClock().now()
        seconds = virtual(main) - begun
    assert (0.05 <= seconds <= 5) if number in PAUSED else seconds == 0


@pytest.mark.parametrize("number", [errno.EBADF, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSOCK, errno.EFAULT])
def test_other_errors_of_the_listener_end_it_and_its_handlers(virtual, failing, number):
    failing.errors = []

    def main():
        server = Server(echo)
        task = netnet.spawn(server.serve, failing)
        with dial(failing) as conn:
            assert asked(conn) == b"hello"
            failing.errors = [number]
            with dial(failing), dial(failing):
                with pytest.raises(OSError) as caught:
                    task.result()
            assert caught.value.errno == number
            assert conn.recv(9) == b""
        assert server.statistics.active == 0

    virtual(main)


@pytest.mark.parametrize("number", PAUSED, ids=errno.errorcode.get)
def test_while_it_lasts_it_does_not_spin(virtual, failing, number, caplog):
    """A minute without descriptors. It is told, too."""
    failing.errors = [number] * 1_000_000

    def main():
        server = Server(echo)
        task = netnet.spawn(server.serve, failing)
        netnet.sleep(60)
        assert failing.calls <= 60 * 50
        stop(task)

    with caplog.at_level(logging.WARNING, "netnet"):
        virtual(main)
    assert os.strerror(number) in caplog.text


def test_it_can_be_cancelled_and_drained_while_it_waits_for_descriptors(virtual, failing, caplog):
    failing.errors = [errno.EMFILE] * 1000

    def main():
        begun = netnet.now()
        server = Server(echo)
        task = netnet.spawn(server.serve, failing)
        wait_all_parked()
        stop(task)
        server = Server(echo)
        task = netnet.spawn(server.serve, failing)
        wait_all_parked()
        assert server.drain(10)
        task.result()
        assert netnet.now() - begun < 1

    with caplog.at_level(logging.CRITICAL, "netnet"):
        virtual(main)


def test_without_descriptors_every_client_is_served_in_the_end():
    """A server with few descriptors, and more clients in another process (this one) than it can have at once."""
    program = """
        listener = netnet.listen("127.0.0.1:0")
        resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))
        server = serving.Server(lambda conn: conn.sendall(conn.recv(100)))
        def main():
            logging.getLogger("netnet").setLevel(logging.CRITICAL)
            with netnet.TaskGroup() as group:
                group.spawn(server.serve, listener)
                say(listener.getsockname()[1])
                netnet.wait_readable(0)
                told = server.statistics
                say(told.accepted, told.active, told.active_max, told.accept_errors, told.last_accept_error.errno)
                group.cancel()
        netnet.run(main)
    """
    with Program(program) as server, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", int(server.line()))
        conns = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(60)]
        waiting = dict(enumerate(conns))
        first, last = waiting.pop(0), waiting.pop(59)
        last.sendall(b"last")
        with pytest.raises(TimeoutError):  # it has no descriptor for this one, and says nothing rather than no
            last.settimeout(0.3)
            last.recv(9)
        for number, conn in waiting.items():
            conn.sendall(b"%d" % number)
            assert conn.recv(9) == b"%d" % number
            conn.close()
        last.settimeout(20)
        assert last.recv(9) == b"last"
        assert asked(first, b"first") == b"first"
        server.tell("enough")
        accepted, _, most, errors, number = map(int, server.line().split())
        assert (accepted, number) == (60, errno.EMFILE)
        assert most < 24
        assert 1 <= errors <= 200  # of the twenty a second
        assert server.status() == 0


# -- errors of handlers


class Odd(Exception):
    def __str__(self):
        raise ValueError("cannot even be printed")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("mine"),
        ExceptionGroup("several", [ValueError("one"), OSError("two")]),
        TimeoutError("of the handler"),
        OSError(errno.EMFILE, "of the handler"),
        ConnectionResetError(errno.ECONNRESET, "gone"),
        netnet.ClosedError(),
        StopIteration("odd"),
        RecursionError(),
        MemoryError(),
        Odd(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("own", [True, False])
def test_an_error_of_a_handler_concerns_its_connection(run, listener, error, own, caplog):
    errors = []

    def handler(conn):
        if conn.recv(9) == b"bad":
            raise error
        conn.sendall(b"fine")

    def main():
        server = Server(handler, on_error=errors.append if own else None, max_connections=3)
        task = netnet.spawn(server.serve, listener)
        with dial(listener) as before:
            for _ in range(4):
                with dial(listener) as bad:
                    assert asked(bad, b"bad") == b""
            assert asked(before, b"good") == b"fine"
        wait_all_parked()
        stop(task)
        assert (server.statistics.accepted, server.statistics.failed, server.statistics.active) == (5, 4, 0)

    logging.raiseExceptions, before = False, logging.raiseExceptions  # printing the odd one is logging's own affair
    try:
        with caplog.at_level(logging.ERROR, "netnet"):
            run(main)
    finally:
        logging.raiseExceptions = before
    assert errors == ([error] * 4 if own else [])
    assert [record.exc_info[1] for record in caplog.records] == ([] if own else [error] * 4)


def test_an_on_error_that_fails_itself(run, listener, caplog):
    def fail(error):
        raise KeyError("second")

    def main():
        server = Server(lambda conn: 1 / 0, on_error=fail, max_connections=1)
        task = netnet.spawn(server.serve, listener)
        for _ in range(3):
            with dial(listener) as conn:
                assert conn.recv(1) == b""
        stop(task)
        assert server.statistics.failed == 3

    with caplog.at_level(logging.ERROR, "netnet"):
        run(main)
    assert [type(record.exc_info[1]) for record in caplog.records] == [KeyError] * 3
    assert all(isinstance(record.exc_info[1].__context__, ZeroDivisionError) for record in caplog.records)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=["SystemExit", "KeyboardInterrupt"])
def test_what_is_meant_to_end_the_program_ends_it(run, listener, error):
    """After the other handlers have cleaned up; no connection is left open."""
    cleaned = []

    def handler(conn):
        try:
            if conn.recv(9) == b"end":
                raise error
        except netnet.Cancelled:
            cleaned.append(conn)
            raise

    def main():
        task = netnet.spawn(lambda: serve(listener, handler))
        with dial(listener) as other, dial(listener) as conn:
            conn.sendall(b"end")
            task.join()
            assert other.recv(1) == conn.recv(1) == b""

    with pytest.raises(type(error)) as caught:
        run(main)
    if isinstance(error, SystemExit):
        assert caught.value.code == 3
    assert len(cleaned) <= 1


def test_a_handler_that_swallows_its_cancellation_is_waited_for_and_ends(virtual, listener):
    ended = []

    def handler(conn):
        try:
            conn.recv(1)
        except netnet.Cancelled:
            with netnet.shield():
                netnet.sleep(3)
            ended.append(netnet.now())

    def main():
        task = netnet.spawn(lambda: serve(listener, handler))
        with dial(listener):
            wait_all_parked()
            stop(task)
        assert len(ended) == 1

    virtual(main)


def test_a_handler_may_close_detach_or_keep_its_connection(run, listener):
    kept = []

    def handler(conn):
        match conn.recv(9):
            case b"close":
                conn.close()
            case b"detach":
                kept.append(conn.detach())
            case _:
                kept.append(conn.dup())

    def main():
        server = Server(handler, max_connections=1)
        task = netnet.spawn(server.serve, listener)
        with dial(listener) as one, dial(listener) as two, dial(listener) as three:
            assert asked(one, b"close") == b""
            two.sendall(b"detach")
            three.sendall(b"keep")
            wait_all_parked()
            os.close(kept.pop(0))
            assert two.recv(1) == b""
            kept.pop(0).close()
            assert three.recv(1) == b""
        stop(task)
        assert server.statistics.failed == 0

    run(main)


# -- draining


def test_draining_an_idle_server(backend, run, listener):
    def main():
        server = Server(echo)
        task = netnet.spawn(server.serve, listener)
        address = listener.getsockname()
        with dial(listener) as conn:
            assert asked(conn) == b"hello"
        wait_all_parked()
        assert not server.draining
        assert server.drain() is True
        assert server.draining
        task.result()
        assert listener.fileno() == -1
        assert refused(address)

    run(main)


def test_those_that_are_busy_finish_and_those_that_are_idle_are_cut_at_the_deadline(virtual, listener):
    cut = []

    def handler(conn):
        try:
            for chunk in conn:
                netnet.sleep(float(chunk))
                conn.sendall(b"done")
        except netnet.Cancelled:
            cut.append(netnet.now())
            raise

    def main():
        server = Server(handler)
        task = netnet.spawn(server.serve, listener)
        begun = netnet.now()
        with dial(listener) as busy, dial(listener) as idle:
            busy.sendall(b"4")
            busy.shutdown(socket.SHUT_WR)
            wait_all_parked()
            assert server.drain(10) is False
            assert netnet.now() - begun == 10
            assert busy.recv(9) == b"done"
            assert idle.recv(9) == b""
            assert cut == [begun + 10]
        task.result()

    virtual(main)


def test_it_ends_as_soon_as_the_last_has_ended(virtual, listener):
    def handler(conn):
        netnet.sleep(float(conn.recv(9)))

    def main():
        server = Server(handler)
        netnet.spawn(server.serve, listener)
        begun = netnet.now()
        with dial(listener) as one, dial(listener) as other:
            one.sendall(b"3")
            other.sendall(b"7")
            wait_all_parked()
            assert server.drain(100) is True
            assert netnet.now() - begun == 7

    virtual(main)


def test_those_in_the_backlog_are_taken_and_later_ones_refused(virtual, listener):
    """They were connected before the drain began; the kernel has told them so."""

    def handler(conn):
        conn.sendall(conn.recv(9))

    def main():
        server = Server(handler)
        task = netnet.spawn(server.serve, listener)
        wait_all_parked()
        address = listener.getsockname()
        with contextlib.ExitStack() as stack:
            # without a switch: nobody has accepted yet
            clients = [stack.enter_context(socket.create_connection(address)) for _ in range(50)]
            for number, client in enumerate(clients):
                client.sendall(b"%d" % number)
            assert server.statistics.accepted == 0
            server.begin_draining(5)
            task.result()
            assert refused(address)
            for number, client in enumerate(clients):
                assert client.recv(9) == b"%d" % number
        assert server.statistics.accepted == 50

    virtual(main)


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.ENETDOWN], ids=errno.errorcode.get)
def test_an_aborted_one_in_the_backlog_does_not_cost_the_others(virtual, failing, number):
    failing.errors = []

    def main():
        server = Server(echo)
        task = netnet.spawn(server.serve, failing)
        wait_all_parked()
        address = failing.getsockname()
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection(address)) for _ in range(5)]
            for client in clients:
                client.sendall(b"x")
                client.shutdown(socket.SHUT_WR)
            failing.errors = [number]
            server.begin_draining(5)
            task.result()
            assert server.statistics.accepted == 5
            for client in clients:
                assert client.recv(9) == b"x"

    virtual(main)


def test_draining_at_the_limit(virtual, listener):
    """There is no room for those in the backlog, so they are not taken; those that are served finish."""

    def main():
        server = Server(echo, max_connections=2)
        task = netnet.spawn(server.serve, listener)
        with contextlib.ExitStack() as stack:
            conns = [stack.enter_context(dial(listener)) for _ in range(4)]
            wait_all_parked()
            server.begin_draining(10)
            wait_all_parked()
            begun = netnet.now()
            for conn in conns[:2]:
                assert asked(conn) == b"hello"
                conn.close()
            task.result()
            assert netnet.now() == begun
            assert server.statistics.accepted == 2
            for conn in conns[2:]:
                with contextlib.suppress(ConnectionResetError):
                    assert conn.recv(1) == b""
        assert server._permits.value == 2

    virtual(main)


@pytest.mark.parametrize("seconds", [0, 1, math.inf])
def test_what_draining_returns_where_nobody_had_to_be_cut(virtual, listener, seconds):
    def main():
        server = Server(echo)
        netnet.spawn(server.serve, listener)
        wait_all_parked()
        assert server.drain(seconds) is True

    virtual(main)


def test_what_draining_returns_before_the_server_serves(virtual):
    assert virtual(lambda: Server(echo).drain(0)) is True


def test_with_no_time_at_all_they_are_cut_at_once(virtual, listener):
    def main():
        server = Server(echo)
        netnet.spawn(server.serve, listener)
        begun = netnet.now()
        with dial(listener) as conn:
            wait_all_parked()
            assert server.drain(0) is False
            assert conn.recv(1) == b""
        assert netnet.now() == begun

    virtual(main)


def test_without_a_limit_it_waits_for_as_long_as_it_takes(virtual, listener):
    def handler(conn):
        netnet.sleep(1e6)

    def main():
        server = Server(handler)
        netnet.spawn(server.serve, listener)
        with dial(listener):
            wait_all_parked()
            begun = netnet.now()
            assert server.drain() is True
            assert netnet.now() - begun == pytest.approx(1e6)

    virtual(main)


@pytest.mark.parametrize("seconds", [math.nan, "1"])
def test_draining_for_a_time_that_makes_no_sense(virtual, seconds):
    def main():
        server = Server(echo)
        with pytest.raises((ValueError, TypeError)):
            server.drain(seconds)
        assert not server.draining

    virtual(main)


@pytest.mark.parametrize(("first", "second", "at"), [(10, 2, 2), (math.inf, 2, 2), (2, 10, 2), (10, 0, 0), (2, 2, 2)])
def test_draining_twice_the_earlier_deadline_counts(virtual, listener, first, second, at):
    """Who is in more of a hurry, an operator who says it again, say, is not told to wait for somebody else's patience."""

    def main():
        server = Server(echo)
        netnet.spawn(server.serve, listener)
        with dial(listener) as conn:
            wait_all_parked()
            begun = netnet.now()
            slow = netnet.spawn(server.drain, first)
            wait_all_parked()
            with netnet.timeout(100):
                assert server.drain(second) is False
            assert netnet.now() - begun == at
            assert slow.result() is False
            assert conn.recv(1) == b""

    virtual(main)


def test_several_tasks_wait_for_one_drain_and_one_is_cancelled(virtual, listener):
    def main():
        server = Server(echo)
        netnet.spawn(server.serve, listener)
        with dial(listener) as conn:
            waiting = [netnet.spawn(server.drain) for _ in range(3)]
            wait_all_parked()
            stop(waiting.pop())
            assert asked(conn) == b"hello"
            conn.close()
            assert [task.result() for task in waiting] == [True, True]
        assert server.drain() is True  # once more, afterwards

    virtual(main)


@pytest.mark.parametrize("seconds", [2, 0])
def test_draining_from_a_handler_ends_at_the_deadline(virtual, listener, seconds):
    """It waits for itself, and is cut like the others."""
    ended = []

    def handler(conn):
        try:
            server.drain(seconds)
        except netnet.Cancelled:
            ended.append(netnet.now())
            raise

    server = Server(handler)

    def main():
        task = netnet.spawn(server.serve, listener)
        begun = netnet.now()
        with dial(listener) as conn:
            task.result()
            assert conn.recv(1) == b""
        assert ended == [begun + seconds]

    virtual(main)


def test_beginning_to_drain_from_a_handler(virtual, listener):
    """As for a request like "shut down": the answer still goes out."""

    def handler(conn):
        conn.recv(9)
        server.begin_draining(5)
        netnet.sleep(1)
        conn.sendall(b"good night")

    server = Server(handler)

    def main():
        task = netnet.spawn(server.serve, listener)
        with dial(listener) as conn:
            assert asked(conn) == b"good night"
            task.result()

    virtual(main)


def test_a_drained_server_serves_no_more(virtual, listener):
    def main():
        server = Server(echo)
        server.begin_draining(0)
        with pytest.raises(netnet.UsageError, match="make a new one"):
            server.serve(listener)
        assert listener.fileno() != -1

    virtual(main)


@pytest.mark.parametrize("waits", [True, False])
def test_draining_before_the_tasks_of_several_listeners_have_begun(virtual, waits):
    """They were started, and have not had their turn yet: the same as a moment later."""

    def main():
        with netnet.listen("127.0.0.1:0") as one, netnet.listen("127.0.0.1:0") as other:
            addresses = one.getsockname(), other.getsockname()
            server = Server(echo)
            task = netnet.spawn(server.serve_all, [one, other])
            netnet.sleep(0)
            if waits:
                assert server.drain(5) is True
            else:
                server.begin_draining(5)
            task.result()
            assert [refused(address) for address in addresses] == [True, True]

    virtual(main)


def test_draining_several_listeners(virtual):
    def main():
        with contextlib.ExitStack() as stack:
            listeners = [stack.enter_context(netnet.listen("127.0.0.1:0")) for _ in range(3)]
            addresses = [one.getsockname() for one in listeners]
            server = Server(echo)
            task = netnet.spawn(server.serve_all, listeners)
            conns = [stack.enter_context(dial(one)) for one in listeners]
            wait_all_parked()
            done = netnet.spawn(server.drain, 5)
            wait_all_parked()
            assert all(refused(address) for address in addresses)
            for conn in conns:
                assert not done.done
                assert asked(conn) == b"hello"
                conn.close()
                wait_all_parked()
            assert done.result() is True
            task.result()

    virtual(main)


def test_draining_while_one_listener_holds_a_connection_for_which_there_is_no_permit(virtual):
    """Two accept at the same moment, for the last permit. The one that is left waits for it, and the drain for both."""

    def main():
        with netnet.listen("127.0.0.1:0") as one, netnet.listen("127.0.0.1:0") as other:
            server = Server(echo, max_connections=1)
            task = netnet.spawn(server.serve_all, [one, other])
            wait_all_parked()
            with dial(one) as first, dial(other) as second:
                wait_all_parked()
                begun = netnet.now()
                done = netnet.spawn(server.drain, 10)
                wait_all_parked()
                answers = [conn for conn in (first, second) if asked_without_waiting(conn)]
                assert len(answers) == 1
                answers[0].close()
                left = second if answers[0] is first else first
                assert left.recv(9) == b"x"
                left.close()
                assert done.result() is True
                assert netnet.now() - begun < 10
                task.result()

    virtual(main)


def asked_without_waiting(conn):
    conn.sendall(b"x")
    wait_all_parked()
    return bool(select.select([conn], [], [], 0)[0]) and conn.recv(9) == b"x"


def test_cancelling_a_server_that_drains(virtual, listener):
    def main():
        server = Server(echo)
        task = netnet.spawn(server.serve, listener)
        with dial(listener) as conn:
            wait_all_parked()
            server.begin_draining(100)
            wait_all_parked()
            begun = netnet.now()
            stop(task)
            assert netnet.now() == begun
            assert conn.recv(1) == b""
        assert server.drain() in (True, False)  # and does not wait

    virtual(main)


def test_a_second_run_of_the_same_server_after_it_was_cancelled(virtual, listener):
    def main():
        server = Server(echo, max_connections=1)
        for _ in range(3):
            task = netnet.spawn(server.serve, listener)
            with dial(listener) as conn:
                assert asked(conn) == b"hello"
            wait_all_parked()
            stop(task)
        assert server.statistics.accepted == 3
        assert server._permits.value == 1

    virtual(main)


# -- several listeners


def test_when_one_listener_fails_the_others_end(virtual):
    def main():
        with netnet.listen("127.0.0.1:0") as one, netnet.listen("127.0.0.1:0") as other:
            task = netnet.spawn(serve, [one, other], echo)
            with dial(other) as conn:
                assert asked(conn) == b"hello"
                one.close()
                with pytest.raises(netnet.ClosedError):
                    task.result()
                assert conn.recv(1) == b""

    virtual(main)


def test_addresses_and_listeners_together(run, tmp_path):
    path = str(tmp_path / "socket")

    def main():
        with netnet.listen("127.0.0.1:0") as listener:
            task = netnet.spawn(serve, [listener, f"unix:{path}"], echo)
            wait_all_parked()
            for address in (listener.getsockname(), f"unix:{path}"):
                with netnet.connect(address) as conn:
                    assert asked(conn) == b"hello"
            stop(task)
            with pytest.raises(ConnectionRefusedError):
                netnet.connect(f"unix:{path}")
            assert listener.fileno() != -1  # it is the caller's

    run(main)


def test_an_address_that_cannot_be_listened_on_leaves_none_of_the_others_open(run, listener):
    with pytest.raises(OSError, match=re.escape(f"listen on 127.0.0.1:{listener.getsockname()[1]}")):
        run(lambda: serve(["127.0.0.1:0", listener.getsockname()], echo))


def test_nothing_to_serve(run):
    with pytest.raises(ValueError, match="nothing to serve"):
        run(lambda: serve([], echo))


def test_outside_a_run(listener):
    with pytest.raises(netnet.UsageError):
        serve(listener, echo)
    with pytest.raises(netnet.UsageError):
        Server(echo).serve(listener)


# -- accept_all by itself


def test_what_cannot_be_taken_is_closed_and_its_permit_comes_back(run, listener):
    def refuse(conn, address):
        raise RuntimeError("no")

    def main():
        permits = netnet.Semaphore(1)
        with dial(listener) as conn:
            with pytest.raises(RuntimeError, match="no"):
                accept_all(listener, refuse, permits)
            assert conn.recv(1) == b""
        assert permits.value == 1

    run(main)


# -- SIGTERM


PREAMBLE = """
    import errno, logging, math, os, resource, signal, sys
    import netnet
    from netnet.kernel.limits import raise_descriptor_limit
    from netnet.net import serving

    def say(*words):
        os.write(1, (" ".join(map(str, words)) + "\\n").encode())
"""


class Program:
    """A Python program that ``say``s things line by line, and is killed at the end if it is still there."""

    def __init__(self, code, **variables):
        lines = textwrap.dedent(PREAMBLE) + "".join(f"{name} = {value!r}\n" for name, value in variables.items())
        self.process = subprocess.Popen(
            [sys.executable, "-c", lines + textwrap.dedent(code)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.errors = b""
        self._said = b""
        self._reader = threading.Thread(target=self._collect)

    def _collect(self):
        self.errors = self.process.stderr.read()

    def __enter__(self):
        self._reader.start()
        return self

    def __exit__(self, kind, *_):
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                stream.close()
        if kind is not None:
            sys.stderr.write(self.errors.decode())

    def line(self, seconds=20):
        """The next line that it says; nothing at its end."""
        while b"\n" not in self._said:
            assert select.select([self.process.stdout], [], [], seconds)[0], "the program says nothing"
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                break
            self._said += data
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    def tell(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def send(self, number):
        self.process.send_signal(number)

    def status(self, seconds=20):
        return self.process.wait(seconds)


SERVER = """
    listener = netnet.listen("127.0.0.1:0")
    say(listener.getsockname()[1])
    def handler(conn):
        try:
            while command := conn.recv(100):
                conn.sendall(b"begun")
                if command == b"slow":
                    netnet.sleep(0.3)
                    conn.sendall(b" and done")
        except netnet.Cancelled:
            say("cut")
            raise
    def witness():
        try:
            netnet.sleep(1000)
        finally:
            say("the others end")
    def main():
        netnet.spawn(witness)
        try:
            netnet.serve(listener, handler, drain_seconds=float(seconds))
        finally:
            say("serve has ended")
    netnet.run(main)
"""


@contextlib.contextmanager
def server_with_client(seconds, command):
    with Program(SERVER, seconds=seconds) as server:
        address = ("127.0.0.1", int(server.line()))
        with socket.create_connection(address, timeout=20) as conn:
            conn.sendall(command)
            assert conn.recv(100) == b"begun"
            yield server, conn, address


def rest(server):
    """What it still says, until its end."""
    lines = []
    while line := server.line():
        lines.append(line)
    return lines


def wait_until_refused(address):
    for _ in range(2000):
        if refused(address):
            return
        select.select([], [], [], 0.005)
    raise AssertionError("new connections are still taken")


def test_sigterm_lets_a_request_that_is_under_way_finish():
    with server_with_client(10, b"slow") as (server, conn, address):
        server.send(signal.SIGTERM)
        assert conn.recv(100) == b" and done"
        conn.close()
        assert rest(server) == ["serve has ended", "the others end"]
        assert server.status() == 143
        assert server.errors == b""


def test_sigterm_takes_no_new_ones():
    with server_with_client(10, b"idle") as (server, conn, address):
        server.send(signal.SIGTERM)
        wait_until_refused(address)
        assert asked(conn, b"slow") == b"begun"  # those that stand are served meanwhile
        conn.close()
        assert server.status() == 143


def test_at_the_deadline_the_idle_ones_are_cut():
    with server_with_client(0.3, b"idle") as (server, conn, _):
        server.send(signal.SIGTERM)
        assert conn.recv(1) == b""
        assert rest(server) == ["cut", "serve has ended", "the others end"]
        assert server.status() == 143


def test_without_seconds_for_draining_sigterm_cuts_them_at_once():
    with server_with_client(0, b"idle") as (server, conn, _):
        server.send(signal.SIGTERM)
        assert conn.recv(1) == b""
        assert sorted(rest(server)) == ["cut", "serve has ended", "the others end"]
        assert server.status() == 143


@pytest.mark.parametrize(("number", "statuses"), [(signal.SIGTERM, {143}), (signal.SIGINT, {143, -signal.SIGINT})])
def test_while_it_drains_a_second_signal_ends_it_at_once(number, statuses):
    with server_with_client("inf", b"idle") as (server, conn, address):
        server.send(signal.SIGTERM)
        wait_until_refused(address)
        assert asked(conn) == b"begun"
        server.send(number)
        assert conn.recv(1) == b""
        assert sorted(rest(server)) == ["cut", "serve has ended", "the others end"]
        assert server.status() in statuses


def test_sigterm_while_somebody_drains_already_without_a_limit():
    """``drain()`` waits for as long as it takes. But the server's own limit on SIGTERM is a promise to the supervisor."""
    program = """
        listener = netnet.listen("127.0.0.1:0")
        server = serving.Server(lambda conn: conn.recv(1), drain_seconds=0.2)
        def main():
            netnet.spawn(server.serve, listener, eager=True)
            say(listener.getsockname()[1])
            netnet.wait_readable(0)
            server.drain()
        netnet.run(main)
    """
    with Program(program) as server:
        address = ("127.0.0.1", int(server.line()))
        with socket.create_connection(address, timeout=20):
            server.tell("go on")
            wait_until_refused(address)
            server.send(signal.SIGTERM)
            assert server.status(3) == 143


def test_two_servers_in_one_run_are_both_waited_for():
    program = """
        def handler(conn):
            while seconds := conn.recv(100):
                conn.sendall(b"begun")
                netnet.sleep(float(seconds))
                conn.sendall(b"done")
        def main():
            with netnet.TaskGroup() as group:
                for _ in range(2):
                    listener = netnet.listen("127.0.0.1:0")
                    group.spawn(lambda listener=listener: netnet.serve(listener, handler, drain_seconds=20))
                    say(listener.getsockname()[1])
        netnet.run(main)
    """
    with Program(program) as server, contextlib.ExitStack() as stack:
        ports = int(server.line()), int(server.line())
        conns = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20)) for port in ports]
        for conn, seconds in zip(conns, (b"0.1", b"0.4"), strict=True):
            assert asked(conn, seconds) == b"begun"
        server.send(signal.SIGTERM)
        for conn in conns:
            assert conn.recv(100) == b"done"
            conn.close()
        assert server.status() == 143


def test_the_manager_is_told(tmp_path, monkeypatch):
    """READY when it serves, STOPPING when it drains, and also where SIGTERM ends it without draining."""
    for seconds in (5, 0):
        name = str(tmp_path / f"notify{seconds}")
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(name)
            manager.settimeout(10)
            with Program(SERVER, seconds=seconds) as server:
                assert manager.recv(100) == b"READY=1"
                server.send(signal.SIGTERM)
                assert server.status() == 143
            manager.settimeout(1)
            assert manager.recv(100) == b"STOPPING=1", f"with {seconds} s for draining"


def test_a_server_that_cannot_begin_does_not_say_that_it_is_ready(tmp_path, monkeypatch, listener, run):
    name = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        manager.setblocking(False)
        with pytest.raises(ValueError):
            run(lambda: serve(listener, echo, max_connections=0))
        with pytest.raises(BlockingIOError):
            manager.recv(100)


# -- ten thousand

MANY = 10_000


def test_ten_thousand_connections_at_once_in_one_process(limited_descriptors):
    """Each has sent what only it has, all stand at once, and each is answered with its own; then all go, and the server
    knows of none."""
    if limited_descriptors < MANY + 100:
        pytest.skip(f"a process may have {limited_descriptors} descriptors here, this needs {MANY + 100}")
    program = """
        if raise_descriptor_limit() < 10_100:
            say("too few descriptors")
            raise SystemExit
        def handler(conn):
            for chunk in conn:
                conn.sendall(chunk[::-1])
        listeners = [netnet.listen(f"127.0.0.{host}:0") for host in (1, 2)]
        server = serving.Server(handler, max_connections=10_000)
        def main():
            task = netnet.spawn(server.serve_all, listeners)
            for listener in listeners:
                say(listener.getsockname()[1])
            netnet.wait_readable(0)
            say(server.statistics.active, server.statistics.active_max, server.statistics.failed)
            sys.stdin.readline()
            assert server.drain(20)
            task.result()
            say(server.statistics.accepted, server.statistics.active, len(os.listdir("/proc/self/fd")) < 100)
        netnet.run(main)
    """

    def clients(addresses):
        conns = []
        dialers = netnet.Semaphore(500)

        def client(number):
            with dialers:
                conn = netnet.connect(addresses[number % 2])
            conns.append(conn)
            message = b"%06d" % number
            conn.sendall(message)
            assert conn.recv(100) == message[::-1]

        with netnet.TaskGroup() as group:
            for number in range(MANY):
                group.spawn(client, number)
        server.tell("all are there")
        assert server.line() == f"{MANY} {MANY} 0"
        for conn in conns:
            conn.close()

    with Program(program) as server:
        first = server.line()
        if first == "too few descriptors":
            pytest.skip(first)
        addresses = [("127.0.0.1", int(first)), ("127.0.0.2", int(server.line()))]
        netnet.run(clients, addresses)
        assert server.line() == f"{MANY} 0 True"
        assert server.status() == 0
