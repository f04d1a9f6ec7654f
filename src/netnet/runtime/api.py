"""The runtime's plain functions: starting a run, starting tasks, sleeping, telling the time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from greenlet import GreenletExit, getcurrent

from netnet.errors import Cancelled, TaskCancelledError, UsageError
from netnet.poller import Sharing
from netnet.runtime.clock import Clock, checked_seconds
from netnet.runtime.instruments import Instrument, Instruments
from netnet.runtime.loop import Loop
from netnet.runtime.signals import Delivery
from netnet.runtime.task import Task, log
from netnet.runtime.timers import Timer
from netnet.runtime.worker import Worker, current_worker, main_then_stop, running, worker_or_none

T = TypeVar("T")


def run(
    main: Callable[..., T],
    /,
    *args: object,
    clock: Clock | None = None,
    poller: str | Sharing | None = None,
    threads: bool = True,
    instruments: Sequence[Instrument] = (),
) -> T:
    """Runs ``main(*args)`` as the main task and returns what it returns, once all tasks have ended.

    *clock*: the real one, or ``netnet.testing.VirtualClock()``. *poller*: a backend's name, or a ``SharedPoller``; else
    the environment variable ``NETNET_POLLER``, else the best of this system. *threads*: whether OS threads may be
    started; without them ``to_thread`` raises ``ThreadError``, and everything else works, name look-ups included.
    *instruments* are told what happens.

    When the main task fails, all others are cancelled and its error is raised. Errors of other tasks that nobody asked
    for are raised together as an ``ExceptionGroup``. Raises ``DeadlockError`` when all tasks are parked for good;
    ``KeyboardInterrupt`` or ``SystemExit(143)`` after SIGINT or SIGTERM; ``UsageError`` inside another ``run``.
    """
    if getattr(running, "loop", None) is not None:
        raise UsageError("run() inside run(): this thread runs a loop already; use spawn() for another task")
    observers = Instruments(instruments) if instruments else None
    loop = Loop(clock, poller, threads=threads, instruments=observers)
    running.loop = loop
    task: Task[T] | None = None
    delivery = Delivery(loop)
    try:
        delivery.start()
        try:
            task = Task(loop, loop.root, main_then_stop, (loop, main, args), "main")
            loop.main = task
            if observers is not None:
                observers.start()
            loop.run_turns()
        finally:
            if observers is not None:
                observers.stop()
            loop.stop_listening()
            loop.take_signals()  # one that came in the last turn is not lost
            loop.close()
        loop.main = None
        return _outcome(loop, task)
    finally:
        running.loop = None
        del loop, delivery  # what is raised must not keep them
        task = None


def _outcome(loop: Loop, task: Task[T]) -> T:
    """What the run has to return or raise; every error is told once, by being raised or, where it comes second, logged."""
    unseen = [failure for failure in loop.failures if not failure.seen]
    for failure in unseen:
        failure.seen = True
    error = task.error
    if isinstance(error, (Cancelled, GreenletExit)):
        error = None if loop.fatal is not None else TaskCancelledError(f"the main task was cancelled: {error}")
    told: list[tuple[str, BaseException]] = [(failure.name, failure.error) for failure in unseen]
    if loop.fatal is not None:
        if error is not None:
            told.append((task.name, error))
        error = loop.fatal
    elif error is None and told:
        error = BaseExceptionGroup("tasks failed and nobody asked for their results", [one for _, one in told])
        told.clear()
    for name, one in told:
        log.error("task %s failed", name, exc_info=one)
    if error is not None:
        try:
            raise error
        finally:
            del error, task, loop, unseen, told
    return task.value


def spawn(function: Callable[..., T], /, *args: object, name: str | None = None, eager: bool = False) -> Task[T]:
    """Starts ``function(*args)`` as a task of the run's root group, in a copy of the caller's context.

    It runs in the loop's next turn, and this call does not switch tasks. With *eager* it runs at once, until it first
    waits; then the caller goes on. *name* is for reports. Returns the ``Task``.
    """
    loop = current_worker().loop
    task = Task(loop, loop.root, function, args, name, eager=eager)
    if eager:
        loop.begin_at_once(task)
    return task


def after(seconds: float, function: Callable[..., T], /, *args: object, name: str | None = None) -> Task[T]:
    """Starts ``function(*args)`` as a task of the run's root group in *seconds*; returns the ``Task``.

    Until then it is no more than a timer. ``task.cancel()`` takes it back, so that the function is never called;
    ``task.result()`` waits for it. However late the loop comes to it, it starts. Does not switch tasks. Raises
    ``ValueError`` for NaN.
    """
    return at(current_worker().loop.clock.now() + checked_seconds(seconds), function, *args, name=name)


def at(when: float, function: Callable[..., T], /, *args: object, name: str | None = None) -> Task[T]:
    """As ``after``, at the instant *when* of ``now``."""
    loop = current_worker().loop
    return Task(loop, loop.root, function, args, name, when=checked_seconds(when))


def every(
    seconds: float,
    function: Callable[..., object],
    /,
    *args: object,
    first: float | None = None,
    name: str | None = None,
) -> Task[None]:
    """Calls ``function(*args)`` every *seconds*, in one task of the run's root group; returns that ``Task``.

    The first call is after *first* seconds (0: in the next turn; by default *seconds*). The times do not drift. A call
    that takes longer than the pause leaves out the times that it missed. An error ends it, and is the task's. It goes
    on, and keeps the run going, until ``task.cancel()``. Does not switch tasks. Raises ``ValueError`` for 0 or less.
    """
    period = checked_seconds(seconds)
    if not 0 < period < math.inf:
        raise ValueError(f"a period must be more than 0 seconds and finite, not {seconds!r}")
    start = current_worker().loop.clock.now() + (period if first is None else checked_seconds(first))
    called = name or f"every {period:g} s: {getattr(function, '__qualname__', function)}"
    return at(start, _repeat, start, period, function, args, name=called)


def _repeat(when: float, period: float, function: Callable[..., object], args: tuple[object, ...]) -> None:
    while True:
        began = now()
        function(*args)
        # the next of the times that is after the beginning of this call, and has not passed yet
        when += period * max(math.floor((began - when) / period) + 1, math.ceil((now() - when) / period))
        sleep_until(when)


def current_loop() -> Loop:
    """The loop that the calling task runs in: for ``from_thread.run`` of other threads. Raises ``UsageError`` outside one."""
    return current_worker().loop


def current_task() -> Task[object]:
    """The task that is running. Raises ``UsageError`` outside one."""
    return current_worker().task


def now() -> float:
    """The present instant in seconds, by the loop's clock; for ``sleep_until`` and ``timeout_at``."""
    worker = worker_or_none()
    if worker is not None:
        return worker.loop.clock.now()
    loop: Loop | None = getattr(running, "loop", None)
    return loop.clock.now() if loop is not None else time.monotonic()


class _Sleep:
    """A worker asleep, until a timer or a cancellation wakes it."""

    __slots__ = ("timer", "until", "worker")

    def __init__(self, worker: Worker, until: float) -> None:
        self.worker = worker
        self.until = until
        self.timer: Timer | None = None

    def wake(self) -> None:
        self.worker.waiting = None
        self.worker.loop.ready.append(self.worker)

    def forget(self, worker: Worker) -> bool:
        return self.timer is None or self.timer.cancel()

    def describe(self, worker: Worker) -> str:
        if self.timer is None:
            return "nothing (it sleeps for ever)"
        return f"the instant {self.until:.3f}, in {self.until - worker.loop.clock.now():.3f} s"


def sleep(seconds: float) -> None:
    """Lets the others run for so many seconds; 0 or less: once. ``math.inf``: until cancelled.

    (Where no other task is left that could cancel it, that is a deadlock.) Switches tasks. Raises ``Cancelled``;
    ``ValueError`` for NaN.
    """
    current = getcurrent()
    if seconds == 0 and type(current) is Worker and current.home is current.loop and not current.loop.closed:
        current.loop.step_aside(current)  # the usual way to let others run, written out
        return
    delay = checked_seconds(seconds)
    worker = current_worker()
    if delay <= 0:
        _yield(worker)
    else:
        _sleep_until(worker, worker.loop.clock.now() + delay)


def sleep_until(when: float) -> None:
    """Lets the others run until the instant *when* of ``now``; one that has passed: once. Otherwise as ``sleep``."""
    instant = checked_seconds(when)
    worker = current_worker()
    if instant <= worker.loop.clock.now():
        _yield(worker)
    else:
        _sleep_until(worker, instant)


def _yield(worker: Worker) -> None:
    if worker.home is not worker.loop:
        worker.loop.refuse(worker)
    worker.loop.step_aside(worker)


def _sleep_until(worker: Worker, instant: float) -> None:
    loop = worker.loop
    if worker.home is not loop:
        loop.refuse(worker)
    place = _Sleep(worker, instant)
    if instant == math.inf:
        loop.park(worker, place)
        return
    place.timer = loop.timers.add(instant, place.wake)
    loop.rest(worker, place)
