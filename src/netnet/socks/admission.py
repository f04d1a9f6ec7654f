"""Who may have one more connection: the limits of the settings, held by a ledger that processes can share.

Every limit that is not set costs nothing. What was taken for a visit is given back by ``leave``, once, however it ends.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from netnet.errors import UsageError
from netnet.net.throttle import Throttle
from netnet.runtime.api import now
from netnet.runtime.sync import Event
from netnet.socks import ranges
from netnet.socks.ledger import TOO_MANY, TOO_OFTEN, UNCOUNTED, Ledger
from netnet.socks.reception import RefusedError
from netnet.socks.requests import ADDRESSES_KEPT, target_text
from netnet.socks.session import Ending, Session
from netnet.socks.settings import Entrance, Settings, User

if TYPE_CHECKING:
    from netnet.net.relay import RelayResult
    from netnet.socks.associate import AssociationResult

#: a process that waits for a place which another process may give back looks again so often
LOOK_AGAIN_SECONDS = 0.05

_TOTAL = b""


class Keeper(Protocol):
    """Who has to know when what a visit was handed over to has ended."""

    def relayed(self, visit: Visit, result: RelayResult | AssociationResult) -> None: ...


@dataclass(slots=True, eq=False)
class Visit(Session):
    """A session while it lasts, with what the server needs to know of it.

    It is itself what a relay calls at its end: a function for each would cost an idle connection 200 bytes.
    """

    keeper: Keeper | None = field(default=None, repr=False)
    packed: bytes = b""  #: the client's address; ``b""`` for a UNIX socket's peer
    source: str | None = None  #: the client's IP address where the peer is another (PROXY protocol)
    client_row: int = UNCOUNTED  #: where the ledger counts it
    counted_user: bool = False
    wide: bool = False  #: it has the descriptors of two places

    def __call__(self, result: RelayResult | AssociationResult) -> None:
        assert self.keeper is not None
        self.keeper.relayed(self, result)


class Admission:
    """The limits of *settings*. Without a *ledger* it has one of its own. *places*: how many connections this process
    can have, whatever the others do. *logins*: whether anybody can log in, and so fail to."""

    def __init__(self, settings: Settings, ledger: Ledger | None, places: int | None, *, logins: bool) -> None:
        self._limits = limits = settings.limits
        self._users = settings.users
        self.ledger = Ledger.private(clock=now) if ledger is None else ledger
        self.permits: Places | None = None
        if limits.connections is not None or places is not None:
            self.permits = Places(self.ledger, limits.connections, places)
        self._rate = limits.new_connections_per_second_per_client
        self._counts = self._rate is not None or limits.connections_per_client is not None
        self._watches_logins = logins

    # -- clients

    def admit_client(self, visit: Visit) -> None:
        """Raises ``RefusedError`` for a client that is banned, comes too often, or has as many connections as it may."""
        limits = self._limits
        if self._watches_logins:
            self.check_ban(visit)
        if self._counts:
            row = self.ledger.admit(
                visit.packed, self._rate, limits.new_connections_burst, limits.connections_per_client
            )
            if row == TOO_OFTEN:
                raise RefusedError(Ending.LIMIT, "too many new connections of this client")
            if row == TOO_MANY:
                raise RefusedError(Ending.LIMIT, f"this client has {limits.connections_per_client} connections already")
            visit.client_row = row

    def check_ban(self, visit: Visit) -> None:
        """Raises ``RefusedError`` for a client that is banned. To be asked at each login as well: else a client that has
        opened many connections before its first failure could try as many passwords."""
        left = self.ledger.ban_left(visit.packed)
        if left > 0:
            raise RefusedError(Ending.BANNED, f"for another {left:.0f} s")

    def check_proxy(self, visit: Visit, entrance: Entrance) -> None:
        """Raises ``RefusedError`` for a peer that is not trusted to say for whom it connects."""
        networks = entrance.proxy_protocol_from
        if networks and not _is_among(visit.packed, networks):
            raise RefusedError(Ending.DENIED, "this peer may not use PROXY protocol here")

    # -- users

    def admit_user(self, visit: Visit, name: str | None) -> None:
        """Raises ``RefusedError`` for a user that has as many connections as allowed."""
        if name is None:
            return
        user = self._users.get(name)
        allowed = self._limits.connections_per_user if user is None or user.connections is None else user.connections
        if allowed is not None:
            if not self.ledger.take("user", name, allowed):
                raise RefusedError(Ending.LIMIT, f"this user has {allowed} connections already")
            visit.counted_user = True

    def logged_in(self, visit: Visit, good: bool) -> float:
        """Notes how a login went; returns for how many seconds the answer is to be held back."""
        if good:
            self.ledger.login_succeeded(visit.packed)
            return 0.0
        limits = self._limits
        return self.ledger.login_failed(
            visit.packed,
            limits.failed_logins_free,
            limits.failed_login_delay_seconds,
            limits.failed_logins_max,
            limits.ban_seconds,
        )

    def widen(self, visit: Visit) -> None:
        """For what needs more descriptors than a relay. Raises ``RefusedError`` where there are none."""
        if self.permits is not None:
            if not self.permits.widen():
                raise RefusedError(Ending.LIMIT, "no descriptors are left for more than a connection")
            visit.wide = True

    def user_throttles(self, name: str | None) -> tuple[Sequence[Throttle], Sequence[Throttle]]:
        """The buckets that all connections of a user draw from: to targets, and from them."""
        if name is None:
            return _NO_THROTTLES
        user: User | None = self._users.get(name)
        rate = self._limits.bandwidth_per_user if user is None or user.bandwidth is None else user.bandwidth
        if rate is None:
            return _NO_THROTTLES
        return (self.ledger.bucket(("sent", name), rate),), (self.ledger.bucket(("received", name), rate),)

    # -- both

    def leave(self, visit: Visit) -> None:
        """Gives back what the visit held, its place among all included."""
        if visit.client_row >= 0:
            self.ledger.give_row(visit.client_row)
            visit.client_row = UNCOUNTED
        if visit.counted_user:
            visit.counted_user = False
            assert visit.user is not None, "only users are counted as such"
            self.ledger.give("user", visit.user)
        if self.permits is not None:
            self.permits.release(visit.wide)


_NO_THROTTLES: tuple[Sequence[Throttle], Sequence[Throttle]] = ((), ())


class Places:
    """A semaphore for connections, of which there may be *connections* in all the processes that share *ledger*, and as
    many in this one as *places*, its descriptors, allow.

    What another process gives back is not told; a waiting one looks again every 50 ms.
    """

    __slots__ = ("_connections", "_free", "_freed", "_ledger", "_waiting")

    def __init__(self, ledger: Ledger, connections: int | None, places: int | None) -> None:
        self._ledger = ledger
        self._connections = connections
        self._free = sys.maxsize if places is None else places
        self._freed = Event()
        self._waiting = 0

    @property
    def value(self) -> int:
        """How many are free."""
        if self._connections is None:
            return max(0, self._free)
        return max(0, min(self._free, self._connections - self._ledger.total("all", _TOTAL)))

    def acquire(self, blocking: bool = True) -> bool:
        """Takes one; waits for it where *blocking*. Switches tasks where it waits. Raises ``Cancelled``."""
        while not (self._free > 0 and self._counted()):
            if not blocking:
                return False
            self._freed.clear()
            self._waiting += 1
            try:
                self._freed.wait(None if self._connections is None else LOOK_AGAIN_SECONDS)
            finally:
                self._waiting -= 1
        self._free -= 1
        return True

    def _counted(self) -> bool:
        return self._connections is None or self._ledger.take("all", _TOTAL, self._connections)

    def widen(self) -> bool:
        """Takes the descriptors of one more place, for a connection that needs them. Does not wait; false if there are none."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    def release(self, wide: bool = False) -> None:
        """Gives one back; *wide*: with the descriptors that it had beyond its own. Does not switch tasks."""
        self._free += 2 if wide else 1
        if self._connections is not None:
            self._ledger.give("all", _TOTAL)
        if self._waiting:
            self._freed.set()


def client_text(address: Any) -> str:
    """A client's name for the log; *address* as ``accept`` tells it. An IPv4-mapped one is IPv4."""
    if not isinstance(address, tuple):
        return "unix"
    host, port = address[:2]
    return target_text(host[7:] if host.startswith("::ffff:") and "." in host else host, port)


def packed_address(address: Any) -> bytes:
    """The bytes of an address that the kernel tells; ``b""`` for a UNIX socket's. An IPv4-mapped one is IPv4."""
    return _packed(address[0]) if isinstance(address, tuple) else b""


@functools.lru_cache(maxsize=ADDRESSES_KEPT)  # connections of one client share them
def _packed(host: str) -> bytes:
    if ":" not in host:
        return socket.inet_aton(host)
    return ranges.plain(socket.inet_pton(socket.AF_INET6, host.partition("%")[0]))


def _is_among(packed: bytes, networks: Sequence[str]) -> bool:
    if not packed:
        return "unix" in networks
    address = ipaddress.ip_address(packed)
    return any(address in ipaddress.ip_network(network) for network in networks if network != "unix")


def check_networks(networks: Sequence[str]) -> None:
    """Raises ``UsageError`` for what is no network."""
    for network in networks:
        if network != "unix":
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise UsageError(f"{network!r} is no network: {error}") from None
