"""Deadlock: when every task is parked for good, ``run`` says so, names each task and what it waits for, and lets all
of them clean up. And the cases that look like one and are none."""

from __future__ import annotations

import math
import os
import threading

import pytest

import netnet
from netnet import DeadlockError
from netnet.testing import VirtualClock


@pytest.fixture
def deadlock(virtual):
    """The message of the ``DeadlockError`` that the run of ``main`` ends with."""

    def deadlock_of(main):
        with pytest.raises(DeadlockError) as caught:
            virtual(main)
        return str(caught.value)

    return deadlock_of


@pytest.mark.parametrize("clock", [VirtualClock, lambda: None])
def test_main_alone(backend, clock):
    with pytest.raises(DeadlockError, match=r"all 1 tasks .*\n  main is waiting for an event to be set"):
        netnet.run(lambda: netnet.Event().wait(), clock=clock())


def test_each_task_is_named_with_what_it_waits_for(deadlock):
    def main():
        last = netnet.spawn(netnet.Event().wait, name="waits for an event")
        netnet.spawn(netnet.Semaphore(0).acquire, name="wants a permit")
        netnet.spawn(netnet.sleep, math.inf, name="sleeps")
        with netnet.TaskGroup() as group:
            group.spawn(last.join, name="child")

    assert deadlock(main).splitlines()[1:] == [
        "  main is waiting for the tasks of its group",
        "  waits for an event is waiting for an event to be set",
        "  wants a permit is waiting for a permit of a semaphore",
        "  sleeps is waiting for nothing (it sleeps for ever)",
        "  child is waiting for the end of task waits for an event",
    ]


def test_two_that_join_each_other(deadlock):
    def main():
        tasks = []
        tasks.append(netnet.spawn(lambda: tasks[1].join(), name="one"))
        tasks.append(netnet.spawn(lambda: tasks[0].join(), name="two"))

    message = deadlock(main)
    assert "one is waiting for the end of task two" in message
    assert "two is waiting for the end of task one" in message


def test_all_clean_up(deadlock):
    cleaned = []

    def work(name):
        try:
            netnet.Event().wait()
        finally:
            with netnet.shield():
                netnet.sleep(1)  # cleaning up may block
            cleaned.append(name)

    def main():
        netnet.spawn(work, "task")
        work("main")

    deadlock(main)
    assert sorted(cleaned) == ["main", "task"]


def test_a_deadlock_while_cleaning_up(deadlock):
    cleaned = []

    def work(name):
        try:
            netnet.Event().wait()
        finally:
            try:
                with netnet.shield():
                    netnet.Event().wait()
            finally:
                cleaned.append(name)

    def main():
        netnet.spawn(work, "task")
        with netnet.TaskGroup() as group:
            group.spawn(work, "child")
            work("main")

    assert "are parked" in deadlock(main)
    assert sorted(cleaned) == ["child", "main", "task"]


def test_main_swallows_it_and_the_run_still_says_so(deadlock):
    def main():
        try:
            netnet.Event().wait()
        except netnet.Cancelled:
            return "swallowed"

    assert "main is waiting for an event" in deadlock(main)


def test_a_deadlock_after_main_has_ended(deadlock):
    assert "all 1 tasks" in deadlock(lambda: netnet.spawn(netnet.Event().wait) and None)


def test_the_next_run_is_fine(deadlock, run):
    deadlock(lambda: netnet.Event().wait())
    assert run(lambda: 1) == 1


# -- no deadlock


def test_not_while_a_task_sleeps(virtual):
    def main():
        event = netnet.Event()
        netnet.spawn(lambda: (netnet.sleep(1e9), event.set()))
        event.wait()
        return netnet.now()

    assert virtual(main) == 1e9


def test_not_while_a_timeout_runs(virtual):
    def main():
        with pytest.raises(TimeoutError), netnet.timeout(5):
            netnet.Event().wait()

    virtual(main)


@pytest.mark.parametrize("clock", [VirtualClock, lambda: None])
def test_not_while_a_thread_works(backend, clock):
    release = threading.Event()

    def main():
        event = netnet.Event()
        netnet.spawn(lambda: (netnet.to_thread(release.wait, 10), event.set()))
        loop = netnet.current_task().loop
        threads.append(threading.Thread(target=lambda: (polled.wait(10), release.set())))
        threads[0].start()
        loop.call_soon(polled.set)
        event.wait()
        return "woken"

    threads, polled = [], threading.Event()
    try:
        assert netnet.run(main, clock=clock()) == "woken"
    finally:
        threads[0].join()


def test_not_while_an_abandoned_thread_still_works(virtual):
    """The call was cancelled; its thread goes on and may set something that wakes a task."""
    release = threading.Event()

    def main():
        event = netnet.Event()
        task = netnet.spawn(netnet.to_thread, lambda: (release.wait(10), loop.call_from_thread(wake)))
        loop = netnet.current_task().loop
        wake = type("Wake", (), {"switch": lambda self: event.set()})()
        netnet.sleep(0)
        task.cancel()
        task.join()
        loop.call_soon(release.set)
        event.wait()
        return "woken"

    assert virtual(main) == "woken"


def test_not_while_a_task_waits_for_a_descriptor(run, backend):
    def main():
        one, other = netnet.socketpair()
        reader, writer = os.pipe()
        event = netnet.Event()
        with one, other:
            netnet.spawn(lambda: (netnet.wait_readable(reader), one.sendall(b"x")))
            netnet.spawn(lambda: (other.recv(1), event.set()))
            thread = threading.Thread(target=os.write, args=(writer, b"x"))
            thread.start()
            event.wait()
        thread.join()
        os.close(reader)
        os.close(writer)

    run(main)


def test_a_silent_socket_is_no_deadlock(run, backend):
    """Somebody outside may send: only a time limit ends this."""

    def main():
        one, other = netnet.socketpair()
        with one, other, pytest.raises(TimeoutError), netnet.timeout(0.01):
            one.recv(1)

    run(main)
