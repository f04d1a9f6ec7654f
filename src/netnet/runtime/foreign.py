"""Waiting for descriptors that are no netnet sockets: those of C libraries, pipes, terminals, eventfds.

Of these nobody here knows when they would block, so they are level-triggered one-shots: look first, wait if need be,
look again. Each wait costs two looks (``poll`` without waiting) and two changes in the poller, and can be shared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netnet.errors import ClosedError, UsageError
from netnet.poller.contract import READABLE, WRITABLE
from netnet.poller.single import wait_one
from netnet.runtime.descriptor import Descriptor
from netnet.runtime.worker import Waiter, Worker, running, worker_or_none

if TYPE_CHECKING:
    from netnet.runtime.loop import Loop


class _Crowd:
    """All who wait for one side of a foreign descriptor; one event wakes them all."""

    __slots__ = ("descriptor", "loop", "side", "workers")

    def __init__(self, loop: Loop, descriptor: Descriptor, side: int) -> None:
        self.loop = loop
        self.descriptor = descriptor
        self.side = side
        self.workers: list[Waiter] = []
        descriptor.put(side, self)
        loop.poller.watch(descriptor.fd, side)

    def _leave(self) -> None:
        self.descriptor.put(self.side, None)
        self.loop.poller.unwatch(self.descriptor.fd, self.side)
        if self.descriptor.reader is None and self.descriptor.writer is None:
            self.loop.descriptors.pop(self.descriptor.fd, None)

    def switch(self) -> None:
        self._leave()
        for worker in self.workers:
            if isinstance(worker, Worker):
                worker.waiting = None
            self.loop.ready.append(worker)

    def forget(self, worker: Waiter) -> bool:
        if worker not in self.workers:
            return False
        self.workers.remove(worker)
        if not self.workers:
            self._leave()
        return True

    def describe(self, worker: Worker) -> str:
        return (
            f"foreign descriptor {self.descriptor.fd} to become {'readable' if self.side == READABLE else 'writable'}"
        )


def enlist(loop: Loop, fd: int | object, side: int, waiter: Waiter) -> Descriptor | _Crowd:
    """Has *waiter* woken once when a descriptor may be ready on *side*; returns where it stands.

    *fd* as for ``wait_readable``. Who was woken looks again. Raises ``BusyError``, ``ClosedError``, ``OSError``.
    """
    own = getattr(fd, "_descriptor", None)
    if isinstance(own, Descriptor):
        own.enlist(loop, waiter, side)
        return own
    number = number_of(fd)
    descriptor = loop.descriptors.get(number)
    if descriptor is not None and descriptor.loop is loop:
        if descriptor.reader is not None or descriptor.writer is not None:  # a socket of ours: its events come anyway
            descriptor.enlist(loop, waiter, side)
            return descriptor
        # a socket of ours that nobody waits for, or what is left of one that was closed behind our back
        descriptor.detach()
        descriptor = None
    if descriptor is None:
        descriptor = loop.descriptors[number] = Descriptor(number, stream=False, tcp=False)
    crowd = descriptor.reader if side == READABLE else descriptor.writer
    if not isinstance(crowd, _Crowd):
        crowd = _Crowd(loop, descriptor, side)
    crowd.workers.append(waiter)
    return crowd


def number_of(fd: int | object) -> int:
    """The number of a descriptor, or of what has a ``fileno`` method. Raises ``ClosedError`` for a closed one."""
    number: int = fd if isinstance(fd, int) else fd.fileno()  # type: ignore[attr-defined]
    if number < 0:
        raise ClosedError("the descriptor is closed")
    return number


def _wait(fd: int | object, side: int) -> None:
    number = number_of(fd)
    worker = worker_or_none()
    if worker is None:
        refuse_to_block()
        while not wait_one(number, side, None):
            pass
        return
    worker.loop.checkpoint(worker)
    while not wait_one(number, side, 0):
        if worker.home is not worker.loop:
            worker.loop.refuse(worker)
        worker.loop.rest(worker, enlist(worker.loop, fd, side, worker))


def refuse_to_block() -> None:
    """Raises ``UsageError`` in a callback of the loop, where blocking the OS thread would stop everything."""
    if getattr(running, "loop", None) is not None:
        raise UsageError("a callback of the loop must not wait; spawn a task for it")


def wait_readable(fd: int | object, /) -> None:
    """Waits until a descriptor can be read without blocking (or has ended, or failed).

    *fd* is a number or has a ``fileno`` method. Level-triggered: returns at once while it is readable. Switches tasks;
    outside a loop it blocks the OS thread. Raises ``Cancelled``; ``OSError`` (``EBADF``) when it is not open,
    ``ClosedError`` when that is told by its ``fileno``. Do not close a descriptor that a task waits for in this way:
    cancel the task first. See poll(2).
    """
    _wait(fd, READABLE)


def wait_writable(fd: int | object, /) -> None:
    """Waits until a descriptor can be written without blocking; everything else as ``wait_readable``."""
    _wait(fd, WRITABLE)
