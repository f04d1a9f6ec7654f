"""Child processes: waiting for their end without blocking the loop, and saying how they ended."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from netnet.runtime.api import sleep
from netnet.runtime.foreign import wait_readable


def flush_output() -> None:
    """Writes out what standard output and error hold, so that it is not written twice, or never."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def reap(pid: int) -> int | None:
    """Waits for the end of a child process; its status, ``None`` where somebody else has asked for it. Switches tasks."""
    try:
        watched = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return _reap_by_looking(pid)
    try:
        wait_readable(watched)
    finally:
        os.close(watched)
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:
        return None


def _reap_by_looking(pid: int) -> int | None:
    """The same where the kernel has no descriptors for processes: looks again at growing intervals."""
    pause = 0.001
    while True:
        try:
            done, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return None
        if done:
            return status
        sleep(pause)
        pause = min(0.05, pause * 2)


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def ending_text(status: int | None) -> str:
    """How a process ended, in words."""
    if status is None:
        return "ended"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"was killed by signal {number}, {signal.strsignal(number)}"
    return f"ended with status {os.waitstatus_to_exitcode(status)}"
