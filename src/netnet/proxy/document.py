"""The document that tells how the proxy is doing: what stands in it, and what a process can tell of itself.

It is JSON on the wire, and these types here. Who makes it and who gets it is in ``status``.
"""

from __future__ import annotations

import os
import time
from typing import Final, TypedDict


class ProcessFigures(TypedDict):
    """What a process uses. -1 where the system does not tell."""

    pid: int
    cpu_seconds: float
    rss_bytes: int
    descriptors: int
    descriptors_max: int


class ConnectionStatus(TypedDict):
    """One connection; the members are those of a line in the log. *began* is an instant of the worker's clock, *moved*
    the bytes since the question before."""

    pid: int
    began: float
    client: str
    listener: str
    protocol: str
    user: str | None
    command: str
    target: str
    address: str
    rule: str
    route: str
    sent: int
    received: int
    moved: int
    seconds: float
    ending: str | None
    detail: str


class FailureStatus(ConnectionStatus):
    """A connection that came to nothing; *time* is when, in seconds since 1970."""

    time: float


class LoopStatus(TypedDict):
    """How busy a worker's loop is: tasks ready at its last turn and at most, how late timers were, in seconds."""

    ready: int
    ready_max: int
    lag_seconds: float
    lag_seconds_max: float


class Answer(TypedDict):
    """What a worker says of itself."""

    number: int
    process: ProcessFigures
    uptime_seconds: float
    draining: bool
    connections: int
    loop: LoopStatus
    users: dict[str, int]
    top: list[ConnectionStatus]
    failures: list[FailureStatus]


class WorkerStatus(TypedDict):
    """A worker, seen by the supervisor. *silent_seconds*: how long it has not answered; 0 when it has."""

    seat: int
    pid: int
    silent_seconds: float
    answer_seconds: float
    uptime_seconds: float
    draining: bool
    connections: int
    process: ProcessFigures
    loop: LoopStatus


class UserStatus(TypedDict):
    """A user: connections now, and what has gone to targets and come from them, in bytes."""

    user: str
    connections: int
    sessions: int
    sent: int
    received: int


class BanStatus(TypedDict):
    """A client that is not served for now."""

    client: str
    seconds_left: float


class TotalsStatus(TypedDict):
    """Since the service began. *failed* are those sessions that came to nothing; *sent* and *received* are bytes."""

    sessions: int
    failed: int
    endings: dict[str, int]
    sent: int
    received: int
    logins_good: int
    logins_failed: int
    accept_errors: int


class Status(TypedDict):
    """The whole document. *time* is in seconds since 1970, *instant* is one of a clock that nobody sets. *bans* are
    some of the *banned* clients."""

    version: str
    time: float
    instant: float
    uptime_seconds: float
    draining: bool
    connections: int
    totals: TotalsStatus
    supervisor: ProcessFigures
    workers: list[WorkerStatus]
    users: list[UserStatus]
    top: list[ConnectionStatus]
    failures: list[FailureStatus]
    bans: list[BanStatus]
    banned: int


def process_figures() -> ProcessFigures:
    """What this process uses. Does not switch tasks. See proc(5)."""
    import resource

    return {
        "pid": os.getpid(),
        "cpu_seconds": time.process_time(),
        "rss_bytes": _rss_bytes(),
        "descriptors": _descriptors(),
        "descriptors_max": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }


def _rss_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return -1


def _descriptors() -> int:
    """How many are open. Linux tells it as the directory's size from 6.2 on; before, the entries are counted."""
    try:
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        return -1


#: of a worker that has not said anything yet
NOTHING: Final[ProcessFigures] = {
    "pid": -1,
    "cpu_seconds": 0.0,
    "rss_bytes": -1,
    "descriptors": -1,
    "descriptors_max": -1,
}
STILL: Final[LoopStatus] = {"ready": 0, "ready_max": 0, "lag_seconds": 0.0, "lag_seconds_max": 0.0}

__all__ = [
    "Answer",
    "BanStatus",
    "ConnectionStatus",
    "FailureStatus",
    "LoopStatus",
    "ProcessFigures",
    "Status",
    "TotalsStatus",
    "UserStatus",
    "WorkerStatus",
    "process_figures",
]
