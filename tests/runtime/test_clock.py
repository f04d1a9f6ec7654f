"""Time: the virtual clock's jumps, their order, sockets and threads beside it; the real clock; what ``sleep`` and
``sleep_until`` make of every kind of number."""

from __future__ import annotations

import math
import threading
import time

import pytest

import netnet
from netnet import Cancelled
from netnet.runtime.clock import MonotonicClock
from netnet.testing import VirtualClock, wait_all_parked


def test_a_year_ends_at_once(virtual):
    def main():
        netnet.sleep(365 * 86400)
        return netnet.now()

    assert virtual(main, start=7) == 365 * 86400 + 7


def test_now_stands_still_while_a_task_can_run(virtual):
    def main():
        netnet.spawn(netnet.sleep, 5)
        for _ in range(100):
            netnet.sleep(0)
        return netnet.now()

    assert virtual(main) == 0


def test_sleepers_wake_in_order(virtual):
    def main():
        order = []
        for seconds in (3, 1, 2, 1, 3):
            netnet.spawn(lambda seconds=seconds: (netnet.sleep(seconds), order.append((seconds, netnet.now()))))
        netnet.sleep(10)
        return order

    assert virtual(main) == [(1, 1), (1, 1), (2, 2), (3, 3), (3, 3)]


def test_the_same_run_twice_is_the_same(virtual):
    def main():
        trace = []

        def work(number):
            for step in range(5):
                netnet.sleep((number * 7 + step) % 4)
                trace.append((netnet.now(), number))

        with netnet.TaskGroup() as group:
            for number in range(10):
                group.spawn(work, number)
        return trace

    first = virtual(main)
    assert first == sorted(first, key=lambda one: one[0])
    assert virtual(main) == first


@pytest.mark.parametrize("seconds", [0, -1, -math.inf, 0.0])
def test_no_time_is_one_turn(virtual, seconds):
    def main():
        order = []
        netnet.spawn(order.append, "other")
        netnet.sleep(seconds)
        order.append("main")
        assert order == ["other", "main"]
        return netnet.now()

    assert virtual(main) == 0


@pytest.mark.parametrize(("when", "end"), [(5, 5), (3, 3), (2, 2), (1, 2), (-math.inf, 2)])
def test_sleep_until(virtual, when, end):
    def main():
        netnet.sleep_until(when)
        return netnet.now()

    assert virtual(main, start=2) == end


@pytest.mark.parametrize("call", [netnet.sleep, netnet.sleep_until, VirtualClock().advance])
@pytest.mark.parametrize(("value", "error"), [(math.nan, ValueError), ("no number", TypeError), ("5", TypeError)])
def test_what_is_not_a_number_is_refused(run, call, value, error):
    with pytest.raises(error, match="number"):
        run(call, value)


@pytest.mark.parametrize("call", [netnet.sleep, netnet.sleep_until])
def test_for_ever_ends_with_cancellation(virtual, call):
    def main():
        task = netnet.spawn(call, math.inf)
        netnet.sleep(1e12)
        assert not task.done
        task.cancel()
        task.join()
        assert isinstance(task.error, Cancelled)

    virtual(main)


def test_advance_by_hand():
    clock = VirtualClock(10)

    def main():
        task = netnet.spawn(netnet.sleep, 5)
        netnet.sleep(0)
        clock.advance(5)
        netnet.sleep(0)
        netnet.sleep(0)
        assert task.done
        return netnet.now()

    assert netnet.run(main, clock=clock) == 15
    assert clock.now() == 15


def test_the_clock_does_not_jump_back():
    clock = VirtualClock(10)
    clock.jump_to(5)
    assert clock.now() == 10


def test_data_on_its_way_comes_before_the_jump(virtual, backend):
    def main():
        def serve():
            with listener.accept()[0] as conn:
                conn.sendall(b"answer")

        with netnet.listen("127.0.0.1:0") as listener:
            netnet.spawn(serve)
            with netnet.timeout(1), netnet.connect(listener.getsockname()) as conn:
                assert conn.recv(100) == b"answer"
        return netnet.now()

    assert virtual(main) == 0


def test_a_long_exchange_takes_no_time(virtual, backend):
    def main():
        one, other = netnet.socketpair()
        with one, other:
            netnet.spawn(lambda: [other.sendall(chunk) for chunk in other])
            netnet.spawn(netnet.sleep, 1)
            for _ in range(50):
                with netnet.timeout(0.5):
                    one.sendall(b"x")
                    one.recv(1)
            one.shutdown(1)
        return netnet.now()

    assert virtual(main) == 0


def test_a_socket_that_stays_silent_times_out_at_once(virtual, backend):
    def main():
        one, other = netnet.socketpair()
        one.settimeout(600)
        with one, other:
            with pytest.raises(TimeoutError):
                one.recv(1)
            with pytest.raises(TimeoutError), netnet.timeout(600):
                other.recv(1)
        return netnet.now()

    assert virtual(main) == 1200


def test_the_clock_waits_for_a_thread(virtual, backend):
    """Work in an OS thread is not parked: the sleeper's hour begins to pass when it is done."""
    done = threading.Event()

    def main():
        task = netnet.spawn(lambda: netnet.to_thread(done.wait, 10) and netnet.now())
        sleeper = netnet.spawn(lambda: netnet.sleep(3600) or netnet.now())
        wait_all_parked()
        done.set()
        return task.result(), sleeper.result()

    assert virtual(main) == (0, 3600)


def test_the_real_clock():
    before = time.monotonic()
    inside = netnet.run(netnet.now)
    assert before <= inside <= time.monotonic()
    assert netnet.now() >= inside
    with pytest.raises(NotImplementedError):
        MonotonicClock().jump_to(0)


@pytest.mark.parametrize("seconds", [0.001, 0.02])
def test_a_sleep_is_never_short(run, backend, seconds):
    def main():
        before = time.monotonic()
        netnet.sleep(seconds)
        return time.monotonic() - before

    assert run(main) >= seconds


def test_now_in_a_callback_of_the_loop_is_the_loops(virtual):
    def main():
        seen = []
        netnet.current_task().loop.call_soon(lambda: seen.append(netnet.now()))
        netnet.sleep(0)
        return seen

    assert virtual(main, start=123) == [123]
