"""The proxy under attack: others are served as before, and afterwards nothing is left.

``netnet proxy`` runs as a process with one worker, its log into a pipe that nobody reads. The attackers are a program of
their own (``abuse``). Meanwhile a well-behaved client measures how long 64 bytes need through a connection that stands,
there and back, and how long a new connection takes from its first packet to the reply.

- *Latency.* Quiet and attacked stretches alternate, two of each. The medians under attack shall be within twice those of
  the quiet. Proxy, attackers, client and target share the machine, often two processors; who gets one is nothing that the
  proxy decides. So where the first comparison fails, the same attack on another proxy (a decoy) while the client measures
  this one says what the machine alone does, and that counts instead. The machine's noise is met by up to ``ATTEMPTS``.
- *Leaks.* The first round of an attack warms pools and tables. After the second there are as many descriptors as after
  the first, no session but the client's own, and the process has hardly grown.

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
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field

import pytest

from netnet.proxy.passwords import hash_password
from netnet.proxy.status import StatusReader
from tests.cli.process import PATIENCE_SECONDS, ProxyProcess
from tests.socks import abuse

SCALE = float(os.environ.get("NETNET_ABUSE_SCALE", "1"))
FORCE = float(os.environ.get("NETNET_ABUSE_FORCE", "1"))
REPORT = os.environ.get("NETNET_ABUSE_REPORT")

#: measured in each stretch, so 200 quiet and 200 attacked ones of each kind in all
SAMPLES = int(100 * SCALE)
#: between two samples, so that they see all phases of an attack that comes in bursts
PAUSE_SECONDS = 0.002
#: how often latency is measured before it is the proxy's fault
ATTEMPTS = 3
#: latency under attack may be so many times that of the quiet
SLOWDOWN_MAX = 2.0
#: what a process may grow in the second round of an attack: the allocator's noise; 1,000 lost connections would have more
GROWTH_BYTES_MAX = 2 << 20
GROWTH_SHARE_MAX = 0.04

PAYLOAD = bytes(range(64))

pytestmark = pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="what another process uses is read from Linux's /proc"
)

CONFIGURATION = """
[proxy]
workers = 1
drain = "0 s"
status = "{status}"
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

    def __init__(self, directory, limits):
        self.status_path = str(directory / "status")
        file = directory / "proxy.toml"
        file.write_text(CONFIGURATION.format(status=self.status_path, hash=hash_password("right"), limits=limits))
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
    def sessions(self):
        return self.reader.read()["connections"]

    @property
    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    @property
    def resident_bytes(self):
        fields = pathlib.Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(fields[1]) * resource.getpagesize()

    def settled(self, sessions, seconds=PATIENCE_SECONDS):
        """Waits until no more than *sessions* are left; returns descriptors and memory then.

        Another process has no event to wait for: it is asked, and each answer takes it a turn of its loop at least.
        """
        deadline = time.monotonic() + seconds
        while (left := self.sessions) > sessions and time.monotonic() < deadline:
            select.select([], [], [], 0.02)
        assert left == sessions, f"{left - sessions} sessions are left after an attack"
        return self.descriptors, self.resident_bytes


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

    def measure(self, into):
        for _ in range(SAMPLES):
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


@dataclass(frozen=True)
class Attack:
    """*count* connections are held, *rate* blows dealt a second."""

    name: str
    function: str
    count: int = 1000
    rate: float = 500
    proxy: str = "patient"
    more: dict = field(default_factory=dict)
    #: what the worker's memory may grow for each of the connections, at most
    bytes_each_max: int = 40_000

    def plan(self):
        return {"count": int(self.count * SCALE), "rate": self.rate * FORCE, "seed": 1929, **self.more}

    def __str__(self):
        return self.name


ATTACKS = [
    *(Attack(f"slow {state}", "slow", more={"state": state}) for state in abuse.SLOW),
    Attack("slow after the grant", "slow_after_the_grant"),
    Attack("slow on an association's connection", "slow_associations"),
    Attack("slow on a binding's connection", "slow_bindings"),
    Attack("half-open", "half_open"),
    Attack("connect and close", "connect_and_close", rate=1500),
    Attack("connect and reset", "connect_and_reset", rate=1500),
    Attack("reset at each step", "reset_at_each_step", rate=1000),
    Attack("random bytes", "random_bytes", count=200, rate=1000),
    Attack("refusing targets", "refusing_targets", rate=800),
    Attack("more than its share", "more_than_its_share", proxy="fair", count=300, rate=800),
    Attack("a reader that never reads", "reader_that_never_reads", count=50, bytes_each_max=600_000),
    Attack("a target that never reads", "target_that_never_reads", count=50, bytes_each_max=600_000),
    Attack("associations", "associations", rate=4000),
    Attack("a flood of datagrams", "datagram_flood", count=100, rate=8000),
    Attack("foreign datagrams", "foreign_datagrams", count=100, rate=10000),
    Attack("wrong passwords", "wrong_passwords", count=200, rate=100),
]


@pytest.fixture(scope="module")
def target():
    """What the well-behaved client talks to; the port."""
    with contextlib.closing(Program("echo", rate=0)) as program:
        yield program.said


@pytest.fixture(scope="module")
def proxies(request, tmp_path_factory):
    """A proxy to be attacked, with the limits of that name, and a decoy that is like it."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(contextlib.closing(Attacked(tmp_path_factory.mktemp(name), LIMITS[request.param])))
            for name in ("proxy", "decoy")
        ]


@pytest.fixture
def client(proxies, target):
    """The well-behaved one; its first requests are not measured."""
    with contextlib.closing(Client(proxies[0].ports["plain"], target)) as client:
        client.measure(Figures())
        yield client


class Round:
    """Two rounds of quiet and attack: what was measured, and what the worker used before, meanwhile and after."""

    def __init__(self, attack, proxy, client):
        self.quiet, self.attacked = Figures(), Figures()
        self.after = []
        self.begin_bytes = proxy.resident_bytes
        self.peak_bytes = 0
        for _ in range(2):
            client.measure(self.quiet)
            with attacking(attack, proxy.ports) as program:
                client.measure(self.attacked)
                self.peak_bytes = max(self.peak_bytes, proxy.resident_bytes)
            self.told = program.told
            self.after.append(proxy.settled(1))

    @property
    def growth_bytes(self):
        return self.after[1][1] - self.after[0][1]


def control(attack, decoy, client):
    """What the same attack does to the client where it is not its proxy that is attacked."""
    figures = Figures()
    with attacking(attack, decoy.ports):
        client.measure(figures)
    decoy.settled(0)
    return figures


def note(attack, text):
    if REPORT:
        with open(REPORT, "a") as file:
            print(f"{attack.name}: {text}", file=file)


def check_leaks(attack, found):
    (before, _), (after, resident) = found.after
    assert after == before, f"{after - before} descriptors are left"
    allowed = max(GROWTH_BYTES_MAX, resident * GROWTH_SHARE_MAX)
    assert found.growth_bytes <= allowed, f"the worker has grown by {found.growth_bytes} bytes in the second round"
    each = (found.peak_bytes - found.begin_bytes) / attack.plan()["count"]
    assert each <= attack.bytes_each_max, f"the worker has taken {each:.0f} bytes for each connection of an attacker"


@pytest.mark.parametrize(("proxies", "attack"), [(one.proxy, one) for one in ATTACKS], indirect=["proxies"], ids=str)
def test_others_are_served_as_before_and_nothing_is_left(proxies, attack, client):
    proxy, decoy = proxies
    for attempt in range(ATTEMPTS):
        found = Round(attack, proxy, client)
        note(
            attack,
            f"quiet {found.quiet}; attacked {found.attacked} us;"
            f" MiB begin {found.begin_bytes / 2**20:.1f} peak {found.peak_bytes / 2**20:.1f}"
            f" growth {found.growth_bytes / 2**20:.2f}; descriptors {found.after[0][0]} {found.after[1][0]}; {found.told}",
        )
        check_leaks(attack, found)
        if found.attacked.within(found.quiet):
            return
        alone = control(attack, decoy, client)
        note(attack, f"  attempt {attempt + 1}: the same on a decoy {alone}")
        if found.attacked.within(alone):
            return
    pytest.fail(f"quiet {found.quiet}; attacked {found.attacked}; the same on a decoy {alone} us (median/p99/longest)")
