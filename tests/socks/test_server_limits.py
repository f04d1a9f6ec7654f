"""How many connections there may be, and that each way a connection can end gives its place back."""

from __future__ import annotations

import contextlib
import socket

import pytest

import netnet
from netnet.socks import Authentication, Ending, Entrance, Limits, Rule, Rules, User
from netnet.socks.ledger import Ledger
from netnet.testing import VirtualClock, wait_all_parked
from tests.socks.conftest import echoing
from tests.socks.dialects import ALL, CONNECT, LIMIT, PLAIN, SOCKS4, SOCKS5, Outcome, everything, exactly, reset
from tests.socks.wire import greeting, login, request5

USERS = {"ann": User("ann", "x"), "bob": User("bob", "x", connections=1), "cleo": User("cleo", "x", connections=4)}
GATE = Entrance("gate", authentication=Authentication.OPTIONAL)


def anybody(user, password):
    return True


def open_all(stack, dialect, p, target, count, *said, **fields):
    """So many clients, all granted."""
    clients = [stack.enter_context(dialect.open(p, target.getsockname(), *said, **fields)) for _ in range(count)]
    for client in clients:
        dialect.granted(client, *said[:1])
        dialect.arrived(client, target.getsockname())
    return clients


def assert_open(client):
    client.sendall(b"x")
    assert exactly(client, 1) == b"x"


# -- of each client, of each user


@pytest.mark.parametrize("dialect", ALL, ids=str)
def test_connections_of_a_client(run, proxy, dialect):
    def main():
        with echoing() as target, proxy(limits=Limits(connections_per_client=2)) as p, contextlib.ExitStack() as stack:
            first, second = open_all(stack, dialect, p, target, 2)
            with p.client() as third:  # one that is over the limit is not listened to
                assert everything(third) == b""
            session = p.ended()
            assert (session.ending, session.detail) == (Ending.LIMIT, "this client has 2 connections already")
            (other,) = open_all(stack, dialect, p, target, 1, source="127.0.0.2")
            first.close()
            p.ended(2)
            (third,) = open_all(stack, dialect, p, target, 1)
            for client in (second, third, other):
                assert_open(client)

    run(main)


@pytest.mark.parametrize("dialect", [SOCKS5, CONNECT, PLAIN], ids=str)
@pytest.mark.parametrize(("user", "allowed"), [("ann", 2), ("bob", 1), ("cleo", 4), ("dora", 2)])
def test_connections_of_a_user(run, proxy, dialect, user, allowed):
    """From whatever address. Bob and Cleo have limits of their own; Dora is known to whoever checks the passwords only."""
    options = {"entrance": GATE, "verify": anybody, "users": USERS, "limits": Limits(connections_per_user=2)}

    def main():
        with echoing() as target, proxy(**options) as p, contextlib.ExitStack() as stack:
            clients = open_all(stack, dialect, p, target, allowed, user)
            with dialect.open(p, target.getsockname(), user, source="127.0.0.2") as one_more:
                dialect.refused(one_more, LIMIT, user)
            session = p.ended()
            assert (session.ending, session.user) == (Ending.LIMIT, user)
            assert session.detail == f"this user has {allowed} connections already"
            open_all(stack, dialect, p, target, 5)  # nobody in particular
            open_all(stack, dialect, p, target, 1, "ann" if user != "ann" else "bob")
            clients[0].close()
            p.ended(2)
            open_all(stack, dialect, p, target, 1, user)

    run(main)


def test_no_limit_of_users_is_no_limit(run, proxy):
    def main():
        options = {"entrance": GATE, "verify": anybody, "users": USERS}
        with echoing() as target, proxy(**options) as p, contextlib.ExitStack() as stack:
            open_all(stack, SOCKS5, p, target, 20, "ann")
            open_all(stack, SOCKS5, p, target, 1, "bob")
            with SOCKS5.open(p, target.getsockname(), "bob") as one_more:
                SOCKS5.refused(one_more, LIMIT, "bob")

    run(main)


def test_a_user_is_counted_before_anything_is_done_for_it(run, proxy):
    """The place is taken while the connection is made."""

    def main():
        go = netnet.Event()

        def dial(address):
            go.wait()
            return netnet.connect(address)

        options = {"entrance": GATE, "verify": anybody, "users": USERS, "dial": dial}
        with echoing() as target, proxy(**options) as p:
            with SOCKS5.open(p, target.getsockname(), "bob") as first:
                wait_all_parked()
                with SOCKS5.open(p, target.getsockname(), "bob") as second:
                    SOCKS5.refused(second, LIMIT, "bob")
                go.set()
                SOCKS5.granted(first, "bob")

    run(main)


# -- new ones a second


def test_the_rate_of_new_connections(run, proxy):
    limits = Limits(new_connections_per_second_per_client=0.5, new_connections_burst=3)

    def comes_in(p, target, source=None):
        with SOCKS4.open(p, target.getsockname(), source=source) as client:
            try:
                return bool(client.recv(8))
            except ConnectionResetError:
                return False

    def main():
        with echoing() as target, proxy(limits=limits) as p:
            assert [comes_in(p, target) for _ in range(5)] == [True] * 3 + [False] * 2
            assert comes_in(p, target, "127.0.0.2")
            assert p.sessions[4].ending is Ending.LIMIT
            assert p.sessions[4].detail == "too many new connections of this client"
            netnet.sleep(2)
            assert [comes_in(p, target) for _ in range(2)] == [True, False]
            netnet.sleep(100)
            assert [comes_in(p, target) for _ in range(4)] == [True] * 3 + [False]

    run(main, clock=VirtualClock())


# -- in all


@pytest.mark.parametrize("shared", [False, True])
def test_the_total_stops_accepting_and_refuses_nobody(backend, run, proxy, shared):
    def main():
        options = {"ledger": Ledger.private(clock=netnet.now)} if shared else {}
        with echoing() as target, proxy(limits=Limits(connections=2), **options) as p, contextlib.ExitStack() as stack:
            first, _ = open_all(stack, SOCKS5, p, target, 2)
            waiting = [stack.enter_context(SOCKS5.open(p, target.getsockname())) for _ in range(5)]
            wait_all_parked()
            assert p.server.active == 2
            assert p.server.statistics.full >= 1
            first.close()
            for client in waiting:  # each in its turn
                SOCKS5.granted(client)
                assert p.server.active == 2
                client.close()
            p.ended(6)
            assert {session.ending for session in p.sessions} == {Ending.CLOSED}
            assert netnet.now() == 0  # what comes free in this process is taken at once

    run(main, clock=VirtualClock())


def test_two_servers_share_two_seats(run, proxy):
    """As two workers do: what one has, the other has not; what one gives back, the other finds soon."""

    def main():
        ledger = Ledger.private(clock=netnet.now)
        limits = Limits(connections=2, connections_per_client=2, connections_per_user=1)
        options = {"ledger": ledger, "limits": limits, "entrance": GATE, "verify": anybody}
        with echoing() as target, proxy(**options) as one, proxy(**options) as other, contextlib.ExitStack() as stack:
            (first,) = open_all(stack, SOCKS5, one, target, 1, "ann")
            with SOCKS5.open(other, target.getsockname(), "ann") as same:
                SOCKS5.refused(same, LIMIT, "ann")
            (second,) = open_all(stack, SOCKS5, other, target, 1, "eve")
            third = stack.enter_context(SOCKS5.open(other, target.getsockname(), "ann"))
            wait_all_parked()
            assert (one.server.active, other.server.active, ledger.total("all")) == (1, 1, 2)
            began = netnet.now()
            first.close()
            SOCKS5.granted(third, "ann")
            assert netnet.now() - began <= 0.051
            for client in (second, third):
                client.close()
            one.ended(1)
            other.ended(3)
            assert [ledger.total(*what) for what in (("all",), ("client", b"\x7f\0\0\1"), ("user", "ann"))] == [0] * 3

    run(main, clock=VirtualClock())


def test_a_process_has_its_own_places_beside_the_total(run, proxy):
    def main():
        ledger = Ledger.private(clock=netnet.now)
        with echoing() as target, proxy(limits=Limits(connections=9), ledger=ledger, places=1) as p:
            with SOCKS5.open(p, target.getsockname()) as first, SOCKS5.open(p, target.getsockname()) as second:
                SOCKS5.granted(first)
                wait_all_parked()
                assert p.server.active == 1
                first.close()
                SOCKS5.granted(second)

    run(main)


# -- each way to end


class Ends:
    """What ends a connection: each method is given the proxy's test object and a target that echoes."""

    @staticmethod
    def leaves_at_once(p, target):
        p.client().close()
        return Ending.CLIENT_LEFT

    @staticmethod
    def resets_at_once(p, target):
        reset(p.client(b"\x05"))
        return Ending.CLIENT_LEFT

    @staticmethod
    def garbage(p, target):
        with p.client(b"\xff\xff") as client:
            everything(client)
        return Ending.BAD_REQUEST

    @staticmethod
    def says_nothing(p, target):
        with p.client() as client:
            everything(client)
        return Ending.HANDSHAKE_TIMEOUT

    @staticmethod
    def unknown_command(p, target):
        with p.client(greeting(0) + request5("127.0.0.1", 9, command=8)) as client:
            everything(client)
        return Ending.UNSUPPORTED

    @staticmethod
    def wrong_password(p, target):
        with p.client(greeting(2) + login("ann", "wrong") + b"x") as client:
            everything(client)
        return Ending.LOGIN_FAILED

    @staticmethod
    def denied(p, target):
        with SOCKS5.open(p, ("denied.test", 1), "ann") as client:
            SOCKS5.refused(client, Outcome.DENIED, "ann")
        return Ending.DENIED

    @staticmethod
    def refused(p, target):
        with SOCKS5.open(p, ("refused.test", 1), "ann") as client:
            SOCKS5.refused(client, Outcome.REFUSED, "ann")
        return Ending.REFUSED

    @staticmethod
    def unresolved(p, target):
        with SOCKS5.open(p, ("unknown.test", 1), "ann") as client:
            SOCKS5.refused(client, Outcome.HOST_UNREACHABLE, "ann")
        return Ending.UNRESOLVED

    @staticmethod
    def too_slow(p, target):
        with SOCKS5.open(p, ("slow.test", 1), "ann") as client:
            SOCKS5.refused(client, Outcome.TIMED_OUT, "ann")
        return Ending.CONNECT_TIMEOUT

    @staticmethod
    def bug(p, target):
        with SOCKS5.open(p, ("bug.test", 1), "ann") as client:
            everything(client)
        return Ending.ERROR

    @staticmethod
    def closed(p, target):
        with SOCKS5.open(p, target.getsockname(), "ann") as client:
            SOCKS5.granted(client, "ann")
        return Ending.CLOSED

    @staticmethod
    def broken(p, target):
        with SOCKS5.open(p, target.getsockname(), "ann") as client:
            SOCKS5.granted(client, "ann")
            reset(client)
        return Ending.RESET

    @staticmethod
    def idle(p, target):
        with SOCKS5.open(p, target.getsockname(), "ann") as client:
            SOCKS5.granted(client, "ann")
            with contextlib.suppress(ConnectionResetError):
                everything(client)
        return Ending.IDLE

    @staticmethod
    def lingers(p, target):
        with SOCKS5.open(p, ("deaf.test", 1), "ann") as client:
            SOCKS5.granted(client, "ann")
            client.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                everything(client)
        return Ending.LINGER

    @staticmethod
    def bind_and_nobody_comes(p, target):
        with p.client(greeting(2) + login("ann", "right") + request5("0.0.0.0", 0, command=2)) as client:
            everything(client)
        return Ending.CONNECT_TIMEOUT

    @staticmethod
    def bind_and_leaves(p, target):
        with p.client(greeting(2) + login("ann", "right") + request5("0.0.0.0", 0, command=2)) as client:
            exactly(client, 2 + 2 + 10)
        return Ending.CLIENT_LEFT

    @staticmethod
    def association(p, target):
        with p.client(greeting(2) + login("ann", "right") + request5("0.0.0.0", 0, command=3)) as client:
            exactly(client, 2 + 2 + 10)
        return Ending.CLOSED

    @staticmethod
    def association_that_is_silent(p, target):
        with p.client(greeting(2) + login("ann", "right") + request5("0.0.0.0", 0, command=3)) as client:
            everything(client)
        return Ending.IDLE


ENDS = [name for name in vars(Ends) if not name.startswith("_")]


@contextlib.contextmanager
def everything_can_happen(proxy, **options):
    """A proxy where each of ``Ends`` has what it needs."""
    limits = Limits(
        connections=2,
        connections_per_client=2,
        connections_per_user=2,
        handshake_seconds=5,
        connect_seconds=6,
        bind_seconds=7,
        idle_seconds=8,
        linger_seconds=4,
        failed_logins_free=100,
        failed_logins_max=1000,
    )
    with socket.socket() as taken, netnet.listen("127.0.0.1:0") as deaf, echoing() as target:
        taken.bind(("127.0.0.1", 0))

        def dial(address):
            host = address[0]
            if host == "refused.test":
                return netnet.connect(taken.getsockname())
            if host == "deaf.test":
                return netnet.connect(deaf.getsockname())
            if host == "unknown.test":
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            if host == "slow.test":
                netnet.sleep(1000)
            if host == "bug.test":
                raise RuntimeError("a bug")
            return netnet.connect(address)

        rules = Rules([Rule("not there", False, destinations=("denied.test",))])
        options = {"dial": dial, "rules": rules, "limits": limits, "entrance": GATE, **options}
        with proxy(verify=lambda user, password: password != "wrong", **options) as p:
            yield p, target


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("shared", [False, True])
def test_every_ending_gives_the_places_back(run, proxy, name, shared):
    """Of two places, five connections one after the other, then two at once; the ledger is empty in the end."""

    def main():
        ledger = Ledger.private(clock=netnet.now) if shared else None
        with everything_can_happen(proxy, ledger=ledger) as (p, target), contextlib.ExitStack() as stack:
            for number in range(1, 6):
                ending = getattr(Ends, name)(p, target)
                assert p.ended(number).ending is ending
            open_all(stack, SOCKS5, p, target, 2, "ann")
            assert p.server.active == 2
            stack.close()
            p.ended(7)
            book = p.server.admission.ledger
            assert [book.total(*what) for what in (("all",), ("client", b"\x7f\0\0\1"), ("user", "ann"))] == [0] * 3
            assert p.server.admission.permits.value == 2

    run(main, clock=VirtualClock())


def test_all_endings_at_once_and_a_cancel(run, proxy):
    """The server is cancelled in the middle of everything: then, too, nothing is left over."""

    def main():
        limits = Limits(connections=20, connections_per_client=20, connections_per_user=20, idle_seconds=None)
        ledger = Ledger.private(clock=netnet.now)
        with everything_can_happen(proxy, ledger=ledger, limits=limits) as (p, target):
            said = ("ann", "right")
            with contextlib.ExitStack() as stack:
                open_all(stack, SOCKS5, p, target, 3, *said)
                stack.enter_context(p.client())
                stack.enter_context(p.client(greeting(2)))
                stack.enter_context(SOCKS5.open(p, ("slow.test", 1), *said))
                for command in (2, 3):
                    data = greeting(2) + login(*said) + request5("0.0.0.0", 0, command=command)
                    exactly(stack.enter_context(p.client(data)), 14)
                wait_all_parked()
                assert p.server.active == ledger.total("all") == 8
                p.task.cancel()
                p.task.join()
                assert [session.ending for session in p.sessions] == [Ending.STOPPED] * 4
                assert p.server.active == ledger.total("all") == 4  # relays go on, an association is one
            p.ended(8)
            assert ledger.total("all") == ledger.total("user", "ann") == ledger.total("client", b"\x7f\0\0\1") == 0

    run(main, clock=VirtualClock())
