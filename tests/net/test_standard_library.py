"""What is written for sockets runs on netnet's as it is: the standard library's HTTP client, server and WSGI handlers,
SMTP and FTP's line reading, talking over netnet sockets with nothing patched."""

from __future__ import annotations

import http.client
import http.server
import io
import json
import smtplib
import socket
import wsgiref.simple_server

import pytest

import netnet


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"you asked for {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(body), 10_000):
            piece = body[start : start + 10_000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args):
        pass


class WsgiServer:
    """As much of a WSGIServer as its request handler asks for."""

    server_name, server_port = "localhost", 0

    def __init__(self, application):
        self.application = application
        self.base_environ = {
            "SERVER_NAME": self.server_name,
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SERVER_PORT": "0",
            "REMOTE_HOST": "",
            "CONTENT_LENGTH": "",
            "SCRIPT_NAME": "",
        }

    def get_app(self):
        return self.application


class WsgiHandler(wsgiref.simple_server.WSGIRequestHandler):
    def get_stderr(self):
        return io.StringIO()

    def log_message(self, *args):
        pass


def application(environ, start_response):
    size = int(environ.get("CONTENT_LENGTH") or 0)
    told = {"path": environ["PATH_INFO"], "bytes": len(environ["wsgi.input"].read(size))}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]


def serving(handle):
    """A context manager: a server in a task, and a function that makes HTTP connections to it."""

    class Serving:
        def __enter__(self):
            self.listener = netnet.listen("127.0.0.1:0")
            self.task = netnet.spawn(netnet.serve, self.listener, handle)
            return self.client

        def client(self, timeout=None):
            client = http.client.HTTPConnection("localhost")
            client.sock = netnet.connect(self.listener.getsockname())
            client.sock.settimeout(timeout)
            return client

        def __exit__(self, *_):
            self.task.cancel()
            self.task.join()
            self.listener.close()

    return Serving()


def http_server(conn):
    Handler(conn, conn.getpeername(), None)


def wsgi_server(conn):
    WsgiHandler(conn, conn.getpeername(), WsgiServer(application))


def ask(client, method, path, body=None):
    client.request(method, path, body)
    answer = client.getresponse()
    return answer.status, answer.read()


@pytest.mark.parametrize("timeout", [None, 30])
def test_http_keeps_the_connection(backend, run, timeout):
    def main():
        with serving(http_server) as connect:
            client = connect(timeout)
            kept = client.sock
            for path in ("/one", "/two", "/three"):
                assert ask(client, "GET", path) == (200, f"you asked for {path}".encode())
                assert client.sock is kept
            client.close()

    run(main)


@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
def test_http_bodies_both_ways(backend, run, size):
    def main():
        with serving(http_server) as connect:
            client = connect()
            assert ask(client, "POST", "/", b"b" * size) == (201, b"b" * size)
            client.close()

    run(main)


def test_wsgi(backend, run):
    def main():
        with serving(wsgi_server) as connect:
            client = connect()
            status, body = ask(client, "POST", "/place", b"x" * 50_000)
            assert (status, json.loads(body)) == (200, {"path": "/place", "bytes": 50_000})
            client.close()

    run(main)


def test_many_clients_at_once(backend, run):
    def main():
        with serving(http_server) as connect:

            def one(number):
                client = connect()
                for turn in range(3):
                    assert ask(client, "GET", f"/{number}/{turn}")[1] == f"you asked for /{number}/{turn}".encode()
                client.close()

            with netnet.TaskGroup() as group:
                for number in range(30):
                    group.spawn(one, number)

    run(main)


def test_a_silent_server_runs_into_the_clients_time_limit(backend, run):
    def main():
        with serving(lambda conn: conn.recv(10_000) and netnet.sleep(30)) as connect:
            client = connect(timeout=0.01)
            with pytest.raises(TimeoutError, match="timed out"):
                ask(client, "GET", "/")
            client.close()

    run(main)


def test_smtp(backend, run):
    """``smtplib`` reads lines through ``makefile``."""
    seen = []

    def server(conn):
        conn.sendall(b"220 here\r\n")
        with conn.makefile("rb") as lines:
            for line in lines:
                seen.append(line.split()[0].upper())
                if seen[-1] == b"DATA":
                    conn.sendall(b"354 go on\r\n")
                    while lines.readline() != b".\r\n":
                        pass
                conn.sendall(b"221 bye\r\n" if seen[-1] == b"QUIT" else b"250 ok\r\n")

    class Client(smtplib.SMTP):
        def _get_socket(self, host, port, timeout):
            return netnet.connect((host, port))

    def main():
        with netnet.listen("127.0.0.1:0") as listener:
            task = netnet.spawn(netnet.serve, listener, server)
            with Client(*listener.getsockname(), local_hostname="localhost") as client:
                client.sendmail("a@localhost", ["b@localhost"], "Subject: hello\r\n\r\nhello\r\n" * 1000)
            task.cancel()

    run(main)
    assert seen == [b"EHLO", b"MAIL", b"RCPT", b"DATA", b"QUIT"]


def test_it_is_a_socket():
    with netnet.Socket() as sock:
        assert isinstance(sock, socket.socket)
