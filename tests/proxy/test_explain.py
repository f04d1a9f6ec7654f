"""``netnet proxy explain``: questions and answers, without a connection to anybody. Names are those of a table."""

from __future__ import annotations

import pytest

import netnet
from netnet.errors import UsageError
from netnet.net.resolvers import HostTable, use_resolver
from netnet.proxy.config import parse
from netnet.proxy.explain import Question, explain
from netnet.socks.requests import Command

HASH = "$scrypt$ln=15,r=8,p=3$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

TEXT = f"""
[[listener]]
address = "127.0.0.1:1080"

[[listener]]
name = "office"
address = "0.0.0.0:1081"
authentication = "password"

[[listener]]
name = "anybody"
address = "0.0.0.0:1082"
authentication = "optional"
public_without_authentication = true

[users]
alice = "{HASH}"

[upstreams]
tor = ["socks5h://127.0.0.1:9050"]

[[rule]]
name = "no mail"
action = "deny"
ports = [25]

[[rule]]
name = "onions"
action = "allow"
destinations = ["*.onion"]
upstream = "tor"

[[rule]]
name = "printer"
action = "allow"
users = ["alice"]
destinations = ["10.1.2.3"]

[[rule]]
name = "local only"
action = "deny"
clients = ["198.51.100.0/24"]
commands = ["bind", "associate"]
"""

TABLE = {"public.test": "192.0.2.80", "inside.test": "10.9.9.9", "mixed.test": ["192.0.2.80", "10.1.2.3"]}

OFFICE = {"listener": "office", "user": "alice"}

#: who asks for what → words in the answer, and words that must not be there
QUESTIONS = [
    (Question("127.0.0.1", "8.8.8.8:443"), ["deny private is off", "allowed"], ["denied"]),
    (Question("127.0.0.1", "8.8.8.8:25"), ["'no mail'", "denied"], ["allowed"]),
    (Question("127.0.0.1", "10.9.9.9:80"), ["allowed"], ["denied"]),
    (Question("unix", "[::1]:80"), ["allowed"], ["denied"]),
    (Question("198.51.100.7", "10.9.9.9:80", **OFFICE), ["deny private is on", "denied"], ["allowed"]),
    (Question("198.51.100.7", "[fe80::1]:80", **OFFICE), ["denied"], ["allowed"]),
    (Question("198.51.100.7", "10.1.2.3:80", **OFFICE), ["'printer'", "allowed"], ["denied"]),
    (Question("198.51.100.7", "10.1.2.3:80", listener="anybody"), ["denied"], ["allowed"]),
    (Question("198.51.100.7", "8.8.8.8:80", listener="office"), ["denied: this listener serves users only"], ["rule"]),
    (Question("198.51.100.7", "8.8.8.8:80", "bob", listener="office"), ["there is no user 'bob'"], ["rule"]),
    (Question("198.51.100.7", "x.onion:80", **OFFICE), ["'onions'", "tor", "allowed"], ["denied", "x.onion is"]),
    (Question("198.51.100.7", "public.test:25", **OFFICE), ["'no mail'", "denied"], ["public.test is"]),
    (Question("198.51.100.7", "inside.test:80", **OFFICE), ["inside.test is 10.9.9.9:", "denied"], []),
    (Question("127.0.0.1", "public.test:80"), ["allowed"], ["denied"]),
    (Question("198.51.100.7", "mixed.test:80", listener="anybody"), ["192.0.2.80:", "10.1.2.3:", "denied"], []),
    (
        Question("127.0.0.1", "10.1.2.3:80", "alice"),
        ["logins mean nothing", "allowed: no rule"],
        ["'printer' (allow): matches"],
    ),
    (Question("198.51.100.7", "nowhere.test:80", **OFFICE), ["nowhere.test cannot be looked up here"], []),
    (Question("198.51.100.7", "8.8.8.8:80", command=Command.BIND), ["'local only'", "denied"], ["allowed"]),
    (Question("198.51.100.7", "8.8.8.8:80", command=Command.ASSOCIATE), ["'local only'", "denied"], ["allowed"]),
    (Question("198.51.101.7", "8.8.8.8:80", command=Command.BIND), ["allowed"], ["denied"]),
    (Question("[::ffff:198.51.100.7]", "8.8.8.8:80", command=Command.BIND), ["'local only'", "denied"], ["allowed"]),
]


def answer(question, text=TEXT):
    with use_resolver(HostTable(TABLE)):
        return list(explain(parse(text), question))


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(("question", "there", "absent"), QUESTIONS, ids=str)
def test_answers(run, question, there, absent, inside):
    """In a task, and outside: the command needs no loop."""
    text = "\n".join(run(answer, question) if inside else answer(question))
    assert [word for word in there if word not in text] == [], text
    assert [word for word in absent if word in text] == [], text


@pytest.mark.parametrize(
    ("question", "told"),
    [
        (Question("nobody", "8.8.8.8:80"), "the client 'nobody' is no IP address"),
        (Question("127.0.0.1:80", "8.8.8.8:80"), "the client '127.0.0.1:80' is no IP address"),
        (Question("::1", "unix:/x"), "the destination 'unix:/x' is no host and port"),
        (Question("::1", "8.8.8.8:80", listener="elsewhere"), "there are: 127.0.0.1:1080, office, anybody"),
    ],
)
def test_questions_that_make_no_sense(question, told):
    with pytest.raises(UsageError) as error:
        answer(question)
    assert told in str(error.value)


@pytest.mark.parametrize("destination", ["", "host", "8.8.8.8", "h:x", "h:70000"])
def test_destinations_that_are_none(destination):
    with pytest.raises((UsageError, netnet.AddressError)):
        answer(Question("::1", destination))


def test_a_listener_by_its_address():
    assert answer(Question("::1", "8.8.8.8:80", "alice", listener="0.0.0.0:1081"))[0].startswith("listener 'office'")


def test_without_rules_all_is_allowed_but_the_inside():
    text = TEXT.partition("[upstreams]")[0]
    assert "allowed" in "\n".join(answer(Question("::1", "8.8.8.8:80"), text))
    assert "denied" in "\n".join(answer(Question("192.0.2.1", "127.0.0.1:80", **OFFICE), text))


def test_a_socket_of_systemd_has_a_name():
    text = '[[listener]]\naddress = "systemd:socks"\npublic_without_authentication = true\n'
    assert answer(Question("::1", "8.8.8.8:80", listener="systemd:socks"), text)[0].startswith(
        "listener 'systemd:socks'"
    )
