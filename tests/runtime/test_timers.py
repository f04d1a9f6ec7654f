"""The heap of timers by itself: order, cancelling, and that a cancelled timer costs nothing later. Then a run whose
timers are cancelled in masses."""

from __future__ import annotations

import contextlib
import gc
import random
import weakref

import pytest

import netnet
from netnet.runtime.timers import DEAD_MIN, Timers
from netnet.testing import wait_all_parked

#: as many dead entries as may lie around
DEAD_MAX = 2 * DEAD_MIN + 2


@pytest.fixture
def timers():
    return Timers()


@pytest.fixture
def fired():
    return []


def test_in_order_of_their_instants(timers, fired):
    instants = random.Random(1).sample(range(1000), 200)
    for instant in instants:
        timers.add(instant, lambda instant=instant: fired.append(instant))
    timers.fire(499.5)
    assert fired == sorted(instant for instant in instants if instant < 499.5)
    timers.fire(1000)
    assert fired == sorted(instants)


def test_equal_instants_in_the_order_they_were_set(timers, fired):
    for number in range(5000):
        timers.add(7, lambda number=number: fired.append(number))
    timers.fire(7)
    assert fired == list(range(5000))


@pytest.mark.parametrize(("now", "expected"), [(6.999, []), (7, ["it"]), (8, ["it"])])
def test_due_means_at_or_after(timers, fired, now, expected):
    timers.add(7, lambda: fired.append("it"))
    timers.fire(now)
    assert fired == expected


def test_once(timers, fired):
    timers.add(1, lambda: fired.append("it"))
    timers.fire(1)
    timers.fire(2)
    assert fired == ["it"]


def test_cancel(timers, fired):
    timer = timers.add(1, lambda: fired.append("it"))
    assert timer.cancel() is True
    assert timer.cancel() is False
    timers.fire(1)
    assert fired == []
    assert timers.next_instant() is None


def test_cancel_after_firing(timers, fired):
    timer = timers.add(1, lambda: fired.append("it"))
    timers.fire(1)
    assert timer.cancel() is False


def test_cancel_lets_go_at_once(timers):
    class Action:
        def __call__(self):
            pass

    action = Action()
    gone = weakref.ref(action)
    timer = timers.add(1, action)
    del action
    timer.cancel()
    gc.collect()
    assert gone() is None


def test_a_timer_set_while_others_fire_waits_for_the_next_round(timers, fired):
    timers.add(1, lambda: timers.add(0, lambda: fired.append("second")))
    timers.fire(1)
    assert fired == []
    timers.fire(1)
    assert fired == ["second"]


def test_a_timer_cancelled_by_another_of_its_round(timers, fired):
    timers.add(1, lambda: later.cancel())
    later = timers.add(1, lambda: fired.append("never"))
    timers.fire(1)
    assert fired == []


@pytest.mark.parametrize(
    ("instants", "cancelled", "first"), [((3, 1, 2), (), 1), ((3, 1, 2), (1,), 2), ((1,), (1,), None), ((), (), None)]
)
def test_next_instant_is_that_of_a_living_one(timers, instants, cancelled, first):
    made = {instant: timers.add(instant, int) for instant in instants}
    for instant in cancelled:
        made[instant].cancel()
    assert timers.next_instant() == first


def test_the_heap_is_built_anew_without_the_dead(timers):
    living = [timers.add(1000 + number, int) for number in range(10)]
    for _ in range(10):
        for timer in [timers.add(number, int) for number in range(1000)]:
            timer.cancel()
        assert len(timers.heap) <= len(living) + DEAD_MAX
    assert timers.next_instant() == 1000


def test_rebuilding_keeps_the_order(timers, fired):
    made = [timers.add(number % 7, lambda number=number: fired.append(number)) for number in range(1000)]
    for number, timer in enumerate(made):
        if number % 10:
            timer.cancel()
    assert len(timers.heap) < 300
    timers.fire(10)
    assert fired == sorted(range(0, 1000, 10), key=lambda number: (number % 7, number))


def test_masses_that_cancel_each_other_while_they_fire(timers):
    """Due timers are out of the heap already: cancelling one must not spoil the count of the dead inside it."""
    for _ in range(5):
        made = []
        timers.add(1, lambda made=made: [timer.cancel() for timer in made])
        made += [timers.add(1, int) for _ in range(1000)]
        timers.fire(1)
        assert timers.heap == []
    for timer in [timers.add(5, int) for _ in range(1000)]:
        timer.cancel()
    assert len(timers.heap) <= DEAD_MAX


def test_random_against_a_sorted_list(timers):
    random_number = random.Random(2)
    alive, fired, expected, now = {}, [], [], 0
    for number in range(5000):
        action = random_number.random()
        if action < 0.6:
            instant = now + random_number.randrange(20)
            alive[number] = (instant, timers.add(instant, lambda number=number: fired.append(number)))
        elif action < 0.9 and alive:
            alive.pop(random_number.choice(list(alive)))[1].cancel()
        else:
            now += random_number.randrange(5)
            due = sorted((instant, one) for one, (instant, _) in alive.items() if instant <= now)
            expected += [one for _, one in due]
            for _, one in due:
                del alive[one]
            timers.fire(now)
        assert fired == expected
        assert timers.next_instant() == min((instant for instant, _ in alive.values()), default=None)


def test_timeouts_that_are_not_reached_do_not_pile_up(virtual):
    def main():
        heap = netnet.current_task().loop.timers.heap
        for _ in range(10_000):
            with netnet.timeout(3600):
                pass
        assert len(heap) <= DEAD_MAX
        task = netnet.spawn(lambda: [one_second_at_most() for _ in range(1000)])
        task.join()
        assert len(heap) <= DEAD_MAX

    def one_second_at_most():
        with contextlib.suppress(TimeoutError), netnet.timeout(3600), netnet.timeout(1):
            netnet.sleep(3600)

    virtual(main)


def test_timeouts_of_sockets_do_not_pile_up(run, backend):
    def main():
        heap = netnet.current_task().loop.timers.heap
        one, other = netnet.socketpair()
        one.settimeout(3600)
        echo = netnet.spawn(lambda: [other.sendall(other.recv(1)) for _ in range(500)])
        with one, other:
            for _ in range(500):
                one.sendall(b"x")
                assert one.recv(1) == b"x"
            echo.result()
        assert len(heap) <= DEAD_MAX + 2

    run(main)


@pytest.mark.parametrize("seconds", [30 * 86400, 1e9, 1e300])
def test_a_very_long_sleep_on_the_real_clock(backend, seconds):
    """The kernel's time-outs are limited to some 24 days; what a program may ask for is not."""

    def main():
        one, other = netnet.socketpair()
        with one, other:
            sleeper = netnet.spawn(netnet.sleep, seconds)
            reader = netnet.spawn(one.recv, 1)
            wait_all_parked()
            other.send(b"x")  # so the next poll, which has the whole time, ends at once
            assert reader.result() == b"x"
            sleeper.cancel()

    netnet.run(main)
