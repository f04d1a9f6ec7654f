"""Cancellation scopes: stretches of code that end together. Here are the scope itself, ``timeout``, ``timeout_at`` and
``shield``; tasks (``task``) and task groups (``group``) are scopes too.

Scopes form a tree. Cancelling one cancels all below it, except what is shielded, and it stays so: each blocking call
inside raises ``Cancelled`` until the code has left the scope (level cancellation, as trio's). Where a ``Cancelled``
stops is decided by state, not by the exception: the outermost cancelled scope absorbs it, the ones inside let it pass.
So a ``TimeoutError`` always comes from the scope whose time was up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from netnet.errors import Cancelled, UsageError
from netnet.runtime.clock import checked_seconds
from netnet.runtime.worker import current_worker

if TYPE_CHECKING:
    from netnet.runtime.task import Task
    from netnet.runtime.timers import Timer


class Scope:
    """A stretch of one task's code, or a whole task, that can be cancelled."""

    __slots__ = ("cancelled", "children", "owner", "parent", "reason", "requested", "shielded")

    #: the task whose code the scope stands in; of a task, the task itself; None before entering and after leaving
    owner: Task[object] | None
    parent: Scope | None
    #: scopes below this one: inner stretches and, of a group, its tasks; made when the first one comes
    children: dict[Scope, None] | None

    def __init__(self) -> None:
        self.parent = None
        self.children = None
        self.requested = False  #: cancel() was called on this very scope
        self.shielded = False  #: what is above does not reach in here
        self.cancelled = False  #: blocking calls raise Cancelled: requested here or above
        self.reason = ""

    def adopt(self, parent: Scope) -> None:
        """Hangs this scope below *parent*, from which it inherits being cancelled."""
        self.parent = parent
        children = parent.children
        if children is None:
            children = parent.children = {}
        children[self] = None
        if self.requested or (parent.cancelled and not self.shielded):
            self.cancelled = True

    def leave_tree(self) -> None:
        parent = self.parent
        if parent is not None and parent.children is not None:
            parent.children.pop(self, None)

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
        spreading = [self]
        while spreading:
            scope = spreading.pop()
            scope.cancelled = True
            owner = scope.owner
            if owner is not None and owner.scope is scope:
                owner.interrupt()
            spreading += [child for child in scope.children or () if not child.shielded and not child.cancelled]

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
        super().__init__()
        self.owner = None
        self._entered = False

    def __enter__(self) -> Self:
        if self._entered:
            raise UsageError(f"{type(self).__name__} was entered before; make a new one for each with statement")
        self._entered = True
        task = current_worker().task
        self.owner = task
        self.adopt(task.scope)
        task.enter(self)
        return self

    def leave(self) -> bool:
        """Goes back to the scope around this one; returns whether that is cancelled too, or will not be left alone."""
        owner = self.owner
        if owner is None:  # the task has ended inside (a generator that was left alone): nothing to go back to
            return True
        if owner.scope is not self:
            raise UsageError(f"{type(self).__name__} was left out of order, or in another task than it was entered in")
        outside = self.from_outside()
        parent = self.parent
        assert parent is not None
        self.drop()
        owner.enter(parent)
        return outside

    def drop(self) -> None:
        """Takes the scope out of the tree: it was left, or its task has ended inside."""
        self.leave_tree()
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
    """What ``timeout`` and ``timeout_at`` return. The methods are those of ``asyncio.Timeout``."""

    __slots__ = ("_expired", "_phrase", "_timer", "_when")

    def __init__(self, when: Callable[[float], float | None], phrase: str) -> None:
        super().__init__()
        self._when: Callable[[float], float | None] | float | None = when
        self._phrase = phrase
        self._timer: Timer | None = None
        self._expired = False

    def __enter__(self) -> Self:
        super().__enter__()
        assert callable(self._when)
        assert self.owner is not None
        self.reschedule(self._when(self.owner.loop.clock.now()))
        return self

    def when(self) -> float | None:
        """The deadline, an instant of ``netnet.now``; ``None`` where there is none (yet)."""
        return None if callable(self._when) else self._when

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
        self._stop_timer()
        self._when = when
        if when is not None and when != math.inf:
            loop = self.owner.loop
            if when <= loop.clock.now():
                self._expire()
            else:
                self._timer = loop.timers.add(when, self._expire)

    def _expire(self) -> None:
        self._expired = True
        self.cancel(self._phrase)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def drop(self) -> None:
        self._stop_timer()
        super().drop()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if self.absorbs(error, self.leave()):
            if self._expired:
                raise TimeoutError(self._phrase) from error
            return True
        return None


class Shield(Stretch):
    """What ``shield`` returns."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self.shielded = True


def timeout(seconds: float | None) -> Timeout:
    """Limits the time of the lines in a ``with`` statement.

    *seconds* counts from entering; ``None`` means no limit; 0 or less is up at once, at the first blocking call. When
    the time is up, the blocking call inside raises ``Cancelled`` and leaving the statement turns that into
    ``TimeoutError``. Lines that end in time, or end otherwise, are not disturbed. Raises ``ValueError`` for NaN.
    Cf. ``asyncio.timeout``. Entering and leaving do not switch tasks.
    """
    if seconds is None:
        return Timeout(lambda now: None, "no time limit")
    delay = checked_seconds(seconds)
    return Timeout(lambda now: now + delay, f"the time limit of {delay:g} s was reached")


def timeout_at(when: float | None) -> Timeout:
    """As ``timeout``, with a deadline: the instant *when* of ``netnet.now``. Cf. ``asyncio.timeout_at``."""
    if when is None:
        return Timeout(lambda now: None, "no deadline")
    instant = checked_seconds(when)
    return Timeout(lambda now: instant, f"the deadline {instant:g} was reached")


def shield() -> Shield:
    """Keeps cancellation from outside away from the lines in a ``with`` statement, for cleaning up that must block.

    Bound it: ``with shield(), timeout(1): conn.sendall(goodbye)``. After leaving, the next blocking call outside raises
    the ``Cancelled`` that was held back. Entering and leaving do not switch tasks.
    """
    return Shield()
