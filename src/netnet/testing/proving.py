"""What the conformance rules stand on: pairs that get closed, tasks that get ended, and the words of a failure.

A rule is a function that takes a ``Ground`` and says in its docstring what every socket must do. Here is how one is run;
the rules are in ``stream_rules`` and ``datagram_rules``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from netnet.errors import Cancelled
from netnet.runtime.api import spawn
from netnet.runtime.scope import Timeout, shield, timeout
from netnet.runtime.task import Task
from netnet.runtime.worker import current_worker
from netnet.testing.parked import wait_all_parked

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from _typeshed import ReadableBuffer, WriteableBuffer


class Receiver(Protocol):
    """What can be received from and closed."""

    def recv(self, bufsize: int, /) -> bytes: ...

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, /) -> int: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> object: ...


class Sender(Protocol):
    """What can be sent to and closed."""

    def send(self, data: ReadableBuffer, /) -> int: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> object: ...


class StreamSender(Sender, Protocol):
    """The sending end of a stream."""

    def sendall(self, data: ReadableBuffer, /) -> None: ...


class Stream(Receiver, StreamSender, Protocol):
    """An end of a stream that goes both ways."""


class HalfCloseableStream(Stream, Protocol):
    """An end of a stream whose directions end one by one."""

    def shutdown(self, how: int, /) -> None: ...


class Datagrams(Receiver, Sender, Protocol):
    """An end of a pair of connected datagram sockets."""


S = TypeVar("S")
R = TypeVar("R")
T = TypeVar("T")

#: how long cleaning up after a rule may take, in seconds
CLEAN_SECONDS: Final = 5.0

#: bytes in which every place looks different; the length is a prime, so that no power of two brings them round again
_PATTERN: Final = random.Random(7).randbytes(65521)


def pattern(start: int, count: int) -> bytes:
    """*count* bytes of an endless stream in which a lost, doubled or swapped piece shows, from place *start* on."""
    first = start % len(_PATTERN)
    return (_PATTERN[first:] + _PATTERN * (count // len(_PATTERN) + 1))[:count]


def check(fine: bool, what: str) -> None:
    """Raises ``AssertionError`` with *what* unless it is *fine*."""
    if not fine:
        raise AssertionError(what)


def raises(expected: type[BaseException], call: Callable[..., object], *args: object, what: str) -> BaseException:
    """The error that ``call(*args)`` raises, which must be an *expected* one. *what* names the call."""
    try:
        got = call(*args)
    except expected as error:
        return error
    except Exception as error:
        raise AssertionError(f"{what} raised {error!r}, not {expected.__name__}") from error
    raise AssertionError(f"{what} returned {short(got)}; it must raise {expected.__name__}")


def short(value: object) -> str:
    """*value* as text that fits in a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}... ({len(value) if isinstance(value, bytes) else 'long'})"


class Work(Generic[T]):
    """A call in a task of its own, whose outcome the rule asks for."""

    value: T

    def __init__(self, function: Callable[..., T], args: tuple[object, ...], what: str) -> None:
        self.what = what
        self.error: BaseException | None = None
        self.task: Task[None] = spawn(self._run, function, args, name=what)

    def _run(self, function: Callable[..., T], args: tuple[object, ...]) -> None:
        try:
            self.value = function(*args)
        except Cancelled as error:
            self.error = error
            raise
        except Exception as error:
            self.error = error

    @property
    def done(self) -> bool:
        return self.task.done

    def outcome(self) -> str:
        if not self.done:
            return f"{self.what} still waits"
        return f"{self.what} raised {self.error!r}" if self.error else f"{self.what} returned {short(self.value)}"

    def result(self) -> T:
        """Waits for the end; what it returned, which it has to."""
        self.task.join()
        if self.error is not None:
            raise AssertionError(f"{self.outcome()}; it must succeed") from self.error
        return self.value

    def must_wait(self) -> None:
        """Lets everything else run, and sees to it that the call still waits then."""
        wait_all_parked()
        check(not self.done, f"{self.outcome()}; it must wait")

    def must_have_raised(self, expected: type[BaseException]) -> BaseException:
        """Lets everything else run; the error that the call has raised by then, which must be an *expected* one."""
        wait_all_parked()
        check(self.done, f"{self.outcome()}; it must raise {expected.__name__}")
        check(isinstance(self.error, expected), f"{self.outcome()}; it must raise {expected.__name__}")
        assert self.error is not None
        return self.error


class Ground(Generic[S, R]):
    """Pairs and tasks for one rule. The pair's first end sends, the second receives."""

    def __init__(self, make_pair: Callable[[], tuple[S, R]]) -> None:
        self._make_pair = make_pair
        self._ends: list[Any] = []
        self.works: list[Work[Any]] = []

    def pair(self) -> tuple[S, R]:
        """A fresh pair, closed after the rule."""
        pair = self._make_pair()
        self._ends += pair
        return pair

    def start(self, function: Callable[..., T], /, *args: object, what: str) -> Work[T]:
        """Calls *function* in a task, which is ended after the rule. *what* names the call in messages."""
        work = Work(function, args, what)
        self.works.append(work)
        return work

    def close(self) -> None:
        """Closes the ends, and ends the tasks. Raises ``AssertionError`` for one that does not end."""
        with shield():
            for end in self._ends:
                try:
                    end.close()
                except Exception as error:
                    raise AssertionError(f"close(), which may come after close(), raised {error!r}") from error
            for work in self.works:
                work.task.cancel("the rule is through")
            with timeout(CLEAN_SECONDS) as limit:
                try:
                    for work in self.works:
                        work.task.join()
                except Cancelled:
                    if not limit.expired():
                        raise
            left = [work.outcome() for work in self.works if not work.done]
        check(not left, f"after closing and cancelling, {', '.join(left)}")


Rule = Callable[[Ground[Any, Any]], None]


def prove(
    rules: Iterable[Rule], make_pair: Callable[[], tuple[Any, Any]], limit_seconds: float, where: str = ""
) -> None:
    """Holds the pairs that *make_pair* makes against each of the *rules*. *where* goes into the messages."""
    current_worker()  # or a UsageError that says what to do
    for rule in rules:
        _prove_one(rule, make_pair, limit_seconds, where)


def _prove_one(rule: Rule, make_pair: Callable[[], tuple[Any, Any]], limit_seconds: float, where: str) -> None:
    ground: Ground[Any, Any] = Ground(make_pair)
    head = f"{rule.__name__}{where}: {(rule.__doc__ or '').strip()}\n  but "
    limit = timeout(limit_seconds)
    waiting: list[str] = []
    broken: Exception | None = None
    try:
        with limit:
            try:
                rule(ground)
            except Exception as error:
                broken = error
            finally:
                waiting = [work.outcome() for work in ground.works if not work.done]
                ground.close()
    except Exception as error:
        if broken is None:  # what came first tells more
            broken = error
    if broken is not None:
        raise AssertionError(head + _told(broken, limit, limit_seconds, waiting)) from broken


def _told(error: Exception, limit: Timeout, seconds: float, waiting: list[str]) -> str:
    """What went wrong, in words."""
    if limit.expired() and isinstance(error, TimeoutError):
        return f"this was not through after {seconds:g} s" + (f": {', '.join(waiting)}" if waiting else "")
    return str(error) if isinstance(error, AssertionError) else f"{type(error).__name__} was raised: {error}"


def chosen(rules: Iterable[Rule], without: Collection[str], known: Iterable[Rule]) -> list[Rule]:
    """The *rules* whose names are not in *without*. Raises ``ValueError`` for a name that none of the *known* has."""
    unknown = set(without) - {rule.__name__ for rule in known}
    if unknown:
        raise ValueError(f"no such rules: {', '.join(sorted(unknown))}")
    return [rule for rule in rules if rule.__name__ not in without]
