"""From figures to text: the machine, one table a family, the targets beside what was measured, and what has changed since
an earlier run.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import statistics
from collections.abc import Callable, Sequence

from netnet.bench.figures import Figures
from netnet.bench.history import Change, Run, course
from netnet.bench.targets import measured

Say = Callable[[str], object]

#: what the figures depend on besides the interpreter and the kernel
_PACKAGES = ("greenlet", "gevent", "uvloop")

#: runs that a history shows, the latest ones
COURSE_RUNS = 10


def environment() -> str:
    """The machine and the versions, in one line; nothing that names the machine."""
    return (
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} {_release()}, "
        f"{platform.machine()}, {os.cpu_count()} processors; {', '.join(_versions())}"
    )


def _release() -> str:
    """The kernel's version, without what its builder has added."""
    found = re.match(r"\d+\.\d+", platform.release())
    return found.group() if found else "unknown"


def _versions() -> list[str]:
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {package}")
    return found


def table(figures: Figures) -> str:
    """A family's table: the median of each peer, its spread, and the ratio to the base."""
    lines = [f"{figures.title}  [{figures.unit}]"]
    base = figures.median(figures.base)
    for peer, samples in figures.samples.items():
        middle = statistics.median(samples)
        ratio = f"{middle / base:6.2f}×" if base else "       "
        lines.append(
            f"  {peer:18} {middle:9.2f}  {ratio}   ({min(samples):.2f} – {max(samples):.2f}, {len(samples)} runs)"
        )
    lines += [f"  {peer:18}   missing: {remedy}" for peer, remedy in figures.missing.items()]
    lines += [f"  note: {note}" for note in figures.notes]
    return "\n".join(lines)


def targets(tables: Sequence[Figures], say: Say) -> None:
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
    if rows:
        say("targets")
        for row in rows:
            say(row)


def changes(found: Sequence[Change], run: Run, where: str, say: Say) -> None:
    """Each figure beside what it was in *run*, of the file *where*, and whether that is better, the same or worse."""
    say(f"\nsince {where} ({run.made}; {run.environment})")
    if not found:
        say("  it has none of these figures")
    for change in found:
        say(f"  {change.name:76} {_number(change.before):>7} → {_number(change.now):>7}  {change.verdict}{change.why}")


def history(runs: Sequence[tuple[str, Run]], say: Say) -> None:
    """The course of each figure over these runs, by file, the oldest first; of each size on its own."""
    for size in dict.fromkeys(run.size for _, run in runs):
        of_size = [(where, run) for where, run in runs if run.size == size]
        shown = of_size[-COURSE_RUNS:]
        say(f"size {size}, {len(of_size)} runs" + (f", the last {len(shown)}" if len(shown) < len(of_size) else ""))
        for number, (where, run) in enumerate(shown, 1):
            say(f"  {number:2}  {where}  {run.environment}")
        say(f"  {'':76} " + " ".join(f"{number:>7}" for number in range(1, len(shown) + 1)))
        for name, values in course([run for _, run in shown]).items():
            say(f"  {name:76} " + " ".join(f"{_number(value):>7}" for value in values))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
