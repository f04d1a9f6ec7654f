"""What the rules forbid, the proxy refuses, in each protocol's words, for what is connected to and not for what it is called;
and who may come in where nothing else is said.
"""

from __future__ import annotations

import socket

import pytest

import netnet
from netnet.socks import Authentication, Command, Ending, Entrance, Rule, Rules, Server
from netnet.socks.rules import DENY_PRIVATE, Route
from netnet.testing import VirtualClock, wait_all_parked
from tests.socks.conftest import echoing
from tests.socks.dialects import ALL, NAMING, SOCKS4A, SOCKS5, Outcome, everything, exactly, reply_of_socks5
from tests.socks.wire import REFUSAL, greeting, login, reply5, request, request5

GUARDED = Entrance("gate", deny_private=True)
LOOPBACK_FIRST = Rule("the tests' own", True, destinations=("loopback",))


def names(**addresses):
    return netnet.use_resolver(netnet.HostTable({name.replace("_", ".") + ".test": a for name, a in addresses.items()}))


@pytest.mark.parametrize("dialect", ALL, ids=str)
def test_a_denied_target(run, proxy, dialect):
    rules = Rules([Rule("no echo", False, destinations=("127.0.0.0/8",), ports=((1, 65535),))])

    def main():
        with echoing() as target, proxy(rules=rules) as p:
            with dialect.open(p, target.getsockname()) as client:
                dialect.refused(client, Outcome.DENIED)
            session = p.ended()
            assert (session.ending, session.rule, session.protocol) == (Ending.DENIED, "no echo", dialect.protocol)
            assert "no echo" in session.detail
            assert session.opened is None

    run(main)


@pytest.mark.parametrize("dialect", ALL, ids=str)
def test_the_rule_that_allowed_it_is_told(run, proxy, dialect):
    def main():
        with echoing() as target, proxy(rules=Rules([LOOPBACK_FIRST], default_allow=False)) as p:
            with dialect.open(p, target.getsockname()) as client:
                dialect.granted(client)
            assert p.ended().rule == "the tests' own"
            with dialect.open(p, ("192.0.2.1", 80)) as client:
                dialect.refused(client, Outcome.DENIED)
            assert p.ended(2).rule == "default"

    run(main)


def test_rules_see_client_user_and_command(run, proxy):
    rules = Rules(
        [
            Rule("ann", True, users=("ann",)),
            Rule("second", True, clients=("127.0.0.2",)),
            Rule("no bind", False, commands=(Command.BIND,)),
        ],
        default_allow=False,
    )
    gate = Entrance(authentication=Authentication.OPTIONAL)

    def main():
        with echoing() as target, proxy(rules=rules, entrance=gate, verify=lambda user, password: True) as p:
            for user, source, comes_in in [
                (None, None, False),
                ("ann", None, True),
                ("bob", None, False),
                (None, "127.0.0.2", True),
            ]:
                with SOCKS5.open(p, target.getsockname(), user, source=source) as client:
                    SOCKS5.granted(client, user) if comes_in else SOCKS5.refused(client, Outcome.DENIED, user)

    run(main)


#: how a private address can be said → what HTTP and SOCKS4a and SOCKS5 have for it
SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "0x7f.0.0.1",
    "2130706433",
    "0177.0.0.1",
    "::1",
    "::ffff:127.0.0.1",
    "[::1]",
    "0.0.0.0",
]
SPELLINGS += ["::", "10.1.2.3", "169.254.169.254", "100.100.100.200", "fe80::1", "fd00::1", "64:ff9b::7f00:1"]


@pytest.mark.parametrize("dialect", [SOCKS4A, SOCKS5], ids=str)
@pytest.mark.parametrize("host", SPELLINGS)
def test_private_addresses_however_they_are_said(run, proxy, dialect, host):
    def main():
        with proxy(entrance=GUARDED) as p:
            spoken = host.encode()
            data = request("", 9, name=spoken) if dialect is SOCKS4A else greeting(0) + request5(spoken, 9)
            with p.client(data) as client:
                dialect.refused(client, Outcome.DENIED)
            session = p.ended()
            assert (session.ending, session.rule) == (Ending.DENIED, DENY_PRIVATE)

    run(main)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "0.0.0.0", "192.168.1.1"])
def test_private_addresses_as_bytes(run, proxy, host):
    def main():
        with proxy(entrance=GUARDED) as p:
            with p.client(greeting(0) + request5(host, 9)) as client:
                SOCKS5.refused(client, Outcome.DENIED)
            if ":" not in host:
                with p.client(request(host, 9)) as client:
                    assert everything(client) == REFUSAL
            assert {session.rule for session in p.sessions} == {DENY_PRIVATE}

    run(main)


@pytest.mark.parametrize("dialect", NAMING, ids=str)
def test_a_name_that_leads_inside(run, proxy, dialect):
    def main():
        with echoing() as target, names(inside="127.0.0.1", inner=["10.0.0.1", "::1"]), proxy(entrance=GUARDED) as p:
            for number, name in enumerate(["inside.test", "INSIDE.test", "inside.test.", "inner.test", "localhost"], 1):
                if name == "localhost":  # where there is no such name, there is nothing to be denied
                    break
                with dialect.open(p, (name, target.getsockname()[1])) as client:
                    dialect.refused(client, Outcome.DENIED)
                session = p.ended(number)
                assert (session.ending, session.rule, session.address) == (Ending.DENIED, DENY_PRIVATE, "")

    run(main)


@pytest.mark.parametrize("addresses", [["10.0.0.1", "127.0.0.1"], ["127.0.0.1", "10.0.0.1"], ["fe80::1", "127.0.0.1"]])
@pytest.mark.parametrize("dialect", NAMING, ids=str)
def test_of_a_name_with_several_addresses_only_those_are_connected_to_that_may_be(run, proxy, dialect, addresses):
    """Loopback stands for what is public here; the other address would be denied, and is not tried."""
    rules = Rules([LOOPBACK_FIRST])

    def main():
        with echoing() as target, names(mixed=addresses), proxy(entrance=GUARDED, rules=rules) as p:
            with dialect.open(p, ("mixed.test", target.getsockname()[1])) as client:
                dialect.granted(client)
            session = p.ended()
            assert (session.rule, session.address) == ("the tests' own", "127.0.0.1")

    run(main)


def test_a_name_is_looked_up_once(run, proxy):
    """Else it could lead elsewhere after it was judged."""
    asked = []

    class Turncoat(netnet.HostTable):
        def getaddrinfo(self, host, *others):
            asked.append(host)
            return netnet.HostTable({"turn.test": "127.0.0.1" if len(asked) == 1 else "10.0.0.1"}).getaddrinfo(
                host, *others
            )

    def main():
        with echoing() as target, netnet.use_resolver(Turncoat({})):
            with proxy(entrance=GUARDED, rules=Rules([LOOPBACK_FIRST])) as p:
                with SOCKS5.open(p, ("turn.test", target.getsockname()[1])) as client:
                    SOCKS5.granted(client)
            assert asked == ["turn.test"]

    run(main)


@pytest.mark.parametrize("judged", [True, False])
def test_a_dialer_gets_the_address_that_was_judged(run, proxy, judged):
    """Where nothing has to be judged, it gets the name, and who connects looks it up."""
    dialled = []

    def main():
        def dial(address):
            dialled.append(address)
            return netnet.connect(target.getsockname())

        options = {"entrance": GUARDED, "rules": Rules([LOOPBACK_FIRST])} if judged else {}
        with echoing() as target, names(one=["10.0.0.1", "127.0.0.9"]), proxy(dial=dial, **options) as p:
            with SOCKS5.open(p, ("one.test", 80)) as client:
                SOCKS5.granted(client)
            if judged:
                with SOCKS5.open(p, ("10.0.0.1", 80)) as client:
                    SOCKS5.refused(client, Outcome.DENIED)
        assert dialled == [("127.0.0.9" if judged else "one.test", 80)]

    run(main)


@pytest.mark.parametrize("dialect", NAMING, ids=str)
def test_a_denied_name_is_not_looked_up(run, proxy, dialect):
    rules = Rules([Rule("no ads", False, destinations=("ads.test", "*.ads.test"))])

    class Nobody(netnet.HostTable):
        def getaddrinfo(self, *args):
            raise AssertionError("it was looked up")

    def main():
        with netnet.use_resolver(Nobody({})), proxy(rules=rules) as p:
            for number, name in enumerate(["ads.test", "x.ADS.test", "a.b.ads.test."], 1):
                with dialect.open(p, (name, 80)) as client:
                    dialect.refused(client, Outcome.DENIED)
                assert p.ended(number).rule == "no ads"

    run(main)


# -- BIND and datagrams


@pytest.mark.parametrize(
    "destinations", [("127.0.0.2",), (), ("0.0.0.0/0",)], ids=["that peer", "everything", "everything, in other words"]
)
def test_bind_is_judged(run, proxy, destinations):
    rules = Rules([Rule("no bind", False, commands=(Command.BIND,), destinations=destinations)])

    def main():
        with proxy(rules=rules) as p:
            with p.client(greeting(0) + request5("127.0.0.2", 20, command=2)) as client:
                SOCKS5.refused(client, Outcome.DENIED)
            with p.client(request("127.0.0.2", 20, command=2)) as client:
                assert everything(client) == REFUSAL
            assert [session.rule for session in p.sessions] == ["no bind"] * 2

    run(main)


def test_who_comes_to_a_bind_for_anybody_is_judged(run, proxy):
    """The memo of SOCKS4 has the request fail, and so does SOCKS4 here; with SOCKS5 the right one may still come."""
    rules = Rules([Rule("not from there", False, commands=(Command.BIND,), destinations=("127.0.0.2",))])

    def main():
        with proxy(rules=rules) as p:
            with p.client(greeting(0) + request5("0.0.0.0", 0, command=2)) as client:
                assert exactly(client, 2) == b"\5\0"
                bound = reply_of_socks5(client, 0)
                with netnet.connect(bound, source="127.0.0.2") as stranger:
                    assert gone(stranger)
                with netnet.connect(bound, source="127.0.0.3") as peer:
                    assert reply_of_socks5(client, 0) == peer.getsockname()
            with p.client(request("0.0.0.0", 0, command=2)) as client:
                answer = exactly(client, 8)
                where = (socket.inet_ntoa(answer[4:]), int.from_bytes(answer[2:4], "big"))
                with netnet.connect(where, source="127.0.0.2") as stranger:
                    assert gone(stranger)
                assert everything(client) == REFUSAL
            assert p.ended(2).ending is Ending.DENIED

    run(main)


def gone(sock):
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def test_bind_does_not_go_round_an_upstream_proxy(run, proxy):
    """A route says how a connection leaves; BIND cannot go that way, and must not go another."""
    rules = Rules([Rule("out", True, route=Route(upstream=("socks5h://192.0.2.1:1080",), upstream_name="gate"))])

    def main():
        with proxy(rules=rules) as p, names(peer="127.0.0.2"):
            for number, host in enumerate(["127.0.0.2", "peer.test", "0.0.0.0"], 1):
                with p.client(greeting(0) + request5(host, 20, command=2)) as client:
                    SOCKS5.refused(client, Outcome.COMMAND_UNSUPPORTED)
                assert p.ended(number).ending is Ending.UNSUPPORTED

    run(main)


def test_datagrams_are_judged(run, proxy):
    rules = Rules([Rule("no dns", False, commands=(Command.ASSOCIATE,), ports=((53, 53),)), LOOPBACK_FIRST])

    def main():
        with proxy(rules=rules, entrance=GUARDED) as p, netnet.Socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            with netnet.Socket(socket.AF_INET, socket.SOCK_DGRAM) as target:
                target.bind(("127.0.0.1", 0))
                udp.bind(("127.0.0.1", 0))
                with p.client(greeting(0) + request5("0.0.0.0", 0, command=3)) as client:
                    assert exactly(client, 2) == b"\5\0"
                    relay = reply_of_socks5(client, 0)
                    for host, port in [("127.0.0.1", 53), ("10.0.0.1", 9), ("169.254.169.254", 80)]:
                        udp.sendto(bytes(3) + request5(host, port)[3:] + b"no", relay)
                    udp.sendto(bytes(3) + request5(*target.getsockname())[3:] + b"yes", relay)
                    assert target.recv(100) == b"yes"
                    wait_all_parked()
                    (session,) = p.server.sessions
                    assert session.relay.dropped == {"denied": 3}
                    assert (session.bytes_sent, session.bytes_received) == (3, 0)
                session = p.ended()
                assert (session.sent, session.received, session.ending) == (3, 0, Ending.CLOSED)

    run(main)


@pytest.mark.parametrize("user", ["ann", None])
def test_rules_of_datagrams_see_the_user(run, proxy, user):
    rules = Rules([Rule("ann", True, users=("ann",))], default_allow=False)
    gate = Entrance(authentication=Authentication.OPTIONAL)

    def main():
        with (
            proxy(rules=rules, entrance=gate, verify=lambda *_: True) as p,
            netnet.Socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            netnet.Socket(socket.AF_INET, socket.SOCK_DGRAM) as target,
        ):
            for sock in (udp, target):
                sock.bind(("127.0.0.1", 0))
            hello = greeting(0) if user is None else greeting(2) + login(user, "x")
            with p.client(hello + request5("0.0.0.0", 0, command=3)) as client:
                exactly(client, 2 if user is None else 4)
                udp.sendto(bytes(3) + request5(*target.getsockname())[3:] + b"x", reply_of_socks5(client, 0))
                wait_all_parked()
                (session,) = p.server.sessions
                assert session.bytes_sent == (1 if user else 0)
                assert session.relay.dropped == ({} if user else {"denied": 1})

    run(main)


# -- the door


def test_a_loopback_listener_needs_no_entrance(run, tmp_path):
    """And what it is called then is where it listens."""
    sessions = []

    def main():
        with (
            netnet.listen("127.0.0.1:0") as tcp,
            netnet.listen(f"unix:{tmp_path}/p") as unix,
            netnet.listen("[::1]:0") as ipv6,
        ):
            task = netnet.spawn(Server(report=sessions.append).serve, tcp, unix, ipv6)
            for listener in (tcp, unix, ipv6):
                with netnet.connect(listener.local_address) as client:
                    client.sendall(b"\xff")
                    assert gone(client)
                while len(sessions) < 1 + (tcp, unix, ipv6).index(listener):
                    netnet.sleep(0)
                assert sessions[-1].listener == str(listener.local_address)
            task.cancel()

    run(main)


@pytest.mark.parametrize(("host", "near"), [("0.0.0.0", "127.0.0.1"), ("[::]", "::1")])
def test_a_public_listener_needs_one(run, host, near):
    def main():
        with netnet.listen("127.0.0.1:0") as inside, netnet.listen(f"{host}:0") as outside:
            with pytest.raises(netnet.UsageError, match="Entrance"):
                Server().serve(inside, outside)
            with pytest.raises(netnet.UsageError, match="Entrance"):
                Server(entrances=[Entrance()]).serve(inside, outside)
            task = netnet.spawn(Server(entrances=[Entrance(), Entrance("out")]).serve, inside, outside)
            with netnet.connect((near, outside.getsockname()[1])) as client:
                client.sendall(b"\xff")
                assert gone(client)
            task.cancel()

    run(main)


@pytest.mark.parametrize("which", [0, 1])
def test_a_listener_that_fails_ends_the_server(run, which):
    """By its error; handshakes end with it, relays go on."""
    sessions = []

    def main():
        with echoing() as target, netnet.listen("127.0.0.1:0") as one, netnet.listen("127.0.0.1:0") as other:
            server = Server(report=sessions.append)
            task = netnet.spawn(server.serve, one, other)
            with netnet.connect(one.getsockname()) as relayed, netnet.connect(other.getsockname()) as waiting:
                relayed.sendall(SOCKS5.opening(*target.getsockname()))
                SOCKS5.granted(relayed)
                wait_all_parked()
                (one, other)[which].close()
                with pytest.raises(netnet.ClosedError):
                    task.result()
                assert gone(waiting)
                assert [session.ending for session in sessions] == [Ending.STOPPED]
                relayed.sendall(b"x")
                assert exactly(relayed, 1) == b"x"
            while server.active:
                netnet.sleep(0)

    run(main)


def test_what_does_not_listen_is_no_listener(run):
    def main():
        with netnet.Socket() as sock, pytest.raises(netnet.UsageError, match="listen"):
            Server().serve(sock)

    run(main)


@pytest.mark.parametrize("protocols", [{"socks4"}, {"socks5"}, {"http"}, {"socks4", "http"}, set()])
def test_protocols_that_are_not_spoken_at_an_entrance(run, proxy, protocols):
    def main():
        with echoing() as target, proxy(entrance=Entrance(protocols=frozenset(protocols))) as p:
            for number, dialect in enumerate(ALL, 1):
                with dialect.open(p, target.getsockname()) as client:
                    if dialect.protocol in protocols or ("socks4" in protocols and dialect is SOCKS4A):
                        dialect.granted(client)
                    else:
                        assert gone(client)
                session = p.ended(number)
                assert session.ending in (Ending.CLOSED, Ending.BAD_REQUEST)

    run(main)


def test_rules_with_times_and_a_connection_that_goes_on(run, proxy):
    """A rule is asked when the connection is made, and not again."""

    def main():
        from datetime import datetime

        moment = [datetime(2024, 5, 6, 12, 0)]
        rules = Rules([Rule("day", True, times=("08:00-18:00",))], default_allow=False, now=lambda: moment[0])
        with echoing() as target, proxy(rules=rules) as p, SOCKS5.open(p, target.getsockname()) as early:
            SOCKS5.granted(early)
            moment[0] = datetime(2024, 5, 6, 20, 0)
            with SOCKS5.open(p, target.getsockname()) as late:
                SOCKS5.refused(late, Outcome.DENIED)
            early.sendall(b"x")
            assert exactly(early, 1) == b"x"

    run(main, clock=VirtualClock())


def test_the_reply_of_a_denied_request_is_whole(run, proxy):
    def main():
        with proxy(entrance=GUARDED) as p, p.client(greeting(0) + request5("127.0.0.1", 9) + b"data" * 1000) as client:
            assert everything(client) == b"\5\0" + reply5(2)

    run(main)


def test_a_refusal_of_http_arrives_although_the_client_is_still_sending(run, proxy):
    """A close with unread data would be a reset, which overtakes the answer."""
    body = b"x" * 300_000

    def main():
        rules = Rules([Rule("no", False)])
        with proxy(rules=rules) as p, p.client(b"POST http://10.0.0.1/ HTTP/1.1\r\nHost: a\r\n") as client:
            client.sendall(b"Content-Length: %d\r\n\r\n" % len(body))
            for start in range(0, len(body), 30_000):
                client.sendall(body[start : start + 30_000])
                netnet.sleep(0)
            client.shutdown(socket.SHUT_WR)
            assert b"".join(client).startswith(b"HTTP/1.1 403 ")
            assert p.ended().ending is Ending.DENIED

    run(main)


def test_a_refused_client_of_http_that_stays_is_not_waited_for_long(run, proxy):
    def main():
        rules = Rules([Rule("no", False)])
        with proxy(rules=rules) as p, p.client(b"POST http://10.0.0.1/ HTTP/1.1\r\nHost: a\r\n\r\n") as client:
            assert b"".join(client).startswith(b"HTTP/1.1 403 ")
            p.ended()
            assert netnet.now() == 1.0

    run(main, clock=VirtualClock())
