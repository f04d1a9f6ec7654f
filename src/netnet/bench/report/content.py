"""The report of a run, as blocks of a document: what there is to say, without any output format.

First where netnet stands, what is behind before what is ahead; then what it hangs on, and family by family the charts,
the growth and the tables.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from netnet.bench.figures import Quantity, Table
from netnet.bench.report.document import (
    Block,
    Cell,
    Code,
    Column,
    Graph,
    Grid,
    Heading,
    Listing,
    Paragraph,
    Row,
)
from netnet.bench.report.growth import growths
from netnet.bench.report.plan import groups, plans, subject_of
from netnet.bench.report.standing import AHEAD, BEHIND, LEVEL, Against, Standing, standings
from netnet.bench.results import Results
from netnet.bench.targets import measured
from netnet.bench.wording import at, heading, limits, number, ratio, sense

_STANDS = (
    "The figures of netnet beside those of the best peer in each case. A ratio is one of costs: where more is better it is"
    " turned round, so that above 1.00× netnet is behind, always. Level means that the ranges of the runs overlap. The"
    " base of a case is what its tables are related to, often a program that does nothing else, in C; the last column"
    " leaves it out. The cases furthest behind come first."
)
_MEASURED = (
    "Peers take turns (A B C A B C …) in interleaved runs; a figure is the median of the runs, the range is from the least"
    " to the greatest of them. CPU is the time that all processes of the server have used, as /proc tells it, divided by"
    " the work done. The server has a processor of its own and the load, a program in C, another, where there are two. Each"
    " peer is configured as its own documentation recommends for speed."
)
_GROWS = (
    "A fit of the medians by least squares. Flat means that they differ by less than 15 %, or by less than the runs of one"
    " case do."
)
_GLANCE = "Medians: {}."
_PUBLISHED = "Published: figures that others have measured elsewhere, as ratios to their base."


def document(results: Results) -> list[Block]:
    """All that the report says."""
    return [
        Heading(1, "netnet bench"),
        Paragraph(f"netnet {results.netnet}, size {results.size}, seed {results.seed}, made {made(results.made)}."),
        Paragraph("The command that measures the same again:"),
        Code(results.command),
        *_standing(results.tables),
        *_targets(results.tables),
        *_hangs_on(results),
        *_families(results.tables),
        *_lacks(results.tables),
        *_flames(results),
    ]


def made(when: str) -> str:
    """A time of the form of ``results.json`` as one reads it."""
    return when.replace("T", " ").replace("Z", " UTC")


# -- where netnet stands


def _standing(tables: Sequence[Table]) -> Iterator[Block]:
    found = standings(tables)
    if not found:
        return
    yield Heading(2, "Where netnet stands")
    yield Paragraph(_STANDS)
    yield overview(tables)
    for family in dict.fromkeys(table.family for table in tables):
        of_family = [one for one in found if one.table.family == family]
        if of_family:
            yield Heading(3, f"{family}: netnet beside others")
            yield _standing_grid(of_family)


def overview(tables: Sequence[Table]) -> Grid:
    """For each family, in how many cases netnet is behind, level and ahead, and the case that is furthest behind."""
    columns = (
        Column("family", number=False),
        Column("cases"),
        Column(BEHIND),
        Column(LEVEL),
        Column(AHEAD),
        Column("worst ratio"),
        Column("in", number=False),
        Column("besides the base", number=False),
    )
    found = standings(tables)
    families = dict.fromkeys(table.family for table in tables)
    of_family = [[one for one in found if one.table.family == family] for family in families]
    return Grid(columns, tuple(_overview_row(known) for known in of_family if known))


def _overview_row(known: Sequence[Standing]) -> Row:
    words = Counter(one.first.standing for one in known)
    others = Counter(one.other.standing for one in known if one.other is not None)
    besides = ", ".join(f"{others[word]} {word}" for word in (BEHIND, LEVEL, AHEAD) if others[word])
    cells = (
        Cell(known[0].table.family),
        *(Cell(str(count), value=count) for count in (len(known), words[BEHIND], words[LEVEL], words[AHEAD])),
        Cell(ratio(known[0].first.ratio), known[0].first.peer, known[0].first.ratio),
        Cell(known[0].table.title),
        Cell(besides or "–"),
    )
    return Row(cells)


def _standing_grid(found: Sequence[Standing]) -> Grid:
    more = [_besides_the_first(one) for one in found]
    names = [name for name in _all_quantities(one.table for one in found) if any(name in one for one in more)]
    columns = [Column("case", number=False), Column("netnet"), Column("to the base"), Column("to the best other")]
    columns += [Column(f"{name}, to the best peer") for name in names]
    rows = []
    for one, others in zip(found, more, strict=True):
        first = one.table.quantities[0]
        cells = (
            Cell(one.table.title),
            Cell(f"{number(one.value)} {first.unit}", first.name, one.value),
            _against(one.base),
            _against(one.other),
            *(_against(others.get(name)) for name in names),
        )
        rows.append(Row(cells))
    return Grid(tuple(columns), tuple(rows))


def _besides_the_first(one: Standing) -> dict[str, Against]:
    return {name: against for name, against in one.best.items() if name != one.table.quantities[0].name}


def _all_quantities(tables: Iterable[Table]) -> list[str]:
    return list(dict.fromkeys(one.name for table in tables for one in table.quantities))


def _against(one: Against | None) -> Cell:
    return Cell("–") if one is None else Cell(f"{ratio(one.ratio)} {one.standing}", one.peer, one.ratio)


# -- what is promised, and what the figures hang on


def _targets(tables: Sequence[Table]) -> Iterator[Block]:
    rows = []
    for target, value in measured(tables):
        least = "at least " if target.at_least else "at most "
        cells = (
            Cell(target.table),
            Cell(target.peer or "–"),
            Cell(f"{number(value)}{target.unit}", value=value),
            Cell(f"{least}{target.limit:g}{target.unit}", value=target.limit),
            Cell("reached" if target.reached(value) else "missed"),
        )
        rows.append((target.reached(value), Row(cells)))
    if rows:
        columns = (
            Column("case", number=False),
            Column("against", number=False),
            Column("measured"),
            Column("target"),
            Column("", number=False),
        )
        yield Heading(2, "Targets")
        yield Paragraph("What the project promises itself, as figures or as ratios to a peer's; the missed ones first.")
        yield Grid(columns, tuple(row for _, row in sorted(rows, key=lambda pair: pair[0])))


def _hangs_on(results: Results) -> Iterator[Block]:
    yield Heading(2, "How it was measured")
    yield Paragraph(_MEASURED)
    yield Heading(3, "Machine")
    yield _pairs("part", "", results.machine)
    yield Paragraph(results.environment)
    if results.versions:
        yield Heading(3, "Versions of the peers")
        yield _pairs("software", "version", results.versions)


def _pairs(name: str, value: str, of: dict[str, str]) -> Grid:
    columns = (Column(name, number=False), Column(value, number=False))
    return Grid(columns, tuple(Row((Cell(one), Cell(what))) for one, what in of.items()))


# -- family by family


def _families(tables: Sequence[Table]) -> Iterator[Block]:
    drawn = plans(tables)
    for family in dict.fromkeys(table.family for table in tables):
        of_family = [table for table in tables if table.family == family]
        yield Heading(2, family)
        yield from (plan.chart for plan in drawn if plan.chart.family == family)
        grown = growth(of_family)
        if grown is not None:
            yield Heading(3, f"{family}: how the figures grow")
            yield Paragraph(_GROWS)
            yield grown
        yield from _glances(of_family)
        for table in of_family:
            yield Heading(3, table.title)
            if table.samples:
                yield grid(table)
            if table.published:
                yield Paragraph(_PUBLISHED)
            said = remarks(table)
            if said:
                yield Listing(tuple(said))


def growth(tables: Sequence[Table]) -> Grid | None:
    """How the figures of the family "growth" grow; ``None`` where there is nothing that does."""
    found = growths(tables)
    columns = (Column("what", number=False), Column("peer", number=False), Column("growth", number=False))
    rows = tuple(Row((Cell(one.subject), Cell(one.peer), Cell(one.fit.text)), one.ours) for one in found)
    return Grid(columns, rows) if rows else None


def _glances(of_family: Sequence[Table]) -> Iterator[Block]:
    """The medians of several tables in one, each time where there are several."""
    placed = [group for group in groups(of_family) if all(table.place for table in group)]
    for group in placed:
        if len(group) > 1:
            yield Heading(3, f"{subject_of(group)}: at a glance")
            yield Paragraph(_GLANCE.format(heading(group[0].quantities[0])))
            yield by_place(group)
    others = [table for table in of_family if not any(table in group for group in placed)]
    if len(others) > 1:
        yield Heading(3, f"{of_family[0].family}: at a glance")
        yield Paragraph(_GLANCE.format("each case's first figure"))
        yield by_case(others)


def by_place(group: Sequence[Table]) -> Grid:
    """The first quantity of tables of one chart: a row for each peer, a column for each place."""
    columns = [Column("peer", number=False)]
    columns += [Column(", ".join(at(axis, value) for axis, value in table.place.items())) for table in group]
    rows = [
        Row((Cell(peer), *(_middle(table, peer) for table in group)), peer == group[0].ours) for peer in _all(group)
    ]
    return Grid(tuple(columns), tuple(rows))


def by_case(tables: Sequence[Table]) -> Grid:
    """The first quantity of each table: a row for each, a column for each peer."""
    peers = _all(tables)
    columns = [Column("case", number=False), *map(Column, peers)]
    rows = [
        Row((Cell(table.title, heading(table.quantities[0])), *(_middle(table, peer) for peer in peers)))
        for table in tables
    ]
    return Grid(tuple(columns), tuple(rows))


def _all(tables: Sequence[Table]) -> list[str]:
    """All peers of these tables: ours, then the base, then the others."""
    first = tables[0]
    found = dict.fromkeys(peer for table in tables for peer in table.samples)
    return sorted(found, key=lambda peer: (peer != first.ours, peer != first.base))


def _middle(table: Table, peer: str) -> Cell:
    values = table.values(peer, table.quantities[0])
    return Cell(number(statistics.median(values)), value=statistics.median(values)) if values else Cell("–")


def peers_of(table: Table) -> list[str]:
    """The peers that have figures: the base, then from the best to the worst in the first quantity."""
    first = table.quantities[0]

    def rank(peer: str) -> tuple[bool, bool, float]:
        values = table.values(peer, first)
        middle = statistics.median(values) if values else 0.0
        return peer != table.base, not values, -middle if first.higher else middle

    return sorted(table.samples, key=rank)


def ratio_to_base(table: Table, peer: str) -> float | None:
    """The peer's first quantity divided by the base's; ``None`` where either is missing, or the base's is zero."""
    values, base = (table.values(one, table.quantities[0]) for one in (peer, table.base))
    return statistics.median(values) / statistics.median(base) if values and base and statistics.median(base) else None


def grid(table: Table) -> Grid:
    """A row for each peer: the ratio to the base, the median and range of each quantity, and the number of runs."""
    told = [one for one in table.quantities if any(table.values(peer, one) for peer in table.samples)]
    columns = [Column("peer", number=False), *(Column(f"{heading(one)} ({sense(one)})") for one in told)]
    columns[2:2] = [Column(f"to {table.base}")] * bool(table.base)
    columns += [Column("published")] * bool(table.published)
    return Grid((*columns, Column("runs")), tuple(_row(table, peer, told) for peer in peers_of(table)))


def _row(table: Table, peer: str, told: Sequence[Quantity]) -> Row:
    cells = [Cell(peer), *(_figure(table.values(peer, one)) for one in told)]
    cells[2:2] = [_ratio(ratio_to_base(table, peer))] * bool(table.base)
    cells += [_ratio(table.published.get(peer))] * bool(table.published)
    runs = len(table.samples[peer])
    return Row((*cells, Cell(str(runs), value=runs)), peer == table.ours)


def _figure(samples: Sequence[float]) -> Cell:
    if not samples:
        return Cell("–")
    middle = statistics.median(samples)
    return Cell(number(middle), limits(samples), middle)


def _ratio(value: float | None) -> Cell:
    return Cell("–") if value is None else Cell(ratio(value), value=value)


def remarks(table: Table) -> list[tuple[str, str]]:
    """What stands below a table: who is missing, with the command that helps, who failed, and the notes."""
    return [
        *((f"{peer} is missing:", remedy) for peer, remedy in table.missing.items()),
        *((f"{peer} failed: {why}", "") for peer, why in table.failed.items()),
        *((note, "") for note in table.notes),
    ]


# -- what is not there, and pictures


def _lacks(tables: Sequence[Table]) -> Iterator[Block]:
    missing = {peer: remedy for table in tables for peer, remedy in table.missing.items()}
    failed = [(peer, why, table.title) for table in tables for peer, why in table.failed.items()]
    if missing or failed:
        yield Heading(2, "What was not measured")
        absent = [(f"{peer} is missing:", remedy) for peer, remedy in missing.items()]
        ended = [(f"{peer} failed in “{title}”: {why}", "") for peer, why, title in failed]
        yield Listing((*absent, *ended))


def _flames(results: Results) -> Iterator[Block]:
    if results.flames:
        yield Heading(2, "Flame graphs")
        yield from (Graph(flame) for flame in results.flames)


__all__ = [
    "by_case",
    "by_place",
    "document",
    "grid",
    "growth",
    "made",
    "overview",
    "peers_of",
    "ratio_to_base",
    "remarks",
]
