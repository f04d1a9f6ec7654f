"""Signals as something to wait for: which come, in which order, how often, who is in their way, and that every handler is
put back, also when opening fails half way. Signals are raised in this very process; the last tests send them from
elsewhere, while the loop is in the kernel."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
from signal import SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2

import pytest

import netnet
from netnet import UsageError, open_signals
from netnet.testing import wait_all_parked

USED = (SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2)


def theirs(number, frame):
    raise AssertionError(f"the program's own handler was called for {number}")


@pytest.fixture(autouse=True)
def handlers_are_put_back():
    """A signal that nobody waits for must not end this process; after the test all handlers are what they were."""
    before = {number: signal.getsignal(number) for number in USED}
    ours = {**dict.fromkeys(USED, theirs), SIGINT: signal.default_int_handler, SIGTERM: signal.SIG_DFL}
    for number, handler in ours.items():
        signal.signal(number, handler)
    yield
    after = {number: signal.getsignal(number) for number in USED}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == ours
    assert signal.set_wakeup_fd(-1) == -1


def send(*numbers):
    for number in numbers:
        signal.raise_signal(number)


# -- what comes


def test_one_that_came_while_nobody_waited(backend, run):
    def main():
        with open_signals(SIGUSR1) as signals:
            send(SIGUSR1)
            return signals.wait()

    number = run(main)
    assert number == SIGUSR1
    assert isinstance(number, signal.Signals)


def test_one_that_is_waited_for(backend, run):
    def main():
        with open_signals(SIGUSR1) as signals:
            netnet.spawn(send, SIGUSR1)
            return signals.wait()

    assert run(main) == SIGUSR1


def test_several_in_the_order_in_which_they_came(run):
    def main():
        with open_signals(SIGUSR1, SIGHUP, SIGUSR2) as signals:
            send(SIGUSR2, SIGUSR1, SIGHUP)
            return [signals.wait() for _ in range(3)]

    assert run(main) == [SIGUSR2, SIGUSR1, SIGHUP]


def test_while_nobody_waits_each_is_kept_once(run):
    def main():
        with open_signals(SIGUSR1, SIGUSR2) as signals:
            for _ in range(3):
                send(SIGUSR1, SIGUSR2, SIGUSR1)
                netnet.sleep(0)
            got = [signals.wait(), signals.wait()]
            with pytest.raises(TimeoutError), netnet.timeout(0.01):
                signals.wait()
            return got

    assert run(main) == [SIGUSR1, SIGUSR2]


def test_one_that_comes_after_it_was_taken_counts_again(run):
    def main():
        with open_signals(SIGUSR1) as signals:
            for _ in range(5):
                send(SIGUSR1)
                assert signals.wait() == SIGUSR1
        return True

    assert run(main)


def test_iterating(run):
    def main():
        got = []
        with open_signals(SIGUSR1, SIGUSR2) as signals:
            send(SIGUSR1)
            for number in signals:
                got.append(number)
                if len(got) == 4:
                    return got
                send(SIGUSR2 if len(got) % 2 else SIGUSR1)
        return got

    assert run(main) == [SIGUSR1, SIGUSR2, SIGUSR1, SIGUSR2]


def test_each_goes_to_one_of_those_who_wait_first_come_first_served(run):
    got = []

    def main():
        with open_signals(SIGUSR1) as signals, netnet.TaskGroup() as group:
            for who in range(3):
                group.spawn(lambda who=who: got.append((who, signals.wait())))
            wait_all_parked()
            for _ in range(3):
                send(SIGUSR1)
                wait_all_parked()

    run(main)
    assert got == [(0, SIGUSR1), (1, SIGUSR1), (2, SIGUSR1)]


def test_a_storm_in_a_busy_task_is_no_backlog(run):
    """As a terminal or a supervisor may send them; what matters is that one came, not how many. All came before anybody
    waited, so one is kept, and nothing else of the thousand."""

    def main():
        with open_signals(SIGUSR1) as signals:
            send(*[SIGUSR1] * 1000)
            assert len(netnet.current_loop().foreign) <= 1
            assert signals.wait() == SIGUSR1
            with pytest.raises(TimeoutError), netnet.timeout(0.01):
                signals.wait()

    run(main)


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_ctrl_c_and_sigterm_do_nothing_else_while_open(run, number):
    def main():
        with open_signals(number) as signals:
            send(number)
            assert signals.wait() == number
            send(number, number)  # which would end a run at once
            netnet.sleep(0)
        return "still here"

    assert run(main) == "still here"


@pytest.mark.parametrize(("number", "outcome"), [(SIGINT, KeyboardInterrupt), (SIGTERM, SystemExit)])
def test_ctrl_c_and_sigterm_end_the_run_again_afterwards(run, number, outcome):
    def main():
        with open_signals(number) as signals:
            send(number)
            signals.wait()
        netnet.spawn(send, number)
        netnet.sleep(10)

    with pytest.raises(outcome):
        run(main)


# -- nested, beside each other, and again


def test_nested_each_gets_it(run):
    def main():
        with open_signals(SIGUSR1) as outer:
            with open_signals(SIGUSR1, SIGUSR2) as inner:
                send(SIGUSR1)
                assert inner.wait() == outer.wait() == SIGUSR1
                send(SIGUSR2)
                assert inner.wait() == SIGUSR2
            send(SIGUSR1)
            assert outer.wait() == SIGUSR1
            with pytest.raises(TimeoutError), netnet.timeout(0.01):
                outer.wait()

    run(main)


def test_two_tasks_open_the_same_and_the_first_one_leaves_first(run):
    """Two supervisors in one run, say. Whoever is left goes on getting it, and in the end the handler is put back."""

    def main():
        leave = netnet.Event()

        def first():
            with open_signals(SIGUSR1):
                leave.wait()

        task = netnet.spawn(first)
        wait_all_parked()
        with open_signals(SIGUSR1) as signals:
            leave.set()
            task.result()
            send(SIGUSR1)
            with netnet.timeout(5):
                assert signals.wait() == SIGUSR1

    run(main)
    assert signal.getsignal(SIGUSR1) is theirs


def test_the_same_number_twice(run):
    def main():
        with open_signals(SIGUSR1, SIGUSR1) as signals:
            send(SIGUSR1)
            assert signals.wait() == SIGUSR1

    run(main)
    assert signal.getsignal(SIGUSR1) is theirs


def test_again_after_it_was_closed(run):
    def main():
        signals = open_signals(SIGUSR1)
        for _ in range(2):
            with signals:
                send(SIGUSR1)
                assert signals.wait() == SIGUSR1

    run(main)


def test_while_it_is_open(run):
    def main():
        with open_signals(SIGUSR1) as signals:
            with pytest.raises(UsageError, match="open already"):  # and it stays open
                signals.__enter__()
            send(SIGUSR1)
            assert signals.wait() == SIGUSR1

    run(main)


# -- the end, and failures


@pytest.mark.parametrize("leave", ["normally", "by an error", "cancelled"])
def test_handlers_are_put_back_however_it_ends(run, leave):
    def body():
        with open_signals(SIGUSR1, SIGHUP) as signals:
            assert signal.getsignal(SIGHUP) is not theirs
            if leave == "by an error":
                raise KeyError("mine")
            if leave == "cancelled":
                signals.wait()

    def main():
        task = netnet.spawn(body)
        wait_all_parked()
        task.cancel()
        task.join()
        assert signal.getsignal(SIGHUP) is theirs
        assert signal.getsignal(SIGUSR1) is theirs
        assert netnet.current_loop().expecting == 0
        if leave == "by an error":
            with pytest.raises(KeyError):
                task.result()

    run(main)


def test_a_cancelled_waiter_has_taken_nothing(run):
    def main():
        with open_signals(SIGUSR1) as signals:
            task = netnet.spawn(signals.wait)
            wait_all_parked()
            send(SIGUSR1)
            task.cancel()
            task.join()
            with netnet.timeout(5):
                assert signals.wait() == SIGUSR1

    run(main)


def test_waiting_while_cancelled_takes_nothing(run):
    def main():
        with open_signals(SIGUSR1) as signals:
            send(SIGUSR1)
            with netnet.CancelScope() as scope:
                scope.cancel()
                signals.wait()
            assert signals.wait() == SIGUSR1

    run(main)


@pytest.mark.parametrize(
    ("numbers", "error"),
    [
        ((), ValueError),
        ((0,), ValueError),
        ((-1,), ValueError),
        ((4711,), ValueError),
        (("SIGHUP",), ValueError),
    ],
)
def test_what_is_no_signal_is_said_at_once(numbers, error):
    with pytest.raises(error):
        open_signals(*numbers)


@pytest.mark.parametrize("impossible", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("first", [True, False])
def test_one_that_cannot_be_waited_for_changes_nothing(run, impossible, first):
    """Not the handlers of the others, and not what the loop thinks of deadlocks."""
    numbers = (impossible, SIGUSR1) if first else (SIGUSR1, impossible)

    def main():
        with pytest.raises((OSError, ValueError)):
            open_signals(*numbers).__enter__()
        assert signal.getsignal(SIGUSR1) is theirs
        return netnet.current_loop().expecting

    assert run(main) == 0


def test_outside_a_run():
    with pytest.raises(UsageError):
        open_signals(SIGUSR1).__enter__()
    assert signal.getsignal(SIGUSR1) is theirs


def test_in_another_thread():
    """Also in one that has a loop: Python delivers to the main thread only."""
    seen = []

    def main():
        with pytest.raises(UsageError, match="main thread"):
            open_signals(SIGUSR1).__enter__()
        seen.append(netnet.current_loop().expecting)

    thread = threading.Thread(target=netnet.run, args=(main,))
    thread.start()
    thread.join()
    assert seen == [0]


# -- deadlocks


def test_while_it_is_open_waiting_for_it_is_no_deadlock(run):
    """Everybody waits for a signal, or for somebody who does, for as long as it takes."""

    def main():
        with open_signals(SIGUSR1) as signals:
            others = [netnet.spawn(lambda: task.join()) for _ in range(3)]
            task = netnet.spawn(signals.wait)
            timer = threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, SIGUSR1))
            timer.start()
            assert task.result() == SIGUSR1
            timer.join()
            for other in others:
                other.join()

    netnet.run(main)


def test_closed_waiting_is_a_deadlock_again():
    def main():
        with open_signals(SIGUSR1) as signals:
            pass
        signals.wait()

    with pytest.raises(netnet.DeadlockError):
        netnet.run(main)


def test_a_failure_to_open_leaves_deadlocks_noticed():
    def main():
        with pytest.raises((OSError, ValueError)):
            open_signals(signal.SIGKILL).__enter__()
        netnet.Event().wait()

    with pytest.raises(netnet.DeadlockError):
        run_in_time(main)


def run_in_time(main):
    """``netnet.run`` of what may turn out to wait for ever, without a timer that would keep it from being a deadlock."""

    def give_up(number, frame):
        raise AssertionError("it waits for ever")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, 3)
    try:
        return netnet.run(main)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# -- from elsewhere


@pytest.mark.parametrize("poller", [name for name in ("epoll", "kqueue", "poll", "select") if hasattr(select, name)])
def test_it_wakes_a_loop_that_is_in_the_kernel(poller):
    """From other processes, a hundred times in turn, each answered before the next; with nothing else for the loop to do."""
    code = """
        import os, signal, sys, netnet
        def main():
            with netnet.open_signals(signal.SIGUSR1, signal.SIGUSR2) as signals:
                os.write(1, b"open\\n")
                for number in signals:
                    os.write(1, f"{number.name}\\n".encode())
        netnet.run(main, poller=sys.argv[1])
    """
    command = [sys.executable, "-c", textwrap.dedent(code), poller]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout.readline() == "open\n"
            for number in [SIGUSR1, SIGUSR2, SIGUSR2] * 33:
                os.kill(child.pid, number)
                assert child.stdout.readline() == f"{number.name}\n"
            child.send_signal(SIGTERM)
            assert child.wait(10) == 143
        finally:
            child.kill()


def test_in_the_child_of_a_fork_it_belongs_to_nobody():
    """The parent's loop is not the child's: a signal there is swallowed, and disturbs neither process."""

    def main():
        with open_signals(SIGUSR1) as signals:
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                try:
                    send(SIGUSR1)
                    os.write(writer, b"alive")
                finally:
                    os._exit(0)
            os.close(writer)
            netnet.wait_readable(reader)
            assert os.read(reader, 10) == b"alive"
            os.close(reader)
            os.waitpid(pid, 0)
            with pytest.raises(TimeoutError), netnet.timeout(0.01):
                signals.wait()

    netnet.run(main)
