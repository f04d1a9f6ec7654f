"""BIND and UDP ASSOCIATE by way of the server: both replies, who may come, what is counted, and how it ends. What they do
beneath is in ``test_bind`` and ``test_associate``.
"""

from __future__ import annotations

import contextlib
import socket

import pytest

import netnet
from netnet.runtime.loop import running
from netnet.socks import Authentication, Ending, Entrance, Limits
from netnet.testing import VirtualClock, wait_all_parked
from tests.socks.dialects import data_of, digest, everything, exactly, reply_of_socks5, reset
from tests.socks.wire import REFUSAL, greeting, login, reply5, request, request5

SECONDS = Limits(bind_seconds=20, idle_seconds=50)
HEADER = bytes(3)


def reply_of_socks4(client, code=0x5A):
    answer = exactly(client, 8)
    assert answer[:2] == bytes([0, code])
    return socket.inet_ntoa(answer[4:]), int.from_bytes(answer[2:4], "big")


def ask4(host, port=0, *, name=None):
    return request(host, port, command=2, name=name)


def ask5(host, port=0):
    return greeting(0) + request5(host, port, command=2)


@contextlib.contextmanager
def binding(p, version, host="0.0.0.0", then=b""):
    """A client whose binding stands: the client, a function that reads a reply, and the address that it was told."""
    with p.client((ask4(host) if version == 4 else ask5(host)) + then) as client:
        if version == 5:
            assert exactly(client, 2) == b"\5\0"

        def reply():
            return reply_of_socks4(client) if version == 4 else reply_of_socks5(client, 0)

        yield client, reply, reply()


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_both_replies_and_data_both_ways(backend, run, proxy, version, host):
    up, down = data_of(300_000, 1), data_of(300_000, 2)

    def main():
        with proxy() as p:
            with binding(p, version, host) as (client, reply, bound):
                assert bound[0] == "127.0.0.1"
                with netnet.connect(bound) as peer:
                    assert reply() == peer.getsockname()
                    netnet.spawn(client.sendall, up)
                    assert digest(exactly(peer, len(up))) == digest(up)
                    netnet.spawn(peer.sendall, down)
                    assert digest(exactly(client, len(down))) == digest(down)
            session = p.ended()
            assert (session.sent, session.received, session.ending) == (len(up), len(down), Ending.CLOSED)
            assert (session.command, session.address) == ("bind", "127.0.0.1")
            assert session.line(0).startswith(f"{session.client} -> bind {host}:0 300000/300000 bytes")

    run(main)


@pytest.mark.parametrize("version", [4, 5])
def test_what_was_sent_before_anybody_came(run, proxy, version):
    """With the request, after it, while it waits: all of it, and in order."""

    def main():
        with proxy() as p:
            with binding(p, version, then=b"one ") as (client, reply, bound):
                client.sendall(b"two ")
                wait_all_parked()
                client.sendall(b"three")
                with netnet.connect(bound) as peer:
                    reply()
                    assert exactly(peer, 13) == b"one two three"
            session = p.ended()
            assert session.sent == 13

    run(main)


def test_nobody_listens_there_any_more(run, proxy):
    def main():
        with proxy() as p, binding(p, 5) as (_, reply, bound):
            with netnet.connect(bound) as peer:
                reply()
                with pytest.raises(ConnectionRefusedError):
                    netnet.connect(bound)
                peer.sendall(b"x")

    run(main)


def test_a_name_that_is_expected(run, proxy):
    def main():
        with netnet.use_resolver(netnet.HostTable({"peer.test": "127.0.0.2"})), proxy() as p:
            for data, skipped, reply in [
                (ask4("", name="peer.test"), 0, reply_of_socks4),
                (ask5("peer.test"), 2, lambda client: reply_of_socks5(client, 0)),
            ]:
                with p.client(data) as client:
                    exactly(client, skipped) if skipped else None
                    with netnet.connect(reply(client), source="127.0.0.2"):
                        assert reply(client)[0] == "127.0.0.2"
            for number, data in enumerate([ask4("", name="no.test"), ask5("no.test")], 3):
                with p.client(data) as client:
                    assert everything(client) in (REFUSAL, b"\5\0" + reply5(4))
                assert p.ended(number).ending is Ending.UNRESOLVED

    run(main)


def assert_turned_away(peer):
    with pytest.raises(ConnectionResetError):
        peer.recv(1)


def test_the_wrong_peer_ends_it_in_socks4(run, proxy):
    def main():
        with proxy() as p, binding(p, 4, "127.0.0.1") as (client, _, bound):
            with netnet.connect(bound, source="127.0.0.2") as stranger:
                assert_turned_away(stranger)
            assert everything(client) == REFUSAL
            session = p.ended()
            assert session.ending is Ending.DENIED
            assert "127.0.0.2" in session.detail

    run(main)


def test_the_wrong_peer_ends_nothing_in_socks5(run, proxy):
    def main():
        with proxy() as p, binding(p, 5, "127.0.0.1") as (client, reply, bound):
            for _ in range(3):
                with netnet.connect(bound, source="127.0.0.2") as stranger:
                    assert_turned_away(stranger)
            with netnet.connect(bound, source="127.0.0.1") as peer:
                assert reply() == peer.getsockname()
                peer.sendall(b"x")
                assert exactly(client, 1) == b"x"

    run(main)


@pytest.mark.parametrize("version", [4, 5])
def test_nobody_comes(run, proxy, version):
    def main():
        with proxy(limits=SECONDS) as p, binding(p, version) as (client, _, bound):
            assert everything(client) == (REFUSAL if version == 4 else reply5(6))
            assert netnet.now() == 20
            session = p.ended()
            assert (session.ending, session.detail) == (Ending.CONNECT_TIMEOUT, "nobody came")
            with pytest.raises(ConnectionRefusedError):
                netnet.connect(bound)

    run(main, clock=VirtualClock())


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("way", [lambda client: client.close(), reset])
def test_a_client_that_leaves_while_it_waits(run, proxy, version, way):
    def main():
        with proxy() as p, binding(p, version) as (client, _, bound):
            wait_all_parked()
            way(client)
            assert p.ended().ending is Ending.CLIENT_LEFT
            with pytest.raises(ConnectionRefusedError):
                netnet.connect(bound)

    run(main)


def test_silence_after_a_peer_has_come(run, proxy):
    def main():
        with proxy(limits=SECONDS) as p, binding(p, 5) as (client, reply, bound):
            with netnet.connect(bound) as peer:
                reply()
                assert p.ended().ending is Ending.IDLE
                assert netnet.now() == 50
                for sock in (client, peer):
                    assert_turned_away(sock)

    run(main, clock=VirtualClock())


def test_the_address_that_is_told(run, proxy):
    def main():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        gate = Entrance(advertise="192.0.2.1", ports=(port, port))
        with proxy(entrance=gate) as p:
            for command in (2, 3):
                with p.client(greeting(0) + request5("0.0.0.0", 0, command=command)) as client:
                    assert exactly(client, 2) == b"\5\0"
                    assert reply_of_socks5(client, 0) == ("192.0.2.1", port)
                    if command == 2:
                        with p.client(ask5("0.0.0.0")) as second:  # the only port is taken
                            assert everything(second)[:4] == b"\5\0\5\1"
                p.ended(3 if command == 3 else 2)

    run(main)


# -- datagrams


@contextlib.contextmanager
def associated(p, who=b"", host="0.0.0.0", port=0):
    """A client with an association: its connection, its datagram socket, and where to send to."""
    with (
        p.client((who or greeting(0)) + request5(host, port, command=3)) as client,
        netnet.Socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        udp.bind(("127.0.0.1", 0))
        exactly(client, 4 if who else 2)
        yield client, udp, reply_of_socks5(client, 0)


@contextlib.contextmanager
def udp_target():
    with netnet.Socket(socket.AF_INET, socket.SOCK_DGRAM) as target:
        target.bind(("127.0.0.1", 0))
        yield target


def exchange(udp, relay, target, data):
    """To the target and back, twice as long."""
    where = request5(*target.getsockname())[3:]
    udp.sendto(HEADER + where + data, relay)
    came, source = target.recvfrom(70_000)
    assert came == data
    target.sendto(data * 2, source)
    assert udp.recv(70_000) == HEADER + where + data * 2


def test_datagrams_there_and_back(backend, run, proxy):
    def main():
        with proxy() as p, udp_target() as target:
            with associated(p) as (_, udp, relay):
                assert relay[0] == "127.0.0.1"
                for size in (0, 1, 1000, 30_000):
                    exchange(udp, relay, target, data_of(size))
                (session,) = p.server.sessions
                assert (session.bytes_sent, session.bytes_received) == (31_001, 62_002)
                assert (session.sent, session.received) == (0, 0)  # not counted twice
            session = p.ended()
            assert (session.sent, session.received, session.ending) == (31_001, 62_002, Ending.CLOSED)
            assert (session.command, session.relay) == ("associate", None)
            assert " -> associate 0.0.0.0:0 31001/62002 bytes" in session.line(0)
            assert not running.loop.relays

    run(main)


def test_datagrams_to_a_name(run, proxy):
    def main():
        with netnet.use_resolver(netnet.HostTable({"t.test": "127.0.0.1"})), proxy() as p, udp_target() as target:
            with associated(p) as (_, udp, relay):
                udp.sendto(HEADER + request5("t.test", target.getsockname()[1])[3:] + b"x", relay)
                assert target.recv(10) == b"x"

    run(main)


def test_datagrams_of_a_user_who_is_throttled(run, proxy):
    options = {"entrance": Entrance(authentication=Authentication.OPTIONAL), "verify": lambda *_: True}

    def main():
        with proxy(limits=Limits(bandwidth_per_user=1000), **options) as p, udp_target() as target:
            with associated(p, greeting(2) + login("ann", "x")) as (_, udp, relay):
                for _ in range(30):
                    udp.sendto(HEADER + request5(*target.getsockname())[3:] + bytes(1000), relay)
                wait_all_parked()
                (session,) = p.server.sessions
                assert session.user == "ann"
                assert 14_000 <= session.bytes_sent <= 17_000  # the burst
                assert session.relay.dropped["throttled"] == 30 - session.bytes_sent // 1000
            p.ended()

    run(main, clock=VirtualClock())


@pytest.mark.parametrize("way", ["closes", "resets", "is silent", "floods"])
def test_how_an_association_ends(run, proxy, way):
    endings = {"closes": Ending.CLOSED, "resets": Ending.RESET, "is silent": Ending.IDLE, "floods": Ending.RESET}

    def main():
        with proxy(limits=SECONDS) as p, udp_target() as target, associated(p) as (client, udp, relay):
            exchange(udp, relay, target, b"x")
            if way == "closes":
                client.close()
            elif way == "resets":
                reset(client)
            elif way == "floods":
                with contextlib.suppress(ConnectionError):
                    client.sendall(bytes(200_000))
            session = p.ended()
            assert session.ending is endings[way]
            assert (netnet.now() == 50) == (way == "is silent")
            assert (session.sent, session.received) == (1, 2)

    run(main, clock=VirtualClock())


def test_a_stranger_does_not_get_in(run, proxy):
    def main():
        with proxy() as p, udp_target() as target, associated(p) as (_, udp, relay):
            with netnet.Socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.bind(("127.0.0.2", 0))
                stranger.sendto(HEADER + request5(*target.getsockname())[3:] + b"evil", relay)
                wait_all_parked()
                exchange(udp, relay, target, b"good")
            (session,) = p.server.sessions
            assert session.bytes_sent == 4

    run(main)


@pytest.mark.parametrize("command", [2, 3])
def test_both_count_as_connections(run, proxy, command):
    def main():
        with proxy(limits=Limits(connections_per_client=1)) as p:
            with p.client(greeting(0) + request5("0.0.0.0", 0, command=command)) as client:
                exactly(client, 12)
                with p.client(greeting(0)) as second:
                    assert turned_away(second)
            p.ended(2)
            with p.client(greeting(0)) as third:
                assert exactly(third, 2) == b"\5\0"

    run(main)


def turned_away(client):
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
