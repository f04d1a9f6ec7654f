"""Ctrl-C and SIGTERM while a loop runs in the main thread.

The handlers only note the signal and wake the loop, which delivers it in its next turn: SIGINT raises
``KeyboardInterrupt`` in the main task where it waits (or at its next blocking call); SIGTERM cancels the main task and
all others. If they let it pass, ``run`` raises ``KeyboardInterrupt``, or ``SystemExit(143)``. Two cases cannot wait for a turn:

- the main task itself is computing, in code that is not netnet's own: SIGINT is raised right there;
- the same signal came before and has not been delivered yet, because some task does not let go of the loop: the second
  one is raised in that task.

SIGTERM lets those end in good order first who asked for it (a server that drains); a second one does not. Other signals
are for ``open_signals``. A handler that the program has set itself is left alone, and so are loops in other threads,
where Python cannot deliver. What such a handler raises while the loop polls goes to the main task, where it waits; if it
strikes while a task runs, that task gets it, as Python has it. If it strikes in the loop's own lines between two tasks,
it ends the run: a handler had better only note what came.
"""

from __future__ import annotations

import functools
import math
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Self

from greenlet import getcurrent

from netnet.errors import UsageError
from netnet.runtime.channel import Channel
from netnet.runtime.loop import Call, Loop
from netnet.runtime.worker import current_worker, worker_or_none

TERMINATED = 128 + signal.SIGTERM

#: signal → the handler that says the program has not set one of its own
_DEFAULTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


def _error(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(TERMINATED)


def _in_user_code(frame: FrameType | None) -> bool:
    """Whether no function of netnet, other than the one that runs tasks, stands between the task and *frame*."""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module == "netnet.runtime.worker":
            return True
        if module == "netnet" or module.startswith("netnet."):
            return False
        frame = frame.f_back
    return False


class Delivery:
    """Listens to signals for one loop, from ``start`` to ``stop``."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self._replaced: dict[int, signal._HANDLER] = {}
        self._wake_fd = -1
        self._listening = False

    def start(self) -> None:
        if threading.get_ident() != threading.main_thread().ident:
            return
        self._listening = True
        self._wake_fd = signal.set_wakeup_fd(self.loop.poller.wake_fd, warn_on_full_buffer=False)
        for number, default in _DEFAULTS.items():
            if signal.getsignal(number) == default:
                self._replaced[number] = signal.signal(number, self._note)
        self.loop.take_signals = self._deliver
        self.loop.stop_listening = self.stop
        self.loop.poll_failed = self._poll_failed

    def stop(self) -> None:
        if not self._listening:
            return
        self._listening = False
        for number, handler in self._replaced.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, handler)
        signal.set_wakeup_fd(self._wake_fd)

    def _note(self, number: int, frame: FrameType | None) -> None:
        loop = self.loop
        if number in loop.signals and worker_or_none() is not None:
            loop.signals.remove(number)
            raise _error(number)
        main = loop.main
        busy = main is not None and main.worker is not None and main.worker is getcurrent()
        if busy and number == signal.SIGINT and _in_user_code(frame):
            raise KeyboardInterrupt
        loop.signals.append(number)
        loop.cut_turn()
        loop.poller.wake()

    def _deliver(self) -> None:
        while self.loop.signals:
            self._raise_in_main(_error(self.loop.signals.popleft()))

    def _raise_in_main(self, error: BaseException) -> None:
        loop = self.loop
        main = loop.main
        worker = None if main is None else main.worker
        if isinstance(error, SystemExit):
            loop.terminate(error)
        elif worker is None:
            loop.shut_down(error)
        elif not loop.interrupt(worker, lambda: error):
            worker.interrupt = error
            worker.task.enter(worker.task.scope)

    def _poll_failed(self, error: BaseException) -> None:
        """The poll raised: an error of the poller's own ends the run; a handler's goes to the main task."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        in_poller = trace is None or trace.tb_frame.f_globals.get("__name__", "").startswith("netnet.poller")
        if in_poller and isinstance(error, (OSError, ValueError)):  # a handler in C has no frame of its own
            raise error
        self._raise_in_main(error)
        self.loop.look_again()  # the handler may have struck after the kernel told its events


#: signal → who waits for it, and what handled it before the first of them came
_waiting: dict[int, list[open_signals]] = {}
_before: dict[int, signal._HANDLER] = {}


def _dispatch(number: int, frame: FrameType | None) -> None:
    for one in tuple(_waiting.get(number, ())):
        one.note(signal.Signals(number))


class open_signals:  # reads like the function that it is used as
    """Signals as something to wait for: ``with open_signals(SIGHUP) as signals: for number in signals: ...``.

    While it is open the signals *numbers* do nothing else. Those that come while nobody waits are kept, each once. Where
    several are open for one signal, each gets it. In a task of a loop in the main thread; ``UsageError`` elsewhere.
    Iterating switches tasks, and raises ``Cancelled``; it never ends by itself. ``OSError`` for a signal that cannot be
    handled. See signal(7). Cf. ``trio.open_signal_receiver``.
    """

    def __init__(self, *numbers: int) -> None:
        if not numbers:
            raise ValueError("open_signals() needs a signal to wait for")
        self._numbers = tuple(dict.fromkeys(signal.Signals(number) for number in numbers))
        self._channel: Channel[signal.Signals] = Channel(math.inf)
        self._kept: set[signal.Signals] = set()
        self._loop: Loop | None = None

    def __enter__(self) -> Self:
        if threading.get_ident() != threading.main_thread().ident:
            raise UsageError("signals can be waited for in the main thread only; that is how Python delivers them")
        if self._loop is not None:
            raise UsageError("these signals are open already")
        loop = current_worker().loop
        try:
            for number in self._numbers:
                if not _waiting.get(number):
                    _before[number] = signal.signal(number, _dispatch)
                _waiting.setdefault(number, []).append(self)
        except BaseException:
            self._leave()
            raise
        self._loop = loop
        loop.expecting += 1
        return self

    def note(self, number: signal.Signals) -> None:
        """It has come; called by the handler."""
        if self._loop is not None and number not in self._kept:
            self._kept.add(number)
            self._loop.call_from_thread(Call(functools.partial(self._channel.send_now, number)))

    def __iter__(self) -> Iterator[signal.Signals]:
        while True:
            yield self.wait()

    def wait(self) -> signal.Signals:
        """The next one. Switches tasks. Raises ``Cancelled``."""
        number = self._channel.receive()
        self._kept.discard(number)
        return number

    def _leave(self) -> None:
        for number in self._numbers:
            waiting = _waiting.get(number, [])
            if self in waiting:
                waiting.remove(self)
                if not waiting:
                    signal.signal(number, _before.pop(number))

    def __exit__(self, *_: object) -> None:
        if self._loop is not None:
            self._leave()
            self._loop.expecting -= 1
            self._loop = None


def _after_fork() -> None:
    """Who waits is in the parent; here the signals go on doing nothing else."""
    _waiting.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
