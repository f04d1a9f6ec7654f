"""netnet: virtual threads and sockets for Python. Plain, blocking-looking code that holds ten thousand connections.

The rooms, and an arrow only ever points down this list: ``cli``, ``testing``, ``bench`` → ``flame``,
``proxy`` → ``socks`` → ``net`` → ``runtime`` → ``poller`` and ``kernel`` → ``errors``. This file hands names on.
"""

import importlib
from typing import TYPE_CHECKING

from netnet.errors import (
    AddressError,
    BusyError,
    Cancelled,
    ChannelClosedError,
    ClosedError,
    DeadlockError,
    Error,
    IncompleteError,
    LimitError,
    OptionError,
    ProtocolError,
    TaskCancelledError,
    ThreadError,
    UsageError,
)
from netnet.kernel.address import (
    Address,
    HostAddress,
    InetAddress,
    IPv4Address,
    IPv6Address,
    NetlinkAddress,
    OtherAddress,
    PacketAddress,
    SocketAddress,
    UnixAddress,
    parse_address,
)
from netnet.kernel.control import (
    Control,
    Dropped,
    ExtendedError,
    HopLimit,
    Mark,
    OriginalDestination,
    OtherControl,
    PacketInfo,
    PidFd,
    Priority,
    Rights,
    SecurityLabel,
    SegmentSize,
    Timestamp,
    Timestamps,
    TrafficClass,
    TransmitAt,
    Unread,
)
from netnet.kernel.flags import AI, MSG, NI
from netnet.kernel.messages import Message
from netnet.kernel.option import Option
from netnet.kernel.options import OPTIONS, find_option
from netnet.kernel.transfer import Moved, Stop
from netnet.kernel.values import Credentials
from netnet.net.resolve import AddressInfo, NameInfo, lookup, resolve, reverse, service_name, service_port
from netnet.net.resolvers import HostTable, Resolver, SystemResolver, current_resolver, use_resolver
from netnet.net.serving import Server, ServerStatistics, serve
from netnet.net.sockets import Socket, socketpair
from netnet.net.stream import connect, listen
from netnet.net.transfer import ZeroCopy
from netnet.runtime.api import after, at, current_loop, current_task, every, now, run, sleep, sleep_until, spawn
from netnet.runtime.channel import Channel
from netnet.runtime.clock import Clock
from netnet.runtime.counters import Counters
from netnet.runtime.foreign import wait_readable, wait_writable
from netnet.runtime.group import TaskGroup
from netnet.runtime.instruments import Instrument
from netnet.runtime.scope import CancelScope, Timeout, current_deadline, shield, timeout, timeout_at
from netnet.runtime.signals import open_signals
from netnet.runtime.sync import BoundedSemaphore, CapacityLimiter, Event, Semaphore, checkpoint
from netnet.runtime.task import Task
from netnet.runtime.threads import to_thread

if TYPE_CHECKING:
    from netnet.kernel.interfaces import Interface, InterfaceAddress, InterfaceFlags, interfaces
    from netnet.kernel.multicast import Multicast
    from netnet.kernel.tcp_info import TcpInfo, TcpState
    from netnet.net.buffered import Buffered
    from netnet.net.dns import DnsResolver
    from netnet.net.poll import Poll, Ready
    from netnet.net.pool import Pool
    from netnet.net.relay import RelayResult, relay, start_relay
    from netnet.net.systemd import inherited_sockets, notify, watchdog_seconds
    from netnet.net.throttle import TokenBucket
    from netnet.poller.shared import SharedPoller
    from netnet.runtime import from_thread
    from netnet.runtime.choose import Chosen, Elapsed, Readable, Sending, Writable, choose
    from netnet.runtime.hand import Loop
    from netnet.runtime.locks import Barrier, Condition, Lock, RLock
    from netnet.runtime.queues import LifoQueue, PriorityQueue, Queue
    from netnet.runtime.seeing import Watchdog, dump, dump_on_signals, task_tree, tasks

#: fetched when they are first asked for: what most programs do without, so that importing netnet stays quick
_LATER = {
    "Barrier": "netnet.runtime.locks",
    "Buffered": "netnet.net.buffered",
    "Chosen": "netnet.runtime.choose",
    "Condition": "netnet.runtime.locks",
    "DnsResolver": "netnet.net.dns",
    "Elapsed": "netnet.runtime.choose",
    "Interface": "netnet.kernel.interfaces",
    "InterfaceAddress": "netnet.kernel.interfaces",
    "InterfaceFlags": "netnet.kernel.interfaces",
    "LifoQueue": "netnet.runtime.queues",
    "Lock": "netnet.runtime.locks",
    "Loop": "netnet.runtime.hand",
    "Poll": "netnet.net.poll",
    "Pool": "netnet.net.pool",
    "Multicast": "netnet.kernel.multicast",
    "PriorityQueue": "netnet.runtime.queues",
    "Queue": "netnet.runtime.queues",
    "RLock": "netnet.runtime.locks",
    "Readable": "netnet.runtime.choose",
    "Ready": "netnet.net.poll",
    "RelayResult": "netnet.net.relay",
    "Sending": "netnet.runtime.choose",
    "SharedPoller": "netnet.poller.shared",
    "TcpInfo": "netnet.kernel.tcp_info",
    "TcpState": "netnet.kernel.tcp_info",
    "TokenBucket": "netnet.net.throttle",
    "Watchdog": "netnet.runtime.seeing",
    "Writable": "netnet.runtime.choose",
    "choose": "netnet.runtime.choose",
    "dump": "netnet.runtime.seeing",
    "dump_on_signals": "netnet.runtime.seeing",
    "inherited_sockets": "netnet.net.systemd",
    "interfaces": "netnet.kernel.interfaces",
    "notify": "netnet.net.systemd",
    "relay": "netnet.net.relay",
    "start_relay": "netnet.net.relay",
    "task_tree": "netnet.runtime.seeing",
    "tasks": "netnet.runtime.seeing",
    "watchdog_seconds": "netnet.net.systemd",
    "from_thread": "netnet.runtime.from_thread",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'netnet' has no attribute {name!r}")
    home = importlib.import_module(_LATER[name])
    value = globals()[name] = home if name == "from_thread" else getattr(home, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


__version__ = "0.1.0"

__all__ = [
    "AI",
    "Address",
    "AddressError",
    "AddressInfo",
    "Barrier",
    "BoundedSemaphore",
    "Buffered",
    "BusyError",
    "CancelScope",
    "Cancelled",
    "CapacityLimiter",
    "Channel",
    "ChannelClosedError",
    "Chosen",
    "Clock",
    "ClosedError",
    "Condition",
    "Control",
    "Counters",
    "Credentials",
    "DeadlockError",
    "DnsResolver",
    "Dropped",
    "Elapsed",
    "Error",
    "Event",
    "ExtendedError",
    "HopLimit",
    "HostAddress",
    "HostTable",
    "IPv4Address",
    "IPv6Address",
    "IncompleteError",
    "InetAddress",
    "Instrument",
    "Interface",
    "InterfaceAddress",
    "InterfaceFlags",
    "LifoQueue",
    "LimitError",
    "Lock",
    "Loop",
    "MSG",
    "Mark",
    "Message",
    "Moved",
    "Multicast",
    "NI",
    "NameInfo",
    "NetlinkAddress",
    "OPTIONS",
    "Option",
    "OptionError",
    "OriginalDestination",
    "OtherAddress",
    "OtherControl",
    "PacketAddress",
    "PacketInfo",
    "PidFd",
    "Poll",
    "Pool",
    "Priority",
    "PriorityQueue",
    "ProtocolError",
    "Queue",
    "RLock",
    "Readable",
    "Ready",
    "RelayResult",
    "Resolver",
    "Rights",
    "SecurityLabel",
    "SegmentSize",
    "Semaphore",
    "Sending",
    "Server",
    "ServerStatistics",
    "SharedPoller",
    "Socket",
    "SocketAddress",
    "Stop",
    "SystemResolver",
    "Task",
    "TaskCancelledError",
    "TaskGroup",
    "TcpInfo",
    "TcpState",
    "TokenBucket",
    "ThreadError",
    "Timeout",
    "Timestamp",
    "Timestamps",
    "TrafficClass",
    "TransmitAt",
    "UnixAddress",
    "Unread",
    "UsageError",
    "Watchdog",
    "Writable",
    "ZeroCopy",
    "after",
    "at",
    "checkpoint",
    "choose",
    "connect",
    "current_deadline",
    "current_loop",
    "current_resolver",
    "current_task",
    "dump",
    "dump_on_signals",
    "every",
    "find_option",
    "from_thread",
    "inherited_sockets",
    "interfaces",
    "listen",
    "lookup",
    "notify",
    "now",
    "open_signals",
    "parse_address",
    "relay",
    "resolve",
    "reverse",
    "run",
    "serve",
    "service_name",
    "service_port",
    "shield",
    "sleep",
    "sleep_until",
    "socketpair",
    "spawn",
    "start_relay",
    "task_tree",
    "tasks",
    "timeout",
    "timeout_at",
    "to_thread",
    "use_resolver",
    "wait_readable",
    "wait_writable",
    "watchdog_seconds",
]
