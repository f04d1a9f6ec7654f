"""Cancellation scopes: stretches of code that end together. Here are the scope itself, ``timeout``, ``timeout_at`` and
``shield``; tasks (``task``) and task groups (``group``) are scopes too.

Scopes form a tree. Cancelling one cancels all below it, except what is shielded, and it stays so: each blocking call
inside raises ``Cancelled`` until the code has left the scope (level cancellation, as trio's). Where a ``Cancelled``
stops is decided by state, not by the exception: the outermost cancelled scope absorbs it, the ones inside let it pass.
So a ``TimeoutError`` always comes from the scope whose time was up.
"""

from __future__ import annotations

import math
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from greenlet import getcurrent

from netnet.errors import Cancelled, UsageError
from netnet.runtime.clock import checked_seconds
from netnet.runtime.worker import NOWHERE, Worker, current_worker, worker_or_none

if TYPE_CHECKING:
    from netnet.runtime.task import Task
    from netnet.runtime.timers import Timer


class Scope:
    """A stretch of one task's code, or a whole task, that can be cancelled.

    The stretches of a task form a line: ``task.scope`` is the innermost, ``parent`` leads outwards to the task itself.
    Only households (groups) keep a table of what is below them, their tasks; so entering and leaving costs no table.
    """

    __slots__ = ("cancelled", "children", "owner", "parent", "reason", "requested", "shielded")

    #: the task whose code the scope stands in; of a task, the task itself; None before entering and after leaving
    owner: Task[object] | None
    parent: Scope | None
    #: of a household, its tasks; made when the first one comes
    children: dict[Task[object], None] | None

    def __init__(self) -> None:
        self.parent = None
        self.children = None
        self.requested = False  #: cancel() was called on this very scope
        self.shielded = False  #: what is above does not reach in here
        self.cancelled = False  #: blocking calls raise Cancelled: requested here or above
        self.reason = ""

    def cancel(self, reason: str = "") -> None:
        """Cancels all code in this scope: its blocking calls raise ``Cancelled`` until it has left. Idempotent.

        *reason* goes into the exception's message. Does not switch tasks; the code runs on in the loop's next turn.
        """
        if self.requested:
            return
        self.requested = True
        self.reason = reason
        if self.cancelled or self.owner is None:
            return
        spreading: list[Scope] = [self]
        while spreading:
            outermost = spreading.pop()
            owner = outermost.owner
            assert owner is not None
            reached: Scope | None = None
            for scope in owner.line_from(outermost):
                if scope is not outermost and (scope.shielded or scope.cancelled):
                    break
                scope.cancelled = True
                reached = scope
                spreading += [task for task in scope.children or () if not task.cancelled]
            if owner.scope is reached:
                owner.interrupt()

    def line_from(self, outermost: Scope) -> list[Scope]:
        """Of an owner: its scopes from *outermost* on inwards."""
        return [outermost]

    def arm(self) -> None:
        """Sets the timer that guards the scope's time limit, if it has one."""

    def why(self) -> str:
        """The reason of the cancelled scope that is nearest above."""
        scope: Scope | None = self
        while scope is not None:
            if scope.requested:
                return scope.reason or "cancelled"
            scope = None if scope.shielded else scope.parent
        return "cancelled"

    def from_outside(self) -> bool:
        """Whether code right after this scope is cancelled too, so that a ``Cancelled`` is not this scope's to stop."""
        return self.parent is not None and self.parent.cancelled and not self.shielded


class Stretch(Scope):
    """A scope that is entered with ``with``: some lines of one task. Not reusable."""

    __slots__ = ("_entered",)

    def __init__(self) -> None:
        self.parent = self.owner = None
        self.children = None
        self.requested = self.shielded = self.cancelled = self._entered = False
        self.reason = ""

    def __enter__(self) -> Self:
        if self._entered:
            raise UsageError(f"{type(self).__name__} was entered before; make a new one for each with statement")
        self._entered = True
        task = current_worker().task
        parent = task.scope
        self.owner = task
        self.parent = parent
        if self.requested or (parent.cancelled and not self.shielded):
            self.cancelled = True
        if self.cancelled is parent.cancelled:
            task.scope = self
        else:
            task.enter(self)
        return self

    def leave(self) -> bool:
        """Goes back to the scope around this one; returns whether that is cancelled too, or will not be left alone."""
        owner = self.owner
        if owner is None:  # the task has ended inside (a generator that was left alone): nothing to go back to
            return True
        if owner.scope is not self:
            self._leave_out_of_order(owner)
        outside = self.from_outside()
        parent = self.parent
        assert parent is not None
        self.drop()
        owner.enter(parent)
        return outside

    def _leave_out_of_order(self, owner: Task[object]) -> None:
        """Left while scopes inside it are still open: these are closed, too, so that none stays behind; and it raises."""
        if owner is current_worker().task:
            for scope in reversed(owner.line_from(self)):
                if isinstance(scope, Stretch):
                    parent = scope.parent
                    scope.drop()
                    if parent is not None:
                        owner.enter(parent)
        raise UsageError(f"{type(self).__name__} was left out of order, or in another task than it was entered in")

    def drop(self) -> None:
        """Takes the scope out of its task's line: it was left, or its task has ended inside."""
        self.owner = self.parent = None

    def absorbs(self, error: BaseException | None, outside: bool) -> bool:
        """Whether *error* is the ``Cancelled`` that this scope's own ``cancel`` brought about."""
        return isinstance(error, Cancelled) and self.requested and not outside

    # ``bool | None``, so that type checkers do not think that these lines swallow errors as a rule
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self.absorbs(error, self.leave())


class CancelScope(Stretch):
    """Lines that can be cancelled from elsewhere: ``with CancelScope() as scope: ...``, ``scope.cancel()``.

    Leaving it swallows the ``Cancelled`` that its own ``cancel`` brought about, and no other.
    """

    __slots__ = ()


class Timeout(Stretch):
    """What ``timeout`` and ``timeout_at`` return. The methods are those of ``asyncio.Timeout``.

    No timer is set on entering: while the code inside does not wait, there is nothing that a timer could end. The first
    wait inside sets it (``arm``); until then the worker is at home nowhere, so that it asks before it waits.
    """

    __slots__ = ("_delay", "_expired", "_timer", "_unarmed", "_when")

    #: it is no household, and never shielded; as class attributes they cost nothing to set
    children = None
    shielded = False

    def __init__(self, delay: float | None, when: float | None) -> None:
        self.parent = self.owner = None
        self._timer: Timer | None = None
        self.requested = self.cancelled = self._entered = self._expired = self._unarmed = False
        self.reason = ""
        self._delay = delay
        self._when = when

    def __enter__(self) -> Self:
        worker: Any = getcurrent()
        if self._entered or type(worker) is not Worker or worker.loop.closed:
            return super().__enter__()  # says what is wrong
        # what a stretch does, written out
        self._entered = True
        self.owner = task = worker.task
        self.parent = parent = task.scope
        task.scope = self
        loop = worker.loop
        delay = self._delay
        if delay is not None:
            self._when = loop.clock.now() + delay
        elif self._when is not None and self._when <= loop.clock.now():
            delay = 0.0
        if parent.cancelled or self.requested:
            self.cancelled = True
            task.enter(self)
        if delay is not None and delay <= 0:
            self._expire()
        elif self._when is not None and self._when != math.inf:
            self._unarmed = True
            task.unarmed += 1
            worker.home = NOWHERE
        return self

    def when(self) -> float | None:
        """The deadline, an instant of ``netnet.now``; ``None`` where there is none (yet)."""
        return self._when

    def expired(self) -> bool:
        """Whether the deadline came before the code was through."""
        return self._expired

    def reschedule(self, when: float | None) -> None:
        """Moves the deadline to the instant *when*; ``None`` takes it away. Too late once it has expired."""
        if self.owner is None:
            raise UsageError("this timeout's lines are not running; its deadline can be moved only inside them")
        if self._expired:
            raise UsageError("this timeout has expired; its deadline cannot be moved any more")
        if when is not None:
            when = checked_seconds(when)
        self._disarm()
        self._when = when
        self._delay = None
        self.arm()

    def arm(self) -> None:
        if self._unarmed:
            self._unarmed = False
            assert self.owner is not None
            self.owner.unarmed -= 1
        elif self._timer is not None:
            return
        if self.owner is None or self._expired or self._when is None or self._when == math.inf:
            return
        loop = self.owner.loop
        if self._when <= loop.clock.now():
            self._expire()
        else:
            self._timer = loop.timers.add(self._when, self._expire)

    def _expire(self) -> None:
        self._expired = True
        self.cancel(self._phrase())

    def _phrase(self) -> str:
        if self._delay is not None:
            return f"the time limit of {self._delay:g} s was reached"
        return f"the deadline {self._when:g} was reached"

    def _disarm(self) -> None:
        if self._unarmed:
            self._unarmed = False
            assert self.owner is not None
            self.owner.unarmed -= 1
        elif self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def drop(self) -> None:
        self._disarm()
        super().drop()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        owner = self.owner
        if error is None and not self.cancelled and owner is not None and owner.scope is self:
            # the usual ways out, written out
            timer = self._timer
            worker: Any = owner.worker
            if timer is not None and worker.home is worker.loop:  # it has waited
                self._timer = None
                timer.cancel()
                owner.scope = self.parent  # type: ignore[assignment]
                self.owner = self.parent = None
                return None
            if not self._unarmed:
                return self._exit(None)
            self._unarmed = False
            owner.scope = self.parent  # type: ignore[assignment]
            self.owner = self.parent = None
            owner.unarmed -= 1
            if not owner.unarmed and worker.interrupt is None:
                worker.home = worker.loop
            return None
        return self._exit(error)

    def _exit(self, error: BaseException | None) -> bool | None:
        if self.absorbs(error, self.leave()):
            if self._expired:
                raise TimeoutError(self.reason) from error
            return True
        return None


class Shield(Stretch):
    """What ``shield`` returns."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self.shielded = True


_NUMBERS = (float, int)
#: seconds below which a number needs no further look
_SURE = 1e9


def timeout(seconds: float | None) -> Timeout:
    """Limits the time of the lines in a ``with`` statement.

    *seconds* counts from entering; ``None`` means no limit; 0 or less is up at once, at the first blocking call. When
    the time is up, the blocking call inside raises ``Cancelled`` and leaving the statement turns that into
    ``TimeoutError``. Lines that end in time, or end otherwise, are not disturbed. Raises ``ValueError`` for NaN.
    Cf. ``asyncio.timeout``. Entering and leaving do not switch tasks.
    """
    if seconds is not None and (type(seconds) not in _NUMBERS or not -_SURE < seconds < _SURE):
        seconds = checked_seconds(seconds)  # what is not plainly a time
    return Timeout(seconds, None)


def timeout_at(when: float | None) -> Timeout:
    """As ``timeout``, with a deadline: the instant *when* of ``netnet.now``. Cf. ``asyncio.timeout_at``."""
    return Timeout(None, None if when is None else checked_seconds(when))


def current_deadline() -> float:
    """The instant of ``now`` at which the nearest time limit around the calling code is up.

    ``math.inf`` where there is none, and outside a task; ``-math.inf`` where the code is cancelled already. Limits
    outside a ``shield`` do not count inside it. Does not switch tasks. Cf. ``trio.current_effective_deadline``.
    """
    worker = worker_or_none()
    scope: Scope | None = None if worker is None else worker.task.scope
    if scope is not None and scope.cancelled:
        return -math.inf
    deadline = math.inf
    while scope is not None:
        if isinstance(scope, Timeout) and scope._when is not None:
            deadline = min(deadline, scope._when)
        scope = None if scope.shielded else scope.parent
    return deadline


def shield() -> Shield:
    """Keeps cancellation from outside away from the lines in a ``with`` statement, for cleaning up that must block.

    Bound it: ``with shield(), timeout(1): conn.sendall(goodbye)``. After leaving, the next blocking call outside raises
    the ``Cancelled`` that was held back. Entering and leaving do not switch tasks.
    """
    return Shield()
