"""Runtime: what tasks, turns, timers, channels and time-outs cost within one program, in CPU time, and the memory of a task
that sleeps; against gevent, asyncio and trio.

A library's works are in ``probes``. Time-outs are never up, which is the usual case; what one around a receive costs is
set beside what the receive is a part of, a round trip of an echo server, measured in the same turn.
"""

from __future__ import annotations

from functools import partial

from netnet.bench.families import echo
from netnet.bench.families.inside import THREADS_DIVISOR, Work, case, cpu, works
from netnet.bench.figures import Case, Quantity, Sample, Size, Table
from netnet.bench.processes import probe, probing, python_server

_LIBRARIES = ("gevent", "netnet", "asyncio", "trio")
_BY_ASYNCIO = ("asyncio", "netnet", "gevent", "trio")

_BARE = "netnet, no time-out"

#: capacity of a channel → the libraries that have one; the first is what the others are compared with
_CHANNELS = {
    0: ("gevent", "netnet", "trio"),
    1: _BY_ASYNCIO,
    100: _BY_ASYNCIO,
}

_NURSERIES = "trio: a nursery for each task, or hundred of tasks, since its tasks are not joined one by one"
_DEADLINES = (
    "netnet: after(); asyncio: call_later(); gevent: spawn_later(); trio has deadlines of scopes: move_on_after()"
)


def runtime(size: Size) -> list[Case]:
    """Tasks, timers, channels and time-outs."""
    return [
        _spawning("single", "empty tasks, spawned and joined one at a time", size),
        _spawning("batches", "empty tasks, spawned and joined by the hundred", size),
        _turns(size),
        _sleepers(size),
        _timers(size),
        _sleeps(size),
        *(_channel(capacity, libraries, size) for capacity, libraries in _CHANNELS.items()),
        _timeout_around_nothing(size),
        _timeout_around_receive(size),
        _share_of_round_trip(size),
    ]


def _table(title: str, base: str, unit: str = "µs each") -> Table:
    return Table("runtime", title, cpu(unit), base=base)


# -- tasks


def _spawning(work: str, title: str, size: Size) -> Case:
    table = _table(title, "gevent")
    table.note(_NURSERIES)
    threads = Work("threads", work, size.tasks // THREADS_DIVISOR)
    return case(table, {**works(_LIBRARIES, work, size.tasks), "threads": threads})


def _turns(size: Size) -> Case:
    table = _table("two tasks that take turns", "gevent", "µs a pair of turns")
    return case(table, works(_LIBRARIES, "turns", size.turns))


def _sleepers(size: Size) -> Case:
    """The memory of each, and whether all that fell asleep wake when they are cancelled."""
    table = Table(
        "runtime",
        f"{size.sleepers} sleeping tasks",
        (Quantity("memory", "kB each"), Quantity("lost", "tasks")),
        base="gevent",
        judged=("lost",),
    )
    table.note("lost: those that do not wake when they are cancelled")
    return case(table, works(_LIBRARIES, "sleepers", size.sleepers), _asleep)


def _asleep(work: Work) -> Sample:
    """The memory of one sleeping task, kB, and how many of them did not wake. Raises ``BenchError``."""
    with probing(probe(work.library, work.name, work.count)) as process:
        process.line()
        before = process.group_resident_bytes()
        process.tell("go")
        process.line()
        asleep = process.group_resident_bytes()
        process.tell("go")
        woken = int(process.line()[1])
    return {"memory": (asleep - before) / 1000 / work.count, "lost": work.count - woken}


# -- timers


def _timers(size: Size) -> Case:
    table = _table("timers, set and cancelled", "asyncio")
    table.note(_DEADLINES)
    return case(table, works(_BY_ASYNCIO, "set_and_cancel", size.tasks, 0, size.seed))


def _sleeps(size: Size) -> Case:
    table = _table("sleeps of up to 10 ms, a thousand at once", "asyncio")
    table.note("each is a task of its own, which is spawned, sleeps once and is joined")
    return case(table, works(_BY_ASYNCIO, "sleeps", size.tasks, size.seed))


# -- channels


def _channel(capacity: int, libraries: tuple[str, ...], size: Size) -> Case:
    table = _table(f"items handed over, channel of capacity {capacity}", libraries[0])
    if "asyncio" not in libraries:
        table.note("asyncio has no queue that hands over without holding")
    return case(table, works(libraries, "channel", size.items, capacity))


# -- time-outs


def _timeout_around_nothing(size: Size) -> Case:
    table = _table("time-out around nothing", "asyncio")
    return case(table, works(_BY_ASYNCIO, "timeout", size.receives))


def _timeout_around_receive(size: Size) -> Case:
    table = _table("receive of a byte that is there, in a time-out", _BARE)
    table.note("the byte was sent before, in the same process")
    bare = {_BARE: Work("netnet", "receive", size.receives)}
    return case(table, {**bare, **works(_BY_ASYNCIO, "receive_in_timeout", size.receives)})


def _share_of_round_trip(size: Size) -> Case:
    connections = size.busy_connections
    table = Table(
        "runtime",
        f"time-out around a receive, of an echo round trip with {connections} connections",
        cpu("%"),
        base="netnet",
    )
    table.note("what a time-out adds to a receive of a byte that is there, of the CPU time of netnet's echo server")
    return Case(table, {"netnet": partial(_share, connections, size)})


def _share(connections: int, size: Size) -> Sample:
    """Percent of a round trip that a time-out takes. Raises ``BenchError``."""
    bare = Work("netnet", "receive", size.receives).microseconds()
    bounded = Work("netnet", "receive_in_timeout", size.receives).microseconds()
    trip = echo.microseconds(python_server("echo_netnet"), connections, size)
    return {"CPU": (bounded - bare) / trip * 100 if trip else 0.0}


__all__ = ["runtime"]
