"""Behind a load balancer, which says by PROXY protocol for whom it connects: in front of each protocol, who may say it, and
that from there on it is the client that counts.
"""

from __future__ import annotations

import ipaddress
import socket
import struct

import pytest

import netnet
from netnet.socks import Authentication, Ending, Entrance, Limits, Rule, Rules, Server
from netnet.testing import VirtualClock, wait_all_parked
from tests.socks.conftest import echoing
from tests.socks.dialects import ALL, SOCKS5, Outcome, everything, exactly, reply_of_socks5, reset
from tests.socks.wire import choice, greeting, login, login_status, request5

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
BEHIND = Entrance("behind", proxy_protocol=True, proxy_protocol_from=("127.0.0.1",))


def version1(host, port):
    family = "TCP6" if ":" in host else "TCP4"
    return f"PROXY {family} {host} {'::1' if ':' in host else '192.0.2.1'} {port} 1080\r\n".encode()


def version2(host, port, tlvs=b""):
    address = ipaddress.ip_address(host)
    body = address.packed * 2 + struct.pack(">HH", port, 1080) + tlvs
    return SIGNATURE + bytes([0x21, 0x11 if address.version == 4 else 0x21]) + struct.pack(">H", len(body)) + body


def with_tlvs(host, port):
    return version2(host, port, b"\x04\0\x64" + bytes(100))


VERSIONS = [version1, version2, with_tlvs]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dialect", ALL, ids=str)
@pytest.mark.parametrize(("host", "text"), [("203.0.113.7", "203.0.113.7:5000"), ("2001:db8::7", "[2001:db8::7]:5000")])
def test_in_front_of_each_protocol(run, proxy, version, dialect, host, text):
    def main():
        with echoing() as target, proxy(entrance=BEHIND) as p:
            opening = version(host, 5000) + dialect.opening(*target.getsockname())
            with p.client(opening + b"x") as client:  # all at once
                dialect.granted(client)
                dialect.arrived(client, target.getsockname())
                assert exactly(client, 1) == b"x"
            session = p.ended()
            assert (session.client, session.protocol, session.ending) == (text, dialect.protocol, Ending.CLOSED)

    run(main)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dialect", ALL, ids=str)
def test_byte_by_byte(run, proxy, version, dialect):
    def main():
        with echoing() as target, proxy(entrance=BEHIND) as p, p.client() as client:
            for byte in version("203.0.113.7", 5000) + dialect.opening(*target.getsockname()):
                client.sendall(bytes([byte]))
                for _ in range(3):
                    netnet.sleep(0)
            dialect.granted(client)
            dialect.arrived(client, target.getsockname())
            client.sendall(b"x")
            assert exactly(client, 1) == b"x"

    run(main)


@pytest.mark.parametrize(
    "header", [b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ffff:: ::1 1 2\r\n", SIGNATURE + b"\x20\0\0\0"], ids=range(3)
)
def test_the_balancers_own_connections(run, proxy, header):
    """Health checks: the peer is the client."""

    def main():
        with echoing() as target, proxy(entrance=BEHIND) as p:
            with p.client(header + SOCKS5.opening(*target.getsockname())) as client:
                SOCKS5.granted(client)
                own = client.getsockname()
            assert p.ended().client == f"{own[0]}:{own[1]}"

    run(main)


@pytest.mark.parametrize("dialect", ALL, ids=str)
def test_nobody_else_may_say_it(run, proxy, dialect):
    """Neither is what they say believed, nor are they served."""

    def main():
        with echoing() as target, proxy(entrance=BEHIND) as p:
            opening = version1("203.0.113.7", 5000) + dialect.opening(*target.getsockname())
            with p.client(opening, source="127.0.0.2") as client:
                assert_shut(client)
            session = p.ended()
            assert session.ending is Ending.DENIED
            assert session.client.startswith("127.0.0.2:")

    run(main)


def assert_shut(client):
    try:
        assert everything(client) == b""
    except ConnectionResetError:  # what it has sent was not read
        pass


@pytest.mark.parametrize("dialect", ALL, ids=str)
def test_it_has_to_be_said(run, proxy, dialect):
    def main():
        with echoing() as target, proxy(entrance=BEHIND) as p:
            with dialect.open(p, target.getsockname()) as client:
                assert_shut(client)
            session = p.ended()
            assert session.ending is Ending.BAD_REQUEST
            assert session.detail.startswith("PROXY protocol:")

    run(main)


@pytest.mark.parametrize("sent", [b"", b"PROXY TCP4 1.2", SIGNATURE, version1("1.2.3.4", 5)])
def test_it_is_part_of_the_handshakes_time(run, proxy, sent):
    def main():
        with proxy(entrance=BEHIND, limits=Limits(handshake_seconds=7)) as p, p.client(sent) as client:
            assert everything(client) == b""
            assert netnet.now() == 7
            assert p.ended().ending is Ending.HANDSHAKE_TIMEOUT

    run(main, clock=VirtualClock())


@pytest.mark.parametrize("sent", [b"", b"PROXY TCP4 1.2", version1("1.2.3.4", 5)])
def test_a_balancer_that_leaves(run, proxy, sent):
    def main():
        with proxy(entrance=BEHIND) as p:
            for number, way in enumerate([reset, lambda client: client.close()], 1):
                client = p.client(sent)
                wait_all_parked()
                way(client)
                assert p.ended(number).ending is Ending.CLIENT_LEFT

    run(main)


def test_limits_count_the_client_that_was_told(run, proxy):
    def main():
        limits = Limits(connections_per_client=1)
        with echoing() as target, proxy(entrance=BEHIND, limits=limits) as p:

            def come(host, port):
                return p.client(version2(host, port) + SOCKS5.opening(*target.getsockname()))

            with come("203.0.113.7", 1) as first, come("203.0.113.8", 1) as other:
                SOCKS5.granted(first)
                SOCKS5.granted(other)
                with come("203.0.113.7", 2) as second:
                    assert_shut(second)
                session = p.ended()
                assert (session.ending, session.client) == (Ending.LIMIT, "203.0.113.7:2")
            p.ended(3)
            with come("::ffff:203.0.113.7", 3) as again:  # the same one, in other clothes
                SOCKS5.granted(again)

    run(main)


def test_rules_and_bans_see_the_client_that_was_told(run, proxy):
    limits = Limits(failed_logins_free=10, failed_logins_max=2)
    rules = Rules([Rule("not them", False, clients=("203.0.113.0/24",))])
    gate = Entrance(proxy_protocol=True, authentication=Authentication.OPTIONAL)

    def main():
        with echoing() as target, proxy(entrance=gate, limits=limits, rules=rules, verify=lambda *_: False) as p:
            with p.client(version1("203.0.113.7", 1) + SOCKS5.opening(*target.getsockname())) as client:
                SOCKS5.refused(client, Outcome.DENIED)
            with p.client(version1("198.51.100.1", 1) + SOCKS5.opening(*target.getsockname())) as client:
                SOCKS5.granted(client)
            for _ in range(2):
                with p.client(version1("198.51.100.1", 1) + greeting(2) + login("a", "b")) as client:
                    assert everything(client) == choice(2) + login_status(1)
            with p.client(version1("198.51.100.1", 1) + SOCKS5.opening(*target.getsockname())) as client:
                assert_shut(client)
            with p.client(version1("198.51.100.2", 1) + SOCKS5.opening(*target.getsockname())) as client:
                SOCKS5.granted(client)
            assert p.server.admission.ledger.bans()[0][0] == "198.51.100.1"

    run(main, clock=VirtualClock())


def test_datagrams_come_from_the_client_that_was_told(run, proxy):
    """And not from the balancer, whose connection it is."""

    def main():
        with (
            proxy(entrance=BEHIND) as p,
            netnet.Socket(socket.AF_INET, socket.SOCK_DGRAM) as target,
            netnet.Socket(socket.AF_INET, socket.SOCK_DGRAM) as balancer,
            netnet.Socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            for sock, host in [(target, "127.0.0.1"), (balancer, "127.0.0.1"), (udp, "127.0.0.2")]:
                sock.bind((host, 0))
            opening = version2("127.0.0.2", 5000) + greeting(0) + request5("0.0.0.0", 0, command=3)
            with p.client(opening) as client:
                assert exactly(client, 2) == choice(0)
                relay = reply_of_socks5(client, 0)
                where = bytes(3) + request5(*target.getsockname())[3:]
                balancer.sendto(where + b"balancer", relay)
                wait_all_parked()
                udp.sendto(where + b"client", relay)
                assert target.recv(100) == b"client"

    run(main)


def test_a_unix_socket_with_a_balancer_behind_it(run, tmp_path):
    sessions = []

    def main():
        gate = Entrance("unix", proxy_protocol=True, proxy_protocol_from=("unix",))
        with echoing() as target, netnet.listen(f"unix:{tmp_path}/p") as listener:
            server = Server(entrances=[gate], report=sessions.append)
            task = netnet.spawn(server.serve, listener)
            with netnet.connect(f"unix:{tmp_path}/p") as client:
                client.sendall(version2("203.0.113.7", 5000) + SOCKS5.opening(*target.getsockname()))
                SOCKS5.granted(client)
            while not sessions:
                netnet.sleep(0)
            task.cancel()
        assert sessions[0].client == "203.0.113.7:5000"

    run(main)


@pytest.mark.parametrize("networks", [("nonsense",), ("10.0.0.1/8",), ("10.0.0.0/8", "")])
def test_networks_that_are_none_are_said_at_once(run, networks):
    def main():
        with netnet.listen("127.0.0.1:0") as listener:
            server = Server(entrances=[Entrance(proxy_protocol=True, proxy_protocol_from=networks)])
            with pytest.raises(netnet.UsageError, match="no network"):
                server.serve(listener)

    run(main)
