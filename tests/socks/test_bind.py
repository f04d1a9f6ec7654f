"""BIND: where it listens, whom it lets in, and all that ends the waiting. The peers are sockets of the tests' own."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import ipaddress
import os
import random
import socket
import struct

import pytest

import netnet
from netnet.runtime.loop import running
from netnet.socks.bind import BACKLOG, TRAILING_BYTES_MAX, Binding, ClientLeftError, WrongPeerError
from netnet.socks.requests import Command, Request
from netnet.socks.rules import Route
from netnet.socks.settings import Entrance, Limits
from netnet.testing import VirtualClock, wait_all_parked

RESET = struct.pack("ii", 1, 0)


def request(host="0.0.0.0", port=0):
    """A request for BIND; *host* is an address or a name."""
    try:
        return Request(Command.BIND, host, port, ipaddress.ip_address(host).packed)
    except ValueError:
        return Request(Command.BIND, host, port)


class Rig:
    """A client, and a binding for it."""

    def __init__(self, asked=None, host="127.0.0.1", **options):
        if host == "unix":
            self.client, self.near = netnet.socketpair(socket.AF_UNIX)
        else:
            with netnet.listen(f"[{host}]:0" if ":" in host else f"{host}:0") as listener:
                self.client = netnet.connect((host or "127.0.0.1", listener.getsockname()[1]))
                self.near = listener.accept()[0]
        try:
            self.binding = Binding(self.near, asked or request(), **options)
        except BaseException:
            self.client.close()
            self.near.close()
            raise
        self.accepting = None

    def accept(self):
        """Begins to wait, in a task."""
        self.accepting = netnet.spawn(self._accept)
        wait_all_parked()
        return self.accepting

    def _accept(self):
        try:
            return self.binding.accept()
        except OSError as error:
            return error

    def connect(self, source=None):
        return netnet.connect(self.binding.bound, source=source)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.binding.close()
        self.client.close()
        self.near.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "unix", ""])
@pytest.mark.parametrize("expected", ["0.0.0.0", "::", "127.0.0.1", "::ffff:127.0.0.1", "::1", "127.0.0.2"])
def test_the_peer_connects_to_where_it_is_told(run, backend, host, expected):
    asked = ipaddress.ip_address(expected)
    anybody = int(asked) == 0
    source = {"::1": "::1", "127.0.0.2": "127.0.0.2"}.get(expected, "::1" if anybody and host == "::1" else "127.0.0.1")

    def main():
        with Rig(request(expected, 20), host) as rig:
            assert rig.binding.bound[0] == ("::1" if ":" in source else "127.0.0.1")
            waiting = rig.accept()
            with rig.connect(source) as peer:
                accepted, address = waiting.result()
                with accepted:
                    assert address == (source, peer.getsockname()[1])
                    assert accepted.nodelay
                    peer.sendall(b"hello")
                    assert accepted.recv(10) == b"hello"

    run(main)


def test_a_file_in_active_mode(run):
    """As FTP has it: the client tells the server by another connection where to connect to, and the server sends."""
    content = random.Random(2).randbytes(3_000_000)

    def serve_file(told):
        host, port = told.recv(100).decode().split()
        with netnet.connect((host, int(port)), source="127.0.0.1") as data:
            data.sendall(content)

    def main():
        command, told = netnet.socketpair()
        server = netnet.spawn(serve_file, told)
        with command, told, Rig(request("127.0.0.1", 21)) as rig:
            command.sendall("{} {}".format(*rig.binding.bound).encode())
            peer, _ = rig.binding.accept()
            rig.binding.close()
            netnet.start_relay(rig.near, peer, lambda result: None)
            digest = hashlib.sha256()
            for chunk in rig.client:
                digest.update(chunk)
            assert digest.digest() == hashlib.sha256(content).digest()
            server.join()

    run(main)


def test_of_the_connection_that_came_first(run):
    """It came before ``accept`` was called; the kernel has it."""

    def main():
        with Rig() as rig, rig.connect():
            peer, _ = rig.binding.accept()
            peer.close()

    run(main)


# -- where it listens


def test_the_address_that_is_advertised(run):
    def main():
        with Rig(entrance=Entrance(advertise="203.0.113.9")) as rig:
            assert rig.binding.bound == ("203.0.113.9", rig.binding._listener.getsockname()[1])

    run(main)


def free_range(count):
    for low in range(20000, 60000, count):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(low, low + count):
                    stack.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return low, low + count - 1
    raise AssertionError("no neighbouring ports are free")


def test_the_port_is_one_of_the_range_until_all_are_taken(run):
    low, high = free_range(3)
    entrance = Entrance(ports=(low, high))

    def main():
        with Rig(entrance=entrance) as one, Rig(entrance=entrance) as two, Rig(entrance=entrance) as three:
            assert sorted(rig.binding.bound[1] for rig in (one, two, three)) == [low, low + 1, high]
            with pytest.raises(
                OSError, match=f"no port from {low} to {high} is free on 127.0.0.1; 3 were tried"
            ) as caught:
                Rig(entrance=entrance)
            assert caught.value.errno == errno.EADDRINUSE
        with Rig(entrance=Entrance(ports=(low, low))) as rig:  # and again after it was used
            assert rig.binding.bound == ("127.0.0.1", low)

    run(main)


@pytest.mark.skipif(os.geteuid() != 0, reason="to mark packets takes CAP_NET_ADMIN")
def test_the_route_says_where(run):
    def main():
        for expected in ("0.0.0.0", "127.0.0.1"):
            with Rig(request(expected), route=Route(source="127.0.0.5", interface="lo", mark=3)) as rig:
                assert rig.binding.bound[0] == "127.0.0.5"
                assert rig.binding._listener.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == 3
                waiting = rig.accept()
                with rig.connect():
                    waiting.result()[0].close()

    run(main)


NO_WAY = [
    ("255.255.255.255", None, errno.EACCES),
    ("127.0.0.1", Route(source="192.0.2.77"), errno.EADDRNOTAVAIL),
    ("0.0.0.0", Route(source="192.0.2.77"), errno.EADDRNOTAVAIL),
    ("127.0.0.1", Route(source="::1"), errno.EAFNOSUPPORT),
    ("127.0.0.1", Route(interface="nothing0"), errno.ENODEV),
    ("0.0.0.0", Route(interface="nothing0"), errno.ENODEV),
]


@pytest.mark.parametrize(("expected", "route", "number"), NO_WAY)
def test_where_there_is_no_way(run, expected, route, number):
    def main():
        with pytest.raises(OSError) as caught:
            Rig(request(expected), route=route)
        assert caught.value.errno == number

    run(main)


# -- whom it lets in


def test_somebody_else_is_turned_away_and_the_waiting_may_go_on(run):
    def main():
        with Rig(request("127.0.0.1")) as rig:
            waiting = rig.accept()
            with rig.connect("127.0.0.2") as stranger:
                error = waiting.result()
                port = stranger.getsockname()[1]
                assert isinstance(error, WrongPeerError)
                assert (error.host, error.port) == ("127.0.0.2", port)
                assert str(error).endswith(f"127.0.0.2:{port} connected, and is not whom the client expects")
                with pytest.raises(ConnectionResetError):
                    stranger.recv(10)
            waiting = rig.accept()
            with rig.connect("127.0.0.1"):
                peer, (host, _) = waiting.result()
                peer.close()
                assert host == "127.0.0.1"

    run(main)


def test_a_name_needs_its_addresses(run):
    def main():
        with pytest.raises(ValueError, match="look peer.test up"):
            Rig(request("peer.test"))
        peers = [ipaddress.ip_address(host).packed for host in ("::1", "127.0.0.2", "127.0.0.3")]
        with Rig(request("peer.test"), peers=peers) as rig:
            for source, good in (("127.0.0.3", True), ("127.0.0.1", False), ("127.0.0.2", True)):
                waiting = rig.accept()
                with rig.connect(source):
                    outcome = waiting.result()
                    assert isinstance(outcome, WrongPeerError) is not good
                    if good:
                        outcome[0].close()

    run(main)


def test_only_so_many_wait_to_be_looked_at(run):
    def main():
        with Rig() as rig, contextlib.ExitStack() as stack:
            for _ in range(BACKLOG):
                stack.enter_context(rig.connect())
            rig.binding.accept()[0].close()

    run(main)


def test_a_connection_that_has_gone_again(run):
    def main():
        with Rig() as rig:
            waiting = rig.accept()
            real = rig.binding._listener.accept
            errors = [BlockingIOError(), ConnectionAbortedError()]

            class Listener:
                fileno = rig.binding._listener.fileno
                close = rig.binding._listener.close
                _descriptor = rig.binding._listener._descriptor

                def accept(self):
                    if errors:
                        raise errors.pop()
                    return real()

            rig.binding._listener = Listener()
            with rig.connect():
                waiting.result()[0].close()
            assert errors == []

    run(main)


# -- the end of the waiting


def test_the_time_is_limited_in_all(run):
    def main():
        began = netnet.now()
        with Rig(request("127.0.0.1"), limits=Limits(bind_seconds=120)) as rig:
            waiting = rig.accept()
            netnet.sleep(100)
            with rig.connect("127.0.0.2"):
                assert isinstance(waiting.result(), WrongPeerError)
            outcome = rig.accept().result()
            assert isinstance(outcome, TimeoutError)
            assert netnet.now() - began == pytest.approx(120)
            assert isinstance(rig.accept().result(), TimeoutError)

    run(main, clock=VirtualClock())


def test_who_is_there_at_the_end_of_the_time_is_let_in(run):
    def main():
        with Rig(limits=Limits(bind_seconds=10)) as rig, rig.connect():
            netnet.sleep(11)
            rig.binding.accept()[0].close()

    run(main, clock=VirtualClock())


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("early", [b"", b"first"])
def test_the_client_leaves(run, backend, reset, early):
    def main():
        with Rig() as rig:
            waiting = rig.accept()
            if early:
                rig.client.sendall(early)
                wait_all_parked()
                assert not waiting.done
            if reset:
                rig.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            rig.client.close()
            error = waiting.result()
            assert isinstance(error, ClientLeftError)
            assert "the client left while it waited for its peer" in str(error)
            assert ("Connection reset by peer" in str(error)) == reset

    run(main)


def test_the_client_had_left_before(run):
    def main():
        with Rig() as rig:
            rig.client.close()
            wait_all_parked()
            with pytest.raises(ClientLeftError):
                rig.binding.accept()

    run(main)


def test_what_the_client_sends_early_is_kept(run):
    def main():
        with Rig() as rig:
            waiting = rig.accept()
            for piece in (b"one", b"two"):
                rig.client.sendall(piece)
                wait_all_parked()
            with rig.connect():
                waiting.result()[0].close()
            assert rig.binding.trailing == b"onetwo"
            rig.client.sendall(b"three")
            assert rig.near.recv(10) == b"three"

    run(main)


def test_of_too_much_the_rest_stays_unread(run):
    data = random.Random(3).randbytes(TRAILING_BYTES_MAX + 5000)

    def main():
        with Rig() as rig:
            waiting = rig.accept()
            sending = netnet.spawn(rig.client.sendall, data)
            wait_all_parked()
            assert not waiting.done
            with rig.connect():
                waiting.result()[0].close()
            rest = b""
            while len(rig.binding.trailing) + len(rest) < len(data):
                rest += rig.near.recv(65536)
            assert rig.binding.trailing + rest == data
            assert len(rig.binding.trailing) == TRAILING_BYTES_MAX
            sending.join()

    run(main)


def test_waiting_can_be_cancelled(run):
    def main():
        with Rig() as rig:
            waiting = rig.accept()
            waiting.cancel()
            waiting.join()
            with rig.connect():  # nothing is lost
                rig.binding.accept()[0].close()

    run(main)


def test_a_closed_binding_takes_nobody(run):
    def main():
        with Rig() as rig:
            with rig.binding as binding:
                bound = binding.bound
            binding.close()
            with pytest.raises(ConnectionRefusedError):
                netnet.connect(bound)
            assert not running.loop.relays

    run(main)
