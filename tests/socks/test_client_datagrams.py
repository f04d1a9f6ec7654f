"""Datagrams through scripted proxies."""

from __future__ import annotations

import errno
import socket
import struct
import threading

import pytest

import netnet
import netnet.testing
from netnet.errors import AddressError
from netnet.socks.asking import ProxyError
from netnet.socks.client import associate, bind
from netnet.socks.requests import Outcome
from tests.socks.scripted import (
    GREETING,
    IPV4,
    IPV6,
    NAME,
    answering,
    at,
    known_names,
    packed,
    peer,
    read_exactly,
)


@pytest.fixture(autouse=True)
def names():
    """No test asks the network."""
    with known_names():
        yield


# -- datagrams


class Relay:
    """A proxy's datagram socket, and the connection that it lives by."""

    def __init__(self, conn, made, host="127.0.0.1", kind=1):
        self.conn = conn
        self.sock = netnet.Socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        port = self.sock.getsockname()[1]
        address = b"\1" + packed(host) if kind == 1 else b"\3" + bytes([len(host)]) + host.encode()
        answering(conn, made, [(GREETING, b"\5\0"), (b"\5\3\0\1" + bytes(6), b"\5\0\0" + address + at(port))])

    def echo(self):
        data, client = self.sock.recvfrom(70000)
        self.sock.sendto(data, client)
        return data, client


@pytest.mark.parametrize(("host", "kind"), [("127.0.0.1", 1), ("0.0.0.0", 1), ("gate.test", 3)])
def test_datagrams(run, host, kind):
    def main():
        def script(conn, made):
            relay = Relay(conn, made, host, kind)
            with relay.sock:
                while True:
                    made.heard.append(relay.echo()[0])

        with peer(script) as proxy:
            with associate(via=proxy.url()) as datagrams:
                for target, header in [
                    ((NAME, 53), b"\0\0\0\3\x0btarget.test" + at(53)),
                    (f"{IPV4}:53", b"\0\0\0\1" + packed(IPV4) + at(53)),
                    (f"[{IPV6}]:53", b"\0\0\0\4" + packed(IPV6) + at(53)),
                ]:
                    datagrams.send_to(b"question", target)
                    data, (answer_host, port) = datagrams.receive()
                    assert data == b"question"
                    assert port == 53
                    assert proxy.heard[-1] == header + b"question"
                assert answer_host == IPV6
                datagrams.send_to(b"", (NAME, 1))
                assert datagrams.receive() == (b"", (NAME, 1))
                datagrams.send_to(b"x" * 60_000, (NAME, 1))
                assert len(datagrams.receive()[0]) == 60_000
                with pytest.raises(OSError) as caught:
                    datagrams.send_to(b"x" * 65_507, (NAME, 1))
                assert caught.value.errno == errno.EMSGSIZE

    run(main)


def test_names_of_datagrams_are_looked_up_here_where_the_scheme_says_so(run):
    def main():
        def script(conn, made):
            relay = Relay(conn, made)
            with relay.sock:
                made.heard.append(relay.echo()[0])

        with peer(script) as proxy:
            with associate(via=proxy.url("socks5://@")) as datagrams:
                datagrams.send_to(b"", ("known.test", 53))
                assert datagrams.receive() == (b"", (IPV4, 53))

    run(main)


def test_fragments_and_nonsense_are_dropped(run):
    def main():
        def script(conn, made):
            relay = Relay(conn, made)
            with relay.sock:
                _, client = relay.echo()
                for wrong in [b"", b"\0\0\0", b"\0\0\1\1" + packed(IPV4) + at(1) + b"part", b"\0\0\0\7" + bytes(50)]:
                    relay.sock.sendto(wrong, client)
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                    stranger.sendto(b"\0\0\0\1" + packed(IPV4) + at(1) + b"not from the proxy", client)
                relay.sock.sendto(b"\0\0\0\1" + packed(IPV4) + at(2) + b"right", client)
                conn.recv(1)

        with peer(script) as proxy:
            with associate(via=proxy.url()) as datagrams:
                datagrams.send_to(b"", (IPV4, 1))
                assert datagrams.receive() == (b"", (IPV4, 1))
                assert datagrams.receive() == (b"right", (IPV4, 2))

    run(main)


def test_the_end_of_the_connection_ends_the_association(run, backend):
    def main():
        go = netnet.Event()

        def script(conn, made):
            relay = Relay(conn, made)
            with relay.sock:
                _, client = relay.echo()
                go.wait()
                conn.sendall(b"chatter")
                relay.sock.sendto(b"\0\0\0\1" + packed(IPV4) + at(2) + b"last", client)

        with peer(script) as proxy:
            with associate(via=proxy.url()) as datagrams:
                datagrams.send_to(b"", (IPV4, 1))
                datagrams.receive()
                netnet.spawn(go.set)
                assert datagrams.receive()[0] == b"last"
                for _ in range(2):
                    with pytest.raises(ConnectionResetError, match="the proxy has ended it"):
                        datagrams.receive()
                with pytest.raises(ProxyError, match="the proxy has ended it"):
                    datagrams.send_to(b"", (IPV4, 1))

    run(main)


def test_nobody_at_the_address_of_the_relay(run):
    def main():
        def script(conn, made):
            relay = Relay(conn, made)
            relay.sock.close()
            conn.recv(1)

        with peer(script) as proxy:
            with associate(via=proxy.url()) as datagrams:
                for call in (datagrams.receive, lambda: datagrams.send_to(b"", (IPV4, 1))):
                    datagrams.send_to(b"", (IPV4, 1))
                    with pytest.raises(ConnectionRefusedError, match="nobody takes them at 127.0.0.1:"):
                        call()

    run(main)


def test_prepare_and_source_are_for_both_sockets(run):
    def main():
        def script(conn, made):
            with Relay(conn, made).sock as relay:
                made.heard += [conn.getpeername()[0], relay.recvfrom(100)[1][0]]

        with peer(script) as proxy:
            prepared = []
            with associate(via=proxy.url(), source="127.0.0.9", prepare=prepared.append) as datagrams:
                datagrams.send_to(b"", (IPV4, 1))
                proxy.wait_ended()
            assert [sock.type for sock in prepared] == [socket.SOCK_STREAM, socket.SOCK_DGRAM]
            assert proxy.heard[-2:] == ["127.0.0.9"] * 2

    run(main)


def test_what_fails_after_the_reply_closes_all(run):
    def main():
        def script(conn, made):
            with Relay(conn, made).sock:
                assert conn.recv(1) == b""

        def prepare(sock):
            if sock.type == socket.SOCK_DGRAM:
                raise KeyError("no")

        with peer(script) as proxy:
            with pytest.raises(KeyError):
                associate(via=proxy.url(), prepare=prepare)
            proxy.wait_ended()

    run(main)


def test_targets_of_datagrams_that_cannot_be_said(run):
    def main():
        def script(conn, made):
            with Relay(conn, made).sock:
                conn.recv(1)

        with peer(script) as proxy:
            with associate(via=proxy.url()) as datagrams:
                for wrong in [("x" * 256, 1), "unix:/run/x", "[fe80::1%lo]:1", ("", 1), ("a b", 1)]:
                    with pytest.raises(AddressError):
                        datagrams.send_to(b"", wrong)
            with pytest.raises(netnet.ClosedError):
                datagrams.send_to(b"", (IPV4, 1))
            with pytest.raises(netnet.ClosedError):
                datagrams.receive()

    run(main)


def test_the_connection_is_reset(run):
    def main():
        go = netnet.Event()

        def script(conn, made):
            with Relay(conn, made).sock:
                conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                go.wait()

        with peer(script) as proxy:
            with associate(via=proxy.url()) as datagrams:
                netnet.spawn(go.set)
                with pytest.raises(ConnectionResetError, match="the proxy has ended it"):
                    datagrams.receive()

    run(main)


def test_closing_an_association_wakes_who_receives(run):
    def main():
        def script(conn, made):
            with Relay(conn, made).sock:
                assert conn.recv(1) == b""

        with peer(script) as proxy:
            datagrams = associate(via=proxy.url(), source="127.0.0.1")
            assert datagrams.fileno() >= 0

            def receive():
                with pytest.raises(netnet.ClosedError):
                    datagrams.receive()

            task = netnet.spawn(receive)
            netnet.testing.wait_all_parked()
            datagrams.close()
            datagrams.close()
            task.join()
            task.result()
            assert datagrams.fileno() == -1
            proxy.wait_ended()

    run(main)


def test_an_association_outside_a_loop():
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay:
        relay.bind(("127.0.0.1", 0))

        def serve():
            conn, _ = listener.accept()
            with conn:
                for size, answer in [(3, b"\5\0"), (10, b"\5\0\0\1" + bytes(4) + at(relay.getsockname()[1]))]:
                    assert len(read_exactly(conn, size)) == size
                    conn.sendall(answer)
                data, client = relay.recvfrom(1000)
                relay.sendto(data, client)
                conn.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with associate(via=f"socks5h://127.0.0.1:{listener.getsockname()[1]}") as datagrams:
                datagrams.send_to(b"question", (NAME, 53))
                assert datagrams.receive() == (b"question", (NAME, 53))
        finally:
            thread.join()


@pytest.mark.parametrize("ask", [lambda via: bind(via=via), lambda via: associate(via=via)])
def test_http_has_connections_only(ask):
    with pytest.raises(ProxyError, match="HTTP has no") as caught:
        ask("http://127.0.0.1:1")
    assert (caught.value.errno, caught.value.outcome) == (errno.EOPNOTSUPP, Outcome.COMMAND_UNSUPPORTED)


def test_socks4_has_no_datagrams():
    with pytest.raises(ProxyError, match="SOCKS4 has no ASSOCIATE"):
        associate(via="socks4://127.0.0.1:1")


def test_datagrams_go_through_one_proxy():
    with pytest.raises(AddressError, match="through one"):
        associate(via=["socks5://127.0.0.1:1", "socks5://127.0.0.1:1"])
