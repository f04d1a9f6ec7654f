"""Addresses as people write them: every known form with what it means and how it prints, and beside them what is close
to one and is refused, always with ``AddressError`` that shows what was given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import netnet
from netnet.kernel.address import UNIX_PATH_MAX, InetAddress, UnixAddress, parse_address, parse_port

FORMS = [
    ("127.0.0.1:80", InetAddress("127.0.0.1", 80)),
    ("example.org:0", InetAddress("example.org", 0)),
    (":65535", InetAddress("", 65535)),
    ("[::1]:80", InetAddress("::1", 80)),
    ("[::]:80", InetAddress("::", 80)),
    ("[fe80::1%eth0]:80", InetAddress("fe80::1%eth0", 80)),
    ("unix:/run/s", UnixAddress("/run/s")),
    ("unix:relative", UnixAddress("relative")),
    ("unix:/with:colon", UnixAddress("/with:colon")),
    ("unix:@name", UnixAddress("\0name")),
    ("unix:" + "x" * UNIX_PATH_MAX, UnixAddress("x" * UNIX_PATH_MAX)),
    ("unix:" + "é" * (UNIX_PATH_MAX // 2), UnixAddress("é" * (UNIX_PATH_MAX // 2))),
]

BAD = [
    *("", "host", "127.0.0.1", "::1", "[::1]", "::1:80", "a:b:80", "[::1:80", "::1]:80", "[]:80", "[127.0.0.1]:80"),
    *("[host]:80", "[::1%]:80", "[::g]:80", "host:", "host:-1", "host:+1", "host: 80", "host:80 ", "host:65536"),
    *("host:8_0", "host:0x50", "host:٨٠", "host:²", "host:http", "ho\0st:80", "host:" + "9" * 5000),
    *("unix:", "unix:/a\0b", "unix:" + "x" * (UNIX_PATH_MAX + 1), "unix:@" + "x" * UNIX_PATH_MAX),
    *("unix:" + "é" * 54, "unix:\ud800"),
]


@pytest.mark.parametrize(("text", "address"), FORMS)
def test_forms(text, address):
    assert parse_address(text) == address
    assert str(address) == text
    assert parse_address(address) is address
    assert hash(parse_address(text)) == hash(address)


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_address_is_refused_and_shown(text):
    with pytest.raises(netnet.AddressError) as caught:
        parse_address(text)
    assert isinstance(caught.value, ValueError)
    assert repr(text)[:20] in str(caught.value)


@pytest.mark.parametrize(
    ("value", "address"),
    [
        (("host", 80), InetAddress("host", 80)),
        (("", 0), InetAddress("", 0)),
        (("::1", 80), InetAddress("::1", 80)),
        (("::1", 80, 0, 0), InetAddress("::1", 80)),
        (("fe80::1", 80, 0, 3), InetAddress("fe80::1%3", 80)),
        (("fe80::1%lo", 80, 0, 3), InetAddress("fe80::1%lo", 80)),
    ],
)
def test_tuples_of_the_standard_library(value, address):
    assert parse_address(value) == address


@pytest.mark.parametrize(
    "value",
    [
        *((), ("host",), ("host", 80, 0), ("host", 80, 0, 0, 0), ("host", "80"), ("host", 80.0), ("host", None)),
        *((b"host", 80), (None, 80), ("host", -1), ("host", 65536), ("host", True), ("ho\0st", 80)),
        *(("::1", 80, 0, "lo"), None, 80, b"host:80", ["host", 80], object),
    ],
)
def test_other_things_are_refused_and_shown(value):
    with pytest.raises(netnet.AddressError) as caught:
        parse_address(value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(("text", "port"), [("0", 0), ("080", 80), ("65535", 65535)])
def test_ports(text, port):
    assert parse_port(text, text) == port


def test_addresses_cannot_be_changed():
    with pytest.raises(AttributeError):
        InetAddress("host", 80).port = 81


@given(st.one_of(st.text(), st.text(":[]%.0123456789abcdefunix/@"), st.builds("unix:{}".format, st.text())))
def test_any_text_is_an_address_that_prints_as_one_or_an_address_error(text):
    try:
        address = parse_address(text)
    except netnet.AddressError:
        return
    assert parse_address(str(address)) == address
