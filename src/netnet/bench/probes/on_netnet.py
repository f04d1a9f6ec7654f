"""The works on netnet."""

from collections.abc import Callable

import netnet

#: tasks that are spawned before the first is joined
BATCH = 100

#: turns in which all that was spawned must have begun
TURNS_MAX = 10

#: bytes that are put into a pair of sockets at once, to be received one by one; its buffer holds more
AHEAD = 16_384


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
    "receive": receive,
    "receive_in_timeout": receive_in_timeout,
    "timeout": timeout,
    "channel": channel,
}

HOLDING: dict[str, Callable[..., int]] = {"sleepers": sleepers}
