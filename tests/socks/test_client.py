"""Connections through scripted proxies: what is said on the wire, and every way in which a proxy can fail."""

from __future__ import annotations

import contextlib
import errno
import pickle
import random
import socket
import struct
import threading

import pytest

import netnet
import netnet.testing
from netnet.errors import AddressError
from netnet.socks.asking import ERRNO_OF_OUTCOME, ProxyError
from netnet.socks.client import Dialer, Proxy, bind, connect, parse_proxy
from netnet.socks.requests import Outcome
from netnet.testing import VirtualClock
from tests.socks.scripted import (
    FIRST_DATA,
    GRANTED4,
    GRANTED5,
    GRANTED5_IPV6,
    GRANTED5_NAME,
    GRANTED5_NO_NAME,
    GRANTED_HTTP,
    GRANTED_HTTP_LONG,
    GREETING,
    GREETING_LOGIN,
    HTTP_NAME,
    IPV4,
    IPV4_5,
    IPV6,
    IPV6_5,
    NAME,
    NAME4A,
    NAME5,
    answering,
    at,
    following,
    http,
    known_names,
    packed,
    peer,
    questions,
    read_exactly,
    send_bytewise,
    send_whole,
)


@pytest.fixture(autouse=True)
def names():
    """No test asks the network."""
    with known_names():
        yield


#: a URL without its address · the target · (what the client says, what it is answered) ...
GRANTED = {
    "socks4": ("socks4://@", IPV4, [(b"\4\1\0\x50" + packed(IPV4) + b"\0", GRANTED4)]),
    "socks4 user": ("socks4://fred@", IPV4, [(b"\4\1\0\x50" + packed(IPV4) + b"fred\0", GRANTED4)]),
    "socks4 says 4": ("socks4://@", IPV4, [(b"\4\1\0\x50" + packed(IPV4) + b"\0", b"\4" + GRANTED4[1:])]),
    "socks4a": ("socks4a://@", NAME, [(NAME4A, GRANTED4)]),
    "socks4a address": ("socks4a://@", IPV4, [(b"\4\1\0\x50" + packed(IPV4) + b"\0", GRANTED4)]),
    "socks5": ("socks5://@", IPV4, [(GREETING, b"\5\0"), (IPV4_5, GRANTED5)]),
    "socks5 IPv6": ("socks5://@", f"[{IPV6}]", [(GREETING, b"\5\0"), (IPV6_5, GRANTED5_IPV6)]),
    "socks5 looks up": ("socks5://@", "known.test", [(GREETING, b"\5\0"), (IPV4_5, GRANTED5)]),
    "socks5h": ("socks5h://@", NAME, [(GREETING, b"\5\0"), (NAME5, GRANTED5)]),
    "socks5h reply with a name": ("socks5h://@", NAME, [(GREETING, b"\5\0"), (NAME5, GRANTED5_NAME)]),
    "socks5h reply with no name": ("socks5h://@", NAME, [(GREETING, b"\5\0"), (NAME5, GRANTED5_NO_NAME)]),
    "socks5h login": (
        "socks5h://fred:s%40cret@",
        NAME,
        [(GREETING_LOGIN, b"\5\2"), (b"\1\4fred\6s@cret", b"\1\0"), (NAME5, GRANTED5)],
    ),
    "socks5h login of version 5": (
        "socks5h://fred:s%40cret@",
        NAME,
        [(GREETING_LOGIN, b"\5\2"), (b"\1\4fred\6s@cret", b"\5\0"), (NAME5, GRANTED5)],
    ),
    "socks5h login not needed": (
        "socks5h://fred:secret@",
        NAME,
        [(GREETING_LOGIN, b"\5\0"), (NAME5, GRANTED5)],
    ),
    "http": ("http://@", NAME, [(HTTP_NAME, GRANTED_HTTP)]),
    "http long answer": ("http://@", NAME, [(HTTP_NAME, GRANTED_HTTP_LONG)]),
    "http IPv6": ("http://@", f"[{IPV6}]", [(http(b"[2001:db8::7]:80"), GRANTED_HTTP)]),
    "http interim answer": ("http://@", NAME, [(HTTP_NAME, b"HTTP/1.1 102 Processing\r\n\r\n" + GRANTED_HTTP)]),
    "http login": (
        "http://Aladdin:open%20sesame@",
        NAME,
        [
            (
                http(b"target.test:80", b"Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"),
                GRANTED_HTTP,
            )
        ],
    ),
}

# -- what goes well


@pytest.mark.parametrize("send", [send_whole, send_bytewise])
@pytest.mark.parametrize("case", GRANTED)
def test_granted_and_nothing_behind_the_reply_is_read(run, case, send):
    url, host, exchanges = GRANTED[case]

    def main():
        with peer(following(exchanges, send, then=FIRST_DATA)) as proxy:
            with connect(f"{host}:80", via=proxy.url(url)) as sock:
                assert type(sock) is netnet.Socket
                assert sock.nodelay
                assert read_exactly(sock, len(FIRST_DATA)) == FIRST_DATA
                sock.sendall(b"echo")
                assert read_exactly(sock, 4) == b"echo"
            proxy.wait_ended()
            assert proxy.heard == questions(exchanges)

    run(main)


def test_on_every_backend(run, backend):
    test_granted_and_nothing_behind_the_reply_is_read(run, "socks5h login", send_bytewise)
    test_granted_and_nothing_behind_the_reply_is_read(run, "http long answer", send_bytewise)


@pytest.mark.parametrize("target", [(NAME, 80), netnet.HostAddress(NAME, 80), f"{NAME}:80"])
def test_forms_of_targets(run, target):
    url, _, exchanges = GRANTED["socks5h"]

    def main():
        with peer(following(exchanges)) as proxy:
            connect(target, via=parse_proxy(proxy.url(url))).close()
            assert proxy.heard == questions(exchanges)

    run(main)


def test_a_proxy_at_a_unix_socket(run, tmp_path):
    _, _, exchanges = GRANTED["socks5h"]

    def main():
        with netnet.listen(f"unix:{tmp_path}/proxy.sock") as listener:

            def serve():
                conn, _ = listener.accept()
                with conn:
                    for question, answer in exchanges:
                        assert read_exactly(conn, len(question)) == question
                        conn.sendall(answer)
                    conn.sendall(FIRST_DATA)

            with netnet.TaskGroup() as group:
                group.spawn(serve)
                with connect(f"{NAME}:80", via=f"socks5h://unix:{tmp_path}/proxy.sock", source="127.0.0.1") as sock:
                    assert read_exactly(sock, len(FIRST_DATA)) == FIRST_DATA

    run(main)


def test_source_and_prepare(run):
    _, _, exchanges = GRANTED["socks5h"]

    def main():
        prepared = []
        with peer(following(exchanges)) as proxy:
            with connect(f"{NAME}:80", via=proxy.url(), source="127.0.0.3", prepare=prepared.append) as sock:
                assert sock.getsockname()[0] == "127.0.0.3"
            assert len(prepared) == 1

    run(main)


def test_outside_a_loop_it_blocks():
    _, _, exchanges = GRANTED["socks5h login"]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            conn, _ = listener.accept()
            with conn:
                for question, answer in exchanges:
                    assert read_exactly(conn, len(question)) == question
                    conn.sendall(answer)
                conn.sendall(FIRST_DATA)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            url = f"socks5h://fred:s%40cret@127.0.0.1:{listener.getsockname()[1]}"
            with connect(f"{NAME}:80", via=url) as sock:
                assert read_exactly(sock, len(FIRST_DATA)) == FIRST_DATA
        finally:
            thread.join()


# -- chains


def test_a_chain_is_one_handshake_inside_the_other(run):
    """Three proxies, the second by name: all is said on one connection, to the first one."""

    def main():
        exchanges = [
            (GREETING, b"\5\0"),
            (b"\5\1\0\3\x0amiddle.one" + at(3128), GRANTED5),
            (http(b"192.0.2.9:1080"), GRANTED_HTTP_LONG),
            (NAME4A, GRANTED4),
        ]
        with peer(following(exchanges, send_bytewise, then=FIRST_DATA)) as proxy:
            chain = [proxy.url(), "http://middle.one", Proxy("socks4a", "192.0.2.9:1080")]
            with connect(f"{NAME}:80", via=chain) as sock:
                assert read_exactly(sock, len(FIRST_DATA)) == FIRST_DATA
            assert proxy.heard == questions(exchanges)

    run(main)


def test_who_is_said_to_have_failed_in_a_chain(run):
    def main():
        exchanges = [(GREETING, b"\5\0"), (b"\5\1\0\3\x0amiddle.one" + at(3128), b"\5\5\0\1\0\0\0\0\0\0")]
        with peer(following(exchanges)) as proxy:
            with pytest.raises(ConnectionRefusedError) as caught:
                connect(f"{NAME}:80", via=[proxy.url(), "http://fred:secret@middle.one"])
        error = caught.value
        first = f"socks5h://{proxy.address}"
        assert error.strerror == (
            f"connect to target.test:80 through {first} → http://fred@middle.one:3128: {first}: "
            "the proxy says of middle.one:3128: refused"
        )
        assert (error.proxy, error.outcome) == (first, None)

    run(main)


def test_the_last_of_a_chain_tells_of_the_target(run):
    def main():
        exchanges = [
            (GREETING, b"\5\0"),
            (b"\5\1\0\3\x0amiddle.one" + at(3128), GRANTED5),
            (HTTP_NAME, b"HTTP/1.1 403 Forbidden\r\n\r\n"),
        ]
        with peer(following(exchanges)) as proxy:
            with pytest.raises(PermissionError, match="the proxy says: not allowed \\(403 Forbidden\\)") as caught:
                connect(f"{NAME}:80", via=[proxy.url(), "http://middle.one"])
        assert (caught.value.proxy, caught.value.outcome) == ("http://middle.one:3128", Outcome.DENIED)

    run(main)


# -- names that are looked up here


def answered(codes):
    """A script of SOCKS5 that answers the n-th connection's request with the n-th code; ``None``: not at all."""
    codes = list(codes)

    def script(conn, made):
        code = codes.pop(0)
        assert read_exactly(conn, 3) == GREETING
        conn.sendall(b"\5\0")
        head = read_exactly(conn, 4)
        made.heard.append(read_exactly(conn, 16 if head[3] == 4 else 4))
        read_exactly(conn, 2)
        if code is not None:
            conn.sendall(bytes([5, code]) + GRANTED5[2:])
        for chunk in conn:
            conn.sendall(chunk)

    return script


def test_each_address_is_tried_in_turn(run):
    def main():
        with peer(answered([8, 0])) as proxy:
            connect("mixed.test:80", via=proxy.url("socks5://@")).close()
            assert proxy.heard == [packed(IPV6), packed(IPV4)]

    run(main)


def test_all_addresses_fail(run):
    def main():
        with peer(answered([5, 3])) as proxy:
            with pytest.raises(ConnectionRefusedError) as caught:
                connect("two.test:80", via=proxy.url("socks5://@"))
        assert "the proxy says: 192.0.2.7:80: refused; 192.0.2.8:80: network unreachable" in str(caught.value)
        assert caught.value.outcome is Outcome.REFUSED
        assert caught.value.failures == [
            ("192.0.2.7:80", Outcome.REFUSED),
            ("192.0.2.8:80", Outcome.NETWORK_UNREACHABLE),
        ]

    run(main)


def test_each_address_has_its_share_of_the_time(run):
    def main():
        silent = netnet.Event()

        def script(conn, made):
            if not made.heard:
                made.heard.append("first")
                silent.set()
                assert read_exactly(conn, 100)  # and not a word
                return
            following([(GREETING, b"\5\0"), (IPV4_5[:4] + packed("192.0.2.8") + at(80), GRANTED5)])(conn, made)

        with peer(script) as proxy:
            began = netnet.now()
            with netnet.timeout(10):
                connect("two.test:80", via=proxy.url("socks5://@")).close()
            assert netnet.now() - began == pytest.approx(5)

    run(main, clock=VirtualClock())


def test_the_last_address_has_all_the_time(run):
    def main():
        with peer(answered([None, None])) as proxy:
            began = netnet.now()
            with pytest.raises(TimeoutError, match="the time limit of 10 s"):
                with netnet.timeout(10):
                    connect("two.test:80", via=proxy.url("socks5://@"))
            assert netnet.now() - began == pytest.approx(10)

    run(main, clock=VirtualClock())


def test_a_socket_s_own_time_out_is_an_error_of_its_own(run):
    """It is not the share that is over, so the next address is not tried."""

    def main():
        with peer(answered([None])) as proxy:
            began = netnet.now()
            with pytest.raises(TimeoutError, match="the proxy did not answer in time"):
                with netnet.timeout(10):
                    connect("two.test:80", via=proxy.url("socks5://@"), prepare=lambda sock: sock.settimeout(1))
            assert netnet.now() - began == pytest.approx(1)

    run(main, clock=VirtualClock())


def test_socks4_is_asked_for_ipv4_only(run):
    def main():
        with peer(following([(b"\4\1\0\x50" + packed(IPV4) + b"\0", GRANTED4)])) as proxy:
            connect("mixed.test:80", via=proxy.url("socks4://@")).close()
            with pytest.raises(OSError, match="SOCKS4 has no IPv6") as caught:
                connect(f"[{IPV6}]:80", via=proxy.url("socks4://@"))
            assert caught.value.errno == errno.EAFNOSUPPORT

    run(main)


def test_an_unknown_name(run):
    def main():
        with pytest.raises(
            socket.gaierror, match=r"connect to unknown.test:80 through .*: 'unknown.test' is looked up here"
        ):
            connect("unknown.test:80", via="socks5://127.0.0.1:1")

    run(main)


def test_a_proxy_whose_next_is_looked_up_here(run):
    def main():
        exchanges = [(GREETING, b"\5\0"), (b"\5\1\0\1" + packed("127.0.0.1") + at(1080), GRANTED5), (NAME4A, GRANTED4)]
        with peer(following(exchanges)) as proxy:
            connect(f"{NAME}:80", via=[proxy.url("socks5://@"), "socks4a://gate.test"]).close()
            assert proxy.heard == questions(exchanges)

    run(main)


# -- what goes wrong

LOGIN = "socks5h://fred:secret@"
LOGIN_ASKED = (GREETING_LOGIN, b"\5\2")
NOTHING = b""


def reply5(code):
    return [(GREETING, b"\5\0"), (NAME5, bytes([5, code]) + GRANTED5[2:])]


def reply4(code):
    return [(NAME4A, bytes([0, code]) + bytes(6))]


def status(line, *headers):
    return [(HTTP_NAME, b"\r\n".join([b"HTTP/1.1 " + line, *headers, b"", b""]))]


#: URL · (question, answer) ... · class · errno · outcome · what the message says
REFUSED = {
    "general failure": ("socks5h://@", reply5(1), ConnectionAbortedError, errno.ECONNABORTED, Outcome.FAILED, "failed"),
    "denied": ("socks5h://@", reply5(2), PermissionError, errno.EACCES, Outcome.DENIED, "not allowed"),
    "network": (
        "socks5h://@",
        reply5(3),
        OSError,
        errno.ENETUNREACH,
        Outcome.NETWORK_UNREACHABLE,
        "network unreachable",
    ),
    "host": ("socks5h://@", reply5(4), OSError, errno.EHOSTUNREACH, Outcome.HOST_UNREACHABLE, "host unreachable"),
    "refused": ("socks5h://@", reply5(5), ConnectionRefusedError, errno.ECONNREFUSED, Outcome.REFUSED, "refused"),
    "timed out": ("socks5h://@", reply5(6), TimeoutError, errno.ETIMEDOUT, Outcome.TIMED_OUT, "timed out"),
    "command": ("socks5h://@", reply5(7), OSError, errno.EOPNOTSUPP, Outcome.COMMAND_UNSUPPORTED, "does not do that"),
    "address": ("socks5h://@", reply5(8), OSError, errno.EAFNOSUPPORT, Outcome.ADDRESS_UNSUPPORTED, "such addresses"),
    "unknown code": ("socks5h://@", reply5(200), ConnectionAbortedError, errno.ECONNABORTED, Outcome.FAILED, "failed"),
    "socks4 rejected": (
        "socks4a://@",
        reply4(91),
        ConnectionAbortedError,
        errno.ECONNABORTED,
        Outcome.FAILED,
        "failed",
    ),
    "socks4 identd": ("socks4a://@", reply4(93), PermissionError, errno.EACCES, Outcome.DENIED, "not allowed"),
    "http 502": ("http://@", status(b"502 Bad Gateway"), OSError, None, Outcome.FAILED, "502 Bad Gateway"),
    "http 504": ("http://@", status(b"504 Late"), TimeoutError, errno.ETIMEDOUT, Outcome.TIMED_OUT, "504 Late"),
    "http 403": ("http://@", status(b"403 No"), PermissionError, errno.EACCES, Outcome.DENIED, "403 No"),
    "http says why": (
        "http://@",
        status(b"502 Bad", b"Proxy-Status: p; error=connection_refused"),
        ConnectionRefusedError,
        errno.ECONNREFUSED,
        Outcome.REFUSED,
        "refused",
    ),
    "a login is wanted": (
        "socks5h://@",
        [(GREETING, b"\5\xff")],
        PermissionError,
        errno.EACCES,
        None,
        "it wants a login",
    ),
    "another login is wanted": (
        LOGIN,
        [(GREETING_LOGIN, b"\5\xff")],
        PermissionError,
        errno.EACCES,
        None,
        "another way",
    ),
    "wrong password": (
        LOGIN,
        [LOGIN_ASKED, (b"\1\4fred\6secret", b"\1\1")],
        PermissionError,
        errno.EACCES,
        None,
        "does not take this user name and password",
    ),
    "http login wanted": (
        "http://@",
        status(b"407 Login", b'Proxy-Authenticate: Basic realm="p"'),
        PermissionError,
        errno.EACCES,
        None,
        "wants a login",
    ),
    "method not offered": ("socks5h://@", [(GREETING, b"\5\1")], OSError, errno.EPROTO, None, "was not offered"),
    "login not offered": ("socks5h://@", [(GREETING, b"\5\2")], OSError, errno.EPROTO, None, "was not offered"),
    "wrong version": ("socks5h://@", [(GREETING, b"\4\0")], OSError, errno.EPROTO, None, "begins with 4"),
    "wrong version of a login": (
        LOGIN,
        [LOGIN_ASKED, (b"\1\4fred\6secret", b"\2\0")],
        OSError,
        errno.EPROTO,
        None,
        "begins with 2",
    ),
    "wrong version of a reply": (
        "socks5h://@",
        [(GREETING, b"\5\0"), (NAME5, b"\1" + GRANTED5[1:])],
        OSError,
        errno.EPROTO,
        None,
        "begins with 1",
    ),
    "unknown kind of address": (
        "socks5h://@",
        [(GREETING, b"\5\0"), (NAME5, b"\5\0\0\2" + bytes(18))],
        OSError,
        errno.EPROTO,
        None,
        "no kind of address",
    ),
    "a name with a line feed": (
        "socks5h://@",
        [(GREETING, b"\5\0"), (NAME5, b"\5\0\0\3\3a\nb\0\0")],
        OSError,
        errno.EPROTO,
        None,
        "characters",
    ),
    "SOCKS4 is no SOCKS5": ("socks4a://@", [(NAME4A, b"\5\0" + bytes(6))], OSError, errno.EPROTO, None, "byte 0 is 5"),
    "unknown code of SOCKS4": ("socks4a://@", reply4(0), OSError, errno.EPROTO, None, "byte 1 is 0"),
    "HTTP to SOCKS": (
        "socks5h://@",
        [(GREETING, b"HTTP/1.1 400 Bad Request\r\n\r\n")],
        OSError,
        errno.EPROTO,
        None,
        "begins with 72",
    ),
    "SOCKS to HTTP": ("http://@", [(HTTP_NAME, b"\5\xff")], OSError, errno.EPROTO, None, "no HTTP"),
    "garbage to HTTP": ("http://@", [(HTTP_NAME, b"Hello!\r\n\r\n")], OSError, errno.EPROTO, None, "protocol"),
    "an endless head": (
        "http://@",
        [(HTTP_NAME, b"HTTP/1.1 200 OK\r\n" + b"X-Filler: " + b"x" * 100_000)],
        OSError,
        errno.EPROTO,
        None,
        "longer than",
    ),
}


@pytest.mark.parametrize("send", [send_whole, send_bytewise])
@pytest.mark.parametrize("case", REFUSED)
def test_what_a_proxy_says_becomes_the_right_error(run, case, send):
    url, exchanges, kind, number, outcome, message = REFUSED[case]
    if case == "an endless head":
        send = send_whole

    def main():
        with peer(following(exchanges, send)) as proxy:
            with pytest.raises(ProxyError) as caught:
                connect(f"{NAME}:80", via=proxy.url(url))
            proxy.wait_ended()
            error = caught.value
            assert isinstance(error, kind)
            assert number in (None, error.errno)
            assert error.outcome is outcome
            assert error.proxy == proxy.url(url.replace(":secret", ""))
            assert error.strerror.startswith(f"connect to target.test:80 through {error.proxy}: the proxy ")
            assert message in error.strerror
            assert "secret" not in repr(error) + str(error)
            assert proxy.heard == questions(exchanges)

    run(main)


@pytest.mark.parametrize("case", ["socks4a", "socks5h login", "socks5h reply with a name", "http long answer"])
def test_a_proxy_that_closes_after_any_byte(run, case):
    url, host, exchanges = GRANTED[case]
    answers = [answer for _, answer in exchanges]

    def main():
        for cut in range(sum(map(len, answers))):
            left = cut
            shortened = []
            for question, answer in exchanges:
                shortened.append((question, answer[:left]))
                left -= len(answer)
                if left < 0:
                    break

            def script(conn, made, shortened=shortened):
                for question, answer in shortened:
                    assert read_exactly(conn, len(question)) == question
                    conn.sendall(answer)

            with peer(script) as proxy:
                with pytest.raises(ConnectionResetError, match="closed before the proxy had answered") as caught:
                    connect(f"{host}:80", via=proxy.url(url))
                assert isinstance(caught.value, ProxyError)
                assert caught.value.outcome is None

    run(main)


def mutated(source, data):
    """*data* with a few bytes replaced, inserted, or its end cut off."""
    result = bytearray(data)
    for _ in range(source.randrange(1, 4)):
        place = source.randrange(len(result) + 1)
        kind = source.randrange(3)
        result[place : place + (kind == 0)] = b"" if kind == 2 else source.randbytes(1)
        if source.random() < 0.1:
            del result[place:]
    return bytes(result)


@pytest.mark.parametrize("case", ["socks4a", "socks5h login", "socks5h reply with a name", "http long answer"])
def test_whatever_a_proxy_says_it_is_a_socket_or_one_kind_of_error(run, case):
    url, host, exchanges = GRANTED[case]
    source = random.Random(11)
    regular = b"".join(answer for _, answer in exchanges)

    def script(conn, made):
        conn.sendall(mutated(source, regular))
        conn.shutdown(socket.SHUT_WR)
        for _ in conn:
            pass

    def main():
        results = set()
        with peer(script) as proxy:
            for _ in range(300):
                try:
                    connect(f"{host}:80", via=proxy.url(url)).close()
                    results.add("granted")
                except ProxyError as error:
                    results.add(error.errno)
        assert {errno.EPROTO, errno.ECONNRESET} <= results

    run(main)


def test_a_proxy_that_resets(run):
    def script(conn, made):
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        read_exactly(conn, 3)

    def main():
        with peer(script) as proxy:
            with pytest.raises(ConnectionResetError, match="the connection to the proxy broke"):
                connect(f"{NAME}:80", via=proxy.url())

    run(main)


@pytest.mark.parametrize("url", ["socks4a://@", "socks5h://@", "http://@"])
def test_a_silent_proxy_and_a_time_limit(run, url):
    def script(conn, made):
        with contextlib.suppress(ConnectionError):
            while conn.recv(1000):
                pass
        made.heard.append("end")

    def main():
        with peer(script) as proxy:
            with pytest.raises(TimeoutError, match="the time limit of 7 s"):
                with netnet.timeout(7):
                    connect(f"{NAME}:80", via=proxy.url(url))
            proxy.wait_ended()
            assert proxy.heard == ["end"]

    run(main, clock=VirtualClock())


def test_a_cancelled_call_closes_its_socket(run):
    def main():
        begun = netnet.Event()

        def script(conn, made):
            read_exactly(conn, 3)
            begun.set()
            assert conn.recv(1) == b""

        with peer(script) as proxy:
            task = netnet.spawn(lambda: connect(f"{NAME}:80", via=proxy.url()))
            begun.wait()
            task.cancel()
            task.join()
            proxy.wait_ended()

    run(main)


def test_no_proxy_there(run):
    def main():
        with socket.socket() as refusing:
            refusing.bind(("127.0.0.1", 0))
            url = f"socks5h://fred:secret@127.0.0.1:{refusing.getsockname()[1]}"
            with pytest.raises(ConnectionRefusedError) as caught:
                connect(f"{NAME}:80", via=url)
        shown = url.replace(":secret", "")
        assert isinstance(caught.value, ProxyError)
        assert caught.value.strerror == (
            f"connect to target.test:80 through {shown}: the proxy cannot be reached: Connection refused"
        )
        assert (caught.value.proxy, caught.value.outcome) == (shown, None)

    run(main)


def test_a_proxy_whose_name_is_unknown(run):
    def main():
        with pytest.raises(ProxyError, match=r"the proxy cannot be reached: .*unknown.test") as caught:
            connect(f"{NAME}:80", via="socks5h://unknown.test")
        assert caught.value.errno == errno.EHOSTUNREACH

    run(main)


def test_errors_survive_pickling():
    from netnet.socks.asking import proxy_error

    for outcome, number in ERRNO_OF_OUTCOME.items():
        error = proxy_error(number, "a message", Proxy("socks5", "127.0.0.1:1"), outcome)
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert (copy.errno, copy.strerror, copy.outcome, copy.proxy) == (number, "a message", outcome, error.proxy)
    assert set(ERRNO_OF_OUTCOME) == set(Outcome) - {Outcome.GRANTED}


# -- targets and URLs

BAD_TARGETS = [
    ("unix:/run/x", "UNIX socket"),
    (":80", "host"),
    ("[fe80::1%lo]:80", "scope"),
    ("nowhere", "no port"),
]


@pytest.mark.parametrize(("target", "message"), BAD_TARGETS)
def test_what_is_no_target(target, message):
    with pytest.raises(AddressError, match=message):
        connect(target, via="socks5h://127.0.0.1:1")


@pytest.mark.parametrize("scheme", ["socks4a", "socks5h", "http"])
@pytest.mark.parametrize("name", ["x" * 256, "with space", "a\nb", "ä..b"])
def test_names_that_cannot_be_said(scheme, name):
    with pytest.raises(ProxyError) as caught:
        connect((name, 80), via=f"{scheme}://127.0.0.1:1")
    assert (caught.value.errno, caught.value.outcome) == (errno.EAFNOSUPPORT, Outcome.ADDRESS_UNSUPPORTED)


def test_an_international_name(run):
    def main():
        with peer(following([(GREETING, b"\5\0"), (b"\5\1\0\3\x14xn--mnchen-3ya.test." + at(80), GRANTED5)])) as proxy:
            connect("münchen.test.:80", via=proxy.url()).close()

    run(main)


# -- BIND

ANYBODY5 = b"\5\2\0\1" + bytes(4) + at(0)


def test_bind(run):
    def main():
        exchanges = [(GREETING, b"\5\0"), (b"\5\2\0\3\x0btarget.test" + at(20), GRANTED5)]
        go = netnet.Event()

        def script(conn, made):
            answering(conn, made, exchanges)
            go.wait()
            conn.sendall(b"\5\0\0\4" + packed(IPV6) + at(4000) + FIRST_DATA)
            assert conn.recv(100) == b"hello"

        with peer(script) as proxy:
            with bind("target.test:20", via=proxy.url()) as binding:
                assert binding.address == netnet.InetAddress("198.51.100.1", 8080)
                go.set()
                sock, address = binding.accept()
                with pytest.raises(netnet.ClosedError, match="accepted already"):
                    binding.accept()
            with sock:
                assert address == netnet.InetAddress(IPV6, 4000)
                assert read_exactly(sock, len(FIRST_DATA)) == FIRST_DATA
                sock.sendall(b"hello")
            proxy.wait_ended()
            assert proxy.heard == questions(exchanges)

    run(main)


@pytest.mark.parametrize(
    ("url", "exchanges", "second"),
    [
        ("socks5://@", [(GREETING, b"\5\0"), (ANYBODY5, b"\5\0\0\1\0\0\0\0" + at(5000))], b"\5\0\0\1" + bytes(6)),
        ("socks4://@", [(b"\4\2" + bytes(6) + b"\0", b"\0\x5a" + at(5000) + bytes(4))], b"\0\x5a" + bytes(6)),
    ],
)
def test_bind_for_anybody_at_an_unspecified_address(run, url, exchanges, second):
    """The memo of SOCKS4: where the address is 0, the proxy's own is meant."""

    def main():
        def script(conn, made):
            answering(conn, made, exchanges)
            send_bytewise(conn, second)

        with peer(script) as proxy:
            with bind(via=proxy.url(url)) as binding:
                assert str(binding.address) == "127.0.0.1:5000"
                sock, _ = binding.accept()
                sock.close()
            assert proxy.heard == questions(exchanges)

    run(main)


def test_bind_whose_second_reply_is_no(run):
    def main():
        def script(conn, made):
            answering(conn, made, [(GREETING, b"\5\0"), (ANYBODY5, GRANTED5)])
            conn.sendall(b"\5\6\0\1" + bytes(6))
            assert conn.recv(1) == b""

        with peer(script) as proxy:
            with bind(via=proxy.url()) as binding:
                with pytest.raises(TimeoutError, match="bind through .*: the proxy says: .*timed out") as caught:
                    binding.accept()
                assert caught.value.outcome is Outcome.TIMED_OUT
            proxy.wait_ended()

    run(main)


def test_bind_and_a_proxy_that_resets_after_its_reply(run):
    """Where its own address is meant, it cannot be asked for any more."""

    def main():
        def script(conn, made):
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            answering(conn, made, [(GREETING, b"\5\0"), (ANYBODY5, b"\5\0\0\1" + bytes(4) + at(5000))])

        with peer(script) as proxy:
            with pytest.raises(ProxyError, match="the connection to the proxy broke"):
                bind(via=proxy.url())

    run(main)


def test_bind_through_a_chain_tells_the_last_proxy(run, tmp_path):
    def main():
        asked = (b"\5\1\0\3\x0amiddle.one" + at(1080), GRANTED5)
        unspecified = (ANYBODY5, b"\5\0\0\1" + bytes(4) + at(5000))
        with peer(following([(GREETING, b"\5\0"), asked, (GREETING, b"\5\0"), unspecified])) as proxy:
            with bind(via=[proxy.url(), "socks5h://middle.one"]) as binding:
                assert str(binding.address) == "middle.one:5000"

    run(main)


def test_bind_at_a_unix_socket_tells_loopback(run, tmp_path):
    def main():
        with netnet.listen(f"unix:{tmp_path}/proxy.sock") as listener:

            def serve():
                conn, _ = listener.accept()
                with conn:
                    for question, answer in [(GREETING, b"\5\0"), (ANYBODY5, b"\5\0\0\1" + bytes(4) + at(5000))]:
                        assert read_exactly(conn, len(question)) == question
                        conn.sendall(answer)
                    assert conn.recv(1) == b""

            with netnet.TaskGroup() as group:
                group.spawn(serve)
                with bind(via=f"socks5://unix:{tmp_path}/proxy.sock") as binding:
                    assert str(binding.address) == "127.0.0.1:5000"

    run(main)


def test_bind_is_given_up(run):
    def main():
        def script(conn, made):
            answering(conn, made, [(GREETING, b"\5\0"), (ANYBODY5, GRANTED5)])
            assert conn.recv(1) == b""

        with peer(script) as proxy:
            binding = bind(via=proxy.url())
            with pytest.raises(TimeoutError):
                with netnet.timeout(3):
                    binding.accept()
            proxy.wait_ended()
            bind(via=proxy.url()).close()
            proxy.wait_ended(2)

    run(main, clock=VirtualClock())


# -- the dialer


def test_a_dialer(run):
    _, _, exchanges = GRANTED["socks5h"]

    def main():
        with peer(following(exchanges)) as proxy:
            prepared = []
            dialer = Dialer(proxy.url(), prepare=prepared.append)
            assert repr(dialer) == f"Dialer({proxy.url()})"
            with dialer(f"{NAME}:80", source="127.0.0.4") as sock:
                assert sock.getsockname()[0] == "127.0.0.4"
            with dialer.create_connection((NAME, 80), 5.0, ("127.0.0.5", 0), all_errors=True) as sock:
                assert sock.getsockname()[0] == "127.0.0.5"
                assert sock.gettimeout() == 5
            with dialer.create_connection((NAME, 80)) as sock:
                assert sock.gettimeout() is None
            with dialer.create_connection((NAME, 80), timeout=None) as sock:
                assert sock.gettimeout() is None
            assert len(prepared) == 4

    run(main)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_time_out_of_a_dialer_is_more_than_nothing(seconds):
    with pytest.raises(ValueError, match="more than 0"):
        Dialer("socks5://h").create_connection((NAME, 80), seconds)


def test_a_time_out_of_a_dialer_is_for_all_of_it(run):
    """Each byte comes in time, and all of them do not."""

    def script(conn, made):
        for byte in b"\5\0" + GRANTED5:
            netnet.sleep(2)
            conn.sendall(bytes([byte]))

    def main():
        with peer(script) as proxy:
            began = netnet.now()
            with pytest.raises(TimeoutError):
                Dialer(proxy.url()).create_connection((NAME, 80), 3)
            assert netnet.now() - began == pytest.approx(3)

    run(main, clock=VirtualClock())


def test_the_default_time_out(run):
    def script(conn, made):
        conn.settimeout(None)
        while conn.recv(100):
            pass

    def main():
        with peer(script) as proxy:
            socket.setdefaulttimeout(4)
            try:
                with pytest.raises(TimeoutError):
                    Dialer(proxy.url()).create_connection((NAME, 80))
            finally:
                socket.setdefaulttimeout(None)

    run(main, clock=VirtualClock())


def test_a_time_out_outside_a_loop():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dialer = Dialer(f"socks5h://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(TimeoutError, match="the proxy did not answer in time") as caught:
            dialer.create_connection((NAME, 80), 0.01)
        assert caught.value.errno == errno.ETIMEDOUT
