"""Serving: ``serve`` and ``Server``, a task for each connection, in one process. Several processes: ``workers``.

A server stops accepting, and refuses nobody, when it has as many connections as it may: the others wait in the kernel's
backlog. Errors of ``accept`` that concern one connection are passed over, those that pass when descriptors or memory
come free are waited out. To *drain* is to take no more connections and to let those that there are come to their end.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from netnet.errors import ClosedError, UsageError
from netnet.kernel.address import Address
from netnet.net.sockets import Socket
from netnet.net.stream import BACKLOG, listen
from netnet.net.systemd import notify
from netnet.runtime.api import now, sleep
from netnet.runtime.clock import checked_seconds
from netnet.runtime.group import TaskGroup
from netnet.runtime.scope import CancelScope, shield
from netnet.runtime.sync import Event, Semaphore
from netnet.runtime.timers import Timer
from netnet.runtime.worker import current_worker, running

log = logging.getLogger("netnet")

#: errors of ``accept`` that concern one connection, or pass when others are closed; the listener is still good
_PASSING: Final = {
    errno.ECONNABORTED: 0.0,
    errno.EPROTO: 0.0,
    errno.EPERM: 0.0,
    errno.ENETDOWN: 0.0,
    errno.EHOSTDOWN: 0.0,
    errno.EHOSTUNREACH: 0.0,
    getattr(errno, "ENONET", errno.ENETDOWN): 0.0,
    errno.ENETUNREACH: 0.0,
    errno.ENOPROTOOPT: 0.0,
    errno.EMFILE: 0.05,
    errno.ENFILE: 0.05,
    errno.ENOBUFS: 0.05,
    errno.ENOMEM: 0.05,
}

#: a listener that cannot accept says so this often
SILENT_SECONDS: Final = 5.0

Source = Socket | str | tuple[object, ...] | Address


@dataclass(slots=True)
class ServerStatistics:
    """What a server has done so far."""

    #: connections that were accepted, that are open now, and that were open at once at most
    accepted: int = 0
    active: int = 0
    active_max: int = 0
    #: handlers that ended with an error
    failed: int = 0
    #: errors of ``accept`` that were passed over or waited out, and the last of them
    accept_errors: int = 0
    last_accept_error: OSError | None = None
    #: how often it stopped accepting because it had as many connections as it may
    full: int = 0


class Draining:
    """What a server needs to be drained: until when, and what stops its accepting. ``_cut_off`` ends what is left then."""

    def __init__(self, drain_seconds: float) -> None:
        self.drain_seconds = checked_seconds(drain_seconds)
        self._accepting: set[CancelScope] = set()
        self._deadline: float | None = None
        self._timer: Timer | None = None

    @property
    def draining(self) -> bool:
        """Whether it takes no more connections."""
        return self._deadline is not None

    def begin_draining(self, seconds: float | None = None) -> None:
        """Takes no more connections; those that are left after *seconds* are ended. Does not switch tasks.

        *seconds*: by default those of the server. Of several deadlines the earliest counts.
        """
        loop = running.loop
        deadline = loop.clock.now() + (self.drain_seconds if seconds is None else seconds)
        if self._deadline is None:
            notify(stopping=True)
        elif deadline >= self._deadline:
            return
        self._deadline = deadline
        if self._timer is not None:
            self._timer.cancel()
        if deadline < math.inf and self._accepting:
            self._timer = loop.timers.add(deadline, self._cut_off)
        for scope in tuple(self._accepting):
            scope.cancel("the server is being drained")

    def _cut_off(self) -> None:
        """The time for draining is over."""
        raise NotImplementedError


class Server(Draining):
    """Runs ``handler(conn)`` in a task for each connection, and closes it when the handler ends.

    *max_connections* bounds how many there are at once, over all its listeners. A handler's error concerns its own
    connection only: it is passed to *on_error*, or else logged. *drain_seconds*: so long SIGTERM waits for the
    connections before it ends the run; 0: not at all. One server can serve several listeners, each by a task of its own.
    """

    def __init__(
        self,
        handler: Callable[[Socket], object],
        *,
        max_connections: int | None = None,
        on_error: Callable[[Exception], object] | None = None,
        drain_seconds: float = 0.0,
    ) -> None:
        if max_connections is not None and max_connections < 1:
            raise ValueError(f"a server needs 1 connection at least, not {max_connections}")
        super().__init__(drain_seconds)
        self.handler = handler
        self.on_error = on_error
        self.statistics = ServerStatistics()
        self._permits = None if max_connections is None else Semaphore(max_connections)
        self._groups: set[TaskGroup] = set()
        self._ended = Event()
        self._ended.set()
        self._cut = False

    def serve(self, listener: Socket) -> None:
        """Accepts connections from *listener* until it is cancelled, drained, or the listener is closed.

        Switches tasks. Returns when it was drained: then *listener* is closed. Raises ``Cancelled``, or ``ClosedError``
        when the listener is closed, after its handlers, which are cancelled with it. Other errors of the listener are
        raised in the same way.
        """
        if self.draining:
            raise UsageError("this server has been drained; make a new one")
        loop = current_worker().loop
        accepting = CancelScope()
        self._accepting.add(accepting)
        self._ended.clear()
        if self.drain_seconds > 0:
            loop.drains[self] = self.begin_draining
        ended: OSError | None = None

        def take(conn: Socket, address: Any) -> None:
            group.spawn(self._handle, conn)

        try:
            with TaskGroup() as group:
                self._groups.add(group)
                try:
                    with accepting:
                        accept_all(listener, take, self._permits, self.statistics)
                except OSError as error:
                    ended = error
                    group.cancel("the server ended")
                if self._deadline is not None:
                    if self._deadline > loop.clock.now():
                        accept_rest(listener, take, self._permits, self.statistics)
                    listener.close()
        finally:
            self._accepting.discard(accepting)
            self._groups.discard(group)
            if not self._accepting:
                if self._timer is not None:
                    self._timer.cancel()
                self._ended.set()
                loop.forget_drain(self)
        if ended is not None:
            raise ended

    def serve_all(self, listeners: Sequence[Socket]) -> None:
        """``serve`` for each of *listeners*; when one of them fails the others end, and its error is raised."""
        failed: list[OSError] = []

        def serve_one(listener: Socket) -> None:
            if self.draining:  # it was told before it began
                listener.close()
                return
            try:
                self.serve(listener)
            except OSError as error:
                failed.append(error)
                group.cancel("another listener failed")

        if len(listeners) == 1:
            if not self.draining:
                self.serve(listeners[0])
            return
        with TaskGroup() as group:
            for listener in listeners:
                group.spawn(serve_one, listener)
        if failed:
            raise failed[0]

    def _handle(self, conn: Socket) -> None:
        statistics = self.statistics
        statistics.active += 1
        statistics.active_max = max(statistics.active_max, statistics.active)
        try:
            with conn:
                self.handler(conn)
        except Exception as error:
            statistics.failed += 1
            self._tell(error)
        finally:
            statistics.active -= 1
            if self._permits is not None:
                self._permits.release()

    def _tell(self, error: Exception) -> None:
        try:
            if self.on_error is not None:
                self.on_error(error)
            else:
                log.error("the handler of a connection failed", exc_info=error)
        except Exception as second:  # this one must not end the server either
            log.error("on_error failed", exc_info=second)

    def drain(self, seconds: float = math.inf) -> bool:
        """Takes no more connections, closes the listeners, and waits for the connections that there are.

        Those that are left after *seconds* are cancelled. Returns whether none was. Switches tasks. Raises ``Cancelled``.
        """
        self.begin_draining(checked_seconds(seconds))
        self._ended.wait()
        return not self._cut

    def _cut_off(self) -> None:
        """The time for draining is over."""
        self._cut = self._cut or self.statistics.active > 0
        for group in self._groups:
            group.cancel("the time for draining was over")


def serve(
    source: Source | Sequence[Source],
    handler: Callable[[Socket], object],
    *,
    max_connections: int | None = None,
    on_error: Callable[[Exception], object] | None = None,
    drain_seconds: float = 0.0,
    workers: int | None = None,
) -> None:
    """Accepts connections and runs ``handler(conn)`` in a task for each, until it is cancelled.

    *source* is a listener, an address to listen on, or several of these. The connection is closed when its handler
    ends. With *max_connections* at once, it stops accepting until one has ended; the others wait in the kernel's
    backlog. A handler's error concerns its own connection only: it is passed to *on_error*, or else logged. Errors of
    ``accept`` that pass (no descriptor left, connection aborted) are waited out. On SIGTERM it takes no more connections
    and lets those that there are end, for *drain_seconds* at most, before the run ends.

    With *workers* it does so in that many processes, and stays to supervise them: one that crashes is replaced (after a
    pause that grows while that goes on), SIGTERM drains them, SIGHUP replaces them one by one without refusing a
    connection. An address is listened on once for each, with ``SO_REUSEPORT``; a listener is shared. *max_connections*
    is for each. They are forked: what stands before the call stands in each of them. In another OS thread than the main
    one SIGHUP and SIGTERM are not heard.

    Where systemd asks to be told (``NOTIFY_SOCKET``), it is told when the server is ready, and when it stops.
    Switches tasks. Ends by ``Cancelled`` or when the listener is closed (``ClosedError``), after its handlers, which
    are cancelled with it.
    """
    sources: Sequence[Source] = source if isinstance(source, list) else [source]  # type: ignore[list-item]
    if not sources:
        raise ValueError("there is nothing to serve: give a listener or an address")

    def new_server() -> Server:
        return Server(handler, max_connections=max_connections, on_error=on_error, drain_seconds=drain_seconds)

    server = new_server()  # also where workers have their own: what makes no sense is said here
    if workers is not None:
        from netnet.net.workers import Supervisor  # here, since most programs do without

        Supervisor(sources, new_server, workers, drain_seconds).run()
        return
    with contextlib.ExitStack() as stack:
        listeners = [one if isinstance(one, Socket) else stack.enter_context(listen(one)) for one in sources]
        for listener in listeners:
            if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                raise OSError(errno.EINVAL, "serve() needs a socket that listens")
        notify(ready=True)
        try:
            server.serve_all(listeners)
        finally:
            if not server.draining:
                notify(stopping=True)


class Permits(Protocol):
    """What bounds how many connections there are: a ``Semaphore``, or what is used like one."""

    @property
    def value(self) -> int: ...

    def acquire(self, blocking: bool = True) -> bool: ...

    def release(self) -> None: ...


def accept_all(
    listener: Socket,
    take: Callable[[Socket, Any], object],
    permits: Permits | None,
    statistics: ServerStatistics | None = None,
) -> None:
    """Accepts for ever: waits until a permit is free, accepts, takes the permit, hands the connection to *take*, with
    the peer's address as ``accept`` tells it.

    Waiting for a connection holds no permit, so that several listeners can share them. Errors that pass are waited out.
    Where there is no limit, and so nothing but accepting to be done, a connection wakes one only of the loops and
    processes that share the listener.
    """
    told = ServerStatistics() if statistics is None else statistics
    descriptor = listener._descriptor
    descriptor.set_exclusive(permits is None)
    try:
        _accept_all(listener, take, permits, told)
    finally:
        descriptor.set_exclusive(False)


def _accept_all(
    listener: Socket, take: Callable[[Socket, Any], object], permits: Permits | None, told: ServerStatistics
) -> None:
    silent_until = -math.inf
    while True:
        if permits is not None and not permits.value:
            told.full += 1
            permits.acquire()
            permits.release()
        try:
            conn, address = listener.accept()
        except OSError as error:
            pause = _PASSING.get(error.errno or 0)
            if pause is None:
                raise
            told.accept_errors += 1
            told.last_accept_error = error
            if pause:
                if now() >= silent_until:
                    silent_until = now() + SILENT_SECONDS
                    log.warning("accept: %s; trying again every %g s", error.strerror, pause)
                sleep(pause)
            continue
        try:
            if permits is not None and not permits.acquire(blocking=False):
                with shield():  # another listener was quicker: this connection still is ours to serve
                    permits.acquire()
            try:
                take(conn, address)
            except BaseException:
                if permits is not None:
                    permits.release()
                raise
        except BaseException:
            conn.close()
            raise
        told.accepted += 1


def accept_rest(
    listener: Socket, take: Callable[[Socket, Any], object], permits: Permits | None, statistics: ServerStatistics
) -> None:
    """Before a listener is closed for good: takes those that wait in the backlog already, if there is room for them,
    since nobody else may know of them. Otherwise as ``accept_all``. Does not switch tasks."""
    with contextlib.suppress(ClosedError):
        listener.settimeout(0)
        for _ in range(BACKLOG):
            if permits is not None and not permits.acquire(blocking=False):
                return
            try:
                conn, address = listener.accept()
            except OSError as error:
                if permits is not None:
                    permits.release()
                if error.errno in _PASSING:  # that one is gone, or there is no room; the next may do
                    statistics.accept_errors += 1
                    statistics.last_accept_error = error
                    continue
                return
            statistics.accepted += 1
            take(conn, address)


__all__ = ["Draining", "Permits", "Server", "ServerStatistics", "accept_all", "accept_rest", "serve"]
