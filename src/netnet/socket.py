"""The standard library's ``socket`` module, cooperatively: ``from netnet import socket`` in place of ``import socket``.

Every name of the standard module for this platform is here and behaves as documented there, in a task and outside a
loop. Different are the socket class, which parks its task, and the look-ups of names, which go to the current resolver
(``use_resolver``) while other tasks run on. The functions that are written in Python are the standard ones, seeing this
module's names instead of their own. Nothing of the standard module is changed.
"""

from __future__ import annotations

import functools
import socket as _standard
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from netnet.net import resolve
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


_LOOK_UPS = ("getaddrinfo", "getnameinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr")


def _names() -> dict[str, Any]:
    """Every name of the standard module, with the value that it has here."""
    names = {name: value for name, value in vars(_standard).items() if not (name[:2] == name[-2:] == "__")}
    for name, value in names.items():
        if name in _LOOK_UPS:
            names[name] = getattr(resolve, name)
        elif isinstance(value, types.FunctionType) and value.__module__ == "socket":
            names[name] = _seeing_ours(value)
    return names | {"socket": Socket, "__all__": list(_standard.__all__)}


globals().update(_names())
