"""Connected streams in memory that hold nothing: sending waits until the peer has received all of it.

Kernels buffer some hundred kilobytes for a sender, and so hide protocols in which both ends send and nobody reads, until
a message is long enough. On a lockstep pair these lock up at once, and ``netnet.run`` raises ``DeadlockError``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from netnet.testing.ends import checked_flags, checked_limit, octets
from netnet.testing.memory import SEND_FLAGS, Lane, MemoryStream

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class LockstepStream(MemoryStream):
    """One end of ``lockstep_stream_pair``: as ``MemoryStream``, except for sending."""

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """Sends all of *data* and waits until the peer has received it; returns its length. Otherwise as ``sendall``."""
        with octets(data) as view:
            self.sendall(view, flags)
            return len(view)

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        """Sends all of *data* and waits until the peer has received it. Switches tasks.

        Raises what ``MemoryStream.sendall`` does. What was not received when it fails is taken back; ``bytes_sent`` of
        the error says how much was received. A call that must not wait (a time-out of 0) always fails.
        """
        checked_flags(flags, SEND_FLAGS)
        sent = 0
        lane = self._outgoing
        try:
            with octets(data) as view:
                self._begin()
                with lane.writer:
                    self._raise_broken(lane)
                    lane.put(view)
                    try:
                        self._await_receipt(lane, flags)
                    finally:
                        left = min(len(view), len(lane.data))
                        sent = len(view) - left
                        del lane.data[len(lane.data) - left :]
        except BaseException as error:
            error.bytes_sent = sent  # type: ignore[attr-defined]
            raise

    def _await_receipt(self, lane: Lane, flags: int) -> None:
        until = self._until()
        while lane.data:
            self._raise_broken(lane)
            self._wait(lane.writer.lot, until, flags)


def lockstep_stream_pair(*, max_chunk: int | None = None) -> tuple[LockstepStream, LockstepStream]:
    """Two connected streams in memory without any buffer: ``send`` and ``sendall`` wait for the receiver.

    *max_chunk*: how many bytes one ``recv`` returns at most, whatever was asked for. Can be made anywhere and works
    inside ``netnet.run``. Raises ``ValueError`` for a limit below 1.
    """
    checked_limit("max_chunk", max_chunk)
    there, back = Lane(sys.maxsize), Lane(sys.maxsize)
    one, other = LockstepStream(back, there, max_chunk), LockstepStream(there, back, max_chunk)
    one._join(other)
    return one, other
