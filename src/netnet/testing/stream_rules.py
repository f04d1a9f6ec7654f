"""What every stream must do, rule by rule: one-way, both ways, and with half-close. See ``conformance``."""

from __future__ import annotations

import errno
import socket
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from netnet.errors import BusyError, Cancelled, ClosedError
from netnet.runtime.scope import CancelScope, timeout
from netnet.testing.parked import wait_all_parked
from netnet.testing.proving import (
    Ground,
    HalfCloseableStream,
    Receiver,
    Rule,
    Stream,
    StreamSender,
    Work,
    check,
    pattern,
    raises,
    short,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

#: how much a stream takes at most before its sender has to wait; a buffer without a limit is no stream
BACK_PRESSURE_BYTES: Final = 64 * 1024 * 1024

#: one ``sendall`` of a sender that fills the buffers
_PIECE_BYTES: Final = 16384

_TIME_LIMIT_SECONDS: Final = 0.02

OneWay = Ground[StreamSender, Receiver]
BothWays = Ground[Stream, Stream]
HalfWays = Ground[HalfCloseableStream, HalfCloseableStream]

#: (how many bytes, how many in one ``sendall``, how many asked for by one ``recv``)
_TRANSFERS: Final = (
    (0, 1, 1),
    (1, 1, 1),
    (1, 1, 4096),
    (2, 1, 1),
    (1000, 1, 1),
    (1000, 1000, 1),
    (1000, 1, 1000),
    (1000, 7, 11),
    (5000, 4096, 4095),
    (9_001, 4_096, 65536),
    (70_001, 70_001, 65536),
    (40_001, 30_000, 4096),
    (20_001, 1_000, 1_000_000),
)


def send_in_pieces(sender: StreamSender, size: int, piece: int) -> None:
    for start in range(0, size, piece):
        sender.sendall(pattern(start, min(piece, size - start)))


def send_and_close(sender: StreamSender, size: int, piece: int) -> None:
    send_in_pieces(sender, size, piece)
    sender.close()


def receive(receiver: Receiver, size: int, asked: int = 65536) -> bytes:
    """*size* bytes, or fewer where the stream ends before."""
    got = bytearray()
    while len(got) < size:
        chunk = receiver.recv(min(asked, size - len(got)))
        if not chunk:
            break
        got += chunk
    return bytes(got)


def receive_to_end(receiver: Receiver, expected: int, asked: int = 65536) -> bytes:
    """Everything; stops with the first ``recv`` that brings more than is *expected*."""
    got = bytearray()
    while len(got) <= expected and (chunk := receiver.recv(asked)):
        got += chunk
    return bytes(got)


def check_data(got: bytes, size: int, start: int = 0) -> None:
    """Holds *got* against the pattern that was sent."""
    expected = pattern(start, size)
    if got == expected:
        return
    common = min(len(got), size)
    wrong = next((place for place in range(common) if got[place] != expected[place]), common)
    raise AssertionError(
        f"{len(got)} bytes arrived where {size} were sent"
        + (f", and byte {wrong} is not the one that was sent" if wrong < common else "")
    )


class Filler:
    """Sends until it is stopped, so that buffers fill; knows how much the stream took."""

    def __init__(self, ground: Ground[Any, Any], sender: StreamSender) -> None:
        self._sender = sender
        self._done = 0
        self.work: Work[None] = ground.start(self._fill, what="sendall()")
        wait_all_parked()
        check(
            not self.work.done or self.work.error is not None,
            f"{self._done} bytes were taken without the sender having to wait: there is no back-pressure",
        )
        self.work.must_wait()

    def _fill(self) -> None:
        while self._done < BACK_PRESSURE_BYTES:
            self._sender.sendall(pattern(self._done, _PIECE_BYTES))
            self._done += _PIECE_BYTES

    def taken(self) -> int:
        """How many bytes the stream took, by what the calls told."""
        check(self.work.done, "sendall() still waits")
        sent = getattr(self.work.error, "bytes_sent", None)
        if not isinstance(sent, int):
            raise AssertionError(f"sendall() raised {self.work.error!r} without bytes_sent")
        return self._done + sent


# -- one way: data


def data_arrives_whole(ground: OneWay) -> None:
    """Data arrives whole and in order, in pieces of any size, and the end comes after it."""
    for size, piece, asked in _TRANSFERS:
        sender, receiver = ground.pair()
        work = ground.start(send_and_close, sender, size, piece, what="sendall(), close()")
        got = receive_to_end(receiver, size, asked)
        check_data(got, size)
        work.result()
        receiver.close()


def send_tells_how_much(ground: OneWay) -> None:
    """send returns how many bytes it took, at least one, and exactly those arrive."""
    sender, receiver = ground.pair()
    size = 10_000

    def send_all() -> None:
        sent = 0
        while sent < size:
            count = sender.send(pattern(sent, size - sent))
            check(0 < count <= size - sent, f"send() of {size - sent} bytes returned {count!r}")
            sent += count
        sender.close()

    work = ground.start(send_all, what="send()")
    check_data(receive_to_end(receiver, size), size)
    work.result()


def every_buffer_can_be_sent(ground: OneWay) -> None:
    """bytes, bytearray, memoryview and arrays of larger items are sent as the bytes that they are."""
    sender, receiver = ground.pair()
    buffers: list[ReadableBuffer] = [b"one", bytearray(b"two"), memoryview(b"-three-")[1:-1], array("I", [1, 2, 3])]
    expected = b"".join(bytes(memoryview(buffer)) for buffer in buffers)

    def send_all() -> None:
        for buffer in buffers:
            sender.sendall(buffer)
        sender.close()

    work = ground.start(send_all, what="sendall()")
    got = receive_to_end(receiver, len(expected))
    check(got == expected, f"{got!r} arrived for {expected!r}")
    work.result()
    for wrong in ("text", 7, None):
        raises(TypeError, ground.pair()[0].sendall, wrong, what=f"sendall({wrong!r})")


def sending_nothing_is_no_end(ground: OneWay) -> None:
    """sendall(b"") sends nothing, and does not end the stream."""
    sender, receiver = ground.pair()
    sender.sendall(b"")
    work = ground.start(receiver.recv, 10, what="recv()")
    work.must_wait()
    ground.start(sender.sendall, b"data", what="sendall()")
    got = work.result()
    check(len(got) > 0 and b"data".startswith(got), f"recv() returned {got!r} for b'data'")


def sender_waits_for_a_slow_receiver(ground: OneWay) -> None:
    """A sender has to wait when nobody reads; it goes on when somebody does, and nothing is lost."""
    sender, receiver = ground.pair()
    filler = Filler(ground, sender)
    size = filler._done + _PIECE_BYTES
    check_data(receive(receiver, size), size)
    wait_all_parked()
    check(filler._done >= size - _PIECE_BYTES, "the sender was not woken")


# -- one way: receiving


def recv_keeps_its_limit(ground: OneWay) -> None:
    """recv(n) returns at most n bytes; the rest stays for the next call."""
    sender, receiver = ground.pair()
    ground.start(sender.sendall, pattern(0, 100), what="sendall()")
    got = b""
    for asked in (1, 2, 3, 50, 1):
        chunk = receiver.recv(asked)
        check(1 <= len(chunk) <= asked, f"recv({asked}) returned {len(chunk)} bytes")
        got += chunk
    got += receive(receiver, 100 - len(got))
    check_data(got, 100)


def recv_of_nothing_returns_at_once(ground: OneWay) -> None:
    """recv(0) returns b"" without waiting, and takes nothing."""
    sender, receiver = ground.pair()
    for when in ("before anything came", "when there was data"):
        work = ground.start(receiver.recv, 0, what=f"recv(0), {when},")
        wait_all_parked()
        check(work.done, f"{work.outcome()}; it must return at once")
        check(work.result() == b"", work.outcome())
        if when.startswith("before"):
            ground.start(sender.sendall, b"x", what="sendall()")
            wait_all_parked()
    check(receiver.recv(1) == b"x", "recv(0) took the data")


def negative_sizes_are_refused(ground: OneWay) -> None:
    """recv(-1) raises ValueError."""
    raises(ValueError, ground.pair()[1].recv, -1, what="recv(-1)")


def recv_into_fills_buffers(ground: OneWay) -> None:
    """recv_into fills buffers and slices, returns how much, and touches nothing else."""
    sender, receiver = ground.pair()
    ground.start(sender.sendall, pattern(0, 40), what="sendall()")
    place = 0
    for size, start, end, nbytes in ((20, 0, 20, 5), (20, 3, 9, 0), (20, 19, 20, 0), (20, 10, 20, 2)):
        buffer = bytearray(b"." * size)
        with memoryview(buffer) as view, view[start:end] as part:
            count = receiver.recv_into(part, nbytes)
        limit = nbytes or end - start
        check(1 <= count <= limit, f"recv_into() with room for {limit} bytes returned {count}")
        expected = b"." * start + pattern(place, count) + b"." * (size - start - count)
        check(bytes(buffer) == expected, f"recv_into() left {bytes(buffer)!r}, not {expected!r}")
        place += count
    numbers = array("I", [0] * 4)
    count = receiver.recv_into(numbers)
    check(1 <= count <= 16, f"recv_into() an array of 16 bytes returned {count}")
    check(numbers.tobytes()[:count] == pattern(place, count), "recv_into() an array left wrong bytes")


def recv_into_refuses_wrong_buffers(ground: OneWay) -> None:
    """recv_into raises TypeError for a read-only buffer and ValueError for one that is too small, at once."""
    sender, receiver = ground.pair()
    for when in ("before anything came", "when there was data"):
        raises(TypeError, receiver.recv_into, b"read-only", what=f"recv_into(bytes), {when},")
        readonly = memoryview(bytearray(3)).toreadonly()
        raises(TypeError, receiver.recv_into, readonly, what=f"recv_into(read-only memoryview), {when},")
        raises(ValueError, receiver.recv_into, bytearray(3), 4, what=f"recv_into(3 bytes, 4), {when},")
        raises(ValueError, receiver.recv_into, bytearray(3), -1, what=f"recv_into(3 bytes, -1), {when},")
        if when.startswith("before"):
            ground.start(sender.sendall, b"x", what="sendall()")
            wait_all_parked()
    check(receiver.recv(1) == b"x", "a refused recv_into() took the data")


def chunks_can_be_iterated(ground: OneWay) -> None:
    """Iterating gives the chunks as they come, none of them empty, until the end."""
    sender, receiver = ground.pair()
    size = 70_000
    work = ground.start(send_and_close, sender, size, 10_000, what="sendall(), close()")
    got = bytearray()
    for chunk in receiver:  # type: ignore[attr-defined]
        check(isinstance(chunk, bytes) and bool(chunk), f"a chunk was {short(chunk)}")
        got += chunk
        check(len(got) <= size, f"more than the {size} bytes that were sent came")
    check_data(bytes(got), size)
    work.result()


# -- one way: the end


def end_comes_again_and_again(ground: OneWay) -> None:
    """After the end, recv returns b"" and recv_into 0, again and again."""
    sender, receiver = ground.pair()
    work = ground.start(send_and_close, sender, 5, 5, what="sendall(), close()")
    check_data(receive_to_end(receiver, 5), 5)
    work.result()
    for _ in range(3):
        check((got := receiver.recv(10)) == b"", f"recv() returned {short(got)} after the end")
        check((count := receiver.recv_into(bytearray(10))) == 0, f"recv_into() returned {count} after the end")


def end_wakes_a_waiting_receiver(ground: OneWay) -> None:
    """A waiting recv returns b"" when the sender closes."""
    sender, receiver = ground.pair()
    work = ground.start(receiver.recv, 10, what="recv()")
    work.must_wait()
    sender.close()
    check((got := work.result()) == b"", f"recv() returned {got!r} at the end")


def gone_receiver_is_an_error(ground: OneWay) -> None:
    """When the receiver has closed, sending raises OSError, after what the stream still took."""
    sender, receiver = ground.pair()
    receiver.close()
    work = ground.start(_send_for_ever, sender, what="sendall()")
    work.must_have_raised(OSError)
    check(not isinstance(work.error, ClosedError), "sendall() raised ClosedError, which is for one's own end")


def receiver_that_goes_wakes_the_sender(ground: OneWay) -> None:
    """A waiting sendall raises OSError when the receiver closes."""
    sender, receiver = ground.pair()
    filler = Filler(ground, sender)
    receiver.close()
    filler.work.must_have_raised(OSError)
    check(not isinstance(filler.work.error, ClosedError), "sendall() raised ClosedError, which is for one's own end")


def _within_limit(call: Callable[..., object], *args: object) -> object:
    with timeout(_TIME_LIMIT_SECONDS):
        return call(*args)


def _send_for_ever(sender: StreamSender) -> None:
    for place in range(0, BACK_PRESSURE_BYTES, _PIECE_BYTES):
        sender.sendall(pattern(place, _PIECE_BYTES))


# -- one way: two tasks at once


def second_reader_is_refused(ground: OneWay) -> None:
    """While a task waits to receive, another one's recv raises BusyError, and the first is not disturbed."""
    sender, receiver = ground.pair()
    first = ground.start(receiver.recv, 10, what="recv()")
    first.must_wait()
    ground.start(receiver.recv, 10, what="a second task's recv()").must_have_raised(BusyError)
    ground.start(receiver.recv_into, bytearray(9), what="a second task's recv_into()").must_have_raised(BusyError)
    first.must_wait()
    ground.start(sender.sendall, b"x", what="sendall()")
    check((got := first.result()) == b"x", f"recv() returned {got!r} for b'x'")


def second_writer_is_refused(ground: OneWay) -> None:
    """While a task waits to send, another one's send and sendall raise BusyError, and nothing of theirs arrives."""
    sender, receiver = ground.pair()
    filler = Filler(ground, sender)
    ground.start(sender.sendall, b"x", what="a second task's sendall()").must_have_raised(BusyError)
    ground.start(sender.send, b"x", what="a second task's send()").must_have_raised(BusyError)
    filler.work.must_wait()
    check_data(receive(receiver, _PIECE_BYTES), _PIECE_BYTES)


# -- one way: closing


def close_wakes_the_receiver(ground: OneWay) -> None:
    """close wakes a task that waits to receive, with ClosedError."""
    _, receiver = ground.pair()
    work = ground.start(receiver.recv, 10, what="recv()")
    work.must_wait()
    receiver.close()
    work.must_have_raised(ClosedError)


def close_wakes_the_sender(ground: OneWay) -> None:
    """close wakes a task that waits to send, with ClosedError."""
    sender, _ = ground.pair()
    filler = Filler(ground, sender)
    sender.close()
    filler.work.must_have_raised(ClosedError)


def _bad_descriptor(call: Callable[..., object], *args: object, what: str) -> None:
    error = raises(OSError, call, *args, what=what)
    check(getattr(error, "errno", None) == errno.EBADF, f"{what} raised {error!r}; its errno must be EBADF")


def calls_after_close_are_refused(ground: OneWay) -> None:
    """After close, the calls of one's own end raise OSError with EBADF; closing again is fine."""
    sender, receiver = ground.pair()
    for end in (sender, receiver):
        end.close()
        end.close()
    _bad_descriptor(receiver.recv, 1, what="recv() after close")
    _bad_descriptor(receiver.recv_into, bytearray(1), what="recv_into() after close")
    _bad_descriptor(sender.send, b"x", what="send() after close")
    _bad_descriptor(sender.sendall, b"x", what="sendall() after close")


def with_statement_closes(ground: OneWay) -> None:
    """``with end as x`` gives the end itself, and closes it, also after an error."""
    sender, receiver = ground.pair()
    with sender as inner:
        check(inner is sender, f"entering the sender gave {inner!r}")
    _bad_descriptor(sender.send, b"x", what="send() after the with statement")
    check((got := receiver.recv(1)) == b"", f"the peer read {got!r} after the with statement, not the end")
    try:
        with receiver:
            raise LookupError
    except LookupError:
        pass
    else:
        raise AssertionError("the with statement swallowed an error")
    _bad_descriptor(receiver.recv, 1, what="recv() after the with statement")


# -- one way: cancellation and time-outs


def cancelled_recv_loses_nothing(ground: OneWay) -> None:
    """Cancelling a waiting recv raises Cancelled in it, and what comes later is read by the next one."""
    sender, receiver = ground.pair()
    work = ground.start(receiver.recv, 10, what="a cancelled recv()")
    work.must_wait()
    work.task.cancel()
    work.must_have_raised(Cancelled)
    sending = ground.start(send_and_close, sender, 1000, 1000, what="sendall(), close()")
    check_data(receive_to_end(receiver, 1000), 1000)
    sending.result()


def recv_cancelled_when_data_comes_loses_nothing(ground: OneWay) -> None:
    """Where data and cancellation come in the same turn, recv returns the data or leaves it there."""
    for first in ("the data", "the cancellation"):
        sender, receiver = ground.pair()
        work = ground.start(receiver.recv, 10, what="recv()")
        work.must_wait()
        if first == "the cancellation":
            work.task.cancel()
        sending = ground.start(send_and_close, sender, 1, 1, what="sendall(), close()")
        if first == "the data":
            check(not work.done, f"{work.outcome()} before the data was sent")
            ground.start(work.task.cancel, what="cancel()")
        work.task.join()
        check(work.error is None or isinstance(work.error, Cancelled), work.outcome())
        got = b"" if work.error is not None else work.value
        got += receive_to_end(receiver, 1)
        check_data(got, 1)
        sending.result()


def cancelled_sendall_tells_how_much(ground: OneWay) -> None:
    """Cancelling a waiting sendall raises Cancelled with bytes_sent, and exactly these bytes arrive."""
    sender, receiver = ground.pair()
    filler = Filler(ground, sender)
    filler.work.task.cancel()
    filler.work.must_have_raised(Cancelled)
    size = filler.taken()
    sender.close()
    check_data(receive_to_end(receiver, size), size)


def cancelled_task_is_refused(ground: OneWay) -> None:
    """In a cancelled task every call raises Cancelled, even if it need not wait, and has done nothing."""
    sender, receiver = ground.pair()
    ground.start(sender.sendall, b"x", what="sendall()")
    wait_all_parked()
    for call, args, what in (
        (receiver.recv, (1,), "recv()"),
        (receiver.recv_into, (bytearray(1),), "recv_into()"),
    ):
        with CancelScope() as scope:
            scope.cancel()
            raises(Cancelled, call, *args, what=f"{what} in a cancelled task")
    check(receiver.recv(1) == b"x", "a refused recv() took the data")
    wait_all_parked()
    for send, what in ((sender.send, "send()"), (sender.sendall, "sendall()")):
        with CancelScope() as scope:
            scope.cancel()
            raises(Cancelled, send, b"y", what=f"{what} in a cancelled task")
    sender.close()
    check((got := receiver.recv(10)) == b"", f"a refused send() sent {got!r}")


def time_limits_end_calls(ground: OneWay) -> None:
    """netnet.timeout ends a waiting recv and a waiting sendall with TimeoutError; the stream is still good."""
    sender, receiver = ground.pair()
    filled = ground.start(_within_limit, _send_for_ever, sender, what="sendall() with a time limit")
    waited = ground.start(_within_limit, ground.pair()[1].recv, 1, what="recv() with a time limit")
    for work in (waited, filled):
        work.task.join()
        check(isinstance(work.error, TimeoutError), f"{work.outcome()}; it must raise TimeoutError")
    sending = ground.start(sender.sendall, b"x", what="sendall() after a time limit")
    check(bool(receiver.recv(1)), "recv() returned the end; nobody closed")
    receiver.close()
    sending.task.join()


# -- both ways


def both_ways_at_once(ground: BothWays) -> None:
    """A task may read while another one writes, on both ends at once, and every direction is whole."""
    one, other = ground.pair()
    size = 70_000
    works = [
        ground.start(send_in_pieces, one, size, 50_000, what="one end's sendall()"),
        ground.start(send_in_pieces, other, size, 7_000, what="the other end's sendall()"),
    ]
    reading = [
        ground.start(receive, one, size, what="one end's recv()"),
        ground.start(receive, other, size, what="the other end's recv()"),
    ]
    for got in reading:
        check_data(got.result(), size)
    for work in works:
        work.result()


def question_and_answer(ground: BothWays) -> None:
    """What an end reads it can send back, many times."""
    one, other = ground.pair()

    def echo() -> None:
        while chunk := other.recv(4096):
            other.sendall(chunk)
        other.close()

    work = ground.start(echo, what="the echo")
    for place in range(20):
        sending = ground.start(one.sendall, pattern(place, 100 + place), what="sendall()")
        check_data(receive(one, 100 + place), 100 + place, place)
        sending.result()
    one.close()
    work.result()


def cancelling_one_side_leaves_the_other(ground: BothWays) -> None:
    """Cancelling the task that reads does not disturb the one that writes, and the other way round."""
    one, other = ground.pair()
    reader = ground.start(one.recv, 10, what="recv()")
    filler = Filler(ground, one)
    reader.task.cancel()
    reader.must_have_raised(Cancelled)
    filler.work.must_wait()
    reader = ground.start(one.recv, 10, what="recv()")
    filler.work.task.cancel()
    filler.work.must_have_raised(Cancelled)
    reader.must_wait()
    ground.start(other.sendall, b"x", what="sendall()")
    check((got := reader.result()) == b"x", f"recv() returned {got!r} for b'x'")


def close_wakes_both_sides(ground: BothWays) -> None:
    """close wakes the task that reads and the one that writes, both with ClosedError."""
    one, _ = ground.pair()
    reader = ground.start(one.recv, 10, what="recv()")
    filler = Filler(ground, one)
    one.close()
    reader.must_have_raised(ClosedError)
    filler.work.must_have_raised(ClosedError)


# -- half-close


def half_close_leaves_the_other_way(ground: HalfWays) -> None:
    """After shutdown(SHUT_WR) the peer reads what was sent and then the end, and data the other way still goes."""
    one, other = ground.pair()
    sending = ground.start(send_in_pieces, one, 70_000, 70_000, what="sendall()")
    got = receive(other, 70_000)
    sending.result()
    one.shutdown(socket.SHUT_WR)
    check_data(got + receive_to_end(other, 0), 70_000)
    check((end := other.recv(1)) == b"", f"recv() returned {end!r} after the end")
    back = ground.start(send_and_close, other, 70_000, 30_000, what="the other way's sendall()")
    check_data(receive_to_end(one, 70_000), 70_000)
    back.result()


def half_close_wakes_the_peer(ground: HalfWays) -> None:
    """A waiting recv returns b"" when the peer shuts its sending side down."""
    one, other = ground.pair()
    work = ground.start(other.recv, 10, what="recv()")
    work.must_wait()
    one.shutdown(socket.SHUT_WR)
    check((got := work.result()) == b"", f"recv() returned {got!r} after shutdown(SHUT_WR)")


def sending_after_half_close_is_an_error(ground: HalfWays) -> None:
    """After shutdown(SHUT_WR), send and sendall of this end raise OSError, and nothing of it arrives."""
    one, other = ground.pair()
    one.shutdown(socket.SHUT_WR)
    for call, what in ((one.send, "send()"), (one.sendall, "sendall()")):
        raises(OSError, call, b"x", what=f"{what} after shutdown(SHUT_WR)")
    check((got := other.recv(1)) == b"", f"recv() returned {got!r}, not the end")


def half_close_of_both_ends(ground: HalfWays) -> None:
    """Both ends can shut down their sending sides, one after the other, and both read the end."""
    one, other = ground.pair()
    one.shutdown(socket.SHUT_WR)
    check((got := other.recv(1)) == b"", f"recv() returned {got!r}, not the end")
    other.shutdown(socket.SHUT_WR)
    check((got := one.recv(1)) == b"", f"recv() returned {got!r}, not the end")


def shutdown_of_a_closed_end_is_refused(ground: HalfWays) -> None:
    """After close, shutdown raises OSError with EBADF."""
    one, _ = ground.pair()
    one.close()
    _bad_descriptor(one.shutdown, socket.SHUT_WR, what="shutdown() after close")


ONE_WAY: Final[tuple[Rule, ...]] = (
    data_arrives_whole,
    send_tells_how_much,
    every_buffer_can_be_sent,
    sending_nothing_is_no_end,
    sender_waits_for_a_slow_receiver,
    recv_keeps_its_limit,
    recv_of_nothing_returns_at_once,
    negative_sizes_are_refused,
    recv_into_fills_buffers,
    recv_into_refuses_wrong_buffers,
    chunks_can_be_iterated,
    end_comes_again_and_again,
    end_wakes_a_waiting_receiver,
    gone_receiver_is_an_error,
    receiver_that_goes_wakes_the_sender,
    second_reader_is_refused,
    second_writer_is_refused,
    close_wakes_the_receiver,
    close_wakes_the_sender,
    calls_after_close_are_refused,
    with_statement_closes,
    cancelled_recv_loses_nothing,
    recv_cancelled_when_data_comes_loses_nothing,
    cancelled_sendall_tells_how_much,
    cancelled_task_is_refused,
    time_limits_end_calls,
)

BOTH_WAYS: Final[tuple[Rule, ...]] = (
    both_ways_at_once,
    question_and_answer,
    cancelling_one_side_leaves_the_other,
    close_wakes_both_sides,
)

HALF_CLOSE: Final[tuple[Rule, ...]] = (
    half_close_leaves_the_other_way,
    half_close_wakes_the_peer,
    sending_after_half_close_is_an_error,
    half_close_of_both_ends,
    shutdown_of_a_closed_end_is_refused,
)
