"""Look-ups with all that they can be told, and back: hosts and services to addresses, addresses to names. Only names that
every machine knows are asked for; nothing here goes to the network."""

from __future__ import annotations

import ipaddress
import socket

import pytest

import netnet
from netnet.errors import OptionError
from netnet.kernel.address import HostAddress, InetAddress, IPv4Address, IPv6Address, UnixAddress
from netnet.net import resolve as resolving
from netnet.net.resolve import AddressInfo, NameInfo, lookup, reverse, service_name, service_port

STREAM, DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM


@pytest.fixture(params=["loop", "no loop"])
def call(request, run):
    """Calls a function with arguments, inside a loop or outside one."""

    def called(function, *args, **options):
        return run(lambda: function(*args, **options)) if request.param == "loop" else function(*args, **options)

    return called


@pytest.fixture
def no_thread(monkeypatch):
    """What would go to a thread of its own fails the test."""
    monkeypatch.setattr(resolving, "elsewhere", lambda *args: pytest.fail(f"went elsewhere: {args}"))


@pytest.fixture
def sent_elsewhere(monkeypatch):
    """Counts what goes to a thread of its own."""
    calls, elsewhere = [], resolving.elsewhere

    def counted(*args):
        calls.append(args)
        return elsewhere(*args)

    monkeypatch.setattr(resolving, "elsewhere", counted)
    return calls


def as_told(host, service, family=0, type=0, protocol=0, flags=0):
    """What the standard library tells."""
    return [
        (found, kind, number, name, InetAddress(sockaddr[0], sockaddr[1]))
        for found, kind, number, name, sockaddr in socket.getaddrinfo(host, service, family, type, protocol, flags)
    ]


# -- lookup


@pytest.mark.parametrize("service", [None, 0, 80, 65535])
@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", IPv4Address), ("192.0.2.1", IPv4Address), ("::1", IPv6Address), ("2001:db8::1", IPv6Address)],
)
def test_an_address_and_a_number_are_looked_up_without_a_thread(call, no_thread, host, address, service):
    found = call(lookup, host, service)
    assert found == as_told(host, service)
    assert {entry.address for entry in found} == {address(host, service or 0)}
    assert {entry.family for entry in found} == {address.family}
    assert {STREAM, DATAGRAM} <= {entry.type for entry in found}
    for entry in found:
        assert type(entry) is AddressInfo
        assert {type(number) for number in entry[:3]} == {int}
        assert entry.canonical_name == ""


@pytest.mark.parametrize("flags", [0, "passive", ["passive", "numericserv"]])
def test_no_host_is_this_machine_without_a_thread(call, no_thread, flags):
    found = call(lookup, None, 80, type=STREAM, flags=flags)
    hosts = {"0.0.0.0", "::"} if flags else {"127.0.0.1", "::1"}
    assert {entry.address.host for entry in found} <= hosts
    assert {entry.address.port for entry in found} == {80}
    assert found


@pytest.mark.parametrize(
    ("host", "service"),
    [
        ("localhost", 80),
        ("localhost", None),
        ("127.0.0.1", "http"),
        (None, "http"),
        ("localhost", "http"),
        ("127.1", 80),
    ],
)
def test_a_name_goes_to_a_thread_once(call, sent_elsewhere, host, service):
    found = call(lookup, host, service, family=socket.AF_INET)
    assert len(sent_elsewhere) == 1
    assert found == as_told(host, service, socket.AF_INET)
    assert {entry.address.host for entry in found} == {"127.0.0.1"}
    assert {entry.address.port for entry in found} == {80 if service else 0}


@pytest.mark.parametrize(
    ("restriction", "field", "value"),
    [
        ({"family": socket.AF_INET}, "family", socket.AF_INET),
        ({"type": STREAM}, "type", STREAM),
        ({"type": DATAGRAM}, "type", DATAGRAM),
        ({"protocol": socket.IPPROTO_UDP}, "protocol", socket.IPPROTO_UDP),
        ({"type": STREAM, "protocol": socket.IPPROTO_TCP}, "protocol", socket.IPPROTO_TCP),
    ],
)
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", None])
def test_results_can_be_restricted(call, host, restriction, field, value):
    found = call(lookup, host, 80, **restriction)
    assert {getattr(entry, field) for entry in found} == {value}
    assert found == as_told(host, 80, **restriction)


def test_what_is_found_makes_a_socket_that_connects(call):
    with netnet.Socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def connect():
            (found,) = lookup("localhost", listener.getsockname()[1], family=socket.AF_INET, type=STREAM)
            with netnet.Socket(found.family, found.type, found.protocol) as sock:
                sock.connect(found.address.sockaddr)
                with listener.accept()[0] as accepted:
                    return accepted.getpeername() == sock.getsockname()

        assert call(connect)


@pytest.mark.parametrize("flags", ["canonname", "AI_CANONNAME", ("canonname",), socket.AI_CANONNAME, {"CANONNAME"}])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_canonical_name_stands_in_the_first_result(call, host, flags):
    first, *others = call(lookup, host, 80, family=socket.AF_INET, flags=flags)
    assert first.canonical_name == host
    assert {entry.canonical_name for entry in others} == {""}
    assert {entry.canonical_name for entry in lookup(host, 80, family=socket.AF_INET)} == {""}


def test_a_mapped_address(call, no_thread):
    found = call(lookup, "127.0.0.1", 80, family=socket.AF_INET6, flags=["v4mapped", socket.AI_NUMERICHOST])
    assert {entry.address for entry in found} == {IPv6Address("::ffff:127.0.0.1", 80)}


def test_a_scoped_address(call):
    index = socket.if_nametoindex("lo")
    (found,) = call(lookup, "fe80::1%lo", 80, type=STREAM)
    assert found.address.sockaddr == ("fe80::1", 80, 0, index)
    assert found.address.scope == index


@pytest.mark.parametrize(
    ("host", "service", "options", "code"),
    [
        ("no-such-host.invalid", 80, {"flags": "numerichost"}, socket.EAI_NONAME),
        ("localhost", 80, {"flags": "numerichost"}, socket.EAI_NONAME),
        ("127.0.0.1", "http", {"flags": "numericserv"}, socket.EAI_NONAME),
        ("127.0.0.1", "no-such-service", {}, socket.EAI_SERVICE),
        ("127.0.0.1", 80, {"family": socket.AF_INET6}, socket.EAI_ADDRFAMILY),
        ("127.0.0.1", 80, {"type": 77}, socket.EAI_SOCKTYPE),
        ("127.0.0.1", 80, {"family": 99}, socket.EAI_FAMILY),
        (None, None, {}, socket.EAI_NONAME),
    ],
)
def test_what_cannot_be_found(call, host, service, options, code):
    with pytest.raises(socket.gaierror) as caught:
        call(lookup, host, service, **options)
    assert caught.value.errno == code


@pytest.mark.parametrize("host", ["x" * 300, "a..b", "\ud800"])
def test_what_cannot_be_a_name(call, host):
    with pytest.raises(UnicodeError):
        call(lookup, host, 80)


@pytest.mark.parametrize("flags", ["nonsense", ("passive", "nonsense"), "MSG_PEEK", ""])
def test_an_unknown_flag_is_named_with_those_there_are(call, flags):
    unknown = flags if isinstance(flags, str) else flags[-1]
    with pytest.raises(OptionError) as caught:
        call(lookup, "127.0.0.1", 80, flags=flags)
    assert repr(unknown) in str(caught.value)
    assert "AI_" in str(caught.value)


def test_an_almost_known_flag_is_suggested():
    with pytest.raises(OptionError, match="'passive'"):
        lookup("127.0.0.1", 80, flags="pasive")
    with pytest.raises(OptionError, match="'numerichost'"):
        reverse("127.0.0.1", "numerichosts")


@pytest.mark.parametrize("flags", [None, 1.5, [None]])
def test_flags_of_another_type(flags):
    with pytest.raises((TypeError, AttributeError)):
        lookup("127.0.0.1", 80, flags=flags)


# -- reverse

NUMERIC = ("numerichost", "numericserv")


@pytest.mark.parametrize(
    ("address", "host", "service"),
    [
        ("127.0.0.1", "127.0.0.1", "0"),
        ("::1", "::1", "0"),
        (ipaddress.ip_address("127.0.0.1"), "127.0.0.1", "0"),
        (ipaddress.ip_address("::1"), "::1", "0"),
        (("127.0.0.1", 80), "127.0.0.1", "80"),
        (("::1", 80, 0, 0), "::1", "80"),
        (IPv4Address("127.0.0.1", 80), "127.0.0.1", "80"),
        (IPv6Address("::1", 80), "::1", "80"),
        ("fe80::1%lo", "fe80::1%lo", "0"),
        (IPv6Address("fe80::1", 80, 0, "lo"), "fe80::1%lo", "80"),
    ],
)
def test_addresses_in_every_form(call, address, host, service):
    found = call(reverse, address, NUMERIC)
    assert found == (host, service)
    assert type(found) is NameInfo
    assert (found.host, found.service) == (host, service)


@pytest.mark.parametrize(
    ("flags", "host", "service"),
    [
        (0, "localhost", "http"),
        ("nofqdn", "localhost", "http"),
        ("namereqd", "localhost", "http"),
        ("numerichost", "127.0.0.1", "http"),
        ("NI_NUMERICSERV", "localhost", "80"),
        (("numericserv", socket.NI_NUMERICHOST), "127.0.0.1", "80"),
        (socket.NI_NUMERICHOST | socket.NI_NUMERICSERV, "127.0.0.1", "80"),
    ],
)
def test_flags_of_the_way_back(call, flags, host, service):
    assert call(reverse, ("127.0.0.1", 80), flags) == (host, service)


def test_datagram_services_have_names_of_their_own(call):
    stream, datagram = (
        call(reverse, ("127.0.0.1", 514), flags).service for flags in ("numerichost", ("numerichost", "dgram"))
    )
    assert (stream, datagram) == ("shell", "syslog")


@pytest.mark.parametrize(
    ("address", "flags"),
    [
        ("127.0.0.1", ("numerichost", "namereqd")),
        (("localhost", 80), 0),
        (HostAddress("localhost", 80), 0),
        (("127.0.0.1", 80), -1),
    ],
)
def test_what_has_no_way_back(call, address, flags):
    with pytest.raises(socket.gaierror):
        call(reverse, address, flags)


@pytest.mark.parametrize("address", ["localhost", "", "127.0.0.256", "::g", "fe80::1%none-such", "127.0.0.1:80"])
def test_text_that_is_no_address(call, address):
    with pytest.raises(netnet.AddressError) as caught:
        call(reverse, address, NUMERIC)
    assert address in str(caught.value)


@pytest.mark.parametrize(
    "address", [None, 5, (), ("127.0.0.1",), ("127.0.0.1", "80"), UnixAddress("/run/s"), b"127.0.0.1"]
)
def test_an_address_of_another_type(call, address):
    with pytest.raises(TypeError):
        call(reverse, address)


@pytest.mark.parametrize("flags", ["nonsense", ("numerichost", "passive")])
def test_an_unknown_flag_of_the_way_back(call, flags):
    with pytest.raises(OptionError, match="NI_"):
        call(reverse, "127.0.0.1", flags)


# -- services


@pytest.mark.parametrize(
    ("name", "protocol", "port"),
    [("http", "tcp", 80), ("https", "tcp", 443), ("domain", "udp", 53), ("domain", "tcp", 53), ("syslog", "udp", 514)],
)
def test_services_have_ports_and_ports_names(call, name, protocol, port):
    assert call(service_port, name, protocol) == port
    assert call(service_name, port, protocol) == name


def test_a_service_is_one_of_streams_by_default(call):
    assert call(service_port, "shell") == call(service_port, "shell", "tcp") == 514
    assert call(service_name, 514) == call(service_name, 514, "tcp") == "shell"


@pytest.mark.parametrize(("name", "protocol"), [("no-such-service", "tcp"), ("shell", "udp")])
def test_a_service_that_the_protocol_does_not_have(call, name, protocol):
    with pytest.raises(socket.gaierror):
        call(service_port, name, protocol)


def test_a_port_without_a_name_is_told_as_its_number(call):
    assert call(service_name, 65000) == call(service_name, 65000, "udp") == "65000"


@pytest.mark.parametrize("port", [-1, 65536, True, "443", None])
def test_a_port_that_is_none(call, port):
    with pytest.raises(netnet.AddressError, match="port"):
        call(service_name, port)


@pytest.mark.parametrize("protocol", ["sctp", "", "tcp "])
def test_services_of_another_protocol(call, protocol):
    with pytest.raises(ValueError, match="tcp and udp"):
        call(service_port, "https", protocol)
    with pytest.raises(ValueError, match="tcp and udp"):
        call(service_name, 443, protocol)


def test_a_service_without_a_name_is_unknown(call):
    with pytest.raises(socket.gaierror):
        call(service_port, "")


@pytest.mark.parametrize("port", [-1, 65536, 1 << 70])
def test_a_number_that_is_no_port(call, port):
    with pytest.raises(ValueError, match=str(port)):
        call(lookup, "127.0.0.1", port)


@pytest.mark.parametrize("service", [True, 1.5, b"80", ()])
def test_what_can_be_no_service(call, service):
    with pytest.raises(TypeError):
        call(lookup, "127.0.0.1", service)
