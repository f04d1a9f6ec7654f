"""``choose``: one of the cases happens, and only that one, whatever the cases are, whoever else wants the same, and
whenever it is cancelled; and each case gets its turn."""

from __future__ import annotations

import gc
import math
import random
import socket as std
import sys
import weakref
from collections import Counter

import pytest

import netnet
from netnet import (
    BusyError,
    Cancelled,
    Channel,
    ChannelClosedError,
    Chosen,
    ClosedError,
    DeadlockError,
    Elapsed,
    Event,
    Queue,
    Readable,
    Sending,
    UsageError,
    Writable,
    choose,
)
from netnet.testing import wait_all_parked
from tests.runtime.test_sync import Collected, Item, nothing_is_kept


def line_of(channel):
    return [*channel.takers, *channel.givers]


# -- which cases there are


def test_nothing_to_choose_from(run):
    def main():
        with pytest.raises(ValueError, match="a case"):
            choose()
        for case in (1.5, "text", None, object(), [Channel()], lambda: None):
            with pytest.raises(TypeError, match="choose"):
                choose(Event(), case)

    run(main)


def _set():
    event = Event()
    event.set()
    return event


def _filled():
    channel = Channel(1)
    channel.send_now("item")
    return channel


def _ended():
    task = netnet.spawn(int)
    task.join()
    return task


#: name → a case that can happen at once, and what it brings (None: the case itself)
READY = {
    "channel": (_filled, "item"),
    "queue": (lambda: (line := Queue(), line.put("item"))[0], "item"),
    "event": (_set, None),
    "task": (_ended, None),
}


@pytest.mark.parametrize("name", READY)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_what_can_happen_at_once(run, name, position):
    make, brings = READY[name]

    def main():
        cases = [Channel(), Event(), Elapsed(1000)]
        cases.insert(position, case := make())
        assert choose(*cases) == Chosen(position, case if brings is None else brings)

    run(main)


def test_sockets(run, backend):
    def main():
        one, other = netnet.socketpair()
        with one, other:
            assert choose(Channel(), Writable(one)) == (1, one)
            assert choose(one, Elapsed(0)) == (1, None)
            task = netnet.spawn(choose, Event(), one, Elapsed(1000))
            wait_all_parked()
            other.sendall(b"x")
            assert task.result() == (1, one)
            assert choose(Readable(one.fileno()), Event()) == (0, one.fileno())
            assert one.recv(1) == b"x"
            task = netnet.spawn(choose, Readable(one), Event())
            wait_all_parked()
            other.close()
            assert task.result() == (0, one)

    run(main)


def test_sockets_of_others(run, backend):
    """A descriptor that is no socket of ours."""

    def main():
        one, other = std.socketpair()
        with one, other:
            task = netnet.spawn(choose, one, Event())
            wait_all_parked()
            other.send(b"x")
            assert task.result() == (0, one)
            assert choose(Readable(other), Elapsed(0)) == (1, None)

    run(main)


def test_the_socket_is_closed_meanwhile(run, backend):
    def main():
        one, other = netnet.socketpair()
        channel = Channel()
        with other:
            task = netnet.spawn(choose, one, channel)
            wait_all_parked()
            one.close()
            with pytest.raises(ClosedError):
                task.result()
        assert not line_of(channel)

    run(main)


def test_two_readers_of_a_stream(run):
    def main():
        one, other = netnet.socketpair()
        channel = Channel()
        with one, other:
            reader = netnet.spawn(one.recv, 1)
            wait_all_parked()
            with pytest.raises(BusyError):
                choose(channel, one)
            assert not line_of(channel)
            other.sendall(b"x")
            assert reader.result() == b"x"

    run(main)


def test_times(virtual):
    def main():
        assert choose(Event(), Elapsed(5), Elapsed(3)) == (2, None)
        assert netnet.now() == 3
        assert choose(Elapsed(4)) == (0, None)
        assert netnet.now() == 7
        assert choose(Event(), Elapsed(-1)) == (1, None)
        assert choose(Event(), Elapsed(math.inf), Elapsed(1)) == (2, None)
        assert netnet.now() == 8
        assert choose(_filled(), Elapsed(0)) == (0, "item")
        assert netnet.current_loop().timers.next_instant() is None
        with pytest.raises(ValueError):
            choose(Event(), Elapsed(math.nan))

    virtual(main)


@pytest.mark.parametrize("item", [None, False, 0, NotImplemented, ()])
def test_any_object(run, item):
    def main():
        channel = Channel()
        task = netnet.spawn(choose, channel, Event())
        wait_all_parked()
        channel.send(item)
        assert task.result() == (0, item)
        task = netnet.spawn(choose, Sending(channel, item), Event())
        wait_all_parked()
        assert channel.receive() is item
        assert task.result() == (0, None)

    run(main)


def test_a_case_twice(run):
    def main():
        channel, event = Channel(), Event()
        task = netnet.spawn(choose, channel, channel, event, event)
        wait_all_parked()
        channel.send(1)
        assert task.result().value == 1
        assert not line_of(channel)
        assert not event.lot.waiting

    run(main)


def test_nobody_deals_with_himself(run):
    """Both ends of one channel among the cases of one call: that waits for somebody else."""

    def main():
        channel = Channel()
        task = netnet.spawn(choose, channel, Sending(channel, "own"))
        wait_all_parked()
        assert not task.done
        assert channel.receive() == "own"
        assert task.result() == (1, None)
        task = netnet.spawn(choose, Sending(channel, "own"), channel)
        wait_all_parked()
        channel.send("other")
        assert task.result() == (1, "other")

    run(main)


def test_two_that_choose_the_same_ends_meet(run):
    def main():
        channel = Channel()
        tasks = [netnet.spawn(choose, channel, Sending(channel, number)) for number in range(2)]
        wait_all_parked()
        assert sorted(task.result().which for task in tasks) == [0, 1]
        assert not line_of(channel)

    run(main)


# -- closing


@pytest.mark.parametrize("when", ["before", "while it waits"])
@pytest.mark.parametrize("side", ["receive", "send"])
def test_a_closed_channel(run, when, side):
    def main():
        channel, other = Channel(), Channel()
        case = channel if side == "receive" else Sending(channel, 1)
        if when == "before":
            channel.close()
        task = netnet.spawn(choose, other, case)
        wait_all_parked()
        channel.close()
        with pytest.raises(ChannelClosedError) as caught:
            task.result()
        assert caught.value.channel is channel
        assert not line_of(other)
        assert nothing_is_kept()

    run(main)


def test_a_closed_channel_that_still_has_something(run):
    def main():
        channel = _filled()
        channel.close()
        assert choose(Event(), channel) == (1, "item")

    run(main)


# -- only one happens


def test_the_others_keep_theirs(run):
    def main():
        channels = [Channel(1) for _ in range(4)]
        for number, channel in enumerate(channels):
            channel.send(number)
        chosen = choose(*channels)
        assert chosen.which == chosen.value
        assert [len(channel) for channel in channels] == [int(number != chosen.which) for number in range(4)]

    run(main)


def test_two_givers_in_the_same_turn(run):
    """The choice is made by the first; the second one's item stays with him."""

    def main():
        a, b, event = Channel(), Channel(), Event()
        task = netnet.spawn(choose, a, b, event)
        wait_all_parked()
        assert b.send_now("b") is True
        assert a.send_now("a") is False
        event.set()
        assert task.result() == (1, "b")
        assert not (line_of(a))
        assert not (line_of(b))
        assert not (event.lot.waiting)

    run(main)


def test_a_choice_that_was_made_does_not_hold_up_those_behind_it(run):
    def main():
        a, b = Channel(), Channel()
        chooser = netnet.spawn(choose, a, b)
        wait_all_parked()
        behind = netnet.spawn(b.receive)
        wait_all_parked()
        a.send_now(1)
        assert b.send_now(2) is True
        assert chooser.result() == (0, 1)
        assert behind.result() == 2

    run(main)


def test_choices_on_both_sides(virtual):
    """Many choose among all channels, as givers or as takers: what was given is what was taken, once each."""

    def main():
        dice = random.Random(11)
        channels = [Channel(capacity) for capacity in (0, 0, 1, 2)]
        given, taken, stop = [], [], Event()

        def giver(who):
            for part in range(6):
                item = (who, part)
                picked = dice.sample(channels, dice.randrange(1, 4))
                which, _ = choose(*[Sending(channel, item) for channel in picked], Elapsed(dice.randrange(1, 4)))
                if which < len(picked):
                    given.append(item)
                netnet.sleep(dice.randrange(2))

        def taker():
            while True:
                picked = dice.sample(channels, dice.randrange(1, 5))
                which, item = choose(*picked, stop, Elapsed(dice.randrange(1, 4)))
                if which == len(picked):
                    return
                if which < len(picked):
                    taken.append(item)

        givers = [netnet.spawn(giver, number) for number in range(30)]
        takers = [netnet.spawn(taker) for _ in range(20)]
        for task in [*givers, *takers[:10]]:
            netnet.sleep(dice.randrange(2))
            if dice.random() < 0.4:
                task.cancel()
        for task in givers:
            task.join()
        stop.set()
        for task in takers:
            task.join()
            assert task.error is None or isinstance(task.error, Cancelled)
        for channel in channels:
            taken += channel.items
            assert not line_of(channel)
        assert Counter(given) == Counter(taken)
        assert nothing_is_kept()

    virtual(main)


def test_an_item_that_comes_while_a_choice_is_given_up(run):
    """Another case turns out to be wrong: then nothing may be taken, not even in the instant before that is told."""

    def main():
        channel = Channel()
        one, other = netnet.socketpair()
        with one, other:
            reader = netnet.spawn(one.recv, 1)
            wait_all_parked()
            sent = []

            def look(frame, event, argument):
                """After the lines under the mutex, when the choice leaves the queues: another thread's turn may come."""
                if event == "call" and frame.f_code.co_name == "withdraw" and not sent:
                    sent.append(channel.send_now("item"))

            sys.setprofile(look)
            try:
                with pytest.raises(BusyError):
                    choose(channel, one)
            finally:
                sys.setprofile(None)
            assert sent == [False], "it was taken, and is lost"
            other.sendall(b"x")
            reader.join()

    for _ in range(2):  # the order of the cases rotates
        run(main)


# -- each gets its turn


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_no_case_is_left_out(run, calls):
    """Two channels that always have something, in a loop that makes one, two or three such calls each time."""

    def main():
        pairs = [(Channel(math.inf), Channel(math.inf)) for _ in range(calls)]
        for pair in pairs:
            for channel in pair:
                for number in range(400):
                    channel.send_now(number)
        counts = [Counter() for _ in pairs]
        for _ in range(200):
            for count, pair in zip(counts, pairs, strict=True):
                count[choose(*pair).which] += 1
        for count in counts:
            assert min(count[0], count[1]) > 20

    run(main)


def test_no_case_is_left_out_in_tasks_that_take_turns(run):
    def main():
        data, stop = Channel(math.inf), Event()
        for number in range(1000):
            data.send_now(number)
        stop.set()
        stopped = []

        def work():
            for _ in range(100):
                if choose(data, stop).which == 1:
                    stopped.append(1)
                    return
                netnet.sleep(0)

        tasks = [netnet.spawn(work) for _ in range(2)]
        for task in tasks:
            task.join()
        assert len(stopped) == 2

    run(main)


# -- cancelled, in a thread, in reports


@pytest.mark.parametrize("cases", ["channel", "event", "socket", "time", "task", "all"])
def test_a_cancelled_choice_stands_nowhere(run, cases):
    def main():
        channel, event, sleeper = Channel(), Event(), netnet.spawn(netnet.sleep, 1000)
        one, other = netnet.socketpair()
        table = {"channel": channel, "event": event, "socket": one, "time": Elapsed(1000), "task": sleeper}
        with one, other:
            task = netnet.spawn(choose, *(table.values() if cases == "all" else [table[cases]]))
            wait_all_parked()
            task.cancel()
            task.join()
            assert isinstance(task.error, Cancelled)
            assert not line_of(channel)
            assert not event.lot.waiting
            assert not sleeper.joiners().waiting
            reader = netnet.spawn(one.recv, 1)
            wait_all_parked()
            other.sendall(b"x")
            assert reader.result() == b"x"
            sleeper.cancel()

    run(main)


def test_a_timeout_around_a_choice(virtual):
    def main():
        channel = Channel()
        with pytest.raises(TimeoutError):
            with netnet.timeout(3):
                choose(channel, Elapsed(5))
        assert netnet.now() == 3
        assert not line_of(channel)

    virtual(main)


def test_a_report_of_a_choice():
    def main():
        choose(Channel(), Event(), Elapsed(math.inf))

    with pytest.raises(DeadlockError, match="the first of something in a channel, an event to be set"):
        netnet.run(main)


def test_a_report_says_what_the_cases_are():
    """Otherwise one cannot tell one choice from another."""

    def main():
        choose(Channel(), Event())

    with pytest.raises(DeadlockError) as caught:
        netnet.run(main)
    assert "a channel" in str(caught.value)
    assert "an event" in str(caught.value)


def test_in_a_thread_without_a_loop():
    channel = _filled()
    assert choose(Event(), channel) == (1, "item")
    assert choose(Event(), Elapsed(0.01)) == (1, None)
    with pytest.raises(UsageError):
        choose(channel)
    one, other = std.socketpair()
    with one, other, pytest.raises(UsageError):
        choose(channel, one)
    assert not line_of(channel)


@pytest.mark.parametrize("side", ["taking", "giving"])
def test_queues_keep_their_books(run, side):
    """What goes into a queue by a choice counts as any other item, or is refused."""

    def main():
        line = Queue()
        if side == "taking":
            line.put(1)
            assert choose(line, Event()) == (0, 1)
            line.task_done()
            line.join()
            return
        try:
            choose(Sending(line, 1), Event())
        except TypeError:
            return
        assert line.unfinished_tasks == 1
        assert line.get() == 1
        line.task_done()
        line.join()

    run(main)


# -- a listener and a stop signal: the usual server


def _connect(listener):
    client = std.socket()
    client.connect(listener.getsockname())
    return client


@pytest.mark.parametrize("who", ["sent in the same batch", "cancelled in the same turn"])
def test_a_connection_that_a_choice_did_not_take_wakes_the_next_acceptor(run, backend, who):
    """A choice stands first at the listener, another task second; then something else comes of the choice."""

    def main():
        channel = Channel()
        one, other = netnet.socketpair()
        with netnet.listen("127.0.0.1:0") as listener, one, other:
            first = netnet.spawn(choose, channel, listener)
            wait_all_parked()
            second = netnet.spawn(listener.accept)
            wait_all_parked()

            def divert():
                one.recv(1)
                if who.startswith("sent"):
                    channel.send_now("stop")
                else:
                    first.cancel()

            reader = netnet.spawn(divert)
            wait_all_parked()
            other.sendall(b"x")  # both events are there before the loop looks
            client = _connect(listener)
            with client:
                reader.join()
                first.join()
                wait_all_parked()
                assert second.done, "a connection waits, and so does the task that would accept it"
                second.result()[0].close()

    run(main)


def test_a_server_loop(run, backend):
    def main():
        stop, served = Event(), []

        def serve(listener):
            while True:
                which, _ = choose(listener, stop)
                if which == 1:
                    return
                conn, _ = listener.accept()
                with conn:
                    served.append(conn.recv(10))

        with netnet.listen("127.0.0.1:0") as listener:
            server = netnet.spawn(serve, listener)
            for number in range(3):
                wait_all_parked()
                with _connect(listener) as client:
                    client.send(b"%d" % number)
                    while len(served) == number:
                        netnet.sleep(0)
            stop.set()
            server.result()
        assert served == [b"0", b"1", b"2"]

    run(main)


# -- nothing is left


def test_an_item_that_was_chosen_is_kept_by_nobody(run):
    def main():
        channel = Channel()
        with Collected():
            task = netnet.spawn(lambda: weakref.ref(choose(channel, Event(), Elapsed(1000)).value))
            wait_all_parked()
            channel.send(Item())
            task.join()
            assert task.value() is None
            assert nothing_is_kept()

    run(main)


def test_an_item_that_was_not_sent_is_kept_by_nobody(run):
    def main():
        channel = Channel()
        with Collected():
            item = Item()
            reference = weakref.ref(item)
            assert choose(Sending(channel, item), Elapsed(0.001)) == (1, None)
            del item
            assert reference() is None

    run(main)


@pytest.mark.parametrize("how", ["first", "second", "event", "elapsed"])
def test_a_choice_leaves_no_garbage(virtual, how):
    def main():
        def once():
            a, b, event = Channel(), Channel(), Event()
            task = netnet.spawn(choose, a, Sending(b, 1), event, Elapsed(5))
            wait_all_parked()
            if how == "first":
                a.send(1)
            elif how == "second":
                b.receive()
            elif how == "event":
                event.set()
            return task.result().which

        once()
        collected = Collected()
        with collected:
            once()
            assert once() == ["first", "second", "event", "elapsed"].index(how)
        assert collected.found == 0

    virtual(main)
    assert gc.isenabled()
