"""Where netnet stands: for each case, how many times behind the base, and behind the best of all peers, it is.

A ratio here is that of costs: where more is better it is turned round, so that above 1 netnet is behind in any case.
``level`` says that the ranges of the samples overlap.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from netnet.bench.figures import Quantity, Table

AHEAD, LEVEL, BEHIND = "ahead", "level", "behind"

#: peers that begin so are netnet itself in another use, and no rivals
_OWN = "netnet"


@dataclass(frozen=True)
class Against:
    """Our figure beside that of *peer*: more than 1 is behind."""

    peer: str
    ratio: float
    standing: str


@dataclass(frozen=True)
class Standing:
    """One case: our median of the first quantity, and how it compares."""

    table: Table
    value: float
    #: the first quantity beside the base, and beside the best of the peers besides the base
    base: Against | None
    other: Against | None
    #: each quantity beside the best peer, the base included
    best: dict[str, Against]

    @property
    def first(self) -> Against:
        """The first quantity beside the best peer."""
        return self.best[self.table.quantities[0].name]


def standings(tables: Iterable[Table]) -> list[Standing]:
    """Those of the tables that have a figure of ours and one of another, the worst first."""
    found = [standing for table in tables if (standing := _standing(table)) is not None]
    return sorted(found, key=lambda one: -one.first.ratio)


def _standing(table: Table) -> Standing | None:
    first = table.quantities[0]
    rivals = [peer for peer in table.samples if peer != table.ours and (peer == table.base or not is_own(peer))]
    best = {one.name: found for one in table.quantities if (found := _best(table, one, rivals)) is not None}
    if first.name not in best:
        return None
    base = against(table, first, table.base) if table.base in rivals else None
    other = _best(table, first, [peer for peer in rivals if peer != table.base])
    return Standing(table, statistics.median(table.values(table.ours, first)), base, other, best)


def _best(table: Table, quantity: Quantity, rivals: Iterable[str]) -> Against | None:
    """Ours beside the best of these peers."""
    found = [one for peer in rivals if (one := against(table, quantity, peer)) is not None]
    return max(found, key=lambda one: one.ratio, default=None)


def is_own(peer: str) -> bool:
    """Whether the peer is netnet in one of its uses."""
    return peer.replace(",", " ").split()[:1] == [_OWN]


def against(table: Table, quantity: Quantity, peer: str) -> Against | None:
    """Ours beside *peer*; ``None`` where one has no figure, or there is nothing to divide by."""
    ours, theirs = table.values(table.ours, quantity), table.values(peer, quantity)
    if not ours or not theirs:
        return None
    cost, other = statistics.median(ours), statistics.median(theirs)
    if quantity.higher:
        cost, other = other, cost
    return Against(peer, cost / other, _word(ours, theirs, higher=quantity.higher)) if other > 0 else None


def _word(ours: Sequence[float], theirs: Sequence[float], *, higher: bool) -> str:
    if min(ours) <= max(theirs) and min(theirs) <= max(ours):
        return LEVEL
    return AHEAD if (min(ours) > max(theirs)) is higher else BEHIND


__all__ = ["AHEAD", "BEHIND", "LEVEL", "Against", "Standing", "against", "is_own", "standings"]
