"""Special addresses: each range at its edges and one beyond, what carries IPv4, every spelling of an address that a
resolver takes, networks as text; and the table of intervals against a loop."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netnet.socks.ranges import Intervals, Network, literal, loopback, network, plain, private, text_of


def words(text):
    return text.split()


def packed(text):
    return ipaddress.ip_address(text).packed


SPECIAL = [
    ("0.0.0.0", "0.0.0.0", "unspecified"),
    ("0.0.0.1", "0.255.255.255", "this network (RFC 791)"),
    ("10.0.0.0", "10.255.255.255", "private (RFC 1918)"),
    ("100.64.0.0", "100.127.255.255", "carrier-grade NAT (RFC 6598)"),
    ("127.0.0.0", "127.255.255.255", "loopback"),
    ("169.254.0.0", "169.254.255.255", "link-local"),
    ("172.16.0.0", "172.31.255.255", "private (RFC 1918)"),
    ("192.0.0.0", "192.0.0.8", "IETF protocol assignments (RFC 6890)"),
    ("192.0.0.11", "192.0.0.255", "IETF protocol assignments (RFC 6890)"),
    ("192.0.2.0", "192.0.2.255", "documentation (RFC 5737)"),
    ("192.88.99.0", "192.88.99.255", "6to4 relays, deprecated (RFC 7526)"),
    ("192.168.0.0", "192.168.255.255", "private (RFC 1918)"),
    ("198.18.0.0", "198.19.255.255", "benchmarking (RFC 2544)"),
    ("198.51.100.0", "198.51.100.255", "documentation (RFC 5737)"),
    ("203.0.113.0", "203.0.113.255", "documentation (RFC 5737)"),
    ("224.0.0.0", "239.255.255.255", "multicast"),
    ("240.0.0.0", "255.255.255.254", "reserved (RFC 1112)"),
    ("255.255.255.255", "255.255.255.255", "broadcast"),
    ("::", "::", "unspecified"),
    ("::1", "::1", "loopback"),
    ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "NAT64 for local use (RFC 8215)"),
    ("100::", "100::ffff:ffff:ffff:ffff", "discard-only (RFC 6666)"),
    ("100:0:0:1::", "100::1:ffff:ffff:ffff:ffff", "dummy (RFC 9780)"),
    ("100:0:0:2::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved (RFC 4291)"),
    ("2001:1::4", "2001:1:ffff:ffff:ffff:ffff:ffff:ffff", "IETF protocol assignments (RFC 2928)"),
    ("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", "benchmarking (RFC 5180)"),
    ("2001:10::", "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff", "ORCHID, deprecated (RFC 4843)"),
    ("2001:40::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "IETF protocol assignments (RFC 2928)"),
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "documentation (RFC 3849)"),
    ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "documentation (RFC 9637)"),
    ("4000::", "5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved (RFC 4291)"),
    ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "segment routing (RFC 9602)"),
    ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "unique local (RFC 4193)"),
    ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "link-local"),
    ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "site-local, deprecated (RFC 3879)"),
    ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "multicast"),
]

PUBLIC = words("""
    1.0.0.0 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
    169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.0.9 192.0.0.10 192.0.1.0 192.0.3.0
    192.31.196.1 192.52.193.1 192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 192.175.48.1 198.17.255.255
    198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255
    2000:: 2001:1::1 2001:1::2 2001:1::3 2001:3::1 2001:4:112::1 2001:20::1 2001:30::1 2001:200:: 2001:4860:4860::8888
    2001:db7:ffff:ffff:ffff:ffff:ffff:ffff 2001:db9:: 2606:4700:4700::1111 2620:4f:8000::1 3ffe:ffff::
    3fff:1000:: 3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
""")


@pytest.mark.parametrize(("first", "last", "name"), SPECIAL)
def test_a_special_range_goes_from_its_first_address_to_its_last(first, last, name):
    assert private(packed(first)) == private(packed(last)) == name
    for beside in (int.from_bytes(packed(first), "big") - 1, int.from_bytes(packed(last), "big") + 1):
        if 0 <= beside < 1 << 8 * len(packed(first)):
            assert private(beside.to_bytes(len(packed(first)), "big")) != name


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_not_special(text):
    assert private(packed(text)) is None


def carried(name, ipv4):
    """The IPv6 address that carries *ipv4* by the method *name*."""
    number = int(ipaddress.IPv4Address(ipv4))
    forms = {
        "IPv4-compatible": number,
        "IPv4-mapped": 0xFFFF << 32 | number,
        "IPv4-translated": 0xFFFF << 48 | number,
        "NAT64": 0x64FF9B << 96 | number,
        "6to4": 0x2002 << 112 | number << 80 | 0x1234,
        "Teredo": 0x20010000 << 96 | int(ipaddress.IPv4Address("8.8.8.8")) << 64 | number ^ 0xFFFFFFFF,
        "Teredo server": 0x20010000 << 96 | number << 64 | int(ipaddress.IPv4Address("8.8.8.8")) ^ 0xFFFFFFFF,
    }
    return forms[name].to_bytes(16, "big")


CARRIERS = ["IPv4-compatible", "IPv4-mapped", "IPv4-translated", "NAT64", "6to4", "Teredo", "Teredo server"]


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize(
    "ipv4", ["10.1.2.3", "127.0.0.1", "169.254.169.254", "100.100.100.200", "198.18.0.1", "0.0.0.5"]
)
def test_an_address_that_carries_a_special_one_is_special(carrier, ipv4):
    assert private(carried(carrier, ipv4)) == f"{carrier.split()[0]}: {private(packed(ipv4))}"


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("ipv4", ["8.8.8.8", "1.1.1.1", "192.0.0.9"])
def test_an_address_that_carries_a_public_one_is_public(carrier, ipv4):
    assert private(carried(carrier, ipv4)) is None


#: what this library calls public, and ``ipaddress`` of some version does not
GLOBAL_AFTER_ALL = [
    ipaddress.ip_network(text)
    for text in words("""
    192.0.0.9 192.0.0.10 2001::/32 2001:1::1 2001:1::2 2001:1::3 2001:3::/32 2001:4:112::/48 2001:20::/28 2001:30::/28
    2002::/16 ::ffff:0:0/96
    """)
]

EDGES = sorted({text for first, last, _ in SPECIAL for text in (first, last)} | set(PUBLIC))


@given(st.sampled_from(EDGES).map(ipaddress.ip_address) | st.ip_addresses(), st.integers(-2, 2))
def test_nothing_is_public_that_the_standard_library_calls_private(address, by):
    address = type(address)((int(address) + by) % (1 << address.max_prefixlen))
    if private(address.packed) is None and not any(address in net for net in GLOBAL_AFTER_ALL):
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_reserved or address in ipaddress.ip_network("::/8")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1", True),
        ("127.255.255.255", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("126.255.255.255", False),
        ("128.0.0.0", False),
        ("0.0.0.0", False),
        ("::", False),
        ("::2", False),
        ("::127.0.0.1", False),
        ("::ffff:128.0.0.1", False),
        ("7f00::1", False),
    ],
)
def test_loopback(text, expected):
    assert loopback(packed(text)) is expected


def test_plain():
    assert plain(packed("::ffff:1.2.3.4")) == packed("1.2.3.4")
    for other in ("1.2.3.4", "::1.2.3.4", "::fffe:1.2.3.4", "::ffff:0:1.2.3.4", "1::ffff:1.2.3.4"):
        assert plain(packed(other)) == packed(other)


LITERALS = {
    "1.2.3.4": "1.2.3.4",
    "1.2.3.4.": "1.2.3.4",
    "127.1": "127.0.0.1",
    "127.0.1": "127.0.0.1",
    "127.1.": "127.0.0.1",
    "127.65535": "127.0.255.255",
    "1.16777215": "1.255.255.255",
    "10.0.65535": "10.0.255.255",
    "2130706433": "127.0.0.1",
    "017700000001": "127.0.0.1",
    "0x7f000001": "127.0.0.1",
    "0X7F.1": "127.0.0.1",
    "0x7f.1": "127.0.0.1",
    "0177.0.0.01": "127.0.0.1",
    "0": "0.0.0.0",
    "00": "0.0.0.0",
    "4294967295": "255.255.255.255",
    "0xffffffff": "255.255.255.255",
    "::": "::",
    "::1": "::1",
    "[::1]": "::1",
    "::ffff:127.0.0.1": "::ffff:127.0.0.1",
    "FE80::1%eth0": "fe80::1",
}

NO_LITERALS = words("""
    example.com 1.example.com 1.2.3.4.5 256.1.1.1 1.256.1.1 1.2.65536 1.16777216 4294967296 0x100000000 08.1 0x 0xg 1..2
    .1.2.3 1.2.3.4.. 1_0.0.0.1 +1.2.3.4 -1 1e3 [::1 ::1] [1.2.3.4] ::: 1:2 12345::1 localhost x:1 a.1 ١.1.1.1
""")


@pytest.mark.parametrize(("host", "address"), LITERALS.items())
def test_every_spelling_of_an_address_is_one(host, address):
    assert literal(host) == packed(address.partition("%")[0])


@pytest.mark.parametrize("host", ["", "example.com.", "1.2.3.4 ", " 1.2.3.4", "1.2.3.4\n", *NO_LITERALS])
def test_names_are_none(host):
    assert literal(host) == b""


@given(st.text("0123456789xXaAfF.", max_size=16))
def test_spellings_are_those_of_the_c_library(host):
    try:
        expected = socket.inet_aton(host)
    except OSError:
        expected = b""
    if not host.endswith("."):
        assert literal(host) == expected


@given(st.text(max_size=20) | st.text("0123456789:.[]%xf", max_size=20))
def test_any_text_is_an_address_or_is_not(host):
    assert len(literal(host)) in (0, 4, 16)


@pytest.mark.parametrize(
    ("text", "bits", "first", "last"),
    [
        ("10.0.0.0/8", 32, "10.0.0.0", "10.255.255.255"),
        ("192.0.2.1", 32, "192.0.2.1", "192.0.2.1"),
        ("192.0.2.1/32", 32, "192.0.2.1", "192.0.2.1"),
        ("0.0.0.0/0", 32, "0.0.0.0", "255.255.255.255"),
        ("2001:DB8::/32", 128, "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("::1", 128, "::1", "::1"),
        ("::/0", 128, "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("::ffff:10.0.0.0/104", 32, "10.0.0.0", "10.255.255.255"),
        ("::ffff:0:0/96", 32, "0.0.0.0", "255.255.255.255"),
        ("::fffe:0:0/95", 128, "::fffe:0:0", "::ffff:ffff:ffff"),
    ],
)
def test_networks(text, bits, first, last):
    found = network(text)
    assert found == Network(bits, int(ipaddress.ip_address(first)), int(ipaddress.ip_address(last)))
    assert found.whole is (text in ("0.0.0.0/0", "::/0", "::ffff:0:0/96"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10.0.0.1/8", "has bits right of the mask; write 10.0.0.0/8, or 10.0.0.1 for the one address"),
        ("2001:db8::1/32", "has bits right of the mask; write 2001:db8::/32"),
        ("10.0.0.0/33", "needs the number of bits of its mask after the slash, 0 to 32"),
        ("::/129", "needs the number of bits of its mask after the slash, 0 to 128"),
        ("10.0.0.0/", "needs the number of bits"),
        ("10.0.0.0/255.0.0.0", "needs the number of bits"),
        ("10.0.0.0/0.255.255.255", "needs the number of bits"),
        ("10.0.0.0/-1", "needs the number of bits"),
        ("fe80::1%eth0", "has a scope, which does not count here; write fe80::1"),
        ("127.1", "is no address and no network; write 127.0.0.1"),
        ("[::1]", "is no address and no network; write ::1"),
        ("10/8", "is no address and no network (as 10.0.0.0/8"),
        ("example.com", "is no address and no network (as 10.0.0.0/8"),
        ("", "is no address and no network"),
        ("10.0.0.0.0/8", "is no address and no network"),
    ],
)
def test_what_is_no_network_says_what_to_write(text, message):
    with pytest.raises(ValueError) as caught:
        network(text)
    assert str(caught.value).startswith(message)


def test_text_of():
    assert [text_of(packed(text)) for text in ("1.2.3.4", "2001:DB8:0::1")] == ["1.2.3.4", "2001:db8::1"]


spans = st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 6)).map(
    lambda one: (min(one[:2]), max(one[:2]), one[2])
)


@given(st.lists(spans, max_size=12), st.integers(0, 1))
def test_intervals_are_what_a_loop_finds(spans, free):
    spans = [(first, last, bit + 1) for first, last, bit in spans]  # a bit is free, or it has spans
    table = Intervals(spans, free)
    for number in range(33):
        expected = free
        for first, last, bit in spans:
            expected |= (first <= number <= last) << bit
        assert table.at(number) == expected
