"""Associations: who may send and answer, what is dropped and counted, names, limits, and every way to the end.

Each test has a client, its TCP connection, and targets: sockets of its own. The client's datagrams are written down here
a second time, from the RFC.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import ipaddress
import logging
import os
import random
import socket
import struct
import subprocess

import dns.message
import pytest

import netnet
from netnet.net.throttle import TokenBucket
from netnet.runtime.loop import running
from netnet.socks import associate as module
from netnet.socks import udp_front, udp_outlet
from netnet.socks.associate import (
    CONTROL_BYTES_MAX,
    LOOKUP_SECONDS,
    LOOKUPS_MAX,
    REBIND_SECONDS,
    UNRESOLVED_SECONDS,
    WAITING_BYTES_MAX,
    WAITING_MAX,
    Association,
    Drop,
)
from netnet.socks.local import PORTS_TRIED_MAX, End, at_a_port
from netnet.socks.requests import Command, Request
from netnet.socks.rules import Route, Verdict
from netnet.socks.settings import Entrance, Limits
from netnet.testing import VirtualClock, wait_all_parked

RESET = struct.pack("ii", 1, 0)
YES = Verdict(True, "yes", "it is allowed")
NO = Verdict(False, "no", "it is denied")


def header(host, port, fragment=0):
    """The header of a datagram, RFC 1928 section 7."""
    try:
        address = ipaddress.ip_address(host)
        kind = b"\1" if address.version == 4 else b"\4"
        where = kind + address.packed
    except ValueError:
        where = b"\3" + bytes([len(host)]) + host.encode()
    return struct.pack(">HB", 0, fragment) + where + port.to_bytes(2, "big")


def read(datagram):
    """The sender and the data of a datagram with a header."""
    assert datagram[:3] == b"\0\0\0"
    size = {1: 4, 4: 16}[datagram[3]]
    host = str(ipaddress.ip_address(datagram[4 : 4 + size]))
    return (host, int.from_bytes(datagram[4 + size : 6 + size], "big")), datagram[6 + size :]


def datagram_socket(host="127.0.0.1", port=0):
    sock = netnet.Socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, port))
    return sock


def request(host="0.0.0.0", port=0):
    return Request(Command.ASSOCIATE, host, port, ipaddress.ip_address(host).packed)


def pair(host, peer_host=None):
    """Two ends of a connection: the client's, and the proxy's."""
    if host == "unix":
        return netnet.socketpair(socket.AF_UNIX)
    with netnet.listen(f"[{host}]:0" if ":" in host else f"{host}:0") as listener:
        control = netnet.connect(("127.0.0.1" if host == "" else host, listener.getsockname()[1]))
        return control, listener.accept()[0]


class Rig:
    """A client with its association."""

    def __init__(self, host="127.0.0.1", *, judge=None, asked=None, start=True, **options):
        self.open = contextlib.ExitStack()
        self.control, self.near = pair(host)
        self.open.enter_context(self.control)
        self.own = "127.0.0.1" if host in ("unix", "") else host
        self.judged = []
        self._judge = judge or (lambda host, packed, port: YES)
        self.association = Association(self.near, asked or request(), judge=self.judge, **options)
        self.bound = self.association.bound
        self.udp = self.socket()
        self.result = None
        self.ended = netnet.Event()
        if start:
            self.association.start(self._done)

    def judge(self, host, packed, port):
        self.judged.append((host, packed, port))
        return self._judge(host, packed, port)

    def _done(self, result):
        assert self.result is None, "an association ends once"
        self.result = result
        self.ended.set()

    def socket(self, host=None, port=0):
        """A socket of the client's, or of a target."""
        return self.open.enter_context(datagram_socket(host or self.own, port))

    def send(self, target, data=b"ping", sock=None, **fields):
        """Sends as the client."""
        self.raw(header(*target[:2], **fields) + data, sock)

    def raw(self, datagram, sock=None):
        (sock or self.udp).sendto(datagram, self.bound)

    def receive(self, sock=None):
        return read((sock or self.udp).recv(70000))

    def echo(self, target, data=b"ping", sock=None):
        """Sends, has the target answer, and gives what comes back."""
        self.send(target.getsockname(), data, sock)
        came, source = target.recvfrom(70000)
        assert came == data
        target.sendto(data.upper(), source)
        return self.receive(sock)

    def settle(self):
        """Returns when all is through, with what was dropped since the last time."""
        wait_all_parked()
        dropped = dict(self.association.dropped)
        self.association.dropped.clear()
        return dropped

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.open.close()
        if self.result is None and not self.association.ended:
            self.ended.wait()
        assert self.association.ended
        assert not running.loop.relays
        assert self.near.fileno() < 0


def silent(sock):
    """Whether there is nothing to be received."""
    wait_all_parked()
    sock.settimeout(0)
    try:
        sock.recv(70000)
    except BlockingIOError:
        return True
    finally:
        sock.settimeout(None)
    return False


# -- there and back


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "unix"])
def test_datagrams_go_there_and_back(run, backend, host):
    def main():
        with Rig(host) as rig, datagram_socket(rig.own) as target:
            where = target.getsockname()[:2]
            assert rig.bound[0] == rig.own
            for data in (b"ping", b"", b"\0" * 1200, bytes(60000)):
                assert rig.echo(target, data) == (where, data.upper())
            assert rig.settle() == {}
            assert rig.judged == [(where[0], ipaddress.ip_address(where[0]).packed, where[1])]
        assert rig.result.reason == "closed"
        assert (rig.result.sent, rig.result.received) == (61204, 61204)
        assert (rig.result.datagrams_sent, rig.result.datagrams_received) == (4, 4)

    run(main)


def test_both_families_at_once(run):
    def main():
        with Rig() as rig, datagram_socket("127.0.0.1") as four, datagram_socket("::1") as six:
            for _ in range(2):
                assert rig.echo(four)[0] == four.getsockname()
                assert rig.echo(six)[0] == six.getsockname()[:2]

    run(main)


def test_a_mapped_address_is_one_of_ipv4_and_answers_as_it_was_called(run):
    def main():
        with Rig() as rig, datagram_socket() as target:
            port = target.getsockname()[1]
            rig.send(("::ffff:127.0.0.1", port))
            _, source = target.recvfrom(100)
            target.sendto(b"pong", source)
            assert rig.receive() == (("::ffff:7f00:1", port), b"pong")

    run(main)


def test_a_client_of_a_listener_for_both_families_is_one_of_ipv4(run):
    def main():
        with Rig("") as rig, datagram_socket() as target:
            assert rig.near.family == socket.AF_INET6
            assert rig.bound[0] == "127.0.0.1"
            assert rig.echo(target)[1] == b"PING"

    run(main)


def test_a_thousand_datagrams_each_way_arrive_as_they_were(run):
    rng = random.Random(1)
    sizes = [rng.choice((0, 1, 40, 1200, 1472, 9000, 40000)) for _ in range(1000)]

    def main():
        there, back, echoed = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
        with Rig() as rig, datagram_socket() as target:
            where = target.getsockname()

            def serve():
                for _ in sizes:
                    data, source = target.recvfrom(70000)
                    there.update(data)
                    target.sendto(data[::-1], source)

            server = netnet.spawn(serve)
            for size in sizes:
                data = rng.randbytes(size)
                rig.send(where, data)
                back.update(data[::-1])
                source, answer = rig.receive()
                assert source == where
                echoed.update(answer)
            server.join()
            assert rig.settle() == {}
        assert echoed.digest() == back.digest()
        assert rig.result.sent == rig.result.received == sum(sizes)
        assert rig.result.datagrams_sent == rig.result.datagrams_received == 1000

    run(main)


def test_a_burst_goes_through_in_several_turns(run):
    count = 150

    def main():
        with Rig() as rig, datagram_socket() as target:
            where = target.getsockname()
            for number in range(count):
                rig.send(where, b"%d" % number)
            source = None
            for number in range(count):
                data, source = target.recvfrom(100)
                assert data == b"%d" % number
            for number in range(count):
                target.sendto(b"%d" % number, source)
            assert [rig.receive()[1] for _ in range(count)] == [b"%d" % number for number in range(count)]

    run(main)


# -- a real server as target

NAMES = [
    "--host-record=four.test,192.0.2.4",
    "--host-record=six.test,2001:db8::6",
    "--txt-record=long.test," + "x" * 250,
]
QUIET = ["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces", "--local=/test/"]


@pytest.fixture
def dnsmasq():
    """A dnsmasq on a port that is free: its address."""
    for _ in range(20):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = ["dnsmasq", *QUIET, *NAMES, "--listen-address=127.0.0.1", f"--port={port}"]
        program = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        if "started" in program.stderr.readline():
            break
        program.kill()
        program.communicate()
    else:
        raise AssertionError("dnsmasq did not start")
    yield ("127.0.0.1", port)
    program.kill()
    program.communicate()


@pytest.mark.client("dnsmasq")
@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [("four.test", "A", "192.0.2.4"), ("six.test", "AAAA", "2001:db8::6"), ("long.test", "TXT", '"' + "x" * 250 + '"')],
)
def test_names_are_asked_for_through_an_association(run, dnsmasq, name, kind, expected):
    def main():
        with Rig() as rig:
            query = dns.message.make_query(name, kind)
            rig.send(dnsmasq, query.to_wire())
            source, data = rig.receive()
            assert source == dnsmasq
            reply = dns.message.from_wire(data)
            assert reply.id == query.id
            assert [str(item) for item in reply.answer[0]] == [expected]

    run(main)


# -- where it listens


def test_the_reply_tells_the_address_that_is_advertised(run):
    def main():
        with Rig(entrance=Entrance(advertise="203.0.113.9")) as rig, datagram_socket() as target:
            assert rig.bound[0] == "203.0.113.9"
            rig.bound = ("127.0.0.1", rig.bound[1])
            assert rig.echo(target)[1] == b"PING"

    run(main)


def free_range(count):
    """Neighbouring ports that are free for datagrams."""
    for low in range(20000, 60000, count):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(low, low + count):
                    stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).bind(("127.0.0.1", port))
            except OSError:
                continue
            return low, low + count - 1
    raise AssertionError("no neighbouring ports are free")


def test_the_port_is_one_of_the_range_until_all_are_taken(run):
    low, high = free_range(3)

    def main():
        with contextlib.ExitStack() as stack:
            rigs = [stack.enter_context(Rig(entrance=Entrance(ports=(low, high)))) for _ in range(3)]
            assert sorted(rig.bound[1] for rig in rigs) == [low, low + 1, high]
            control, near = pair("127.0.0.1")
            with control, near:
                with pytest.raises(OSError, match=f"no port from {low} to {high} is free on 127.0.0.1; 3 were tried"):
                    Association(near, request(), judge=rigs[0].judge, entrance=Entrance(ports=(low, high)))
            for rig in rigs:
                rig.control.close()

    run(main)


def test_a_range_begins_anywhere_and_is_not_tried_for_ever():
    tried = []

    def attempt(sockaddr):
        tried.append(sockaddr[1])
        raise OSError(errno.EADDRINUSE, "in use")

    end = End(socket.AF_INET, "127.0.0.1")
    with pytest.raises(OSError, match="were tried"):
        at_a_port(end, (1, 65535), attempt)
    assert len(tried) == len(set(tried)) == PORTS_TRIED_MAX
    assert all(1 <= port <= 65535 for port in tried)
    starts = set()
    for _ in range(50):
        at_a_port(end, (1, 65535), lambda sockaddr: starts.add(sockaddr[1]))
    assert len(starts) > 40


# -- who is the client


def test_another_address_is_not_the_client(run):
    def main():
        with Rig() as rig, datagram_socket() as target:
            foreign = rig.socket("127.0.0.2")
            rig.send(target.getsockname(), sock=foreign)
            assert rig.settle() == {Drop.FOREIGN: 1}
            rig.echo(target)
            rig.send(target.getsockname(), sock=foreign)
            assert rig.settle() == {Drop.FOREIGN: 1}
            assert silent(target)
            assert silent(foreign)

    run(main)


@pytest.mark.parametrize("peer", ["127.0.0.3", "::ffff:127.0.0.3", "0:0::FFFF:7F00:3"])
def test_the_peer_may_be_told(run, peer):
    """The connection comes from a load balancer, which has told by the PROXY protocol whom it is for."""

    def main():
        with Rig(peer=peer) as rig, datagram_socket() as target:
            rig.send(target.getsockname())
            assert rig.settle() == {Drop.FOREIGN: 1}
            assert rig.echo(target, sock=rig.socket("127.0.0.3"))[1] == b"PING"

    run(main)


def test_the_first_port_stays_until_it_is_silent(run):
    def main():
        with Rig() as rig, datagram_socket() as target:
            other = rig.socket()
            rig.echo(target)
            netnet.sleep(REBIND_SECONDS - 1)
            rig.send(target.getsockname(), sock=other)
            assert rig.settle() == {Drop.FOREIGN: 1}
            rig.echo(target)
            netnet.sleep(REBIND_SECONDS - 1)
            rig.send(target.getsockname(), sock=other)
            assert rig.settle() == {Drop.FOREIGN: 1}
            netnet.sleep(2)
            assert rig.echo(target, sock=other)[1] == b"PING"
            rig.send(target.getsockname())
            assert rig.settle() == {Drop.FOREIGN: 1}

    run(main, clock=VirtualClock())


ANNOUNCED = [  # strict, announced address, is it the client's own port, may: the announced, another, another later
    (False, "0.0.0.0", True, (True, True, True)),
    (False, "127.0.0.1", True, (True, True, True)),
    (True, "0.0.0.0", True, (True, False, False)),
    (True, "127.0.0.1", True, (True, False, False)),
    (True, "::ffff:127.0.0.1", True, (True, False, False)),
    (True, "192.0.2.1", True, (True, True, False)),  # another host's, so it is no announcement
    (True, "0.0.0.0", False, (True, True, False)),
]


@pytest.mark.parametrize(("strict", "address", "told", "may"), ANNOUNCED)
def test_which_ports_are_the_client(run, strict, address, told, may):
    def attempt(first, later):
        with datagram_socket() as announced, datagram_socket() as target:
            asked = request(address, announced.getsockname()[1] if told else 0)
            with Rig(asked=asked, entrance=Entrance(strict_udp=strict)) as rig:
                if later:
                    rig.send(target.getsockname(), sock=announced)
                    assert target.recv(100)
                    netnet.sleep(REBIND_SECONDS + 1)
                rig.send(target.getsockname(), sock=announced if first else rig.udp)
                dropped = rig.settle()
                assert dropped in ({}, {Drop.FOREIGN: 1})
                return dropped == {}

    def main():
        assert (attempt(True, False), attempt(False, False), attempt(False, True)) == may

    run(main, clock=VirtualClock())


# -- what is dropped

ALL_OF_ONE = header("127.0.0.1", 9)
ALL_OF_NAME = header("name.test", 9)
ALL_OF_SIX = header("::1", 9)
TRUNCATED = [whole[:size] for whole in (ALL_OF_ONE, ALL_OF_NAME, ALL_OF_SIX) for size in range(len(whole))]


@pytest.mark.parametrize(
    "datagram",
    [
        *dict.fromkeys(TRUNCATED),
        b"\0\0\0\0" + ALL_OF_ONE[4:],
        b"\0\0\0\2" + ALL_OF_ONE[4:],
        b"\0\0\0\xff" + ALL_OF_ONE[4:],
        b"\0\0\0\3\0\0\x09" + bytes(20),
        b"\0\0\0\3\4a b\n\0\x09",
        b"\0\0\0\3\2\xff\xfe\0\x09",
    ],
)
def test_nonsense_is_dropped(run, datagram):
    def main():
        with Rig() as rig, datagram_socket() as target:
            rig.raw(datagram)
            assert rig.settle() == {Drop.MALFORMED: 1}
            assert rig.judged == []
            assert rig.echo(target)[1] == b"PING"

    run(main)


def test_a_stale_header_in_the_buffer_completes_no_short_datagram(run):
    def main():
        with Rig() as rig, datagram_socket() as target:
            rig.echo(target, b"x" * 100)
            whole = header(*target.getsockname())
            for size in range(len(whole)):
                rig.raw(whole[:size])
            assert rig.settle() == {Drop.MALFORMED: len(whole)}
            assert silent(target)

    run(main)


def test_no_datagram_ends_it(run):
    """Whatever comes, it is sent on or dropped, and counted once."""
    rng = random.Random(4)
    count = 3000

    def mangled(port):
        datagram = bytearray(
            header(rng.choice(("127.0.0.1", "::1", "name.test", "127.1")), port) + rng.randbytes(rng.randrange(9))
        )
        for _ in range(rng.randrange(3)):
            datagram[rng.randrange(len(datagram))] = rng.choice((0, 1, 3, 4, 127, 255, rng.randrange(256)))
        return bytes(datagram[: rng.randrange(len(datagram) + 1)] if rng.random() < 0.3 else datagram)

    def judge(host, packed, port):
        return YES if packed in (b"\x7f\0\0\1", bytes(15) + b"\1") else NO if packed else None

    def main():
        with netnet.use_resolver(netnet.HostTable({"name.test": "127.0.0.1"})):
            with Rig(judge=judge) as rig, datagram_socket() as target:
                port = target.getsockname()[1]
                for number in range(count):
                    rig.raw(mangled(port))
                    if number % 20 == 0:
                        while not silent(target):
                            pass
                wait_all_parked()
                while not silent(target):
                    pass
                assert rig.association.datagrams_sent + sum(rig.association.dropped.values()) == count
                assert rig.echo(target)[1] == b"PING"

    run(main)


@pytest.mark.parametrize("fragment", [1, 2, 127, 128, 255])
def test_fragments_are_dropped(run, fragment):
    def main():
        with Rig() as rig, datagram_socket() as target:
            rig.send(target.getsockname(), fragment=fragment)
            assert rig.settle() == {Drop.FRAGMENT: 1}
            rig.echo(target)
            rig.send(target.getsockname(), fragment=fragment)
            assert rig.settle() == {Drop.FRAGMENT: 1}

    run(main)


UPSTREAM = Verdict(True, "far", "", Route(upstream=("socks5://127.0.0.1:1",)))
FOREIGN_SOURCE = Verdict(True, "from", "", Route(source="192.0.2.77"))
SIX_SOURCE = Verdict(True, "from", "", Route(source="::1"))
NO_INTERFACE = Verdict(True, "by", "", Route(interface="nothing0"))

REFUSED = [
    ("127.0.0.1", 9, NO, Drop.DENIED),
    ("name.test", 9, NO, Drop.DENIED),
    ("127.0.0.1", 9, None, Drop.DENIED),
    ("127.0.0.1", 9, UPSTREAM, Drop.UPSTREAM),
    ("name.test", 9, UPSTREAM, Drop.UPSTREAM),
    ("127.0.0.1", 9, FOREIGN_SOURCE, Drop.UNREACHABLE),
    ("127.0.0.1", 9, SIX_SOURCE, Drop.UNREACHABLE),
    ("127.0.0.1", 9, NO_INTERFACE, Drop.UNREACHABLE),
    ("127.0.0.1", 0, YES, Drop.UNREACHABLE),
    ("255.255.255.255", 9, YES, Drop.UNREACHABLE),
    ("nowhere.test", 9, YES, Drop.UNRESOLVED),
    ("x" * 64 + ".test", 9, YES, Drop.UNRESOLVED),
]


@pytest.mark.parametrize(("host", "port", "verdict", "why"), REFUSED)
def test_what_cannot_be_sent_to(run, host, port, verdict, why):
    def main():
        with netnet.use_resolver(netnet.HostTable({"name.test": "127.0.0.1"})):
            with datagram_socket() as target:
                where = target.getsockname()
                with Rig(judge=lambda host, packed, port: YES if port == where[1] else verdict) as rig:
                    for _ in range(3):
                        rig.send((host, port))
                    assert rig.settle() == {why: 3}
                    assert rig.echo(target)[1] == b"PING"
                    rig.send((host, port))
                    assert rig.settle() == {why: 1}
            assert len(rig.judged) <= 3

    run(main)


def test_what_is_too_big_with_its_header_is_dropped(run):
    def main():
        with Rig() as rig, datagram_socket() as target:
            assert len(rig.echo(target, bytes(65497))[1]) == 65497
            rig.send(target.getsockname())
            _, source = target.recvfrom(100)
            target.sendto(bytes(65498), source)
            assert rig.settle() == {Drop.TOO_BIG: 1}
            assert rig.echo(target)[1] == b"PING"

    run(main)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOBUFS])
def test_where_there_is_no_room_it_is_dropped(run, monkeypatch, number):
    def full(*_):
        raise OSError(number, "no room")

    def main():
        with Rig() as rig, datagram_socket() as target:
            rig.send(target.getsockname())
            _, source = target.recvfrom(100)
            with monkeypatch.context() as patch:
                patch.setattr(module, "_sendto", full)
                target.sendto(b"pong", source)
                assert rig.settle() == {Drop.NO_ROOM: 1}
                patch.setattr(udp_outlet, "_sendto", full)
                rig.send(target.getsockname())
                assert rig.settle() == {Drop.NO_ROOM: 1}
            assert rig.echo(target)[1] == b"PING"

    run(main)


def test_a_target_where_nobody_is_harms_no_other(run):
    def main():
        with datagram_socket() as nobody:
            closed = nobody.getsockname()
        with Rig() as rig, datagram_socket() as target:
            for _ in range(5):
                rig.send(closed)
                assert rig.echo(target)[1] == b"PING"
            assert rig.settle() == {}

    run(main)


@pytest.mark.parametrize(
    ("number", "ends"),
    [(errno.ECONNREFUSED, False), (errno.EHOSTUNREACH, False), (errno.EMSGSIZE, False), (errno.EBADF, True)],
)
def test_errors_of_receiving(run, monkeypatch, number, ends):
    """Those that speak of a datagram sent before are passed over; others end the association, not the loop."""

    def main():
        with Rig() as rig, datagram_socket() as target:
            rig.echo(target)
            for place in (udp_front, udp_outlet):
                real, errors = place._recvfrom_into, [OSError(number, "error")]

                def failing(*args, real=real, errors=errors):
                    if errors:
                        raise errors.pop()
                    return real(*args)

                with monkeypatch.context() as patch:
                    patch.setattr(place, "_recvfrom_into", failing)
                    rig.send(target.getsockname())
                    wait_all_parked()
                    if ends:
                        assert rig.result.reason == "Bad file descriptor"
                        return
                    _, source = target.recvfrom(100)
                    target.sendto(b"pong", source)
                    assert rig.receive()[1] == b"pong"

    run(main)


# -- who may answer


def test_nobody_answers_who_was_not_asked(run):
    def main():
        with Rig() as rig, datagram_socket() as target, datagram_socket() as stranger:
            rig.send(target.getsockname())
            _, source = target.recvfrom(100)
            stranger.sendto(b"hello", source)
            assert rig.settle() == {Drop.UNASKED: 1}
            rig.send(stranger.getsockname())
            stranger.recv(100)
            stranger.sendto(b"hello", source)
            assert rig.receive() == (stranger.getsockname(), b"hello")

    run(main)


def test_a_target_is_forgotten_when_it_was_not_sent_to_for_long(run):
    def main():
        limits = Limits(udp_idle_seconds=120, idle_seconds=None)
        with Rig(limits=limits) as rig, datagram_socket() as target:
            rig.send(target.getsockname())
            _, source = target.recvfrom(100)
            netnet.sleep(100)
            target.sendto(b"early", source)
            assert rig.receive()[1] == b"early"
            netnet.sleep(19)
            target.sendto(b"in time", source)
            assert rig.receive()[1] == b"in time"
            assert len(rig.judged) == 1
            netnet.sleep(2)
            assert rig.association._outlets == {}, "a socket that nobody needs is closed"
            target.sendto(b"late", source)
            assert silent(rig.udp)
            assert rig.echo(target)[1] == b"PING"
            assert len(rig.judged) == 2

    run(main, clock=VirtualClock())


def test_a_forgotten_target_does_not_answer_where_others_remain(run):
    def main():
        with Rig(limits=Limits(udp_idle_seconds=120)) as rig, datagram_socket() as one, datagram_socket() as other:
            rig.send(one.getsockname())
            _, source = one.recvfrom(100)
            netnet.sleep(119)
            rig.echo(other)
            netnet.sleep(60)
            one.sendto(b"late", source)
            assert rig.settle() == {Drop.UNASKED: 1}
            rig.echo(other)
            assert len(rig.judged) == 2
            assert rig.association._front.targets.keys() == {header(*other.getsockname())}

    run(main, clock=VirtualClock())


def test_of_too_many_targets_the_one_sent_to_longest_ago_is_forgotten(run):
    def main():
        with contextlib.ExitStack() as stack:
            rig = stack.enter_context(Rig(limits=Limits(udp_targets=2)))
            one, two, three = (stack.enter_context(datagram_socket()) for _ in range(3))
            for target in (one, two, one, three):  # two is the oldest
                rig.echo(target)
                netnet.sleep(1)
            source = two_source = None
            rig.send(one.getsockname())
            _, source = one.recvfrom(100)
            two.sendto(b"forgotten", source)
            assert rig.settle() == {Drop.UNASKED: 1}
            assert two_source is None
            assert [port for _, _, port in rig.judged] == [sock.getsockname()[1] for sock in (one, two, three)]
            rig.echo(two)
            assert len(rig.judged) == 4
            rig.control.close()

    run(main, clock=VirtualClock())


def test_a_name_and_an_address_that_mean_the_same(run):
    """Either may be forgotten; the answers come as long as one of them is remembered."""

    def main():
        with netnet.use_resolver(netnet.HostTable({"name.test": "127.0.0.1"})):
            with Rig(limits=Limits(udp_targets=2)) as rig, datagram_socket() as target, datagram_socket() as other:
                port = target.getsockname()[1]
                for where in (("name.test", port), ("127.0.0.1", port), ("name.test", port)):
                    rig.send(where)
                    _, source = target.recvfrom(100)
                    netnet.sleep(1)
                rig.echo(other)  # in place of the address, which is the oldest
                target.sendto(b"pong", source)
                assert rig.receive() == (("127.0.0.1", port), b"pong")

    run(main, clock=VirtualClock())


# -- routes


def test_the_route_says_where_from(run):
    def judge(host, packed, port):
        return Verdict(True, "", "", Route(source="127.0.0.9" if port == ports[0] else None))

    ports = []

    def main():
        with Rig(judge=judge) as rig, datagram_socket() as one, datagram_socket() as other:
            ports[:] = one.getsockname()[1], other.getsockname()[1]
            for target, source in ((one, "127.0.0.9"), (other, "127.0.0.1"), (one, "127.0.0.9")):
                rig.send(target.getsockname())
                _, came_from = target.recvfrom(100)
                assert came_from[0] == source
                target.sendto(b"pong", came_from)
                assert rig.receive() == (target.getsockname(), b"pong")
            assert len(rig.association._outlets) == 2

    run(main)


@pytest.mark.skipif(os.geteuid() != 0, reason="to mark packets takes CAP_NET_ADMIN")
def test_the_route_says_by_which_interface_and_mark(run):
    verdict = Verdict(True, "", "", Route(interface="lo", mark=7))

    def main():
        with Rig(judge=lambda *_: verdict) as rig, datagram_socket() as target:
            assert rig.echo(target)[1] == b"PING"
            (outlet,) = rig.association._outlets.values()
            assert outlet.sock.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == 7
            assert outlet.sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo"

    run(main)


# -- names


class Slow:
    """A resolver that answers when it is let."""

    def __init__(self, addresses):
        self.table = netnet.HostTable(addresses)
        self.asked = []
        self.go = netnet.Event()

    def getaddrinfo(self, host, *args):
        self.asked.append(host)
        self.go.wait()
        return self.table.getaddrinfo(host, *args)

    def getnameinfo(self, *args):
        return self.table.getnameinfo(*args)


def test_a_name_is_looked_up_once_and_delays_nobody_else(run):
    def main():
        slow = Slow({"slow.test": "127.0.0.1"})
        with netnet.use_resolver(slow), Rig() as rig:
            with datagram_socket() as target, datagram_socket() as other:
                port = target.getsockname()[1]
                for number in range(3):
                    rig.send(("slow.test", port), b"%d" % number)
                assert rig.echo(other)[1] == b"PING"
                assert silent(target)
                slow.go.set()
                assert [target.recv(10) for _ in range(3)] == [b"0", b"1", b"2"]
                rig.send(("slow.test", port), b"3")
                _, source = target.recvfrom(10)
                target.sendto(b"pong", source)
                assert rig.receive() == (("127.0.0.1", port), b"pong")
                assert slow.asked == ["slow.test"]
                assert rig.settle() == {}

    run(main)


def test_only_so_much_waits_for_a_name(run):
    def main():
        slow = Slow({"slow.test": "127.0.0.1"})
        with netnet.use_resolver(slow), Rig() as rig, datagram_socket() as target:
            where = ("slow.test", target.getsockname()[1])
            for number in range(WAITING_MAX + 3):
                rig.send(where, b"%d" % number)
            assert rig.settle() == {Drop.LOOKUPS: 3}
            slow.go.set()
            assert [target.recv(10) for _ in range(WAITING_MAX)] == [b"%d" % number for number in range(WAITING_MAX)]

    run(main)


def test_only_so_many_bytes_wait_for_a_name(run):
    def main():
        slow = Slow({"slow.test": "127.0.0.1"})
        with netnet.use_resolver(slow), Rig() as rig, datagram_socket() as target:
            where = ("slow.test", target.getsockname()[1])
            rig.send(where, bytes(WAITING_BYTES_MAX))
            rig.send(where, b"1")
            assert rig.settle() == {Drop.LOOKUPS: 1}
            slow.go.set()
            assert len(target.recv(70000)) == WAITING_BYTES_MAX

    run(main)


def test_only_so_many_names_are_looked_up_at_once(run):
    def main():
        slow = Slow({f"{number}.test": "127.0.0.1" for number in range(LOOKUPS_MAX + 2)})
        with netnet.use_resolver(slow), Rig() as rig, datagram_socket() as target:
            port = target.getsockname()[1]
            for number in range(LOOKUPS_MAX + 2):
                rig.send((f"{number}.test", port), b"%d" % number)
            assert rig.settle() == {Drop.LOOKUPS: 2}
            assert len(slow.asked) == LOOKUPS_MAX
            slow.go.set()
            assert sorted(target.recv(10) for _ in range(LOOKUPS_MAX)) == [
                b"%d" % number for number in range(LOOKUPS_MAX)
            ]
            rig.send((f"{LOOKUPS_MAX}.test", port), b"again")
            assert target.recv(10) == b"again"

    run(main)


def test_what_waits_for_a_name_that_is_forgotten_is_counted(run):
    def main():
        slow = Slow({"slow.test": "127.0.0.1"})
        with netnet.use_resolver(slow), Rig(limits=Limits(udp_targets=1)) as rig, datagram_socket() as target:
            rig.send(("slow.test", 9))
            rig.echo(target)
            assert rig.settle() == {Drop.LOOKUPS: 1}
            slow.go.set()
            assert rig.settle() == {}

    run(main)


def test_a_look_up_that_takes_too_long_fails(run):
    def main():
        slow = Slow({})
        with netnet.use_resolver(slow), Rig() as rig:
            rig.send(("slow.test", 9))
            netnet.sleep(LOOKUP_SECONDS - 1)
            assert rig.settle() == {}
            netnet.sleep(2)
            assert rig.settle() == {Drop.UNRESOLVED: 1}

    run(main, clock=VirtualClock())


def test_a_name_without_an_address_is_not_looked_up_for_each_datagram(run):
    def main():
        slow = Slow({})
        slow.go.set()
        with netnet.use_resolver(slow), Rig() as rig:
            for _ in range(5):
                rig.send(("nowhere.test", 9))
                rig.settle()
                netnet.sleep(UNRESOLVED_SECONDS / 5)
            assert len(slow.asked) == 1
            rig.send(("nowhere.test", 9))
            netnet.sleep(1)
            rig.send(("nowhere.test", 9))
            assert rig.settle()
            assert len(slow.asked) == 2

    run(main, clock=VirtualClock())


CHOICES = [  # the name's addresses; which the rules allow; which is taken
    (["127.0.0.1", "127.0.0.2"], {"127.0.0.1", "127.0.0.2"}, "127.0.0.1"),
    (["127.0.0.1", "127.0.0.2"], {"127.0.0.2"}, "127.0.0.2"),
    (["127.0.0.1", "127.0.0.2"], set(), Drop.DENIED),
    (["255.255.255.255", "127.0.0.2"], {"255.255.255.255", "127.0.0.2"}, "127.0.0.2"),  # that one cannot be sent to
    (["255.255.255.255"], {"255.255.255.255"}, Drop.UNREACHABLE),
    (["127.0.0.2", "255.255.255.255"], {"255.255.255.255"}, Drop.UNREACHABLE),
]


@pytest.mark.parametrize(("addresses", "allowed", "taken"), CHOICES)
def test_each_address_of_a_name_is_judged(run, addresses, allowed, taken):
    def judge(host, packed, port):
        assert host == "name.test"
        if not packed:
            return None
        return YES if str(ipaddress.ip_address(packed)) in allowed else NO

    def main():
        with contextlib.ExitStack() as stack:
            stack.enter_context(netnet.use_resolver(netnet.HostTable({"name.test": addresses})))
            rig = stack.enter_context(Rig(judge=judge))
            one = stack.enter_context(datagram_socket("127.0.0.1"))
            port = one.getsockname()[1]
            sockets = {"127.0.0.1": one, "127.0.0.2": stack.enter_context(datagram_socket("127.0.0.2", port))}
            for _ in range(2):
                rig.send(("name.test", port))
                assert rig.settle() == ({taken: 1} if isinstance(taken, Drop) else {})
            if not isinstance(taken, Drop):
                assert sockets[taken].recv(10) == sockets[taken].recv(10) == b"ping"
            rig.control.close()

    run(main)


def test_a_name_that_the_rules_allow_whatever_its_address_is_judged_once(run):
    def main():
        with netnet.use_resolver(netnet.HostTable({"name.test": "127.0.0.1"})):
            with Rig() as rig, datagram_socket() as target:
                port = target.getsockname()[1]
                rig.send(("name.test", port))
                assert target.recv(10) == b"ping"
                assert rig.judged == [("name.test", b"", port)]

    run(main)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "127.0.0.1", "127.0.0.1."])
def test_an_address_that_is_written_as_a_name_is_judged_as_an_address(run, host):
    def main():
        with Rig() as rig, datagram_socket() as target:
            port = target.getsockname()[1]
            rig.raw(b"\0\0\0\3" + bytes([len(host)]) + host.encode() + port.to_bytes(2, "big") + b"ping")
            _, source = target.recvfrom(10)
            target.sendto(b"pong", source)
            assert rig.receive() == (("127.0.0.1", port), b"pong")
            assert rig.judged == [("127.0.0.1", b"\x7f\0\0\1", port)]

    run(main)


# -- throttles


class Counting:
    """A throttle that grants what it has."""

    def __init__(self, held):
        self.held = held

    def grant(self, wanted, now):
        given = min(wanted, self.held, 1000)
        self.held -= given
        return given

    def give_back(self, unused):
        self.held += unused

    def ready_at(self, now):
        raise AssertionError("nobody waits here")


def test_what_a_throttle_does_not_grant_whole_is_dropped(run):
    def main():
        own, shared, back = Counting(5000), Counting(3500), Counting(2500)
        with Rig(throttles=((own, shared), (back,))) as rig, datagram_socket() as target:
            rig.echo(target, bytes(2500))
            assert (own.held, shared.held, back.held) == (2500, 1000, 0)
            rig.send(target.getsockname(), bytes(1001))
            assert rig.settle() == {Drop.THROTTLED: 1}
            assert (own.held, shared.held) == (2500, 1000)
            rig.send(target.getsockname(), bytes(1000))
            _, source = target.recvfrom(2000)
            target.sendto(b"x", source)
            assert rig.settle() == {Drop.THROTTLED: 1}
            rig.send(target.getsockname(), b"")
            assert target.recv(10) == b""
            assert rig.association.sent == 3500
            assert rig.association.received == 2500

    run(main)


def test_the_rate_is_kept(run):
    rate = 100_000

    def main():
        bucket = TokenBucket(rate)
        with Rig(throttles=((bucket,), ())) as rig, datagram_socket() as target:
            for _ in range(1000):  # 10 s at twice the rate
                for _ in range(2):
                    rig.send(target.getsockname(), bytes(1000))
                netnet.sleep(0.01)
                while not silent(target):
                    pass
            assert rig.association.sent == pytest.approx(10 * rate, rel=0.1)
            assert rig.association.dropped[Drop.THROTTLED] == 2000 - rig.association.datagrams_sent

    run(main, clock=VirtualClock())


# -- the end


def test_it_ends_with_the_connection(run, backend):
    def main():
        with Rig() as rig, datagram_socket() as target:
            rig.echo(target)
            rig.send(target.getsockname())
            _, source = target.recvfrom(10)
            rig.control.close()
            rig.ended.wait()
            assert rig.result.reason == "closed"
            rig.send(target.getsockname())
            target.sendto(b"late", source)
            assert silent(target)
            assert silent(rig.udp)

    run(main)


def test_half_of_the_connection_is_the_whole(run):
    def main():
        with Rig() as rig:
            rig.control.shutdown(socket.SHUT_WR)
            rig.ended.wait()
            assert rig.result.reason == "closed"
            assert rig.control.recv(10) == b""

    run(main)


def test_a_reset_ends_it(run):
    def main():
        with Rig() as rig:
            rig.control.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            rig.control.close()
            rig.ended.wait()
            assert rig.result.reason == "Connection reset by peer"

    run(main)


def test_a_connection_that_has_ended_already(run):
    def main():
        with Rig(start=False) as rig:
            rig.control.close()
            wait_all_parked()
            rig.association.start(rig._done)
            rig.ended.wait()
            assert rig.result.reason == "closed"

    run(main)


def test_what_comes_on_the_connection_is_ignored_but_not_for_ever(run):
    def main():
        with Rig() as rig, datagram_socket() as target:
            for _ in range(4):
                rig.control.sendall(bytes(CONTROL_BYTES_MAX // 4))
                wait_all_parked()
            assert rig.echo(target)[1] == b"PING"
            rig.control.sendall(b"1")
            rig.ended.wait()
            assert rig.result.reason == f"more than {CONTROL_BYTES_MAX} bytes came on the connection of an association"

    run(main)


def test_silence_ends_it(run):
    def main():
        began = netnet.now()
        with Rig(limits=Limits(idle_seconds=300, udp_idle_seconds=1000)) as rig, datagram_socket() as target:
            netnet.sleep(200)
            rig.send(target.getsockname())
            _, source = target.recvfrom(10)
            netnet.sleep(200)
            target.sendto(b"pong", source)
            rig.receive()
            netnet.sleep(290)
            rig.raw(b"nonsense")  # what is dropped does not count
            rig.send(target.getsockname(), sock=rig.socket())
            assert not rig.association.ended
            rig.ended.wait()
            assert rig.result.reason == "idle"
            assert netnet.now() - began == pytest.approx(700)

    run(main, clock=VirtualClock())


def test_without_a_limit_silence_does_not_end_it(run):
    def main():
        with Rig(limits=Limits(idle_seconds=None)) as rig, datagram_socket() as target:
            rig.echo(target)
            netnet.sleep(1_000_000)
            assert rig.echo(target)[1] == b"PING"
            netnet.sleep(1000)
            assert not running.loop.timers.next_instant(), "nothing is left that it would wake up for"

    run(main, clock=VirtualClock())


def test_run_waits_for_the_end(run):
    def main():
        with Rig(start=False) as rig, datagram_socket() as target:
            task = netnet.spawn(rig.association.run)
            assert rig.echo(target)[1] == b"PING"
            rig.control.close()
            result = task.result()
            assert (result.sent, result.received, result.reason, result.dropped) == (4, 4, "closed", {})

    run(main)


def test_run_can_be_cancelled(run):
    def main():
        with Rig(start=False) as rig:
            task = netnet.spawn(rig.association.run)
            wait_all_parked()
            task.cancel()
            task.join()
            assert rig.association.result.reason == "cancelled"
            assert rig.control.recv(10) == b""

    run(main)


def test_it_can_be_aborted_at_any_time(run):
    def main():
        with Rig(start=False) as rig:
            rig.association.abort("never begun")
            rig.association.abort("again")
            assert rig.association.result.reason == "never begun"
        slow = Slow({})
        with netnet.use_resolver(slow), Rig() as rig, datagram_socket() as target:
            rig.send(("slow.test", 9))
            rig.send(target.getsockname())
            wait_all_parked()
            rig.association.abort("the proxy stops")
            assert rig.result.reason == "the proxy stops"
            wait_all_parked()
            assert len(running.loop.tasks()) == 1

    run(main)


def test_the_end_of_the_run_ends_it():
    results = []

    def main():
        with netnet.listen("127.0.0.1:0") as listener:
            control = netnet.connect(listener.getsockname())
            client, _ = listener.accept()
        Association(client, request(), judge=lambda *_: YES).start(results.append)
        with control, datagram_socket() as udp, datagram_socket() as target:
            del udp, target
            raise LookupError("the run ends")

    with pytest.raises(LookupError):
        netnet.run(main)
    assert [result.reason for result in results] == ["the run was stopped"]


def test_in_a_run_that_is_ending_it_does_not_begin(run):
    results = []

    def main():
        control, client = pair("127.0.0.1")
        association = Association(client, request(), judge=lambda *_: YES)
        running.loop.shut_down()
        association.start(results.append)
        control.close()

    with contextlib.suppress(BaseException):
        run(main)
    assert [result.reason for result in results] == ["the run was stopped"]


@pytest.mark.parametrize("named", [False, True])
def test_a_bug_of_the_judge_costs_one_association(run, caplog, named):
    def judge(host, packed, port):
        if named and not packed:
            return None
        raise RuntimeError("a bug")

    def main():
        table = netnet.use_resolver(netnet.HostTable({"name.test": "127.0.0.1"}))
        with table, Rig(judge=judge) as rig, Rig() as other, datagram_socket() as target:
            rig.send(("name.test", 9) if named else target.getsockname())
            rig.ended.wait()
            assert rig.result.reason == "internal error"
            assert other.echo(target)[1] == b"PING"
            other.control.close()

    with caplog.at_level(logging.ERROR, "netnet"):
        run(main)
    assert "an association failed" in caplog.text


def test_a_bug_of_the_callback_is_logged(run, caplog):
    def main():
        with Rig(start=False) as rig:
            rig.association.start(lambda result: 1 / 0)
            rig.control.close()
            wait_all_parked()

    with caplog.at_level(logging.ERROR, "netnet"):
        run(main)
    assert "the callback at the end of an association failed" in caplog.text


def test_the_connection_must_be_free(run):
    def main():
        with Rig(start=False) as rig:
            task = netnet.spawn(rig.near.recv, 10)
            wait_all_parked()
            with pytest.raises(netnet.BusyError):
                rig.association.start(rig._done)
            task.cancel()
            task.join()
            rig.association.abort()

    run(main)


def test_an_idle_association_has_no_task_and_one_socket(run):
    def main():
        tasks = len(running.loop.tasks())
        with Rig() as rig, datagram_socket() as target:
            assert len(running.loop.tasks()) == tasks
            assert rig.association._outlets == {}
            rig.echo(target)
            assert len(running.loop.tasks()) == tasks
            assert len(rig.association._outlets) == 1

    run(main)
