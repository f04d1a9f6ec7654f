"""What families share whose programs measure themselves (``probes``): a work on several libraries, which take turns, each
time in a fresh process on the server's processor. What is measured is CPU time for a unit of the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from netnet.bench.figures import Figures, Progress, Size, has
from netnet.bench.processes import probe, probing

#: libraries of the probes that have to be installed
_EXTRA = frozenset({"gevent"})

#: a thread costs so much more than a task that so many times fewer will do
THREADS_DIVISOR = 20


@dataclass(frozen=True)
class Work:
    """So many units of something, done by a library; *more* is what the work wants to know besides."""

    library: str
    name: str
    count: int
    more: tuple[int, ...] = ()

    def microseconds(self) -> float:
        """Does it once, in a process of its own: the CPU time of one unit. Raises ``BenchError``."""
        with probing(probe(self.library, self.name, self.count, *self.more)) as process:
            return float(process.line()[1]) / self.count * 1e6


def here(works: Mapping[str, Work], figures: Figures) -> dict[str, Work]:
    """The works, by peer, whose libraries are here; the others are told to *figures*."""
    found = {}
    for peer, work in works.items():
        if work.library in _EXTRA and not has(work.library):
            figures.missing[peer] = f"pip install {work.library}"
        else:
            found[peer] = work
    return found


def take_turns(figures: Figures, works: Mapping[str, Work], size: Size, progress: Progress) -> Figures:
    """Fills the table: each work that is here, in turn, as often as *size* has rounds."""
    present = here(works, figures)
    for peer, work in list(present.items()) * size.rounds:
        progress(f"{figures.title}: {peer}")
        figures.add(peer, work.microseconds())
    figures.note("in a run: " + ", ".join(f"{peer} {work.count}" for peer, work in present.items()))
    return figures
