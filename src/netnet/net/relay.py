"""Two sockets joined: what one sends the other receives, both ways, until both have finished.

A relay has no green thread. Its two directions are small objects that the loop wakes when their source is readable (or
their sink writable again); they move what is there and go back to waiting, holding no buffer and no pipe while nothing
moves. So an idle pair of connections costs the sockets and little more.

- *Copying* goes through the thread's landing buffer. What the sink does not take at once is kept and sent first.
- *Splicing* (Linux) takes over in a direction after ``BULK_STREAK`` reads in a row of ``BULK_BYTES`` or more, and gives
  way again when wakes bring little. It goes through a pooled pipe, which is given back when it is empty.
- *Half-close* is carried across: when a source has finished and all of it is delivered, its sink's sending side is shut
  down, and the other direction goes on. From then on silence is bounded by ``linger_seconds``, else by ``idle_seconds``.
- *A reset* is carried across as a reset, and a relay that is ended early resets what it cuts off: no peer may take half
  a stream for a whole one.

Everything here runs in the loop, so nothing here may wait; ``relay`` alone does, in the task that calls it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from netnet.errors import BusyError, UsageError
from netnet.kernel.transfer import SPLICE, Pipe, cannot, pipes
from netnet.net.sockets import Socket, landing_buffer
from netnet.net.waiting import NOSIGNAL, type_of
from netnet.poller.contract import READABLE, WRITABLE
from netnet.runtime.clock import checked_seconds
from netnet.runtime.task import log
from netnet.runtime.worker import Worker, current_worker

if TYPE_CHECKING:
    from netnet.runtime.loop import Loop
    from netnet.runtime.timers import Timer

#: after one side has finished: how long the other may be silent. Long enough for a slow answer, short enough that peers
#: who never close do not pile up; the usual bounds are 5 to 30 s
LINGER_SECONDS: Final = 30.0

#: a read of so much counts as bulk; below, a splice costs as much as a copy
BULK_BYTES: Final = 32768
#: so many bulk reads in a row make a direction splice; so many small wakes make it copy again
BULK_STREAK: Final = 8
#: one splice moves at most so much, one copy the landing buffer
SPLICE_BYTES: Final = 1 << 20
#: how much a direction may move before the others have their turn
TURN_BYTES: Final = 1 << 20

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

_recv_into = socket.socket.recv_into
_send = socket.socket.send


@dataclass(frozen=True, slots=True)
class RelayResult:
    """How a relay ended: the bytes *a* → *b* and *b* → *a*, and why (``"closed"`` is the regular end)."""

    sent: int
    received: int
    reason: str


class _Direction:
    """One way of a relay: from *source* to *sink*."""

    __slots__ = ("done", "may_splice", "moved", "pending", "pipe", "relay", "sink", "source", "spliced", "streak")

    def __init__(self, relay: Relay, source: Socket, sink: Socket) -> None:
        self.relay = relay
        self.source = source
        self.sink = sink
        self.moved = 0  #: bytes delivered
        self.spliced = 0  #: of these, through a pipe
        self.pending: memoryview | None = None  #: received, but not taken by the sink yet
        self.pipe: Pipe | None = None
        self.streak = 0  #: bulk reads in a row; while splicing, it falls with each wake that brings little
        self.may_splice = SPLICE
        self.done = False

    def switch(self) -> None:
        """Woken by the loop: moves what there is."""
        if self.done:
            return
        self.relay.touched()
        try:
            if not self._deliver():
                return
            ended = self._splice_all() if self._bulk() else self._copy_all()
        except BlockingIOError:
            self._wait_for_source()
        except OSError as error:
            self.relay.fail(error)
        except Exception:  # a bug of ours, or no memory: this relay ends, the loop does not
            log.exception("a relay failed")
            self.relay.abort("internal error")
        else:
            if ended:
                self.done = True
                self.relay.half_closed(self)

    # -- waiting

    def _wait_for_source(self) -> None:
        self.source._descriptor.watch(READABLE, self)

    def _wait_for_sink(self) -> None:
        self.sink._descriptor.watch(WRITABLE, self)

    def _later(self) -> None:
        """Lets the others have their turn first."""
        self.relay.loop.ready.append(self)

    # -- moving

    def _bulk(self) -> bool:
        """Whether to splice: it was sustained bulk lately."""
        return self.streak >= BULK_STREAK and self.may_splice

    def _deliver(self) -> bool:
        """Sends what is left from before; false when the sink does not take all of it."""
        pending = self.pending
        if pending is not None:
            try:
                sent = _send(self.sink, pending, NOSIGNAL)
            except BlockingIOError:
                sent = 0
            self.moved += sent
            if sent < len(pending):
                self.pending = pending[sent:]
                self._wait_for_sink()
                return False
            self.pending = None
        pipe = self.pipe
        return pipe is None or self._empty(pipe)

    def _empty(self, pipe: Pipe) -> bool:
        """Splices the pipe's bytes into the sink; false when the sink does not take all of them."""
        sink = self.sink.fileno()
        while pipe.held:
            try:
                sent = pipe.empty(sink)
            except BlockingIOError:
                self._wait_for_sink()
                return False
            except OSError as error:
                if not cannot(error):
                    raise
                return self._unsplice(pipe)
            self.moved += sent
            self.spliced += sent
        return True

    def _unsplice(self, pipe: Pipe) -> bool:
        """The sink cannot be spliced into: what is in the pipe is read and sent, and from now on this direction copies."""
        self.may_splice = False
        self.pending = memoryview(pipe.read_all())
        self.drop_pipe()
        return self._deliver()

    def _copy_all(self) -> bool:
        """Copies until the source is dry (then waits for it), the sink is full, or it is others' turn. True at the end."""
        buffer = landing_buffer()
        size = len(buffer)
        source, sink, descriptor = self.source, self.sink, self.source._descriptor
        budget = TURN_BYTES
        while True:
            count = _recv_into(source, buffer)
            if not count:
                return True
            try:
                sent = _send(sink, buffer if count == size else memoryview(buffer)[:count], NOSIGNAL)
            except BlockingIOError:
                sent = 0
            self.moved += sent
            self.streak = self.streak + 1 if count >= BULK_BYTES else 0
            if sent < count:
                self.pending = memoryview(bytes(memoryview(buffer)[sent:count]))
                self._wait_for_sink()
                return False
            if count < size and descriptor.short_is_dry:
                self._wait_for_source()
                return False
            budget -= count
            if budget <= 0 or self._bulk():
                self._later()
                return False

    def _splice_all(self) -> bool:
        """The same, through a pipe. Without one to be had, it copies."""
        pipe = self.pipe
        if pipe is None:
            pipe = self.pipe = pipes.take()
            if pipe is None:
                self.streak = 0
                return self._copy_all()
        source = self.source.fileno()
        budget = TURN_BYTES
        while True:
            try:
                count = pipe.fill(source, SPLICE_BYTES)
            except BlockingIOError:
                self._judge(TURN_BYTES - budget)
                if not self.source._descriptor.short_is_dry:  # it may be urgent data that stops splicing, not receiving
                    return self._copy_all()
                self._wait_for_source()
                return False
            except OSError as error:
                if pipe.held or not cannot(error):
                    raise
                self.drop_pipe()
                self.may_splice = False
                return self._copy_all()
            if not count:  # the end, or urgent data in front of it: receiving tells
                self.drop_pipe()
                return self._copy_all()
            budget -= count
            if not self._empty(pipe):
                return False
            if budget <= 0 or self.pipe is None:
                self._later()
                return False

    def _judge(self, brought: int) -> None:
        """The source is dry and the pipe empty: gives the pipe back, and decides how to go on at the next wake."""
        self.drop_pipe()
        if brought >= BULK_BYTES:
            self.streak = BULK_STREAK * 2
        elif brought:
            self.streak -= BULK_STREAK // 4  # from the full streak: after some small wakes in a row it copies again

    def drop_pipe(self) -> None:
        pipe, self.pipe = self.pipe, None
        if pipe is not None:
            pipes.give_back(pipe)


class Relay:
    """A relay under way. Made by ``start_relay``."""

    __slots__ = ("_broken", "_done", "_down", "_idle", "_linger", "_reason", "_timer", "_touched", "_up", "loop")

    def __init__(
        self,
        loop: Loop,
        a: Socket,
        b: Socket,
        linger_seconds: float,
        idle_seconds: float | None,
        done: Callable[[RelayResult], object],
    ) -> None:
        self.loop = loop
        self._up = _Direction(self, a, b)
        self._down = _Direction(self, b, a)
        self._linger = linger_seconds
        self._idle = idle_seconds
        self._done: Callable[[RelayResult], object] | None = done
        self._reason = "closed"
        self._broken = False
        self._timer: Timer | None = None
        self._touched = 0.0

    # -- life

    def start(self) -> None:
        loop = self.loop
        for direction in (self._up, self._down):
            direction.source._descriptor.attach(loop)
        loop.relays.add(self)
        if loop.root.requested:  # the run is coming to its end
            self.abort("the run was stopped")
            return
        if self._idle is not None:
            self._set_timer(self._idle)
        for direction in (self._up, self._down):
            if self._done is not None:
                if direction.source._descriptor.readable:
                    direction.switch()
                else:
                    direction._wait_for_source()

    def touched(self) -> None:
        """Something happens. The clock is read only where silence is limited."""
        if self._timer is not None:
            self._touched = self.loop.clock.now()

    def half_closed(self, direction: _Direction) -> None:
        """All that *direction* had is delivered: says so to its sink. The second time, the relay is through."""
        if self._up.done and self._down.done:
            self._finish()
            return
        try:
            direction.sink.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.fail(error)
            return
        if self._idle is None or self._linger < self._idle:
            self._idle = self._linger
            self._set_timer(self._linger)

    def fail(self, error: OSError) -> None:
        """One side broke: both hear a reset, whatever half was through before."""
        if self._done is not None:
            self._broken = True
            self._reason = os.strerror(error.errno) if error.errno else str(error)
            self._finish()

    def abort(self, reason: str = "aborted") -> None:
        """Ends the relay now. Idempotent."""
        if self._done is not None:
            self._reason = reason
            self._finish()

    def _finish(self) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        up, down = self._up, self._down
        for direction in (up, down):
            if self._broken or not direction.done:  # cut off: the peer must not take it for complete
                with contextlib.suppress(OSError):
                    direction.sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        for direction in (up, down):
            direction.done = True
            direction.drop_pipe()
            direction.pending = None
            descriptor = direction.source._descriptor
            descriptor.reader = descriptor.writer = None
            direction.source.close()
        self.loop.relays.discard(self)
        try:
            done(RelayResult(up.moved, down.moved, self._reason))
        except Exception:
            log.exception("the callback at the end of a relay failed")

    # -- silence

    def _set_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._touched = self.loop.clock.now()
        self._timer = self.loop.timers.add(self._touched + seconds, self._look)

    def _look(self) -> None:
        """Was it silent all the time? If not, looks again when it may have been."""
        assert self._idle is not None
        due = self._touched + self._idle
        if due <= self.loop.clock.now():
            half = self._up.done or self._down.done
            self._timer = None
            self.abort("no data after half-close" if half else "idle")
        else:
            self._timer = self.loop.timers.add(due, self._look)


def _silence(seconds: float) -> float:
    seconds = checked_seconds(seconds)
    if seconds < 0:
        raise ValueError(f"a silence cannot be shorter than nothing: {seconds} s")
    return seconds


def start_relay(
    a: Socket,
    b: Socket,
    done: Callable[[RelayResult], object],
    *,
    linger_seconds: float = LINGER_SECONDS,
    idle_seconds: float | None = None,
) -> Relay:
    """Joins two connected stream sockets and returns at once; *done* is called with the result when it has ended.

    Takes both sockets over and closes them at the end. *linger_seconds*: after one side has finished sending, the
    longest silence of the other. *idle_seconds*: the longest silence before; ``None``: no limit. *done* runs in the
    loop and must not wait. Call it in a task; it does not switch. Raises ``BusyError`` when a task waits for a socket.
    """
    loop = current_worker().loop
    for sock in (a, b):
        descriptor = sock._descriptor
        if descriptor.reader is not None or descriptor.writer is not None:
            raise BusyError("a task waits for a socket that is to be relayed")
    if a is b:
        raise UsageError("a socket cannot be relayed to itself")
    for sock in (a, b):
        if type_of(sock) != socket.SOCK_STREAM:
            raise UsageError(
                f"a relay joins streams; a datagram socket has no end, and cannot be one of them: {sock!r}"
            )
    linger_seconds = _silence(linger_seconds)
    idle_seconds = None if idle_seconds is None else _silence(idle_seconds)
    relay = Relay(loop, a, b, linger_seconds, idle_seconds, done)
    relay.start()
    return relay


class _Result:
    """Where the task that called ``relay`` waits; cancelling it ends the relay."""

    __slots__ = ("relay", "value", "worker")

    def __init__(self) -> None:
        self.relay: Relay | None = None
        self.value: RelayResult | None = None
        self.worker: Worker | None = None

    def take(self, value: RelayResult) -> None:
        self.value = value
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.waiting = None
            worker.loop.ready.append(worker)

    def forget(self, worker: Worker) -> bool:
        waited, self.worker = self.worker is worker, None
        return waited

    def describe(self, worker: Worker) -> str:
        return "the end of a relay"


def relay(
    a: Socket, b: Socket, *, linger_seconds: float = LINGER_SECONDS, idle_seconds: float | None = None
) -> RelayResult:
    """Joins two connected stream sockets until both sides have finished; closes both and says what was moved.

    Parameters as ``start_relay``. Switches tasks. Does not raise what breaks a connection: that is the result's
    ``reason``. When cancelled it closes both sockets and raises ``Cancelled``.
    """
    worker = current_worker()
    place = _Result()
    running = start_relay(a, b, place.take, linger_seconds=linger_seconds, idle_seconds=idle_seconds)
    try:
        if place.value is None:
            if worker.home is not worker.loop:
                worker.loop.refuse(worker)
            place.worker = worker
            worker.loop.rest(worker, place)
    except BaseException:
        running.abort("cancelled")
        raise
    assert place.value is not None
    return place.value


__all__ = ["LINGER_SECONDS", "Relay", "RelayResult", "relay", "start_relay"]
