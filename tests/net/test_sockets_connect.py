"""Connecting: at once, after waiting, refused, timed out, already under way or done, through a full backlog, to itself.
``deaf_address`` is a TCP address that answers nobody: a listener whose backlog is full, so that the kernel drops SYNs."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

import pytest

import netnet
from netnet.net import connecting
from netnet.testing import VirtualClock
from tests.net.test_sockets_kinds import HOSTS, blocking_event, family, parked, peer_thread

TIMEOUTS = [None, 1e6]
TCP = ["tcp4", "tcp6"]


@contextlib.contextmanager
def deaf_address(kind="tcp4"):
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((HOSTS[kind], 0), family=family(kind), backlog=0))
        for _ in range(3):
            sock = stack.enter_context(socket.socket(family(kind)))
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()


@contextlib.contextmanager
def closed_address(kind="tcp4"):
    """An address whose port is held by a socket that does not listen: it refuses, and nobody else can get it."""
    with socket.socket(family(kind)) as sock:
        sock.bind((HOSTS[kind], 0))
        yield sock.getsockname()


def full_unix_listener(path):
    """A UNIX listener that takes no more connections, and the ones that it has."""
    listener = netnet.Socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(0)
    taken = []
    while True:
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        if sock.connect_ex(str(path)):
            sock.close()
            return listener, taken
        taken.append(sock)


def connect_fact(sock, address, name):
    if name == "connect_ex":
        return sock.connect_ex(address)
    try:
        return sock.connect(address) or 0
    except OSError as error:
        return type(error), error.errno, error.strerror


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("name", ["connect", "connect_ex"])
@pytest.mark.parametrize("kind", [*TCP, "unix"])
def test_connect_and_what_it_says_the_second_time(backend, run, tmp_path, kind, name, timeout, loop):
    def main():
        with netnet.listen(f"unix:{tmp_path}/s" if kind == "unix" else (HOSTS[kind], 0)) as listener:
            address = listener.getsockname()
            with netnet.Socket(listener.family) as sock, socket.socket(listener.family) as plain:
                sock.settimeout(timeout)
                assert connect_fact(sock, address, name) == connect_fact(plain, address, name) == 0
                for _ in range(2):
                    again = connect_fact(sock, address, name)
                    assert again == connect_fact(plain, address, name)
                    assert errno.EISCONN in (again if name == "connect" else (again,))
                accepted = listener.accept()[0]
                accepted.send(b"x")
                assert sock.recv(9) == b"x"
                accepted.close()

    run(main) if loop else main()


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("timeout", [*TIMEOUTS, 5])
@pytest.mark.parametrize("name", ["connect", "connect_ex"])
@pytest.mark.parametrize("kind", [*TCP, "unix", "no such file", "not a socket"])
def test_refused_as_in_the_standard_class(backend, run, tmp_path, kind, name, timeout, loop):
    def main():
        with contextlib.ExitStack() as stack:
            if kind in TCP:
                address = stack.enter_context(closed_address(kind))
            else:
                address = str(tmp_path / kind)
                if kind == "unix":
                    with socket.socket(socket.AF_UNIX) as dead:
                        dead.bind(address)
                elif kind == "not a socket":
                    (tmp_path / kind).touch()
            where = family(kind) if kind in TCP else socket.AF_UNIX
            with netnet.Socket(where) as sock, socket.socket(where) as plain:
                sock.settimeout(timeout)
                expected = connect_fact(plain, address, name)
                assert expected != 0
                assert connect_fact(sock, address, name) == expected

    run(main) if loop else main()


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize(
    "address", [("256.0.0.1", 1), ("127.0.0.1",), ("127.0.0.1", -1), "x", ("127.0.0.1", "1"), None]
)
def test_bad_addresses_fail_as_in_the_standard_class(run, address, loop):
    def main():
        with netnet.Socket() as sock, socket.socket() as plain:
            with pytest.raises((OSError, TypeError, OverflowError, ValueError)) as expected:
                plain.connect(address)
            for call in (sock.connect, sock.connect_ex):
                with pytest.raises(expected.type) as caught:
                    call(address)
                said = str(caught.value).replace("connect_ex", "connect")
                assert said == str(expected.value) or expected.type is TypeError

    run(main) if loop else main()


@pytest.mark.parametrize("kind", TCP)
@pytest.mark.parametrize("name", ["connect", "connect_ex"])
def test_a_connection_under_way_takes_the_loops_time(backend, kind, name):
    expected = errno.EWOULDBLOCK if name == "connect_ex" else (TimeoutError, None, None)

    def main():
        with deaf_address(kind) as address, netnet.Socket(family(kind)) as sock:
            sock.settimeout(30)
            for count in (1, 2):
                assert connect_fact(sock, address, name) == expected
                assert netnet.now() == 30 * count
            sock.settimeout(0)
            assert sock.connect_ex(address) == errno.EALREADY

    netnet.run(main, clock=VirtualClock())


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize(
    ("timeout", "code", "error"), [(0, errno.EINPROGRESS, BlockingIOError), (0.001, 11, TimeoutError)]
)
@pytest.mark.parametrize("kind", TCP)
def test_under_way_as_in_the_standard_class(backend, run, kind, timeout, code, error, loop):
    def main():
        with deaf_address(kind) as address:
            for name in ("connect", "connect_ex"):
                with netnet.Socket(family(kind)) as sock, socket.socket(family(kind)) as plain:
                    sock.settimeout(timeout)
                    plain.settimeout(timeout)
                    expected = connect_fact(plain, address, name)
                    assert expected == code if name == "connect_ex" else expected[0] is error
                    assert connect_fact(sock, address, name) == expected

    run(main) if loop else main()


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_a_non_blocking_attempt_can_be_waited_for_afterwards(backend, run, timeout):
    def main():
        with netnet.listen("127.0.0.1:0") as listener, netnet.Socket() as sock:
            sock.settimeout(0)
            assert sock.connect_ex(listener.getsockname()) == errno.EINPROGRESS
            sock.settimeout(timeout)
            assert sock.connect_ex(listener.getsockname()) in (0, errno.EISCONN)
            with listener.accept()[0] as other:
                sock.sendall(b"x")
                assert other.recv(9) == b"x"

    run(main)


def test_a_cancelled_attempt_can_be_closed_or_taken_up_again(backend, run):
    def main():
        with deaf_address() as address, netnet.Socket() as sock:
            for _ in range(2):
                task = parked(sock.connect, address)
                task.cancel()
                with pytest.raises(netnet.TaskCancelledError):
                    task.result()

    run(main)


def test_two_tasks_that_connect_one_socket(backend, run):
    def main():
        with deaf_address() as address, netnet.Socket() as sock:
            task = parked(sock.connect, address)
            with pytest.raises(netnet.BusyError):
                sock.connect(address)
            assert not task.done
            task.cancel()

    run(main)


@pytest.mark.parametrize("loop", [False, True])
def test_an_interrupted_attempt_goes_on(backend, run, monkeypatch, loop):
    """EINTR from connect(2) means that the attempt is under way (POSIX); asking again would be EALREADY."""
    begin, answers = connecting.plain.connect_ex, iter([errno.EINTR])

    class Interrupted(socket.socket):
        def connect_ex(self, address):
            code = begin(self, address)
            return next(answers, code)

    def main():
        with netnet.listen("127.0.0.1:0") as listener, netnet.Socket() as sock:
            monkeypatch.setattr(connecting, "plain", Interrupted)
            sock.connect(listener.getsockname())
            listener.accept()[0].close()
            assert sock.recv(1) == b""

    run(main) if loop else main()


@pytest.mark.parametrize("kind", TCP)
def test_unreachable(backend, run, kind):
    """Nothing leaves the machine: no stream goes to a multicast address."""
    target = ("224.0.0.1", 9) if kind == "tcp4" else ("ff01::1", 9)

    def main():
        with netnet.Socket(family(kind)) as sock, socket.socket(family(kind)) as plain:
            expected = connect_fact(plain, target, "connect")
            assert expected == (OSError, errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
            assert connect_fact(sock, target, "connect") == expected

    run(main)


@pytest.mark.parametrize("kind", TCP)
@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_a_socket_can_connect_to_itself(backend, run, kind, timeout):
    def main():
        with netnet.Socket(family(kind)) as sock:
            sock.settimeout(timeout)
            sock.bind((HOSTS[kind], 0))
            sock.connect(sock.getsockname())
            assert sock.getpeername() == sock.getsockname()
            sock.sendall(b"x")
            assert sock.recv(9) == b"x"

    run(main)


@pytest.mark.parametrize("name", ["connect", "connect_ex"])
@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_connect_outside_a_loop(name, timeout):
    with netnet.listen("127.0.0.1:0") as listener, netnet.Socket() as sock:
        sock.settimeout(timeout)
        assert not getattr(sock, name)(listener.getsockname())
        with listener.accept()[0] as other:
            assert other.getpeername() == sock.getsockname()
        assert not os.get_blocking(sock.fileno())


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_accept_outside_a_loop_waits(monkeypatch, timeout):
    blocking = blocking_event(monkeypatch)
    with netnet.listen("127.0.0.1:0") as listener, socket.socket() as client:
        listener.settimeout(timeout)
        with peer_thread(lambda: (blocking.wait(10), client.connect(listener.getsockname()))):
            conn, address = listener.accept()
        with conn:
            assert address == client.getsockname()
            assert type(conn) is netnet.Socket
            assert conn.gettimeout() is None
    assert blocking.is_set()


@pytest.mark.parametrize("kind", [*TCP, "unix"])
@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_accept_in_a_loop(backend, run, tmp_path, kind, timeout):
    def main():
        with netnet.listen(f"unix:{tmp_path}/s" if kind == "unix" else (HOSTS[kind], 0)) as listener:
            listener.settimeout(timeout)
            for waits in (True, False):
                task = parked(listener.accept) if waits else None
                with socket.socket(listener.family) as client:
                    client.connect(listener.getsockname())
                    conn, address = task.result() if waits else listener.accept()
                    with conn:
                        assert address == client.getsockname()
                        assert (type(conn), conn.family) == (netnet.Socket, listener.family)
                        assert not os.get_blocking(conn.fileno())
                        assert not os.get_inheritable(conn.fileno())

    run(main)


# -- a UNIX listener whose backlog is full


@pytest.mark.parametrize("name", ["connect", "connect_ex"])
@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_connecting_to_a_full_unix_listener_waits_until_there_is_room(backend, tmp_path, name, timeout):
    def main():
        listener, taken = full_unix_listener(tmp_path / "s")
        with listener, contextlib.ExitStack() as stack, netnet.Socket(socket.AF_UNIX) as sock:
            for one in taken:
                stack.enter_context(one)
            sock.settimeout(timeout)
            task = netnet.spawn(getattr(sock, name), listener.getsockname())
            netnet.sleep(10)
            assert not task.done
            for _ in taken:
                listener.accept()[0].close()
            assert not task.result()
            with listener.accept()[0] as conn:
                sock.sendall(b"x")
                assert conn.recv(9) == b"x"

    netnet.run(main, clock=VirtualClock())


@pytest.mark.parametrize(("timeout", "until"), [(7, 7), (0.5, 0.5)])
def test_connecting_to_a_full_unix_listener_takes_no_longer_than_the_timeout(backend, tmp_path, timeout, until):
    def main():
        listener, taken = full_unix_listener(tmp_path / "s")
        with listener, contextlib.ExitStack() as stack, netnet.Socket(socket.AF_UNIX) as sock:
            for one in taken:
                stack.enter_context(one)
            sock.settimeout(timeout)
            with pytest.raises(TimeoutError, match="^timed out$"):
                sock.connect(listener.getsockname())
            assert netnet.now() == pytest.approx(until, abs=0.001)
            assert sock.connect_ex(listener.getsockname()) == errno.EAGAIN
            sock.settimeout(0)
            with pytest.raises(BlockingIOError):
                sock.connect(listener.getsockname())

    netnet.run(main, clock=VirtualClock())


@pytest.mark.parametrize("end", ["cancel", "close", "unlisten"])
def test_what_ends_waiting_for_room_at_a_full_unix_listener(backend, tmp_path, end):
    def main():
        listener, taken = full_unix_listener(tmp_path / "s")
        with listener, contextlib.ExitStack() as stack, netnet.Socket(socket.AF_UNIX) as sock:
            for one in taken:
                stack.enter_context(one)
            task = netnet.spawn(sock.connect, listener.getsockname())
            netnet.sleep(1)
            {"cancel": task.cancel, "close": sock.close, "unlisten": listener.close}[end]()
            expected = {"cancel": netnet.TaskCancelledError, "close": OSError, "unlisten": ConnectionRefusedError}[end]
            with pytest.raises(expected) as caught:
                task.result()
            if end == "close":
                assert caught.value.errno == errno.EBADF

    netnet.run(main, clock=VirtualClock())


@pytest.mark.parametrize("name", ["connect", "connect_ex", "accept"])
@pytest.mark.parametrize("kind", ["tcp4", "unix", "udp4"])
def test_connecting_and_accepting_are_refused_to_a_cancelled_task(backend, run, tmp_path, name, kind):
    """Also where the kernel would answer at once. (The promise of ``Socket``: each call that can wait.)"""
    if (name, kind) == ("accept", "udp4"):
        pytest.skip("nobody accepts datagrams")

    def main():
        with netnet.listen(f"unix:{tmp_path}/s" if kind == "unix" else "127.0.0.1:0") as listener:
            address = listener.getsockname()
            with netnet.Socket(listener.family, socket.SOCK_DGRAM if kind == "udp4" else socket.SOCK_STREAM) as sock:
                with netnet.Socket(listener.family) as other:
                    other.connect(address)
                    with netnet.CancelScope() as scope:
                        scope.cancel()
                        with pytest.raises(netnet.Cancelled):
                            listener.accept() if name == "accept" else getattr(sock, name)(address)

    run(main)
