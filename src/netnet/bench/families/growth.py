"""Growth: what one operation costs as the things beside it grow by tenfold steps: a round trip by idle connections, a
handshake by rules and by users, a timer by timers. It should not grow, or with the logarithm only.

A proxy that is measured here has just what is counted and no more: its configuration is made for the run.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from netnet.bench.families import proxies
from netnet.bench.families.echo import MESSAGE, SERVERS
from netnet.bench.families.inside import case, cpu, works
from netnet.bench.families.proxies import Place, Proxy, Ready, echo_target
from netnet.bench.figures import Case, Measure, Sample, Size, Table
from netnet.bench.native import program
from netnet.bench.peers import lacking
from netnet.bench.processes import BenchError, Process, load, probing, said, serving, window

#: connections that have traffic beside those that idle
BUSY: Final = 10

#: handshakes at a time, in a run of a size that has as many elsewhere
AT_ONCE: Final = 50

#: so many standing timers take trio minutes to make
TRIO_TIMERS_MAX: Final = 100_000

#: with so many, making them takes far longer than what is measured, and longer than a run should
MANY_TIMERS: Final = 1_000_000
MANY_ROUNDS: Final = 3

#: who logs in, and the hash of that password, which all users have: ``netnet proxy hash-password``
_PASSWORD: Final = "bench"
_HASH: Final = "$scrypt$ln=15,r=8,p=3$L1XR5r3YRKSWDrQUuA+mzg$YltVHzGQTT9gFDSwd/JZhQHZdsEy7W02MkB9cf84duQ"

#: what stands above the rules, or the users
_PROXY: Final = """
[proxy]
log_connections = false
default_rule = "{default}"

[[listener]]
name = "bench"
address = "127.0.0.1:0"
authentication = "{authentication}"
"""

_LAST_RULE: Final = """
[[rule]]
action = "allow"
clients = ["127.0.0.0/8"]
"""


class _Kind(NamedTuple):
    """A condition that what is asked for does not meet: as ours has it in a rule, and dante. ``n`` is for ``format``."""

    ours: str
    dante: str


#: the rules are of these kinds in turn
_KINDS: Final = (
    _Kind('destinations = ["10.{high}.{low}.0/24"]', "from: 0.0.0.0/0 to: 10.{high}.{low}.0/24"),
    _Kind('clients = ["10.{high}.{low}.0/24"]', "from: 10.{high}.{low}.0/24 to: 0.0.0.0/0"),
    _Kind("ports = [{port}]", "from: 0.0.0.0/0 to: 0.0.0.0/0 port = {port}"),
)

#: targets have ports of the kernel's choice, which are above these
_PORTS: Final = 1023


def growth(size: Size) -> list[Case]:
    """Connections, rules, users, timers."""
    return [
        *(_connections(count, size) for count in size.grown_connections),
        *(_rules(count, size) for count in size.grown_rules),
        *(_names(count, size) for count in size.grown_rules),
        *(_users(count, size) for count in size.grown_users),
        *(_timers(timers, count, size) for timers in _TIMERS for count in size.grown_timers),
    ]


def _table(subject: str, title: str, things: str, count: int, base: str, unit: str = "µs each") -> Table:
    return Table("growth", f"growth: {title}", cpu(unit), base=base, subject=subject, place={things: count})


# -- connections

_SERVERS: Final = ("C epoll", "netnet", "gevent", "asyncio streams")


def _connections(count: int, size: Size) -> Case:
    title = f"echo round trip, {count} connections idle beside"
    table = _table("echo round trip beside idle connections", title, "connections", count, "C epoll", "µs a round trip")
    table.note(f"{MESSAGE} bytes, {BUSY} connections that are busy")
    measures: dict[str, Measure] = {}
    for peer in _SERVERS:
        remedy = lacking(SERVERS[peer].needs)
        if remedy is None:
            measures[peer] = partial(_echo_beside, SERVERS[peer].command, count, size)
        else:
            table.missing[peer] = remedy
    return Case(table, measures)


def _echo_beside(command: Callable[[], Sequence[str]], idle: int, size: Size) -> Sample:
    """The CPU time of a round trip while so many connections to the same server idle. Raises ``BenchError``."""
    with probing(command()) as server:
        port = server.port()
        with (
            _held(load("hold", 0, port, port, idle, 1, 0)),
            load("echo", port, BUSY, MESSAGE, size.warmup_seconds, size.seconds) as client,
        ):
            used, words = window(server, client)
    return {"CPU": used / max(1, int(words[1])) * 1e6}


@contextlib.contextmanager
def _held(holder: Process) -> Iterator[None]:
    """While the connections of a load that holds them stand. Raises ``BenchError`` when it fails to open them."""
    with holder:
        holder.line()
        yield


# -- rules


def _rules(count: int, size: Size) -> Case:
    table = _table("SOCKS5 handshake by rules", f"SOCKS5 handshake, {count} rules", "rules", count, proxies.OURS)
    table.note("rules about destinations, clients and ports in turn; the last one matches")
    measures: dict[str, Measure] = {proxies.OURS: partial(_handshake, partial(_with_rules, count), size)}
    remedy = lacking(proxies.PEERS[proxies.DANTE].needs)
    if remedy is None:
        measures[proxies.DANTE] = partial(_handshake, partial(_dante_with_rules, count), size)
    else:
        table.missing[proxies.DANTE] = remedy
    return Case(table, measures)


def _conditions(count: int) -> Iterator[tuple[_Kind, dict[str, int]]]:
    """The kinds of so many rules, and the numbers that are put in."""
    for rule in range(count):
        number, kind = divmod(rule, len(_KINDS))
        yield _KINDS[kind], {"high": number >> 8, "low": number & 255, "port": 1 + number % _PORTS}


def rules_text(count: int) -> str:
    """A configuration with so many rules, of which the last matches."""
    blocks = (
        f'\n[[rule]]\naction = "deny"\n{kind.ours.format(**numbers)}\n' for kind, numbers in _conditions(count - 1)
    )
    return "".join([_PROXY.format(default="deny", authentication="none"), *blocks, _LAST_RULE])


def _with_rules(count: int) -> contextlib.AbstractContextManager[Proxy]:
    return _configured(rules_text(count))


def _dante_with_rules(count: int) -> contextlib.AbstractContextManager[Proxy]:
    return proxies.running(partial(_prepare_dante, count))


@contextlib.contextmanager
def _prepare_dante(count: int, place: Place, port: int) -> Iterator[Ready]:
    """dante as it is compared elsewhere, with rules before the one that lets everything pass."""
    with proxies.PEERS[proxies.DANTE].prepare(place, port) as ready:
        file = Path(ready.command[ready.command.index("-f") + 1])
        first, passing, last = file.read_text().rpartition("socks pass")
        rules = (f"socks block {{ {kind.dante.format(**numbers)} }}\n" for kind, numbers in _conditions(count - 1))
        file.write_text("".join([first, *rules, passing, last]))
        yield ready


def _names(count: int, size: Size) -> Case:
    title = f"host name judged, {count} rules about names"
    table = _table("host name judged by rules about names", title, "rules", count, "netnet")
    table.note("what judging takes within the proxy; each rule has a name and all below it, the last one matches")
    return case(table, works(("netnet",), "judge", size.items, count))


# -- users


def _users(count: int, size: Size) -> Case:
    title = f"SOCKS5 handshake with a login, {count} users"
    table = _table("SOCKS5 handshake with a login, by users", title, "users", count, proxies.OURS)
    table.note("one user logs in again and again; the first login, which pays for the password's hash, is not counted")
    return Case(table, {proxies.OURS: partial(_logins, count, size)})


def user(number: int) -> str:
    """The name of a user."""
    return f"user{number}"


def users_text(count: int) -> str:
    """A configuration with so many users, all with the same password."""
    users = (f'{user(number)} = "{_HASH}"\n' for number in range(count))
    return "".join([_PROXY.format(default="allow", authentication="password"), "\n[users]\n", *users])


def _logins(count: int, size: Size) -> Sample:
    login = (f"LOAD_USER={user(count - 1)}", f"LOAD_PASSWORD={_PASSWORD}")
    return _handshake(partial(_configured, users_text(count)), size, login)


# -- proxies


@contextlib.contextmanager
def _configured(text: str) -> Iterator[Proxy]:
    """Ours with this configuration."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "netnet.toml")
        file.touch(0o600)
        file.write_text(text)
        command = [sys.executable, "-m", "netnet", "proxy", "--workers", "1", "--config", str(file)]
        with serving([*command, "--status", f"{folder}/status"]) as process:
            yield Proxy(process, process.port(), 5)


def _handshake(
    start: Callable[[], contextlib.AbstractContextManager[Proxy]], size: Size, environment: Sequence[str] = ()
) -> Sample:
    """The CPU time of a handshake through what *start* starts, with these variables for the load. One connection goes
    before, with what is done for the first one only. Raises ``BenchError``."""
    with echo_target() as target_port, start() as proxy:
        to = (proxy.version, proxy.port, target_port)
        with _held(_load(environment, "hold", *to, 1, 1, 0)):
            pass
        at_once = min(AT_ONCE, max(size.at_once))
        with _load(environment, "socks", *to, at_once, size.warmup_seconds, size.seconds) as client:
            return _sample(proxy, client)


def _load(environment: Sequence[str], *arguments: object) -> Process:
    """Starts the load generator with these variables."""
    return serving(["env", *environment, str(program("load")), *map(str, arguments)], near_load=True)


def _sample(proxy: Proxy, client: Process) -> Sample:
    """The CPU time of a handshake. Raises ``BenchError`` where any has failed."""
    used, words = window(proxy.process, client)
    done, failed = int(words[1]), int(words[3])
    if failed or not done:
        raise BenchError(f"{said(proxy.process.command)}: {done} handshakes came through, {failed} failed")
    return {"CPU": used / done * 1e6}


# -- timers


class _Timers(NamedTuple):
    """A work beside standing timers: its name, its subject and title, whether it leaves cancelled timers behind, and a
    note."""

    work: str
    subject: str
    title: str
    leaves: bool
    note: str


_TIMERS: Final = (
    _Timers(
        "set_and_cancel",
        "timer set and cancelled, by timers that stand",
        "timer set and cancelled, {} others stand",
        True,
        "netnet: after(); asyncio: call_later(); gevent: spawn_later(); trio: move_on_after(), since it has deadlines only;"
        " at least as many are set as stand, so that sweeping the cancelled ones out is in",
    ),
    _Timers(
        "short_sleeps",
        "sleep of 0.1 ms, by timers that stand",
        "sleep of 0.1 ms, {} timers stand",
        False,
        "a hundred tasks sleep again and again",
    ),
)


def _timers(timers: _Timers, count: int, size: Size) -> Case:
    table = _table(timers.subject, timers.title.format(count), "timers", count, "asyncio")
    table.note(timers.note)
    libraries = ["asyncio", "netnet", "gevent", "trio"]
    if count > TRIO_TIMERS_MAX:
        libraries.remove("trio")
        table.note(f"trio is measured with {TRIO_TIMERS_MAX} timers at most: more would take it minutes to make")
    done = max(size.tasks, count) if timers.leaves else size.tasks
    rounds = min(size.rounds, MANY_ROUNDS) if count >= MANY_TIMERS else None
    return case(table, works(libraries, timers.work, done, count, size.seed), rounds=rounds)


__all__ = ["AT_ONCE", "BUSY", "growth", "rules_text", "user", "users_text"]
