"""Every limit of the proxy, with its unit in its name and its reason beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from netnet.net.relay import LINGER_SECONDS

#: a proxied connection has two sockets; while it moves bulk, it may have a pipe each way for a moment
DESCRIPTORS_A_CONNECTION: Final = 2

#: kept back for the listener, the poller, the logs and the splice pipes
DESCRIPTORS_SPARE: Final = 640


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit of the proxy, with its unit in its name."""

    #: a client has so long to send its request. Humans do not type it: a few round trips on a bad line
    handshake_seconds: float = 10.0
    #: and so long the target may take to answer, names included; the protocol gives up after two minutes
    connect_seconds: float = 30.0
    #: the longest silence of a connection. Longer than the keep-alives of ssh and web sockets, short enough to tidy up
    idle_seconds: float | None = 3600.0
    #: the longest silence after one side has finished
    linger_seconds: float = LINGER_SECONDS
    #: connections at once, in all; None: what the descriptors allow
    connections: int | None = None


def connections_max(descriptors: int) -> int:
    """How many connections a proxy can have at once with so many descriptors."""
    spare = min(DESCRIPTORS_SPARE, descriptors // 4)
    return max(1, (descriptors - spare) // DESCRIPTORS_A_CONNECTION)
