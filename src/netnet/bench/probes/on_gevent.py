"""The works on gevent. Its ``Queue`` holds one item at least; what hands over without holding is its ``Channel``."""

from collections.abc import Callable

import gevent
from gevent.queue import Channel, Queue

#: greenlets that are spawned before the first is joined
BATCH = 100

#: turns in which all that was spawned must have begun
TURNS_MAX = 10


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
    "timeout": timeout,
    "channel": channel,
}

HOLDING: dict[str, Callable[..., int]] = {"sleepers": sleepers}
