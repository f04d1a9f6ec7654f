"""The headers of PROXY protocol, both versions: at each limit and one beyond, whole, byte by byte, and glued to data;
then any bytes at all. The invariant: the machine waits for more, has a source, or raises ``ProtocolError``, and how the
bytes were cut never matters.
"""

from __future__ import annotations

import ipaddress
import itertools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netnet import ProtocolError
from netnet.socks.proxy_protocol import HEADER_BYTES_MAX, LINE_BYTES_MAX, ProxyHeader, Source

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
OWN = Source("", 0, b"")


def source(host, port):
    return Source(host, port, ipaddress.ip_address(host).packed)


def binary(command=0x21, family=0x11, addresses=b"", tlvs=b"", length=None):
    """A header of version 2; *length* instead of the right one."""
    rest = addresses + tlvs
    return SIGNATURE + struct.pack(">BBH", command, family, len(rest) if length is None else length) + rest


INET = struct.pack(">4s4sHH", bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2)), 56324, 1080)
INET6 = struct.pack(">16s16sHH", ipaddress.IPv6Address("2001:db8::1").packed, bytes(16), 258, 1080)
MAPPED = struct.pack(">16s16sHH", ipaddress.IPv6Address("::ffff:192.0.2.1").packed, bytes(16), 1, 2)
UNIX = b"/run/client".ljust(108, b"\0") + b"/run/proxy".ljust(108, b"\0")
TLV = b"\x04\0\x03abc" + b"\x03\0\x04\xde\xad\xbe\xef"
MANY = HEADER_BYTES_MAX - 16

GOOD = {
    "1, IPv4": (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 1080\r\n", source("192.0.2.1", 56324)),
    "1, the longest of IPv4": (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        source("255.255.255.255", 65535),
    ),
    "1, the least": (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", source("0.0.0.0", 0)),
    "1, IPv6": (b"PROXY TCP6 2001:db8::1 ::1 56324 1080\r\n", source("2001:db8::1", 56324)),
    "1, IPv6 in capitals": (b"PROXY TCP6 2001:DB8::A ::1 1 2\r\n", source("2001:db8::a", 1)),
    "1, the longest of IPv6": (
        b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n",
        source(":".join(["ffff"] * 8), 65535),
    ),
    "1, IPv4 in IPv6": (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n", source("192.0.2.1", 1)),
    "1, IPv4 in IPv6, hexadecimal": (b"PROXY TCP6 ::ffff:c000:0201 ::1 1 2\r\n", source("192.0.2.1", 1)),
    "1, unknown": (b"PROXY UNKNOWN\r\n", OWN),
    "1, unknown, with addresses": (b"PROXY UNKNOWN ffff::1 ::1 65535 65535\r\n", OWN),
    "1, unknown, with anything": (b"PROXY UNKNOWN \0\xff\r\r \n \r\n", OWN),
    "1, the longest of all": (b"PROXY UNKNOWN " + b"x" * (LINE_BYTES_MAX - 16) + b"\r\n", OWN),
    "2, IPv4": (binary(addresses=INET), source("192.0.2.1", 56324)),
    "2, IPv6": (binary(family=0x21, addresses=INET6), source("2001:db8::1", 258)),
    "2, IPv4 in IPv6": (binary(family=0x21, addresses=MAPPED), source("192.0.2.1", 1)),
    "2, IPv4 with TLVs": (binary(addresses=INET, tlvs=TLV), source("192.0.2.1", 56324)),
    "2, IPv6 with TLVs": (binary(family=0x21, addresses=INET6, tlvs=TLV), source("2001:db8::1", 258)),
    "2, TLVs that are none": (binary(addresses=INET, tlvs=b"\xff\xff\xff"), source("192.0.2.1", 56324)),
    "2, the longest": (binary(addresses=INET, tlvs=bytes(MANY - 12)), source("192.0.2.1", 56324)),
    "2, local": (binary(command=0x20, family=0), OWN),
    "2, local with addresses": (binary(command=0x20, addresses=INET), OWN),
    "2, local, longest": (binary(command=0x20, family=0, tlvs=bytes(MANY)), OWN),
    "2, local of any family": (binary(command=0x20, family=0xFF, tlvs=b"x"), OWN),
    "2, local without the addresses of its family": (binary(command=0x20, family=0x21), OWN),
    "2, unspecified": (binary(family=0), OWN),
    "2, unspecified with TLVs": (binary(family=0, tlvs=TLV), OWN),
    "2, IPv4, unspecified kind": (binary(family=0x10, addresses=INET), OWN),
    "2, UDP over IPv4": (binary(family=0x12, addresses=INET), OWN),
    "2, UDP over IPv6": (binary(family=0x22, addresses=INET6), OWN),
    "2, UNIX stream": (binary(family=0x31, addresses=UNIX), OWN),
    "2, UNIX datagram": (binary(family=0x32, addresses=UNIX), OWN),
}

#: what is wrong → the bytes up to the one that shows it, and a word of the message
BAD = {
    **{f"first byte {byte}": (bytes([byte]), "begins") for byte in (0, 4, 5, 10, 22, 80 + 32, 71, 255)},
    "CONNECT": (b"C", "begins"),
    "POST": (b"PO", "begins"),
    "lower case": (b"Pr", "begins"),
    "two spaces": (b"PROXY  ", "begins"),
    "a tab": (b"PROXY\t", "begins"),
    "TCP5": (b"PROXY TCP5", "begins"),
    "UDP4": (b"PROXY UD", "begins"),
    "1, UNKNOWNS": (b"PROXY UNKNOWNS", "followed"),
    "1, an end without a beginning": (b"PROXY TCP4\r", "begins"),
    "1, IPv4 with a letter": (b"PROXY TCP4 1.2.3.a", "0x61"),
    "1, IPv4 with a sign": (b"PROXY TCP4 1.2.3.4 1.2.3.4 -", "0x2d"),
    "1, IPv4, IPv6": (b"PROXY TCP4 2001:", "0x3a"),
    "1, IPv6 with a scope": (b"PROXY TCP6 fe80::1%", "0x25"),
    "1, IPv6 in brackets": (b"PROXY TCP6 [", "0x5b"),
    "1, NUL": (b"PROXY TCP4 1.2.3.4\0", "0x00"),
    "1, LF alone": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n", "0x0a"),
    "1, CR alone": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\rx", "0x0d"),
    "1, two CRs": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\r", "0x0d"),
    "1, digits beyond ASCII": (b"PROXY TCP4 1.2.3.\xc2", "0xc2"),
    "1, IPv4 of three": (b"PROXY TCP4 1.2.3 1.2.3.4 1 1\r\n", "no IPv4"),
    "1, IPv4 of five": (b"PROXY TCP4 1.2.3.4.5 1.2.3.4 1 1\r\n", "no IPv4"),
    "1, IPv4 with 256": (b"PROXY TCP4 1.2.3.256 1.2.3.4 1 1\r\n", "no IPv4"),
    "1, IPv4 with a zero in front": (b"PROXY TCP4 1.2.3.04 1.2.3.4 1 1\r\n", "no IPv4"),
    "1, IPv4 with a dot behind": (b"PROXY TCP4 1.2.3.4. 1.2.3.4 1 1\r\n", "no IPv4"),
    "1, IPv4 as a number": (b"PROXY TCP4 16909060 1.2.3.4 1 1\r\n", "no IPv4"),
    "1, a wrong target": (b"PROXY TCP4 1.2.3.4 1.2.3 1 1\r\n", "no IPv4"),
    "1, IPv6 of nine": (b"PROXY TCP6 1:2:3:4:5:6:7:8:9 ::1 1 1\r\n", "no IPv6"),
    "1, IPv6, IPv4": (b"PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n", "no IPv6"),
    "1, IPv6 with two gaps": (b"PROXY TCP6 1::2::3 ::1 1 1\r\n", "no IPv6"),
    "1, no address": (b"PROXY TCP4 \r\n", "fields"),
    "1, no ports": (b"PROXY TCP4 1.2.3.4 1.2.3.4\r\n", "fields"),
    "1, one port": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "fields"),
    "1, three ports": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n", "fields"),
    "1, a space behind": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n", "fields"),
    "1, two spaces between": (b"PROXY TCP4 1.2.3.4  1.2.3.4 1 1\r\n", "fields"),
    "1, an empty field": (b"PROXY TCP4 1.2.3.4  1 1\r\n", "no IPv4"),
    "1, port 65536": (b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n", "no port"),
    "1, port 65536 of the target": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", "no port"),
    "1, port with a zero in front": (b"PROXY TCP4 1.2.3.4 1.2.3.4 080 1\r\n", "no port"),
    "1, port of six digits": (b"PROXY TCP4 1.2.3.4 1.2.3.4 100000 1\r\n", "no port"),
    "1, port with a dot": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1. 1\r\n", "no port"),
    "1, port with a letter, IPv6": (b"PROXY TCP6 ::1 ::1 1 a\r\n", "no port"),
    "1, too long": (b"PROXY TCP4 " + b"1" * (LINE_BYTES_MAX - 11), "longer"),
    "1, too long, with its CR": (b"PROXY UNKNOWN " + b"x" * (LINE_BYTES_MAX - 15) + b"\r", "longer"),
    **{
        f"2, signature wrong at {place}": (SIGNATURE[:place] + bytes([SIGNATURE[place] ^ 1]), "signature")
        for place in range(1, 12)
    },
    **{
        f"2, command {byte:#x}": (SIGNATURE + bytes([byte]), "byte 12")
        for byte in (0, 0x01, 0x10, 0x11, 0x22, 0x2F, 0x30, 0x31)
    },
    **{
        f"2, family {byte:#x}": (SIGNATURE + bytes([0x21, byte]), "byte 13")
        for byte in (0x03, 0x13, 0x1F, 0x40, 0x41, 0xFF)
    },
    "2, too long": (binary(length=MANY + 1), "more than"),
    "2, much too long": (binary(length=0xFFFF), "more than"),
    "2, local, too long": (binary(command=0x20, family=0, length=MANY + 1), "more than"),
    "2, too short for IPv4": (binary(length=11), "addresses"),
    "2, nothing for IPv4": (binary(length=0), "addresses"),
    "2, too short for IPv6": (binary(family=0x21, length=35), "addresses"),
}


def fed(pieces):
    """What becomes of *pieces*: the source and what is behind the header, or the error's text."""
    machine = ProxyHeader()
    for piece in pieces:
        try:
            found = machine.feed(piece)
        except ProtocolError as error:
            return None, b"", str(error)
        assert found is machine.source
        assert found is not None or machine.trailing == b""
    return machine.source, machine.trailing, ""


def bytewise(data):
    return [data[place : place + 1] for place in range(len(data))]


@pytest.mark.parametrize("name", GOOD)
def test_header(name):
    data, expected = GOOD[name]
    for trailing in (b"", b"\x05\x01\x00", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n"):
        assert fed([data + trailing]) == (expected, trailing, "")
        assert fed(bytewise(data + trailing)) == (expected, trailing, "")


@pytest.mark.parametrize("name", GOOD)
def test_header_is_whole_with_its_last_byte_and_not_before(name):
    data, expected = GOOD[name]
    machine = ProxyHeader()
    for piece in bytewise(data[:-1]):
        assert machine.feed(piece) is None
    assert machine.feed(data[-1:]) == expected


@pytest.mark.parametrize("name", BAD)
def test_bad(name):
    data, word = BAD[name]
    whole, pieces = fed([data]), fed(bytewise(data))
    assert word in whole[2]
    assert pieces == whole
    assert fed([data + b"\r\n" * 100])[2]


@pytest.mark.parametrize("name", BAD)
def test_bad_is_known_with_the_first_byte_that_shows_it(name):
    data, _ = BAD[name]
    machine = ProxyHeader()
    if len(data) > 1:
        assert machine.feed(data[:-1]) is None
    with pytest.raises(ProtocolError):
        machine.feed(data[-1:])


def test_what_was_bad_stays_bad_and_fills_no_memory():
    machine = ProxyHeader()
    for piece in (b"G", b"x" * 100_000, GOOD["2, IPv4"][0]):
        with pytest.raises(ProtocolError, match="begins"):
            machine.feed(piece)
    assert machine.source is None
    assert machine._buffer == b""


def test_the_message_shows_no_raw_control_characters():
    for data, _ in BAD.values():
        assert fed([data])[2].isprintable()


LIKELY = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([data for data, _ in [*GOOD.values(), *BAD.values()]]),
    st.builds(lambda line: b"PROXY " + line.encode(), st.text("TCP46UNKW 0123456789.:abf\r\n", max_size=120)),
    st.builds(
        binary, st.sampled_from([0x20, 0x21]), st.integers(0, 255), st.binary(max_size=60), st.binary(max_size=300)
    ),
)


@given(parts=st.lists(LIKELY, max_size=3), places=st.lists(st.integers(0, 500), max_size=6))
@settings(max_examples=300, deadline=None)
def test_any_bytes_in_any_pieces(parts, places):
    data = b"".join(parts)
    borders = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    whole = fed([data])
    assert fed([data[begin:end] for begin, end in itertools.pairwise(borders)])[:2] == whole[:2]
    assert fed(bytewise(data)) == whole


@given(host=st.ip_addresses(), other=st.ip_addresses(v=4), port=st.integers(0, 65535), tlvs=st.binary(max_size=100))
def test_what_a_balancer_writes_is_read(host, other, port, tlvs):
    mapped = host.version == 6 and host.ipv4_mapped
    plain = mapped or host
    expected = Source(str(plain), port, plain.packed)
    to = other if host.version == 4 else "::1"
    assert fed([f"PROXY TCP{host.version} {host} {to} {port} 1080\r\n".encode()]) == (expected, b"", "")
    addresses = host.packed + bytes(len(host.packed)) + struct.pack(">HH", port, 1080)
    data = binary(family=0x11 if host.version == 4 else 0x21, addresses=addresses, tlvs=tlvs)
    assert fed([data]) == (expected, b"", "")
