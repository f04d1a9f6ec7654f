"""The kinds of socket that the other socket tests run on, as connected pairs made without netnet's own ``connect``, and
the checks that each kind is what it says. ``pair`` needs no loop. A RAW pair needs root; without it, it is skipped."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import socket
import struct
import threading

import pytest

import netnet
from netnet.net import waiting

STREAMS = ["tcp4", "tcp6", "unix"]
DATAGRAMS = ["unix-datagram", "udp4", "udp6", "raw"]
KINDS = STREAMS + DATAGRAMS
HOSTS = {"tcp4": "127.0.0.1", "udp4": "127.0.0.1", "tcp6": "::1", "udp6": "::1"}
IP_HEADER_BYTES = 20
#: a protocol number for experiments (RFC 3692)
RAW_PROTOCOL = 253
RESET = struct.pack("ii", 1, 0)


def family(kind):
    return socket.AF_INET6 if kind.endswith("6") else socket.AF_INET


def wrap(plain):
    return netnet.Socket(fileno=plain.detach())


def _tcp_pair(kind):
    with socket.create_server((HOSTS[kind], 0), family=family(kind)) as listener:
        one = socket.create_connection(listener.getsockname()[:2])
        return one, listener.accept()[0]


def _bound_pair(family, type, proto, addresses):
    one, other = socket.socket(family, type, proto), socket.socket(family, type, proto)
    for sock, address in zip((one, other), addresses, strict=True):
        sock.bind(address)
    one.connect(other.getsockname())
    other.connect(one.getsockname())
    return one, other


def own_address(number):
    """An address of loopback that no other process' tests use: RAW sockets have no ports to keep them apart."""
    return f"127.{1 + os.getpid() % 254}.{1 + os.getpid() // 254 % 254}.{number}", 0


def drain(sock):
    """Takes out what came to a RAW socket before it was bound: packets of whoever is running beside us."""
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while sock.recv(65536):
            pass
    sock.setblocking(True)


def _plain_pair(kind):
    if kind.startswith("tcp"):
        return _tcp_pair(kind)
    if kind.startswith("udp"):
        return _bound_pair(family(kind), socket.SOCK_DGRAM, 0, [(HOSTS[kind], 0)] * 2)
    if kind == "raw":
        if os.geteuid() != 0:
            pytest.skip("RAW sockets need root")
        # two addresses, so that neither sees its own packets
        pair = _bound_pair(socket.AF_INET, socket.SOCK_RAW, RAW_PROTOCOL, [own_address(2), own_address(3)])
        for sock in pair:
            drain(sock)
        return pair
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM if kind == "unix" else socket.SOCK_DGRAM)


@contextlib.contextmanager
def pair(kind, timeout=None):
    """Two connected netnet sockets of a kind; the first has the time-out."""
    one, other = _plain_pair(kind)
    with wrap(one) as ours, wrap(other) as theirs:
        ours.settimeout(timeout)
        yield ours, theirs


def fill(sock):
    """Sends until there is no room; returns how many bytes (of a datagram socket: datagrams) that were."""
    stream = sock.type == socket.SOCK_STREAM
    timeout = sock.gettimeout()
    sock.settimeout(0)
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            taken += sock.send(bytes(65536)) if stream else bool(sock.send(b"x"))
    with contextlib.suppress(BlockingIOError):
        while stream:
            taken += sock.send(b"\0")
    sock.settimeout(timeout)
    return taken


def read_exactly(sock, count):
    data = bytearray()
    while len(data) < count:
        chunk = sock.recv(65536)
        assert chunk, f"ended after {len(data)} of {count} bytes"
        data += chunk
    return bytes(data)


def reset(sock):
    """Closes with RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


@contextlib.contextmanager
def peer_thread(function, *args):
    """Runs a function in an OS thread beside the lines below; its error comes out at the end."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        done = pool.submit(function, *args)
        yield done
        done.result(20)


def blocking_event(monkeypatch):
    """An event that is set when a call outside a loop begins to block the OS thread."""
    event, wait_one = threading.Event(), waiting.wait_one

    def noted(*args):
        event.set()
        return wait_one(*args)

    monkeypatch.setattr(waiting, "wait_one", noted)
    return event


def parked(function, *args):
    """Starts a task and returns it once it waits."""
    task = netnet.spawn(function, *args)
    netnet.testing.wait_all_parked()
    assert not task.done, f"{task.name} did not wait"
    return task


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_standard_socket(kind):
    with pair(kind) as (one, other):
        for sock in (one, other):
            assert isinstance(sock, socket.socket)
            assert type(sock) is netnet.Socket
            assert not os.get_blocking(sock.fileno())
            assert sock.getblocking()
            assert sock.gettimeout() is None
            assert not os.get_inheritable(sock.fileno())


@pytest.mark.parametrize("kind", KINDS)
def test_both_ends_reach_each_other_and_nobody_else(kind):
    skip = IP_HEADER_BYTES if kind == "raw" else 0
    with pair(kind) as (one, other):
        one.send(b"to other")
        other.send(b"to one")
        assert other.recv(100)[skip:] == b"to other"
        assert one.recv(100)[skip:] == b"to one"
        one.settimeout(0)
        with pytest.raises(BlockingIOError):
            one.recv(1)


@pytest.mark.parametrize(
    ("arguments", "family", "type"),
    [
        ((), socket.AF_INET, socket.SOCK_STREAM),
        ((socket.AF_INET6,), socket.AF_INET6, socket.SOCK_STREAM),
        ((socket.AF_INET, socket.SOCK_DGRAM), socket.AF_INET, socket.SOCK_DGRAM),
        ((socket.AF_UNIX, socket.SOCK_SEQPACKET), socket.AF_UNIX, socket.SOCK_SEQPACKET),
    ],
)
def test_made_with_the_standard_arguments(arguments, family, type):
    with netnet.Socket(*arguments) as sock, socket.socket(*arguments) as plain:
        assert (sock.family, sock.type, sock.proto) == (family, type, plain.proto)
        assert not os.get_blocking(sock.fileno())


@pytest.mark.parametrize("arguments", [(-2,), (socket.AF_INET, 77), (socket.AF_UNIX, -1, 99)])
def test_bad_arguments_fail_as_in_the_standard_class(arguments):
    with pytest.raises(OSError) as standard:
        socket.socket(*arguments)
    with pytest.raises(OSError) as ours:
        netnet.Socket(*arguments)
    assert ours.value.errno == standard.value.errno


def test_a_descriptor_is_taken_over_with_what_it_is():
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as plain:
        fd = plain.detach()
        with netnet.Socket(fileno=fd) as sock:
            assert (sock.fileno(), sock.family, sock.type) == (fd, socket.AF_INET6, socket.SOCK_DGRAM)


@pytest.mark.parametrize("arguments", [(), (socket.AF_UNIX,), (socket.AF_UNIX, socket.SOCK_DGRAM)])
def test_socketpair(arguments):
    one, other = netnet.socketpair(*arguments)
    with one, other:
        assert type(one) is type(other) is netnet.Socket
        assert one.type == (arguments[1] if len(arguments) > 1 else socket.SOCK_STREAM)
        one.send(b"x")
        assert other.recv(9) == b"x"
