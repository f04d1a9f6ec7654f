"""Addresses as people write them: every known form with what it means and how it prints, and beside them what is close
to one and is refused, always with ``AddressError`` that shows what was given."""

from __future__ import annotations

import copy
import dataclasses
import errno
import ipaddress
import os
import pickle
import socket
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import netnet
from netnet.kernel.address import (
    UNIX_PATH_MAX,
    HostAddress,
    InetAddress,
    IPv4Address,
    IPv6Address,
    NetlinkAddress,
    OtherAddress,
    PacketAddress,
    UnixAddress,
    from_sockaddr,
    parse_address,
    parse_port,
    to_sockaddr,
)
from netnet.kernel.values import read_sockaddr, write_sockaddr

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


# -- typed addresses

LINK_LOCAL = "fe80::1"
LO = socket.if_nametoindex("lo") if hasattr(socket, "if_nametoindex") else 1

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux' addresses")


@pytest.mark.parametrize(
    ("host", "kind", "text"),
    [
        ("192.0.2.1", IPv4Address, "192.0.2.1"),
        (0x7F000001, IPv4Address, "127.0.0.1"),
        (0, IPv4Address, "0.0.0.0"),
        ((1 << 32) - 1, IPv4Address, "255.255.255.255"),
        (ipaddress.IPv4Address("192.0.2.1"), IPv4Address, "192.0.2.1"),
        ("::1", IPv6Address, "::1"),
        ("2001:DB8:0::0:1", IPv6Address, "2001:db8::1"),
        ("::ffff:192.0.2.1", IPv6Address, "::ffff:192.0.2.1"),
        ("fe80::1%lo", IPv6Address, "fe80::1%lo"),
        (ipaddress.IPv6Address("2001:db8::1"), IPv6Address, "2001:db8::1"),
        (ipaddress.IPv6Address("fe80::1%lo"), IPv6Address, "fe80::1%lo"),
        ("localhost", HostAddress, "localhost"),
        ("", HostAddress, ""),
        ("127.1", HostAddress, "127.1"),
        ("127.0.0.256", HostAddress, "127.0.0.256"),
        ("1", HostAddress, "1"),
        ("bücher.example", HostAddress, "bücher.example"),
    ],
)
def test_an_inet_address_is_of_the_kind_that_its_host_is(host, kind, text):
    address = InetAddress(host, 80)
    assert type(address) is kind
    assert isinstance(address, InetAddress)
    assert (address.host, address.port) == (text, 80)
    assert kind(host, 80) == address


@pytest.mark.parametrize(
    ("kind", "host"),
    [
        *(
            (IPv4Address, host)
            for host in ("", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4 ", "::1", "host", "1.2.3.4%lo")
        ),
        *((IPv4Address, host) for host in (-1, 1 << 32, True, 1.0, None, b"1234", ipaddress.IPv6Address("::1"))),
        *((IPv6Address, host) for host in ("", "::g", "1.2.3.4", "host", "[::1]", ":::", "1:2:3:4:5:6:7:8:9", "::1\0")),
        *((IPv6Address, host) for host in (-1, 1 << 128, True, 1.0, None, bytes(16), ipaddress.IPv4Address("1.2.3.4"))),
        *((IPv6Address, host) for host in ("fe80::1%a%b", "fe80::1%a\0", "fe80::1%]", f"fe80::1%{1 << 32}")),
        *((HostAddress, host) for host in ("1.2.3.4", "::1", "fe80::1%lo", "ho\0st", 1, None, b"host")),
        *((InetAddress, host) for host in ("ho\0st", -1, 1 << 32, True, None, b"host", 1.5)),
    ],
)
def test_a_host_of_another_kind_is_refused_and_shown(kind, host):
    with pytest.raises(netnet.AddressError) as caught:
        kind(host, 80)
    assert repr(host) in str(caught.value)


@pytest.mark.parametrize("kind", [InetAddress, IPv4Address, IPv6Address, HostAddress])
@pytest.mark.parametrize("port", [-1, 65536, True, 80.0, "80", None])
def test_a_port_that_is_none_is_refused_and_shown(kind, port):
    host = {IPv6Address: "::1", HostAddress: "host"}.get(kind, "127.0.0.1")
    with pytest.raises(netnet.AddressError) as caught:
        kind(host, port)
    assert repr(port) in str(caught.value)
    assert host in str(caught.value)


@pytest.mark.parametrize("flow", [-1, 1 << 20, True, 1.0, "1", None])
def test_a_flow_that_is_none_is_refused_and_shown(flow):
    with pytest.raises(netnet.AddressError) as caught:
        IPv6Address("::1", 80, flow)
    assert repr(flow) in str(caught.value)


@given(st.integers(0, (1 << 32) - 1), st.integers(0, 65535))
def test_ipv4_addresses(number, port):
    address = IPv4Address(number, port)
    ip = ipaddress.IPv4Address(number)
    assert (address.ip, int(address.ip), address.packed, address.host) == (ip, number, ip.packed, str(ip))
    assert address.sockaddr == (str(ip), port)
    assert address.family == IPv4Address.family == socket.AF_INET
    assert address == IPv4Address(ip, port) == IPv4Address(str(ip), port) == InetAddress(str(ip), port)
    assert hash(address) == hash(InetAddress(number, port))
    assert str(address) == f"{ip}:{port}"
    assert parse_address(str(address)) == parse_address(address.sockaddr) == parse_address((number, port)) == address
    assert from_sockaddr(socket.AF_INET, address.sockaddr) == address
    assert read_sockaddr(write_sockaddr(address)) == address


@given(
    st.integers(0, (1 << 128) - 1), st.integers(0, 65535), st.integers(0, (1 << 20) - 1), st.integers(0, (1 << 32) - 1)
)
def test_ipv6_addresses(number, port, flow, scope):
    address = IPv6Address(number, port, flow, scope)
    bare = ipaddress.IPv6Address(number)
    assert (int(address.ip), address.packed, address.flow, address.scope) == (number, bare.packed, flow, scope)
    assert address.ip == (ipaddress.IPv6Address(f"{bare}%{scope}") if scope else bare)
    assert address.family == IPv6Address.family == socket.AF_INET6
    host, *rest = address.sockaddr
    assert rest == [port, flow, scope]
    assert int(ipaddress.IPv6Address(host)) == number
    assert address == IPv6Address(bare, port, flow, scope) == IPv6Address(address.host, port, flow)
    assert hash(address) == hash(IPv6Address(bare, port, flow, scope))
    assert parse_address(str(address)) == IPv6Address(number, port, 0, scope)  # the flow is not printed
    assert from_sockaddr(socket.AF_INET6, address.sockaddr) == parse_address(address.sockaddr) == address
    assert read_sockaddr(write_sockaddr(address)) == address


#: what the kernel allows in one, and no more than digits is an index
interface_names = st.text(
    st.characters(exclude_characters="%]/:\0", exclude_categories=["Z", "C"]), min_size=1, max_size=15
)


@given(st.ip_addresses(v=6), st.integers(0, 65535), interface_names.filter(lambda name: not name.isdigit()))
def test_scopes_by_name_print_as_they_are_parsed(ip, port, name):
    address = IPv6Address(ip, port, scope=name)
    assert address == InetAddress(f"{ip}%{name}", port)
    assert address.host.endswith(f"%{name}")
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("host", "scope", "text"),
    [
        (LINK_LOCAL, "lo", "fe80::1%lo"),
        (LINK_LOCAL, LO, f"fe80::1%{LO}"),
        (LINK_LOCAL, str(LO), f"fe80::1%{LO}"),
        ("fe80::1%lo", 0, "fe80::1%lo"),
        (ipaddress.IPv6Address("fe80::1%lo"), 0, "fe80::1%lo"),
    ],
)
def test_a_scope_is_a_name_or_an_index(host, scope, text):
    address = IPv6Address(host, 80, 0, scope)
    assert address.host == text
    assert str(address) == f"[{text}]:80"
    assert (address.scope, address.sockaddr) == (LO, (LINK_LOCAL, 80, 0, LO))
    assert address.packed == ipaddress.IPv6Address(LINK_LOCAL).packed


def test_no_scope():
    for address in (IPv6Address(LINK_LOCAL, 80), IPv6Address(LINK_LOCAL, 80, 0, 0), IPv6Address(LINK_LOCAL, 80, 0, "")):
        assert address.scope == 0
        assert address.host == LINK_LOCAL


@pytest.mark.parametrize("name", ["none-such", "x" * 100])
def test_the_scope_of_no_interface_is_refused_when_its_index_is_needed(name):
    address = IPv6Address(LINK_LOCAL, 80, 0, name)
    for use in (lambda: address.scope, lambda: address.sockaddr, lambda: write_sockaddr(address)):
        with pytest.raises(netnet.AddressError) as caught:
            use()
        assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    "scope", ["a%b", "a]", "a/b", "a b", "a\0", "\ud800", str(1 << 32), 1 << 32, 1 << 80, -1, True, 1.5]
)
def test_a_scope_that_cannot_be_one_is_refused_and_shown(scope):
    with pytest.raises(netnet.AddressError) as caught:
        IPv6Address(LINK_LOCAL, 80, 0, scope)
    assert (repr(scope) if not isinstance(scope, str) or not scope.isdigit() else scope) in str(caught.value)


host_names = st.text(st.characters(exclude_characters=":[]\0")).filter(
    lambda host: host != "unix" and type(InetAddress(host, 0)) is HostAddress
)


@given(host_names, st.integers(0, 65535))
def test_host_names_print_as_they_are_parsed(host, port):
    address = HostAddress(host, port)
    assert address == InetAddress(host, port) == parse_address(str(address)) == parse_address((host, port))
    assert to_sockaddr(address) == (host, port)
    assert hash(address) == hash(HostAddress(host, port))


unix_paths = st.binary(min_size=1, max_size=UNIX_PATH_MAX).filter(lambda path: b"\0" not in path and path[:1] != b"@")
unix_paths |= st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=26).map(os.fsencode)


@given(unix_paths.filter(lambda path: path[:1] != b"@"))
def test_unix_paths_print_as_they_are_parsed(path):
    address = UnixAddress(os.fsdecode(path))
    assert not address.abstract
    assert not address.unnamed
    assert os.fsencode(address.sockaddr) == path
    assert str(address) == f"unix:{address.path}"
    assert parse_address(str(address)) == address
    assert from_sockaddr(socket.AF_UNIX, address.sockaddr) == address
    assert from_sockaddr(socket.AF_UNIX, path) == address


@given(st.binary(max_size=UNIX_PATH_MAX - 1))
def test_abstract_names_print_as_they_are_parsed(name):
    address = UnixAddress("\0" + os.fsdecode(name))
    assert address.abstract
    assert not address.unnamed
    assert address.sockaddr == b"\0" + name
    assert str(address) == "unix:@" + os.fsdecode(name)
    assert parse_address(str(address)) == address
    assert from_sockaddr(socket.AF_UNIX, address.sockaddr) == address


ALL = [
    (HostAddress("host", 80), HostAddress("host", 81), "host:80"),
    (IPv4Address("192.0.2.1", 80), IPv4Address("192.0.2.2", 80), "192.0.2.1:80"),
    (IPv6Address("::1", 80, 7, "lo"), IPv6Address("::1", 80, 8, "lo"), "[::1%lo]:80"),
    (UnixAddress("/run/s"), UnixAddress("\0/run/s"), "unix:/run/s"),
    (UnixAddress("\0name"), UnixAddress("name"), "unix:@name"),
    (UnixAddress(""), UnixAddress("\0"), "unix:"),
    (PacketAddress("lo", 0x0800), PacketAddress("lo", 0x0806), "packet:lo 0x0800"),
    (PacketAddress("lo", 3, 4, 772, bytes(6)), PacketAddress("lo", 3), "packet:lo 00:00:00:00:00:00 0x0003"),
    (NetlinkAddress(7, 5), NetlinkAddress(7), "netlink:7/0x5"),
    (OtherAddress(99, ("a", 1)), OtherAddress(98, ("a", 1)), "99:('a', 1)"),
]


@pytest.mark.parametrize(("address", "other", "text"), ALL)
def test_every_class_is_frozen_hashable_and_prints(address, other, text):
    twin = dataclasses.replace(address)
    assert twin is not address
    assert twin == address != other
    assert hash(twin) == hash(address)
    assert len({address, twin, other}) == 2
    assert str(address) == text
    for field in dataclasses.fields(address):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(address, field.name, getattr(address, field.name))
    with pytest.raises((AttributeError, TypeError)):
        address.another = 1


def test_a_name_is_not_equal_to_an_address_nor_the_families_to_each_other():
    addresses = [InetAddress(host, 80) for host in ("localhost", "127.0.0.1", "::1", "::ffff:127.0.0.1", "::1%lo")]
    addresses += [UnixAddress("localhost"), UnixAddress("127.0.0.1:80")]
    assert len(set(addresses)) == len(addresses)
    assert ("127.0.0.1", 80) not in addresses


@pytest.mark.parametrize("address", [one for one, _, _ in ALL])
def test_addresses_can_be_copied_and_pickled(address):
    assert copy.copy(address) == copy.deepcopy(address) == pickle.loads(pickle.dumps(address)) == address


# -- as the kernel tells and takes them


def named(sock):
    """A socket's own address: typed, and proven to be what the standard library takes for the same."""
    told = sock.getsockname()
    address = from_sockaddr(sock.family, told)
    assert address.family == sock.family
    return address, told


@pytest.mark.parametrize("type", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("address", [IPv4Address("127.0.0.1", 0), IPv6Address("::1", 0)])
def test_inet_sockets(address, type):
    with socket.socket(address.family, type) as sock, socket.socket(address.family, type) as other:
        sock.bind(address.sockaddr)
        found, told = named(sock)
        assert (found.host, found.port > 0) == (address.host, True)
        assert found.sockaddr == to_sockaddr(found) == told
        if type == socket.SOCK_STREAM:
            sock.listen()
        other.connect(to_sockaddr(found))
        assert from_sockaddr(other.family, other.getpeername()) == found


def test_the_flow_and_the_traffic_class_stand_in_one_number():
    assert from_sockaddr(socket.AF_INET6, ("::1", 80, 0x0FF12345, 0)) == IPv6Address("::1", 80, 0x12345)


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """A directory to be in, so that paths of sockets can be of any length."""
    monkeypatch.chdir(tmp_path)


@needs_linux
@pytest.mark.parametrize(
    "name",
    [
        b"s",
        b"with space: and [colon]",
        "é".encode() * 50,
        b"\xff\xfe odd",
        b"x" * UNIX_PATH_MAX,
        b"\0name",
        b"\0",
        b"\0" + bytes(range(1, 100)),
        b"\0in\0side\0",
        b"\0\xff\xfe\0\0",
        b"\0" + b"y" * (UNIX_PATH_MAX - 1),
        b"\0" + b"z" * UNIX_PATH_MAX,
    ],
)
def test_unix_sockets(directory, name):
    address = UnixAddress(os.fsdecode(name))
    with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as other:
        sock.bind(to_sockaddr(address))
        found, told = named(sock)
        assert found == address
        assert os.fsencode(told) == os.fsencode(found.sockaddr) == name  # nothing appended
        sock.listen()
        other.connect(to_sockaddr(found))
        assert from_sockaddr(other.family, other.getpeername()) == address
        assert found.abstract == name.startswith(b"\0")
        assert os.path.exists(name) if not found.abstract else os.listdir() == []


@needs_linux
@pytest.mark.parametrize("name", ["x" * (UNIX_PATH_MAX + 1), "é" * 54])
def test_unix_names_that_are_too_long_are_refused_when_bound(directory, name):
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(OSError, match="too long"):
        sock.bind(to_sockaddr(UnixAddress(name)))
    assert os.listdir() == []


@needs_linux
def test_unix_sockets_without_a_name_and_with_one_of_the_kernels_choice():
    with socket.socket(socket.AF_UNIX) as sock:
        assert named(sock)[0] == UnixAddress("")
        assert named(sock)[0].unnamed
        sock.bind(to_sockaddr(UnixAddress("")))
        address, told = named(sock)
        assert address.abstract
        assert not address.unnamed
        assert len(address.path) > 1
        assert address.sockaddr == told
        with socket.socket(socket.AF_UNIX) as other, pytest.raises(OSError) as caught:
            other.bind(to_sockaddr(address))
        assert caught.value.errno == errno.EADDRINUSE


@needs_linux
def test_netlink_sockets():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        assert named(sock)[0] == NetlinkAddress(0)
        sock.bind(to_sockaddr(NetlinkAddress(0, 1)))
        address, told = named(sock)
        assert address.pid != 0
        assert address.groups == 1
        assert address.sockaddr == told


@needs_linux
@pytest.mark.skipif(os.geteuid() != 0, reason="packet sockets need root")
def test_packet_sockets():
    experimental = 0x88B5  # an Ethernet type for experiments
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(experimental)) as sock:
        sock.bind(to_sockaddr(PacketAddress("lo", experimental)))
        address, told = named(sock)
        assert (address.interface, address.protocol) == ("lo", experimental)
        assert address.sockaddr == told
        sock.settimeout(10)
        sock.sendto(b"packet", to_sockaddr(PacketAddress("lo", experimental, hardware=bytes(6))))
        data, sender = sock.recvfrom(100)
        received = from_sockaddr(socket.AF_PACKET, sender)
        while received.packet_type == socket.PACKET_OUTGOING:
            data, sender = sock.recvfrom(100)
            received = from_sockaddr(socket.AF_PACKET, sender)
        assert data == b"packet"
        assert received == PacketAddress("lo", experimental, socket.PACKET_HOST, 772, bytes(6))


@pytest.mark.parametrize("value", [("host", 1), "/path", b"\0name", 5, None])
def test_what_is_no_typed_address_is_handed_on_as_it_is(value):
    assert to_sockaddr(value) is value


def test_a_family_without_a_class_keeps_what_the_standard_library_told():
    address = from_sockaddr(40, (1, 2))
    assert address == OtherAddress(40, (1, 2))
    assert to_sockaddr(address) == (1, 2)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(16),
        bytes(28),
        *(write_sockaddr(a)[:-1] for a in (InetAddress("127.0.0.1", 1), InetAddress("::1", 1))),
    ],
)
def test_bytes_that_are_no_socket_address(data):
    assert read_sockaddr(data) is None


def test_a_socket_address_may_be_followed_by_anything():
    for address in (InetAddress("127.0.0.1", 1), IPv6Address("fe80::1", 1, 5, 9)):
        assert read_sockaddr(write_sockaddr(address).ljust(128, b"\0")) == address


@pytest.mark.parametrize("text", ["[::1%a/b]:80", "[::1%a b]:80"])
def test_a_scope_that_cannot_be_one_is_an_address_error_in_text(text):
    with pytest.raises(netnet.AddressError):
        parse_address(text)


def test_bits_beside_the_flow_label_are_not_part_of_it():
    data = bytearray(write_sockaddr(IPv6Address("::1", 80, 7)))
    data[4] |= 0x10
    assert read_sockaddr(bytes(data)) == IPv6Address("::1", 80, 7)


def test_a_path_that_begins_with_an_at_sign_does_not_print_as_an_abstract_name():
    assert str(UnixAddress("@x")) == "unix:./@x"


@pytest.mark.parametrize(
    "path", ["a\0b", "/run/s\0", "x" * (UNIX_PATH_MAX + 2), "\0" + "x" * 108, "\ud800", b"abc", None, 5]
)
def test_what_cannot_be_a_unix_path(path):
    with pytest.raises(netnet.AddressError):
        UnixAddress(path)
