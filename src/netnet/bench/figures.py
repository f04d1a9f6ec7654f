"""The words that all of the bench shares: how large a run is, the table of samples that a measurement makes, and which
peers are here. It measures nothing and prints nothing.
"""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Size:
    """How long and how large."""

    name: str
    rounds: int
    warmup_seconds: float
    seconds: float
    echo_connections: tuple[int, ...]
    at_once: int
    idle_connections: int
    hold_connections: int
    #: of many connections, those that have traffic
    busy_connections: int
    #: tasks spawned and joined in a run
    tasks: int
    #: turns that each of two tasks takes in a run
    turns: int
    #: tasks that sleep at once
    sleepers: int
    #: receives, and time-outs, in a run
    receives: int
    #: items handed from task to task in a run
    items: int
    #: starts of an interpreter
    starts: int

    @property
    def connections(self) -> int:
        """The connections of an echo where only one number of them is measured."""
        return self.echo_connections[1]


FULL = Size("full", 5, 0.5, 2.0, (1, 100, 1000), 50, 2000, 9000, 100, 100_000, 200_000, 100_000, 200_000, 100_000, 15)
QUICK = Size("quick", 3, 0.3, 1.0, (1, 100, 1000), 50, 1000, 9000, 100, 20_000, 50_000, 20_000, 50_000, 20_000, 9)
#: for the tests: does it run at all?
SMOKE = Size("smoke", 1, 0.05, 0.2, (1, 10), 5, 20, 50, 5, 200, 200, 300, 200, 200, 2)


@dataclass
class Figures:
    """One table: the samples of each peer, in the order of measuring. Lower is better, unless *higher* says otherwise."""

    title: str
    unit: str
    samples: dict[str, list[float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    #: the peer whose figure is 1.00
    base: str = ""
    #: the peer that is judged
    ours: str = "netnet"
    #: whether more is better
    higher: bool = False

    def add(self, peer: str, value: float) -> None:
        """Another sample of *peer*."""
        self.samples.setdefault(peer, []).append(value)

    def note(self, text: str) -> None:
        """A line below the table; the same one is told once."""
        if text not in self.notes:
            self.notes.append(text)

    def median(self, peer: str) -> float | None:
        """The middle of the peer's samples; ``None`` without any."""
        samples = self.samples.get(peer)
        return statistics.median(samples) if samples else None


Progress = Callable[[str], object]

#: measures, telling a *Progress* what it is at, and returns its tables
Family = Callable[[Size, Progress], list[Figures]]


def has(*modules: str) -> bool:
    """Whether all these modules could be imported."""
    return all(importlib.util.find_spec(module) is not None for module in modules)


__all__ = ["FULL", "QUICK", "SMOKE", "Family", "Figures", "Progress", "Size", "has"]
