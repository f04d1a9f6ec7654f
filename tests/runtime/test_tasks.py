"""Tasks from start to end: what ``run`` returns and raises, who hears of an error, cancelling in every state, and that
a task which has ended leaves nothing behind. An error is never lost and never told twice."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import threading
import weakref

import pytest

import netnet
from netnet import Cancelled, TaskCancelledError, UsageError
from netnet.runtime.clock import VirtualClock
from netnet.testing import wait_all_parked
from tests.runtime.conftest import attach


def fail(error):
    raise error


def told(caplog):
    """The errors that were logged."""
    return [record.exc_info[1] for record in caplog.records if record.exc_info]


# -- run


def test_run_returns_what_main_returns(run, backend):
    assert run(lambda *args: args, 1, "two") == (1, "two")


def test_run_can_be_called_again(run):
    assert [run(int, number) for number in range(3)] == [0, 1, 2]


@pytest.mark.parametrize(
    "error", [ValueError("it"), KeyboardInterrupt(), SystemExit(3), GeneratorExit(), StopIteration(1)]
)
def test_run_raises_what_main_raises(error):
    with pytest.raises(type(error)) as caught:
        netnet.run(fail, error)
    assert caught.value is error


def test_run_waits_for_all_tasks(virtual):
    ended = []

    def main():
        netnet.spawn(lambda: (netnet.sleep(5), netnet.spawn(lambda: (netnet.sleep(5), ended.append(netnet.now())))))
        return "main"

    assert virtual(main) == "main"
    assert ended == [10]


def test_run_inside_run(run):
    def main():
        with pytest.raises(UsageError, match=r"run\(\) inside run\(\)"):
            netnet.run(print)
        return "goes on"

    assert run(main) == "goes on"


def test_run_in_a_thread_of_its_own_inside_run(run):
    assert run(lambda: netnet.to_thread(netnet.run, lambda: netnet.sleep(0) or "inner")) == "inner"


@pytest.mark.parametrize("poller", ["nonsense", "Epoll"])
def test_run_with_an_unknown_poller(poller):
    with pytest.raises(UsageError, match=poller):
        netnet.run(print, poller=poller)
    assert netnet.run(lambda: 1) == 1


def test_run_with_an_unknown_poller_in_the_environment(monkeypatch):
    monkeypatch.setenv("NETNET_POLLER", "nonsense")
    with pytest.raises(UsageError, match="NETNET_POLLER"):
        netnet.run(print)


def test_run_takes_the_poller_it_is_told(backend, monkeypatch):
    monkeypatch.delenv("NETNET_POLLER")
    assert netnet.run(lambda: netnet.current_task().loop.poller.name, poller=backend) == backend


def test_select_once_does_not_mean_select_for_ever():
    netnet.run(print, poller="select")
    assert netnet.run(lambda: netnet.current_task().loop.poller.name, poller="poll") == "poll"


def test_main_failing_cancels_the_others(virtual):
    ends = []

    def other():
        try:
            netnet.sleep(100)
        except Cancelled:
            ends.append(netnet.now())
            raise

    def main():
        netnet.spawn(other)
        netnet.sleep(1)
        raise ValueError("main")

    with pytest.raises(ValueError, match="main"):
        virtual(main)
    assert ends == [1]


def test_main_cancelled_is_an_error_of_run(run):
    def main():
        netnet.current_task().cancel("enough")
        netnet.sleep(1)

    with pytest.raises(TaskCancelledError, match="enough"):
        run(main)


@pytest.mark.parametrize(
    "call",
    [
        lambda: netnet.sleep(0),
        lambda: netnet.sleep_until(0),
        lambda: netnet.spawn(print),
        netnet.current_task,
        lambda: netnet.to_thread(print),
        lambda: netnet.Event().wait(),
        lambda: netnet.TaskGroup().__enter__(),
        lambda: netnet.timeout(1).__enter__(),
        lambda: netnet.shield().__enter__(),
        wait_all_parked,
    ],
)
def test_needs_a_task(call):
    with pytest.raises(UsageError, match="running loop"):
        call()


def test_an_error_in_the_loop_itself(run):
    cleaned = []

    def main():
        netnet.current_task().loop.call_soon(lambda: fail(ZeroDivisionError("loop")))
        try:
            netnet.sleep(10)
        finally:
            cleaned.append(True)

    with pytest.raises(ZeroDivisionError, match="loop"):
        run(main)
    assert cleaned == [True]
    assert run(lambda: 1) == 1


# -- what a task says of itself


def test_names(run):
    def main():
        given = netnet.spawn(print, name="given")
        made = netnet.spawn(fail_not := lambda: None)
        assert netnet.current_task().name == "main"
        assert given.name == "given"
        assert made.name.startswith(f"{fail_not.__qualname__}-")
        assert repr(made) == f"<netnet.Task {made.name}: not started yet>"

    run(main)


def test_describe_follows_the_task(run):
    def main():
        go = netnet.Event()
        seen = []
        task = netnet.spawn(lambda: (go.wait(), seen.append(netnet.current_task().describe())))
        failing, cancelled = netnet.spawn(fail, ValueError("no")), netnet.spawn(go.wait)
        told = [task.describe()]
        wait_all_parked()
        told.append(task.describe())
        cancelled.cancel()
        cancelled.join()
        go.set()
        task.join()
        assert [*told, *seen, task.describe()] == [
            "not started yet",
            "waiting for an event to be set",
            "running",
            "ended",
        ]
        assert failing.describe() == "failed with ValueError('no')"
        assert cancelled.describe() == "cancelled"
        with pytest.raises(ValueError):
            failing.result()

    run(main)


@pytest.mark.parametrize("before", ["recv", "sleep", "sleep(0)", "event", "to_thread", "wait_readable"])
def test_a_task_that_runs_does_not_say_that_it_waits(run, before):
    def main():
        one, other = netnet.socketpair()
        event = netnet.Event()
        done = threading.Event()
        waits = {
            "recv": lambda: one.recv(1),
            "sleep": lambda: netnet.sleep(0.001),
            "sleep(0)": lambda: netnet.sleep(0),
            "event": event.wait,
            "to_thread": lambda: netnet.to_thread(done.wait, 10),
            "wait_readable": lambda: netnet.wait_readable(one),
        }
        with one, other:
            task = netnet.spawn(lambda: (waits[before](), netnet.current_task().describe()))
            wait_all_parked()
            other.sendall(b"x")
            event.set()
            done.set()
            assert task.result()[1] == "running"

    run(main)


def test_spawn_does_not_switch(run):
    def main():
        order = []
        tasks = [netnet.spawn(order.append, number) for number in range(3)]
        assert order == []
        for task in tasks:
            task.join()
        assert order == [0, 1, 2]

    run(main)


# -- join and result


def test_result_returns_the_value_again_and_again(run):
    def main():
        task = netnet.spawn(lambda: netnet.sleep(0) or 42)
        assert [task.result(), task.result()] == [42, 42]
        assert task.done

    run(main)


def test_many_can_wait_for_one(run):
    def main():
        gate = netnet.Event()
        task = netnet.spawn(lambda: gate.wait() and "value")
        others = [netnet.spawn(task.result) for _ in range(5)]
        wait_all_parked()
        gate.set()
        assert [one.result() for one in others] == ["value"] * 5

    run(main)


@pytest.mark.parametrize("call", ["join", "result"])
def test_a_task_cannot_wait_for_itself(run, call):
    def main():
        with pytest.raises(UsageError, match="its own end"):
            getattr(netnet.current_task(), call)()

    run(main)


def test_join_does_not_raise_the_error(run):
    def main():
        task = netnet.spawn(fail, ValueError())
        task.join()
        assert isinstance(task.error, ValueError)
        with pytest.raises(ValueError):
            task.result()

    run(main)


def test_result_of_a_cancelled_task(run):
    def main():
        task = netnet.spawn(netnet.sleep, 100)
        task.cancel("not needed")
        with pytest.raises(TaskCancelledError, match="not needed") as caught:
            task.result()
        assert isinstance(caught.value.__cause__, Cancelled)

    run(main)


def test_cancelling_who_waits_for_a_result_leaves_the_task_alone(run):
    def main():
        gate = netnet.Event()
        task = netnet.spawn(lambda: gate.wait() and "value")
        waiter = netnet.spawn(task.result)
        wait_all_parked()
        waiter.cancel()
        waiter.join()
        assert isinstance(waiter.error, Cancelled)
        gate.set()
        assert task.result() == "value"

    run(main)


# -- errors: never lost, never told twice


def test_a_held_error_is_raised_by_run(run, caplog):
    held = []
    error = ValueError("held")
    with pytest.raises(ExceptionGroup) as caught:
        run(lambda: held.append(netnet.spawn(fail, error)))
    assert caught.value.exceptions == (error,)
    held.clear()
    gc.collect()
    assert told(caplog) == []


def test_a_dropped_error_is_logged_once(run, caplog):
    error = ValueError("dropped")
    run(lambda: (netnet.spawn(fail, error) and None, netnet.sleep(0), gc.collect()))
    gc.collect()
    assert told(caplog) == [error]
    assert caplog.records[0].name == "netnet"
    assert caplog.records[0].levelno == logging.ERROR
    assert "fail-" in caplog.text


def test_a_dropped_error_is_logged_when_it_is_dropped(run, caplog):
    def main():
        task = netnet.spawn(fail, ValueError("late"))
        task.join()
        assert told(caplog) == []
        del task
        gc.collect()
        assert len(told(caplog)) == 1

    run(main)


def test_an_error_that_was_asked_for_is_not_told_again(run, caplog):
    held = []

    def main():
        held.append(netnet.spawn(fail, ValueError("asked")))
        for _ in range(2):
            with pytest.raises(ValueError, match="asked"):
                held[0].result()
        return "fine"

    assert run(main) == "fine"
    held.clear()
    gc.collect()
    assert told(caplog) == []


def test_several_held_errors_come_together(run, caplog):
    held = []

    def main():
        held.extend(netnet.spawn(fail, error) for error in errors)
        with pytest.raises(KeyError):
            held[1].result()

    errors = [ValueError(), KeyError(), OSError()]
    with pytest.raises(ExceptionGroup) as caught:
        run(main)
    assert set(caught.value.exceptions) == {errors[0], errors[2]}
    held.clear()
    gc.collect()
    assert told(caplog) == []


def test_mains_error_goes_first_and_the_others_are_logged(run, caplog):
    held, error = [], ValueError("other")

    def main():
        held.append(netnet.spawn(fail, error))
        netnet.sleep(0)
        raise KeyError("main")

    with pytest.raises(KeyError, match="main"):
        run(main)
    held.clear()
    gc.collect()
    assert told(caplog) == [error]


def test_one_error_does_not_disturb_the_others(virtual, caplog):
    def main():
        netnet.spawn(fail, ValueError())
        netnet.sleep(10)
        return netnet.now()

    assert virtual(main) == 10
    assert len(told(caplog)) == 1


@pytest.mark.parametrize("error", [SystemExit(5), KeyboardInterrupt()])
def test_an_exit_in_a_task_ends_the_run(virtual, caplog, error):
    seen = []

    def main():
        netnet.spawn(fail, error)
        try:
            netnet.sleep(100)
        finally:
            seen.append(netnet.now())

    with pytest.raises(type(error)) as caught:
        virtual(main)
    assert caught.value is error
    assert seen == [0]
    assert told(caplog) == []


def test_a_cancelled_task_is_no_error(run, caplog):
    def main():
        netnet.spawn(netnet.sleep, 100).cancel()
        return "fine"

    assert run(main) == "fine"
    assert caplog.records == []


# -- cancelling


def test_cancel_in_each_wait(run, backend, waiting):
    wait, phrase = waiting

    def main():
        with wait() as call:
            task = netnet.spawn(call)
            wait_all_parked()
            assert task.describe().startswith("waiting for ")
            assert phrase in task.describe()
            task.cancel("the reason")
            task.cancel("another")
            task.join()
            assert isinstance(task.error, Cancelled)
            assert str(task.error) == "the reason"

    run(main)


def test_a_cancelled_waiter_can_wait_again(run, backend, waiting):
    """Nothing of the first wait is left where it was: a second task takes the place and is cancelled in turn."""
    wait, _ = waiting

    def main():
        with wait() as call:
            for _ in range(3):
                task = netnet.spawn(call)
                wait_all_parked()
                task.cancel()
                task.join()
                assert isinstance(task.error, Cancelled)

    run(main)


def test_cancel_before_the_start(run):
    def main():
        steps = []
        task = netnet.spawn(lambda: (steps.append("started"), netnet.sleep(0), steps.append("never")))
        task.cancel()
        task.join()
        assert steps == ["started"]
        assert isinstance(task.error, Cancelled)

    run(main)


def test_cancel_before_the_start_of_one_that_does_not_block(run):
    def main():
        task = netnet.spawn(lambda: 5)
        task.cancel()
        assert task.result() == 5

    run(main)


def test_cancel_while_running(run):
    def main():
        steps = []

        def work():
            netnet.current_task().cancel()
            steps.append("goes on until it blocks")
            netnet.sleep(0)
            steps.append("never")

        netnet.spawn(work).join()
        assert steps == ["goes on until it blocks"]

    run(main)


def test_cancel_after_the_end(run):
    def main():
        task = netnet.spawn(lambda: "value")
        task.join()
        task.cancel()
        assert task.result() == "value"

    run(main)


# -- level cancellation: each blocking call raises, also one that would not have to wait


@contextlib.contextmanager
def _stream(call):
    one, other = netnet.socketpair()
    with one, other:
        attach(one, other)
        attach(other, one)
        other.sendall(b"data")
        yield lambda: call(one)


@contextlib.contextmanager
def _plain(call):
    yield call


@contextlib.contextmanager
def _ended_task():
    task = netnet.spawn(lambda: None)
    task.join()
    yield task.join


@contextlib.contextmanager
def _set_event():
    event = netnet.Event()
    event.set()
    yield event.wait


@contextlib.contextmanager
def _readable_pipe():
    reader, writer = os.pipe()
    os.write(writer, b"x")
    yield lambda: netnet.wait_readable(reader)
    os.close(reader)
    os.close(writer)


READY_CALLS = {
    "sleep(0)": lambda: _plain(lambda: netnet.sleep(0)),
    "sleep(0.001)": lambda: _plain(lambda: netnet.sleep(0.001)),
    "sleep_until(past)": lambda: _plain(lambda: netnet.sleep_until(0)),
    "semaphore": lambda: _plain(netnet.Semaphore(1).acquire),
    "event": _set_event,
    "join": _ended_task,
    "to_thread": lambda: _plain(lambda: netnet.to_thread(int)),
    "wait_readable": _readable_pipe,
    "sendall": lambda: _stream(lambda one: one.sendall(b"x")),
    "send": lambda: _stream(lambda one: one.send(b"x")),
    "sendmsg": lambda: _stream(lambda one: one.sendmsg([b"x"])),
    "recv": lambda: _stream(lambda one: one.recv(1)),
    "recv_into": lambda: _stream(lambda one: one.recv_into(bytearray(1))),
    "recvmsg": lambda: _stream(lambda one: one.recvmsg(1)),
}


def by_itself(gate, call):
    netnet.current_task().cancel()
    call()


def after_swallowing(gate, call):
    netnet.current_task().cancel()
    with contextlib.suppress(Cancelled):
        netnet.sleep(1)
    call()


def after_swallowing_in_a_wait(gate, call):
    with contextlib.suppress(Cancelled):
        netnet.sleep(100)
    call()


def in_a_finally_block(gate, call):
    try:
        netnet.sleep(100)
    finally:
        call()


def woken_and_then_cancelled(gate, call):
    gate.wait()
    call()


def after_a_shield(gate, call):
    with netnet.shield():
        gate.wait()
    call()


def in_an_inner_scope(gate, call):
    with netnet.shield():
        gate.wait()
    with netnet.timeout(100):
        call()


def before_the_start(gate, call):
    call()


HOW = [
    by_itself,
    after_swallowing,
    after_swallowing_in_a_wait,
    in_a_finally_block,
    woken_and_then_cancelled,
    after_a_shield,
    in_an_inner_scope,
    before_the_start,
]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", READY_CALLS)
def test_a_call_that_need_not_wait_is_refused_too(run, name, how):
    def main():
        with READY_CALLS[name]() as call:
            gate = netnet.Event()
            task = netnet.spawn(how, gate, call)
            if how is before_the_start:
                task.cancel()
            else:
                wait_all_parked()
            gate.set()
            task.cancel()
            task.join()
            assert isinstance(task.error, Cancelled)

    run(main)


@pytest.mark.parametrize("name", ["sendall", "recv", "semaphore", "wait_readable"])
def test_the_same_on_every_backend(run, backend, name):
    test_a_call_that_need_not_wait_is_refused_too(run, name, after_swallowing_in_a_wait)


@pytest.mark.parametrize("name", READY_CALLS)
def test_the_same_calls_work_where_nothing_is_cancelled(run, backend, name):
    def main():
        with READY_CALLS[name]() as call:
            task = netnet.spawn(call)
            task.result()

    run(main)


def test_each_of_many_finally_blocks_is_refused(run):
    def main():
        refused = []

        def work(depth):
            try:
                if depth:
                    work(depth - 1)
                netnet.sleep(100)
            except Cancelled:
                refused.append(depth)
                raise
            finally:
                try:
                    netnet.sleep(1)
                except Cancelled:
                    refused.append(-depth)
                    raise

        task = netnet.spawn(work, 3)
        wait_all_parked()
        task.cancel()
        task.join()
        assert refused == [0, 0, 1, -1, 2, -2, 3, -3]

    run(main)


# -- a task that swallows Cancelled


def endless_plain():
    netnet.sleep(100)


def endless_in_a_timeout():
    with netnet.timeout(100):
        netnet.sleep(100)


def endless_in_a_group():
    with netnet.TaskGroup():
        netnet.sleep(100)


def endless_recv():
    one, other = netnet.socketpair()
    with one, other:
        one.recv(1)


@pytest.mark.parametrize("call", [endless_plain, endless_in_a_timeout, endless_in_a_group, endless_recv])
def test_a_task_that_swallows_cancelled_is_reported_and_others_go_on(run, caplog, call):
    def main():
        progress = []

        def stubborn():
            for _ in range(2000):  # a bound, so that a failure of this test does not hang
                with contextlib.suppress(Cancelled):
                    call()
                if len(progress) == 10:
                    return

        def other():
            for step in range(10):
                progress.append(step)
                netnet.sleep(0)

        task = netnet.spawn(stubborn, name="stubborn")
        wait_all_parked()
        task.cancel("it is late")
        witness = netnet.spawn(other)
        task.join()
        assert len(progress) == 10
        witness.join()

    run(main)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("netnet", logging.WARNING)
    assert "stubborn" in record.getMessage()
    assert "it is late" in record.getMessage()
    assert "test_tasks.py" in record.getMessage()  # the stack


def test_a_few_refusals_are_not_reported(run, caplog):
    def main():
        netnet.current_task().cancel()
        for _ in range(50):
            with contextlib.suppress(Cancelled):
                netnet.sleep(0)

    run(main)
    assert caplog.records == []


# -- the end leaves nothing behind


class Thing:
    pass


def use(thing, *more):
    netnet.sleep(0)


def use_and_fail(thing, *more):
    netnet.sleep(0)
    raise ValueError


def use_and_swallow(thing, *more):
    try:
        raise KeyError(thing)
    except KeyError:
        netnet.sleep(0)


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("function", [use, use_and_fail, use_and_swallow])
def test_arguments_are_released_at_the_end(run, function, more):
    def main():
        thing = Thing()
        gone = weakref.ref(thing)
        task = netnet.spawn(function, thing, *range(more))
        del thing
        assert gone() is not None
        task.join()
        if function is use_and_fail:  # its traceback holds the frame
            task.error.__traceback__ = None
        assert gone() is None
        if function is use_and_fail:
            with pytest.raises(ValueError):
                task.result()

    gc.disable()
    try:
        run(main)
    finally:
        gc.enable()


class Failed(Exception):
    pass


def failing_main():
    raise Failed


def test_an_error_that_was_asked_for_goes_with_its_task(run):
    """No reference cycle: it does not need the collector."""

    def main():
        task = netnet.spawn(failing_main)
        with contextlib.suppress(Failed):
            task.result()
        gone = weakref.ref(task.error)
        del task
        assert gone() is None

    gc.disable()
    try:
        run(main)
    finally:
        gc.enable()


def failing_task():
    netnet.spawn(failing_main).result()


def failing_group():
    with netnet.TaskGroup() as group:
        group.spawn(failing_main)


@pytest.mark.parametrize("main", [failing_main, failing_task, failing_group])
def test_what_run_raises_is_in_no_cycle(main):
    gc.collect()
    gc.disable()
    try:
        try:
            netnet.run(main)
        except Exception as error:
            gone = weakref.ref(error)
        assert gone() is None
    finally:
        gc.enable()


def test_what_a_task_returned_goes_with_its_handle(run):
    def main():
        task = netnet.spawn(Thing)
        gone = weakref.ref(task.result())
        assert gone() is not None
        del task
        assert gone() is None

    gc.disable()
    try:
        run(main)
    finally:
        gc.enable()


def test_a_socket_that_an_ended_task_had_is_closed_by_its_end(run, backend):
    """No reference to the last frame is kept anywhere: the peer sees the end while the handle is still held."""

    def main():
        one, other = netnet.socketpair()

        def serve(conn):
            with conn:
                conn.recv(1)

        task = netnet.spawn(serve, one)
        gone = weakref.ref(one)
        del one
        with other:
            other.sendall(b"x")
            assert other.recv(1) == b""
            task.join()
            assert gone() is None

    run(main)


def test_the_current_error_stays_with_its_task(run):
    def main():
        def quiet():
            netnet.sleep(0)
            return sys.exc_info()

        try:
            raise KeyError("outer")
        except KeyError:
            mine = sys.exc_info()
            task = netnet.spawn(quiet)
            netnet.sleep(0)
            assert sys.exc_info() == mine
            assert task.result() == (None, None, None)
            assert sys.exc_info() == mine
        assert sys.exc_info() == (None, None, None)

    run(main)


def test_an_error_in_one_task_is_no_context_of_anothers(run):
    def main():
        def handle():
            try:
                raise KeyError
            except KeyError:
                gate.wait()

        gate = netnet.Event()
        netnet.spawn(handle)
        wait_all_parked()
        task = netnet.spawn(fail, ValueError())
        with pytest.raises(ValueError) as caught:
            task.result()
        assert caught.value.__context__ is None
        gate.set()

    run(main)


def test_the_traceback_begins_in_the_tasks_own_code(run):
    def main():
        task = netnet.spawn(fail, ValueError())
        task.join()
        assert task.error.__traceback__.tb_frame.f_code is fail.__code__
        with pytest.raises(ValueError):
            task.result()

    run(main)


def test_ten_thousand_tasks_in_rounds(run):
    clock = VirtualClock()

    def main():
        for _ in range(100):
            with netnet.TaskGroup() as group:
                for _ in range(100):
                    group.spawn(netnet.sleep, 1)

    run(main, clock=clock)
    assert clock.now() == 100
