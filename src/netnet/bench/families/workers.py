"""Workers: what a second process of a server brings.

Throughput needs processors for the server and others for the load: four. With fewer, load and workers compete for the
same ones, and two workers cannot show their worth. So there is a second table, which holds everywhere: the capacity,
worked out from the CPU time that a round trip takes with one and with two workers, as if each worker had a processor of
its own. If sharing costs nothing, it is twice as large with two. What it cannot show is load that is spread unevenly;
the note has the share of the busiest worker.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from netnet.bench.families.echo import MESSAGE
from netnet.bench.figures import Figures, Progress, Size
from netnet.bench.processes import BenchError, Process, load, probing, python_server

#: load generators: each is one thread, and one could not keep two workers busy
LOADS = 2

#: between the moment a server's connections are gone and the moment its end can be seen
GRACE_SECONDS = 1.0

_PEERS = {"1 worker": 1, "2 workers": 2}


@dataclass(frozen=True)
class Trips:
    """What one measurement gave: round trips in a second of wall time, and the CPU time of each server process."""

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


def workers(size: Size, progress: Progress) -> list[Figures]:
    """Throughput and capacity of one and of two workers."""
    apart = places()[0].isdisjoint(places()[1])
    where = "load on processors of its own" if apart else "load on the same processors"
    connections = size.connections
    unit = "round trips a second, more is better"
    throughput = Figures(f"echo throughput with {connections} connections, {where}", unit)
    capacity = Figures(f"echo capacity with {connections} connections, by CPU of the workers", unit)
    for figures in (throughput, capacity):
        figures.base, figures.ours, figures.higher = "1 worker", "2 workers", True
    shares: dict[str, list[str]] = {}
    for _ in range(size.rounds):
        for peer, count in _PEERS.items():
            progress(f"{throughput.title}: {peer}")
            trips = measure(count, connections, size)
            throughput.add(peer, trips.a_second)
            capacity.add(peer, trips.capacity(count))
            shares.setdefault(peer, []).append(f"{trips.busiest_percent:.0f} %")
    capacity.note(f"share of the busiest process of 2 workers in their CPU time: {', '.join(shares['2 workers'])}")
    judged = throughput if apart else capacity
    judged.note("this is the table to judge workers by, on this machine")
    return [throughput, capacity]


def measure(count: int, connections: int, size: Size) -> Trips:
    """Starts a server with so many workers and measures it once, all its processes together."""
    own, elsewhere = places()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(probing(python_server("echo_workers", count), own))
        port = server.port()
        each = max(1, connections // LOADS)
        clients = [
            stack.enter_context(load("echo", port, each, MESSAGE, size.warmup_seconds, size.seconds, on=elsewhere))
            for _ in range(LOADS)
        ]
        try:
            for client in clients:
                client.line()
            before = server.group_cpu_seconds()
            results = [int(client.line()[1]) for client in clients]
        except BenchError:
            server.still_runs(GRACE_SECONDS)  # if it is the server that failed, that is what to tell
            raise
        server.still_runs()
        used = _used(server, before)
    if not all(results):
        raise BenchError(f"{' '.join(server.command)}: no round trip in {size.seconds} s")
    return Trips(sum(results) / size.seconds, sum(results), used)


def _used(server: Process, before: dict[int, float]) -> list[float]:
    """The CPU seconds of each process of the server since *before*. Raises ``BenchError`` when one is gone."""
    after = server.group_cpu_seconds()
    gone = set(before) - set(after)
    if gone:
        raise BenchError(f"{' '.join(server.command)}: {len(gone)} of its processes ended while they were measured")
    return [seconds - before.get(pid, 0.0) for pid, seconds in after.items()]
