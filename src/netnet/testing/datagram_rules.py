"""What every pair of connected datagram sockets must do, rule by rule. See ``conformance``.

Nothing here sends more than a few datagrams before they are received: where a queue is full, some kinds wait and some
lose what is sent, and both are right.
"""

from __future__ import annotations

import errno
from typing import Final

from netnet.errors import Cancelled, ClosedError
from netnet.runtime.scope import CancelScope, timeout
from netnet.testing.parked import wait_all_parked
from netnet.testing.proving import Datagrams, Ground, Rule, check, pattern, raises, short

Pair = Ground[Datagrams, Datagrams]

#: what fits through every kind: the least that a host must take over IPv4 (RFC 791) without the headers, rounded down
_SIZES: Final = (1, 2, 100, 512)

_ASKED: Final = 2048

_TIME_LIMIT_SECONDS: Final = 0.02


def boundaries_are_kept(ground: Pair) -> None:
    """One recv returns one datagram, whole, in the order in which they were sent."""
    one, other = ground.pair()
    for sizes in (_SIZES, tuple(reversed(_SIZES)), (1,) * 5):
        for size in sizes:
            check((count := one.send(pattern(size, size))) == size, f"send() of {size} bytes returned {count!r}")
        for size in sizes:
            got = other.recv(_ASKED)
            check(got == pattern(size, size), f"{short(got)} ({len(got)} bytes) came for a datagram of {size} bytes")


def empty_datagrams_are_datagrams(ground: Pair) -> None:
    """An empty datagram arrives as b"", and what comes after it arrives, too."""
    one, other = ground.pair()
    for data in (b"", b"a", b"", b"", b"b"):
        one.send(data)
    got = [other.recv(_ASKED) for _ in range(5)]
    check(got == [b"", b"a", b"", b"", b"b"], f"{got} came")


def both_ways(ground: Pair) -> None:
    """Datagrams go both ways, and a task may wait to receive while another one sends."""
    one, other = ground.pair()
    waiting = ground.start(one.recv, _ASKED, what="recv()")
    waiting.must_wait()
    one.send(b"question")
    check((got := other.recv(_ASKED)) == b"question", f"{got!r} came for b'question'")
    other.send(b"answer")
    check((got := waiting.result()) == b"answer", f"{got!r} came for b'answer'")


def what_is_too_long_is_cut(ground: Pair) -> None:
    """recv(n) returns at most n bytes of a datagram; the rest is lost, and the next recv gets the next one."""
    one, other = ground.pair()
    for data in (b"long one", b"next"):
        one.send(data)
    got = [other.recv(4), other.recv(_ASKED)]
    check(got == [b"long", b"next"], f"{got} came")


def negative_sizes_are_refused(ground: Pair) -> None:
    """recv(-1) raises ValueError."""
    raises(ValueError, ground.pair()[1].recv, -1, what="recv(-1)")


def recv_into_fills_buffers(ground: Pair) -> None:
    """recv_into fills buffers and slices, returns how much, and touches nothing else; what has no room is lost."""
    one, other = ground.pair()
    for data in (b"abc", b"", b"abcdef", b"next"):
        one.send(data)
    buffer = bytearray(b"........")
    with memoryview(buffer) as view, view[2:6] as part:
        counts = [other.recv_into(part), other.recv_into(part), other.recv_into(part, 2), other.recv_into(part)]
    check(counts == [3, 0, 2, 4], f"recv_into() returned {counts}, not [3, 0, 2, 4]")
    check(buffer == b"..next..", f"recv_into() left {bytes(buffer)!r}")


def recv_into_refuses_wrong_buffers(ground: Pair) -> None:
    """recv_into raises TypeError for a read-only buffer and ValueError for one that is too small; nothing is lost."""
    one, other = ground.pair()
    one.send(b"x")
    raises(TypeError, other.recv_into, b"read-only", what="recv_into(bytes)")
    raises(ValueError, other.recv_into, bytearray(3), 4, what="recv_into(3 bytes, 4)")
    raises(ValueError, other.recv_into, bytearray(3), -1, what="recv_into(3 bytes, -1)")
    check(other.recv(_ASKED) == b"x", "a refused recv_into() took the datagram")


def every_receiver_gets_one(ground: Pair) -> None:
    """Several tasks may wait to receive; each datagram goes to one of them, to the first first."""
    one, other = ground.pair()
    works = [ground.start(other.recv, _ASKED, what=f"recv() number {number}") for number in range(3)]
    for work in works:
        work.must_wait()
    for number in range(3):
        one.send(b"%d" % number)
    got = [work.result() for work in works]
    check(got == [b"0", b"1", b"2"], f"the receivers got {got}")


def cancelled_recv_loses_nothing(ground: Pair) -> None:
    """Cancelling a waiting recv raises Cancelled in it; the datagram that comes is for the next one."""
    one, other = ground.pair()
    works = [ground.start(other.recv, _ASKED, what=f"recv() number {number}") for number in range(2)]
    for work in works:
        work.must_wait()
    works[0].task.cancel()
    works[0].must_have_raised(Cancelled)
    one.send(b"x")
    check((got := works[1].result()) == b"x", f"recv() returned {got!r} for b'x'")


def recv_cancelled_when_data_comes_loses_nothing(ground: Pair) -> None:
    """Where a datagram and cancellation come in the same turn, recv returns it or leaves it there."""
    one, other = ground.pair()
    work = ground.start(other.recv, _ASKED, what="recv()")
    work.must_wait()
    one.send(b"x")
    work.task.cancel()
    work.task.join()
    check(work.error is None or isinstance(work.error, Cancelled), work.outcome())
    got = other.recv(_ASKED) if work.error is not None else work.value
    check(got == b"x", f"recv() returned {got!r} for b'x'")


def cancelled_task_is_refused(ground: Pair) -> None:
    """In a cancelled task every call raises Cancelled, even if it need not wait, and has done nothing."""
    one, other = ground.pair()
    one.send(b"x")
    wait_all_parked()
    with CancelScope() as scope:
        scope.cancel()
        raises(Cancelled, other.recv, _ASKED, what="recv() in a cancelled task")
    with CancelScope() as scope:
        scope.cancel()
        raises(Cancelled, one.send, b"y", what="send() in a cancelled task")
    one.send(b"z")
    got = [other.recv(_ASKED), other.recv(_ASKED)]
    check(got == [b"x", b"z"], f"{got} came for b'x' and b'z'")


def time_limits_end_calls(ground: Pair) -> None:
    """netnet.timeout ends a waiting recv with TimeoutError; the socket is still good."""
    one, other = ground.pair()

    def limited() -> bytes:
        with timeout(_TIME_LIMIT_SECONDS):
            return other.recv(_ASKED)

    work = ground.start(limited, what="recv() with a time limit")
    work.task.join()
    check(isinstance(work.error, TimeoutError), f"{work.outcome()}; it must raise TimeoutError")
    one.send(b"x")
    check((got := other.recv(_ASKED)) == b"x", f"recv() returned {got!r} for b'x'")


def close_wakes_receivers(ground: Pair) -> None:
    """close wakes all tasks that wait to receive, with ClosedError."""
    _, other = ground.pair()
    works = [ground.start(other.recv, _ASKED, what=f"recv() number {number}") for number in range(2)]
    for work in works:
        work.must_wait()
    other.close()
    for work in works:
        work.must_have_raised(ClosedError)


def calls_after_close_are_refused(ground: Pair) -> None:
    """After close, by hand or by the with statement, calls raise OSError with EBADF; closing again is fine."""
    one, other = ground.pair()
    one.close()
    one.close()
    with other as inner:
        check(inner is other, f"entering gave {inner!r}")
    for end in (one, other):
        for call, argument, what in ((end.recv, 1, "recv()"), (end.send, b"x", "send()")):
            error = raises(OSError, call, argument, what=f"{what} after close")
            number = getattr(error, "errno", None)
            check(number == errno.EBADF, f"{what} after close raised {error!r}; its errno must be EBADF")


DATAGRAMS: Final[tuple[Rule, ...]] = (
    boundaries_are_kept,
    empty_datagrams_are_datagrams,
    both_ways,
    what_is_too_long_is_cut,
    negative_sizes_are_refused,
    recv_into_fills_buffers,
    recv_into_refuses_wrong_buffers,
    every_receiver_gets_one,
    cancelled_recv_loses_nothing,
    recv_cancelled_when_data_comes_loses_nothing,
    cancelled_task_is_refused,
    time_limits_end_calls,
    close_wakes_receivers,
    calls_after_close_are_refused,
)
