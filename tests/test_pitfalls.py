"""What other socket libraries fell into, a test each, by the public calls on real sockets. Each name tells the fall."""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import io
import itertools
import math
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import textwrap

import pytest

import netnet
from netnet import socket as netnet_socket
from netnet.kernel.control import Credentials, PidFd, Rights, Timestamp
from netnet.kernel.interfaces import interfaces
from netnet.testing import VirtualClock, wait_all_parked

LOOPBACK = "127.0.0.1"
WAIT_SECONDS = 10


# -- what the tests share


def ours(sock):
    return netnet.Socket(fileno=sock.detach())


@contextlib.contextmanager
def tcp_pair(*, receive_bytes=None):
    with socket.create_server((LOOPBACK, 0)) as listener:
        if receive_bytes:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        one = ours(socket.create_connection(listener.getsockname()))
        other = ours(listener.accept()[0])
    with one, other:
        yield one, other


@contextlib.contextmanager
def pair_of(family, kind):
    one, other = netnet.socketpair(family, kind)
    with one, other:
        yield one, other


@contextlib.contextmanager
def udp_pair():
    with netnet.Socket(type=socket.SOCK_DGRAM) as one, netnet.Socket(type=socket.SOCK_DGRAM) as other:
        for sock in (one, other):
            sock.bind((LOOPBACK, 0))
        one.connect(other.getsockname())
        other.connect(one.getsockname())
        yield one, other


def unix_stream():
    return pair_of(socket.AF_UNIX, socket.SOCK_STREAM)


def unix_datagram():
    return pair_of(socket.AF_UNIX, socket.SOCK_DGRAM)


def outside(main):
    """Calls it as ``run`` would, but without a loop."""
    return main()


@pytest.fixture(params=["in a task", "outside a loop"])
def anywhere(request, run):
    """In a task, and outside a loop, where calls block the thread."""
    return run if request.param == "in a task" else outside


def numbers():
    """The numbers of the open descriptors."""
    return {int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}


@contextlib.contextmanager
def descriptors_used_up():
    """No further descriptor can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(numbers()) + 10, hard))
    held = []
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        yield
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def raises_errno(*codes):
    with pytest.raises(OSError) as caught:
        yield caught
    assert caught.value.errno in codes


def program(code, *, check=True, **options):
    """Runs a program of its own; returns what it printed."""
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=20, **options
    )
    if check:
        assert ended.returncode == 0, (ended.returncode, ended.stderr)
        return ended.stdout
    return ended


def refusing():
    """A socket that keeps a port without listening on it."""
    sock = socket.socket()
    sock.bind((LOOPBACK, 0))
    return sock


@contextlib.contextmanager
def full_listener():
    """A TCP listener that takes no further connection: an attempt stays under way."""
    with socket.socket() as listener, socket.socket() as first:
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        first.connect(listener.getsockname())
        yield listener.getsockname()


# -- sending to nobody


SENDS = {
    "send": "one.send(b'x')",
    "sendall": "one.sendall(b'x' * 100)",
    "sendmsg": "one.sendmsg([b'x'])",
    "send_message": "one.send_message(b'x')",
    "sendfile": "one.sendfile(open(sys.executable, 'rb'))",
    "splice": "source.splice(one, 5)",
}


@pytest.mark.parametrize("way", SENDS)
@pytest.mark.parametrize("where", ["netnet.run(main)", "main()"])
def test_sending_to_a_closed_peer_is_an_error_under_pythons_usual_signals(way, where):
    told = program(f"""
        import sys, netnet
        def main():
            one, other = netnet.socketpair()
            source, feeder = netnet.socketpair()
            feeder.sendall(b"bytes")
            other.close()
            try:
                {SENDS[way]}
            except BrokenPipeError:
                print("told")
        {where}
    """)
    assert told == "told\n"


# -- sendfile


@pytest.mark.parametrize("asked", [11, 1 << 20, 1 << 40])
def test_sendfile_of_more_than_the_file_has_ends_at_its_end(run, tmp_path, asked):
    (tmp_path / "file").write_bytes(b"0123456789")

    def main():
        with tcp_pair() as (one, other), (tmp_path / "file").open("rb") as file:
            assert one.sendfile(file, 0, asked) == 10
            assert file.tell() == 10
            assert other.recv(100) == b"0123456789"

    run(main)


def test_sendfile_from_behind_the_end_sends_nothing_and_returns(run, tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")

    def main():
        with tcp_pair() as (one, other), (tmp_path / "file").open("rb") as file:
            assert one.sendfile(file, 10) == 0
            assert one.sendfile(file, 100, 5) == 0
            one.shutdown(socket.SHUT_WR)
            assert other.recv(1) == b""

    run(main)


def test_sendfile_of_a_file_that_shrinks_meanwhile_ends(run, tmp_path):
    size = 1 << 23
    (tmp_path / "file").write_bytes(bytes(size))

    def main():
        with tcp_pair(receive_bytes=4096) as (one, other), (tmp_path / "file").open("r+b") as file:
            sender = netnet.spawn(one.sendfile, file)
            wait_all_parked()
            os.truncate(file.fileno(), 1)
            received = 0
            while not sender.done:
                received += len(other.recv(1 << 16))
                netnet.sleep(0)
            one.shutdown(socket.SHUT_WR)
            received += sum(map(len, other))
            assert sender.result() == received < size

    run(main)


@pytest.mark.parametrize("arguments", [(0, -1), (0, 0), (-1,), (-1, 5), (-(1 << 70),)])
def test_sendfile_refuses_negative_sizes_and_sends_nothing(anywhere, tmp_path, arguments):
    (tmp_path / "file").write_bytes(b"0123456789")

    def main():
        with tcp_pair() as (one, other), (tmp_path / "file").open("rb") as file:
            with pytest.raises((ValueError, OverflowError)):
                one.sendfile(file, *arguments)
            assert file.tell() == 0
            one.shutdown(socket.SHUT_WR)
            assert other.recv(1) == b""

    anywhere(main)


def test_splice_refuses_a_negative_count(run):
    def main():
        with tcp_pair() as (one, other), pytest.raises(ValueError):
            one.splice(other, -1)

    run(main)


# -- high numbers


def high(sock, lowest=1500):
    """The same socket with a number that select(2) cannot have."""
    number = fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, lowest)
    sock.close()
    return netnet.Socket(fileno=number)


@pytest.mark.parametrize("poller", ["epoll", "poll"])
def test_a_task_waits_for_a_descriptor_above_1024(limited_descriptors, poller):
    assert limited_descriptors > 1600

    def main():
        with netnet.timeout(WAIT_SECONDS), tcp_pair() as (one, other), high(one) as sock:
            assert sock.fileno() >= 1500
            reader = netnet.spawn(sock.recv, 100)
            waiter = netnet.spawn(netnet.wait_readable, sock.fileno())
            wait_all_parked()
            other.sendall(b"data")
            waiter.join()
            assert reader.result() == b"data"
            netnet.wait_writable(sock)

    netnet.run(main, poller=poller)


def test_a_thread_waits_for_a_descriptor_above_1024(limited_descriptors):
    with tcp_pair() as (one, other), high(one) as sock:
        sock.settimeout(0.01)
        with pytest.raises(TimeoutError):
            sock.recv(100)
        sock.settimeout(None)
        other.sendall(b"data")
        netnet.wait_readable(sock)
        netnet.wait_writable(sock.fileno())
        assert sock.recv(100) == b"data"


def test_connecting_and_accepting_above_1024(run, limited_descriptors):
    def main():
        with netnet.listen((LOOPBACK, 0)) as listener, high(netnet.Socket()) as sock, high(listener) as listening:
            accepting = netnet.spawn(listening.accept)
            wait_all_parked()
            sock.connect(listening.getsockname())
            conn, _ = accepting.result()
            conn.close()

    run(main)


# -- control messages


def test_truncated_control_messages_are_visible_and_leak_nothing(anywhere):
    def main():
        with unix_stream() as (one, other), open(os.devnull) as file:
            before = numbers()
            one.send_fds([file] * 10, b"x")
            with other.receive_message(control_size=socket.CMSG_SPACE(4 * 4)) as message:
                assert message.control_truncated
                assert "ctrunc" in message.flag_names
                assert 0 < len(message.get(Rights).fds) < 10
            assert numbers() == before
            one.send_fds([file] * 10, b"x")
            with raises_errno(errno.EMSGSIZE):
                other.recv_fds(9)
            assert numbers() == before
            one.send_fds([file], b"long data")
            with unix_datagram() as (near, far):
                near.send_fds([file], b"long data")
                with raises_errno(errno.EMSGSIZE):
                    far.recv_fds(size=4)
            assert other.recv(100) == b"long data"  # a plain receive: the kernel drops what came along
            assert numbers() == before

    anywhere(main)


def test_control_messages_of_more_than_4_kib_arrive_whole(anywhere, limited_descriptors):
    """All the descriptors that one message can carry, the credentials, and a time stamp: with room for twice that."""

    def main():
        with unix_datagram() as (one, other), open(os.devnull) as file:
            other.timestamp = True
            other.passcred = True
            before = numbers()
            for control_size in (2048, 4096, 8192, 65536):
                one.send_fds([file] * 253, b"data")
                with other.receive_message(control_size=control_size) as message:
                    assert not message.control_truncated
                    assert message.get(Credentials) == (os.getpid(), os.getuid(), os.getgid())
                    assert message.get(Timestamp).nanoseconds > 0
                    assert len(message.get(Rights).fds) == 253
            assert numbers() == before

    anywhere(main)


def test_more_descriptors_than_the_kernel_takes_are_refused_before_the_send(run):
    def main():
        with unix_stream() as (one, other), open(os.devnull) as file:
            with pytest.raises(ValueError):
                one.send_fds([file] * 254)
            with pytest.raises(ValueError):
                one.send_fds([-1])
            other.settimeout(0)
            with pytest.raises(BlockingIOError):
                other.recv(1)

    run(main)


LIST_DESCRIPTORS = "import os; print(*sorted(os.listdir('/proc/self/fd')))"


def test_received_descriptors_do_not_reach_a_program_that_is_executed(anywhere):
    def descriptor_of_sender():
        with unix_datagram() as (one, other):
            try:
                other.passpidfd = True
            except OSError:  # an older kernel
                return os.open(os.devnull, os.O_RDONLY)
            one.send(b"x")
            return other.receive_message().get(PidFd).take()

    def main():
        with unix_stream() as (one, other), open(os.devnull) as file:
            one.send_fds([file] * 3)
            _, fds = other.recv_fds()
            one.send_fds([file])
            with other.receive_message() as message:
                fds += message.take_fds()
            one.send_fds([file])
            fds += other.receive_message_into([bytearray(10)]).take_fds()
            fds.append(descriptor_of_sender())
            try:
                assert len(fds) == 6
                inherited = program(LIST_DESCRIPTORS, close_fds=False).split()
                assert not {str(fd) for fd in fds} & set(inherited)
            finally:
                for fd in fds:
                    os.close(fd)

    anywhere(main)


def test_no_descriptor_of_ours_reaches_a_program_that_is_executed(run):
    def main():
        with netnet.listen((LOOPBACK, 0)) as listener, netnet.connect(listener.getsockname()) as conn:
            accepted, _ = listener.accept()
            one, other = netnet.socketpair()
            with accepted, one, other, conn.dup() as copy, netnet.Socket() as new:
                made = {listener, conn, accepted, one, other, copy, new}
                inherited = program(LIST_DESCRIPTORS, close_fds=False).split()
                assert not {str(sock.fileno()) for sock in made} & set(inherited)

    run(main)


# -- connecting


def test_a_second_connect_tells_under_way_from_connected(anywhere):
    def main():
        with full_listener() as address, netnet.Socket() as sock:
            sock.settimeout(0)
            assert sock.connect_ex(address) == errno.EINPROGRESS
            assert sock.connect_ex(address) == errno.EALREADY
            with raises_errno(errno.EALREADY):
                sock.connect(address)
        with netnet.listen((LOOPBACK, 0)) as listener, netnet.Socket() as sock:
            sock.connect(listener.getsockname())
            for timeout in (None, 0, 1.0):
                sock.settimeout(timeout)
                assert sock.connect_ex(listener.getsockname()) == errno.EISCONN
                with raises_errno(errno.EISCONN):
                    sock.connect(listener.getsockname())

    anywhere(main)


def test_a_connect_whose_time_was_up_is_still_under_way(anywhere):
    def main():
        with full_listener() as address, netnet.Socket() as sock:
            sock.settimeout(0.01)
            with pytest.raises(TimeoutError):
                sock.connect(address)
            sock.settimeout(0)
            assert sock.connect_ex(address) == errno.EALREADY

    anywhere(main)


def test_a_non_blocking_connect_that_failed_is_told_by_the_next_one(anywhere):
    def main():
        with refusing() as refuser, netnet.Socket() as sock:
            sock.settimeout(0)
            code = sock.connect_ex(refuser.getsockname())
            if code == errno.EINPROGRESS:
                netnet.wait_writable(sock)
                code = sock.connect_ex(refuser.getsockname())
            assert code == errno.ECONNREFUSED

    anywhere(main)


# -- times that are none


@pytest.mark.parametrize("seconds", [math.nan, -1, -1e-9, -math.inf])
def test_a_socket_takes_no_time_that_is_none(seconds):
    with netnet.Socket() as sock:
        sock.settimeout(5)
        with pytest.raises(ValueError):
            sock.settimeout(seconds)
        assert sock.gettimeout() == 5
        for option in ("rcvtimeo", "sndtimeo"):
            with pytest.raises(ValueError):
                setattr(sock, option, seconds)
            assert getattr(sock, option) == 0


def test_a_socket_takes_no_infinite_time():
    with netnet.Socket() as sock:
        with pytest.raises((ValueError, OverflowError)):
            sock.settimeout(math.inf)
        assert sock.gettimeout() is None
        for seconds in (math.inf, 1e300, 2.0**63):
            with pytest.raises(ValueError):
                sock.rcvtimeo = seconds
        assert sock.rcvtimeo == 0


@pytest.mark.parametrize("seconds", [math.nan, -1, math.inf])
def test_no_time_that_is_none_becomes_every_sockets_time_out(seconds):
    with pytest.raises((ValueError, OverflowError)):
        netnet_socket.setdefaulttimeout(seconds)
    assert netnet_socket.getdefaulttimeout() is None


@pytest.mark.parametrize("seconds", [1e9, 1e15, 1e300])
def test_a_socket_waits_with_a_very_long_time_out(anywhere, seconds):
    def main():
        with tcp_pair() as (one, other):
            one.settimeout(seconds)
            other.sendall(b"data")
            assert one.recv(100) == b"data"
            if anywhere is not outside:
                reader = netnet.spawn(one.recv, 100)
                wait_all_parked()
                other.sendall(b"more")
                assert reader.result() == b"more"

    anywhere(main)


CALLS_WITH_TIMES = {
    "timeout": lambda seconds: netnet.timeout(seconds).__enter__(),
    "timeout_at": lambda seconds: netnet.timeout_at(seconds).__enter__(),
    "sleep": netnet.sleep,
    "sleep_until": netnet.sleep_until,
}


@pytest.mark.parametrize("call", CALLS_WITH_TIMES)
def test_the_runtime_takes_no_nan(run, call):
    def main():
        with pytest.raises(ValueError):
            CALLS_WITH_TIMES[call](math.nan)

    run(main)


def test_a_time_limit_cannot_be_moved_to_nan(run):
    def main():
        with netnet.timeout(5) as limit:
            when = limit.when()
            with pytest.raises(ValueError):
                limit.reschedule(math.nan)
            assert limit.when() == when

    run(main)


@pytest.mark.parametrize("seconds", [0, -1, -math.inf])
def test_a_time_limit_of_nothing_is_up_at_the_first_wait(run, seconds):
    def main():
        with unix_stream() as (one, _):
            with pytest.raises(TimeoutError), netnet.timeout(seconds):
                one.recv(1)
            netnet.sleep(seconds)

    run(main)


@pytest.mark.parametrize("seconds", [math.inf, 1e300])
def test_an_endless_sleep_and_an_endless_limit_can_be_cancelled(run, seconds):
    def main():
        def work():
            with netnet.timeout(seconds):
                netnet.sleep(seconds)

        task = netnet.spawn(work)
        wait_all_parked()
        task.cancel()
        with pytest.raises(netnet.TaskCancelledError):
            task.result()

    run(main)


def test_timers_that_are_very_late_still_fire():
    clock = VirtualClock()
    fired = []

    def main():
        def limited():
            with pytest.raises(TimeoutError), netnet.timeout(2):
                netnet.sleep(math.inf)
            fired.append("limit")

        def sleeper():
            netnet.sleep(1)
            fired.append("sleep")

        def receiver():
            with unix_stream() as (one, _):
                one.settimeout(3)
                with pytest.raises(TimeoutError):
                    one.recv(1)
            fired.append("time-out")

        tasks = [netnet.spawn(work) for work in (limited, sleeper, receiver)]
        netnet.sleep(0)
        clock.advance(1e7)
        for task in tasks:
            task.result()

    netnet.run(main, clock=clock)
    assert sorted(fired) == ["limit", "sleep", "time-out"]
    assert clock.now() == 1e7


# -- names of UNIX sockets


def abstract_name(length=None):
    name = f"netnet-{os.getpid()}-{next(_counter)}"
    return name if length is None else name.ljust(length, "x")


_counter = itertools.count()


def test_abstract_names_are_not_padded(anywhere):
    def main():
        name = abstract_name()
        with netnet.listen(f"unix:@{name}") as listener:
            assert listener.getsockname() == b"\0" + name.encode()
            assert listener.local_address == netnet.UnixAddress("\0" + name)
            with open("/proc/net/unix") as file:
                assert re.search(rf"@{name}$", file.read(), re.M)
            with netnet.connect(f"unix:@{name}") as conn:
                assert conn.getpeername() == b"\0" + name.encode()
            with netnet.Socket(socket.AF_UNIX) as sock:
                assert sock.connect_ex(b"\0" + name.encode() + b"\0") == errno.ECONNREFUSED
            with netnet.Socket(socket.AF_UNIX) as sock:  # for every length there is, another name
                sock.bind(b"\0" + name.encode() + b"\0")
                assert sock.getsockname() == b"\0" + name.encode() + b"\0"

    anywhere(main)


def test_an_abstract_name_may_have_nuls_inside(run):
    def main():
        path = f"\0{abstract_name()}\0inside"
        with netnet.Socket(socket.AF_UNIX) as sock:
            sock.bind(netnet.UnixAddress(path))
            assert sock.local_address == netnet.UnixAddress(path)

    run(main)


def test_the_empty_name_has_the_kernel_choose_one(run):
    def main():
        with netnet.Socket(socket.AF_UNIX) as sock:
            assert sock.local_address.unnamed
            sock.bind("")
            assert sock.local_address.abstract
            assert len(sock.local_address.path) == 6

    run(main)


def test_a_path_of_the_greatest_length_works_and_one_more_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def main():
        longest = "x" * 107
        with netnet.listen(f"unix:{longest}") as listener:
            assert listener.getsockname() == longest
            with netnet.connect(f"unix:{longest}") as conn:
                assert conn.getpeername() == longest
        assert os.listdir() == [longest]
        for length in (108, 109, 110, 1000, 100_000):
            with pytest.raises(netnet.AddressError):
                netnet.listen("unix:" + "y" * length)
            with pytest.raises(netnet.AddressError):
                netnet.connect("unix:" + "y" * length)
        for length in (109, 110, 1000, 100_000):
            with netnet.Socket(socket.AF_UNIX) as sock:
                for call in (sock.bind, sock.connect, sock.connect_ex):
                    with pytest.raises(OSError):
                        call("y" * length)
        assert os.listdir() == [longest]

    run(main)


def test_bytes_count_and_not_characters(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def main():
        with netnet.listen("unix:" + "ä" * 53) as listener:
            assert listener.getsockname() == "ä" * 53
        with pytest.raises(netnet.AddressError):
            netnet.listen("unix:" + "ä" * 54)
        with netnet.listen("unix:@" + abstract_name(106)):
            pass
        with pytest.raises(netnet.AddressError):
            netnet.listen("unix:@" + abstract_name(108))

    run(main)


# -- interrupted by signals


@contextlib.contextmanager
def signals_every_millisecond(handler):
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


WAITS = {
    "recv": lambda sock: sock.recv(100),
    "recvmsg": lambda sock: sock.recvmsg(100)[0],
    "receive_message": lambda sock: sock.receive_message(100).data,
    "recv with a time-out": lambda sock: sock.settimeout(WAIT_SECONDS) or sock.recv(100),
    "recv of all": lambda sock: sock.recv(4, socket.MSG_WAITALL),
    "wait_readable": lambda sock: netnet.wait_readable(sock) or sock.recv(100),
}


@pytest.mark.parametrize("wait", WAITS)
def test_signal_handlers_run_in_a_wait_which_goes_on(anywhere, wait):
    def main():
        count = 0

        def handler(number, frame):
            nonlocal count
            count += 1
            if count == 5:
                os.write(other.fileno(), b"data")

        with tcp_pair() as (one, other), signals_every_millisecond(handler):
            assert WAITS[wait](one) == b"data"
            assert count >= 5

    anywhere(main)


def test_descriptors_that_come_while_signals_strike_are_not_lost(anywhere):
    def main():
        count = 0

        def handler(number, frame):
            nonlocal count
            count += 1
            if count in (5, 10):
                socket.send_fds(plain, [b"data"], [0, 1, 2])

        with unix_stream() as (one, other), socket.socket(fileno=os.dup(one.fileno())) as plain:
            before = numbers()
            with signals_every_millisecond(handler):
                for _ in range(2):
                    data, fds = other.recv_fds()
                    assert (data, len(fds)) == (b"data", 3)
                    for fd in fds:
                        os.close(fd)
            assert numbers() == before

    anywhere(main)


def test_what_a_signal_handler_raises_ends_the_wait(anywhere):
    class Stop(Exception):
        pass

    def handler(number, frame):
        raise Stop

    def main():
        with tcp_pair() as (one, other):
            with one, other, signals_every_millisecond(handler):
                one.recv(100)

    with pytest.raises(Stop):
        anywhere(main)


# -- failures half way


def test_connect_that_is_refused_closes_its_descriptor(anywhere, tmp_path):
    def main():
        with refusing() as refuser:
            before = numbers()
            port = refuser.getsockname()[1]
            with pytest.raises(ConnectionRefusedError):
                netnet.connect((LOOPBACK, port))
            with pytest.raises(ConnectionRefusedError):
                netnet.connect(f"localhost:{port}")
            with pytest.raises(OSError):
                netnet.connect((LOOPBACK, port), source="203.0.113.1")
            with pytest.raises(FileNotFoundError):
                netnet.connect(f"unix:{tmp_path}/missing")
            with pytest.raises(netnet.AddressError):
                netnet.connect("nonsense")
            assert numbers() == before

    anywhere(main)


def test_connect_that_is_cancelled_closes_its_descriptor(run):
    def main():
        with full_listener() as address:
            before = numbers()
            with pytest.raises(TimeoutError), netnet.timeout(0.01):
                netnet.connect(address)
            task = netnet.spawn(netnet.connect, address)
            wait_all_parked()
            task.cancel()
            task.join()
            assert numbers() == before

    run(main)


def test_listen_takes_no_file_away_that_is_no_dead_socket(anywhere, tmp_path):
    def main():
        (tmp_path / "file").write_text("kept")
        (tmp_path / "link").symlink_to(tmp_path / "file")
        with netnet.Socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
            datagrams.bind(f"{tmp_path}/datagrams")
            for name in ("file", "link", "datagrams"):
                with raises_errno(errno.EADDRINUSE):
                    netnet.listen(f"unix:{tmp_path}/{name}")
            assert (tmp_path / "file").read_text() == "kept"
            datagrams.sendto(b"x", f"{tmp_path}/datagrams")
            assert datagrams.recv(9) == b"x"

    anywhere(main)


def test_listen_on_an_address_in_use_closes_its_descriptor(anywhere, tmp_path):
    def main():
        with netnet.listen((LOOPBACK, 0)) as listener, netnet.listen(f"unix:{tmp_path}/socket"):
            before = numbers()
            with raises_errno(errno.EADDRINUSE):
                netnet.listen(listener.getsockname())
            with raises_errno(errno.EADDRINUSE):
                netnet.listen(f"unix:{tmp_path}/socket")
            with raises_errno(errno.EADDRNOTAVAIL):
                netnet.listen("203.0.113.1:0")
            with pytest.raises(FileNotFoundError):
                netnet.listen(f"unix:{tmp_path}/missing/socket")
            with pytest.raises(OSError):
                netnet.listen(f"unix:{tmp_path}")
            assert numbers() == before

    anywhere(main)


def test_without_descriptors_every_maker_fails_and_leaks_nothing(anywhere):
    def main():
        with netnet.listen((LOOPBACK, 0)) as listener, tcp_pair() as (one, _), netnet.Socket() as client:
            client.connect(listener.getsockname())
            before = numbers()
            makers = [
                netnet.Socket,
                netnet.socketpair,
                one.dup,
                listener.accept,
                lambda: netnet.connect(listener.getsockname()),
                lambda: netnet.listen((LOOPBACK, 0)),
            ]
            with descriptors_used_up():
                for make in makers:
                    with raises_errno(errno.EMFILE):
                        make()
            assert numbers() == before
            conn, where = listener.accept()  # the connection that could not be accepted has waited
            with conn:
                assert where == client.getsockname()

    anywhere(main)


def test_one_descriptor_left_is_not_enough_for_a_pair(anywhere):
    def main():
        before = numbers()
        spare = os.dup(0)
        with descriptors_used_up():
            os.close(spare)
            with raises_errno(errno.EMFILE):
                netnet.socketpair()
            netnet.Socket().close()  # the one that is left was given back
        assert numbers() == before

    anywhere(main)


def test_descriptors_that_no_number_was_left_for_are_told_as_truncated(anywhere):
    def main():
        with unix_stream() as (one, other), open(os.devnull) as file:
            before = numbers()
            one.send_fds([file] * 5, b"data")
            with descriptors_used_up():
                with raises_errno(errno.EMSGSIZE):
                    other.recv_fds()
            assert numbers() == before

    anywhere(main)


def test_a_receive_that_cannot_be_done_takes_nothing(anywhere):
    def main():
        with unix_stream() as (one, other), open(os.devnull) as file:
            before = numbers()
            one.send_fds([file] * 3, b"data")
            with pytest.raises(TypeError):
                other.receive_message_into([b"cannot be written to"])
            with pytest.raises(netnet.Error):
                other.receive_message(flags="no such flag")
            with pytest.raises((MemoryError, OverflowError)):
                other.receive_message(1 << 60)
            with pytest.raises((ValueError, OverflowError)):
                other.receive_message(control_size=1 << 60)
            assert numbers() == before
            data, fds = other.recv_fds()
            assert (data, len(fds)) == (b"data", 3)
            for fd in fds:
                os.close(fd)

    anywhere(main)


def test_descriptors_that_nobody_takes_are_closed(anywhere):
    def main():
        with unix_stream() as (one, other), open(os.devnull) as file:
            before = numbers()
            one.send_fds([file] * 3, b"data")
            with other.receive_message() as message:
                assert len(message.get(Rights).fds) == 3
            one.send_fds([file] * 3, b"data")
            with pytest.warns(ResourceWarning, match="not taken"):
                other.receive_message()
            one.send_fds([file] * 3, b"data")
            with raises_errno(errno.EMSGSIZE):
                other.recv_fds(2)
            assert numbers() == before

    anywhere(main)


def test_a_message_that_cannot_be_made_sends_nothing(run):
    def main():
        with unix_stream() as (one, other), open(os.devnull) as file:
            for control in ([Rights(file), object()], [Rights(file), None]):
                with pytest.raises(TypeError):
                    one.send_message(b"data", control)
            one.shutdown(socket.SHUT_WR)
            assert other.recv(1) == b""

    run(main)


# -- nothing at all


DATAGRAMS = {
    "udp": udp_pair,
    "unix": unix_datagram,
    "seqpacket": lambda: pair_of(socket.AF_UNIX, socket.SOCK_SEQPACKET),
}


@pytest.mark.parametrize("kind", ["udp", "unix"])
def test_an_empty_datagram_is_not_the_end(anywhere, kind):
    def main():
        with DATAGRAMS[kind]() as (one, other):
            receives = [
                lambda: other.recv(100),
                lambda: other.recv(1 << 20),
                lambda: other.recvfrom(100)[0],
                lambda: other.recvmsg(100)[0],
                lambda: other.receive_message().data,
                lambda: other.recv_fds()[0],
            ]
            sends = [
                lambda: one.send(b""),
                lambda: one.sendall(b""),
                lambda: one.sendmsg([]),
                lambda: one.sendmsg([b"", b""]),
                lambda: one.send_message(b""),
                lambda: one.send_message([]),
            ]
            for send, receive in zip(sends, receives, strict=True):
                assert not send()
                one.send(b"data")
                assert receive() == b""
                assert receive() == b"data"

    anywhere(main)


def test_a_task_that_waits_gets_an_empty_datagram(run):
    def main():
        with udp_pair() as (one, other):
            reader = netnet.spawn(other.recv, 100)
            wait_all_parked()
            one.send(b"")
            assert reader.result() == b""
            one.send(b"data")
            assert other.recv(100) == b"data"

    run(main)


@pytest.mark.parametrize("pair", [tcp_pair, unix_stream], ids=["tcp", "unix"])
def test_to_send_or_receive_no_bytes_of_a_stream_does_nothing_and_does_not_wait(anywhere, pair):
    def main():
        with pair() as (one, other):
            assert one.send(b"") == 0
            assert one.sendall(b"") is None
            assert one.sendmsg([]) == 0
            assert one.send_message(b"") == 0
            assert other.recv(0) == b""
            assert other.recv_into(bytearray()) == 0
            one.sendall(b"data")
            assert other.recv(0) == b""
            assert other.recv_into(bytearray()) == 0
            assert other.recv(100) == b"data"

    anywhere(main)


# -- the end


def test_errors_of_shutdown_are_not_lost(anywhere):
    def main():
        with netnet.Socket() as sock:
            for how in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
                with raises_errno(errno.ENOTCONN):
                    sock.shutdown(how)
            with raises_errno(errno.EINVAL):
                sock.shutdown(99)
        with raises_errno(errno.EBADF):
            sock.shutdown(socket.SHUT_WR)
        with netnet.Socket() as sock:
            sock.close_down()
            assert sock.fileno() == -1
            sock.close_down()

    anywhere(main)


def test_closing_twice_closes_no_other_descriptor(anywhere):
    def main():
        with tcp_pair() as (one, other):
            number = one.fileno()
            one.close()
            fd = os.open(os.devnull, os.O_RDONLY)
            try:
                moved = fd if fd == number else fcntl.fcntl(fd, fcntl.F_DUPFD, number)
                one.close()
                one.close_down()
                one.detach()
                os.fstat(moved)
                if moved != fd:
                    os.close(moved)
            finally:
                os.close(fd)
            assert other.recv(1) == b""

    anywhere(main)


WAITING_CALLS = {
    "recv": lambda sock: sock.recv(1),
    "recv large": lambda sock: sock.recv(1 << 20),
    "recv_into": lambda sock: sock.recv_into(bytearray(1)),
    "recvfrom": lambda sock: sock.recvfrom(1),
    "recvmsg": lambda sock: sock.recvmsg(1),
    "receive_message": lambda sock: sock.receive_message(1),
    "recv_fds": lambda sock: sock.recv_fds(),
    "wait_readable": netnet.wait_readable,
    "iteration": lambda sock: list(sock),
    "sendall": lambda sock: sock.sendall(bytes(1 << 23)),
    "send_message": lambda sock: [sock.send_message(bytes(1 << 16)) for _ in range(1000)],
    "splice": lambda sock: sock.splice(open(os.devnull, "wb")),  # noqa: SIM115
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("call", WAITING_CALLS)
def test_closing_wakes_who_waits(run, call):
    def main():
        with tcp_pair() as (one, _):
            task = netnet.spawn(WAITING_CALLS[call], one)
            wait_all_parked()
            assert not task.done
            one.close()
            with raises_errno(errno.EBADF) as caught:
                task.result()
            assert isinstance(caught.value, netnet.ClosedError)
            del caught

    run(main)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("call", WAITING_CALLS)
def test_a_call_without_bound_can_be_cancelled(run, call):
    def main():
        with tcp_pair() as (one, other):
            task = netnet.spawn(WAITING_CALLS[call], one)
            wait_all_parked()
            task.cancel()
            with pytest.raises(netnet.TaskCancelledError):
                task.result()
            assert one.fileno() >= 0
            if call not in ("sendall", "send_message"):
                other.sendall(b"data")
                assert one.recv(100) == b"data"

    run(main)


def test_an_accept_and_a_connect_without_bound_can_be_cancelled(run):
    def main():
        with netnet.listen((LOOPBACK, 0)) as listener, full_listener() as address, netnet.Socket() as sock:
            tasks = [netnet.spawn(listener.accept), netnet.spawn(sock.connect, address)]
            wait_all_parked()
            for task in tasks:
                task.cancel()
                with pytest.raises(netnet.TaskCancelledError):
                    task.result()
            with netnet.connect(listener.getsockname()) as conn:
                accepted, where = listener.accept()
                accepted.close()
                assert where == conn.getsockname()

    run(main)


def test_closing_wakes_who_connects(run, tmp_path):
    def main():
        with full_listener() as address, netnet.Socket() as sock, netnet.Socket(socket.AF_UNIX) as unix:
            with netnet.listen(f"unix:{tmp_path}/socket", backlog=0), netnet.connect(f"unix:{tmp_path}/socket"):
                tasks = [netnet.spawn(sock.connect, address), netnet.spawn(unix.connect, f"{tmp_path}/socket")]
                wait_all_parked()
                for one, task in zip((sock, unix), tasks, strict=True):
                    one.close()
                    with pytest.raises(netnet.ClosedError):
                        task.result()

    run(main)


def test_closing_wakes_who_sends_an_aimed_datagram(run, tmp_path):
    def main():
        kind = socket.AF_UNIX, socket.SOCK_DGRAM
        with netnet.Socket(*kind) as sink, netnet.Socket(*kind) as sock:
            sink.bind(f"{tmp_path}/sink")

            def send():
                while True:
                    sock.sendto(b"x", f"{tmp_path}/sink")

            task = netnet.spawn(send)
            wait_all_parked()
            sock.close()
            with pytest.raises(netnet.ClosedError):
                task.result()

    run(main)


def test_closing_a_listener_wakes_all_who_accept(run):
    def main():
        listener = netnet.listen((LOOPBACK, 0))
        tasks = [netnet.spawn(listener.accept) for _ in range(3)]
        wait_all_parked()
        listener.close()
        for task in tasks:
            with pytest.raises(netnet.ClosedError):
                task.result()

    run(main)


def test_half_close_is_kept(anywhere):
    def main():
        with tcp_pair() as (one, other):
            one.sendall(b"question")
            one.shutdown(socket.SHUT_WR)
            assert b"".join(other) == b"question"
            other.sendall(b"answer")
            other.shutdown(socket.SHUT_WR)
            assert b"".join(one) == b"answer"
            with pytest.raises(BrokenPipeError):
                one.send(b"x")

    anywhere(main)


def test_half_close_is_kept_by_a_relay(run):
    def main():
        with tcp_pair() as (a, near), unix_stream() as (far, b):
            relay = netnet.spawn(netnet.relay, near, far)
            a.sendall(b"question")
            a.shutdown(socket.SHUT_WR)
            assert b"".join(b) == b"question"
            b.sendall(b"answer")
            assert a.recv(6, socket.MSG_WAITALL) == b"answer"
            b.shutdown(socket.SHUT_WR)
            assert a.recv(1) == b""
            assert relay.result() == netnet.RelayResult(8, 6, "closed")

    run(main)


# -- data


def test_a_large_receive_gives_bytes_that_the_next_one_does_not_change(anywhere):
    def main():
        with tcp_pair() as (one, other), unix_stream() as (near, far):
            held = []
            for number, (sender, receiver) in enumerate([(one, other), (near, far), (other, one), (far, near)]):
                sender.sendall(bytes([number]) * 1000)
                held.append(receiver.recv(1 << 20))
            for number, data in enumerate(held):
                assert data == bytes([number]) * 1000

    anywhere(main)


def test_two_tasks_in_a_large_receive_do_not_mix_their_bytes(run):
    def main():
        with unix_stream() as (one, other), unix_stream() as (near, far):
            tasks = [netnet.spawn(other.recv, 1 << 20), netnet.spawn(far.recv, 1 << 20)]
            wait_all_parked()
            one.sendall(b"a" * 1000)
            near.sendall(b"b" * 2000)
            assert [task.result() for task in tasks] == [b"a" * 1000, b"b" * 2000]

    run(main)


def pattern(size):
    """Bytes of which no part can be mistaken for another."""
    return array.array("I", range(size // 4)).tobytes()


def narrow(sock):
    sock.sndbuf = 4608
    return sock


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: array.array("I", data)])
def test_sendall_loses_nothing_in_partial_sends(run, kind):
    data = pattern(1 << 20)

    def main():
        with tcp_pair(receive_bytes=4096) as (one, other):
            sender = netnet.spawn(narrow(one).sendall, kind(data))
            received = bytearray()
            while len(received) < len(data):
                received += other.recv(50_000)
            sender.result()
            assert received == data

    run(main)


def test_an_interrupted_sendall_tells_what_was_sent_so_that_the_rest_can_follow(run):
    data = pattern(1 << 20)

    def main():
        with tcp_pair(receive_bytes=4096) as (one, other):
            narrow(one)
            sent, received = 0, bytearray()
            while sent < len(data):
                one.settimeout(0.001)
                try:
                    one.sendall(data[sent:])
                    sent = len(data)
                except TimeoutError as error:
                    sent += error.bytes_sent
                other.settimeout(0)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        received += other.recv(1 << 16)
            one.close()
            other.settimeout(WAIT_SECONDS)
            received += b"".join(other)
            assert received == data

    run(main)


def test_a_cancelled_sendall_tells_what_was_sent(run):
    data = pattern(1 << 22)

    def main():
        with unix_stream() as (one, other):
            told = []

            def send():
                try:
                    one.sendall(data)
                except netnet.Cancelled as cancelled:
                    told.append(cancelled.bytes_sent)
                    raise

            sender = netnet.spawn(send)
            wait_all_parked()
            sender.cancel()
            sender.join()
            one.close()
            assert b"".join(other) == data[: told[0]]

    run(main)


def test_a_cancelled_receive_of_all_tells_what_came(run):
    def main():
        with tcp_pair() as (one, other):
            told = []

            def receive():
                buffer = bytearray(100)
                try:
                    other.recv_into(buffer, 0, socket.MSG_WAITALL)
                except netnet.Cancelled as cancelled:
                    told.append(bytes(buffer[: cancelled.bytes_received]))
                    raise

            receiver = netnet.spawn(receive)
            one.sendall(b"some")
            wait_all_parked()
            receiver.cancel()
            receiver.join()
            one.sendall(b"more")
            assert told[0] + other.recv(100) == b"somemore"

    run(main)


def test_a_cancelled_sendfile_leaves_the_file_behind_what_was_sent(run, tmp_path):
    data = pattern(1 << 23)
    (tmp_path / "file").write_bytes(data)

    def main():
        with tcp_pair(receive_bytes=4096) as (one, other), (tmp_path / "file").open("rb") as file:
            sender = netnet.spawn(one.sendfile, file)
            wait_all_parked()
            sender.cancel()
            sender.join()
            one.close()
            assert b"".join(other) == data[: file.tell()]

    run(main)


def test_a_cancelled_splice_hands_back_what_it_had_taken(run):
    data = pattern(1 << 22)

    def main():
        with unix_stream() as (source, near), tcp_pair(receive_bytes=4096) as (far, sink):
            told = []

            def splice():
                try:
                    near.splice(narrow(far))
                except netnet.Cancelled as cancelled:
                    told.append((cancelled.bytes_sent, cancelled.undelivered))
                    raise

            sender = netnet.spawn(source.sendall, data)
            mover = netnet.spawn(splice)
            wait_all_parked()
            mover.cancel()
            mover.join()
            ((count, undelivered),) = told
            assert undelivered
            rest = netnet.spawn(lambda: b"".join(near))
            sender.result()
            source.close()
            far.close()
            delivered = b"".join(sink)
            assert len(delivered) == count
            assert delivered + undelivered + rest.result() == data

    run(main)


def test_sendfile_and_splice_lose_nothing_in_partial_sends(run, tmp_path):
    data = pattern(1 << 20)
    (tmp_path / "file").write_bytes(data)

    def main():
        with tcp_pair(receive_bytes=4096) as (one, other), (tmp_path / "file").open("rb") as file:
            with unix_stream() as (near, far), io.BytesIO() as copy:
                sender = netnet.spawn(narrow(one).sendfile, file)
                mover = netnet.spawn(other.splice, narrow(near))
                receiver = netnet.spawn(lambda: [copy.write(chunk) for chunk in far])
                assert sender.result() == len(data)
                one.close()
                moved = mover.result()
                assert (moved.bytes, moved.able) == (len(data), True)
                near.close()
                receiver.join()
                assert copy.getvalue() == data

    run(main)


def test_trunc_as_a_flag_of_receiving_shows_no_memory(anywhere):
    """The standard class returns as many bytes as the datagram had, whatever stands behind its buffer."""

    def main():
        with udp_pair() as (one, other):
            receives = [
                lambda flags: other.recv(10, flags),
                lambda flags: other.recvfrom(10, flags)[0],
                lambda flags: other.recvmsg(10, 0, flags)[0],
            ]
            for receive in receives:
                one.send(b"x" * 5000)
                assert receive(socket.MSG_TRUNC) == (b"x" * 10).ljust(5000, b"\0")
            one.send(b"x" * 5000)
            message = other.receive_message(10, flags="trunc")
            assert (message.data, message.size, message.truncated) == (b"x" * 10, 5000, True)
            for size in (10, 20):
                one.send(b"y" * 10)
                assert other.recv(size, socket.MSG_TRUNC) == b"y" * 10

    anywhere(main)


def test_a_negative_size_is_refused(anywhere):
    def main():
        with tcp_pair() as (one, other):
            other.sendall(b"data")
            for call in (one.recv, one.recvfrom, one.recvmsg, one.receive_message):
                with pytest.raises(ValueError):
                    call(-1)
            with pytest.raises(ValueError):
                one.recv_into(bytearray(4), -1)
            with pytest.raises(ValueError):
                one.receive_message(control_size=-1)
            assert one.recv(100) == b"data"

    anywhere(main)


# -- addresses and listeners


def test_port_0_is_a_port_of_the_kernels_choice(anywhere):
    def main():
        with netnet.listen((LOOPBACK, 0)) as one, netnet.listen(f"{LOOPBACK}:0") as other:
            ports = {sock.local_address.port for sock in (one, other)}
            assert len(ports) == 2
            assert 0 not in ports

    anywhere(main)


def test_a_port_that_is_none_is_refused():
    for port in (-1, 65536, 1 << 40, True, 1.0, "80"):
        with pytest.raises(netnet.AddressError):
            netnet.listen((LOOPBACK, port))
        with pytest.raises(netnet.AddressError):
            netnet.connect((LOOPBACK, port))


def test_an_address_can_be_listened_on_again_right_after_closing(anywhere):
    def main():
        address = (LOOPBACK, 0)
        for _ in range(3):
            with netnet.listen(address) as listener, netnet.connect(listener.getsockname()) as conn:
                address = listener.getsockname()
                accepted, _ = listener.accept()
                accepted.close()  # first: this end remembers the connection for a minute
                assert conn.recv(1) == b""

    anywhere(main)


def test_a_unix_address_can_be_listened_on_again_right_after_closing(anywhere, tmp_path):
    def main():
        for _ in range(3):
            with netnet.listen(f"unix:{tmp_path}/socket"), netnet.connect(f"unix:{tmp_path}/socket"):
                pass

    anywhere(main)


# -- fairness


def test_of_several_that_are_ready_none_starves_the_others(run, backend):
    def main():
        with contextlib.ExitStack() as stack:
            pairs = [stack.enter_context(unix_stream()) for _ in range(5)]
            log = []

            def read(index, sock):
                while sock.recv(1):
                    log.append(index)

            for one, _ in pairs:
                one.sendall(bytes(1000))
                one.shutdown(socket.SHUT_WR)
            tasks = [netnet.spawn(read, index, other) for index, (_, other) in enumerate(pairs)]
            for task in tasks:
                task.result()
            longest = max(len(list(group)) for _, group in itertools.groupby(log[:-1000]))
            assert longest < 100
            first_done = min(max(i for i, one in enumerate(log) if one == index) for index in range(5))
            assert min(log[: first_done + 1].count(index) for index in range(5)) > 800
            assert sorted(log) == sorted(list(range(5)) * 1000)

    run(main)


# -- interfaces and multicast


IN_AN_EMPTY_NETWORK = """
    import ctypes, os, socket, sys
    CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) and libc.unshare(CLONE_NEWUSER | CLONE_NEWNET):
        print("skip", os.strerror(ctypes.get_errno()))
        sys.exit()
    import netnet
    from netnet.kernel.interfaces import interfaces
"""


def in_an_empty_network(code):
    """What a program prints whose network has only a loopback interface, down and without an address."""
    told = program(textwrap.dedent(IN_AN_EMPTY_NETWORK) + textwrap.dedent(code))
    if told.startswith("skip"):
        pytest.skip(f"no network of its own to be had: {told}")
    return told.splitlines()


def test_interfaces_without_an_address_are_listed():
    told = in_an_empty_network("""
        found = interfaces()
        print(sorted(found) == sorted(name for _, name in socket.if_nameindex()))
        print(found["lo"].addresses, found["lo"].index, found["lo"].mtu > 0)
    """)
    assert told == ["True", "() 1 True"]


def test_an_interface_without_an_address_can_be_named_for_multicast():
    told = in_an_empty_network("""
        with netnet.Socket(type=socket.SOCK_DGRAM) as sock:
            print(sock.multicast.interface)
            for which in ("lo", 1, interfaces()["lo"], None):
                sock.multicast.interface = which
            print(sock.multicast.interface)
            try:
                sock.multicast.interface = "127.0.0.1"
            except ValueError as error:
                print(error)
    """)
    assert told == ["None", "None", "no interface has the address 127.0.0.1"]


def test_every_interface_here_is_told():
    assert {one.name: one.index for one in interfaces().values()} == {name: i for i, name in socket.if_nameindex()}


WRONG_FAMILIES = [
    ("239.77.2.1", "::1"),
    ("ff02::77", "127.0.0.1"),
    ("ff02::77", "::1"),
    ("ff02::77", None),
]


@pytest.mark.parametrize(("group", "source"), WRONG_FAMILIES)
def test_a_group_or_source_of_the_wrong_family_is_told_and_joins_nothing(group, source):
    with netnet.Socket(type=socket.SOCK_DGRAM) as sock:
        with raises_errno(errno.EAFNOSUPPORT):
            sock.multicast.join(group, "lo", source=source)
        with raises_errno(errno.EADDRNOTAVAIL):
            sock.multicast.leave("239.77.2.1", "lo")


def test_the_kind_of_socket_is_checked_before_the_addresses():
    with netnet.Socket() as stream, netnet.Socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix:
        for group, source in [("239.77.2.1", None), ("239.77.2.1", "127.0.0.1"), *WRONG_FAMILIES]:
            with raises_errno(errno.ESOCKTNOSUPPORT):
                stream.multicast.join(group, "lo", source=source)
            with raises_errno(errno.EAFNOSUPPORT):
                unix.multicast.join(group, "lo", source=source)
        with raises_errno(errno.ESOCKTNOSUPPORT):
            stream.multicast.block("239.77.2.1", "127.0.0.1", "lo")


def test_what_is_no_group_is_refused():
    with netnet.Socket(type=socket.SOCK_DGRAM) as sock:
        for group in ("127.0.0.1", "nonsense", "", "239.77.2.1:80"):
            with pytest.raises(netnet.AddressError):
                sock.multicast.join(group, "lo")
        with pytest.raises(netnet.AddressError):
            sock.multicast.join("239.77.2.1", "lo", source="239.77.2.2")


# -- errors that come late


def test_a_reset_is_told_once_and_is_not_the_end(anywhere):
    def main():
        with tcp_pair() as (one, other):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()
            other.settimeout(WAIT_SECONDS)
            with pytest.raises(ConnectionResetError):
                other.recv(100)
            assert other.error == 0

    anywhere(main)


def test_a_refused_datagram_is_told_by_the_next_call(anywhere):
    def main():
        with netnet.Socket(type=socket.SOCK_DGRAM) as deaf, netnet.Socket(type=socket.SOCK_DGRAM) as sock:
            deaf.bind((LOOPBACK, 0))
            deaf.connect(deaf.getsockname())
            sock.connect(deaf.getsockname())
            sock.send(b"x")
            with pytest.raises(ConnectionRefusedError):
                sock.recv(100)
            sock.send(b"x")

    anywhere(main)
