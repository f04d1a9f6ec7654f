"""The loop: one OS thread, one poller, many tasks. It runs in the greenlet that called ``run``.

A turn is: wake what is ready, handle signals, poll (without waiting when something is ready), wake what the events
woke, fire timers. Tasks that wait for a descriptor are switched to straight from the event, without a queue in between;
all others go through ``ready``. What the loop wakes is a *waiter*: anything with a ``switch`` method, a worker or a
small object that does its work in the loop itself and must not block.

Not here: what a task is (``task``), what a descriptor's flags mean (``descriptor``), signals (``signals``).
"""

from __future__ import annotations

import os
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from greenlet import GreenletExit, getcurrent

from netnet import poller as pollers
from netnet.errors import Cancelled, DeadlockError, UsageError
from netnet.poller.contract import READABLE, UNUSUAL, WRITABLE
from netnet.runtime.clock import Clock, MonotonicClock
from netnet.runtime.descriptor import Descriptor
from netnet.runtime.scope import Scope
from netnet.runtime.task import Failure, Household, Task, log
from netnet.runtime.timers import Timers
from netnet.runtime.worker import Place, Waiter, Worker, throw_later

#: consecutive calls that a task may make without waiting before it has to let the others run; low enough to keep the
#: others' delay below a millisecond (64 calls of a few microseconds), high enough to cost nothing
BUDGET: Final = 64

_READ_WRITE: Final = READABLE | WRITABLE

#: workers that the pool keeps for the next tasks; each holds some 6 kB
POOL_MAX: Final = 1024

#: the longest single wait for events; kernels count milliseconds in 31 bits
WAIT_SECONDS_MAX: Final = 3600.0

#: refusals in a row after which a task that swallows ``Cancelled`` is reported
REFUSALS_MAX: Final = 100

#: which loop, if any, each OS thread is running
running = threading.local()


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
            self.loop.stop(error)


class Loop:
    """One thread's scheduler. Made by ``netnet.run``; one at a time in a thread."""

    def __init__(self, clock: Clock | None = None, poller: str | None = None) -> None:
        self.clock: Clock = clock or MonotonicClock()
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
        self.outside = 0  #: work in OS threads that will wake a task
        self.relays: set[Background] = set()  #: work without a task that is under way
        #: numbers of the signals that came in since the last turn, and who takes them (``signals``)
        self.signals: deque[int] = deque()
        self.take_signals: Callable[[], object] = self.signals.clear
        self.stop_listening: Callable[[], object] = self.signals.clear
        self.poll_failed: Callable[[BaseException], object] = _raise
        self.failures: weakref.WeakSet[Failure] = weakref.WeakSet()
        self.fatal: BaseException | None = None
        self.main: Task[object] | None = None
        self.root = RootGroup(self)
        self.closed = False
        #: held while another thread wakes the loop, so that it is not closed meanwhile
        self._door = threading.Lock()
        _loops.add(self)
        self.quiet = True  #: the last poll brought no event
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
            self.stop(worker.interrupt)
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
        self.parked += 1
        try:
            self.switch_to_hub()
        finally:
            self.parked -= 1

    def refuse(self, worker: Worker) -> None:
        """Called where a worker may not wait: raises what it has to be told."""
        if worker.loop is not self:
            raise UsageError("this belongs to the loop of another thread")
        if worker.interrupt is not None:
            error, worker.interrupt = worker.interrupt, None
            worker.task.enter(worker.task.scope)
            raise error
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

    def step_aside(self, worker: Worker) -> None:
        """Lets all others run once; cannot be cancelled."""
        worker.waiting = None
        self.ready.append(worker)
        self.switch_to_hub()

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

    def stop(self, error: BaseException | None = None) -> None:
        """Cancels everything; ``run`` then raises *error* (the first one given)."""
        if self.fatal is None:
            self.fatal = error
        self.root.cancel("the run was stopped" if error is None else f"the run was stopped: {error!r}")
        self.abort_relays()

    def abort_relays(self) -> None:
        for relay in tuple(self.relays):
            relay.abort("the run was stopped")

    def call_soon(self, function: Callable[[], object]) -> None:
        """Calls *function* in the loop's next turn. It must not block."""
        self.ready.append(Call(function))

    def call_from_thread(self, waiter: Waiter) -> bool:
        """Wakes *waiter* from any OS thread; false after the run: nothing will happen any more."""
        with self._door:
            if self.closed:
                return False
            self.foreign.append(waiter)
            self.poller.wake()
            return True

    # -- turns

    def run_until_ended(self) -> None:
        """Runs turns until no task and no relay is left."""
        ready, timers, signals, foreign = self.ready, self.timers, self.signals, self.foreign
        heap, descriptors, wait = timers.heap, self.descriptors, self.poller.wait
        now, jumps = self.clock.now, self.clock.jumps
        timeout: float | None
        while self.alive or self.relays or ready:
            for _ in range(len(ready)):
                first = ready.popleft()
                self.credit = 0 if type(first) is Worker and first.home is not self else BUDGET
                first.switch()
            if signals:
                self.take_signals()
            if ready or foreign or not (self.alive or self.relays):
                timeout = 0.0
            elif heap and (instant := timers.next_instant()) is not None:
                if jumps:
                    timeout = None if self.outside else 0.0
                else:
                    timeout = min(max(0.0, instant - now()), WAIT_SECONDS_MAX)
            else:
                timeout = None
                if self.alive == self.parked and not self.outside and not self.relays:
                    self._deadlocked()
                    continue
            if self.closed:
                raise UsageError("this run belongs to the parent process; end the forked child with os._exit")
            try:
                batch = self._batch = wait(timeout)
            except BaseException as error:
                self.poll_failed(error)
                continue
            quiet = self.quiet = not batch
            batch.reverse()
            while batch:
                fd, bits = batch.pop()
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
                        waiter.switch()
                if bits & WRITABLE:
                    descriptor.writable = True
                    waiter = descriptor.writer
                    if waiter is not None:
                        descriptor.writer = None
                        self.credit = BUDGET
                        waiter.switch()
            while foreign:
                ready.append(foreign.popleft())
            if heap:
                if jumps and quiet and not (ready or self.outside) and (due := timers.next_instant()) is not None:
                    self.clock.jump_to(due)
                timers.fire(now())

    def look_again(self) -> None:
        """Events may have been lost: whoever waits for a descriptor tries again. In the hub, as if all were ready."""
        for descriptor in list(self.descriptors.values()):
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

    def tasks(self) -> list[Task[object]]:
        """Every task that has not ended, parents before children."""
        found: list[Task[object]] = []
        scopes: list[Scope] = [self.root]
        while scopes:
            scope = scopes.pop(0)
            if isinstance(scope, Task):
                found.append(scope)
            scopes.extend(scope.children or ())
        return found

    def _deadlocked(self) -> None:
        """All tasks wait for each other for good. They are cancelled, so that they clean up, and ``run`` raises."""
        lines = [f"  {task.name} is {task.describe()}" for task in self.tasks()]
        error = DeadlockError(f"all {len(lines)} tasks are parked and nothing can wake one:\n" + "\n".join(lines))
        if self.root.requested:  # they were told to stop, and still wait: cleaning up has locked up, too
            log.error("while the run was ending: %s", error)
            self._kill_all()
        else:
            self.stop(error)

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
        with self._door:
            self.closed = True
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
        self.stop_listening()
        for descriptor in tuple(self.descriptors.values()):
            descriptor.orphan()
        self.descriptors.clear()
        self.poller.close()


#: every loop of the process, for the child of a fork
_loops: weakref.WeakSet[Loop] = weakref.WeakSet()


def _after_fork() -> None:
    running.loop = None
    for loop in tuple(_loops):
        if not loop.closed:
            loop.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _raise(error: BaseException) -> None:
    raise error
