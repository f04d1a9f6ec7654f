"""The running service: a supervisor, which serves nobody, and its workers, which do.

The supervisor reads the configuration, opens the sockets, starts the workers, and starts others with new settings when
it is told to read the configuration again (SIGHUP): those that were there keep their connections until these end. It
also answers for all of them: metrics, health, ``netnet proxy top``. What workers must agree upon stands in memory that
they share: the ledger (limits) and the tally (figures). How processes are kept is in ``net.workers``.

A configuration that is wrong, or whose sockets cannot be opened, changes nothing, and the log says what is wrong.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from netnet.errors import Error
from netnet.kernel.address import Address
from netnet.kernel.limits import raise_descriptor_limit
from netnet.net.crew import Crew, Plan
from netnet.net.resolvers import Resolver, use_resolver
from netnet.net.sockets import Socket, socketpair
from netnet.net.systemd import inherited_sockets
from netnet.proxy.config import Configuration
from netnet.proxy.listeners import Listener
from netnet.proxy.log import Log
from netnet.proxy.passwords import Verifier
from netnet.proxy.privileges import Identity, identity
from netnet.proxy.tally import Tallies, Tally
from netnet.socks.ledger import Ledger
from netnet.socks.server import Server, address_of
from netnet.socks.session import Session
from netnet.socks.settings import Entrance, connections_max

log = logging.getLogger("netnet.proxy")

#: workers that there can be at once, for each that serves: the others only wait for their last connections, after
#: changes of the configuration. Each seat costs memory, and a little time in each count
SEATS_A_WORKER: Final = 8
SEATS_MIN: Final = 32


class NotStartedError(Error):
    """The service cannot start, or not be changed so; the message says why."""


@dataclass(eq=False)
class Generation:
    """What one reading of the configuration has made. Its workers go by it until their end."""

    configuration: Configuration
    entrances: tuple[Entrance, ...]
    tally: Tally
    identity: Identity | None
    workers: int = 0  #: that have not ended


@dataclass(eq=False)
class Ticket:
    """What a worker has of its own: a seat in the shared memory, and a socket on which it is asked how it is."""

    number: int
    seat: int
    generation: Generation
    ours: Socket
    theirs: Socket


class Service(Crew):
    """The crew of the proxy. *read* gives the configuration, each time anew; it raises ``Exception`` where it is wrong.

    *workers*: how many, instead of what the configuration says. *writer*: the log; *quiet*: no line for each connection.
    """

    replaced_seconds = math.inf  # connections outlive a change of the configuration

    def __init__(
        self, read: Callable[[], Configuration], writer: Log, *, workers: int | None = None, quiet: bool = False
    ) -> None:
        self._read = read
        self._workers = workers
        self._quiet = quiet
        self._inherited: dict[str, list[Socket]] | None = None
        self.writer = writer
        self.descriptors = raise_descriptor_limit()
        self.seats = 0
        self._ledger: Ledger | None = None
        self.tallies = Tallies()
        self.tickets: dict[int, Ticket] = {}  #: by seat
        self.generation: Generation | None = None
        self._next: Generation | None = None
        self._entered = contextlib.ExitStack()  # of a worker, to its end

    @property
    def ledger(self) -> Ledger:
        """What workers must agree upon; from the first plan on."""
        assert self._ledger is not None, "it is made with the first plan"
        return self._ledger

    # -- in the supervisor

    def plan(self) -> Plan:
        """Reads the configuration, and makes what the next workers go by, if it is adopted."""
        self.reject()
        configuration = self._read()
        count = self._workers or configuration.workers or cores()
        self._seat(count)
        for warning in configuration.warnings:
            log.warning("%s", warning)
        found = [pair for listener in configuration.listeners for pair in self._sources(listener)]
        if configuration.name_servers:
            _check_resolver()
        became = identity(configuration.user, configuration.group)
        self.open_for(configuration)
        rules = configuration.settings.rules
        names = [rule.name for rule in rules.rules] if rules else ()
        tally = Tally(self.seats, users=configuration.settings.users, rules=names)
        self._next = Generation(configuration, tuple(entrance for _, entrance in found), tally, became)
        return Plan([source for source, _ in found], count, configuration.drain_seconds)

    def _seat(self, count: int) -> None:
        """Sees to it that *count* workers have their seats; how many seats there are is settled at the first plan."""
        if self._ledger is None:
            self.seats = max(SEATS_MIN, count * SEATS_A_WORKER)
            self._ledger = Ledger(seats=self.seats)
        elif count * 2 > self.seats:  # all of them are replaced while the older ones still serve
            most = self.seats // 2
            raise NotStartedError(f"workers = {count}: there can be {most} at most without starting the proxy anew")

    def reject(self) -> None:
        """The plan was not adopted: what was made for it is given back."""
        given_up, self._next = self._next, None
        if given_up is not None:
            given_up.tally.close()

    def adopt(self) -> None:
        """From now on it is what workers go by."""
        before, self.generation, self._next = self.generation, self._next, None
        assert self.generation is not None, "nothing is adopted that was not planned"
        self.tallies.add(self.generation.tally)
        if before is not None:
            self._retire(before)

    def open_for(self, configuration: Configuration) -> None:
        """Opens what only the supervisor listens on. Raises ``OSError``."""

    def _sources(self, listener: Listener) -> Iterator[tuple[Socket | Address, Entrance]]:
        if listener.address is not None:
            yield listener.address, listener.entrance
            return
        if self._inherited is None:
            self._inherited = inherited_sockets()
        name = listener.systemd or ""
        found = self._inherited.get(name, []) if name else [one for some in self._inherited.values() for one in some]
        if not found:
            which = f"called {name!r}" if name else "at all"
            raise NotStartedError(
                f"systemd has handed over no socket {which}: is the service started by its .socket unit?"
            )
        for sock in found:
            yield sock, listener.entrance_at(address_of(sock))  # type: ignore[arg-type]  # it listens: no other family

    def hire(self, number: int) -> Ticket:
        """A seat and a socket pair for the next worker."""
        assert self.generation is not None
        seat = next((seat for seat in range(self.seats) if seat not in self.tickets), None)
        if seat is None:
            raise OSError(0, f"there are {self.seats} workers already; the older ones wait for their last connections")
        ours, theirs = socketpair()
        ticket = Ticket(number, seat, self.generation, ours, theirs)
        self.tickets[seat] = ticket
        self.generation.workers += 1
        return ticket

    def dismiss(self, ticket: Ticket) -> None:
        """A worker has ended: its counts go where those of the past are, and its limits are free again."""
        self.tickets.pop(ticket.seat, None)
        ticket.ours.close()
        ticket.theirs.close()
        self.ledger.vacate(ticket.seat)
        ticket.generation.tally.vacate(ticket.seat)
        ticket.generation.workers -= 1
        self._retire(ticket.generation)

    def _retire(self, generation: Generation) -> None:
        if generation is not self.generation and not generation.workers:
            self.tallies.retire(generation.tally)

    # -- in a worker

    def new_server(self, ticket: Ticket) -> Server:
        """What a worker runs."""
        generation = ticket.generation
        configuration = generation.configuration
        self.writer.after_fork()
        for other in self.tickets.values():
            other.ours.close()
            if other is not ticket:
                other.theirs.close()
        self.close_in_worker()
        if generation.identity is not None:
            generation.identity.become()
        self.ledger.sit(ticket.seat)
        tally = generation.tally
        tally.sit(ticket.seat)
        if configuration.name_servers:
            self._entered.enter_context(use_resolver(resolver_of(configuration.name_servers)))
        tell = self.writer.session if configuration.log_connections and not self._quiet else None

        def report(session: Session) -> None:
            tally.count(session)
            self.note(session)
            if session.opened is not None:
                tally.handshake(session.opened - session.began)
            if tell is not None:
                tell(session)

        server = Server(
            configuration.settings,
            entrances=generation.entrances,
            verify=Verifier(configuration.settings.users).verify if configuration.settings.users else None,
            report=report,
            ledger=self.ledger,
            places=connections_max(self.descriptors),
        )
        self.attend_in_worker(ticket, server)
        gc.collect()
        gc.freeze()  # what stands now stands for good: the collector need not go through it again and again
        return server

    def close_in_worker(self) -> None:
        """Closes what only the supervisor needs."""

    def served(self, ticket: Ticket) -> None:
        """The worker ends: its last lines go out."""
        self._entered.close()
        self.writer.close()

    def note(self, session: Session) -> None:
        """In a worker: a connection has ended."""

    def attend_in_worker(self, ticket: Ticket, server: Server) -> None:
        """Begins what a worker does besides serving clients."""


def cores() -> int:
    """How many processors this process may use."""
    with contextlib.suppress(AttributeError, OSError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_resolver() -> None:
    """Raises ``OSError`` where what it takes to ask name servers is missing; workers find it imported."""
    from netnet.net.dns_wire import codec  # here, since it needs an extra

    codec()


def resolver_of(servers: Sequence[str]) -> Resolver:
    """Who asks *servers* for names."""
    from netnet.net.dns import DnsResolver  # here, since it needs an extra

    return DnsResolver(nameservers=servers)
