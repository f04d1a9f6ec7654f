"""What families share whose programs measure themselves (``probes``): a work, done by several libraries, each time in a
fresh process on the server's processor. What is measured is CPU time for a unit of the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from netnet.bench.figures import Case, Measure, Quantity, Sample, Table
from netnet.bench.peers import SOFTWARE, lacking
from netnet.bench.processes import probe, probing

#: a thread costs so much more than a task that so many times fewer will do
THREADS_DIVISOR = 20


@dataclass(frozen=True)
class Work:
    """So many units of something, done by a library; *more* is what the work wants to know besides."""

    library: str
    name: str
    count: int
    more: tuple[int, ...] = ()

    @property
    def remedy(self) -> str | None:
        """The command that would install the library; ``None`` where it is here."""
        return lacking([self.library] if self.library in SOFTWARE else [])

    def microseconds(self) -> float:
        """Does it once, in a process of its own: the CPU time of one unit. Raises ``BenchError``."""
        with probing(probe(self.library, self.name, self.count, *self.more)) as process:
            return float(process.line()[1]) / self.count * 1e6

    def sample(self) -> Sample:
        """The same, as what a table takes. Raises ``BenchError``."""
        return {"CPU": self.microseconds()}


def works(libraries: Iterable[str], name: str, count: int, *more: int) -> dict[str, Work]:
    """The same work for each of these libraries, by the library."""
    return {library: Work(library, name, count, more) for library in libraries}


def cpu(unit: str = "µs each") -> tuple[Quantity, ...]:
    """CPU time as the only quantity of a table."""
    return (Quantity("CPU", unit),)


def case(
    table: Table, works: Mapping[str, Work], sample: Callable[[Work], Sample] = Work.sample, rounds: int | None = None
) -> Case:
    """The table and these works, by peer: each measured by *sample*. Those whose library is not here are told to the
    table."""
    measures: dict[str, Measure] = {}
    for peer, work in works.items():
        remedy = work.remedy
        if remedy is None:
            measures[peer] = _measure(sample, work)
        else:
            table.missing[peer] = remedy
    table.note("in a run: " + ", ".join(f"{peer} {work.count}" for peer, work in works.items() if peer in measures))
    return Case(table, measures, rounds)


def _measure(sample: Callable[[Work], Sample], work: Work) -> Measure:
    return lambda: sample(work)


__all__ = ["THREADS_DIVISOR", "Work", "case", "cpu", "works"]
