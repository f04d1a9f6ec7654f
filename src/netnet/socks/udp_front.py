"""The socket of an association toward its client: who the client is, where it sends to, and what may go there.

Not here: what comes back (``udp_outlet``), and when it all ends (``associate``, which says what the rules of both are).
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from netnet.errors import ProtocolError
from netnet.net.resolve import Resolved
from netnet.net.sockets import Socket, landing_buffer
from netnet.net.waiting import plain
from netnet.socks.datagrams import FragmentError, unwrap, wrap
from netnet.socks.local import family_of_packed
from netnet.socks.ranges import literal, text_of
from netnet.socks.ranges import plain as plain_packed
from netnet.socks.rules import Route, Verdict
from netnet.socks.udp_outlet import TURN_DATAGRAMS, Drop, Receiver, Target, check_passing, granted

if TYPE_CHECKING:
    from netnet.socks.associate import Association

#: the client's port may change after so long a silence of the old one. Shorter than NATs keep a mapping (30 s at the
#: least in practice), and long enough that nobody takes over while the client speaks
REBIND_SECONDS: Final = 15.0
#: datagrams that wait for the look-up of their name, each name: a DNS or QUIC client sends one to three, then waits
WAITING_MAX: Final = 8
#: and their bytes: eight of an Ethernet's size
WAITING_BYTES_MAX: Final = 16384
#: a name without an address is not looked up again for so long
UNRESOLVED_SECONDS: Final = 5.0

_recvfrom_into = plain.recvfrom_into


class Front(Receiver):
    """The socket toward the client."""

    __slots__ = ("client", "heard", "peer", "port", "strict", "targets")

    def __init__(self, association: Association, sock: Socket, peer: str, port: int, strict: bool) -> None:
        super().__init__(association, sock)
        self.peer = peer  #: the client's IP address, as the kernel writes it
        self.port = port  #: the only port that counts; 0: any
        self.strict = strict
        self.client: tuple[Any, ...] = ()  #: where it sends from, once it has
        self.heard = 0.0  #: when it did so last
        self.targets: OrderedDict[bytes, Target] = OrderedDict()  #: the one that was sent to last is last

    def _take_some(self) -> bool:
        association = self.association
        now = association.loop.turned
        buffer = landing_buffer()
        view = memoryview(buffer)
        sock = self.sock
        for _ in range(TURN_DATAGRAMS):
            try:
                size, sender = _recvfrom_into(sock, buffer)
            except BlockingIOError:
                return True
            except OSError as error:
                check_passing(error)
                continue
            if sender != self.client and not self._take_over(sender, now):
                association.drop(Drop.FOREIGN)
                continue
            self.heard = now
            drop = self._forward(view[:size], now)
            if drop is not None:
                association.drop(drop)
        return False

    def _take_over(self, sender: tuple[Any, ...], now: float) -> bool:
        """Whether *sender*, which is not where the client sent from so far, may be the client; it is from now on."""
        if sender[0] != self.peer or (self.port and sender[1] != self.port):
            return False
        if self.client and (self.strict or now - self.heard < REBIND_SECONDS):
            return False
        self.client = sender
        return True

    # -- one datagram of the client's

    def _forward(self, datagram: memoryview, now: float) -> Drop | None:
        """Sends *datagram* on; why not, if so. The header as it stands is the key: a known one is not read again."""
        target: Target | None = None
        start = 0
        if len(datagram) > 4:
            kind = datagram[3]
            start = 10 if kind == 1 else 7 + datagram[4] if kind == 3 else 22
            target = self.targets.get(bytes(datagram[:start]))
        if target is not None and target.last != now and not self._touch(target, now):
            target = None
        if target is None:
            try:
                target = self._meet(datagram, now)
            except FragmentError:
                return Drop.FRAGMENT
            except ProtocolError:
                return Drop.MALFORMED
            start = len(target.key)
        return self._send(target, datagram[start:], now)

    def _send(self, target: Target, data: memoryview, now: float) -> Drop | None:
        outlet = target.outlet
        if outlet is None:
            return _hold(target, data)
        association = self.association
        if association.up and not granted(association.up, len(data), now):
            return Drop.THROTTLED
        drop = outlet.send(target, data)
        if drop is None:
            association.count_sent(len(data), now)
        return drop

    # -- targets

    def _touch(self, target: Target, now: float) -> bool:
        """Notes that *target* is sent to; false where it was forgotten, since that was too long ago."""
        unresolved = target.refusal is Drop.UNRESOLVED
        if now - target.last > (UNRESOLVED_SECONDS if unresolved else self.association.limits.udp_idle_seconds):
            self.forget(target)
            return False
        if not unresolved:  # whose time runs out even if the client goes on
            target.last = now
            self.targets.move_to_end(target.key)
            if target.outlet is not None and target.address is not None:
                target.outlet.remotes[target.address] = target
        return True

    def _meet(self, datagram: memoryview, now: float) -> Target:
        """The target that *datagram* is the first one for. Raises ``ProtocolError``."""
        host, packed, port, start = unwrap(datagram)
        if not packed and (packed := literal(host)):
            host = text_of(packed)
        target = Target(bytes(datagram[:start]), now)
        association = self.association
        while self.targets and len(self.targets) >= association.limits.udp_targets:
            self.forget(next(iter(self.targets.values())))
        verdict = association.judge(host, packed, port)
        if verdict is not None:
            target.refusal = refusal_of(verdict)
        if target.refusal is not None:
            pass
        elif packed:
            target.refusal = Drop.DENIED if verdict is None else self.aim(target, packed, port, verdict.route)
        elif association.look_up(target, host, port, verdict):
            target.waiting = []
        else:
            target.refusal = Drop.LOOKUPS
            return target  # which is not kept: the next datagram may have better luck
        self.targets[target.key] = target
        association.sweep_later()
        return target

    def aim(self, target: Target, packed: bytes, port: int, route: Route) -> Drop | None:
        """Has *target* be sent to at an address; why it cannot, if so."""
        address = plain_packed(packed)
        family = family_of_packed(address)
        try:
            outlet = self.association.outlet(family, route)
        except OSError:
            return Drop.UNREACHABLE
        host = socket.inet_ntop(family, address)
        target.address = (host, port) if family == socket.AF_INET else (host, port, 0, 0)
        target.header = wrap(packed, port)
        target.outlet = outlet
        outlet.remotes[target.address] = target
        return None

    def forget(self, target: Target) -> None:
        """Forgets *target*: what comes from there is not passed on any more."""
        del self.targets[target.key]
        self._miss(target)
        if target.waiting:
            self.association.drop(Drop.LOOKUPS, len(target.waiting))
            target.waiting = None

    def _miss(self, target: Target) -> None:
        """Takes *target* out of its outlet."""
        outlet, address = target.outlet, target.address
        target.outlet = None
        if outlet is not None and address is not None and outlet.remotes.get(address) is target:
            del outlet.remotes[address]

    def resolved(
        self, target: Target, host: str, port: int, verdict: Verdict | None, found: Sequence[Resolved], now: float
    ) -> None:
        """The look-up of a target's name is over: it is aimed at the first address that may be, and can be, sent to."""
        waiting, target.waiting = target.waiting, None
        if waiting is None:  # it was forgotten meanwhile
            return
        target.refusal = Drop.UNRESOLVED
        for candidate in found:
            packed = candidate.packed
            judged = verdict or self.association.judge(host, packed, port)
            refusal = Drop.DENIED if judged is None else refusal_of(judged)
            if refusal is None:
                assert judged is not None
                refusal = self.aim(target, packed, port, judged.route) or self._try(target, waiting, now)
            target.refusal = refusal
            if refusal is None:
                break
            self._miss(target)
        for data in waiting:
            drop = self._send(target, memoryview(data), now)
            if drop is not None:
                self.association.drop(drop)

    def _try(self, target: Target, waiting: list[bytes], now: float) -> Drop | None:
        """Sends the first of what is waiting; why the address is none to send to, if it is not."""
        if not waiting:
            return None
        drop = self._send(target, memoryview(waiting[0]), now)
        if drop is Drop.UNREACHABLE:
            return drop
        del waiting[0]
        if drop is not None:
            self.association.drop(drop)
        return None


def refusal_of(verdict: Verdict) -> Drop | None:
    """Why what was judged so cannot be sent to."""
    if not verdict.allow:
        return Drop.DENIED
    return Drop.UPSTREAM if verdict.route.upstream else None


def _hold(target: Target, data: memoryview) -> Drop | None:
    """Keeps *data* until the target's name is looked up, if that is what it waits for, and there is room."""
    if target.waiting is None:
        return target.refusal
    if len(target.waiting) >= WAITING_MAX or target.waiting_bytes + len(data) > WAITING_BYTES_MAX:
        return Drop.LOOKUPS
    target.waiting.append(bytes(data))
    target.waiting_bytes += len(data)
    return None
