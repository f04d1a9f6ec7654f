"""What clients reach through a proxy that runs as a process: targets that tell the digest of what they got.

``http_origin`` serves a small and a large document and answers uploads with their digest; it takes nothing that was meant
for the proxy. ``digest_target`` does the same for a plain connection: it answers when the client has finished. Both run
in threads. The configurations are at the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import importlib
import os
import random
import socket
import socketserver
import subprocess
import threading

import pytest

from tests.cli.process import PATIENCE_SECONDS, plain_environment

SMALL = b"hello from behind the proxy\n"
LARGE = random.Random(7).randbytes(20_000_000)

#: fetches the large document and shows its digest
PAGE = b"""<!doctype html><p id="digest">nothing yet</p><script>
addEventListener("load", async () => {
  const all = await (await fetch("/large")).arrayBuffer();
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", all));
  document.getElementById("digest").textContent = Array.from(bytes, b => b.toString(16).padStart(2, "0")).join("");
});
</script>"""
DOCUMENTS = {"/small": SMALL, "/large": LARGE, "/page": PAGE}


def digest(data):
    return hashlib.sha256(data).hexdigest().encode()


def has_ipv6():
    """Whether this machine has ``::1``."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6 here")


class _Documents(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE_SECONDS

    def do_GET(self):
        self._answer(DOCUMENTS.get(self.path))

    def do_PUT(self):
        self._answer(digest(self.rfile.read(int(self.headers["Content-Length"]))))

    do_POST = do_PUT

    def _answer(self, body):
        meant_for_the_proxy = not self.path.startswith("/") or any(
            name.lower().startswith("proxy-") for name in self.headers
        )
        self.send_response(400 if meant_for_the_proxy else 404 if body is None else 200)
        body = b"" if meant_for_the_proxy or body is None else body
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class _Digest(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.settimeout(PATIENCE_SECONDS)
        with self.request.makefile("rb") as file:
            self.request.sendall(hashlib.file_digest(file, "sha256").hexdigest().encode())


class _HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = False

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)  # the other one asks the name service who we are
        self.server_name, self.server_port = self.server_address[:2]


class _TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = False


def _with_family(kind, host):
    return type(kind.__name__, (kind,), {"address_family": socket.AF_INET6 if ":" in host else socket.AF_INET})


@contextlib.contextmanager
def serving(kind, handler, host="127.0.0.1"):
    """A server of the standard library in a thread; gives its port."""
    with _with_family(kind, host)((host, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def http_origin(host="127.0.0.1"):
    return serving(_HttpServer, _Documents, host)


def digest_target(host="127.0.0.1"):
    return serving(_TcpServer, _Digest, host)


def tcp_target(handle):
    """A target whose connections are given to *handle*, each in a thread."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.settimeout(PATIENCE_SECONDS)
            handle(self.request)

    return serving(_TcpServer, Handler)


@contextlib.contextmanager
def refusing_port():
    """A port where nobody listens, and nobody else can begin to."""
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        yield refusing.getsockname()[1]


def client(*arguments, data=b"", **variables):
    """Runs a program to its end, with *variables* in its environment: exit status and output."""
    ended = subprocess.run(
        arguments,
        input=data,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        env=plain_environment() | variables,
        check=False,
    )
    return ended.returncode, ended.stdout


def module(name):
    """A library that is a client. Where it is missing the tests of the file are skipped; they fail where
    ``NETNET_REQUIRE_CLIENTS`` is set."""
    if os.environ.get("NETNET_REQUIRE_CLIENTS"):
        return importlib.import_module(name)
    return pytest.importorskip(name)


# -- configurations

USER, PASSWORD = "fred", "s:e@cret"

COMMON = """
[proxy]
log = "json"
drain = "1 s"
workers = 2
"""

LISTENER = """
[[listener]]
address = "{address}"
authentication = "{authentication}"
"""


def open_configuration(directory):
    """Listeners for anybody, at 127.0.0.1, at a UNIX socket in *directory* and, if there is IPv6, at ::1."""
    addresses = ["127.0.0.1:0", f"unix:{directory}/socket"] + ["[::1]:0"] * has_ipv6()
    return COMMON + "".join(LISTENER.format(address=one, authentication="none") for one in addresses)


def password_configuration(password_hash):
    """Two listeners: the first one is for users, the second one for them and others. Wrong logins do not delay anybody."""
    return (
        COMMON
        + LISTENER.format(address="127.0.0.1:0", authentication="password")
        + LISTENER.format(address="127.0.0.1:0", authentication="optional")
        + f'[users]\n{USER} = "{password_hash}"\n'
        + "[limits]\nfailed_logins_free = 1000\nfailed_logins_max = 1000\n"
    )
