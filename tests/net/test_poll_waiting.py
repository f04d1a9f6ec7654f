"""What ``netnet.select`` and ``Poll`` park with: changes of several descriptors, intervals, one descriptor with a limit."""

from __future__ import annotations

import os
import select

import pytest

import netnet
from netnet import Cancelled
from netnet.net.poll_waiting import PAUSE_SECONDS_MAX, Changes, Pauses, readable_until, wait_and_look
from netnet.poller import ENVIRONMENT
from netnet.testing import VirtualClock, wait_all_parked

#: what is tested may block the OS thread, where no limit but one from another thread helps: it ends the test program
pytestmark = pytest.mark.timeout(30, method="thread")


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def inside_and_outside(run, main):
    run(main)
    main()


# -- changes


def test_changes_of_what_is_not_open_are_left_to_the_look(run, pipe):
    number = 100_000

    def main():
        with Changes() as changes:
            changes.watch(pipe[0], 1)
            changes.watch(number, 1)
            assert changes.wait(netnet.now() + 1)
            os.write(pipe[1], b"x")
            assert changes.wait(None)
        os.read(pipe[0], 1)

    inside_and_outside(run, main)


def test_changes_wake_once(run, pipe):
    def main():
        with Changes() as changes:
            changes.watch(pipe[0], 1)
            os.write(pipe[1], b"x")
            assert changes.wait(None)
            assert not changes.wait(netnet.now() + 0.001)
            os.write(pipe[1], b"x")
            assert changes.wait(None)

    inside_and_outside(run, main)


def test_changes_without_epoll_come_at_intervals(run, pipe, monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.delattr(select, "epoll")

    def main():
        with Changes() as changes:
            changes.watch(pipe[0], 1)
            for _ in range(10):
                assert changes.wait(None)
            assert not changes.wait(netnet.now() - 1)
        assert 0.1 < netnet.now() < 10 * PAUSE_SECONDS_MAX

    run(main, clock=VirtualClock())


# -- one descriptor, with a limit


def test_readable_until(run, pipe):
    def main():
        assert not readable_until(pipe[0], netnet.now() - 1)
        assert not readable_until(pipe[0], netnet.now() + 0.001)
        os.write(pipe[1], b"x")
        assert readable_until(pipe[0], netnet.now() + 10)
        assert readable_until(pipe[0], None)
        os.read(pipe[0], 1)

    inside_and_outside(run, main)


def test_a_limit_around_is_not_taken_for_its_own(run, pipe):
    def main():
        with pytest.raises(TimeoutError, match="time limit of 5"), netnet.timeout(5):
            readable_until(pipe[0], netnet.now() + 10)
        task = netnet.spawn(readable_until, pipe[0], netnet.now() + 10)
        wait_all_parked()
        task.cancel()
        task.join()
        assert isinstance(task.error, Cancelled)

    run(main, clock=VirtualClock())


def test_more_than_a_day_outside_a_loop(pipe, monkeypatch):
    """One wait of the kernel takes a day at most: then it waits on."""
    limits = []

    def wait_one(number, side, seconds):
        limits.append(seconds)
        return len(limits) % 3 == 0

    monkeypatch.setattr("netnet.net.poll_waiting.wait_one", wait_one)
    assert readable_until(pipe[0], netnet.now() + 1_000_000)
    assert readable_until(pipe[0], None)
    assert [seconds is None for seconds in limits] == [False] * 3 + [True] * 3


# -- looking


def test_it_looks_once_more_when_the_time_is_up():
    looks = iter([[], [], ["late"]])
    waits = iter([True, True, False])
    assert wait_and_look(lambda: next(waits), lambda: next(looks)) == ["late"]
    waits = iter([False])
    assert wait_and_look(lambda: next(waits), list) == []
    assert wait_and_look(lambda: True, lambda: ([], [1], []), any) == ([], [1], [])


def test_pauses_grow_and_end_in_time(run):
    def main():
        pauses = Pauses()
        lengths = []
        for _ in range(10):
            before = netnet.now()
            assert pauses.wait(None)
            lengths.append(round(netnet.now() - before, 9))
        assert lengths == sorted(lengths)
        assert lengths[-1] == PAUSE_SECONDS_MAX
        before = netnet.now()
        assert not pauses.wait(before + 0.01)
        assert netnet.now() == pytest.approx(before + 0.01)

    run(main, clock=VirtualClock())
