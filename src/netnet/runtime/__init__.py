"""Green threads: loop, tasks, scopes, clocks, synchronisation. Knows descriptors, but no TCP, no names, no protocol."""

from netnet.runtime.api import current_task, now, run, sleep, sleep_until, spawn
from netnet.runtime.clock import Clock, MonotonicClock, VirtualClock
from netnet.runtime.foreign import wait_readable, wait_writable
from netnet.runtime.group import TaskGroup
from netnet.runtime.scope import CancelScope, Timeout, shield, timeout, timeout_at
from netnet.runtime.sync import Event, Semaphore
from netnet.runtime.task import Task
from netnet.runtime.threads import to_thread

__all__ = [
    "CancelScope",
    "Clock",
    "Event",
    "MonotonicClock",
    "Semaphore",
    "Task",
    "TaskGroup",
    "Timeout",
    "VirtualClock",
    "current_task",
    "now",
    "run",
    "shield",
    "sleep",
    "sleep_until",
    "spawn",
    "timeout",
    "timeout_at",
    "to_thread",
    "wait_readable",
    "wait_writable",
]
