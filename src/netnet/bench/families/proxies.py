"""The proxies that are compared, and how each is started: on loopback, or in a network namespace of its own.

Ours runs as a service does: a supervisor with workers, configured by ``servers/proxy.toml`` with rules, users, limits,
metrics, status and a line in the log for each connection. The others run as their own documentation has them for speed;
what one should know of each stands below the tables (``PEERS``). What ours and microsocks write to standard error, a line
for each connection, is dropped; the others are quiet there. Here nothing is measured.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from netnet.bench.figures import Measure, Sample, Table, has
from netnet.bench.native import program
from netnet.bench.peers import SOFTWARE, lacking
from netnet.bench.processes import START_SECONDS, BenchError, Process, free_port, load, probing, said, serving

_CONFIGURATIONS: Final = Path(__file__).parents[1] / "servers"

CONFIGURATION: Final = _CONFIGURATIONS / "proxy.toml"

#: the address in that file: a port of the kernel's choice
ANY_PORT: Final = "127.0.0.1:0"

#: what can be compared, by what a table calls it
OURS: Final = "netnet"
SOCKS4: Final = "netnet SOCKS4"
PLAIN: Final = "netnet plain"
MICROSOCKS: Final = "microsocks"
DANTE: Final = "dante"
SSH: Final = "ssh -D"
PPROXY: Final = "pproxy"
PPROXY_UVLOOP: Final = "pproxy uvloop"
FORK: Final = "C fork"

#: pproxy takes uvloop where it is installed, and then ends, since uvloop makes no loop where there is none: so one runs
#: without it (a module that is ``None`` counts as not installed), and one with a loop that is there
_ON_ASYNCIO: Final = "import sys; sys.modules['uvloop'] = None; from pproxy.server import main; main()"
_ON_UVLOOP: Final = (
    "import asyncio, uvloop; uvloop.install(); asyncio.set_event_loop(uvloop.new_event_loop()); "
    "uvloop.install = lambda: None; from pproxy.server import main; main()"
)

#: the state of a socket that listens, in ``/proc/PID/net/tcp`` (proc(5), include/net/tcp_states.h)
_LISTENS: Final = "0A"

#: between two looks whether a server listens
_LOOK_SECONDS: Final = 0.02


class Proxy(NamedTuple):
    """One that runs: its process, the port, and the version of SOCKS that it is asked in; 0: it is no proxy, and leads to
    its one target without being asked."""

    process: Process
    port: int
    version: int

    def load(self, mode: str, target_port: int, *more: object, on: Collection[int] | None = None) -> Process:
        """Starts the load generator on this proxy, for what listens on *target_port*."""
        return load(mode, self.version, self.port, target_port, *more, on=on)


class Place(NamedTuple):
    """Where a proxy runs: it listens on 127.0.0.1 there."""

    #: makes a command one that runs there; it replaces itself by the program, so that the process id is the program's
    wrap: Callable[[Sequence[str]], list[str]] = list
    #: the interface or the address that its connections to targets come from
    external: str = "lo"
    #: the address of targets that are not on loopback
    target: str | None = None


HERE: Final = Place()


class Ready(NamedTuple):
    """A proxy that can be started: the command, the port that it will listen on (0: it says which), the version of SOCKS
    that it is asked in, and whether it writes to standard error only what goes wrong."""

    command: list[str]
    port: int
    version: int = 5
    quiet: bool = True


#: puts all in place that a proxy needs to run there, on that port (0: any that is free)
Prepare = Callable[[Place, int], contextlib.AbstractContextManager[Ready]]


# -- starting


@contextlib.contextmanager
def listening(
    command: Sequence[str],
    port: int,
    on: Collection[int] | None = None,
    *,
    quiet: bool = False,
    look_seconds: float = _LOOK_SECONDS,
) -> Iterator[Process]:
    """Starts a server that does not say its port, on the server's processor unless *on* says others, and waits until
    something listens there in its own network namespace: it looks every *look_seconds*.

    With *quiet* its last words on standard error are kept. Raises ``BenchError`` when it does not listen, or ends.
    """
    with (probing if quiet else serving)(command, on=on) as process:
        for _ in range(int(START_SECONDS / look_seconds)):
            if _listens(process.pid, port):
                break
            process.still_runs(look_seconds)
        else:
            raise BenchError(f"{said(command)} does not listen on port {port}")
        yield process


def _listens(pid: int, port: int) -> bool:
    """Whether anything in the network namespace of *pid* listens on a port of IPv4."""
    # the kernel tells those that listen first: the thousands that a run leaves in TIME_WAIT are not read
    with contextlib.suppress(OSError), open(f"/proc/{pid}/net/tcp") as table:
        next(table)
        for line in table:
            _, local, _, state, *_ = line.split()
            if state != _LISTENS:
                return False
            if local.endswith(f":{port:04X}"):
                return True
    return False


@contextlib.contextmanager
def running(prepare: Prepare, place: Place = HERE, on: Collection[int] | None = None) -> Iterator[Proxy]:
    """A proxy that serves, on a port that was free. Raises ``BenchError`` when it does not."""
    with prepare(place, 0) as ready:
        command = place.wrap(ready.command)
        if ready.port:
            with listening(command, ready.port, on, quiet=ready.quiet) as process:
                yield Proxy(process, ready.port, ready.version)
        else:
            with (probing if ready.quiet else serving)(command, on=on) as process:
                yield Proxy(process, process.port(), ready.version)


@contextlib.contextmanager
def echo_target() -> Iterator[int]:
    """An echo server near the load: its port."""
    with serving([str(program("echo"))], near_load=True) as target:
        yield target.port()


# -- ours


@contextlib.contextmanager
def service(address: str = ANY_PORT, workers: int = 1, target: str | None = None) -> Iterator[list[str]]:
    """The command that runs ours with all that a service has on, and a rule that allows *target*, an address that is not on
    loopback. Raises ``BenchError`` where that cannot be."""
    if not has("prometheus_client"):
        raise BenchError("the proxy is measured with metrics on, and they need: pip install 'netnet[proxy]'")
    text = CONFIGURATION.read_text().replace(f'address = "{ANY_PORT}"', f'address = "{address}"')
    if target:
        text = text.replace("[[rule]]", f"{_TARGET_RULE.format(target)}[[rule]]", 1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "netnet.toml")
        file.touch(0o600)
        file.write_text(text)
        yield [*_command(workers), "--config", str(file), "--status", f"{folder}/status"]


_TARGET_RULE: Final = '[[rule]]\nname = "the target"\naction = "allow"\ndestinations = ["{}"]\n\n'


def _command(workers: int) -> list[str]:
    return [sys.executable, "-m", "netnet", "proxy", "--workers", str(workers)]


@contextlib.contextmanager
def _ours(place: Place, port: int, version: int = 5, workers: int = 1) -> Iterator[Ready]:
    with service(f"127.0.0.1:{port}", workers, place.target) as command:
        yield Ready(command, port, version, quiet=False)


@contextlib.contextmanager
def _plain(place: Place, port: int) -> Iterator[Ready]:
    yield Ready([*_command(1), "--listen", f"127.0.0.1:{port}"], port, quiet=False)


def ours(
    version: int = 5, workers: int = 1, on: Collection[int] | None = None
) -> contextlib.AbstractContextManager[Proxy]:
    """netnet's, with all that a service has on."""
    return running(partial(_ours, version=version, workers=workers), on=on)


# -- the others


def microsocks() -> contextlib.AbstractContextManager[Proxy]:
    """microsocks, as it comes."""
    return running(_microsocks)


@contextlib.contextmanager
def _microsocks(place: Place, port: int) -> Iterator[Ready]:
    port = port or free_port()
    yield Ready([_path("microsocks"), "-i", "127.0.0.1", "-p", str(port)], port, quiet=False)


@contextlib.contextmanager
def _dante(place: Place, port: int) -> Iterator[Ready]:
    port = port or free_port()
    privileged = _user()
    with tempfile.TemporaryDirectory() as folder:
        file = _configured(
            "dante.conf",
            folder,
            port=port,
            external=place.external,
            privileged=privileged,
            unprivileged="nobody" if os.geteuid() == 0 else privileged,
        )
        yield Ready([_path("dante"), "-f", file, "-p", f"{folder}/pid"], port)


@contextlib.contextmanager
def _pproxy(place: Place, port: int, how: str) -> Iterator[Ready]:
    port = port or free_port()
    yield Ready([sys.executable, "-c", how, "-l", f"socks5://127.0.0.1:{port}"], port)


@contextlib.contextmanager
def _fork(place: Place, port: int) -> Iterator[Ready]:
    yield Ready([str(program("fork_proxy"))], 0, version=4)


#: where sshd wants to be locked up when root runs it, and does not make it itself
_SSHD_ROOM: Final = Path("/run/sshd")


@contextlib.contextmanager
def _ssh(place: Place, port: int) -> Iterator[Ready]:
    """A private sshd for this user, with keys of this run, and ``ssh -D`` to it."""
    port = port or free_port()
    server_port = free_port()
    if os.geteuid() == 0:
        _SSHD_ROOM.mkdir(mode=0o755, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for key in ("host", "user"):
            _make_key(Path(folder, key))
        host_key = Path(folder, "host.pub").read_text()
        Path(folder, "known_hosts").write_text(f"[127.0.0.1]:{server_port} {host_key}")
        values = {
            "folder": folder,
            "user": _user(),
            # without root's rights sshd cannot see for itself that the account is not locked
            "pam": "no" if os.geteuid() == 0 else "yes",
            "port": server_port,
            "listens": port,
            "sshd": _path("sshd"),
            "ssh": _path("ssh"),
        }
        for name in ("sshd_config", "ssh_config"):
            _configured(name, folder, **values)
        yield Ready(["sh", _configured("ssh_proxy.sh", folder, **values)], port)


def _make_key(file: Path) -> None:
    keygen = shutil.which("ssh-keygen")
    if keygen is None:
        raise BenchError(f"ssh needs keys: {SOFTWARE['ssh'].remedy}")
    done = subprocess.run(
        [keygen, "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(file)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"ssh-keygen made no key: {done.stderr.strip()}")


def _configured(name: str, into: str, **values: object) -> str:
    """Writes a configuration of ``servers``, with the values put in, to the folder *into*; returns its path."""
    file = Path(into, name)
    file.write_text((_CONFIGURATIONS / name).read_text().format_map(values))
    return str(file)


def _path(software: str) -> str:
    """Where a program is. Raises ``BenchError`` where it is not."""
    path = SOFTWARE[software].path()
    if path is None:
        raise BenchError(f"{software} is not here: {SOFTWARE[software].remedy}")
    return path


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise BenchError(f"user {os.geteuid()} has no name, and the proxy needs one: add it to /etc/passwd") from None


# -- all of them


class Peer(NamedTuple):
    """A proxy that is compared: what prepares it, what software it needs, and what one should know of it."""

    prepare: Prepare
    needs: tuple[str, ...] = ()
    note: str = ""


PEERS: Final[dict[str, Peer]] = {
    OURS: Peer(_ours, note="netnet: 20 rules, users, limits per client, metrics, status and log on; SOCKS5"),
    SOCKS4: Peer(
        partial(_ours, version=4), note="netnet SOCKS4: the same, asked in SOCKS4: one exchange instead of two"
    ),
    PLAIN: Peer(_plain, note="netnet plain: SOCKS5 without rules, users, limits, metrics and status; with the log"),
    MICROSOCKS: Peer(_microsocks, ("microsocks",), "microsocks: as it comes, a thread a connection, with its log"),
    DANTE: Peer(_dante, ("dante",), "dante: one main server, since it has one processor; two rules, no log"),
    SSH: Peer(_ssh, ("ssh", "sshd"), "ssh -D: to an sshd beside it, with the default cipher; both count"),
    PPROXY: Peer(
        partial(_pproxy, how=_ON_ASYNCIO),
        ("pproxy",),
        "pproxy: on asyncio, without a log; it answers before it connects",
    ),
    PPROXY_UVLOOP: Peer(partial(_pproxy, how=_ON_UVLOOP), ("pproxy", "uvloop")),
    FORK: Peer(
        _fork, note="C fork: a plain proxy in C, a process a connection, a buffer of 4 KB, asked in SOCKS4; no log"
    ),
}


def start(name: str, place: Place = HERE) -> contextlib.AbstractContextManager[Proxy]:
    """Starts the proxy of that name. Raises ``BenchError``."""
    return running(PEERS[name].prepare, place)


def measures(table: Table, names: Iterable[str], measure: Callable[[str], Sample]) -> dict[str, Measure]:
    """What measures those of *names* that are here; the others are told to the table, and what one should know of each."""
    found: dict[str, Measure] = {}
    for name in names:
        peer = PEERS[name]
        remedy = lacking(peer.needs)
        if remedy:
            table.missing[name] = remedy
            continue
        found[name] = partial(measure, name)
        if peer.note:
            table.note(peer.note)
    return found


__all__ = [
    "ANY_PORT",
    "CONFIGURATION",
    "DANTE",
    "FORK",
    "HERE",
    "MICROSOCKS",
    "OURS",
    "PEERS",
    "PLAIN",
    "PPROXY",
    "PPROXY_UVLOOP",
    "SOCKS4",
    "SSH",
    "Peer",
    "Place",
    "Prepare",
    "Proxy",
    "Ready",
    "echo_target",
    "listening",
    "measures",
    "microsocks",
    "ours",
    "running",
    "service",
    "start",
]
