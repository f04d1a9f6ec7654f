"""``to_thread``: results, errors, context, cancelling, many at once, and a thread that ends after its loop has gone."""

from __future__ import annotations

import contextvars
import queue
import threading

import pytest

import netnet
from netnet import Cancelled, UsageError
from netnet.runtime import threads as module
from netnet.runtime.loop import Loop
from netnet.testing import wait_all_parked


@pytest.mark.parametrize(("function", "args", "expected"), [(int, ("7",), 7), (max, (1, 3, 2), 3), (dict, (), {})])
def test_returns_what_the_function_returns(run, backend, function, args, expected):
    assert run(netnet.to_thread, function, *args) == expected


@pytest.mark.parametrize("error", [ValueError("it"), SystemExit(3), StopIteration()])
def test_raises_what_the_function_raises(run, error):
    def fail():
        raise error

    with pytest.raises(type(error)) as caught:
        run(netnet.to_thread, fail)
    assert caught.value is error


def test_it_is_another_thread(run):
    assert run(netnet.to_thread, threading.get_ident) != threading.get_ident()


def test_the_others_go_on(run, backend):
    """The task in the thread waits for what a second task does."""
    release = threading.Event()

    def main():
        task = netnet.spawn(netnet.to_thread, release.wait, 10)
        wait_all_parked()
        assert not task.done
        release.set()
        return task.result()

    assert run(main) is True


def test_more_calls_than_threads(run):
    """All threads are busy with calls that wait for the last call, which had to queue, to be let through first."""
    most = module.THREADS_MAX
    started, release = queue.SimpleQueue(), threading.Event()

    def work(number):
        started.put(number)
        return release.wait(10) and number

    def main():
        tasks = [netnet.spawn(netnet.to_thread, work, number) for number in range(most + 20)]
        wait_all_parked()
        numbers = {started.get(timeout=10) for _ in range(most)}
        assert len(numbers) == most
        assert started.empty()
        release.set()
        return [task.result() for task in tasks]

    assert run(main) == list(range(most + 20))


def test_threads_are_reused(run):
    run(netnet.to_thread, int)
    before = threading.active_count()
    for _ in range(20):
        run(netnet.to_thread, int)
    assert threading.active_count() <= before + 1


def test_the_context_goes_along_and_does_not_come_back(run):
    variable = contextvars.ContextVar("variable", default="default")

    def work():
        seen = variable.get()
        variable.set("in the thread")
        return seen

    def main():
        variable.set("mine")
        assert netnet.to_thread(work) == "mine"
        assert variable.get() == "mine"

    run(main)


@pytest.mark.parametrize(
    "call", [netnet.current_task, lambda: netnet.sleep(0), lambda: netnet.to_thread(int), lambda: netnet.spawn(print)]
)
def test_in_the_thread_there_is_no_task(run, call):
    with pytest.raises(UsageError, match="running loop"):
        run(netnet.to_thread, call)


@pytest.mark.parametrize("fails", [False, True])
def test_a_cancelled_call_is_abandoned(run, backend, fails):
    release, ended = threading.Event(), threading.Event()

    def work():
        release.wait(10)
        ended.set()
        if fails:
            raise ValueError("nobody hears it")

    def main():
        task = netnet.spawn(netnet.to_thread, work)
        wait_all_parked()
        task.cancel()
        task.join()
        assert isinstance(task.error, Cancelled)
        assert not ended.is_set()
        release.set()
        netnet.to_thread(ended.wait, 10)
        netnet.sleep(0)

    run(main)


def test_a_timeout_around_a_call(run):
    release = threading.Event()

    def main():
        with pytest.raises(TimeoutError), netnet.timeout(0.01):
            netnet.to_thread(release.wait, 10)
        release.set()

    run(main)


def test_cancelled_after_the_call_came_back(run):
    """The result is on its way when the task is cancelled: it is not lost, the next blocking call is refused."""

    def main():
        loop = netnet.current_task().loop

        def work():
            value = netnet.to_thread(int, "7")
            with pytest.raises(Cancelled):
                netnet.sleep(0)
            return value

        task = netnet.spawn(work)
        original = loop.call_from_thread
        loop.call_from_thread = lambda waiter: original(type("Both", (), {"switch": lambda _: both(waiter)})())

        def both(waiter):
            waiter.switch()
            task.cancel()

        assert task.result() == 7

    run(main)


@pytest.mark.parametrize("fails", [False, True])
def test_a_thread_that_ends_when_the_loop_has_gone(fails):
    """The run is over; its thread ends quietly and serves the next run."""
    release, ended = threading.Event(), threading.Event()

    def work():
        release.wait(10)
        ended.set()
        if fails:
            raise ValueError

    def main():
        task = netnet.spawn(netnet.to_thread, work)
        wait_all_parked()
        task.cancel()

    netnet.run(main)
    release.set()
    assert ended.wait(10)
    assert netnet.run(netnet.to_thread, int, "7") == 7


def test_a_thread_that_ends_at_the_very_moment_when_the_loop_goes(monkeypatch):
    """It has seen an open loop and reports to one that is closed: that must not reach a descriptor, which may be
    another's by now, nor end the thread with an error."""
    at_the_door, closed, through = threading.Event(), threading.Event(), threading.Event()
    original = Loop.call_from_thread
    failures = []

    def slow(loop, waiter):
        at_the_door.set()
        assert closed.wait(10)
        try:
            original(loop, waiter)
        except BaseException as error:
            failures.append(error)
        through.set()

    def main():
        task = netnet.spawn(netnet.to_thread, release.wait, 10)
        wait_all_parked()
        task.cancel()
        task.join()
        release.set()
        assert at_the_door.wait(10)

    release = threading.Event()
    monkeypatch.setattr(Loop, "call_from_thread", slow)
    netnet.run(main)
    closed.set()
    assert through.wait(10)
    assert failures == []


def test_no_thread_to_be_had(run, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(module, "_threads", module._Threads())

    def main():
        with monkeypatch.context() as patch:
            patch.setattr(threading, "Thread", refuse)
            with pytest.raises(RuntimeError, match="new thread"):
                netnet.to_thread(int)
        return netnet.to_thread(int, "7")

    assert run(main) == 7


def test_a_call_that_could_not_be_started_is_not_run_later(run, monkeypatch):
    """Its caller was told that it failed."""
    ran = []
    monkeypatch.setattr(module, "_threads", module._Threads())

    def refuse(*args, **kwargs):
        raise RuntimeError("can't start new thread")

    def main():
        with monkeypatch.context() as patch:
            patch.setattr(threading, "Thread", refuse)
            with pytest.raises(RuntimeError):
                netnet.to_thread(ran.append, "refused")
        netnet.to_thread(ran.append, "accepted")

    run(main)
    assert ran == ["accepted"]


# -- several loops


def test_loops_in_several_threads(backend):
    results = queue.SimpleQueue()

    def main(number):
        one, other = netnet.socketpair()
        with one, other:
            netnet.spawn(lambda: [other.sendall(chunk) for chunk in other])
            for _ in range(20):
                one.sendall(b"x")
                assert one.recv(1) == b"x"
            one.shutdown(1)
        results.put(number)

    threads = [threading.Thread(target=netnet.run, args=(main, number)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert {results.get(timeout=1) for _ in range(5)} == set(range(5))
