"""The standard library's ``select`` module, cooperatively: ``from netnet import select`` in place of ``import select``.

In a task ``select``, ``poll`` objects and ``epoll`` objects park instead of blocking the OS thread; outside a loop they
are the standard calls. Arguments, results and errors are those of the standard module, because it is the standard call
that takes and gives them: it looks without waiting, and only the waiting in between is ours. Every other name of the
standard module is here as it is there. That includes ``kqueue`` and ``devpoll`` where they exist: their calls block the
OS thread (``netnet.selectors`` has what cooperates there).

As with the standard module, a descriptor that is closed while it is waited for wakes nobody. Where that matters, and
for anything new, there is ``netnet.Poll``.
"""

from __future__ import annotations

import functools
import select as _standard
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, Self

from netnet.net.poll_waiting import Changes, HasFileno, readable_until, wait_and_look
from netnet.poller.contract import READABLE, URGENT, WRITABLE
from netnet.runtime.api import now
from netnet.runtime.foreign import refuse_to_block
from netnet.runtime.loop import Call
from netnet.runtime.worker import Worker, worker_or_none

if TYPE_CHECKING:
    from select import *  # noqa: F403

#: the bits that poll(2) and epoll(7) have in common; asking for ``POLLNVAL`` means nothing
_COMMON: Final = 0x3FFF & ~0x020

#: a number that no descriptor has: poll(2) answers at once that it is not open
_NEVER_OPEN: Final = 2**31 - 1

_SIDES: Final = (READABLE, WRITABLE, URGENT)

globals().update({name: value for name, value in vars(_standard).items() if not name.startswith("__")})


class _Checked(Exception):
    """The standard call has found the time-out to be right."""


class _Check:
    """Taken for a descriptor by the standard call, which looks at the time-out before it looks at descriptors."""

    def fileno(self) -> NoReturn:
        raise _Checked


def _until(seconds: float | None) -> float | None:
    """The instant when a wait that begins now is over; negative is no limit, as for poll and epoll."""
    return None if seconds is None or seconds < 0 else now() + seconds


def _number_of(source: int | HasFileno) -> int:
    return source if isinstance(source, int) else source.fileno()


def _kept(sources: Any) -> Sequence[Any]:
    """The same, to be looked at more than once."""
    return sources if isinstance(sources, (list, tuple)) else list(sources)


def select(  # type: ignore[no-redef]
    rlist: Any, wlist: Any, xlist: Any, timeout: float | None = None, /
) -> tuple[list[Any], list[Any], list[Any]]:
    """``select.select``: waits until one of the descriptors in the three sequences is ready; parks in a task.

    *timeout* in seconds, ``None``: no limit. Returns the three sequences' ready ones. Raises as the standard call does;
    ``Cancelled``. See select(2).
    """
    worker = worker_or_none()
    if worker is None:
        if timeout != 0:
            refuse_to_block()
        return _standard.select(rlist, wlist, xlist, timeout)
    if timeout is not None:
        try:
            _standard.select((_Check(),), (), (), timeout)
        except _Checked:
            pass
    worker.loop.checkpoint(worker)
    try:  # an iterator would be used up by the first look
        reading, writing, unusual = (_kept(each) for each in (rlist, wlist, xlist))
    except TypeError:
        return _standard.select(rlist, wlist, xlist, 0)
    found = _standard.select(reading, writing, unusual, 0)
    if any(found) or timeout == 0:
        return found
    until = _until(timeout)
    masks: dict[int, int] = {}
    for side, group in zip(_SIDES, (reading, writing, unusual), strict=True):
        for source in group:
            number = _number_of(source)
            masks[number] = masks.get(number, 0) | side
    with Changes() as changes:
        for number, mask in masks.items():
            changes.watch(number, mask)
        look = functools.partial(_standard.select, reading, writing, unusual, 0)
        return wait_and_look(lambda: changes.wait(until), look, any)


if hasattr(_standard, "poll"):

    class poll:  # type: ignore[no-redef]
        """``select.poll()``: asks about registered descriptors with poll(2). Its ``poll`` parks in a task."""

        __slots__ = ("_changes", "_masks", "_plain", "_polling")

        def __init__(self) -> None:
            self._plain = _standard.poll()
            self._masks: dict[int, int] = {}
            self._polling = False
            #: what the task that is in ``poll`` waits with
            self._changes: Changes | None = None

        def register(
            self,
            fd: int | HasFileno,
            eventmask: int = _standard.POLLIN | _standard.POLLPRI | _standard.POLLOUT,
            /,
        ) -> None:
            """Asks about *fd* from now on, or for something else. A task that is in ``poll`` takes notice."""
            self._plain.register(fd, eventmask)
            self._note(fd, eventmask)

        def modify(self, fd: int | HasFileno, eventmask: int, /) -> None:
            """Asks about *fd* for something else. Raises ``OSError`` (``ENOENT``) where it is not registered."""
            self._plain.modify(fd, eventmask)
            self._note(fd, eventmask)

        def unregister(self, fd: int | HasFileno, /) -> None:
            """Asks about *fd* no longer. Raises ``KeyError`` where it is not registered."""
            self._plain.unregister(fd)
            self._masks.pop(_number_of(fd), None)

        def _note(self, fd: int | HasFileno, eventmask: int) -> None:
            number = _number_of(fd)
            self._masks[number] = eventmask
            if self._changes is not None:
                self._changes.watch(number, eventmask & _COMMON)

        def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
            """Waits until something was found; returns ``(number, bits)`` pairs. Parks in a task.

            *timeout* in milliseconds; ``None`` or negative: no limit. Raises ``RuntimeError`` where another task or
            thread is in this call of the same object; ``Cancelled``. See poll(2).
            """
            if self._polling:
                raise RuntimeError("concurrent poll() invocation")
            worker = worker_or_none()
            if worker is None:
                if timeout != 0:
                    refuse_to_block()
                return self._plain.poll(timeout)
            if timeout is not None:
                checker = _standard.poll()
                checker.register(_NEVER_OPEN)
                checker.poll(timeout)
            worker.loop.checkpoint(worker)
            found = self._plain.poll(0)
            if found or timeout == 0:
                return found
            return self._cooperate(_until(None if timeout is None else timeout / 1000))

        def _cooperate(self, until: float | None) -> list[tuple[int, int]]:
            self._polling = True
            try:
                with Changes() as changes:
                    self._changes = changes
                    for number, mask in self._masks.items():
                        changes.watch(number, mask & _COMMON)
                    return wait_and_look(lambda: changes.wait(until), lambda: self._plain.poll(0))
            finally:
                self._changes = None
                self._polling = False


if hasattr(_standard, "epoll"):

    class epoll:  # type: ignore[no-redef]
        """``select.epoll``: a set of descriptors that the kernel watches, see epoll(7). Its ``poll`` parks in a task."""

        __slots__ = ("_closed", "_plain", "_waiting")

        def __init__(self, sizehint: int = -1, flags: int = 0) -> None:
            self._plain = _standard.epoll(sizehint, flags)
            self._closed = False
            self._waiting: list[Worker] = []

        @classmethod
        def fromfd(cls, fd: int, /) -> Self:
            """An object for an epoll instance that exists; closing it closes *fd*."""
            made = cls.__new__(cls)
            made._plain = _standard.epoll.fromfd(fd)
            made._closed = False
            made._waiting = []
            return made

        @property
        def closed(self) -> bool:
            """Whether it was closed."""
            return self._closed or self._plain.closed

        def fileno(self) -> int:
            """The number of its own descriptor. Raises ``ValueError`` where it is closed."""
            return self._open().fileno()

        def register(self, fd: int | HasFileno, eventmask: int = 0x7) -> None:
            """Watches *fd*. Raises ``FileExistsError`` where it is watched already."""
            self._open().register(fd, eventmask)

        def modify(self, fd: int | HasFileno, eventmask: int) -> None:
            """Watches *fd* for something else. Raises ``FileNotFoundError`` where it is not watched."""
            self._open().modify(fd, eventmask)

        def unregister(self, fd: int | HasFileno) -> None:
            """Watches *fd* no longer."""
            self._open().unregister(fd)

        def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
            """Waits until something was found; returns ``(number, bits)`` pairs, at most *maxevents*. Parks in a task.

            *timeout* in seconds; ``None`` or negative: no limit. Raises ``ValueError`` where it is closed, before or
            while a task waits; ``Cancelled``.
            """
            worker = worker_or_none()
            plain = self._open()
            if worker is None:
                if timeout != 0:
                    refuse_to_block()
                return plain.poll(timeout, maxevents)
            if timeout is not None:
                _check_epoll_timeout(plain, timeout)
            worker.loop.checkpoint(worker)
            found = self._open().poll(0, maxevents)
            if found or timeout == 0:
                return found
            return self._cooperate(worker, _until(timeout), maxevents)

        def _cooperate(self, worker: Worker, until: float | None, maxevents: int) -> list[tuple[int, int]]:
            self._waiting.append(worker)
            try:
                return wait_and_look(
                    lambda: readable_until(self._plain.fileno(), until), lambda: self._open().poll(0, maxevents)
                )
            finally:
                self._waiting.remove(worker)
                if self._closed and not self._waiting:
                    self._plain.close()

        def _open(self) -> _standard.epoll:
            if self._closed:
                raise _closed_error()
            return self._plain

        def close(self) -> None:
            """Closes the instance. Tasks that wait with it are woken by ``ValueError``; the last of them closes it."""
            self._closed = True
            for worker in self._waiting:
                loop = worker.loop
                loop.call_from_thread(Call(functools.partial(loop.interrupt, worker, _closed_error)))
            if not self._waiting:
                self._plain.close()

        def __enter__(self) -> Self:
            self._open()
            return self

        def __exit__(
            self,
            kind: type[BaseException] | None = None,
            error: BaseException | None = None,
            trace: TracebackType | None = None,
        ) -> None:
            self.close()


def _closed_error() -> ValueError:
    return ValueError("I/O operation on closed epoll object")


class _Polls(Protocol):
    def poll(self, timeout: Any, maxevents: int, /) -> Any: ...


def _check_epoll_timeout(plain: _Polls, timeout: object) -> None:
    """Raises what the standard call raises for a wrong time-out, which it looks at before *maxevents*."""
    try:
        plain.poll(timeout, 0)
    except ValueError as error:
        if "maxevents" not in str(error):
            raise
