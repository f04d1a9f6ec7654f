"""Time-outs mean what they mean in the standard library: the same table of settings and errors is asked of both classes,
and inside a loop the time is the loop's, so that a virtual clock can be looked at for how long a call really waited."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import socket
import tempfile

import pytest

import netnet
from netnet.testing import VirtualClock
from tests.net.test_sockets_kinds import KINDS, STREAMS, blocking_event, fill, pair, parked, peer_thread, read_exactly

CLASSES = [socket.socket, netnet.Socket]


@contextlib.contextmanager
def default_timeout(value):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(value)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


# -- settings


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize(
    ("value", "expected", "blocking"),
    [(None, None, True), (0, 0.0, False), (0.0, 0.0, False), (5, 5.0, True), (0.25, 0.25, True), (True, 1.0, True)],
)
def test_a_timeout_is_kept(make, value, expected, blocking):
    with make() as sock:
        sock.settimeout(value)
        assert sock.gettimeout() == sock.timeout == expected
        assert type(sock.gettimeout()) is type(expected)
        assert sock.getblocking() is blocking


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize(("flag", "expected"), [(True, None), (1, None), (False, 0.0), (0, 0.0)])
def test_setblocking_is_a_timeout(make, flag, expected):
    with make() as sock:
        sock.settimeout(3)
        sock.setblocking(flag)
        assert sock.gettimeout() == expected
        assert sock.getblocking() is bool(flag)


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-1, ValueError),
        (-1e-9, ValueError),
        (-math.inf, (ValueError, OverflowError)),
        (math.nan, ValueError),
        ("5", TypeError),
        (b"5", TypeError),
        ([], TypeError),
        (1j, TypeError),
    ],
)
def test_a_bad_timeout_is_refused_and_changes_nothing(make, value, error):
    with make() as sock:
        sock.settimeout(3)
        with pytest.raises(error):
            sock.settimeout(value)
        assert sock.gettimeout() == 3


@pytest.mark.parametrize("value", [1e7, 1e10, 1e300, math.inf])
@pytest.mark.parametrize("loop", [False, True])
def test_a_timeout_too_long_to_wait_for_is_refused_at_once_or_works(backend, run, monkeypatch, value, loop):
    """The standard class refuses what does not fit into a poll(2) call."""

    def main():
        with pair("unix") as (ours, theirs):
            try:
                ours.settimeout(value)
            except OverflowError:
                return
            if loop:
                task = parked(ours.recv, 9)
                theirs.send(b"x")
                assert task.result() == b"x"
            else:
                blocking = blocking_event(monkeypatch)
                with peer_thread(lambda: (blocking.wait(10), theirs.send(b"x"))):
                    assert ours.recv(9) == b"x"

    run(main) if loop else main()


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize(("value", "expected"), [(None, None), (0, 0.0), (2.5, 2.5)])
def test_setdefaulttimeout_is_for_every_new_socket(make, value, expected):
    with default_timeout(value):
        with make() as sock, make(fileno=os.dup(sock.fileno())) as adopted:
            assert sock.gettimeout() == adopted.gettimeout() == expected
    with make() as later:
        assert later.gettimeout() is None


def test_setdefaulttimeout_is_for_accepted_sockets(run):
    def main():
        with default_timeout(2.5), netnet.listen("127.0.0.1:0") as listener:
            with netnet.connect(listener.getsockname()) as conn, listener.accept()[0] as other:
                assert conn.gettimeout() == other.gettimeout() == 2.5

    run(main)


def test_the_listeners_timeout_is_not_inherited(run):
    def main():
        with netnet.listen("127.0.0.1:0") as listener, netnet.connect(listener.getsockname()):
            listener.settimeout(7)
            with listener.accept()[0] as other:
                assert other.gettimeout() is None

    run(main)


# -- errors


def facts(call, *args):
    with pytest.raises(OSError) as caught:
        call(*args)
    error = caught.value
    return type(error), error.args, error.errno, error.strerror, str(error)


WAITING = {
    "recv": lambda sock: sock.recv(9),
    "recv large": lambda sock: sock.recv(1 << 20),
    "recv_into": lambda sock: sock.recv_into(bytearray(9)),
    "recvfrom": lambda sock: sock.recvfrom(9),
    "recvfrom_into": lambda sock: sock.recvfrom_into(bytearray(9)),
    "recvmsg": lambda sock: sock.recvmsg(9),
    "recvmsg_into": lambda sock: sock.recvmsg_into([bytearray(9)]),
    "recv peek": lambda sock: sock.recv(9, socket.MSG_PEEK),
}
FULL = {
    "send": lambda sock: sock.send(b"x"),
    "sendall": lambda sock: sock.sendall(b"x"),
    "sendmsg": lambda sock: sock.sendmsg([b"x"]),
}


@pytest.mark.parametrize("timeout", [0, 0.001])
@pytest.mark.parametrize("kind", KINDS)
def test_receiving_too_long_fails_as_in_the_standard_class(backend, kind, timeout):
    plain, plain_peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with plain, plain_peer:
        plain.settimeout(timeout)
        expected = {name: facts(call, plain) for name, call in WAITING.items()}
    assert {facts[0] for facts in expected.values()} == {TimeoutError if timeout else BlockingIOError}
    with pair(kind, timeout) as (ours, _):
        for name, call in WAITING.items():
            assert facts(call, ours) == expected[name], name
            assert netnet.run(facts, call, ours) == expected[name], name


@pytest.mark.parametrize("timeout", [0, 0.001])
@pytest.mark.parametrize("kind", [*STREAMS, "unix-datagram"])
def test_sending_too_long_fails_as_in_the_standard_class(backend, kind, timeout):
    plain, plain_peer = socket.socketpair()
    with plain, plain_peer:
        fill(plain)
        plain.settimeout(timeout)
        expected = {name: facts(call, plain) for name, call in FULL.items()}
    with pair(kind, timeout) as (ours, _):
        fill(ours)
        for name, call in FULL.items():
            assert facts(call, ours) == expected[name], name
            assert netnet.run(facts, call, ours) == expected[name], name


@pytest.mark.parametrize("timeout", [0, 0.001])
def test_accepting_too_long_fails_as_in_the_standard_class(backend, timeout):
    with netnet.listen("127.0.0.1:0") as listener, socket.create_server(("127.0.0.1", 0)) as plain:
        plain.settimeout(timeout)
        listener.settimeout(timeout)
        expected = facts(plain.accept)
        assert facts(listener.accept) == expected
        assert netnet.run(facts, listener.accept) == expected


@pytest.mark.parametrize("loop", [False, True])
def test_a_file_that_timed_out_stays_timed_out(run, loop):
    def main():
        with pair("unix", 0.001) as (ours, theirs), ours.makefile("rb") as file:
            with pytest.raises(TimeoutError, match="^timed out$"):
                file.read(1)
            theirs.send(b"x")
            with pytest.raises(OSError, match="cannot read from timed out object"):
                file.read(1)

    run(main) if loop else main()


# -- how long


@pytest.mark.parametrize("name", WAITING)
@pytest.mark.parametrize("timeout", [0.5, 100_000.0])
def test_receiving_in_a_loop_takes_the_loops_time(backend, name, timeout):
    def main():
        with pair("unix-datagram", timeout) as (ours, theirs):
            for _ in range(2):
                begin = netnet.now()
                with pytest.raises(TimeoutError, match="^timed out$"):
                    WAITING[name](ours)
                assert netnet.now() - begin == timeout
            theirs.send(b"late")
            assert ours.recv(9) == b"late"  # and nothing is left behind

    netnet.run(main, clock=VirtualClock())


def test_a_datagram_in_time_stops_the_clock(backend):
    def main():
        with pair("udp4", 10) as (ours, theirs):
            task = netnet.spawn(ours.recv, 9)
            netnet.sleep(9)
            theirs.send(b"x")
            assert task.result() == b"x"
            assert netnet.now() == 9
            netnet.sleep(100)  # the timer is gone: it interrupts nothing
            with netnet.timeout(5):
                task = netnet.spawn(ours.recv, 9)
                netnet.sleep(4)
                theirs.send(b"y")
                assert task.result() == b"y"

    netnet.run(main, clock=VirtualClock())


def test_the_timeout_of_sendall_is_for_the_whole(backend):
    """The peer makes room every 4 s; each piece would be in time, the whole is not."""

    def main():
        with pair("unix", 10) as (ours, theirs):
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

            def drain():
                while True:
                    netnet.sleep(4)
                    theirs.recv(4096)

            task = netnet.spawn(drain)
            with pytest.raises(TimeoutError, match="^timed out$") as caught:
                ours.sendall(bytes(1 << 20))
            assert netnet.now() == 10
            assert 8192 <= caught.value.bytes_sent < 1 << 20
            task.cancel()
            ours.close()

    netnet.run(main, clock=VirtualClock())


def test_the_timeout_of_sendfile_is_for_the_whole(backend):
    def main():
        with pair("unix", 10) as (ours, theirs), tempfile.TemporaryFile() as file:
            file.truncate(8 << 20)

            def drain():
                while True:
                    netnet.sleep(4)
                    theirs.recv(65536)

            task = netnet.spawn(drain)
            with pytest.raises(TimeoutError, match="^timed out$"):
                ours.sendfile(file)
            assert netnet.now() == 10
            task.cancel()

    netnet.run(main, clock=VirtualClock())


def test_woken_in_vain_the_time_runs_on(backend):
    """Two wait for one datagram socket; what wakes the second in vain does not give it more time."""

    def main():
        with pair("unix-datagram", 10) as (ours, theirs):
            first, second = netnet.spawn(ours.recv, 9), netnet.spawn(ours.recv, 9)
            netnet.sleep(6)
            theirs.send(b"x")
            assert first.result() == b"x"
            with pytest.raises(TimeoutError):
                second.result()
            assert netnet.now() == 10

    netnet.run(main, clock=VirtualClock())


def test_timeout_scopes_work_beside_socket_timeouts(backend):
    def main():
        with pair("tcp4", 10) as (ours, _):
            with pytest.raises(TimeoutError, match="time limit of 3 s"), netnet.timeout(3):
                ours.recv(9)
            assert netnet.now() == 3
            with netnet.timeout(30), pytest.raises(TimeoutError, match="^timed out$"):
                ours.recv(9)
            assert netnet.now() == 13

    netnet.run(main, clock=VirtualClock())


def test_settimeout_zero_in_a_loop_never_waits_and_back_again_it_does(backend, run):
    def main():
        with pair("tcp4") as (ours, theirs):
            task = parked(ours.recv, 9)
            theirs.send(b"x")
            assert task.result() == b"x"
            ours.setblocking(False)
            with pytest.raises(BlockingIOError) as caught:
                ours.recv(9)
            assert caught.value.errno == errno.EAGAIN
            theirs.send(b"y")
            netnet.wait_readable(ours)
            assert ours.recv(9) == b"y"
            ours.setblocking(True)
            task = parked(ours.recv, 9)
            theirs.send(b"z")
            assert task.result() == b"z"

    run(main)


def test_non_blocking_sendall_tells_how_much_it_sent(backend, run):
    def main():
        with pair("tcp4", 0) as (ours, theirs):
            with pytest.raises(BlockingIOError) as caught:
                ours.sendall(bytes(64 << 20))
            sent = caught.value.bytes_sent
            assert 0 < sent < 64 << 20
            ours.close()
            assert len(read_exactly(theirs, sent)) == sent
            assert theirs.recv(1) == b""

    run(main)
