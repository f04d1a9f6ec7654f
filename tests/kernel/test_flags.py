"""Flags by name: each name gives the number that the socket module or the headers have, in either case, with or without
its prefix, and numbers give names back; what is no flag is refused with what was meant."""

from __future__ import annotations

import re
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

import netnet
from netnet.errors import OptionError
from netnet.kernel.flags import AI, MSG, NI, Flags
from netnet.kernel.numbers import number

FAMILIES = [MSG, AI, NI]
ALL = [(family, name) for family in FAMILIES for name in family.numbers]


@pytest.mark.parametrize(("family", "name"), ALL, ids=[family.prefix + name for family, name in ALL])
def test_each_name_is_its_number(family, name):
    bit = number(family.prefix + name.upper())
    assert bit is not None
    assert family(name) == family(name.upper()) == family.numbers[name] == bit
    assert family(family.prefix + name.upper()) == family(f"{family.prefix}{name}".lower()) == bit
    assert family(bit) == family.of(bit) == family.of(name) == family.of([name]) == family.of((bit, name)) == bit
    assert name in family.names(bit)
    assert bit > 0


def test_what_everybody_uses_is_there():
    assert MSG("peek") == socket.MSG_PEEK
    assert MSG("dontwait", "peek") == socket.MSG_DONTWAIT | socket.MSG_PEEK
    assert AI("passive", "numerichost") == socket.AI_PASSIVE | socket.AI_NUMERICHOST
    assert NI("numericserv") == socket.NI_NUMERICSERV
    for name in ("waitall", "oob", "trunc", "ctrunc", "nosignal", "errqueue", "zerocopy", "more", "cmsg_cloexec"):
        assert name in MSG.numbers


@pytest.mark.parametrize(
    ("flags", "value"),
    [
        ((), 0),
        ((0,), 0),
        (("peek",), 2),
        (("peek", "peek"), 2),
        (("PEEK", "MSG_PEEK", "msg_peek", "Msg_Peek"), 2),
        ((socket.MSG_PEEK, "oob"), 3),
        ((socket.MSG_PEEK | socket.MSG_OOB,), 3),
        ((1 << 30 | 1, "peek"), 1 << 30 | 3),
    ],
)
def test_several_together(flags, value):
    assert MSG(*flags) == value
    assert MSG.of(flags) == MSG.of(list(flags)) == MSG.of(iter(flags)) == value
    assert isinstance(MSG(*flags), int)


@pytest.mark.parametrize(
    ("family", "name"), [(AI, "mask"), (AI, "default"), (NI, "maxhost"), (NI, "maxserv"), (NI, "max")]
)
def test_what_is_no_flag_is_not_there(family, name):
    assert name not in family.numbers
    with pytest.raises(OptionError):
        family(name)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.prefix)
def test_each_is_one_bit_and_no_bit_has_two_names(family):
    assert [name for name, value in family.numbers.items() if value.bit_count() != 1] == []
    assert len(set(family.numbers.values())) == len(family.numbers)
    assert all(name == name.lower() and name.isidentifier() for name in family.numbers)


@pytest.mark.parametrize(
    ("family", "name", "hint"),
    [
        (MSG, "peak", "did you mean 'peek'?"),
        (MSG, "MSG_PEAK", "did you mean 'peek'?"),
        (MSG, "dont_wait", "did you mean 'dontwait'?"),
        (MSG, "xyzzy", "known: "),
        (MSG, "", "known: "),
        (MSG, "MSG_", "known: "),
        (MSG, " peek", "did you mean 'peek'?"),
        (MSG, "AI_PASSIVE", "no flag"),
        (AI, "MSG_PEEK", "no flag"),
        (AI, "pasive", "did you mean 'passive'?"),
        (NI, "numeric_host", "did you mean 'numerichost'?"),
        (NI, "peek", "known: "),
    ],
)
def test_an_unknown_name_is_told_with_what_was_meant(family, name, hint):
    for call in (lambda: family(name), lambda: family.of(name), lambda: family.of([name]), lambda: family(0, name)):
        with pytest.raises(OptionError, match=re.escape(hint)) as caught:
            call()
        assert repr(name) in str(caught.value)
        assert f"{family.prefix}*" in str(caught.value)
        assert isinstance(caught.value, netnet.Error)


@pytest.mark.parametrize("flags", [None, 1.5, object()])
def test_what_is_neither_name_nor_number_nor_several_is_refused(flags):
    with pytest.raises(TypeError):
        MSG.of(flags)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (0, ()),
        (0x42, ("dontwait", "peek")),
        (2, ("peek",)),
        (1 << 40, ("0x10000000000",)),
        (1 << 40 | 2, ("peek", "0x10000000000")),
    ],
)
def test_names_of_a_number(value, names):
    assert MSG.names(value) == names


@given(st.sampled_from(FAMILIES), st.data())
def test_names_give_the_number_back(family, data):
    names = data.draw(st.sets(st.sampled_from(sorted(family.numbers))))
    value = family(*names)
    assert set(family.names(value)) == names
    assert family(*family.names(value)) == value


@given(st.sampled_from(FAMILIES), st.integers(0, 2**32 - 1))
def test_nothing_of_a_number_is_lost(family, value):
    *named, last = [*family.names(value), "0x0"] if not family.names(value) else family.names(value)
    rest = int(last, 16) if last.startswith("0x") else family(last)
    assert family(*named) | rest == value
    assert family(*named) & rest == 0


def test_names_in_the_order_of_the_alphabet():
    assert list(MSG.numbers) == sorted(MSG.numbers)


def test_a_name_for_several_bits_is_told_where_all_are_set():
    flags = Flags("X_", {"X_ONE": 1, "X_TWO": 2, "X_BOTH": 3, "X_NONE": 0})
    assert flags("both") == 3
    assert flags("none") == 0
    assert set(flags.names(3)) == {"one", "two", "both"}
    assert flags.names(1) == ("one",)
    assert flags.names(0) == ()
    assert set(flags.names(7)) == {"one", "two", "both", "0x4"}


def test_the_kernel_takes_them():
    one, other = netnet.socketpair()
    with one, other:
        one.send(b"abc", MSG("nosignal"))
        assert other.recv(2, MSG("peek")) == b"ab"
        assert other.recv(3, MSG("MSG_PEEK", "dontwait")) == b"abc"
        assert other.recv(3, MSG("waitall")) == b"abc"
        with pytest.raises(BlockingIOError):
            other.recv(1, MSG("dontwait"))


def test_the_resolver_takes_them():
    (found,) = socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM, flags=AI("numerichost", "numericserv"))
    assert found[4] == ("127.0.0.1", 80)
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("localhost", 80, flags=AI("numerichost"))
    assert socket.getnameinfo(("127.0.0.1", 80), NI("numerichost", "numericserv")) == ("127.0.0.1", "80")


@pytest.mark.parametrize("value", [1.5, None, b"peek", object()])
def test_what_is_no_name_and_no_number_is_a_type_error(value):
    with pytest.raises(TypeError):
        MSG(value)
    with pytest.raises(TypeError):
        MSG.of([value])


@pytest.mark.parametrize("value", [0x10000000, 0x10000002, -1])
def test_unknown_bits_can_be_read_back(value):
    assert MSG(*MSG.names(value)) % 2**32 == value % 2**32
