"""What is sent arrives, whole and in order, whichever protocol opened the way: bulk, halves that are closed, resets at each
step, clients that never read; and no faster than it may.
"""

from __future__ import annotations

import contextlib
import socket

import pytest

import netnet
from netnet.runtime.loop import running
from netnet.socks import Authentication, Ending, Entrance, Limits, User
from netnet.testing import VirtualClock, wait_all_parked
from tests.socks.conftest import echoing
from tests.socks.dialects import (
    ALL,
    NAMING,
    PLAIN,
    SOCKS5,
    STREAMS,
    Outcome,
    assert_refusal,
    data_of,
    digest,
    everything,
    exactly,
    reset,
)

MEGABYTE = 1 << 20


@contextlib.contextmanager
def joined(p, dialect, user=None, then=b""):
    """A client and the target's end of its connection, which stands; *then* was sent with the opening."""
    with netnet.listen("127.0.0.1:0") as target:
        said = () if user is None else (user, "x")
        with dialect.open(p, target.getsockname(), *said, then=then) as client:
            seen, _ = target.accept()
            with seen:
                dialect.granted(client, user)
                dialect.arrived(seen, target.getsockname())
                yield client, seen


@pytest.mark.parametrize("dialect", ALL, ids=str)
def test_a_megabyte_each_way_at_once(backend, run, proxy, dialect):
    up, down = data_of(MEGABYTE, 1), data_of(MEGABYTE, 2)

    def main():
        def send(sock, data):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)

        with proxy() as p:
            with joined(p, dialect) as (client, seen):
                netnet.spawn(send, client, up)
                netnet.spawn(send, seen, down)
                at_target = netnet.spawn(everything, seen)
                assert digest(everything(client)) == digest(down)
                assert digest(at_target.result()) == digest(up)
            session = p.ended()
            assert (session.received, session.ending) == (MEGABYTE, Ending.CLOSED)
            assert session.sent - MEGABYTE == (len(head_bytes(session)) if dialect is PLAIN else 0)

    run(main)


def head_bytes(session):
    """What the proxy has sent of its own."""
    return f"GET /a?b HTTP/1.1\r\nHost: {session.target}\r\nConnection: close\r\n\r\n".encode()


@pytest.mark.parametrize("dialect", ALL, ids=str)
@pytest.mark.parametrize("size", [1, 3000, 4096, 60_000])
def test_optimistic_data(run, proxy, dialect, size):
    """All glued together, login included; nothing is lost between the handshake and the relay."""
    data = data_of(size)
    gate = Entrance(authentication=Authentication.OPTIONAL)

    def main():
        with proxy(entrance=gate, verify=lambda *_: True) as p:
            user = "ann" if dialect.takes_logins else None
            with joined(p, dialect, user, then=data) as (client, seen):
                assert exactly(seen, size) == data
                client.sendall(b"more")
                assert exactly(seen, 4) == b"more"
            assert p.ended().user == user

    run(main)


@pytest.mark.parametrize("dialect", ALL, ids=str)
def test_everything_and_the_end_in_one_go(run, proxy, dialect):
    def main():
        with netnet.listen("127.0.0.1:0") as target, proxy() as p:
            with dialect.open(p, target.getsockname(), then=b"question") as client:
                client.shutdown(socket.SHUT_WR)
                seen, _ = target.accept()
                with seen:
                    dialect.arrived(seen, target.getsockname())
                    assert everything(seen) == b"question"
                    seen.sendall(b"answer")
                dialect.granted(client)
                assert everything(client) == b"answer"
            assert p.ended().ending is Ending.CLOSED

    run(main)


@pytest.mark.parametrize("dialect", ALL, ids=str)
def test_byte_by_byte(run, proxy, dialect):
    gate = Entrance(authentication=Authentication.OPTIONAL)

    def main():
        with netnet.listen("127.0.0.1:0") as target, proxy(entrance=gate, verify=lambda *_: True) as p:
            user = "ann" if dialect.takes_logins else None
            with p.client() as client:
                for byte in dialect.opening(*target.getsockname(), user):
                    client.sendall(bytes([byte]))
                    for _ in range(3):
                        netnet.sleep(0)
                seen, _ = target.accept()
                with seen:
                    dialect.granted(client, user)
                    dialect.arrived(seen, target.getsockname())
                    seen.sendall(b"welcome")
                assert everything(client) == b"welcome"

    run(main)


@pytest.mark.parametrize("dialect", ALL, ids=str)
@pytest.mark.parametrize("who", ["client", "target"])
def test_one_side_finishes_and_the_other_goes_on(backend, run, proxy, dialect, who):
    """For longer than the linger allows silence, since it is not silent."""

    def main():
        with proxy(limits=Limits(linger_seconds=5)) as p:
            with joined(p, dialect) as (client, seen):
                first, second = (client, seen) if who == "client" else (seen, client)
                first.sendall(b"done")
                first.shutdown(socket.SHUT_WR)
                assert everything(second) == b"done"
                for _ in range(10):
                    netnet.sleep(4)
                    second.sendall(b"still here")
                    assert exactly(first, 10) == b"still here"
                second.shutdown(socket.SHUT_WR)
                assert everything(first) == b""
            assert p.ended().ending is Ending.CLOSED

    run(main, clock=VirtualClock())


# -- resets


@pytest.mark.parametrize("dialect", ALL, ids=str)
@pytest.mark.parametrize("who", ["client", "target"])
def test_a_reset_is_handed_on(backend, run, proxy, dialect, who):
    def main():
        with proxy() as p:
            with joined(p, dialect) as (client, seen):
                first, second = (client, seen) if who == "client" else (seen, client)
                wait_all_parked()
                reset(first)
                with pytest.raises(ConnectionResetError):
                    second.recv(1)
            session = p.ended()
            assert (session.ending, session.detail) == (Ending.RESET, "Connection reset by peer")

    run(main)


@pytest.mark.parametrize("dialect", ALL, ids=str)
def test_a_client_that_resets_after_each_byte(run, proxy, dialect):
    """However far it has come, it ends, and nothing is left over."""

    def main():
        with echoing() as target, proxy() as p:
            whole = dialect.opening(*target.getsockname()) + b"data"
            for count in range(len(whole) + 1):
                client = p.client(whole[:count])
                wait_all_parked()
                reset(client)
                session = p.ended(count + 1)
                assert session.ending in (Ending.CLIENT_LEFT, Ending.RESET)
            assert not p.server.sessions
            assert not running.loop.relays

    run(main)


@pytest.mark.parametrize("dialect", ALL, ids=str)
@pytest.mark.parametrize("then", [b"", b"optimistic", b"x" * 4000])
def test_a_target_that_resets_at_once(run, proxy, dialect, then):
    """The client hears a reset, or an end, but never the words of the proxy where the target's data should be."""

    def main():
        with netnet.listen("127.0.0.1:0") as target, proxy() as p:
            task = netnet.spawn(lambda: reset(target.accept()[0]))
            with dialect.open(p, target.getsockname(), then=then) as client:
                heard = b""
                with contextlib.suppress(ConnectionResetError):
                    heard = everything(client)
            task.join()
            session = p.ended()
            if session.ending is Ending.REFUSED:  # the reset was there before the connection was looked at
                assert_refusal(dialect, heard, Outcome.REFUSED, dialect.before())
            else:
                assert session.ending is Ending.RESET
                granted = {"http": (0,), "connect": (0, 39), "socks5": (0, 2, 12)}.get(dialect.name, (0, 8))
                assert len(heard) in granted

    run(main)


@pytest.mark.parametrize("dialect", STREAMS, ids=str)
def test_a_target_that_takes_nothing_of_what_was_sent_first(run, proxy, dialect):
    """Its time is limited, and then the client hears a reset: it was told already that it is connected."""

    def main():
        with netnet.listen("127.0.0.1:0") as target, contextlib.ExitStack() as stack:

            def dial(address):
                sock = netnet.connect(target.getsockname())
                stack.enter_context(target.accept()[0])
                sock.settimeout(0)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        sock.send(b"x" * MEGABYTE)  # until its peer's buffers are full
                sock.settimeout(None)
                return sock

            with proxy(dial=dial, limits=Limits(connect_seconds=6)) as p:
                with dialect.open(p, ("127.0.0.1", 9), then=b"first") as client:
                    dialect.granted(client)
                    with pytest.raises(ConnectionResetError):
                        client.recv(1)
                assert netnet.now() == 6
                session = p.ended()
                assert (session.ending, session.sent, "6 s" in session.detail) == (Ending.RESET, 0, True)

    run(main, clock=VirtualClock())


def test_a_relay_that_is_over_before_it_has_begun(run, proxy):
    """The client's next data is there already, and the target takes none: it is counted and reported once."""
    padding = b"CONNECT 127.0.0.1:9 HTTP/1.1\r\nX: \r\n\r\n"
    head = padding.replace(b"X: ", b"X: " + b"x" * (4096 - len(padding)))  # all that is received at once

    def main():
        with netnet.listen("127.0.0.1:0") as target:

            def dial(address):
                sock = netnet.connect(target.getsockname())
                sock.shutdown(socket.SHUT_WR)
                return sock

            with proxy(dial=dial) as p, p.client(head + b"more") as client:
                seen, _ = target.accept()
                with seen:
                    with contextlib.suppress(ConnectionResetError):
                        everything(client)
                    session = p.ended()
                    assert (session.ending, session.detail) == (Ending.RESET, "Broken pipe")
                    assert (session.bytes_sent, session.bytes_received) == (0, 0)
                wait_all_parked()
                assert session.relay is None

    run(main)


# -- who does not read


@pytest.mark.parametrize("dialect", ALL, ids=str)
def test_a_client_that_never_reads(run, proxy, dialect):
    """It holds up its own target, nobody else, and until the limit of silence only."""

    def main():
        with proxy(limits=Limits(idle_seconds=60)) as p, echoing() as other:
            with netnet.listen("127.0.0.1:0") as target, dialect.open(p, target.getsockname()) as deaf:
                seen, _ = target.accept()
                with seen:

                    def flood():
                        with contextlib.suppress(ConnectionError):
                            seen.sendall(bytes(64 * MEGABYTE))

                    task = netnet.spawn(flood)
                    wait_all_parked()
                    assert not task.done
                    with dialect.open(p, other.getsockname()) as client:
                        dialect.granted(client)
                        assert netnet.now() == 0
                    task.join()
                    assert netnet.now() == 60
            assert p.ended(2).ending is Ending.IDLE
            del deaf

    run(main, clock=VirtualClock())


# -- no faster


@pytest.mark.parametrize("dialect", ALL, ids=str)
@pytest.mark.parametrize("way", ["up", "down"])
def test_bandwidth_of_a_connection(run, proxy, dialect, way):
    """100 kB at 10 kB a second: the burst of 16 KiB at once, the rest in its time. The other way is free meanwhile."""
    data = data_of(100_000)

    def main():
        with proxy(limits=Limits(bandwidth_per_connection=10_000)) as p:
            with joined(p, dialect) as (client, seen):
                sender, receiver = (client, seen) if way == "up" else (seen, client)
                began = netnet.now()
                netnet.spawn(sender.sendall, data)
                assert digest(exactly(receiver, len(data))) == digest(data)
                assert 8.2 < netnet.now() - began < 8.7
                receiver.sendall(b"back")
                moment = netnet.now()
                assert exactly(sender, 4) == b"back"
                assert netnet.now() == moment

    run(main, clock=VirtualClock())


def test_bandwidth_of_a_user_is_shared_by_its_connections(run, proxy):
    users = {"ann": User("ann", "x"), "bob": User("bob", "x", bandwidth=50_000)}
    options = {
        "entrance": Entrance(authentication=Authentication.OPTIONAL),
        "users": users,
        "verify": lambda *_: True,
        "limits": Limits(bandwidth_per_user=10_000),
    }
    data = data_of(50_000)

    def main():
        times = {}

        def fetch(p, name, user):
            with joined(p, SOCKS5, user) as (client, seen):
                netnet.spawn(seen.sendall, data)
                assert exactly(client, len(data)) == data
                times[name] = netnet.now()

        with proxy(**options) as p:
            with netnet.TaskGroup() as group:
                for name, user in [("ann 1", "ann"), ("ann 2", "ann"), ("bob", "bob"), ("nobody", None)]:
                    group.spawn(fetch, p, name, user)
            p.ended(4)
        assert times["nobody"] == 0
        assert 0.6 < times["bob"] < 0.8
        assert 8.2 < max(times["ann 1"], times["ann 2"]) < 9.2  # 100 kB together
        assert min(times["ann 1"], times["ann 2"]) > 5  # neither has starved the other

    run(main, clock=VirtualClock())


def test_a_throttled_connection_is_not_idle(run, proxy):
    def main():
        with proxy(limits=Limits(bandwidth_per_connection=1000, idle_seconds=2)) as p:
            with joined(p, SOCKS5) as (client, seen):
                netnet.spawn(seen.sendall, bytes(50_000))
                assert len(exactly(client, 50_000)) == 50_000
            assert p.ended().ending in (Ending.CLOSED, Ending.RESET)

    run(main, clock=VirtualClock())


# -- many


@pytest.mark.parametrize("backend", ["epoll"], indirect=True)
def test_three_hundred_at_once_in_all_the_protocols(backend, run, proxy, limited_descriptors):
    def main():
        gate = Entrance(authentication=Authentication.OPTIONAL)
        with echoing() as target, proxy(entrance=gate, verify=lambda *_: True) as p:
            address = target.getsockname()
            clients = [(number, ALL[number % 5], p.client()) for number in range(300)]

            def talk(number, dialect, client):
                user = f"user{number}" if dialect.takes_logins and number % 2 else None
                data = data_of(1000 + number, number)
                with client:
                    client.sendall(dialect.opening(*address, user) + data)
                    dialect.granted(client, user)
                    dialect.arrived(client, address)
                    assert exactly(client, len(data)) == data
                    client.shutdown(socket.SHUT_WR)
                    assert everything(client) == b""

            with netnet.TaskGroup() as group:
                for one in clients:
                    group.spawn(talk, *one)
            p.ended(300)
            assert {session.ending for session in p.sessions} == {Ending.CLOSED}
            assert {session.protocol for session in p.sessions} == {"socks4", "socks4a", "socks5", "http"}
            assert sum(1 for session in p.sessions if session.user) == 90

    run(main)


@pytest.mark.parametrize("dialect", NAMING, ids=str)
def test_the_session_tells_it_all(run, proxy, dialect):
    gate = Entrance("gate", authentication=Authentication.OPTIONAL)

    def main():
        table = netnet.use_resolver(netnet.HostTable({"t.test": "127.0.0.1"}))
        with table, echoing() as target, proxy(entrance=gate, verify=lambda *_: True) as p:
            user = "ann" if dialect.takes_logins else None
            port = target.getsockname()[1]
            with dialect.open(p, ("t.test", port), user) as client:
                dialect.granted(client, user)
                head = dialect.arrived(client, ("t.test", port))
                own = client.getsockname()
            session = p.ended()
            assert session.fields(0) == {
                "client": f"127.0.0.1:{own[1]}",
                "listener": "gate",
                "protocol": dialect.protocol,
                "user": user,
                "command": "connect",
                "target": f"t.test:{port}",
                "address": "127.0.0.1",
                "rule": "",
                "route": "",
                "sent": head,
                "received": head,
                "seconds": 0.0,
                "ending": "closed",
                "detail": "",
            }
            who = f"ann@127.0.0.1:{own[1]}" if user else f"127.0.0.1:{own[1]}"
            assert session.line(0) == f"{who} -> t.test:{port} {head}/{head} bytes 0.000 s closed"

    run(main, clock=VirtualClock())
