"""Fairness: calls that need no waiting do not switch, but a task has a budget of them. One busy task never starves the
others, however it keeps busy."""

from __future__ import annotations

import os

import pytest

import netnet
from netnet.runtime.loop import BUDGET
from netnet.testing import wait_all_parked
from tests.runtime.conftest import attach

ROUNDS = 20 * BUDGET


def stream_pair():
    one, other = netnet.socketpair()
    attach(one, other)
    attach(other, one)
    return one, other


def drain(other):
    """Behind the runtime's back."""
    assert os.read(other.fileno(), 100)


def sendall(one, other):
    one.sendall(b"x")
    drain(other)


def send(one, other):
    one.send(b"x")
    drain(other)


def sendmsg(one, other):
    one.sendmsg([b"x"])
    drain(other)


def echo(one, other):
    one.sendall(b"x")
    assert other.recv(1) == b"x"


def echo_into(one, other):
    one.send(b"x")
    assert other.recv_into(bytearray(1)) == 1


def echo_beyond(one, other):
    """Asks for more than there is: the short read."""
    one.sendall(b"x")
    assert other.recv(100) == b"x"


def readable(one, other):
    netnet.wait_writable(one)


def timed_echo(one, other):
    one.settimeout(100)
    other.settimeout(100)
    echo(one, other)


CALLS = [sendall, send, sendmsg, echo, echo_into, echo_beyond, readable, timed_echo]


@pytest.mark.parametrize("call", CALLS)
def test_a_busy_task_lets_the_others_run(run, backend, call):
    def main():
        turns, gaps, done = [0], [], []

        def hog():
            last = turns[0]
            since = 0
            for _ in range(ROUNDS):
                call(one, other)
                since += 1
                if turns[0] != last:
                    gaps.append(since)
                    last, since = turns[0], 0
            gaps.append(since)
            done.append(True)

        def witness():
            while not done:
                turns[0] += 1
                netnet.sleep(0)

        one, other = stream_pair()
        with one, other:
            netnet.spawn(witness)
            task = netnet.spawn(hog)
            task.result()
        assert max(gaps) <= BUDGET + 1

    run(main)


@pytest.mark.parametrize("kind", ["semaphore", "event", "join"])
def test_a_busy_task_without_sockets(run, kind):
    def main():
        semaphore, event, ended = netnet.Semaphore(1), netnet.Event(), netnet.spawn(lambda: None)
        event.set()
        ended.join()
        calls = {
            "semaphore": lambda: (semaphore.acquire(), semaphore.release()),
            "event": event.wait,
            "join": ended.join,
        }
        ran = []
        netnet.spawn(ran.append, True)
        for _ in range(BUDGET + 1):
            calls[kind]()
        assert ran

    run(main)


def test_a_call_that_need_not_wait_does_not_switch(run):
    """Below the budget nothing is given away."""

    def main():
        one, other = stream_pair()
        with one, other:
            netnet.sleep(0)
            ran = []
            netnet.spawn(ran.append, True)
            for _ in range(BUDGET // 4):
                one.sendall(b"x")
                other.recv(1)
            assert ran == []
            netnet.sleep(0)
            assert ran == [True]

    run(main)


def test_busy_sockets_do_not_keep_timers_waiting(run, backend):
    """A deadline comes although there is something to do in every turn."""

    def main():
        one, other = stream_pair()
        with one, other, pytest.raises(TimeoutError), netnet.timeout(0.01):
            while True:
                echo(one, other)

    run(main)


def test_busy_tasks_do_not_keep_sockets_waiting(run, backend):
    def main():
        done = []

        def busy():
            while not done:
                netnet.sleep(0)

        one, other = stream_pair()
        with one, other:
            for _ in range(3):
                netnet.spawn(busy)
            reader = netnet.spawn(one.recv, 1)
            wait_for_turns()
            other.sendall(b"x")
            assert reader.result() == b"x"
            done.append(True)

    def wait_for_turns():
        for _ in range(5):
            netnet.sleep(0)

    run(main)


def test_many_pairs_make_progress_together(run, backend):
    """No conversation is more than a few rounds ahead of another."""

    def main():
        counts = [0] * 20
        spread = []

        def talk(number, one):
            for _ in range(50):
                one.sendall(b"x")
                one.recv(1)
                counts[number] += 1
                spread.append(max(counts) - min(counts))
            one.shutdown(1)

        def answer(other):
            with other:
                for chunk in other:
                    other.sendall(chunk)

        pairs = [netnet.socketpair() for _ in counts]
        with netnet.TaskGroup() as group:
            for number, (one, other) in enumerate(pairs):
                group.spawn(answer, other)
                group.spawn(talk, number, one)
        for one, _ in pairs:
            one.close()
        assert counts == [50] * 20
        assert max(spread) <= 50 // 2

    run(main)


def test_accepting_does_not_starve_the_established(run, backend):
    """A backlog full of connections beside one that talks."""

    def main():
        progress = []
        with netnet.listen("127.0.0.1:0", backlog=200) as listener:
            clients = [netnet.connect(listener.getsockname()) for _ in range(150)]
            one, other = stream_pair()

            def accept_all():
                for _ in clients:
                    listener.accept()[0].close()
                    progress.append("accepted")

            def talk():
                for _ in range(10):
                    progress.append("talked")
                    netnet.sleep(0)

            with one, other, netnet.TaskGroup() as group:
                wait_all_parked()
                group.spawn(accept_all)
                group.spawn(talk)
            for client in clients:
                client.close()
        assert "talked" in progress[: BUDGET + 2]

    run(main)
