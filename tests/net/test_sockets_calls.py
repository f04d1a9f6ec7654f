"""Every call that can wait to receive or to send, on every kind of socket, in its settings: it has to wait in a loop, it
need not wait, and the same two outside a loop with a thread as the peer; each with no time-out (the written-out paths)
and with a huge one (the general path)."""

from __future__ import annotations

import array
import io
import os
import socket
import tempfile

import pytest

import netnet
from netnet.testing import wait_all_parked
from tests.net.test_sockets_kinds import (
    DATAGRAMS,
    IP_HEADER_BYTES,
    KINDS,
    STREAMS,
    blocking_event,
    drain,
    fill,
    own_address,
    pair,
    parked,
    peer_thread,
    read_exactly,
)

HUGE = 1e6
TIMEOUTS = [None, HUGE]
WORD = b"hello"


def recv_into(sock):
    buffer = bytearray(100)
    return bytes(buffer[: sock.recv_into(buffer)])


def recv_into_limited(sock):
    buffer = array.array("I", [0] * 50)
    count = sock.recv_into(buffer, 100)
    return buffer.tobytes()[:count]


def recvfrom_into(sock):
    buffer = bytearray(100)
    return bytes(buffer[: sock.recvfrom_into(buffer)[0]])


def recvmsg_into(sock):
    buffers = [bytearray(2), bytearray(100)]
    count = sock.recvmsg_into(iter(buffers))[0]
    return b"".join(buffers)[:count]


RECEIVE = {
    "recv": lambda sock: sock.recv(100),
    "recv large": lambda sock: sock.recv(1 << 20),
    "recv_into": recv_into,
    "recv_into limited": recv_into_limited,
    "recvfrom": lambda sock: sock.recvfrom(100)[0],
    "recvfrom_into": recvfrom_into,
    "recvmsg": lambda sock: sock.recvmsg(100)[0],
    "recvmsg_into": recvmsg_into,
    "iteration": lambda sock: next(iter(sock)),
}


def read_file(mode, **options):
    def read(sock):
        with sock.makefile(mode, **options) as file:
            data = file.read(len(WORD))
            return data if isinstance(data, bytes) else data.encode()

    return read


READ_FILES = {
    "makefile r": read_file("r"),
    "makefile rw": read_file("rw"),
    "makefile rb": read_file("rb"),
    "makefile rwb": read_file("rwb"),
    "makefile unbuffered": read_file("rb", buffering=0),
}


def receiving(kind):
    """The calls for a kind of socket; a table inside the tests, since pytest takes longer for a test than the test."""
    return [*RECEIVE, *(READ_FILES if kind in STREAMS else ())]


def receive(kind, name, sock):
    return (RECEIVE | READ_FILES)[name](sock)[IP_HEADER_BYTES if kind == "raw" else 0 :]


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_receive_waits_in_a_loop(backend, run, kind, timeout):
    def main(name):
        with pair(kind, timeout) as (ours, theirs):
            for _ in range(2):  # the second time the descriptor is registered, and the usual path is written out
                task = parked(receive, kind, name, ours)
                theirs.send(WORD)
                assert task.result() == WORD, name

    for name in receiving(kind):
        run(main, name)


@pytest.mark.parametrize("timeout", [*TIMEOUTS, 0])
@pytest.mark.parametrize("kind", KINDS)
def test_receive_need_not_wait_in_a_loop(backend, run, kind, timeout):
    def main(name):
        with pair(kind, timeout) as (ours, theirs):
            for _ in range(3):
                theirs.send(WORD)
                assert receive(kind, name, ours) == WORD, name

    for name in receiving(kind):
        if timeout != 0 or not name.startswith("makefile"):  # files are for sockets that may wait
            run(main, name)


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_receive_outside_a_loop(monkeypatch, kind, timeout):
    for name in receiving(kind):
        blocking = blocking_event(monkeypatch)
        with pair(kind, timeout) as (ours, theirs):
            theirs.send(WORD)
            assert receive(kind, name, ours) == WORD, name
            assert not blocking.is_set(), name
            with peer_thread(lambda blocking, theirs: (blocking.wait(10), theirs.send(WORD)), blocking, theirs):
                assert receive(kind, name, ours) == WORD, name
            assert blocking.is_set(), name
        monkeypatch.undo()


def sendfile(sock):
    with tempfile.TemporaryFile() as file:
        file.write(WORD)
        file.flush()
        return sock.sendfile(file)


def write_file(mode, **options):
    def write(sock):
        with sock.makefile(mode, **options) as file:
            file.write(WORD if "b" in mode else WORD.decode())

    return write


SEND_STREAM = {
    "send": lambda sock: sock.send(WORD),
    "sendall": lambda sock: sock.sendall(WORD),
    "sendall bytearray": lambda sock: sock.sendall(bytearray(WORD)),
    "sendall array": lambda sock: sock.sendall(array.array("b", WORD)),
    "sendmsg": lambda sock: sock.sendmsg(iter([WORD[:2], WORD[2:]])),
    "sendfile": sendfile,
    "sendfile from memory": lambda sock: sock.sendfile(io.BytesIO(WORD)),
    "makefile w": write_file("w"),
    "makefile rw": write_file("rw"),
    "makefile wb": write_file("wb"),
    "makefile rwb": write_file("rwb"),
    "makefile unbuffered": write_file("wb", buffering=0),
}
SEND_DATAGRAM = {
    "send": SEND_STREAM["send"],
    "sendall": SEND_STREAM["sendall"],
    "sendmsg": SEND_STREAM["sendmsg"],
    "sendto": lambda sock: sock.sendto(WORD, sock.getpeername()),
    "sendto with flags": lambda sock: sock.sendto(WORD, 0, sock.getpeername()),
    "sendmsg to": lambda sock: sock.sendmsg([WORD], [], 0, sock.getpeername()),
}
SEND = SEND_STREAM | SEND_DATAGRAM
COUNTS = ("send", "sendmsg", "sendmsg to", "sendfile", "sendfile from memory", "sendto", "sendto with flags")


def sending(kind):
    if kind in STREAMS:
        return list(SEND_STREAM)
    return [name for name in SEND_DATAGRAM if kind != "unix-datagram" or not name.endswith(("to", "flags"))]


def check_count(name, result):
    assert result == (len(WORD) if name in COUNTS else None), name


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("kind", STREAMS)
def test_send_waits_in_a_loop(backend, run, kind, timeout):
    def main(name):
        with pair(kind, timeout) as (ours, theirs):
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            for _ in range(2):
                filled = fill(ours)
                task = parked(SEND[name], ours)
                assert read_exactly(theirs, filled + len(WORD)).endswith(WORD), name
                check_count(name, task.result())

    for name in SEND_STREAM:
        run(main, name)


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("name", ["send", "sendall", "sendmsg"])
def test_send_waits_for_a_unix_datagram_peer_in_a_loop(backend, run, name, timeout):
    def main():
        with pair("unix-datagram", timeout) as (ours, theirs):
            for _ in range(2):
                filled = fill(ours)
                task = parked(SEND[name], ours)
                assert [theirs.recv(9) for _ in range(filled + 1)] == [b"x"] * filled + [WORD]
                check_count(name, task.result())

    run(main)


@pytest.mark.parametrize("timeout", [*TIMEOUTS, 0])
@pytest.mark.parametrize("kind", KINDS)
def test_send_need_not_wait_in_a_loop(backend, run, kind, timeout):
    def main(name):
        with pair(kind, timeout) as (ours, theirs):
            for _ in range(3):
                check_count(name, SEND[name](ours))
                assert receive(kind, "recv", theirs) == WORD, name

    for name in sending(kind):
        if timeout != 0 or not name.startswith(("sendfile", "makefile")):  # not for sockets that may not wait
            run(main, name)


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("kind", STREAMS)
def test_send_outside_a_loop(monkeypatch, kind, timeout):
    for name in SEND_STREAM:
        blocking = blocking_event(monkeypatch)
        with pair(kind, timeout) as (ours, theirs):
            check_count(name, SEND[name](ours))
            assert read_exactly(theirs, len(WORD)) == WORD, name
            assert not blocking.is_set(), name
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            size = fill(ours) + len(WORD)
            with peer_thread(lambda *args: (args[0].wait(10), read_exactly(*args[1:])), blocking, theirs, size) as peer:
                check_count(name, SEND[name](ours))
                assert peer.result(10)[1].endswith(WORD), name
            assert blocking.is_set(), name
        monkeypatch.undo()


@pytest.mark.parametrize("kind", DATAGRAMS)
def test_send_a_datagram_outside_a_loop(kind):
    for name in sending(kind):
        with pair(kind) as (ours, theirs):
            check_count(name, SEND[name](ours))
            assert receive(kind, "recv", theirs) == WORD, name


def unix_receiver(tmp_path):
    receiver = netnet.Socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(str(tmp_path / "receiver"))
    return receiver


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_sendto_waits_for_room_at_an_unconnected_unix_datagram_peer(backend, run, tmp_path, timeout, others):
    """poll(2) calls such a sender writable while the receiver is full of *others'* datagrams: there is no edge."""

    def main():
        with (
            unix_receiver(tmp_path) as receiver,
            netnet.Socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
            netnet.Socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
        ):
            address, filled = receiver.getsockname(), 0
            with pytest.raises(BlockingIOError):
                while True:
                    (other if others else sender).sendto(b"x", socket.MSG_DONTWAIT, address)
                    filled += 1
            sender.settimeout(timeout)
            task = netnet.spawn(sender.sendto, WORD, address)
            wait_all_parked()
            assert not task.done
            with netnet.timeout(3):
                assert [receiver.recv(9) for _ in range(filled + 1)] == [b"x"] * filled + [WORD]
            assert task.result() == len(WORD)

    run(main)


@pytest.mark.parametrize("kind", ["udp4", "udp6", "unix-datagram", "raw"])
@pytest.mark.parametrize("name", ["recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into"])
def test_the_sender_is_told(backend, run, kind, name):
    calls = {
        "recvfrom": lambda sock: sock.recvfrom(100),
        "recvfrom_into": lambda sock: sock.recvfrom_into(bytearray(100)),
        "recvmsg": lambda sock: sock.recvmsg(100),
        "recvmsg_into": lambda sock: sock.recvmsg_into([bytearray(100)]),
    }

    def main():
        with pair(kind) as (ours, theirs):
            task = parked(calls[name], ours)
            theirs.send(WORD)
            assert task.result()[-1] == (
                (theirs.getsockname()[0], 0) if kind == "raw" else theirs.getsockname() or None
            )

    run(main)


def test_descriptors_travel_in_control_messages(backend, run):
    def main():
        with pair("unix") as (ours, theirs), tempfile.TemporaryFile() as file:
            task = parked(socket.recv_fds, ours, 10, 4)
            socket.send_fds(theirs, [b"x"], [file.fileno()])
            data, (fd,), _, _ = task.result()
            with open(fd, "rb") as copy:
                assert (data, copy.read()) == (b"x", b"")

    run(main)


def test_icmp_echo_over_a_raw_socket(backend, run):
    if os.geteuid() != 0:
        pytest.skip("RAW sockets need root")
    echo_request = bytes([8, 0, 0xF7, 0xFF, 0, 0, 0, 0])

    def main():
        with netnet.Socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
            sock.bind(own_address(4))
            drain(sock)
            task = parked(sock.recvfrom, 100)
            assert sock.sendto(echo_request, own_address(4)) == 8
            data, address = task.result()
            assert (data[IP_HEADER_BYTES] in (0, 8), address) == (True, own_address(4))

    run(main)


# -- sendfile


@pytest.mark.parametrize(
    ("offset", "count", "sent"),
    [(0, None, 300_000), (299_999, None, 1), (10, 20, 20), (300_000, None, 0), (5, 9e9, 299_995)],
)
@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("memory", [False, True])
def test_sendfile_sends_the_part_that_was_asked_for(backend, run, kind, memory, offset, count, sent):
    content = bytes(range(250)) * 1200

    def main():
        with pair(kind) as (ours, theirs), io.BytesIO(content) if memory else tempfile.TemporaryFile() as file:
            if not memory:
                file.write(content)
                file.flush()
            task = netnet.spawn(ours.sendfile, file, offset, count and int(count))
            assert read_exactly(theirs, sent) == content[offset : offset + sent]
            assert task.result() == sent
            if sent:
                assert file.tell() == offset + sent

    run(main)


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize(
    ("kind", "timeout", "mode", "count"),
    [("unix", 0, "rb", None), ("unix-datagram", None, "rb", None), ("unix", None, "r", None), ("unix", None, "rb", 0)],
)
def test_sendfile_refuses_what_the_standard_class_refuses(run, tmp_path, loop, kind, timeout, mode, count):
    (tmp_path / "file").write_bytes(WORD)

    def main():
        with pair(kind, timeout) as (ours, _), (tmp_path / "file").open(mode) as file:
            with pytest.raises(ValueError, match=r".+"):
                ours.sendfile(file, 0, count)

    run(main) if loop else main()


def test_sendfile_tells_how_far_it_came_by_the_files_position(backend, run):
    def main():
        with pair("tcp4", 5) as (ours, theirs), tempfile.TemporaryFile() as file:
            file.truncate(64 << 20)
            with pytest.raises(TimeoutError, match="^timed out$"):
                ours.sendfile(file)
            sent = file.tell()
            assert 0 < sent < 64 << 20
            ours.close()
            assert sum(len(chunk) for chunk in theirs) == sent

    netnet.run(main, clock=netnet.testing.VirtualClock())
