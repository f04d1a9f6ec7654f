"""Control messages against the kernel's bytes: each class both ways, what does not fit, bytes that make no sense, and who
owns the descriptors that came along. The tables hold Linux' numbers and layouts, written down here on their own."""

from __future__ import annotations

import array
import gc
import ipaddress
import os
import socket
import struct
import sys
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netnet.kernel import control
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
    SecurityLabel,
    SegmentSize,
    Timestamp,
    Timestamps,
    TrafficClass,
    TransmitAt,
    Unread,
    close_descriptors,
    decode,
    encode,
)
from netnet.kernel.values import Credentials
from tests.conftest import descriptors

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tables are those of Linux")

V4, V6, UNIX = socket.AF_INET, socket.AF_INET6, socket.AF_UNIX
SOCKET, IP, TCP, UDP, IP6 = 1, 0, 6, 17, 41
RIGHTS, CREDENTIALS, SECURITY, PIDFD = 1, 2, 3, 4
TIMESTAMP, TIMESTAMPNS, TIMESTAMPING = 29, 35, 37
LOOPBACK, LOOPBACK6 = ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")
SECOND = 1_000_000_000


def ints(*values):
    return struct.pack(f"={len(values)}i", *values)


def sockaddr(port, packed, flow=0, scope=0):
    if len(packed) == 4:
        return struct.pack("=H", V4) + struct.pack("!H", port) + packed + bytes(8)
    return struct.pack("=H", V6) + struct.pack("!HI", port, flow) + packed + struct.pack("=I", scope)


def extended(number, origin, type=0, code=0, info=0, data=0):
    return struct.pack("=IBBBBII", number, origin, type, code, 0, info, data)


def opened(count=1):
    """Descriptors of the null device."""
    first = os.open(os.devnull, os.O_RDWR)
    return [first, *(os.dup(first) for _ in range(count - 1))]


class Carried(NamedTuple):
    """Descriptors to be: of which message, how many, and what bytes stand behind them."""

    type_and_count: tuple[int, int]
    rest: bytes


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


# -- writing

WRITTEN = [
    (Rights(0, 1, 2), UNIX, (SOCKET, RIGHTS, ints(0, 1, 2))),
    (Rights(), UNIX, (SOCKET, RIGHTS, b"")),
    (Credentials(1, 2, 3), UNIX, (SOCKET, CREDENTIALS, ints(1, 2, 3))),
    (Credentials(1, 2**32 - 1, 2**32 - 1), UNIX, (SOCKET, CREDENTIALS, ints(1, -1, -1))),
    (PacketInfo(7, LOOPBACK), V4, (IP, 8, ints(7) + b"\x7f\0\0\1" + bytes(4))),
    (PacketInfo(0, LOOPBACK), V4, (IP, 8, ints(0) + b"\x7f\0\0\1" + bytes(4))),
    # what was received says more: the answer comes from the local address
    (PacketInfo(7, ipaddress.ip_address("224.0.0.1"), LOOPBACK), V4, (IP, 8, ints(7) + b"\x7f\0\0\1" + bytes(4))),
    (PacketInfo(7, LOOPBACK6), V6, (IP6, 50, bytes(15) + b"\1" + ints(7))),
    (PacketInfo(7, LOOPBACK), V6, (IP, 8, ints(7) + b"\x7f\0\0\1" + bytes(4))),
    (HopLimit(1), V4, (IP, 2, ints(1))),
    (HopLimit(255), V6, (IP6, 52, ints(255))),
    (HopLimit(-1), V6, (IP6, 52, ints(-1))),
    (TrafficClass(0xB9), V4, (IP, 1, ints(0xB9))),
    (TrafficClass(0xB9), V6, (IP6, 67, ints(0xB9))),
    (SegmentSize(1200), V4, (UDP, 103, struct.pack("=H", 1200))),
    (SegmentSize(65535), V6, (UDP, 103, b"\xff\xff")),
    (TransmitAt(2**64 - 1), V4, (SOCKET, 61, b"\xff" * 8)),
    (TransmitAt(1), V6, (SOCKET, 61, struct.pack("=Q", 1))),
    (Mark(2**32 - 1), V4, (SOCKET, 36, b"\xff" * 4)),
    (Priority(6), V6, (SOCKET, 12, ints(6))),
    (OtherControl(99, 98, b"any"), V4, (99, 98, b"any")),
    (OtherControl(99, 98, bytearray(b"any")), V4, (99, 98, b"any")),
    (OtherControl(99, 98, memoryview(b"any")), V4, (99, 98, b"any")),
    (OtherControl(0, 0, b""), UNIX, (0, 0, b"")),
]


@pytest.mark.parametrize(("message", "family", "raw"), WRITTEN, ids=lambda value: repr(value)[:40])
def test_written_as_the_kernel_reads_it(message, family, raw):
    assert encode([message], family) == [raw]
    assert all(type(part) is kind for part, kind in zip(encode([message], family)[0], (int, int, bytes), strict=True))


def test_several_are_written_in_order_and_from_any_iterable():
    messages = [HopLimit(1), TrafficClass(2), HopLimit(3)]
    expected = [(IP, 2, ints(1)), (IP, 1, ints(2)), (IP, 2, ints(3))]
    assert encode(messages, V4) == encode(iter(messages), V4) == expected
    assert encode((), V4) == []


@pytest.mark.parametrize(
    ("message", "family"),
    [
        *[(Credentials(2**31, 0, 0), UNIX), (Credentials(0, -1, 0), UNIX), (Credentials(0, 0, 2**32), UNIX)],
        *[(PacketInfo(2**31, LOOPBACK), V4), (PacketInfo(-1, LOOPBACK6), V6), (PacketInfo(2**32, LOOPBACK6), V6)],
        *[(PacketInfo(1, LOOPBACK6), V4), (PacketInfo(1, "127.0.0.1"), V4), (PacketInfo(1, None), V6)],
        *[(HopLimit(2**31), V4), (HopLimit(-(2**31) - 1), V6), (HopLimit(10**30), V4)],
        *[(TrafficClass(2**31), V4), (TrafficClass(-(2**31) - 1), V6)],
        *[(SegmentSize(-1), V4), (SegmentSize(65536), V4)],
        *[(TransmitAt(-1), V4), (TransmitAt(2**64), V4)],
        *[(Mark(-1), V4), (Mark(2**32), V4), (Priority(-1), V4), (Priority(2**32), V4)],
    ],
    ids=repr,
)
def test_a_value_that_does_not_fit_is_refused_and_shown(message, family):
    with pytest.raises(ValueError) as caught:
        encode([HopLimit(1), message], family)
    assert repr(message) in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        *(None, 1, "Rights", b"\0\0\0\0", (), [], 0j, Rights, HopLimit, (1, 2, b"raw"), UnixAddress("/s")),
        *(Timestamp(1), Timestamps(1, None), OriginalDestination(IPv4Address("127.0.0.1", 1)), Dropped(1), Unread(1)),
        *(ExtendedError(111, 2, 3, 3, 0, 0, None), SecurityLabel("label"), OtherControl(1, 2, None)),
        *(OtherControl(1, 2, "text"), OtherControl(1, 2, 0j)),
    ],
    ids=repr,
)
def test_what_is_no_message_or_only_comes_is_a_type_error(wrong):
    with pytest.raises(TypeError):
        encode([wrong], V4)


def test_a_type_error_tells_what_can_be_sent():
    with pytest.raises(TypeError) as caught:
        encode([Dropped(1)], V4)
    for name in ("Dropped(packets=1)", "Rights", "Credentials", "PacketInfo", "SegmentSize", "OtherControl"):
        assert name in str(caught.value)


def test_a_process_descriptor_cannot_be_sent():
    with PidFd.received(opened()[0]) as pidfd:
        with pytest.raises(TypeError):
            encode([pidfd], UNIX)
        assert is_open(pidfd.fd)


# -- reading

READ = [
    ((SOCKET, CREDENTIALS, ints(1, -1, 3)), Credentials(1, 2**32 - 1, 3)),
    ((SOCKET, SECURITY, b"system_u:object_r\0"), SecurityLabel("system_u:object_r")),
    ((SOCKET, SECURITY, b"\xff"), SecurityLabel("\udcff")),
    ((SOCKET, SECURITY, b""), SecurityLabel("")),
    ((SOCKET, TIMESTAMP, struct.pack("=qq", 5, 6)), Timestamp(5 * SECOND + 6000)),
    ((SOCKET, TIMESTAMPNS, struct.pack("=qq", 5, 6)), Timestamp(5 * SECOND + 6)),
    ((SOCKET, 63, struct.pack("=qq", 5, 6)), Timestamp(5 * SECOND + 6000)),
    ((SOCKET, 64, struct.pack("=qq", 5, 6)), Timestamp(5 * SECOND + 6)),
    ((SOCKET, TIMESTAMPING, struct.pack("=6q", 5, 6, 7, 8, 9, 10)), Timestamps(5 * SECOND + 6, 9 * SECOND + 10)),
    ((SOCKET, TIMESTAMPING, struct.pack("=6q", 5, 6, 0, 0, 0, 0)), Timestamps(5 * SECOND + 6, None)),
    ((SOCKET, TIMESTAMPING, struct.pack("=6q", 0, 0, 0, 0, 9, 10)), Timestamps(None, 9 * SECOND + 10)),
    ((SOCKET, 65, struct.pack("=6q", 5, 6, 0, 0, 9, 0)), Timestamps(5 * SECOND + 6, 9 * SECOND)),
    ((SOCKET, 40, ints(-1)), Dropped(2**32 - 1)),
    ((SOCKET, 36, ints(-1)), Mark(2**32 - 1)),
    ((SOCKET, 12, ints(6)), Priority(6)),
    ((IP, 8, ints(7) + b"\x7f\0\0\1\xe0\0\0\1"), PacketInfo(7, ipaddress.ip_address("224.0.0.1"), LOOPBACK)),
    ((IP6, 50, bytes(15) + b"\1" + ints(7)), PacketInfo(7, LOOPBACK6)),
    *[((IP, 2, ints(64)), HopLimit(64)), ((IP, 2, b"\x40"), HopLimit(64)), ((IP6, 52, ints(255)), HopLimit(255))],
    *[((IP, 1, b"\xb9"), TrafficClass(0xB9)), ((IP6, 67, ints(0xB9)), TrafficClass(0xB9))],
    ((IP, 20, sockaddr(80, LOOPBACK.packed)), OriginalDestination(IPv4Address("127.0.0.1", 80))),
    ((IP6, 74, sockaddr(80, LOOPBACK6.packed)), OriginalDestination(IPv6Address("::1", 80))),
    (
        (IP6, 74, sockaddr(80, ipaddress.ip_address("fe80::1").packed, 5, 3)),
        OriginalDestination(IPv6Address("fe80::1", 80, 5, 3)),
    ),
    (
        (IP, 11, extended(111, 2, 3, 3, 4, 5) + sockaddr(0, LOOPBACK.packed)),
        ExtendedError(111, 2, 3, 3, 4, 5, IPv4Address("127.0.0.1", 0)),
    ),
    (
        (IP6, 25, extended(111, 3, 1, 4) + sockaddr(0, LOOPBACK6.packed)),
        ExtendedError(111, 3, 1, 4, 0, 0, IPv6Address("::1", 0)),
    ),
    # the system's own errors have no offender: a family of 0, or nothing at all
    ((IP, 11, extended(90, 1, info=1500) + bytes(16)), ExtendedError(90, 1, 0, 0, 1500, 0, None)),
    ((IP, 11, extended(90, 1)), ExtendedError(90, 1, 0, 0, 0, 0, None)),
    ((IP, 11, extended(0, 5, code=1, info=3, data=9)), ExtendedError(0, 5, 0, 1, 3, 9, None)),
    ((UDP, 104, ints(1200)), SegmentSize(1200)),
    ((UDP, 104, struct.pack("=H", 1200)), SegmentSize(1200)),
    ((TCP, 36, ints(17)), Unread(17)),
    ((99, 98, b"any"), OtherControl(99, 98, b"any")),
    ((SOCKET, 9999, b""), OtherControl(SOCKET, 9999, b"")),
    # the number means something else on every level
    ((IP, RIGHTS + 100, ints(1)), OtherControl(IP, RIGHTS + 100, ints(1))),
    ((UDP, RIGHTS, ints(0)), OtherControl(UDP, RIGHTS, ints(0))),
]


@pytest.mark.parametrize(("raw", "message"), READ, ids=lambda value: repr(value)[:40])
def test_read_as_the_kernel_writes_it(raw, message):
    assert decode([raw]) == (message,)
    assert type(decode([raw])[0]) is type(message)


@pytest.mark.parametrize(
    ("level", "type", "data"),
    [
        *[(SOCKET, CREDENTIALS, ints(1, 2)), (SOCKET, CREDENTIALS, b""), (SOCKET, CREDENTIALS, ints(1, 2, 3, 4))],
        *[(SOCKET, TIMESTAMP, bytes(15)), (SOCKET, TIMESTAMPNS, bytes(17)), (SOCKET, TIMESTAMPING, bytes(47))],
        *[(SOCKET, 40, bytes(3)), (SOCKET, 36, b""), (SOCKET, 12, bytes(5))],
        *[(IP, 8, bytes(11)), (IP6, 50, bytes(19)), (IP, 2, b""), (IP6, 52, bytes(3)), (IP, 1, b""), (IP6, 67, b"")],
        *[(IP, 20, bytes(15)), (IP, 20, bytes(16)), (IP6, 74, sockaddr(80, LOOPBACK6.packed)[:27])],
        *[(IP, 11, bytes(15)), (IP6, 25, b""), (UDP, 104, b"\0\0\0"), (TCP, 36, b"")],
        *[(SOCKET, PIDFD, b""), (SOCKET, PIDFD, b"\0\0\0"), (SOCKET, PIDFD, ints(-1)), (SOCKET, PIDFD, ints(-3))],
    ],
)
def test_what_is_cut_off_or_makes_no_sense_stays_bytes(level, type, data):
    assert decode([(level, type, data)]) == (OtherControl(level, type, data),)


def test_several_are_read_in_order():
    raw = [(IP, 2, ints(1)), (99, 98, b""), (IP, 1, b"\2")]
    assert decode(raw) == decode(iter(raw)) == (HopLimit(1), OtherControl(99, 98, b""), TrafficClass(2))
    assert decode(()) == ()


@pytest.mark.parametrize(("value", "dscp", "ecn"), [(0, 0, 0), (0xB8, 46, 0), (0xB9, 46, 1), (3, 0, 3), (0xFF, 63, 3)])
def test_a_traffic_class_is_dscp_and_ecn(value, dscp, ecn):
    assert (TrafficClass(value).dscp, TrafficClass(value).ecn) == (dscp, ecn)


@pytest.mark.parametrize(
    ("offender", "text"),
    [
        (None, os.strerror(111)),
        (IPv4Address("127.0.0.1", 0), os.strerror(111) + ", told by 127.0.0.1:0"),
    ],
)
def test_an_extended_error_reads_as_a_sentence(offender, text):
    assert str(ExtendedError(111, 2, 3, 3, 0, 0, offender)) == text


# -- both ways

BYTE, WORD, HALF = st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 65535)
INDEX = st.integers(0, 2**31 - 1)
BOTH_WAYS = st.one_of(
    st.builds(Credentials, INDEX, WORD, WORD),
    st.builds(HopLimit, INDEX),
    st.builds(TrafficClass, INDEX),
    st.builds(Mark, WORD),
    st.builds(Priority, WORD),
)


@given(st.lists(BOTH_WAYS, max_size=5), st.sampled_from([V4, V6]))
def test_what_is_written_reads_the_same(messages, family):
    assert decode(encode(messages, family)) == tuple(messages)


@given(INDEX, st.ip_addresses(v=6).filter(lambda address: not (address.ipv4_mapped or address).is_multicast))
def test_packet_info_of_ipv6_reads_the_same(interface, address):
    assert decode(encode([PacketInfo(interface, address)], V6)) == (PacketInfo(interface, address),)


@pytest.mark.parametrize(("group", "source"), [("ff02::1", "::"), ("::ffff:239.1.2.3", "::ffff:0.0.0.0")])
def test_a_group_cannot_be_sent_from(group, source):
    """What came in at a group is answered from an address that the kernel picks, by the same interface."""
    read = decode(encode([PacketInfo(3, ipaddress.IPv6Address(group))], V6))
    assert read == (PacketInfo(3, ipaddress.IPv6Address(source)),)


@given(INDEX, st.ip_addresses(v=4), st.sampled_from([V4, V6]))
def test_packet_info_of_ipv4_is_sent_from_the_local_address(interface, address, family):
    """The kernel takes the field in which it tells the local address itself: it reads back there."""
    (read,) = decode(encode([PacketInfo(interface, address)], family))
    assert (read.interface, read.local) == (interface, address)
    assert encode([read], family) == encode([PacketInfo(interface, address)], family)


@given(st.integers(1, 65535))
def test_a_segment_size_has_the_number_of_its_bytes_either_way(size):
    ((_, _, data),) = encode([SegmentSize(size)], V4)
    assert decode([(UDP, 104, data)]) == (SegmentSize(size),)


@given(st.integers(-(2**70), 2**70), st.sampled_from([HopLimit, TrafficClass, SegmentSize, TransmitAt, Mark, Priority]))
def test_any_number_is_written_or_a_value_error(value, kind):
    try:
        ((_, _, data),) = encode([kind(value)], V4)
    except ValueError:
        return
    assert int.from_bytes(data, sys.byteorder, signed=value < 0) == value


_NUMBERS = st.one_of(st.sampled_from(sorted({key for raw, _ in READ for key in raw[:2]})), st.integers(-9, 2**31))
_SIZES = st.sampled_from([0, 1, 2, 3, 4, 5, 8, 11, 12, 15, 16, 20, 28, 32, 44, 48])
_DATA = st.one_of(st.binary(max_size=64), _SIZES.flatmap(lambda size: st.binary(min_size=size, max_size=size)))
_BYTES = st.tuples(_NUMBERS, _NUMBERS, _DATA).filter(lambda raw: raw[0] != SOCKET or raw[1] not in (RIGHTS, PIDFD))
#: how many descriptors, and bytes of a half one behind them
_CARRIED = st.builds(
    Carried, st.sampled_from([(RIGHTS, count) for count in range(5)] + [(PIDFD, 1)]), st.binary(max_size=3)
)


@settings(deadline=None)
@given(st.lists(st.one_of(_BYTES, _CARRIED), max_size=6))
def test_any_bytes_are_read_and_no_descriptor_is_lost(parts):
    before = descriptors()
    raw, handed = [], []
    for part in parts:
        if isinstance(part, Carried):
            type, count = part.type_and_count
            fds = opened(count)
            handed += fds
            raw.append((SOCKET, type, ints(*fds) + part.rest))
        else:
            raw.append(part)
    messages = decode(raw)
    assert len(messages) == len(raw)
    held = [fd for one in messages if isinstance(one, Rights) for fd in one.fds]
    held += [one.fd for one in messages if isinstance(one, PidFd)]
    assert sorted(held) == sorted(handed)
    for one in messages:
        if isinstance(one, (Rights, PidFd)):
            one.close()
    assert descriptors() == before


# -- failing half way


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, RecursionError])
@pytest.mark.parametrize("failing", [(SOCKET, RIGHTS), (SOCKET, PIDFD), (SOCKET, CREDENTIALS)])
@pytest.mark.parametrize("place", range(4))
def test_reading_that_fails_half_way_closes_every_descriptor(monkeypatch, error, failing, place):
    fds = opened(7)
    kinds = {
        (SOCKET, RIGHTS): ints(*fds[:1]),
        (SOCKET, PIDFD): ints(*fds[1:2]),
        (SOCKET, CREDENTIALS): ints(1, 2, 3),
    }
    raw = [(SOCKET, RIGHTS, ints(*fds[2:5])), (SOCKET, PIDFD, ints(*fds[5:6])), (SOCKET, RIGHTS, ints(fds[6]))]
    raw = [one for one in raw if one[:2] != failing]
    raw[place:place] = [(*failing, kinds[failing])]
    handed = [
        fd for level, type, data in raw if type != CREDENTIALS for fd in struct.unpack(f"={len(data) // 4}i", data)
    ]
    for fd in {*fds} - {*handed}:
        os.close(fd)

    def fail(data):
        raise error

    monkeypatch.setitem(control._READERS, failing, fail)
    with pytest.raises(error):
        decode(raw)
    assert not any(map(is_open, fds))


@pytest.mark.parametrize("error", [ValueError, struct.error])
@pytest.mark.parametrize("type", [RIGHTS, PIDFD])
def test_descriptors_that_cannot_be_read_are_closed_and_never_left_as_bytes(monkeypatch, error, type):
    fds = opened(2)

    def fail(data):
        raise error

    monkeypatch.setitem(control._READERS, (SOCKET, type), fail)
    monkeypatch.setitem(control._READERS, (IP, 2), fail)
    assert decode([(IP, 2, ints(fds[0]))]) == (OtherControl(IP, 2, ints(fds[0])),)
    with pytest.raises(error):
        decode([(IP, 2, ints(fds[0])), (SOCKET, type, ints(fds[1]))])
    assert list(map(is_open, fds)) == [True, False]
    os.close(fds[0])


def test_reading_that_fails_at_the_last_of_many_closes_what_was_read(monkeypatch):
    fds = opened(RIGHTS_MAX)

    def fail(data):
        raise MemoryError

    monkeypatch.setitem(control._READERS, (IP, 2), fail)
    with pytest.raises(MemoryError):
        decode([(SOCKET, RIGHTS, ints(*fds)), (IP, 2, ints(1))])
    assert not any(map(is_open, fds))


def test_the_descriptors_of_raw_messages_are_closed_and_nothing_else():
    fds = opened(4)
    bystander = fds.pop()
    close_descriptors(
        [
            (SOCKET, RIGHTS, ints(*fds[:2])),
            (IP, RIGHTS, ints(bystander)),
            (SOCKET, CREDENTIALS, ints(bystander, bystander, bystander)),
            (SOCKET, PIDFD, ints(fds[2])),
            (SOCKET, RIGHTS, b""),
        ]
    )
    assert [is_open(fd) for fd in (*fds, bystander)] == [False, False, False, True]
    os.close(bystander)


# -- whose the descriptors are


def received(kind, count=1):
    fds = opened(count)
    return fds, (Rights.received(fds) if kind is Rights else PidFd.received(fds[0]))


def numbers(holder):
    return holder.fds if isinstance(holder, Rights) else tuple(fd for fd in (holder.fd,) if fd >= 0)


@pytest.mark.parametrize("kind", [Rights, PidFd])
def test_closed_once_however_often_it_is_asked(kind):
    fds, holder = received(kind)
    assert numbers(holder) == tuple(fds)
    holder.close()
    assert not any(map(is_open, fds))
    assert numbers(holder) == ()
    again = opened()
    assert again == fds, "the number was expected to be used again"
    holder.close()
    assert is_open(again[0])
    os.close(again[0])


@pytest.mark.parametrize("kind", [Rights, PidFd])
def test_taken_descriptors_are_the_takers(kind):
    fds, holder = received(kind)
    taken = holder.take()
    assert taken == (fds if kind is Rights else fds[0])
    assert holder.take() == ([] if kind is Rights else -1)
    holder.close()
    del holder
    gc.collect()
    assert all(map(is_open, fds))
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("kind", [Rights, PidFd])
@pytest.mark.parametrize("take", [False, True])
def test_with_closes_what_was_not_taken(kind, take):
    fds, holder = received(kind)
    with pytest.raises(LookupError), holder as entered:
        assert entered is holder
        if take:
            holder.take()
        raise LookupError
    assert [is_open(fd) for fd in fds] == [take]
    if take:
        os.close(fds[0])


@pytest.mark.parametrize("kind", [Rights, PidFd])
def test_dropped_without_being_taken_it_warns_and_closes(kind):
    fds, holder = received(kind)
    with pytest.warns(ResourceWarning, match=rf"not taken: {kind.__name__}\({fds[0]}\)"):
        del holder
        gc.collect()
    assert not any(map(is_open, fds))


@pytest.mark.parametrize("kind", [Rights, PidFd])
def test_dropped_after_closing_it_says_nothing(kind):
    fds, holder = received(kind)
    holder.close()
    del holder
    gc.collect()


def test_none_received_says_nothing():
    Rights.received(())
    gc.collect()


def test_what_is_sent_stays_the_senders():
    fds = opened(2)
    with Rights(*fds) as rights:
        assert rights.fds == tuple(fds)
    rights.close()
    assert rights.fds == tuple(fds)
    del rights
    gc.collect()
    assert all(map(is_open, fds))
    for fd in fds:
        os.close(fd)


def test_equal_where_kind_and_numbers_are():
    assert Rights(1, 2) == Rights(1, 2)
    assert Rights(1, 2) != Rights(2, 1)
    assert Rights(1) != (1,)
    fds = opened()
    with PidFd.received(fds[0]) as pidfd, pytest.raises(TypeError):
        assert pidfd != Rights(fds[0])
        hash(pidfd)


class Number:
    def __init__(self, fd):
        self.fd = fd

    def fileno(self):
        return self.fd

    def __repr__(self):
        return f"Number({self.fd!r})"


def test_numbers_and_what_has_one_are_descriptors():
    with open(os.devnull) as file, socket.socket() as sock:
        rights = Rights(0, file, sock, Number(2))
        assert rights.fds == (0, file.fileno(), sock.fileno(), 2)
        assert repr(rights) == f"Rights(0, {file.fileno()}, {sock.fileno()}, 2)"


def closed_socket():
    sock = socket.socket()
    sock.close()
    return sock


def closed_file():
    file = open(os.devnull)  # noqa: SIM115
    file.close()
    return file


@pytest.mark.parametrize(
    "wrong",
    [-1, -(2**31), 2**31, 2**64, True, False, closed_socket(), closed_file(), Number(-1), Number("1"), Number(None)],
    ids=repr,
)
def test_what_is_no_open_descriptor_is_refused(wrong):
    with pytest.raises(ValueError):
        Rights(0, wrong)


@pytest.mark.parametrize(
    ("count", "fits"), [(0, True), (1, True), (252, True), (253, True), (254, False), (999, False)]
)
def test_as_many_as_the_kernel_takes(count, fits):
    assert RIGHTS_MAX == 253
    if fits:
        assert Rights(*[0] * count).fds == (0,) * count
    else:
        with pytest.raises(ValueError, match=f"253.*{count}"):
            Rights(*[0] * count)


def test_numbers_of_an_array_are_descriptors():
    assert Rights(*array.array("i", [0, 1])).fds == (0, 1)
