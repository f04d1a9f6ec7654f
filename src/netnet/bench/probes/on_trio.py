"""The works on trio. Its tasks belong to nurseries and are not joined one by one: so those of a batch have a nursery of
their own, and so has a single one. It has no timers but the deadlines of cancel scopes: those that stand are of scopes one
within the other.
"""

import contextlib
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from functools import partial

import trio

#: tasks in a nursery
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


async def nothing() -> None:
    """The empty task."""


def single(count: int) -> None:
    async def main() -> None:
        for _ in range(count):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(nothing)

    trio.run(main)


def batches(count: int) -> None:
    async def main() -> None:
        for done in range(0, count, BATCH):
            async with trio.open_nursery() as nursery:
                for _ in range(min(BATCH, count - done)):
                    nursery.start_soon(nothing)

    trio.run(main)


def turns(count: int) -> None:
    async def one() -> None:
        for _ in range(count):
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            nursery.start_soon(one)

    trio.run(main)


def sleeps(count: int, seed: int) -> None:
    chance = random.Random(seed)

    async def main() -> None:
        for done in range(0, count, WIDTH):
            lengths = [chance.uniform(0, SLEEP_SECONDS_MAX) for _ in range(min(WIDTH, count - done))]
            async with trio.open_nursery() as nursery:
                for length in lengths:
                    nursery.start_soon(trio.sleep, length)

    trio.run(main)


def beside_timers(
    some: Callable[[int, random.Random], Awaitable[None]],
    count: int,
    stopwatch: AbstractContextManager[object],
    standing: int,
    seed: int,
) -> None:
    """Lets *some* do its work while so many timers stand: a tenth of it to warm up, then what counts."""
    chance = random.Random(seed)

    async def main() -> None:
        with contextlib.ExitStack() as others:
            for _ in range(standing):
                others.enter_context(trio.move_on_after(chance.uniform(*LENGTHS_SECONDS)))
            await some(count // 10, chance)
            with stopwatch:
                await some(count, chance)

    trio.run(main)


async def set_and_cancel(count: int, chance: random.Random) -> None:
    lengths = [chance.uniform(*LENGTHS_SECONDS) for _ in range(BATCH)]
    for done in range(0, count, BATCH):
        for length in lengths[: count - done]:
            with trio.move_on_after(length):
                pass
        await trio.lowlevel.checkpoint()


async def short_sleeps(count: int, chance: random.Random) -> None:
    async def one() -> None:
        for _ in range(count // BATCH):
            await trio.sleep(SHORT_SECONDS)

    async with trio.open_nursery() as nursery:
        for _ in range(BATCH):
            nursery.start_soon(one)


def sleepers(count: int, pause: Callable[[str], None]) -> int:
    asleep = woken = 0

    async def one() -> None:
        nonlocal asleep, woken
        asleep += 1
        try:
            await trio.sleep(3600)
        finally:
            woken += 1

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(nothing)
        pause("ready")
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(one)
            for _ in range(TURNS_MAX):
                await trio.lowlevel.checkpoint()
            if asleep < count:
                raise RuntimeError(f"only {asleep} of {count} fell asleep")
            pause("asleep")
            nursery.cancel_scope.cancel()

    trio.run(main)
    return woken


def receive(count: int) -> None:
    async def main() -> None:
        ours, theirs = trio.socket.socketpair()
        with ours, theirs:
            for done in range(0, count, AHEAD):
                ready = min(AHEAD, count - done)
                await theirs.send(bytes(ready))
                for _ in range(ready):
                    await ours.recv(1)

    trio.run(main)


def receive_in_timeout(count: int) -> None:
    async def main() -> None:
        ours, theirs = trio.socket.socketpair()
        with ours, theirs:
            for done in range(0, count, AHEAD):
                ready = min(AHEAD, count - done)
                await theirs.send(bytes(ready))
                for _ in range(ready):
                    with trio.move_on_after(5):
                        await ours.recv(1)

    trio.run(main)


def timeout(count: int) -> None:
    async def main() -> None:
        for _ in range(count):
            with trio.move_on_after(5):
                pass

    trio.run(main)


def channel(count: int, capacity: int) -> None:
    async def main() -> None:
        sending, receiving = trio.open_memory_channel[int](capacity)

        async def send() -> None:
            for item in range(count):
                await sending.send(item)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            for _ in range(count):
                await receiving.receive()

    trio.run(main)


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
