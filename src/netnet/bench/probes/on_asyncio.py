"""The works on asyncio. Its ``Queue`` has no size that hands over without holding."""

import asyncio
from collections.abc import Callable

#: tasks that are created before the first is awaited
BATCH = 100

#: turns in which all that was spawned must have begun
TURNS_MAX = 10


async def nothing() -> None:
    """The empty task."""


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
    "timeout": timeout,
    "channel": channel,
}

HOLDING: dict[str, Callable[..., int]] = {"sleepers": sleepers}
