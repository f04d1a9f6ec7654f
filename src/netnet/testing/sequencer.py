"""Numbered stretches of several tasks, run in the order of their numbers: for forcing one interleaving in a test."""

from __future__ import annotations

from types import TracebackType

from netnet.errors import UsageError
from netnet.runtime.lot import ParkingLot, begin
from netnet.runtime.task import Task
from netnet.runtime.worker import current_worker


class Sequencer:
    """Runs the lines of ``with seq(0):``, ``with seq(1):`` … in this order, whichever tasks they stand in.

    Numbers begin at 0, and each is used once. Entering waits until all stretches before have been left, with or without
    an error; so it can switch tasks. It raises ``UsageError`` for a number that was used before, inside another stretch
    of the same task, and when the sequence is broken: a task was cancelled while it waited for its turn, so that the
    later ones would wait for ever. A number that nobody uses is a deadlock, if others wait for it: the report names them.

    ::

        seq = Sequencer()
        task = netnet.spawn(reader)      # with seq(1): ...
        with seq(0):
            conn.sendall(b"first")
        with seq(2):
            conn.close()
    """

    __slots__ = ("_broken", "_current", "_next", "_used", "_waiting")

    def __init__(self) -> None:
        self._next = 0
        self._current: Task[object] | None = None
        self._used: set[int] = set()  # numbers above the next one
        self._waiting: dict[int, ParkingLot] = {}
        self._broken = ""

    def __call__(self, number: int) -> _Stretch:
        """The stretch with this number, to be entered with ``with``. Raises ``ValueError`` for a negative number."""
        if number < 0:
            raise ValueError(f"the stretches of a sequence are numbered from 0, not {number}")
        return _Stretch(self, number)

    def _enter(self, number: int) -> None:
        task = current_worker().task
        self._check(number, task)
        self._used.add(number)
        try:
            begin()
            if number != self._next:
                lot = self._waiting[number] = ParkingLot(
                    f"its turn in a sequence: stretch {number}, after {number - 1}"
                )
                lot.park()
        except BaseException:
            self._break(f"task {task.name} was interrupted while it waited for stretch {number}")
            raise
        finally:
            self._waiting.pop(number, None)
        if self._broken:
            raise UsageError(self._broken)
        self._current = task

    def _check(self, number: int, task: Task[object]) -> None:
        if self._broken:
            raise UsageError(self._broken)
        if number < self._next or number in self._used:
            raise UsageError(
                f"stretch {number} of this sequence was used before; give each stretch a number of its own"
            )
        if task is self._current:
            raise UsageError(
                f"stretch {number} is inside stretch {self._next} of the same task, and would wait for its end"
            )

    def _break(self, why: str) -> None:
        if not self._broken:
            self._broken = f"this sequence is broken: {why}"
        for lot in self._waiting.values():
            lot.wake_all()

    def _leave(self) -> None:
        self._current = None
        self._used.discard(self._next)
        self._next += 1
        lot = self._waiting.get(self._next)
        if lot is not None:
            lot.wake_all()


class _Stretch:
    """What a ``Sequencer`` returns."""

    __slots__ = ("_number", "_sequencer")

    def __init__(self, sequencer: Sequencer, number: int) -> None:
        self._sequencer = sequencer
        self._number = number

    def __enter__(self) -> None:
        self._sequencer._enter(self._number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sequencer._leave()
