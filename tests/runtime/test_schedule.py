"""When tasks run: at once, later, every so often; in which order; from how deep in a call stack they may wait; how long
others, events, timers and signals have to wait for their turn while tasks switch straight to each other."""

from __future__ import annotations

import contextlib
import contextvars
import csv
import functools
import itertools
import json
import math
import re
import subprocess
import sys
import textwrap
import time
import weakref
from collections import deque

import pytest

import netnet
from netnet import Cancelled, DeadlockError, TaskCancelledError
from netnet.runtime.loop import SHARE
from netnet.testing import VirtualClock, wait_all_parked


def in_a_process(program, seconds=6):
    """What *program* prints. For what could lock up the tests that follow."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return done.stdout.strip() or done.stderr


# -- after and at


@pytest.mark.parametrize(("seconds", "start"), [(5, 5), (0, 0), (-3, 0), (0.5, 0.5), (1e9, 1e9)])
def test_after(virtual, seconds, start):
    def main():
        task = netnet.after(seconds, netnet.now)
        assert not task.done
        return task.result()

    assert virtual(main) == start


@pytest.mark.parametrize(("when", "start"), [(7, 7), (3, 5), (-math.inf, 5), (5, 5)])
def test_at(virtual, when, start):
    assert virtual(lambda: netnet.at(when, netnet.now).result(), start=5) == start


@pytest.mark.parametrize("make", [netnet.after, netnet.at])
@pytest.mark.parametrize(("wrong", "error"), [(math.nan, ValueError), ("1", TypeError), (None, TypeError)])
def test_not_a_time(virtual, make, wrong, error):
    def main():
        with pytest.raises(error):
            make(wrong, print)

    virtual(main)


def test_after_passes_arguments_context_and_name(virtual):
    variable = contextvars.ContextVar("variable")

    def main():
        variable.set("mine")
        task = netnet.after(1, lambda *args: (args, variable.get()), 1, 2, name="later")
        variable.set("changed")
        assert task.name == "later"
        assert "to start in 1.000 s" in repr(task)
        return task.result()

    assert virtual(main) == ((1, 2), "mine")


def test_order_of_equal_instants(virtual):
    steps = []

    def main():
        for number in range(1000):
            netnet.at(5, steps.append, number)

    virtual(main)
    assert steps == list(range(1000))


def test_the_run_waits_for_what_is_to_come(virtual):
    steps = []

    def main():
        netnet.after(10, lambda: netnet.after(10, lambda: steps.append(netnet.now())))

    virtual(main)
    assert steps == [20]


@pytest.mark.parametrize("late", [0.001, 1, 1e6, 1e12])
def test_a_timer_that_is_late_still_fires(late):
    """However long a task kept the loop."""
    clock = VirtualClock()

    def main():
        task = netnet.after(5, netnet.now)
        ticks = []
        ticking = netnet.every(5, ticks.append, 1)
        netnet.sleep(1)
        clock.advance(4 + late)
        assert task.result() == 5 + late
        netnet.sleep(0)
        assert ticks == [1]
        ticking.cancel()

    netnet.run(main, clock=clock)


def test_cancel_takes_it_back(virtual):
    steps = []

    def main():
        task = netnet.after(10, steps.append, 1)
        joiner = netnet.spawn(task.join)
        netnet.sleep(5)
        task.cancel("not needed")
        assert task.done
        with pytest.raises(TaskCancelledError, match="not needed"):
            task.result()
        joiner.join()
        return netnet.now()

    assert virtual(main) == 5
    assert steps == []


def test_cancelled_in_the_very_turn_in_which_it_starts(virtual):
    """Its time has come: as any task it begins, and is refused at its first blocking call."""
    steps = []

    def work():
        steps.append("began")
        netnet.sleep(1)
        steps.append("went on")

    def main():
        netnet.at(5, lambda: task.cancel())
        task = netnet.at(5, work)
        task.join()

    virtual(main)
    assert steps == ["began"]


def test_cancelling_twice_and_after_the_end(virtual):
    def main():
        first, second = netnet.after(1, int), netnet.after(1, int, "7")
        first.cancel()
        first.cancel()
        assert second.result() == 7
        second.cancel()
        assert second.result() == 7

    virtual(main)


def test_what_was_taken_back_keeps_nothing(virtual):
    class Thing:
        pass

    def main():
        thing = Thing()
        reference = weakref.ref(thing)
        task = netnet.after(10, print, thing)
        del thing
        task.cancel()
        assert reference() is None
        return task

    virtual(main)


def test_the_end_of_the_run_takes_it_back(virtual):
    """An error of the main task does not wait an hour for what was to come."""
    clock = VirtualClock()
    steps = []

    def main():
        netnet.after(3600, steps.append, 1)
        netnet.every(3600, steps.append, 2)
        netnet.sleep(1)
        raise KeyError

    with pytest.raises(KeyError):
        netnet.run(main, clock=clock)
    assert clock.now() == 1
    assert steps == []


@pytest.mark.parametrize(
    "make",
    [
        lambda steps: netnet.after(3600, steps.append, 1),
        lambda steps: netnet.at(3600, steps.append, 1),
        lambda steps: netnet.every(3600, steps.append, 1),
    ],
    ids=["after", "at", "every"],
)
def test_made_while_the_run_is_ending(make):
    """Cleaning up asks for something in an hour: the run does not stay for that."""
    clock = VirtualClock()
    steps = []

    def work():
        try:
            netnet.sleep(math.inf)
        finally:
            make(steps)

    def main():
        netnet.spawn(work)
        netnet.sleep(1)
        raise KeyError

    with pytest.raises(KeyError):
        netnet.run(main, clock=clock)
    assert clock.now() < 3600
    assert steps == []


def test_made_in_a_group_that_is_cancelled_from_outside(virtual):
    def main():
        with netnet.CancelScope() as scope, netnet.TaskGroup() as group:
            scope.cancel()
            group.after(3600, print, "too late")
        return netnet.now()

    assert virtual(main) == 0


def test_a_group_waits_for_what_is_to_come(virtual):
    def main():
        with netnet.TaskGroup() as group:
            task = group.after(5, netnet.now)
        return task.value, netnet.now()

    assert virtual(main) == (5, 5)


@pytest.mark.parametrize("how", ["body", "child", "cancel"])
def test_a_group_that_ends_early_takes_it_back(virtual, how):
    steps = []

    def fail():
        raise KeyError

    def main():
        with contextlib.suppress(ExceptionGroup), netnet.TaskGroup() as group:
            for _ in range(3):
                group.after(3600, steps.append, 1)
            netnet.sleep(1)
            if how == "body":
                fail()
            elif how == "child":
                group.spawn(fail)
            else:
                group.cancel()
        return netnet.now()

    assert virtual(main) == 1
    assert steps == []


def test_never_is_never(virtual):
    """Nobody could wait for that: it is a deadlock, as ``sleep(math.inf)`` is; the virtual clock does not jump there."""
    steps = []
    clock = VirtualClock()

    def main():
        netnet.after(math.inf, steps.append, 1)

    with pytest.raises(DeadlockError):
        netnet.run(main, clock=clock)
    assert steps == []
    assert clock.now() < math.inf


def test_never_can_be_taken_back(virtual):
    def main():
        task = netnet.after(math.inf, print)
        netnet.sleep(5)
        task.cancel()
        task.join()
        return netnet.now()

    assert virtual(main) == 5


def test_an_error_of_one_that_started_later(virtual):
    def fail():
        raise ValueError

    def main():
        kept.append(netnet.after(1, fail))

    kept = []  # so that it could still be asked for
    with pytest.raises(ExceptionGroup):
        virtual(main)


# -- sleep_until


@pytest.mark.parametrize(("when", "end"), [(7, 7), (5, 5), (3, 5), (-math.inf, 5)])
def test_sleep_until(virtual, when, end):
    def main():
        others = []
        netnet.spawn(others.append, 1)
        netnet.sleep_until(when)
        assert others == [1]  # also one that has passed lets the others run
        return netnet.now()

    assert virtual(main, start=5) == end


def test_sleep_until_does_not_drift():
    clock = VirtualClock()
    times = []

    def main():
        when = netnet.now()
        for _ in range(10):
            times.append(netnet.now())
            clock.advance(0.25)
            when += 1
            netnet.sleep_until(when)

    netnet.run(main, clock=clock)
    assert times == list(range(10))


# -- every


def ticks(virtual, seconds, until, *, first=None, takes=0.0):
    def main():
        times = []

        def tick():
            times.append(netnet.now())
            netnet.sleep(takes)

        task = netnet.every(seconds, tick, first=first)
        netnet.sleep(until)
        task.cancel()
        return times

    return virtual(main)


@pytest.mark.parametrize(
    ("seconds", "first", "takes", "expected"),
    [
        (1, None, 0, [1, 2, 3, 4, 5, 6]),
        (2, None, 0, [2, 4, 6]),
        (2, 0, 0, [0, 2, 4, 6]),
        (2, 5, 0, [5]),
        (2, -1, 0, [0, 1, 3, 5]),
        (2, None, 1.5, [2, 4, 6]),
        (1, None, 1.5, [1, 3, 5]),
        (1, None, 2.5, [1, 4]),
        (1, None, 1, [1, 2, 3, 4, 5, 6]),  # not longer than the pause: it has missed none
        (1, None, 2, [1, 3, 5]),
    ],
)
def test_every(virtual, seconds, first, takes, expected):
    assert ticks(virtual, seconds, 6.5, first=first, takes=takes) == expected


def test_every_does_not_drift(virtual):
    times = ticks(virtual, 0.1, 1000.05)
    assert len(times) == 10_000
    assert max(abs(time - (number + 1) / 10) for number, time in enumerate(times)) < 1e-6


@pytest.mark.parametrize("wrong", [0, -1, math.inf, math.nan])
def test_no_period(virtual, wrong):
    def main():
        with pytest.raises(ValueError, match=r"period|NaN"):
            netnet.every(wrong, print)

    virtual(main)


def test_an_error_ends_every(virtual):
    calls = []

    def fail():
        calls.append(1)
        if len(calls) == 3:
            raise ValueError

    def main():
        with pytest.raises(ValueError, match=r"^$"):
            netnet.every(1, fail).result()
        return netnet.now()

    assert virtual(main) == 3


@pytest.mark.parametrize("instant", [0.5, 1.5, 2])
def test_cancelling_every(virtual, instant):
    """Before the first call, between two, in the middle of one."""
    steps = []

    def tick():
        steps.append("begins")
        netnet.sleep(0.5)
        steps.append("ends")

    def main():
        task = netnet.every(1.75, tick)
        netnet.sleep(instant)
        task.cancel()
        task.join()
        return netnet.now()

    assert virtual(main) == instant
    assert steps == (["begins"] if instant == 2 else [])


# -- eager tasks


def eagerly(steps):
    """Spawns an eager task that takes one step, waits and takes another."""

    def work():
        steps.append("eager")
        netnet.sleep(1)
        steps.append("eager, later")

    return netnet.spawn(work, eager=True)


def test_an_eager_task_runs_until_it_waits(virtual):
    steps = []

    def main():
        netnet.spawn(steps.append, "ready before")
        task = eagerly(steps)
        steps.append("caller")
        task.join()

    virtual(main)
    assert steps == ["eager", "caller", "ready before", "eager, later"]


def test_an_eager_task_that_does_not_wait(virtual):
    def main():
        task = netnet.spawn(int, "7", eager=True)
        assert task.done
        return task.result()

    assert virtual(main) == 7


def test_an_eager_task_lets_the_others_run(virtual):
    """sleep(0) is a wait: the caller is the first to go on."""
    steps = []

    def work():
        steps.append(1)
        netnet.sleep(0)
        steps.append(4)

    def main():
        netnet.spawn(steps.append, 3)
        netnet.spawn(work, eager=True)
        steps.append(2)

    virtual(main)
    assert steps == [1, 2, 3, 4]


@pytest.mark.parametrize("position", [0, 1, SHARE - 2, SHARE - 1, SHARE, SHARE + 1, 200])
def test_an_eager_task_comes_before_all_others_wherever_the_turn_stands(run, position):
    """The caller is the one at *position* among those who are ready."""
    steps = []

    def work(number):
        netnet.sleep(0)
        steps.append(number)
        if number == position:
            netnet.spawn(steps.append, "eager", eager=True)
            steps.append("caller")

    def main():
        for number in range(210):
            netnet.spawn(work, number)

    run(main)
    where = steps.index(position)
    assert steps[where : where + 3] == [position, "eager", "caller"]


def test_an_eager_task_of_a_task_that_an_event_woke(run, backend):
    """Other events of the same turn do not come between."""
    steps = []

    def first(sock):
        sock.recv(1)
        steps.append("caller")
        eagerly(steps)
        steps.append("caller again")

    def second(sock):
        sock.recv(1)
        steps.append("other")

    def main():
        pairs = [netnet.socketpair() for _ in range(2)]
        tasks = [netnet.spawn(first, pairs[0][0]), netnet.spawn(second, pairs[1][0])]
        wait_all_parked()
        for _, other in pairs:
            other.send(b"x")
        for task in tasks:
            task.join()
        for pair in pairs:
            for sock in pair:
                sock.close()

    run(main)
    where = steps.index("caller")
    assert steps[where : where + 3] == ["caller", "eager", "caller again"]


def test_an_eager_task_of_a_task_that_a_timer_woke(virtual):
    steps = []

    def main():
        netnet.after(1, lambda: (eagerly(steps), steps.append("caller")))
        netnet.after(1, steps.append, "other")

    virtual(main)
    assert steps == ["eager", "caller", "other", "eager, later"]


def test_eager_tasks_of_eager_tasks(virtual):
    steps = []

    def work(depth):
        steps.append(depth)
        if depth < 3:
            netnet.spawn(work, depth + 1, eager=True)
        steps.append(-depth)

    virtual(work, 1)
    assert steps == [1, 2, 3, -3, -2, -1]


def test_an_error_of_an_eager_task(virtual):
    def fail():
        raise ValueError

    def main():
        task = netnet.spawn(fail, eager=True)  # not the caller's
        assert task.done
        with pytest.raises(ValueError, match=r"^$"):
            task.result()
        kept.append(netnet.spawn(fail, eager=True))

    kept = []  # so that it could still be asked for
    with pytest.raises(ExceptionGroup):
        virtual(main)


def test_an_error_of_an_eager_task_of_a_group(virtual):
    """The caller is cancelled by it, as by any task of the group."""
    steps = []

    def fail():
        raise ValueError

    def main():
        with pytest.raises(ExceptionGroup), netnet.TaskGroup() as group:
            group.spawn(fail, eager=True)
            steps.append("goes on")
            netnet.sleep(0)
            steps.append("not that far")
        netnet.sleep(0)

    virtual(main)
    assert steps == ["goes on"]


@pytest.mark.parametrize("where", ["task", "scope"])
def test_an_eager_task_of_a_cancelled_caller(virtual, where):
    """It belongs to the run, so it is not cancelled; the caller is not refused by that call, but by the next."""
    steps = []

    def caller():
        if where == "task":
            netnet.current_task().cancel()
        with netnet.CancelScope() as scope:
            if where == "scope":
                scope.cancel()
            eagerly(steps)
            steps.append("caller")
            netnet.sleep(0)
            steps.append("never")

    def main():
        netnet.spawn(caller).join()

    virtual(main)
    assert steps == ["eager", "caller", "eager, later"]


def test_an_eager_task_of_a_cancelled_group(virtual):
    """It begins, and is refused at its first blocking call."""
    steps = []

    def main():
        with netnet.CancelScope() as scope, netnet.TaskGroup() as group:
            scope.cancel()
            group.spawn(lambda: (steps.append("began"), netnet.sleep(0), steps.append("never")), eager=True)
            steps.append("caller")

    virtual(main)
    assert steps == ["began", "caller"]


def test_an_eager_task_that_cancels_its_caller(virtual):
    def main():
        me = netnet.current_task()

        def caller():
            netnet.spawn(netnet.current_task().cancel, eager=True)
            with pytest.raises(Cancelled):
                netnet.sleep(0)

        task = netnet.spawn(caller)
        task.join()
        assert not me.cancelled

    virtual(main)


def test_the_context_of_an_eager_task(virtual):
    variable = contextvars.ContextVar("variable", default=0)

    def work():
        assert variable.get() == 1
        variable.set(2)
        netnet.sleep(0)
        assert variable.get() == 2

    def main():
        variable.set(1)
        task = netnet.spawn(work, eager=True)
        assert variable.get() == 1
        task.result()

    virtual(main)


def test_the_handled_exception_does_not_get_into_an_eager_task(virtual):
    def main():
        try:
            raise KeyError
        except KeyError:
            seen = netnet.spawn(sys.exc_info, eager=True).result()
            assert sys.exc_info()[0] is KeyError
        return seen

    assert virtual(main) == (None, None, None)


# -- many


def room_below():
    """How many calls may still be made."""

    def down(count):
        try:
            return down(count + 1)
        except RecursionError:
            return count

    return down(0)


@pytest.mark.parametrize("eager", [False, True])
def test_recursion_depth_does_not_grow_in_a_chain(virtual, eager):
    """Each task starts the next one."""
    room = []

    def work(left):
        if left % 2500 == 0:
            room.append(room_below())
        if left:
            netnet.spawn(work, left - 1, eager=eager)

    virtual(work, 10_000)
    assert len(room) == 5
    assert max(room[1:]) - min(room[1:]) <= 5
    assert abs(room[0] - room[-1]) < 50


def test_recursion_depth_of_a_task_that_is_started_from_deep_down(virtual):
    room = []

    def down(depth):
        if depth:
            down(depth - 1)
        else:
            netnet.spawn(lambda: room.append(room_below()), eager=True).result()
            netnet.spawn(lambda: room.append(room_below())).result()

    def main():
        room.append(room_below())
        down(500)

    virtual(main)
    assert max(room) - min(room) < 50


def test_ten_thousand_ready_at_once(virtual):
    steps = []

    def work(number):
        netnet.sleep(0)
        steps.append(number)

    def main():
        tasks = [netnet.spawn(work, number) for number in range(10_000)]
        for task in tasks:
            task.join()

    virtual(main)
    assert steps == list(range(10_000))


def test_ten_thousand_that_wake_each_other(virtual):
    """A ring of events, three times round."""
    count = 10_000

    def main():
        events = [netnet.Event() for _ in range(count)]

        def work(number):
            events[number].wait()
            events[(number + 1) % count].set()

        tasks = [netnet.spawn(work, number) for number in range(count)]
        netnet.sleep(0)
        events[0].set()
        for task in tasks:
            task.result()

    virtual(main)


# -- fairness of direct switches


def spin(count=2):
    """Tasks that are ready for ever."""

    def turn():
        while True:
            netnet.sleep(0)

    return [netnet.spawn(turn) for _ in range(count)]


def test_an_event_is_noticed_while_tasks_play_ping_pong(run, backend):
    def main():
        spinning = spin()
        one, other = netnet.socketpair()
        with one, other:
            for _ in range(20):
                task = netnet.spawn(one.recv, 1)
                netnet.sleep(0)
                other.send(b"x")
                assert task.result() == b"x"
        for task in spinning:
            task.cancel()

    run(main)


def test_a_timer_is_noticed_while_tasks_play_ping_pong(run):
    def main():
        spinning = spin()
        start = time.monotonic()
        netnet.sleep(0.01)
        late = time.monotonic() - start - 0.01
        with pytest.raises(TimeoutError), netnet.timeout(0.01):
            while True:
                netnet.sleep(0)
        for task in spinning:
            task.cancel()
        assert late < 0.5

    run(main)


def test_a_thread_is_noticed_while_tasks_play_ping_pong(run):
    def main():
        spinning = spin()
        assert netnet.to_thread(int, "7") == 7
        for task in spinning:
            task.cancel()

    run(main)


def test_ping_pong_by_events_does_not_keep_others_waiting(run):
    """Here nobody steps aside: each wakes the other and waits."""

    def main():
        events = [netnet.Event(), netnet.Event()]

        def play(mine, other):
            while True:
                mine.wait()
                mine.clear()
                other.set()

        tasks = [netnet.spawn(play, *events), netnet.spawn(play, *reversed(events))]
        events[0].set()
        with contextlib.suppress(TimeoutError), netnet.timeout(0.02):
            netnet.Event().wait()
        for task in tasks:
            task.cancel()

    run(main)


def test_chains_of_spawns_do_not_keep_others_waiting(run):
    def main():
        go_on = True

        def work():
            if go_on:
                netnet.spawn(work)

        netnet.spawn(work)
        netnet.sleep(0.01)
        go_on = False

    run(main)


def test_chains_of_eager_spawns_do_not_keep_others_waiting(run):
    def main():
        go_on = True
        spawned = 0

        def work():
            nonlocal spawned
            while go_on and spawned < 50_000:
                spawned += 1
                netnet.spawn(int, eager=True)

        netnet.spawn(work)
        netnet.sleep(0)
        netnet.sleep(0)
        go_on = False
        return spawned

    assert run(main) < 1000


def test_calls_and_eager_spawns_in_turns_do_not_keep_others_waiting(run):
    """What a server does whose listener always has another connection."""

    def main():
        go_on = True
        spawned = 0

        def serve():
            nonlocal spawned
            while go_on and spawned < 50_000:
                netnet.checkpoint()
                spawned += 1
                netnet.spawn(int, eager=True)

        netnet.spawn(serve)
        netnet.sleep(0)
        netnet.sleep(0)
        go_on = False
        return spawned

    assert run(main) < 1000


@pytest.mark.parametrize("count", [1, 2, 7])
def test_signals_are_delivered_while_tasks_switch_straight_to_each_other(count):
    """Each within a second; in truth within a millisecond."""
    assert (
        in_a_process(
            f"""
            import os, signal, sys, threading, time, netnet
            sys.setswitchinterval(0.0001)  # threads get their turn slowly beside a busy one
            arrived = threading.Semaphore(0)
            seen, ends = [], time.monotonic() + 3
            def spin():
                while time.monotonic() < ends:
                    netnet.sleep(0)
            def send():
                for _ in range(30):
                    time.sleep(0.003)  # by now main sleeps again
                    os.kill(os.getpid(), signal.SIGINT)
                    if not arrived.acquire(timeout=1):
                        return
            def main():
                spinning = [netnet.spawn(spin) for _ in range({count})]
                netnet.after(0, threading.Thread(target=send).start)
                while len(seen) < 30 and time.monotonic() < ends:
                    try:
                        netnet.sleep(1.5)
                    except KeyboardInterrupt:
                        seen.append(1)
                        arrived.release()
                for task in spinning:
                    task.cancel()
            try:
                netnet.run(main)
            finally:
                print(len(seen))
            """
        )
        == "30"
    )


def test_a_signal_in_the_middle_of_a_direct_switch():
    """It cuts the turn short where the next task was taken out but not yet counted."""
    assert (
        in_a_process(
            f"""
            import time, netnet
            from collections import deque
            class Ready(deque):
                struck = False
                def popleft(self):
                    first = super().popleft()
                    if self.struck:
                        self.struck = False
                        loop.cut_turn()  # as the handler of SIGINT does
                    return first
            loop = netnet.Loop()
            loop.ready = Ready()
            ends = time.monotonic() + 1
            def spin():
                while time.monotonic() < ends:
                    netnet.sleep(0)
            def strike():
                for _ in range({SHARE * 2}):
                    loop.ready.struck = True
                    netnet.sleep(0)
            for work in (spin, spin, strike):
                loop.spawn(work)
            print(loop.start(0.1))
            loop.close()
            """
        )
        == "False"
    )


# -- from how deep


def _recursively(recv):
    def down(depth):
        return down(depth - 1) if depth else recv()

    return [down(depth) for depth in (0, 10, 100, 300)]


def _generator(recv):
    def chunks():
        for _ in range(4):
            yield recv()

    return list(chunks())


def _delegating(recv):
    def inner():
        yield recv()
        yield recv()

    def outer():
        yield from inner()
        yield from inner()

    return list(outer())


def _half_closed(recv):
    closed = []

    def chunks():
        try:
            while True:
                yield recv()
        finally:
            closed.append(recv())

    two = list(itertools.islice(generator := chunks(), 2))
    generator.close()
    return two, closed, recv()


class _Iterable:
    def __init__(self, recv):
        self.recv = recv
        self.left = 3

    def __iter__(self):
        self.first = self.recv()
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        self.left -= 1
        return self.recv()


def _managers(recv):
    @contextlib.contextmanager
    def manager():
        value = recv()
        try:
            yield value
        finally:
            seen.append(recv())

    seen = []
    with manager() as first, contextlib.ExitStack() as stack:
        stack.callback(lambda: seen.append(recv()))
        seen.append(first)
        seen.append(recv())
    return seen


class _Special:
    """Special methods, which C code calls."""

    def __init__(self, recv):
        self.recv = recv

    def __eq__(self, other):
        return self.recv() == other

    __hash__ = None

    def __lt__(self, other):
        return self.recv() < other.recv()

    def __getattr__(self, name):
        return self.recv()

    def __str__(self):
        return self.recv().decode()


#: name → a function that calls ``recv`` four times, from somewhere deep
WAYS = {
    "recursion": _recursively,
    "generator": _generator,
    "yield from": _delegating,
    "generator closed half way": _half_closed,
    "__iter__ and __next__": lambda recv: ((it := _Iterable(recv)), [*it], it.first)[1:],
    "list comprehension": lambda recv: [recv() for _ in range(4)],
    "generator expression in join": lambda recv: b"".join(recv() for _ in range(4)),
    "sorted by key": lambda recv: sorted(range(4), key=lambda _: recv()),
    "sorted by comparison": lambda recv: sorted([_Special(recv), _Special(recv)]) and [recv(), recv()],
    "max by key": lambda recv: max(range(4), key=lambda _: recv()),
    "map": lambda recv: list(map(lambda _: recv(), range(4))),  # noqa: C417  # map is the point
    "filter": lambda recv: list(filter(lambda _: recv() > b"b", range(4))),
    "reduce": lambda recv: functools.reduce(lambda so_far, _: so_far + recv(), range(4), b""),
    "iter of a function": lambda recv: list(itertools.islice(iter(recv, None), 4)),
    "zip": lambda recv: list(zip(range(2), iter(recv, None), iter(recv, None), strict=False)),
    "groupby": lambda recv: [key for key, _ in itertools.groupby(range(4), key=lambda _: recv())],
    "re.sub": lambda recv: re.sub("x", lambda match: recv().decode(), "x-x-x-x"),
    "json object_hook": lambda recv: json.loads("[{}, {}, {}, {}]", object_hook=lambda _: recv().decode()),
    "json default": lambda recv: json.dumps([{1}, {2}, {3}, {4}], default=lambda _: recv().decode()),
    "csv of an iterator": lambda recv: list(csv.reader(recv().decode() for _ in range(4))),
    "__eq__ in index": lambda recv: [_Special(recv) for _ in range(4)].index(b"a"),
    "__getattr__": lambda recv: [getattr(_Special(recv), "anything") for _ in range(4)],  # noqa: B009
    "__str__ in format": lambda recv: "{} {} {} {}".format(*[_Special(recv)] * 4),
    "context managers": _managers,
    "deque": lambda recv: deque((recv() for _ in range(4)), maxlen=2),
    "dict and set": lambda recv: ({recv(): recv()}, {recv(), recv()}),
    "partial": lambda recv: list(map(functools.partial(lambda recv, _: recv(), recv), range(4))),
    "lru_cache": lambda recv: list(map(functools.lru_cache(lambda number: recv()), range(4))),
    "exception handlers": lambda recv: _in_handlers(recv),
}


def _in_handlers(recv):
    seen = []
    try:
        try:
            raise KeyError(recv())
        except KeyError as error:
            seen.append(recv())
            assert sys.exc_info()[1] is error  # noqa: PT017  # inside the handler is the point
            raise ValueError(recv()) from error
    except ValueError as error:
        seen += [*error.args, *error.__cause__.args, recv()]
    return seen


@pytest.mark.parametrize("way", WAYS)
def test_waiting_from_any_depth(run, way):
    """Three tasks at once, each in the middle of the same C code, one byte at a time in turns."""
    call = WAYS[way]
    data = b"dbca"
    expected = call(iter([bytes([byte]) for byte in data]).__next__)

    def main():
        pairs = [netnet.socketpair() for _ in range(3)]
        tasks = [netnet.spawn(call, functools.partial(one.recv, 1)) for one, _ in pairs]
        for byte in data:
            wait_all_parked()
            assert not any(task.done for task in tasks)
            for _, other in reversed(pairs):
                other.send(bytes([byte]))
        results = [task.result() for task in tasks]
        for pair in pairs:
            for sock in pair:
                sock.close()
        return results

    assert run(main) == [expected] * 3


@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("generator closed half way", "context managers")])
def test_cancelled_at_any_depth(virtual, way):
    """In the middle of it: the exception comes out, and the C code has cleaned up after itself."""
    left = [b"x", b"y"]

    def recv():
        if left:
            return left.pop()
        netnet.sleep(1000)
        raise AssertionError

    def main():
        with pytest.raises(TimeoutError), netnet.timeout(1):
            WAYS[way](recv)
        return netnet.now()

    assert virtual(main) == 1


# -- what a worker keeps


def test_a_sleep_makes_no_garbage(virtual):
    """No cycles: ten thousand sleepers a second would keep the collector busy."""
    import gc

    def main():
        netnet.sleep(1)
        gc.collect()
        gc.disable()
        try:
            for _ in range(100):
                netnet.sleep(1)
            return gc.collect()
        finally:
            gc.enable()

    assert virtual(main) < 50


@pytest.mark.parametrize("end", ["taken", "cancelled", "closed"])
def test_a_pooled_worker_keeps_no_gift(virtual, end):
    class Thing:
        pass

    def give(channel, thing):
        with contextlib.suppress(netnet.ChannelClosedError):
            channel.send(thing)

    def main():
        channel = netnet.Channel(0)
        taker = netnet.spawn(channel.receive)
        netnet.sleep(0)
        thing = Thing()
        reference = weakref.ref(thing)
        if end == "taken":
            channel.send(thing)
            taker.join()
        else:
            taker.cancel()
            taker.join()
            giver = netnet.spawn(give, channel, thing)
            netnet.sleep(0)
            giver.cancel() if end == "cancelled" else channel.close()
            giver.join()
            del giver
        del thing, taker, channel
        netnet.spawn(int).join()
        return reference() is None

    assert virtual(main)
