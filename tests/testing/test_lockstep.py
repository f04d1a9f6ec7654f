"""Lockstep streams: a sender is through when its receiver is. What all streams do is in ``test_conformance``."""

from __future__ import annotations

import socket

import pytest

import netnet
from netnet.testing import VirtualClock, lockstep_stream_pair, wait_all_parked


@pytest.fixture
def lockstep(run):
    """Runs a function of a lockstep pair, on the virtual clock."""

    def of(function, **options):
        def main():
            one, other = lockstep_stream_pair(**options)
            with one, other:
                return function(one, other)

        return run(main, clock=VirtualClock())

    return of


@pytest.mark.parametrize("name", ["send", "sendall"])
def test_sending_waits_until_all_was_received(lockstep, name):
    def main(one, other):
        task = netnet.spawn(getattr(one, name), b"abcdef")
        wait_all_parked()
        for chunk in (b"abc", b"de"):
            assert other.recv(len(chunk)) == chunk
            wait_all_parked()
            assert not task.done
        assert other.recv(9) == b"f"
        assert task.result() == (6 if name == "send" else None)

    lockstep(main)


def test_nothing_to_send_needs_no_receiver(lockstep):
    lockstep(lambda one, other: (one.sendall(b""), one.send(b"")))


def test_peers_that_both_send_first_are_a_deadlock(lockstep):
    def main(one, other):
        def talk(end):
            end.sendall(b"hello")
            end.recv(5)

        with netnet.TaskGroup() as group:
            group.spawn(talk, one)
            group.spawn(talk, other)

    with pytest.raises(netnet.DeadlockError, match="room in an in-memory stream"):
        lockstep(main)


@pytest.mark.parametrize(
    ("stop", "error"),
    [
        (lambda one, other, task: task.cancel(), netnet.Cancelled),
        (lambda one, other, task: one.close(), netnet.ClosedError),
        (lambda one, other, task: one.shutdown(socket.SHUT_WR), BrokenPipeError),
        (lambda one, other, task: other.shutdown(socket.SHUT_RD), BrokenPipeError),
        (lambda one, other, task: other.close(), BrokenPipeError),
        (lambda one, other, task: netnet.sleep(6), TimeoutError),
    ],
    ids=["cancel", "close", "shutdown", "peer-shutdown", "peer-close", "time-out"],
)
def test_what_was_not_received_is_taken_back(lockstep, stop, error):
    def main(one, other):
        one.settimeout(5)
        task = netnet.spawn(one.sendall, b"abcdef")
        wait_all_parked()
        assert other.recv(2) == b"ab"
        stop(one, other, task)
        wait_all_parked()
        assert isinstance(task.error, error)
        assert task.error.bytes_sent == 2
        with pytest.raises((error, netnet.TaskCancelledError)):
            task.result()
        if not other.closed:
            one.close()
            assert other.recv(9) == b""

    lockstep(main)


def test_a_peer_that_takes_all_and_closes_is_no_error(lockstep):
    def main(one, other):
        task = netnet.spawn(one.sendall, b"abc")
        wait_all_parked()
        assert other.recv(3) == b"abc"
        other.close()
        task.result()

    lockstep(main)


def test_a_call_that_must_not_wait_fails(lockstep):
    def main(one, other):
        one.settimeout(0)
        waiting = netnet.spawn(other.recv, 3)
        wait_all_parked()
        with pytest.raises(BlockingIOError) as caught:
            one.sendall(b"abc")
        assert caught.value.bytes_sent == 0
        one.settimeout(None)
        one.sendall(b"xyz")
        assert waiting.result() == b"xyz"

    lockstep(main)


def test_limits_are_checked():
    with pytest.raises(ValueError, match="max_chunk must be 1 or more, not 0"):
        lockstep_stream_pair(max_chunk=0)
