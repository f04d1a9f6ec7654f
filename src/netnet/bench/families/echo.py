"""Echo: the server's CPU time for one small round trip, with few and with many connections."""

from __future__ import annotations

from collections.abc import Sequence

from netnet.bench.figures import Figures, Progress, Size, has
from netnet.bench.native import program
from netnet.bench.processes import load, python_server, serving, window

#: bytes of a message
MESSAGE = 64

#: peer → the module that it needs and its command
_OPTIONAL = {
    "uvloop protocol": ("uvloop", ("echo_asyncio", "protocol", "uvloop")),
    "uvloop streams": ("uvloop", ("echo_asyncio", "streams", "uvloop")),
    "gevent": ("gevent", ("echo_gevent",)),
}


def peers(figures: Figures) -> dict[str, list[str]]:
    """The servers that are here, by peer; the others are told to *figures*."""
    found = {"C epoll": [str(program("echo"))], "netnet": python_server("echo_netnet")}
    for name, (module, server) in _OPTIONAL.items():
        if has(module):
            found[name] = python_server(*server)
        else:
            figures.missing[name] = f"pip install {module}"
    found["asyncio streams"] = python_server("echo_asyncio", "streams", "asyncio")
    return found


def echo(size: Size, progress: Progress) -> list[Figures]:
    """One table for each number of connections."""
    tables = []
    for connections in size.echo_connections:
        plural = "connection" if connections == 1 else "connections"
        figures = Figures(f"echo, {MESSAGE} bytes, {connections} {plural}", "µs CPU a round trip", base="C epoll")
        commands = peers(figures)
        for _ in range(size.rounds):
            for name, command in commands.items():
                progress(f"{figures.title}: {name}")
                figures.add(name, round_trip(command, connections, size))
        tables.append(figures)
    return tables


def round_trip(command: Sequence[str], connections: int, size: Size) -> float:
    """Starts the server *command* and measures it once: its CPU time for a round trip, µs."""
    with (
        serving(command) as server,
        load("echo", server.port(), connections, MESSAGE, size.warmup_seconds, size.seconds) as client,
    ):
        used, words = window(server, client)
        return used / max(1, int(words[1])) * 1e6
