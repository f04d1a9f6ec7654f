"""``Instrument`` and ``Counters``: what is told, in which order, that each step begins and ends, exceptions in an instrument,
and that the counts are true."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading

import greenlet
import pytest

import netnet
from netnet import Instrument, Loop
from netnet.runtime.instruments import Instruments
from netnet.runtime.timers import Timers
from netnet.testing import VirtualClock, wait_all_parked


class Diary(Instrument):
    """Writes down what it is told."""

    def __init__(self):
        self.lines = []

    def task_spawned(self, task):
        self.lines.append(("spawned", task.name))

    def task_resumed(self, task):
        self.lines.append(("resumed", task.name))

    def task_paused(self, task):
        self.lines.append(("paused", task.name))

    def task_ended(self, task):
        assert task.done
        self.lines.append(("ended", task.name))

    def before_wait(self, timeout_seconds):
        assert timeout_seconds is None or timeout_seconds >= 0
        self.lines.append(("before wait", timeout_seconds))

    def after_wait(self, events):
        assert events >= 0
        self.lines.append(("after wait", events))

    def of(self, name):
        return [what for what, whom in self.lines if whom == name]


def steps_are_whole(diary):
    """Each task's story: spawned, then resumed and paused in turns, ended once, in its last step. One runs at a time."""
    names = {whom for what, whom in diary.lines if what == "spawned"}
    for name in names:
        story = diary.of(name)
        assert story[0] == "spawned", (name, story)
        assert story.count("ended") == 1, (name, story)
        steps = [what for what in story if what in ("resumed", "paused")]
        assert steps == ["resumed", "paused"] * (len(steps) // 2), (name, story)
        assert story[-2:] == ["ended", "paused"], (name, story)
    running = None
    for what, whom in diary.lines:
        if what == "resumed":
            assert running is None, (running, whom)
            running = whom
        elif what == "paused":
            assert running == whom
            running = None
        elif what in ("before wait", "after wait"):
            assert running is None


def told(main, **options):
    diary = Diary()
    options.setdefault("clock", VirtualClock())
    netnet.run(main, instruments=[diary], **options)
    return diary


def test_the_story_of_one_task():
    diary = told(lambda: netnet.sleep(1))
    assert [what for what, whom in diary.lines if whom == "main"] == [
        "spawned",
        "resumed",
        "paused",
        "resumed",
        "ended",
        "paused",
    ]


def _chain():
    """Tasks that end without a wait: one worker after the other, or the same one again."""
    for number in range(5):
        netnet.spawn(int, name=f"short {number}")


def _ping_pong():
    def play():
        for _ in range(5):
            netnet.sleep(0)

    for number in range(3):
        netnet.spawn(play, name=f"player {number}")


def _eager():
    for number in range(3):
        netnet.spawn(netnet.sleep, number, name=f"eager {number}", eager=True)


def _cancelled():
    task = netnet.spawn(netnet.sleep, 100, name="sleeper")
    netnet.sleep(1)
    task.cancel()


def _groups():
    with netnet.TaskGroup() as group:
        for number in range(3):
            group.spawn(netnet.sleep, number, name=f"child {number}")


def _later():
    netnet.after(5, int, name="later")


def _failing():
    def fail():
        raise KeyError

    with pytest.raises(KeyError):
        netnet.spawn(fail, name="failing").result()


def _sockets():
    one, other = netnet.socketpair()
    with one, other:
        task = netnet.spawn(one.recv, 1, name="reader")
        wait_all_parked()
        other.send(b"x")
        task.result()


@pytest.mark.parametrize("main", [_chain, _ping_pong, _eager, _cancelled, _groups, _later, _failing, _sockets])
def test_steps_are_whole(main):
    steps_are_whole(told(main))


def test_one_that_never_starts():
    def main():
        netnet.after(5, int, name="never").cancel()

    diary = told(main)
    assert diary.of("never") == ["spawned", "ended"]


def test_waits():
    diary = told(lambda: netnet.to_thread(int), clock=None)
    waits = [what for what, _ in diary.lines if what.endswith("wait")]
    assert waits == ["before wait", "after wait"] * (len(waits) // 2)
    assert waits
    assert ("before wait", None) in diary.lines  # for the thread


def test_several_instruments_are_told_in_order():
    lines = []

    class Named(Instrument):
        def __init__(self, name):
            self.name = name

        def task_spawned(self, task):
            lines.append((self.name, task.name))

    netnet.run(int, instruments=[Named("first"), Named("second")])
    assert lines == [("first", "main"), ("second", "main")]


def test_nothing_is_called_where_there_is_none(monkeypatch):
    def fail(*_):
        raise AssertionError

    for name in ("task_spawned", "task_ended", "around", "start", "stop", "_switched"):
        monkeypatch.setattr(Instruments, name, fail)

    def main():
        assert greenlet.gettrace() is None
        assert netnet.current_loop().instruments is None
        netnet.spawn(netnet.sleep, 0).join()

    netnet.run(main)
    with Loop() as loop:
        loop.spawn(int)
        loop.start()


@pytest.mark.parametrize(
    ("method", "traced"),
    [
        ("task_resumed", True),
        ("task_paused", True),
        ("task_spawned", False),
        ("task_ended", False),
        ("after_wait", False),
    ],
)
def test_steps_are_traced_only_for_who_wants_to_hear_of_them(method, traced):
    heard = []
    instrument = type("One", (Instrument,), {method: lambda self, *about: heard.append(about)})()

    def main():
        assert (greenlet.gettrace() is not None) is traced
        netnet.spawn(netnet.sleep, 0).join()

    netnet.run(main, instruments=[Instrument(), instrument])
    assert heard


def test_waits_are_told_only_to_who_wants_to_hear_of_them():
    def main():
        loop = netnet.current_loop()
        return loop.instruments.around(loop.poller.wait) == loop.poller.wait

    assert netnet.run(main, instruments=[Instrument()])
    assert not netnet.run(main, instruments=[Diary()])


class Ends(Instrument):
    """Writes down the ends of runs, and who had been heard of by then."""

    def __init__(self):
        self.lines = []

    def run_began(self):
        self.lines.append("began")

    def run_ended(self):
        self.lines.append("ended")

    def task_ended(self, task):
        self.lines.append(task.name)


def test_the_run_itself_begins_and_ends():
    ends = Ends()
    netnet.run(lambda: netnet.spawn(netnet.sleep, 1, name="other") and None, clock=VirtualClock(), instruments=[ends])
    assert ends.lines == ["began", "main", "other", "ended"]


def test_a_run_that_fails_ends_as_well():
    ends = Ends()
    with pytest.raises(ZeroDivisionError):
        netnet.run(lambda: 1 / 0, instruments=[ends])
    assert ends.lines == ["began", "main", "ended"]


def test_a_loop_driven_by_hand_is_no_run():
    ends = Ends()
    with Loop(instruments=[ends]) as loop:
        loop.spawn(int, name="one")
        loop.start()
    assert ends.lines == ["one"]


@pytest.mark.parametrize("method", ["run_began", "run_ended"])
def test_an_exception_at_the_ends_of_a_run_is_raised(method):
    def fail(self):
        raise LookupError("the instrument's")

    with pytest.raises(LookupError, match="the instrument's"):
        netnet.run(int, instruments=[type("Failing", (Instrument,), {method: fail})()])


def test_a_trace_function_that_was_there_before():
    """It goes on hearing of the switches, and is there again afterwards."""
    switches = []
    greenlet.settrace(lambda event, switch: switches.append(event))
    try:
        before = greenlet.gettrace()
        told(lambda: netnet.sleep(1))
        assert greenlet.gettrace() is before
        assert switches
    finally:
        greenlet.settrace(None)


def test_loops_in_several_threads_are_told_apart():
    diaries = [Diary() for _ in range(3)]

    def main(number):
        for step in range(20):
            netnet.spawn(netnet.sleep, 0, name=f"{number}-{step}")
            netnet.sleep(0)

    threads = [
        threading.Thread(target=netnet.run, args=(main, number), kwargs={"instruments": [diaries[number]]})
        for number in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, diary in enumerate(diaries):
        names = {whom for what, whom in diary.lines if what == "spawned"}
        assert names == {"main", *(f"{number}-{step}" for step in range(20))}
        steps_are_whole(diary)


def test_a_loop_driven_by_hand():
    """Nothing is heard, and no trace function is set, while it stands still."""
    diary = Diary()
    with Loop(clock=VirtualClock(), instruments=[diary]) as loop:
        loop.spawn(netnet.sleep, 5, name="sleeper")
        loop.poll(0)
        assert greenlet.gettrace() is None
        heard = len(diary.lines)
        netnet.run(int)
        assert len(diary.lines) == heard
        loop.start()
    steps_are_whole(diary)


#: a method that fails → at which of its calls
FAILURES = [
    (method, call)
    for method in ("task_spawned", "task_resumed", "task_paused", "task_ended", "before_wait", "after_wait")
    for call in (1, 2, 3)
]


@pytest.mark.parametrize(("method", "call"), FAILURES)
@pytest.mark.parametrize("times", ["once", "from then on"])
def test_an_exception_in_an_instrument_ends_the_run(method, call, times):
    """Whatever the tasks do about exceptions; and nothing hangs or stays behind."""
    program = f"""
        import contextlib, os, sys
        import netnet
        from netnet.testing import VirtualClock
        class Failing(netnet.Instrument):
            calls = 0
            def {method}(self, *_):
                self.calls += 1
                if self.calls == {call} or ({times == "from then on"} and self.calls > {call}):
                    raise LookupError("the instrument's")
        def work():
            for _ in range(20):
                with contextlib.suppress(Exception):
                    netnet.sleep(1)
        def main():
            for function in (work, int, int, int):
                with contextlib.suppress(Exception):
                    netnet.spawn(function)
            work()
        clock = VirtualClock()
        before = len(os.listdir("/proc/self/fd"))
        try:
            netnet.run(main, clock=clock, instruments=[Failing()])
        except LookupError as error:
            print("raised", error)
        print("early" if clock.now() < 19 else "late", len(os.listdir("/proc/self/fd")) - before)
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=1.5,
        check=False,
    )
    assert done.stdout == "raised the instrument's\nearly 0\n", done.stderr


# -- counters


def test_counters_of_sleepers():
    def main():
        counters = netnet.current_loop().counters
        timers = counters.timers
        for _ in range(10):
            netnet.sleep(1)
        assert counters.timers == timers + 10
        assert counters.lag == 0
        assert counters.polls >= 10

    netnet.run(main, clock=VirtualClock())


def test_counters_of_a_crowd():
    def main():
        counters = netnet.current_loop().counters
        tasks = [netnet.spawn(netnet.sleep, 1) for _ in range(500)]
        before = counters.switches
        netnet.sleep(2)
        assert all(task.done for task in tasks)
        assert counters.ready_max == 500
        assert 1001 <= counters.switches - before <= 1010
        assert counters.wakes <= counters.switches

    netnet.run(main, clock=VirtualClock())


def test_counters_of_events(run, backend):
    def main():
        counters = netnet.current_loop().counters
        one, other = netnet.socketpair()
        with one, other:
            task = netnet.spawn(lambda: [one.recv(1) for _ in range(20)])
            wait_all_parked()
            events, switches = counters.events, counters.switches
            for _ in range(20):
                other.send(b"x")
                wait_all_parked()
            assert task.done
            assert counters.events - events >= 20
            assert counters.switches - switches >= 20

    run(main)


def test_lag_is_how_late_a_timer_was():
    clock = VirtualClock()

    def main():
        counters = netnet.current_loop().counters
        netnet.after(5, int)
        netnet.sleep(1)
        clock.advance(10)
        netnet.sleep(1)
        assert counters.lag_max == 6
        assert counters.lag == 0

    netnet.run(main, clock=clock)


def test_lag_is_not_that_of_a_timer_that_was_taken_back():
    timers = Timers()
    timers.add(1, int).cancel()
    timers.add(5, int)
    assert timers.fire(6) == 1
    assert timers.lag == 1


def test_every_loop_has_its_own_counters():
    with Loop() as one, Loop() as other:
        one.spawn(int)
        one.start()
        assert one.counters.switches == 1
        assert other.counters.switches == 0
