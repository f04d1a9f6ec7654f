"""A resolver that asks name servers itself, cooperatively: ``DnsResolver``. No OS thread, no call that blocks others.

It reads hosts(5) and resolv.conf(5), asks for IPv4 and IPv6 addresses at the same time, follows aliases, keeps answers as
long as they are good, and has one question on its way only once, however many ask for it. The parts: ``dns_conf`` whom to
ask, ``dns_exchange`` asking, ``dns_wire`` messages as bytes, ``dns_cache``, ``dns_order`` which address first, ``hosts``
the table and the standard shape. Out of scope: DNSSEC, multicast DNS, nsswitch.conf(5), encrypted transports.

Outside a loop a look-up runs one of its own until the answer is there.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import socket
import threading
import weakref
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from netnet.kernel.address import InetAddress
from netnet.net.dns_cache import Cache
from netnet.net.dns_conf import Conf, candidates, read_conf, server_address
from netnet.net.dns_exchange import exchange
from netnet.net.dns_order import ordered
from netnet.net.dns_wire import ALIASES_MAX, TYPES, Question, Reply, codec, reverse_name
from netnet.net.hosts import (
    EAI_NODATA,
    LOOK_SECONDS,
    NAME_OCTETS_MAX,
    Entry,
    Found,
    Host,
    Service,
    Sockaddr,
    Watched,
    address_info,
    failure,
    family_of_text,
    is_host_name,
    is_link_local,
    is_loopback,
    name_info,
    read_hosts,
)
from netnet.runtime.api import now, run, spawn
from netnet.runtime.clock import checked_seconds
from netnet.runtime.foreign import refuse_to_block
from netnet.runtime.lot import ParkingLot
from netnet.runtime.sync import Semaphore
from netnet.runtime.worker import current_worker, worker_or_none

if TYPE_CHECKING:
    from netnet.runtime.loop import Loop
    from netnet.runtime.task import Task

#: answers that are remembered; one takes some 500 bytes
CACHE_ENTRIES_MAX: Final = 4096
#: questions of one loop that are on their way at once; each has a descriptor
QUERIES_MAX: Final = 256
#: what is read of the two files
HOSTS_OCTETS_MAX: Final = 64 * 1024 * 1024
CONF_OCTETS_MAX: Final = 64 * 1024

#: top-level names that no name server is asked for: RFC 6761, section 6.4, and RFC 7686, section 2
NEVER_ASKED: Final = ("invalid", "onion")
LOCALHOST: Final = "localhost"
_LOOPBACKS: Final = ("::1", "127.0.0.1")

_Path: TypeAlias = str | os.PathLike[str]
_Outcome: TypeAlias = Reply | socket.gaierror


class _Flight:
    """One question on its way, and those who wait for its answer."""

    __slots__ = ("done", "error", "lot", "reply", "task", "waiting")

    def __init__(self, question: Question) -> None:
        self.lot = ParkingLot(f"name servers to answer {question}")
        self.waiting = 0
        self.done = False
        self.reply: Reply | None = None
        self.error: Exception | None = None
        self.task: Task[None] | None = None

    def wait(self) -> None:
        while not self.done:
            self.lot.park()

    def land(self) -> None:
        self.done = True
        self.lot.wake_all()


class _Airspace:
    """The flights of one loop. A loop has one thread, so there is nothing to lock."""

    def __init__(self, loop: Loop, queries_max: int) -> None:
        self.loop = weakref.ref(loop)
        self.flights: dict[Question, _Flight] = {}
        self.permits = Semaphore(queries_max)


class DnsResolver:
    """Looks names up by asking name servers, without OS threads: for ``use_resolver``, or to be called directly.

    *nameservers* are asked in turn, ``"192.0.2.1"`` or ``"[2001:db8::1]:5353"``; without them those of *resolv_conf*, whose
    other lines count in any case. *hosts* is looked in first. Either file may be ``None``: there is none; it is read again
    when it has changed, which is looked at once in *look_seconds* at most. *timeout_seconds* is for one try at one server,
    *attempts* how many turns each has; without them resolv.conf(5) says. *cache_entries_max* answers are remembered (0:
    none), as long as their servers said. *queries_max* questions of one loop are on their way at once, others wait.

    Messages are read and written by dnspython (``pip install 'netnet[dns]'``), which is imported at the first question;
    IP addresses and the hosts file work without it. One resolver may serve several loops in several OS threads. Raises
    ``AddressError`` for a name server that is no IP address, ``ValueError``.
    """

    def __init__(
        self,
        *,
        nameservers: str | Iterable[str | InetAddress] | None = None,
        hosts: _Path | None = "/etc/hosts",
        resolv_conf: _Path | None = "/etc/resolv.conf",
        timeout_seconds: float | None = None,
        attempts: int | None = None,
        cache_entries_max: int = CACHE_ENTRIES_MAX,
        queries_max: int = QUERIES_MAX,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        told: dict[str, object] = {}
        if nameservers is not None:
            several = [nameservers] if isinstance(nameservers, str) else nameservers
            told["servers"] = tuple(server_address(one) for one in several)
            if not told["servers"]:
                raise ValueError("nameservers: at least one is needed; None takes those of resolv.conf")
        if timeout_seconds is not None:
            told["timeout_seconds"] = _positive("timeout_seconds", checked_seconds(timeout_seconds))
        if attempts is not None:
            told["attempts"] = int(_positive("attempts", attempts))

        def conf(text: str) -> Conf:
            return dataclasses.replace(read_conf(text), **told)  # type: ignore[arg-type]

        self._hosts = Watched(hosts, read_hosts, look_seconds=look_seconds, octets_max=HOSTS_OCTETS_MAX)
        self._conf_file = Watched(resolv_conf, conf, look_seconds=look_seconds, octets_max=CONF_OCTETS_MAX)
        self._conf_version = 0
        self._cache: Cache[Reply] = Cache(cache_entries_max)
        self._queries_max = int(_positive("queries_max", queries_max))
        self._turn = itertools.count()
        self._here = threading.local()

    # -- the two methods of a resolver

    def getaddrinfo(
        self, host: Host, service: Service, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Entry]:
        """The addresses of *host*, best first (RFC 6724), as ``socket.getaddrinfo``.

        Switches tasks; outside a loop it blocks. Raises ``socket.gaierror``: ``EAI_NONAME`` for an unknown name,
        ``EAI_NODATA`` for one without such an address, ``EAI_AGAIN`` when no server answers, ``EAI_FAIL`` for aliases
        without end and without dnspython; ``Cancelled``. See getaddrinfo(3).
        """
        return address_info(self._find, host, service, family, type, proto, flags)

    def getnameinfo(self, sockaddr: Sockaddr, flags: int) -> tuple[str, str]:
        """The names of a host and a service, as ``socket.getnameinfo``.

        Switches tasks; outside a loop it blocks. Raises ``socket.gaierror``, ``EAI_AGAIN`` when no server answers and
        ``EAI_NONAME`` where a name is required and there is none; ``Cancelled``. See getnameinfo(3).
        """
        domain = self._conf().search[:1] if flags & socket.NI_NOFQDN else ()
        return name_info(self._name_of, sockaddr, flags, *domain)

    def clear_cache(self) -> None:
        """Forgets all answers."""
        self._cache.clear()

    # -- names

    def _find(self, name: str, families: tuple[int, ...]) -> Found:
        """From the hosts file; else what is known without asking; else from the name servers."""
        found = self._hosts.value().find(name, families)
        if found is not None:
            return Found(found.canonical, ordered(found.addresses))
        bare = name.removesuffix(".")
        top = bare.rpartition(".")[2]
        if top == LOCALHOST:
            return Found(bare, tuple(one for one in _LOOPBACKS if family_of_text(one) in families))
        if top in NEVER_ASKED or not is_host_name(bare):
            raise failure(socket.EAI_NONAME, name)
        return self._search(name, families)

    def _search(self, name: str, families: tuple[int, ...]) -> Found:
        """The first candidate of the search list that has an address."""
        conf = self._conf()
        code = socket.EAI_NONAME
        for candidate in candidates(name, conf, lambda whole: len(whole) <= NAME_OCTETS_MAX):
            outcomes = self._outcomes([Question(candidate, TYPES[family]) for family in families], conf)
            replies = [outcome for outcome in outcomes if isinstance(outcome, Reply)]
            addresses = [address for reply in replies for address in reply.values]
            if addresses:
                official = next(reply.name for reply in replies if reply.values)
                return Found(official if is_host_name(official) else candidate, ordered(addresses))
            if any(reply.unknown for reply in replies):
                continue
            for outcome in outcomes:
                if isinstance(outcome, socket.gaierror):
                    raise outcome
            code = EAI_NODATA
        raise failure(code, name)

    def _name_of(self, address: str) -> str | None:
        """From the hosts file, else from the name servers; ``None`` for an address that has no name."""
        name = self._hosts.value().name_of(address)
        if name is not None:
            return name
        if is_loopback(address):
            return LOCALHOST
        if is_link_local(address):
            return None  # what is known on one link only, no server of another one knows: RFC 6303, section 4
        (outcome,) = self._outcomes([Question(reverse_name(address), "PTR")], self._conf())
        if isinstance(outcome, socket.gaierror):
            raise outcome
        return next((name for name in outcome.values if is_host_name(name)), None)

    def _conf(self) -> Conf:
        conf = self._conf_file.value()
        if self._conf_version != self._conf_file.version:  # other servers may say something else
            self._conf_version = self._conf_file.version
            self._cache.clear()
        return conf

    # -- questions

    def _outcomes(self, questions: Sequence[Question], conf: Conf) -> list[_Outcome]:
        """What became of each question: remembered, or asked for now."""
        worker = worker_or_none()
        if worker is not None:
            worker.loop.checkpoint(worker)
        known: dict[Question, _Outcome] = {}
        for question in questions:
            reply = self._cache.get(question, now())
            if reply is not None:
                known[question] = reply
        missing = [question for question in questions if question not in known]
        if missing:
            codec()
            if worker is None:
                refuse_to_block()
            fetched = run(self._fetch, missing, conf) if worker is None else self._fetch(missing, conf)
            known.update(zip(missing, fetched, strict=True))
        return [known[question] for question in questions]

    def _fetch(self, questions: Sequence[Question], conf: Conf) -> list[_Outcome]:
        """Waits for the flights of all questions, those under way included. In a task."""
        airspace = self._airspace()
        flights: list[_Flight] = []
        try:
            for question in questions:
                flights.append(self._board(airspace, question, conf))
                if conf.single_request:
                    flights[-1].wait()
            for flight in flights:
                flight.wait()
        finally:
            for question, flight in zip(questions, flights, strict=False):
                self._leave(airspace, question, flight)
        return [self._landed(flight, question, conf) for question, flight in zip(questions, flights, strict=True)]

    def _airspace(self) -> _Airspace:
        loop = current_worker().loop
        airspace: _Airspace | None = getattr(self._here, "airspace", None)
        if airspace is None or airspace.loop() is not loop:
            airspace = self._here.airspace = _Airspace(loop, self._queries_max)
        return airspace

    def _board(self, airspace: _Airspace, question: Question, conf: Conf) -> _Flight:
        """Joins those who wait for the answer; the first has the question asked, by a task of its own.

        So the first may be cancelled, and the others still have their answer.
        """
        flight = airspace.flights.get(question)
        if flight is None:
            flight = airspace.flights[question] = _Flight(question)
            flight.task = spawn(self._fly, airspace, question, flight, conf, name=f"dns query {question}")
        flight.waiting += 1
        return flight

    def _leave(self, airspace: _Airspace, question: Question, flight: _Flight) -> None:
        """One waits no longer. Where that was the last, nobody needs the answer, and it is not waited for."""
        flight.waiting -= 1
        if flight.waiting or flight.done:
            return
        if airspace.flights.get(question) is flight:
            del airspace.flights[question]
        if flight.task is not None:
            flight.task.cancel("nobody waits for the answer any more")

    def _fly(self, airspace: _Airspace, question: Question, flight: _Flight, conf: Conf) -> None:
        """The task that asks."""
        try:
            with airspace.permits:
                flight.reply = self._ask(question, conf)
        except Exception as error:
            flight.error = error
        finally:
            if airspace.flights.get(question) is flight:
                del airspace.flights[question]
            flight.land()

    def _landed(self, flight: _Flight, question: Question, conf: Conf) -> _Outcome:
        """What a flight brought, for one of those who waited. Everyone gets an error of their own."""
        if flight.error is not None:
            return _copy(flight.error)
        if flight.reply is not None:
            return flight.reply
        # the run is ending, so the task was cancelled; who still waits is shielded, and asks by himself
        try:
            return self._ask(question, conf)
        except socket.gaierror as error:
            return error

    def _ask(self, question: Question, conf: Conf) -> Reply:
        """The reply to a question, from name to name where the servers tell aliases alone. Remembers it."""
        servers = conf.servers
        if conf.rotate:
            first = next(self._turn) % len(servers)
            servers = servers[first:] + servers[:first]
        name, aliases, ttl_seconds = question.name, 0, math.inf
        while aliases <= ALIASES_MAX:
            reply = exchange(Question(name, question.type), servers, conf)
            aliases += reply.aliases
            ttl_seconds = min(ttl_seconds, reply.ttl_seconds)
            if not reply.leads_on:
                self._cache.put(question, reply, now(), ttl_seconds)
                return reply
            name = reply.name
        reason = f"its aliases go in a circle, or there are more than {ALIASES_MAX}"
        raise failure(socket.EAI_FAIL, question.name, reason)


def _copy(error: Exception) -> socket.gaierror:
    """*error* anew: one exception raised in several tasks would gather all their tracebacks. Raises one of another kind."""
    if isinstance(error, socket.gaierror):
        return socket.gaierror(*error.args)
    raise error


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name} must be more than 0, not {value!r}")
    return value


__all__ = ["DnsResolver"]
