"""Locks, conditions and barriers: who has them, who is next, and what a cancelled waiter leaves behind. At the end the
interpreter's own tests of these objects (``test.lock_tests``), with threads, and once more with a task for each thread;
what differs is listed there with the reason."""

from __future__ import annotations

import importlib.util
import io
import random
import signal
import sys
import threading
import time
import types
import unittest
from pathlib import Path
from threading import BrokenBarrierError
from types import SimpleNamespace

import pytest

import netnet
from netnet import Barrier, Cancelled, Condition, DeadlockError, Event, Lock, RLock, UsageError
from netnet.testing import VirtualClock, wait_all_parked
from tests.runtime.test_sync import Collected, nothing_is_kept

both = pytest.mark.parametrize("kind", [Lock, RLock])

# -- locks


@both
def test_one_at_a_time(virtual, kind):
    def main():
        lock, inside, order = kind(), [], []

        def work(number):
            with lock:
                assert not inside
                inside.append(number)
                netnet.sleep(number % 3)
                order.append(inside.pop())

        with netnet.TaskGroup() as group:
            for number in range(20):
                group.spawn(work, number)
        assert order == list(range(20))
        assert not lock.locked()

    virtual(main)


def test_a_lock_taken_twice_by_one_task(run):
    def main():
        lock = Lock()
        with lock:
            with pytest.raises(UsageError, match="RLock"):
                lock.acquire()
            assert lock.acquire(blocking=False) is False
            assert lock.locked()
        assert not lock.locked()

    run(main)


def test_an_rlock_taken_twice_by_one_task(run):
    def main():
        lock = RLock()
        with lock, lock, lock:
            lock.release()
            lock.acquire()
            other = netnet.spawn(lock.acquire, False)
            assert other.result() is False
        assert not lock.locked()
        with pytest.raises(UsageError):
            lock.release()

    run(main)


def test_an_rlock_counts_anew_for_each_holder(run):
    def main():
        lock = RLock()

        def work():
            lock.acquire()
            lock.acquire()
            lock.release()
            netnet.sleep(0)
            assert lock.locked()
            lock.release()

        tasks = [netnet.spawn(work) for _ in range(5)]
        for task in tasks:
            task.result()
        assert not lock.locked()

    run(main)


@both
def test_only_the_holder_releases(run, kind):
    def main():
        lock = kind()
        with pytest.raises(UsageError):
            lock.release()
        lock.acquire()
        task = netnet.spawn(lock.release)
        with pytest.raises(RuntimeError):
            task.result()
        assert lock.locked()
        lock.release()

    run(main)


@both
def test_a_newcomer_does_not_overtake_the_one_that_was_handed_the_lock(run, kind):
    def main():
        lock, order = kind(), []
        lock.acquire()
        waiter = netnet.spawn(lambda: (lock.acquire(), order.append("waiter"), lock.release()))
        wait_all_parked()
        lock.release()
        assert lock.acquire(blocking=False) is False
        lock.acquire()
        order.append("newcomer")
        lock.release()
        waiter.result()
        assert order == ["waiter", "newcomer"]

    run(main)


@both
def test_random_cancelling_of_lock_waits(virtual, kind):
    def main():
        dice, lock, inside = random.Random(5), kind(), []

        def work(number):
            try:
                with netnet.timeout(dice.randrange(1, 20)), lock:
                    inside.append(number)
                    try:
                        assert inside == [number]
                        netnet.sleep(dice.randrange(3))
                    finally:
                        inside.remove(number)
            except TimeoutError:
                pass

        tasks = [netnet.spawn(work, number) for number in range(150)]
        for task in tasks:
            netnet.sleep(dice.randrange(2))
            if dice.random() < 0.3:
                task.cancel()
        for task in tasks:
            task.join()
            assert task.error is None or isinstance(task.error, Cancelled)
        assert not lock.locked()
        assert not lock._lot.waiting

    virtual(main)


# -- conditions


@pytest.mark.parametrize("make", [Condition, lambda: Condition(Lock()), lambda: Condition(RLock())])
def test_a_condition(virtual, make):
    def main():
        condition, stock, got = make(), [], []

        def consumer():
            with condition:
                condition.wait_for(lambda: stock)
                got.append(stock.pop(0))

        tasks = [netnet.spawn(consumer) for _ in range(10)]
        wait_all_parked()
        for number in range(10):
            with condition:
                stock.append(number)
                condition.notify()
        for task in tasks:
            task.result()
        assert sorted(got) == list(range(10))
        assert not condition.lock.locked()

    virtual(main)


def test_notified_in_order(run):
    def main():
        condition, order = Condition(), []

        def work(number):
            with condition:
                condition.wait()
                order.append(number)

        for number in range(6):
            netnet.spawn(work, number)
        wait_all_parked()
        for count in (1, 2, 3):
            with condition:
                condition.notify(count)
            wait_all_parked()
        assert order == list(range(6))

    run(main)


@pytest.mark.parametrize("call", ["wait", "wait_for", "notify", "notify_all"])
def test_a_condition_without_its_lock(run, call):
    def main():
        condition = Condition()
        arguments = [lambda: False] if call == "wait_for" else []
        with pytest.raises(RuntimeError):
            getattr(condition, call)(*arguments)
        netnet.spawn(condition.acquire)
        wait_all_parked()
        with pytest.raises(RuntimeError):
            getattr(condition, call)(*arguments)

    run(main)


def test_waiting_gives_back_all_of_an_rlock(run):
    def main():
        condition = Condition()

        def work():
            with condition, condition, condition:
                condition.wait()
                condition.release()
                condition.release()
                assert condition.lock.locked()
                condition.acquire()
                condition.acquire()

        task = netnet.spawn(work)
        wait_all_parked()
        assert not condition.lock.locked()
        with condition:
            condition.notify()
        task.result()
        assert not condition.lock.locked()

    run(main)


@pytest.mark.parametrize("moment", ["waiting", "notified", "taking the lock again"])
@pytest.mark.parametrize("make", [Lock, RLock])
def test_a_cancelled_wait_has_the_lock(run, make, moment):
    """Whatever comes in between, the lines of the ``with`` statement end with the lock held, and give it back."""

    def main():
        condition, held = Condition(make()), []

        def work():
            with condition:
                try:
                    condition.wait()
                    netnet.sleep(0)
                finally:
                    held.append(condition.lock._is_owned())

        task = netnet.spawn(work)
        wait_all_parked()
        condition.acquire()
        if moment != "waiting":
            condition.notify()
        if moment == "taking the lock again":
            wait_all_parked()
        task.cancel()
        wait_all_parked()
        assert not task.done, "the lock is not free"
        condition.release()
        task.join()
        assert held == [True]
        assert isinstance(task.error, Cancelled)
        assert not condition.lock.locked()
        assert not condition._lot.waiting

    run(main)


@pytest.mark.parametrize("order", ["cancel notify", "notify cancel"])
def test_a_notification_goes_to_one_who_can_use_it(run, order):
    """To the cancelled one only if that had it first; never to nobody."""

    def main():
        condition, woken = Condition(), []

        def work(number):
            with condition:
                condition.wait()
                woken.append(number)

        tasks = [netnet.spawn(work, number) for number in range(2)]
        wait_all_parked()
        with condition:
            for action in order.split():
                if action == "cancel":
                    tasks[0].cancel()
                else:
                    condition.notify()
        wait_all_parked()
        assert woken == ([1] if order == "cancel notify" else [0])
        tasks[1].cancel()

    run(main)


def test_a_timed_condition(virtual):
    def main():
        condition = Condition()
        with condition:
            assert condition.wait(3) is False
            assert netnet.now() == 3
            assert not condition.wait_for(lambda: False, 4)
            assert netnet.now() == 7
            assert condition.wait_for(lambda: "yes", 0) == "yes"
            assert condition.wait_for(lambda: netnet.now() >= 9, 2) is True
            assert condition.wait(0) is False
        assert not condition.lock.locked()

    virtual(main)


def test_ctrl_c_while_the_lock_is_taken_again():
    """It is raised when the lock is held, so that the with statement can give it back."""

    def main():
        condition, held = Condition(), []

        def holder():
            with condition:
                condition.notify()
                netnet.sleep(0)
                signal.raise_signal(signal.SIGINT)
                netnet.sleep(0)
                netnet.sleep(0)
                held.append("released")

        with pytest.raises(KeyboardInterrupt):
            with condition:
                netnet.spawn(holder)
                try:
                    condition.wait()
                finally:
                    held.append(condition.lock._is_owned())
        assert held == ["released", True]
        assert not condition.lock.locked()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        netnet.run(main)
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupted_condition_leaves_no_garbage():
    def main():
        def once():
            condition = Condition()

            def holder():
                with condition:
                    condition.notify()
                    netnet.sleep(0)
                    signal.raise_signal(signal.SIGINT)
                    netnet.sleep(0)
                    netnet.sleep(0)

            try:
                with condition:
                    netnet.spawn(holder)
                    condition.wait()
            except KeyboardInterrupt:
                return

        once()
        collected = Collected()
        with collected:
            once()
            once()
        return collected.found

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert netnet.run(main) == 0
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("make", [Lock, RLock])
def test_a_lock_that_is_never_given_back_ends_the_run(make, caplog):
    """One task ends with the lock, another one, in a condition, wants it back: a deadlock that nobody can clean up."""
    ended = []

    def main():
        condition = Condition(make())

        def work():
            try:
                with condition:
                    condition.wait()
            finally:
                ended.append("work")

        netnet.spawn(work)
        wait_all_parked()
        netnet.spawn(condition.acquire)

    with pytest.raises(DeadlockError, match="a condition to be notified"):
        netnet.run(main)
    assert "waiting for a lock" in caplog.text
    assert ended == ["work"], "the task was not unwound"


# -- barriers


def arrive(barrier, got, **options):
    def work():
        try:
            got.append(barrier.wait(**options))
        except BrokenBarrierError:
            got.append("broken")

    return netnet.spawn(work)


def test_a_barrier(run):
    def main():
        barrier, got, actions = Barrier(3, lambda: actions.append(len(got))), [], []
        for turn in range(1, 4):
            for number in range(2):
                arrive(barrier, got)
                wait_all_parked()
                assert barrier.n_waiting == number + 1
            arrive(barrier, got)
            wait_all_parked()
            assert barrier.n_waiting == 0
            assert sorted(got[-3:]) == [0, 1, 2]
            assert len(got) == 3 * turn
        assert actions == [0, 3, 6]
        assert (barrier.parties, barrier.broken) == (3, False)

    run(main)


@pytest.mark.parametrize("which", [0, 1])
def test_each_has_a_number_of_its_own_after_one_has_left(run, which):
    def main():
        barrier, got = Barrier(3), []
        tasks = [arrive(barrier, got), arrive(barrier, got)]
        wait_all_parked()
        tasks[which].cancel()
        wait_all_parked()
        assert barrier.n_waiting == 1
        arrive(barrier, got)
        arrive(barrier, got)
        wait_all_parked()
        assert sorted(got) == [0, 1, 2]

    run(main)


@pytest.mark.parametrize("how", ["abort", "reset", "time-out", "action"])
def test_a_barrier_that_breaks(virtual, how):
    def main():
        def fail():
            raise KeyError("action")

        barrier, got = Barrier(3, fail if how == "action" else None), []
        tasks = [arrive(barrier, got), arrive(barrier, got, timeout=5 if how == "time-out" else None)]
        wait_all_parked()
        if how == "time-out":
            netnet.sleep(6)
        elif how == "action":
            with pytest.raises(KeyError):
                barrier.wait()
        else:
            getattr(barrier, how)()
        wait_all_parked()
        assert got == ["broken"] * 2
        assert barrier.broken is (how != "reset")
        if barrier.broken:
            with pytest.raises(BrokenBarrierError):
                barrier.wait()
            barrier.reset()
        for task in tasks:
            task.result()
        assert nothing_is_kept()
        if how != "action":
            got.clear()
            for _ in range(3):
                arrive(barrier, got)
            wait_all_parked()
            assert sorted(got) == [0, 1, 2]

    virtual(main)


def test_nobody_goes_on_before_the_action_is_through(virtual):
    """However long it takes: neither one whose time is up meanwhile, nor one that is cancelled."""

    def main():
        order = []

        def action():
            netnet.sleep(10)
            order.append("action")

        barrier = Barrier(3, action)

        def work(name, seconds):
            barrier.wait(seconds)
            order.append(name)

        netnet.spawn(work, "in time", 5)
        cancelled = netnet.spawn(work, "cancelled", None)
        wait_all_parked()
        last = netnet.spawn(work, "last", None)
        netnet.sleep(7)
        cancelled.cancel()
        last.join()
        wait_all_parked()
        assert order[0] == "action"
        assert not barrier.broken

    virtual(main)


def test_a_thread_does_not_go_on_before_the_action_is_through():
    """As above, with threads: the time of the first is up while the action runs."""
    returned, order = threading.Event(), []

    def action():
        returned.wait(0.3)
        order.append("action")

    def first():
        barrier.wait(0.1)
        order.append("first")
        returned.set()

    barrier = Barrier(2, action)
    thread = threading.Thread(target=first)
    thread.start()
    while not barrier.n_waiting:
        time.sleep(0.001)
    barrier.wait()
    thread.join()
    assert order == ["action", "first"]


def test_a_failing_action_breaks_it_for_a_thread_whose_time_is_up():
    returned, told = threading.Event(), []

    def action():
        returned.wait(0.3)
        raise KeyError("action")

    def first():
        try:
            told.append(barrier.wait(0.1))
        except BrokenBarrierError:
            told.append("broken")
        returned.set()

    barrier = Barrier(2, action)
    thread = threading.Thread(target=first)
    thread.start()
    while not barrier.n_waiting:
        time.sleep(0.001)
    with pytest.raises(KeyError):
        barrier.wait()
    thread.join()
    assert told == ["broken"]


def test_a_cancelled_action_breaks_the_barrier(run):
    def main():
        barrier, got = Barrier(2, Event().wait), []
        waiter = arrive(barrier, got)
        wait_all_parked()
        last = arrive(barrier, got)
        wait_all_parked()
        last.cancel()
        last.join()
        waiter.join()
        assert barrier.broken
        assert got == ["broken"]

    run(main)


@pytest.mark.parametrize("parties", [0, -1])
def test_barriers_for_nobody(parties):
    with pytest.raises(ValueError, match=str(parties)):
        Barrier(parties)


def test_the_deadlocks_of_locks_name_what_is_waited_for():
    def main():
        condition, barrier = Condition(), Barrier(2)

        def wait():
            with condition:
                condition.wait()

        netnet.spawn(wait)
        barrier.wait()

    with pytest.raises(DeadlockError) as caught:
        netnet.run(main)
    assert "a condition to be notified" in str(caught.value)
    assert "the others at a barrier" in str(caught.value)


def test_a_cancelled_waiter_of_a_barrier_or_a_condition_leaves_no_garbage(run):
    def main():
        def once():
            condition, barrier = Condition(), Barrier(2)

            def wait():
                with condition:
                    condition.wait()

            tasks = [netnet.spawn(wait), netnet.spawn(barrier.wait)]
            wait_all_parked()
            for task in tasks:
                task.cancel()
            for task in tasks:
                task.join()

        once()
        collected = Collected()
        with collected:
            once()
            once()
        assert collected.found == 0

    run(main)


# -- the interpreter's own tests

#: test → why it is not run: what it asks for does not hold here. All others must.
DIFFERENCES = {
    "LockTests.test_reacquire": "the same thread would wait for itself, which is told, and another one may not release",
    "LockTests.test_different_thread": "a lock is released by who took it",
    "LockTests.test_state_after_timeout": "who holds a lock and asks for it again, with or without a time limit, is told",
    "LockTests.test_at_fork_reinit": "private; the lock's waiters are not the C library's",
    "EventTests.test_at_fork_reinit": "private",
    "LockTests.test_repr": "a lock prints as any object",
    "LockTests.test_locked_repr": "a lock prints as any object",
    "RLockTests.test_repr": "a lock prints as any object",
    "RLockTests.test_locked_repr": "a lock prints as any object",
    "EventTests.test_repr": "an event prints as any object",
    "SemaphoreTests.test_repr": "a semaphore prints as any object",
    "BoundedSemaphoreTests.test_repr": "a semaphore prints as any object",
    "BarrierTests.test_repr": "a barrier prints as any object",
    "LockTests.test_timeout": "a time longer than the longest of the C library is no error",
    "RLockTests.test_timeout": "a time longer than the longest of the C library is no error",
    "RLockTests.test_recursion_count": "private",
    "SemaphoreTests.test_constructor": "the parameter is called *permits*",
    "BoundedSemaphoreTests.test_constructor": "the parameter is called *permits*",
}

TYPES = {
    "LockTests": {"locktype": Lock},
    "RLockTests": {"locktype": RLock},
    "EventTests": {"eventtype": Event},
    "ConditionTests": {"condtype": Condition, "locktype": Lock},
    "SemaphoreTests": {"semtype": netnet.Semaphore},
    "BoundedSemaphoreTests": {"semtype": netnet.BoundedSemaphore},
    "BarrierTests": {"barriertype": Barrier},
}


def standard(name, **instead):
    """The interpreter's test module *name*, run anew with some of its global names replaced."""
    spec = importlib.util.find_spec(f"test.{name}")
    if spec is None:
        pytest.skip("this Python comes without its own tests")
    module = types.ModuleType(f"standard_{name}")
    module.__file__ = spec.origin
    exec(compile(Path(spec.origin).read_text(), spec.origin, "exec"), vars(module))
    vars(module).update(instead)
    return module


class _Exits:
    """In place of waiting for threads to end."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def task_names():
    """What the standard tests use of ``threading``, ``time`` and their own support, for tasks."""

    def retry(seconds):
        until = netnet.now() + seconds
        while netnet.now() < until:
            yield
            netnet.sleep(0.01)
        raise AssertionError("it takes too long")

    class Thread:
        def __init__(self, target=None, args=(), name=None, **_):
            self._target, self._args = target, args

        def run(self):
            if self._target is not None:
                self._target(*self._args)

        def start(self):
            self.task = netnet.spawn(self.run)

        def join(self, timeout=None):
            self.task.join()

        def is_alive(self):
            return not self.task.done

    return {
        "start_new_thread": lambda function, args: netnet.spawn(function, *args),
        "time": SimpleNamespace(sleep=netnet.sleep, monotonic=netnet.now, time=netnet.now),
        "threading": SimpleNamespace(
            Thread=Thread,
            Event=Event,
            Lock=Lock,
            get_ident=lambda: netnet.current_task().number,
            BrokenBarrierError=BrokenBarrierError,
            Barrier=Barrier,
        ),
        "support": SimpleNamespace(
            SHORT_TIMEOUT=30.0,
            LONG_TIMEOUT=300.0,
            sleeping_retry=retry,
            reap_children=lambda: None,
            has_fork_support=False,
        ),
        "threading_helper": SimpleNamespace(
            threading_setup=lambda: (),
            threading_cleanup=lambda *_: None,
            wait_threads_exit=lambda *_: _Exits(),
            join_thread=lambda thread: thread.join(),
        ),
    }


def start_new_thread(function, args):
    """A thread that ``threading`` knows. (Of others: ``test_sync_threads``.)"""
    threading.Thread(target=function, args=args, daemon=True).start()


class Outcomes(unittest.TextTestResult):
    """What became of each test, by its class and name."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.ended = {}

    def _note(self, test, how):
        self.ended[".".join(test.id().split(".")[-2:])] = how

    def addSuccess(self, test):
        self._note(test, "ok")

    def addSkip(self, test, reason):
        self._note(test, "ok")

    def addFailure(self, test, error):
        self._note(test, self._exc_info_to_string(error, test))

    addError = addFailure

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.addFailure(test, error)


def outcomes(cases, inside, without):
    """How each test ended: ``ok``, or what went wrong. In a task, or outside a loop."""
    suite = unittest.TestSuite()
    for case in cases:
        for test in unittest.defaultTestLoader.loadTestsFromTestCase(case):
            if f"{case.__name__}.{test._testMethodName}" not in without:
                suite.addTest(test)
    runner = unittest.TextTestRunner(io.StringIO(), resultclass=Outcomes)
    if inside:
        return netnet.run(runner.run, suite, clock=VirtualClock()).ended
    return runner.run(suite).ended


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="the tests of CPython")
@pytest.mark.parametrize("where", ["in threads", "in tasks"])
@pytest.mark.parametrize("name", TYPES)
def test_the_standard_tests(name, where):
    inside = where == "in tasks"
    module = standard("lock_tests", **(task_names() if inside else {"start_new_thread": start_new_thread}))
    case = type(name, (getattr(module, name),), {"__module__": "standard", **_methods(TYPES[name])})
    ended = outcomes([case], inside, DIFFERENCES)
    assert len(ended) >= 4
    wrong = {test: how for test, how in ended.items() if how != "ok"}
    assert wrong == {}, "\n".join(wrong.values())


def _methods(made):
    return {name: staticmethod(kind) for name, kind in made.items()}
