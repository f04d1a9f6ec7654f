"""``netnet.selectors``: code that is written with selectors serves in a task beside others. (The interpreter's own tests
of its ``selectors`` module run on ours in ``test_select``.)"""

from __future__ import annotations

import asyncio
import http.server
import os
import selectors as standard
import socket
import socketserver
import subprocess
import sys
import types

import pytest

import netnet
from netnet import Cancelled, selectors
from netnet import socket as our_socket
from netnet.selectors import _ByItsDescriptor
from netnet.testing import VirtualClock, wait_all_parked

#: what is tested may block the OS thread, where no limit but one from another thread helps: it ends the test program
pytestmark = pytest.mark.timeout(30, method="thread")


class ByItsDescriptor(_ByItsDescriptor, standard.EpollSelector):
    """What ``KqueueSelector`` is where there is kqueue, made of what there is here."""


CLASSES = [selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector, ByItsDescriptor]
classes = pytest.mark.parametrize("kind", CLASSES)


@pytest.fixture
def pair():
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_every_name_of_the_standard_module_is_there():
    ours = {name for name in standard.__dict__ if name.endswith("Selector") and name[0] != "_"} - {"BaseSelector"}
    for name, value in vars(standard).items():
        if not name.startswith("_") and name not in ours and not isinstance(value, types.ModuleType):
            assert getattr(selectors, name) is value, name
    for name in ours:
        assert issubclass(getattr(selectors, name), getattr(standard, name))
        assert getattr(selectors, name) is not getattr(standard, name)
    assert selectors.DefaultSelector.__name__ == standard.DefaultSelector.__name__


@classes
def test_it_parks(run, backend, pair, kind):
    one, other = pair

    def main():
        with kind() as selector:
            key = selector.register(one, selectors.EVENT_READ, "data")
            assert selector.select(0) == []
            for _ in range(3):
                task = netnet.spawn(selector.select)
                wait_all_parked()
                assert not task.done
                other.send(b"x")
                assert task.result() == [(key, selectors.EVENT_READ)]
                one.recv(1)

    run(main)


@classes
@pytest.mark.parametrize("timeout", [5, 0, -1])
def test_the_time_out_is_of_the_loop_s_clock(run, pair, kind, timeout):
    def main():
        with kind() as selector:
            selector.register(pair[0], selectors.EVENT_READ)
            assert selector.select(timeout) == []
            assert netnet.now() == max(0, timeout)

    run(main, clock=VirtualClock())


@classes
def test_outside_a_loop(pair, kind):
    with kind() as selector:
        key = selector.register(pair[0], selectors.EVENT_READ | selectors.EVENT_WRITE)
        assert selector.select() == [(key, selectors.EVENT_WRITE)]
        pair[1].send(b"x")
        assert selector.select() == [(key, selectors.EVENT_READ | selectors.EVENT_WRITE)]


@classes
def test_cancelled(run, pair, kind):
    def main():
        with kind() as selector:
            selector.register(pair[0], selectors.EVENT_READ)
            task = netnet.spawn(selector.select)
            wait_all_parked()
            task.cancel()
            task.join()
            assert isinstance(task.error, Cancelled)

    run(main)


@pytest.mark.parametrize("kind", [*CLASSES[1:]])
def test_registered_while_it_waits(run, pair, kind):
    def main():
        with kind() as selector:
            selector.register(pair[0], selectors.EVENT_READ)
            task = netnet.spawn(selector.select)
            wait_all_parked()
            key = selector.register(pair[1], selectors.EVENT_WRITE)
            assert task.result() == [(key, selectors.EVENT_WRITE)]

    run(main)


@classes
def test_an_echo_server(run, kind):
    """One task with a selector, ten tasks as its clients."""

    def serve(listener, clients):
        listener.setblocking(False)
        with kind() as selector:
            selector.register(listener, selectors.EVENT_READ)
            while clients or len(selector.get_map()) > 1:
                for key, _ in selector.select():
                    if key.fileobj is listener:
                        conn, _ = listener.accept()
                        conn.setblocking(False)
                        selector.register(conn, selectors.EVENT_READ)
                        clients.pop()
                    elif data := key.fileobj.recv(1000):
                        key.fileobj.sendall(data)
                    else:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()

    def client(address):
        with netnet.connect(address) as sock:
            for number in range(10):
                sock.sendall(b"%d" % number)
                assert sock.recv(10) == b"%d" % number

    def main():
        with socket.create_server(("127.0.0.1", 0)) as listener, netnet.TaskGroup() as group:
            group.spawn(serve, listener, [None] * 10)
            for _ in range(10):
                group.spawn(client, listener.getsockname())

    run(main)


def cooperative(function, kind):
    """A copy of a function of ``socketserver`` that finds our selector where it looks for the module's."""
    names = vars(socketserver) | {"_ServerSelector": kind, "selectors": selectors}
    made = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    made.__kwdefaults__ = function.__kwdefaults__
    return made


class Cooperative:
    """What makes a server of ``socketserver`` cooperate: our socket, our selector, a task for each request."""

    def __init__(self, address, handler):
        super().__init__(address, handler, bind_and_activate=False)
        self.socket.close()
        self.socket = our_socket.socket(self.address_family, self.socket_type)
        self.server_bind()
        self.server_activate()

    def process_request(self, request, address):
        netnet.spawn(self.work, request, address)

    def work(self, request, address):
        try:
            self.finish_request(request, address)
        finally:
            self.shutdown_request(request)


@pytest.mark.parametrize("kind", [selectors.SelectSelector, selectors.PollSelector])
def test_socketserver(run, kind):
    class Server(Cooperative, socketserver.TCPServer):
        serve_forever = cooperative(socketserver.BaseServer.serve_forever, kind)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            for line in self.rfile:
                self.wfile.write(line.upper())

    def main():
        with Server(("127.0.0.1", 0), Handler) as server:
            serving = netnet.spawn(server.serve_forever)
            with netnet.connect(server.server_address) as one, netnet.connect(server.server_address) as other:
                other.sendall(b"second\n")
                assert other.recv(100) == b"SECOND\n"
                one.sendall(b"first\n")
                assert one.recv(100) == b"FIRST\n"
            serving.cancel()
            serving.join()

    run(main)


@pytest.mark.client("curl")
def test_http_server(run):
    class Server(Cooperative, http.server.HTTPServer):
        serve_forever = cooperative(socketserver.BaseServer.serve_forever, selectors.PollSelector)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_):
            pass

    def main():
        with Server(("127.0.0.1", 0), Handler) as server:
            serving = netnet.spawn(server.serve_forever)
            host, port = server.server_address[:2]
            done = netnet.to_thread(
                lambda: subprocess.run(
                    ["curl", "-sS", "--noproxy", "*", f"http://{host}:{port}/"], capture_output=True, timeout=15
                )
            )
            serving.cancel()
            serving.join()
        assert (done.stdout, done.stderr) == (b"hello", b"")

    run(main)


def test_talking_to_a_program(run):
    """As ``subprocess.communicate`` does it: writes to one pipe while it reads two."""

    def communicate(process, data):
        view = memoryview(data)
        parts = {process.stdout: b"", process.stderr: b""}
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdin, selectors.EVENT_WRITE)
            for file in parts:
                selector.register(file, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    if key.fileobj is process.stdin:
                        view = view[os.write(key.fd, view[:512]) :]
                        if not view:
                            selector.unregister(process.stdin)
                            process.stdin.close()
                    elif part := os.read(key.fd, 65536):
                        parts[key.fileobj] += part
                    else:
                        selector.unregister(key.fileobj)
        return tuple(parts.values())

    def main():
        ticks = []

        def tick():
            while True:
                ticks.append(netnet.now())
                netnet.sleep(0.001)

        ticking = netnet.spawn(tick)
        program = "import sys; d = sys.stdin.buffer.read(); sys.stdout.buffer.write(d); print(len(d), file=sys.stderr)"
        data = os.urandom(300_000)
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert communicate(process, data) == (data, b"300000\n")
        ticking.cancel()
        assert len(ticks) > 3

    run(main)


def test_asyncio_in_a_task(run):
    """An asyncio loop given one of these runs in a task, and talks to a server in another task of the same thread."""

    def echo(listener):
        conn, _ = listener.accept()
        with conn:
            for data in conn:
                conn.sendall(data)

    async def client(address):
        reader, writer = await asyncio.open_connection(*address)
        for number in range(10):
            writer.write(b"%d\n" % number)
            assert await reader.readline() == b"%d\n" % number
        writer.close()
        await writer.wait_closed()

    def main():
        with netnet.listen("127.0.0.1:0") as listener, netnet.TaskGroup() as group:
            group.spawn(echo, listener)
            loop = asyncio.SelectorEventLoop(selectors.DefaultSelector())
            try:
                loop.run_until_complete(client(listener.getsockname()))
            finally:
                loop.close()

    run(main)
