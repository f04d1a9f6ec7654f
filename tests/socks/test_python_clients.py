"""Python's own clients through ``netnet proxy``: PySocks, python-socks, requests, httpx, aiohttp and urllib; datagrams with
PySocks, and the other direction (BIND) as active FTP uses it.

Each moves a small document, a large one, and uploads; each has to be let in with the right login, and has to notice a
wrong one and a target that refuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
import urllib.error
import urllib.request
from urllib.parse import quote

import dns.message
import pytest

from netnet.proxy.passwords import hash_password
from netnet.socks.client import bind, connect
from tests.cli.process import PATIENCE_SECONDS, configured_proxy
from tests.net.test_dns import start_dnsmasq
from tests.socks.origin import (
    LARGE,
    PASSWORD,
    SMALL,
    USER,
    digest,
    digest_target,
    http_origin,
    module,
    password_configuration,
    refusing_port,
    tcp_target,
)

LOGIN = f"{USER}:{quote(PASSWORD, safe='')}@"
WRONG = f"{USER}:wrong@"

#: scheme → the protocol in the proxy's log, and the host that is asked for; "localhost" is looked up by the proxy
SCHEMES = {
    "socks4": ("socks4", "127.0.0.1"),
    "socks4a": ("socks4a", "localhost"),
    "socks5": ("socks5", "127.0.0.1"),
    "socks5h": ("socks5", "localhost"),
    "http": ("http", "localhost"),
}


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    """``address`` is where one has to log in, ``anybody`` where one need not."""
    text = password_configuration(hash_password(PASSWORD))
    with configured_proxy(tmp_path_factory.mktemp("proxy"), text, listeners=2) as process:
        process.anybody = process.addresses[1]
        yield process


@pytest.fixture
def origin():
    with http_origin() as port:
        yield port


def went_through(proxy, target, protocol, user=None):
    session = proxy.session(target)
    assert (session["protocol"], session["user"], session["ending"]) == (protocol, user, "closed")


# -- clients of HTTP: each is a function (proxy's URL, URL, data to send or None) → body; any OSError or the library's own
#    error when it is refused


def with_urllib(proxy, url, data):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy}))
    request = urllib.request.Request(url, data=data, method="GET" if data is None else "PUT")
    with contextlib.closing(opener):
        try:
            with opener.open(request, timeout=PATIENCE_SECONDS) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            error.close()
            raise


def with_requests(proxy, url, data):
    with module("requests").Session() as session:
        session.trust_env = False
        session.proxies = {"http": proxy}
        answer = session.request("GET" if data is None else "PUT", url, data=data, timeout=PATIENCE_SECONDS)
        answer.raise_for_status()
        return answer.content


def with_httpx(proxy, url, data):
    with module("httpx").Client(proxy=proxy, trust_env=False, timeout=PATIENCE_SECONDS) as session:
        answer = session.request("GET" if data is None else "PUT", url, content=data)
        answer.raise_for_status()
        return answer.content


def with_aiohttp(proxy, url, data):
    aiohttp, aiohttp_socks = module("aiohttp"), module("aiohttp_socks")
    scheme, rest = proxy.split("://")
    # it has no names of its own for who looks the name up
    connector = {"socks4a": "socks4", "socks5h": "socks5"}.get(scheme, scheme) + "://" + rest

    async def main():
        limit = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
        through = aiohttp_socks.ProxyConnector.from_url(connector, rdns=scheme in ("socks4a", "socks5h", "http"))
        async with aiohttp.ClientSession(connector=through, timeout=limit) as session:
            async with session.request("GET" if data is None else "PUT", url, data=data and io.BytesIO(data)) as answer:
                answer.raise_for_status()
                return await answer.read()

    return asyncio.run(main())


HTTP_CLIENTS = [
    (with_urllib, ["http"]),
    (with_requests, ["socks4", "socks4a", "socks5", "socks5h", "http"]),
    (with_httpx, ["socks5", "socks5h", "http"]),
    (with_aiohttp, ["socks4", "socks4a", "socks5", "socks5h", "http"]),
]
#: httpx leaves the socket of a connection that the proxy refuses to the garbage collector
LEAVES_SOCKETS = {with_httpx: [pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]}
CASES = [
    pytest.param(fetch, scheme, id=f"{fetch.__name__[5:]}-{scheme}", marks=LEAVES_SOCKETS.get(fetch, ()))
    for fetch, schemes in HTTP_CLIENTS
    for scheme in schemes
]


@pytest.mark.parametrize(("fetch", "scheme"), CASES)
def test_documents(proxy, origin, fetch, scheme):
    protocol, host = SCHEMES[scheme]
    through = f"{scheme}://{proxy.anybody}"
    url = f"http://{host}:{origin}"
    assert fetch(through, f"{url}/small", None) == SMALL
    went_through(proxy, f"{host}:{origin}", protocol)
    assert fetch(through, f"{url}/large", None) == LARGE
    went_through(proxy, f"{host}:{origin}", protocol)
    assert fetch(through, f"{url}/upload", LARGE) == digest(LARGE)
    went_through(proxy, f"{host}:{origin}", protocol)


@pytest.mark.parametrize(("fetch", "scheme"), [case for case in CASES if not case.values[1].startswith("socks4")])
def test_logins(proxy, origin, fetch, scheme):
    protocol, host = SCHEMES[scheme]
    url = f"http://{host}:{origin}/small"
    assert fetch(f"{scheme}://{LOGIN}{proxy.address}", url, None) == SMALL
    went_through(proxy, f"{host}:{origin}", protocol, USER)
    for login in (WRONG, ""):
        with pytest.raises(Exception, match="(?i)auth|407|invalid username"):
            fetch(f"{scheme}://{login}{proxy.address}", url, None)
        assert proxy.session("-")["ending"] == "login failed"


@pytest.mark.parametrize(("fetch", "scheme"), CASES)
def test_a_target_that_refuses(proxy, fetch, scheme):
    protocol, host = SCHEMES[scheme]
    with refusing_port() as port:
        with pytest.raises(Exception, match="(?i)refused|rejected|502|failed"):
            fetch(f"{scheme}://{proxy.anybody}", f"http://{host}:{port}/", None)
        session = proxy.session(f"{host}:{port}")
        assert (session["protocol"], session["ending"]) == (protocol, "refused")


# -- clients that give a socket


def with_pysocks(scheme, address, login, target):
    socks = module("socks")
    kind = {"socks4": socks.SOCKS4, "socks5": socks.SOCKS5, "http": socks.HTTP}[scheme.rstrip("ah")]
    host, port = address.split(":")
    return socks.create_connection(
        target,
        timeout=PATIENCE_SECONDS,
        proxy_type=kind,
        proxy_addr=host,
        proxy_port=int(port),
        proxy_rdns=SCHEMES[scheme][1] == "localhost",
        proxy_username=login and login[0],
        proxy_password=login and login[1],
    )


def with_python_socks(scheme, address, login, target):
    module("python_socks")
    from python_socks import ProxyType
    from python_socks.sync import Proxy

    kind = {"socks4": ProxyType.SOCKS4, "socks5": ProxyType.SOCKS5, "http": ProxyType.HTTP}[scheme.rstrip("ah")]
    host, port = address.split(":")
    through = Proxy(kind, host, int(port), *(login or (None, None)), rdns=SCHEMES[scheme][1] == "localhost")
    return through.connect(*target, timeout=PATIENCE_SECONDS)


CONNECTING = [with_pysocks, with_python_socks]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("connecting", CONNECTING)
def test_plain_connections(proxy, connecting, scheme):
    protocol, host = SCHEMES[scheme]
    with digest_target() as port:
        with connecting(scheme, proxy.anybody, None, (host, port)) as sock:
            sock.sendall(LARGE)
            sock.shutdown(socket.SHUT_WR)
            with sock.makefile("rb") as file:
                assert file.read() == digest(LARGE)
        went_through(proxy, f"{host}:{port}", protocol)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "http"])
@pytest.mark.parametrize("connecting", CONNECTING)
def test_logins_of_plain_connections(proxy, connecting, scheme):
    protocol, host = SCHEMES[scheme]
    with digest_target() as port:
        with connecting(scheme, proxy.address, (USER, PASSWORD), (host, port)) as sock:
            sock.shutdown(socket.SHUT_WR)
            with sock.makefile("rb") as file:
                assert file.read() == digest(b"")
        went_through(proxy, f"{host}:{port}", protocol, USER)
        for login in ((USER, "wrong"), None):
            with pytest.raises(Exception, match="(?i)auth|407"):
                connecting(scheme, proxy.address, login, (host, port))
            assert proxy.session("-")["ending"] == "login failed"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("connecting", CONNECTING)
def test_plain_connections_to_a_target_that_refuses(proxy, connecting, scheme):
    with refusing_port() as port:
        with pytest.raises(Exception, match="(?i)refused|rejected|502"):
            connecting(scheme, proxy.anybody, None, (SCHEMES[scheme][1], port))


# -- datagrams


@pytest.fixture
def name_server():
    """The address of a dnsmasq that knows ``four.test``."""
    program, address = start_dnsmasq()
    try:
        host, _, port = address.partition(":")
        yield host, int(port)
    finally:
        program.kill()
        program.communicate()


@pytest.mark.client("dnsmasq")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_name_is_asked_for_by_datagrams(proxy, name_server, host):
    socks = module("socks")
    query = dns.message.make_query("four.test", "A")
    with socks.socksocket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE_SECONDS)
        sock.set_proxy(socks.SOCKS5, "127.0.0.1", proxy.port, True, USER, PASSWORD)
        sock.sendto(query.to_wire(), (host, name_server[1]))
        data, source = sock.recvfrom(4096)
    assert source == name_server
    answer = dns.message.from_wire(data)
    assert answer.id == query.id
    assert [str(item) for item in answer.answer[0]] == ["192.0.2.4"]
    session = json.loads(proxy.line('"command": "associate"'))
    assert (session["command"], session["user"], session["ending"]) == ("associate", USER, "closed")
    assert session["sent"] > 0 < session["received"]


# -- the other direction


def ftp_server(conn):
    """As much of active FTP as a download needs: the server connects to where it is told, and sends (RFC 959)."""
    conn.sendall(b"220 ready\r\n")
    data_address = None
    with conn.makefile("rb") as lines:
        for line in lines:
            verb, _, argument = line.decode().strip().partition(" ")
            if verb == "PORT":
                numbers = argument.split(",")
                data_address = ".".join(numbers[:4]), int(numbers[4]) * 256 + int(numbers[5])
                conn.sendall(b"200 fine\r\n")
            elif verb == "RETR":
                conn.sendall(b"150 it comes\r\n")
                with socket.create_connection(data_address, PATIENCE_SECONDS) as data:
                    data.sendall(LARGE)
                conn.sendall(b"226 that was it\r\n")
            else:
                conn.sendall(b"221 good bye\r\n")
                return


@pytest.mark.parametrize("scheme", ["socks4", "socks5"])
def test_active_ftp(proxy, scheme):
    """The control connection through the proxy, and the data come to a port of the proxy."""
    through = f"socks5://{LOGIN}{proxy.address}" if scheme == "socks5" else f"{scheme}://{proxy.anybody}"
    with tcp_target(ftp_server) as port:
        with connect(("127.0.0.1", port), via=through) as control, control.makefile("rb") as lines:
            assert lines.readline().startswith(b"220")
            with bind(("127.0.0.1", port), via=through) as binding:
                told = binding.address
                high, low = divmod(told.port, 256)
                control.sendall(f"PORT {told.host.replace('.', ',')},{high},{low}\r\nRETR large\r\n".encode())
                assert [lines.readline()[:3] for _ in range(2)] == [b"200", b"150"]
                data, peer = binding.accept()
            with data:
                assert peer.host == "127.0.0.1"
                assert b"".join(iter(lambda: data.recv(1 << 20), b"")) == LARGE
            assert lines.readline().startswith(b"226")
            control.sendall(b"QUIT\r\n")
            assert lines.readline().startswith(b"221")
        user = USER if scheme == "socks5" else None
        for _ in range(2):
            session = proxy.session(f"127.0.0.1:{port}")
            assert (session["protocol"], session["user"], session["ending"]) == (scheme, user, "closed")
