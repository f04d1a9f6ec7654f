"""Time-outs set their timer at the first wait only. That must not be seen: not by calls that never wait, waits after the
deadline, scopes within scopes, tasks cancelled meanwhile, generators left open, Ctrl-C; and random nests of scopes keep the
rules that ``scope`` states."""

from __future__ import annotations

import contextlib
import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import netnet
from netnet import Cancelled, UsageError
from netnet.runtime.loop import BUDGET
from netnet.testing import VirtualClock


@pytest.fixture
def clocked():
    """Runs ``main(clock)`` on a virtual clock."""

    def run_with_clock(main):
        clock = VirtualClock()
        return netnet.run(main, clock, clock=clock)

    return run_with_clock


def pending():
    """How many timers are set."""
    return sum(timer.live for *_, timer in netnet.current_loop().timers.heap)


def settled_at_once():
    """That no time limit of the running task is still to be set."""
    netnet.sleep(0)
    task = netnet.current_task()
    assert task.unarmed == 0
    assert task.worker.home is task.loop


def settled():
    """That nothing of a scope is left with the running task: it is at home again and sleeps undisturbed."""
    task = netnet.current_task()
    assert task.scope is task
    assert task.unarmed == 0
    assert task.worker.home is task.loop
    assert netnet.current_deadline() == math.inf
    before = pending()
    netnet.sleep(1000)
    netnet.sleep(0)
    assert pending() <= before


# -- without a wait


def test_no_timer_is_set_where_nothing_waits(clocked):
    def main(clock):
        with netnet.timeout(5) as scope:
            assert pending() == 0
            assert netnet.current_deadline() == scope.when() == 5
        assert pending() == 0
        settled()

    clocked(main)


@pytest.mark.parametrize("depth", [1, 2, 30])
def test_one_wait_sets_all_of_them_once(clocked, depth):
    def main(clock):
        with contextlib.ExitStack() as stack:
            for number in range(depth):
                stack.enter_context(netnet.timeout(100 + number))
            for _ in range(3):
                netnet.sleep(1)
                assert pending() == depth
        assert pending() == 0
        settled()

    clocked(main)


@pytest.mark.parametrize("late", [0, 1, 1e6])
@pytest.mark.parametrize("waits", [0, 1])
def test_lines_that_compute_beyond_the_deadline(clocked, late, waits):
    """With no wait inside they end in peace; with one, that is refused, at once, and the deadline was the reason."""

    def main(clock):
        with contextlib.suppress(TimeoutError), netnet.timeout(5) as scope:
            clock.advance(5 + late)
            assert netnet.current_deadline() == 5
            for _ in range(waits):
                netnet.sleep(1)
        assert scope.expired() is bool(waits)
        assert clock.now() == 5 + late
        settled()

    clocked(main)


@pytest.mark.parametrize(
    "call",
    [
        lambda parts: parts["event"].wait(),
        lambda parts: parts["ended"].join(),
        lambda parts: parts["channel"].send(1),
        lambda parts: netnet.checkpoint(),
        lambda parts: parts["sockets"][0].send(b""),
        lambda parts: parts["semaphore"].release() or parts["semaphore"].acquire(),
        lambda parts: netnet.sleep(0),
        lambda parts: netnet.sleep(-1),
        lambda parts: netnet.sleep_until(0),
    ],
    ids=["event", "join", "channel", "checkpoint", "send", "semaphore", "sleep(0)", "sleep(-1)", "past"],
)
@pytest.mark.parametrize("depth", [1, 3])
def test_many_ready_calls_are_ended_by_the_deadline(clocked, call, depth):
    """None of them has to wait. Within one budget of calls after the deadline the task is told."""

    def main(clock):
        one, other = netnet.socketpair()
        with one, other:
            parts = {
                "event": netnet.Event(),
                "ended": netnet.spawn(int),
                "channel": netnet.Channel(math.inf),
                "semaphore": netnet.Semaphore(1),
                "sockets": (one,),
            }
            parts["event"].set()
            parts["ended"].join()
            calls = 0
            with pytest.raises(TimeoutError, match="time limit of 5 s"), contextlib.ExitStack() as stack:
                for number in range(depth):
                    stack.enter_context(netnet.timeout(5 + number))
                clock.advance(5)
                while True:
                    call(parts)
                    if call.__code__.co_names[-1:] == ("spawn",):  # it never raises
                        netnet.checkpoint()
                    calls += 1
                    assert calls < 10 * BUDGET
        settled()

    clocked(main)


def test_a_deadline_that_passes_between_ready_calls(clocked):
    def main(clock):
        event = netnet.Event()
        event.set()
        with pytest.raises(TimeoutError), netnet.timeout(5):
            for _ in range(100 * BUDGET):
                event.wait()
                clock.advance(5 / (10 * BUDGET))
        assert 5 <= clock.now() < 6
        settled()

    clocked(main)


# -- one within the other


@pytest.mark.parametrize("order", list(itertools.permutations([3, 5, 7])))
@pytest.mark.parametrize("busy", [0, 4, 6, 9])
def test_nested_unarmed(clocked, order, busy):
    """The nearest deadline ends the wait; if several have passed, the outermost of these gets the error."""

    def main(clock):
        caught = []
        with contextlib.suppress(TimeoutError), contextlib.ExitStack() as stack:
            scopes = [stack.enter_context(netnet.timeout(seconds)) for seconds in order]

            @stack.push
            def note(kind, error, trace):
                caught.append(kind)

            clock.advance(busy)
            assert netnet.current_deadline() == 3
            netnet.sleep(100)
        assert caught == [Cancelled]
        assert clock.now() == max(3, busy)
        assert {scope.when() for scope in scopes if scope.expired()} == {
            seconds for seconds in order if seconds <= max(3, busy)
        }
        settled()

    clocked(main)


@pytest.mark.parametrize("order", list(itertools.permutations([3, 5, 7])))
@pytest.mark.parametrize("busy", [0, 4, 6, 9])
def test_whose_error_it_is(clocked, order, busy):
    def main(clock):
        raised = []

        def nest(left):
            if not left:
                clock.advance(busy)
                netnet.sleep(100)
            try:
                with netnet.timeout(left[0]):
                    nest(left[1:])
            except TimeoutError as error:
                raised.append((left[0], str(error)))
                clock.advance(0)

        nest(list(order))
        passed = [seconds for seconds in order if seconds <= max(3, busy)]
        assert raised == [(passed[0], f"the time limit of {passed[0]} s was reached")]
        settled()

    clocked(main)


@pytest.mark.parametrize("reschedule", [False, True])
def test_equal_deadlines_are_the_outer_ones(clocked, reschedule):
    def main(clock):
        with pytest.raises(TimeoutError) as caught, netnet.timeout(5) as outer:
            with netnet.timeout(99 if reschedule else 5) as inner:
                if reschedule:
                    inner.reschedule(5)  # so its timer is set before the outer one's
                netnet.sleep(100)
            raise AssertionError("the inner one has kept it")
        assert outer.expired()
        assert inner.expired()
        assert caught.value.__cause__ is not None
        settled()

    clocked(main)


def test_the_inner_one_is_up_while_the_outer_one_is_handled(clocked):
    def main(clock):
        with pytest.raises(TimeoutError, match="limit of 3 s"), netnet.timeout(3):
            try:
                netnet.sleep(100)
            finally:
                with pytest.raises(TimeoutError, match="limit of 2 s"), netnet.shield(), netnet.timeout(2):
                    netnet.sleep(100)
                assert clock.now() == 5
                with pytest.raises(Cancelled), netnet.timeout(1) as late:
                    netnet.sleep(100)
                assert not late.expired()
        assert clock.now() == 5
        settled()

    clocked(main)


def test_the_outer_one_is_up_in_the_finally_of_the_inner_one(clocked):
    def main(clock):
        with pytest.raises(TimeoutError, match="limit of 4 s"), netnet.timeout(4):
            with netnet.timeout(3):
                try:
                    netnet.sleep(100)
                finally:
                    with netnet.shield():
                        netnet.sleep(2)
            raise AssertionError
        assert clock.now() == 5
        settled()

    clocked(main)


def test_in_the_except_of_the_inner_one_the_outer_one_counts_on(clocked):
    def main(clock):
        with pytest.raises(TimeoutError, match="limit of 4 s"), netnet.timeout(4) as outer:
            with contextlib.suppress(TimeoutError), netnet.timeout(3) as inner:
                netnet.sleep(100)
            assert inner.expired()
            assert not outer.expired()
            netnet.sleep(100)
        assert clock.now() == 4
        settled()

    clocked(main)


@pytest.mark.parametrize("outer", [2, 4])
def test_a_shield_inside_an_unarmed_one(clocked, outer):
    """The time-out is up in there, and is heard of outside."""

    def main(clock):
        with contextlib.suppress(TimeoutError), netnet.timeout(outer) as scope:
            with netnet.shield():
                assert netnet.current_deadline() == math.inf
                clock.advance(1)
                netnet.sleep(2)
                assert netnet.current_deadline() == math.inf
            assert netnet.current_deadline() == (-math.inf if outer == 2 else 4)
            netnet.sleep(100)
        assert scope.expired()
        assert clock.now() == max(3, outer)
        settled()

    clocked(main)


def test_an_unarmed_one_inside_a_shield(clocked):
    def main(clock):
        with netnet.CancelScope() as outer:
            outer.cancel()
            with netnet.shield():
                with pytest.raises(TimeoutError), netnet.timeout(5):
                    assert netnet.current_deadline() == 5
                    netnet.sleep(100)
                with netnet.timeout(5):
                    pass
                netnet.sleep(1)
            with pytest.raises(Cancelled):
                netnet.sleep(1)
        assert clock.now() == 6
        settled()

    clocked(main)


# -- moved


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize(("when", "end"), [(8, 8), (2, 2), (1, 1), (0, 1), (None, 50), (math.inf, 50)])
def test_rescheduled(clocked, waits, when, end):
    """Before its first wait and after."""

    def main(clock):
        with contextlib.suppress(TimeoutError), netnet.timeout(5) as scope:
            (netnet.sleep if waits else clock.advance)(1)
            scope.reschedule(when)
            assert scope.when() == when
            netnet.sleep_until(50)
        assert clock.now() == end
        assert scope.expired() is (end < 50)
        settled()

    clocked(main)


def test_rescheduled_and_left_without_a_wait(clocked):
    def main(clock):
        for when in (None, 3, 7, math.inf):
            with netnet.timeout(5) as outer, netnet.timeout(5) as inner:
                inner.reschedule(when)
                outer.reschedule(when)
                inner.reschedule(9)
            assert pending() == 0
        settled()

    clocked(main)


# -- cancelled from elsewhere


@pytest.mark.parametrize("what", ["task", "outer", "own", "inner"])
@pytest.mark.parametrize("by", ["itself", "eager"])
def test_cancelled_while_unarmed(clocked, what, by):
    """No time was up: nobody raises TimeoutError."""

    def work():
        with netnet.CancelScope() as outer, netnet.timeout(5) as own, netnet.CancelScope() as inner:
            target = {"task": netnet.current_task(), "outer": outer, "own": own, "inner": inner}[what]
            if by == "itself":
                target.cancel("enough")
            else:
                netnet.spawn(target.cancel, "enough", eager=True)
            assert netnet.current_deadline() == -math.inf
            with pytest.raises(Cancelled, match="enough"):
                netnet.sleep(1)
            with pytest.raises(Cancelled, match="enough"):
                netnet.sleep(0)
        assert not own.expired()
        if what != "task":
            settled()

    def main(clock):
        task = netnet.spawn(work)
        task.join()
        assert task.error is None or isinstance(task.error, Cancelled)

    clocked(main)


def test_cancelled_before_it_was_entered(clocked):
    def main(clock):
        limit = netnet.timeout(5)
        limit.cancel()
        with limit, pytest.raises(Cancelled):
            netnet.sleep(1)
        assert not limit.expired()
        settled()

    clocked(main)


@pytest.mark.parametrize("ends", ["in time", "late"])
def test_entered_where_everything_is_cancelled(clocked, ends):
    def main(clock):
        with netnet.CancelScope() as outer:
            outer.cancel()
            with netnet.timeout(5) as limit:
                if ends == "late":
                    clock.advance(6)
                with pytest.raises(Cancelled):
                    netnet.sleep(1)
        assert not limit.expired()
        settled()

    clocked(main)


def test_the_deadline_and_the_end_of_the_wait_in_the_same_turn(clocked):
    """The wait is over when the time is up: the lines are not disturbed, or told by TimeoutError; never half."""

    def main(clock):
        for first in ("timer", "event"):
            event = netnet.Event()
            got = []
            if first == "event":
                netnet.after(5, event.set)
            with contextlib.suppress(TimeoutError), netnet.timeout(5) as limit:
                if first == "timer":
                    netnet.after(5, event.set)
                got.append(event.wait())
            assert got == [True] or limit.expired()
            settled()

    clocked(main)


def test_a_huge_limit_that_is_refused_leaves_nothing(clocked):
    def main(clock):
        with netnet.timeout(5):
            with pytest.raises(OverflowError), netnet.timeout(10**400):
                pass
            assert netnet.current_deadline() == 5
        settled()

    clocked(main)


# -- tasks started inside


@pytest.mark.parametrize("eager", [False, True])
def test_a_task_that_is_spawned_inside_is_not_limited(clocked, eager):
    def main(clock):
        with netnet.timeout(5):
            task = netnet.spawn(lambda: (netnet.current_deadline(), netnet.sleep(10)), eager=eager)
        assert task.result()[0] == math.inf
        assert clock.now() == 10
        settled()

    clocked(main)


@pytest.mark.parametrize("eager", [False, True])
def test_a_group_inside_is_limited(clocked, eager):
    """Also where the body itself never waits before the end of the group."""

    def main(clock):
        ended = []

        def work():
            try:
                netnet.sleep(100)
            finally:
                ended.append(netnet.now())

        with pytest.raises(TimeoutError), netnet.timeout(5), netnet.TaskGroup() as group:
            for _ in range(3):
                group.spawn(work, eager=eager)
        assert ended == [5, 5, 5]
        settled()

    clocked(main)


def test_an_eager_task_that_outlasts_the_deadline(clocked):
    """The caller stands behind it and is told at its next call."""

    def main(clock):
        with pytest.raises(TimeoutError), netnet.timeout(5):
            netnet.spawn(clock.advance, 6, eager=True)
            netnet.sleep(1)
        assert clock.now() == 6
        settled()

    clocked(main)


# -- generators


def limited(seconds, log=None):
    with netnet.timeout(seconds):
        try:
            yield from itertools.count()
        finally:
            if log is not None:
                log.append("closed")


@pytest.mark.parametrize("waits", [False, True])
def test_a_generator_that_is_closed(clocked, waits):
    def main(clock):
        numbers = limited(5)
        next(numbers)
        assert netnet.current_deadline() == 5  # it stands open around the caller's lines, too
        if waits:
            netnet.sleep(1)
        numbers.close()
        settled()

    clocked(main)


@pytest.mark.parametrize("waits", [False, True])
def test_a_generator_that_is_dropped(clocked, waits):
    def main(clock):
        for number in limited(5):
            if waits:
                netnet.sleep(1)
            if number == 2:
                break
        settled()

    clocked(main)


@pytest.mark.parametrize("waits", [False, True])
def test_a_generator_that_is_left_open_by_an_ended_task(clocked, waits):
    """Its time limit is nobody's any more."""

    def main(clock):
        kept = []

        def work():
            numbers = limited(5)
            kept.append(numbers)
            next(numbers)
            if waits:
                netnet.sleep(1)

        netnet.spawn(work).result()
        assert pending() == 0
        netnet.sleep(100)
        settled()
        kept.pop().close()
        settled()

    clocked(main)


def test_scopes_left_open_by_a_generator_and_left_out_of_order(clocked):
    """The outer statement says so; after that neither of the two disturbs the task."""

    def main(clock):
        numbers = limited(5)
        with pytest.raises(UsageError, match="out of order"), netnet.timeout(3):
            next(numbers)
        numbers.close()
        settled()

    clocked(main)


def test_a_group_left_open_by_a_generator_of_an_ended_task():
    """Its tasks are still reached by what ends the run."""
    clock = VirtualClock()
    kept = []

    def grouped():
        with netnet.TaskGroup() as group:
            group.spawn(netnet.sleep, 1000)
            yield

    def work():
        kept.append(grouped())
        next(kept[0])

    def main():
        netnet.spawn(work).join()
        netnet.sleep(1)
        raise KeyError

    with pytest.raises(KeyError):
        netnet.run(main, clock=clock)
    assert clock.now() < 1000
    with contextlib.suppress(BaseException):
        kept.pop().close()


# -- Ctrl-C


def interrupt_soon(task):
    """What a signal does that finds the task neither waiting nor running: its next blocking call raises."""
    worker = task.worker
    worker.interrupt = KeyboardInterrupt()
    task.enter(task.scope)


@pytest.mark.parametrize("waits", ["never", "before", "after"])
@pytest.mark.parametrize("depth", [1, 3])
def test_an_interrupt_that_is_still_to_come_when_the_lines_end(clocked, waits, depth):
    """Leaving does not take the task home while it has something to be told."""

    def main(clock):
        with contextlib.ExitStack() as stack:
            for _ in range(depth):
                stack.enter_context(netnet.timeout(5))
            if waits == "before":
                netnet.sleep(1)
            interrupt_soon(netnet.current_task())
            if waits == "after":
                with pytest.raises(KeyboardInterrupt):
                    netnet.sleep(1)
        if waits != "after":
            with pytest.raises(KeyboardInterrupt):
                netnet.sleep(1)
        settled()

    clocked(main)


def test_an_interrupt_and_the_deadline(clocked):
    """The interrupt is told first, and is not lost; the time is up at the next call."""

    def main(clock):
        with pytest.raises(TimeoutError), netnet.timeout(5):
            interrupt_soon(netnet.current_task())
            clock.advance(6)
            with pytest.raises(KeyboardInterrupt):
                netnet.sleep(1)
            netnet.sleep(1)
        settled()

    clocked(main)


def test_an_interrupt_leaves_a_scope_that_is_entered_after_it(clocked):
    def main(clock):
        interrupt_soon(netnet.current_task())
        with netnet.timeout(5), pytest.raises(KeyboardInterrupt):
            netnet.sleep(1)
        settled()

    clocked(main)


# -- sockets


def test_the_calls_written_out_for_speed(run, backend):
    """Each first call inside sets the timers, whether it waits or not."""

    def main():
        one, other = netnet.socketpair()
        with one, other:
            one.settimeout(None)
            for _ in range(3):
                with pytest.raises(TimeoutError), netnet.timeout(0.001):
                    one.recv(1)
                with netnet.timeout(5):
                    other.send(b"x")
                    assert one.recv(1) == b"x"
            with pytest.raises(TimeoutError), netnet.timeout(0.001):
                while True:
                    other.send(b"x")
                    one.recv(1)
            with pytest.raises(TimeoutError), netnet.timeout(0.001):
                one.sendall(bytes(10_000_000))
            settled_at_once()

    run(main)


def test_two_tasks_with_limits_take_turns(clocked):
    """Unarmed in one is not unarmed in the other."""

    def work(seconds):
        with pytest.raises(TimeoutError), netnet.timeout(seconds):
            for _ in range(3):
                netnet.sleep(0)
            netnet.sleep(100)
        return netnet.now()

    def main(clock):
        tasks = [netnet.spawn(work, seconds) for seconds in range(1, 20)]
        assert [task.result() for task in tasks] == list(range(1, 20))
        settled()

    clocked(main)


# -- at random

_steps = st.deferred(
    lambda: st.lists(
        st.one_of(
            st.tuples(st.just("timeout"), st.integers(0, 8), _steps),
            st.tuples(st.just("timeout at"), st.integers(0, 20), _steps),
            st.tuples(st.sampled_from(["shield", "cancel scope", "catch", "clean up"]), st.just(0), _steps),
            st.tuples(st.sampled_from(["busy", "sleep"]), st.integers(0, 6), st.just(())),
            st.tuples(st.just("calls"), st.integers(1, 3 * BUDGET), st.just(())),
            st.tuples(st.just("cancel"), st.integers(0, 5), st.just(())),
            st.tuples(st.just("reschedule"), st.integers(0, 30), st.just(())),
            st.tuples(st.just("eager"), st.integers(0, 3), st.just(())),
        ),
        max_size=4,
    )
)


class _Checked:
    """Runs a program of scopes and holds each of its steps against the rules, which it knows only from outside."""

    def __init__(self, clock):
        self.clock = clock
        self.line = []  #: the scopes around the present line, from the outside in
        self.asked = set()  #: those that ``cancel`` was called on
        self.event = netnet.Event()
        self.event.set()

    def effective(self):
        """The scopes that reach the present line, from the inside out."""
        found = []
        for scope in reversed(self.line):
            found.append(scope)
            if scope.shielded:
                break
        return found

    def overdue(self, scope):
        return isinstance(scope, netnet.Timeout) and scope.when() is not None and scope.when() <= self.clock.now()

    def deadline(self):
        return min(
            (
                scope.when()
                for scope in self.effective()
                if isinstance(scope, netnet.Timeout) and scope.when() is not None
            ),
            default=math.inf,
        )

    def cancelled(self):
        """Whether a wait has to be refused by now."""
        return any(scope in self.asked or (scope.cancelled and self.known(scope)) for scope in self.effective())

    def known(self, scope):
        return scope in self.asked or (isinstance(scope, netnet.Timeout) and scope.expired())

    def look(self):
        told = netnet.current_deadline()
        if any(self.known(scope) for scope in self.effective()):
            assert told == -math.inf
        else:
            assert told == self.deadline()

    def wait(self, seconds):
        """A sleep ends in time, or at the first deadline that reaches it, or at once where it is refused."""
        before, refused, deadline = self.clock.now(), any(map(self.known, self.effective())), self.deadline()
        try:
            netnet.sleep(seconds)
        except Cancelled:
            assert refused or deadline <= before + seconds
            assert self.clock.now() == (before if refused else max(before, deadline))
            assert any(map(self.known, self.effective()))
            raise
        assert not refused
        assert self.clock.now() == before + seconds
        assert seconds == 0 or deadline >= before + seconds

    def run(self, steps):
        for kind, number, inside in steps:
            self.look()
            getattr(self, "do_" + kind.replace(" ", "_"))(number, inside)
        self.look()

    def do_busy(self, number, inside):
        self.clock.advance(number)

    def do_sleep(self, number, inside):
        self.wait(number)

    def do_calls(self, number, inside):
        refused = any(map(self.known, self.effective()))
        for _ in range(number):
            try:
                self.event.wait()
            except Cancelled:
                assert any(map(self.known, self.effective()))
                raise
            assert not refused
        assert not (number > BUDGET + 1 and any(map(self.overdue, self.effective())))

    def do_cancel(self, number, inside):
        if self.line:
            scope = self.line[number % len(self.line)]
            scope.cancel()
            self.asked.add(scope)

    def do_reschedule(self, number, inside):
        for scope in reversed(self.line):
            if isinstance(scope, netnet.Timeout) and not scope.expired():
                scope.reschedule(number)
                return

    def do_eager(self, number, inside):
        netnet.spawn(self.clock.advance, number, eager=True)

    def do_catch(self, number, inside):
        with contextlib.suppress(TimeoutError, Cancelled):
            self.run(inside)

    def do_clean_up(self, number, inside):
        try:
            self.run(inside)
        finally:
            with self.entered(netnet.shield()):
                self.wait(1)

    def do_shield(self, number, inside):
        self.within(netnet.shield(), inside)

    def do_cancel_scope(self, number, inside):
        self.within(netnet.CancelScope(), inside)

    def do_timeout(self, number, inside):
        self.within(netnet.timeout(number), inside)

    def do_timeout_at(self, number, inside):
        self.within(netnet.timeout_at(number), inside)

    @contextlib.contextmanager
    def entered(self, scope):
        try:
            with scope:
                self.line.append(scope)
                yield
        finally:
            self.line.pop()

    def within(self, scope, inside):
        ended = error = None
        outside_before = list(self.line)
        try:
            with scope:
                self.line.append(scope)
                try:
                    self.run(inside)
                except BaseException as raised:
                    ended = raised
                    raise
        except BaseException as raised:
            error = raised
        finally:
            if self.line[len(outside_before) :]:
                self.line.pop()
        assert self.line == outside_before
        outer = scope.shielded is False and any(map(self.known, self.effective()))
        mine = self.known(scope) and isinstance(ended, Cancelled) and not outer
        if mine and isinstance(scope, netnet.Timeout) and scope.expired():
            assert type(error) is TimeoutError
            assert scope.when() <= self.clock.now()
        elif mine:
            assert error is None
        else:
            assert error is ended
        if error is not None:
            raise error


@settings(max_examples=300, deadline=None)
@given(_steps)
def test_random_scopes_keep_the_rules(steps):
    def main(clock):
        checked = _Checked(clock)
        with contextlib.suppress(TimeoutError):
            checked.run(steps)
        assert checked.line == []
        settled()

    clock = VirtualClock()
    netnet.run(main, clock, clock=clock)
