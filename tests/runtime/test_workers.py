"""Pooled greenlets: a worker that has ended one task runs the next, and nothing of the first is left in it: no context,
no exception, no interrupt, no scope, no reference."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import sys
import weakref

import pytest
from greenlet import getcurrent

import netnet
from netnet import Cancelled
from netnet.runtime.loop import POOL_MAX
from netnet.testing import wait_all_parked

variable = contextvars.ContextVar("variable", default="default")


class Thing:
    pass


def quietly():
    return getcurrent()


def failing():
    raise ValueError


def swallowing():
    with contextlib.suppress(Cancelled):
        netnet.current_task().cancel()
        netnet.sleep(1)


def in_a_scope():
    netnet.timeout(1000).__enter__()


def setting():
    variable.set("leaked")


def in_an_except_block():
    try:
        raise KeyError
    except KeyError:
        netnet.sleep(0)


def cancelled_at_the_end():
    netnet.current_task().cancel()


FIRST = [quietly, failing, swallowing, in_a_scope, setting, in_an_except_block, cancelled_at_the_end]


def after(first, then):
    """What *then* returns in the worker that has run *first* before."""
    worker = []
    task = netnet.spawn(lambda: (worker.append(getcurrent()), first()))
    task.join()
    with contextlib.suppress(ValueError):
        task.result()
    second = netnet.spawn(lambda: (getcurrent() is worker[0], then()))
    reused, value = second.result()
    assert reused
    return value


@pytest.fixture(params=FIRST)
def first(request):
    return request.param


def test_no_context(virtual, first):
    def main():
        variable.set("mine")
        return after(first, variable.get)

    assert virtual(main) == "mine"


def test_no_exception(virtual, first):
    assert virtual(after, first, sys.exc_info) == (None, None, None)


def test_no_cancellation(virtual, first):
    assert virtual(after, first, lambda: netnet.sleep(1) or "slept") == "slept"


def test_no_scope(virtual, first):
    def scopes():
        task = netnet.current_task()
        return task.scope is task

    assert virtual(after, first, scopes)


def test_nothing_to_wait_for(virtual, first):
    assert virtual(after, first, lambda: netnet.current_task().describe()) == "running"


def test_no_reference(virtual):
    """What the last frame held is let go when the task ends, not when the worker is used again."""

    def hold(thing):
        mine = Thing()
        references.append(weakref.ref(mine))
        netnet.sleep(0)

    def hold_and_fail(thing):
        hold(thing)
        raise ValueError

    def hold_and_be_cancelled(thing):
        netnet.current_task().cancel()
        hold(thing)

    references = []

    def main():
        for function in (hold, hold_and_fail, hold_and_be_cancelled):
            thing = Thing()
            references.append(weakref.ref(thing))
            task = netnet.spawn(function, thing)
            del thing
            task.join()
            if task.error is not None:
                task.error.__traceback__ = None
            if task.failure is not None:
                task.failure.seen = True
            del task
            assert [reference() for reference in references] == [None] * len(references), function

    gc.disable()
    try:
        virtual(main)
    finally:
        gc.enable()


def test_no_context_is_kept(virtual):
    def work(thing):
        variable.set(thing)

    def main():
        thing = Thing()
        gone = weakref.ref(thing)
        netnet.spawn(work, thing).join()
        del thing
        gc.collect()
        return gone() is None

    assert virtual(main)


def test_context_is_inherited_at_spawn(run):
    def main():
        variable.set("at spawn")
        task = netnet.spawn(variable.get)
        variable.set("later")
        with netnet.TaskGroup() as group:
            child = group.spawn(lambda: (variable.get(), variable.set("the child's own"), variable.get())[::2])
        assert task.result() == "at spawn"
        assert child.result() == ("later", "the child's own")
        assert variable.get() == "later"

    run(main)


def test_contexts_do_not_mix_while_tasks_take_turns(run):
    def work(number):
        variable.set(number)
        for _ in range(10):
            netnet.sleep(0)
            assert variable.get() == number
        return number

    def main():
        tasks = [netnet.spawn(work, number) for number in range(20)]
        return [task.result() for task in tasks]

    assert run(main) == list(range(20))


def test_what_main_sets_stays_in_the_run(run):
    variable.set("outside")
    run(variable.set, "inside")
    assert variable.get() == "outside"


def test_the_callers_context_goes_to_main():
    context = contextvars.copy_context()
    context.run(variable.set, "the caller's")
    assert context.run(netnet.run, variable.get) == "the caller's"


def test_the_pool_has_a_limit(virtual):
    def main():
        gate = netnet.Event()
        tasks = [netnet.spawn(gate.wait) for _ in range(POOL_MAX + 100)]
        wait_all_parked()
        gate.set()
        for task in tasks:
            task.join()
        return len(netnet.current_task().loop._pool)

    assert virtual(main) == POOL_MAX


def test_workers_are_gone_after_the_run(run):
    gone = run(lambda: [weakref.ref(netnet.spawn(getcurrent).result()) for _ in range(3)])
    gc.collect()
    assert [reference() for reference in gone] == [None] * 3
