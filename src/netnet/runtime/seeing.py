"""Seeing inside: which tasks there are, what each waits for and since when, where it stands; and a watchdog for a task
that does not let the others run.

Everything here only looks. It can be used from other OS threads and from signal handlers, so it takes no lock.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self, TextIO

from netnet.errors import UsageError
from netnet.runtime import company
from netnet.runtime.loop import Loop, living_loops, snapshot
from netnet.runtime.scope import Scope
from netnet.runtime.task import Task, log
from netnet.runtime.worker import Worker, current_worker, main_then_stop

#: a task that has held the loop for so long is reported
HELD_SECONDS = 0.1

_WORKER_CODE = Worker.run.__code__
#: where netnet's own files are
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def tasks(loop: Loop | None = None) -> list[Task[Any]]:
    """Every task that has not ended, of *loop* or of the calling task's; those that started others before these.

    Does not switch tasks. Raises ``UsageError`` outside a task, where no *loop* is given.
    """
    return (current_worker().loop if loop is None else loop).tasks()


def task_tree(loop: Loop | None = None, *, stacks: bool = True) -> str:
    """The groups and tasks of *loop* (or the calling task's) as a text: each with what it does, since when, and where.

    Without *stacks* one line for each task. Does not switch tasks. Raises ``UsageError`` as ``tasks`` does.
    """
    return "\n".join(_tree(current_worker().loop if loop is None else loop, stacks))


def dump(file: TextIO | None = None, *, stacks: bool = True) -> None:
    """Writes the ``task_tree`` of every loop of the process to *file*, or to standard error.

    From any OS thread, also while loops run in others. Never raises what writing raises.
    """
    _write(_text(stacks) + "\n", sys.stderr if file is None else file)


def _text(stacks: bool) -> str:
    lines = [f"netnet: process {os.getpid()}"]
    for loop in living_loops():
        lines += _tree(loop, stacks)
    return "\n".join(lines)


def _write(text: str, file: TextIO | None) -> None:
    if file is None:  # a program without a standard error
        return
    try:
        try:
            file.write(text)
        except UnicodeEncodeError:
            encoding = getattr(file, "encoding", None) or "ascii"
            file.write(text.encode(encoding, "backslashreplace").decode(encoding))
        file.flush()
    except Exception as error:
        with contextlib.suppress(Exception):  # logging may want to write to the same place
            log.error("the tasks could not be told: %s", error)


def _tree(loop: Loop, stacks: bool) -> Iterator[str]:
    counters = loop.counters
    thread = next((one.name for one in threading.enumerate() if one.ident == loop.thread_ident), "?")
    yield (
        f"loop in thread {thread}, {loop.poller.name}: {loop.alive} tasks, {len(loop.relays)} relays, "
        f"{len(loop.descriptors)} descriptors; {counters.polls} polls, {counters.switches} switches, "
        f"latest timer {counters.lag_max:.3f} s late"
    )
    yield from _below(loop.root, "", stacks)
    for call in snapshot(loop.outside):
        yield f"  in an OS thread: {call}"


def _below(root: Scope, margin: str, stacks: bool) -> Iterator[str]:
    """The lines of all tasks in *root*. A pile, not a recursion: groups may stand in groups without end."""
    pile: list[tuple[str, Task[Any] | str, bool]] = []

    def pile_up(group: Scope, margin: str) -> None:
        members = snapshot(group.children or ())
        pile.extend((margin, task, number == 0) for number, task in enumerate(reversed(members)))

    pile_up(root, margin)
    while pile:
        margin, task, last = pile.pop()
        if isinstance(task, str):
            yield margin + task
            continue
        yield f"{margin}{'└─' if last else '├─'} {_line(task)}"
        inner = margin + ("   " if last else "│  ")
        if stacks:
            for frame in _outline(task.stack()).format():
                for line in frame.rstrip("\n").split("\n"):
                    yield f"{inner}  {line.strip() if line.startswith('  File') else '  ' + line.strip()}"
        for scope in reversed(task.groups()):
            if scope.children:
                pile_up(scope, inner)
                pile.append((inner, type(scope).__name__, False))


def _outline(stack: traceback.StackSummary) -> traceback.StackSummary:
    """*stack* without what goes on inside netnet: of each run of its lines the first, which is the call that was made."""
    kept: list[traceback.FrameSummary] = []
    inside = False
    for frame in stack:
        ours = frame.filename.startswith(_PACKAGE)
        if frame.name != main_then_stop.__name__ and not (ours and inside):
            kept.append(frame)
            inside = ours
    return traceback.StackSummary.from_list(kept)


def _line(task: Task[Any]) -> str:
    since = task.waiting_seconds
    told = f"{task.name}: {task.describe()}{'' if since is None else f', for {since:.3f} s'}"
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in told)


def dump_on_signals(*numbers: int) -> None:
    """Has *numbers* (``SIGUSR1`` and ``SIGQUIT`` by default) write all tasks to standard error, and the program go on.

    That is when Python code runs in the main thread: also in the middle of a loop, a system call or a wait for a lock.
    ``SIGQUIT`` is for what is wedged in C code, too: what OS threads do is written first, and at once, by
    ``faulthandler``. That is a last resort, since it reads their frames while they change: CPython may crash in it (one
    of 40 times, measured with a thread that was just starting). Call this in the main thread; ``UsageError`` elsewhere.
    See signal(7).
    """
    if threading.get_ident() != threading.main_thread().ident:
        raise UsageError("signals can be set in the main thread only")
    if sys.stderr is None:
        raise UsageError("this program has no standard error to write to")
    for number in numbers or (signal.SIGUSR1, signal.SIGQUIT):
        faulthandler.unregister(number)  # else it would not see that the handler below it is another one
        signal.signal(number, _on_signal)
        if number == signal.SIGQUIT:
            faulthandler.register(number, chain=True)


def _on_signal(number: int, frame: FrameType | None) -> None:
    """By the descriptor, since the signal may have struck in the middle of a write to the file."""
    try:
        text = memoryview((_text(stacks=True) + "\n").encode("utf-8", "backslashreplace"))
        while text:
            text = text[os.write(sys.stderr.fileno(), text) :]
    except Exception:  # no descriptor, or nobody who reads it
        dump()


class Watchdog:
    """Reports a task that holds the loop: ``with netnet.Watchdog(0.1): ...``, for as long as these lines run.

    An OS thread looks several times in *seconds*. A task that has run for longer without letting the others is told to
    *report*, with its name, the seconds so far, and where it stands; by default that is logged as a warning. Once for
    each time. *report* is called in that thread, while the task runs on.
    """

    def __init__(
        self,
        seconds: float = HELD_SECONDS,
        report: Callable[[str, float, traceback.StackSummary], object] | None = None,
    ) -> None:
        if not seconds > 0:
            raise ValueError(f"a watchdog needs a time of more than 0 seconds, not {seconds!r}")
        self._seconds = seconds
        self._report = _log_held if report is None else report
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        #: what was seen at the last look, since when, and whether it has been told
        self._mark: object = None
        self._since = self._looked = time.monotonic()
        self._told = False

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise UsageError("this watchdog was started before; make a new one")
        loop = current_worker().loop
        self._thread = threading.Thread(target=self._watch, args=(loop,), name="netnet-watchdog", daemon=True)
        company.helpers.add(self._thread)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._thread is not None
        self._stop.set()
        self._thread.join(self._seconds + 1)  # not for ever: a report may wait for this very loop
        company.helpers.discard(self._thread)

    def _watch(self, loop: Loop) -> None:
        while not self._stop.wait(self._seconds / 4):
            try:
                self._look(loop)
            except Exception:
                log.exception("the watchdog could not report")

    def _look(self, loop: Loop) -> None:
        frame = _task_frame(loop)
        mark = None if frame is None else (loop.counters.polls, loop.left, loop.unlooked())
        now = time.monotonic()
        if mark is None or mark != self._mark:
            # what holds the interpreter, too, is seen only when it lets go: it has run since the last look, or the turn's
            # beginning
            since = now if loop.clock.jumps else max(self._looked, loop.turned)
            self._mark, self._since, self._told = mark, since, False
        self._looked = now
        if mark is not None and not self._told and now - self._since >= self._seconds:
            self._told = True
            stack = traceback.StackSummary.extract(_task_frames(frame))
            stack.reverse()
            self._report(_running_name(loop), now - self._since, stack)


def _task_frame(loop: Loop) -> FrameType | None:
    """Where the task stands that *loop* is running right now; ``None`` while the loop itself runs or waits."""
    top = frame = sys._current_frames().get(loop.thread_ident)
    while frame is not None and frame.f_code is not _WORKER_CODE:
        frame = frame.f_back
    return None if frame is None else top


def _running_name(loop: Loop) -> str:
    """The name of that task: the one whose greenlet is active and has no frame of its own to show."""
    for task in loop.tasks():
        worker = task.worker
        if worker is not None and bool(worker) and worker.gr_frame is None:
            return task.name
    return "?"


def _task_frames(frame: FrameType | None) -> Iterator[tuple[FrameType, int]]:
    """The frames of a task from the innermost on, without those of netnet below it."""
    while frame is not None and frame.f_code is not _WORKER_CODE:
        yield frame, frame.f_lineno
        frame = frame.f_back


def _log_held(name: str, seconds: float, stack: traceback.StackSummary) -> None:
    log.warning(
        "task %s has held the loop for %.3f s; others have to wait meanwhile\n%s",
        name,
        seconds,
        "".join(stack.format()),
    )
