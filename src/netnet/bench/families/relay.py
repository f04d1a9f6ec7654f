"""Relay: CPU time for data that go through, one way or both, on few or many connections, in small or large messages;
against splice(2) and a copy loop in C, which relay to one target, and microsocks.

``netnet`` is ``netnet.relay`` behind a listener, as a program would have it, ``netnet proxy`` the whole proxy, asked in
SOCKS5. The sender writes one message after the other; what the kernel makes of them is part of what is measured.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from netnet.bench import peers
from netnet.bench.families import proxies
from netnet.bench.families.proxies import Proxy
from netnet.bench.figures import Case, Measure, Quantity, Sample, Size, Table
from netnet.bench.native import program
from netnet.bench.processes import load, python_server, serving, window

_QUANTITIES = (Quantity("CPU", "s a GB"), Quantity("throughput", "MB/s", higher=True), Quantity("peak memory", "MB"))


@contextlib.contextmanager
def _relaying(command: Sequence[str]) -> Iterator[Proxy]:
    with serving(command) as process:
        yield Proxy(process, process.port(), 0)


def _native(how: str, target_port: int) -> contextlib.AbstractContextManager[Proxy]:
    return _relaying([str(program("relay")), how, str(target_port)])


def _ours(target_port: int) -> contextlib.AbstractContextManager[Proxy]:
    return _relaying(python_server("relay_netnet", target_port))


ToTarget = Callable[[int], contextlib.AbstractContextManager[Proxy]]

#: peer → the software it needs, and what starts it on the way to a target
_PEERS: dict[str, tuple[tuple[str, ...], ToTarget]] = {
    "C splice": ((), partial(_native, "splice")),
    "C copy": ((), partial(_native, "copy")),
    "netnet": ((), _ours),
    "netnet proxy": ((), lambda _: proxies.ours()),
    "microsocks": (("microsocks",), lambda _: proxies.microsocks()),
}


def relay(size: Size) -> list[Case]:
    """A case for each way, number of streams and size of message."""
    return [
        _case(both, streams, message, size)
        for both in (False, True)
        for streams in size.relay_streams
        for message in size.relay_bytes
    ]


def _case(both: bool, streams: int, message: int, size: Size) -> Case:
    ways = "both ways" if both else "one way"
    plural = "one stream" if streams == 1 else f"{streams} streams"
    table = Table(
        "relay",
        f"relay, {ways}, {plural}, messages of {bytes_text(message)}",
        _QUANTITIES,
        base="C splice",
        subject=f"relay, {ways}",
        place={"bytes of a message": message, "streams": streams},
    )
    measures: dict[str, Measure] = {}
    for name, (needs, start) in _PEERS.items():
        remedy = peers.lacking(needs)
        if remedy:
            table.missing[name] = remedy
        else:
            measures[name] = partial(_measure, table, name, start, both, streams, message, size)
    if both:
        table.note("a GB: of both ways together")
    return Case(table, measures)


def _measure(table: Table, peer: str, start: ToTarget, both: bool, streams: int, message: int, size: Size) -> Sample:
    with load("source", message) as source:
        target_port = source.port()
        with (
            start(target_port) as proxy,
            proxy.load(
                "pull", target_port, streams, message if both else 0, size.warmup_seconds, size.seconds
            ) as client,
        ):
            used, words = window(proxy.process, client)
            received, sent = int(words[1]), int(words[3])
            if both and not (received and sent):
                table.note(f"{peer}: in some runs all went one way, the other waited")
            moved = received + sent
            return {
                "CPU": used / max(1, moved) * 1e9,
                "throughput": moved / size.seconds / 1e6,
                "peak memory": proxy.process.group_peak_bytes() / 1e6,
            }


def bytes_text(count: int) -> str:
    """A number of bytes as one says it."""
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= factor and count % factor == 0:
            return f"{count // factor} {unit}"
    return f"{count} bytes"


__all__ = ["bytes_text", "relay"]
