"""Which charts a report has, and what each of them shows. It draws nothing: ``charts`` does.

Tables of one family and subject that measure the same quantity make one chart, and so do those of a family that have no
subject. Where their first axis has enough places the chart has lines along it, and a panel for each combination of the
other axes; else each table is a panel of bars. What has one figure only has no chart.
"""

from __future__ import annotations

import itertools
import statistics
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from netnet.bench.figures import Quantity, Table
from netnet.bench.report.document import Chart
from netnet.bench.wording import at, counted, heading, sense, slug

#: the family that is about how costs grow
GROWTH = "growth"

#: quantities besides the first that have charts of their own
ALSO = dict.fromkeys(("echo", "handshake", "churn"), ("throughput", "p99"))

#: places along an axis that are worth a line; of the family that is about growth, two
PLACES_MIN = 3

#: what spans more than this is drawn on a logarithmic scale: values of lines, those of bars, and places on an axis
SPAN_OF_LINES, SPAN_OF_BARS, SPAN_OF_PLACES = 10, 20, 20

#: characters of a panel's title
_TITLE_WIDTH = 52


@dataclass(frozen=True)
class Value:
    """The median of some samples, and their range."""

    middle: float
    least: float
    most: float


@dataclass
class Panel:
    """One part of a chart: values by peer and place, or, without an axis, by peer at the place 0."""

    title: str
    values: dict[str, dict[float, Value]] = field(default_factory=dict)
    #: figures that others have published, by peer
    published: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a chart shows; without an *axis* it shows bars."""

    chart: Chart
    quantity: Quantity
    #: the peer to be seen first
    ours: str
    axis: str | None
    panels: tuple[Panel, ...]

    @property
    def logarithmic(self) -> bool:
        """Whether the lines of some panel span too much for a linear scale."""
        return any(spans([one.middle for one in _of_panel(panel)], SPAN_OF_LINES) for panel in self.panels)


def plans(tables: Iterable[Table]) -> list[Plan]:
    """The charts of these tables, in their order."""
    found: list[Plan] = []
    for group in groups(tables):
        names = (group[0].quantities[0].name, *ALSO.get(group[0].family, ()))
        for name in dict.fromkeys(names):
            plan = _plan([table for table in group if _has(table, name)], name)
            if plan is not None:
                found.append(plan)
    return list(_named(found))


def groups(tables: Iterable[Table]) -> list[list[Table]]:
    """The tables of each family and subject that begin with the same quantity."""
    found: dict[tuple[str, str, str, str], list[Table]] = {}
    for table in tables:
        first = table.quantities[0]
        found.setdefault((table.family, table.subject, first.name, first.unit), []).append(table)
    return list(found.values())


def subject_of(group: Sequence[Table]) -> str:
    """What the tables of a group have in common, in words that begin with the family."""
    first = group[0]
    if not first.subject and len(group) > 1:
        return first.family
    subject = first.subject or first.title
    return subject if subject.startswith(first.family) else f"{first.family}: {subject}"


def spans(values: Iterable[float], most: float) -> bool:
    """Whether these values differ by more than *most* times, so that they need a logarithmic scale, and can have one."""
    known = list(values)
    return bool(known) and min(known) > 0 and max(known) > most * min(known)


def _has(table: Table, name: str) -> bool:
    return any(one.name == name for one in table.quantities) and any(
        name in sample for samples in table.samples.values() for sample in samples
    )


def _plan(group: Sequence[Table], name: str) -> Plan | None:
    if not group:
        return None
    quantity = group[0].quantity(name)
    axis = axis_of(group)
    panels = tuple(_lines(group, quantity, axis) if axis else _bars(group, quantity))
    if sum(len(places) for panel in panels for places in panel.values.values()) < 2:
        return None
    subject = subject_of(group)
    chart = Chart(f"{subject}: {heading(quantity)}", group[0].family, "", _alt(subject, quantity, axis, panels))
    return Plan(chart, quantity, group[0].ours, axis, panels)


def _named(found: Sequence[Plan]) -> Iterator[Plan]:
    """The plans with a stem for each: the subject; the quantity behind it, where that does not do; or a number."""
    taken: set[str] = set()
    for plan in found:
        subject = plan.chart.title.removesuffix(f": {heading(plan.quantity)}")
        wanted = (slug(subject), slug(f"{subject} {plan.quantity.name}"), slug(plan.chart.title))
        numbered = (f"{wanted[-1]}-{number}" for number in itertools.count(2))
        stem = next(one for one in itertools.chain(wanted, numbered) if one not in taken)
        taken.add(stem)
        yield replace(plan, chart=replace(plan.chart, stem=stem))


def axis_of(group: Sequence[Table]) -> str | None:
    """The axis that the lines of these tables run along; ``None`` where they have no common one, or too few places."""
    axis = next(iter(group[0].place), None)
    if axis is None or any(axis not in table.place for table in group):
        return None
    places = [tuple(sorted(table.place.items())) for table in group]
    least = 2 if group[0].family == GROWTH else PLACES_MIN
    enough = len({table.place[axis] for table in group}) >= least
    return axis if enough and len(set(places)) == len(places) else None


def _lines(group: Sequence[Table], quantity: Quantity, axis: str) -> Iterator[Panel]:
    panels: dict[str, Panel] = {}
    for table in sorted(group, key=lambda one: tuple(one.place.values())[1:]):
        others = ", ".join(at(name, value) for name, value in table.place.items() if name != axis)
        panel = panels.setdefault(others, Panel(others))
        for peer, value in _values(table, quantity).items():
            panel.values.setdefault(peer, {})[table.place[axis]] = value
    yield from panels.values()


def _bars(group: Sequence[Table], quantity: Quantity) -> Iterator[Panel]:
    for table in group:
        panel = Panel("" if len(group) == 1 else textwrap.fill(table.title, _TITLE_WIDTH))
        panel.values = {peer: {0.0: value} for peer, value in _values(table, quantity).items()}
        base = panel.values.get(table.base)
        if base is not None and quantity == table.quantities[0]:
            panel.published = {peer: share * base[0.0].middle for peer, share in table.published.items()}
        yield panel


def _values(table: Table, quantity: Quantity) -> dict[str, Value]:
    samples = {peer: table.values(peer, quantity) for peer in table.samples}
    return {peer: Value(statistics.median(one), min(one), max(one)) for peer, one in samples.items() if one}


def _of_panel(panel: Panel) -> Iterator[Value]:
    for places in panel.values.values():
        yield from places.values()


def peers_of(plan: Plan) -> list[str]:
    """All peers of a chart: ours first, then in the order of the tables."""
    found = dict.fromkeys(peer for panel in plan.panels for peer in panel.values)
    return sorted(found, key=lambda peer: peer != plan.ours)


def _alt(title: str, quantity: Quantity, axis: str | None, panels: Sequence[Panel]) -> str:
    """What the chart shows, for who cannot see it; the figures stand in the tables."""
    kind = "Bars" if axis is None else f"Lines along the number of {axis}"
    peers = dict.fromkeys(peer for panel in panels for peer in panel.values)
    parts = f" in {counted(len(panels), 'panel')}" if len(panels) > 1 else ""
    return f"{title}. {kind}{parts}: {heading(quantity)} ({sense(quantity)}), of {', '.join(peers)}."


__all__ = [
    "GROWTH",
    "SPAN_OF_BARS",
    "SPAN_OF_LINES",
    "SPAN_OF_PLACES",
    "Panel",
    "Plan",
    "Value",
    "axis_of",
    "groups",
    "peers_of",
    "plans",
    "spans",
    "subject_of",
]
