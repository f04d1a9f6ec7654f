"""What tasks coordinate with, between OS threads: several loops, threads without one, and what strikes at any moment: signal
handlers, finalizers, a fork. Nothing is lost, nothing is doubled, nobody is left waiting.

What Python may run between any two instructions (a signal's handler, a finalizer) is run on purpose at each place where
the interpreter looks for it: where a function begins, and where one in C returns. A profile function sees these."""

from __future__ import annotations

import gc
import math
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from types import SimpleNamespace

import pytest
from greenlet import getcurrent

import netnet
from netnet import (
    Barrier,
    CapacityLimiter,
    Channel,
    ChannelClosedError,
    Condition,
    Elapsed,
    Event,
    Lock,
    Queue,
    RLock,
    Semaphore,
    Sending,
    choose,
)
from netnet.runtime.lot import mutex
from netnet.runtime.queues import ShutDown
from netnet.testing import wait_all_parked
from tests.runtime.test_fork import in_child
from tests.runtime.test_sync import GIVES, Gives, _by_owner, each

#: the longest that any of these waits may take before it counts as hanging
PATIENCE_SECONDS = 10.0

ITEMS = 2000


@pytest.fixture
def hurried():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Company:
    """Threads that are waited for; what they raise is raised here."""

    def __init__(self):
        self.threads = []
        self.errors = []

    def start(self, function, *args):
        def work():
            try:
                function(*args)
            except BaseException as error:
                self.errors.append(error)

        thread = threading.Thread(target=work, daemon=True)
        self.threads.append(thread)
        thread.start()
        return thread

    def loop(self, function, *args):
        """A thread with a loop, whose main task is this."""

        def main():
            with netnet.timeout(PATIENCE_SECONDS):
                return function(*args)

        return self.start(netnet.run, main)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        until = time.monotonic() + PATIENCE_SECONDS
        for thread in self.threads:
            thread.join(max(0.0, until - time.monotonic()))
        if error is None:
            if self.errors:
                raise self.errors[0]
            assert not any(thread.is_alive() for thread in self.threads), "a thread is left waiting"


def until(condition):
    """Waits, in a thread without a loop, for what another thread does."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.0005)


# -- each kind of wait, between threads


@each
@pytest.mark.parametrize("waits", ["a task", "a thread"])
@pytest.mark.parametrize("gives", ["a task", "a thread"])
def test_given_from_another_thread(make, waits, gives):
    """Who waits and who gives are in two OS threads, each with a loop or without."""
    got, there = [], SimpleNamespace()

    def wait():
        there.gives.wait()
        got.append(1)

    def give():
        there.gives = make()
        made.set()
        end = time.monotonic() + PATIENCE_SECONDS
        while not there.gives.line() and time.monotonic() < end:
            netnet.sleep(0.0005) if gives == "a task" else time.sleep(0.0005)
        there.gives.give()

    made = threading.Event()
    with Company() as company:
        (company.loop if gives == "a task" else company.start)(give)
        made.wait(PATIENCE_SECONDS)
        (company.loop if waits == "a task" else company.start)(wait)
    assert got == [1]
    assert there.gives.left() == 0
    assert not there.gives.line()


TIMED = {name: row for name, row in GIVES.items() if name != "limiter" and not name.startswith("channel")}


@pytest.mark.parametrize("name", TIMED)
def test_a_timed_wait_in_a_thread(name):
    gives = GIVES[name][0]()
    if name != "rlock":
        got = []
        with Company() as company:
            company.start(lambda: got.append(gives.timed(0.01)))
        assert got == [False]
    assert not gives.line()
    gives.give()
    assert gives.left() == 1


@pytest.mark.parametrize("name", [name for name in TIMED if "lock" not in name])
def test_a_time_out_that_races_with_a_gift_from_a_thread(name, hurried):
    """Many rounds around the same instant: each gift is had, or it is left."""
    gives = GIVES[name][0]()
    rounds, got = 60, []
    if name.startswith("bounded") or "put" in name or "giving" in name:
        rounds = 1

    def waiter():
        got.extend(gives.timed(0.001) for _ in range(rounds))

    def giver():
        dice = random.Random(1)
        for _ in range(rounds):
            time.sleep(dice.random() * 0.002)
            gives.give()

    with Company() as company:
        company.start(waiter)
        company.start(giver)
    assert sum(got) + gives.left() == rounds
    assert not gives.line()


@pytest.mark.parametrize("name", [name for name in GIVES if "lock" not in name])
def test_a_cancellation_that_races_with_a_gift_from_a_thread(name, hurried):
    """The task is cancelled in its loop while another thread wakes it."""
    make = GIVES[name][0]
    go, rounds = Queue(), 40

    def giver():
        for _ in range(rounds):
            go.get(timeout=PATIENCE_SECONDS).give()
            back.put(None)

    def main():
        for _ in range(rounds):
            gives, got = make(), []
            task = netnet.spawn(lambda gives=gives, got=got: (gives.wait(), got.append(1)))
            netnet.sleep(0)
            go.put(gives)
            for _ in range(dice.randrange(40)):
                pass
            task.cancel()
            back.get()
            task.join()
            assert len(got) + gives.left() == 1
            assert not gives.line()

    back, dice = Queue(), random.Random(2)
    with Company() as company:
        company.start(giver)
        company.loop(main)


# -- items, each exactly once


def _share_out(put, take, end):
    """3 loops and 2 threads, all of which put and take; returns what was taken."""
    got, numbers = [[] for _ in range(5)], [range(who, ITEMS, 5) for who in range(5)]
    left = [5]
    guard = threading.Lock()

    def give(who):
        for number in numbers[who]:
            put(number)
        with guard:
            left[0] -= 1
            if not left[0]:
                end()

    def have(who):
        while (number := take()) is not None:
            got[who].append(number)

    def main(who):
        with netnet.TaskGroup() as group:
            group.spawn(give, who)
            for _ in range(3):
                group.spawn(have, who)

    with Company() as company:
        for who in range(3):
            company.loop(main, who)
        for who in (3, 4):
            company.start(give, who)
            company.start(have, who)
    return [number for part in got for number in part]


@pytest.mark.parametrize("capacity", [0, 1, 16, math.inf])
def test_each_item_of_a_channel_once(hurried, capacity):
    channel = Channel(capacity)

    def take():
        try:
            return channel.receive()
        except ChannelClosedError:
            return None

    got = _share_out(channel.send, take, channel.close)
    assert Counter(got) == Counter(range(ITEMS))
    assert not (channel.items)
    assert not (channel.takers)
    assert not (channel.givers)


@pytest.mark.parametrize("size", [1, 0])
@pytest.mark.parametrize("kind", [netnet.Queue, netnet.LifoQueue, netnet.PriorityQueue])
def test_each_item_of_a_queue_once(hurried, kind, size):
    line = kind(size)

    def take():
        try:
            item = line.get()
        except ShutDown:
            return None
        line.task_done()
        return item

    got = _share_out(line.put, take, line.shutdown)
    assert Counter(got) == Counter(range(ITEMS))
    assert (line.qsize(), line.unfinished_tasks) == (0, 0)
    line.join()


@pytest.mark.parametrize("capacity", [0, 2])
def test_each_item_once_by_choices_on_both_sides(hurried, capacity):
    """Whoever gives or takes chooses among three channels; some give up now and then."""
    channels, stop = [Channel(capacity) for _ in range(3)], Event()

    def put(number):
        cases = [Sending(channel, number) for channel in channels]
        while choose(*cases, Elapsed(0.0005)).which == 3:
            pass

    def take():
        while True:
            which, item = choose(*channels, stop, Elapsed(0.001))
            if which < 3:
                return item
            if which == 3 and not any(len(channel) for channel in channels):
                return None

    got = _share_out(put, take, stop.set)
    got += [item for channel in channels for item in channel.items]
    assert Counter(got) == Counter(range(ITEMS))
    assert not any(channel.takers or channel.givers for channel in channels)


# -- one at a time


@pytest.mark.parametrize("make", [Lock, RLock, Condition, lambda: Semaphore(1), lambda: CapacityLimiter(1)])
def test_one_at_a_time_across_loops(hurried, make):
    lock, counter, rounds = make(), [0], 60

    def work():
        for _ in range(rounds):
            with lock:
                value = counter[0]
                for _ in range(10):
                    pass
                counter[0] = value + 1

    def main():
        with netnet.TaskGroup() as group:
            for _ in range(3):
                group.spawn(work)

    with Company() as company:
        for _ in range(3):
            company.loop(main)
        for _ in range(2):
            company.start(work)
    assert counter == [11 * rounds]


def test_a_condition_across_loops(hurried):
    condition, stock, got = Condition(), [], []

    def consume(count):
        for _ in range(count):
            with condition:
                condition.wait_for(lambda: stock)
                got.append(stock.pop())

    def produce():
        for number in range(120):
            with condition:
                stock.append(number)
                condition.notify()

    with Company() as company:
        company.loop(consume, 40)
        company.loop(consume, 40)
        company.start(consume, 40)
        company.start(produce)
    assert sorted(got) == list(range(120))


def test_a_barrier_across_loops(hurried):
    barrier, got, rounds = Barrier(5), [], 30

    def work():
        got.extend((turn, barrier.wait()) for turn in range(rounds))

    def main():
        with netnet.TaskGroup() as group:
            group.spawn(work)
            group.spawn(work)

    with Company() as company:
        company.loop(main)
        company.loop(main)
        company.start(work)
    assert Counter(got) == Counter((turn, number) for turn in range(rounds) for number in range(5))


def test_first_come_first_served_across_threads():
    """A task, a thread, a task of another loop, and again: in the order in which they stood in line."""
    semaphore, order, company = Semaphore(0), [], Company()

    def work(name):
        semaphore.acquire()
        order.append(name)
        semaphore.release()

    with company:
        for number in range(8):
            (company.loop if number % 2 else company.start)(work, number)
            until(lambda number=number: len(semaphore._lot.waiting) == number + 1)
        semaphore.release()
    assert order == list(range(8))


@pytest.mark.parametrize("where", ["a thread", "another loop"])
def test_the_end_of_a_task_seen_from_elsewhere(hurried, where):
    """``choose`` waits for tasks of other threads' loops, too."""
    tasks, told = Channel(), []

    def watch():
        told.extend(choose(task, Elapsed(PATIENCE_SECONDS)).which for task in tasks)

    def main():
        for number in range(60):
            task = netnet.spawn(lambda number=number: [netnet.sleep(0) for _ in range(number % 5)])
            tasks.send(task)
        tasks.close()

    with Company() as company:
        company.loop(main)
        (company.start if where == "a thread" else company.loop)(watch)
    assert told == [0] * 60


# -- signal handlers and finalizers, at each place where they can strike


def _event_gives():
    event = Event()
    return Gives(event.wait, event.set, lambda: int(event.is_set()))


#: what may be called in a signal handler or a finalizer, and what waits for it
STRIKES = {
    name: GIVES[name][0] for name in ("semaphore", "bounded semaphore", "limiter", "channel, receive", "choose, taking")
}
STRIKES["event"] = _event_gives
strikes = pytest.mark.parametrize("make", STRIKES.values(), ids=STRIKES)


def strike(at, action, function):
    """Calls *function*, and *action* at the place number *at* where a handler can run in netnet's own lines before the call
    is through, or waits; whether there was such a place."""
    places = [0]
    me = getcurrent()

    def look(frame, event, argument):
        if getcurrent() is not me or (event == "call" and frame.f_code.co_name == "go_on"):
            sys.setprofile(None)
        elif event in ("call", "c_return") and frame.f_globals.get("__name__", "").startswith("netnet.runtime"):
            if places[0] == at:
                sys.setprofile(None)
                action()
            places[0] += 1

    sys.setprofile(look)
    try:
        function()
    finally:
        sys.setprofile(None)
    return places[0] > at


@strikes
def test_a_gift_that_strikes_while_somebody_begins_to_wait(make):
    """Wherever the handler strikes: it has given one, so the wait ends."""
    hung = []

    def main():
        for place in range(200):
            gives, got, struck = make(), [], []

            def give(gives=gives, struck=struck):
                struck.append(1)
                gives.give()

            def work(place=place, gives=gives, got=got, give=give):
                strike(place, give, gives.wait)
                got.append(1)

            task = netnet.spawn(work)
            wait_all_parked()
            if not struck:
                gives.give()
                task.result()
                return
            if not task.done:
                hung.append(place)
                task.cancel()
                task.join()

    netnet.run(main)
    assert hung == []


@strikes
@pytest.mark.parametrize("waiters", [0, 1, 3])
def test_a_gift_that_strikes_in_a_gift(make, waiters):
    """Two were given: neither is lost."""
    wrong = []

    def main():
        for place in range(200):
            gives, got, struck = make(), [], []
            tasks = [netnet.spawn(lambda gives=gives, got=got: (gives.wait(), got.append(1))) for _ in range(waiters)]
            wait_all_parked()

            def give(gives=gives, struck=struck):
                struck.append(1)
                gives.give()

            strike(place, give, gives.give)
            wait_all_parked()
            if struck:
                if make is _event_gives:
                    if len(got) < waiters or not gives.left():
                        wrong.append(place)
                elif len(got) + gives.left() != 2 or len(got) != min(2, waiters):
                    wrong.append(place)
            for task in tasks:
                task.cancel()
            if not struck:
                return

    netnet.run(main)
    assert wrong == []


@pytest.mark.parametrize("capacity", [1, 2])
def test_a_channel_holds_no_more_than_its_capacity_when_struck(capacity):
    most = []
    for place in range(100):
        channel, struck = Channel(capacity), []
        while len(channel) < capacity - 1:
            channel.send_now(0)

        def give(channel=channel, struck=struck):
            struck.append(1)
            channel.send_now(1)

        strike(place, give, lambda channel=channel: channel.send_now(2))
        if not struck:
            break
        most.append(len(channel))
    assert max(most) == capacity


def test_a_signal_handler_wakes_an_idle_loop():
    """With nothing else to do for a thousand seconds."""
    event, channel = Event(), Channel(math.inf)

    def handler(*_):
        event.set()
        channel.send_now("struck")

    def main():
        netnet.after(1000, int).cancel()
        with netnet.timeout(1000):
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            assert choose(channel, Elapsed(PATIENCE_SECONDS)) == (0, "struck")
            assert event.wait(PATIENCE_SECONDS)

    before = signal.signal(signal.SIGUSR1, handler), signal.getitimer(signal.ITIMER_REAL)
    alarm = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGUSR1))
    try:
        netnet.run(main)
    finally:
        signal.signal(signal.SIGUSR1, before[0])
        signal.signal(signal.SIGALRM, alarm)
        signal.setitimer(signal.ITIMER_REAL, *before[1])


class OneMoreLook:
    """A real clock that calls a function when the loop asks it for the time just before it waits for events, which is
    where the collector, too, may run a finalizer."""

    jumps = False

    def __init__(self):
        self.strike = None

    def now(self):
        if self.strike is not None and sys._getframe(1).f_code.co_name == "run_turns":
            caller = sys._getframe(1).f_locals
            if "instant" in caller and not caller["ready"]:
                strike, self.strike = self.strike, None
                strike()
        return time.monotonic()

    def jump_to(self, instant):
        raise NotImplementedError


def test_a_finalizer_that_strikes_right_before_the_loop_waits():
    """The loop has seen that nothing is ready; then a finalizer wakes a task, and nothing else will come."""
    clock = OneMoreLook()

    def main():
        event, begun = Event(), time.monotonic()

        def arm():
            clock.strike = event.set

        timer = netnet.after(0.7, int)
        netnet.spawn(arm)
        event.wait()
        took = time.monotonic() - begun
        timer.cancel()
        return took

    assert netnet.run(main, clock=clock) < 0.5


class Finalized:
    """Part of a cycle, so that the collector finds it whenever it runs."""

    def __init__(self, action):
        self.me = self
        self.action = action

    def __del__(self):
        self.action()


def test_finalizers_that_send_at_any_moment(hurried):
    """Garbage in three threads; the collector runs finalizers wherever it strikes."""
    channel, semaphore, made, got = Channel(math.inf), Semaphore(0), 300, []
    before = gc.get_threshold()

    def litter():
        for number in range(made):
            Finalized(lambda number=number: (channel.send_now(number), semaphore.release()))
            [[] for _ in range(5)]
            netnet.checkpoint()

    def main():
        with netnet.TaskGroup() as group:
            group.spawn(litter)
            for _ in range(made):
                semaphore.acquire(timeout=0.001)

    def receive():
        while (item := channel.receive()) is not None:
            got.append(item)

    try:
        gc.set_threshold(50, 2, 2)
        with Company() as company:
            reader = company.loop(receive)
            company.start(litter)
            company.loop(main)
            for thread in company.threads:
                if thread is not reader:
                    thread.join(PATIENCE_SECONDS)
            gc.set_threshold(*before)
            gc.collect()
            channel.send_now(None)
    finally:
        gc.set_threshold(*before)
    assert Counter(got) == Counter([*range(made), *range(made)])


#: not those who give: what somebody has taken from them is not lost, and cannot be taken back
@pytest.mark.parametrize(
    "name", [n for n in GIVES if "lock" not in n and n.split()[-1] not in ("send", "put", "giving")]
)
def test_ctrl_c_in_a_thread_without_a_loop_at_the_moment_of_the_gift(name):
    """A handler gives, and then raises: what the interrupted wait was handed is not lost with it."""
    gives, got, release = GIVES[name][0](), [], threading.Event()

    def handler(*_):
        gives.give()
        raise KeyboardInterrupt

    before, timer = signal.signal(signal.SIGALRM, handler), signal.getitimer(signal.ITIMER_REAL)
    with Company() as company:
        company.start(release.wait, PATIENCE_SECONDS)
        company.start(_alarm_when, gives.line)
        try:
            gives.wait()
            got.append(1)
        except KeyboardInterrupt:
            pass
        finally:
            signal.signal(signal.SIGALRM, before)
            signal.setitimer(signal.ITIMER_REAL, *timer)
            release.set()
    assert len(got) + gives.left() == 1
    assert not gives.line()


def _alarm_when(line):
    until(line)
    time.sleep(0.01)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)


def test_ctrl_c_in_a_thread_without_a_loop_that_was_just_given_a_lock():
    """Either it has the lock and knows, or the lock is free."""
    lock, release, released = Lock(), threading.Event(), threading.Event()
    owned = []

    def holder():
        with lock:
            release.wait(PATIENCE_SECONDS)
        released.set()

    def handler(*_):
        release.set()
        released.wait(PATIENCE_SECONDS)
        raise KeyboardInterrupt

    before, timer = signal.signal(signal.SIGALRM, handler), signal.getitimer(signal.ITIMER_REAL)
    with Company() as company:
        company.start(holder)
        until(lock.locked)
        company.start(_alarm_when, lambda: lock._lot.waiting)
        try:
            with lock:
                owned.append(1)
        except KeyboardInterrupt:
            pass
        finally:
            signal.signal(signal.SIGALRM, before)
            signal.setitimer(signal.ITIMER_REAL, *timer)
            release.set()
    assert not lock.locked()


# -- programs of their own: they would hang


def program(body):
    """Runs *body* and returns what it printed; fails when it hangs."""
    source = textwrap.dedent(body)
    try:
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=3)
    except subprocess.TimeoutExpired:
        pytest.fail("it hangs")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ctrl_c_while_a_thread_takes_the_lock_of_a_condition_again():
    assert (
        program(
            """
            import signal, threading, time, netnet
            condition = netnet.Condition()
            release, released = threading.Event(), threading.Event()

            def holder():
                with condition:
                    condition.notify()
                    release.wait()
                released.set()

            def handler(*_):  # the lock is handed over while this runs
                release.set()
                released.wait()
                raise KeyboardInterrupt

            def alarm():
                while not condition.lock._lot.waiting:
                    time.sleep(0.001)
                time.sleep(0.01)
                signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

            signal.signal(signal.SIGALRM, handler)
            try:
                with condition:
                    for target in (holder, alarm):
                        threading.Thread(target=target).start()
                    condition.wait()
            except KeyboardInterrupt:
                print("interrupted", condition.lock.locked())
            """
        )
        == "interrupted False\n"
    )


def test_a_finalizer_while_its_thread_wakes_a_loop():
    """It sets an event while its own thread is handing something to a loop, which another thread wakes just then."""
    assert (
        program(
            """
            import sys, threading, time, netnet

            event, other, ready = netnet.Event(), netnet.Event(), threading.Event()
            loops = []

            def main():
                loops.append(netnet.current_loop())
                ready.set()
                event.wait()

            def setter():
                event.set()  # has the mutex, and wants to wake the loop

            def offload():
                def look(frame, event, argument):
                    if event == "c_return" and argument.__name__ == "append" and frame.f_code.co_name == "call_from_thread":
                        sys.setprofile(None)
                        threads[2].start()
                        end = time.monotonic() + 0.3
                        while time.monotonic() < end:
                            time.sleep(0.001)
                        other.set()  # the finalizer
                sys.setprofile(look)
                netnet.from_thread.run_soon(int, loop=loops[0])
                sys.setprofile(None)
                if not threads[2].ident:  # there was no such place
                    threads[2].start()

            threads = [threading.Thread(target=function, args=args, daemon=True)
                       for function, args in ((netnet.run, (main,)), (offload, ()), (setter, ()))]
            threads[0].start()
            ready.wait()
            time.sleep(0.05)
            threads[1].start()
            for thread in threads[:2]:
                thread.join()
            threads[2].join()
            print("through")
            """
        )
        == "through\n"
    )


#: who waits for whom, of the main thread (in a task or not) and one that ``threading`` does not know
BARE = {
    "a task waits for it": "_thread.start_new_thread(give, ()); netnet.run(wait)",
    "a thread waits for it": "_thread.start_new_thread(give, ()); wait()",
    "it waits": "_thread.start_new_thread(wait, ()); give()",
}


@pytest.mark.parametrize("lines", BARE.values(), ids=BARE)
def test_threads_that_threading_does_not_know(lines):
    """Those of ``_thread`` and of C libraries: they can wake, and be woken. ``threading`` goes on listing those that it
    has been asked about, so each is tried in a program of its own, and is not listed afterwards."""
    body = f"""
        import _thread, threading, time, netnet
        event, back = netnet.Event(), _thread.allocate_lock()
        back.acquire()

        def give():
            while not event.lot.waiting and not told:
                time.sleep(0.001)
            time.sleep(0.01)
            event.set()

        def wait():
            try:
                told.append(event.wait())
            except BaseException as error:
                told.append(error)
            back.release()

        told = []
        {lines}
        back.acquire()
        while _thread._count():
            time.sleep(0.001)
        print(told, threading.active_count())
        """
    assert program(body) == "[True] 1\n"


def test_a_thread_that_threading_does_not_know_and_that_has_ended():
    """``threading`` goes on listing it when it has asked who it is (as ``logging`` does): that is nobody who could wake one."""
    assert (
        program(
            """
            import _thread, threading, netnet
            done = threading.Lock()
            done.acquire()
            _thread.start_new_thread(lambda: (threading.current_thread(), done.release()), ())
            done.acquire()
            while _thread._count():
                pass
            try:
                netnet.run(netnet.Event().wait)
            except netnet.DeadlockError:
                print("told")
            """
        )
        == "told\n"
    )


# -- fork


@each
@pytest.mark.parametrize("who", ["a thread", "a task"])
def test_in_the_child_nobody_of_the_parent_stands_in_line(make, who):
    """What is given in the child goes to those who are there, not to a thread or a task that only the parent has."""
    gives = make()
    waiting = [gives.wait]
    if _by_owner(make):
        waiting = [lambda: gives.timed(PATIENCE_SECONDS) and gives.give()]

    def child():
        gives.give()
        assert gives.left() == 1
        if not _by_owner(make):
            gives.wait()
            assert gives.left() == 0

    if who == "a thread":
        with Company() as company:
            company.start(waiting[0])
            until(lambda: len(gives.line()) > 0)
            try:
                status = in_child(child)
            finally:
                gives.give()
    else:
        status = netnet.run(_fork_beside_a_task, make, child)
    assert status == 0


def _fork_beside_a_task(make, child):
    gives = make()
    task = netnet.spawn(gives.wait)
    wait_all_parked()

    def in_it():
        gives.give()
        assert gives.left() == 1

    try:
        return in_child(in_it)
    finally:
        task.cancel()


def test_a_fork_while_other_threads_are_in_the_middle(hurried):
    """The child has none of them; what they were in the middle of does not lock it up."""
    channel, semaphore, stop = Channel(1), Semaphore(1), threading.Event()

    def work():
        while not stop.is_set():
            channel.send_now(1)
            choose(channel, Elapsed(0))
            with semaphore:
                pass

    def child():
        mine = Channel(1)
        mine.send(1)
        assert mine.receive() == 1
        event = Event()

        def main():
            netnet.spawn(event.set)
            event.wait()
            line = Queue()
            netnet.spawn(line.put, 7)
            assert line.get() == 7

        netnet.run(main)
        channel.send_now(2)
        assert choose(channel, Elapsed(0)).which == 0

    with Company() as company:
        for _ in range(2):
            company.start(work)
        try:
            statuses = [in_child(child) for _ in range(12)]
        finally:
            stop.set()
    assert statuses == [0] * 12


def test_a_fork_while_another_thread_has_the_mutex():
    held, release = threading.Event(), threading.Event()

    def hold():
        with mutex:
            held.set()
            release.wait(PATIENCE_SECONDS)

    def child():
        event = Event()
        event.set()
        assert event.wait()

    with Company() as company:
        company.start(hold)
        held.wait(PATIENCE_SECONDS)
        timer = threading.Timer(0.1, release.set)  # for a fork that waits until the lines are through
        timer.start()
        try:
            assert in_child(child) == 0
        finally:
            release.set()
            timer.join()


# -- the end of a loop


def test_waking_a_task_of_a_loop_that_has_just_ended(hurried):
    """Loops come and go, with tasks whose waits are cut short, while a thread gives: each gift is had or left."""
    channel, got, sent, stop = Channel(math.inf), [], [0], threading.Event()

    def giver():
        while not stop.is_set():
            channel.send_now(sent[0])
            sent[0] += 1
            time.sleep(0)
            if len(channel) > 50:
                time.sleep(0.001)

    def main():
        def work():
            while True:
                got.append(channel.receive())

        tasks = [netnet.spawn(work) for _ in range(3)]
        netnet.sleep(0.001)
        for task in tasks:
            task.cancel()

    with Company() as company:
        company.start(giver)
        for _ in range(25):
            netnet.run(main)
        stop.set()
    got += channel.items
    assert Counter(got) == Counter(range(sent[0]))
    assert not channel.takers


def test_the_helpers_of_this_file_fail_where_they_should():
    with pytest.raises(KeyError), Company() as company:
        company.start({}.__getitem__, "x")
    with pytest.raises(KeyError), Company() as company:
        company.loop({}.__getitem__, "x")
