"""Workers: what a second process of a server brings, to an echo server and to the proxy.

Throughput needs processors for the server and others for the load: four. With fewer, load and workers compete for the
same ones, and two workers cannot show their worth. So there is a second table, which holds everywhere: the capacity,
worked out from the CPU time that a round trip takes with one and with two workers, as if each worker had a processor of
its own. If sharing costs nothing, it is twice as large with two. What it cannot show is load that is spread unevenly;
the note has the share of the busiest worker.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from netnet.bench.families.echo import MESSAGE
from netnet.bench.families.proxies import ours
from netnet.bench.figures import Figures, Progress, Size
from netnet.bench.native import program
from netnet.bench.processes import BenchError, Process, load, probing, python_server, serving

#: load generators: each is one thread, and one could not keep two workers busy
LOADS = 2

#: between the moment a server's connections are gone and the moment its end can be seen
GRACE_SECONDS = 1.0

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


def _where() -> str:
    return "load on processors of its own" if _apart() else "load on the same processors"


def workers(size: Size, progress: Progress) -> list[Figures]:
    """Throughput and capacity of an echo server with one and with two workers."""
    connections = size.connections
    unit = "round trips a second, more is better"
    throughput = Figures(f"echo throughput with {connections} connections, {_where()}", unit)
    capacity = Figures(f"echo capacity with {connections} connections, by CPU of the workers", unit)
    return _compared(throughput, capacity, lambda count: measure(count, connections, size), size, progress)


def proxy_workers(size: Size, progress: Progress) -> list[Figures]:
    """Throughput and capacity of the proxy, in handshakes, with one and with two workers."""
    unit = "a second, more is better"
    throughput = Figures(f"SOCKS5 handshakes, throughput, {_where()}", unit)
    capacity = Figures("SOCKS5 handshakes, capacity by CPU of the workers", unit)
    capacity.note("the CPU time of the supervisor, which serves nobody, is counted among theirs")
    return _compared(throughput, capacity, lambda count: measure_proxy(count, size), size, progress)


def _compared(
    throughput: Figures, capacity: Figures, measured: Callable[[int], Trips], size: Size, progress: Progress
) -> list[Figures]:
    """Fills both tables with what *measured* gives for each number of workers."""
    for figures in (throughput, capacity):
        figures.base, figures.ours, figures.higher = "1 worker", "2 workers", True
    shares: dict[str, list[str]] = {}
    for _ in range(size.rounds):
        for peer, count in _PEERS.items():
            progress(f"{throughput.title}: {peer}")
            trips = measured(count)
            throughput.add(peer, trips.a_second)
            capacity.add(peer, trips.capacity(count))
            shares.setdefault(peer, []).append(f"{trips.busiest_percent:.0f} %")
    capacity.note(f"share of the busiest process of 2 workers in their CPU time: {', '.join(shares['2 workers'])}")
    judged = throughput if _apart() else capacity
    judged.note("this is the table to judge workers by, on this machine")
    return [throughput, capacity]


def measure(count: int, connections: int, size: Size) -> Trips:
    """Starts an echo server with so many workers and measures it once, all its processes together."""
    own, elsewhere = places()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(probing(python_server("echo_workers", count), own))
        port = server.port()
        each = max(1, connections // LOADS)
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
        each = max(1, size.at_once // LOADS)
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
        raise BenchError(f"{' '.join(server.command)}: no round trip in {size.seconds} s")
    return Trips(sum(results) / size.seconds, sum(results), used)
