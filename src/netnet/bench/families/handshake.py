"""Handshakes through a proxy: connect, request, one byte echoed. All alone, some at a time and many at a time; and churn:
while connections stand through the proxy, the oldest is closed and a new one opened in its place, again and again.

What counts is the CPU time of all of the proxy's processes, those included that have ended meanwhile. The delay is from
connect(2) to the echoed byte. Each connection comes from and goes to another address of loopback than the one before.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from netnet.bench.families import proxies
from netnet.bench.figures import Case, Quantity, Sample, Size, Table
from netnet.bench.processes import BenchError, window

_QUANTITIES = (
    Quantity("CPU", "µs each"),
    Quantity("throughput", "a second", higher=True),
    Quantity("p50", "µs"),
    Quantity("p99", "µs"),
)


class _Kind(NamedTuple):
    """A family: the mode of the load generator, the title, and what the numbers along its chart are."""

    family: str
    mode: str
    title: str
    axis: str


_HANDSHAKE = _Kind("handshake", "socks", "SOCKS5 handshakes, {} at a time", "at a time")
_CHURN = _Kind("churn", "churn", "SOCKS5 churn, {} connection{} standing", "standing")


def handshake(size: Size) -> list[Case]:
    """Connect, request, one byte echoed, close: a case for each number at a time."""
    return [_case(_HANDSHAKE, number, size) for number in size.at_once]


def churn(size: Size) -> list[Case]:
    """Connections are replaced while others stand: a case for each number that stand."""
    return [_case(_CHURN, number, size) for number in size.at_once]


def _case(kind: _Kind, number: int, size: Size) -> Case:
    table = Table(
        kind.family,
        kind.title.format(number, "" if number == 1 else "s"),
        _QUANTITIES,
        base=proxies.MICROSOCKS,
        subject=kind.family,
        place={kind.axis: number},
    )
    return Case(table, proxies.measures(table, proxies.PEERS, partial(_measure, kind.mode, number, size, table)))


def _measure(mode: str, number: int, size: Size, table: Table, name: str) -> Sample:
    with (
        proxies.echo_target() as target_port,
        proxies.start(name) as proxy,
        proxy.load(mode, target_port, number, size.warmup_seconds, size.seconds) as client,
    ):
        used, words = window(proxy.process, client)
    told = dict(zip(words[::2], words[1::2], strict=True))
    done, failed = int(told["ops"]), int(told["failed"])
    if not done:
        raise BenchError(f"{name}: no handshake came through in {size.seconds} s, {failed} failed")
    if failed:
        table.note(f"{name}: {failed} of {done + failed} handshakes failed")
    return {
        "CPU": used / done * 1e6,
        "throughput": done / size.seconds,
        "p50": float(told["p50us"]),
        "p99": float(told["p99us"]),
    }


__all__ = ["churn", "handshake"]
