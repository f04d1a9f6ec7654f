"""The words that all of the bench shares: how large a run is, what is measured, and the tables of samples that measuring
makes. It measures nothing and prints nothing.
"""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Size:
    """How long and how large."""

    name: str
    #: of the interleaved runs
    rounds: int
    warmup_seconds: float
    seconds: float
    echo_connections: tuple[int, ...]
    echo_bytes: tuple[int, ...]
    relay_streams: tuple[int, ...]
    #: of one message
    relay_bytes: tuple[int, ...]
    #: handshakes, or standing connections of a churn
    at_once: tuple[int, ...]
    idle_connections: tuple[int, ...]
    hold_connections: int
    #: of many connections, those that have traffic
    busy_connections: int
    #: of one download
    download_bytes: tuple[int, ...]
    #: of the far link
    link_mbit_s: float
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
    #: by which connections, rules, users and timers grow
    grown_connections: tuple[int, ...]
    grown_rules: tuple[int, ...]
    grown_users: tuple[int, ...]
    grown_timers: tuple[int, ...]
    #: what random data are made from
    seed: int = 1


FULL = Size(
    name="full",
    rounds=5,
    warmup_seconds=0.3,
    seconds=1.0,
    echo_connections=(1, 100, 1000, 5000),
    echo_bytes=(64, 1024, 102_400),
    relay_streams=(1, 100),
    relay_bytes=(64, 4096, 65_536, 1 << 20),
    at_once=(1, 50, 1000),
    idle_connections=(1000, 3000, 9000),
    hold_connections=9000,
    busy_connections=100,
    download_bytes=(5_000_000, 100_000_000),
    link_mbit_s=140.0,
    tasks=100_000,
    turns=200_000,
    sleepers=100_000,
    receives=200_000,
    items=100_000,
    starts=15,
    grown_connections=(10, 100, 1000, 9000),
    grown_rules=(10, 100, 1000, 10_000),
    grown_users=(10, 100, 1000, 10_000),
    grown_timers=(100, 1000, 10_000, 100_000),
)
QUICK = Size(
    name="quick",
    rounds=3,
    warmup_seconds=0.3,
    seconds=1.0,
    echo_connections=(1, 100, 1000),
    echo_bytes=(64, 102_400),
    relay_streams=(1, 100),
    relay_bytes=(4096, 1 << 20),
    at_once=(1, 50),
    idle_connections=(1000,),
    hold_connections=9000,
    busy_connections=100,
    download_bytes=(5_000_000,),
    link_mbit_s=140.0,
    tasks=20_000,
    turns=50_000,
    sleepers=20_000,
    receives=50_000,
    items=20_000,
    starts=9,
    grown_connections=(10, 100, 1000),
    grown_rules=(10, 100, 1000),
    grown_users=(10, 100, 1000),
    grown_timers=(100, 1000, 10_000),
)
#: for the tests: does it run at all?
SMOKE = Size(
    name="smoke",
    rounds=1,
    warmup_seconds=0.05,
    seconds=0.1,
    echo_connections=(1, 10),
    echo_bytes=(64,),
    relay_streams=(2,),
    relay_bytes=(4096,),
    at_once=(5,),
    idle_connections=(20,),
    hold_connections=50,
    busy_connections=5,
    download_bytes=(100_000,),
    link_mbit_s=140.0,
    tasks=200,
    turns=200,
    sleepers=300,
    receives=200,
    items=200,
    starts=2,
    grown_connections=(2, 20),
    grown_rules=(2, 20),
    grown_users=(2, 20),
    grown_timers=(2, 20),
)
SIZES = {size.name: size for size in (FULL, QUICK, SMOKE)}


@dataclass(frozen=True)
class Quantity:
    """One thing that a measurement tells. Lower is better, unless *higher* says otherwise."""

    name: str
    unit: str
    higher: bool = False


#: by the quantity's name
Sample = Mapping[str, float]


@dataclass
class Figures:
    """One quantity of a table: the samples of each peer, in the order of measuring."""

    title: str
    unit: str
    samples: dict[str, list[float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    #: the peer whose figure is 1.00
    base: str = ""
    #: the peer that is judged
    ours: str = "netnet"
    #: whether more is better
    higher: bool = False

    def median(self, peer: str) -> float | None:
        """The middle of the peer's samples; ``None`` without any."""
        samples = self.samples.get(peer)
        return statistics.median(samples) if samples else None


@dataclass
class Table:
    """What was measured of one case: for each peer its samples, in the order of measuring.

    The first quantity is what the table is about; the others stand beside it.
    """

    family: str
    #: one of its own in all of the bench
    title: str
    quantities: tuple[Quantity, ...]
    #: the peer whose figures are 1.00
    base: str = ""
    #: the peer that is judged
    ours: str = "netnet"
    #: what the tables of one chart have in common; the title, where there is one table only
    subject: str = ""
    #: where the table is in that chart, by axis; the first axis is drawn along
    place: dict[str, float] = field(default_factory=dict)
    #: quantities besides the first that targets and history are about
    judged: tuple[str, ...] = ()
    samples: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    #: peer that is not here → how to get it
    missing: dict[str, str] = field(default_factory=dict)
    #: peer that could not be measured → why
    failed: dict[str, str] = field(default_factory=dict)
    #: figures that others have published, as ratios to the base, of the first quantity
    published: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, peer: str, sample: Sample) -> None:
        """Another sample of *peer*."""
        self.samples.setdefault(peer, []).append(dict(sample))

    def note(self, text: str) -> None:
        """A line below the table; the same one is told once."""
        if text not in self.notes:
            self.notes.append(text)

    def quantity(self, name: str) -> Quantity:
        """The quantity of that name. Raises ``KeyError``."""
        return next(one for one in self.quantities if one.name == name)

    def values(self, peer: str, quantity: Quantity) -> list[float]:
        """The samples of one quantity; some measurements may not have told it."""
        return [sample[quantity.name] for sample in self.samples.get(peer, ()) if quantity.name in sample]

    def figures(self, quantity: Quantity | None = None) -> Figures:
        """One quantity, the first by default, under the table's title, and its own name where it is not the first."""
        one = self.quantities[0] if quantity is None else quantity
        title = self.title if one is self.quantities[0] else f"{self.title}, {one.name}"
        values = {peer: self.values(peer, one) for peer in self.samples}
        found = {peer: samples for peer, samples in values.items() if samples}
        lacking = self.missing | self.failed
        return Figures(title, one.unit, found, lacking, self.base, self.ours, one.higher)

    def judged_figures(self) -> Iterator[Figures]:
        """The quantities that targets and history are about."""
        yield self.figures()
        for name in self.judged:
            yield self.figures(self.quantity(name))


#: measures a peer once, and may add notes to the table; raises ``netnet.Error`` where it cannot
Measure = Callable[[], Sample]


@dataclass
class Case:
    """A table that is still to be filled, and what measures each peer once. Making one starts nothing."""

    table: Table
    measures: dict[str, Measure]
    #: unless those of the run's size
    rounds: int | None = None


#: the cases of a family, for a run of that size
Cases = Callable[[Size], Sequence[Case]]


def has(*modules: str) -> bool:
    """Whether all these modules could be imported."""
    return all(importlib.util.find_spec(module) is not None for module in modules)


__all__ = [
    "FULL",
    "QUICK",
    "SIZES",
    "SMOKE",
    "Case",
    "Cases",
    "Figures",
    "Measure",
    "Quantity",
    "Sample",
    "Size",
    "Table",
    "has",
]
