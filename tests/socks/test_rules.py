"""Rules: each condition with what it lets by and what it does not, the order, names before and after they are looked up,
private addresses, every wrong item's message, what a person is told; then any rules and any question against a model
with plain loops; and that ten thousand rules cost as many steps as ten."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
import sys
import timeit
from datetime import datetime
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from netnet.socks.ranges import private
from netnet.socks.requests import Command
from netnet.socks.rule_items import matches
from netnet.socks.rules import DEFAULT, DENY_PRIVATE, Mistake, Route, Rule, Rules, RulesError, Verdict, literal

CONNECT, BIND, ASSOCIATE = Command
UPSTREAM = Route(("socks5://user:secret@10.0.0.1:1080",), "office")
MONDAY_NOON = datetime(2024, 1, 1, 12, 0)


def words(text):
    return text.split()


def packed(text):
    """The bytes of an address; none of a name, none of "unix"."""
    return literal(text) if text else b""


def ask(rules, **question):
    """The verdict; by default of 192.0.2.1's CONNECT to 8.8.8.8, port 443, with private addresses allowed."""
    return rules.judge(**asked(**question))


def asked(
    client="192.0.2.1",
    user=None,
    command=CONNECT,
    host="8.8.8.8",
    address=None,
    port=443,
    deny_private=False,
):
    return {
        "client": packed(client),
        "user": user,
        "command": command,
        "host": host,
        "packed": packed(host if address is None else address),
        "port": port,
        "deny_private": deny_private,
    }


def allows(conditions, now=MONDAY_NOON, **question):
    """Whether a rule with these conditions matches; ``None`` if that takes the address."""
    verdict = ask(Rules([Rule("it", True, **conditions)], default_allow=False, now=lambda: now), **question)
    return None if verdict is None else verdict.allow


@pytest.mark.parametrize("client", ["10.0.0.0", "10.1.2.3", "10.255.255.255", "::ffff:10.1.2.3", "2001:db8::7", "unix"])
def test_clients_that_are_meant(client):
    conditions = {"clients": ("10.0.0.0/8", "2001:db8::/32", "unix")}
    assert allows(conditions, client="" if client == "unix" else client)


@pytest.mark.parametrize("client", ["9.255.255.255", "11.0.0.0", "::10.1.2.3", "2001:db9::", "a00::", ""])
def test_clients_that_are_not(client):
    assert not allows({"clients": ("10.0.0.0/8", "2001:db8::/32")}, client=client)


def test_everybody_on_ipv4_and_nobody_else():
    conditions = {"clients": ("0.0.0.0/0",)}
    assert [allows(conditions, client=client) for client in ("1.2.3.4", "::ffff:1.2.3.4", "::1", "")] == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        ((), ["alice", "bob", "*", "-", None]),
        (("alice",), ["alice"]),
        (("alice", "bob"), ["alice", "bob"]),
        (("*",), ["alice", "bob", "*", "-"]),
        (("-",), [None]),
        (("-", "bob"), ["bob", None]),
        (("*", "alice"), ["alice", "bob", "*", "-"]),
        (("Alice",), []),
    ],
)
def test_users(users, expected):
    assert [user for user in ("alice", "bob", "*", "-", None) if allows({"users": users}, user=user)] == expected


def test_users_of_several_rules():
    rules = Rules([Rule("one", True, users=("alice",)), Rule("any", True, users=("*",)), Rule("all", True)])
    assert [ask(rules, user=user).rule for user in ("alice", "bob", None)] == ["one", "any", "all"]


def test_commands():
    for commands in ((), (BIND,), (CONNECT, ASSOCIATE)):
        expected = [command for command in Command if command in commands or not commands]
        assert [command for command in Command if allows({"commands": commands}, command=command)] == expected


def test_ports():
    conditions = {"ports": ((25, 25), (1000, 2000), (1500, 2500), (65535, 65535))}
    for port in (25, 1000, 1700, 2000, 2001, 2500, 65535):
        assert allows(conditions, port=port)
    for port in (0, 24, 26, 999, 2501, 65534):
        assert not allows(conditions, port=port)


NAMES = [
    ("example.com", "example.com EXAMPLE.com example.com. Example.Com.", "www.example.com xexample.com example.co com"),
    ("Example.COM.", "example.com EXAMPLE.com example.com.", "www.example.com"),
    (
        "*.example.com",
        "a.example.com a.b.example.com A.Example.Com.",
        "example.com .example.com aexample.com a.example",
    ),
    ("*.com", "example.com a.b.com", "com example.org comx"),
    ("*example.com", "example.com badexample.com a.example.com", "example.com.org example.co"),
    ("ads*.example.com", "ads.example.com ads7.example.com ads.x.example.com", "bads.example.com ads.example.org"),
    ("a?.example.com", "ab.example.com a-.example.com", "a.example.com abc.example.com example.com"),
    ("*.a*.com", "x.ab.com x.y.a.com a.a.com", "ab.com x.b.com"),
    ("?*", "com a.b localhost", ""),
    ("localhost", "localhost LOCALHOST localhost.", "localhost.localdomain"),
    ("private.example", "private.example", "private"),
]


@pytest.mark.parametrize(("item", "yes", "no"), NAMES)
def test_names(item, yes, no):
    for host in yes.split():
        assert allows({"destinations": (item,)}, host=host) is True
        assert allows({"destinations": (item,)}, host=host, address="8.8.8.8") is True
    for host in no.split():
        assert allows({"destinations": (item,)}, host=host) is False
        assert allows({"destinations": (item,)}, host=host, address="8.8.8.8") is False


@pytest.mark.parametrize("host", ["8.8.8.8", "::1", "127.1", "0x7f.1", "2130706433", "[::1]", "1.2.3.4."])
def test_a_name_never_matches_an_address(host):
    for item in ("?*", "*1*", "*.example.com", "*8"):
        assert allows({"destinations": (item,)}, host=host) is False


ADDRESSES = [
    ("8.8.8.0/24", "8.8.8.0 8.8.8.255 ::ffff:8.8.8.8", "8.8.7.255 8.8.9.0 ::8.8.8.8 808:800::"),
    ("8.8.8.8", "8.8.8.8", "8.8.8.7 8.8.8.9"),
    ("::ffff:8.8.8.0/120", "8.8.8.8 ::ffff:8.8.8.8", "8.8.9.0"),
    ("2001:db8::/32", "2001:db8:: 2001:db8:ffff::1", "2001:db7:ffff:: 2001:db9:: 32.1.13.184"),
    ("0.0.0.0/0", "8.8.8.8 0.0.0.0 ::ffff:8.8.8.8", "2001:db8:: ::"),
    ("::/0", "2001:db8:: ::", "8.8.8.8 0.0.0.0 ::ffff:8.8.8.8"),
    ("private", "10.0.0.1 127.0.0.1 100.100.100.200 ::1 fe80::1 224.0.0.1 64:ff9b::a00:1 0.0.0.0 ::", "8.8.8.8 2600::"),
    ("public", "8.8.8.8 2600:: 64:ff9b::808:808", "10.0.0.1 127.0.0.1 ::1 0.0.0.0 :: 64:ff9b::a00:1"),
    ("loopback", "127.0.0.1 127.9.9.9 ::1 ::ffff:127.0.0.1 0.0.0.0 ::", "10.0.0.1 8.8.8.8 0.0.0.1 ::2"),
    ("127.0.0.0/8", "127.0.0.1 0.0.0.0", "0.0.0.1 ::1 ::"),
    ("::1", "::1 ::", "127.0.0.1 0.0.0.0 ::2"),
    ("PRIVATE", "10.0.0.1", "8.8.8.8"),
]


@pytest.mark.parametrize(("item", "yes", "no"), ADDRESSES)
def test_addresses(item, yes, no):
    for host in yes.split():
        assert allows({"destinations": (item,)}, host=host) is True
        assert allows({"destinations": (item,)}, host="example.com", address=host) is True
    for host in no.split():
        assert allows({"destinations": (item,)}, host=host) is False
        assert allows({"destinations": (item,)}, host="example.com", address=host) is False
    assert allows({"destinations": (item,)}, host="example.com") is None


def day(number, hour, minute=0):
    """The *number*-th day of a January that began on a Monday."""
    return datetime(2024, 1, number, hour, minute)


MON, TUE, WED, THU, FRI, SAT, SUN = range(1, 8)

TIMES = [
    ("Mon-Fri 08:00-18:00", [(MON, 8), (FRI, 17, 59), (MON + 7, 9)], [(MON, 7, 59), (FRI, 18), (SAT, 12), (SUN, 12)]),
    ("mon-FRI 08:00-18:00", [(MON, 8)], [(SAT, 8)]),
    ("Sat,Sun", [(SAT, 0), (SAT, 23, 59), (SUN, 12)], [(FRI, 23, 59), (MON, 0)]),
    ("Sat-Mon", [(SAT, 0), (SUN, 12), (MON, 23, 59)], [(TUE, 0), (FRI, 23, 59)]),
    ("Wed", [(WED, 0), (WED, 23, 59)], [(TUE, 23, 59), (THU, 0)]),
    ("Tue-Tue", [(TUE, 12)], [(MON, 12), (WED, 12)]),
    ("22:00-06:00", [(MON, 22), (TUE, 5, 59), (SUN, 23), (MON, 0)], [(MON, 6), (MON, 21, 59)]),
    ("Fri 22:00-06:00", [(FRI, 22), (SAT, 0), (SAT, 5, 59)], [(FRI, 0), (FRI, 5), (SAT, 6), (SAT, 22)]),
    ("Sun 22:00-06:00", [(SUN, 22), (MON, 5, 59), (MON + 7, 0)], [(SUN, 5), (MON, 6), (TUE, 3)]),
    ("Mon,Wed-Thu 08:00-09:00,20:00-24:00", [(MON, 8), (WED, 20), (THU, 23, 59)], [(TUE, 8), (MON, 9), (FRI, 0)]),
    ("00:00-24:00", [(MON, 0), (SUN, 23, 59)], []),
]


@pytest.mark.parametrize(("item", "yes", "no"), TIMES)
def test_times(item, yes, no):
    for when in yes:
        assert allows({"times": (item,)}, now=day(*when))
        assert allows({"times": ("Thu 03:00-03:01", item)}, now=day(*when))
    for when in no:
        assert not allows({"times": (item,)}, now=day(*when))


def test_the_clock_is_asked_each_time_and_only_if_there_are_times():
    now = [day(FRI, 17, 59)]
    rules = Rules([Rule("work", True, times=("Mon-Fri 08:00-18:00",))], default_allow=False, now=lambda: now[0])
    assert ask(rules).allow
    now[0] = day(FRI, 18)
    assert not ask(rules).allow
    assert ask(Rules([Rule("any", True)], now=lambda: 1 / 0)).allow


def test_every_condition_has_to_match():
    whole = {
        "clients": ("192.0.2.0/24",),
        "users": ("alice",),
        "commands": (CONNECT,),
        "destinations": ("8.8.8.8",),
        "ports": ((443, 443),),
        "times": ("Mon",),
    }
    question = {"user": "alice"}
    assert allows(whole, **question)
    others = [
        {"client": "192.0.3.1"},
        {"user": "bob"},
        {"command": BIND},
        {"host": "8.8.4.4"},
        {"port": 80},
        {"now": day(TUE, 12)},
    ]
    for other in others:
        assert not allows(whole, **{**question, **other})


def test_the_first_that_matches_decides_else_the_default():
    rules = [
        Rule("no mail", False, ports=((25, 25),)),
        Rule("google", True, destinations=("8.8.8.0/24",), route=UPSTREAM),
        Rule("no eight", False, destinations=("8.0.0.0/8",)),
    ]
    for default_allow in (True, False):
        table = Rules(rules, default_allow=default_allow)
        assert ask(table, port=25) == Verdict(False, "no mail", "rule 'no mail'")
        assert ask(table) == Verdict(True, "google", "rule 'google'", UPSTREAM)
        assert ask(table, host="8.9.9.9") == Verdict(False, "no eight", "rule 'no eight'")
        assert ask(table, host="9.9.9.9")[:2] == (default_allow, DEFAULT)
        assert (table.rules, table.default_allow) == (tuple(rules), default_allow)


def test_no_rules():
    assert ask(Rules([])) == Verdict(True, DEFAULT, "no rule matches, and the default is to allow")
    assert ask(Rules([], default_allow=False)) == Verdict(False, DEFAULT, "no rule matches, and the default is to deny")


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([Rule("a", True)], "a"),
        ([Rule("a", True, destinations=("example.com",))], "a"),
        ([Rule("a", True, destinations=("example.com", "10.0.0.0/8"))], "a"),
        ([Rule("a", True, destinations=("10.0.0.0/8",))], None),
        ([Rule("a", False, destinations=("10.0.0.0/8",))], None),
        ([Rule("a", True, destinations=("private",))], None),
        ([Rule("a", True, destinations=("0.0.0.0/0",))], None),
        ([Rule("a", True, destinations=("10.0.0.0/8",)), Rule("b", True)], None),
        ([Rule("b", True), Rule("a", True, destinations=("10.0.0.0/8",))], "b"),
        ([Rule("a", True, destinations=("10.0.0.0/8",), ports=((80, 80),)), Rule("b", True)], "b"),
        ([Rule("a", True, destinations=("10.0.0.0/8", "example.org"), users=("bob",))], DEFAULT),
        ([Rule("a", True, destinations=("example.org",))], DEFAULT),
    ],
)
def test_a_name_is_looked_up_only_if_the_first_match_may_depend_on_it(rules, expected):
    verdict = ask(Rules(rules), host="example.com")
    assert (verdict and verdict.rule) == expected


#: the addresses that filters of other programs have let by, and what leads to the same
INSIDE = words("""
    127.0.0.1 127.1 0x7f.1 2130706433 017700000001 [::1] ::1 0.0.0.0 0 :: 10.0.0.1 172.16.0.1 192.168.1.1 100.64.0.1
    100.100.100.200 169.254.169.254 198.18.0.1 198.19.255.255 192.0.0.192 224.0.0.1 240.0.0.1 255.255.255.255
    ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:a9fe:a9fe ::127.0.0.1 ::ffff:0:127.0.0.1 64:ff9b::127.0.0.1
    64:ff9b::a9fe:a9fe 64:ff9b:1::8.8.8.8 2002:7f00:1:: 2002:a00:1::1 2001:0:a00:1:: 2001:0:808:808::f5ff:fffe
    fe80::1 fec0::1 fd00:ec2::254 fc00::1 ff02::1 100::1 2001:db8::1 5f00::1 4000::1
""")

OUTSIDE = words(
    "8.8.8.8 1.1.1.1 100.128.0.1 198.20.0.1 172.32.0.1 2600:: 64:ff9b::808:808 2002:808:808::1 ::ffff:8.8.8.8"
)

#: rules that allow the address, but don't name it
UNNAMED = [
    [],
    [Rule("any", True)],
    [Rule("user", True, users=("*",)), Rule("client", True, clients=("192.0.2.1",))],
    [Rule("name", True, destinations=("example.com", "?*", "public"))],
    [Rule("everywhere", True, destinations=("0.0.0.0/0", "::/0"))],
    [Rule("other", True, destinations=("8.8.8.8", "1.0.0.0/8", "2600::/16"))],
    [Rule("upstream", True, route=UPSTREAM)],
    [Rule("not this one", True, destinations=("private",), ports=((80, 80),)), Rule("any", True)],
    [Rule("any", True), Rule("too late", True, destinations=("private",))],
]


@pytest.mark.parametrize("rules", UNNAMED)
@pytest.mark.parametrize("host", INSIDE)
def test_deny_private(host, rules):
    for name in (host, "example.com"):
        for command in (CONNECT, ASSOCIATE):
            question = {"host": name, "address": host, "command": command, "user": "alice"}
            verdict = ask(Rules(rules), deny_private=True, **question)
            special = private(packed(host)).removeprefix("IPv4-mapped: ")
            assert verdict == Verdict(False, DENY_PRIVATE, f"the address is not public: {special}")
            assert ask(Rules(rules), **question).allow


@pytest.mark.parametrize("host", OUTSIDE)
def test_deny_private_lets_public_addresses_by(host):
    for rules in UNNAMED:
        assert ask(Rules(rules), deny_private=True, host=host).allow
        assert ask(Rules(rules), deny_private=True, host="example.com", address=host).allow


@pytest.mark.parametrize(
    ("item", "yes", "no"),
    [
        ("private", "10.0.0.1 127.0.0.1 ::1 0.0.0.0 fe80::1 ::ffff:10.0.0.1 64:ff9b::a00:1", ""),
        ("loopback", "127.0.0.1 ::1 0.0.0.0 :: ::ffff:127.0.0.1", "10.0.0.1 0.0.0.1 fe80::1 64:ff9b::127.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1 ::ffff:10.0.0.1", "172.16.0.1 127.0.0.1 64:ff9b::a00:1 2002:a00:1::"),
        ("8.0.0.0/6", "10.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1 0.0.0.0", "127.0.0.2 ::1 ::"),
        ("fd00::/8", "fd00::1", "fc00::1"),
        ("64:ff9b::/96", "64:ff9b::a00:1", "10.0.0.1"),
        ("0.0.0.0/0", "", "10.0.0.1 127.0.0.1 0.0.0.0"),
    ],
)
def test_a_rule_that_names_an_address_opens_it(item, yes, no):
    rules = Rules([Rule("lan", True, destinations=(item,))])
    for host in yes.split():
        assert ask(rules, deny_private=True, host=host)[:2] == (True, "lan")
        assert ask(rules, deny_private=True, host="example.com", address=host)[:2] == (True, "lan")
    for host in no.split():
        assert ask(rules, deny_private=True, host=host)[:2] == (False, DENY_PRIVATE)


def test_a_rule_that_denies_a_private_address_is_the_one_that_decides():
    rules = Rules([Rule("no", False, destinations=("10.0.0.0/8",))])
    assert ask(rules, host="10.0.0.1", deny_private=True).rule == "no"
    assert ask(Rules([], default_allow=False), host="10.0.0.1", deny_private=True).rule == DEFAULT


def test_names_with_private_addresses_denied():
    rules = Rules(
        [
            Rule("no", False, destinations=("*.evil.example",)),
            Rule("far", True, destinations=("*.far.example",), route=UPSTREAM),
            Rule("near", True, destinations=("*.near.example",)),
        ]
    )
    assert ask(rules, host="a.evil.example", deny_private=True).rule == "no"
    assert ask(rules, host="a.far.example", deny_private=True).rule == "far"
    assert ask(rules, host="a.near.example", deny_private=True) is None
    assert ask(rules, host="example.com", deny_private=True) is None
    assert ask(rules, host="example.com").rule == DEFAULT
    assert ask(Rules([], default_allow=False), host="example.com", deny_private=True).rule == DEFAULT


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::ffff:0.0.0.0"])
def test_any_peer_of_a_bind_is_no_address(host):
    for rules in UNNAMED:
        assert ask(Rules(rules), command=BIND, host=host, deny_private=True).allow
    for item in ("private", "public", "loopback", "127.0.0.0/8", "::1", "example.com"):
        assert ask(Rules([Rule("it", False, destinations=(item,))]), command=BIND, host=host).rule == DEFAULT
    for item in ("0.0.0.0/8", "::/64", "0.0.0.0/0"):
        own_family = (":" in item) is (host == "::")
        assert ask(Rules([Rule("it", False, destinations=(item,))]), command=BIND, host=host).allow is not own_family


def test_a_name_with_the_address_of_any_peer_is_still_a_name():
    rules = Rules([Rule("no", False, destinations=("*.example.com",))])
    for address in ("", "0.0.0.0", "::"):
        assert ask(rules, command=BIND, host="a.example.com", address=address).rule == "no"


def test_a_known_peer_of_a_bind_is_one():
    assert ask(Rules([]), command=BIND, host="10.0.0.1", deny_private=True).rule == DENY_PRIVATE


WRONG = [
    (
        {"destinations": ("10.0.0.1/8",)},
        "rule 'x': destination '10.0.0.1/8' has bits right of the mask; write 10.0.0.0/8",
    ),
    ({"destinations": ("127.1",)}, "destination '127.1' is no address and no network; write 127.0.0.1"),
    ({"destinations": ("256.1.1.1",)}, "destination '256.1.1.1' is no address, and no name either, since it ends in"),
    (
        {"destinations": ("10.*",)},
        "destination '10.*' looks like addresses, but it would match names only; write a netw",
    ),
    ({"destinations": ("*",)}, "destination '*' would match names only, not addresses; leave destinations out for any"),
    (
        {"destinations": (".example.com",)},
        "begins with a dot; write *.example.com for all below example.com, example.com",
    ),
    (
        {"destinations": ("http://example.com/",)},
        "destination 'http://example.com/' is no address and no network (as 10.",
    ),
    ({"destinations": ("example.com:443",)}, "destination 'example.com:443' is no address and no network"),
    ({"destinations": ("exam ple.com",)}, "destination 'exam ple.com' is no address and no name: ' ' cannot be in one"),
    (
        {"destinations": ("bücher.example",)},
        "destination 'bücher.example' is not ASCII; write the name as the DNS has it",
    ),
    (
        {"destinations": ("a..b",)},
        "destination 'a..b' is no name: those have parts between dots, and 1 to 253 characters",
    ),
    ({"destinations": ("",)}, "destination '' is no name: those have parts"),
    ({"destinations": ("a" * 254,)}, "is no name: those have parts"),
    ({"destinations": "10.0.0.0/8"}, "destination '10.0.0.0/8' is one text; write a tuple of texts"),
    ({"clients": ("example.com",)}, "client 'example.com' is no address and no network (as 10.0.0.0/8"),
    ({"clients": ("example.com",)}, ', nor "unix"'),
    (
        {"clients": ("10.0.0.0/40",)},
        "client '10.0.0.0/40' needs the number of bits of its mask after the slash, 0 to 32",
    ),
    ({"clients": ("10.0.0.1/8",)}, "client '10.0.0.1/8' has bits right of the mask; write 10.0.0.0/8"),
    ({"users": ("",)}, 'user \'\' is no name; "-" is who has not logged in, "*" is who has'),
    ({"commands": (7,)}, "command '7' is no command; there are connect, bind, associate"),
    ({"ports": ((70000, 70000),)}, "port '70000' is no range of ports: 70000 is not a number from 0 to 65535"),
    ({"ports": ((-1, 5),)}, "port '-1-5' is no range of ports: -1 is not a number"),
    ({"ports": ((20, 10),)}, "port '20-10' ends before it begins; write 10-20"),
    ({"ports": (("1", "2"),)}, "port '1-2' is no range of ports: '1' is not a number"),
    ({"ports": ((True, 2),)}, "is no range of ports: True is not a number"),
    ({"ports": (80,)}, "port '80' is no range of ports; write a pair, the first and the last"),
    (
        {"times": ("Mo-Fr 08:00-18:00",)},
        "time 'Mo-Fr 08:00-18:00' has 'Mo' where a day should be; days are Mon, Tue, Wed",
    ),
    ({"times": ("Mon Tue",)}, "time 'Mon Tue' is no time; write days, hours, or both, as in \"Mon-Fri 08:00-18:00\""),
    ({"times": ("08:00-18:00 Mon",)}, "is no time; write days, hours, or both"),
    ({"times": ("",)}, "time '' is no time; write days, hours, or both"),
    (
        {"times": ("8:00-18:00",)},
        "time '8:00-18:00' has '8:00' where a time of day should be; write two of them, as in",
    ),
    ({"times": ("08:00",)}, "time '08:00' has '' where a time of day should be"),
    (
        {"times": ("08:00-25:00",)},
        "time '08:00-25:00' has '25:00' where a time of day should be; they go from 00:00 to",
    ),
    ({"times": ("08:00-08:60",)}, "time '08:00-08:60' has '08:60' where a time of day should be"),
    ({"times": ("08:00-24:01",)}, "has '24:01' where a time of day should be"),
    (
        {"times": ("08:00-08:00",)},
        "begins and ends at the same time, 08:00-08:00; leave the hours out for the whole day",
    ),
    ({"times": ("Mon-",)}, "time 'Mon-' has '' where a day should be"),
    ({"route": Route(source="eth0")}, "source 'eth0' is no IP address; write a local one, as 192.0.2.1"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_what_is_wrong_says_where_and_what_to_write(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        Rules([Rule("fine", True), Rule("x", True, **wrong)])
    assert str(caught.value).startswith("rule 'x': ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a", DEFAULT, DENY_PRIVATE])
def test_each_rule_has_a_name_of_its_own(name):
    with pytest.raises(RulesError, match=f"name '{name}' is empty or taken already; give the rule a name of its own"):
        Rules([Rule("a", True), Rule(name, True)])


def test_all_mistakes_are_told_at_once():
    with pytest.raises(RulesError) as caught:
        Rules(
            [
                Rule("a", True, clients=("10.0.0.1/8", "10.0.0.0/8", "x"), times=("never",)),
                Rule("b", True, ports=((9, 1),)),
            ]
        )
    assert [(wrong.number, wrong.rule, wrong.field, wrong.item) for wrong in caught.value.mistakes] == [
        (0, "a", "clients", "10.0.0.1/8"),
        (0, "a", "clients", "x"),
        (1, "b", "ports", "9-1"),
        (0, "a", "times", "never"),
    ]
    assert str(caught.value).splitlines() == [str(wrong) for wrong in caught.value.mistakes]
    assert isinstance(caught.value.mistakes[0], Mistake)


def test_passwords_of_upstreams_are_not_printed():
    rules = Rules([Rule("far", True, route=UPSTREAM)])
    assert "secret" not in repr(rules.rules) + repr(ask(rules)) + repr(rules.explain(**asked()))
    nameless = Rules([Rule("far", True, route=Route(UPSTREAM.upstream))])
    assert nameless.explain(**asked())[-1] == "allowed: rule 'far', through an upstream proxy"


EXPLAINED = Rules(
    [
        Rule("mail", False, ports=((25, 25), (587, 587)), users=("alice", "-")),
        Rule("lan", True, clients=("10.0.0.0/8", "unix"), destinations=("10.0.0.0/8", "*.lan.example")),
        Rule("night", False, times=("22:00-06:00",), commands=(BIND, ASSOCIATE)),
        Rule("web", True, ports=((80, 80), (443, 443), (8000, 8999), (1, 1), (2, 2), (3, 3)), route=UPSTREAM),
        Rule("rest", True, users=("*",)),
    ],
    default_allow=False,
    now=lambda: MONDAY_NOON,
)

EXPLANATIONS = [
    (
        {"user": "bob"},
        [
            "rule 1 'mail' (deny): user bob is not in alice, -; port 443 is not in 25, 587",
            "rule 2 'lan' (allow): client 192.0.2.1 is not in 10.0.0.0/8, unix; "
            "destination 8.8.8.8 is not in 10.0.0.0/8, *.lan.example",
            "rule 3 'night' (deny): command connect is not in bind, associate; time Mon 12:00 is not in 22:00-06:00",
            "rule 4 'web' (allow): matches",
            "allowed: rule 'web', through office",
        ],
    ),
    ({"port": 25}, ["rule 1 'mail' (deny): matches", "denied: rule 'mail'"]),
    (
        {"client": "", "host": "example.com"},
        [
            "rule 1 'mail' (deny): port 443 is not in 25, 587",
            "rule 2 'lan' (allow): needs the address of the destination example.com to tell",
            "undecided: example.com has to be looked up, and each of its addresses is judged",
        ],
    ),
    (
        {"client": "::ffff:10.0.0.1", "host": "x.lan.example", "deny_private": True},
        [
            "rule 1 'mail' (deny): port 443 is not in 25, 587",
            "rule 2 'lan' (allow): matches",
            "undecided: rule 'lan' allows it, unless an address is private; x.lan.example has to be looked up",
        ],
    ),
    (
        {"client": "10.0.0.1", "host": "x.lan.example", "address": "192.168.0.1", "deny_private": True},
        [
            "rule 1 'mail' (deny): port 443 is not in 25, 587",
            "rule 2 'lan' (allow): matches",
            "denied (deny private): the address is not public: private (RFC 1918); "
            "rule 'lan' allows it without naming the address",
        ],
    ),
    (
        {"port": 9, "host": "x.example", "address": "8.8.8.8"},
        [
            "rule 1 'mail' (deny): port 9 is not in 25, 587",
            "rule 2 'lan' (allow): client 192.0.2.1 is not in 10.0.0.0/8, unix; "
            "destination x.example (8.8.8.8) is not in 10.0.0.0/8, *.lan.example",
            "rule 3 'night' (deny): command connect is not in bind, associate; time Mon 12:00 is not in 22:00-06:00",
            "rule 4 'web' (allow): port 9 is not in 80, 443, 8000-8999, 1, 2 ... (6 in all)",
            "rule 5 'rest' (allow): user (nobody has logged in) is not in *",
            "denied: no rule matches, and the default is to deny",
        ],
    ),
]


@pytest.mark.parametrize(("question", "lines"), EXPLANATIONS)
def test_explanations(question, lines):
    assert EXPLAINED.explain(**asked(**question)) == lines


def test_the_default_is_explained():
    assert Rules([]).explain(**asked(host="10.0.0.1", deny_private=True)) == [
        "denied (deny private): the address is not public: private (RFC 1918); "
        "the default allows it without naming the address"
    ]


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=10))
def test_patterns_match_what_those_of_files_match(pattern, text):
    assert matches(pattern, text) is fnmatch.fnmatchcase(text, pattern)


def test_a_pattern_made_to_be_slow_is_not():
    assert steps(matches, "*a" * 100 + "b", "a" * 255) < 20 * 255 * 200


# The model: no tables, no bits, addresses by ``ipaddress``.

THIS_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def plain_address(packed):
    address = ipaddress.ip_address(packed)
    return getattr(address, "ipv4_mapped", None) or address


def in_network(address, item):
    net = ipaddress.ip_network(item)
    return address.version == net.version and address in net


def others_match(rule, now, question):
    """All conditions but the destination."""
    client, user, port = question["client"], question["user"], question["port"]
    if client:
        by_client = any(item != "unix" and in_network(plain_address(client), item) for item in rule.clients)
    else:
        by_client = "unix" in rule.clients
    by_user = any(item == "-" if user is None else item in ("*", user) for item in rule.users)
    return (
        (not rule.clients or by_client)
        and (not rule.users or by_user)
        and (not rule.commands or question["command"] in rule.commands)
        and (not rule.ports or any(first <= port <= last for first, last in rule.ports))
        and (not rule.times or any(in_time(item, now) for item in rule.times))
    )


def in_time(item, now):
    """Of the three forms that the model has."""
    hour = now.hour
    weekend = now.weekday() >= 5
    return {
        "Mon-Fri 08:00-18:00": not weekend and 8 <= hour < 18,
        "Sat,Sun": weekend,
        "22:00-06:00": hour >= 22 or hour < 6,
    }[item]


def item_says(item, question):
    """Of a destination: whether it matches and whether it names the address; ``None``: that takes the address."""
    host, packed = question["host"].lower().rstrip("."), question["packed"]
    if item in PATTERNS:
        return (not is_address(host) and fnmatch.fnmatchcase(host, item)), False
    if not packed:
        return None
    address = plain_address(packed)
    return address_says(item, address, question["command"] is BIND and str(address) in THIS_HOST)


def address_says(item, address, any_peer):
    special = None if any_peer else private(address.packed)
    if item in ("private", "public", "loopback"):
        here = address.is_loopback or str(address) in THIS_HOST
        found = {"private": special, "public": not special and not any_peer, "loopback": here and not any_peer}[item]
        return bool(found), item != "public"
    found = in_network(address, item)
    if str(address) in THIS_HOST and not any_peer:
        found = found or (in_network(ipaddress.ip_address(THIS_HOST[str(address)]), item) and not item.endswith("/0"))
    return found, not item.endswith("/0")


def is_address(host):
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def model(rules, default_allow, now, question):
    """The verdict's first two parts, or ``None``."""
    for rule in rules:
        if not others_match(rule, now, question):
            continue
        said = [item_says(item, question) for item in rule.destinations]
        if not said or any(one and one[0] for one in said):
            names_it = any(one and one[0] and one[1] for one in said)
            return model_private(rule.allow, rule.name, bool(rule.route.upstream), names_it, question)
        if None in said:
            return None
    return model_private(default_allow, DEFAULT, False, False, question)


def model_private(allow, name, upstream, names_it, question):
    packed = question["packed"]
    if not allow or not question["deny_private"]:
        return allow, name
    if not packed:
        return (allow, name) if upstream else None
    address = plain_address(packed)
    if question["command"] is BIND and str(address) in THIS_HOST:
        return allow, name
    return (allow, name) if names_it or not private(address.packed) else (False, DENY_PRIVATE)


def some(values, size=2):
    return st.just(()) | st.lists(st.sampled_from(values), max_size=size).map(tuple)


NETS = words("10.0.0.0/8 10.1.0.0/16 10.1.2.3 127.0.0.1 0.0.0.0/0 ::/0 8.0.0.0/7 fd00::/8 ::1 0.0.0.0/32")
HOSTS = words("a.example b.a.example c.b.a.example example xa.example A.Example. b.org")
PATTERNS = words("a.example *.a.example *a.example *.example *.b.* b?org")
ADDRESSES_ASKED = words("10.1.2.3 10.1.9.9 10.9.9.9 8.8.8.8 127.0.0.1 0.0.0.0 :: ::1 fd00::1 2600::1 ::ffff:10.1.2.3")
TIME_ITEMS = ["Mon-Fri 08:00-18:00", "Sat,Sun", "22:00-06:00"]
PORTS = [(25, 25), (80, 443), (100, 9000), (0, 65535)]

rule_sets = st.lists(
    st.builds(
        Rule,
        name=st.just("x"),
        allow=st.booleans(),
        clients=some([*NETS, "unix"]),
        users=some(["alice", "bob", "*", "-"]),
        commands=some(list(Command)),
        destinations=some([*NETS, *PATTERNS, "private", "loopback", "public"], 4),
        ports=some(PORTS),
        times=some(TIME_ITEMS),
        route=st.sampled_from([Route(), UPSTREAM]),
    ),
    max_size=6,
).map(lambda rules: [named(rule, number) for number, rule in enumerate(rules)])


def named(rule, number):
    fields = {name: getattr(rule, name) for name in Rule.__slots__}
    return Rule(**{**fields, "name": f"r{number}"})


@st.composite
def questions(draw):
    looked_up = draw(st.sampled_from(["", *ADDRESSES_ASKED]))
    host = draw(st.sampled_from(HOSTS)) if not looked_up or draw(st.booleans()) else looked_up
    return asked(
        client=draw(st.sampled_from(["", *ADDRESSES_ASKED])),
        user=draw(st.sampled_from([None, "alice", "bob", "carol"])),
        command=draw(st.sampled_from(list(Command))),
        host=host,
        address=looked_up,
        port=draw(st.sampled_from([0, 25, 80, 443, 8999, 65535])),
        deny_private=draw(st.booleans()),
    )


@settings(max_examples=600, deadline=None)
@given(rule_sets, questions(), st.booleans(), st.sampled_from([day(MON, 12), day(SAT, 12), day(SUN, 23), day(FRI, 3)]))
@example([], asked(host="0.0.0.0", deny_private=True), True, MONDAY_NOON)
def test_any_rules_and_any_question(rules, question, default_allow, now):
    table = Rules(rules, default_allow=default_allow, now=lambda: now)
    verdict = table.judge(**question)
    assert (verdict and verdict[:2]) == model(rules, default_allow, now, question)
    told = table.explain(**question)[-1]
    assert told.split()[0].strip(":") == ("undecided" if verdict is None else "allowed" if verdict.allow else "denied")


def many(count):
    """So many rules, each with all the conditions, of which the last is met by ``late(count)``."""
    return Rules(
        [
            Rule(
                f"r{number}",
                True,
                clients=(f"10.{number // 256}.{number % 256}.0/24",),
                users=(f"u{number}",),
                commands=(CONNECT,),
                destinations=(f"20.{number // 256}.{number % 256}.0/24", f"*.h{number}.example"),
                ports=((number, number + 9),),
                times=("Mon", f"Tue 08:00-{10 + number % 10}:00"),
            )
            for number in range(count)
        ],
        default_allow=False,
        now=lambda: MONDAY_NOON,
    )


def late(count, address=True):
    number = count - 1
    return asked(
        client=f"10.{number // 256}.{number % 256}.1",
        user=f"u{number}",
        host=f"a.h{number}.example",
        address=f"20.{number // 256}.{number % 256}.1" if address else "",
        port=number,
    )


def steps(function, *args, **kwargs):
    """How many instructions of Python a call takes."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function(*args, **kwargs)
    finally:
        sys.settrace(before)
    return count


@pytest.fixture(scope="module")
def small_and_large():
    return [(many(count), count) for count in (10, 10_000)]


@pytest.mark.parametrize("address", [True, False])
def test_ten_thousand_rules_take_as_many_steps_as_ten(small_and_large, address):
    few, lots = (steps(rules.judge, **late(count, address)) for rules, count in small_and_large)
    assert few == lots
    for rules, count in small_and_large:
        assert ask_last(rules, count, address) == f"r{count - 1}"


def ask_last(rules, count, address):
    return rules.judge(**late(count, address)).rule


def test_and_about_as_much_time(small_and_large):
    """The integers are longer: measured 1.6 times as long. A loop over the rules would take hundreds of times."""
    few, lots = (
        min(timeit.repeat(partial(rules.judge, **late(count)), number=200, repeat=7))
        for rules, count in small_and_large
    )
    assert lots < 20 * few


def test_a_long_list_of_addresses_takes_as_many_steps_as_a_short_one():
    taken = []
    for count in (10, 5_000):
        items = tuple(f"8.{number // 256}.{number % 256}.7" for number in range(count))
        rules = Rules([Rule("no", False, destinations=(*items, *(f"h{number}.example" for number in range(count))))])
        assert ask(rules, host=items[-1]).rule == "no"
        taken.append(steps(rules.judge, **asked(host="8.0.0.8")))
    assert taken[0] == taken[1]
