"""The works on gevent. Its ``Queue`` holds one item at least; what hands over without holding is its ``Channel``."""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import gevent
import gevent.socket
from gevent.queue import Channel, Queue

#: greenlets that are spawned before the first is joined
BATCH = 100

#: turns in which all that was spawned must have begun
TURNS_MAX = 10

#: sleepers at once, and the longest that they sleep
WIDTH = 1000
SLEEP_SECONDS_MAX = 0.01

#: how long those sleep that do so again and again
SHORT_SECONDS = 0.0001

#: how long timers are set that never fire
LENGTHS_SECONDS = 60, 3600

#: bytes that are put into a pair of sockets at once, to be received one by one; its buffer holds more
AHEAD = 16_384


def nothing() -> None:
    """The empty greenlet."""


def single(count: int) -> None:
    for _ in range(count):
        gevent.spawn(nothing).join()


def batches(count: int) -> None:
    for done in range(0, count, BATCH):
        tasks = [gevent.spawn(nothing) for _ in range(min(BATCH, count - done))]
        for task in tasks:
            task.join()


def turns(count: int) -> None:
    def one() -> None:
        for _ in range(count):
            gevent.sleep(0)

    first, second = gevent.spawn(one), gevent.spawn(one)
    first.join()
    second.join()


def sleeps(count: int, seed: int) -> None:
    chance = random.Random(seed)
    for done in range(0, count, WIDTH):
        lengths = [chance.uniform(0, SLEEP_SECONDS_MAX) for _ in range(min(WIDTH, count - done))]
        tasks = [gevent.spawn(gevent.sleep, length) for length in lengths]
        for task in tasks:
            task.join()


def beside_timers(
    some: Callable[[int, random.Random], None],
    count: int,
    stopwatch: AbstractContextManager[object],
    standing: int,
    seed: int,
) -> None:
    """Lets *some* do its work while so many timers stand: a tenth of it to warm up, then what counts."""
    chance = random.Random(seed)
    others = [gevent.spawn_later(chance.uniform(*LENGTHS_SECONDS), nothing) for _ in range(standing)]
    some(count // 10, chance)
    with stopwatch:
        some(count, chance)
    for other in others:
        other.kill()


def set_and_cancel(count: int, chance: random.Random) -> None:
    lengths = [chance.uniform(*LENGTHS_SECONDS) for _ in range(BATCH)]
    for done in range(0, count, BATCH):
        for length in lengths[: count - done]:
            gevent.spawn_later(length, nothing).kill()
        gevent.sleep(0)


def short_sleeps(count: int, chance: random.Random) -> None:
    def one() -> None:
        for _ in range(count // BATCH):
            gevent.sleep(SHORT_SECONDS)

    tasks = [gevent.spawn(one) for _ in range(BATCH)]
    for task in tasks:
        task.join()


def sleepers(count: int, pause: Callable[[str], None]) -> int:
    asleep = woken = 0

    def one() -> None:
        nonlocal asleep, woken
        asleep += 1
        try:
            gevent.sleep(3600)
        finally:
            woken += 1

    gevent.spawn(nothing).join()
    pause("ready")
    tasks = [gevent.spawn(one) for _ in range(count)]
    for _ in range(TURNS_MAX):
        gevent.sleep(0)
    if asleep < count:
        raise RuntimeError(f"only {asleep} of {count} fell asleep")
    pause("asleep")
    gevent.killall(tasks)
    return woken


def receive(count: int) -> None:
    ours, theirs = gevent.socket.socketpair()
    with ours, theirs:
        for done in range(0, count, AHEAD):
            ready = min(AHEAD, count - done)
            theirs.sendall(bytes(ready))
            for _ in range(ready):
                ours.recv(1)


def receive_in_timeout(count: int) -> None:
    ours, theirs = gevent.socket.socketpair()
    with ours, theirs:
        for done in range(0, count, AHEAD):
            ready = min(AHEAD, count - done)
            theirs.sendall(bytes(ready))
            for _ in range(ready):
                with gevent.Timeout(5):
                    ours.recv(1)


def timeout(count: int) -> None:
    for _ in range(count):
        with gevent.Timeout(5):
            pass


def channel(count: int, capacity: int) -> None:
    items = Queue(capacity) if capacity else Channel()

    def send() -> None:
        for item in range(count):
            items.put(item)

    sender = gevent.spawn(send)
    for _ in range(count):
        items.get()
    sender.join()


WORKS: dict[str, Callable[..., None]] = {
    "single": single,
    "batches": batches,
    "turns": turns,
    "sleeps": sleeps,
    "receive": receive,
    "receive_in_timeout": receive_in_timeout,
    "timeout": timeout,
    "channel": channel,
}

PREPARED: dict[str, Callable[..., None]] = {
    "set_and_cancel": partial(beside_timers, set_and_cancel),
    "short_sleeps": partial(beside_timers, short_sleeps),
}

HOLDING: dict[str, Callable[..., int]] = {"sleepers": sleepers}
