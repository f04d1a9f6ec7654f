"""What a loop counts of itself. Counted once a turn, not once a call, so it costs nothing worth measuring."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """What a loop has done since it began."""

    #: turns of the loop, each with one look for events
    polls: int = 0
    #: descriptors that the poller reported as ready
    events: int = 0
    #: tasks (and other waiters) that were continued because another task, a timer or a thread woke them
    wakes: int = 0
    #: how often something was switched to, in all: ``wakes``, and events that somebody waited for
    switches: int = 0
    #: timers that were due
    timers: int = 0
    #: how many were ready at the beginning of the last turn, and at most
    ready: int = 0
    ready_max: int = 0
    #: how late timers were: the last one and the latest, in seconds
    lag: float = 0.0
    lag_max: float = 0.0
