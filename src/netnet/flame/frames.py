"""What a frame of a stack is called, short enough for a flame graph; and which room of the program it belongs to.

A frame is ``function (netnet/net/relay.py:120)``: the line is the function's first, so that the samples of one function
fall together, and the path begins at the package, so that it is the same on every machine. The outermost frames may be
roots instead: the group and the name of the green thread, or what stands where there is none.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from typing import Final

#: roots of what runs in no task of a group, in a loop but in no task, and outside any loop
NO_GROUP: Final = "(no group)"
LOOP: Final = "(loop)"
NO_TASK: Final = "(no task)"
GROUP: Final = "group: "
TASK: Final = "task: "

_ROOTS: Final = (NO_GROUP, LOOP, NO_TASK)

#: where packages that are installed, and the standard library, begin
_INSTALLED = re.compile(r".*/(?:site-packages|dist-packages|python3\.\d+t?)/")
_PLACE = re.compile(r" \(([^()]*?)(?::\d+)?\)$")

#: rooms, in the order of the legend: name → what the legend calls it
ROOMS: Final = {
    "task": "green thread",
    "runtime": "netnet: runtime",
    "net": "netnet: sockets",
    "proxy": "netnet: proxy",
    "netnet": "netnet: other",
    "user": "program",
    "library": "standard library",
    "native": "native code",
}

#: the beginning of a frame's path → its room; the first that fits
_PATHS: Final = (
    ("netnet/runtime/", "runtime"),
    ("netnet/poller/", "runtime"),
    ("netnet/kernel/", "runtime"),
    ("netnet/net/", "net"),
    ("netnet/socks/", "proxy"),
    ("netnet/proxy/", "proxy"),
    ("netnet/", "netnet"),
)


def label(name: str, path: str, line: int | None) -> str:
    """The frame of the function *name*, which begins in *line* of the file *path*."""
    return f"{name} ({short_path(path)}{'' if line is None else f':{line}'})"


@functools.lru_cache(maxsize=10_000)
def short_path(path: str) -> str:
    """*path* from its package on; only the file's name where it is in none. Looks for ``__init__.py`` beside the file."""
    if path.startswith("<"):
        return path
    if not path.endswith((".py", ".pyx")):
        return os.path.basename(path)
    installed = _INSTALLED.match(path)
    if installed:
        return path[installed.end() :]
    folder, short = os.path.split(path)
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder, package = os.path.split(folder)
        short = f"{package}/{short}"
    return short


def room(frame: str) -> str:
    """Which of ``ROOMS`` a frame is in."""
    if frame in _ROOTS or frame.startswith((GROUP, TASK)):
        return "task"
    place = _PLACE.search(frame)
    if place is None:
        return "native"
    path = place[1]
    for beginning, found in _PATHS:
        if path.startswith(beginning):
            return found
    if path.startswith("<frozen") or path.split("/")[0].removesuffix(".py") in sys.stdlib_module_names:
        return "library"
    return "user" if path.endswith((".py", ".pyx")) or path.startswith("<") else "native"
