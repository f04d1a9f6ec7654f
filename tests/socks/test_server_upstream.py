"""A proxy behind a proxy: rules send connections through chains, and what the next proxy says is told to the client. The next
proxies are other servers in the same loop, and scripts for what no server of ours would say.
"""

from __future__ import annotations

import contextlib

import pytest

import netnet
from netnet.socks import Authentication, Ending, Entrance, Limits, Rule, Rules
from netnet.socks.rules import Route
from netnet.testing import VirtualClock, wait_all_parked
from tests.socks.conftest import echoing
from tests.socks.dialects import ALL, SOCKS4, SOCKS5, Outcome, data_of, everything, exactly
from tests.socks.scripted import peer

SECRET = "upstream-secret"
SCHEMES = ["socks4", "socks4a", "socks5", "socks5h", "http"]


def url(scheme, p, who=""):
    return f"{scheme}://{who}{p.address[0]}:{p.address[1]}"


def through(*chain, name="gate", **fields):
    return Rules([Rule("out", True, route=Route(upstream=chain, upstream_name=name, **fields))])


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dialect", ALL, ids=str)
def test_through_another_proxy(run, proxy, scheme, dialect):
    data = data_of(50_000)  # it must fit into the sockets' buffers, since nobody reads while it is sent

    def main():
        with echoing() as target, proxy() as outer, proxy(rules=through(url(scheme, outer))) as p:
            with dialect.open(p, target.getsockname(), then=data) as client:
                dialect.granted(client)
                head = dialect.arrived(client, target.getsockname())
                assert exactly(client, len(data)) == data
            session = p.ended()
            assert (session.ending, session.route, session.rule) == (Ending.CLOSED, "gate", "out")
            assert (session.sent, session.received) == (head + len(data), head + len(data))
            far = outer.ended()
            assert far.protocol == {"socks5h": "socks5", "socks4a": "socks4"}.get(scheme, scheme)  # it was no name
            assert (far.sent, far.received) == (session.sent, session.received)
            assert far.target == session.target

    run(main)


@pytest.mark.parametrize(
    ("scheme", "far"),
    [
        ("socks4", "127.0.0.1"),
        ("socks5", "127.0.0.1"),
        ("socks4a", "t.test"),
        ("socks5h", "t.test"),
        ("http", "t.test"),
    ],
)
def test_who_looks_the_name_up(run, proxy, scheme, far):
    def main():
        table = netnet.use_resolver(netnet.HostTable({"t.test": "127.0.0.1"}))
        with table, echoing() as target, proxy() as outer, proxy(rules=through(url(scheme, outer))) as p:
            port = target.getsockname()[1]
            with SOCKS5.open(p, ("t.test", port)) as client:
                SOCKS5.granted(client)
            assert p.ended().target == f"t.test:{port}"
            assert outer.ended().target == f"{far}:{port}"

    run(main)


def test_a_name_that_had_to_be_judged_is_not_looked_up_again(run, proxy):
    """The upstream proxy is asked for the address that was judged, though it could look names up."""

    def main():
        table = netnet.use_resolver(netnet.HostTable({"t.test": ["10.0.0.1", "127.0.0.1"]}))
        with table, echoing() as target, proxy() as outer:
            rules = [Rule("in", False, destinations=("10.0.0.0/8",)), *through(url("socks5h", outer)).rules]
            with proxy(rules=Rules(rules)) as p:
                with SOCKS5.open(p, ("t.test", target.getsockname()[1])) as client:
                    SOCKS5.granted(client)
                assert p.ended().address == "127.0.0.1"
                assert outer.ended().request.packed == b"\x7f\0\0\1"

    run(main)


def test_a_chain_of_three(run, proxy):
    def main():
        with echoing() as target, proxy() as a, proxy() as b, proxy() as c:
            with proxy(rules=through(url("socks5", a), url("http", b), url("socks4a", c), name="")) as p:
                with SOCKS5.open(p, target.getsockname(), then=b"x") as client:
                    SOCKS5.granted(client)
                    assert exactly(client, 1) == b"x"
                session = p.ended()
                assert session.route == ",".join([url("socks5", a), url("http", b), url("socks4a", c)])
                ports = [f"127.0.0.1:{one.address[1]}" for one in (b, c)]
                assert [one.ended().target for one in (a, b, c)] == [*ports, f"127.0.0.1:{target.getsockname()[1]}"]

    run(main)


@pytest.mark.parametrize("scheme", ["socks5", "http"])
@pytest.mark.parametrize("password", [SECRET, "wrong-" + SECRET])
def test_it_logs_in_and_tells_nobody_how(run, proxy, caplog, scheme, password):
    def main():
        gate = Entrance(authentication=Authentication.PASSWORD)
        verify = lambda user, asked: (user, asked) == ("me", SECRET)  # noqa: E731
        with echoing() as target, proxy(entrance=gate, verify=verify) as outer:
            for name in ("", "gate"):
                rules = through(url(scheme, outer, f"me:{password}@"), name=name)
                with proxy(rules=rules) as p:
                    with SOCKS5.open(p, target.getsockname()) as client:
                        if password == SECRET:
                            SOCKS5.granted(client)
                        else:
                            SOCKS5.refused(client, Outcome.FAILED)
                    session = p.ended()
                    assert session.ending is (Ending.CLOSED if password == SECRET else Ending.UPSTREAM)
                    for text in (session.line(0), session.json(0), repr(session), repr(p.server.settings)):
                        assert SECRET not in text
                    assert session.route

    run(main, clock=VirtualClock())
    assert SECRET not in caplog.text


@pytest.mark.parametrize("scheme", ["socks5", "http"])
@pytest.mark.parametrize("dialect", ALL, ids=str)
@pytest.mark.parametrize(("what", "outcome"), [("denied", Outcome.DENIED), ("refused", Outcome.REFUSED)])
def test_what_the_next_proxy_says_is_passed_on(run, proxy, scheme, dialect, what, outcome):
    """As far as the protocols have words for it. HTTP tells who failed: the next proxy."""

    def main():
        inner = Rules([Rule("no", what != "denied")])
        with proxy(rules=inner) as outer, proxy(rules=through(url(scheme, outer))) as p, netnet.Socket() as taken:
            taken.bind(("127.0.0.1", 0))
            with dialect.open(p, taken.getsockname()) as client:
                dialect.refused(client, Outcome.FAILED if dialect.http else outcome)
            session = p.ended()
            assert (session.ending, session.route) == (Ending.UPSTREAM, "gate")
            assert outer.ended().ending is (Ending.DENIED if what == "denied" else Ending.REFUSED)

    run(main)


def answers(data):
    def script(conn, made):
        conn.recv(1000)
        conn.sendall(data)

    return script


BROKEN = {
    "closes": b"",
    "garbage": b"\xff" * 100,
    "half a reply": b"\5\0\5\0\0\1",
    "wrong method": b"\5\7",
    "no method": b"\5\xff",
    "speaks http": b"HTTP/1.1 400 Bad\r\n\r\n",
    "line feeds": b"HTTP/1.1 403 a\x1b[2J\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("scheme", ["socks4", "socks5", "http"])
def test_a_next_proxy_that_breaks_its_protocol(run, proxy, scheme, name):
    def main():
        with peer(answers(BROKEN[name])) as broken, proxy(rules=through(f"{scheme}://{broken.address}")) as p:
            with SOCKS4.open(p, ("192.0.2.1", 80)) as client:
                SOCKS4.refused(client, Outcome.FAILED)
            session = p.ended()
            assert session.ending is Ending.UPSTREAM
            assert session.line(0).isprintable()
            broken.wait_ended()

    run(main)


@pytest.mark.parametrize("dialect", ALL, ids=str)
def test_a_next_proxy_that_is_not_there(run, proxy, dialect):
    def main():
        with netnet.Socket() as taken:
            taken.bind(("127.0.0.1", 0))
            with proxy(rules=through(f"socks5://127.0.0.1:{taken.getsockname()[1]}")) as p:
                with dialect.open(p, ("192.0.2.1", 80)) as client:
                    dialect.refused(client, Outcome.FAILED)
                assert p.ended().ending is Ending.UPSTREAM

    run(main)


@pytest.mark.parametrize("dialect", ALL, ids=str)
def test_a_next_proxy_that_says_nothing(run, proxy, dialect):
    def main():
        limits = Limits(connect_seconds=9)
        with netnet.listen("127.0.0.1:0") as silent:
            with proxy(rules=through(f"socks5://{silent.local_address}"), limits=limits) as p:
                with dialect.open(p, ("192.0.2.1", 80)) as client:
                    dialect.refused(client, Outcome.TIMED_OUT)
                assert netnet.now() == 9
                assert p.ended().ending in (Ending.CONNECT_TIMEOUT, Ending.UPSTREAM)

    run(main, clock=VirtualClock())


def test_what_the_target_says_first_is_not_lost(run, proxy):
    def main():
        with netnet.listen("127.0.0.1:0") as target, proxy() as b, proxy(rules=through(url("http", b))) as p:
            with SOCKS5.open(p, target.getsockname()) as client:
                seen, _ = target.accept()
                with seen:
                    seen.sendall(b"220 ready")
                SOCKS5.granted(client)
                assert everything(client) == b"220 ready"

    run(main)


# -- the way out


@pytest.mark.parametrize("upstream", [False, True])
def test_the_source_address(run, proxy, upstream):
    def main():
        with netnet.listen("127.0.0.1:0") as target, contextlib.ExitStack() as stack:
            chain = (url("socks5", stack.enter_context(proxy())),) if upstream else ()
            p = stack.enter_context(proxy(rules=through(*chain, source="127.0.0.2")))
            with SOCKS5.open(p, target.getsockname()) as client:
                told = SOCKS5.granted(client)
                seen, address = target.accept()
                with seen:
                    assert address[0] == ("127.0.0.1" if upstream else "127.0.0.2")
                    assert told[0] == "127.0.0.2"  # its own end of the connection that it made

    run(main)


@pytest.mark.parametrize("route", [{"source": "192.0.2.99"}, {"source": "::1"}, {"interface": "nothere0"}], ids=str)
@pytest.mark.parametrize("dialect", ALL, ids=str)
def test_a_way_out_that_there_is_not(run, proxy, route, dialect, caplog):
    """It is a failure, and never another way."""

    def main():
        rules = Rules([Rule("out", True, route=Route(**route))])
        with netnet.listen("127.0.0.1:0") as target, proxy(rules=rules) as p:
            with dialect.open(p, target.getsockname()) as client:
                heard = everything(client)
                assert heard
                assert not heard.startswith((b"\0\x5a", b"\5\0\5\0", b"HTTP/1.1 200"))
            assert p.ended().opened is None
            wait_all_parked()
            target.settimeout(0)
            with pytest.raises(BlockingIOError):
                target.accept()

    run(main)
    assert not [record for record in caplog.records if record.exc_info]
