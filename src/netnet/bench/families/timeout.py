"""Time-outs: what one around a receive costs when it is never up, which is the usual case, beside what the receive is a
part of: a round trip of an echo server. That is measured here too, in the same rounds.
"""

from __future__ import annotations

from netnet.bench.families import echo
from netnet.bench.families.inside import Work, take_turns
from netnet.bench.figures import Figures, Progress, Size
from netnet.bench.processes import python_server

_BARE = "netnet, no time-out"


def timeout(size: Size, progress: Progress) -> list[Figures]:
    """A receive with and without one, what that is of a round trip, and one around nothing."""
    return [*_around_receive(size, progress), _around_nothing(size, progress)]


def _around_receive(size: Size, progress: Progress) -> list[Figures]:
    each = Figures("receive of a byte that is there, in a time-out", "µs CPU each", base=_BARE)
    connections = size.connections
    share = Figures(
        f"time-out around a receive, of an echo round trip with {connections} connections", "%", base="netnet"
    )
    works = {
        _BARE: Work("netnet", "receive", size.receives),
        "netnet": Work("netnet", "receive_in_timeout", size.receives),
    }
    for _ in range(size.rounds):
        taken = {}
        for peer, work in works.items():
            progress(f"{each.title}: {peer}")
            taken[peer] = work.microseconds()
            each.add(peer, taken[peer])
        progress(f"{share.title}: echo")
        trip = echo.round_trip(python_server("echo_netnet"), connections, size)
        share.add("netnet", (taken["netnet"] - taken[_BARE]) / trip * 100 if trip else 0.0)
    each.note(f"in a run: {size.receives} receives; the byte was sent before, in the same process")
    return [each, share]


def _around_nothing(size: Size, progress: Progress) -> Figures:
    figures = Figures("time-out around nothing", "µs CPU each", base="asyncio")
    works = {library: Work(library, "timeout", size.receives) for library in ("asyncio", "netnet", "gevent")}
    return take_turns(figures, works, size, progress)
