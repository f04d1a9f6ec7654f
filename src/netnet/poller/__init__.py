"""Which descriptors are ready. One small contract (``contract``), one file per kernel facility; ``create`` picks one.
``shared`` is one epoll for the loops of several OS threads.

The environment variable ``NETNET_POLLER`` forces a backend: ``epoll``, ``kqueue``, ``poll`` or ``select``.
"""

from __future__ import annotations

import importlib
import os
import select as _select  # the submodule of that name would take its place here
from collections.abc import Callable
from typing import cast

from netnet.errors import UsageError
from netnet.poller.contract import Poller, Sharing

#: best first: the first that this system has is taken
BACKENDS = ("epoll", "kqueue", "poll", "select")

ENVIRONMENT = "NETNET_POLLER"


def _backend(name: str) -> Callable[[], Poller]:
    """The class of a backend. Imported here, since each needs what only its own systems have."""
    module = importlib.import_module(f"netnet.poller.{name}")
    return cast("Callable[[], Poller]", getattr(module, f"{name.capitalize()}Poller"))


def available() -> list[str]:
    """The names of the backends that this system has, best first."""
    return [name for name in BACKENDS if hasattr(_select, name)]


def create(name: str | Sharing | None = None) -> Poller:
    """A new poller: ``name``, else what ``NETNET_POLLER`` says, else the best of this system.

    Of what is shared (``SharedPoller``) it is a new member. Raises ``UsageError`` for a name that is unknown or not to
    be had here.
    """
    if name is not None and not isinstance(name, str):
        return name.member()
    here = available()
    wanted = name or os.environ.get(ENVIRONMENT) or here[0]
    if wanted not in here:
        raise UsageError(f"there is no poller {wanted!r} here; {ENVIRONMENT} may be one of: {', '.join(here)}")
    return _backend(wanted)()


__all__ = ["BACKENDS", "ENVIRONMENT", "Poller", "Sharing", "available", "create"]
