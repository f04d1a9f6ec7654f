"""A link with a round-trip time and a bandwidth: two network namespaces, "near" and "far", that ``programs/link.c`` joins.

Programs run in one or the other; those in the near one reach each other at 127.0.0.1 and the far ones at an address. The
host's network is not touched, and nothing of the link is left when it ends. Made with root's rights or in a user namespace;
both need to open ``/dev/net/tun``. What runs over the link is chosen elsewhere.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from netnet.bench.native import program
from netnet.bench.processes import BenchError, Process
from netnet.errors import Error, UsageError


class LinkMissing(Error):
    """No link can be made here; the message says what is missing."""


class Link(NamedTuple):
    """A link that stands. The commands that it makes replace themselves by the program: its process id is theirs."""

    near_address: str
    far_address: str
    near_network: str
    far_network: str
    user_namespace: str | None

    def near(self, command: Sequence[str]) -> list[str]:
        """*command*, to be run in the near namespace."""
        return self._inside(self.near_network, command)

    def far(self, command: Sequence[str]) -> list[str]:
        """*command*, to be run in the far namespace."""
        return self._inside(self.far_network, command)

    def _inside(self, network: str, command: Sequence[str]) -> list[str]:
        user = [] if self.user_namespace is None else [f"--user={self.user_namespace}", "--preserve-credentials"]
        return ["nsenter", *user, f"--net={network}", "--", *command]


@contextlib.contextmanager
def link(delay_ms: float, mbit_s: float, queue_kb: float) -> Iterator[Link]:
    """Makes a link, and ends it behind the block.

    *delay_ms* is the round-trip time that it adds, half of it on each way; *mbit_s* the bandwidth of each way in megabits
    (10⁶) of IP packets a second, their headers included; *queue_kb* what waits for bandwidth on each way at most, in
    kilobytes (10³): what comes beyond is dropped. Raises ``LinkMissing``, with the reason, and ``UsageError`` for numbers
    that make no link, or without a compiler.
    """
    if not all(map(math.isfinite, (delay_ms, mbit_s, queue_kb))) or delay_ms < 0 or mbit_s <= 0 or queue_kb < 0:
        raise UsageError(
            f"no link has {delay_ms} ms, {mbit_s} Mbit/s and a queue of {queue_kb} kB: "
            "the bandwidth is above 0, the others are 0 or more"
        )
    if shutil.which("nsenter") is None:
        raise LinkMissing("no link can be made: there is no nsenter(1); install util-linux")
    command = [str(program("link")), str(delay_ms), str(mbit_s), str(queue_kb)]
    with Process(command, keep_errors=True) as process:
        try:
            words = process.line()
        except BenchError as failure:
            raise LinkMissing(
                f"no link can be made: {failure}; it takes root's rights or user namespaces, and /dev/net/tun"
            ) from None
        told = dict(zip(words[::2], words[1::2], strict=True))
        yield Link(
            told["near_address"],
            told["far_address"],
            told["near"],
            told["far"],
            None if told["user"] == "-" else told["user"],
        )
