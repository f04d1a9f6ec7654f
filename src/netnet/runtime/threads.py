"""OS threads, for calls that block and cannot be made to cooperate: ``to_thread``. The way back is in ``from_thread``.

Threads are kept for a while and reused. They are daemons: a program never waits for one at its end. Cancelling the task
abandons the call: it goes on in its thread and what it returns is dropped; but its error is logged, its token of the
limiter is given back only when it has ended, and a run that ends before it says so.
"""

from __future__ import annotations

import contextvars
import os
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from netnet.errors import ThreadError
from netnet.runtime import company
from netnet.runtime.loop import Loop
from netnet.runtime.scope import Scope, Shield
from netnet.runtime.sync import CapacityLimiter
from netnet.runtime.task import log
from netnet.runtime.worker import Worker, current_worker

T = TypeVar("T")

#: calls in threads at once, of one loop; further calls wait. Enough for slow name look-ups, few enough for small machines
THREADS_MAX = 40

#: an unused thread ends after so long
IDLE_SECONDS = 10.0

#: what the calling OS thread is at work on, if that is a call of ``to_thread``
working = threading.local()


class Offload(Generic[T]):
    """One call in a thread, and the worker that waits for it."""

    def __init__(
        self, worker: Worker, function: Callable[..., T], args: tuple[object, ...], limiter: CapacityLimiter
    ) -> None:
        self.loop = worker.loop
        self.worker: Worker | None = worker
        self.function = function
        self.args = args
        self.limiter = limiter
        #: where the caller stands; once it is cancelled, nobody wants the result
        self.scope: Scope = worker.task.scope
        self.context = contextvars.copy_context()
        self.value: T
        self.error: BaseException | None = None

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.worker is None

    def call(self) -> None:
        """In the thread."""
        thread = threading.current_thread()
        working.offload = self
        company.helpers.discard(thread)  # what it calls may wake somebody
        company.handed.discard(self)
        try:
            self.value = self.context.run(self.function, *self.args)
        except BaseException as error:
            self.error = error
        finally:
            working.offload = None
            company.helpers.add(thread)
        if not self.loop.call_from_thread(self):
            self._settle()

    def switch(self) -> None:
        """Back in the loop."""
        self.loop.outside.discard(self)
        self._settle()
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.waiting = None
            self.loop.ready.append(worker)

    def refuse(self) -> None:
        """The run has ended meanwhile."""
        self.loop.outside.discard(self)
        self._settle()

    def _settle(self) -> None:
        self.limiter.release_on_behalf_of(self)
        if self.error is not None and self.worker is None:
            log.error("%s failed in an OS thread; the task that had called it was cancelled", self, exc_info=self.error)

    def forget(self, worker: Worker) -> bool:
        waited, self.worker = self.worker is worker, None
        return waited

    def describe(self, worker: Worker) -> str:
        return f"{self} in an OS thread"

    def __str__(self) -> str:
        return str(getattr(self.function, "__qualname__", self.function))


class _Threads:
    """The threads, those with nothing to do included."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Offload[object]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._free = 0

    def submit(self, call: Offload[object]) -> None:
        with self._lock:
            start = self._free <= 0
            if not start:
                self._free -= 1
        if start:
            thread = threading.Thread(target=self._work, name="netnet-offload", daemon=True)
            company.helpers.add(thread)
            try:
                thread.start()
            except RuntimeError as error:
                company.helpers.discard(thread)
                raise ThreadError(f"an OS thread for {call} could not be started: {error}") from error
        company.handed.add(call)
        self._calls.put(call)

    def _work(self) -> None:
        while True:
            try:
                call = self._calls.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._free > 0:  # else a call is on its way to us
                        self._free -= 1
                        company.helpers.discard(threading.current_thread())
                        return
                continue
            call.call()
            del call
            with self._lock:
                self._free += 1


_threads = _Threads()


def _after_fork() -> None:
    """The child has none of the parent's threads."""
    global _threads
    _threads = _Threads()
    company.helpers.clear()
    company.handed.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def thread_limiter(loop: Loop) -> CapacityLimiter:
    """How many calls of ``to_thread`` the loop may have under way; ``total_tokens`` can be changed."""
    if loop.limiter is None:
        loop.limiter = CapacityLimiter(THREADS_MAX)
    return loop.limiter


def to_thread(
    function: Callable[..., T], /, *args: object, limiter: CapacityLimiter | None = None, abandon: bool = True
) -> T:
    """Calls ``function(*args)`` in an OS thread and waits for it, in a copy of the caller's context.

    *limiter* bounds how many such calls are under way; by default one of the loop's, with 40 tokens. Switches tasks.
    Returns or raises what the function does. When cancelled it raises ``Cancelled`` at once: a call that has not begun
    never will, one that has goes on without anybody waiting, and if it fails that is logged; it can ask
    ``from_thread.check_cancelled()``. With *abandon* false its end is waited for. Raises ``ThreadError`` when no thread
    can be started, or the run forbids it. Cf. ``asyncio.to_thread``.
    """
    worker = current_worker()
    loop = worker.loop
    if worker.home is not loop:
        loop.refuse(worker)
    if not loop.threads:
        raise ThreadError("this run does without OS threads (threads=False), so to_thread() cannot be used")
    offload = Offload(worker, function, args, limiter or thread_limiter(loop))
    offload.limiter.acquire_on_behalf_of(offload)
    try:
        if worker.home is not loop:
            loop.refuse(worker)
        _threads.submit(offload)  # type: ignore[arg-type]
    except BaseException:
        offload.limiter.release_on_behalf_of(offload)
        raise
    loop.outside.add(offload)
    if abandon:
        loop.rest(worker, offload)
    else:
        with Shield():
            loop.rest(worker, offload)
    if offload.error is not None:
        try:
            raise offload.error
        finally:
            del offload
    return offload.value
