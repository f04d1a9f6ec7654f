"""Folded stacks: reading, writing, merging and counting; py-spy's form of them; and what frames are called."""

from __future__ import annotations

import json.decoder
import sys

import pytest

import netnet.net.relay
from netnet.errors import UsageError
from netnet.flame.frames import ROOMS, label, room, short_path
from netnet.flame.roots import without_addresses
from netnet.flame.stacks import Frame, Stacks, parse, parse_py_spy

MAIN = "main (server.py:1)"
WORK = "work (server.py:9)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("a 1\n", {("a",): 1}),
        ("a;b c;d 12\na 1\n", {("a", "b c", "d"): 12, ("a",): 1}),
        ("a;b 1\na;b 2\n", {("a", "b"): 3}),
        (";a;;b 1", {("a", "b"): 1}),
        ("f (x.py:3);<lambda> (x.py:4) 7\n", {("f (x.py:3)", "<lambda> (x.py:4)"): 7}),
        ("\r\n  \na 5\r\n", {("a",): 5}),
    ],
)
def test_parse(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["a\n", "a;b x\n", "a 1\nb -1\n", "a 1.5\n", "a ٣\n"])
def test_parse_says_which_line_has_no_count(text):
    with pytest.raises(UsageError, match=rf"line {text.count(chr(10))} .* no count"):
        parse(text)


def test_text_can_be_read_again():
    stacks = Stacks({("a b", "c"): 3, ("a b",): 1})
    assert stacks.text() == "a b 1\na b;c 3\n"
    assert parse(stacks.text()) == stacks


def test_text_has_no_semicolons_and_line_ends_in_frames():
    assert Stacks({("task: a;b\nc",): 2}).text() == "task: a:b c 2\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('process 7:"python x.py";main (/p/x.py:3) 4\n', {("main (x.py:3)",): 4}),
        ('process 7:"python x.py" 4\n', {("(no Python)",): 4}),
        ('process 7:"";process 8:"a;b";main (/p/x.py:3) 4\n', {("main (x.py:3)",): 4}),
        ('process 7:"python -c \nfor x in y: print(x, 3)\n";f (<string>:2) 1\ng (x.py:1) 2\n', None),
        ('process 7:"say "hi" now";f (x.py:1) 2', {("f (x.py:1)",): 2}),
        ("0x7f85df84524a (libc.so.6);f (x.py:1) 9", {("? (libc.so.6)", "f (x.py:1)"): 9}),
        ("PyObject_Call (/build/Objects/call.c:12) 1", {("PyObject_Call (call.c:12)",): 1}),
        ("std::vector<int, a> (x.so);[unknown] 1", {("std::vector<int, a> (x.so)", "[unknown]"): 1}),
        ("f (/p/x.py:1) 1\nf (/q/x.py:1) 1", {("f (x.py:1)",): 2}),
    ],
)
def test_parse_py_spy(text, expected):
    expected = expected or {("f (<string>:2)",): 1, ("g (x.py:1)",): 2}
    assert parse_py_spy(text) == expected


def test_merge_and_total():
    stacks = Stacks({("a",): 1}).merge({("a",): 2, ("b",): 3}).merge(Stacks())
    assert stacks == {("a",): 3, ("b",): 3}
    assert stacks.total == 6


def test_recursion_counts_once():
    stacks = Stacks({("main", "f", "g", "f"): 5, ("main", "f"): 2, ("main",): 1})
    assert stacks.frames() == [Frame("f", 7, 7), Frame("main", 1, 8), Frame("g", 0, 5)]
    assert stacks.top(1) == [Frame("f", 7, 7)]
    assert Stacks().top(3) == []


def test_roots_that_differ_in_numbers_fall_together_where_there_are_many():
    few = Stacks({("group: main", f"task: fetch {n}", WORK): 1 for n in range(8)})
    assert few.settled() == few
    many = Stacks({("group: main", f"task: fetch {n}", WORK): 1 for n in range(9)})
    assert many.settled() == {("group: main", "task: fetch N", WORK): 9}
    one_process_had_many = Stacks({("task: fetch N",): 5, ("task: fetch 3",): 1, ("task: other 3",): 1})
    assert one_process_had_many.settled() == {("task: fetch N",): 6, ("task: other 3",): 1}
    no_roots = Stacks({(f"f{n} (x.py:{n})",): 1 for n in range(20)})
    assert no_roots.settled() == no_roots


def test_the_import_machinery_is_left_out():
    find, load = (f"{name} (<frozen importlib._bootstrap>:1)" for name in ("_find", "_load"))
    stacks = Stacks({(MAIN, find, load, WORK): 2, (MAIN, find, load): 1, (find,): 1})
    assert stacks.settled() == {(MAIN, WORK): 2, (MAIN, load): 1, (find,): 1}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (netnet.net.relay.__file__, "netnet/net/relay.py"),
        (netnet.__file__, "netnet/__init__.py"),
        (json.decoder.__file__, "json/decoder.py"),
        (sys.modules["threading"].__file__, "threading.py"),
        ("/usr/lib/python3.13t/asyncio/events.py", "asyncio/events.py"),
        (pytest.__file__, "pytest/__init__.py"),
        ("/opt/app/lib/python3.12/site-packages/gevent/hub.py", "gevent/hub.py"),
        ("/nowhere/at/all/server.py", "server.py"),
        ("server.py", "server.py"),
        ("<frozen runpy>", "<frozen runpy>"),
        ("<string>", "<string>"),
        ("/lib/x86_64-linux-gnu/libc.so.6", "libc.so.6"),
    ],
)
def test_short_path(path, expected):
    assert short_path(path) == expected


def test_label():
    assert label("f", "/x/y.py", 3) == "f (y.py:3)"
    assert label("send", "libc.so.6", None) == "send (libc.so.6)"


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ("group: main", "task"),
        ("task: main", "task"),
        ("(loop)", "task"),
        ("(no task)", "task"),
        ("(no group)", "task"),
        ("Loop.run_turns (netnet/runtime/loop.py:391)", "runtime"),
        ("EpollPoller.wait (netnet/poller/epoll.py:73)", "runtime"),
        ("splice (netnet/kernel/transfer.py:7)", "runtime"),
        ("Socket.recv (netnet/net/sockets.py:3)", "net"),
        ("Server.handle (netnet/socks/server.py:3)", "proxy"),
        ("run (netnet/proxy/service.py:1)", "proxy"),
        ("main (netnet/cli/main.py:14)", "netnet"),
        ("main (server.py:14)", "user"),
        ("<lambda> (<string>:1)", "user"),
        ("f (gevent/hub.py:1)", "user"),
        ("loads (json/__init__.py:1)", "library"),
        ("Thread.run (threading.py:1)", "library"),
        ("_run_code (<frozen runpy>:65)", "library"),
        ("send (libc.so.6)", "native"),
        ("PyObject_Call (call.c:12)", "native"),
        ("[unknown]", "native"),
        ("(no Python)", "native"),
    ],
)
def test_room(frame, expected):
    assert room(frame) == expected
    assert expected in ROOMS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("handle 10.0.0.7:53122", "handle ADDRESS"),
        ("proxy listener 127.0.0.1:1080", "proxy listener ADDRESS"),
        ("proxy listener [::1]:1080", "proxy listener ADDRESS"),
        ("from fe80::1:2 to 10.1.2.3", "from ADDRESS to ADDRESS"),
        ("[2001:db8::7%eth0]:80", "ADDRESS"),
        ("every 0.01 s: tick", "every 0.01 s: tick"),
        ("worker 12", "worker 12"),
        ("dns query example.com", "dns query example.com"),
        ("time 12:30", "time 12:30"),
        ("Server._handle", "Server._handle"),
    ],
)
def test_names_lose_their_addresses(name, expected):
    assert without_addresses(name) == expected
