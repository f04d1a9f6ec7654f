"""Scopes: ``CancelScope``, ``timeout``, ``timeout_at`` and ``shield``. Which scope a ``Cancelled`` belongs to, deadlines
of every kind, rescheduling, and that a ``TimeoutError`` never comes from the wrong scope."""

from __future__ import annotations

import contextlib
import math
from itertools import permutations

import pytest

import netnet
from netnet import Cancelled, CancelScope, UsageError
from netnet.testing import wait_all_parked

NAN = math.nan


# -- timeout


@pytest.mark.parametrize("seconds", [3, 3.5, 1e9])
def test_a_timeout_is_up_when_it_is(virtual, seconds):
    def main():
        with pytest.raises(TimeoutError, match="time limit") as caught, netnet.timeout(seconds) as scope:
            netnet.sleep(2e9)
        assert netnet.now() == seconds
        assert scope.expired()
        assert isinstance(caught.value.__cause__, Cancelled)

    virtual(main)


@pytest.mark.parametrize("seconds", [0, 0.0, -1, -math.inf])
def test_a_deadline_in_the_past_is_up_at_the_first_blocking_call(virtual, seconds):
    def main():
        steps = []
        with pytest.raises(TimeoutError), netnet.timeout(seconds) as scope:
            steps.append("runs")
            assert scope.expired()
            netnet.sleep(0)
            steps.append("never")
        assert steps == ["runs"]
        assert netnet.now() == 5

    virtual(main, start=5)


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_deadline_in_the_past_without_a_blocking_call(virtual, seconds):
    def main():
        with netnet.timeout(seconds) as scope:
            pass
        return scope.expired()

    assert virtual(main) is True


@pytest.mark.parametrize("seconds", [None, math.inf])
@pytest.mark.parametrize("make", [netnet.timeout, netnet.timeout_at])
def test_no_limit(virtual, make, seconds):
    def main():
        with make(seconds) as scope:
            assert scope.when() == seconds
            netnet.sleep(1e9)
        assert not scope.expired()

    virtual(main)


@pytest.mark.parametrize("make", [netnet.timeout, netnet.timeout_at])
def test_nan_is_refused(make):
    with pytest.raises(ValueError, match="NaN"):
        make(NAN)


@pytest.mark.parametrize("when", [7.0, 5.0])
def test_timeout_at(virtual, when):
    def main():
        with pytest.raises(TimeoutError, match=f"deadline {when:g}"), netnet.timeout_at(when) as scope:
            assert scope.when() == when
            netnet.sleep(100)
        return netnet.now()

    assert virtual(main, start=5) == max(when, 5)


def test_timeout_counts_from_entering(virtual):
    def main():
        limit = netnet.timeout(10)
        assert limit.when() is None
        netnet.sleep(20)
        with pytest.raises(TimeoutError), limit:
            assert limit.when() == 30
            netnet.sleep(100)
        return netnet.now()

    assert virtual(main) == 30


def test_lines_that_end_in_time_leave_nothing(virtual):
    def main():
        with netnet.timeout(5) as scope:
            netnet.sleep(4)
        netnet.sleep(100)
        assert not scope.expired()
        return netnet.now()

    assert virtual(main) == 104


def test_lines_that_swallow_are_not_disturbed(virtual):
    def main():
        with netnet.timeout(1) as scope, contextlib.suppress(Cancelled):
            netnet.sleep(100)
        assert scope.expired()
        netnet.sleep(1)
        return netnet.now()

    assert virtual(main) == 2


def test_another_error_goes_first(virtual):
    def main():
        with pytest.raises(KeyError), netnet.timeout(1):
            try:
                netnet.sleep(100)
            except Cancelled:
                raise KeyError from None

    virtual(main)


def test_a_timeout_error_of_the_lines_own_is_left_alone(virtual):
    def main():
        with pytest.raises(TimeoutError, match="my own"), netnet.timeout(1) as scope:
            raise TimeoutError("my own")
        assert not scope.expired()

    virtual(main)


# -- nested timeouts: the error comes from the scope whose time was up


@pytest.mark.parametrize(("outer", "inner"), [*permutations((1, 2, 3), 2), (2, 2), (0, 1), (1, 0), (0, 0)])
def test_nested_timeouts(virtual, outer, inner):
    def main():
        seen = []
        try:
            with netnet.timeout(outer):
                try:
                    with netnet.timeout(inner):
                        netnet.sleep(100)
                except TimeoutError:
                    seen.append("inner")
                    netnet.sleep(100)
        except TimeoutError:
            seen.append("outer")
        return seen, netnet.now()

    assert virtual(main) == (["inner", "outer"] if inner < outer else ["outer"], outer)


def test_the_outer_one_is_up_while_the_inner_one_cleans_up(virtual):
    def main():
        with pytest.raises(TimeoutError, match="of 2 s"), netnet.timeout(2):
            with netnet.timeout(1):
                try:
                    netnet.sleep(100)
                finally:
                    with netnet.shield():
                        netnet.sleep(10)
            pytest.fail("the inner timeout swallowed the outer one's cancellation")

    virtual(main)


def test_the_outer_error_is_not_the_inner_one(virtual):
    def main():
        with pytest.raises(TimeoutError, match="of 1 s"), netnet.timeout(1), netnet.timeout(2) as inner:
            netnet.sleep(100)
        assert not inner.expired()

    virtual(main)


def test_cancelling_the_task_is_no_timeout(virtual):
    def main():
        def work():
            with netnet.timeout(5):
                netnet.sleep(100)

        task = netnet.spawn(work)
        netnet.sleep(1)
        task.cancel("by hand")
        task.join()
        assert isinstance(task.error, Cancelled)
        assert str(task.error) == "by hand"

    virtual(main)


def test_a_task_cancelled_at_the_very_deadline(virtual):
    def main():
        def work():
            with netnet.timeout(5):
                netnet.sleep(100)

        tasks = []
        netnet.spawn(lambda: (netnet.sleep_until(5), tasks[0].cancel()))  # due just before the timeout
        wait_all_parked()
        tasks.append(netnet.spawn(work))
        tasks[0].join()
        assert isinstance(tasks[0].error, Cancelled)

    virtual(main)


@pytest.mark.parametrize("count", [3000])
def test_thousands_of_equal_deadlines_in_order(virtual, count):
    def main():
        order = []

        def work(number):
            try:
                with netnet.timeout_at(10):
                    netnet.sleep(100)
            except TimeoutError:
                order.append(number)

        for number in range(count):
            netnet.spawn(work, number)
        netnet.sleep(11)
        assert order == list(range(count))

    virtual(main)


def test_thousands_of_timeouts_that_end_with_their_sleep(virtual):
    """The timeout and the sleep inside it are due at the same instant: the one that was set first wins."""

    def main():
        def work():
            with contextlib.suppress(TimeoutError), netnet.timeout(5) as scope:
                netnet.sleep(5)
            return scope.expired()

        tasks = [netnet.spawn(work) for _ in range(2000)]
        assert all(task.result() for task in tasks)

    virtual(main)


# -- reschedule


@pytest.mark.parametrize(
    ("moves", "end"),
    [
        ([20], 20),
        ([1], 1),
        ([20, 3], 3),
        ([None], None),
        ([None, 7], 7),
        ([math.inf], None),
        ([-1], 0),
        ([-math.inf], 0),
        ([0], 0),
    ],
)
def test_reschedule(virtual, moves, end):
    def main():
        try:
            with netnet.timeout(10) as scope:
                for when in moves:
                    scope.reschedule(when)
                    assert scope.when() == when
                netnet.sleep(1000)
        except TimeoutError:
            return netnet.now()
        return None

    assert virtual(main) == end


def test_reschedule_from_another_task(virtual):
    def main():
        with pytest.raises(TimeoutError), netnet.timeout(None) as scope:
            netnet.spawn(lambda: (netnet.sleep(2), scope.reschedule(5)))
            netnet.sleep(100)
        return netnet.now()

    assert virtual(main) == 5


def test_reschedule_when_it_is_too_late(virtual):
    def main():
        with pytest.raises(TimeoutError), netnet.timeout(0) as scope:
            with pytest.raises(UsageError, match="expired"):
                scope.reschedule(100)
            netnet.sleep(1)

    virtual(main)


def test_reschedule_to_nan_is_refused(virtual):
    def main():
        with netnet.timeout(10) as scope:
            with pytest.raises(ValueError, match="NaN"):
                scope.reschedule(NAN)
            assert scope.when() == 10

    virtual(main)


@pytest.mark.parametrize("when", ["before entering", "after leaving"])
def test_reschedule_outside_the_lines_is_refused(virtual, when):
    """As asyncio's, which raises ``RuntimeError``."""

    def main():
        scope = netnet.timeout(10)
        if when == "after leaving":
            with scope:
                pass
        with pytest.raises(UsageError):
            scope.reschedule(5)
        netnet.sleep(20)
        assert not scope.expired()

    virtual(main)


# -- CancelScope


def test_a_cancel_scope_swallows_its_own(virtual):
    def main():
        with CancelScope() as scope:
            netnet.spawn(lambda: (netnet.sleep(1), scope.cancel()))
            netnet.sleep(100)
            pytest.fail("was not cancelled")
        return netnet.now()

    assert virtual(main) == 1


def test_a_cancel_scope_that_was_not_cancelled(virtual):
    def main():
        with CancelScope():
            netnet.sleep(1)
        with pytest.raises(KeyError), CancelScope():
            raise KeyError
        with pytest.raises(Cancelled, match="thrown by hand"), CancelScope():
            raise Cancelled("thrown by hand")

    virtual(main)


def test_cancelling_from_inside(run):
    def main():
        with CancelScope() as scope:
            scope.cancel()
            netnet.sleep(0)
            pytest.fail("was not cancelled")
        netnet.sleep(0)

    run(main)


@pytest.mark.parametrize("cancelled", [(0,), (1,), (2,), (0, 2), (2, 0), (0, 1, 2), (2, 1, 0)])
def test_the_outermost_cancelled_scope_absorbs(run, cancelled):
    def main():
        scopes = [CancelScope() for _ in range(3)]
        left = []
        with scopes[0]:
            with scopes[1]:
                with scopes[2]:
                    for number in cancelled:
                        scopes[number].cancel()
                    netnet.sleep(0)
                left.append(2)
            left.append(1)
        left.append(0)
        netnet.sleep(0)
        assert left == list(range(min(cancelled), -1, -1))

    run(main)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_scope_cancelled_from_elsewhere_while_it_unwinds(run, order):
    """Both are cancelled before the task runs again, in either order: the outer one absorbs."""

    def main():
        scopes = [CancelScope(), CancelScope()]
        left = []

        def work():
            with scopes[0]:
                with scopes[1]:
                    netnet.sleep(100)
                left.append("inner")
            left.append("outer")

        task = netnet.spawn(work)
        wait_all_parked()
        for number in order:
            scopes[number].cancel()
        task.result()
        assert left == ["outer"]

    run(main)


def test_cancelling_twice_is_cancelling_once(run):
    def main():
        with CancelScope() as scope:
            scope.cancel("first")
            scope.cancel("second")
            with pytest.raises(Cancelled, match="first"):
                netnet.sleep(1)

    run(main)


def test_cancel_before_entering(run):
    def main():
        scope = CancelScope()
        scope.cancel()
        with scope:
            netnet.sleep(0)
            pytest.fail("was not cancelled")
        netnet.sleep(0)

    run(main)


@pytest.mark.parametrize("make", [CancelScope, netnet.TaskGroup, lambda: netnet.timeout(5), netnet.shield])
@pytest.mark.parametrize("task_ended", [False, True])
def test_cancel_after_leaving_does_nothing(run, make, task_ended):
    def main():
        scope = make()

        def work():
            with scope:
                pass
            gate.wait()
            netnet.sleep(0)
            return "fine"

        gate = netnet.Event()
        task = netnet.spawn(work)
        if task_ended:
            gate.set()
            task.join()
        else:
            wait_all_parked()
        scope.cancel()
        gate.set()
        assert task.result() == "fine"

    run(main)


@pytest.mark.parametrize("make", [CancelScope, netnet.TaskGroup, lambda: netnet.timeout(5), netnet.shield])
def test_a_scope_is_used_once(run, make):
    def main():
        scope = make()
        with scope, pytest.raises(UsageError, match="entered before"):
            scope.__enter__()
        with pytest.raises(UsageError, match="make a new one"):
            scope.__enter__()

    run(main)


def test_a_scope_left_out_of_order(run):
    def main():
        outer, inner = CancelScope(), CancelScope()
        outer.__enter__()
        inner.__enter__()
        with pytest.raises(UsageError, match="out of order"):
            outer.__exit__(None, None, None)
        inner.__exit__(None, None, None)
        outer.__exit__(None, None, None)

    run(main)


def test_a_scope_left_in_another_task(run):
    def main():
        scope = CancelScope()
        scope.__enter__()
        # the owner still stands in it, so it may leave only there
        task = netnet.spawn(lambda: netnet.current_task().scope is scope)
        assert task.result() is False
        scope.__exit__(None, None, None)

    run(main)


def test_a_timeout_left_open_by_an_ended_task_disturbs_nobody(virtual):
    """A generator that stands in a ``with timeout`` outlives the task that ran it."""

    def numbers():
        with netnet.timeout(5):
            yield 1

    def main():
        generator = numbers()
        netnet.spawn(next, generator).join()
        netnet.sleep(10)
        return generator

    virtual(main)


# -- shield


def test_a_shield_holds_cancellation_back(virtual):
    def main():
        steps = []

        def work():
            try:
                netnet.sleep(100)
            finally:
                with netnet.shield():
                    netnet.sleep(5)
                    steps.append(netnet.now())
                steps.append("left")
                netnet.sleep(0)
                steps.append("never")

        task = netnet.spawn(work)
        netnet.sleep(1)
        task.cancel()
        task.join()
        assert steps == [6, "left"]
        assert isinstance(task.error, Cancelled)

    virtual(main)


def test_cancelling_what_is_shielded_already(virtual):
    def main():
        def work():
            with netnet.shield():
                netnet.sleep(5)
            return netnet.now()

        task = netnet.spawn(work)
        netnet.sleep(1)
        task.cancel()
        assert task.result() == 5

    virtual(main)


def test_a_scope_inside_the_shield_still_works(virtual):
    def main():
        netnet.current_task().cancel()
        with netnet.shield():
            with pytest.raises(TimeoutError), netnet.timeout(1):
                netnet.sleep(100)
            netnet.sleep(1)
        with pytest.raises(Cancelled):
            netnet.sleep(0)
        with netnet.shield(), pytest.raises(TimeoutError), netnet.timeout(1):
            netnet.sleep(100)
        return netnet.now()

    assert virtual(main) == 3


def test_a_timeout_around_a_shield_waits_for_it(virtual):
    def main():
        with pytest.raises(TimeoutError), netnet.timeout(1):
            with netnet.shield():
                netnet.sleep(5)
            netnet.sleep(0)
        return netnet.now()

    assert virtual(main) == 5


def test_a_shield_can_be_cancelled_itself(run):
    def main():
        with netnet.shield() as scope:
            scope.cancel("from inside")
            with pytest.raises(Cancelled, match="from inside"):
                netnet.sleep(0)
        netnet.sleep(0)

    run(main)


def test_the_reason_inside_a_shield_is_its_own(run):
    def main():
        netnet.current_task().cancel("outside")
        with netnet.shield(), CancelScope() as scope:
            scope.cancel("inside")
            with pytest.raises(Cancelled, match="inside"):
                netnet.sleep(0)

    run(main)
