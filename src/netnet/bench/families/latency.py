"""Latency: what a proxy adds to a small round trip through a connection that stands, in wall time.

One connection goes to the target directly and one through the proxy, and they take turns, message by message: so both
see the same machine. The difference of their percentiles is what the proxy adds. The proxy has a processor of its own,
target and load share the other.

Busy: meanwhile others go through the same proxy, each message in its turn, so many a second in all, the same for every
proxy. That is open load: a proxy that is slower does not get less to do. Were each connection to send as soon as its
answer has come, any proxy would be saturated, and the delay would be that of the queue.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

from netnet.bench.families import proxies
from netnet.bench.families.proxies import Proxy
from netnet.bench.figures import Case, Quantity, Sample, Size, Table
from netnet.bench.processes import window

#: of a message
MESSAGE_BYTES = 64

#: round trips a second of all the busy ones together: a fifth to a half of what one core can do
BUSY_A_SECOND = 5000

#: a connection that stands is the same in SOCKS4, and with the rules behind it or without
_PEERS = (
    proxies.MICROSOCKS,
    proxies.OURS,
    proxies.DANTE,
    proxies.SSH,
    proxies.PPROXY,
    proxies.PPROXY_UVLOOP,
    proxies.FORK,
)

_QUANTITIES = (
    Quantity("p50", "µs"),
    Quantity("p99", "µs"),
    Quantity("p50 in all", "µs"),
    Quantity("p99 in all", "µs"),
    Quantity("CPU", "% of a core"),
)
_LATE = Quantity("late", "% of the others")


def latency(size: Size) -> list[Case]:
    """The median and the 99th percentile, of a proxy that is quiet otherwise, and of one that is busy."""
    return [_case(0, size), _case(size.busy_connections, size)]


def _case(busy: int, size: Size) -> Case:
    title = f"delay added to a {MESSAGE_BYTES}-byte round trip"
    table = Table(
        "latency",
        f"{title}, {busy} others busy" if busy else title,
        (*_QUANTITIES, _LATE) if busy else _QUANTITIES,
        base=proxies.MICROSOCKS,
        subject=title,
        place={"others busy": busy},
        judged=("p99",),
    )
    if busy:
        table.note(f"the others make {BUSY_A_SECOND} round trips a second together, whatever the proxy needs for them")
        table.note("late: messages of the others whose turn came while their connection still waited for an answer")
    return Case(table, proxies.measures(table, _PEERS, partial(_measure, busy, size)))


def _measure(busy: int, size: Size, name: str) -> Sample:
    late: dict[str, float] = {}
    with (
        proxies.echo_target() as target_port,
        proxies.start(name) as proxy,
        others(proxy, target_port, busy, late),
        proxy.load("delay", target_port, MESSAGE_BYTES, size.warmup_seconds, size.seconds) as client,
    ):
        used, words = window(proxy.process, client)
    direct, proxied = (float(words[3]), float(words[4])), (float(words[6]), float(words[7]))
    return {
        "p50": proxied[0] - direct[0],
        "p99": proxied[1] - direct[1],
        "p50 in all": proxied[0],
        "p99 in all": proxied[1],
        "CPU": 100 * used / size.seconds,
        **late,
    }


@contextlib.contextmanager
def others(proxy: Proxy, target_port: int, count: int, late: dict[str, float]) -> Iterator[None]:
    """Keeps so many others busy; *late* gets, at the end, how many percent of their messages were late."""
    if not count:
        yield
        return
    with proxy.load("busy", target_port, count, BUSY_A_SECOND) as load:
        load.line()
        yield
        load.tell("end")
        words = load.line()
        done, missed = int(words[1]), int(words[3])
        late["late"] = 100 * missed / max(1, done + missed)


__all__ = ["BUSY_A_SECOND", "MESSAGE_BYTES", "latency", "others"]
