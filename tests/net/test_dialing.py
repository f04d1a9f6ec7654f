"""Dialing: the order of addresses, who wins a race and at what instant, what is told when nobody does, and that nothing is
left of the others, whatever strikes in the middle. Attempts are scripted, on the virtual clock; at the end real sockets.

Every attempt hands out a real socket, and each test accounts for all of them."""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import math
import os
import select
import signal
import socket
import threading
import traceback
import weakref
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import netnet
from netnet.net import dialing
from netnet.net.dialing import dial, failed, interleaved
from netnet.net.resolve import Resolved
from netnet.net.sockets import Socket
from netnet.runtime.worker import current_worker, worker_or_none
from netnet.testing import VirtualClock

#: how long Linux tries to connect to an address that never answers, with tcp_syn_retries as it is by default
HANG_SECONDS = 127.0


def v6(number, port=80):
    return Resolved(socket.AF_INET6, (f"2001:db8::{number}", port, 0, 0))


def v4(number, port=80):
    return Resolved(socket.AF_INET, (f"192.0.2.{number}", port))


#: six candidates as ``interleaved`` returns them
CANDIDATES = [v6(1), v4(2), v6(3), v4(4), v6(5), v4(6)]


# -- scripts


@dataclass(frozen=True)
class Step:
    """What one attempt does: waits, then succeeds (no error) or fails; when cancelled it cleans up for a time first.

    A stubborn one returns a socket although it was cancelled."""

    seconds: float
    error: BaseException | None = None
    cleanup: float = 0.0
    stubborn: bool = False


def ok(seconds=0.0, **more):
    return Step(seconds, **more)


def no(seconds=0.0, number=errno.ECONNREFUSED, **more):
    return Step(seconds, OSError(number, os.strerror(number)), **more)


def hang(**more):
    return no(HANG_SECONDS, errno.ETIMEDOUT, **more)


def bad(seconds, error, **more):
    return Step(seconds, error, **more)


@dataclass
class Script:
    """Attempts that do what the steps say, and the record of what became of them."""

    steps: list
    starts: list = field(default_factory=list)
    cancelled: list = field(default_factory=list)
    sockets: dict = field(default_factory=dict)

    @property
    def candidates(self):
        return CANDIDATES[: len(self.steps)]

    def attempt(self, candidate):
        index = CANDIDATES.index(candidate)
        step = self.steps[index]
        self.starts.append((index, now()))
        try:
            if step.seconds:
                netnet.sleep(step.seconds)
        except netnet.Cancelled:
            self.cancelled.append(index)
            if step.cleanup:
                with netnet.shield():
                    netnet.sleep(step.cleanup)
            if not step.stubborn:
                raise
        else:
            if step.error is not None:
                raise step.error
        sock = self.sockets[index] = Socket(candidate.family, socket.SOCK_STREAM)
        return sock

    def dial(self, **more):
        return dial(self.candidates, self.attempt, **more)

    def open(self):
        """Of which attempts the sockets are open."""
        return [index for index, sock in self.sockets.items() if sock.fileno() >= 0]

    def close(self):
        for sock in self.sockets.values():
            sock.close()


def now():
    return round(netnet.now(), 9)


def virtually(main, *args):
    return netnet.run(main, *args, clock=VirtualClock())


def raced(*steps, limit=None, **more):
    """Plays a script under a time limit; returns it, what was raised (or None), and when."""
    script = Script(list(steps))

    def main():
        caught = None
        sock = None
        try:
            with netnet.timeout(limit):
                sock = script.dial(**more)
        except BaseException as error:
            caught = error
        assert current_worker().loop.tasks() == [netnet.current_task()]
        assert script.open() == [index for index, one in script.sockets.items() if one is sock]
        assert (sock is None) == (caught is not None)
        return caught, now()

    try:
        caught, ended = virtually(main)
        return script, caught, ended
    finally:
        script.winner = script.open()
        script.close()


# -- the order of the addresses


A, B, C, D = v6(1), v6(2), v6(3), v6(4)
a, b, c, d = v4(1), v4(2), v4(3), v4(4)
OTHER = Resolved(99, ("other", 1))

ORDERS = {
    "nothing": ([], 1, []),
    "one": ([a], 1, [a]),
    "one family": ([C, A, B], 1, [C, A, B]),
    "two, alternating already": ([A, a, B, b], 1, [A, a, B, b]),
    "IPv6 before IPv4": ([A, B, C, a, b, c], 1, [A, a, B, b, C, c]),
    "IPv4 before IPv6": ([a, b, A, B], 1, [a, A, b, B]),
    "the first family is shorter": ([A, a, b, c, d], 1, [A, a, b, c, d]),
    "the other family is shorter": ([A, B, C, D, a], 1, [A, a, B, C, D]),
    "the resolver's order inside each family": ([b, D, A, a, C], 1, [b, D, a, A, C]),
    "two of the first family": ([A, B, C, D, a, b], 2, [A, B, a, C, b, D]),
    "all of the first family": ([A, a, B, b], 9, [A, B, a, b]),
    "three families": ([A, a, OTHER, B, b, C], 1, [A, a, OTHER, B, b, C]),
    "doubles": ([A, A, a, A, B, a], 1, [A, a, B]),
    "doubles of a host with two protocols": ([a, a, a], 1, [a]),
    "another port is another address": ([v4(1), v4(1, 81)], 1, [v4(1), v4(1, 81)]),
}


@pytest.mark.parametrize(("given_", "count", "expected"), ORDERS.values(), ids=ORDERS)
def test_order(given_, count, expected):
    assert interleaved(given_, count) == expected
    assert interleaved(tuple(given_), first_family_count=count) == expected


@pytest.mark.parametrize("count", [0, -1])
def test_order_needs_an_address_of_the_first_family(count):
    with pytest.raises(ValueError, match=f"1 or more addresses in a row, not {count}"):
        interleaved([A], count)


@given(st.lists(st.sampled_from([A, B, C, D, a, b, c, d])), st.integers(1, 5))
def test_order_rules(candidates, count):
    """RFC 8305, section 4: nothing is lost or doubled; families keep their order, and take turns while there are two."""
    order = interleaved(candidates, count)
    assert len(order) == len(set(order))
    assert set(order) == set(candidates)
    for family in (socket.AF_INET, socket.AF_INET6):
        kept = [one for one in order if one.family == family]
        assert kept == [one for one in dict.fromkeys(candidates) if one.family == family]
    families = [one.family for one in order]
    if order:
        firsts = families.count(candidates[0].family)
        assert families[: min(count, firsts)] == [candidates[0].family] * min(count, firsts)
        mixed = families[min(count, firsts) - 1 :]
        both = 2 * min(firsts - min(count, firsts), len(families) - firsts)
        assert all(one != other for one, other in pairwise(mixed[:both]))


# -- who wins, and when


#: steps → the starts, the winner, when it is decided
WINS = {
    "the first, at once": ([ok(), ok()], [(0, 0)], 0, 0),
    "the first, before the delay is over": ([ok(0.2), ok()], [(0, 0)], 0, 0.2),
    "the second, after a refusal at once": ([no(), ok()], [(0, 0), (1, 0)], 1, 0),
    "the second, after a refusal": ([no(0.1), ok(0.1)], [(0, 0), (1, 0.1)], 1, 0.2),
    "the second, while the first hangs": ([hang(), ok(0.05)], [(0, 0), (1, 0.25)], 1, 0.3),
    "the first, slow, after the second started": ([ok(0.3), ok(0.1)], [(0, 0), (1, 0.25)], 0, 0.3),
    "the second, which overtakes": ([ok(0.4), ok(0.1)], [(0, 0), (1, 0.25)], 1, 0.35),
    "IPv6 is a black hole": ([hang(), ok(0.03), hang(), ok(0.03)], [(0, 0), (1, 0.25)], 1, 0.28),
    "the last": (
        [hang(), no(0.25 - 2**-7), hang(), ok(0.5)],
        [(0, 0), (1, 0.25), (2, 0.5 - 2**-7), (3, 0.75 - 2**-7)],
        3,
        1.25 - 2**-7,
    ),
    "the last, all others refused at once": ([no()] * 5 + [ok(1)], [(index, 0) for index in range(6)], 5, 1),
    "the last, all others hang": ([hang()] * 5 + [ok(1)], [(index, index / 4) for index in range(6)], 5, 2.25),
    "a failure that is not the latest's starts the next": (
        [no(0.3), hang(), ok(0.1)],
        [(0, 0), (1, 0.25), (2, 0.3)],
        2,
        0.4,
    ),
    "the delay counts from the last start": (
        [no(0.125), hang(), ok(0.125)],
        [(0, 0), (1, 0.125), (2, 0.375)],
        2,
        0.5,
    ),
    "a slow one wins long after all have started": (
        [ok(5), no(1), hang(), no(2)],
        [(0, 0), (1, 0.25), (2, 0.5), (3, 0.75)],
        0,
        5,
    ),
    "a tie goes to the earlier": ([ok(0.5), ok(0.25)], [(0, 0), (1, 0.25)], 0, 0.5),
    "a tie of success and failure": ([no(0.5), ok(0.25), ok()], [(0, 0), (1, 0.25)], 1, 0.5),
    "a tie of a failure and the delay": (
        [no(0.25), ok(0.1), ok(0.05)],
        [(0, 0), (1, 0.25), (2, 0.25)],
        2,
        0.3,
    ),
    "a tie of two failures starts one": (
        [no(0.375), no(0.125), hang(), ok(0.25)],
        [(0, 0), (1, 0.25), (2, 0.375), (3, 0.625)],
        3,
        0.875,
    ),
    "a tie of the first's success and the delay": ([ok(0.25), ok(1)], [(0, 0)], 0, 0.25),
    "losers clean up first": ([hang(cleanup=1), ok(0.05)], [(0, 0), (1, 0.25)], 1, 1.3),
    "losers clean up side by side": (
        [hang(cleanup=1), hang(cleanup=2), ok(0.25)],
        [(0, 0), (1, 0.25), (2, 0.5)],
        2,
        2.75,
    ),
    "a loser that succeeds nevertheless": ([hang(stubborn=True), ok(0.05)], [(0, 0), (1, 0.25)], 1, 0.3),
    "losers that succeed later": (
        [hang(stubborn=True, cleanup=1), hang(stubborn=True, cleanup=3), ok(0.5)],
        [(0, 0), (1, 0.25), (2, 0.5)],
        2,
        4,
    ),
}


@pytest.mark.parametrize(("steps", "starts", "winner", "ended"), WINS.values(), ids=WINS)
def test_wins(steps, starts, winner, ended):
    script, caught, when = raced(*steps)
    assert caught is None
    assert script.winner == [winner]
    assert (script.starts[: len(starts)], when) == (starts, ended)
    # in a tie with the winner an attempt may have been about to begin; then it has had no time
    assert [instant for _, instant in script.starts[len(starts) :]] == []
    assert set(script.cancelled) <= {index for index, _ in starts} - {winner}


@pytest.mark.parametrize("delay", [0.01, 0.1, 0.25, 1, 2])
def test_the_delay_is_as_told(delay):
    script, caught, when = raced(hang(), hang(), ok(5), attempt_delay_seconds=delay)
    assert [instant for _, instant in script.starts] == pytest.approx([0, delay, 2 * delay])
    assert when == pytest.approx(2 * delay + 5)


@pytest.mark.parametrize("delay", [0, 0.0099, -1, 2.001, math.inf, math.nan])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_delays_that_the_rfc_forbids(delay, count):
    with pytest.raises(ValueError, match=r"from 0\.01 to 2 seconds \(RFC 8305, section 8\), not"):
        dial(CANDIDATES[:count], pytest.fail, attempt_delay_seconds=delay)


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan])
def test_shares_must_be_times(seconds):
    with pytest.raises(ValueError, match="seconds"):
        dial(CANDIDATES, pytest.fail, attempt_seconds_min=seconds)


# -- one candidate, none, and outside a loop


def test_a_single_candidate_is_tried_in_the_calling_task(run):
    def main():
        task = netnet.current_task()
        seen = []

        def attempt(candidate):
            seen.append((candidate, netnet.current_task() is task))
            return Socket()

        dial([a], attempt).close()
        assert seen == [(a, True)]

    run(main)


@pytest.mark.parametrize("loop", [True, False])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), ValueError("x"), netnet.Cancelled("mine")])
def test_a_single_candidate_fails_in_any_way(loop, error):
    def main():
        with pytest.raises(type(error)) as caught:
            raise_from(error)
        assert caught.value is error

    def raise_from(error):
        def attempt(candidate):
            raise error

        dial([a], attempt)

    virtually(main) if loop else main()


def test_a_single_candidate_has_all_the_time():
    script, caught, when = raced(ok(9), limit=10)
    assert (script.winner, when) == ([0], 9)
    script, caught, when = raced(hang(), limit=10)
    assert (str(caught), when) == ("the time limit of 10 s was reached", 10)


@pytest.mark.parametrize("loop", [True, False])
def test_no_candidate(loop):
    def main():
        with pytest.raises(OSError, match="connect to some.name:80: the name has no address") as caught:
            dial([], pytest.fail, target="some.name:80")
        assert caught.value.errno == errno.EADDRNOTAVAIL
        assert caught.value.failures == []

    virtually(main) if loop else main()


@pytest.mark.parametrize("thread", [True, False])
def test_outside_a_loop_one_after_the_other(thread):
    errors = []

    def main():
        try:
            script = Script([no(), no(), ok(), ok()])
            sock = script.dial()
            assert [index for index, _ in script.starts] == [0, 1, 2]
            assert script.open() == [2]
            assert worker_or_none() is None
            sock.close()
            script = Script([no(), no(0, errno.EHOSTUNREACH)])
            with pytest.raises(ConnectionRefusedError) as caught:
                script.dial(target="some.name:80")
            assert [candidate for candidate, _ in caught.value.failures] == script.candidates
        except BaseException as error:
            errors.append(error)

    if thread:
        other = threading.Thread(target=main)
        other.start()
        other.join(20)
    else:
        main()
    assert errors == []


# -- nobody wins


#: steps → the starts, the class, whose failures in which order, when it is decided
LOSSES = {
    "all refused at once": ([no()] * 4, [(index, 0) for index in range(4)], ConnectionRefusedError, [0, 1, 2, 3], 0),
    "refused in turn": ([no(0.1), no(0.1)], [(0, 0), (1, 0.1)], ConnectionRefusedError, [0, 1], 0.2),
    "the first failure is the first to be told": (
        [no(1, errno.EHOSTUNREACH), no(0.1), no(0.1)],
        [(0, 0), (1, 0.25), (2, 0.35)],
        ConnectionRefusedError,
        [1, 2, 0],
        1,
    ),
    "all hang": (
        [hang(), hang(), no(0.5, errno.ENETUNREACH)],
        [(0, 0), (1, 0.25), (2, 0.5)],
        OSError,
        [2, 0, 1],
        127.25,
    ),
    "both fail in the same turn": ([no(0.5), no(0.25)], [(0, 0), (1, 0.25)], ConnectionRefusedError, [0, 1], 0.5),
}


@pytest.mark.parametrize(("steps", "starts", "kind", "order", "ended"), LOSSES.values(), ids=LOSSES)
def test_losses(steps, starts, kind, order, ended):
    script, caught, when = raced(*steps, target="some.name:80")
    assert type(caught) is kind
    assert (script.starts, when) == (starts, ended)
    assert caught.failures == [(CANDIDATES[index], steps[index].error) for index in order]
    assert caught.errno == steps[order[0]].error.errno
    assert script.cancelled == []


# -- time limits


#: limit, least share, steps → the starts, the winner or the caught message, when
LIMITS = {
    "a fair share of two": (10, 2, [hang(), ok(6)], [0, 0.25], "wins 1", 6.25),
    "the share is used up": (10, 2, [no(5.5), hang(), ok(0.5)], [0, 0.25, 0.5], "wins 2", 1),
    "the last has all that remains": (3, 2, [hang(), hang()], [0, 0.25], "the time limit of 3 s was reached", 3),
    "the whole is less than a share": (1, 2, [hang(), hang()], [0, 0.25], "the time limit of 1 s was reached", 1),
    "the whole is a share": (2, 2, [ok(1.9), hang()], [0, 0.25], "wins 0", 1.9),
    "no time at all": (0, 2, [hang(), hang()], [], "the time limit of 0 s was reached", 0),
    "less than no time": (-1, 2, [hang(), hang()], [], "the time limit of -1 s was reached", 0),
    "shares off": (10, math.inf, [ok(9), hang()], [0, 0.25], "wins 0", 9),
    "no least share": (1, 0, [ok(0.6), ok(0.7)], [0, 0.25], "wins 1", 0.95),
    "a failed share starts the next": (
        0.3,
        0,
        [hang(), hang(), ok(0.01)],
        [0, 0.1, 0.2],
        "wins 2",
        0.21,
    ),
    "in time": (10, 2, [hang(), ok(1)], [0, 0.25], "wins 1", 1.25),
    "cleaning up goes beyond the limit": (
        1,
        2,
        [hang(cleanup=5), ok(0.5)],
        [0, 0.25],
        "the time limit of 1 s was reached",
        5.75,
    ),
}


@pytest.mark.parametrize(("limit", "least", "steps", "starts", "outcome", "ended"), LIMITS.values(), ids=LIMITS)
def test_time_limits(limit, least, steps, starts, outcome, ended):
    script, caught, when = raced(*steps, limit=limit, attempt_seconds_min=least)
    assert ([instant for _, instant in script.starts], when) == (starts, pytest.approx(ended))
    if outcome.startswith("wins"):
        assert caught is None
        assert script.winner == [int(outcome[5:])]
    else:
        assert type(caught) is TimeoutError
        assert str(caught) == outcome


def test_who_is_out_of_its_share_has_failed():
    script, caught, when = raced(hang(), hang(), no(1), limit=12, target="some.name:80")
    assert when == 6.125  # (12 - 0.25) / 2 + 0.25; the first had 12 / 3
    assert type(caught) is ConnectionRefusedError
    assert [candidate for candidate, _ in caught.failures] == [CANDIDATES[index] for index in (2, 0, 1)]
    for (_, error), name, share in zip(
        caught.failures[1:], ("[2001:db8::1]:80", "192.0.2.2:80"), ("4", "5.875"), strict=True
    ):
        assert type(error) is TimeoutError
        assert error.errno == errno.ETIMEDOUT
        assert error.strerror == f"{name}: no connection within {share} s, its share of the time limit"
        assert str(caught).count(name) == 1


def test_when_all_run_out_of_their_shares_the_call_has_timed_out():
    script, caught, when = raced(hang(), no(0, errno.ETIMEDOUT), limit=20)
    assert when == 10
    assert type(caught) is TimeoutError
    assert caught.errno == errno.ETIMEDOUT
    assert len(caught.failures) == 2


def test_a_time_out_of_the_attempts_own_is_told_as_it_is():
    own = TimeoutError("handshake timed out")
    script, caught, when = raced(Step(1, own), no(), limit=100)
    assert (CANDIDATES[0], own) in caught.failures


def test_an_inner_time_out_of_the_attempt_fails_it():
    def main():
        def attempt(candidate):
            with netnet.timeout(1):
                netnet.sleep(5)

        with netnet.timeout(100), pytest.raises(TimeoutError, match="the time limit of 1 s was reached") as caught:
            dial(CANDIDATES[:2], attempt)
        assert len(caught.value.failures) == 2
        assert netnet.now() == 1.25

    virtually(main)


def test_the_nearest_limit_counts_and_none_from_beyond_a_shield():
    def main():
        script = Script([hang(), ok(5)])
        with netnet.timeout(100), netnet.timeout(8), netnet.timeout(50):
            script.dial().close()
        assert (netnet.now(), script.cancelled) == (5.25, [0])  # out of its share of 4 s, not a loser at the end
        script = Script([ok(60), hang()])
        with netnet.timeout(100), netnet.shield():
            script.dial().close()
        assert (now(), script.cancelled) == (65.25, [1])

    virtually(main)


def test_a_success_after_the_share_is_a_success():
    """An attempt that gets its socket nevertheless is no failure; nobody else has one."""
    script, caught, when = raced(hang(stubborn=True, cleanup=0.5), hang(), limit=10)
    assert (script.winner, when) == ([0], 5.5)


def test_what_had_failed_is_told_with_the_time_out():
    script, caught, when = raced(no(0.1), hang(), limit=3)
    assert type(caught) is TimeoutError
    assert isinstance(caught.__cause__, netnet.Cancelled)
    told = "".join(traceback.format_exception(caught))
    assert told.count("failed before that: [2001:db8::1]:80: Connection refused") == 1


# -- cancelled in the middle


@pytest.mark.parametrize("instant", [0, 0.1, 0.25, 0.3, 0.5, 3])
@pytest.mark.parametrize("stubborn", [False, True])
@pytest.mark.parametrize("cleanup", [0, 2])
def test_cancelled_in_the_middle(instant, stubborn, cleanup):
    script = Script([hang(stubborn=stubborn, cleanup=cleanup) for _ in range(4)])

    def main():
        with netnet.CancelScope() as scope:

            def strike():
                netnet.sleep(instant)
                scope.cancel("enough")

            netnet.spawn(strike)
            with pytest.raises(netnet.Cancelled, match="enough"):
                script.dial()
            assert current_worker().loop.tasks() == [netnet.current_task()]
            with pytest.raises(netnet.Cancelled):  # it stays so until the scope is left
                netnet.sleep(0)
        begun = [index for index, _ in script.starts]
        assert sorted(script.cancelled) == begun
        assert len(begun) >= min(4, int(instant * 4))
        assert now() == instant + cleanup
        assert script.open() == []

    virtually(main)


def test_cancelled_before_it_begins():
    script = Script([ok(), ok()])

    def main():
        with netnet.CancelScope() as scope:
            scope.cancel()
            script.dial()
        assert script.starts == []

    virtually(main)


@pytest.mark.parametrize("first", ["the winner", "the end"])
def test_cancelled_in_the_turn_in_which_one_wins(first):
    """Whichever comes first, it is Cancelled, since that is what the caller is; and what was won is closed."""
    script = Script([hang(), ok(0.25)])

    def main():
        with netnet.CancelScope() as scope:

            def strike():
                if first == "the winner":
                    netnet.sleep(0.375)
                    netnet.sleep(0.125)  # its timer is set after the winner's, for the same instant
                else:
                    netnet.sleep(0.5)
                scope.cancel()

            netnet.spawn(strike)
            script.dial()
            pytest.fail("it was cancelled")
        assert now() == 0.5
        assert list(script.sockets) == [1]  # also where it was cancelled first: it was through with waiting
        assert script.open() == []

    virtually(main)


def test_one_is_cancelled_while_others_dial():
    scripts = [Script([hang(), ok(1)]) for _ in range(3)]

    def main():
        tasks = [netnet.spawn(script.dial) for script in scripts]
        netnet.sleep(1)
        tasks[1].cancel()
        tasks[0].result().close()
        tasks[2].result().close()
        with pytest.raises(netnet.TaskCancelledError):
            tasks[1].result()
        assert now() == 1.25
        assert [script.open() for script in scripts] == [[], [], []]

    virtually(main)


# -- errors that mean no "this address cannot be connected to"


class Surprise(Exception):
    pass


SURPRISES = [KeyboardInterrupt(), SystemExit(3), Surprise("x"), ExceptionGroup("two", [Surprise(), OSError()])]


@pytest.mark.parametrize("error", SURPRISES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("cleanup", [0, 2])
@pytest.mark.parametrize("stubborn", [False, True])
def test_other_errors_end_the_race(error, cleanup, stubborn):
    script, caught, when = raced(hang(cleanup=cleanup, stubborn=stubborn), bad(0.375, error), hang(), hang())
    assert caught is error
    assert script.starts == [(0, 0), (1, 0.25), (2, 0.5)]
    assert sorted(script.cancelled) == [0, 2]
    assert when == 0.625 + cleanup


@pytest.mark.parametrize("error", SURPRISES, ids=lambda error: type(error).__name__)
def test_other_errors_after_the_winner_close_its_socket(error):
    script, caught, when = raced(ok(0.5), bad(0.25, error))  # in the same turn, the winner first
    assert caught is error
    assert (list(script.sockets), when) == ([0], 0.5)


@pytest.mark.parametrize("error", SURPRISES, ids=lambda error: type(error).__name__)
def test_other_errors_before_a_success_in_the_same_turn(error):
    script, caught, when = raced(bad(0.5, error), ok(0.25))
    assert caught is error
    assert when == 0.5


def test_every_surprise_is_told_once(caplog):
    one, other = Surprise("one"), Surprise("other")
    script, caught, when = raced(bad(0.5, one), bad(0.25, other))
    assert caught is one
    assert [record.exc_info[1] for record in caplog.records] == [other]
    caplog.clear()
    script, caught, when = raced(bad(0.5, one), bad(0.25, KeyboardInterrupt("two")))
    assert type(caught) is KeyboardInterrupt
    assert [record.exc_info[1] for record in caplog.records] == [one]


def test_a_surprise_beats_the_time_limit():
    error = Surprise()

    def main():
        def attempt(candidate):
            try:
                netnet.sleep(50)
            except netnet.Cancelled:
                raise error from None

        with pytest.raises(Surprise) as caught, netnet.timeout(1):
            dial(CANDIDATES[:2], attempt, attempt_seconds_min=5)
        assert caught.value is error

    virtually(main)


def test_an_attempt_that_is_cancelled_by_itself_ends_the_race():
    """Nobody else would ever learn that it has ended."""
    ended = []

    def main():
        def attempt(candidate):
            if candidate == CANDIDATES[1]:
                netnet.current_task().cancel("by itself")
            try:
                netnet.sleep(50)
            finally:
                ended.append(candidate)

        with pytest.raises(netnet.Cancelled, match="by itself"):
            dial(CANDIDATES, attempt)
        assert now() == 0.25
        assert ended == [CANDIDATES[1], CANDIDATES[0]]
        netnet.sleep(1)  # nothing is cancelled here

    virtually(main)


def test_ctrl_c_ends_the_race():
    script = Script([hang(cleanup=1), hang(stubborn=True), ok(5)])

    def main():
        def strike():
            netnet.sleep(2)
            os.kill(os.getpid(), signal.SIGINT)

        netnet.spawn(strike)
        try:
            script.dial()
        finally:
            ended.append(now())

    ended = []
    with pytest.raises(KeyboardInterrupt):
        virtually(main)
    assert ended == [3]
    assert sorted(script.cancelled) == [0, 1, 2]
    assert script.open() == []


def test_a_failure_to_close_is_logged_and_spoils_nothing(caplog):
    class Stuck(Socket):
        def close(self):
            super().close()
            raise OSError(errno.EIO, "stuck")

    def main():
        made = []

        def attempt(candidate):
            sock = (Socket, Stuck)[candidate == CANDIDATES[1]]()
            made.append(sock)
            netnet.sleep(0.5 if candidate == CANDIDATES[0] else 0.25)
            return sock

        sock = dial(CANDIDATES[:2], attempt)
        assert sock is made[0]
        assert made[1].fileno() < 0
        sock.close()

    with caplog.at_level(logging.WARNING):
        virtually(main)
    assert "stuck" in caplog.text


# -- the error


class Own(OSError):
    pass


class Strict(OSError):
    def __init__(self, number, place, time):
        super().__init__(number, f"{place} at {time}")


class Stricter(ConnectionResetError):
    def __new__(cls, place):
        return super().__new__(cls, errno.ECONNRESET, place)

    def __init__(self, place):
        super().__init__(errno.ECONNRESET, place)


#: the first failure → the class, the number, and what is told
KINDS = {
    "refused": (no().error, ConnectionRefusedError, errno.ECONNREFUSED, "Connection refused"),
    "timed out": (TimeoutError("timed out"), TimeoutError, None, "timed out"),
    "no class of its own": (OSError(errno.EHOSTUNREACH, "No route"), OSError, errno.EHOSTUNREACH, "No route"),
    "a name": (socket.gaierror(-2, "not known"), socket.gaierror, -2, "not known"),
    "a class of the program": (Own(errno.EPIPE, "own"), Own, errno.EPIPE, "own"),
    "without a number": (Own("own"), Own, None, "own"),
    "without anything": (ConnectionError(), ConnectionError, None, "ConnectionError"),
    "takes other arguments": (Strict(errno.ECONNREFUSED, "a", "b"), ConnectionRefusedError, 111, "a at b"),
    "made in another way": (Stricter("a"), ConnectionResetError, errno.ECONNRESET, "a"),
    "closed": (netnet.ClosedError(), OSError, errno.EBADF, "the socket is closed"),
}


@pytest.mark.parametrize(("first", "kind", "number", "told"), KINDS.values(), ids=KINDS)
def test_the_error_is_of_the_first_failures_kind(first, kind, number, told):
    second = OSError(errno.ENETUNREACH, "Network is unreachable")
    error = failed("some.name:80", [(A, first), (a, second)])
    assert (type(error), error.errno) == (kind, number)
    message = error.strerror or str(error)
    assert message == (f"connect to some.name:80: [2001:db8::1]:80: {told}; 192.0.2.1:80: Network is unreachable")
    assert error.failures == [(A, first), (a, second)]


@pytest.mark.parametrize(
    ("target", "failures", "message"),
    [
        (netnet.InetAddress("192.0.2.1", 80), [(a, no().error)], "connect to 192.0.2.1:80: Connection refused"),
        (netnet.InetAddress("::1", 80), [(A, no().error)], "connect to [::1]:80: [2001:db8::1]:80: Connection refused"),
        ("unix:/x", [(None, no().error)], "connect to unix:/x: Connection refused"),
        (None, [(a, no().error)], "connect: 192.0.2.1:80: Connection refused"),
        (None, [(a, OSError(5, "192.0.2.1:80: twice"))], "connect: 192.0.2.1:80: twice"),
        (None, [(Resolved(10, ("fe80::1", 80, 0, 3)), no().error)], "connect: [fe80::1%3]:80: Connection refused"),
        (None, [(Resolved(2, ("a.name", 80)), no().error)], "connect: ('a.name', 80): Connection refused"),
        ("x:1", [], "connect to x:1: the name has no address"),
    ],
)
def test_messages(target, failures, message):
    error = failed(target, failures)
    assert error.strerror == message
    assert error.failures == failures


@pytest.mark.parametrize("loop", [True, False])
def test_a_traceback_tells_each_failure_once(loop):
    def main():
        with pytest.raises(ConnectionRefusedError) as caught:
            Script([no(), no(0, errno.ENETUNREACH), no(0, errno.EHOSTUNREACH)]).dial(target="some.name:80")
        return "".join(traceback.format_exception(caught.value))

    told = virtually(main) if loop else main()
    for text in ("Connection refused", "Network is unreachable", "No route to host", *("2.2:80", "::1]:80", "::3]:80")):
        assert told.count(text) == 1, text
    assert told.count("Traceback") == 1


@pytest.mark.parametrize("kind", [OSError, Surprise])
@pytest.mark.parametrize("steps", [[no(), no(0.1)], [no()], [hang(), no()], [no(), ok()], [hang(), no(), hang()]])
def test_errors_are_no_garbage(kind, steps):
    """Nothing of a race is left to the collector: tracebacks and the lists of failures make no cycles."""

    class Watched(kind):
        pass

    watched = []

    def watch(error):
        watched.append(weakref.ref(error))
        return error

    def attempt(candidate):
        step = steps[CANDIDATES.index(candidate)]
        netnet.sleep(step.seconds)
        if step.error is None:
            return Socket()
        raise watch(Watched("watched"))

    def main():
        with contextlib.suppress(Watched, TimeoutError), netnet.timeout(10):
            dial(CANDIDATES[: len(steps)], attempt).close()
        netnet.sleep(0)

    gc.collect()
    gc.disable()
    try:
        virtually(main)
        assert [one() for one in watched] == [None] * len(watched)
    finally:
        gc.enable()
    assert watched


# -- random scripts against a model of the rules


class TieError(Exception):
    """Two things happen at the same instant: then their order is not what this test is about."""


@dataclass
class Outcome:
    starts: list
    failures: list
    winner: int | None
    verdict: str
    decided: float
    ended: float


def model(steps, delay, limit, least):
    """The rules of RFC 8305, section 5, and of the shares, told as a simulation of instants."""
    starts, failures = [], []
    running = {}  # index → (the instant when it is cut, when it ends if left alone, whether it succeeds)
    instant, due = 0.0, 0.0
    verdict, winner = "", None
    while not verdict:
        ends = {index: end for index, (_, end, _) in running.items()}
        happenings = sorted([*ends.values(), due, limit])
        if happenings[0] != math.inf and happenings[1] - happenings[0] < 1e-9 and happenings[1] != instant:
            raise TieError
        instant = happenings[0]
        if instant == limit:
            verdict = "limit"
        elif instant in ends.values():
            (index,) = (index for index, end in ends.items() if end == instant)
            succeeds = running.pop(index)[2]
            if succeeds:
                verdict, winner = "won", index
            else:
                failures.append(index)
                if len(failures) == len(steps):
                    verdict = "lost"
                elif len(starts) < len(steps):
                    due = instant
        else:
            index = len(starts)
            starts.append((index, instant))
            step = steps[index]
            left = limit - instant
            share = max(left / (len(steps) - index), least)
            cut = instant + share if share < left else math.inf
            end, succeeds = instant + step.seconds, step.error is None
            if abs(cut - end) < 1e-9:
                raise TieError
            if cut < end:
                end, succeeds = cut + step.cleanup, step.stubborn
            running[index] = (cut, end, succeeds)
            due = instant + delay if len(starts) < len(steps) else math.inf
    ended = instant
    for index, (cut, end, _) in running.items():
        ended = max(ended, end if cut < instant else instant + steps[index].cleanup)
    if verdict == "won" and ended > limit:
        verdict, winner = "limit", None
    if abs(ended - limit) < 1e-9 and verdict == "won":
        raise TieError
    return Outcome(starts, failures, winner, verdict, instant, ended)


SECONDS = st.integers(0, 320)


@st.composite
def scripts(draw):
    """Steps whose instants are exact in binary, and differ, as a rule, by a bit of each one's own."""
    count = draw(st.integers(2, 6))
    steps = []
    for index in range(count):
        ticks = draw(SECONDS)
        seconds = ticks / 64 + (2.0 ** -(8 + index) if ticks else 0.0)
        error = draw(st.sampled_from([None, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ETIMEDOUT]))
        cleanup = draw(st.sampled_from([0.0, 0.0, 0.5, 3.0]))
        cleanup += 2.0 ** -(16 + index) if cleanup else 0.0
        steps.append(Step(seconds, None if error is None else OSError(error, "scripted"), cleanup, draw(st.booleans())))
    delay = draw(st.integers(1, 128)) / 64
    limit = draw(st.one_of(st.none(), st.integers(1, 640).map(lambda ticks: ticks / 64 + 2.0**-15)))
    least = draw(st.integers(0, 192)) / 64 + 2.0**-7
    return steps, delay, limit, least


@settings(max_examples=400, deadline=None)
@given(scripts())
@example(([ok(1), ok(1)], 0.25, None, 2.0))
@example(([hang(), hang(), hang()], 0.25, 10.0, 2.0))
@example(([no(), no(), no(), no(), no(), no()], 2.0, 0.5, 0.0))
@example(([hang(stubborn=True, cleanup=3.0), ok(1)], 0.25, 2.0, 0.0))
def test_random_scripts_follow_the_model(case):
    steps, delay, limit, least = case
    try:
        expected = model(steps, delay, math.inf if limit is None else limit, least)
    except TieError:
        assume(False)
    script, caught, when = raced(*steps, limit=limit, attempt_delay_seconds=delay, attempt_seconds_min=least)
    assert [index for index, _ in script.starts] == [index for index, _ in expected.starts]
    assert [instant for _, instant in script.starts] == pytest.approx([instant for _, instant in expected.starts])
    assert when == pytest.approx(expected.ended)
    if expected.verdict == "won":
        assert caught is None
        assert script.winner == [expected.winner]
        return
    assert script.winner == []
    if expected.verdict == "lost":
        assert [CANDIDATES.index(candidate) for candidate, _ in caught.failures] == expected.failures
        for candidate, error in caught.failures:
            scripted = steps[CANDIDATES.index(candidate)].error
            assert error is scripted or "its share of the time limit" in str(error)
    else:
        assert type(caught) is TimeoutError
        assert str(caught) == f"the time limit of {limit:g} s was reached"


# -- real sockets


class Connector:
    """Connects for real, and remembers each socket that it made."""

    def __init__(self):
        self.made = []

    def __call__(self, candidate):
        sock = Socket(candidate.family, socket.SOCK_STREAM)
        self.made.append(sock)
        try:
            sock.connect(candidate.sockaddr)
        except BaseException:
            sock.close()
            raise
        return sock

    def open(self):
        return [sock for sock in self.made if sock.fileno() >= 0]


def resolved(listener):
    return Resolved(listener.family, listener.getsockname())


@contextlib.contextmanager
def full_listener():
    """A listener whose queue is full, so that nobody can connect to it any more, and nobody is refused."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(100):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            poll = select.poll()
            poll.register(client, select.POLLOUT)
            if not poll.poll(100):
                break
        else:
            pytest.fail("a queue of length 0 takes everybody")
        yield Resolved(socket.AF_INET, listener.getsockname())


@pytest.fixture
def refused():
    """An address of IPv6 loopback where nobody listens, and nobody will while the test runs."""
    with socket.socket(socket.AF_INET6) as holder:
        holder.bind(("::1", 0))
        yield Resolved(socket.AF_INET6, holder.getsockname())


@pytest.mark.parametrize("loop", [True, False])
def test_localhost_is_ipv6_first_and_the_server_ipv4_only(backend, run, refused, loop):
    def main():
        with netnet.listen("127.0.0.1:0") as listener:
            answer = [refused, refused, resolved(listener), resolved(listener)]  # as getaddrinfo answers: doubles
            connector = Connector()
            with dial(interleaved(answer), connector, target="localhost:80") as sock:
                assert sock.getpeername() == listener.getsockname()
                assert connector.open() == [sock]
                assert len(connector.made) == 2
            listener.accept()[0].close()

    run(main) if loop else main()


def test_a_server_that_does_not_answer_is_overtaken(backend, run):
    def main():
        with full_listener() as full, netnet.listen("127.0.0.1:0") as listener:
            connector = Connector()
            began = netnet.now()
            with dial([full, resolved(listener)], connector, attempt_delay_seconds=0.01) as sock:
                assert netnet.now() - began >= 0.01
                assert sock.getpeername() == listener.getsockname()
                assert connector.open() == [sock]
                assert len(connector.made) == 2
            listener.accept()[0].close()

    run(main)


def test_two_servers_that_do_not_answer(backend, refused):
    def main():
        with full_listener() as full:
            connector = Connector()
            with pytest.raises(TimeoutError, match="the time limit of 10 s was reached"), netnet.timeout(10):
                dial([full, refused, full], connector)
            assert netnet.now() == 10
            assert connector.open() == []
            assert len(connector.made) == 3
            connector = Connector()
            with pytest.raises(ConnectionRefusedError) as caught, netnet.timeout(10):
                dial([full, refused], connector)
            assert netnet.now() == 15
            assert [error.errno for _, error in caught.value.failures] == [errno.ECONNREFUSED, errno.ETIMEDOUT]
            assert connector.open() == []

    virtually(main)


def test_refused_everywhere(backend, run, refused):
    def main():
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            other = Resolved(socket.AF_INET, holder.getsockname())
            connector = Connector()
            with pytest.raises(ConnectionRefusedError) as caught:
                dial([refused, other], connector, target="localhost:80")
            port, other_port = refused.sockaddr[1], other.sockaddr[1]
            assert caught.value.strerror == (
                f"connect to localhost:80: [::1]:{port}: Connection refused; 127.0.0.1:{other_port}: Connection refused"
            )
            assert connector.open() == []

    run(main)


def test_both_connect_and_one_is_closed(backend, run):
    """Two servers at once: the loser's connection, which stands already, is closed."""

    def main():
        with netnet.listen("127.0.0.1:0") as one, netnet.listen("127.0.0.1:0") as other:
            connector = Connector()
            gate = netnet.Event()

            def attempt(candidate):
                sock = connector(candidate)
                if len(connector.made) == 2:
                    gate.set()
                gate.wait()
                return sock

            with dial([resolved(one), resolved(other)], attempt, attempt_delay_seconds=0.01) as sock:
                assert connector.open() == [sock]
                assert len(connector.made) == 2
            with one.accept()[0] as theirs:
                assert theirs.recv(1) == b""
            with other.accept()[0] as theirs:
                assert theirs.recv(1) == b""

    run(main)


def test_numbers_are_those_of_the_rfc():
    assert dialing.ATTEMPT_DELAY_SECONDS == 0.25
    assert (dialing.ATTEMPT_DELAY_SECONDS_MIN, dialing.ATTEMPT_DELAY_SECONDS_MAX) == (0.01, 2)
