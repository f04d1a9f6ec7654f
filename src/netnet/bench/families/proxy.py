"""The proxy: CPU time for handshakes, memory for idle connections, and how many connections one process holds."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator

from netnet.bench.figures import Figures, Progress, Size
from netnet.bench.native import program
from netnet.bench.processes import Process, free_port, listening, load, serving, window


@contextlib.contextmanager
def _netnet_proxy() -> Iterator[tuple[Process, int, int]]:
    with serving([sys.executable, "-m", "netnet", "proxy", "--listen", "127.0.0.1:0"]) as process:
        yield process, 4, process.port()


@contextlib.contextmanager
def _microsocks() -> Iterator[tuple[Process, int, int]]:
    port = free_port()
    with listening(["microsocks", "-i", "127.0.0.1", "-p", str(port)], port) as process:
        yield process, 5, port


_Proxy = Callable[[], contextlib.AbstractContextManager[tuple[Process, int, int]]]


def _proxies(figures: Figures) -> dict[str, _Proxy]:
    peers: dict[str, _Proxy] = {}
    if shutil.which("microsocks"):
        peers["microsocks"] = _microsocks
    else:
        figures.missing["microsocks"] = "apt install microsocks"
    peers["netnet"] = _netnet_proxy
    figures.note("netnet is asked in SOCKS4 (one exchange), microsocks in SOCKS5 (two; it knows no other)")
    return peers


def handshake(size: Size, progress: Progress) -> list[Figures]:
    """Connect, request, one byte echoed, close; some at a time."""
    figures = Figures(f"SOCKS handshakes, {size.at_once} at a time", "µs CPU each", base="microsocks")
    with serving([str(program("echo"))], near_load=True) as target:
        target_port = target.port()
        for name, proxy in list(_proxies(figures).items()) * size.rounds:
            progress(f"{figures.title}: {name}")
            with (
                proxy() as (server, version, port),
                load("socks", version, port, target_port, size.at_once, size.warmup_seconds, size.seconds) as client,
            ):
                used, words = window(server, client)
                figures.add(name, used / max(1, int(words[1])) * 1e6)
                if int(words[3]):
                    figures.note(f"{name}: {words[3]} handshakes failed")
    return [figures]


def idle(size: Size, progress: Progress) -> list[Figures]:
    """Memory that an idle proxied connection adds to a proxy that is warm."""
    figures = Figures(f"{size.idle_connections} idle proxied connections", "kB each", base="microsocks")
    with serving([str(program("echo"))], near_load=True) as target:
        target_port = target.port()
        for name, proxy in list(_proxies(figures).items()) * size.rounds:
            progress(f"{figures.title}: {name}")
            with proxy() as (server, version, port):
                with load("hold", version, port, target_port, min(200, size.idle_connections), 1, 0.05) as warmup:
                    warmup.line()
                    warmup.tell("go")
                    _until(warmup, "alive")
                before = server.resident_bytes()
                with load("hold", version, port, target_port, size.idle_connections, 1, 0.05) as client:
                    client.line()
                    figures.add(name, (server.resident_bytes() - before) / 1000 / size.idle_connections)
    return [figures]


def _until(process: Process, word: str) -> list[str]:
    while (words := process.line())[0] != word:
        pass
    return words


def hold(size: Size, progress: Progress) -> list[Figures]:
    """Many connections through one proxy, traffic on some, then a byte through each: how many are lost."""
    count, busy = size.hold_connections, size.hold_busy
    figures = Figures(f"{count} proxied connections at once, traffic on {busy}", "connections lost", base="netnet")
    with serving([str(program("echo"))], near_load=True) as target:
        target_port = target.port()
        progress(f"{figures.title}: netnet")
        with (
            _netnet_proxy() as (server, version, port),
            load("hold", version, port, target_port, count, busy, size.seconds) as client,
        ):
            client.line()
            before = server.cpu_seconds()
            client.tell("go")
            words = _until(client, "ops")
            used = server.cpu_seconds() - before
            alive = int(_until(client, "alive")[1])
            figures.add("netnet", count - alive)
            trips = int(words[1])
            delays = f"; p50 {words[3]} µs, p99 {words[5]} µs" if len(words) > 5 else ""
            figures.note(
                f"{alive} of {count} alive after {trips} round trips ({used / max(1, trips) * 1e6:.1f} µs CPU each{delays})"
            )
    return [figures]
