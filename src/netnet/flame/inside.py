"""The sampler that runs in the program itself, and so knows which green thread is running.

A timer of processor time sends SIGPROF. Python calls the handler in the main thread, between two of its instructions,
with the frame that was interrupted. A sample is worth the processor time that its thread has used since the last one: a
call of C code that takes long gets as many as it took, although the handler hears of it only afterwards, and a thread that
waits gets none. Other OS threads with a Python frame are sampled as well, at the same moments, unless they were not started
by the module ``threading``.

An idle loop is not woken: it uses no processor time. In a busy one a sample is one more event, since the signal writes to
the loop's wake-up descriptor. The signal interrupts calls of the system, which Python then makes again (PEP 475); were
they restarted by the kernel (siginterrupt(3)), a main thread that waits in one would not hear of it, and what computes in
other threads meanwhile would not be seen.

Counts are written about once a second, and at the end, to a file of the process in a private folder; who wants them merges
the files. A forked child goes on sampling, into a file of its own. ``os._exit`` is replaced meanwhile, so that the end of
a worker is not lost. What only a running program can tell it tells itself: ``allow`` lets ``netnet flame --pid`` ask.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any, Final

from greenlet import getcurrent

from netnet.errors import UsageError
from netnet.flame import private
from netnet.flame.frames import LOOP, NO_TASK, label
from netnet.flame.roots import Roots
from netnet.flame.timer import Timer
from netnet.runtime.loop import Loop
from netnet.runtime.worker import Worker, main_then_stop

#: samples for each second of processor time: enough for shares to a percent or two after ten seconds of work; one costs
#: 10 to 30 µs, so less than one percent of the time
RATE: Final = 200.0
RATE_MAX: Final = 10_000.0

#: calls of one stack that are kept, from the outermost on
DEPTH_MAX: Final = 250
DEEPER: Final = "(deeper calls)"

#: different stacks of one process; further ones fall together by their roots
STACKS_MAX: Final = 20_000
OTHER: Final = "(other stacks)"

#: how often counts are written; the first time soon, since a process may be ended before it has run for that long
WRITE_SECONDS: Final = 1.0
WRITE_FIRST_SECONDS: Final = 0.1

_WORKER: Final = Worker.run.__code__
_TURNS: Final = Loop.run_turns.__code__
#: a call that the root frames tell already
_MAIN: Final = main_then_stop.__code__

_PER_THREAD_CPU: Final = 4 | 2  # CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED

_Key = tuple[str | int, ...]


def _processor_seconds(thread: int) -> float:
    """What the thread with this number of the kernel's has used; 0 when it has ended.

    The clock's number is made as pthread_getcpuclockid(3) makes it, which for a thread that has ended may crash.
    """
    try:
        return time.clock_gettime((~thread << 3) | _PER_THREAD_CPU)
    except OSError:
        return 0.0


class Recorder:
    """Samples this process, from ``start`` on, into files of the folder *folder* whose names begin with *token*.

    *rate*: samples a second. It ends by itself after *seconds*, or when the file *request* of that folder is gone; that is
    looked at with each sample.
    """

    def __init__(self, folder: str, token: str, rate: float, request: str = "", seconds: float = math.inf) -> None:
        if not 0 < rate <= RATE_MAX:
            raise UsageError(f"the rate must be more than 0 and at most {RATE_MAX:g} samples a second, not {rate:g}")
        self._folder = folder
        self._token = token
        self._rate = rate
        self._request = os.path.join(folder, request) if request else ""
        self._until = time.monotonic() + seconds
        self._timer: Timer | None = None

    def start(self) -> None:
        """Begins, with nothing counted. Raises ``OSError`` where the folder cannot be written."""
        self._name = f"{self._token}-{os.getpid()}-{time.monotonic_ns()}.json"
        self._busy = False
        self._roots = Roots()
        self._counts: dict[_Key, int] = {}
        self._codes: dict[int, CodeType] = {}
        self._used = {native: _processor_seconds(native) for _, native in _other_threads()}
        self._used[0] = time.thread_time()
        self._next_write = time.monotonic() + WRITE_FIRST_SECONDS
        self.write(done=False)
        self._timer = Timer(1 / self._rate)

    def stop(self) -> None:
        """Ends the sampling and writes what there is, if it still can be written."""
        self._busy = True
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        with contextlib.suppress(OSError):
            self.write(done=True)

    def tick(self, frame: FrameType | None) -> bool:
        """Takes a sample; *frame* is where the main thread stands. False when it is time to stop."""
        if self._busy:
            return True
        self._busy = True
        try:
            if self._over():
                return False
            self._sample(frame)
            instant = time.monotonic()
            if instant >= self._next_write:
                self.write(done=False)
                self._next_write = time.monotonic() + max(WRITE_SECONDS, 20 * (time.monotonic() - instant))
        except OSError:  # the folder is gone, and with it who wanted to know
            return False
        finally:
            self._busy = False
        return True

    def _over(self) -> bool:
        return time.monotonic() >= self._until or bool(self._request and not os.path.exists(self._request))

    # -- a sample

    def _sample(self, frame: FrameType | None) -> None:
        samples = self._due(0, time.thread_time())
        if samples and frame is not None:
            self._count(self._stack(frame, getcurrent()), samples)
        if _thread._count():
            frames = sys._current_frames()
            for ident, native in _other_threads():
                samples = self._due(native, _processor_seconds(native))
                other = frames.get(ident)
                if samples > 0 and other is not None:
                    self._count(self._stack(other, None), samples)

    def _due(self, thread: int, used_seconds: float) -> int:
        """How many samples the time is worth that a thread has used since its last one."""
        before = self._used.get(thread, 0.0)
        samples = int((used_seconds - before) * self._rate + 0.5)
        self._used[thread] = before + samples / self._rate
        return samples

    def _stack(self, frame: FrameType | None, running: object) -> _Key:
        """Where a thread stands, below the task that it runs: *running*, or whichever its frames tell."""
        roots: tuple[str, ...] = (NO_TASK,)
        codes = self._codes
        inner: list[int] = []
        while frame is not None:
            code = frame.f_code
            if code is _WORKER:
                task = getattr(_worker_of(frame) if running is None else running, "task", None)
                roots = (LOOP,) if task is None else self._roots.of(task)
                break
            if code is not _MAIN:
                number = id(code)
                codes[number] = code  # so that the number stays its own
                inner.append(number)
            if code is _TURNS:
                roots = (LOOP,)
                break
            frame = frame.f_back
        inner.reverse()
        if len(inner) > DEPTH_MAX:
            return (*roots, *inner[:DEPTH_MAX], DEEPER)
        return (*roots, *inner)

    def _count(self, key: _Key, samples: int) -> None:
        counts = self._counts
        if key not in counts and len(counts) >= STACKS_MAX:
            key = (*(part for part in key[:2] if isinstance(part, str)), OTHER)
        counts[key] = counts.get(key, 0) + samples

    # -- the file

    def write(self, *, done: bool) -> None:
        """Writes all counts so far. Raises ``OSError``."""
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            value = {"pid": os.getpid(), "done": done, "stacks": list(self._told())}
            private.write_json(folder, self._name, value)
        finally:
            os.close(folder)

    def _told(self) -> Iterator[tuple[int, list[str]]]:
        labels = {
            number: label(code.co_qualname, code.co_filename, code.co_firstlineno)
            for number, code in self._codes.items()
        }
        for key, samples in self._counts.items():
            yield samples, [part if isinstance(part, str) else labels[part] for part in key]


def _other_threads() -> list[tuple[int, int]]:
    """The threads other than the main one: their numbers in Python, and in the kernel."""
    main = threading.main_thread()
    return [
        (one.ident, one.native_id)
        for one in threading.enumerate()
        if one is not main and one.ident is not None and one.native_id is not None
    ]


def _worker_of(frame: FrameType) -> object:
    """The worker whose ``run`` is running in this frame, of another thread.

    What Python makes for ``f_locals`` stays with the frame, and so would the task; it is emptied again.
    """
    values = frame.f_locals
    worker = values.get("self")
    if type(values) is dict:
        values.clear()
    return worker


# -- one for the process


_recorder: Recorder | None = None
_allowed = False
_exit = os._exit


def _on_signal(number: int, frame: FrameType | None) -> None:
    """SIGPROF: a tick of the timer; or, where attaching is allowed, somebody asks."""
    if _recorder is None:
        if _allowed:
            _look_for_request()
    elif not _recorder.tick(frame):
        end()


def begin(recorder: Recorder) -> None:
    """Starts *recorder*, and has it told of each tick. In the main thread.

    Raises ``UsageError`` in another thread, and while this process is being sampled already; ``OSError``.
    """
    global _recorder
    if _recorder is not None:
        raise UsageError("this process is being sampled by task already")
    _listen()
    _recorder = recorder
    try:
        recorder.start()
    except BaseException:
        _recorder = None
        raise
    os._exit = _write_and_exit
    atexit.register(end)


def end() -> None:
    """Stops the sampling, and writes its last counts. Does nothing where there is none."""
    global _recorder
    recorder, _recorder = _recorder, None
    if recorder is not None:
        recorder.stop()
        atexit.unregister(end)
        os._exit = _exit
        if not _allowed and threading.current_thread() is threading.main_thread():
            # what was there before would die of a late tick
            signal.signal(signal.SIGPROF, signal.SIG_IGN)


def _write_and_exit(status: int) -> Any:
    recorder = _recorder
    if recorder is not None:
        recorder.stop()
    _exit(status)


def _listen() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise UsageError("sampling by task is begun in the main thread only; that is where Python handles signals")
    signal.signal(signal.SIGPROF, _on_signal)


def _after_fork() -> None:
    """In a forked child: samples go on, counted from nothing, with a timer of its own."""
    global _recorder
    if _recorder is not None:
        try:
            _recorder.start()
        except (OSError, UsageError):  # it is not worth the child
            _recorder = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# -- being asked from outside


def allow() -> None:
    """Lets ``netnet flame --pid PID --by-task`` sample this program while it runs. Costs nothing until then.

    It takes SIGPROF, and so cannot be used beside another user of that signal. Only who may signal this process, and write
    to a folder that belongs to its user alone, is heard: that user, and root. Call it in the main thread; ``UsageError``
    elsewhere. Children that are forked later can be sampled, too.
    """
    global _allowed
    _listen()
    _allowed = True


def _look_for_request() -> None:
    """Begins to record, if there is a request for this process. What is not as it should be is no request."""
    user = os.geteuid()
    place = os.path.join(private.PLACE, private.folder_of(user))
    try:
        folder = private.open_folder(place, user)
    except (OSError, UsageError):
        return
    try:
        name = str(os.getpid())
        request = private.read_json(folder, name, user)
    finally:
        os.close(folder)
    with contextlib.suppress(OSError, UsageError, KeyError, TypeError, ValueError):
        token = str(int(request["token"]))  # it becomes a file's name
        begin(Recorder(place, token, float(request["rate"]), request=name, seconds=float(request["seconds"])))
