"""The works on asyncio. Its ``Queue`` has no size that hands over without holding."""

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from functools import partial

#: tasks that are created before the first is awaited
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


def call_nothing() -> None:
    """What a timer would call."""


def single(count: int) -> None:
    async def main() -> None:
        for _ in range(count):
            await asyncio.create_task(nothing())

    asyncio.run(main())


def batches(count: int) -> None:
    async def main() -> None:
        for done in range(0, count, BATCH):
            tasks = [asyncio.create_task(nothing()) for _ in range(min(BATCH, count - done))]
            for task in tasks:
                await task

    asyncio.run(main())


def turns(count: int) -> None:
    async def one() -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def main() -> None:
        first, second = asyncio.create_task(one()), asyncio.create_task(one())
        await first
        await second

    asyncio.run(main())


def sleeps(count: int, seed: int) -> None:
    chance = random.Random(seed)

    async def main() -> None:
        for done in range(0, count, WIDTH):
            lengths = [chance.uniform(0, SLEEP_SECONDS_MAX) for _ in range(min(WIDTH, count - done))]
            tasks = [asyncio.create_task(asyncio.sleep(length)) for length in lengths]
            for task in tasks:
                await task

    asyncio.run(main())


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
        loop = asyncio.get_running_loop()
        others = [loop.call_later(chance.uniform(*LENGTHS_SECONDS), call_nothing) for _ in range(standing)]
        await some(count // 10, chance)
        with stopwatch:
            await some(count, chance)
        for other in others:
            other.cancel()

    asyncio.run(main())


async def set_and_cancel(count: int, chance: random.Random) -> None:
    loop = asyncio.get_running_loop()
    lengths = [chance.uniform(*LENGTHS_SECONDS) for _ in range(BATCH)]
    for done in range(0, count, BATCH):
        for length in lengths[: count - done]:
            loop.call_later(length, call_nothing).cancel()
        await asyncio.sleep(0)


async def short_sleeps(count: int, chance: random.Random) -> None:
    async def one() -> None:
        for _ in range(count // BATCH):
            await asyncio.sleep(SHORT_SECONDS)

    tasks = [asyncio.create_task(one()) for _ in range(BATCH)]
    for task in tasks:
        await task


def sleepers(count: int, pause: Callable[[str], None]) -> int:
    asleep = woken = 0

    async def one() -> None:
        nonlocal asleep, woken
        asleep += 1
        try:
            await asyncio.sleep(3600)
        finally:
            woken += 1

    async def main() -> None:
        await asyncio.create_task(nothing())
        pause("ready")
        tasks = [asyncio.create_task(one()) for _ in range(count)]
        for _ in range(TURNS_MAX):
            await asyncio.sleep(0)
        if asleep < count:
            raise RuntimeError(f"only {asleep} of {count} fell asleep")
        pause("asleep")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    return woken


def pair() -> tuple[socket.socket, socket.socket]:
    """Sockets that are connected to each other, as the loop wants them."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def receive(count: int) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = pair()
        with ours, theirs:
            for done in range(0, count, AHEAD):
                ready = min(AHEAD, count - done)
                await loop.sock_sendall(theirs, bytes(ready))
                for _ in range(ready):
                    await loop.sock_recv(ours, 1)

    asyncio.run(main())


def receive_in_timeout(count: int) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = pair()
        with ours, theirs:
            for done in range(0, count, AHEAD):
                ready = min(AHEAD, count - done)
                await loop.sock_sendall(theirs, bytes(ready))
                for _ in range(ready):
                    async with asyncio.timeout(5):
                        await loop.sock_recv(ours, 1)

    asyncio.run(main())


def timeout(count: int) -> None:
    async def main() -> None:
        for _ in range(count):
            async with asyncio.timeout(5):
                pass

    asyncio.run(main())


def channel(count: int, capacity: int) -> None:
    async def main() -> None:
        items: asyncio.Queue[int] = asyncio.Queue(capacity)

        async def send() -> None:
            for item in range(count):
                await items.put(item)

        sender = asyncio.create_task(send())
        for _ in range(count):
            await items.get()
        await sender

    asyncio.run(main())


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
