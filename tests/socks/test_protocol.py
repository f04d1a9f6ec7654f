"""The SOCKS4/4a machine: requests at each limit and one beyond, whole, byte by byte and glued to data; then any bytes at
all. The invariant: it waits for more, has a request, or raises ``ProtocolError``, and how the bytes were cut never
matters.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netnet import ProtocolError
from netnet.socks import Command, Reply, Request, Socks4Server
from netnet.socks.protocol import HOST_BYTES_MAX, REQUEST_BYTES_MAX, USER_ID_BYTES_MAX
from tests.socks.wire import request

GOOD = {
    "connect": (request("10.1.2.3", 80), Request(Command.CONNECT, "10.1.2.3", 80, b"", False)),
    "bind": (request("10.1.2.3", 80, command=2), Request(Command.BIND, "10.1.2.3", 80, b"", False)),
    "port 0": (request("10.1.2.3", 0), Request(Command.CONNECT, "10.1.2.3", 0, b"", False)),
    "port 258 is big-endian": (request("10.1.2.3", 258), Request(Command.CONNECT, "10.1.2.3", 258, b"", False)),
    "port 65535": (request("10.1.2.3", 65535), Request(Command.CONNECT, "10.1.2.3", 65535, b"", False)),
    "user": (request("10.1.2.3", 80, user=b"fred"), Request(Command.CONNECT, "10.1.2.3", 80, b"fred", False)),
    "user of any bytes": (
        request("10.1.2.3", 80, user=bytes(range(1, 256))),
        Request(Command.CONNECT, "10.1.2.3", 80, bytes(range(1, 256)), False),
    ),
    "longest user": (
        request("10.1.2.3", 80, user=b"u" * USER_ID_BYTES_MAX),
        Request(Command.CONNECT, "10.1.2.3", 80, b"u" * USER_ID_BYTES_MAX, False),
    ),
    "highest address": (request("255.255.255.255", 80), Request(Command.CONNECT, "255.255.255.255", 80, b"", False)),
    "0.0.0.0 is no 4a": (request("0.0.0.0", 80), Request(Command.CONNECT, "0.0.0.0", 80, b"", False)),
    "0.0.1.0 is no 4a": (request("0.0.1.0", 80), Request(Command.CONNECT, "0.0.1.0", 80, b"", False)),
    "0.0.1.5 is no 4a": (request("0.0.1.5", 80), Request(Command.CONNECT, "0.0.1.5", 80, b"", False)),
    "0.1.0.5 is no 4a": (request("0.1.0.5", 80), Request(Command.CONNECT, "0.1.0.5", 80, b"", False)),
    "1.0.0.5 is no 4a": (request("1.0.0.5", 80), Request(Command.CONNECT, "1.0.0.5", 80, b"", False)),
    "4a": (request("", 80, name="example.com"), Request(Command.CONNECT, "example.com", 80, b"", True)),
    "4a bind": (request("", 80, command=2, name="a.b"), Request(Command.BIND, "a.b", 80, b"", True)),
    "4a 0.0.0.255": (
        request("", 80, name="example.com").replace(b"\0\0\0\1", b"\0\0\0\xff"),
        Request(Command.CONNECT, "example.com", 80, b"", True),
    ),
    "4a, one letter": (request("", 80, name="a"), Request(Command.CONNECT, "a", 80, b"", True)),
    "4a, the edges of printable ASCII": (request("", 80, name="!~"), Request(Command.CONNECT, "!~", 80, b"", True)),
    "4a, an address as the name": (request("", 80, name="::1"), Request(Command.CONNECT, "::1", 80, b"", True)),
    "4a, longest name": (
        request("", 80, name="h" * HOST_BYTES_MAX),
        Request(Command.CONNECT, "h" * HOST_BYTES_MAX, 80, b"", True),
    ),
    "longest of all": (
        request("", 80, user=b"u" * USER_ID_BYTES_MAX, name="h" * HOST_BYTES_MAX),
        Request(Command.CONNECT, "h" * HOST_BYTES_MAX, 80, b"u" * USER_ID_BYTES_MAX, True),
    ),
}

UNFINISHED = {
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
    "all but the last byte of the longest": request("", 80, user=b"u" * USER_ID_BYTES_MAX, name="h" * HOST_BYTES_MAX)[
        :-1
    ],
}

#: what is wrong → the bytes up to the one that shows it, and a word of the message
BAD = {
    **{f"version {byte}": (bytes([byte]), f"byte 0 is {byte}") for byte in (0, 1, 3, 5, 22, 71, 255)},
    **{f"command {byte}": (bytes([4, byte]), f"byte 1 is {byte}") for byte in (0, 3, 4, 128, 255)},
    "user one too long": (request("10.1.2.3", 80, user=b"u" * (USER_ID_BYTES_MAX + 1))[:-1], "user id"),
    "4a, user one too long": (request("", 80, user=b"u" * (USER_ID_BYTES_MAX + 1), name="")[:-2], "user id"),
    "4a, empty name": (request("", 80, name=""), "empty"),
    "4a, name one too long": (request("", 80, name="h" * (HOST_BYTES_MAX + 1))[:-1], "host name"),
    **{
        f"4a, {byte:#04x} in the name": (request("", 80, name=b"a" + bytes([byte])), "characters")
        for byte in (1, 9, 10, 13, 27, 32, 127, 128, 195, 255)
    },
    "4a, only a space": (request("", 80, name=b" "), "characters"),
    "4a, UTF-8": (request("", 80, name="bücher.example"), "characters"),
}


def cut(data, how):
    """*data* in the pieces that *how* says."""
    return [data] if how == "whole" else [data[index : index + 1] for index in range(len(data))]


def outcome(pieces):
    """What becomes of *pieces*: the request and what is behind it, or the error's text; and in which piece."""
    machine = Socks4Server()
    result = (None, b"", "")
    for piece in pieces:
        try:
            machine.feed(piece)
        except ProtocolError as error:
            return None, b"", str(error)
        result = (machine.request, machine.trailing, "")
        if machine.request is None:
            assert machine.trailing == b""
    return result


@pytest.mark.parametrize("how", ["whole", "byte by byte"])
@pytest.mark.parametrize("name", GOOD)
def test_request(name, how):
    data, expected = GOOD[name]
    for trailing in (b"", b"\0", b"GET / HTTP/1.0\r\n\r\n", b"\x04\x01" * 2000):
        assert outcome(cut(data + trailing, how)) == (expected, trailing, "")


@pytest.mark.parametrize("name", GOOD)
def test_request_is_complete_with_its_last_byte_and_not_before(name):
    data, expected = GOOD[name]
    machine = Socks4Server()
    for piece in cut(data[:-1], "byte by byte"):
        assert machine.feed(piece) is None
    assert machine.feed(data[-1:]) == expected


@pytest.mark.parametrize("name", GOOD)
def test_request_cut_in_two_anywhere(name):
    data, expected = GOOD[name]
    for place in range(len(data) + 1):
        assert outcome([data[:place], data[place:] + b"tail"]) == (expected, b"tail", "")


@pytest.mark.parametrize("how", ["whole", "byte by byte"])
@pytest.mark.parametrize("name", UNFINISHED)
def test_unfinished(name, how):
    assert outcome(cut(UNFINISHED[name], how)) == (None, b"", "")


@pytest.mark.parametrize("how", ["whole", "byte by byte"])
@pytest.mark.parametrize("name", BAD)
def test_bad(name, how):
    data, word = BAD[name]
    assert word in outcome(cut(data, how))[2]


#: bad before their last byte: a bad byte stands inside the name
SHOWN_EARLIER = {"4a, only a space", "4a, UTF-8"} | {
    name for name in BAD if "name" in name and "too long" not in name and "empty" not in name
}


@pytest.mark.parametrize("name", sorted(set(BAD) - SHOWN_EARLIER))
def test_bad_is_known_with_the_first_byte_that_shows_it(name):
    data, _ = BAD[name]
    machine = Socks4Server()
    machine.feed(data[:-1])
    with pytest.raises(ProtocolError):
        machine.feed(data[-1:])


@pytest.mark.parametrize("byte", [1, 10, 32, 127, 195])
def test_a_bad_byte_in_a_name_is_known_at_once(byte):
    machine = Socks4Server()
    machine.feed(request("", 80, name=b"example")[:-1])
    with pytest.raises(ProtocolError):
        machine.feed(bytes([byte]))


def test_what_was_bad_stays_bad():
    machine = Socks4Server()
    for piece in (b"\x05", b"\x04\x01", request("10.1.2.3", 80)):
        with pytest.raises(ProtocolError):
            machine.feed(piece)
    assert machine.request is None


def test_the_message_shows_no_raw_control_characters():
    with pytest.raises(ProtocolError) as caught:
        Socks4Server().feed(request("", 80, name=b"a\r\nforged: line\x1b[2J"))
    assert str(caught.value).isprintable()


def test_no_buffer_is_kept_once_there_is_a_request():
    machine = Socks4Server()
    machine.feed(request("10.1.2.3", 80) + b"data")
    assert machine._buffer == b""


@pytest.mark.parametrize("piece", [b"\x05", b"\x04\x03", b"\x04\x01\0\x50\x0a\1\2\3" + b"u" * 300])
def test_a_peer_that_goes_on_after_its_error_fills_no_memory(piece):
    machine = Socks4Server()
    for data in (piece, b"x" * 100_000, b"x" * 100_000):
        with pytest.raises(ProtocolError):
            machine.feed(data)
    kept = len(machine._buffer)
    assert kept <= REQUEST_BYTES_MAX


def test_error_is_a_value_error_and_of_netnet():
    with pytest.raises(ValueError, match="no SOCKS4") as caught:
        Socks4Server().feed(b"\x05\x01\0")
    assert type(caught.value) is ProtocolError


# -- anything at all

LIKELY = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [data for data, _ in GOOD.values()] + list(UNFINISHED.values()) + [data for data, _ in BAD.values()]
    ),
    st.builds(bytes.__add__, st.sampled_from([b"\4\1", b"\4\2"]), st.binary(max_size=700)),
    st.builds(bytes.__add__, st.just(b"\4\1\0\x50\0\0\0\7"), st.binary(max_size=700)),
)


@given(parts=st.lists(LIKELY, max_size=4), places=st.lists(st.integers(0, 2000), max_size=8))
@settings(max_examples=400, deadline=None)
def test_any_bytes_in_any_pieces(parts, places):
    data = b"".join(parts)
    borders = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    pieces = [data[begin:end] for begin, end in itertools.pairwise(borders)]
    whole = outcome([data])
    for other in (outcome(pieces), outcome(cut(data, "byte by byte"))):
        assert other[:2] == whole[:2]
        assert bool(other[2]) == bool(whole[2])  # the words may name the piece


@given(pieces=st.lists(LIKELY, max_size=20))
@settings(max_examples=200, deadline=None)
def test_memory_is_bounded_until_there_is_an_outcome(pieces):
    machine = Socks4Server()
    for piece in pieces:
        try:
            done = machine.feed(piece)
        except ProtocolError:
            return
        if done is not None:
            return
        kept = len(machine._buffer)
        assert kept <= REQUEST_BYTES_MAX


@given(
    port=st.integers(0, 65535),
    command=st.sampled_from(list(Command)),
    user=st.binary(max_size=USER_ID_BYTES_MAX).filter(lambda user: 0 not in user),
    name=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=HOST_BYTES_MAX),
    trailing=st.binary(max_size=100),
)
def test_what_a_client_writes_is_read(port, command, user, name, trailing):
    data = request("", port, command=command, user=user, name=name)
    assert outcome([data + trailing]) == (Request(command, name, port, user, True), trailing, "")


# -- replies

REPLIES = [
    ((Reply.GRANTED,), "00 5a 0000 00000000"),
    ((Reply.REJECTED,), "00 5b 0000 00000000"),
    ((Reply.NO_IDENTD,), "00 5c 0000 00000000"),
    ((Reply.IDENT_MISMATCH,), "00 5d 0000 00000000"),
    ((Reply.GRANTED, "127.0.0.1", 258), "00 5a 0102 7f000001"),
    ((Reply.GRANTED, "255.255.255.255", 65535), "00 5a ffff ffffffff"),
    ((Reply.GRANTED, "::1", 80), "00 5a 0050 00000000"),
    ((Reply.GRANTED, "fe80::1%eth0", 80), "00 5a 0050 00000000"),
    ((Reply.GRANTED, "", 80), "00 5a 0050 00000000"),
]


@pytest.mark.parametrize(("arguments", "expected"), REPLIES)
def test_reply(arguments, expected):
    assert Socks4Server().reply(*arguments) == bytes.fromhex(expected)
