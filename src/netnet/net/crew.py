"""What a supervisor of worker processes is told: what to serve, by how many, and who makes their servers.

``Crew`` has a method for each turn of a worker's life; whoever owns the supervisor may have a word there. How workers are
kept is in ``workers``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from netnet.net.sockets import Socket

if TYPE_CHECKING:
    from netnet.net.serving import Source


class Serving(Protocol):
    """What a worker runs."""

    def serve_all(self, listeners: Sequence[Socket]) -> None: ...

    def begin_draining(self, seconds: float | None = None) -> None: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be served, by how many workers, and how long SIGTERM waits for connections."""

    sources: Sequence[Source]
    workers: int
    drain_seconds: float


class Crew:
    """Where workers come from, and where they go. A subclass adds what its workers need; this one adds nothing.

    *new_server* makes the server, in the worker.
    """

    #: so long a worker that was replaced may wait for its connections; ``None``: as long as at SIGTERM
    replaced_seconds: float | None = None

    def __init__(self, new_server: Callable[[], Serving]) -> None:
        self._make_server = new_server

    def plan(self) -> Plan | None:
        """At SIGHUP, in the supervisor: what is to be served from now on; ``None``: the same. May switch tasks.

        Raises an ``Exception`` where nothing is to change, and no worker to be replaced.
        """
        return None

    def adopt(self) -> None:
        """In the supervisor: the sockets of the plan are open, and workers will be started by it. Must not fail."""

    def reject(self) -> None:
        """In the supervisor: the plan was not adopted, or there was an error on the way to it. Must not fail."""

    def hire(self, number: int) -> object:
        """Before worker *number* is forked, in the supervisor. Returns what the other calls get for it.

        Raises ``OSError`` when there can be no further worker now.
        """
        return None

    def started(self, ticket: Any, pid: int) -> None:
        """In the supervisor: the worker is process *pid*. Must not fail."""

    def new_server(self, ticket: Any) -> Serving:
        """In the worker's run: the server."""
        return self._make_server()

    def served(self, ticket: Any) -> None:
        """In the worker's run: its server has come to its end. Ends what ``new_server`` has begun besides."""

    def dismiss(self, ticket: Any) -> None:
        """After the worker's end, in the supervisor. Once for each ``hire``, and must not wait."""
