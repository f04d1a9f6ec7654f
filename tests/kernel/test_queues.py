"""What stands in a socket's queues, as the kernel tells it of connections, datagrams and pairs; the urgent mark; and
whether another program inherits the descriptor. Kinds that have no such thing, and closed sockets, are errors."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import subprocess
import sys

import pytest

import netnet
from netnet.kernel import queues

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells more than others")

PROPERTIES = ["pending_bytes", "unsent_bytes", "unwritten_bytes", "at_mark", "cloexec"]
QUEUES = ["pending_bytes", "unsent_bytes", "unwritten_bytes", "at_mark"]


@contextlib.contextmanager
def connected(family=socket.AF_INET, receive_buffer=None):
    """Two ends of a TCP connection."""
    with netnet.Socket(family) as listener, netnet.Socket(family) as one:
        if receive_buffer is not None:
            listener.rcvbuf = receive_buffer
        listener.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        listener.listen()
        one.connect(listener.getsockname())
        other, _ = listener.accept()
        with other:
            yield one, other


@contextlib.contextmanager
def datagrams(family=socket.AF_INET):
    """Two UDP sockets, the first connected to the second."""
    with netnet.Socket(family, socket.SOCK_DGRAM) as one, netnet.Socket(family, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        one.connect(other.getsockname())
        yield one, other


@contextlib.contextmanager
def unix(kind=socket.SOCK_STREAM):
    """A pair of UNIX sockets."""
    one, other = netnet.socketpair(socket.AF_UNIX, kind)
    with one, other:
        yield one, other


def ready(sock, event=select.POLLIN):
    """Waits until the kernel has *event* for a socket, without netnet."""
    poll = select.poll()
    poll.register(sock, event)
    assert poll.poll(10_000)


def fill(sock):
    """Sends until there is no more room; returns how many bytes."""
    sent = 0
    sock.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += sock.send(b"x" * 65536)
    sock.settimeout(None)
    return sent


def outside(main):
    main()


@pytest.fixture(params=["outside a run", "in a task"])
def everywhere(request, run):
    return run if request.param == "in a task" else outside


STREAMS = {
    "TCP": connected,
    "TCP over IPv6": lambda: connected(socket.AF_INET6),
    "UNIX": unix,
}
DATAGRAMS = {
    "UDP": datagrams,
    "UDP over IPv6": lambda: datagrams(socket.AF_INET6),
    "UNIX datagrams": lambda: unix(socket.SOCK_DGRAM),
    "UNIX packets": lambda: unix(socket.SOCK_SEQPACKET),
}


@pytest.mark.parametrize("kind", [*STREAMS, *DATAGRAMS])
def test_nothing_sent_nothing_there(kind):
    with (STREAMS | DATAGRAMS)[kind]() as ends:
        for end in ends:
            assert (end.pending_bytes, end.unsent_bytes) == (0, 0)
            assert type(end.pending_bytes) is int


@pytest.mark.parametrize("kind", STREAMS)
def test_pending_bytes_of_a_stream_are_all_there_is(kind, everywhere):
    def main():
        with STREAMS[kind]() as (one, other):
            one.sendall(b"abc")
            one.sendall(b"defgh")
            ready(other)
            assert other.recv(8, socket.MSG_PEEK | socket.MSG_WAITALL) == b"abcdefgh"
            assert other.pending_bytes == 8
            assert other.recv(3) == b"abc"
            assert other.pending_bytes == 5
            assert other.recv(100) == b"defgh"
            assert other.pending_bytes == 0
            assert one.pending_bytes == 0

    everywhere(main)


@pytest.mark.parametrize("kind", DATAGRAMS)
def test_pending_bytes_of_datagrams_are_those_of_the_next(kind, everywhere):
    def main():
        with DATAGRAMS[kind]() as (one, other):
            sizes = [3, 5, 0, 1] if kind != "UNIX packets" else [3, 5, 1]
            for size in sizes:
                one.send(b"x" * size)
            for number, size in enumerate(sizes):
                ready(other)
                told = other.pending_bytes
                # packets of a connection are counted like its bytes, all together
                assert told == (sum(sizes[number:]) if kind == "UNIX packets" else size)
                assert len(other.recv(100)) == size
            assert other.pending_bytes == 0

    everywhere(main)


@pytest.mark.parametrize("shut", [False, True])
def test_pending_bytes_stay_when_the_peer_has_finished(shut):
    with connected() as (one, other):
        one.sendall(b"abc")
        if shut:
            one.shutdown(socket.SHUT_WR)
        else:
            one.close()
        ready(other, select.POLLIN | select.POLLRDHUP)
        assert other.pending_bytes == 3
        assert other.recv(10) == b"abc"
        assert other.recv(10) == b""
        assert other.pending_bytes == 0


def test_pending_bytes_take_nothing_and_do_not_disturb_who_waits(run):
    def main():
        one, other = netnet.socketpair()
        with one, other:
            task = netnet.spawn(other.recv, 10)
            netnet.sleep(0)
            assert other.pending_bytes == 0
            one.send(b"abc")
            assert other.pending_bytes == 3
            assert task.result() == b"abc"
            assert other.pending_bytes == 0

    run(main)


@linux
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_what_the_peer_has_no_room_for_is_unsent_and_unwritten(family, everywhere):
    def main():
        with connected(family, receive_buffer=4096) as (one, other):
            sent = fill(one)
            unwritten, unsent = one.unwritten_bytes, one.unsent_bytes
            assert 0 < unwritten <= unsent <= sent
            assert unsent >= sent - other.pending_bytes
            assert unwritten == one.info.notsent_bytes
            assert other.unsent_bytes == other.unwritten_bytes == 0
            got = 0
            while got < sent:
                got += len(other.recv(65536))
            other.sendall(b"k")  # carries the acknowledgement of all
            assert one.recv(1) == b"k"
            assert (one.unsent_bytes, one.unwritten_bytes) == (0, 0)

    everywhere(main)


@linux
@pytest.mark.parametrize("kind", ["UNIX", "UNIX datagrams", "UNIX packets"])
def test_what_a_unix_peer_has_not_received_counts_as_memory(kind):
    with (STREAMS | DATAGRAMS)[kind]() as (one, other):
        one.send(b"abc")
        first = one.unsent_bytes
        assert first >= 3
        one.send(b"abc")
        assert one.unsent_bytes > first
        while other.pending_bytes:
            other.recv(3)
        assert one.unsent_bytes == 0


@pytest.mark.parametrize(
    ("pieces", "inline", "received"),
    [
        ([(b"ab", 0), (b"c", socket.MSG_OOB), (b"d", 0)], False, [(b"ab", False), (b"d", True)]),
        ([(b"ab", 0), (b"c", socket.MSG_OOB), (b"d", 0)], True, [(b"ab", False), (b"cd", True)]),
        ([(b"abc", socket.MSG_OOB), (b"d", 0)], False, [(b"ab", False), (b"d", True)]),
        ([(b"ab", 0), (b"cd", 0)], False, [(b"abcd", False)]),
    ],
)
def test_receiving_stops_at_the_urgent_mark(pieces, inline, received, everywhere):
    def main():
        with connected() as (one, other):
            other.oobinline = inline
            one.nodelay = True
            for data, flags in pieces:
                assert one.send(data, flags) == len(data)
            one.shutdown(socket.SHUT_WR)
            ready(other, select.POLLRDHUP)
            for data, mark in received:
                assert other.at_mark is mark
                assert other.recv(10) == data
            assert other.at_mark is False
            assert other.recv(10) == b""

    everywhere(main)


NO_SUCH_THING = [
    ("UDP", "unwritten_bytes"),
    ("UDP", "at_mark"),
    ("UNIX", "unwritten_bytes"),
    ("UNIX datagrams", "unwritten_bytes"),
    ("UNIX datagrams", "at_mark"),
]


@linux
@pytest.mark.parametrize(("kind", "name"), NO_SUCH_THING)
def test_what_a_kind_of_socket_does_not_have_is_an_error(kind, name):
    with (STREAMS | DATAGRAMS)[kind]() as (one, _):
        with pytest.raises(OSError) as caught:
            getattr(one, name)
        assert caught.value.errno in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL)
        assert not isinstance(caught.value, netnet.Error)


@linux
@pytest.mark.parametrize("name", ["pending_bytes", "unsent_bytes", "unwritten_bytes"])
def test_a_listener_has_no_queue_of_bytes(name):
    with netnet.Socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            getattr(listener, name)


@pytest.mark.parametrize("name", PROPERTIES)
@pytest.mark.parametrize("how", ["close", "detach"])
def test_a_closed_socket_is_a_closed_error(name, how, everywhere):
    def main():
        one, other = socket.socketpair()
        with other:
            sock = netnet.Socket(one.family, one.type, one.proto, one.detach())
            fd = getattr(sock, how)()
            with pytest.raises(netnet.ClosedError) as caught:
                getattr(sock, name)
            assert caught.value.errno == errno.EBADF
            if name == "cloexec":
                with pytest.raises(netnet.ClosedError):
                    sock.cloexec = True
            if fd is not None:
                os.close(fd)

    everywhere(main)


@pytest.mark.parametrize("name", QUEUES)
def test_a_number_that_is_no_descriptor_is_an_error(name):
    fd = os.dup(0)
    os.close(fd)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        getattr(queues, name)(fd)


@pytest.mark.parametrize("name", QUEUES)
def test_the_queues_cannot_be_set(name):
    with netnet.Socket() as sock:
        with pytest.raises(AttributeError):
            setattr(sock, name, 0)


def test_each_says_what_it_is():
    for name in PROPERTIES:
        assert getattr(netnet.Socket, name).__doc__.endswith(".")


# -- inheriting


def test_every_socket_is_closed_on_exec_whatever_made_it():
    with connected() as (one, other), unix() as pair, netnet.Socket(type=socket.SOCK_DGRAM) as third:
        for sock in (one, other, *pair, third):
            assert sock.cloexec is True
            assert not os.get_inheritable(sock.fileno())


@pytest.mark.parametrize("inherited", [False, True])
def test_another_program_has_the_descriptor_only_if_told_to(inherited, everywhere):
    def main():
        with unix() as (one, _):
            one.cloexec = not inherited
            assert one.cloexec is not inherited
            assert os.get_inheritable(one.fileno()) is inherited
            same = f"os.fstat({one.fileno()}).st_ino == {os.fstat(one.fileno()).st_ino}"
            program = f"import os, sys; sys.exit(not {same})"
            done = subprocess.run([sys.executable, "-c", program], close_fds=False, stderr=subprocess.DEVNULL)
            assert (done.returncode == 0) is inherited
            one.cloexec = True
            assert one.cloexec is True

    everywhere(main)
