"""Pooled greenlets: what runs tasks, one after the other. And who is running: from the running greenlet to its worker.

Making a greenlet costs several times what reusing one does (since Python 3.11 each maps memory of its own), so a worker
that has ended a task waits in the loop's pool for the next. Nothing of the old task stays with it: not its context, not
its exception, not its arguments.

A worker's ``home`` is its loop, except while its task is cancelled, has an interrupt to raise, or has a time limit that
no timer guards yet: then it is ``NOWHERE``. So one comparison before each wait asks "is this the loop I run in?", "may I
wait at all?" and "will I be woken in time?".
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from greenlet import getcurrent, greenlet

from netnet.errors import UsageError

if TYPE_CHECKING:
    from netnet.runtime.loop import Loop
    from netnet.runtime.task import Task


T = TypeVar("T")


#: which loop, if any, each OS thread is running
running = threading.local()


class Waiter(Protocol):
    """Anything that the loop can wake: a worker, or a small object that does its work in the loop itself."""

    def switch(self) -> object: ...


class Place(Protocol):
    """Where a worker waits."""

    def forget(self, worker: Worker) -> bool:
        """Takes *worker* away from here, so that it will not be woken; false when it is not (or no longer) here."""

    def describe(self, worker: Worker) -> str:
        """What *worker* waits for here, for reports."""


class Nowhere:
    """The home of a worker that may not wait, and of a descriptor that is in no loop. It gives no credit."""

    __slots__ = ("credit",)

    def __init__(self) -> None:
        self.credit = 0


#: where workers are at home that may not wait
NOWHERE: Final = Nowhere()
#: where descriptors are at home for which the calls written out for speed are not meant
ELSEWHERE: Final = Nowhere()


class Worker(greenlet):
    """A greenlet that runs tasks of one loop."""

    __slots__ = ("gift", "home", "interrupt", "loop", "refusals", "since", "task", "waiting")

    def __init__(self, loop: Loop) -> None:
        super().__init__(parent=loop.hub)
        self.loop = loop
        self.home: Loop | Nowhere = loop
        #: where it waits; may be out of date while it runs, then the place says so when asked to forget it
        self.waiting: Place | None = None
        #: since when, as an instant of the loop's clock: the beginning of the turn
        self.since = 0.0
        #: what is handed to it, or taken from it, while it waits (``exchange``)
        self.gift: object = None
        #: an exception that its next blocking call raises (Ctrl-C)
        self.interrupt: BaseException | None = None
        #: how often in a row it was refused to wait, because it is cancelled
        self.refusals = 0
        self.task: Task[object]

    def run(self) -> None:
        loop = self.loop
        task: Task[object] | None
        while True:
            task = self.task
            function, args = task.function, task.args
            task.args = ()
            if loop.instruments is not None:
                loop.instruments.goes_on(task)
            try:
                # the first two forms keep the callee in this very interpreter frame of C, so that a switch copies less
                if len(args) == 1:
                    task.value = function(args[0])
                elif not args:
                    task.value = function()
                else:
                    task.value = function(*args)
            except BaseException as error:
                if error.__traceback__ is not None:
                    error.__traceback__ = error.__traceback__.tb_next  # from the task's own first line on
                task.end(error)
            else:
                task.end(None)
            task = None
            del function, args
            if not loop.retire(self):
                return
            loop.go_on()


def main_then_stop(loop: Loop, main: Callable[..., T], args: tuple[object, ...]) -> T:
    """The main task: when it fails, the others are told to stop."""
    try:
        return main(*args)
    except BaseException:
        loop.shut_down()
        raise


class Throw:
    """Wakes a worker with an exception."""

    __slots__ = ("error", "worker")

    def __init__(self, worker: Worker, error: BaseException) -> None:
        self.worker = worker
        self.error = error

    def switch(self) -> None:
        worker = self.worker
        if worker.home is not worker.loop:
            worker.loop.credit = 0
        worker.throw(self.error)


def throw_later(worker: Worker, error: BaseException) -> None:
    """Wakes *worker*, which was just taken away from where it waited, with *error*, in the loop's next turn."""
    worker.waiting = None
    worker.loop.ready.append(Throw(worker, error))


def worker_or_none() -> Worker | None:
    """The running worker; ``None`` outside a task: before ``run``, in another thread, in a callback of the loop."""
    running = getcurrent()
    return running if isinstance(running, Worker) and not running.loop.closed else None


def current_worker() -> Worker:
    """The running worker. Raises ``UsageError`` outside a task."""
    worker = worker_or_none()
    if worker is not None:
        return worker
    raise UsageError("this needs a running loop: call it in a task, that is, from inside netnet.run(...)")
