"""A timer that counts the processor time of the process and sends SIGPROF: timer_create(2).

The signal goes to the thread that has made the timer (SIGEV_THREAD_ID): whoever computes, a main thread that waits has to
hear of it. Not ``signal.setitimer``: an interval timer goes on in the program that a process executes next, which would
die of the signal; this one is deleted then. Neither is inherited by a fork. Where nothing is computed it does not tick.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from typing import Any, Final

from netnet.errors import UsageError

_SIGEV_THREAD_ID: Final = 4


class _Event(ctypes.Structure):
    """``struct sigevent``, which is 64 bytes long on Linux."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("thread", ctypes.c_int),
        ("rest", ctypes.c_char * 44),
    )


class _Span(ctypes.Structure):
    """``struct itimerspec``: the interval, and the time to the first tick; each in seconds and nanoseconds."""

    _fields_ = (
        ("interval_seconds", ctypes.c_long),
        ("interval_nanoseconds", ctypes.c_long),
        ("first_seconds", ctypes.c_long),
        ("first_nanoseconds", ctypes.c_long),
    )


def _system() -> Any:
    for name in (None, "librt.so.1"):  # in the C library since glibc 2.34
        try:
            library = ctypes.CDLL(name, use_errno=True)
            library.timer_create  # noqa: B018  # is it there?
        except (OSError, AttributeError):
            continue
        return library
    raise UsageError("this system has no timers of processor time (timer_create), which sampling by task needs")


class Timer:
    """Sends SIGPROF to this thread each time the process, all of its threads, has used *period_seconds* of processor time.

    From the beginning on until ``close``. The kernel looks only at its own ticks (100 to 1000 a second), so a signal may
    come later than that. Raises ``UsageError`` where there are no such timers, ``OSError``.
    """

    def __init__(self, period_seconds: float) -> None:
        self._system = _system()
        self._timer = ctypes.c_void_p()
        event = _Event(signal=signal.SIGPROF, notify=_SIGEV_THREAD_ID, thread=threading.get_native_id())
        self._call("timer_create", time.CLOCK_PROCESS_CPUTIME_ID, ctypes.byref(event), ctypes.byref(self._timer))
        period = divmod(round(period_seconds * 1e9), 1_000_000_000)
        self._call("timer_settime", self._timer, 0, ctypes.byref(_Span(*period, *period)), None)

    def _call(self, name: str, *arguments: object) -> None:
        if getattr(self._system, name)(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")

    def close(self) -> None:
        """No signal comes from now on, but for one that is on its way."""
        self._system.timer_delete(self._timer)
