"""What a loop counts of itself. Counted once a turn, not once a call, so it costs nothing worth measuring."""

from __future__ import annotations


class Counters:
    """What a loop has done since it began."""

    __slots__ = ("events", "lag", "lag_max", "polls", "ready", "ready_max", "switches", "timers", "wakes")

    def __init__(self) -> None:
        #: turns of the loop, each with one look for events
        self.polls = 0
        #: descriptors that the poller reported as ready
        self.events = 0
        #: tasks (and other waiters) that were continued because another task, a timer or a thread woke them
        self.wakes = 0
        #: how often something was switched to, in all: ``wakes``, and events that somebody waited for
        self.switches = 0
        #: timers that were due
        self.timers = 0
        #: how many were ready at the beginning of the last turn, and at most
        self.ready = 0
        self.ready_max = 0
        #: how late timers were: the last one and the latest, in seconds
        self.lag = 0.0
        self.lag_max = 0.0

    def __repr__(self) -> str:
        values = {name: getattr(self, name) for name in self.__slots__}
        told = (f"{name}={value:g}" if type(value) is float else f"{name}={value}" for name, value in values.items())
        return f"Counters({', '.join(told)})"
