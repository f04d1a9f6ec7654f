"""Earlier runs: their files, and whether a figure has become better or worse since.

A run is one JSON file, ``DATE-ID.json``, with the environment, the size, and for each table the median of each peer and
its ratio to the base. It names no machine and no path. What is compared is chosen to mean the same from one run to the
next: the ratio of our figure to the base's, measured in the same run, and to those of the targets' peers. A figure of
its own (connections lost) is compared where there is no peer, and only if the environment is the same.

Worse is what is more than ``TOLERANCE`` worse and, besides, lies outside the spread of this run: in each of its rounds the
figure was worse than it had been.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from netnet.bench.figures import Figures, Size, Table
from netnet.bench.targets import TARGETS, ratio
from netnet.errors import Error

#: where the files are, from the top of a checkout
FOLDER = Path("bench") / "history"

#: how much worse (or better) counts, as a share: medians of short runs differ by less
TOLERANCE = 0.10

#: the form of the files; a number of its own for each that cannot be read as the one before
FORMAT = 1

#: a file of a run is some 10 kB
FILE_BYTES_MAX = 1_000_000

#: digits that are kept of a figure
DIGITS = 6

_MADE = "%Y-%m-%dT%H:%M:%SZ"

T = TypeVar("T")


class HistoryError(Error):
    """A file of an earlier run cannot be read or written; the message says which and why."""


@dataclass(frozen=True)
class Medians:
    """One table of a run: the median of each peer, and its ratio to that of the base."""

    title: str
    unit: str
    base: str
    ours: str
    higher: bool
    medians: dict[str, float]
    ratios: dict[str, float]

    def value(self, rival: str | None) -> float | None:
        """Our figure, or its ratio to the rival's; ``None`` where there is none."""
        return ratio(self.medians.get(self.ours), 1.0 if rival is None else self.medians.get(rival))


@dataclass(frozen=True)
class Run:
    """One run: when it was made (UTC), where, how large, and what it found."""

    made: str
    environment: str
    size: str
    tables: list[Medians]


@dataclass(frozen=True)
class Change:
    """A figure beside what it was: *verdict* is ``better``, ``same``, ``worse``, ``new``, ``gone`` or ``not compared``."""

    name: str
    before: float | None
    now: float | None
    verdict: str
    why: str = ""


# -- from figures to a run


def recorded(tables: Sequence[Table], size: Size, environment: str) -> Run:
    """The run that has just been made."""
    return Run(
        datetime.now(UTC).strftime(_MADE),
        environment,
        size.name,
        [_medians(figures) for figures in _judged(tables) if figures.samples],
    )


def _judged(tables: Sequence[Table]) -> Iterator[Figures]:
    for table in tables:
        yield from table.judged_figures()


def _medians(figures: Figures) -> Medians:
    medians = {peer: figures.median(peer) for peer in figures.samples}
    base = figures.median(figures.base)
    ratios = {peer: ratio(middle, base) for peer, middle in medians.items()}
    return Medians(
        figures.title, figures.unit, figures.base, figures.ours, figures.higher, _rounded(medians), _rounded(ratios)
    )


def _rounded(values: dict[str, float | None]) -> dict[str, float]:
    return {peer: float(f"{value:.{DIGITS}g}") for peer, value in values.items() if value is not None}


# -- files


def write(run: Run, folder: Path) -> Path:
    """Writes the run's file, whole or not at all, and returns its path. Raises ``HistoryError``."""
    text = json.dumps({"format": FORMAT, **asdict(run)}, indent=1, ensure_ascii=False) + "\n"
    path = folder / f"{run.made[:10]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.json"
    unfinished = path.with_suffix(f".{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise HistoryError(f"{path}: cannot be written: {error.strerror}") from None
    return path


def prepared(folder: Path) -> Path:
    """Makes the folder, if it is not there, so that a long run is not lost. Raises ``HistoryError``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HistoryError(f"{folder}: cannot be made: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise HistoryError(f"{folder}: cannot be written to")
    return folder


def read(path: Path) -> Run:
    """The run of a file. Raises ``HistoryError`` where it is not one."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise HistoryError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > FILE_BYTES_MAX:
        raise HistoryError(f"{path}: no run of this bench: larger than {FILE_BYTES_MAX} bytes")
    try:
        return _run(json.loads(content))
    except (ValueError, OverflowError, RecursionError) as error:  # JSON and Unicode errors are ValueErrors
        raise HistoryError(f"{path}: no run of this bench: {error}") from None


def runs(folder: Path) -> list[tuple[str, Run]]:
    """All runs of the folder, with the names of their files, the oldest first. Raises ``HistoryError``."""
    try:
        paths = sorted(folder.glob("*.json"))
    except OSError as error:
        raise HistoryError(f"{folder}: cannot be read: {error.strerror}") from None
    return sorted(((path.name, read(path)) for path in paths), key=lambda found: (found[1].made, found[0]))


def latest(folder: Path, size: Size) -> tuple[str, Run] | None:
    """The last run of this size, with the name of its file; ``None`` without one. Raises ``HistoryError``."""
    of_size = [found for found in runs(folder) if found[1].size == size.name]
    return of_size[-1] if of_size else None


# -- reading, field by field


def _run(content: object) -> Run:
    form = _item(content, "format", _whole)
    if form != FORMAT:
        raise ValueError(f"its format is {form}, this bench reads {FORMAT}")
    made = _item(content, "made", _text)
    if datetime.strptime(made, _MADE).strftime(_MADE) != made:
        raise ValueError(f"{made!r} is not of the form {_MADE}")
    tables = [_read_medians(entry) for entry in _item(content, "tables", _list)]
    if len({table.title for table in tables}) < len(tables):
        raise ValueError("two tables have the same title")
    return Run(made, _item(content, "environment", _text), _item(content, "size", _text), tables)


def _read_medians(entry: object) -> Medians:
    return Medians(
        _item(entry, "title", _text),
        _item(entry, "unit", _text),
        _item(entry, "base", _text),
        _item(entry, "ours", _text),
        _item(entry, "higher", _truth),
        _item(entry, "medians", _figures),
        _item(entry, "ratios", _figures),
    )


def _item(content: object, name: str, check: Callable[[object], T | None]) -> T:
    """The entry *name* of a JSON object, checked. Raises ``ValueError``."""
    if not isinstance(content, dict):
        raise ValueError(f"an object was expected where {name!r} should be")
    value = check(content.get(name))
    if value is None:
        raise ValueError(f"{name!r} is missing or not what it should be")
    return value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.isprintable() else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _list(value: object) -> list[object] | None:
    return value if isinstance(value, list) else None


def _figures(value: object) -> dict[str, float] | None:
    if not isinstance(value, dict) or not all(
        _text(peer) is not None and _is_figure(one) for peer, one in value.items()
    ):
        return None
    return {str(peer): float(one) for peer, one in value.items()}


def _is_figure(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


# -- comparing


def rivals(title: str, base: str, ours: str) -> list[str | None]:
    """What is compared of a table: our ratio to each of these peers; ``None``, our figure itself, where there is none."""
    peers = [base, *(target.peer for target in TARGETS if target.table == title)]
    return list(dict.fromkeys(peer for peer in peers if peer not in ("", None, ours))) or [None]


def name_of(title: str, rival: str | None) -> str:
    """A figure's name: what was measured, and against whom."""
    return title if rival is None else f"{title} against {rival}"


def compare(tables: Sequence[Table], environment: str, run: Run) -> list[Change]:
    """Each figure of *tables*, made in *environment*, beside the same one of the earlier *run*."""
    return list(
        _compared(list(_judged(tables)), environment, {table.title: table for table in run.tables}, run.environment)
    )


def _compared(tables: Sequence[Figures], environment: str, earlier: dict[str, Medians], place: str) -> Iterator[Change]:
    for figures in tables:
        before, now = earlier.get(figures.title), _medians(figures)
        for rival in rivals(figures.title, figures.base, figures.ours):
            was, present = None if before is None else before.value(rival), now.value(rival)
            name = name_of(figures.title, rival)
            if was is None and present is None:
                continue
            if was is None or present is None:
                yield Change(name, was, present, *(("new",) if was is None else ("gone", f": {_lack(figures, rival)}")))
            elif rival is None and environment != place:
                yield Change(name, was, present, "not compared", ": another environment")
            else:
                low, high = spread(figures, rival)
                yield Change(name, was, present, verdict(was, present, low, high, higher=figures.higher))


def _lack(figures: Figures, rival: str | None) -> str:
    """Why a figure that there was is not there now."""
    remedy = figures.missing.get(rival or figures.ours)
    return f"{rival or figures.ours} is missing: {remedy}" if remedy else "not measured, or nothing to divide by"


def spread(figures: Figures, rival: str | None) -> tuple[float, float]:
    """The least and the greatest of our figure, or of its ratio to the rival's, over the rounds of a run."""
    ours = figures.samples[figures.ours]
    theirs = [1.0] * len(ours) if rival is None else figures.samples[rival]
    found = [one / other for one, other in zip(ours, theirs, strict=False) if other]
    return (min(found), max(found)) if found else (-math.inf, math.inf)


def verdict(before: float, now: float, low: float, high: float, *, higher: bool = False) -> str:
    """``worse`` or ``better`` when *now* is so by more than the tolerance and *before* is outside *low* to *high*."""
    risen = now > before + abs(before) * TOLERANCE and before < low
    fallen = now < before - abs(before) * TOLERANCE and before > high
    if not risen and not fallen:
        return "same"
    return "better" if risen is higher else "worse"


def course(found: Sequence[Run]) -> dict[str, list[float | None]]:
    """Each figure over these runs, by name; ``None`` where a run did not measure it."""
    values: dict[str, list[float | None]] = {}
    for number, run in enumerate(found):
        for table in run.tables:
            for rival in rivals(table.title, table.base, table.ours):
                line = values.setdefault(name_of(table.title, rival), [None] * len(found))
                line[number] = table.value(rival)
    return {name: line for name, line in values.items() if any(value is not None for value in line)}


__all__ = [
    "FOLDER",
    "TOLERANCE",
    "Change",
    "HistoryError",
    "Medians",
    "Run",
    "compare",
    "course",
    "latest",
    "prepared",
    "read",
    "recorded",
    "runs",
    "spread",
    "verdict",
    "write",
]
