"""Echo: what one round trip costs a server, by the number of connections and the size of the message.

Every connection sends its next message as soon as the echo of the last has come, so the server is always busy: what it
gets done in a second is its capacity, and the time that a round trip takes is mostly the queue of the other connections.

The servers are in ``servers`` and ``programs``, each as its own documentation has it for speed. All have one processor,
listen with the same backlog, set TCP_NODELAY and receive into 64 KiB, where that can be chosen.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from netnet.bench import peers
from netnet.bench.families.relay import bytes_text
from netnet.bench.figures import Case, Measure, Quantity, Sample, Size, Table
from netnet.bench.native import go_program, program
from netnet.bench.processes import BenchError, load, probing, python_server, said, window

#: bytes of a small message, which other families send too
MESSAGE = 64

#: what the servers are asked to receive at once
BUFFER_BYTES = 65_536

QUANTITIES = (
    Quantity("CPU", "µs a round trip"),
    Quantity("throughput", "round trips a second", higher=True),
    Quantity("p50", "µs"),
    Quantity("p99", "µs"),
    Quantity("p99.9", "µs"),
    Quantity("peak memory", "MB"),
)

#: the load's word for each percentile
_PERCENTILES = {"p50": "p50us", "p99": "p99us", "p99.9": "p999us"}


class Server(NamedTuple):
    """What makes the command that runs a server, and the software that it needs."""

    command: Callable[[], Sequence[str]]
    needs: tuple[str, ...] = ()


def _python(name: str, *arguments: str, needs: tuple[str, ...] = ()) -> Server:
    return Server(partial(python_server, name, *arguments), needs)


#: by peer
SERVERS = {
    "C epoll": Server(lambda: [str(program("echo"))]),
    "netnet": _python("echo_netnet"),
    "Go": Server(lambda: [str(go_program("echo"))], needs=("go",)),
    "uvloop protocol": _python("echo_asyncio", "protocol", "uvloop", needs=("uvloop",)),
    "uvloop streams": _python("echo_asyncio", "streams", "uvloop", needs=("uvloop",)),
    "gevent": _python("echo_gevent", needs=("gevent",)),
    "eventlet": _python("echo_eventlet", needs=("eventlet",)),
    "trio": _python("echo_trio", needs=("trio",)),
    "asyncio protocol": _python("echo_asyncio", "protocol", "asyncio"),
    "asyncio streams": _python("echo_asyncio", "streams", "asyncio"),
}

_ONE_PROCESSOR = "Go runs with GOMAXPROCS=1: a server has one processor here"
_PROTOCOLS = "asyncio's protocol is a BufferedProtocol, its documentation's choice for speed; uvloop's is the plain one"
_OWN_BUFFERS = "uvloop, and asyncio's streams, receive up to 256 KB at once, which cannot be chosen; the others 64 KiB"
_SHORT_OF_MEMORY = "the messages under way come near the kernel's limit for all of TCP: raise net.ipv4.tcp_mem"

#: of the kernel's memory for TCP: what the messages under way may take before it is told
_TCP_SHARE = 0.5


def echo(size: Size) -> list[Case]:
    """One case for each size of the message and number of connections."""
    return [_case(connections, message, size) for message in size.echo_bytes for connections in size.echo_connections]


def _case(connections: int, message: int, size: Size) -> Case:
    table = Table(
        "echo",
        f"echo, {bytes_text(message)}, {connections} connection{'s' * (connections != 1)}",
        QUANTITIES,
        base="C epoll",
        subject="echo",
        place={"connections": connections, "bytes": message},
    )
    measures: dict[str, Measure] = {}
    for peer, server in SERVERS.items():
        remedy = peers.lacking(server.needs)
        if remedy:
            table.missing[peer] = remedy
        else:
            measures[peer] = partial(_measure, server, connections, message, size)
    if "Go" in measures:
        table.note(_ONE_PROCESSOR)
    table.note(_PROTOCOLS)
    if message > BUFFER_BYTES:
        table.note(_OWN_BUFFERS)
    if connections * message > _TCP_SHARE * _tcp_bytes():
        table.note(_SHORT_OF_MEMORY)
    return Case(table, measures)


def _tcp_bytes() -> float:
    """From where on the kernel saves memory in all of TCP; see ``tcp_mem`` in tcp(7)."""
    try:
        return int(Path("/proc/sys/net/ipv4/tcp_mem").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return math.inf


def _measure(server: Server, connections: int, message: int, size: Size) -> Sample:
    return measure(server.command(), connections, message, size)


def measure(command: Sequence[str], connections: int, message: int, size: Size) -> dict[str, float]:
    """Starts the server *command* and measures it once, with messages of so many bytes: a value for each quantity.

    Raises ``BenchError`` when the server or the load fails, or no round trip was made.
    """
    with (
        probing(command) as server,
        load("echo", server.port(), connections, message, size.warmup_seconds, size.seconds) as client,
    ):
        used, words = window(server, client)
        peak = server.group_peak_bytes()
    told = dict(zip(words[::2], words[1::2], strict=True))
    trips = int(told["ops"])
    if not trips:
        raise BenchError(f"{said(command)}: no round trip in {size.seconds} s")
    return {
        "CPU": used / trips * 1e6,
        "throughput": trips / size.seconds,
        **{name: float(told[word]) for name, word in _PERCENTILES.items()},
        "peak memory": peak / 1e6,
    }


def microseconds(command: Sequence[str], connections: int, size: Size) -> float:
    """The CPU time of one round trip of ``MESSAGE`` bytes with the server *command*, µs. Raises ``BenchError``."""
    return measure(command, connections, MESSAGE, size)["CPU"]


__all__ = ["MESSAGE", "QUANTITIES", "SERVERS", "Server", "echo", "measure", "microseconds"]
