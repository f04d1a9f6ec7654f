"""How the figures of the family "growth" grow: a fit for each subject and peer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from netnet.bench.figures import Table
from netnet.bench.fit import Fit, fit
from netnet.bench.report.plan import GROWTH, axis_of, groups, subject_of


@dataclass(frozen=True)
class Growth:
    """How the first quantity of *subject* grows for *peer*; *ours* is who the report is about."""

    subject: str
    peer: str
    ours: bool
    fit: Fit


def growths(tables: Iterable[Table]) -> list[Growth]:
    """Subject by subject, of each ours first; those that were measured at two places at least."""
    found: list[Growth] = []
    for group in groups(table for table in tables if table.family == GROWTH):
        axis = axis_of(group)
        if axis is not None:
            peers = dict.fromkeys(peer for table in group for peer in table.samples)
            fits = [(peer, _fit(group, axis, peer)) for peer in sorted(peers, key=lambda one: one != group[0].ours)]
            found += [
                Growth(subject_of(group), peer, peer == group[0].ours, one) for peer, one in fits if one is not None
            ]
    return found


def _fit(group: list[Table], axis: str, peer: str) -> Fit | None:
    quantity = group[0].quantities[0]
    points = [(table.place[axis], table.values(peer, quantity)) for table in group]
    known = [(x, samples) for x, samples in points if samples and x > 0]
    return fit(known, quantity.unit, axis) if len({x for x, _ in known}) > 1 else None


__all__ = ["Growth", "growths"]
