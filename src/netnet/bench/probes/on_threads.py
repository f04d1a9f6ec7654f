"""The works on threads of the operating system."""

import threading
from collections.abc import Callable

#: threads that are started before the first is joined
BATCH = 100


def nothing() -> None:
    """The empty thread."""


def single(count: int) -> None:
    for _ in range(count):
        thread = threading.Thread(target=nothing)
        thread.start()
        thread.join()


def batches(count: int) -> None:
    for done in range(0, count, BATCH):
        threads = [threading.Thread(target=nothing) for _ in range(min(BATCH, count - done))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


WORKS: dict[str, Callable[..., None]] = {"single": single, "batches": batches}

PREPARED: dict[str, Callable[..., None]] = {}

HOLDING: dict[str, Callable[..., int]] = {}
