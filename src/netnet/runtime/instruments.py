"""Being told what a loop does: ``Instrument`` is what one writes, ``Instruments`` is what the loop calls.

Where no instrument is given to ``run`` nothing of this is called, and nothing is asked on the way of a switch: tasks'
steps are seen by greenlet's own trace function, which is set only while an instrument is there that has overridden
``task_resumed`` or ``task_paused``. The others pay for what they have overridden only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import greenlet

from netnet.runtime.worker import Worker

if TYPE_CHECKING:
    from netnet.runtime.loop import Loop
    from netnet.runtime.task import Task

Wait = Callable[[float | None], list[tuple[int, int]]]


class Instrument:
    """Is told what a loop does: override what is of interest, and pass it to ``netnet.run(main, instruments=[...])``.

    The methods are called in the loop and must not wait. An exception in one of them ends the run.
    """

    def run_began(self) -> None:
        """``netnet.run`` has begun; no task runs yet. Not told of a loop that is driven by hand."""

    def run_ended(self) -> None:
        """The run is over, however it ended; no task runs any more. Not told of a loop that is driven by hand."""

    def task_spawned(self, task: Task[Any]) -> None:
        """A task was made; it has not started yet."""

    def task_resumed(self, task: Task[Any]) -> None:
        """A task starts, or goes on."""

    def task_paused(self, task: Task[Any]) -> None:
        """A task waits, lets others run, or has ended."""

    def task_ended(self, task: Task[Any]) -> None:
        """A task has ended; ``task.error`` says how."""

    def before_wait(self, timeout_seconds: float | None) -> None:
        """The loop looks for events, and waits so long for one; ``None``: without end."""

    def after_wait(self, events: int) -> None:
        """So many descriptors were ready."""


#: what is told
_TOLD: Final = tuple(name for name in vars(Instrument) if not name.startswith("_"))


def _overrides(instrument: Instrument, what: str) -> bool:
    method = getattr(instrument, what)
    return getattr(method, "__func__", method) is not getattr(Instrument, what)


class Instruments:
    """All instruments of one loop. One that fails is told nothing more, and ends the run."""

    def __init__(self, instruments: Sequence[Instrument]) -> None:
        #: what is told → those who hear of it
        self._hearing = {what: [one for one in instruments if _overrides(one, what)] for what in _TOLD}
        #: whether steps are told at all
        self._steps = bool(self._hearing["task_resumed"] or self._hearing["task_paused"])
        self.loop: Loop
        self._started = False
        self._running: Task[Any] | None = None
        self._before: Any = None

    def _tell(self, what: str, *about: object) -> None:
        for one in tuple(self._hearing[what]):
            try:
                getattr(one, what)(*about)
            except BaseException as error:
                for hearing in self._hearing.values():
                    if one in hearing:
                        hearing.remove(one)
                self.loop.shut_down(error)

    def task_spawned(self, task: Task[Any]) -> None:
        self._tell("task_spawned", task)

    def task_ended(self, task: Task[Any]) -> None:
        self._tell("task_ended", task)
        if self._running is task:
            self.goes_on(None)

    def goes_on(self, task: Task[Any] | None) -> None:
        """*task* runs now; ``None``: no task does."""
        if not self._steps:
            return
        before, self._running = self._running, task
        if before is not task:
            if before is not None:
                self._tell("task_paused", before)
            if task is not None:
                self._tell("task_resumed", task)

    def around(self, wait: Wait) -> Wait:
        """*wait*, telling before and after."""
        if not (self._hearing["before_wait"] or self._hearing["after_wait"]):
            return wait

        def told(timeout_seconds: float | None) -> list[tuple[int, int]]:
            self._tell("before_wait", timeout_seconds)
            if self.loop.fatal is not None:
                timeout_seconds = 0.0
            events = wait(timeout_seconds)
            self._tell("after_wait", len(events))
            return events

        return told

    def start(self) -> None:
        """From now on steps are told. In the loop's thread."""
        self._started = True
        if self.loop.main is not None:  # else it is driven by hand
            self._tell("run_began")
        if self._steps:
            self._before = greenlet.settrace(self._switched)

    def stop(self) -> None:
        """From now on nothing is told. Does nothing where it was not started."""
        if self._started:
            self._started = False
            if self._steps:
                greenlet.settrace(self._before)
            if self.loop.main is not None:
                self._tell("run_ended")

    def _switched(self, event: str, switch: tuple[Any, Any]) -> None:
        target = switch[1]
        task = getattr(target, "task", None) if isinstance(target, Worker) and target.loop is self.loop else None
        self.goes_on(None if task is None or task.done else task)
        if self._before is not None:
            self._before(event, switch)
