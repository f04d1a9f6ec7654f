"""The contract that every poller keeps, on each backend and as a member of a shared one: register once, one report a
change, level-triggered watches, exclusive wake-ups, waking from another thread, closing. Then what only the package
itself decides: which backend is taken, and the look at one descriptor without a poller."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading

import pytest

from netnet.errors import UsageError
from netnet.poller import BACKENDS, ENVIRONMENT, available, create
from netnet.poller.contract import ERROR, HANGUP, PEER_CLOSED, READABLE, UNUSUAL, URGENT, WRITABLE
from netnet.poller.shared import SharedPoller
from netnet.poller.single import wait_one
from tests import conftest, kqueue_standin

BOTH = READABLE | WRITABLE
#: every poller there is here, a member of a shared one included
KINDS = [*conftest.BACKENDS, *(["shared"] if hasattr(select, "epoll") else [])]


@pytest.fixture(params=KINDS)
def backend(request, monkeypatch):
    if request.param == "kqueue" and not hasattr(select, "kqueue"):
        kqueue_standin.install(monkeypatch)
    monkeypatch.setenv(ENVIRONMENT, request.param)
    return request.param


def make(backend):
    return create(SharedPoller() if backend == "shared" else None)


@pytest.fixture
def poller(backend):
    one = make(backend)
    yield one
    one.close()


@pytest.fixture
def pollers(backend):
    """Three of a kind, for three loops."""
    if backend == "shared":
        with SharedPoller() as shared:
            some = [create(shared) for _ in range(3)]
    else:
        some = [create() for _ in range(3)]
    yield some
    for one in some:
        one.close()


@pytest.fixture
def pair():
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    with one, other:
        yield one, other


@pytest.fixture
def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other = listener.accept()[0]
    one.setblocking(False)
    with one, other:
        yield one, other


def look(poller, one, *directions):
    """What is reported of socket *one* right now, as a waiting loop would ask for it."""
    for direction in directions:
        poller.rearm(one.fileno(), direction)
    found = 0
    for fd, bits in poller.wait(0):
        if fd == one.fileno():
            found |= bits
    return found


def fill(one):
    with contextlib.suppress(BlockingIOError):
        while True:
            one.send(bytes(65536))


def empty(one):
    with contextlib.suppress(BlockingIOError):
        while one.recv(65536):
            pass


def test_name_and_kind(backend, poller):
    assert poller.name == backend
    assert poller.edge_triggered == (backend in ("epoll", "kqueue", "shared"))


def test_nothing_is_reported_of_nothing(poller):
    assert poller.wait(0) == []


def test_what_is_ready_at_registering_is_reported(poller, pair):
    one, other = pair
    other.send(b"x")
    poller.register(one.fileno())
    assert look(poller, one, READABLE, WRITABLE) & BOTH == BOTH


def test_data_is_reported_once(poller, pair):
    one, other = pair
    poller.register(one.fileno())
    look(poller, one, READABLE, WRITABLE)
    other.send(b"x")
    assert look(poller, one, READABLE) & READABLE
    assert not look(poller, one) & READABLE


def test_each_new_arrival_is_reported(poller, pair):
    one, other = pair
    poller.register(one.fileno())
    look(poller, one, READABLE)
    for _ in range(3):
        other.send(b"x")
        assert look(poller, one, READABLE) & READABLE


def test_room_in_a_full_buffer_is_reported(poller, pair):
    one, other = pair
    poller.register(one.fileno())
    look(poller, one, READABLE, WRITABLE)
    fill(one)
    assert not look(poller, one, WRITABLE) & WRITABLE
    empty(other)
    assert look(poller, one, WRITABLE) & WRITABLE


@pytest.mark.parametrize("direction", [READABLE, WRITABLE])
def test_only_the_direction_that_is_ready(poller, pair, direction):
    one, other = pair
    poller.register(one.fileno())
    look(poller, one, READABLE, WRITABLE)
    fill(one)
    look(poller, one, READABLE, WRITABLE)
    if direction == READABLE:
        other.send(b"x")
    else:
        empty(other)
    assert look(poller, one, READABLE, WRITABLE) & BOTH == direction


@pytest.mark.parametrize(
    ("ending", "tells"),
    [("shutdown", READABLE | PEER_CLOSED), ("close", READABLE | PEER_CLOSED | HANGUP)],
)
def test_the_peers_end_is_readable(poller, pair, ending, tells):
    one, other = pair
    poller.register(one.fileno())
    look(poller, one, READABLE, WRITABLE)
    if ending == "shutdown":
        other.shutdown(socket.SHUT_WR)
    else:
        other.close()
    bits = look(poller, one, READABLE)
    assert bits & (READABLE | HANGUP | PEER_CLOSED)
    assert not bits & ~(tells | WRITABLE)


def test_a_reset_ends_both_directions(poller, tcp_pair):
    one, other = tcp_pair
    poller.register(one.fileno())
    look(poller, one, READABLE, WRITABLE)
    fill(one)
    look(poller, one, WRITABLE)
    other.close()  # with unread data: a reset
    bits = look(poller, one, READABLE, WRITABLE)
    assert bits & (READABLE | ERROR | HANGUP)
    assert bits & (WRITABLE | ERROR | HANGUP)


def test_urgent_data_is_told_where_it_is_said_to_be(poller, tcp_pair):
    one, other = tcp_pair
    poller.register(one.fileno())
    look(poller, one, READABLE, WRITABLE)
    other.send(b"!", socket.MSG_OOB)
    bits = look(poller, one, READABLE)
    if poller.edge_triggered and poller.reports_urgent:
        assert bits & URGENT & UNUSUAL
    elif poller.edge_triggered:
        assert not bits & URGENT


def test_unregistered_is_silent(poller, pair):
    one, other = pair
    poller.register(one.fileno())
    poller.unregister(one.fileno())
    other.send(b"x")
    assert look(poller, one) == 0


@pytest.mark.parametrize("how", ["never registered", "twice", "closed before"])
def test_unregister_forgives(poller, pair, how):
    one, _ = pair
    fd = one.fileno()
    if how != "never registered":
        poller.register(fd)
        poller.rearm(fd, READABLE)
    if how == "twice":
        poller.unregister(fd)
    if how == "closed before":
        one.close()
    poller.unregister(fd)
    assert poller.wait(0) == []


def test_a_number_can_be_registered_anew(poller, pair):
    one, other = pair
    for _ in range(2):
        poller.register(one.fileno())
        other.send(b"x")
        assert look(poller, one, READABLE) & READABLE
        poller.unregister(one.fileno())


# -- exclusive wake-ups


@pytest.fixture
def listeners():
    """Three descriptors for one listening socket."""
    with socket.create_server(("127.0.0.1", 0)) as one, one.dup() as two, one.dup() as three:
        for listener in (one, two, three):
            listener.setblocking(False)
        yield [one, two, three]


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_listener_of_several_pollers(pollers, listeners, exclusive):
    """None of them waits, so the kernel has nobody to prefer: all are told."""
    for poller, listener in zip(pollers, listeners, strict=True):
        poller.register(listener.fileno(), exclusive)
    for _ in range(3):
        for poller, listener in zip(pollers, listeners, strict=True):
            poller.rearm(listener.fileno(), READABLE)
        with socket.create_connection(listeners[0].getsockname()):
            told = [fd for poller in pollers for fd, _ in poller.wait(10)]
            assert {one.fileno() for one in listeners} <= set(told) | {fd for one in pollers for fd, _ in one.wait(0)}
            listeners[0].accept()[0].close()


def test_exclusive_tells_what_is_ready_at_registering(poller, listeners):
    listener = listeners[0]
    with socket.create_connection(listener.getsockname()):
        poller.register(listener.fileno(), exclusive=True)
        assert look(poller, listener, READABLE) & READABLE
        assert not look(poller, listener) & READABLE
        poller.unregister(listener.fileno())
        poller.register(listener.fileno(), exclusive=True)  # nobody took it: whoever comes to wait is told
        assert look(poller, listener, READABLE) & READABLE
        listener.accept()[0].close()


def test_exclusive_tells_each_arrival(poller, listeners):
    listener = listeners[0]
    poller.register(listener.fileno(), exclusive=True)
    for _ in range(3):
        assert not look(poller, listener, READABLE) & READABLE
        with socket.create_connection(listener.getsockname()):
            assert look(poller, listener, READABLE) & READABLE
            listener.accept()[0].close()


def test_exclusive_is_unregistered_as_any(poller, listeners):
    listener = listeners[0]
    poller.register(listener.fileno(), exclusive=True)
    poller.unregister(listener.fileno())
    with socket.create_connection(listener.getsockname()):
        assert look(poller, listener) == 0
        listener.accept()[0].close()


# -- foreign descriptors


def test_a_watch_is_level_triggered_and_once(poller, pair):
    one, other = pair
    other.send(b"x")
    for _ in range(2):  # nothing was read in between: a level, not a change
        poller.watch(one.fileno(), READABLE)
        assert look(poller, one) & READABLE
        assert look(poller, one) == 0
        poller.unwatch(one.fileno(), READABLE)


def test_a_watch_of_what_is_not_ready_waits(poller, pair):
    one, other = pair
    poller.watch(one.fileno(), READABLE)
    assert look(poller, one) == 0
    other.send(b"x")
    assert look(poller, one) & READABLE


@pytest.mark.parametrize("first", [READABLE, WRITABLE])
def test_two_watches_of_one_descriptor(poller, pair, first):
    one, other = pair
    fill(one)
    poller.watch(one.fileno(), first)
    poller.watch(one.fileno(), BOTH - first)
    assert look(poller, one) == 0
    other.send(b"x")
    assert look(poller, one) & BOTH == READABLE
    poller.unwatch(one.fileno(), READABLE)
    empty(other)
    assert look(poller, one) & BOTH == WRITABLE


@pytest.mark.parametrize("taken_back", [READABLE, WRITABLE])
def test_unwatch_leaves_the_other_direction(poller, pair, taken_back):
    one, other = pair
    other.send(b"x")
    poller.watch(one.fileno(), READABLE)
    poller.watch(one.fileno(), WRITABLE)
    poller.unwatch(one.fileno(), taken_back)
    assert look(poller, one) & BOTH == BOTH - taken_back


def test_unwatch_forgives(poller, pair):
    one, other = pair
    poller.unwatch(one.fileno(), READABLE)
    poller.watch(one.fileno(), READABLE)
    poller.unwatch(one.fileno(), READABLE)
    poller.unwatch(one.fileno(), READABLE)
    other.send(b"x")
    assert look(poller, one) == 0


def test_a_pipe_whose_writer_is_gone(poller):
    reader, writer = os.pipe()
    try:
        poller.watch(reader, READABLE)
        os.close(writer)
        ((fd, bits),) = poller.wait(10)
        assert fd == reader
        assert bits & (READABLE | HANGUP)
    finally:
        os.close(reader)


# -- waking


def test_wake_before_the_wait(poller):
    poller.wake()
    poller.wait(10)
    assert poller.wait(0) == []


def test_wakes_come_together(poller):
    for _ in range(100_000):  # more than the socket pair could hold, if each wrote a byte
        poller.wake()
    poller.wait(10)
    assert poller.wait(0) == []
    poller.wake()
    assert poller.wait(10) != []


def test_wake_from_a_thread(poller):
    for _ in range(20):
        waker = threading.Thread(target=poller.wake)
        waker.start()
        poller.wait(10)
        waker.join()


def test_wake_beside_another_event(poller, pair):
    one, other = pair
    poller.register(one.fileno())
    look(poller, one, READABLE, WRITABLE)
    for _ in range(3):
        other.send(b"x")
        poller.wake()
        assert look(poller, one, READABLE) & READABLE
        assert poller.wait(0) == []


def test_wake_fd_is_for_signals(poller):
    old = signal.set_wakeup_fd(poller.wake_fd)  # refuses a descriptor that blocks
    signal.set_wakeup_fd(old)
    for _ in range(3):
        os.write(poller.wake_fd, b"\2")
        poller.wait(10)
        assert poller.wait(0) == []


@pytest.mark.parametrize("seconds", [3600.0, 86400.0, 24 * 86400.0])
def test_a_far_deadline(poller, seconds):
    """As far as 31 bits of milliseconds go; the loop asks for no more."""
    poller.wake()
    poller.wait(seconds)


@pytest.mark.parametrize("seconds", [0, 0.0, 1e-9, 0.001])
def test_a_near_deadline_ends_the_wait(poller, seconds):
    assert poller.wait(seconds) == []


def test_close_gives_everything_back(backend, pair):
    one, _ = pair
    poller = make(backend)
    poller.register(one.fileno())
    poller.rearm(one.fileno(), READABLE)
    poller.close()  # the descriptors are counted after the test
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(poller.wake_fd)


# -- which one is taken


def test_the_best_comes_first(monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    assert available() == [name for name in BACKENDS if hasattr(select, name)]
    poller = create()
    poller.close()
    assert poller.name == available()[0]


@pytest.mark.parametrize("backend", conftest.BACKENDS, indirect=True)
def test_the_environment_decides(backend):
    poller = create()
    poller.close()
    assert poller.name == backend


def test_the_argument_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, "nonsense")
    poller = create("select")
    poller.close()
    assert poller.name == "select"


@pytest.mark.parametrize("name", ["nonsense", "EPOLL", "netnet", " ", "iocp"])
def test_an_unknown_name_is_refused(monkeypatch, name):
    monkeypatch.setenv(ENVIRONMENT, name)
    with pytest.raises(UsageError, match=rf"'{name}'.*{ENVIRONMENT}.*select"):
        create()


def test_a_backend_of_another_system_is_refused(monkeypatch):
    monkeypatch.delattr(select, "epoll", raising=False)
    with pytest.raises(UsageError, match="'epoll'"):
        create("epoll")


def test_no_environment_is_the_best(monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, "")
    poller = create()
    poller.close()
    assert poller.name == available()[0]


# -- select's own limit


def high_descriptor(one):
    """A copy of *one*'s descriptor above 1023, if this process may have one."""
    import fcntl

    try:
        return fcntl.fcntl(one.fileno(), fcntl.F_DUPFD_CLOEXEC, 1030)
    except OSError:
        pytest.skip("this process may not have so many descriptors")


def test_select_says_what_it_cannot(pair, limited_descriptors):
    fd = high_descriptor(pair[0])
    poller = create("select")
    try:
        poller.register(fd)
        assert poller.wait(0) == []  # nobody waits for it yet
        poller.rearm(fd, READABLE)
        with pytest.raises(UsageError, match=r"1023.*NETNET_POLLER"):
            poller.wait(0)
    finally:
        poller.close()
        os.close(fd)


@pytest.mark.parametrize("name", ["epoll", "poll"])
def test_others_have_no_such_limit(pair, limited_descriptors, name):
    fd = high_descriptor(pair[0])
    poller = create(name)
    try:
        poller.register(fd)
        poller.rearm(fd, READABLE)
        pair[1].send(b"x")
        assert poller.wait(10)[0][0] == fd
    finally:
        poller.close()
        os.close(fd)


# -- one descriptor, no poller


@pytest.fixture(params=["poll", "select"])
def single(request, monkeypatch):
    if request.param == "select":
        monkeypatch.delattr(select, "poll")
    return wait_one


def test_one_descriptor(single, pair):
    one, other = pair
    assert not single(one.fileno(), READABLE, 0)
    assert single(one.fileno(), WRITABLE, 0)
    other.send(b"x")
    assert single(one.fileno(), READABLE, None)
    fill(one)
    assert not single(one.fileno(), WRITABLE, 0)


def test_one_descriptor_that_ended(single, pair):
    one, other = pair
    other.close()
    assert single(one.fileno(), READABLE, None)
    assert single(one.fileno(), WRITABLE, None)


def test_one_descriptor_that_is_not_open(single):
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        single(reader, READABLE, 0)


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.0001])
def test_one_descriptor_and_little_time(single, pair, seconds):
    assert not single(pair[0].fileno(), READABLE, seconds)


@pytest.mark.parametrize("seconds", [30 * 86400.0, 1e9])
def test_one_descriptor_and_much_time(single, pair, seconds):
    assert single(pair[0].fileno(), WRITABLE, seconds)
