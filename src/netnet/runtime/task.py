"""Green threads: the task, its end, and who hears of its error. A task is a scope, so it can be cancelled as a whole.

What becomes of an error that leaves a task: in a task group the group gets it (``group``). In the run's root group it
waits in a ``Failure`` for somebody to ask ``result()``. A failure that can no longer be asked for, because the task's
last reference is gone, is logged at that moment; one that could still be asked for when the run ends is raised by
``run``. So an error is never lost and never told twice.
"""

from __future__ import annotations

import contextvars
import logging
import math
import sys
import traceback
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from netnet.errors import Cancelled, TaskCancelledError, UsageError
from netnet.runtime.lot import ParkingLot
from netnet.runtime.scope import Scope, Stretch
from netnet.runtime.timers import Timer, Timers
from netnet.runtime.worker import NOWHERE, Place, Worker, current_worker

if TYPE_CHECKING:
    from netnet.runtime.loop import Loop

T = TypeVar("T", covariant=True)

log = logging.getLogger("netnet")

_numbers = count(1)

#: the timer of a task that is to start at no time
NEVER: Final = Timer(Timers(), math.inf, Timers)

#: the scope of tasks that have ended
_ENDED = Scope()


class Failure:
    """An error that left a task of the root group, until somebody has seen it."""

    __slots__ = ("__weakref__", "error", "name", "seen")

    def __init__(self, name: str, error: BaseException) -> None:
        self.name = name
        self.error = error
        self.seen = False

    def __del__(self) -> None:
        if not self.seen:
            self.seen = True
            log.error("task %s failed and nobody is left to ask for its result", self.name, exc_info=self.error)


class Household(Scope):
    """A scope that has tasks: the root group of a run, or a ``TaskGroup``."""

    __slots__ = ()

    def child_failed(self, task: Task[object], error: BaseException) -> None:
        """Takes the error of a task of its own; called when the task ends."""
        raise NotImplementedError

    def child_ended(self) -> None:
        """One of its tasks has left the tree."""

    def disown(self) -> list[Task[object]]:
        """Gives up all of its tasks, for another one to adopt."""
        tasks = list(self.children or ())
        self.children = None
        return tasks

    def adopt(self, task: Task[object]) -> None:
        """Takes a task from a group that is no more."""
        task.parent = self
        if self.children is None:
            self.children = {}
        self.children[task] = None


class _End(ParkingLot):
    """Where those stand who wait for the end of a task."""

    __slots__ = ("task",)

    def __init__(self, task: Task[object]) -> None:
        super().__init__("")
        self.task = task

    def describe(self, worker: Worker) -> str:
        return f"the end of task {self.task.name}"


class Task(Scope, Generic[T]):
    """A green thread: made by ``netnet.spawn`` or ``TaskGroup.spawn``, not by hand."""

    __slots__ = (
        "_begins",
        "_joiners",
        "_name",
        "args",
        "context",
        "done",
        "error",
        "failure",
        "function",
        "loop",
        "number",
        "scope",
        "unarmed",
        "value",
        "worker",
    )

    #: the innermost scope around what the task is doing
    scope: Scope
    value: T

    def __init__(
        self,
        loop: Loop,
        household: Household,
        function: Callable[..., T],
        args: tuple[object, ...],
        name: str | None = None,
        *,
        when: float | None = None,
        eager: bool = False,
    ) -> None:
        # what a scope has, written out: tasks are made by the thousand
        self.owner = self
        self.parent = household
        self.children = None
        self.requested = self.shielded = self.done = False
        self.cancelled = household.cancelled
        self.reason = ""
        self.scope = self
        self.loop = loop
        self.function = function
        self.args = args
        self._name = name
        self.number = next(_numbers)
        self.context: contextvars.Context | None = contextvars.copy_context()
        self.worker: Worker | None = None
        self.error: BaseException | None = None
        self.failure: Failure | None = None
        self._joiners: ParkingLot | None = None
        self.unarmed = 0
        self._begins: Timer | None = None
        children = household.children
        if children is None:
            children = household.children = {}
        children[self] = None
        loop.alive += 1
        if loop.instruments is not None:
            loop.instruments.task_spawned(self)
        if when is not None:
            self._begin_at(when)
        elif not eager:
            loop.ready.append(self)

    @property
    def name(self) -> str:
        """The name given at spawn, else one made of the function's and a number."""
        function = self.function
        return self._name or f"{getattr(function, '__qualname__', type(function).__name__)}-{self.number}"

    def __repr__(self) -> str:
        return f"<netnet.Task {self.name}: {self.describe()}>"

    def describe(self) -> str:
        """What the task is doing or what became of it, in words."""
        if self.done:
            if self.error is None:
                return "ended"
            return "cancelled" if isinstance(self.error, Cancelled) else f"failed with {self.error!r}"
        begins, worker = self._begins, self.worker  # in the middle of this it may go on, in another OS thread
        if begins is NEVER:
            return "never to start"
        if begins is not None:
            return f"to start in {begins.when - self.loop.clock.now():.3f} s"
        if worker is None:
            return "not started yet"
        place = self._place(worker)
        return "running" if place is None else f"waiting for {place.describe(worker)}"

    @staticmethod
    def _place(worker: Worker) -> Place | None:
        """Where *worker* waits; ``None`` for one that runs, or is about to."""
        return None if worker.gr_frame is None else worker.waiting

    @property
    def waiting_for(self) -> str | None:
        """What it waits for, in words; ``None`` while it runs or is about to, and when it has ended."""
        worker = self.worker
        place = None if worker is None else self._place(worker)
        return None if worker is None or place is None else place.describe(worker)

    @property
    def waiting_seconds(self) -> float | None:
        """For how long it has waited, to a turn of the loop; ``None`` where it does not."""
        worker = self.worker
        if worker is None or self._place(worker) is None:
            return None
        return max(0.0, self.loop.clock.now() - worker.since)

    def stack(self) -> traceback.StackSummary:
        """Where it stands, the outermost call first; empty before it starts and when it has ended."""
        worker = self.worker
        frame = None if worker is None else worker.gr_frame
        if frame is None and worker is not None and not worker.dead:  # it is running, in this thread or another one
            frame = sys._current_frames().get(self.loop.thread_ident)
        frames = []
        while frame is not None and frame.f_code is not Worker.run.__code__:
            frames.append((frame, frame.f_lineno))
            frame = frame.f_back
        summary = traceback.StackSummary.extract(iter(frames))
        summary.reverse()
        return summary

    # -- its life

    def switch(self) -> None:
        """Starts the task; called by the loop."""
        self.man().switch()

    def man(self) -> Worker:
        """Gives the task a worker, which has to be switched to next."""
        worker = self.loop.hire()
        worker.task = self
        self.worker = worker
        worker.gr_context = self.context
        self.context = None
        if self.cancelled:
            worker.home = NOWHERE
            self.loop.credit = 0
        return worker

    def _begin_at(self, when: float) -> None:
        """Starts it at the instant *when*, unless it is to end before it begins."""
        if self.cancelled:
            self._begin_never()
        elif when == math.inf:
            self._begins = NEVER
            self.loop.parked += 1
        else:
            self._begins = self.loop.timers.add(when, self._begin)

    def _begin(self) -> None:
        """The instant of a task that was to start later has come."""
        self._begins = None
        self.loop.ready.append(self)

    def _begin_never(self) -> None:
        """It was cancelled before its time."""
        if self._begins is NEVER:
            self.loop.parked -= 1
        elif self._begins is not None:
            self._begins.cancel()
        self._begins = None
        self.args = ()
        self.end(Cancelled(self.why()))

    def enter(self, scope: Scope) -> None:
        """Makes *scope* the innermost one around what the task is doing, on the way in as on the way out."""
        self.scope = scope
        worker = self.worker
        assert worker is not None
        if scope.cancelled or worker.interrupt is not None:
            worker.home = NOWHERE
            worker.loop.credit = 0
        else:
            worker.home = NOWHERE if self.unarmed else worker.loop
        if not scope.cancelled and not scope.shielded:
            worker.refusals = 0

    def line_from(self, outermost: Scope) -> list[Scope]:
        """The scopes around what the task is doing, from *outermost* on inwards."""
        line: list[Scope] = []
        scope: Scope | None = self.scope
        while scope is not outermost and scope is not None:
            line.append(scope)
            scope = scope.parent
        line.append(outermost)
        line.reverse()
        return line

    def groups(self) -> list[Scope]:
        """The task groups that the task is in the lines of, from the outside in."""
        return [scope for scope in self.line_from(self) if isinstance(scope, Household)]

    def arm(self) -> None:
        """Before the task waits: sets the timers of the time limits around it. One that is up cancels at once."""
        if self.unarmed:
            scope = self.scope
            if scope.parent is self:  # one only, as usual
                scope.arm()
            else:
                for scope in self.line_from(self)[1:]:
                    scope.arm()
        self.enter(self.scope)

    def interrupt(self) -> None:
        """The scope around what the task is doing was cancelled: a wait ends now, a further one is refused."""
        worker = self.worker
        if worker is None:
            if self._begins is not None:  # its time has not come, and will not
                self._begin_never()
            return
        worker.home = NOWHERE
        self.loop.interrupt(worker, lambda: Cancelled(self.scope.why()))

    def end(self, error: BaseException | None) -> None:
        """Settles what became of the task and tells those who wait; called by its worker, last of all."""
        self.done = True
        self.error = error
        self.worker = None
        household: Any = self.parent
        if household.children is not None:
            household.children.pop(self, None)
        self.loop.alive -= 1
        if self.loop.instruments is not None:
            self.loop.instruments.task_ended(self)
        if error is not None and not isinstance(error, Cancelled):
            household.child_failed(self, error)
        if self._joiners is not None:
            self._joiners.wake_all()
            self._joiners = None
        scope = self.scope
        while isinstance(scope, Stretch):  # left open, by a generator that was left alone
            inner, scope = scope, scope.parent  # type: ignore[assignment]
            if isinstance(inner, Household):
                for child in inner.disown():
                    household.adopt(child)
                    child.cancel("the task that had its group has ended")
            inner.drop()
        household.child_ended()
        self.owner = self.parent = None
        self.scope = _ENDED

    # -- for everybody

    def cancel(self, reason: str = "") -> None:
        """Cancels the task: each blocking call in it raises ``Cancelled``. Nothing happens to one that has ended.

        A task that has not started yet still starts, so that it can give back what it was handed, and is refused at
        its first blocking call; one that was to start at a later time (``after``) will not. Does not switch tasks.
        *reason* goes into the exception's message.
        """
        if not self.done:
            super().cancel(reason)

    def join(self) -> None:
        """Waits until the task has ended, however it ended. Switches tasks. Raises ``Cancelled``.

        Raises ``UsageError`` when a task joins itself.
        """
        if current_worker().task is self:
            raise UsageError(f"task {self.name} waits for its own end")
        if self.done or current_worker().loop is not self.loop:
            self.loop.checkpoint(current_worker())
        while not self.done:
            self.joiners().park()

    def joiners(self) -> ParkingLot:
        """Where those stand who wait for its end."""
        if self._joiners is None:
            self._joiners = _End(self)
        return self._joiners

    def result(self) -> T:
        """Waits for the end and returns what the task's function returned. Switches tasks.

        Raises the error that left the task; ``TaskCancelledError`` when it was cancelled; ``Cancelled``.
        """
        if not self.done:
            self.join()
        if self.error is None:
            return self.value
        if isinstance(self.error, Cancelled):
            raise TaskCancelledError(f"task {self.name} was cancelled: {self.error}") from self.error
        if self.failure is not None:
            self.failure.seen = True
        try:
            raise self.error
        finally:
            del self  # else the error's traceback would keep the task, which keeps the error
