"""Calls into a loop from other OS threads: those of ``to_thread``, and any others that know the loop."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from greenlet import GreenletExit

from netnet.errors import Cancelled, TaskCancelledError, UsageError
from netnet.runtime.loop import Call, Loop
from netnet.runtime.task import Task
from netnet.runtime.threads import Offload, working
from netnet.runtime.worker import running

T = TypeVar("T")

#: how often a thread that waits for an answer looks whether the loop still is there
LOOK_AGAIN_SECONDS = 1.0


class _Request(Generic[T]):
    """One call from a thread, which waits for the answer."""

    def __init__(self, loop: Loop, function: Callable[..., T], args: tuple[object, ...]) -> None:
        self.loop = loop
        self.function = function
        self.args = args
        self.context = contextvars.copy_context()
        self.task: Task[None] | None = None
        self.given_up = False
        self.value: T
        self.error: BaseException | None = None
        self._door = threading.Lock()
        self._door.acquire()

    def switch(self) -> None:
        """In the loop: the call becomes a task."""
        if self.given_up:
            return
        self.task = Task(self.loop, self.loop.root, self._work, (), getattr(self.function, "__qualname__", None))
        self.task.context = self.context

    def _work(self) -> None:
        try:
            self.value = self.function(*self.args)
        except Exception as error:
            self.error = error  # the thread's to handle
        except BaseException as error:
            self.error = error
            raise
        finally:
            self._door.release()

    def refuse(self) -> None:
        """The run has ended meanwhile."""
        self.error = _ended()
        self._door.release()

    def answer(self) -> T:
        """In the thread: waits for the end of the task."""
        try:
            while not self._door.acquire(timeout=LOOK_AGAIN_SECONDS):
                if self.loop.closed:
                    raise _ended()
        except BaseException:  # Ctrl-C in this thread
            self.given_up = True
            task = self.task
            if task is not None:
                self.loop.call_from_thread(Call(lambda: task.cancel("the thread that had called it was interrupted")))
            raise
        error, self.error = self.error, None
        if isinstance(error, (Cancelled, GreenletExit)):
            raise TaskCancelledError(f"the call was cancelled: {error}") from error
        if error is not None:
            try:
                raise error
            finally:
                del error
        return self.value


def _ended() -> UsageError:
    return UsageError("the run that was to make the call has ended")


def _loop_of(loop: Loop | None) -> Loop:
    if loop is None:
        offload: Offload[object] | None = getattr(working, "offload", None)
        if offload is None:
            raise UsageError("which loop? Outside a call of to_thread() say loop=..., from netnet.current_loop()")
        loop = offload.loop
    if getattr(running, "loop", None) is loop:
        raise UsageError("this thread runs that loop itself; call the function, or spawn a task for it")
    if getattr(running, "loop", None) is not None:
        raise UsageError(
            "this thread runs a loop of its own, which would stand still meanwhile; call it by to_thread()"
        )
    return loop


def run(function: Callable[..., T], /, *args: object, loop: Loop | None = None) -> T:
    """Calls ``function(*args)`` in a task of *loop* and waits for it, in a copy of the calling thread's context.

    To be called in another OS thread. In one of ``to_thread`` *loop* is that of the caller; other threads name one, that
    ``netnet.current_loop()`` gave. Blocks the thread. Returns or raises what the function does. Raises
    ``TaskCancelledError`` when the call is cancelled, ``UsageError`` when the run has ended. Cf.
    ``anyio.from_thread.run``.
    """
    request = _Request(_loop_of(loop), function, args)
    if not request.loop.call_from_thread(request):
        raise _ended()
    return request.answer()


def run_soon(function: Callable[..., object], /, *args: object, loop: Loop | None = None) -> None:
    """Starts ``function(*args)`` as a task of *loop* and does not wait for it; otherwise as ``run``.

    Its error is the task's: logged, when nobody asks for it.
    """
    target = _loop_of(loop)
    context = contextvars.copy_context()

    def start() -> None:
        Task(target, target.root, function, args).context = context

    if not target.call_from_thread(Call(start)):
        raise _ended()


def check_cancelled() -> None:
    """In a thread of ``to_thread``: raises ``Cancelled`` when the task that called it is cancelled.

    For long computations in threads. Raises ``UsageError`` in any other thread.
    """
    offload: Offload[object] | None = getattr(working, "offload", None)
    if offload is None:
        raise UsageError("check_cancelled() is for functions that to_thread() calls")
    if offload.abandoned or offload.scope.cancelled:
        raise Cancelled("the task that had called this was cancelled")
