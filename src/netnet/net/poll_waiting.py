"""Waiting for what the kernel can tell of several descriptors at once: what ``Poll``, ``netnet.select`` and
``netnet.selectors`` park with. In a task these calls park it, outside one they block the OS thread.

Nothing here says what is ready. Who was woken looks, and waits again where there was nothing (``wait_and_look``).
"""

from __future__ import annotations

import math
import os
import select as _select
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol, Self, TypeVar

from netnet.poller.contract import READABLE
from netnet.poller.single import WAIT_SECONDS_MAX, wait_one
from netnet.runtime.api import now, sleep
from netnet.runtime.foreign import refuse_to_block, wait_readable
from netnet.runtime.scope import timeout_at
from netnet.runtime.worker import worker_or_none

T = TypeVar("T")

#: how many events one call of the kernel brings
EVENTS_MAX: Final = 512

#: where the kernel cannot wake us: how long to pause between two looks at first, and at most
PAUSE_SECONDS_MIN: Final = 0.001
PAUSE_SECONDS_MAX: Final = 0.05


class HasFileno(Protocol):
    """Anything that has a descriptor: a socket, a file, a pipe's end."""

    def fileno(self) -> int: ...


def has_epoll() -> bool:
    """Whether this system can wait for a set of descriptors by one descriptor."""
    return hasattr(_select, "epoll") and hasattr(os, "eventfd")


def wait_and_look(wait: Callable[[], bool], look: Callable[[], T], ready: Callable[[T], object] = bool) -> T:
    """Looks each time *wait* is through, until that is *ready* or *wait* said that the time is up; returns the last look."""
    in_time = True
    while in_time:
        in_time = wait()
        found = look()
        if ready(found):
            break
    return found


def readable_until(number: int, until: float | None) -> bool:
    """Waits until the descriptor *number* can be read; false when the instant *until* (``None``: no limit) came first.

    Raises ``Cancelled``, ``OSError``.
    """
    if worker_or_none() is None:
        return _block_until(number, until)
    limit = timeout_at(until)
    try:
        with limit:
            wait_readable(number)
    except TimeoutError:
        if not limit.expired():
            raise
        return False
    return True


def _block_until(number: int, until: float | None) -> bool:
    refuse_to_block()
    while True:
        left = math.inf if until is None else until - now()
        if wait_one(number, READABLE, None if until is None else left):
            return True
        if left <= WAIT_SECONDS_MAX:
            return False


class Pauses:
    """Growing intervals between two looks, for where the kernel cannot wake us. One for each wait."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds = PAUSE_SECONDS_MIN

    def wait(self, until: float | None) -> bool:
        """Waits for the next interval to pass; false when the instant *until* has come. Raises ``Cancelled``."""
        left = math.inf if until is None else until - now()
        pause = min(self._seconds, max(0.0, left))
        self._seconds = min(PAUSE_SECONDS_MAX, self._seconds * 2)
        if worker_or_none() is None:
            refuse_to_block()
            time.sleep(pause)
        else:
            sleep(pause)
        return left > pause


class Changes:
    """Waits until the readiness of one of some descriptors may have changed; who was woken looks.

    What the standard calls look at is not quite what epoll reports (a hang-up that nobody asked for), so a level that
    nobody wants would wake again and again: the registration is edge-triggered. What is ready when it is made counts as
    a change, so nothing is missed between the look before and the wait. Without epoll it waits for intervals to pass.
    """

    def __init__(self) -> None:
        self._epoll = _select.epoll() if has_epoll() else None
        self._pauses = Pauses()
        #: the kernel cannot tell of all of them
        self._blind = self._epoll is None

    def watch(self, number: int, mask: int) -> None:
        """Has changes of *number* in the bits of *mask* wake the waiter. Where that cannot be, it looks at intervals."""
        if self._epoll is None:
            return
        flags = mask | _select.EPOLLET
        try:
            try:
                self._epoll.register(number, flags)
            except FileExistsError:
                self._epoll.modify(number, flags)
        except PermissionError:  # a file: the look says that it is ready, or never will be
            pass
        except OSError:  # closed since the look before: the next one tells
            self._blind = True

    def wait(self, until: float | None) -> bool:
        """False when the instant *until* came first. Raises ``Cancelled``."""
        if self._epoll is None or self._blind:
            return self._pauses.wait(until)
        in_time = readable_until(self._epoll.fileno(), until)
        while len(self._epoll.poll(0, EVENTS_MAX)) == EVENTS_MAX:
            pass
        return in_time

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._epoll is not None:
            self._epoll.close()
