"""One process per core: what ``serve(..., workers=N)`` stands on. A supervisor forks workers, and keeps them.

Every socket that is listened on stays open in the supervisor for as long as it runs. So a worker that crashes, or is
replaced, leaves its queue of waiting connections behind for its successor: none is refused and none is lost but those
that the worker had accepted. An address is listened on once for each worker, with ``SO_REUSEPORT``, so that the kernel
spreads connections evenly and workers share no queue; a listener that the caller made is shared, and the kernel wakes
one of them for each connection.

Supervisor and worker talk through a socket pair: the worker says that it is ready, the supervisor says when to stop,
the worker says that it takes no more connections (so that after a change nobody is served as before it), and either
notices by the end of the stream that the other is gone. A worker does what ``Server`` does, in a run of its
own; what a server is, is in ``serving``.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, cast

from netnet.kernel.address import Address, UnixAddress, parse_address
from netnet.net.crew import Crew, Plan, Serving
from netnet.net.processes import ending_text, flush_output, kill, reap
from netnet.net.sockets import Socket, socketpair
from netnet.net.stream import listen
from netnet.net.systemd import notify
from netnet.poller import available
from netnet.runtime.api import now, run, sleep, spawn
from netnet.runtime.choose import choose
from netnet.runtime.group import TaskGroup
from netnet.runtime.scope import shield, timeout
from netnet.runtime.signals import open_signals
from netnet.runtime.sync import Event
from netnet.runtime.timers import Timer
from netnet.runtime.worker import current_worker

if TYPE_CHECKING:
    from netnet.net.serving import Source

log = logging.getLogger("netnet")

#: the pause before a worker that keeps crashing is replaced doubles from the first to the last of these
PAUSE_SECONDS: Final = 0.1
PAUSE_SECONDS_MAX: Final = 30.0
#: a worker that has lived so long is not one that keeps crashing
SETTLED_SECONDS: Final = 10.0
#: a successor that is not ready by then is given up, and the old worker kept
READY_SECONDS: Final = 30.0
#: so long after its time for draining a worker is killed that has not ended
GRACE_SECONDS: Final = 5.0
#: so long a change waits until a worker that was replaced takes no more connections; only one that hangs takes longer
CLOSE_SECONDS: Final = 1.0
#: a worker that waits until its server has closed its listeners, which takes a turn or two, looks so often
LOOK_SECONDS: Final = 0.001


def _pass(number: int, frame: FrameType | None) -> None:
    """A handler that does nothing."""


#: in a worker: its supervisor decides what Ctrl-C and a hang-up mean, and SIGTERM drains
#: (``SIG_IGN`` would be inherited by the programs that it starts)
_SIGNALS: Final[dict[int, Any]] = {signal.SIGINT: _pass, signal.SIGHUP: _pass, signal.SIGTERM: signal.SIG_DFL}

_READY: Final = b"r"
_CLOSED: Final = b"c"
_DRAIN: Final = b"d"
_RETIRE: Final = b"q"
_STOP: Final = b"s"


@dataclass(eq=False)
class _Worker:
    """One process."""

    pid: int
    control: Socket
    began: float
    ticket: object = None
    ready: Event = field(default_factory=Event)
    #: its listeners are closed
    closed: Event = field(default_factory=Event)
    ended: Event = field(default_factory=Event)
    #: it was told to end, so its end is no crash
    retired: bool = False
    killer: Timer | None = None


@dataclass(eq=False)
class _Slot:
    """The place of one worker: the sockets that it accepts from, and who does so now."""

    number: int
    listeners: list[Socket]
    worker: _Worker | None = None
    crashes: int = 0  #: in a row, each soon after its start
    gone: bool = False  #: there are fewer slots now

    def next_pause(self) -> float:
        """It has crashed once more: how long to wait before the next start."""
        self.crashes += 1
        return 0.0 if self.crashes == 1 else min(PAUSE_SECONDS * 2 ** min(self.crashes - 2, 30), PAUSE_SECONDS_MAX)


class Supervisor:
    """Keeps *workers* processes that serve *sources*, until it is cancelled or SIGTERM has drained them."""

    def __init__(
        self,
        sources: Sequence[Source],
        crew: Crew | Callable[[], Serving],
        workers: int,
        drain_seconds: float,
    ) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise ValueError(f"workers must be a whole number from 1 on, not {workers!r}")
        self._plan = Plan(sources, workers, drain_seconds)
        self._crew = crew if isinstance(crew, Crew) else Crew(crew)
        self._slots: list[_Slot] = []
        #: the sockets that were opened here: one for each worker, or one for all. By address, and which one of that
        #: address: port 0 may be there several times, and is another port each time
        self._listeners: dict[tuple[Address, int], list[Socket]] = {}
        self._workers: set[_Worker] = set()
        self._stopping = False
        self._stop = Event()
        self._mask: Iterable[int] = ()
        self._ticket: object = None

    def run(self, opened: Callable[[Sequence[Socket]], object] | None = None) -> None:
        """Starts the workers and stays with them. Switches tasks. Raises ``Cancelled``, ``OSError`` of ``listen``.

        *opened* is called when all is open, with a listener of each source, before the first worker starts.
        """
        loop = self._loop = current_worker().loop
        loop.drains[self] = self._drain
        try:
            with contextlib.ExitStack() as stack:
                stack.callback(self._close_all)
                self._slots = [_Slot(number, own) for number, own in enumerate(self._open(self._plan))]
                self._crew.adopt()
                if opened is not None:
                    opened(self._slots[0].listeners)
                with TaskGroup() as helpers:
                    if threading.get_ident() == threading.main_thread().ident:
                        hangups = stack.enter_context(open_signals(signal.SIGHUP))  # before the first worker is there
                        helpers.spawn(self._replace_on, hangups, name="netnet supervisor: SIGHUP")
                    helpers.spawn(self._announce, name="netnet supervisor: ready")
                    with TaskGroup() as self._group:
                        for slot in self._slots:
                            self._group.spawn(self._fill, slot, name=f"netnet supervisor: worker {slot.number}")
                    helpers.cancel()
        finally:
            loop.forget_drain(self)
            if not self._stopping:
                notify(stopping=True)

    def _open(self, plan: Plan) -> list[list[Socket]]:
        """The listeners of each worker; those that are open already are used again. Raises ``OSError``."""
        wanted: list[list[Socket]] = [[] for _ in range(plan.workers)]
        times: Counter[Address] = Counter()
        for source in plan.sources:
            if isinstance(source, Socket):
                shared = [source]
            else:
                address = parse_address(source)
                shared = self._listeners.setdefault((address, times[address]), [])
                times[address] += 1
                self._listen(address, shared, plan.workers)
            for number, listeners in enumerate(wanted):
                listeners.append(shared[min(number, len(shared) - 1)])
        return wanted

    def _listen(self, address: Address, opened: list[Socket], count: int) -> None:
        """One socket for each worker, of the same port; one for all where the kind knows no ``SO_REUSEPORT``.

        At first it is tried without: a second program with the flag would not fail, and share the connections.
        """
        if not opened:
            if not isinstance(address, UnixAddress) and address.port:
                listen(address).close()
            opened.append(listen(address, reuse_port=not isinstance(address, UnixAddress)))
        while len(opened) < count and not isinstance(address, UnixAddress):
            same: Any = replace(cast(Any, address), port=opened[0].getsockname()[1])
            opened.append(listen(same, reuse_port=True))

    def _all_listeners(self) -> set[Socket]:
        of_slots = {listener for slot in self._slots for listener in slot.listeners}
        return of_slots.union(*self._listeners.values())

    def _close_all(self) -> None:
        self._slots = []
        self._close_unused()

    def _close_unused(self) -> None:
        """Closes what no slot listens on any more."""
        used = {listener for slot in self._slots for listener in slot.listeners}
        for key, opened in tuple(self._listeners.items()):
            kept = [listener for listener in opened if listener in used]
            for listener in opened:
                if listener not in used:
                    listener.close()
            self._listeners[key] = kept
            if not kept:
                del self._listeners[key]

    # -- the life of a worker, seen from the supervisor

    def _fill(self, slot: _Slot) -> None:
        """Starts a worker in an empty slot, unless somebody else does; where no process can be made, tries again."""
        before = slot.worker
        while slot.worker is before and not (self._stopping or slot.gone):
            try:
                slot.worker = self._start(slot)
            except OSError as error:
                pause = slot.next_pause() or PAUSE_SECONDS
                log.error("worker %d cannot be started: %s; trying again in %g s", slot.number, error.strerror, pause)
                self._stop.wait(pause)
            else:
                return

    def _start(self, slot: _Slot) -> _Worker:
        """Forks a worker. Returns in the supervisor only. Raises ``OSError`` where no process can be made."""
        ticket = self._crew.hire(slot.number)
        try:
            return self._fork(slot, ticket)
        except OSError:  # any other error comes when somebody attends to it, or is the end
            self._crew.dismiss(ticket)
            raise

    def _fork(self, slot: _Slot, ticket: object) -> _Worker:
        ours, theirs = socketpair()
        flush_output()
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # until the worker has its own handlers
        try:
            pid = os.fork()
            if pid == 0:
                try:
                    ours.close()
                    self._ticket = ticket
                    self._be_worker(slot, theirs)
                finally:  # it must not go on in the supervisor's lines, whatever happens
                    os._exit(1)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        worker = _Worker(pid, ours, now(), ticket)
        self._crew.started(ticket, pid)
        self._workers.add(worker)
        try:
            self._group.spawn(self._attend, slot, worker, name=f"netnet supervisor: process {pid}")
        except BaseException:  # it is the end: nobody would attend to it
            with shield():
                self._end_now(worker)
            self._workers.discard(worker)
            worker.control.close()
            self._crew.dismiss(ticket)
            raise
        log.info("worker %d started as process %d", slot.number, pid)
        return worker

    def _attend(self, slot: _Slot, worker: _Worker) -> None:
        """Waits until a worker has ended; then has it replaced, if it ought to be there."""
        hearing = spawn(self._hear, worker, name=f"netnet supervisor: what process {worker.pid} says")
        try:
            status = reap(worker.pid)
        except BaseException:  # the supervisor is to end now
            with shield():
                self._end_now(worker)
            raise
        finally:
            hearing.cancel()
            self._crew.dismiss(worker.ticket)
            self._workers.discard(worker)
            worker.ended.set()
            worker.control.close()
            if worker.killer is not None:
                worker.killer.cancel()
        if self._stopping or worker.retired or slot.worker is not worker:
            log.info("worker %d, process %d, %s", slot.number, worker.pid, ending_text(status))
        else:
            self._replace_crashed(slot, worker, status)

    def _hear(self, worker: _Worker) -> None:
        """Hears when a worker is ready, and when it takes no more connections."""
        with contextlib.suppress(OSError):
            while said := worker.control.recv(1):
                (worker.ready if said == _READY else worker.closed).set()

    def _replace_crashed(self, slot: _Slot, worker: _Worker, status: int | None) -> None:
        lived = now() - worker.began
        if lived >= SETTLED_SECONDS:
            slot.crashes = 0
        pause = slot.next_pause()
        if status is not None and os.waitstatus_to_exitcode(status) in (-signal.SIGTERM, 128 + signal.SIGTERM):
            pause = max(pause, PAUSE_SECONDS)  # we are perhaps about to be told to end, too
            if self._stop.wait(pause):
                log.info("worker %d, process %d, %s", slot.number, worker.pid, ending_text(status))
                return
            pause = 0.0
        log.error(
            "worker %d, process %d, %s after %.1f s; a new one starts in %g s",
            *(slot.number, worker.pid, ending_text(status), lived, pause),
        )
        if pause:
            self._stop.wait(pause)
        if slot.worker is worker and not slot.gone:
            self._fill(slot)

    def _tell(self, worker: _Worker, command: bytes) -> None:
        """Has a worker end, and sees to it that it does. Never waits."""
        worker.retired = True
        if worker.ended.is_set():
            return
        with contextlib.suppress(OSError):
            socket.socket.send(worker.control, command, socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0))
        seconds = GRACE_SECONDS + self._drain_seconds_of(command)
        if worker.killer is not None:
            worker.killer.cancel()
        if seconds < math.inf:
            loop = self._loop
            worker.killer = loop.timers.add(loop.clock.now() + seconds, lambda: kill(worker.pid))

    def _drain_seconds_of(self, command: bytes) -> float:
        """How long a worker that is told *command* waits for its connections."""
        if command == _STOP:
            return 0.0
        replaced = self._crew.replaced_seconds if command == _RETIRE else None
        return self._plan.drain_seconds if replaced is None else replaced

    def _end_now(self, worker: _Worker) -> None:
        """Ends a worker without draining; its handlers may still clean up."""
        self._tell(worker, _STOP)
        with contextlib.suppress(TimeoutError), timeout(GRACE_SECONDS):
            reap(worker.pid)
            return
        kill(worker.pid)
        reap(worker.pid)

    # -- the whole

    def _drain(self) -> None:
        """SIGTERM: every worker takes no more connections, and ends when it has none, or when its time is over."""
        self._stopping = True
        self._stop.set()
        notify(stopping=True)
        for listener in self._all_listeners():
            listener.close()
        for worker in tuple(self._workers):
            self._tell(worker, _DRAIN)

    def _announce(self) -> None:
        """Tells systemd when all workers are ready."""
        for slot in tuple(self._slots):
            while not slot.gone and (slot.worker is None or not slot.worker.ready.is_set()):
                if slot.worker is None or slot.worker.ended.is_set():
                    sleep(PAUSE_SECONDS)
                else:
                    choose(slot.worker.ready, slot.worker.ended)
        notify(ready=True)

    def _replace_on(self, hangups: open_signals) -> None:
        for _ in hangups:
            if not self._stopping:
                notify(reloading=True)
                if self._change_plan():
                    self._replace_all()
                notify(ready=True)

    def _change_plan(self) -> bool:
        """Asks the crew what is to be served from now on. False: it is to stay as it is, workers included."""
        try:
            plan = self._crew.plan()
            if plan is None:
                return True
            listeners = self._open(plan)
        except Exception as error:
            log.error("nothing was changed: %s", (error.strerror if isinstance(error, OSError) else None) or error)
            self._close_unused()  # what was opened before it failed
            self._crew.reject()
            return False
        self._plan = plan
        self._crew.adopt()
        surplus = self._slots[plan.workers :]
        del self._slots[plan.workers :]
        for slot in self._slots:
            slot.listeners = listeners[slot.number]
        for number in range(len(self._slots), plan.workers):
            self._slots.append(_Slot(number, listeners[number]))
        self._close_unused()  # the last to close them are the workers, who know what still waits there
        for slot in surplus:
            slot.gone = True
            if slot.worker is not None:
                self._replaced(slot.worker)
        return True

    def _replace_all(self) -> None:
        """Replaces the workers one by one: the successor is ready before the old one is told to drain."""
        for slot in tuple(self._slots):
            new = self._start_successor(slot)
            if new is None:
                return
            old = slot.worker
            if not self._is_ready(new):
                log.error("worker %d: its successor, process %d, is not ready; the old one stays", slot.number, new.pid)
                self._tell(new, _STOP)
                self._fill_empty()
                return
            if self._stopping:
                return
            if slot.worker is not old:  # it has crashed meanwhile, and was replaced already
                self._tell(new, _STOP)
                continue
            slot.worker = new
            slot.crashes = 0
            if old is not None:
                self._replaced(old)

    def _replaced(self, worker: _Worker) -> None:
        """Has a worker take no more connections, and waits until it does not."""
        self._tell(worker, _RETIRE)
        with contextlib.suppress(TimeoutError), timeout(CLOSE_SECONDS):
            choose(worker.closed, worker.ended)

    def _start_successor(self, slot: _Slot) -> _Worker | None:
        """Where no process can be made, tries again: the plan is adopted, and its new sockets wait for somebody. ``None``
        at the end of the service."""
        while not self._stopping:
            try:
                return self._start(slot)
            except OSError as error:
                pause = slot.next_pause() or PAUSE_SECONDS
                log.error(
                    "worker %d: no successor can be started: %s; the old one stays; trying again in %g s",
                    *(slot.number, error.strerror, pause),
                )
                self._stop.wait(pause)
        return None

    def _fill_empty(self) -> None:
        """Starts workers for the slots that have never had one: connections wait there already."""
        for slot in self._slots:
            if slot.worker is None:
                self._group.spawn(self._fill, slot, name=f"netnet supervisor: worker {slot.number}")

    def _is_ready(self, worker: _Worker) -> bool:
        """Waits until it is ready, or has ended, or the time is up."""
        try:
            with timeout(READY_SECONDS):
                choose(worker.ready, worker.ended)
        except TimeoutError:
            return False
        return worker.ready.is_set() and not worker.ended.is_set()

    # -- in the worker

    def _be_worker(self, slot: _Slot, control: Socket) -> None:
        """What the forked process does, to its end."""
        status = 1
        try:
            os.environ.pop("NOTIFY_SOCKET", None)  # it is the supervisor that tells
            for number, handler in _SIGNALS.items():
                signal.signal(number, handler)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            for worker in self._workers:
                worker.control.close()
            for listener in self._all_listeners():
                if listener not in slot.listeners:
                    listener.close()
            poller = self._loop.poller.name
            run(
                self._serve,
                slot.listeners,
                control,
                poller=poller if poller in available() else None,
                threads=self._loop.threads,
            )
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            log.exception("worker %d, process %d, failed", slot.number, os.getpid())
        finally:
            flush_output()
            os._exit(status)

    def _serve(self, listeners: Sequence[Socket], control: Socket) -> None:
        server = self._crew.new_server(self._ticket)

        def obey() -> None:
            command = _DRAIN
            while command:  # its end, too: the supervisor is no more
                command = b""
                with contextlib.suppress(OSError):
                    command = control.recv(1)
                server.begin_draining(self._drain_seconds_of(command))
                while any(listener.fileno() >= 0 for listener in listeners):
                    sleep(LOOK_SECONDS)
                with contextlib.suppress(OSError):
                    control.sendall(_CLOSED)

        obedience = spawn(obey, name="netnet worker: its supervisor")
        control.sendall(_READY)
        server.serve_all(listeners)
        obedience.cancel()
        self._crew.served(self._ticket)
