"""The header of SOCKS5 datagrams: each kind of address, each length one too short, and any bytes at all. The invariant:
``unwrap`` returns what the header says, or raises ``ProtocolError``.
"""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netnet import ProtocolError
from netnet.socks.datagrams import HEADER_BYTES_MAX, FragmentError, unwrap, wrap, wrap_name

LOOPBACK6 = ipaddress.IPv6Address("::1").packed

GOOD = {
    "IPv4": ("0000 00 01 c0000201 0035", ("192.0.2.1", bytes((192, 0, 2, 1)), 53, 10)),
    "IPv4, port 258 is big-endian": ("0000 00 01 c0000201 0102", ("192.0.2.1", bytes((192, 0, 2, 1)), 258, 10)),
    "IPv4, all zeros": ("0000 00 01 00000000 0000", ("0.0.0.0", bytes(4), 0, 10)),
    "IPv4, the highest": ("0000 00 01 ffffffff ffff", ("255.255.255.255", b"\xff" * 4, 65535, 10)),
    "IPv6": ("0000 00 04 00000000000000000000000000000001 0035", ("::1", LOOPBACK6, 53, 22)),
    "a name": ("0000 00 03 03 612e62 0035", ("a.b", b"", 53, 10)),
    "a name of one letter": ("0000 00 03 01 61 0035", ("a", b"", 53, 8)),
    "the longest name": ("0000 00 03 ff" + "68" * 255 + "0035", ("h" * 255, b"", 53, 262)),
    "a name that is an address": ("0000 00 03 03 3a3a31 0035", ("::1", b"", 53, 10)),
    "reserved bytes are not looked at": ("ffff 00 01 c0000201 0035", ("192.0.2.1", bytes((192, 0, 2, 1)), 53, 10)),
}

#: what is wrong → the datagram, and a word of the message
BAD = {
    "nothing": ("", "0 bytes"),
    "one byte": ("00", "1 bytes"),
    "no address": ("0000 00 01", "4 bytes"),
    "kind 0": ("0000 00 00 c0000201 0035", "0 is no kind"),
    "kind 2": ("0000 00 02 c0000201 0035", "2 is no kind"),
    "kind 5": ("0000 00 05 c0000201 0035", "5 is no kind"),
    "kind 255": ("0000 00 ff c0000201 0035", "255 is no kind"),
    "an empty name": ("0000 00 03 00 0035", "empty"),
    "a space in the name": ("0000 00 03 03 612062 0035", "characters"),
    "a line end in the name": ("0000 00 03 03 610a62 0035", "characters"),
    "NUL in the name": ("0000 00 03 01 00 0035", "characters"),
    "UTF-8 in the name": ("0000 00 03 02 c3bc 0035", "characters"),
    "a fragment that is too short": ("0000 01 01 c0000201 00", "header"),
    "a fragment of no kind": ("0000 01 09 c0000201 0035", "no kind"),
}


def data_of(text):
    return bytes.fromhex(text)


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_unwrap(name, kind):
    text, expected = GOOD[name]
    for data in (b"", b"\0", b"payload" * 1000):
        datagram = data_of(text) + data
        host, packed, port, start = unwrap(kind(datagram))
        assert (host, packed, port, start) == expected
        assert (type(host), type(packed)) == (str, bytes)
        assert datagram[start:] == data


@pytest.mark.parametrize("name", GOOD)
def test_each_header_that_is_cut_short(name):
    whole = data_of(GOOD[name][0])
    for size in range(len(whole)):
        with pytest.raises(ProtocolError, match="header"):
            unwrap(whole[:size])


@pytest.mark.parametrize("name", BAD)
def test_bad(name):
    text, word = BAD[name]
    with pytest.raises(ProtocolError, match=word) as caught:
        unwrap(data_of(text))
    assert type(caught.value) is ProtocolError
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("fragment", [1, 2, 127, 128, 129, 255])
def test_fragments_are_told_apart(name, fragment):
    datagram = bytearray(data_of(GOOD[name][0]))
    datagram[2] = fragment
    with pytest.raises(FragmentError, match=f"fragment {fragment % 128};"):
        unwrap(datagram)


WRAPPED = [
    (bytes((192, 0, 2, 1)), 258, "0000 00 01 c0000201 0102"),
    (bytes(4), 0, "0000 00 01 00000000 0000"),
    (LOOPBACK6, 65535, "0000 00 04 00000000000000000000000000000001 ffff"),
]


@pytest.mark.parametrize(("packed", "port", "expected"), WRAPPED)
def test_wrap(packed, port, expected):
    assert wrap(packed, port) == data_of(expected)


NAMES = [
    ("a.b", "0000 00 03 03 612e62 0035"),
    ("bücher.example", "0000 00 03 15" + b"xn--bcher-kva.example".hex() + "0035"),
]


@pytest.mark.parametrize(("host", "expected"), NAMES)
def test_wrap_name(host, expected):
    assert wrap_name(host, 53) == data_of(expected)


@pytest.mark.parametrize("host", ["", "h" * 256, "a b", "a\nb", "a\0"])
def test_names_that_cannot_be_sent(host):
    with pytest.raises(ProtocolError):
        wrap_name(host, 53)


def test_the_longest_header():
    assert len(wrap_name("h" * 255, 53)) == HEADER_BYTES_MAX


# -- anything at all

LIKELY = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda kind, rest: b"\0\0\0" + bytes([kind]) + rest, st.sampled_from([1, 3, 4]), st.binary(max_size=300)),
)


@given(LIKELY)
def test_any_bytes(datagram):
    try:
        host, packed, port, start = unwrap(datagram)
    except ProtocolError:
        return
    assert 0 < start <= min(len(datagram), HEADER_BYTES_MAX)
    assert host.isascii()
    assert host.isprintable()
    again = wrap(packed, port) if packed else wrap_name(host, port)
    assert again[3:] == datagram[3:start]
    assert not packed or host == str(ipaddress.ip_address(packed))


@given(address=st.ip_addresses(), port=st.integers(0, 65535), data=st.binary(max_size=50))
def test_what_is_wrapped_is_unwrapped(address, port, data):
    header = wrap(address.packed, port)
    assert header == struct.pack(">HBB", 0, 0, 1 if address.version == 4 else 4) + address.packed + struct.pack(
        ">H", port
    )
    assert unwrap(header + data) == (str(address), address.packed, port, len(header))
