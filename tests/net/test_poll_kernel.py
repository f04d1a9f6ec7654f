"""The kernel's side of a ``Poll``: both facilities, by the same table of calls."""

from __future__ import annotations

import os
import select
import socket

import pytest

from netnet.net.poll_kernel import EpollWatcher, LookingWatcher, look_at, new_watcher
from netnet.poller.contract import ERROR, HANGUP, READABLE, WRITABLE
from netnet.poller.level import NOT_OPEN

#: what is tested may block the OS thread, where no limit but one from another thread helps: it ends the test program
pytestmark = pytest.mark.timeout(30, method="thread")


@pytest.fixture(params=[EpollWatcher, LookingWatcher])
def watcher(request):
    made = request.param()
    yield made
    made.close()


@pytest.fixture
def pairs():
    """Three pairs of connected sockets."""
    made = [socket.socketpair() for _ in range(3)]
    yield made
    for one in (one for pair in made for one in pair):
        one.close()


@pytest.fixture
def file(tmp_path):
    with open(tmp_path / "file", "w+b") as opened:
        yield opened


def test_which_facility(monkeypatch):
    made = new_watcher()
    assert isinstance(made, EpollWatcher)
    made.close()
    monkeypatch.delattr(select, "epoll")
    assert isinstance(new_watcher(), LookingWatcher)


@pytest.mark.parametrize(("mask", "bits"), [(READABLE, READABLE), (WRITABLE, WRITABLE), (5, 5), (0, 0), (2, 0)])
def test_what_is_asked_for(watcher, pairs, file, mask, bits):
    """A socket with something to read, and a file: both are ready for both."""
    (a, x), *_ = pairs
    x.send(b"1")
    for source in (a, file):
        watcher.register(source.fileno(), mask)
        assert watcher.look(9) == ([(source.fileno(), bits)] if bits else [])
        assert watcher.modify(source.fileno(), WRITABLE)
        assert watcher.look(9) == [(source.fileno(), WRITABLE)]
        assert watcher.unregister(source.fileno())
        assert watcher.look(9) == []


def test_in_turn(watcher, pairs, file):
    numbers = [file.fileno(), *(a.fileno() for a, _ in pairs)]
    for number in numbers:
        watcher.register(number, WRITABLE)
    for _ in range(5):
        told = [watcher.look(1)[0][0] for _ in numbers]
        assert sorted(told) == sorted(numbers)


def test_what_is_not_open(watcher):
    with pytest.raises(OSError, match="Bad file descriptor"):
        watcher.register(100_000, READABLE)
    assert not watcher.modify(100_000, READABLE)
    assert watcher.look(9) == []


def test_another_file_of_the_same_number(watcher, pairs, file, tmp_path):
    (a, x), (b, _), _ = pairs
    other = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
    for source, next_one in ((a.fileno(), b.fileno()), (file.fileno(), other)):
        watcher.register(source, WRITABLE)
        os.dup2(next_one, source)
        assert not watcher.modify(source, WRITABLE)
        watcher.unregister(source)
    os.close(other)


def test_a_stand_in_is_not_taken_for_the_closed_source_whose_number_it_has(tmp_path):
    """The number of a source that was closed behind our back is the first that a stand-in gets."""
    watcher = EpollWatcher()
    closed, other = socket.socketpair()
    with other, open(tmp_path / "file", "w+b") as file:
        number = closed.fileno()
        watcher.register(number, READABLE)
        closed.close()
        watcher.register(file.fileno(), WRITABLE)
        assert watcher._own == {watcher.bell: watcher.bell, number: file.fileno()}, "or this proves nothing"
        assert not watcher.modify(number, READABLE)
        assert not watcher.unregister(number)
        assert watcher.look(9) == [(file.fileno(), WRITABLE)]
    watcher.close()


def test_the_bell_rings_until_it_is_stopped():
    watcher = EpollWatcher()
    for _ in range(2):
        for _ in range(2):
            watcher.ring(True)
        assert watcher.look(9) == watcher.look(9) == [(watcher.bell, READABLE)]
        for _ in range(2):
            watcher.ring(False)
        assert watcher.look(9) == []
    watcher.close()


def test_a_retired_one_is_closed_by_the_last_who_leaves():
    watcher = EpollWatcher()
    watcher.users = 2
    watcher.retire()
    assert watcher.look(9) == [(watcher.bell, READABLE)], "who waits is woken"
    watcher.leave()
    os.fstat(watcher.bell)
    watcher.leave()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(watcher.bell)


def test_one_that_nobody_uses_is_closed_at_once():
    watcher = EpollWatcher()
    watcher.retire()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(watcher.bell)


@pytest.mark.parametrize("facility", ["poll", "select"])
def test_looking(monkeypatch, pairs, facility):
    if facility == "select":
        monkeypatch.delattr(select, "poll")
    (a, x), (b, y), (c, _) = pairs
    assert look_at({}) == {}
    x.send(b"1")
    masks = {a.fileno(): READABLE | WRITABLE, b.fileno(): READABLE, c.fileno(): WRITABLE, 1000: READABLE}
    ready = {a.fileno(): READABLE | WRITABLE, c.fileno(): WRITABLE, 1000: NOT_OPEN}
    assert look_at(masks) == ready
    y.close()
    assert look_at({b.fileno(): READABLE})[b.fileno()] & ~(HANGUP | ERROR) == READABLE
    assert look_at({1000: READABLE}) == {1000: NOT_OPEN}
