"""Event and semaphore: first come first served, nothing lost when a waiter is cancelled, at whatever moment."""

from __future__ import annotations

import pytest

import netnet
from netnet import Cancelled, Event, Semaphore
from netnet.testing import wait_all_parked

# -- event


def test_an_event(run):
    def main():
        event = Event()
        assert not event.is_set()
        tasks = [netnet.spawn(event.wait) for _ in range(3)]
        wait_all_parked()
        assert not any(task.done for task in tasks)
        event.set()
        assert event.is_set()
        assert not any(task.done for task in tasks)  # set() does not switch
        for task in tasks:
            task.result()
        event.wait()

    run(main)


def test_waiters_go_on_in_order(run):
    def main():
        event, order = Event(), []
        for number in range(5):
            netnet.spawn(lambda number=number: (event.wait(), order.append(number)))
        wait_all_parked()
        event.set()
        wait_all_parked()
        assert order == list(range(5))

    run(main)


def test_clear(run):
    def main():
        event = Event()
        event.set()
        event.set()
        event.clear()
        task = netnet.spawn(event.wait)
        wait_all_parked()
        assert not task.done
        event.set()
        task.result()

    run(main)


def test_cleared_before_the_woken_ran(run):
    """Who waited when it was set has seen it, even if it is cleared before they run."""

    def main():
        event = Event()
        task = netnet.spawn(event.wait)
        wait_all_parked()
        event.set()
        event.clear()
        task.result()

    run(main)


def test_set_without_a_loop():
    event = Event()
    event.set()
    assert event.is_set()


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_cancelled_waiter_does_not_disturb_the_others(run, which):
    def main():
        event = Event()
        tasks = [netnet.spawn(event.wait) for _ in range(3)]
        wait_all_parked()
        tasks[which].cancel()
        event.set()
        for number, task in enumerate(tasks):
            task.join()
            assert isinstance(task.error, Cancelled) == (number == which)

    run(main)


# -- semaphore


@pytest.mark.parametrize("permits", [0, 1, 5])
def test_permits(run, permits):
    def main():
        semaphore = Semaphore(permits)
        for left in range(permits, 0, -1):
            assert semaphore.value == left
            semaphore.acquire()
        assert semaphore.value == 0
        task = netnet.spawn(semaphore.acquire)
        wait_all_parked()
        assert not task.done
        semaphore.release()
        task.result()
        assert semaphore.value == 0

    run(main)


@pytest.mark.parametrize("permits", [-1, -100])
def test_fewer_than_no_permits(permits):
    with pytest.raises(ValueError, match=str(permits)):
        Semaphore(permits)


def test_never_more_inside_than_permits(virtual):
    def main():
        semaphore, inside, most = Semaphore(3), [], []

        def work(number):
            with semaphore:
                inside.append(number)
                most.append(len(inside))
                netnet.sleep(number % 3)
                inside.remove(number)

        with netnet.TaskGroup() as group:
            for number in range(20):
                group.spawn(work, number)
        assert max(most) == 3
        assert semaphore.value == 3

    virtual(main)


def test_first_come_first_served(run):
    def main():
        semaphore, order = Semaphore(0), []
        for number in range(5):
            netnet.spawn(lambda number=number: (semaphore.acquire(), order.append(number)))
        wait_all_parked()
        for _ in range(5):
            semaphore.release()
        netnet.spawn(lambda: (semaphore.acquire(), order.append("late")))
        wait_all_parked()
        assert order == list(range(5))
        semaphore.release()
        wait_all_parked()
        assert order[-1] == "late"

    run(main)


def test_a_newcomer_does_not_overtake_one_that_was_woken(run):
    """The permit is handed over, not put on the table."""

    def main():
        semaphore, order = Semaphore(1), []
        semaphore.acquire()
        netnet.spawn(lambda: (semaphore.acquire(), order.append("waiter")))
        wait_all_parked()
        semaphore.release()
        assert semaphore.value == 0
        task = netnet.spawn(lambda: (semaphore.acquire(), order.append("newcomer")))
        wait_all_parked()
        assert order == ["waiter"]
        semaphore.release()
        task.result()

    run(main)


def test_with_gives_back_after_an_error(run):
    def main():
        semaphore = Semaphore(1)
        with pytest.raises(KeyError), semaphore:
            raise KeyError
        assert semaphore.value == 1

    run(main)


@pytest.mark.parametrize("order", ["cancel, release", "release, cancel"])
def test_a_permit_is_not_lost_with_a_cancelled_waiter(run, order):
    def main():
        semaphore = Semaphore(0)

        def work():
            with semaphore:
                netnet.sleep(0)

        first, second = netnet.spawn(work), netnet.spawn(work)
        wait_all_parked()
        for action in order.split(", "):
            if action == "cancel":
                first.cancel()
            else:
                semaphore.release()
        first.join()
        second.result()
        assert isinstance(first.error, Cancelled)
        assert semaphore.value == 1

    run(main)


def test_a_permit_is_not_lost_in_a_timeout_at_the_same_instant(virtual):
    def main():
        semaphore = Semaphore(0)

        def work():
            with netnet.timeout(5), semaphore:
                netnet.sleep(1)

        netnet.spawn(lambda: (netnet.sleep(5), semaphore.release()))
        tasks = [netnet.spawn(work) for _ in range(3)]
        for task in tasks:
            with pytest.raises(TimeoutError):
                task.result()
        assert semaphore.value == 1

    virtual(main)


def test_random_cancelling_loses_nothing(virtual):
    import random

    def main():
        choose = random.Random(3)
        semaphore, inside = Semaphore(2), []

        def work(number):
            with netnet.timeout(choose.randrange(1, 30)), semaphore:
                inside.append(number)
                try:
                    assert len(inside) <= 2
                    netnet.sleep(choose.randrange(3))
                finally:
                    inside.remove(number)

        tasks = [netnet.spawn(work, number) for number in range(200)]
        for task in tasks:
            netnet.sleep(choose.randrange(2))
            if choose.random() < 0.3:
                task.cancel()
        for task in tasks:
            task.join()
            assert task.error is None or isinstance(task.error, (Cancelled, TimeoutError))
            if task.failure is not None:
                task.failure.seen = True
        assert semaphore.value == 2

    virtual(main)
