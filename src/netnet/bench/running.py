"""Measures cases: in each round every peer has its turn (A B C A B C ...). What a journal has is not measured again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from netnet.bench.figures import Case, Measure, Size
from netnet.bench.journal import Journal
from netnet.errors import Error


class Watcher(Protocol):
    """Is told how far the measuring is."""

    def measuring(self, case: Case, peer: str, number: int) -> None:
        """The peer's turn in that round (from 1) begins."""

    def measured(self) -> None:
        """One measurement less to come."""

    def case_done(self, case: Case) -> None:
        """All rounds of the case are through."""


def rounds_of(case: Case, size: Size) -> int:
    """How often each peer has its turn."""
    return size.rounds if case.rounds is None else case.rounds


def count(cases: Sequence[Case], size: Size) -> int:
    """How many measurements these are."""
    return sum(len(case.measures) * rounds_of(case, size) for case in cases)


def only(cases: Sequence[Case], peers: Sequence[str]) -> list[Case]:
    """The cases with no others than these *peers*; what all *peers* lack is left out."""
    kept = []
    for case in cases:
        measures = {peer: measure for peer, measure in case.measures.items() if peer in peers}
        case.table.missing = {peer: remedy for peer, remedy in case.table.missing.items() if peer in peers}
        if measures or case.table.missing:
            kept.append(Case(case.table, measures, case.rounds))
    return kept


def run(cases: Sequence[Case], size: Size, journal: Journal, watcher: Watcher) -> None:
    """Fills the tables. A peer that fails is told in its table, and has no more turns in that case."""
    for case in cases:
        for number in range(1, rounds_of(case, size) + 1):
            for peer, measure in case.measures.items():
                if peer not in case.table.failed:
                    watcher.measuring(case, peer, number)
                    _measure(case, peer, measure, number, journal)
                watcher.measured()
        watcher.case_done(case)


def _measure(case: Case, peer: str, measure: Measure, number: int, journal: Journal) -> None:
    table = case.table
    key = (table.title, peer, number)
    entry = journal.get(key)
    if entry is None:
        before = len(table.notes)
        try:
            sample = measure()
        except Error as error:
            table.failed[peer] = str(error)
            return
        entry = dict(sample), table.notes[before:]
        journal.put(key, *entry)
    table.add(peer, entry[0])
    for note in entry[1]:
        table.note(note)


__all__ = ["Watcher", "count", "only", "rounds_of", "run"]
