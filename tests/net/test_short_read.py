"""The short-read rule: a read from TCP that brought less than was asked for has emptied the socket, so the next one waits
without a failing call. Each of the three conditions under which that holds has its test, the saving is counted, and a
stress test with random pieces, ends, resets and urgent data would hang if any condition were wrong."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import struct

import pytest

import netnet
from netnet.net import sockets
from netnet.testing import wait_all_parked


def tcp(host="127.0.0.1"):
    with netnet.listen((host, 0)) as listener:
        ours = netnet.connect(listener.getsockname()[:2])
        theirs, _ = listener.accept()
    return ours, theirs


def attached(sock, peer):
    """Makes *sock* known to the poller, by waiting for one byte."""
    task = netnet.spawn(sock.recv, 100)
    wait_all_parked()
    peer.send(b"-")
    assert task.result() == b"-"


@pytest.fixture
def failing(monkeypatch):
    """Counts the receives that fail with would-block."""
    count = []

    def counting(receive):
        def counted(sock, *args):
            try:
                return receive(sock, *args)
            except BlockingIOError:
                count.append(args)
                raise

        return counted

    for name in ("_recv", "_recv_into"):
        monkeypatch.setattr(sockets, name, counting(getattr(sockets, name)))
    return count


def recv_into(sock, size):
    buffer = bytearray(size)
    return bytes(buffer[: sock.recv_into(buffer)])


#: each way through the code that the rule is in
READS = {
    "recv": lambda sock: sock.recv(100),
    "recv large": lambda sock: sock.recv(1 << 20),
    "recv_into": lambda sock: recv_into(sock, 100),
}


@pytest.mark.parametrize("timeout", [None, 1e6])
@pytest.mark.parametrize("name", READS)
def test_it_saves_the_failing_call(run, failing, name, timeout):
    def main():
        ours, theirs = tcp()
        with ours, theirs:
            attached(ours, theirs)
            ours.settimeout(timeout)
            failing.clear()
            task = netnet.spawn(lambda: [READS[name](ours) for _ in range(50)])
            for _ in range(50):
                wait_all_parked()
                theirs.send(b"x")
            assert task.result() == [b"x"] * 50
            assert failing == []

    run(main, poller="epoll")


def test_a_full_read_says_nothing(run, failing):
    def main():
        ours, theirs = tcp()
        with ours, theirs:
            attached(ours, theirs)
            theirs.send(b"1234")
            assert (ours.recv(2), ours.recv(2)) == (b"12", b"34")
            assert ours._descriptor.readable
            failing.clear()
            task = netnet.spawn(ours.recv, 2)
            wait_all_parked()
            assert len(failing) == 1  # the price: it has to be tried
            theirs.send(b"5")
            assert task.result() == b"5"

    run(main)


# -- condition 1: TCP over IPv4 or IPv6 only


@pytest.mark.parametrize(
    ("family", "kind", "rule"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, True),
        (socket.AF_INET6, socket.SOCK_STREAM, True),
        (socket.AF_UNIX, socket.SOCK_STREAM, False),
        (socket.AF_UNIX, socket.SOCK_DGRAM, False),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET, False),
        (socket.AF_INET, socket.SOCK_DGRAM, False),
    ],
)
def test_which_sockets_it_is_for(family, kind, rule):
    with netnet.Socket(family, kind) as sock:
        assert sock._descriptor.short_is_dry is rule


def test_a_unix_stream_stops_at_descriptors(backend, run):
    """Bytes sent with descriptors are a piece of their own: the read before them is short, and the rest is there."""

    def main():
        ours, theirs = netnet.socketpair()
        with ours, theirs:
            attached(ours, theirs)
            theirs.send(b"one")
            socket.send_fds(theirs, [b"two"], [0])
            theirs.send(b"three")
            got = b""
            with netnet.timeout(5):
                while len(got) < 11:
                    data, ancillary, _, _ = ours.recvmsg(100, socket.CMSG_SPACE(4))
                    for _, _, raw in ancillary:
                        os.close(struct.unpack("i", raw)[0])
                    got += data
            assert got == b"onetwothree"

    run(main)


@pytest.mark.parametrize("name", READS)
def test_a_plain_read_stops_at_descriptors_too(backend, run, name):
    """It drops the descriptors and returns what came with them, short, while more is there."""

    def main():
        ours, theirs = netnet.socketpair()
        with ours, theirs:
            attached(ours, theirs)
            socket.send_fds(theirs, [b"one"], [0])
            theirs.send(b"two")
            with netnet.timeout(5):
                assert (READS[name](ours), READS[name](ours)) == (b"one", b"two")

    run(main)


def test_a_unix_stream_stops_at_other_credentials(backend, run):
    def main():
        ours, theirs = netnet.socketpair()
        with ours, theirs:
            attached(ours, theirs)
            theirs.send(b"one")
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            theirs.send(b"two")
            with netnet.timeout(5):
                got = ours.recv(100)
                while len(got) < 6:
                    got += ours.recv(100)
            assert got == b"onetwo"

    run(main)


def test_datagrams_are_always_short(backend, run):
    def main():
        with netnet.Socket(type=socket.SOCK_DGRAM) as ours, netnet.Socket(type=socket.SOCK_DGRAM) as theirs:
            ours.bind(("127.0.0.1", 0))
            theirs.connect(ours.getsockname())
            attached(ours, theirs)
            for number in range(5):
                theirs.send(b"%d" % number)
            with netnet.timeout(5):
                assert [ours.recv(100) for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]

    run(main)


# -- condition 2: no flags


def test_a_peek_leaves_the_data_there(backend, run):
    def main():
        ours, theirs = tcp()
        with ours, theirs:
            attached(ours, theirs)
            theirs.send(b"data")
            with netnet.timeout(5):
                assert ours.recv(100, socket.MSG_PEEK) == b"data"
                assert ours.recv(100) == b"data"

    run(main)


# -- condition 3: nothing unusual was seen


def end(theirs):
    theirs.shutdown(socket.SHUT_WR)


def reset(theirs):
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()


def urgent(theirs):
    theirs.send(b"!", socket.MSG_OOB)
    theirs.send(b"rest")


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize(("happens", "after"), [(end, b""), (reset, ConnectionResetError), (urgent, b"rest")])
def test_what_was_seen_keeps_it_readable(backend, run, happens, after, name):
    """The data and what follows it are reported together; the read of the data is short, and no other event comes."""

    def main():
        ours, theirs = tcp()
        with ours, theirs:
            attached(ours, theirs)
            theirs.send(b"data")
            happens(theirs)
            wait_all_parked()
            with netnet.timeout(5):
                assert READS[name](ours) == b"data"
                if after is ConnectionResetError:
                    with pytest.raises(ConnectionResetError):
                        READS[name](ours)
                else:
                    assert READS[name](ours) == after

    run(main)


@pytest.mark.parametrize("happens", [end, urgent])
def test_what_comes_later_brings_an_event(backend, run, happens):
    def main():
        ours, theirs = tcp()
        with ours, theirs:
            attached(ours, theirs)
            theirs.send(b"data")
            assert ours.recv(100) == b"data"
            task = netnet.spawn(ours.recv, 100)
            wait_all_parked()
            happens(theirs)
            with netnet.timeout(5):
                assert task.result() == (b"" if happens is end else b"rest")

    run(main)


def test_on_a_poller_that_does_not_tell_of_urgent_data_it_is_off(backend, run):
    def main():
        ours, theirs = tcp()
        with ours, theirs:
            attached(ours, theirs)
            assert ours._descriptor.short_is_dry is (backend != "kqueue")

    run(main)


# -- all of it at once


def talk(seed, sock, urgent_data):
    """Sends random pieces, with urgent bytes in between, and ends; returns the digest of what goes in line."""
    chance = random.Random(seed)
    digest = hashlib.sha256()
    for _ in range(chance.randrange(5, 60)):
        data = chance.randbytes(chance.choice([1, 2, 7, 100, 4096, 30_000])).replace(b"!", b"?")
        sock.sendall(data)
        digest.update(data)
        if urgent_data and chance.random() < 0.2:
            sock.send(b"!", socket.MSG_OOB)
        for _ in range(chance.choice([0, 0, 1, 3])):
            netnet.sleep(0)
    return digest.hexdigest()


def listen_to(seed, sock):
    chance = random.Random(seed + 1)
    digest = hashlib.sha256()
    sock.settimeout(chance.choice([None, None, 1e6]))
    receive = chance.choice([netnet.Socket.recv, recv_into])
    while data := receive(sock, chance.choice([1, 3, 100, 4096, 65536, 200_000])):
        digest.update(data.replace(b"!", b""))  # an urgent byte that another one overtook comes in line
        for _ in range(chance.choice([0, 0, 0, 2])):
            netnet.sleep(0)
    return digest.hexdigest()


@pytest.mark.parametrize("seed", range(6))
def test_stress(backend, run, seed):
    def one(number):
        chance = random.Random(f"{seed} {number}")
        ours, theirs = tcp(chance.choice(["127.0.0.1", "::1"]))
        with ours, theirs:
            listener = netnet.spawn(listen_to, number, ours)
            sent = talk(number, theirs, urgent_data=chance.random() < 0.5)
            if chance.random() < 0.3:
                reset(theirs)
                try:
                    listener.result()
                except ConnectionResetError:
                    return "reset"
                return "complete"  # it was faster than the reset
            end(theirs)
            assert listener.result() == sent
            return "complete"

    def main():
        tasks = [netnet.spawn(one, seed * 100 + number) for number in range(20)]
        assert {task.result() for task in tasks} <= {"complete", "reset"}

    run(main)
