"""Typed messages over real sockets: scattered data, descriptors, credentials and what the network tells of a datagram,
in a task and outside a loop. What was sent is compared with what the peer sees; nothing may be lost or left open."""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import gc
import ipaddress
import mmap
import os
import resource
import select
import signal
import socket
import struct
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import netnet
import netnet.testing
from netnet.errors import OptionError
from netnet.kernel.address import IPv4Address, IPv6Address, UnixAddress
from netnet.kernel.control import (
    RIGHTS_MAX,
    Dropped,
    ExtendedError,
    HopLimit,
    Mark,
    OriginalDestination,
    OtherControl,
    PacketInfo,
    PidFd,
    Priority,
    Rights,
    SegmentSize,
    Timestamp,
    Timestamps,
    TrafficClass,
    TransmitAt,
    Unread,
)
from netnet.kernel.options import Timestamping
from netnet.kernel.values import Credentials, TransmitTime
from tests.conftest import descriptors
from tests.net.test_sockets_kinds import fill, pair, parked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="control messages are tested as Linux has them")

HOSTS = {"udp4": "127.0.0.1", "udp6": "::1"}
#: kinds that carry descriptors
CARRIERS = ["unix", "unix-datagram", "seqpacket"]
BOUNDED = ["unix-datagram", "seqpacket", "udp4", "udp6"]
KINDS = ["tcp4", "tcp6", "unix", *BOUNDED]
ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="needs root")


@pytest.fixture(params=["in a task", "outside a loop"])
def anywhere(request, run):
    """Runs a function in a loop, and without one."""
    return run if request.param == "in a task" else lambda function, *args: function(*args)


@contextlib.contextmanager
def linked(kind):
    """Two connected sockets of a kind."""
    if kind == "seqpacket":
        one, other = netnet.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with one, other:
            yield one, other
    else:
        with pair(kind) as both:
            yield both


@contextlib.contextmanager
def udp(kind, to=None, bound=None):
    """A server on every address, and an unconnected client with an address of its own; and where to reach the server."""
    family = socket.AF_INET6 if kind == "udp6" else socket.AF_INET
    with netnet.Socket(family, socket.SOCK_DGRAM) as server, netnet.Socket(family, socket.SOCK_DGRAM) as client:
        server.bind((bound or ("::" if kind == "udp6" else "0.0.0.0"), 0))
        client.bind((HOSTS[kind], 0))
        make = IPv6Address if kind == "udp6" else IPv4Address
        yield server, client, make(to or HOSTS[kind], server.local_address.port)


def wait_for(sock, event):
    """Blocks until the kernel reports *event*; what goes over loopback takes a moment."""
    poll = select.poll()
    poll.register(sock, event)
    assert poll.poll(10_000), "nothing came"


def option(sock, name, value=True):
    """Sets an option that this kernel may not have."""
    try:
        sock.set_option(name, value)
    except (OSError, OptionError) as error:
        pytest.skip(f"the kernel has no {name}: {error}")


def kind_of(value):
    """The name of a row whose values print as addresses of memory."""
    return value.decode("latin-1") if isinstance(value, bytes) and value.isalnum() else type(value).__name__


def opened(count=1):
    first = os.open(os.devnull, os.O_RDWR)
    return [first, *(os.dup(first) for _ in range(count - 1))]


@contextlib.contextmanager
def lent(count=1):
    """Descriptors that are closed at the end."""
    fds = opened(count)
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def close_all(fds):
    for fd in fds:
        os.close(fd)


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def take_out(sock, count):
    """Receives *count* bytes, and none of what comes behind them."""
    while count:
        chunk = sock.recv(min(count, 65536))
        assert chunk, f"ended {count} bytes too early"
        count -= len(chunk)


def nothing_there(sock):
    with pytest.raises(BlockingIOError):
        sock.receive_message(flags="dontwait")


# -- data

BUFFERS = [
    b"ab",
    bytearray(b"cde"),
    memoryview(b"fg"),
    array.array("H", [0x4141, 0x4242]),
    b"",
    ctypes.c_uint16(0x4343),
]
JOINED = b"abcdefgAABBCC"


@pytest.mark.parametrize("kind", [*KINDS, "seqpacket"])
def test_several_buffers_leave_as_one_and_are_scattered_again(anywhere, kind):
    def main():
        with linked(kind) as (one, other):
            assert one.send_message(iter(BUFFERS)) == len(JOINED)
            into = [bytearray(3), bytearray(0), array.array("H", [0, 0]), memoryview(bytearray(100))[50:]]
            message = other.receive_message_into(iter(into))
            assert (message.size, message.data, message.control) == (len(JOINED), b"", ())
            assert bytes(into[0]) + into[2].tobytes() + bytes(into[3][:6]) == JOINED
            assert bytes(into[3][6:]) == bytes(44)
            assert message.flags == 0
            assert message.flag_names == ()

    anywhere(main)


@pytest.mark.parametrize(
    ("data", "octets"),
    [
        *[(b"x", b"x"), (bytearray(b"xy"), b"xy"), (memoryview(b"-xy-")[1:3], b"xy")],
        *[(array.array("H", [0x4141]), b"AA"), (memoryview(array.array("H", [0x4141, 0x4242])), b"AABB")],
        *[((ctypes.c_char * 3)(b"a", b"b", b"c"), b"abc"), ([b"x"], b"x"), ((b"x", b"y"), b"xy")],
        ([memoryview(b"x"), array.array("H", [0x4141])], b"xAA"),
        *[(b"", b""), ([], b""), ([b"", b""], b""), (iter(()), b"")],
    ],
    ids=kind_of,
)
def test_one_buffer_or_several_of_any_kind(data, octets):
    with linked("unix-datagram") as (one, other):
        assert one.send_message(data) == len(octets)
        assert other.receive_message().data == octets


def test_a_mapping_of_memory_is_a_buffer():
    with linked("unix-datagram") as (one, other), mmap.mmap(-1, 8) as mapping:
        mapping[:] = b"mapping."
        assert one.send_message(mapping) == 8
        assert other.receive_message_into([mapping]).size == 8
        assert mapping[:] == b"mapping."


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(0, 300), max_size=8))
def test_whatever_the_cuts_the_bytes_are_the_same(pieces, sizes):
    sent = b"".join(pieces)
    with linked("unix-datagram") as (one, other):
        assert one.send_message(pieces) == len(sent)
        into = [bytearray(size) for size in sizes]
        message = other.receive_message_into(into)
        room = sum(sizes)
        assert message.size == min(room, len(sent))
        assert b"".join(into)[: message.size] == sent[:room]
        assert message.truncated == (len(sent) > room)


@pytest.mark.parametrize("kind", BOUNDED)
def test_an_empty_datagram_is_one(anywhere, kind):
    def main():
        with linked(kind) as (one, other):
            assert one.send_message(b"") == one.send_message([]) == 0
            if kind != "seqpacket":  # the kernel tells an empty record and the end alike
                assert [other.receive_message().size for _ in range(2)] == [0, 0]
                nothing_there(other)

    anywhere(main)


@pytest.mark.parametrize("kind", ["tcp4", "unix"])
def test_nothing_on_a_stream_is_nothing_and_the_end_is_empty(anywhere, kind):
    def main():
        with linked(kind) as (one, other):
            assert one.send_message(b"") == one.send_message([b""]) == 0
            nothing_there(other)
            one.close_down()
            message = other.receive_message()
            assert (message.data, message.size, message.control) == (b"", 0, ())
            assert other.receive_message_into([bytearray(9)]).size == 0

    anywhere(main)


@pytest.mark.parametrize("data", [5, "text", ["text"], None, [None], [b"x", 5], object()], ids=kind_of)
def test_what_is_no_data_is_a_type_error_and_nothing_leaves(anywhere, data):
    def main():
        with linked("unix-datagram") as (one, other):
            with pytest.raises(TypeError):
                one.send_message(data)
            nothing_there(other)

    anywhere(main)


@pytest.mark.parametrize("control", [[None], [b"x"], [(1, 1, b"")], [Dropped(1)], [HopLimit(1), 5], 5])
def test_what_is_no_control_message_is_a_type_error_and_nothing_leaves(anywhere, control):
    def main():
        with linked("udp4") as (one, other):
            with pytest.raises(TypeError):
                one.send_message(b"x", control)
            nothing_there(other)

    anywhere(main)


@pytest.mark.parametrize(
    "call",
    [
        lambda sock: sock.receive_message(-1),
        lambda sock: sock.receive_message(-1, flags="trunc"),
        lambda sock: sock.receive_message(control_size=-1),
        lambda sock: sock.receive_message_into([bytearray(1)], control_size=-1),
        lambda sock: sock.receive_error(-1),
        lambda sock: sock.recv_fds(size=-1),
        lambda sock: sock.send_message(b"x", [HopLimit(2**31)]),
    ],
)
def test_sizes_and_values_that_cannot_be_are_value_errors(anywhere, call):
    def main():
        with linked("udp4") as (one, other):
            other.send(b"x")
            with pytest.raises(ValueError):
                call(one)
            assert one.recv(9) == b"x"
            nothing_there(other)

    anywhere(main)


def test_buffers_that_cannot_be_written_are_refused_and_nothing_is_lost(anywhere):
    def main():
        with linked("udp4") as (one, other):
            one.send(b"x")
            for wrong in ([b"read only"], [memoryview(b"read only")], ["text"], [5], 5):
                with pytest.raises(TypeError):
                    other.receive_message_into(wrong)
            assert other.recv(9) == b"x"

    anywhere(main)


# -- flags


@pytest.mark.parametrize(
    "flags",
    ["peek", "PEEK", "msg_peek", "MSG_PEEK", socket.MSG_PEEK, ("peek",), ["peek", "dontwait"], {"peek"}],
)
def test_flags_by_name_or_number(anywhere, flags):
    def main():
        with linked("udp4") as (one, other):
            one.send(b"x")
            assert other.receive_message(flags=flags).data == b"x"
            into = bytearray(1)
            assert other.receive_message_into([into], flags=flags).size == 1
            assert (other.receive_message().data, into) == (b"x", b"x")
            nothing_there(other)

    anywhere(main)


@pytest.mark.parametrize("flags", ["pek", "", "SO_PEEK", ("peek", "nothing")])
def test_an_unknown_flag_is_an_option_error_and_nothing_is_done(flags):
    with linked("udp4") as (one, other):
        one.send(b"x")
        for call in (other.receive_message, lambda flags: other.receive_message_into([bytearray(1)], flags=flags)):
            with pytest.raises(OptionError):
                call(flags=flags)
        with pytest.raises(OptionError):
            other.send_message(b"y", flags=flags)
        assert other.recv(9) == b"x"
        nothing_there(one)


def test_more_keeps_a_datagram_open(anywhere):
    def main():
        with linked("udp4") as (one, other):
            one.send_message(b"one ", flags="more")
            nothing_there(other)
            one.send_message([b"data", b"gram"])
            assert other.receive_message().data == b"one datagram"
            nothing_there(other)

    anywhere(main)


@pytest.mark.parametrize("kind", [*KINDS, "seqpacket"])
def test_with_dontwait_no_call_waits(anywhere, kind):
    def main():
        with linked(kind) as (one, other):
            for call in (one.receive_message, lambda flags: one.receive_message_into([bytearray(1)], flags=flags)):
                with pytest.raises(BlockingIOError):
                    call(flags="dontwait")
            with pytest.raises(BlockingIOError):
                one.recv_fds(flags=("dontwait", "peek"))
            with pytest.raises(BlockingIOError):
                one.receive_message(flags="errqueue" if kind.startswith(("udp", "tcp")) else "dontwait")
            if not kind.startswith("udp"):  # those are dropped where there is no room
                fill(one)
                with pytest.raises(BlockingIOError):
                    one.send_message([b"x", bytes(10)], flags="dontwait")

    anywhere(main)


def test_urgent_data_says_that_it_is(anywhere):
    def main():
        with linked("tcp4") as (one, other):
            one.send_message(b"!", flags="oob")
            wait_for(other, select.POLLPRI)
            message = other.receive_message(flags="oob")
            assert (message.data, message.urgent) == (b"!", True)
            assert "oob" in message.flag_names
            one.send_message(b"x")
            assert not other.receive_message().urgent

    anywhere(main)


# -- truncated data


@pytest.mark.parametrize("kind", BOUNDED)
def test_a_datagram_that_is_cut_says_so(anywhere, kind):
    def main():
        with linked(kind) as (one, other):
            for size, cut in ((0, True), (3, True), (9, True), (10, False), (11, False)):
                one.send(b"0123456789")
                one.send(b"0123456789")
                message = other.receive_message(size)
                assert (message.data, message.size) == (b"0123456789"[:size], min(size, 10))
                assert (message.truncated, "trunc" in message.flag_names) == (cut, cut)
                into = [bytearray(size)]
                message = other.receive_message_into(into)
                assert (bytes(into[0][:10]), message.size) == (b"0123456789"[:size], min(size, 10))
                assert message.truncated == cut
            nothing_there(other)

    anywhere(main)


@pytest.mark.parametrize("kind", BOUNDED)
def test_with_trunc_the_size_is_the_datagrams_own(anywhere, kind):
    def main():
        with linked(kind) as (one, other):
            for size, cut in ((0, True), (3, True), (10, False), (11, False)):
                for flags in ("trunc", ("trunc", "peek"), socket.MSG_TRUNC):
                    one.send(b"0123456789")
                    message = other.receive_message(size, flags=flags)
                    assert (message.data, message.size, message.truncated) == (b"0123456789"[:size], 10, cut)
                    if "peek" in str(flags):
                        assert other.recv(99) == b"0123456789"
            nothing_there(other)

    anywhere(main)


@pytest.mark.parametrize("kind", BOUNDED)
@pytest.mark.parametrize("size", [0, 1, 3, 10, 11, 200_000])
def test_the_standard_calls_with_trunc_have_the_true_length_and_zeros(anywhere, kind, size):
    calls = {
        "recv": lambda sock: sock.recv(size, socket.MSG_TRUNC),
        "recvfrom": lambda sock: sock.recvfrom(size, socket.MSG_TRUNC)[0],
        "recvmsg": lambda sock: sock.recvmsg(size, 0, socket.MSG_TRUNC)[0],
    }

    def main():
        with linked(kind) as (one, other):
            for name, call in calls.items():
                if name == "recv" and not size:  # as in the standard class, to which that is no call at all
                    continue
                one.send(b"0123456789")
                assert call(other) == b"0123456789"[:size].ljust(10, b"\0")
            if size:
                into = bytearray(size)
                for receive in (other.recv_into, lambda *args: other.recvfrom_into(*args)[0]):
                    one.send(b"0123456789")
                    assert receive(into, 0, socket.MSG_TRUNC) == 10
                    assert into[:10] == b"0123456789"[:size]
            one.send(b"0123456789")
            assert bool(other.recvmsg(size)[2] & socket.MSG_TRUNC) == (size < 10)
            nothing_there(other)

    anywhere(main)


# -- descriptors


@pytest.mark.parametrize("kind", CARRIERS)
def test_descriptors_arrive_work_and_are_not_inherited(anywhere, kind):
    def main():
        read_end, write_end = os.pipe()
        with linked(kind) as (one, other), netnet.Socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            os.set_inheritable(write_end, True)
            assert one.send_fds([write_end, sock], b"data") == 4
            os.close(write_end)
            data, fds = other.recv_fds()
            assert (data, len(fds)) == (b"data", 2)
            assert not any(map(os.get_inheritable, fds))
            os.write(fds[0], b"through")
            os.close(fds[0])
            with netnet.Socket(fileno=fds[1]) as copy:
                assert copy.local_address == sock.local_address
                assert copy.fileno() != sock.fileno()
            assert os.read(read_end, 99) == b"through"
            assert os.read(read_end, 99) == b"", "somebody has the other end still"
        os.close(read_end)

    anywhere(main)


@pytest.mark.parametrize("kind", CARRIERS)
@pytest.mark.parametrize("count", [0, 1, 2, 100, 252, 253])
def test_as_many_descriptors_as_the_kernel_takes(anywhere, kind, count):
    def main():
        with linked(kind) as (one, other), lent(max(1, count)) as fds:
            one.send_message(b"x", [Rights(*fds[:count])])
            message = other.receive_message()
            assert (message.data, message.control_truncated) == (b"x", False)
            taken = message.take_fds()
            assert (len(taken), message.take_fds()) == (count, [])
            message.close()
            assert all(os.path.samestat(os.fstat(fd), os.fstat(fds[0])) for fd in taken)
            assert not any(map(os.get_inheritable, taken))
            close_all(taken)

    anywhere(main)


@pytest.mark.parametrize("count", [254, 1000])
def test_more_than_that_is_a_value_error_and_nothing_leaves(anywhere, count):
    def main():
        with linked("unix") as (one, other):
            with pytest.raises(ValueError):
                one.send_fds([0] * count)
            nothing_there(other)

    anywhere(main)


def test_more_than_that_in_two_messages_is_the_kernels_error(anywhere):
    def main():
        with linked("unix") as (one, other):
            with pytest.raises(OSError) as caught:
                one.send_message(b"x", [Rights(*[0] * 200), Rights(*[0] * 54)])
            assert caught.value.errno == errno.EINVAL
            one.send_message(b"x", [Rights(*[0] * 200), Rights(*[0] * 53)])
            data, fds = other.recv_fds()
            assert (data, len(fds)) == (b"x", RIGHTS_MAX)
            close_all(fds)

    anywhere(main)


@pytest.mark.parametrize("data", [b"", [], [b""], [b"", bytearray()], array.array("H"), iter(())], ids=kind_of)
def test_on_a_stream_descriptors_need_a_byte(data):
    with linked("unix") as (one, other):
        with pytest.raises(ValueError, match="byte"):
            one.send_message(data, [Rights(0)])
        with pytest.raises(ValueError, match="byte"):
            one.send_fds([0], b"")
        nothing_there(other)


def test_in_a_datagram_they_need_none():
    with linked("unix-datagram") as (one, other):
        assert one.send_fds([0, 1], b"") == 0
        data, fds = other.recv_fds()
        assert (data, len(fds)) == (b"", 2)
        close_all(fds)


@pytest.mark.parametrize("wrong", [[-1], [0, True], [2**31], [0, -(2**31)]])
def test_what_is_no_descriptor_is_a_value_error_and_nothing_leaves(wrong):
    with linked("unix") as (one, other):
        with pytest.raises(ValueError):
            one.send_fds(wrong)
        nothing_there(other)


def test_a_number_that_is_not_open_is_the_kernels_error(anywhere):
    def main():
        with linked("unix") as (one, other):
            with pytest.raises(OSError) as caught:
                one.send_fds([2**31 - 1])
            assert caught.value.errno == errno.EBADF
            assert not isinstance(caught.value, netnet.ClosedError), "it is not the socket that is closed"
            nothing_there(other)

    anywhere(main)


def test_each_message_on_a_stream_keeps_its_own_descriptors(anywhere):
    def main():
        with linked("unix") as (one, other), lent(3) as fds:
            one.send_fds(fds[:1], b"one")
            one.send_fds(fds[1:], b"two")
            one.send(b"three")
            got = [other.recv_fds(), other.recv_fds(), other.recv_fds()]
            assert [(data, len(taken)) for data, taken in got] == [(b"one", 1), (b"two", 2), (b"three", 0)]
            close_all([fd for _, taken in got for fd in taken])

    anywhere(main)


@pytest.mark.parametrize("kind", CARRIERS)
def test_peeked_descriptors_are_others_than_those_that_follow(anywhere, kind):
    def main():
        with linked(kind) as (one, other):
            one.send_fds([0])
            peeked, taken = other.recv_fds(flags="peek")[1], other.recv_fds()[1]
            assert len({*peeked, *taken}) == 2
            close_all(peeked + taken)
            nothing_there(other)

    anywhere(main)


def test_with_the_message_go_the_descriptors_that_nobody_took(anywhere):
    def main():
        with linked("unix-datagram") as (one, other):
            one.send_message(b"x", [Rights(0, 1)])
            with other.receive_message() as message:
                fds = message.get(Rights).fds
                assert all(map(is_open, fds))
            assert not any(map(is_open, fds))
            assert message.get(Rights).fds == ()

            one.send_message(b"x", [Rights(0, 1)])
            with other.receive_message() as message:
                taken = message.take_fds()
            assert all(map(is_open, taken))
            close_all(taken)

            one.send_message(b"x", [Rights(0)])
            message = other.receive_message()
            fds = message.get(Rights).fds
            with pytest.warns(ResourceWarning, match="not taken"):
                del message
                gc.collect()
            assert not any(map(is_open, fds))

    anywhere(main)


@pytest.mark.parametrize("kind", CARRIERS)
@pytest.mark.parametrize("size", [*range(36), 40, 64, 1000])
def test_too_little_room_for_descriptors_says_so_and_loses_none(kind, size):
    with linked(kind) as (one, other):
        for flags in ("peek", 0):
            one.send_message(b"data", [Rights(0, 1, 2)])
            with other.receive_message(control_size=size, flags=flags) as message:
                whole = max(0, min(3, (size - 16) // 4))
                assert message.data == b"data"
                assert sum(len(one.fds) for one in message.control if isinstance(one, Rights)) == whole
                assert message.control_truncated == (whole < 3)
                assert ("ctrunc" in message.flag_names) == (whole < 3)
            if flags:
                close_all(other.recv_fds()[1])
        nothing_there(other)


@pytest.mark.parametrize("kind", CARRIERS)
@pytest.mark.parametrize("room", [0, 1, 4])
def test_where_the_process_may_open_no_more_all_or_none(anywhere, kind, room):
    def main():
        with linked(kind) as (one, other), lent(5) as fds:
            one.send_fds(fds)
            before = descriptors()
            lowest_free = opened()[0]
            os.close(lowest_free)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + room, hard))
            try:
                with pytest.raises(OSError) as caught:
                    other.recv_fds()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert caught.value.errno == errno.EMSGSIZE
            assert descriptors() == before

    anywhere(main)


@pytest.mark.parametrize("kind", CARRIERS)
@pytest.mark.parametrize(("count", "most"), [(2, 1), (1, 0), (253, 252), (3, 3), (0, 0), (2, 253)])
def test_more_descriptors_than_wanted_are_refused_and_closed(anywhere, kind, count, most):
    def main():
        with linked(kind) as (one, other):
            one.send_fds([0] * count, b"x")
            before = descriptors()
            if count > most:
                with pytest.raises(OSError, match=str(count)) as caught:
                    other.recv_fds(most)
                assert caught.value.errno == errno.EMSGSIZE
            else:
                data, fds = other.recv_fds(most)
                assert (data, len(fds)) == (b"x", count)
                close_all(fds)
            assert descriptors() == before
            nothing_there(other)

    anywhere(main)


@pytest.mark.parametrize("kind", ["unix-datagram", "seqpacket"])
def test_descriptors_of_a_datagram_that_is_cut_are_closed(anywhere, kind):
    def main():
        with linked(kind) as (one, other):
            one.send_fds([0, 1], b"0123456789")
            before = descriptors()
            with pytest.raises(OSError, match="2") as caught:
                other.recv_fds(size=9)
            assert caught.value.errno == errno.EMSGSIZE
            assert descriptors() == before

    anywhere(main)


@pytest.mark.parametrize("kind", ["unix", "seqpacket"])
def test_at_the_end_there_are_neither_data_nor_descriptors(anywhere, kind):
    def main():
        with linked(kind) as (one, other):
            one.send_fds([0], b"last")
            one.close_down()
            data, fds = other.recv_fds()
            assert (data, len(fds)) == (b"last", 1)
            close_all(fds)
            assert other.recv_fds() == other.recv_fds() == (b"", [])

    anywhere(main)


@pytest.mark.parametrize("kind", CARRIERS)
@pytest.mark.parametrize("end", ["cancelled", "out of time", "closed"])
def test_a_reader_that_is_interrupted_loses_no_descriptor(run, kind, end):
    def main():
        with linked(kind) as (one, other):
            if end == "out of time":
                with pytest.raises(TimeoutError), netnet.timeout(0.001):
                    other.recv_fds()
                other.settimeout(0.001)
                with pytest.raises(TimeoutError):
                    other.receive_message()
                other.settimeout(None)
            task = parked(other.recv_fds)
            one.send_fds([0, 1], b"x")  # on its way when the reader is told to stop
            if end == "closed":
                other.close()
                with pytest.raises(netnet.ClosedError):
                    task.result()
                return
            task.cancel()
            with pytest.raises(netnet.TaskCancelledError):
                task.result()
            data, fds = other.recv_fds()
            assert (data, len(fds)) == (b"x", 2)
            close_all(fds)

    run(main)


@pytest.mark.parametrize("kind", CARRIERS)
def test_readers_that_were_told_to_stop_leave_it_to_the_next(run, kind):
    def main():
        with linked(kind) as (one, other):
            for _ in range(2):
                first = parked(other.receive_message)
                first.cancel()
                first.join()
            reader = parked(other.recv_fds)
            one.send_fds([0], b"x")
            data, fds = reader.result()
            assert (data, len(fds)) == (b"x", 1)
            close_all(fds)

    run(main)


def test_a_send_that_takes_a_part_has_sent_all_descriptors(anywhere):
    def main():
        with linked("unix") as (one, other):
            data = bytes(range(256)) * 100_000
            sent = one.send_message([data[:1000], data[1000:]], [Rights(0, 1)])
            assert 0 < sent < len(data)
            came, fds = other.recv_fds(size=10)
            assert (came, len(fds)) == (data[:10], 2)
            close_all(fds)
            take_out(other, sent - 10)
            nothing_there(other)

    anywhere(main)


@pytest.mark.parametrize("kind", ["unix-datagram", "udp4"])
def test_when_the_first_in_line_is_told_to_stop_the_next_gets_the_message(run, kind):
    def main():
        with linked(kind) as (one, other):
            first, second, third = (parked(other.recv_fds) for _ in range(3))
            one.send_message(b"x", [Rights(0)] if kind in CARRIERS else ())
            first.cancel()
            data, fds = second.result()
            assert (data, len(fds)) == (b"x", int(kind in CARRIERS))
            close_all(fds)
            assert not third.done
            third.cancel()

    run(main)


# -- credentials


OWN = Credentials(os.getpid(), os.getuid(), os.getgid())


@pytest.mark.parametrize("kind", CARRIERS)
def test_credentials_of_the_sender(anywhere, kind):
    def main():
        with linked(kind) as (one, other):
            one.send(b"before")
            assert other.receive_message().control == ()
            other.passcred = True
            one.send(b"x")
            assert other.receive_message().control == (OWN,)
            one.send_message(b"x", [OWN])
            message = other.receive_message()
            assert message.get(Credentials) == OWN
            assert type(message.get(Credentials)) is Credentials
            one.send_message(b"x", [OWN, Rights(0)])
            with other.receive_message() as message:
                assert message.get(Credentials) == OWN
                assert len(message.get(Rights).fds) == 1

    anywhere(main)


@needs_root
@pytest.mark.parametrize(
    "foreign", [Credentials(1, 0, 0), Credentials(os.getpid(), 65534, 65533), Credentials(1, 7, 8)]
)
def test_root_may_speak_for_others(anywhere, foreign):
    def main():
        with linked("unix-datagram") as (one, other):
            other.passcred = True
            one.send_message(b"x", [foreign])
            assert other.receive_message().get(Credentials) == foreign

    anywhere(main)


@pytest.mark.parametrize("nobody", [Credentials(2**31 - 1, 0, 0), Credentials(os.getpid(), 2**32 - 1, 0)])
def test_credentials_that_cannot_be_are_the_kernels_error(nobody):
    with linked("unix-datagram") as (one, other):
        with pytest.raises(OSError):
            one.send_message(b"x", [nobody])
        nothing_there(other)


@pytest.mark.parametrize("kind", CARRIERS)
def test_a_descriptor_of_the_sending_process(anywhere, kind):
    def main():
        with linked(kind) as (one, other):
            option(other, "passpidfd")
            one.send(b"x")
            message = other.receive_message()
            pidfd = message.get(PidFd)
            assert pidfd is not None
            assert not os.get_inheritable(pidfd.fd)
            signal.pidfd_send_signal(pidfd.fd, 0)
            fd = pidfd.fd
            message.close()
            assert (pidfd.fd, is_open(fd)) == (-1, False)

            one.send(b"x")
            fd = other.receive_message().get(PidFd).take()
            assert is_open(fd)
            os.close(fd)

            one.send_fds([0], b"x")
            data, fds = other.recv_fds()  # the process's descriptor is closed: nobody asked for it
            assert (data, len(fds)) == (b"x", 1)
            close_all(fds)

    anywhere(main)


def test_a_process_descriptor_without_room_says_so():
    with linked("unix-datagram") as (one, other):
        option(other, "passpidfd")
        for size in range(40):
            one.send(b"x")
            with other.receive_message(control_size=size) as message:
                assert message.control_truncated == (message.get(PidFd) is None)


def test_credentials_that_are_cut_stay_bytes_and_say_so():
    with linked("unix-datagram") as (one, other):
        other.passcred = True
        for size in range(40):
            one.send(b"x")
            message = other.receive_message(control_size=size)
            assert message.control_truncated == (message.get(Credentials) is None) == (size < 28)
            assert message.get(Credentials) in (None, OWN)


# -- what the network tells


@pytest.mark.parametrize(
    ("kind", "to"), [("udp4", "127.0.0.1"), ("udp4", "127.0.0.2"), ("udp4", "127.9.8.7"), ("udp6", "::1")]
)
def test_an_answer_comes_from_where_the_question_went(anywhere, kind, to):
    def main():
        with udp(kind, to) as (server, client, address):
            server.set_option("pktinfo" if kind == "udp4" else "recvpktinfo", True)
            client.send_message(b"question", address=address)
            message = server.receive_message()
            info = message.get(PacketInfo)
            assert info.interface == socket.if_nametoindex("lo")
            assert info.address == ipaddress.ip_address(to)
            assert info.local == (ipaddress.ip_address(to) if kind == "udp4" else None)
            assert message.address == client.local_address
            server.send_message(b"answer", [info], address=message.address)
            answer = client.receive_message()
            assert (answer.data, answer.address, answer.control) == (b"answer", address, ())

    anywhere(main)


def test_an_answer_to_a_group_comes_from_the_own_address(anywhere):
    def main():
        with udp("udp4") as (server, client, _):
            group, loopback = ipaddress.ip_address("239.192.0.1"), ipaddress.ip_address("127.0.0.1")
            server.pktinfo = True
            server.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group.packed + loopback.packed)
            client.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback.packed)
            client.send_message(b"question", address=IPv4Address(group, server.local_address.port))
            message = server.receive_message()
            info = message.get(PacketInfo)
            assert info == PacketInfo(socket.if_nametoindex("lo"), group, loopback)
            server.send_message(b"answer", [info], address=message.address)
            assert client.receive_message().address == IPv4Address(loopback, server.local_address.port)

    anywhere(main)


def test_a_datagram_can_be_sent_from_any_own_address(anywhere):
    def main():
        with udp("udp4") as (server, client, _):
            for host in ("127.0.0.1", "127.0.0.2", "127.3.3.3"):
                for address in (ipaddress.ip_address(host), IPv4Address(host, 0).ip):
                    server.send_message(b"x", [PacketInfo(0, address)], address=client.local_address)
                    assert client.receive_message().address == IPv4Address(host, server.local_address.port)
            with pytest.raises(OSError):
                server.send_message(b"x", [PacketInfo(2**31 - 1, ipaddress.ip_address("127.0.0.1"))])
            with pytest.raises(ValueError):
                server.send_message(b"x", [PacketInfo(0, ipaddress.ip_address("::1"))], address=client.local_address)
            nothing_there(client)

    anywhere(main)


def test_a_socket_for_both_families_answers_ipv4_from_where_the_question_went(anywhere):
    def main():
        with netnet.Socket(socket.AF_INET6, socket.SOCK_DGRAM) as server, udp("udp4") as (_, client, _):
            server.v6only = False
            server.bind(("::", 0))
            server.recvpktinfo = True
            address = IPv4Address("127.0.0.2", server.local_address.port)
            client.send_message(b"question", address=address)
            message = server.receive_message()
            assert message.get(PacketInfo).address == ipaddress.ip_address("::ffff:127.0.0.2")
            assert message.address == IPv6Address("::ffff:127.0.0.1", client.local_address.port)
            server.send_message(b"answer", [message.get(PacketInfo)], address=message.address)
            assert client.receive_message().address == address
            server.send_message(b"x", [PacketInfo(0, ipaddress.ip_address("127.0.0.3"))], address=message.address)
            assert client.receive_message().address == IPv4Address("127.0.0.3", address.port)

    anywhere(main)


@pytest.mark.parametrize(
    ("kind", "wanted", "message", "default"),
    [
        ("udp4", "recvttl", HopLimit(5), HopLimit(33)),
        ("udp6", "recvhoplimit", HopLimit(255), HopLimit(33)),
        ("udp4", "recvtos", TrafficClass(0xB9), TrafficClass(0)),
        ("udp6", "recvtclass", TrafficClass(0xB9), TrafficClass(0)),
    ],
)
def test_hops_and_traffic_class_go_both_ways(anywhere, kind, wanted, message, default):
    def main():
        with linked(kind) as (one, other):
            one.set_option("ttl" if kind == "udp4" else "hops", 33)
            one.send_message(b"x", [message])
            assert other.receive_message().control == ()
            other.set_option(wanted, True)
            for sent, came in (([message], message), ([], default), ([message], message)):
                one.send_message(b"x", sent)
                assert other.receive_message().control == (came,)
            one.send(b"x")
            cut = other.receive_message(control_size=0)
            assert (cut.control, cut.control_truncated) == ((), True)

    anywhere(main)


@pytest.mark.parametrize("wrong", [HopLimit(0), HopLimit(256), HopLimit(-7), TrafficClass(256), SegmentSize(1)])
def test_what_the_kernel_does_not_take_is_its_error(wrong):
    with linked("udp4") as (one, other):
        with pytest.raises(OSError) as caught:
            one.send_message(b"x" * 65500, [wrong])
        assert caught.value.errno in (errno.EINVAL, errno.EMSGSIZE)
        nothing_there(other)


@pytest.mark.parametrize(("name", "resolution"), [("timestamp", 1000), ("timestampns", 1)])
@pytest.mark.parametrize("kind", ["udp4", "udp6"])
def test_a_time_stamp_is_when_it_came(anywhere, kind, name, resolution):
    def main():
        with linked(kind) as (one, other):
            other.set_option(name, True)
            before = time.time_ns()
            one.send(b"x")
            message = other.receive_message()
            stamp = message.get(Timestamp)
            assert before - resolution <= stamp.nanoseconds <= time.time_ns()
            assert message.control == (stamp,)

    anywhere(main)


@pytest.mark.parametrize("kind", ["udp4", "udp6", "tcp4"])
def test_time_stamps_of_the_system_for_what_comes(anywhere, kind):
    def main():
        with linked(kind) as (one, other):
            other.timestamping = Timestamping.RX_SOFTWARE | Timestamping.SOFTWARE
            for _ in range(2000):  # the kernel takes a moment to begin
                before = time.time_ns()
                one.send(b"x")
                stamps = other.receive_message().get(Timestamps)
                if stamps is not None:
                    break
            assert before <= stamps.software <= time.time_ns()
            assert stamps.hardware is None

    anywhere(main)


@pytest.mark.parametrize("kind", ["udp4", "udp6"])
def test_time_stamps_of_what_leaves_come_by_the_error_queue(anywhere, kind):
    def main():
        with linked(kind) as (one, other):
            one.timestamping = Timestamping.TX_SOFTWARE | Timestamping.SOFTWARE | Timestamping.OPT_ID
            assert one.receive_error() is None
            for count in range(3):
                before = time.time_ns()
                one.send_message(b"payload")
                wait_for(one, 0)
                message = one.receive_error()
                assert before <= message.get(Timestamps).software <= time.time_ns()
                assert message.get(Timestamps).hardware is None
                error = message.error
                assert (error.number, error.origin) == (errno.ENOMSG, ExtendedError.ORIGIN_TRANSMIT)
                assert error.data == count
                assert message.from_error_queue
                assert message.data.endswith(b"payload"), "the packet with its headers"
                assert one.receive_error() is None
                assert other.recv(99) == b"payload"

    anywhere(main)


@pytest.mark.parametrize(
    ("kind", "name", "to"),
    [("udp4", "recvorigdstaddr", "127.0.0.2"), ("udp6", "ipv6_recvorigdstaddr", "::1")],
)
def test_the_original_destination_is_where_it_was_sent(anywhere, kind, name, to):
    def main():
        with udp(kind, to) as (server, client, address):
            option(server, name)
            client.send_message(b"x", address=address)
            assert server.receive_message().control == (OriginalDestination(address),)

    anywhere(main)


@pytest.mark.parametrize("kind", ["udp4", "udp6"])
@pytest.mark.parametrize("size", [1000, 1001, 2999, 3000, 3001])
def test_a_send_is_cut_into_segments(anywhere, kind, size):
    sent = bytes(range(256)) * 12
    sent = sent[:3000]

    def main():
        with linked(kind) as (one, other):
            assert one.send_message([sent[:7], sent[7:]], [SegmentSize(size)]) == 3000
            got = [other.receive_message() for _ in range(0, 3000, size)]
            assert [message.data for message in got] == [sent[at : at + size] for at in range(0, 3000, size)]
            assert not any(message.control for message in got)
            nothing_there(other)

    anywhere(main)


@pytest.mark.parametrize("kind", ["udp4", "udp6"])
@pytest.mark.parametrize("size", [1000, 1100])
def test_segments_can_come_together_again(anywhere, kind, size):
    def main():
        with linked(kind) as (one, other):
            option(other, "udp_gro")
            one.send_message(bytes(3000), [SegmentSize(size)])
            message = other.receive_message()
            assert (message.data, message.control) == (bytes(3000), (SegmentSize(size),))

    anywhere(main)


def test_lost_packets_are_counted(anywhere):
    def main():
        with linked("udp4") as (one, other):
            other.rcvbuf = 4096
            other.rxq_ovfl = True
            for _ in range(100):
                one.send(bytes(1000))
            came = 0
            with contextlib.suppress(BlockingIOError):
                while other.receive_message(flags="dontwait").size:
                    came += 1
            assert 0 < came < 100
            one.send(b"x")
            assert other.receive_message().control == (Dropped(100 - came),)

    anywhere(main)


@needs_root
@pytest.mark.parametrize("kind", ["udp4", "udp6"])
@pytest.mark.parametrize("value", [1, 77, 2**31, 2**32 - 1])
def test_a_mark_goes_both_ways(anywhere, kind, value):
    def main():
        with linked(kind) as (one, other):
            option(other, "rcvmark")
            one.send_message(b"x", [Mark(value)])
            assert other.receive_message().control == (Mark(value),)

    anywhere(main)


@pytest.mark.parametrize("kind", ["udp4", "udp6"])
def test_a_priority_goes_both_ways(anywhere, kind):
    def main():
        with linked(kind) as (one, other):
            option(other, "rcvpriority")
            for value in (6, 1):
                one.send_message(b"x", [Priority(value)])
                assert other.receive_message().control == (Priority(value),)

    anywhere(main)


def test_a_time_of_sending_is_taken_where_a_clock_was_told(anywhere):
    def main():
        with linked("udp4") as (one, other):
            with pytest.raises(OSError):
                one.send_message(b"x", [TransmitAt(time.monotonic_ns())])
            option(one, "txtime", TransmitTime(time.CLOCK_MONOTONIC, 0))
            one.send_message(b"x", [TransmitAt(time.monotonic_ns())])
            assert other.recv(9) == b"x"

    anywhere(main)


def test_how_much_of_a_stream_is_left(anywhere):
    def main():
        with linked("tcp4") as (one, other):
            other.inq = True
            one.send(b"0123456789")
            wait_for(other, select.POLLIN)
            assert other.receive_message(4).control == (Unread(6),)
            assert other.receive_message(6).control == (Unread(0),)

    anywhere(main)


def test_several_at_once(anywhere):
    def main():
        with linked("udp4") as (one, other):
            other.pktinfo = other.recvttl = other.recvtos = other.timestampns = True
            one.send_message(b"x", [HopLimit(9), TrafficClass(8), PacketInfo(0, ipaddress.ip_address("127.0.0.1"))])
            message = other.receive_message()
            assert {type(one) for one in message.control} == {Timestamp, PacketInfo, HopLimit, TrafficClass}
            assert (message.get(HopLimit), message.get(TrafficClass)) == (HopLimit(9), TrafficClass(8))
            assert message.get(Mark) is None
            assert repr(message).startswith(f"<message of 1 bytes from {one.local_address} [")

    anywhere(main)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("udp4", ["pktinfo", "recvttl", "recvtos", "timestampns", "recvorigdstaddr"]),
        ("udp6", ["recvpktinfo", "recvhoplimit", "recvtclass", "timestamp", "ipv6_recvorigdstaddr"]),
    ],
)
def test_whatever_the_room_what_comes_is_a_beginning_of_it_all(kind, wanted):
    """A message that is cut in the middle comes as bytes, and nothing comes after it."""
    with linked(kind) as (one, other):
        for name in wanted:
            option(other, name)
        one.send(b"x")
        everything = other.receive_message(flags="peek").control
        assert len(everything) == len(wanted)
        assert not any(isinstance(one, OtherControl) for one in everything)
        for size in range(200):
            message = other.receive_message(control_size=size, flags="peek")
            *known, last = (None, *message.control)
            assert message.data == b"x"
            assert message.control_truncated == (message.control != everything)
            if isinstance(last, OtherControl):
                assert tuple(known[1:]) == everything[: len(known) - 1]
            else:
                assert message.control == everything[: len(message.control)]
        assert other.receive_message().control == everything


# -- the error queue


def closed_port(kind):
    """An address of loopback where nobody listens."""
    with socket.socket(socket.AF_INET6 if kind == "udp6" else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOSTS[kind], 0))
        return (IPv6Address if kind == "udp6" else IPv4Address)(*sock.getsockname())


REFUSED = {
    "udp4": ("recverr", ExtendedError.ORIGIN_ICMP, 3, 3, IPv4Address("127.0.0.1", 0)),
    "udp6": ("ipv6_recverr", ExtendedError.ORIGIN_ICMP6, 1, 4, IPv6Address("::1", 0)),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("connected", [True, False])
def test_a_refused_datagram_comes_back_with_who_refused_it(anywhere, kind, connected):
    def main():
        name, origin, type, code, offender = REFUSED[kind]
        with udp(kind) as (_, sock, _):
            sock.set_option(name, True)
            assert sock.receive_error() is None
            nobody = closed_port(kind)
            if connected:
                sock.connect(nobody.sockaddr)
                sock.send_message(b"payload")
            else:
                sock.send_message(b"payload", address=nobody)
            wait_for(sock, 0)
            message = sock.receive_error()
            error = message.error
            assert (error.number, error.origin, error.type, error.code) == (errno.ECONNREFUSED, origin, type, code)
            assert error.offender == offender
            assert str(error) == f"{os.strerror(errno.ECONNREFUSED)}, told by {offender}"
            assert (message.data, message.address) == (b"payload", nobody)
            assert (message.from_error_queue, message.truncated) == (True, False)
            assert "errqueue" in message.flag_names
            assert sock.receive_error() is None
            nothing_there(sock)

    anywhere(main)


@pytest.mark.parametrize(("size", "data", "cut"), [(0, b"", True), (3, b"pay", True), (7, b"payload", False)])
def test_of_what_was_sent_as_much_as_is_wanted(size, data, cut):
    with udp("udp4") as (_, sock, _):
        sock.recverr = True
        sock.send_message(b"payload", address=closed_port("udp4"))
        wait_for(sock, 0)
        message = sock.receive_error(size)
        assert (message.data, message.truncated, message.error.number) == (data, cut, errno.ECONNREFUSED)


def test_errors_come_one_by_one_in_order(anywhere):
    def main():
        with udp("udp4") as (_, sock, _):
            sock.recverr = True
            places = [closed_port("udp4") for _ in range(3)]
            for number, place in enumerate(places):
                while True:
                    with contextlib.suppress(ConnectionRefusedError):  # the next call tells of the one before
                        sock.send_message(b"%d" % number, address=place)
                        break
            found = []
            for _ in places:
                wait_for(sock, 0)
                message = sock.receive_error()
                found.append((message.data, message.address))
            assert sock.receive_error() is None
            assert found == [(b"%d" % number, place) for number, place in enumerate(places)]

    anywhere(main)


def test_a_socket_for_both_families_is_told_of_ipv4():
    with netnet.Socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.v6only = False
        sock.ipv6_recverr = sock.recverr = True
        nobody = IPv6Address("::ffff:127.0.0.1", closed_port("udp4").port)
        sock.send_message(b"payload", address=nobody)
        wait_for(sock, 0)
        message = sock.receive_error()
        assert (message.data, message.address) == (b"payload", nobody)
        assert (message.error.number, message.error.origin) == (errno.ECONNREFUSED, ExtendedError.ORIGIN_ICMP)
        assert message.error.offender == IPv6Address("::ffff:127.0.0.1", 0)


@pytest.mark.parametrize("kind", ["tcp4", "tcp6"])
@pytest.mark.parametrize("extra", [0, Timestamping.OPT_TSONLY, Timestamping.OPT_TSONLY | Timestamping.OPT_STATS])
def test_a_stream_tells_when_its_bytes_were_acknowledged(anywhere, kind, extra):
    def main():
        with linked(kind) as (one, other):
            one.timestamping = Timestamping.TX_ACK | Timestamping.SOFTWARE | Timestamping.OPT_ID | extra
            before = time.time_ns()
            one.send(b"payload")
            wait_for(one, 0)
            message = one.receive_error()
            assert before <= message.get(Timestamps).software <= time.time_ns()
            assert (message.error.origin, message.error.data) == (ExtendedError.ORIGIN_TRANSMIT, 6)
            assert (message.from_error_queue, message.control_truncated) == (True, False)
            assert one.receive_error() is None
            assert other.recv(99) == b"payload"

    anywhere(main)


def test_notices_of_sending_without_copying_are_in_the_queue(anywhere):
    def main():
        with linked("tcp4") as (one, other):
            option(one, "zerocopy")
            for number in range(3):
                assert one.send_message(bytes(50_000), flags="zerocopy") == 50_000
                take_out(other, 50_000)
                wait_for(one, 0)
                error = one.receive_error().error
                assert (error.number, error.origin) == (0, ExtendedError.ORIGIN_ZEROCOPY)
                assert (error.info, error.data) == (number, number)
            assert one.receive_error() is None

    anywhere(main)


def test_without_the_option_there_is_no_queue():
    with udp("udp4") as (_, sock, _):
        sock.connect(closed_port("udp4").sockaddr)
        sock.send(b"x")
        wait_for(sock, 0)
        assert sock.receive_error() is None


def test_a_waiting_reader_gets_the_error_and_the_queue_keeps_the_rest(run):
    def main():
        with udp("udp4") as (_, sock, _):
            sock.recverr = True
            reader = parked(sock.receive_message)
            sock.send_message(b"x", address=closed_port("udp4"))
            with pytest.raises(ConnectionRefusedError):
                reader.result()
            assert sock.receive_error().error.number == errno.ECONNREFUSED
            assert sock.receive_error() is None

    run(main)


# -- waiting


@pytest.mark.parametrize("kind", [*KINDS, "seqpacket"])
def test_a_reader_parks_until_a_message_comes(backend, run, kind):
    def main():
        with linked(kind) as (one, other):
            into = bytearray(9)
            for call in (other.receive_message, lambda: other.receive_message_into([into])):
                reader = parked(call)
                one.send_message([b"hel", b"lo"])
                message = reader.result()
                assert (message.data or bytes(into[: message.size]), message.size) == (b"hello", 5)
            reader = parked(other.receive_message)
            reader.cancel()
            with pytest.raises(netnet.TaskCancelledError):
                reader.result()
            one.send(b"next")
            assert other.receive_message().data == b"next"

    run(main)


@pytest.mark.parametrize("kind", ["tcp4", "unix", "unix-datagram", "seqpacket"])
def test_a_sender_parks_until_there_is_room(backend, run, kind):
    def main():
        with linked(kind) as (one, other):
            stream = one.type == socket.SOCK_STREAM
            taken = fill(one)
            sender = parked(one.send_message, [b"the ", b"end"], [Rights(0)] if kind in CARRIERS else ())
            if stream:
                take_out(other, taken)
            else:
                for _ in range(taken):
                    assert other.recv(9) == b"x"
            assert sender.result() == 7
            data, fds = other.recv_fds()
            assert (data, len(fds)) == (b"the end", int(kind in CARRIERS))
            close_all(fds)

    run(main)


@pytest.mark.parametrize("kind", ["tcp4", "unix", "unix-datagram", "seqpacket"])
def test_a_sender_that_is_cancelled_has_sent_nothing(run, kind):
    def main():
        with linked(kind) as (one, other):
            taken = fill(one)
            sender = parked(one.send_message, b"never", [Rights(0)] if kind in CARRIERS else ())
            sender.cancel()
            with pytest.raises(netnet.TaskCancelledError):
                sender.result()
            one.close_down()
            if one.type == socket.SOCK_STREAM:
                take_out(other, taken)
                assert other.recv_fds() == (b"", [])
            else:
                assert {other.recv(9) for _ in range(taken)} == {b"x"}
                if kind == "unix-datagram":
                    nothing_there(other)

    run(main)


def test_a_sender_waits_for_room_at_an_address(run, tmp_path):
    def main():
        with (
            netnet.Socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server,
            netnet.Socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client,
        ):
            server.bind(str(tmp_path / "s"))
            taken = 0
            with contextlib.suppress(BlockingIOError):
                while client.send_message(b"x", flags="dontwait", address=server.local_address):
                    taken += 1
            sender = netnet.spawn(client.send_message, b"end", [Rights(0)], 0, server.local_address)
            assert b"".join(server.recv(9) for _ in range(taken)) == b"x" * taken
            data, fds = server.recv_fds()
            assert (sender.result(), data, len(fds)) == (3, b"end", 1)
            close_all(fds)

    run(main)


CALLS = {
    "receive_message": lambda sock: sock.receive_message(),
    "receive_message peek": lambda sock: sock.receive_message(flags="peek"),
    "receive_message_into": lambda sock: sock.receive_message_into([bytearray(9)]),
    "recv_fds": lambda sock: sock.recv_fds(),
    "receive_error": lambda sock: sock.receive_error(),
    "send_message": lambda sock: sock.send_message(b"x"),
    "send_message dontwait": lambda sock: sock.send_message(b"x", flags="dontwait"),
    "send_fds": lambda sock: sock.send_fds([0]),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", [*KINDS, "seqpacket"])
def test_a_closed_socket_says_so(run, kind, call):
    def main():
        with linked(kind) as (one, _):
            one.close()
            with pytest.raises(netnet.ClosedError) as caught:
                CALLS[call](one)
            assert caught.value.errno == errno.EBADF

    run(main)


@pytest.mark.parametrize("kind", KINDS)
def test_closing_wakes_those_who_wait(run, kind):
    def main():
        with linked(kind) as (one, _):
            reader = parked(one.receive_message)
            one.close()
            with pytest.raises(netnet.ClosedError):
                reader.result()

    run(main)


def test_a_second_reader_of_a_stream_is_busy_of_a_datagram_socket_stands_in_line(run):
    def main():
        with linked("unix") as (one, other):
            first = parked(other.receive_message)
            with pytest.raises(netnet.BusyError):
                other.receive_message()
            one.send(b"x")
            assert first.result().data == b"x"
        with linked("unix-datagram") as (one, other):
            readers = [parked(other.recv_fds) for _ in range(3)]
            for number in range(3):
                one.send_fds([0] * number, b"%d" % number)
            got = [reader.result() for reader in readers]
            assert [(data, len(fds)) for data, fds in got] == [(b"0", 0), (b"1", 1), (b"2", 2)]
            close_all([fd for _, fds in got for fd in fds])

    run(main)


@pytest.mark.parametrize("timeout", [0, 0.001])
def test_time_outs_are_those_of_the_socket(anywhere, timeout):
    def main():
        with linked("unix") as (one, _):
            one.settimeout(timeout)
            for call in (one.receive_message, lambda: one.receive_message_into([bytearray(1)]), one.recv_fds):
                with pytest.raises(TimeoutError if timeout else BlockingIOError):
                    call()
            fill(one)
            with pytest.raises(TimeoutError if timeout else BlockingIOError):
                one.send_message(b"x")

    anywhere(main)


# -- addresses


def unix_server(path):
    sock = netnet.Socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(path)
    return sock


@pytest.mark.parametrize("kind", ["udp4", "udp6"])
def test_typed_addresses_go_in_and_come_out(anywhere, kind):
    make = IPv6Address if kind == "udp6" else IPv4Address

    def main():
        with udp(kind) as (server, client, address):
            for send in (
                lambda: client.sendto(b"x", address),
                lambda: client.sendto(b"x", socket.MSG_DONTROUTE, address),
                lambda: client.send_message(b"x", address=address),
                lambda: client.send_message(b"x", address=address.sockaddr),
            ):
                assert send() == 1
                message = server.receive_message()
                assert (message.data, message.address) == (b"x", client.local_address)
                assert type(message.address) is make
            assert client.local_address == make(HOSTS[kind], client.getsockname()[1])
            assert type(client.local_address) is make
            with pytest.raises(OSError) as caught:
                client.peer_address  # noqa: B018
            assert caught.value.errno == errno.ENOTCONN
            client.connect(address.sockaddr)
            assert client.peer_address == address
            with netnet.Socket(server.family, socket.SOCK_DGRAM) as other:
                other.bind(make(HOSTS[kind], 0))
                assert other.local_address.host == HOSTS[kind]
                assert other.local_address.port

    anywhere(main)


@pytest.mark.parametrize("connect", ["connect", "connect_ex"])
@pytest.mark.parametrize("kind", ["tcp4", "tcp6", "udp4", "udp6", "path", "abstract"])
def test_typed_addresses_are_bound_to_and_connected_to(anywhere, tmp_path, kind, connect):
    own = {
        "tcp4": IPv4Address("127.0.0.1", 0),
        "udp4": IPv4Address("127.0.0.1", 0),
        "tcp6": IPv6Address("::1", 0),
        "udp6": IPv6Address("::1", 0),
        "path": UnixAddress(str(tmp_path / "s")),
        "abstract": UnixAddress(""),
    }[kind]
    arguments = own.family, socket.SOCK_DGRAM if kind.startswith("udp") else socket.SOCK_STREAM

    def main():
        with netnet.Socket(*arguments) as server, netnet.Socket(*arguments) as client:
            server.bind(own)
            address = server.local_address
            assert type(address) is type(own)
            if arguments[1] == socket.SOCK_STREAM:
                server.listen()
            assert getattr(client, connect)(address) in (None, 0)
            assert client.peer_address == address
            with pytest.raises((TypeError, OSError)):
                client.connect(UnixAddress("/nowhere") if own.family != socket.AF_UNIX else IPv4Address("127.0.0.1", 1))

    anywhere(main)


@pytest.mark.parametrize("kind", ["tcp4", "tcp6", "unix"])
def test_on_a_stream_the_addresses_are_the_sockets_own(anywhere, kind):
    def main():
        with linked(kind) as (one, other):
            assert (one.local_address, one.peer_address) == (other.peer_address, other.local_address)
            assert type(one.local_address) is {"tcp4": IPv4Address, "tcp6": IPv6Address, "unix": UnixAddress}[kind]
            one.send(b"x")
            assert other.receive_message().address is None, "the kernel tells none with a stream's data"

    anywhere(main)


ABSTRACT = [b"\0name", b"\0\xff\xfe odd", b"\0a\0b\0", b"\0\0", b"\0" + b"\xc3\xa9" * 20, b"\0" + b"x" * 107]


@pytest.mark.parametrize("name", ABSTRACT, ids=kind_of)
def test_abstract_names_of_any_bytes_go_in_and_come_out(anywhere, name):
    own = name[:-4] + b"%4d" % (os.getpid() % 10_000) if len(name) > 100 else name + b"%d" % os.getpid()
    address = UnixAddress(os.fsdecode(own))

    def main():
        with unix_server(address) as server, unix_server(UnixAddress("")) as client:
            assert server.getsockname() == own
            assert (server.local_address, address.abstract) == (address, True)
            assert client.local_address.abstract, "the kernel chose a name"
            client.sendto(b"x", address)
            assert server.receive_message().address == client.local_address
            client.send_message(b"x", address=server.local_address)
            message = server.receive_message()
            assert message.address == client.local_address
            server.send_message(b"answer", address=message.address)
            answer = client.receive_message()
            assert (answer.data, answer.address) == (b"answer", address)

    anywhere(main)


@pytest.mark.parametrize("name", ["s", "ünï", b"\xff\xfe"], ids=kind_of)
def test_paths_go_in_and_come_out(anywhere, tmp_path, name):
    path = os.path.join(os.fsencode(tmp_path), os.fsencode(name))
    address = UnixAddress(os.fsdecode(path))

    def main():
        with unix_server(address) as server, unix_server(UnixAddress(f"{tmp_path}/c")) as client:
            assert os.path.exists(path)
            assert server.local_address == address
            assert (address.abstract, address.unnamed) == (False, False)
            client.send_message(b"x", address=address)
            assert server.receive_message().address == UnixAddress(f"{tmp_path}/c")

    anywhere(main)


def test_a_socket_without_a_name_has_none(anywhere, tmp_path):
    def main():
        with unix_server(str(tmp_path / "s")) as server, netnet.Socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            assert client.local_address == UnixAddress("")
            assert client.local_address.unnamed
            client.send_message(b"x", address=server.local_address)
            assert server.receive_message().address is None
        with linked("unix-datagram") as (one, other):
            assert one.local_address == one.peer_address == UnixAddress("")
            one.send(b"x")
            assert other.receive_message().address is None

    anywhere(main)


# -- beside the standard class


@pytest.mark.parametrize("kind", [*CARRIERS, "udp4", "udp6"])
def test_the_calls_of_the_standard_shape_see_what_the_standard_class_sees(anywhere, kind):
    def main():
        with linked(kind) as (one, other):
            if kind in CARRIERS:
                other.passcred = True
                sent = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("=3i", *OWN))]
            elif kind == "udp4":
                other.recvttl = other.pktinfo = other.recvtos = other.timestampns = True
                sent = [(socket.IPPROTO_IP, socket.IP_TTL, struct.pack("=i", 7))]
            else:
                other.recvhoplimit = other.recvpktinfo = other.recvtclass = other.timestamp = True
                sent = [(socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, struct.pack("=i", 7))]
            for size, room in ((100, 500), (3, 500), (100, 0), (100, 20)):
                assert one.sendmsg([b"ab", bytearray(b"cdef")], sent) == 6
                wait_for(other, select.POLLIN)
                standard = socket.socket.recvmsg(other, size, room, socket.MSG_PEEK)
                into, into_standard = bytearray(size), bytearray(size)
                standard_into = socket.socket.recvmsg_into(other, [into_standard], room, socket.MSG_PEEK)
                assert other.recvmsg_into([into], room, socket.MSG_PEEK) == standard_into
                assert into == into_standard
                assert other.recvmsg(size, room, socket.MSG_PEEK) == standard
                with other.receive_message(size, control_size=room, flags="peek") as typed:
                    assert (typed.data, len(typed.control)) == (standard[0], len(standard[1]))
                assert other.recvmsg(size, room) == standard
                if other.type == socket.SOCK_STREAM and size < 6:
                    take_out(other, 6 - size)

    anywhere(main)


@pytest.mark.parametrize("ours", [True, False])
def test_descriptors_between_the_standard_calls_and_the_typed_ones(anywhere, ours):
    def main():
        with linked("unix") as (one, other):
            if ours:
                one.send_fds([0, 1], b"x")
                data, fds, flags, _ = socket.recv_fds(other, 99, 9)
                assert flags & ~socket.MSG_CMSG_CLOEXEC == 0
            else:
                socket.send_fds(one, [b"x"], [0, 1])
                data, fds = other.recv_fds()
            assert (data, len(fds)) == (b"x", 2)
            close_all(fds)

    anywhere(main)


@pytest.mark.parametrize("kind", ["udp4", "udp6"])
def test_typed_and_standard_sends_are_the_same_to_the_peer(anywhere, kind):
    level, type = (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT) if kind == "udp6" else (socket.IPPROTO_IP, socket.IP_TTL)

    def main():
        with linked(kind) as (one, other):
            other.set_option("recvhoplimit" if kind == "udp6" else "recvttl", True)
            one.sendmsg([b"a", b"b"], [(level, type, struct.pack("=i", 9))])
            one.send_message([b"a", b"b"], [HopLimit(9)])
            one.send_message(b"ab", [OtherControl(level, type, struct.pack("=i", 9))])
            socket.socket.sendmsg(one, [b"ab"], [(level, type, struct.pack("=i", 9))])
            first, *rest = (other.recvmsg(9, 99) for _ in range(4))
            assert rest == [first] * 3

    anywhere(main)


# -- whatever control messages

SMALL, ANY = st.integers(-3, 300), st.integers(-(2**31), 2**31 - 1)
NUMBER = st.one_of(SMALL, ANY, st.sampled_from([2**31, 2**32 - 1, 2**32, 2**64 - 1, 2**64]))
NULL = st.integers(0, 2)
CONTROL = st.one_of(
    st.lists(NULL, max_size=4).map(lambda fds: Rights(*fds)),
    st.builds(Credentials, st.one_of(NUMBER, st.just(os.getpid())), NUMBER, NUMBER),
    st.just(OWN),
    st.builds(PacketInfo, NUMBER, st.one_of(st.ip_addresses(), st.none()), st.one_of(st.none(), st.ip_addresses(v=4))),
    st.builds(HopLimit, NUMBER),
    st.builds(TrafficClass, NUMBER),
    st.builds(SegmentSize, NUMBER),
    st.builds(TransmitAt, NUMBER),
    st.builds(Mark, NUMBER),
    st.builds(Priority, NUMBER),
    st.builds(Dropped, NUMBER),
    st.builds(Timestamp, NUMBER),
    st.builds(OtherControl, st.one_of(SMALL, ANY), st.one_of(SMALL, ANY), st.binary(max_size=40)).filter(
        lambda one: (one.level, one.type) != (socket.SOL_SOCKET, socket.SCM_RIGHTS)
    ),
    st.none(),
)


@pytest.mark.parametrize("kind", ["unix-datagram", "unix", "udp4", "udp6"])
@settings(deadline=None, max_examples=150)
@given(st.lists(CONTROL, max_size=4), st.binary(max_size=20), st.integers(0, 120))
def test_any_control_messages_are_sent_or_refused_and_no_descriptor_is_lost(kind, control, data, room):
    before = descriptors()
    with linked(kind) as (one, other):
        if kind.startswith("unix"):
            other.passcred = True
        try:
            sent = one.send_message(data, control)
        except (OSError, TypeError, ValueError):
            nothing_there(other)
        else:
            assert sent == len(data)
            with (
                contextlib.suppress(BlockingIOError),
                other.receive_message(control_size=room, flags="dontwait") as message,
            ):
                assert data.startswith(message.data)
    assert descriptors() == before
