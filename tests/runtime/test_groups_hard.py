"""``TaskGroup`` where it is hard: the cases of CPython's own tests as a table, two errors at once, cancelling while leaving,
shields and time-outs around and inside, Ctrl-C in each of these, and random programs that end as they do on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import selectors

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import netnet
from netnet import Cancelled, TaskCancelledError, TaskGroup
from netnet.testing import VirtualClock


@pytest.fixture
def virtual():
    """``netnet.run`` on a virtual clock, with nothing around the main function."""
    return lambda main: netnet.run(main, clock=VirtualClock())


def fail(seconds=0.0, error=ZeroDivisionError):
    netnet.sleep(seconds)
    raise error


def fail_at_once(error=ZeroDivisionError):
    raise error


def outlast(seconds, error=ZeroDivisionError):
    """Fails while it is being cancelled."""
    try:
        netnet.sleep(seconds)
    except Cancelled:
        raise error from None


def shape(error):
    """An exception as nested lists of class names, a group's members sorted."""
    if isinstance(error, BaseExceptionGroup):
        return sorted((shape(one) for one in error.exceptions), key=str)
    return type(error).__name__


def _nothing(group):
    pass


def _child_fails(group):
    group.spawn(fail, 1)
    netnet.sleep(100)


def _two_children_fail(group):
    group.spawn(fail, 1)
    group.spawn(fail, 1, ValueError)


def _second_child_fails_while_cancelled(group):
    group.spawn(fail, 1)
    group.spawn(outlast, 100, ValueError)


def _body_fails(group):
    group.spawn(netnet.sleep, 100)
    raise KeyError


def _body_and_child_fail(group):
    group.spawn(outlast, 100, ValueError)
    netnet.sleep(1)
    raise KeyError


def _body_fails_because_of_the_child(group):
    group.spawn(fail, 1)
    outlast(100, KeyError)


def _body_fails_while_leaving_nothing(group):
    group.spawn(int)
    netnet.sleep(1)
    raise KeyError


def _child_is_cancelled(group):
    group.spawn(netnet.sleep, 100).cancel()


def _child_cancels_itself(group):
    def work():
        netnet.current_task().cancel()
        netnet.sleep(0)

    group.spawn(work)


def _child_raises_cancelled(group):
    group.spawn(fail_at_once, Cancelled)


def _child_waits_for_a_failed_one(group):
    failed = group.spawn(fail, 1)
    group.spawn(failed.join)


def _nested_inner_child_fails(group):
    with TaskGroup() as inner:
        inner.spawn(fail, 1)
        group.spawn(netnet.sleep, 100)


def _nested_both_fail(group):
    group.spawn(fail, 1)
    with TaskGroup() as inner:
        inner.spawn(outlast, 100, ValueError)


def _nested_in_a_child(group):
    def child():
        with TaskGroup() as inner:
            inner.spawn(fail, 1)
            inner.spawn(fail, 1, ValueError)

    group.spawn(child)
    group.spawn(outlast, 100, KeyError)


def _nested_body_of_both(group):
    with TaskGroup() as inner:
        inner.spawn(outlast, 100, ValueError)
        raise KeyError


def _eager_fails(group):
    group.spawn(fail_at_once, eager=True)
    netnet.sleep(100)


def _child_spawns_while_it_fails(group):
    def child():
        group.spawn(outlast, 100, ValueError)
        netnet.sleep(1)
        raise KeyError

    group.spawn(child)


def _exit_of_a_child(group):
    group.spawn(fail, 1, SystemExit)
    group.spawn(outlast, 100, ValueError)
    netnet.sleep(100)


def _exit_of_the_body(group):
    group.spawn(outlast, 100, ValueError)
    netnet.sleep(1)
    raise SystemExit


def _interrupt_of_a_child_and_error_of_the_body(group):
    group.spawn(fail, 1, KeyboardInterrupt)
    outlast(100, ValueError)


def _interrupt_of_both(group):
    group.spawn(fail, 1, SystemExit)
    outlast(100, KeyboardInterrupt)


def _time_out_of_the_body(group):
    group.spawn(netnet.sleep, 100)
    with netnet.timeout(1):
        netnet.sleep(100)


def _time_out_of_a_child(group):
    def child():
        with netnet.timeout(1):
            netnet.sleep(100)

    group.spawn(child)
    group.spawn(netnet.sleep, 100)


#: body → (what the statement raises, at which instant)
CASES = {
    _nothing: (None, 0),
    _child_fails: (["ZeroDivisionError"], 1),
    _two_children_fail: (["ValueError", "ZeroDivisionError"], 1),
    _second_child_fails_while_cancelled: (["ValueError", "ZeroDivisionError"], 1),
    _body_fails: (["KeyError"], 0),
    _body_and_child_fail: (["KeyError", "ValueError"], 1),
    _body_fails_because_of_the_child: (["KeyError", "ZeroDivisionError"], 1),
    _body_fails_while_leaving_nothing: (["KeyError"], 1),
    _child_is_cancelled: (None, 0),
    _child_cancels_itself: (None, 0),
    _child_raises_cancelled: (None, 0),
    _child_waits_for_a_failed_one: (["ZeroDivisionError"], 1),
    _nested_inner_child_fails: ([["ZeroDivisionError"]], 1),
    _nested_both_fail: (["ZeroDivisionError", ["ValueError"]], 1),
    _nested_in_a_child: (["KeyError", ["ValueError", "ZeroDivisionError"]], 1),
    _nested_body_of_both: ([["KeyError", "ValueError"]], 0),
    _eager_fails: (["ZeroDivisionError"], 0),
    _child_spawns_while_it_fails: (["KeyError", "ValueError"], 1),
    _exit_of_a_child: ("SystemExit", 1),
    _exit_of_the_body: ("SystemExit", 1),
    _interrupt_of_a_child_and_error_of_the_body: ("KeyboardInterrupt", 1),
    _interrupt_of_both: ("KeyboardInterrupt", 1),
    _time_out_of_the_body: (["TimeoutError"], 1),
    _time_out_of_a_child: (["TimeoutError"], 1),
}


def settled():
    """The task is as it was before: nothing cancelled, no scope, no task left."""
    task = netnet.current_task()
    assert task.scope is task
    assert netnet.current_deadline() == float("inf")
    netnet.sleep(0)
    assert netnet.current_loop().tasks() == [task]


def ended(body):
    """How a group with this body ends: the shape of its error, and the instant."""
    try:
        with TaskGroup() as group:
            body(group)
    except BaseException as error:
        return shape(error), netnet.now()
    return None, netnet.now()


@pytest.mark.parametrize("body", CASES, ids=lambda body: body.__name__.strip("_"))
def test_how_it_ends(virtual, body):
    def main():
        assert ended(body) == CASES[body]
        settled()

    virtual(main)


@pytest.mark.parametrize(
    "body", [body for body, (_, when) in CASES.items() if when == 1], ids=lambda body: body.__name__
)
@pytest.mark.parametrize("around", ["timeout", "shield", "shield and timeout", "scope"])
def test_how_it_ends_inside_a_scope_that_has_time(virtual, body, around):
    """What is around it, and is not up, changes nothing."""

    def main():
        with contextlib.ExitStack() as stack:
            if "shield" in around:
                stack.enter_context(netnet.shield())
            if "timeout" in around:
                stack.enter_context(netnet.timeout(50))
            if around == "scope":
                stack.enter_context(netnet.CancelScope())
            assert ended(body) == CASES[body]
        settled()

    virtual(main)


@pytest.mark.parametrize(
    "body", [body for body, (_, when) in CASES.items() if when == 1], ids=lambda body: body.__name__
)
def test_a_time_out_before_it_would_fail(virtual, body):
    """What the cancelled tasks raise goes first, as on asyncio; where they raise nothing it is the TimeoutError."""

    def main():
        error = None
        try:
            with netnet.timeout(0.5):
                ended_error = ended(body)[0]
                assert ended_error is not None
                error = ended_error
                if error == "Cancelled":
                    netnet.sleep(0)
        except TimeoutError:
            assert error == "Cancelled"
        else:
            assert error != "Cancelled"
        assert netnet.now() == 0.5
        settled()

    virtual(main)


@pytest.mark.parametrize(
    "body", [body for body, (_, when) in CASES.items() if when == 1], ids=lambda body: body.__name__
)
@pytest.mark.parametrize("when", [0.5, 1])
def test_cancelled_from_outside(virtual, body, when):
    """Before the case happens, and in the very turn in which it does: an error is never lost for that, none is made up."""

    def main():
        seen = []
        task = netnet.spawn(lambda: seen.append(ended(body)[0]))
        netnet.at(when, task.cancel)
        task.join()
        assert netnet.now() == when
        told = seen[0]
        assert told == "Cancelled" or told == CASES[body][0] or when == 0.5
        settled()

    virtual(main)


@pytest.mark.parametrize(
    "body", [body for body, (_, when) in CASES.items() if when == 1], ids=lambda body: body.__name__
)
@pytest.mark.parametrize("when", [0.5, 1])
def test_ctrl_c_during_each(body, when):
    """It comes out bare, all tasks have ended, and the errors it displaced are in the log."""
    live = []

    def main():
        loop = netnet.current_loop()

        def strike():
            loop.signals.append(2)

        netnet.at(when, strike)
        try:
            with TaskGroup() as group:
                body(group)
                netnet.sleep(2)
            netnet.sleep(5)
        finally:
            live.append([task for task in loop.tasks() if task is not loop.main and "strike" not in task.name])
        raise AssertionError("it was lost")

    with pytest.raises((KeyboardInterrupt, SystemExit)) if when == 0.5 else pytest.raises(BaseException) as caught:
        netnet.run(main, clock=VirtualClock())
    assert not isinstance(caught.value, AssertionError)
    assert live == [[]]


@pytest.mark.parametrize("count", [1, 3])
def test_ctrl_c_while_leaving_waits_for_the_tasks(count):
    """However often it comes: what the tasks shield is awaited, and it comes out once."""
    steps = []

    def child():
        try:
            netnet.sleep(100)
        finally:
            with netnet.shield():
                netnet.sleep(10)
                steps.append(netnet.now())

    def main():
        loop = netnet.current_loop()
        for number in range(count):
            netnet.after(1 + number, loop.signals.append, 2)
        with TaskGroup() as group:
            group.spawn(child)

    with pytest.raises(KeyboardInterrupt):
        netnet.run(main, clock=VirtualClock())
    assert steps == [11]


def test_a_group_in_a_shield_in_a_time_out(virtual):
    """The group goes on to its end; the time-out is heard of outside the shield."""

    def main():
        steps = []
        with pytest.raises(TimeoutError), netnet.timeout(1):
            with netnet.shield(), TaskGroup() as group:
                group.spawn(lambda: (netnet.sleep(5), steps.append(netnet.now())))
            netnet.sleep(0)
            steps.append("never")
        assert steps == [5]
        settled()

    virtual(main)


def test_a_time_out_in_a_shield_in_a_group_that_fails(virtual):
    def main():
        steps = []
        with pytest.raises(ExceptionGroup) as caught, TaskGroup() as group:
            group.spawn(fail, 1)
            with netnet.shield():
                try:
                    with netnet.timeout(3):
                        netnet.sleep(100)
                except TimeoutError:
                    steps.append(netnet.now())
            netnet.sleep(0)
        assert steps == [3]
        assert shape(caught.value) == ["ZeroDivisionError"]
        settled()

    virtual(main)


@pytest.mark.parametrize("what", ["child", "body"])
def test_the_last_child_ends_in_the_turn_of_the_deadline(virtual, what):
    """Either all went well, or the time was up; a Cancelled never gets out, and nothing stays cancelled."""

    def main():
        with contextlib.suppress(TimeoutError), netnet.timeout(5), TaskGroup() as group:
            group.spawn(netnet.sleep, 5)
            if what == "body":
                netnet.sleep(5)
        assert netnet.now() == 5
        settled()

    virtual(main)


@pytest.mark.parametrize("first", ["cancel", "fail"])
def test_cancelling_the_group_in_the_turn_in_which_a_child_fails(virtual, first):
    """The child's wait is over in both orders, so it fails, and that is told."""

    def main():
        with pytest.raises(ExceptionGroup) as caught, TaskGroup() as group:
            group.spawn(fail, 1, eager=first == "fail")
            netnet.after(1, group.cancel)
            netnet.sleep(100)
        assert shape(caught.value) == ["ZeroDivisionError"]
        assert netnet.now() == 1
        settled()

    virtual(main)


def test_a_cancelled_child_that_swallows_it_holds_the_group_up(virtual):
    def child():
        with contextlib.suppress(Cancelled):
            netnet.sleep(100)
        with netnet.shield():
            netnet.sleep(3)
        return "well"

    def main():
        with TaskGroup() as group:
            task = group.spawn(child)
            netnet.sleep(1)
            group.cancel()
        assert (task.value, netnet.now()) == ("well", 4)
        settled()

    virtual(main)


def test_results_of_children(virtual):
    def main():
        with pytest.raises(ExceptionGroup), TaskGroup() as group:
            failed, cancelled = group.spawn(fail, 1), group.spawn(netnet.sleep, 100)
        with pytest.raises(ZeroDivisionError):
            failed.result()
        with pytest.raises(TaskCancelledError):
            cancelled.result()
        settled()

    virtual(main)


@pytest.mark.parametrize("depth", [1, 10, 100])
def test_many_levels(virtual, depth):
    """The error of the innermost comes out in as many groups as there are."""

    def down(left):
        with TaskGroup() as group:
            group.spawn(down, left - 1) if left else group.spawn(fail, 1)
            group.spawn(netnet.sleep, 100)

    def main():
        error = ended(lambda group: group.spawn(down, depth))[0]
        for _ in range(depth + 2):
            (error,) = error
        assert error == "ZeroDivisionError"
        settled()

    virtual(main)


def test_a_thousand_that_fail_at_once(virtual):
    def main():
        assert len(ended(lambda group: [group.spawn(fail, 1) for _ in range(1000)])[0]) == 1000
        settled()

    virtual(main)


# -- random programs, on netnet and on asyncio. All instants of a program differ: each node's time ends in its own binary
#    digit. Cancellation is the one difference (level here, edge there), so nothing waits while it is being cancelled.

_programs = st.deferred(
    lambda: st.lists(
        st.one_of(
            st.tuples(st.just("sleep"), st.integers(0, 4)),
            st.tuples(st.just("fail")),
            st.tuples(st.just("timeout"), st.integers(0, 6), _programs),
            st.tuples(st.just("group"), st.lists(st.tuples(st.integers(0, 4), _programs), max_size=3), _programs),
            st.tuples(st.just("catch"), _programs),
            st.tuples(st.just("finally"), _programs),
            st.tuples(st.just("cancel"), st.integers(0, 2)),
        ),
        max_size=3,
    )
)


def number_nodes(program):
    """The program with a name for each node, and times that no two sums of have in common; None if it has too many."""
    count = 0

    def walk(steps):
        nonlocal count
        found = []
        for kind, *rest in steps:
            count += 1
            name, digit = count, 0.5**count
            if kind in ("sleep", "timeout"):
                rest[0] += digit
            if kind == "group":
                children = []
                for seconds, child in rest[0]:
                    count += 1
                    children.append((seconds + 0.5**count, walk(child)))
                found.append((kind, name, children, walk(rest[1])))
            else:
                found.append((kind, name, *(walk(one) if isinstance(one, list) else one for one in rest)))
        return found

    numbered = walk(program)
    return numbered if count <= 30 else None


def on_netnet(program):
    log = []

    def note(*what):
        log.append((netnet.now(), *what))

    def steps(program, tasks):
        for step in program:
            globals_of[step[0]](tasks, *step[1:])
            note("after", step[1])

    def sleep(tasks, name, seconds):
        netnet.sleep(seconds)

    def fail(tasks, name):
        raise ValueError

    def timeout(tasks, name, seconds, inside):
        with netnet.timeout(seconds):
            steps(inside, tasks)

    def child(seconds, inside):
        netnet.sleep(seconds)
        steps(inside, [])

    def group(tasks, name, children, body):
        with TaskGroup() as made:
            steps(body, [made.spawn(child, *one) for one in children])

    def catch(tasks, name, inside):
        try:
            steps(inside, tasks)
        except Exception as error:
            note("caught", name, shape(error))

    def at_last(tasks, name, inside):
        try:
            steps(inside, tasks)
        finally:
            note("finally", name)

    def cancel(tasks, name, which):
        if tasks:
            tasks[which % len(tasks)].cancel()

    globals_of = {"sleep": sleep, "fail": fail, "timeout": timeout, "group": group, "catch": catch, "cancel": cancel}
    globals_of["finally"] = at_last

    def main():
        try:
            steps(program, [])
        except Exception as error:
            note("ended", shape(error))
        else:
            note("ended")
        settled()

    netnet.run(main, clock=VirtualClock())
    return sorted(log, key=str)


class _Jumping(asyncio.SelectorEventLoop):
    """asyncio's loop on a clock that jumps."""

    def __init__(self):
        self.instant = 0.0
        super().__init__(self.Selector(self))

    def time(self):
        return self.instant

    class Selector(selectors.SelectSelector):
        def __init__(self, loop):
            super().__init__()
            self.loop = loop

        def select(self, timeout=None):
            if timeout:
                self.loop.instant += timeout
            return super().select(0)


def on_asyncio(program):
    log = []

    def note(*what):
        log.append((asyncio.get_running_loop().time(), *what))

    async def steps(program, tasks):
        for step in program:
            await kinds[step[0]](tasks, *step[1:])
            note("after", step[1])

    async def sleep(tasks, name, seconds):
        await asyncio.sleep(seconds)

    async def fail(tasks, name):
        raise ValueError

    async def timeout(tasks, name, seconds, inside):
        async with asyncio.timeout(seconds):
            await steps(inside, tasks)

    async def child(seconds, inside):
        await asyncio.sleep(seconds)
        await steps(inside, [])

    async def group(tasks, name, children, body):
        async with asyncio.TaskGroup() as made:
            await steps(body, [made.create_task(child(*one)) for one in children])

    async def catch(tasks, name, inside):
        try:
            await steps(inside, tasks)
        except Exception as error:
            note("caught", name, shape(error))

    async def at_last(tasks, name, inside):
        try:
            await steps(inside, tasks)
        finally:
            note("finally", name)

    async def cancel(tasks, name, which):
        if tasks:
            tasks[which % len(tasks)].cancel()

    kinds = {"sleep": sleep, "fail": fail, "timeout": timeout, "group": group, "catch": catch, "cancel": cancel}
    kinds["finally"] = at_last

    async def main():
        try:
            await steps(program, [])
        except Exception as error:
            note("ended", shape(error))
        else:
            note("ended")

    with contextlib.closing(_Jumping()) as loop:
        loop._clock_resolution = 1e-12  # less than any two instants are apart
        loop.run_until_complete(main())
    return sorted(log, key=str)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # asyncio's tasks that never began
@settings(max_examples=300, deadline=None)
@given(_programs)
def test_random_programs_end_as_on_asyncio(program):
    numbered = number_nodes(program)
    if numbered is not None:
        assert on_netnet(numbered) == on_asyncio(numbered)
