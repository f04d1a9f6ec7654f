"""Libraries of others through a proxy, by ``Dialer``: those that take a function, or have a method to replace.

Client, proxy and origin are tasks of one loop, so a library that blocked the OS thread would never be answered.
"""

from __future__ import annotations

import contextlib
import http.client
import smtplib
import urllib.request

import pytest

import netnet
from netnet.socks.client import Dialer, ProxyError

CONTENT = b"what the origin has\n"


@contextlib.contextmanager
def serving(handler):
    """The port of a server in the running loop; *handler* gets each connection as a ``Buffered``."""
    with netnet.listen("127.0.0.1:0") as listener:
        task = netnet.spawn(netnet.serve, listener, lambda conn: handler(netnet.Buffered(conn)))
        try:
            yield listener.getsockname()[1]
        finally:
            task.cancel()


def answer_http(stream):
    """As often as it is asked; with what it was asked for."""
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            line = stream.recv_until(b"\r\n\r\n").partition(b"\r\n")[0]
            content = line.split(b" ")[1] + b" " + CONTENT
            stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))


@contextlib.contextmanager
def origin_and_dialer(proxy, handler=answer_http):
    """An origin, and a dialer to it by way of a proxy of ours; all connections of the lines went through that."""
    with proxy() as through, serving(handler) as port:
        yield port, Dialer("socks4a://{}:{}".format(*through.address))
        through.ended(len(through.sessions) or 1)


def test_http_client(run, proxy):
    def main():
        with origin_and_dialer(proxy) as (port, dialer):
            connection = http.client.HTTPConnection("localhost", port, timeout=10)
            connection._create_connection = dialer.create_connection
            with contextlib.closing(connection):
                for path in ("/one", "/two"):
                    connection.request("GET", path)
                    assert connection.getresponse().read() == path.encode() + b" " + CONTENT
                assert type(connection.sock) is netnet.Socket
                assert connection.sock.gettimeout() == 10

    run(main)


def test_urllib_request(run, proxy):
    def main():
        with origin_and_dialer(proxy) as (port, dialer):

            class Handler(urllib.request.HTTPHandler):
                def http_open(self, request):
                    return self.do_open(self.connection, request)

                def connection(self, host, **options):
                    made = http.client.HTTPConnection(host, **options)
                    made._create_connection = dialer.create_connection
                    return made

            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), Handler)
            with opener.open(f"http://localhost:{port}/path", timeout=10) as response:
                assert response.read() == b"/path " + CONTENT

    run(main)


def urllib3_manager(dialer):
    urllib3 = pytest.importorskip("urllib3")

    class Connection(urllib3.connection.HTTPConnection):
        def _new_conn(self):
            seconds = urllib3.Timeout.resolve_default_timeout(self.timeout)
            return dialer.create_connection((self.host, self.port), seconds, self.source_address)

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Connection

    manager = urllib3.PoolManager()
    manager.pool_classes_by_scheme = {"http": Pool}
    return manager


@pytest.mark.parametrize("options", [{}, {"timeout": 10}])
def test_urllib3(run, proxy, options):
    def main():
        with origin_and_dialer(proxy) as (port, dialer):
            with urllib3_manager(dialer) as manager:
                for path in ("/one", "/two"):
                    # a response that is kept would keep the connection
                    data = manager.request("GET", f"http://localhost:{port}{path}", **options).data
                    assert data == path.encode() + b" " + CONTENT

    run(main)


def test_requests(run, proxy):
    requests = pytest.importorskip("requests")

    def main():
        with origin_and_dialer(proxy) as (port, dialer):

            class Adapter(requests.adapters.HTTPAdapter):
                def init_poolmanager(self, *args, **options):
                    self.poolmanager = urllib3_manager(dialer)

            with requests.Session() as session:
                session.trust_env = False
                session.mount("http://", Adapter())
                assert session.get(f"http://localhost:{port}/path", timeout=10).content == b"/path " + CONTENT

    run(main)


def test_smtplib(run, proxy):
    letters = []

    def answer_smtp(stream):
        stream.sendall(b"220 mail\r\n")
        while (line := stream.recv_until(b"\r\n").rstrip()) != b"QUIT":
            if line == b"data":
                stream.sendall(b"354 go on\r\n")
                letters.append(stream.recv_until(b"\r\n.\r\n"))
            stream.sendall(b"250 yes\r\n")
        stream.sendall(b"221 bye\r\n")

    def main():
        with origin_and_dialer(proxy, answer_smtp) as (port, dialer):

            class Mail(smtplib.SMTP):
                def _get_socket(self, host, port, timeout):
                    return dialer.create_connection((host, port), timeout, self.source_address)

            with Mail("localhost", port, timeout=10, local_hostname="here.test") as mail:
                mail.sendmail("a@here.test", ["b@there.test"], "Subject: hello\r\n\r\nhello")

    run(main)
    assert b"Subject: hello" in letters[0]


def test_pool(run, proxy):
    def main():
        with origin_and_dialer(proxy) as (port, dialer):
            with netnet.Pool(lambda: dialer(f"localhost:{port}")) as pool:
                for _ in range(2):
                    with pool.connection() as sock:
                        stream = netnet.Buffered(sock)
                        stream.sendall(b"GET /pool HTTP/1.1\r\n\r\n")
                        assert stream.recv_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
                        stream.recv_exactly(len(b"/pool " + CONTENT))

    run(main)


def test_what_a_library_makes_of_a_refusal(run, proxy):
    """It is an ``OSError``, which they all know."""
    urllib3 = pytest.importorskip("urllib3")

    def main():
        with proxy() as through, netnet.Socket() as refusing:
            refusing.bind(("127.0.0.1", 0))
            port = refusing.getsockname()[1]
            dialer = Dialer("socks4a://{}:{}".format(*through.address))
            connection = http.client.HTTPConnection("localhost", port)
            connection._create_connection = dialer.create_connection
            with pytest.raises(ProxyError):
                connection.request("GET", "/")
            with urllib3_manager(dialer) as manager:
                with pytest.raises(urllib3.exceptions.MaxRetryError) as caught:
                    manager.request("GET", f"http://localhost:{port}/", retries=0)
            assert isinstance(caught.value.reason.__cause__ or caught.value.reason.args[-1], Exception)
            through.ended(2)

    run(main)
