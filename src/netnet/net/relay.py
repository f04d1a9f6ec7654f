"""Two sockets joined: what one sends the other receives, both ways, until both have finished.

A relay has no green thread. Its two directions are small objects that the loop wakes when their source is readable (or
their sink writable again); they move what is there and go back to waiting, holding no buffer and no pipe while nothing
moves. So an idle pair of connections costs the sockets and little more.

- How a direction moves what there is, copied or spliced, throttled or not: ``relay_direction``.
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
from netnet.net.relay_direction import Direction
from netnet.net.sockets import Socket
from netnet.net.throttle import Throttles, allowances
from netnet.net.waiting import type_of
from netnet.runtime.clock import checked_seconds
from netnet.runtime.task import log
from netnet.runtime.worker import Worker, current_worker

if TYPE_CHECKING:
    from netnet.runtime.loop import Loop
    from netnet.runtime.timers import Timer

#: after one side has finished: how long the other may be silent. Long enough for a slow answer, short enough that peers
#: who never close do not pile up; the usual bounds are 5 to 30 s
LINGER_SECONDS: Final = 30.0

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class RelayResult:
    """How a relay ended: the bytes *a* → *b* and *b* → *a*, and why (``"closed"`` is the regular end)."""

    sent: int
    received: int
    reason: str


class Relay:
    """A relay under way. Made by ``start_relay``; ``sent`` and ``received`` count as it goes on."""

    __slots__ = (
        "_broken",
        "_done",
        "_down",
        "_idle",
        "_linger",
        "_reason",
        "_timer",
        "_up",
        "edge_triggered",
        "loop",
        "touched",
    )

    def __init__(
        self,
        loop: Loop,
        a: Socket,
        b: Socket,
        linger_seconds: float,
        idle_seconds: float | None,
        done: Callable[[RelayResult], object],
        throttles: Throttles,
    ) -> None:
        self.loop = loop
        up, down = allowances(loop, throttles)
        self._up = Direction(self, a, b, up)
        self._down = Direction(self, b, a, down)
        self._linger = linger_seconds
        self._idle = idle_seconds
        self._done: Callable[[RelayResult], object] | None = done
        self._reason = "closed"
        self._broken = False
        self._timer: Timer | None = None
        self.touched = 0.0  #: when something happened last
        self.edge_triggered = loop.poller.edge_triggered

    @property
    def sent(self) -> int:
        """Bytes moved from *a* to *b*, so far."""
        return self._up.moved

    @property
    def received(self) -> int:
        """Bytes moved from *b* to *a*, so far."""
        return self._down.moved

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

    def half_closed(self, direction: Direction) -> None:
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
                reset_on_close(direction.sink)
        for direction in (up, down):
            direction.done = True
            direction.drop_pipe()
            direction.pending = None
            if direction.allowance is not None:
                direction.allowance.cancel()
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
        self.touched = self.loop.clock.now()
        self._timer = self.loop.timers.add(self.touched + seconds, self)

    def __call__(self) -> None:
        """Its timer: was it silent all the time? If not, looks again when it may have been. What its throttles hold is not
        silent. (The timer has the relay itself, since a bound method would cost each relay 64 bytes.)
        """
        assert self._idle is not None
        since = self.touched
        for direction in (self._up, self._down):
            if direction.allowance is not None:
                since = max(since, direction.allowance.until)
        due = since + self._idle
        if due <= self.loop.clock.now():
            half = self._up.done or self._down.done
            self._timer = None
            self.abort("no data after half-close" if half else "idle")
        else:
            self._timer = self.loop.timers.add(due, self)


def reset_on_close(sock: Socket) -> None:
    """Has the peer hear a reset when *sock* is closed, so that it takes nothing for whole. Raises nothing. See socket(7)."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


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
    throttles: Throttles = ((), ()),
) -> Relay:
    """Joins two connected stream sockets and returns at once; *done* is called with the result when it has ended.

    Takes both sockets over and closes them at the end. *linger_seconds*: after one side has finished sending, the
    longest silence of the other. *idle_seconds*: the longest silence before; ``None``: no limit. *throttles*: those of
    *a* → *b*, and those of *b* → *a*; all of a direction's have to grant what it moves, and waiting for them is no
    silence. *done* runs in the loop and must not wait. Call it in a task; it does not switch. Raises ``BusyError`` when a
    task waits for a socket, ``TypeError`` for what are no throttles.
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
    relay = Relay(loop, a, b, linger_seconds, idle_seconds, done, throttles)
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
    a: Socket,
    b: Socket,
    *,
    linger_seconds: float = LINGER_SECONDS,
    idle_seconds: float | None = None,
    throttles: Throttles = ((), ()),
) -> RelayResult:
    """Joins two connected stream sockets until both sides have finished; closes both and says what was moved.

    Parameters as ``start_relay``. Switches tasks. Does not raise what breaks a connection: that is the result's
    ``reason``. When cancelled it closes both sockets and raises ``Cancelled``.
    """
    worker = current_worker()
    place = _Result()
    running = start_relay(
        a, b, place.take, linger_seconds=linger_seconds, idle_seconds=idle_seconds, throttles=throttles
    )
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


__all__ = ["LINGER_SECONDS", "Relay", "RelayResult", "relay", "reset_on_close", "start_relay"]
