"""The loop: one OS thread, one poller, many tasks. It runs in the greenlet that called ``run``.

A turn is: wake what is ready, handle signals, poll (without waiting when something is ready), wake what the events
woke, fire timers. Tasks that wait for a descriptor are switched to straight from the event, without a queue in between;
all others go through ``ready``. What the loop wakes is a *waiter*: anything with a ``switch`` method, a worker or a
small object that does its work in the loop itself and must not block.

Not here: what a task is (``task``), what a descriptor's flags mean (``descriptor``), signals (``signals``).
"""

from __future__ import annotations

import _thread
import os
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from greenlet import GreenletExit, getcurrent

from netnet import poller as pollers
from netnet.errors import Cancelled, DeadlockError, UsageError
from netnet.poller.contract import READABLE, UNUSUAL, WRITABLE
from netnet.runtime.clock import Clock, MonotonicClock
from netnet.runtime.company import YOUNG_SECONDS, others_alive, strangers
from netnet.runtime.counters import Counters
from netnet.runtime.descriptor import Descriptor
from netnet.runtime.instruments import Instruments
from netnet.runtime.lot import mutex
from netnet.runtime.scope import Scope
from netnet.runtime.task import Failure, Household, Task, log
from netnet.runtime.timers import Timers
from netnet.runtime.worker import Place, Waiter, Worker, running, throw_later

if TYPE_CHECKING:
    from netnet.runtime.sync import CapacityLimiter

T = TypeVar("T")

#: consecutive calls that a task may make without waiting before it has to let the others run; low enough to keep the
#: others' delay below a millisecond (64 calls of a few microseconds), high enough to cost nothing
BUDGET: Final = 64

_READ_WRITE: Final = READABLE | WRITABLE

#: workers that the pool keeps for the next tasks; each holds some 6 kB
POOL_MAX: Final = 1024

#: the longest single wait for events; kernels count milliseconds in 31 bits
WAIT_SECONDS_MAX: Final = 3600.0

#: so many are continued before the loop looks for events and timers again (or as many as are ready, if that is more): a
#: look costs as much as several short steps, and what comes in waits no longer than for one task with all of its budget
SHARE: Final = 64

#: a busy loop lets other OS threads have the interpreter after so long, for so long. It gives it up in each look for
#: events, but so shortly that none of them is quick enough; and each such moment has them begin to count anew what they
#: are prepared to wait (``sys.getswitchinterval``)
ALONE_SECONDS: Final = 0.005
YIELD_SECONDS: Final = 0.00005

#: how often a loop whose tasks all wait for each other looks whether there are still other OS threads
LOOK_AGAIN_SECONDS: Final = 1.0

#: refusals in a row after which a task that swallows ``Cancelled`` is reported
REFUSALS_MAX: Final = 100


class Background(Protocol):
    """Work without a task, which the end of the run ends."""

    def abort(self, reason: str = ...) -> None: ...


class Call:
    """A waiter that calls a function in the loop."""

    __slots__ = ("switch",)

    def __init__(self, function: Callable[[], object]) -> None:
        self.switch = function


class RootGroup(Household):
    """The group of the tasks made with ``spawn``, and of the main task."""

    __slots__ = ("loop",)

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self.loop = loop

    #: it belongs to no task, so cancelling it interrupts nothing but what is below
    @property
    def owner(self) -> RootGroup:  # type: ignore[override]
        return self

    scope = None

    def child_failed(self, task: Task[object], error: BaseException) -> None:
        if task is self.loop.main:
            return
        if isinstance(error, Exception):
            task.failure = Failure(task.name, error)
            self.loop.failures.add(task.failure)
        elif not isinstance(error, GreenletExit):
            self.loop.shut_down(error)


class Loop:
    """One thread's scheduler. Made by ``netnet.run``; one at a time in a thread."""

    def __init__(
        self,
        clock: Clock | None = None,
        poller: str | pollers.Sharing | None = None,
        *,
        threads: bool = True,
        instruments: Instruments | None = None,
    ) -> None:
        self.clock: Clock = clock or MonotonicClock()
        #: whether OS threads may be started for calls that block
        self.threads = threads
        #: who is told what happens; None, and so without cost, as a rule
        self.instruments = instruments
        if instruments is not None:
            instruments.loop = self
        self.counters = Counters()
        #: when the present turn began; the time that is good enough for reports
        self.turned = self.clock.now()
        #: when it last waited, or let other OS threads have the interpreter
        self.waited = self.turned
        #: turns are to end with the present one
        self.halted = False
        self.poller = pollers.create(poller)
        self.timers = Timers()
        #: waiters to be woken in the next turn, first come first served
        self.ready: deque[Waiter] = deque()
        #: the same, from other OS threads and signal handlers
        self.foreign: deque[Waiter] = deque()
        #: descriptor number → its state; holds no socket
        self.descriptors: dict[int, Descriptor] = {}
        self.hub = getcurrent()
        self.switch_to_hub = self.hub.switch
        self.thread_ident = threading.get_ident()
        #: calls that the running task may still make without waiting; 0 while it is cancelled, so that its next call
        #: asks first. (A task that an event wakes is not: cancelling takes it away from where it waits.)
        self.credit = BUDGET
        self.alive = 0  #: tasks that have not ended
        self.parked = 0  #: of these, how many wait for other tasks only
        self.outside: set[object] = set()  #: work in OS threads that will wake a task
        self.limiter: CapacityLimiter | None = None  #: of such work; made when it is first needed (``threads``)
        self.relays: set[Background] = set()  #: work without a task that is under way
        #: numbers of the signals that came in since the last turn, and who takes them (``signals``)
        self.signals: deque[int] = deque()
        self.take_signals: Callable[[], object] = self.signals.clear
        self.stop_listening: Callable[[], object] = self.signals.clear
        self.poll_failed: Callable[[BaseException], object] = _raise
        self.expecting = 0  #: how many are open that a signal may wake
        #: who ends in good order first when the run is to end, and what then ends it
        self.drains: dict[object, Callable[[], object]] = {}
        self.terminating: BaseException | None = None
        self.failures: weakref.WeakSet[Failure] = weakref.WeakSet()
        self.fatal: BaseException | None = None
        self.main: Task[object] | None = None
        self.root = RootGroup(self)
        self.closed = False
        _loops.add(self)
        self.quiet = True  #: the last poll brought no event
        #: what is to be started before anything else, who has asked for it, and what is left of his budget
        self.urgent: tuple[Task[Any], Worker, int] | None = None
        self.share = 0  #: so many may be continued in this turn, in all
        self.left = 0  #: so many may still be continued in this turn, before the next look for events
        self._pool: list[Worker] = []
        #: the events of this turn that are still to be looked at, last one first
        self._batch: list[tuple[int, int]] = []

    # -- tasks and their workers

    def hire(self) -> Worker:
        """A worker with nothing to do."""
        return self._pool.pop() if self._pool else Worker(self)

    def retire(self, worker: Worker) -> bool:
        """Takes a worker back, with nothing left of its last task; false when there are enough."""
        if worker.interrupt is not None:  # it came too late to be raised in the task
            self.shut_down(worker.interrupt)
            worker.interrupt = None
        worker.home = self
        worker.waiting = None
        worker.refusals = 0
        worker.gr_context = None
        del worker.task
        if len(self._pool) >= POOL_MAX or self.closed:
            return False
        self._pool.append(worker)
        return True

    def park(self, worker: Worker, place: Place) -> None:
        """Waits at *place* until another task wakes the worker. The caller has asked ``worker.home`` before."""
        worker.waiting = place
        worker.since = self.turned
        if worker.home is not self:
            worker.task.arm()
        self.parked += 1
        try:
            self.go_on()
        finally:
            self.parked -= 1

    def rest(self, worker: Worker, place: Place) -> None:
        """Waits at *place* for what comes from outside: an event, a time, another thread."""
        worker.waiting = place
        worker.since = self.turned
        if worker.home is not self:
            worker.task.arm()
        self.go_on()

    def go_on(self) -> None:
        """Leaves the running worker, which is where it is to be found again, for whoever is next.

        In the usual case, when a task that is ready in this turn is next, it is switched to straight from here: one
        switch instead of two. In every other case the hub takes over.
        """
        if self.left > 0 and self.ready:  # a signal may strike in the middle of counting down: then it is -1
            first: Any = self.ready[0]
            kind = type(first)
            # a worker that is yet to be made is made by the hub, whose depth of recursion it inherits
            if kind is Worker or (kind is Task and self._pool):
                self.ready.popleft()
                self.left -= 1
                if kind is Task:
                    self.credit = BUDGET
                    worker = first.man()
                else:
                    worker = first
                    self.credit = BUDGET if worker.home is self else 0
                del first  # this frame may stand for long, and must not keep a task
                worker.switch()
                return
        self.switch_to_hub()

    def refuse(self, worker: Worker) -> None:
        """Called where a worker is not at home: raises what it has to be told, if there is something."""
        if worker.loop is not self:
            raise UsageError("this belongs to the loop of another thread")
        if worker.interrupt is not None:
            error, worker.interrupt = worker.interrupt, None
            worker.task.enter(worker.task.scope)
            raise error
        if not worker.task.scope.cancelled:  # it is only not guarded in time yet: see ``Timeout``
            return
        worker.refusals += 1
        if worker.refusals > REFUSALS_MAX:
            if worker.refusals == REFUSALS_MAX + 1:
                stack = "".join(traceback.format_stack(worker.gr_frame))
                log.warning(
                    "task %s is cancelled (%s) but goes on: it has swallowed Cancelled %d times\n%s",
                    worker.task.name,
                    worker.task.scope.why(),
                    REFUSALS_MAX,
                    stack,
                )
            self.step_aside(worker)
        raise Cancelled(worker.task.scope.why())

    def begin_at_once(self, task: Task[Any]) -> None:
        """Starts a new task before anything else; the caller goes on as soon as that one waits, or has ended.

        The hub starts it, since a worker inherits the depth of recursion where it begins. It has what is left of the
        caller's budget, so that tasks that start each other do not keep all others waiting.
        """
        worker: Any = getcurrent()
        if worker.home is not self:
            worker.task.arm()
        if self.credit <= 0:
            self.step_aside(worker)
        worker.waiting = None
        self.urgent = (task, worker, max(0, self.credit - 1))
        self.switch_to_hub()

    def begin_urgent(self) -> None:
        """In the hub: starts the task of ``begin_at_once``, and continues its caller.

        Meanwhile nobody is handed over to: who lets go comes back here.
        """
        batch, self._batch = self._batch, []
        left, self.left = self.left, 0
        callers: list[tuple[Worker, int]] = []
        while True:
            if self.urgent is not None:
                task, caller, credit = self.urgent
                self.urgent = None
                callers.append((caller, credit))
                self.credit = credit
                next_one = task.man()
                del task
            elif callers:
                next_one, credit = callers.pop()
                self.credit = credit if next_one.home is self else 0
            else:
                break
            self.counters.switches += 1
            next_one.switch()
        self._batch = batch
        self.left = left

    def cut_turn(self) -> None:
        """Has the loop look for events and signals as soon as the running task lets go."""
        self.share -= self.left
        self.left = 0

    def step_aside(self, worker: Worker) -> None:
        """Lets all others run once; cannot be cancelled."""
        worker.waiting = None
        if worker.home is not self:
            worker.task.arm()
        self.ready.append(worker)
        self.go_on()

    def checkpoint(self, worker: Worker) -> None:
        """Asks whether the worker may go on, and lets the others run when it has used up its budget.

        The beginning of each call that may turn out not to wait. Raises ``Cancelled``.
        """
        if worker.home is not self:
            self.refuse(worker)
        if self.credit > 0:
            self.credit -= 1
        else:
            self.step_aside(worker)
            if worker.home is not self:  # cancelled while the others ran
                self.refuse(worker)

    def interrupt(self, worker: Worker, error: Callable[[], BaseException]) -> bool:
        """Ends the worker's wait with ``error()``; false for one that is not waiting, to which nothing happens."""
        place = worker.waiting
        if place is not None and place.forget(worker):
            throw_later(worker, error())
            return True
        if worker is getcurrent():
            self.credit = 0
        return False

    # -- the end

    def shut_down(self, error: BaseException | None = None) -> None:
        """Cancels everything; ``run`` then raises *error* (the first one given)."""
        if self.fatal is None:
            self.fatal = error
        self.root.cancel("the run was stopped" if error is None else f"the run was stopped: {error!r}")
        self.abort_relays()

    def terminate(self, error: BaseException) -> None:
        """Ends the run by *error*, after those have ended in good order who asked for it. The second time, at once."""
        if self.drains and self.terminating is None:
            self.terminating = error
            for drain in tuple(self.drains.values()):
                drain()
        else:
            self.shut_down(error)

    def forget_drain(self, who: object) -> None:
        """*who* need not be waited for any more."""
        if self.drains.pop(who, None) is not None and not self.drains and self.terminating is not None:
            self.shut_down(self.terminating)

    def abort_relays(self) -> None:
        for relay in tuple(self.relays):
            relay.abort("the run was stopped")

    def call_soon(self, function: Callable[[], object]) -> None:
        """Calls *function* in the loop's next turn. It must not block."""
        self.ready.append(Call(function))

    def call_from_thread(self, waiter: Waiter) -> bool:
        """Wakes *waiter* from any OS thread; false after the run: nothing will happen any more."""
        with mutex:  # so that it is not closed meanwhile
            if self.closed:
                return False
            self.foreign.append(waiter)
            self.poller.wake()
            return True

    # -- turns

    def run_turns(self, *, once: bool = False) -> None:
        """Runs turns until no task and no relay is left, or ``halted`` says so, or one turn if *once*."""
        ready, timers, signals, foreign = self.ready, self.timers, self.signals, self.foreign
        heap, descriptors, counters = timers.heap, self.descriptors, self.counters
        wait = self.poller.wait if self.instruments is None else self.instruments.around(self.poller.wait)
        now, jumps = self.clock.now, self.clock.jumps
        timeout: float | None
        suspected = False
        while self.alive or self.relays or ready or foreign:
            count = counters.ready = len(ready)
            if count > counters.ready_max:
                counters.ready_max = count
            self.left = self.share = count if jumps or once or count > SHARE else SHARE
            while self.left > 0 and ready:
                self.left -= 1
                first = ready.popleft()
                self.credit = BUDGET
                if type(first) is Worker:
                    if first.home is not self:
                        self.credit = 0
                elif type(first) is Task:
                    first = first.man()  # and no longer a reference to the task, in a frame that may stand for long
                first.switch()
                if self.urgent is not None:
                    self.begin_urgent()
            woken = self.share - self.left
            self.left = 0
            counters.wakes += woken
            counters.switches += woken
            if signals:
                self.take_signals()
            if woken:
                suspected = False
            done = self.halted or (once and woken > 0)  # then there is nothing to wait for in this turn
            if done or ready or foreign or not (self.alive or self.relays):
                timeout = 0.0
            elif heap and (instant := timers.next_instant()) is not None:
                if jumps:
                    timeout = None if self.outside and instant > now() else 0.0
                else:
                    timeout = min(max(0.0, instant - now()), WAIT_SECONDS_MAX)
            else:
                timeout = None
                if self.alive == self.parked and not self.outside and not self.relays:
                    if not (self.expecting or others_alive()):
                        if ready or foreign:  # the last one has woken somebody, and gone
                            continue
                        if suspected or not strangers():
                            self.deadlocked()
                            continue
                        suspected = True
                        timeout = YOUNG_SECONDS
                    else:
                        timeout = (
                            LOOK_AGAIN_SECONDS  # another thread, or a signal, may wake one; the thread may also end
                        )
            if self.closed:
                raise UsageError("this run belongs to the parent process; end the forked child with os._exit")
            try:
                batch = self._batch = wait(timeout)
            except BaseException as error:
                self.poll_failed(error)
                continue
            self.turned = now()
            events = len(batch)
            if self.turned - self.waited >= ALONE_SECONDS and not jumps:
                if (events or timeout == 0) and _thread._count():
                    time.sleep(YIELD_SECONDS)
                self.waited = self.turned
            quiet = self.quiet = not batch
            batch.reverse()
            looked = taken = 0
            while batch:
                fd, bits = batch.pop()
                looked += 1
                descriptor = descriptors.get(fd)
                if descriptor is None:
                    continue
                if bits & UNUSUAL:
                    bits = descriptor.note_unusual(bits)
                if bits & READABLE:
                    descriptor.readable = True
                    waiter = descriptor.reader
                    if waiter is not None:
                        descriptor.reader = None
                        self.credit = BUDGET
                        taken += 1
                        waiter.switch()
                        if self.urgent is not None:
                            self.begin_urgent()
                if bits & WRITABLE:
                    descriptor.writable = True
                    waiter = descriptor.writer
                    if waiter is not None:
                        descriptor.writer = None
                        self.credit = BUDGET
                        taken += 1
                        waiter.switch()
                        if self.urgent is not None:
                            self.begin_urgent()
            while foreign:
                ready.append(foreign.popleft())
            counters.polls += 1
            counters.events += events
            counters.switches += taken + events - looked  # ``hand_over`` took what was not looked at here
            if heap:
                idle = jumps and quiet and (self.alive or self.relays) and not (done or ready or self.outside)
                if idle and (due := timers.next_instant()) is not None:
                    self.clock.jump_to(due)
                    self.turned = due
                fired = timers.fire(now())
                if fired:
                    counters.timers += fired
                    counters.lag = lag = timers.lag
                    if lag > counters.lag_max:
                        counters.lag_max = lag
            if once or self.halted:
                break

    def look_again(self) -> None:
        """Events may have been lost: whoever waits for a descriptor tries again. In the hub, as if all were ready."""
        for descriptor in list(self.descriptors.values()):
            descriptor.short_is_dry = False  # the end of the peer may have been among them
            for side in (READABLE, WRITABLE):
                waiter = descriptor.reader if side == READABLE else descriptor.writer
                descriptor.put(side, None)
                if waiter is not None:
                    self.credit = BUDGET
                    waiter.switch()

    def hand_over(self, current: Worker) -> None:
        """Parks *current*, which is where it waits already, and goes on with the turn.

        In the usual case, an event of this turn that wakes one reader and nothing else, the parking task does the
        loop's work itself and switches straight to that reader: one switch instead of two. In every other case the hub
        takes over.
        """
        current.since = self.turned
        batch = self._batch
        if batch:
            fd, bits = batch[-1]
            if bits == _READ_WRITE or bits == READABLE:
                try:
                    descriptor = self.descriptors[fd]
                except KeyError:  # closed since the poll
                    self.switch_to_hub()
                    return
                waiter = descriptor.reader
                if type(waiter) is Worker and (descriptor.writer is None or bits == READABLE):
                    del batch[-1]
                    descriptor.readable = descriptor.writable = True
                    descriptor.reader = None
                    self.credit = BUDGET
                    if waiter is not current:
                        waiter.switch()
                    return
        self.switch_to_hub()

    def unlooked(self) -> int:
        """How many events of this turn have not been looked at yet."""
        return len(self._batch)

    def tasks(self) -> list[Task[object]]:
        """Every task that has not ended, parents before children."""
        found: list[Task[object]] = []
        groups: list[Scope] = [self.root]
        while groups:
            for task in snapshot(groups.pop(0).children or ()):
                found.append(task)
                groups += task.groups()
        return found

    def deadlock(self) -> DeadlockError:
        """The error that says that all tasks wait for each other, with what each waits for."""
        lines = [f"  {task.name} is {task.describe()}" for task in self.tasks()]
        return DeadlockError(f"all {len(lines)} tasks are parked and nothing can wake one:\n" + "\n".join(lines))

    def deadlocked(self) -> None:
        """All tasks wait for each other for good. They are cancelled, so that they clean up, and ``run`` raises."""
        error = self.deadlock()
        if self.root.requested:  # they were told to stop, and still wait: cleaning up has locked up, too
            log.error("while the run was ending: %s", error)
            self._kill_all()
        else:
            self.shut_down(error)

    def _kill_all(self) -> None:
        """Unwinds every task by force."""
        for _ in range(REFUSALS_MAX):
            workers = [task.worker for task in self.tasks() if task.worker is not None]
            if not workers:
                break
            for worker in workers:
                if worker.task.worker is worker:
                    worker.waiting = None
                    worker.throw(GreenletExit())
        self.alive = 0
        self.abort_relays()
        self.ready.clear()

    def close(self) -> None:
        """Unwinds what is left (nothing, after a run without a bug) and gives the kernel's resources back."""
        if self.outside:
            calls = ", ".join(map(str, self.outside))
            log.warning("the run ended while calls that were abandoned still run in OS threads: %s", calls)
        with mutex:
            self.closed = True
        while self.foreign:
            refuse = getattr(self.foreign.popleft(), "refuse", None)
            if refuse is not None:  # a thread waits for an answer
                refuse()
        if self.alive:
            self._kill_all()
        for descriptor in tuple(self.descriptors.values()):
            descriptor.orphan()
        self.descriptors.clear()
        while self._pool:
            self._pool.pop().throw(GreenletExit())  # dropping it is not enough: its frame refers to itself
        self.poller.close()

    def abandon(self) -> None:
        """In the child of a fork: forgets the poller, which belongs to the parent, without changing it."""
        self.closed = True
        self.credit = 0
        self.stop_listening()
        for descriptor in tuple(self.descriptors.values()):
            descriptor.orphan()
        self.descriptors.clear()
        self.poller.close()


#: every loop of the process, for the child of a fork
_loops: weakref.WeakSet[Loop] = weakref.WeakSet()


def snapshot(things: Iterable[T]) -> tuple[T, ...]:
    """*things* as they are now, also while other OS threads add and remove some."""
    while True:
        try:
            return tuple(things)
        except RuntimeError:  # it has changed meanwhile
            continue


def living_loops() -> list[Loop]:
    """Every loop of the process that is not closed."""
    return [loop for loop in snapshot(_loops) if not loop.closed]


def _after_fork() -> None:
    running.loop = None
    for loop in tuple(_loops):
        if not loop.closed:
            loop.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _raise(error: BaseException) -> None:
    raise error
