"""What a run has found, on a terminal: a table for each case, the targets, and what has changed since an earlier run.
Needs rich. Reads without colours too, and a table that is too wide is continued below itself.
"""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Drawn
from rich.text import Text

from netnet.bench import wording
from netnet.bench.figures import Quantity, Table
from netnet.bench.history import Change, Run, course
from netnet.bench.report import content
from netnet.bench.results import Results
from netnet.bench.targets import measured

#: runs that a history shows, the latest ones
COURSE_RUNS = 10

#: columns between two of a table
_GAP = 2


@dataclass(frozen=True)
class _Column:
    """A column of figures: its head, in lines, and a cell for each peer."""

    head: tuple[str, ...]
    cells: tuple[str, ...]

    @property
    def width(self) -> int:
        return max(cell_len(text) for text in (*self.head, *self.cells))


def table(made: Table, console: Console) -> None:
    """One case: for each peer the medians of all quantities, of the first also its range and its ratio to the base."""
    _say(console, made.title, style="bold")
    peers = content.peers_of(made)
    columns = [column for quantity in made.quantities for column in _columns(made, quantity, peers)]
    names = max(map(cell_len, peers), default=0)
    while peers and columns:
        count = _fitting(columns, console.width - names)
        _draw(made, peers, columns[:count], console)
        columns = columns[count:]
    for peer, remedy in made.missing.items():
        _say(console, f"  {peer} is missing: {remedy}")
    for peer, why in made.failed.items():
        _say(console, f"  {peer} failed: {why}")
    for note in made.notes:
        _say(console, f"  note: {note}")


def _fitting(columns: Sequence[_Column], width: int) -> int:
    """How many of the columns stand beside each other in that width: one at least."""
    used = 0
    for count, column in enumerate(columns):
        used += column.width + _GAP
        if used > width and count:
            return count
    return len(columns)


def _columns(made: Table, quantity: Quantity, peers: Sequence[str]) -> list[_Column]:
    samples = [made.values(peer, quantity) for peer in peers]
    if not any(samples):
        return []
    middles = _column(quantity.name, quantity.unit, [_median(one) for one in samples])
    if quantity is not made.quantities[0]:
        return [middles]
    found = [middles]
    if made.base:
        ratios = [content.ratio_to_base(made, peer) for peer in peers]
        found.append(_column("to base", "", [_ratio(one) for one in ratios]))
    found.append(_column("range", "", [wording.limits(one) if one else "" for one in samples]))
    if made.published:
        found.append(_column("published", "", [_ratio(made.published.get(peer)) for peer in peers]))
    return found


def _column(name: str, unit: str, cells: Sequence[str]) -> _Column:
    width = max([len(name), *map(cell_len, cells), *(len(word) for word in unit.split())])
    lines = textwrap.wrap(unit, width) if unit and unit != name else []
    return _Column((name, *lines), tuple(cells))


def _median(samples: Sequence[float]) -> str:
    """The median, and how far the runs are from it."""
    if not samples:
        return "–"
    around = wording.deviation(samples)
    return f"{wording.number(statistics.median(samples))}{f' {around:>5}' if around else ''}"


def _ratio(value: float | None) -> str:
    return "" if value is None else wording.ratio(value)


def _draw(made: Table, peers: Sequence[str], columns: Sequence[_Column], console: Console) -> None:
    drawn = Drawn(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, collapse_padding=True, header_style="dim")
    height = max(len(column.head) for column in columns)
    drawn.add_column("", no_wrap=True)
    for column in columns:
        head = "\n".join(column.head + ("",) * (height - len(column.head)))
        drawn.add_column(Text(head), justify="right", no_wrap=True, min_width=column.width)
    for row, peer in enumerate(peers):
        style = "bold" if peer == made.ours else None
        drawn.add_row(Text(peer), *(Text(column.cells[row]) for column in columns), style=style)
    console.print(drawn, highlight=False)


def _say(console: Console, text: str, style: str | None = None) -> None:
    """A line as it is: neither marked up nor broken."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def standing(tables: Sequence[Table], console: Console) -> None:
    """For each family, in how many cases netnet is behind, level and ahead of the best peer, and the worst of them."""
    made = content.overview(tables)
    if made.rows:
        _say(console, "where netnet stands beside the best peer; above 1.00× it is behind", style="bold")
    for row in made.rows:
        family, cases, behind, level, ahead, worst, case, _ = row.cells
        counts = f"{behind.text:>3} behind, {level.text:>3} level, {ahead.text:>3} ahead"
        _say(
            console,
            f"  {family.text:10} {cases.text:>3} cases: {counts}; worst {worst.text} ({worst.aside}), {case.text}",
        )


def growth(tables: Sequence[Table], console: Console) -> None:
    """How the figures of the family "growth" grow."""
    made = content.growth(tables)
    if made is not None:
        _say(console, "growth", style="bold")
        for row in made.rows:
            subject, peer, text = (cell.text for cell in row.cells)
            _say(console, f"  {subject}, {peer}: {text}", style="bold" if row.ours else None)


def machine(results: Results, console: Console) -> None:
    """What the results hang on: the machine, the versions, and the command."""
    _say(
        console, f"netnet {results.netnet}, size {results.size}, seed {results.seed}, made {content.made(results.made)}"
    )
    told = {**results.machine, **{name: version for name, version in results.versions.items() if version}}
    width = max(map(len, told), default=0)
    for name, value in told.items():
        _say(console, f"  {name:{width}}  {value}")
    _say(console, f"  {results.command}")


def targets(tables: Sequence[Table], console: Console) -> None:
    """The targets that these tables can tell of."""
    rows = []
    for target, value in measured(tables):
        verdict = "reached" if target.reached(value) else "missed"
        against = f" against {target.peer}" if target.peer else ""
        least = "at least " if target.at_least else ""
        rows.append(
            f"  {target.table + against:76} {value:6.2f}{target.unit:5} "
            f"target {least}{target.limit:g}{target.unit}: {verdict}"
        )
    for row in ["targets"] * bool(rows) + rows:
        _say(console, row)


def changes(found: Sequence[Change], run: Run, where: str, console: Console) -> None:
    """Each figure beside what it was in *run*, of the file *where*, and whether that is better, the same or worse."""
    _say(console, f"\nsince {where} ({run.made}; {run.environment})")
    if not found:
        _say(console, "  it has none of these figures")
    for change in found:
        before, now = _digits(change.before), _digits(change.now)
        _say(console, f"  {change.name:76} {before:>7} → {now:>7}  {change.verdict}{change.why}")


def history(runs: Sequence[tuple[str, Run]], console: Console) -> None:
    """The course of each figure over these runs, by file, the oldest first; of each size on its own."""
    for size in dict.fromkeys(run.size for _, run in runs):
        of_size = [(where, run) for where, run in runs if run.size == size]
        shown = of_size[-COURSE_RUNS:]
        last = f", the last {len(shown)}" if len(shown) < len(of_size) else ""
        _say(console, f"size {size}, {len(of_size)} runs{last}")
        for number, (where, run) in enumerate(shown, 1):
            _say(console, f"  {number:2}  {where}  {run.environment}")
        _say(console, f"  {'':76} " + " ".join(f"{number:>7}" for number in range(1, len(shown) + 1)))
        for name, values in course([run for _, run in shown]).items():
            _say(console, f"  {name:76} " + " ".join(f"{_digits(value):>7}" for value in values))


def _digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


__all__ = ["COURSE_RUNS", "changes", "growth", "history", "machine", "standing", "table", "targets"]
