"""OS threads, for calls that block and cannot be made to cooperate: ``to_thread``.

Threads are kept for a while and reused. They are daemons: a program never waits for one at its end. Cancelling the task
abandons the call: it goes on in its thread and what it returns is dropped.
"""

from __future__ import annotations

import contextvars
import os
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from netnet.runtime.loop import Loop
from netnet.runtime.worker import Worker, current_worker

T = TypeVar("T")

#: threads at once; further calls queue. Enough for slow name look-ups, few enough for small machines
THREADS_MAX = 40

#: an unused thread ends after so long
IDLE_SECONDS = 10.0


class _Offload(Generic[T]):
    """One call in a thread, and the worker that waits for it."""

    def __init__(self, loop: Loop, worker: Worker, function: Callable[..., T], args: tuple[object, ...]) -> None:
        self.loop = loop
        self.worker: Worker | None = worker
        self.function = function
        self.args = args
        self.context = contextvars.copy_context()
        self.value: T
        self.error: BaseException | None = None

    def call(self) -> None:
        """In the thread."""
        try:
            self.value = self.context.run(self.function, *self.args)
        except BaseException as error:
            self.error = error
        self.loop.call_from_thread(self)

    def switch(self) -> None:
        """Back in the loop."""
        self.loop.outside -= 1
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.waiting = None
            self.loop.ready.append(worker)

    def forget(self, worker: Worker) -> bool:
        waited, self.worker = self.worker is worker, None
        return waited

    def describe(self, worker: Worker) -> str:
        return f"{getattr(self.function, '__qualname__', self.function)} in an OS thread"


class _Threads:
    """The threads, those with nothing to do included."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[_Offload[object]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._free = 0

    def submit(self, call: _Offload[object]) -> None:
        with self._lock:
            start = self._free <= 0 and self._threads < THREADS_MAX
            if start:
                self._threads += 1
            else:
                self._free -= 1
        if start:
            try:
                threading.Thread(target=self._work, name="netnet-offload", daemon=True).start()
            except RuntimeError:
                with self._lock:
                    self._threads -= 1
                raise
        self._calls.put(call)

    def _work(self) -> None:
        while True:
            try:
                call = self._calls.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._free > 0:  # else a call is on its way to us
                        self._free -= 1
                        self._threads -= 1
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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def to_thread(function: Callable[..., T], /, *args: object) -> T:
    """Calls ``function(*args)`` in an OS thread and waits for it, in a copy of the caller's context.

    Switches tasks. Returns or raises what the function does. Raises ``Cancelled`` at once when cancelled: the call then
    goes on without anybody waiting. Raises ``RuntimeError`` when no thread can be started. Cf. ``asyncio.to_thread``.
    """
    worker = current_worker()
    loop = worker.loop
    if worker.home is not loop:
        loop.refuse(worker)
    offload = _Offload(loop, worker, function, args)
    _threads.submit(offload)  # type: ignore[arg-type]
    loop.outside += 1
    worker.waiting = offload
    loop.switch_to_hub()
    if offload.error is not None:
        try:
            raise offload.error
        finally:
            del offload
    return offload.value
