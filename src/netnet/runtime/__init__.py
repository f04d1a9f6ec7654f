"""Green threads: loop, tasks, scopes, clocks, synchronisation. Knows descriptors, but no TCP, no names, no protocol."""

from netnet.runtime import from_thread
from netnet.runtime.api import after, at, current_loop, current_task, every, now, run, sleep, sleep_until, spawn
from netnet.runtime.channel import Channel
from netnet.runtime.choose import Chosen, Elapsed, Readable, Sending, Writable, choose
from netnet.runtime.clock import Clock, MonotonicClock, VirtualClock
from netnet.runtime.counters import Counters
from netnet.runtime.foreign import wait_readable, wait_writable
from netnet.runtime.group import TaskGroup
from netnet.runtime.hand import Loop
from netnet.runtime.instruments import Instrument
from netnet.runtime.locks import Barrier, Condition, Lock, RLock
from netnet.runtime.queues import LifoQueue, PriorityQueue, Queue
from netnet.runtime.scope import CancelScope, Timeout, current_deadline, shield, timeout, timeout_at
from netnet.runtime.sync import BoundedSemaphore, CapacityLimiter, Event, Semaphore, checkpoint
from netnet.runtime.task import Task
from netnet.runtime.threads import to_thread

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "CancelScope",
    "CapacityLimiter",
    "Channel",
    "Chosen",
    "Clock",
    "Condition",
    "Counters",
    "Elapsed",
    "Event",
    "Instrument",
    "LifoQueue",
    "Lock",
    "Loop",
    "MonotonicClock",
    "PriorityQueue",
    "Queue",
    "RLock",
    "Readable",
    "Semaphore",
    "Sending",
    "Task",
    "TaskGroup",
    "Timeout",
    "VirtualClock",
    "Writable",
    "after",
    "at",
    "checkpoint",
    "choose",
    "current_deadline",
    "current_loop",
    "current_task",
    "every",
    "from_thread",
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
