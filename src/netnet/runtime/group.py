"""Task groups: tasks that end together, and the errors of all of them in one exception group.

Names and behaviour are those of ``asyncio.TaskGroup``; what cancellation adds there (uncancel counts) the scope tree
replaces here. Leaving the group waits for every task in it, also while the code around it is cancelled: the tasks are
cancelled with it, and what they shield is awaited.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from netnet.errors import Cancelled, UsageError
from netnet.runtime.clock import checked_seconds
from netnet.runtime.lot import ParkingLot
from netnet.runtime.scope import Scope, Shield, Stretch
from netnet.runtime.task import Household, Task, log
from netnet.runtime.worker import current_worker

T = TypeVar("T")


class TaskGroup(Stretch, Household):
    """Runs tasks and waits for all of them: ``with TaskGroup() as group: group.spawn(work, 1)``.

    The first error cancels the others and the lines of the statement itself; when all have ended, the errors are raised
    together as an ``ExceptionGroup``. ``KeyboardInterrupt`` and ``SystemExit`` are raised bare. ``Cancelled`` is no
    error. Leaving the statement switches tasks.
    """

    __slots__ = ("_closed", "_count", "_errors", "_fatal", "_lot", "_quiet")

    def __init__(self) -> None:
        super().__init__()
        self._errors: list[BaseException] = []
        self._fatal: BaseException | None = None
        self._quiet = False
        self._count = 0
        self._closed = False
        self._lot = ParkingLot("the tasks of its group")

    def spawn(
        self, function: Callable[..., T], /, *args: object, name: str | None = None, eager: bool = False
    ) -> Task[T]:
        """Starts ``function(*args)`` as a task of the group, in a copy of the caller's context.

        The task runs in the loop's next turn, and this call does not switch tasks; with *eager* it runs at once, until
        it first waits. Raises ``UsageError`` when the group was not entered, is being cancelled or has ended.
        """
        task = self._new(function, args, name, eager=eager)
        if eager:
            task.loop.begin_at_once(task)
        return task

    create_task = spawn

    def after(self, seconds: float, function: Callable[..., T], /, *args: object, name: str | None = None) -> Task[T]:
        """Starts ``function(*args)`` as a task of the group in *seconds*; as ``netnet.after``. Leaving waits for it."""
        return self._new(function, args, name, when=current_worker().loop.clock.now() + checked_seconds(seconds))

    def _new(
        self,
        function: Callable[..., T],
        args: tuple[object, ...],
        name: str | None,
        *,
        when: float | None = None,
        eager: bool = False,
    ) -> Task[T]:
        if not self._entered:
            raise UsageError("the TaskGroup has not been entered; use it in a with statement")
        if self._closed:
            raise UsageError("the TaskGroup is finished; it takes no more tasks")
        if self.requested:
            raise UsageError("the TaskGroup is shutting down; it takes no more tasks")
        loop = current_worker().loop
        self._count += 1
        return Task(loop, self, function, args, name, when=when, eager=eager)

    def disown(self) -> list[Task[object]]:
        """Gives up all of its tasks; it is finished."""
        self._count = 0
        self._closed = True
        return super().disown()

    def adopt(self, task: Task[object]) -> None:
        """Takes a task from a group that is no more."""
        super().adopt(task)
        self._count += 1

    def cancel(self, reason: str = "") -> None:
        """Cancels all tasks of the group and the lines of its statement, which then ends without an error."""
        self._quiet = True
        super().cancel(reason)

    def child_failed(self, task: Task[object], error: BaseException) -> None:
        if isinstance(error, Exception):
            self._errors.append(error)
        elif self._fatal is None:
            self._fatal = error
        Scope.cancel(self, f"task {task.name} of the group failed")

    def child_ended(self) -> None:
        self._count -= 1
        if not self._count:
            self._lot.wake_all()

    def _join_all(self) -> BaseException | None:
        """Waits for the tasks; returns what interrupted the wait (Ctrl-C), after all have ended."""
        interrupted: BaseException | None = None
        while self._count:
            try:
                with Shield():
                    self._lot.park()
            except UsageError:  # left where it cannot be: in a generator that is closed after the run
                raise
            except BaseException as error:
                interrupted = error
                Scope.cancel(self, "interrupted")
        return interrupted

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if error is not None:
            Scope.cancel(self, "the body of the group failed")
        interrupted = self._join_all()
        self._closed = True
        why = self.why()
        outside = self.leave()
        for candidate in (error, self._fatal, interrupted):
            if candidate is not None and not isinstance(candidate, (Exception, Cancelled)):
                for dropped in self._errors:
                    log.error("a task failed while %r ended its group", candidate, exc_info=dropped)
                raise candidate
        errors = self._errors
        self._errors = []
        if isinstance(error, Exception):
            errors.append(error)
        try:
            if errors:
                raise BaseExceptionGroup("unhandled errors in a TaskGroup", errors)
            if outside:
                if error is not None:
                    return False  # the Cancelled goes on to the scope that it belongs to
                raise Cancelled(why)
            return isinstance(error, Cancelled) and self._quiet
        finally:
            del errors, error, interrupted
