"""Tools for the tests of programs that use netnet: a virtual clock, and a way to wait for the others."""

from netnet.runtime.clock import VirtualClock
from netnet.testing.parked import wait_all_parked

__all__ = ["VirtualClock", "wait_all_parked"]
