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

from netnet.bench.families.echo import MESSAGE
from netnet.bench.families.proxies import MICROSOCKS, OURS, Proxy, peers
from netnet.bench.families.proxy import echo_target
from netnet.bench.figures import Figures, Progress, Size
from netnet.bench.processes import window

#: round trips a second of all the busy ones together: a fifth to a half of what one core can do
BUSY_A_SECOND = 5000

_PERCENTILES = ("p50", "p99")


def latency(size: Size, progress: Progress) -> list[Figures]:
    """The median and the 99th percentile, of a proxy that is quiet otherwise, and of one that is busy."""
    title = f"delay added to a {MESSAGE}-byte round trip"
    others = f"{title}, {size.busy_connections} others busy"
    return [*_tables(title, 0, size, progress), *_tables(others, size.busy_connections, size, progress)]


def _tables(title: str, busy: int, size: Size, progress: Progress) -> list[Figures]:
    tables = [Figures(f"{title}, {one}", "µs of wall time", base=MICROSOCKS) for one in _PERCENTILES]
    found = peers(tables, MICROSOCKS, OURS)
    told: dict[str, list[str]] = {name: [] for name in found}
    with echo_target() as target_port:
        for name, start in list(found.items()) * size.rounds:
            progress(f"{title}: {name}")
            with start() as proxy, _others(proxy, target_port, busy, told[name]):
                for figures, added in zip(tables, _added(proxy, target_port, size, told[name]), strict=True):
                    figures.add(name, added)
    for name, words in told.items():
        tables[0].note(f"{name}: {'; '.join(words)}")
    return tables


def _added(proxy: Proxy, target_port: int, size: Size, told: list[str]) -> tuple[float, float]:
    """What the proxy adds to the median and to the 99th percentile, µs; *told* gets what that was made from."""
    with proxy.load("delay", target_port, MESSAGE, size.warmup_seconds, size.seconds) as client:
        used, words = window(proxy.process, client)
    direct, proxied = (float(words[3]), float(words[4])), (float(words[6]), float(words[7]))
    told.append(
        f"direct {direct[0]:.0f}/{direct[1]:.0f} µs, proxied {proxied[0]:.0f}/{proxied[1]:.0f} µs,"
        f" {100 * used / size.seconds:.0f} % CPU"
    )
    return proxied[0] - direct[0], proxied[1] - direct[1]


@contextlib.contextmanager
def _others(proxy: Proxy, target_port: int, count: int, told: list[str]) -> Iterator[None]:
    """Keeps so many others busy; *told* gets how many messages found their connection still waiting for an answer."""
    if not count:
        yield
        return
    with proxy.load("busy", target_port, count, BUSY_A_SECOND) as others:
        others.line()
        yield
        others.tell("end")
        words = others.line()
        if int(words[3]):
            told.append(f"of the others {words[3]} messages of {int(words[1]) + int(words[3])} came late")
