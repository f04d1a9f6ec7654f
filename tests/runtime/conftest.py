"""What the runtime's tests share: a run on a virtual clock, and one table of the ways in which a task can wait."""

from __future__ import annotations

import contextlib
import math
import os
import threading

import pytest

import netnet
from netnet.testing import VirtualClock, wait_all_parked


@pytest.fixture
def virtual(run):
    """``netnet.run`` on a virtual clock."""

    def run_virtually(main, *args, start=0.0, **options):
        return run(main, *args, clock=VirtualClock(start), **options)

    return run_virtually


def attach(one, other):
    """Has socket *one* wait once, so that the poller knows it and the calls written out for speed are used."""
    task = netnet.spawn(one.recv, 1)
    wait_all_parked()
    other.sendall(b"a")
    assert task.result() == b"a"


@contextlib.contextmanager
def _sleep():
    yield lambda: netnet.sleep(1000)


@contextlib.contextmanager
def _sleep_for_ever():
    yield lambda: netnet.sleep(math.inf)


@contextlib.contextmanager
def _join():
    other = netnet.spawn(netnet.sleep, 1000)
    yield other.join
    other.cancel()


@contextlib.contextmanager
def _event():
    yield netnet.Event().wait


@contextlib.contextmanager
def _semaphore():
    yield netnet.Semaphore(0).acquire


@contextlib.contextmanager
def _group():
    def group():
        with netnet.TaskGroup() as children:
            children.spawn(netnet.sleep, 1000)

    yield group


@contextlib.contextmanager
def _recv():
    one, other = netnet.socketpair()
    with one, other:
        yield lambda: one.recv(1)


@contextlib.contextmanager
def _recv_again():
    one, other = netnet.socketpair()
    with one, other:
        attach(one, other)
        yield lambda: one.recv(1)


@contextlib.contextmanager
def _recv_timed():
    one, other = netnet.socketpair()
    with one, other:
        one.settimeout(1000)
        yield lambda: one.recv(1)


@contextlib.contextmanager
def _sendall():
    one, other = netnet.socketpair()
    with one, other:
        yield lambda: one.sendall(bytes(10_000_000))


@contextlib.contextmanager
def _accept():
    with netnet.listen("127.0.0.1:0") as listener:
        yield listener.accept


@contextlib.contextmanager
def _second_accept():
    """Behind another task, which waits for the same listener."""
    with netnet.listen("127.0.0.1:0") as listener:
        first = netnet.spawn(listener.accept)
        wait_all_parked()
        yield listener.accept
        first.cancel()
        first.join()


@contextlib.contextmanager
def _to_thread():
    done = threading.Event()
    try:
        yield lambda: netnet.to_thread(done.wait, 10)
    finally:
        done.set()


@contextlib.contextmanager
def _wait_readable():
    reader, writer = os.pipe()
    try:
        yield lambda: netnet.wait_readable(reader)
    finally:
        os.close(reader)
        os.close(writer)


@contextlib.contextmanager
def _wait_writable():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(65536))
        yield lambda: netnet.wait_writable(writer)
    finally:
        os.close(reader)
        os.close(writer)


#: name → (context manager that yields a call that waits for good, what the report says of it)
WAITS = {
    "sleep": (_sleep, "the instant"),
    "sleep for ever": (_sleep_for_ever, "sleeps for ever"),
    "join": (_join, "the end of task"),
    "event": (_event, "an event"),
    "semaphore": (_semaphore, "a permit"),
    "group": (_group, "the tasks of its group"),
    "recv": (_recv, "readable"),
    "recv again": (_recv_again, "readable"),
    "recv timed": (_recv_timed, "readable"),
    "sendall": (_sendall, "writable"),
    "accept": (_accept, "readable"),
    "second accept": (_second_accept, "readable"),
    "to_thread": (_to_thread, "in an OS thread"),
    "wait_readable": (_wait_readable, "readable"),
    "wait_writable": (_wait_writable, "writable"),
}


@pytest.fixture(params=WAITS)
def waiting(request):
    """A kind of wait: a context manager for the call, and a phrase of the report."""
    return WAITS[request.param]
