"""Tools for the tests of programs that use netnet: a virtual clock, waiting for the others, running tasks in one order,
connected sockets in memory, and suites that every stream must pass. What pytest
needs is in ``pytest_netnet``, which it finds by itself.
"""

from netnet.runtime.clock import VirtualClock
from netnet.testing.conformance import (
    check_datagrams,
    check_half_closeable_stream,
    check_one_way_stream,
    check_stream,
)
from netnet.testing.lockstep import LockstepStream, lockstep_stream_pair
from netnet.testing.memory import MemoryDatagrams, MemoryStream, memory_datagram_pair, memory_stream_pair
from netnet.testing.parked import wait_all_parked
from netnet.testing.sequencer import Sequencer

__all__ = [
    "LockstepStream",
    "MemoryDatagrams",
    "MemoryStream",
    "Sequencer",
    "VirtualClock",
    "check_datagrams",
    "check_half_closeable_stream",
    "check_one_way_stream",
    "check_stream",
    "lockstep_stream_pair",
    "memory_datagram_pair",
    "memory_stream_pair",
    "wait_all_parked",
]
