"""Channels: CPU time to hand an item from one task to another, by the number of items that may wait between them."""

from __future__ import annotations

from netnet.bench.families.inside import Work, take_turns
from netnet.bench.figures import Figures, Progress, Size

#: capacity → the libraries that have a channel of it; the first is what the others are compared with
_LIBRARIES = {
    0: ("gevent", "netnet"),
    1: ("asyncio", "netnet", "gevent"),
    100: ("asyncio", "netnet", "gevent"),
}


def channel(size: Size, progress: Progress) -> list[Figures]:
    """One table for each capacity."""
    tables = []
    for capacity, libraries in _LIBRARIES.items():
        figures = Figures(f"items handed over, channel of capacity {capacity}", "µs CPU each", base=libraries[0])
        works = {library: Work(library, "channel", size.items, (capacity,)) for library in libraries}
        tables.append(take_turns(figures, works, size, progress))
    return tables
