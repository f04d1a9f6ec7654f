"""From figures to text: one table a family, and the targets of the project beside what was measured."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from netnet.bench.families import Figures


@dataclass(frozen=True)
class Target:
    """What the project promises itself: a figure of netnet, or its ratio to a peer's, at most so large."""

    table: str
    peer: str | None
    at_most: float
    unit: str = "×"


TARGETS = (
    Target("echo, 64 bytes, 100 connections", "C epoll", 1.5),
    Target("echo, 64 bytes, 1000 connections", "C epoll", 1.8),
    Target("echo, 64 bytes, 100 connections", "gevent", 0.6),
    Target("relay of bulk data, one way, one stream", "C splice", 1.15),
    Target("SOCKS handshakes, 50 at a time", "microsocks", 1.7),
    Target("2000 idle proxied connections", None, 2.0, " kB"),
    Target("9000 proxied connections at once, traffic on 100", None, 0, " lost"),
)


def environment() -> str:
    """The machine and the versions, in one line."""
    return (
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} {platform.release()}, "
        f"{platform.machine()}, {os.cpu_count()} processors"
    )


def table(figures: Figures) -> str:
    """A family's table: the median of each peer, its spread, and the ratio to the base."""
    lines = [f"{figures.title}  [{figures.unit}]"]
    base = _median(figures, figures.base)
    for peer, samples in figures.samples.items():
        middle = statistics.median(samples)
        ratio = f"{middle / base:6.2f}×" if base else "       "
        lines.append(
            f"  {peer:18} {middle:9.2f}  {ratio}   ({min(samples):.2f} – {max(samples):.2f}, {len(samples)} runs)"
        )
    lines += [f"  {peer:18}   missing: {remedy}" for peer, remedy in figures.missing.items()]
    lines += [f"  note: {note}" for note in figures.notes]
    return "\n".join(lines)


def _median(figures: Figures, peer: str | None) -> float | None:
    samples = figures.samples.get(peer or "")
    return statistics.median(samples) if samples else None


def targets(tables: Sequence[Figures], say: Callable[[str], object]) -> None:
    """The targets that these tables can tell of."""
    found = {figures.title: figures for figures in tables}
    rows = []
    for target in TARGETS:
        figures = found.get(target.table)
        ours = None if figures is None else _median(figures, "netnet")
        theirs = None if figures is None or target.peer is None else _median(figures, target.peer)
        if ours is None or (target.peer is not None and not theirs):
            continue
        value = ours / theirs if theirs else ours
        verdict = "reached" if value <= target.at_most else "missed"
        against = f" against {target.peer}" if target.peer else ""
        rows.append(
            f"  {target.table + against:68} {value:6.2f}{target.unit:5} target {target.at_most:g}{target.unit}: {verdict}"
        )
    if rows:
        say("targets")
        for row in rows:
            say(row)
