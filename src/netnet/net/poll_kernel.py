"""The kernel's side of a ``Poll``: descriptors under their numbers, what each is asked for, and which are ready.

Two facilities of one shape: an epoll instance; and, where there is none, poll(2) or select(2) over all, at growing
intervals. They know no sources, only numbers. All calls but ``wait`` are made under the lock of the ``Poll``.

Facts relied on, see epoll(7): an instance asks each ready file again when it reports it, so what it reports is true at
that moment. It reports in turn: what was reported goes to the end of its list. A file that is closed leaves it by
itself, silently, unless a duplicate of it lives on (``dup``, a child process): then its registration stays, cannot be
taken back by its number, and goes on reporting under that number, which may be another file's by now.
"""

from __future__ import annotations

import os
import select as _select
from typing import Final

from netnet.net.poll_waiting import Pauses, has_epoll, readable_until
from netnet.poller.contract import READABLE, URGENT, WRITABLE
from netnet.poller.level import NOT_OPEN

#: what a regular file is ready for, if that is asked
_ALWAYS: Final = READABLE | WRITABLE

#: what poll(2) may be asked for
_KNOWN: Final = READABLE | WRITABLE | URGENT | getattr(_select, "POLLRDHUP", 0)

_EVENTFD_FLAGS: Final = getattr(os, "EFD_CLOEXEC", 0) | getattr(os, "EFD_NONBLOCK", 0)


class _Watcher:
    """What becomes of a facility whose ``Poll`` is closed or takes a new one, while tasks or OS threads wait with it."""

    def __init__(self) -> None:
        #: how many wait
        self.users = 0
        self._retired = False

    def ring(self, on: bool) -> None:
        """While it is on, nobody waits: there is something to be told that the kernel does not know of."""

    def close(self) -> None:
        """Gives the kernel's part back."""

    def leave(self) -> None:
        """One of the users has waited."""
        self.users -= 1
        if self._retired and self.users == 0:
            self.close()

    def retire(self) -> None:
        """Wakes all who wait; the last of them closes it. Nobody may come any more."""
        self._retired = True
        if self.users == 0:
            self.close()
        else:
            self.ring(True)


class EpollWatcher(_Watcher):
    """An epoll instance, level-triggered, with an eventfd as its bell.

    epoll refuses regular files, since they are always ready. An eventfd that is always ready stands in for each.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ringing = False
        #: number of a file → its stand-in, and which file it was
        self._stand_ins: dict[int, tuple[int, tuple[int, int]]] = {}
        #: descriptors of our own, whose numbers were perhaps those of sources that are closed → what they report for
        self._own: dict[int, int] = {}
        self._epoll = _select.epoll()
        try:
            #: the number that ``look`` reports while ``ring`` is on
            self.bell = self._register_own(0, READABLE)
        except BaseException:
            self._epoll.close()
            raise
        self._own[self.bell] = self.bell

    def _register_own(self, count: int, mask: int) -> int:
        number = os.eventfd(count, _EVENTFD_FLAGS)
        try:
            self._epoll.register(number, mask)
        except BaseException:
            os.close(number)
            raise
        return number

    def register(self, number: int, mask: int) -> None:
        """Watches the file that is open under *number*. Raises ``OSError``."""
        try:
            self._epoll.register(number, mask)
        except FileExistsError:
            self._epoll.modify(number, mask)
        except PermissionError:
            file = file_under(number)
            stand_in = self._register_own(1, mask)
            self._stand_ins[number] = stand_in, file
            self._own[stand_in] = number

    def modify(self, number: int, mask: int) -> bool:
        """Asks for *mask* from now on; false where the file that was registered is not open under *number* any more."""
        stand_in, file = self._stand_ins.get(number, (number, None))
        try:
            stands = number not in self._own if file is None else file_under(number) == file
            if stands:
                self._epoll.modify(stand_in, mask)
        except OSError:
            return False
        return stands

    def unregister(self, number: int) -> bool:
        """Watches it no longer; false where that cannot be done under this number (any more)."""
        if number in self._stand_ins:
            stand_in, _ = self._stand_ins.pop(number)
            del self._own[stand_in]
            self._epoll.unregister(stand_in)
            os.close(stand_in)
            return True
        if number in self._own:
            return False
        try:
            self._epoll.unregister(number)
        except OSError:
            return False
        return True

    def look(self, count: int) -> list[tuple[int, int]]:
        """Some of what is ready now, at most *count*, those first that were not told for the longest time."""
        events = self._epoll.poll(0, count)
        if self._stand_ins:
            own = self._own
            events = [(own[one], bits & _ALWAYS) if one in own else (one, bits) for one, bits in events]
        return events

    def wait(self, until: float | None, pauses: Pauses) -> bool:
        """Waits until a look may find something; false when the instant *until* came first. Raises ``Cancelled``."""
        return readable_until(self._epoll.fileno(), until)

    def ring(self, on: bool) -> None:
        if on != self._ringing:
            self._ringing = on
            if on:
                os.eventfd_write(self.bell, 1)
            else:
                os.eventfd_read(self.bell)

    def close(self) -> None:
        self._epoll.close()
        for number in self._own:
            os.close(number)


class LookingWatcher(_Watcher):
    """The same where nothing can be waited for. It needs no bell: who waits looks soon."""

    bell = -1

    def __init__(self) -> None:
        super().__init__()
        #: number → mask, in the order in which they are to be told
        self._masks: dict[int, int] = {}
        self._files: dict[int, tuple[int, int]] = {}

    def register(self, number: int, mask: int) -> None:
        self._files[number] = file_under(number)
        self._masks[number] = mask

    def modify(self, number: int, mask: int) -> bool:
        try:
            stands = self._files.get(number) == file_under(number)
        except OSError:
            return False
        if stands:
            self._masks[number] = mask
        return stands

    def unregister(self, number: int) -> bool:
        self._masks.pop(number, None)
        self._files.pop(number, None)
        return True

    def look(self, count: int) -> list[tuple[int, int]]:
        bits = look_at(self._masks)
        events = [(number, bits[number]) for number in self._masks if number in bits][:count]
        for number, _ in events:
            self._masks[number] = self._masks.pop(number)
        return events

    def wait(self, until: float | None, pauses: Pauses) -> bool:
        return pauses.wait(until)


def new_watcher() -> EpollWatcher | LookingWatcher:
    """The best that there is here."""
    return EpollWatcher() if has_epoll() else LookingWatcher()


def file_under(number: int) -> tuple[int, int]:
    """What tells a file from the next one that is opened under its number. Raises ``OSError`` where none is open."""
    status = os.fstat(number)
    return status.st_dev, status.st_ino


def look_at(masks: dict[int, int]) -> dict[int, int]:
    """What is ready of *masks* now, as the bits of poll(2), by number."""
    if not hasattr(_select, "poll"):
        return _look_by_select(masks)
    poll = _select.poll()
    for number, mask in masks.items():
        poll.register(number, mask & _KNOWN)
    return dict(poll.poll(0))


def _look_by_select(masks: dict[int, int]) -> dict[int, int]:
    bits: dict[int, int] = {}
    sides: dict[int, list[int]] = {READABLE: [], WRITABLE: [], URGENT: []}
    for number, mask in masks.items():
        try:
            file_under(number)
        except OSError:
            bits[number] = NOT_OPEN
            continue
        for side, numbers in sides.items():
            if mask & side:
                numbers.append(number)
    reading, writing, urgent = sides.values()
    if reading or writing or urgent:  # Windows refuses three empty ones
        for side, ready in zip(sides, _select.select(reading, writing, urgent, 0), strict=True):
            for number in ready:
                bits[number] = bits.get(number, 0) | side
    return bits
