"""One listener for several loops: each has a duplicate of it, in threads or in processes. Every connection is served,
once, on every backend, with exclusive wake-ups and without, while some loops are full and while some end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

import netnet
from netnet.poller.epoll import EpollPoller
from netnet.poller.shared import SharedPoller

LOOPS = 3


@pytest.fixture(params=["as it comes", "exclusive"])
def wakeups(request, monkeypatch):
    """Listeners are registered as the loop has it, or as exclusive in any case."""
    if request.param == "exclusive":
        if not hasattr(select, "epoll"):
            pytest.skip("needs epoll")
        register = EpollPoller.register

        def register_listeners_so(self, fd, exclusive=False):
            with socket.socket(fileno=os.dup(fd)) as one:
                listens = bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
            register(self, fd, exclusive or listens)

        monkeypatch.setattr(EpollPoller, "register", register_listeners_so)
    return request.param


@contextlib.contextmanager
def served(listener, handler, *, loops=LOOPS, poller=None, **options):
    """Loops in so many threads, each of which serves a duplicate of *listener* with ``handler(index, conn)``."""
    reader, writer = os.pipe()

    def main(index):
        with netnet.timeout(25), listener.dup() as own:
            server = netnet.spawn(lambda: netnet.serve(own, lambda conn: handler(index, conn), **options))
            netnet.wait_readable(reader)
            server.cancel()
            server.join()

    with ThreadPoolExecutor(loops) as pool:
        running = [pool.submit(netnet.run, main, index, poller=poller) for index in range(loops)]
        try:
            yield
        finally:
            os.close(writer)
            for one in running:
                one.result()
            os.close(reader)


def ask(address, message=b"hello"):
    """What one connection is answered."""
    with socket.create_connection(address, timeout=20) as conn:
        conn.sendall(message)
        return conn.recv(100)


def index_of_loop(index, conn):
    conn.recv(100)
    conn.sendall(b"%d" % index)


@pytest.fixture
def listener():
    with netnet.listen("127.0.0.1:0") as one:
        yield one


def test_one_after_the_other(backend, wakeups, listener):
    with served(listener, index_of_loop):
        answers = Counter(ask(listener.getsockname()) for _ in range(100))
    assert answers.total() == 100
    assert set(answers) <= {b"0", b"1", b"2"}


def test_storms(backend, wakeups, listener):
    """Many at once, then silence, then many at once: nobody stays in the backlog."""
    with served(listener, index_of_loop), ThreadPoolExecutor(8) as clients:
        for _ in range(10):
            answers = list(clients.map(lambda _: ask(listener.getsockname()), range(40)))
            assert set(answers) <= {b"0", b"1", b"2"}


def test_all_that_wait_in_the_backlog_when_the_loops_begin(backend, wakeups, listener):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(listener.getsockname(), 20)) for _ in range(50)]
        with served(listener, index_of_loop):
            for client in clients:
                client.sendall(b"x")
                assert client.recv(10) in (b"0", b"1", b"2")


def test_loops_that_are_full_leave_the_rest_to_the_others(backend, listener):
    """Each may hold ten at once, and thirty are held at once, one coming after the other: each loop has to take ten, and
    a full one must not be the only one that is woken."""
    release = threading.Event()
    taken = Counter()
    seen = threading.Semaphore(0)

    def hold(index, conn):
        taken[index] += 1
        seen.release()
        netnet.to_thread(release.wait, 20)

    with contextlib.ExitStack() as stack, served(listener, hold, max_connections=10):
        try:
            for _ in range(10 * LOOPS):
                stack.enter_context(socket.create_connection(listener.getsockname()))
                assert seen.acquire(timeout=10), f"one was left in the backlog; held at once: {taken}"
        finally:
            release.set()
    assert taken == Counter(dict.fromkeys(range(LOOPS), 10))


def test_loops_that_end_leave_the_rest_to_the_others(backend, wakeups, listener):
    with served(listener, index_of_loop, loops=1):
        for _ in range(5):
            with served(listener, index_of_loop, loops=2):
                assert ask(listener.getsockname()) in (b"0", b"1")
            for _ in range(5):
                assert ask(listener.getsockname()) == b"0"


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="needs epoll")
def test_on_a_shared_poller(listener):
    with SharedPoller() as common, served(listener, index_of_loop, poller=common), ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: ask(listener.getsockname()), range(300)))
    assert len(answers) == 300
    assert set(answers) <= {b"0", b"1", b"2"}


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs UNIX sockets")
def test_a_unix_listener(backend, wakeups, tmp_path):
    path = str(tmp_path / "socket")
    with netnet.listen(f"unix:{path}") as listener, served(listener, index_of_loop):
        for _ in range(50):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(20)
                client.connect(path)
                client.sendall(b"x")
                assert client.recv(10) in (b"0", b"1", b"2")


def test_in_processes(backend, wakeups, listener):
    """The children have inherited it; each runs a loop of its own."""
    children = []
    try:
        for index in range(LOOPS):
            pid = os.fork()
            if pid == 0:
                try:
                    signal.alarm(25)
                    netnet.run(netnet.serve, listener, lambda conn, index=index: index_of_loop(index, conn))
                finally:
                    os._exit(1)
            children.append(pid)
        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(lambda _: ask(listener.getsockname()), range(200)))
        assert set(answers) <= {b"0", b"1", b"2"}
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
