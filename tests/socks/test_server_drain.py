"""The end of a server: drained, with and without a deadline, or cancelled. What is under way comes to its end, or is cut off,
as it was told; nothing is left over.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket

import pytest

import netnet
from netnet.runtime.loop import running
from netnet.socks import Ending, Limits, Server, Settings
from netnet.testing import VirtualClock, wait_all_parked
from tests.socks.conftest import echoing
from tests.socks.dialects import ALL, SOCKS4, SOCKS5, everything, exactly, reply_of_socks5
from tests.socks.wire import greeting, request5


class Draining:
    """A server on a listener, with a client of each kind: relayed, in the handshake, binding, with an association."""

    def __init__(self, stack, target, **options):
        self.sessions = []
        self.listener = stack.enter_context(netnet.listen("127.0.0.1:0"))
        self.address = self.listener.getsockname()
        self.server = Server(report=self.sessions.append, **options)
        self.task = netnet.spawn(self.server.serve, self.listener)
        self.relayed = stack.enter_context(self.client(SOCKS5.opening(*target.getsockname())))
        SOCKS5.granted(self.relayed)
        self.shaking = stack.enter_context(self.client(greeting(0)))
        assert exactly(self.shaking, 2) == b"\5\0"
        self.binding = stack.enter_context(self.client(greeting(0) + request5("0.0.0.0", 0, command=2)))
        exactly(self.binding, 2)
        self.bound = reply_of_socks5(self.binding, 0)
        self.associated = stack.enter_context(self.client(greeting(0) + request5("0.0.0.0", 0, command=3)))
        exactly(self.associated, 12)
        wait_all_parked()

    def client(self, data):
        client = netnet.connect(self.address)
        client.sendall(data)
        return client

    def endings(self):
        return sorted(session.ending for session in self.sessions)

    def assert_over(self):
        self.task.result()  # it has returned, and raised nothing
        assert not self.server.sessions
        assert not running.loop.relays
        assert self.listener.fileno() == -1

    def assert_closed_to_newcomers(self):
        wait_all_parked()
        assert self.listener.fileno() == -1
        with pytest.raises(ConnectionRefusedError):
            netnet.connect(self.address)


@pytest.mark.parametrize("seconds", [math.inf, 10**6])
def test_what_is_under_way_comes_to_its_end(backend, run, seconds):
    def main():
        with echoing() as target, contextlib.ExitStack() as stack:
            d = Draining(stack, target)
            d.server.begin_draining(seconds)
            assert d.server.draining
            d.assert_closed_to_newcomers()
            assert d.server.active == 4
            d.relayed.sendall(b"x")
            assert exactly(d.relayed, 1) == b"x"
            d.shaking.sendall(request5(*target.getsockname()))  # a handshake under way is finished
            reply_of_socks5(d.shaking, 0)
            d.shaking.sendall(b"y")
            assert exactly(d.shaking, 1) == b"y"
            with netnet.connect(d.bound):
                reply_of_socks5(d.binding, 0)
            assert not d.task.done
            for client in (d.relayed, d.shaking, d.binding):
                client.close()
            wait_all_parked()
            assert not d.task.done
            d.associated.close()
            d.assert_over()
            assert d.endings() == [Ending.CLOSED] * 4
            assert netnet.now() == 0

    run(main, clock=VirtualClock())


def test_what_is_not_through_in_time_is_cut_off(backend, run):
    def main():
        with echoing() as target, contextlib.ExitStack() as stack:
            d = Draining(stack, target)
            d.server.begin_draining(5)
            d.assert_over()
            assert netnet.now() == 5
            assert d.endings() == [Ending.STOPPED] * 4
            with pytest.raises(ConnectionResetError):  # nobody takes half a stream for a whole one
                d.relayed.recv(1)
            for client in (d.shaking, d.binding, d.associated):
                with contextlib.suppress(ConnectionResetError):
                    assert everything(client) == b""

    run(main, clock=VirtualClock())


def test_at_once(run):
    def main():
        with echoing() as target, contextlib.ExitStack() as stack:
            d = Draining(stack, target)
            d.server.begin_draining(0)
            d.assert_over()
            assert netnet.now() == 0
            assert d.endings() == [Ending.STOPPED] * 4

    run(main, clock=VirtualClock())


def test_by_default_for_as_long_as_the_server_has_it(run):
    def main():
        with echoing() as target, contextlib.ExitStack() as stack:
            d = Draining(stack, target, drain_seconds=7)
            d.server.begin_draining()
            d.assert_over()
            assert netnet.now() == 7

    run(main, clock=VirtualClock())


@pytest.mark.parametrize(("first", "second", "end"), [(100, 4, 4), (4, 100, 4), (math.inf, 4, 4), (4, 4, 4)])
def test_of_several_deadlines_the_earliest_counts(run, first, second, end):
    def main():
        with echoing() as target, contextlib.ExitStack() as stack:
            d = Draining(stack, target)
            d.server.begin_draining(first)
            wait_all_parked()
            d.server.begin_draining(second)
            d.assert_over()
            assert netnet.now() == end

    run(main, clock=VirtualClock())


def test_a_handshake_has_no_more_time_than_it_had(run):
    """Who says nothing keeps the server no longer than its handshake may take."""

    def main():
        with netnet.listen("127.0.0.1:0") as listener, netnet.connect(listener.getsockname()) as client:
            server = Server()
            task = netnet.spawn(server.serve, listener)
            wait_all_parked()
            server.begin_draining(math.inf)
            task.join()
            assert netnet.now() == server.settings.limits.handshake_seconds
            assert everything(client) == b""

    run(main, clock=VirtualClock())


@pytest.mark.parametrize("dialect", ALL, ids=str)
def test_a_connection_that_is_being_made(run, dialect):
    """Its target answers while the server drains: it is granted, and lives."""

    def main():
        go = netnet.Event()

        def dial(address):
            go.wait()
            return netnet.connect(address)

        with echoing() as target, netnet.listen("127.0.0.1:0") as listener:
            server = Server(dial=dial)
            task = netnet.spawn(server.serve, listener)
            with netnet.connect(listener.getsockname()) as client:
                client.sendall(dialect.opening(*target.getsockname()))
                wait_all_parked()
                server.begin_draining(math.inf)
                wait_all_parked()
                go.set()
                dialect.granted(client)
                dialect.arrived(client, target.getsockname())
                client.sendall(b"x")
                assert exactly(client, 1) == b"x"
                client.shutdown(socket.SHUT_WR)
                assert everything(client) == b""
            task.result()

    run(main)


def test_a_server_that_was_drained_before_it_began(run):
    def main():
        with netnet.listen("127.0.0.1:0") as listener:
            server = Server()
            server.begin_draining(5)
            server.serve(listener)
            assert listener.fileno() == -1
            assert netnet.now() == 0

    run(main, clock=VirtualClock())


def test_who_waits_in_the_backlog_is_served(run):
    """Nobody else knows of those connections; refused would be who comes later."""

    def main():
        with echoing() as target, netnet.listen("127.0.0.1:0") as listener, contextlib.ExitStack() as stack:
            server = Server()
            task = netnet.spawn(server.serve, listener)
            wait_all_parked()
            clients = [stack.enter_context(socket.create_connection(listener.getsockname())) for _ in range(5)]
            server.begin_draining(math.inf)  # in the very turn in which they came
            for client in clients:
                client.sendall(SOCKS4.opening(*target.getsockname()))
            while server.active < 5:
                netnet.sleep(0)
            assert listener.fileno() == -1
            for client in clients:
                client.shutdown(socket.SHUT_WR)
            task.result()
            for client in clients:
                assert client.recv(8)[:2] == b"\0\x5a"

    run(main)


def test_a_server_at_its_limit(run):
    """Who waits for a place is not served any more, and does not hold the end up."""

    def main():
        with echoing() as target, netnet.listen("127.0.0.1:0") as listener, contextlib.ExitStack() as stack:
            server = Server(places=1)
            task = netnet.spawn(server.serve, listener)
            first, second = (stack.enter_context(netnet.connect(listener.getsockname())) for _ in range(2))
            for client in (first, second):
                client.sendall(SOCKS4.opening(*target.getsockname()))
            SOCKS4.granted(first)
            wait_all_parked()
            server.begin_draining(math.inf)
            wait_all_parked()
            first.close()
            task.result()
            with pytest.raises(ConnectionResetError):
                second.recv(1)

    run(main)


def test_cancelled_while_it_drains(run):
    """Relays go on, as with any cancelled server; all else ends."""

    def main():
        with echoing() as target, contextlib.ExitStack() as stack:
            d = Draining(stack, target)
            d.server.begin_draining(50)
            wait_all_parked()
            d.task.cancel()
            d.task.join()
            assert d.endings() == [Ending.STOPPED] * 2
            d.relayed.sendall(b"x")
            assert exactly(d.relayed, 1) == b"x"
            assert netnet.now() == 0
            netnet.sleep(100)  # the deadline is gone with the server
            d.relayed.sendall(b"x")
            assert exactly(d.relayed, 1) == b"x"
            stack.close()
            while d.server.active:
                netnet.sleep(0)

    run(main, clock=VirtualClock())


def test_the_run_ends(run):
    """Everything ends with it, and each connection is reported once."""
    sessions = []

    def main():
        with echoing() as target, contextlib.ExitStack() as stack:
            d = Draining(stack, target)
            sessions.append(d.sessions)
            running.loop.shut_down()

    with contextlib.suppress(netnet.Cancelled):
        run(main)
    assert len(sessions[0]) == 4
    assert {session.ending for session in sessions[0]} <= {Ending.STOPPED, Ending.CLIENT_LEFT, Ending.CLOSED}


@pytest.mark.parametrize("seconds", [0, 30])
def test_sigterm_drains_where_there_is_time_for_it(run, seconds):
    """And ends the run where there is none."""
    sessions = []

    def main():
        with echoing() as target, contextlib.ExitStack() as stack:
            d = Draining(stack, target, drain_seconds=seconds)
            sessions.append(d.sessions)
            running.loop.call_soon(lambda: os.kill(os.getpid(), signal.SIGTERM))
            d.assert_closed_to_newcomers()
            d.relayed.sendall(b"x")
            assert exactly(d.relayed, 1) == b"x"
            stack.close()
            d.assert_over()

    with pytest.raises(SystemExit):  # in either case, when all is over
        run(main)
    assert len(sessions[0]) == 4
    assert (Ending.STOPPED in {session.ending for session in sessions[0]}) == (not seconds)


def test_limits_of_silence_count_while_it_drains(run):
    def main():
        limits = Limits(idle_seconds=30, bind_seconds=20)
        with echoing() as target, contextlib.ExitStack() as stack:
            d = Draining(stack, target, settings=Settings(limits))
            d.server.begin_draining(math.inf)
            d.assert_over()
            assert netnet.now() == 30
            assert d.endings() == [Ending.CONNECT_TIMEOUT, Ending.HANDSHAKE_TIMEOUT, Ending.IDLE, Ending.IDLE]

    run(main, clock=VirtualClock())
