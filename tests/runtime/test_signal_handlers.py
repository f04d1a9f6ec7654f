"""What a program's own signal handler raises: while the loop polls it reaches the main task, and nothing that the other
tasks wait for is lost by it."""

from __future__ import annotations

import os
import select
import signal

import pytest

import netnet
from netnet.poller.epoll import EpollPoller
from netnet.runtime.loop import running
from netnet.testing import wait_all_parked


class Struck(Exception):
    """Raised by the handler."""


def raising(number, frame):
    raise Struck


@pytest.fixture
def handler():
    """A handler that raises, for SIGALRM; ``setitimer`` strikes while the loop polls."""
    before = signal.signal(signal.SIGALRM, raising)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_it_reaches_the_main_task_where_it_waits(backend, run, handler):
    def main():
        one, other = netnet.socketpair()
        with one, other:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(Struck):
                one.recv(1)
            other.send(b"x")
            assert one.recv(1) == b"x"

    run(main)


def test_other_tasks_wait_on(backend, run, handler):
    def main():
        one, other = netnet.socketpair()
        with one, other:
            reader = netnet.spawn(one.recv, 9)
            wait_all_parked()
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(Struck):
                netnet.sleep(10)
            assert not reader.done
            other.send(b"x")
            assert reader.result() == b"x"

    run(main)


def test_not_caught_it_ends_the_run(run, handler):
    def main():
        other = netnet.spawn(netnet.sleep, 10)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        try:
            netnet.sleep(10)
        finally:
            assert not other.done

    with pytest.raises(Struck):
        run(main)


def test_events_that_the_kernel_told_just_before_are_not_lost(run, monkeypatch):
    """The handler strikes when the poll has taken the events, but not handed them on."""
    wait = EpollPoller.wait
    strikes, armed = [], []

    def struck(self, timeout):
        events = wait(self, timeout)
        if events and armed and not strikes:
            strikes.append(events)
            raising(None, None)
        return events

    def main():
        pairs = [netnet.socketpair() for _ in range(3)]
        readers = [netnet.spawn(one.recv, 9) for one, _ in pairs]
        listener = netnet.listen("127.0.0.1:0")
        accepting = [netnet.spawn(listener.accept) for _ in range(2)]
        wait_all_parked()
        clients = [netnet.Socket() for _ in accepting]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        for _, other in pairs:
            other.send(b"x")
        armed.append(True)
        with pytest.raises(Struck):
            netnet.sleep(10)
        assert [reader.result() for reader in readers] == [b"x"] * 3
        for task in accepting:
            task.result()[0].close()
        for sock in (*clients, listener, *sum(pairs, ())):
            sock.close()

    monkeypatch.setenv("NETNET_POLLER", "epoll")
    monkeypatch.setattr(EpollPoller, "wait", struck)
    run(main)
    assert strikes


def test_an_error_of_the_poller_itself_ends_the_run(run):
    def main():
        closed = select.epoll()
        closed.close()
        running.loop.poller._poll = closed.poll
        netnet.sleep(10)

    with pytest.raises(ValueError, match="closed epoll"):
        run(main, poller="epoll")


def struck_main():
    """The handler raises in the main task while all others wait."""
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    with pytest.raises(Struck):
        netnet.sleep(10)


def test_a_line_of_waiters_stays_a_line(backend, run, handler):
    """The main task joins the line just when its members have been told to look again."""

    def main():
        with netnet.listen("127.0.0.1:0") as listener:
            tasks = [netnet.spawn(listener.accept) for _ in range(2)]
            wait_all_parked()
            struck_main()
            clients = [netnet.Socket() for _ in range(3)]
            for client in clients:
                client.setblocking(False)
                client.connect_ex(listener.getsockname())
            accepted = [listener.accept()[0], *(task.result()[0] for task in tasks)]
            for sock in (*accepted, *clients):
                sock.close()

    run(main)


def test_a_foreign_descriptor_can_be_waited_for_again(backend, run, handler):
    def main():
        read_end, write_end = os.pipe2(os.O_NONBLOCK)
        task = netnet.spawn(netnet.wait_readable, read_end)
        wait_all_parked()
        struck_main()
        task.cancel()
        netnet.spawn(lambda: (netnet.sleep(0.02), os.write(write_end, b"x")))
        netnet.wait_readable(read_end)
        assert os.read(read_end, 9) == b"x"
        os.close(read_end)
        os.close(write_end)

    run(main)


def test_a_handler_in_c_reaches_the_main_task_as_well(run, handler):
    signal.signal(signal.SIGALRM, signal.default_int_handler)

    def main():
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(KeyboardInterrupt):
            netnet.sleep(10)

    run(main)
