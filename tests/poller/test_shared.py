"""One epoll for several loops: an event reaches the owner of its socket whoever takes it, none is lost when owners change,
members close, handlers raise or processes fork, and the kernel's descriptor is open as long as somebody needs it. Then
whole loops in several OS threads: bytes to and fro, and sockets that go from loop to loop."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import queue
import random
import select
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import netnet
from netnet.errors import BusyError, ClosedError, UsageError
from netnet.poller import create, shared
from netnet.poller.contract import READABLE, WRITABLE
from netnet.poller.epoll import EpollPoller
from netnet.poller.shared import SharedPoller
from tests.runtime.test_fork import in_child

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="needs epoll")

BOTH = READABLE | WRITABLE


@pytest.fixture
def common():
    with SharedPoller() as one:
        yield one


@pytest.fixture
def members(common):
    some = [create(common) for _ in range(3)]
    yield some
    for one in some:
        one.close()


@pytest.fixture
def pairs():
    """Makes connected pairs, all closed after the test."""
    with contextlib.ExitStack() as stack:

        def make(count):
            made = [socket.socketpair() for _ in range(count)]
            for pair in made:
                for one in pair:
                    one.setblocking(False)
                    stack.enter_context(one)
            return made

        yield make


def told(member, fd, timeout=0.0):
    """The bits that one wait reports of *fd*."""
    found = 0
    for number, bits in member.wait(timeout):
        if number == fd:
            found |= bits
    return found


def silence(*members):
    """Takes what there is to be told by now, such as that new sockets are writable."""
    for _ in range(2):
        for member in members:
            member.wait(0)


# -- whose event it is


def test_the_owner_is_told_whoever_asks_first(members, pairs):
    first, second, _ = members
    ((one, other),) = pairs(1)
    fd = one.fileno()
    second.register(fd)
    silence(*members)
    for _ in range(3):
        other.send(b"x")
        assert told(first, fd) == 0
        assert told(second, fd) & READABLE
        assert told(second, fd) == 0


def test_a_full_inbox_does_not_wait(members, pairs):
    first, second, _ = members
    ((one, other),) = pairs(1)
    second.register(one.fileno())
    silence(*members)
    other.send(b"x")
    first.wait(0)
    assert told(second, one.fileno(), None) & READABLE


def test_an_inbox_has_one_entry_a_descriptor(members, pairs):
    first, second, _ = members
    ((one, other),) = pairs(1)
    fd = one.fileno()
    second.register(fd)
    silence(*members)
    for _ in range(100):
        other.send(b"x")
        first.wait(0)
    other.shutdown(socket.SHUT_WR)
    first.wait(0)
    assert len(second._inbox) == 1
    bits = told(second, fd)
    assert bits & READABLE
    assert bits & shared.SOCKET & ~BOTH, "the end of the peer is told, too"


def test_own_and_others_events_of_one_look(members, pairs):
    sockets = pairs(30)
    fds = [one.fileno() for one, _ in sockets]
    for index, fd in enumerate(fds):
        members[index % 3].register(fd)
    silence(*members)
    for _, other in sockets:
        other.send(b"x")
    found = [{fd for fd, bits in member.wait(0) if bits & READABLE} for member in members]
    assert found == [set(fds[index::3]) for index in range(3)]


@pytest.mark.parametrize("limit", [1, 7])
def test_more_events_than_one_look_takes(monkeypatch, members, pairs, limit):
    monkeypatch.setattr(shared, "EVENTS_MAX", limit)
    sockets = pairs(50)
    fds = [one.fileno() for one, _ in sockets]
    for index, fd in enumerate(fds):
        members[index % 3].register(fd)
    found = [set(), set(), set()]
    for _ in range(200):
        for member, mine in zip(members, found, strict=True):
            mine |= {fd for fd, _ in member.wait(0) if fd in fds}
    assert found == [set(fds[index::3]) for index in range(3)]


def test_a_sleeping_owner_is_told(members, pairs):
    """All three sleep; whoever is first takes the event, and it is always the second's."""
    ((one, other),) = pairs(1)
    members[1].register(one.fileno())
    silence(*members)
    over = threading.Event()
    found = [0, 0, 0]
    seen = threading.Semaphore(0)

    def wait(index):
        while not over.is_set():
            if told(members[index], one.fileno(), None) & READABLE:
                found[index] += 1
                with contextlib.suppress(BlockingIOError):
                    while one.recv(100):
                        pass
                seen.release()

    with ThreadPoolExecutor(3) as pool:
        waits = [pool.submit(wait, index) for index in range(3)]
        try:
            for _ in range(200):
                other.send(b"x")
                assert seen.acquire(timeout=10)
        finally:
            over.set()
            for member in members:
                member.wake()
        for one_wait in waits:
            one_wait.result()
    assert found[0] == found[2] == 0
    assert found[1] >= 200


def test_a_busy_member_does_not_hold_up_the_others(members, pairs):
    """The first has looked, and now computes; the second's events do not need it."""
    ((one, other),) = pairs(1)
    members[1].register(one.fileno())
    silence(*members)
    members[0].wait(0)
    other.send(b"x")
    assert told(members[1], one.fileno(), 10) & READABLE


# -- owners that change


def test_an_event_in_the_inbox_of_a_former_owner(members, pairs):
    first, second, third = members
    ((one, other),) = pairs(1)
    fd = one.fileno()
    second.register(fd)
    silence(*members)
    other.send(b"x")
    first.wait(0)
    assert fd in second._inbox
    second.unregister(fd)
    third.register(fd)
    assert told(second, fd) == 0
    assert told(third, fd) & READABLE


def test_an_event_taken_before_the_owner_changed(members, pairs, monkeypatch):
    """Between asking the kernel and sorting: what was true for the old owner is told to the new one, or to nobody."""
    first, second, third = members
    ((one, other),) = pairs(1)
    fd = one.fileno()
    second.register(fd)
    silence(*members)
    other.send(b"x")

    class Slow:
        """The common epoll, whose answers are a while on their way."""

        def __init__(self, epoll):
            self.epoll = epoll

        def __getattr__(self, name):
            return getattr(self.epoll, name)

        def poll(self, *args):
            events = self.epoll.poll(*args)
            if events:
                second.unregister(fd)
                third.register(fd)
            return events

    common = first._common
    epoll = common.epoll
    common.epoll = Slow(epoll)
    first.wait(0)
    common.epoll = epoll
    assert told(second, fd) == 0
    assert told(third, fd) & READABLE


def test_a_number_that_was_closed_behind_our_back(members, pairs):
    """The first has not heard that it was closed; the number is the second's now, and stays so."""
    first, second, _ = members
    ((one, other),) = pairs(1)
    fd = os.dup(pairs(1)[0][0].fileno())
    first.register(fd)
    silence(*members)
    os.dup2(one.fileno(), fd)
    try:
        second.register(fd)
        first.unregister(fd)
        other.send(b"x")
        assert told(first, fd) == 0
        assert told(second, fd) & READABLE
    finally:
        second.unregister(fd)
        os.close(fd)


def test_one_member_at_a_time(members, pairs):
    first, second, _ = members
    ((one, other),) = pairs(1)
    fd = one.fileno()
    first.register(fd)
    with pytest.raises(BusyError, match=f"descriptor {fd} is in another loop"):
        second.register(fd)
    silence(*members)
    other.send(b"x")
    assert told(second, fd) == 0
    assert told(first, fd) & READABLE


def test_foreign_descriptors_are_each_members_own(members):
    """Several may watch one: standard input, say."""
    reader, writer = os.pipe()
    try:
        for member in members:
            member.watch(reader, READABLE)
        os.write(writer, b"x")
        for member in members:
            assert told(member, reader) & READABLE
            assert told(member, reader) == 0
    finally:
        os.close(reader)
        os.close(writer)


# -- members that close


def test_a_member_closes_while_its_events_are_in_anothers_hands(members, pairs):
    first, second, third = members
    ((one, other),) = pairs(1)
    fd = one.fileno()
    second.register(fd)
    silence(*members)
    other.send(b"x")
    first.wait(0)
    second.close()
    assert told(first, fd) == told(third, fd) == 0
    third.register(fd)
    assert told(third, fd) & READABLE


def test_events_for_a_closed_member_are_handed_to_nobody(members, pairs):
    first, second, _ = members
    second.close()
    second.hand([(pairs(1)[0][0].fileno(), READABLE)])  # it was on its way
    second.wake()
    assert first.wait(0) == []


def test_a_closed_member_leaves_no_registration(common, members, pairs):
    first, second, _ = members
    ((one, other),) = pairs(1)
    second.register(one.fileno())
    second.close()
    second.close()
    other.send(b"x")
    assert select.select([common.fileno()], [], [], 0) == ([], [], [])
    first.register(one.fileno())
    assert told(first, one.fileno()) & READABLE


def test_the_descriptor_is_open_as_long_as_needed(pairs):
    one = SharedPoller()
    number = one.fileno()
    members = [create(one), create(one)]
    one.close()
    one.close()
    os.fstat(number)
    members[0].close()
    ((ours, theirs),) = pairs(1)
    members[1].register(ours.fileno())
    theirs.send(b"x")
    assert told(members[1], ours.fileno()) & READABLE
    members[1].close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_dropping_it_is_closing_it():
    one = SharedPoller()
    number = one.fileno()
    member = create(one)
    del one
    gc.collect()
    os.fstat(number)
    member.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


@pytest.mark.parametrize("call", [SharedPoller.fileno, SharedPoller.member, create])
def test_a_closed_one_has_no_use(call):
    one = SharedPoller()
    one.close()
    with pytest.raises(ClosedError, match="shared poller is closed"):
        call(one)


# -- exceptions of signal handlers, at the worst moment


class Struck(BaseException):
    pass


def strike(*_):
    raise Struck


@pytest.mark.parametrize("where", ["before sorting", "before handing out"])
@pytest.mark.parametrize("then", ["waits again", "closes"])
@pytest.mark.parametrize("exclusive", [False, True])
def test_events_that_were_taken_and_not_handed_out(members, pairs, monkeypatch, where, then, exclusive):
    first, second, third = members
    (mine, theirs, its) = pairs(3)
    first.register(mine[0].fileno())
    second.register(theirs[0].fileno(), exclusive)
    third.register(its[0].fileno())
    silence(*members)
    for _, other in (mine, theirs, its):
        other.send(b"x")
    with monkeypatch.context() as patch:
        if where == "before sorting":
            patch.setattr(first._common, "owners", type("Owners", (dict,), {"get": strike})(first._common.owners))
        else:
            patch.setattr(shared.Member, "hand", strike)
        with pytest.raises(Struck):
            first.wait(0)
    if then == "closes":
        first.close()
    else:
        assert told(first, mine[0].fileno()) & READABLE
    assert told(second, theirs[0].fileno()) & READABLE
    assert told(third, its[0].fileno()) & READABLE


def test_a_handler_that_closes_a_socket_while_another_is_registered(members, pairs):
    """The lock is reentrant: the handler runs in the thread that holds it."""
    (one, _), (other, _) = pairs(2)
    first = members[0]
    first.register(one.fileno())
    with first._common.lock:
        first.unregister(one.fileno())
    first.register(other.fileno())
    assert told(first, other.fileno()) & WRITABLE
    assert told(first, one.fileno()) == 0


# -- fork


def test_the_child_does_not_disturb_the_parent(common, members, pairs):
    ((one, other),) = pairs(1)
    members[0].register(one.fileno())
    silence(*members)

    def child():
        for member in members:
            member.close()
        common.close()

    assert in_child(child) == 0
    other.send(b"x")
    assert told(members[0], one.fileno()) & READABLE


def test_the_child_cannot_use_the_parents(common):
    def child():
        with pytest.raises(UsageError, match="forked; make one in each process"):
            create(common)
        with SharedPoller() as own:
            create(own).close()

    assert in_child(child) == 0


def test_a_fork_while_the_locks_are_held(common, members):
    """By another thread, which the child does not have."""

    def child():
        members[0].close()
        common.close()
        with SharedPoller() as own:
            create(own).close()

    held, free = threading.Event(), threading.Event()

    def hold():
        with common._common.lock, shared._by_number_lock, members[0]._inbox_lock:
            held.set()
            free.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        held.wait(10)
        assert in_child(child) == 0
    finally:
        free.set()
        thread.join()


def test_a_child_of_a_task_runs_a_loop_of_its_own(run, common):
    def talk():
        one, other = netnet.socketpair()
        with one, other:
            task = netnet.spawn(one.recv, 10)
            netnet.sleep(0)
            other.sendall(b"x")
            assert task.result() == b"x"

    def main():
        talk()
        assert in_child(lambda: netnet.run(talk)) == 0
        talk()

    run(main, poller=common)


# -- by number


def test_two_handles_by_number(pairs):
    ((one, other),) = pairs(1)
    with SharedPoller() as first, SharedPoller(fileno=first.fileno()) as second:
        assert first.fileno() == second.fileno()
        ours, theirs = create(first), create(second)
        theirs.register(one.fileno())
        silence(ours, theirs)
        other.send(b"x")
        assert told(ours, one.fileno()) == 0
        assert told(theirs, one.fileno()) & READABLE
        number = first.fileno()
        first.close()
        ours.close()
        os.fstat(number)
        theirs.close()
        os.fstat(number)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_an_epoll_from_elsewhere_is_taken_over(pairs):
    (one, other), (strange, its_other) = pairs(2)
    foreign = select.epoll()
    number = os.dup(foreign.fileno())
    foreign.register(strange.fileno(), READABLE)
    foreign.close()
    with SharedPoller(fileno=number) as adopted:
        assert adopted.fileno() == number
        member = create(adopted)
        its_other.send(b"x")
        member.wait(0)
        assert select.select([number], [], [], 0) == ([], [], []), "it would tell for ever"
        member.register(one.fileno())
        other.send(b"x")
        assert told(member, one.fileno()) & READABLE
        assert told(member, strange.fileno()) == 0
        member.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_what_is_no_epoll_is_left_alone(pairs):
    one, other = pairs(1)[0]
    with pytest.raises(UsageError, match=f"descriptor {one.fileno()} is not an epoll"):
        SharedPoller(fileno=one.fileno())
    other.send(b"x")
    assert one.recv(1) == b"x"


@pytest.mark.parametrize("number", [-1, 2**20 + 7])
def test_a_number_that_is_not_open(number):
    with pytest.raises(OSError, match="Bad file descriptor"):
        SharedPoller(fileno=number)


def test_arguments_that_do_not_fit():
    with pytest.raises(TypeError):
        SharedPoller("epoll")


def test_a_system_without_epoll(monkeypatch):
    monkeypatch.delattr(select, "epoll")
    with pytest.raises(UsageError, match=r"needs epoll\(7\)"):
        SharedPoller()


def test_its_descriptor_tells_that_something_is_to_be_done(common, members, pairs):
    ((one, other),) = pairs(1)
    members[0].register(one.fileno())
    silence(*members)
    assert select.select([common.fileno()], [], [], 0) == ([], [], [])
    other.send(b"x")
    assert select.select([common.fileno()], [], [], 0)[0] == [common.fileno()]


# -- whole loops


THREADS = 3


def in_threads(common, function, count=THREADS):
    """``netnet.run(function, index, poller=common)`` in so many OS threads; returns what they return."""

    def limited(index):
        with netnet.timeout(25):
            return function(index)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda index: netnet.run(limited, index, poller=common), range(count)))


def test_runs_one_after_the_other(common):
    for _ in range(3):
        assert netnet.run(lambda: "done", poller=common) == "done"


def test_a_socket_of_one_run_in_the_next(common):
    one, other = netnet.socketpair()

    def main():
        task = netnet.spawn(one.recv, 1)
        netnet.sleep(0)
        other.sendall(b"x")
        return task.result()

    with one, other:
        for _ in range(3):
            assert netnet.run(main, poller=common) == b"x"


def test_all_bytes_arrive_across_threads(common):
    """Each pair has its ends in two loops; what one sends, the other sends back, in pieces of any size."""
    pairs = [netnet.socketpair() for _ in range(45)]
    generator = random.Random(20)
    messages = [generator.randbytes(generator.randrange(1, 200_000)) for _ in pairs]

    def ask(sock, message, results):
        def send():
            sock.sendall(message)
            sock.shutdown(socket.SHUT_WR)

        sender = netnet.spawn(send)
        digest = hashlib.sha256()
        for chunk in sock:
            digest.update(chunk)
        sender.result()
        results.append(digest.digest() == hashlib.sha256(message).digest())

    def answer(sock):
        for chunk in sock:
            sock.sendall(chunk)
        sock.shutdown(socket.SHUT_WR)

    def main(index):
        results = []
        with netnet.TaskGroup() as group:
            for number, (one, other) in enumerate(pairs):
                if number % THREADS == index:
                    group.spawn(ask, one, messages[number], results)
                if (number + 1) % THREADS == index:
                    group.spawn(answer, other)
        return results

    try:
        assert in_threads(common, main) == [[True] * 15] * THREADS
    finally:
        for pair in pairs:
            for one in pair:
                one.close()


def test_small_messages_to_and_fro_across_threads(common):
    """Each event wakes one of the sleeping threads, and often the wrong one."""
    pairs = [netnet.socketpair() for _ in range(THREADS)]

    def ask(sock):
        for number in range(1000):
            sock.sendall(b"%d\n" % number)
            assert sock.recv(100) == b"%d\n" % number
        sock.shutdown(socket.SHUT_WR)

    def answer(sock):
        for chunk in sock:
            sock.sendall(chunk)

    def main(index):
        with netnet.TaskGroup() as group:
            group.spawn(ask, pairs[index][0])
            group.spawn(answer, pairs[index - 1][1])

    try:
        in_threads(common, main)
    finally:
        for pair in pairs:
            for one in pair:
                one.close()


def test_sockets_that_go_from_loop_to_loop(common):
    """Each loop waits for one message on a socket and passes it on to the next loop."""
    rounds, carriers = 40, 2
    pairs = [netnet.socketpair() for _ in range(6)]
    queues = [queue.SimpleQueue() for _ in range(THREADS)]

    def main(index):
        def carry():
            carried = 0
            while carried < rounds * len(pairs) // carriers:
                sock = netnet.to_thread(queues[index].get, True, 20)
                message = sock.recv(100)
                if not message:  # it has been round often enough
                    continue
                assert message.startswith(b"to %d " % index)
                sock.sendall(message)
                queues[(index + 1) % THREADS].put(sock)
                carried += 1

        with netnet.TaskGroup() as group:
            for _ in range(carriers):
                group.spawn(carry)

    def feed(number):
        peer = pairs[number][1]
        for step in range(rounds):
            for turn in range(THREADS):
                message = b"to %d in round %d" % ((number + turn) % THREADS, step)
                peer.sendall(message)
                assert peer.recv(100) == message
        peer.shutdown(socket.SHUT_WR)

    for number, (one, _) in enumerate(pairs):
        queues[number % THREADS].put(one)
    try:
        with ThreadPoolExecutor(len(pairs)) as feeders:
            feeding = [feeders.submit(feed, number) for number in range(len(pairs))]
            in_threads(common, main)
            for one in feeding:
                one.result()
    finally:
        for pair in pairs:
            for one in pair:
                one.close()


def test_connections_that_come_and_go(common):
    """Numbers are reused all the time, by whichever loop is next."""

    def main(index):
        def handle(conn):
            for chunk in conn:
                conn.sendall(chunk)

        with netnet.listen("127.0.0.1:0") as listener:
            server = netnet.spawn(netnet.serve, listener, handle)

            def talk():
                for number in range(40):
                    with netnet.connect(listener.getsockname()) as conn:
                        message = b"%d/%d" % (index, number)
                        conn.sendall(message)
                        assert conn.recv(100) == message

            with netnet.TaskGroup() as group:
                for _ in range(5):
                    group.spawn(talk)
            server.cancel()
            server.join()

    in_threads(common, main)


def test_loops_that_begin_and_end_while_others_run(common):
    def short():
        one, other = netnet.socketpair()
        with one, other:
            task = netnet.spawn(one.recv, 10)
            netnet.sleep(0)
            other.sendall(b"short")
            return task.result()

    def main(index):
        if index == 0:
            one, other = netnet.socketpair()
            with one, other:
                server = netnet.spawn(lambda: [other.sendall(chunk) for chunk in other])
                for number in range(2000):
                    one.sendall(b"%d" % number)
                    assert one.recv(10) == b"%d" % number
                one.shutdown(socket.SHUT_WR)
                server.join()

    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(in_threads, common, main, 1)
        for _ in range(50):
            assert netnet.run(short, poller=common) == b"short"
        long.result()


def test_a_closed_shared_poller_begins_no_run():
    one = SharedPoller()
    one.close()
    with pytest.raises(ClosedError):
        netnet.run(lambda: None, poller=one)


# -- exclusive wake-ups of those that sleep


def asleep(thread):
    """Whether the OS thread sleeps, as Linux tells."""
    with open(f"/proc/self/task/{thread.native_id}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "S"


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs /proc")
@pytest.mark.parametrize("exclusive", [False, True])
def test_how_many_sleepers_one_connection_wakes(exclusive):
    """Pollers of their own, one a thread, each with a descriptor of its own for the listener."""
    count, rounds = 4, 10
    over = threading.Event()
    told_here = []
    seen = threading.Semaphore(0)

    def wait(poller, fd):
        while not over.is_set():
            for number, _ in poller.wait(None):
                if number == fd:
                    told_here.append(fd)
                    seen.release()

    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
        pollers = [EpollPoller() for _ in range(count)]
        threads = []
        for poller in pollers:
            stack.callback(poller.close)
            copy = stack.enter_context(listener.dup())
            poller.register(copy.fileno(), exclusive)
            threads.append(threading.Thread(target=wait, args=(poller, copy.fileno())))
        for thread in threads:
            thread.start()
        try:
            for _ in range(rounds):
                for _ in range(10_000):
                    if all(asleep(thread) for thread in threads):
                        break
                    os.sched_yield()
                with socket.create_connection(listener.getsockname()):
                    for _ in range(1 if exclusive else count):
                        assert seen.acquire(timeout=10)
                    listener.accept()[0].close()
        finally:
            over.set()
            for poller in pollers:
                poller.wake()
            for thread in threads:
                thread.join()
    if exclusive:
        assert rounds <= len(told_here) < rounds * count
    else:
        assert len(told_here) == rounds * count
