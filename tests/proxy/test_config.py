"""The configuration file: what each key becomes, what is wrong with wrong ones and in which line, and what is refused for
safety's sake."""

from __future__ import annotations

import dataclasses
import os
import pwd
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import netnet
from netnet.kernel.address import parse_address
from netnet.proxy import config, reference
from netnet.proxy.config import Configuration, ConfigurationError, default_configuration, load, parse
from netnet.proxy.keys import LIMITS, SEVERAL, TABLES
from netnet.proxy.problems import Problem
from netnet.socks.requests import Command
from netnet.socks.rules import Route
from netnet.socks.settings import PROTOCOLS, Authentication, Limits, User

ROOT = Path(__file__).parents[2]

#: a hash of the right form; nothing is computed here
HASH = "$scrypt$ln=15,r=8,p=3$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
ARGON2 = "$argon2id$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

LISTEN = '[[listener]]\naddress = "127.0.0.1:1080"\n'
USERS = f'[users]\nalice = "{HASH}"\n'


def problems(text, name="f"):
    with pytest.raises(ConfigurationError) as caught:
        parse(text, name)
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return caught.value.problems


def told(text):
    """(line, key, message) of each problem."""
    return [(one.line, one.key, one.text) for one in problems(text)]


# -- what is right


def test_the_least_that_is_a_configuration():
    found = parse(LISTEN)
    (listener,) = found.listeners
    assert listener.address == parse_address("127.0.0.1:1080")
    assert listener.entrance.name == "127.0.0.1:1080"
    assert listener.entrance.protocols == PROTOCOLS
    assert listener.entrance.authentication is Authentication.NONE
    assert found.settings.limits == Limits()
    assert found.settings.users == {}
    assert found.settings.rules is None
    assert (found.workers, found.drain_seconds, found.user, found.group) == (None, 30.0, None, None)
    assert (found.log, found.log_connections, found.metrics, found.status) == ("text", True, None, None)
    assert (found.name_servers, found.file, found.warnings) == ((), None, ())


def test_the_defaults_of_keys_are_those_of_the_class():
    found = parse(LISTEN)
    assert found == Configuration(found.listeners, found.settings)


SERVICE = [
    ("workers = 3", "workers", 3),
    ('drain = "2 min"', "drain_seconds", 120.0),
    ('drain = "0 s"', "drain_seconds", 0.0),
    ('user = "nobody"', "user", "nobody"),
    ('user = "nobody"\ngroup = "root"', "group", "root"),
    ('log = "json"', "log", "json"),
    ("log_connections = false", "log_connections", False),
    ('metrics = "127.0.0.1:9180"', "metrics", parse_address("127.0.0.1:9180")),
    ('status = "/run/netnet/proxy.sock"', "status", "/run/netnet/proxy.sock"),
    ('name_servers = ["9.9.9.9", "[2620:fe::9]:5353"]', "name_servers", ("9.9.9.9", "[2620:fe::9]:5353")),
]


@pytest.mark.parametrize(("line", "field", "value"), SERVICE)
def test_the_service(line, field, value):
    assert getattr(parse(f"[proxy]\n{line}\n{LISTEN}"), field) == value


LIMIT_VALUES = [
    ('handshake = "500 ms"', "handshake_seconds", 0.5),
    ('connect = "1.5 min"', "connect_seconds", 90.0),
    ('bind = "10s"', "bind_seconds", 10.0),
    ('idle = "never"', "idle_seconds", None),
    ('idle = "2 d"', "idle_seconds", 172800.0),
    ('linger = "1 h"', "linger_seconds", 3600.0),
    ("connections = 10", "connections", 10),
    ("connections_per_user = 10", "connections_per_user", 10),
    ("connections_per_client = 10", "connections_per_client", 10),
    ('new_connections_per_client = "300/min"', "new_connections_per_second_per_client", 5.0),
    ("new_connections_burst = 7", "new_connections_burst", 7),
    ('bandwidth_per_connection = "10 MB/s"', "bandwidth_per_connection", 10_000_000),
    ('bandwidth_per_connection = "1 MiB/s"', "bandwidth_per_connection", 1 << 20),
    ('bandwidth_per_user = "80 Mbit/s"', "bandwidth_per_user", 10_000_000),
    ("failed_logins_free = 0", "failed_logins_free", 0),
    ('failed_login_delay = "0 s"', "failed_login_delay_seconds", 0.0),
    ("failed_logins_max = 1", "failed_logins_max", 1),
    ('ban = "1 d"', "ban_seconds", 86400.0),
    ("udp_targets = 1", "udp_targets", 1),
    ('udp_idle = "30 s"', "udp_idle_seconds", 30.0),
]


@pytest.mark.parametrize(("line", "field", "value"), LIMIT_VALUES)
def test_limits(line, field, value):
    assert parse(f"{LISTEN}[limits]\n{line}").settings.limits == dataclasses.replace(Limits(), **{field: value})


def test_every_limit_has_one_key():
    fields = [field.name for field in dataclasses.fields(Limits)]
    assert [key.field for key in LIMITS] == fields
    assert {field for _, field, _ in LIMIT_VALUES} == set(fields)


ENTRANCES = [
    ('name = "x"', {"name": "x"}),
    ('protocols = ["http"]', {"protocols": frozenset({"http"})}),
    ('authentication = "optional"', {"authentication": Authentication.OPTIONAL}),
    ('authentication = "password"', {"authentication": Authentication.PASSWORD}),
    ("deny_private = true", {"deny_private": True}),
    ('advertise = "203.0.113.7"', {"advertise": "203.0.113.7"}),
    ('ports = "40000-40999"', {"ports": (40000, 40999)}),
    ("strict_udp = true", {"strict_udp": True}),
    (
        'authentication = "password"\nproxy_protocol_from = ["10.0.0.0/8", "::1"]',
        {
            "authentication": Authentication.PASSWORD,
            "proxy_protocol": True,
            "proxy_protocol_from": ("10.0.0.0/8", "::1"),
            "deny_private": True,
        },
    ),
]


@pytest.mark.parametrize(("lines", "fields"), ENTRANCES)
def test_entrances(lines, fields):
    plain = parse(LISTEN).listeners[0].entrance
    assert parse(f"{LISTEN}{lines}\n{USERS}").listeners[0].entrance == dataclasses.replace(plain, **fields)


def test_users():
    text = f'{USERS}[users.bob]\npassword = "{ARGON2}"\nconnections = 10\nbandwidth = "2 MB/s"\n{LISTEN}'
    assert parse(text).settings.users == {
        "alice": User("alice", HASH),
        "bob": User("bob", ARGON2, connections=10, bandwidth=2_000_000),
    }


def judge(found, host="example.com", packed=b"\x01\x02\x03\x04", port=443, user=None, client=b"\x7f\0\0\1"):
    rules = found.settings.rules
    return rules.judge(client, user, Command.CONNECT, host, packed, port, deny_private=False)


def test_rules():
    found = parse(
        f"""
        {LISTEN}{USERS}
        [upstreams]
        office = ["socks5://user:p%40ss@10.0.0.1:1080", "http://[::1]:3128"]
        [[rule]]
        action = "deny"
        ports = [25, "1000-2000"]
        [[rule]]
        name = "staff"
        action = "allow"
        clients = ["127.0.0.0/8", "unix"]
        users = ["alice"]
        commands = ["connect", "bind"]
        destinations = ["1.2.3.4", "*.example.com"]
        times = ["Mon-Sun"]
        upstream = "office"
        source = "192.0.2.1"
        interface = "eth0"
        mark = 0x10
        [proxy]
        default_rule = "deny"
        """
    )
    assert judge(found, port=25)[:2] == (False, "rule 1")
    assert judge(found, port=1500)[:2] == (False, "rule 1")
    allowed = judge(found, user="alice")
    assert allowed[:2] == (True, "staff")
    assert allowed.route == Route(
        upstream=("socks5://user:p%40ss@10.0.0.1:1080", "http://[::1]:3128"),
        upstream_name="office",
        source="192.0.2.1",
        interface="eth0",
        mark=16,
    )
    assert not judge(found).allow
    assert not judge(found, user="alice", client=b"\x0a\0\0\1").allow
    assert not judge(found, user="alice", packed=b"\x01\x02\x03\x05").allow


def test_the_default_rule_alone():
    found = parse(f'[proxy]\ndefault_rule = "deny"\n{LISTEN}')
    assert not judge(found).allow
    assert [str(one) for one in found.warnings] == [
        'configuration:2: proxy.default_rule: is "deny", and there are no rules: every request will be denied'
    ]


def test_a_file_with_a_byte_order_mark_and_windows_lines(tmp_path):
    path = tmp_path / "f.toml"
    path.write_bytes(b"\xef\xbb\xbf" + LISTEN.replace("\n", "\r\n").encode())
    path.chmod(0o644)
    found = load(path)
    assert found.file == str(path)
    assert found == dataclasses.replace(parse(LISTEN), file=str(path), listeners=found.listeners)
    assert found.listeners[0].entrance == parse(LISTEN).listeners[0].entrance


# -- what is wrong: a line of the file, its key, a part of the message

WRONG = [
    # tables
    ("[listner]\na = 1", "listner", 'did you mean "listener"?'),
    ("prxy = 1", "prxy", 'did you mean "proxy"?'),
    ("zzz = 1", "zzz", "is not known here"),
    ("workers = 1", "workers", "belongs below [proxy]"),
    ("password = 1", "password", "belongs below [users.NAME]"),
    ("action = 1", "action", "belongs below [[rule]]"),
    ("proxy = 1", "proxy", "write [proxy]"),
    ("[[proxy]]\nlog = 1", "proxy", "write [proxy]"),
    ("[rule]\naction = 'deny'", "rule", "write [[rule]], with two brackets"),
    ("rule = [1]", "rule", "write [[rule]]"),
    ("users = []", "users", "write [users]"),
    # the service
    ("[proxy]\nworkers = 0", "proxy.workers", "0 is out of range: from 1 to 1024"),
    ("[proxy]\nworkers = 1025", "proxy.workers", "1025 is out of range: from 1 to 1024"),
    ("[proxy]\nworkers = true", "proxy.workers", "has to be a whole number from 1 to 1024, not a boolean"),
    ("[proxy]\nworkers = 1.5", "proxy.workers", "has to be a whole number from 1 to 1024, not a number"),
    ("[proxy]\nworkers = '2'", "proxy.workers", "not a text"),
    ("[proxy]\nworkers = 1979-05-27", "proxy.workers", "not a date or a time"),
    ("[proxy]\nworkers = [1]", "proxy.workers", "not a list"),
    ("[proxy]\nworkers = {}", "proxy.workers", "not a table"),
    ("[proxy]\nworker = 1", "proxy.worker", 'did you mean "workers"?'),
    ("[proxy]\ndrain_seconds = 1", "proxy.drain_seconds", 'did you mean "drain"?'),
    ("[proxy]\nidle = 1", "proxy.idle", "belongs below [limits]"),
    ("[proxy]\ndrain = 30", "proxy.drain", '30 has no unit; a time is written like "30 s"'),
    ("[proxy]\ndrain = '30 sec'", "proxy.drain", '"30 sec" is not a time; write it like "30 s", with one of ms, s, min, h'),
    ("[proxy]\ndrain = '-1 s'", "proxy.drain", "is not a time"),
    ("[proxy]\ndrain = '25 h'", "proxy.drain", '"25 h" is out of range: from "0 s" to "24 h"'),
    ("[proxy]\nuser = 'no such'", "proxy.user", 'there is no user "no such" on this machine'),
    ("[proxy]\nuser = ''", "proxy.user", "has to be a user"),
    ("[proxy]\nuser = 'nobody'\ngroup = 'no such'", "proxy.group", 'there is no group "no such"'),
    ("[proxy]\ngroup = 'root'", "proxy.group", "write user, too"),
    ("[proxy]\nlog = 'jsn'", "proxy.log", '"jsn" is none of "text" or "json"; did you mean "json"?'),
    ("[proxy]\nlog_connections = 1", "proxy.log_connections", "has to be true or false, not a number"),
    ("[proxy]\nmetrics = '9180'", "proxy.metrics", "has no port"),
    ("[proxy]\nmetrics = 'unix:/x'", "proxy.metrics", "is a UNIX socket"),
    ("[proxy]\nmetrics = '127.0.0.1:1080'", "proxy.metrics", "is the address of a listener"),
    ("[proxy]\nstatus = 'x'", "proxy.status", "a whole path, from / on"),
    (f"[proxy]\nstatus = '/{'x' * 200}'", "proxy.status", "107 bytes"),
    ("[proxy]\nname_servers = '9.9.9.9'", "proxy.name_servers", "has to be a list in brackets"),
    ("[proxy]\nname_servers = []", "proxy.name_servers", "is an empty list"),
    ("[proxy]\nname_servers = ['dns.test']", "proxy.name_servers[1]", "has no port"),
    ("[proxy]\nname_servers = ['dns.test:53']", "proxy.name_servers[1]", "told by its IP address"),
    ("[proxy]\nname_servers = [9]", "proxy.name_servers[1]", "an IP address in quotation marks, not a number"),
    ("[proxy]\ndefault_rule = 'reject'", "proxy.default_rule", 'none of "allow" or "deny"'),
    # listeners
    ("[[listener]]", "listener[2]", "needs address"),
    ("[[listener]]\naddress = 1080", "listener[2].address", 'has to be an address, like "127.0.0.1:1080"'),
    ("[[listener]]\naddress = '1080'", "listener[2].address", "has no port"),
    ("[[listener]]\naddress = '::1:1080'", "listener[2].address", "an IPv6 address needs brackets"),
    ("[[listener]]\naddress = 'systemd:'", "listener[2].address", "FileDescriptorName="),
    ("[[listener]]\naddress = 'systemd:a b'", "listener[2].address", "FileDescriptorName="),
    ("[[listener]]\naddress = '127.0.0.1:1080'", "listener[2].address", "is taken already, by the one in line 1"),
    ("[[listener]]\naddress = '[::1]:1'\nname = '127.0.0.1:1080'\n[[listener]]\naddress = '[::1]:2'\nname = '127.0.0.1:1080'",
     "listener[3].name", "is taken already, by the one in line 3"),
    ("[[listener]]\naddress = '[::1]:1'\nprotocols = ['socks']", "listener[2].protocols[1]", 'did you mean "socks'),
    ("[[listener]]\naddress = '[::1]:1'\nprotocols = []", "listener[2].protocols", "empty list"),
    ("[[listener]]\naddress = '[::1]:1'\nadvertise = 'me.test'", "listener[2].advertise", "is no IP address"),
    ("[[listener]]\naddress = '[::1]:1'\nports = 40000", "listener[2].ports", "a range of ports"),
    ("[[listener]]\naddress = '[::1]:1'\nports = '40000'", "listener[2].ports", "not a range of ports"),
    ("[[listener]]\naddress = '[::1]:1'\nports = '2-1'", "listener[2].ports", 'ends before it begins; write "1-2"'),
    ("[[listener]]\naddress = '[::1]:1'\nports = '0-1'", "listener[2].ports", "0 is no port"),
    ("[[listener]]\naddress = '[::1]:1'\nproxy_protocol_from = []", "listener[2].proxy_protocol_from", "empty list"),
    ("[[listener]]\naddress = '[::1]:1'\nproxy_protocol_from = ['unix']", "listener[2].proxy_protocol_from", "is none"),
    ("[[listener]]\naddress = '[::1]:1'\nproxy_protocol_from = ['10.0.0.1/8']", "listener[2].proxy_protocol_from[1]",
     "write 10.0.0.0/8"),
    ("[[listener]]\naddress = '[::1]:1'\nauthentication = 'password'", "listener[2].authentication", "there are no [users]"),
    ("[[listener]]\naddress = '[::1]:1'\nauthentication = 'password'\nprotocols = ['socks4']", "listener[2].protocols",
     '"socks4" has no passwords'),
    ("[[listener]]\naddress = 'systemd'\n[[listener]]\naddress = 'systemd:x'", "listener[2].address", "name them all"),
    # users
    ("[users]\nbob = 'hunter2'", "users.bob", "netnet proxy hash-password"),
    ("[users]\nbob = 1", "users.bob", "netnet proxy hash-password"),
    ("[users.bob]\npassword = 'hunter2'", "users.bob.password", "netnet proxy hash-password"),
    ("[users.bob]\nconnections = 1", "users.bob", "needs password"),
    (f"[users.bob]\npassword = '{HASH}'\nconnections = 0", "users.bob.connections", "out of range"),
    (f"[users.bob]\npassword = '{HASH}'\nbandwidth = '1 B/s'", "users.bob.bandwidth", '"1 B/s" is out of range: from "1 kB/s"'),
    (f"[users.bob]\npassword = '{HASH}'\nbandwidth = '1 MB'", "users.bob.bandwidth", 'write it like "10 MB/s"'),
    (f"[users]\nbob = '{HASH[:-20]}$'", "users.bob", "damaged scrypt hash"),
    (f"[users]\n'a:b' = '{HASH}'", 'users."a:b"', "no colon"),
    (f"[users]\n'*' = '{HASH}'", 'users."*"', "take another name"),
    (f"[users]\n'' = '{HASH}'", 'users.""', "1 to 255 bytes"),
    (f"[users]\n{'x' * 256} = '{HASH}'", f"users.{'x' * 256}", "1 to 255 bytes"),
    # upstreams
    ("[upstreams]\na = 'socks5://10.0.0.1:1080'", "upstreams.a", "has to be a list"),
    ("[upstreams]\na = []", "upstreams.a", "empty list"),
    ("[upstreams]\na = [1]", "upstreams.a[1]", "the URL of a proxy"),
    ("[upstreams]\na = ['10.0.0.1:1080']", "upstreams.a[1]", "begins with none of socks4://"),
    ("[upstreams]\na = ['https://10.0.0.1:1080']", "upstreams.a[1]", "TLS to a proxy is not spoken here"),
    ("[upstreams]\na = ['socks5://:1080']", "upstreams.a[1]", "a proxy has a host"),
    ("[upstreams]\na = ['http://h:1',\n'socks5://h:99999']", "upstreams.a[2]", "is a number from 1 to 65535"),
    ("[upstreams]\na = ['socks4://u:p@h:1']", "upstreams.a[1]", "SOCKS4 has no passwords"),
    ("[upstreams]\na = ['http://h:1', 'socks5://unix:/x']", "upstreams.a", "only the first proxy of a chain"),
    (f"[upstreams]\na = {['http://h:1'] * 9}", "upstreams.a", "1 to 8 proxies, not 9"),
    # rules
    ("[[rule]]\nname = 'x'\nports = [1]", "rule[1]", "needs action"),
    ("[[rule]]\naction = 'drop'", "rule[1].action", 'none of "allow" or "deny"'),
    ("[[rule]]\naction = 'deny'\nport = [25]", "rule[1].port", 'did you mean "ports"?'),
    ("[[rule]]\naction = 'deny'\nports = 25", "rule[1].ports", "has to be a list in brackets"),
    ("[[rule]]\naction = 'deny'\nports = ['25']", "rule[1].ports[1]", "write 25 without quotation marks"),
    ("[[rule]]\naction = 'deny'\nports = [70000]", "rule[1].ports[1]", "70000 is no port"),
    ("[[rule]]\naction = 'deny'\nports = [25,\n\n  true]", "rule[1].ports[2]", "a port, like 443"),
    ("[[rule]]\naction = 'deny'\nusers = ['alic']", "rule[1].users[1]", 'there is no "alic" in [users]'),
    ("[[rule]]\naction = 'deny'\ncommands = ['udp']", "rule[1].commands[1]", 'none of "connect", "bind", "associate"'),
    ("[[rule]]\naction = 'deny'\nclients = ['10.0.0.1/8']", "rule[1].clients[1]", "write 10.0.0.0/8"),
    ("[[rule]]\naction = 'deny'\ndestinations = ['10.0.0.0/8',\n'a b']", "rule[1].destinations[2]", "no name"),
    ("[[rule]]\naction = 'deny'\ntimes = ['Mo-Fr']", "rule[1].times[1]", "days are Mon"),
    ("[[rule]]\naction = 'deny'\nupstream = 'x'", "rule[1].upstream", 'the action is "deny"'),
    ("[[rule]]\naction = 'allow'\nupstream = 'x'", "rule[1].upstream", 'there is no "x" in [upstreams]'),
    ("[[rule]]\naction = 'allow'\nupstream = 'socks5://h:1'", "rule[1].upstream", "URLs stand there"),
    ("[[rule]]\naction = 'allow'\nsource = 'eth0'", "rule[1].source", "is no IP address"),
    ("[[rule]]\naction = 'allow'\ninterface = 'a interface'", "rule[1].interface", "no space"),
    ("[[rule]]\naction = 'allow'\ninterface = 'abcdefghijklmnop'", "rule[1].interface", "1 to 15 bytes"),
    ("[[rule]]\naction = 'allow'\nmark = -1", "rule[1].mark", "out of range"),
    ("[[rule]]\naction = 'deny'\nname = 'x'\nports = [1]\n[[rule]]\naction = 'deny'\nname = 'x'", "rule[2].name",
     "taken already"),
    ("[[rule]]\naction = 'deny'\nname = 'x'\n[[rule]]\naction = 'deny'", "rule[2]", 'never reached: rule 1 ("x") has no'),
    # limits
    ("[limits]\nidle_seconds = 3600", "limits.idle_seconds", 'did you mean "idle"?'),
    ("[limits]\nidle = 0", "limits.idle", "has no unit"),
    ("[limits]\nconnect = 'never'", "limits.connect", "is not a time"),
    ("[limits]\nnew_connections_per_client = 10", "limits.new_connections_per_client", 'has to be a rate, like "10/s"'),
    ("[limits]\nnew_connections_per_client = '10/d'", "limits.new_connections_per_client", "one of /s, /min, /h"),
    ("[limits]\nnew_connections_per_client = '0/s'", "limits.new_connections_per_client", "out of range"),
    ("[limits]\nbandwidth_per_user = 5", "limits.bandwidth_per_user", "5 has no unit"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "key", "message"), WRONG)
def test_what_is_wrong_is_told_with_its_line(text, key, message):
    before = "" if text.startswith(("[", "[[")) else text + "\n"
    whole = f"{before}{LISTEN}{'' if before else text}\n"
    found = [one for one in problems(whole) if one.key == key]
    assert [one for one in found if message in one.text], problems(whole)
    line = found[0].line
    assert line is not None
    last = re.sub(r"\[\d+\]$", "", key).rpartition(".")[2].strip('"')
    if last in text and not re.search(r"\[\d+\]$", key):
        assert last.split("[")[0] in whole.splitlines()[line - 1]


def test_lines_of_list_items():
    text = f"{LISTEN}[[rule]]\naction = 'deny'\nports = [\n  25,\n  70000, # no\n\n  0\n]\n"
    assert [(line, key) for line, key, _ in told(text)] == [(7, "rule[1].ports[2]"), (9, "rule[1].ports[3]")]


def test_all_of_it_at_once_in_the_order_of_the_lines():
    text = (
        "[limits]\nidle = 5\n[[listener]]\nadress = '127.0.0.1:1080'\n[users]\nalice = 'x'\n"
        "[[rule]]\naction = 'deny'\nusers = ['alicia']\n[proxy]\nworkers = 0\n"
    )
    assert [(line, key) for line, key, _ in told(text)] == [
        (2, "limits.idle"),
        (3, "listener[1]"),
        (4, "listener[1].adress"),
        (6, "users.alice"),
        (9, "rule[1].users[1]"),
        (11, "proxy.workers"),
    ]


def test_no_listener():
    assert told("[proxy]\nworkers = 1") == [
        (
            None,
            "",
            'has no listener, so nobody could come in; write [[listener]] and, below, address = "127.0.0.1:1080"',
        )
    ]


SYNTAX = [
    ("a = ", 1, "not TOML"),
    ("\na = 1\na = 2\n", 3, "cannot overwrite"),
    ("[x\n", 1, "not TOML"),
    ("x = [1,\n\n", 3, "not TOML"),
    ('x = "abc\n', 1, "not TOML"),
    ("x = " + "[" * 5000, None, "nested"),
    ("x = " + "9" * 5000, None, "not TOML"),
]


@pytest.mark.parametrize(("text", "line", "message"), SYNTAX)
def test_what_is_not_toml(text, line, message):
    (problem,) = problems(text)
    assert problem.line == line
    assert message in problem.text


UNREADABLE = [
    (b"# \xff\n", 1, "is not UTF-8"),
    (b"\n\n# \xe4\n", 3, "is not UTF-8"),
    (b"#" * (config.FILE_BYTES_MAX + 1), None, "is it the right file?"),
]


@pytest.mark.parametrize(("data", "line", "message"), UNREADABLE, ids=["first line", "third line", "too long"])
def test_what_is_no_text(tmp_path, data, line, message):
    path = tmp_path / "f.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match=re.escape(message)) as caught:
        load(path)
    assert caught.value.problems[0].line == line


@pytest.mark.parametrize(
    ("name", "message"), [("missing", "No such file"), (".", "Is a directory"), ("a\0b", "null byte")]
)
def test_what_cannot_be_read(tmp_path, name, message):
    with pytest.raises(ConfigurationError, match=message):
        load(f"{tmp_path}/{name}")


def test_problems_as_text():
    assert str(Problem("f.toml", 3, "proxy.workers", "is wrong")) == "f.toml:3: proxy.workers: is wrong"
    assert str(Problem("f.toml", None, "", "cannot be read")) == "f.toml: cannot be read"


# -- safety

PUBLIC = [
    ("127.0.0.1:1080", "", False),
    ("127.9.9.9:1080", "", False),
    ("[::1]:1080", "", False),
    ("[::ffff:127.0.0.1]:1080", "", False),
    ("unix:/run/x.sock", "", False),
    ("unix:@x", "", False),
    ("home.test:1080", "", False),
    ("0.0.0.0:1080", "", True),
    ("[::]:1080", "", True),
    (":1080", "", True),
    ("10.0.0.1:1080", "", True),
    ("203.0.113.7:1080", "", True),
    ("[fe80::1%lo]:1080", "", True),
    ("[::ffff:10.0.0.1]:1080", "", True),
    ("away.test:1080", "", True),
    ("both.test:1080", "", True),
    ("127.0.0.1:1080", 'proxy_protocol_from = ["127.0.0.1"]', True),
    ("unix:/run/x.sock", 'proxy_protocol_from = ["unix"]', True),
]
NAMES = netnet.HostTable(
    {"home.test": ["127.0.0.1", "::1"], "away.test": "192.0.2.1", "both.test": ["127.0.0.1", "192.0.2.1"]}
)


@pytest.mark.parametrize(("address", "more", "public"), PUBLIC)
def test_no_open_proxy_by_accident(address, more, public):
    listener = f'[[listener]]\naddress = "{address}"\n{more}\n'
    with netnet.use_resolver(NAMES):
        for authentication in ("none", "optional"):
            text = f'{listener}authentication = "{authentication}"\n'
            if public:
                ((line, key, message),) = told(text)
                assert (line, key) == (2, "listener[1].address")
                assert "public_without_authentication = true" in message
            else:
                assert parse(text).listeners[0].entrance.deny_private is False
            meant = parse(f"{text}public_without_authentication = true\n")
            assert meant.listeners[0].entrance.deny_private is public
        for told_to, deny in (("", public), ("deny_private = true\n", True), ("deny_private = false\n", False)):
            found = parse(f'{listener}{told_to}authentication = "password"\n{USERS}')
            assert found.listeners[0].entrance.deny_private is deny


def test_a_name_that_cannot_be_looked_up():
    with netnet.use_resolver(NAMES):
        ((_, key, message),) = told('[[listener]]\naddress = "nowhere.test:1080"\n')
    assert key == "listener[1].address"
    assert "cannot be looked up" in message


def test_a_public_address_is_not_told_on_top_of_a_wrong_authentication():
    assert [key for _, key, _ in told('[[listener]]\naddress = ":1080"\nauthentication = "pasword"\n')] == [
        "listener[1].authentication"
    ]


def test_sockets_of_systemd_are_judged_when_they_are_there():
    text = '[[listener]]\naddress = "systemd:web"\n'
    (listener,) = parse(text, "f.toml").listeners
    assert (listener.address, listener.systemd) == (None, "web")
    assert listener.entrance.deny_private
    assert not listener.entrance_at(parse_address("127.0.0.1:1")).deny_private
    assert not listener.entrance_at(parse_address("unix:/x")).deny_private
    with pytest.raises(
        ConfigurationError, match=r'^f.toml:2: listener\[1\].address: "0.0.0.0:1", from systemd, can be'
    ):
        listener.entrance_at(parse_address("0.0.0.0:1"))
    (listener,) = parse(f"{text}public_without_authentication = true\n").listeners
    assert listener.entrance_at(parse_address("0.0.0.0:1")).deny_private
    (listener,) = parse(f"{text}deny_private = false\nauthentication = 'password'\n{USERS}").listeners
    assert not listener.entrance_at(parse_address("0.0.0.0:1")).deny_private
    (listener,) = parse('[[listener]]\naddress = "systemd"\n').listeners
    assert listener.systemd == ""


def test_without_a_file():
    found = default_configuration()
    assert found.listeners[0].entrance == parse(LISTEN).listeners[0].entrance
    assert default_configuration(["[::1]:1", "unix:/x"]).listeners[1].address == parse_address("unix:/x")
    with pytest.raises(
        ConfigurationError, match=r"^--listen: listener\[1\].address: .* can be reached from other machines"
    ):
        default_configuration([":1080"])
    with pytest.raises(ConfigurationError, match="has no port"):
        default_configuration(["1080"])
    assert default_configuration([":1080"], public_without_authentication=True).listeners[0].entrance.deny_private


def test_metrics_for_everybody_are_worth_a_warning():
    found = parse(f'[proxy]\nmetrics = ":9180"\n{LISTEN}')
    assert [(one.line, one.key) for one in found.warnings] == [(2, "proxy.metrics")]


MODES = [
    (0o600, "", []),
    (0o644, "", []),
    (0o644, "users", ["the hashes of passwords; chmod 600"]),
    (0o604, "upstream", ["the passwords of upstream proxies; chmod 600"]),
    (0o640, "users", []),  # root's group
    (0o600, "users", []),
    (0o622, "", ["can be changed by others; chmod go-w"]),
    (0o666, "users", ["can be changed by others", "can be read by others, and has the hashes"]),
]


@pytest.mark.parametrize(("mode", "content", "expected"), MODES)
def test_who_may_read_the_file(tmp_path, mode, content, expected):
    upstream = '[upstreams]\na = ["http://u:p@h:1"]\n[[rule]]\naction = "allow"\nupstream = "a"\n'
    path = tmp_path / "f.toml"
    path.write_text(LISTEN + {"": "", "users": USERS, "upstream": upstream}[content])
    path.chmod(mode)
    found = load(path).warnings
    assert len(found) == len(expected)
    assert all(part in str(one) for part, one in zip(expected, found, strict=True))


def test_the_group_that_the_proxy_runs_as_may_read_it():
    own = pwd.getpwnam("nobody").pw_gid
    found = parse(f'[proxy]\nuser = "nobody"\n{LISTEN}{USERS}')

    def warnings(group):
        status = os.stat_result((stat.S_IFREG | 0o640, 0, 0, 1, 0, group, 0, 0, 0, 0))
        return [one.text for one in config._too_open(status, found, "f")]

    assert warnings(own) == warnings(0) == warnings(os.getegid()) == []
    assert warnings(own + 12345) == ["can be read by others, and has the hashes of passwords; chmod 600 f"]


SECRET = "hunter2"
LEAKS = [
    f"[users]\nbob = '{SECRET}'",
    f"[users]\n'${SECRET}' = 'bob'",
    f"[users]\n'$scrypt$ln=1${SECRET}' = 'bob'",
    f"[users.bob]\npassword = ['{SECRET}']",
    f"[users.bob]\npassword = '$scrypt$ln=1${SECRET}'",
    f"[users.bob]\npassword = '$argon2id${SECRET}'",
    f"[users.bob]\npassword = '$2b${SECRET}'",
    f"[users.bob]\n'$scrypt${SECRET}' = 1",
    f"[upstreams]\na = ['nonsense://u:{SECRET}@h:1', 'socks5://{SECRET}@h:1', 'socks5://u:{SECRET}@h:1/x', 'u:{SECRET}@h']",
    f"[upstreams]\na = 'socks5://u:{SECRET}@h:1'",
    f"[upstreams]\na = ['socks5://u:{SECRET}@[h:1', 'socks4://u:{SECRET}@h:1', 'socks5://u:{SECRET} @h:99999']",
    f"[upstreams]\n'socks5://u:{SECRET}@h:1' = 1",
    f"[[rule]]\naction = 'allow'\nupstream = 'socks5://u:{SECRET}@h:1'",
    f"[[rule]]\naction = 'allow'\ndestinations = ['http://u:{SECRET}@h:1/']",
    f"[[listener]]\naddress = 'socks5://u:{SECRET}@h:1'",
    f"[users]\nbob = '{SECRET}",
    f"[users]\nbob = '{SECRET}'\nbob = '{SECRET}'",
]


@pytest.mark.parametrize("text", LEAKS)
def test_no_message_shows_a_secret(text):
    with pytest.raises(ConfigurationError) as caught:
        parse(f"{LISTEN}{text}\n")
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.problems)
    assert SECRET not in repr(caught.value)


def test_no_repr_shows_a_secret():
    upstream = f'[upstreams]\na = ["http://u:{SECRET}@h:1"]\n[[rule]]\naction = "allow"\nupstream = "a"\n'
    found = repr(parse(LISTEN + USERS + upstream))
    assert SECRET not in found
    assert HASH not in found


# -- whatever a file has, it is a configuration or an error

LITERALS = st.sampled_from(
    ["1", "-1", "1.5", "true", "''", "'x'", "[]", "[1]", "['x', 2]", "{}", "{ a = 1 }", "1979-05-27", "07:32:00", "nan", "inf",
     "'30 s'", "'1 MB/s'", "'127.0.0.1:1'", "':1'", "['10.0.0.0/8']", "'systemd'", "'*'", "['*']", f"'{HASH}'", "'allow'",
     "'password'", "[[[]]]", "'\\u0000'", '"\\u0000"', '"\\ud7ff\\U0010ffff"', "['socks5://h:1']", "['-']", "[true]"]
)  # fmt: skip
NAMES_OF_KEYS = st.sampled_from(sorted({key.name for keys in TABLES.values() for key in keys} | {"a", '"b c"', "b.c"}))
STATEMENTS = st.builds("{} = {}\n".format, NAMES_OF_KEYS, LITERALS)
HEADERS = st.sampled_from(
    [f"[[{name}]]\n" if name in SEVERAL else f"[{name}]\n" for name in TABLES]
    + ["[users.bob]\n", "[x]\n", "[[users]]\n"]
)


@given(st.lists(st.one_of(HEADERS, STATEMENTS, STATEMENTS), max_size=30))
@settings(max_examples=300)
def test_any_file_is_a_configuration_or_an_error(parts):
    with netnet.use_resolver(NAMES):
        try:
            found = parse("".join(parts))
        except ConfigurationError as error:
            told = [problem.text for problem in error.problems]
        else:
            told = [listener.entrance.name for listener in found.listeners]
        assert told
        assert all(text and text.isprintable() for text in told)


# -- what the operator reads


def test_the_page_is_made_from_the_code():
    text = (ROOT / "docs" / "proxy.md").read_text()
    example = (ROOT / "packaging" / "netnet.toml").read_text()
    assert reference.page(text, example) == text, (
        "write it anew: python -m netnet.proxy.reference docs/proxy.md packaging/netnet.toml"
    )


def test_a_page_without_marks():
    with pytest.raises(ValueError, match="no marks for the reference"):
        reference.page("# Proxy\n", "")


def test_the_reference_has_every_key():
    text = reference.reference()
    for keys in TABLES.values():
        for key in keys:
            assert f"| `{key.name}` |" in text


def test_defaults_in_the_reference_can_be_written_in_a_file():
    for name, keys in TABLES.items():
        for key in keys:
            if key.default is not None and key.default_text == f"`{key.form.show(key.default)}`":
                statement = f"{key.name} = {key.form.show(key.default)}\n"
                tables = {"listener": f"{LISTEN}{statement}", "limits": f"{LISTEN}[limits]\n{statement}"}
                found = parse(tables.get(name, f"[{name}]\n{statement}{LISTEN}"))
                assert dataclasses.replace(found, listeners=()) == dataclasses.replace(parse(LISTEN), listeners=())


def test_the_example():
    found = load(ROOT / "packaging" / "netnet.toml")
    assert [listener.entrance.name for listener in found.listeners] == ["127.0.0.1:1080"]
    assert found.settings.limits == Limits()


def test_the_example_with_everything_in_it():
    text = (ROOT / "packaging" / "netnet.toml").read_text()
    text = re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.M).replace('"…"', f'"{HASH}"')
    found = parse(text)
    assert len(found.listeners) == 4
    names = set(re.findall(r"^(\w+) =", text, re.M))
    keys = {name: {key.name for key in keys} for name, keys in TABLES.items()}
    assert keys["rule"] <= names
    assert keys["proxy"] - names == {"group"}


def test_the_messages_that_the_page_shows():
    shown = re.findall(r"^/etc/netnet\.toml:\d+: (.*)$", (ROOT / "docs" / "proxy.md").read_text(), re.M)
    text = (
        '[[listener]]\naddress = "127.0.0.1:1080"\nauthentication = "pasword"\n[[rule]]\naction = "deny"\nports = [25]\n'
        '[[rule]]\naction = "deny"\nports = [70000]\n'
    )
    assert [f"{key}: {message}" for _, key, message in told(text)] == shown
