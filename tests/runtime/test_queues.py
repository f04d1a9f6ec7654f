"""Queues in the shape of the standard library's: the interpreter's own tests (``test.test_queue``), with threads and with a
task for each thread; then what only these queues promise: fairness, cancellation, shutting down, and a model."""

from __future__ import annotations

import heapq
import math
import queue
import random
import sys
import unittest
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import netnet
from netnet import Cancelled, DeadlockError, LifoQueue, PriorityQueue, Queue
from netnet.runtime.queues import ShutDown
from netnet.testing import wait_all_parked
from tests.runtime.test_locks import outcomes, standard, task_names
from tests.runtime.test_sync import nothing_is_kept

KINDS = [Queue, LifoQueue, PriorityQueue]
kinds = pytest.mark.parametrize("kind", KINDS)

# -- the interpreter's own tests

#: the classes that are run. The others do not hold here: those of ``SimpleQueue``, which there is not, and those of
#: a queue whose ``_put`` and ``_get``, which the standard classes call inside, are overridden.
CLASSES = ["QueueTest", "LifoQueueTest", "PriorityQueueTest"]


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="the tests of CPython")
@pytest.mark.parametrize("where", ["in threads", "in tasks"])
@pytest.mark.parametrize("name", CLASSES)
def test_the_standard_tests(name, where):
    inside = where == "in tasks"
    module = standard("test_queue", **(_in_tasks() if inside else {}))
    if inside:
        trigger = module._TriggerThread
        trigger.start = lambda self: setattr(self, "task", netnet.spawn(self.run))
        trigger.join = lambda self, timeout=None: self.task.join()
    ours = SimpleNamespace(
        Queue=Queue, LifoQueue=LifoQueue, PriorityQueue=PriorityQueue, Empty=queue.Empty, Full=queue.Full
    )
    case = type(name, (getattr(module, name), unittest.TestCase), {"__module__": "standard", "queue": ours})
    ended = outcomes([case], inside, {})
    assert len(ended) >= 6
    wrong = {test: how for test, how in ended.items() if how != "ok"}
    assert wrong == {}, "\n".join(wrong.values())


def _in_tasks():
    names = task_names()
    return {name: names[name] for name in ("threading", "time", "threading_helper")}


# -- what differs between the kinds


@kinds
def test_the_order(run, kind):
    def main():
        line = kind()
        for number in (3, 1, 2):
            line.put(number)
        assert line.qsize() == 3
        got = [line.get() for _ in range(3)]
        assert got == {Queue: [3, 1, 2], LifoQueue: [2, 1, 3], PriorityQueue: [1, 2, 3]}[kind]
        assert line.empty()

    run(main)


@kinds
def test_the_order_with_putters_that_wait(run, kind):
    """What a waiting ``put`` brings is in the queue as soon as there is room, and not before."""

    def main():
        line = kind(2)
        for number in (5, 4):
            line.put(number)
        for number in (3, 2, 1):
            netnet.spawn(line.put, number)
        wait_all_parked()
        assert line.full()
        got = [line.get() for _ in range(5)]
        assert got == {Queue: [5, 4, 3, 2, 1], LifoQueue: [4, 3, 2, 1, 5], PriorityQueue: [4, 3, 2, 1, 5]}[kind]
        assert line.unfinished_tasks == 5

    run(main)


def test_an_item_that_cannot_be_compared_is_its_putters_fault(run):
    """Its ``put`` raises, wherever it was waiting; who takes another item gets that item, and nothing is lost."""

    def main():
        line = PriorityQueue(2)
        line.put(1)
        line.put(5)
        putter = netnet.spawn(line.put, "neither more nor less")
        wait_all_parked()
        got = netnet.spawn(line.get)
        wait_all_parked()
        assert got.done
        assert got.result() == 1
        assert putter.done, "it waits for ever"
        with pytest.raises(TypeError):
            putter.result()
        assert line.get() == 5

    run(main)


def test_an_item_that_cannot_be_compared_does_not_reach_a_waiting_getter_as_an_error(run):
    def main():
        line = PriorityQueue()
        getter = netnet.spawn(line.get)
        wait_all_parked()
        line.put(object())  # handed over, not compared with anything
        assert type(getter.result()) is object
        line.put(1)
        with pytest.raises(TypeError):
            line.put("x")

    run(main)


# -- the standard shape


@kinds
@pytest.mark.parametrize("size", [0, -1, 1, 3])
def test_sizes(run, kind, size):
    def main():
        line = kind(size)
        assert line.maxsize == size
        assert (line.empty(), line.full(), line.qsize()) == (True, False, 0)
        for number in range(size if size > 0 else 100):
            line.put_nowait(number)
        assert line.full() is (size > 0)
        if size > 0:
            with pytest.raises(queue.Full):
                line.put_nowait(1)

    run(main)


#: arguments → what ``get`` of an empty queue, or ``put`` into a full one, does; the same as in the standard library
REFUSALS = [
    ({"block": False}, "at once"),
    ({"block": False, "timeout": -1}, "at once"),
    ({"block": False, "timeout": 5}, "at once"),
    ({"timeout": 0}, "at once"),
    ({"timeout": 5}, "later"),
    ({"timeout": -1}, ValueError),
    ({"timeout": math.nan}, ValueError),
]


@pytest.mark.parametrize(("arguments", "outcome"), REFUSALS, ids=str)
@kinds
def test_refusals(virtual, kind, arguments, outcome):
    def main():
        line = kind(1)
        for call, refusal in ((line.get, queue.Empty), (lambda **options: line.put(1, **options), queue.Full)):
            begun = netnet.now()
            with pytest.raises(refusal if isinstance(outcome, str) else outcome):
                call(**arguments)
            assert netnet.now() - begun == (5 if outcome == "later" else 0)
            if refusal is queue.Empty:
                line.put(0)
        assert (line.qsize(), line.unfinished_tasks) == (1, 1)
        assert not (line.takers)
        assert not (line.givers)

    virtual(main)


# -- join


@kinds
def test_join(run, kind):
    def main():
        line, done = kind(2), []

        def worker():
            while True:
                line.get()
                netnet.sleep(0)
                done.append(1)
                line.task_done()

        line.join()
        workers = [netnet.spawn(worker) for _ in range(3)]
        for number in range(10):
            line.put(number)
        joiners = [netnet.spawn(line.join) for _ in range(2)]
        line.join()
        assert len(done) == 10
        for joiner in joiners:
            joiner.result()
        with pytest.raises(ValueError):
            line.task_done()
        assert line.unfinished_tasks == 0
        for task in workers:
            task.cancel()

    run(main)


@pytest.mark.parametrize("how", ["cancel", "time-out", "full"])
def test_a_put_that_did_not_happen_is_not_waited_for(virtual, how):
    def main():
        line = Queue(1)
        line.put(0)
        putter = netnet.spawn(_put, line, how)
        joiner = netnet.spawn(line.join)
        wait_all_parked()
        line.get()  # the putter's moves in, or is gone
        if how == "cancel":
            line.put_nowait(2) if not line.full() else None
        wait_all_parked()
        line.task_done()
        while not joiner.done:
            line.get()
            line.task_done()
            wait_all_parked()
        putter.join()
        assert line.unfinished_tasks == 0

        line.put(0)
        second = netnet.spawn(_put, line, how)
        joiner = netnet.spawn(line.join)
        wait_all_parked()
        if how == "cancel":
            second.cancel()
        else:
            netnet.sleep(6)
        second.join()
        assert line.get() == 0
        line.task_done()
        wait_all_parked()
        assert joiner.done
        assert (line.qsize(), line.unfinished_tasks) == (0, 0)

    virtual(main)


def _put(line, how):
    try:
        line.put(1, timeout=None if how == "cancel" else 5)
    except queue.Full:
        pass


def test_tasks_done_before_they_were_taken_do_not_upset_the_count(virtual):
    """More ``task_done`` than items in the queue are an error at once, whoever may be waiting to put one in."""

    def main():
        line = Queue(1)
        line.put(1)
        putter = netnet.spawn(_put, line, "time-out")
        wait_all_parked()
        line.task_done()
        with pytest.raises(ValueError):
            line.task_done()
        netnet.sleep(6)
        putter.join()
        assert line.unfinished_tasks == 0
        line.join()

    virtual(main)


# -- shutting down


@kinds
def test_shutting_down(run, kind):
    def main():
        line, told = kind(1), []
        line.put(1)

        def tell(name, call):
            try:
                call()
            except ShutDown:
                told.append(name)

        netnet.spawn(tell, "put", lambda: line.put(2))
        wait_all_parked()
        line.shutdown()
        line.shutdown()
        wait_all_parked()
        assert told == ["put"]
        assert line.unfinished_tasks == 1
        with pytest.raises(ShutDown):
            line.put(3)
        with pytest.raises(ShutDown):
            line.put_nowait(3)
        assert line.get() == 1
        for call in (line.get, line.get_nowait, lambda: line.get(timeout=1)):
            with pytest.raises(ShutDown):
                call()
        line.task_done()
        line.join()
        assert nothing_is_kept()

    run(main)


@kinds
def test_shutting_down_getters_that_wait(run, kind):
    def main():
        line = kind()
        tasks = [netnet.spawn(line.get) for _ in range(3)]
        wait_all_parked()
        line.shutdown()
        for task in tasks:
            with pytest.raises(ShutDown):
                task.result()

    run(main)


@kinds
def test_shutting_down_at_once_ends_the_joins(run, kind):
    def main():
        line = kind(3)
        for number in range(3):
            line.put(number)
        putter = netnet.spawn(line.put, 3)
        joiner = netnet.spawn(line.join)
        wait_all_parked()
        line.get()
        line.shutdown(immediate=True)
        with pytest.raises(ShutDown):
            line.get()
        wait_all_parked()
        assert putter.done
        assert not joiner.done, "one was taken, and is not done"
        line.task_done()
        joiner.result()
        assert line.unfinished_tasks == 0

    run(main)


def test_a_putter_whose_item_moved_in_was_not_shut_out(run):
    def main():
        line = Queue(1)
        line.put(1)
        putter = netnet.spawn(line.put, 2)
        wait_all_parked()
        assert line.get() == 1
        line.shutdown()
        putter.result()
        assert line.get() == 2

    run(main)


# -- fairness and reports


@kinds
def test_who_waited_first_gets_first(run, kind):
    def main():
        line, got = kind(), []
        for number in range(4):
            netnet.spawn(lambda number=number: got.append((number, line.get())))
        wait_all_parked()
        for number in (7, 3, 5, 1):
            line.put(number)
        late = netnet.spawn(line.get_nowait)
        wait_all_parked()
        assert got == [(0, 7), (1, 3), (2, 5), (3, 1)]
        assert late.done
        assert isinstance(late.error, queue.Empty)
        late.failure.seen = True

    run(main)


def test_reports():
    def main():
        line = Queue()
        netnet.spawn(line.get)
        line.put(1)
        wait_all_parked()
        line.unfinished_tasks = 1
        netnet.spawn(line.get)
        full = PriorityQueue(1)
        full.put(1)
        netnet.spawn(full.put, 1)
        line.join()

    with pytest.raises(DeadlockError) as caught:
        netnet.run(main)
    for phrase in ("something in a queue", "room in a priorityqueue", "everything in a queue to be done"):
        assert phrase in str(caught.value)


# -- many at once, and a model


@kinds
@pytest.mark.parametrize("size", [0, 1, 4])
@pytest.mark.parametrize("seed", range(2))
def test_random_cancelling_loses_nothing(virtual, kind, size, seed):
    def main():
        dice, line = random.Random(seed), kind(size)
        put, got = [], []

        def putter(number):
            for part in range(4):
                try:
                    line.put((number, part), timeout=dice.randrange(5))
                    put.append((number, part))
                except queue.Full:
                    pass
                netnet.sleep(dice.randrange(3))

        def getter():
            while True:
                try:
                    got.append(line.get(timeout=dice.randrange(5)))
                    line.task_done()
                except queue.Empty:
                    pass
                except ShutDown:
                    return
                netnet.sleep(dice.randrange(3))

        putters = [netnet.spawn(putter, number) for number in range(25)]
        getters = [netnet.spawn(getter) for _ in range(12)]
        for task in [*putters, *getters[:8]]:
            netnet.sleep(dice.randrange(2))
            if dice.random() < 0.4:
                task.cancel()
        for task in putters:
            task.join()
        while not line.empty():
            got.append(line.get_nowait())
            line.task_done()
        assert line.unfinished_tasks == 0
        line.shutdown()
        for task in getters:
            task.join()
            assert task.error is None or isinstance(task.error, Cancelled)
        assert Counter(got) == Counter(put)
        assert nothing_is_kept()

    virtual(main)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "get", "put", "get", "put now", "get now", "cancel", "done", "rest"]),
        st.integers(0, 30),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(KINDS), st.sampled_from([0, 1, 3]), STEPS)
def test_against_a_model(kind, size, steps):
    """Items are taken in the order of the kind, waits end in the order in which they began."""
    netnet.run(_walk, kind, size, steps)


def _walk(kind, size, steps):
    line, model, tasks, told = kind(size), _Model(kind, size), [], {}

    def attempt(who, call):
        try:
            told[who] = call()
        except Cancelled:
            told[who] = "cancelled"
            raise
        except (queue.Empty, queue.Full) as error:
            told[who] = type(error)

    for step, number in steps:
        who = len(tasks)
        if step in ("put", "put now"):
            model.put(who, number, step == "put")
            tasks.append(netnet.spawn(attempt, who, lambda n=number, s=step: line.put(n, s == "put"), eager=True))
        elif step in ("get", "get now"):
            model.get(who, step == "get")
            tasks.append(netnet.spawn(attempt, who, lambda s=step: line.get(s == "get"), eager=True))
        elif step == "cancel" and tasks:
            model.cancel(number % len(tasks))
            tasks[number % len(tasks)].cancel()
            wait_all_parked()
        elif step == "done":
            if model.taken_and_not_done():
                line.task_done()
                model.done += 1
        else:
            wait_all_parked()
            assert told == model.told
        assert line.qsize() == len(model.items)
        assert line.full() is (0 < size <= len(model.items))
    wait_all_parked()
    assert told == model.told
    for task in tasks:
        task.cancel()
    wait_all_parked()
    assert line.unfinished_tasks == model.put_in - model.done
    assert nothing_is_kept()


class _Model:
    def __init__(self, kind, size):
        self.kind, self.size = kind, size or math.inf
        self.items, self.putters, self.getters = [], [], []
        self.told = {}
        self.put_in = self.taken = self.done = 0

    def taken_and_not_done(self):
        return self.taken > self.done

    def _push(self, item):
        self.put_in += 1
        if self.kind is PriorityQueue:
            heapq.heappush(self.items, item)
        else:
            self.items.append(item)

    def _pop(self):
        if self.kind is PriorityQueue:
            return heapq.heappop(self.items)
        return self.items.pop(0 if self.kind is Queue else -1)

    def put(self, who, item, block):
        if self.getters:
            self.put_in += 1
            self.taken += 1
            self.told[self.getters.pop(0)] = item
            self.told[who] = None
        elif len(self.items) < self.size:
            self._push(item)
            self.told[who] = None
        elif block:
            self.putters.append((who, item))
        else:
            self.told[who] = queue.Full

    def get(self, who, block):
        if self.items:
            self.taken += 1
            self.told[who] = self._pop()
            if self.putters:
                putter, item = self.putters.pop(0)
                self._push(item)
                self.told[putter] = None
        elif block:
            self.getters.append(who)
        else:
            self.told[who] = queue.Empty

    def cancel(self, who):
        if who in self.getters or who in [one for one, _ in self.putters]:
            self.told[who] = "cancelled"
        self.getters = [one for one in self.getters if one != who]
        self.putters = [entry for entry in self.putters if entry[0] != who]
