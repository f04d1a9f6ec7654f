"""The proxy: CPU time for handshakes and for bulk, memory for idle connections, how many connections one worker holds, and
the wall time until it serves. What counts is the CPU time and the memory of all its processes.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import time
from collections.abc import Iterator
from typing import NamedTuple

from netnet.bench.families.proxies import (
    MICROSOCKS,
    OURS,
    PLAIN,
    PPROXY,
    PPROXY_UVLOOP,
    SOCKS4,
    Proxy,
    Start,
    has_microsocks,
    microsocks_command,
    ours,
    peers,
    service,
)
from netnet.bench.families.start import PYTHON_ALONE, import_milliseconds
from netnet.bench.figures import Figures, Progress, Size
from netnet.bench.native import program
from netnet.bench.processes import BenchError, Process, free_port, listening, load, serving, window

#: connections that a proxy has before its memory is looked at: as many as the load has addresses, since each address has
#: its place among the limits. They stay, so that those that are counted do not get what they have left
WARM_CONNECTIONS = 200

#: a proxy that listens answers by then
ANSWER_SECONDS = 10.0

#: between two looks whether a proxy listens: its start is known no better than that
LOOK_SECONDS = 0.002

_FIRST_ANSWER = "netnet, answers"


@contextlib.contextmanager
def echo_target() -> Iterator[int]:
    """An echo server near the load: its port."""
    with serving([str(program("echo"))], near_load=True) as target:
        yield target.port()


def handshake(size: Size, progress: Progress) -> list[Figures]:
    """Connect, request, one byte echoed, close; some at a time."""
    figures = Figures(f"SOCKS5 handshakes, {size.at_once} at a time", "µs CPU each", base=MICROSOCKS)
    found = peers([figures], MICROSOCKS, OURS, SOCKS4, PLAIN, PPROXY, PPROXY_UVLOOP)
    with echo_target() as target_port:
        for name, start in list(found.items()) * size.rounds:
            progress(f"{figures.title}: {name}")
            with (
                start() as proxy,
                proxy.load("socks", target_port, size.at_once, size.warmup_seconds, size.seconds) as client,
            ):
                used, words = window(proxy.process, client)
                figures.add(name, used / max(1, int(words[1])) * 1e6)
                if int(words[3]):
                    figures.note(f"{name}: {words[3]} handshakes failed")
    return [figures]


def bulk(size: Size, progress: Progress) -> list[Figures]:
    """One stream, one way, from the target to the client. The yardstick is no proxy: it relays to one target."""
    figures = Figures("bulk data through the proxy, one way, one stream", "s CPU a GB", base="C splice")
    with load("source") as source:
        target_port = source.port()

        @contextlib.contextmanager
        def splice() -> Iterator[Proxy]:
            with serving([str(program("relay")), "splice", str(target_port)]) as process:
                yield Proxy(process, process.port(), 0)

        found: dict[str, Start] = {"C splice": splice, **peers([figures], MICROSOCKS, OURS)}
        for name, start in list(found.items()) * size.rounds:
            progress(f"{figures.title}: {name}")
            with start() as proxy, proxy.load("pull", target_port, 1, size.warmup_seconds, size.seconds) as client:
                used, words = window(proxy.process, client)
                figures.add(name, used / max(1, int(words[1])) * 1e9)
    return [figures]


def idle(size: Size, progress: Progress) -> list[Figures]:
    """Memory that one more idle connection takes of a proxy that has some already."""
    figures = Figures(f"{size.idle_connections} idle proxied connections", "kB each", base=MICROSOCKS)
    found = peers([figures], MICROSOCKS, OURS)
    figures.note(f"besides {WARM_CONNECTIONS} that were there before")
    with echo_target() as target_port:
        for name, start in list(found.items()) * size.rounds:
            progress(f"{figures.title}: {name}")
            with start() as proxy:
                with _idling(proxy, target_port, WARM_CONNECTIONS):
                    before = proxy.process.group_resident_bytes()
                    with _idling(proxy, target_port, size.idle_connections):
                        added = proxy.process.group_resident_bytes() - before
                figures.add(name, added / 1000 / size.idle_connections)
    return [figures]


@contextlib.contextmanager
def _idling(proxy: Proxy, target_port: int, connections: int) -> Iterator[None]:
    """So many connections that do nothing."""
    with proxy.load("hold", target_port, connections, 1, 0) as client:
        client.line()
        yield


def _until(process: Process, word: str) -> list[str]:
    while (words := process.line())[0] != word:
        pass
    return words


def hold(size: Size, progress: Progress) -> list[Figures]:
    """Many connections through one proxy, traffic on some, then a byte through each: how many are lost."""
    count, busy = size.hold_connections, size.busy_connections
    figures = Figures(f"{count} proxied connections at once, traffic on {busy}", "connections lost", base="netnet")
    progress(f"{figures.title}: netnet")
    with (
        echo_target() as target_port,
        ours() as proxy,
        proxy.load("hold", target_port, count, busy, size.seconds) as client,
    ):
        client.line()
        before = proxy.process.group_cpu_seconds()
        client.tell("go")
        words = _until(client, "ops")
        used = sum(proxy.process.group_used_seconds(before))
        alive = int(_until(client, "alive")[1])
        figures.add("netnet", count - alive)
        trips = int(words[1])
        delays = f"; p50 {words[3]} µs, p99 {words[5]} µs" if len(words) > 5 else ""
        figures.note(
            f"{alive} of {count} alive after {trips} round trips ({used / max(1, trips) * 1e6:.1f} µs CPU each{delays})"
        )
    return [figures]


# -- start


class Started(NamedTuple):
    """How long a proxy has taken: wall time from exec to the first connection and to the first answer, and CPU time of
    all its processes until then; in milliseconds."""

    listens: float
    answers: float
    cpu: float


def start(size: Size, progress: Progress) -> list[Figures]:
    """From exec to the first connection that is accepted, and to the first answer. The disk's cache is warm."""
    figures = Figures("start of the proxy, to the first connection", "ms of wall time", base=PYTHON_ALONE)
    if not has_microsocks():
        peers([figures], MICROSOCKS)
    used = []
    _start_ours()  # fills the caches
    for _ in range(size.starts):
        progress(f"{figures.title}: {PYTHON_ALONE}")
        figures.add(PYTHON_ALONE, import_milliseconds(""))
        progress(f"{figures.title}: {OURS}")
        started = _start_ours()
        figures.add(OURS, started.listens)
        figures.add(_FIRST_ANSWER, started.answers)
        used.append(started.cpu)
        if has_microsocks():
            progress(f"{figures.title}: {MICROSOCKS}")
            port = free_port()
            figures.add(MICROSOCKS, _start(microsocks_command(port), port).listens)
    figures.note(f"{_FIRST_ANSWER}: to the answer to a client's first bytes; known to {LOOK_SECONDS * 1000:.0f} ms")
    figures.note(f"netnet: {statistics.median(used):.0f} ms of CPU time until then")
    return [figures]


def _start_ours() -> Started:
    port = free_port()
    with service(f"127.0.0.1:{port}") as command:
        return _start(command, port)


def _start(command: list[str], port: int) -> Started:
    """Starts a proxy that listens on *port*, and asks it for something. Raises ``BenchError``."""
    began = time.perf_counter()
    with listening(command, port, look_seconds=LOOK_SECONDS) as process:
        listens = time.perf_counter()
        try:
            with socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS) as client:
                client.sendall(b"\x05\x01\x00")
                if client.recv(2) != b"\x05\x00":
                    raise BenchError(f"{' '.join(command)} does not answer as a SOCKS5 proxy")
        except OSError as error:
            process.still_runs()
            raise BenchError(f"{' '.join(command)} does not answer: {error}") from None
        answers = time.perf_counter()
        used = sum(process.group_cpu_seconds().values())
        return Started((listens - began) * 1e3, (answers - began) * 1e3, used * 1e3)
