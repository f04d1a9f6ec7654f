"""``from_thread``: calls into a loop from the threads of ``to_thread`` and from foreign ones; their results, errors and
context; cancelling from either side; a loop that ends, is closed or is busy meanwhile; Ctrl-C in the thread that waits."""

from __future__ import annotations

import contextvars
import os
import queue
import signal
import threading
import time

import pytest

import netnet
from netnet import Cancelled, Loop, TaskCancelledError, UsageError, from_thread
from netnet.testing import wait_all_parked


class Caller(threading.Thread):
    """A foreign thread that makes one call, and remembers how it ended."""

    def __init__(self, function, *args, **options):
        super().__init__(daemon=True)
        self.call = (function, args, options)
        self.value = self.error = None
        self.start()

    def run(self):
        function, args, options = self.call
        try:
            self.value = function(*args, **options)
        except BaseException as error:
            self.error = error

    def wait(self):
        """From a task: lets the loop go on meanwhile."""
        netnet.to_thread(self.join, 10)
        assert not self.is_alive()
        return self


# -- results and errors


@pytest.mark.parametrize(("function", "args", "expected"), [(int, ("7",), 7), (max, (1, 3, 2), 3), (dict, (), {})])
@pytest.mark.parametrize("foreign", [False, True])
def test_returns_what_the_function_returns(run, backend, function, args, expected, foreign):
    def main():
        if foreign:
            return Caller(from_thread.run, function, *args, loop=netnet.current_loop()).wait().value
        return netnet.to_thread(from_thread.run, function, *args)

    assert run(main) == expected


def test_it_runs_in_a_task_of_the_loop(run):
    def main():
        mine = threading.get_ident(), netnet.current_loop(), netnet.current_task()

        def called():
            netnet.sleep(0)
            assert netnet.current_task() is not mine[2]
            return threading.get_ident(), netnet.current_loop()

        assert netnet.to_thread(from_thread.run, called) == mine[:2]

    run(main)


@pytest.mark.parametrize(
    "error", [ValueError("it"), StopIteration(), TimeoutError("of its own"), ExceptionGroup("", [KeyError()])]
)
@pytest.mark.parametrize("foreign", [False, True])
def test_raises_what_the_function_raises(run, caplog, error, foreign):
    """In the thread, and nowhere else."""

    def fail():
        netnet.sleep(0)
        raise error

    def main():
        if foreign:
            assert Caller(from_thread.run, fail, loop=netnet.current_loop()).wait().error is error
        else:
            with pytest.raises(type(error)) as caught:
                netnet.to_thread(from_thread.run, fail)
            assert caught.value is error
        return 7

    assert run(main) == 7
    assert caplog.records == []


def test_an_exit_ends_the_run_and_is_heard_in_the_thread(run):
    callers = []

    def leave():
        raise SystemExit(3)

    def main():
        callers.append(Caller(from_thread.run, leave, loop=netnet.current_loop()))
        netnet.sleep(10)

    with pytest.raises(SystemExit):
        run(main)
    callers[0].join(10)
    assert isinstance(callers[0].error, SystemExit)


def test_the_context_goes_along(run):
    variable = contextvars.ContextVar("variable", default="default")

    def called():
        seen = variable.get()
        variable.set("in the loop")
        return seen

    def work():
        variable.set("in the thread")
        return from_thread.run(called), variable.get()

    assert run(netnet.to_thread, work) == ("in the thread", "in the thread")


def test_there_and_back_again_many_times(run):
    def down(depth):
        return netnet.to_thread(from_thread.run, down, depth - 1) + 1 if depth else 0

    assert run(down, 20) == 20


def test_many_threads_at_once(run, backend):
    def main():
        loop = netnet.current_loop()
        callers = [
            Caller(from_thread.run, lambda number=number: (netnet.sleep(0.001), number)[1], loop=loop)
            for number in range(30)
        ]
        return [caller.wait().value for caller in callers]

    assert run(main) == list(range(30))


def test_a_deadline_of_the_caller_does_not_go_along(run):
    def main():
        with netnet.timeout(5):
            assert netnet.to_thread(from_thread.run, netnet.current_deadline) > netnet.now() + 1000

    netnet.run(main)


# -- run_soon


def test_run_soon_does_not_wait(run):
    steps = []

    def main():
        event = netnet.Event()
        netnet.to_thread(from_thread.run_soon, lambda: (event.wait(), steps.append("called")))
        steps.append("back")
        event.set()

    run(main)
    assert steps == ["back", "called"]


def test_the_order_of_run_soon(run):
    steps = []

    def work():
        for number in range(100):
            from_thread.run_soon(steps.append, number)
        from_thread.run(steps.append, "last")

    run(netnet.to_thread, work)
    assert steps == [*range(100), "last"]


def test_an_error_of_run_soon_is_logged(run, caplog):
    def fail():
        raise ValueError("told in the log")

    def main():
        netnet.to_thread(from_thread.run_soon, fail)
        wait_all_parked()

    run(main)
    assert "told in the log" in caplog.text


# -- which loop


@pytest.mark.parametrize("call", [from_thread.run, from_thread.run_soon])
def test_a_foreign_thread_has_to_say_which(run, call):
    def main():
        caller = Caller(call, int).wait()
        assert isinstance(caller.error, UsageError)
        assert "which loop" in str(caller.error)

    run(main)


@pytest.mark.parametrize("call", [from_thread.run, from_thread.run_soon])
def test_not_from_the_loops_own_thread(run, call):
    def main():
        with pytest.raises(UsageError, match="runs that loop itself"):
            call(int, loop=netnet.current_loop())

    run(main)


@pytest.mark.parametrize("call", [from_thread.run, from_thread.run_soon])
@pytest.mark.parametrize("how", ["run", "closed by hand"])
def test_a_loop_that_has_ended(call, how):
    if how == "run":
        loop = netnet.run(netnet.current_loop)
    else:
        loop = Loop()
        loop.close()
    caller = Caller(call, int, loop=loop)
    caller.join(10)
    assert isinstance(caller.error, UsageError)
    assert "ended" in str(caller.error)


def test_a_thread_whose_run_has_ended():
    """It was abandoned, and calls when nobody is there any more; the next run is none of its business."""
    release, results = threading.Event(), queue.SimpleQueue()

    def work():
        release.wait(10)
        for call in (from_thread.run, from_thread.run_soon):
            try:
                call(results.put, "called")
            except UsageError as error:
                results.put(str(error))

    def main():
        task = netnet.spawn(netnet.to_thread, work)
        wait_all_parked()
        task.cancel()

    netnet.run(main)
    assert netnet.run(lambda: (release.set(), netnet.to_thread(results.get, True, 10)))[1].startswith("the run that")
    assert results.get(timeout=10).startswith("the run that")


def test_a_call_that_comes_while_the_loop_closes():
    """Taken in, and then cancelled or never made: the thread is told so, at once."""
    loop = Loop()
    callers = []

    def late():
        callers.append(Caller(from_thread.run, int, loop=loop))
        while not loop.foreign:
            time.sleep(0.001)

    late()
    loop.close()
    callers[0].join(5)
    assert not callers[0].is_alive()
    assert callers[0].error is None or isinstance(callers[0].error, (UsageError, TaskCancelledError))


def test_the_run_ends_while_the_thread_waits(run):
    """Its call is cancelled with all others, cleans up, and the thread hears of it."""
    callers, steps = [], []

    def called():
        try:
            netnet.sleep(1000)
        finally:
            steps.append("cleaned up")

    def main():
        callers.append(Caller(from_thread.run, called, loop=netnet.current_loop()))
        while not any(task.name.startswith("test_the_run") for task in netnet.current_loop().tasks()):
            netnet.sleep(0)
        netnet.sleep(0)
        raise KeyError

    with pytest.raises(KeyError):
        run(main)
    callers[0].join(5)
    assert steps == ["cleaned up"]
    assert isinstance(callers[0].error, TaskCancelledError)


def test_the_run_waits_for_a_call_of_a_foreign_thread(run):
    steps = []

    def main():
        Caller(from_thread.run, lambda: (netnet.sleep(0.01), steps.append("made")), loop=netnet.current_loop())
        while len(netnet.current_loop().tasks()) < 2:
            netnet.sleep(0)

    run(main)
    assert steps == ["made"]


def test_a_loop_by_hand_makes_the_call_when_it_is_driven():
    with Loop() as loop:
        caller = Caller(from_thread.run, threading.get_ident, loop=loop)
        while caller.is_alive():
            loop.poll(0.01)
        assert caller.value == threading.get_ident()


# -- cancelling


def test_a_call_that_cancels_itself(run):
    def called():
        netnet.current_task().cancel("by itself")
        netnet.sleep(0)

    def main():
        caller = Caller(from_thread.run, called, loop=netnet.current_loop()).wait()
        assert isinstance(caller.error, TaskCancelledError)
        assert "by itself" in str(caller.error)

    run(main)


def test_a_time_limit_inside_the_call(run):
    def called():
        with netnet.timeout(0.001):
            netnet.sleep(10)

    def main():
        with pytest.raises(TimeoutError):
            netnet.to_thread(from_thread.run, called)

    run(main)


def test_the_task_is_cancelled_while_its_thread_calls_back(run):
    """The thread is abandoned, and its call goes on to its end."""
    ended = []

    def main():
        event = netnet.Event()
        task = netnet.spawn(netnet.to_thread, from_thread.run, lambda: (event.wait(), ended.append(1)))
        while len(netnet.current_loop().tasks()) < 3:
            netnet.sleep(0)
        task.cancel()
        task.join()
        assert isinstance(task.error, Cancelled)
        event.set()

    run(main)
    assert ended == [1]


@pytest.mark.parametrize("abandon", [True, False])
def test_check_cancelled(run, abandon):
    go, seen = threading.Event(), queue.SimpleQueue()

    def work():
        from_thread.check_cancelled()
        seen.put("not yet")
        go.wait(10)
        try:
            from_thread.check_cancelled()
        except Cancelled:
            seen.put("cancelled")
            raise
        seen.put("still not")

    def main():
        task = netnet.spawn(lambda: netnet.to_thread(work, abandon=abandon))
        wait_all_parked()
        assert seen.get(timeout=10) == "not yet"
        task.cancel()
        netnet.sleep(0)
        assert task.done is abandon
        go.set()
        task.join()
        assert isinstance(task.error, Cancelled)
        assert netnet.to_thread(seen.get, True, 10) == "cancelled"

    run(main)


def test_check_cancelled_elsewhere(run):
    def main():
        with pytest.raises(UsageError):
            from_thread.check_cancelled()
        assert isinstance(Caller(from_thread.check_cancelled).wait().error, UsageError)

    run(main)


# -- Ctrl-C in the thread that waits


class _Elsewhere:
    """A loop in another thread, while the main thread calls into it and is struck by Ctrl-C."""

    def __enter__(self):
        self.ready, self.end = threading.Event(), threading.Event()

        def main():
            self.loop = netnet.current_loop()
            self.task = netnet.current_task()
            self.ready.set()
            netnet.to_thread(self.end.wait, 20)

        self.thread = threading.Thread(target=netnet.run, args=(main,))
        self.thread.start()
        assert self.ready.wait(10)
        return self

    def __exit__(self, *_):
        self.end.set()
        self.thread.join(10)

    def strike(self):
        """Ctrl-C, when the main thread waits."""
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        return timer


def test_ctrl_c_cancels_the_call():
    """The thread has left, so nobody waits for the call any more."""
    ended = threading.Event()

    def called():
        try:
            netnet.sleep(1000)
        finally:
            ended.set()

    with _Elsewhere() as elsewhere:
        timer = elsewhere.strike()
        with pytest.raises(KeyboardInterrupt):
            from_thread.run(called, loop=elsewhere.loop)
        assert ended.wait(5)
        timer.join()


def test_ctrl_c_before_the_loop_came_to_the_call():
    """It is not made then: its caller was told that it ended."""
    steps, busy, go = [], threading.Event(), threading.Event()

    def keep_busy():
        busy.set()
        go.wait(10)

    def called():
        netnet.sleep(0)
        steps.append("was made")

    with _Elsewhere() as elsewhere:
        from_thread.run_soon(keep_busy, loop=elsewhere.loop)
        assert busy.wait(10)
        timer = elsewhere.strike()
        with pytest.raises(KeyboardInterrupt):
            from_thread.run(called, loop=elsewhere.loop)
        timer.join()
        go.set()
        from_thread.run(wait_all_parked, loop=elsewhere.loop)
    assert steps == []


# -- several loops in several threads


def test_loops_call_each_other_through_threads(run, backend):
    """Each loop calls into the other at the same time, and neither stands still for it."""

    def main(mine, theirs):
        mine.put(netnet.current_loop())
        other = netnet.to_thread(theirs.get, True, 10)
        results = [
            netnet.to_thread(lambda: from_thread.run(netnet.current_loop, loop=other)) is other for _ in range(20)
        ]
        mine.put("through")
        return results, netnet.to_thread(theirs.get, True, 10)

    one, two = queue.SimpleQueue(), queue.SimpleQueue()
    caller = Caller(netnet.run, main, two, one)
    assert run(main, one, two) == ([True] * 20, "through")
    caller.join(10)
    assert caller.value == ([True] * 20, "through")
