"""Counters in shared memory: what counts as what, bytes of open connections, workers that come, go and die."""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netnet.proxy.tally import (
    ACCEPT_ERRORS,
    COMMANDS,
    CONNECTIONS,
    FAILURES,
    HANDSHAKE_SECONDS,
    LOGINS_FAILED,
    LOGINS_GOOD,
    OTHER,
    PROTOCOLS,
    RECEIVED,
    SENT,
    SESSION_SECONDS,
    Cell,
    Tallies,
    Tally,
)
from netnet.socks.requests import Command, Request
from netnet.socks.session import Ending, Session
from tests.proxy.sessions import end, ended_session, open_session
from tests.runtime.test_fork import in_child


@pytest.fixture
def tally():
    one = Tally(3, users=["alice", "bob"], rules=["work"])
    yield one
    one.close()


def kind(ending, protocol="socks5", command="connect"):
    return Cell("sessions", (protocol, command, str(ending)))


def test_a_session(tally):
    tally.count(ended_session(sent=10, received=20, user="alice", rule="work"))
    assert tally.totals() == {
        kind("closed"): 1,
        SENT: 10,
        RECEIVED: 20,
        LOGINS_GOOD: 1,
        Cell("user_sessions", ("alice",)): 1,
        Cell("user_sent", ("alice",)): 10,
        Cell("user_received", ("alice",)): 20,
        Cell("rule_sessions", ("work",)): 1,
        Cell("session_seconds", ("5",)): 1,
        Cell("session_seconds_us"): 1_500_000,
    }


KINDS = [
    (Session("c", 1.0, ending=Ending.CLIENT_LEFT), kind("client left", OTHER, OTHER)),
    (Session("c", 1.0, protocol="http", ending=Ending.BAD_REQUEST), kind("bad request", "http", OTHER)),
    (Session("c", 1.0, protocol="quic", ending=Ending.ERROR), kind("internal error", OTHER, OTHER)),
    (Session("c", 1.0), kind("internal error", OTHER, OTHER)),
    (
        Session("c", 1.0, protocol="socks4a", request=Request(Command.BIND, "h", 1), ending=Ending.IDLE),
        kind("idle", "socks4a", "bind"),
    ),
]


@pytest.mark.parametrize(("session", "cell"), KINDS)
def test_sessions_by_kind(tally, session, cell):
    tally.count(session)
    assert tally.totals() == {cell: 1}


def test_every_kind_has_a_counter_of_its_own(tally):
    for protocol in PROTOCOLS[:-1]:
        for command in Command:
            for ending in Ending:
                session = Session("c", 1.0, protocol=protocol, request=Request(command, "h", 1), ending=ending)
                tally.count(session)
    totals = tally.totals()
    del totals[LOGINS_FAILED]
    assert len(totals) == (len(PROTOCOLS) - 1) * (len(COMMANDS) - 1) * len(Ending)
    assert set(totals.values()) == {1}


def test_names_that_are_not_configured(tally):
    tally.count(ended_session(user="mallory", rule="unheard of", sent=5))
    totals = tally.totals()
    assert totals[Cell("user_sent", (OTHER,))] == 5
    assert totals[Cell("rule_sessions", (OTHER,))] == 1


def test_logins(tally):
    tally.count(ended_session(Ending.LOGIN_FAILED))
    tally.count(ended_session(user="bob"))
    tally.count(ended_session())
    assert (tally.totals()[LOGINS_GOOD], tally.totals()[LOGINS_FAILED]) == (1, 1)


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, "0.001"), (0.001, "0.001"), (0.0011, "0.0025"), (30, "30"), (30.1, "+Inf")]
)
def test_the_buckets_of_handshakes(tally, seconds, bucket):
    tally.handshake(seconds)
    assert tally.totals()[Cell("handshake_seconds", (bucket,))] == 1
    assert tally.totals()[Cell("handshake_seconds_us")] == pytest.approx(seconds * 1e6, abs=1)


@pytest.mark.parametrize("bounds", [HANDSHAKE_SECONDS, SESSION_SECONDS])
def test_bounds_grow_and_differ_as_text(bounds):
    assert list(bounds) == sorted(set(bounds))
    assert len({f"{bound:g}" for bound in bounds}) == len(bounds)


def test_what_counts_as_a_failure():
    assert set(Ending) - FAILURES == {
        Ending.CLOSED,
        Ending.RESET,
        Ending.IDLE,
        Ending.LINGER,
        Ending.CLIENT_LEFT,
        Ending.STOPPED,
    }


# -- connections that are still open


def test_bytes_of_open_connections_count_once(tally):
    session = open_session(100, 7, user="alice")
    assert tally.settle(session) == 107
    assert tally.settle(session) == 0
    session.relay.sent += 50
    assert tally.settle(session) == 50
    assert (tally.totals()[SENT], tally.totals()[RECEIVED]) == (150, 7)
    session.relay.received += 3
    tally.count(end(session))
    assert (tally.totals()[SENT], tally.totals()[RECEIVED]) == (150, 10)
    assert tally.totals()[Cell("user_sent", ("alice",))] == 150
    assert tally.settle(session) == 0, "it has ended"
    assert tally._settled == {}


def test_bytes_never_go_back(tally):
    session = open_session(100, 100)
    tally.settle(session)
    session.relay.sent = 40
    assert tally.settle(session) == 0
    tally.count(end(session))
    assert tally.totals()[SENT] == 100


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 1000), st.integers(0, 1000), st.sampled_from(["settle", "end"])),
        max_size=40,
    )
)
def test_any_order_of_settling_and_ending(steps):
    one = Tally(1)
    sessions = {}
    moved = Counter()
    for number, sent, received, what in steps:
        session = sessions.setdefault(number, open_session())
        session.relay.sent += sent
        session.relay.received += received
        moved.update(sent=sent, received=received)
        if what == "settle":
            one.settle(session)
        else:
            one.count(end(sessions.pop(number)))
    for session in sessions.values():
        one.settle(session)
    assert (one.totals()[SENT], one.totals()[RECEIVED]) == (moved["sent"], moved["received"])
    one.close()


# -- workers


def test_workers_count_in_rows_of_their_own(tally):
    def worker(seat):
        def work():
            tally.sit(seat)
            for _ in range(1000):
                tally.count(ended_session(sent=seat + 1))
            tally.put(CONNECTIONS, seat + 1)

        return work

    for seat in range(3):
        assert in_child(worker(seat)) == 0
    assert tally.totals()[kind("closed")] == 3000
    assert tally.totals()[SENT] == 6000
    assert tally.totals()[CONNECTIONS] == 6


def test_a_worker_that_is_killed_leaves_its_counts_but_not_its_gauges(tally):
    def work():
        tally.sit(1)
        tally.count(ended_session(sent=5))
        tally.settle(open_session(7, 0))
        tally.put(CONNECTIONS, 1)
        tally.put(ACCEPT_ERRORS, 2)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(work) == -signal.SIGKILL
    assert tally.totals()[CONNECTIONS] == 1
    for _ in range(2):  # a second time changes nothing
        tally.vacate(1)
        totals = tally.totals()
        assert (totals[SENT], totals[CONNECTIONS], totals[ACCEPT_ERRORS]) == (12, 0, 2)
    assert in_child(lambda: (tally.sit(1), tally.count(ended_session(sent=1)))) == 0
    assert tally.totals()[SENT] == 13


@pytest.mark.parametrize("seat", [-1, 3])
def test_seats_that_are_not_there(tally, seat):
    with pytest.raises(ValueError, match=f"no seat {seat}"):
        tally.sit(seat)
    with pytest.raises(ValueError, match=f"no seat {seat}"):
        tally.vacate(seat)
    with pytest.raises(ValueError, match="1 seat"):
        Tally(0)


# -- generations


def test_sums_over_generations_do_not_go_back():
    tallies = Tallies()
    first, second = Tally(1, users=["alice"]), Tally(1, users=["bob"])
    tallies.add(first)
    first.count(ended_session(sent=1, user="alice"))
    tallies.add(second)
    second.count(ended_session(sent=2, user="bob"))
    first.count(ended_session(sent=4, user="alice"))
    before = tallies.totals()
    assert before[SENT] == 7
    first.vacate(0)
    tallies.retire(first)
    assert tallies.totals() == before
    assert before[Cell("user_sent", ("alice",))] == 5
    tallies.close()
    assert tallies.totals() == before
