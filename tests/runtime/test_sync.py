"""Events, semaphores, limiters; and one table of everything that a task can wait for another task's gift in: first come
first served, and nothing lost, taken or doubled when a waiter is cancelled, at whatever moment.

The table, ``GIVES``, is shared with the tests of threads (``test_sync_threads``)."""

from __future__ import annotations

import gc
import math
import queue
import random
import signal
import threading
import weakref
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace

import pytest

import netnet
from netnet import (
    BoundedSemaphore,
    Cancelled,
    CapacityLimiter,
    Channel,
    DeadlockError,
    Elapsed,
    Event,
    Lock,
    RLock,
    Semaphore,
    Sending,
    UsageError,
    choose,
)
from netnet.runtime import company
from netnet.runtime.company import others_alive
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
    def main():
        dice = random.Random(3)
        semaphore, inside = Semaphore(2), []

        def work(number):
            with netnet.timeout(dice.randrange(1, 30)), semaphore:
                inside.append(number)
                try:
                    assert len(inside) <= 2
                    netnet.sleep(dice.randrange(3))
                finally:
                    inside.remove(number)

        tasks = [netnet.spawn(work, number) for number in range(200)]
        for task in tasks:
            netnet.sleep(dice.randrange(2))
            if dice.random() < 0.3:
                task.cancel()
        for task in tasks:
            task.join()
            assert task.error is None or isinstance(task.error, (Cancelled, TimeoutError))
            if task.failure is not None:
                task.failure.seen = True
        assert semaphore.value == 2

    virtual(main)


@pytest.mark.parametrize("seconds", [0, -1, -math.inf])
def test_an_event_without_time_to_wait(run, seconds):
    def main():
        event = Event()
        assert event.wait(seconds) is False
        assert not event.lot.waiting
        event.set()
        assert event.wait(seconds) is True

    run(main)


def test_an_event_waited_for_in_time(virtual):
    def main():
        event = Event()
        assert event.wait(3) is False
        assert netnet.now() == 3
        netnet.after(2, event.set)
        assert event.wait(3) is True
        assert netnet.now() == 5
        assert not event.lot.waiting

    virtual(main)


@pytest.mark.parametrize("first", ["set", "wait"])
def test_an_event_set_at_the_instant_of_the_time_out(virtual, first):
    """Either may come first; what is returned agrees with what happened, and nobody is left in the queue."""

    def main():
        event, told = Event(), []
        if first == "set":
            netnet.at(5, event.set)
        waiter = netnet.spawn(lambda: told.append(event.wait(5)))
        netnet.sleep(0)
        if first == "wait":
            netnet.at(5, event.set)
        waiter.join()
        netnet.sleep(1)
        assert event.is_set()
        assert told in ([True], [False])
        assert not event.lot.waiting

    virtual(main)


NOT_A_NUMBER = {
    "event": lambda: Event().wait(math.nan),
    "semaphore": lambda: Semaphore(0).acquire(timeout=math.nan),
    "lock": lambda: _held(Lock()).acquire(timeout=math.nan),
    "condition": lambda: _in_condition(netnet.Condition(), math.nan),
    "condition, for": lambda: _in_condition_for(netnet.Condition(), math.nan),
    "barrier": lambda: netnet.Barrier(2).wait(math.nan),
    "barrier's own": lambda: netnet.Barrier(2, timeout=math.nan).wait(),
    "queue, get": lambda: netnet.Queue().get(timeout=math.nan),
    "queue, put": lambda: _full(netnet.Queue(1)).put(1, timeout=math.nan),
    "elapsed": lambda: choose(Elapsed(math.nan)),
}


def _held(lock):
    netnet.spawn(lock.acquire)
    wait_all_parked()
    return lock


def _full(line):
    line.put(0)
    return line


def _in_condition(condition, seconds):
    with condition:
        condition.wait(seconds)


def _in_condition_for(condition, seconds):
    asked = []

    def predicate():
        asked.append(1)
        assert len(asked) < 5, "it goes on for ever"

    with condition:
        condition.wait_for(predicate, seconds)


@pytest.mark.parametrize("call", NOT_A_NUMBER.values(), ids=NOT_A_NUMBER)
def test_a_time_that_is_no_number(virtual, call):
    """It has no place among the timers: it is refused, as everywhere else."""

    def main():
        with pytest.raises(ValueError, match="NaN"):
            call()
        assert not any(math.isnan(when) for when, _, _ in netnet.current_loop().timers.heap)

    virtual(main)


def test_a_time_without_end_is_no_instant(virtual):
    """Nobody sets the event: that is a deadlock, not a clock that jumps to the end of time."""

    def main():
        Event().wait(math.inf)

    with pytest.raises(DeadlockError, match="an event"):
        virtual(main)


# -- bounded semaphore


def test_a_bounded_semaphore_notices_one_too_many(run):
    def main():
        semaphore = BoundedSemaphore(2)
        with pytest.raises(ValueError):
            semaphore.release()
        semaphore.acquire()
        with pytest.raises(ValueError):
            semaphore.release(2)
        assert semaphore.value == 1
        semaphore.release()
        assert semaphore.value == 2

    run(main)


def test_a_bounded_semaphore_counts_what_was_handed_over(run):
    """A permit that goes straight to a waiter is taken, not free."""

    def main():
        semaphore = BoundedSemaphore(1)
        semaphore.acquire()
        task = netnet.spawn(semaphore.acquire)
        wait_all_parked()
        semaphore.release()
        assert semaphore.value == 0
        semaphore.release()  # the waiter's
        task.result()
        with pytest.raises(ValueError):
            semaphore.release()
        assert semaphore.value == 1

    run(main)


@pytest.mark.parametrize("number", [0, -1])
@pytest.mark.parametrize("kind", [Semaphore, BoundedSemaphore])
def test_releasing_nothing(kind, number):
    with pytest.raises(ValueError):
        kind(1).release(number)


def test_several_permits_go_to_the_first_who_wait(run):
    def main():
        semaphore, order = Semaphore(0), []
        tasks = [netnet.spawn(lambda number=number: (semaphore.acquire(), order.append(number))) for number in range(5)]
        wait_all_parked()
        semaphore.release(3)
        wait_all_parked()
        assert order == [0, 1, 2]
        semaphore.release(4)
        wait_all_parked()
        assert order == [0, 1, 2, 3, 4]
        assert semaphore.value == 2
        assert all(task.done for task in tasks)

    run(main)


@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        ({"blocking": False}, False),
        ({"timeout": 0}, False),
        ({"timeout": 2}, False),
        ({"blocking": False, "timeout": 1}, ValueError),
        ({"timeout": -2}, ValueError),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [Semaphore, Lock, RLock])
def test_the_arguments_of_acquire(virtual, kind, arguments, outcome):
    def main():
        lock = _held(kind()) if kind is not Semaphore else Semaphore(0)
        if outcome is False:
            assert lock.acquire(**arguments) is False
        else:
            with pytest.raises(outcome):
                lock.acquire(**arguments)
        assert not lock._lot.waiting

    virtual(main)


# -- limiter


def test_a_limiter_knows_who_has_a_token(run):
    def main():
        limiter = CapacityLimiter(2)
        limiter.acquire()
        with pytest.raises(UsageError):
            limiter.acquire()
        limiter.acquire_on_behalf_of("somebody")
        assert (limiter.borrowed_tokens, limiter.available_tokens, limiter.waiting) == (2, 0, 0)
        with pytest.raises(UsageError):
            limiter.release_on_behalf_of("somebody else")
        waiter = netnet.spawn(limiter.acquire)
        wait_all_parked()
        assert limiter.waiting == 1
        limiter.release()
        with pytest.raises(UsageError):
            limiter.release()
        waiter.result()
        assert (limiter.borrowed_tokens, limiter.waiting) == (2, 0)
        limiter.release_on_behalf_of("somebody")
        limiter.release_on_behalf_of(waiter)
        assert limiter.available_tokens == 2

    run(main)


def test_nobody_has_two_tokens_however_they_were_asked_for(run):
    """Two tasks ask for one and the same borrower, who has none yet; then there is room for both."""

    def main():
        limiter = CapacityLimiter(2)
        held, refused = [], []

        def work():
            try:
                limiter.acquire_on_behalf_of("X")
            except UsageError:
                refused.append("X")
            else:
                held.append("X")

        limiter.acquire_on_behalf_of("a")
        limiter.acquire_on_behalf_of("b")
        tasks = [netnet.spawn(work), netnet.spawn(work)]
        wait_all_parked()
        limiter.release_on_behalf_of("a")
        limiter.release_on_behalf_of("b")
        wait_all_parked()
        assert limiter.borrowed_tokens == len(held), "who was let in has a token"
        limiter.release_on_behalf_of("X")
        wait_all_parked()
        assert len(held) + len(refused) == 2
        assert all(task.done for task in tasks)
        while limiter.borrowed_tokens:
            limiter.release_on_behalf_of("X")

    run(main)


def test_the_number_of_tokens_changes_while_they_are_borrowed(run):
    def main():
        limiter, inside = CapacityLimiter(1), []

        def work(number):
            with limiter:
                inside.append(number)
                done.wait()

        done = Event()
        with netnet.TaskGroup() as group:
            for number in range(6):
                group.spawn(work, number)
            wait_all_parked()
            assert inside == [0]
            limiter.total_tokens = 3
            wait_all_parked()
            assert inside == [0, 1, 2]
            limiter.total_tokens = 1
            assert (limiter.available_tokens, limiter.borrowed_tokens) == (0, 3)
            limiter.total_tokens = math.inf
            wait_all_parked()
            assert inside == list(range(6))
            done.set()
        assert limiter.borrowed_tokens == 0

    run(main)


def test_fewer_tokens_than_are_borrowed_let_nobody_in(run):
    def main():
        limiter = CapacityLimiter(3)
        for name in "abc":
            limiter.acquire_on_behalf_of(name)
        task = netnet.spawn(limiter.acquire)
        wait_all_parked()
        limiter.total_tokens = 1
        for name, may in zip("abc", [False, False, True], strict=True):
            limiter.release_on_behalf_of(name)
            wait_all_parked()
            assert task.done is may, name

    run(main)


@pytest.mark.parametrize("total", [0, -1, 1.5, math.nan, -math.inf, "3", None])
def test_numbers_of_tokens_that_are_none(total):
    with pytest.raises((ValueError, TypeError)):
        CapacityLimiter(total)


# -- the table


class Gives:
    """Something to wait for that another one gives. *wait* waits for one, *give* gives one (and never waits), *left*
    counts those that nobody has taken; so what was given is what waits have got, and what is left."""

    def __init__(self, wait, give, left, *, timed=None, queue_of=None):
        self.wait: Callable[[], object] = wait
        self.give: Callable[[], object] = give
        self.left: Callable[[], int] = left
        #: as *wait*, with a number of seconds; whether it got one
        self.timed = timed
        #: those who stand in line
        self.line = queue_of or (lambda: ())


class Item:
    """Something to hand over that can be referred to weakly."""

    numbers = count()

    def __init__(self):
        self.number = next(self.numbers)

    def __lt__(self, other):
        return self.number < other.number


def _semaphore_gives():
    one = Semaphore(0)
    return Gives(
        one.acquire,
        one.release,
        lambda: one.value,
        timed=lambda s: one.acquire(timeout=s),
        queue_of=lambda: one._lot.waiting,
    )


def _bounded_gives():
    one = BoundedSemaphore(5)
    for _ in range(5):
        one.acquire(blocking=False)
    return Gives(
        one.acquire,
        one.release,
        lambda: one.value,
        timed=lambda s: one.acquire(timeout=s),
        queue_of=lambda: one._lot.waiting,
    )


def _limiter_gives():
    one, numbers = CapacityLimiter(5), count()
    for number in range(5):
        one.acquire_on_behalf_of(number)
    return Gives(
        lambda: one.acquire_on_behalf_of(object()),
        lambda: one.release_on_behalf_of(next(numbers)),
        lambda: int(one.available_tokens),
        queue_of=lambda: one._lot.waiting,
    )


def _lock_gives(kind=Lock):
    """Given by whoever calls this: it holds the lock. Who has waited for it keeps it."""
    one = kind()
    one.acquire()
    return Gives(
        one.acquire,
        one.release,
        lambda: int(not one.locked()),
        timed=lambda s: one.acquire(timeout=s),
        queue_of=lambda: one._lot.waiting,
    )


def _receive_gives():
    one = Channel(math.inf)
    return Gives(one.receive, lambda: one.send_now(Item()), lambda: len(one), queue_of=lambda: one.takers)


def _send_gives():
    """Room is given, by taking what is in it."""
    one = Channel(1)
    one.send_now(Item())
    return Gives(lambda: one.send(Item()), one.receive, lambda: 1 - len(one), queue_of=lambda: one.givers)


def _in_time(call):
    try:
        call()
    except (queue.Empty, queue.Full):
        return False
    return True


def _get_gives(kind):
    one = kind()
    return Gives(
        one.get,
        lambda: one.put_nowait(Item()),
        one.qsize,
        timed=lambda s: _in_time(lambda: one.get(timeout=s)),
        queue_of=lambda: one.takers,
    )


def _put_gives(kind):
    one = kind(1)
    one.put_nowait(Item())
    return Gives(
        lambda: one.put(Item()),
        one.get_nowait,
        lambda: 1 - one.qsize(),
        timed=lambda s: _in_time(lambda: one.put(Item(), timeout=s)),
        queue_of=lambda: one.givers,
    )


def _choose_taking():
    one, never, full = Channel(math.inf), Channel(), Channel()
    return Gives(
        lambda: choose(never, one, Event(), Sending(full, 1)),
        lambda: one.send_now(Item()),
        lambda: len(one),
        timed=lambda s: choose(never, one, Elapsed(s)).which == 1,
        queue_of=lambda: [*one.takers, *never.takers, *full.givers],
    )


def _choose_giving():
    one, never = Channel(1), Channel()
    one.send_now(Item())
    return Gives(
        lambda: choose(never, Sending(one, Item())),
        one.receive,
        lambda: 1 - len(one),
        timed=lambda s: choose(never, Sending(one, Item()), Elapsed(s)).which == 1,
        queue_of=lambda: [*one.givers, *never.takers],
    )


GIVES = {
    "semaphore": (_semaphore_gives, "a permit of a semaphore"),
    "bounded semaphore": (_bounded_gives, "a permit of a semaphore"),
    "limiter": (_limiter_gives, "a token of a limiter"),
    "lock": (_lock_gives, "a lock"),
    "rlock": (lambda: _lock_gives(RLock), "a lock"),
    "channel, receive": (_receive_gives, "something in a channel"),
    "channel, send": (_send_gives, "room in a channel"),
    "queue, get": (lambda: _get_gives(netnet.Queue), "something in a queue"),
    "queue, put": (lambda: _put_gives(netnet.Queue), "room in a queue"),
    "lifo, get": (lambda: _get_gives(netnet.LifoQueue), "something in a lifoqueue"),
    "lifo, put": (lambda: _put_gives(netnet.LifoQueue), "room in a lifoqueue"),
    "priority, get": (lambda: _get_gives(netnet.PriorityQueue), "something in a priorityqueue"),
    "priority, put": (lambda: _put_gives(netnet.PriorityQueue), "room in a priorityqueue"),
    "choose, taking": (_choose_taking, "the first of something in a channel"),
    "choose, giving": (_choose_giving, "the first of something in a channel, room in a channel"),
}

each = pytest.mark.parametrize("make", [make for make, _ in GIVES.values()], ids=GIVES)
TIMED = {name: row for name, row in GIVES.items() if name != "limiter" and not name.startswith("channel")}
each_timed = pytest.mark.parametrize("make", [make for make, _ in TIMED.values()], ids=TIMED)


def nothing_is_kept():
    """No pooled worker keeps what it was handed."""
    return all(worker.gift is None for worker in netnet.current_loop()._pool)


def start_waiting(gives, got):
    """A task that waits, and then says that it has got one; it does not give it back."""
    return netnet.spawn(lambda: (gives.wait(), got.append(1)))


@each
@pytest.mark.parametrize(
    "actions",
    ["cancel give", "give cancel", "cancel turn give", "give turn cancel", "cancel give turn", "give cancel cancel"],
)
def test_cancelled_at_any_moment(run, make, actions):
    """What was given is had by whoever waited, or is left for the next."""

    def main():
        gives, got = make(), []
        task = start_waiting(gives, got)
        wait_all_parked()
        for action in actions.split():
            if action == "turn":
                netnet.sleep(0)
            elif action == "cancel":
                task.cancel()
            else:
                gives.give()
        task.join()
        assert len(got) + gives.left() == 1
        assert isinstance(task.error, Cancelled) == (not got)
        assert not gives.line()
        if not got:
            gives.wait()
        assert gives.left() == 0
        assert nothing_is_kept()

    run(main)


@each
def test_cancelled_before_it_waits(run, make):
    """A cancelled call takes nothing, not even what lies there."""

    def main():
        gives, got = make(), []
        gives.give()
        with netnet.CancelScope() as scope:
            scope.cancel()
            gives.wait()
            got.append(1)
        assert not got
        assert gives.left() == 1
        assert not gives.line()

    run(main)


@each
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("order", ["cancel, give", "give, cancel"])
def test_the_next_in_line_gets_what_a_cancelled_one_does_not(run, make, which, order):
    def main():
        gives, got = make(), []
        tasks = [netnet.spawn(lambda number=number: (gives.wait(), got.append(number))) for number in range(3)]
        wait_all_parked()
        if order == "cancel, give":
            tasks[which].cancel()
            gives.give()
            first = 1 if which == 0 else 0
        else:
            gives.give()
            tasks[which].cancel()
            first = 0
        wait_all_parked()
        assert got == [first]
        assert [task.done for task in tasks] == [number in (first, which) for number in range(3)]
        for task in tasks:
            task.cancel()
        wait_all_parked()
        assert got == [first]
        assert gives.left() == 0
        assert not gives.line()

    run(main)


@each
@pytest.mark.parametrize("first", ["give", "time"])
@pytest.mark.parametrize("scope", ["timeout", "argument"])
def test_a_time_out_at_the_instant_of_the_gift(virtual, make, first, scope):
    """Either may come first; then the one who waited has it, or it is left."""

    def main():
        gives, got = make(), []
        if scope == "argument" and gives.timed is None:
            return

        def work():
            if scope == "argument":
                if gives.timed(5):
                    got.append(1)
                return
            try:
                with netnet.timeout(5):
                    gives.wait()
                    got.append(1)
            except TimeoutError:
                pass

        if first == "time":
            task = netnet.spawn(work)
            netnet.sleep(0)
            netnet.sleep(5)
        else:
            netnet.spawn(lambda: task.append(netnet.spawn(work)))
            task = []
            netnet.sleep(5)
            task = task[0]
        gives.give()
        task.join()
        netnet.sleep(1)
        assert len(got) + gives.left() == 1
        assert not gives.line()
        assert nothing_is_kept()

    virtual(main)


def _by_owner(make):
    """Whether only the task that made it can give."""
    return make in (GIVES["lock"][0], GIVES["rlock"][0])


@each_timed
def test_a_timed_wait_that_gets_nothing(virtual, make):
    def main():
        gives = make()
        waiter = netnet.spawn(gives.timed, 5)
        assert waiter.result() is False
        assert netnet.now() == 5
        assert not gives.line()
        gives.give()
        assert gives.left() == 1
        assert netnet.spawn(gives.timed, 5).result() is True
        assert netnet.now() == 5
        assert nothing_is_kept()

    virtual(main)


@each_timed
def test_a_timed_wait_that_is_cancelled(virtual, make):
    def main():
        gives = make()
        task = netnet.spawn(gives.timed, 5)
        wait_all_parked()
        task.cancel()
        gives.give()
        task.join()
        assert isinstance(task.error, Cancelled)
        assert gives.left() == 1
        assert not gives.line()
        assert netnet.current_loop().timers.next_instant() is None

    virtual(main)


@each
@pytest.mark.parametrize("actions", ["strike", "strike give", "give strike"])
def test_ctrl_c_in_the_main_task(make, actions):
    """It is raised in the wait, or, when that was over already, in the next one: either way nothing is lost."""

    def main():
        gives, got = make(), []

        def act():
            for action in actions.split():
                if action == "give":
                    if not _by_owner(make):  # nobody else can
                        gives.give()
                else:
                    signal.raise_signal(signal.SIGINT)

        # of a lock, the one who waits is the main task, so somebody else has to hold it
        if _by_owner(make):
            gives = netnet.spawn(make).result()
        netnet.spawn(act)
        try:
            gives.wait()
            got.append(1)
            netnet.sleep(1000)
        except KeyboardInterrupt:
            assert len(got) + gives.left() == ("give" in actions and not _by_owner(make))
            assert not gives.line()
            return "struck"

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert netnet.run(main) == "struck"
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("name", GIVES)
def test_a_deadlock_names_what_is_waited_for(name):
    make, phrase = GIVES[name]

    def main():
        gives = make()
        if _by_owner(make):
            netnet.spawn(gives.wait, name="the waiter").join()
        else:
            gives.wait()

    with pytest.raises(DeadlockError, match=f"waiting for {phrase}"):
        netnet.run(main)


@each
def test_first_come_first_served_in_each(run, make):
    def main():
        gives, order = make(), []
        again = gives.give

        def work(number):
            gives.wait()
            order.append(number)
            if _by_owner(make):
                again()

        for number in range(4):
            netnet.spawn(work, number)
            netnet.sleep(0)
        wait_all_parked()
        if _by_owner(make):
            gives.give()
        else:
            for _ in range(4):
                gives.give()
                netnet.spawn(gives.wait)  # a newcomer, who comes before the woken one runs
                wait_all_parked()
        wait_all_parked()
        assert order == list(range(4))
        for task in netnet.current_loop().tasks():
            if task is not netnet.current_task():
                task.cancel()

    run(main)


@each
def test_waiting_in_a_callback_of_the_loop(run, make):
    """It would block the whole loop; it is refused, and leaves nothing behind."""

    def main():
        gives, told = make(), []

        def callback():
            try:
                gives.wait()
            except UsageError as error:
                told.append(str(error))

        netnet.current_loop().call_soon(callback)
        netnet.sleep(0)
        netnet.sleep(0)
        assert len(told) == 1
        assert "callback" in told[0]
        assert not gives.line()
        gives.give()
        assert gives.left() == 1

    run(main)


@each
def test_alone_in_a_thread_without_a_loop(make):
    """Nobody could ever give: that is told instead of blocking the program."""
    if make is GIVES["rlock"][0]:
        return  # its holder can take it again
    gives = make()
    assert not others_alive()
    with pytest.raises(UsageError):
        gives.wait()
    assert not gives.line()
    gives.give()
    assert gives.left() == 1


@each
def test_a_run_that_ends_by_force_leaves_nobody_in_line(make):
    """The tasks of a run that had to be killed will never take anything; what is given later is for others."""
    kept = SimpleNamespace(told=[])

    def main():
        kept.gives = make()

        def waiter():
            with netnet.shield():
                kept.gives.wait()

        netnet.spawn(waiter)
        with netnet.shield():
            Event().wait()

    def holder():
        """Gives what can be given by anybody."""
        assert not kept.gives.line()
        kept.gives.give()
        assert kept.gives.left() == 1

    if _by_owner(make):
        main, holder = _locks_by_force(kept, make)
    try:
        with pytest.raises(DeadlockError):
            netnet.run(main)
        netnet.run(holder)
    finally:
        if _by_owner(make):
            kept.release.set()
            kept.thread.join()
    assert kept.told == []


def _locks_by_force(kept, make):
    kind = Lock if make is GIVES["lock"][0] else RLock

    def main():
        def waiter():
            with netnet.shield():
                kept.lock.acquire()

        netnet.spawn(waiter)
        with netnet.shield():
            Event().wait()

    def holder():
        kept.release.set()
        kept.thread.join()
        assert kept.told == []
        assert kept.lock.acquire(blocking=False)
        kept.lock.release()

    kept.lock, kept.release, taken = kind(), threading.Event(), threading.Event()

    def hold():
        """In a thread that does not count as somebody who could wake the tasks."""
        kept.lock.acquire()
        taken.set()
        kept.release.wait(5)
        try:
            kept.lock.release()
        except BaseException as error:
            kept.told.append(error)

    kept.thread = threading.Thread(target=hold)
    company.helpers.add(kept.thread)
    kept.thread.start()
    taken.wait(5)
    return main, holder


class Collected:
    """How much garbage the collector finds after some lines; what was there before does not count."""

    def __enter__(self):
        gc.collect()
        gc.disable()
        return self

    def __exit__(self, *_):
        try:
            self.found = gc.collect()
        finally:
            gc.enable()


@each
@pytest.mark.parametrize("how", ["given", "cancelled", "timed out"])
def test_a_wait_leaves_no_garbage(virtual, make, how):
    """Each wait cleans up after itself; nothing waits for the collector."""

    def main():
        def once():
            gives = make()
            task = netnet.spawn(work, gives)
            wait_all_parked()
            if how == "given":
                gives.give()
            elif how == "cancelled":
                task.cancel()
            task.join()
            if task.failure is not None:
                task.failure.seen = True

        def work(gives):
            if how == "timed out":
                try:
                    with netnet.timeout(5):
                        gives.wait()
                except TimeoutError:
                    pass
            else:
                gives.wait()

        once()
        collected = Collected()
        with collected:
            once()
            once()
        assert collected.found == 0

    virtual(main)


@pytest.mark.parametrize("make", [lambda: _locked(), lambda: _lent()], ids=["lock", "limiter"])
def test_a_cancelled_wait_does_not_tie_its_task_to_itself(run, make):
    """The task has its error, whose traceback has the frames of the wait, which must not have the task."""

    def main():
        with Collected():
            task = netnet.spawn(make())
            wait_all_parked()
            task.cancel()
            wait_all_parked()
            trace, found = task.error.__traceback__, []
            while trace is not None:
                found += [name for name, value in trace.tb_frame.f_locals.items() if value is task]
                trace = trace.tb_next
        assert found == []

    run(main)


def _locked():
    lock = Lock()
    lock.acquire()
    return lock.acquire


def _lent():
    limiter = CapacityLimiter(1)
    limiter.acquire()
    return limiter.acquire


TAKEN = {
    "channel": lambda: (one := Channel(), one.receive, one.send),
    "queue": lambda: (one := netnet.Queue(), one.get, one.put),
    "lifo": lambda: (one := netnet.LifoQueue(), one.get, one.put),
    "choose": lambda: (one := Channel(), lambda: choose(one, Event()).value, one.send),
}


@pytest.mark.parametrize("make", TAKEN.values(), ids=TAKEN)
def test_nothing_keeps_an_item_that_was_taken(run, make):
    """Once its taker has dropped it, it is gone: without the collector's help."""

    def main():
        _, take, give = make()
        refs = []

        def taker():
            refs.append(weakref.ref(take()))

        with Collected():
            task = netnet.spawn(taker)
            wait_all_parked()
            give(Item())
            task.join()
            assert refs[0]() is None
            assert nothing_is_kept()

    run(main)


WEAK = [
    Event,
    Semaphore,
    BoundedSemaphore,
    Lock,
    RLock,
    netnet.Condition,
    lambda: netnet.Barrier(1),
    lambda: CapacityLimiter(1),
    Channel,
    netnet.Queue,
    netnet.LifoQueue,
    netnet.PriorityQueue,
]


@pytest.mark.parametrize("kind", WEAK, ids=[getattr(kind, "__name__", "") for kind in WEAK])
def test_weak_references(kind):
    """As those of the standard library; and they die with the last strong one, without the collector."""
    with Collected():
        one = kind()
        reference = weakref.ref(one)
        del one
        assert reference() is None


@pytest.mark.parametrize("size", [4000])
def test_a_long_line_is_cancelled_in_any_order(run, size):
    """Thousands of waiters that go at once, the last first."""

    def main():
        semaphore = Semaphore(0)
        tasks = [netnet.spawn(semaphore.acquire) for _ in range(size)]
        wait_all_parked()
        for task in reversed(tasks[1:]):
            task.cancel()
        semaphore.release()
        tasks[0].result()
        wait_all_parked()
        assert not semaphore._lot.waiting
        assert semaphore.value == 0

    run(main)
