"""The works on netnet."""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import netnet
from netnet.socks.requests import Command
from netnet.socks.rules import Rule, Rules

#: tasks that are spawned before the first is joined
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

#: a client's address, packed
LOOPBACK = bytes([127, 0, 0, 1])


def nothing() -> None:
    """The empty task."""


def single(count: int) -> None:
    def main() -> None:
        for _ in range(count):
            netnet.spawn(nothing).join()

    netnet.run(main)


def batches(count: int) -> None:
    def main() -> None:
        for done in range(0, count, BATCH):
            tasks = [netnet.spawn(nothing) for _ in range(min(BATCH, count - done))]
            for task in tasks:
                task.join()

    netnet.run(main)


def turns(count: int) -> None:
    def one() -> None:
        for _ in range(count):
            netnet.sleep(0)

    def main() -> None:
        first, second = netnet.spawn(one), netnet.spawn(one)
        first.join()
        second.join()

    netnet.run(main)


def sleeps(count: int, seed: int) -> None:
    chance = random.Random(seed)

    def main() -> None:
        for done in range(0, count, WIDTH):
            lengths = [chance.uniform(0, SLEEP_SECONDS_MAX) for _ in range(min(WIDTH, count - done))]
            tasks = [netnet.spawn(netnet.sleep, length) for length in lengths]
            for task in tasks:
                task.join()

    netnet.run(main)


def beside_timers(
    some: Callable[[int, random.Random], None],
    count: int,
    stopwatch: AbstractContextManager[object],
    standing: int,
    seed: int,
) -> None:
    """Lets *some* do its work while so many timers stand: a tenth of it to warm up, then what counts."""
    chance = random.Random(seed)

    def main() -> None:
        others = [netnet.after(chance.uniform(*LENGTHS_SECONDS), nothing) for _ in range(standing)]
        some(count // 10, chance)
        with stopwatch:
            some(count, chance)
        for other in others:
            other.cancel()

    netnet.run(main)


def set_and_cancel(count: int, chance: random.Random) -> None:
    lengths = [chance.uniform(*LENGTHS_SECONDS) for _ in range(BATCH)]
    for done in range(0, count, BATCH):
        for length in lengths[: count - done]:
            netnet.after(length, nothing).cancel()
        netnet.sleep(0)


def short_sleeps(count: int, chance: random.Random) -> None:
    def one() -> None:
        for _ in range(count // BATCH):
            netnet.sleep(SHORT_SECONDS)

    tasks = [netnet.spawn(one) for _ in range(BATCH)]
    for task in tasks:
        task.join()


def sleepers(count: int, pause: Callable[[str], None]) -> int:
    asleep = woken = 0

    def one() -> None:
        nonlocal asleep, woken
        asleep += 1
        try:
            netnet.sleep(3600)
        finally:
            woken += 1

    def main() -> None:
        netnet.spawn(nothing).join()
        pause("ready")
        tasks = [netnet.spawn(one) for _ in range(count)]
        for _ in range(TURNS_MAX):
            netnet.sleep(0)
        if asleep < count:
            raise RuntimeError(f"only {asleep} of {count} fell asleep")
        pause("asleep")
        for task in tasks:
            task.cancel()
        for task in tasks:
            task.join()

    netnet.run(main)
    return woken


def judge(count: int, stopwatch: AbstractContextManager[object], rules: int) -> None:
    names = [f"site{number}.example" for number in range(rules)]
    made = Rules([Rule(name, False, destinations=(name, f"*.{name}")) for name in names])
    asked = f"www.{names[-1]}"

    def some(count: int) -> None:
        for _ in range(count):
            verdict = made.judge(LOOPBACK, None, Command.CONNECT, asked, b"", 443, deny_private=False)
            if verdict is None or verdict.rule != names[-1]:
                raise RuntimeError(f"{asked} was judged by another rule: {verdict}")

    some(count // 10)
    with stopwatch:
        some(count)


def receive(count: int) -> None:
    def main() -> None:
        ours, theirs = netnet.socketpair()
        with ours, theirs:
            for done in range(0, count, AHEAD):
                ready = min(AHEAD, count - done)
                theirs.sendall(bytes(ready))
                for _ in range(ready):
                    ours.recv(1)

    netnet.run(main)


def receive_in_timeout(count: int) -> None:
    def main() -> None:
        ours, theirs = netnet.socketpair()
        with ours, theirs:
            for done in range(0, count, AHEAD):
                ready = min(AHEAD, count - done)
                theirs.sendall(bytes(ready))
                for _ in range(ready):
                    with netnet.timeout(5):
                        ours.recv(1)

    netnet.run(main)


def timeout(count: int) -> None:
    def main() -> None:
        for _ in range(count):
            with netnet.timeout(5):
                pass

    netnet.run(main)


def channel(count: int, capacity: int) -> None:
    def main() -> None:
        items: netnet.Channel[int] = netnet.Channel(capacity)

        def send() -> None:
            for item in range(count):
                items.send(item)

        sender = netnet.spawn(send)
        for _ in range(count):
            items.receive()
        sender.join()

    netnet.run(main)


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
    "judge": judge,
}

HOLDING: dict[str, Callable[..., int]] = {"sleepers": sleepers}
