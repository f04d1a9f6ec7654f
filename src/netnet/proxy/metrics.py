"""Figures for monitoring, by HTTP: ``/metrics`` for Prometheus, ``/healthz`` for load balancers, ``/status.json``.

The format of Prometheus (or OpenMetrics, where the asker prefers it) is written by ``prometheus_client``, an extra, which
is imported when the server is made. The figures are those of ``tally`` and ``status``; they are put into words here, by
the conventions of https://prometheus.io/docs/practices/naming/. Counters are sums over all workers, those that are gone
included, so they do not go back. A combination of labels is there once something was counted for it.

The server does GET and HEAD, one request a connection, with limits on all that comes in. ``/status.json`` tells who talks
to whom: the address to listen on should be one that only the monitoring reaches. There is no TLS and no login.

**Healthy** is: not told to stop, at least one worker has answered, and not all workers are about to run out of
descriptors. A proxy that has as many connections as it may is healthy. Memory is not looked at: what a control group
counts as used includes files that the kernel can drop at once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from netnet.errors import LimitError
from netnet.net.buffered import Buffered
from netnet.net.serving import Server
from netnet.net.sockets import Socket
from netnet.proxy.document import ProcessFigures, Status
from netnet.proxy.extras import MissingExtraError
from netnet.proxy.status import Overview
from netnet.proxy.tally import HANDSHAKE_SECONDS, SESSION_SECONDS, Cell, Totals
from netnet.runtime.scope import timeout

log = logging.getLogger("netnet.proxy")

if TYPE_CHECKING:
    from prometheus_client.core import HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector

#: a whole request; Prometheus sends some 300 bytes, a browser 1 or 2 KB
HEAD_BYTES_MAX: Final = 8192
#: a client has so long to send it, and to take the answer
EXCHANGE_SECONDS: Final = 10.0
#: and may go on so long sending what nobody reads, after an answer that says what was wrong
PARTING_SECONDS: Final = 1.0
#: more wait in the kernel's backlog
CONNECTIONS_MAX: Final = 16
#: a worker with fewer descriptors left, of all that it may have, cannot serve much longer
DESCRIPTORS_LEFT: Final = 0.02

_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"

_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

_INDEX: Final = "netnet proxy: /metrics /healthz /status.json\n"


class Response(NamedTuple):
    """What is answered."""

    status: int
    body: bytes
    kind: str = _TEXT


class Request(NamedTuple):
    """What is read of a request."""

    method: str
    path: str
    accept: str


class Metrics:
    """The HTTP side of *overview*. Raises ``MissingExtraError`` without ``prometheus_client``."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview
        self._expose = _exposition()
        self._pages: dict[str, Callable[[Request], Response]] = {
            "/": lambda request: Response(200, _INDEX.encode()),
            "/metrics": self._metrics,
            "/healthz": self._health,
            "/status.json": self._status,
        }

    def serve(self, listener: Socket) -> None:
        """Answers on *listener* until it is cancelled. Switches tasks. Raises ``Cancelled``, ``OSError`` of the listener."""
        Server(self.handle, max_connections=CONNECTIONS_MAX).serve(listener)

    def handle(self, client: Socket) -> None:
        """One request and its answer. Switches tasks. Raises ``Cancelled`` and nothing that the client brings about."""
        with contextlib.suppress(OSError):  # it is gone, or too slow
            request = _receive(client)
            response = request if isinstance(request, Response) else self.respond(request)
            with timeout(EXCHANGE_SECONDS):
                _send(client, response, head_only=isinstance(request, Request) and request.method == "HEAD")
            if response.status >= 400:
                _part(client)

    def respond(self, request: Request) -> Response:
        """The answer to *request*. Switches tasks. Raises ``Cancelled``."""
        if request.method not in ("GET", "HEAD"):
            return Response(405, b"GET and HEAD are understood\n")
        page = self._pages.get(request.path)
        if page is None:
            return Response(404, _INDEX.encode())
        try:
            return page(request)
        except Exception:  # a bug: the service goes on
            log.exception("%s could not be made", request.path)
            return Response(500, b"internal error; the log has more\n")

    def _metrics(self, request: Request) -> Response:
        status = self._overview.status()
        body, kind = self._expose(families(status, self._overview.totals), request.accept)
        return Response(200, body, kind)

    def _health(self, request: Request) -> Response:
        reasons = troubles(self._overview.status())
        return Response(503, "".join(f"{one}\n" for one in reasons).encode()) if reasons else Response(200, b"ok\n")

    def _status(self, request: Request) -> Response:
        return Response(200, json.dumps(self._overview.status(), indent=1).encode() + b"\n", _JSON)


def troubles(status: Status) -> list[str]:
    """Why the service is not healthy; empty when it is."""
    answering = [worker for worker in status["workers"] if not worker["silent_seconds"] and not worker["draining"]]
    found = []
    if status["draining"]:
        found.append("it was told to stop, and takes no more connections")
    elif not answering:
        found.append(f"none of {len(status['workers'])} workers answers")
    if answering and all(_is_nearly_exhausted(worker["process"]) for worker in answering):
        found.append("all workers are about to run out of descriptors")
    return found


def _is_nearly_exhausted(process: ProcessFigures) -> bool:
    most = process["descriptors_max"]
    return most > 0 and most - process["descriptors"] <= most * DESCRIPTORS_LEFT


# -- in the words of Prometheus


class _Families:
    """Makes families of metrics. Imports ``prometheus_client``."""

    def __init__(self) -> None:
        from prometheus_client import core

        self._core = core

    def counter(
        self, name: str, meaning: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]
    ) -> Metric:
        family = self._core.CounterMetricFamily(name, meaning, labels=labels)
        for values, value in samples:
            family.add_metric(values, value)
        return family

    def gauge(
        self, name: str, meaning: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]
    ) -> Metric:
        family = self._core.GaugeMetricFamily(name, meaning, labels=labels)
        for values, value in samples:
            family.add_metric(values, value)
        return family

    def histogram(self, name: str, meaning: str, what: str, bounds: Sequence[float], totals: Totals) -> Metric:
        family: HistogramMetricFamily = self._core.HistogramMetricFamily(name, meaning)
        buckets, count = [], 0
        for bound in [*(f"{one:g}" for one in bounds), "+Inf"]:
            count += totals[Cell(what, (bound,))]
            buckets.append((bound, float(count)))
        family.add_metric([], buckets, totals[Cell(f"{what}_us")] / 1e6)
        return family


def families(status: Status, totals: Totals) -> Iterator[Metric]:
    """All metrics. Imports ``prometheus_client``."""
    make = _Families()
    yield from _of_sessions(make, status, totals)
    yield from _of_users_and_rules(make, totals)
    yield from _of_processes(make, status)


def _of_sessions(make: _Families, status: Status, totals: Totals) -> Iterator[Metric]:
    name = "netnet_proxy_"
    sums = status["totals"]
    yield make.gauge(name + "info", "The version of netnet.", ["version"], [([status["version"]], 1)])
    yield make.counter(
        name + "sessions",
        "Connections of clients that have ended, by how.",
        ["protocol", "command", "ending"],
        _labelled(totals, "sessions"),
    )
    yield make.counter(
        name + "bytes",
        "Bytes relayed, of open connections as well: sent to targets, received from them.",
        ["direction"],
        [(["sent"], sums["sent"]), (["received"], sums["received"])],
    )
    yield make.counter(
        name + "logins",
        "Connections whose client has logged in, counted when they end, or has failed to.",
        ["result"],
        [(["good"], sums["logins_good"]), (["failed"], sums["logins_failed"])],
    )
    errors = [((), sums["accept_errors"])]
    yield make.counter(name + "accept_errors", "Errors while connections were accepted.", [], errors)
    yield make.gauge(name + "connections", "Connections of clients now.", [], [((), status["connections"])])
    yield make.histogram(
        name + "handshake_seconds",
        "From the connection of a client until that to its target stood.",
        *("handshake_seconds", HANDSHAKE_SECONDS, totals),
    )
    yield make.histogram(
        name + "session_seconds",
        "How long connections that have ended have lasted.",
        *("session_seconds", SESSION_SECONDS, totals),
    )


def _of_users_and_rules(make: _Families, totals: Totals) -> Iterator[Metric]:
    name = "netnet_proxy_"
    yield make.counter(
        name + "user_sessions", "Connections that have ended, by user.", ["user"], _labelled(totals, "user_sessions")
    )
    yield make.counter(
        name + "user_bytes",
        "Bytes relayed, by user: sent to targets, received from them.",
        ["user", "direction"],
        [
            ((*labels, direction), value)
            for direction in ("sent", "received")
            for labels, value in _labelled(totals, f"user_{direction}")
        ],
    )
    yield make.counter(
        name + "rule_sessions",
        "Connections that have ended, by the rule that decided.",
        ["rule"],
        _labelled(totals, "rule_sessions"),
    )


def _of_processes(make: _Families, status: Status) -> Iterator[Metric]:
    """The usual ``process_*`` metrics would speak of the supervisor alone, so all have a label that says whose they are."""
    name = "netnet_proxy_"
    workers = status["workers"]
    silent = sum(1 for worker in workers if worker["silent_seconds"])
    draining = sum(1 for worker in workers if worker["draining"] and not worker["silent_seconds"])
    states = {"ready": len(workers) - silent - draining, "draining": draining, "silent": silent}
    counts = [([state], count) for state, count in states.items()]
    yield make.gauge(name + "workers", "Worker processes: silent is one that does not answer.", ["state"], counts)
    banned = [((), status["banned"])]
    yield make.gauge(name + "banned_clients", "Clients that are not served for now.", [], banned)
    lags = [([str(worker["seat"])], worker["loop"]["lag_seconds"]) for worker in workers]
    yield make.gauge(name + "loop_lag_seconds", "How late the last timers of a worker's loop were.", ["worker"], lags)
    processes = [("supervisor", status["supervisor"])] + [
        (str(worker["seat"]), worker["process"]) for worker in workers
    ]
    for metric, meaning, figure in _PROCESS_GAUGES:
        values = [([whose], float(figure(process))) for whose, process in processes]
        yield make.gauge(name + metric, meaning, ["process"], [one for one in values if one[1] >= 0])
    spent = [([whose], process["cpu_seconds"]) for whose, process in processes]
    yield make.counter(name + "process_cpu_seconds", "Processor time that a process has used.", ["process"], spent)


_PROCESS_GAUGES: Final[tuple[tuple[str, str, Callable[[ProcessFigures], int]], ...]] = (
    ("process_open_fds", "Descriptors that a process has open.", lambda process: process["descriptors"]),
    ("process_max_fds", "Descriptors that it may have.", lambda process: process["descriptors_max"]),
    (
        "process_resident_memory_bytes",
        "Memory of a process, with what it shares with others.",
        lambda process: process["rss_bytes"],
    ),
)


def _labelled(totals: Totals, what: str) -> list[tuple[tuple[str, ...], float]]:
    return sorted((cell.labels, float(value)) for cell, value in totals.items() if cell.what == what)


def _exposition() -> Callable[[Iterable[Metric], str], tuple[bytes, str]]:
    """What writes metrics in the form that an Accept header prefers, and says which one it was."""
    try:
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, choose_encoder, generate_latest
        from prometheus_client.registry import Collector
    except ImportError as error:
        raise MissingExtraError("metrics", "prometheus_client", error) from None

    class Collected(Collector):
        def __init__(self, metrics: Iterable[Metric]) -> None:
            self._metrics = metrics

        def collect(self) -> Iterable[Metric]:
            return self._metrics

    def expose(metrics: Iterable[Metric], accept: str) -> tuple[bytes, str]:
        encode: Callable[[Collector], bytes]
        try:
            encode, kind = choose_encoder(accept)
        except Exception:  # a header that makes no sense to it
            encode, kind = generate_latest, CONTENT_TYPE_LATEST
        return encode(Collected(metrics)), kind

    return expose


# -- HTTP, as far as it is needed


def _receive(client: Socket) -> Request | Response:
    """The request; or the answer to what is none. Raises ``OSError`` when the client is gone."""
    try:
        with timeout(EXCHANGE_SECONDS):
            return parse_request(Buffered(client, limit_bytes=HEAD_BYTES_MAX).recv_until(b"\r\n\r\n"))
    except TimeoutError:
        return Response(408, b"the request took too long\n")
    except LimitError:
        return Response(431, f"a request may have {HEAD_BYTES_MAX} bytes\n".encode())
    except (ValueError, EOFError):
        return Response(400, b"this is no HTTP request\n")


def parse_request(head: bytes) -> Request:
    """Reads the head of a request. Raises ``ValueError`` for what is none. See RFC 9112, sections 2 and 3."""
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, target, version = first.split(" ")  # more or less than three: ValueError
    if not version.startswith("HTTP/1.") or not method.isalpha() or not target.startswith("/"):
        raise ValueError(f"no request: {first[:100]!r}")
    accept = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError(f"no header: {line[:100]!r}")
        if name.lower() == "accept":
            accept.append(value.strip())
    return Request(method, target.partition("?")[0], ",".join(accept))


def _send(client: Socket, response: Response, *, head_only: bool) -> None:
    allow = "Allow: GET, HEAD\r\n" if response.status == 405 else ""
    head = (
        f"HTTP/1.1 {response.status} {_REASONS[response.status]}\r\nContent-Type: {response.kind}\r\n"
        f"Content-Length: {len(response.body)}\r\nCache-Control: no-store\r\n{allow}Connection: close\r\n\r\n"
    )
    client.sendall(head.encode("latin-1") + (b"" if head_only else response.body))


def _part(client: Socket) -> None:
    """Ends with what it still sends unread: a close alone would be a reset, and take the answer with it."""
    client.shutdown(socket.SHUT_WR)
    with timeout(PARTING_SECONDS):
        for _ in range(16):
            if not client.recv(65536):
                return


__all__ = ["Metrics", "MissingExtraError", "Request", "Response", "families", "parse_request", "troubles"]
