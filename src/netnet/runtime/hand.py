"""A loop that a program drives by hand, turn by turn, from code of its own: ``Loop``. Most programs want ``netnet.run``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

from greenlet import getcurrent

from netnet.errors import UsageError
from netnet.poller import Sharing
from netnet.runtime.clock import Clock, checked_seconds
from netnet.runtime.instruments import Instrument, Instruments
from netnet.runtime.loop import Loop as _Loop
from netnet.runtime.loop import RootGroup
from netnet.runtime.lot import mutex
from netnet.runtime.task import Task
from netnet.runtime.worker import running

T = TypeVar("T")


class Loop(_Loop):
    """A loop to be driven by hand. ::

        with netnet.Loop() as loop:
            loop.spawn(echo, conn)
            while loop.poll(0.1) or not finished:
                ...

    Its tasks run only inside ``poll`` and ``start``, and stand still in between. It is driven from the OS thread and
    the greenlet that made it, and leaves signals alone. *clock*, *poller*, *threads*, *instruments* as of ``run``.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        poller: str | Sharing | None = None,
        threads: bool = True,
        instruments: Sequence[Instrument] = (),
    ) -> None:
        self._observers = Instruments(instruments) if instruments else None
        super().__init__(clock, poller, threads=threads, instruments=self._observers)
        self.poll_failed = self._poll_failed

    def spawn(self, function: Callable[..., T], /, *args: object, name: str | None = None) -> Task[T]:
        """Starts ``function(*args)`` as a task; it runs when the loop is driven. In the loop's OS thread only."""
        if self.closed:
            raise UsageError("the loop is closed; it takes no more tasks")
        return Task(self, self.root, function, args, name)

    def poll(self, timeout: float | None = None) -> bool:
        """Waits until something can go on, and lets it; true if something did, false after *timeout* seconds.

        ``None`` waits without limit, 0 not at all. Also false when there is nothing left to wait for. Raises
        ``DeadlockError`` when without a limit all tasks wait for each other; they are left as they are. Raises what a
        task let through that is no ``Exception``: ``KeyboardInterrupt``, ``SystemExit``.
        """
        with self._driven(timeout):
            before = self.counters.switches
            while self._busy() and self.counters.switches == before and (self.ready or not self.halted):
                self.run_turns(once=True)
        return self.counters.switches != before

    def start(self, timeout: float | None = None) -> bool:
        """Runs until all tasks have ended (true), or *timeout* seconds are over or ``stop`` was called (false).

        What still runs then stands still, and the next ``start`` or ``poll`` goes on with it. Errors that nobody asked
        for are raised as by ``run``, once all tasks have ended; others as by ``poll``.
        """
        with self._driven(timeout):
            self.run_turns()
        if self._busy():
            return False
        self._raise_failures()
        return True

    def stop(self) -> None:
        """Has ``start`` (or ``poll``) return at the end of the present turn; from any OS thread. Tasks stand still."""
        with mutex:
            self.halted = True
            if not self.closed:
                self.poller.wake()

    def _busy(self) -> bool:
        return bool(self.alive or self.relays or self.ready or self.foreign)

    @contextmanager
    def _driven(self, timeout: float | None) -> Iterator[None]:
        """The lines in which the loop is the running one of its thread, for *timeout* seconds at most."""
        self._check()
        seconds = math.inf if timeout is None else checked_seconds(timeout)
        self.halted = False
        timer = None if seconds == math.inf else self.timers.add(self.clock.now() + seconds, self._halt)
        running.loop = self
        self.turned = self.clock.now()
        if self._observers is not None:
            self._observers.start()
        try:
            yield
        finally:
            if self._observers is not None:
                self._observers.stop()
            running.loop = None
            if timer is not None:
                timer.cancel()
        if self.fatal is not None:
            error, self.fatal = self.fatal, None
            if not self._busy():
                self.root = RootGroup(self)  # the old one stays cancelled
            raise error

    def _check(self) -> None:
        """Raises ``UsageError`` where the loop cannot be driven."""
        if self.closed:
            raise UsageError("the loop is closed")
        if getattr(running, "loop", None) is not None:
            raise UsageError("this thread runs a loop already; a loop is not driven from a task")
        if getcurrent() is not self.hub:
            raise UsageError("a loop is driven from the OS thread and the greenlet that made it")

    def _halt(self) -> None:
        self.halted = True

    def _poll_failed(self, error: BaseException) -> None:
        """A signal's handler has raised, perhaps after the kernel told its events."""
        self.look_again()
        raise error

    def deadlocked(self) -> None:
        raise self.deadlock()

    def _raise_failures(self) -> None:
        unseen = [failure for failure in self.failures if not failure.seen]
        for failure in unseen:
            failure.seen = True
        if unseen:
            raise BaseExceptionGroup(
                "tasks failed and nobody asked for their results", [failure.error for failure in unseen]
            )

    def close(self) -> None:
        """Cancels the tasks that are left, waits for their end, and gives the kernel's resources back. Twice is fine.

        Raises the errors of tasks that nobody asked for.
        """
        if self.closed:
            return
        self._check()
        try:
            if self._busy():
                self.root.cancel("the loop was closed")
                self.abort_relays()
                with self._driven(None):
                    self.run_turns()
        finally:
            super().close()
        self._raise_failures()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
