"""What the project promises itself, as rows: a figure of a table, or its ratio to a peer's, and its limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from netnet.bench.figures import Figures, Table


@dataclass(frozen=True)
class Target:
    """The figure of the table's own peer, or, with *peer*, its ratio to that peer's, is at most *limit*; or at least."""

    table: str
    peer: str | None
    limit: float
    unit: str = "×"
    at_least: bool = False

    def reached(self, value: float) -> bool:
        """Whether *value* is on the right side of the limit."""
        return value >= self.limit if self.at_least else value <= self.limit


TARGETS = (
    Target("echo, 64 bytes, 100 connections", "C epoll", 1.5),
    Target("echo, 64 bytes, 1000 connections", "C epoll", 1.8),
    Target("echo, 64 bytes, 100 connections", "gevent", 0.6),
    Target("relay, one way, one stream, messages of 1 MiB", "C splice", 1.15),
    Target("SOCKS5 handshakes, 50 at a time", "microsocks", 1.6),
    Target("SOCKS5 handshakes, 50 at a time", "pproxy", 0.5),
    Target("delay added to a 64-byte round trip", "microsocks", 1.5),
    Target("delay added to a 64-byte round trip, p99", "microsocks", 1.5),
    Target("delay added to a 64-byte round trip, 100 others busy", "microsocks", 1.5),
    Target("delay added to a 64-byte round trip, 100 others busy, p99", "microsocks", 1.5),
    Target("start of the proxy, to the first connection", None, 300, " ms"),
    Target("1000 idle proxied connections", None, 2.0, " kB"),
    Target("9000 proxied connections at once, traffic on 100", None, 0, " lost"),
    Target("empty tasks, spawned and joined one at a time", "gevent", 0.35),
    Target("empty tasks, spawned and joined by the hundred", "gevent", 0.35),
    Target("two tasks that take turns", "gevent", 0.7),
    Target("100000 sleeping tasks, lost", None, 0, " lost"),
    Target("time-out around a receive, of an echo round trip with 100 connections", None, 15, " %"),
    Target("items handed over, channel of capacity 1", "asyncio", 1.0),
    Target("items handed over, channel of capacity 100", "asyncio", 1.0),
    Target("import, beyond starting Python", None, 60, " ms"),
    Target("workers, echo with 100 connections", "1 worker", 1.7, at_least=True),
    Target("workers, echo with 100 connections, throughput", "1 worker", 1.7, at_least=True),
    Target("workers, SOCKS5 handshakes, 50 at a time", "1 worker", 1.7, at_least=True),
    Target("workers, SOCKS5 handshakes, 50 at a time, throughput", "1 worker", 1.7, at_least=True),
)


def measured(tables: Sequence[Table]) -> Iterator[tuple[Target, float]]:
    """Each target that these tables can tell of, and the value that they give."""
    found = {figures.title: figures for table in tables for figures in table.judged_figures()}
    for target in TARGETS:
        figures = found.get(target.table)
        value = None if figures is None else ratio(figures.median(figures.ours), _of(figures, target.peer))
        if value is not None:
            yield target, value


def _of(figures: Figures, peer: str | None) -> float | None:
    return 1.0 if peer is None else figures.median(peer)


def ratio(value: float | None, to: float | None) -> float | None:
    """*value* divided by *to*; ``None`` where either is missing, or the division would be by zero."""
    return None if value is None or not to else value / to


__all__ = ["TARGETS", "Target", "measured", "ratio"]
