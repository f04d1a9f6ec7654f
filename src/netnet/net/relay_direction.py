"""One direction of a relay: a waiter of the loop that moves bytes from a source to a sink, and never waits itself.

The loop wakes it when its source is readable, or its sink writable again, or its throttles have something for it; it
moves what is there, says what it waits for next, and holds no buffer and no pipe while nothing moves.

- *Copying* goes through the thread's landing buffer. What the sink does not take at once is kept and sent first.
- *Splicing* (Linux) takes over in a direction after ``BULK_STREAK`` reads in a row of ``BULK_BYTES`` or more, and gives
  way again when wakes bring little. It goes through a pooled pipe, which is given back when it is empty.
- *Throttled*, a direction moves what its throttles grant, in whichever of the two ways, and then lets the others have
  their turn. Granted nothing, it waits on a timer; what it has received but not delivered was granted before.

When it is through, or broken, it says so to its relay, which decides what that means: ``relay``.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from netnet.kernel.transfer import SPLICE, Pipe, cannot, pipes
from netnet.net.sockets import Socket, landing_buffer
from netnet.net.throttle import Allowance
from netnet.net.waiting import NOSIGNAL
from netnet.poller.contract import READABLE, WRITABLE
from netnet.runtime.task import log

if TYPE_CHECKING:
    from netnet.net.relay import Relay

#: a read of so much counts as bulk; below, a splice costs as much as a copy
BULK_BYTES: Final = 32768
#: so many bulk reads in a row make a direction splice; so many small wakes make it copy again
BULK_STREAK: Final = 8
#: one splice moves at most so much, one copy the landing buffer
SPLICE_BYTES: Final = 1 << 20
#: how much a direction may move before the others have their turn
TURN_BYTES: Final = 1 << 20

_recv_into = socket.socket.recv_into
_send = socket.socket.send


class Direction:
    """One way of a relay: from *source* to *sink*."""

    __slots__ = (
        "allowance",
        "done",
        "may_splice",
        "moved",
        "pending",
        "pipe",
        "relay",
        "sink",
        "source",
        "spliced",
        "streak",
    )

    def __init__(self, relay: Relay, source: Socket, sink: Socket, allowance: Allowance | None) -> None:
        self.allowance = allowance  #: None: it is not throttled
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
        relay = self.relay
        relay.touched = relay.loop.turned
        try:
            if (self.pending is not None or self.pipe is not None) and not self._deliver():
                return
            if self.allowance is not None:
                ended = self._move_allowed(self.allowance)
            elif self.streak >= BULK_STREAK and self.may_splice:
                ended = self._splice_all()
            else:
                ended = self._copy_all()
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

    def _move_allowed(self, allowance: Allowance) -> bool:
        """Moves once, as much as the throttles grant; the others, who may draw from the same ones, have their turn then."""
        bulk = self._bulk()
        granted = allowance.grant(SPLICE_BYTES if bulk else len(landing_buffer()))
        if not granted:
            self.drop_pipe()
            allowance.wait(self)
            return False
        allowed = self.moved + granted  # nothing is left over from before
        try:
            return self._splice_all(granted) if bulk else self._copy_all(granted)
        finally:
            allowance.give_back(allowed - self._taken())

    def _taken(self) -> int:
        """How many bytes came from the source, delivered or not."""
        pending, pipe = self.pending, self.pipe
        return self.moved + (len(pending) if pending is not None else 0) + (pipe.held if pipe is not None else 0)

    def _copy_all(self, limit: int = 0) -> bool:
        """Copies until the source is dry (then waits for it), the sink is full, or it is others' turn. True at the end.

        With a *limit* it reads once, so many bytes at most.
        """
        buffer: bytearray | memoryview = landing_buffer()
        budget = TURN_BYTES
        if limit:
            buffer, budget = memoryview(buffer)[:limit], 1
        size = len(buffer)
        source, sink, descriptor = self.source, self.sink, self.source._descriptor
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
                if self.relay.edge_triggered:  # as ``watch`` has it, written out for the usual case
                    descriptor.reader = self
                    descriptor.readable = False
                else:
                    self._wait_for_source()
                return False
            budget -= count
            if budget <= 0 or self._bulk():
                self._later()
                return False

    def _splice_all(self, limit: int = 0) -> bool:
        """The same, through a pipe. Without one to be had, it copies."""
        pipe = self.pipe
        if pipe is None:
            pipe = self.pipe = pipes.take()
            if pipe is None:
                self.streak = 0
                return self._copy_all(limit)
        source = self.source.fileno()
        size, budget = (limit, 1) if limit else (SPLICE_BYTES, TURN_BYTES)
        brought = 0
        while True:
            try:
                count = pipe.fill(source, size)
            except BlockingIOError:
                self._judge(brought)
                if not self.source._descriptor.short_is_dry:  # it may be urgent data that stops splicing, not receiving
                    return self._copy_all(limit)
                self._wait_for_source()
                return False
            except OSError as error:
                if pipe.held or not cannot(error):
                    raise
                self.drop_pipe()
                self.may_splice = False
                return self._copy_all(limit)
            if not count:  # the end, or urgent data in front of it: receiving tells
                self.drop_pipe()
                return self._copy_all(limit)
            brought += count
            if not self._empty(pipe):
                return False
            if limit:
                self._judge(brought)
            if brought >= budget or self.pipe is None:
                self._later()
                return False

    def _judge(self, brought: int) -> None:
        """The pipe is empty, and the source dry or the grant used: gives the pipe back, and decides how to go on."""
        self.drop_pipe()
        if brought >= BULK_BYTES:
            self.streak = BULK_STREAK * 2
        elif brought:
            self.streak -= BULK_STREAK // 4  # from the full streak: after some small wakes in a row it copies again

    def drop_pipe(self) -> None:
        pipe, self.pipe = self.pipe, None
        if pipe is not None:
            pipes.give_back(pipe)
