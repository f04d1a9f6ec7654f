"""Channels: in order, each item once, whoever sends, receives, closes or is cancelled; against a model in one task, and with
many senders and receivers."""

from __future__ import annotations

import math
import random
from collections import Counter, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import netnet
from netnet import Cancelled, Channel, ChannelClosedError, DeadlockError, Event
from netnet.runtime import from_thread
from netnet.testing import wait_all_parked
from tests.runtime.test_sync import nothing_is_kept

CAPACITIES = [0, 1, 3, math.inf]
capacities = pytest.mark.parametrize("capacity", CAPACITIES)


@capacities
def test_in_order(run, capacity):
    def main():
        channel, got = Channel(capacity), []

        def sender():
            with channel:
                for number in range(200):
                    channel.send(number)

        task = netnet.spawn(sender)
        got += channel
        task.result()
        assert got == list(range(200))
        assert channel.closed
        assert not (channel.takers)
        assert not (channel.givers)
        assert not (len(channel))

    run(main)


@pytest.mark.parametrize("capacity", [-1, 1.5, math.nan, -math.inf, True, "1", None])
def test_capacities_that_are_none(capacity):
    with pytest.raises((ValueError, TypeError)):
        Channel(capacity)


def test_without_room_a_send_is_over_when_its_item_was_received(run):
    def main():
        channel, order = Channel(), []
        task = netnet.spawn(lambda: (order.append("send"), channel.send(1), order.append("sent")))
        wait_all_parked()
        assert order == ["send"]
        assert channel.receive() == 1
        task.result()
        assert order == ["send", "sent"]

    run(main)


@pytest.mark.parametrize("capacity", [1, 3])
def test_with_room_it_waits_when_that_is_used_up(run, capacity):
    def main():
        channel = Channel(capacity)
        for number in range(capacity):
            channel.send(number)
            assert len(channel) == number + 1
        assert channel.send_now("no") is False
        task = netnet.spawn(channel.send, capacity)
        wait_all_parked()
        assert not task.done
        assert [channel.receive() for _ in range(capacity + 1)] == list(range(capacity + 1))
        task.result()

    run(main)


def test_without_limit_it_never_waits(run):
    def main():
        channel = Channel(math.inf)
        for number in range(1000):
            channel.send(number)
        channel.close()
        assert list(channel) == list(range(1000))

    run(main)


@pytest.mark.parametrize(
    "item", [None, False, 0, NotImplemented, Ellipsis, (), StopIteration(), ChannelClosedError("")]
)
def test_any_object_can_be_sent(run, item):
    """Also one that looks like the end, to a waiting receiver, through a sender that waits, and by way of the room."""

    def main():
        channel, roomy = Channel(), Channel(1)
        receiver = netnet.spawn(channel.receive)
        wait_all_parked()
        channel.send(item)
        assert receiver.result() is item
        sender = netnet.spawn(channel.send, item)
        wait_all_parked()
        assert channel.receive() is item
        sender.result()
        roomy.send(item)
        assert roomy.receive() is item

    run(main)


@capacities
def test_receivers_are_served_in_order(run, capacity):
    def main():
        channel, got = Channel(capacity), []
        for number in range(5):
            netnet.spawn(lambda number=number: got.append((number, channel.receive())))
        wait_all_parked()
        for number in range(5):
            assert channel.send_now(number)
        assert channel.send_now("for nobody") is (capacity > 0)
        wait_all_parked()
        assert got == [(number, number) for number in range(5)]

    run(main)


@pytest.mark.parametrize("capacity", [0, 1, 3])
def test_senders_are_served_in_order(run, capacity):
    def main():
        channel = Channel(capacity)
        for number in range(8):
            netnet.spawn(channel.send, number)
        wait_all_parked()
        assert channel.send_now("newcomer") is False
        assert [channel.receive() for _ in range(8)] == list(range(8))

    run(main)


def test_a_newcomer_does_not_take_what_was_given_to_another_one(run):
    def main():
        channel, got = Channel(math.inf), []
        netnet.spawn(lambda: got.append(("first", channel.receive())))
        wait_all_parked()
        channel.send(1)
        assert len(channel) == 0
        newcomer = netnet.spawn(lambda: got.append(("newcomer", channel.receive())))
        channel.send(2)
        newcomer.result()
        assert got == [("first", 1), ("newcomer", 2)]

    run(main)


@pytest.mark.parametrize("capacity", [0, 1, math.inf])
def test_a_busy_pair_lets_the_others_run(run, capacity):
    def main():
        channel, others, stop = Channel(capacity), [], []

        def sender():
            while not stop:
                channel.send(1)

        def receiver():
            while not stop:
                channel.receive()

        netnet.spawn(sender)
        netnet.spawn(receiver)
        for _ in range(5):
            netnet.sleep(0)
            others.append(1)
        stop.append(1)
        channel.close(discard=True)
        for task in netnet.current_loop().tasks():
            if task is not netnet.current_task():
                task.join()
                if task.failure is not None:
                    task.failure.seen = True

    run(main)


# -- closing


@capacities
def test_what_is_held_can_still_be_received(run, capacity):
    def main():
        channel = Channel(capacity)
        sent = [number for number in range(3) if channel.send_now(number)]
        channel.close()
        channel.close()
        for call in (lambda: channel.send(1), lambda: channel.send_now(1)):
            with pytest.raises(ChannelClosedError) as caught:
                call()
            assert caught.value.channel is channel
        assert list(channel) == sent
        assert list(channel) == []
        with pytest.raises(ChannelClosedError) as caught:
            channel.receive()
        assert caught.value.channel is channel
        assert isinstance(caught.value, EOFError)

    run(main)


@pytest.mark.parametrize("discard", [False, True])
@capacities
def test_closing_while_receivers_wait(run, capacity, discard):
    def main():
        channel = Channel(capacity)
        tasks = [netnet.spawn(channel.receive) for _ in range(3)]
        lists = netnet.spawn(list, channel)
        wait_all_parked()
        channel.close(discard=discard)
        for task in tasks:
            with pytest.raises(ChannelClosedError):
                task.result()
        assert lists.result() == []
        assert nothing_is_kept()

    run(main)


@pytest.mark.parametrize("discard", [False, True])
@pytest.mark.parametrize("capacity", [0, 1, 3])
def test_closing_while_senders_wait(run, capacity, discard):
    """Each sender knows: its item was taken, or it was not."""

    def main():
        channel, outcomes = Channel(capacity), {}

        def sender(number):
            try:
                channel.send(number)
                outcomes[number] = "sent"
            except ChannelClosedError:
                outcomes[number] = "closed"

        for number in range(6):
            netnet.spawn(sender, number)
        wait_all_parked()
        got = [channel.receive()]
        channel.close(discard=discard)
        wait_all_parked()
        got += channel
        kept = capacity if not discard else 0
        assert got == list(range(1 + kept))
        assert outcomes == {number: "sent" if number < 1 + capacity else "closed" for number in range(6)}
        assert nothing_is_kept()

    run(main)


@pytest.mark.parametrize(
    "order", ["send close", "close send", "send cancel close", "cancel send close", "close cancel"]
)
def test_closing_in_the_turn_in_which_a_receiver_is_served(run, order):
    def main():
        channel, got = Channel(1), []

        def receiver():
            try:
                got.append(channel.receive())
            except ChannelClosedError:
                got.append("closed")

        task = netnet.spawn(receiver)
        wait_all_parked()
        sent = 0
        for action in order.split():
            if action == "send":
                try:
                    sent += channel.send_now("item")
                except ChannelClosedError:
                    assert channel.closed
            elif action == "cancel":
                task.cancel()
            else:
                channel.close()
        task.join()
        assert got.count("item") + len(channel) == sent
        if not got:
            assert isinstance(task.error, Cancelled)

    run(main)


def test_leaving_the_with_statement_closes(run):
    def main():
        with pytest.raises(KeyError), Channel() as channel:
            raise KeyError
        assert channel.closed

    run(main)


def test_without_a_loop():
    channel = Channel(2)
    channel.send(1)
    assert channel.send_now(2)
    assert not channel.send_now(3)
    assert channel.receive() == 1
    channel.close()
    assert list(channel) == [2]
    assert channel
    assert "closed" in repr(channel)


def test_a_report_says_on_which_side():
    def main():
        channel = Channel()
        netnet.spawn(channel.receive)
        wait_all_parked()
        other = Channel()
        other.send(1)

    with pytest.raises(DeadlockError) as caught:
        netnet.run(main)
    assert "something in a channel" in str(caught.value)
    assert "room in a channel" in str(caught.value)


def test_from_a_thread_of_to_thread(run):
    """A function in a thread sends and receives without knowing a loop."""

    def main():
        there, back = Channel(), Channel(2)

        def work():
            for number in there:
                back.send(number * number)
            back.close()

        task = netnet.spawn(netnet.to_thread, work)
        netnet.spawn(lambda: ([there.send(number) for number in range(20)], there.close()))
        assert list(back) == [number * number for number in range(20)]
        task.result()
        assert netnet.to_thread(from_thread.run, lambda: back.closed)

    run(main)


# -- many at once


@capacities
@pytest.mark.parametrize("seed", range(3))
def test_many_senders_and_receivers_that_are_cancelled_at_random(virtual, capacity, seed):
    """Each item is received once, if its sender was told that it was sent; else never."""

    def main():
        dice, channel = random.Random(seed), Channel(capacity)
        sent, got = [], []

        def sender(number):
            for part in range(5):
                try:
                    with netnet.timeout(dice.randrange(1, 6)):
                        channel.send((number, part))
                        sent.append((number, part))
                except TimeoutError:
                    pass
                netnet.sleep(dice.randrange(3))

        def receiver():
            while True:
                try:
                    with netnet.timeout(dice.randrange(1, 6)):
                        got.append(channel.receive())
                except TimeoutError:
                    pass
                except ChannelClosedError:
                    return
                netnet.sleep(dice.randrange(3))

        senders = [netnet.spawn(sender, number) for number in range(30)]
        receivers = [netnet.spawn(receiver) for _ in range(20)]
        for task in [*senders, *receivers[:15]]:
            netnet.sleep(dice.randrange(2))
            if dice.random() < 0.4:
                task.cancel()
        for task in senders:
            task.join()
        channel.close()
        got += channel
        for task in receivers:
            task.join()
        assert Counter(got) == Counter(sent)
        assert nothing_is_kept()

    virtual(main)


class Model:
    """What a channel is: items, those who give, those who take, and what became of each."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.items = deque()
        self.givers = deque()
        self.takers = deque()
        self.closed = False
        self.outcomes = {}

    def send(self, who, item):
        if self.closed:
            self.outcomes[who] = "closed"
        elif self.takers:
            self.outcomes[self.takers.popleft()] = item
            self.outcomes[who] = "sent"
        elif len(self.items) < self.capacity:
            self.items.append(item)
            self.outcomes[who] = "sent"
        else:
            self.givers.append((who, item))

    def receive(self, who):
        if self.items:
            self.outcomes[who] = self.items.popleft()
            if self.givers:
                giver, item = self.givers.popleft()
                self.items.append(item)
                self.outcomes[giver] = "sent"
        elif self.givers:
            giver, self.outcomes[who] = self.givers.popleft()
            self.outcomes[giver] = "sent"
        elif self.closed:
            self.outcomes[who] = "closed"
        else:
            self.takers.append(who)

    def close(self, discard):
        self.closed = True
        for who, _ in self.givers:
            self.outcomes[who] = "closed"
        for who in self.takers:
            self.outcomes[who] = "closed"
        self.givers.clear()
        self.takers.clear()
        if discard:
            self.items.clear()

    def cancel(self, who):
        before = len(self.givers) + len(self.takers)
        self.givers = deque(entry for entry in self.givers if entry[0] != who)
        self.takers = deque(entry for entry in self.takers if entry != who)
        if len(self.givers) + len(self.takers) < before:
            self.outcomes[who] = "cancelled"


def _walk(capacity, steps):
    channel, model, tasks, told = Channel(capacity), Model(capacity), [], {}

    def send(who):
        try:
            channel.send(("item", who))
            told[who] = "sent"
        except ChannelClosedError:
            told[who] = "closed"
        except Cancelled:
            told[who] = "cancelled"
            raise

    def receive(who):
        try:
            told[who] = channel.receive()
        except ChannelClosedError:
            told[who] = "closed"
        except Cancelled:
            told[who] = "cancelled"
            raise

    for step, number in steps:
        who = len(tasks)
        if step == "send":
            tasks.append(netnet.spawn(send, who, eager=True))
            model.send(who, ("item", who))
        elif step == "receive":
            tasks.append(netnet.spawn(receive, who, eager=True))
            model.receive(who)
        elif step == "cancel" and tasks:
            tasks[number % len(tasks)].cancel()
            model.cancel(number % len(tasks))
        elif step == "send now":
            try:
                if channel.send_now("now"):
                    model.send("now", "now")
            except ChannelClosedError:
                assert model.closed
        elif step in ("close", "discard") and number % 5 == 0:
            channel.close(discard=step == "discard")
            model.close(step == "discard")
        elif step == "rest":
            wait_all_parked()
            assert told == {who: how for who, how in model.outcomes.items() if who != "now"}
        assert list(channel.items) == list(model.items)
        assert (len(channel.givers), len(channel.takers)) == (len(model.givers), len(model.takers))
    wait_all_parked()
    assert told == {who: how for who, how in model.outcomes.items() if who != "now"}
    for task in tasks:
        task.cancel()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["send", "receive", "send", "receive", "cancel", "send now", "close", "discard", "rest", "rest"]
        ),
        st.integers(0, 30),
    ),
    max_size=40,
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(CAPACITIES), STEPS)
def test_against_a_model(capacity, steps):
    """Whatever is done to a channel in whatever order: each wait ends as the model says, and only then."""
    netnet.run(_walk, capacity, steps)


def test_a_channel_of_channels(run):
    """Answers come back through what was sent: the usual way to ask somebody for something."""

    def main():
        requests, stop = Channel(), Event()

        def server():
            for number, answer in requests:
                answer.send(number + 1)
            stop.set()

        netnet.spawn(server)
        for number in range(10):
            answer = Channel(1)
            requests.send((number, answer))
            assert answer.receive() == number + 1
        requests.close()
        stop.wait()

    run(main)
