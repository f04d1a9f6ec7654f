"""Suites that every stream and every pair of datagram sockets must pass, for those who write one.

A stream of your own, one that encrypts, compresses or counts, is a netnet stream when it passes ``check_stream``: it
waits, ends, closes and is cancelled as a ``Socket`` does. Call a suite in a test, inside ``netnet.run``, with a function
that makes a connected pair::

    def test_my_stream():
        netnet.run(check_stream, make_pair, clock=VirtualClock())

The suites call the function once or more for each rule and close what it made. They raise ``AssertionError`` that names
the rule that was broken, in words, and how. A rule that is not through after *limit_seconds* is broken, too; these are
seconds of the run's clock. The rules stand in ``stream_rules`` and ``datagram_rules``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

from netnet.testing.datagram_rules import DATAGRAMS
from netnet.testing.proving import Datagrams, HalfCloseableStream, Receiver, Stream, StreamSender, chosen, prove
from netnet.testing.stream_rules import BOTH_WAYS, HALF_CLOSE, ONE_WAY

#: how long one rule may take; a rule that moves its data byte by byte takes a second or two
LIMIT_SECONDS = 30.0

S = TypeVar("S", bound=StreamSender)
R = TypeVar("R", bound=Receiver)
Both = TypeVar("Both", bound=Stream)
Half = TypeVar("Half", bound=HalfCloseableStream)
D = TypeVar("D", bound=Datagrams)


def check_one_way_stream(
    make_pair: Callable[[], tuple[S, R]], *, without: Collection[str] = (), limit_seconds: float = LIMIT_SECONDS
) -> None:
    """Holds a stream that goes one way against every rule for its data, its end, closing and cancellation.

    *make_pair* returns (sender, receiver), connected: the sender has ``send``, ``sendall`` and ``close``, the receiver
    ``recv``, ``recv_into``, iteration and ``close``; both work in ``with``. *without*: names of rules to leave out.
    Switches tasks. Raises ``AssertionError``, ``ValueError`` for an unknown name, ``UsageError`` outside a task.
    """
    prove(chosen(ONE_WAY, without, ONE_WAY), make_pair, limit_seconds)


def check_stream(
    make_pair: Callable[[], tuple[Both, Both]], *, without: Collection[str] = (), limit_seconds: float = LIMIT_SECONDS
) -> None:
    """Holds a stream that goes both ways against the rules of ``check_one_way_stream``, in each direction, and more.

    That is: both ways at once, questions and answers, and closing and cancelling with a reader and a writer. *make_pair*
    returns the two ends. Everything else as there.
    """
    _check_both_ways(make_pair, without, limit_seconds, (*ONE_WAY, *BOTH_WAYS))


def check_half_closeable_stream(
    make_pair: Callable[[], tuple[Half, Half]], *, without: Collection[str] = (), limit_seconds: float = LIMIT_SECONDS
) -> None:
    """Holds a stream that can end one direction against the rules of ``check_stream``, and those of ``shutdown``.

    *make_pair* returns the two ends. Everything else as there.
    """
    known = (*ONE_WAY, *BOTH_WAYS, *HALF_CLOSE)
    _check_both_ways(make_pair, without, limit_seconds, known)
    prove(chosen(HALF_CLOSE, without, known), make_pair, limit_seconds)


def _check_both_ways(
    make_pair: Callable[[], tuple[Both, Both]],
    without: Collection[str],
    limit_seconds: float,
    known: tuple[Callable[..., None], ...],
) -> None:
    def turned() -> tuple[Both, Both]:
        one, other = make_pair()
        return other, one

    for make, where in (
        (make_pair, " (from the first end to the second)"),
        (turned, " (from the second to the first)"),
    ):
        prove(chosen(ONE_WAY, without, known), make, limit_seconds, where)
    prove(chosen(BOTH_WAYS, without, known), make_pair, limit_seconds)


def check_datagrams(
    make_pair: Callable[[], tuple[D, D]], *, without: Collection[str] = (), limit_seconds: float = LIMIT_SECONDS
) -> None:
    """Holds a pair of connected datagram sockets against every rule for boundaries, order, closing and cancellation.

    *make_pair* returns the two ends, which have ``send``, ``recv``, ``recv_into`` and ``close``, and work in ``with``.
    The pair must not lose anything while few datagrams are under way. *without*: names of rules to leave out. Switches
    tasks. Raises ``AssertionError``, ``ValueError`` for an unknown name, ``UsageError`` outside a task.
    """
    prove(chosen(DATAGRAMS, without, DATAGRAMS), make_pair, limit_seconds)
