"""Dialing: one connection out of several addresses, as fast as the best of them allows. RFC 8305 (Happy Eyeballs
version 2), sections 4 and 5: the order of the addresses, and a race of attempts that start one after the other.

How one attempt is made is the caller's: ``attempt`` is any function from an address to a socket, so the same race
serves plain TCP and whatever stands on it. Looking names up is ``resolve``; the whole, ``connect``, is in ``stream``.

Of RFC 8305 not here: sections 3 (two queries at once: getaddrinfo(3) answers both together), 6 (answers that come
while the race runs, for the same reason) and 7 (NAT64, which is the resolver's).

A time limit around the race is divided among the attempts, as Go's ``net.Dialer`` does, so that one address that never
answers cannot use up the time of the others.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import zip_longest
from types import FunctionType
from typing import Any, Final

from netnet.errors import Cancelled
from netnet.kernel.address import from_sockaddr
from netnet.net.resolve import Resolved
from netnet.net.sockets import Socket
from netnet.runtime.api import now
from netnet.runtime.clock import checked_seconds
from netnet.runtime.group import TaskGroup
from netnet.runtime.lot import ParkingLot
from netnet.runtime.scope import current_deadline, timeout_at
from netnet.runtime.task import log
from netnet.runtime.worker import Worker, worker_or_none

#: the "Connection Attempt Delay" of RFC 8305, section 8: the value that it recommends, the least that it allows, and the
#: most that it recommends. Below 100 ms it warns of needless load, for servers and for the network
ATTEMPT_DELAY_SECONDS: Final = 0.25
ATTEMPT_DELAY_SECONDS_MIN: Final = 0.01
ATTEMPT_DELAY_SECONDS_MAX: Final = 2.0

#: the least that an attempt gets of a time limit: a lost SYN is sent again after 1 s (RFC 6298, section 2.1), and the
#: answer to that one needs its time, too
ATTEMPT_SECONDS_MIN: Final = 2.0

Attempt = Callable[[Resolved], Socket]
Failures = list[tuple[Resolved, OSError]]


def interleaved(candidates: Sequence[Resolved], first_family_count: int = 1) -> list[Resolved]:
    """*candidates* in the order in which to try them: the families take turns. RFC 8305, section 4.

    The family of the first candidate begins, with *first_family_count* addresses in a row; from then on each family has
    one address in turn while it has any. Inside a family the order, the resolver's by RFC 6724, is kept. What stands
    there twice is there once, in its first place. Raises ``ValueError`` for a count below 1. Does not switch tasks.
    """
    if first_family_count < 1:
        raise ValueError(f"the first family has 1 or more addresses in a row, not {first_family_count}")
    families: dict[int, list[Resolved]] = {}
    for candidate in dict.fromkeys(candidates):
        families.setdefault(candidate.family, []).append(candidate)
    if not families:
        return []
    first, *others = families.values()
    turns = zip_longest(*others, first[first_family_count:])
    return first[:first_family_count] + [candidate for turn in turns for candidate in turn if candidate is not None]


def dial(
    candidates: Sequence[Resolved],
    attempt: Attempt,
    *,
    target: object = None,
    attempt_delay_seconds: float = ATTEMPT_DELAY_SECONDS,
    attempt_seconds_min: float = ATTEMPT_SECONDS_MIN,
) -> Socket:
    """Calls *attempt* for the *candidates*, in their order (see ``interleaved``), until one gives a socket; returns it.

    RFC 8305, section 5: the next attempt starts as soon as, since the last start, *attempt_delay_seconds* (0.01 to 2)
    have passed or an attempt has failed. Each runs in a task of its own. The first that succeeds wins; the others are
    cancelled and awaited, and what one of them obtains nevertheless is closed. A single candidate is tried in the
    calling task. Outside a loop they are tried one after the other.

    Where a time limit stands around the call, an attempt gets an equal share of what is left of it, (time left) /
    (attempts not yet started, this one included), but at least *attempt_seconds_min* seconds (``math.inf``: no shares);
    the last gets all. One whose share is used up has failed, by ``TimeoutError``. The limit itself stays the caller's.

    Raises, when all have failed, the ``OSError`` that ``failed`` makes, which names *target*. An attempt's failure by
    anything but an ``OSError`` ends the race: the others are cancelled and awaited, and it is raised as it is. Raises
    ``ValueError`` for a number out of its range, ``Cancelled`` (with a note of what had failed by then). Switches
    tasks; outside a loop it blocks if *attempt* does.
    """
    if not ATTEMPT_DELAY_SECONDS_MIN <= attempt_delay_seconds <= ATTEMPT_DELAY_SECONDS_MAX:
        raise ValueError(
            f"the delay between attempts must be from {ATTEMPT_DELAY_SECONDS_MIN:g} to {ATTEMPT_DELAY_SECONDS_MAX:g}"
            f" seconds (RFC 8305, section 8), not {attempt_delay_seconds!r}"
        )
    if not checked_seconds(attempt_seconds_min) >= 0:
        raise ValueError(f"an attempt needs 0 seconds or more, not {attempt_seconds_min!r}")
    worker = worker_or_none()
    if worker is None or len(candidates) < 2:
        return _in_turn(candidates, attempt, target)
    return _Race(candidates, attempt, attempt_delay_seconds, attempt_seconds_min).winner(worker, target)


def failed(target: object, failures: Sequence[tuple[Resolved | None, OSError]]) -> OSError:
    """One error for all *failures* of attempts to connect to *target*, to be raised.

    It has the class and the ``errno`` of the first failure, so that it can be caught by what it is; its message tells
    each address with its error, once, and its attribute ``failures`` is the list of them, tracebacks included. It has
    no cause, since a traceback would tell the same again. Without failures there was nothing to try: ``EADDRNOTAVAIL``.
    """
    what = "connect" if target is None else f"connect to {target}"
    if failures:
        error = _of_kind(failures[0][1], f"{what}: {_told(target, failures)}")
    else:
        error = OSError(errno.EADDRNOTAVAIL, f"{what}: the name has no address")
    error.failures = list(failures)  # type: ignore[attr-defined]  # an attribute that the built-in classes lack
    return error


def _of_kind(first: OSError, message: str) -> OSError:
    """An error that is caught by what catches *first*: of its class, or the nearest above that takes what we have."""
    kind = next(kind for kind in type(first).__mro__ if issubclass(kind, OSError) and _is_plain(kind))
    # of an OSError, Python picks the class by the number; a time-out of ours has none
    return kind(message) if first.errno is None else kind(first.errno, message)


def _is_plain(kind: Any) -> bool:
    """Whether making one takes what making an ``OSError`` takes: no class above it that is written in Python says else."""
    return not isinstance(kind.__init__, FunctionType) and not isinstance(kind.__new__, FunctionType)


def _told(target: object, failures: Sequence[tuple[Resolved | None, OSError]]) -> str:
    """Each address with its error; without the address where *target* or the error says it already."""
    told = []
    for candidate, error in failures:
        text = error.strerror or str(error) or type(error).__name__
        name = "" if candidate is None else _name(candidate)
        told.append(text if name in ("", str(target)) or text.startswith(f"{name}: ") else f"{name}: {text}")
    return "; ".join(told)


def _name(candidate: Resolved) -> str:
    with suppress(ValueError):
        return str(from_sockaddr(candidate.family, candidate.sockaddr))
    return repr(candidate.sockaddr)


def _in_turn(candidates: Sequence[Resolved], attempt: Attempt, target: object) -> Socket:
    """One after the other, in the calling task or thread."""
    failures: Failures = []
    for candidate in candidates:
        try:
            return attempt(candidate)
        except OSError as error:
            failures.append((candidate, error))
    try:
        raise failed(target, failures)
    finally:
        failures.clear()  # their tracebacks lead back to this frame


def _share_end(start: float, deadline: float, waiting: int, seconds_min: float) -> float:
    """When the time of an attempt is up that begins at *start* with *waiting* others to come; inf: not before all."""
    left = deadline - start
    share = max(left / (waiting + 1), seconds_min)
    return start + share if share < left else math.inf


def _limited(attempt: Attempt, candidate: Resolved, until: float) -> Socket:
    """The attempt, as a failure when it is not through at the instant *until*."""
    if until == math.inf:
        return attempt(candidate)
    began = now()
    limit = timeout_at(until)
    try:
        with limit:
            return attempt(candidate)
    except TimeoutError as error:
        if not (limit.expired() and isinstance(error.__cause__, Cancelled)):  # the attempt's own
            raise
        message = f"{_name(candidate)}: no connection within {round(until - began, 3):g} s, its share of the time limit"
        raise TimeoutError(errno.ETIMEDOUT, message) from error


def _discard(sock: Socket) -> None:
    """Closes a socket that nobody will get."""
    try:
        sock.close()
    except OSError as error:
        log.warning("closing a connection that was not needed: %s", error)


class _Race:
    """Attempts of one call, each in a task. The caller's task starts them and waits for news of them."""

    __slots__ = (
        "_attempt",
        "_best",
        "_broken",
        "_candidates",
        "_delay",
        "_failures",
        "_group",
        "_news",
        "_seconds_min",
    )

    def __init__(self, candidates: Sequence[Resolved], attempt: Attempt, delay: float, seconds_min: float) -> None:
        self._candidates = candidates
        self._attempt = attempt
        self._delay = delay
        self._seconds_min = seconds_min
        self._group = TaskGroup()
        self._news = ParkingLot("an attempt to connect to succeed or fail")
        self._best: Socket | None = None
        self._failures: Failures = []
        #: what attempts raised that does not mean "this address cannot be connected to"
        self._broken: list[BaseException] = []

    def winner(self, worker: Worker, target: object) -> Socket:
        """Runs the race, to the end of its last task."""
        try:
            return self._outcome(worker, target)
        finally:
            self._failures.clear()  # their tracebacks lead back to this race

    def _outcome(self, worker: Worker, target: object) -> Socket:
        try:
            with self._group:
                self._start_all(worker)
                self._group.cancel("the race of attempts to connect is decided")
        except Cancelled as cancelled:
            self._give_up()
            if not self._broken:
                if self._failures:
                    cancelled.add_note(f"failed before that: {_told(None, self._failures)}")
                raise
        except BaseException:
            self._give_up()
            self._log_broken()
            raise
        if self._broken:
            self._give_up()
            self._raise_broken()
        if self._best is not None:
            return self._best
        raise failed(target, self._failures)

    def _start_all(self, worker: Worker) -> None:
        """Starts one attempt after the other, until the race is decided."""
        waiting = len(self._candidates)
        for candidate in self._candidates:
            worker.loop.checkpoint(worker)
            if self._decided():
                return
            waiting -= 1
            until = _share_end(now(), current_deadline(), waiting, self._seconds_min)
            self._group.spawn(self._try, candidate, until, name=f"connect to {_name(candidate)}")
            self._news.park(self._delay if waiting else None)
        while not self._decided():
            self._news.park()

    def _decided(self) -> bool:
        return self._best is not None or bool(self._broken) or len(self._failures) == len(self._candidates)

    def _try(self, candidate: Resolved, until: float) -> None:
        """The task of one attempt."""
        if self._decided():  # in the very turn in which this task was to begin
            return
        try:
            sock = _limited(self._attempt, candidate, until)
        except OSError as error:
            self._failures.append((candidate, error))
        except Exception as error:
            self._broken.append(error)
        except Cancelled as error:
            if self._group.cancelled:
                raise
            self._broken.append(error)  # of the attempt's own making: nobody else knows that it has ended
        else:
            if self._decided():
                _discard(sock)
                return
            self._best = sock
        self._news.wake_all()

    def _give_up(self) -> None:
        """Closes what was won, since something else is to be raised."""
        sock, self._best = self._best, None
        if sock is not None:
            _discard(sock)

    def _log_broken(self) -> None:
        for error in self._broken:
            log.error("an attempt to connect failed, and something else ends the call", exc_info=error)
        self._broken.clear()

    def _raise_broken(self) -> None:
        error = self._broken.pop(0)
        self._log_broken()
        try:
            raise error
        finally:
            del error  # its traceback has this frame


__all__ = ["ATTEMPT_DELAY_SECONDS", "ATTEMPT_SECONDS_MIN", "dial", "failed", "interleaved"]
