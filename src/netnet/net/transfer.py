"""Transfers of a socket that the kernel carries out: files, splices from descriptor to descriptor, sends without copying.

The single steps, and what each can and cannot do, are in ``netnet.kernel.transfer`` and ``zerocopy``; here they wait.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import TYPE_CHECKING, Any, Self

from netnet.kernel.address import INET
from netnet.kernel.transfer import Moved, Pipe, Stop, cannot, pipes, send_file
from netnet.kernel.zerocopy import ZeroCopyLedger
from netnet.net.waiting import NOSIGNAL, WaitingSocket, family_of, plain
from netnet.poller.contract import READABLE, WRITABLE
from netnet.runtime.foreign import wait_writable
from netnet.runtime.worker import worker_or_none

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

#: one step moves at most so much, so that a peer who keeps up does not keep the loop: a few milliseconds
STEP_BYTES = 1 << 22


class TransferringSocket(WaitingSocket):
    """The part of ``Socket`` that has the kernel move bytes."""

    __slots__ = ()

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Sends a file from *offset* on: *count* bytes, or all until its end. Returns how many bytes were sent.

        By sendfile(2) where *file* is a regular file, else by reading and sending. The file's position is set behind
        the last byte sent, also after an error, which has ``bytes_sent``. With SIGPIPE set to end the program, a broken
        connection does so here (sendfile(2) cannot be told otherwise). Raises
        ``ValueError`` on a non-blocking or non-stream socket.
        """
        self._check_sendfile_params(file, offset, count)  # type: ignore[attr-defined]
        self._open()
        if self._timeout == 0:
            raise ValueError("non-blocking sockets are not supported")
        try:
            source = file.fileno()
            able = hasattr(os, "sendfile") and os.path.isfile(source) and os.fstat(source).st_size > 0
        except (AttributeError, OSError):
            able = False
        sent = 0
        try:
            while able and (count is None or sent < count):
                step = STEP_BYTES if count is None else min(STEP_BYTES, count - sent)
                moved = self._cooperate(WRITABLE, _send_file, source, offset + sent, step)
                sent += moved.bytes
                able = moved.able
                if moved.bytes == STEP_BYTES:
                    _step_done()
                if moved.stop is Stop.END:
                    break
        except BaseException as error:
            sent += getattr(error, "bytes_sent", 0)
            error.bytes_sent = sent  # type: ignore[attr-defined]
            raise
        finally:
            if sent:
                file.seek(offset + sent)
        if not able:
            rest = None if count is None else count - sent
            sent += self._sendfile_use_send(file, offset + sent, rest)  # type: ignore[attr-defined]
        return sent

    def splice(self, sink: Any, count: int | None = None) -> Moved:
        """Moves what comes in on to *sink*, a socket, file or pipe, through a pooled pipe, inside the kernel.

        *count* bytes, or (``None``) all until the peer has finished. Returns how many bytes reached the sink, and why
        it stopped: ``moved.able`` is false where the kernel cannot do it between these two (no splice(2), urgent data,
        a file opened for appending), or no pipe was to be had; receive and send the rest then. Waits for both sides;
        switches tasks. Raises ``ValueError`` for a sink that blocks (a socket or terminal that is not netnet's);
        ``OSError``. An error has ``bytes_sent``, and ``undelivered``: bytes that were taken and not passed on.
        """
        if count is not None and count < 0:
            raise ValueError(f"the count cannot be negative: {count}")
        if not isinstance(sink, WaitingSocket):
            sink = _checked_sink(sink)
        pipe = pipes.take()
        if pipe is None:
            return Moved(0, Stop.UNABLE)
        moved = 0
        try:
            while count is None or moved < count:
                size = STEP_BYTES if count is None else min(STEP_BYTES, count - moved)
                try:
                    filled = self._cooperate(READABLE, _fill, pipe, size)
                except OSError as error:
                    if not cannot(error):
                        raise
                    return Moved(moved, Stop.UNABLE)
                if filled <= 0:
                    return Moved(moved, Stop.UNABLE if filled else Stop.END)
                while pipe.held:
                    try:
                        moved += _empty(pipe, sink)
                    except OSError as error:
                        if not cannot(error):
                            raise
                        moved += _write_all(sink, pipe.read_all())
                        return Moved(moved, Stop.UNABLE)
                _step_done()
            return Moved(moved, Stop.COUNT)
        except BaseException as error:
            error.bytes_sent = moved + getattr(error, "bytes_sent", 0)  # type: ignore[attr-defined]
            error.undelivered = pipe.read_all() if pipe.held else getattr(error, "undelivered", b"")  # type: ignore[attr-defined]
            raise
        finally:
            pipes.give_back(pipe)

    def zerocopy_sender(self) -> ZeroCopy:
        """Prepares for sends that are not copied: ``with sock.zerocopy_sender() as sender: sender.sendall(data)``.

        Raises ``OSError`` or ``OptionError`` where the socket cannot do it (TCP and UDP on Linux can).
        """
        return ZeroCopy(self)


class ZeroCopy(ZeroCopyLedger):
    """Sends of a socket that are not copied (``MSG_ZEROCOPY``). What was sent must not be changed until it is through.

    Leaving the ``with`` block waits until everything is through; leaving it by an exception does not: if the socket is
    closed before the rest is through, it is reset, so that memory which is somebody else's by then is never sent.
    Pays for some 10 kB a send and more; over loopback the kernel copies after all (``copied`` counts that).
    """

    _sock: TransferringSocket

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.wait()
        elif self._sock.fileno() >= 0:
            self.let_go()

    def sendall(self, data: ReadableBuffer) -> None:
        """Sends all of *data*, waiting for room; where too much is pending, the rest of it by copying.

        Switches tasks. An error half way has ``bytes_sent``.
        """
        sent = 0
        with memoryview(data) as whole, whole.cast("B") as view:
            try:
                while sent < len(view):
                    # a copy of the view: the ledger keeps it, the others here are let go of
                    sent += self._sock._cooperate(WRITABLE, self._send_some, memoryview(view[sent:]))
                    self.notices()
            except BaseException as error:
                error.bytes_sent = sent  # type: ignore[attr-defined]
                raise

    def _send_some(self, sock: WaitingSocket, view: memoryview) -> int:
        try:
            return self.send(view)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
        self.notices()
        return plain.send(sock, view, NOSIGNAL)

    def wait(self) -> None:
        """Waits until the kernel has given everything back. Switches tasks. Raises ``TimeoutError``, ``OSError``.

        By looking again at growing intervals: notices come when the peer has acknowledged, and the kernel reports them
        with the socket's other events, which may be another task's.
        """
        if self._sock._timeout == 0:
            self._look()
        elif self.pending:
            try:
                self._sock._insist(self._look)
            except OSError as error:
                self._sock._raise_if_closed(error)
                raise

    def _look(self) -> None:
        self.notices()
        if self.pending:
            raise BlockingIOError


def _send_file(sock: WaitingSocket, source: int, offset: int, count: int) -> Moved:
    moved = send_file(sock.fileno(), source, offset, count)
    if not moved.bytes and moved.stop is Stop.SINK:
        raise BlockingIOError
    return moved


def _fill(sock: WaitingSocket, pipe: Pipe, size: int) -> int:
    """Moves what there is into the pipe: how many bytes, 0 at the end, -1 where urgent data stops splicing only.

    With urgent data in front splice(2) has nothing, or the end, while there is something to receive. Since that may have
    come just between the two looks, splicing is tried once more.
    """
    may_be_urgent = family_of(sock) in INET and not sock._descriptor.short_is_dry
    for _ in range(2):
        try:
            filled = pipe.fill(sock.fileno(), size)
        except BlockingIOError:
            if not may_be_urgent:
                raise
            filled = 0
        if filled or not plain.recv(sock, 1, socket.MSG_PEEK):
            return filled
    return -1


def _checked_sink(sink: Any) -> int:
    """The descriptor of a sink that is no netnet socket. Raises ``ValueError`` for one that would block the thread.

    Of pipes splice(2) can be told not to wait for, files and devices such as null do not.
    """
    fd = sink if isinstance(sink, int) else sink.fileno()
    if os.get_blocking(fd) and (stat.S_ISSOCK(os.fstat(fd).st_mode) or os.isatty(fd)):
        raise ValueError(f"descriptor {fd} blocks, which would stop all tasks; os.set_blocking({fd}, False) first")
    return int(fd)


def _step_done() -> None:
    """A step is as much as a turn: the next call lets the others run first."""
    worker = worker_or_none()
    if worker is not None:
        worker.loop.credit = 0


def _empty(pipe: Pipe, sink: Any) -> int:
    if isinstance(sink, WaitingSocket):
        return sink._cooperate(WRITABLE, lambda sock: pipe.empty(sock.fileno()))
    while True:
        try:
            return pipe.empty(sink)
        except BlockingIOError:
            wait_writable(sink)


def _write_all(sink: Any, data: bytes) -> int:
    """Writes what cannot be spliced; an error has ``bytes_sent`` and ``undelivered``."""
    sent = 0
    try:
        if isinstance(sink, WaitingSocket):
            sink.sendall(data)
            return len(data)
        while sent < len(data):
            try:
                sent += os.write(sink, memoryview(data)[sent:])
            except BlockingIOError:
                wait_writable(sink)
        return sent
    except BaseException as error:
        sent = getattr(error, "bytes_sent", sent)
        error.bytes_sent = sent  # type: ignore[attr-defined]
        error.undelivered = data[sent:]  # type: ignore[attr-defined]
        raise
