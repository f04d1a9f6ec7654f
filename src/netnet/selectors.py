"""The standard library's ``selectors`` module, cooperatively: ``from netnet import selectors`` in place of
``import selectors``.

Its classes are the standard ones, standing on ``netnet.select`` instead of ``select``: ``select()`` parks in a task and
is the standard call outside a loop. Everything else of the standard module is here as it is there. So servers written
with selectors, those made like ``socketserver`` too, serve in a task beside others; an ``asyncio`` loop can be given
one as well: ``asyncio.SelectorEventLoop(selectors.DefaultSelector())``.
"""

from __future__ import annotations

import selectors as _standard
import sys
import types
from typing import TYPE_CHECKING, Any, Protocol

from netnet import select as _select
from netnet.net.poll_waiting import readable_until, wait_and_look
from netnet.runtime.api import now
from netnet.runtime.worker import worker_or_none

if TYPE_CHECKING:
    from selectors import *  # noqa: F403
    from selectors import SelectorKey

#: all but the modules that it imports itself, of which ``select`` is not the one meant here
_NAMES = {name: value for name, value in vars(_standard).items() if not isinstance(value, types.ModuleType)}

globals().update({name: value for name, value in _NAMES.items() if not name.startswith("__")})


class SelectSelector(_standard.SelectSelector):  # type: ignore[no-redef]
    """``selectors.SelectSelector`` over ``netnet.select.select``. See select(2)."""

    if sys.platform == "win32":

        def _select(self, r: Any, w: Any, _: Any, timeout: float | None = None) -> Any:
            r, w, x = _select.select(r, w, w, timeout)
            return r, w + x, []

    else:
        _select = staticmethod(_select.select)


if hasattr(_standard, "PollSelector"):

    class PollSelector(_standard.PollSelector):  # type: ignore[no-redef]
        """``selectors.PollSelector`` over ``netnet.select.poll``. See poll(2)."""

        _selector_cls = _select.poll


if hasattr(_standard, "EpollSelector"):

    class EpollSelector(_standard.EpollSelector):  # type: ignore[no-redef]
        """``selectors.EpollSelector`` over ``netnet.select.epoll``. See epoll(7)."""

        _selector_cls = _select.epoll


class _Selector(Protocol):
    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]: ...

    def fileno(self) -> int: ...


class _ByItsDescriptor:
    """A selector of the standard module that has a descriptor of its own, which says when something is ready."""

    def select(self: _Selector, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Waits until something is ready; parks in a task. *timeout* in seconds; 0 or less only looks."""
        worker = worker_or_none()
        if worker is None:
            return super().select(timeout)  # type: ignore[safe-super]
        worker.loop.checkpoint(worker)
        look = super().select  # type: ignore[safe-super]
        found = look(0)
        if found or (timeout is not None and timeout <= 0):
            return found
        until = None if timeout is None else now() + timeout
        return wait_and_look(lambda: readable_until(self.fileno(), until), lambda: look(0))


def _over_their_descriptors() -> dict[str, type]:
    """The classes whose kernel facility ``netnet.select`` does not wrap, where the standard module has them."""
    names = [name for name in ("KqueueSelector", "DevpollSelector") if hasattr(_standard, name)]
    return {
        name: type(
            name, (_ByItsDescriptor, getattr(_standard, name)), {"__doc__": f"``selectors.{name}``, cooperatively."}
        )
        for name in names
    }


globals().update(_over_their_descriptors())

#: the best of this system, as in the standard module
DefaultSelector: type[_standard.BaseSelector] = globals()[  # type: ignore[no-redef]
    _standard.DefaultSelector.__name__
]
