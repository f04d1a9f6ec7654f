"""netnet: virtual threads and sockets for Python. Plain, blocking-looking code that holds ten thousand connections.

The rooms, and an arrow only ever points down this list: ``testing``, ``cli``, ``bench`` → ``socks`` → ``net`` →
``runtime`` → ``poller`` and ``kernel`` → ``errors``. This file hands names on and defines nothing.
"""

from netnet.errors import (
    AddressError,
    BusyError,
    Cancelled,
    ClosedError,
    DeadlockError,
    Error,
    ProtocolError,
    TaskCancelledError,
    UsageError,
)
from netnet.kernel.address import Address, InetAddress, UnixAddress, parse_address
from netnet.net.relay import RelayResult, relay, start_relay
from netnet.net.resolve import resolve
from netnet.net.sockets import Socket, socketpair
from netnet.net.stream import connect, listen, serve
from netnet.runtime import (
    CancelScope,
    Event,
    Semaphore,
    Task,
    TaskGroup,
    Timeout,
    current_task,
    now,
    run,
    shield,
    sleep,
    sleep_until,
    spawn,
    timeout,
    timeout_at,
    to_thread,
    wait_readable,
    wait_writable,
)

__version__ = "0.1.0"

__all__ = [
    "Address",
    "AddressError",
    "BusyError",
    "CancelScope",
    "Cancelled",
    "ClosedError",
    "DeadlockError",
    "Error",
    "Event",
    "InetAddress",
    "ProtocolError",
    "RelayResult",
    "Semaphore",
    "Socket",
    "Task",
    "TaskCancelledError",
    "TaskGroup",
    "Timeout",
    "UnixAddress",
    "UsageError",
    "connect",
    "current_task",
    "listen",
    "now",
    "parse_address",
    "relay",
    "resolve",
    "run",
    "serve",
    "shield",
    "sleep",
    "sleep_until",
    "socketpair",
    "spawn",
    "start_relay",
    "timeout",
    "timeout_at",
    "to_thread",
    "wait_readable",
    "wait_writable",
]
