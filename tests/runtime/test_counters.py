"""``Counters``: exact in programs that can be counted by hand, and the same as an instrument has counted; lag, depth, the
sums that must always hold, and a loop driven by hand."""

from __future__ import annotations

import re
import signal
import threading
import time

import pytest

import netnet
from netnet.testing import VirtualClock, wait_all_parked


class Counting(netnet.Instrument):
    """Counts for itself what the loop counts."""

    def __init__(self):
        self.resumed = self.polls = self.events = self.alive = 0
        self.counters = None

    def task_spawned(self, task):
        self.alive += 1
        self.counters = task.loop.counters

    def task_ended(self, task):
        self.alive -= 1

    def task_resumed(self, task):
        self.resumed += 1

    def after_wait(self, events):
        self.polls += 1
        self.events += events


def sleepers():
    for number in range(1, 11):
        netnet.spawn(netnet.sleep, number)


def a_chain():
    """Each starts the next one, and ends."""

    def link(left):
        if left:
            netnet.spawn(link, left - 1)

    link(50)


def a_crowd():
    event = netnet.Event()
    tasks = [netnet.spawn(event.wait) for _ in range(200)]
    wait_all_parked()
    event.set()
    for one in tasks:
        one.join()


def a_channel():
    channel = netnet.Channel()
    netnet.spawn(lambda: [channel.send(number) for number in range(100)])
    for _ in range(100):
        channel.receive()


def cancelled_ones():
    tasks = [netnet.spawn(netnet.sleep, 100) for _ in range(30)]
    netnet.sleep(1)
    for one in tasks:
        one.cancel()


def eager_ones():
    for _ in range(30):
        netnet.spawn(netnet.sleep, 1, eager=True)


def timed_out():
    for _ in range(10):
        with pytest.raises(TimeoutError), netnet.timeout(1):
            netnet.Event().wait()


def one_pair_of_sockets():
    """Each byte is an event, and wakes one task straight from it."""
    one, other = netnet.socketpair()
    with one, other:

        def echo():
            for chunk in other:
                other.sendall(chunk)

        echoing = netnet.spawn(echo)
        for _ in range(100):
            one.sendall(b"x")
            assert one.recv(1) == b"x"
        one.shutdown(1)
        echoing.join()


def many_pairs_of_sockets():
    """Several events in one turn: tasks hand over to each other without the hub."""

    def receive(sock):
        for _ in range(10):
            sock.recv(1)

    pairs = [netnet.socketpair() for _ in range(20)]
    tasks = [netnet.spawn(receive, one) for one, _ in pairs]
    for _ in range(10):
        wait_all_parked()
        for _, other in pairs:
            other.send(b"x")
    for one in tasks:
        one.join()
    for pair in pairs:
        for sock in pair:
            sock.close()


PROGRAMS = [
    sleepers,
    a_chain,
    a_crowd,
    a_channel,
    cancelled_ones,
    eager_ones,
    timed_out,
    one_pair_of_sockets,
    many_pairs_of_sockets,
]


def always_true(counters):
    assert 0 <= counters.wakes <= counters.switches
    assert 0 <= counters.ready <= counters.ready_max
    assert 0 <= counters.lag <= counters.lag_max
    for name in counters.__slots__:
        assert getattr(counters, name) >= 0


@pytest.mark.parametrize("main", PROGRAMS)
def test_what_is_counted_is_what_an_instrument_sees(backend, main):
    counting = Counting()
    netnet.run(main, clock=VirtualClock(), instruments=[counting])
    counters = counting.counters
    always_true(counters)
    assert counting.alive == 0
    assert counters.events == counting.events
    assert counters.polls == counting.polls
    # switches of a task to itself are none to the instrument, and callbacks of the loop are no tasks
    assert counting.resumed <= counters.switches <= 2 * counting.resumed


def counted(main, **options):
    counting = Counting()
    netnet.run(main, instruments=[counting], **options)
    return counting.counters, counting


def test_switches_of_one_sleeper_are_exact():
    counters, counting = counted(lambda: [netnet.sleep(1) for _ in range(10)], clock=VirtualClock())
    assert counters.switches == counters.wakes == counting.resumed == 11  # it began, and was woken ten times
    assert counters.timers == 10
    assert counters.events == 0
    assert (counters.ready_max, counters.lag_max) == (1, 0)


@pytest.mark.parametrize("tasks", [1, 7, 300])
def test_switches_of_tasks_that_begin_sleep_and_end_are_exact(tasks):
    def main():
        for _ in range(tasks):
            netnet.spawn(netnet.sleep, 1)

    counters, counting = counted(main, clock=VirtualClock())
    assert counters.switches == counting.resumed == 1 + 2 * tasks
    assert counters.timers == tasks
    assert counters.ready_max == tasks


def test_switches_of_two_that_take_turns_are_exact():
    def main():
        for _ in range(2):
            netnet.spawn(lambda: [netnet.sleep(0) for _ in range(100)])

    counters, counting = counted(main, clock=VirtualClock())
    assert counters.switches == counting.resumed == 1 + 2 * 101


def test_a_wake_by_an_event_is_a_switch_and_no_wake(run, backend):
    def main():
        counters = netnet.current_loop().counters
        one, other = netnet.socketpair()
        with one, other:
            reader = netnet.spawn(lambda: [one.recv(1) for _ in range(50)])
            wait_all_parked()
            before = counters.switches - counters.wakes
            for _ in range(50):
                other.send(b"x")
                wait_all_parked()
            assert reader.done
            return counters.switches - counters.wakes - before

    assert run(main) == 50


def test_the_depth_of_the_queue_is_that_at_the_beginning_of_the_turn():
    def main():
        counters = netnet.current_loop().counters
        for _ in range(40):
            netnet.spawn(int)
        netnet.sleep(0)
        netnet.sleep(0)
        deepest = counters.ready_max
        netnet.sleep(1)
        return deepest, counters.ready, counters.ready_max

    deepest, ready, still = netnet.run(main, clock=VirtualClock())
    assert deepest in (40, 41)
    assert ready == 1
    assert still == deepest


def test_lag_on_the_real_clock(run):
    """A task that does not let go makes a timer late, by as much as it held on."""

    def main():
        counters = netnet.current_loop().counters
        sleeper = netnet.spawn(netnet.sleep, 0.02)
        netnet.sleep(0)
        before = counters.lag_max
        time.sleep(0.15)
        sleeper.join()
        return before, counters.lag_max

    before, after = run(main)
    assert before < 0.1
    assert 0.12 < after < 5


def test_lag_is_the_last_and_the_latest():
    clock = VirtualClock()

    def main():
        counters = netnet.current_loop().counters
        lags = []
        for late in (3, 7, 0, 2):
            netnet.spawn(netnet.sleep, 1)
            netnet.sleep(0)
            clock.advance(1 + late)
            netnet.sleep(0)
            netnet.sleep(0)
            lags.append((counters.lag, counters.lag_max))
        return lags

    assert netnet.run(main, clock=clock) == [(3, 3), (7, 7), (0, 7), (2, 7)]


def test_a_timer_that_was_taken_back_is_not_counted(virtual):
    def main():
        counters = netnet.current_loop().counters
        for _ in range(100):
            with netnet.timeout(50):
                netnet.sleep(1)
        return counters.timers

    assert virtual(main) == 100


def test_calls_from_threads_are_wakes(run):
    def main():
        counters = netnet.current_loop().counters
        before = counters.wakes
        for _ in range(20):
            netnet.to_thread(int)
        return counters.wakes - before

    assert 20 <= run(main) <= 60


def test_an_idle_loop_counts_nothing(run):
    def main():
        counters = netnet.current_loop().counters
        event = threading.Event()
        task = netnet.spawn(netnet.to_thread, event.wait, 10)
        wait_all_parked()
        loop = netnet.current_loop()
        netnet.to_thread(time.sleep, 0.01)
        before = (counters.polls, counters.switches)
        after = netnet.to_thread(lambda: (time.sleep(0.1), (counters.polls, counters.switches))[1])
        event.set()
        task.join()
        assert loop.counters is counters
        return before, after

    before, after = run(main)
    assert after[0] - before[0] <= 2
    assert after[1] - before[1] <= 2


# -- turns that end in another way than usual


def test_the_sums_hold_after_a_deadlock():
    counting = Counting()
    with pytest.raises(netnet.DeadlockError):
        netnet.run(lambda: netnet.Event().wait(), clock=VirtualClock(), instruments=[counting])
    always_true(counting.counters)


def test_the_sums_hold_after_a_signal_handler_has_raised_while_the_loop_waited():
    class StruckError(Exception):
        pass

    def handler(number, frame):
        raise StruckError

    def main():
        def strike():
            if seen.wait(10):
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

        thread = threading.Thread(target=strike)
        thread.start()
        try:
            with pytest.raises(StruckError):
                netnet.spawn(netnet.sleep, 10)
                netnet.after(0.05, seen.set)
                netnet.sleep(10)
        finally:
            thread.join()
        for one in netnet.tasks()[1:]:
            one.cancel()

    seen = threading.Event()
    counting = Counting()
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        netnet.run(main, instruments=[counting])
    finally:
        signal.signal(signal.SIGUSR1, before)
    always_true(counting.counters)
    assert counting.resumed <= counting.counters.switches


def test_after_a_cancelled_run():
    counting = Counting()

    def main():
        for _ in range(20):
            netnet.spawn(netnet.sleep, 100)
        netnet.sleep(1)
        raise LookupError

    with pytest.raises(LookupError):
        netnet.run(main, clock=VirtualClock(), instruments=[counting])
    always_true(counting.counters)
    assert counting.counters.switches == counting.resumed == 2 + 20 * 2


# -- driven by hand


def test_a_loop_driven_by_hand_counts_what_it_was_driven_for():
    with netnet.Loop(clock=VirtualClock()) as loop:
        counters = loop.counters
        assert [getattr(counters, name) for name in counters.__slots__] == [0] * len(counters.__slots__)
        loop.spawn(netnet.sleep, 5)
        loop.poll(0)
        assert (counters.switches, counters.polls) == (1, 1)
        loop.poll(0)
        assert counters.switches == 1
        assert loop.start()
        assert counters.switches == 2
        assert counters.timers >= 1  # the time limits of ``poll`` are timers, too
        always_true(counters)


def test_the_sums_hold_after_a_poll_that_found_a_deadlock():
    with netnet.Loop(clock=VirtualClock()) as loop:
        loop.spawn(netnet.Event().wait)
        with pytest.raises(netnet.DeadlockError):
            loop.start()
        always_true(loop.counters)


def test_the_text_names_every_count():
    def main():
        netnet.sleep(1)
        return netnet.current_loop().counters

    counters = netnet.run(main, clock=VirtualClock())
    assert re.match(r"Counters\(events=0, lag=0(\.0)?, lag_max=0(\.0)?, polls=\d", repr(counters))
    for name in counters.__slots__:
        assert f"{name}=" in repr(counters)
    assert f"switches={counters.switches}" in repr(counters)


def test_a_large_count_is_told_in_full():
    counters = netnet.Counters()
    counters.switches = 123_456_789
    assert "switches=123456789" in repr(counters)


def test_counting_does_not_need_an_instrument():
    def main():
        for _ in range(3):
            netnet.sleep(1)
        return netnet.current_loop()

    with_one, _ = counted(main, clock=VirtualClock())
    without = netnet.run(main, clock=VirtualClock()).counters
    assert repr(with_one) == repr(without)
