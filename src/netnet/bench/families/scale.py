"""Scale: what a second process of a server brings, to an echo server and to the proxy.

Throughput needs processors for the server and others for the load: four. With fewer, load and workers compete for the
same ones, and two workers cannot show their worth. So capacity stands first, which holds everywhere: it is worked out from
the CPU time that a round trip takes with one and with two workers, as if each worker had a processor of its own. If sharing
costs nothing, it is twice as large with two. What it cannot show is load that is spread unevenly; the note has the share of
the busiest worker. Where there are four processors, throughput is judged, too.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from netnet.bench.families.echo import MESSAGE
from netnet.bench.families.proxies import ours
from netnet.bench.figures import Case, Quantity, Sample, Size, Table
from netnet.bench.native import program
from netnet.bench.processes import GRACE_SECONDS, BenchError, Process, load, probing, python_server, said, serving

#: load generators: each is one thread, and one could not keep two workers busy
LOADS = 2

#: connections of the echo server, and handshakes at a time
CONNECTIONS, AT_ONCE = 100, 50

_PEERS = {"1 worker": 1, "2 workers": 2}


@dataclass(frozen=True)
class Trips:
    """What one measurement gave: round trips (or handshakes) in a second of wall time and in all, and the CPU time of each
    server process."""

    a_second: float
    count: int
    used_seconds: list[float]

    def capacity(self, workers: int) -> float:
        """Round trips a second, if each worker had a processor of its own."""
        return workers * self.count / max(sum(self.used_seconds), 1e-9)

    @property
    def busiest_percent(self) -> float:
        """The share of the busiest process in the CPU time of all."""
        return 100 * max(self.used_seconds) / max(sum(self.used_seconds), 1e-9)


def places() -> tuple[set[int], set[int]]:
    """The processors of the workers and those of the load: the same where there are not four."""
    allowed = sorted(os.sched_getaffinity(0))
    return (set(allowed[:2]), set(allowed[2:4])) if len(allowed) >= 4 else (set(allowed), set(allowed))


def _apart() -> bool:
    own, elsewhere = places()
    return own.isdisjoint(elsewhere)


def scale(size: Size) -> list[Case]:
    """One worker and two: of an echo server, and of the proxy."""
    return [
        _case(
            f"workers, echo with {CONNECTIONS} connections",
            "round trips a second",
            lambda count: measure(count, size),
            size,
        ),
        _case(
            f"workers, SOCKS5 handshakes, {AT_ONCE} at a time",
            "a second",
            lambda count: measure_proxy(count, size),
            size,
        ),
    ]


def _case(title: str, unit: str, measured: Callable[[int], Trips], size: Size) -> Case:
    table = Table(
        "scale",
        title,
        (Quantity("capacity", unit, higher=True), Quantity("throughput", unit, higher=True)),
        base="1 worker",
        ours="2 workers",
        judged=("throughput",) if _apart() else (),
    )
    where = "processors of its own" if _apart() else "the workers' processors: their throughput says little"
    table.note(f"capacity: if each worker had a processor of its own; the load is on {where}")
    return Case(table, {peer: partial(_sample, table, peer, count, measured) for peer, count in _PEERS.items()})


def _sample(table: Table, peer: str, count: int, measured: Callable[[int], Trips]) -> Sample:
    trips = measured(count)
    if count > 1:
        table.note(f"{peer}: the busiest process had {trips.busiest_percent:.0f} % of their CPU time")
    return {"capacity": trips.capacity(count), "throughput": trips.a_second}


def measure(count: int, size: Size) -> Trips:
    """Starts an echo server with so many workers and measures it once, all its processes together."""
    own, elsewhere = places()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(probing(python_server("echo_workers", count), own))
        port = server.port()
        each = CONNECTIONS // LOADS
        clients = [
            stack.enter_context(load("echo", port, each, MESSAGE, size.warmup_seconds, size.seconds, on=elsewhere))
            for _ in range(LOADS)
        ]
        return _trips(server, clients, size)


def measure_proxy(count: int, size: Size) -> Trips:
    """Starts the proxy with so many workers and measures it once, all its processes together."""
    own, elsewhere = places()
    with contextlib.ExitStack() as stack:
        target_port = stack.enter_context(serving([str(program("echo"))], on=elsewhere)).port()
        proxy = stack.enter_context(ours(workers=count, on=own))
        each = AT_ONCE // LOADS
        clients = [
            stack.enter_context(proxy.load("socks", target_port, each, size.warmup_seconds, size.seconds, on=elsewhere))
            for _ in range(LOADS)
        ]
        return _trips(proxy.process, clients, size)


def _trips(server: Process, clients: Sequence[Process], size: Size) -> Trips:
    """What these loads get done, from their "start" to their results. Raises ``BenchError``."""
    try:
        for client in clients:
            client.line()
        before = server.group_cpu_seconds()
        results = [int(client.line()[1]) for client in clients]
    except BenchError:
        server.still_runs(GRACE_SECONDS)  # if it is the server that failed, that is what to tell
        raise
    server.still_runs()
    used = server.group_used_seconds(before)
    if not all(results):
        raise BenchError(f"{said(server.command)}: no round trip in {size.seconds} s")
    return Trips(sum(results) / size.seconds, sum(results), used)
