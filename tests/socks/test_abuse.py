"""The proxy under attack: others are served as before, and afterwards nothing is left.

``netnet proxy`` runs as a process with one worker, its log into a pipe that nobody reads. The attackers are a program of
their own (``abuse``). Meanwhile a well-behaved client measures how long 64 bytes need through a connection that stands,
there and back, and how long a new connection takes from its first packet to the reply.

- *Latency.* Quiet and attacked stretches alternate, two of each. The medians under attack shall be within twice those of
  the quiet. Proxy, attackers, client and target share the machine, often two processors; who gets one is nothing that the
  proxy decides. So where the first comparison fails, the same attack on another proxy (a decoy) while the client measures
  this one says what the machine alone does, and that counts instead. The machine's noise is met by up to ``ATTEMPTS``.
- *Leaks.* The first round of an attack warms pools and tables. After the second there are no more descriptors than after
  the first, no session but the client's own, and the process has hardly grown; or else it stops to grow in further rounds.

For longer runs by hand: ``NETNET_ABUSE_SCALE=5`` multiplies the connections and samples, ``NETNET_ABUSE_FORCE=4`` the rates of
floods, and ``NETNET_ABUSE_REPORT=FILE`` adds a line for each attack to a file.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import resource
import select
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field

import pytest

from netnet.proxy.passwords import hash_password
from netnet.proxy.status import StatusReader
from netnet.socks.settings import connections_max
from tests.cli.process import PATIENCE_SECONDS, ProxyProcess
from tests.socks import abuse

SCALE = float(os.environ.get("NETNET_ABUSE_SCALE", "1"))
FORCE = float(os.environ.get("NETNET_ABUSE_FORCE", "1"))
REPORT = os.environ.get("NETNET_ABUSE_REPORT")

#: measured in each stretch, so 200 quiet and 200 attacked ones of each kind in all
SAMPLES = int(100 * SCALE)
#: between two samples, so that they see all phases of an attack that comes in bursts
PAUSE_SECONDS = 0.001
#: the longest stretch; a hundred samples take 0.1 s
STRETCH_SECONDS_MAX = 3.0
#: how often latency is measured before it is the proxy's fault
ATTEMPTS = 3
#: latency under attack may be so many times that of the quiet
SLOWDOWN_MAX = 2.0
#: a login takes some 0.2 s of a processor; an address that guesses is banned after ten
LOGIN_SECONDS = 5.0
#: what a process may grow in a round: the noise of its allocator, and the lines that the log holds while nobody reads
#: them (1 MiB in all). A thousand connections that are never forgotten would have more
GROWTH_BYTES_MAX = 2 << 20
#: rounds until it has to stop growing
ROUNDS_MAX = 8

#: connections that one proxy can have with the descriptors that there are here, but for those of the others
ONE_PROXY = connections_max(resource.getrlimit(resource.RLIMIT_NOFILE)[1]) - 100

PAYLOAD = bytes(range(64))

pytestmark = pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="what another process uses is read from Linux's /proc"
)

CONFIGURATION = """
[proxy]
workers = 1
drain = "0 s"
status = "{status}"
{service}
[[listener]]
name = "plain"
address = "127.0.0.1:0"
[[listener]]
name = "login"
address = "127.0.0.1:0"
authentication = "password"
[[listener]]
name = "behind"
address = "127.0.0.1:0"
proxy_protocol_from = ["127.0.0.0/8"]
public_without_authentication = true
deny_private = false
[users]
alice = "{hash}"
[limits]
{limits}
"""

#: the limits of the proxies that are attacked; a patient one does not help itself by its time limit
LIMITS = {
    "patient": 'handshake = "60 s"',
    "impatient": 'handshake = "1 s"',
    "fair": 'handshake = "60 s"\nconnections = 1000\nconnections_per_client = 100',
}


# -- the proxy, seen from outside


class Attacked:
    """A running proxy: its listeners, and what its worker uses."""

    def __init__(self, directory, hash, limits, service):
        self.status_path = str(directory / "status")
        file = directory / "proxy.toml"
        file.write_text(CONFIGURATION.format(status=self.status_path, hash=hash, limits=limits, service=service))
        file.chmod(0o600)
        self.proxy = ProxyProcess("--config", str(file))
        if not self.proxy.greeting:
            pytest.fail(f"the proxy has not started: {self.proxy.process.communicate()[1]}")
        greetings = [self.proxy.greeting, *(self.proxy.process.stdout.readline() for _ in range(2))]
        ports = [int(line.split(", ")[0].rpartition(":")[2]) for line in greetings]
        self.ports = dict(zip(("plain", "login", "behind"), ports, strict=True))
        self.reader = StatusReader(self.status_path)
        self.pid = self.reader.read()["workers"][0]["pid"]

    def close(self):
        self.reader.close()
        self.proxy.close()

    @property
    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    @property
    def resident_bytes(self):
        fields = pathlib.Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(fields[1]) * resource.getpagesize()

    def settled(self, sessions, seconds=PATIENCE_SECONDS):
        """Waits until no more than *sessions* are left; returns descriptors and memory then.

        Another process has no event to wait for, so it is asked, until it says so in a document that was made since.
        """
        began = time.monotonic()
        while True:
            status = self.reader.read()
            left = status["connections"] - sessions
            if status["instant"] > began and not left:
                return self.descriptors, self.resident_bytes
            assert time.monotonic() < began + seconds, f"{left} sessions are left after an attack"
            select.select([], [], [], 0.02)


class Program:
    """A program of ``abuse``: ``said`` is what it says first, ``end`` lets it go and returns what it says then."""

    def __init__(self, name, **plan):
        self.process = subprocess.Popen(
            [sys.executable, "-I", abuse.__file__, name, json.dumps(plan)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.said = self._line()

    def _line(self):
        readable, _, _ = select.select([self.process.stdout], [], [], PATIENCE_SECONDS * 2)
        line = self.process.stdout.readline() if readable else ""
        if not line:
            self.close()
            pytest.fail("an attacker has said nothing; what it printed above tells why")
        return json.loads(line)

    def end(self):
        self.process.stdin.close()
        return self._line()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@contextlib.contextmanager
def attacking(attack, ports):
    """The attack at full strength."""
    program = Program(attack.function, **ports, **attack.plan())
    with contextlib.closing(program):
        yield program
        program.told = program.end()


# -- the well-behaved client


class Client:
    """Measures: one connection that stands, and new ones."""

    def __init__(self, port, target):
        self.port = port
        self.request = abuse.GREETING + abuse.connect_request(target)
        self.standing = self._new()

    def _new(self):
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(self.request)
        assert abuse.receive(sock, 12)[3] == 0
        return sock

    def echo_seconds(self):
        began = time.perf_counter()
        self.standing.sendall(PAYLOAD)
        assert abuse.receive(self.standing, 64) == PAYLOAD
        return time.perf_counter() - began

    def handshake_seconds(self):
        began = time.perf_counter()
        sock = self._new()
        taken = time.perf_counter() - began
        sock.close()
        return taken

    def measure(self, into, seconds=0.0):
        """Takes samples, for *seconds* at least; fewer where they take too long to be good anyway."""
        began = time.perf_counter()
        taken = 0
        while taken < SAMPLES or time.perf_counter() < began + seconds:
            if time.perf_counter() > began + seconds + STRETCH_SECONDS_MAX * SCALE:
                break
            taken += 1
            into.echo.append(self.echo_seconds())
            into.handshake.append(self.handshake_seconds())
            select.select([], [], [], PAUSE_SECONDS)

    def close(self):
        self.standing.close()


@dataclass
class Figures:
    echo: list = field(default_factory=list)
    handshake: list = field(default_factory=list)

    def medians(self):
        return statistics.median(self.echo), statistics.median(self.handshake)

    def within(self, other):
        return all(mine <= theirs * SLOWDOWN_MAX for mine, theirs in zip(self.medians(), other.medians(), strict=True))

    def __str__(self):
        return ", ".join(
            f"{name} {statistics.median(values) * 1e6:.0f}/{quantile(values) * 1e6:.0f}/{max(values) * 1e6:.0f}"
            for name, values in (("echo", self.echo), ("handshake", self.handshake))
        )


def quantile(values, share=0.99):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


# -- the attacks


#: connections of an attack; where there are too few descriptors it has fewer
MANY = 1000


@dataclass(frozen=True)
class Attack:
    """*count* connections are held, *rate* blows dealt a second."""

    name: str
    function: str
    count: int = MANY
    rate: float = 500
    holds: bool = True  #: whether the proxy has *count* connections of it at once
    seconds: float = 0.0  #: so long it takes until all of it is seen
    proxy: str = "patient"
    more: dict = field(default_factory=dict)
    #: what the worker's memory may grow for each of the connections, at most
    bytes_each_max: int = 40_000

    def plan(self):
        return {"count": min(int(self.count * SCALE), ONE_PROXY), "rate": self.rate * FORCE, "seed": 1929, **self.more}

    @property
    def held(self):
        """So many descriptors the proxy needs for it, at least."""
        return self.plan()["count"] if self.holds else 0

    def __str__(self):
        return self.name


ATTACKS = [
    *(Attack(f"slow {state}", "slow", more={"state": state}) for state in abuse.SLOW),
    Attack("nine thousand", "slow", count=9000, more={"state": "before the first byte"}),
    Attack(
        "slow until their time is over",
        "slow",
        count=2000,
        holds=False,
        proxy="impatient",
        seconds=1.5,
        more={"state": "in the greeting"},
    ),
    Attack("vanished", "vanishing", rate=500, holds=False, proxy="impatient", seconds=1.2),
    Attack("slow after the grant", "slow_after_the_grant"),
    Attack("slow on an association's connection", "slow_associations"),
    Attack("slow on a binding's connection", "slow_bindings"),
    Attack("half-open", "half_open", holds=False),
    Attack("connect and close", "connect_and_close", holds=False, rate=1500),
    Attack("connect and reset", "connect_and_reset", holds=False, rate=1500),
    Attack("reset at each step", "reset_at_each_step", holds=False, rate=1000),
    Attack("random bytes", "random_bytes", holds=False, count=200, rate=1000),
    Attack("refusing targets", "refusing_targets", holds=False, rate=800),
    Attack("more than its share", "more_than_its_share", holds=False, proxy="fair", count=300, rate=800),
    Attack("a reader that never reads", "reader_that_never_reads", count=50, bytes_each_max=600_000),
    Attack("a target that never reads", "target_that_never_reads", count=50, bytes_each_max=600_000),
    Attack("associations", "associations", rate=4000),
    Attack("a flood of datagrams", "datagram_flood", count=100, rate=8000),
    Attack("foreign datagrams", "foreign_datagrams", count=100, rate=10000),
    Attack("wrong passwords", "wrong_passwords", holds=False, count=200, rate=20, bytes_each_max=400_000),
]


@pytest.fixture(scope="module")
def target():
    """What the well-behaved client talks to; the port."""
    with contextlib.closing(Program("echo", rate=0)) as program:
        yield program.said


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts a proxy with the limits of that name."""
    hash = hash_password("right")

    def start(name, service=""):
        return contextlib.closing(Attacked(tmp_path_factory.mktemp("proxy"), hash, LIMITS[name], service))

    return start


class Round:
    """Two rounds of quiet and attack: what was measured, and what the worker used before, meanwhile and after.

    When it has grown in the second, there are more: what is lost is lost each time, what is kept for use is not.
    """

    def __init__(self, attack, proxy, client):
        self.quiet, self.attacked = Figures(), Figures()
        self.begin_bytes = self.peak_bytes = proxy.resident_bytes
        self.held_max = 0
        self.after = []
        for _ in range(2):
            client.measure(self.quiet)
            self._attack(attack, proxy, client, self.attacked)
        while self.growth_bytes > GROWTH_BYTES_MAX and len(self.after) < ROUNDS_MAX:
            self._attack(attack, proxy, client, Figures())

    def _attack(self, attack, proxy, client, figures):
        with attacking(attack, proxy.ports) as program:
            self.peak_bytes = max(self.peak_bytes, proxy.resident_bytes)
            client.measure(figures, attack.seconds)
            held = proxy.descriptors
            self.peak_bytes = max(self.peak_bytes, proxy.resident_bytes)
        self.told = program.told
        client.handshake_seconds()  # whoever was in the backlog has had its turn before
        self.after.append(proxy.settled(1))
        self.held_max = max(self.held_max, held - self.after[-1][0])

    @property
    def growth_bytes(self):
        """In the last round."""
        return self.after[-1][1] - self.after[-2][1]

    def __str__(self):
        resident = ", ".join(f"{size / 2**20:.1f}" for _, size in self.after)
        return (
            f"quiet {self.quiet}; attacked {self.attacked} us; {self.held_max} descriptors held;"
            f" MiB begin {self.begin_bytes / 2**20:.1f} peak {self.peak_bytes / 2**20:.1f} after {resident};"
            f" descriptors {[count for count, _ in self.after]}; {self.told}"
        )


@contextlib.contextmanager
def client_of(proxy, target):
    """The well-behaved one; its first requests are not measured."""
    with contextlib.closing(Client(proxy.ports["plain"], target)) as client:
        for _ in range(20):
            client.echo_seconds()
            client.handshake_seconds()
        yield client


def control(attack, decoy, client):
    """What the same attack does to the client where it is not its proxy that is attacked."""
    figures = Figures()
    with attacking(attack, decoy.ports):
        client.measure(figures)
    return figures


def note(attack, text):
    if REPORT:
        with open(REPORT, "a") as file:
            print(f"{attack}: {text}", file=file)


def check_leaks(attack, found):
    assert found.held_max >= attack.held, "the proxy has not held what it was to hold: this was no attack"
    counts = [count for count, _ in found.after]
    assert counts[-1] <= counts[0], f"descriptors are left: {counts} after each round"
    assert found.growth_bytes <= GROWTH_BYTES_MAX, (
        f"the worker grows in each round, the last time by {found.growth_bytes}"
    )
    each = (found.peak_bytes - found.begin_bytes) / attack.plan()["count"]
    assert each <= attack.bytes_each_max, f"the worker has taken {each:.0f} bytes for each connection of an attacker"


def needs(attack):
    """Skips where an attack cannot be made, and says why."""
    if attack.count > max(MANY, ONE_PROXY):
        pytest.skip(f"{attack.count} connections need more descriptors than there may be here (ulimit -Hn)")
    if attack.function == "vanishing" and not abuse.can_vanish():
        pytest.skip("a connection can be forgotten without a word only with CAP_NET_ADMIN")


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_others_are_served_as_before_and_nothing_is_left(attack, start, target):
    needs(attack)
    for attempt in range(ATTEMPTS):
        with start(attack.proxy) as proxy, client_of(proxy, target) as client:
            found = Round(attack, proxy, client)
            note(attack, found)
            check_leaks(attack, found)
            if found.attacked.within(found.quiet):
                return
            with start(attack.proxy) as decoy:
                alone = control(attack, decoy, client)
            note(attack, f"  attempt {attempt + 1}: the same on a decoy {alone}")
            if found.attacked.within(alone):
                return
    pytest.fail(f"quiet {found.quiet}; attacked {found.attacked}; the same on a decoy {alone} us (median/p99/longest)")


# -- few descriptors

#: what the proxy is given, and the connections that it takes with that
FEW_DESCRIPTORS = 1000
PLACES = connections_max(FEW_DESCRIPTORS)


@pytest.fixture
def small(start, tmp_path, monkeypatch):
    """A proxy that may have few descriptors."""
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nulimit -n {FEW_DESCRIPTORS}\nexec {sys.executable} "$@"\n')
    script.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(script))
        proxy = start("patient")
    with proxy as running:
        yield running


def is_served(client, request=None, seconds=1.0):
    """Whether somebody new gets through in time."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=seconds) as sock:
        sock.sendall(request or client.request)
        try:
            return abuse.receive(sock, 12)[3] == 0
        except TimeoutError:
            return False


@pytest.mark.parametrize(
    ("function", "places"),
    [("slow_after_the_grant", 1), ("slow_bindings", 2), ("slow_associations", 2), ("associations", 2)],
)
def test_as_many_connections_as_there_are_places_leave_descriptors_for_the_last_one(function, places, small, target):
    """What needs more descriptors than a relay takes two places."""
    attack = Attack("filled", function, count=PLACES // places - 5)
    with client_of(small, target) as client:
        with attacking(attack, small.ports):
            assert client.echo_seconds() < 1.0
            assert is_served(client)
        small.settled(1)
        assert is_served(client)


def test_names_that_nobody_tells_do_not_keep_others_from_theirs(start, target):
    pytest.importorskip("dns", reason="name_servers needs netnet[dns]")
    attack = Attack("slow names", "slow_names", count=300)
    with contextlib.closing(Program("names", rate=0)) as names:
        with (
            start("patient", f'name_servers = ["127.0.0.1:{names.said}"]') as proxy,
            client_of(proxy, target) as client,
        ):
            request = [abuse.GREETING + abuse.named_request(f"{one}.{abuse.GOOD_NAMES}", target) for one in "ab"]
            assert is_served(client, request[0], PATIENCE_SECONDS), "the name server is not asked"
            with attacking(attack, proxy.ports):
                assert client.echo_seconds() < 1.0
                assert is_served(client, request[1])


def test_guesses_of_one_address_do_not_keep_others_from_logging_in(start):
    attack = Attack("guesses", "passwords_at_once", count=300)
    with start("patient") as proxy:
        with attacking(attack, proxy.ports):
            with socket.create_connection(("127.0.0.1", proxy.ports["login"]), timeout=LOGIN_SECONDS) as sock:
                sock.sendall(abuse.login_request("right"))
                assert abuse.receive(sock, 4) == b"\x05\x02\x01\x00"
