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


# -- limiters


def test_a_limiter_bounds_the_calls(run):
    most, running, lock = [0], [0], threading.Lock()

    def work():
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        threading.Event().wait(0.002)
        with lock:
            running[0] -= 1

    def main():
        limiter = netnet.CapacityLimiter(2)
        tasks = [netnet.spawn(lambda: netnet.to_thread(work, limiter=limiter)) for _ in range(10)]
        for task in tasks:
            task.result()
        assert limiter.borrowed_tokens == 0

    run(main)
    assert most == [2]


@pytest.mark.parametrize("fails", [False, True])
def test_an_abandoned_call_keeps_its_token_until_it_has_ended(run, fails):
    release = threading.Event()

    def work():
        release.wait(10)
        if fails:
            raise ValueError

    def main():
        limiter = netnet.CapacityLimiter(1)
        task = netnet.spawn(lambda: netnet.to_thread(work, limiter=limiter))
        wait_all_parked()
        task.cancel()
        task.join()
        assert limiter.borrowed_tokens == 1
        with pytest.raises(TimeoutError), netnet.timeout(0.01):
            netnet.to_thread(int, limiter=limiter)
        assert limiter.waiting == 0
        release.set()
        assert netnet.to_thread(int, "7", limiter=limiter) == 7
        assert limiter.borrowed_tokens == 0

    run(main)


@pytest.mark.parametrize("instant", ["waiting", "handed over"])
def test_cancelled_before_the_call_has_begun(run, instant):
    """It never begins, and the token goes to the next."""
    began, release = [], threading.Event()

    def main():
        limiter = netnet.CapacityLimiter(1)
        first = netnet.spawn(lambda: netnet.to_thread(release.wait, 10, limiter=limiter))
        second = netnet.spawn(lambda: netnet.to_thread(began.append, 2, limiter=limiter))
        third = netnet.spawn(lambda: netnet.to_thread(began.append, 3, limiter=limiter))
        wait_all_parked()
        if instant == "waiting":
            second.cancel()
        release.set()
        if instant == "handed over":  # it has the token, and has not been continued yet
            while second.worker is not None and second.worker.waiting is not None:
                netnet.sleep(0)
            second.cancel()
        for task in (first, second, third):
            task.join()
        assert limiter.borrowed_tokens == 0

    run(main)
    assert began == [3]


def test_the_error_of_an_abandoned_call_is_logged(run, caplog):
    release = threading.Event()

    def work():
        release.wait(10)
        raise ValueError("not lost")

    def main():
        limiter = netnet.CapacityLimiter(1)
        task = netnet.spawn(lambda: netnet.to_thread(work, limiter=limiter))
        wait_all_parked()
        task.cancel()
        task.join()
        release.set()
        limiter.acquire()
        limiter.release()

    run(main)
    assert "not lost" in caplog.text
    assert sum("failed in an OS thread" in record.message for record in caplog.records) == 1


def test_a_run_that_ends_before_an_abandoned_call_says_so(caplog):
    release, ended = threading.Event(), threading.Event()

    def blocks_for_long():
        release.wait(10)
        ended.set()

    def main():
        task = netnet.spawn(netnet.to_thread, blocks_for_long)
        wait_all_parked()
        task.cancel()

    netnet.run(main)
    assert "blocks_for_long" in caplog.text
    release.set()
    assert ended.wait(10)


def test_without_abandoning_the_end_is_waited_for(run):
    release, ended = threading.Event(), []

    def work():
        release.wait(10)
        ended.append(1)
        return "well"

    def main():
        def caller():
            value = netnet.to_thread(work, abandon=False)
            with pytest.raises(Cancelled):
                netnet.sleep(0)
            return value

        task = netnet.spawn(caller)
        wait_all_parked()
        task.cancel()
        wait_all_parked()
        assert not task.done
        release.set()
        assert task.result() == "well"
        assert ended == [1]

    run(main)


def test_a_shared_limiter_serves_several_loops(run):
    """Each loop's thread waits for the token that a task of the other one has."""
    limiter = netnet.CapacityLimiter(1)
    results = queue.SimpleQueue()

    def main():
        for number in range(20):
            results.put(netnet.to_thread(int, number, limiter=limiter))

    threads = [threading.Thread(target=netnet.run, args=(main,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(results.get(timeout=1) for _ in range(80)) == sorted([*range(20)] * 4)
    assert limiter.borrowed_tokens == 0


# -- other threads, clocks and deadlocks


def test_a_time_that_has_come_does_not_wait_for_a_thread():
    """The virtual clock was moved by hand; the thread waits for what the sleeper does."""
    clock, woken = netnet.testing.VirtualClock(), threading.Event()

    def main():
        netnet.after(5, woken.set)
        netnet.spawn(clock.advance, 5)
        return netnet.to_thread(woken.wait, 1)

    assert netnet.run(main, clock=clock) is True


def test_a_call_that_outlived_its_run_may_wake_the_next_one():
    """Its thread is one of netnet's, but it is at work: so nobody is dead yet."""
    release, event = threading.Event(), netnet.Event()

    def work():
        release.wait(10)
        event.set()

    def first():
        task = netnet.spawn(netnet.to_thread, work)
        wait_all_parked()
        task.cancel()

    def second():
        release.set()
        return event.wait()

    netnet.run(first)
    try:
        assert netnet.run(second) is True
    finally:
        release.set()


@pytest.mark.parametrize("others", [False, True])
def test_a_deadlock_with_and_without_other_threads(others):
    """Another thread may end the wait; when it is gone, nobody can."""
    release = threading.Event()
    thread = threading.Thread(target=release.wait, args=(10,))

    def main():
        if others:
            thread.start()
            threading.Timer(0, release.set).start()
        netnet.to_thread(int)  # a thread of netnet's stays, and does not count
        netnet.Event().wait()

    with pytest.raises(netnet.DeadlockError):
        netnet.run(main)
    if others:
        thread.join()


# -- without threads


def test_without_threads_everything_else_works(monkeypatch, backend):
    """No OS thread is started for any of it."""

    def refuse(thread):
        raise AssertionError(f"{thread.name} was started")

    monkeypatch.setattr(threading.Thread, "start", refuse)

    def main():
        with pytest.raises(netnet.ThreadError, match="threads=False"):
            netnet.to_thread(int)
        assert netnet.lookup("127.0.0.1", 80)
        assert netnet.lookup("localhost", 80)
        with netnet.listen("127.0.0.1:0") as listener:
            server = netnet.spawn(listener.accept)
            with netnet.connect(listener.local_address) as client:
                conn, _ = server.result()
                with conn:
                    conn.sendall(b"x")
                    assert client.recv(1) == b"x"
        with pytest.raises(TimeoutError), netnet.timeout(0.001):
            netnet.sleep(10)
        with netnet.TaskGroup() as group:
            group.spawn(netnet.sleep, 0)
        assert netnet.after(0, int).result() == 0

    netnet.run(main, threads=False)


def test_without_threads_calls_from_other_threads_work():
    """Those it has not started itself."""
    results = queue.SimpleQueue()

    def main():
        loop, done = netnet.current_loop(), netnet.Event()
        thread = threading.Thread(target=lambda: (results.put(netnet.from_thread.run(int, "7", loop=loop)), done.set()))
        thread.start()
        done.wait()
        thread.join()

    netnet.run(main, threads=False)
    assert results.get(timeout=5) == 7
