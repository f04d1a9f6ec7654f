"""``Loop``, driven by hand: what ``poll``, ``start`` and ``stop`` promise, what happens between two of them, errors that
come out of them, closing, and that nothing of it is possible from the wrong thread or from a task."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

import netnet
from netnet import Cancelled, DeadlockError, Loop, UsageError
from netnet.testing import VirtualClock


@pytest.fixture
def loop():
    """A loop on a virtual clock."""
    with Loop(clock=VirtualClock()) as made:
        yield made


class _Struck:
    """A poller whose next wait is struck by Ctrl-C when the kernel has answered."""

    def __init__(self, loop, poller):
        self.loop, self.poller = loop, poller

    def wait(self, timeout):
        self.poller.wait(timeout)
        self.loop.poller = self.poller
        raise KeyboardInterrupt

    def __getattr__(self, name):
        return getattr(self.poller, name)


@contextlib.contextmanager
def pair():
    one, other = netnet.socketpair()
    with one, other:
        yield one, other


# -- poll


def test_poll_lets_a_ready_task_go_on(loop):
    steps = []
    loop.spawn(steps.append, 1)
    assert steps == []
    assert loop.poll() is True
    assert steps == [1]


@pytest.mark.parametrize("timeout", [None, 0, 0.0, -1, 5, math.inf])
def test_poll_with_nothing_left_to_wait_for(loop, timeout):
    assert loop.poll(timeout) is False
    assert loop.clock.now() == 0


@pytest.mark.parametrize("timeout", [0, 1, 7.5])
def test_poll_when_nothing_comes(loop, timeout):
    task = loop.spawn(netnet.sleep, 100)
    assert loop.poll(0) is True  # it went to sleep
    start = loop.clock.now()
    assert loop.poll(timeout) is False
    assert loop.clock.now() - start == timeout
    assert not task.done


@pytest.mark.parametrize("timeout", [None, 100, math.inf])
def test_poll_waits_for_a_timer(loop, timeout):
    task = loop.spawn(netnet.sleep, 7)
    assert loop.poll(0) is True
    assert loop.poll(timeout) is True
    assert task.done
    assert loop.clock.now() == 7


@pytest.mark.parametrize("timeout", [None, 10])
def test_poll_that_let_something_go_on_does_not_wait_for_more(loop, timeout):
    """The driver has something to look at: waiting on would keep it from that."""
    loop.spawn(netnet.sleep, 100)
    assert loop.poll(timeout) is True
    assert loop.clock.now() == 0


@pytest.mark.parametrize("timeout", [0, 5])
def test_poll_lets_a_task_go_on_whose_time_has_come(loop, timeout):
    """Between two polls the driver was busy, and the sleeper's time has passed."""
    task = loop.spawn(netnet.sleep, 3)
    loop.poll(0)
    loop.clock.advance(4)
    assert loop.poll(timeout) is True
    assert task.done


def test_poll_without_limit_for_a_task_that_the_driver_will_wake(loop):
    """Progress was made, so this is no deadlock: the driver's own lines may set the event."""
    event = netnet.Event()
    task = loop.spawn(event.wait)
    assert loop.poll() is True
    event.set()
    assert loop.poll() is True
    assert task.done


def test_poll_without_limit_when_all_wait_for_each_other(loop):
    event = netnet.Event()
    task = loop.spawn(event.wait, name="the one")
    loop.poll(0)
    with pytest.raises(DeadlockError, match="the one"):
        loop.poll()
    assert not task.done
    event.set()  # they were left as they are
    assert loop.poll() is True
    assert task.done
    assert task.error is None


def test_poll_with_a_limit_is_no_deadlock(loop):
    event = netnet.Event()
    task = loop.spawn(event.wait)
    loop.poll(0)
    assert loop.poll(5) is False
    event.set()
    assert loop.poll(5) is True
    assert task.done


def test_poll_resumes_the_task_that_waits_for_an_event(backend):
    with pair() as (one, other), Loop() as loop:
        task = loop.spawn(one.recv, 10)
        assert loop.poll(0) is True
        assert loop.poll(0) is False
        other.send(b"now")
        assert loop.poll(5) is True
        assert task.done
        assert task.value == b"now"


def test_poll_is_woken_by_a_thread(backend):
    with Loop() as loop:
        task = loop.spawn(netnet.to_thread, int, "7")
        while not task.done:
            assert loop.poll(10) is True
        assert task.value == 7


def test_events_that_come_between_two_polls_are_kept(backend):
    with pair() as (one, other), Loop() as loop:
        task = loop.spawn(lambda: [one.recv(1) for _ in range(3)])
        for char in b"abc":
            loop.poll(0)
            other.send(bytes([char]))
        while loop.poll(0):
            pass
        assert task.value == [b"a", b"b", b"c"]


def test_a_loop_of_polls_runs_a_program_to_its_end(backend):
    """Full duplex: one task writes and one reads each side, driven turn by turn."""
    size = 300_000
    got = []

    def write(sock):
        sock.sendall(bytes(size))
        sock.shutdown(1)

    with pair() as (one, other), Loop() as loop:
        for sock in (one, other):
            loop.spawn(write, sock)
            loop.spawn(lambda sock=sock: got.append(sum(map(len, sock))))
        for _ in range(10_000):
            if not loop.poll(5):
                break
        assert got == [size, size]


# -- start


def test_start_runs_to_the_end(loop):
    tasks = [loop.spawn(netnet.sleep, number) for number in range(5)]
    assert loop.start() is True
    assert all(task.done for task in tasks)
    assert loop.clock.now() == 4


def test_start_with_nothing_to_do(loop):
    assert loop.start() is True
    assert loop.start(5) is True
    assert loop.clock.now() == 0


def test_start_stops_after_its_time_and_goes_on(loop):
    steps = []

    def work():
        for number in range(4):
            steps.append((number, netnet.now()))
            netnet.sleep(2)

    loop.spawn(work)
    assert loop.start(3) is False
    assert loop.clock.now() == 3
    assert steps == [(0, 0), (1, 2)]
    assert loop.start(3) is False
    assert loop.start() is True
    assert steps == [(0, 0), (1, 2), (2, 4), (3, 6)]


def test_start_that_is_through_before_its_time(loop):
    loop.spawn(netnet.sleep, 2)
    assert loop.start(10) is True
    assert loop.clock.now() == 2
    loop.spawn(netnet.sleep, 20)
    assert loop.start(15) is False  # the first one's limit disturbs nobody
    assert loop.clock.now() == 17


@pytest.mark.parametrize("timeout", [0, -5])
def test_start_without_waiting(loop, timeout):
    steps = []
    loop.spawn(steps.append, 1)
    loop.spawn(netnet.sleep, 5)
    assert loop.start(timeout) is False
    assert steps == [1]
    assert loop.clock.now() == 0


def test_start_is_bounded_while_tasks_are_always_ready():
    def spin():
        while True:
            netnet.sleep(0)

    with Loop() as loop:
        for _ in range(2):
            loop.spawn(spin)
        assert loop.start(0.02) is False


@pytest.mark.parametrize("method", ["poll", "start"])
def test_not_a_time(loop, method):
    for wrong, kind in ((math.nan, ValueError), ("1", TypeError)):
        with pytest.raises(kind):
            getattr(loop, method)(wrong)
    loop.spawn(netnet.sleep, 1)
    assert loop.start() is True


# -- stop


def test_stop_from_a_task(loop):
    steps = []

    def work():
        for number in range(4):
            steps.append(number)
            if number == 1:
                loop.stop()
            netnet.sleep(1)

    loop.spawn(work)
    assert loop.start() is False
    assert steps == [0, 1]
    assert loop.clock.now() <= 2
    assert loop.start() is True
    assert steps == [0, 1, 2, 3]


def test_stop_ends_the_present_turn_only(loop):
    """Who was ready with the one that stops still has its turn; nobody has a second one."""
    steps = []

    def work(number):
        while True:
            steps.append(number)
            if number == 1:
                loop.stop()
            netnet.sleep(0)

    for number in range(3):
        loop.spawn(work, number)
    assert loop.start() is False
    assert steps == [0, 1, 2]


def test_stop_is_no_deadlock(loop):
    """The driver asked to be called back: it may wake the one that waits."""
    event = netnet.Event()

    def work():
        loop.stop()
        event.wait()

    task = loop.spawn(work)
    assert loop.start() is False
    event.set()
    assert loop.start() is True
    assert task.error is None


def test_stop_from_a_thread(backend):
    with pair() as (one, _), Loop() as loop:
        task = loop.spawn(one.recv, 1)
        loop.poll(0)
        thread = threading.Thread(target=loop.stop)
        loop.call_soon(thread.start)
        assert loop.start(10) is False
        thread.join()
        assert not task.done


def test_stop_ends_a_poll(backend):
    with pair() as (one, _), Loop() as loop:
        loop.spawn(one.recv, 1)
        loop.poll(0)
        threads = [threading.Thread(target=loop.stop)]
        loop.call_soon(threads[0].start)
        loop.poll(10)
        threads[0].join()


def test_stop_of_a_loop_that_stands_still_or_is_closed(loop):
    loop.stop()
    loop.spawn(netnet.sleep, 1)
    assert loop.start() is True
    loop.close()
    loop.stop()


# -- between two polls


def test_tasks_stand_still_between_polls(loop):
    steps = []

    def work():
        while True:
            steps.append(netnet.now())
            netnet.sleep(1)

    loop.spawn(work)
    loop.start(1.5)
    loop.clock.advance(100)
    assert steps == [0, 1]
    loop.poll(1)
    loop.poll(1)
    assert steps[2] == 101.5


def test_what_the_driver_may_do_between_two_polls(loop):
    event, channel = netnet.Event(), netnet.Channel(1)
    first, second, third = loop.spawn(event.wait), loop.spawn(channel.receive), loop.spawn(netnet.sleep, 1000)
    loop.poll(0)
    event.set()
    channel.send_now("sent")
    third.cancel("by the driver")
    while loop.poll(0):
        pass
    assert (first.value, second.value) == (True, "sent")
    assert "by the driver" in str(third.error)


def test_between_two_polls_there_is_no_task(loop):
    loop.spawn(netnet.sleep, 1)
    loop.poll(0)
    for call in (netnet.current_task, netnet.current_loop, lambda: netnet.sleep(0), lambda: netnet.spawn(print)):
        with pytest.raises(UsageError):
            call()


def test_a_run_between_two_polls(loop):
    task = loop.spawn(netnet.sleep, 5)
    loop.poll(0)
    assert netnet.run(lambda: 7) == 7
    assert loop.start() is True
    assert task.error is None


def test_two_loops_in_turns():
    """Each has its own tasks and its own time."""
    steps = []

    def work(name):
        for _ in range(3):
            steps.append((name, netnet.now()))
            netnet.sleep(1)

    with Loop(clock=VirtualClock()) as one, Loop(clock=VirtualClock(100)) as other:
        one.spawn(work, "one")
        other.spawn(work, "other")
        for _ in range(20):
            one.poll(0.5)
            other.poll(0.5)
    assert [step for step in steps if step[0] == "one"] == [("one", 0), ("one", 1), ("one", 2)]
    assert [step for step in steps if step[0] == "other"] == [("other", 100), ("other", 101), ("other", 102)]


def test_tasks_of_two_loops_wake_each_other():
    event, answer = netnet.Event(), netnet.Event()
    with Loop() as one, Loop() as other:
        first = one.spawn(lambda: (event.wait(), answer.set()))
        second = other.spawn(lambda: (event.set(), answer.wait()))
        for _ in range(10):
            one.poll(0)
            other.poll(0)
        assert first.done
        assert second.done


# -- errors


def test_an_error_that_nobody_asked_for(loop):
    def fail(number):
        raise ValueError(number)

    tasks = [loop.spawn(fail, number) for number in range(2)]
    with pytest.raises(ExceptionGroup) as caught:
        loop.start()
    assert sorted(error.args for error in caught.value.exceptions) == [(0,), (1,)]
    assert loop.start() is True  # told once
    assert len(tasks) == 2


def test_an_error_comes_once_all_have_ended(loop):
    def fail():
        raise ValueError

    tasks = [loop.spawn(fail), loop.spawn(netnet.sleep, 10)]
    assert loop.start(5) is False
    with pytest.raises(ExceptionGroup):
        loop.start()
    assert loop.clock.now() == 10
    assert all(task.done for task in tasks)


def test_closing_tells_what_nobody_asked_for():
    def fail():
        raise ValueError

    loop = Loop()
    task = loop.spawn(fail)
    loop.poll(0)
    with pytest.raises(ExceptionGroup):
        loop.close()
    assert task.done
    loop.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("drive", ["poll", "start"])
def test_an_exit_comes_out(loop, error, drive):
    def leave():
        raise error

    cleaned = []

    def other():
        try:
            netnet.sleep(1000)
        finally:
            cleaned.append(1)

    loop.spawn(other)
    loop.poll(0)
    loop.spawn(leave)
    with pytest.raises(error):
        getattr(loop, drive)()
    loop.close()
    assert cleaned == [1]


def test_ctrl_c_while_it_waits(backend):
    """Signals are left to the program: the exception comes out of the call, and the loop can be driven on."""
    with pair() as (one, other), Loop() as loop:
        task = loop.spawn(one.recv, 1)
        loop.poll(0)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                loop.start(10)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        other.send(b"x")
        assert loop.start(5) is True
        assert task.value == b"x"


def test_ctrl_c_that_strikes_after_the_kernel_told_its_events(backend):
    """The exception comes out of ``poll``; the event that was taken with it is not lost."""
    with pair() as (one, other), Loop() as loop:
        task = loop.spawn(one.recv, 1)
        loop.poll(0)
        other.send(b"x")
        loop.poller = _Struck(loop, loop.poller)
        with pytest.raises(KeyboardInterrupt):
            loop.poll(5)
        loop.start(0.2)
        assert task.done
        assert task.value == b"x"


# -- closing


def test_closing_cancels_and_waits(loop):
    steps = []

    def work():
        try:
            netnet.sleep(1000)
        except Cancelled as error:
            steps.append(str(error))
            with netnet.shield():
                netnet.sleep(1)
            steps.append("said goodbye")
            raise

    loop.spawn(work)
    loop.poll(0)
    loop.close()
    assert steps == ["the loop was closed", "said goodbye"]
    assert loop.clock.now() == 1


def test_closing_a_loop_whose_tasks_have_not_started(loop):
    steps = []

    def work():
        steps.append("started")
        netnet.sleep(0)
        steps.append("went on")

    loop.spawn(work)
    loop.close()
    assert steps == ["started"]


@pytest.mark.parametrize("method", ["poll", "start"])
def test_a_closed_loop_is_not_driven(loop, method):
    loop.close()
    loop.close()
    with pytest.raises(UsageError, match="closed"):
        getattr(loop, method)()
    with pytest.raises(UsageError, match="closed"):
        loop.spawn(print)


def test_leaving_the_statement_closes_it_also_after_an_error():
    cleaned = []

    def work():
        try:
            netnet.sleep(1000)
        finally:
            cleaned.append(1)

    with pytest.raises(KeyError), Loop() as loop:
        loop.spawn(work)
        loop.poll(0)
        raise KeyError
    assert cleaned == [1]
    assert loop.closed


def test_closing_when_cleaning_up_locks_up():
    """It says so, and leaves nothing behind."""

    def work():
        with netnet.shield():
            netnet.Event().wait()

    loop = Loop(clock=VirtualClock())
    task = loop.spawn(work)
    loop.poll(0)
    with pytest.raises(DeadlockError):
        loop.close()
    assert loop.closed
    assert task.done


def test_closing_tells_of_calls_that_still_run_in_threads(caplog):
    """As the end of ``run`` does."""
    release = threading.Event()

    def blocks_for_long():
        release.wait(10)

    with Loop() as loop:
        task = loop.spawn(netnet.to_thread, blocks_for_long)
        loop.poll(0)
        task.cancel()
        while not task.done:
            loop.poll(5)
    release.set()
    assert "blocks_for_long" in caplog.text


# -- the wrong place


#: a loop with a sleeper, and a call of it from the wrong place; in a process of its own, since a loop that is torn down in
#: use could lock up all tests that follow
WRONG_PLACES = {
    "a task of its own": """
        def work():
            refused()
            netnet.sleep(1)
        task = loop.spawn(work)
    """,
    "a task of another loop": """
        loop.poll(0)
        task = other
        netnet.run(refused)
    """,
    "another thread": """
        loop.poll(0)
        task = other
        thread = threading.Thread(target=refused)
        thread.start()
        thread.join()
    """,
    "another greenlet": """
        loop.poll(0)
        task = other
        greenlet.greenlet(refused).switch()
    """,
}


@pytest.mark.parametrize("call", ["poll", "start", "close"])
@pytest.mark.parametrize("place", WRONG_PLACES)
def test_not_from(place, call):
    """It says so, and nothing has happened."""
    program = f"""
import greenlet, threading, netnet
from netnet.testing import VirtualClock
caught = []
def refused():
    try:
        loop.{call}()
    except BaseException as error:
        caught.append(type(error).__name__)
loop = netnet.Loop(clock=VirtualClock())
other = loop.spawn(netnet.sleep, 5)
{textwrap.dedent(WRONG_PLACES[place])}
ended = loop.start()
print(caught, ended, task.done, task.error, other.error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=5, check=False)
    assert done.stdout == "['UsageError'] True True None None\n", done.stderr


def test_a_run_is_not_nested_in_it(loop):
    def work():
        with pytest.raises(UsageError, match="runs a loop already"):
            netnet.run(print)

    loop.spawn(work)
    assert loop.start() is True


# -- with everything else


def test_spawning_inside(loop):
    """``spawn``, ``after``, ``every`` and groups in its tasks are those of the loop."""
    steps = []

    def work():
        assert netnet.current_loop() is loop
        netnet.after(3, lambda: steps.append(("after", netnet.now())))
        ticking = netnet.every(1, lambda: steps.append(("every", netnet.now())))
        netnet.after(2.5, ticking.cancel)
        with netnet.TaskGroup() as group:
            group.spawn(netnet.sleep, 0.5)
        steps.append(("group", netnet.now()))

    loop.spawn(work)
    assert loop.start() is True
    assert steps == [("group", 0.5), ("every", 1), ("every", 2), ("after", 3)]


def test_spawned_from_outside_with_a_result(loop):
    def work(number):
        netnet.sleep(number)
        return number

    tasks = [loop.spawn(work, number, name=f"number {number}") for number in (3, 1, 2)]
    collected = loop.spawn(lambda: [task.result() for task in tasks])
    assert loop.start() is True
    assert collected.value == [3, 1, 2]
    assert tasks[0].name == "number 3"


def test_on_a_descriptor_of_a_foreign_kind(backend):
    reader, writer = os.pipe()
    try:
        with Loop() as loop:
            task = loop.spawn(netnet.wait_readable, reader)
            loop.poll(0)
            assert loop.poll(0) is False
            os.write(writer, b"x")
            while not task.done:
                assert loop.poll(5)
    finally:
        os.close(reader)
        os.close(writer)
