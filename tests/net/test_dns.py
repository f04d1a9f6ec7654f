"""The resolver that asks name servers: against a real one (dnsmasq), and against scripted ones that lie, keep silent, refuse,
lead in circles and send garbage."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading

import dns.flags
import dns.message
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import netnet
from netnet import socket as cooperative
from netnet.net.dns import DnsResolver
from netnet.net.dns_wire import ALIASES_MAX
from netnet.net.hosts import EAI_NODATA
from netnet.net.resolvers import use_resolver
from netnet.testing import VirtualClock, wait_all_parked
from tests.net.name_server import NameServer, addresses, answer, asked, name_server, resolver_of, zone

INET, INET6, STREAM = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM
STARTS_MAX = 20


@contextlib.contextmanager
def fails(code):
    """A look-up that fails with this code, and says something."""
    with pytest.raises(socket.gaierror) as caught:
        yield
    assert caught.value.errno == code, caught.value
    assert caught.value.strerror


# -- a real server

MANY = [f"10.1.{number // 200}.{number % 200 + 1}" for number in range(150)]

DNSMASQ = [
    "--no-daemon",
    "--conf-file=/dev/null",
    "--no-resolv",
    "--no-hosts",
    "--bind-interfaces",
    "--listen-address=127.0.0.1",
    "--local=/test/",
    "--local=/2.0.192.in-addr.arpa/",
    "--host-record=both.test,192.0.2.1,2001:db8::1",
    "--host-record=four.test,192.0.2.4",
    "--host-record=six.test,2001:db8::6",
    "--cname=alias.test,next.test",
    "--cname=next.test,both.test",
    "--address=/wild.test/192.0.2.5",
    *(f"--host-record=many{number}.test,{address}" for number, address in enumerate(MANY[:3])),
    *(f"--address=/many.test/{address}" for address in MANY),
]


def start_dnsmasq():
    """A dnsmasq on a port that is free, and its address."""
    for _ in range(STARTS_MAX):
        with socket.socket(INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        program = subprocess.Popen(["dnsmasq", *DNSMASQ, f"--port={port}"], stderr=subprocess.PIPE, text=True)
        assert program.stderr is not None
        if "started" in program.stderr.readline():
            return program, f"127.0.0.1:{port}"
        program.kill()
        program.communicate()
    raise AssertionError("dnsmasq did not start")


@pytest.fixture(scope="module")
def dnsmasq():
    program, address = start_dnsmasq()
    yield address
    program.kill()
    program.communicate()


@pytest.fixture(params=["loop", "no loop"])
def call(request, run):
    """Calls a function inside a loop or outside one."""
    return run if request.param == "loop" else lambda function, *args: function(*args)


real = pytest.mark.client("dnsmasq")


@real
@pytest.mark.parametrize(
    ("host", "family", "expected"),
    [
        ("both.test", 0, {"192.0.2.1", "2001:db8::1"}),
        ("BOTH.test.", 0, {"192.0.2.1", "2001:db8::1"}),
        (b"both.test", INET6, {"2001:db8::1"}),
        ("both.test", INET, {"192.0.2.1"}),
        ("four.test", 0, {"192.0.2.4"}),
        ("six.test", 0, {"2001:db8::6"}),
        ("alias.test", 0, {"192.0.2.1", "2001:db8::1"}),
        ("any.wild.test", 0, {"192.0.2.5"}),
        ("many.test", INET, set(MANY)),
    ],
)
def test_a_real_server_knows(call, dnsmasq, host, family, expected):
    found = call(resolver_of(dnsmasq).getaddrinfo, host, 443, family, STREAM)
    assert set(addresses(found)) == expected
    assert {entry[4][1] for entry in found} == {443}
    assert {entry[:3] for entry in found} <= {(INET, STREAM, 6), (INET6, STREAM, 6)}


@real
@pytest.mark.parametrize(
    ("host", "family", "code"),
    [
        ("no.test", 0, socket.EAI_NONAME),
        ("four.test", INET6, EAI_NODATA),
        ("six.test", INET, EAI_NODATA),
        ("refused.example", 0, socket.EAI_AGAIN),
    ],
)
def test_a_real_server_does_not_know(call, dnsmasq, host, family, code):
    with fails(code):
        call(resolver_of(dnsmasq).getaddrinfo, host, 443, family)


@real
def test_a_real_server_over_tcp(call, dnsmasq, tmp_path):
    conf = tmp_path / "resolv.conf"
    conf.write_text("options use-vc\n")
    found = call(resolver_of(dnsmasq, conf=conf).getaddrinfo, "alias.test", 443, INET, STREAM, 0, socket.AI_CANONNAME)
    assert found == [(INET, STREAM, 6, "both.test", ("192.0.2.1", 443))]


@real
@pytest.mark.parametrize(
    ("address", "flags", "expected"),
    [
        ("192.0.2.1", 0, ("both.test", "http")),
        ("2001:db8::1", 0, ("both.test", "http")),
        ("192.0.2.77", 0, ("192.0.2.77", "http")),
        ("192.0.2.1", socket.NI_NUMERICHOST, ("192.0.2.1", "http")),
        ("192.0.2.1", socket.NI_NUMERICSERV | socket.NI_NAMEREQD, ("both.test", "80")),
        ("127.0.0.1", 0, ("localhost", "http")),
        ("fe80::1%lo", 0, ("fe80::1%lo", "http")),
    ],
)
def test_the_way_back(call, dnsmasq, address, flags, expected):
    scope = socket.if_nametoindex("lo")
    sockaddr = (address.partition("%")[0], 80, 0, scope) if "%" in address else (address, 80)
    assert call(resolver_of(dnsmasq).getnameinfo, sockaddr, flags) == expected


@real
def test_an_address_without_a_name_that_needs_one(call, dnsmasq):
    with fails(socket.EAI_NONAME):
        call(resolver_of(dnsmasq).getnameinfo, ("192.0.2.77", 80), socket.NI_NAMEREQD)


@real
def test_all_of_netnet_by_way_of_a_real_server(call, dnsmasq):
    def main():
        with use_resolver(resolver_of(dnsmasq)):
            assert {entry.sockaddr[0] for entry in netnet.resolve("both.test", 80)} == {"192.0.2.1", "2001:db8::1"}
            assert netnet.lookup("four.test", "https")[0].address.sockaddr == ("192.0.2.4", 443)
            assert netnet.reverse("192.0.2.1") == ("both.test", "0")
            assert cooperative.gethostbyname("alias.test") == "192.0.2.1"
            assert cooperative.gethostbyname_ex("alias.test") == ("both.test", [], ["192.0.2.1"])
            assert cooperative.gethostbyaddr("192.0.2.1") == ("both.test", [], ["192.0.2.1"])
            with pytest.raises(socket.herror):
                cooperative.gethostbyaddr("192.0.2.77")

    call(main)


@real
def test_loops_in_several_threads_share_one(dnsmasq):
    resolver = resolver_of(dnsmasq)
    found, names = [], ["both.test", "alias.test", "four.test", "any.wild.test"] * 5

    def look():
        def main():
            with netnet.TaskGroup() as group:
                return [group.spawn(resolver.getaddrinfo, name, 80, INET, STREAM) for name in names]

        found.append([addresses(task.result()) for task in netnet.run(main)])

    def plain():
        found.append([addresses(resolver.getaddrinfo(name, 80, INET, STREAM)) for name in names])

    threads = [threading.Thread(target=target) for target in (look, look, plain, plain)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[["192.0.2.1"], ["192.0.2.1"], ["192.0.2.4"], ["192.0.2.5"]] * 5] * 4


# -- what is no answer


def rewritten(message, **changes):
    """The bytes of a message with another identity, question or flags."""
    for name, value in changes.items():
        setattr(message, name, value)
    return message.to_wire()


def lies(query):
    """Everything that is to be dropped, each with a wrong address in it."""
    wrong = (str(query.question[0].name).rstrip("."), 60, "A", "203.0.113.66")
    good = answer(query, wrong)
    other = dns.message.make_query("other.test.", asked(query)[1], id=query.id)
    kind = dns.message.make_query(query.question[0].name, "TXT", id=query.id)
    return {
        "id": rewritten(answer(query, wrong), id=query.id ^ 1),
        "another name": answer(other, wrong).to_wire(),
        "another type": answer(kind, wrong).to_wire(),
        "a query": query.to_wire(),
        "cut off": good.to_wire()[:-3],
        "nothing": b"",
        "a byte": b"\0",
        "no question": good.to_wire()[:12],
        "noise": bytes(range(256)) * 20,
        "header and noise": query.to_wire()[:2] + b"\x81\x80" + b"\xff" * 100,
    }


@pytest.mark.parametrize("lie", lies(dns.message.make_query("db.test.", "A")))
def test_what_is_no_answer_is_dropped_and_the_wait_goes_on(run, lie):
    def script(query, over):
        return [lies(query)[lie], answer(query, ("db.test", 60, "A", "192.0.2.1"))]

    def main():
        with name_server(script) as server:
            assert addresses(resolver_of(server).getaddrinfo("db.test", 80, INET, STREAM)) == ["192.0.2.1"]
            assert server.asked == [("db.test", "A", "udp")]

    run(main)


def test_answers_from_elsewhere_are_not_received(run):
    """An answer that fits, by somebody else who knows port and identity."""

    def script(query, over):
        with netnet.Socket(INET, socket.SOCK_DGRAM) as forger:
            forged = answer(query, ("db.test", 60, "A", "203.0.113.66"))
            forger.sendto(forged.to_wire(), server.peers[-1])
        return answer(query, ("db.test", 60, "A", "192.0.2.1"))

    def main():
        nonlocal server
        with name_server(script) as server:
            assert addresses(resolver_of(server).getaddrinfo("db.test", 80, INET, STREAM)) == ["192.0.2.1"]

    server = None
    run(main)


def test_every_question_has_its_own_identity_and_port(run):
    identities = []

    def script(query, over):
        identities.append(query.id)
        return answer(query, soa=0)

    def main():
        with name_server(script) as server:
            resolver = resolver_of(server, cache_entries_max=0)
            for _ in range(20):
                with fails(EAI_NODATA):
                    resolver.getaddrinfo("db.test", 80, INET)
            return {port for _, port in server.peers}

    assert len(run(main)) > 5  # the kernel may give a port again that was given back
    assert len(set(identities)) > 15


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=80), max_size=3), st.booleans(), st.binary(max_size=120))
def test_whatever_comes_it_is_an_answer_or_the_error_of_a_look_up(replies, over_tcp, tail):
    """Bytes alone, and bytes after a header and a question that fit."""

    def script(query, over):
        head = bytearray(query.to_wire()[: -11 if query.edns >= 0 else None])
        head[2:4] = b"\x83\x80" if over_tcp and over == "udp" else b"\x81\x80"
        head[6:12] = bytes(tail[:6].ljust(6, b"\1"))
        return [*replies, bytes(head) + tail]

    def main():
        with name_server(script) as server:
            with contextlib.suppress(socket.gaierror):
                resolver_of(server, attempts=1, timeout_seconds=0.01).getaddrinfo("db.test", 80, 0, STREAM)
            with contextlib.suppress(socket.gaierror):
                resolver_of(server, attempts=1, timeout_seconds=0.01).getnameinfo(("192.0.2.1", 80), 0)

    netnet.run(main, clock=VirtualClock())


# -- too long for a datagram


def test_what_is_cut_short_is_asked_for_over_tcp(run):
    def script(query, over):
        reply = answer(query, *[("db.test", 60, "A", *MANY)] if over == "tcp" else [])
        if over == "udp":
            reply.flags |= dns.flags.TC
        return reply

    def main():
        with name_server(script) as server:
            assert set(addresses(resolver_of(server).getaddrinfo("db.test", 80, INET, STREAM))) == set(MANY)
            assert server.asked == [("db.test", "A", "udp"), ("db.test", "A", "tcp")]

    run(main)


def truncated(query):
    reply = answer(query)
    reply.flags |= dns.flags.TC
    return reply


@pytest.mark.parametrize(
    "over_tcp",
    [truncated, lambda query: [], lambda query: b"", lambda query: b"x", lambda query: lies(query)["id"]],
)
def test_what_comes_over_tcp_may_be_of_no_use_either(run, over_tcp):
    def main():
        with name_server(lambda query, over: truncated(query) if over == "udp" else over_tcp(query)) as server:
            with fails(socket.EAI_AGAIN):
                resolver_of(server, attempts=3).getaddrinfo("db.test", 80, INET)
            assert len(server.asked) == 2

    run(main)


def test_a_server_without_tcp(run):
    def main():
        with name_server(lambda query, over: truncated(query), over_tcp=False) as server:
            with fails(socket.EAI_AGAIN):
                resolver_of(server, attempts=2).getaddrinfo("db.test", 80, INET)
            assert server.asked == [("db.test", "A", "udp")] * 2

    run(main)


def test_the_question_says_how_much_we_take(run):
    seen = []

    def script(query, over):
        seen.append((query.edns, query.payload))
        return answer(query, ("db.test", 60, "A", "192.0.2.1"))

    def main():
        with name_server(script) as server:
            resolver_of(server).getaddrinfo("db.test", 80, INET)

    run(main)
    assert seen == [(0, 1232)]


@pytest.mark.parametrize("code", ["FORMERR", "NOTIMP"])
def test_a_server_that_does_not_know_extensions_is_asked_without(run, code):
    def script(query, over):
        return answer(query, ("db.test", 60, "A", "192.0.2.1")) if query.edns < 0 else answer(query, rcode=code)

    def main():
        with name_server(script) as server:
            assert addresses(resolver_of(server).getaddrinfo("db.test", 80, INET, STREAM)) == ["192.0.2.1"]
            assert len(server.asked) == 2

    run(main)


# -- several servers, and time

GOOD = zone({("db.test", "A"): (60, "192.0.2.1"), ("db.test", "AAAA"): (60, "2001:db8::1")})


@pytest.mark.parametrize("code", ["SERVFAIL", "REFUSED", "FORMERR", "NOTIMP", "NOTAUTH"])
def test_a_server_that_fails_leaves_it_to_the_next(run, code):
    def main():
        with name_server(lambda query, over: answer(query, rcode=code)) as bad, name_server(GOOD) as good:
            assert addresses(resolver_of(bad, good).getaddrinfo("db.test", 80, INET, STREAM)) == ["192.0.2.1"]
            assert set(bad.names) == {"db.test"}
            assert good.asked == [("db.test", "A", "udp")]
            with fails(socket.EAI_AGAIN):
                resolver_of(bad, attempts=3).getaddrinfo("db.test", 80, INET)

    run(main)


def test_a_port_where_nobody_listens_leaves_it_to_the_next_at_once(run):
    with socket.socket(INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{nobody.getsockname()[1]}"

    def main():
        with name_server(GOOD) as good, netnet.timeout(3):
            assert addresses(resolver_of(closed, good).getaddrinfo("db.test", 80, INET, STREAM)) == ["192.0.2.1"]
            with fails(socket.EAI_AGAIN):
                resolver_of(closed).getaddrinfo("db.test", 80, INET)

    run(main)


def test_a_server_on_an_interface_that_is_not_there_leaves_it_to_the_next(run):
    def main():
        with name_server(GOOD) as good:
            resolver = resolver_of("[fe80::1%none-such]:53", good)
            assert addresses(resolver.getaddrinfo("db.test", 80, INET, STREAM)) == ["192.0.2.1"]
        with fails(socket.EAI_AGAIN):
            resolver_of("fe80::1%none-such").getaddrinfo("db.test", 80, INET)

    run(main)


@pytest.mark.parametrize(("attempts", "servers"), [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_silence_ends_after_all_attempts_at_all_servers(run, attempts, servers):
    def main():
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(name_server(lambda query, over: None)) for _ in range(servers)]
            began = netnet.now()
            with fails(socket.EAI_AGAIN):
                resolver_of(*silent, attempts=attempts, timeout_seconds=7).getaddrinfo("db.test", 80)
            assert netnet.now() - began == 7 * attempts * servers
            for server in silent:
                assert sorted(kind for _, kind, _ in server.asked) == ["A"] * attempts + ["AAAA"] * attempts

    run(main, clock=VirtualClock())


def test_a_silent_server_leaves_it_to_the_next(run):
    def main():
        with name_server(lambda query, over: None) as silent, name_server(GOOD) as good:
            found = resolver_of(silent, good, timeout_seconds=5).getaddrinfo("db.test", 80, 0, STREAM)
            assert set(addresses(found)) == {"192.0.2.1", "2001:db8::1"}
            assert netnet.now() == 5

    run(main, clock=VirtualClock())


def test_a_server_that_is_silent_over_tcp(run, tmp_path):
    conf = tmp_path / "resolv.conf"
    conf.write_text("options use-vc timeout:3 attempts:2\n")

    def main():
        with name_server(lambda query, over: netnet.sleep(1000)) as silent:
            with fails(socket.EAI_AGAIN):
                resolver_of(silent, conf=conf).getaddrinfo("db.test", 80, INET)
            assert netnet.now() == 6

    run(main, clock=VirtualClock())


def test_the_time_of_a_look_up_can_be_limited(run):
    def main():
        with name_server(lambda query, over: None) as silent:
            resolver = resolver_of(silent, timeout_seconds=30)
            with pytest.raises(TimeoutError), netnet.timeout(2):
                resolver.getaddrinfo("db.test", 80)
            assert netnet.now() == 2

    run(main, clock=VirtualClock())


def test_servers_in_turn(run, tmp_path):
    conf = tmp_path / "resolv.conf"
    conf.write_text("options rotate\n")

    def main():
        with name_server(GOOD) as one, name_server(GOOD) as two:
            resolver = resolver_of(one, two, conf=conf, cache_entries_max=0)
            for _ in range(6):
                resolver.getaddrinfo("db.test", 80, INET)
            assert (len(one.asked), len(two.asked)) == (3, 3)

    run(main)


# -- both families


def test_both_families_are_asked_for_at_the_same_time(backend, run):
    """Each reply is held back until both questions are there."""
    both = []

    def script(query, over):
        both.append(asked(query)[1])
        while len(both) < 2:
            netnet.sleep(0)
        return GOOD(query, over)

    def main():
        with name_server(script) as server:
            found = resolver_of(server).getaddrinfo("db.test", 80, 0, STREAM)
            assert set(addresses(found)) == {"192.0.2.1", "2001:db8::1"}

    run(main)
    assert sorted(both) == ["A", "AAAA"]


def test_one_after_the_other_where_the_file_says_so(run, tmp_path):
    conf = tmp_path / "resolv.conf"
    conf.write_text("options single-request\n")
    under_way = 0

    def script(query, over):
        nonlocal under_way
        under_way += 1
        assert under_way == 1
        netnet.sleep(0.01)
        under_way -= 1
        return GOOD(query, over)

    def main():
        with name_server(script) as server:
            found = resolver_of(server, conf=conf).getaddrinfo("db.test", 80, 0, STREAM)
            assert len(found) == 2

    run(main)


@pytest.mark.parametrize("failing", ["A", "AAAA"])
@pytest.mark.parametrize("how", ["SERVFAIL", "silence", "NXDOMAIN", "nothing"])
def test_one_family_that_fails_does_not_spoil_the_other(run, failing, how):
    def script(query, over):
        if asked(query)[1] != failing:
            return GOOD(query, over)
        return {"silence": None, "nothing": answer(query)}.get(
            how, answer(query, rcode=how.replace("nothing", "NOERROR"))
        )

    def main():
        with name_server(script) as server:
            found = resolver_of(server).getaddrinfo("db.test", 80, 0, STREAM)
            assert addresses(found) == ["2001:db8::1" if failing == "A" else "192.0.2.1"]

    run(main, clock=VirtualClock())


def test_one_family_that_fails_is_no_proof_that_there_is_nothing(run):
    def script(query, over):
        return answer(query, rcode="SERVFAIL") if asked(query)[1] == "A" else answer(query, soa=60)

    def main():
        with name_server(script) as server, fails(socket.EAI_AGAIN):
            resolver_of(server).getaddrinfo("db.test", 80)

    run(main)


# -- names


def search_conf(tmp_path, text):
    conf = tmp_path / "resolv.conf"
    conf.write_text(text)
    return conf


@pytest.mark.parametrize(
    ("host", "text", "expected"),
    [
        ("db", "search one.test two.test", ["db.one.test", "db.two.test", "db"]),
        ("db.", "search one.test", ["db"]),
        ("a.db", "search one.test", ["a.db", "a.db.one.test"]),
        ("a.db", "search one.test\noptions ndots:2", ["a.db.one.test", "a.db"]),
        ("db", "domain one.test", ["db.one.test", "db"]),
        ("db", "search .", ["db"]),
        ("a" * 60 + "." + "b" * 60, "search " + ".".join(["c" * 60] * 3), ["a" * 60 + "." + "b" * 60]),
    ],
)
def test_suffixes_are_tried_in_turn(run, tmp_path, host, text, expected):
    conf = search_conf(tmp_path, text)

    def main():
        with name_server(zone({})) as server:
            with fails(socket.EAI_NONAME):
                resolver_of(server, conf=conf).getaddrinfo(host, 80, INET)
            assert server.names == expected

    run(main)


def test_the_first_suffix_that_has_an_address_counts(run, tmp_path):
    conf = search_conf(tmp_path, "search none.test empty.test full.test more.test")
    known = zone({("db.empty.test", "TXT"): (60, "x"), ("db.full.test", "A"): (60, "192.0.2.1")})

    def main():
        with name_server(known) as server:
            resolver = resolver_of(server, conf=conf)
            found = resolver.getaddrinfo("db", 80, INET, STREAM, 0, socket.AI_CANONNAME)
            assert found == [(INET, STREAM, 6, "db.full.test", ("192.0.2.1", 80))]
            assert server.names == ["db.none.test", "db.empty.test", "db.full.test"]
            with fails(EAI_NODATA):
                resolver.getaddrinfo("db", 80, INET6)

    run(main)


def test_a_suffix_whose_servers_fail_ends_the_search(run, tmp_path):
    """The next one could be another host of the same name."""
    conf = search_conf(tmp_path, "search broken.test full.test")

    def script(query, over):
        return answer(query, rcode="SERVFAIL") if "broken" in asked(query)[0] else GOOD(query, over)

    def main():
        with name_server(script) as server:
            with fails(socket.EAI_AGAIN):
                resolver_of(server, conf=conf).getaddrinfo("db", 80, INET)
            assert set(server.names) == {"db.broken.test"}

    run(main)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost", "a.b.localhost."])
@pytest.mark.parametrize(("family", "expected"), [(0, ["::1", "127.0.0.1"]), (INET, ["127.0.0.1"]), (INET6, ["::1"])])
def test_localhost_is_this_machine(call, host, family, expected):
    found = call(resolver_of("127.0.0.1:1").getaddrinfo, host, 80, family, STREAM)
    assert addresses(found) == expected


@pytest.mark.parametrize(
    "host",
    [
        "no.invalid",
        "invalid.",
        "service.onion",
        "a b.test",
        "a/b",
        "-a.test",
        "$(reboot).test",
        "x" * 64,
        "a..test",
        ".",
        "",
        "a." * 126 + "ab",
        "x\0y",
        "\ud800",
    ],
)
def test_names_that_nobody_is_asked_for(run, host):
    def main():
        with name_server(GOOD) as server:
            with fails(socket.EAI_NONAME):
                resolver_of(server).getaddrinfo(host, 80)
            assert server.asked == []

    run(main)


@pytest.mark.parametrize("host", ["_srv.test", "a-b.test", "1.test", "a." * 126 + "a", "x" * 63 + ".test"])
def test_names_at_the_limits_are_asked_for(run, host):
    def main():
        with name_server(zone({(host, "A"): (60, "192.0.2.1")})) as server:
            assert addresses(resolver_of(server).getaddrinfo(host, 80, INET, STREAM)) == ["192.0.2.1"]

    run(main)


def test_names_beyond_ascii_are_encoded(run):
    def main():
        with name_server(zone({("xn--bcher-kva.test", "A"): (60, "192.0.2.1")})) as server:
            assert addresses(resolver_of(server).getaddrinfo("bücher.test", 80, INET, STREAM)) == ["192.0.2.1"]

    run(main)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (socket.AI_V4MAPPED, {"2001:db8::1"}),
        (socket.AI_V4MAPPED | socket.AI_ALL, {"2001:db8::1", "::ffff:192.0.2.1"}),
        (socket.AI_ALL, {"2001:db8::1"}),
    ],
)
def test_mapped_addresses(run, flags, expected):
    def main():
        with name_server(GOOD) as server:
            resolver = resolver_of(server)
            assert set(addresses(resolver.getaddrinfo("db.test", 80, INET6, STREAM, 0, flags))) == expected

    run(main)


def test_the_hosts_file_comes_first_and_is_read_again(run, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.50 Official.test alias # comment\n2001:db8::50 official.test\n")

    def main():
        with name_server(GOOD) as server:
            resolver = resolver_of(server, hosts=hosts)
            found = resolver.getaddrinfo("ALIAS", 80, INET, STREAM, 0, socket.AI_CANONNAME)
            assert found == [(INET, STREAM, 6, "Official.test", ("192.0.2.50", 80))]
            assert set(addresses(resolver.getaddrinfo("official.test.", 80, 0, STREAM))) == {
                "192.0.2.50",
                "2001:db8::50",
            }
            assert resolver.getnameinfo(("2001:db8::50", 80), 0) == ("official.test", "http")
            assert server.asked == []
            hosts.write_text("192.0.2.51 db.test\n")
            assert addresses(resolver.getaddrinfo("db.test", 80, INET, STREAM)) == ["192.0.2.51"]
            hosts.unlink()
            assert addresses(resolver.getaddrinfo("db.test", 80, INET, STREAM)) == ["192.0.2.1"]
            assert server.names == ["db.test"]

    run(main)


def test_the_configuration_is_read_again_and_answers_are_forgotten(run, tmp_path):
    conf = search_conf(tmp_path, "search none.test")

    def main():
        with name_server(zone({("db.full.test", "A"): (60, "192.0.2.1")})) as server:
            resolver = resolver_of(server, conf=conf)
            with fails(socket.EAI_NONAME):
                resolver.getaddrinfo("db", 80, INET)
            conf.write_text("search full.test more.test")
            assert addresses(resolver.getaddrinfo("db", 80, INET, STREAM)) == ["192.0.2.1"]
            assert server.names == ["db.none.test", "db", "db.full.test"]

    run(main)


def test_the_domain_is_taken_off_where_that_is_asked_for(run, tmp_path):
    conf = search_conf(tmp_path, "search our.test")
    table = {
        ("1.2.0.192.in-addr.arpa", "PTR"): (60, "db.our.test."),
        ("2.2.0.192.in-addr.arpa", "PTR"): (60, "db.x.test."),
    }

    def main():
        with name_server(zone(table)) as server:
            resolver = resolver_of(server, conf=conf)
            assert resolver.getnameinfo(("192.0.2.1", 80), socket.NI_NOFQDN) == ("db", "http")
            assert resolver.getnameinfo(("192.0.2.1", 80), 0) == ("db.our.test", "http")
            assert resolver.getnameinfo(("192.0.2.2", 80), socket.NI_NOFQDN) == ("db.x.test", "http")

    run(main)


def test_services_of_datagrams(run):
    def main():
        resolver = resolver_of("127.0.0.1:1")
        assert resolver.getnameinfo(("127.0.0.1", 514), socket.NI_DGRAM) == ("localhost", "syslog")
        assert resolver.getnameinfo(("127.0.0.1", 514), 0) == ("localhost", "shell")

    run(main)


@pytest.mark.parametrize("name", ["\\$x.test.", "-x.test.", "a\\032b.test."])
def test_a_name_that_no_host_can_have_is_none(run, name):
    """It would come into logs and shells."""

    def main():
        with name_server(zone({("1.2.0.192.in-addr.arpa", "PTR"): (60, name)})) as server:
            assert resolver_of(server).getnameinfo(("192.0.2.1", 80), 0) == ("192.0.2.1", "http")

    run(main)


def test_no_server_that_answers_is_no_proof_that_there_is_no_name(run):
    def main():
        with name_server(lambda query, over: answer(query, rcode="SERVFAIL")) as server, fails(socket.EAI_AGAIN):
            resolver_of(server).getnameinfo(("192.0.2.1", 80), 0)

    run(main)


# -- aliases


def test_aliases_inside_the_answer(run):
    def script(query, over):
        return answer(
            query,
            ("c.test", 60, "A", "192.0.2.1"),
            ("db.test", 60, "CNAME", "B.test."),
            ("b.test", 60, "CNAME", "c.test."),
            ("unrelated.test", 60, "A", "203.0.113.66"),
        )

    def main():
        with name_server(script) as server:
            found = resolver_of(server).getaddrinfo("DB.test", 80, INET, STREAM, 0, socket.AI_CANONNAME)
            assert found == [(INET, STREAM, 6, "c.test", ("192.0.2.1", 80))]
            assert len(server.asked) == 1

    run(main)


def chain(length, *, last=("A", "192.0.2.1")):
    table = {(f"n{number}.test", "CNAME"): (60, f"n{number + 1}.test.") for number in range(length)}
    return table | {(f"n{length}.test", last[0]): (60, last[1])}


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("length", "good"), [(1, True), (ALIASES_MAX, True), (ALIASES_MAX + 1, False), (40, False)])
def test_aliases_are_followed_so_far(run, length, good, whole):
    """One at a time, each with a question of its own, or all in one answer."""
    table = chain(length)

    def in_one(query, over):
        return answer(query, *((name, ttl, kind, value) for (name, kind), (ttl, value) in table.items()))

    def main():
        with name_server(in_one if whole else zone(table)) as server:
            resolver = resolver_of(server)
            if good:
                assert addresses(resolver.getaddrinfo("n0.test", 80, INET, STREAM)) == ["192.0.2.1"]
                assert len(server.asked) == (1 if whole else length + 1)
            else:
                with fails(socket.EAI_FAIL):
                    resolver.getaddrinfo("n0.test", 80, INET)
                assert len(server.asked) <= ALIASES_MAX + 1

    run(main)


@pytest.mark.parametrize(
    "table",
    [
        {("db.test", "CNAME"): (60, "db.test.")},
        {("db.test", "CNAME"): (60, "b.test."), ("b.test", "CNAME"): (60, "db.test.")},
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_aliases_in_a_circle_end(run, table, whole):
    def in_one(query, over):
        return answer(query, *((name, ttl, kind, value) for (name, kind), (ttl, value) in table.items()))

    def main():
        with name_server(in_one if whole else zone(table)) as server:
            with fails(socket.EAI_FAIL):
                resolver_of(server).getaddrinfo("db.test", 80)
            assert len(server.asked) <= 2 * (ALIASES_MAX + 1)

    run(main)


@pytest.mark.parametrize(("rcode", "code"), [("NXDOMAIN", socket.EAI_NONAME), ("NOERROR", EAI_NODATA)])
def test_an_alias_of_nothing(run, rcode, code):
    def script(query, over):
        return answer(query, ("db.test", 60, "CNAME", "b.test."), rcode=rcode, soa=60)

    def main():
        with name_server(script) as server:
            with fails(code):
                resolver_of(server).getaddrinfo("db.test", 80, INET)
            assert len(server.asked) == 1

    run(main)


def test_the_official_name_has_to_be_one_of_a_host(run):
    table = {("db.test", "CNAME"): (60, "\\$x.test."), ("\\$x.test", "A"): (60, "192.0.2.1")}

    def main():
        with name_server(zone(table)) as server:
            found = resolver_of(server).getaddrinfo("db.test", 80, INET, STREAM, 0, socket.AI_CANONNAME)
            assert found == [(INET, STREAM, 6, "db.test", ("192.0.2.1", 80))]

    run(main)


# -- what is remembered


@pytest.mark.parametrize(
    ("ttls", "lives"),
    [
        ((60, 60), 60),
        ((10, 60), 10),
        ((60, 10), 10),
        ((0, 60), 0),
        ((10**6, 10**6), 86400),
        ((2**31 - 1, 2**31 - 1), 86400),
    ],
)
def test_answers_live_as_long_as_they_say(run, ttls, lives):
    """The alias's time and the address's, the lesser counts; a day at most."""

    def script(query, over):
        return answer(query, ("db.test", ttls[0], "CNAME", "b.test."), ("b.test", ttls[1], "A", "192.0.2.1"))

    def main():
        with name_server(script) as server:
            resolver = resolver_of(server)

            def look():
                assert addresses(resolver.getaddrinfo("db.test", 80, INET, STREAM)) == ["192.0.2.1"]
                return len(server.asked)

            assert look() == 1
            assert look() == (2 if lives == 0 else 1)
            if lives:
                netnet.sleep(lives - 0.5)
                assert look() == 1
                netnet.sleep(1)
                assert look() == 2

    run(main, clock=VirtualClock())


@pytest.mark.parametrize(
    ("minimum", "soa_ttl", "lives"),
    [(30, 3600, 30), (3600, 30, 30), (10**6, 10**6, 3 * 3600), (0, 3600, 0), (None, 0, 0)],
)
@pytest.mark.parametrize(("rcode", "code"), [("NXDOMAIN", socket.EAI_NONAME), ("NOERROR", EAI_NODATA)])
def test_that_there_is_nothing_is_remembered_too(run, minimum, soa_ttl, lives, rcode, code):
    def main():
        with name_server(lambda query, over: answer(query, rcode=rcode, soa=minimum, soa_ttl=soa_ttl)) as server:
            resolver = resolver_of(server)

            def look():
                with fails(code):
                    resolver.getaddrinfo("db.test", 80, INET)
                return len(server.asked)

            assert look() == 1
            if not lives:
                assert look() == 2
                return
            netnet.sleep(lives - 0.5)
            assert look() == 1
            netnet.sleep(1)
            assert look() == 2

    run(main, clock=VirtualClock())


def test_failures_are_not_remembered(run):
    def main():
        with name_server(lambda query, over: answer(query, rcode="SERVFAIL")) as server:
            resolver = resolver_of(server)
            with fails(socket.EAI_AGAIN):
                resolver.getaddrinfo("db.test", 80, INET)
            server.script = GOOD
            assert addresses(resolver.getaddrinfo("db.test", 80, INET, STREAM)) == ["192.0.2.1"]

    run(main)


def test_the_least_used_is_forgotten_first_and_all_can_be(run):
    table = {(f"n{number}.test", "A"): (60, "192.0.2.1") for number in range(4)}

    def main():
        with name_server(zone(table)) as server:
            resolver = resolver_of(server, cache_entries_max=2)
            for number in (0, 1, 0, 2, 0, 1):
                resolver.getaddrinfo(f"n{number}.test", 80, INET)
            assert server.names == ["n0.test", "n1.test", "n2.test", "n1.test"]
            resolver.clear_cache()
            resolver.getaddrinfo("n1.test", 80, INET)
            assert len(server.asked) == 5

    run(main)


@pytest.mark.parametrize(("entries", "questions"), [(0, 3), (1, 1)])
def test_without_a_memory_each_look_up_asks(run, entries, questions):
    def main():
        with name_server(GOOD) as server:
            resolver = resolver_of(server, cache_entries_max=entries)
            for _ in range(3):
                resolver.getaddrinfo("db.test", 80, INET)
            assert len(server.asked) == questions

    run(main)


# -- many who ask the same


class Gate:
    """A script that holds its replies back until the gate is opened."""

    def __init__(self, script=GOOD):
        self.script = script
        self.open = netnet.Event()

    def __call__(self, query, over):
        self.open.wait()
        return self.script(query, over)


def test_one_question_however_many_ask(run):
    def main():
        gate = Gate()
        with name_server(gate) as server:
            resolver = resolver_of(server)
            tasks = [netnet.spawn(resolver.getaddrinfo, "db.test", 80, INET, STREAM) for _ in range(50)]
            while not server.asked:
                netnet.sleep(0)
            gate.open.set()
            assert [addresses(task.result()) for task in tasks] == [["192.0.2.1"]] * 50
            assert server.asked == [("db.test", "A", "udp")]

    run(main)


def test_an_error_reaches_all_who_ask(run):
    def main():
        gate = Gate(lambda query, over: answer(query, rcode="SERVFAIL"))
        with name_server(gate) as server:
            resolver = resolver_of(server)
            errors = []

            def look():
                with fails(socket.EAI_AGAIN):
                    try:
                        resolver.getaddrinfo("db.test", 80, INET)
                    except socket.gaierror as error:
                        errors.append(error)
                        raise

            tasks = [netnet.spawn(look) for _ in range(10)]
            while not server.asked:
                netnet.sleep(0)
            gate.open.set()
            for task in tasks:
                task.result()
            assert len({id(error) for error in errors}) == 10
            assert len(server.asked) == 1

    run(main)


@pytest.mark.parametrize("cancelled", [[0], [1], [0, 1], [0, 2], [2]])
def test_who_is_cancelled_does_not_take_the_others_along(run, cancelled):
    def main():
        gate = Gate()
        with name_server(gate) as server:
            resolver = resolver_of(server)
            tasks = [netnet.spawn(resolver.getaddrinfo, "db.test", 80, INET, STREAM) for _ in range(3)]
            while not server.asked:
                netnet.sleep(0)
            for number in cancelled:
                tasks[number].cancel()
                tasks[number].join()
            gate.open.set()
            for number, task in enumerate(tasks):
                if number not in cancelled:
                    assert addresses(task.result()) == ["192.0.2.1"]
            assert len(server.asked) == 1

    run(main)


def test_when_nobody_waits_any_more_the_question_is_dropped(run):
    def main():
        gate = Gate()
        with name_server(gate) as server:
            resolver = resolver_of(server)
            tasks = [netnet.spawn(resolver.getaddrinfo, "db.test", 80, INET, STREAM) for _ in range(3)]
            while not server.asked:
                netnet.sleep(0)
            for task in tasks:
                task.cancel()
            for task in tasks:
                task.join()
            wait_all_parked()
            assert not resolver._here.airspace.flights
            assert resolver._here.airspace.permits.value > 0
            gate.open.set()
            assert addresses(resolver.getaddrinfo("db.test", 80, INET, STREAM)) == ["192.0.2.1"]
            assert len(server.asked) == 2  # what came for the dropped one was not taken

    run(main)


def test_a_look_up_right_after_the_last_one_left_asks_anew(run):
    """Between the cancelling of the question and its end."""

    def main():
        gate = Gate()
        with name_server(gate) as server:
            resolver = resolver_of(server)
            first = netnet.spawn(resolver.getaddrinfo, "db.test", 80, INET, STREAM)
            while not server.asked:
                netnet.sleep(0)
            first.cancel()
            second = netnet.spawn(resolver.getaddrinfo, "db.test", 80, INET, STREAM)
            while len(server.asked) < 2:
                netnet.sleep(0)
            gate.open.set()
            assert addresses(second.result()) == ["192.0.2.1"]

    run(main)


def test_a_look_up_that_is_cancelled_before_it_begins(run):
    def main():
        with name_server(GOOD) as server:
            resolver = resolver_of(server)
            task = netnet.spawn(resolver.getaddrinfo, "db.test", 80)
            task.cancel()
            task.join()
            assert server.asked == []
            assert len(resolver.getaddrinfo("db.test", 80, 0, STREAM)) == 2

    run(main)


def test_a_shielded_look_up_goes_on_while_the_run_ends(run):
    """The task that asks is cancelled with the run, so who is shielded asks by himself."""
    found = []

    def main():
        gate = Gate()
        server = NameServer(gate)

        def last_words():
            with netnet.shield():
                found.append(addresses(resolver_of(server).getaddrinfo("db.test", 80, INET, STREAM)))

        def serve():
            with netnet.shield(), server.udp, server.tcp:
                server.asked.append(server.udp.recvfrom(65535))  # and no answer
                wire, peer = server.udp.recvfrom(65535)
                gate.open.set()
                server._answer_udp(wire, peer)

        netnet.spawn(serve)
        netnet.spawn(last_words)
        while not server.asked:
            netnet.sleep(0)
        raise KeyError

    with pytest.raises(KeyError):
        run(main)
    assert found == [["192.0.2.1"]]


def test_so_many_questions_at_once_and_no_more(run):
    most = under_way = 0

    def script(query, over):
        nonlocal most, under_way
        under_way += 1
        most = max(most, under_way)
        netnet.sleep(0.01)
        under_way -= 1
        return answer(query, (asked(query)[0], 60, "A", "192.0.2.1"))

    def main():
        with name_server(script) as server:
            resolver = resolver_of(server, queries_max=3)
            with netnet.TaskGroup() as group:
                for number in range(12):
                    group.spawn(resolver.getaddrinfo, f"n{number}.test", 80, INET)
            assert len(server.asked) == 12

    run(main)
    assert most == 3


def test_no_descriptor_left_is_the_error_of_a_look_up(run, monkeypatch):
    from netnet.net import dns_exchange

    def refuse(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(dns_exchange, "Socket", refuse)
    with fails(socket.EAI_AGAIN):
        run(resolver_of("127.0.0.1:1").getaddrinfo, "db.test", 80)


def test_an_error_that_is_none_of_a_look_up_is_not_swallowed(run, monkeypatch):
    from netnet.net import dns

    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(dns, "exchange", broken)
    with pytest.raises(ZeroDivisionError):
        run(resolver_of("127.0.0.1:1").getaddrinfo, "db.test", 80)


def test_a_callback_of_the_loop_must_not_ask(run):
    from netnet.runtime.worker import current_worker

    caught = []

    def look():
        try:
            resolver_of("127.0.0.1:1").getaddrinfo("db.test", 80)
        except netnet.UsageError as error:
            caught.append(error)

    def main():
        current_worker().loop.call_soon(look)
        netnet.sleep(0)
        netnet.sleep(0)

    run(main)
    assert len(caught) == 1


# -- making one


def test_no_thread_is_ever_started(call, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", lambda thread: pytest.fail("a thread was started"))
    with fails(socket.EAI_AGAIN):
        call(resolver_of("127.0.0.1:1", attempts=1, timeout_seconds=0.2).getaddrinfo, "db.test", 80)


def test_without_the_codec_the_error_says_what_to_install(call, monkeypatch, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.50 db.test\n")
    for name in [name for name in sys.modules if name.split(".")[0] == "dns"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dns", None)
    resolver = resolver_of("127.0.0.1:1", hosts=hosts)
    with pytest.raises(socket.gaierror, match=r"pip install 'netnet\[dns\]'") as caught:
        call(resolver.getaddrinfo, "other.test", 80)
    assert caught.value.errno == socket.EAI_FAIL
    with pytest.raises(socket.gaierror, match=r"pip install 'netnet\[dns\]'"):
        call(resolver.getnameinfo, ("192.0.2.1", 80), 0)
    assert addresses(call(resolver.getaddrinfo, "db.test", 80, 0, STREAM)) == ["192.0.2.50"]
    assert addresses(call(resolver.getaddrinfo, "192.0.2.1", 80, 0, STREAM)) == ["192.0.2.1"]
    assert addresses(call(resolver.getaddrinfo, "localhost", 80, INET, STREAM)) == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"nameservers": []}, ValueError),
        ({"nameservers": ["localhost"]}, netnet.AddressError),
        ({"nameservers": ["127.0.0.1:x"]}, netnet.AddressError),
        ({"nameservers": ["127.0.0.1", ""]}, netnet.AddressError),
        ({"timeout_seconds": 0}, ValueError),
        ({"timeout_seconds": float("nan")}, ValueError),
        ({"attempts": 0}, ValueError),
        ({"queries_max": 0}, ValueError),
        ({"cache_entries_max": -1}, ValueError),
    ],
)
def test_what_no_resolver_can_be_made_of(options, error):
    with pytest.raises(error):
        DnsResolver(**options)


def test_one_server_may_stand_alone(call):
    with fails(socket.EAI_AGAIN):
        resolver = DnsResolver(nameservers="127.0.0.1:1", resolv_conf=None, attempts=1, timeout_seconds=0.2)
        call(resolver.getaddrinfo, "no-such.test", 80)
