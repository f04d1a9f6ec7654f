"""Task groups: they end together, and the errors of all of them come in one exception group. Compared with
``asyncio.TaskGroup``, whose names and behaviour they have."""

from __future__ import annotations

import contextlib

import pytest

import netnet
from netnet import Cancelled, TaskCancelledError, UsageError
from netnet.testing import wait_all_parked


def fail(error):
    raise error


def fail_later(seconds, error):
    netnet.sleep(seconds)
    raise error


def fail_when_cancelled(error):
    try:
        netnet.sleep(1000)
    finally:
        raise error


def test_leaving_waits_for_all(virtual):
    def main():
        with netnet.TaskGroup() as group:
            tasks = [group.spawn(lambda s: netnet.sleep(s) or s, seconds) for seconds in (3, 1, 2)]
        assert netnet.now() == 3
        return [task.result() for task in tasks]

    assert virtual(main) == [3, 1, 2]


def test_an_empty_group(run):
    def main():
        with netnet.TaskGroup():
            pass

    run(main)


def test_create_task_is_spawn(run):
    def main():
        with netnet.TaskGroup() as group:
            task = group.create_task(lambda: 1, name="mine")
        assert (task.name, task.result()) == ("mine", 1)

    run(main)


def test_a_task_of_the_group_may_spawn_more(virtual):
    def main():
        with netnet.TaskGroup() as group:

            def work(depth):
                netnet.sleep(1)
                if depth:
                    group.spawn(work, depth - 1)

            group.spawn(work, 5)
        return netnet.now()

    assert virtual(main) == 6


# -- errors


def test_the_first_error_cancels_the_others_and_the_body(virtual):
    def main():
        ended = []

        def other():
            try:
                netnet.sleep(100)
            except Cancelled as error:
                ended.append((netnet.now(), str(error)))
                raise

        with pytest.raises(ExceptionGroup) as caught, netnet.TaskGroup() as group:
            group.spawn(other)
            group.spawn(fail_later, 1, ValueError("first"), name="bad")
            other()
        assert repr(caught.value.exceptions) == "(ValueError('first'),)"
        assert ended == [(1, "task bad of the group failed")] * 2

    virtual(main)


@pytest.mark.parametrize(
    ("children", "body", "types"),
    [
        ([ValueError()], None, [ValueError]),
        ([ValueError(), KeyError()], None, [ValueError, KeyError]),
        ([], OSError(), [OSError]),
        ([ValueError()], OSError(), [ValueError, OSError]),
        ([ValueError(), KeyError()], OSError(), [ValueError, KeyError, OSError]),
    ],
)
def test_all_errors_come_together(run, children, body, types):
    def main():
        with pytest.raises(ExceptionGroup, match="TaskGroup") as caught, netnet.TaskGroup() as group:
            for error in children:
                group.spawn(fail_when_cancelled, error)
            wait_all_parked()
            if body is not None:
                raise body
            group.spawn(fail, ZeroDivisionError())
        found = [type(error) for error in caught.value.exceptions]
        assert sorted(map(str, found)) == sorted(map(str, types + ([] if body else [ZeroDivisionError])))

    run(main)


def test_an_error_of_the_body_cancels_the_tasks(virtual):
    def main():
        with pytest.raises(ExceptionGroup) as caught, netnet.TaskGroup() as group:
            task = group.spawn(netnet.sleep, 100)
            netnet.sleep(1)
            raise ValueError("body")
        assert repr(caught.value.exceptions) == "(ValueError('body'),)"
        assert isinstance(task.error, Cancelled)
        return netnet.now()

    assert virtual(main) == 1


def test_errors_of_a_group_are_not_told_again(run, caplog):
    def main():
        with pytest.raises(ExceptionGroup), netnet.TaskGroup() as group:
            task = group.spawn(fail, ValueError())
        return task

    run(main)
    assert caplog.records == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("where", ["task", "body", "both"])
def test_exits_are_raised_bare(run, error, where):
    def main():
        with netnet.TaskGroup() as group:
            sleeper = group.spawn(netnet.sleep, 100)
            group.spawn(fail_when_cancelled, ValueError())
            wait_all_parked()
            if where != "body":
                group.spawn(fail, error)
            if where != "task":
                raise error if where == "body" else OSError
            netnet.sleep(100)
        assert sleeper.done

    with pytest.raises(type(error)) as caught:
        run(main)
    assert caught.value is error


def test_nested_groups(virtual):
    def main():
        with pytest.raises(ExceptionGroup) as caught, netnet.TaskGroup() as outer:
            outer.spawn(netnet.sleep, 100)
            with netnet.TaskGroup() as inner:
                inner.spawn(fail_later, 1, ValueError())
        (group,) = caught.value.exceptions
        assert isinstance(group, ExceptionGroup)
        assert isinstance(group.exceptions[0], ValueError)
        assert netnet.now() == 1

    virtual(main)


def test_an_error_of_the_outer_group_cancels_the_inner_one(virtual):
    def main():
        with pytest.raises(ExceptionGroup) as caught, netnet.TaskGroup() as outer:
            outer.spawn(fail_later, 1, ValueError())
            with netnet.TaskGroup() as inner:
                task = inner.spawn(netnet.sleep, 100)
        assert repr(caught.value.exceptions) == "(ValueError(),)"
        assert isinstance(task.error, Cancelled)

    virtual(main)


def test_an_inner_group_that_was_handled_leaves_the_outer_one_alone(run):
    def main():
        with netnet.TaskGroup() as outer:
            task = outer.spawn(lambda: netnet.sleep(0.001) or "fine")
            with contextlib.suppress(ExceptionGroup), netnet.TaskGroup() as inner:
                inner.spawn(fail, ValueError())
        return task.result()

    assert run(main) == "fine"


# -- cancelling


def test_cancel_ends_the_statement_without_an_error(virtual):
    def main():
        with netnet.TaskGroup() as group:
            task = group.spawn(netnet.sleep, 100)
            netnet.spawn(lambda: (netnet.sleep(1), group.cancel()))
            netnet.sleep(50)
            pytest.fail("was not cancelled")
        assert isinstance(task.error, Cancelled)
        return netnet.now()

    assert virtual(main) == 1


def test_cancel_while_leaving(virtual):
    def main():
        with netnet.TaskGroup() as group:
            group.spawn(netnet.sleep, 100)
            netnet.spawn(lambda: (netnet.sleep(1), group.cancel()))
        netnet.sleep(1)
        return netnet.now()

    assert virtual(main) == 2


def test_cancelling_one_task_of_the_group(run):
    def main():
        with netnet.TaskGroup() as group:
            task, other = group.spawn(netnet.sleep, 100), group.spawn(lambda: netnet.sleep(0.001) or "fine")
            task.cancel()
        with pytest.raises(TaskCancelledError):
            task.result()
        return other.result()

    assert run(main) == "fine"


def test_cancelled_from_outside_while_leaving(virtual):
    """The tasks are cancelled with it; what they shield is awaited; the ``Cancelled`` goes on to whom it belongs."""

    def main():
        ends = []

        def child():
            try:
                netnet.sleep(100)
            finally:
                with netnet.shield():
                    netnet.sleep(5)
                    ends.append(netnet.now())

        def parent():
            with netnet.TaskGroup() as group:
                group.spawn(child)
            ends.append("never")

        task = netnet.spawn(parent)
        netnet.sleep(1)
        task.cancel("from outside")
        task.join()
        assert ends == [6]
        assert isinstance(task.error, Cancelled)
        assert str(task.error) == "from outside"

    virtual(main)


def test_a_timeout_around_a_group(virtual):
    def main():
        with pytest.raises(TimeoutError), netnet.timeout(3), netnet.TaskGroup() as group:
            task = group.spawn(netnet.sleep, 100)
        assert isinstance(task.error, Cancelled)
        return netnet.now()

    assert virtual(main) == 3


def test_a_timeout_inside_a_group_is_the_bodys_error(virtual):
    def main():
        with pytest.raises(ExceptionGroup) as caught, netnet.TaskGroup(), netnet.timeout(3):
            netnet.sleep(100)
        assert isinstance(caught.value.exceptions[0], TimeoutError)

    virtual(main)


def test_a_timeout_and_an_error_of_a_task(virtual):
    """Both at once: no error is lost, so the group's goes first."""

    def main():
        with pytest.raises(ExceptionGroup) as caught, netnet.timeout(3), netnet.TaskGroup() as group:
            group.spawn(fail_when_cancelled, ValueError())
        assert repr(caught.value.exceptions) == "(ValueError(),)"

    virtual(main)


def test_a_group_in_a_cancelled_scope(run):
    def main():
        def parent():
            netnet.current_task().cancel()
            with netnet.TaskGroup() as group:
                tasks.append(group.spawn(netnet.sleep, 100))

        tasks = []
        task = netnet.spawn(parent)
        task.join()
        assert isinstance(task.error, Cancelled)
        assert isinstance(tasks[0].error, Cancelled)

    run(main)


# -- using it wrongly


def test_spawn_before_entering(run):
    def main():
        with pytest.raises(UsageError, match="not been entered"):
            netnet.TaskGroup().spawn(print)

    run(main)


def test_spawn_into_a_finished_group(run):
    def main():
        with netnet.TaskGroup() as group:
            pass
        with pytest.raises(UsageError, match="finished"):
            group.spawn(print)

    run(main)


def test_spawn_into_a_group_that_shuts_down(run):
    def main():
        refused = []

        def late(group):
            try:
                netnet.sleep(100)
            finally:
                with pytest.raises(UsageError, match="shutting down") as caught:
                    group.spawn(print)
                refused.append(caught.value)

        with pytest.raises(ExceptionGroup) as caught, netnet.TaskGroup() as group:
            group.spawn(late, group)
            wait_all_parked()
            raise ValueError
        assert len(refused) == 1
        assert len(caught.value.exceptions) == 1

    run(main)


def test_spawn_while_the_statement_is_being_left(virtual):
    def main():
        with netnet.TaskGroup() as group:
            group.spawn(lambda: (netnet.sleep(5), group.spawn(netnet.sleep, 5)))
        return netnet.now()

    assert virtual(main) == 10


def test_spawn_from_another_thread_is_refused_and_changes_nothing(virtual):
    def main():
        with netnet.TaskGroup() as group:
            with pytest.raises(UsageError):
                netnet.to_thread(group.spawn, print)
            group.spawn(netnet.sleep, 0)

    virtual(main)
