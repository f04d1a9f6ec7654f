"""The runtime's plain functions: starting a run, starting tasks, sleeping, telling the time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TypeVar, cast

from greenlet import GreenletExit

from netnet.errors import Cancelled, TaskCancelledError, UsageError
from netnet.runtime.clock import Clock, checked_seconds
from netnet.runtime.loop import Loop, running
from netnet.runtime.signals import Delivery
from netnet.runtime.task import Task, log
from netnet.runtime.timers import Timer
from netnet.runtime.worker import Worker, current_worker, main_then_stop, worker_or_none

T = TypeVar("T")


def run(main: Callable[..., T], /, *args: object, clock: Clock | None = None, poller: str | None = None) -> T:
    """Runs ``main(*args)`` as the main task and returns what it returns, once all tasks have ended.

    *clock*: the real one, or ``netnet.testing.VirtualClock()``. *poller*: a backend's name; else the environment
    variable ``NETNET_POLLER``, else the best of this system.

    When the main task fails, all others are cancelled and its error is raised. Errors of other tasks that nobody asked
    for are raised together as an ``ExceptionGroup``. Raises ``DeadlockError`` when all tasks are parked for good;
    ``KeyboardInterrupt`` or ``SystemExit(143)`` after SIGINT or SIGTERM; ``UsageError`` inside another ``run``.
    """
    if getattr(running, "loop", None) is not None:
        raise UsageError("run() inside run(): this thread runs a loop already; use spawn() for another task")
    loop = Loop(clock, poller)
    running.loop = loop
    task: Task[T] | None = None
    delivery = Delivery(loop)
    try:
        delivery.start()
        try:
            task = Task(loop, loop.root, main_then_stop, (loop, main, args), "main")
            loop.main = cast("Task[object]", task)
            loop.run_until_ended()
        finally:
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


def spawn(function: Callable[..., T], /, *args: object, name: str | None = None) -> Task[T]:
    """Starts ``function(*args)`` as a task of the run's root group, in a copy of the caller's context.

    It runs in the loop's next turn; this call does not switch tasks. *name* is for reports. Returns the ``Task``.
    """
    loop = current_worker().loop
    return Task(loop, loop.root, function, args, name)


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
    worker.waiting = place
    loop.switch_to_hub()
