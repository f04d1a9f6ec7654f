"""resolv.conf(5): whom to ask, and how; what cannot be read is left out."""

from __future__ import annotations

import socket

import pytest

import netnet
from netnet.kernel.address import IPv4Address, IPv6Address
from netnet.net.dns_conf import Conf, candidates, read_conf, server_address


@pytest.fixture(autouse=True)
def plain_machine(monkeypatch):
    """A machine without a domain, and an environment that says nothing."""
    monkeypatch.delenv("LOCALDOMAIN", raising=False)
    monkeypatch.delenv("RES_OPTIONS", raising=False)
    monkeypatch.setattr(socket, "gethostname", lambda: "machine")


HERE = (IPv4Address("127.0.0.1", 53),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Conf(servers=HERE)),
        ("# nameserver 192.0.2.1\n; nameserver 192.0.2.2", Conf(servers=HERE)),
        ("nameserver", Conf(servers=HERE)),
        ("nameserver ns.test\nnameserver 192.0.2.1:53", Conf(servers=HERE)),
        (
            "nameserver 192.0.2.1 # first\nnameserver\t2001:db8::1\n",
            Conf(servers=(IPv4Address("192.0.2.1", 53), IPv6Address("2001:db8::1", 53))),
        ),
        ("nameserver fe80::1%lo", Conf(servers=(IPv6Address("fe80::1", 53, 0, "lo"),))),
        (
            "".join(f"nameserver 192.0.2.{number}\n" for number in range(1, 6)),
            Conf(servers=tuple(IPv4Address(f"192.0.2.{number}", 53) for number in range(1, 4))),
        ),
        ("search One.test two.test.", Conf(servers=HERE, search=("one.test", "two.test"))),
        ("search one.test\ndomain two.test three.test", Conf(servers=HERE, search=("two.test",))),
        ("domain two.test\nsearch one.test", Conf(servers=HERE, search=("one.test",))),
        ("search . bücher.test a.test", Conf(servers=HERE, search=("a.test",))),
        ("options ndots:3 timeout:7 attempts:4", Conf(servers=HERE, ndots=3, timeout_seconds=7, attempts=4)),
        ("options ndots:99 timeout:99 attempts:99", Conf(servers=HERE, ndots=15, timeout_seconds=30, attempts=5)),
        ("options ndots:0 timeout:0 attempts:0", Conf(servers=HERE, ndots=0, timeout_seconds=1, attempts=1)),
        ("options ndots:x timeout: attempts attempts:-1 nonsense inet6", Conf(servers=HERE)),
        ("options ndots:" + "9" * 5000, Conf(servers=HERE, ndots=15)),
        (
            "options rotate use-vc\noptions edns0 single-request",
            Conf(servers=HERE, rotate=True, use_tcp=True, single_request=True),
        ),
        ("options single-request-reopen", Conf(servers=HERE, single_request=True)),
        ("\0\ufffd nonsense\nsearch", Conf(servers=HERE)),
    ],
)
def test_what_a_file_says(text, expected):
    assert read_conf(text) == expected


def test_the_environment_has_the_last_word(monkeypatch):
    monkeypatch.setenv("LOCALDOMAIN", "env.test more.test")
    monkeypatch.setenv("RES_OPTIONS", "ndots:2 rotate")
    assert read_conf("search one.test\noptions ndots:5 attempts:3") == Conf(
        servers=HERE, search=("env.test", "more.test"), ndots=2, attempts=3, rotate=True
    )


def test_the_machines_own_domain_is_searched_where_the_file_names_none(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "machine.our.test")
    assert read_conf("").search == ("our.test",)
    assert read_conf("search one.test").search == ("one.test",)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("127.0.0.1", IPv4Address("127.0.0.1", 53)),
        ("127.0.0.1:5353", IPv4Address("127.0.0.1", 5353)),
        ("::1", IPv6Address("::1", 53)),
        ("[::1]", IPv6Address("::1", 53)),
        ("[::1]:5353", IPv6Address("::1", 5353)),
        ("[fe80::1%lo]:5353", IPv6Address("fe80::1", 5353, 0, "lo")),
        (IPv6Address("::1", 99), IPv6Address("::1", 99)),
    ],
)
def test_servers_in_every_form(told, expected):
    assert server_address(told) == expected


@pytest.mark.parametrize(
    "told",
    [
        "",
        "ns.test",
        "ns.test:53",
        "127.0.0.1:",
        "127.0.0.1:99999",
        "unix:/run/s",
        "[::1",
        netnet.HostAddress("ns.test", 53),
    ],
)
def test_what_is_no_server(told):
    with pytest.raises(netnet.AddressError):
        server_address(told)


@pytest.mark.parametrize(
    ("name", "ndots", "expected"),
    [
        ("db", 1, ["db.one", "db.two", "db"]),
        ("db", 0, ["db", "db.one", "db.two"]),
        ("a.db", 1, ["a.db", "a.db.one", "a.db.two"]),
        ("a.db", 2, ["a.db.one", "a.db.two", "a.db"]),
        ("db.", 1, ["db"]),
    ],
)
def test_names_to_ask_for(name, ndots, expected):
    conf = Conf(search=("one", "two"), ndots=ndots)
    assert candidates(name, conf, lambda whole: True) == expected
    assert candidates(name, conf, lambda whole: False) == [name.removesuffix(".")]
