"""How the proxy is doing, as one document: the supervisor asks each worker, and hands the answers on.

A question and an answer are a line of JSON each, over a socket pair that stands before the worker is forked. A worker that
does not answer in time is shown as such and holds nobody up; what it says too late is recognised by its number and
passed over. Sums come from the shared memory of ``tally``, which a worker brings up to date before it answers, so a
worker that is stuck or dead takes nothing of them away.

The same document is what ``netnet proxy top`` and other programs get, from a UNIX socket that only the owner of the
process can open (mode 0600): they send a line, whatever is in it, and get the document as a line, as often as they like.
It tells who talks to whom. Rates are not in it; they are the difference of two documents.

Not here: Prometheus and HTTP (``metrics``), what it looks like on a terminal (``top``).
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar, cast

import netnet
from netnet.errors import ProtocolError
from netnet.kernel.address import UnixAddress
from netnet.net.buffered import Buffered
from netnet.net.serving import Server as StreamServer
from netnet.net.serving import ServerStatistics
from netnet.net.sockets import Socket
from netnet.net.stream import listen
from netnet.proxy.document import (
    NOTHING,
    STILL,
    Answer,
    ConnectionStatus,
    FailureStatus,
    Status,
    TotalsStatus,
    UserStatus,
    WorkerStatus,
    process_figures,
)
from netnet.proxy.tally import (
    ACCEPT_ERRORS,
    CONNECTIONS,
    FAILURES,
    LOGINS_FAILED,
    LOGINS_GOOD,
    RECEIVED,
    SENT,
    Cell,
    Tallies,
    Tally,
    Totals,
)
from netnet.runtime.api import now, sleep
from netnet.runtime.group import TaskGroup
from netnet.runtime.locks import Lock
from netnet.runtime.scope import timeout
from netnet.runtime.worker import current_worker
from netnet.socks.session import Session

T = TypeVar("T")

#: a worker that has not answered by then is shown as silent. Its loop turns in milliseconds when it is well
ANSWER_SECONDS: Final = 1.0

#: who asks within so long after another gets the same document, so that no number of askers keeps the workers busy
FRESH_SECONDS: Final = 0.25

#: connections that a worker tells of, of perhaps ten thousand: more than a terminal has lines
TOP_CONNECTIONS: Final = 50
#: failures that it remembers
FAILURES_KEPT: Final = 50
#: users that it tells of: those with the most connections
TOP_USERS: Final = 200
#: bans in the document; there may be many more while somebody attacks
BANS_SHOWN: Final = 200

#: connections looked at before others may run: some 0.2 ms
SLICE_CONNECTIONS: Final = 256

#: an answer has some 60 KB; this only ends nonsense
ANSWER_BYTES_MAX: Final = 4 << 20
#: what a question may have
QUESTION_BYTES_MAX: Final = 4096
#: programs that may look at the document at once
READERS_MAX: Final = 16
#: a reader that asks for nothing for so long is sent away
READER_IDLE_SECONDS: Final = 300.0


class Watched(Protocol):
    """What is asked of a worker's server: ``socks.server.Server`` has it."""

    sessions: set[Session]
    statistics: ServerStatistics

    @property
    def draining(self) -> bool: ...


# -- in a worker


class Recent:
    """The connections of this worker that came to nothing lately."""

    def __init__(self, kept: int = FAILURES_KEPT) -> None:
        self._sessions: deque[tuple[float, Session]] = deque(maxlen=kept)

    def note(self, session: Session) -> None:
        """Keeps a connection that has ended, if it came to nothing."""
        if session.ending in FAILURES:
            self._sessions.append((time.time(), session))

    def rows(self) -> list[FailureStatus]:
        """The last one first."""
        return [cast(FailureStatus, {"time": when, **_row(one, 0.0, 0)}) for when, one in reversed(self._sessions)]


def answer(control: Socket, server: Watched, tally: Tally, recent: Recent) -> None:
    """In a worker: answers the supervisor's questions on *control*, until its end. To be run as a task.

    Switches tasks; many connections are looked at in slices, so that it delays nobody. Raises ``Cancelled``.
    """
    began = now()
    questions = Buffered(control, limit_bytes=QUESTION_BYTES_MAX)
    with contextlib.suppress(OSError, ProtocolError, EOFError):  # the supervisor is gone, or out of its mind
        while question := questions.readline():
            if questions.buffered:  # we were busy, and this one is answered too late: there is another
                continue
            said = describe(server, tally, recent, began)
            said["number"] = _number(question)
            control.sendall(_line(said))


def describe(server: Watched, tally: Tally, recent: Recent, began: float) -> Answer:
    """What a worker has to say, and its tally brought up to date. *began*: when, by the loop's clock. Switches tasks."""
    users: Counter[str] = Counter()
    top: list[tuple[Session, int, int]] = []
    sessions = list(server.sessions)
    for start in range(0, len(sessions), SLICE_CONNECTIONS):
        for session in sessions[start : start + SLICE_CONNECTIONS]:
            top.append((session, tally.settle(session), session.bytes_sent + session.bytes_received))
            if session.user is not None:
                users[session.user] += 1
        top = _foremost(top, lambda one: one[1], lambda one: one[2])
        sleep(0)
    tally.put(CONNECTIONS, len(server.sessions))
    tally.put(ACCEPT_ERRORS, server.statistics.accept_errors)
    instant = now()
    counters = current_worker().loop.counters
    return {
        "number": 0,
        "process": process_figures(),
        "uptime_seconds": instant - began,
        "draining": server.draining,
        "connections": len(server.sessions),
        "loop": {
            "ready": counters.ready,
            "ready_max": counters.ready_max,
            "lag_seconds": counters.lag,
            "lag_seconds_max": counters.lag_max,
        },
        "users": dict(users.most_common(TOP_USERS)),
        "top": [_row(session, instant, moved) for session, moved, _ in top if session.ended is None],
        "failures": recent.rows(),
    }


def _row(session: Session, instant: float, moved: int) -> ConnectionStatus:
    members = {"pid": os.getpid(), "began": session.began, "moved": moved, **session.fields(instant)}
    return cast(ConnectionStatus, members)


def _foremost(rows: Sequence[T], moved: Callable[[T], int], total: Callable[[T], int]) -> list[T]:
    """Of connections, half of the places for those that move most now, the rest for those that have moved the most."""
    figures = [(moved(row), total(row)) for row in rows]
    numbers = range(len(rows))
    movers = heapq.nlargest(TOP_CONNECTIONS // 2, numbers, key=figures.__getitem__)
    ranked = heapq.nlargest(TOP_CONNECTIONS, numbers, key=lambda number: figures[number][1])
    return [rows[number] for number in [*dict.fromkeys(movers + ranked)][:TOP_CONNECTIONS]]


# -- in the supervisor


class Link:
    """The supervisor's end of the line to one worker. *seat* is its row of the tally, too."""

    def __init__(self, control: Socket, *, seat: int, pid: int) -> None:
        self.control = control
        self.seat = seat
        self.pid = pid
        self.heard = time.monotonic()  #: when it answered last
        self.answer_seconds = 0.0  #: how long it took then
        self.last: Answer | None = None
        self._answers = Buffered(control, limit_bytes=ANSWER_BYTES_MAX)
        self._number = 0

    def ask(self, seconds: float = ANSWER_SECONDS) -> Answer | None:
        """Asks, and waits for the answer, for *seconds* at most; ``None`` without one. Switches tasks.

        One asker at a time. Raises ``Cancelled``.
        """
        self._number += 1
        asked = time.monotonic()
        try:
            with timeout(seconds):
                # never waits: a worker that has left so many questions unread does not answer this one either
                socket.socket.send(self.control, _line({"number": self._number}), socket.MSG_DONTWAIT)
                self.last = self._receive()
                self.heard = time.monotonic()
                self.answer_seconds = self.heard - asked
                return self.last
        except (OSError, ValueError, EOFError):  # also: the time is up
            return None

    def _receive(self) -> Answer:
        while line := self._answers.readline():
            if _number(line) == self._number:
                return cast(Answer, json.loads(line))
        raise EOFError("the worker is gone")

    def close(self) -> None:
        """Closes its end."""
        self.control.close()


def ask_all(links: Sequence[Link], *, seconds: float = ANSWER_SECONDS) -> list[Answer | None]:
    """Asks all workers at once; ``None`` for one that does not answer in time. Switches tasks. Raises ``Cancelled``."""
    with TaskGroup() as group:
        tasks = [group.spawn(link.ask, seconds, name=f"proxy status: process {link.pid}") for link in links]
    return [task.result() for task in tasks]


class Overview:
    """What the supervisor knows: its links to the workers, and the tallies. It makes the document.

    *bans* gives the clients that are banned and for how many seconds more: ``Ledger.bans``.
    """

    def __init__(self, tallies: Tallies, *, bans: Callable[[], Sequence[tuple[str, float]]] = tuple) -> None:
        self.tallies = tallies
        self.links: list[Link] = []
        self.draining = False  #: the service is about to end
        self._bans = bans
        self._began = time.monotonic()
        self._turn = Lock()
        self._status: Status | None = None
        self.totals: Totals = Counter()  #: those of the last document

    def add(self, link: Link) -> None:
        """There is one more worker."""
        self.links.append(link)

    def remove(self, link: Link) -> None:
        """A worker has ended."""
        if link in self.links:
            self.links.remove(link)
        link.close()

    def status(self) -> Status:
        """Asks all workers and makes the document; one that is fresh is given again. Switches tasks.

        It takes a second at most (``ANSWER_SECONDS``), or twice that behind another who asks. Raises ``Cancelled``.
        """
        with self._turn:
            if self._status is None or time.monotonic() - self._status["instant"] >= FRESH_SECONDS:
                links = list(self.links)
                self._status = self._merge(links, ask_all(links))
            return self._status

    def _merge(self, links: Sequence[Link], answers: Sequence[Answer | None]) -> Status:
        instant = time.monotonic()
        self.totals = totals = self.tallies.totals()
        said = [one for one in answers if one is not None]
        bans = list(self._bans())
        return {
            "version": netnet.__version__,
            "time": time.time(),
            "instant": instant,
            "uptime_seconds": instant - self._began,
            "draining": self.draining,
            "connections": totals[CONNECTIONS],
            "totals": _totals(totals),
            "supervisor": process_figures(),
            "workers": [_worker(link, one, instant) for link, one in zip(links, answers, strict=True)],
            "users": _users(totals, said),
            "top": _foremost(
                [row for one in said for row in one["top"]],
                lambda row: row["moved"],
                lambda row: row["sent"] + row["received"],
            ),
            "failures": heapq.nlargest(
                FAILURES_KEPT, (row for one in said for row in one["failures"]), key=lambda row: row["time"]
            ),
            "bans": [{"client": client, "seconds_left": left} for client, left in bans[:BANS_SHOWN]],
            "banned": len(bans),
        }


def _worker(link: Link, said: Answer | None, instant: float) -> WorkerStatus:
    """A worker; of one that is silent, what it said last."""
    last = said or link.last
    return {
        "seat": link.seat,
        "pid": link.pid,
        "silent_seconds": 0.0 if said is not None else instant - link.heard,
        "answer_seconds": link.answer_seconds,
        "uptime_seconds": 0.0 if last is None else last["uptime_seconds"],
        "draining": last is not None and last["draining"],
        "connections": 0 if last is None else last["connections"],
        "process": NOTHING | {"pid": link.pid} if last is None else last["process"],
        "loop": STILL if last is None else last["loop"],
    }


def _totals(totals: Totals) -> TotalsStatus:
    endings: Counter[str] = Counter()
    for cell, value in totals.items():
        if cell.what == "sessions":
            endings[cell.labels[2]] += value
    return {
        "sessions": endings.total(),
        "failed": sum(endings[ending] for ending in FAILURES),
        "endings": dict(endings),
        "sent": totals[SENT],
        "received": totals[RECEIVED],
        "logins_good": totals[LOGINS_GOOD],
        "logins_failed": totals[LOGINS_FAILED],
        "accept_errors": totals[ACCEPT_ERRORS],
    }


def _users(totals: Totals, said: Sequence[Answer]) -> list[UserStatus]:
    """Those with connections, and those who have moved the most."""
    connections: Counter[str] = Counter()
    for one in said:
        connections.update(one["users"])
    moved: Counter[str] = Counter()
    for cell, value in totals.items():
        if cell.what in ("user_sent", "user_received"):
            moved[cell.labels[0]] += value
    ranked = heapq.nlargest(TOP_USERS, {**moved, **connections}, key=lambda user: (connections[user], moved[user]))
    return [
        {
            "user": user,
            "connections": connections[user],
            "sessions": totals[Cell("user_sessions", (user,))],
            "sent": totals[Cell("user_sent", (user,))],
            "received": totals[Cell("user_received", (user,))],
        }
        for user in ranked
    ]


# -- for programs that look


def listen_status(path: str) -> Socket:
    """Listens on the UNIX socket *path*, which only this user may open. Does not switch tasks. Raises ``OSError``.

    The mode is there from the start: what bind(2) makes has the mode that umask(2) leaves.
    """
    before = os.umask(0o177)
    try:
        return listen(UnixAddress(path))
    finally:
        os.umask(before)


def serve_status(listener: Socket, overview: Overview) -> None:
    """Gives the document to whoever connects, a line for each line, until it is cancelled. Switches tasks."""
    StreamServer(lambda reader: _inform(reader, overview), max_connections=READERS_MAX).serve(listener)


def _inform(reader: Socket, overview: Overview) -> None:
    questions = Buffered(reader, limit_bytes=QUESTION_BYTES_MAX)
    with contextlib.suppress(OSError, ProtocolError, EOFError):  # it is gone, too slow, or no reader of ours
        while True:
            with timeout(READER_IDLE_SECONDS):
                if not questions.readline():
                    return
            document = _line(overview.status())
            with timeout(READER_IDLE_SECONDS):
                reader.sendall(document)


class StatusReader:
    """The other side: gets documents from the UNIX socket *path*. Needs no loop, and blocks for *seconds* at most.

    Raises ``OSError`` where nobody answers.
    """

    def __init__(self, path: str, *, seconds: float = 10.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(seconds)
        try:
            self._socket.connect(path)
            self._lines = self._socket.makefile("rb")
        except BaseException:
            self._socket.close()
            raise

    def read(self) -> Status:
        """The document as it is now."""
        self._socket.sendall(b"status\n")
        line = self._lines.readline(ANSWER_BYTES_MAX * 16)
        if not line.endswith(b"\n"):
            raise ConnectionError("the proxy has closed the connection")
        return cast(Status, json.loads(line))

    def close(self) -> None:
        """Ends the connection."""
        self._lines.close()
        self._socket.close()


def _line(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"


def _number(line: bytes) -> int:
    """The number of a question or an answer; -1 where there is none."""
    try:
        number: Any = json.loads(line)["number"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return -1
    return number if isinstance(number, int) else -1


__all__ = [
    "Link",
    "Overview",
    "Recent",
    "StatusReader",
    "Watched",
    "answer",
    "ask_all",
    "describe",
    "listen_status",
    "serve_status",
]
