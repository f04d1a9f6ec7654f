"""Who may come in: logins in each protocol, what becomes of those that fail, and that no password is told to anybody."""

from __future__ import annotations

import logging

import pytest

import netnet
from netnet.socks import Authentication, Ending, Entrance, Limits, Server, User
from netnet.socks.ledger import Ledger
from netnet.testing import VirtualClock, wait_all_parked
from tests.socks.conftest import echoing
from tests.socks.dialects import ALL, CONNECT, PLAIN, SOCKS4, SOCKS5, assert_http_refusal, everything, exactly
from tests.socks.wire import REFUSAL, choice, greeting, login, login_status, reply5, request5

GOOD, WRONG = "open sesame", "hunter2-wrong"
USERS = {"ann": User("ann", GOOD), "bob": User("bob", GOOD)}


def verify(user, password):
    return user in USERS and password == GOOD


def entrance(authentication):
    return Entrance("gate", authentication=authentication)


#: authentication, what the client says of itself → whether it comes in, and as whom
CASES = [
    (Authentication.NONE, None, True, None),
    (Authentication.NONE, ("ann", GOOD), True, None),
    (Authentication.NONE, ("ann", WRONG), True, None),
    (Authentication.OPTIONAL, None, True, None),
    (Authentication.OPTIONAL, ("ann", GOOD), True, "ann"),
    (Authentication.OPTIONAL, ("ann", WRONG), False, None),
    (Authentication.OPTIONAL, ("eve", GOOD), False, None),
    (Authentication.PASSWORD, None, False, None),
    (Authentication.PASSWORD, ("ann", GOOD), True, "ann"),
    (Authentication.PASSWORD, ("ann", WRONG), False, None),
    (Authentication.PASSWORD, ("eve", GOOD), False, None),
    (Authentication.PASSWORD, ("ann", ""), False, None),
]


def assert_not_let_in(dialect, client, said):
    heard = everything(client)
    if dialect is SOCKS5:
        assert heard == (choice(0xFF) if said is None else choice(2) + login_status(1))
    else:
        head = assert_http_refusal(heard, 407)
        assert b'\r\nProxy-Authenticate: Basic realm="proxy"' in head


@pytest.mark.parametrize("dialect", [SOCKS5, CONNECT, PLAIN], ids=str)
@pytest.mark.parametrize(("authentication", "said", "comes_in", "user"), CASES)
def test_logins(run, proxy, dialect, authentication, said, comes_in, user):
    def main():
        with echoing() as target, proxy(entrance=entrance(authentication), users=USERS, verify=verify) as p:
            with dialect.open(p, target.getsockname(), *(said or ())) as client:
                if comes_in:
                    name = said[0] if said else None
                    dialect.granted(client, name)
                    dialect.arrived(client, target.getsockname())
                    client.sendall(b"x")
                    assert exactly(client, 1) == b"x"
                else:
                    assert_not_let_in(dialect, client, said)
            session = p.ended()
            assert session.user == user
            assert session.ending is (Ending.CLOSED if comes_in else Ending.LOGIN_FAILED)
            if said and not comes_in:
                assert session.detail == f"user {said[0]!r}"
            assert (session.request is not None) == comes_in

    run(main) if authentication is Authentication.NONE or not said else run(main, clock=VirtualClock())


#: of a client of SOCKS5 that has no login, but could have one, and the other way round
OFFERS = [
    (Authentication.NONE, (0, 2), choice(0)),
    (Authentication.NONE, (2, 0), choice(0)),
    (Authentication.OPTIONAL, (0,), choice(0)),
    (Authentication.OPTIONAL, (0, 2), choice(2)),
    (Authentication.OPTIONAL, (1, 2), choice(2)),
    (Authentication.PASSWORD, (0, 2), choice(2)),
    (Authentication.PASSWORD, (0, 1), choice(0xFF)),
    (Authentication.NONE, (1, 3), choice(0xFF)),
]


@pytest.mark.parametrize(("authentication", "offered", "chosen"), OFFERS)
def test_the_method_that_is_chosen(run, proxy, authentication, offered, chosen):
    def main():
        with proxy(entrance=entrance(authentication), users=USERS, verify=verify) as p:
            with p.client(greeting(*offered)) as client:
                assert exactly(client, 2) == chosen
                if chosen == choice(0xFF):
                    assert everything(client) == b""

    run(main)


@pytest.mark.parametrize("authentication", Authentication)
def test_socks4_has_no_passwords(run, proxy, authentication):
    """Its user id is not one: nobody vouches for it."""

    def main():
        with echoing() as target, proxy(entrance=entrance(authentication), users=USERS, verify=verify) as p:
            with SOCKS4.open(p, target.getsockname(), "ann") as client:
                if authentication is Authentication.PASSWORD:
                    assert everything(client) == REFUSAL
                else:
                    SOCKS4.granted(client)
            session = p.ended()
            assert session.user is None
            assert (session.ending is Ending.LOGIN_FAILED) == (authentication is Authentication.PASSWORD)

    run(main)


@pytest.mark.parametrize(
    "header",
    [b"Bearer abc", b"Basic ???", b"Basic " + b"QQ==" * 900, b"Basic bm9jb2xvbg==", b"Digest username=ann", b"Basic"],
)
def test_what_is_no_login_is_none(run, proxy, header):
    def main():
        with proxy(entrance=entrance(Authentication.PASSWORD), users=USERS, verify=verify) as p:
            with p.client(b"CONNECT a:1 HTTP/1.1\r\nProxy-Authorization: " + header + b"\r\n\r\n") as client:
                assert_http_refusal(everything(client), 407)
            assert p.ended().ending is Ending.LOGIN_FAILED
            assert not p.server.admission.ledger.bans()

    run(main)


def attempt(p, target, dialect, password, source=None):
    """Tries to log in; returns whether it was let in, and how long that took. ``None``: the door was closed at once."""
    began = netnet.now()
    with dialect.open(p, target.getsockname(), "ann", password, source=source) as client:
        try:
            data = client.recv(1000)
        except ConnectionResetError:  # closed without being read
            data = b""
        if dialect is SOCKS5 and data == choice(2):
            data += exactly(client, 2)
        good = {SOCKS5: choice(2) + login_status(0), CONNECT: b"HTTP/1.1 200"}[dialect]
        return (None if not data else data.startswith(good)), netnet.now() - began


GUARDED = Limits(failed_logins_free=2, failed_login_delay_seconds=3, failed_logins_max=6, ban_seconds=100)


@pytest.mark.parametrize("dialect", [SOCKS5, CONNECT], ids=str)
def test_failed_logins_are_answered_late_and_end_in_a_ban(run, proxy, dialect):
    def main():
        options = {"entrance": entrance(Authentication.PASSWORD), "users": USERS, "verify": verify, "limits": GUARDED}
        with echoing() as target, proxy(**options) as p:
            tries = [attempt(p, target, dialect, WRONG) for _ in range(6)]
            assert [came_in for came_in, _ in tries] == [False] * 6
            assert [round(seconds, 6) for _, seconds in tries] == [0, 0, 0.1, 0.2, 0.4, 0.8]
            banned_at = netnet.now() - 0.8
            for password in (WRONG, GOOD):
                assert attempt(p, target, dialect, password) == (None, 0)  # it is not even listened to
            assert p.ended(8).ending is Ending.BANNED
            assert "for another 99 s" in p.sessions[-1].detail
            assert attempt(p, target, dialect, GOOD, source="127.0.0.2") == (True, 0)  # others are
            netnet.sleep(banned_at + 99.9 - netnet.now())
            assert attempt(p, target, dialect, GOOD)[0] is None
            netnet.sleep(0.2)
            assert attempt(p, target, dialect, WRONG) == (False, 0)  # as at the beginning
            assert attempt(p, target, dialect, GOOD) == (True, 0)
            p.ended(12)

    run(main, clock=VirtualClock())


def test_a_good_login_makes_the_bad_ones_forgotten(run, proxy):
    def main():
        options = {"entrance": entrance(Authentication.PASSWORD), "users": USERS, "verify": verify, "limits": GUARDED}
        with echoing() as target, proxy(**options) as p:
            for _ in range(4):
                assert [attempt(p, target, SOCKS5, WRONG) for _ in range(2)] == [(False, 0)] * 2
                assert attempt(p, target, SOCKS5, GOOD) == (True, 0)
            p.ended(12)

    run(main, clock=VirtualClock())


def test_the_longest_delay(run, proxy):
    limits = Limits(failed_logins_free=0, failed_login_delay_seconds=0.5, failed_logins_max=100)

    def main():
        options = {"entrance": entrance(Authentication.PASSWORD), "users": USERS, "verify": verify, "limits": limits}
        with echoing() as target, proxy(**options) as p:
            waited = [round(attempt(p, target, SOCKS5, WRONG)[1], 6) for _ in range(5)]
            assert waited == [0.1, 0.2, 0.4, 0.5, 0.5]

    run(main, clock=VirtualClock())


def test_many_connections_at_once_do_not_get_round_the_ban(run, proxy):
    """They were all let in before the first one failed; the ban strikes at the login as well."""
    tried = []

    def slow(user, password):
        tried.append(password)
        return verify(user, password)

    def main():
        options = {"entrance": entrance(Authentication.PASSWORD), "users": USERS, "verify": slow, "limits": GUARDED}
        with proxy(**options) as p:
            clients = [p.client(greeting(2)) for _ in range(20)]
            for client in clients:
                assert exactly(client, 2) == choice(2)
            for number, client in enumerate(clients):
                client.sendall(login("ann", GOOD if number == 15 else WRONG) + request5("127.0.0.1", 9))
                wait_all_parked()
            for client in clients:
                assert everything(client) in (login_status(1), b"")
                client.close()
            p.ended(20)
            assert len(tried) == 6
            assert {session.ending for session in p.sessions} == {Ending.LOGIN_FAILED, Ending.BANNED}

    run(main, clock=VirtualClock())


def test_a_ban_holds_for_a_login_that_is_being_checked(run, proxy):
    """All passwords are being checked when the first ones turn out to be wrong: the right one comes too late."""

    def slow(user, password):
        netnet.sleep(2 if password == GOOD else 1)
        return verify(user, password)

    def main():
        options = {"entrance": entrance(Authentication.PASSWORD), "users": USERS, "verify": slow, "limits": GUARDED}
        with proxy(**options) as p:
            passwords = [WRONG] * 6 + [GOOD]
            clients = [p.client(greeting(2) + login("ann", password)) for password in passwords]
            for client in clients:
                assert everything(client) == choice(2) + login_status(1)
                client.close()
            p.ended(7)
            assert [session.ending for session in p.sessions].count(Ending.BANNED) == 1

    run(main, clock=VirtualClock())


def test_a_ban_holds_in_every_process(run, proxy):
    """Two servers share the ledger, as two workers do."""

    def main():
        ledger = Ledger.private(clock=netnet.now)
        options = {"entrance": entrance(Authentication.PASSWORD), "users": USERS, "verify": verify, "limits": GUARDED}
        with echoing() as target, proxy(ledger=ledger, **options) as one, proxy(ledger=ledger, **options) as other:
            for number in range(6):
                attempt((one, other)[number % 2], target, SOCKS5, WRONG)
            assert attempt(one, target, SOCKS5, GOOD)[0] is None
            assert attempt(other, target, SOCKS5, GOOD)[0] is None
            assert ledger.bans()[0][0] == "127.0.0.1"

    run(main, clock=VirtualClock())


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(5, "the file"), TimeoutError("the directory")])
@pytest.mark.parametrize(
    ("dialect", "answer"), [(SOCKS5, choice(2) + login_status(1)), (CONNECT, b"HTTP/1.1 502 ")], ids=str
)
def test_a_password_that_cannot_be_checked_lets_nobody_in(run, proxy, caplog, error, dialect, answer):
    """It is not the client's fault, and not counted as its failure."""

    def broken(user, password):
        raise error

    def main():
        with proxy(entrance=entrance(Authentication.PASSWORD), users=USERS, verify=broken) as p:
            for _ in range(12):
                with dialect.open(p, ("127.0.0.1", 9), "ann", GOOD) as client:
                    assert everything(client).startswith(answer)
            assert p.ended(12).ending is Ending.ERROR

    run(main)
    assert type(error).__name__ in caplog.text
    assert GOOD not in caplog.text


def test_where_nobody_checks_passwords_they_are_not_asked_for(run):
    def main():
        with netnet.listen("127.0.0.1:0") as listener:
            server = Server(entrances=[entrance(Authentication.PASSWORD)])
            with pytest.raises(netnet.UsageError, match="verify="):
                server.serve(listener)

    run(main)


def test_the_check_may_wait_and_delays_nobody(run, proxy):
    def slow(user, password):
        netnet.sleep(2)
        return verify(user, password)

    def main():
        options = {"entrance": entrance(Authentication.OPTIONAL), "users": USERS, "verify": slow}
        with echoing() as target, proxy(**options) as p:
            with SOCKS5.open(p, target.getsockname(), "ann", GOOD) as waiting:
                with SOCKS5.open(p, target.getsockname()) as client:
                    SOCKS5.granted(client)
                    assert netnet.now() == 0
                SOCKS5.granted(waiting, "ann")
                assert netnet.now() == 2

    run(main, clock=VirtualClock())


def test_a_check_that_takes_too_long_is_a_handshake_that_does(run, proxy):
    def endless(user, password):
        netnet.sleep(10**6)

    def main():
        options = {"entrance": entrance(Authentication.OPTIONAL), "users": USERS, "verify": endless}
        with proxy(**options) as p, SOCKS5.open(p, ("127.0.0.1", 9), "ann", GOOD) as client:
            assert everything(client) == choice(2) + login_status(1)
            assert netnet.now() == 10
            assert p.ended().ending is Ending.HANDSHAKE_TIMEOUT

    run(main, clock=VirtualClock())


@pytest.mark.parametrize("dialect", ALL, ids=str)
@pytest.mark.parametrize("password", [GOOD, WRONG])
def test_no_password_is_told_to_anybody(run, proxy, caplog, dialect, password):
    """In no line, no field, no log record, no representation, whether it is right or wrong."""
    caplog.set_level(logging.DEBUG)
    texts = []

    def main():
        def look(user, asked):
            texts.extend(map(repr, p.server.sessions))
            texts.append(repr(p.server.settings))
            return verify(user, asked)

        with proxy(entrance=entrance(Authentication.OPTIONAL), users=USERS, verify=look) as p:
            with dialect.open(p, ("127.0.0.1", 9), "ann", password) as client:
                heard = everything(client)
            session = p.ended()
            texts.extend([session.line(0), session.json(0), repr(session), repr(session.request), repr(heard)])

    run(main)
    assert any("ann" in text for text in texts) or not dialect.takes_logins
    assert not [text for text in [*texts, caplog.text] if password in text]


NAMES = ["a\nb", "a\r\n127.0.0.1:1 -> forged", "\x1b[2J", "\u2028", "\udcff", "x" * 255, "\0", "\u202e\u00e9", "'\""]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize("accepted", [True, False])
def test_a_user_name_breaks_no_line(run, proxy, name, accepted):
    raw = name.encode("utf-8", "surrogateescape")

    def main():
        options = {"entrance": entrance(Authentication.OPTIONAL), "verify": lambda user, password: accepted}
        with proxy(**options) as p:
            with p.client(greeting(2) + login(raw, b"p") + request5("127.0.0.1", 9)) as client:
                heard = everything(client)
                assert heard == choice(2) + (login_status(0) + reply5(5) if accepted else login_status(1))
            session = p.ended()
            assert session.user == (name if accepted else None)
            assert session.line(0).isprintable()
            assert session.json(0).isascii()
            assert session.json(0).isprintable()

    run(main)
