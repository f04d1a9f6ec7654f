"""UDP ASSOCIATE: datagrams between one client and any number of targets, for as long as its TCP connection lasts.

RFC 1928 section 7. Like a relay an association has no task: small objects wait for its sockets and are woken by the
loop. There is one socket toward the client and, once there is somebody to send to, one for each address family (and
each route of the rules). Only a name that has to be looked up gets a task, for so long. What a datagram's header looks
like is in ``datagrams``; what was said in the handshake, in the server.

- *Who is the client.* Datagrams count whose source is the IP address that the TCP connection comes from; the RFC has the
  others dropped. The port is that of the first one, not the announced one: many clients announce their target, or
  nothing. It stays, so that nobody else behind the same address gets at the answers; but when it has been silent for
  ``REBIND_SECONDS`` another port may take over, as it happens behind a NAT that has forgotten its mapping.
  ``Entrance.strict_udp``: the announced port, if there is one, and no taking over.
- *Who may answer.* Only address and port that the client has sent to in the last ``udp_idle_seconds`` (the filtering
  that RFC 4787 section 5 calls address- and port-dependent). What the client sends keeps a target, what it gets does
  not (REQ-6). A target is judged, and its name looked up, once for as long as it is kept.
- *What does not pass is dropped and counted*, by reason: UDP has nobody to tell. That goes for what exceeds a throttle
  (policing, no queue), for fragments (the RFC leaves them to choice), and for errors of sending. Of an unconnected
  socket the kernel reports no ICMP errors, so an unreachable target harms nobody else (udp(7), ip(7)).
"""

from __future__ import annotations

import contextvars
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from netnet.errors import BusyError
from netnet.net.resolve import Resolved, resolve
from netnet.net.sockets import Socket, landing_buffer
from netnet.net.waiting import plain
from netnet.poller.contract import READABLE
from netnet.runtime.scope import timeout
from netnet.runtime.sync import Event
from netnet.runtime.task import Task, log
from netnet.runtime.worker import current_worker
from netnet.socks import ranges
from netnet.socks.local import at_a_port, family_of_packed, open_by, open_toward, own_end, peer_end
from netnet.socks.requests import Request
from netnet.socks.rules import Route, Verdict
from netnet.socks.settings import Entrance, Limits
from netnet.socks.udp_front import REBIND_SECONDS, UNRESOLVED_SECONDS, WAITING_BYTES_MAX, WAITING_MAX, Front
from netnet.socks.udp_outlet import Drop, Outlet, Target, drop_of, granted

if TYPE_CHECKING:
    from netnet.net.throttle import Throttle
    from netnet.runtime.loop import Loop
    from netnet.runtime.timers import Timer

#: says of a target what the rules say: host, its address (``b""``: it is a name), port. ``None``: it depends on the
#: address; look the name up, and ask again for each
Judge = Callable[[str, bytes, int], Verdict | None]

#: look-ups of one association at once; a client speaks to few names, and each may cost the resolver a thread
LOOKUPS_MAX: Final = 8
#: a look-up may take so long; whoever sent the datagram has given up by then
LOOKUP_SECONDS: Final = 10.0

#: what a client may send on the connection that holds its association: it means nothing, and there should be none
CONTROL_BYTES_MAX: Final = 65536

#: asked for as receive buffer, so that a busy loop loses nothing within some 20 ms of 100 Mbit/s; the kernel gives less
#: where ``net.core.rmem_max`` is lower. It is a limit, and costs nothing until datagrams wait
RECEIVE_BUFFER_BYTES: Final = 262144

_recv_into = plain.recv_into
_sendto = plain.sendto


@dataclass(frozen=True, slots=True)
class AssociationResult:
    """How an association ended. *sent* and *received* are bytes to the targets and from them, without headers.

    *reason* is as that of a ``RelayResult``: ``"closed"`` is the regular end.
    """

    sent: int
    received: int
    datagrams_sent: int
    datagrams_received: int
    dropped: dict[Drop, int]
    reason: str


class _Control:
    """Watches the TCP connection that the association hangs on."""

    __slots__ = ("association", "ignored", "sock")

    def __init__(self, association: Association, sock: Socket) -> None:
        self.association = association
        self.sock = sock
        self.ignored = 0

    def switch(self) -> None:
        association = self.association
        if association.ended:
            return
        buffer = landing_buffer()
        try:
            while size := _recv_into(self.sock, buffer):
                self.ignored += size
                if self.ignored > CONTROL_BYTES_MAX:
                    association.abort(f"more than {CONTROL_BYTES_MAX} bytes came on the connection of an association")
                    return
        except BlockingIOError:
            self.sock._descriptor.watch(READABLE, self)
        except OSError as error:
            association.fail(error)
        else:
            association.abort("closed")


class Association:
    """An association under way, or about to be. *client* is the TCP connection that asked for it, *request* its words.

    ``bound`` is what it is told then; ``start`` (or ``run``) begins. It takes *client* over and closes it at the end.
    *judge*: see ``Judge``; it must not wait. *throttles*: to the targets, and from them. *peer*: the client's IP
    address where it is not that of the connection's other end (PROXY protocol). ``sent``, ``received``,
    ``datagrams_sent``, ``datagrams_received`` and ``dropped`` count while it lasts.

    Creating it raises ``OSError`` where there is no free port. Does not switch tasks.
    """

    __slots__ = (
        "_context",
        "_control",
        "_done",
        "_front",
        "_idle_timer",
        "_lookups",
        "_outlets",
        "_reason",
        "_sweep_timer",
        "active",
        "bound",
        "client",
        "datagrams_received",
        "datagrams_sent",
        "down",
        "dropped",
        "ended",
        "judge",
        "limits",
        "loop",
        "received",
        "sent",
        "up",
    )

    def __init__(
        self,
        client: Socket,
        request: Request,
        *,
        judge: Judge,
        limits: Limits = Limits(),
        entrance: Entrance = Entrance(),
        throttles: tuple[Sequence[Throttle], Sequence[Throttle]] = ((), ()),
        peer: str | None = None,
    ) -> None:
        self.loop: Loop = current_worker().loop
        self.client = client
        self.judge = judge
        self.limits = limits
        self.up, self.down = throttles
        self.sent = self.received = 0  #: bytes to the targets and from them, without headers
        self.datagrams_sent = self.datagrams_received = 0
        self.dropped: dict[Drop, int] = {}
        self.ended = False
        self.active = self.loop.turned  #: when something went through last
        self._reason = ""
        self._done: Callable[[AssociationResult], object] | None = None
        self._idle_timer: Timer | None = None
        self._sweep_timer: Timer | None = None
        self._outlets: dict[tuple[object, ...], Outlet] = {}
        self._lookups: set[Task[None]] = set()
        self._context = contextvars.copy_context()  # with the resolver of whoever made it
        self._control = _Control(self, client)
        here = own_end(client)
        told_peer = _as_the_kernel_writes(peer) if peer else peer_end(client).host
        sock = open_by(here.family, socket.SOCK_DGRAM, None)
        try:
            _widen(sock)
            at_a_port(here, entrance.ports, lambda sockaddr: plain.bind(sock, sockaddr))
            port = sock.getsockname()[1]
        except BaseException:
            sock.close()
            raise
        #: address and port to send to, for the reply
        self.bound: tuple[str, int] = (entrance.advertise or here.told, port)
        announced = _announced_port(request, told_peer) if entrance.strict_udp else 0
        self._front = Front(self, sock, told_peer, announced, entrance.strict_udp)

    # -- life

    def start(self, done: Callable[[AssociationResult], object]) -> None:
        """Begins, and returns at once; *done* is called with the result when it has ended.

        *done* runs in the loop and must not wait. Call it in a task; it does not switch. Raises ``BusyError`` when a
        task waits for the client's connection.
        """
        descriptor = self.client._descriptor
        if descriptor.reader is not None:
            raise BusyError("a task waits for the connection that an association is to hang on")
        self._done = done
        loop = self.loop
        descriptor.attach(loop)
        loop.relays.add(self)
        if loop.root.requested:  # the run is coming to its end
            self.abort("the run was stopped")
            return
        if self.limits.idle_seconds is not None:
            self.active = loop.clock.now()
            self._idle_timer = loop.timers.add(self.active + self.limits.idle_seconds, self._look)
        self._front.start()
        if descriptor.readable:
            self._control.switch()
        else:
            descriptor.watch(READABLE, self._control)

    def run(self) -> AssociationResult:
        """Serves until the end, and says what was moved. Switches tasks. When cancelled it ends; ``Cancelled`` is raised.

        Does not raise what breaks the connection: that is the result's ``reason``. A caller that need not wait for the
        end saves a task by ``start``.
        """
        end = Event()
        self.start(lambda _: end.set())
        try:
            end.wait()
        except BaseException:
            self.abort("cancelled")
            raise
        return self.result

    @property
    def result(self) -> AssociationResult:
        """What there is to tell of it, so far."""
        return AssociationResult(
            self.sent,
            self.received,
            self.datagrams_sent,
            self.datagrams_received,
            dict(self.dropped),
            self._reason,
        )

    def fail(self, error: OSError) -> None:
        """One of its sockets broke."""
        self.abort(os.strerror(error.errno) if error.errno else str(error))

    def abort(self, reason: str = "aborted") -> None:
        """Ends it now and closes everything, also before it was started. Idempotent."""
        if self.ended:
            return
        self.ended = True
        self._reason = reason
        for timer in (self._idle_timer, self._sweep_timer):
            if timer is not None:
                timer.cancel()
        for task in tuple(self._lookups):
            task.cancel("the association has ended")
        for receiver in (self._front, *self._outlets.values()):
            receiver.close()
        if self._done is not None:
            self.client._descriptor.reader = None
        self.client.close()
        self.loop.relays.discard(self)
        done, self._done = self._done, None
        if done is not None:
            try:
                done(self.result)
            except Exception:
                log.exception("the callback at the end of an association failed")

    # -- for its parts

    def drop(self, why: Drop, count: int = 1) -> None:
        """Counts datagrams that go nowhere."""
        self.dropped[why] = self.dropped.get(why, 0) + count

    def count_sent(self, size: int, now: float) -> None:
        """Counts a datagram to a target."""
        self.sent += size
        self.datagrams_sent += 1
        self.active = now

    def answer(self, datagram: memoryview, size: int, now: float) -> None:
        """Sends the client what a target sent, *size* bytes and its header."""
        front = self._front
        if self.down and not granted(self.down, size, now):
            self.drop(Drop.THROTTLED)
            return
        try:
            _sendto(front.sock, datagram, front.client)
        except OSError as error:
            self.drop(drop_of(error))
            return
        self.received += size
        self.datagrams_received += 1
        self.active = now

    def outlet(self, family: int, route: Route) -> Outlet:
        """The socket toward targets of *family* by *route*. Raises ``OSError``."""
        key = (family, route.source, route.interface, route.mark)
        outlet = self._outlets.get(key)
        if outlet is None:
            sock = open_toward(family, socket.SOCK_DGRAM, route)
            _widen(sock)
            outlet = self._outlets[key] = Outlet(self, sock)
            outlet.start()
        return outlet

    def look_up(self, target: Target, host: str, port: int, verdict: Verdict | None) -> bool:
        """Has the name of *target* looked up in a task; false when as many as may be are looked up already."""
        if len(self._lookups) >= LOOKUPS_MAX:
            return False
        task = self._context.run(
            Task[None], self.loop, self.loop.root, self._look_up, (target, host, port, verdict), f"look-up of {host}"
        )
        self._lookups.add(task)
        return True

    def _look_up(self, target: Target, host: str, port: int, verdict: Verdict | None) -> None:
        found: Sequence[Resolved] = ()
        try:
            with timeout(LOOKUP_SECONDS):
                found = resolve(host, port, type=socket.SOCK_DGRAM)
        except (OSError, ValueError):  # it has no address, or can be no name
            pass
        except Exception:
            log.exception("the look-up of %s failed", host)
        finally:
            self._lookups.discard(current_worker().task)
        if self.ended:
            return
        try:
            self._front.resolved(target, host, port, verdict, found, self.loop.turned)
        except Exception:
            log.exception("an association failed")
            self.abort("internal error")

    # -- silence

    def _look(self) -> None:
        """Was it silent all the time? If not, looks again when it may have been."""
        assert self.limits.idle_seconds is not None
        due = self.active + self.limits.idle_seconds
        if due <= self.loop.clock.now():
            self.abort("idle")
        else:
            self._idle_timer = self.loop.timers.add(due, self._look)

    def sweep_later(self) -> None:
        """There is a target to be forgotten some time."""
        if self._sweep_timer is None:
            due = self.loop.clock.now() + self.limits.udp_idle_seconds
            self._sweep_timer = self.loop.timers.add(due, self._sweep)

    def _sweep(self) -> None:
        """Forgets targets that were not sent to for too long, and closes the sockets that nobody needs any more."""
        self._sweep_timer = None
        horizon = self.loop.clock.now() - self.limits.udp_idle_seconds
        targets = self._front.targets
        while targets and (oldest := next(iter(targets.values()))).last <= horizon:
            self._front.forget(oldest)
        for key, outlet in tuple(self._outlets.items()):
            if not outlet.remotes:
                outlet.close()
                del self._outlets[key]
        if targets:
            self.sweep_later()


def _widen(sock: Socket) -> None:
    """Asks for a larger receive buffer where the system's is smaller. The kernel doubles what is asked for (socket(7))."""
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < 2 * RECEIVE_BUFFER_BYTES:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)


def _as_the_kernel_writes(host: str) -> str:
    """An IP address in the form that received datagrams have it in. Raises ``OSError`` for what is none."""
    packed = ranges.plain(socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host))
    return socket.inet_ntop(family_of_packed(packed), packed)


def _announced_port(request: Request, peer: str) -> int:
    """The port that the client says it will send from; 0 where it does not, or where that is another host's."""
    packed = ranges.plain(request.packed)
    if not any(packed):  # no address: it does not know its own
        return 0 if request.named else request.port
    own = socket.inet_pton(socket.AF_INET6 if ":" in peer else socket.AF_INET, peer.partition("%")[0])
    return request.port if packed == own else 0


__all__ = [
    "CONTROL_BYTES_MAX",
    "LOOKUPS_MAX",
    "LOOKUP_SECONDS",
    "REBIND_SECONDS",
    "UNRESOLVED_SECONDS",
    "WAITING_BYTES_MAX",
    "WAITING_MAX",
    "Association",
    "AssociationResult",
    "Drop",
    "Judge",
]
