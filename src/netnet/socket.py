"""The standard library's ``socket`` module, cooperatively: ``from netnet import socket`` in place of ``import socket``.

Every name of the standard module for this platform is here and behaves as documented there, in a task and outside a
loop. Different are the socket class, which parks its task, and the look-ups of names, which go to an OS thread so that
other tasks run on. The functions that are written in Python are the standard ones, seeing this module's names instead
of their own. Nothing of the standard module is changed.
"""

from __future__ import annotations

import functools
import socket as _standard
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from netnet.net.resolve import elsewhere, is_numeric
from netnet.net.sockets import Socket

if TYPE_CHECKING:
    from socket import *  # noqa: F403


def _seeing_ours(function: types.FunctionType) -> Callable[..., Any]:
    """A function of the standard module that finds this module's names where it looks for its own."""
    ours = types.FunctionType(
        function.__code__, globals(), function.__name__, function.__defaults__, function.__closure__
    )
    ours.__kwdefaults__ = function.__kwdefaults__
    return functools.update_wrapper(ours, function)


def _looking_up(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the standard module that may ask a name server: in an OS thread, while other tasks run on."""

    @functools.wraps(function)
    def look(*args: Any, **kwargs: Any) -> Any:
        if function is _standard.getaddrinfo and len(args) >= 2 and is_numeric(*args[:2]):
            return function(*args, **kwargs)
        return elsewhere(function, *args, **kwargs)

    return look


_LOOK_UPS = ("getaddrinfo", "getnameinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr")


def _names() -> dict[str, Any]:
    """Every name of the standard module, with the value that it has here."""
    names = {name: value for name, value in vars(_standard).items() if not (name[:2] == name[-2:] == "__")}
    for name, value in names.items():
        if name in _LOOK_UPS:
            names[name] = _looking_up(value)
        elif isinstance(value, types.FunctionType) and value.__module__ == "socket":
            names[name] = _seeing_ours(value)
    return names | {"socket": Socket, "__all__": list(_standard.__all__)}


globals().update(_names())
