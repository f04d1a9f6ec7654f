"""Idle: the memory that one more idle connection takes of a proxy that has some already; and how many of many connections
live when some of them have traffic.

The memory is that of all of the proxy's processes, shared pages counted once. What the kernel keeps for the sockets is the
same for all and not counted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from functools import partial

from netnet.bench.families import proxies
from netnet.bench.families.proxies import Proxy
from netnet.bench.figures import Case, Quantity, Sample, Size, Table
from netnet.bench.processes import GRACE_SECONDS, BenchError, Process

#: connections that a proxy has before its memory is looked at: as many as the load has addresses, since each address has
#: its place among the limits. They stay, so that those that are counted do not get what they have left
WARM_CONNECTIONS = 200

#: a proxy through which they do not all stand by then is not waited for: for some, opening one takes longer with each
OPEN_SECONDS = 20.0

#: of each peer: the memory is nearly the same each time
_ROUNDS = 3

_PEERS = (proxies.MICROSOCKS, proxies.OURS, proxies.DANTE, proxies.SSH, proxies.PPROXY, proxies.PPROXY_UVLOOP)

_HOLD_QUANTITIES = (
    Quantity("lost", "connections"),
    Quantity("CPU", "µs a round trip"),
    Quantity("p50", "µs"),
    Quantity("p99", "µs"),
)


def idle(size: Size) -> list[Case]:
    """A case for each number of idle connections, and one of many with traffic on some."""
    return [*(_memory(count, size) for count in size.idle_connections), _hold(size)]


def _memory(count: int, size: Size) -> Case:
    table = Table(
        "idle",
        f"{count} idle proxied connections",
        (Quantity("memory", "kB each"),),
        base=proxies.MICROSOCKS,
        subject="idle",
        place={"connections": count},
    )
    table.note(f"besides {WARM_CONNECTIONS} that were there before")
    return Case(
        table, proxies.measures(table, _PEERS, partial(_measure_memory, count)), rounds=min(_ROUNDS, size.rounds)
    )


def _measure_memory(count: int, name: str) -> Sample:
    with (
        proxies.echo_target() as target_port,
        proxies.start(name) as proxy,
        _holding(proxy, target_port, WARM_CONNECTIONS),
    ):
        before = proxy.process.group_resident_bytes()
        with _holding(proxy, target_port, count):
            added = proxy.process.group_resident_bytes() - before
    return {"memory": added / 1000 / count}


@contextlib.contextmanager
def _holding(proxy: Proxy, target_port: int, connections: int, busy: int = 1, seconds: float = 0) -> Iterator[Process]:
    """So many connections that stand and do nothing yet. Raises ``BenchError`` when the proxy does not take them."""
    with proxy.load("hold", target_port, connections, busy, seconds) as client:
        late = threading.Timer(OPEN_SECONDS, os.kill, (client.pid, signal.SIGKILL))
        late.start()
        try:
            client.line()
        except BenchError as failure:
            proxy.process.still_runs(GRACE_SECONDS)  # if it is the proxy that failed, that is what to tell
            reason = f"{OPEN_SECONDS:g} s are over" if late.finished.is_set() else str(failure)
            raise BenchError(f"not all of {connections} connections stand through it: {reason}") from None
        finally:
            late.cancel()
        yield client


# -- many, with traffic on some


def _hold(size: Size) -> Case:
    count, busy = size.hold_connections, size.busy_connections
    table = Table(
        "idle",
        f"{count} proxied connections at once, traffic on {busy}",
        _HOLD_QUANTITIES,
        base=proxies.OURS,
        subject="many proxied connections at once",
    )
    return Case(table, proxies.measures(table, _PEERS, partial(_measure_hold, size)), rounds=1)


def _measure_hold(size: Size, name: str) -> Sample:
    """Opens them, then traffic on some, then a byte through each."""
    count = size.hold_connections
    with (
        proxies.echo_target() as target_port,
        proxies.start(name) as proxy,
        _holding(proxy, target_port, count, size.busy_connections, size.seconds) as client,
    ):
        before = proxy.process.total_cpu_seconds()
        client.tell("go")
        words = _until(client, "ops")
        used = proxy.process.total_cpu_seconds() - before
        alive = int(_until(client, "alive")[1])
    told = dict(zip(words[::2], words[1::2], strict=True))
    return {
        "lost": count - alive,
        "CPU": used / max(1, int(told["ops"])) * 1e6,
        "p50": float(told["p50us"]),
        "p99": float(told["p99us"]),
    }


def _until(process: Process, word: str) -> list[str]:
    while (words := process.line())[0] != word:
        pass
    return words


__all__ = ["WARM_CONNECTIONS", "idle"]
