"""The ledger: limits that hold exactly over several processes, whatever becomes of any of them.

Time is a clock that the test moves. Processes are forked, limited by an alarm, and talk through pipes; ``another`` is a
second view of a ledger in this process, as a second process would have it, but without the lock between them.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import heapq
import itertools
import math
import mmap
import os
import random
import signal
import traceback
from socket import AF_INET, AF_INET6, SHUT_WR, inet_pton

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import netnet
from netnet.runtime.clock import VirtualClock
from netnet.socks import ledger as ledgers
from netnet.socks.ledger import Ledger, client_key, client_text
from netnet.socks.ledger_rows import WAYS

CHILD_SECONDS_MAX = 20

ONE, OTHER = inet_pton(AF_INET, "192.0.2.1"), inet_pton(AF_INET, "192.0.2.2")


class FakeClock:
    """Moved by hand; calling it tells the instant."""

    def __init__(self, start=1000.0):
        self.now = start

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def ledger(clock):
    return Ledger.private(clock=clock)


@pytest.fixture
def small(clock):
    """A ledger with a single set of rows."""
    return Ledger.private(rows=1, clock=clock)


@contextlib.contextmanager
def shared(seats, **options):
    made = Ledger(seats=seats, **options)
    try:
        yield made
    finally:
        made.close()


def another(ledger, seat=None):
    """The same ledger as another process sees it; sits at *seat*."""
    twin = copy.copy(ledger)
    twin._rows = copy.copy(ledger._rows)
    twin._rows.seat, twin._rows.base = None, -1
    if seat is not None:
        twin.sit(seat)
    return twin


def start(function, *args):
    """Runs *function* in a forked child; returns its process id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(CHILD_SECONDS_MAX)
            function(*args)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def ended(pid):
    """Waits for a child; its exit status, 0 if its function returned."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def in_child(function, *args):
    return ended(start(function, *args))


@contextlib.contextmanager
def pipe():
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


# -- counts


def test_so_many_and_no_more(ledger):
    assert [ledger.take("user", "alice", 3) for _ in range(5)] == [True, True, True, False, False]
    assert ledger.total("user", "alice") == 3
    ledger.give("user", "alice")
    assert ledger.take("user", "alice", 3)
    assert not ledger.take("user", "alice", 3)


@pytest.mark.parametrize("maximum", [0, -1])
def test_none_at_all(ledger, maximum):
    assert not ledger.take("user", "alice", maximum)
    assert ledger.total("user", "alice") == 0


def test_a_lower_limit_after_a_reload_refuses_until_enough_have_gone(ledger):
    for _ in range(3):
        assert ledger.take("user", "alice", 3)
    assert not ledger.take("user", "alice", 2)
    ledger.give("user", "alice")
    assert not ledger.take("user", "alice", 2)
    ledger.give("user", "alice")
    assert ledger.take("user", "alice", 2)


def test_what_is_counted_apart(ledger):
    keys = [("all", b""), ("user", "alice"), ("user", "bob"), ("client", ONE), ("client", OTHER), ("rule", "alice")]
    for kind, key in keys:
        assert ledger.take(kind, key, 1)
        assert not ledger.take(kind, key, 1)
    assert [ledger.total(kind, key) for kind, key in keys] == [1] * len(keys)
    assert ledger.total("all") == 1


@pytest.mark.parametrize("name", ["", "é", "a\0b", "\ud800", "x" * 255])
def test_any_name_is_a_key(ledger, name):
    assert ledger.take("user", name, 1)
    ledger.give("user", name)
    assert ledger.total("user", name) == 0


def test_text_and_its_bytes_are_one_key(ledger):
    assert ledger.take("user", "é", 1)
    assert ledger.total("user", "é".encode()) == 1


def test_giving_what_was_not_taken(ledger):
    with pytest.raises(RuntimeError, match="has taken no connection of user 'alice'"):
        ledger.give("user", "alice")
    ledger.take("user", "alice", 1)
    ledger.give("user", "alice")
    with pytest.raises(RuntimeError, match="has taken no connection"):
        ledger.give("user", "alice")
    assert ledger.total("user", "alice") == 0


def test_nobody_gives_what_another_process_has_taken():
    with shared(2) as ledger:
        one, other = another(ledger, 0), another(ledger, 1)
        assert one.take("user", "alice", 1)
        with pytest.raises(RuntimeError, match="has taken no connection"):
            other.give("user", "alice")
        with pytest.raises(RuntimeError, match="has taken no connection"):
            ledger.give("user", "alice")  # has no seat at all
        assert ledger.total("user", "alice") == 1


CLIENTS = [
    ("192.0.2.1", "192.0.2.1", True),
    ("192.0.2.1", "192.0.2.2", False),
    ("192.0.2.1", "::ffff:192.0.2.1", True),
    ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
    ("2001:db8::1", "2001:db8:0:1::1", False),
    ("::1", "192.0.2.1", False),
    ("::1", "::ffff:0.0.0.1", False),
    ("", "::1", False),
    ("", "0.0.0.0", False),
    ("", "", True),
]


def packed(text):
    return inet_pton(AF_INET6 if ":" in text else AF_INET, text) if text else b""


@pytest.mark.parametrize(("one", "other", "same"), CLIENTS)
def test_who_is_one_client(ledger, one, other, same):
    assert ledger.take("client", packed(one), 1)
    assert ledger.take("client", packed(other), 1) is not same


TEXTS = [
    ("192.0.2.1", "192.0.2.1"),
    ("::ffff:192.0.2.1", "192.0.2.1"),
    ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ("::1", "::/64"),
    ("", "unix"),
]


@pytest.mark.parametrize(("address", "text"), TEXTS)
def test_what_a_client_is_called(ledger, address, text):
    assert client_text(client_key(packed(address))) == text
    ledger.login_failed(packed(address), 0, 1, 1, 60)
    assert ledger.bans() == [(text, 60)]


# -- several processes


def hammer(ledger, seat, tokens, rounds):
    """Takes and gives at random. Whoever has been allowed takes a token from a pipe that holds as many as may be."""
    ledger.sit(seat)
    dice = random.Random(seat)
    held = 0
    outcomes = set()
    for _ in range(rounds):
        if held and dice.random() < 0.5:
            os.write(tokens[1], b"x")
            ledger.give("user", "alice")
            held -= 1
            continue
        allowed = ledger.take("user", "alice", 5)
        outcomes.add(allowed)
        if allowed:
            os.read(tokens[0], 1)  # BlockingIOError: one too many
            held += 1
        if dice.random() < 0.1:
            os.sched_yield()
    assert True in outcomes
    while held > seat % 2:
        os.write(tokens[1], b"x")
        ledger.give("user", "alice")
        held -= 1
    assert ledger.total("user", "alice") >= held
    os._exit(held)


def test_never_more_than_the_maximum_and_the_sums_are_right():
    with shared(4) as ledger, pipe() as tokens:
        os.set_blocking(tokens[0], False)
        os.write(tokens[1], b"x" * 5)
        children = [start(hammer, ledger, seat, tokens, 4000) for seat in range(4)]
        left = [ended(child) for child in children]
        assert all(held in (0, 1) for held in left), left
        assert ledger.total("user", "alice") == sum(left) == 5 - len(os.read(tokens[0], 10))
        assert ledger.vacate_dead() == [0, 1, 2, 3]
        assert ledger.total("user", "alice") == 0


def lock_of_the_ledger_is_held(ledger):
    """Whether another process has it; asks without taking it for good."""
    number = ledger._rows._lock_file
    try:
        fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
    except OSError:
        return True
    fcntl.lockf(number, fcntl.LOCK_UN, 1, 0)
    return False


def is_asleep(pid):
    with open(f"/proc/{pid}/stat") as status:
        return status.read().rpartition(")")[2].split()[0] == "S"


@pytest.mark.parametrize(
    "change",
    [
        lambda ledger: ledger.take("user", "alice", 1),
        lambda ledger: ledger.may_come(ONE, 1, 1),
        lambda ledger: ledger.login_failed(ONE, 0, 1, 1, 60),
        lambda ledger: ledger.bucket(("sent", "alice"), 1000).grant(1, ledger._clock()),
    ],
)
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks into /proc")
def test_a_change_waits_for_the_lock(change):
    """The interleaving that the lock forbids: between one's look and one's write, no other changes anything."""
    with shared(2) as ledger, pipe() as (reader, writer):
        go = mmap.mmap(-1, 1)

        def other():
            ledger.sit(1)
            os.write(writer, b"b")
            while not go[0]:
                os.sched_yield()
            change(ledger)
            os.write(writer, b"d")

        child = start(other)
        assert os.read(reader, 1) == b"b"
        ledger._rows.lock()
        go[0] = 1
        while not is_asleep(child):
            os.sched_yield()
        os.set_blocking(reader, False)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
        ledger._rows.unlock()
        assert ended(child) == 0
        assert os.read(reader, 1) == b"d"
        go.close()


def take_and_die(ledger, seat, locked):
    ledger.sit(seat)
    assert ledger.take("user", "alice", 9)
    assert ledger.take("client", ONE, 9)
    if locked:
        table = ledger._rows
        table.lock()
        table.counts[table.base + table.claim(table.name(b"user\0bob"), 0.0)] += 1
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("locked", [False, True])
def test_a_process_is_killed_with_what_it_held(locked):
    """The kernel frees its lock; its counts go when its seat is vacated, and those of the others stay."""
    with shared(2) as ledger:
        ledger.sit(0)
        assert ledger.take("user", "alice", 9)
        assert in_child(take_and_die, another(ledger), 1, locked) == -signal.SIGKILL
        assert (ledger.total("user", "alice"), ledger.total("client", ONE)) == (2, 1)
        assert ledger.total("user", "bob") == locked
        ledger.vacate(1)
        assert (ledger.total("user", "alice"), ledger.total("client", ONE), ledger.total("user", "bob")) == (1, 0, 0)
        assert ledger.take("user", "alice", 2)


def take_and_give_for_ever(ledger, seat, news):
    ledger.sit(seat)
    for turn in itertools.count():
        key = str(turn % 7)
        assert ledger.take("user", key, 10**6)
        ledger.may_come(OTHER, 1000, 1000)
        if turn % 3:
            ledger.give("user", key)
        if turn % 100 == 50:
            os.write(news, b"x")


def test_processes_are_killed_at_any_moment():
    with shared(3) as ledger, pipe() as (one, write_one), pipe() as (other, write_other):
        ledger.sit(2)
        for turn in range(15):
            writers = enumerate((write_one, write_other))
            children = [start(take_and_give_for_ever, another(ledger), seat, writer) for seat, writer in writers]
            for reader in (one, other):
                os.read(reader, 1 + turn)  # now it sits, and works
            for child in children:
                os.kill(child, signal.SIGKILL)
                assert ended(child) == -signal.SIGKILL
            assert ledger.take("user", "0", 10**6)
            assert ledger.vacate_dead() == [0, 1]
            ledger.give("user", "0")
            assert [ledger.total("user", str(key)) for key in range(7)] == [0] * 7
            for reader in (one, other):
                os.set_blocking(reader, False)
                with contextlib.suppress(BlockingIOError):
                    os.read(reader, 1 << 16)
                os.set_blocking(reader, True)


# -- seats


def test_without_a_seat_nothing_is_taken_but_all_can_be_read(clock):
    with shared(2, clock=clock) as ledger:
        with pytest.raises(RuntimeError, match=r"no seat in the ledger: call sit\(\) first"):
            ledger.take("user", "alice", 1)
        assert ledger.seat is None
        assert ledger.total("user", "alice") == 0
        assert ledger.may_come(ONE, 1, 1)
        assert ledger.login_failed(ONE, 0, 1, 1, 60) == ledgers.DELAY_SECONDS_MIN
        assert ledger.bans() == [("192.0.2.1", 60)]


def test_one_seat_is_private_and_sat_in():
    for ledger in (Ledger(), Ledger.private()):
        assert (ledger.seats, ledger.seat) == (1, 0)
        assert ledger.sit() == 0
        assert ledger.take("user", "alice", 1)
        assert ledger.sit(0) == 0
        assert ledger.total("user", "alice") == 1
        assert ledger.vacate_dead() == []
        ledger.vacate(0)
        assert ledger.total("user", "alice") == 0
        ledger.close()


@pytest.mark.parametrize("seat", [-1, 2])
def test_a_seat_that_is_not_there(seat):
    with shared(2) as ledger:
        with pytest.raises(ValueError, match="there are seats from 0 to 1"):
            ledger.sit(seat)
        with pytest.raises(ValueError, match="there are seats from 0 to 1"):
            ledger.vacate(seat)
        assert not lock_held_by_anybody(ledger)


def lock_held_by_anybody(ledger):
    return in_child(lambda: os._exit(lock_of_the_ledger_is_held(ledger)))


@pytest.mark.parametrize(("seats", "rows"), [(0, 1), (1, 0), (-1, 1)])
def test_numbers_that_make_no_ledger(seats, rows):
    with pytest.raises(ValueError, match="needs a seat and a row"):
        Ledger(seats=seats, rows=rows)


def test_nobody_sits_where_a_living_process_sits():
    with shared(2) as ledger:
        assert ledger.sit(0) == 0
        assert ledger.sit(0) == 0
        with pytest.raises(RuntimeError, match="sits in seat 0 already"):
            ledger.sit(1)
        assert ledger.take("user", "alice", 1)

        def child():
            with pytest.raises(RuntimeError, match="seat 0 is taken by a living process"):
                ledger.sit(0)
            with pytest.raises(RuntimeError, match="seat 0 is taken by a living process: its counts are still true"):
                another(ledger).vacate(0)
            assert another(ledger).vacate_dead() == []
            assert ledger.sit() == 1  # though it was forked from one that sits
            assert not ledger.take("user", "alice", 1)

            def grandchild():
                with pytest.raises(RuntimeError, match="each seat is taken .*: make the ledger with more than 2"):
                    ledger.sit()

            assert in_child(grandchild) == 0

        assert in_child(child) == 0
        assert not lock_held_by_anybody(ledger)
        assert ledger.total("user", "alice") == 1


def test_who_sits_down_does_not_inherit_the_counts_of_the_dead():
    with shared(2) as ledger:
        assert in_child(take_and_die, ledger, 1, False) == -signal.SIGKILL
        assert ledger.total("user", "alice") == 1
        ledger.sit(1)
        assert ledger.total("user", "alice") == 0


def test_who_leaves_gives_all_back_and_may_come_again():
    with shared(2) as ledger:
        ledger.sit(1)
        assert ledger.take("user", "alice", 1)
        ledger.vacate(1)
        assert ledger.seat is None
        assert ledger.total("user", "alice") == 0
        assert ledger.sit() == 0


def test_counts_of_far_seats_are_counted_and_go_with_them():
    with shared(200) as ledger:
        near, far = another(ledger, 0), another(ledger, 199)
        for one in (near, far):
            assert one.take("user", "alice", 2)
        assert not near.take("user", "alice", 2)
        ledger.vacate(199)
        assert ledger.total("user", "alice") == 1
        middle = another(ledger, 100)
        assert middle.take("user", "alice", 2)
        assert not near.take("user", "alice", 2)
        ledger.vacate(0)
        assert [ledger.total("user", "alice"), middle.total("user", "alice")] == [1, 1]


def shared_memory_bytes():
    """What of shared memory this process has touched."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssShmem:"))


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks into /proc")
def test_seats_that_nobody_uses_have_no_memory():
    before = shared_memory_bytes()
    with shared(200) as ledger:
        assert shared_memory_bytes() - before < 100_000
        ledger.sit()
        for number in range(2000):
            assert ledger.take("client", address(number), 1)
        assert 0 < shared_memory_bytes() - before < 10_000_000


def test_bans_and_rates_outlive_the_process_that_noted_them(clock):
    with shared(2, clock=clock) as ledger:

        def child():
            ledger.sit(0)
            ledger.login_failed(ONE, 0, 1, 1, 60)
            assert ledger.may_come(OTHER, 1, 1)

        assert in_child(child) == 0
        ledger.vacate(0)
        assert ledger.ban_left(ONE) == 60
        assert not ledger.may_come(OTHER, 1, 1)


def test_the_descriptor_goes_with_the_ledger():
    before = set(os.listdir("/proc/self/fd"))
    ledger = Ledger(seats=2)
    assert set(os.listdir("/proc/self/fd")) != before
    del ledger
    assert set(os.listdir("/proc/self/fd")) == before


def test_without_memfd_a_file_that_has_no_name_any_more(monkeypatch):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    with shared(2) as ledger:
        assert os.fstat(ledger._rows._lock_file).st_nlink == 0
        assert in_child(take_and_die, ledger, 0, True) == -signal.SIGKILL
        ledger.vacate(0)
        ledger.sit(0)
        assert ledger.take("user", "alice", 1)


def test_an_interrupted_change_leaves_no_lock_behind(monkeypatch):
    with shared(2) as ledger:
        ledger.sit(0)
        table = ledger._rows

        def interrupted(*args):
            raise KeyboardInterrupt

        monkeypatch.setattr(type(table), "claim", interrupted)
        bucket = ledger.bucket(("sent", "alice"), 1000)
        for change in (
            lambda: ledger.take("user", "alice", 1),
            lambda: ledger.may_come(ONE, 1, 1),
            lambda: ledger.login_failed(ONE, 0, 1, 1, 60),
            lambda: bucket.grant(1, 0.0),
        ):
            with pytest.raises(KeyboardInterrupt):
                change()
            assert not lock_held_by_anybody(ledger)


# -- full sets


def test_a_full_set_refuses_whom_it_does_not_know(small, clock):
    for number in range(WAYS):
        assert small.take("user", str(number), 2)
    assert small.turned_away == 0
    assert not small.take("user", "late", 2)
    assert not small.may_come(ONE, 1, 1)
    assert small.login_failed(ONE, 3, 2.5, 10, 60) == 2.5
    bucket = small.bucket(("sent", "late"), 1000)
    assert bucket.grant(10, clock()) == 0
    assert clock() < bucket.ready_at(clock()) < clock() + 2
    assert small.turned_away == 4
    assert (small.ban_left(ONE), small.bans(), small.forgotten) == (0, [], 0)
    small.login_succeeded(ONE)
    assert all(small.take("user", str(number), 2) for number in range(WAYS))
    assert not any(small.take("user", str(number), 2) for number in range(WAYS))
    small.give("user", "7")
    assert not small.take("user", "late", 2)
    small.give("user", "7")
    assert small.take("user", "late", 2)
    assert small.total("user", "7") == 0
    assert not small.take("user", "7", 2)


def address(number):
    return number.to_bytes(4, "big")


#: what keeps a row → how, for one client; and for how many seconds (None: until it is given back)
HOLDERS = {
    "a count": (lambda ledger, client: ledger.take("client", client, 1), None),
    "a rate": (lambda ledger, client: ledger.may_come(client, 0.1, 5), 10),
    "a ban": (lambda ledger, client: ledger.login_failed(client, 0, 1, 1, 10), 10),
    "a bucket": (lambda ledger, client: ledger.bucket(("sent", client.hex()), 100).grant(1000, ledger._clock()), 10),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_what_is_in_force_keeps_its_row_and_no_longer(small, clock, holder):
    hold, seconds = HOLDERS[holder]
    for number in range(WAYS):
        assert hold(small, address(number))
    assert not small.take("user", "late", 1)
    clock.now += 9.9
    assert not small.take("user", "late", 1)
    clock.now += 0.2
    assert small.take("user", "late", 1) is (seconds is not None)
    assert small.forgotten == 0


def test_a_full_set_forgets_failed_logins_the_oldest_first_but_no_ban(small, clock):
    small.login_failed(address(0), 0, 1, 1, 100)
    for number in range(1, WAYS):
        small.login_failed(address(number), 1, 1, 2, 60)
        clock.now += 1
    assert small.take("user", "late", 1)
    assert small.forgotten == 1
    assert small.ban_left(address(0)) == 100 - (WAYS - 1)
    small.login_failed(address(2), 1, 1, 2, 60)
    assert small.ban_left(address(2)) == 60  # its first failure was still known
    small.login_failed(address(1), 1, 1, 2, 60)
    assert small.ban_left(address(1)) == 0  # it had been forgotten
    assert (small.forgotten, small.turned_away) == (2, 0)


def test_a_new_owner_of_a_row_starts_from_nothing(small, clock):
    for number in range(WAYS):
        small.login_failed(address(number), 0, 1, 3, 10)
        small.login_failed(address(number), 0, 1, 3, 10)
        small.may_come(address(number), 1, 10)
    clock.now += 11
    for number in range(100, 100 + WAYS):
        assert small.login_failed(address(number), 0, 1, 3, 10) == ledgers.DELAY_SECONDS_MIN
        assert small.ban_left(address(number)) == 0
        assert small.may_come(address(number), 0.001, 1)


def test_tens_of_thousands_of_clients_fit():
    ledger = Ledger.private()
    for number in range(20_000):
        assert ledger.take("client", address(number), 1)
    assert not any(ledger.take("client", address(number), 1) for number in range(0, 20_000, 100))
    for number in range(20_000):
        ledger.give("client", address(number))
    assert (ledger.turned_away, ledger.forgotten) == (0, 0)
    assert sum(ledger._rows.counts) == 0


def test_a_name_across_two_names_is_not_found(ledger):
    """The bytes of a name may stand where one name ends and the next begins."""
    table = ledger._rows
    name = bytes(range(1, 17))
    first = int.from_bytes(name[:4], "big") % table._sets * WAYS
    table._memory[16 * first + 8 : 16 * first + 24] = name
    assert table.find(name) == -1
    table._memory[16 * first + 64 : 16 * first + 80] = name
    assert table.find(name) == first + 4
    table._memory[16 * first + 16 * WAYS - 8 : 16 * first + 16 * WAYS + 8] = bytes(range(16))  # over the set's end
    assert table.find(bytes(range(16))) == -1


def test_keys_are_kept_by_a_hash_that_differs_from_ledger_to_ledger():
    assert Ledger()._rows.name(b"x") != Ledger()._rows.name(b"x")


# -- rates


def test_a_burst_and_then_so_many_a_second(ledger, clock):
    assert [ledger.may_come(ONE, 2, 3) for _ in range(5)] == [True, True, True, False, False]
    assert ledger.may_come(OTHER, 2, 3)
    clock.now += 0.49
    assert not ledger.may_come(ONE, 2, 3)
    clock.now += 0.01
    assert ledger.may_come(ONE, 2, 3)
    assert not ledger.may_come(ONE, 2, 3)
    clock.now += 60
    assert [ledger.may_come(ONE, 2, 3) for _ in range(4)] == [True, True, True, False]


def test_who_comes_just_in_time_is_never_refused_by_rounding(ledger, clock):
    """However long the machine has been up, and after the sum of many intervals."""
    for start_s in (1000.0, 10.0**7):
        for _ in range(3):
            clock.now = start_s
            assert ledger.may_come(ONE, 7, 3)
        for turn in range(1, 1000):
            clock.now = start_s + turn / 7
            assert ledger.may_come(ONE, 7, 3)
            assert not ledger.may_come(ONE, 7, 3)


def test_a_higher_rate_after_a_reload_counts_at_once(ledger, clock):
    assert all(ledger.may_come(ONE, 0.001, 50) for _ in range(50))
    clock.now += 1
    assert not ledger.may_come(ONE, 0.001, 50)
    assert not ledger.may_come(ONE, 10, 2)  # as if its burst had just been used
    clock.now += 0.11
    assert [ledger.may_come(ONE, 10, 2) for _ in range(2)] == [True, False]


@pytest.mark.parametrize(("per_second", "burst"), [(0, 1), (-1, 1), (math.nan, 1), (1, 0), (1, 0.5)])
def test_what_is_no_rate(ledger, per_second, burst):
    with pytest.raises(ValueError, match="a rate is above 0 a second, and 1 at least at once"):
        ledger.may_come(ONE, per_second, burst)


@given(
    st.integers(1, 1000),
    st.integers(1, 20),
    st.lists(st.integers(0, 3000), max_size=60),
    st.sampled_from([0, 1000, 10**7]),
)
@settings(deadline=None)
def test_rates_are_those_of_a_bucket_of_whole_tokens(interval_ms, burst, pauses_ms, start_s):
    """The model: a bucket of *burst* tokens to which one is added every *interval_ms*, counted in milliseconds."""
    clock = FakeClock(start_s)
    ledger = Ledger.private(rows=1, clock=clock)
    credit_ms, full_ms, elapsed_ms = burst * interval_ms, burst * interval_ms, 0
    for pause in pauses_ms:
        elapsed_ms += pause
        clock.now = start_s + elapsed_ms / 1000
        credit_ms = min(full_ms, credit_ms + pause)
        expected = credit_ms >= interval_ms
        credit_ms -= interval_ms if expected else 0
        assert ledger.may_come(ONE, 1000 / interval_ms, burst) is expected


# -- logins


def test_failed_logins_are_delayed_more_and_more_and_then_banned(ledger, clock):
    delays = [ledger.login_failed(ONE, 3, 3.0, 10, 600) for _ in range(9)]
    assert delays == [0, 0, 0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.0]
    assert ledger.ban_left(ONE) == 0
    assert ledger.login_failed(ONE, 3, 3.0, 10, 600) == 3.0
    assert ledger.ban_left(ONE) == 600
    assert ledger.ban_left(OTHER) == 0
    clock.now += 100
    assert ledger.bans() == [("192.0.2.1", 500)]
    clock.now += 500
    assert (ledger.ban_left(ONE), ledger.bans()) == (0, [])
    assert ledger.login_failed(ONE, 3, 3.0, 10, 600) == 0


def test_a_failure_during_the_ban_prolongs_it(ledger, clock):
    for _ in range(2):
        ledger.login_failed(ONE, 0, 3.0, 2, 60)
    clock.now += 50
    ledger.login_failed(ONE, 0, 3.0, 2, 60)
    assert ledger.ban_left(ONE) == 60


def test_without_a_most_there_is_no_ban(ledger):
    for _ in range(1100):
        assert ledger.login_failed(ONE, 0, 3.0, None, 60) <= 3.0
    assert ledger.ban_left(ONE) == 0


def test_success_forgets_failures_and_keeps_a_ban(ledger):
    for _ in range(3):
        ledger.login_failed(ONE, 0, 1, 3, 60)
    ledger.login_failed(OTHER, 0, 1, 3, 60)
    ledger.login_failed(OTHER, 0, 1, 3, 60)
    ledger.login_succeeded(ONE)
    ledger.login_succeeded(OTHER)
    assert ledger.ban_left(ONE) == 60
    assert ledger.login_failed(OTHER, 0, 1, 3, 60) == ledgers.DELAY_SECONDS_MIN
    assert ledger.ban_left(OTHER) == 0


def test_failures_are_forgotten_after_quiet_not_after_the_first(ledger, clock):
    for _ in range(3):
        ledger.login_failed(ONE, 0, 1, 9, 60)
        clock.now += 59
    assert ledger.login_failed(ONE, 0, 1, 9, 60) == 0.8
    clock.now += 60
    assert ledger.login_failed(ONE, 0, 1, 9, 60) == 0.1


def test_the_list_of_bans_has_the_longest_first(ledger, clock):
    for number, seconds in enumerate([30, 90, 60, 60]):
        ledger.login_failed(address(number), 0, 1, 1, seconds)
    assert ledger.bans() == [("0.0.0.1", 90), ("0.0.0.2", 60), ("0.0.0.3", 60), ("0.0.0.0", 30)]
    clock.now += 60
    assert ledger.bans() == [("0.0.0.1", 30)]


# -- against a model


class AgainstAModel(RuleBasedStateMachine):
    """Three processes, a few keys, any order of calls: the ledger and plain dictionaries say the same."""

    users = st.sampled_from(["alice", "bob"])
    clients = st.sampled_from([ONE, OTHER, b"", inet_pton(AF_INET6, "2001:db8::1")])
    seats = st.sampled_from([0, 1, 2])
    BAN_SECONDS, FAILURES_MAX = 50, 3

    def __init__(self):
        super().__init__()
        self.clock = FakeClock()
        self.whole = Ledger(seats=4, rows=64, clock=self.clock)
        self.ledgers = [another(self.whole, seat) for seat in range(3)]
        self.counts = {}
        self.failures = {}
        self.banned_until = {}

    def teardown(self):
        self.whole.close()

    @rule(seat=seats, user=users, maximum=st.integers(0, 4))
    def take(self, seat, user, maximum):
        expected = sum(count for (_, whose), count in self.counts.items() if whose == user) < maximum
        assert self.ledgers[seat].take("user", user, maximum) is expected
        if expected:
            self.counts[seat, user] = self.counts.get((seat, user), 0) + 1

    @rule(seat=seats, user=users)
    def give(self, seat, user):
        if self.counts.get((seat, user)):
            self.ledgers[seat].give("user", user)
            self.counts[seat, user] -= 1
        else:
            with pytest.raises(RuntimeError):
                self.ledgers[seat].give("user", user)

    @rule(seat=seats)
    def die_and_be_replaced(self, seat):
        self.whole.vacate(seat)
        self.ledgers[seat] = another(self.whole, seat)
        self.counts = {(where, whose): count for (where, whose), count in self.counts.items() if where != seat}

    @rule(seat=seats, client=clients)
    def fail(self, seat, client):
        count, last = self.failures.get(client, (0, -math.inf))
        count = count + 1 if self.clock.now < last + self.BAN_SECONDS else 1
        self.failures[client] = count, self.clock.now
        delay = self.ledgers[seat].login_failed(client, 1, 0.15, self.FAILURES_MAX, self.BAN_SECONDS)
        assert delay == [0, 0.1, 0.15][min(count, 3) - 1]
        if count >= self.FAILURES_MAX:
            self.banned_until[client] = self.clock.now + self.BAN_SECONDS

    @rule(seat=seats, client=clients)
    def succeed(self, seat, client):
        self.ledgers[seat].login_succeeded(client)
        self.failures.pop(client, None)

    @precondition(lambda self: self.failures or self.counts)
    @rule(seconds=st.sampled_from([1, 20, 49, 50, 51, 1000]))
    def wait(self, seconds):
        self.clock.now += seconds

    @invariant()
    def counts_agree(self):
        for user in ("alice", "bob"):
            expected = sum(count for (_, whose), count in self.counts.items() if whose == user)
            assert {one.total("user", user) for one in [self.whole, *self.ledgers]} == {expected}

    @invariant()
    def bans_agree(self):
        expected = {
            client_text(client_key(client)): until - self.clock.now
            for client, until in self.banned_until.items()
            if until > self.clock.now
        }
        assert dict(self.whole.bans()) == expected
        for client in self.banned_until:
            left = expected.get(client_text(client_key(client)), 0)
            assert {one.ban_left(client) for one in self.ledgers} == {left}


AgainstAModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAgainstAModel = AgainstAModel.TestCase


# -- bandwidth


def drained(bucket, now):
    """All that a bucket grants at an instant."""
    return sum(iter(lambda: bucket.grant(65536, now), 0))


def test_a_bucket_holds_a_burst_and_no_more(ledger):
    bucket = ledger.bucket(("sent", "alice"), 100_000, 20_000)
    grants = [bucket.grant(65536, 1000.0) for _ in range(6)]
    assert grants == [5000] * 4 + [0, 0]
    assert bucket.grant(65536, 1000.049) == 0
    assert bucket.grant(65536, 1000.051) == 5000
    assert bucket.grant(0, 2000.0) == 0
    assert 15_000 <= drained(bucket, 5000.0) <= 20_000  # what is less than a share stays in


def test_little_is_granted_when_there_is_a_share_and_not_before(ledger):
    """Else those who want little would never let it come to a share."""
    bucket = ledger.bucket(("sent", "alice"), 100_000, 20_000)
    assert drained(bucket, 1000.0) == 20_000
    assert bucket.grant(100, 1000.0499) == 0
    assert bucket.grant(100, 1000.0501) == 100
    assert bucket.grant(100, 1000.0501) == 0


def test_what_is_given_back_can_be_granted_again_but_never_more_than_the_burst(ledger):
    bucket = ledger.bucket(("sent", "alice"), 1000, 4000)
    assert bucket.grant(4000, 1000.0) == 4000
    bucket.give_back(3000)
    bucket.give_back(0)
    assert drained(bucket, 1000.0015) == 3001
    bucket.give_back(10**9)
    assert drained(bucket, 1000.0015) == 4000


def test_giving_back_to_a_row_that_is_another_s_by_now_does_nothing(small, clock):
    bucket = small.bucket(("sent", "alice"), 1000, 4000)
    assert bucket.grant(1000, clock()) == 1000
    clock.now += 60
    for number in range(WAYS):
        assert small.take("user", str(number), 1)
    bucket.give_back(1000)
    assert (bucket.grant(1, clock()), small.turned_away) == (0, 1)


@pytest.mark.parametrize("rate", [0.5, 10, 1460, 10_000, 125_000, 1e9, 1e12, 1e18])
@pytest.mark.parametrize("burst", [1, 1000, None])
@pytest.mark.parametrize("start_s", [0.0, 1e7])
def test_at_any_rate_something_moves_and_the_time_to_ask_again_is_soon(rate, burst, start_s):
    ledger = Ledger.private(rows=1, clock=FakeClock(start_s))
    bucket = ledger.bucket(("sent", "alice"), rate, burst)
    now = start_s
    for _ in range(20):
        granted = bucket.grant(1 << 20, now)
        assert 0 <= granted <= 1 << 20
        if not granted:
            again = bucket.ready_at(now)
            assert now < again <= now + max(2 / rate, 1.0) + 0.01
            now = again
    bucket.grant(1 << 62, now)
    moved = 0
    for _ in range(5):
        moved += bucket.grant(1 << 20, now)
        now = max(bucket.ready_at(now), now)
    assert moved > 0


@pytest.mark.parametrize("rate", [0, -1, math.inf, math.nan])
def test_what_is_no_bandwidth(ledger, rate):
    with pytest.raises(ValueError, match="a rate is above 0 bytes a second, and finite"):
        ledger.bucket(("sent", "alice"), rate)


@pytest.mark.parametrize("burst", [0, -1, math.inf, math.nan])
def test_what_is_no_burst(ledger, burst):
    with pytest.raises(ValueError, match="a burst is above 0 bytes, and finite"):
        ledger.bucket(("sent", "alice"), 1000, burst)


def test_buckets_have_their_keys(ledger):
    for key in [("sent", "alice"), ("received", "alice"), ("sent", "bob")]:
        assert drained(ledger.bucket(key, 1000, 4000), 1000.0) == 4000
        assert ledger.bucket(key, 1000, 4000).grant(1, 1000.0) == 0
    assert ledger.take("bucket", "alice", 1)


def test_a_higher_bandwidth_after_a_reload_counts_at_once():
    ledger = Ledger.private(rows=1, clock=lambda: 0.0)
    assert drained(ledger.bucket(("sent", "alice"), 10, 10_000), 0.0) == 10_000
    moved = draw([asking(ledger.bucket(("sent", "alice"), 10**6))], 10, itertools.repeat(65536))
    assert sum(moved) == pytest.approx(10**7, rel=0.03)


def draw(relays, seconds, wants):
    """Relays that always want more draw for so long, by the times that their buckets tell. Returns what each got.

    *relays* are functions from an instant to (granted, when to ask again).
    """
    moved = [0] * len(relays)
    turns = [(0.0, number, number) for number in range(len(relays))]
    order = itertools.count(len(relays))
    while turns[0][0] < seconds:
        now, _, number = heapq.heappop(turns)
        granted, again = relays[number](now, next(wants))
        moved[number] += granted
        heapq.heappush(turns, (now if granted else again, next(order), number))
    return moved


def asking(bucket):
    def ask(now, wanted):
        granted = bucket.grant(wanted, now)
        return granted, now if granted else bucket.ready_at(now)

    return ask


@pytest.mark.parametrize("rate", [1000, 100_000, 10**7])
@pytest.mark.parametrize("same", [True, False])
def test_relays_share_a_bucket_and_nobody_starves(rate, same):
    ledger = Ledger.private(rows=1, clock=lambda: 0.0)
    one = ledger.bucket(("sent", "alice"), rate)
    relays = [asking(one if same else ledger.bucket(("sent", "alice"), rate)) for _ in range(5)]
    seconds = 600 if rate == 1000 else 60
    moved = draw(relays, seconds, itertools.repeat(65536))
    burst = max(16384, rate // 10)
    assert sum(moved) == pytest.approx(rate * seconds + burst, rel=0.03)
    assert sum(moved) <= rate * seconds + burst
    assert min(moved) > sum(moved) / 5 * 0.6, moved


def test_who_wants_little_does_not_starve_who_wants_much():
    ledger = Ledger.private(rows=1, clock=lambda: 0.0)
    bucket = ledger.bucket(("sent", "alice"), 100_000)
    wants = [65536, 200, 200]

    def ask(number):
        return lambda now, _: asking(bucket)(now, wants[number])

    moved = draw([ask(number) for number in range(3)], 60, itertools.repeat(0))
    assert min(moved) > 0
    assert moved[0] > sum(moved) / 3


def test_the_rate_holds_over_several_processes(clock):
    """Each relay lives in a process of its own; the test tells them the time, in the order that they ask for."""
    rate, seconds = 250_000, 20
    with shared(4, rows=1, clock=clock) as ledger:
        children = [Remote(ledger, seat, rate) for seat in range(3)]
        try:
            moved = draw([child.ask for child in children], seconds, itertools.cycle([65536, 1000, 30_000]))
        finally:
            for child in children:
                child.hang_up()
            statuses = [ended(child.pid) for child in children]
        assert statuses == [0] * 3
        assert sum(moved) <= rate * seconds + rate // 10
        assert sum(moved) == pytest.approx(rate * seconds + rate // 10, rel=0.03)
        assert min(moved) > sum(moved) / 3 * 0.6, moved


class Remote:
    """A relay's bucket in a child process that is asked through pipes."""

    def __init__(self, ledger, seat, rate):
        self._questions, self._answers = os.pipe(), os.pipe()
        self.pid = start(self._serve, ledger, seat, rate)
        os.close(self._questions[0])
        os.close(self._answers[1])

    def _serve(self, ledger, seat, rate):
        os.close(self._questions[1])
        ledger.sit(seat)
        ask = asking(ledger.bucket(("sent", "alice"), rate))
        while question := os.read(self._questions[0], 100):
            now, wanted = question.split()
            granted, again = ask(float(now), int(wanted))
            os.write(self._answers[1], f"{granted} {again!r}".encode())

    def ask(self, now, wanted):
        os.write(self._questions[1], f"{now!r} {wanted}".encode())
        granted, again = os.read(self._answers[0], 100).split()
        return int(granted), float(again)

    def hang_up(self):
        os.close(self._questions[1])
        os.close(self._answers[0])


def hammer_bucket(ledger, seat, rounds, report):
    """Draws and gives back part of it, all at the same instant; reports what it has kept."""
    ledger.sit(seat)
    bucket = ledger.bucket(("sent", "alice"), 1000, 10**7)
    kept = 0
    for turn in range(rounds):
        granted = bucket.grant(100 + turn % 50, 5.0)
        bucket.give_back(granted // 3)
        kept += granted - granted // 3
    os.write(report, f"{kept}\n".encode())


def test_no_byte_is_lost_or_made_between_processes(clock):
    clock.now = 5.0
    with shared(3, rows=1, clock=clock) as ledger, pipe() as (reader, writer):
        children = [start(hammer_bucket, ledger, seat, 3000, writer) for seat in range(3)]
        assert [ended(child) for child in children] == [0] * 3
        kept = sum(map(int, os.read(reader, 1000).split()))
        bucket = ledger.bucket(("sent", "alice"), 1000, 10**7)
        left = drained(bucket, 5.0)
        assert left + kept == pytest.approx(10**7, abs=1500)  # what is less than a share stays in


def test_relays_of_the_runtime_draw_from_it(run):
    """Two relays, 150 kB each way in all, at 100 kB/s: what is beyond the burst takes its time, on a moved clock."""
    clock = VirtualClock()

    def main():
        ledger = Ledger.private(rows=1, clock=clock.now)

        def send(size):
            near, one = netnet.socketpair()
            other, far = netnet.socketpair()
            throttles = ([ledger.bucket(("sent", "alice"), 100_000)], [])
            relay = netnet.spawn(lambda: netnet.relay(one, other, throttles=throttles))
            received = netnet.spawn(lambda: sum(len(chunk) for chunk in far))
            with near, far:
                near.sendall(bytes(size))
                near.shutdown(SHUT_WR)
                assert received.result() == size
                far.close()
                near.recv(1)
            relay.join()

        tasks = [netnet.spawn(send, 100_000), netnet.spawn(send, 50_000)]
        for task in tasks:
            task.result()
        return clock.now()

    seconds = run(main, clock=clock)
    assert seconds == pytest.approx((150_000 - 16384) / 100_000, rel=0.1)
