"""The portable Unix backend: ``poll(2)``. Each call hands the whole set to the kernel, so it costs more with each
waiting descriptor; it needs no descriptor of its own and exists everywhere but on Windows."""

from __future__ import annotations

import contextlib
import math
import select

from netnet.poller.contract import READABLE
from netnet.poller.level import LevelPoller


class PollPoller(LevelPoller):
    name = "poll"

    def __init__(self) -> None:
        super().__init__()
        self._poll = select.poll()
        self._poll.register(self._waker.fd, READABLE)

    def _changed(self, fd: int, mask: int) -> None:
        if mask:
            self._poll.register(fd, mask)
        else:
            with contextlib.suppress(KeyError):
                self._poll.unregister(fd)

    def _ask(self, timeout_seconds: float | None) -> list[tuple[int, int]]:
        return self._poll.poll(None if timeout_seconds is None else math.ceil(timeout_seconds * 1000))
