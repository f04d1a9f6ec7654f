"""Flame graphs: where a program's processor time goes, by function and, in netnet's programs, by green thread.

Two samplers. ``outside`` runs py-spy, which sees whole processes. ``inside`` runs in the program and puts the task's group
and name in front of each stack; it gets there with the program (``starting``), on request (``attach``), or as an instrument
of a run (``sampler``). What they have found are folded stacks (``stacks``), which ``svg``, ``page`` and ``speedscope`` show.
Not here: the command ``netnet flame``, and memory, which tracemalloc knows about.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netnet.flame.inside import allow
    from netnet.flame.sampler import Sampler
    from netnet.flame.stacks import Frame, Stacks

#: fetched when they are first asked for: a program that allows sampling does without what writes graphs
_LATER = {
    "Frame": "netnet.flame.stacks",
    "Sampler": "netnet.flame.sampler",
    "Stacks": "netnet.flame.stacks",
    "allow": "netnet.flame.inside",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'netnet.flame' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)


__all__ = ["Frame", "Sampler", "Stacks", "allow"]
