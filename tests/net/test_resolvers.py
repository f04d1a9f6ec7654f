"""Resolvers as values: which one is asked, where it is the current one, what a table answers, and what the system's does
where there are no OS threads."""

from __future__ import annotations

import inspect
import socket
import threading

import pytest

import netnet
from netnet import socket as cooperative
from netnet.errors import ThreadError
from netnet.kernel.address import IPv4Address
from netnet.net import resolvers
from netnet.net.dns import DnsResolver
from netnet.net.hosts import EAI_NODATA
from netnet.net.resolve import gethostbyaddr, gethostbyname, gethostbyname_ex
from netnet.net.resolvers import HostTable, Resolver, SystemResolver, current_resolver, use_resolver
from netnet.runtime import threads

TABLE = {"db.test": ["127.0.0.1", "::1"], "Six.Test.": ["2001:db8::1"], "one.test": "192.0.2.1", "none.test": []}
STREAM = socket.SOCK_STREAM


@pytest.fixture(params=["loop", "no loop"])
def call(request, run):
    """Calls a function inside a loop or outside one."""
    return run if request.param == "loop" else lambda function, *args: function(*args)


def addresses(found):
    return [entry[4][0] for entry in found]


class Recorder:
    """A resolver that notes what it is asked."""

    def __init__(self):
        self.asked = []

    def getaddrinfo(self, host, service, family=0, type=0, proto=0, flags=0):
        self.asked.append(host)
        return [(socket.AF_INET, STREAM, 6, "told", ("192.0.2.7", 7))]

    def getnameinfo(self, sockaddr, flags):
        self.asked.append(sockaddr)
        return "told", "7"


# -- which one is current


def test_the_system_is_the_resolver_unless_another_is_told(call):
    assert type(call(current_resolver)) is SystemResolver


@pytest.mark.parametrize("kind", [SystemResolver, lambda: HostTable({}), DnsResolver, Recorder])
def test_all_are_resolvers(kind):
    assert isinstance(kind(), Resolver)


@pytest.mark.parametrize("value", [None, 5, "127.0.0.1", {"db.test": ["127.0.0.1"]}, socket.getaddrinfo])
def test_what_is_no_resolver(value):
    with pytest.raises(TypeError, match="getnameinfo"), use_resolver(value):
        pass
    if value is not None:
        with pytest.raises(TypeError, match="getnameinfo"):
            HostTable({}, value)


def test_the_innermost_counts_and_leaving_goes_back(call):
    def main():
        outer, inner = HostTable({}), HostTable({})
        with use_resolver(outer) as told:
            assert told is outer
            with use_resolver(inner):
                assert current_resolver() is inner
            assert current_resolver() is outer
            with pytest.raises(KeyError), use_resolver(inner):
                raise KeyError
            assert current_resolver() is outer

    call(main)
    assert type(current_resolver()) is SystemResolver


def test_tasks_inherit_it_and_others_do_not_see_it(run):
    def main():
        table = HostTable({})
        other = netnet.spawn(current_resolver)
        with use_resolver(table):
            inside = netnet.spawn(current_resolver)
            with netnet.TaskGroup() as group:
                grouped = group.spawn(current_resolver)
            elsewhere = netnet.to_thread(current_resolver)
        assert [task.result() for task in (inside, grouped)] == [table, table]
        assert elsewhere is table
        assert other.result() is current_resolver()

    run(main)


def test_one_that_is_set_outside_holds_in_the_run(run):
    table = HostTable({"db.test": "192.0.2.1"})
    with use_resolver(table):
        assert run(netnet.resolve, "db.test", 80) == [(socket.AF_INET, ("192.0.2.1", 80))]


def test_other_threads_do_not_see_it():
    seen = []
    with use_resolver(HostTable({})):
        thread = threading.Thread(target=lambda: seen.append(current_resolver()))
        thread.start()
        thread.join()
    assert type(seen[0]) is SystemResolver


# -- everything asks it

LOOKS = {
    "resolve": (lambda: netnet.resolve("a.name", 80), [(2, ("192.0.2.7", 7))]),
    "lookup": (lambda: netnet.lookup("a.name", 80)[0].address, IPv4Address("192.0.2.7", 7)),
    "reverse": (lambda: netnet.reverse("192.0.2.1"), ("told", "7")),
    "service_port": (lambda: netnet.service_port("http"), 7),
    "service_name": (lambda: netnet.service_name(80), "7"),
    "getaddrinfo": (lambda: addresses(cooperative.getaddrinfo("a.name", 80)), ["192.0.2.7"]),
    "getaddrinfo by keyword": (lambda: addresses(cooperative.getaddrinfo(host="a.name", port=None)), ["192.0.2.7"]),
    "getnameinfo": (lambda: cooperative.getnameinfo(("192.0.2.1", 80), 0), ("told", "7")),
    "gethostbyname": (lambda: cooperative.gethostbyname("a.name"), "192.0.2.7"),
    "gethostbyname_ex": (lambda: cooperative.gethostbyname_ex("a.name"), ("told", [], ["192.0.2.7"])),
    "gethostbyaddr": (lambda: cooperative.gethostbyaddr("192.0.2.7"), ("told", [], ["192.0.2.7"])),
    "getfqdn": (lambda: cooperative.getfqdn("a.name"), "told"),
}


@pytest.mark.parametrize("look", LOOKS)
def test_every_look_up_goes_to_it(call, look):
    function, expected = LOOKS[look]
    recorder = Recorder()

    def main():
        with use_resolver(recorder):
            return function()

    assert call(main) == expected
    assert recorder.asked


@pytest.mark.parametrize(
    "look",
    [
        lambda: netnet.resolve("127.0.0.1", 80),
        lambda: netnet.resolve("::1", 80),
        lambda: netnet.lookup("127.0.0.1", 80),
        lambda: netnet.lookup(None, 80),
        lambda: netnet.reverse("127.0.0.1", ("numerichost", "numericserv")),
        lambda: cooperative.getaddrinfo("127.0.0.1", 80),
        lambda: cooperative.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
        lambda: cooperative.gethostbyname("127.0.0.1"),
        lambda: cooperative.gethostbyname("<broadcast>"),
        lambda: cooperative.gethostbyname(""),
    ],
)
def test_ip_addresses_ask_nobody(call, look):
    recorder = Recorder()

    def main():
        with use_resolver(recorder):
            assert look()

    call(main)
    assert recorder.asked == []


def test_connections_and_datagrams_go_where_it_says(run):
    def main():
        with netnet.listen("127.0.0.1:0") as listener, use_resolver(HostTable({"db.test": "127.0.0.1"})):
            port = listener.getsockname()[1]
            with netnet.connect(f"db.test:{port}") as sock, listener.accept()[0]:
                assert sock.getpeername() == ("127.0.0.1", port)
            with netnet.Socket() as sock:
                sock.connect(("db.test", port))
                listener.accept()[0].close()
            with pytest.raises(socket.gaierror, match=r"connect to no\.test:80"):
                netnet.connect("no.test:80")
            with cooperative.create_connection(("db.test", port)):
                listener.accept()[0].close()

    run(main)


def test_a_cancelled_task_looks_nothing_up(run):
    """Also where the answer is known without waiting."""

    def main():
        with use_resolver(HostTable(TABLE)), netnet.CancelScope() as scope:
            scope.cancel()
            netnet.resolve("db.test", 80)
            raise AssertionError("went on")

    run(main)


def test_look_ups_that_do_not_wait_let_others_run(run):
    def main():
        other = netnet.spawn(lambda: None)
        with use_resolver(HostTable(TABLE)):
            for _ in range(1000):
                netnet.resolve("db.test", 80)
                if other.done:
                    return
        raise AssertionError("nobody else ran")

    run(main)


# -- tables


@pytest.mark.parametrize(
    ("host", "family", "expected"),
    [
        ("db.test", 0, ["127.0.0.1", "::1"]),
        ("DB.TEST", 0, ["127.0.0.1", "::1"]),
        ("db.test.", 0, ["127.0.0.1", "::1"]),
        (b"db.test", 0, ["127.0.0.1", "::1"]),
        ("db.test", socket.AF_INET, ["127.0.0.1"]),
        ("db.test", socket.AF_INET6, ["::1"]),
        ("six.test", 0, ["2001:db8::1"]),
        ("one.test", 0, ["192.0.2.1"]),
        ("192.0.2.9", 0, ["192.0.2.9"]),
        ("127.1", 0, ["127.0.0.1"]),
        ("2001:DB8::9", 0, ["2001:db8::9"]),
        (None, socket.AF_INET, ["127.0.0.1"]),
    ],
)
def test_what_a_table_knows(call, host, family, expected):
    assert addresses(call(HostTable(TABLE).getaddrinfo, host, 80, family, STREAM)) == expected


@pytest.mark.parametrize(
    ("host", "service", "options", "code"),
    [
        ("no.test", 80, {}, socket.EAI_NONAME),
        ("", 80, {}, socket.EAI_NONAME),
        (".", 80, {}, socket.EAI_NONAME),
        ("a..b", 80, {}, socket.EAI_NONAME),
        ("x" * 64, 80, {}, socket.EAI_NONAME),
        ("a." * 127, 80, {}, socket.EAI_NONAME),
        ("a\0b", 80, {}, socket.EAI_NONAME),
        ("\ud800", 80, {}, socket.EAI_NONAME),
        (b"\xff", 80, {}, socket.EAI_NONAME),
        ("one.test", 80, {"family": socket.AF_INET6}, EAI_NODATA),
        ("none.test", 80, {}, EAI_NODATA),
        ("db.test", 80, {"flags": socket.AI_NUMERICHOST}, socket.EAI_NONAME),
        ("db.test", "http", {"flags": socket.AI_NUMERICSERV}, socket.EAI_NONAME),
        ("db.test", "no-such-service", {}, socket.EAI_SERVICE),
        ("db.test", 80, {"type": 77}, socket.EAI_SOCKTYPE),
        ("db.test", 80, {"family": 99}, socket.EAI_FAMILY),
        ("127.0.0.1", 80, {"family": socket.AF_INET6}, socket.EAI_ADDRFAMILY),
        ("db.test", 80, {"flags": 1 << 20}, socket.EAI_BADFLAGS),
        (None, 80, {"flags": socket.AI_CANONNAME}, socket.EAI_BADFLAGS),
        (None, None, {}, socket.EAI_NONAME),
    ],
)
def test_what_a_table_does_not_know(call, host, service, options, code):
    with pytest.raises(socket.gaierror) as caught:
        call(lambda: HostTable(TABLE).getaddrinfo(host, service, **options))
    assert caught.value.errno == code
    assert caught.value.strerror


@pytest.mark.parametrize(("host", "service"), [(5, 80), (["db.test"], 80), (1.5, 80)])
def test_a_host_of_another_type(host, service):
    with pytest.raises(TypeError):
        HostTable(TABLE).getaddrinfo(host, service)


@pytest.mark.parametrize("service", [None, 80, "80", "http", "domain", b"http"])
@pytest.mark.parametrize("type", [0, STREAM, socket.SOCK_DGRAM])
def test_services_and_types_are_those_of_the_system(service, type):
    if (service in ("http", b"http")) and type == socket.SOCK_DGRAM:
        type = 0  # systems differ in whether they know one
    table = HostTable({"db.test": "127.0.0.1"})
    expected = socket.getaddrinfo("127.0.0.1", service, 0, type)
    assert table.getaddrinfo("db.test", service, 0, type) == expected


def test_names_beyond_ascii_are_encoded():
    table = HostTable({"bücher.test": "192.0.2.1"})
    for host in ("bücher.test", "BÜCHER.test", "xn--bcher-kva.test", b"xn--bcher-kva.test"):
        assert addresses(table.getaddrinfo(host, 80, 0, STREAM)) == ["192.0.2.1"]


@pytest.mark.parametrize(
    ("host", "flags", "expected"),
    [
        ("one.test", socket.AI_V4MAPPED, ["::ffff:192.0.2.1"]),
        ("one.test", socket.AI_V4MAPPED | socket.AI_ALL, ["::ffff:192.0.2.1"]),
        ("db.test", socket.AI_V4MAPPED, ["::1"]),
        ("db.test", socket.AI_V4MAPPED | socket.AI_ALL, ["::ffff:127.0.0.1", "::1"]),
        ("db.test", socket.AI_ALL, ["::1"]),
    ],
)
def test_mapped_addresses(host, flags, expected):
    assert addresses(HostTable(TABLE).getaddrinfo(host, 80, socket.AF_INET6, STREAM, 0, flags)) == expected


def test_the_canonical_name_stands_first():
    found = HostTable(TABLE).getaddrinfo("DB.test.", 80, 0, 0, 0, socket.AI_CANONNAME)
    assert [entry[3] for entry in found] == ["db.test"] + [""] * (len(found) - 1)


@pytest.mark.parametrize(("family", "there"), [(socket.AF_INET, False), (socket.AF_INET6, False), (0, True)])
def test_only_families_that_this_machine_has(monkeypatch, family, there):
    """With ``AI_ADDRCONFIG``; a machine without any looks in both."""
    from netnet.net import hosts

    look = HostTable(TABLE).getaddrinfo
    monkeypatch.setattr(hosts, "_is_configured", lambda family: False)
    if there:
        assert addresses(look("db.test", 80, family, STREAM, 0, socket.AI_ADDRCONFIG)) == ["127.0.0.1", "::1"]
    else:
        with pytest.raises(socket.gaierror):
            look("db.test", 80, family, STREAM, 0, socket.AI_ADDRCONFIG)
    monkeypatch.setattr(hosts, "_is_configured", lambda family: family == socket.AF_INET)
    if family != socket.AF_INET6:
        assert addresses(look("db.test", 80, family, STREAM, 0, socket.AI_ADDRCONFIG)) == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("address", "flags", "expected"),
    [
        ("192.0.2.1", 0, ("one.test", "http")),
        ("192.0.2.1", socket.NI_NUMERICSERV, ("one.test", "80")),
        ("192.0.2.1", socket.NI_NUMERICHOST, ("192.0.2.1", "http")),
        ("192.0.2.1", socket.NI_NAMEREQD, ("one.test", "http")),
        ("::1", 0, ("db.test", "http")),
        ("2001:DB8:0::1", 0, ("six.test", "http")),
        ("192.0.2.9", 0, ("192.0.2.9", "http")),
    ],
)
def test_the_way_back(call, address, flags, expected):
    assert call(HostTable(TABLE).getnameinfo, (address, 80), flags) == expected


@pytest.mark.parametrize(
    ("sockaddr", "flags", "code"),
    [
        (("192.0.2.9", 80), socket.NI_NAMEREQD, socket.EAI_NONAME),
        (("192.0.2.1", 80), socket.NI_NAMEREQD | socket.NI_NUMERICHOST, socket.EAI_NONAME),
        (("db.test", 80), 0, socket.EAI_NONAME),
        (("192.0.2.1", 80), 1 << 20, socket.EAI_BADFLAGS),
        (("192.0.2.1", 80), -1, socket.EAI_BADFLAGS),
    ],
)
def test_what_has_no_way_back(sockaddr, flags, code):
    with pytest.raises(socket.gaierror) as caught:
        HostTable(TABLE).getnameinfo(sockaddr, flags)
    assert caught.value.errno == code


@pytest.mark.parametrize("sockaddr", [None, "192.0.2.1", ("192.0.2.1", "80")])
def test_a_way_back_from_another_type(sockaddr):
    with pytest.raises(TypeError):
        HostTable(TABLE).getnameinfo(sockaddr, 0)


def test_what_a_table_does_not_know_another_may():
    table = HostTable(TABLE, HostTable({"other.test": "192.0.2.9", "db.test": "192.0.2.8"}))
    assert addresses(table.getaddrinfo("other.test", 80, 0, STREAM)) == ["192.0.2.9"]
    assert addresses(table.getaddrinfo("db.test", 80, 0, STREAM)) == ["127.0.0.1", "::1"]
    assert table.getnameinfo(("192.0.2.9", 80), 0) == ("other.test", "http")
    assert table.getnameinfo(("192.0.2.1", 80), 0) == ("one.test", "http")
    with pytest.raises(socket.gaierror):
        table.getaddrinfo("no.test", 80)
    with pytest.raises(socket.gaierror):
        table.getaddrinfo("a..b", 80)


@pytest.mark.parametrize("address", ["localhost", "", "127.0.0.256", "127.1", "::g", "127.0.0.1:80"])
def test_a_table_of_what_are_no_addresses(address):
    with pytest.raises(netnet.AddressError):
        HostTable({"db.test": [address]})


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64])
def test_a_table_of_what_are_no_names(name):
    with pytest.raises(socket.gaierror):
        HostTable({name: "127.0.0.1"})


@pytest.mark.parametrize(("code", "number"), [(socket.EAI_AGAIN, 2), (socket.EAI_NONAME, 1)])
def test_an_address_without_a_name_is_the_older_error(code, number):
    class Failing(Recorder):
        def getnameinfo(self, sockaddr, flags):
            raise socket.gaierror(code, "no")

    with use_resolver(Failing()), pytest.raises(socket.herror) as caught:
        gethostbyaddr("192.0.2.7")
    assert caught.value.errno == number


@pytest.mark.parametrize("function", [gethostbyname, gethostbyname_ex, gethostbyaddr])
def test_an_unknown_name_is_one_to_the_older_look_ups(call, function):
    with use_resolver(HostTable({})), pytest.raises(socket.gaierror):
        call(function, "no.test")


# -- the system's, and where there are no threads


@pytest.mark.parametrize("name", ["getaddrinfo", "getnameinfo"])
def test_the_shape_is_the_protocols(name):
    expected = inspect.signature(getattr(Resolver, name))
    for kind in (SystemResolver, HostTable, DnsResolver):
        assert inspect.signature(getattr(kind, name)) == expected


def test_the_system_answers_as_ever(call):
    system = SystemResolver()
    assert call(system.getaddrinfo, "localhost", 80) == socket.getaddrinfo("localhost", 80)
    assert call(system.getnameinfo, ("127.0.0.1", 80), 0) == socket.getnameinfo(("127.0.0.1", 80), 0)
    for name, argument in (
        ("gethostbyname", "localhost"),
        ("gethostbyname_ex", "localhost"),
        ("gethostbyaddr", "127.0.0.1"),
    ):
        assert call(getattr(cooperative, name), argument) == getattr(socket, name)(argument)


def test_a_callback_of_the_loop_must_not_wait_for_the_system(run):
    from netnet.runtime.worker import current_worker

    caught = []

    def look():
        try:
            netnet.resolve("localhost", 80)
        except netnet.UsageError as error:
            caught.append(error)

    def main():
        current_worker().loop.call_soon(look)
        netnet.sleep(0)
        netnet.sleep(0)

    run(main)
    assert len(caught) == 1


@pytest.fixture
def no_threads(monkeypatch):
    """No OS thread can be started, and none is left from before."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "_threads", type(threads._threads)())
    monkeypatch.setattr(threading.Thread, "start", refuse)


WITHOUT_THREADS = {
    "resolve": lambda: netnet.resolve("db.test", 80),
    "lookup": lambda: netnet.lookup("db.test", "http"),
    "reverse": lambda: netnet.reverse("192.0.2.1"),
    "getaddrinfo": lambda: cooperative.getaddrinfo("db.test", 80),
    "getnameinfo": lambda: cooperative.getnameinfo(("192.0.2.1", 80), 0),
    "gethostbyname": lambda: cooperative.gethostbyname("db.test"),
    "gethostbyname_ex": lambda: cooperative.gethostbyname_ex("db.test"),
    "gethostbyaddr": lambda: cooperative.gethostbyaddr("192.0.2.1"),
}


@pytest.mark.parametrize("look", WITHOUT_THREADS)
def test_without_threads_look_ups_go_to_name_servers(run, no_threads, monkeypatch, look):
    recorder = Recorder()
    monkeypatch.setattr(resolvers, "without_threads", lambda: recorder)
    monkeypatch.setattr("netnet.net.resolve.without_threads", lambda: recorder)
    assert run(WITHOUT_THREADS[look])
    assert recorder.asked


def test_without_threads_there_is_one_resolver_a_process(run, no_threads):
    made = resolvers.without_threads()
    assert type(made) is DnsResolver
    assert resolvers.without_threads() is made

    def main():
        with netnet.listen("127.0.0.1:0") as listener:
            port = listener.getsockname()[1]
            with netnet.connect(f"localhost:{port}") as sock, listener.accept()[0] as conn:
                sock.sendall(b"through")
                assert conn.recv(9) == b"through"
            with netnet.connect(f"sub.localhost:{port}"):
                listener.accept()[0].close()
        assert netnet.service_port("https") == 443
        assert netnet.service_name(443) == "https"
        assert netnet.reverse("127.0.0.1").host == "localhost"
        assert cooperative.gethostbyname("localhost") == "127.0.0.1"
        with pytest.raises(socket.gaierror) as caught:
            netnet.resolve("no-such-host.invalid", 80)
        assert caught.value.errno == socket.EAI_NONAME
        with pytest.raises(ThreadError):
            netnet.to_thread(int)

    run(main)


def test_a_run_that_forbids_threads_starts_none(run):
    def main():
        assert netnet.resolve("sub.localhost", 80)
        assert netnet.reverse("127.0.0.1").host == "localhost"

    run(main, threads=False)


def test_no_other_error_asks_anybody_else(run, monkeypatch):
    monkeypatch.setattr(resolvers, "without_threads", lambda: pytest.fail("asked"))

    def failing(*_):
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", failing)
    for error in (socket.gaierror(socket.EAI_NONAME, "no"), RuntimeError("broken"), OSError(5, "broken")):
        with pytest.raises(type(error)) as caught:
            run(netnet.resolve, "db.test", 80)
        assert caught.value is error
