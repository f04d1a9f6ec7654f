"""Seed: downloads direct and through proxies, as a published comparison made them of a proxy inside the kernel, a plain one
in user space and ``ssh -D``; on loopback, and over a link with the delay of the path that it was measured on.

On loopback what is measured is what the proxies cost; over the link, what they make of a long path. Each measurement starts
its own target and proxy (and link), which is asked for one byte first. The hash of what came is checked in each download.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from netnet.bench.families import proxies
from netnet.bench.families.proxies import HERE, Place, Proxy
from netnet.bench.figures import Case, Measure, Quantity, Sample, Size, Table
from netnet.bench.link import Link, link
from netnet.bench.native import program
from netnet.bench.processes import GRACE_SECONDS, BenchError, probing, processors, serving
from netnet.bench.results import Flame
from netnet.errors import UsageError

if TYPE_CHECKING:
    from netnet.flame.stacks import Stacks

DIRECT: Final = "direct"

#: round-trip time of the far link: what ping told of the published path
DELAY_MS: Final = 97.0

#: of each peer over the link, where a download is as long as that: it takes seconds
_LONG_ROUNDS: Final = 3
_LONG_BYTES: Final = 50_000_000

#: processor time goes in steps of 10 ms: it is told of so many bytes and more
_CPU_BYTES: Final = 50_000_000

_PEERS: Final = (
    proxies.OURS,
    proxies.MICROSOCKS,
    proxies.DANTE,
    proxies.SSH,
    proxies.PPROXY,
    proxies.PPROXY_UVLOOP,
    proxies.FORK,
)

_QUANTITIES: Final = (
    Quantity("throughput", "MB/s", higher=True),
    Quantity("CPU", "s a GB"),
    Quantity("time", "s"),
    Quantity("first byte", "ms"),
)

#: bytes of the download → MB/s as published, by the peer that stands here for what was measured there
_PUBLISHED: Final[dict[int, dict[str, float]]] = {
    5_000_000: {DIRECT: 5.08, proxies.FORK: 4.88, proxies.OURS: 4.60, proxies.SSH: 2.72},
    100_000_000: {DIRECT: 14.1, proxies.FORK: 10.6, proxies.OURS: 8.64, proxies.SSH: 3.12},
}

_TOLD_OF_PUBLISHED: Final = (
    "published: the proxies ran in a virtual machine, the target was on the internet, 97 ms away, and each figure is of one "
    "download; for netnet stands what the published proxy inside the kernel reached, for the fork proxy its user-space one"
)


class _Path(NamedTuple):
    """A way to a target: where the proxy and the client run, how the target is started, and its address."""

    near: Place
    far: Callable[[Sequence[str]], list[str]]
    address: str


_LOOPBACK: Final = _Path(HERE, list, "127.0.0.1")


@contextlib.contextmanager
def _loopback() -> Iterator[_Path]:
    yield _LOOPBACK


@contextlib.contextmanager
def _far_link(mbit_s: float) -> Iterator[_Path]:
    with link(DELAY_MS, mbit_s, queue_kb(mbit_s)) as found:
        yield _over(found)


def _over(found: Link) -> _Path:
    return _Path(Place(found.near, found.near_address, found.far_address), found.far, found.far_address)


def queue_kb(mbit_s: float) -> float:
    """What the link's queue takes: as much as is on its way in one round trip, as routers are commonly built."""
    return mbit_s / 8 * DELAY_MS


#: makes a way; what it is made of is gone behind the block
_Way = Callable[[], contextlib.AbstractContextManager[_Path]]


# -- the cases


def seed(size: Size) -> list[Case]:
    """A case for each length of a download, on loopback and over the link."""
    return [
        *(_case_on_loopback(count, size) for count in size.download_bytes),
        *(_case_over_link(count, size) for count in size.download_bytes),
    ]


def _case_on_loopback(count: int, size: Size) -> Case:
    table = _table(count, "on loopback")
    if table.published:
        table.note("loopback has no delay and no end of bandwidth: the published ratios do not compare with these")
    return Case(table, _measures(table, _loopback, count, size, size.seconds))


def _case_over_link(count: int, size: Size) -> Case:
    table = _table(count, f"over a link of {DELAY_MS:g} ms and {size.link_mbit_s:g} Mbit/s")
    table.note(
        f"the link: {DELAY_MS:g} ms round trip, a queue of {queue_kb(size.link_mbit_s):.0f} kB each way, no other loss"
    )
    if table.published:
        table.note(
            "a path like the published one, but for its bandwidth, losses and other traffic: the ratios compare roughly"
        )
    if count < _CPU_BYTES:
        table.note(f"CPU goes in steps of 10 ms, and is told of downloads from {_CPU_BYTES / 1e6:g} MB on")
    measures = _measures(table, partial(_far_link, size.link_mbit_s), count, size, 0)
    reason = no_link()
    if reason:
        table.missing = {**dict.fromkeys(measures, reason), **table.missing}
        measures = {}
    return Case(table, measures, rounds=min(_LONG_ROUNDS, size.rounds) if count >= _LONG_BYTES else None)


def _table(count: int, where: str) -> Table:
    published = _PUBLISHED.get(count, {})
    table = Table(
        "seed",
        f"download of {count / 1e6:g} MB {where}",
        _QUANTITIES,
        base=DIRECT,
        subject=f"download {where}",
        place={"megabytes": count / 1e6},
        published={peer: rate / published[DIRECT] for peer, rate in published.items()},
    )
    if published:
        table.note(_TOLD_OF_PUBLISHED)
    return table


def _measures(table: Table, way: _Way, count: int, size: Size, seconds: float) -> dict[str, Measure]:
    measure = partial(_measure, table, way, count, size.seed, seconds)
    return {DIRECT: partial(measure, DIRECT), **proxies.measures(table, _PEERS, measure)}


def no_link() -> str | None:
    """Why no link can be made here, as far as one can see without trying; ``None`` where it may be."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "needs root and /dev/net/tun: this user cannot open it"
    if shutil.which("nsenter") is None:
        return "apt install util-linux"
    return None


# -- measuring


class _Download(NamedTuple):
    """One that was whole: seconds from connect to its end, and to its first byte."""

    seconds: float
    first_byte_seconds: float


def _measure(table: Table, way: _Way, count: int, number: int, seconds: float, name: str) -> Sample:
    """Downloads of so many bytes until so many seconds have passed, one at least."""
    with way() as path, serving(path.far(_files("serve", number)), near_load=True) as target:
        port = target.port()
        congestion = target.line()[1]
        with _started(name, path.near) as proxy:
            download = partial(_download, path, proxy, port, number)
            download(1)
            before = 0.0 if proxy is None else proxy.process.total_cpu_seconds()
            done = [download(count)]
            while sum(one.seconds for one in done) < seconds:
                done.append(download(count))
            used = 0.0 if proxy is None else proxy.process.total_cpu_seconds() - before
    table.note(f"hash of what came, in each download: {expected_hash(number, count)}")
    table.note(f"the target's congestion control: {congestion}")
    taken, moved = sum(one.seconds for one in done), count * len(done)
    sample = {
        "throughput": moved / taken / 1e6,
        "time": taken / len(done),
        "first byte": sum(one.first_byte_seconds for one in done) / len(done) * 1e3,
    }
    return sample if proxy is None or moved < _CPU_BYTES else {**sample, "CPU": used / moved * 1e9}


def _started(name: str, place: Place) -> contextlib.AbstractContextManager[Proxy | None]:
    return contextlib.nullcontext() if name == DIRECT else proxies.start(name, place)


def _download(path: _Path, proxy: Proxy | None, port: int, number: int, count: int) -> _Download:
    """Downloads once. Raises ``BenchError`` when not all came, or not the right bytes."""
    command = _fetch(path.address, proxy, port, count)
    processor = processors()[1]
    with probing(path.near.wrap(command), on=None if processor is None else {processor}) as client:
        try:
            words = client.line()
        except BenchError:
            if proxy is not None:
                proxy.process.still_runs(GRACE_SECONDS)  # if it is the proxy that failed, that is what to tell
            raise
    told = dict(zip(words[::2], words[1::2], strict=True))
    expected = expected_hash(number, count)
    if (int(told["bytes"]), told["hash"]) != (count, expected):
        raise BenchError(
            f"a download of {count} bytes brought {told['bytes']} with hash {told['hash']}, not {expected}"
        )
    return _Download(float(told["seconds"]), float(told["connect"]))


def _fetch(address: str, proxy: Proxy | None, port: int, count: int) -> list[str]:
    version, proxy_port = (0, 0) if proxy is None else (proxy.version, proxy.port)
    return _files("fetch", version, "127.0.0.1", proxy_port, address, port, count)


def _files(*arguments: object) -> list[str]:
    return [str(program("files")), *map(str, arguments)]


@cache
def expected_hash(number: int, count: int) -> str:
    """The hash of so many bytes made from seed *number*, as hexadecimal digits."""
    with probing(_files("hash", number, count)) as process:
        return process.line()[1]


# -- flame graphs of the proxy


#: how long the proxy is sampled, for each second of a measurement
_FLAME_FACTOR: Final = 10

#: handshakes while it is sampled
_AT_ONCE: Final = 50


@contextlib.contextmanager
def _downloading(proxy: Proxy, size: Size) -> Iterator[str]:
    """Downloads without end, one after the other."""
    count = max(size.download_bytes)
    with serving(_files("serve", size.seed), near_load=True) as target:
        again = ["sh", "-c", 'while "$@" > /dev/null; do :; done', "sh"]
        fetch = _fetch("127.0.0.1", proxy, target.port(), count)
        with serving([*again, *fetch], near_load=True) as client:
            yield f"downloads of {count / 1e6:g} MB"
            client.still_runs()


@contextlib.contextmanager
def _shaking_hands(proxy: Proxy, size: Size) -> Iterator[str]:
    """Handshakes without end."""
    with (
        proxies.echo_target() as target_port,
        proxy.load("socks", target_port, _AT_ONCE, 0, 10 * _FLAME_FACTOR * size.seconds + 60) as client,
    ):
        client.line()
        yield f"SOCKS5 handshakes, {_AT_ONCE} at a time"
        client.still_runs()


_UNDER: Final = {"downloads": _downloading, "handshakes": _shaking_hands}


def flames(size: Size, folder: Path) -> list[Flame]:
    """Runs the proxy under load and writes flame graphs of it to *folder*: of all its processes, and by task.

    Raises ``netnet.Error`` where it cannot be sampled.
    """
    from netnet.flame import attach, outside

    seconds = _FLAME_FACTOR * size.seconds
    samplers = {
        "": ("all processes, from outside", partial(outside.sample, seconds=seconds)),
        "-by-task": ("by task", partial(attach.sample, seconds=seconds)),
    }
    made = []
    for load, under in _UNDER.items():
        for suffix, (how, sample) in samplers.items():
            with proxies.ours() as proxy, under(proxy, size) as what:
                stacks = sample(proxy.process.pid)
            made.append(
                _drawn(stacks, f"the proxy, {what}", f"{how}, {seconds:g} s", folder / f"flame-{load}{suffix}.svg")
            )
    return made


def _drawn(stacks: Stacks, title: str, subtitle: str, file: Path) -> Flame:
    from netnet.flame import svg

    try:
        file.write_text(svg.render(stacks, title=title, subtitle=subtitle), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file}: cannot be written: {error.strerror}; choose another --out") from None
    return Flame(f"{title}: {subtitle}", file.name)


__all__ = ["DELAY_MS", "DIRECT", "expected_hash", "flames", "no_link", "queue_kb", "seed"]
