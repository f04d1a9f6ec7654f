"""The handshakes of SOCKS4, 4a and 5, both sides: messages at each limit and one beyond, whole, byte by byte, cut
anywhere and glued to what follows; then any bytes at all, against a slow parser (``wire.Reference``), and one side
against the other. The invariant: a machine waits for more, has an event, or raises ``ProtocolError``, and how the bytes
were cut never matters.
"""

from __future__ import annotations

import ipaddress
import itertools
import socket
import traceback
import tracemalloc
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from netnet import ProtocolError
from netnet.socks import ClientHandshake, Command, Login, LoginRefusedError, Outcome, Reply, Request, ServerHandshake
from netnet.socks.handshake import LoginMissingError
from netnet.socks.socks4 import HOST_BYTES_MAX, REPLY_BYTES, REQUEST_BYTES_MAX, USER_ID_BYTES_MAX
from netnet.socks.socks5 import CREDENTIAL_BYTES_MAX, MESSAGE_BYTES_MAX, UnsupportedError
from tests.socks.wire import (
    GRANTED,
    REFUSAL,
    REFUSAL_OF_LOGIN,
    REFUSAL_OF_METHODS,
    REJECTED,
    Reference,
    choice,
    greeting,
    login,
    login_status,
    reply,
    reply5,
    request,
    request5,
)

EACH_BYTE = bytes(range(256))
TEN = bytes((10, 1, 2, 3))
LOOPBACK6 = ipaddress.IPv6Address("::1").packed
NO_LOGIN = greeting(0) + request5("10.1.2.3", 80)

#: how a server treats passwords → its arguments, and the methods from the best one on
POLICIES = {
    "none": ({}, (0, 2)),
    "optional": ({"password_taken": True}, (2, 0)),
    "wanted": ({"password_wanted": True}, (2,)),
    "wanted, and taken": ({"password_wanted": True, "password_taken": True}, (2,)),
}


def to(host, port, packed=b"", *, command=Command.CONNECT, user=b""):
    return Request(command, host, port, packed, user)


def ten(port=80, **fields):
    return to("10.1.2.3", port, TEN, **fields)


def bytewise(data):
    return [data[place : place + 1] for place in range(len(data))]


def cut(data, how):
    """*data* in the pieces that *how* says."""
    return [data] if how == "whole" else bytewise(data)


cuts = pytest.mark.parametrize("how", ["whole", "byte by byte"])


class Heard(NamedTuple):
    """What became of what a client sent."""

    output: bytes  #: all that it was sent, the refusal included
    logins: list
    request: Request | None = None
    trailing: bytes = b""
    error: str = ""
    kind: type | None = None


def serve(pieces, *, accepted=True, machine=None, **policy):
    """A whole conversation with a client that sends *pieces*; every login is answered with *accepted*."""
    machine = machine or ServerHandshake(**policy)
    output, logins, found = b"", [], None
    for piece in pieces:
        try:
            event = machine.feed(piece)
            output += machine.take_output()
            while isinstance(event, Login):
                logins.append(event)
                machine.answer_login(accepted)
                output += machine.take_output()
                event = machine.feed(b"")
                output += machine.take_output()
        except ProtocolError as error:
            return Heard(output + machine.refusal(), logins, None, b"", str(error), type(error))
        assert event is None or found is None, "there were two requests"
        found = event or found
    assert machine.request is found
    return Heard(output, logins, found, machine.trailing)


# -- requests of SOCKS4

GOOD4 = {
    "connect": (request("10.1.2.3", 80), ten()),
    "bind": (request("10.1.2.3", 80, command=2), ten(command=Command.BIND)),
    "port 0": (request("10.1.2.3", 0), ten(0)),
    "port 258 is big-endian": (request("10.1.2.3", 258), ten(258)),
    "port 65535": (request("10.1.2.3", 65535), ten(65535)),
    "user": (request("10.1.2.3", 80, user=b"fred"), ten(user=b"fred")),
    "user of any bytes": (request("10.1.2.3", 80, user=EACH_BYTE[1:]), ten(user=EACH_BYTE[1:])),
    "longest user": (
        request("10.1.2.3", 80, user=b"u" * USER_ID_BYTES_MAX),
        ten(user=b"u" * USER_ID_BYTES_MAX),
    ),
    **{
        f"{host} is no 4a": (request(host, 80), to(host, 80, socket.inet_aton(host)))
        for host in ("255.255.255.255", "0.0.0.0", "0.0.1.0", "0.0.1.5", "0.1.0.5", "1.0.0.5")
    },
}

GOOD4A = {
    "name": (request("", 80, name="example.com"), to("example.com", 80)),
    "bind": (request("", 80, command=2, name="a.b"), to("a.b", 80, command=Command.BIND)),
    "0.0.0.255": (
        request("", 80, name="example.com").replace(b"\0\0\0\1", b"\0\0\0\xff"),
        to("example.com", 80),
    ),
    "one letter": (request("", 80, name="a"), to("a", 80)),
    "the edges of printable ASCII": (request("", 80, name="!~"), to("!~", 80)),
    "an address as the name": (request("", 80, name="::1"), to("::1", 80)),
    "longest name": (request("", 80, name="h" * HOST_BYTES_MAX), to("h" * HOST_BYTES_MAX, 80)),
    "longest of all": (
        request("", 80, user=b"u" * USER_ID_BYTES_MAX, name="h" * HOST_BYTES_MAX),
        to("h" * HOST_BYTES_MAX, 80, user=b"u" * USER_ID_BYTES_MAX),
    ),
}

#: the part of a key before the colon is the protocol's name
GOOD = {
    **{f"4: {name}": row for name, row in GOOD4.items()},
    **{f"4a: {name}": row for name, row in GOOD4A.items()},
}

UNFINISHED4 = {
    "nothing": b"",
    "version": b"\x04",
    "version and command": b"\x04\x01",
    "without the last byte of the address": request("10.1.2.3", 80)[:7],
    "without the NUL behind an empty user": request("10.1.2.3", 80)[:-1],
    "without the NUL behind a user": request("10.1.2.3", 80, user=b"fred")[:-1],
    "without the NUL behind the longest user": request("10.1.2.3", 80, user=b"u" * USER_ID_BYTES_MAX)[:-1],
    "4a without a name": request("", 80, name="")[:-1],
    "4a without the NUL behind the name": request("", 80, name="example.com")[:-1],
    "4a without the NUL behind the longest name": request("", 80, name="h" * HOST_BYTES_MAX)[:-1],
    "all but the last byte of the longest": GOOD4A["longest of all"][0][:-1],
}

#: what is wrong → the bytes up to the one that shows it, and a word of the message
BAD4 = {
    **{f"command {byte}": (bytes([4, byte]), f"byte 1 is {byte}") for byte in (0, 3, 4, 128, 255)},
    "user one too long": (request("10.1.2.3", 80, user=b"u" * (USER_ID_BYTES_MAX + 1))[:-1], "user id"),
    "4a, user one too long": (request("", 80, user=b"u" * (USER_ID_BYTES_MAX + 1), name="")[:-2], "user id"),
    "4a, empty name": (request("", 80, name=""), "empty"),
    "4a, name one too long": (request("", 80, name="h" * (HOST_BYTES_MAX + 1))[:-1], "host name"),
    **{
        f"4a, {byte:#04x} in the name": (request("", 80, name=b"a" + bytes([byte]))[:-1], "characters")
        for byte in (1, 9, 10, 13, 27, 32, 127, 128, 195, 255)
    },
    "4a, only a space": (request("", 80, name=b" ")[:-1], "characters"),
    "4a, UTF-8": (request("", 80, name="bü".encode()[:2])[:-1], "characters"),
}

# -- requests of SOCKS5, behind a greeting

GOOD5 = {
    "IPv4": (request5("10.1.2.3", 80), ten()),
    "IPv4, the lowest": (request5("0.0.0.0", 0), to("0.0.0.0", 0, bytes(4))),
    "IPv4, no 4a": (request5("0.0.0.1", 80), to("0.0.0.1", 80, b"\0\0\0\1")),
    "IPv4, the highest": (request5("255.255.255.255", 65535), to("255.255.255.255", 65535, b"\xff" * 4)),
    "port 258 is big-endian": (request5("10.1.2.3", 258), ten(258)),
    "IPv6": (request5("::1", 80), to("::1", 80, LOOPBACK6)),
    "IPv6 in its short form": (
        request5("2001:0db8:0:0:0:0:0:1", 443),
        to("2001:db8::1", 443, ipaddress.IPv6Address("2001:db8::1").packed),
    ),
    "IPv6, the lowest": (request5("::", 0), to("::", 0, bytes(16))),
    "IPv6, the highest": (
        request5("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535),
        to("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535, b"\xff" * 16),
    ),
    "name": (request5("example.com", 443), to("example.com", 443)),
    "name of one letter": (request5("a", 80), to("a", 80)),
    "the edges of printable ASCII": (request5("!~", 80), to("!~", 80)),
    "an address as the name": (request5(b"10.1.2.3", 80), to("10.1.2.3", 80)),
    "an IPv6 address as the name": (request5(b"::1", 80), to("::1", 80)),
    "longest name": (request5("h" * HOST_BYTES_MAX, 80), to("h" * HOST_BYTES_MAX, 80)),
    "bind": (request5("10.1.2.3", 80, command=2), ten(command=Command.BIND)),
    "bind to a name": (request5("a.b", 80, command=2), to("a.b", 80, command=Command.BIND)),
    "associate": (request5("10.1.2.3", 80, command=3), ten(command=Command.ASSOCIATE)),
    "associate, not known from where": (
        request5("0.0.0.0", 0, command=3),
        to("0.0.0.0", 0, bytes(4), command=Command.ASSOCIATE),
    ),
    "associate, by IPv6": (request5("::", 0, command=3), to("::", 0, bytes(16), command=Command.ASSOCIATE)),
    **{f"RSV {byte}": (request5("10.1.2.3", 80, reserved=byte), ten()) for byte in (1, 4, 128, 255)},
}

GOOD |= {f"5: {name}": (greeting(0) + data, expected) for name, (data, expected) in GOOD5.items()}

UNFINISHED5 = {
    "version": b"\5",
    "version and count": b"\5\1",
    "one method of two": b"\5\2\0",
    "254 methods of 255": greeting(*b"\x7e" * 255)[:-1],
    "only a greeting": greeting(0),
    **{
        f"{len(data)} bytes of a request, {host}": greeting(0) + data
        for host in ("10.1.2.3", "::1", "a.b")
        for whole in [request5(host, 80)]
        for data in (whole[:size] for size in range(1, len(whole)))
    },
    "the longest name without the last byte": greeting(0) + request5("h" * HOST_BYTES_MAX, 80)[:-1],
}

#: what is wrong → the bytes up to the one that shows it, a word of the message, what the client hears of it
BAD5 = {
    "no methods": (greeting(), "none is known", REFUSAL_OF_METHODS),
    "GSSAPI only": (greeting(1), "none is known", REFUSAL_OF_METHODS),
    "255 methods, all unknown": (greeting(*b"\x7e" * 255), "none is known", REFUSAL_OF_METHODS),
    "FF is no method": (greeting(255), "none is known", REFUSAL_OF_METHODS),
    **{
        f"version {byte} in the request": (greeting(0) + bytes([byte]), f"begins with {byte}", choice(0) + reply5(1))
        for byte in (0, 1, 4, 6, 71, 255)
    },
    **{
        f"command {byte}": (
            greeting(0) + request5("10.1.2.3", 80, command=byte)[:4],
            f"command {byte}",
            choice(0) + reply5(7),
        )
        for byte in (0, 4, 0x80, 0xEF, 0xF2, 255)
    },
    "Tor's RESOLVE": (greeting(0) + request5("a.b", 0, command=0xF0)[:4], "Tor", choice(0) + reply5(7)),
    "Tor's RESOLVE_PTR": (greeting(0) + request5("10.1.2.3", 0, command=0xF1)[:4], "Tor", choice(0) + reply5(7)),
    **{
        f"ATYP {kind}": (greeting(0) + bytes([5, 1, 0, kind]), f"{kind} is no kind", choice(0) + reply5(8))
        for kind in (0, 2, 5, 128, 255)
    },
    "neither command nor ATYP": (greeting(0) + b"\5\7\0\7", "command 7", choice(0) + reply5(7)),
    "empty name": (greeting(0) + request5("", 80)[:5], "empty", choice(0) + reply5(1)),
    **{
        f"{byte:#04x} in the name": (
            greeting(0) + request5(b"a" + bytes([byte]) + b"b", 80),
            "characters",
            choice(0) + reply5(1),
        )
        for byte in (0, 1, 9, 10, 13, 27, 32, 127, 128, 195, 255)
    },
    "UTF-8": (greeting(0) + request5("bücher.example", 80), "characters", choice(0) + reply5(1)),
    **{
        f"version {byte} in the login": (
            greeting(2) + bytes([byte]),
            f"begins with {byte}",
            choice(2) + REFUSAL_OF_LOGIN,
        )
        for byte in (0, 2, 4, 5, 255)
    },
    "version 4 behind a login": (
        greeting(2) + login("fred", "pw") + b"\4",
        "begins with 4",
        choice(2) + login_status(0) + reply5(1),
    ),
}

BAD = {
    **{f"4: {name}": (data, word, REFUSAL) for name, (data, word) in BAD4.items()},
    **{f"5: {name}": row for name, row in BAD5.items()},
    **{f"version {byte}": (bytes([byte]), f"byte 0 is {byte}", b"") for byte in (0, 1, 3, 6, 22, 71, 255)},
}

UNFINISHED = {f"4: {name}": data for name, data in UNFINISHED4.items()} | {
    f"5: {name}": data for name, data in UNFINISHED5.items()
}

TRAILING = (b"", b"\0", b"GET / HTTP/1.0\r\n\r\n", b"\x04\x01" * 2000, greeting(0))


def said(name):
    """What a client hears before the reply."""
    return choice(0) if name.startswith("5") else b""


@cuts
@pytest.mark.parametrize("name", GOOD)
def test_request(name, how):
    data, expected = GOOD[name]
    for trailing in TRAILING:
        assert serve(cut(data + trailing, how)) == (said(name), [], expected, trailing, "", None)


@pytest.mark.parametrize("name", GOOD)
def test_request_is_complete_with_its_last_byte_and_not_before(name):
    data, expected = GOOD[name]
    machine = ServerHandshake()
    for piece in bytewise(data[:-1]):
        assert machine.feed(piece) is None
        assert machine.request is None
    assert machine.feed(data[-1:]) == expected


@pytest.mark.parametrize("name", GOOD)
def test_request_cut_in_two_anywhere(name):
    data, expected = GOOD[name]
    for place in range(len(data) + 1):
        assert serve([data[:place], data[place:] + b"tail"]) == (said(name), [], expected, b"tail", "", None)


@pytest.mark.parametrize("name", GOOD)
def test_the_protocol_is_known_by_its_name(name):
    data, expected = GOOD[name]
    machine = ServerHandshake()
    assert machine.protocol == ""
    machine.feed(data[:1])
    assert machine.protocol == ("socks5" if name.startswith("5") else "socks4")
    machine.feed(data[1:])
    assert machine.protocol == f"socks{name.partition(':')[0]}"
    assert expected.named == (not expected.packed)


@cuts
@pytest.mark.parametrize("name", UNFINISHED)
def test_unfinished(name, how):
    data = UNFINISHED[name]
    result = serve(cut(data, how))
    assert (result.request, result.logins, result.error) == (None, [], "")
    assert result.output == (choice(0) if data[:3] == greeting(0) else b"")


@cuts
@pytest.mark.parametrize("name", BAD)
def test_bad(name, how):
    data, word, heard = BAD[name]
    for trailing in (b"", b"more of it" * 100):
        result = serve([*cut(data, how)[:-1], cut(data, how)[-1] + trailing])
        assert word in result.error or (trailing and result.error)  # what is seen first may be something else then
        assert result.output == heard
        assert result.kind in (ProtocolError, UnsupportedError)
        assert result.request is None


@pytest.mark.parametrize("name", BAD)
def test_bad_is_known_with_the_byte_that_shows_it(name):
    data, _, _ = BAD[name]
    machine = ServerHandshake()
    serve([data[:-1]], machine=machine)
    with pytest.raises(ProtocolError):
        machine.feed(data[-1:])


@pytest.mark.parametrize("name", BAD)
def test_what_was_bad_stays_bad(name):
    data, _, _ = BAD[name]
    machine = ServerHandshake()
    first = serve([data], machine=machine).error
    refusal = machine.refusal()
    for piece in (b"", b"\x05", b"\x04\x01", request("10.1.2.3", 80), NO_LOGIN):
        with pytest.raises(ProtocolError) as caught:
            machine.feed(piece)
        assert str(caught.value) == first
        assert machine.refusal() == refusal
    assert machine.request is None
    assert machine.trailing == b""


def test_the_message_shows_no_raw_control_characters():
    name = b"a\r\nforged: line\x1b[2J"
    for data in (request("", 80, name=name), greeting(0) + request5(name, 80)):
        assert serve([data]).error.isprintable()


def test_error_is_a_value_error_and_of_netnet():
    with pytest.raises(ValueError, match="no SOCKS") as caught:
        ServerHandshake().feed(b"\x06\x01\0")
    assert type(caught.value) is ProtocolError


# -- which versions are spoken


@pytest.mark.parametrize(
    ("versions", "data", "good"),
    [
        ((4,), request("10.1.2.3", 80), True),
        ((4,), NO_LOGIN, False),
        ((5,), NO_LOGIN, True),
        ((5,), request("10.1.2.3", 80), False),
        ((5, 4), NO_LOGIN, True),
        ((5, 4), request("10.1.2.3", 80), True),
        ((), NO_LOGIN, False),
        ((), request("10.1.2.3", 80), False),
        ((4, 5, 71), b"GET / HTTP/1.1\r\n\r\n", False),
    ],
)
@cuts
def test_versions(versions, data, good, how):
    result = serve(cut(data, how), versions=versions)
    assert result.request == (ten() if good else None)
    assert (f"byte 0 is {data[0]}" in result.error) is not good
    assert result.output == (choice(0) if good and data[0] == 5 else b"")


def test_the_message_says_what_is_spoken():
    assert serve([b"\5"], versions=(4,)).error.startswith("byte 0 is 5, not 4:")
    assert serve([b"\6"], versions=(4, 5)).error.startswith("byte 0 is 6, not 4 or 5:")
    assert serve([b"\5"], versions=()).error.startswith("byte 0 is 5: ")


@pytest.mark.parametrize("name", [name for name in GOOD if name.startswith("4")])
def test_socks4_alone_reads_the_same(name):
    assert serve([GOOD[name][0]], versions=(4,)) == serve([GOOD[name][0]])


# -- methods, RFC 1928 section 3


def offers():
    known = (0, 1, 2, 3, 0x80, 0xFE, 0xFF)
    for size in range(4):
        yield from itertools.permutations(known, size)
    yield from [(0, 0), (2, 2, 2), known, known[::-1]]


@pytest.mark.parametrize("policy", POLICIES)
def test_the_method_is_the_best_that_is_offered(policy):
    arguments, preferred = POLICIES[policy]
    for offered in offers():
        expected = next((method for method in preferred if method in offered), None)
        result = serve([greeting(*offered)], **arguments)
        assert result.output == (REFUSAL_OF_METHODS if expected is None else choice(expected))
        assert (result.kind is None) is (expected is not None)


@pytest.mark.parametrize("policy", POLICIES)
def test_greeting_of_any_length(policy):
    arguments, preferred = POLICIES[policy]
    for count in range(1, 256):
        data = greeting(*b"\x7e" * (count - 1), preferred[-1])
        assert serve([data[:-1]], **arguments).output == b""
        assert serve([data], **arguments).output == choice(preferred[-1])
        assert serve(bytewise(data), **arguments).output == choice(preferred[-1])


def test_greeting_without_methods():
    for arguments, _ in POLICIES.values():
        result = serve([b"\5\0"], **arguments)
        assert result.output == REFUSAL_OF_METHODS
        assert result.error


@pytest.mark.parametrize("offered", [(), (0,), (1,), (0, 1, 255)])
def test_a_client_that_has_to_log_in_and_does_not_offer_to(offered):
    result = serve([greeting(*offered)], password_wanted=True)
    assert (result.kind, result.output) == (LoginMissingError, REFUSAL_OF_METHODS)
    assert "log in" in result.error


# -- login, RFC 1929


@pytest.mark.parametrize("other", ["as long", "as short", "empty", "the longest"])
def test_login_of_any_length(other):
    for size in range(CREDENTIAL_BYTES_MAX + 1):
        sizes = {
            "as long": size,
            "as short": CREDENTIAL_BYTES_MAX - size,
            "empty": 0,
            "the longest": CREDENTIAL_BYTES_MAX,
        }
        user, password = "u" * size, "p" * sizes[other]
        data = greeting(2) + login(user, password) + request5("a.b", 80)
        expected = (choice(2) + login_status(0), [(user, password)], to("a.b", 80), b"first", "", None)
        assert serve([data + b"first"], password_wanted=True) == expected
        assert serve(bytewise(data + b"first"), password_wanted=True) == expected


def test_login_is_complete_with_its_last_byte_and_not_before():
    for user, password in (("fred", "secret"), ("", ""), ("u" * 255, "p" * 255), ("", "p"), ("u", "")):
        machine = ServerHandshake(password_wanted=True)
        for piece in bytewise(greeting(2) + login(user, password)[:-1]):
            assert machine.feed(piece) is None
        assert machine.feed(login(user, password)[-1:]) == Login(user, password)


def test_login_of_any_bytes():
    raw = EACH_BYTE[1:]
    for user, password in ((raw, raw[::-1]), (b"\0", b"\0" * 255), ("jürgen".encode(), b"\xff\xfe")):
        (found,) = serve([greeting(2) + login(user, password)]).logins
        assert tuple(part.encode("utf-8", "surrogateescape") for part in found) == (user, password)
    assert serve([greeting(2) + login("jürgen", "schlüssel")]).logins == [Login("jürgen", "schlüssel")]


@pytest.mark.parametrize("policy", POLICIES)
@cuts
def test_all_at_once(policy, how):
    """Optimistic data: greeting, login, request and first data, before anything was answered."""
    arguments, _ = POLICIES[policy]
    data = greeting(2) + login("fred", "secret") + request5("::1", 443) + b"\x16\x03\x01 hello"
    expected = (
        choice(2) + login_status(0),
        [("fred", "secret")],
        to("::1", 443, LOOPBACK6),
        b"\x16\x03\x01 hello",
        "",
        None,
    )
    assert serve(cut(data, how), **arguments) == expected


def test_all_at_once_cut_in_two_anywhere():
    data = greeting(0, 2) + login("fred", "secret") + request5("a.b", 443) + b"hello"
    whole = serve([data], password_taken=True)
    assert whole.request == to("a.b", 443)
    for place in range(len(data) + 1):
        assert serve([data[:place], data[place:]], password_taken=True) == whole


@cuts
def test_login_that_is_not_accepted_ends_it(how):
    data = greeting(2) + login("fred", "wrong") + request5("a.b", 443) + b"hello"
    result = serve(cut(data, how), accepted=False)
    assert result.output == choice(2) + REFUSAL_OF_LOGIN
    assert result.logins == [("fred", "wrong")]
    assert (result.request, result.error) == (None, "")


def test_a_second_login_is_no_request():
    result = serve([greeting(2) + login("fred", "secret") * 2])
    assert result.logins == [("fred", "secret")]
    assert result.output == choice(2) + login_status(0) + reply5(1)


def test_nothing_is_read_before_a_login_is_answered():
    """What has come, and comes, behind a login waits: nobody knows yet whether it counts."""
    machine = ServerHandshake()
    assert machine.feed(greeting(2) + login("fred", "secret") + b"\5\1") == Login("fred", "secret")
    assert machine.take_output() == choice(2)
    for piece in (b"", b"\0\1", TEN + b"\0", b"\x50", login("other", "one")):
        assert machine.feed(piece) is None
    assert machine.take_output() == b""
    machine.answer_login(True)
    assert machine.feed(b"") == ten()
    assert machine.trailing == login("other", "one")


PASSWORD = "hunter2-hunter2"


def shown(error):
    """All that a log could show of *error*."""
    return "".join([str(error), repr(error), *traceback.format_exception(error)])


def test_a_login_never_shows_its_password():
    found = Login("fred", PASSWORD)
    for text in (repr(found), str(found), f"{found}", f"{found!r}", f"{[found]}", f"{({'login': found},)}"):
        assert "fred" in text
        assert PASSWORD not in text
    assert (found.user, found.password) == found == ("fred", PASSWORD)


@pytest.mark.parametrize(
    "data",
    [
        greeting(2) + b"\2" + login("fred", PASSWORD)[1:],
        greeting(2) + login("fred", PASSWORD) + b"\6",
        greeting(2) + login("fred", PASSWORD) + request5("a b", 80),
        greeting(0) + login("fred", PASSWORD),
        greeting(2) + login("", "") + login("fred", PASSWORD),
    ],
)
@cuts
def test_no_error_shows_a_password(data, how):
    machine = ServerHandshake()
    with pytest.raises(ProtocolError) as caught:
        for piece in cut(data, how):
            if machine.feed(piece) is not None:
                machine.answer_login(True)
                machine.feed(b"")
    assert "hunter" not in shown(caught.value)


# -- what a client is told

REPLIES4 = [
    ((Outcome.GRANTED,), reply(GRANTED)),
    *[((outcome,), reply(REJECTED)) for outcome in Outcome if outcome],
    ((Outcome.GRANTED, b"\x7f\0\0\1", 258), "00 5a 0102 7f000001"),
    ((Outcome.GRANTED, b"\xff" * 4, 65535), "00 5a ffff ffffffff"),
    ((Outcome.GRANTED, LOOPBACK6, 80), "00 5a 0050 00000000"),
    ((Outcome.GRANTED, b"", 80), "00 5a 0050 00000000"),
]

REPLIES5 = [
    *[((outcome,), reply5(int(outcome))) for outcome in Outcome],
    ((Outcome.GRANTED, b"\x7f\0\0\1", 258), "05 00 00 01 7f000001 0102"),
    ((Outcome.GRANTED, b"\xff" * 4, 65535), "05 00 00 01 ffffffff ffff"),
    ((Outcome.GRANTED, LOOPBACK6, 80), "05 00 00 04 00000000000000000000000000000001 0050"),
    ((Outcome.GRANTED, b"", 80), "05 00 00 01 00000000 0050"),
    ((Outcome.DENIED, bytes(16), 0), "05 02 00 04 00000000000000000000000000000000 0000"),
]


@pytest.mark.parametrize(
    ("data", "arguments", "expected"),
    [(request("10.1.2.3", 80), *row) for row in REPLIES4]
    + [(request("", 80, name="a.b"), *row) for row in REPLIES4]
    + [(NO_LOGIN, *row) for row in REPLIES5],
)
def test_reply(data, arguments, expected):
    machine = ServerHandshake()
    machine.feed(data)
    expected = bytes.fromhex(expected) if isinstance(expected, str) else expected
    assert machine.reply(*arguments) == expected
    machine.take_output()
    assert machine.refusal(arguments[0]) == machine.reply(arguments[0])


#: what a client has said, and what it is told if it is refused there, first of all and for what
STAGES = [
    ("nothing", b"", b"", b""),
    ("SOCKS4, a byte", b"\4", REFUSAL, REFUSAL),
    ("SOCKS4, without the end", request("10.1.2.3", 80)[:-1], REFUSAL, REFUSAL),
    ("SOCKS4a, without the end", request("", 80, name="a.b")[:-1], REFUSAL, REFUSAL),
    ("SOCKS4", request("10.1.2.3", 80), REFUSAL, REFUSAL),
    ("SOCKS4a", request("", 80, name="a.b"), REFUSAL, REFUSAL),
    ("SOCKS5, a byte", b"\5", REFUSAL_OF_METHODS, REFUSAL_OF_METHODS),
    ("SOCKS5, half a greeting", b"\5\2\0", REFUSAL_OF_METHODS, REFUSAL_OF_METHODS),
    ("SOCKS5, greeting", greeting(0), reply5(1), reply5(2)),
    ("SOCKS5, half a request", greeting(0) + b"\5\1\0", reply5(1), reply5(2)),
    ("SOCKS5, request", NO_LOGIN, reply5(1), reply5(2)),
    ("SOCKS5, greeting with a login to come", greeting(2), REFUSAL_OF_LOGIN, REFUSAL_OF_LOGIN),
    ("SOCKS5, half a login", greeting(2) + b"\1\4fr", REFUSAL_OF_LOGIN, REFUSAL_OF_LOGIN),
    ("SOCKS5, login", greeting(2) + login("fred", "pw"), REFUSAL_OF_LOGIN, REFUSAL_OF_LOGIN),
]


@pytest.mark.parametrize(("data", "failed", "denied"), [row[1:] for row in STAGES], ids=[row[0] for row in STAGES])
@cuts
def test_refusal_at_each_stage(data, failed, denied, how):
    machine = ServerHandshake()
    for piece in cut(data, how):
        machine.feed(piece)
    machine.take_output()
    assert machine.refusal() == failed
    assert machine.refusal(Outcome.FAILED) == failed
    assert machine.refusal(Outcome.DENIED) == denied


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome])
def test_refusal_behind_a_login(outcome):
    machine = ServerHandshake()
    machine.feed(greeting(2) + login("fred", "pw"))
    machine.answer_login(True)
    assert machine.take_output() == choice(2) + login_status(0)
    assert machine.refusal(outcome) == reply5(outcome)
    assert machine.feed(request5("a.b", 80)) == to("a.b", 80)
    assert machine.refusal(outcome) == reply5(outcome)


def test_a_refusal_takes_along_what_was_to_be_sent_before_it():
    """A client that says all at once reads the answers one by one: the refusal of its request is not its method."""
    machine = ServerHandshake()
    with pytest.raises(ProtocolError):
        machine.feed(greeting(0) + b"\6")
    assert machine.refusal() == choice(0) + reply5(1)
    assert machine.take_output() == b""
    assert machine.refusal() == reply5(1)


def test_output_is_taken_once():
    machine = ServerHandshake()
    assert machine.take_output() == b""
    machine.feed(greeting(2))
    assert machine.take_output() == choice(2)
    assert machine.take_output() == b""
    machine.feed(login("fred", "pw"))
    assert machine.take_output() == b""
    machine.answer_login(True)
    assert machine.take_output() == login_status(0)
    assert machine.take_output() == b""


# -- memory


@pytest.mark.parametrize("data", [row[0] for row in BAD.values()])
def test_a_peer_that_goes_on_after_its_error_fills_no_memory(data):
    machine = ServerHandshake()
    serve([data], machine=machine)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(50):
            with pytest.raises(ProtocolError):
                machine.feed(bytes([number]) * 100_000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 300_000
    assert machine.trailing == b""


def test_the_longest_messages_are_as_long_as_is_said():
    assert len(GOOD4A["longest of all"][0]) == REQUEST_BYTES_MAX
    assert len(login("u" * 255, "p" * 255)) == MESSAGE_BYTES_MAX
    assert max(len(greeting(*bytes(255))), len(request5("h" * 255, 80))) < MESSAGE_BYTES_MAX
    assert len(REFUSAL) == REPLY_BYTES


# -- any bytes at all

LIKELY = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([row[0] for row in (*GOOD.values(), *BAD.values())] + list(UNFINISHED.values())),
    st.sampled_from([row[0] for row in GOOD5.values()] + [login("fred", "secret"), login("", ""), b"\1", b"\5"]),
    st.builds(bytes.__add__, st.sampled_from([b"\4\1", b"\4\2", b"\5", greeting(0), greeting(2)]), st.binary()),
    st.builds(bytes.__add__, st.just(b"\4\1\0\x50\0\0\0\7"), st.binary(max_size=700)),
    st.builds(login, st.binary(max_size=255), st.binary(max_size=255)),
    st.builds(lambda methods: greeting(*methods), st.binary(max_size=255)),
    st.builds(
        lambda kind, rest: b"\5\1\0" + bytes([kind]) + rest, st.sampled_from([0, 1, 3, 4, 5]), st.binary(max_size=300)
    ),
)


def pieces_of(data, places):
    borders = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(borders)]


def expected_of(reference):
    """A ``Reference`` as what ``serve`` says."""
    wanted = reference.wanted
    return (
        reference.output + (reference.refusal if reference.wrong else b""),
        [tuple(part.decode("utf-8", "surrogateescape") for part in one) for one in reference.logins],
        None if wanted is None else Request(Command(wanted.command), *wanted[1:]),
        reference.trailing if reference.over else None,
        reference.wrong,
    )


@given(
    parts=st.lists(LIKELY, max_size=5),
    places=st.lists(st.integers(0, 2000), max_size=8),
    policy=st.sampled_from(sorted(POLICIES)),
    versions=st.sampled_from([(4, 5), (4,), (5,)]),
    accepted=st.booleans(),
)
@settings(max_examples=500, deadline=None)
def test_any_bytes_in_any_pieces(parts, places, policy, versions, accepted):
    data = b"".join(parts)
    arguments, preferred = POLICIES[policy]
    reference = Reference(data, versions, preferred, (accepted,))
    expected = expected_of(reference)
    for pieces in ([data], pieces_of(data, places), bytewise(data)):
        machine = ServerHandshake(versions, **arguments)
        found = serve(pieces, machine=machine, accepted=accepted)
        trailing = found.trailing if reference.over else None
        assert (found.output, found.logins, found.request, trailing, bool(found.error)) == expected
        assert machine.protocol == reference.protocol
        if found.kind is None and not reference.over:
            assert len(found.trailing) < max(MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX)


class Conversation(RuleBasedStateMachine):
    """A client says anything in any pieces, and the server answers its logins when it likes. After each step all is as
    the slow parser says that it has to be after so many bytes and answers."""

    @initialize(
        policy=st.sampled_from(sorted(POLICIES)),
        versions=st.sampled_from([(4, 5), (4,), (5,)]),
        script=st.one_of(
            st.lists(LIKELY, max_size=4).map(b"".join),
            st.builds(
                lambda *parts: b"".join(parts),
                st.sampled_from([greeting(2), greeting(0, 2), greeting(2, 1)]),
                st.builds(login, st.binary(max_size=255), st.binary(max_size=255)),
                st.sampled_from([row[0] for row in GOOD5.values()]),
                st.binary(max_size=20),
            ),
            st.sampled_from([row[0] for row in GOOD.values()]),
        ),
    )
    def begin(self, policy, versions, script):
        arguments, self.preferred = POLICIES[policy]
        self.versions = versions
        self.script = script
        self.machine = ServerHandshake(versions, **arguments)
        self.sent = self.output = b""
        self.answers = ()
        self.events = []
        self.wrong = False

    def feed(self, piece):
        self.sent += piece
        try:
            event = self.machine.feed(piece)
        except ProtocolError:
            self.wrong = True
        else:
            assert not self.wrong, "the error did not stay"
            self.events += [] if event is None else [event]
        self.output += self.machine.take_output()

    @rule(size=st.integers(1, 300))
    def say_what_the_script_says(self, size):
        piece, self.script = self.script[:size], self.script[size:]
        self.feed(piece)

    @rule(piece=st.binary(max_size=12))
    def say_anything(self, piece):
        self.feed(piece)

    @rule(piece=LIKELY)
    def say_something_likely(self, piece):
        self.feed(piece)

    @precondition(lambda self: self.waiting_for_an_answer())
    @rule(accepted=st.booleans())
    def answer(self, accepted):
        self.machine.answer_login(accepted)
        self.answers += (accepted,)
        self.output += self.machine.take_output()
        self.feed(b"")

    def waiting_for_an_answer(self):
        return sum(isinstance(event, Login) for event in self.events) > len(self.answers)

    @invariant()
    def it_is_as_it_has_to_be(self):
        if not hasattr(self, "machine"):
            return
        reference = Reference(self.sent, self.versions, self.preferred, self.answers)
        _, logins, wanted, trailing, wrong = expected_of(reference)
        assert self.output == reference.output
        assert self.events == [*logins, *([] if wanted is None else [wanted])]
        assert (self.wrong, self.machine.protocol) == (wrong, reference.protocol)
        assert self.machine.request == wanted
        assert self.waiting_for_an_answer() == reference.asking
        if reference.over:
            assert self.machine.trailing == trailing
        elif not self.wrong and not reference.asking:
            assert len(self.machine.trailing) < max(MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX)
        if wanted is None and self.answers != (False,):
            assert self.machine.refusal() == reference.refusal


Conversation.TestCase.settings = settings(max_examples=200, stateful_step_count=20, deadline=None)
TestConversation = Conversation.TestCase


# -- the client


class Stream:
    """A connection on which all has come already; of it no more is taken than is asked for."""

    def __init__(self, data, sizes=(4096,)):
        self.data = data
        self.sizes = itertools.cycle(sizes)

    def receive(self, wanted):
        assert wanted > 0
        size = min(wanted, next(self.sizes))
        piece, self.data = self.data[:size], self.data[size:]
        return piece


FIRST_DATA = b"\5\0\0\1 220 the target speaks first"


def ask(client, stream):
    """The reply on *stream*, ``None`` if it ends before; and what was sent."""
    sent = client.take_output()
    while piece := stream.receive(client.bytes_wanted):
        found = client.feed(piece)
        sent += client.take_output()
        if found is not None:
            assert client.bytes_wanted == 0
            return found, sent
    return None, sent


def asked(version, answers, *, sizes=(4096,), credentials=None, wanted=None):
    """The reply to *wanted* if *answers* and the target's first data have come; and what was sent. Nothing of the
    target's is taken."""
    stream = Stream(answers + FIRST_DATA, sizes)
    result = ask(ClientHandshake(version, wanted or to("a.b", 80), credentials), stream)
    assert stream.data == FIRST_DATA
    return result


FRED = Login("fred", "secret")
SIZES = [(4096,), (1,), (2, 3), (5, 1)]
sizes_of_pieces = pytest.mark.parametrize("sizes", SIZES, ids=str)

#: a proxy's reply → what it says
REPLIES_READ4 = {
    "granted": (reply(GRANTED), Reply(Outcome.GRANTED, "0.0.0.0", 0)),
    "granted, with an address": (reply(GRANTED, "10.1.2.3", 258), Reply(Outcome.GRANTED, "10.1.2.3", 258)),
    "rejected": (reply(REJECTED), Reply(Outcome.FAILED, "0.0.0.0", 0)),
    "no identd": (reply(92), Reply(Outcome.DENIED, "0.0.0.0", 0)),
    "another user in identd": (reply(93, "255.255.255.255", 65535), Reply(Outcome.DENIED, "255.255.255.255", 65535)),
    "version 4, which is wrong and usual": (b"\4" + reply(GRANTED)[1:], Reply(Outcome.GRANTED, "0.0.0.0", 0)),
}

REPLIES_READ5 = {
    **{f"code {outcome}": (reply5(outcome), Reply(outcome, "0.0.0.0", 0)) for outcome in Outcome},
    **{f"code {code}": (reply5(code), Reply(Outcome.FAILED, "0.0.0.0", 0)) for code in (9, 10, 0x5A, 128, 255)},
    "IPv4": (reply5(0, "10.1.2.3", 258), Reply(Outcome.GRANTED, "10.1.2.3", 258)),
    "IPv6": (reply5(0, "2001:db8::1", 65535), Reply(Outcome.GRANTED, "2001:db8::1", 65535)),
    "IPv6, an error": (reply5(4, "::", 0), Reply(Outcome.HOST_UNREACHABLE, "::", 0)),
    "a name": (reply5(0, "gate.example", 80), Reply(Outcome.GRANTED, "gate.example", 80)),
    "a name of one letter": (reply5(0, "g", 80), Reply(Outcome.GRANTED, "g", 80)),
    "the longest name": (reply5(0, "h" * 255, 80), Reply(Outcome.GRANTED, "h" * 255, 80)),
    "a name with no letters": (reply5(4, "", 0), Reply(Outcome.HOST_UNREACHABLE, "", 0)),
    "a name with no letters, granted": (reply5(0, "", 7), Reply(Outcome.GRANTED, "", 7)),
    "RSV 255": (reply5(0, "10.1.2.3", 80, reserved=255), Reply(Outcome.GRANTED, "10.1.2.3", 80)),
}


@sizes_of_pieces
@pytest.mark.parametrize("name", REPLIES_READ4)
def test_reply_of_socks4_is_read_and_nothing_behind_it(name, sizes):
    data, expected = REPLIES_READ4[name]
    assert asked(4, data, sizes=sizes) == (expected, request("", 80, name="a.b"))


@sizes_of_pieces
@pytest.mark.parametrize("name", REPLIES_READ5)
def test_reply_of_socks5_is_read_and_nothing_behind_it(name, sizes):
    data, expected = REPLIES_READ5[name]
    asking = request5("a.b", 80)
    assert asked(5, choice(0) + data, sizes=sizes) == (expected, greeting(0) + asking)
    offer = greeting(0, 2)
    assert asked(5, choice(0) + data, sizes=sizes, credentials=FRED) == (expected, offer + asking)
    answers = choice(2) + login_status(0) + data
    sent = offer + login("fred", "secret") + asking
    assert asked(5, answers, sizes=sizes, credentials=FRED) == (expected, sent)


@sizes_of_pieces
def test_login_that_is_answered_with_version_5(sizes):
    """Some proxies say 5 there."""
    answers = choice(2) + login_status(0, version=5) + reply5(0)
    assert asked(5, answers, sizes=sizes, credentials=FRED)[0] == Reply(Outcome.GRANTED, "0.0.0.0", 0)


@pytest.mark.parametrize("code", [1, 2, 5])
@sizes_of_pieces
def test_an_error_of_three_bytes_is_waited_for(code, sizes):
    """Some proxies say no more than that, and close; the stream then ends before the reply does."""
    client = ClientHandshake(5, to("a.b", 80))
    assert ask(client, Stream(choice(0) + bytes([5, code, 0]), sizes))[0] is None
    assert client.bytes_wanted == 2


@pytest.mark.parametrize("data", [row[0] for row in REPLIES_READ5.values()])
def test_a_reply_is_complete_with_its_last_byte_and_not_before(data):
    client = ClientHandshake(5, to("a.b", 80))
    client.feed(choice(0))
    for place in range(len(data) - 1):
        assert 0 < client.bytes_wanted <= len(data) - place
        assert client.feed(data[place : place + 1]) is None
    assert client.bytes_wanted == 1
    assert client.feed(data[-1:]) is not None


def test_bytes_wanted_goes_no_further_than_the_message_that_is_awaited():
    client = ClientHandshake(5, to("a.b", 80), FRED)
    wanted = [client.bytes_wanted]
    for byte in bytewise(choice(2) + login_status(0) + reply5(0, "abc", 80)):
        client.feed(byte)
        wanted.append(client.bytes_wanted)
    assert wanted == [2, 1, 2, 1, 5, 4, 3, 2, 1, 5, 4, 3, 2, 1, 0]
    client = ClientHandshake(4, to("a.b", 80))
    for left in range(8, 0, -1):
        assert client.bytes_wanted == left
        client.feed(reply(GRANTED)[8 - left : 9 - left])
    assert client.bytes_wanted == 0


def test_all_answers_in_one_piece():
    """Whoever reads without regard to ``bytes_wanted`` has the rest in ``trailing``, and sends all that was to be said."""
    client = ClientHandshake(5, to("a.b", 80), FRED)
    found = client.feed(choice(2) + login_status(0) + reply5(0, "10.1.2.3", 80) + FIRST_DATA)
    assert found == Reply(Outcome.GRANTED, "10.1.2.3", 80)
    assert client.trailing == FIRST_DATA
    assert client.take_output() == greeting(0, 2) + login("fred", "secret") + request5("a.b", 80)


WRONG_ANSWERS = {
    **{f"choice with version {byte}": (choice(0)[1:] if byte == 0 else bytes([byte])) for byte in (0, 1, 4, 6, 72)},
    **{f"method {method}, not offered": choice(method) for method in (1, 3, 0x80, 0xFE)},
    **{f"status with version {byte}": choice(2) + bytes([byte]) for byte in (0, 2, 4, 6, 255)},
    **{f"reply with version {byte}": choice(0) + bytes([byte]) for byte in (0, 1, 4, 6, 255)},
    **{f"reply with ATYP {kind}": choice(0) + bytes([5, 0, 0, kind, 0]) for kind in (0, 2, 5, 255)},
    "reply with a space in the name": choice(0) + reply5(0, "a b"),
    "reply with a line end in the name": choice(0) + reply5(0, b"a\r\n"),
    "reply with NUL in the name": choice(0) + reply5(0, b"\0"),
}


@sizes_of_pieces
@pytest.mark.parametrize("name", WRONG_ANSWERS)
def test_answer_that_is_none(name, sizes):
    client = ClientHandshake(5, to("a.b", 80), FRED)
    with pytest.raises(ProtocolError) as caught:
        ask(client, Stream(WRONG_ANSWERS[name] + FIRST_DATA, sizes))
    assert not isinstance(caught.value, LoginRefusedError)
    assert "secret" not in shown(caught.value)
    for piece in (b"", choice(0), reply5(0)):
        with pytest.raises(ProtocolError) as again:
            client.feed(piece)
        assert str(again.value) == str(caught.value)
    assert client.trailing == b""


@pytest.mark.parametrize("data", [b"\5\0\0\2", b"\5\1\0\0", b"\5\0\0\1"])
def test_a_kind_of_address_is_known_by_its_byte(data):
    client = ClientHandshake(5, to("a.b", 80))
    client.feed(choice(0) + data[:3])
    if data[3] == 1:
        assert client.feed(data[3:]) is None
    else:
        with pytest.raises(ProtocolError, match="no kind of address"):
            client.feed(data[3:])


@sizes_of_pieces
@pytest.mark.parametrize(
    "data", [bytes([byte]) for byte in (1, 5, 71, 90, 255)] + [bytes([0, code]) for code in (0, 1, 89, 94, 255)]
)
def test_answer_that_is_none_of_socks4(data, sizes):
    client = ClientHandshake(4, to("a.b", 80))
    with pytest.raises(ProtocolError, match=f"byte {len(data) - 1} is {data[-1]}"):
        ask(client, Stream(data + reply(GRANTED)[len(data) :], sizes))
    with pytest.raises(ProtocolError):
        client.feed(reply(GRANTED))


def test_a_method_that_was_not_offered():
    client = ClientHandshake(5, to("a.b", 80))
    with pytest.raises(ProtocolError, match="2, which was not offered"):
        client.feed(choice(2))


@sizes_of_pieces
@pytest.mark.parametrize("status", [1, 2, 5, 128, 255])
@pytest.mark.parametrize("version", [1, 5])
def test_login_that_is_refused(status, version, sizes):
    client = ClientHandshake(5, to("a.b", 80), Login("fred", PASSWORD))
    with pytest.raises(LoginRefusedError) as caught:
        ask(client, Stream(choice(2) + login_status(status, version), sizes))
    assert PASSWORD not in shown(caught.value)
    assert client.take_output() == b""


@pytest.mark.parametrize(("credentials", "word"), [(None, "a login"), (FRED, "another way")])
def test_no_method_is_acceptable(credentials, word):
    client = ClientHandshake(5, to("a.b", 80), credentials)
    client.take_output()
    with pytest.raises(LoginRefusedError, match=word):
        client.feed(REFUSAL_OF_METHODS)
    assert client.take_output() == b""


# -- what a client asks

ASKED = {
    "4": (4, ten(), request("10.1.2.3", 80)),
    "4, with a user": (4, ten(user=b"fred"), request("10.1.2.3", 80, user=b"fred")),
    "4, the longest user": (4, ten(user=b"u" * 255), request("10.1.2.3", 80, user=b"u" * 255)),
    "4, bind": (4, ten(command=Command.BIND), request("10.1.2.3", 80, command=2)),
    "4, bind for anybody": (4, to("0.0.0.0", 0, bytes(4), command=Command.BIND), request("0.0.0.0", 0, command=2)),
    "4a": (4, to("a.b", 65535), request("", 65535, name="a.b")),
    "4a, with a user": (4, to("a.b", 80, user=b"fred"), request("", 80, user=b"fred", name="a.b")),
    "4a, the longest name": (4, to("h" * 255, 80), request("", 80, name="h" * 255)),
    "4a, international": (4, to("bücher.example", 80), request("", 80, name="xn--bcher-kva.example")),
    "5": (5, ten(), request5("10.1.2.3", 80)),
    "5, IPv6": (5, to("::1", 80, LOOPBACK6), request5("::1", 80)),
    "5, name": (5, to("a.b", 65535), request5("a.b", 65535)),
    "5, the longest name": (5, to("h" * 255, 80), request5("h" * 255, 80)),
    "5, international": (5, to("bücher.example", 80), request5("xn--bcher-kva.example", 80)),
    "5, bind": (5, ten(command=Command.BIND), request5("10.1.2.3", 80, command=2)),
    "5, associate": (
        5,
        to("0.0.0.0", 0, bytes(4), command=Command.ASSOCIATE),
        request5("0.0.0.0", 0, command=3),
    ),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_is_asked(name):
    version, wanted, expected = ASKED[name]
    client = ClientHandshake(version, wanted)
    if version == 5:
        assert client.take_output() == greeting(0)
        client.feed(choice(0))
    assert client.take_output() == expected
    assert client.take_output() == b""


#: what cannot be said → a word of the message. Nobody is connected to for that
UNSAYABLE = {
    "4, IPv6": (4, to("::1", 80, LOOPBACK6), None, "IPv6"),
    "4, datagrams": (4, ten(command=Command.ASSOCIATE), None, "ASSOCIATE"),
    "4, an address that announces a name": (4, to("0.0.0.7", 80, b"\0\0\0\7"), None, "0.0.0.7"),
    "4, user one too long": (4, ten(user=b"u" * 256), None, "user id"),
    "4, NUL in the user": (4, ten(user=b"a\0b"), None, "user id"),
    **{
        f"{version}, {what}": (version, to(host, 80), None, word)
        for version in (4, 5)
        for what, host, word in [
            ("empty name", "", "1 to 255"),
            ("name one too long", "h" * 256, "1 to 255"),
            ("a space in the name", "a b", "characters"),
            ("a line end in the name", "a\r\n", "characters"),
            ("NUL in the name", "a\0b", "characters"),
            ("a label too long for the DNS", "ü" * 64 + ".example", "no form"),
            ("half a character", "\udc80", "no form"),
        ]
    },
    "5, no user": (5, to("a.b", 80), Login("", PASSWORD), "1 to 255"),
    "5, no password": (5, to("a.b", 80), Login("fred", ""), "1 to 255"),
    "5, user one too long": (5, to("a.b", 80), Login("u" * 256, PASSWORD), "1 to 255"),
    "5, password one too long": (5, to("a.b", 80), Login("fred", PASSWORD * 20), "1 to 255"),
    "5, password one too long in UTF-8": (5, to("a.b", 80), Login("fred", "ü" * 128), "1 to 255"),
    "5, half a character": (5, to("a.b", 80), Login("fred", PASSWORD + "\ud800"), "cannot be sent"),
}


@pytest.mark.parametrize("name", UNSAYABLE)
def test_what_cannot_be_said(name):
    version, wanted, credentials, word = UNSAYABLE[name]
    with pytest.raises(ProtocolError, match=word) as caught:
        ClientHandshake(version, wanted, credentials)
    assert PASSWORD not in str(caught.value) + repr(caught.value)


# -- the second reply of BIND


@pytest.mark.parametrize(
    ("version", "first", "second", "expected"),
    [
        (4, reply(GRANTED, "10.1.2.3", 80), reply(GRANTED, "10.9.9.9", 81), Reply(Outcome.GRANTED, "10.9.9.9", 81)),
        (4, reply(GRANTED, "10.1.2.3", 80), reply(REJECTED), Reply(Outcome.FAILED, "0.0.0.0", 0)),
        (5, reply5(0, "10.1.2.3", 80), reply5(0, "10.9.9.9", 81), Reply(Outcome.GRANTED, "10.9.9.9", 81)),
        (5, reply5(0, "10.1.2.3", 80), reply5(0, "::1", 81), Reply(Outcome.GRANTED, "::1", 81)),
        (5, reply5(0, "10.1.2.3", 80), reply5(0, "a.b", 81), Reply(Outcome.GRANTED, "a.b", 81)),
        (5, reply5(0, "::1", 80), reply5(6), Reply(Outcome.TIMED_OUT, "0.0.0.0", 0)),
    ],
)
@sizes_of_pieces
def test_the_second_reply_of_bind(version, first, second, expected, sizes):
    answers = (choice(0) if version == 5 else b"") + first
    host = "10.1.2.3" if version == 4 or b"\4" not in first[3:4] else "::1"
    wanted = to("a.b", 80, command=Command.BIND)
    client = ClientHandshake(version, wanted)
    stream = Stream(answers + second + FIRST_DATA, sizes)
    assert ask(client, stream)[0] == Reply(Outcome.GRANTED, host, 80)
    assert stream.data == second + FIRST_DATA
    client.expect_second()
    assert ask(client, stream) == (expected, b"")
    assert stream.data == FIRST_DATA
    glued = ClientHandshake(version, wanted)
    glued.feed(answers + second + FIRST_DATA)
    glued.expect_second()
    assert glued.bytes_wanted > 0
    assert glued.feed(b"") == expected
    assert glued.trailing == FIRST_DATA


@pytest.mark.parametrize("command", [Command.CONNECT, Command.ASSOCIATE])
def test_only_bind_has_a_second_reply(command):
    client = ClientHandshake(5, ten(command=command))
    client.feed(choice(0) + reply5(0))
    with pytest.raises(ValueError, match="BIND"):
        client.expect_second()


# -- any bytes at all from a proxy

LIKELY_ANSWER = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([choice(0), choice(2), choice(255), login_status(0), login_status(1), login_status(0, 5)]),
    st.sampled_from([row[0] for row in (*REPLIES_READ4.values(), *REPLIES_READ5.values())]),
    st.sampled_from(list(WRONG_ANSWERS.values())),
)


@given(
    parts=st.lists(LIKELY_ANSWER, max_size=5),
    places=st.lists(st.integers(0, 400), max_size=8),
    version=st.sampled_from([4, 5]),
    credentials=st.sampled_from([None, FRED]),
)
@settings(max_examples=500, deadline=None)
def test_any_answer_in_any_pieces(parts, places, version, credentials):
    data = b"".join(parts)

    def heard(pieces):
        client = ClientHandshake(version, to("a.b", 80), credentials)
        found = None
        try:
            for piece in pieces:
                assert found is not None or client.bytes_wanted > 0
                found = client.feed(piece) or found
        except ProtocolError as error:
            return type(error), str(error), client.take_output()
        if found is None:
            assert len(client.trailing) < 7 + HOST_BYTES_MAX
        return found, client.trailing, client.take_output()

    assert heard([data]) == heard(pieces_of(data, places)) == heard(bytewise(data))


# -- one side against the other

NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=HOST_BYTES_MAX)
PACKED = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))
PORTS = st.integers(0, 65535)
CREDENTIALS = st.builds(Login, st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60)).filter(
    lambda one: all(part.isprintable() for part in one)
)
CUTS = st.lists(st.integers(1, 600), min_size=1, max_size=5).map(tuple)


def text_of(packed):
    return str(ipaddress.ip_address(packed)) if packed else "0.0.0.0"


@st.composite
def requests(draw, version):
    packed = draw(st.one_of(st.just(b""), PACKED if version == 5 else st.binary(min_size=4, max_size=4)))
    host = text_of(packed) if packed else draw(NAMES)
    commands = list(Command) if version == 5 else [Command.CONNECT, Command.BIND]
    user_id = draw(st.binary(max_size=USER_ID_BYTES_MAX)).replace(b"\0", b"") if version == 4 else b""
    return Request(draw(st.sampled_from(commands)), host, draw(PORTS), packed, user_id)


class Wire:
    """Two machines and what is under way between them. Each side takes pieces of its own sizes."""

    def __init__(self, client, server, sizes_up, sizes_down, accepts):
        self.client, self.server, self.accepts = client, server, accepts
        self.up, self.down = Stream(b"", sizes_up), Stream(b"", sizes_down)
        self.logins = []

    def until_there_is_a_request(self):
        while True:
            self.up.data += self.client.take_output()
            event = self.server.feed(self.up.receive(4096))
            while isinstance(event, Login):
                self.logins.append(event)
                self.server.answer_login(self.accepts)
                event = self.server.feed(b"")
            self.down.data += self.server.take_output()
            if event is not None:
                return event
            while self.down.data:
                assert self.client.feed(self.down.receive(self.client.bytes_wanted)) is None

    def reply(self, *arguments):
        self.down.data += self.server.reply(*arguments) + FIRST_DATA
        while (found := self.client.feed(self.down.receive(self.client.bytes_wanted))) is None:
            pass
        assert self.down.data == FIRST_DATA
        self.down.data = b""
        return found


@given(data=st.data(), version=st.sampled_from([4, 5]), policy=st.sampled_from(sorted(POLICIES)), up=CUTS, down=CUTS)
@settings(max_examples=300, deadline=None)
def test_what_a_client_asks_is_what_a_server_reads(data, version, policy, up, down):
    wanted = data.draw(requests(version))
    if version == 4 and wanted.packed[:3] == bytes(3) and wanted.packed[3]:
        with pytest.raises(ProtocolError):
            ClientHandshake(4, wanted)
        return
    arguments, preferred = POLICIES[policy]
    credentials = data.draw(CREDENTIALS if preferred == (2,) else st.one_of(st.none(), CREDENTIALS))
    client = ClientHandshake(version, wanted, credentials)
    wire = Wire(client, ServerHandshake(**arguments), up, down, accepts=True)
    assert wire.until_there_is_a_request() == wanted
    assert wire.logins == ([credentials] if version == 5 and credentials and preferred[0] == 2 else [])
    for number in range(2):
        outcome = data.draw(st.sampled_from(Outcome))
        packed, port = data.draw(st.one_of(st.just(b""), PACKED)), data.draw(PORTS)
        found = wire.reply(outcome, packed, port)
        if version == 5:
            assert found == Reply(outcome, text_of(packed), port)
        else:
            assert found == Reply(
                Outcome.FAILED if outcome else outcome, text_of(packed if len(packed) == 4 else b""), port
            )
        if number or wanted.command is not Command.BIND or outcome:
            break
        client.expect_second()


@given(credentials=CREDENTIALS, up=CUTS, down=CUTS)
def test_a_login_that_the_server_refuses_is_what_the_client_hears(credentials, up, down):
    client = ClientHandshake(5, to("a.b", 80), credentials)
    wire = Wire(client, ServerHandshake(password_wanted=True), up, down, accepts=False)
    with pytest.raises(LoginRefusedError):
        wire.until_there_is_a_request()
    assert wire.logins == [credentials]


@given(up=CUTS, down=CUTS)
def test_a_client_without_a_login_hears_that_one_is_wanted(up, down):
    client = ClientHandshake(5, to("a.b", 80))
    server = ServerHandshake(password_wanted=True)
    with pytest.raises(LoginMissingError):
        Wire(client, server, up, down, accepts=True).until_there_is_a_request()
    with pytest.raises(LoginRefusedError):
        client.feed(server.refusal())
