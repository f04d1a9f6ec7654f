"""What is measured: each family runs its peers in turn and returns figures, lower is better.

echo        CPU of the server for one 64-byte round trip, µs
relay       CPU of the relay for one gigabyte, one way, s
handshake   CPU of the proxy for connect + request + one byte echoed + close, 50 at a time, µs
idle        memory of the proxy for one idle proxied connection, kB
hold        many proxied connections at once in one process, traffic on some of them: how many live
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from netnet.bench.native import program
from netnet.bench.processes import Process, free_port, listening, load, python_server, serving


@dataclass(frozen=True)
class Size:
    """How long and how large."""

    rounds: int
    warmup_seconds: float
    seconds: float
    echo_connections: tuple[int, ...]
    at_once: int
    idle_connections: int
    hold_connections: int
    hold_busy: int


FULL = Size(5, 0.5, 2.0, (1, 100, 1000), 50, 2000, 9000, 100)
QUICK = Size(3, 0.3, 1.0, (1, 100, 1000), 50, 1000, 9000, 100)
#: for the tests: does it run at all?
SMOKE = Size(1, 0.05, 0.2, (1, 10), 5, 20, 50, 5)


@dataclass
class Figures:
    """One table: the samples of each peer, in the order of measuring."""

    title: str
    unit: str
    samples: dict[str, list[float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    #: the peer whose figure is 1.00
    base: str = ""

    def add(self, peer: str, value: float) -> None:
        self.samples.setdefault(peer, []).append(value)


def _has(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)


# -- echo


def _echo_peers(figures: Figures) -> dict[str, list[str]]:
    peers = {"C epoll": [str(program("echo"))], "netnet": python_server("echo_netnet")}
    for name, module, server in (
        ("uvloop protocol", "uvloop", ["echo_asyncio", "protocol", "uvloop"]),
        ("uvloop streams", "uvloop", ["echo_asyncio", "streams", "uvloop"]),
        ("gevent", "gevent", ["echo_gevent"]),
    ):
        if _has(module):
            peers[name] = python_server(*server)
        else:
            figures.missing[name] = f"pip install {module}"
    peers["asyncio streams"] = python_server("echo_asyncio", "streams", "asyncio")
    return peers


def echo(size: Size, progress: Callable[[str], object]) -> list[Figures]:
    tables = []
    for connections in size.echo_connections:
        plural = "connection" if connections == 1 else "connections"
        figures = Figures(f"echo, 64 bytes, {connections} {plural}", "µs CPU a round trip", base="C epoll")
        peers = _echo_peers(figures)
        for _ in range(size.rounds):
            for name, command in peers.items():
                progress(f"{figures.title}: {name}")
                with (
                    serving(command) as server,
                    load("echo", server.port(), connections, 64, size.warmup_seconds, size.seconds) as client,
                ):
                    used, words = _window(server, client)
                    figures.add(name, used / max(1, int(words[1])) * 1e6)
        tables.append(figures)
    return tables


def _window(server: Process, client: Process) -> tuple[float, list[str]]:
    """The server's CPU seconds between the load's "start" and its result, and the result's words."""
    client.line()
    before = server.cpu_seconds()
    words = client.line()
    return server.cpu_seconds() - before, words


# -- relay


def relay(size: Size, progress: Callable[[str], object]) -> list[Figures]:
    figures = Figures("relay of bulk data, one way, one stream", "s CPU a GB", base="C splice")
    with load("source") as source:
        port = source.port()
        peers = {
            "C splice": [str(program("relay")), "splice", str(port)],
            "C copy": [str(program("relay")), "copy", str(port)],
            "netnet": python_server("relay_netnet", port),
        }
        for _ in range(size.rounds):
            for name, command in peers.items():
                progress(f"{figures.title}: {name}")
                with (
                    serving(command) as server,
                    load("pull", server.port(), 1, size.warmup_seconds, size.seconds) as client,
                ):
                    used, words = _window(server, client)
                    figures.add(name, used / max(1, int(words[1])) * 1e9)
    return [figures]


# -- the proxies


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
    figures.notes.append("netnet is asked in SOCKS4 (one exchange), microsocks in SOCKS5 (two; it knows no other)")
    return peers


def handshake(size: Size, progress: Callable[[str], object]) -> list[Figures]:
    figures = Figures(f"SOCKS handshakes, {size.at_once} at a time", "µs CPU each", base="microsocks")
    with serving([str(program("echo"))], near_load=True) as target:
        target_port = target.port()
        for _ in range(size.rounds):
            for name, proxy in _proxies(figures).items():
                progress(f"{figures.title}: {name}")
                with (
                    proxy() as (server, version, port),
                    load(
                        "socks", version, port, target_port, size.at_once, size.warmup_seconds, size.seconds
                    ) as client,
                ):
                    used, words = _window(server, client)
                    figures.add(name, used / max(1, int(words[1])) * 1e6)
                    if int(words[3]):
                        figures.notes.append(f"{name}: {words[3]} handshakes failed")
    figures.notes = list(dict.fromkeys(figures.notes))
    return [figures]


def idle(size: Size, progress: Callable[[str], object]) -> list[Figures]:
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
    figures.notes = list(dict.fromkeys(figures.notes))
    return [figures]


def _until(process: Process, word: str) -> list[str]:
    while (words := process.line())[0] != word:
        pass
    return words


def hold(size: Size, progress: Callable[[str], object]) -> list[Figures]:
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
            figures.notes.append(
                f"{alive} of {count} alive after {trips} round trips ({used / max(1, trips) * 1e6:.1f} µs CPU each{delays})"
            )
    return [figures]


FAMILIES: dict[str, Callable[[Size, Callable[[str], object]], list[Figures]]] = {
    "echo": echo,
    "relay": relay,
    "handshake": handshake,
    "idle": idle,
    "hold": hold,
}
