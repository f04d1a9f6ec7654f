"""Ctrl-C and SIGTERM: in an idle loop, in a busy one, while the main task computes, while another task does not let
go; what the tasks see of it, and that the handlers are put back. Signals are raised in this very process, where the
interleaving can be forced; the last tests send them to programs of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from signal import SIGINT, SIGTERM

import pytest

import netnet
from netnet import Cancelled
from netnet.testing import VirtualClock, wait_all_parked

OUTCOMES = {SIGINT: KeyboardInterrupt, SIGTERM: SystemExit}


@pytest.fixture(autouse=True)
def handlers_are_put_back():
    """As the interpreter sets them at its start; after the test they must be what they were."""
    before = {number: signal.getsignal(number) for number in OUTCOMES}
    signal.signal(SIGINT, signal.default_int_handler)
    signal.signal(SIGTERM, signal.SIG_DFL)
    yield
    after = signal.getsignal(SIGINT), signal.getsignal(SIGTERM)
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == (signal.default_int_handler, signal.SIG_DFL)
    wake_fd = signal.set_wakeup_fd(-1)
    assert wake_fd == -1


@contextlib.contextmanager
def ended_by(number):
    with pytest.raises(OUTCOMES[number]) as caught:
        yield
    if number == SIGTERM:
        assert caught.value.code == 143


@contextlib.contextmanager
def struck_by(*numbers):
    """A thread that sends these signals to the main thread once the event is set. Set it in another task than the main
    one, which would be interrupted right there."""

    def strike():
        signal.pthread_sigmask(signal.SIG_BLOCK, OUTCOMES)
        if go.wait(10):
            for number in numbers:
                signal.pthread_kill(threading.main_thread().ident, number)

    go = threading.Event()
    thread = threading.Thread(target=strike)
    thread.start()
    try:
        yield go
    finally:
        go.set()
        thread.join()


def witness(seen):
    try:
        netnet.sleep(1000)
    except BaseException as error:
        seen.append(type(error))
        raise


both = pytest.mark.parametrize("number", OUTCOMES)


@both
def test_an_idle_loop(backend, number):
    """The signal comes from another thread, while the loop is (or is about to be) in the kernel."""
    seen = []

    def main():
        netnet.spawn(witness, seen)
        one, other = netnet.socketpair()
        with one, other:
            wait_all_parked()
            netnet.spawn(go.set)
            one.recv(1)

    with struck_by(number) as go, ended_by(number):
        netnet.run(main)
    assert seen == [Cancelled]


@both
def test_a_loop_with_nothing_but_a_far_deadline(backend, number):
    def main():
        netnet.spawn(go.set)
        netnet.sleep(1000)

    with struck_by(number) as go, ended_by(number):
        netnet.run(main)


@both
def test_a_busy_loop(backend, number):
    """Two tasks that yield all the time, the main task among them."""
    seen = []

    def busy():
        try:
            while True:
                netnet.sleep(0)
        except BaseException as error:
            seen.append(type(error))
            raise

    def main():
        netnet.spawn(busy)
        netnet.spawn(go.set)
        busy()

    with struck_by(number) as go, ended_by(number):
        netnet.run(main)
    assert seen == [KeyboardInterrupt if number == SIGINT else Cancelled, Cancelled]


@both
def test_within_one_turn(number):
    turns = []

    def busy():
        while True:
            turns.append(1)
            netnet.sleep(0)

    def main():
        netnet.spawn(busy)
        netnet.spawn(lambda: (turns.clear(), signal.raise_signal(number)))
        netnet.sleep(1000)

    with ended_by(number):
        netnet.run(main)
    assert len(turns) <= 2


@pytest.mark.parametrize(
    "wait",
    [
        lambda: netnet.sleep(1000),
        lambda: netnet.Event().wait(),
        lambda: netnet.Semaphore(0).acquire(),
        lambda: netnet.spawn(netnet.sleep, 1000).join(),
    ],
)
def test_ctrl_c_reaches_the_main_task_where_it_waits(wait):
    seen = []

    def main():
        netnet.spawn(witness, seen)
        netnet.spawn(signal.raise_signal, SIGINT)
        try:
            wait()
        except KeyboardInterrupt as error:
            seen.append(type(error))
            raise

    with ended_by(SIGINT):
        netnet.run(main)
    assert seen == [KeyboardInterrupt, Cancelled]


def test_exactly_one_task_sees_ctrl_c(virtual):
    seen = []

    def main():
        with netnet.TaskGroup() as group:
            for _ in range(5):
                group.spawn(witness, seen)
            netnet.spawn(signal.raise_signal, SIGINT)
            witness(seen)

    with ended_by(SIGINT):
        netnet.run(main)
    assert seen == [KeyboardInterrupt, *[Cancelled] * 5]


def test_the_main_task_may_catch_ctrl_c_and_go_on():
    clock = VirtualClock()

    def main():
        other = netnet.spawn(lambda: netnet.sleep(5) or "other")
        netnet.spawn(signal.raise_signal, SIGINT)
        try:
            netnet.sleep(1000)
        except KeyboardInterrupt:
            netnet.sleep(1)
        return other.result()

    assert netnet.run(main, clock=clock) == "other"
    assert clock.now() == 5


def test_ctrl_c_twice_and_caught_twice():
    def main():
        for _ in range(2):
            netnet.spawn(signal.raise_signal, SIGINT)
            with pytest.raises(KeyboardInterrupt):
                netnet.sleep(1000)
        return "fine"

    assert netnet.run(main) == "fine"


def test_ctrl_c_goes_through_a_shield():
    def main():
        netnet.spawn(signal.raise_signal, SIGINT)
        with netnet.shield():
            netnet.sleep(1000)

    with ended_by(SIGINT):
        netnet.run(main)


def test_ctrl_c_while_a_group_is_left_is_raised_after_all_have_ended():
    ended = []

    def child():
        try:
            netnet.sleep(1000)
        finally:
            with netnet.shield():
                netnet.sleep(1)
            ended.append(netnet.now())

    def main():
        with netnet.TaskGroup() as group:
            group.spawn(child)
            netnet.spawn(signal.raise_signal, SIGINT)
        ended.append("never")

    with ended_by(SIGINT):
        netnet.run(main, clock=VirtualClock())
    assert ended == [1]


@both
def test_the_main_task_is_cancelled_already(number):
    def main():
        netnet.current_task().cancel()
        netnet.spawn(signal.raise_signal, number)
        with netnet.shield():
            netnet.sleep(1000)

    with ended_by(number):
        netnet.run(main, clock=VirtualClock())


def test_sigterm_cancels_every_task():
    seen = []

    def main():
        for _ in range(5):
            netnet.spawn(witness, seen)
        netnet.spawn(signal.raise_signal, SIGTERM)
        witness(seen)

    with ended_by(SIGTERM):
        netnet.run(main)
    assert seen == [Cancelled] * 6


def test_sigterm_lets_tasks_clean_up():
    ended = []

    def main():
        netnet.spawn(signal.raise_signal, SIGTERM)
        try:
            netnet.sleep(1000)
        finally:
            with netnet.shield():
                netnet.sleep(1)
            ended.append(netnet.now())

    with ended_by(SIGTERM):
        netnet.run(main, clock=VirtualClock())
    assert ended == [1]


def test_sigterm_swallowed_by_main_still_ends_the_run():
    def main():
        netnet.spawn(signal.raise_signal, SIGTERM)
        with contextlib.suppress(Cancelled):
            netnet.sleep(1000)
        return "swallowed"

    with ended_by(SIGTERM):
        netnet.run(main)


@both
def test_after_the_main_task_has_ended(number):
    seen = []

    def main():
        netnet.spawn(witness, seen)
        netnet.spawn(lambda: netnet.sleep(1) or signal.raise_signal(number))

    with ended_by(number):
        netnet.run(main, clock=VirtualClock())
    assert seen == [Cancelled]


# -- hard moments


def test_ctrl_c_while_the_main_task_computes():
    """It has no blocking call ahead of it, so it is interrupted right there."""
    reached = []

    def main():
        signal.raise_signal(SIGINT)
        reached.append("after")

    with ended_by(SIGINT):
        netnet.run(main)
    assert reached == []


def test_ctrl_c_while_the_main_task_computes_in_a_called_function():
    reached = []

    def compute(depth):
        if depth:
            compute(depth - 1)
        else:
            signal.raise_signal(SIGINT)
        reached.append(depth)

    with ended_by(SIGINT):
        netnet.run(lambda: (netnet.sleep(0), compute(3)))
    assert reached == []


def test_sigterm_while_the_main_task_computes_waits_for_its_next_blocking_call():
    reached = []

    def main():
        signal.raise_signal(SIGTERM)
        reached.append("after")
        netnet.sleep(0)
        netnet.sleep(0)
        reached.append("never")

    with ended_by(SIGTERM):
        netnet.run(main)
    assert reached == ["after"]


def test_sigterm_while_the_main_task_computes_to_its_end():
    with ended_by(SIGTERM):
        netnet.run(lambda: signal.raise_signal(SIGTERM))


@both
def test_the_second_signal_breaks_a_task_that_does_not_let_go(number):
    seen = []

    def hog():
        try:
            signal.raise_signal(number)
            seen.append("goes on")
            signal.raise_signal(number)
            seen.append("never")
        except BaseException as error:
            seen.append(type(error))
            raise

    def main():
        netnet.spawn(hog)
        witness(seen)

    with ended_by(number):
        netnet.run(main)
    assert seen == ["goes on", OUTCOMES[number], Cancelled]


def test_ctrl_c_while_another_task_computes_waits_for_the_turn():
    seen = []

    def other():
        signal.raise_signal(SIGINT)
        seen.append("goes on")

    def main():
        netnet.spawn(other)
        witness(seen)

    with ended_by(SIGINT):
        netnet.run(main)
    assert seen == ["goes on", KeyboardInterrupt]


def test_ctrl_c_when_the_main_task_was_just_woken_and_then_ends():
    """It is neither waiting nor will it block again: the signal must not get lost with it."""

    def main():
        event = netnet.Event()
        netnet.spawn(lambda: (event.set(), netnet.spawn(signal.raise_signal, SIGINT)))
        event.wait()
        netnet.sleep(0)  # the signal comes while this has the main task in the queue of the next turn

    with ended_by(SIGINT):
        netnet.run(main)


class Striking(VirtualClock):
    """Raises a signal when the loop asks for the time after the last task has ended: the last moment there is."""

    __slots__ = ("loop",)

    def now(self):
        loop = getattr(self, "loop", None)
        if loop is not None and not loop.alive:
            self.loop = None
            signal.raise_signal(SIGINT)
        return super().now()


def test_ctrl_c_in_the_last_turn():
    clock = Striking()

    def main():
        with netnet.timeout(100):
            clock.loop = netnet.current_task().loop

    with ended_by(SIGINT):
        netnet.run(main, clock=clock)
    assert clock.loop is None


def test_both_signals_at_once_in_an_idle_loop():
    """Two signals in one moment are two handlers in a row: tasks are cancelled and clean up all the same."""
    seen = []

    def main():
        one, other = netnet.socketpair()
        with one, other:
            netnet.spawn(witness, seen)
            wait_all_parked()
            netnet.spawn(go.set)
            try:
                one.recv(1)
            finally:
                with netnet.shield():
                    netnet.sleep(0)
                seen.append("cleaned up")

    with struck_by(*OUTCOMES) as go, pytest.raises((KeyboardInterrupt, SystemExit)):
        netnet.run(main)
    assert sorted(map(str, seen)) == sorted(map(str, [Cancelled, "cleaned up"]))


# -- handlers


def test_the_handlers_are_ours_during_the_run_only():
    def main():
        return signal.getsignal(SIGINT), signal.getsignal(SIGTERM)

    during = netnet.run(main)
    assert during[0] is not signal.default_int_handler
    assert during[1] is not signal.SIG_DFL
    assert signal.getsignal(SIGINT) is signal.default_int_handler


def test_the_handlers_are_put_back_after_a_failure():
    with pytest.raises(ZeroDivisionError):
        netnet.run(lambda: 1 / 0)
    assert signal.getsignal(SIGINT) is signal.default_int_handler


@both
def test_the_programs_own_handler_is_left_alone(number):
    seen = []

    def handler(*args):
        seen.append("handled")

    signal.signal(number, handler)
    try:

        def main():
            assert signal.getsignal(number) is handler
            event = netnet.Event()
            netnet.spawn(lambda: (netnet.sleep(0), event.set()))
            signal.raise_signal(number)
            event.wait()
            return "undisturbed"

        assert netnet.run(main) == "undisturbed"
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(SIGINT, signal.default_int_handler)
        signal.signal(SIGTERM, signal.SIG_DFL)
    assert seen == ["handled"]


@both
def test_a_handler_set_during_the_run_stays(number):
    def main():
        signal.signal(number, signal.SIG_IGN)
        signal.raise_signal(number)
        netnet.sleep(0)
        return "ignored"

    assert netnet.run(main) == "ignored"
    assert signal.getsignal(number) is signal.SIG_IGN
    signal.signal(SIGINT, signal.default_int_handler)
    signal.signal(SIGTERM, signal.SIG_DFL)


def test_the_wake_up_descriptor_is_put_back():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    try:
        netnet.run(print)
    finally:
        assert signal.set_wakeup_fd(-1) == writer
        os.close(reader)
        os.close(writer)


def test_a_run_in_a_second_thread_leaves_signals_to_the_main_thread():
    handler = signal.getsignal(SIGINT)
    results = []

    def main():
        results.append(signal.getsignal(SIGINT) is handler)
        netnet.sleep(0)

    thread = threading.Thread(target=netnet.run, args=(main,))
    thread.start()
    thread.join()
    assert results == [True]


def test_ctrl_c_while_a_second_thread_runs_a_loop_goes_to_the_main_task():
    release = threading.Event()

    def other_loop():
        netnet.to_thread(release.wait, 10)
        return "undisturbed"

    def main():
        netnet.spawn(signal.raise_signal, SIGINT)
        netnet.sleep(1000)

    results = []
    thread = threading.Thread(target=lambda: results.append(netnet.run(other_loop)))
    thread.start()
    with ended_by(SIGINT):
        netnet.run(main)
    release.set()
    thread.join()
    assert results == ["undisturbed"]


# -- real programs

PROGRAMS = {
    "idle": """
        one, other = netnet.socketpair()
        with one, other:
            ready()
            one.recv(1)
    """,
    "busy": """
        def busy():
            while True:
                netnet.sleep(0)
        netnet.spawn(busy)
        ready()
        netnet.sleep(1000)
    """,
    "main computes": """
        ready()
        while True:
            pass
    """,
}


def start(body):
    """A program that runs *body* as its main task; it has called ``ready`` when this returns."""
    source = f"""
import netnet

def ready():
    print("ready", flush=True)

def witness():
    try:
        netnet.sleep(1000)
    finally:
        print("cleaned up", flush=True)

def main():
    netnet.spawn(witness)
    netnet.sleep(0)
    if True:
{body}
netnet.run(main)
"""
    program = subprocess.Popen(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert program.stdout.readline() == "ready\n", program.communicate()
    return program


def end(program):
    with program:
        try:
            out, err = program.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            program.kill()
            pytest.fail(f"still runs: {program.communicate()}")
    return out, err, program.returncode


@pytest.mark.parametrize("body", PROGRAMS)
def test_ctrl_c_ends_a_program(body):
    program = start(PROGRAMS[body])
    program.send_signal(SIGINT)
    out, err, code = end(program)
    assert out == "cleaned up\n"
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert code == -SIGINT


@pytest.mark.parametrize("body", ["idle", "busy"])
def test_sigterm_ends_a_program(body):
    program = start(PROGRAMS[body])
    program.send_signal(SIGTERM)
    assert end(program) == ("cleaned up\n", "", 143)


def test_the_second_ctrl_c_ends_a_program_whose_task_does_not_let_go():
    program = start(
        """
        import signal, sys
        def hog():
            ready()
            while not netnet.current_task().loop.signals:  # the first signal is noted, not delivered
                pass
            ready()
            while True:
                pass
        netnet.spawn(hog)
        netnet.sleep(1000)
        """
    )
    program.send_signal(SIGINT)
    assert program.stdout.readline() == "ready\n"
    program.send_signal(SIGINT)
    out, err, code = end(program)
    assert out == "cleaned up\n"
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert code == -SIGINT
