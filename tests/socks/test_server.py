"""The proxy's server in the loop of the test: true replies, at the right moment; hostile, slow and broken clients; and
what it tells of each connection. Time is virtual wherever a limit is reached.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import random
import signal
import socket
import struct

import pytest

import netnet
from netnet.runtime.loop import running
from netnet.socks import Command, Ending, Entrance, Limits, Request, Rule, Rules, Server, Session, Settings
from netnet.socks.socks4 import REQUEST_BYTES_MAX
from netnet.testing import VirtualClock, wait_all_parked
from tests.socks.conftest import echoing
from tests.socks.wire import GRANTED, REFUSAL, reply5, request, request5

RESET = struct.pack("ii", 1, 0)


def exactly(sock, count):
    data = bytearray()
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        assert chunk, f"the stream ended after {bytes(data)!r}"
        data += chunk
    return bytes(data)


def everything(sock):
    return b"".join(sock)


def assert_granted(client):
    assert exactly(client, 8)[:2] == bytes([0, GRANTED])


def assert_refused(client):
    """The refusal, whole, and then the end; no reset, although the client may have sent more than was read."""
    assert everything(client) == REFUSAL


def assert_cut_off(sock):
    with pytest.raises(ConnectionResetError):
        sock.recv(1)


def nothing_to_read(sock):
    sock.settimeout(0)
    try:
        sock.recv(1)
    except BlockingIOError:
        return True
    finally:
        sock.settimeout(None)
    return False


@pytest.fixture
def refusing():
    """A port that is taken and that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


# -- it works


@pytest.mark.parametrize("fields", [{}, {"user": b"fred"}, {"name": "127.0.0.1"}, {"name": "localhost", "user": b"x"}])
def test_connect(backend, run, proxy, fields):
    def main():
        with echoing() as target, proxy() as p:
            with p.to(target, **fields) as client:
                assert_granted(client)
                for data in (b"hello", b"x" * 300_000):
                    netnet.spawn(client.sendall, data)
                    assert exactly(client, len(data)) == data
            session = p.ended()
            assert (session.sent, session.received, session.ending) == (300_005, 300_005, Ending.CLOSED)

    run(main)


def test_the_reply_names_the_address_towards_the_target(run, proxy):
    def main():
        with netnet.listen("127.0.0.1:0") as target, proxy() as p, p.to(target) as client:
            reply = exactly(client, 8)
            seen, peer = target.accept()
            with seen:
                assert reply == bytes([0, GRANTED]) + struct.pack(">H", peer[1]) + socket.inet_aton(peer[0])

    run(main)


@pytest.mark.parametrize("name", ["::1", "[::1]"])
def test_an_ipv6_target(run, proxy, name):
    def main():
        try:
            target = netnet.listen("[::1]:0")
        except OSError:
            pytest.skip("there is no IPv6 here")
        with target, proxy() as p, p.client(request("", target.getsockname()[1], name=name)) as client:
            reply = exactly(client, 8)
            assert reply[:2] == bytes([0, GRANTED])
            assert reply[4:] == bytes(4)
            target.accept()[0].close()
            client.close()
            assert f"-> [::1]:{target.getsockname()[1]} " in p.ended().line(0)

    run(main)


def test_byte_by_byte(backend, run, proxy):
    def main():
        with echoing() as target, proxy() as p, p.client() as client:
            data = request("", target.getsockname()[1], user=b"me", name="127.0.0.1")
            for index in range(len(data)):
                assert nothing_to_read(client)
                client.sendall(data[index : index + 1])
                wait_all_parked()
            assert_granted(client)
            client.sendall(b"x")
            assert exactly(client, 1) == b"x"

    run(main)


@pytest.mark.parametrize("size", [1, 100, REQUEST_BYTES_MAX, 200_000])
@pytest.mark.parametrize("name", [None, "127.0.0.1"])
def test_data_glued_to_the_request(backend, run, proxy, size, name):
    data = random.Random(size).randbytes(size)

    def main():
        with echoing() as target, proxy() as p:
            with p.client() as client:
                glued = request(*target.getsockname(), name=name) + data
                netnet.spawn(client.sendall, glued)
                assert_granted(client)
                assert exactly(client, size) == data
            session = p.ended()
            assert (session.sent, session.received) == (size, size)

    run(main)


def test_glued_data_waits_for_a_slow_target(run, proxy):
    """The target does not read yet; what was glued arrives, in order, before what came later."""

    def main():
        with netnet.listen("127.0.0.1:0") as target, proxy() as p:
            with p.client(request(*target.getsockname()) + b"first ") as client:
                assert_granted(client)
                client.sendall(b"second")
                client.shutdown(socket.SHUT_WR)
                seen, _ = target.accept()
                with seen:
                    assert everything(seen) == b"first second"
            assert p.ended().sent == 12

    run(main)


def test_half_close_at_once(backend, run, proxy):
    """Request, question and the end in one go; the answer comes after it."""

    def main():
        with netnet.listen("127.0.0.1:0") as target, proxy() as p, p.to(target) as client:
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            seen, _ = target.accept()
            with seen:
                assert everything(seen) == b"question"
                seen.sendall(b"answer")
            assert_granted(client)
            assert everything(client) == b"answer"

    run(main)


def test_the_target_speaks_first(run, proxy):
    def main():
        with netnet.listen("127.0.0.1:0") as target, proxy() as p, p.to(target) as client:
            seen, _ = target.accept()
            with seen:
                seen.sendall(b"220 ready")
            assert_granted(client)
            assert everything(client) == b"220 ready"

    run(main)


def test_two_listeners_and_a_unix_socket(run, tmp_path):
    def main():
        sessions = []
        with (
            echoing() as target,
            netnet.listen("127.0.0.1:0") as tcp,
            netnet.listen(f"unix:{tmp_path}/proxy") as unix,
        ):
            task = netnet.spawn(Server(report=sessions.append).serve, tcp, unix)
            for address in (tcp.getsockname(), f"unix:{tmp_path}/proxy"):
                with netnet.connect(address) as client:
                    client.sendall(request(*target.getsockname()) + b"x")
                    assert_granted(client)
                    assert exactly(client, 1) == b"x"
            while len(sessions) < 2:
                netnet.sleep(0)
            task.cancel()
        assert [session.client.split(":")[0] for session in sessions] == ["127.0.0.1", "unix"]

    run(main)


@pytest.mark.parametrize(("address", "ending"), [("127.0.0.1:0", Ending.CLOSED), ("0.0.0.0:0", Ending.DENIED)])
def test_private_addresses_are_denied_where_others_can_connect(run, address, ending):
    """Unless the entrance says otherwise."""
    sessions = []

    def main():
        with echoing() as target, netnet.listen(address) as listener:
            server = Server(entrances=[Entrance("one")], report=sessions.append)
            task = netnet.spawn(server.serve, listener)
            with netnet.connect(("127.0.0.1", listener.getsockname()[1])) as client:
                client.sendall(request(*target.getsockname()))
                client.shutdown(socket.SHUT_WR)
                while client.recv(100):
                    pass
            while not sessions:
                netnet.sleep(0)
            task.cancel()
        assert [session.ending for session in sessions] == [ending]

    run(main)


def test_a_listener_for_both_families(run):
    """Who comes by IPv4 is known by its IPv4 address there, in the log and to the rules."""
    sessions = []
    rules = Rules([Rule("loopback", True, clients=("127.0.0.0/8",))], default_allow=False)

    def main():
        with echoing() as target, netnet.Socket(socket.AF_INET6) as listener:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind(("::", 0))
            listener.listen()
            entrance = Entrance("both", deny_private=False)  # by default it is on, since others can connect there
            server = Server(Settings(rules=rules), entrances=[entrance], report=sessions.append)
            task = netnet.spawn(server.serve, listener)
            with netnet.connect(("127.0.0.1", listener.getsockname()[1])) as client:
                client.sendall(request(*target.getsockname()))
                assert_granted(client)
                name = client.getsockname()
            while not sessions:
                netnet.sleep(0)
            task.cancel()
        assert sessions[0].client == f"{name[0]}:{name[1]}"

    run(main)


# -- the reply is true, and comes in time


def test_granted_only_when_the_connection_stands(backend, run, proxy):
    def main():
        go = netnet.Event()

        def dial(address):
            dialled.append(address)
            go.wait()
            return netnet.connect(address)

        dialled = []
        with echoing() as target, proxy(dial=dial) as p, p.to(target, name="some.where") as client:
            wait_all_parked()
            assert dialled == [("some.where", target.getsockname()[1])]
            assert nothing_to_read(client)
            assert p.server.active == 1
            dialled.clear()
            go.set()
            assert everything(client) == REFUSAL  # there is no such name

    run(main)


def test_not_granted_while_the_target_does_not_answer(run, proxy):
    """A real connection that is not accepted: the target's backlog is full."""

    def main():
        with netnet.listen("127.0.0.1:0", backlog=0) as target, contextlib.ExitStack() as stack:
            p = stack.enter_context(proxy(limits=Limits(connect_seconds=20)))
            for _ in range(3):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(target.getsockname())
            client = stack.enter_context(p.to(target))
            wait_all_parked()
            assert nothing_to_read(client)
            assert_refused(client)
            assert netnet.now() == 20
            session = p.ended()
            assert (session.ending, "20 s" in session.detail) == (Ending.CONNECT_TIMEOUT, True)

    run(main, clock=VirtualClock())


def test_a_refused_target(backend, run, proxy, refusing):
    def main():
        with proxy() as p, p.to(refusing) as client:
            assert_refused(client)
            session = p.ended()
            assert session.ending is Ending.REFUSED
            assert (session.sent, session.received) == (0, 0)

    run(main)


@pytest.mark.parametrize("name", ["no.such.host.invalid", "a..b", ".", "-", "h" * 255, "xn--\x7e", "[::1", "%s%n"])
def test_a_name_that_leads_nowhere(run, proxy, name):
    def main():
        with proxy() as p, p.client(request("", 80, name=name)) as client:
            assert_refused(client)
            session = p.ended()
            assert session.ending is Ending.UNRESOLVED
            assert session.detail

    run(main)


ERRORS = [
    (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), Ending.REFUSED),
    (OSError(errno.ENETUNREACH, "Network is unreachable"), Ending.UNREACHABLE),
    (OSError(errno.EHOSTUNREACH, "No route to host"), Ending.UNREACHABLE),
    (OSError(errno.ETIMEDOUT, "Connection timed out"), Ending.CONNECT_TIMEOUT),
    (OSError(errno.EPERM, "Operation not permitted"), Ending.DENIED),
    (OSError(errno.EMFILE, "Too many open files"), Ending.FAILED),
    (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), Ending.UNRESOLVED),
    (UnicodeError("label too long"), Ending.UNRESOLVED),
    (TimeoutError("too slow"), Ending.CONNECT_TIMEOUT),
    (netnet.ClosedError(), Ending.FAILED),
    (OSError("without a number"), Ending.FAILED),
]


@pytest.mark.parametrize(("error", "ending"), ERRORS, ids=repr)
def test_every_way_a_connection_fails_is_a_refusal(run, proxy, error, ending):
    def dial(address):
        raise error

    def main():
        with proxy(dial=dial) as p, p.client(request("10.0.0.1", 80)) as client:
            assert_refused(client)
            session = p.ended()
            assert (session.ending, session.detail) == (ending, getattr(error, "strerror", None) or str(error))
            assert session.request == Request(Command.CONNECT, "10.0.0.1", 80, b"\x0a\0\0\1")

    run(main)


# -- bad input

TLS_HELLO = bytes.fromhex("160301020001fc0303") + random.Random(1).randbytes(400)
NOTHING = b""
FLOOD = b"u" * 5000

#: what is sent → what is answered before the close. Who speaks no protocol of ours hears nothing: there is no form for it
GARBAGE = {
    "http without a host": (b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n", b"HTTP/1.1 400 "),
    "http to nowhere": (b"CONNECT example.com HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 "),
    "a word": (b"HELO\r\n", b"HTTP/1.1 400 "),
    "proxy protocol": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n", b"HTTP/1.1 400 "),
    "endless word": (b"G" * 9000, b"HTTP/1.1 414 "),
    "tls": (TLS_HELLO, NOTHING),
    "zeros": (bytes(600), NOTHING),
    "one byte": (b"\xff", NOTHING),
    "socks6": (b"\x06\x01\x00", NOTHING),
    "socks5 without methods": (b"\x05\x00", b"\x05\xff"),
    "socks5 by Kerberos": (b"\x05\x01\x01" + FLOOD, b"\x05\xff"),
    "socks5 in socks5": (b"\x05\x01\x00\x04\x01", b"\x05\x00" + reply5(1)),
    "socks5, command 9": (b"\x05\x01\x00\x05\x09\x00\x01" + bytes(6), b"\x05\x00" + reply5(7)),
    "socks5, address 9": (b"\x05\x01\x00\x05\x01\x00\x09" + FLOOD, b"\x05\x00" + reply5(8)),
    "socks5, no name": (b"\x05\x01\x00" + request5(b"", 80), b"\x05\x00" + reply5(1)),
    "socks5, line feed in the name": (b"\x05\x01\x00" + request5(b"a\nb", 80), b"\x05\x00" + reply5(1)),
    "command 3": (b"\x04\x03\x00\x50\x7f\x00\x00\x01\x00", REFUSAL),
    "endless user": (request("127.0.0.1", 80)[:-1] + FLOOD, REFUSAL),
    "endless name": (request("", 80, name="h" * 5000), REFUSAL),
    "no name": (request("", 80, name=""), REFUSAL),
    "line feed in the name": (request("", 80, name="a\nb"), REFUSAL),
    **{f"random {seed}": (b"\x80" + random.Random(seed).randbytes(3000), NOTHING) for seed in range(5)},
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_gets_the_refusal_of_its_protocol_and_a_close(backend, run, proxy, name):
    data, answer = GARBAGE[name]

    def main():
        with echoing() as target, proxy() as p:
            with p.client(data) as client:
                heard = everything(client)
                assert heard.startswith(answer) if answer.startswith(b"HTTP") else heard == answer
            session = p.ended()
            assert session.ending in (Ending.BAD_REQUEST, Ending.UNSUPPORTED)
            assert session.line(0).isprintable()
            assert session.request is None
            with p.to(target) as client:  # and the server goes on
                assert_granted(client)

    run(main)


@pytest.mark.parametrize(
    ("first", "answer"), [(b"G", b"HTTP/1.1 414 "), (b"\x04\x09", REFUSAL), (b"\x05\x01\x09", b"\x05\xff")]
)
def test_a_lot_of_garbage(run, proxy, first, answer):
    """More than the server reads: the refusal still gets there."""

    def main():
        with proxy() as p, p.client() as client:
            task = netnet.spawn(send_in_vain, client, first + b"G" * 5_000_000)
            assert exactly(client, len(answer)) == answer
            p.ended()
            task.join()

    run(main)


def send_in_vain(sock, data):
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        sock.sendall(data)


def leave(client):
    client.close()


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()


@pytest.mark.parametrize("sent", [b"", b"\x04", request("127.0.0.1", 80)[:-1], request("", 80, name="h")[:-1]])
@pytest.mark.parametrize(("way", "word"), [(leave, "left"), (reset, "reset")])
def test_a_client_that_leaves_before_its_request(backend, run, proxy, sent, way, word):
    def main():
        with proxy() as p:
            client = p.client(sent)
            wait_all_parked()
            way(client)
            session = p.ended()
            assert word in f"{session.ending}: {session.detail}"
            assert session.request is None

    run(main)


def test_a_client_that_is_gone_before_it_is_accepted(run, proxy):
    def main():
        with echoing() as target, proxy() as p:
            reset(netnet.connect(p.address))  # the server's task has not run yet
            with p.to(target) as client:
                assert_granted(client)
            p.ended(2)

    run(main)


@pytest.mark.parametrize("way", [leave, reset])
@pytest.mark.parametrize("glued", [b"", b"data"])
def test_a_client_that_leaves_while_its_connection_is_made(backend, run, proxy, way, glued):
    def main():
        go = netnet.Event()

        def dial(address):
            go.wait()
            return netnet.connect(address)

        with echoing() as target, proxy(dial=dial) as p:
            client = p.client(request(*target.getsockname()) + glued)
            wait_all_parked()
            way(client)
            wait_all_parked()
            go.set()
            wanted = (
                (Ending.RESET, Ending.CLIENT_LEFT) if way is reset or glued else (Ending.CLOSED,)
            )  # an echo is unread
            assert p.ended().ending in wanted
            assert p.server.active == 0

    run(main)


# -- time


@pytest.mark.parametrize("sent", [b"", b"\x04\x01", request("127.0.0.1", 80, user=b"u" * 255)[:-1]])
def test_the_handshake_has_its_time(backend, run, proxy, sent):
    def main():
        with proxy(limits=Limits(handshake_seconds=7)) as p, p.client(sent) as client:
            assert everything(client) == (REFUSAL if sent else b"")  # who has said nothing is told nothing
            assert netnet.now() == 7
            assert p.ended().ending is Ending.HANDSHAKE_TIMEOUT

    run(main, clock=VirtualClock())


#: what is sent → what is told when the handshake's time is over: what it would be told for any failure at that place
LATE = [
    (b"\x05", b"\x05\xff"),
    (b"\x05\x02\x00", b"\x05\xff"),
    (b"\x05\x01\x00", b"\x05\x00" + reply5(1)),
    (b"\x05\x01\x00" + request5("127.0.0.1", 80)[:-1], b"\x05\x00" + reply5(1)),
    (b"\x05\x01\x02", b"\x05\x02\x01\x01"),
    (b"\x05\x01\x02\x01\x05use", b"\x05\x02\x01\x01"),
    (b"G", b"HTTP/1.1 408 "),
    (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n", b"HTTP/1.1 408 "),
]


@pytest.mark.parametrize(("sent", "answer"), LATE)
def test_what_is_told_when_the_time_is_over(run, proxy, sent, answer):
    def main():
        with proxy(limits=Limits(handshake_seconds=7)) as p, p.client(sent) as client:
            heard = everything(client)
            assert heard.startswith(answer) if answer.startswith(b"HTTP") else heard == answer
            assert netnet.now() == 7
            session = p.ended()
            assert session.ending is Ending.HANDSHAKE_TIMEOUT
            assert session.protocol == ("socks5" if sent[0] == 5 else "http")

    run(main, clock=VirtualClock())


def test_a_byte_now_and_then_does_not_prolong_the_handshake(run, proxy):
    def main():
        with proxy(limits=Limits(handshake_seconds=10)) as p, p.client() as client:
            for byte in request("127.0.0.1", 80)[:4]:
                client.sendall(bytes([byte]))
                netnet.sleep(3)
            assert_refused(client)
            assert p.ended().began == 0
            assert netnet.now() == 12

    run(main, clock=VirtualClock())


def test_a_request_in_the_last_moment_is_served(run, proxy):
    def main():
        with echoing() as target, proxy(limits=Limits(handshake_seconds=10)) as p, p.client() as client:
            data = request(*target.getsockname())
            client.sendall(data[:-1])
            netnet.sleep(9.999)
            client.sendall(data[-1:])
            assert_granted(client)
            netnet.sleep(1000)  # the handshake's time is over, the connection goes on
            client.sendall(b"x")
            assert exactly(client, 1) == b"x"

    run(main, clock=VirtualClock())


def test_the_connection_has_its_time(run, proxy):
    def main():
        with proxy(limits=Limits(connect_seconds=8), dial=lambda address: netnet.sleep(10**6)) as p:
            with p.client(request("10.0.0.1", 80)) as client:
                assert_refused(client)
                assert netnet.now() == 8
            session = p.ended()
            assert (session.ending, "8 s" in session.detail) == (Ending.CONNECT_TIMEOUT, True)

    run(main, clock=VirtualClock())


@pytest.mark.parametrize(("half", "after", "ending"), [(False, 50, Ending.IDLE), (True, 20, Ending.LINGER)])
def test_silence_ends_the_connection(run, proxy, half, after, ending):
    limits = Limits(idle_seconds=50, linger_seconds=20)

    def main():
        with netnet.listen("127.0.0.1:0") as target, proxy(limits=limits) as p, p.to(target) as client:
            assert_granted(client)
            seen, _ = target.accept()
            with seen:
                if half:
                    client.shutdown(socket.SHUT_WR)
                assert p.ended().ending is ending
                assert netnet.now() == after
                assert_cut_off(client)
                if half:
                    assert everything(seen) == b""
                else:
                    assert_cut_off(seen)

    run(main, clock=VirtualClock())


def test_stalled_clients_delay_nobody(backend, run, proxy):
    """Virtual time stands still while the others are served, so none of them has waited for anybody's limit."""

    def main():
        with echoing() as target, proxy() as p, contextlib.ExitStack() as stack:
            for sent in [b"", b"\x04", request("10.0.0.1", 80)[:-1], request("", 1, name="h" * 200)[:-1]] * 10:
                stack.enter_context(p.client(sent))
            for _ in range(3):
                with p.to(target) as client:
                    assert_granted(client)
                    client.sendall(b"x")
                    assert exactly(client, 1) == b"x"
            assert netnet.now() == 0
            assert p.server.active >= 40

    run(main, clock=VirtualClock())


def test_a_slow_target_delays_nobody(run, proxy):
    def main():
        with echoing() as target:

            def dial(address):
                if address[0] == "10.0.0.1":
                    netnet.sleep(25)
                return netnet.connect(target.getsockname())

            with proxy(dial=dial) as p, p.client(request("10.0.0.1", 80)) as slow:
                with p.client(request("10.0.0.2", 80)) as fast:
                    assert_granted(fast)
                    assert netnet.now() == 0
                assert_granted(slow)
                assert netnet.now() == 25

    run(main, clock=VirtualClock())


def test_a_client_that_does_not_read_delays_nobody(run, proxy):
    def main():
        with netnet.listen("127.0.0.1:0") as source, echoing() as target, proxy() as p, p.to(source) as deaf:
            flood, _ = source.accept()
            with flood:
                task = netnet.spawn(send_in_vain, flood, b"x" * 50_000_000)
                wait_all_parked()
                with p.to(target) as client:
                    assert_granted(client)
                    client.sendall(b"x")
                    assert exactly(client, 1) == b"x"
                assert not task.done
                reset(deaf)
                task.join()

    run(main, clock=VirtualClock())


# -- limits and bugs


def test_the_connection_limit_stops_accepting(backend, run, proxy):
    def main():
        with echoing() as target, proxy(limits=Limits(connections=2)) as p:
            first, second, third = (p.to(target) for _ in range(3))
            with first, second, third:
                assert_granted(first)
                assert_granted(second)
                wait_all_parked()
                assert p.server.active == 2
                assert nothing_to_read(third)
                first.close()
                assert_granted(third)
                assert p.server.active == 2
            p.ended(3)

    run(main)


def test_refused_and_bad_clients_give_their_place_back(run, proxy, refusing):
    def main():
        with echoing() as target, proxy(limits=Limits(connections=1)) as p:
            for data in (b"\x04\x07", request(*refusing.getsockname()), request("1.1.1.1", 1, command=3)) * 3:
                with p.client(data) as client:
                    assert_refused(client)
            p.client().close()
            with p.to(target) as client:
                assert_granted(client)
            p.ended(11)

    run(main)


@pytest.mark.parametrize(
    "error", [RuntimeError("a bug"), MemoryError(), KeyError("x"), ExceptionGroup("many", [OSError()])]
)
def test_a_bug_costs_its_own_connection_only(backend, run, proxy, caplog, error):
    def main():
        with echoing() as target:

            def dial(address):
                if address[0] == "10.0.0.1":
                    raise error
                return netnet.connect(target.getsockname())

            with proxy(dial=dial) as p:
                with p.client(request("10.0.0.1", 80)) as client:
                    assert everything(client) in (b"", REFUSAL)
                assert p.ended().ending is Ending.ERROR
                with p.client(request("10.0.0.2", 80)) as client:
                    assert_granted(client)

    run(main)
    assert type(error).__name__ in caplog.text


@pytest.mark.parametrize("what", ["handshake", "relay"])
def test_a_report_that_fails_costs_the_report_only(backend, run, caplog, what):
    def report(session):
        reported.set()
        raise RuntimeError("the log is full")

    def main():
        with echoing() as target, netnet.listen("127.0.0.1:0") as listener:
            server = Server(report=report)
            task = netnet.spawn(server.serve, listener)
            for _ in range(2):
                with netnet.connect(listener.getsockname()) as client:
                    client.sendall(b"\x04\x09" if what == "handshake" else request(*target.getsockname()))
                    assert_refused(client) if what == "handshake" else assert_granted(client)
                reported.wait()
                reported.clear()
                wait_all_parked()
                assert server.active == 0
                assert not task.done
            task.cancel()

    reported = netnet.Event()
    run(main)
    assert "the log is full" in caplog.text


def test_cancelling_the_server_ends_handshakes_and_leaves_relays(backend, run, proxy):
    def main():
        with echoing() as target, proxy() as p:
            with p.to(target) as relayed, p.client() as waiting:
                assert_granted(relayed)
                wait_all_parked()
                assert p.server.active == 2
                p.task.cancel()
                p.task.join()
                assert p.ended().ending is Ending.STOPPED
                assert everything(waiting) in (b"", REFUSAL)
                relayed.sendall(b"x")
                assert exactly(relayed, 1) == b"x"
            assert p.ended(2).ending is Ending.CLOSED

    run(main)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything(backend, run, number):
    sessions, kept = [], []

    def main():
        with netnet.listen("127.0.0.1:0") as target, netnet.listen("127.0.0.1:0") as listener:
            for _ in range(3):
                client = socket.create_connection(listener.getsockname())
                client.sendall(request(*target.getsockname()))
                kept.append(client)
            kept.append(socket.create_connection(listener.getsockname()))  # says nothing
            task = netnet.spawn(Server(report=sessions.append).serve, listener)
            while len(running.loop.relays) < 3:
                netnet.sleep(0)
            running.loop.call_soon(lambda: os.kill(os.getpid(), number))
            task.join()

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(main)
    assert [session.ending for session in sessions] == [Ending.STOPPED] * 4
    for client in kept:
        client.close()


def test_a_connection_that_stands_in_the_moment_of_the_stop_does_not_hold_the_run_up(run):
    """The target answers and the run is stopped in the same turn; no relay may begin that nobody would end."""
    sessions = []

    def main():
        stop = netnet.Event()

        def dial(address):
            target = netnet.connect(address)
            stop.set()
            running.loop.step_aside(netnet.current_task().worker)  # woken already when the stop comes
            return target

        with netnet.listen("127.0.0.1:0") as target, netnet.listen("127.0.0.1:0") as listener:
            client.connect(listener.getsockname())
            client.sendall(request(*target.getsockname()))
            netnet.spawn(Server(report=sessions.append, dial=dial).serve, listener)
            stop.wait()
            running.loop.shut_down()

    with socket.socket() as client:
        run(main)
    assert [session.ending for session in sessions] == [Ending.STOPPED]
    assert sessions[0].relay is None


# -- what it tells


def session_of(client, began, request=None, **fields):
    session = Session(client, began, request=request)
    for name, value in fields.items():
        setattr(session, name, value)
    return session


CONNECT = Request(Command.CONNECT, "10.0.0.1", 80, b"\x0a\0\0\1")
LINES = [
    (
        session_of("127.0.0.1:5000", 10.0, CONNECT, ending=Ending.CLOSED, sent=12, received=3400),
        "127.0.0.1:5000 -> 10.0.0.1:80 12/3400 bytes 2.500 s closed",
    ),
    (
        session_of(
            "[::1]:5000", 12.5, Request(Command.CONNECT, "example.com", 443, user_id=b"fred"), ending=Ending.IDLE
        ),
        "[::1]:5000 -> example.com:443 0/0 bytes 0.000 s idle",
    ),
    (
        session_of(
            "127.0.0.1:5000", 12.0, Request(Command.CONNECT, "::1", 443, bytes(15) + b"\1"), ending=Ending.CLOSED
        ),
        "127.0.0.1:5000 -> [::1]:443 0/0 bytes 0.500 s closed",
    ),
    (session_of("unix", 12.0, ending=Ending.BAD_REQUEST, detail="x"), "unix -> - 0/0 bytes 0.500 s bad request: x"),
    (
        session_of(
            "1.2.3.4:5", 12.0, CONNECT, user="ann", rule="office", route="gate", ending=Ending.UPSTREAM, detail="no"
        ),
        "ann@1.2.3.4:5 -> 10.0.0.1:80 through gate [office] 0/0 bytes 0.500 s upstream: no",
    ),
    (
        session_of("1.2.3.4:5", 12.0, Request(Command.BIND, "10.0.0.1", 80, b"\x0a\0\0\1"), ended=12.25),
        "1.2.3.4:5 -> bind 10.0.0.1:80 0/0 bytes 0.250 s open",
    ),
    (
        session_of("1.2.3.4:5", 12.0, user="a\nb\x1b[2J\u2028\udcff\u00e9", detail="c\rd", ending=Ending.DENIED),
        r"a\nb\x1b[2J\u2028\udcffé@1.2.3.4:5 -> - 0/0 bytes 0.500 s denied: c\rd".replace("\\u00e9", "\u00e9"),
    ),
]


@pytest.mark.parametrize(("session", "line"), LINES, ids=range(len(LINES)))
def test_line(session, line):
    assert session.line(12.5) == line
    assert session.line(12.5).isprintable()
    assert session.json(12.5).isascii()
    assert session.json(12.5).isprintable()
    assert json.loads(session.json(12.5)) == session.fields(12.5)


def test_the_session_of_a_good_connection(run, proxy):
    def main():
        with echoing() as target, proxy() as p:
            netnet.sleep(5)
            with p.to(target, user=b"fred") as client:
                assert_granted(client)
                (session,) = p.server.sessions
                assert (session.ending, session.ended, session.opened) == (None, None, 5.0)
                client.sendall(b"12345")
                exactly(client, 5)
                assert (session.bytes_sent, session.bytes_received) == (5, 5)  # while it lasts
                assert session.line(netnet.now()).endswith("5/5 bytes 0.000 s open")
                netnet.sleep(2)
                name = client.getsockname()
            assert p.ended() is session
            host, port = target.getsockname()
            assert session.request == Request(Command.CONNECT, host, port, b"\x7f\0\0\1", b"fred")
            assert (session.began, session.ended, session.relay) == (5.0, 7.0, None)
            assert session.fields(99.0) == {
                "client": f"{name[0]}:{name[1]}",
                "listener": f"{p.address[0]}:{p.address[1]}",
                "protocol": "socks4",
                "user": None,
                "command": "connect",
                "target": f"{host}:{port}",
                "address": "",
                "rule": "",
                "route": "",
                "sent": 5,
                "received": 5,
                "seconds": 2.0,
                "ending": "closed",
                "detail": "",
            }
            assert session.line(99.0).endswith("5/5 bytes 2.000 s closed")

    run(main, clock=VirtualClock())


def test_a_reset_target_is_told_as_such(run, proxy):
    def main():
        with netnet.listen("127.0.0.1:0") as target, proxy() as p, p.to(target) as client:
            assert_granted(client)
            seen, _ = target.accept()
            reset(seen)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            session = p.ended()
            assert (session.ending, session.detail) == (Ending.RESET, os.strerror(errno.ECONNRESET))

    run(main)


def test_by_default_the_line_is_logged(run, caplog):
    caplog.set_level(logging.INFO, "netnet.socks")

    def main():
        with echoing() as target, netnet.listen("127.0.0.1:0") as listener:
            task = netnet.spawn(Server().serve, listener)
            for data in (request(*target.getsockname()), b"\x04\x09"):
                with netnet.connect(listener.getsockname()) as client:
                    client.sendall(data)
                    exactly(client, 8)
            while len(lines()) < 2:
                netnet.sleep(0)
            task.cancel()

    def lines():
        return [record.getMessage() for record in caplog.records if record.name == "netnet.socks"]

    run(main)
    assert any(line.endswith("closed") for line in lines())
    assert any("bad request" in line for line in lines())


# -- many


def test_three_hundred_at_once(backend, run, proxy, limited_descriptors):
    count = 300
    if backend == "select":
        pytest.skip("select(2) takes descriptors below 1024 only")

    def main():
        with echoing() as target, proxy() as p:
            clients = [p.to(target) for _ in range(count)]
            for client in clients:
                assert_granted(client)
            assert p.server.active == len(running.loop.relays) == count
            for number, client in enumerate(clients):
                client.sendall(b"%6d" % number)
            for number, client in enumerate(clients):
                assert exactly(client, 6) == b"%6d" % number
            for client in clients:
                client.shutdown(socket.SHUT_WR)
            for client in clients:
                assert client.recv(1) == b""
                client.close()
            p.ended(count)
            assert {(session.sent, session.received, session.ending) for session in p.sessions} == {
                (6, 6, Ending.CLOSED)
            }
            assert not running.loop.relays

    run(main)


@pytest.mark.parametrize("host", ["fe80::1%nope", "fe80::1%eth0x]", "[::1]", "a b", "x" * 200, "ho\u00e9st", "::1%%"])
def test_a_name_that_can_be_none_is_refused(run, proxy, host, caplog):
    def main():
        with proxy() as p:
            client = p.client(b"\4\1" + (80).to_bytes(2, "big") + b"\0\0\0\1" + b"\0" + host.encode() + b"\0")
            with client:
                assert client.recv(100)[:2] == b"\0\x5b"
            session = p.ended()
            assert session.ending
            assert str(session.line(0.0))

    run(main)
    assert not [record for record in caplog.records if record.exc_info]
