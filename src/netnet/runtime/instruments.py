"""Being told what a loop does: ``Instrument`` is what one writes, ``Instruments`` is what the loop calls.

Where no instrument is given to ``run`` nothing of this is called, and nothing is asked on the way of a switch: tasks'
steps are seen by greenlet's own trace function, which is set only while an instrument is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import greenlet

from netnet.runtime.worker import Worker

if TYPE_CHECKING:
    from netnet.runtime.task import Task

Wait = Callable[[float | None], list[tuple[int, int]]]


class Instrument:
    """Is told what a loop does: override what is of interest, and pass it to ``netnet.run(main, instruments=[...])``.

    The methods are called in the loop and must not wait. An exception in one of them ends the run.
    """

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


class Instruments:
    """All instruments of one loop."""

    def __init__(self, instruments: Sequence[Instrument]) -> None:
        self._instruments = tuple(instruments)
        self._before: Any = None

    def task_spawned(self, task: Task[Any]) -> None:
        for one in self._instruments:
            one.task_spawned(task)

    def task_ended(self, task: Task[Any]) -> None:
        for one in self._instruments:
            one.task_ended(task)

    def around(self, wait: Wait) -> Wait:
        """*wait*, telling before and after."""

        def told(timeout_seconds: float | None) -> list[tuple[int, int]]:
            for one in self._instruments:
                one.before_wait(timeout_seconds)
            events = wait(timeout_seconds)
            for one in self._instruments:
                one.after_wait(len(events))
            return events

        return told

    def start(self) -> None:
        """From now on steps are told. In the loop's thread."""
        self._before = greenlet.settrace(self._switched)

    def stop(self) -> None:
        greenlet.settrace(self._before)

    def _switched(self, event: str, switch: tuple[Any, Any]) -> None:
        origin, target = switch
        for one in self._instruments:
            if isinstance(origin, Worker) and hasattr(origin, "task"):
                one.task_paused(origin.task)
            if isinstance(target, Worker) and hasattr(target, "task"):
                one.task_resumed(target.task)
        if self._before is not None:
            self._before(event, switch)
