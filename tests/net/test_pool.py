"""``Pool``: never more than its size, first come first served, nothing dead handed out, nothing lost whatever fails or is
cancelled when; age on a virtual clock; and real servers that hang up, redis among them."""

from __future__ import annotations

import errno
import gc
import logging
import math
import os
import socket
import struct
import subprocess
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import netnet
from netnet.errors import Cancelled, ClosedError, DeadlockError, IncompleteError, UsageError
from netnet.net.buffered import Buffered
from netnet.net.pool import Pool, is_fresh
from netnet.net.sockets import socketpair
from netnet.runtime.worker import current_worker
from netnet.testing import VirtualClock, wait_all_parked


class Conn:
    """A connection without a network."""

    def __init__(self, number):
        self.number = number
        self.open = True
        self.good = True

    def close(self):
        assert self.open, "closed twice"
        self.open = False

    def __bool__(self):
        return False  # a pool must not ask

    def __repr__(self):
        return f"<conn {self.number}>"


class Factory:
    """Makes connections and remembers them."""

    def __init__(self):
        self.made = []

    def __call__(self):
        self.made.append(Conn(len(self.made)))
        return self.made[-1]

    @property
    def open(self):
        return [conn.number for conn in self.made if conn.open]


@pytest.fixture
def factory():
    return Factory()


def statistics(pool):
    return {name: getattr(pool, name) for name in ("idle", "in_use", "opened", "reused", "dropped")}


def take(pool, count):
    return [pool.acquire() for _ in range(count)]


def give(pool, conns):
    for conn in conns:
        pool.release(conn)


def use_at_once(pool, count):
    give(pool, take(pool, count))


# -- taking and giving back


@pytest.mark.parametrize("loop", [False, True])
def test_connections_are_used_again(run, factory, loop):
    def main():
        with Pool(factory) as pool:
            for _ in range(3):
                with pool.connection() as conn:
                    assert conn.number == 0
                    assert statistics(pool)["in_use"] == 1
            assert statistics(pool) == {"idle": 1, "in_use": 0, "opened": 1, "reused": 2, "dropped": 0}
            assert repr(pool) == "<netnet.Pool of 10: 0 in use, 1 idle>"
            assert not pool.closed
        assert statistics(pool) == {"idle": 0, "in_use": 0, "opened": 1, "reused": 2, "dropped": 1}
        assert (factory.open, pool.closed, pool.size) == ([], True, 10)

    run(main) if loop else main()


def test_the_latest_is_used_first(run, factory):
    def main():
        with Pool(factory) as pool:
            use_at_once(pool, 3)
            assert [conn.number for conn in take(pool, 2)] == [2, 1]

    run(main)
    assert factory.open == [1, 2]  # in use when the pool was closed, and never given back


def test_no_more_than_its_size_and_first_come_first_served(run, factory):
    order, most = [], []

    def main():
        with Pool(factory, size=3) as pool:

            def use(number):
                with pool.connection() as conn:
                    order.append(number)
                    most.append(pool.in_use)
                    assert conn.open
                    netnet.sleep(0)

            with netnet.TaskGroup() as group:
                for number in range(50):
                    group.spawn(use, number)
            assert pool.opened == 3

    run(main)
    assert order == list(range(50))
    assert max(most) == 3


def test_two_never_have_the_same(run, factory):
    def main():
        with Pool(factory, size=4) as pool:
            using = set()

            def use():
                for _ in range(20):
                    with pool.connection() as conn:
                        assert conn.number not in using
                        using.add(conn.number)
                        netnet.sleep(0)
                        using.remove(conn.number)

            with netnet.TaskGroup() as group:
                for _ in range(10):
                    group.spawn(use)
            assert len(factory.made) == 4

    run(main)


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, GeneratorExit, Cancelled, SystemExit])
def test_lines_that_raise_cost_their_connection(factory, error):
    with Pool(factory, size=1) as pool:
        with pytest.raises(error):
            with pool.connection():
                raise error
        assert factory.open == []
        with pool.connection() as conn:
            assert conn.number == 1
        assert statistics(pool) == {"idle": 1, "in_use": 0, "opened": 2, "reused": 0, "dropped": 1}


def test_lines_that_are_cancelled_cost_their_connection(run, factory):
    def main():
        with Pool(factory, size=1) as pool:

            def use():
                with pool.connection():
                    netnet.sleep(math.inf)

            task = netnet.spawn(use)
            wait_all_parked()
            task.cancel()
            with pool.connection() as conn:
                assert conn.number == 1
            assert factory.open == [1]

    run(main)


def test_a_loop_that_is_left_early_gives_back(factory):
    with Pool(factory) as pool:
        for _ in range(3):
            with pool.connection():
                break
        assert (pool.idle, pool.dropped) == (1, 0)


def test_what_cannot_be_used_again_is_closed(factory):
    with Pool(factory) as pool:
        pool.release(pool.acquire(), reusable=False)
        assert (factory.open, pool.dropped) == ([], 1)


def test_giving_back_what_is_not_in_use(factory):
    with Pool(factory, size=1) as pool:
        conn = pool.acquire()
        pool.release(conn)
        for stranger in (conn, Conn(7)):
            with pytest.raises(UsageError, match="no connection of the pool"):
                pool.release(stranger)
        with pool.connection(), pytest.raises(TimeoutError):  # nobody has gained a permit
            netnet.run(in_time, pool.acquire, clock=VirtualClock())


def in_time(function, seconds=1):
    with netnet.timeout(seconds):
        return function()


def test_lines_have_one_connection(factory):
    with Pool(factory) as pool:
        lines = pool.connection()
        with lines:
            with pytest.raises(UsageError):
                lines.__enter__()
            assert pool.in_use == 1
        with lines as conn:
            assert conn.number == 0


def test_a_connection_must_not_come_twice():
    one = Conn(0)
    with Pool(lambda: one, size=2) as pool:
        with pool.connection():
            with pytest.raises(UsageError, match="in use"):
                pool.acquire()
            assert (pool.opened, pool.in_use) == (1, 1)
        with pool.connection():
            pass


def test_connections_that_cannot_be_hashed():
    class Unhashable(Conn):
        __hash__ = None

        def __eq__(self, other):
            raise AssertionError("compared")

    with Pool(lambda: Unhashable(0)) as pool:
        use_at_once(pool, 3)
        use_at_once(pool, 3)
        assert pool.opened == 3


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"size": 0}, ValueError),
        ({"size": 1.5}, TypeError),
        ({"reserve": -1}, ValueError),
        ({"size": 2, "reserve": 3}, ValueError),
        ({"idle_seconds": -1}, ValueError),
        ({"idle_seconds": math.nan}, ValueError),
        ({"idle_seconds": "60"}, TypeError),
        ({"size": 2, "reserve": 2, "idle_seconds": math.inf}, None),
        ({"size": 1, "reserve": 0, "idle_seconds": 0}, None),
    ],
)
def test_arguments(factory, options, error):
    if error is None:
        Pool(factory, **options).close()
    else:
        with pytest.raises(error):
            Pool(factory, **options)


def test_a_task_that_waits_for_itself_is_told(factory):
    def main():
        with Pool(factory, size=1, idle_seconds=math.inf) as pool, pool.connection():
            pool.acquire()

    with pytest.raises(DeadlockError):
        netnet.run(main)
    assert factory.open == []


# -- what fails


def test_connect_that_fails_gives_the_permit_back(run, factory):
    failures = [ConnectionRefusedError("no"), Cancelled("no"), KeyboardInterrupt()]

    def connect():
        if failures:
            raise failures[0]
        return factory()

    def main():
        with Pool(connect, size=1) as pool:
            while failures:
                with pytest.raises(type(failures[0])):
                    pool.acquire()
                failures.pop(0)
            with pool.connection():
                assert statistics(pool) == {"idle": 0, "in_use": 1, "opened": 1, "reused": 0, "dropped": 0}

    run(main)


def test_who_waits_is_served_when_connecting_fails_or_is_cancelled(run, factory):
    attempts = []

    def connect():
        attempts.append(True)
        if len(attempts) == 1:
            netnet.sleep(math.inf)
        if len(attempts) == 2:
            raise ConnectionRefusedError("no")
        return factory()

    def main():
        with Pool(connect, size=1) as pool:
            tasks = [netnet.spawn(pool.acquire) for _ in range(3)]
            wait_all_parked()
            assert len(attempts) == 1
            tasks[0].cancel()
            with pytest.raises(ConnectionRefusedError):
                tasks[1].result()
            pool.release(tasks[2].result())

    run(main)


def test_who_is_cancelled_while_waiting_takes_nothing(run, factory):
    def main():
        with Pool(factory, size=1) as pool:
            conn = pool.acquire()
            tasks = [netnet.spawn(pool.acquire) for _ in range(3)]
            wait_all_parked()
            tasks[0].cancel()
            pool.release(conn)
            tasks[1].cancel()  # it may have been given the permit already
            tasks[1].join()
            if tasks[1].error is None:
                pool.release(tasks[1].value)
            assert tasks[2].result() is conn
            pool.release(conn)
            with pytest.raises(TimeoutError), pool.connection():
                in_time(pool.acquire)

    run(main, clock=VirtualClock())


@pytest.mark.parametrize("error", [OSError(errno.EPIPE, "broken"), ValueError("strange")])
def test_an_error_in_closing_is_logged_and_hides_nothing(factory, caplog, error):
    class Stubborn(Conn):
        def close(self):
            super().close()
            raise error

    with Pool(lambda: Stubborn(0)) as pool:
        with pytest.raises(KeyError):
            with pool.connection():
                raise KeyError("the reason")
        use_at_once(pool, 2)
    assert pool.dropped == 3
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3


def test_a_close_that_is_cancelled_leaves_none_open(run, factory):
    class Slow(Conn):
        def close(self):
            super().close()
            netnet.sleep(1)

    made = []

    def connect():
        made.append(Slow(len(made)))
        return made[-1]

    def main():
        pool = Pool(connect)
        use_at_once(pool, 3)
        with netnet.CancelScope() as scope:
            scope.cancel()
            pool.close()
            pytest.fail("it was cancelled")
        assert [conn.open for conn in made] == [False] * 3
        assert (pool.dropped, pool.idle) == (3, 0)

    run(main)


# -- fresh or not


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def close_behind(ours):
    os.close(ours.detach())


FRESHNESS = [
    (lambda ours, theirs: None, True),
    (lambda ours, theirs: ours.sendall(b"request"), True),
    (lambda ours, theirs: theirs.shutdown(socket.SHUT_RD), True),
    (lambda ours, theirs: theirs.sendall(b"late"), False),
    (lambda ours, theirs: theirs.shutdown(socket.SHUT_WR), False),
    (lambda ours, theirs: theirs.close(), False),
    (lambda ours, theirs: reset(theirs), False),
    (lambda ours, theirs: ours.close(), False),
    (lambda ours, theirs: close_behind(ours), False),
]


@pytest.mark.parametrize("wrap", [lambda sock: sock, Buffered, lambda sock: Buffered(Buffered(sock))])
@pytest.mark.parametrize(("happens", "fresh"), FRESHNESS)
def test_sockets_that_are_fresh(run, wrap, happens, fresh):
    def main():
        with netnet.listen("127.0.0.1:0") as listener:
            ours = netnet.connect(listener.getsockname())
            theirs, _ = listener.accept()
        with ours, theirs:
            happens(ours, theirs)
            wait_all_parked()
            assert is_fresh(wrap(ours)) is fresh

    run(main)


def test_a_number_that_is_no_descriptor_any_more_is_not_fresh():
    one, other = socketpair()
    other.close()
    number = one.detach()
    os.close(number)

    class Stale:
        def fileno(self):
            return number

    assert not is_fresh(Stale())


def test_bytes_that_are_held_are_not_fresh():
    ours, theirs = socketpair()
    with ours, theirs:
        reader = Buffered(ours)
        theirs.sendall(b"OK\nand more\n")
        assert reader.readline() == b"OK\n"
        assert is_fresh(ours)
        assert not is_fresh(reader)
        assert not is_fresh(Buffered(reader))
        reader.readline()
        assert is_fresh(reader)


def test_what_has_no_descriptor_is_fresh(tmp_path):
    class Secure:
        held = 0

        def __init__(self, sock):
            self.fileno = sock.fileno

        def pending(self):
            return self.held

    class Memory:
        def recv(self, n):
            return b""

    assert is_fresh(Conn(0))
    assert is_fresh(Buffered(Memory()))
    file = (tmp_path / "file").open("wb")
    file.close()
    assert not is_fresh(file)  # its fileno raises ValueError
    ours, theirs = socketpair()
    with ours, theirs:
        secure = Secure(ours)
        assert is_fresh(secure)
        secure.held = 1
        assert not is_fresh(secure)


def test_dead_ones_are_closed_and_the_next_is_tried(factory):
    with Pool(factory, check=lambda conn: conn.good) as pool:
        use_at_once(pool, 4)
        factory.made[3].good = factory.made[2].good = False
        with pool.connection() as conn:
            assert conn.number == 1
        assert statistics(pool) == {"idle": 2, "in_use": 0, "opened": 4, "reused": 1, "dropped": 2}
        factory.made[0].good = factory.made[1].good = False
        with pool.connection() as conn:
            assert conn.number == 4
        assert factory.open == [4]


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OSError("reset"), False),
        (TimeoutError("no answer"), False),
        (IncompleteError(b"", 1, "ended"), False),
        (ValueError("a mistake"), True),
        (KeyboardInterrupt(), True),
        (Cancelled("enough"), True),
    ],
)
def test_a_check_that_raises(factory, error, passes):
    def check(conn):
        raise error

    with Pool(factory, size=1, check=check) as pool:
        use_at_once(pool, 1)
        if passes:
            with pytest.raises(type(error)):
                pool.acquire()
        with pool.connection() as conn:
            assert conn.number == 1
        assert pool.dropped == 1
        assert factory.open == [1]


def test_a_check_may_wait_and_be_cancelled(run, factory):
    def check(conn):
        netnet.sleep(10)
        return True

    def main():
        with Pool(factory, size=1, check=check) as pool:
            use_at_once(pool, 1)
            with pytest.raises(TimeoutError):
                in_time(pool.acquire, 5)
            assert statistics(pool) == {"idle": 0, "in_use": 0, "opened": 1, "reused": 0, "dropped": 1}
            use_at_once(pool, 1)
            use_at_once(pool, 1)
            assert statistics(pool) == {"idle": 1, "in_use": 0, "opened": 2, "reused": 1, "dropped": 1}

    run(main, clock=VirtualClock())


# -- age


def test_what_is_idle_for_too_long_is_closed_by_the_clock(run, factory):
    def main():
        with Pool(factory, idle_seconds=60) as pool:
            conns = take(pool, 2)
            pool.release(conns[0])
            netnet.sleep(30)
            pool.release(conns[1])
            netnet.sleep(29.5)
            assert factory.open == [0, 1]
            netnet.sleep(1)
            assert factory.open == [1]
            netnet.sleep(29)
            assert pool.idle == 1
            netnet.sleep(1)
            assert statistics(pool) == {"idle": 0, "in_use": 0, "opened": 2, "reused": 0, "dropped": 2}

    run(main, clock=VirtualClock())


def test_a_surplus_grows_old_while_the_others_are_used(run, factory):
    def main():
        with Pool(factory, idle_seconds=60) as pool:
            use_at_once(pool, 5)
            for _ in range(100):
                with pool.connection():
                    netnet.sleep(1)
            assert factory.open == [4]

    run(main, clock=VirtualClock())


def test_the_reserve_stays(run, factory):
    def main():
        with Pool(factory, idle_seconds=60, reserve=2) as pool:
            use_at_once(pool, 5)
            netnet.sleep(1000)
            assert factory.open == [3, 4]
            conns = take(pool, 3)
            assert [conn.number for conn in conns] == [4, 3, 5]
            give(pool, conns)
            netnet.sleep(1000)
            assert factory.open == [3, 5]  # those that came back last

    run(main, clock=VirtualClock())


def test_nothing_idle_is_kept_for_0_seconds(run, factory):
    def main():
        with Pool(factory, idle_seconds=0) as pool:
            use_at_once(pool, 3)
            assert (pool.idle, pool.dropped) == (0, 3)
        with Pool(factory, idle_seconds=0, reserve=1) as pool:
            use_at_once(pool, 3)
            assert (pool.idle, pool.dropped) == (1, 2)

    run(main)


def test_the_timer_keeps_no_run_going(run, factory):
    """And age is looked at without it, when the pool is next used."""
    with Pool(factory, idle_seconds=3600) as pool:
        run(use_at_once, pool, 2)  # the real clock: it would take an hour
    with Pool(factory, idle_seconds=60) as pool:
        for instant, count, still_open in [(1000, 2, [2, 3]), (1059, 1, [2, 3]), (1089, 1, [3]), (2000, 1, [4])]:
            run(use_at_once, pool, count, clock=VirtualClock(instant))
            assert factory.open == still_open


def test_a_run_with_another_clock(run, factory):
    """What came back at instant 1000 of one clock has not been idle since before another clock began."""
    pool = Pool(factory, idle_seconds=60)
    run(use_at_once, pool, 1, clock=VirtualClock(1000))

    def main():
        use_at_once(pool, 1)
        assert pool.reused == 1
        netnet.sleep(61)
        assert factory.open == []

    run(main, clock=VirtualClock())
    pool.close()


def test_never_too_old(run, factory):
    def main():
        with Pool(factory, idle_seconds=math.inf) as pool:
            use_at_once(pool, 2)
            netnet.sleep(1e9)
            assert pool.idle == 2
            assert current_worker().loop.timers.next_instant() is None

    run(main, clock=VirtualClock())


def test_one_timer_however_often_it_is_used(run, factory):
    def main():
        with Pool(factory) as pool:
            for _ in range(1000):
                use_at_once(pool, 2)
            assert len([entry for entry in current_worker().loop.timers.heap if entry[2].live]) == 1
        assert current_worker().loop.timers.next_instant() is None

    run(main, clock=VirtualClock())


def test_a_close_that_waits_is_waited_for(run):
    closed = []

    class Polite:
        def close(self):
            netnet.sleep(5)
            closed.append(netnet.now())

    def main():
        with Pool(Polite, idle_seconds=60) as pool:
            use_at_once(pool, 2)
            netnet.sleep(100)
        assert closed == [65, 70]

    run(main, clock=VirtualClock())


# -- ahead of time


def test_filling(run, factory):
    def main():
        with Pool(factory, size=4, reserve=3) as pool:
            assert pool.fill() == 3
            assert pool.fill() == 0
            conns = take(pool, 2)
            assert (pool.idle, pool.reused) == (1, 2)
            assert pool.fill() == 1  # all that there may be
            assert (pool.idle, pool.in_use, pool.opened) == (2, 2, 4)
            conns += take(pool, 2)
            assert pool.fill() == 0
            give(pool, conns)
        with Pool(factory) as pool:
            assert pool.fill() == 0

    run(main)


def test_filling_by_two_at_once(run):
    factory = Factory()

    def connect():
        netnet.sleep(1)
        return factory()

    def main():
        with Pool(connect, size=10, reserve=5) as pool:
            tasks = [netnet.spawn(pool.fill) for _ in range(3)]
            assert sum(task.result() for task in tasks) == 5
            assert (pool.idle, pool.opened) == (5, 5)

    run(main, clock=VirtualClock())


@pytest.mark.parametrize("how", ["fails", "cancelled", "closed"])
def test_filling_that_comes_to_nothing(run, how):
    factory = Factory()

    def connect():
        netnet.sleep(1)
        if len(factory.made) == 1 and how == "fails":
            raise ConnectionRefusedError("no")
        return factory()

    def main():
        pool = Pool(connect, size=3, reserve=3, idle_seconds=math.inf)
        task = netnet.spawn(pool.fill)
        netnet.sleep(1.5)
        if how == "cancelled":
            task.cancel()
        elif how == "closed":
            pool.close()
        with pytest.raises(
            {"fails": ConnectionRefusedError, "closed": ClosedError}.get(how, netnet.TaskCancelledError)
        ):
            task.result()
        if how == "closed":
            assert factory.open == []
            assert pool.dropped == 2
        else:
            assert (pool.idle, factory.open) == (1, [0])
            conns = take(pool, 2) if how == "cancelled" else []
            give(pool, conns)
        pool.close()

    run(main, clock=VirtualClock())


def test_a_waiting_task_may_use_what_was_opened_ahead(run, factory):
    def main():
        with Pool(factory, size=2, reserve=2) as pool:
            conns = take(pool, 2)
            task = netnet.spawn(pool.acquire)
            wait_all_parked()
            assert pool.fill() == 0
            pool.release(conns[0], reusable=False)
            assert pool.fill() == 0  # the permit is the waiting task's
            assert task.result().number == 2
            assert len(factory.open) == 2
            give(pool, [conns[1], task.value])

    run(main)


# -- closing


def test_closing(run, factory):
    def main():
        pool = Pool(factory, size=3)
        conns = take(pool, 3)
        pool.release(conns[2])
        with pool.connection():
            tasks = [netnet.spawn(pool.acquire) for _ in range(5)]
            wait_all_parked()
            pool.close()
            assert "closed" in repr(pool)
            for task in tasks:
                with pytest.raises(ClosedError, match="the pool is closed"):
                    task.result()
            for call in (pool.acquire, pool.fill, pool.connection().__enter__):
                with pytest.raises(ClosedError):
                    call()
            assert factory.open == [0, 1, 2]
        assert factory.open == [0, 1]
        give(pool, conns[:2])
        assert factory.open == []
        pool.close()
        assert statistics(pool) == {"idle": 0, "in_use": 0, "opened": 3, "reused": 1, "dropped": 3}

    run(main)


def test_closing_while_one_connects_or_checks(run):
    factory = Factory()

    def connect():
        netnet.sleep(1)
        return factory()

    def check(conn):
        netnet.sleep(1)
        return True

    def main():
        pool = Pool(connect, check=check)
        use_at_once(pool, 1)
        checking, connecting = netnet.spawn(pool.acquire), netnet.spawn(pool.acquire)
        netnet.sleep(0.5)
        pool.close()
        for task in (checking, connecting):
            with pytest.raises(ClosedError):
                task.result()
        assert (len(factory.made), factory.open, pool.dropped, pool.opened) == (2, [], 2, 2)

    run(main, clock=VirtualClock())


def test_dropping_a_pool_without_closing_it(run, factory):
    def main():
        pool = Pool(factory, idle_seconds=60)
        use_at_once(pool, 2)
        with pytest.warns(ResourceWarning, match=r"Pool of 10: 0 in use, 2 idle.*without close"):
            del pool
            gc.collect()

    run(main)


def test_what_needs_no_closing(recwarn, factory):
    Pool(factory)
    pool = Pool(factory)
    pool.release(pool.acquire(), reusable=False)
    del pool
    with pytest.raises(ValueError):
        Pool(factory, size=0)
    gc.collect()
    assert not recwarn.list


# -- loops and threads


def test_one_loop_at_a_time(run, factory):
    def main():
        with Pool(factory) as pool:
            use_at_once(pool, 1)

            def elsewhere():
                with pytest.raises(UsageError, match="another loop"):
                    pool.acquire()
                with pytest.raises(UsageError, match="another loop"):
                    netnet.run(pool.fill)
                return True

            assert netnet.to_thread(elsewhere)

    run(main)


def test_from_run_to_run_and_outside(run):
    """Connections outlive a run; each run's poller gets to know them anew."""
    with netnet.listen("127.0.0.1:0") as listener:
        thread = threading.Thread(target=netnet.run, args=(echo_connections, listener, 1))
        thread.start()
        with Pool(lambda: netnet.connect(listener.getsockname())) as pool:

            def ask():
                with pool.connection() as conn:
                    conn.sendall(b"hello")
                    assert conn.recv(10) == b"hello"

            for _ in range(2):
                ask()
                run(ask)
            assert (pool.opened, pool.reused) == (1, 3)
        thread.join()


def echo(conn):
    for chunk in conn:
        conn.sendall(chunk)


def echo_connections(listener, count):
    for _ in range(count):
        conn, _ = listener.accept()
        with conn:
            echo(conn)


# -- any order of events


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), st.just(0)),
        st.tuples(st.sampled_from(["release", "spoil", "cancel", "die"]), st.integers(0, 20)),
        st.tuples(st.just("sleep"), st.integers(0, 40)),
        st.tuples(st.just("fill"), st.just(0)),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=150)
@given(events=EVENTS, size=st.integers(1, 4), reserve=st.integers(0, 4), slow=st.booleans())
def test_whatever_happens_the_books_are_right(events, size, reserve, slow):
    factory = Factory()

    def connect():
        netnet.sleep(3 if slow else 0)
        return factory()

    def main():
        pool = Pool(connect, size=size, reserve=min(reserve, size), idle_seconds=60, check=lambda conn: conn.good)
        tasks, lent = [], []
        for name, value in events:
            for task in [task for task in tasks if task.done]:
                tasks.remove(task)
                if task.error is None:
                    assert task.value.open
                    assert task.value not in lent
                    lent.append(task.value)
            if name == "acquire":
                tasks.append(netnet.spawn(pool.acquire))
            elif name == "sleep":
                netnet.sleep(value)
            elif name == "fill":
                filling = netnet.spawn(pool.fill)
                filling.join()
                assert filling.error is None
            elif name == "cancel" and tasks:
                tasks[value % len(tasks)].cancel()
            elif name == "die" and factory.made:
                factory.made[value % len(factory.made)].good = False
            elif name in ("release", "spoil") and lent:
                pool.release(lent.pop(value % len(lent)), reusable=name == "release")
            assert len(factory.open) <= size
            assert pool.opened - pool.dropped == len(factory.open)
        netnet.sleep(10)
        assert pool.idle + pool.in_use == len(factory.open)
        waiting = [task for task in tasks if not task.done]
        assert not waiting or pool.in_use == size
        pool.close()
        for task in tasks:
            task.join()
            if task.error is None:
                lent.append(task.value)
            else:
                assert isinstance(task.error, (ClosedError, Cancelled))
                if task.failure is not None:
                    task.failure.seen = True
        give(pool, lent)
        assert factory.open == []
        assert statistics(pool)["opened"] == statistics(pool)["dropped"] == len(factory.made)

    netnet.run(main, clock=VirtualClock())


# -- real servers


def test_a_server_that_hangs_up(run, backend):
    """Every third answer is the last of its connection, which is closed before anybody can read it: no client notices."""

    def handler(conn):
        for _ in range(3):
            request = conn.recv(100)
            if not request:
                return
            conn.sendall(request.upper())

    def main():
        with netnet.listen("127.0.0.1:0") as listener:
            server = netnet.spawn(netnet.serve, listener, handler)
            with Pool(lambda: Buffered(netnet.connect(listener.getsockname())), size=2) as pool:

                def client(number):
                    for request in range(6):
                        with pool.connection() as conn:
                            conn.sendall(b"%d-%d-x\n" % (number, request))
                            assert conn.readline() == b"%d-%d-X\n" % (number, request)

                with netnet.TaskGroup() as group:
                    for number in range(4):
                        group.spawn(client, number)
                assert pool.opened >= 8
                assert pool.opened - pool.dropped <= 2
            server.cancel()

    run(main)


def test_a_run_that_ends_with_idle_connections(run):
    """They stay the pool's, and nothing leaks when that is closed afterwards."""
    with netnet.listen("127.0.0.1:0") as listener:
        pool = Pool(lambda: netnet.connect(listener.getsockname()))
        run(use_at_once, pool, 3)
        assert pool.idle == 3
        pool.close()


@pytest.fixture
def redis(tmp_path):
    """A redis-server on a UNIX socket; gives its address."""
    path = tmp_path / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no", "--dir", str(tmp_path)]
    with subprocess.Popen(["redis-server", *options], stdout=subprocess.PIPE, text=True) as server:
        try:
            for line in server.stdout:
                if "ready to accept connections" in line.lower():
                    break
            else:
                pytest.fail("redis-server has ended")
            yield f"unix:{path}"
        finally:
            server.kill()


def command(*parts):
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def reply(conn):
    """One answer of redis' protocol, RESP2."""
    line = conn.recv_until(b"\r\n", keep=False)
    kind, rest = line[:1], line[1:]
    if kind in b"+-":
        return rest
    if kind == b":":
        return int(rest)
    count = int(rest)
    if count < 0:
        return None
    if kind == b"*":
        return [reply(conn) for _ in range(count)]
    data = conn.recv_exactly(count)
    assert conn.recv_exactly(2) == b"\r\n"
    return data


def ask(conn, *parts):
    conn.sendall(command(*parts))
    return reply(conn)


def redis_pool(address, **options):
    return Pool(lambda: Buffered(netnet.connect(address)), **options)


def clients(conn):
    info = dict(line.split(b":", 1) for line in ask(conn, b"INFO", b"clients").splitlines() if b":" in line)
    return int(info[b"connected_clients"])


@pytest.mark.client("redis-server")
def test_redis(run, backend, redis):
    """Twenty tasks, three connections, pipelines of a hundred, values larger than any buffer."""
    large = bytes(range(256)) * 4000

    def main():
        with redis_pool(redis, size=3) as pool:
            with pool.connection() as conn:
                assert ask(conn, b"PING") == b"PONG"
                assert clients(conn) == 1
                assert ask(conn, b"GET", b"nothing") is None
                assert ask(conn, b"SET", b"empty", b"") == b"OK"
                assert ask(conn, b"GET", b"empty") == b""
                assert ask(conn, b"SET", b"large", large) == b"OK"

            def client(number):
                with pool.connection() as conn:
                    assert ask(conn, b"GET", b"large") == large
                with pool.connection() as conn:
                    key = b"count-%d" % number
                    conn.sendall(command(b"INCR", key) * 100 + command(b"GET", key))
                    assert [reply(conn) for _ in range(101)] == [*range(1, 101), b"100"]

            with netnet.TaskGroup() as group:
                for number in range(20):
                    group.spawn(client, number)
            with pool.connection() as conn:
                assert clients(conn) == 3
            assert (pool.opened, pool.dropped) == (3, 0)

    run(main)


@pytest.mark.client("redis-server")
def test_redis_hangs_up(run, redis):
    """Idle connections that the server has ended are found out before they are used."""

    def main():
        with redis_pool(redis, size=4) as pool:
            conns = take(pool, 4)
            assert [ask(conn, b"PING") for conn in conns] == [b"PONG"] * 4
            give(pool, conns[:3])
            assert ask(conns[3], b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"yes") == 3
            with pool.connection() as conn:
                assert ask(conn, b"PING") == b"PONG"
            pool.release(conns[3])
            assert statistics(pool) == {"idle": 2, "in_use": 0, "opened": 5, "reused": 0, "dropped": 3}

    run(main)


@pytest.mark.client("redis-server")
def test_redis_asked_whether_it_is_there(run, redis):
    def main():
        with redis_pool(redis, check=lambda conn: ask(conn, b"PING") == b"PONG") as pool:
            for _ in range(3):
                with pool.connection() as conn:
                    assert ask(conn, b"ECHO", b"hello") == b"hello"
            with pool.connection() as one, pool.connection() as other:
                number = b"%d" % ask(other, b"CLIENT", b"ID")
                ask(one, b"CLIENT", b"KILL", b"ID", number)
            assert pool.idle == 2
            with pool.connection(), pool.connection():
                assert pool.dropped == 1

    run(main)


@pytest.mark.client("redis-server")
def test_an_answer_that_nobody_read_reaches_nobody(run, redis):
    """One is cancelled between request and answer; the next does not get that answer."""

    def main():
        with redis_pool(redis, size=1) as pool:

            def impatient():
                with pool.connection() as conn:
                    ask(conn, b"BLPOP", b"never", b"0")

            task = netnet.spawn(impatient)
            wait_all_parked()
            task.cancel()
            with pool.connection() as conn:
                assert ask(conn, b"PING") == b"PONG"
                conn.sendall(command(b"ECHO", b"one") + command(b"ECHO", b"two"))
                assert reply(conn) == b"one"  # and it forgets the second
            with pool.connection() as conn:
                assert ask(conn, b"PING") == b"PONG"
            assert (pool.opened, pool.dropped, pool.reused) == (3, 2, 0)

    run(main)
