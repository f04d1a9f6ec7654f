"""The supervisor's side of a running service: besides keeping workers it answers for them, to Prometheus, to health
checks and to ``netnet proxy top``. How workers come to be is in ``service``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from netnet.kernel.address import Address, InetAddress, SocketAddress, UnixAddress
from netnet.net.sockets import Socket
from netnet.net.stream import listen
from netnet.net.workers import Supervisor
from netnet.proxy.config import Configuration
from netnet.proxy.log import Log
from netnet.proxy.metrics import Metrics
from netnet.proxy.service import Service, Ticket
from netnet.proxy.status import Link, Overview, Recent, answer, listen_status, serve_status
from netnet.runtime.api import spawn
from netnet.runtime.group import TaskGroup
from netnet.runtime.task import Task
from netnet.runtime.worker import running
from netnet.socks.server import Server, address_of
from netnet.socks.session import Session


class RunningService(Service):
    """A service that can be asked how it is. *quiet*: no line for each connection. *metrics* and *status*: where it is
    asked, instead of what the configuration says."""

    def __init__(
        self,
        read: Callable[[], Configuration],
        writer: Log,
        *,
        workers: int | None = None,
        quiet: bool = False,
        metrics: InetAddress | None = None,
        status: str | None = None,
    ) -> None:
        def read_with_options() -> Configuration:
            configuration = read()
            return replace(
                configuration, metrics=metrics or configuration.metrics, status=status or configuration.status
            )

        super().__init__(read_with_options, writer, workers=workers, quiet=quiet)
        self._overview = Overview(self.tallies, bans=lambda: self.ledger.bans())
        self._links: dict[Ticket, Link] = {}
        self._recent = Recent()
        self._group: TaskGroup | None = None
        #: what the supervisor listens on itself, and what was opened for a plan that is not adopted yet
        self._open: dict[Address, Socket] = {}
        self._opening: dict[Address, Socket] = {}
        self._answering: dict[Address, Task[None]] = {}
        self._attending: Task[None] | None = None  # in a worker

    def run(self, supervisor: Supervisor, greet: Callable[[list[SocketAddress]], object]) -> None:
        """Serves until SIGTERM or Ctrl-C; *greet* is told the addresses when all is open. Once.

        Switches tasks. Raises ``OSError`` where it cannot listen."""
        failed: list[Exception] = []
        loop = running.loop
        loop.drains[self] = self._draining
        try:
            with TaskGroup() as self._group:
                try:
                    supervisor.run(lambda listeners: greet([address_of(one) for one in listeners]))
                except Exception as error:  # of the group, it would be one of several
                    failed.append(error)
                self._group.cancel("the service ends")
        except KeyboardInterrupt:
            if loop.terminating is None:
                raise
            # else it was draining already, and ends as it was told first
        finally:
            loop.forget_drain(self)
            self.reject()
            for listener in self._open.values():
                listener.close()
            self.ledger.close()
        if failed:
            raise failed[0]

    def _draining(self) -> None:
        self._overview.draining = True

    # -- what the supervisor listens on

    def open_for(self, configuration: Configuration) -> None:
        """Opens the addresses of metrics and status; those that are open already stay."""
        if configuration.metrics is not None and configuration.metrics not in self._open:
            Metrics(self._overview)  # where the extra is missing, it is said now
            self._opening[configuration.metrics] = listen(configuration.metrics)
        if configuration.status is not None and UnixAddress(configuration.status) not in self._open:
            self._opening[UnixAddress(configuration.status)] = listen_status(configuration.status)

    def reject(self) -> None:
        """What was opened for it is closed."""
        super().reject()
        for listener in self._opening.values():
            listener.close()
        self._opening = {}

    def adopt(self) -> None:
        """The new addresses are answered at, and no longer those that are gone from the configuration."""
        super().adopt()
        assert self.generation is not None
        configuration = self.generation.configuration
        wanted: list[Address] = [] if configuration.metrics is None else [configuration.metrics]
        if configuration.status is not None:
            wanted.append(UnixAddress(configuration.status))
        for address in set(self._open) - set(wanted):
            self._answering.pop(address).cancel()
            self._open.pop(address).close()
        for address, listener in self._opening.items():
            self._open[address] = listener
            assert self._group is not None, "it is adopted by a supervisor that runs"
            if isinstance(address, UnixAddress):
                task = self._group.spawn(serve_status, listener, self._overview, name="proxy status")
            else:
                task = self._group.spawn(Metrics(self._overview).serve, listener, name="proxy metrics")
            self._answering[address] = task
        self._opening = {}

    # -- the workers

    def started(self, ticket: Ticket, pid: int) -> None:
        """There is one more to ask."""
        link = self._links[ticket] = Link(ticket.ours, seat=ticket.seat, pid=pid)
        self._overview.add(link)

    def dismiss(self, ticket: Ticket) -> None:
        """It is not asked any more."""
        link = self._links.pop(ticket, None)
        if link is not None:
            self._overview.remove(link)
        super().dismiss(ticket)

    def close_in_worker(self) -> None:
        """A worker answers the supervisor only."""
        for listener in (*self._open.values(), *self._opening.values()):
            listener.close()

    def note(self, session: Session) -> None:
        """Keeps what failed lately."""
        self._recent.note(session)

    def attend_in_worker(self, ticket: Ticket, server: Server) -> None:
        """Answers the supervisor's questions."""
        tally = ticket.generation.tally
        self._attending = spawn(answer, ticket.theirs, server, tally, self._recent, name="proxy worker: status")

    def served(self, ticket: Ticket) -> None:
        """There is nothing more to ask it."""
        assert self._attending is not None, "it was new_server that has begun to answer"
        self._attending.cancel()
        super().served(ticket)
