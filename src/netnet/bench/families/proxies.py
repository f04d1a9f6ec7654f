"""The proxies that are compared, and how each is started: ours, microsocks (C, a thread a connection, copies) and pproxy
(Python, asyncio).

Ours runs as a service does: a supervisor with workers, configured by ``servers/proxy.toml`` with rules, users, limits,
metrics, status and a line in the log for each connection. microsocks writes such a line, too; pproxy does not. What they
write to standard error is dropped, for all of them. Here nothing is measured.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from netnet.bench.figures import Figures, has
from netnet.bench.processes import BenchError, Process, free_port, listening, load, serving

CONFIGURATION: Final = Path(__file__).parents[1] / "servers" / "proxy.toml"

#: the address in that file: a port of the kernel's choice
ANY_PORT: Final = "127.0.0.1:0"

#: what can be compared, by what a table calls it
OURS: Final = "netnet"
SOCKS4: Final = "netnet, SOCKS4"
PLAIN: Final = "netnet, plain"
MICROSOCKS: Final = "microsocks"
PPROXY: Final = "pproxy"
PPROXY_UVLOOP: Final = "pproxy, uvloop"

#: pproxy takes uvloop where it is installed, and then ends, since uvloop makes no loop where there is none: so one runs
#: without it (a module that is ``None`` counts as not installed), and one with a loop that is there
_ON_ASYNCIO: Final = "import sys; sys.modules['uvloop'] = None; from pproxy.server import main; main()"
_ON_UVLOOP: Final = (
    "import asyncio, uvloop; uvloop.install(); asyncio.set_event_loop(uvloop.new_event_loop()); "
    "uvloop.install = lambda: None; from pproxy.server import main; main()"
)


class Proxy(NamedTuple):
    """One that runs: its process, the port, and the version of SOCKS that it is asked in; 0: it is no proxy, and leads to
    its one target without being asked."""

    process: Process
    port: int
    version: int

    def load(self, mode: str, target_port: int, *more: object, on: Collection[int] | None = None) -> Process:
        """Starts the load generator on this proxy, for what listens on *target_port*."""
        return load(mode, self.version, self.port, target_port, *more, on=on)


Start = Callable[[], contextlib.AbstractContextManager[Proxy]]


@contextlib.contextmanager
def service(address: str = ANY_PORT, workers: int = 1) -> Iterator[list[str]]:
    """The command that runs ours with all that a service has on. Raises ``BenchError`` where that cannot be."""
    if not has("prometheus_client"):
        raise BenchError("the proxy is measured with metrics on, and they need: pip install 'netnet[proxy]'")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "netnet.toml")
        file.touch(0o600)
        file.write_text(CONFIGURATION.read_text().replace(f'address = "{ANY_PORT}"', f'address = "{address}"'))
        yield [*_command(workers), "--config", str(file), "--status", f"{folder}/status"]


def _command(workers: int) -> list[str]:
    return [sys.executable, "-m", "netnet", "proxy", "--workers", str(workers)]


@contextlib.contextmanager
def ours(version: int = 5, workers: int = 1, on: Collection[int] | None = None) -> Iterator[Proxy]:
    """netnet's, with all that a service has on."""
    with service(workers=workers) as command, serving(command, on=on) as process:
        yield Proxy(process, process.port(), version)


@contextlib.contextmanager
def _plain() -> Iterator[Proxy]:
    with serving([*_command(1), "--listen", ANY_PORT]) as process:
        yield Proxy(process, process.port(), 5)


@contextlib.contextmanager
def microsocks() -> Iterator[Proxy]:
    """microsocks, as it comes."""
    port = free_port()
    with listening(microsocks_command(port), port) as process:
        yield Proxy(process, port, 5)


def microsocks_command(port: int) -> list[str]:
    """The command that runs it."""
    return [MICROSOCKS, "-i", "127.0.0.1", "-p", str(port)]


@contextlib.contextmanager
def _pproxy(how: str) -> Iterator[Proxy]:
    port = free_port()
    with listening([sys.executable, "-c", how, "-l", f"socks5://127.0.0.1:{port}"], port) as process:
        yield Proxy(process, port, 5)


class _Peer(NamedTuple):
    start: Start
    is_here: Callable[[], bool] = lambda: True
    remedy: str = ""
    note: str = ""


def has_microsocks() -> bool:
    """Whether microsocks is installed."""
    return shutil.which(MICROSOCKS) is not None


_PEERS: Final[dict[str, _Peer]] = {
    MICROSOCKS: _Peer(microsocks, has_microsocks, "apt install microsocks"),
    OURS: _Peer(ours, note="netnet: 20 rules, users, limits per client, metrics, status and log on; SOCKS5"),
    SOCKS4: _Peer(partial(ours, 4), note="netnet, SOCKS4: the same, asked in SOCKS4: one exchange instead of two"),
    PLAIN: _Peer(_plain, note="netnet, plain: SOCKS5 without rules, users, limits, metrics and status; with the log"),
    PPROXY: _Peer(
        partial(_pproxy, _ON_ASYNCIO),
        lambda: has("pproxy"),
        "pip install pproxy",
        "pproxy: on asyncio, without a log; it answers before it connects",
    ),
    PPROXY_UVLOOP: _Peer(partial(_pproxy, _ON_UVLOOP), lambda: has("pproxy", "uvloop"), "pip install pproxy uvloop"),
}


def peers(figures: Sequence[Figures], *names: str) -> dict[str, Start]:
    """Those of *names* that are here, by name; the others are told to *figures*, and what one should know of each."""
    found = {}
    for name in names:
        peer = _PEERS[name]
        if peer.is_here():
            found[name] = peer.start
        for one in figures:
            if name not in found:
                one.missing[name] = peer.remedy
            elif peer.note:
                one.note(peer.note)
    return found
