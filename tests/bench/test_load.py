"""The load generator and its peers in C: what each mode says, that a message of any size comes through and is looked at, what
counts as failed, and that the yardsticks are as good as they should be. Says nothing of speed."""

from __future__ import annotations

import contextlib
import os
import random
import select
import shutil
import socket
import statistics
import subprocess
import sys
import textwrap
import time

import pytest

from netnet.bench.native import FLAGS, SOURCES, program
from netnet.bench.processes import BenchError, Process, python_server
from tests.socks.programs import microsocks

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the bench reads /proc"),
    pytest.mark.skipif(not shutil.which("cc"), reason="the load generator needs a C compiler"),
]

PATIENCE_SECONDS = 20

#: how long a window is, in seconds: where nothing has happened in one, since the machine is busy, a longer one is tried
WINDOWS = (0.1, 0.5, 2, 8)

TRIPS = ["ops", "p50us", "p99us", "p999us"]
ATTEMPTS = ["ops", "failed", "p50us", "p99us", "p999us"]


def load(*arguments):
    """The load generator, on any processor; its last words are kept."""
    return Process([str(program("load")), *map(str, arguments)], keep_errors=True)


def figures(words):
    """A line of names and numbers, by name."""
    return dict(zip(words[::2], map(float, words[1::2]), strict=True))


def measured(*arguments, happens=()):
    """What a mode with a window has found, in one that is so long that each of *happens* is not 0."""
    found = {}
    for seconds in WINDOWS:
        with load(*arguments, seconds / 5, seconds) as client:
            assert client.line() == ["start"]
            found = figures(client.line())
            client.finish()
        if all(found[name] for name in happens):
            break
    return found


def check_durations(found):
    assert 0 < found["p50us"] <= found["p99us"] <= found["p999us"] < PATIENCE_SECONDS * 1e6


@contextlib.contextmanager
def native(name, *arguments):
    with Process([str(program(name)), *map(str, arguments)], keep_errors=True) as process:
        yield process, process.port()


SCRIPTED = """
import itertools, socket, struct, sys, threading
listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
lock, standing, all_here = threading.Lock(), set(), threading.Event()
print("port", listener.getsockname()[1], flush=True)

def exactly(connection, count):
    return connection.recv(count, socket.MSG_WAITALL)

def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)

def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()

def serve(number, connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
{body}

for number in itertools.count():
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(number, connection), daemon=True).start()
"""


@contextlib.contextmanager
def scripted(body):
    """A server that does *body* with each ``connection``, the ``number``-th, and blocks in it: its process and port."""
    code = SCRIPTED.format(body=textwrap.indent(textwrap.dedent(body), " " * 8))
    with Process([sys.executable, "-c", code]) as process:
        yield process, process.port()


@pytest.fixture(scope="module")
def echo_port():
    with native("echo") as (_, port):
        yield port


@pytest.fixture(scope="module")
def proxy_port():
    """netnet's own."""
    command = [sys.executable, "-m", "netnet", "proxy", "--workers", "1", "--listen", "127.0.0.1:0"]
    with Process(command) as process:
        yield process.port()


@pytest.fixture
def closed_port():
    """One that nobody listens on, and nobody will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


# -- what it is asked


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "hold VERSION PORT TARGET_PORT CONNECTIONS BUSY SECONDS"),
        (["nonsense"], "load source"),
        (["echo", "1"], "load pull"),
        (["churn", "5", "1", "1", "1", "0", "0", "0"], "load churn"),
        (["echo", "0", "1", "1", "0", "0"], "load: 0: not a whole number from 1 to 65535"),
        (["echo", "65536", "1", "1", "0", "0"], "load: 65536: not a whole number from 1 to 65535"),
        (["echo", "1", "many", "1", "0", "0"], "load: many: not a whole number from 1 to 1000000"),
        (["echo", "1", "1", "0", "0", "0"], "load: 0: not a whole number from 1 to "),
        (["echo", "1", "1", "1x", "0", "0"], "load: 1x: not a whole number"),
        (["echo", "1", "1", "1", "-1", "0"], "load: -1: not a time in seconds"),
        (["echo", "1", "1", "1", "0", "nan"], "load: nan: not a time in seconds"),
        (["source", "0"], "load: 0: not a whole number"),
        (["socks", "3", "1", "1", "1", "0", "0"], "load: 3: not a version of SOCKS, 4 or 5, or 0"),
        (["hold", "5", "1", "1", "2", "3", "0"], "load: 3: not a whole number from 0 to 2"),
    ],
)
def test_what_it_does_not_take(arguments, told):
    done = subprocess.run([program("load"), *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


@pytest.mark.parametrize("user", ["", "u" * 256])
def test_a_login_that_cannot_be(monkeypatch, user):
    monkeypatch.setenv("LOAD_USER", user)
    monkeypatch.setenv("LOAD_PASSWORD", "p")
    with load("socks", 5, 1, 1, 1, 0, 0) as client, pytest.raises(BenchError, match="status 2: .*1 to 255 bytes each"):
        client.line()


# -- percentiles

HARNESS = """
#include "load_window.h"
int main(void) {
    double seconds;
    while (scanf("%lf", &seconds) == 1) count_trip(seconds);
    print_percentiles();
    return 0;
}
"""


@pytest.fixture(scope="module")
def histogram(tmp_path_factory):
    """What the histogram makes of durations in seconds."""
    folder = tmp_path_factory.mktemp("histogram")
    source, built = folder / "harness.c", folder / "harness"
    source.write_text(HARNESS)
    subprocess.run(["cc", *FLAGS, "-Werror", f"-I{SOURCES}", "-o", built, source], check=True)

    def percentiles(durations):
        text = " ".join(f"{seconds:.12f}" for seconds in durations)
        return figures(subprocess.run([built], input=text, capture_output=True, text=True, check=True).stdout.split())

    return percentiles


@pytest.mark.parametrize(
    "durations",
    [
        [0.00012],
        [0.0001] * 99 + [0.5],
        [i * 1e-6 for i in range(1, 5000)],
        [random.Random(1).lognormvariate(-9, 2) for _ in range(20_000)],
        [random.Random(2).uniform(0, 100) for _ in range(2000)],
    ],
)
def test_percentiles(histogram, durations):
    ordered = sorted(durations)
    for name, share in (("p50us", 0.5), ("p99us", 0.99), ("p999us", 0.999)):
        exact = ordered[int(len(ordered) * share)] * 1e6
        assert histogram(durations)[name] == pytest.approx(exact, rel=0.005, abs=0.051)


def test_percentiles_of_nothing(histogram):
    assert histogram([]) == {"p50us": 0, "p99us": 0, "p999us": 0}


# -- echo


@pytest.mark.parametrize(
    ("connections", "size"), [(1, 1), (1, 64), (250, 64), (20, 102_400), (2, 8 << 20), (3, 262_145)]
)
def test_echo(echo_port, connections, size):
    found = measured("echo", echo_port, connections, size, happens=["ops"])
    assert list(found) == TRIPS
    assert found["ops"] > 0
    check_durations(found)


def test_echo_of_netnet():
    with Process(python_server("echo_netnet")) as server:
        assert measured("echo", server.port(), 20, 102_400, happens=["ops"])["ops"] > 0


@pytest.mark.parametrize(
    "body",
    [
        "echo(connection)",  # sends before it reads on, and waits where that does not fit
        """
        connection.sendall(exactly(connection, 1))
        while data := exactly(connection, 8 << 20):
            connection.sendall(data)
        """,
    ],
)
def test_sending_never_blocks(body):
    """The server waits for the client to take or to send: if the client did, too, nobody would ever go on."""
    with scripted(body) as (_, port):
        assert measured("echo", port, 2, 8 << 20, happens=["ops"])["ops"] > 0


@pytest.mark.parametrize("size", [2, 64, 300_000])
@pytest.mark.parametrize(
    "wrong",
    [
        "bytes([data[0] ^ 1]) + data[1:]",
        "data[:-1] + bytes([data[-1] ^ 128])",
        "data + data",
        "data[1:] + data[:1]",
    ],
)
def test_a_byte_that_is_wrong_is_found(size, wrong):
    body = f"""
    connection.sendall(exactly(connection, 1))
    connection.sendall(exactly(connection, {size}))
    data = exactly(connection, {size})
    connection.sendall({wrong})
    echo(connection)
    """
    with scripted(body) as (_, port), load("echo", port, 1, size, 0.02, 5) as client:
        with pytest.raises(BenchError, match="ended with status 1: echo differs"):
            while True:
                client.line()


def test_the_message_before_is_not_taken_for_this_one():
    body = """
    connection.sendall(exactly(connection, 1))
    first = exactly(connection, 64)
    connection.sendall(first)
    while exactly(connection, 64):
        connection.sendall(first)
    """
    with scripted(body) as (_, port), load("echo", port, 1, 64, 0.02, 5) as client:
        with pytest.raises(BenchError, match="echo differs"):
            while True:
                client.line()


@pytest.mark.parametrize("how", ["connection.close()", "reset(connection)"])
def test_a_connection_that_is_lost(how):
    body = f"""
    connection.sendall(exactly(connection, 1))
    if number == 1:
        exactly(connection, 640)
        {how}
    echo(connection)
    """
    with scripted(body) as (_, port), load("echo", port, 3, 640, 0.02, 5) as client:
        with pytest.raises(BenchError, match="ended with status 1: connection lost: Connection reset by peer"):
            while True:
                client.line()


def test_nobody_listens(closed_port):
    with load("echo", closed_port, 5, 64, 0, 0.1) as client:
        with pytest.raises(BenchError, match="ended with status 1: connect: Connection refused"):
            client.line()


def test_all_connections_stand_before_the_window_opens():
    """One of them gets its first byte back only when all have been accepted."""
    body = """
    if number == 49:
        all_here.set()
    if number == 0:
        all_here.wait()
        print("all here", flush=True)
    echo(connection)
    """
    with scripted(body) as (server, port), load("echo", port, 50, 64, 0, 0.05) as client:
        assert server.line() == ["all", "here"]
        assert client.line() == ["start"]
        assert int(client.line()[1]) > 0


def test_a_round_trip_is_two_calls(echo_port, tmp_path):
    """One send and one recv, and none that only learns that there is nothing."""
    connections, log = 10, tmp_path / "calls"
    tracer = shutil.which("strace")
    if tracer is None:
        pytest.skip("strace is not installed")
    command = [tracer, "-o", log, "-e", "trace=sendto,recvfrom", program("load")]
    arguments = ["echo", echo_port, connections, 64, 0.05, 0.2]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False)
    if "ptrace" in done.stderr:
        pytest.skip(f"strace cannot trace here: {done.stderr.strip()}")
    calls = [line.partition("(")[0] for line in log.read_text().splitlines()]
    sent, received = calls.count("sendto"), calls.count("recvfrom")
    assert sent > 2 * connections
    assert 0 <= sent - received <= connections
    assert "EAGAIN" not in log.read_text()


# -- the echo server


def test_one_that_does_not_read_delays_nobody_and_gets_all(echo_port):
    data = random.Random(1).randbytes(1 << 20)
    with socket.socket() as slow, socket.create_connection(("127.0.0.1", echo_port)) as other:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        slow.connect(("127.0.0.1", echo_port))
        slow.settimeout(0.3)
        sent = 0
        with contextlib.suppress(TimeoutError):  # until both directions are full
            while True:
                sent += slow.send(data[sent % len(data) :])
        other.sendall(b"hello")
        assert other.recv(5, socket.MSG_WAITALL) == b"hello"
        slow.settimeout(PATIENCE_SECONDS)
        slow.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: slow.recv(1 << 16), b""))
    assert len(received) == sent
    assert received == (data * (sent // len(data) + 1))[:sent]


# -- source and pull


@pytest.mark.parametrize("size", [None, 1, 64, 1 << 20])
def test_source(size):
    with native("load", "source", *([] if size is None else [size])) as (_, port):
        with (
            socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as one,
            socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as other,
        ):
            one.sendall(bytes(3 << 20))  # is dropped, though nobody has read yet
            one.shutdown(socket.SHUT_WR)
            for connection in (one, other, one):
                received = 0
                while received < 100_000:
                    got = connection.recv(100_000)
                    assert got
                    received += len(got)


def moving(size):
    """What is not 0 when messages of this size are sent (0: none) and others received."""
    return ["bytes", "sent"] if size else ["bytes"]


@pytest.mark.parametrize("size", [0, 64, 262_144, 1 << 20])
def test_pull(size):
    with native("load", "source") as (_, port):
        found = measured("pull", 0, port, port, 3, size, happens=moving(size))
    assert list(found) == ["bytes", "sent"]
    assert found["bytes"] > 0
    assert (found["sent"] > 0) == (size > 0)


@pytest.mark.parametrize("size", [0, 4096])
@pytest.mark.parametrize("version", [4, 5])
def test_pull_through_a_proxy(proxy_port, version, size):
    with native("load", "source", 4096) as (_, port):
        found = measured("pull", version, proxy_port, port, 3, size, happens=moving(size))
    assert found["bytes"] > 0
    assert (found["sent"] > 0) == (size > 0)


@pytest.mark.client("microsocks")
def test_pull_through_microsocks():
    with microsocks() as address, native("load", "source") as (_, port):
        assert measured("pull", 5, address.rpartition(":")[2], port, 3, 0, happens=["bytes"])["bytes"] > 0


@pytest.mark.parametrize(
    ("how", "told"), [("connection.close()", "it has ended"), ("reset(connection)", "Connection reset by peer")]
)
def test_a_stream_that_is_lost(how, told):
    with scripted(f"connection.sendall(bytes(999)); {how}") as (_, port):
        with load("pull", 0, port, port, 1, 0, 0, 5) as client, pytest.raises(BenchError, match=told):
            while True:
                client.line()


# -- socks and churn


@pytest.mark.parametrize("mode", ["socks", "churn"])
@pytest.mark.parametrize(("version", "count"), [(0, 30), (4, 30), (5, 1), (5, 30), (5, 150)])
def test_connections(proxy_port, echo_port, mode, version, count):
    port = proxy_port if version else echo_port
    found = measured(mode, version, port, echo_port, count, happens=["ops"])
    assert list(found) == ATTEMPTS
    assert found["ops"] > 0
    assert found["failed"] == 0
    check_durations(found)


@pytest.mark.client("microsocks")
@pytest.mark.parametrize("mode", ["socks", "churn"])
def test_connections_through_microsocks(mode, echo_port):
    with microsocks() as address:
        found = measured(mode, 5, address.rpartition(":")[2], echo_port, 20, happens=["ops"])
    assert found["ops"] > 0
    assert found["failed"] == 0


@pytest.mark.parametrize(
    "body",
    [
        "connection.sendall(bytes([5, 255]))",
        "exactly(connection, 3); connection.sendall(bytes([5, 0])); exactly(connection, 10);"
        " connection.sendall(bytes([5, 2, 0, 1, 0, 0, 0, 0, 0, 0]))",
        "pass",
        "reset(connection)",
        "exactly(connection, 3); reset(connection)",
    ],
)
def test_what_a_proxy_refuses_has_failed(body):
    with scripted(body) as (_, port):
        found = measured("socks", 5, port, port, 3, happens=["failed"])
    assert found.pop("failed") > 0
    assert set(found.values()) == {0}


def test_one_that_is_refused_is_tried_again(closed_port):
    found = measured("socks", 5, closed_port, closed_port, 3, happens=["failed"])
    assert (found["ops"], found["failed"] > 3) == (0, True)


def test_some_fail_and_the_others_go_on(proxy_port):
    with scripted("reset(connection) if number % 3 else echo(connection)") as (_, port):
        found = measured("socks", 4, proxy_port, port, 5, happens=["ops", "failed"])
    assert found["ops"] > 0
    assert found["failed"] > 0


@pytest.mark.parametrize(("version", "code"), [(4, 91), (5, 5)])
def test_a_churn_that_cannot_begin(proxy_port, closed_port, version, code):
    with load("churn", version, proxy_port, closed_port, 3, 0, 1) as client:
        with pytest.raises(BenchError, match=f"status 1: request: the proxy said no, with {code}"):
            client.line()


def test_the_oldest_are_replaced():
    """Seen from the target: always as many stand, and what is closed has few that are older."""
    standing, making = 60, 16
    body = """
    connection.sendall(exactly(connection, 1))
    with lock:
        standing.add(number)
    connection.recv(1)
    with lock:
        print("of", len(standing), "older", sum(one < number for one in standing), flush=True)
        standing.remove(number)
    """
    with scripted(body) as (target, port), load("churn", 0, port, port, standing, 0, 20) as client:
        assert client.line() == ["start"]
        closed = [figures(target.line()) for _ in range(4 * standing)]
    # each is told by a thread of the target, at the time when that has its turn: what holds is the middle
    assert standing - making <= statistics.median(one["of"] for one in closed) <= standing + making
    assert (
        statistics.median(one["older"] for one in closed) <= making
    )  # half of those that stand, were they chosen by chance


def test_one_that_stands_and_is_lost_has_failed():
    body = """
    connection.sendall(exactly(connection, 1))
    if number >= 40:
        connection.recv(1)
    """
    with scripted(body) as (_, port):
        found = measured("churn", 0, port, port, 60, happens=["ops"])
    assert found["ops"] > 0
    assert 0 <= found["failed"] <= 40


# -- what proxies answer


def answering(*pieces):
    """A proxy that answers so and then is the target itself; it tells what it was asked."""
    steps = [f"asked += exactly(connection, {count}); {send(data)}" for count, data in pieces]
    return "\n".join(["asked = b''", *steps, "print('asked', asked.hex(), flush=True)", "echo(connection)"])


def send(data):
    """Byte by byte, each in a packet of its own."""
    return f"[connection.send(bytes([byte])) for byte in {data!r}]"


FIVE = bytes([5, 0, 0])


@pytest.mark.parametrize(
    ("version", "pieces"),
    [
        (4, [(9, bytes([0, 90]) + bytes(6))]),
        (5, [(3, b"\5\0"), (10, FIVE + bytes([1]) + bytes(6))]),
        (5, [(3, b"\5\0"), (10, FIVE + bytes([4]) + bytes(18))]),
        (5, [(3, b"\5\0"), (10, FIVE + b"\3\0" + bytes(2))]),
        (5, [(3, b"\5\0"), (10, FIVE + b"\3\4name" + bytes(2))]),
        (5, [(3, b"\5\0"), (10, FIVE + b"\3\xff" + bytes(255 + 2))]),
    ],
)
def test_answers_of_any_form_and_in_pieces(version, pieces):
    target_port = 4711
    with scripted(answering(*pieces)) as (proxy, port):
        with load("hold", version, port, target_port, 1, 1, 0.05) as client:
            assert client.line() == ["held", "1"]
            asked = bytes.fromhex(proxy.line()[1])
            client.tell("go")
            assert client.line() == ["start"]
            assert client.line()[0] == "ops"
            assert client.line() == ["alive", "1"]
            client.finish()
    address = target_port.to_bytes(2), socket.inet_aton("127.0.0.1")
    if version == 4:
        assert asked == bytes([4, 1]) + address[0] + address[1] + bytes(1)
    else:
        assert asked == bytes([5, 1, 0, 5, 1, 0, 1]) + address[1] + address[0]


# -- logging in

LOGIN_PROXY = """
import netnet
from netnet.socks.server import Server
from netnet.socks.settings import Authentication, Entrance, Settings, User

entrance = Entrance(authentication=Authentication.PASSWORD)
settings = Settings(users={{"alice": User("alice", "")}})

def main():
    with netnet.listen("127.0.0.1:0") as listener:
        print("port", listener.getsockname()[1], flush=True)
        verify = lambda user, password: (user, password) == ("alice", {password!r})
        Server(settings, entrances=[entrance], verify=verify).serve(listener)

netnet.run(main)
"""


@pytest.mark.parametrize("password", ["open sesame", "p" * 255])
def test_logging_in(monkeypatch, echo_port, password):
    monkeypatch.setenv("LOAD_USER", "alice")
    monkeypatch.setenv("LOAD_PASSWORD", password)
    with Process([sys.executable, "-c", LOGIN_PROXY.format(password=password)], keep_errors=True) as proxy:
        found = measured("socks", 5, proxy.port(), echo_port, 3, happens=["ops"])
    assert found["ops"] > 0
    assert found["failed"] == 0


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (bytes([5, 255]), "greeting: the proxy said no, with 255"),
        (bytes([5, 0]), "greeting: the proxy said no, with 0"),  # whoever is to log in does not go without
        (bytes([5, 2, 1, 1]), "login: the proxy said no, with 1"),
        (bytes([5, 2]), "login: Connection reset by peer"),
    ],
)
def test_a_login_that_is_refused(monkeypatch, answer, told):
    monkeypatch.setenv("LOAD_USER", "alice")
    monkeypatch.setenv("LOAD_PASSWORD", "secret")
    body = f"""
    assert exactly(connection, 3) == bytes([5, 1, 2])
    connection.sendall({answer[:2]!r})
    if {answer[2:]!r}:
        assert exactly(connection, 14) == b"\\1\\5alice\\6secret"
        connection.sendall({answer[2:]!r})
        connection.recv(1)
    elif {answer[1]} == 2:
        reset(connection)
    """
    with scripted(body) as (_, port), load("hold", 5, port, port, 1, 0, 0) as client:
        with pytest.raises(BenchError, match=told):
            client.line()


# -- hold


def test_hold(proxy_port, echo_port):
    with load("hold", 5, proxy_port, echo_port, 150, 7, 0.1) as client:
        assert client.line() == ["held", "150"]
        client.tell("go")
        assert client.line() == ["start"]
        words = client.line()
        assert client.line() == ["alive", "150"]
        client.finish()
    found = figures(words)
    assert list(found) == TRIPS
    assert found["ops"] > 0
    check_durations(found)


@pytest.mark.parametrize("how", ["connection.close()", "reset(connection)", "connection.shutdown(socket.SHUT_WR)"])
def test_what_does_not_live_to_the_end(how):
    body = f"""
    if number < 2:
        connection.recv(1)
        {how}
    else:
        echo(connection)
    """
    with scripted(body) as (_, port), load("hold", 0, port, port, 5, 0, 0) as client:
        assert client.line() == ["held", "5"]
        client.tell("go")
        assert client.line() == ["start"]
        assert client.line()[:2] == ["ops", "0"]
        assert client.line() == ["alive", "3"]
        client.finish()


def test_what_was_lost_before():
    body = """
    if number == 0:
        sys.stdin.readline()
        reset(connection)
        print("reset", flush=True)
    else:
        echo(connection)
    """
    with scripted(body) as (server, port), load("hold", 0, port, port, 3, 0, 0) as client:
        assert client.line() == ["held", "3"]
        server.tell("now")
        assert server.line() == ["reset"]
        client.tell("go")
        assert client.line() == ["start"]
        assert client.line()[:2] == ["ops", "0"]
        assert client.line() == ["alive", "2"]


# -- the relays


def descriptors(process):
    return len(os.listdir(f"/proc/{process.pid}/fd"))


@contextlib.contextmanager
def relayed(how):
    """The two ends of a connection through a relay, and the relay."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with native("relay", how, listener.getsockname()[1]) as (relay, port):
            with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as client:
                target, _ = listener.accept()
                with target:
                    target.settimeout(PATIENCE_SECONDS)
                    yield client, target, relay


def all_from(connection):
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


HOWS = pytest.mark.parametrize("how", ["splice", "copy"])


@HOWS
def test_the_end_of_one_way_is_passed_on(how):
    data = random.Random(3).randbytes(100_000)
    with relayed(how) as (client, target, _):
        client.sendall(b"asked")
        client.shutdown(socket.SHUT_WR)
        assert all_from(target) == b"asked"
        target.sendall(data)
        target.close()
        assert all_from(client) == data


@HOWS
def test_both_ways_at_once(how):
    """More than sockets, pipe and buffer hold, and neither end waits for the other."""
    data = random.Random(4).randbytes(12 << 20)
    with relayed(how) as (client, target, _):
        ends = {client: target, target: client}
        left = {one: memoryview(data) for one in ends}
        got = {one: bytearray() for one in ends}
        for one in ends:
            one.setblocking(False)
        while any(left.values()) or any(len(one) < len(data) for one in got.values()):
            readable, writable, _ = select.select(ends, [one for one in ends if left[one]], [], PATIENCE_SECONDS)
            assert readable or writable, "nothing moves"
            for one in readable:
                got[one] += one.recv(1 << 18)
            for one in writable:
                left[one] = left[one][one.send(left[one][: 1 << 18]) :]
        assert all(bytes(one) == data for one in got.values())


@HOWS
@pytest.mark.parametrize("half_closed", [False, True])
@pytest.mark.parametrize("who", [0, 1])
def test_a_reset_ends_both_and_leaves_nothing(how, who, half_closed):
    with relayed(how) as (client, target, relay):
        ends = (client, target)
        lost, other = ends[who], ends[not who]
        for one, peer in (ends, ends[::-1]):  # so that both ways have been used
            one.sendall(b"x")
            assert peer.recv(1) == b"x"
        standing = descriptors(relay)
        if half_closed:
            lost.shutdown(socket.SHUT_WR)
            assert other.recv(1) == b""
        lost.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        lost.close()
        with contextlib.suppress(ConnectionResetError):
            assert other.recv(1) == b""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while descriptors(relay) > standing - (6 if how == "splice" else 2):
            assert time.monotonic() < deadline, "the relay keeps what it had for the connection"
            time.sleep(0.005)
        relay.still_runs()


@HOWS
@pytest.mark.parametrize("size", [0, 64, 262_144])
def test_pull_through_a_relay(how, size):
    with native("load", "source", size or 262_144) as (_, target), native("relay", how, target) as (relay, port):
        for _ in range(2):
            found = measured("pull", 0, port, target, 5, size, happens=moving(size))
            assert found["bytes"] > 0
            assert (found["sent"] > 0) == (size > 0)
        relay.still_runs()


@pytest.mark.parametrize("arguments", [[], ["splice"], ["nonsense", "1"], ["copy", "1", "2"]])
def test_what_a_relay_does_not_take(arguments):
    done = subprocess.run([program("relay"), *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "usage: relay splice|copy TARGET_PORT\n")


def test_a_relay_without_a_target(closed_port):
    with native("relay", "copy", closed_port) as (relay, port):
        with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS):
            with pytest.raises(BenchError, match="status 1: connect to the target: Connection refused"):
                relay.line()


# -- the sources


@pytest.mark.parametrize("name", ["load", "echo", "relay"])
def test_nothing_to_warn_of(name, tmp_path):
    flags = ["-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *flags, "-o", tmp_path / name, SOURCES / f"{name}.c"], check=True)
